"""What the host did during the largest gaps: the calls of the thread that the device waited for.

The thread is the one whose call launched the op that ended the gap, also behind a window of instants, or that which such an op
only interrupts (`attribution.interruptions`); after the last op, the
one that owns the window. A call counts with what of it lies in the gap, as the union over all calls of that name; a call inside
another one counts for both. Operating-system calls are listed beside CUDA calls where the recorder has them. Where it took
CPU samples, they say which functions that thread ran.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl

from ...traces.columns import parts
from ...traces.model import Trace, distinct_values
from ...traces.samples import Sampler, Stretch
from ..attribution.interruptions import Interrupted
from ..attribution.launches import Calls, Launches
from ..attribution.stages import Thread
from ..attribution.steps import NOTHING
from ..attribution.window import Span
from ..intervals import Ints, measure, near_rows
from ..result import SCHEMAS

SHOWN: Final = 5
"""Calls listed for each gap, longest first."""

LOOKED_INTO: Final = 20
"""The longest gaps of each device of which more is said than calls: CPU samples (`gap_functions`), code (`gap_code`)."""

OWNER: Final = -2
"""The thread that owns the window, which a gap after the last op waits for."""


def gap_calls(
    trace: Trace,
    calls: Calls,
    launches: Launches,
    spans: Sequence[Span],
    interrupted: Mapping[int, Interrupted],
    gaps: pl.DataFrame,
) -> pl.DataFrame:
    """Table ``gap_calls``: the calls that fill each of `gaps` (table ``gaps``)."""
    found: list[tuple[object, ...]] = []
    sources = _Sources(trace, calls)
    for span in spans:
        mine = gaps.filter(pl.col("device") == span.device)
        for start, end, thread in _blamed(trace.ops, launches, span, interrupted[span.device], mine):
            found += sources.filling(span.device, thread, start, end)
    return pl.DataFrame(found, schema=SCHEMAS["gap_calls"], orient="row")


def gap_functions(
    ops: pl.DataFrame,
    launches: Launches,
    spans: Sequence[Span],
    interrupted: Mapping[int, Interrupted],
    gaps: pl.DataFrame,
    samples: Sampler,
) -> pl.DataFrame:
    """Table ``gap_functions`` of the longest `gaps` (table ``gaps``). `ops` are all of the trace."""
    asked = list(longest(ops, launches, spans, interrupted, gaps))
    where = pl.DataFrame(
        [(i, device, s.start_ns, s.end_ns) for i, (device, s) in enumerate(asked)],
        schema={"stretch": pl.Int64, "device": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64},
        orient="row",
    )
    found = samples([stretch for _, stretch in asked]).join(where, on="stretch", how="left", maintain_order="left")
    return found.select(*SCHEMAS["gap_functions"])


def longest(
    ops: pl.DataFrame,
    launches: Launches,
    spans: Sequence[Span],
    interrupted: Mapping[int, Interrupted],
    gaps: pl.DataFrame,
) -> Iterator[tuple[int, Stretch]]:
    """The device and the thread's time of each of the `LOOKED_INTO` longest `gaps` of each device, where the thread is known."""
    for span in spans:
        mine = gaps.filter(pl.col("device") == span.device).sort("ns", descending=True, maintain_order=True)
        for start, end, thread in _blamed(ops, launches, span, interrupted[span.device], mine.head(LOOKED_INTO)):
            yield span.device, Stretch(*thread, start, end)


def _blamed(
    ops: pl.DataFrame, launches: Launches, span: Span, interrupted: Interrupted, gaps: pl.DataFrame
) -> Iterator[tuple[int, int, Thread]]:
    """(start, end, the thread that the device waits for) of those `gaps` of a device where it is known."""
    low, high = gaps["start_ns"].to_numpy(), gaps["end_ns"].to_numpy()
    waiting = waiting_for(ops, launches, span, interrupted, high)
    for code, start, end in zip(*(a.tolist() for a in (waiting, low, high)), strict=True):
        thread = thread_of(launches, span, code)
        if thread is not None:
            yield start, end, thread


def waiting_for(ops: pl.DataFrame, launches: Launches, span: Span, interrupted: Interrupted, gap_end: Ints) -> Ints:
    """The thread that each gap of a device waits for, as a position in ``launches.threads``, or `OWNER`, or `NOTHING`
    where the launch was not recorded. `ops` are all of the trace."""
    start, end, device = (ops[name].to_numpy() for name in ("start_ns", "end_ns", "device"))
    at = np.searchsorted(start, gap_end)
    follows = gap_end < span.end_ns
    searched = np.flatnonzero(follows)
    while len(
        searched
    ):  # on to the first op of this device that is not empty: a few steps, as it starts when the gap ends
        searched = searched[at[searched] < len(start)]
        found = at[searched]
        searched = searched[(device[found] != span.device) | (end[found] <= start[found])]
        at[searched] += 1
    if span.owner is None and not follows.all():  # instants end a gap wherever they are, and its op may be far
        last = int(np.searchsorted(start, span.end_ns))
        later = np.flatnonzero((device[last:] == span.device) & (end[last:] > start[last:]))
        at[~follows] = last + later[0] if len(later) else len(start)
        follows[:] = True
    follows &= at < len(start)
    if not follows.any():
        return np.full(len(gap_end), OWNER, np.int64)
    after = np.where(follows, at, 0)
    other = interrupted.of(start[after])
    thread = np.where(other != NOTHING, other, launches.thread[after])
    return np.where(follows, thread, OWNER).astype(np.int64)


def thread_of(launches: Launches, span: Span, code: int) -> Thread | None:
    """The thread that a code of `waiting_for` means, if any."""
    if code == OWNER:
        return span.owner
    return None if code == NOTHING else launches.threads[code]


class _Calls:
    """The calls of one kind on one thread, by start."""

    def __init__(self, source: str, start: Ints, end: Ints, names: pl.Series, rows: Ints | None) -> None:
        self.source, self.start, self.end = source, start, end
        self._near = near_rows(start, end)
        self._words, self._rows = distinct_values(names), rows
        self._code, self._unnamed = parts(names.to_physical())

    def within(self, low: int, high: int) -> Iterator[tuple[str, int, int]]:
        """(name, calls, union of what of them lies in ``[low, high)``) of every call that does."""
        near = self._near(low, high)
        rows = np.arange(near.start, near.stop)
        rows = rows[self.end[rows] > low]
        if len(rows) == 0:
            return
        at = rows if self._rows is None else self._rows[rows]
        if self._unnamed is not None:
            named = ~self._unnamed[at]
            rows, at = rows[named], at[named]
        code = self._code[at]
        for c in sorted(set(code.tolist()), key=self._words.__getitem__):
            of = rows[code == c]
            yield self._words[c], len(of), measure(np.maximum(self.start[of], low), np.minimum(self.end[of], high))


class _Sources:
    """CUDA and operating-system calls by thread; the latter are made ready when first asked for."""

    def __init__(self, trace: Trace, calls: Calls) -> None:
        self._trace, self._api = trace, calls
        self._ready: dict[Thread, list[_Calls]] = {}

    def filling(self, device: int, thread: Thread, low: int, high: int) -> list[tuple[object, ...]]:
        """Rows of ``gap_calls`` for one gap."""
        if thread not in self._ready:
            self._ready[thread] = list(self._os(thread))
        parts = [*self._cuda(thread, low, high), *self._ready[thread]]
        found = [(calls.source, *row) for calls in parts for row in calls.within(low, high)]
        found.sort(key=lambda row: (-row[-1], row[1]))
        return [(device, low, high, *row) for row in found[:SHOWN]]

    def _cuda(self, thread: Thread, low: int, high: int) -> Iterator[_Calls]:
        """The CUDA calls of a thread, those at least that lie in ``[low, high)``."""
        calls = self._api
        if len(calls) and thread in calls.rows_of_thread:
            rows = calls.near(thread, low, high)
            yield _Calls("cuda", calls.start_ns[rows], calls.end_ns[rows], self._trace.api["name"], rows)

    def _os(self, thread: Thread) -> Iterator[_Calls]:
        if len(self._trace.osrt):
            on = (pl.col("pid") == thread[0]) & (pl.col("tid") == thread[1])
            table = self._trace.osrt.filter(on).sort("start_ns")
            yield _Calls("os", table["start_ns"].to_numpy(), table["end_ns"].to_numpy(), table["name"], None)
