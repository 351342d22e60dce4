"""Time lost to memory allocation, per stage.

``host_ns`` is the union, per thread, of the time inside allocator calls (cudaMalloc, cudaFree, cudaHostAlloc, ...), charged to
the stage that was open when the call began; ``stall_ns`` is the device's idle time with cause ``allocator``: what the
allocator cost the device. On a machine without a GPU, stages of kind ``alloc`` take the calls' place.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from ...traces.model import Trace
from ..attribution.calls import ALLOCATOR
from ..attribution.launches import Calls
from ..attribution.stages import Stages
from ..intervals import Ints, grouped_measure
from ..result import SCHEMAS


def allocator_table(
    trace: Trace,
    calls: Calls,
    stages: Stages,
    limits: tuple[int, int],
    ledger: pl.DataFrame,
    *,
    across: bool,
) -> pl.DataFrame:
    """Table ``allocator``: calls within the `limits`, clipped to them, and the ledger's allocator cells."""
    low, high = limits
    frames = [pl.DataFrame(schema={"stage": pl.String, "calls": pl.Int64, "host_ns": pl.Int64})]
    for thread, rows in calls.rows_of_thread.items() if len(calls) else ():
        mine = rows[calls.kind[rows] == ALLOCATOR]
        start, end = np.clip(calls.start_ns[mine], low, high), np.clip(calls.end_ns[mine], low, high)
        keep = (calls.end_ns[mine] > low) & (calls.start_ns[mine] < high)
        mine, start, end = mine[keep], start[keep], end[keep]
        if len(mine) == 0:
            continue
        code = stages.on_thread(thread, across)(calls.start_ns[mine])
        frames.append(_by_stage(stages.path_of(code), start, end))
    if trace.devices.filter(pl.col("type") == "host").height:
        table = trace.ranges.filter(
            (pl.col("category").cast(pl.String) == "alloc") & (pl.col("start_ns") < high) & (pl.col("end_ns") > low)
        )
        kept = table.filter(pl.col("range_id").is_in(stages.ranges_of_domain))
        paths = stages.path_of(_stages_of_ranges(kept, stages, across=across))
        start, end = (kept[name].clip(low, high).to_numpy() for name in ("start_ns", "end_ns"))
        frames.append(_by_stage(paths, start, end))
    stall = ledger.filter(pl.col("cause") == "allocator").group_by("stage").agg(pl.col("ns").sum().alias("stall_ns"))
    return (
        pl.concat(frames)
        .group_by("stage")
        .agg(pl.col("calls").sum(), pl.col("host_ns").sum())
        .join(stall, on="stage", how="full", coalesce=True)
        .with_columns(pl.col("calls", "host_ns", "stall_ns").fill_null(0))
        .sort("stage")
        .select(*SCHEMAS["allocator"])
    )


def _stages_of_ranges(ranges: pl.DataFrame, stages: Stages, *, across: bool) -> Ints:
    """The stage of each row of `ranges`: itself, or, where it is none, that of its thread when it began."""
    position = stages.position_of_range
    out = []
    for range_id, pid, tid, start in ranges.select("range_id", "pid", "tid", "start_ns").iter_rows():
        found = position.get(range_id)
        out.append(int(stages.on_thread((pid, tid), across)(np.array([start]))[0]) if found is None else found)
    return np.array(out, np.int64)


def _by_stage(paths: list[str], start: np.ndarray, end: np.ndarray) -> pl.DataFrame:
    distinct = sorted(set(paths))
    group = np.array([distinct.index(p) for p in paths], np.int64)
    return pl.DataFrame(
        {
            "stage": distinct,
            "calls": np.bincount(group, minlength=len(distinct)),
            "host_ns": grouped_measure(group, start, end, len(distinct)),
        },
        schema={"stage": pl.String, "calls": pl.Int64, "host_ns": pl.Int64},
    )
