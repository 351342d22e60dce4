"""ddp_overlap: both ranks agree with a float64 reference, wrong exchanges are caught, and no rank outlives the others.

Most tests run both ranks as threads of this process, each with a gloo group of its own.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
import torch.distributed as dist

from aisp_trace.capture.leftovers import marked
from aisp_trace.capture.processes import run_process
from aisp_trace.expectations.judging.evidence import Answer, Evidence, VariantEvidence
from aisp_trace.expectations.judging.validity import objections
from aisp_trace.tests.examples import nightly
from aisp_trace.tests.patience import PATIENCE_S, wait_until
from aisp_trace.traces.errors import UsageError
from aisp_trace.traces.run import VariantResult, Work
from aisp_trace.workloads import ddp_overlap as ddp
from aisp_trace.workloads import proof, ranks
from aisp_trace.workloads.ddp_overlap import SHAPES, VARIANTS, WORLD, Baseline, Bucketed, DataParallel, Overlapped
from aisp_trace.workloads.interface import Variant
from aisp_trace.workloads.measure import measure
from aisp_trace.workloads.running import Running

CPU = torch.device("cpu")
TINY = SHAPES["cpu", "tiny"]


class Thread(ranks.Ranks):
    """A rank that is a thread."""

    def __init__(self, rank: int, store: dist.Store) -> None:
        super().__init__(rank, WORLD, None)
        try:
            self._group = dist.ProcessGroupGloo(store, rank, WORLD, timedelta(seconds=20))
        except RuntimeError as exc:
            raise ConnectionError(str(exc)) from exc

    def all_reduce(self, tensor: torch.Tensor, op: Any = dist.ReduceOp.SUM) -> ranks.Pending:
        options = dist.AllreduceOptions()
        options.reduceOp = op
        work: ranks.Pending = self._group.allreduce([tensor], options)
        return work

    def barrier(self) -> None:
        self._group.barrier().wait()

    def agree(self, number: int) -> int:
        said = torch.tensor([number])
        self._group.broadcast(said, 0).wait()
        return int(said)


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """gloo asks for the address of this host's name, which need not have one."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")


def on_both(body: Callable[[DataParallel], Any]) -> list[Any]:
    """What `body` returns on each rank. On a busy machine gloo's connections are lost now and then before all stand."""
    for _ in range(2):
        with suppress(ConnectionError):
            return _on_both(body)
    return _on_both(body)


def _on_both(body: Callable[[DataParallel], Any]) -> list[Any]:
    store = dist.HashStore()

    def run(rank: int) -> Any:
        return body(DataParallel(CPU, "tiny", 0, lambda device, world: Thread(rank, store)))

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(WORLD) as pool:
        # The other rank is another process in truth; here it is a thread that computes when it likes.
        patch.setattr(proof, "at_work", lambda then, before, native: "")
        patch.setattr(proof, "running", lambda before: Running({}, {}))
        return [task.result(60) for task in [pool.submit(run, rank) for rank in range(WORLD)]]


def result_of(name: str, variant: Callable[[DataParallel], Variant] | None = None) -> VariantResult:
    """What rank 0 answers of variant `name`, or of `variant` in its place."""
    program = dataclasses.replace(ddp.PROGRAM, variants={**VARIANTS, name: variant or VARIANTS[name]})
    results: list[VariantResult] = on_both(
        lambda problem: measure(program, problem, name, CPU, iterations=2, warmup=1, traced=False)
    )
    return results[0]


# -- right variants ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_a_right_variant_is_verified(name: str) -> None:
    result = result_of(name)
    assert result.output.ok, result.output
    assert result.output.error is not None
    assert 0 < result.output.error < result.output.tolerance / 10, "the tolerance leaves room for rounding alone"
    assert min(result.iterations_ns) > 0


def test_required_work_is_equal_and_counted_by_hand() -> None:
    layer = 2 * (2 * 32) * 64 * 64
    for found in on_both(lambda problem: problem.work()):
        assert found == Work(
            items=2 * 32,
            unit="samples",
            flops=layer * 6 * 2 + layer * 5,  # forward and weights' gradients of all layers, inputs' of all but one
            input_bytes=2 * (2 * 32 * 64 * 4),
            output_bytes=6 * (64 * 64 + 64) * 4,
            moved_bytes={"h2d": 0, "d2h": 0, "p2p": 0},
        )


def test_the_buckets_hold_every_parameter_once_and_are_shared_by_both_rungs() -> None:
    def sizes(problem: DataParallel) -> list[list[int]]:
        made = []
        for kind in (Bucketed, Overlapped):
            variant = kind(problem)
            variant.prepare()
            assert [p for m in variant._members for p in m][::-1] == problem.parameters
            made.append([b.nbytes for b in variant._buckets])
            variant.close()
        return made

    bucketed, overlapped = on_both(sizes)[0]
    assert bucketed == overlapped
    assert len(bucketed) > 2
    assert max(bucketed) <= TINY.bucket_bytes


@pytest.mark.parametrize(("device", "size"), sorted(SHAPES))
def test_every_size_has_buckets_to_overlap_and_parameters_to_join(device: str, size: str) -> None:
    shape = SHAPES[device, size]
    layer = shape.width * (shape.width + 1) * 4
    assert shape.layers * layer > 3 * shape.bucket_bytes, "the last bucket alone cannot be hidden"
    assert layer <= shape.bucket_bytes, "a bucket joins at least a weight and a bias"


def test_no_rank_goes_on_while_the_recording_opens_or_closes() -> None:
    order: list[str] = []

    @contextmanager
    def gate(rank: int) -> Iterator[None]:
        order.append(f"{rank} opens")
        time.sleep(0.05 * (rank == 0))  # what the other rank would do meanwhile would come between
        order.append(f"{rank} open")
        yield
        order.append(f"{rank} closes")
        time.sleep(0.05 * (rank == 0))
        order.append(f"{rank} closed")

    def body(problem: DataParallel) -> None:
        rank = problem.ranks.rank
        with problem.around(gate(rank)):
            order.append(f"{rank} works")
        order.append(f"{rank} goes on")

    on_both(body)
    assert order[:2] == ["0 opens", "0 open"]
    closing = order.index("0 closes")
    assert order[closing : closing + 2] == ["0 closes", "0 closed"]
    assert sorted(order[closing + 2 :]) == ["0 goes on", "1 goes on"]
    assert order.index("1 closed") < closing


# -- stages --------------------------------------------------------------------------------------------------------


class Stages:
    """Stands for a recorder of one rank: what was opened, by which thread."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str | None, int | None, int]] = []

    @contextmanager
    def stage(self, name: str, kind: str | None = None, nbytes: int | None = None) -> Iterator[None]:
        self.rows.append((name, kind, nbytes, threading.get_ident()))
        yield

    def names(self, thread: int) -> list[str]:
        return [name for name, _, _, tid in self.rows if tid == thread]


def staged(monkeypatch: pytest.MonkeyPatch, make: Callable[[DataParallel], Variant]) -> tuple[Stages, int]:
    """The stages of one iteration of rank 0, and the thread that ran it."""
    stages = Stages()
    of_rank_0 = threading.local()

    def stage(name: str, kind: str | None = None, nbytes: int | None = None) -> Any:
        # The second rank's threads are another process's in truth.
        mine = getattr(of_rank_0, "yes", None) or threading.current_thread().name.startswith("comm-of-0")
        return stages.stage(name, kind, nbytes) if mine else nullcontext()

    def body(problem: DataParallel) -> int:
        of_rank_0.yes = problem.ranks.rank == 0
        variant = make(problem)
        if isinstance(variant, Overlapped):
            variant._communicator = ThreadPoolExecutor(1, thread_name_prefix=f"comm-of-{problem.ranks.rank}")
        variant.prepare()
        variant.reset()
        variant.iteration()
        variant.close()
        return threading.get_ident()

    monkeypatch.setattr(ddp, "stage", stage)
    return stages, on_both(body)[0]


BEFORE = ["zero_grad", "forward", "loss", "backward"]


@pytest.mark.parametrize(("name", "reduced"), [("baseline", 12), ("bucketed", 6)])
def test_stages_follow_each_other(name: str, reduced: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stages, main = staged(monkeypatch, VARIANTS[name])
    assert stages.names(main) == [*BEFORE, *["all_reduce", "average"] * reduced, "optimizer"]
    assert {kind for name, kind, _, _ in stages.rows if name == "all_reduce"} == {"comm"}


def test_the_overlapped_communication_is_another_thread_s(monkeypatch: pytest.MonkeyPatch) -> None:
    stages, main = staged(monkeypatch, VARIANTS["optimized"])
    assert stages.names(main) == [*BEFORE, *["wait", "average"] * 6, "optimizer"]
    (other,) = {tid for *_, tid in stages.rows} - {main}
    assert stages.names(other) == ["all_reduce"] * 6


@pytest.mark.parametrize("name", VARIANTS)
def test_every_gradient_is_communicated_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stages, _ = staged(monkeypatch, VARIANTS[name])
    communicated = sum(nbytes or 0 for name, _, nbytes, _ in stages.rows if name == "all_reduce")
    assert communicated == 6 * 64 * 65 * 4
    assert not [kind for _, kind, _, _ in stages.rows if kind in ("h2d", "d2h", "p2p")], "as predicted"


def test_communication_begins_before_backward_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backward is held at its last parameter until a bucket has been reduced; after backward it would be too late."""
    reduced: defaultdict[int, threading.Event] = defaultdict(threading.Event)

    class Held(Overlapped):
        def _reduce(self, gradient: torch.Tensor) -> None:
            super()._reduce(gradient)
            reduced[self.ranks.rank].set()

        def _counting(self, number: int) -> Callable[[torch.Tensor], None]:
            count = super()._counting(number)

            def filled(parameter: torch.Tensor) -> None:
                if parameter is self.problem.parameters[0]:
                    assert reduced[self.ranks.rank].wait(PATIENCE_S)
                count(parameter)

            return filled

    assert result_of("optimized", Held).output.ok


# -- deliberately wrong variants -----------------------------------------------------------------------------------


class ForgetsAParameter(Baseline):
    def _exchange(self) -> None:
        for gradient in self._gradients()[1:]:
            self._reduce(gradient)
            self._average(gradient)


class SumsButDoesNotAverage(Bucketed):
    def _average(self, gradient: torch.Tensor) -> None:
        pass


class DoesNotCommunicate(Bucketed):
    def _reduce(self, gradient: torch.Tensor) -> None:
        gradient.mul_(self.ranks.world)


class OnlyRank0IsRight(Bucketed):
    """Rank 0's gradients and weights are those of the reference; the other rank's weights drift away."""

    def iteration(self) -> None:
        super().iteration()
        if self.ranks.rank == 1:
            with torch.no_grad():
                self.problem.parameters[-1][0] += 1e-3


class KeepsOldGradients(Bucketed):
    """Buckets are not zeroed, so that every step adds to the one before."""

    def _zero(self) -> None:
        pass


class StepsBeforeTheLastBucket(Overlapped):
    """A race: the optimizer takes a bucket that has not been averaged."""

    def _exchange(self) -> None:
        for number, bucket in enumerate(self._buckets):
            self._pending[number].wait()
            if number + 1 < len(self._buckets):
                self._average(bucket)


class TrainsOnTheWrongHalf(Baseline):
    def prepare(self) -> None:
        self.problem.x, self.problem.y = self.problem.batch[: TINY.rows], self.problem.target[: TINY.rows]


class NoStep(Baseline):
    def iteration(self) -> None:
        super().iteration()
        with torch.no_grad():
            torch._foreach_copy_(self.problem.parameters, self.problem.start)


class LowPrecision(Bucketed):
    """Gradients cross in bf16: half of the bytes, and silent."""

    def _reduce(self, gradient: torch.Tensor) -> None:
        gradient.copy_(gradient.bfloat16())
        super()._reduce(gradient)


@pytest.mark.parametrize(
    "wrong",
    [
        DoesNotCommunicate,
        LowPrecision,
        *nightly(
            ForgetsAParameter,
            SumsButDoesNotAverage,
            OnlyRank0IsRight,
            KeepsOldGradients,
            StepsBeforeTheLastBucket,
            TrainsOnTheWrongHalf,
            NoStep,
        ),
    ],
)
def test_a_wrong_output_is_caught(wrong: type[Baseline]) -> None:
    assert not result_of("optimized", wrong).output.ok


class HalfTheSamples(Overlapped):
    def work(self) -> Work:
        work = self.problem.work()
        return dataclasses.replace(work, items=work.items // 2, flops=work.flops // 2)


def test_check_refuses_less_work_and_wrong_outputs() -> None:
    def judged(variant: Callable[[DataParallel], Variant] | None) -> tuple[str, ...]:
        made = [result_of("baseline"), result_of("optimized", variant)]
        inputs = ("ddp_overlap", "cpu", "tiny", 0)
        variants = {
            v.name: VariantEvidence(v.name, (Answer("round 0", inputs, v.timer, v.work, v.output, v.proof),), None, ())
            for v in made
        }
        whole = Evidence("run", "ddp_overlap", "tiny", "cpu_x", True, variants, (), ())
        return objections(whole, ["baseline", "optimized"])

    assert judged(None) == ()
    (less,) = judged(HalfTheSamples)
    assert "states other required work than its problem: items" in less
    assert "the output of optimized in round 0 differs" in judged(OnlyRank0IsRight)[0]


class ThroughTheHost(Bucketed):
    """Takes gradients to the host to sum them there."""

    def _reduce(self, gradient: torch.Tensor) -> None:
        with vars(ddp)["stage"]("d2h", kind="d2h", nbytes=gradient.nbytes):
            gradient.clone()
        super()._reduce(gradient)


def test_a_copy_to_the_host_contradicts_the_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    stages, _ = staged(monkeypatch, ThroughTheHost)
    assert sum(nbytes or 0 for _, kind, nbytes, _ in stages.rows if kind == "d2h") == 6 * 64 * 65 * 4


# -- processes -----------------------------------------------------------------------------------------------------

ALONE = [sys.executable, "-P", "-m", ddp.PROGRAM.entry.module, "--size", "tiny", "--device", "cpu", "--iterations", "2"]


@pytest.mark.nightly
def test_alone_it_starts_the_other_rank_itself() -> None:
    command = [*ALONE, "--variant", "optimized", "--trace"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("median") == 1, "rank 0 alone answers"
    assert "Stages were not recorded" in done.stdout


def test_a_rank_that_dies_ends_the_run_and_is_named(tmp_path: Path) -> None:
    """The second rank is killed in its first iteration; rank 0 is inside a collective then."""
    program = tmp_path / "dies.py"
    program.write_text(
        "import dataclasses, os, signal\n"
        "from aisp_trace.workloads import ddp_overlap as ddp\n"
        "from aisp_trace.workloads.runner import main\n"
        "class Dies(ddp.Baseline):\n"
        "    def _reduce(self, gradient):\n"
        "        if self.ranks.rank == 1:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        super()._reduce(gradient)\n"
        "main(dataclasses.replace(ddp.PROGRAM, variants={**ddp.VARIANTS, 'baseline': Dies}))\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-P", str(program), *ALONE[4:], "--variant", "baseline"]
    done = run_process(command, stdout=tmp_path / "out", stderr=tmp_path / "err", timeout_s=PATIENCE_S)
    assert done.exit_code != 0
    assert not done.timed_out
    said = (tmp_path / "err").read_text(encoding="utf-8")
    assert "rank 1 ended with signal 9" in said


def test_no_thread_of_the_group_outlives_it() -> None:
    """One that waits for Python's lock when the interpreter ends aborts the process. Optimizers load what holds a group."""
    program = (
        "import os, torch, torch.distributed as dist\n"
        "from aisp_trace.workloads import ranks\n"
        "os.environ |= {'RANK': '0', 'WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '0'}\n"
        "threads = lambda: sorted(open(f'/proc/self/task/{t}/comm').read() for t in os.listdir('/proc/self/task'))\n"
        "ranks.join(torch.device('cpu'), 1)\n"
        "torch.optim.SGD([torch.ones(1, requires_grad=True)])\n"
        "dist.all_reduce(torch.ones(1))\n"
        "print(sum('gloo' in name for name in threads()) > 0)\n"
        "ranks._leave()\n"
        "print(sum('gloo' in name for name in threads()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.stdout.split() == ["True", "0"], done.stderr


def test_an_interrupt_leaves_no_rank_behind(tmp_path: Path) -> None:
    marker = f"test-ddp-{os.getpid()}"
    command = [*ALONE, "--variant", "optimized", "--iterations", "1000000"]
    environment = {**os.environ, "AISP_TRACE_PROCESS": marker}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        wait_until(lambda: len(marked(marker)) == WORLD, "both ranks")
        process.send_signal(signal.SIGKILL)  # the least polite way: nothing of ours runs any more
        process.wait(PATIENCE_S)
    wait_until(lambda: not marked(marker), "the end of both ranks")


def test_too_few_gpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="2 GPUs are needed, one for each rank, and this process can use 1"):
        ranks.join(torch.device("cuda", 0), 2)


def test_another_number_of_ranks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr(ranks, "dist", SimpleNamespace())
    with pytest.raises(UsageError, match="2 ranks are needed and 3 were started; use torchrun --nproc-per-node 2"):
        ranks.join(CPU, 2)
