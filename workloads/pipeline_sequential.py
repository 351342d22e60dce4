"""pipeline_sequential: many microbatches, each copied to the device, computed, and copied back.

    baseline    h2d 0 | compute 0 | d2h 0 | h2d 1 | compute 1 | d2h 1 | ...

    optimized   h2d 0 | h2d 1     | h2d 2     | ...
                        compute 0 | compute 1 | ...
                                    d2h 0     | ...

What it proves: copies of one microbatch hide under the compute of another, so that the time of the whole falls from
the sum of its stages towards its longest stage. The model is a two-layer perceptron in fp32, y = relu(x W1) W2; sizes
are chosen so that the three stages take comparable time (`SHAPES`).

Baseline. The batch loop of offline inference, ``for batch in batches: results.append(model(batch.to(device)).cpu())``,
as in the `encode` method of sentence-transformers: ordinary (pageable) tensors, a new device tensor and a new host
tensor for every batch. `.cpu()` waits for its own copy; nothing else waits.

Optimized. Inputs and outputs lie in pinned host memory, two device buffers for inputs and two for outputs are reused,
and each stage has a stream of its own; events order them. The inputs are the baseline's, placed in pinned memory once,
before timing, as a loader that writes into pinned buffers leaves them; both variants deliver all outputs in host
memory. On the CPU there are no streams: two worker threads copy into and out of the same double buffers while the main
thread computes; "h2d" is then a copy into a staging buffer and "d2h" a copy out of one, on one core each.

Stages. `h2d`, `compute` and `d2h` follow each other without a gap but the loop's own bookkeeping: on CUDA each encloses
the enqueueing of its own work (in the baseline `d2h` also waits for the result), on the CPU the work itself, in the
thread that does it, and a thread that wakes another or waits for it says so by the stage `handoff`. Outside every stage
lie only the entry and exit of the iteration and the measurement's closing synchronisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

import torch

from ..capture.stages import stage
from ..traces.errors import WorkloadError
from ..traces.run import Work
from .catalog import find
from .interface import Problem, Program, Tolerance, Variant
from .runner import main

DEPTH: Final = 2
"""Buffers per direction: one is filled while the other is used."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`count` microbatches of `rows` x `width` floats, through a hidden layer of `hidden`."""

    count: int
    rows: int
    width: int
    hidden: int


SHAPES: Final[Mapping[tuple[str, str], Shape]] = {
    # H100 and H200: 16 MiB copy in 0.3 ms over pinned PCIe 5 x16 (55 GB/s) and take 0.35 ms of fp32 GEMM (17 GFLOP at
    # 50 TFLOP/s). 32 MiB and more would leave glibc's heap (M_MMAP_THRESHOLD_MAX): every output of the baseline would
    # then be mapped, faulted in and unmapped anew, and the pair would measure the kernel's page faults.
    ("cuda", "tiny"): Shape(count=6, rows=512, width=256, hidden=256),
    ("cuda", "default"): Shape(count=32, rows=4096, width=1024, hidden=1024),
    ("cuda", "large"): Shape(count=64, rows=4096, width=1024, hidden=1024),
    # A core copies about 5 GB/s into fresh and 20 GB/s into used memory; the narrow hidden layer keeps compute to a few
    # copies' time, and a microbatch to milliseconds, so that handing it from thread to thread costs little beside it.
    ("cpu", "tiny"): Shape(count=6, rows=64, width=256, hidden=16),
    ("cpu", "default"): Shape(count=12, rows=4096, width=1024, hidden=16),
    ("cpu", "large"): Shape(count=48, rows=4096, width=1024, hidden=16),
}


class Pipeline(Problem):
    """The microbatches (in pageable host memory) and the weights (on the device)."""

    tolerance = Tolerance(
        bound=1e-5,
        reason=(
            "two chained fp32 dot products of at most 1024 terms round to about sqrt(1024) * 2^-24 = 2e-6 at worst; "
            "TF32 would give about 4e-4 and bf16 4e-3, so a silent loss of precision is caught"
        ),
    )

    def __init__(
        self, device: torch.device, size: str, seed: int, shapes: Mapping[tuple[str, str], Shape] = SHAPES
    ) -> None:
        # fp32 means fp32: no TF32. One thread per stage: on a CPU a stage stands for an engine, not for all cores.
        torch.set_float32_matmul_precision("highest")
        if device.type == "cpu":
            torch.set_num_threads(1)
        self.device = device
        self.shape = shape = shapes[device.type, size]
        random = torch.Generator(device).manual_seed(seed)

        def normal(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=random, device=device)

        self.w1 = normal(shape.width, shape.hidden) * (2 / shape.width) ** 0.5
        self.w2 = normal(shape.hidden, shape.width) * shape.hidden**-0.5
        self.batches = [normal(shape.rows, shape.width).cpu() for _ in range(shape.count)]

    @property
    def batch_bytes(self) -> int:
        """Bytes of one microbatch, input or output."""
        return self.shape.rows * self.shape.width * 4

    def inputs(self) -> Sequence[torch.Tensor]:
        """The microbatches. The weights stay, as a served model's do."""
        return self.batches

    def reference(self) -> Iterator[torch.Tensor]:
        """The perceptron in float64, on the device, one microbatch at a time."""
        w1, w2 = self.w1.double(), self.w2.double()
        for batch in self.batches:
            yield (batch.to(self.device).double() @ w1).relu_() @ w2

    def work(self) -> Work:
        """The same for both variants: every microbatch crosses once each way. Weights stay on the device."""
        shape = self.shape
        total = shape.count * self.batch_bytes
        return Work(
            items=shape.count * shape.rows,
            unit="samples",
            flops=shape.count * 2 * (2 * shape.rows * shape.width * shape.hidden),
            input_bytes=total,
            output_bytes=total,
            moved_bytes={"h2d": total, "d2h": total},
        )


class _Microbatches(Variant):
    """What all variants share: one host tensor of results per microbatch."""

    def __init__(self, problem: Pipeline) -> None:
        self.problem = problem
        self._results: list[torch.Tensor] = []

    def outputs(self) -> Sequence[torch.Tensor]:
        return self._results


class Baseline(_Microbatches):
    """One microbatch at a time."""

    def iteration(self) -> None:
        """See the module's text. `copy=True` changes nothing on CUDA; on a CPU `.to()` would copy nothing without it."""
        problem, results = self.problem, []
        for batch in problem.batches:
            with stage("h2d", kind="h2d", nbytes=problem.batch_bytes):
                x = batch.to(problem.device, copy=True)
            with stage("compute", kind="compute"):
                y = (x @ problem.w1).relu_() @ problem.w2
            with stage("d2h", kind="d2h", nbytes=problem.batch_bytes):
                results.append(y.to("cpu", copy=True))
        self._results = results


class Buffered(_Microbatches):
    """What both optimized versions share: double buffers on the device, outputs that are allocated once."""

    def prepare(self) -> None:
        shape, device = self.problem.shape, self.problem.device
        pinned = device.type == "cuda"
        self._inputs = [batch.pin_memory() for batch in self.problem.batches] if pinned else self.problem.batches
        self._results = [torch.empty_like(batch, pin_memory=pinned) for batch in self.problem.batches]
        self._x = [torch.empty(shape.rows, shape.width, device=device) for _ in range(DEPTH)]
        self._y = [torch.empty(shape.rows, shape.width, device=device) for _ in range(DEPTH)]
        self._hidden = torch.empty(shape.rows, shape.hidden, device=device)

    def buffers(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        return list(zip(self.problem.batches, self._inputs, strict=True))

    def scratch(self) -> Sequence[torch.Tensor]:
        return [*self._x, *self._y]

    def _forward(self, x: torch.Tensor, y: torch.Tensor) -> None:
        torch.mm(x, self.problem.w1, out=self._hidden)
        self._hidden.relu_()
        torch.mm(self._hidden, self.problem.w2, out=y)


class Streams(Buffered):
    """Optimized on CUDA: a stream per stage, ordered by events."""

    def prepare(self) -> None:
        super().prepare()
        self._h2d, self._compute, self._d2h = (torch.cuda.Stream(self.problem.device) for _ in range(3))
        self._make_events()

    def _make_events(self) -> None:
        # Waiting for an event that was never recorded does not wait, which is right for the first use of a slot.
        self._loaded, self._computed, self._stored = ([torch.cuda.Event() for _ in range(DEPTH)] for _ in range(3))

    def iteration(self) -> None:
        problem, streams = self.problem, (self._h2d, self._compute, self._d2h)
        current = torch.cuda.current_stream(problem.device)
        for stream in streams:
            stream.wait_stream(current)
        for i, (batch, result) in enumerate(zip(self._inputs, self._results, strict=True)):
            slot = i % DEPTH
            with stage("h2d", kind="h2d", nbytes=problem.batch_bytes), torch.cuda.stream(self._h2d):
                self._h2d.wait_event(self._computed[slot])  # the slot's previous input has been read
                self._x[slot].copy_(batch, non_blocking=True)
                self._loaded[slot].record(self._h2d)
            with stage("compute", kind="compute"), torch.cuda.stream(self._compute):
                self._compute.wait_event(self._loaded[slot])
                self._compute.wait_event(self._stored[slot])  # the slot's previous output has left
                self._forward(self._x[slot], self._y[slot])
                self._computed[slot].record(self._compute)
            with stage("d2h", kind="d2h", nbytes=problem.batch_bytes), torch.cuda.stream(self._d2h):
                self._d2h.wait_event(self._computed[slot])
                result.copy_(self._y[slot], non_blocking=True)
                self._stored[slot].record(self._d2h)
        for stream in streams:
            current.wait_stream(stream)


class Graph(Streams):
    """The iteration of `Streams`, captured once and replayed."""

    def __init__(self, problem: Pipeline) -> None:
        super().__init__(problem)
        self._graph: torch.cuda.CUDAGraph | None = None

    def graphs(self) -> None:
        self._graph = None
        # Libraries set themselves up at their first use on a stream, and some of that may not happen in a capture. Events
        # that were recorded in a capture may not be waited for outside it, nor those from outside in it.
        self._make_events()
        super().iteration()
        torch.cuda.synchronize(self.problem.device)
        self._make_events()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            super().iteration()
        self._graph = graph

    def iteration(self) -> None:
        assert self._graph is not None
        with stage("replay"):
            self._graph.replay()

    def close(self) -> None:
        self._graph = None


class Threads(Buffered):
    """Optimized on a CPU: a thread per stage, ordered by queues of slot numbers; null in a queue says "give up".

        free_x -> [h2d thread] -> loaded -> [main: compute] -> computed -> [d2h thread] -> free_y
          ^------------------------------------|  ^--------------------------------------------|

    Each thread reads the next slot from a queue, works, and passes the slot on. The threads live from `prepare` to
    `close`; torch releases the interpreter's lock while it copies and computes.
    """

    def __init__(self, problem: Pipeline) -> None:
        super().__init__(problem)
        self._free_x, self._loaded, self._computed, self._free_y = (SimpleQueue[int | None]() for _ in range(4))
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="h2d")
        self._storer = ThreadPoolExecutor(1, thread_name_prefix="d2h")

    def prepare(self) -> None:
        super().prepare()
        for slot in range(DEPTH):
            self._free_x.put(slot)
            self._free_y.put(slot)
        for worker in (self._loader, self._storer):
            worker.submit(int).result()  # starts the thread now, not in the first iteration

    def iteration(self) -> None:
        load, store = self._loader.submit(self._load), self._storer.submit(self._store)
        try:
            with self._or_give_up():
                for _ in self.problem.batches:
                    with stage("handoff", kind="host"):
                        x, y = _take(self._loaded), _take(self._free_y)
                    with stage("compute", kind="compute"):
                        self._forward(self._x[x], self._y[y])
                    with stage("handoff", kind="host"):
                        self._free_x.put(x)
                        self._computed.put(y)
                with stage("handoff", kind="host"):
                    store.result()
        finally:
            # A worker's own failure explains more than the main thread's giving up after it.
            for task in (load, store):
                failure = task.exception()
                if failure is not None and not isinstance(failure, _GaveUp):
                    raise failure

    def _load(self) -> None:
        with self._or_give_up():
            for batch in self._inputs:
                with stage("handoff", kind="host"):
                    slot = _take(self._free_x)
                with stage("h2d", kind="h2d", nbytes=self.problem.batch_bytes):
                    self._x[slot].copy_(batch)
                with stage("handoff", kind="host"):
                    self._loaded.put(slot)

    def _store(self) -> None:
        with self._or_give_up():
            for result in self._results:
                with stage("handoff", kind="host"):
                    slot = _take(self._computed)
                with stage("d2h", kind="d2h", nbytes=self.problem.batch_bytes):
                    result.copy_(self._y[slot])
                with stage("handoff", kind="host"):
                    self._free_y.put(slot)

    @contextmanager
    def _or_give_up(self) -> Iterator[None]:
        """If the body fails, let no other thread wait for it for ever."""
        try:
            yield
        except BaseException:  # an interrupt too
            self._give_up()
            raise

    def _give_up(self) -> None:
        for queue in (self._free_x, self._loaded, self._computed, self._free_y):
            queue.put(None)

    def close(self) -> None:
        self._give_up()
        self._loader.shutdown()
        self._storer.shutdown()


class _GaveUp(WorkloadError):
    """Another thread failed; its own error is the one to show."""


def _take(queue: SimpleQueue[int | None]) -> int:
    slot = queue.get()
    if slot is None:
        raise _GaveUp("a thread of the pipeline stopped because another one failed")
    return slot


def optimized(problem: Pipeline) -> Variant:
    """The optimized variant for the problem's device."""
    return Streams(problem) if problem.device.type == "cuda" else Threads(problem)


VARIANTS: Final[Mapping[str, Callable[[Pipeline], Variant]]] = {
    "baseline": Baseline,
    "optimized": optimized,
    "cuda_graph": Graph,
}

PROGRAM: Final = Program(entry=find("pipeline_sequential"), setup=Pipeline, variants=VARIANTS)

if __name__ == "__main__":
    main(PROGRAM)
