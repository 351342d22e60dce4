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
        "gaps": analysis.gaps.to_dicts(),
        "iterations": analysis.iterations.to_dicts(),
        "bandwidth": analysis.bandwidth.to_dicts(),
        "allocator": analysis.allocator.to_dicts(),
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
