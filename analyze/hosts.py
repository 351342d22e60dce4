"""What a host thread was doing at every instant, for the idle time that it caused.

A `State` joins four step functions of one thread into one: the stage its work belongs to, the innermost CUDA call, the
profiler's and the driver's own overhead, and the iteration. Causes follow one order:

    allocator, sync, copy_api, module_load, graph_build, earlier_launch   the innermost open call, if it is of such a class
    profiler, driver_overhead                                             else an overhead row of the thread
    other_api                                                             else any other call
    host_code                                                             else
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..traces.model import Trace
from . import calls as api
from .intervals import Ints
from .launches import Calls
from .result import CAUSES, OPENED_BY
from .stages import Stages, Thread, outside
from .steps import EMPTY, NOTHING, Steps, innermost

BLOCKED: Final = OPENED_BY
_CAUSE_OF_CLASS: Final = {
    api.ALLOCATOR: "allocator",
    api.SYNC: "sync",
    api.COPY: "copy_api",
    api.MODULE: "module_load",
    api.GRAPH: "graph_build",
    api.LAUNCH: "earlier_launch",
    api.OTHER: "other_api",
}
_CAUSE_TABLE: Final = np.array([CAUSES.index(_CAUSE_OF_CLASS[c]) for c in range(len(api.CLASSES))], np.int64)
_BLOCKED_TABLE: Final = np.full(len(CAUSES), BLOCKED.index("host"), np.int64)
_BLOCKED_TABLE[CAUSES.index("sync")] = BLOCKED.index("sync")
_BLOCKED_TABLE[CAUSES.index("copy_api")] = BLOCKED.index("copy_api")


@dataclass(frozen=True, slots=True)
class State:
    """A thread over time: from ``at[i]`` on, the stage code, the cause (position in `CAUSES`) and the iteration."""

    at: Ints
    stage: Ints
    cause: Ints
    iteration: Ints

    def blocked_in(self, time: Ints) -> Ints:
        """What the thread was blocked in at each instant, as a position in `OPENED_BY`."""
        if len(self.at) == 0:
            return np.full(len(time), BLOCKED.index("host"), np.int64)
        index = np.searchsorted(self.at, time, side="right") - 1
        return np.where(index >= 0, _BLOCKED_TABLE[self.cause[index]], BLOCKED.index("host"))


class HostStates:
    """The `State` of any thread, made when first asked for."""

    def __init__(
        self, trace: Trace, calls: Calls, stages: Stages, *, across: bool, inside: npt.NDArray[np.bool_] | None
    ) -> None:
        self._trace, self._calls, self._stages = trace, calls, stages
        self._across, self._inside = across, inside
        self._made: dict[Thread, State] = {}

    def of(self, thread: Thread) -> State:
        """The state of `thread` over the whole recording."""
        if thread not in self._made:
            self._made[thread] = self._make(thread)
        return self._made[thread]

    def _make(self, thread: Thread) -> State:
        stage = self._stages.on_thread(thread, self._across)
        call = self._call_cause(thread)
        profiler, driver = (self._overhead(thread, source) for source in ("profiler", "driver"))
        iteration = self._stages.iteration_of.get(thread[0], EMPTY)
        at = np.unique(np.concatenate([f.at for f in (stage, call, profiler, driver, iteration)]))
        cause = call(at)
        weak = (cause == NOTHING) | (cause == CAUSES.index("other_api"))
        cause = np.where(cause == NOTHING, CAUSES.index("host_code"), cause)
        cause = np.where(weak & (driver(at) != NOTHING), CAUSES.index("driver_overhead"), cause)
        cause = np.where(weak & (profiler(at) != NOTHING), CAUSES.index("profiler"), cause)
        return State(at, outside(stage(at), self._inside), cause, iteration(at))

    def _call_cause(self, thread: Thread) -> Steps:
        """The cause that the innermost call of the thread stands for (on a host without CUDA: waits and alloc stages)."""
        rows = self._calls.rows_of_thread.get(thread)
        if rows is not None and len(rows):
            start, end = self._calls.start_ns[rows], self._calls.end_ns[rows]
            order = np.lexsort((-end, start)) if (np.diff(start) == 0).any() else slice(None)
            rows, start, end = rows[order], start[order], end[order]
            return innermost(start, end, _CAUSE_TABLE[self._calls.kind[rows]])
        return self._host_only_cause(thread)

    def _host_only_cause(self, thread: Thread) -> Steps:
        mine = (pl.col("pid") == thread[0]) & (pl.col("tid") == thread[1])
        waits = self._trace.osrt.filter(mine & pl.col("name").cast(pl.String).str.contains(api.WAITING_OS_CALLS))
        allocs = self._trace.ranges.filter(
            mine & (pl.col("category").cast(pl.String) == "alloc") & pl.col("end_ns").is_not_null()
        )
        both = pl.concat(
            [
                waits.select("start_ns", "end_ns", pl.lit(CAUSES.index("sync")).cast(pl.Int64).alias("cause")),
                allocs.select("start_ns", "end_ns", pl.lit(CAUSES.index("allocator")).cast(pl.Int64).alias("cause")),
            ]
        ).sort(["start_ns", "end_ns"], descending=[False, True])
        return innermost(both["start_ns"].to_numpy(), both["end_ns"].to_numpy(), both["cause"].to_numpy())

    def _overhead(self, thread: Thread, source: str) -> Steps:
        rows = self._trace.overhead.filter(
            (pl.col("pid") == thread[0]) & (pl.col("tid") == thread[1]) & (pl.col("source") == source)
        ).sort(["start_ns", "end_ns"], descending=[False, True])
        return innermost(rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy())
