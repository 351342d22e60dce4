"""Device work of an nsys export: kernels, copies, memsets and whole graph launches as the table `ops`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from ..columns import in_slices, merged, places
from ..kernel_names import collectives
from ..model import BLOCK_LIMITS, GRID_LIMITS, KINDS, MEMORY_KINDS, block_code, grid_code, text_column
from .ids import DeviceMap, Hosts, coded, enum_numbers, memory_codes, name_codes
from .source import Source
from .usable import known, sane, timed

I32: Final = pl.Int32
I64: Final = pl.Int64
U32: Final = pl.UInt32

_COMMON: Final[Mapping[str, Any]] = {
    "start": I64,
    "end": I64,
    "deviceId": I32,
    "contextId": I32,
    "streamId": I64,
    "correlationId": U32,
    "globalPid": I64,
}

_GRID: Final = ("gridX", "gridY", "gridZ")
_BLOCK: Final = ("blockX", "blockY", "blockZ")

OP_TABLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "CUPTI_ACTIVITY_KIND_KERNEL": {
        **_COMMON,
        "demangledName": I64,
        "graphNodeId": I64,
        **dict.fromkeys((*_GRID, *_BLOCK), I32),
    },
    "CUPTI_ACTIVITY_KIND_MEMCPY": {
        **_COMMON,
        "bytes": I64,
        "copyKind": I32,
        "srcKind": I32,
        "dstKind": I32,
        "srcDeviceId": I32,
        "dstDeviceId": I32,
        "migrationCause": I32,
        "graphNodeId": I64,
    },
    "CUPTI_ACTIVITY_KIND_MEMSET": {**_COMMON, "bytes": I64, "memKind": I32, "graphNodeId": I64},
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": {**_COMMON, "graphId": I64},
}
"""The source tables of `ops` and the columns used of each."""

# CUpti_ActivityMemcpyKind in cupti_activity.h; array copies move device memory, so they count as device copies.
_COPY_NUMBERS: Final = {
    "CUDA_MEMCPY_KIND_HTOD": 1,
    "CUDA_MEMCPY_KIND_DTOH": 2,
    "CUDA_MEMCPY_KIND_HTOA": 3,
    "CUDA_MEMCPY_KIND_ATOH": 4,
    "CUDA_MEMCPY_KIND_ATOA": 5,
    "CUDA_MEMCPY_KIND_ATOD": 6,
    "CUDA_MEMCPY_KIND_DTOA": 7,
    "CUDA_MEMCPY_KIND_DTOD": 8,
    "CUDA_MEMCPY_KIND_HTOH": 9,
    "CUDA_MEMCPY_KIND_PTOP": 10,
    "CUDA_MEMCPY_KIND_UVM_HTOD": 11,
    "CUDA_MEMCPY_KIND_UVM_DTOH": 12,
    "CUDA_MEMCPY_KIND_UVM_DTOD": 13,
}
_COPY_LETTERS: Final = {"HTOD": "h2d", "DTOH": "d2h", "HTOA": "h2d", "ATOH": "d2h", "HTOH": "h2h", "PTOP": "p2p"}
_CAUSES: Final = {
    "CUDA_UNIFIED_MEMORY_MIGRATION_CAUSE_USER": 1,
    "CUDA_UNIFIED_MEMORY_MIGRATION_CAUSE_EVICTION": 4,
}
"""CUpti_ActivityUnifiedMemoryMigrationCause: what was asked for (cudaMemPrefetchAsync), and what only makes room. Any other
migration follows a fault, or the driver's guess at the next one."""
_WORDS: Final = ("memcpy", "prefetch", "migration", "eviction")
_COPIED, _ASKED_FOR, _FAULTED, _EVICTED = range(len(_WORDS))
"""What a copy is called, before its direction."""

_MANAGED, _UNKNOWN = (MEMORY_KINDS.index(kind) for kind in ("managed", "unknown"))
"""What the driver migrates is managed memory at both ends; recorders say "unknown"."""

_HOST_MEMORY: Final = ("pageable", "pinned")


def read_ops(
    source: Source,
    raw: dict[str, pl.DataFrame],
    hosts: Hosts,
    devices: DeviceMap,
    odd: Counter[str],
    left_out: Collection[str] = (),
) -> Any:
    """The table `ops` but its columns `left_out`, sorted by start, from the raw tables in `raw` (taken out of it to free memory).

    Rows without a usable interval or a device are dropped and counted in `odd`.
    """
    names: list[str] = []
    parts = []
    for table, build in _BUILDERS.items():
        frame = timed(raw.pop(table, pl.DataFrame(schema=dict(OP_TABLES[table]))), "ops", odd)
        frame = known(frame, "deviceId", "ops_without_device", odd, least=0)
        frame = sane(frame, "ops", odd)
        if frame.height:
            parts.append(_shared(frame, hosts).with_columns(build(source, frame, names, odd)))
    if not parts:
        return None
    frame = _joined(parts, {name: dtype for name, dtype in _PARTIAL.items() if name not in left_out})
    frame = devices.apply(frame, ("device", "src_device", "dst_device"))
    frame = known(frame, "device", "ops_without_device", odd)  # of several hosts, a row without a process is on none
    return frame.with_columns(
        coded("kind", frame.get_column("kind"), KINDS),
        _name_column(frame.get_column("name").to_numpy(), names),
        coded("src_kind", frame.get_column("src_kind"), MEMORY_KINDS),
        coded("dst_kind", frame.get_column("dst_kind"), MEMORY_KINDS),
    )


def _joined(parts: list[pl.DataFrame], types: Mapping[str, Any]) -> pl.DataFrame:
    """The columns `types` of all `parts`, sorted by start. Each is taken out of its parts, to hold no table twice."""
    first, rest = parts[0], parts[1:]
    if first.get_column("start_ns").is_sorted() and sum(p.height for p in rest) <= first.height // 4:
        return _merged(first, rest, types)
    order = _order(pl.concat([p.get_column("start_ns") for p in parts]))
    heights = [p.height for p in parts]
    columns = []
    for name, dtype in types.items():
        pieces = [
            p.drop_in_place(name) if name in p.columns else pl.repeat(None, height, dtype=dtype, eager=True)
            for p, height in zip(parts, heights, strict=True)
        ]
        whole = pl.concat([s.cast(dtype).alias(name) for s in pieces])
        columns.append(whole if order is None else whole.gather(order))
    return pl.DataFrame(columns)


def _merged(large: pl.DataFrame, rest: list[pl.DataFrame], types: Mapping[str, Any]) -> pl.DataFrame:
    """`large`, which is sorted, with the few rows of `rest` put where they belong."""
    if not rest:
        return large.select(
            (pl.col(name).cast(dtype) if name in large.columns else pl.lit(None, dtype)).alias(name)
            for name, dtype in types.items()
        )
    small = _joined(rest, types)
    rows = large.height + small.height
    at = places(large.get_column("start_ns").to_numpy(), small.get_column("start_ns").to_numpy())
    return pl.DataFrame(
        [
            merged(
                name,
                large.drop_in_place(name).cast(dtype) if name in large.columns else None,
                small.get_column(name),
                at,
                rows,
                dtype,
            )
            for name, dtype in types.items()
        ]
    )


_PARTIAL: Final = {
    "kind": pl.Int32,
    "device": pl.Int32,
    "context": pl.Int32,
    "stream": pl.Int64,
    "pid": pl.Int32,
    "start_ns": pl.Int64,
    "end_ns": pl.Int64,
    "correlation": pl.UInt32,
    "name": pl.Int32,
    "nbytes": pl.Int64,
    "src_kind": pl.Int32,
    "dst_kind": pl.Int32,
    "src_device": pl.Int32,
    "dst_device": pl.Int32,
    "graph_id": pl.Int64,
    "graph_node": pl.Int64,
    "grid": pl.Int64,
    "block": pl.Int32,
}


def _shared(frame: pl.DataFrame, hosts: Hosts) -> pl.DataFrame:
    return frame.select(
        pl.col("deviceId").alias("device"),
        pl.col("contextId").alias("context"),
        pl.col("streamId").alias("stream"),
        in_slices(frame, hosts.pid("globalPid")),
        pl.col("start").alias("start_ns"),
        pl.col("end").alias("end_ns"),
        pl.col("correlationId").cast(U32).alias("correlation"),
    )


def _kernels(source: Source, frame: pl.DataFrame, names: list[str], odd: Counter[str]) -> list[pl.Series]:
    codes, values, missing = name_codes(source, frame.get_column("demangledName"))
    odd["names_missing"] += missing
    comm = collectives(values)
    kinds = np.array([KINDS.index("comm" if v in comm else "compute") for v in values], dtype=np.int32)
    codes = codes.astype(np.int32)
    names.extend(values)  # kernels come first, so their codes are positions already
    return [
        pl.Series("kind", kinds[codes]),
        pl.Series("name", codes),
        *_graph_node(frame),
        _shape(frame, _GRID, GRID_LIMITS, grid_code).alias("grid"),
        _shape(frame, _BLOCK, BLOCK_LIMITS, block_code).cast(I32).alias("block"),
    ]


def _graph_node(frame: pl.DataFrame) -> list[pl.Series]:
    """Node of a graph; exports of 2021 write 0 where there is none."""
    if "graphNodeId" not in frame.columns:
        return []
    node = frame.get_column("graphNodeId").alias("graph_node")
    absent = node == 0
    return [node.set(absent.fill_null(False), None) if absent.any() else node]


def _shape(frame: pl.DataFrame, sides: Sequence[str], limits: Sequence[int], code: Callable[..., pl.Expr]) -> pl.Series:
    """Each kernel's grid or block in one integer; null where one of its `sides` is none that a GPU launches."""
    possible = [pl.col(name).is_between(1, most) for name, most in zip(sides, limits, strict=True)]
    packed = code(*(pl.col(name).cast(I64) for name in sides)).alias("shape")
    return in_slices(frame, pl.when(pl.all_horizontal(possible)).then(packed), np.int64)


def _copies(source: Source, frame: pl.DataFrame, names: list[str], odd: Counter[str]) -> list[pl.Series]:
    src, dst = memory_codes(source, frame.get_column("srcKind")), memory_codes(source, frame.get_column("dstKind"))
    numbers = enum_numbers(source, "ENUM_CUDA_MEMCPY_OPER", _COPY_NUMBERS)
    kinds = {n: KINDS.index(_COPY_LETTERS.get(name.rsplit("_", 1)[-1], "d2d")) for name, n in numbers.items()}
    kind = frame.get_column("copyKind").cast(pl.Int64).replace_strict(kinds, default=None, return_dtype=pl.Int32)
    if kind.null_count():
        odd["copies_of_unknown_kind"] += kind.null_count()
        kind = pl.select(pl.coalesce(kind, _kind_by_memory(src, dst))).to_series()
    migrated = (
        frame.get_column("copyKind").is_in([n for name, n in numbers.items() if "_UVM_" in name]).fill_null(False)
    )
    src, dst = (column.set((migrated & (column == _UNKNOWN)).fill_null(False), _MANAGED) for column in (src, dst))
    word = _words(source, frame, migrated)
    if word is not None:
        kind = kind.set(migrated & (kind == KINDS.index("d2d")), KINDS.index("p2p"))
    called = kind if word is None else word * len(KINDS) + kind
    distinct = sorted(called.unique().to_list())
    codes = {c: len(names) + i for i, c in enumerate(distinct)}
    names.extend(f"{_WORDS[c // len(KINDS)]} {KINDS[c % len(KINDS)]}" for c in distinct)
    if word is not None:
        pages = word.is_in((_FAULTED, _EVICTED)) & (kind != KINDS.index("p2p"))
        kind = kind.set(pages, KINDS.index("migration"))
    return [
        kind.alias("kind"),
        called.replace_strict(codes, return_dtype=pl.Int32).alias("name"),
        frame.get_column("bytes").alias("nbytes"),
        src.alias("src_kind"),
        dst.alias("dst_kind"),
        frame.get_column("srcDeviceId").alias("src_device"),
        frame.get_column("dstDeviceId").alias("dst_device"),
        *_graph_node(frame),
    ]


def _words(source: Source, frame: pl.DataFrame, migrated: pl.Series) -> pl.Series | None:
    """What each copy is called, a position in `_WORDS`; null if none of them is a migration."""
    if not migrated.any():
        return None
    numbers = enum_numbers(source, "ENUM_CUDA_UNIF_MEM_MIGRATION", _CAUSES)
    asked, evicted = ([n for name, n in numbers.items() if name.endswith(end)] for end in ("_USER", "_EVICTION"))
    cause = pl.col("migrationCause")
    by_cause = (
        pl.when(cause.is_in(asked)).then(_ASKED_FOR).when(cause.is_in(evicted)).then(_EVICTED).otherwise(_FAULTED)
    )
    word = pl.when(migrated).then(by_cause).otherwise(_COPIED).cast(pl.Int32)
    return frame.select(word.alias("word")).to_series()


def _kind_by_memory(src: pl.Series, dst: pl.Series) -> pl.Expr:
    host = [MEMORY_KINDS.index(k) for k in _HOST_MEMORY]
    from_host, to_host = pl.lit(src.is_in(host).fill_null(False)), pl.lit(dst.is_in(host).fill_null(False))
    kind = (
        pl.when(from_host & to_host)
        .then(KINDS.index("h2h"))
        .when(from_host)
        .then(KINDS.index("h2d"))
        .when(to_host)
        .then(KINDS.index("d2h"))
        .otherwise(KINDS.index("d2d"))
    )
    return kind.cast(pl.Int32)


def _memsets(source: Source, frame: pl.DataFrame, names: list[str], odd: Counter[str]) -> list[pl.Series]:
    names.append("memset")
    return [
        pl.repeat(KINDS.index("memset"), frame.height, dtype=pl.Int32, eager=True).alias("kind"),
        pl.repeat(len(names) - 1, frame.height, dtype=pl.Int32, eager=True).alias("name"),
        frame.get_column("bytes").alias("nbytes"),
        memory_codes(source, frame.get_column("memKind")).alias("dst_kind"),
        *_graph_node(frame),
    ]


def _graphs(source: Source, frame: pl.DataFrame, names: list[str], odd: Counter[str]) -> list[pl.Series]:
    names.append("graph launch")
    return [
        pl.repeat(KINDS.index("graph"), frame.height, dtype=pl.Int32, eager=True).alias("kind"),
        pl.repeat(len(names) - 1, frame.height, dtype=pl.Int32, eager=True).alias("name"),
        frame.get_column("graphId").alias("graph_id"),
    ]


_BUILDERS: Final = {
    "CUPTI_ACTIVITY_KIND_KERNEL": _kernels,
    "CUPTI_ACTIVITY_KIND_MEMCPY": _copies,
    "CUPTI_ACTIVITY_KIND_MEMSET": _memsets,
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": _graphs,
}


def _name_column(codes: Any, names: list[str]) -> pl.Series:
    distinct = {n: i for i, n in enumerate(dict.fromkeys(names))}
    if len(distinct) < len(names):  # a kernel may well be called "memset"
        codes = np.array([distinct[n] for n in names], dtype=np.int32)[codes]
    return text_column("name", codes, distinct)


def _order(start: pl.Series) -> Any:
    """The stable order by `start`, or null if it is in order. Concatenated sorted tables are numpy's best case."""
    return None if start.is_sorted() else np.argsort(start.to_numpy(), kind="stable")
