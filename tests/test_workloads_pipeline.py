"""pipeline_sequential: right variants agree, and each kind of wrong variant is caught."""

from __future__ import annotations

import dataclasses
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

pytest.importorskip("torch")

import torch

from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.run import VariantResult, Work
from aisp_trace.workloads import pipeline_sequential as pipeline
from aisp_trace.workloads.interface import Program, Variant
from aisp_trace.workloads.measure import SETTLING, measure
from aisp_trace.workloads.pipeline_sequential import SHAPES, Baseline, Graph, Pipeline, Threads

CPU = torch.device("cpu")
TINY = SHAPES["cpu", "tiny"]


def result_of(variant: Callable[[Pipeline], Variant], iterations: int = 2) -> VariantResult:
    """`variant` in the place of the optimized one."""
    program = dataclasses.replace(pipeline.PROGRAM, variants={**pipeline.VARIANTS, "optimized": variant})
    return measure(program, Pipeline(CPU, "tiny", 0), "optimized", CPU, iterations, warmup=1, traced=False)


# -- right variants ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [Baseline, Threads])
def test_a_right_variant_is_verified(variant: Callable[[Pipeline], Variant]) -> None:
    result = result_of(variant, iterations=3)
    assert result.output.ok
    assert result.output.poisoned == 0
    assert result.output.error is not None
    assert 0 < result.output.error < result.output.tolerance / 10, "the tolerance leaves room for rounding alone"
    assert len(result.iterations_ns) == 3
    assert min(result.iterations_ns) > 0
    assert result.timer == "perf_counter"


def test_required_work_is_equal_and_counted_by_hand() -> None:
    problem = Pipeline(CPU, "tiny", 0)
    assert problem.work() == Work(
        items=6 * 64,
        unit="samples",
        flops=6 * 64 * (2 * 256 * 16 + 2 * 16 * 256),
        input_bytes=6 * 64 * 256 * 4,
        output_bytes=6 * 64 * 256 * 4,
        moved_bytes={"h2d": 6 * 64 * 256 * 4, "d2h": 6 * 64 * 256 * 4},
    )


def test_inputs_follow_the_seed() -> None:
    first, again, other = Pipeline(CPU, "tiny", 1), Pipeline(CPU, "tiny", 1), Pipeline(CPU, "tiny", 2)
    assert all(torch.equal(a, b) for a, b in zip(first.batches, again.batches, strict=True))
    assert not torch.equal(first.batches[0], other.batches[0])
    assert len({float(batch.sum()) for batch in first.batches}) == TINY.count, "microbatches differ from each other"


@pytest.mark.parametrize(("device", "size"), sorted(SHAPES))
def test_every_size_fits_both_buffers_and_the_tolerance_s_reason(device: str, size: str) -> None:
    shape = SHAPES[device, size]
    assert shape.count > 2 * pipeline.DEPTH, "the pipeline fills, runs and drains"
    assert max(shape.width, shape.hidden) <= 1024, "the tolerance is argued for dot products of at most 1024 terms"


# -- stages ------------------------------------------------------------------------------------------------------


class Stages:
    """Stands for a recorder: what was opened, by which thread, and that nothing kinded is nested in anything."""

    def __init__(self) -> None:
        self.opened: dict[str, list[tuple[str | None, int | None, int]]] = defaultdict(list)
        self._open = threading.local()

    @contextmanager
    def stage(self, name: str, kind: str | None = None, nbytes: int | None = None) -> Iterator[None]:
        assert not getattr(self._open, "name", None), f"{name} is opened inside {self._open.name}"
        self._open.name = name
        self.opened[name].append((kind, nbytes, threading.get_ident()))
        yield
        self._open.name = None

    def moved(self) -> dict[str, int]:
        """Bytes per direction, as a trace would show them."""
        total: dict[str, int] = defaultdict(int)
        for rows in self.opened.values():
            for kind, nbytes, _ in rows:
                if kind in ("h2d", "d2h"):
                    total[kind] += nbytes or 0
        return dict(total)


def staged(monkeypatch: pytest.MonkeyPatch, variant: Variant) -> Stages:
    """The stages of one iteration of `variant`."""
    variant.prepare()
    return staged_iteration(monkeypatch, variant)


def staged_iteration(monkeypatch: pytest.MonkeyPatch, variant: Variant) -> Stages:
    stages = Stages()
    monkeypatch.setattr(pipeline, "stage", stages.stage)
    try:
        variant.iteration()
    finally:
        variant.close()
    return stages


@pytest.mark.parametrize("variant", [Baseline, Threads])
def test_each_microbatch_has_its_three_stages(
    monkeypatch: pytest.MonkeyPatch, variant: Callable[[Pipeline], Variant]
) -> None:
    stages = staged(monkeypatch, variant(Pipeline(CPU, "tiny", 0)))
    for name in ("h2d", "compute", "d2h"):
        assert [kind for kind, _, _ in stages.opened[name]] == [name] * TINY.count
    assert {kind for kind, _, _ in stages.opened["handoff"]} <= {"host"}
    assert set(stages.opened) <= {"h2d", "compute", "d2h", "handoff"}


def test_threads_work_where_their_stages_say(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = staged(monkeypatch, Threads(Pipeline(CPU, "tiny", 0)))
    threads = {name: {thread for _, _, thread in stages.opened[name]} for name in ("h2d", "compute", "d2h")}
    assert all(len(ids) == 1 for ids in threads.values())
    assert len(set.union(*threads.values())) == 3
    assert threads["compute"] == {threading.get_ident()}


@pytest.mark.parametrize("variant", [Baseline, Threads])
def test_predicted_bytes_are_those_the_stages_carry(
    monkeypatch: pytest.MonkeyPatch, variant: Callable[[Pipeline], Variant]
) -> None:
    problem = Pipeline(CPU, "tiny", 0)
    assert staged(monkeypatch, variant(problem)).moved() == problem.work().moved_bytes


def test_threads_overlap_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    """All three stages are open at one time at least once; each waits for the others inside its stage to show it.

    h2d   |--2--|
    compute |--1--|
    d2h       |--0--|
    """
    problem = Pipeline(CPU, "tiny", 0)
    met = threading.Barrier(3)
    entered: dict[str, int] = defaultdict(int)
    turn = {"h2d": 3, "compute": 2, "d2h": 1}  # the third load, second compute and first store belong together

    @contextmanager
    def stage(name: str, kind: str | None = None, nbytes: int | None = None) -> Iterator[None]:
        entered[name] += 1
        if entered[name] == turn.get(name):
            met.wait(timeout=PATIENCE_S)  # raises if one of the three cannot come while the others are inside
        yield

    variant = Threads(problem)
    variant.prepare()
    monkeypatch.setattr(pipeline, "stage", stage)
    try:
        variant.iteration()
    finally:
        variant.close()
    assert not met.broken


# -- deliberately wrong variants ---------------------------------------------------------------------------------


class Altered(Baseline):
    """The baseline with its results changed."""

    def alter(self, results: list[torch.Tensor]) -> list[torch.Tensor]:
        raise NotImplementedError

    def iteration(self) -> None:
        super().iteration()
        self._results = self.alter(self._results)


class WrongWeights(Altered):
    def alter(self, results: list[torch.Tensor]) -> list[torch.Tensor]:
        return [r * 1.0001 for r in results]


class LowPrecision(Altered):
    """bf16 where fp32 was asked for: fast, and silent."""

    def alter(self, results: list[torch.Tensor]) -> list[torch.Tensor]:
        return [r.bfloat16().float() for r in results]


class PreviousMicrobatch(Altered):
    """The race of a buffer read one turn too early, in one microbatch only."""

    def alter(self, results: list[torch.Tensor]) -> list[torch.Tensor]:
        return [*results[:3], results[2], *results[4:]]


class OneWrongElement(Altered):
    def alter(self, results: list[torch.Tensor]) -> list[torch.Tensor]:
        results[-1][-1, -1] += 1.0
        return results


class HalfTheWork(Altered):
    def alter(self, results: list[torch.Tensor]) -> list[torch.Tensor]:
        return results[: len(results) // 2]


@pytest.mark.parametrize("variant", [WrongWeights, LowPrecision, PreviousMicrobatch, OneWrongElement, HalfTheWork])
def test_a_wrong_output_is_caught(variant: type[Altered]) -> None:
    assert not result_of(variant).output.ok


class SkipsTheLast(Threads):
    """Leaves the last microbatch's output as it was; without the poison the previous iteration's would still be there.

    The first iteration does all the work, as a cache of results would.
    """

    first = True

    def prepare(self) -> None:
        super().prepare()
        self._all = self.problem.batches, self._inputs, self._results

    def iteration(self) -> None:
        batches, inputs, results = self._all
        if not self.first:
            self.problem.batches, self._inputs, self._results = batches[:-1], inputs[:-1], results[:-1]
        super().iteration()
        self.problem.batches, self._inputs, self._results = self._all
        self.first = False


def test_an_output_that_was_not_written_is_caught_by_the_poison() -> None:
    output = result_of(SkipsTheLast).output
    assert output.poisoned == TINY.rows * TINY.width
    assert (output.error, output.ok) == (None, False)


class ReadsTooEarly(Threads):
    """A race: every store takes what the buffer holds before the microbatch has been computed.

    In one iteration only the first two stores read what the iteration before left behind.
    """

    def iteration(self) -> None:
        stale = [y.clone() for y in self._y]
        super().iteration()
        for slot in range(pipeline.DEPTH):
            self._results[slot].copy_(stale[slot])


def test_a_stale_buffer_is_caught() -> None:
    output = result_of(ReadsTooEarly).output
    assert output.poisoned == pipeline.DEPTH * TINY.rows * TINY.width, "the scratch buffers are poisoned too"
    assert not output.ok


class FewerItems(Baseline):
    """Claims, and does, half of the required work."""

    def work(self) -> Work:
        work = self.problem.work()
        return dataclasses.replace(work, items=work.items // 2, flops=work.flops // 2)


def test_less_required_work_shows_in_the_result() -> None:
    result = result_of(FewerItems)
    assert result.work == result_of(Baseline).work, "the problem's"
    assert result.proof is not None
    assert "states other required work than its problem: items is 192, not 384" in result.proof.objections[0]


class Mispredicts(Threads):
    """Predicts that half of the inputs stay where they are."""

    def moves(self) -> Mapping[str, int | None]:
        return {"h2d": (self.problem.work().moved_bytes["h2d"] or 0) // 2}


def test_mispredicted_bytes_contradict_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Mispredicts(Pipeline(CPU, "tiny", 0))
    predicted, moved = made.moves(), staged(monkeypatch, made).moved()
    assert predicted["h2d"] != moved["h2d"]


# -- the graph, against a stand-in for CUDA that keeps its rules -------------------------------------------------


class FakeEvent:
    """Knows in which capture it was recorded last: null never, 0 outside any."""

    def __init__(self) -> None:
        self.recorded: int | None = None

    def record(self, stream: FakeStream) -> None:
        self.recorded = stream.cuda.capture if stream.joined else 0


class FakeStream:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.joined = cuda, True

    def wait_event(self, event: FakeEvent) -> None:
        if event.recorded is not None:
            assert event.recorded == self.cuda.capture, "an event of another capture, or of none, is waited for"

    def wait_stream(self, other: FakeStream) -> None:
        self.cuda.waits.append((self, other))

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        return None


class FakeCuda:
    """CUDA's rules for capturing several streams into one graph; work itself runs at once, on the CPU."""

    def __init__(self) -> None:
        self.capture = self.captures = self.replays = 0
        self.waits: list[tuple[FakeStream, FakeStream]] = []
        self.main = FakeStream(self)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cuda = self

        class Graph:
            def replay(self) -> None:
                cuda.replays += 1

        @contextmanager
        def graph(graph: Graph) -> Iterator[None]:
            cuda.captures += 1
            cuda.capture = cuda.captures
            cuda.waits.clear()
            yield
            cuda.capture = 0

        for name, value in {
            "Stream": lambda device: FakeStream(cuda),
            "Event": FakeEvent,
            "current_stream": lambda device: cuda.main,
            "stream": lambda stream: stream,
            "synchronize": lambda device=None: None,
            "CUDAGraph": Graph,
            "graph": graph,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)


def test_the_graph_captures_the_whole_iteration_and_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    cuda.install(monkeypatch)
    problem = Pipeline(CPU, "tiny", 0)
    variant = Graph(problem)
    variant.prepare()
    variant.graphs()
    variant.graphs()  # as a recording begins: no event of the first capture may be waited for
    streams = (variant._h2d, variant._compute, variant._d2h)
    forks, joins = [(s, cuda.main) for s in streams], [(cuda.main, s) for s in streams]
    assert cuda.waits == [*forks, *joins], "every stream is forked from the capturing one and joined to it"
    assert (cuda.captures, cuda.replays) == (2, 0)
    stages = staged_iteration(monkeypatch, variant)
    assert cuda.replays == 1
    assert dict(stages.opened) == {"replay": [(None, None, threading.get_ident())]}
    for result, expected in zip(variant.outputs(), problem.reference(), strict=True):
        torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-4)
    variant.close()


class OldEvents(Graph):
    """Captures with the events of the eager iteration before, which CUDA refuses."""

    def _make_events(self) -> None:
        if not hasattr(self, "_stored"):
            super()._make_events()


def test_the_stand_in_knows_the_rule_it_is_there_for(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda().install(monkeypatch)
    variant = OldEvents(Pipeline(CPU, "tiny", 0))
    variant.prepare()
    with pytest.raises(AssertionError, match="of another capture"):
        variant.graphs()


def test_the_graph_is_left_out_without_a_gpu() -> None:
    assert pipeline.PROGRAM.entry.lacks("cuda_graph", 0) == "cuda"


# -- failures ----------------------------------------------------------------------------------------------------


class Failure(Exception):
    pass


@pytest.mark.parametrize("where", ["h2d", "compute", "d2h"])
def test_a_failing_thread_stops_the_others_and_its_error_is_the_one_shown(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    @contextmanager
    def stage(name: str, kind: str | None = None, nbytes: int | None = None) -> Iterator[None]:
        if name == where:
            raise Failure(name)
        yield

    before = threading.active_count()
    monkeypatch.setattr(pipeline, "stage", stage)
    with pytest.raises(Failure, match=where):
        result_of(Threads)
    assert threading.active_count() == before, "close() ends the threads"


class Closes(Baseline):
    closed = False

    def iteration(self) -> None:
        raise Failure

    def close(self) -> None:
        type(self).closed = True


def test_a_failed_variant_is_closed() -> None:
    with pytest.raises(Failure):
        result_of(Closes)
    assert Closes.closed


class CountsResets(Baseline):
    resets = iterations = 0

    def reset(self) -> None:
        assert self.resets == self.iterations
        self.resets += 1

    def iteration(self) -> None:
        super().iteration()
        self.iterations += 1

    def moves(self) -> Mapping[str, int | None]:
        assert (
            self.resets == self.iterations == 1 + 2 + SETTLING + 1
        )  # warm-up, timed, after the first compared, verified
        return super().moves()


def test_every_iteration_starts_from_a_reset_state() -> None:
    assert result_of(CountsResets).output.ok


def test_a_program_must_implement_exactly_its_entrys_variants() -> None:
    names: Sequence[dict[str, Callable[[Pipeline], Variant]]] = (
        {"baseline": Baseline},
        {"optimized": Threads, "baseline": Baseline},
    )
    for variants in names:
        with pytest.raises(ValueError, match="its entry lists baseline, optimized, cuda_graph"):
            Program(entry=pipeline.PROGRAM.entry, setup=Pipeline, variants=variants)
