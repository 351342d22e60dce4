"""The graph of what waited for what: laws of its replay, its critical path, and waits that were worked out by hand."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.attribute import Attributed, attribute
from aisp_trace.analyze.attribution.steady import Seeking
from aisp_trace.analyze.headroom.estimate import base_of
from aisp_trace.analyze.headroom.graph import DEPENDENCY, RETURN, Graph, build
from aisp_trace.analyze.headroom.helps import headroom_tables, modelled
from aisp_trace.analyze.headroom.path import critical_path as path_of
from aisp_trace.analyze.headroom.rates import Rates
from aisp_trace.analyze.headroom.replay import critical, replay
from aisp_trace.analyze.headroom.stages import stage_times
from aisp_trace.tests.builders.samples import SAMPLES, unpack
from aisp_trace.tests.oracle import build as rows
from aisp_trace.tests.oracle.strategies import Case, seeded_case
from aisp_trace.traces.errors import UsageError
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace

RECORDED = (
    "h100_pipeline_decode",
    "h100_pipeline_decode_graph_nodes",
    "h200x2_ddp",
    "h200x2_handoff",
    "h200_graphs",
    "h200_managed",
    "h200x2_two_processes",
)
SEEDS = range(60)


def critical_path(a: Attributed) -> pl.DataFrame:
    return path_of(a, modelled(a))


def attributed(case: Case) -> Attributed:
    if case.domain is not None and case.domain not in case.trace.ranges["domain"].cast(pl.String).to_list():
        pytest.skip("a trace without the ranges that it is asked for")
    return attribute(case.trace, window=case.window, across=case.attribution == "process", domain=case.domain)


@pytest.fixture(scope="module", params=RECORDED)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Attributed:
    return attribute(open_trace(unpack(request.param, tmp_path_factory.mktemp("sample"))))


def slowly(graph: Graph, weight: npt.NDArray[np.int64]) -> list[int]:
    """The replay by another road: each edge pushes its target later until none does, whatever their order."""
    target = graph.target
    leaving: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for source, to, ns in zip(graph.source.tolist(), target.tolist(), weight.tolist(), strict=True):
        leaving[source].append((to, ns))
    times = [-(2**62)] * len(graph.time)
    waiting = [(to, ns) for to, ns in leaving.pop(-1, [])]
    while waiting:
        node, time = waiting.pop()
        if time > times[node]:
            times[node] = time
            waiting += [(to, time + ns) for to, ns in leaving.get(node, [])]
    return times


def test_nothing_changed_is_what_was_measured(recorded: Attributed) -> None:
    graph = build(recorded)
    assert (replay(graph) == graph.time).all()
    assert (graph.weight <= graph.observed).all(), "no edge that was slack takes longer than it had"
    assert (graph.source < graph.target).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_laws_of_a_replay_on_random_traces(seed: int) -> None:
    a = attributed(seeded_case(seed))
    graph = build(a)
    assert (replay(graph) == graph.time).all()
    chance = np.random.default_rng(seed)
    other = graph.weight + chance.integers(-5_000, 5_000, graph.edges)
    times = replay(graph, other)
    assert times.tolist() == slowly(graph, other), "another road to the same times"
    later = other.copy()
    if graph.edges:
        later[chance.integers(0, graph.edges, 5)] += 1_000
    assert (replay(graph, later) >= times).all(), "no weight makes anything earlier by growing"
    assert (replay(graph, 3 * other) == 3 * times).all(), "three times the weights, three times the times"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_critical_path_sums_to_the_window(seed: int) -> None:
    a = attributed(seeded_case(seed))
    found = critical_path(a)
    gpus = [span for span in a.spans if span.device not in a.host_devices]
    if not gpus or not len(a.calls) or found.is_empty():
        assert found.is_empty()
        return
    assert found["ns"].sum() == max(span.end_ns for span in gpus) - min(span.start_ns for span in gpus)
    assert found["ns"].min() > 0  # type: ignore[operator]
    assert set(found["category"]) <= {*a.trace.ops["kind"].cast(pl.String), "host", "wait"}
    assert found.filter(pl.col("device").is_null())["category"].unique().to_list() in ([], ["host"])


def test_a_path_of_changed_weights_leads_to_the_changed_time(recorded: Attributed) -> None:
    graph = build(recorded)
    chance = np.random.default_rng(1)
    weight = np.where(chance.random(graph.edges) < 0.1, graph.weight // 2, graph.weight)
    time = replay(graph, weight)
    node, low = int(np.argmax(time)), int(time.min())
    edges, begins, ends = critical(graph, weight, time, low, node)
    assert (begins[1:] == ends[:-1]).all() and ends[-1] == time[node] and (ends > begins).all()
    assert begins[0] == low or graph.source[edges[0]] < 0


# -- worked out by hand: times in us, one thread ---------------------------------------------------------------------------


def us(trace: Trace) -> Trace:
    tables = {
        name: trace.table(name).with_columns(pl.selectors.matches("_ns$") * 1_000)
        for name in ("ops", "api", "ranges", "syncs", "events")
    }
    return Trace(**{**{f: getattr(trace, f) for f in trace.__dataclass_fields__}, **tables})


def launch(at: int, correlation: int) -> rows.Row:
    return rows.call("cudaLaunchKernel", at, at + 5, correlation)


def cells(trace: Trace) -> dict[tuple[str, str, str | None], int]:
    found = critical_path(attribute(trace))
    return {(stage, category, cause): ns // 1_000 for _, stage, category, cause, ns in found.iter_rows()}


def test_the_host_is_on_the_path_of_a_device_that_waits_for_it() -> None:
    """The first kernel runs under the second launch's preparation; only its launch and the host's time count."""
    trace = us(
        rows.build(
            ops=[rows.op("compute", 8, 20, 1), rows.op("compute", 58, 90, 2)],
            api=[launch(0, 1), launch(50, 2)],
            ranges=[rows.span("a", 0, 30), rows.span("b", 30, 100)],
        )
    )
    assert cells(trace) == {
        ("b", "compute", None): 32,
        ("b", "wait", "launch_api"): 5,
        ("b", "wait", "launch_latency"): 3,
        ("a", "host", "host_code"): 22,
        ("b", "host", "host_code"): 20,
    }


def test_a_stream_that_waits_for_an_event_has_the_other_streams_work_on_its_path() -> None:
    trace = us(
        rows.build(
            ops=[rows.op("h2d", 10, 60, 1), rows.op("compute", 64, 94, 2, stream=8)],
            api=[
                rows.call("cudaMemcpyAsync", 0, 5, 1),
                rows.call("cudaEventRecord", 5, 6, 11),
                rows.call("cudaStreamWaitEvent", 7, 8, 12),
                launch(8, 2),
            ],
            events=[
                {"pid": 1, "device": 0, "context": 1, "stream": 7, "correlation": 11, "event_id": 3, "event_sync_id": 1}
            ],
            syncs=[
                {
                    "pid": 1,
                    "device": 0,
                    "context": 1,
                    "stream": 8,
                    "start_ns": 7,
                    "end_ns": 8,
                    "correlation": 12,
                    "event_id": 3,
                    "event_sync_id": 1,
                }
            ],
        )
    )
    assert int((build(attribute(trace)).what == DEPENDENCY).sum()) == 1
    assert cells(trace) == {
        ("(none)", "compute", None): 30,
        ("(none)", "wait", "dependency"): 4,
        ("(none)", "h2d", None): 50,
    }


def test_a_call_that_blocks_returns_after_what_it_waited_for() -> None:
    """The device is idle for 10 us while the host learns of the end and launches; the kernels before it are on the path."""
    trace = us(
        rows.build(
            ops=[rows.op("compute", 8, 50, 1), rows.op("compute", 70, 80, 2)],
            api=[launch(0, 1), rows.call("cudaStreamSynchronize", 10, 52, 21), launch(60, 2)],
            syncs=[
                {
                    "pid": 1,
                    "device": 0,
                    "context": 1,
                    "stream": 7,
                    "start_ns": 10,
                    "end_ns": 52,
                    "correlation": 21,
                    "event_id": None,
                    "event_sync_id": None,
                }
            ],
        )
    )
    graph = build(attribute(trace))
    assert int((graph.what == RETURN).sum()) == 1
    assert cells(trace) == {
        ("(none)", "compute", None): 52,
        ("(none)", "host", "sync"): 2,
        ("(none)", "host", "host_code"): 8,
        ("(none)", "wait", "launch_api"): 5,
        ("(none)", "wait", "launch_latency"): 5,
    }


def test_the_optimised_pipelines_path_is_its_compute() -> None:
    """Without the events between its three streams it looked like 85 % copies back."""
    trace = open_trace(SAMPLES / "h200_pipeline_sequential" / "optimized" / "trace.sqlite.xz")
    found = analyze(trace, window="measured").critical
    share = found.group_by("category").agg(pl.col("ns").sum() / found["ns"].sum())
    of = dict(share.iter_rows())
    assert 0.85 < of["compute"] < 0.93 and of["d2h"] < 0.05 and of["h2d"] < 0.06


def test_what_a_trace_lacks_leaves_an_empty_path(tmp_path: Path) -> None:
    assert Random(0).random() and critical_path(attribute(rows.build(ranges=[rows.span("a", 0, 10)]))).is_empty()
    no_calls = rows.build(ops=[rows.op("compute", 0, 10)])
    assert critical_path(attribute(no_calls)).is_empty()


@pytest.mark.parametrize("seed", SEEDS)
def test_predictions_on_random_traces(seed: int) -> None:
    """Iterations found by any range's name: threads without calls, nothing timed, lone collectives."""
    case = seeded_case(seed)
    if case.domain is not None and case.domain not in case.trace.ranges["domain"].cast(pl.String).to_list():
        pytest.skip("a trace without the ranges that it is asked for")
    try:
        a = attribute(case.trace, window=case.window, domain=case.domain, seeking=Seeking("a|b|c", 0))
    except UsageError:
        return  # no range is called so
    m = modelled(a)
    path = path_of(a, m)
    gpus = [span for span in a.spans if span.device not in a.host_devices]
    if not path.is_empty():
        assert path["ns"].sum() == max(span.end_ns for span in gpus) - min(span.start_ns for span in gpus)
    made = headroom_tables(m, path, Rates({"h2d": 50.0, "d2h": 50.0}, 2000.0, True, "x"), None)
    (on,) = made["replayed"].to_dicts()
    assert (on["why"] == "") == (made["headroom"].height > 0)
    for row in made["headroom"].filter(pl.col("estimate_ns").is_not_null()).iter_rows(named=True):
        assert 0 <= row["at_most_ns"] <= row["estimate_ns"] and row["grade"] in ("estimate", "indicative")
    if not isinstance(m, str) and m.host and on["found_by"] is not None:
        base = base_of(m, Rates())
        times = stage_times(base.situation)
        last, first = int(m.graph.time[m.bounds.ends].max()), int(m.graph.time[m.bounds.start[0]])
        assert sum(times.values()) * len(m.host) <= last - first + 1
