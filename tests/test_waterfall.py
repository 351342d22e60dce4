"""The waterfall adds up: on drawn traces, on random ones, and on a real H100 recording with its oracle."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.comparison.changes import kernel_changes, kernel_totals, large_gaps, launch_count, rest
from aisp_trace.analyze.comparison.matching import OWN, labels, stage_key
from aisp_trace.analyze.comparison.sides import Account, account, whole_iterations
from aisp_trace.analyze.comparison.waterfall import Waterfall, by_stage, layout, over_devices, spread_of, waterfall
from aisp_trace.analyze.naming.paths import split
from aisp_trace.analyze.result import Analysis
from aisp_trace.tests.builders import pair
from aisp_trace.tests.examples import examples
from aisp_trace.tests.oracle.build import Row, build, call, device, op, span
from aisp_trace.tests.oracle.strategies import Case, cases, seeded_case
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace

SAMPLES = Path(__file__).parent.parent / "traces" / "samples"
PIPELINE = "pipeline_sequential"


def between(base: Analysis, opt: Analysis, **names: Any) -> Waterfall:
    return waterfall(layout([account(base, "base", **names), account(opt, "opt", **names)]), 0, 1)


def terms_of(found: Waterfall) -> dict[tuple[str, str], int]:
    return {(t.stage, t.what): t.difference for t in over_devices(found.terms) if t.difference}


# --- which stages are the same


@pytest.mark.parametrize(
    ("path", "root", "key"),
    [
        ("decode/baseline/stage:decode", "decode/baseline", "stage:decode"),
        ("decode/baseline", "decode/baseline", OWN),
        ("(window)", "", OWN),
        ("iteration", "", OWN),
        ("iteration/h2d", "", "h2d"),  # a copy is not an instance number
        ("epoch/iteration/step", "", "epoch/step"),
        ("layer3", "", "layer#"),
        ("layer_12/attn", "", "layer_#/attn"),
        ("layers.3.attn", "", "layers.#.attn"),
        ("block[7]", "", "block[#]"),
        ("microbatch 0/d2h", "", "microbatch #/d2h"),
        ("conv1x1", "", "conv1x1"),
        ("int8_gemm", "", "int8_gemm"),
        ("17", "", "#"),
        ("decode", "deco", "decode"),  # a root is a whole path, not a beginning of text
        (r"a\/1/b", "a", r"a\/#/b"),
        ("(none)", "x", "(none)"),
    ],
)
def test_stage_keys(path: str, root: str, key: str) -> None:
    assert stage_key(path, root) == key


def test_exact_names_keep_their_digits_and_lose_only_the_root() -> None:
    assert stage_key("run/iteration/layer3", "run", exact=True) == "layer3"


def test_only_sums_get_a_number_sign() -> None:
    sides = [{"layer0": "layer#", "layer1": "layer#", "fp16": "fp#"}, {"layer0": "layer#", "fp16": "fp#"}]
    assert labels(sides) == {"layer#": "layer#", "fp#": "fp16"}


@given(st.lists(st.text("ab/\\1", min_size=1), min_size=1))
def test_a_path_splits_into_the_names_it_was_made_of(names: list[str]) -> None:
    path = "/".join(n.replace("\\", "\\\\").replace("/", "\\/") for n in names)
    assert [re.sub(r"\\(.)", r"\1", part) for part in split(path)] == names


# --- conservation


@settings(max_examples=examples(20))
@given(cases(), cases(), st.booleans())
def test_terms_sum_to_the_difference_of_the_windows(first: Case, second: Case, exact: bool) -> None:
    check_sum(first, second, exact)


@pytest.mark.nightly
def test_terms_sum_to_the_difference_of_the_windows_in_many_traces() -> None:
    for seed in range(0, 200, 2):
        check_sum(seeded_case(seed), seeded_case(seed + 1), seed % 4 == 0)


def check_sum(first: Case, second: Case, exact: bool) -> None:
    one, other = (analyze(c.trace, window=c.window, attribution=c.attribution, details=False) for c in (first, second))
    found = between(one, other, exact=exact)
    windows = [int((a.windows["end_ns"] - a.windows["start_ns"]).sum()) for a in (one, other)]
    weights = found.weights
    assert (
        sum(t.difference for t in found.terms) == found.difference == windows[1] * weights[1] - windows[0] * weights[0]
    )
    assert [sum(t.base_ns for t in found.terms), sum(t.opt_ns for t in found.terms)] == windows
    for merged in (by_stage(found.terms), over_devices(found.terms)):
        assert sum(t.difference for t in merged) == found.difference
    if found.layout.by_device:
        for position, window in enumerate(found.windows):
            assert sum(t.difference for t in found.terms if t.device == position) == window.difference


@settings(max_examples=examples(6))
@given(st.lists(cases(), min_size=3, max_size=4))
def test_the_steps_of_a_ladder_sum_to_its_total_term_by_term(ladder: list[Case]) -> None:
    check_ladder(ladder)


@pytest.mark.nightly
def test_the_steps_of_many_ladders_sum_to_their_totals_term_by_term() -> None:
    for seed in range(0, 100, 4):
        check_ladder([seeded_case(seed + i) for i in range(3 + seed % 8 // 4)])


def check_ladder(ladder: list[Case]) -> None:
    analyses = [analyze(c.trace, window=c.window, attribution=c.attribution, details=False) for c in ladder]
    plan = layout([account(a, str(i)) for i, a in enumerate(analyses)])
    steps = [waterfall(plan, i, i + 1) for i in range(len(ladder) - 1)]
    whole = waterfall(plan, 0, len(ladder) - 1)
    summed: dict[tuple[Any, ...], int] = defaultdict(int)
    for step in steps:
        for t in step.terms:
            summed[t.device, t.stage, t.what] += t.difference
    total = {(t.device, t.stage, t.what): t.difference for t in whole.terms}
    assert {k: v for k, v in summed.items() if v} == {k: v for k, v in total.items() if v}
    assert sum(s.difference for s in steps) == whole.difference


@settings(max_examples=examples(10))
@given(cases())
def test_nothing_differs_from_itself(case: Case) -> None:
    analysis = analyze(case.trace, window=case.window, attribution=case.attribution, details=False)
    found = between(analysis, analysis)
    assert found.difference == 0
    assert all(t.difference == 0 and t.status == "matched" and t.base_spread == t.opt_spread for t in found.terms)


def test_a_ledger_that_lost_time_is_not_explained_away() -> None:
    """The sum is checked against the windows, so a cell that went missing cannot hide."""
    whole = account(analyze(pair.baseline(), window="measured"), "base")
    first, *others = whole.cells.items()
    torn = Account("opt", whole.windows, dict(others), {}, whole.iterations, whole.keys)
    assert first[1] > 0
    with pytest.raises(AssertionError, match="do not sum to the difference of the windows"):
        waterfall(layout([whole, torn]), 0, 1)


# --- different amounts of work


def iterations(n: int, length: int, kernel: int) -> Trace:
    """`n` iterations of `length` us, each with one kernel of `kernel` us at its start."""
    us = 1000
    ops = [op("compute", i * length * us, (i * length + kernel) * us, i + 1) for i in range(n)]
    calls = [call("cudaLaunchKernel", i * length * us, i * length * us + 1, i + 1) for i in range(n)]
    ranges = [span("iteration", i * length * us, (i + 1) * length * us) for i in range(n)]
    return build(ops=ops, api=calls, ranges=[span("measured", 0, n * length * us), *ranges])


def test_other_numbers_of_iterations_are_compared_per_iteration_in_whole_numbers() -> None:
    base, opt = (analyze(t, window="measured") for t in (iterations(6, 10, 7), iterations(4, 8, 7)))
    found = between(base, opt)
    assert (found.layout.per, found.layout.work, found.layout.denominator, found.weights) == (
        "iteration",
        "scaled",
        12,
        (2, 3),
    )
    assert (found.base_ns, found.opt_ns) == (60_000, 32_000)
    assert found.difference == 32_000 * 3 - 60_000 * 2 == -2000 * 12  # 2 us less in each iteration
    assert found.layout.ns(found.difference) == -2000
    assert found.ratio == 1.25
    assert terms_of(found) == {(OWN, "idle: host_code"): -2000 * 12}


def test_equal_numbers_are_compared_window_by_window() -> None:
    found = between(analyze(pair.baseline(), window="measured"), analyze(pair.optimized(), window="measured"))
    assert (found.layout.per, found.layout.work, found.layout.denominator) == ("window", "equal", 1)
    assert found.difference == -8 * pair.MS


def test_a_window_that_cuts_an_iteration_says_nothing_about_the_work() -> None:
    trace = iterations(6, 10, 7)
    assert whole_iterations(analyze(trace, window="measured")) == [0, 1, 2, 3, 4, 5]
    assert whole_iterations(analyze(trace, window=(5_000, 60_000))) == []
    found = between(analyze(trace, window="measured"), analyze(trace, window=(5_000, 60_000)))
    assert (found.layout.work, found.layout.per) == ("unknown", "window")
    assert found.difference == -5_000


# --- matching


def staged(*stages: tuple[str, int, list[Row]]) -> Trace:
    """Stages one after the other: (name, length, ops by start within it); each op is launched 2 ns before it starts."""
    ops: list[Row] = []
    calls: list[Row] = []
    ranges: list[Row] = []
    at = 0
    for name, length, inner in stages:
        ranges.append(span(name, at, at + length))
        for row in inner:
            number = len(ops) + 1
            start = at + row["start_ns"]
            ops.append(
                row | {"start_ns": start, "end_ns": at + row["end_ns"], "correlation": row["correlation"] or number}
            )
            if not any(c["correlation"] == ops[-1]["correlation"] for c in calls):
                calls.append(call("cudaLaunchKernel", start - 2, start - 1, ops[-1]["correlation"]))
        at += length
    return build(ops=ops, api=calls, ranges=ranges)


def test_ten_kernels_that_became_one_are_one_stage_that_got_faster() -> None:
    ten = [op("compute", 2 + 10 * i, 8 + 10 * i, name=f"part{i}<int>") for i in range(10)]
    base, opt = staged(("attn", 110, ten)), staged(("attn", 60, [op("compute", 2, 50, name="void fused<4>(float)")]))
    found = between(analyze(base), analyze(opt))
    assert {t.status for t in found.terms} == {"matched"}
    assert terms_of(found)["attn", "compute"] == 48 - 60
    totals = [kernel_totals(t, analyze(t).windows) for t in (base, opt)]
    changes = kernel_changes(totals[0], totals[1], found.weights)
    first = changes[0]
    assert (first.name, first.status, first.base_ops, first.opt_ops) == ("fused", "added", 0, 1)
    assert sum(c.status == "removed" for c in changes) == 10
    assert rest(changes).difference == 48 - 60 and (rest(changes).base_ops, rest(changes).opt_ops) == (10, 1)
    assert (launch_count(analyze(base)), launch_count(analyze(opt))) == (10, 1)


@pytest.mark.parametrize("nodes", [False, True])
def test_a_graph_is_held_against_the_kernels_it_replaced(nodes: bool) -> None:
    """Recorded whole it is compute from end to end; node by node its gaps are seen, and the terms still sum."""
    single = [op("compute", 4 + 10 * i, 10 + 10 * i, name="k") for i in range(4)]
    whole = [op("graph", 4, 28, 99, graph_id=1)]
    inside = [op("compute", 4 + 6 * i, 9 + 6 * i, 99, name="k", graph_node=i) for i in range(4)]
    base, opt = staged(("decode", 40, single)), staged(("decode", 40, inside if nodes else whole))
    found = between(analyze(base), analyze(opt))
    moved = terms_of(found)
    assert moved.get(("decode", "compute"), 0) == (20 if nodes else 24) - 24
    assert moved.get(("decode", "idle: graph_internal"), 0) == (3 if nodes else 0)
    assert ("decode", "graph") not in moved
    assert sum(moved.values()) == found.difference == (23 if nodes else 24) - 36
    totals = [kernel_totals(t, analyze(t).windows) for t in (base, opt)]
    changes = kernel_changes(totals[0], totals[1], found.weights)
    if nodes:
        assert [(c.name, c.status) for c in changes] == [("k", "same")]
    else:
        assert {(c.name, c.kind, c.status) for c in changes} == {
            ("k", "compute", "removed"),
            ("graph", "graph", "added"),
        }


def test_a_stage_of_one_side_is_a_term_of_its_own() -> None:
    kernel = [op("compute", 2, 8)]
    found = between(
        analyze(staged(("load", 10, kernel), ("sort", 20, kernel))),
        analyze(staged(("load", 10, kernel), ("hash", 12, kernel))),
    )
    status = {t.stage: t.status for t in by_stage(found.terms)}
    assert status == {"load": "matched", "sort": "removed", "hash": "added"}
    assert sum(t.difference for t in by_stage(found.terms)) == found.difference


def test_layers_are_one_stage_however_many_there_are() -> None:
    kernel = [op("compute", 2, 8)]
    base = analyze(staged(*((f"layer{i}", 10, kernel) for i in range(12))))
    opt = analyze(staged(*((f"layer{i}", 10, kernel) for i in range(6))))
    assert [(t.stage, t.status) for t in by_stage(between(base, opt).terms)] == [("layer#", "matched")]
    base, opt = (analyze(staged(*((f"layer{i}", 10, kernel) for i in range(n))), fold=False) for n in (12, 6))
    assert [(t.stage, t.status) for t in by_stage(between(base, opt).terms)] == [("layer#", "matched")]
    told = {t.stage: t.status for t in by_stage(between(base, opt, exact=True).terms)}
    assert told["layer3"] == "matched" and told["layer9"] == "removed" and len(told) == 12


def test_a_workers_stage_is_that_of_the_main_thread() -> None:
    ranges = [span("measured", 0, 50), span("iteration", 0, 50)]
    launch = [call("cudaLaunchKernel", 2, 3, 1)]
    here = build(ops=[op("compute", 4, 9, 1)], api=launch, ranges=[*ranges, span("load", 1, 10)])
    there = build(
        ops=[op("compute", 4, 7, 1)],
        api=[row | {"tid": 11} for row in launch],
        ranges=[*ranges, span("load", 1, 10, tid=11, end_tid=11)],
    )
    found = between(analyze(here, window="measured"), analyze(there, window="measured"))
    assert {t.status for t in found.terms} == {"matched"}
    assert terms_of(found)["load", "compute"] == -2


# --- devices


def on_devices(*lengths: int) -> Analysis:
    """One kernel of each length, each on a device of its own, numbered 0, 2, 4 ..."""
    ops = [op("compute", 0, n, i + 1, device=2 * i) for i, n in enumerate(lengths)]
    return analyze(build(ops=ops, devices=[device(2 * i) for i in range(len(lengths))]))


def test_as_many_devices_are_matched_one_by_one() -> None:
    found = between(on_devices(10, 20), on_devices(7, 25))
    assert [(w.base_device, w.opt_device, w.difference) for w in found.windows] == [(0, 0, -3), (2, 2, 5)]
    assert sorted((t.device, t.difference) for t in found.terms) == [(0, -3), (1, 5)]
    assert [(t.device, t.difference) for t in over_devices(found.terms)] == [(None, 2)]


def test_other_numbers_of_devices_are_added_up() -> None:
    found = between(on_devices(40), on_devices(15, 12))
    assert not found.layout.by_device
    assert [(w.base_device, w.opt_device, w.base_ns, w.opt_ns) for w in found.windows] == [(None, None, 40, 27)]
    assert [(t.device, t.difference) for t in found.terms] == [(None, -13)]


# --- spread and gaps


def test_quartiles_are_of_the_cell_in_each_iteration() -> None:
    base, opt = (analyze(t, window="measured") for t in (iterations(4, 10, 7), iterations(4, 8, 7)))
    found = between(base, opt)
    term = next(t for t in found.terms if t.what == "compute")
    assert term.base_spread == spread_of([7000] * 4)
    assert spread_of([1, 2, 3, 10]).median == 2.5 and spread_of([1, 2, 3, 10]).width == 3.0
    assert spread_of([5]).width == 0.0


def test_a_cell_that_an_iteration_lacks_was_zero_in_it() -> None:
    """A copy in the second iteration alone: over two iterations its median is half of it."""
    ranges = [span("measured", 0, 200), span("iteration", 0, 100), span("iteration", 100, 200)]
    calls = [call("cudaLaunchKernel", 1, 2, 1), call("cudaMemcpyAsync", 101, 102, 2)]
    trace = build(ops=[op("compute", 5, 50, 1), op("h2d", 105, 125, 2)], api=calls, ranges=ranges)
    plain = build(ops=[op("compute", 5, 50, 1)], api=calls[:1], ranges=ranges)
    found = between(analyze(trace, window="measured"), analyze(plain, window="measured"))
    term = next(t for t in found.terms if t.what == "h2d")
    assert (term.base_spread, term.opt_spread) == (spread_of([0, 20]), spread_of([0, 0]))


def test_one_gap_above_a_twentieth_of_the_window_is_named() -> None:
    trace = build(ops=[op("compute", 0, 90, 1), op("compute", 95, 195, 2), op("compute", 207, 220, 3)])
    assert [(g.ns, g.cause) for g in large_gaps(analyze(trace))] == [(12, "unknown")]


# --- a real recording against its oracle


@pytest.fixture(scope="module")
def trace() -> Trace:
    return open_trace(SAMPLES / "h100_pipeline_decode.sqlite.xz")


def ranges_of(trace: Trace, name: str) -> Waterfall:
    """The two ranges `name`/baseline and `name`/optimized of one recording."""
    roots = [f"{name}/baseline", f"{name}/optimized"]
    sides = [account(analyze(trace, window=r, details=False), r, root=r) for r in roots]
    return waterfall(layout(sides), 0, 1)


def cells_of(found: Waterfall) -> dict[tuple[str, str], int]:
    out: dict[tuple[str, str], int] = defaultdict(int)
    for t in found.terms:
        out[t.stage.removeprefix("stage:"), "idle" if t.category == "idle" else t.category] += t.difference
    return {k: v for k, v in out.items() if v}


def test_the_h100_pipeline_waterfall_is_the_prototypes(trace: Trace) -> None:
    """Every term of an independent prototype of the definitions, to the nanosecond, and no other term."""
    found = ranges_of(trace, PIPELINE)
    assert found.difference == -805_805_347
    assert cells_of(found) == {
        ("d2h", "d2h"): -580_868_470,
        ("h2d", "h2d"): -99_722_957,
        ("d2h", "idle"): -57_758_465,
        ("compute", "idle"): -50_301_579,
        ("h2d", "idle"): -11_233_977,
        ("alloc", "idle"): -4_585_347,
        (OWN, "idle"): -1_240_214,
        ("compute", "compute"): -94_338,
    }


def test_the_h100_decode_waterfall_sets_kernels_against_a_graph(trace: Trace) -> None:
    found = ranges_of(trace, "decode")
    assert found.difference == 8_732_470 - 44_944_167
    moved = terms_of(found)
    assert moved["stage:decode", "compute"] == 8_355_539 - 7_643_193
    assert moved["stage:decode", "idle: host_code"] == 19_898 - 24_101_919
    assert moved["stage:decode", "idle: launch_latency"] == 1_532 - 3_253_007
    assert moved["stage:decode", "idle: earlier_launch"] == -25_658
    assert moved[OWN, "idle: host_code"] == 39_021 - 474_968
    assert sum(moved.values()) == found.difference


def test_graph_nodes_tell_the_same_story() -> None:
    """The same program recorded node by node: the gaps between nodes come apart from compute, the sum stays exact."""
    found = ranges_of(open_trace(SAMPLES / "h100_pipeline_decode_graph_nodes.sqlite.xz"), "decode")
    moved = terms_of(found)
    assert moved["stage:decode", "idle: graph_internal"] > 0
    assert sum(moved.values()) == found.difference
    assert {t.status for t in found.terms} == {"matched"}
