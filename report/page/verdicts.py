"""Claims: one row each, with its working shown. What is not met stands open; what is met, and what was not judged because it is
for another machine or came from this very run, is folded into one line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ...expectations.judging.verdict import Verdict
from ...traces.figures import scaled
from . import text
from .blocks import Block, Cell, Fold, Para, Row, Section, Span, Table, section

WORDS: Final = {
    "met": ("✓", "good", "the bound is met"),
    "exceeded": ("▲", "good", "better than the bound's upper end"),
    "missed": ("✗", "bad", "the bound is missed"),
    "inconclusive": ("?", "unsure", "the evidence reaches to both sides of the bound"),
    "invalid": ("⚠", "unsure", "the evidence must not be used"),
    "unrecorded": ("○", "unknown", "no bound applies here"),
}
"""Sign, look and meaning of each verdict, in the order of the summary."""

FINE: Final = ("met", "exceeded")

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


def bound_words(v: Verdict) -> str:
    """``≥ 5.000 ×``; empty where there is no bound."""
    bound = v.bound
    if bound is None:
        return ""
    if bound.minimum is None:
        return f"≤ {quantity(bound.maximum, v.unit)}"
    if bound.maximum is None:
        return f"≥ {quantity(bound.minimum, v.unit)}"
    if bound.minimum == bound.maximum:
        return f"= {quantity(bound.minimum, v.unit)}"
    return f"{quantity(bound.minimum, v.unit)} to {quantity(bound.maximum, v.unit)}"


def _line(v: Verdict) -> Line:
    interval = "" if v.low is None or v.high is None else f"{quantity(v.low, v.unit)} to {quantity(v.high, v.unit)}"
    if interval and v.coverage is not None:
        interval = f"{interval} ({v.coverage:.1%})"
    source = f"{v.source.kind}{f' in {v.source.run}' if v.source.run else ''}: {v.source.text}"
    return Line(
        claim=v.claim,
        about=v.quantity,
        verdict=v.status,
        value=quantity(v.value, v.unit),
        bound=bound_words(v),
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
    shown, own = scaled(value, unit)
    return f"{text.significant(value) if own == unit else shown} {own}"


def claims_section(lines: Sequence[Line] | None) -> Section | None:
    """The table of claims; null where nothing was to be judged (a bare trace)."""
    if lines is None:
        return None
    if not lines:
        words = "No expectation covers this workload on this hardware, so nothing was judged."
        return section("claims", "Claims", Para(words))
    met = [line for line in lines if line.verdict in FINE]
    unseen = [line for line in lines if line.verdict == "unrecorded"]
    open_ = [line for line in lines if line not in met and line not in unseen]
    blocks: list[Block] = []
    if open_:
        blocks.append(_table("claims that are not met", open_))
    if met:
        count = text.count(len(met), "claim")
        better = sum(line.verdict == "exceeded" for line in met)
        said = f"✓ {count} met{f', {better} of them exceeded' if better else ''}"
        blocks.append(Fold(said, [_table("claims that are met", met)]))
    if unseen:
        count = f"{text.count(len(unseen), 'claim')} unrecorded: {WORDS['unrecorded'][2]}"
        table = _table("claims that were not judged", unseen)
        blocks.append(Fold(count, [table]) if open_ or met else table)
    return section("claims", "Claims", blocks)


def _table(caption: str, lines: Sequence[Line]) -> Table:
    rows = [
        Row(
            [
                Cell(line.claim, below=line.about),
                chip(line.verdict),
                *(line.value or text.ABSENT, line.bound or text.ABSENT, line.margin or text.ABSENT),
                *(line.interval or text.ABSENT, line.n or text.ABSENT),
            ],
            ("why: ", line.reason, " · bound: ", line.source),
        )
        for line in lines
    ]
    heads = ["claim", "verdict", "value", "bound", "margin", "interval", "n"]
    return Table(caption, heads, rows, (2, 3, 4, 5, 6))


def chip(verdict: str, words: str = "") -> Span:
    """A verdict as a coloured word, or its `words`; the sign carries it where colour does not."""
    sign, look, meaning = WORDS.get(verdict, ("", "unknown", ""))
    return Span(f"{sign} {words or verdict}", f"chip {look}", title=meaning)


def summary(lines: Sequence[Line] | None) -> list[Span]:
    """``✗ 1 missed  ✓ 3 met``: how many claims got each verdict, what needs attention first."""
    found = [line.verdict for line in lines or ()]
    words = (*_SUMMARY, *sorted(set(found) - set(_SUMMARY)))
    return [chip(word, f"{found.count(word)} {word}") for word in words if word in found]
