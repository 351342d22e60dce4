"""A machine without a GPU: the stages that do the work are its operations.

Where a trace has no device rows at all, each closed stage range with a working kind becomes an op on a host device: one
for each process that has such stages, since the ranks of a distributed program hide their communication under their own
compute, not under each other's. Its thread is the stream, its payload the bytes. The ledger, overlap and bandwidth then
need no special case.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import polars as pl

from .model import KIND_TYPE, KINDS, STAGE_KINDS, Trace, make_trace
from .stage_domain import domain_of_stages

HOST_KINDS: Final = tuple(k for k in STAGE_KINDS if k in KINDS)
"""Stage kinds that occupy a device: compute, h2d, d2h, d2d, p2p, comm."""

_NEVER: Final = ("src_kind", "dst_kind", "src_device", "dst_device", "graph_id", "graph_node", "grid", "block")
"""What no stage of a host has."""


def with_host_ops(trace: Trace) -> Trace:
    """`trace` with its working stage ranges as ops, if it has no ops of its own; else `trace` unchanged.

    Only ranges of the stages' domain count (``stage_domain.py``); open ranges do not.
    `device` numbers their processes densely in the order of pid, `stream` the threads in the order of (pid, tid);
    `correlation` is the range_id.
    """
    if trace.ops.height or not trace.ranges.height:
        return trace
    closed = trace.ranges.with_columns(pl.col("domain").cast(pl.String), pl.col("category").cast(pl.String)).filter(
        pl.col("end_ns").is_not_null()
    )
    domain = domain_of_stages(closed)
    work = closed.filter((pl.col("domain") == domain) & pl.col("category").is_in(HOST_KINDS))
    if not work.height:
        return trace
    threads = work.select("pid", "tid").unique().sort("pid", "tid").with_row_index("stream")
    work = work.join(threads, on=["pid", "tid"], how="left", nulls_equal=True, maintain_order="left")
    processes = work.select("pid").unique().sort("pid").with_row_index("device")
    work = work.join(processes, on="pid", how="left", nulls_equal=True, maintain_order="left")
    null = pl.lit(None)
    ops = work.select(
        pl.col("category").cast(KIND_TYPE).alias("kind"),
        pl.col("device").cast(pl.Int32),
        null.alias("context"),
        pl.col("stream").cast(pl.Int64),
        "pid",
        "start_ns",
        "end_ns",
        pl.col("range_id").alias("correlation"),
        "name",
        "nbytes",
        *(null.alias(c) for c in _NEVER),
    )
    tables = {n: trace.table(n) for n in ("api", "ranges", "syncs", "osrt", "memory", "overhead", "diagnostics")}
    tables |= {n: trace.table(n) for n in ("gpu_metrics", "processes", "threads")}
    return make_trace(replace(trace.meta), ops=ops, devices=_host_devices(len(processes)), **tables)


def _host_devices(count: int) -> pl.DataFrame:
    unknown = ("uuid", "memory_bytes", "memory_bytes_per_s", "sm_count", "compute_capability", "sm_clock_hz")
    names = ["host"] if count == 1 else [f"host process {i}" for i in range(count)]
    known = {"device": list(range(count)), "type": ["host"] * count, "name": names}
    return pl.DataFrame({**known, **{c: [None] * count for c in unknown}})
