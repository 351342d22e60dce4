"""Was the work done while it was timed? What the harness does about it, and what it saw.

    fresh inputs -> problem and buffers | reset | CLOCK: iteration | devices idle? | outputs() | threads idle? | compare

Every timed iteration gets inputs of its own, before the clock, by code of the harness and the problem. After some of them,
which the variant cannot know (`COMPARED`), the outputs are compared with the reference of just these inputs. Before one of
those the outputs are poisoned, before another one not: a variant that works only where it finds the poison fails there. In a
recorded process inputs are drawn once, before the recording, which then holds nothing but iterations; the last one is compared.

The reference of some inputs is computed after the iteration that used them, so that no copy of it can be found meanwhile. Clocks
and the problem's own functions are taken before the variant exists.

The problem must stay what it was before the variant existed (held.py), and so must what the whole process shares: handlers,
hooks, functions, settings (surroundings.py). Nothing may go on computing when the clock has stopped (running.py).

What stays open: variant and harness share one process. A variant that searches its memory for the harness, and changes it
there, can make it say anything. Only another process could prevent that. Work by code that torch does not see (numpy, ctypes) in
`outputs` or `reset` shows in `outputs_ns` and `reset_ns` alone.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..traces.run import Output, Proof, Work
from .held import Held, memory_bytes
from .interface import Problem, Tolerance, Variant
from .running import CLOCK, PROCESS_NS, SLEEP, SYNCHRONIZE, THREAD_NS, at_work, descendants, idle_after_ns, running
from .surroundings import Surroundings, genuine
from .verify import compare, poison, worse

MORE: Final = 0.5
"""Chance that one more iteration is compared, however many have been: their count says nothing of what is to come. The last one
of a process is always compared, and one other; each costs a reference. A variant that leaves out half of its iterations, drawn at
random, passes one process in twelve, and no run of several rounds."""

RECORDED: Final = "the iterations of a recorded process share one fresh draw, so that the recording holds nothing else"

PEEKED_ELEMENTS: Final = 64
PEEKED_TENSORS: Final = 64
"""Of each tensor, and of how many tensors at most, a peek reads elements: enough to see a change, cheap among thousands."""

LEFT_NS: Final = 1_000_000
"""Waiting for idle devices, and `outputs`, take some microseconds each; an interrupted host takes longer now and then, not every
time that it is looked at."""

SAME_INPUTS: Final = "was given the same inputs again: its problem's fresh() changes nothing"

AHEAD_NS: Final = 100_000
AHEAD_SHARE: Final = 0.1
"""What other threads and processes may compute while inputs are drawn, and the share of the median iteration: one that waits
takes microseconds, one that looks out for new inputs to begin before the clock does takes what the drawing does, or the work."""

OUTPUTS_SHARE: Final = 0.5
"""Of the median iteration, that `outputs` may take where it takes more than `LEFT_NS`. Outputs are compared whenever they are
asked for, so what they cost at least is what they cost: an interrupted host adds to some."""

WIDE: Final = 0.1
"""A tolerance from which on its problem says why so much of an answer may be wrong."""

ELAPSED_MS: Final = torch.cuda.Event.elapsed_time
RECORD: Final = torch.cuda.Event.record
AWAIT: Final = torch.cuda.Event.synchronize

_CLOCKS: Final[Sequence[tuple[Any, str, Any]]] = (
    (time, "perf_counter_ns", CLOCK),
    (time, "process_time_ns", PROCESS_NS),
    (time, "thread_time_ns", THREAD_NS),
    (time, "sleep", SLEEP),
    (torch.cuda, "synchronize", SYNCHRONIZE),
    (torch.cuda.Event, "elapsed_time", ELAPSED_MS),
    (torch.cuda.Event, "record", RECORD),
    (torch.cuda.Event, "synchronize", AWAIT),
)
"""What times are taken with: bound when this module is imported, and looked at again at the end."""

_COMPARING: Final[Sequence[tuple[Any, str, Any]]] = (
    (torch.linalg, "vector_norm", torch.linalg.vector_norm),
    (torch, "equal", torch.equal),
    (torch, "randint", torch.randint),
    (random.Random, "sample", random.Random.sample),
    (random.Random, "random", random.Random.random),
    (os, "urandom", os.urandom),
    (threading, "enumerate", threading.enumerate),
    (threading, "get_native_id", threading.get_native_id),
)
"""What outputs are compared and iterations are chosen with, bound and looked at like the clocks."""

_FALSE: Final = frozenset(
    f"{owner.__name__}.{name}" for owner, name, _ in (*_CLOCKS, *_COMPARING) if not genuine(owner, name)
)
"""Those that had been replaced already when this module was imported, by the workload's own file."""


class Witness:
    """What one variant is held to in this process, and what was seen of it. Made before the variant, from the problem alone.

    A long class because every method adds to one list of objections about one variant, in the order of its iterations.
    """

    def __init__(self, problem: Problem, name: str, iterations: int, recorded: bool) -> None:
        self._problem, self._name, self._recorded = problem, name, recorded
        self._reference, self._fresh, self._to_compare = problem.reference, problem.fresh, problem.to_compare
        self._constant = problem.constant
        self._tolerance = problem.tolerance_of(name)
        self._required = problem.work() if type(problem).work is not Problem.work else None
        self._reuse = problem.reuse
        self._inputs = () if self._reuse else tuple(problem.inputs())
        seed = problem.agree(int.from_bytes(os.urandom(7)))
        self._random = torch.Generator().manual_seed(seed)
        self._places = self._input_places = seed + 1
        self.compared, self.poisoned = _choose(random.Random(seed), 1 if recorded else iterations, bool(self._reuse))
        if recorded:
            self.compared = [iterations - 1]
        self._buffers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._given: list[torch.Tensor] = []
        self._output: Output | None = None
        self._earlier: list[list[torch.Tensor]] = []
        self._answers: list[list[list[float]]] = []
        self._left_ns: list[int] = []
        self._gaps_ns: list[int] = []
        self._ahead_ns: list[int] = []
        self._outputs_ns: list[int] = []
        self._objections: dict[str, None] = {}  # a set that keeps the order
        for one in self._tolerances():
            if not 0 <= one.bound < 1:
                self.say(f"is held to a tolerance of {one.bound:.3g}, by which zeros, or anything, are right")
            elif one.bound >= WIDE and not one.wide:
                self.say(
                    f"is held to a tolerance of {one.bound:.3g}; from {WIDE:.3g} on its problem says why (Tolerance.wide)"
                )
        places = problem.places()
        self._held = Held(
            problem, [*problem.inputs(), *places] if not self._reuse else places, random.Random(seed).getrandbits(30)
        )
        self._processes = descendants()
        self._surroundings = Surroundings(problem)

    def say(self, what: str) -> None:
        """Write down a sentence about the variant: its name, then `what`."""
        self._objections[f"{self._name} {what}"] = None

    # -- before the clock ----------------------------------------------------------------------------------------------

    def meet(self, variant: Variant) -> None:
        """After `prepare`: which buffers are to be filled. One that cannot be is an objection, and stays as it is."""
        self._variant = variant
        self.look("in prepare()")
        if variant.tolerance is not None:
            self.say("sets a tolerance of its own; the problem's is used, and tolerances belong to it")
        if self._reuse:
            return
        if not self._inputs:
            self.say("has inputs that never change: its problem names none, and gives no reason to reuse them")
        known = {tensor.untyped_storage().data_ptr() for tensor in self._inputs}
        for source, buffer in variant.buffers():
            if not (_plain(source) and _plain(buffer)) or source.untyped_storage().data_ptr() not in known:
                self.say("names a buffer of something that is not an input of the problem")
            elif source.shape != buffer.shape or source.dtype != buffer.dtype:
                self.say("names a buffer that differs from its input in shape or type: placing may not convert")
            elif source.data_ptr() != buffer.data_ptr() and self._held.owns(buffer):
                self.say("names a buffer that is the problem's own: one input would be given the values of another")
            elif source.data_ptr() != buffer.data_ptr():
                self._buffers.append((source.detach(), buffer.detach()))

    def renew(self) -> None:
        """Fresh values for the problem's inputs and the variant's buffers of them. No code of the variant runs."""
        if not self._inputs:
            return
        others = running(self._processes)
        before = self._peek(self._inputs, self._input_places)
        if self._given and not _equal(before, self._given):
            self.say("changed the problem's inputs in an iteration")
        self._rearranged("in an iteration")
        self._fresh(self._random)
        self._held.take()
        for source, buffer in self._buffers:
            buffer.copy_(source)
        if _equal(before, self._peek(self._inputs, self._input_places)):
            self.say(SAME_INPUTS)
        self._input_places += 1
        self._given = self._peek(self._inputs, self._input_places)
        self._ahead_ns.append(running(self._processes).since(others))

    def poison(self) -> None:
        """Overwrite what the latest iteration left: outputs, and what carries data from stage to stage."""
        poison(self._plain_outputs())
        poison(self._variant.scratch())

    # -- after the clock -----------------------------------------------------------------------------------------------

    def remember(self) -> None:
        """Outputs of an iteration that is not compared, to be recognised should they come again."""
        self._earlier.append(self._peek(self._plain_outputs(), self._places))

    def examine(self, number: int, gap_ns: int) -> None:
        """Timed iteration `number` has just ended: is all of it done, and right? `gap_ns` went by since the clock stopped."""
        where = f"in timed iteration {number}"
        then = running(self._processes)
        self._hooked(where)
        self._left_ns.append(idle_after_ns())
        self._gaps_ns.append(gap_ns)
        self._rearranged(where)
        others, start, mine = running(self._processes), CLOCK(), THREAD_NS()
        given = list(self._variant.outputs())
        if torch.cuda.is_initialized():
            SYNCHRONIZE()
            took = CLOCK() - start
        else:  # on processors that others want, too, what was computed says more than what went by
            took = THREAD_NS() - mine + running(self._processes).since(others)
        self._outputs_ns.append(gap_ns + took)
        outputs = self._only_plain(given)
        seen = self._peek(outputs, self._places)
        self._problem.agree(0)  # where several processes share the work, all of them look at the same time
        if busy := at_work(then, self._processes, native=not self._recorded):
            self.say(f"left {busy} computing when timed iteration {number} had ended")
        if not _equal(seen, self._peek(outputs, self._places)):
            self.say(f"went on writing its outputs when timed iteration {number} had ended")
        self.look(where)
        self._unchanged_inputs(where)
        found = self._compare(outputs, keep=True)
        self._unchanged_inputs(where)
        if not found.ok:
            again = bool(seen) and any(_equal(seen, earlier) for earlier in self._earlier)
            how = "returned outputs of earlier inputs" if again else f"gave wrong outputs ({_how_wrong(found)})"
            self.say(f"{how} {where}")
        self._earlier.append(seen)

    def once_more(self, iteration: Callable[[Callable[[Callable[[], None]], None]], object]) -> None:
        """Poison, one more iteration on the same inputs, and what it does outside `Variant.iteration` watched.

        `iteration` runs one; it gets what is to call `Variant.reset`.
        """
        self.poison()
        in_reset, in_outputs = _Watch(_MOVING), _Watch(frozenset())

        def reset(function: Callable[[], None]) -> None:
            with in_reset:
                function()
            self.look("in reset()")

        iteration(reset)
        with in_outputs:
            outputs = self._plain_outputs()
        for where, watch in (("reset", in_reset), ("outputs", in_outputs)):
            if watch.computed:
                self.say(f"computes in {where}() ({', '.join(watch.computed)}), which is not timed")
        self._compare(outputs)

    def end(self) -> None:
        """After the last iteration, before `close` may put anything back."""
        self.look("in its iterations")
        self._unchanged_inputs("in its iterations")
        if self._answers and len(self._answers) > 1 and not self._recorded and self._inputs:
            self._same_answers()

    def leave(self, alone: bool) -> None:
        """After `close`: what is left for the next variant of this process; `alone`: there is none."""
        if (busy := at_work(running(self._processes), self._processes, native=False)) and not alone:
            self.say(f"left {busy} computing after close()")
        self.look("in close()")
        if (left := self._surroundings.changed_settings()) and not alone:
            self.say(f"leaves {_some(left)} changed; put it back in close(), where the next variant starts")

    def proof(self, times: Sequence[int], prepare_ns: int, reset_ns: int) -> Proof:
        """Everything that was seen, after `close`; `times` are those of the timed iterations, in ns."""
        if min(self._left_ns) > LEFT_NS:
            self.say(
                f"left work running on a device: {min(self._left_ns) / 1e6:.1f} ms and more after iterations had ended"
            )
        ahead = statistics.median(self._ahead_ns) if self._ahead_ns else 0
        if ahead > max(AHEAD_NS, AHEAD_SHARE * statistics.median(times)):
            self.say(
                f"computes for {ahead / 1e6:.2f} ms in other threads while inputs are drawn, before the clock starts"
            )
        if min(self._gaps_ns) > LEFT_NS:
            self.say(f"ran on for {min(self._gaps_ns) / 1e6:.1f} ms and more when the clock had stopped")
        least = min(self._outputs_ns)
        if least > max(LEFT_NS, OUTPUTS_SHARE * statistics.median(times)):
            self.say(f"takes {least / 1e6:.1f} ms and more to hand over its outputs, which is not timed")
        return Proof(
            fresh=bool(self._inputs) and not self._recorded,
            reuse=self._reuse or (RECORDED if self._recorded and self._inputs else None),
            compared=self.compared,
            prepare_ns=prepare_ns,
            reset_ns=reset_ns,
            outputs_ns=min(self._outputs_ns),
            objections=tuple(self._objections),
            drawn_bytes=memory_bytes(self._inputs),
            problem_bytes=self._held.nbytes,
        )

    def output(self) -> Output:
        """The worst of all comparisons."""
        assert self._output is not None
        return self._output

    def work(self) -> Work:
        """The problem's required work with the bytes that the variant predicts."""
        variant, required = self._variant, self._required
        stated = variant.work() if type(variant).work is not Variant.work else None
        if required is None and stated is None:
            raise NotImplementedError(f"{type(self._problem).__name__} says nothing of its required work; write work()")
        if required is None:
            assert stated is not None
            self.say("states its required work itself; write work() of the problem, to which all variants are held")
            return stated
        if stated is None:
            return replace(required, moved_bytes={**required.moved_bytes, **variant.moves()})
        for field in ("items", "unit", "flops", "input_bytes", "output_bytes"):
            one, other = getattr(required, field), getattr(stated, field)
            if one != other:
                self.say(f"states other required work than its problem: {field} is {other}, not {one}")
                break
        return replace(required, moved_bytes=stated.moved_bytes)

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _plain_outputs(self) -> list[torch.Tensor]:
        """The variant's outputs, or none of them where one is not a plain tensor: its own code would run whenever it is read."""
        return self._only_plain(list(self._variant.outputs()))

    def _only_plain(self, outputs: list[torch.Tensor]) -> list[torch.Tensor]:
        odd = sorted({type(one).__name__ for one in outputs if not _plain(one)})
        if odd:
            self.say(f"gives outputs that are not plain tensors on a CPU or a GPU ({', '.join(odd)})")
        return [] if odd else outputs

    def _compare(self, outputs: Sequence[torch.Tensor], keep: bool = False) -> Output:
        """Outputs against the reference, of which some elements are kept if asked to, to be held against later ones."""
        kept: list[list[float]] = []
        compared = self._to_compare(outputs) if outputs else ()
        found = compare(compared, self._looked_at(self._reference(), kept), self._tolerance)
        self._held.take()
        if keep:
            self._answers.append(kept)
        self._output = found if self._output is None else worse(self._output, found)
        return found

    def _looked_at(self, reference: Iterable[torch.Tensor], kept: list[list[float]]) -> Iterator[torch.Tensor]:
        """`reference`, tensor by tensor: a few elements of each are kept, and one that holds a single value is an objection."""
        places = torch.Generator().manual_seed(self._places)
        for number, tensor in enumerate(reference):
            if tensor.numel():
                kept.append(_elements(tensor, places).view(tensor.dtype).tolist())
                low, high = map(float, tensor.detach().aminmax())
                if low == high and (tensor.numel() > 1 or low == 0) and not self._constant:
                    self.say(
                        f"has a reference that is {low:.3g} everywhere in tensor {number}; "
                        "a problem that means that says why (Problem.constant)"
                    )
            yield tensor

    def _same_answers(self) -> None:
        """An objection where what is right for the inputs of one iteration is right for all others that were compared."""
        each = self._tolerances()

        def alike(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> bool:
            for number, (some, others) in enumerate(zip(one, other, strict=False)):
                apart = math.dist(some, others)
                if not apart <= each[min(number, len(each) - 1)].bound * math.hypot(*others):
                    return False
            return True

        if all(alike(one, other) for one, other in pairwise(self._answers)) and not self._says(SAME_INPUTS):
            self.say(
                "has the same right answer, within its tolerance, for all inputs that were drawn: a kept result would pass"
            )

    def _says(self, what: str) -> bool:
        return f"{self._name} {what}" in self._objections

    def _tolerances(self) -> Sequence[Tolerance]:
        return [self._tolerance] if isinstance(self._tolerance, Tolerance) else list(self._tolerance)

    # -- what must stay ------------------------------------------------------------------------------------------------

    def look(self, where: str) -> None:
        """Problem and process, whole: what is otherwise than before the variant existed is an objection."""
        self._hooked(where)
        self._replaced()
        self._rearranged(where)
        if path := self._held.rewritten():
            self.say(f"wrote to {path} of its problem {where}, which is neither among its inputs() nor its places()")

    def _hooked(self, where: str) -> None:
        if changed := self._surroundings.changed_hooks():
            self.say(f"changed {_some(changed)} {where}: code that runs by itself is not timed")

    def _rearranged(self, where: str) -> None:
        if what := self._held.rearranged():
            self.say(f"changed its problem {where}: {what}")

    def _replaced(self) -> None:
        told: set[str] = set()
        for what, bound in (("times are taken", _CLOCKS), ("outputs are compared", _COMPARING)):
            named = [(f"{owner.__name__}.{name}", owner, name, right) for owner, name, right in bound]
            changed = [one for one, owner, name, right in named if getattr(owner, name) is not right or one in _FALSE]
            if changed:
                self.say(f"replaced what {what} with: {', '.join(changed)}")
            told |= set(changed)
        if others := [one for one in self._surroundings.changed_functions() if one not in told]:
            self.say(f"replaced functions that the harness or its problem may call: {_some(others)}")

    def _unchanged_inputs(self, where: str) -> None:
        if self._inputs and not _equal(self._given, self._peek(self._inputs, self._input_places)):
            self.say(f"changed the problem's inputs {where}")

    def _peek(self, tensors: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
        """Some elements of some of `tensors`, as bytes; the same ones of equal shapes for the same `seed`."""
        places = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(tensors), generator=places)[:PEEKED_TENSORS].tolist()
        return [_elements(tensors[i], places) for i in chosen if tensors[i].numel()]


def _choose(chance: random.Random, iterations: int, reuse: bool) -> tuple[list[int], list[int]]:
    """Which of the timed iterations are compared, in order, and before which of them the outputs are poisoned.

    The first drawn is never poisoned, so that one who works where it finds the poison fails there; where inputs are reused,
    all are, since what an earlier iteration left would be right.
    """
    count = 1
    while chance.random() < MORE:
        count += 1
    first = range(max(iterations - 1, 0))
    chosen = [*chance.sample(first, min(count, len(first))), iterations - 1]
    poisoned = (
        chosen if reuse or len(chosen) < 2 else [chosen[1], *(one for one in chosen[2:] if chance.random() < 0.5)]
    )
    return sorted(chosen), poisoned


def _some(names: Sequence[str]) -> str:
    """The first three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _elements(tensor: torch.Tensor, places: torch.Generator) -> torch.Tensor:
    chosen = torch.randint(tensor.numel(), (PEEKED_ELEMENTS,), generator=places)
    chosen[0] = tensor.numel() - 1
    values = tensor.detach()
    found = values.view(-1)[chosen] if values.is_contiguous() else values[torch.unravel_index(chosen, values.shape)]
    return found.cpu().view(torch.uint8)


def _equal(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> bool:
    return len(some) == len(others) and all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def _plain(tensor: Any) -> bool:
    """Nothing but a tensor, with memory that exists."""
    return type(tensor) is torch.Tensor and tensor.layout == torch.strided and tensor.device.type in ("cpu", "cuda")


def _how_wrong(output: Output) -> str:
    if output.poisoned:
        return f"{output.poisoned:,} elements were not written"
    error = "not finite" if output.error is None else f"{output.error:.3g}"
    return f"error {error}, tolerance {output.tolerance:.3g}"


# -- what is computed where nothing is timed -----------------------------------------------------------------------------

_MOVING: Final = frozenset(
    {
        *("copy_", "fill_", "zero_", "clone", "_to_copy", "_foreach_copy_", "_foreach_zero_", "copy"),
        *(
            "empty",
            "empty_like",
            "empty_strided",
            "new_empty",
            "zeros",
            "zeros_like",
            "new_zeros",
            "full",
            "full_like",
            "ones",
        ),
        *("index", "index_select", "gather", "index_copy_", "index_put_", "scatter_", "cat", "stack", "scalar_tensor"),
        *("_unsafe_view", "_local_scalar_dense", "barrier", "arange"),
    }
)
"""Operations of `reset` that put things where they were, and compute nothing."""


class _Watch(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
    """Names the operations that are neither views nor `allowed`, in `computed`, once each."""

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__()
        self._allowed = allowed
        self.computed: dict[str, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if not func.is_view and name not in self._allowed and func.namespace != "profiler":  # ranges compute nothing
            self.computed[name] = None
        return func(*args, **(kwargs or {}))
