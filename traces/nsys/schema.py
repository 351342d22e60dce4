"""Which tables and settings of an nsys export are known here. Needs the standard library alone."""

from __future__ import annotations

import re
from typing import Final

from .source import Source

EVENT_TABLES: Final = (
    "CUPTI_ACTIVITY_KIND_KERNEL",
    "CUPTI_ACTIVITY_KIND_MEMCPY",
    "CUPTI_ACTIVITY_KIND_MEMSET",
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
    "CUPTI_ACTIVITY_KIND_RUNTIME",
    "CUPTI_ACTIVITY_KIND_DRIVER",
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION",
    "CUPTI_ACTIVITY_KIND_OVERHEAD",
    "CUDA_GRAPH_NODE_EVENTS",
    "CUDA_GPU_MEMORY_USAGE_EVENTS",
    "NVTX_EVENTS",
    "OSRT_API",
    "PROFILER_OVERHEAD",
    "GPU_METRICS",
)
"""Every table of events that is read; the readers declare the columns."""

SAMPLES: Final = "COMPOSITE_EVENTS"
SAMPLE_FRAMES: Final = "SAMPLING_CALLCHAINS"
"""CPU samples and their stacks, of which only the parts that are asked for are read (``samples.py``)."""

EXPORT_TABLES: Final = ("META_DATA_EXPORT", "EXPORT_META_DATA")
"""Where an export describes itself: since 2023, and before."""

CAPTURE_SETTINGS: Final = (
    "CAPTURE_EVENT_TYPE",
    "START_TRIGGER",
    "STOP_TRIGGER",
    "RUN_DURATION_MS",
    "INCLUDE_CHILDREN",
    "COLLECT_NVTX_TRACE",
    "COLLECT_CUDA_TRACE",
    "COLLECT_CPU_TRACE",
    "COLLECT_GPU_MEMORY_USAGE",
    "COLLECT_UVM_CPU_PAGE_FAULTS",
    "COLLECT_UVM_GPU_PAGE_FAULTS",
    "COLLECT_GPU_CTX_SW_TRACE",
    "CUDA_GRAPH_TRACE_OPTIONS:MODE",
    "CUDA_SKIP_SOME_API_CALLS",
    "CUDA_FLUSH_PERIOD",
    "CUDA_FLUSH_PERIODICALLY",
    "CUDA_FLUSH_ON_CUDA_PROFILER_STOP",
    "GPU_METRICS_OPTIONS:SAMPLING_FREQUENCY",
    "USE_LINUX_PERF",
)
"""Recorder settings that analysis may need. All others (arguments, folders, users, hosts, environment) are left alone."""

EXPORT_SETTINGS: Final = ("EXPORT_PRODUCT_NAME", "EXPORT_PRODUCT_VERSION", "EXPORT_SCHEMA_VERSION")

SETTING_VALUE: Final = re.compile(r"[A-Za-z0-9 ._+-]{0,64}")
"""What the value of such a setting looks like; anything else is not one."""

FACT_TABLES: Final = (
    *EXPORT_TABLES,
    "META_DATA_CAPTURE",
    "DIAGNOSTIC_EVENT",
    "TARGET_INFO_GPU",
    "TARGET_INFO_CUDA_GPU",
    "TARGET_INFO_NVTX_CUDA_DEVICE",
    "TARGET_INFO_CUDA_DEVICE",
    "TARGET_INFO_GPU_METRICS",
    "PROCESSES",
    "ThreadNames",
    "StringIds",
)


MIG: Final = "MIG-"
"""How the uuid of a part of a GPU begins (NVIDIA MIG user guide, Device Identifiers)."""


def is_nsys(source: Source) -> bool:
    """Whether a database is an nsys export: it names its strings and either describes itself or holds events."""
    describes = any(t in source.tables for t in EXPORT_TABLES)
    return source.has("StringIds", "id", "value") and (describes or any(t in source.tables for t in EVENT_TABLES))


def settings(source: Source, table: str) -> list[tuple[str, str]]:
    """(name, value) rows of a META table whose values could be a setting's."""
    rows = source.table_rows(table, ["name", "value"])
    return [(n, v) for n, v in rows if isinstance(n, str) and isinstance(v, str) and SETTING_VALUE.fullmatch(v)]
