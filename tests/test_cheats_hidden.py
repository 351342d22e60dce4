"""Variants that tamper with what is around the iteration: the problem, the process, the moment after the clock.

Outputs of all of them are right by the reference that the harness computes: each was accepted until something looked for it.
"""

from __future__ import annotations

import _thread
import gc
import importlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from aisp_trace.tests.examples import sampled
from aisp_trace.tests.test_cheats import CPU, ITERATIONS, Cached, GoesOn, Honest, Requests, objections_of, result_of
from aisp_trace.tests.test_cheats import as_it_was as as_it_was
from aisp_trace.traces.run import Proof
from aisp_trace.workloads import proof
from aisp_trace.workloads.held import Held
from aisp_trace.workloads.interface import Tolerance
from aisp_trace.workloads.running import CLOCK
from aisp_trace.workloads.surroundings import genuine

linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Linux alone tells of threads and processes")


def proof_of(variant: type[Honest], problem: Requests | None = None) -> Proof:
    found = result_of(variant, problem or Served())
    assert found.proof is not None
    return found.proof


# -- problems, all of them honest -------------------------------------------------------------------------------------


def scores_of(requests: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """A function of the problem's file."""
    return requests.double() @ weights.double()


class Served(Requests):
    """The weights stay, as a served model's do. Whose work has steps of which all are asked for."""

    def __init__(self, device: torch.device = CPU, size: str = "tiny", seed: int = 0) -> None:
        super().__init__(device, size, seed)
        self.steps = 4
        self.limits = [0.0] * 3
        self.mask = torch.ones(8, dtype=torch.bool)

    def inputs(self) -> Sequence[torch.Tensor]:
        return [self.requests]

    def reference(self) -> Iterator[torch.Tensor]:
        for _ in range(self.steps):
            yield scores_of(self.requests, self.weights)


class Steps(Honest):
    """Honest: an output for each step."""

    def outputs(self) -> Sequence[torch.Tensor]:
        return [self.scores] * self.problem.steps  # type: ignore[attr-defined]


class Places(Served):
    """Keeps the place for results itself, and remembers what it was asked."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.result = torch.zeros_like(self.requests)
        self.asked: list[int] = []

    def places(self) -> Sequence[torch.Tensor]:
        return [self.result]

    def fresh(self, random: torch.Generator) -> None:
        super().fresh(random)
        self.asked = []

    def reference(self) -> Iterator[torch.Tensor]:
        self.asked.append(1)
        return super().reference()


class WritesToItsPlace(Steps):
    """Honest: what it computes lies in the problem."""

    def iteration(self) -> None:
        self.scores = self.problem.result  # type: ignore[attr-defined]
        self.compute()


class ByModule(Served):
    """Whose reference uses a module of torch."""

    def reference(self) -> Iterator[torch.Tensor]:
        layer = torch.nn.Linear(len(self.weights), len(self.weights), bias=False, dtype=torch.float64)
        layer.weight.data = self.weights.T.double()
        for _ in range(self.steps):
            yield layer(self.requests.double()).detach()


class Compiles(Steps):
    """Honest: imports torch's compiler, which wraps some of torch's own functions as it is imported."""

    def prepare(self) -> None:
        importlib.import_module("torch._dynamo")


@pytest.mark.parametrize(
    ("variant", "problem"),
    [(Steps, Served), (WritesToItsPlace, Places), (Steps, ByModule), (Compiles, Served)],
    ids=lambda one: one.__name__,
)
def test_an_honest_variant_is_not_accused(variant: type[Honest], problem: type[Requests]) -> None:
    found = result_of(variant, problem())
    assert found.output.ok
    assert objections_of(found) == ()


# -- the problem ------------------------------------------------------------------------------------------------------


class Emptied(Steps):
    """Zeroes the weights before anything is looked at and puts them back at the end."""

    def prepare(self) -> None:
        self.kept = self.problem.weights.clone()
        self.problem.weights.zero_()

    def iteration(self) -> None:
        self.scores.zero_()

    def close(self) -> None:
        self.problem.weights.copy_(self.kept)


class EmptiedForTheReference(Emptied):
    """Zeroes them when it is asked for outputs, which is when the reference follows, where torch sees nothing of it."""

    def prepare(self) -> None:
        self.kept = self.problem.weights.clone()

    def reset(self) -> None:
        self.problem.weights.copy_(self.kept)

    def outputs(self) -> Sequence[torch.Tensor]:
        self.problem.weights.numpy()[:] = 0
        return super().outputs()


class Replaced(Steps):
    """Gives the problem other weights."""

    def prepare(self) -> None:
        self.kept, self.problem.weights = self.problem.weights, torch.zeros_like(self.problem.weights)

    def iteration(self) -> None:
        self.scores.zero_()

    def close(self) -> None:
        self.problem.weights = self.kept


class OtherMemory(Replaced):
    """Gives the weights themselves other memory."""

    def prepare(self) -> None:
        self.kept = self.problem.weights.data
        self.problem.weights.data = torch.zeros_like(self.kept)

    def close(self) -> None:
        self.problem.weights.data = self.kept


class OneWord(Steps):
    """Rounds one weight of all."""

    def prepare(self) -> None:
        self.problem.weights[5, 7] = 0


class Swapped(Steps):
    """Exchanges two rows of the weights."""

    def prepare(self) -> None:
        self.problem.weights[[3, 90]] = self.problem.weights[[90, 3]]


class FewerSteps(Steps):
    """Says that one step was asked for."""

    def prepare(self) -> None:
        self.problem.steps = 1  # type: ignore[attr-defined]

    def close(self) -> None:
        self.problem.steps = 4  # type: ignore[attr-defined]


class ShorterList(Steps):
    """Drops a limit."""

    def prepare(self) -> None:
        self.problem.limits.pop()  # type: ignore[attr-defined]


class NewAttribute(Steps):
    """Hides a method of the problem behind an attribute."""

    def iteration(self) -> None:
        self.compute()
        self.problem.reference = lambda: iter([])  # type: ignore[method-assign]


class OtherMask(Steps):
    """Changes a tensor of a type that is never drawn."""

    def iteration(self) -> None:
        self.compute()
        self.problem.mask.zero_()  # type: ignore[attr-defined]


class OnlyWhileTimed(FewerSteps):
    """Changes a number in each iteration, and puts it back before outputs are given."""

    def prepare(self) -> None:
        pass

    def iteration(self) -> None:
        self.compute()
        self.problem.steps = 1  # type: ignore[attr-defined]

    def outputs(self) -> Sequence[torch.Tensor]:
        self.problem.steps = 4  # type: ignore[attr-defined]
        return super().outputs()


class OtherMethod(Steps):
    """Replaces the reference of the class for all who come after it."""

    kept = Served.reference

    def prepare(self) -> None:
        Served.reference = lambda self: iter([torch.zeros(64, 128).double()] * 4)  # type: ignore[method-assign]

    def close(self) -> None:
        Served.reference = OtherMethod.kept  # type: ignore[method-assign]


class OtherCode(Steps):
    """Exchanges the code in a function of the problem's file; the function stays the same object."""

    def prepare(self) -> None:
        self.kept = scores_of.__code__
        scores_of.__code__ = (lambda requests, weights: torch.zeros(64, 128).double()).__code__

    def iteration(self) -> None:
        self.scores.zero_()

    def close(self) -> None:
        scores_of.__code__ = self.kept


class EmptiesForTheNext(Steps):
    """Leaves an easier problem to the next variant."""

    def close(self) -> None:
        self.problem.weights.zero_()


PROBLEM: dict[type[Honest], str] = {
    Emptied: "wrote to weights of its problem in prepare()",
    EmptiedForTheReference: "wrote to weights of its problem in timed iteration 1",
    Replaced: "changed its problem in prepare(): weights is another",
    OtherMemory: "changed its problem in prepare(): weights is another",
    OneWord: "wrote to weights of its problem in prepare()",
    Swapped: "wrote to weights of its problem in prepare()",
    FewerSteps: "changed its problem in prepare(): steps is 1, not 4",
    ShorterList: "changed its problem in prepare(): limits is list of 2, not list of 3",
    NewAttribute: "changed its problem in an iteration: reference is new",
    OtherMask: "wrote to mask of its problem in timed iteration 1",
    OnlyWhileTimed: "changed its problem in an iteration: steps is 1, not 4",
    OtherMethod: "replaced functions that the harness or its problem may call: Served.reference",
    OtherCode: f"replaced functions that the harness or its problem may call: {__name__}.scores_of",
    EmptiesForTheNext: "wrote to weights of its problem in close()",
}


@pytest.mark.parametrize("variant", sampled([*PROBLEM]), ids=lambda one: one.__name__)
def test_a_problem_must_stay_what_it_was(variant: type[Honest]) -> None:
    sentences = proof_of(variant).objections
    assert any(sentence.startswith(f"optimized {PROBLEM[variant]}") for sentence in sentences), sentences


class Pairs(Requests):
    """Of two inputs, each with an answer of its own."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.others = torch.randn_like(self.requests)

    def inputs(self) -> Sequence[torch.Tensor]:
        return [self.requests, self.others]

    def reference(self) -> Iterator[torch.Tensor]:
        for one in self.inputs():
            yield scores_of(one, self.weights)


class OneForBoth(Honest):
    """Has the harness write one input over the other, and computes one answer."""

    def buffers(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        return [(self.problem.requests, self.problem.others)]  # type: ignore[attr-defined]

    def outputs(self) -> Sequence[torch.Tensor]:
        return [self.scores, self.scores]


def test_a_buffer_may_not_be_another_input() -> None:
    said = "optimized names a buffer that is the problem's own: one input would be given the values of another"
    assert said in proof_of(OneForBoth, Pairs()).objections


def test_a_place_that_the_problem_does_not_name_may_not_be_written_to() -> None:
    class Unnamed(Places):
        def places(self) -> Sequence[torch.Tensor]:
            return ()

    assert (
        "optimized wrote to result of its problem in timed iteration 1"
        in proof_of(WritesToItsPlace, Unnamed()).objections[0]
    )


@pytest.mark.parametrize("n", [1, 7, 8, 9, 5000, 300_000])
def test_every_byte_is_held(n: int) -> None:
    """Of memory of any length, seen through any view, whatever the width of the rows."""

    class Holder:
        def __init__(self) -> None:
            self.view = torch.zeros(n, dtype=torch.uint8)[: max(n // 2, 1)]

    places = random.Random(n)
    for at in {0, n - 1, *(places.randrange(n) for _ in range(5))}:
        holder = Holder()
        held = Held(holder, (), places.getrandbits(30))
        assert (held.rearranged(), held.rewritten(), held.nbytes) == ("", "", n)
        torch.empty(0, dtype=torch.uint8).set_(holder.view.untyped_storage())[at] = 1
        assert (held.rearranged(), held.rewritten()) == ("", "view")


def test_what_the_problem_is_made_of_is_told_by_its_path() -> None:
    class Holder:
        def __init__(self) -> None:
            self.parts: dict[str, Any] = {"a": [torch.zeros(2), (torch.ones(2), 3)]}

    def after(change: Callable[[Any], None]) -> str:
        holder = Holder()
        held = Held(holder, (), 0)
        change(holder)
        return held.rearranged() or held.rewritten()

    assert after(lambda one: None) == ""
    assert after(lambda one: one.parts["a"][0].add_(1)) == "parts['a'][0]"
    assert after(lambda one: one.parts.update(b=1)) == "parts is dict of 2, not dict of 1"
    assert after(lambda one: one.parts["a"].__setitem__(1, (one.parts["a"][1][0], 4))) == "parts['a'][1][1] is 4, not 3"
    assert after(lambda one: one.parts["a"][1][0].resize_(1)) == "parts['a'][1][0] is another"


# -- reference and tolerance --------------------------------------------------------------------------------------------


class Constant(Served):
    """All answers are one number."""

    def reference(self) -> Iterator[torch.Tensor]:
        yield torch.full_like(self.requests, 7.0, dtype=torch.float64)


class ConstantForAReason(Constant):
    constant = "a health check has one answer"
    reuse = "it has no input"


class Writes7(Honest):
    def iteration(self) -> None:
        self.scores.fill_(7)


def test_a_reference_of_one_value_is_no_proof() -> None:
    said = "optimized has a reference that is 7 everywhere in tensor 0"
    assert any(sentence.startswith(said) for sentence in proof_of(Writes7, Constant()).objections)
    assert proof_of(Writes7, ConstantForAReason()).objections == ()


class Total(Requests):
    """The sum of all requests, which does not notice that they change places."""

    def inputs(self) -> Sequence[torch.Tensor]:
        return [self.requests]

    def reference(self) -> Iterator[torch.Tensor]:
        yield self.requests.double().sum().view(1)


class Adds(Honest):
    def compute(self, rows: slice = slice(None)) -> None:
        self.scores = self.problem.requests.sum().view(1)


class AddsOnce(Cached, Adds):
    """Gives the same sum again."""

    def iteration(self) -> None:
        if self.cache is None:
            self.compute()
            self.cache = self.scores.clone()
        self.scores = self.cache.clone()


@pytest.mark.parametrize("variant", [Adds, AddsOnce])
def test_inputs_whose_answer_never_changes_prove_nothing(variant: type[Honest]) -> None:
    found = proof_of(variant, Total())
    assert found.objections == (
        "optimized has the same right answer, within its tolerance, for all inputs that were drawn: a kept result would pass",
    )


@pytest.mark.parametrize(
    ("bound", "wide", "said"),
    [
        (0.09, None, None),
        (0.1, None, "is held to a tolerance of 0.1; from 0.1 on its problem says why"),
        (0.5, "samples of 40 draws", None),
        (1.0, "anything goes", "is held to a tolerance of 1, by which zeros, or anything, are right"),
        (float("nan"), "x", "is held to a tolerance of nan"),
    ],
)
def test_a_tolerance_by_which_much_may_be_wrong_is_explained(bound: float, wide: str | None, said: str | None) -> None:
    class Loose(Requests):
        def tolerance_of(self, variant: str) -> Sequence[Tolerance]:
            return [Tolerance(bound, "x", wide)]

    objections = proof_of(Honest, Loose()).objections
    found = [sentence for sentence in objections if "is held to a tolerance" in sentence]
    assert [sentence.startswith(f"optimized {said}") for sentence in found] == ([True] if said else [])


# -- which iterations and which elements are looked at --------------------------------------------------------------------


def test_how_many_comparisons_were_made_does_not_tell_whether_another_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # of the fixture, which chooses itself
    chance, counts = random.Random(5), Counter[int]()
    for _ in range(20_000):
        compared, poisoned = proof._choose(chance, 40, reuse=False)
        assert compared == sorted(set(compared))
        assert compared[-1] == 39
        assert poisoned
        assert set(poisoned) < set(compared)
        counts[len(compared)] += 1
    assert min(counts) == 2
    for seen in range(2, 6):
        more = sum(n for count, n in counts.items() if count > seen) / sum(
            n for count, n in counts.items() if count >= seen
        )
        assert more == pytest.approx(0.5, abs=0.03)
    assert proof._choose(chance, 1, reuse=False) == ([0], [0])


class Many(Requests):
    """Of hundreds of tensors."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pieces = [torch.randn(4, 128) for _ in range(640)]

    def inputs(self) -> Sequence[torch.Tensor]:
        return self.pieces

    def reference(self) -> Iterator[torch.Tensor]:
        for piece in self.pieces:
            yield piece.double() * 2


class WhereNobodyLooked(Honest):
    """Empties all inputs but every tenth from the end, and computes those."""

    def iteration(self) -> None:
        pieces = self.problem.pieces  # type: ignore[attr-defined]
        looked = {id(one) for one in pieces[::-1][::10]}
        for piece in pieces:
            if id(piece) not in looked:
                piece.zero_()
        self.results = [piece * 2 for piece in pieces]

    def outputs(self) -> Sequence[torch.Tensor]:
        return self.results


def test_which_tensors_are_looked_at_cannot_be_known() -> None:
    assert "optimized changed the problem's inputs in an iteration" in proof_of(WhereNobodyLooked, Many()).objections


# -- the process ------------------------------------------------------------------------------------------------------


class Shy(threading.Thread):
    """Has no number when it is asked."""

    @property
    def native_id(self) -> None:
        return None


class GoesOnShyly(GoesOn):
    def iteration(self) -> None:
        self.cache = Shy(target=self.work_on)
        self.cache.start()


class GoesOnWithoutAnObject(GoesOn):
    def iteration(self) -> None:
        self.cache = _thread.allocate_lock()
        self.cache.acquire()
        _thread.start_new_thread(self.work_and_tell, ())

    def work_and_tell(self) -> None:
        self.work_on()
        self.cache.release()

    def reset(self) -> None:
        if self.cache is not None:
            self.cache.acquire()
            self.cache = None


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Slowly(Requests):
    """Draws, and lets others run before the harness goes on, as a loaded machine does to it now and then."""

    def fresh(self, random: torch.Generator) -> None:
        super().fresh(random)
        time.sleep(0.003)


class Ahead(Honest):
    """A thread looks out for new inputs, and computes as soon as there are any: mostly before the clock starts."""

    def prepare(self) -> None:
        self.leaving = threading.Event()
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()

    def watch(self) -> None:
        seen = None
        while not self.leaving.is_set():
            now = float(self.problem.requests[0, 0])
            if now != seen:
                seen = now
                self.compute()

    def close(self) -> None:
        self.leaving.set()
        self.watcher.join()


class GoesOnElsewhere(GoesOn):
    """In a process of its own."""

    def iteration(self) -> None:
        self.cache = multiprocessing.get_context("fork").Process(target=spin, args=(0.05,))
        self.cache.start()
        self.compute()


class AtTheAlarm(Honest):
    """Computes in a signal handler, after the clock."""

    def prepare(self) -> None:
        self.before = signal.signal(signal.SIGALRM, lambda *_: self.compute())

    def iteration(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0005)

    def close(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


class SetsTheAlarmLater(AtTheAlarm):
    """The same with a handler that exists while it is needed alone."""

    def prepare(self) -> None:
        self.before = signal.getsignal(signal.SIGALRM)

    def iteration(self) -> None:
        signal.signal(signal.SIGALRM, lambda *_: self.compute())
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        self.compute()


class AsTheClockIsRead(Honest):
    """Computes when the interpreter tells it that the clock has been read, and is gone before anybody looks."""

    def iteration(self) -> None:
        sys.setprofile(self.told)

    def told(self, frame: Any, event: str, function: Any) -> None:
        if event == "c_return" and function is CLOCK:
            sys.setprofile(None)
            time.sleep(0.003)
            self.compute()

    def close(self) -> None:
        sys.setprofile(None)


class Functions(TorchFunctionMode):  # type: ignore[misc]
    due: Callable[[], None] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.due is not None:
            due, self.due = self.due, None
            due()
        return func(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):  # type: ignore[misc]
    due: Callable[[], None] | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.due is not None:
            due, self.due = self.due, None
            due()
        return func(*args, **(kwargs or {}))


class AtTheNextFunction(Honest):
    """Computes when the harness uses torch."""

    mode: type[Any] = Functions

    def prepare(self) -> None:
        self.entered = self.mode()
        self.entered.__enter__()

    def iteration(self) -> None:
        self.entered.due = self.compute

    def close(self) -> None:
        self.entered.due = None
        self.entered.__exit__(None, None, None)


class AtTheNextOperation(AtTheNextFunction):
    mode = Operations


class AtCollections(Honest):
    """Computes when garbage is collected."""

    def prepare(self) -> None:
        self.callback = lambda *_: None
        gc.callbacks.append(self.callback)

    def close(self) -> None:
        gc.callbacks.remove(self.callback)


class HooksAllModules(Steps):
    """Makes the reference's modules give zeros."""

    def prepare(self) -> None:
        self.hook = torch.nn.modules.module.register_module_forward_hook(lambda *args: torch.zeros_like(args[2]))

    def iteration(self) -> None:
        self.scores.zero_()

    def close(self) -> None:
        self.hook.remove()


class OwnKernel(Honest):
    """Gives torch another kernel for an operator of its own."""

    def prepare(self) -> None:
        self.library = torch.library.Library("aten", "IMPL")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.library.impl("lgamma", torch.zeros_like, "CPU")

    def close(self) -> None:
        self.library._destroy()


class OwnPrecision(Steps):
    """Makes the reference's numbers zeros as they are converted, and puts the method back before the end."""

    def prepare(self) -> None:
        torch.Tensor.double = lambda self: torch.zeros(self.shape, dtype=torch.float64)

    def iteration(self) -> None:
        self.scores.zero_()

    def close(self) -> None:
        del torch.Tensor.double


class OwnWrapped(Steps):
    """Seeds nothing, by a function that torch's own wrapper hides."""

    def prepare(self) -> None:
        self.kept = torch.manual_seed
        torch.manual_seed = torch._disable_dynamo(lambda seed: torch.Generator())

    def close(self) -> None:
        torch.manual_seed = self.kept


class OwnSum(Honest):
    """Exchanges the code of a method that iterations are chosen with."""

    def prepare(self) -> None:
        self.kept = random.Random.sample.__code__
        random.Random.sample.__code__ = (lambda self, population, k, *, counts=None: [1]).__code__

    def close(self) -> None:
        random.Random.sample.__code__ = self.kept


class LeavesOneThread(Honest):
    """Leaves less of the machine to the next variant."""

    def prepare(self) -> None:
        torch.set_num_threads(2)


class LeavesTheCollectorOff(Honest):
    def iteration(self) -> None:
        gc.disable()
        self.compute()


class LeavesAThreadAtWork(Honest):
    """Keeps a core busy while the next variant is measured."""

    def close(self) -> None:
        threading.Thread(target=spin, args=(0.5,)).start()


PROCESS: dict[type[Honest], str | tuple[str, ...]] = {
    GoesOnShyly: "left a thread computing when timed iteration ",
    GoesOnWithoutAnObject: "left a thread computing when timed iteration ",
    Ahead: ("computes for ", "left a thread computing"),  # the latter where it got no core in time
    GoesOnElsewhere: "left a process computing when timed iteration ",
    AtTheAlarm: "changed the handler of SIGALRM in prepare()",
    SetsTheAlarmLater: "changed the handler of SIGALRM, the timer ITIMER_REAL in timed iteration 1",
    AsTheClockIsRead: "ran on for ",  # 3 ms, more on a busy machine
    AtTheNextFunction: "changed a TorchFunctionMode in prepare()",
    AtTheNextOperation: "changed a TorchDispatchMode in prepare()",
    AtCollections: "changed gc.callbacks in prepare()",
    HooksAllModules: "changed torch.nn.modules.module._global_forward_hooks in prepare()",
    OwnKernel: "changed a kernel of a torch operator in prepare()",
    OwnPrecision: "replaced functions that the harness or its problem may call: Tensor.double",
    OwnWrapped: "replaced functions that the harness or its problem may call: torch.manual_seed",
    OwnSum: "replaced functions that the harness or its problem may call: Random.sample",
    LeavesOneThread: "leaves torch's number of threads changed; put it back in close()",
    LeavesTheCollectorOff: "leaves the garbage collector changed; put it back in close()",
    LeavesAThreadAtWork: "left a thread computing after close()",
}
BY_LINUX = {Ahead, GoesOnShyly, GoesOnWithoutAnObject, GoesOnElsewhere, LeavesAThreadAtWork}


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    yield
    gc.enable()


@pytest.mark.parametrize(
    "variant",
    [
        *(
            pytest.param(one, id=one.__name__, marks=linux if one in BY_LINUX else ())
            for one in sampled([one for one in PROCESS if one is not GoesOnWithoutAnObject])
        ),
        # Seen if it computes for a fifth of 5 ms, which on busy cores it may not get to.
        pytest.param(GoesOnWithoutAnObject, id="GoesOnWithoutAnObject", marks=[linux, pytest.mark.nightly]),
    ],
)
def test_a_process_must_stay_what_it_was(variant: type[Honest]) -> None:
    problem = ByModule() if variant is HooksAllModules else Served() if issubclass(variant, Steps) else Requests()
    problem = Slowly() if variant is Ahead else problem
    sentences, reasons = proof_of(variant, problem).objections, PROCESS[variant]
    said = tuple(f"optimized {one}" for one in ((reasons,) if isinstance(reasons, str) else reasons))
    assert any(sentence.startswith(said) for sentence in sentences), sentences


# -- a workload's own file --------------------------------------------------------------------------------------------


PATCHED = """
import random, threading, time, torch
{patch}
from aisp_trace.workloads import proof
print(sorted(proof._FALSE))
"""


@pytest.mark.parametrize(
    ("patch", "found"),
    [
        ("", "[]"),
        (
            "random.Random.sample.__code__ = (lambda self, population, k, *, counts=None: [0]).__code__\n"
            "time.perf_counter_ns = time.time_ns\n"
            "torch.linalg.vector_norm = lambda *_: torch.zeros(())\n"
            "torch.cuda.synchronize = lambda *_: None\n",
            "['Random.sample', 'time.perf_counter_ns', 'torch.cuda.synchronize', 'torch.linalg.vector_norm']",
        ),
    ],
)
def test_what_a_file_replaced_before_the_harness_was_there_is_known(patch: str, found: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PATCHED.format(patch=patch)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ},
    )
    assert done.stdout.strip() == found


def test_a_function_that_is_not_genuine_is_an_objection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "_FALSE", frozenset({"Random.sample"}))
    assert "optimized replaced what outputs are compared with: Random.sample" in proof_of(Honest, Requests()).objections


def test_every_function_that_times_and_compares_is_genuine() -> None:
    assert [name for owner, name, _ in (*proof._CLOCKS, *proof._COMPARING) if not genuine(owner, name)] == []


# -- what is drawn anew -------------------------------------------------------------------------------------------------


def test_a_proof_says_how_much_was_drawn_anew() -> None:
    found = proof_of(Steps, Served())
    assert found.drawn_bytes == 64 * 128 * 4
    assert found.problem_bytes == 64 * 128 * 4 + 128 * 128 * 4 + 8
    assert list(found.compared) == [1, 2, ITERATIONS - 1]
