"""Sums of a damaged trace's times and bytes never wrap: what no recording holds is dropped and counted, all else stays exact."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.document import document
from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.examples import examples
from aisp_trace.traces.model import Trace, empty
from aisp_trace.traces.open import open_trace
from aisp_trace.traces.store import cache_key, load, save
from aisp_trace.traces.sums import DAY_AND_A_HALF, MOST, MOST_SPAN, longest_span, summable

INT64 = (1 << 63) - 1
INSTANTS = ("start_ns", "end_ns", "first_start_ns")
LATENCIES = ("min_ns", "p50_ns", "p90_ns", "p99_ns", "max_ns")
"""What may be negative: instants, since a clock may start anywhere, and latencies where a kernel starts before its launch."""


def ops(*rows: tuple[int, int], nbytes: int | None = None) -> pl.DataFrame:
    start, end = ([row[i] for row in rows] for i in (0, 1))
    return pl.DataFrame(
        {"start_ns": start, "end_ns": end, "nbytes": pl.Series([nbytes] * len(rows), dtype=pl.Int64)},
        schema_overrides={"start_ns": pl.Int64, "end_ns": pl.Int64},
    )


def test_what_a_recording_holds_is_left_alone() -> None:
    """An hour of 100,000 kernels; a week of a few ranges; nothing at all."""
    hour, week = 3_600 * 10**9, 7 * 86_400 * 10**9
    step = hour // 100_000
    whole = {"ops": ops(*((i * step, (i + 1) * step) for i in range(100_000)), nbytes=1 << 30)}
    assert summable(whole) == (whole, {})
    few = {"ranges": ops((0, week), (5, week), (week // 2, week))}
    assert summable(few) == (few, {})
    nothing = {"ops": empty("ops"), "memory": empty("memory")}
    assert summable(nothing) == (nothing, {})


@pytest.mark.parametrize("long", [1 << 60, MOST_SPAN + 1, MOST // 100])
def test_rows_longer_than_a_recording_are_dropped(long: int) -> None:
    """|-| |-| |-|                  right
    |-----------------------     no recording is as long"""
    tables, odd = summable({"ops": ops(*((i, i + 1) for i in range(5_000)), *((5, long) for _ in range(300)))})
    assert tables["ops"].height == 5_000
    assert odd == {"ops_out_of_range": 300}


def test_rows_far_from_the_others_are_dropped_in_every_table() -> None:
    near, far = (10, 20), (1 << 59, (1 << 59) + 5)
    instants = pl.DataFrame({"time_ns": [10, 1 << 60, -(1 << 60)], "nbytes": [1, 1, 1]})
    tables, odd = summable({"ops": ops(near, near, far), "api": ops(near, (-far[1], -far[0])), "memory": instants})
    assert [tables[name].height for name in ("ops", "api", "memory")] == [2, 1, 1]
    assert odd == {"ops_out_of_range": 1, "api_out_of_range": 1, "memory_out_of_range": 2}


def test_open_ranges_stay() -> None:
    open_range = pl.DataFrame({"start_ns": [5, 6], "end_ns": [None, 1 << 60]}, schema_overrides={"end_ns": pl.Int64})
    tables, odd = summable({"ranges": open_range})
    assert tables["ranges"]["end_ns"].to_list() == [None]
    assert odd == {"ranges_out_of_range": 1}


def test_many_long_rows_within_the_span() -> None:
    """40,000 rows of 39 hours each overlap: 641 years together, more than 64 bits of nanoseconds. The short ones are right."""
    long = [(0, DAY_AND_A_HALF - 1)] * 40_000
    tables, odd = summable({"osrt": ops(*long, *((i, i + 1) for i in range(500)))})
    assert tables["osrt"].height == 500
    assert odd == {"osrt_out_of_range": 40_000}


def test_bytes_that_add_up_to_more_than_64_bits() -> None:
    size = (1 << 50) - 1
    tables, odd = summable(
        {"ops": ops(*((i, i + 1) for i in range(8_000)), nbytes=size).vstack(ops((9_000, 9_001), nbytes=64))}
    )
    assert tables["ops"]["nbytes"].drop_nulls().to_list() == [64]
    assert odd == {"ops_with_odd_bytes": 8_000}
    assert tables["ops"].height == 8_001, "their times are right"


@given(st.integers(0, 1 << 40))
def test_the_span_leaves_room_for_a_sum_over_all_rows(rows: int) -> None:
    span = longest_span(rows)
    assert DAY_AND_A_HALF <= span <= MOST_SPAN
    assert rows * span <= MOST or span == DAY_AND_A_HALF


SPAN = st.tuples(
    st.integers(-(1 << 61), 1 << 61)
    | st.integers(0, 10_000)
    | st.sampled_from([0, 1, (1 << 61) - 1, MOST_SPAN, 1 << 60]),
    st.integers(0, 1 << 62) | st.integers(0, 1_000) | st.sampled_from([0, 1 << 60, MOST_SPAN - 1, MOST_SPAN // 2]),
).map(lambda pair: (pair[0], min(pair[0] + pair[1], INT64)))
SPANS = st.lists(SPAN, max_size=12)
BYTES = st.integers(0, (1 << 50) - 1) | st.sampled_from([0, (1 << 50) - 1])


SLOW = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking whole traces takes minutes
)


def nsys(path: Path, kernels: Any, copies: Any, calls: Any, ranges: Any, nbytes: int) -> Trace:
    export = NsysExport()
    for i, (start, end) in enumerate(kernels):
        export.kernel(start, end, f"k{i % 3}", correlationId=i, streamId=i % 3, deviceId=i % 2)
    for i, (start, end) in enumerate(copies):
        export.copy(start, end, nbytes=nbytes, correlationId=100 + i, srcKind=1, dstKind=2)
    for i, (start, end) in enumerate(calls):
        export.call(start, end, "cudaMalloc" if i % 3 else "cudaLaunchKernel", correlationId=i)
    for i, (start, end) in enumerate(ranges):
        export.range(start, end, f"r{i % 3}")
    path.unlink(missing_ok=True)
    return open_trace(export.write(path))


def negatives(value: Any, key: str = "") -> list[tuple[str, Any]]:
    """Numbers of a document below zero, or beyond 64 bits."""
    if isinstance(value, dict):
        return [found for k, v in value.items() for found in negatives(v, k)]
    if isinstance(value, list):
        return [found for v in value for found in negatives(v, key)]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    beyond = isinstance(value, int) and abs(value) > INT64  # a rate over a nanosecond is a float, and may be larger
    wraps = abs(value) > MOST_SPAN if key in LATENCIES else value < 0 and key not in INSTANTS
    return [(key, value)] if wraps or beyond else []


def check_sums(trace: Trace) -> None:
    found = analyze(trace)
    windows = {d: e - s for d, s, e in found.windows.select("device", "start_ns", "end_ns").iter_rows()}
    cells: dict[int, int] = dict.fromkeys(windows, 0)
    for device, ns in found.ledger.select("device", "ns").iter_rows():
        assert ns >= 0
        cells[device] += ns
    assert cells == windows
    exact: dict[tuple[int, str], int] = {}
    for device, kind, start, end in trace.ops.select("device", "kind", "start_ns", "end_ns").iter_rows():
        if device in windows:
            exact[device, kind] = exact.get((device, kind), 0) + end - start
    told = {(d, k): ns for d, k, ns in found.kinds.select("device", "kind", "sum_ns").iter_rows()}
    assert told == exact
    kernels: dict[tuple[int, str], int] = {}
    for device, kind, name, start, end in trace.ops.select("device", "kind", "name", "start_ns", "end_ns").iter_rows():
        if kind == "compute" and device in windows:
            kernels[device, name] = kernels.get((device, name), 0) + end - start
    top = found.top_kernels.filter(pl.col("stage").is_null())
    assert {(d, n): ns for d, n, ns in top.select("device", "name", "sum_ns").iter_rows()} == kernels
    assert negatives(json.loads(json.dumps(document([found])))) == []


@settings(SLOW, max_examples=examples(60))
@given(SPANS, SPANS, SPANS, SPANS, BYTES)
@example([(0, 1 << 60)] * 300, [(5, 10)], [(1, 4)], [(0, 20)], 64)
@example(
    [(i, MOST_SPAN // 2) for i in range(600)], [(5, 10)] * 20, [(1, 4)], [(0, MOST_SPAN // 2)] * 600, (1 << 50) - 1
)
def test_no_sum_of_an_export_wraps(
    tmp_path: Path, kernels: Any, copies: Any, calls: Any, ranges: Any, nbytes: int
) -> None:
    if kernels or copies:
        try:
            trace = nsys(tmp_path / "t.sqlite", kernels, copies, calls, ranges, nbytes)
        except Exception as error:  # every row may be unusable
            assert type(error).__name__ == "EmptyTraceError"
            return
        if trace.ops.height:
            check_sums(trace)


@settings(SLOW, max_examples=examples(40))
@given(st.lists(st.tuples(SPAN, BYTES), min_size=1, max_size=12))
@example([((0, 1 << 60), 0)] * 30 + [((0, 5), 1)])
@example([((0, 1 << 52), (1 << 50) - 1)] * 10_000)
def test_no_sum_of_a_torch_trace_wraps(tmp_path: Path, rows: Any) -> None:
    events = [
        {
            "ph": "X",
            "cat": "gpu_memcpy" if i % 2 else "kernel",
            "name": "Memcpy HtoD (Pinned -> Device)" if i % 2 else "k",
            "ts": f"{start}e-3",
            "dur": f"{end - start}e-3",
            "pid": 0,
            "args": {"device": 0, "stream": 7, "correlation": i, "bytes": nbytes},
        }
        for i, ((start, end), nbytes) in enumerate(rows)
    ]
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"schemaVersion": 1, "traceEvents": events}))
    try:
        trace = open_trace(path)
    except Exception as error:  # every row may be unusable
        assert type(error).__name__ == "EmptyTraceError"
        return
    if trace.ops.height:
        check_sums(trace)


def damaged(path: Path) -> Path:
    """300 kernels of 36 years beside 20 right ones, with the calls that launched them."""
    export = NsysExport()
    for i in range(320):
        export.call(10 * i, 10 * i + 5, "cudaLaunchKernel", correlationId=i)
        export.kernel(10 * i + 6, 10 * i + 9 if i < 20 else 1 << 60, f"k{i % 5}", correlationId=i)
    return export.write(path)


def test_what_a_person_sees_of_a_damaged_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = damaged(tmp_path / "t.sqlite")
    assert main(["analyze", str(path)]) == 0
    out = capsys.readouterr().out
    assert not re.search(r"-\d", out)
    assert "unavailable: ledger" in out
    assert "300 rows could not be used (ops out of range)" in " ".join(out.split())
    assert main(["analyze", "--json", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)["traces"][0]
    assert negatives(found) == []
    assert sum(kernel["sum_ns"] for kernel in found["top_kernels"] if kernel["stage"] is None) == 60
    assert main(["report", str(path), "-o", str(tmp_path / "r.html")]) == 0
    for form in ("csv", "perfetto", "parquet", "json"):
        assert main(["export", str(path), "--to", form, "-o", str(tmp_path / form)]) == 0


def test_a_cached_copy_says_the_same(tmp_path: Path) -> None:
    path = damaged(tmp_path / "t.sqlite")
    trace = open_trace(path)
    assert trace.meta.anomalies["ops_out_of_range"] == 300
    key = cache_key(path)
    save(path, key, trace)
    again = load(path, key)
    assert again is not None
    assert (again.meta, again.ops.height) == (trace.meta, trace.ops.height)


@pytest.mark.parametrize(
    "window",
    ["0:99999999999999999999", "-9223372036854775808:9223372036854775807", "0:9007199254750000", f"0:{'9' * 400}"],
)
def test_a_window_longer_than_any_recording(tmp_path: Path, window: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = damaged(tmp_path / "t.sqlite")
    assert main(["analyze", str(path), f"--window={window}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["analyze", str(path), "--window=-4000000000000000:4000000000000000"]) == 0
    assert not re.search(r" -\d", capsys.readouterr().out.replace("from -", ""))


def test_counters_that_are_no_percents_are_left_out() -> None:
    from aisp_trace.analyze.accounts.counters import MOST_PERCENT

    assert MOST_PERCENT * MOST_SPAN < INT64
