"""Work of CUDA graphs belongs to the stage it was captured in, and counts when it is replayed."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.selection import Selection
from aisp_trace.analyze.result import Analysis
from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.builders.samples import unpack
from aisp_trace.tests.test_kineto_reader import event, written
from aisp_trace.traces.kineto.read import read_kineto
from aisp_trace.traces.nsys.read import read_nsys
from aisp_trace.traces.open import open_trace

US = 1_000
CAPTURED, EXECUTED = 1 << 32, 2 << 32
"""Graphs, as the upper halves of their nodes' ids."""

STAGES = ("attn", "attn", "mlp", "norm")
"""Where the four nodes are captured."""


def captured(steps: int = 3, *, where: str = "setup", nodes: bool = True, clones: bool = True) -> NsysExport:
    """A graph of four kernels, captured under `where` and replayed once a step under `step/replay`.

    Each kernel lasts 10 us; the instantiation makes a clone of each node, and one more node of the driver's own.
    """
    export = NsysExport().range(0, 100 * US, where).call(1 * US, 2 * US, "cudaStreamBeginCapture_v10000")
    for i, stage in enumerate(STAGES):
        at = (10 + 20 * i) * US
        export.range(at, at + 10 * US, stage).call(at + 1 * US, at + 5 * US, "cudaLaunchKernel", correlationId=50 + i)
        if nodes:
            export.node(at + 3 * US, CAPTURED + i)
    export.call(90 * US, 91 * US, "cudaStreamEndCapture_v10000", correlationId=60)
    for i in range(len(STAGES) + 1 if nodes else 0):
        export.node(95 * US, EXECUTED + i)
    for i in range(len(STAGES) if nodes and clones else 0):
        export.node(95 * US, EXECUTED + i, CAPTURED + i)
    for step in range(steps):
        at = (200 + 100 * step) * US
        export.range(at, at + 80 * US, "step").range(at + 5 * US, at + 20 * US, "replay")
        export.call(at + 8 * US, at + 15 * US, "cudaGraphLaunch_v10000", correlationId=100 + step)
        for i in range(len(STAGES)):
            start = at + (20 + 12 * i) * US
            export.kernel(start, start + 10 * US, graphNodeId=EXECUTED + i, correlationId=100 + step)
    return export


def analysed(folder: Path, export: NsysExport, **choices: Any) -> Analysis:
    return analyze(read_nsys(export.write(folder / f"{len(list(folder.iterdir()))}.sqlite")), **choices)


def compute(analysis: Analysis) -> dict[str, int]:
    rows = analysis.ledger.filter(category="compute").group_by("stage").agg(pl.col("ns").sum())
    return dict(rows.iter_rows())


def replays(analysis: Analysis) -> list[tuple[Any, ...]]:
    return analysis.replays.select("stage", "replayed_in", "ops", "sum_ns").sort("stage").rows()


def test_each_node_counts_for_the_stage_it_was_captured_in(tmp_path: Path) -> None:
    found = analysed(tmp_path, captured())
    assert compute(found) == {"setup/attn": 60 * US, "setup/mlp": 30 * US, "setup/norm": 30 * US}
    assert replays(found) == [
        ("setup/attn", "step/replay", 6, 60 * US),
        ("setup/mlp", "step/replay", 3, 30 * US),
        ("setup/norm", "step/replay", 3, 30 * US),
    ]
    assert found.ledger["ns"].sum() == found.windows.select((pl.col("end_ns") - pl.col("start_ns")).sum()).item()
    assert found.top_kernels.filter(pl.col("stage").is_null())["ops"].sum() == 12, "two rows a node double no kernel"
    assert dict(found.trust.select("metric", "level").iter_rows())["projection"] == "ok"


def test_launches_made_while_capturing_are_not_lost(tmp_path: Path) -> None:
    """Also where the capture began before the recording did."""
    export = captured()
    rows = export.rows["CUPTI_ACTIVITY_KIND_RUNTIME"]
    begin = export.string("cudaStreamBeginCapture_v10000")
    export.rows["CUPTI_ACTIVITY_KIND_RUNTIME"] = [r for r in rows if r["nameId"] != begin]
    found = analysed(tmp_path, export)
    assert found.launch_rows.select("launches", "missing").rows() == [(3, 0)]
    assert dict(found.trust.select("metric", "level").iter_rows())["ledger"] == "ok"


def test_the_window_and_iterations_are_those_of_the_replay(tmp_path: Path) -> None:
    found = analysed(tmp_path, captured(), window="step#1")
    assert compute(found) == {"setup/attn": 20 * US, "setup/mlp": 10 * US, "setup/norm": 10 * US}
    assert {"setup/attn", "setup/mlp", "step", "step/replay"} <= set(found.stages["path"])
    assert compute(analysed(tmp_path, captured(), window="setup")) == {}


def test_a_stage_around_both_says_nothing(tmp_path: Path) -> None:
    """`train` encloses capture and replay; the third node was captured under nothing else."""
    export = captured(where="warmup").range(0, 600 * US, "train")
    rows = export.rows["NVTX_EVENTS"]
    mlp = export.string("mlp")
    export.rows["NVTX_EVENTS"] = [r for r in rows if r["textId"] not in (mlp, export.string("warmup"))]
    found = analysed(tmp_path, export)
    assert compute(found) == {"train/attn": 60 * US, "train/step/replay": 30 * US, "train/norm": 30 * US}


def test_numbered_steps_around_both_say_nothing_either(tmp_path: Path) -> None:
    export = NsysExport().range(0, 90 * US, "step 0").node(5 * US, CAPTURED).node(9 * US, EXECUTED)
    export.node(9 * US, EXECUTED, CAPTURED)
    for step in range(1, 4):
        at = step * 100 * US
        export.range(at, at + 90 * US, f"step {step}").range(at, at + 50 * US, "replay")
        export.call(at, at + 5 * US, "cudaGraphLaunch", correlationId=step)
        export.kernel(at + 10 * US, at + 20 * US, graphNodeId=EXECUTED, correlationId=step)
    assert compute(analysed(tmp_path, export)) == {"step #/replay": 30 * US}
    assert set(compute(analysed(tmp_path, export, fold=False))) == {f"step {i}/replay" for i in (1, 2, 3)}


def test_nodes_of_which_no_capture_is_known_stay_with_the_replay(tmp_path: Path) -> None:
    for export in (captured(nodes=False), captured(clones=False)):
        found = analysed(tmp_path, export)
        assert compute(found) == (
            {"step/replay": 120 * US} if not export.rows.get("CUDA_GRAPH_NODE_EVENTS") else {"setup": 120 * US}
        )
    without = analysed(tmp_path, captured(nodes=False))
    level, reason = without.trust.filter(metric="projection").select("level", "reason").row(0)
    assert level == "partial" and "12 operations of CUDA graphs" in reason and "--cuda-graph-trace=node" in reason
    assert replays(without) == [("step/replay", "step/replay", 12, 120 * US)]


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_a_clone_of_clones_is_as_old_as_the_first(tmp_path: Path, copies: int) -> None:
    """A graph that was cloned or made a child of another before it was instantiated, in whatever order the rows stand."""
    export = captured(0).range(200 * US, 299 * US, "replay")
    for i in range(len(STAGES)):
        original = CAPTURED + i
        for copy in range(copies):
            node = ((10 + copy) << 32) + i
            export.node((92 + copy) * US, node).node((92 + copy) * US, node, original)
            original = node
        export.kernel((210 + 12 * i) * US, (220 + 12 * i) * US, graphNodeId=original, correlationId=7)
    export.call(201 * US, 205 * US, "cudaGraphLaunch_v10000", correlationId=7)
    for rows in (1, -1):
        export.rows["CUDA_GRAPH_NODE_EVENTS"] = export.rows["CUDA_GRAPH_NODE_EVENTS"][::rows]
        found = analysed(tmp_path, export)
        assert compute(found) == {"setup/attn": 20 * US, "setup/mlp": 10 * US, "setup/norm": 10 * US}


def test_a_clone_whose_first_node_is_not_known_stays_with_the_replay(tmp_path: Path) -> None:
    """The recording began between capture and cloning; or the rows name each other, and nothing is the first."""
    for original in (CAPTURED, 3 << 32):
        export = NsysExport().range(0, 99 * US, "setup").range(200 * US, 299 * US, "replay")
        export.node(90 * US, 2 << 32).node(90 * US, 2 << 32, original).node(95 * US, 3 << 32)
        export.node(95 * US, 3 << 32, 2 << 32)
        export.call(201 * US, 205 * US, "cudaGraphLaunch").kernel(210 * US, 220 * US, graphNodeId=3 << 32)
        found = analysed(tmp_path, export)
        assert compute(found) == {"replay": 10 * US}
        assert dict(found.trust.select("metric", "level").iter_rows())["projection"] == "partial"


def test_a_capture_before_the_gate_is_known_by_its_time_alone(tmp_path: Path) -> None:
    """As nsys gates a recording (`-c nvtx`): time 0 is its start, nodes are kept from before, calls and ranges are not."""
    export = NsysExport()
    for i in range(2):
        export.node(-400_000 * US + i, CAPTURED + i).node(-399_000 * US, EXECUTED + i)
        export.node(-399_000 * US, EXECUTED + i, CAPTURED + i)
        export.kernel((110 + 20 * i) * US, (120 + 20 * i) * US, graphNodeId=EXECUTED + i)
    export.range(90 * US, 200 * US, "replay").call(100 * US, 105 * US, "cudaGraphLaunch")
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.graph_nodes.height == 4 and trace.meta.anomalies == {}
    found = analyze(trace)
    level, reason = found.trust.filter(metric="projection").select("level", "reason").row(0)
    assert compute(found) == {"replay": 20 * US} and level == "partial"
    assert reason.startswith("2 operations of CUDA graphs") and "start recording before the capture" in reason
    export.range(-400_100 * US, -399_900 * US, "attn").call(-400_100 * US, -400_099 * US, "cudaStreamBeginCapture")
    seen = analyze(read_nsys(export.write(tmp_path / "whole.sqlite")))
    assert compute(seen) == {"attn": 20 * US}
    assert dict(seen.trust.select("metric", "level").iter_rows())["projection"] == "ok"


def test_processes_number_their_nodes_alike(tmp_path: Path) -> None:
    export = captured()
    export.range(0, 9 * US, "other", pid=7, tid=7).node(5 * US, CAPTURED, pid=7, tid=7).node(
        6 * US, EXECUTED, pid=7, tid=7
    )
    export.node(6 * US, EXECUTED, CAPTURED, pid=7, tid=7)
    assert "other" not in compute(analysed(tmp_path, export))
    export.call(500 * US, 501 * US, "cudaGraphLaunch", pid=7, tid=7, correlationId=1)
    export.kernel(600 * US, 601 * US, pid=7, graphNodeId=EXECUTED, correlationId=1)
    assert compute(analysed(tmp_path, export))["other"] == 1 * US


def test_a_selection_of_stages_reaches_captured_ones(tmp_path: Path) -> None:
    assert compute(analysed(tmp_path, captured(), selection=Selection(stages="attn|mlp|replay"))) == {
        "attn": 60 * US,
        "mlp": 30 * US,
        "replay": 30 * US,
    }
    assert compute(analysed(tmp_path, captured(), selection=Selection(depth=1))) == {"setup": 120 * US}


@pytest.mark.parametrize("most", [1, 2, 3])
def test_folding_the_cheapest_stages_loses_nothing(tmp_path: Path, most: int) -> None:
    found = analysed(tmp_path, captured(), most_stages=most)
    assert sum(compute(found).values()) == 120 * US


@pytest.mark.parametrize("seed", range(8))
def test_sums_by_stage_follow_the_rows(tmp_path: Path, seed: int) -> None:
    """Against the definition told row by row: the innermost range at the original's creation, wherever nodes were made."""
    rng = Random(seed)
    export, spans = NsysExport(), dict[str, tuple[int, int]]()
    for i in range(6):
        spans[f"s{i}"] = (i * 100 * US, i * 100 * US + rng.randrange(10, 100) * US)
        export.range(*spans[f"s{i}"], f"s{i}")
    made = {i: rng.randrange(0, 600 * US) for i in range(20)}
    for i, at in made.items():
        export.node(at, CAPTURED + i)
    for i in made:
        export.node(700 * US, EXECUTED + i).node(700 * US, EXECUTED + i, CAPTURED + i)
    export.range(800 * US, 850 * US, "replay").call(801 * US, 802 * US, "cudaGraphLaunch")
    expected: dict[str, int] = {}
    at = 900 * US
    for i in rng.sample(sorted(made), 20):
        length = rng.randrange(1, 9) * US
        export.kernel(at, at + length, graphNodeId=EXECUTED + i)
        stage = next((s for s, (low, high) in spans.items() if low <= made[i] < high), "replay")
        expected[stage] = expected.get(stage, 0) + length
        at += 10 * US
    rng.shuffle(export.rows["CUDA_GRAPH_NODE_EVENTS"])
    assert compute(analysed(tmp_path, export)) == expected


def test_on_the_recorded_graph_nothing_doubles_and_nothing_is_lost(tmp_path: Path) -> None:
    """`decode` encloses capture and replays, so that these keep their stages: 2,048 kernels of 32 nodes, not 4,096."""
    trace = open_trace(unpack("h100_pipeline_decode_graph_nodes", tmp_path))
    assert trace.graph_nodes.height == 64
    found = analyze(trace)
    assert replays(found) == [("decode/optimized/stage:decode", "decode/optimized/stage:decode", 2048, 7_543_069)]
    stage = found.stages.filter(path="decode/optimized/stage:decode").row(0, named=True)
    assert stage["ops"] == 2048


def test_people_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = captured().write(tmp_path / "t.sqlite")
    assert main(["analyze", str(file)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "CUDA graphs launch 12 of 12 operations, 120 us of 120 us of device work: 12 in step/replay" in said
    assert "what waits for what inside a CUDA graph is not recorded" in said
    assert (
        "CUDA graphs replayed in step/replay: their 12 operations count for the stages that captured them (setup/attn 60.0 us, "
        "setup/mlp 30.0 us, setup/norm 30.0 us), so the row of step/replay shows no work, and those of the captures, which lie "
        "outside this window, no host time"
    ) in said
    assert main(["analyze", str(file), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["traces"][0]["replays"]) == 3


def test_marks_that_torch_put_into_a_trace_are_stages(tmp_path: Path) -> None:
    """As `torch.cuda._annotate_cuda_graph_trace.annotate_trace` writes them: words as ``annotation``, fields by their names."""
    marks: tuple[dict[str, str], ...] = (
        {"annotation": "attn"},
        {"name": "mlp", "layer": "0"},
        {"annotation": "attn"},
        {},
    )
    events = []
    for step in range(3):
        at = 1_000 * step
        events.append(event("user_annotation", "step", at, 900, 5, 5))
        events.append(event("cuda_runtime", "cudaGraphLaunch", at + 10, 5, 5, 5, correlation=step + 1))
        for i, mark in enumerate(marks):
            kernel = event("kernel", "k", at + 100 + 20 * i, 10, 0, 7, device=0, stream=7, correlation=step + 1)
            kernel["args"] |= {"graph node id": EXECUTED + i, **mark}
            events.append(kernel)
    found = analyze(read_kineto(written(tmp_path, events)))
    assert compute(found) == {"attn": 60 * US, "mlp": 30 * US, "step": 30 * US}
    assert replays(found) == [("attn", "step", 6, 60 * US), ("mlp", "step", 3, 30 * US), ("step", "step", 3, 30 * US)]
    assert found.windows["start_ns"].to_list() == [100 * US], "marks are outside all that happened"
    assert [row["path"] for row in found.stages.to_dicts() if row["host_ns"] > 1] == ["step"]
