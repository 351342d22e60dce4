"""The energy of an item and the clock, variant by variant, for every face that shows the time. Pure.

Both are of the span from the first timed iteration to the last. What lies between the iterations is in them: fresh inputs, the
checks of outputs, and the idle power meanwhile; where that is most of the span, the energy is not told. Of commands that time no
iterations they are of the whole process.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .clocks import FILLED, cycles_ratio, energy_per_item, filled, mean_mhz
from .evidence import Evidence


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the GPUs drew while `variant` was timed: medians over the rounds, null where a round does not know.

    `joules_per_item` is of all GPUs that worked together, for one of the `unit` (``samples``); `mhz` their mean SM clock.
    """

    variant: str
    joules_per_item: float | None
    unit: str
    mhz: float | None


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
            found.append(Drawn(name, joules, work.unit if work is not None else "", mhz))
    return tuple(found)


def untold(evidence: Evidence, names: Sequence[str]) -> str:
    """Of which of `names` the energy was read and is not told, as a sentence; empty where there are none."""
    told = {row.variant for row in drawn(evidence) if row.joules_per_item is not None}
    parts = []
    for name in names:
        shares = [share for made in evidence.rounds if (share := filled(made, name)) is not None]
        if name not in told and shares and statistics.median(shares) < FILLED:
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


def energy_spans(timed: str) -> str:
    """What the energy is of, in words; `timed` is `Evidence.timed`."""
    if timed != "iteration":
        return "of whole processes, start-up included"
    return "from the first timed iteration to the last, with fresh inputs and checks of outputs between them"
