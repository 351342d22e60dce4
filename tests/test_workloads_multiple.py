"""multiple_unoptimized: every rung does the same work, removes one thing, and wrong rungs are refused."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from aisp_trace.expectations.judging.evidence import Answer, Evidence, VariantEvidence
from aisp_trace.expectations.judging.validity import objections
from aisp_trace.kernels import guard
from aisp_trace.kernels.artifacts import Stamp
from aisp_trace.kernels.guard import kernel
from aisp_trace.kernels.task import Task
from aisp_trace.traces.errors import WorkloadError
from aisp_trace.traces.run import ProcessResult, VariantResult, Work
from aisp_trace.workloads import multiple_unoptimized as multiple
from aisp_trace.workloads import runner
from aisp_trace.workloads.interface import Variant
from aisp_trace.workloads.measure import measure
from aisp_trace.workloads.multiple_unoptimized import RUNGS, SHAPES, Residual, Rung, Stack

CPU = torch.device("cpu")
TINY = SHAPES["cpu", "tiny"]
BATCH = TINY.rows * TINY.width * 4


LADDER = [name for name in RUNGS if name != "generated"]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that lets a kernel through which PyTorch computes: there is no other on a CPU."""
    monkeypatch.setattr(multiple, "kernel", lambda task: kernel(task, enabled=True, machine=Eager()))
    monkeypatch.setattr(guard, "_choose", lambda *_: VERIFIED)


class Eager:
    """Stands for a GPU, nvcc and the library."""

    def arch(self, tensor: torch.Tensor) -> str:
        return "sm_90"

    def compiler(self) -> str:
        return "nvcc 13.0"

    def load(self, source: Path, task: Task, dtype: str, arch: str) -> Any:
        def run(inputs: Any, outputs: Any, shape: Any) -> None:
            outputs["out"].copy_(task.eager(inputs, shape, dtype)["out"])

        return run


SHAPES_TRIED = [{"rows": 1, "columns": 1}, {"rows": 512, "columns": 512}]
VERIFIED = Stamp(Path(), "bias_gelu", "float32", "sm_90", "nvcc 13.0", "verified", "0" * 64, SHAPES_TRIED, "")


def result_of(name: str, variant: Callable[[Residual], Variant] | None = None, iterations: int = 2) -> VariantResult:
    """Rung `name`, or `variant` in its place."""
    variants = dict(multiple.VARIANTS)
    if variant is not None:
        variants[name] = variant
    program = dataclasses.replace(multiple.PROGRAM, variants=variants)
    return measure(program, Residual(CPU, "tiny", 0), name, CPU, iterations, warmup=1, traced=False)


# -- right rungs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNGS)
def test_every_rung_is_verified(name: str) -> None:
    output = result_of(name).output
    assert output.ok
    assert output.poisoned == 0
    assert output.error is not None
    precise = output.error < 1e-5
    assert precise != RUNGS[name].bf16, "bf16 is where the bf16 rung says, and nowhere else"
    assert output.error < output.tolerance / 2


def test_each_rung_removes_one_bottleneck_and_keeps_what_the_one_before_removed() -> None:
    flags = [dataclasses.astuple(RUNGS[name]) for name in LADDER]
    assert flags[0] == (False,) * 6
    for before, after in itertools.pairwise(flags):
        changed = [(b, a) for b, a in zip(before, after, strict=True) if b != a]
        assert changed == [(False, True)]
    assert flags[-1] == (*(True,) * 5, False)


def test_the_generated_kernel_is_one_change_to_fused() -> None:
    assert RUNGS["generated"] == dataclasses.replace(RUNGS["fused"], generated=True)
    assert result_of("generated").kernels == {"bias_gelu": "0" * 64}
    assert result_of("fused").kernels == {}


def test_a_kernel_that_the_guard_stops_fails_instead_of_running_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiple, "kernel", kernel)
    with pytest.raises(WorkloadError, match="bias_gelu is experimental and not enabled; set AISP_KERNELS=bias_gelu"):
        result_of("generated")


def test_required_work_is_equal_and_counted_by_hand() -> None:
    problem = Residual(CPU, "tiny", 0)
    statistics = 3 * 3 * 4
    assert problem.work() == Work(
        items=3 * 64,
        unit="samples",
        flops=3 * 3 * (2 * 64 * 64 * 64 + 2 * 64 * 64 * 64),
        input_bytes=3 * BATCH,
        output_bytes=3 * BATCH + statistics,
        moved_bytes={"h2d": 3 * BATCH, "d2h": 3 * BATCH + statistics},
    )


@pytest.mark.parametrize(("device", "size"), sorted(SHAPES))
def test_every_size_fits_the_tolerance_s_reason(device: str, size: str) -> None:
    shape = SHAPES[device, size]
    assert shape.layers <= 12, "the tolerance is argued for at most 12 layers"
    assert shape.rows * shape.width * 4 <= 16 << 20, "no host tensor is large enough to be mapped anew each time"


# -- stages --------------------------------------------------------------------------------------------------------


class Stages:
    """Stands for a recorder: the stages in order, none inside another."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str | None, int | None]] = []
        self._open = ""

    @contextmanager
    def stage(self, name: str, kind: str | None = None, nbytes: int | None = None) -> Iterator[None]:
        assert not self._open, f"{name} is opened inside {self._open}"
        self._open = name
        self.rows.append((name, kind, nbytes))
        yield
        self._open = ""

    def moved(self) -> dict[str, int]:
        """Bytes per direction, as a trace would show them."""
        total: dict[str, int] = defaultdict(int)
        for _, kind, nbytes in self.rows:
            if kind in ("h2d", "d2h"):
                total[kind] += nbytes or 0
        return dict(total)


def staged(monkeypatch: pytest.MonkeyPatch, variant: Variant) -> Stages:
    """The stages of one iteration of `variant`."""
    variant.prepare()
    stages = Stages()
    monkeypatch.setattr(multiple, "stage", stages.stage)
    variant.iteration()
    return stages


@pytest.mark.parametrize("name", RUNGS)
def test_the_stages_are_those_of_every_forward_and_carry_the_predicted_bytes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Residual(CPU, "tiny", 0)
    variant = multiple.VARIANTS[name](problem)
    stages = staged(monkeypatch, variant)
    once = RUNGS[name].deferred
    layer = ["up", "gelu", "down", "statistic", *([] if once else ["log"])]
    assert [row[0] for row in stages.rows] == ["h2d", *layer * 3, "d2h"] * 3 + ["log"] * once
    assert stages.moved() == problem.work().moved_bytes


# -- deliberately wrong rungs --------------------------------------------------------------------------------------


class SkipsALayer(Stack):
    def _down(self, x: torch.Tensor, h: torch.Tensor, w2: torch.Tensor, b2: torch.Tensor) -> torch.Tensor:
        return x if w2 is self._layers[-1][2] else super()._down(x, h, w2, b2)


class RepeatsALayer(Stack):
    def prepare(self) -> None:
        super().prepare()
        self._layers[1] = self._layers[0]


class ForgetsABias(Stack):
    def prepare(self) -> None:
        super().prepare()
        w1, b1, w2, b2 = self._layers[0]
        self._layers[0] = (w1, torch.zeros_like(b1), w2, b2)


class TooFewBits(Stack):
    """Eight bits where bf16 has sixteen."""

    def prepare(self) -> None:
        super().prepare()
        self._layers = [tuple(t.to(torch.float8_e4m3fn).to(t.dtype) for t in layer) for layer in self._layers]


class LogsNothingOfTheLastLayer(Stack):
    def _statistic(self, batch: int, layer: int, h: torch.Tensor) -> None:
        if layer + 1 < TINY.layers:
            super()._statistic(batch, layer, h)


class SkipsTheLastBatch(Stack):
    def iteration(self) -> None:
        every, self._inputs = self._inputs, self._inputs[:-1]
        super().iteration()
        self._inputs = every


WRONG = (SkipsALayer, RepeatsALayer, ForgetsABias, TooFewBits, LogsNothingOfTheLastLayer, SkipsTheLastBatch)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ["baseline", "optimized"])
def test_a_wrong_output_is_caught(name: str, wrong: type[Stack]) -> None:
    assert not result_of(name, lambda problem: wrong(problem, RUNGS[name])).output.ok


class Halved(Stack):
    """A rung of fp32 that computes in bf16."""

    def __init__(self, problem: Residual, rung: Rung) -> None:
        super().__init__(problem, rung)
        self.rung = dataclasses.replace(rung, bf16=True)


def test_a_rung_of_fp32_may_not_round_to_bf16() -> None:
    assert not result_of("in_place", lambda problem: Halved(problem, RUNGS["in_place"])).output.ok


def test_what_was_never_written_is_found_by_the_poison() -> None:
    output = result_of("optimized", lambda problem: SkipsTheLastBatch(problem, RUNGS["optimized"])).output
    assert output.poisoned == TINY.rows * TINY.width + TINY.layers


def test_a_person_is_told_that_a_rung_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {**multiple.VARIANTS, "optimized": lambda problem: SkipsALayer(problem, RUNGS["optimized"])}
    program = dataclasses.replace(multiple.PROGRAM, variants=wrong)
    options = ["--size", "tiny", "--device", "cpu", "--iterations", "1", "--warmup", "0", "--variant", "optimized"]
    assert runner.run(program, options) == 2
    assert "the output of optimized is wrong" in capsys.readouterr().err


class HalfTheBatches(Stack):
    """Does, and admits, less of the required work."""

    def work(self) -> Work:
        work = self.problem.work()
        return dataclasses.replace(work, items=work.items // 2, flops=work.flops // 2)


def evidence(result: ProcessResult) -> Evidence:
    """A run of one process, nothing traced."""
    inputs = (result.workload, result.device, result.size, result.seed)
    variants = {
        v.name: VariantEvidence(v.name, (Answer("round 0", inputs, v.timer, v.work, v.output, v.proof),), None, ())
        for v in result.variants
    }
    return Evidence("run", result.workload, result.size, "cpu_x", True, variants, (), ())


def test_check_refuses_less_work_and_wrong_outputs() -> None:
    def judged(wrong: Callable[[Residual], Variant]) -> tuple[str, ...]:
        made = [result_of("baseline"), result_of("optimized", wrong)]
        process = ProcessResult("aisp-trace/result/1", "multiple_unoptimized", "cpu", "tiny", 0, made)
        return objections(evidence(process), ["baseline", "optimized"])

    assert judged(multiple.VARIANTS["optimized"]) == ()
    less = judged(lambda problem: HalfTheBatches(problem, RUNGS["optimized"]))
    assert len(less) == 1
    assert "states other required work than its problem: items is 96, not 192" in less[0]
    wrong = judged(lambda problem: SkipsALayer(problem, RUNGS["optimized"]))
    assert "the output of optimized in round 0 differs" in wrong[0]


class Mispredicts(Stack):
    """Predicts that half of the inputs stay where they are."""

    def moves(self) -> Mapping[str, int | None]:
        return {"h2d": (self.problem.work().moved_bytes["h2d"] or 0) // 2}


def test_mispredicted_bytes_contradict_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    variant = Mispredicts(Residual(CPU, "tiny", 0), Rung())
    predicted, moved = variant.moves(), staged(monkeypatch, variant).moved()
    assert moved["h2d"] == 2 * (predicted["h2d"] or 0)


def test_inputs_follow_the_seed() -> None:
    first, again, other = Residual(CPU, "tiny", 1), Residual(CPU, "tiny", 1), Residual(CPU, "tiny", 2)
    assert all(torch.equal(a, b) for a, b in zip(first.batches, again.batches, strict=True))
    assert not torch.equal(first.batches[0], other.batches[0])
    assert not torch.equal(first.layers[0][0], first.layers[1][0]), "layers differ from each other"
