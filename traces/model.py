"""The trace model: one recording as typed polars tables.

Time is integer nanoseconds on the recording's own clock; intervals are half-open ``[start_ns, end_ns)``.
Tables are values: nothing edits them in place. Every table of a `Trace` has exactly the columns and types
declared here (`SCHEMAS`); a column typed `TEXT` is dictionary-encoded (``pl.Enum``) because traces repeat
few names many times. Absent information is null, an absent table is empty.

`pid` is the process id, plus ``2**24`` times the index of its host where one trace covers several hosts, so
that (pid, correlation) is always a safe key. Correlation ids alone collide between processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl

from .columns import SLICE
from .content import one_line
from .errors import InputError
from .sums import summable

TEXT: Final = "text"
"""Declared type of a dictionary-encoded text column; its polars dtype is ``pl.Enum`` of that column's own values."""

KINDS: Final = ("migration", "compute", "graph", "comm", "h2d", "d2h", "p2p", "d2d", "h2h", "memset")
"""What can occupy a device, in order of priority when several do at once (``analyze.ledger``). ``migration``: pages of unified
memory that move because somebody touches them, or make room; a kernel that runs meanwhile waits for them."""

COPY_KINDS: Final = ("h2d", "d2h", "p2p", "d2d", "h2h")
"""The kinds that are memory copies."""

MEMORY_KINDS: Final = (
    "pageable",
    "pinned",
    "device",
    "array",
    "managed",
    "device_static",
    "managed_static",
    "unknown",
)
"""CUPTI's CUpti_ActivityMemoryKind, in the order of nsys's ENUM_CUDA_MEM_KIND (0 = pageable, 1 = pinned)."""

MOST_BYTES: Final = 1 << 50
"""A byte count from here on (1 PiB) is none: no device has as much memory. Sums are kept in bounds by `sums`."""

MOST_CORRELATIONS: Final = 1 << 32
"""A correlation id from here on is none: CUPTI's are of 32 bits."""

RANGE_STYLES: Final = ("push_pop", "start_end")

STAGE_KINDS: Final = ("compute", "h2d", "d2h", "d2d", "p2p", "comm", "alloc", "host")
"""What a stage may say it does; the kinds that also appear in `KINDS` occupy a device."""

KIND_TYPE: Final = pl.Enum(KINDS)
MEMORY_TYPE: Final = pl.Enum(MEMORY_KINDS)
STYLE_TYPE: Final = pl.Enum(RANGE_STYLES)

SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {
    # What occupied a device. Sorted by (start_ns, op_id); op_id is the row's position.
    "ops": {
        "op_id": pl.Int64,
        "kind": KIND_TYPE,
        "device": pl.Int32,  # device index as in `devices`
        "context": pl.Int32,
        "stream": pl.Int64,
        "pid": pl.Int32,  # the process that launched it
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,  # >= start_ns; rows that were not are counted in Meta.anomalies
        "correlation": pl.UInt32,  # joins api.correlation within one pid; on a host device: the range_id
        "name": TEXT,  # demangled kernel name, or the copy's direction
        "nbytes": pl.Int64,  # null for kernels and graphs
        "src_kind": MEMORY_TYPE,  # copies only; for memsets `dst_kind` alone
        "dst_kind": MEMORY_TYPE,
        "src_device": pl.Int32,
        "dst_device": pl.Int32,
        "graph_id": pl.Int64,  # graph launches recorded whole
        "graph_node": pl.Int64,  # ops of a graph recorded node by node: the node of the graph that ran
        "grid": pl.Int64,  # a kernel's blocks in x, y and z, packed by `grid_code`; null where not recorded
        "block": pl.Int32,  # the threads of each block, packed by `block_code`; null where not recorded
    },
    # CUDA runtime and driver calls. Sorted by (start_ns, call_id); call_id is the row's position.
    "api": {
        "call_id": pl.Int64,
        "pid": pl.Int32,
        "tid": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "correlation": pl.UInt32,
        "name": TEXT,  # without the ABI suffix: cudaLaunchKernel, not cudaLaunchKernel_v7000
        "result": pl.Int32,  # 0 = success
    },
    # NVTX (or record_function) ranges of every domain. Sorted by (start_ns, longest first); range_id = position.
    "ranges": {
        "range_id": pl.Int64,
        "pid": pl.Int32,
        "tid": pl.Int32,
        "end_tid": pl.Int32,  # differs from tid where a start/end range crossed threads
        "domain": TEXT,  # "" is NVTX's default domain
        "name": TEXT,
        "category": TEXT,  # "" where none was given
        "nbytes": pl.Int64,  # the payload
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,  # null: still open when recording stopped
        "style": STYLE_TYPE,
    },
    # When and where the nodes of CUDA graphs were captured, one row a node that `ops.graph_node` may name.
    "graph_nodes": {
        "graph_node": pl.Int64,
        "pid": pl.Int32,
        "tid": pl.Int32,
        "time_ns": pl.Int64,  # of a clone (each executable graph has its own nodes): when its original was made
    },
    # What torch says of collectives, one row an op of kind `comm` that it says something of.
    "comms": {
        "device": pl.Int32,
        "stream": pl.Int64,
        "start_ns": pl.Int64,  # with device and stream: whose op it is
        "collective": TEXT,  # all_reduce, all_gather ... whatever the kernel is called
        "process_group": TEXT,
        "group_size": pl.Int32,  # ranks of the group
        "ranks": TEXT,  # "0, 1, 2"; null where not recorded or shortened
        "nbytes": pl.Int64,  # of the larger of input and output
        "seq": pl.Int64,  # its number within the group, which is the same on every rank; null where not recorded
    },
    # CUDA synchronisations as the recorder saw them (waits of the host, and stream waits).
    "syncs": {
        "pid": pl.Int32,
        "device": pl.Int32,
        "context": pl.Int32,
        "stream": pl.Int64,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "correlation": pl.UInt32,
        "event_id": pl.Int64,  # null where none
        "event_sync_id": pl.Int64,
    },
    # CUDA events as they were recorded into streams, one row a cudaEventRecord.
    "events": {
        "pid": pl.Int32,
        "device": pl.Int32,
        "context": pl.Int32,
        "stream": pl.Int64,
        "correlation": pl.UInt32,
        "event_id": pl.Int64,
        "event_sync_id": pl.Int64,  # with pid and event_id: which record a row of `syncs` waited for
    },
    # Operating-system calls of the host (only where the recorder was asked for them).
    "osrt": {
        "pid": pl.Int32,
        "tid": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "name": TEXT,
    },
    # Device and pinned memory taken from and given back to the driver, one row an instant.
    "memory": {
        "pid": pl.Int32,
        "device": pl.Int32,
        "time_ns": pl.Int64,
        "address": pl.UInt64,
        "nbytes": pl.Int64,
        "kind": MEMORY_TYPE,
        "is_free": pl.Boolean,
        "correlation": pl.UInt32,  # 0: not by a call (module statics)
    },
    # Hardware counters, sampled; `time_ns` is the START of the sample's interval, `value` an integer percent or count.
    "gpu_metrics": {
        "device": pl.Int32,
        "time_ns": pl.Int64,
        "metric": TEXT,
        "value": pl.Int64,
    },
    # Time the profiler (source "profiler") or the driver (source "driver") took from the program.
    "overhead": {
        "pid": pl.Int32,
        "tid": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "source": pl.Enum(("profiler", "driver")),
        "name": TEXT,
    },
    # What the recorder said about itself.
    "diagnostics": {
        "time_ns": pl.Int64,
        "severity": pl.String,  # info, warning, error
        "text": pl.String,
    },
    "devices": {
        "device": pl.Int32,
        "type": pl.Enum(("gpu", "host")),  # "host": a machine without a GPU, its ops are stage ranges
        "name": pl.String,
        "uuid": pl.String,
        "memory_bytes": pl.Int64,
        "memory_bytes_per_s": pl.Int64,  # the recorder's own figure for HBM
        "sm_count": pl.Int32,
        "compute_capability": pl.String,  # "9.0"
        "sm_clock_hz": pl.Int64,  # the clock of its processors at full speed
    },
    "processes": {
        "pid": pl.Int32,
        "host": pl.Int32,
        "os_pid": pl.Int32,
        "name": pl.String,
    },
    "threads": {
        "pid": pl.Int32,
        "tid": pl.Int32,
        "name": pl.String,
    },
}

TABLES: Final = tuple(SCHEMAS)


GRID_LIMITS: Final = (2**31 - 1, 2**16 - 1, 2**16 - 1)
"""The most blocks of a grid in x, y and z, of every GPU that CUDA runs on (CUDA C++ Programming Guide, technical
specifications per compute capability); 63 bits hold all three."""


def grid_code(x: Any, y: Any, z: Any) -> Any:
    """One integer for a grid, equal where all three are: of integers, or of polars columns and expressions."""
    return x + y * 2**31 + z * 2**47


BLOCK_LIMITS: Final = (2**10, 2**10, 2**6)
"""The most threads of a block in x, y and z, of the same source; 29 bits hold all three."""


def block_code(x: Any, y: Any, z: Any) -> Any:
    """One integer for a block, as `grid_code` has one for a grid."""
    return x + y * 2**11 + z * 2**22


@dataclass(frozen=True, slots=True)
class Meta:
    """Where a trace comes from and what it may lack.

    `capture` holds the recorder's own settings as text, `anomalies` counts rows that could not be used as
    recorded (keys are words such as ``ops_without_end``), `tables` names the source tables that were present, `unread` counts
    the rows of those that hold events and are not read.
    """

    file: str
    recorder: str  # "nsys" or "torch"
    recorder_version: str
    export_schema: str | None
    tables: tuple[str, ...] = ()
    capture: Mapping[str, str] = field(default_factory=dict)
    anomalies: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """One recording. Build it with `make_trace`, which fills and checks the tables."""

    def __repr__(self) -> str:
        meta = self.meta
        counted = f"{self.ops.height:,} ops, {self.api.height:,} calls, {self.ranges.height:,} ranges"
        return f"<Trace {one_line(meta.file[:80])}: {one_line(f'{meta.recorder} {meta.recorder_version}'[:60])}, {counted}>"

    meta: Meta
    ops: pl.DataFrame
    api: pl.DataFrame
    ranges: pl.DataFrame
    graph_nodes: pl.DataFrame
    comms: pl.DataFrame
    syncs: pl.DataFrame
    events: pl.DataFrame
    osrt: pl.DataFrame
    memory: pl.DataFrame
    gpu_metrics: pl.DataFrame
    overhead: pl.DataFrame
    diagnostics: pl.DataFrame
    devices: pl.DataFrame
    processes: pl.DataFrame
    threads: pl.DataFrame

    def table(self, name: str) -> pl.DataFrame:
        """The table called `name`; raises `KeyError` for a name outside `TABLES`."""
        if name not in SCHEMAS:
            raise KeyError(name)
        frame: pl.DataFrame = getattr(self, name)
        return frame


def empty(table: str) -> pl.DataFrame:
    """`table` without rows."""
    return pl.DataFrame(schema={c: pl.Enum([]) if t is TEXT else t for c, t in SCHEMAS[table].items()})


def text_column(name: str, codes: Any, values: Iterable[str]) -> pl.Series:
    """A `TEXT` column from integer codes (numpy, -1 = null) into distinct `values`."""
    import numpy as np

    codes = np.asarray(codes)
    dtype = pl.Enum(list(values))
    if len(dtype.categories) == 0:
        return pl.Series(name, [None] * len(codes), dtype=dtype)
    stored = np.empty(len(codes), pl.Series([], dtype=dtype).to_physical().to_numpy().dtype)
    nulls = False
    for first in range(0, len(codes), SLICE):
        part = codes[first : first + SLICE]
        nulls |= bool(part.min() < 0)
        np.maximum(part, 0, out=stored[first : first + SLICE], casting="unsafe")
    out = pl.Series(name, stored).cat.to(dtype)
    return out.set(pl.Series(codes < 0), None) if nulls else out


def make_trace(meta: Meta, **tables: pl.DataFrame) -> Trace:
    """A checked `Trace` from whichever tables exist.

    `ops`, `api` and `ranges` are put in their declared order and (re)numbered. Plain strings are encoded. Rows and byte counts
    whose sums would not fit 64 bits are dropped and counted in ``Meta.anomalies`` (`sums.summable`).
    Raises `InputError` for an unknown table, a missing column, or a column of another type.
    """
    return make_partial_trace(meta, tables, ())


def make_partial_trace(meta: Meta, tables: Mapping[str, pl.DataFrame], left_out: Collection[tuple[str, str]]) -> Trace:
    """As `make_trace`; `left_out` are (table, column) pairs that the trace lacks whether or not they are given."""
    unknown = sorted(set(tables) - set(SCHEMAS))
    if unknown:
        raise InputError(f"no table is called {unknown[0]!r}; tables are {', '.join(TABLES)}")
    frames = {name: _conform(name, tables[name], left_out) if name in tables else empty(name) for name in TABLES}
    frames, odd = summable(frames)
    if odd:
        counts = Counter(meta.anomalies) + Counter(odd)
        meta = replace(meta, anomalies=dict(sorted(counts.items())))
    frames["ops"] = _ordered(frames["ops"], "op_id", ["start_ns"])
    frames["api"] = _ordered(frames["api"], "call_id", ["start_ns"])
    frames["ranges"] = _ordered_ranges(frames["ranges"])
    return Trace(meta=meta, **frames)


def _conform(table: str, frame: pl.DataFrame, left_out: Collection[tuple[str, str]]) -> pl.DataFrame:
    schema = {c: t for c, t in SCHEMAS[table].items() if (table, c) not in left_out}
    row_id = {"ops": "op_id", "api": "call_id", "ranges": "range_id"}.get(table)
    if row_id is not None and row_id in schema and row_id not in frame.columns:
        frame = frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(row_id))
    missing = [c for c in schema if c not in frame.columns]
    if missing:
        raise InputError(f"table {table!r} lacks column {missing[0]!r}")
    columns = []
    for name, declared in schema.items():
        series = frame.get_column(name)
        if declared is TEXT:
            if series.dtype == pl.Null:
                series = series.cast(pl.String)
            if series.dtype == pl.String:
                series = series.cast(pl.Enum(series.drop_nulls().unique().sort()))
            if not isinstance(series.dtype, pl.Enum):
                raise InputError(f"column {table}.{name} holds {series.dtype}, not text")
        elif series.dtype != declared:
            try:
                series = series.cast(declared)
            except pl.exceptions.PolarsError as exc:
                raise InputError(f"column {table}.{name} holds {series.dtype}, not {declared}") from exc
        columns.append(series)
    return pl.DataFrame(columns)


def _ordered(frame: pl.DataFrame, row_id: str, keys: list[str]) -> pl.DataFrame:
    if not frame.get_column(keys[0]).is_sorted():
        frame = frame.sort(keys, maintain_order=True)
    return (
        frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(row_id)) if row_id in frame.columns else frame
    )


def _ordered_ranges(frame: pl.DataFrame) -> pl.DataFrame:
    frame = frame.sort(["start_ns", "end_ns"], descending=[False, True], nulls_last=False, maintain_order=True)
    return frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("range_id"))


def distinct_values(column: pl.Series) -> list[str]:
    """The dictionary of a `TEXT` column; its codes (``to_physical``) index it. May hold values that no row has."""
    if not isinstance(column.dtype, pl.Enum):
        raise TypeError(f"column {column.name!r} is {column.dtype}, not dictionary-encoded text")
    return column.dtype.categories.to_list()
