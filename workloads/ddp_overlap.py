"""ddp_overlap: two ranks train one model on halves of a batch, and sum their gradients after backward or during it.

    baseline    forward | backward          | reduce w64 | reduce b64 | reduce w63 | ...          | optimizer
    bucketed    forward | backward          | reduce bucket 0 | reduce bucket 1 | ...   | optimizer
    optimized   forward | backward          | optimizer
                           reduce bucket 0 | reduce bucket 1 | ...

What it proves: communication hides under backward, because the gradients of the last layers are complete long before
those of the first; and few large collectives cost less than many small ones, each of which has a latency of its own.

The model is a deep residual perceptron in fp32, x += gelu(x W + b), trained for one step of plain SGD from the same
state in every iteration. `SHAPES` make communication about as long as backward.

Baseline. `average_gradients` of PyTorch's own tutorial on writing distributed applications: after `backward`, for every
parameter in turn, ``dist.all_reduce(p.grad); p.grad /= world``. Hand-written data parallel training often looks like
it.

Rungs. `bucketed`: gradients are accumulated into views of flat buckets (as DistributedDataParallel and Megatron-LM's
contiguous gradient buffer do), and each bucket, about one layer, is reduced and divided at once. `optimized`: as soon as
backward has filled a bucket, a hook of its last parameter begins its all-reduce, which runs beside the rest of backward;
the buckets and the divisions stay what they were. On CUDA the hook enqueues it (NCCL has a stream of its own). gloo would
do the work in threads of its own that no range could tell of, so on the CPU a thread of ours makes the blocking call
inside the stage.

Measurement. All ranks run the same iterations. Each begins with a barrier, outside what is timed; the time is that
of rank 0, whose optimizer cannot begin before the slowest rank has given its gradients. Compared with the float64
reference, which is one process with the whole batch, are the averaged gradients and the new weights of rank 0, and with
zero how far the ranks' weights differ. Both halves of the batch lie on their devices: loading is another workload's
matter, and nothing should cross between host and device.

Stages. `zero_grad`, `forward`, `loss`, `backward`, then `all_reduce` and `average` in turns, `wait` (only in the
optimized variant: until every bucket is there), `optimizer`. In the optimized variant `all_reduce` is opened by the
thread that runs the hooks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.distributed as dist
from torch.nn.functional import gelu

from ..capture.stages import stage
from ..traces.run import Work
from .catalog import find
from .interface import Problem, Program, Tolerance, Variant
from .ranks import Pending, Ranks, join
from .runner import main

WORLD: Final = 2
LEARNING_RATE: Final = 0.5
"""Large enough that a step changes every weight visibly; one step from the same state needs no stability."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`rows` x `width` floats a rank, through `layers` layers; gradients in buckets of `bucket_bytes`."""

    rows: int
    width: int
    layers: int
    bucket_bytes: int


SHAPES: Final[Mapping[tuple[str, str], Shape]] = {
    # Between two H200s a layer's 67 MB of gradients take 0.26 ms; the layer takes 0.14 ms forward and 0.21 ms backward. Layers
    # are few and wide, because a host needs 0.1 to 0.2 ms to begin one collective: with 64 layers of 1,536 it could not keep up
    # while it was traced, 1.5 times as long an iteration. Rows are few because overlap has a price: NCCL's 24 thread blocks
    # hold as many multiprocessors, and a matrix product of backward, which fills all 132 in one wave, then needs two. With
    # 256 rows 1.03 times as fast is left of it, with 512 nothing (0.99).
    ("cuda", "tiny"): Shape(rows=64, width=256, layers=6, bucket_bytes=512 << 10),
    ("cuda", "default"): Shape(rows=128, width=4096, layers=16, bucket_bytes=65 << 20),
    ("cuda", "large"): Shape(rows=128, width=8192, layers=16, bucket_bytes=257 << 20),
    # gloo moves about 1 GB/s over the loopback; few rows keep backward to a few times that.
    ("cpu", "tiny"): Shape(rows=32, width=64, layers=6, bucket_bytes=32 << 10),
    ("cpu", "default"): Shape(rows=256, width=256, layers=12, bucket_bytes=512 << 10),
    ("cpu", "large"): Shape(rows=256, width=256, layers=48, bucket_bytes=512 << 10),
}


class DataParallel(Problem):
    """The model (equal on all ranks) and the whole batch, of which this rank trains on its own part."""

    tolerance = Tolerance(
        bound=5e-5,
        reason=(
            "a gradient is a chain of fp32 products through all layers; each rounds to about sqrt(8192) * 2^-24 = 5e-6 of its "
            "length at worst, and the residual stream carries that through 16 layers as the square root of their number, "
            "2e-5; TF32 would give 1e-3, and half of the batch left out, or summed and not averaged, more than 1e-1"
        ),
    )

    constant = "no two ranks may differ in any weight, and that difference is compared like an output"

    def __init__(
        self, device: torch.device, size: str, seed: int, meet: Callable[[torch.device, int], Ranks] = join
    ) -> None:
        torch.set_float32_matmul_precision("highest")
        if device.type == "cpu":
            torch.set_num_threads(1)  # a thread computes, another one communicates
        self.device = device
        self.shape = shape = SHAPES[device.type, size]
        self.ranks = meet(device, WORLD)
        random = torch.Generator(device).manual_seed(seed)

        def normal(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=random, device=device)

        self.batch, self.target = (normal(WORLD * shape.rows, shape.width) for _ in range(2))
        self.start = []
        for _ in range(shape.layers):
            self.start += [normal(shape.width, shape.width) * 0.5 * shape.width**-0.5, normal(shape.width) * 0.1]
        self.parameters = [p.clone().requires_grad_() for p in self.start]
        mine = slice(self.ranks.rank * shape.rows, (self.ranks.rank + 1) * shape.rows)
        self.x, self.y = self.batch[mine], self.target[mine]

    def around(self, gate: AbstractContextManager[object]) -> AbstractContextManager[object]:
        """Rank 0 opens the recording first and closes it last, so that it holds the ranges of all ranks whole.

        No rank goes on before the recorder has stopped: one that launched work meanwhile was seen to hang in it.
        """
        return self._in_turn(gate)

    @contextmanager
    def _in_turn(self, gate: AbstractContextManager[object]) -> Iterator[None]:
        if self.ranks.rank == 0:
            with gate:
                self.ranks.barrier()
                yield
                self.ranks.barrier()
        else:
            self.ranks.barrier()
            with gate:
                yield
            self.ranks.barrier()
        self.ranks.barrier()

    def agree(self, number: int) -> int:
        """Rank 0's number: all ranks draw the same batch, and are examined after the same iterations."""
        return self.ranks.agree(number)

    def inputs(self) -> Sequence[torch.Tensor]:
        """The whole batch, of which every rank holds a copy. The weights stay: an iteration is always the same step."""
        return [self.batch, self.target]

    def places(self) -> Sequence[torch.Tensor]:
        """The parameters, which every iteration trains."""
        return self.parameters

    def to_compare(self, outputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Gradients, weights, and for every weight the largest difference between any two ranks. All ranks call it together."""
        count = len(self.parameters)
        if len(outputs) < count:
            outputs = [
                *outputs,
                *(p.detach() for p in self.parameters),
            ]  # what is missing is missed, but by all ranks alike
        rows = []
        for p in outputs[-count:]:
            highest, lowest = p.clone(), p.clone()
            self.ranks.all_reduce(highest, dist.ReduceOp.MAX).wait()
            self.ranks.all_reduce(lowest, dist.ReduceOp.MIN).wait()
            rows.append((highest - lowest).max())
        return [*outputs, torch.stack(rows)]

    def reference(self) -> Iterator[torch.Tensor]:
        """Gradients, then new weights, of the whole batch in float64; then no difference between ranks."""
        parameters = [p.double().requires_grad_() for p in self.start]
        loss(forward(parameters, self.batch.double()), self.target.double()).backward()
        gradients = [p.grad for p in parameters if p.grad is not None]
        yield from gradients
        for p, gradient in zip(self.start, gradients, strict=True):
            yield p.double() - LEARNING_RATE * gradient
        yield torch.zeros(len(parameters), dtype=torch.float64, device=self.device)

    def work(self) -> Work:
        """The same for all variants, of all ranks together. The gradient of the batch itself is not asked for."""
        shape = self.shape
        samples, layer_flops = WORLD * shape.rows, 2 * WORLD * shape.rows * shape.width**2
        return Work(
            items=samples,
            unit="samples",
            flops=(3 * shape.layers - 1) * layer_flops,
            input_bytes=2 * samples * shape.width * 4,
            output_bytes=shape.layers * (shape.width**2 + shape.width) * 4,
            moved_bytes={"h2d": 0, "d2h": 0, "p2p": 0},
        )


def forward(parameters: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The perceptron; `parameters` are W and b of each layer."""
    for w, b in zip(parameters[::2], parameters[1::2], strict=True):
        x = x + gelu(torch.addmm(b, x, w))
    return x


def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared distance, the mean over samples: the mean of the ranks' losses is that of the whole batch."""
    return (output - target).square().sum(1).mean()


class Baseline(Variant):
    """After backward, one all-reduce for every parameter."""

    def __init__(self, problem: DataParallel) -> None:
        self.problem = problem
        self.ranks = problem.ranks

    def reset(self) -> None:
        """The weights as they were, and all ranks at one place."""
        with torch.no_grad():
            torch._foreach_copy_(self.problem.parameters, self.problem.start)
        if self.problem.device.type == "cuda":
            torch.cuda.synchronize()
        self.ranks.barrier()

    def iteration(self) -> None:
        problem = self.problem
        with stage("zero_grad", kind="compute"):
            self._zero()
        with stage("forward", kind="compute"):
            output = forward(problem.parameters, problem.x)
        with stage("loss", kind="compute"):
            value = loss(output, problem.y)
        with stage("backward", kind="compute"):
            value.backward()
        self._exchange()
        with stage("optimizer", kind="compute"), torch.no_grad():
            torch._foreach_add_(problem.parameters, self._gradients(), alpha=-LEARNING_RATE)

    def _zero(self) -> None:
        for p in self.problem.parameters:
            p.grad = None

    def _exchange(self) -> None:
        for gradient in self._gradients():
            self._reduce(gradient)
            self._average(gradient)

    def _reduce(self, gradient: torch.Tensor) -> None:
        with stage("all_reduce", kind="comm", nbytes=gradient.nbytes):
            self.ranks.all_reduce(gradient).wait()

    def _average(self, gradient: torch.Tensor) -> None:
        with stage("average", kind="compute"):
            gradient.div_(self.ranks.world)

    def _gradients(self) -> list[torch.Tensor]:
        return [p.grad for p in self.problem.parameters if p.grad is not None]

    def outputs(self) -> Sequence[torch.Tensor]:
        return [*self._gradients(), *(p.detach() for p in self.problem.parameters)]

    def close(self) -> None:
        for p in self.problem.parameters:
            p.grad = None
        if sys.exc_info()[0] is not None:  # `close` runs while an error is on its way
            self.ranks.abandon()


class Bucketed(Baseline):
    """After backward, one all-reduce for every bucket. Backward accumulates into views of the buckets."""

    def prepare(self) -> None:
        problem = self.problem
        self._members: list[list[torch.Tensor]] = []
        room = 0
        for p in reversed(problem.parameters):  # in the order in which backward completes them
            if p.nbytes > room:
                self._members.append([])
                room = problem.shape.bucket_bytes
            self._members[-1].append(p)
            room -= p.nbytes
        self._buckets = []
        for members in self._members:
            bucket = torch.zeros(sum(p.numel() for p in members), device=problem.device)
            for p, view in zip(members, bucket.split([p.numel() for p in members]), strict=True):
                p.grad = view.view_as(p)
            self._buckets.append(bucket)

    def scratch(self) -> Sequence[torch.Tensor]:
        return self._buckets

    def _zero(self) -> None:
        for bucket in self._buckets:
            bucket.zero_()

    def _exchange(self) -> None:
        for bucket in self._buckets:
            self._reduce(bucket)
            self._average(bucket)


class Overlapped(Bucketed):
    """Each bucket's all-reduce begins as soon as backward has filled it."""

    def __init__(self, problem: DataParallel) -> None:
        super().__init__(problem)
        self._hooks: list[Any] = []
        self._communicator = ThreadPoolExecutor(1, thread_name_prefix="comm")

    def prepare(self) -> None:
        super().prepare()
        for number, members in enumerate(self._members):
            for p in members:
                self._hooks.append(p.register_post_accumulate_grad_hook(self._counting(number)))
        self._communicator.submit(int).result()  # starts the thread now, not in the first iteration

    def _counting(self, number: int) -> Callable[[torch.Tensor], None]:
        def filled(parameter: torch.Tensor) -> None:
            self._missing[number] -= 1
            if self._missing[number] == 0:
                self._begin(number)

        return filled

    def _begin(self, number: int) -> None:
        bucket = self._buckets[number]
        if self.problem.device.type != "cuda":
            self._pending[number] = _Blocking(self._communicator.submit(self._reduce, bucket))
            return
        with stage("all_reduce", kind="comm", nbytes=bucket.nbytes):
            self._pending[number] = self.ranks.all_reduce(bucket)

    def _zero(self) -> None:
        super()._zero()
        self._missing = [len(members) for members in self._members]
        self._pending: dict[int, Pending] = {}

    def _exchange(self) -> None:
        for number, bucket in enumerate(self._buckets):
            with stage("wait", kind="host"):
                self._pending[number].wait()
            self._average(bucket)

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()
        super().close()
        self._communicator.shutdown(wait=sys.exc_info()[0] is None, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Blocking:
    """A collective that a thread of ours waits for."""

    task: Future[None]

    def wait(self) -> None:
        self.task.result()


VARIANTS: Final[Mapping[str, Callable[[DataParallel], Variant]]] = {
    "baseline": Baseline,
    "bucketed": Bucketed,
    "optimized": Overlapped,
}

PROGRAM: Final = Program(entry=find("ddp_overlap"), setup=DataParallel, variants=VARIANTS)

if __name__ == "__main__":
    main(PROGRAM)
