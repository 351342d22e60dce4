"""training_single: loss curves agree across precision, optimizer and loader, and a changed training is caught."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.run import VariantResult, Work
from aisp_trace.workloads import training_single as training
from aisp_trace.workloads.interface import Variant
from aisp_trace.workloads.measure import measure
from aisp_trace.workloads.training_single import (
    FP32,
    PROGRESS,
    PROGRESS_FP32,
    ROWS,
    ROWS_FP32,
    SHAPES,
    Baseline,
    Bf16,
    Compiled,
    FusedAdamw,
    Prefetch,
    Training,
)

CPU = torch.device("cpu")
TINY = SHAPES["cpu", "tiny"]
RIGHT: list[Callable[[Training], Variant]] = [Baseline, Bf16, FusedAdamw, Prefetch]


@pytest.fixture(scope="module")
def problem() -> Training:
    return Training(CPU, "tiny", 0)


@pytest.fixture(autouse=True)
def no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """`measure` collects garbage for the sake of its times; here that would take longer than all training together."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def result_of(variant: Callable[[Training], Variant], problem: Training) -> VariantResult:
    """`variant` in the place of the optimized one, or of the baseline where it says that it trains in fp32."""
    name = "optimized" if getattr(variant, "claims_bf16", getattr(variant, "bf16", True)) else "baseline"
    program = dataclasses.replace(training.PROGRAM, variants={**training.VARIANTS, name: variant})
    return measure(program, problem, name, CPU, 1, warmup=1, traced=False)


@pytest.mark.parametrize("variant", RIGHT)
def test_a_right_variant_is_verified(variant: Callable[[Training], Variant], problem: Training) -> None:
    """Iterations start anew each time: otherwise the second comparison would see a model trained twice."""
    output = result_of(variant, problem).output
    assert output.ok
    assert output.error is not None
    assert 0 < output.error < output.tolerance / 2


def test_every_output_has_a_tighter_tolerance_in_fp32(problem: Training) -> None:
    tight = problem.tolerance_of("baseline")
    assert [t.bound for t in tight] == [FP32.bound] * (TINY.steps + 1) + [PROGRESS_FP32.bound, ROWS_FP32.bound]
    for name in ("bf16", "fused_adamw", "optimized", "compiled"):
        loose = problem.tolerance_of(name)
        assert all(a.bound < b.bound for a, b in zip(tight, loose, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_progress_is_that_of_the_reference_by_far(seed: int) -> None:
    problem = Training(CPU, "tiny", seed)
    for variant, bound, of_rows in (
        (Baseline, PROGRESS_FP32.bound, ROWS_FP32.bound),
        (FusedAdamw, PROGRESS.bound, ROWS.bound),
    ):
        made = variant(problem)
        made.prepare()
        made.reset()
        made.iteration()
        *_, expected, rows = problem.reference()
        *_, found, rows_found = problem.to_compare(made.outputs())
        assert float((found - expected).norm() / expected.norm()) < bound / 4
        assert float((rows_found - rows).norm() / rows.norm()) < of_rows / 4
        assert float(found[:-1].min()) > 0 and float(found[:-1].max()) < 1.1, "no element moves by more than the rate"
        assert -3 < float(found[-1]) < -0.5, "weight decay is told from what the gradients do along the weights"


def test_the_losses_fall_far_enough_to_tell_steps_apart() -> None:
    problem = Training(CPU, "tiny", 0)  # its first inputs: tests before this one have drawn others for the shared one
    *losses, progress, rows = problem.reference()
    falling = [float(loss) for loss in losses]
    assert len(losses) == TINY.steps + 1
    assert len(progress) == len(problem.weights) - TINY.layers + 1
    assert len(rows) == TINY.vocabulary
    falls = [(a - b) / a for a, b in itertools.pairwise(falling)]
    assert min(falls) > 5 * problem.tolerance.bound


@pytest.mark.parametrize("seed", range(4))
def test_no_text_has_the_answers_of_another(seed: int) -> None:
    """Losses are means over many tokens: by their tolerance alone, two texts of 36 had the same, and a kept result passed."""
    problem = Training(CPU, "tiny", seed)
    rows = problem.reference()[-1]
    problem.fresh(torch.Generator().manual_seed(seed))
    others = problem.reference()[-1]
    assert float((others - rows).norm() / rows.norm()) > 20 * ROWS.bound


def test_required_work_is_equal_and_counted_by_hand(problem: Training) -> None:
    tokens = 4 * 64
    weights = 2 * (3 + 1 + 4 + 4) * 64 * 64 + 512 * 64
    attention = 2 * 2 * 64 * 64  # layers, two products, context, width
    batch = 4 * 65 * 8
    assert problem.work() == Work(
        items=4 * tokens,
        unit="tokens",
        flops=(3 * 3 + 1) * 2 * (weights + attention) * tokens,
        input_bytes=4 * batch,
        output_bytes=4 * 4,
        moved_bytes={"h2d": 4 * batch, "d2h": 0, "d2d": None},
    )


def test_weights_in_products_are_those_of_the_model(problem: Training) -> None:
    products = sum(w.numel() for name, w in problem.weights.items() if w.dim() == 2 and "blocks" in name)
    assert products == TINY.layers * 12 * TINY.width**2


def test_inputs_follow_the_seed() -> None:
    problem, again, other = (Training(CPU, "tiny", seed) for seed in (0, 0, 1))
    assert torch.equal(problem.batch(1), again.batch(1))
    assert not torch.equal(problem.batch(1), other.batch(1))
    assert not torch.equal(problem.batch(0), problem.batch(1))
    assert all(torch.equal(w, again.weights[name]) for name, w in problem.weights.items())
    assert int(problem.corpus.max()) < TINY.vocabulary


# -- stages ------------------------------------------------------------------------------------------------------


class Stages:
    """Stands for a recorder: what was opened, in order, by thread; none inside another of its thread."""

    def __init__(self) -> None:
        self.names: dict[int, list[str]] = defaultdict(list)
        self.bytes: dict[str, int] = defaultdict(int)
        self._open = threading.local()

    @contextmanager
    def stage(self, name: str, kind: str | None = None, nbytes: int | None = None) -> Iterator[None]:
        assert not getattr(self._open, "inside", False)
        self._open.inside = True
        self.names[threading.get_ident()].append(name)
        self.bytes[kind or ""] += nbytes or 0
        yield
        self._open.inside = False


def staged(monkeypatch: pytest.MonkeyPatch, variant: Variant) -> Stages:
    variant.prepare()
    variant.reset()
    stages = Stages()
    monkeypatch.setattr(training, "stage", stages.stage)
    try:
        variant.iteration()
    finally:
        variant.close()
    return stages


STEP = ["forward", "loss", "backward", "optimizer"]


def test_a_step_has_its_stages_in_order(monkeypatch: pytest.MonkeyPatch, problem: Training) -> None:
    stages = staged(monkeypatch, Baseline(problem))
    (names,) = stages.names.values()
    assert names == ["load", "h2d", *STEP] * TINY.steps + ["load", "h2d", "forward", "loss"]


def test_the_loader_works_in_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch, problem: Training) -> None:
    stages = staged(monkeypatch, Prefetch(problem))
    mine = stages.names.pop(threading.get_ident())
    (loader,) = stages.names.values()
    assert [name for name in mine if name != "handoff"] == STEP * TINY.steps + ["forward", "loss"]
    assert [name for name in loader if name != "handoff"] == ["load", "h2d"] * (TINY.steps + 1)


@pytest.mark.parametrize("variant", [Baseline, Prefetch])
def test_predicted_bytes_are_those_the_stages_carry(
    monkeypatch: pytest.MonkeyPatch, variant: Callable[[Training], Variant], problem: Training
) -> None:
    made = variant(problem)
    assert staged(monkeypatch, made).bytes["h2d"] == problem.work().moved_bytes["h2d"]


def test_the_next_batch_is_loaded_during_a_step(monkeypatch: pytest.MonkeyPatch, problem: Training) -> None:
    """The second load and the first forward can only both end if both are open at one time."""
    met = threading.Barrier(2)
    entered: dict[str, int] = defaultdict(int)
    turn = {"load": 2, "forward": 1}

    @contextmanager
    def stage(name: str, kind: str | None = None, nbytes: int | None = None) -> Iterator[None]:
        entered[name] += 1
        if entered[name] == turn.get(name):
            met.wait(timeout=PATIENCE_S)
        yield

    variant = Prefetch(problem)
    variant.prepare()
    variant.reset()
    monkeypatch.setattr(training, "stage", stage)
    try:
        variant.iteration()
    finally:
        variant.close()
    assert not met.broken


# -- the streams of CUDA, against stand-ins ----------------------------------------------------------------------


class Device:
    """What would happen on the device, in the order the host asked for it."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        self.lock = threading.Lock()
        self.current = threading.local()

    def say(self, what: str, event: str) -> None:
        with self.lock:
            self.log.append((what, event))


class FakeEvent:
    def __init__(self, device: Device, name: str) -> None:
        self.device, self.name = device, name

    def record(self, stream: Any = None) -> None:
        self.device.say("record", self.name)

    def synchronize(self) -> None:
        self.device.say("synchronize", self.name)


class FakeStream:
    def __init__(self, device: Device) -> None:
        self.device = device

    def wait_event(self, event: FakeEvent) -> None:
        self.device.say("wait", event.name)


def test_copies_and_steps_are_ordered_by_events(monkeypatch: pytest.MonkeyPatch, problem: Training) -> None:
    """Per slot: the loader waits for its old copy, the copy for the slot's last step, the step for the copy."""
    device = Device()
    variant = Prefetch(problem)
    variant.prepare()
    variant.reset()
    variant._stream = FakeStream(device)
    variant._copied = [FakeEvent(device, f"copied {slot}") for slot in range(training.DEPTH)]
    variant._used = [FakeEvent(device, f"used {slot}") for slot in range(training.DEPTH)]

    @contextmanager
    def on(stream: FakeStream) -> Iterator[None]:
        yield

    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device_: FakeStream(device))
    try:
        variant.iteration()
    finally:
        variant.close()
    for slot in range(training.DEPTH):
        mine = [f"{what} {event.split()[0]}" for what, event in device.log if event.endswith(str(slot))]
        batches = len(range(slot, TINY.steps + 1, training.DEPTH))
        one = ["synchronize copied", "wait used", "record copied", "wait copied", "record used"]
        assert mine == one * batches


def test_compiled_learns_the_same_whatever_compiles_it(monkeypatch: pytest.MonkeyPatch, problem: Training) -> None:
    """`prepare` trains a step to compile it: `reset` must undo that."""
    compiled = []

    def compile(model: Any, dynamic: bool) -> Any:
        assert dynamic is False
        compiled.append(model)
        return model

    monkeypatch.setattr(torch, "compile", compile)
    assert result_of(Compiled, problem).output.ok
    assert len(compiled) == 1
    assert training.PROGRAM.entry.lacks("compiled", 0) == "cuda"


# -- deliberately wrong variants ---------------------------------------------------------------------------------


class Altered(Baseline):
    """The baseline with its optimizer changed in one step, before the step."""

    def alter(self, step: int) -> None:
        raise NotImplementedError

    def _learn(self, step: int, tokens: torch.Tensor) -> None:
        self.alter(step)
        super()._learn(step, tokens)


class OtherRate(Altered):
    def alter(self, step: int) -> None:
        self._optimizer.param_groups[0]["lr"] = 1.1 * TINY.rate


class SkipsTheLastStep(Altered):
    """Only the loss after the last step can tell."""

    def alter(self, step: int) -> None:
        self._optimizer.param_groups[0]["lr"] = 0.0 if step == TINY.steps - 1 else TINY.rate


class SameBatch(Baseline):
    """The race of a loader that is a step late: the batch before, once more."""

    def _learn(self, step: int, tokens: torch.Tensor) -> None:
        super()._learn(step, self.problem.batch(max(0, step - 1)))


class NoBackward(Baseline):
    """Losses without learning."""

    def _learn(self, step: int, tokens: torch.Tensor) -> None:
        with torch.no_grad():
            self._losses[step] = training.loss_of(self._model(tokens[:, :-1]), tokens[:, 1:])


class KeepsLearning(Baseline):
    """Each iteration starts where the one before ended."""

    def reset(self) -> None:
        """Nothing."""


class Bf16Losses(Baseline):
    def iteration(self) -> None:
        super().iteration()
        self._losses.copy_(self._losses.bfloat16())


class Bf16InSecret(Bf16):
    """Products in bf16, under the tolerances of fp32: on any processor, whether or not it has instructions for them."""

    claims_bf16 = False


class FreezesVectors(Baseline):
    """Less work: biases and norms do not learn."""

    def prepare(self) -> None:
        super().prepare()
        for weight in self._weights.values():
            weight.requires_grad_(weight.dim() > 1)


class FreezesVectorsInBf16(FreezesVectors, Bf16):
    """Of a rung whose losses are allowed to differ by more than this makes."""


class FreezesOneBias(Bf16):
    def prepare(self) -> None:
        super().prepare()
        self._weights["blocks.1.down.bias"].requires_grad_(False)


class NoDecay(FusedAdamw):
    def prepare(self) -> None:
        super().prepare()
        for group in self._optimizer.param_groups:
            group["weight_decay"] = 0.0


WRONG = [
    OtherRate,
    SkipsTheLastStep,
    SameBatch,
    NoBackward,
    KeepsLearning,
    Bf16Losses,
    Bf16InSecret,
    FreezesVectors,
    FreezesVectorsInBf16,
    FreezesOneBias,
    NoDecay,
]


@pytest.mark.parametrize("variant", WRONG)
def test_a_changed_training_is_caught(variant: type[Baseline], problem: Training) -> None:
    output = result_of(variant, problem).output
    assert output.error is None or output.error > output.tolerance
    assert not output.ok


class LosesAStep(Baseline):
    """Never writes its last loss; the poison is what shows it."""

    def _learn(self, step: int, tokens: torch.Tensor) -> None:
        if step < TINY.steps:
            super()._learn(step, tokens)


def test_a_loss_that_was_not_written_is_caught_by_the_poison(problem: Training) -> None:
    output = result_of(LosesAStep, problem).output
    assert output.poisoned == 1
    assert not output.ok


class LessWork(Baseline):
    def work(self) -> Work:
        work = self.problem.work()
        return dataclasses.replace(work, items=work.items // 2, flops=work.flops // 2)


def test_less_required_work_shows_in_the_result(problem: Training) -> None:
    result = result_of(LessWork, problem)
    assert result.work == problem.work()
    assert result.proof is not None
    assert "states other required work than its problem: items" in result.proof.objections[0]


class Mispredicts(Prefetch):
    """Forgets the batch after the last step."""

    def moves(self) -> Mapping[str, int | None]:
        return {"h2d": TINY.steps * self.problem.batch_bytes}


def test_mispredicted_bytes_contradict_the_stages(monkeypatch: pytest.MonkeyPatch, problem: Training) -> None:
    made = Mispredicts(problem)
    predicted, moved = made.moves()["h2d"], staged(monkeypatch, made).bytes["h2d"]
    assert predicted is not None
    assert moved - predicted == problem.batch_bytes


# -- failures ----------------------------------------------------------------------------------------------------


class Failure(Exception):
    pass


@pytest.mark.parametrize("where", ["load", "h2d", "forward", "optimizer"])
def test_a_failure_in_either_thread_ends_both_and_is_the_one_shown(
    monkeypatch: pytest.MonkeyPatch, problem: Training, where: str
) -> None:
    @contextmanager
    def stage(name: str, kind: str | None = None, nbytes: int | None = None) -> Iterator[None]:
        if name == where:
            raise Failure(name)
        yield

    before = threading.active_count()
    monkeypatch.setattr(training, "stage", stage)
    with pytest.raises(Failure, match=where):
        result_of(Prefetch, problem)
    assert threading.active_count() == before, "close() ends the loader"
