"""A comparison as JSON: what ``aisp-trace compare --json`` prints. ``docs/json.md`` describes every key.

Nothing is cut here: every term, kernel and stage is listed, so that a reader can check the sums.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import polars as pl

from ...analyze.comparison.changes import large_gaps, launch_count
from ...analyze.comparison.reasons import reasons, remarks, sentence
from ...analyze.comparison.waterfall import Spread, Term, Waterfall, by_stage
from ...expectations.comparing.compare import Compared, Comparison, HostComparison
from ...expectations.comparing.sides import Side
from ...expectations.judging.between import Untraced
from ...expectations.judging.energy import Drawn

SCHEMA: Final = "aisp-trace/comparison/1"

Json = dict[str, Any]


def document(found: Compared) -> Json:
    """The envelope: ``{schema, mode, sides[], comparisons[], host_comparisons[], exit_code}``."""
    place = {id(side): i for i, side in enumerate(found.sides)}
    return {
        "schema": SCHEMA,
        "mode": found.mode,
        "sides": [_side(s) for s in found.sides],
        "comparisons": [_comparison(c, place[id(c.base)], place[id(c.opt)]) for c in found.comparisons],
        "host_comparisons": [_host(c, place[id(c.base)], place[id(c.opt)]) for c in found.host],
        "exit_code": found.exit_code,
    }


def _side(side: Side) -> Json:
    meta = side.analysis.meta
    return {
        "name": side.name,
        "run_id": None if side.run is None else side.run.manifest.run_id,
        "trace": {"file": meta.file, "recorder": meta.recorder, "recorder_version": meta.recorder_version},
        "window": side.window,
        "relative_to": side.root or None,
        "iterations": side.iterations or None,
        "launches": launch_count(side.analysis),
        "slowdown": side.slowdown,
        "drawn": _drawn(side.drawn),
        "contention": side.analysis.contention.filter(pl.col("stage").is_null()).drop("stage").to_dicts(),
        "large_gaps": [asdict(gap) for gap in large_gaps(side.analysis)],
    }


def _drawn(found: Drawn | None) -> Json | None:
    if found is None:
        return None
    return {
        "joules_per_item": found.joules_per_item,
        "unit": found.unit or None,
        "sm_mhz": found.mhz,
        "repeated": None if found.repeated is None else {"least": found.repeated[0], "most": found.repeated[1]},
    }


def _comparison(c: Comparison, base: int, opt: int) -> Json:
    fall = c.waterfall
    return {
        "role": c.role,
        "base": base,
        "opt": opt,
        "basis": {
            "per": fall.layout.per,
            "work": fall.layout.work,
            "by_device": fall.layout.by_device,
            "weights": list(fall.weights),
            "denominator": fall.layout.denominator,
        },
        "windows": [asdict(w) for w in fall.windows],
        "difference": fall.difference,
        "traced_ratio": fall.ratio,
        "untraced": None if c.untraced is None else _untraced(c.untraced),
        "why": _why(c),
        "stages": [_stage(t) for t in by_stage(fall.terms)],
        "terms": [_term(fall, t) for t in fall.terms],
        "kernels": [asdict(k) for k in c.kernels],
        "copies": [asdict(k) for k in c.copies],
        "predictions": [asdict(one) for one in c.predictions],
        "objections": list(c.objections),
        "notes": list(c.notes),
    }


def _host(c: HostComparison, base: int, opt: int) -> Json:
    times = c.times
    return {
        "role": c.role,
        "base": base,
        "opt": opt,
        "per": times.per,
        "device_operations": {"base": times.devices[0], "opt": times.devices[1]},
        "iterations": None
        if times.base is None or times.opt is None
        else {
            "base": asdict(times.base),
            "opt": asdict(times.opt),
            "mean_ratio": times.mean_ratio,
            "median_ratio": times.median_ratio,
        },
        "untraced": None if c.untraced is None else _untraced(c.untraced),
        "stages": [{**asdict(one), "difference": one.difference, "ratio": one.ratio} for one in times.stages],
        "objections": list(c.objections),
        "notes": list(c.notes),
    }


def _why(c: Comparison) -> Json:
    return {
        "sentence": sentence(c.waterfall, c.why),
        "parts": [asdict(part) for part in c.why.parts],
        "rates": [asdict(rate) for rate in c.why.rates],
        "reasons": [asdict(reason) for reason in reasons(c.waterfall, c.why)],
        "remarks": remarks(c.waterfall),
        "by_stage": [asdict(stage) for stage in c.why.by_stage],
    }


def _stage(term: Term) -> Json:
    return {
        "stage": term.stage,
        "status": term.status,
        "base_ns": term.base_ns,
        "opt_ns": term.opt_ns,
        "difference": term.difference,
    }


def _term(fall: Waterfall, term: Term) -> Json:
    return {
        "device": term.device,
        "stage": term.stage,
        "category": term.category,
        "cause": term.cause,
        "status": term.status,
        "base_ns": term.base_ns,
        "opt_ns": term.opt_ns,
        "difference": term.difference,
        "share": term.difference / fall.difference if fall.difference else None,
        "base_per_iteration": _spread(term.base_spread),
        "opt_per_iteration": _spread(term.opt_spread),
    }


def _spread(spread: Spread | None) -> Json | None:
    if spread is None:
        return None
    return {
        "n": spread.n,
        "median_ns": spread.median,
        "lower_quartile_ns": spread.lower,
        "upper_quartile_ns": spread.upper,
        "min_ns": spread.minimum,
        "max_ns": spread.maximum,
    }


def _untraced(timed: Untraced) -> Json:
    ratio = timed.ratio
    return {
        "ratio": ratio.value,
        "interval": None if ratio.low is None else {"low": ratio.low, "high": ratio.high, "coverage": ratio.coverage},
        "rounds": ratio.n,
        "paired": timed.paired,
        "timed": timed.timed,
        "base_ns": timed.base_ns,
        "opt_ns": timed.opt_ns,
        "concerns": [{"kind": c.kind, "text": c.text} for c in timed.concerns],
        "cycles_ratio": timed.cycles,
    }
