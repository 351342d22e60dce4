"""An analysis as JSON: what ``aisp-trace analyze --json`` prints. ``docs/json.md`` describes every key.

The keys written here are a promise: new ones may come, none of these changes its meaning. Times are integer
nanoseconds, ratios are fractions or null where there is nothing to divide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import polars as pl

from .result import Analysis

SCHEMA: Final = "aisp-trace/analysis/1"

TIMELINE_POINTS: Final = 1000
"""Points of a memory timeline in the document; the table holds all of them."""

Json = dict[str, Any]


def document(analyses: Iterable[Analysis]) -> Json:
    """The envelope of several analyses: ``{schema, traces[]}``."""
    return {"schema": SCHEMA, "traces": [trace_document(a) for a in analyses]}


def trace_document(analysis: Analysis) -> Json:
    """One element of ``traces[]``."""
    meta = analysis.meta
    return {
        "variant": analysis.variant,
        "trace": {
            "file": meta.file,
            "recorder": meta.recorder,
            "recorder_version": meta.recorder_version,
            "export_schema": meta.export_schema,
        },
        "devices": [_device(analysis, row) for row in analysis.devices.iter_rows(named=True)],
        "stages": [_stage(analysis, row) for row in analysis.stages.iter_rows(named=True)],
        "ledger": [_ledger(analysis, row) for row in analysis.windows.iter_rows(named=True)],
        "gaps": [_gap(analysis, row) for row in analysis.gaps.iter_rows(named=True)],
        "iterations": [_iteration(analysis, row) for row in analysis.iterations.iter_rows(named=True)],
        "bandwidth": analysis.bandwidth.to_dicts(),
        "allocator": analysis.allocator.to_dicts(),
        "concurrent_allocator": analysis.concurrent_allocator.to_dicts(),
        "memory": [_memory(analysis, row) for row in analysis.memory.iter_rows(named=True)],
        "launches": analysis.launches.to_dicts(),
        "kernels": analysis.kernel_counts.to_dicts(),
        "top_kernels": analysis.top_kernels.to_dicts(),
        "counters": analysis.counters.to_dicts(),
        "collectives": analysis.collectives.to_dicts(),
        "trust": {row["metric"]: {"level": row["level"], "reason": row["reason"]} for row in analysis.trust.to_dicts()},
    }


def _device(analysis: Analysis, row: Mapping[str, Any]) -> Json:
    device = pl.col("device") == row["device"]
    whole = device & pl.col("stage").is_null()
    return {
        **row,
        "by_kind": _by_kind(analysis.kinds.filter(device)),
        "overlap": _pairs(analysis.overlap.filter(whole)),
        "exposed_ns": _exposed(analysis.exposed.filter(whole)),
        "concurrency": _concurrency(analysis, row["device"]),
    }


def _stage(analysis: Analysis, row: Mapping[str, Any]) -> Json:
    here = pl.col("device").eq_missing(pl.lit(row["device"]))
    mine = here & (pl.col("stage") == row["path"])
    kinds = analysis.stage_kinds.filter(here & (pl.col("path") == row["path"]))
    return {
        **row,
        "by_kind": _by_kind(kinds),
        "overlap": _pairs(analysis.overlap.filter(mine)),
        "exposed_ns": _exposed(analysis.exposed.filter(mine)),
    }


def _concurrency(analysis: Analysis, device: int) -> Json:
    here = pl.col("device") == device
    streams = analysis.streams.filter(here).drop("device")
    levels = analysis.concurrency.filter(here)
    window = int(levels["ns"].sum())
    return {
        "busy_streams_ns": {str(row["streams"]): row["ns"] for row in levels.iter_rows(named=True)},
        "average": int(streams["busy_ns"].sum()) / window if window else None,
        "streams": streams.to_dicts(),
    }


def _gap(analysis: Analysis, row: Mapping[str, Any]) -> Json:
    filling = analysis.gap_calls.filter((pl.col("device") == row["device"]) & (pl.col("start_ns") == row["start_ns"]))
    return {**row, "calls": filling.select("source", "name", "calls", "ns").to_dicts()}


def _iteration(analysis: Analysis, row: Mapping[str, Any]) -> Json:
    kinds, overlap, exposed = (
        table.filter(pl.col("iteration") == row["iteration"])
        for table in (analysis.iteration_kinds, analysis.iteration_overlap, analysis.iteration_exposed)
    )
    devices = []
    for device in exposed["device"].unique().sort():
        here = pl.col("device") == device
        both = {
            f"{r['a']}|{r['b']}": {f: r[f] for f in ("a_ns", "b_ns", "both_ns")}
            for r in overlap.filter(here).iter_rows(named=True)
        }
        devices.append(
            {
                "device": device,
                "by_kind": _by_kind(kinds.filter(here)),
                "overlap": both,
                "exposed_ns": _exposed(exposed.filter(here)),
            }
        )
    return {**row, "devices": devices}


def _memory(analysis: Analysis, row: Mapping[str, Any]) -> Json:
    here = pl.col("device").eq_missing(pl.lit(row["device"])) & (pl.col("kind") == row["kind"])
    timeline = _thinned(analysis.memory_timeline.filter(here))
    return {
        **row,
        "stages": analysis.stage_memory.filter(here).drop("device", "kind").to_dicts(),
        "timeline": timeline.select("time_ns", "in_use_bytes").to_dicts(),
    }


def _thinned(timeline: pl.DataFrame) -> pl.DataFrame:
    """At most `TIMELINE_POINTS` rows: of each stretch of events the one with the most in use, so that peaks stay."""
    if len(timeline) <= TIMELINE_POINTS:
        return timeline
    stretch = pl.int_range(pl.len()) * TIMELINE_POINTS // pl.len()
    highest = pl.all().sort_by("in_use_bytes", descending=True).first()
    return timeline.group_by(stretch.alias("stretch"), maintain_order=True).agg(highest).drop("stretch")


def _by_kind(rows: pl.DataFrame) -> Json:
    figures = ("ops", "sum_ns", "union_ns", "nbytes")
    return {row["kind"]: {f: row[f] for f in figures} for row in rows.iter_rows(named=True)}


def _pairs(rows: pl.DataFrame) -> Json:
    figures = ("a_ns", "b_ns", "both_ns", "hidden", "efficiency")
    return {f"{row['a']}|{row['b']}": {f: row[f] for f in figures} for row in rows.iter_rows(named=True)}


def _exposed(rows: pl.DataFrame) -> Json:
    return {row["kind"]: row["ns"] for row in rows.iter_rows(named=True)}


def _ledger(analysis: Analysis, row: Mapping[str, Any]) -> Json:
    """Cells are summed over iterations here; they add up to the window exactly."""
    cells = (
        analysis.ledger.filter(pl.col("device") == row["device"])
        .group_by("stage", "category", "cause")
        .agg(pl.col("ns").sum())
        .sort("stage", "category", "cause", nulls_last=False)
    )
    return {
        "device": row["device"],
        "window": {"start_ns": row["start_ns"], "end_ns": row["end_ns"]},
        "cells": cells.to_dicts(),
    }
