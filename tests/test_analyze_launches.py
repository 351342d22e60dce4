"""Launch waits, kernel counts and the kernels that took the time, from planted traces."""

from __future__ import annotations

from fractions import Fraction

import polars as pl
from hypothesis import given, settings

from aisp_trace.analyze.accounts.launches import SMALL_NS
from aisp_trace.analyze.analyze import analyze
from aisp_trace.tests.examples import examples
from aisp_trace.tests.oracle.build import build, call, device, op, span
from aisp_trace.tests.oracle.strategies import Case, cases
from aisp_trace.traces.model import Trace


def two_streams() -> Trace:
    """
    calls     |1: 0-4|  |2: 10-14|  |3: 20-24|
    stream 7    ...... A 12--------40, B 43--50        A by 1, B by 2
    stream 8                               C 22--30    C by 3, begins inside its call
    """
    return build(
        ranges=[span("work", 0, 100)],
        api=[
            call("cudaLaunchKernel", 0, 4, 1),
            call("cudaLaunchKernel", 10, 14, 2),
            call("cudaLaunchKernel", 20, 24, 3),
        ],
        ops=[
            op("compute", 12, 40, 1, name="A"),
            op("compute", 43, 50, 2, name="B"),
            op("compute", 22, 30, 3, name="C", stream=8),
        ],
    )


def waits(trace: Trace, figure: str, stage: str | None) -> tuple[int, ...]:
    rows = analyze(trace).launches.filter((pl.col("figure") == figure) & pl.col("stage").eq_missing(pl.lit(stage)))
    (row,) = rows.drop("device", "stage", "figure").rows()
    return row


def test_latency_and_queue_delay() -> None:
    # latency: A 12, B 33, C 2; queue delay: A 12 - 4 = 8, B 43 - max(14, 40) = 3, C begins before its call returns: 0
    assert waits(two_streams(), "latency", "work") == (3, 2, 12, 33, 33, 33)
    assert waits(two_streams(), "queue_delay", None) == (3, 0, 3, 8, 8, 8)


def test_percentiles_are_values_that_occurred() -> None:
    calls = [call("cudaLaunchKernel", 1000 * i, 1000 * i + 1, i + 1) for i in range(200)]
    ops = [op("compute", 1000 * i + 1 + i, 1000 * i + 300, i + 1) for i in range(200)]
    assert waits(build(api=calls, ops=ops), "latency", None) == (200, 1, 100, 180, 198, 200)


def test_only_the_first_op_of_a_graph_launch_waits_for_it() -> None:
    """
    call     |--|
    nodes        |A||B||C|
    """
    nodes = [op("compute", 10 * i, 10 * i + 5, 1, graph_node=i) for i in (1, 2, 3)]
    assert waits(build(api=[call("cudaGraphLaunch", 0, 4, 1)], ops=nodes), "latency", None) == (1, 10, 10, 10, 10, 10)


def test_an_op_that_began_before_the_window_is_not_a_launch_of_it() -> None:
    found = analyze(two_streams(), window=(20, 100)).launches
    assert found.filter(pl.col("figure") == "latency")["n"].to_list() == [2, 2]


def test_small_kernels_and_kernels_per_iteration() -> None:
    """Two iterations of one long and two small kernels each; a copy is not a kernel."""
    api, ops, ranges = [], [], []
    for i in range(2):
        at = i * 100_000
        ranges.append(span("iteration", at, at + 90_000))
        lengths = (50_000, SMALL_NS - 1, SMALL_NS - 1, SMALL_NS)
        begin = at + 100
        for k, length in enumerate(lengths):
            number = 10 * i + k + 1
            api.append(call("cudaLaunchKernel", at + k, at + k + 1, number))
            ops.append(op("compute" if k < 3 else "h2d", begin, begin + length, number))
            begin += length
    found = analyze(build(api=api, ops=ops, ranges=ranges)).kernel_counts
    whole = found.filter(pl.col("stage").is_null()).row(0, named=True)
    assert (whole["kernels"], whole["small_kernels"], whole["kernels_per_iteration"]) == (6, 4, 3.0)
    assert (whole["kernel_ns"], whole["small_ns"]) == (2 * (50_000 + 2 * (SMALL_NS - 1)), 4 * (SMALL_NS - 1))


def test_host_bound_time_is_idle_time_the_device_did_not_cause() -> None:
    """A gap of 10 that waits in the queue, and one of 30 that waits for the host.

    call 1, 2 |--|                          call 3                |-|
    ops            |A 10-20|    |B 30-40|                             |C 70-80|
    """
    trace = build(
        api=[call("cudaLaunchKernel", i, i + 1, i + 1) for i in range(2)] + [call("cudaLaunchKernel", 60, 65, 3)],
        ops=[op("compute", 10, 20, 1), op("compute", 30, 40, 2), op("compute", 70, 80, 3)],
    )
    whole = analyze(trace).kernel_counts.filter(pl.col("stage").is_null()).row(0, named=True)
    assert (whole["ledger_ns"], whole["host_bound_ns"]) == (70, 30)


def test_top_kernels_by_total_time() -> None:
    found = analyze(two_streams()).top_kernels.filter(pl.col("stage") == "work")
    assert found.select("name", "ops", "sum_ns").rows() == [("A", 1, 28), ("C", 1, 8), ("B", 1, 7)]
    assert [Fraction(s).limit_denominator(100) for s in found["share"]] == [Fraction(n, 43) for n in (28, 8, 7)]


def test_a_machine_without_a_gpu_launches_nothing() -> None:
    trace = build(
        devices=[device(0, "host")],
        ranges=[span("compute", 0, 10, category="compute")],
        ops=[op("compute", 0, 10, 0)],
    )
    found = analyze(trace)
    assert found.launches.is_empty()
    assert found.kernel_counts.is_empty()
    assert found.top_kernels.is_empty()


@given(cases())
@settings(max_examples=examples(60))
def test_stages_add_up_to_the_device(case: Case) -> None:
    if case.domain is not None or (isinstance(case.window, tuple) and case.window[0] >= case.window[1]):
        return
    found = analyze(case.trace, window=case.window, attribution=case.attribution)
    figures = ["kernels", "kernel_ns", "small_kernels", "small_ns", "ledger_ns", "host_bound_ns"]
    of_stage = pl.col("stage").is_not_null()
    by_stage = found.kernel_counts.filter(of_stage).group_by("device").agg(pl.col(figures).sum()).sort("device")
    whole = found.kernel_counts.filter(~of_stage).select("device", *figures).sort("device")
    assert by_stage.rows() == [row for row in whole.rows() if row[0] in by_stage["device"]]
    windows = {d: end - start for d, start, end in found.windows.rows()}
    assert all(row["ledger_ns"] == windows[row["device"]] for row in whole.iter_rows(named=True))
    counted = found.launches.filter(of_stage).group_by("device", "figure").agg(pl.col("n").sum())
    all_ = found.launches.filter(~of_stage).select("device", "figure", "n")
    assert sorted(counted.rows()) == sorted(all_.rows())
    assert (found.launches["min_ns"] <= found.launches["p50_ns"]).all()
    assert (found.launches["p99_ns"] <= found.launches["max_ns"]).all()


def test_a_memset_without_a_row_is_no_lost_launch_but_a_kernel_is() -> None:
    """cuBLAS sets no bytes before some products: the call succeeds, and there is nothing to record."""
    calls = [call("cudaLaunchKernel", 10 * i, 10 * i + 4, i) for i in range(1, 4)]
    ops = [op("compute", 10 * i + 5, 10 * i + 8, i) for i in range(1, 4)]
    for name, level in (("cudaMemsetAsync", "ok"), ("cudaLaunchKernel", "partial")):
        trace = build(ranges=[span("work", 0, 100)], api=[*calls, call(name, 50, 51, 9)], ops=ops)
        trust = {row["metric"]: row["level"] for row in analyze(trace).trust.to_dicts()}
        assert trust["ledger"] == level
