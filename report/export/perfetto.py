"""A trace and its analysis as a native Perfetto trace, for https://ui.perfetto.dev and the trace processor.

    process 4242 python
        thread 4242            ranges, CUDA calls and OS calls, nested as they were
    GPU 0: NVIDIA H100
        stream 7               ops; an arrow leads from the launching call to its (first) op
        stream 7 (overlap 2)   ops that overlap others of their stream
        window                 the time that was analysed, and with which selection
        idle                   the analysis's largest gaps, named by cause
        device memory in use   and other counters: pinned memory, copies by direction, GPU metrics

    critical path              what set the pace, piece by piece, on host and devices

Times are those of the recording, in exact nanoseconds. Should any be negative, which the format cannot say, all are
shifted alike so that the earliest is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import IO, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...analyze.attribution.launches import Calls, Launches, find_launches
from ...analyze.attribution.selection import chosen_stages
from ...analyze.attribution.stages import AMBIGUOUS_STAGE, NO_STAGE, ORPHAN_STAGE, find_stages
from ...analyze.document import selection_document
from ...analyze.headroom.path import critical_pieces
from ...analyze.intervals import Ints
from ...analyze.result import AMBIGUOUS, NONE, ORPHAN, Analysis, Choices
from ...traces.model import COPY_KINDS, Trace, distinct_values
from ...traces.output import Kind
from ..again import attributed_as, choices_of
from .counters import copy_rate
from .lanes import OPEN
from .packets import ARG_TEXTS, CATEGORIES, FIRST, NAMES, Arg, Packets, Slices

_SPECIAL: Final = {NO_STAGE: NONE, AMBIGUOUS_STAGE: AMBIGUOUS, ORPHAN_STAGE: ORPHAN}
MEMORY_SHOWN: Final = ("device", "pinned")
"""Groups of driver memory shown as counters. A module's own variables come with its code; nobody allocates them."""

PERFETTO: Final = Kind("Perfetto trace of aisp-trace", lambda head: head.startswith(FIRST))

_HOST_TABLES: Final = ("ranges", "api", "osrt")


def write_perfetto(
    trace: Trace,
    analysis: Analysis,
    out: IO[bytes],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write `trace` with the gaps of `analysis` to `out`; the number of events written.

    Ops find their stages by the choices that `analysis` was made with. `progress` is called, now and then, with how many events
    are written and how many are expected. Events are encoded and written piece by piece.
    """
    sizes = [2 * len(trace.table(t)) for t in ("ops", *_HOST_TABLES)]
    expected = sum(sizes) + len(trace.gpu_metrics)
    told = None if progress is None else (lambda done: progress(done, expected))
    packets = Packets(out, origin_ns=min(0, _instants(trace)[0]), progress=told)
    packets.begin()
    launches, paths = _launches(packets, trace, analysis.choices)
    call = launches.call
    launched = np.flatnonzero(call >= 0)
    with_ops, at = np.unique(call[launched], return_index=True)  # ops are sorted by start: the first of each call
    call_flow, op_flow = np.zeros(len(trace.api), np.int64), np.zeros(len(trace.ops), np.int64)
    call_flow[with_ops] = with_ops + 1
    op_flow[launched[at]] = with_ops + 1
    _write_threads(packets, trace, call_flow)
    _write_devices(packets, trace, analysis, paths, op_flow)
    _write_critical(packets, trace, analysis)
    return packets.events


def _launches(packets: Packets, trace: Trace, choices: Choices) -> tuple[Launches, Ints]:
    """The launch of each op, and the interned path of its stage."""
    hosts = set(trace.devices.filter(pl.col("type") == "host")["device"].to_list())
    domain, asked, across = choices_of(trace, choices)
    found = find_stages(trace, domain=domain, end_ns=max(0, _instants(trace)[1]))
    stages = chosen_stages(found, trace, asked, fold=choices.fold)
    launches = find_launches(trace, Calls.of(trace), stages, hosts, across=across)
    stage = launches.stage
    path = np.where(stage >= 0, stages.path_id[np.maximum(stage, 0)], stage) if len(stages) else stage
    distinct, which = np.unique(path, return_inverse=True)
    names = [stages.paths[p] if p >= 0 else _SPECIAL[p] for p in distinct.tolist()]
    return launches, np.array([packets.intern(ARG_TEXTS, n) for n in names], np.int64)[which]


def _write_threads(packets: Packets, trace: Trace, call_flow: Ints) -> None:
    rows = {table: rows_by(trace.table(table), "pid", "tid") for table in _HOST_TABLES}
    processes = dict(trace.processes.select("pid", "name").iter_rows())
    names = {(pid, tid): name for pid, tid, name in trace.threads.select("pid", "tid", "name").iter_rows()}
    begun: set[int] = set()
    for pid, tid in sorted({thread for table in rows.values() for thread in table}):
        if pid not in begun:
            packets.process(pid, processes.get(pid) or f"process {pid}")
            begun.add(pid)
        name = names.get((pid, tid)) or f"thread {tid}"
        track = packets.thread(pid, tid, name)
        here = {table: trace.table(table)[found[pid, tid]] for table, found in rows.items() if (pid, tid) in found}
        flow = call_flow[rows["api"][pid, tid]] if "api" in here else call_flow[:0]
        packets.slices(track, name, _host_slices(packets, here, flow), nest=True)


def _host_slices(packets: Packets, tables: Mapping[str, pl.DataFrame], flow: Ints) -> Slices:
    """The ranges, calls and OS calls of one thread."""
    parts = []
    for table, frame in tables.items():
        if table == "ranges":
            domain = frame["domain"].cast(pl.String).fill_null("").replace("", "default domain")
            category = packets.intern_column(CATEGORIES, domain)
        else:
            category = np.full(len(frame), packets.intern(CATEGORIES, "cuda" if table == "api" else "os"))
        parts.append(
            frame.select(
                "start_ns",
                pl.max_horizontal("start_ns", pl.col("end_ns").fill_null(OPEN)).alias("end_ns"),
                pl.Series("name", packets.intern_column(NAMES, frame["name"])),
                pl.Series("category", category),
                pl.Series("flow", flow if table == "api" else np.zeros(len(frame), np.int64)),
                *_numbers(frame, bytes="nbytes", correlation="correlation", result="result"),
                pl.Series("kind", _texts(packets, frame, "category")),
            )
        )
    merged = pl.concat(parts)
    numbers = [_number(merged[name]) for name in ("bytes", "correlation", "result")]
    kind = merged["kind"].to_numpy()
    return _slices(merged, *numbers, Arg("kind", kind, kind > 0, is_text=True))


def _write_devices(packets: Packets, trace: Trace, analysis: Analysis, paths: Ints, flow: Ints) -> None:
    known = {row["device"]: row for row in trace.devices.iter_rows(named=True)}
    streams = rows_by(trace.ops, "device", "pid", "context", "stream")
    used = {key[0] for key in streams}
    for counted in (trace.gpu_metrics, analysis.memory_timeline):
        used |= set(counted["device"].drop_nulls().unique().to_list())
    for device in sorted(used):
        row = known.get(device, {"type": "gpu", "name": ""})
        title = f"GPU {device}" if row["type"] == "gpu" else f"host device {device}"
        group = packets.group(f"{title}: {row['name']}" if row["name"] else title)
        own = {key: found for key, found in streams.items() if key[0] == device}
        for key, found in own.items():
            name = _stream_name(key, list(own))
            slices = _op_slices(packets, trace.ops[found], paths[found], flow[found])
            packets.slices(packets.child(group, name), name, slices, nest=False, arrives=True)
        windows = analysis.windows.filter(pl.col("device") == device)
        if len(windows):
            chosen = _window_slices(packets, windows, analysis.choices)
            packets.slices(packets.child(group, "window"), "window", chosen, nest=False)
        gaps = analysis.gaps.filter(pl.col("device") == device)
        if len(gaps):
            packets.slices(packets.child(group, "idle"), "idle", _gap_slices(packets, gaps), nest=False)
        _write_counters(packets, trace, analysis, device, group)


def _write_critical(packets: Packets, trace: Trace, analysis: Analysis) -> None:
    """The pieces of table ``critical``, where there are any."""
    if analysis.critical.is_empty():
        return
    a = attributed_as(analysis, trace)
    pieces = critical_pieces(a).with_columns(pl.coalesce("cause", "category").alias("name"))
    table = pieces.select(
        "start_ns",
        "end_ns",
        pl.Series("name", packets.intern_column(NAMES, pieces["name"])),
        pl.lit(packets.intern(CATEGORIES, "critical path"), dtype=pl.Int64).alias("category"),
        pl.lit(0, dtype=pl.Int64).alias("flow"),
        *_numbers(pieces, device="device"),
    )
    stage = _texts(packets, pieces, "stage")
    args = [Arg("stage", stage, stage > 0, is_text=True), _number(table["device"])]
    group = packets.group("critical path")
    packets.slices(packets.child(group, "critical path"), "critical path", _slices(table, *args), nest=False)


def _op_slices(packets: Packets, ops: pl.DataFrame, paths: Ints, flow: Ints) -> Slices:
    table = ops.select(
        "start_ns",
        "end_ns",
        pl.Series("name", packets.intern_column(NAMES, ops["name"].cast(pl.String).fill_null(ops["kind"]))),
        pl.Series("category", packets.intern_column(CATEGORIES, ops["kind"])),
        pl.Series("flow", flow),
        *_numbers(ops, bytes="nbytes", correlation="correlation", graph="graph_id", graph_node="graph_node"),
    )
    texts = {"kind": "kind", "from": "src_kind", "to": "dst_kind"}
    args = [Arg("stage", paths, np.ones(len(ops), bool), is_text=True)]
    for name, column in texts.items():
        values = _texts(packets, ops, column)
        args.append(Arg(name, values, values > 0, is_text=True))
    args += [_number(table[name]) for name in ("bytes", "correlation", "graph", "graph_node")]
    return _slices(table, *args)


def _window_slices(packets: Packets, windows: pl.DataFrame, choices: Choices) -> Slices:
    """The time that was accounted for, with what was selected as its details."""
    table = windows.select(
        "start_ns",
        "end_ns",
        pl.lit(packets.intern(NAMES, "window"), dtype=pl.Int64).alias("name"),
        pl.lit(packets.intern(CATEGORIES, "window"), dtype=pl.Int64).alias("category"),
        pl.lit(0, dtype=pl.Int64).alias("flow"),
    )
    chosen = selection_document(choices)
    asked = chosen["window"]
    chosen["window"] = f"{asked['start_ns']}:{asked['end_ns']}" if isinstance(asked, dict) else asked
    chosen["domain"] = choices.domain or "default domain"
    everywhere = np.ones(len(windows), bool)
    args = [
        Arg(name, np.full(len(windows), packets.intern(ARG_TEXTS, str(value))), everywhere, is_text=True)
        for name, value in chosen.items()
        if value is not None
    ]
    return _slices(table, *args)


def _gap_slices(packets: Packets, gaps: pl.DataFrame) -> Slices:
    table = gaps.select(
        "start_ns",
        "end_ns",
        pl.Series("name", packets.intern_column(NAMES, gaps["cause"])),
        pl.lit(packets.intern(CATEGORIES, "idle"), dtype=pl.Int64).alias("category"),
        pl.lit(0, dtype=pl.Int64).alias("flow"),
    )
    texts = {name: _texts(packets, gaps, name) for name in ("stage", "opened_by")}
    return _slices(table, *(Arg(name, values, values > 0, is_text=True) for name, values in texts.items()))


def _write_counters(packets: Packets, trace: Trace, analysis: Analysis, device: int, group: int) -> None:
    memory = analysis.memory_timeline.filter(pl.col("device") == device)
    for kind in MEMORY_SHOWN:
        mine = memory.filter(pl.col("kind") == kind)
        if len(mine):
            track = packets.counter_track(group, f"{kind} memory in use", "bytes")
            packets.counter(track, mine["time_ns"].to_numpy(), mine["in_use_bytes"].to_numpy())
    copies = trace.ops.filter((pl.col("device") == device) & pl.col("kind").cast(pl.String).is_in(COPY_KINDS))
    for kind in copies["kind"].cast(pl.String).unique().sort().to_list():
        time, rate = copy_rate(copies.filter(pl.col("kind") == kind))
        if len(time):
            packets.counter(packets.counter_track(group, f"{kind} copies", "bytes/s"), time, rate)
    samples = trace.gpu_metrics.filter((pl.col("device") == device) & pl.col("value").is_not_null())
    for (code,), found in rows_by(samples.select(pl.col("metric").to_physical()), "metric").items():
        if code >= 0:
            mine = samples[found].sort("time_ns", maintain_order=True)
            name = distinct_values(samples["metric"])[code]
            packets.counter(packets.counter_track(group, name), mine["time_ns"].to_numpy(), mine["value"].to_numpy())


def rows_by(frame: pl.DataFrame, *keys: str) -> dict[tuple[int, ...], npt.NDArray[np.intp]]:
    """Positions of the rows of each combination of the integer columns `keys`, in order of both; null counts as -1."""
    columns = [frame[key].cast(pl.Int64).fill_null(-1).to_numpy() for key in keys]
    if len(frame) == 0:
        return {}
    rows = np.lexsort(columns[::-1])
    changed = np.flatnonzero(np.any([np.diff(column[rows]) != 0 for column in columns], axis=0)) + 1
    groups = np.split(rows, changed)
    return {tuple(int(column[group[0]]) for column in columns): group for group in groups}


def _slices(table: pl.DataFrame, *args: Arg) -> Slices:
    start, end, name, category, flow = (
        table[c].cast(pl.Int64).to_numpy() for c in ("start_ns", "end_ns", "name", "category", "flow")
    )
    return Slices(start, end, name, category, flow, args)


def _numbers(frame: pl.DataFrame, **columns: str) -> list[pl.Expr]:
    """Columns of `frame` under the name they are shown by; all null where it has no such column."""
    return [
        (pl.col(column) if column in frame.columns else pl.lit(None)).cast(pl.Int64).alias(name)
        for name, column in columns.items()
    ]


def _number(column: pl.Series) -> Arg:
    return Arg(column.name, column.fill_null(0).to_numpy(), column.is_not_null().to_numpy())


def _texts(packets: Packets, frame: pl.DataFrame, column: str) -> Ints:
    """The interned texts of a column, 0 where it is null, empty or absent."""
    if column not in frame.columns:
        return np.zeros(len(frame), np.int64)
    return packets.intern_column(ARG_TEXTS, frame[column].cast(pl.String).replace("", None))


def _stream_name(key: tuple[int, ...], all_keys: Sequence[tuple[int, ...]]) -> str:
    """``stream 7``, with the process and the context where streams of several share the device."""
    _, pid, context, stream = key
    name = f"stream {stream}" if stream >= 0 else "no stream"
    if len({k[1] for k in all_keys}) > 1:
        name += f" of process {pid}"
    if len({k[2] for k in all_keys if k[1] == pid}) > 1:
        name += f", context {context}"
    return name


def _instants(trace: Trace) -> tuple[int, int]:
    """The first and last time in any table that is exported; (0, 0) for an empty trace."""
    columns = [trace.table(t)[c] for t in ("ops", *_HOST_TABLES) for c in ("start_ns", "end_ns")]
    columns += [trace.table(t)["time_ns"] for t in ("gpu_metrics", "memory")]
    columns = [c.drop_nulls() for c in columns]
    low = min((int(c.min()) for c in columns if len(c)), default=0)  # type: ignore[arg-type]
    return low, max((int(c.max()) for c in columns if len(c)), default=0)  # type: ignore[arg-type]
