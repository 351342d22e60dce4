"""Rows about figures that no machine gives: times that repeat themselves, and readings that cannot be. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from statistics import mode
from typing import Final

import numpy as np

from ....traces.run import GpuState
from .asked import OBJECTION, Asked, Finding, results_of

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

TEMPERATURES_C: Final = (-50, 150)
POWER_SHARE: Final = 0.01
POWER_SLACK_W: Final = 1.0
"""How far a GPU's power may be from its energy over the span that both are of: both are rounded."""

WHOLE_SHARE: Final = 0.1
"""The same where the span is the process: its time was taken a little before and after."""


def repeated(asked: Asked) -> Iterator[Finding]:
    """One finding a variant, and one for whole processes."""
    for variant in asked.manifest.variants:
        text = next(_repeats(asked, variant.name), None)
        if text is not None:
            yield Finding(OBJECTION, text, (variant.name,))
    walls = [process.wall_ns for process in asked.processes]
    if len(walls) >= EQUAL_WALLS and walls.count(most := mode(walls)) >= EQUAL_WALLS:
        yield Finding(OBJECTION, f"{walls.count(most)} processes lasted {most:,} ns, which no clock says three times")


def _repeats(asked: Asked, name: str) -> Iterator[str]:
    known = [(p.where, np.asarray(p.times_ns[name], dtype=np.int64)) for p in asked.processes if name in p.times_ns]
    timed = [(where, ns) for where, ns in known if len(ns) >= FEWEST and np.median(ns) >= SHORTEST_NS]
    for where, ns in timed:
        values, counts = np.unique(ns, return_counts=True)
        if 2 * counts.max() > len(ns):
            yield (
                f"{counts.max()} of {len(ns)} iterations of {name} in {where} take {values[counts.argmax()]:,} ns, which no "
                "clock says so often"
            )
    seen: dict[bytes, str] = {}
    for where, ns in timed:
        key = np.sort(ns).tobytes()
        if key in seen:
            yield f"the iterations of {name} take the same times to the nanosecond in {seen[key]} and in {where}"
        seen[key] = where
    for (one, first), (other, second) in combinations(timed, 2):
        if len(first) == len(second) and _copied(first[:COMPARED], second[:COMPARED]):
            yield f"the iterations of {name} in {other} are those of {one}, by one difference or factor"


def _copied(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether most of `second` is `first`, each time by the same difference, or all of it by the same factor."""
    apart, counts = np.unique(second - first, return_counts=True)
    same = second - first == apart[counts.argmax()]
    if 2 * same.sum() > len(first) and len(np.unique(first[same])) >= FEWEST:
        return True
    if len(np.unique(first)) < FEWEST:
        return False
    factor = np.median(second / first)
    return bool(np.all(np.abs(second - factor * first) <= LIKE_NS * max(factor, 1.0)))


def impossible(asked: Asked) -> Iterator[Finding]:
    """The first reading that cannot be, of each kind."""
    text = next(_negative(asked), None)
    if text is not None:
        yield Finding(OBJECTION, text)
    most = _greatest_mhz(asked)
    seen: dict[str, str] = {}
    for where, span, states in asked.gpu_states():
        for state in states:
            found = _of_state(state, span, most.get(state.gpu))
            if not found and (state.energy_mj or 0) >= 1000:
                found = f"is that of {seen[repr(state)]}, to the last digit" if repr(state) in seen else ""
                seen[repr(state)] = where
            if found:
                yield Finding(OBJECTION, f"the state of GPU {state.gpu} under {where} {found}")
                return


def _of_state(state: GpuState, span: tuple[int, bool], most_mhz: int | None) -> str:
    """Why this reading cannot be, as the end of a sentence; empty where it can."""
    clocks = [tuple(c) for c in (state.sm_mhz, state.memory_mhz) if c]
    low, high = TEMPERATURES_C
    if state.samples < 0 or (state.energy_mj or 0) < 0 or (state.power_w or 0) < 0:
        return "has a figure below zero"
    if any(len(c) != 3 or c[0] < 0 or tuple(sorted(c)) != c for c in clocks):
        return "has a clock that is not least, mean and most"
    if state.temperature_c is not None and not low <= state.temperature_c <= high:
        return f"says {state.temperature_c} degrees"
    if most_mhz is not None and state.sm_mhz and state.sm_mhz[-1] > most_mhz:
        return f"says an SM clock of {state.sm_mhz[-1]:,} MHz, and its greatest is {most_mhz:,} MHz"
    span_ns, exact = span
    if state.energy_mj is None or state.power_w is None or span_ns <= 0:
        return ""
    mean_w = state.energy_mj * 1e6 / span_ns
    slack = (POWER_SHARE if exact else WHOLE_SHARE) * mean_w + POWER_SLACK_W + 1e6 / span_ns
    if abs(mean_w - state.power_w) > slack:
        return (
            f"says {state.power_w:.4g} W, and its energy of {state.energy_mj / 1e3:.4g} J over {span_ns / 1e6:.4g} ms is "
            f"{mean_w:.4g} W"
        )
    return ""


def _greatest_mhz(asked: Asked) -> dict[int, int]:
    """The greatest SM clock of each GPU by its number, as the driver reported it before the run."""
    rows = asked.manifest.hardware.clocks.get("before")
    found = {}
    for row in rows if isinstance(rows, Sequence) and not isinstance(rows, str) else ():
        known = row if isinstance(row, dict) else {}
        number, mhz = (re.match(r"\d{1,9}", str(known.get(key))) for key in ("index", "clocks_max_sm"))
        if number and mhz:
            found[int(number[0])] = int(mhz[0])
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
