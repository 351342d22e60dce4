"""How many streams of a device were busy at once.

    stream 7    |-------|   |----|
    stream 13       |----------|
    streams      1111222211112221100      0 + 1 + 2 + ... = the window, exactly

A stream is (process, context, stream id); ops of one stream that overlap count once. Three or more are one class.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from .intervals import Cover, Ints, cover
from .result import SCHEMAS
from .work import LANE, Work, groups

MOST: Final = 3
"""The class of "this many streams or more"."""


def concurrency_tables(work: Work) -> dict[str, pl.DataFrame]:
    """Tables ``concurrency`` (classes 0 to `MOST` of every device, summing to its window) and ``streams``."""
    lane = work.lane[work.row]
    levels: list[tuple[int, int, int]] = []
    streams: list[tuple[int, int | None, int | None, int | None, int, int]] = []
    for span, rows in work.devices():
        covers = []
        for code, at in groups(lane[rows]):
            mine = rows[at]
            covers.append(cover(work.start[mine], work.end[mine]))
            streams.append((*work.lanes[code], len(mine), covers[-1].total))
        length = span.end_ns - span.start_ns
        levels += [(span.device, n, ns) for n, ns in enumerate(_levels(covers, length))]
    return {
        "concurrency": pl.DataFrame(levels, schema=SCHEMAS["concurrency"], orient="row"),
        "streams": pl.DataFrame(streams, schema=SCHEMAS["streams"], orient="row").sort(LANE, nulls_last=False),
    }


def ends_before(lane: npt.NDArray[np.integer], end: Ints) -> Ints:
    """For each op (in order of start) the latest end of an earlier op of its stream; the smallest int64 for the first."""
    out = np.full(len(end), np.iinfo(np.int64).min, np.int64)
    for _, rows in groups(lane):
        out[rows[1:]] = np.maximum.accumulate(end[rows])[:-1]
    return out


def _levels(covers: list[Cover], length: int) -> list[int]:
    """Time with 0, 1, ... and at least `MOST` of the covers busy, within a window of `length` that holds them all."""
    out = [0] * (MOST + 1)
    if len(covers) == 1:
        out[1] = covers[0].total
    elif covers:
        # Each cover is sorted: a stable sort merges these runs in nearly linear time.
        at = np.concatenate([*(c.start for c in covers), *(c.end for c in covers)])
        half = len(at) // 2
        order = np.argsort(at, kind="stable")
        depth = np.cumsum(np.where(order < half, 1, -1))[:-1]
        lasting = np.diff(at[order])
        for n in range(1, MOST):
            out[n] = int(lasting[depth == n].sum())
        out[MOST] = int(lasting[depth >= MOST].sum())
    out[0] = length - sum(out)
    return out
