"""What waited for what in a trace: host calls and device operations as nodes, and edges that say when each may begin or end.

    thread   [ call 0 ]--gap--[ call 1 ]------------------[ sync ......]--gap--
                  \\                \\                              ^
              launch\\          launch\\                        return|
    stream             [== op 0 ==]----queue----[== op 1 ==]--------+
                                                      ^
    another stream                   [== op ==]-------+ dependency (event)

A call has a start and an end, and so has an operation. The time of a node is the latest of its edges: that of the edge's source
plus the edge's weight. Calls are the outermost ones of each thread; the ends of iterations are marks among them.

Weights. Of each node one edge was *binding*: the one whose source came last before it. It keeps what was observed. Any other edge
was slack, and nobody saw what it would have taken: it gets the median of the binding edges of its class (`USUAL_NS` where
there is none), or what was observed where that is less. So every node of the unchanged graph has its measured time, to the
nanosecond (`replay`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.model import KINDS, Trace, distinct_values
from ..accounts.communication import whole_collectives
from ..attribution.attribute import Attributed
from ..attribution.calls import COPY, SYNC
from ..attribution.dependencies import calls_of
from ..attribution.lanes import lanes_of
from ..attribution.launches import grouped_rows
from ..attribution.stages import Thread
from ..intervals import Ints

CALLED, RETURNED, BEGUN, DONE = range(4)
"""What a node is: start and end of a host item, begin and end of an operation."""

GAP, OWN, RETURN, LAUNCH, QUEUE, DEPENDENCY, RUN, FIRST, EARLY, COLLECTIVE = range(10)
"""What an edge is. `FIRST` comes from nowhere: its weight is when a thread, or an operation without a launch, began. `EARLY`
leads from begin to begin, where an operation begins before its stream's last one ends (programmatic dependent launch).
`COLLECTIVE` leads from the start of a collective on one rank to its end on another: it ends nowhere before it has begun
everywhere."""

EDGES: Final = ("gap", "own", "return", "launch", "queue", "dependency", "run", "first", "early", "collective")

OTHER_THREAD_NS: Final = 50_000
"""A thread that made no call for longer than this was waiting for another one of its process, if that one ended a call meanwhile.
(5 us to 1 ms gave the same answers on the recordings that were tried.)"""

USUAL_NS: Final = (0, 2_000, 6_000, 9_000, 1_400, 6_000, 0, 0, 0, 0)
"""What each kind of edge takes where no edge of its class was binding. Medians of recordings in ``traces/samples``: a call
returns 3.5 to 7 us after the work it waited for, an idle device begins 8 to 14 us after the launching call did, a stream goes on
after 0.7 to 2.1, and after an event of another stream 5.5 to 11. An `own` of 2 us is a call that found nothing to wait for."""

NOWHERE: Final = -1


Nodes = npt.NDArray[np.int32]
"""Positions of nodes, items or operations."""


@dataclass(frozen=True)  # no slots: `target` is kept once it was asked for
class Graph:
    """Nodes in an order in which each comes after its sources; all times are in ns.

    Of each node: `time` as measured, `kind`, and `of`, its item or the row of its operation. Its edges are rows ``first[n]`` to
    ``first[n + 1]`` of `source` (a node, or `NOWHERE`), `weight` and `what`, the binding one first.

    Of each item: `call`, a row of the trace's calls or `NOWHERE` for a mark, `thread`, a position in `threads`, `called`
    and `returned`, the nodes of its start and end. `begun` and `done` are the nodes of each row of the operations, or `NOWHERE`;
    `marks` the item of each mark; `left_out` the edges that would lead back in time.
    """

    time: Ints
    kind: npt.NDArray[np.int8]
    of: Nodes
    first: Ints
    source: Nodes
    weight: Ints
    what: npt.NDArray[np.int8]
    call: Ints
    thread: Ints
    called: Nodes
    returned: Nodes
    begun: Nodes
    done: Nodes
    marks: Nodes
    left_out: int
    threads: Sequence[Thread]

    @property
    def edges(self) -> int:
        """How many there are."""
        return len(self.source)

    @cached_property
    def target(self) -> Nodes:
        """The node that each edge leads to."""
        return np.repeat(np.arange(len(self.time), dtype=np.int32), np.diff(self.first))

    @cached_property
    def of_target(self) -> Nodes:
        """The item, or the row of the operation, that each edge leads to."""
        return self.of[self.target]

    @cached_property
    def to_host(self) -> npt.NDArray[np.bool_]:
        """The edges that lead to an item."""
        return self.kind[self.target] <= RETURNED

    def reweighted(self, weight: Ints) -> Graph:
        """The same graph with other weights, which knows its targets already."""
        fresh = replace(self, weight=weight)
        fresh.__dict__.update(target=self.target, of_target=self.of_target, to_host=self.to_host)
        return fresh

    def leads(self, *whats: int) -> npt.NDArray[np.bool_]:
        """The edges that are one of `whats`."""
        chosen = np.zeros(len(EDGES), bool)
        chosen[list(whats)] = True
        return chosen[self.what]

    @property
    def observed(self) -> Ints:
        """What went by between both ends of each edge; of those from nowhere the time of the node."""
        return _lasting(self.time, self.target, self.source)


@dataclass(frozen=True, slots=True)
class Items:
    """What happened on the host, by thread and in order of time: outermost calls, and marks, which take no time."""

    start: Ints
    end: Ints
    call: Ints
    thread: Ints
    process: Ints
    mark: Ints  # which mark it is, or NOWHERE
    threads: Sequence[Thread]  # those of the calls, then others with marks


def build(a: Attributed, marks: Sequence[tuple[int, tuple[int, int]]] = ()) -> Graph:
    """The graph of the whole trace, with `marks` at these instants of these (pid, tid).

    Operations on host devices are none of it. Nothing here looks at the window.
    """
    items, ops = _items(a, marks), _Ops.of(a)
    n_items, n_ops = len(items.start), len(ops.row)
    time = np.concatenate([items.start, items.end, ops.start, ops.end])
    order = _in_order(time, items, ops)
    place = np.empty(len(time), np.int32)
    place[order] = np.arange(len(time), dtype=np.int32)
    kind = np.repeat(np.array((CALLED, RETURNED, BEGUN, DONE), np.int8), (n_items, n_items, n_ops, n_ops))[order]
    own = np.arange(n_items, dtype=np.int32)
    of = np.concatenate([own, own, ops.row, ops.row])[order]
    time = time[order]
    first, source, what, left_out = _edges(a, items, ops, place, time)
    begun, done = place[2 * n_items : 2 * n_items + n_ops], place[2 * n_items + n_ops :]
    marked = np.flatnonzero(items.mark >= 0)
    graph = Graph(
        time=time,
        kind=kind,
        of=of,
        first=first,
        source=source,
        weight=np.zeros(len(source), np.int64),
        what=what,
        call=items.call,
        thread=items.thread,
        called=place[:n_items],
        returned=place[n_items : 2 * n_items],
        begun=_placed(begun, ops.row, len(a.trace.ops)),
        done=_placed(done, ops.row, len(a.trace.ops)),
        marks=_placed(marked, items.mark[marked], len(marks)),
        left_out=left_out,
        threads=items.threads,
    )
    return replace(graph, weight=_weights(a, graph))


def _edges(
    a: Attributed, items: Items, ops: _Ops, place: Nodes, time: Ints
) -> tuple[Ints, Nodes, npt.NDArray[np.int8], int]:
    """(first, source, what) of a `Graph` whose nodes have these places and times, and how many edges would lead back in time."""
    n_items, n_ops = len(items.start), len(ops.row)
    called, returned, begun, done = np.split(place, np.cumsum((n_items, n_items, n_ops)))
    before = _preceding(items)
    follows = np.flatnonzero(before >= 0)
    item_of_call = _item_of_call(a, items)
    launched = np.where(ops.call >= 0, item_of_call[ops.call], NOWHERE) if n_items else np.full(n_ops, NOWHERE)
    by_call, in_stream = np.flatnonzero(launched >= 0), np.flatnonzero(ops.previous >= 0)
    after = ops.start[in_stream] >= ops.end[ops.previous[in_stream]]
    in_stream, early = in_stream[after], in_stream[~after]
    streams = _Streams(a.trace, ops)
    waiting, awaited = streams.dependencies()
    blocked, ended = streams.returns(a, items, item_of_call, launched)
    pairs = {
        GAP: (called[follows], returned[before[follows]]),
        OWN: (returned, called),
        RETURN: (returned[blocked], done[ended]),
        LAUNCH: (begun[by_call], called[launched[by_call]]),
        QUEUE: (begun[in_stream], done[ops.previous[in_stream]]),
        DEPENDENCY: (begun[waiting], done[awaited]),
        RUN: (done, begun),
        EARLY: (begun[early], begun[ops.previous[early]]),
        COLLECTIVE: _between_ranks(a, ops, begun, done),
    }
    target, source = (np.concatenate([pair[side] for pair in pairs.values()]) for side in range(2))
    what = np.repeat(np.array(list(pairs), np.int8), [len(pair[0]) for pair in pairs.values()])
    fits = source < target
    target, source, what = target[fits], source[fits], what[fits]
    alone = np.flatnonzero(np.bincount(target, minlength=len(time)) == 0).astype(np.int32)
    target = np.concatenate([target, alone])
    source = np.concatenate([source, np.full(len(alone), NOWHERE, np.int32)])
    what = np.concatenate([what, np.full(len(alone), FIRST, np.int8)])
    first = np.r_[0, np.cumsum(np.bincount(target, minlength=len(time)))]
    order = _binding_first(np.argsort(target, kind="stable"), _lasting(time, target, source), first)
    return first, source[order], what[order], int(len(fits) - fits.sum())


def _between_ranks(a: Attributed, ops: _Ops, begun: Nodes, done: Nodes) -> tuple[Nodes, Nodes]:
    """(end on one rank, begin on another) of every collective all of whose ranks are in the trace."""
    place = _placed(np.arange(len(ops.row), dtype=np.int32), ops.row, len(a.trace.ops))
    ends, begins = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for rows in whole_collectives(a.trace.ops, a.trace.comms, a.host_devices):
        ranks = place[rows]
        for one, other in permutations(range(len(ranks)), 2):
            ends.append(done[ranks[one]])
            begins.append(begun[ranks[other]])
    return np.concatenate(ends), np.concatenate(begins)


def _lasting(time: Ints, target: Nodes, source: Nodes) -> Ints:
    """Between both ends of each edge, in ns; the time itself for those from nowhere."""
    return time[target] - np.where(source >= 0, time[source], 0)


@dataclass(frozen=True, slots=True)
class _Ops:
    """The operations of GPUs, in order of start; `row` is that of the table. `previous`: the one before in its stream."""

    row: Ints
    start: Ints
    end: Ints
    call: Ints
    lane: Ints
    previous: Ints
    lanes: Sequence[tuple[int, int | None, int | None, int | None]]

    @classmethod
    def of(cls, a: Attributed) -> _Ops:
        ops = a.trace.ops
        row = np.flatnonzero(~ops["device"].is_in(sorted(a.host_devices)).to_numpy())
        lanes = lanes_of(ops)
        lane = lanes.of[row].astype(np.int64)
        start, end = ops["start_ns"].to_numpy()[row], ops["end_ns"].to_numpy()[row]
        by_lane = np.argsort(lane, kind="stable")  # which keeps the order of start
        previous = np.full(len(row), NOWHERE)
        same = lane[by_lane[1:]] == lane[by_lane[:-1]]
        previous[by_lane[1:][same]] = by_lane[:-1][same]
        return cls(row, start, end, a.launches.call[row].astype(np.int64), lane, previous, lanes.known)


def _items(a: Attributed, marks: Sequence[tuple[int, tuple[int, int]]]) -> Items:
    calls = a.calls
    if len(calls):
        order = np.lexsort((-calls.end_ns, calls.start_ns, calls.thread))
        start, end, thread = calls.start_ns[order], calls.end_ns[order], calls.thread[order].astype(np.int64)
        span = int(end.max() - start.min()) + 1
        shifted = (end - int(start.min())) + thread * span  # a running maximum of each thread by itself
        reach = np.r_[-1, np.maximum.accumulate(shifted)[:-1]]
        outer = (start - int(start.min())) + thread * span >= reach
        start, end, thread, call = start[outer], end[outer], thread[outer], order[outer].astype(np.int64)
    else:
        start = end = thread = call = np.empty(0, np.int64)
    threads = {who: number for number, who in enumerate(calls.threads if len(calls) else [])}
    for _, who in marks:
        threads.setdefault(who, len(threads))
    at = np.array([instant for instant, _ in marks], np.int64)
    where = np.array([threads[who] for _, who in marks], np.int64)
    start, end = np.concatenate([start, at]), np.concatenate([end, at])
    thread = np.concatenate([thread, where])
    mark = np.concatenate([np.full(len(call), NOWHERE), np.arange(len(marks))])
    call = np.concatenate([call, np.full(len(marks), NOWHERE)])
    order = np.lexsort((mark, end, start, thread))
    process = np.array([pid for pid, _ in threads] or [0], np.int64)
    return Items(
        start[order], end[order], call[order], thread[order], process[thread[order]], mark[order], list(threads)
    )


def _preceding(items: Items) -> Ints:
    """For each item the one that it follows, or `NOWHERE`: the last of its thread to end, or of another, as the module says."""
    n = len(items.start)
    before = np.full(n, NOWHERE)
    if n == 0:
        return before
    same = np.flatnonzero(items.thread[1:] == items.thread[:-1]) + 1
    before[same] = same - 1
    ended = np.where(before >= 0, items.end[before], np.iinfo(np.int64).min)
    late = np.flatnonzero(items.start - OTHER_THREAD_NS > ended)
    for process in np.unique(items.process[late]).tolist():
        mine = np.flatnonzero(items.process == process)
        by_end = mine[np.argsort(items.end[mine], kind="stable")]
        asking = late[items.process[late] == process]
        place = np.searchsorted(items.end[by_end], items.start[asking], side="right") - 1
        found = by_end[np.maximum(place, 0)]
        better = (place >= 0) & (items.end[found] > ended[asking]) & (items.thread[found] != items.thread[asking])
        before[asking[better]] = found[better]
    return before


def _item_of_call(a: Attributed, items: Items) -> Ints:
    """For each call the item that it is, or that it lies in."""
    found = np.full(max(len(a.calls), 1), NOWHERE)
    real = np.flatnonzero(items.call >= 0)
    found[items.call[real]] = real
    inner = np.flatnonzero(found[: len(a.calls)] == NOWHERE)
    if len(inner):
        span = int(max(items.end.max(), a.calls.end_ns.max())) - int(items.start.min()) + 1
        low = int(items.start.min())
        keys = (items.start[real] - low) + items.thread[real] * span
        asked = (a.calls.start_ns[inner] - low) + a.calls.thread[inner].astype(np.int64) * span
        found[inner] = real[np.maximum(np.searchsorted(keys, asked, side="right") - 1, 0)]
    return found


class _Streams:
    """What streams wait for (cudaStreamWaitEvent), and what calls waited for."""

    def __init__(self, trace: Trace, ops: _Ops) -> None:
        self.trace, self.ops = trace, ops
        order, bounds = grouped_rows(ops.lane, len(ops.lanes))
        start = self._called_at()
        self.rows: dict[tuple[int | None, int | None, int | None], tuple[Ints, Ints]] = {}
        for number, (_, *stream) in enumerate(ops.lanes):
            rows = order[bounds[number] : bounds[number + 1]]
            if len(rows):
                later = np.argsort(start[rows], kind="stable")
                self.rows[tuple(stream)] = (rows[later], start[rows][later])  # type: ignore[index]

    def _called_at(self) -> Ints:
        called = self.trace.api["start_ns"].to_numpy()
        known = self.ops.call >= 0
        return np.where(known, called[np.maximum(self.ops.call, 0)] if len(called) else 0, self.ops.start)

    def last_before(self, stream: tuple[int | None, int | None, int | None], at: int) -> int:
        """The last operation launched to `stream` before `at`, or `NOWHERE`."""
        rows, place = self._place(stream, at)
        return int(rows[place - 1]) if place > 0 else NOWHERE

    def first_from(self, stream: tuple[int | None, int | None, int | None], at: int) -> int:
        """The first operation launched to `stream` at `at` or later, or `NOWHERE`."""
        rows, place = self._place(stream, at)
        return int(rows[place]) if place < len(rows) else NOWHERE

    def _place(self, stream: tuple[int | None, int | None, int | None], at: int) -> tuple[Ints, int]:
        """The operations of `stream`, and how many of them were launched before `at`."""
        none = np.empty(0, np.int64)
        rows, launched = self.rows.get(stream, (none, none))
        return rows, int(np.searchsorted(launched, at, side="left"))

    def dependencies(self) -> tuple[Ints, Ints]:
        """(operation, the one it waited for) by events, also where a stream only passed a wait on."""
        found = [pair for pair in self._told() if pair[0] != pair[1]]
        pairs = np.array(sorted(set(found)), np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def _told(self) -> Iterator[tuple[int, int]]:
        trace = self.trace
        if trace.events.is_empty() or trace.syncs.is_empty():
            return
        records = _with_call(trace.events, trace, ("EventRecord",))
        waits = _with_call(trace.syncs.drop_nulls(["event_id"]), trace, ("StreamWaitEvent",))
        steps = [(at, 0, key, stream) for at, key, stream in records] + [
            (at, 1, key, stream) for at, key, stream in waits
        ]
        states: dict[tuple[int, int, int], set[int]] = {}
        passed: dict[tuple[int | None, int | None, int | None], list[tuple[int, set[int]]]] = {}
        for at, what, key, stream in sorted(steps, key=lambda step: step[:2]):
            last = self.last_before(stream, at)
            since = self._since(last)
            passed[stream] = [(asked, works) for asked, works in passed.get(stream, ()) if asked >= since]
            merged = set().union(*(works for _, works in passed[stream]))
            if what == 0:
                states[key] = merged | ({last} if last >= 0 else set())
            elif key in states:
                works = states[key]
                passed[stream].append((at, works))
                following = self.first_from(stream, at)
                if following >= 0:
                    yield from ((following, work) for work in works if self.ops.lane[work] != self.ops.lane[following])

    def _since(self, op: int) -> int:
        if op < 0:
            return int(np.iinfo(np.int64).min)
        call = int(self.ops.call[op])
        return int(self.trace.api["start_ns"][call]) if call >= 0 else int(self.ops.start[op])

    def returns(self, a: Attributed, items: Items, item_of_call: Ints, launched: Ints) -> tuple[Ints, Ints]:
        """(item, operation whose end it returned after): synchronisations, cudaFree, copies that block."""
        blocked: list[tuple[int, int]] = []
        syncs = self.trace.syncs
        sync_of = {
            (pid, correlation): (context, stream, event, sync)
            for pid, correlation, context, stream, event, sync in syncs.select(
                "pid", "correlation", "context", "stream", "event_id", "event_sync_id"
            ).iter_rows()
        }
        names = self.trace.api["name"]
        distinct = distinct_values(names)
        code = names.to_physical().fill_null(0).to_numpy() if len(names) else np.empty(0, np.int64)
        frees = np.array(
            [name.startswith(("cudaFree", "cuMemFree", "hipFree")) and "Async" not in name for name in distinct], bool
        )
        waits = a.calls.kind == SYNC
        if len(distinct):
            waits = waits | frees[code]
        by_process: dict[int | None, list[tuple[int | None, int | None, int | None]]] = {}
        for stream in self.rows:
            by_process.setdefault(stream[0], []).append(stream)
        recorded: dict[tuple[int, int, int], tuple[int, tuple[int | None, int | None, int | None]]] = {}
        if not self.trace.events.is_empty():
            for at, key, stream in _with_call(self.trace.events, self.trace, ("EventRecord",)):
                recorded[key] = (at, stream)
        for call in np.flatnonzero(waits).tolist():
            item, at, pid = int(item_of_call[call]), int(a.calls.start_ns[call]), int(a.calls.pid[call])
            name = distinct[int(code[call])]
            context, stream, event, sync = sync_of.get((pid, int(a.calls.correlation[call])), (None,) * 4)
            if "Event" in name:
                known = recorded.get((pid, event, sync)) if event is not None and sync is not None else None
                asked = [] if known is None else [(known[1], known[0])]
            elif "Stream" in name and (pid, context, stream) in self.rows:
                asked = [((pid, context, stream), at)]
            elif "Stream" in name:
                asked = []
            else:
                asked = [(one, at) for one in by_process.get(pid, ())]
            blocked += [(item, last) for one, before in asked if (last := self.last_before(one, before)) >= 0]
        kind = a.calls.kind[np.maximum(self.ops.call, 0)] if len(a.calls) else np.zeros(len(self.ops.row), np.int8)
        pageable = (self.trace.ops["src_kind"] == "pageable") | (self.trace.ops["dst_kind"] == "pageable")
        own = (launched >= 0) & (kind == COPY)
        own &= pageable.fill_null(False).to_numpy()[self.ops.row] | (
            a.calls.synchronous[np.maximum(self.ops.call, 0)] if len(a.calls) else False
        )
        rows = np.flatnonzero(own & (items.end[np.maximum(launched, 0)] >= self.ops.end if len(items.end) else False))
        pairs = np.array(blocked, np.int64).reshape(-1, 2)
        return np.concatenate([pairs[:, 0], launched[rows]]), np.concatenate([pairs[:, 1], rows])


def _with_call(
    rows: pl.DataFrame, trace: Trace, words: tuple[str, ...]
) -> list[tuple[int, tuple[int, int, int], tuple[int, int, int]]]:
    """(time of the call, event, stream) of each of `rows` whose one call has a name with one of `words`."""
    found = calls_of(rows, trace, words, "at").select(
        "at", "pid", "event_id", pl.col("event_sync_id").fill_null(NOWHERE), "context", "stream"
    )
    return [
        (at, (pid, event, sync), (pid, context, stream)) for at, pid, event, sync, context, stream in found.iter_rows()
    ]


def _in_order(time: Ints, items: Items, ops: _Ops) -> Ints:
    """The nodes by time; at one instant operations end, then calls, then marks happen, then calls and operations begin."""
    short, none = items.end == items.start, ops.end == ops.start
    rank = [np.where(short, 2, 3), np.where(short, 2, 1), np.full(len(ops.start), 4), np.where(none, 4, 0)]
    ranks = np.concatenate(rank)
    key = (time - time.min(initial=0)) * 5 + ranks
    order = np.argsort(key, kind="stable")
    # Items that take no time: each starts and ends before the next one of that instant.
    places = np.flatnonzero(ranks[order] == 2)
    if len(places):
        nodes, n_items = order[places], len(items.start)
        order[places] = nodes[np.lexsort((nodes >= n_items, nodes % n_items, key[nodes]))]
    return order


def _binding_first(order: Ints, observed: Ints, first: Ints) -> Ints:
    """`order` of edges by their target, with that edge of each target in front that has the least time between both ends."""
    if len(order) == 0:
        return order
    times = observed[order]
    least = np.minimum.reduceat(times, first[:-1])
    several = np.flatnonzero((np.diff(first) > 1) & (times[first[:-1]] > least))
    order = order.copy()
    for behind in range(1, int(np.diff(first).max())):
        row = first[several] + behind
        inside = row < first[several + 1]
        several, row = several[inside], row[inside]
        here = times[row] == least[several]
        front = first[several[here]]
        order[front], order[row[here]] = order[row[here]], order[front].copy()
        several = several[~here]
    return order


def _weights(a: Attributed, graph: Graph) -> Ints:
    """What each edge takes, as the module says."""
    weight, bound = graph.observed, graph.first[:-1]
    slack = (graph.what != RUN) & (graph.what != EARLY)
    slack[bound] = False
    rows = np.flatnonzero(slack)
    usual = _medians(a, graph, weight, bound, rows)
    usual = np.where(usual >= 0, usual, np.array(USUAL_NS, np.int64)[graph.what[rows]])
    weight[rows] = np.minimum(weight[rows], usual)
    return _after_the_last_rank(graph, weight)


def _after_the_last_rank(graph: Graph, weight: Ints) -> Ints:
    """`weight` with every edge to the end of a paired collective as long as that from the rank that came last: until then the
    others only wait."""
    shared = np.zeros(len(graph.time), bool)
    shared[graph.target[graph.what == COLLECTIVE]] = True
    rows = np.flatnonzero(shared[graph.target])
    alike = weight.copy()
    alike[rows] = weight[graph.first[:-1][graph.target[rows]]]
    return alike


def class_medians(a: Attributed, graph: Graph, kinds: Sequence[int]) -> Ints:
    """The weights of `graph` with each edge of `kinds` at the median of the binding edges of its class."""
    chosen = np.isin(graph.what, kinds)
    bound, rows = graph.first[:-1], np.flatnonzero(chosen)
    usual = _medians(a, graph, graph.weight, bound[chosen[bound]], rows)
    weight = graph.weight.copy()
    weight[rows] = np.where(usual >= 0, usual, weight[rows])
    return weight


def _medians(a: Attributed, graph: Graph, weight: Ints, known: Ints, asked: Ints) -> Ints:
    """Of each edge that is `asked` about, the median `weight` of the `known` edges of its class; `NOWHERE` if there is none."""
    seen = pl.DataFrame({"class": _classes(a, graph, known), "ns": weight[known]})
    wanted = pl.DataFrame({"class": _classes(a, graph, asked)})
    found = wanted.join(seen.group_by("class").agg(pl.median("ns")), on="class", how="left", maintain_order="left")
    return found["ns"].fill_null(NOWHERE).round().cast(pl.Int64).to_numpy()


def _classes(a: Attributed, graph: Graph, edges: Ints) -> npt.NDArray[np.int32]:
    """A number for each of `edges`, equal for edges of one kind that lead to operations of one kind, or to calls of one name that
    launched operations of one kind: a copy in and a copy out are called the same."""
    target = graph.target[edges]
    of, of_item = graph.of[target], graph.kind[target] <= RETURNED
    sub = np.zeros(len(edges), np.int32)
    ops = a.trace.ops["kind"].to_physical().to_numpy().astype(np.int32)
    if len(graph.call):
        names = a.trace.api["name"].to_physical().fill_null(0).to_numpy()
        code = (names.astype(np.int32) + 1) * np.int32(len(KINDS) + 1)
        launched = np.flatnonzero(a.launches.call >= 0)
        code[a.launches.call[launched[::-1]]] += ops[launched[::-1]] + 1
        code = np.append(code, -1).astype(np.int32)  # marks have no name
        sub[of_item] = code[graph.call[of[of_item]]]
    sub[~of_item] = ops[of[~of_item]]
    return (sub + 1) * np.int32(len(EDGES)) + graph.what[edges]


def _placed(values: Ints | Nodes, at: Ints, count: int) -> Nodes:
    """`values` at these places of `count`, and `NOWHERE` at the others."""
    found = np.full(count, NOWHERE, np.int32)
    found[at] = values
    return found
