"""Metrics that are rates: bandwidths, shares of a link's peak, and what hardware counters said.

Counters exist only where they were sampled (``--profile deep``); without them a claim is for another recording. A counter's
own trust is per stage, so it is asked here rather than in the trust table.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from ...analyze.result import Analysis
from .counts import stage_bytes
from .reading import Reading, add_up, at_or_whole, in_stage, nothing, per_iteration, total, unavailable, unsampled

UNKNOWN_PEAK_SHARE: Final = 0.01
"""Up to this part of a direction's bytes may have been copied without a known peak (pageable scalars): a share of the
peak then describes the other copies."""

HBM: Final = {"read": ("hbm_read",), "write": ("hbm_write",), "both": ("hbm_read", "hbm_write")}


def bandwidth(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """Bytes over the sum of the copies' durations, in GB/s."""
    rows = analysis.bandwidth.filter(pl.col("kind").cast(pl.String) == of)
    time_ns = add_up(rows, "sum_ns")
    if not time_ns:
        return nothing(analysis, f"no {of} copies")
    return total(analysis, add_up(rows, "nbytes") / time_ns)  # bytes per nanosecond are GB/s


def peak_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """The share of the link's peak, over the union of the copies' times; null shares (pageable memory) have no part."""
    rows = analysis.bandwidth.filter(pl.col("kind").cast(pl.String) == of)
    nbytes = add_up(rows, "nbytes")
    if not nbytes:
        return nothing(analysis, f"no {of} copies")
    known = rows.filter(pl.col("share").is_not_null())
    without = 1 - add_up(known, "nbytes") / nbytes
    if without > UNKNOWN_PEAK_SHARE:
        why = f"{without:.0%} of the {of} bytes were copied without a known peak (pageable memory, or no calibration)"
        return unavailable(analysis, why)
    weighted = float((known["share"] * known["union_ns"]).sum())
    time_ns = add_up(known, "union_ns")
    return total(analysis, weighted / time_ns) if time_ns else nothing(analysis, f"no {of} copies that took time")


def hbm_bytes(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """Bytes of device memory traffic by sampled counters, per iteration."""
    found = _counters(analysis, HBM[str(of)], stage)
    if isinstance(found, Reading):
        return found
    if found["nbytes"].null_count():
        return unavailable(analysis, "the memory bandwidth of the device is unknown, so percents have no bytes")
    return per_iteration(analysis, add_up(found, "nbytes"))


def hbm_model_ratio(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """Device memory traffic of a stage, by sampled counters, over the bytes that its ranges say they move."""
    counted = hbm_bytes(analysis, "both", stage)
    model = stage_bytes(analysis, None, stage)
    for found in (counted, model):
        if found.total is None:
            return found
    assert counted.total is not None  # both were asked just above
    if not model.total:
        return nothing(analysis, f"no bytes{in_stage(stage)}")
    return total(analysis, counted.total / model.total)


def counter_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """The mean of a counter over the window, or over the time a stage was busy, as a fraction."""
    found = _counters(analysis, (str(of),), stage)
    if isinstance(found, Reading):
        return found
    time_ns = add_up(found, "ns")
    if not time_ns:
        return nothing(analysis, f"no sampled time{in_stage(stage)}")
    return total(analysis, float((found["percent"] * found["ns"]).sum()) / time_ns / 100)


def _counters(analysis: Analysis, metrics: tuple[str, ...], stage: str | None) -> pl.DataFrame | Reading:
    rows = analysis.counters.filter(pl.col("metric").is_in(metrics) & at_or_whole(stage))
    sampled = analysis.counters["metric"].unique().to_list()
    missing = [m for m in metrics if m not in rows["metric"].to_list()]
    if absent := [m for m in missing if m not in sampled]:
        return unsampled(analysis, f"no counter {absent[0]}: capture with --profile deep")
    if missing:
        return nothing(analysis, f"no counter {missing[0]}{in_stage(stage)}")
    weak = rows.filter(pl.col("trust") != "ok")
    if not weak.is_empty():
        name = weak["metric"].to_list()[0]
        why = f"counter {name}{in_stage(stage)} is partial: mostly rounding, shared with other stages, or not sampled throughout"
        return unavailable(analysis, why)
    return rows
