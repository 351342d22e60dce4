"""Read an nsys SQLite export (schemas 3.0.0 of 2022.4 to 3.25 and later) into the trace model.

Tables are created lazily by nsys, so any may be absent; columns are found by name and enum numbers by the export's own
ENUM tables. Only the tables named in this package are ever read. See ``nsys.source`` for how the file is opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import polars as pl

from ..columns import SLICE
from ..errors import InputError
from ..model import Meta, Trace, make_partial_trace
from .columns import integers
from .facts import (
    METRIC_COLUMNS,
    read_devices,
    read_diagnostics,
    read_gpu_metrics,
    read_meta,
    read_processes,
    read_threads,
)
from .graphs import read_graph_nodes
from .host import (
    HOST_TABLES,
    RECORD_COLUMNS,
    read_api,
    read_events,
    read_memory,
    read_osrt,
    read_overhead,
    read_ranges,
    read_syncs,
)
from .ids import DeviceMap, Hosts
from .ops import OP_TABLES, read_ops
from .schema import EVENT_TABLES, FACT_TABLES, SAMPLE_FRAMES, SAMPLES, is_nsys
from .source import Source

_COLUMNS: Final = {**OP_TABLES, **HOST_TABLES, "GPU_METRICS": METRIC_COLUMNS}
"""The columns that are read of each table of events."""


_EVENT_RECORDS: Final = "CUPTI_ACTIVITY_KIND_CUDA_EVENT"

_SOURCES: Final = {("ops", "graph_node"): "graphNodeId", ("api", "result"): "returnValue"}
"""Source columns of the model's columns that may be left out; the far end of a long row is the slowest to read."""


def read_nsys(path: Path, *, left_out: Collection[tuple[str, str]] = (), metrics: str = "") -> Trace:
    """The trace in nsys export `path`.

    Rows that cannot be used as recorded are dropped and counted in ``Trace.meta.anomalies``; tables that are absent
    are empty. Columns `left_out`, (table, column) pairs, are neither read nor kept, and of GPU metrics only those whose name
    matches the regular expression `metrics`. Raises `InputError` if `path` is
    missing, no SQLite file, truncated, corrupt, or no nsys export.
    """
    with Source(path) as source:
        if not is_nsys(source):
            raise InputError(
                f"{path} cannot be read as an nsys export: it is an SQLite database of something else; "
                "give the file that `nsys export --type sqlite` wrote"
            )
        return _read(source, left_out, metrics)


def _read(source: Source, left_out: Collection[tuple[str, str]], metrics: str) -> Trace:
    odd: Counter[str] = Counter()
    if "CUDA_GRAPH_NODE_EVENTS" in source.tables:
        left_out = [pair for pair in left_out if pair != ("ops", "graph_node")]
    unread = {_SOURCES[pair] for pair in left_out if pair in _SOURCES}
    raw = {
        table: integers(source, table, {c: t for c, t in columns.items() if c not in unread})
        for table, columns in _COLUMNS.items()
        if table in source.tables
    }
    ids = ("globalTid", "globalPid")
    hosts = Hosts.of(frame.get_column(c) for frame in raw.values() for c in ids if c in frame.columns)
    devices = DeviceMap.of(source, hosts)
    without = [column for table, column in left_out if table == "ops"]
    mine = {t: raw.pop(t) for t in OP_TABLES if t in raw}
    many = sum(frame.height for frame in mine.values()) >= _MANY
    with ThreadPoolExecutor(1) as beside:
        later = beside.submit(_ops_of, source.path, mine, hosts, devices, without) if many else None
        tables = _host_tables(source, raw, hosts, devices, odd, metrics)
        found, strange = later.result() if later else _ops(source, mine, hosts, devices, without)
    odd.update(strange)
    if found is not None:
        tables["ops"] = _with_process(found, tables["api"], odd)
        odd["devices_without_map"] += devices.unmapped(tables["ops"])
        if _EVENT_RECORDS in source.tables:
            tables["events"] = read_events(integers(source, _EVENT_RECORDS, RECORD_COLUMNS), hosts, devices, odd)
    tables["diagnostics"] = read_diagnostics(source)
    tables["devices"] = read_devices(source, hosts, devices, _distinct(tables, ["device"], ("ops", "syncs", "memory")))
    tables["processes"] = read_processes(source, hosts, _distinct(tables, ["pid"], ("ops", "api", "ranges", "osrt")))
    tables["threads"] = read_threads(source, hosts, _distinct(tables, ["pid", "tid"], ("api", "ranges", "osrt")))
    odd["cells_of_wrong_type"] += source.foreign_cells
    meta: Meta = read_meta(source, odd, (*EVENT_TABLES, *FACT_TABLES, SAMPLES, SAMPLE_FRAMES))
    return make_partial_trace(meta, tables, left_out)


_MANY: Final = 200_000
"""From this many operations on they are worked on in a thread and with a connection of their own."""


def _ops_of(
    path: Path, raw: dict[str, pl.DataFrame], hosts: Hosts, devices: DeviceMap, without: Collection[str]
) -> tuple[Any, Counter[str]]:
    with Source(path) as source:
        return _ops(source, raw, hosts, devices, without)


def _ops(
    source: Source, raw: dict[str, pl.DataFrame], hosts: Hosts, devices: DeviceMap, without: Collection[str]
) -> tuple[Any, Counter[str]]:
    """The table `ops` (null without any), and what was odd."""
    odd: Counter[str] = Counter()
    return read_ops(source, raw, hosts, devices, odd, without), odd


def _host_tables(
    source: Source, raw: dict[str, pl.DataFrame], hosts: Hosts, devices: DeviceMap, odd: Counter[str], metrics: str
) -> dict[str, pl.DataFrame]:
    """Every table of events but `ops` and `events`."""
    tables: dict[str, pl.DataFrame] = {}
    if "NVTX_EVENTS" in raw:
        tables["ranges"] = read_ranges(source, raw.pop("NVTX_EVENTS"), hosts, odd)
    if "OSRT_API" in raw:
        tables["osrt"] = read_osrt(source, raw.pop("OSRT_API"), hosts, odd)
    if "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION" in raw:
        tables["syncs"] = read_syncs(raw.pop("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION"), hosts, devices, odd)
    if "CUDA_GPU_MEMORY_USAGE_EVENTS" in raw:
        tables["memory"] = read_memory(source, raw.pop("CUDA_GPU_MEMORY_USAGE_EVENTS"), hosts, devices, odd)
    if "CUDA_GRAPH_NODE_EVENTS" in raw:
        tables["graph_nodes"] = read_graph_nodes(raw.pop("CUDA_GRAPH_NODE_EVENTS"), hosts, odd)
    if "GPU_METRICS" in raw:
        tables["gpu_metrics"] = read_gpu_metrics(source, raw.pop("GPU_METRICS"), odd, metrics)
    overhead = read_overhead(source, raw, hosts, odd)
    if overhead.height:
        tables["overhead"] = overhead
    tables["api"] = read_api(source, raw, hosts, odd)
    return tables


def _with_process(ops: pl.DataFrame, api: pl.DataFrame, odd: Counter[str]) -> pl.DataFrame:
    """`ops` with the only process that called CUDA where a row names none (old exports, unified memory)."""
    nameless = ops.get_column("pid").null_count()
    if not nameless:
        return ops
    callers = api.get_column("pid").drop_nulls().unique()
    odd["ops_without_process"] += nameless
    return ops.with_columns(pl.col("pid").fill_null(callers.item())) if callers.len() == 1 else ops


def _distinct(tables: dict[str, pl.DataFrame], columns: list[str], names: tuple[str, ...]) -> Any:
    """The distinct values (of one column) or tuples (of several) in those of the named tables that exist."""
    found: set[Any] = set()
    for name in names:
        if name in tables:
            for part in tables[name].select(columns).iter_slices(SLICE):
                packed = part.select(_packed(columns)).to_series()  # one integer hashes faster than two columns
                distinct: list[int] = packed.drop_nulls().unique().to_list()
                found.update((p >> 32, p & 0xFFFFFFFF) if len(columns) == 2 else (p,) for p in distinct)
    return {row[0] for row in found} if len(columns) == 1 else found


def _packed(columns: list[str]) -> pl.Expr:
    first = pl.col(columns[0]).cast(pl.Int64)
    return first if len(columns) == 1 else first * 2**32 + pl.col(columns[1])
