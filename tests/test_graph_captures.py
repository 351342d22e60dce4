"""A variant captures its CUDA graphs after `prepare`, and again as a recording begins. On a stand-in for a GPU."""

from __future__ import annotations

import pytest

from aisp_trace.tests.test_energy_pass import ITERATIONS, MS, WARMUP, FakeCuda, Squares, result_of
from aisp_trace.tests.test_energy_pass import _cuda as _cuda  # the fixture


class Replays(Squares):
    """Squares, as it would be replayed."""

    def graphs(self) -> None:
        self.cuda.log.append("graphs")
        self.cuda.now_ns += 700 * MS


def test_graphs_are_captured_once_before_the_first_iteration(cuda: FakeCuda) -> None:
    found = result_of(variant=Replays)
    assert cuda.log.count("graphs") == 1 and cuda.log.index("graphs") < cuda.log.index("iteration")
    assert found.proof is not None and found.proof.prepare_ns >= 700 * MS, "it is part of the preparation"
    assert found.proof.objections == ()


def test_a_recording_holds_a_capture_and_one_replay_before_its_iterations(cuda: FakeCuda) -> None:
    """The first launch of a new graph uploads it, which no iteration is to be charged with."""
    found = result_of(variant=Replays, traced=True)
    log = [
        line for line in cuda.log[: cuda.log.index("gate closed")] if line in ("fresh", "graphs", "reset", "iteration")
    ]
    warm = ["graphs", *["fresh", "reset", "iteration"] * WARMUP]
    assert log == [*warm, "fresh", "graphs", "reset", "iteration", *["reset", "iteration"] * ITERATIONS]
    assert list(found.iterations_ns) == [10 * MS] * ITERATIONS
    assert found.allocator.retries == ITERATIONS, "what the capture allocates is not counted"
    assert found.proof is not None and found.proof.objections == ()


@pytest.mark.parametrize("traced", [False, True])
def test_a_variant_without_graphs_runs_as_before(cuda: FakeCuda, traced: bool) -> None:
    result_of(traced=traced)
    begun = cuda.log[: cuda.log.index("gate closed")]
    assert begun.count("fresh") == WARMUP + (1 if traced else ITERATIONS)
    if traced:
        assert begun.count("iteration") == WARMUP + ITERATIONS
