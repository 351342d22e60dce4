"""Memory in use over time and by stage, and allocator calls beside an idle device, from planted traces."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.document import trace_document
from aisp_trace.tests.oracle.build import Row, build, call, op, span
from aisp_trace.traces.model import Trace


def event(time: int, nbytes: int, correlation: int = 0, **other: Any) -> Row:
    """A row of `memory`: `nbytes` taken from device 0 by process 1; negative: given back."""
    row: Row = {
        "pid": 1,
        "device": 0,
        "time_ns": time,
        "address": None,
        "nbytes": abs(nbytes),
        "kind": "device",
        "is_free": nbytes < 0,
        "correlation": correlation,
    }
    return row | other


def two_stages() -> Trace:
    """
    in use       0    64     192         128      160
    events         10 +64  30 +128    50 -64    70 +32
    stages     |-- a 5..40 --|     |--- b 45 .. 90 ---|      the second `a` 92..95 sees 160
    """
    return build(
        ranges=[span("a", 5, 40), span("b", 45, 90), span("a", 92, 95)],
        api=[
            call("cudaMalloc", 8, 12, 1),
            call("cudaMalloc", 28, 32, 2),
            call("cudaFree", 48, 52, 3),
            call("cudaMalloc", 68, 72, 4),
            call("cudaLaunchKernel", 73, 74, 5),
        ],
        ops=[op("compute", 0, 2), op("compute", 80, 100, 5)],
        memory=[event(10, 64, 1), event(30, 128, 2), event(50, -64, 3), event(70, 32, 4)],
    )


def test_timeline_and_totals() -> None:
    found = analyze(two_stages())
    assert found.memory_timeline.rows() == [
        (0, "device", 10, 64),
        (0, "device", 30, 192),
        (0, "device", 50, 128),
        (0, "device", 70, 160),
    ]
    assert found.memory.rows() == [(0, "device", 3, 1, 224, 64, 0, 192, 160)]


def test_events_and_peaks_of_stages() -> None:
    found = analyze(two_stages()).stage_memory.select("stage", "allocations", "frees", "allocated_bytes", "peak_bytes")
    assert found.rows() == [("a", 2, 0, 192, 192), ("b", 1, 1, 32, 192)]


def test_a_window_counts_its_own_events() -> None:
    found = analyze(two_stages(), window=(45, 75)).memory.row(0, named=True)
    assert (found["allocations"], found["frees"], found["allocated_bytes"]) == (1, 1, 32)
    assert (found["start_bytes"], found["peak_bytes"], found["end_bytes"]) == (192, 192, 160)


def test_what_is_freed_must_have_been_there() -> None:
    """Recording begins late: 100 are freed that were never seen allocated."""
    trace = build(ops=[op("compute", 0, 50)], memory=[event(10, 30), event(20, -100), event(30, 5)])
    assert analyze(trace).memory_timeline["in_use_bytes"].to_list() == [100, 0, 5]
    assert analyze(trace).memory["start_bytes"].to_list() == [70]


def test_addresses_tell_what_was_there_before() -> None:
    """A is taken, and B, of the same size, given back: B was there all the time.

    in use   100 (B)     200 (A, B)    100 (A)
                  10 +100 A     30 -100 B     50 -100 A, then +40 there    the address of another process is another one
    """
    memory = [
        event(10, 100, address=1),
        event(30, -100, address=2),
        event(50, -100, address=1),
        event(60, 40, address=1),
        event(70, -8, address=1, pid=2),
    ]
    found = analyze(build(ops=[op("compute", 0, 100)], memory=memory))
    assert found.memory_timeline["in_use_bytes"].to_list() == [208, 108, 8, 48, 40]
    assert found.memory.select("start_bytes", "peak_bytes", "end_bytes").row(0) == (108, 208, 40)


def test_pinned_memory_and_statics_are_apart() -> None:
    rows = [event(1, 10), event(2, 20, kind="pinned"), event(3, 40, kind="device_static"), event(4, 80, device=1)]
    found = analyze(build(ops=[op("compute", 0, 50)], memory=rows))
    assert found.memory.select("device", "kind", "peak_bytes").rows() == [
        (0, "device", 10),
        (0, "pinned", 20),
        (0, "static", 40),
        (1, "device", 80),
    ]
    assert set(found.stage_memory["kind"]) == {"device", "pinned"}


def test_events_without_a_call_belong_to_no_stage() -> None:
    found = analyze(build(ops=[op("compute", 0, 9)], memory=[event(5, 10)], ranges=[span("a", 0, 9)]))
    rows = found.stage_memory.select("stage", "allocations", "peak_bytes").rows()
    assert rows == [("(orphan)", 1, None), ("a", 0, 10)]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(-5, 9)), min_size=1, max_size=12), st.integers(0, 30))
def test_peaks_equal_looking_at_every_instant(events: list[tuple[int, int]], start: int) -> None:
    events = sorted((time, nbytes or 1) for time, nbytes in events)
    end = start + 7
    trace = build(ops=[op("compute", -1, 60)], ranges=[span("a", start, end)], memory=[event(t, n) for t, n in events])
    level, least = {}, 0
    for t in range(-1, 60):
        level[t] = sum(n for when, n in events if when <= t)
        least = min(least, level[t])
    (found,) = analyze(trace).stage_memory.filter(pl.col("stage") == "a")["peak_bytes"]
    assert found == max(level[t] for t in range(start, end)) - least


def test_long_timelines_are_thinned_without_losing_the_peak() -> None:
    rows = [event(i, 10 if i % 2 == 0 else -10) for i in range(5000)]
    rows[2500] = event(2500, 999)
    rows[2501] = event(2501, -999)
    document = trace_document(analyze(build(ops=[op("compute", 0, 5000)], memory=rows)))
    timeline = document["memory"][0]["timeline"]
    assert len(timeline) <= 1000
    assert max(point["in_use_bytes"] for point in timeline) == 999
    assert [p["time_ns"] for p in timeline] == sorted(p["time_ns"] for p in timeline)


def beside_an_idle_device() -> Trace:
    """
    device       |A 0-10|                      |B 60-70|      idle 10..60, waits for thread 10
    thread 10    1 |L|                  50-55 |L|
    thread 11             20 --- cudaHostAlloc --- 80         40 of it beside the idle device
    thread 10                30 cudaMalloc 33                 its own: not concurrent
    """
    return build(
        api=[
            call("cudaLaunchKernel", -5, -2, 1),
            call("cudaLaunchKernel", 50, 55, 2),
            call("cudaHostAlloc", 20, 80, 3, tid=11),
            call("cudaMalloc", 30, 33, 4),
            call("cudaHostAlloc", 20, 80, 5, pid=2, tid=11),
        ],
        ops=[op("compute", 0, 10, 1), op("compute", 60, 70, 2)],
    )


def test_allocator_calls_of_other_threads_while_the_device_idles() -> None:
    assert analyze(beside_an_idle_device()).concurrent_allocator.rows() == [(0, 1, 11, 40)]
