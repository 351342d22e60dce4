"""What an analysis is: plain tables, ready for any face.

An `Analysis` is a value made by `analyze.analyze`; the tables, JSON, verdicts and the report are all read off it.
Every table has exactly the columns declared in `SCHEMAS`; times are integer nanoseconds, bytes are bytes, a ratio
is a fraction, and null means "does not exist here" (no copies to hide), never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from ..traces.model import KIND_TYPE, MEMORY_TYPE, Meta

NONE: Final = "(none)"
"""Stage of an op launched while no stage was open."""
AMBIGUOUS: Final = "(ambiguous)"
"""Stage of an op whose launching thread had none while several other threads had one."""
ORPHAN: Final = "(orphan)"
"""Stage of an op whose launching call was not recorded."""
OUTSIDE: Final = "(outside)"
"""Stage of an op that runs inside the window but belongs to a stage outside of the window's range."""

IDLE: Final = "idle"
"""The category of time in which the device had nothing to do; only idle cells have a cause."""

CAUSES: Final = (
    "graph_internal",
    "dependency",
    "queued",
    "launch_latency",
    "launch_api",
    "lazy_load",
    "copy_api",
    "allocator",
    "sync",
    "module_load",
    "graph_build",
    "profiler",
    "driver_overhead",
    "earlier_launch",
    "other_api",
    "host_code",
    "tail",
    "unknown",
)
"""Why a device was idle (``docs/definitions.md``)."""

OPENED_BY: Final = ("sync", "copy_api", "host", "queued", "unknown")
"""What the launching thread was blocked in when the device ran dry."""

TRUST_LEVELS: Final = ("ok", "partial", "unavailable")

SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {
    # One row a device that did anything in the window. busy + idle = the ops' span.
    "devices": {
        "device": pl.Int32,
        "name": pl.String,
        "type": pl.String,  # "gpu" or "host"
        "ops_span_ns": pl.Int64,  # last op end - first op start
        "busy_ns": pl.Int64,  # union of all ops
        "idle_ns": pl.Int64,  # ops_span_ns - busy_ns
    },
    "kinds": {
        "device": pl.Int32,
        "kind": KIND_TYPE,
        "ops": pl.Int64,
        "sum_ns": pl.Int64,
        "union_ns": pl.Int64,
        "nbytes": pl.Int64,
    },
    # Per device (stage null), and per (device, stage): the stage's own a-ops against the b-ops of all OTHER stages.
    # `a` and `b` are copy, h2d, d2h, comm, compute (compute includes graph; copy is every copy kind).
    "overlap": {
        "device": pl.Int32,
        "stage": pl.String,
        "a": pl.String,
        "b": pl.String,
        "a_ns": pl.Int64,
        "b_ns": pl.Int64,
        "both_ns": pl.Int64,
        "hidden": pl.Float64,  # both / a; null where there is no a
        "efficiency": pl.Float64,  # both / min(a, b); null where either is missing
    },
    # Copies under neither compute nor comm; comm not under compute. Stage null: the whole device.
    "exposed": {
        "device": pl.Int32,
        "stage": pl.String,
        "kind": pl.String,  # copy or comm
        "ns": pl.Int64,
    },
    # One row per (stage path, device its ops ran on); device null: host only. Nested stages are included, except in self_*.
    "stages": {
        "device": pl.Int32,
        "path": pl.String,
        "instances": pl.Int64,
        "host_ns": pl.Int64,  # sum of the ranges' own durations
        "projected_ns": pl.Int64,  # sum over instances of last op end - first op start
        "ops": pl.Int64,
        "self_ops": pl.Int64,
        "busy_ns": pl.Int64,  # union of its ops
    },
    "stage_kinds": {
        "device": pl.Int32,
        "path": pl.String,
        "kind": KIND_TYPE,
        "ops": pl.Int64,
        "sum_ns": pl.Int64,
        "union_ns": pl.Int64,
        "nbytes": pl.Int64,
    },
    "windows": {
        "device": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
    },
    # The exact partition: for each device the cells sum to its window. `cause` is null unless category is "idle".
    # `iteration` is the 0-based iteration the cell belongs to, null outside iterations.
    "ledger": {
        "device": pl.Int32,
        "stage": pl.String,
        "iteration": pl.Int32,
        "category": pl.String,  # one of KINDS, or "idle"
        "cause": pl.String,
        "ns": pl.Int64,
    },
    # Idle intervals, longest first (at most `gaps` of them per device); `cause` and `stage` of their largest piece.
    "gaps": {
        "device": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "ns": pl.Int64,
        "stage": pl.String,
        "cause": pl.String,
        "opened_by": pl.String,
    },
    # Iterations of the measured work, in order. host time from range start to range end.
    "iterations": {
        "iteration": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "host_ns": pl.Int64,
    },
    "bandwidth": {
        "device": pl.Int32,
        "kind": KIND_TYPE,
        "src_kind": MEMORY_TYPE,
        "dst_kind": MEMORY_TYPE,
        "src_device": pl.Int32,
        "dst_device": pl.Int32,
        "bucket": pl.String,  # size of one copy: "<4KiB", "4-64KiB", "64KiB-1MiB", "1-16MiB", "16-256MiB", ">=256MiB"
        "ops": pl.Int64,
        "nbytes": pl.Int64,
        "sum_ns": pl.Int64,
        "union_ns": pl.Int64,
        "bytes_per_s": pl.Float64,  # nbytes / sum of durations; d2d counts each byte once here
        "union_bytes_per_s": pl.Float64,
        "effective": pl.Boolean,  # pageable host memory: staging, not the link
    },
    # Per stage: time the host spent inside allocator calls, and the device's idle time they caused (the stall).
    "allocator": {
        "stage": pl.String,
        "calls": pl.Int64,
        "host_ns": pl.Int64,
        "stall_ns": pl.Int64,
    },
    "trust": {
        "metric": pl.String,  # ledger, projection, overlap, bandwidth, allocator, time, comm, hbm, causes
        "level": pl.String,
        "reason": pl.String,  # "" where ok
    },
}


@dataclass(frozen=True, slots=True)
class Analysis:
    """All numbers of one trace. `variant` is null for a bare trace."""

    variant: str | None
    meta: Meta
    devices: pl.DataFrame
    kinds: pl.DataFrame
    overlap: pl.DataFrame
    exposed: pl.DataFrame
    stages: pl.DataFrame
    stage_kinds: pl.DataFrame
    windows: pl.DataFrame
    ledger: pl.DataFrame
    gaps: pl.DataFrame
    iterations: pl.DataFrame
    bandwidth: pl.DataFrame
    allocator: pl.DataFrame
    trust: pl.DataFrame
