"""What a workload file provides, and what the runner promises in return.

    ENTRY.variants                       names and descriptions, in order            (catalog.py)
    setup(device, size, seed) -> Problem once a process: the inputs all variants share
    Problem.reference()                  the outputs in float64, for the comparison
    VARIANTS[name](problem) -> Variant
        prepare()                        once, not timed: buffers, streams, threads, graphs
        reset()                          before every iteration, not timed: the same state again
        iteration()                      timed: one complete unit of required work, written in stages
        outputs(), scratch()             poisoned before one more iteration, then compared
        work()                           required and predicted work of one iteration
        close()                          once, also after a failure: stop threads, drop buffers
    if __name__ == "__main__":
        main(PROGRAM)                    (runner.py)

Required work may not be moved out of `iteration`: `prepare` and `reset` may allocate, register, compile and restore
state, but may not compute, copy or convert anything that the outputs need anew each iteration. Inputs may be *placed*
by `prepare` where a real program's producer could have written them directly, such as pinned host memory.
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


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an output may lie from the reference: the largest relative error allowed, and why that much."""

    bound: float
    reason: str


class Problem(ABC):
    """The inputs of one process, made once by `setup` and shared, unchanged, by all its variants."""

    tolerance: Tolerance
    """For every variant that has none of its own."""

    @abstractmethod
    def reference(self) -> Iterable[torch.Tensor]:
        """What `Variant.outputs` should hold, tensor by tensor in the same order, in float64 from the same inputs.

        Called anew for every comparison; yield one tensor at a time where all of them would not fit. Integer results
        (tokens) are given as float64 too: they are compared exactly under a tolerance of 0.
        """

    def around(self, gate: AbstractContextManager[object]) -> AbstractContextManager[object]:
        """What the measured iterations run in: `gate`, the recording's. Several processes open and close it in turn."""
        return gate


class Variant(ABC):
    """One way of doing the required work. Constructed with the `Problem`; `prepare` is called before anything else."""

    @property
    def tolerance(self) -> Tolerance | Sequence[Tolerance] | None:
        """A tighter tolerance than the problem's, where this variant rounds less than others, or one for each output; null: the
        problem's."""
        return None

    def prepare(self) -> None:  # noqa: B027  (nothing to prepare is a complete answer)
        """Everything that a real program would do once, before its first iteration."""

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
        """The latest iteration's results: floating point, or integers of at least 32 bits. Valid after a synchronise."""

    def scratch(self) -> Sequence[torch.Tensor]:
        """Buffers that carry data from stage to stage and outlive an iteration.

        They are poisoned together with the outputs, so that a stage which reads one too early finds no plausible
        left-over of the previous iteration there.
        """
        return ()

    @abstractmethod
    def work(self) -> Work:
        """One iteration's required work (equal for all variants) and predicted moved bytes (this variant's own)."""

    def close(self) -> None:  # noqa: B027  (most variants own nothing that outlives them)
        """Stop what `prepare` started; must also work after `prepare` or `iteration` failed halfway."""


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
