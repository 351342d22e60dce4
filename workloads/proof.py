"""Was the work done while it was timed? What the harness does about it, and what it saw.

    fresh inputs -> problem and buffers | reset | CLOCK: iteration | devices idle? | outputs() | threads idle? | compare

Every timed iteration gets inputs of its own, before the clock, by code of the harness and the problem. After some of them,
which the variant cannot know (`COMPARED`), the outputs are compared with the reference of just these inputs. Before one of
those the outputs are poisoned, before another one not: a variant that works only where it finds the poison fails there. In a
recorded process inputs are drawn once, before the recording, which then holds nothing but iterations; the last one is compared.

The reference of some inputs is computed after the iteration that used them, so that no copy of it can be found meanwhile. Clocks
and the problem's own functions are taken before the variant exists.

What stays open: variant and harness share one process. A variant that searches its memory for the harness, and changes it
there, can make it say anything; so can one that changes the problem's class. Only another process could prevent that. Work by
code that torch does not see (numpy, ctypes) in `outputs` or `reset` shows in `outputs_ns` and `reset_ns` alone.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..traces.run import Output, Proof, Work
from .interface import Problem, Variant
from .verify import compare, poison, worse

COMPARED: Final = 2
"""Timed iterations of a process whose outputs are compared: each costs a reference. A variant that leaves every other
one out passes one process in eight, with the one that follows poison; and no run of several rounds."""

RECORDED: Final = "the iterations of a recorded process share one fresh draw, so that the recording holds nothing else"

PEEKED_ELEMENTS: Final = 64
PEEKED_TENSORS: Final = 64
"""Of each tensor, and of how many tensors at most, a peek reads elements: enough to see a change, cheap among thousands."""

WINDOW_S: Final = 0.005
"""How long the harness sleeps to see whether other threads go on computing."""

BUSY: Final = 0.2
"""Share of the window that a thread computes which does not wait: little, since threads share cores on a loaded machine."""

SPIN_S: Final = 0.3
"""Idle threads of OpenMP spin before they sleep: those of Intel's runtime for 0.2 s (KMP_BLOCKTIME)."""

LEFT_NS: Final = 1_000_000
"""Waiting for idle devices, and `outputs`, take some microseconds each; an interrupted host takes longer now and then, not every
time that it is looked at."""

OUTPUTS_SHARE: Final = 0.5
"""Of the median iteration, that `outputs` may take where it takes more than `LEFT_NS`."""

CLOCK: Final = time.perf_counter_ns
SYNCHRONIZE: Final = torch.cuda.synchronize
ELAPSED_MS: Final = torch.cuda.Event.elapsed_time
RECORD: Final = torch.cuda.Event.record
AWAIT: Final = torch.cuda.Event.synchronize
_SLEEP, _PROCESS_NS, _THREAD_NS = time.sleep, time.process_time_ns, time.thread_time_ns

_CLOCKS: Final[Sequence[tuple[Any, str, Any]]] = (
    (time, "perf_counter_ns", CLOCK),
    (time, "process_time_ns", _PROCESS_NS),
    (time, "thread_time_ns", _THREAD_NS),
    (time, "sleep", _SLEEP),
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
    (os, "urandom", os.urandom),
    (threading, "enumerate", threading.enumerate),
    (threading, "get_native_id", threading.get_native_id),
)
"""What outputs are compared and iterations are chosen with, bound and looked at like the clocks."""


class Witness:
    """What one variant is held to in this process, and what was seen of it. Made before the variant, from the problem alone.

    A long class because every method adds to one list of objections about one variant, in the order of its iterations.
    """

    def __init__(self, problem: Problem, name: str, iterations: int, recorded: bool) -> None:
        self._problem, self._name, self._recorded = problem, name, recorded
        self._reference, self._fresh, self._to_compare = problem.reference, problem.fresh, problem.to_compare
        self._tolerance = problem.tolerance_of(name)
        self._required = problem.work() if type(problem).work is not Problem.work else None
        self._reuse = problem.reuse
        self._inputs = () if self._reuse else tuple(problem.inputs())
        seed = problem.agree(int.from_bytes(os.urandom(7)))
        self._random = torch.Generator().manual_seed(seed)
        self._places = seed + 1
        choice = random.Random(seed).sample(range(iterations), min(COMPARED, iterations))
        self.compared = [iterations - 1] if recorded else sorted(choice)
        self.poisoned = choice if self._reuse else choice[1:]
        self._buffers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._given: list[torch.Tensor] = []
        self._output: Output | None = None
        self._earlier: list[list[torch.Tensor]] = []
        self._left_ns: list[int] = []
        self._outputs_ns: list[int] = []
        self._objections: dict[str, None] = {}  # a set that keeps the order

    def say(self, what: str) -> None:
        """Write down a sentence about the variant: its name, then `what`."""
        self._objections[f"{self._name} {what}"] = None

    # -- before the clock ----------------------------------------------------------------------------------------------

    def meet(self, variant: Variant) -> None:
        """After `prepare`: which buffers are to be filled. One that cannot be is an objection, and stays as it is."""
        self._variant = variant
        if variant.tolerance is not None:
            self.say("sets a tolerance of its own; the problem's is used, and tolerances belong to it")
        if self._reuse:
            return
        if not self._inputs:
            self.say("has inputs that never change: its problem names none, and gives no reason to reuse them")
        known = {tensor.untyped_storage().data_ptr() for tensor in self._inputs}
        for source, buffer in variant.buffers():
            if not (_plain(source) and _plain(buffer)) or source.untyped_storage().data_ptr() not in known:
                self.say("names a buffer of something that is no input of the problem")
            elif source.shape != buffer.shape or source.dtype != buffer.dtype:
                self.say("names a buffer that differs from its input in shape or type: placing may not convert")
            elif source.data_ptr() != buffer.data_ptr():
                self._buffers.append((source.detach(), buffer.detach()))

    def renew(self) -> None:
        """Fresh values for the problem's inputs and the variant's buffers of them. No code of the variant runs."""
        if not self._inputs:
            return
        before = self._peek(self._inputs)
        if self._given and not _equal(before, self._given):
            self.say("changed the problem's inputs in an iteration")
        self._fresh(self._random)
        for source, buffer in self._buffers:
            buffer.copy_(source)
        self._given = self._peek(self._inputs)
        if _equal(before, self._given):
            self.say("was given the same inputs again: its problem's fresh() changes nothing")

    def poison(self) -> None:
        """Overwrite what the latest iteration left: outputs, and what carries data from stage to stage."""
        poison(self._plain_outputs())
        poison(self._variant.scratch())

    # -- after the clock -----------------------------------------------------------------------------------------------

    def remember(self) -> None:
        """Outputs of an iteration that is not compared, to be recognised should they come again."""
        self._earlier.append(self._peek(self._plain_outputs()))

    def examine(self, number: int) -> None:
        """Timed iteration `number` has just ended: is all of it done, and right?"""
        running = _python_threads()
        self._left_ns.append(_idle_after_ns())
        start = CLOCK()
        outputs = self._plain_outputs()
        if torch.cuda.is_initialized():
            SYNCHRONIZE()
        self._outputs_ns.append(CLOCK() - start)
        then = self._peek(outputs)
        self._problem.agree(0)  # where several processes share the work, all of them look at the same time
        if at_work := _threads_at_work(running, native=not self._recorded):
            self.say(f"left {at_work} computing when timed iteration {number} had ended")
        if not _equal(then, self._peek(outputs)):
            self.say(f"went on writing its outputs when timed iteration {number} had ended")
        if self._inputs and not _equal(self._given, self._peek(self._inputs)):
            self.say(f"changed the problem's inputs in timed iteration {number}")
        found = self._compare(outputs)
        if not found.ok:
            again = bool(then) and any(_equal(then, earlier) for earlier in self._earlier)
            how = "returned outputs of earlier inputs" if again else f"gave wrong outputs ({_how_wrong(found)})"
            self.say(f"{how} in timed iteration {number}")
        self._earlier.append(then)

    def once_more(self, iteration: Callable[[Callable[[Callable[[], None]], None]], object]) -> None:
        """Poison, one more iteration on the same inputs, and what it does outside of `Variant.iteration` watched.

        `iteration` runs one; it gets what is to call `Variant.reset`.
        """
        self.poison()
        in_reset, in_outputs = _Watch(_MOVING), _Watch(frozenset())

        def reset(function: Callable[[], None]) -> None:
            with in_reset:
                function()

        iteration(reset)
        with in_outputs:
            outputs = self._plain_outputs()
        for where, watch in (("reset", in_reset), ("outputs", in_outputs)):
            if watch.computed:
                self.say(f"computes in {where}() ({', '.join(watch.computed)}), which is not timed")
        self._compare(outputs)

    def proof(self, times: Sequence[int], prepare_ns: int, reset_ns: int) -> Proof:
        """Everything that was seen, after the last iteration; `times` are those of the timed ones, in ns."""
        for what, bound in (("times are taken", _CLOCKS), ("outputs are compared", _COMPARING)):
            changed = [f"{owner.__name__}.{name}" for owner, name, right in bound if getattr(owner, name) is not right]
            if changed:
                self.say(f"replaced what {what} with: {', '.join(changed)}")
        if min(self._left_ns) > LEFT_NS:
            self.say(
                f"left work running on a device: {min(self._left_ns) / 1e6:.1f} ms and more after iterations had ended"
            )
        least = min(self._outputs_ns)
        if least > max(LEFT_NS, OUTPUTS_SHARE * statistics.median(times)):
            self.say(f"takes {least / 1e6:.1f} ms and more to hand over its outputs, which is not timed")
        return Proof(
            fresh=bool(self._inputs) and not self._recorded,
            reuse=self._reuse or (RECORDED if self._recorded and self._inputs else None),
            compared=self.compared,
            prepare_ns=prepare_ns,
            reset_ns=reset_ns,
            outputs_ns=max(self._outputs_ns),
            objections=tuple(self._objections),
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
        """The variant's outputs, or none of them where one is no plain tensor: its own code would run whenever it is read."""
        outputs = list(self._variant.outputs())
        odd = sorted({type(one).__name__ for one in outputs if not _plain(one)})
        if odd:
            self.say(f"gives outputs that are no plain tensors on a CPU or a GPU ({', '.join(odd)})")
        return [] if odd else outputs

    def _compare(self, outputs: Sequence[torch.Tensor]) -> Output:
        found = compare(self._to_compare(outputs) if outputs else (), self._reference(), self._tolerance)
        self._output = found if self._output is None else worse(self._output, found)
        return found

    def _peek(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Some elements of some of `tensors`, as bytes, always the same ones of equal shapes."""
        step = -(-len(tensors) // PEEKED_TENSORS) or 1
        places = torch.Generator().manual_seed(self._places)
        return [_elements(tensor, places) for tensor in tensors[::-1][::step] if tensor.numel()]


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


# -- what is left running ----------------------------------------------------------------------------------------------


def _idle_after_ns() -> int:
    """How long it takes until the slowest device that this process uses is idle; 0 without one."""
    if not torch.cuda.is_initialized():
        return 0
    start = CLOCK()
    for index in range(torch.cuda.device_count()):
        if torch._C._cuda_hasPrimaryContext(index):  # to ask another one would begin to use it
            SYNCHRONIZE(index)
    return CLOCK() - start


def _threads_at_work(running: Mapping[int, int], native: bool) -> str:
    """Which threads beside this one go on computing; empty: none. `native`: whether to look at others than Python's too.

    `running` are `_python_threads` as the clock stopped: one that has ended since was not waiting. Native ones are given time to
    stop spinning. Threads that wait, or come back from it now and then, take no time.
    """
    least = BUSY * WINDOW_S * 1e9
    for windows in itertools.count(1):
        mine, whole = _THREAD_NS(), _PROCESS_NS()
        _SLEEP(WINDOW_S)
        now = _python_threads()
        if any(thread not in now or now[thread] - spent > least for thread, spent in running.items()):
            return "a thread"
        if not native or (_PROCESS_NS() - whole) - (_THREAD_NS() - mine) <= least:
            return ""
        if windows * WINDOW_S > SPIN_S:
            return "threads"
    raise AssertionError


def _python_threads() -> dict[int, int]:
    """Processor time in ns of every other thread that Python started, by its number; none where Linux does not tell.

    From files, because asking for the clock of a thread that has just ended is a crash (`time.pthread_getcpuclockid`).
    """
    found = {}
    for number in {thread.native_id for thread in threading.enumerate()} - {threading.get_native_id()}:
        with suppress(OSError, ValueError, IndexError):
            found[number or 0] = int(Path(f"/proc/self/task/{number}/schedstat").read_text(encoding="ascii").split()[0])
    return found


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
