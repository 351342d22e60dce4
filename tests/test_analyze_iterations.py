"""Figures of each iteration: planted ones, and that they agree with looking at each iteration alone."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings

from aisp_trace.analyze.analyze import analyze
from aisp_trace.tests.examples import examples
from aisp_trace.tests.oracle.build import build, call, op, span
from aisp_trace.tests.oracle.strategies import Case, cases
from aisp_trace.traces.model import Trace


def two_iterations() -> Trace:
    """The copy of iteration 1 begins while the kernel of iteration 0 still runs.

    host      |------ iteration 0 ------|------ iteration 1 -----|
              0                        100                      200
    h2d        20--40                    105---125
    compute        30----------------------110    130-----150
    """
    return build(
        ranges=[span("iteration", 0, 100), span("iteration", 100, 200)],
        api=[
            call("cudaMemcpyAsync", 5, 8, 1),
            call("cudaLaunchKernel", 10, 12, 2),
            call("cudaMemcpyAsync", 101, 103, 3),
            call("cudaLaunchKernel", 104, 106, 4),
        ],
        ops=[
            op("h2d", 20, 40, 1, nbytes=64, stream=8),
            op("compute", 30, 110, 2),
            op("h2d", 105, 125, 3, nbytes=64, stream=8),
            op("compute", 130, 150, 4),
        ],
    )


def test_kinds_of_each_iteration() -> None:
    found = analyze(two_iterations()).iteration_kinds
    assert found.sort("iteration", "kind").rows() == [
        (0, 0, "compute", 1, 80, 80, 0),
        (0, 0, "h2d", 1, 20, 20, 64),
        (0, 1, "compute", 1, 20, 20, 0),
        (0, 1, "h2d", 1, 20, 20, 64),
    ]


def test_an_iteration_hides_its_copies_under_its_own_work_only() -> None:
    found = analyze(two_iterations())
    pair = (pl.col("a") == "copy") & (pl.col("b") == "compute")
    assert found.iteration_overlap.filter(pair).rows() == [
        (0, 0, "copy", "compute", 20, 80, 10),
        (0, 1, "copy", "compute", 20, 20, 0),
    ]
    copies = found.iteration_exposed.filter(pl.col("kind") == "copy")
    assert copies.rows() == [(0, 0, "copy", 10), (0, 1, "copy", 20)]


def test_replicas_that_are_threads_have_iterations_of_their_own() -> None:
    """Two threads of one process, a GPU each, in step; a third without iterations launches within that of its process.

    thread 10   |-- 0 --|-- 2 --|          kernels on device 0
    thread 11    |-- 1 --|-- 3 --|         kernels on device 1
                0       50      100
    """
    trace = build(
        ranges=[
            span("iteration", 0, 50, tid=10),
            span("iteration", 2, 52, tid=11),
            span("iteration", 50, 100, tid=10),
            span("iteration", 52, 102, tid=11),
        ],
        api=[
            call("cudaLaunchKernel", 10, 12, 1, tid=10),
            call("cudaLaunchKernel", 10, 12, 2, tid=11),
            call("cudaLaunchKernel", 60, 62, 3, tid=10),
            call("cudaLaunchKernel", 60, 62, 4, tid=11),
        ],
        ops=[
            op("compute", 20, 30, 1, device=0),
            op("compute", 20, 30, 2, device=1),
            op("compute", 70, 80, 3, device=0),
            op("compute", 70, 80, 4, device=1),
        ],
    )
    found = analyze(trace)
    where = found.iteration_kinds.select("device", "iteration", "ops").sort("device", "iteration").rows()
    assert where == [(0, 0, 1), (0, 2, 1), (1, 1, 1), (1, 3, 1)]
    idle = found.ledger.filter(pl.col("category") == "idle").group_by("device").agg(pl.col("iteration").unique().sort())
    assert dict(idle.rows()) == {0: [0, 2], 1: [1, 3]}


def test_pairs_without_a_first_are_left_out() -> None:
    found = analyze(two_iterations()).iteration_overlap
    assert set(found["a"]) == {"copy", "h2d"}


def test_work_outside_of_iterations_is_in_none() -> None:
    trace = build(api=[call("cudaLaunchKernel", 0, 2, 1)], ops=[op("compute", 5, 9, 1)], ranges=[span("step", 0, 9)])
    found = analyze(trace)
    assert found.iteration_kinds.is_empty()
    assert found.iteration_exposed.is_empty()


@given(cases())
@settings(max_examples=examples(60))
def test_iterations_add_up_to_the_ops_that_have_one(case: Case) -> None:
    if case.domain is not None or (isinstance(case.window, tuple) and case.window[0] >= case.window[1]):
        return
    found = analyze(case.trace, window=case.window, attribution=case.attribution)
    sums = found.iteration_kinds.group_by("device", "kind").agg(pl.col("ops", "sum_ns", "nbytes").sum())
    whole = found.kinds.rename({"ops": "all_ops", "sum_ns": "all_ns", "nbytes": "all_bytes"})
    joined = sums.join(whole, on=["device", "kind"], how="left")
    assert (joined["ops"] <= joined["all_ops"]).all()
    assert (joined["sum_ns"] <= joined["all_ns"]).all()
    assert (joined["nbytes"] <= joined["all_bytes"]).all()
    assert (found.iteration_kinds["union_ns"] <= found.iteration_kinds["sum_ns"]).all()
    assert (found.iteration_exposed["ns"] >= 0).all()
    overlap = found.iteration_overlap
    assert (overlap["both_ns"] <= pl.select(pl.min_horizontal(overlap["a_ns"], overlap["b_ns"])).to_series()).all()


@given(cases())
@settings(max_examples=examples(60))
def test_one_iteration_around_everything_equals_the_device(case: Case) -> None:
    """With a single iteration that holds all launches, its figures are those of the device, pair by pair."""
    ops = case.trace.ops.filter(pl.col("correlation").is_not_null())
    if ops.is_empty() or (ops["device"].n_unique() > 1):
        return
    pids = ops["pid"].unique().to_list()
    rows = [span("iteration", -1, 10**9, pid=pid) for pid in pids]
    trace = build(
        ops=[{k: v for k, v in r.items() if k != "op_id"} for r in ops.to_dicts()],
        api=[{k: v for k, v in r.items() if k != "call_id"} for r in case.trace.api.to_dicts()],
        ranges=rows,
    )
    found = analyze(trace)
    if found.windows.is_empty():
        return
    assert found.iteration_kinds.drop("iteration").sort("kind").rows() == found.kinds.sort("kind").rows()
    whole = found.overlap.filter(pl.col("stage").is_null() & (pl.col("a_ns") > 0))
    columns = ["device", "a", "b", "a_ns", "b_ns", "both_ns"]
    assert sorted(found.iteration_overlap.select(columns).rows()) == sorted(whole.select(columns).rows())
    exposed = found.exposed.filter(pl.col("stage").is_null()).select("device", "kind", "ns")
    assert found.iteration_exposed.select("device", "kind", "ns").sort("kind").rows() == exposed.sort("kind").rows()
