"""When a thread that launches work waits for another thread, and for whose stage.

    launcher   L |.... waits ....| L        charged to `load`, cause `waiting`
    loader       |----- load -----|

Two things say that a thread waits, of moments in which it is in no CUDA call:

    operating-system calls   it is in one that waits. Where the process has any of these recorded, nothing else is asked.
    ranges alone             it makes no CUDA call for `LONG_NS` or longer, while a thread that never makes one (a feeder: what it
                             does reaches a device through others only) has a range open

The wait is charged to the one stage that other threads have open or were handed then, but for those which wait themselves; by
ranges alone, that feeders have open. Where these are none or several, and in calls that no thread ends (a sleep, a read of a
file), it stays with the waiting thread's own stage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl

from ...traces.model import Trace, distinct_values
from ..intervals import Ints
from . import calls as api
from .launches import Calls
from .selection import Selected
from .stages import OUTSIDE_STAGE, Stages, Thread, outside, rows_by_thread
from .steps import EMPTY, NOTHING, Steps, first_of, innermost, instants, without

LONG_NS: Final = 50_000
"""A thread that makes no CUDA call for this long does something else than launch: from Python, one launch follows another within
some 5 to 20 us."""

_FOR_OTHERS, _ALONE = 0, 1


class Waits:
    """Which stage a thread waits for at an instant. `stages` may be selected ones: all ranges settle whether a thread waits.

    `across`: whether the cross-thread rules hold; without them a wait stays with the waiting thread's own stage.
    """

    def __init__(self, trace: Trace, calls: Calls, stages: Stages, *, across: bool) -> None:
        self._trace, self._calls, self._stages, self._across = trace, calls, stages, across
        self._whole = stages.whole if isinstance(stages, Selected) else stages

    def on(self, thread: Thread) -> Steps:
        """The stage that idle time is charged to while `thread` waits, as `shifted` codes; `NOTHING` while it does not."""
        recorded = thread[0] in self._recorded
        if recorded:
            how = self._in_os_calls.get(thread, EMPTY)
            others = sorted(
                {t for s in (self._whole.own, self._whole.handed) for t in s if t[0] == thread[0]} - {thread}
            )
        else:
            others = [t for t in self._feeders if t[0] == thread[0] and t != thread]
            how = self._without_calls(thread, others) if others else EMPTY
        if len(how.at) == 0:
            return EMPTY
        absent = self._in_os_calls if recorded else {}

        def charged(stages: Stages) -> Steps:
            own = stages.on_thread(thread, self._across)
            if not self._across:
                return own
            found = stages.shared(others, absent)
            named = without(found, Steps(found.at, np.where(found.value < 0, 0, NOTHING)))  # several are nobody
            return first_of(without(named, Steps(how.at, np.where(how.value == _ALONE, 0, NOTHING))), own)

        stage = charged(self._stages)
        inside = self._stages.inside if isinstance(self._stages, Selected) else None
        settled = stage if inside is None else charged(self._whole)
        at = instants(how.at, stage.at, settled.at)
        code = stage(at)
        if inside is not None:
            code = np.where(outside(settled(at), inside) == OUTSIDE_STAGE, OUTSIDE_STAGE, code)
        return Steps(at, np.where(how(at) == NOTHING, NOTHING, shifted(code)))

    @cached_property
    def _recorded(self) -> set[int]:
        """Processes whose operating-system calls were recorded."""
        return set(self._trace.osrt["pid"].unique().to_list())

    @cached_property
    def _in_os_calls(self) -> dict[Thread, Steps]:
        """Per thread: where it is in an operating-system call that waits, for others or (`_ALONE`) for none."""
        osrt = self._trace.osrt
        words = distinct_values(osrt["name"])
        waits = [w for w in words if re.search(api.WAITING_OS_CALLS, w)]
        rows = osrt.filter(pl.col("name").cast(pl.String).is_in(waits)).sort(
            ["start_ns", "end_ns"], descending=[False, True]
        )
        nobody = [w for w in waits if re.search(api.WAITS_FOR_NOBODY, w)]
        alone = rows["name"].cast(pl.String).is_in(nobody).to_numpy()
        start, end = rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy()
        found = {}
        pid, tid = (rows[name].to_numpy().astype(np.int64) for name in ("pid", "tid"))
        for thread, mine in rows_by_thread(pid, tid).items():
            kinds = (mine[~alone[mine]], _FOR_OTHERS), (mine[alone[mine]], _ALONE)
            parts = [innermost(start[r], end[r], np.full(len(r), kind, np.int64)) for r, kind in kinds]
            found[thread] = first_of(*parts)
        return found

    @cached_property
    def _feeders(self) -> list[Thread]:
        """Threads with ranges of their own that never make a CUDA call, in processes that make some."""
        callers = self._calls.rows_of_thread if len(self._calls) else {}
        processes = {pid for pid, _ in callers}
        return sorted(t for t in self._whole.own if t not in callers and t[0] in processes)

    def _without_calls(self, thread: Thread, feeders: Iterable[Thread]) -> Steps:
        """Where `thread` makes no CUDA call for long, and one of the `feeders` has a range open."""
        rows = self._calls.rows_of_thread.get(thread)
        if rows is None or len(rows) < 2:
            return EMPTY
        reach = np.maximum.accumulate(self._calls.end_ns[rows])[:-1]
        until = self._calls.start_ns[rows][1:]
        long = until - reach >= LONG_NS
        still = innermost(reach[long], until[long], np.zeros(int(long.sum()), np.int64))
        open_ = self._whole.shared(feeders)
        fed = Steps(open_.at, np.where(open_.value == NOTHING, NOTHING, 0))
        at = instants(still.at, fed.at)
        return Steps(at, np.where((still(at) != NOTHING) & (fed(at) != NOTHING), _FOR_OTHERS, NOTHING))


SHIFT: Final = 8
"""What is added to stage codes where `NOTHING` means that there is none, since codes may be negative."""


def shifted(code: Ints) -> Ints:
    """Stage codes as numbers above `NOTHING`."""
    return code + SHIFT
