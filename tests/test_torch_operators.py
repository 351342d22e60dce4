"""Operators, modules and Python functions of torch.profiler traces are stages when asked for, and backward has its modules."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.cli.main import main
from aisp_trace.tests.builders.samples import SAMPLES
from aisp_trace.tests.test_kineto_reader import event, written
from aisp_trace.traces.kineto.read import read_kineto
from aisp_trace.traces.open import open_trace

MAIN, AUTOGRAD, DEVICE = 10, 20, 7


def operator(
    name: str, ts: int, dur: int, tid: int = MAIN, sequence: int | None = None, forward: int = 0
) -> dict[str, Any]:
    args = {} if sequence is None else {"Sequence number": sequence, "Fwd thread id": forward}
    return event("cpu_op", name, ts, dur, 5, tid, **args)


def module(name: str, ts: int, dur: int) -> dict[str, Any]:
    return event("python_function", f"nn.Module: {name}", ts, dur, 5, MAIN)


def launched(ts: int, correlation: int, tid: int, lasts: int) -> list[dict[str, Any]]:
    return [
        event("cuda_runtime", "cudaLaunchKernel", ts, 2, 5, tid, correlation=correlation),
        event("kernel", "gemm", ts + 10, lasts, 0, DEVICE, device=0, stream=DEVICE, correlation=correlation),
    ]


def step() -> list[dict[str, Any]]:
    """A net of two linear layers, forward and backward; each forward kernel lasts 10 us, each backward kernel 20."""
    return [
        event("user_annotation", "step", 0, 900, 5, MAIN),
        event("python_function", "train.py(12): step", 0, 890, 5, MAIN),
        module("Net_0", 5, 300),
        module("Linear_0", 10, 100),
        operator("aten::linear", 20, 80, sequence=7),
        operator("aten::addmm", 30, 60, sequence=7),
        *launched(40, 1, MAIN, 10),
        module("Linear_1", 150, 100),
        operator("aten::linear", 160, 80, sequence=8),
        *launched(170, 2, MAIN, 10),
        operator("autograd::engine::evaluate_function: AddmmBackward0", 400, 90, AUTOGRAD, 8, 1),
        operator("AddmmBackward0", 410, 70, AUTOGRAD, 8, 1),
        *launched(420, 3, AUTOGRAD, 20),
        operator("autograd::engine::evaluate_function: AddmmBackward0", 500, 90, AUTOGRAD, 7, 1),
        operator("aten::mm", 505, 60, AUTOGRAD),
        *launched(510, 4, AUTOGRAD, 20),
    ]


def compute(trace: Any, **choices: Any) -> dict[str, int]:
    cells = analyze(trace, **choices).ledger.filter(category="compute")
    return dict(cells.select("stage", "ns").iter_rows())


def test_each_kind_is_a_domain_of_its_own(tmp_path: Path) -> None:
    trace = read_kineto(written(tmp_path, step()))
    assert compute(trace) == {"step": 60_000}, "no domain is a stage unless it is asked for"
    assert compute(trace, domain="torch.op") == {
        "aten::linear/aten::addmm": 10_000,
        "aten::linear": 10_000,
        "autograd::engine::evaluate_function: AddmmBackward0/AddmmBackward0": 20_000,
        "autograd::engine::evaluate_function: AddmmBackward0/aten::mm": 20_000,
    }
    assert compute(trace, domain="torch.python") == {"train.py(12): step": 60_000}


def test_backward_belongs_to_the_module_of_its_forward(tmp_path: Path) -> None:
    trace = read_kineto(written(tmp_path, step()))
    assert compute(trace, domain="torch.module", fold=False) == {
        "Net_0/Linear_0": 10_000,
        "Net_0/Linear_1": 10_000,
        "backward/Net_0/Linear_1": 20_000,
        "backward/Net_0/Linear_0": 20_000,
    }


@pytest.mark.parametrize("number", [99, None], ids=["unknown", "none"])
def test_backward_of_nothing_known_has_no_module(tmp_path: Path, number: int | None) -> None:
    events = [e | {"args": {**e["args"], "Sequence number": number}} if e["tid"] == AUTOGRAD else e for e in step()]
    found = compute(read_kineto(written(tmp_path, events)), domain="torch.module", attribution="thread", fold=False)
    assert found == {"Net_0/Linear_0": 10_000, "Net_0/Linear_1": 10_000, "(none)": 40_000}


def test_a_number_that_is_used_again_means_the_latest_forward(tmp_path: Path) -> None:
    """Sequence numbers are those of a thread and rise; a second iteration goes on with them, another thread may not."""
    later = [operator("aten::linear", 950, 10, sequence=7), module("Head_0", 940, 50)]
    early = operator("autograd::engine::evaluate_function: X", 600, 10, AUTOGRAD, 7, 1)
    found = read_kineto(written(tmp_path, [*step(), *later, early])).ranges.filter(domain="torch.module")
    at_600 = [str(r["name"]) for r in found.to_dicts() if r["start_ns"] == 600_000]
    assert at_600 == [], "what begins after it is not its forward"


@pytest.mark.parametrize("seed", range(10))
def test_own_times_of_operators_sum_to_what_was_open(tmp_path: Path, seed: int) -> None:
    """Against a look at every microsecond: which operator is innermost on each thread."""
    rng = Random(seed)
    events: list[dict[str, Any]] = [event("kernel", "k", 0, 1_000, 0, DEVICE, device=0, stream=DEVICE)]

    def nest(tid: int, low: int, high: int, depth: int) -> None:
        at = low
        while at < high - 2 and depth < 4:
            start = rng.randrange(at, high - 1)
            end = rng.randrange(start + 1, high)
            events.append(operator(f"op{rng.randrange(4)}", start, end - start, tid))
            nest(tid, start, end, depth + 1)
            at = end + 1

    for tid in (MAIN, AUTOGRAD):
        nest(tid, 0, 400, 0)
    stages = [(10, 90), (20, 30), (150, 160), (200, 390)]
    events += [event("user_annotation", f"stage{at}", at, end - at, 5, MAIN) for at, end in stages]
    own: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    operators = [e for e in events if e["cat"] == "cpu_op"]
    for tid in (MAIN, AUTOGRAD):
        mine = [e for e in operators if e["tid"] == tid]
        for us in range(400):
            open_ = [(e["ts"], -e["dur"], i) for i, e in enumerate(mine) if e["ts"] <= us < e["ts"] + e["dur"]]
            if open_:
                innermost = mine[max(open_)[2]]
                own[innermost["name"]] += 1_000
                staged = tid == MAIN and any(at <= innermost["ts"] < end for at, end in stages)
                outside[innermost["name"]] += 0 if staged else 1_000
    table = analyze(read_kineto(written(tmp_path, events)), window=(0, 10**9)).operators
    assert dict(table.select("name", "self_ns").filter(table["self_ns"] > 0).iter_rows()) == dict(own)
    assert dict(table.select("name", "outside_ns").filter(table["outside_ns"] > 0).iter_rows()) == dict(+outside)
    assert dict(table.select("name", "calls").iter_rows()) == Counter(e["name"] for e in operators)
    assert dict(table.select("name", "sum_ns").iter_rows()) == {
        name: sum(1_000 * e["dur"] for e in operators if e["name"] == name) for name in table["name"].to_list()
    }


def test_what_operators_launch_is_theirs_alone(tmp_path: Path) -> None:
    table = analyze(read_kineto(written(tmp_path, step())), window=(0, 10**9)).operators
    found = {name: (ops, ns) for name, ops, ns in table.select("name", "ops", "device_ns").iter_rows()}
    assert found["aten::addmm"] == (1, 10_000) and found["aten::linear"] == (1, 10_000)
    assert found["aten::mm"] == (1, 20_000) and sum(ns for _, ns in found.values()) == 60_000


def test_a_trace_of_the_host_alone_is_told_by_operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = [e for e in step() if e["cat"] not in ("kernel", "cuda_runtime")]
    file = written(tmp_path, events)
    assert main(["analyze", str(file)]) == 0
    said = capsys.readouterr().out
    assert "operator, all threads" in said and "aten::linear" in said and "autograd::engine" in said
    assert main(["analyze", str(file), "--json"]) == 0
    (trace,) = json.loads(capsys.readouterr().out)["traces"]
    assert {row["name"]: row["calls"] for row in trace["operators"]}["aten::linear"] == 2


def test_backends_are_compared_by_operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same operators with kernels of other names: one term an operator, none unmatched."""
    (tmp_path / "other").mkdir()
    other = [e | {"name": "xpu::gemm"} if e["cat"] == "kernel" else e for e in step()]
    one, two = written(tmp_path, step()), written(tmp_path / "other", other)
    assert main(["compare", str(one), str(two), "--domain", "torch.op", "--window", "all", "--json"]) in (0, 3)
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert {term["status"] for term in found["terms"]} == {"matched"}


def test_the_recorded_trace_has_its_operators() -> None:
    trace = open_trace(SAMPLES / "h100_pipeline_decode_kineto.json.gz")
    assert dict(trace.ranges.group_by("domain").len().iter_rows())["torch.op"] == 7_610
    table = analyze(trace).operators
    assert table["calls"].sum() <= 7_610 and {"aten::addmm", "aten::gelu"} <= set(table["name"].to_list())


def test_crossing_ranges_and_foreign_values_do_no_harm(tmp_path: Path) -> None:
    events = [module("A", 0, 50), module("B", 40, 50), operator("x", 45, 5, sequence=1)]
    backward = [
        operator("y", 100, 5, AUTOGRAD, 1, 1),
        event("cpu_op", "z", None, 5, 5, AUTOGRAD, **{"Sequence number": "a"}),
    ]
    trace = read_kineto(written(tmp_path, [*events, *backward]))
    assert trace.ranges.filter(domain="torch.module")["name"].to_list().count("backward") == 1
    assert trace.meta.anomalies["ranges_without_end"] == 1


def test_without_a_device_the_stages_that_took_longest_by_themselves_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stage whose time is its own comes before a short one nested in it."""
    events = [operator("aten::addmm", 0, 800), operator("aten::copy_", 10, 50), operator("aten::relu", 900, 70)]
    assert main(["analyze", str(written(tmp_path, events)), "--no-cache"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "stages that took the host's time: `aten::addmm` 750 us in 1, `aten::relu` 70.0 us in 1, "
        "`aten::addmm/aten::copy_` 50.0 us in 1"
    ) in said
