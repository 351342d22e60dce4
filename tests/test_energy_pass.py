"""The energy pass: what runs after the last check, how often, and that nothing else is other for it.

CUDA is faked where the harness asks it: events read a clock that iterations, resets and fresh inputs move. The work itself is
done on the CPU, at once, and is checked as ever.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from aisp_trace.capture.stages import RECORDER_VARIABLE
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.run import ProcessResult, VariantResult, Work, from_json, repetitions, to_json
from aisp_trace.workloads import measure as measuring
from aisp_trace.workloads import proof
from aisp_trace.workloads.catalog import Entry
from aisp_trace.workloads.interface import Problem, Program, Tolerance, Variant
from aisp_trace.workloads.measure import SETTLING, measure

MS = 1_000_000
WIDTH = 8
CUDA = torch.device("cuda")


# --- how many -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times_ms", "reset_ms", "count"),
    [
        ([10] * 10, 0, 50),  # half a second of iterations
        ([3] * 10, 0, 167),  # ... or the first number that reaches it
        ([600] * 10, 0, 2),  # at least two
        ([600], 0, 2),  # ... even where one was timed
        ([10] * 10, 90, 5),  # half a second with its resets: the timed iterations took less
        ([10] * 100, 90, 10),  # the timed iterations took a second
        ([10] * 6 + [2000] * 4, 0, 10),  # the median says 50, and the mean that these would take 40 s
        ([40, 10, 10], 0, 25),  # the mean is 20 ms
        ([10, 20], 0, 34),  # median 15 ms
        ([0.02] * 10, 0, 10_000),  # not 25,000: the harness takes as long between them
        ([0] * 10, 0, 10_000),  # a clock that stands still
    ],
)
def test_as_many_as_take_half_a_second(times_ms: list[float], reset_ms: int, count: int) -> None:
    assert repetitions([round(ms * MS) for ms in times_ms], reset_ms * MS) == count


# --- in the harness -------------------------------------------------------------------------------------------------------------


@dataclass
class FakeCuda:
    """What the harness asks of CUDA, on a clock of its own, and what happened in which order."""

    now_ns: int = 0
    log: list[str] = field(default_factory=list)
    emptied: int = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cuda = self
        monkeypatch.setattr(Requests, "cuda", cuda, raising=False)

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

        def record(event: Any) -> None:
            event.at = cuda.now_ns

        def statistics(device: torch.device) -> dict[str, int]:
            cuda.log.append("count")
            return {"num_alloc_retries": cuda.log.count("iteration"), "reserved_bytes.all.current": cuda.emptied}

        def empty_cache() -> None:
            cuda.emptied += 1

        for name, value in {
            "Event": Event,
            "get_device_properties": lambda device: SimpleNamespace(L2_cache_size=64),
            "empty_cache": empty_cache,
            "memory_stats": statistics,
            "reset_peak_memory_stats": lambda device: None,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        for name, value in {
            "CLOCK": lambda: cuda.now_ns,
            "SYNCHRONIZE": lambda: None,
            "RECORD": record,
            "AWAIT": lambda event: None,
            "ELAPSED_MS": lambda start, end: (end.at - start.at) / 1e6,
        }.items():
            monkeypatch.setattr(measuring, name, value)
        empty = torch.empty

        def on_the_host(*size: int, dtype: torch.dtype, device: object) -> torch.Tensor:
            assert device == CUDA
            return empty(*size, dtype=dtype)

        monkeypatch.setattr(measuring, "torch", SimpleNamespace(**{**vars(torch), "empty": on_the_host}))


class Requests(Problem):
    """Fresh inputs take a second on the harness's clock."""

    tolerance = Tolerance(bound=1e-4, reason="fp32 sums")

    cuda: ClassVar[FakeCuda]

    def __init__(self, said: int | None = None) -> None:
        self.requests = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))
        self.said = said

    def reference(self) -> Iterator[torch.Tensor]:
        self.cuda.log.append("reference")
        yield self.requests.double() @ self.requests.double()

    def fresh(self, random: torch.Generator) -> None:
        self.cuda.log.append("fresh")
        self.cuda.now_ns += 1000 * MS
        super().fresh(random)

    def work(self) -> Work:
        return Work(WIDTH, "requests", 2 * WIDTH**3, self.requests.nbytes, self.requests.nbytes)

    def agree(self, number: int) -> int:
        """The first rank's number, where a test says one; seeds are larger, and a comparison asks with 0."""
        if not 0 < number < 1 << 30:
            return number
        self.cuda.log.append(f"agree on {number}")
        return number if self.said is None else self.said

    def around(self, gate: AbstractContextManager[object]) -> AbstractContextManager[object]:
        @contextmanager
        def logged() -> Iterator[None]:
            with gate:
                yield
            self.cuda.log.append("gate closed")

        return logged()


class Squares(Variant):
    """An iteration takes 10 ms, and when all comparisons have been made 8; a reset 1 ms, and then 3."""

    def __init__(self, problem: Requests) -> None:
        self.problem, self.cuda = problem, Requests.cuda
        self.scores = torch.empty_like(problem.requests)

    @property
    def late(self) -> bool:
        return self.cuda.log.count("reference") == REFERENCES

    def reset(self) -> None:
        self.cuda.log.append("reset")
        self.cuda.now_ns += (3 if self.late else 1) * MS

    def iteration(self) -> None:
        self.cuda.now_ns += (8 if self.late else 10) * MS
        self.cuda.log.append("iteration")
        torch.mm(self.problem.requests, self.problem.requests, out=self.scores)

    def outputs(self) -> Sequence[torch.Tensor]:
        return [self.scores]

    def close(self) -> None:
        self.cuda.log.append("close")


ITERATIONS, WARMUP = 5, 1
REFERENCES = 4
"""Three iterations are compared, and the last once more."""

PASS = 46
"""Half a second of iterations of 10 ms and resets of 1 ms."""


@pytest.fixture(name="cuda")
def _cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    monkeypatch.delenv(RECORDER_VARIABLE, raising=False)
    monkeypatch.setattr(proof, "_choose", lambda chance, iterations, reuse: ([1, 2, iterations - 1], [2]))
    made = FakeCuda()
    made.install(monkeypatch)
    return made


def result_of(
    *,
    device: torch.device = CUDA,
    traced: bool = False,
    said: int | None = None,
    variant: type[Squares] = Squares,
) -> VariantResult:
    entry = Entry("squares", "x", (("baseline", "x"), ("optimized", "x")), "any machine", "nothing")
    problem = Requests(said)
    program = Program(entry, lambda *_: problem, {"baseline": variant, "optimized": variant}, flush_l2=True)
    return measure(program, problem, "optimized", device, ITERATIONS, WARMUP, traced)


def after_the_last_reference(log: list[str]) -> list[str]:
    return log[len(log) - log[::-1].index("reference") :]


def test_the_pass_runs_after_everything_that_is_compared_and_inside_the_gate(cuda: FakeCuda) -> None:
    """
    ... fresh | reset iteration examine once more compare | settle | (reset iteration) * 46 | gate closed | close
    """
    found = result_of()
    assert after_the_last_reference(cuda.log) == [
        f"agree on {PASS}",
        *["reset", "iteration"] * (SETTLING + PASS),
        "gate closed",
        "close",
    ]
    assert found.proof is not None
    assert found.repeated == PASS == repetitions(found.iterations_ns, found.proof.reset_ns), "what a run is held to"
    assert cuda.log.count("fresh") == ITERATIONS + WARMUP, "one draw of inputs for all of them"


def test_its_span_holds_the_pass_alone(cuda: FakeCuda) -> None:
    found = result_of()
    start, end = found.repeated_ns
    assert end - start == PASS * (8 + 3) * MS
    assert start >= found.timed_ns[1] and end == cuda.now_ns


def test_nothing_else_is_other_for_it(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times, resets, counters and proof are those of a harness without the pass."""
    found = result_of()
    plain = FakeCuda()
    plain.install(monkeypatch)
    monkeypatch.setattr(measuring, "_repeated", lambda *_: ((), 0))
    without = result_of()
    assert plain.log.count("iteration") == cuda.log.count("iteration") - SETTLING - PASS
    assert found.proof is not None and without.proof is not None
    assert found.iterations_ns == without.iterations_ns == [10 * MS] * ITERATIONS
    assert found.timed_ns == without.timed_ns
    assert found.allocator == without.allocator
    assert found.proof.reset_ns == without.proof.reset_ns == MS
    assert found.proof.compared == without.proof.compared
    assert found.proof.objections == without.proof.objections == ()
    assert found.allocator.retries == ITERATIONS, "which the fake driver counts as iterations"
    assert found.output.ok and without.output.ok


def test_the_first_rank_says_how_many(cuda: FakeCuda) -> None:
    found = result_of(said=7)
    assert found.repeated == 7
    assert after_the_last_reference(cuda.log).count("iteration") == SETTLING + 7
    assert [line for line in cuda.log if "agree" in line] == [f"agree on {PASS}"]


class Rank:
    """One of two ranks: it meets the other one in every iteration, as a collective does, and where they agree on a number."""

    reset_ns = 0

    def __init__(self, number: int, meeting: threading.Barrier, said: list[int]) -> None:
        self.number, self.meeting, self.said, self.count = number, meeting, said, 0

    def agree(self, number: int) -> int:
        if self.number == 0:
            self.said.append(number)
        self.meeting.wait()
        return self.said[0]

    def settle(self) -> None:
        for _ in range(SETTLING):
            self.once()

    def once(self) -> None:
        self.meeting.wait()
        self.count += 1


def test_ranks_that_time_differently_meet_in_every_iteration() -> None:
    """Alone, the first would run 10 iterations and the second 25: it would wait for the other one 15 times."""
    meeting, said = threading.Barrier(2, timeout=PATIENCE_S), list[int]()
    ranks: list[Any] = [Rank(number, meeting, said) for number in range(2)]
    times = ([50 * MS] * 3, [20 * MS] * 3)
    with ThreadPoolExecutor(2) as both:
        found = list(both.map(measuring._repeated, ranks, ranks, times))
    assert [count for _, count in found] == said * 2 == [10, 10]
    assert [rank.count for rank in ranks] == [SETTLING + 10] * 2


@pytest.mark.parametrize(("device", "traced"), [(torch.device("cpu"), False), (CUDA, True)])
def test_there_is_none_without_a_gpu_or_in_a_recording(cuda: FakeCuda, device: torch.device, traced: bool) -> None:
    found = result_of(device=device, traced=traced)
    assert (found.repeated_ns, found.repeated) == ((), 0)
    assert "iteration" not in after_the_last_reference(cuda.log)
    assert found.proof is not None and found.proof.objections == ()


class ChangesInputs(Squares):
    """Makes the inputs easy once nothing is compared any more: the next variant would be given them."""

    def iteration(self) -> None:
        super().iteration()
        if self.late:
            self.problem.requests.zero_()


class Hooks(Squares):
    """Leaves a hook behind in the pass."""

    def iteration(self) -> None:
        super().iteration()
        if self.late:
            torch.nn.modules.module.register_module_forward_hook(lambda *_: None)


class LeavesAThread(Squares):
    """Starts a thread in the last iteration of the pass, and does not stop it."""

    thread: ClassVar[threading.Thread]

    def iteration(self) -> None:
        super().iteration()
        if self.late and after_the_last_reference(self.cuda.log).count("iteration") == SETTLING + PASS:
            self.thread.start()


@pytest.mark.skipif(sys.platform != "linux", reason="what goes on computing is found by what Linux lists")
def test_a_thread_that_the_pass_leaves_at_work_is_found(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            pass

    monkeypatch.setattr(LeavesAThread, "thread", threading.Thread(target=spin), raising=False)
    try:
        found = result_of(variant=LeavesAThread)
    finally:
        over.set()
    LeavesAThread.thread.join(PATIENCE_S)
    assert found.proof is not None
    assert found.proof.objections == ("optimized left a thread computing after close()",)


@pytest.mark.parametrize(
    ("variant", "words"),
    [(ChangesInputs, "changed the problem's inputs in its iterations"), (Hooks, "_global_forward_hooks")],
)
def test_what_the_pass_leaves_behind_is_found(
    cuda: FakeCuda, variant: type[Squares], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = torch.nn.modules.module._global_forward_hooks
    before = dict(hooks)
    try:
        found = result_of(variant=variant)
    finally:
        hooks.clear()
        hooks.update(before)
    assert found.proof is not None
    assert any(words in sentence for sentence in found.proof.objections), found.proof.objections


def test_answers_of_older_harnesses_have_no_pass(cuda: FakeCuda) -> None:
    result = ProcessResult("aisp-trace/result/1", "squares", "cuda", "tiny", 0, [result_of()])
    document = to_json(result)
    assert from_json(ProcessResult, _as_lists(document), "again").variants[0].repeated == PASS
    for key in ("repeated_ns", "repeated"):
        del document["variants"][0][key]
    (old,) = from_json(ProcessResult, _as_lists(document), "old").variants
    assert (old.repeated_ns, old.repeated) == ((), 0)


def _as_lists(value: Any) -> Any:
    """As a JSON file has it."""
    if isinstance(value, dict):
        return {key: _as_lists(one) for key, one in value.items()}
    return [_as_lists(one) for one in value] if isinstance(value, (list, tuple)) else value
