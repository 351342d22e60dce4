"""Variants that do not do the work while it is timed: each is refused by a sentence that names it, and honest ones are not.

A cheat's text says what it does. All but the last group do it well: its outputs passed when every iteration had the same inputs.
Where a process would let one pass by luck, the iterations that are compared are fixed.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from aisp_trace.capture.host import now_utc
from aisp_trace.capture.stages import RECORDER_VARIABLE
from aisp_trace.expectations.judging.admissible import examine
from aisp_trace.expectations.judging.evidence import Answer, Evidence, VariantEvidence, gather
from aisp_trace.expectations.judging.untimed import untimed
from aisp_trace.expectations.judging.validity import objections
from aisp_trace.tests.examples import nightly
from aisp_trace.traces.run import Hardware, Manifest, ProcessResult, Round, Run, VariantResult, Work
from aisp_trace.traces.run import Variant as RunVariant
from aisp_trace.workloads import proof
from aisp_trace.workloads.catalog import Entry
from aisp_trace.workloads.inputs import exchange, tensors_in
from aisp_trace.workloads.interface import Problem, Program, Tolerance, Variant
from aisp_trace.workloads.measure import measure

CPU = torch.device("cpu")
ROWS, WIDTH, ITERATIONS = 64, 128, 6


class Requests(Problem):
    """A linear model; everything found in it is an input."""

    tolerance = Tolerance(bound=1e-4, reason="fp32 sums")

    def __init__(self, device: torch.device = CPU, size: str = "tiny", seed: int = 0) -> None:
        drawn = torch.Generator().manual_seed(seed)
        self.requests = torch.randn(ROWS, WIDTH, generator=drawn)
        self.weights = torch.randn(WIDTH, WIDTH, generator=drawn)

    def reference(self) -> Iterator[torch.Tensor]:
        yield self.requests.double() @ self.weights.double()

    def work(self) -> Work:
        nbytes = self.requests.nbytes
        return Work(ROWS, "requests", 2 * ROWS * WIDTH * WIDTH, nbytes, nbytes)


class Honest(Variant):
    """All requests in one product."""

    def __init__(self, problem: Requests) -> None:
        self.problem = problem
        self.scores = torch.empty_like(problem.requests)
        self.cache: Any = None
        self.count = 0

    def compute(self, rows: slice = slice(None)) -> None:
        torch.mm(self.problem.requests[rows], self.problem.weights, out=self.scores[rows])

    def iteration(self) -> None:
        self.compute()

    def outputs(self) -> Sequence[torch.Tensor]:
        return [self.scores]


class OneByOne(Honest):
    """The slow one."""

    def iteration(self) -> None:
        for i in range(ROWS):
            self.compute(slice(i, i + 1))


class Placed(Honest):
    """Honest, with a copy of the requests that it names."""

    def prepare(self) -> None:
        self.copy = self.problem.requests.clone()

    def buffers(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        return [(self.problem.requests[:10], self.copy[:10]), (self.problem.requests[10:], self.copy[10:])]

    def iteration(self) -> None:
        torch.mm(self.copy, self.problem.weights, out=self.scores)


class Pooled(Honest):
    """Honest: a thread of its own, which waits for the next iteration when it is done; new outputs every time."""

    def prepare(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.pool = ThreadPoolExecutor(1)

    def iteration(self) -> None:
        self.scores = self.pool.submit(torch.mm, self.problem.requests, self.problem.weights).result()

    def close(self) -> None:
        self.pool.shutdown()


class StatesItsWork(Honest):
    """Honest, in the way of older workload files."""

    def work(self) -> Work:
        return replace(self.problem.work(), moved_bytes={"h2d": 0})


class Cached(Honest):
    """Computes once and gives the result again."""

    def iteration(self) -> None:
        if self.cache is None:
            self.compute()
            self.cache = self.scores.clone()
        self.scores.copy_(self.cache)


class CachedByAddress(Honest):
    """Keeps a result for every input it has seen, by its address."""

    def iteration(self) -> None:
        self.cache = self.cache or {}
        key = self.problem.requests.data_ptr()
        if key not in self.cache:
            self.compute()
            self.cache[key] = self.scores.clone()
        self.scores.copy_(self.cache[key])


class InPrepare(Honest):
    """Computes before anything is timed."""

    def prepare(self) -> None:
        self.compute()
        self.cache = self.scores.clone()

    def iteration(self) -> None:
        self.scores.copy_(self.cache)


class Unnamed(Placed):
    """A copy of the inputs that the harness is not told of."""

    def buffers(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        return ()


class HalfTheBatch(Honest):
    """Half of the batch; the rest is the iteration before's."""

    def iteration(self) -> None:
        self.compute(slice(None) if self.count == 0 else slice(ROWS // 2))
        self.count += 1


class EveryOther(Honest):
    """Leaves out every second iteration; the median never sees it."""

    def iteration(self) -> None:
        if self.count % 2 == 0:
            self.compute()
        self.count += 1


class WherePoisoned(Honest):
    """Works where it finds its outputs overwritten, since that is when they are looked at."""

    def iteration(self) -> None:
        if self.count == 0 or bool(self.scores[0, 0].isnan()):
            self.compute()
        self.count += 1


class LazyOutputs(Honest):
    """Computes when it is asked for the result."""

    def outputs(self) -> Sequence[torch.Tensor]:
        if self.count:
            self.count = 0
            self.compute()
        return [self.scores]

    def iteration(self) -> None:
        self.count = 1


class SlowOutputs(LazyOutputs):
    """The same where torch sees nothing of it."""

    def outputs(self) -> Sequence[torch.Tensor]:
        if self.count:
            self.count = 0
            until = time.thread_time() + 0.003
            while time.thread_time() < until:
                pass
            weights, requests = self.problem.weights.numpy(), self.problem.requests.numpy()
            self.scores.numpy()[:] = requests @ weights
        return [self.scores]


class InReset(Honest):
    """Computes before the clock starts."""

    def reset(self) -> None:
        self.compute()

    def iteration(self) -> None:
        pass


class GoesOn(Honest):
    """Starts a thread, and lets the clock stop before it is done."""

    def iteration(self) -> None:
        self.cache = threading.Thread(target=self.work_on)
        self.cache.start()

    def work_on(self) -> None:
        end = time.thread_time_ns() + 20_000_000
        while time.thread_time_ns() < end:
            pass
        self.compute()

    def outputs(self) -> Sequence[torch.Tensor]:
        return [self.scores]

    def reset(self) -> None:
        if self.cache is not None:
            self.cache.join()

    def close(self) -> None:
        self.reset()


class WritesLate(GoesOn):
    """The same with a thread that waits first, and takes no time."""

    def work_on(self) -> None:
        time.sleep(0.002)
        self.compute()


class Later(torch.Tensor):  # type: ignore[misc]
    """Computes when something reads it."""

    due: Callable[[], None] | None = None

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            for one in args:
                if isinstance(one, Later) and one.due is not None:
                    due, one.due = one.due, None
                    due()
            return func(*args, **(kwargs or {}))


class LazyTensor(Honest):
    """Gives tensors that compute when they are read."""

    def outputs(self) -> Sequence[torch.Tensor]:
        later = self.scores.as_subclass(Later)
        later.due = self.compute
        return [later]

    def iteration(self) -> None:
        pass


class FindsTheReference(Honest):
    """Looks for tensors in double precision in the process and takes one of the right shape for its own result."""

    def iteration(self) -> None:
        self.scores = torch.zeros_like(self.problem.requests)
        for one in gc.get_objects():
            if type(one) is torch.Tensor and one.dtype == torch.float64 and one.shape == self.scores.shape:
                self.scores = one


class Loosened(Honest):
    """Says that anything is right."""

    tolerance = Tolerance(bound=10.0, reason="quantised")

    def iteration(self) -> None:
        self.scores.zero_()


class Smaller(Honest):
    """Says that half of it was asked for."""

    def work(self) -> Work:
        return replace(self.problem.work(), items=ROWS // 2)


class OwnClock(Honest):
    """Stops the clock."""

    def iteration(self) -> None:
        time.perf_counter_ns = lambda: 1
        self.compute()


class OwnEvents(Honest):
    """Says that the device took no time."""

    def prepare(self) -> None:
        torch.cuda.Event.elapsed_time = lambda *_: 0.001


class OwnNorm(Honest):
    """Makes every error nothing."""

    def prepare(self) -> None:
        torch.linalg.vector_norm = lambda *_, **__: torch.zeros(())


class EmptiesInputs(Honest):
    """Makes the task an easy one."""

    def iteration(self) -> None:
        self.problem.requests.zero_()
        self.scores.zero_()


class ConvertsBefore(Honest):
    """Has its inputs converted by the harness, untimed."""

    def buffers(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        return [(self.problem.requests, self.problem.requests.bfloat16())]


CHEATS: dict[type[Honest], str] = {
    Cached: "returned outputs of earlier inputs in timed iteration 1",
    CachedByAddress: "returned outputs of earlier inputs in timed iteration 1",
    InPrepare: "returned outputs of earlier inputs in timed iteration 1",
    Unnamed: "gave wrong outputs (",
    HalfTheBatch: "gave wrong outputs (",
    EveryOther: "in timed iteration",
    WherePoisoned: "in timed iteration",
    LazyOutputs: "computes in outputs() (mm), which is not timed",
    SlowOutputs: "to hand over its outputs, which is not timed",
    InReset: "computes in reset() (mm), which is not timed",
    GoesOn: "left a thread computing when timed iteration",
    WritesLate: "when timed iteration",
    LazyTensor: "gives outputs that are not plain tensors on a CPU or a GPU (Later)",
    FindsTheReference: "in timed iteration 1",
    Loosened: "sets a tolerance of its own",
    Smaller: "states other required work than its problem: items is 32, not 64",
    OwnClock: "replaced what times are taken with: time.perf_counter_ns",
    OwnNorm: "replaced what outputs are compared with: torch.linalg.vector_norm",
    OwnEvents: "replaced what times are taken with: Event.elapsed_time",
    EmptiesInputs: "changed the problem's inputs in an iteration",
    ConvertsBefore: "names a buffer that differs from its input in shape or type",
}


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, no recorder, iterations 1 and 2 compared of which 2 is poisoned, and what a cheat replaced put back."""
    monkeypatch.delenv(RECORDER_VARIABLE, raising=False)
    monkeypatch.setattr(proof, "_choose", lambda chance, iterations, reuse: ([1, 2, iterations - 1], [2]))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    for owner, name, right in (*proof._CLOCKS, *proof._COMPARING):
        setattr(owner, name, right)


def result_of(variant: type[Honest], problem: Requests | None = None, traced: bool = False) -> VariantResult:
    entry = Entry("cheats", "x", (("baseline", "x"), ("optimized", "x")), "any machine", "nothing")
    program = Program(entry, Requests, {"baseline": OneByOne, "optimized": variant})
    return measure(program, problem or Requests(), "optimized", CPU, ITERATIONS, warmup=1, traced=traced)


def objections_of(result: VariantResult) -> Sequence[str]:
    assert result.proof is not None
    return result.proof.objections


HONEST = [Honest, OneByOne, Placed, Pooled, StatesItsWork]


@pytest.mark.parametrize("variant", HONEST)
@pytest.mark.parametrize("traced", [False, True])
def test_an_honest_variant_is_not_accused(variant: type[Honest], traced: bool) -> None:
    result = result_of(variant, traced=traced)
    assert result.output.ok
    assert objections_of(result) == ()
    assert result.proof is not None
    assert list(result.proof.compared) == ([ITERATIONS - 1] if traced else [1, 2, ITERATIONS - 1])
    assert (result.proof.fresh, result.proof.reuse) == ((False, proof.RECORDED) if traced else (True, None))
    start, end = result.timed_ns
    assert 0 < sum(result.iterations_ns) <= end - start


@pytest.mark.parametrize("variant", CHEATS)
def test_a_cheat_is_refused_by_name(variant: type[Honest]) -> None:
    result = result_of(variant)
    sentences = objections_of(result)
    assert any(sentence.startswith("optimized ") and CHEATS[variant] in sentence for sentence in sentences), sentences
    answers = (Answer("round 0", ("cheats", "cpu", "tiny", 0), result.timer, result.work, result.output, result.proof),)
    seen = {"optimized": VariantEvidence("optimized", answers, None, ())}
    refused = objections(Evidence("run", "cheats", "tiny", "cpu_x", True, seen, (), ()), ["optimized"])
    assert any(CHEATS[variant] in sentence and sentence.endswith("(round 0)") for sentence in refused)


@pytest.mark.parametrize("variant", [Cached, InPrepare, LazyOutputs, InReset, LazyTensor, Loosened])
def test_a_recorded_process_refuses_it_too(variant: type[Honest]) -> None:
    assert objections_of(result_of(variant, traced=True))


def test_a_loosened_tolerance_is_not_used() -> None:
    output = result_of(Loosened).output
    assert (output.tolerance, output.ok) == (Requests.tolerance.bound, False)


def test_times_are_those_of_the_true_clock() -> None:
    assert min(result_of(OwnClock).iterations_ns) > 1


# -- problems ------------------------------------------------------------------------------------------------------


class Reused(Requests):
    reuse = "the device cannot be written to again"


class Frozen(Requests):
    def fresh(self, random: torch.Generator) -> None:
        """Nothing."""


class Hidden(Requests):
    def inputs(self) -> Sequence[torch.Tensor]:
        return ()


class Silent(Requests):
    work = Problem.work


def test_a_problem_may_reuse_inputs_and_says_why() -> None:
    result = result_of(Honest, Reused())
    assert result.proof is not None
    assert (result.proof.fresh, result.proof.reuse, result.proof.objections) == (False, Reused.reuse, ())
    assert not result_of(HalfTheBatch, Reused()).output.ok, "what is left is the poison"


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (Frozen, "optimized was given the same inputs again: its problem's fresh() changes nothing"),
        (Hidden, "optimized has inputs that never change: its problem names none, and gives no reason to reuse them"),
    ],
)
def test_a_problem_that_changes_nothing_is_named(problem: type[Requests], said: str) -> None:
    assert objections_of(result_of(Honest, problem())) == (said,)


def test_work_that_only_a_variant_states_is_used_and_named() -> None:
    class States(Honest):
        def work(self) -> Work:
            return Work(1, "requests", 1, 1, 1)

    result = result_of(States, Silent())
    assert result.work.items == 1
    assert "states its required work itself" in objections_of(result)[0]


# -- inputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32, torch.int64])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 7, 64, 1000])
def test_every_element_gets_another_place(dtype: torch.dtype, n: int) -> None:
    places = torch.Generator().manual_seed(n)
    tensor = torch.arange(n).to(torch.int64) if dtype == torch.bfloat16 else torch.arange(n).to(dtype)
    tensor = tensor.bfloat16() if dtype == torch.bfloat16 and n <= 64 else tensor
    before = tensor.clone()
    for _ in range(3):
        last = tensor.clone()
        exchange(tensor, places)
        assert torch.equal(tensor.sort().values, before.sort().values)
        assert n < 2 or not bool((tensor == last).any())


def test_tensors_that_are_not_contiguous_change_too_and_views_stay_views() -> None:
    whole = torch.arange(24.0).view(4, 6)
    exchange(whole.T, torch.Generator().manual_seed(0))
    assert not bool((whole == torch.arange(24.0).view(4, 6)).any())


def test_inputs_are_found_where_a_problem_keeps_them() -> None:
    kept, trained, mask = torch.zeros(2), torch.zeros(2, requires_grad=True), torch.zeros(2, dtype=torch.bool)
    found = list(
        tensors_in({"a": [kept, (kept, {"b": torch.ones(3)})], "c": trained, "d": mask, "e": torch.zeros(1).expand(4)})
    )
    assert [len(tensor) for tensor in found] == [2, 3]


# -- work that is moved to where no iteration is charged for it -----------------------------------------------------------


PIECE_S = 0.002
"""What the work takes, wherever it is done."""


class Costly(Honest):
    """Honest: an iteration's work takes `PIECE_S`, done by numpy, which the harness does not see."""

    def work_by_numpy(self) -> None:
        time.sleep(PIECE_S)
        self.scores.numpy()[:] = self.problem.requests.numpy() @ self.problem.weights.numpy()

    def iteration(self) -> None:
        self.work_by_numpy()


class Faster(Honest):
    """Honest: ten times as fast, after long preparation."""

    def prepare(self) -> None:
        time.sleep(0.05)


class Restores(Honest):
    """Honest: brings a state back before every iteration."""

    def prepare(self) -> None:
        self.state = torch.zeros(64)

    def reset(self) -> None:
        self.state.copy_(self.problem.requests.flatten()[:64])


class MovedToReset(Costly):
    """Computes in reset, by numpy."""

    def reset(self) -> None:
        self.work_by_numpy()

    def iteration(self) -> None:
        pass


class MovedToOutputs(Costly):
    """Computes when it is asked for the outputs, by numpy and faster than the harness objects to."""

    def iteration(self) -> None:
        self.count = 1

    def outputs(self) -> Sequence[torch.Tensor]:
        if self.count:
            self.count = 0
            time.sleep(0.0007)
            self.scores.numpy()[:] = self.problem.requests.numpy() @ self.problem.weights.numpy()
        return [self.scores]


class Guessed(Costly):
    """Computes in prepare for the inputs that it guesses, and looks whether it was right."""

    def prepare(self) -> None:
        self.work_by_numpy()
        self.guess, self.cache = self.problem.requests.clone(), self.scores.clone()

    def iteration(self) -> None:
        if torch.equal(self.guess, self.problem.requests):
            self.scores.copy_(self.cache)
        else:
            self.work_by_numpy()


def run_of(variant: type[Honest], problem: type[Requests] = Requests) -> Run:
    """A run of three rounds of `Costly` and `variant`, each measured by the harness."""
    entry = Entry("cheats", "x", (("baseline", "x"), ("optimized", "x")), "any machine", "nothing")
    program = Program(entry, problem, {"baseline": Costly, "optimized": variant})
    rounds = []
    for i in range(3):
        started = now_utc()
        found = [
            measure(program, problem(), name, CPU, ITERATIONS, warmup=1, traced=False)
            for name in NAMES[:: 1 - 2 * (i % 2)]
        ]
        result = ProcessResult("aisp-trace/result/1", "cheats", "cpu", "tiny", 0, found)
        begun, ended = min(one.timed_ns[0] for one in found), max(one.timed_ns[1] for one in found)
        rounds.append(Round(i, (), 0, ended - begun, started, result))
    hardware = Hardware("cpu_x", "cpu", (), None, None, "x", 2)
    variants = [RunVariant(name, "", None) for name in NAMES]
    manifest = Manifest(
        schema="aisp-trace/run/1",
        run_id="cheats-1",
        created_utc=now_utc(),
        workload="cheats",
        source="file",
        command_line=(),
        profile="none",
        recorder=None,
        hardware=hardware,
        size="tiny",
        seed=0,
        iterations=ITERATIONS,
        warmup=1,
        packages={},
        git={},
        variants=variants,
        rounds=rounds,
    )
    return Run(Path("cheats-1"), manifest)


NAMES = ("baseline", "optimized")

MOVED: dict[tuple[type[Honest], type[Requests]], str] = {
    (MovedToReset, Requests): "longer than baseline in reset()",
    (MovedToOutputs, Requests): "longer than baseline in outputs()",
    (Guessed, Reused): "its inputs never change (the device cannot be written to again): the work may have been done",
}


@pytest.mark.parametrize(("variant", "problem"), [next(iter(MOVED)), *nightly(*list(MOVED)[1:])])
def test_work_that_was_moved_out_of_the_clock_is_objected_to(variant: type[Honest], problem: type[Requests]) -> None:
    run = run_of(variant, problem)
    sentences = [sentence for r in run.manifest.rounds for v in r.result.variants for sentence in objections_of(v)]
    assert not [one for one in sentences if "to hand over its outputs" not in one], "by time alone"
    assert all(v.output.ok for r in run.manifest.rounds for v in r.result.variants)
    (found,) = examine(gather(run, {}))
    assert (found.grade, found.variants) == ("objection", ("optimized",))
    assert MOVED[variant, problem] in found.text


@pytest.mark.parametrize(
    ("variant", "problem"),
    [
        (Honest, Requests),
        *nightly((Restores, Requests), (Faster, Requests), (Placed, Requests), (Pooled, Requests), (Honest, Reused)),
    ],
)
def test_an_honest_variant_may_prepare_and_restore(variant: type[Honest], problem: type[Requests]) -> None:
    assert examine(gather(run_of(variant, problem), {})) == ()


def test_a_guess_does_not_help_where_every_iteration_has_inputs_of_its_own() -> None:
    """It computes each time after all, and gains nothing."""
    base, other = untimed(gather(run_of(Guessed), {}))
    assert base.iteration_ns is not None and other.iteration_ns is not None
    assert other.iteration_ns > PIECE_S * 1e9
