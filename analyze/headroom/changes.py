"""What a change does to the graph: other weights, edges that go, edges that come. Pure functions; nothing here knows an answer.

    host:STAGE         the host's own time in the stage is gone
    syncs              the host waits for the device once an iteration, at its end
    allocator          calls of the allocator take no time and wait for nothing
    comm               collectives take no time once the last rank has come
    kernels:STAGE:K    kernels of the stage run K times as fast
    graph:STAGE        the stage is one CUDA graph: one launch, and `Rates.node_ns` between its operations; what prepares batches
                       stays
    fuse:STAGE:BYTES   kernels of the stage become one that moves so many bytes as fast as the device's memory can
    copies:pinned      copies from and to pageable memory run at the link's rate, and still block
    copies:overlap     copies run at the link's rate on streams of their own, two batches in flight, and block nothing

STAGE is a stage's path, or the end of one, or `iteration`: all of it. Each change assumes what its words say, and that everything
else stays: kernels take as long as they did, and nothing else runs out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.errors import UsageError
from ...traces.faults import nearest
from ...traces.sums import MOST_SPAN
from ..attribution.attribute import Attributed
from ..attribution.calls import ALLOCATOR, COPY, SYNC
from ..attribution.stages import Stages
from ..intervals import Ints, cover, measured_before
from ..words import LOADER, percent
from .graph import (
    COLLECTIVE,
    DONE,
    EARLY,
    GAP,
    LAUNCH,
    NOWHERE,
    OWN,
    QUEUE,
    RETURN,
    RUN,
    USUAL_NS,
    Graph,
    Nodes,
)
from .iterations import Bounds, Pairs
from .rates import Rates
from .replay import replay

ALL: Final = "iteration"

IN_STREAM_ORDER: Final = r"Async|MemPool"
"""Calls of the allocator that a graph can hold (CUDA programming guide, Graph Memory Nodes), or that change only a pool."""

NAMED: Final = 3
"""Calls that a doubt names."""

GRAPHED: Final = 0.95
"""Of a stage's operations: where graphs launch that many, one more graph is no change."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Situation:
    """What changes look at. `host` and `bounds` are the iterations (`iterations.Model`), `static` the part of them that launch
    the same kernels (`iterations.static_share`)."""

    a: Attributed
    graph: Graph
    host: Pairs
    bounds: Bounds
    rates: Rates
    static: float | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """The graph as it would be, and what that assumes. `doubt` says why it may be further off than the replay is; empty: nothing
    does."""

    graph: Graph
    assumes: str
    doubt: str = ""


class Unknown(Exception):
    """This trace cannot say what a change would do; the text says why."""


def changed(said: str, situation: Situation) -> Changed:
    """The graph with one change, such as ``graph:STAGE``. Raises `UsageError` for one that is not known or names no stage."""
    name = next((one for one in CHANGES if said == one or said.startswith(f"{one}:")), None)
    if name is None:
        known = f"changes are {', '.join(CHANGES)}"
        raise UsageError(f"no change is called {said!r}{nearest(said, CHANGES, known)}")
    return CHANGES[name](situation, said[len(name) + 1 :])


def with_edges(graph: Graph, target: Nodes, source: Nodes, what: int, weight: Ints) -> Graph:
    """`graph` with more edges of one kind; those that would lead back in its order are left out."""
    fits = np.flatnonzero(source < target)
    fits = fits[np.argsort(target[fits], kind="stable")]
    target = target[fits]
    behind = graph.first[target + 1]
    added = np.bincount(target, minlength=len(graph.time))
    return replace(
        graph,
        first=graph.first + np.r_[0, np.cumsum(added)],
        source=np.insert(graph.source, behind, source[fits].astype(np.int32)),
        weight=np.insert(graph.weight, behind, weight[fits]),
        what=np.insert(graph.what, behind, np.int8(what)),
    )


def without(graph: Graph, gone: Mask) -> Graph:
    """`graph` without the edges that are `gone`. A node that would have none left keeps its first one."""
    kept = ~gone
    alone = np.flatnonzero(np.add.reduceat(kept.astype(np.int64), graph.first[:-1]) == 0)
    kept[graph.first[alone]] = True
    target = graph.target[kept]
    return replace(
        graph,
        first=np.r_[0, np.cumsum(np.bincount(target, minlength=len(graph.time)))],
        source=graph.source[kept],
        weight=graph.weight[kept],
        what=graph.what[kept],
    )


# -- which items, which operations -------------------------------------------------------------------------------------


def _items_in(s: Situation, stage: str) -> Mask:
    """Items that are calls in a range of `stage`, on its thread. Raises `UsageError` if no range is called so."""
    return _instances(s, stage) >= 0


def _instances(s: Situation, stage: str) -> Ints:
    """Of each item that is a call the range of `stage`, on its thread, or the iteration that it lies in, by number; `NOWHERE` for
    the others. Raises `UsageError` if no range is called so."""
    graph, found = s.graph, s.a.found
    start, end = graph.time[graph.called], graph.time[graph.returned]
    inside = np.full(len(start), NOWHERE)
    if stage in ("", ALL):
        return np.where(graph.call >= 0, _iterations(s), NOWHERE)
    rows = np.flatnonzero(_ranges_of(s, stage))
    for number, (pid, tid) in enumerate(s.a.calls.threads):
        mine = rows[(found.pid[rows] == pid) & (found.tid[rows] == tid)]
        here = np.flatnonzero(graph.thread == number)
        if len(mine) and len(here):
            highs = np.maximum.accumulate(found.end_ns[mine])
            place = _within(start[here], end[here], found.start_ns[mine], highs)
            inside[here] = np.where(place >= 0, mine[np.maximum(place, 0)], NOWHERE)
    return np.where(graph.call >= 0, inside, NOWHERE)


def _ranges_of(s: Situation, stage: str) -> Mask:
    """Of all ranges found those of `stage`. Raises `UsageError` if none is called so."""
    found = s.a.found
    named = _named(found, stage)
    if len(s.a.stages) == len(found):  # called as recorded, or folded
        named |= _named(s.a.stages, stage)
    if not named.any():
        known = sorted({path.rpartition("/")[2] for path in (*s.a.stages.paths, *found.paths)})
        raise UsageError(f"no stage is called {stage!r}{nearest(stage, known, '`aisp-trace analyze` lists them')}")
    return named


def _named(stages: Stages, stage: str) -> Mask:
    """Of all ranges those whose path is `stage`, or ends with it."""
    return _whose_path(stages, lambda path: path == stage or path.endswith(f"/{stage}"))


def _whose_path(stages: Stages, fits: Callable[[str], bool]) -> Mask:
    """Of all ranges those whose path `fits`; each path is asked about once."""
    paths = np.array([fits(path) for path in stages.paths], bool)
    return paths[stages.path_id] if len(stages) else np.zeros(0, bool)


def _iterations(s: Situation) -> Ints:
    """Of each item the number of the steady iteration that it lies in, or `NOWHERE`. They do not overlap each other."""
    lows, highs = np.array(s.host, np.int64).T
    return _within(s.graph.time[s.graph.called], s.graph.time[s.graph.returned], lows, highs)


def calls_in_iterations(s: Situation) -> Mask:
    """Items that are calls of an iteration."""
    return (_iterations(s) >= 0) & (s.graph.call >= 0)


def _within(start: Ints, end: Ints, lows: Ints, highs: Ints) -> Ints:
    """Of each [start, end] which [low, high] it lies in, or `NOWHERE`; `lows` and `highs` ascend."""
    place = np.searchsorted(lows, start, side="right") - 1
    return np.where((place >= 0) & (end <= highs[np.maximum(place, 0)]), place, NOWHERE)


def _calls(s: Situation, kinds: Sequence[int]) -> Mask:
    """Items that are calls of these classes."""
    call = s.graph.call
    return (call >= 0) & np.isin(s.a.calls.kind[np.maximum(call, 0)], kinds)


def _of_items(graph: Graph, items: Mask) -> Mask:
    """Edges that lead to the start or the end of one of `items`."""
    rows = np.flatnonzero(graph.to_host)
    found = np.zeros(graph.edges, bool)
    found[rows] = items[graph.of_target[rows]]
    return found


def _of_ops(graph: Graph, ops: Mask) -> Mask:
    """Edges that lead to the start or the end of one of `ops` (rows of the table)."""
    rows = np.flatnonzero(~graph.to_host)
    found = np.zeros(graph.edges, bool)
    found[rows] = ops[graph.of_target[rows]]
    return found


def _launched_by(s: Situation, items: Mask) -> Mask:
    """Operations (rows of the table) whose launching call is one of `items`, or lies in one."""
    graph = s.graph
    rows = np.flatnonzero(graph.what == LAUNCH)
    found = np.zeros(len(s.a.ops), bool)
    found[graph.of_target[rows[items[graph.of[graph.source[rows]]]]]] = True
    return found


def _kinds(s: Situation, *kinds: str) -> Mask:
    found: Mask = s.a.trace.ops["kind"].cast(pl.String).is_in(kinds).to_numpy()
    return found


def _closing(s: Situation) -> Mask:
    """Of each iteration and device the last item that waits for that device."""
    graph = s.graph
    edges = np.flatnonzero(graph.what == RETURN)
    item, op = graph.of_target[edges], graph.of[graph.source[edges]]
    iteration = _iterations(s)[item]
    key = iteration * (1 << 32) + s.a.ops["device"].to_numpy()[op]
    rows = np.flatnonzero(iteration >= 0)
    rows = rows[np.lexsort((-graph.time[graph.returned[item[rows]]], key[rows]))]
    _, at = np.unique(key[rows], return_index=True)
    closing = np.zeros(len(graph.call), bool)
    closing[item[rows[at]]] = True
    return closing


def _may_return(s: Situation, kinds: Sequence[int], closing: Mask) -> Mask:
    """Items of the iterations of these classes that need not wait: all but those that close an iteration."""
    return _calls(s, kinds) & (_iterations(s) >= 0) & ~closing


# -- the changes -------------------------------------------------------------------------------------------------------


def _host(s: Situation, stage: str) -> Changed:
    graph = s.graph
    mine = _of_items(graph, _items_in(s, stage))
    part = _part_in(s, graph.leads(GAP), None if stage in ("", ALL) else _ranges_of(s, stage))
    weight = np.where(mine & graph.leads(OWN), 0, _without_part(graph, part))
    return Changed(graph.reweighted(weight), f"the host needs no time in {stage or ALL}")


def _syncs(s: Situation, _: str) -> Changed:
    graph = s.graph
    free = _of_items(graph, _may_return(s, (SYNC,), _closing(s)))
    return Changed(
        without(graph, free & (graph.what == RETURN)), "the host waits for the device once per iteration, at its end"
    )


def _allocator(s: Situation, _: str) -> Changed:
    graph = s.graph
    mine = _of_items(graph, _calls(s, (ALLOCATOR,)))
    free = graph.reweighted(np.where(mine & (graph.what == OWN), 0, graph.weight))
    return Changed(without(free, mine & (graph.what == RETURN)), "nothing is allocated or freed; kernels run as before")


def _comm(s: Situation, _: str) -> Changed:
    graph = s.graph
    moving = graph.leads(RUN, COLLECTIVE) & _of_ops(graph, _kinds(s, "comm"))
    return Changed(
        graph.reweighted(np.where(moving, 0, graph.weight)),
        "collectives end when their last rank begins; ranks still wait for the slowest",
    )


def _kernels(s: Situation, words: str) -> Changed:
    stage, _, factor = words.rpartition(":")
    try:
        times = float(factor)
    except ValueError:
        times = 0.0
    if not times > 0:
        raise UsageError(f"kernels:{words} has no factor; write kernels:STAGE:2 for kernels that run twice as fast")
    graph = s.graph
    ops = _launched_by(s, _items_in(s, stage)) & _kinds(s, "compute")
    mine = (graph.what == RUN) & _of_ops(graph, ops)
    early = np.flatnonzero(graph.what == EARLY)  # as long as the kernel before runs
    mine[early] = ops[graph.of[graph.source[early]]]
    if graph.weight[mine].sum() / times > MOST_SPAN:
        raise UsageError(f"kernels:{words} makes kernels take longer than a recording can span; write a larger factor")
    weight = np.where(mine, np.rint(np.where(mine, graph.weight, 0) / times).astype(np.int64), graph.weight)
    told = f"kernels of {stage or ALL} run {times:g} times as fast"
    return Changed(graph.reweighted(weight), told, "kernels change")


def _graph(s: Situation, stage: str) -> Changed:
    graph, inside = s.graph, _items_in(s, stage)
    ops = _launched_by(s, inside)
    if ops.any() and _graphed(s)[ops].mean() >= GRAPHED:
        raise Unknown(f"CUDA graphs launch the work of {stage or ALL} already")
    closing = inside & _closing(s)
    host = _of_items(graph, inside & ~closing)
    gaps = host & graph.leads(GAP)
    prepares = _whose_path(s.a.found, lambda path: re.search(LOADER, path) is not None)
    preparing = _part_in(s, gaps, prepares)  # which no graph does
    here = 1.0 if stage in ("", ALL) else _part_in(s, gaps, prepares | _ranges_of(s, stage))
    left = _without_part(graph, here - preparing)
    weight = np.where(gaps, left, np.where(host & graph.leads(OWN), 0, graph.weight))
    first = _first_launches(s, inside)
    weight = np.where(_of_items(graph, first) & (graph.what == OWN), s.rates.call_ns, weight)
    mine = _of_ops(graph, ops)
    weight = np.where(mine & (graph.what == LAUNCH), np.minimum(weight, USUAL_NS[LAUNCH]), weight)
    within = mine & (graph.what == QUEUE) & _from_ops(graph, ops)
    weight = np.where(within, np.minimum(weight, s.rates.node_ns), weight)
    free = without(graph.reweighted(weight), host & (graph.what == RETURN))
    doubt = ""
    if s.static is not None and s.static < 1:
        doubt = (
            f"only {percent(s.static, 0)} of the iterations launch the same kernels, and a graph replays one sequence"
        )
    if called := _not_in_a_graph(s, inside):
        held = (
            f"{stage or ALL} calls {', '.join(called)}, which a graph cannot hold: allocate before it, or from a pool"
        )
        doubt = f"{doubt}; {held}" if doubt else held
    told = f"{stage or ALL} becomes one CUDA graph: the same operations, {s.rates.node_ns} ns apart"
    return Changed(free, f"{told}; batches are prepared as before" if preparing.any() else told, doubt)


def _graphed(s: Situation) -> Mask:
    """Operations (rows of the table) that a CUDA graph launched, recorded whole or node by node."""
    ops = s.a.trace.ops
    found: Mask = (ops["kind"] == "graph").to_numpy()
    return found | ops["graph_node"].is_not_null().to_numpy() if "graph_node" in ops.columns else found


def _part_in(s: Situation, gaps: Mask, ranges: Mask | None) -> npt.NDArray[np.float64]:
    """Of each edge that is one of `gaps` the part of it in which its thread was in one of these `ranges` (null: in an iteration);
    0 for the others. A gap leads to the next call, whose stage may have begun in the middle of it, or have nothing to do with
    what went before.

    calls  |launch|        gap        |copy|
    stage      |-- data ---|
    """
    graph, found = s.graph, s.a.found
    part = np.zeros(graph.edges)
    rows = np.flatnonzero(gaps & (graph.source != NOWHERE)) if ranges is None or ranges.any() else np.empty(0, np.int64)
    thread = graph.thread[graph.of_target[rows]]
    lows, highs = (np.array(side, np.int64) for side in zip(*s.host, strict=True))
    for number, (pid, tid) in enumerate(graph.threads):
        here = rows[thread == number]
        if ranges is not None:
            mine = ranges & (found.pid == pid) & (found.tid == tid)
            lows, highs = found.start_ns[mine], found.end_ns[mine]
        if len(lows) and len(here):
            inside = measured_before(cover(lows, highs))
            begun, ended = graph.time[graph.source[here]], graph.time[graph.target[here]]
            part[here] = (inside(ended) - inside(begun)) / np.maximum(ended - begun, 1)
    return part


def _without_part(graph: Graph, part: npt.NDArray[np.float64]) -> Ints:
    """The weights less this part of each; those of which no part goes stay to the nanosecond, however large they are."""
    return graph.weight - np.rint(graph.weight * part).astype(np.int64)


def _not_in_a_graph(s: Situation, inside: Mask) -> list[str]:
    """The names of the allocator's calls among the items `inside` that no graph can hold, those that are called most first. Calls
    in stream order (cudaMallocAsync) become nodes, and those on a pool as a whole leave no trace in a graph."""
    allocating = inside & _calls(s, (ALLOCATOR,))
    names = s.a.trace.api["name"].cast(pl.String)[s.graph.call[allocating]]
    counted = names.filter(~names.str.contains(IN_STREAM_ORDER)).value_counts(name="n")
    return [str(name) for name in counted.sort(["n", "name"], descending=[True, False])["name"].head(NAMED)]


def _fuse(s: Situation, words: str) -> Changed:
    stage, _, size = words.rpartition(":")
    nbytes = _bytes_of(size)
    if not stage or nbytes is None:
        raise UsageError(f"fuse:{words} needs the bytes that one pass reads and writes; write fuse:STAGE:64MiB")
    if s.rates.memory is None:
        raise Unknown("the bandwidth of the device's memory is not known")
    graph, instance = s.graph, _instances(s, stage)
    inside = instance >= 0
    ops = _launched_by(s, inside) & _kinds(s, "compute")
    rows = np.flatnonzero((graph.what == LAUNCH) & _of_ops(graph, ops))
    item, op = graph.of[graph.source[rows]], graph.of_target[rows]
    order = np.lexsort((graph.time[graph.target[rows]], instance[item]))
    item, op = item[order], op[order]
    _, at = np.unique(instance[item], return_index=True)
    first, others = np.zeros(len(ops), bool), np.zeros(len(inside), bool)
    first[op[at]] = True
    others[item] = True
    others[item[at]] = False
    roof = round(nbytes / s.rates.memory)
    if roof > MOST_SPAN:
        raise UsageError(f"fuse:{words} moves for longer than a recording can span; write the bytes of one pass")
    run = graph.what == RUN
    weight = np.where(run & _of_ops(graph, ops), 0, graph.weight)
    weight = np.where(run & _of_ops(graph, first), roof, weight)
    weight = np.where((graph.what == EARLY) & _of_ops(graph, ops), 0, weight)
    host = _of_items(graph, others) & graph.leads(GAP, OWN)
    device = _of_ops(graph, ops & ~first) & graph.leads(LAUNCH, QUEUE)
    told = f"kernels of {stage} become one that moves {size} at {s.rates.memory:,.0f} GB/s"
    return Changed(graph.reweighted(np.where(host | device, 0, weight)), told, "kernels change")


def _bytes_of(text: str) -> float | None:
    """The bytes that ``64MiB`` or ``2e9`` says; null for anything else, and for none."""
    from pydantic import ByteSize, TypeAdapter, ValidationError  # for this change alone

    try:
        value = float(text)
    except ValueError:
        try:
            value = TypeAdapter(ByteSize).validate_python(text)
        except ValidationError:
            return None
    return value if 0 < value < math.inf else None


def _from_ops(graph: Graph, ops: Mask) -> Mask:
    done = (graph.source >= 0) & (graph.kind[np.maximum(graph.source, 0)] == DONE)
    found = np.zeros(graph.edges, bool)
    found[done] = ops[graph.of[graph.source[done]]]
    return found


def _launching(graph: Graph, ops: Mask) -> Mask:
    """Items that launched one of `ops` (rows of the table)."""
    rows = np.flatnonzero(graph.what == LAUNCH)
    found = np.zeros(len(graph.call), bool)
    found[graph.of[graph.source[rows[ops[graph.of_target[rows]]]]]] = True
    return found


def _first_launches(s: Situation, inside: Mask) -> Mask:
    """Of each run of items that lie inside, on one thread, the first that launched something."""
    graph = s.graph
    launching = _launching(graph, np.ones(len(s.a.ops), bool))
    first = np.zeros(len(graph.call), bool)
    order = np.lexsort((graph.time[graph.called], graph.thread))
    runs = np.cumsum(~inside[order] | np.r_[True, graph.thread[order][1:] != graph.thread[order][:-1]])
    rows = np.flatnonzero((inside & launching)[order])
    _, at = np.unique(runs[rows], return_index=True)
    first[order[rows[at]]] = True
    return first


def _pinned(s: Situation, _: str) -> Changed:
    graph, ops = s.graph, _pageable(s)
    nbytes = s.a.trace.ops["nbytes"].fill_null(0).to_numpy()
    length = (s.a.trace.ops["end_ns"] - s.a.trace.ops["start_ns"]).to_numpy().astype(np.int64)
    for one in ("h2d", "d2h"):
        here = ops & _kinds(s, one)
        if here.any() and one not in s.rates.link:
            raise Unknown(
                f"the rate of pinned {one} copies is not known on this hardware; `aisp-trace capture --calibrate` measures it"
            )
        usual = np.rint(nbytes[here] / s.rates.link.get(one, 1.0))
        length[here] = np.minimum(usual, MOST_SPAN).astype(np.int64)  # a calibration may say anything
    mine = _of_ops(graph, ops)
    at_link = np.where(mine & (graph.what == RUN), length[np.where(mine, graph.of_target, 0)], graph.weight)
    weight = np.where(mine & (graph.what == LAUNCH), np.minimum(at_link, USUAL_NS[LAUNCH]), at_link)
    staging = _of_items(graph, _launching(graph, ops)) & (graph.what == OWN)  # pinned memory needs no copy on the host
    weight = np.where(staging, np.minimum(weight, s.rates.call_ns), weight)
    told = f"copies use pinned memory{_at_rate(s)}, and block where they did"
    return Changed(graph.reweighted(weight), told, _doubted_rate(s, ops))


def _at_rate(s: Situation) -> str:
    """How fast copies are, in words."""
    if not s.rates.link:
        return ""
    return f" at {max(s.rates.link.values()):.1f} GB/s ({s.rates.source})"


def _doubted_rate(s: Situation, pageable: Mask) -> str:
    return "" if s.rates.measured or not pageable.any() else "the link's rate was not measured on this hardware"


def _pageable(s: Situation) -> Mask:
    ops = s.a.trace.ops
    found: Mask = ((ops["src_kind"] == "pageable") | (ops["dst_kind"] == "pageable")).fill_null(False).to_numpy()
    return found & _kinds(s, "h2d", "d2h")


def _overlap(s: Situation, _: str) -> Changed:
    pinned = _pinned(s, "")
    graph = pinned.graph
    told = f"copies use pinned memory{_at_rate(s)} and streams of their own, two batches in flight, and block nothing"
    if not _kinds(s, "h2d", "d2h").any():
        return Changed(graph, told, pinned.doubt)
    closing = _closing(s)
    copying = _calls(s, (COPY,))
    free = _of_items(graph, _may_return(s, (COPY, SYNC), closing))
    weight = np.where(
        _of_items(graph, copying) & (graph.what == OWN), np.minimum(graph.weight, s.rates.call_ns), graph.weight
    )
    weight = np.where(free & (graph.what == OWN), np.minimum(weight, s.rates.call_ns), weight)
    kind = np.where(_kinds(s, "h2d"), 0, np.where(_kinds(s, "d2h"), 2, 1))
    queue = graph.what == QUEUE
    back = graph.of[np.maximum(graph.source, 0)]
    before, after = kind[np.where(queue, back, 0)], kind[np.where(queue, graph.of_target, 0)]
    serial = queue & (before != after) & ~((after == 1) & (before == 0)) & ~((after == 2) & (before == 1))
    graph = without(graph.reweighted(weight), (free & (graph.what == RETURN)) | serial)
    target, source = _in_flight(s, kind)
    usual = np.full(len(target), USUAL_NS[QUEUE])
    graph = with_edges(graph, graph.begun[target], graph.done[source], QUEUE, usual)
    ends, last = _last_of_each(s, kind, closing)
    usual = np.full(len(ends), USUAL_NS[RETURN])
    graph = with_edges(graph, graph.returned[ends], graph.done[last], RETURN, usual)
    return Changed(_both_ways(s, graph), told, pinned.doubt)


def _both_ways(s: Situation, graph: Graph) -> Graph:
    """`graph` with copies that take longer where they meet one the other way, as they do on a link that is used both ways.

    What they met when they were recorded is in their times already. How long they meet is taken from one replay: copies that
    take longer meet a little longer still, which is not followed further.
    """
    time, device = replay(graph), s.a.ops["device"].to_numpy()
    ways = {kind: _kinds(s, kind) & (graph.begun >= 0) for kind in ("h2d", "d2h")}
    longer = np.zeros(len(graph.begun), np.int64)
    for one in np.unique(device[ways["h2d"] | ways["d2h"]]).tolist():
        rows = {kind: np.flatnonzero(way & (device == one)) for kind, way in ways.items()}
        for kind, other in (("h2d", "d2h"), ("d2h", "h2d")):
            mine, theirs = rows[kind], rows[other]
            before, after = (_met(graph, at, mine, theirs) for at in (graph.time, time))
            slower = 1 / s.rates.duplex.get(kind, 1.0) - 1
            longer[mine] = np.rint(np.maximum(after - before, 0) * slower).astype(np.int64)
    running = graph.what == RUN
    return graph.reweighted(graph.weight + np.where(running, longer[np.where(running, graph.of_target, 0)], 0))


def _met(graph: Graph, time: Ints, mine: Ints, theirs: Ints) -> Ints:
    """For each operation of `mine`, ns during which one of `theirs` (rows of the table) ran, at these times of the nodes."""
    start, end = time[graph.begun[theirs]], time[graph.done[theirs]]
    order = np.argsort(start, kind="stable")
    return cover(start[order], end[order]).within(time[graph.begun[mine]], time[graph.done[mine]])


def _in_flight(s: Situation, kind: Ints) -> tuple[Ints, Ints]:
    """(operation, the one it follows): the one before of its engine, and for copies in, the work on the batch before the last."""
    rows = np.flatnonzero(s.graph.begun >= 0)
    device = s.a.ops["device"].to_numpy()[rows]
    targets, sources = [], []
    for one in np.unique(device).tolist():
        mine = rows[device == one]
        for engine in range(3):
            chain = mine[kind[mine] == engine]
            targets.append(chain[1:])
            sources.append(chain[:-1])
        entering = np.r_[True, kind[mine][1:] != kind[mine][:-1]] & (kind[mine] == 0)
        batch = np.cumsum(entering)
        working = np.flatnonzero(kind[mine] == 1)
        if len(working):
            last = np.full(int(batch.max(initial=0)) + 1, NOWHERE)
            last[batch[working]] = working
            first = np.flatnonzero(entering & (batch > 2))
            wanted = last[batch[first] - 2]
            known = wanted >= 0
            targets.append(mine[first[known]])
            sources.append(mine[wanted[known]])
    return np.concatenate([*targets, np.empty(0, np.int64)]), np.concatenate([*sources, np.empty(0, np.int64)])


def _last_of_each(s: Situation, kind: Ints, closing: Mask) -> tuple[Ints, Ints]:
    """(closing item, operation): of each iteration and engine the last operation that was launched before."""
    graph = s.graph
    rows = np.flatnonzero(graph.begun >= 0)
    called = s.a.launches.at_ns(rows, s.a.trace.ops, s.a.calls)
    items = np.flatnonzero(closing)
    ends, last = [], []
    for engine in range(3):
        mine = np.flatnonzero(kind[rows] == engine)
        mine = mine[np.argsort(called[mine], kind="stable")]
        place = np.searchsorted(called[mine], graph.time[graph.returned[items]], side="right") - 1
        ends.append(items[place >= 0])
        last.append(np.maximum.accumulate(rows[mine])[place[place >= 0]])
    return np.concatenate(ends), np.concatenate(last)


CHANGES: Final[Mapping[str, Callable[[Situation, str], Changed]]] = {
    "graph": _graph,
    "fuse": _fuse,
    "copies:overlap": _overlap,
    "copies:pinned": _pinned,
    "syncs": _syncs,
    "allocator": _allocator,
    "comm": _comm,
    "host": _host,
    "kernels": _kernels,
}
"""What `changed` knows, by what comes before the stage."""
