"""Operations that merely interrupt a wait: another thread's small work while the device waits for the thread that feeds it.

    train       |-- P --|                                |-- Y --|      launched by T, inside a range of T's
    prefetch                        |x|                                 launched by another thread, inside a range of its own
    gaps                |...........| |..................|              both wait for T

Without such a rule the first gap would be charged to `prefetch`, since its copy is what ends it. From P to Y the device waits for
T if what runs in between

- takes less than a tenth of the time from P to Y, in at most `MOST` stretches, each of them one other thread's,
- was launched inside ranges of those threads' own (work without is the work of T's stage: autograd's, for instance),
- is of threads that keep this device busy for less time than T does, all in all,
- and had ended before T launched Y, inside a range of its own: so Y was late because of T, and waited for none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..intervals import Ints, cover, place_right
from .launches import Calls, Launches
from .stages import Stages
from .steps import NOTHING

MOST: Final = 8
"""Busy stretches that may interrupt a wait: a batch that is prefetched is a few copies, and what comes more often is work."""

PART: Final = 10
"""They take less than this part of the time."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Gaps that an interruption ends, by when they end (ascending), and the thread that each waits for all the same (a position
    in ``launches.threads``)."""

    gap_end_ns: Ints
    thread: Ints

    def of(self, gap_end: Ints) -> Ints:
        """The thread that the gaps which end then wait for; `NOTHING` where the launcher of the next op is meant."""
        if len(self.gap_end_ns) == 0:
            return np.full(len(gap_end), NOTHING, np.int64)
        at = np.minimum(np.searchsorted(self.gap_end_ns, gap_end), len(self.gap_end_ns) - 1)
        return np.where(self.gap_end_ns[at] == gap_end, self.thread[at], NOTHING)


NONE: Final = Interrupted(np.empty(0, np.int64), np.empty(0, np.int64))


def interrupted(ops: pl.DataFrame, calls: Calls, launches: Launches, found: Stages, device: int) -> Interrupted:
    """The gaps of `device` that other threads' work interrupts. `ops` are all of the trace, `found` all ranges of the domain."""
    start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    mine = (ops["device"].to_numpy() == device) & (end > start)
    used = launches.thread[mine]
    if len(found.own) < 2 or len(used) == 0 or (used == used[0]).all():
        return NONE
    rows = np.flatnonzero(mine)
    start, end, thread = start[rows], end[rows], used.astype(np.int64)
    busy = cover(start, end)
    first = place_right(start, busy.start - 1)
    fed_by = thread[first]
    changes = np.flatnonzero(fed_by[1:] != fed_by[:-1]) + 1  # who is interrupted comes back
    if len(changes) == 0:
        return NONE
    one, lowest = np.maximum.reduceat(thread, first), np.minimum.reduceat(thread, first)
    total = np.zeros(len(launches.threads) + 1, np.int64)  # the last is for ops without a launch
    np.add.at(total, thread, end - start)
    last = thread[_last_to_end(end, np.append(first[1:], len(rows)) - 1)]
    length = np.r_[0, np.cumsum(busy.end - busy.start)]
    kept = []
    for between in range(1, MOST + 1):
        y = changes[changes > between]
        p = y - between - 1
        whose = fed_by[y]
        ok = (whose >= 0) & (whose == last[p]) & (PART * (length[y] - length[p + 1]) < busy.start[y] - busy.end[p])
        for k in range(1, between + 1):
            ok &= (one[p + k] == lowest[p + k]) & (one[p + k] != whose) & (total[one[p + k]] < total[whose])
        kept.append(np.stack([p[ok], y[ok]]))
    p, y = np.concatenate(kept, axis=1)
    ok = launches.at_ns(rows[first[y]], ops, calls) >= busy.end[y - 1]
    p, y = p[ok], y[ok]
    if len(y) == 0:
        return NONE
    looked_at = np.zeros(len(rows) + 1, np.int64)
    np.add.at(looked_at, first[p + 1], 1)
    np.add.at(looked_at, first[y], -1)
    between_them = np.union1d(np.flatnonzero(np.cumsum(looked_at[:-1])), first[y])
    outside = np.zeros(len(rows), np.int64)
    outside[between_them] = ~_inside_own(thread, rows, between_them, ops, calls, launches, found)
    so_far = np.r_[0, np.cumsum(outside)]
    ok = so_far[first[y] + 1] == so_far[first[p + 1]]
    claim = np.full(len(first), NOTHING, np.int64)
    for i, j in zip(p[ok].tolist(), y[ok].tolist(), strict=True):
        claimed = claim[i + 1 : j]  # of two that claim a gap, one surrounds the other and is the busier
        claimed[(claimed == NOTHING) | (total[claimed] < total[fed_by[j]])] = fed_by[j]
    chosen = claim != NOTHING
    return Interrupted(busy.start[chosen], claim[chosen])


def _inside_own(
    thread: Ints,
    rows: npt.NDArray[np.integer],
    chosen: npt.NDArray[np.integer],
    ops: pl.DataFrame,
    calls: Calls,
    launches: Launches,
    found: Stages,
) -> npt.NDArray[np.bool_]:
    """Which of the `chosen` ops of a device (`rows` of the trace, of `thread`) were launched inside a range of it."""
    at = launches.at_ns(rows[chosen], ops, calls)
    out = np.zeros(len(chosen), bool)
    for t in np.unique(thread[chosen]).tolist():
        steps = found.own.get(launches.threads[t]) if t >= 0 else None
        if steps is not None:
            of = thread[chosen] == t
            out[of] = steps(at[of]) != NOTHING
    return out


def _last_to_end(end: Ints, upto: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Of the ops up to each of `upto` the one that ends last; of equal ends the later one."""
    reach = np.maximum.accumulate(end)
    return np.asarray(np.maximum.accumulate(np.where(end >= reach, np.arange(len(end)), 0))[upto])
