"""Answers worked out by hand, which the reference and the analyzer must both give, and what must be true of any trace."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings

from aisp_trace.analyze.analyze import analyze
from aisp_trace.tests.examples import examples
from aisp_trace.tests.oracle.build import build, call, device, op, osrt, overhead, span, span_id
from aisp_trace.tests.oracle.reference import LAZY_LOAD_NS, WINDOW, call_class, reference
from aisp_trace.tests.oracle.strategies import Case, cases, seeded_case
from aisp_trace.traces.model import KINDS, Trace

LAUNCH = "cudaLaunchKernel"


def cells(trace: Trace, **how: Any) -> dict[tuple[str, str, str | None], int]:
    """The ledger of device 0 by the reference; the analyzer has to give the same one."""
    expected = reference(trace, **how).cells[0]
    if how.keys() <= {"window", "attribution", "domain"}:
        found = analyze(trace, **how).ledger.filter(pl.col("device") == 0)
        summed = found.group_by("stage", "category", "cause").agg(pl.col("ns").sum())
        ours = {(row["stage"], row["category"], row["cause"]): row["ns"] for row in summed.iter_rows(named=True)}
        assert not ours or ours == {cell: ns for cell, ns in expected.items() if ns}
    return expected


def test_one_gap_is_cut_where_the_launching_call_begins_and_ends() -> None:
    #          0         10        20        30        40
    # range    [ fwd ------------------------------------------- 50
    # thread   L1...           (code)  L2.........
    # device     [ k1 --- ]                            [ k2 ]
    #            2        11          22          34   38   44
    trace = build(
        ranges=[span("fwd", 0, 50)],
        api=[call(LAUNCH, 0, 4, 1), call(LAUNCH, 22, 34, 2)],
        ops=[op("compute", 2, 11, 1), op("compute", 38, 44, 2)],
    )
    assert cells(trace) == {
        ("fwd", "compute", None): 9 + 6,
        ("fwd", "idle", "host_code"): 11,
        ("fwd", "idle", "launch_api"): 12,
        ("fwd", "idle", "launch_latency"): 4,
    }


def test_a_call_that_returned_before_the_gap_leaves_the_op_queued() -> None:
    # thread   L1 L2
    # device        [ k1 ]   [ k2 ]        L2 ends exactly where the gap begins: returned
    #          0  2  4   10  13  15
    trace = build(
        api=[call(LAUNCH, 0, 2, 1), call(LAUNCH, 2, 10, 2)],
        ops=[op("compute", 4, 10, 1), op("compute", 13, 15, 2)],
    )
    assert cells(trace) == {("(none)", "compute", None): 8, ("(none)", "idle", "queued"): 3}


def test_a_gap_between_ops_of_one_launch_is_internal_to_the_graph() -> None:
    # thread   GL
    # device        [n1]  [n2]      [n3 of another launch]
    #          0  2 4  6  9  11     14  15
    trace = build(
        api=[call("cudaGraphLaunch", 0, 2, 1), call("cudaGraphLaunch", 2, 3, 2)],
        ops=[op("compute", 4, 6, 1), op("compute", 9, 11, 1), op("compute", 14, 15, 2)],
    )
    idle = {cause: ns for (_, category, cause), ns in cells(trace).items() if category == "idle"}
    assert idle == {"graph_internal": 3, "queued": 3}


def test_the_op_that_ended_last_decides_whether_a_gap_is_internal() -> None:
    # stream 7      [n1 -------]     [n2]    same launch, and n1 ends with the gap's start ...
    # stream 8         [other -----]         ... but another op ended later
    trace = build(
        api=[call("cudaGraphLaunch", 0, 2, 1), call(LAUNCH, 2, 3, 2)],
        ops=[op("compute", 4, 8, 1), op("compute", 5, 9, 2, stream=8), op("compute", 12, 13, 1)],
    )
    assert cells(trace)["(none)", "idle", "queued"] == 3
    # The other way round: the other op started later but ended before n1.
    ended_first = [op("compute", 4, 9, 1), op("compute", 5, 8, 2, stream=8), op("compute", 12, 13, 1)]
    api = [call("cudaGraphLaunch", 0, 2, 1), call(LAUNCH, 2, 3, 2)]
    assert cells(build(api=api, ops=ended_first))["(none)", "idle", "graph_internal"] == 3


def test_an_equal_correlation_of_another_process_is_no_graph() -> None:
    trace = build(
        api=[call("cudaGraphLaunch", 0, 2, 1), call("cudaGraphLaunch", 0, 2, 1, pid=2)],
        ops=[op("compute", 4, 9, 1, pid=2), op("compute", 12, 13, 1)],
    )
    assert cells(trace)["(none)", "idle", "queued"] == 3


@pytest.mark.parametrize(
    ("name", "row", "cause"),
    [
        ("cudaMemcpyAsync", {"kind": "h2d", "src_kind": "pageable", "dst_kind": "device"}, "copy_api"),
        ("cudaMemcpyAsync", {"kind": "d2h", "src_kind": "device", "dst_kind": "pageable"}, "copy_api"),
        ("cudaMemcpyAsync", {"kind": "h2d", "src_kind": "pinned", "dst_kind": "device"}, "launch_api"),
        ("cudaMemcpy", {"kind": "h2d", "src_kind": "pinned", "dst_kind": "device"}, "copy_api"),
        ("cudaMemset", {"kind": "memset", "dst_kind": "device"}, "copy_api"),
        ("cudaMemsetAsync", {"kind": "memset", "dst_kind": "device"}, "launch_api"),
        ("cudaMemsetAsync", {"kind": "memset", "dst_kind": "pageable"}, "launch_api"),
        ("cudaGraphLaunch", {"kind": "h2d", "src_kind": "pageable", "dst_kind": "device"}, "launch_api"),
    ],
)
def test_inside_the_launching_call(name: str, row: dict[str, str], cause: str) -> None:
    # thread   [ L ----- ]
    # device   [m]       [ X ]      m was launched by nobody; the gap lies wholly inside L
    #          0 1       9   12
    trace = build(api=[call(name, 0, 9, 1)], ops=[op("compute", 0, 1), op("compute", 9, 12, 1) | row])
    assert cells(trace)["(none)", "idle", cause] == 8


@pytest.mark.parametrize(
    ("name", "length", "cause"),
    [
        ("cudaFuncGetAttributes", LAZY_LOAD_NS + 1, "lazy_load"),
        (LAUNCH, LAZY_LOAD_NS, "launch_api"),
        (LAUNCH, LAZY_LOAD_NS + 1, "lazy_load"),
        ("cudaGraphLaunch", LAZY_LOAD_NS + 1, "lazy_load"),
        ("cudaMemcpyAsync", LAZY_LOAD_NS + 1, "launch_api"),
    ],
)
def test_a_launch_longer_than_a_millisecond_loads_lazily(name: str, length: int, cause: str) -> None:
    # The whole call counts, not its part in the gap: the first 10 ns lie under another op.
    trace = build(
        api=[call(name, 0, length, 1)],
        ops=[op("compute", 0, 10), op("compute", length, length + 5, 1)],
    )
    assert cells(trace)["(none)", "idle", cause] == length - 10


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        ({"api": [call("cudaMalloc", 5, 15)]}, "allocator"),
        ({"api": [call("cudaStreamSynchronize", 5, 15)]}, "sync"),
        ({"api": [call("cudaMemcpyAsync", 5, 15)]}, "copy_api"),
        ({"api": [call("cuModuleLoadData", 5, 15)]}, "module_load"),
        ({"api": [call("cudaGraphInstantiate", 5, 15)]}, "graph_build"),
        ({"api": [call("cuLaunchKernelEx", 5, 15)]}, "earlier_launch"),
        ({"api": [call("cudaEventRecord", 5, 15)]}, "other_api"),
        ({"overhead": [overhead("profiler", 5, 15)]}, "profiler"),
        ({"overhead": [overhead("driver", 5, 15)]}, "driver_overhead"),
        # A known call wins over overhead, overhead over an unknown call, the profiler's over the driver's.
        ({"api": [call("cudaFree", 5, 15)], "overhead": [overhead("profiler", 0, 20)]}, "allocator"),
        ({"api": [call("cudaEventRecord", 0, 20)], "overhead": [overhead("driver", 5, 15)]}, "driver_overhead"),
        ({"overhead": [overhead("driver", 5, 15), overhead("profiler", 5, 15)]}, "profiler"),
        # Only the innermost call counts, even where it tells less.
        ({"api": [call("cudaDeviceSynchronize", 0, 20), call("cudaMalloc", 5, 15)]}, "allocator"),
        ({"api": [call("cudaMalloc", 0, 20), call("cudaEventQuery", 5, 15)]}, "other_api"),
        # What other threads do does not count.
        ({"api": [call("cudaMalloc", 5, 15, tid=11)]}, "host_code"),
        ({"overhead": [overhead("profiler", 5, 15, pid=2)]}, "host_code"),
    ],
)
def test_before_the_launching_call_its_thread_says_why(rows: dict[str, list[Any]], cause: str) -> None:
    # thread   ....[  5 to 15  ]....L
    # device  k]                     [ X ]      the gap is 0..21; only 5..15 is looked at
    #          0    5          15   20 21
    api = [*rows.get("api", []), call(LAUNCH, 20, 21, 1)]
    trace = build(
        ranges=[span("s", 0, 5), span("probe", 5, 15), span("s", 15, 30)],
        api=api,
        overhead=rows.get("overhead", []),
        ops=[op("compute", -3, 0), op("compute", 21, 25, 1)],
    )
    assert {key: ns for key, ns in cells(trace).items() if key[0] == "probe"} == {("probe", "idle", cause): 10}


def test_from_the_calls_start_on_the_stage_is_the_ops_whatever_ends_meanwhile() -> None:
    # range    [ s, ended by another thread ]
    # thread          [ L ------------------------ ]
    # device  k]                                        [ X ]
    #          0      4                    10     16    20
    trace = build(
        ranges=[span("s", 0, 10, style="start_end", end_tid=11)],
        api=[call(LAUNCH, 4, 16, 1)],
        ops=[op("compute", -1, 0), op("compute", 20, 21, 1)],
    )
    assert {key: ns for key, ns in cells(trace).items() if key[1] == "idle"} == {
        ("s", "idle", "host_code"): 4,
        ("s", "idle", "launch_api"): 12,
        ("s", "idle", "launch_latency"): 4,
    }


def test_a_gpus_thread_is_known_by_its_calls_before_its_waits() -> None:
    # An alloc stage changes nothing where there are calls to go by; a wait in the operating system is one.
    trace = build(
        ranges=[span("s", 0, 9, category="alloc")],
        api=[call(LAUNCH, 8, 8, 1), call("cudaFree", 3, 5)],
        osrt=[osrt("futex", 2, 6)],
        ops=[op("compute", -1, 0), op("compute", 8, 9, 1)],
    )
    found = cells(trace)
    assert {cause: found["s", "idle", cause] for cause in ("host_code", "waiting", "allocator")} == {
        "host_code": 4,
        "waiting": 2,
        "allocator": 2,
    }


def test_an_op_without_a_recorded_call_is_an_orphan_and_its_gap_unknown() -> None:
    trace = build(ranges=[span("s", 0, 20)], ops=[op("compute", 0, 2, 5), op("compute", 9, 10, 6)])
    assert cells(trace) == {("(orphan)", "compute", None): 3, ("(orphan)", "idle", "unknown"): 7}
    # A range's window does not change that: nothing says that it belongs to the range, or that it does not.
    assert cells(trace, window=0) == {
        ("(orphan)", "compute", None): 3,
        ("(orphan)", "idle", "unknown"): 7,
        ("s", "idle", "host_code"): 10,
    }


def test_the_launching_call_is_the_latest_that_began_before_the_op() -> None:
    # thread 10   [a: L1 ----- ]                [c: L1]      three calls share one correlation
    # thread 11        [b: L1 ]
    # device                      [ k ]
    #             0    2     6    8   12         14
    ranges = [span("a", 0, 9), span("b", 1, 7, tid=11), span("c", 13, 20)]
    api = [call(LAUNCH, 0, 5, 1), call(LAUNCH, 2, 6, 1, tid=11), call(LAUNCH, 14, 16, 1)]
    ops = [op("compute", 8, 12, 1)]
    assert reference(build(ranges=ranges, api=api, ops=ops)).op_stage == {0: "b"}
    # Where all began after the op, the earliest.
    assert reference(build(ranges=ranges, api=[*api[2:], call(LAUNCH, 21, 22, 1)], ops=ops)).op_stage == {0: "c"}


def test_equal_correlations_of_two_processes_do_not_mix() -> None:
    trace = build(
        ranges=[span("one", 0, 9), span("two", 0, 8, pid=2)],
        api=[call(LAUNCH, 0, 1, 1), call(LAUNCH, 0, 1, 1, pid=2)],
        ops=[op("compute", 2, 3, 1), op("compute", 3, 4, 1, pid=2)],
    )
    assert reference(trace).op_stage == {0: "one", 1: "two"}


def test_a_stage_of_another_process_is_never_borrowed() -> None:
    trace = build(
        ranges=[span("two", 0, 9, pid=2)],
        api=[call(LAUNCH, 1, 2, 1), call(LAUNCH, 1, 2, 1, pid=2)],
        ops=[op("compute", 3, 4, 1)],
    )
    assert reference(trace).op_stage == {0: "(none)"}


def test_a_worker_without_a_stage_borrows_the_one_other_threads() -> None:
    # thread 10   [ fwd -------- ]   [ fwd ----]
    # thread 11                      [ opt ----]
    # thread 12      L1                  L2          L3
    #             0  2            9  10  12     19   22
    trace = build(
        ranges=[span("fwd", 0, 9), span("fwd", 10, 19), span("opt", 10, 19, tid=11)],
        api=[call(LAUNCH, t, t + 1, i, tid=12) for i, t in ((1, 2), (2, 12), (3, 22))],
        ops=[op("compute", 3, 5, 1), op("compute", 13, 15, 2), op("compute", 23, 25, 3)],
    )
    assert reference(trace).op_stage == {0: "fwd", 1: "(ambiguous)", 2: "(none)"}
    assert reference(trace, attribution="thread").op_stage == {0: "(none)", 1: "(none)", 2: "(none)"}
    # Before a call the stages of that instant count, not those of the gap's start or of the op that ends it:
    # 5..13 is fwd until 9, none until 10, both until L2 begins at 12; 15..23 is both until 19, then none.
    assert cells(trace) == {
        ("fwd", "compute", None): 2,
        ("(ambiguous)", "compute", None): 2,
        ("(none)", "compute", None): 2,
        ("fwd", "idle", "host_code"): 4,
        ("(none)", "idle", "host_code"): 1 + 3,
        ("(ambiguous)", "idle", "host_code"): 2 + 4,
        ("(ambiguous)", "idle", "launch_api"): 1,
        ("(none)", "idle", "launch_api"): 1,
    }


def test_a_request_handed_to_a_worker_is_the_workers_until_it_ends_it() -> None:
    # thread 10   [ r1 ------------------------ ended by 11 ]
    #                   [ r2 ------------------------- ended by 12 ]
    #                                  L6
    # thread 11      L1         L2
    # thread 12                     L3                 L4       L7
    # thread 20      L0                        L5
    #             0  2  4       10  12  14     16    20  22  30 40
    #             L0 has one stage to choose from, L5 has r1 and r2; L7 comes after all.
    launched = {0: (2, 20), 1: (2, 11), 2: (10, 11), 3: (12, 12), 4: (22, 12), 5: (16, 20), 6: (14, 10), 7: (40, 12)}
    trace = build(
        ranges=[
            span("r1", 0, 20, style="start_end", end_tid=11),
            span("r2", 4, 30, style="start_end", end_tid=12),
        ],
        api=[call(LAUNCH, t, t, i + 1, tid=tid) for i, (t, tid) in launched.items()],
        ops=[op("compute", 50 + 2 * i, 51 + 2 * i, i + 1) for i in launched],
    )
    stages = {0: "r1", 1: "r1", 2: "r1", 3: "r2", 4: "r2", 5: "(ambiguous)", 6: "r2", 7: "(none)"}
    assert reference(trace).op_stage == stages
    found = analyze(trace).ledger.filter(pl.col("category") == "compute")
    assert {row["stage"]: row["ns"] for row in found.to_dicts()} == Counter(stages.values())
    own = reference(trace, attribution="thread").op_stage
    assert [i for i, stage in own.items() if stage != "(none)"] == [6], "only thread 10 has ranges of its own"
    reason = analyze(trace).trust.filter(pl.col("metric") == "projection")["reason"].item()
    assert reason == (
        "1 of 8 operations fit several threads' stages; "
        "1 operations fit several ranges that were handed from thread to thread, and count for the latest"
    ), "L6: thread 10 has begun both; no thread was handed two at a time"


@pytest.mark.parametrize(("second", "guessed"), [(20, 0), (15, 2)])
def test_ranges_that_a_thread_is_handed_one_at_a_time_are_no_guess(second: int, guessed: int) -> None:
    # thread 10   [ r1 ------- ended by 11 ]
    #                      [ r2 ------- ended by 11 ]     at 20, where r1 ends, or before
    trace = build(
        ranges=[
            span("r1", 0, 20, style="start_end", end_tid=11),
            span("r2", second, 40, style="start_end", end_tid=11),
        ],
        api=[call(LAUNCH, t, t, i, tid=11) for i, t in ((1, 5), (2, 25))],
        ops=[op("compute", 50, 51, 1), op("compute", 52, 53, 2)],
    )
    assert reference(trace).op_stage == {0: "r1", 1: "r2"}
    trust = dict(analyze(trace).trust.select("metric", "reason").rows())
    assert (f"{guessed} operations fit several ranges" in trust["projection"]) == bool(guessed)
    assert "cross each other" not in trust["projection"]


def test_requests_in_flight_are_side_by_side_even_where_one_holds_another() -> None:
    # push/pop    [ serve --------------------------------------------------- ]
    # start/end     [ req, ended by 11 ------------------------------- ]
    # start/end        [ req, ended by 12 ------------- ]   [ req ended by 10 ]     the last crosses the first
    # start/end                [ phase ------ ]
    # start/end                   [ phase ]
    # push/pop                    [ work ]
    #             0 2  4       8  10       14 16        30  32        40 50   60
    trace = build(
        ranges=[
            span("serve", 0, 60),
            span("req", 2, 40, style="start_end", end_tid=11),
            span("req", 4, 30, style="start_end", end_tid=12),
            span("phase", 8, 16, style="start_end"),
            span("phase", 10, 14, style="start_end"),
            span("work", 10, 14),
            span("req", 32, 50, style="start_end"),
        ],
        api=[call(LAUNCH, t, t, i, tid=tid) for i, (t, tid) in enumerate([(11, 10), (20, 11), (33, 10), (20, 12)], 1)],
        ops=[op("compute", 60 + 2 * i, 61 + 2 * i, i) for i in (1, 2, 3, 4)],
    )
    expected = {0: "serve/phase/work", 1: "serve/req", 2: "serve/req", 3: "serve/req"}
    assert reference(trace).op_stage == expected
    found = analyze(trace)
    instances = dict(found.stages.select("path", "instances").rows())
    assert instances == {"serve": 1, "serve/req": 3, "serve/phase": 2, "serve/phase/work": 1}
    assert dict(found.stages.select("path", "self_ops").rows())["serve/req"] == 3


def test_the_innermost_stage_is_the_one_that_started_last_even_where_ranges_cross() -> None:
    # push/pop    [ a ------------------- ]
    # start/end         [ b ------------------------- ]     starts in a and outlives it
    # push/pop              [ c ]
    # push/pop                              [ d ]           inside b alone
    # launches      1     2   3    4         5     6    7 (on an end: half-open)
    trace = build(
        ranges=[span("a", 0, 30), span("b", 10, 50, style="start_end"), span("c", 14, 18), span("d", 36, 40)],
        api=[call(LAUNCH, t, t, t) for t in (5, 12, 15, 18, 37, 40, 50)],
        ops=[op("compute", t, t + 1, t) for t in (5, 12, 15, 18, 37, 40, 50)],
    )
    stages = list(reference(trace).op_stage.values())
    assert stages == ["a", "b", "b/c", "b", "b/d", "b", "(none)"]


def test_of_ranges_that_start_together_the_shorter_is_the_inner_one() -> None:
    trace = build(
        ranges=[span("in", 0, 5), span("out", 0, 9), span("empty", 0, 0)],
        api=[call(LAUNCH, 0, 1, 1)],
        ops=[op("compute", 1, 2, 1)],
    )
    assert reference(trace).op_stage == {0: "out/in"}


def test_paths_escape_slashes_and_leave_measured_out() -> None:
    trace = build(
        ranges=[span("measured", 0, 40), span("iteration", 2, 30), span("a/b", 4, 20), span("measured", 6, 10)],
        api=[call(LAUNCH, t, t, t) for t in (1, 3, 5, 7)],
        ops=[op("compute", t, t + 1, t) for t in (1, 3, 5, 7)],
    )
    found = reference(trace)
    assert list(found.op_stage.values()) == [WINDOW, "iteration", "iteration/a\\/b", "iteration/a\\/b"]
    assert set(found.stages) == {(0, "iteration"), (0, "iteration/a\\/b")}


def test_stages_are_ranges_of_our_domain_else_of_the_default_else_as_named() -> None:
    default, nccl, ours = span("d", 0, 9, domain=""), span("n", 1, 9, domain="NCCL"), span("o", 0, 9)
    launch = {"api": [call(LAUNCH, 2, 2, 1)], "ops": [op("comm", 3, 4, 1)]}
    assert reference(build(ranges=[default, nccl, ours], **launch)).op_stage == {0: "o"}
    assert reference(build(ranges=[default, nccl], **launch)).op_stage == {0: "d"}
    assert reference(build(ranges=[nccl], **launch)).op_stage == {0: "(none)"}
    assert reference(build(ranges=[default, nccl, ours], **launch), domain="NCCL").op_stage == {0: "n"}


def test_an_open_range_lasts_until_the_last_time_of_any_table() -> None:
    trace = build(
        ranges=[span("open", 0, None)],
        api=[call(LAUNCH, 50, 51, 1)],
        ops=[op("compute", 52, 53, 1)],
        osrt=[osrt("read", 60, 70, tid=99)],
    )
    found = reference(trace)
    assert found.op_stage == {0: "open"}
    assert found.stages[0, "open"]["host_ns"] == 70


def test_overlapping_ops_are_told_apart_by_kind_then_start_then_number() -> None:
    # h2d        [ a ---------- ]
    # d2h           [ b ------------ ]
    # compute             [ c ]                                [ d ][ e ] and f from d's start: d is first
    #            0  3     6   9   12  15  launches between 15 and 20
    trace = build(
        ranges=[span("a", 0, 1), span("b", 1, 2), span("c", 2, 3), span("d", 15, 16), span("e", 16, 17)],
        api=[call(LAUNCH, t, t, t + 1) for t in (0, 1, 2, 15, 16)],
        ops=[
            op("h2d", 0, 12, 1),
            op("d2h", 3, 15, 2),
            op("compute", 6, 9, 3),
            op("compute", 20, 25, 16),
            op("compute", 22, 30, 17),
            op("compute", 20, 24, 17, stream=8),
        ],
    )
    found = cells(trace)
    busy = {(stage, category): ns for (stage, category, cause), ns in found.items() if cause is None}
    assert busy == {("a", "h2d"): 9, ("b", "d2h"): 3, ("c", "compute"): 3, ("d", "compute"): 5, ("e", "compute"): 5}


def test_an_op_without_length_occupies_nothing_and_ends_no_gap() -> None:
    # device   [ k ]      0       [ k ]      the empty op at 5 was launched by nobody, yet causes nothing
    #          0   2      5       8   9
    trace = build(
        api=[call(LAUNCH, 0, 1, 1), call(LAUNCH, 1, 2, 2)],
        ops=[op("compute", 0, 2, 1), op("compute", 5, 5), op("compute", 8, 9, 2)],
    )
    assert cells(trace) == {("(none)", "compute", None): 3, ("(none)", "idle", "queued"): 6}
    late = build(api=[call(LAUNCH, 1, 4, 2)], ops=[op("compute", 0, 2), op("compute", 5, 5), op("compute", 8, 9, 2)])
    assert cells(late)["(none)", "idle", "launch_latency"] == 4
    assert reference(trace).devices[0]["by_kind"]["compute"] == {"ops": 3, "sum_ns": 3, "union_ns": 3, "nbytes": 0}
    # Inside is half-open: the empty op counts in [5, 6) and not in [4, 5).
    assert reference(trace, window=(5, 6)).devices[0]["by_kind"]["compute"]["ops"] == 1
    assert reference(trace, window=(4, 5)).devices[0]["by_kind"] == {}


def test_a_gap_that_a_window_of_numbers_cuts_keeps_its_causes() -> None:
    # range    [ s ------------------------------------------------- 90 ]
    # thread        L1                                L2
    # device            [ k1 ------ ]                    [ k2 ------ ]
    #          0    4 5 6         10                  30 31        40
    trace = build(
        ranges=[span("s", 0, 90)],
        api=[call(LAUNCH, 4, 5, 1), call(LAUNCH, 30, 31, 2)],
        ops=[op("compute", 6, 10, 1), op("compute", 31, 40, 2)],
    )
    # The op at 31 begins after the window: what the host did for it until 20 was its own code.
    assert cells(trace, window=(2, 20)) == {
        ("s", "idle", "host_code"): 2 + 10,
        ("s", "idle", "launch_api"): 1,
        ("s", "idle", "launch_latency"): 1,
        ("s", "compute", None): 4,
    }
    # After the last op of all nothing is known to wait for.
    assert cells(trace, window=(35, 50)) == {("s", "compute", None): 5, ("(none)", "idle", "tail"): 10}
    # A window that begins inside a gap: the gap began where it did, before the launching call returned.
    assert cells(trace, window=(5, 7)) == {("s", "idle", "launch_latency"): 1, ("s", "compute", None): 1}


def test_a_window_of_a_range_is_prolonged_by_its_own_ops_and_names_the_others_outside() -> None:
    # range    [ before ][ measured ------- ][ after ]
    #                       [ work -- ]
    # thread    L1           L2          S..  L3
    # device       [ k1 ------ ]  [ k2 ---------------- ]
    # other stream                                    [ k3 ---- ]
    #          0  2      10    14 16   20    30 31   38 40      50
    trace = build(
        ranges=[span("before", 0, 10), span("measured", 10, 30), span("work", 12, 20), span("after", 30, 60)],
        api=[call(LAUNCH, 0, 1, 1), call(LAUNCH, 13, 14, 2), call(LAUNCH, 31, 32, 3)],
        ops=[op("compute", 2, 14, 1), op("compute", 16, 40, 2), op("compute", 38, 50, 3, stream=8)],
    )
    found = reference(trace, window=span_id(trace, "measured"))
    assert found.windows == {0: (10, 40)}
    assert found.cells[0] == {
        ("(outside)", "compute", None): 4,
        ("work", "idle", "queued"): 2,
        ("work", "compute", None): 24,
    }


def test_after_the_last_op_the_windows_thread_says_why() -> None:
    # range    [ measured ----------------------- ]
    #            [ work ------------------ ]
    # thread      L    [ synchronise ]
    # device         [ k ]
    #          0  2  4   8          12    14     20
    trace = build(
        ranges=[span("measured", 0, 20), span("work", 1, 14)],
        api=[call(LAUNCH, 2, 3, 1), call("cudaDeviceSynchronize", 5, 12)],
        ops=[op("compute", 4, 8, 1)],
    )
    assert cells(trace, window=span_id(trace, "measured")) == {
        (WINDOW, "idle", "host_code"): 1 + 6,
        ("work", "idle", "host_code"): 1 + 2,
        ("work", "idle", "launch_api"): 1,
        ("work", "idle", "launch_latency"): 1,
        ("work", "compute", None): 4,
        ("work", "idle", "sync"): 4,
    }


def test_stages_that_other_threads_open_in_the_window_belong_to_it_but_not_earlier_ones() -> None:
    # thread 10      [ win ----------------- ]
    # thread 11  [ early ] [ worker ]  L
    # device                             [ k ]          launched by thread 11, which has no stage open at L
    #            0   2   4 5        8  12 14 16  20
    trace = build(
        ranges=[span("win", 2, 20), span("early", 0, 4, tid=11), span("worker", 5, 8, tid=11)],
        api=[call(LAUNCH, 12, 14, 1, tid=11)],
        ops=[op("compute", 14, 16, 1)],
    )
    assert cells(trace, window=span_id(trace, "win")) == {
        ("win", "idle", "host_code"): 1 + 4 + 4,
        ("(outside)", "idle", "host_code"): 2,
        ("worker", "idle", "host_code"): 3,
        ("win", "idle", "launch_api"): 2,
        ("win", "compute", None): 2,
    }


def test_on_a_host_device_the_range_launches_itself() -> None:
    # range     [ load (alloc) ] [ fwd ]    [ bwd ----]
    # thread 10                        futex         read/ioctl
    # device                     [ k ]      [ k ]
    #           0              8 10  14 15 17 20  24
    ranges = [span("load", 0, 8, category="alloc"), span("fwd", 10, 14), span("bwd", 20, 24)]
    known = build(ranges=ranges)
    trace = build(
        ranges=ranges,
        devices=[device(0, "host")],
        osrt=[osrt("futex", 15, 17), osrt("ioctl", 17, 19), osrt("poll", 15, 19, tid=11)],
        ops=[op("compute", 10, 14, span_id(known, "fwd")), op("compute", 20, 24, span_id(known, "bwd"))],
    )
    assert cells(trace, window=(0, 26)) == {
        ("load", "idle", "allocator"): 8,
        ("(none)", "idle", "host_code"): 2 + 1 + 3,
        ("(none)", "idle", "sync"): 2,
        ("fwd", "compute", None): 4,
        ("bwd", "compute", None): 4,
        ("(none)", "idle", "tail"): 2,
    }


def test_device_figures() -> None:
    #            0    5    10   15   20   25   30
    # h2d        [ ------- ]         [ -- ]             10 + 5
    # d2h             [ ------- ]                       5..15
    # compute              [ ------------ ]             10..23, a graph until 25
    # comm                                    [--]      27..30, under nothing
    trace = build(
        ops=[
            op("h2d", 0, 10, nbytes=100),
            op("d2h", 5, 15, nbytes=50),
            op("h2d", 20, 25, nbytes=7),
            op("compute", 10, 23),
            op("compute", 12, 20, stream=8),
            op("graph", 22, 25, stream=9),
            op("comm", 24, 30, nbytes=None),
        ]
    )
    assert reference(trace).devices[0] == {
        "ops_span_ns": 30,
        "busy_ns": 30,
        "idle_ns": 0,
        "by_kind": {
            "compute": {"ops": 2, "sum_ns": 21, "union_ns": 13, "nbytes": 0},
            "graph": {"ops": 1, "sum_ns": 3, "union_ns": 3, "nbytes": 0},
            "comm": {"ops": 1, "sum_ns": 6, "union_ns": 6, "nbytes": 0},
            "h2d": {"ops": 2, "sum_ns": 15, "union_ns": 15, "nbytes": 107},
            "d2h": {"ops": 1, "sum_ns": 10, "union_ns": 10, "nbytes": 50},
        },
        "both_ns": {"copy|compute": 5 + 5, "comm|compute": 1, "h2d|d2h": 5},
        "exposed_ns": {"copy": 10, "comm": 5},
    }
    clipped = reference(trace, window=(8, 12)).devices[0]
    assert clipped["by_kind"]["h2d"] == {
        "ops": 1,
        "sum_ns": 2,
        "union_ns": 2,
        "nbytes": 0,
    }  # how many by then, nobody knows
    assert (clipped["ops_span_ns"], clipped["busy_ns"], clipped["exposed_ns"]["copy"]) == (4, 4, 2)


def test_stage_figures_include_nested_stages() -> None:
    # range    [ it ------------- ]   [ it ------------ ]   [ idle ]
    #            [ fwd ] L2             [ fwd ]
    # launches    L1                      L3 (device 1)
    trace = build(
        ranges=[span("it", 0, 20), span("fwd", 2, 6), span("it", 20, 35), span("fwd", 22, 26), span("host", 40, 44)],
        api=[call(LAUNCH, 3, 4, 1), call(LAUNCH, 8, 9, 2), call("cudaMemcpyAsync", 23, 24, 3)],
        ops=[op("compute", 5, 7, 1), op("compute", 10, 15, 2), op("h2d", 25, 29, 3, device=1, nbytes=64)],
    )
    compute = {"ops": 2, "sum_ns": 7, "union_ns": 7, "nbytes": 0}
    one = {"compute": {"ops": 1, "sum_ns": 2, "union_ns": 2, "nbytes": 0}}
    copy = {"h2d": {"ops": 1, "sum_ns": 4, "union_ns": 4, "nbytes": 64}}
    keys = ("instances", "host_ns", "ops", "self_ops", "projected_ns", "by_kind")
    expected: dict[tuple[int | None, str], tuple[Any, ...]] = {
        (0, "it"): (2, 35, 2, 1, 10, {"compute": compute}),
        (1, "it"): (2, 35, 1, 0, 4, copy),
        (0, "it/fwd"): (2, 8, 1, 1, 2, one),
        (1, "it/fwd"): (2, 8, 1, 1, 4, copy),
        (None, "host"): (1, 4, 0, 0, 0, {}),
    }
    assert reference(trace).stages == {key: dict(zip(keys, row, strict=True)) for key, row in expected.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, "allocator") for name in ("cudaMallocAsync", "cudaFreeHost", "cudaHostAlloc", "cudaHostRegister")),
        *((name, "allocator") for name in ("cuMemAlloc_v2", "cuMemAllocAsync_ptsz", "cuMemCreate", "cuMemPoolTrimTo")),
        *((name, "other") for name in ("cuMemGetInfo_v2", "cuMemMapArrayAsync", "cudaHostGetDevicePointer")),
        *((name, "copy") for name in ("cudaMemcpy", "cuMemcpyHtoDAsync_v2", "cuMemsetD32Async", "cudaMemset2D")),
        *((name, "sync") for name in ("cudaDeviceSynchronize", "cuEventSynchronize", "cuCtxSynchronize")),
        *((name, "module_load") for name in ("cuModuleLoadDataEx", "cuModuleGetFunction", "cudaLibraryLoadData")),
        *((name, "graph_build") for name in ("cudaGraphInstantiate", "cuGraphAddNode", "cudaStreamEndCapture")),
        *((name, "launch") for name in ("cuGraphLaunch", "cudaGraphLaunch", "cudaLaunchKernelExC", "cuLaunchKernel")),
        *((name, "query") for name in ("cudaEventQuery", "cuEventQuery", "cudaStreamQuery", "cuStreamQuery_ptsz")),
        *((name, "kernel") for name in ("cudaFuncGetAttributes", "cuFuncSetAttribute", "cuKernelGetAttribute")),
        *((name, "kernel") for name in ("cudaOccupancyMaxActiveBlocksPerMultiprocessor", "cudaGetFuncBySymbol")),
        *((name, "other") for name in ("cudaStreamIsCapturing", "cuLibraryGetKernel", "cuModuleGetLoadingMode")),
    ],
)
def test_call_classes(name: str, expected: str) -> None:
    assert call_class(name) == expected


def test_a_window_range_must_be_a_stage() -> None:
    with pytest.raises(ValueError, match="is not a stage range"):
        reference(build(ranges=[span("a", 0, 5), span("n", 1, 2, domain="NCCL")], ops=[op("compute", 0, 1)]), window=1)


def ask(case: Case, **how: Any) -> Any:
    """The reference's answer to a case."""
    return reference(case.trace, domain=case.domain, window=case.window, attribution=case.attribution, **how)


@settings(max_examples=examples(60))
@given(cases())
def test_every_instant_is_counted_once(case: Case) -> None:
    found = ask(case)
    for number, (start, end) in found.windows.items():
        ledger, figures = found.cells[number], found.devices[number]
        assert sum(ledger.values()) == end - start
        assert sum(ns for (_, category, _), ns in ledger.items() if category != "idle") == figures["busy_ns"]
        assert all((category == "idle") == (cause is not None) for _, category, cause in ledger)
        assert all(ns > 0 for ns in ledger.values())
        first = next((kind for kind in KINDS if kind in figures["by_kind"]), None)
        if first is not None:  # nothing hides the kind of highest priority
            mine = sum(ns for (_, category, _), ns in ledger.items() if category == first)
            assert mine == figures["by_kind"][first]["union_ns"]


def test_judging_every_nanosecond_changes_nothing() -> None:
    for seed in range(120):
        case = seeded_case(seed)
        _, last = max(ask(case).windows.values(), default=(0, 0), key=lambda bounds: bounds[1])
        if last <= 400:  # not stretched
            assert dataclasses.asdict(ask(case, every_ns=True)) == dataclasses.asdict(ask(case)), case


def test_the_traces_reach_every_cause_and_stage() -> None:
    seen: set[str | None] = set()
    for seed in range(700):
        for ledger in ask(seeded_case(seed)).cells.values():
            seen |= {word for stage, _, cause in ledger for word in (cause, stage)}
    wanted = {"graph_internal", "queued", "launch_latency", "launch_api", "lazy_load", "copy_api", "allocator", "sync"}
    wanted |= {"module_load", "graph_build", "profiler", "driver_overhead", "earlier_launch", "other_api", "host_code"}
    wanted |= {"waiting"}
    wanted |= {"tail", "unknown", "(none)", "(ambiguous)", "(orphan)", "(outside)", WINDOW}
    assert wanted <= seen, wanted - seen
