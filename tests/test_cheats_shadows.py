"""Variants that hide code where the harness reads something: attributes of tensors and classes, files, audits, garbage.

Outputs of all of them are right by the reference that the harness computes: each was accepted until something looked for it.
"""

from __future__ import annotations

import gc
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from aisp_trace.tests.test_cheats import WIDTH, Honest, Placed, Requests, objections_of, result_of
from aisp_trace.tests.test_cheats import as_it_was as as_it_was
from aisp_trace.tests.test_cheats_hidden import linux, spin
from aisp_trace.workloads import running

STEPS = 4
"""How often `Stepped` multiplies."""


class Stepped(Requests):
    """A model of several equal layers, whose number is one of the file."""

    def reference(self) -> Iterator[torch.Tensor]:
        values = self.requests.double()
        for _ in range(STEPS):
            values = values @ self.weights.double() / WIDTH**0.5
        yield values


class Steps(Honest):
    """Honest."""

    def iteration(self) -> None:
        self.scores.copy_(self.problem.requests)
        for _ in range(STEPS):
            self.scores = self.scores @ self.problem.weights / WIDTH**0.5


class Served(Requests):
    """The weights stay."""

    def inputs(self) -> Sequence[torch.Tensor]:
        return [self.requests]


class Marked(Honest):
    """Honest: leaves a note on a tensor of the problem, as torch's compiler does."""

    def prepare(self) -> None:
        self.problem.requests._seen_by_a_compiler = True


class Rubbish:
    """Computes when it is swept up."""

    def __init__(self, due: Callable[[], None]) -> None:
        self.me, self.due = self, due

    def __del__(self) -> None:
        self.due()


class Littering(Honest):
    """Honest: leaves much garbage, which others sweep up."""

    def iteration(self) -> None:
        self.compute()
        for _ in range(2000):
            Rubbish(lambda: None)


def lazily(tensor: torch.Tensor, name: str, due: Callable[[], None]) -> None:
    """Gives `tensor` a method of its own, which first does what is due."""
    plain = getattr(torch.Tensor, name)

    def method(*args: Any, **options: Any) -> Any:
        due()
        return plain(tensor, *args, **options)

    setattr(tensor, name, method)


class Owing(Honest):
    """Owes the work after each iteration; `pay` does it."""

    due = False

    def iteration(self) -> None:
        type(self).due = True

    def pay(self) -> None:
        if type(self).due:
            type(self).due = False
            self.compute()

    def close(self) -> None:
        type(self).due = False


class AsItIsRead(Owing):
    """Computes when a method of its output is called: the tensor has one of its own."""

    def prepare(self) -> None:
        for name in ("numel", "detach", "is_contiguous"):
            lazily(self.scores, name, self.pay)


class AsItIsFilled(Placed):
    """Computes as the harness fills its buffer with fresh inputs, before the clock, and copies the result while it runs."""

    def prepare(self) -> None:
        self.whole, self.ready = self.problem.requests.clone(), torch.empty_like(self.scores)
        self.whole.detach = lambda: self.whole
        self.whole.copy_ = self.fill

    def fill(self, source: torch.Tensor) -> None:
        torch.Tensor.copy_(self.whole, source)
        torch.mm(self.whole, self.problem.weights, out=self.ready)

    def buffers(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        return [(self.problem.requests, self.whole)]

    def iteration(self) -> None:
        self.scores.copy_(self.ready)


class OwnDouble(Honest):
    """Has the reference computed for inputs of long ago, of which it knows the answer, with a method of the problem's tensor."""

    problem: Served

    def prepare(self) -> None:
        self.old, self.times = self.problem.requests.clone(), 1.0
        self.compute()
        self.kept = self.scores.clone()
        self.problem.requests.double = lambda: self.old.double() * self.times

    def iteration(self) -> None:
        self.times += 1
        torch.mul(self.kept, self.times, out=self.scores)

    def close(self) -> None:
        del self.problem.requests.double


class OwnProperty(OwnDouble):
    """The same with a property of the problem's class in front of its attribute."""

    def prepare(self) -> None:
        super().prepare()
        super().close()

        def requests(problem: Served) -> torch.Tensor:
            asked = sys._getframe(1).f_code.co_name == "reference"
            kept: torch.Tensor = vars(problem)["requests"]
            return self.old * self.times if asked else kept

        Served.requests = property(requests, lambda problem, value: None)

    def close(self) -> None:
        del Served.requests  # type: ignore[misc]


class OwnConstant(Steps):
    """Makes a number of the problem's file smaller, and does so much less."""

    def prepare(self) -> None:
        globals()["STEPS"] = 1

    def close(self) -> None:
        globals()["STEPS"] = 4


class OwnLook(Honest):
    """Goes on in a thread that stays, and makes the harness read that no thread computes."""

    def prepare(self) -> None:
        self.kept = running._spent, running.PROCESS_NS
        running._spent, running.PROCESS_NS = lambda task: 0, running.THREAD_NS
        self.pool = ThreadPoolExecutor(1)
        self.pool.submit(int).result()

    def iteration(self) -> None:
        self.pool.submit(self.compute)

    def close(self) -> None:
        self.pool.shutdown()
        running._spent, running.PROCESS_NS = self.kept


class AtTheNextFile(Owing):
    """Computes when the harness reads what threads there are."""

    def prepare(self) -> None:
        self.read = pathlib.Path.read_text

        def read(path: pathlib.Path, *args: Any, **options: Any) -> str:
            self.pay()
            return self.read(path, *args, **options)

        pathlib.Path.read_text = read  # type: ignore[assignment,method-assign]

    def close(self) -> None:
        super().close()
        pathlib.Path.read_text = self.read  # type: ignore[method-assign]


class AtTheNextAudit(Owing):
    """Computes when the interpreter announces that the harness opens a file. Nothing can take such a hook away again."""

    def prepare(self) -> None:
        sys.addaudithook(lambda event, _: self.pay() if event == "open" else None)


class AsGarbage(Owing):
    """Computes as the harness's own objects set the collector off."""

    def prepare(self) -> None:
        self.before = gc.get_threshold()

    def iteration(self) -> None:
        super().iteration()
        Rubbish(self.pay)
        gc.set_threshold(1)

    def pay(self) -> None:
        if type(self).due:
            spin(0.003)
        super().pay()

    def outputs(self) -> Sequence[torch.Tensor]:
        gc.set_threshold(*self.before)
        return [self.scores]

    def close(self) -> None:
        gc.set_threshold(*self.before)
        super().close()


WRONG = ("gave wrong outputs", "returned outputs of earlier inputs")
CHEATS: dict[type[Honest], tuple[str | tuple[str, ...], type[Requests]]] = {
    AsItIsRead: (WRONG, Requests),
    AsItIsFilled: (WRONG, Served),
    OwnDouble: ("changed its problem in prepare(): requests is another", Served),
    OwnProperty: ("changed the class Served in prepare()", Served),
    OwnConstant: (f"changed {__name__}.STEPS in prepare()", Stepped),
    OwnLook: ("replaced functions that the harness or its problem may call: ", Served),
    AtTheNextFile: ("replaced functions that the harness or its problem may call: ", Served),
    AtTheNextAudit: ("changed the audit hooks in prepare()", Served),
    AsGarbage: ("computes for ", Served),
}
BY_LINUX = {OwnLook, AtTheNextFile, AtTheNextAudit}


@pytest.mark.parametrize(
    "variant", [pytest.param(one, id=one.__name__, marks=linux if one in BY_LINUX else ()) for one in CHEATS]
)
def test_code_that_hides_is_found(variant: type[Honest]) -> None:
    said, problem = CHEATS[variant]
    sentences = objections_of(result_of(variant, problem()))
    assert any(one.removeprefix("optimized ").startswith(said) for one in sentences), sentences


@pytest.mark.parametrize(("variant", "problem"), [(Steps, Stepped), (Marked, Requests), (Littering, Requests)])
def test_an_honest_variant_is_not_accused(variant: type[Honest], problem: type[Requests]) -> None:
    assert objections_of(result_of(variant, problem())) == ()
