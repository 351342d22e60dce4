"""An analysis as JSON: what ``aisp-trace analyze --json`` prints. ``docs/json.md`` describes every key.

The keys written here are a promise: new ones may come, none of these changes its meaning. Times are integer
nanoseconds, ratios are fractions or null where there is nothing to divide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

import polars as pl

from .accounts.bound import bounds
from .attribution.window import STEADY
from .findings.find import find
from .findings.finding import Finding
from .result import Analysis, Choices
from .steady import Instance, Steady

SCHEMA: Final = "aisp-trace/analysis/2"

MEMBERS: Final = 10
"""Recorded names listed of a folded stage; the exported table ``stage_names`` holds all of them."""

FUNCTIONS: Final = 5
"""Functions listed of a gap; the exported table ``gap_functions`` holds all of them."""

TIMELINE_POINTS: Final = 1000
"""Points of a memory timeline in the document; the table holds all of them."""

Json = dict[str, Any]


def document(analyses: Iterable[Analysis]) -> Json:
    """The envelope of several analyses: ``{schema, traces[]}``."""
    return {"schema": SCHEMA, "traces": [trace_document(a) for a in analyses]}


def trace_document(analysis: Analysis) -> Json:
    """One element of ``traces[]``."""
    rows = _Rows(analysis)
    meta = analysis.meta
    return {
        "variant": analysis.variant,
        "trace": {
            "file": meta.file,
            "recorder": meta.recorder,
            "recorder_version": meta.recorder_version,
            "export_schema": meta.export_schema,
        },
        "selection": selection_document(analysis.choices),
        "steady": None if analysis.steady is None else _steady(analysis.steady, analysis.choices),
        "findings": [_finding(one) for one in find(analysis)],
        "devices": [_device(rows, row) for row in analysis.devices.iter_rows(named=True)],
        "stages": [_stage(rows, row) for row in analysis.stages.iter_rows(named=True)],
        "ledger": [_ledger(analysis, row) for row in analysis.windows.iter_rows(named=True)],
        "gaps": [_gap(rows, row) for row in analysis.gaps.iter_rows(named=True)],
        "iterations": [_iteration(rows, row) for row in analysis.iterations.iter_rows(named=True)],
        "bounds": [asdict(bound) for bound in bounds(analysis)],
        "bandwidth": analysis.bandwidth.to_dicts(),
        "allocator": analysis.allocator.to_dicts(),
        "concurrent_allocator": analysis.concurrent_allocator.to_dicts(),
        "memory": [_memory(analysis, row) for row in analysis.memory.iter_rows(named=True)],
        "launches": analysis.launches.to_dicts(),
        "kernels": analysis.kernel_counts.to_dicts(),
        "top_kernels": analysis.top_kernels.to_dicts(),
        "counters": analysis.counters.to_dicts(),
        "domains": analysis.domains.to_dicts(),
        "api_calls": analysis.api_calls.to_dicts(),
        "launch_rows": analysis.launch_rows.to_dicts(),
        "collectives": analysis.collectives.to_dicts(),
        "contention": analysis.contention.to_dicts(),
        "oddities": analysis.oddities.to_dicts(),
        "operators": analysis.operators.to_dicts(),
        "critical": analysis.critical.to_dicts(),
        "headroom": analysis.headroom.to_dicts(),
        "replayed": next(analysis.replayed.iter_rows(named=True), None),
        "migrations": analysis.migrations.to_dicts(),
        "replays": analysis.replays.to_dicts(),
        "diagnostics": analysis.diagnostics.to_dicts(),
        "trust": {row["metric"]: {"level": row["level"], "reason": row["reason"]} for row in analysis.trust.to_dicts()},
    }


def selection_document(choices: Choices) -> Json:
    """What was chosen, under the names of the command line's options."""
    window = choices.window
    return {
        "domain": choices.domain,
        "range": choices.below,
        "stages": choices.stages,
        "depth": choices.depth,
        "window": {"start_ns": window[0], "end_ns": window[1]} if isinstance(window, tuple) else window,
        "attribution": choices.attribution,
        "folded_stages": choices.folded,
        "fold": choices.fold,
    }


def _steady(steady: Steady, choices: Choices) -> Json:
    return {
        "path": steady.path,
        "found_by": steady.found_by,
        "every": steady.every,
        "is_window": choices.window == STEADY,
        "iterations": len(steady.steady),
        "window": {"start_ns": steady.window[0], "end_ns": steady.window[1]},
        "median_ns": steady.median_ns,
        "p90_ns": steady.p90_ns,
        "slowest": _instance(steady.slowest),
        "outliers": [_instance(one) for one in steady.outliers],
        "between_ns": steady.between_ns,
        "behind_ns": steady.behind_ns,
        "set_aside": [{**_instance(one), "why": steady.why} for one in steady.set_aside],
        "start_up_ns": steady.start_up_ns,
        "after_ns": steady.after_ns,
        "others": [asdict(one) for one in steady.others],
    }


def _instance(one: Instance) -> Json:
    return {"name": one.name, "start_ns": one.start_ns, "ns": one.ns}


class _Rows:
    """The rows of the tables by what they are looked up with. A frame filtered once a stage would cost more than the analysis."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.kinds = _by(analysis.kinds, "device")
        self.stage_kinds = _by(analysis.stage_kinds, "device", "path")
        self.names = _by(analysis.stage_names, "path")
        self.overlap = _by(analysis.overlap, "device", "stage")
        self.exposed = _by(analysis.exposed, "device", "stage")
        self.gap_calls = _by(analysis.gap_calls, "device", "start_ns")
        self.gap_functions = _by(analysis.gap_functions, "device", "start_ns")
        self.gap_code = _by(analysis.gap_code, "device", "start_ns")
        self.iteration_kinds = _by(analysis.iteration_kinds, "iteration", "device")
        self.iteration_overlap = _by(analysis.iteration_overlap, "iteration", "device")
        self.iteration_exposed = _by(analysis.iteration_exposed, "iteration", "device")
        self.devices_of: dict[int, list[int]] = {}
        for iteration, device in sorted(self.iteration_exposed):
            self.devices_of.setdefault(iteration, []).append(device)


Lookup = dict[tuple[Any, ...], list[Json]]


def _by(table: pl.DataFrame, *keys: str) -> Lookup:
    out: Lookup = {}
    for row in table.iter_rows(named=True):
        out.setdefault(tuple(row[k] for k in keys), []).append(row)
    return out


def _device(rows: _Rows, row: Mapping[str, Any]) -> Json:
    device = row["device"]
    return {
        **row,
        "by_kind": _by_kind(rows.kinds.get((device,), [])),
        "overlap": _pairs(rows.overlap.get((device, None), [])),
        "exposed_ns": _exposed(rows.exposed.get((device, None), [])),
        "concurrency": _concurrency(rows.analysis, device),
    }


def _stage(rows: _Rows, row: Mapping[str, Any]) -> Json:
    here = (row["device"], row["path"])
    names = rows.names.get((row["path"],), [])
    return {
        **row,
        "recorded_names": len(names),
        "members": [{f: one[f] for f in ("name", "instances", "host_ns", "first_start_ns")} for one in names[:MEMBERS]],
        "by_kind": _by_kind(rows.stage_kinds.get(here, [])),
        "overlap": _pairs(rows.overlap.get(here, [])),
        "exposed_ns": _exposed(rows.exposed.get(here, [])),
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


def _gap(rows: _Rows, row: Mapping[str, Any]) -> Json:
    here = (row["device"], row["start_ns"])
    calls = rows.gap_calls.get(here, [])
    ran = rows.gap_functions.get(here, [])
    return {
        **row,
        "calls": [{f: call[f] for f in ("source", "name", "calls", "ns")} for call in calls],
        "samples": sum(one["samples"] for one in ran),
        "functions": [{f: one[f] for f in ("function", "module", "samples")} for one in ran if one["function"]][
            :FUNCTIONS
        ],
        "code": [{f: one[f] for f in ("domain", "name", "ns")} for one in rows.gap_code.get(here, [])],
    }


def _iteration(rows: _Rows, row: Mapping[str, Any]) -> Json:
    devices = []
    for device in rows.devices_of.get(row["iteration"], []):
        here = (row["iteration"], device)
        both = {
            f"{r['a']}|{r['b']}": {f: r[f] for f in ("a_ns", "b_ns", "both_ns")}
            for r in rows.iteration_overlap.get(here, [])
        }
        devices.append(
            {
                "device": device,
                "by_kind": _by_kind(rows.iteration_kinds.get(here, [])),
                "overlap": both,
                "exposed_ns": _exposed(rows.iteration_exposed[here]),
            }
        )
    return {**row, "devices": devices}


def _memory(analysis: Analysis, row: Mapping[str, Any]) -> Json:
    here = pl.col("device").eq_missing(pl.lit(row["device"])) & (pl.col("kind") == row["kind"])
    timeline = thinned(analysis.memory_timeline.filter(here), TIMELINE_POINTS)
    return {
        **row,
        "stages": analysis.stage_memory.filter(here).drop("device", "kind").to_dicts(),
        "timeline": timeline.select("time_ns", "in_use_bytes").to_dicts(),
    }


def thinned(timeline: pl.DataFrame, most: int) -> pl.DataFrame:
    """At most `most` rows: of each stretch of events the one with the most in use, so that peaks stay."""
    if len(timeline) <= most:
        return timeline
    stretch = pl.int_range(pl.len()) * most // pl.len()
    highest = pl.all().sort_by("in_use_bytes", descending=True).first()
    return timeline.group_by(stretch.alias("stretch"), maintain_order=True).agg(highest).drop("stretch")


def _by_kind(rows: Iterable[Json]) -> Json:
    figures = ("ops", "sum_ns", "union_ns", "nbytes")
    return {row["kind"]: {f: row[f] for f in figures} for row in rows}


def _pairs(rows: Iterable[Json]) -> Json:
    figures = ("a_ns", "b_ns", "both_ns", "hidden", "efficiency")
    return {f"{row['a']}|{row['b']}": {f: row[f] for f in figures} for row in rows}


def _exposed(rows: Iterable[Json]) -> Json:
    return {row["kind"]: row["ns"] for row in rows}


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


def _finding(one: Finding) -> Json:
    """Without what is timed, which `replayed` says once for all."""
    return {key: value for key, value in asdict(one).items() if key != "timed"}
