"""How many streams of a device were busy at once.

    stream 7    |-------|   |----|
    stream 13       |----------|
    streams      1111222211112221100      0 + 1 + 2 + ... = the window, exactly

A stream is (process, context, stream id); ops of one stream that overlap count once. Three or more are one class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.engine import primitive
from ..attribution.lanes import LANE, Lanes
from ..attribution.window_ops import WindowOps, groups
from ..intervals import Cover, Ints, cover, grouped_measure
from ..result import SCHEMAS

MOST: Final = 3
"""The class of "this many streams or more"."""


def concurrency_tables(ops: WindowOps, lanes: Lanes) -> dict[str, pl.DataFrame]:
    """Tables ``concurrency`` (classes 0 to `MOST` of every device, summing to its window) and ``streams``; `lanes` are those
    of all ops of the trace."""
    levels: list[tuple[int, int, int]] = []
    streams: list[tuple[int, int | None, int | None, int | None, int, int]] = []
    for span, rows in ops.devices():
        busy = busy_levels(lanes.of[ops.in_trace(rows)], ops.start[rows], ops.end[rows], len(lanes.known))
        streams += [(*lanes.known[code], count, ns) for code, count, ns in busy.streams]
        idle = span.end_ns - span.start_ns - sum(busy.levels)
        levels += [(span.device, n, ns) for n, ns in enumerate((idle, *busy.levels))]
    return {
        "concurrency": pl.DataFrame(levels, schema=SCHEMAS["concurrency"], orient="row"),
        "streams": pl.DataFrame(streams, schema=SCHEMAS["streams"], orient="row").sort(LANE, nulls_last=False),
    }


@dataclass(frozen=True, slots=True)
class Busy:
    """How long 1, 2, ... and at least `MOST` streams were busy, and (lane, ops, busy time) of each stream that has ops."""

    levels: tuple[int, ...]
    streams: list[tuple[int, int, int]]


def busy_levels(lane: npt.NDArray[np.integer], start: Ints, end: Ints, lanes: int) -> Busy:
    """What ops sorted by start, each of a lane 0..lanes-1, say of their streams."""
    count = np.bincount(lane, minlength=lanes)
    total = grouped_measure(lane, start, end, lanes).tolist()
    levels = _levels(lane, start, end, lanes, MOST)[1:]
    return Busy(
        tuple(levels.tolist()), [(code, int(count[code]), total[code]) for code in np.flatnonzero(count).tolist()]
    )


def ends_before(lane: npt.NDArray[np.integer], end: Ints) -> Ints:
    """For each op (in order of start) the latest end of an earlier op of its stream; the smallest int64 for the first."""
    out = np.full(len(end), np.iinfo(np.int64).min, np.int64)
    for _, rows in groups(lane):
        out[rows[1:]] = np.maximum.accumulate(end[rows])[:-1]
    return out


def busy_depth(covers: Sequence[Cover]) -> tuple[Ints, Ints]:
    """The instants at which members of `covers` begin and end, in order, and how many are open from each to the next one.

    Of instants that are equal, those at which members begin stand first.
    """
    # Each cover is sorted: a stable sort merges these runs in nearly linear time.
    at = np.concatenate([np.zeros(0, np.int64), *(c.start for c in covers), *(c.end for c in covers)])
    order = np.argsort(at, kind="stable")
    return at[order], np.cumsum(np.where(order < len(at) // 2, 1, -1))[:-1]


@primitive
def _levels(lane: npt.NDArray[np.integer], start: Ints, end: Ints, lanes: int, most: int) -> Ints:
    """How long 1, 2, ... and at least `most` lanes were busy at once (first answer 0)."""
    out = np.zeros(most + 1, np.int64)
    covers = [cover(start[rows], end[rows]) for _, rows in groups(lane)]
    if len(covers) == 1:
        out[1] = covers[0].total
    elif covers:
        at, depth = busy_depth(covers)
        lasting = np.diff(at)
        for n in range(1, most):
            out[n] = lasting[depth == n].sum()
        out[most] = lasting[depth >= most].sum()
    return out
