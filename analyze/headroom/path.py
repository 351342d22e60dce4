"""The critical path of a window: the chain of work and waits that led to its end, with the stage and cause of each piece.

What lies on it sets the pace: time saved elsewhere is not gained. It is one chain through host and devices, so its pieces add up
to the window's length, and busy time off the path is as free as idle time. Pieces are named as in the ledger: of a device by the
kind of its operation; of the host, and of what passes before an operation may begin, by the cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.model import KINDS
from ..attribution.attribute import Attributed
from ..attribution.stages import Thread
from ..intervals import Ints
from ..result import CAUSES, SCHEMAS
from .graph import BEGUN, COLLECTIVE, DEPENDENCY, DONE, EARLY, FIRST, LAUNCH, NOWHERE, QUEUE, RUN, Graph
from .iterations import Model, marked
from .replay import critical

HOST, WAIT = "host", "wait"
"""Categories of what is no device's work: the host's time, and what passes until an operation that could begin does."""

_CAUSE_OF: Final = {QUEUE: "queued", DEPENDENCY: "dependency", FIRST: "unknown"}

_EARLIER, _LAUNCH = (CAUSES.index(cause) for cause in ("earlier_launch", "launch_api"))

MOST: Final = 4_000_000
"""Calls and operations up to which there is a path: the graph of all of them takes 260 bytes for each, and a microsecond."""

Cells = tuple[Ints, Ints, Ints, Ints, Ints, Ints]
"""Device or `NOWHERE` (the host), stage code, kind or `NOWHERE` (nothing ran), cause or `NOWHERE`, start and end in ns."""

_COLUMNS: Final = ("device", "path", "kind", "cause", "start_ns", "end_ns")
_KEYS: Final = _COLUMNS[:4]


def critical_path(a: Attributed, m: Model | str) -> pl.DataFrame:
    """Table ``critical``: device (null: the host), stage, category, cause and ns of the path; it sums to the window's length.

    The window is that of all GPUs. Empty without a GPU's operations, without calls, and above `MOST` of both. `m` is its model,
    if there is one; that of a part is not asked.
    """
    summed = _pieces(a, m).group_by(_KEYS).agg((pl.col("end_ns") - pl.col("start_ns")).sum().alias("ns"))
    return _named(a, summed).sort(
        "ns", "stage", "category", "cause", "device", descending=[True, False, False, False, False]
    )


def critical_pieces(a: Attributed) -> pl.DataFrame:
    """The same as intervals in order of time: device, stage, category, cause, start_ns, end_ns. They fill the window."""
    return _named(a, _pieces(a)).sort("start_ns")


def _pieces(a: Attributed, m: Model | str = "") -> pl.DataFrame:
    empty = pl.DataFrame(schema=dict.fromkeys(_COLUMNS, pl.Int64))
    gpus = [span for span in a.spans if span.device not in a.host_devices]
    if not gpus or len(a.calls) == 0 or len(a.calls) + len(a.ops) > MOST:
        return empty
    start, end = min(span.start_ns for span in gpus), max(span.end_ns for span in gpus)
    graph = m.graph if not isinstance(m, str) and m.a is a else marked(a)[0]
    inside = np.flatnonzero((graph.kind == DONE) & (graph.time > start) & (graph.time <= end))
    if len(inside) == 0:
        return empty
    last = int(inside[np.argmax(graph.time[inside])])
    edge, begins, ends = critical(graph, graph.weight, graph.time, start, last)
    cells = [*_on_device(a, graph, edge, begins, ends), *_on_host(a, graph, edge, begins, ends, (start, end))]
    device, stage, *others = (np.concatenate(column) for column in zip(*cells, strict=True))
    columns = (device, a.stages.path_of_code(stage), *others)
    found = pl.DataFrame(dict(zip(_COLUMNS, columns, strict=True))).filter(pl.col("end_ns") > pl.col("start_ns"))
    ns = found.select((pl.col("end_ns") - pl.col("start_ns")).sum()).item()
    assert ns == end - start, "the pieces of a critical path add up to the window"
    return found


def _on_device(a: Attributed, graph: Graph, edge: Ints, begins: Ints, ends: Ints) -> Iterator[Cells]:
    """The pieces that lead to the start or the end of an operation."""
    target = graph.target[edge]
    rows = np.flatnonzero((graph.kind[target] == BEGUN) | (graph.kind[target] == DONE))
    what, op, begin, end = graph.what[edge[rows]], graph.of[target[rows]], begins[rows], ends[rows]
    stage, device = a.ops["stage"].to_numpy()[op].astype(np.int64), a.ops["device"].to_numpy()[op].astype(np.int64)
    kind = a.trace.ops["kind"].to_physical().to_numpy()[op].astype(np.int64)
    nothing = np.full(len(op), NOWHERE)

    def cells(chosen: npt.NDArray[np.bool_], kinds: Ints, cause: str | None, start: Ints, stop: Ints) -> Cells:
        causes = np.full(len(op), NOWHERE if cause is None else CAUSES.index(cause))
        return device[chosen], stage[chosen], kinds[chosen], causes[chosen], start[chosen], stop[chosen]

    early = what == EARLY  # what ran until then is the operation before
    source = graph.of[graph.source[edge[rows[early]]]]
    stage[early], kind[early], device[early] = (
        a.ops["stage"].to_numpy()[source],
        a.trace.ops["kind"].to_physical().to_numpy()[source],
        a.ops["device"].to_numpy()[source],
    )
    yield cells((what == RUN) | (what == COLLECTIVE) | early, kind, None, begin, end)
    call = a.launches.call[op]
    returned = np.clip(a.calls.end_ns[np.maximum(call, 0)], begin, end)
    yield cells(what == LAUNCH, nothing, "launch_api", begin, returned)
    yield cells(what == LAUNCH, nothing, "launch_latency", returned, end)
    for one, cause in _CAUSE_OF.items():
        yield cells(what == one, nothing, cause, begin, end)


def _on_host(
    a: Attributed, graph: Graph, edge: Ints, begins: Ints, ends: Ints, window: tuple[int, int]
) -> Iterator[Cells]:
    """The pieces that lead to a call or its end, and what the path leaves at both ends of the window, by what the thread did."""
    target = graph.target[edge]
    host = (graph.kind[target] != BEGUN) & (graph.kind[target] != DONE)
    thread = graph.thread[graph.of[target[host]]]
    begin, end = begins[host], ends[host]
    low, high = (int(begins[0]), int(ends[-1])) if len(edge) else (window[1], window[1])
    owner = _owner(a)
    thread = np.concatenate([[owner], thread, [owner]])
    begin = np.concatenate([[window[0]], begin, [max(high, window[0])]])
    end = np.concatenate([[min(low, window[1])], end, [window[1]]])
    states = a.host_states()
    for number in np.unique(thread).tolist():
        rows = np.flatnonzero((thread == number) & (end > begin))
        if len(rows):
            who: Thread = graph.threads[number]
            _, starts, stops, stage, _, cause, _ = states.walk(who, False, begin[rows], end[rows])
            nowhere = np.full(len(starts), NOWHERE)
            cause = np.where(cause == _EARLIER, _LAUNCH, cause)  # on the path no launch is another one's
            yield nowhere, stage.astype(np.int64), nowhere, cause.astype(np.int64), starts, stops


def _owner(a: Attributed) -> int:
    """Whose time counts where the path says nothing: the thread that owns the window, else the one that launched most."""
    owners = [span.owner for span in a.spans if span.owner in a.calls.threads]
    if owners and owners[0] is not None:
        return a.calls.threads.index(owners[0])
    return int(np.bincount(a.calls.thread).argmax())


def _named(a: Attributed, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with words in place of their codes, and their further columns as they are."""
    codes = rows.select(_KEYS).unique().rows()
    named = [
        (
            *code,
            None if device == NOWHERE else device,
            a.stages.path_names[path],
            KINDS[kind] if kind != NOWHERE else HOST if device == NOWHERE else WAIT,
            None if cause == NOWHERE else CAUSES[cause],
        )
        for code in codes
        for device, path, kind, cause in [code]
    ]
    words = {name: SCHEMAS["critical"][name] for name in ("device", "stage", "category", "cause")}
    schema = {**{f"_{name}": rows.schema[name] for name in _KEYS}, **words}
    table = pl.DataFrame(named, schema=schema, orient="row")
    joined = rows.rename({name: f"_{name}" for name in _KEYS}).join(table, on=[f"_{name}" for name in _KEYS])
    return joined.select(*words, *(name for name in rows.columns if name not in _KEYS))
