"""Loose guards: what an analysis costs per operation must not become a multiple of what it was."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.tests.examples import nightly
from aisp_trace.tests.optional import force, needs_numba
from aisp_trace.traces import engine
from aisp_trace.traces.model import Meta, Trace, make_trace

LAUNCHES = 150_000
SECONDS = 60.0
"""Of processor time, which a busy machine hardly changes: forty times what it takes on slow cores; the quadratic version of any
step would need many minutes."""


def large_trace(launches: int, *, crossing: bool) -> Trace:
    """One thread that launches kernels within as many ranges; with `crossing` each fourth outlives its successor's start."""
    at = np.arange(launches) * 1_000
    ranges = pl.DataFrame({"start_ns": at, "end_ns": at + np.where(crossing & (at % 4_000 == 0), 1_500, 900)})
    ranges = ranges.with_columns(
        pl.lit(1, pl.Int32).alias("pid"),
        pl.lit(1, pl.Int32).alias("tid"),
        pl.lit(1, pl.Int32).alias("end_tid"),
        pl.lit("").alias("domain"),
        pl.Series("name", np.where(at % 3_000 == 0, "step", "layer")),
        pl.lit("").alias("category"),
        pl.lit(None, pl.Int64).alias("nbytes"),
        pl.lit("start_end" if crossing else "push_pop").alias("style"),
    )
    api = pl.DataFrame({"start_ns": at + 10, "end_ns": at + 200, "correlation": np.arange(launches) + 1}).with_columns(
        pl.lit(1, pl.Int32).alias("pid"),
        pl.lit(1, pl.Int32).alias("tid"),
        pl.lit("cudaLaunchKernel").alias("name"),
        pl.lit(0, pl.Int32).alias("result"),
    )
    ops = pl.DataFrame({"start_ns": at + 300, "end_ns": at + 800, "correlation": np.arange(launches) + 1}).with_columns(
        pl.lit("compute").alias("kind"),
        *(pl.lit(0, pl.Int32).alias(c) for c in ("device", "context")),
        pl.lit(7, pl.Int64).alias("stream"),
        pl.lit(1, pl.Int32).alias("pid"),
        pl.lit("kernel").alias("name"),
        *(pl.lit(None, pl.Int64).alias(c) for c in ("nbytes", "graph_id", "graph_node", "grid")),
        pl.lit(None, pl.Int32).alias("block"),
        *(pl.lit(None, pl.String).alias(c) for c in ("src_kind", "dst_kind")),
        *(pl.lit(None, pl.Int32).alias(c) for c in ("src_device", "dst_device")),
    )
    return make_trace(Meta("large", "nsys", "0", None), ops=ops, api=api, ranges=ranges)


@pytest.mark.parametrize("crossing", [False, True])
@pytest.mark.parametrize("compiled", [*nightly(False), pytest.param(True, marks=needs_numba)])
def test_many_ranges_and_launches(crossing: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, compiled=compiled)
    trace = large_trace(LAUNCHES, crossing=crossing)
    engine.prepare(lambda text: None, "aisp_trace.analyze.compiled")  # compiling is not what is measured
    began = time.process_time()
    found = analyze(trace)
    assert time.process_time() - began < SECONDS
    assert found.ledger["ns"].sum() == (LAUNCHES - 1) * 1_000 + 500
    assert found.stages["ops"].sum() >= LAUNCHES
