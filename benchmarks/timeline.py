"""Threads that call, streams that execute, and a recording of both, for many identical steps and processes at once.

All times are int64 nanoseconds relative to the start of the step, in arrays of shape (steps, processes) for single
events and (steps, processes, n) for many. A `Thread` moves its own clock forward; a `Stream` runs what it is given in
order, each piece when its launch is ready and the piece before it is done. Both write into one `Recording`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aisp_trace.benchmarks.kernel_catalog import CALL

Times = NDArray[np.int64]
Mask = NDArray[np.bool_]

MAIN: Final = 0
AUTOGRAD: Final = 1
LOADER: Final = 2

CALL_OVERHEAD_NS: Final = 2_000
"""What a call that waits takes at least, and about how long it returns after what it waited for."""


@dataclass(frozen=True, slots=True)
class Done:
    """Calls that were made, or one: `start` and `end` as declared above, `slot` their place in `Recording.calls`."""

    start: Times
    end: Times
    slot: Any


@dataclass(slots=True)
class Recording:
    """Everything that happened, as lists of rows-to-be: one dict of columns per burst.

    A column is a scalar, an array of shape (steps, processes), or one that broadcasts to (steps, processes, n).
    """

    shape: tuple[int, int]
    calls: list[dict[str, Any]] = field(default_factory=list)
    kernels: list[dict[str, Any]] = field(default_factory=list)
    copies: list[dict[str, Any]] = field(default_factory=list)
    memsets: list[dict[str, Any]] = field(default_factory=list)
    syncs: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    memory: list[dict[str, Any]] = field(default_factory=list)
    ranges: list[dict[str, Any]] = field(default_factory=list)
    overhead: list[dict[str, Any]] = field(default_factory=list)
    slots: int = 0
    """How many calls each step of each process has, made or not; a slot is the position of one of them."""

    def take_slots(self, count: int) -> NDArray[np.int64]:
        first = self.slots
        self.slots += count
        return np.arange(first, self.slots)


class Thread:
    """One host thread of every process; `now` is when it is free for its next call."""

    def __init__(self, recording: Recording, rng: np.random.Generator, number: int, now: Times) -> None:
        self.recording = recording
        self.rng = rng
        self.number = number
        self.now = now

    def mark(self, advance_ns: int = 1_000) -> Times:
        """The time of a range's opening or closing, after which `advance_ns` pass."""
        at = self.now + advance_ns // 2
        self.now = self.now + advance_ns
        return at

    def burst(self, names: Any, gap: Times, duration: Times, result: Any = 0) -> Done:
        """Calls one after the other: `gap` of host code, then `duration` inside the call. The others broadcast."""
        end = self.now[..., None] + np.cumsum(gap + duration, axis=-1)
        start = end - duration
        slots = self.recording.take_slots(end.shape[-1])
        row = {"name": names, "start": start, "end": end, "thread": self.number}
        self.recording.calls.append(row | {"result": result, "present": True})
        self.now = end[..., -1].copy()
        return Done(start, end, slots)

    def call(self, name: str, duration_ns: int, gap_ns: int = 1_500, present: Any = True) -> Done:
        """One call; where `present` is false it is not made and takes no time."""
        start = self.now + np.where(present, spread(self.rng, gap_ns, self.recording.shape), 0)
        end = start + np.where(present, spread(self.rng, duration_ns, self.recording.shape), 0)
        return self._single(CALL[name], start, end, present)

    def waiting_call(self, name: str, until: Times, gap_ns: int = 1_500) -> Done:
        """One call that returns shortly after the instant `until`, or at once if that has passed."""
        start = self.now + spread(self.rng, gap_ns, self.recording.shape)
        end = np.maximum(start, until) + spread(self.rng, CALL_OVERHEAD_NS, self.recording.shape)
        return self._single(CALL[name], start, end, True)

    def _single(self, name: int, start: Times, end: Times, present: Any) -> Done:
        slot = self.recording.take_slots(1)
        row = {"name": name, "start": start, "end": end, "thread": self.number, "result": 0, "present": present}
        self.recording.calls.append(row)
        self.now = end
        return Done(start, end, slot)


class Stream:
    """One device stream of every process; `free` is when its last piece of work has ended."""

    def __init__(self, number: int, shape: tuple[int, int]) -> None:
        self.number = number
        self.free: Times = np.zeros(shape, np.int64)

    def run(self, ready: Times, gap: Times, duration: Times) -> tuple[Times, Times]:
        """(start, end) of pieces in order: start = max(ready, end of the one before + gap).

        The recurrence is linear in the max-plus sense, so with D the running sum of gap + duration the ends are
        D plus the running maximum of (ready + duration - D).
        """
        total = np.cumsum(gap + duration, axis=-1)
        slack = np.maximum.accumulate(ready + duration - total, axis=-1)
        end = np.maximum(slack, self.free[..., None]) + total
        self.free = end[..., -1].copy()
        return end - duration, end

    def run_one(self, ready: Times, duration: Times, gap_ns: int = 700) -> tuple[Times, Times]:
        """`run` for a single piece, with arrays of shape (steps, processes)."""
        start, end = self.run(ready[..., None], np.array([gap_ns]), duration[..., None])
        return start[..., 0], end[..., 0]


class Script:
    """A burst written call by call: what a thread does in every step alike."""

    def __init__(self) -> None:
        self.names: list[int] = []
        self.gaps: list[int] = []
        self.durations: list[int] = []

    def add(self, name: str, duration_ns: int, gap_ns: int = 1_500) -> int:
        """Append a call and return its position."""
        self.names.append(CALL[name])
        self.gaps.append(gap_ns)
        self.durations.append(duration_ns)
        return len(self.names) - 1


def spread(rng: np.random.Generator, mean_ns: Any, shape: Sequence[int]) -> Times:
    """Whole nanoseconds around `mean_ns` (which broadcasts to `shape`): never under 0.7 of it, with a tail above."""
    factor = 0.7 + 0.3 * rng.standard_exponential(tuple(shape), dtype=np.float32)
    times: Times = np.maximum(np.asarray(mean_ns) * factor, 1).astype(np.int64)
    return times
