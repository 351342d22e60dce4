"""Verdicts in words: the cells that every face shows, the table, and the sentences below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Final

from rich.cells import cell_len as display_width

from ...analyze.words import NOTHING, duration, percent, shorten
from ...expectations.deciding import bound_words
from ...expectations.judging.evidence import COMMAND
from ...expectations.judging.judged import Judged, headline_of
from ...expectations.judging.untimed import Untimed, untimed
from ...expectations.judging.verdict import Verdict, counts
from ...traces.figures import scaled
from .console import GAP, Column, Painted, escape, laid_out, paint, print_table, say, say_wrapped, terminal_width
from .expectations import CHOSEN, PLAIN
from .headroom import print_outcome

LEFT: Final = "left"
_WIDTHS: Final = (12, 9, 18, 12, 9, 4)
"""Columns of the figures' line: below the verdict, value, interval, bound, margin, n; the source takes the rest."""


@dataclass(frozen=True, slots=True)
class Cells:
    """One verdict's figures as text; ``-`` where there is none."""

    value: str
    interval: str
    bound: str
    margin: str
    n: str
    source: str


def cells(verdict: Verdict) -> Cells:
    """The figures of `verdict`, four significant digits, in the verdict's unit; those that people read more easily in a larger
    one say so: ``12.35 s`` among milliseconds."""
    v = verdict
    value, low, high = (_figure(one, v.unit) for one in (v.value, v.low, v.high))
    interval = NOTHING if NOTHING in (low, high) else f"{low} .. {high}"
    return Cells(
        value, interval, _bound(v), _figure(v.margin, v.unit, 3, "+"), str(v.n) if v.n else NOTHING, v.source.kind
    )


def unit_of(verdict: Verdict) -> str:
    """The unit of the value in `cells`; empty where that says so itself."""
    large = verdict.value is not None and scaled(verdict.value, verdict.unit)[1] != verdict.unit
    return "" if large else verdict.unit


def _figure(value: float | None, unit: str, digits: int = 4, plus: str = "") -> str:
    if value is None:
        return NOTHING
    text, own = scaled(value + 0.0, unit, digits)  # which leaves no negative zero
    return f"{plus if value >= 0 else ''}{text}{'' if own == unit else f' {own}'}"


def _bound(v: Verdict) -> str:
    if v.bound is None:
        return NOTHING
    return bound_words(v.bound.minimum, v.bound.maximum, lambda one: _figure(one, v.unit)) or NOTHING


def verdict_table(verdicts: Iterable[Verdict], workload: str, width: int | None = None) -> str:
    """Two lines a verdict: the claim and what was judged, then its figures under their titles; one where nothing was measured
    because the bound is for another machine, another size or this very run.

    One line would hold the figures of the widest claims only on a terminal of 130 columns. A claim's id loses the
    `workload` it starts with, and what was judged its middle, until the line fits.
    """
    limit = terminal_width() if width is None else width
    lines = [_figures("verdict", Cells("value", "interval", "bound", "margin", "n", "bound from"))]
    for verdict in verdicts:
        head = f"{verdict.status:<{_WIDTHS[0]}}{GAP}{escape(verdict.claim.removeprefix(f'{workload}.'))}: "
        unit = _in_brackets(verdict)
        quantity = shorten(escape(verdict.quantity + unit), max(limit - display_width(head), 16))
        lines.append(shorten(head + quantity, limit))
        if verdict.status != "unrecorded" or verdict.value is not None:
            lines.append(_figures("", cells(verdict)))
    return "\n".join(lines)


STYLES: Final = {
    "met": "green",
    "exceeded": "green",
    "missed": "bold red",
    "inconclusive": "yellow",
    "invalid": "bold magenta",
    "unrecorded": "dim",
}
"""Of verdicts, where colour is wanted; the word itself says the same."""


def print_verdicts(verdicts: Iterable[Verdict], workload: str) -> None:
    """Print the `verdict_table`, each verdict's word in its colour; a table of one line a verdict where nobody counts columns."""
    if not laid_out():
        titles = ("value", "interval", "bound", "margin", "n")
        columns = [Column("verdict", LEFT), Column("claim", LEFT), *map(Column, titles), Column("bound from", LEFT)]
        print_table(columns, [_row(verdict, workload) for verdict in verdicts])
        return
    for line in verdict_table(verdicts, workload).split("\n"):
        word = line.partition(" ")[0]
        paint([Painted(word, STYLES[word]), line[len(word) :]] if word in STYLES else [line])


def _row(verdict: Verdict, workload: str) -> tuple[str, ...]:
    return (verdict.status, _claim(verdict, workload), *astuple(cells(verdict)))


def _claim(verdict: Verdict, workload: str) -> str:
    """``faster: speedup of optimized over baseline``, with the unit where it is not plain."""
    return f"{verdict.claim.removeprefix(f'{workload}.')}: {verdict.quantity}{_in_brackets(verdict)}"


def _in_brackets(verdict: Verdict) -> str:
    unit = unit_of(verdict)
    return f" [{unit}]" if unit and unit not in PLAIN else ""


def sentences(verdicts: Iterable[Verdict]) -> list[str]:
    """One sentence for each verdict that is neither met nor exceeded; one for all claims of the same verdict and reason."""
    found: dict[tuple[str, str], list[Verdict]] = {}
    for v in verdicts:
        if v.status not in ("met", "exceeded"):
            found.setdefault((v.status, v.reason), []).append(v)
    return [f"{status}: {_about(alike)}: {reason}." for (status, reason), alike in found.items()]


def _about(alike: Sequence[Verdict]) -> str:
    """``pipeline.faster, speedup of b over a``; of several the ids alone, without the workload but for the first."""
    claims = list(dict.fromkeys(v.claim for v in alike))
    if len(claims) == 1:
        return f"{claims[0]}, {' and '.join(v.quantity for v in alike)}"
    workload = claims[0].partition(".")[0]
    return ", ".join([claims[0], *(claim.removeprefix(f"{workload}.") for claim in claims[1:])])


def _figures(first: str, c: Cells) -> str:
    texts: Sequence[str] = (first, c.value, c.interval, c.bound, c.margin, c.n)
    row = [f"{texts[0]:<{_WIDTHS[0]}}", *(f"{t:>{w}}" for t, w in zip(texts[1:], _WIDTHS[1:], strict=True)), c.source]
    return " ".join(row).rstrip()


def print_judged(judged: Judged) -> None:
    """The run, by what it was judged, every verdict, and a sentence for each that is neither met nor exceeded."""
    evidence, used = judged.evidence, judged.expectations
    say(f"run           {evidence.run_id} on {evidence.hardware_key}")
    say(f"expectations  {used.folder} ({CHOSEN[used.chosen]})")
    if not judged.verdicts:
        say()
        if evidence.workload == COMMAND:
            say_wrapped(
                "A recording of one program has no rounds to judge; `aisp-trace capture --baseline CMD --optimized CMD` times "
                "two."
            )
        else:
            say(f"No claim is about {evidence.workload}, so nothing was judged.")
        if len(evidence.variants) > 1:
            name = evidence.workload
            say_wrapped(
                f"`aisp-trace accept` takes bounds from a run, `aisp-trace expectations new {name}` begins your own."
            )
        _print_untimed(untimed(evidence), after=True)
        for note in judged.notes:
            say_wrapped(f"note: {note}.")
        return
    say()
    print_verdicts(judged.verdicts, evidence.workload)
    say()
    said = sentences(judged.verdicts)
    for line in said:
        status = line.partition(":")[0]
        say_wrapped(line.removeprefix(f"{status}: "), f"{status}: ", style=STYLES.get(status, ""))
    _print_untimed(untimed(evidence), after=bool(said))
    for outcome in judged.predictions:
        print_outcome(outcome)
    covered = {v.coverage for v in judged.verdicts if v.sample == "rounds" and v.coverage is not None}
    if len(covered) == 1:
        say_wrapped(f"note: intervals of times are at {percent(covered.pop())}.")
    for note in judged.notes:
        say_wrapped(f"note: {note}.")
    say_wrapped(f"{headline_of(judged)}.")
    say(", ".join(f"{n} {status}" for status, n in counts(judged.verdicts).items() if n) + ".")


def _print_untimed(rows: Sequence[Untimed], *, after: bool) -> None:
    """What no iteration is charged for, `after` something that wants an empty line between; nothing of older runs."""
    if not rows:
        return
    if after:
        say()
    columns = [Column("untimed", LEFT, shrink=True), *map(Column, ("prepare", "reset", "outputs"))]
    cells = [
        (r.variant, duration(r.prepare_ns), _reset(r), duration(r.outputs_ns), _charged(r), _payback(r)) for r in rows
    ]
    print_table([*columns, Column("if charged"), Column("preparation pays after", LEFT)], cells)
    say()


def _reset(row: Untimed) -> str:
    return duration(row.reset_ns) if row.reset_ns else "none"


def _charged(row: Untimed) -> str:
    return NOTHING if row.charged_ratio is None else f"{row.charged_ratio:.2f}x"


def _payback(row: Untimed) -> str:
    """``3 iterations``; of the baseline nothing."""
    if row.gain_ns is None:
        return NOTHING
    if row.pays_after is None:
        return "never: no gain"
    return f"{row.pays_after:,} iteration{'' if row.pays_after == 1 else 's'}"
