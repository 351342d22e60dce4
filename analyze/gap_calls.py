"""What the host did during the largest gaps: the calls of the thread that the device waited for.

The thread is the one whose call launched the op that ended the gap; after the last op, the one that owns the window. A call
counts with what of it lies in the gap, as the union over all calls of that name; a call inside another one counts for both.
Operating-system calls are listed beside CUDA calls where the recorder has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import polars as pl

from ..traces.model import distinct_values
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
    found: list[tuple[object, ...]] = []
    sources = _Sources(work)
    for span in work.spans:
        mine = gaps.filter(pl.col("device") == span.device)
        low, high = mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy()
        for code, start, end in zip(*(a.tolist() for a in (waiting_for(work, span, high), low, high)), strict=True):
            thread = thread_of(work, span, code)
            if thread is not None:
                found += sources.filling(span.device, thread, start, end)
    return pl.DataFrame(found, schema=SCHEMAS["gap_calls"], orient="row")


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


class _Calls:
    """The calls of one kind on one thread, by start. `reach` is the running maximum of their ends."""

    def __init__(self, source: str, start: Ints, end: Ints, names: pl.Series, rows: Ints | None) -> None:
        self.source, self.start, self.end = source, start, end
        self.reach = np.maximum.accumulate(end) if len(end) else end
        self._names, self._rows = names, rows

    def within(self, low: int, high: int) -> Iterator[tuple[str, int, int]]:
        """(name, calls, union of what of them lies in ``[low, high)``) of every call that does."""
        # Nothing before the first row whose running maximum of ends passes `low` can reach into it.
        first, last = np.searchsorted(self.reach, low, side="right"), np.searchsorted(self.start, high, side="left")
        rows = np.arange(first, last)
        rows = rows[self.end[rows] > low]
        if len(rows) == 0:
            return
        words = distinct_values(self._names)
        named = self._names.gather(rows if self._rows is None else self._rows[rows])
        code = named.to_physical().cast(pl.Int64).fill_null(NOTHING).to_numpy()
        for c in sorted(set(code.tolist()) - {NOTHING}, key=lambda c: words[c]):
            of = rows[code == c]
            yield words[c], len(of), measure(np.maximum(self.start[of], low), np.minimum(self.end[of], high))


class _Sources:
    """CUDA and operating-system calls by thread, made ready when first asked for."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._ready: dict[Thread, list[_Calls]] = {}

    def filling(self, device: int, thread: Thread, low: int, high: int) -> list[tuple[object, ...]]:
        """Rows of ``gap_calls`` for one gap."""
        if thread not in self._ready:
            self._ready[thread] = list(self._sources(thread))
        found = [(calls.source, *row) for calls in self._ready[thread] for row in calls.within(low, high)]
        found.sort(key=lambda row: (-row[-1], row[1]))
        return [(device, low, high, *row) for row in found[:SHOWN]]

    def _sources(self, thread: Thread) -> Iterator[_Calls]:
        calls, trace = self._work.calls, self._work.trace
        rows = calls.rows_of_thread.get(thread) if len(calls) else None
        if rows is not None:
            yield _Calls("cuda", calls.start_ns[rows], calls.end_ns[rows], trace.api["name"], rows)
        if len(trace.osrt):
            on = (pl.col("pid") == thread[0]) & (pl.col("tid") == thread[1])
            table = trace.osrt.filter(on).sort("start_ns")
            yield _Calls("os", table["start_ns"].to_numpy(), table["end_ns"].to_numpy(), table["name"], None)
