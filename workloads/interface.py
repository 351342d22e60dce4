"""What a workload file provides, and what the runner promises in return.

    ENTRY.variants                       names and descriptions, in order            (catalog.py)
    setup(device, size, seed) -> Problem once a process: the inputs all variants share
    Problem.inputs(), fresh()            what gets new values before every timed iteration, and how
    Problem.reference()                  the outputs in float64, for the comparison, from the inputs as they are now
    Problem.tolerance, work()            what every variant is held to
    VARIANTS[name](problem) -> Variant
        prepare()                        once, not timed: buffers, streams, threads
        graphs()                         after it, and again as a recording begins: CUDA graphs are captured
        buffers()                        once: which of its buffers hold a copy of an input
        reset()                          before every iteration, not timed: the same state again
        iteration()                      timed: one complete unit of required work, written in stages; on a GPU then some more of
                                         them back to back, for their energy alone (measure.py)
        outputs(), scratch()             some are poisoned before an iteration; outputs are compared
        moves()                          predicted bytes of one iteration's copies
        kernels()                        generated kernels that it runs
        close()                          once, also after a failure: stop threads, drop buffers
    if __name__ == "__main__":
        main(PROGRAM)                    (runner.py)

Required work may not be moved out of `iteration`: `prepare` and `reset` may allocate, register, compile and restore
state, but may not compute, copy or convert anything that the outputs need anew each iteration. Inputs may be *placed*
by `prepare` where a real program's producer could have written them directly, such as pinned host memory; `buffers`
then names them, and the harness puts every new value there itself. What it proves, and what not: proof.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from ..traces.run import Work
from .catalog import Entry
from .inputs import exchange, tensors_in


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an output may lie from the reference: the largest relative error allowed, and why that much.

    Zeros have an error of 1, so no bound reaches that. One of 0.1 or more needs `wide`: why so much of an answer may be wrong.
    """

    bound: float
    reason: str
    wide: str | None = None


class Problem(ABC):
    """The inputs of one process, made once by `setup` and shared by all its variants, which write to its `places` alone.

    What its methods need to remember lies in its attributes: functions and classes of its file may not be replaced meanwhile.
    """

    tolerance: Tolerance
    """Of every output of every variant, unless `tolerance_of` says more."""

    reuse: str | None = None
    """Why the inputs cannot change from one timed iteration to the next; null: they do. The reason is kept with the results."""

    constant: str | None = None
    """Why a tensor of `reference` may hold one value alone, which a variant could write without computing; null: none does."""

    @abstractmethod
    def reference(self) -> Iterable[torch.Tensor]:
        """What `Variant.outputs` should hold, tensor by tensor in the same order, in float64 from the same inputs.

        Called anew for every comparison; yield one tensor at a time where all of them would not fit. Integer results
        (tokens) are given as float64 too: they are compared exactly under a tolerance of 0. What is kept from one call
        to the next must be forgotten in `fresh`.
        """

    def inputs(self) -> Sequence[torch.Tensor]:
        """The tensors that all variants read and `reference` is computed from, and that `fresh` may change.

        By default every tensor found in the problem's attributes, through lists, tuples, dicts and dataclasses, that holds
        floats or integers of at least 32 bits and is not trained. Say less where some must stay: tables, weights that a
        variant may convert once.
        """
        places = {tensor.untyped_storage().data_ptr() for tensor in self.places()}
        found = tensors_in(vars(self))
        return [tensor for tensor in found if tensor.untyped_storage().data_ptr() not in places]

    def places(self) -> Sequence[torch.Tensor]:
        """Tensors of the problem that variants write to: places for results, parameters that are trained.

        Everything else found in the problem's attributes must stay as it is while a variant exists.
        """
        return ()

    def fresh(self, random: torch.Generator) -> None:
        """Give `inputs` other values of the same distribution, in place. `random` is a generator on the CPU.

        By default every input's elements change places, which keeps what their distribution is if they were drawn independently.
        Memory should not be allocated here: it would change what the allocator does in the timed iteration.
        """
        for tensor in self.inputs():
            exchange(tensor, random)

    def work(self) -> Work:
        """One iteration's required work, and the moved bytes of every variant that does not say otherwise by `moves`."""
        raise NotImplementedError

    def tolerance_of(self, variant: str) -> Tolerance | Sequence[Tolerance]:
        """How far the outputs of `variant` may lie from the reference: one for all, or one for each. Tighter than `tolerance`
        where a rung rounds less than others."""
        return self.tolerance

    def to_compare(self, outputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """What is held against `reference`: `outputs` themselves, or what the problem computes from them."""
        return outputs

    def agree(self, number: int) -> int:
        """`number`, or where several processes share the problem's inputs, that of the first of them. Called by all of them."""
        return number

    def around(self, gate: AbstractContextManager[object]) -> AbstractContextManager[object]:
        """What the measured iterations and the energy pass run in: `gate`, the recording's. Several processes open and close it
        in turn."""
        return gate


class Variant(ABC):
    """One way of doing the required work. Constructed with the `Problem`; `prepare` is called before anything else."""

    @property
    def tolerance(self) -> Tolerance | Sequence[Tolerance] | None:
        """Deprecated: tolerances are the problem's (`Problem.tolerance_of`). One set here is an objection, and not used."""
        return None

    def prepare(self) -> None:  # noqa: B027  (nothing to prepare is a complete answer)
        """Everything that a real program would do once, before its first iteration."""

    def graphs(self) -> None:  # noqa: B027  (most variants replay none)
        """Capture the CUDA graphs that `iteration` replays, from buffers that `prepare` made.

        Called after `prepare`, and again as a recording begins: a trace can tell which stage a replayed kernel belongs to only if
        it holds the capture. An iteration must do the same work with the graphs of either call.
        """

    def buffers(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        """Pairs of an input, or a view of one, and the buffer that `prepare` filled from it: pinned memory, a graph's input.

        Both are alike in shape and type; the buffer is the variant's own memory. Asked for once, after `prepare`; the harness
        copies fresh values itself.
        """
        return ()

    def reset(self) -> None:  # noqa: B027  (most iterations keep no state)
        """Restore the state an iteration starts from (weights of a training step, an empty cache)."""

    @abstractmethod
    def iteration(self) -> None:
        """Do all required work once.

        On return the host's part is complete in every thread, and whatever the device still has to do is enqueued. The
        runner then synchronises the problem's device: waiting for the end belongs to the measurement and to no stage.
        Work on other devices is ordered before something on this one (an event its stream waits for).
        """

    @abstractmethod
    def outputs(self) -> Sequence[torch.Tensor]:
        """The latest iteration's results: floating point, or integers of at least 32 bits. Valid after a synchronise.

        Plain tensors that exist already, or views of them: to compute, convert or copy here is an objection.
        """

    def scratch(self) -> Sequence[torch.Tensor]:
        """Buffers that carry data from stage to stage and outlive an iteration.

        They are poisoned together with the outputs, so that a stage which reads one too early finds no plausible
        left-over of the previous iteration there.
        """
        return ()

    def moves(self) -> Mapping[str, int | None]:
        """Bytes that this variant's copies should carry in one iteration, by direction (h2d, d2h, d2d, p2p), where
        `Problem.work` does not say it for all; null: no prediction."""
        return {}

    def kernels(self) -> Mapping[str, str]:
        """The generated kernels that its iterations run: task -> SHA-256 of the source. Asked for once, after them."""
        return {}

    def work(self) -> Work:
        """Deprecated: required work is the problem's, predictions are `moves`. Where it is written, its required part must be the
        problem's, and its moved bytes are used."""
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027  (most variants own nothing that outlives them)
        """Stop what `prepare` started, and put global settings back; must also work after a failure halfway."""


P = TypeVar("P", bound=Problem)


@dataclass(frozen=True, slots=True)
class Program(Generic[P]):
    """A workload, ready to run. `flush_l2` asks for a cold L2 cache before every iteration.

    Raises `ValueError` if `variants` are not exactly the entry's, in its order.
    """

    entry: Entry
    setup: Callable[[torch.device, str, int], P]
    variants: Mapping[str, Callable[[P], Variant]]
    flush_l2: bool = False

    def __post_init__(self) -> None:
        if tuple(self.variants) != self.entry.variant_names:
            raise ValueError(
                f"{self.entry.name} implements {', '.join(self.variants)}, "
                f"but its entry lists {', '.join(self.entry.variant_names)}"
            )
