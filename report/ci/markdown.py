"""Verdicts as a Markdown summary, for a pull request's comment or ``$GITHUB_STEP_SUMMARY``.

Names come from traces and from people, so everything that Markdown or HTML would obey is escaped: they can neither close the
table, nor format, link, mention anyone, nor hide a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ...analyze.words import NOTHING
from ...expectations.judging.judged import Judged, headline_of
from ...expectations.judging.verdict import counts, exit_code
from ...traces.output import HEAD_BYTES, Kind
from ..terminal.console import escape
from ..terminal.expectations import PLAIN
from ..terminal.verdicts import cells, unit_of

HEADS: Final = {
    0: "✅ every judged claim holds",
    1: "❌ a claim was missed",
    3: "⚠️ could not be judged",
}
"""The heading for each exit code of `check`; 2 belongs to input that cannot be read, of which there is no summary."""

SIGNS: Final = {
    "met": "✅",
    "exceeded": "🔼",
    "missed": "❌",
    "inconclusive": "❔",
    "invalid": "⚠️",
    "unrecorded": "➖",
}

_COLUMNS: Final = ("verdict", "claim", "value", "interval", "bound", "margin", "n", "bound from")


_LINE: Final = re.compile(
    r"\| .* \||- (note|" + "|".join(SIGNS) + r"): .*|Run .*, expectations of .*|Judged: .*|"
    r"(\d+ (" + "|".join(SIGNS) + r")(, )?)+\.|No claim is about this workload, so nothing was judged\.|"
)
"""A line of a summary below its heading."""


def is_markdown(head: bytes) -> bool:
    """Whether a file is a summary of `markdown` and nothing else: what people add to one is theirs."""
    try:
        first, *others = head.decode("utf-8").splitlines()
    except ValueError:
        return False
    heading = first.startswith("### ") and first.endswith(tuple(HEADS.values()))
    return heading and len(head) < HEAD_BYTES and all(_LINE.fullmatch(line) for line in others)


MARKDOWN: Final = Kind("Markdown summary of aisp-trace", is_markdown)


def markdown(judged: Judged) -> str:
    """The summary: heading, table, the reasons for all that is neither met nor exceeded, notes. Ends with a line break."""
    evidence, verdicts = judged.evidence, judged.verdicts
    given = judged.expectations.folder
    folder = plain(str(given.relative_to(Path.cwd()) if given.is_relative_to(Path.cwd()) else given))
    lines = [
        f"### {plain(evidence.workload)}: {HEADS[exit_code(verdicts)]}",
        "",
        f"Run {plain(evidence.run_id)} on {plain(evidence.hardware_key)}, expectations of {folder}.",
        "",
        f"Judged: {plain(headline_of(judged))}.",
        "",
    ]
    if verdicts:
        lines += [_row(_COLUMNS), _row(["---", "---", "--:", "--:", "--:", "--:", "--:", "---"])]
        for v in verdicts:
            c = cells(v)
            unit = "" if unit_of(v) in ("", *PLAIN) or c.value == NOTHING else f" {v.unit}"
            what = f"{v.claim.removeprefix(f'{evidence.workload}.')}: {v.quantity}"
            figures = (c.value + unit, c.interval, c.bound, c.margin, c.n, c.source)
            lines.append(_row([f"{SIGNS[v.status]} {v.status}", plain(what), *map(plain, figures)]))
        lines += ["", ", ".join(f"{n} {status}" for status, n in counts(verdicts).items() if n) + ".", ""]
    else:
        lines += ["No claim is about this workload, so nothing was judged.", ""]
    reasons = [v for v in verdicts if v.status not in ("met", "exceeded")]
    lines += [f"- {v.status}: {plain(v.claim)}, {plain(v.quantity)}: {plain(v.reason)}." for v in reasons]
    lines += [f"- note: {plain(note)}." for note in judged.notes]
    return "\n".join(lines).rstrip() + "\n"


def plain(text: str) -> str:
    """`text` as Markdown that shows exactly it, on one line and in one cell of a table."""
    text = escape(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]()|~!$])", r"\\\1", text)
    # Mentions, references and bare addresses become links even when they are written as entities; a comment parts them.
    return re.sub(r"@|#(?=\w)|:(?=//)|www(?=\.)", lambda m: f"{m[0]}<!-- -->", text, flags=re.IGNORECASE)


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"
