"""Predictions: laws, what was measured afterwards, and how they are asked for."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from aisp_trace.analyze.accounts.peaks import Peaks
from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.attribute import attribute
from aisp_trace.analyze.attribution.calls import ALLOCATOR
from aisp_trace.analyze.attribution.steady import Seeking
from aisp_trace.analyze.findings.find import find
from aisp_trace.analyze.headroom.changes import CHANGES, changed, with_edges, without
from aisp_trace.analyze.headroom.estimate import Base, base_of, iteration_ns, predict, scaled
from aisp_trace.analyze.headroom.graph import COLLECTIVE, RUN
from aisp_trace.analyze.headroom.helps import headroom_tables, ladder, modelled, tried
from aisp_trace.analyze.headroom.iterations import model
from aisp_trace.analyze.headroom.path import critical_path
from aisp_trace.analyze.headroom.predicted import predicted
from aisp_trace.analyze.headroom.rates import CALL_NS, DUPLEX, NODE_NS, Rates, rates_of
from aisp_trace.analyze.headroom.replay import replay
from aisp_trace.analyze.operands import operand
from aisp_trace.analyze.sources import Source as Recorded
from aisp_trace.cli.main import main
from aisp_trace.expectations.judging.predictions import Measured, outcome, predictions_of
from aisp_trace.expectations.model import Bound, ExpectationFile, Predicted, Source, TimeClaim
from aisp_trace.report.page.blocks import Table
from aisp_trace.report.page.left import left_section
from aisp_trace.report.page.sides import Side
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.builders.samples import ROOT, SAMPLES
from aisp_trace.tests.oracle import build as rows
from aisp_trace.traces.calibration import Costs, Link, load_calibration
from aisp_trace.traces.errors import InputError, UsageError
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace
from aisp_trace.traces.run import load_run

RUNS = {
    "h200_pipeline_sequential": ("baseline", "optimized", "cuda_graph"),
    "h200_end_to_end_bandwidth": ("batched", "optimized"),
    "h200_memory_standard": ("baseline", "keep_cache", "optimized", "reuse"),
}

RATES = Rates({"h2d": 55.37, "d2h": 55.33}, 4800.0, True, "calibration", DUPLEX)
"""GB/s, as expectations/calibration_h200.json has them, and H200's data sheet."""


def base(run: str, variant: str) -> Base:
    (file,) = (SAMPLES / run / variant).glob("trace.sqlite*")
    return base_of(model(attribute(open_trace(file))), RATES, load_run(SAMPLES / run).untraced_ns(variant))


def bare(name: str, rates: Rates = RATES) -> Base:
    return base_of(model(attribute(open_trace(SAMPLES / f"{name}.sqlite.xz"))), rates)


def in_us(trace: Trace) -> Trace:
    ops, api, ranges = (
        trace.table(name).with_columns(pl.selectors.matches("_ns$") * 1_000) for name in ("ops", "api", "ranges")
    )
    return replace(trace, ops=ops, api=api, ranges=ranges)


@pytest.fixture(scope="module")
def pipeline() -> Base:
    return base("h200_pipeline_sequential", "baseline")


@pytest.mark.parametrize(
    ("run", "variant", "change", "target", "within"),
    [
        ("h200_pipeline_sequential", "baseline", "copies:overlap", "optimized", 0.03),
        ("h200_pipeline_sequential", "optimized", "graph:iteration", "cuda_graph", 0.04),
        ("h200_end_to_end_bandwidth", "batched", "copies:overlap", "optimized", 0.03),
        ("h200_memory_standard", "baseline", "allocator", "keep_cache", 0.12),  # kernels ran faster on used memory
    ],
)
def test_what_was_measured_was_predicted(run: str, variant: str, change: str, target: str, within: float) -> None:
    found = predict(base(run, variant), [change])
    measured = load_run(SAMPLES / run).untraced_ns(target)
    assert found.grade == "estimate" and found.estimate_ns is not None and measured is not None
    assert abs(found.estimate_ns / measured - 1) < within


def at_duplex(found: Base, h2d: float, d2h: float) -> Base:
    rates = replace(found.situation.rates, duplex={"h2d": h2d, "d2h": d2h})
    return replace(found, situation=replace(found.situation, rates=rates))


def test_copies_that_meet_on_the_link_take_longer_by_as_long_as_they_meet() -> None:
    """Against a count of every pair: each copy, each other one that it meets in the replay of copies at full rate."""
    batched = base("h200_end_to_end_bandwidth", "batched").situation
    alone = changed("copies:overlap", replace(batched, rates=replace(RATES, duplex={}))).graph
    both = changed("copies:overlap", replace(batched, rates=replace(RATES, duplex={"h2d": 0.8, "d2h": 0.5}))).graph
    kinds, time = batched.a.trace.ops["kind"].to_list(), replay(alone).tolist()
    copies = [op for op, kind in enumerate(kinds) if kind in ("h2d", "d2h") and alone.begun[op] >= 0]
    expected = {}
    for op in copies:
        met = dict.fromkeys(("before", "after"), 0)
        for other in (one for one in copies if kinds[one] != kinds[op]):
            for now, at in (("before", alone.time.tolist()), ("after", time)):
                low = max(at[alone.begun[op]], at[alone.begun[other]])
                met[now] += max(0, min(at[alone.done[op]], at[alone.done[other]]) - low)
        slower = {"h2d": 0.25, "d2h": 1.0}[kinds[op]]
        expected[op] = round(max(0, met["after"] - met["before"]) * slower)
    longer = both.weight - alone.weight
    assert sum(expected.values()) > 0
    assert {op: longer[(both.what == RUN) & (both.of_target == op)].tolist() for op in copies} == {
        op: [ns] for op, ns in expected.items()
    }
    assert not longer[both.what != RUN].any()


def test_a_slower_link_both_ways_costs_no_more_than_it_is_slower(pipeline: Base) -> None:
    shares = (1.0, 0.95, 0.8, 0.5)
    found = [predict(at_duplex(pipeline, share, share), ["copies:overlap"]).estimate_ns for share in shares]
    times = [ns for ns in found if ns is not None]
    assert times == sorted(times) and len(times) == len(shares)
    assert times[0] < times[-1] <= 2 * times[0]
    for change in ("copies:pinned", "graph:iteration", "syncs"):
        assert predict(at_duplex(pipeline, 0.5, 0.5), [change]).estimate_ns == predict(pipeline, [change]).estimate_ns


def test_a_calibration_brings_what_a_change_needs() -> None:
    trace = open_trace(SAMPLES / "h200_graphs.sqlite.xz")
    stored = load_calibration(ROOT / "expectations" / "calibration_h200.json")
    old = rates_of(trace.devices, Peaks(stored))
    assert (old.duplex, old.call_ns, old.node_ns) == (DUPLEX, CALL_NS, NODE_NS), "older files have no such keys"

    def slower(link: Link, share: float) -> Link:
        return replace(link, rates=[replace(r, median_bytes_per_s=share * r.median_bytes_per_s) for r in link.rates])

    ways = {link.kind: link for link in stored.links if link.memory == "pinned"}
    duplex = [slower(ways["h2d"], 0.75), slower(ways["d2h"], 0.5)]
    new = rates_of(trace.devices, Peaks(replace(stored, duplex=duplex, costs=[Costs(0, 3_900, 510)])))
    assert new.duplex == {"h2d": pytest.approx(0.75), "d2h": pytest.approx(0.5)}
    assert (new.call_ns, new.node_ns) == (3_900, 510)
    unseen = rates_of(trace.devices, Peaks(replace(stored, costs=[Costs(0, 3_900, None)])))
    assert (unseen.call_ns, unseen.node_ns) == (3_900, NODE_NS)


def test_what_a_launch_and_a_node_cost_moves_a_graph(pipeline: Base) -> None:
    def graph_at(call_ns: int, node_ns: int) -> int:
        rates = replace(RATES, call_ns=call_ns, node_ns=node_ns)
        found = predict(replace(pipeline, situation=replace(pipeline.situation, rates=rates)), ["graph:iteration"])
        assert found.estimate_ns is not None
        return found.estimate_ns

    times = [graph_at(1_000, 100), graph_at(5_000, 100), graph_at(5_000, 450), graph_at(50_000, 5_000)]
    assert times == sorted(times) and times[0] < times[-1]


def test_nothing_changed_takes_as_long_as_it_does(pipeline: Base) -> None:
    found = predict(pipeline, [])
    assert pipeline.untraced_ns is not None and found.estimate_ns is not None
    assert abs(found.estimate_ns / pipeline.untraced_ns - 1) < 1e-3
    assert iteration_ns(pipeline.situation, pipeline.situation.graph) == pipeline.ns
    graph = pipeline.situation.graph
    assert (replay(graph) == graph.time).all(), "marks change nothing"


def test_more_host_time_never_makes_an_iteration_shorter(pipeline: Base) -> None:
    lengths = [iteration_ns(pipeline.situation, scaled(pipeline.situation.graph, f)) for f in (0.0, 0.3, 0.8, 1.0, 1.3)]
    assert lengths == sorted(lengths) and lengths[0] < lengths[3] == pipeline.ns


@pytest.mark.parametrize(
    "name", ["graph:iteration", "copies:overlap", "copies:pinned", "syncs", "allocator", "host:h2d"]
)
def test_a_change_that_only_takes_away_never_costs(pipeline: Base, name: str) -> None:
    found = predict(pipeline, [name])
    assert found.estimate_ns is not None and found.at_most_ns is not None and pipeline.untraced_ns is not None
    assert found.at_most_ns <= found.estimate_ns <= pipeline.untraced_ns * 1.001


def test_kernels_twice_as_fast_are_indicative_and_take_half_their_time_from_the_path(pipeline: Base) -> None:
    found = predict(pipeline, ["kernels:compute:2"])
    assert found.grade == "indicative" and found.estimate_ns is not None
    whole = predict(pipeline, []).estimate_ns
    assert whole is not None and 0 < whole - found.estimate_ns < 12e6, "11 ms of kernels an iteration"


def test_changes_follow_each_other(pipeline: Base) -> None:
    both, one = predict(pipeline, ["copies:pinned", "copies:overlap"]), predict(pipeline, ["copies:overlap"])
    assert both.estimate_ns == one.estimate_ns and len(both.assumes) == 2


def test_edges_come_and_go_without_a_trace(pipeline: Base) -> None:
    graph = pipeline.situation.graph
    none = graph.source[:0]
    assert (replay(with_edges(graph, none, none, 0, graph.weight[:0])) == graph.time).all()
    assert (replay(without(graph, graph.what < 0)) == graph.time).all()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("grahp:iteration", "graph"),
        ("graph:comptue", "compute"),
        ("kernels:compute", "kernels:STAGE:2"),
        ("kernels:compute:0", "kernels:STAGE:2"),
        ("copies", "copies:overlap"),
    ],
)
def test_a_change_that_nobody_knows_is_refused_with_the_nearest(pipeline: Base, said: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        changed(said, pipeline.situation)


def test_what_cannot_be_trusted_has_no_number(pipeline: Base) -> None:
    unreachable = replace(pipeline, factor=None)
    wrong = replace(pipeline, structure_error=0.06)
    for one in (unreachable, wrong):
        found = predict(one, ["syncs"])
        assert (found.grade, found.estimate_ns, found.at_most_ns) == ("refused", None, None) and found.why
    assert predict(wrong, ["syncs"]).why == "a model of this trace is 6.0 % off its own time"
    assert predict(replace(pipeline, structure_error=0.03), ["syncs"]).grade == "indicative"


def test_collectives_are_replayed_by_all_ranks_together() -> None:
    """Two ranks that wait for each other: faster collectives gain as little as the measured pair did (1.00x)."""
    both = bare("h200x2_ddp")
    assert both.lone_collectives == 0 and both.refusal is None
    graph = both.situation.graph
    assert int((graph.what == COLLECTIVE).sum()) > 0 and (replay(graph) == graph.time).all()
    free = predict(both, ["comm"])
    assert free.estimate_ns is not None and 1.0 <= both.ns / free.estimate_ns < 1.02


def test_one_rank_of_several_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    trace = open_trace(SAMPLES / "h200x2_ddp.sqlite.xz")
    ops = trace.ops.filter(pl.col("device") == 0)
    one = base_of(model(attribute(replace(trace, ops=ops))), RATES)
    found = predict(one, ["comm"])
    assert found.grade == "refused" and found.estimate_ns is None
    assert f"{one.lone_collectives} collectives wait for ranks that are not in this trace" in found.why


def test_a_late_rank_is_on_the_critical_path_of_the_others() -> None:
    """Rank 0 begins its collective at 10 us and waits; rank 1 computes until 50 us, then both end at 60."""
    ops = [
        rows.op("compute", 2, 8, 1, device=0),
        rows.op("comm", 10, 60, 2, device=0, name="ncclDevKernel_AllReduce"),
        rows.op("compute", 62, 70, 3, device=0),
        rows.op("compute", 4, 48, 4, device=1, pid=2),
        rows.op("comm", 50, 60, 5, device=1, pid=2, name="ncclDevKernel_AllReduce"),
    ]
    api = [
        *(rows.call("cudaLaunchKernel", at, at + 1, n) for n, at in ((1, 0), (2, 1), (3, 2))),
        *(rows.call("cudaLaunchKernel", at, at + 1, n, pid=2) for n, at in ((4, 1), (5, 3))),
    ]
    a = attribute(in_us(rows.build(ops=ops, api=api)))
    m = model(a)
    assert int((m.graph.what == COLLECTIVE).sum()) == 2
    path = critical_path(a, m).group_by("device", "category").agg(pl.col("ns").sum())
    spent = {(device, category): ns // 1_000 for device, category, ns in path.iter_rows()}
    assert spent[1, "compute"] == 44, "what the late rank did sets the pace"
    assert spent[0, "comm"] == 10 and spent[0, "compute"] == 8 and (1, "comm") not in spent
    free = replace(m.graph, weight=changed("comm", base_of(m, RATES).situation).graph.weight)
    assert replay(free)[m.graph.done[2]] == 50_000, "without the transfer both end when the last one comes"


def test_a_trace_without_iterations_is_replayed_as_a_whole_and_says_so() -> None:
    whole = bare("h100_pipeline_decode")
    assert whole.whole and whole.ns > 3e9
    for change in ("graph:iteration", "copies:overlap", "syncs"):
        found = predict(whole, [change])
        assert found.grade == "refused" and "--iterations" in found.why
    found = predict(whole, ["copies:pinned"])
    assert found.grade == "indicative" and "6 % of the iterations go by loading kernels" in found.why


def test_a_trace_without_a_gpu_says_so() -> None:
    with pytest.raises(InputError, match="no API calls"):
        found = Seeking("pipeline", 0)
        predicted(operand(str(SAMPLES / "cpu_threads_nsys2022.sqlite.xz")), [], None, found)


def test_iterations_told_from_kernels_alone_are_replayed() -> None:
    """The same recording without its ranges: kernels repeat with each of an iteration's 32 batches."""
    (file,) = (SAMPLES / "h200_pipeline_sequential" / "baseline").glob("trace.sqlite*")
    trace = open_trace(file)
    named, told = (base_of(model(attribute(t)), RATES) for t in (trace, replace(trace, ranges=trace.ranges.clear())))
    assert told.situation.a.steady is not None and told.situation.a.steady.found_by == "kernels" and not told.whole
    assert abs(32 * told.ns / named.ns - 1) < 0.01
    gains = [one.ns / (predict(one, ["copies:pinned"]).estimate_ns or 1) for one in (named, told)]
    assert gains[0] > 2.5 and abs(gains[1] / gains[0] - 1) < 0.05


@pytest.mark.parametrize("named", [True, False])
def test_a_stretch_of_a_long_trace_predicts_what_the_whole_does(named: bool) -> None:
    (file,) = (SAMPLES / "h200_pipeline_sequential" / "baseline").glob("trace.sqlite*")
    trace = open_trace(file)
    a = attribute(trace if named else replace(trace, ranges=trace.ranges.clear()))
    whole, part = (base_of(model(a, most), RATES) for most in (10_000, 2_000))
    assert 3 <= len(part.situation.host) < len(whole.situation.host) - 2
    graph = part.situation.graph
    assert (replay(graph) == graph.time).all() and len(graph.time) < len(whole.situation.graph.time) / 2
    for change in ("copies:pinned", "graph:iteration", "syncs"):
        one, other = (base.ns / (predict(base, [change]).estimate_ns or 1) for base in (whole, part))
        assert abs(other / one - 1) < 0.05, "a third of the iterations, which take 3 % longer than the others"


def test_a_long_trace_without_iterations_has_no_prediction() -> None:
    with pytest.raises(InputError, match="--iterations"):
        model(attribute(open_trace(SAMPLES / "h100_pipeline_decode.sqlite.xz")), 5_000)


def test_a_stage_by_its_folded_name_is_all_of_its_ranges() -> None:
    ops = [rows.op("compute", 200 * n + 10, 200 * n + 210, n + 1) for n in range(8)]
    api = [rows.call("cudaLaunchKernel", 50 * n + 2, 50 * n + 7, n + 1) for n in range(8)]
    ranges = [rows.span(f"layer {n}", 50 * n, 50 * n + 50, parent=None) for n in range(8)]
    whole = base_of(
        model(attribute(in_us(rows.build(ops=ops, api=api, ranges=ranges)), seeking=Seeking(skip=0))), RATES
    )
    folded, one = (predict(whole, [f"kernels:{name}:2"]).estimate_ns for name in ("layer #", "layer 3"))
    assert folded is not None and one is not None and folded < one < whole.ns


@pytest.mark.parametrize(
    ("change", "saved"),
    [
        ("host:make", 40_000),
        ("host:send", 8_000),
        ("host:wait", 10_000),
        ("host:iteration", 70_000),
        ("graph:send", 5_000),
    ],
)
def test_the_hosts_time_is_that_of_the_stage_it_passed_in(change: str, saved: int) -> None:
    """us        0    5        45   52  58 60  62  68         78 83  85 95 100
    range     |----|-- make --|     |--- send ----------------------|-- wait --|
    calls                             |launch|              (sync 85 -- returns 90)
    device                                     |--- 70 to 85: 15 us ---|
    `make` calls nothing: what it takes ends at the next call, in another stage. Of 15 us after it 8 lie in `send`. Without them
    the call that waits begins 8 us earlier; a graph's launch takes 3 us more than the kernel's did."""
    ops, api, ranges = [], [], []
    for i in range(8):
        at = 100 * i
        api += [
            rows.call("cudaLaunchKernel", at + 60, at + 62, i + 1),
            rows.call("cudaDeviceSynchronize", at + 85, at + 90, 100 + i),
        ]
        ops.append(rows.op("compute", at + 70, at + 85, i + 1))
        ranges += [
            rows.span("iteration", at, at + 100),
            rows.span("make", at + 5, at + 45),
            rows.span("send", at + 52, at + 80),
            rows.span("wait", at + 80, at + 100),
        ]
    loop = base_of(model(attribute(in_us(rows.build(ops=ops, api=api, ranges=ranges)), seeking=Seeking(skip=0))), RATES)
    assert loop.ns == 100_000
    found = predict(loop, [change]).estimate_ns
    assert found is not None and loop.ns - found == saved


def test_a_loop_that_never_waits_takes_what_the_device_takes() -> None:
    """Ten steps are launched in 20 us each and run 100 us each: the host is far ahead, and no range lasts as long as its work."""
    ops = [rows.op("compute", 10 + 100 * step, 110 + 100 * step, step + 1) for step in range(10)]
    api = [rows.call("cudaLaunchKernel", 20 * step + 4, 20 * step + 9, step + 1) for step in range(10)]
    ranges = [rows.span(f"step {step}", 20 * step, 20 * step + 20) for step in range(10)]
    loop = base_of(model(attribute(in_us(rows.build(ops=ops, api=api, ranges=ranges)), seeking=Seeking(skip=0))), RATES)
    assert loop.situation.a.steady is not None and len(loop.situation.a.steady.steady) == 10
    assert loop.ns == 101_000, "ten times 100 us, and 10 us until the first begins"
    hosts, kernels = (predict(loop, [change]).estimate_ns for change in ("host:iteration", "kernels:iteration:2"))
    assert hosts is not None and 100_000 <= hosts <= 101_000, "the device is what takes the time"
    assert kernels is not None and 50_000 <= kernels <= 52_000


def test_pinned_memory_spares_the_host_its_copy(pipeline: Base) -> None:
    """2 x 537 MB an iteration at 55 GB/s take 19.4 ms, kernels 11.4: the host's staging copies must not stay."""
    found = predict(pipeline, ["copies:pinned"])
    assert found.estimate_ns is not None and 31e6 < found.estimate_ns < 45e6


def test_copies_are_as_fast_as_the_data_sheet_says_where_nothing_was_measured() -> None:
    trace = open_trace(SAMPLES / "h100_pipeline_decode.sqlite.xz")
    rates = rates_of(trace.devices, None)
    assert rates.source == "datasheet H100 SXM" and not rates.measured
    assert rates.link["h2d"] == rates.link["d2h"] and 55 < rates.link["h2d"] < 56
    unknown = replace(
        base("h200_pipeline_sequential", "baseline"),
        situation=replace(base("h200_pipeline_sequential", "baseline").situation, rates=Rates()),
    )
    found = predict(unknown, ["copies:pinned"])
    assert found.grade == "refused" and "--calibrate" in found.why
    doubted = replace(unknown, situation=replace(unknown.situation, rates=rates))
    assert predict(doubted, ["copies:pinned"]).grade == "indicative"


def test_fused_kernels_take_as_long_as_their_bytes(pipeline: Base) -> None:
    """An iteration has 32 such stages, whose kernels nothing hides once copies are pinned."""
    least, small, large = (
        predict(pipeline, ["copies:pinned", f"fuse:compute:{size}"]) for size in ("1B", "1GiB", "2GiB")
    )
    assert {one.grade for one in (least, small, large)} == {"indicative"}
    assert least.estimate_ns is not None and small.estimate_ns is not None and large.estimate_ns is not None
    assert least.estimate_ns < small.estimate_ns < large.estimate_ns
    assert large.estimate_ns - small.estimate_ns == pytest.approx(32 * 2**30 / 4800, rel=0.02)


def test_iterations_that_launch_different_kernels_make_a_graph_indicative(pipeline: Base) -> None:
    varied = replace(pipeline, situation=replace(pipeline.situation, static=0.7))
    assert predict(pipeline, ["graph:iteration"]).grade == "estimate"
    found = predict(varied, ["graph:iteration"])
    assert found.grade == "indicative" and "70 %" in found.why


def test_a_graph_that_cannot_hold_its_allocations_is_indicative_and_no_first_choice() -> None:
    trace = open_trace(next((SAMPLES / "h200_memory_standard" / "baseline").glob("trace.sqlite*")))
    m = model(attribute(trace))
    base = base_of(m, RATES)
    found = predict(base, ["graph:iteration"])
    assert found.grade == "indicative" and "cudaMalloc" in found.why and "a graph cannot hold" in found.why
    each = [p for p in tried(base, critical_path(m.a, m)) if p.estimate_ns is not None]
    names = [p.changes[0] for p in each]
    assert names.index("allocator") < names.index("graph:iteration")
    names_of = trace.api["name"].cast(pl.String).str.replace(r"^(cudaMalloc|cudaFree)$", "${1}Async")
    ordered = replace(trace, api=trace.api.with_columns(names_of.cast(pl.Enum(names_of.unique().sort()))))
    kept = predict(base_of(model(attribute(ordered)), RATES), ["graph:iteration"])
    assert "cannot hold" not in kept.why, "a graph has nodes for them"


def test_the_ladder_takes_the_largest_gain_first_and_never_goes_up(pipeline: Base) -> None:
    each = tried(pipeline, critical_path(pipeline.situation.a, model(pipeline.situation.a)))
    after = ladder(pipeline, each)
    times = list(after.values())
    assert times == sorted(times, reverse=True) and next(iter(after)) == each[0].changes
    assert after[each[0].changes] == each[0].estimate_ns
    assert ("copies:pinned",) not in after, "copies:overlap has pinned them"


def test_the_tables_say_what_predict_says(pipeline: Base) -> None:
    a = pipeline.situation.a
    made = headroom_tables(modelled(a), critical_path(a, model(a)), RATES, pipeline.untraced_ns)
    table, (on,) = made["headroom"], made["replayed"].to_dicts()
    for row in table.iter_rows(named=True):
        one = predict(pipeline, [row["change"]])
        assert (row["estimate_ns"], row["at_most_ns"], row["grade"]) == (one.estimate_ns, one.at_most_ns, one.grade)
    assert on["base_ns"] == pipeline.ns and on["host_factor"] == pipeline.factor and on["why"] == ""
    refused = headroom_tables("no reason", table.clear(), RATES, None)
    assert refused["headroom"].is_empty() and refused["replayed"]["why"].to_list() == ["no reason"]


def test_a_finding_says_what_its_remedy_gains() -> None:
    (found,) = find(analyze(open_trace(next((SAMPLES / "h200_memory_standard" / "baseline").glob("trace.sqlite*")))))[
        :1
    ]
    assert found.rule == "allocator_stalls" and found.change == "allocator" and found.grade == "estimate"
    assert found.gain is not None and 1.8 < found.gain < 2.2
    assert "Replayed without allocator calls, an iteration is 2.0" in found.said(False)
    assert found.saving_ns == round((1 - 1 / found.gain) * found.saving_at_most_ns / found.share)
    half = replace(found, share=0.5)  # gone alone it makes the window twice as fast
    within, above = replace(half, gain=2.05).said(False), replace(half, gain=2.15).said(False)
    assert within.endswith(" is 2.05x as fast (estimate).")
    assert above.endswith(" is 2.15x as fast (estimate): more than its share, since other waits go or are hidden, too.")


def test_what_no_replay_says_is_headed_at_most() -> None:
    analysis = analyze(open_trace(next((SAMPLES / "h200_memory_standard" / "baseline").glob("trace.sqlite*"))))
    refused = replace(
        analysis,
        headroom=analysis.headroom.clear(),
        replayed=analysis.replayed.with_columns(pl.lit("a model of this trace is 19 % off its own time").alias("why")),
    )
    for one, head in ((analysis, "saves"), (refused, "saves at most")):
        made = left_section([Side("only", one)])
        assert made is not None
        found = next(block for block in made.blocks if isinstance(block, Table) and block.caption == "findings of only")
        assert found.heads[1] == head
    page = str(made)
    assert "No gain can be predicted: a model of this trace is 19 % off its own time." in page


def test_the_hosts_time_in_a_whole_recording_without_names_is_no_gain() -> None:
    """Most of it is set-up, so the finding says what to name; with operators as stages, the host's time in some is offered."""
    recorded = open_trace(SAMPLES / "h100_pipeline_decode_kineto.json.gz")
    trace = replace(recorded, ranges=recorded.ranges.clear())
    found = analyze(trace)
    assert not found.headroom["change"].str.starts_with("host:").any() and found.headroom.height
    (host,) = (one for one in find(found) if one.rule == "host_bound")
    assert host.gain is None and host.replay_words == ""
    assert "stage() in the program or --iterations REGEX tells them apart" in host.evidence
    whole = base_of(model(attribute(trace)), RATES)
    asked = predict(whole, ["host:iteration"])
    assert asked.grade == "refused" and "neither iterations nor stages" in asked.why
    named = analyze(recorded)
    hosts = [change for change in named.headroom["change"] if change.startswith("host:")]
    assert hosts[:2] == ["host:aten::uniform_", "host:aten::randn/aten::normal_"]
    (host,) = (one for one in find(named) if one.rule == "host_bound")
    assert "tells them apart" not in host.evidence and (host.stage, host.change) == ("aten::uniform_", hosts[0])
    assert host.remedy.startswith("make random numbers on the device (device='cuda'); if it is set-up, leave it out")


def test_asked_for_nothing_it_ranks_what_pays(capsys: pytest.CaptureFixture[str]) -> None:
    run = f"{SAMPLES / 'h200_pipeline_sequential'}:baseline"
    assert main(["predict", run, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["schema"] == "aisp-trace/headroom/1" and made["replay"]["exact"] and made["together"] is None
    times = [one["estimate_ns"] for one in made["predictions"]]
    assert made["predictions"][0]["change"] == "copies:overlap" and times == sorted(times)
    assert main(["predict", run, "--change", "syncs", "--change", "graph:compute"]) == 0
    said = " ".join(capsys.readouterr().out.split())  # where a line breaks depends on the length of the run's path
    assert "syncs then graph:compute" in said and "an iteration takes" in said
    assert set(CHANGES) >= {one["change"].partition(":")[0] for one in made["predictions"]} - {"copies"}


# -- written down before, held against the run after ----------------------------------------------------------------------


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose only run has the baseline of a recorded pipeline: nobody has measured the optimized variant there."""
    run = tmp_path / "aisp-runs" / "before"
    shutil.copytree(SAMPLES / "h200_pipeline_sequential", run)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["run_id"] = "before"
    manifest["variants"] = [one for one in manifest["variants"] if one["name"] == "baseline"]
    for made in manifest["rounds"]:
        made["result"]["variants"] = [one for one in made["result"]["variants"] if one["name"] == "baseline"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.chdir(tmp_path)
    return run


AFTER = str(SAMPLES / "h200_pipeline_sequential")


def claims() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path("expectations/expectations_h200.json").read_text())["claims"]
    return found


def test_a_prediction_is_a_claim_that_the_later_run_is_held_against(
    before: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", f"{before}:baseline", "--change", "copies:overlap", "--write"]) == 0
    (claim,) = claims()
    assert claim["source"]["kind"] == "model" and "before" in claim["source"]["text"]
    made = claim["predicted"]
    assert (made["run"], made["changes"], made["grade"]) == ("before", ["copies:overlap"], "estimate")
    gain = made["base_ms"] / made["estimate_ms"]
    assert claim["ratio"]["min"] == pytest.approx(gain / 1.03, rel=1e-4) and 10 < gain < 11
    assert sum(made["stages_ms"].values()) == pytest.approx(made["estimate_ms"], rel=0.02)
    capsys.readouterr()
    assert main(["check", AFTER, "--json"]) in (0, 3)
    told = json.loads(capsys.readouterr().out)["predictions"]
    (outcome,) = told
    measured = load_run(Path(AFTER)).untraced_ns("optimized")
    assert outcome["said"] == "as predicted" and outcome["measured"] == pytest.approx(10.03, abs=0.2) and measured
    stages = {one["stage"]: one for one in outcome["stages"]}
    assert stages["iteration/compute"]["said"] == "as predicted"
    assert abs(stages["iteration/compute"]["predicted_ms"] / stages["iteration/compute"]["measured_ms"] - 1) < 0.02
    assert main(["compare", f"{AFTER}:baseline", f"{AFTER}:optimized"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "prediction: copies:overlap was to make optimized 10.3" in said and "as predicted (-" in said


def test_a_page_tells_the_predictions_that_its_run_was_judged_by_and_no_others(before: Path) -> None:
    """A bundle's page is made again elsewhere, where other claims lie in the folder."""
    assert main(["predict", f"{before}:baseline", "--change", "copies:overlap", "--write"]) == 0
    assert main(["report", AFTER, "-o", "mine.html"]) == 0
    assert main(["report", AFTER, "--expectations", str(ROOT / "expectations"), "-o", "theirs.html"]) == 0
    mine, theirs = (Path(name).read_text(encoding="utf-8") for name in ("mine.html", "theirs.html"))
    assert "Predicted from before: copies:overlap makes optimized" in mine and "Predicted from" not in theirs


def test_a_prediction_replaces_only_its_own_earlier_one(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", f"{before}:baseline", "--write", "--change"]
    assert main([*words, "syncs"]) == 0 and main([*words, "copies:pinned"]) == 0
    (claim,) = claims()
    assert claim["predicted"]["changes"] == ["copies:pinned"]
    assert main([*words, "copies:overlap", "--variant", "piped"]) == 0
    assert [one["variant"] for one in claims()] == ["optimized", "piped"]
    document = json.loads(Path("expectations/expectations_h200.json").read_text())
    del document["claims"][0]["predicted"]
    Path("expectations/expectations_h200.json").write_text(json.dumps(document))
    before_ = Path("expectations/expectations_h200.json").read_text()
    assert main([*words, "syncs"]) == 2
    assert "no prediction wrote it" in capsys.readouterr().err
    assert Path("expectations/expectations_h200.json").read_text() == before_


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([f"{AFTER}:baseline", "--change", "syncs"], "has measured optimized already"),
        ([f"{AFTER}:baseline", "--change", "syncs", "--variant", "none_such"], None),
        ([f"{AFTER}:baseline"], "--change"),
        ([str(SAMPLES / "h200x2_handoff.sqlite.xz"), "--change", "syncs"], "is not a run"),
        ([str(SAMPLES / "h200_graphs.sqlite.xz"), "--change", "syncs"], "is not a run"),
    ],
)
def test_what_is_no_prediction_is_not_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", *words, "--write"]) == (0 if said is None else 2)
    assert said is None or said in " ".join(capsys.readouterr().err.split())
    assert Path("expectations").exists() is (said is None)


def test_what_came_otherwise_says_what_a_replay_cannot_know() -> None:
    """Faster kernels than the replay had: more is gained than predicted, and the mechanism split says why."""
    run = load_run(SAMPLES / "h200_memory_standard")
    sides = {
        one.variant: one.analysis for one in Recorded(run, run.path).open() if one.variant in ("baseline", "keep_cache")
    }
    made = Predicted("run", ("allocator",), "estimate", 26.9, 14.9, 14.8, {"iteration": 14.9})
    claim = TimeClaim(
        id="m",
        workload="memory_standard",
        variant="keep_cache",
        baseline="baseline",
        size="default",
        ratio=Bound(1.7, 1.9),
        max_ms={"baseline": 30.0, "keep_cache": 20.0},
        why="w",
        source=Source("model", None, "t"),
        predicted=made,
    )
    files = [ExpectationFile("h200", (claim,))]
    (mine,) = predictions_of(files, "h200", "memory_standard", "default")
    found = outcome(mine, Measured(1.98, 13.56e6, sides["baseline"], sides["keep_cache"]))
    assert found.said == "more" and found.error > 0.09
    assert any(one.startswith("the same kernels took 10.0 % less time") for one in found.unknown)
    assert any("waits for the allocator are shorter by 45" in one for one in found.unknown)
    assert predictions_of(files, "h100", "memory_standard", "default") == []


def test_the_script_of_predictions_writes_them_before_and_holds_them_against_a_later_run(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("predictions", ROOT / "scripts" / "predictions.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "predictions", script)
    spec.loader.exec_module(script)
    assert len(script.STEPS) >= 12 and len(set(script.STEPS)) == len(script.STEPS)
    monkeypatch.setattr(
        script, "STEPS", (script.Step("pipeline_sequential", "default", "baseline", "optimized", ("copies:overlap",)),)
    )
    for when in ("before", "after"):
        ((command, run),) = script.captures(when, Path(when))
        assert run == Path(when, "pipeline_sequential-default") and command.count("--variant") == (when == "after") + 1
    early, late = tmp_path / "early", tmp_path / "late"
    early.mkdir()
    late.mkdir()
    (early / "pipeline_sequential-default").mkdir()
    before.rename(early / "pipeline_sequential-default" / before.name)  # as `capture --output` leaves it
    assert script.main(["write", str(early), "claims"]) == 0
    shutil.copytree(AFTER, late / "pipeline_sequential-default" / "run")
    capsys.readouterr()
    assert script.main(["table", str(late), "claims"]) == 0
    told = capsys.readouterr().out
    assert "baseline to optimized: `copies:overlap` | estimate | 10.3" in told and "| -2.9 % |" in told
    assert "1 estimate: median error 2.9 %, largest 2.9 %." in told


def test_a_graph_prepares_no_batches(tmp_path: Path) -> None:
    """Ten iterations: 5 ms of a range, 1 ms of other host time, then 30 kernels of 10 us, launched 40 us apart."""

    def graph_of(name: str) -> tuple[int, str]:
        export, correlation = NsysExport(), 0
        for i in range(10):
            low = 10**9 + i * 8_000_000
            export.range(low, low + 7_900_000, "iteration").range(low, low + 5_000_000, name)
            for k in range(30):
                correlation += 1
                at = low + 6_000_000 + k * 40_000
                export.call(at, at + 5_000, "cudaLaunchKernel", correlationId=correlation)
                export.kernel(at + 8_000, at + 18_000, f"k{k}", correlationId=correlation)
            export.call(low + 7_300_000, low + 7_400_000, "cudaDeviceSynchronize", correlationId=10_000 + i)
        found = base_of(model(attribute(open_trace(export.write(tmp_path / f"{name}.sqlite")))), Rates())
        made = predict(found, ["graph:iteration"])
        assert made.estimate_ns is not None
        return made.estimate_ns, made.assumes[0]

    other, assumed = graph_of("augment")
    assert other < 1_000_000 and "batches" not in assumed
    for name in ("data", "fetch batch"):
        prepared, assumed = graph_of(name)
        assert prepared - other == pytest.approx(5_000_000, abs=1_000) and assumed.endswith(
            "batches are prepared as before"
        )


def test_what_rests_on_the_host_s_time_or_on_rounds_far_apart_is_no_estimate() -> None:
    found = base("h200_memory_standard", "baseline")
    (pinned, allocator) = (predict(found, [one]) for one in ("host:iteration/release", "allocator"))
    assert pinned.grade == "indicative" and "36 % of it is the host's time" in pinned.why
    assert allocator.grade == "estimate" and allocator.why == ""
    apart = predict(replace(found, untraced_off=0.06), ["allocator"])
    assert apart.grade == "indicative" and "the untraced rounds are far apart (standard error 6.0 %)" in apart.why
    refused = predict(replace(found, untraced_off=0.11), ["allocator"])
    assert refused.grade == "refused" and refused.estimate_ns is None and "capture more rounds" in refused.why
    run = load_run(SAMPLES / "h200_memory_standard")
    means = run.untraced_means_ns("baseline")
    assert run.untraced_off("baseline") == pytest.approx(np.std(means, ddof=1) / np.mean(means) / np.sqrt(8))


# -- laws that hold on every recording -------------------------------------------------------------------------------------


RECORDED = [
    *("h200x2_ddp", "h200x2_handoff", "h200_graphs", "h200_managed", "h100_pipeline_decode"),
    *(f"{run}:{variant}" for run, variants in RUNS.items() for variant in variants),
]


@pytest.fixture(scope="module", params=RECORDED)
def any_base(request: pytest.FixtureRequest) -> Base:
    run, _, variant = request.param.partition(":")
    found = base(run, variant) if variant else bare(run)
    return replace(
        found, structure_error=0.0, factor=1.0, untraced_ns=None, whole=False
    )  # laws hold whatever is refused


def busiest_stream(one: Base) -> float:
    """Mean over the iterations of the most that one stream is busy, over what was launched in it."""
    s = one.situation
    called = s.a.launches.at_ns(np.arange(len(s.a.ops)), s.a.trace.ops, s.a.calls)
    table = s.a.trace.ops.select("device", "context", "stream", "pid", "start_ns", "end_ns").with_columns(
        pl.Series("called", called)
    )
    table = table.filter(pl.Series(s.graph.begun >= 0))
    most = []
    for low, high in s.host:
        here = table.filter(pl.col("called").is_between(low, high, closed="left"))
        streams = here.group_by("device", "context", "stream").agg(pl.struct("start_ns", "end_ns"))
        most.append(max((union(rows) for rows in streams["start_ns"].to_list()), default=0))
    return sum(most) / len(most)


def union(rows: list[dict[str, int]]) -> int:
    ns, until = 0, 0
    for row in sorted(rows, key=lambda r: r["start_ns"]):
        ns += max(row["end_ns"] - max(row["start_ns"], until), 0)
        until = max(until, row["end_ns"])
    return ns


def test_a_host_without_time_leaves_the_busiest_stream_and_gains_nothing_else(any_base: Base) -> None:
    free = predict(any_base, ["host:iteration"])
    assert free.estimate_ns is not None and free.at_most_ns is not None
    assert free.at_most_ns <= free.estimate_ns <= round(any_base.ns * any_base.rest)
    assert busiest_stream(any_base) <= free.estimate_ns * 1.001


@pytest.mark.parametrize("change", ["copies:overlap", "copies:pinned", "graph:iteration", "syncs", "allocator", "comm"])
def test_at_most_is_a_bound(any_base: Base, change: str) -> None:
    found = predict(any_base, [change])
    if found.estimate_ns is None:
        assert found.why == "CUDA graphs launch the work of iteration already"
        return
    assert found.at_most_ns is not None and 0 < found.at_most_ns <= found.estimate_ns


def test_what_names_nothing_changes_nothing(any_base: Base) -> None:
    a = any_base.situation.a
    kinds, calls = set(a.trace.ops["kind"].cast(pl.String)), a.calls.kind
    memory = {*a.trace.ops["src_kind"].cast(pl.String), *a.trace.ops["dst_kind"].cast(pl.String)}
    nothing = [
        *(["comm"] if "comm" not in kinds else []),
        *(["allocator"] if ALLOCATOR not in calls else []),
        *(["copies:pinned"] if "pageable" not in memory else []),
        *(["copies:overlap"] if not kinds & {"h2d", "d2h"} else []),
        "kernels:iteration:1",
    ]
    for change in nothing:
        assert predict(any_base, [change]).estimate_ns == round(any_base.ns * any_base.rest), change


def test_more_of_the_hosts_time_never_makes_any_iteration_shorter(any_base: Base) -> None:
    s = any_base.situation
    times = [s.bounds.lengths(replay(scaled(s.graph, factor))).sum() for factor in (0.0, 0.5, 1.0, 1.4)]
    assert times == sorted(times)


@pytest.mark.parametrize("command", ["analyze", "predict", "report"])
def test_an_iteration_of_nothing_but_what_goes_has_no_gain(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator as the iteration: without the host's time in it nothing is left, which is no number of times as fast."""
    trace = str(SAMPLES / "h100_pipeline_decode_kineto.json.gz")
    output = ["-o", str(tmp_path / "page.html")] if command == "report" else []
    for iterations in ("aten::uniform_", "aten::empty", "aten::randn"):
        code = main([command, trace, "--iterations", iterations, *output])
        said = capsys.readouterr()
        assert code in (0, 3) and "inf" not in said.out.split(), said.err
        assert "nanx" not in said.out and "infx" not in said.out
