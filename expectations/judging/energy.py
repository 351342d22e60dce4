"""The energy of an item and the clock, variant by variant, for every face that shows the time. Pure.

    timed iterations, from the first to the last      the clock; the energy of runs without an energy pass
    energy pass, iterations back to back              the energy

The clock is that of the timed iterations. Between them lie fresh inputs, the checks of outputs, and the idle power meanwhile; an
energy of that span is given only where iterations fill most of it. Of commands that time no iterations both are of the whole
process.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .clocks import FILLED, cycles_ratio, energy_per_item, filled, mean_mhz, passes
from .evidence import WHOLE, Evidence


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the GPUs drew while `variant` was timed: medians over the rounds, null where a round does not know.

    `joules_per_item` is of all GPUs that worked together, for one of the `unit` (``samples``); `mhz` their mean SM clock.
    `repeated` is the least and the greatest number of iterations in the energy passes of the rounds; null without them.
    """

    variant: str
    joules_per_item: float | None
    unit: str
    mhz: float | None
    repeated: tuple[int, int] | None = None


def drawn(evidence: Evidence) -> tuple[Drawn, ...]:
    """A row for each variant of which energy or clock is known, in order."""
    found = []
    for name, variant in evidence.variants.items():
        rounds = [made for made in evidence.rounds if name in made.times_ns]
        work = next((a.work for a in variant.answers), evidence.stated.work if evidence.stated else None)
        joules = None if work is None else energy_per_item(rounds, name, work.items)
        clocks = [mean_mhz(made, name) for made in rounds]
        known = [mhz for mhz in clocks if mhz is not None]
        mhz = statistics.median(known) if known and len(known) == len(clocks) else None
        if joules is not None or mhz is not None:
            counts = [one.iterations for one in passes(rounds, name)]
            again = (min(counts), max(counts)) if counts else None
            found.append(Drawn(name, joules, work.unit if work is not None else "", mhz, again))
    return tuple(found)


def untold(evidence: Evidence, names: Sequence[str]) -> str:
    """Of which of `names` the energy was read and is not reported, as a sentence; empty where there are none.

    Where there are energy passes, what fills the timed span is not the reason.
    """
    told = {row.variant for row in drawn(evidence) if row.joules_per_item is not None}
    parts = []
    for name in names:
        rounds = [made for made in evidence.rounds if name in made.times_ns]
        shares = [share for made in rounds if (share := filled(made, name)) is not None]
        if name not in told and not passes(rounds, name) and shares and statistics.median(shares) < FILLED:
            parts.append(f"{100 * statistics.median(shares):.0f} % of the time in which {name}'s was read")
    return (
        f"no energy is given: timed iterations fill {' and '.join(parts)}, the rest is fresh inputs and checks"
        if parts
        else ""
    )


def drawn_by(evidence: Evidence, name: str) -> Drawn | None:
    """The row of one variant; null where nothing is known of it."""
    return next((row for row in drawn(evidence) if row.variant == name), None)


def gain_in_cycles(evidence: Evidence, baseline: str, name: str) -> float | None:
    """How many times fewer SM cycles an iteration of `name` takes: the median of the rounds; null unless all know both clocks."""
    both = [r for r in evidence.rounds if baseline in r.times_ns and name in r.times_ns]
    ratios = [statistics.fmean(r.times_ns[baseline]) / statistics.fmean(r.times_ns[name]) for r in both]
    cycles = cycles_ratio(both, baseline, name, ratios) if both else None
    return statistics.median(cycles) if cycles else None


def energy_spans(timed: str, rows: Mapping[str, Drawn | None]) -> str:
    """What the energy of `rows` is of, in words; `timed` is `Evidence.timed`. Where rows differ in that, each has its name.

    Two runs may differ: one may be older than the energy pass.
    """
    told = {name: row.repeated for name, row in rows.items() if row is not None and row.joules_per_item is not None}
    counts = [count for count in told.values() if count is not None]
    if not counts:
        return clock_spans(timed)
    if len(counts) == len(told):
        return _back_to_back(counts)
    return "; ".join(
        f"{name} {clock_spans(timed) if count is None else _back_to_back([count])}" for name, count in told.items()
    )


def _back_to_back(counts: Sequence[tuple[int, int]]) -> str:
    least, most = min(low for low, _ in counts), max(high for _, high in counts)
    many = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return f"of {many} iterations back to back on one draw of inputs, including L2 flush and reset where the workload has them"


def clock_spans(timed: str) -> str:
    """What the clock is of, in words, and the energy where there is no energy pass; `timed` is `Evidence.timed`."""
    if timed == WHOLE:
        return "of whole processes, start-up included"
    return "from the first timed iteration to the last, with fresh inputs and checks of outputs between them"
