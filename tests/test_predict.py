"""Predictions: laws, what was measured afterwards, and how they are asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from aisp_trace.analyze.attribution.attribute import attribute
from aisp_trace.analyze.attribution.steady import Seeking
from aisp_trace.analyze.headroom.changes import CHANGES, changed, with_edges, without
from aisp_trace.analyze.headroom.estimate import Base, base_of, iteration_ns, predict, scaled
from aisp_trace.analyze.headroom.predicted import predicted, untraced_ns
from aisp_trace.analyze.headroom.replay import replay
from aisp_trace.analyze.operands import operand
from aisp_trace.cli.main import main
from aisp_trace.tests.builders.samples import SAMPLES
from aisp_trace.traces.errors import InputError, UsageError
from aisp_trace.traces.open import open_trace
from aisp_trace.traces.run import load_run

LINK = {"h2d": 55.37, "d2h": 55.33}
"""GB/s, as expectations/calibration_h200.json has them."""


def base(run: str, variant: str) -> Base:
    (file,) = (SAMPLES / run / variant).glob("trace.sqlite*")
    return base_of(attribute(open_trace(file)), LINK, untraced_ns(load_run(SAMPLES / run), variant))


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
    measured = untraced_ns(load_run(SAMPLES / run), target)
    assert found.grade == "estimate" and found.estimate_ns is not None and measured is not None
    assert abs(found.estimate_ns / measured - 1) < within


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
    assert predict(replace(pipeline, structure_error=0.03), ["syncs"]).grade == "indicative"


def test_a_trace_with_collectives_has_no_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(SAMPLES / "h200x2_ddp.sqlite.xz")]) == 3
    assert "wait for other ranks" in " ".join(capsys.readouterr().out.split())


def test_a_trace_without_iterations_or_a_gpu_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--iterations"):
        predicted(operand(str(SAMPLES / "h100_pipeline_decode.sqlite.xz")), [], None, Seeking())
    with pytest.raises(InputError, match="GPU"):
        found = Seeking("pipeline", 0)
        predicted(operand(str(SAMPLES / "cpu_threads_nsys2022.sqlite.xz")), [], None, found)


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
