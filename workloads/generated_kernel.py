"""generated_kernel: one task of `aisp-trace kernels`, as one writes it in PyTorch, and as the kernel that was verified.

    baseline     | call: PyTorch | call: PyTorch | ...      each call with inputs of its own
    optimized    | call: kernel  | call: kernel  | ...

What it proves: that the kernel is right, and how fast it is, where it is used: called again and again through the guard
(`kernels/guard.py`), outputs from the framework's allocator, between an ordinary program's other work. `kernels verify` asks the
same of the kernel alone, and asks harder; here it is a pair like any other, with stages, rounds, traces, claims and a page.

Baseline. `Task.eager`, in the task's first element type, run eagerly.

Optimized. The newest source of ``artifacts/kernels/TASK`` that was verified with this compiler, on this architecture, for this
element type and shape. Asking for the task is what enables it. If the guard does not let it through, the variant fails and says
why: PyTorch in the kernel's place would be a comparison of PyTorch with itself.

Stages. Each call is one, called as the task, with the bytes that the task has to move (`Task.bytes`); PyTorch's own operations
may move more. The task's large shape leaves nothing of one call in the L2 cache for the next. Outputs are held against float64
by the norm of their error alone (`Task.tolerances`); the worst element is what `kernels verify` looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import torch

from ..capture.stages import stage
from ..kernels.guard import kernel
from ..kernels.task import Shape, Task
from ..kernels.tasks import find as find_task
from ..traces.errors import WorkloadError
from ..traces.run import Work
from .catalog import find
from .interface import Problem, Program, Tolerance, Variant
from .runner import main

SMALL_BYTES: Final = 1 << 20
"""Required bytes of the shape that size tiny, and a CPU in all sizes, takes at most: some microseconds on a GPU."""

CALLS: Final[Mapping[tuple[str, str], int]] = {
    # Large shapes of 0.2 to 2 GB: four sets of inputs and outputs fit any GPU that a kernel is worth writing for.
    ("cuda", "tiny"): 4,
    ("cuda", "default"): 4,
    ("cuda", "large"): 16,
    ("cpu", "tiny"): 4,
    ("cpu", "default"): 32,
    ("cpu", "large"): 128,
}
"""Calls in an iteration."""


class Calls(Problem):
    """The inputs of every call of an iteration."""

    def __init__(self, device: torch.device, size: str, seed: int, task: str) -> None:
        if device.type == "cpu":
            torch.set_num_threads(1)
        self.device = device
        self.task: Task = find_task(task)
        self.dtype = self.task.dtypes[0]
        self.shape = shape_of(self.task, self.dtype, device.type, size)
        allowed = self.task.tolerances[self.dtype]
        self.tolerance = Tolerance(allowed.norm, allowed.reason)
        random = torch.Generator(device).manual_seed(seed)
        count = CALLS[device.type, size]
        self.calls = [self.task.draw(random, self.shape, self.dtype, device) for _ in range(count)]

    def reference(self) -> Iterator[torch.Tensor]:
        """Every output of every call, in order."""
        for inputs in self.calls:
            found = self.task.reference(inputs, self.shape)
            yield from (found[output.name] for output in self.task.outputs)

    @property
    def required_bytes(self) -> int:
        """What one call has to read and write."""
        return self.task.bytes(self.shape, self.dtype)

    def work(self) -> Work:
        """The task's own figures; nothing is copied."""
        count = len(self.calls)
        written = sum(output.nbytes(self.shape, self.dtype) for output in self.task.outputs)
        return Work(
            items=count,
            unit="calls",
            flops=count * self.task.flops(self.shape, self.dtype),
            input_bytes=count * (self.required_bytes - written),
            output_bytes=count * written,
            # Within the device, PyTorch copies as it likes.
            moved_bytes={"h2d": 0, "d2h": 0, "d2d": None},
        )


def shape_of(task: Task, dtype: str, device: str, size: str) -> Shape:
    """The task's first shape, or the largest small one."""
    if device == "cuda" and size != "tiny":
        return task.shapes[0]
    small = [shape for shape in task.shapes if task.bytes(shape, dtype) <= SMALL_BYTES]
    return max(small, key=lambda shape: task.bytes(shape, dtype))


class Eager(Variant):
    """PyTorch."""

    def __init__(self, problem: Calls) -> None:
        self.problem = problem
        self._outputs: list[torch.Tensor] = []

    def iteration(self) -> None:
        problem, task = self.problem, self.problem.task
        self._outputs = []
        for inputs in problem.calls:
            with stage(task.name, kind="compute", nbytes=problem.required_bytes):
                found = self._call(inputs)
            self._outputs += [found[output.name] for output in task.outputs]

    def _call(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return self.problem.task.eager(inputs, self.problem.shape, self.problem.dtype)

    def outputs(self) -> Sequence[torch.Tensor]:
        return self._outputs


class Generated(Eager):
    """The kernel, through the guard."""

    def prepare(self) -> None:
        """Compiles the kernel, or finds it in the cache; raises `WorkloadError` if the guard does not let it through."""
        task = self.problem.task
        self._kernel = kernel(task.name, dtype=self.problem.dtype, enabled=True)
        decision = self._kernel.decide(**self.problem.calls[0])
        if not decision.used:
            raise WorkloadError(decision.reason)
        self._sha256 = decision.sha256

    def _call(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = self._kernel(**inputs)
        if not self._kernel.decision.used:
            raise WorkloadError(self._kernel.decision.reason)
        return found if isinstance(found, dict) else {self.problem.task.outputs[0].name: found}

    def kernels(self) -> Mapping[str, str]:
        return {self.problem.task.name: self._sha256}


VARIANTS: Final[Mapping[str, Callable[[Calls], Variant]]] = {"baseline": Eager, "optimized": Generated}

PROGRAM: Final = Program(entry=find("generated_kernel"), setup=Calls, variants=VARIANTS)  # type: ignore[arg-type]  # the runner names the task

if __name__ == "__main__":
    main(PROGRAM)
