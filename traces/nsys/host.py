"""What the host did in an nsys export: API calls, NVTX ranges, OS calls, synchronisations, memory events, overhead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl

from ..columns import in_slices
from ..kernel_names import call_name
from ..model import MEMORY_KINDS, MOST_BYTES, RANGE_STYLES, text_column
from ..sums import LATEST_NS
from .ids import UNNAMED, DeviceMap, Hosts, coded, enum_numbers, memory_codes, name_codes, name_column
from .ops import I32, I64, U32
from .source import Source
from .usable import known, sane, timed

_CALL: Final[Mapping[str, Any]] = {"start": I64, "end": I64, "globalTid": I64, "nameId": I64}

HOST_TABLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "CUPTI_ACTIVITY_KIND_RUNTIME": {**_CALL, "correlationId": U32, "returnValue": I32},
    "CUPTI_ACTIVITY_KIND_DRIVER": {**_CALL, "correlationId": U32, "returnValue": I32},
    "NVTX_EVENTS": {
        "rowid": I64,
        "start": I64,
        "end": I64,
        "eventType": I32,
        "globalTid": I64,
        "endGlobalTid": I64,
        "textId": I64,
        "domainId": I64,
        "category": I64,
        "int64Value": I64,
        "uint64Value": I64,
        "uint32Value": I64,
        "int32Value": I64,
    },
    "OSRT_API": _CALL,
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": {
        "start": I64,
        "end": I64,
        "deviceId": I32,
        "contextId": I32,
        "streamId": I64,
        "correlationId": U32,
        "globalPid": I64,
        "eventId": I64,
        "eventSyncId": I64,
    },
    "CUDA_GPU_MEMORY_USAGE_EVENTS": {
        "start": I64,
        "globalPid": I64,
        "deviceId": I32,
        "address": I64,
        "bytes": I64,
        "memKind": I32,
        "memoryOperationType": I32,
        "correlationId": U32,
    },
    "CUDA_GRAPH_NODE_EVENTS": {"start": I64, "globalTid": I64, "graphNodeId": I64, "originalGraphNodeId": I64},
    "PROFILER_OVERHEAD": _CALL,
    "CUPTI_ACTIVITY_KIND_OVERHEAD": {**_CALL, "overheadType": I32},
}
"""The source tables of this module and the columns used of each."""

RECORD_COLUMNS: Final[Mapping[str, Any]] = {
    "deviceId": I32,
    "contextId": I32,
    "streamId": I64,
    "correlationId": U32,
    "globalPid": I64,
    "eventId": I64,
    "eventSyncId": I64,
}
"""The columns used of CUPTI_ACTIVITY_KIND_CUDA_EVENT."""

# NVTX event types of ENUM_NSYS_EVENT_TYPE that matter here; marks and destroyed domains do not.
_EVENTS: Final = {
    "NvtxCategory": 33,
    "NvtxPushPopRange": 59,
    "NvtxStartEndRange": 60,
    "NvtxtPushPopRange": 70,
    "NvtxtStartEndRange": 71,
    "NvtxDomainCreate": 75,
}
_RANGE_STYLE: Final = {
    "NvtxPushPopRange": "push_pop",
    "NvtxtPushPopRange": "push_pop",
    "NvtxStartEndRange": "start_end",
    "NvtxtStartEndRange": "start_end",
}

_NO_ID: Final = 0xFFFFFFFF
"""CUPTI_SYNCHRONIZATION_INVALID_VALUE: no event, or all streams."""

# CUpti_ActivityOverheadKind values that are the driver's own work rather than CUPTI's.
_DRIVER_OVERHEAD: Final = (
    "Driver Compiler",
    "Lazy Function Loading",
    "Command Buffer Full",
    "Runtime Triggered Module Loading",
    "Activity Lazy Function Loading",
    "UVM Activity Init",
)


def read_api(source: Source, raw: dict[str, pl.DataFrame], hosts: Hosts, odd: Counter[str]) -> pl.DataFrame:
    """The table `api`: runtime and driver calls, without the suffixes of their ABI versions."""
    tables = [raw.pop(t) for t in ("CUPTI_ACTIVITY_KIND_RUNTIME", "CUPTI_ACTIVITY_KIND_DRIVER") if t in raw]
    frame = (
        timed(pl.concat(tables, how="vertical_relaxed"), "api", odd)
        if tables
        else pl.DataFrame(schema=dict(HOST_TABLES[_RUNTIME]))
    )
    frame = sane(known(frame, "globalTid", "api_without_thread", odd), "api", odd)
    names, missing = name_column(source, "name", frame.get_column("nameId"), call_name)
    odd["names_missing"] += missing
    table = frame.select(
        in_slices(frame, hosts.pid("globalTid")),
        in_slices(frame, hosts.tid("globalTid")),
        pl.col("start").alias("start_ns"),
        pl.col("end").alias("end_ns"),
        pl.col("correlationId").cast(U32).alias("correlation"),
        names,
        *([pl.col("returnValue").alias("result")] if "returnValue" in frame.columns else []),
    )
    del frame
    start = table.get_column("start_ns")
    return table if start.is_sorted() else table[np.argsort(start.to_numpy(), kind="stable")]


_RUNTIME: Final = "CUPTI_ACTIVITY_KIND_RUNTIME"


def read_ranges(source: Source, events: pl.DataFrame, hosts: Hosts, odd: Counter[str]) -> pl.DataFrame:
    """The table `ranges` from all NVTX rows. An open range has no end; one that ends before it starts is dropped.

    Exports of 2021 have no nulls: a text that is not there is empty, a number 0.
    """
    numbers = enum_numbers(source, "ENUM_NSYS_EVENT_TYPE", _EVENTS)
    styles = {numbers[n]: RANGE_STYLES.index(s) for n, s in _RANGE_STYLE.items()}
    texts = source.texts("NVTX_EVENTS", "rowid", "text")
    registered = (
        set(events.filter(pl.col("textId") > 0).get_column("rowid").to_list()) if "" in texts.values() else set()
    )
    texts = {row: text for row, text in texts.items() if text or row not in registered}
    events = events.with_columns(
        hosts.pid("globalTid"),
        hosts.tid("globalTid"),
        pl.when(pl.col("endGlobalTid") != 0).then(hosts.tid("endGlobalTid")).alias("end_tid"),
        pl.when(pl.col("end") != 0).then("end").alias("end"),
        pl.col("domainId").fill_null(0),
    )
    domains = _named(source, events.filter(pl.col("eventType") == numbers["NvtxDomainCreate"]), texts, ["domainId"])
    categories = _named(
        source, events.filter(pl.col("eventType") == numbers["NvtxCategory"]), texts, ["domainId", "category"]
    )
    frame = known(events.filter(pl.col("eventType").is_in(list(styles))), "globalTid", "ranges_without_thread", odd)
    backwards = (pl.col("end") < pl.col("start")).fill_null(False)
    strange = (pl.col("start") <= -LATEST_NS) | (pl.max_horizontal("start", "end") >= LATEST_NS)
    lost = pl.col("start").is_null() | strange.fill_null(False)
    counts = frame.select(
        ranges_end_before_start=backwards.sum(),
        ranges_without_start=pl.col("start").is_null().sum(),
        ranges_out_of_range=(lost & pl.col("start").is_not_null() & ~backwards).sum(),
        ranges_unclosed=(pl.col("end").is_null() & ~lost).sum(),
    ).row(0, named=True)
    for why, count in counts.items():
        odd[why] += count
    frame = frame.filter(~backwards & ~lost)
    said = ("int64Value", "uint64Value", "uint32Value", "int32Value")
    payload = pl.coalesce(*(pl.when(pl.col(name) != 0).then(name) for name in said), *said)
    return frame.select(
        "pid",
        "tid",
        pl.coalesce("end_tid", "tid").alias("end_tid"),
        _keyed("domain", frame, domains, ["pid", "domainId"], lambda key: "" if key[1] == 0 else f"domain {key[1]}"),
        _range_names(source, frame, texts, odd),
        _keyed("category", frame, categories, ["pid", "domainId", "category"], lambda key: str(key[2] or "")),
        pl.when((payload >= 0) & (payload < MOST_BYTES)).then(payload).alias("nbytes"),  # others count something else
        pl.col("start").alias("start_ns"),
        pl.col("end").alias("end_ns"),
        coded("style", frame.get_column("eventType").cast(I64).replace_strict(styles, return_dtype=I32), RANGE_STYLES),
    )


def _range_names(source: Source, frame: pl.DataFrame, texts: dict[int, str], odd: Counter[str]) -> pl.Series:
    codes, values, missing = name_codes(source, frame.get_column("textId"))
    rows = frame.get_column("rowid")
    explicit = rows.is_in(list(texts)) if texts else None
    if explicit is not None and explicit.any():
        position = {v: i for i, v in enumerate(values)}
        own = rows.filter(explicit).to_list()
        codes = codes.copy()
        codes[explicit.to_numpy()] = [position.setdefault(texts[r], len(position)) for r in own]
        values = list(position)
        missing = int((codes == position[UNNAMED]).sum()) if UNNAMED in position else 0
    odd["names_missing"] += missing
    return text_column("name", codes, values)


def _named(
    source: Source, rows: pl.DataFrame, texts: dict[int, str], key: list[str]
) -> dict[tuple[int | None, ...], str]:
    """(pid, *key) -> the name that a domain or category row gives; the last one wins."""
    strings = source.strings(rows.get_column("textId").drop_nulls().unique().to_list())
    found = {}
    for row in rows.select("rowid", "textId", "pid", *key).iter_rows():
        name = texts.get(row[0], strings.get(row[1]))
        if name is not None:
            found[row[2:]] = name
    return found


def _keyed(column: str, frame: pl.DataFrame, names: Mapping[Any, str], key: list[str], other: Any) -> pl.Series:
    """A `TEXT` column: the name of each row's `key`, or ``other(key)`` where it has none. Few keys, many rows."""
    distinct = frame.select(key).unique(maintain_order=True)
    values: dict[str, int] = {}
    codes = [values.setdefault(names.get(k, other(k)), len(values)) for k in distinct.iter_rows()]
    lookup = distinct.with_columns(pl.Series("code", codes, dtype=I32))
    found = frame.select(key).join(lookup, on=key, how="left", nulls_equal=True, maintain_order="left")
    return text_column(column, found.get_column("code").to_numpy(), values)


def read_osrt(source: Source, raw: pl.DataFrame, hosts: Hosts, odd: Counter[str]) -> pl.DataFrame:
    """The table `osrt`."""
    frame = known(timed(raw, "osrt", odd), "globalTid", "osrt_without_thread", odd)
    names, missing = name_column(source, "name", frame.get_column("nameId"))
    odd["names_missing"] += missing
    return frame.select(
        hosts.pid("globalTid"),
        hosts.tid("globalTid"),
        pl.col("start").alias("start_ns"),
        pl.col("end").alias("end_ns"),
        names,
    )


def read_syncs(raw: pl.DataFrame, hosts: Hosts, devices: DeviceMap, odd: Counter[str]) -> pl.DataFrame:
    """The table `syncs`. What a row waited for is decided by the API call it joins, not by its type number."""
    frame = sane(timed(raw, "syncs", odd), "syncs", odd).select(
        hosts.pid("globalPid"),
        pl.col("deviceId").alias("device"),
        pl.col("contextId").alias("context"),
        _unless_none("streamId").alias("stream"),
        pl.col("start").alias("start_ns"),
        pl.col("end").alias("end_ns"),
        pl.col("correlationId").cast(U32).alias("correlation"),
        _unless_none("eventId").alias("event_id"),
        _unless_none("eventSyncId").alias("event_sync_id"),
    )
    return devices.apply(frame, ["device"])


def read_events(raw: pl.DataFrame, hosts: Hosts, devices: DeviceMap, odd: Counter[str]) -> pl.DataFrame:
    """The table `events`: rows without a process, an event or the call that recorded it are of no use and left out."""
    frame = sane(raw, "events", odd).select(
        hosts.pid("globalPid"),
        pl.col("deviceId").alias("device"),
        pl.col("contextId").alias("context"),
        pl.col("streamId").alias("stream"),
        pl.col("correlationId").cast(U32).alias("correlation"),
        _unless_none("eventId").alias("event_id"),
        _unless_none("eventSyncId").alias("event_sync_id"),
    )
    return devices.apply(frame.drop_nulls(["pid", "correlation", "event_id", "event_sync_id"]), ["device"])


def _unless_none(column: str) -> pl.Expr:
    return pl.when(pl.col(column) != _NO_ID).then(pl.col(column))


def read_memory(source: Source, raw: pl.DataFrame, hosts: Hosts, devices: DeviceMap, odd: Counter[str]) -> pl.DataFrame:
    """The table `memory`. Rows of kind device_static or managed_static with correlation 0 are module statics."""
    freed = enum_numbers(source, "ENUM_CUDA_DEV_MEM_EVENT_OPER", {"CUDA_DEV_MEM_EVENT_OPR_DEALLOCATION": 1})[
        "CUDA_DEV_MEM_EVENT_OPR_DEALLOCATION"
    ]
    raw = sane(known(raw, "start", "memory_without_time", odd, least=-LATEST_NS), "memory", odd)
    raw = known(raw, "memoryOperationType", "memory_without_operation", odd)
    frame = raw.select(
        hosts.pid("globalPid"),
        pl.col("deviceId").alias("device"),
        pl.col("start").alias("time_ns"),
        pl.Series("address", raw.get_column("address").reinterpret(signed=False)),  # SQLite stores it signed
        pl.col("bytes").alias("nbytes"),
        coded("kind", memory_codes(source, raw.get_column("memKind")), MEMORY_KINDS),
        (pl.col("memoryOperationType") == freed).alias("is_free"),
        pl.col("correlationId").cast(U32).fill_null(0).alias("correlation"),
    )
    return devices.apply(frame, ["device"])


def read_overhead(source: Source, raw: dict[str, pl.DataFrame], hosts: Hosts, odd: Counter[str]) -> pl.DataFrame:
    """The table `overhead`: nsys's own cost, and from 2025 on what CUPTI says of itself and of the driver.

    The name of a row decides, since both tables hold either kind.
    """
    labels = dict(source.table_rows("ENUM_CUPTI_OVERHEAD_TYPE", ["id", "label"]))
    parts = []
    for table in ("PROFILER_OVERHEAD", "CUPTI_ACTIVITY_KIND_OVERHEAD"):
        if table not in raw:
            continue
        frame = timed(raw.pop(table), "overhead", odd)
        codes, values, _ = name_codes(source, frame.get_column("nameId"))
        names = pl.Series("name", values, dtype=pl.String).gather(pl.Series(codes, dtype=pl.UInt32))
        if "overheadType" in frame.columns:
            label = (
                frame.get_column("overheadType").cast(I64).replace_strict(labels, default=None, return_dtype=pl.String)
            )
            names = pl.select(pl.coalesce(label, names)).to_series().alias("name")
            driver = ~names.str.starts_with("CUPTI")
        else:
            driver = names.is_in(_DRIVER_OVERHEAD)
        parts.append(
            frame.select(
                hosts.pid("globalTid"),
                hosts.tid("globalTid"),
                pl.col("start").alias("start_ns"),
                pl.col("end").alias("end_ns"),
                pl.when(driver).then(pl.lit("driver")).otherwise(pl.lit("profiler")).alias("source"),
                names,
            )
        )
    return pl.concat(parts) if parts else pl.DataFrame()
