"""What the GPUs' clocks say about a speedup: whether they made it doubtful, and what it was in cycles and joules. Pure.

    both variants ran at one clock in every round    nothing to say
    they ran at different clocks                     part of the gain, no doubt: `cycles_ratio` says what is left at one clock
    held down for heat, or by the hardware           a doubt: the machine was not what it is otherwise
    a clock moved between rounds, and the result
    with it across the bound                         a doubt: the clock decides, not the change

          ratio
    bound --------o--o-----o-----          rounds above the bound had 1,980 MHz,
             x  x     x  x      x          those below it 1,700: the verdict would be about the clock

A power cap is not a doubt: work that is dense enough meets it every time, on either side.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from ...traces.run import GpuState, Manifest
from ..deciding import Concern
from ..model import Bound

DOUBTFUL: Final = ("thermal", "hardware")
"""Slowdowns that a healthy, cooled machine does not show (``capture/power.py`` names them)."""

CLOCK_FLOOR: Final = 0.02
"""Clocks of two groups of rounds that differ by less are one clock: a step of an H200's is 15 MHz of 1,980, and the mean of a
few readings moves by one or two."""


FILLED: Final = 0.5
"""Without an energy pass, timed iterations fill at least this part of the span whose energy is read: else most of it may be of
something else."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """The energy pass of one variant in one round: how many iterations ran back to back, and how each GPU ran meanwhile."""

    iterations: int
    gpu_state: tuple[GpuState, ...]


class Clocked(Protocol):
    """A round as `clock_concerns` sees it: `evidence.RoundTimes`."""

    @property
    def times_ns(self) -> Mapping[str, tuple[int, ...]]:
        """Each variant's iteration times."""

    @property
    def gpu_state(self) -> Mapping[str, tuple[GpuState, ...]]:
        """How each GPU ran, by variant; empty where nobody looked."""

    @property
    def repeated(self) -> Mapping[str, Repeated]:
        """The energy pass, by variant; empty where there was none, or nobody looked."""


def clock_concerns(
    rounds: Sequence[Clocked], baseline: str, variant: str, ratios: Sequence[float], bound: Bound
) -> tuple[Concern, ...]:
    """Why the GPUs' clocks cast doubt on `ratios` (one a round, in the order of `rounds`) held against `bound`.

    Rounds without a state say nothing. Groups of rounds are compared by separation: every round on one side of the bound has
    a lower clock than every round on the other, and their means differ by more than `CLOCK_FLOOR`. A lone round on its side is
    so by chance in 2 of n runs whose clock moves; it costs a verdict that rests on one round more or less.
    """
    return (*_slowdowns(rounds, baseline, variant), *_followed(rounds, (baseline, variant), ratios, bound))


def cycles_ratio(
    rounds: Sequence[Clocked], baseline: str, variant: str, ratios: Sequence[float]
) -> tuple[float, ...] | None:
    """Per round, SM cycles of the baseline over those of the variant: the ratio of times, times that of their mean clocks.

    What is gained at one and the same clock. Null unless every round knows both clocks. Cycles of the SMs say little about
    work that waits for memory or copies, whose clocks are others.
    """
    found = []
    for made, ratio in zip(rounds, ratios, strict=True):
        base, other = mean_mhz(made, baseline), mean_mhz(made, variant)
        if base is None or other is None:
            return None
        found.append(ratio * base / other)
    return tuple(found)


def energy_per_item(rounds: Sequence[Clocked], variant: str, items: int) -> float | None:
    """Joules for one of the `items` of an iteration of `variant`, all GPUs that worked together: the median of the rounds.

    Of the energy passes where every round has one. Else of the span of the timed iterations, which holds what the GPUs took
    between them as well: then rounds count whose timed iterations fill at least `FILLED` of it. Null where fewer than half of the
    rounds do, where it is unknown in any round, or there are no items.
    """
    again = passes(rounds, variant)
    found = []
    for number, made in enumerate(rounds):
        states = again[number].gpu_state if again else made.gpu_state.get(variant, ())
        iterations = again[number].iterations if again else len(made.times_ns.get(variant, ()))
        energies = [s.energy_mj for s in _working(states)]
        known = [mj for mj in energies if mj is not None]
        if not known or len(known) < len(energies) or iterations <= 0 or items <= 0:
            return None
        if again or (filled(made, variant) or 0.0) >= FILLED:
            found.append(sum(known) / 1e3 / (items * iterations))
    return statistics.median(found) if found and 2 * len(found) >= len(rounds) else None


def passes(rounds: Sequence[Clocked], variant: str) -> tuple[Repeated, ...]:
    """The energy pass of `variant` in each of `rounds`; empty unless every round has one."""
    known = tuple(made.repeated[variant] for made in rounds if variant in made.repeated)
    return known if len(known) == len(rounds) else ()


def filled(made: Clocked, variant: str) -> float | None:
    """The part of the span whose energy was read that timed iterations of `variant` fill: their time, the mean power of a GPU
    and its energy say so. Null where one of these is unknown."""
    spans = [
        s.energy_mj / 1e3 / s.power_w for s in _working(made.gpu_state.get(variant, ())) if s.energy_mj and s.power_w
    ]
    return min(sum(made.times_ns.get(variant, ())) / 1e9 / max(spans), 1.0) if spans else None


def gpu_states(manifest: Manifest) -> dict[int, dict[str, tuple[GpuState, ...]]]:
    """By round and variant, how each GPU ran while it was timed; of processes that ended well.

    A state of the whole process says nothing exact about the iterations in it: only why clocks were held down is kept of it.
    """
    found: dict[int, dict[str, tuple[GpuState, ...]]] = {}
    for made in manifest.rounds:
        if made.exit_code == 0:
            exact = {result.name for result in made.result.variants if len(result.timed_ns) == 2}
            for name, states in made.gpu_state.items():
                found.setdefault(made.index, {})[name] = tuple(s if name in exact else _blurred(s) for s in states)
    for one in manifest.commands:
        if one.exit_code == 0:
            for name, states in one.gpu_state.items():
                exact_too = manifest.timed == "processes"
                found.setdefault(one.index, {})[name] = tuple(s if exact_too else _blurred(s) for s in states)
    return found


def energy_passes(manifest: Manifest) -> dict[int, dict[str, Repeated]]:
    """By round and variant, the energy passes of processes that ended well and were watched."""
    found: dict[int, dict[str, Repeated]] = {}
    for made in manifest.rounds:
        for result in made.result.variants if made.exit_code == 0 else ():
            states = made.repeated_gpu_state.get(result.name, ())
            if len(result.repeated_ns) == 2 and states:
                found.setdefault(made.index, {})[result.name] = Repeated(result.repeated, tuple(states))
    return found


def _blurred(state: GpuState) -> GpuState:
    return replace(state, sm_mhz=(), memory_mhz=(), power_w=None, energy_mj=None)


def _slowdowns(rounds: Sequence[Clocked], baseline: str, variant: str) -> Iterator[Concern]:
    for name in (baseline, variant):
        held = [(s.gpu, why) for r in rounds for s in r.gpu_state.get(name, ()) for why in s.slowdown]
        for gpu, why in dict.fromkeys(h for h in held if h[1] in DOUBTFUL):
            reason = "for heat" if why == "thermal" else "by its hardware"
            many = f"{held.count((gpu, why))} of {len(rounds)} rounds"
            yield Concern("slowdown", f"GPU {gpu} was slowed down {reason} while {name} was timed, in {many}")


def _followed(
    rounds: Sequence[Clocked], pair: tuple[str, str], ratios: Sequence[float], bound: Bound
) -> Iterator[Concern]:
    """At most one concern: of the clock that moved most."""
    found: list[tuple[float, str]] = []
    for name in pair:
        clocks = [mean_mhz(made, name) for made in rounds]
        known = [(mhz, ratio) for mhz, ratio in zip(clocks, ratios, strict=True) if mhz is not None]
        for end in (bound.minimum, bound.maximum):
            if end is None:
                continue
            below = [mhz for mhz, ratio in known if ratio < end]
            above = [mhz for mhz, ratio in known if ratio >= end]
            if not below or not above or (min(above) <= max(below) and min(below) <= max(above)):
                continue
            low, high = sorted((statistics.mean(below), statistics.mean(above)))
            if high / low - 1 > CLOCK_FLOOR:
                side = "below" if statistics.mean(below) == low else "above"
                text = (
                    f"the rounds {side} {end:.4g} are those in which {name} ran at a lower clock "
                    f"({low:.0f} against {high:.0f} MHz), so the clock decides"
                )
                found.append((high / low, text))
    if found:
        yield Concern("clocks", max(found)[1])


def mean_mhz(made: Clocked, name: str) -> float | None:
    """The mean SM clock of the GPUs that worked; null where one of them has no reading."""
    clocks = [s.sm_mhz[1] if len(s.sm_mhz) == 3 else None for s in _working(made.gpu_state.get(name, ()))]
    known = [mhz for mhz in clocks if mhz is not None and mhz > 0]
    return statistics.mean(known) if known and len(known) == len(clocks) else None


def _working(states: Sequence[GpuState]) -> list[GpuState]:
    """The GPUs that the process used: a visible one that idled in every reading is none."""
    return [s for s in states if "idle" not in s.slowdown]
