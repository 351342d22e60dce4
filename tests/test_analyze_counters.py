"""Hardware counters by stage: planted shares, conservation, and the weights of a real model read back from its samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import Analysis
from aisp_trace.tests.builders.samples import unpack
from aisp_trace.tests.examples import examples
from aisp_trace.tests.oracle.build import Row, build, call, device, op, span
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace

READ = "DRAM Read Bandwidth [Throughput %]"
TENSOR = "Tensor Active [Throughput %]"


def sample(time: int, value: int, metric: str = READ) -> Row:
    return {"device": 0, "time_ns": time, "metric": metric, "value": value}


def traced(samples: list[Row], *stages: tuple[str, int, int], end: int = 400) -> Trace:
    """Each stage has one kernel over its whole time, on a stream of its own; the device reads 1e9 bytes a second."""
    ranges, api, ops = [], [], [op("memset", end - 1, end, stream=99)]
    for i, (name, start, stop) in enumerate(stages):
        ranges.append(span(name, start, stop, tid=10 + i))
        api.append(call("cudaLaunchKernel", start, start + 1, i + 1, tid=10 + i))
        ops.append(op("compute", start, stop, i + 1, stream=7 + i))
    return build(
        ranges=ranges,
        api=api,
        ops=ops,
        gpu_metrics=samples,
        devices=[device(0) | {"memory_bytes_per_s": 10**9}],
    )


def of(found: Analysis, stage: str | None, metric: str = "hbm_read") -> dict[str, object]:
    row = found.counters.filter((pl.col("metric") == metric) & pl.col("stage").eq_missing(pl.lit(stage)))
    return row.row(0, named=True)


def test_shares_of_samples() -> None:
    """
    samples    0 |  20 %  | 100 |  60 %  | 200 |  8 %  | 300 |  0 %  | 400
    a              10 - 60                                                    half of the busy time of the first sample
    b                     50 ---------- 200
    the rest                                   nothing busy     399 - 400     (orphan)
    """
    found = analyze(traced([sample(100 * i, v) for i, v in enumerate((20, 60, 8, 0))], ("a", 10, 60), ("b", 50, 200)))
    # The window begins with the first op, so 90 ns of the first sample are in it: 1,800 percent x ns for two equal parts.
    assert (of(found, "a")["percent_ns"], of(found, "b")["percent_ns"]) == (900.0, 900.0 + 6000.0)
    assert (of(found, "a")["percent"], of(found, "b")["percent"]) == (20.0, (50 * 20 + 100 * 60) / 150)
    assert (of(found, "(idle)")["percent_ns"], of(found, "(idle)")["ns"]) == (800.0, 100)
    assert of(found, None)["percent_ns"] == 1800.0 + 6000.0 + 800.0
    assert of(found, "(orphan)")["percent_ns"] == 0.0


def test_bytes_are_percent_of_the_bandwidth_times_time() -> None:
    two = analyze(traced([sample(0, 50), sample(200_000, 50)], ("a", 0, 400_000), end=400_000))
    assert of(two, "a")["nbytes"] == 200_000  # half of 1 byte/ns over 400,000 ns
    assert of(two, "a")["trust"] == "ok"


def test_one_sample_alone_has_no_length() -> None:
    assert analyze(traced([sample(0, 50)], ("a", 0, 400))).counters.is_empty()


def test_a_pause_in_sampling_is_no_long_sample() -> None:
    """Samples every 10 ns, then none for 300 ns: the last before the pause lasts 10 ns."""
    times = (*range(0, 50, 10), 350, 360, 370)
    found = analyze(traced([sample(t, 40) for t in times], ("a", 0, 400)))
    assert of(found, None)["ns"] == 50 + 30
    assert of(found, None)["trust"] == "partial"


def test_a_weak_mean_and_a_contested_sample_are_partial() -> None:
    weak = analyze(traced([sample(100 * i, 2) for i in range(4)], ("a", 0, 400)))
    assert of(weak, "a")["trust"] == "partial"
    shared = analyze(traced([sample(100 * i, 50) for i in range(4)], ("a", 0, 300), ("b", 0, 300)))
    assert of(shared, "a")["trust"] == "partial"
    assert of(shared, "a")["percent_ns"] == of(shared, "b")["percent_ns"]


def test_activity_has_no_bytes_and_no_metrics_no_rows() -> None:
    found = analyze(traced([sample(100 * i, 50, TENSOR) for i in range(4)], ("a", 0, 400)))
    assert set(found.counters["metric"]) == {"tensor"}
    assert of(found, "a", "tensor")["nbytes"] is None
    assert "hbm" not in found.trust["metric"].to_list()
    assert analyze(traced([], ("a", 0, 400))).counters.is_empty()


SPANS = st.lists(st.tuples(st.integers(0, 380), st.integers(1, 90)), min_size=1, max_size=5)


@given(SPANS, st.lists(st.integers(0, 100), min_size=2, max_size=40), st.integers(3, 30))
@settings(max_examples=examples(80))
def test_stages_and_idle_add_up_to_the_whole(spans: list[tuple[int, int]], values: list[int], period: int) -> None:
    stages = [(f"s{i}", start, start + length) for i, (start, length) in enumerate(spans)]
    found = analyze(traced([sample(i * period, v) for i, v in enumerate(values)], *stages, end=480))
    if found.counters.is_empty():
        return
    parts = found.counters.filter(pl.col("stage").is_not_null())
    assert parts["percent_ns"].sum() == pytest.approx(of(found, None)["percent_ns"], rel=1e-12)
    assert (parts["ns"] >= 0).all()


def test_a_decode_step_reads_its_weights(tmp_path: Path) -> None:
    """8 blocks of 1024 -> 4096 -> 1024 in half precision are 134,217,728 bytes of weights, which every step reads once.

    64 steps replayed as one graph; whole percents at 10 kHz are good for about a percent here.
    """
    trace = open_trace(unpack("h100_pipeline_decode_gpu_metrics_trimmed", tmp_path))
    starts = trace.ranges.filter(pl.col("name").cast(pl.String) == "optimized")["start_ns"]
    start = int(starts.max())  # type: ignore[arg-type]
    end = int(trace.ops.filter(pl.col("kind") == "graph")["end_ns"].max())  # type: ignore[arg-type]
    found = analyze(trace, window=(start, end))
    step = of(found, "decode/optimized/stage:decode")
    assert isinstance(step["nbytes"], int)
    assert step["nbytes"] / 64 == pytest.approx(8 * 2 * 1024 * 4096 * 2, rel=0.01)
    assert step["trust"] == "ok"
    assert of(found, None)["nbytes"] == pytest.approx(step["nbytes"], rel=1e-6)


def test_clocks_are_shares_of_the_device_s_own() -> None:
    """1,980 MHz at most: 1,485 while it works, and boost is full speed; another device has no clock of its own to go by."""
    samples = [
        sample(100 * i, hz) | {"metric": "GPC Clock Frequency [MHz]"}
        for i, hz in enumerate((1_485_000_000, 1_981_000_000))
    ]
    trace = traced(samples, ("a", 0, 200))
    assert analyze(trace).counters.is_empty(), "the trace does not say the clock of its device"
    known = trace.devices.with_columns(pl.lit(1_980_000_000, pl.Int64).alias("sm_clock_hz"))
    found = analyze(replace(trace, devices=known))
    assert (of(found, "a", "sm_clock")["percent"], of(found, "a", "sm_clock")["nbytes"]) == (87.5, None)
