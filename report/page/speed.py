"""Rounds: the untraced times that the speedup is made of, energy and clocks.

The statistics are those of `expectations.deciding`: the page shows the number that is judged, never one of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ...expectations.deciding import Concern, Estimate, concerns, median_interval
from ...expectations.judging.energy import Drawn, clock_spans, energy_spans
from ...expectations.judging.evidence import WHOLE, Evidence, RoundTimes
from ..figures import rounds_figure
from . import text
from .blocks import Block, Cell, Chart, Fold, Para, Row, Section, Span, Table, section, strong


@dataclass(frozen=True, slots=True)
class Speedup:
    """How many times faster `variant` is than `baseline`, by the mean of each round, and what speaks against the number."""

    baseline: str
    variant: str
    ratio: Estimate
    concerns: tuple[Concern, ...]

    def words(self) -> str:
        """``11.39 × [11.31, 11.46]``; without brackets where there are too few rounds for an interval."""
        low, high = self.ratio.low, self.ratio.high
        ends = "" if low is None or high is None else f" [{text.significant(low)}, {text.significant(high)}]"
        return f"{text.significant(self.ratio.value)} ×{ends}"


def round_medians(rounds: Sequence[RoundTimes], variants: Sequence[str]) -> dict[str, list[int]]:
    """Each variant's median iteration in ns, round by round; rounds that did not run a variant have no entry for it."""
    found = {name: [round(median(r.times_ns[name])) for r in rounds if name in r.times_ns] for name in variants}
    return {name: values for name, values in found.items() if values}


def speedups(evidence: Evidence) -> list[Speedup]:
    """Every later variant against the first, from the rounds that timed both."""
    first, *others = evidence.variants
    found = ((variant, evidence.speedups(first, variant)) for variant in others)
    return [
        Speedup(first, variant, median_interval(ratios.mean, evidence.looks), concerns(ratios.mean))
        for variant, ratios in found
        if ratios is not None
    ]


def speed_section(
    medians: Mapping[str, Sequence[int]],
    found: Sequence[Speedup],
    timed: str = "iteration",
    drawn: Sequence[tuple[Drawn, float | None]] = (),
) -> Section | None:
    """The rounds as a figure, the ratios in words, energy and clocks, and each round's number; null where nothing was timed.

    `timed` is `Evidence.timed`: what the times are of. `drawn` are the variants' energy, each with its gain in SM cycles.
    """
    if not medians:
        return None
    point = "whole time, start-up included" if timed == WHOLE else f"median {timed}"
    rounds = range(_longest(medians))
    rows = [Row([name, *(_at(values, i) for i in rounds)]) for name, values in medians.items()]
    heads = ["variant", *(f"round {i} ns" for i in rounds)]
    return section(
        "rounds",
        "Rounds",
        Para(f"Timed without any recorder: each point is one fresh process's {point}."),
        [Para(_ratio(s)) for s in found],
        Chart("figure-rounds", rounds_figure(medians), "time of each round"),
        _energy(drawn, timed),
        Fold("Each round in nanoseconds", [Table("time of each round", heads, rows, range(1, len(heads)))]),
    )


def _energy(drawn: Sequence[tuple[Drawn, float | None]], timed: str) -> list[Block]:
    """A row a variant, with the columns of which anything is known; nothing where nobody read a GPU."""
    if not drawn:
        return []
    columns = [
        ("SM clock", [None if row.mhz is None else f"{row.mhz:,.0f} MHz" for row, _ in drawn]),
        ("gain in SM cycles", [None if gain is None else f"{text.significant(gain)} ×" for _, gain in drawn]),
        (
            f"energy, one of the {drawn[0][0].unit}",
            [None if row.joules_per_item is None else text.joules(row.joules_per_item) for row, _ in drawn],
        ),
    ]
    known = [(head, values) for head, values in columns if any(values)]
    rows = [Row([row.variant, *(values[i] or text.ABSENT for _, values in known)]) for i, (row, _) in enumerate(drawn)]
    heads = ["variant", *(head for head, _ in known)]
    energy, clock = energy_spans(timed, {row.variant: row for row, _ in drawn}), clock_spans(timed)
    words = f"Energy and clocks are {clock}." if energy == clock else f"Energy is {energy}. Clocks are {clock}."
    return [Table("energy and clocks", heads, rows, range(1, len(heads))), Para(words, "note")]


def _ratio(s: Speedup) -> list[str | Span]:
    n, coverage = s.ratio.n, s.ratio.coverage
    working = f", the median ratio of {text.count(n, 'round')}: too few for an interval."
    if coverage is not None:
        working = f", the median ratio of {text.count(n, 'round')} with its exact interval ({coverage:.1%})."
    doubts = [Span(f" Doubt: {c.text}.", "doubt") for c in s.concerns]
    return [strong(f"{s.variant} against {s.baseline}: {s.words()}"), working, *doubts]


def _longest(medians: Mapping[str, Sequence[int]]) -> int:
    return max(len(values) for values in medians.values())


def _at(values: Sequence[int], index: int) -> Cell:
    return Cell(f"{values[index]:,}", values[index]) if index < len(values) else Cell(text.ABSENT)
