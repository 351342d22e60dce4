"""The verdict: one row a claim, with its working shown, and the sentence at the top of the page. Claims that were not judged,
because they are for other machines or came from this very run, are folded away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ...expectations.judging.verdict import Verdict
from . import text
from .markup import Html, element, join
from .tables import folded, section, table

WORDS: Final = {
    "met": ("✓", "good", "the bound is met"),
    "exceeded": ("▲", "good", "better than the bound's upper end"),
    "missed": ("✗", "bad", "the bound is missed"),
    "inconclusive": ("?", "unsure", "the evidence reaches to both sides of the bound"),
    "invalid": ("⚠", "unsure", "the evidence must not be used"),
    "unrecorded": ("○", "unknown", "nobody has written down what to expect here"),
}
"""Sign, look and meaning of each verdict, in the order of the summary."""

_SUMMARY: Final = ("missed", "invalid", "inconclusive", "met", "exceeded", "unrecorded")


@dataclass(frozen=True, slots=True)
class Line:
    """One verdict as the page shows it: text ready to be read, "" where there is none. `about` is what was judged."""

    claim: str
    about: str
    verdict: str
    value: str
    bound: str
    margin: str
    n: str
    interval: str
    source: str
    reason: str


def lines_of(verdicts: Sequence[Verdict]) -> list[Line]:
    """Verdicts as text, what needs attention first."""
    order = {word: i for i, word in enumerate(_SUMMARY)}
    return [_line(v) for v in sorted(verdicts, key=lambda v: order.get(v.status, len(order)))]


def _line(v: Verdict) -> Line:
    bound = v.bound
    if bound is None:
        ends = ""
    elif bound.minimum is None:
        ends = f"≤ {quantity(bound.maximum, v.unit)}"
    elif bound.maximum is None:
        ends = f"≥ {quantity(bound.minimum, v.unit)}"
    elif bound.minimum == bound.maximum:
        ends = f"= {quantity(bound.minimum, v.unit)}"
    else:
        ends = f"{quantity(bound.minimum, v.unit)} to {quantity(bound.maximum, v.unit)}"
    interval = "" if v.low is None or v.high is None else f"{quantity(v.low, v.unit)} to {quantity(v.high, v.unit)}"
    if interval and v.coverage is not None:
        interval = f"{interval} ({v.coverage:.1%})"
    source = f"{v.source.kind}{f' in {v.source.run}' if v.source.run else ''}: {v.source.text}"
    return Line(
        claim=v.claim,
        about=v.quantity,
        verdict=v.status,
        value=quantity(v.value, v.unit),
        bound=ends,
        margin=_margin(v.margin, v.unit),
        n=f"{v.n:,} {v.sample}".strip() if v.n else "",
        interval=interval,
        source=source,
        reason=v.reason,
    )


def _margin(margin: float | None, unit: str) -> str:
    """Signed; fractions differ by percentage points (pp), not by percent."""
    if margin is None:
        return ""
    sign = "+" if margin > 0 else ""
    return f"{sign}{100 * margin:.1f} pp" if unit == "fraction" else f"{sign}{quantity(margin, unit)}"


def quantity(value: float | None, unit: str) -> str:
    """A judged number in its unit: fractions as percent, ratios with ``×``, counts and bytes whole; "" for null."""
    if value is None:
        return ""
    if unit == "fraction":
        return text.share(value)
    if unit == "ratio":
        return f"{text.significant(value)} ×"
    if unit in ("count", "bytes"):
        number = f"{value:,.0f}" if value == int(value) else text.significant(value)
        return number if unit == "count" else f"{number} B"
    return f"{text.significant(value)} {unit}"


def verdict_section(lines: Sequence[Line] | None) -> Html | None:
    """The table of verdicts; null where nothing was to be judged (a bare trace)."""
    if lines is None:
        return None
    if not lines:
        words = element("p", "No expectation covers this workload on this hardware, so nothing was judged.")
        return section("verdict", "Verdict", words)
    unseen = [line for line in lines if line.verdict == "unrecorded"]
    judged = [line for line in lines if line.verdict != "unrecorded"]
    if not judged or not unseen:
        return section("verdict", "Verdict", _table("verdict on each claim", lines))
    count = text.count(len(unseen), "claim")
    return section(
        "verdict",
        "Verdict",
        _table("verdict on each claim", judged),
        folded(f"{count} unrecorded: {WORDS['unrecorded'][2]}", _table("claims that were not judged", unseen)),
    )


def _table(caption: str, lines: Sequence[Line]) -> Html:
    rows = [
        [
            join([_claim(line.claim), element("br"), element("span", line.about, class_="note")]),
            chip(line.verdict),
            line.value or text.ABSENT,
            line.bound or text.ABSENT,
            line.margin or text.ABSENT,
            line.interval or text.ABSENT,
            line.n or text.ABSENT,
        ]
        for line in lines
    ]
    heads = ["claim", "verdict", "value", "bound", "margin", "interval", "n"]
    under = [join([element("b", "why: "), line.reason, element("b", " bound: "), line.source]) for line in lines]
    return table(caption, heads, rows, (2, 3, 4, 5, 6), under)


def _claim(name: str) -> Html:
    """The id, which a line may end behind its workload of."""
    workload, dot, rest = name.partition(".")
    return element("b", workload, dot, element("wbr") if rest else None, rest)


def chip(verdict: str) -> Html:
    """A verdict as a coloured word; the sign carries it where colour does not."""
    sign, look, meaning = WORDS.get(verdict, ("", "unknown", ""))
    return element("span", f"{sign} {verdict}", class_=f"chip {look}", title=meaning)


def summary(lines: Sequence[Line] | None) -> Html | None:
    """``✗ 1 missed  ✓ 3 met``: how many claims got each verdict, what needs attention first."""
    if not lines:
        return None
    chips = []
    for word in (*_SUMMARY, *sorted({line.verdict for line in lines} - set(_SUMMARY))):
        n = sum(line.verdict == word for line in lines)
        if n:
            sign, look, meaning = WORDS.get(word, ("", "unknown", ""))
            chips.append(element("span", f"{sign} {n} {word}", class_=f"chip {look}", title=meaning))
    return element("p", chips, class_="summary", aria_label="verdicts")
