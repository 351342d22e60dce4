"""The process in which a candidate runs: one call after the other, as the parent asks, and what was seen of each.

    draw inputs, poison outputs and free memory | devices idle | RANGE call TOKEN: candidate, synchronise | look | keep or drop

No reference is computed here, and none is in memory. What the harness uses it has before the candidate is imported. Whatever
the harness does with the device stands in a range of its own (`prepare`, `stream`, `check`, `keep`): in the recording the rest is
the candidate's. The ranges are torch's own: no package is needed that a GPU host may lack.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import random
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from ...workloads.running import SYNCHRONIZE, at_work, descendants, running
from ...workloads.surroundings import Surroundings
from ...workloads.verify import poison, poisoned
from ..task import Task
from ..tasks import find
from . import candidates
from .candidates import CandidateError
from .inputs import drawn
from .memory import FreeMemory, Placed, place
from .plan import ALIGNED, VIEWS
from .talk import Talk, TalkError, knock

CLOCK: Final = time.perf_counter_ns
EVENT, STREAM, USE, ELAPSED = torch.cuda.Event, torch.cuda.Stream, torch.cuda.stream, torch.cuda.Event.elapsed_time
RECORD: Final = torch.cuda.Event.record
WAIT: Any = getattr(torch._C, "_cuda_synchronize", None)

MEMORY_BYTES: Final = 32 << 30
"""Address space of a process that computes on a processor. With a GPU nothing is set: the driver reserves more than there is."""

AHEAD_NS: Final = 2_000_000
"""What other threads may compute while inputs are drawn, which itself takes milliseconds."""

WHOLE: Final = 0.2
"""Share of the calls after which the harness's own functions are looked at, too; they are at the end in any case."""

CACHE_SHARE: Final = 2
"""Of the L2 cache, that is written before a timed call, so that inputs come from memory."""

CHANGEABLE: Final = frozenset({"TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"})
"""Variables that torch's compiler sets itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the parent until it says that this was all."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--door", required=True)
    asked = parser.parse_args(arguments)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    talk = knock(asked.door)
    try:
        Harness(talk, talk.receive(None)).serve()
    except TalkError:
        return 3  # the parent has left, or ended the conversation
    return 0


@dataclass(slots=True)
class Round:
    """What one call works on, and what was seen of it."""

    order: Mapping[str, Any]
    inputs: dict[str, Placed] = field(default_factory=dict)
    outputs: dict[str, Placed] = field(default_factory=dict)
    given: dict[str, torch.Tensor] = field(default_factory=dict)
    objections: list[tuple[str, str]] = field(default_factory=list)
    event_ns: int | None = None
    raised: str | None = None

    def say(self, code: str, text: str) -> None:
        """Write down what is wrong."""
        self.objections.append((code, text))


class Harness:
    """Runs calls. A long class because each method is one step of the same call, in their order."""

    def __init__(self, talk: Talk, begin: Mapping[str, Any]) -> None:
        self._talk = talk
        self._task: Task = find(begin["task"])
        self._dtype: str = begin["dtype"]
        self._device = torch.device(begin["device"])
        self._bare: bool = begin["bare"]
        self._native = not begin["recorded"]
        self._candidate: candidates.Candidate | None = None
        self._chance = random.Random(os.urandom(16))
        self._cuda = self._device.type == "cuda"
        if self._cuda:
            torch.cuda.init()
            self._device = torch.device("cuda", torch.cuda.current_device())
            self._stream = STREAM()
            self._mark = torch.zeros(1, device=self._device)
            cache = torch.cuda.get_device_properties(self._device).L2_cache_size
            self._cold = torch.zeros(CACHE_SHARE * cache, dtype=torch.uint8, device=self._device)
        else:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        self._free = FreeMemory(self._device)
        nvtx = getattr(torch._C, "_nvtx", None)
        self._push: Any = nvtx.rangePushA if nvtx else None
        self._pop: Any = nvtx.rangePop if nvtx else None
        self._processes: set[int] = set()
        self._watched: list[Surroundings] = []

    def serve(self) -> None:
        """Answer each question; returns when the parent says `end`."""
        self._talk.send({"ready": True, "torch": torch.__version__, "pid": os.getpid()})
        while True:
            order = self._talk.receive(None)
            if order["do"] == "end":
                with self._range("finish"):
                    self._synchronise()
                self._talk.send({"token": order["token"], "objections": self._changed("at the end")})
                return
            if order["do"] == "load":
                self._talk.send({"token": order["token"], **self._load(order)})
            else:
                self._call(order)

    # -- the candidate arrives -----------------------------------------------------------------------------------------

    def _load(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Import the candidate, once everything that it could change has been looked at."""
        self._processes = descendants()
        self._watched = [Surroundings(one) for one in (self._task, self, self._talk, self._free)]
        self._modules = dict(sys.modules)
        self._variables, self._folder = dict(os.environ), str(Path.cwd())
        self._below = dict(vars(torch._C))
        self._paths, self._finders = list(sys.path), list(sys.meta_path)
        before = CLOCK()
        raised = None
        with self._range("setup"):
            try:
                self._candidate = candidates.load(order["path"], self._task, self._dtype, order["shapes"])
            except BaseException as exc:
                raised = _words(exc)
            raised = raised or self._synchronise() or None
        said = [] if raised else self._changed("while it was loaded and set up")
        return {"raised": raised, "setup_ns": CLOCK() - before, "objections": said}

    # -- one call ------------------------------------------------------------------------------------------------------

    def _call(self, order: Mapping[str, Any]) -> None:
        made = Round(order)
        others = running(self._processes)
        with self._range("prepare"):
            self._prepare(made)
            self._synchronise()
        if self._candidate is not None and running(self._processes).since(others) > AHEAD_NS:
            made.say("ahead", "computes in other threads or processes while its inputs are drawn")
        if self._candidate is not None:
            if self._cuda:
                with self._range("stream"):  # so that the recording says which stream the candidate is given
                    with USE(self._stream):
                        self._mark.zero_()
                    self._synchronise()
            self._run(made)
        else:
            made.given = {name: placed.tensor for name, placed in made.outputs.items()}
        with self._range("check"):
            self._examine(made)
            self._synchronise()
        answer = {"objections": made.objections, "event_ns": made.event_ns, "raised": made.raised}
        self._talk.send({"token": order["token"], **answer})
        keep = self._talk.receive(None)
        with self._range("keep"):
            for name, file in keep["files"].items():
                if name in made.given:
                    _bytes(made.given[name]).cpu().numpy().tofile(file)
            self._synchronise()
        self._talk.send({"token": keep["token"]})

    def _prepare(self, made: Round) -> None:
        order = made.order
        how = order["place"]
        for name, tensor in self._drawn(order).items():
            placed = self._place(tensor.shape, tensor.dtype, how)
            placed.tensor.copy_(tensor)
            made.inputs[name] = placed
        for operand in self._task.outputs:
            dtype = getattr(torch, operand.dtype_in(self._dtype))
            placed = self._place(operand.shape(order["shape"]), dtype, ALIGNED if how == VIEWS else how)
            with contextlib.suppress(TypeError):  # one-byte outputs keep the pattern of the whole
                poison([placed.tensor])
            made.outputs[operand.name] = placed
        if not self._free.poison([p.tensor.numel() * p.tensor.element_size() for p in made.outputs.values()]):
            made.say("note", "free memory could not be poisoned")
        if self._cuda and order["timed"]:
            self._cold.zero_()

    def _place(self, shape: Sequence[int], dtype: torch.dtype, how: str) -> Placed:
        return place(shape, dtype, self._device, how, self._chance, bare=self._bare)

    def _drawn(self, order: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return drawn(self._task, order, self._dtype, self._device)

    def _run(self, made: Round) -> None:
        """The candidate's call, timed; its outputs become `made.given`."""
        assert self._candidate is not None
        inputs = {name: placed.tensor.detach() for name, placed in made.inputs.items()}
        outputs = {name: placed.tensor.detach() for name, placed in made.outputs.items()}  # the harness keeps its own
        shape = dict(made.order["shape"])
        given: Any = None
        if self._cuda:
            begin, end = EVENT(enable_timing=True), EVENT(enable_timing=True)
        with self._range(f"call {made.order['token']}"):
            start = CLOCK()
            try:
                if self._cuda:
                    RECORD(begin, self._stream)
                    with USE(self._stream):
                        given = self._candidate(inputs, dict(outputs), shape)
                    RECORD(end, self._stream)
                else:
                    given = self._candidate(inputs, dict(outputs), shape)
            except BaseException as exc:
                made.raised = _words(exc)
            if error := self._synchronise():  # an illegal address: nothing works in this process any more
                made.raised = made.raised or error
            stop = CLOCK()
        self._then = running(self._processes)
        if made.raised is None:
            made.event_ns = stop - start
            if self._cuda:
                try:
                    made.event_ns = round(ELAPSED(begin, end) * 1e6)
                except RuntimeError as exc:
                    made.event_ns = None
                    made.say(
                        "outlives", f"its events had not finished when the device was reported idle ({_words(exc)})"
                    )
            made.given = self._accepted(made, given, {name: placed.tensor for name, placed in made.outputs.items()})

    def _accepted(self, made: Round, given: Any, outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The tensors that count: those returned, else those that were written; none where they are not what was asked for."""
        if given is None:
            return outputs
        if type(given) is not dict or set(given) != set(outputs):
            made.say("not_plain", "returns neither nothing nor a dict of its outputs")
            return {}
        memory = {placed.tensor.untyped_storage().data_ptr() for placed in made.inputs.values()}
        for name, tensor in given.items():
            wanted = outputs[name]
            if type(tensor) is not torch.Tensor or vars(tensor) or tensor.layout != torch.strided:
                made.say("not_plain", f"returns something as {name} that is not a plain tensor")
                return {}
            if tensor.untyped_storage().data_ptr() in memory:
                made.say("alias", f"returns {name} in the memory of an input")
                return {}
            if (tensor.dtype, tensor.shape, tensor.device) != (wanted.dtype, wanted.shape, wanted.device):
                made.say("not_plain", f"returns {name} with another type, shape or device than it was asked for")
                return {}
            if not tensor.is_contiguous() or tensor.requires_grad:
                made.say("not_plain", f"returns {name} with strides or a gradient that nobody asked for")
                return {}
        return dict(given)

    # -- after the clock -----------------------------------------------------------------------------------------------

    def _examine(self, made: Round) -> None:
        """What a call left behind; in a rehearsal the same steps, so that the harness's own work is known."""
        called = self._candidate is not None
        if self._synchronise():
            return
        before = [_digest(tensor) for tensor in made.given.values()]
        if called and (busy := at_work(self._then, self._processes, native=self._native)):
            made.say("running", f"left {busy} computing when the call had ended")
        if before != [_digest(tensor) for tensor in made.given.values()]:
            made.say("running", "went on writing its outputs when the call had ended")
        for name, placed in (*made.inputs.items(), *made.outputs.items()):
            if not self._bare and (count := placed.overwritten()):
                made.say("guards", f"wrote {count} bytes beyond the end or before the start of {name}")
        for name, tensor in self._drawn(made.order).items():
            if not torch.equal(_bits(tensor), _bits(made.inputs[name].tensor)):
                made.say("inputs_changed", f"changed its input {name}")
        for name, tensor in made.given.items():
            with contextlib.suppress(TypeError):
                count = poisoned(tensor)
                if called and made.raised is None and count:
                    made.say("unwritten", f"left {count:,} of {tensor.numel():,} elements of {name} unwritten")
        if called:
            made.objections += self._changed("in a call", whole=self._chance.random() < WHOLE)

    def _changed(self, where: str, *, whole: bool = True) -> list[tuple[str, str]]:
        """What the whole process shares and is another now; `whole`: the harness's own functions too."""
        found = []
        for one in self._watched if whole else self._watched[:1]:
            found += [("surroundings", f"put {what} in place {where}") for what in one.changed_hooks()]
            if replaced := one.changed_functions():
                found.append(("surroundings", f"replaced functions {where}: {_some(replaced)}"))
            found += [("surroundings", f"left {what} changed {where}") for what in one.changed_settings()]
        below = [f"torch._C.{name}" for name, was in self._below.items() if vars(torch._C).get(name) is not was]
        if below:
            found.append(("surroundings", f"replaced functions {where}: {_some(below)}"))
        gone = [name for name, was in self._modules.items() if sys.modules.get(name) is not was]
        if gone:
            found.append(("modules", f"replaced or removed modules {where}: {_some(gone)}"))
        if sys.meta_path != self._finders or sys.path[: len(self._paths)] != self._paths:
            found.append(("modules", f"changed where modules are imported from {where}"))
        now = dict(os.environ)
        changed = [n for n in {**self._variables, **now} if self._variables.get(n) != now.get(n)]
        if changed := [name for name in changed if name not in CHANGEABLE]:
            found.append(("environment", f"changed environment variables {where}: {_some(changed)}"))
        if str(Path.cwd()) != self._folder:
            found.append(("environment", f"changed the working folder {where}"))
        return list(dict.fromkeys(found))

    # -- small parts ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _range(self, name: str) -> Iterator[None]:
        """A range in the recording, where torch can write one."""
        if self._push is None or not self._cuda:
            yield
            return
        self._push(name)
        try:
            yield
        finally:
            self._pop()

    def _synchronise(self) -> str:
        """Wait for the device; what is wrong with it, or nothing."""
        try:
            if self._cuda:
                SYNCHRONIZE(self._device)
                WAIT()  # the same below Python, where nobody can have put something else
        except RuntimeError as exc:
            return _words(exc)
        return ""


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a contiguous tensor."""
    return torch.Tensor.detach(tensor).contiguous().view(-1).view(torch.uint8)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    kinds = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return torch.Tensor.detach(tensor).view(kinds[tensor.element_size()])


def _digest(tensor: torch.Tensor) -> tuple[int, int]:
    """Two sums of the bits: to see whether somebody goes on writing, not to tell values apart."""
    words = _bits(tensor).view(-1)
    return int(words.sum(dtype=torch.int64)), int(words[::3].sum(dtype=torch.int64))


def _words(exc: BaseException) -> str:
    """What was raised, in at most 500 characters."""
    text = str(exc) if isinstance(exc, CandidateError) else f"{type(exc).__name__}: {exc}"
    return " ".join(text.split())[:500]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


if __name__ == "__main__":
    sys.exit(main())
