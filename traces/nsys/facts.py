"""Facts beside the events of an nsys export: devices, processes, threads, diagnostics, GPU metrics, settings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import polars as pl

from ..columns import SLICE
from ..content import last_part
from ..model import SCHEMAS, Meta, text_column
from .ids import DEVICES_PER_HOST, MOST_DEVICES, UNNAMED, DeviceMap, Hosts
from .schema import CAPTURE_SETTINGS, EXPORT_SETTINGS, EXPORT_TABLES, settings
from .source import Source

# ENUM_DIAGNOSTIC_SEVERITY_LEVEL; unknown and verbose messages are information.
_SEVERITY: Final = {2: "warning", 3: "error"}


def read_meta(source: Source, odd: Counter[str], used: Iterable[str]) -> Meta:
    """The trace's `Meta`; `used` names the source tables the reader knows."""
    export: dict[str, str] = {}
    for table in EXPORT_TABLES:
        export.update({n: v for n, v in settings(source, table) if n in EXPORT_SETTINGS})
    capture: dict[str, list[str]] = {}
    for name, value in settings(source, "META_DATA_CAPTURE"):
        word = re.sub(r"^PROCESS_\d+:", "", name)
        if word in CAPTURE_SETTINGS and value not in capture.get(word, []):
            capture.setdefault(word, []).append(value)
    return Meta(
        file=source.path.name,
        recorder="nsys",
        recorder_version=export.get("EXPORT_PRODUCT_VERSION", "unknown"),
        export_schema=export.get("EXPORT_SCHEMA_VERSION"),
        tables=tuple(sorted(t for t in used if t in source.tables)),
        capture={k: ",".join(v) for k, v in capture.items()},
        anomalies={k: v for k, v in sorted(odd.items()) if v},
    )


_EARLY_2021: Final = ["id", "deviceId", "name", "globalMemorySize", "numMultiprocessors"]
_EARLY_2021_COMPUTE: Final = ["computeCapabilityMajor", "computeCapabilityMinor"]
"""Columns of TARGET_INFO_CUDA_GPU, as TARGET_INFO_GPU was called until early 2021. Those of its bandwidth and its clock are not
read: nothing says their unit."""


def read_devices(source: Source, hosts: Hosts, devices: DeviceMap, seen: Iterable[int]) -> pl.DataFrame:
    """The table `devices`: every GPU the export lists, its MIG instances, and each further device that worked.

    Such a one has the name that the program gave it (``nvtxNameCudaDevice``), or just its number.
    """
    wanted = ["vmId", "id", "name", "uuid", "totalMemory", "memoryBandwidth", "smCount"]
    wanted += ["computeMajor", "computeMinor", "clockRate"]
    found: dict[int, tuple[Any, ...]] = {}
    for vm, number, name, uuid, memory, bandwidth, sms, major, minor, clock in source.table_rows(
        "TARGET_INFO_GPU", wanted
    ):
        if isinstance(number, int) and 0 <= number < MOST_DEVICES:
            host = hosts.index(vm) if isinstance(vm, int) else 0
            counts = (_count(memory), _count(bandwidth), _count(sms, 2**31), _capability(major, minor), _count(clock))
            found.setdefault(number + host * DEVICES_PER_HOST, (_text(name), _text(uuid), *counts))
    for place, number, name, memory, sms, major, minor in source.table_rows(
        "TARGET_INFO_CUDA_GPU", [*_EARLY_2021, *_EARLY_2021_COMPUTE]
    ):
        number = place if number is None else number
        if isinstance(number, int) and 0 <= number < MOST_DEVICES:
            counts = (_count(memory), None, _count(sms, 2**31), _capability(major, minor), None)
            found.setdefault(number, (_text(name), None, *counts))
    gpus = dict(found)
    for instance in devices.instances:
        whole = gpus.get(instance.gpu, (None,) * 7)
        name = f"{whole[0] or f'GPU {instance.gpu}'} {_MIG}" + (f" of {instance.sms} SMs" if instance.sms else "")
        found[instance.device] = (name, instance.uuid, None, None, instance.sms, *whole[5:])
    given = {n: name for n, name in source.table_rows("TARGET_INFO_NVTX_CUDA_DEVICE", ["deviceId", "name"]) if name}
    for number in seen:
        name = _text(given.get(number % DEVICES_PER_HOST))
        found.setdefault(number, (name or f"GPU {number}", None, None, None, None, None, None))
    rows = [(n, "gpu", *facts) for n, facts in sorted(found.items())]
    return pl.DataFrame(rows, schema=pl.Schema(SCHEMAS["devices"]), orient="row", strict=False)


_MIG: Final = "MIG instance"


def _capability(major: Any, minor: Any) -> str | None:
    return f"{major}.{minor}" if isinstance(major, int) and isinstance(minor, int) else None


def read_processes(source: Source, hosts: Hosts, seen: set[int]) -> pl.DataFrame:
    """The table `processes`: those of `seen` (the model's pids), with the last part of their names' paths."""
    names: dict[int, str] = {}
    for gid, name in source.table_rows("PROCESSES", ["globalPid", "name"]):
        if isinstance(gid, int) and gid >= 0 and isinstance(name, str):
            names[model_pid(hosts, gid)] = last_part(name)
    rows = [(pid, pid >> 24, pid & 0xFFFFFF, names.get(pid)) for pid in sorted(seen)]
    return pl.DataFrame(
        rows, schema={"pid": pl.Int32, "host": pl.Int32, "os_pid": pl.Int32, "name": pl.String}, orient="row"
    )


def read_threads(source: Source, hosts: Hosts, seen: set[tuple[int, int]]) -> pl.DataFrame:
    """The table `threads`: those of `seen` ((pid, tid)); a thread that was renamed has its last name."""
    rows = source.table_rows("ThreadNames", ["globalTid", "nameId"])
    used = {}
    for gid, name in rows:
        if isinstance(gid, int) and gid >= 0 and (key := (model_pid(hosts, gid), gid & 0xFFFFFF)) in seen:
            used[key] = name
    strings = source.strings([n for n in used.values() if isinstance(n, int)])
    table = [(pid, tid, strings.get(used.get((pid, tid), -1))) for pid, tid in sorted(seen)]
    return pl.DataFrame(table, schema={"pid": pl.Int32, "tid": pl.Int32, "name": pl.String}, orient="row")


def read_diagnostics(source: Source) -> pl.DataFrame:
    """The table `diagnostics`: what the recorder said, in its order."""
    labels = dict(source.table_rows("ENUM_DIAGNOSTIC_SEVERITY_LEVEL", ["id", "name"]))
    rows = []
    for time, severity, text in source.table_rows("DIAGNOSTIC_EVENT", ["timestamp", "severity", "text"]):
        if isinstance(time, int) and isinstance(text, str):
            word = str(labels.get(severity, _SEVERITY.get(severity, ""))).lower()
            rows.append((time, word if word in ("warning", "error") else "info", text))
    return pl.DataFrame(rows, schema={"time_ns": pl.Int64, "severity": pl.String, "text": pl.String}, orient="row")


METRIC_COLUMNS: Final = {"timestamp": pl.Int64, "typeId": pl.Int64, "metricId": pl.Int64, "value": pl.Int64}


def read_gpu_metrics(source: Source, raw: pl.DataFrame, odd: Counter[str], wanted: str) -> pl.DataFrame:
    """The table `gpu_metrics` of the metrics whose name matches the regular expression `wanted`.

    A metric's name belongs to (typeId, metricId); a typeId's low byte is the GPU id. Slice by slice: samples come in millions,
    and few of a device's counters are asked for.
    """
    names = {
        (t, m): n
        for t, m, n in source.table_rows("TARGET_INFO_GPU_METRICS", ["typeId", "metricId", "metricName"])
        if isinstance(n, str)
    }
    pair = ["typeId", "metricId"]
    distinct = pl.concat(
        [raw.select(pair).clear(), *(part.select(pair).unique(maintain_order=True) for part in raw.iter_slices(SLICE))]
    )
    distinct = distinct.unique(maintain_order=True)
    values: dict[str, int] = {}
    found = [names.get(key, UNNAMED) for key in distinct.iter_rows()]
    codes = [values.setdefault(name, len(values)) if re.search(wanted, name) else None for name in found]
    lookup = distinct.with_columns(pl.Series("code", codes, dtype=pl.Int32)).drop_nulls("code")
    parts = []
    for part in raw.iter_slices(SLICE):
        whole = part.drop_nulls(["timestamp", "value"])
        odd["gpu_metrics_without_value"] += part.height - whole.height
        parts.append(whole.join(lookup, on=pair, how="inner", nulls_equal=True, maintain_order="left"))
    kept = pl.concat(parts) if parts else raw.with_columns(pl.lit(None, pl.Int32).alias("code")).clear()
    return kept.select(
        (pl.col("typeId") % 256).cast(pl.Int32).alias("device"),
        pl.col("timestamp").alias("time_ns"),
        text_column("metric", kept.get_column("code").to_numpy(), values),
        "value",
    )


def model_pid(hosts: Hosts, gid: int) -> int:
    """The model's pid of one global id."""
    return ((gid >> 24) & 0xFFFFFF) + (hosts.index(gid) << 24)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any, limit: int = 2**63) -> int | None:
    return value if isinstance(value, int) and 0 < value < limit else None
