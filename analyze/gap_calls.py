"""What the host did during the largest gaps: the calls of the thread that the device waited for.

The thread is the one whose call launched the op that ended the gap; after the last op, the one that owns the window. A call
counts with what of it lies in the gap, as the union over all calls of that name; a call inside another one counts for both.
Operating-system calls are listed beside CUDA calls where the recorder has them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from .intervals import Ints, measure
from .result import SCHEMAS
from .stages import Thread
from .steps import NOTHING
from .work import Span, Work

SHOWN: Final = 5
"""Calls listed for each gap, longest first."""

OWNER: Final = -2
"""The thread that owns the window, which a gap after the last op waits for."""


def gap_calls(work: Work, gaps: pl.DataFrame) -> pl.DataFrame:
    """Table ``gap_calls``: the calls that fill each of `gaps` (table ``gaps``)."""
    frames = [pl.DataFrame(schema=SCHEMAS["gap_calls"])]
    sources = _Sources(work)
    for span in work.spans:
        mine = gaps.filter(pl.col("device") == span.device)
        low, high = mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy()
        for code, start, end in zip(*(a.tolist() for a in (waiting_for(work, span, high), low, high)), strict=True):
            thread = thread_of(work, span, code)
            if thread is not None:
                frames.append(sources.filling(span.device, thread, start, end))
    return pl.concat(frames)


def waiting_for(work: Work, span: Span, gap_end: Ints) -> Ints:
    """The thread that each gap of a device waits for, as a position in ``work.launches.threads``, or `OWNER`, or `NOTHING`
    where the launch was not recorded."""
    start, end = work.trace.ops["start_ns"].to_numpy(), work.trace.ops["end_ns"].to_numpy()
    solid = np.flatnonzero((work.trace.ops["device"].to_numpy() == span.device) & (end > start))
    if len(solid) == 0:
        return np.full(len(gap_end), OWNER, np.int64)
    at = np.searchsorted(start[solid], gap_end)
    follows = (gap_end < span.end_ns) & (at < len(solid))
    thread = work.launches.thread[solid[np.where(follows, at, 0)]]
    return np.where(follows, thread, OWNER).astype(np.int64)


def thread_of(work: Work, span: Span, code: int) -> Thread | None:
    """The thread that a code of `waiting_for` means, if any."""
    if code == OWNER:
        return span.owner
    return None if code == NOTHING else work.launches.threads[code]


class _Sources:
    """CUDA and operating-system calls by thread, made ready when first asked for."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._ready: dict[Thread, list[tuple[str, Ints, Ints, Ints, pl.DataFrame]]] = {}

    def filling(self, device: int, thread: Thread, low: int, high: int) -> pl.DataFrame:
        """Rows of ``gap_calls`` for one gap."""
        if thread not in self._ready:
            self._ready[thread] = list(self._sources(thread))
        found: list[tuple[int, int, int, str, str, int, int]] = []
        for source, start, end, reach, names in self._ready[thread]:
            # Nothing before the first row whose running maximum of ends passes the gap's start can reach into it.
            first, last = np.searchsorted(reach, low, side="right"), np.searchsorted(start, high, side="left")
            rows = np.arange(first, last)
            rows = rows[end[rows] > low]
            label = names[rows]["name"].cast(pl.String)
            for name in label.unique().sort():
                of = rows[(label == name).to_numpy()]
                ns = measure(np.maximum(start[of], low), np.minimum(end[of], high))
                found.append((device, low, high, source, name, len(of), ns))
        found.sort(key=lambda row: (-row[-1], row[4]))
        return pl.DataFrame(found[:SHOWN], schema=SCHEMAS["gap_calls"], orient="row")

    def _sources(self, thread: Thread) -> list[tuple[str, Ints, Ints, Ints, pl.DataFrame]]:
        on = (pl.col("pid") == thread[0]) & (pl.col("tid") == thread[1])
        calls = self._work.calls.rows_of_thread.get(thread) if len(self._work.calls) else None
        tables = [
            ("cuda", self._work.trace.api[calls]) if calls is not None else ("cuda", self._work.trace.api.clear())
        ]
        tables.append(("os", self._work.trace.osrt.filter(on).sort("start_ns")))
        out = []
        for source, table in tables:
            start, end = table["start_ns"].to_numpy(), table["end_ns"].to_numpy()
            reach = np.maximum.accumulate(end) if len(end) else end
            out.append((source, start, end, reach, table.select("name")))
        return out
