"""What a replay times: the graph of a trace, and in it the iterations, or the whole window where there are none.

    found by      an iteration lasts                                        its host items lie between
    a range       from the range's start to its end, on its thread,         start and end of the range
                  and until all that was launched in it is done
    kernels       from the start of its first operation to the next one's   the calls that launched both
    nothing       the window, from its first operation to its last          the first one's launch and the window's end

A host that waits for nothing ends an iteration before the device does, and runs ahead. So an iteration begins no sooner than
the one before is done: lengths are what the slower of both takes, and where an iteration ends with a wait those of its range.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl

from ...traces.errors import InputError
from ..attribution.attribute import Attributed
from ..attribution.stages import Thread
from ..intervals import Ints
from .graph import Graph, Nodes, build
from .part import MOST, stretch

FoundBy = Literal["range", "kernels", "window"]

Pairs = Sequence[tuple[int, int]]

Mark = tuple[int, Thread]
"""An instant in ns, and whose."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Nodes of a graph: of each iteration its `start`, and those whose last is its end, ``ends[first[i]:first[i + 1]]``."""

    start: Nodes
    ends: Nodes
    first: Ints

    def __len__(self) -> int:
        return len(self.start)

    def lengths(self, time: Ints) -> Ints:
        """How long each iteration takes, in ns, where the nodes have these times."""
        end = np.maximum.reduceat(time[self.ends], self.first[:-1])
        done = np.maximum.accumulate(end)
        begin = np.maximum(time[self.start], np.r_[np.iinfo(np.int64).min, done[:-1]])
        lengths: Ints = np.maximum(end - begin, 0)
        return lengths

    @classmethod
    def of(cls, start: Sequence[int], ends: Sequence[Sequence[int]]) -> Bounds:
        """From the end nodes of each iteration, at least one."""
        flat = [node for one in ends for node in one]
        first = np.r_[0, np.cumsum([len(one) for one in ends])].astype(np.int64)
        return cls(np.array(start, np.int32), np.array(flat, np.int32), first)


NONE: Final = Bounds.of((), ())


@dataclass(frozen=True, slots=True)
class Model:
    """A trace as a graph, with what is timed in it, in order of time. `a` is the trace, or the part of it that is replayed.

    `host` are start and end in ns, as recorded, between which an iteration's calls lie, and `bounds` what it lasts between. Both
    are empty where no GPU did anything, `why` says so. `pid` is the process that runs them, null for all.
    """

    a: Attributed
    graph: Graph
    host: Pairs
    bounds: Bounds
    found_by: FoundBy
    pid: int | None = None
    why: str = ""


def model(a: Attributed, most: int = MOST) -> Model:
    """The graph of `a`, or of a `stretch` of it with at most so many calls and operations, and its iterations.

    Raises `InputError` for a trace without calls, and for a long one without iterations.
    """
    if len(a.calls) == 0:
        raise InputError(
            "no API calls of a GPU were recorded, and a replay follows those; `aisp-trace analyze` says where the time goes, and "
            "what a finding takes is the most that its fix can gain; to know what it gains, make the change and time the pair: "
            "`aisp-trace capture --baseline CMD --optimized CMD`"
        )
    a = stretch(a, most)
    steady = a.steady
    graph, marks = marked(a)
    if not (graph.begun >= 0).any():
        return Model(a, graph, (), NONE, "window", why="no work of a GPU was recorded")
    if marks:
        nodes = graph.returned[graph.marks]
        host, pid = _pairs([at for at, _ in marks]), marks[0][1][0]
        last = _last_launched(a, graph, host, pid)
        ends = [[node, *done] for node, done in zip(nodes[1::2].tolist(), last, strict=True)]
        return Model(a, graph, host, Bounds.of(nodes[::2].tolist(), ends), "range", pid)
    if steady is not None and steady.found_by == "kernels":
        by_kernels = _by_kernels(a, graph)
        if by_kernels.host:
            return by_kernels
    return _whole(a, graph)


def marked(a: Attributed) -> tuple[Graph, list[Mark]]:
    """The graph of all of `a`, with marks where the iterations that ranges name start and end."""
    marks = list(_marks(a)) if a.steady is not None and a.steady.found_by != "kernels" else []
    return build(a, marks), marks


def _pairs(values: Sequence[int]) -> Pairs:
    return list(zip(values[::2], values[1::2], strict=True))


def _marks(a: Attributed) -> Iterator[Mark]:
    """Start and end of each steady iteration, on the thread whose range it is."""
    assert a.steady is not None
    found = a.found
    rows = np.flatnonzero(np.isin(found.start_ns, [one.start_ns for one in a.steady.steady]))[
        ::-1
    ]  # the first one stays
    columns = (column[rows].tolist() for column in (found.start_ns, found.end_ns, found.pid, found.tid))
    threads = {(start, end): (pid, tid) for start, end, pid, tid in zip(*columns, strict=True)}
    for one in a.steady.steady:
        thread = threads.get((one.start_ns, one.end_ns))
        if thread is not None:
            yield one.start_ns, thread
            yield one.end_ns, thread


def _by_kernels(a: Attributed, graph: Graph) -> Model:
    """Iterations that follow each other without a pause, found by the operations that each begins with."""
    assert a.steady is not None
    start = a.trace.ops["start_ns"].to_numpy()
    first, host, begins, ends = _launched_at(a), [], [], []
    order = np.argsort(start, kind="stable")
    for one, following in zip(a.steady.steady, a.steady.steady[1:], strict=False):
        if one.end_ns != following.start_ns:
            continue
        rows = order[np.searchsorted(start[order], (one.start_ns, following.start_ns))]
        if (first[rows] >= 0).all() and (graph.begun[rows] >= 0).all():
            host.append((int(first[rows[0]]), int(first[rows[1]])))
            begins.append(int(graph.begun[rows[0]]))
            ends.append([int(graph.begun[rows[1]])])
    return Model(a, graph, host, Bounds.of(begins, ends), "kernels")


def _whole(a: Attributed, graph: Graph) -> Model:
    """The window of all GPUs, as one."""
    gpus = [span for span in a.spans if span.device not in a.host_devices]
    low, high = min((s.start_ns for s in gpus), default=0), max((s.end_ns for s in gpus), default=0)
    start, end = (a.trace.ops[name].to_numpy() for name in ("start_ns", "end_ns"))
    inside = np.flatnonzero((graph.begun >= 0) & (start >= low) & (end <= high))
    if len(inside) == 0:
        return Model(a, graph, (), NONE, "window", why="no work of a GPU lies in the window")
    first = inside[np.argmin(start[inside])]
    began = int(_launched_at(a)[first])
    host = (low if began < 0 else min(began, low), high)
    ends = [graph.done[_last_of_streams(a, inside)].tolist()]
    return Model(a, graph, [host], Bounds.of([int(graph.begun[first])], ends), "window")


def _last_launched(a: Attributed, graph: Graph, host: Pairs, pid: int) -> Iterator[list[int]]:
    """Of each iteration the nodes at which the last of what it launched is done, one a stream."""
    at = _launched_at(a)
    mine = (graph.begun >= 0) & (a.trace.ops["pid"] == pid).fill_null(True).to_numpy()
    rows = np.flatnonzero(mine & (at >= 0))
    rows = rows[np.argsort(at[rows], kind="stable")]
    for low, high in host:
        here = rows[slice(*np.searchsorted(at[rows], (low, high)).tolist())]
        yield graph.done[_last_of_streams(a, here)].tolist()


def _last_of_streams(a: Attributed, ops: Ints) -> Ints:
    """Of `ops` (rows of the table) those that end last in their stream."""
    table = a.trace.ops.select("device", "context", "stream", "end_ns")[ops].with_columns(pl.Series("row", ops))
    last = table.group_by("device", "context", "stream").agg(pl.col("row").sort_by("end_ns").last())
    return last["row"].sort().to_numpy()


def _launched_at(a: Attributed) -> Ints:
    """Of each operation when the call that launched it began, in ns; -1 where none is known."""
    call = a.launches.call
    return np.where(call >= 0, a.calls.start_ns[np.maximum(call, 0)], -1)


def static_share(m: Model) -> float | None:
    """Of the iterations, the part that launches the same kernels with the same grids and blocks in the same order, stream by
    stream, as most do; null where there are no iterations. Below 1 no single CUDA graph serves them all."""
    if m.found_by == "window":
        return None
    at, ops = _launched_at(m.a), m.a.trace.ops
    mine = (ops["kind"] == "compute").to_numpy() & (at >= 0)
    if m.pid is not None:
        mine &= (ops["pid"] == m.pid).fill_null(False).to_numpy()
    kernels = np.flatnonzero(mine)
    kernels = kernels[np.argsort(at[kernels], kind="stable")]
    hashes = ops.select(pl.struct("stream", "name", "grid", "block").hash()).to_series().to_numpy()[kernels]
    lanes = ops["stream"].fill_null(-1).to_numpy()[kernels]
    lows, highs = np.array(m.host, np.int64).T
    spans = zip(*(np.searchsorted(at[kernels], bounds).tolist() for bounds in (lows, highs)), strict=True)
    each = [hashes[low:high][np.argsort(lanes[low:high], kind="stable")].tobytes() for low, high in spans]
    return max(each.count(one) for one in set(each)) / len(each)
