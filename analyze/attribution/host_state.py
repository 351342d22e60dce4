"""What a host thread was doing at every instant, for the idle time that it caused.

A walk cuts intervals by six step functions of one thread at once: the stage its work belongs to, the innermost CUDA call,
the profiler's and the driver's own overhead, the iteration, and the stage that it waits for. Causes follow one order:

    allocator, sync, copy_api, module_load, graph_build, earlier_launch   the innermost open call, if it is of such a class;
                                                                          a run of queries (`polling`) is one `sync`
    lazy_load                                                             that call, if it names a kernel and takes long
    profiler, driver_overhead                                             else an overhead row of the thread
    other_api                                                             else any other call
    waiting                                                               else a wait for another thread (`waiting`)
    host_code                                                             else
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.engine import primitive
from ...traces.model import Trace, distinct_values
from ..intervals import Ints
from ..result import CAUSES, OPENED_BY
from . import calls as api
from .launches import Calls
from .stages import Stages, Thread, outside
from .steps import EMPTY, NOTHING, Steps, first_of, innermost, instants, pieces
from .waiting import SHIFT, Waits

BLOCKED: Final = OPENED_BY
_CAUSE_OF_CLASS: Final = {
    api.ALLOCATOR: "allocator",
    api.SYNC: "sync",
    api.COPY: "copy_api",
    api.MODULE: "module_load",
    api.GRAPH: "graph_build",
    api.LAUNCH: "earlier_launch",
    api.POLL: "other_api",
    api.KERNEL: "other_api",
    api.OTHER: "other_api",
}
_CAUSE_TABLE: Final = np.array([CAUSES.index(_CAUSE_OF_CLASS[c]) for c in range(len(api.CLASSES))], np.int8)
_WALK_CODES: Final = np.array(
    [CAUSES.index(c) for c in ("host_code", "other_api", "profiler", "driver_overhead", "waiting")], np.int32
)
_LAZY_LOAD: Final = CAUSES.index("lazy_load")
_SYNC: Final = CAUSES.index("sync")
_FOREVER: Final = int(np.iinfo(np.int64).max)
_BLOCKED_TABLE: Final = np.full(len(CAUSES), BLOCKED.index("host"), np.int64)
_BLOCKED_TABLE[CAUSES.index("sync")] = BLOCKED.index("sync")
_BLOCKED_TABLE[CAUSES.index("copy_api")] = BLOCKED.index("copy_api")


Walk = tuple[
    npt.NDArray[np.integer], Ints, Ints, npt.NDArray[np.integer], npt.NDArray[np.integer], npt.NDArray[np.integer], Ints
]
"""Pieces of intervals: (interval, start, end, stage code, iteration, cause), and what each interval's start was blocked in."""


class HostStates:
    """What any thread was doing; never for a whole recording at once: a thread of many calls would need gigabytes."""

    def __init__(
        self,
        trace: Trace,
        calls: Calls,
        stages: Stages,
        iteration_on: Callable[[Thread], Steps],
        *,
        across: bool,
        inside: npt.NDArray[np.bool_] | None,
    ) -> None:
        self._trace, self._calls, self._stages = trace, calls, stages
        self._iteration_on, self._across, self._inside = iteration_on, across, inside
        self._waits = Waits(trace, calls, stages, across=across)
        self._beside: dict[tuple[Thread, bool], list[Ints]] = {}

    def walk(self, thread: Thread, on_host: bool, start: Ints, end: Ints) -> Walk:
        """Sorted, disjoint intervals, cut by what `thread` was doing; `on_host`: as it keeps a host device waiting."""
        if (thread, on_host) not in self._beside:
            steps = (
                self._stages.on_thread(thread, self._across),
                *(self._overhead(thread, source) for source in ("profiler", "driver")),
                self._iteration_on(thread),
                EMPTY if on_host else self._waits.on(thread),
            )
            self._beside[thread, on_host] = [a for s in steps for a in (s.at, s.value.astype(np.int32, copy=False))]
        call = self._call_cause(thread, int(start[0]), int(end[-1])) if len(start) else EMPTY
        if on_host:
            call = first_of(self._allocating(thread), first_of(self._waiting(thread), call))
        which, begin, stop, code, iteration, cause, blocked = _host_pieces(
            start, end, _WALK_CODES, call.at, call.value.astype(np.int8, copy=False), *self._beside[thread, on_host]
        )
        return which, begin, stop, outside(code, self._inside), iteration, cause, _BLOCKED_TABLE[blocked]

    def _call_cause(self, thread: Thread, low: int, high: int) -> Steps:
        """The cause that the innermost CUDA call of the thread stands for, true from `low` to `high` only."""
        if len(self._calls) == 0 or thread not in self._calls.rows_of_thread:
            return EMPTY
        rows = self._calls.near(thread, low, high)
        start, end, kind = self._calls.start_ns[rows], self._calls.end_ns[rows], self._calls.kind[rows]
        cause = _CAUSE_TABLE[kind]
        cause[api.LOADS[kind] & (end - start > api.LAZY_LOAD_NS)] = _LAZY_LOAD
        if thread in self._calls.polling:
            begins, ends, inside = self._calls.polling[thread]
            cause[np.isin(rows, inside)] = _SYNC
            near = (ends > low) & (begins <= high)
            start, end = np.concatenate([begins[near], start]), np.concatenate([ends[near], end])
            cause = np.concatenate([np.full(int(near.sum()), _SYNC, np.int8), cause])
            order = np.argsort(start, kind="stable")
            start, end, cause = start[order], end[order], cause[order]
        if ((start[1:] == start[:-1]) & (end[1:] > end[:-1])).any():
            order = np.lexsort((-end, start))
            start, end, cause = start[order], end[order], cause[order]
        return innermost(start, end, cause)

    def _allocating(self, thread: Thread) -> Steps:
        """Where a stage of kind ``alloc`` is open on the thread."""
        category = pl.col("category").cast(pl.String)
        stages = self._trace.ranges.filter(
            pl.col("range_id").is_in(self._stages.ranges_of_domain) & (category == "alloc")
        )
        return self._constant(
            stages.filter(_on(thread)).with_columns(pl.col("end_ns").fill_null(_FOREVER)), "allocator"
        )

    def _waiting(self, thread: Thread) -> Steps:
        """Where the thread is inside an operating-system call that waits."""
        osrt = self._trace.osrt
        waits = [name for name in distinct_values(osrt["name"]) if re.search(api.WAITING_OS_CALLS, name)]
        return self._constant(osrt.filter(_on(thread) & pl.col("name").cast(pl.String).is_in(waits)), "sync")

    def _constant(self, rows: pl.DataFrame, cause: str) -> Steps:
        rows = rows.sort(["start_ns", "end_ns"], descending=[False, True])
        value = np.full(len(rows), CAUSES.index(cause), np.int64)
        return innermost(rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy(), value)

    def _overhead(self, thread: Thread, source: str) -> Steps:
        words = distinct_values(self._trace.overhead["source"])
        pid, tid, code, start, end = self._overheads
        rows = np.flatnonzero((pid == thread[0]) & (tid == thread[1]) & (code == words.index(source)))
        rows = rows[np.lexsort((-end[rows], start[rows]))]
        return innermost(start[rows], end[rows])

    @cached_property
    def _overheads(self) -> tuple[Ints, ...]:
        """Process, thread, source code, start and end of each row of table ``overhead``."""
        table = self._trace.overhead
        columns = table.with_columns(pl.col("source").to_physical()).select(
            "pid", "tid", "source", "start_ns", "end_ns"
        )
        return tuple(column.to_numpy() for column in columns)


@primitive
def _host_pieces(
    start: Ints, end: Ints, codes: Ints, call_at: Ints, call: Ints, stage_at: Ints, stage: Ints,
    profiler_at: Ints, profiler: Ints,
    driver_at: Ints, driver: Ints, iteration_at: Ints, iteration: Ints, waiting_at: Ints, waiting: Ints,
) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints, Ints]:  # fmt: skip
    """Cut sorted, disjoint intervals by six step functions at once.

    `codes` are the causes host_code, other_api, profiler, driver_overhead, waiting. Returns per piece (interval, start, end,
    stage, iteration, cause), and per interval the cause at its start. The stage of a piece whose cause is waiting is that of
    `waiting`, less `SHIFT`.
    """
    host_code, other_api, in_profiler, in_driver, in_wait = codes.astype(np.int8)

    def cause_at(time: Ints) -> Ints:
        cause = Steps(call_at, call)(time).astype(np.int8)
        weak = (cause == NOTHING) | (cause == other_api)
        cause[cause == NOTHING] = host_code
        cause[weak & (Steps(driver_at, driver)(time) != NOTHING)] = in_driver
        cause[weak & (Steps(profiler_at, profiler)(time) != NOTHING)] = in_profiler
        cause[(cause == host_code) & (Steps(waiting_at, waiting)(time) != NOTHING)] = in_wait
        return cause

    cuts = instants(call_at, stage_at, profiler_at, driver_at, iteration_at, waiting_at)
    which, begin, stop = pieces(start, end, cuts)
    cause = cause_at(begin)
    charged = np.where(cause == in_wait, Steps(waiting_at, waiting)(begin) - SHIFT, Steps(stage_at, stage)(begin))
    return which, begin, stop, charged, Steps(iteration_at, iteration)(begin), cause, cause_at(start)


def _on(thread: Thread) -> pl.Expr:
    return (pl.col("pid") == thread[0]) & (pl.col("tid") == thread[1])
