"""memory_standard: right variants agree, each kind of wrong variant is caught, and the byte model counts what is done."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from aisp_trace.kernels.build import KernelError
from aisp_trace.traces.errors import WorkloadError
from aisp_trace.traces.run import VariantResult, Work
from aisp_trace.workloads import memory_standard as memory
from aisp_trace.workloads import runner
from aisp_trace.workloads.interface import Variant
from aisp_trace.workloads.measure import measure
from aisp_trace.workloads.memory_standard import SHAPES, Baseline, Blocked, Fused, KeepCache, Requests, Reuse

CPU = torch.device("cpu")
RIGHT: list[Callable[[Requests], Variant]] = [Baseline, KeepCache, Reuse, Blocked]


def result_of(variant: Callable[[Requests], Variant]) -> VariantResult:
    """`variant` in the place of the optimized one."""
    program = dataclasses.replace(memory.PROGRAM, variants={**memory.VARIANTS, "optimized": variant})
    return measure(program, Requests(CPU, "tiny", 0), "optimized", CPU, 2, warmup=1, traced=False)


def objections_of(variant: Callable[[Requests], Variant]) -> Sequence[str]:
    proof = result_of(variant).proof
    assert proof is not None
    return proof.objections


@pytest.mark.parametrize("variant", RIGHT)
def test_a_right_variant_is_verified(variant: Callable[[Requests], Variant]) -> None:
    output = result_of(variant).output
    assert output.ok
    assert output.error is not None
    assert 0 < output.error < output.tolerance / 10


def test_required_work_is_equal_and_counted_by_hand() -> None:
    works = [result_of(variant).work for variant in RIGHT]
    tokens = sum(SHAPES["cpu", "tiny"].lengths)
    elements = tokens * 256
    assert (
        works == [Work(tokens, "tokens", 8 * elements, 8 * elements, 4 * elements, {"h2d": 0, "d2h": 0, "d2d": 0})] * 4
    )


@pytest.mark.parametrize(("device", "size"), sorted(SHAPES))
def test_lengths_are_odd_different_and_span_the_range(device: str, size: str) -> None:
    shape = SHAPES[device, size]
    lengths = shape.lengths
    assert len(set(lengths)) == len(lengths) == shape.requests
    assert all(n % 2 and shape.shortest <= n <= shape.longest for n in lengths)
    assert max(lengths) > 2 * min(lengths)
    assert list(lengths) not in (sorted(lengths), sorted(lengths, reverse=True))


# -- the byte model ----------------------------------------------------------------------------------------------


class Passes(TorchDispatchMode):  # type: ignore[misc]
    """Counts the tensors that operations read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.read = self.written = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        self.read += sum(isinstance(a, torch.Tensor) for a in args)
        self.written += isinstance((kwargs or {}).get("out"), torch.Tensor)
        return func(*args, **(kwargs or {}))


def test_the_chain_makes_the_passes_that_the_model_counts() -> None:
    gate, up, result, *temporaries = (torch.rand(8) for _ in range(3 + memory.TEMPORARIES))
    with Passes() as passes:
        memory.chain(gate, up, result, temporaries)
    assert (passes.operations, passes.read, passes.written) == (7, 9, 7)
    assert passes.read + passes.written == memory.CHAIN_PASSES


class Stages:
    """Stands for a recorder: (name, kind, bytes) of every stage, none inside another."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str | None, int | None]] = []
        self._inside = False

    @contextmanager
    def stage(self, name: str, kind: str | None = None, nbytes: int | None = None) -> Iterator[None]:
        assert not self._inside
        self._inside = True
        self.opened.append((name, kind, nbytes))
        yield
        self._inside = False

    def moved(self, kind: str) -> int:
        return sum(nbytes or 0 for _, k, nbytes in self.opened if k == kind)


def staged(monkeypatch: pytest.MonkeyPatch, variant: Variant) -> Stages:
    variant.prepare()
    stages = Stages()
    monkeypatch.setattr(memory, "stage", stages.stage)
    variant.iteration()
    return stages


@pytest.mark.parametrize(
    ("variant", "stages_of_one", "passes"),
    [
        (Baseline, [("allocate", "alloc"), ("pointwise", "compute"), ("release", "alloc")], 16),
        (KeepCache, [("allocate", "alloc"), ("pointwise", "compute"), ("release", "alloc")], 16),
        (Reuse, [("allocate", "host"), ("pointwise", "compute")], 16),
        (Blocked, [("pointwise", "compute")], 3),
    ],
)
def test_stages_carry_the_bytes_of_the_model(
    monkeypatch: pytest.MonkeyPatch, variant: Callable[[Requests], Variant], stages_of_one: list[Any], passes: int
) -> None:
    problem = Requests(CPU, "tiny", 0)
    stages = staged(monkeypatch, variant(problem))
    assert [(name, kind) for name, kind, _ in stages.opened] == stages_of_one * len(problem.requests)
    assert stages.moved("compute") == passes * 4 * problem.elements
    assert [stages.moved(kind) for kind in ("h2d", "d2h", "d2d")] == [0, 0, 0]


# -- deliberately wrong variants ---------------------------------------------------------------------------------


class Unclamped(KeepCache):
    """Leaves two operations out."""

    def iteration(self) -> None:
        for request in self.problem.requests:
            g = request.gate
            torch.mul(g * torch.sigmoid(memory.ALPHA * g), request.up + 1, out=request.result)


class Bf16(KeepCache):
    """Half the bytes, silently."""

    def iteration(self) -> None:
        super().iteration()
        for request in self.problem.requests:
            request.result.copy_(request.result.bfloat16())


class OneElement(KeepCache):
    def iteration(self) -> None:
        super().iteration()
        self.problem.requests[-1].result[-1, -1] += 1


@pytest.mark.parametrize("variant", [Unclamped, Bf16, OneElement])
def test_a_wrong_output_is_caught(variant: type[KeepCache]) -> None:
    assert not result_of(variant).output.ok


class SkipsTheTail(Blocked):
    """The last request's last, incomplete block is done in the first iteration only."""

    first = True

    def iteration(self) -> None:
        last = self.problem.requests[-1].result
        whole = last.numel() // memory.BLOCK_ELEMENTS * memory.BLOCK_ELEMENTS
        kept = last.view(-1)[whole:].clone()
        super().iteration()
        if not self.first:
            last.view(-1)[whole:] = kept
        self.first = False


def test_an_output_that_was_not_written_is_caught_by_the_poison() -> None:
    output = result_of(SkipsTheTail).output
    assert output.poisoned == SHAPES["cpu", "tiny"].lengths[-1] * 256 % memory.BLOCK_ELEMENTS > 0
    assert not output.ok


class LessWork(Blocked):
    def work(self) -> Work:
        return dataclasses.replace(self.problem.work(), items=1)


def test_less_required_work_shows_in_the_result() -> None:
    assert "states other required work than its problem: items is 1" in objections_of(LessWork)[0]


class CopiesInputs(KeepCache):
    """Moves inputs within the device and predicts that nothing moves."""

    def iteration(self) -> None:
        for request in self.problem.requests:
            with vars(memory)["stage"]("copy", kind="d2d", nbytes=request.gate.nbytes):
                request.gate.clone()
        super().iteration()


def test_mispredicted_bytes_contradict_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    made = CopiesInputs(Requests(CPU, "tiny", 0))
    assert staged(monkeypatch, made).moved("d2d") > (made.problem.work().moved_bytes["d2d"] or 0) == 0


# -- what needs a GPU --------------------------------------------------------------------------------------------


def test_the_kernel_gets_every_request_s_addresses_on_the_current_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA variant against a kernel that computes on the host at the addresses it is given."""
    streams = []

    class OnHost:
        def __init__(self, capability: tuple[int, int]) -> None:
            assert capability == (9, 0)

        def __call__(self, gate: int, up: int, out: int, count: int, alpha: float, limit: float, stream: int) -> None:
            memory = [(ctypes.c_float * count).from_address(a) for a in (gate, up, out)]
            g, u, o = (torch.frombuffer(m, dtype=torch.float32) for m in memory)
            g = g.clamp(max=limit)
            o.copy_(g * torch.sigmoid(alpha * g) * (u.clamp(-limit, limit) + 1))
            streams.append(stream)

    class Stream:
        cuda_stream = 77

    monkeypatch.setattr(memory, "ClampedSwiglu", OnHost)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream)
    assert result_of(Fused).output.ok
    assert set(streams) == {77}


def test_a_kernel_that_cannot_be_built_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(capability: tuple[int, int]) -> None:
        raise KernelError("there is no nvcc")

    monkeypatch.setattr(memory, "ClampedSwiglu", fail)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.raises(WorkloadError, match="there is no nvcc"):
        Fused(Requests(CPU, "tiny", 0)).prepare()


@pytest.mark.parametrize("expandable", [True, False])
def test_expandable_segments_are_believed_only_when_seen(monkeypatch: pytest.MonkeyPatch, expandable: bool) -> None:
    asked: list[str] = []
    segment = {"address": 0, "total_size": 1 << 63, "is_expandable": expandable}
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: [segment])
    monkeypatch.setattr(torch.cuda.memory, "_set_allocator_settings", asked.append)
    variant = memory.Expandable(Requests(CPU, "tiny", 0))
    if expandable:
        variant.prepare()
    else:
        with pytest.raises(WorkloadError, match="expandable segments and allocated another kind"):
            variant.prepare()
    variant.close()
    assert asked == ["expandable_segments:True", "expandable_segments:False"]


def test_this_torch_takes_the_setting() -> None:
    memory._set_allocator("expandable_segments:False")  # warnings are errors here


def test_variants_do_not_share_a_process(capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ("--device", "cpu", "--size", "tiny", "--iterations", "1")
    assert runner.run(memory.PROGRAM, tiny) == 2
    assert "must not share a process" in capsys.readouterr().err
    assert runner.run(memory.PROGRAM, [*tiny, "--variant", "optimized"]) == 0
    assert runner.run(memory.PROGRAM, [*tiny, "--variant", "expandable"]) == 2
    assert "needs cuda" in capsys.readouterr().err
