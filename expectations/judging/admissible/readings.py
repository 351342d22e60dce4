"""Rows about figures that no machine gives: times that repeat themselves, and readings that cannot be. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mode
from typing import Final

import numpy as np

from ....traces.figures import milliseconds, significant
from ....traces.run import GpuState
from ..commands import PAIR
from .asked import INVALID, OBJECTION, Asked, Finding, results_of

FEWEST: Final = 5
"""Fewer iterations may be alike by chance. A GPU's events count in 32 ns: five times of 1 ms that scatter by 0.1 % repeat another
process's in any order once in 200,000 pairs of processes, and a run has some thousand at most."""

SHORTEST_NS: Final = 1_000_000
"""Shorter iterations may be equal on a coarse clock: CUDA promises half a microsecond."""

COMPARED: Final = 64
"""How many iterations of two processes are held against each other one by one."""

LIKE_NS: Final = 2.0
"""How far a time may be from another one times a factor: what rounding leaves."""

EQUAL_WALLS: Final = 3
"""Two of 40 processes may last as long to the nanosecond, once in a thousand runs; three do not."""

LONG_NS: Final = 500_000_000
"""Power over less than half a second may go beyond a limit, which is held on average, and hangs on a counter renewed in steps."""

ABOVE_LIMIT: Final = 1.5
LEAST_W: Final = 1.0
"""A GPU's mean power stays below its limit, but for some percent; and the smallest draws a few watts when it does nothing."""

TEMPERATURES_C: Final = (-50, 150)
POWER_SHARE: Final = 0.01
POWER_SLACK_W: Final = 1.0
"""How far a GPU's power may be from its energy over the span that both are of: both are rounded."""

WHOLE_SHARE: Final = 0.1
"""The same where the span is the process: its time was taken a little before and after."""


def repeated(asked: Asked) -> Iterator[Finding]:
    """One finding a variant, one for times that are another variant's, and one for whole processes.

    A user's command may write its own times down, and round them: equal ones are not a copy there.
    """
    known = [one for variant in asked.manifest.variants for one in _timed(asked, variant.name)]
    for variant in asked.manifest.variants:
        own = [one for one in known if one.variant == variant.name]
        if text := next(_constant(own), None):
            pair = asked.manifest.source == PAIR
            yield Finding(OBJECTION if pair else INVALID, text, (variant.name,))
        elif text := next(_copies(own), None):
            yield Finding(INVALID, text, (variant.name,))
    if found := next(_copies(known, across=True), None):
        yield Finding(INVALID, found)
    if found := next(_copies(_whole(asked), across=True), None):
        yield Finding(INVALID, found)
    walls = [process.wall_ns for process in asked.processes]
    if len(walls) >= EQUAL_WALLS and walls.count(most := mode(walls)) >= EQUAL_WALLS:
        yield Finding(INVALID, f"{walls.count(most)} processes lasted {most:,} ns, which no clock says three times")


@dataclass(frozen=True, slots=True)
class _Times:
    """Times in ns of one `variant`: of the process `where`, or its processes' own (`where` is empty)."""

    variant: str
    where: str
    ns: np.ndarray

    @property
    def named(self) -> str:
        return f"the iterations of {self.variant} in {self.where}" if self.where else f"the processes of {self.variant}"


def _timed(asked: Asked, name: str) -> Iterator[_Times]:
    """The iterations of each process that times enough of them, long enough to tell them apart."""
    for process in asked.processes:
        ns = np.asarray(process.times_ns.get(name, ()), dtype=np.int64)
        if len(ns) >= FEWEST and np.median(ns) >= SHORTEST_NS:
            yield _Times(name, process.where.removeprefix(f"{name} in "), ns)


def _whole(asked: Asked) -> Sequence[_Times]:
    """How long each variant's own processes lasted, round by round."""
    walls: dict[str, list[int]] = {}
    for process in asked.untraced:
        if len(process.variants) == 1:
            walls.setdefault(process.variants[0], []).append(process.wall_ns)
    return [_Times(name, "", np.asarray(ns, dtype=np.int64)) for name, ns in walls.items() if len(ns) >= FEWEST]


def _constant(timed: Sequence[_Times]) -> Iterator[str]:
    for one in timed:
        values, counts = np.unique(one.ns, return_counts=True)
        if 2 * counts.max() > len(one.ns):
            yield (
                f"{counts.max()} of {len(one.ns)} iterations of {one.variant} in {one.where} take {values[counts.argmax()]:,} "
                "ns, which no clock says so often"
            )


def _copies(timed: Sequence[_Times], across: bool = False) -> Iterator[str]:
    """Times that are others': the same in any order, or most of them by one difference, or all by one factor.

    `across`: of two variants, else of one.
    """
    seen: dict[bytes, _Times] = {}
    for one in timed:
        first = seen.setdefault(np.sort(one.ns).tobytes(), one)
        if first is not one and (first.variant != one.variant) == across:
            yield _are_those(first, one, "to the nanosecond")
    by_length: dict[int, list[_Times]] = {}
    for one in timed:
        by_length.setdefault(len(one.ns), []).append(one)
    for alike in by_length.values():
        table = np.stack([one.ns[:COMPARED] for one in alike])
        for at, one in enumerate(alike[:-1]):
            for other in np.flatnonzero(_copied(table[at], table[at + 1 :])):
                found = alike[at + 1 + other]
                if (found.variant != one.variant) == across:
                    yield _are_those(one, found, "by one difference or factor")


def _are_those(one: _Times, found: _Times, how: str) -> str:
    source = one.where if one.variant == found.variant else one.named
    return f"{found.named} have the times of {source}, {how}"


def _copied(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each row of `others`, whether most of it is `one`, each time by the same difference, or all of it by the same factor."""
    apart = others - one
    middle = np.sort(apart, axis=1)[:, len(one) // 2, None]  # a value that more than half of them have is in the middle
    same = apart == middle
    moved: np.ndarray = 2 * same.sum(axis=1) > len(one)
    for row in np.flatnonzero(moved):
        moved[row] = len(np.unique(one[same[row]])) >= FEWEST
    if len(np.unique(one)) < FEWEST:
        return moved
    factor = np.median(others / one, axis=1)[:, None]
    scaled: np.ndarray = np.all(np.abs(others - factor * one) <= LIKE_NS * np.maximum(factor, 1.0), axis=1)
    either: np.ndarray = np.logical_or(moved, scaled)
    return either


def impossible(asked: Asked) -> Iterator[Finding]:
    """The first reading that cannot be, of each kind: what was calculated contradicts itself, and a sensor may be broken."""
    text = next(_negative(asked), None)
    if text is not None:
        yield Finding(INVALID, text)
    limits = _limits(asked)
    seen: dict[str, str] = {}
    told: set[str] = set()
    for where, span, states in asked.gpu_states():
        for state in states:
            found = _of_figures(state, span)
            if not found and (state.energy_mj or 0) >= 1000:
                found = f"is that of {seen[repr(state)]}, to the last digit" if repr(state) in seen else ""
                seen[repr(state)] = where
            sensed = _of_sensors(state, span, limits.get(state.gpu, {}))
            for grade, words in ((INVALID, found), (OBJECTION, sensed)):
                if words and grade not in told:
                    told.add(grade)
                    yield Finding(grade, f"the state of GPU {state.gpu} under {where} {words}")


def _of_figures(state: GpuState, span: tuple[int, bool]) -> str:
    """Why these figures cannot come from one calculation, as the end of a sentence; empty where they can."""
    clocks = [tuple(c) for c in (state.sm_mhz, state.memory_mhz) if c]
    if state.samples < 0 or (state.energy_mj or 0) < 0 or (state.power_w or 0) < 0:
        return "has a figure below zero"
    if any(len(c) != 3 or c[0] < 0 or tuple(sorted(c)) != c for c in clocks):
        return "has a clock that is not least, mean and most"
    span_ns, exact = span
    if state.energy_mj is None or state.power_w is None or span_ns <= 0:
        return ""
    mean_w = state.energy_mj * 1e6 / span_ns
    slack = (POWER_SHARE if exact else WHOLE_SHARE) * mean_w + POWER_SLACK_W + 1e6 / span_ns
    if abs(mean_w - state.power_w) > slack:
        return (
            f"says {significant(state.power_w)} W, and its energy of {significant(state.energy_mj / 1e3)} J over "
            f"{milliseconds(span_ns / 1e6)} is {significant(mean_w)} W"
        )
    return ""


def _of_sensors(state: GpuState, span: tuple[int, bool], limits: Mapping[str, int]) -> str:
    """What no GPU at work reads, as the end of a sentence; empty where it may."""
    low, high = TEMPERATURES_C
    if state.temperature_c is not None and not low <= state.temperature_c <= high:
        return f"says {state.temperature_c} degrees"
    mhz, watts = limits.get("clocks_max_sm"), limits.get("power_limit")
    if mhz is not None and state.sm_mhz and state.sm_mhz[-1] > mhz:
        return f"says an SM clock of {state.sm_mhz[-1]:,} MHz, and its greatest is {mhz:,} MHz"
    if span[0] < LONG_NS or state.power_w is None:
        return ""
    if watts is not None and state.power_w > ABOVE_LIMIT * watts:
        return f"says {significant(state.power_w)} W over {milliseconds(span[0] / 1e6)}, and its limit is {watts:,} W"
    if state.power_w < LEAST_W:
        return (
            f"says {significant(state.power_w)} W over {milliseconds(span[0] / 1e6)} at work, which is less "
            "than it draws idle"
        )
    return ""


def _limits(asked: Asked) -> dict[int, dict[str, int]]:
    """The greatest SM clock (MHz) and power (W) of each GPU by its number, as the driver reported them before the run."""
    rows = asked.manifest.hardware.clocks.get("before")
    found: dict[int, dict[str, int]] = {}
    for row in rows if isinstance(rows, Sequence) and not isinstance(rows, str) else ():
        known = row if isinstance(row, dict) else {}
        number = re.match(r"\d{1,9}", str(known.get("index")))
        told = {key: re.match(r"\d{1,9}", str(known.get(key))) for key in ("clocks_max_sm", "power_limit")}
        if number:
            found[int(number[0])] = {key: int(one[0]) for key, one in told.items() if one}
    return found


def _negative(asked: Asked) -> Iterator[str]:
    """Counters and times that are below zero, in words."""
    for process in asked.processes:
        if process.wall_ns <= 0:
            yield f"{process.where} lasted {process.wall_ns:,} ns"
    for where, result in results_of(asked.manifest):
        for v in result.variants:
            figures: dict[str, int | None] = {
                "items": v.work.items,
                "FLOPs": v.work.flops,
                "input bytes": v.work.input_bytes,
                "output bytes": v.work.output_bytes,
                "unwritten elements": v.output.poisoned,
                "allocator retries": v.allocator.retries,
                "failed allocations": v.allocator.ooms,
                "reserved bytes": min(v.allocator.reserved_bytes_before or 0, v.allocator.reserved_bytes_after or 0),
                "peak bytes": v.allocator.peak_bytes,
            }
            if v.proof is not None:
                figures["ns of prepare()"] = v.proof.prepare_ns
                figures["ns of reset()"] = v.proof.reset_ns
                figures["ns of outputs()"] = v.proof.outputs_ns
            figures |= {f"bytes moved {kind[:20]}": moved for kind, moved in v.work.moved_bytes.items()}
            for what, figure in figures.items():
                if figure is not None and figure < 0:
                    yield f"{v.name} in {where} says {figure:,} {what}"
            if (v.output.error or 0.0) < 0 or v.output.tolerance < 0:
                yield f"{v.name} in {where} says an error or a tolerance below zero"
