"""The host calls that fill the largest gaps."""

from __future__ import annotations

from aisp_trace.analyze.analyze import analyze
from aisp_trace.tests.oracle.build import build, call, op, osrt, span
from aisp_trace.traces.model import Trace


def one_gap() -> Trace:
    """
    device      |A 0-10|                                          |B 100-110|
    thread 10      5 ---- sync ---- 30   40 malloc 60 70 malloc 75   80 L 90
    os                                      45 ioctl 55
    thread 11           20 ------------- sync --------------- 90              another thread's: not shown
    """
    return build(
        api=[
            call("cudaLaunchKernel", -4, -2, 1),
            call("cudaDeviceSynchronize", 5, 30, 2),
            call("cudaMalloc", 40, 60, 3),
            call("cudaMalloc", 70, 75, 4),
            call("cudaLaunchKernel", 80, 90, 5),
            call("cudaDeviceSynchronize", 20, 90, 6, tid=11),
        ],
        osrt=[osrt("ioctl", 45, 55)],
        ops=[op("compute", 0, 10, 1), op("compute", 100, 110, 5)],
    )


def test_calls_of_the_launching_thread_by_time_in_the_gap() -> None:
    assert analyze(one_gap()).gap_calls.rows() == [
        (0, 10, 100, "cuda", "cudaMalloc", 2, 25),
        (0, 10, 100, "cuda", "cudaDeviceSynchronize", 1, 20),
        (0, 10, 100, "cuda", "cudaLaunchKernel", 1, 10),
        (0, 10, 100, "os", "ioctl", 1, 10),
    ]


def test_a_long_call_that_began_before_others_is_found() -> None:
    """The first call reaches into the gap over two that ended before it."""
    trace = build(
        api=[
            call("cudaDeviceSynchronize", 0, 50, 1),
            call("cudaMalloc", 2, 4, 2),
            call("cudaMalloc", 5, 6, 3),
            call("cudaLaunchKernel", 55, 58, 4),
        ],
        ops=[op("compute", 0, 20), op("compute", 60, 70, 4)],
    )
    assert [row[3:] for row in analyze(trace).gap_calls.rows()] == [
        ("cuda", "cudaDeviceSynchronize", 1, 30),
        ("cuda", "cudaLaunchKernel", 1, 3),
    ]


def test_after_the_last_op_the_owner_of_the_window_is_shown() -> None:
    trace = build(
        ranges=[span("run", 0, 100)],
        api=[call("cudaLaunchKernel", 1, 2, 1), call("cudaDeviceSynchronize", 30, 90, 2)],
        ops=[op("compute", 10, 40, 1)],
    )
    found = analyze(trace, window="run").gap_calls
    assert (0, 40, 100, "cuda", "cudaDeviceSynchronize", 1, 50) in found.rows()


def test_a_gap_before_an_unrecorded_launch_has_no_calls() -> None:
    trace = build(api=[call("cudaMalloc", 12, 18, 1)], ops=[op("compute", 0, 10), op("compute", 20, 30)])
    assert analyze(trace).gap_calls.is_empty()
