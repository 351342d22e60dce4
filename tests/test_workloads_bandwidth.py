"""end_to_end_bandwidth: right variants agree, and each kind of wrong variant is caught."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

pytest.importorskip("torch")

import torch

from aisp_trace.traces.run import VariantResult, Work
from aisp_trace.workloads import end_to_end_bandwidth as bandwidth
from aisp_trace.workloads import pipeline_sequential as pipeline
from aisp_trace.workloads.end_to_end_bandwidth import REQUESTS, SHAPES, VARIANTS, Baseline, Batched, Pinned, Service
from aisp_trace.workloads.interface import Variant
from aisp_trace.workloads.measure import measure

CPU = torch.device("cpu")
TINY = SHAPES["cpu", "tiny"]
REQUEST = TINY.rows // REQUESTS * TINY.width
"""Elements of one request."""


def result_of(variant: Callable[[Service], Variant]) -> VariantResult:
    program = dataclasses.replace(bandwidth.PROGRAM, variants={**VARIANTS, "optimized": variant})
    return measure(program, Service(CPU, "tiny", 0), "optimized", CPU, 2, warmup=1, traced=False)


def stages_of(monkeypatch: pytest.MonkeyPatch, variant: Variant) -> dict[str, list[int]]:
    """Bytes of every stage that one iteration opens, by kind."""
    found: dict[str, list[int]] = defaultdict(list)

    @contextmanager
    def stage(name: str, kind: str | None = None, nbytes: int | None = None) -> Iterator[None]:
        assert name == kind or name == "handoff"
        found[name].append(nbytes or 0)
        yield

    variant.prepare()
    monkeypatch.setattr(bandwidth, "stage", stage)
    monkeypatch.setattr(pipeline, "stage", stage)
    try:
        variant.iteration()
    finally:
        variant.close()
    return found


@pytest.mark.parametrize("name", VARIANTS)
def test_a_right_variant_is_verified(name: str) -> None:
    output = result_of(VARIANTS[name]).output
    assert output.ok
    assert output.poisoned == 0
    assert output.error is not None
    assert 0 < output.error < output.tolerance / 10


@pytest.mark.parametrize("name", VARIANTS)
def test_required_work_is_equal_and_counted_by_hand(name: str) -> None:
    nbytes = 6 * 128 * 128 * 4
    assert result_of(VARIANTS[name]).work == Work(
        items=6 * 32,
        unit="requests",
        flops=6 * 128 * (2 * 128 * 16 + 2 * 16 * 128),
        input_bytes=nbytes,
        output_bytes=nbytes,
        moved_bytes={"h2d": nbytes, "d2h": nbytes},
    )


@pytest.mark.parametrize(("name", "pieces"), [("baseline", 192), ("pinned", 192), ("batched", 6), ("optimized", 6)])
def test_stages_carry_the_predicted_bytes_in_as_many_pieces(
    monkeypatch: pytest.MonkeyPatch, name: str, pieces: int
) -> None:
    problem = Service(CPU, "tiny", 0)
    made = VARIANTS[name](problem)
    found = stages_of(monkeypatch, made)
    assert [len(found[kind]) for kind in ("h2d", "compute", "d2h")] == [pieces] * 3
    assert {kind: sum(found[kind]) for kind in ("h2d", "d2h")} == problem.work().moved_bytes


@pytest.mark.parametrize(("device", "size"), sorted(SHAPES))
def test_groups_hold_whole_requests(device: str, size: str) -> None:
    shape = SHAPES[device, size]
    assert shape.rows % REQUESTS == 0
    assert max(shape.width, shape.hidden) <= 1024, "the tolerance is argued for dot products of at most 1024 terms"
    assert shape.count > 2 * pipeline.DEPTH


def test_requests_are_the_groups_contents_in_memory_of_their_own() -> None:
    problem = Service(CPU, "tiny", 0)
    assert torch.equal(torch.cat(problem.requests), torch.cat(problem.batches))
    assert len({request.untyped_storage().data_ptr() for request in problem.requests}) == len(problem.requests)


# -- deliberately wrong variants ---------------------------------------------------------------------------------


class OneAnswerWrong(Baseline):
    def iteration(self) -> None:
        super().iteration()
        self._answers[5] = self._answers[4]


class LowPrecision(Baseline):
    def iteration(self) -> None:
        super().iteration()
        self._answers = [a.bfloat16().float() for a in self._answers]


class AnswersFewer(Baseline):
    def outputs(self) -> Sequence[torch.Tensor]:
        return self._answers[:-1]


@pytest.mark.parametrize("variant", [OneAnswerWrong, LowPrecision, AnswersFewer])
def test_a_wrong_output_is_caught(variant: type[Baseline]) -> None:
    assert not result_of(variant).output.ok


class ForgetsOne(Pinned):
    """Leaves out the last request once it has been answered; the answer is still there from the iteration before."""

    answered = False

    def iteration(self) -> None:
        everything = self._pairs
        if self.answered:
            self._pairs = everything[:-1]
        super().iteration()
        self._pairs, self.answered = everything, True


def test_an_answer_that_was_not_written_is_caught_by_the_poison() -> None:
    output = result_of(ForgetsOne).output
    assert (output.poisoned, output.ok) == (REQUEST, False)


class FewerItems(Batched):
    """Claims half of the required work."""

    def work(self) -> Work:
        work = self.problem.work()
        return dataclasses.replace(work, items=work.items // 2)


def test_less_required_work_shows_in_the_result() -> None:
    proof = result_of(FewerItems).proof
    assert proof is not None
    assert "states other required work than its problem: items is 96, not 192" in proof.objections[0]


class Mispredicts(Batched):
    def moves(self) -> Mapping[str, int | None]:
        return {"h2d": 0}


def test_mispredicted_bytes_contradict_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Mispredicts(Service(CPU, "tiny", 0))
    assert sum(stages_of(monkeypatch, made)["h2d"]) != made.moves()["h2d"]
