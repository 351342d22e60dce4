"""end_to_end_bandwidth: many small requests that start and end in host memory, computed on the device.

    baseline    h2d | compute | d2h | h2d | compute | d2h | ...      one request of 256 KiB at a time, waited for

    optimized   h2d 0 | h2d 1     | h2d 2     | ...                  groups of requests, 8 MiB
                        compute 0 | compute 1 | ...
                                    d2h 0     | ...

What it proves: how near to the link's speed the bytes of a service cross, each direction. The model is the perceptron
of `pipeline_sequential` in fp32, so that a request has as much to compute as to copy.

Baseline. The handler that serves each request when it comes, ``model(request.to(device)).cpu()``, as TorchServe's
`BaseHandler` does without batching (`torch.as_tensor(data, device=...)` before the model, `.tolist()` after it):
ordinary memory, a new tensor for every request and every answer.

`pinned` changes the memory alone: requests and answers lie in page-locked buffers, as a server has them that hands its
own buffers to the network (``recv_into``); nothing waits for a copy any more. Requests are placed there once, before
timing. `batched` takes `REQUESTS` requests, which such a buffer holds side by side, as one: one copy, one product, one
copy. It is the same work in fewer, larger pieces; what it costs is waiting for the group to be complete, which this
offline measurement does not see. `optimized` runs the three stages of different groups at once, in three streams with
double buffers (on a CPU: three threads), as `pipeline_sequential` does and by its code.

Stages. `h2d`, `compute` and `d2h` follow each other without a gap; see `pipeline_sequential`. On a CPU nothing is
page-locked, "h2d" and "d2h" are copies within the host's memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import torch

from ..capture.stages import stage
from ..traces.run import Work
from .catalog import find
from .inputs import exchange
from .interface import Program, Variant
from .pipeline_sequential import Buffered, Pipeline, Shape, Streams, Threads
from .runner import main

REQUESTS: Final = 32
"""Requests of one group: 8 MiB on a GPU, from where on a pinned copy reaches the link's speed within a few percent."""

SHAPES: Final[Mapping[tuple[str, str], Shape]] = {
    # `rows` are those of a group; a request has 1/32 of them. H200: 64 rows are 256 KiB. All requests copy in 5 ms each
    # way over pinned PCIe 5 x16 and take 5.5 ms of fp32 GEMM at 50 TFLOP/s; one by one each costs some 100 us of calls.
    ("cuda", "tiny"): Shape(count=6, rows=256, width=256, hidden=256),
    ("cuda", "default"): Shape(count=32, rows=2048, width=1024, hidden=1024),
    ("cuda", "large"): Shape(count=128, rows=2048, width=1024, hidden=1024),
    # The narrow hidden layer keeps compute to a few copies' time, as in pipeline_sequential.
    ("cpu", "tiny"): Shape(count=6, rows=128, width=128, hidden=16),
    ("cpu", "default"): Shape(count=16, rows=2048, width=512, hidden=16),
    ("cpu", "large"): Shape(count=64, rows=2048, width=512, hidden=16),
}


class Service(Pipeline):
    """The requests, each in pageable memory of its own. `batches` are the groups of them, side by side."""

    def __init__(self, device: torch.device, size: str, seed: int) -> None:
        super().__init__(device, size, seed, SHAPES)
        self.requests = [request.clone() for request in split(self.batches)]

    @property
    def request_bytes(self) -> int:
        """Bytes of one request, or of its answer."""
        return self.batch_bytes // REQUESTS

    def inputs(self) -> Sequence[torch.Tensor]:
        """The requests, alone and side by side."""
        return [*self.batches, *self.requests]

    def fresh(self, random: torch.Generator) -> None:
        """Groups whose elements have changed places, and the same requests alone."""
        for group in self.batches:
            exchange(group, random)
        for request, place in zip(self.requests, split(self.batches), strict=True):
            request.copy_(place)

    def reference(self) -> Iterator[torch.Tensor]:
        """The answer to every request, in float64."""
        for group in super().reference():
            yield from split([group])

    def work(self) -> Work:
        """The same for all variants: every request crosses once each way."""
        return dataclasses.replace(super().work(), items=len(self.requests), unit="requests")


def split(groups: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The requests (or answers) in `groups`, as views."""
    return [one for group in groups for one in group.chunk(REQUESTS)]


class Baseline(Variant):
    """One request at a time."""

    def __init__(self, problem: Service) -> None:
        self.problem = problem
        self._answers: list[torch.Tensor] = []

    def iteration(self) -> None:
        """`copy=True` changes nothing on CUDA; on a CPU `.to()` would copy nothing without it."""
        problem, answers = self.problem, []
        for request in problem.requests:
            with stage("h2d", kind="h2d", nbytes=problem.request_bytes):
                x = request.to(problem.device, copy=True)
            with stage("compute", kind="compute"):
                y = (x @ problem.w1).relu_() @ problem.w2
            with stage("d2h", kind="d2h", nbytes=problem.request_bytes):
                answers.append(y.to("cpu", copy=True))
        self._answers = answers

    def outputs(self) -> Sequence[torch.Tensor]:
        return self._answers


class Batched(Variant):
    """A group at a time, from page-locked memory to page-locked memory, in one stream."""

    def __init__(self, problem: Service) -> None:
        self.problem = problem
        self._groups: list[torch.Tensor] = []
        self._answers: list[torch.Tensor] = []

    def prepare(self) -> None:
        pinned = self.problem.device.type == "cuda"
        self._inputs = [group.pin_memory() for group in self.problem.batches] if pinned else self.problem.batches
        self._groups = [torch.empty_like(group, pin_memory=pinned) for group in self._inputs]
        self._pairs = list(zip(self._pieces(self._inputs), self._pieces(self._groups), strict=True))
        self._answers = split(self._groups)

    def buffers(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        return list(zip(self.problem.batches, self._inputs, strict=True))

    def _pieces(self, groups: list[torch.Tensor]) -> list[torch.Tensor]:
        """What is copied and computed at once."""
        return groups

    def iteration(self) -> None:
        problem = self.problem
        for piece, answer in self._pairs:
            nbytes = piece.numel() * piece.element_size()
            with stage("h2d", kind="h2d", nbytes=nbytes):
                x = piece.to(problem.device, non_blocking=True, copy=True)
            with stage("compute", kind="compute"):
                y = (x @ problem.w1).relu_() @ problem.w2
            with stage("d2h", kind="d2h", nbytes=nbytes):
                answer.copy_(y, non_blocking=True)

    def outputs(self) -> Sequence[torch.Tensor]:
        return self._answers


class Pinned(Batched):
    """The same with every request on its own."""

    def _pieces(self, groups: list[torch.Tensor]) -> list[torch.Tensor]:
        return split(groups)


class _Answering(Buffered):
    """Answers are those of single requests."""

    def prepare(self) -> None:
        super().prepare()
        self._answers = split(self._results)

    def outputs(self) -> Sequence[torch.Tensor]:
        return self._answers


class OverlappedStreams(_Answering, Streams):
    """Groups in three streams."""


class OverlappedThreads(_Answering, Threads):
    """Groups in three threads."""


def optimized(problem: Service) -> Variant:
    """The optimized variant for the problem's device."""
    return OverlappedStreams(problem) if problem.device.type == "cuda" else OverlappedThreads(problem)


VARIANTS: Final[Mapping[str, Callable[[Service], Variant]]] = {
    "baseline": Baseline,
    "pinned": Pinned,
    "batched": Batched,
    "optimized": optimized,
}

PROGRAM: Final = Program(entry=find("end_to_end_bandwidth"), setup=Service, variants=VARIANTS)

if __name__ == "__main__":
    main(PROGRAM)
