"""memory_standard: a server's pointwise work, as allocator and memory bandwidth see it.

    baseline     | allocate 4 | 7 kernels through temporaries | release to the driver | allocate 4 | ...
    keep_cache   | allocate 4 | 7 kernels through temporaries | release | ...
    reuse        | take views | 7 kernels through temporaries | ...
    optimized    | 1 kernel | 1 kernel | ...

Requests of very different lengths come one after another; each wants the gated activation of a mixture-of-experts layer
(SwiGLU with clamping, `LIMIT` and `ALPHA` as in gpt-oss) of its tokens, in fp32. The activations before it lie in device
memory, where the layer before left them, and the result goes to the request's own buffer there.

What it proves, in two steps. The allocator: a server that hands its cached memory back after every request pays
cudaFree, which waits for the device, and cudaMalloc for every temporary, and the device waits for both. The bytes: a
chain of framework operations moves 16 floats through device memory for each element, one kernel moves 3
(`CHAIN_PASSES`, `FUSED_PASSES`); there is nothing else to it, so time falls with the bytes. The stage `pointwise`
carries these bytes as its payload, to be held against the memory counters of the GPU. The model counts every access of
a tensor as one of device memory; what the L2 cache keeps between two operations makes the counters show less, the
more so the smaller a tensor is against it.

Baseline. The end of a request in FastChat's `generate_stream`, ``torch.cuda.empty_cache()``, found in many servers that
were once out of memory; the chain is the activation as gpt-oss writes it in PyTorch. Where that says ``x.clamp(...)``
this says ``torch.clamp(x, ..., out=...)`` into a tensor allocated just before: the same kernels and the same live
memory, but the trace tells allocating from computing.

keep_cache. The same without `empty_cache`: the caching allocator serves all requests after the first few.
reuse. One workspace for the longest request, allocated before the first; temporaries are views of it.
optimized. One kernel of ours (`kernels/clamped_swiglu.cu`) and no temporaries. On a CPU the chain is evaluated block by
block in a workspace that fits the processor's second-level cache, which keeps temporaries out of its memory likewise.
expandable, an alternative to reuse: `keep_cache` with PyTorch's expandable segments. Blocks of many lengths do not fit
each other's holes; one segment that grows holds the longest request and no more. It shows in the memory reserved, not in
time. With the cache emptied after every request it would map and unmap instead of allocating and freeing.

On a CPU `empty_cache` is glibc's ``malloc_trim(0)``, the same habit there. Fresh memory costs where it is first written,
so that part of the price is paid in `pointwise`.

Variants do not share a process: the first would leave its pool, and the allocator's settings, to the second.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from ..capture.stages import stage
from ..kernels.build import KernelError
from ..kernels.clamped_swiglu import ClampedSwiglu
from ..traces.errors import WorkloadError
from ..traces.run import Work
from .catalog import find
from .interface import Problem, Program, Tolerance, Variant
from .runner import main

ALPHA: Final = 1.702
LIMIT: Final = 7.0

TEMPORARIES: Final = 4
"""Tensors of the chain that are alive at once."""

CHAIN_PASSES: Final = 16
"""Times the chain reads (9) or writes (7) a tensor of the request's size; counted in `chain`."""

FUSED_PASSES: Final = 3
"""Two inputs read, one output written."""

FLOPS_PER_ELEMENT: Final = 8
"""Three comparisons, two products beside that of alpha, a sigmoid and a sum, each counted once."""

BLOCK_ELEMENTS: Final = 1 << 15
"""Of the fused evaluation on a CPU: four temporaries of 128 KiB, in a second-level cache of 1 MiB and more."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`requests` requests of `shortest` to `longest` tokens, `width` floats each."""

    requests: int
    shortest: int
    longest: int
    width: int

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each request: evenly spread on a logarithmic scale, in an order without pattern, all different.

        Fixed rather than drawn: how an allocator fares depends on the very sequence, and so would every bound.
        """
        golden = (5**0.5 - 1) / 2  # multiples of it, modulo 1, fill the unit interval evenly in a scattered order
        ratio = self.longest / self.shortest
        return tuple(round(self.shortest * ratio ** (i * golden % 1)) | 1 for i in range(1, self.requests + 1))


SHAPES: Final[Mapping[tuple[str, str], Shape]] = {
    # Tensors of 128 to 512 MiB: several times an L2 cache of 50 or 60 MB, so that temporaries do go through memory.
    # 12 of them at 4.3 TB/s: 11 ms for the chain, 2 ms fused; and 48 allocations of a good 100 us each, and as many frees.
    ("cuda", "tiny"): Shape(requests=6, shortest=128, longest=1024, width=1024),
    ("cuda", "default"): Shape(requests=12, shortest=4096, longest=16384, width=8192),
    ("cuda", "large"): Shape(requests=36, shortest=4096, longest=16384, width=8192),
    # Tensors of 8 to 32 MiB against caches of some megabytes a core.
    ("cpu", "tiny"): Shape(requests=5, shortest=128, longest=512, width=256),
    ("cpu", "default"): Shape(requests=6, shortest=2048, longest=8192, width=1024),
    ("cpu", "large"): Shape(requests=24, shortest=2048, longest=8192, width=1024),
}


@dataclass(frozen=True, slots=True)
class Request:
    """What the server holds of one request, all on the device: two inputs and the place for the result, alike in shape."""

    gate: torch.Tensor
    up: torch.Tensor
    result: torch.Tensor


class Requests(Problem):
    """All requests of an iteration, in order of arrival."""

    tolerance = Tolerance(
        bound=2e-6,
        reason=(
            "eight fp32 operations, each rounded by at most 2^-24, and an exponential good to 2 units: 6e-7 at worst; an "
            "operation left out, or bf16 (4e-3), lies far beyond"
        ),
    )

    def __init__(self, device: torch.device, size: str, seed: int) -> None:
        if device.type == "cpu":
            torch.set_num_threads(1)  # bytes from memory are compared, and one core's are steadier
        self.device = device
        self.shape = shape = SHAPES[device.type, size]
        random = torch.Generator(device).manual_seed(seed)

        def normal(length: int) -> torch.Tensor:
            # Four times as wide as normal: one in twelve lies beyond the limit, so that clamping is part of the result.
            return torch.randn(length, shape.width, generator=random, device=device).mul_(4)

        self.requests = [
            Request(normal(n), normal(n), torch.empty(n, shape.width, device=device)) for n in shape.lengths
        ]
        self.elements = sum(shape.lengths) * shape.width

    def inputs(self) -> Sequence[torch.Tensor]:
        """Gates and ups; the results' places are not inputs."""
        return [tensor for request in self.requests for tensor in (request.gate, request.up)]

    def places(self) -> Sequence[torch.Tensor]:
        """Of the results."""
        return [request.result for request in self.requests]

    def reference(self) -> Iterator[torch.Tensor]:
        """The activation in float64, one request at a time."""
        for request in self.requests:
            g = request.gate.double().clamp_(max=LIMIT)
            u = request.up.double().clamp_(-LIMIT, LIMIT)
            yield torch.sigmoid(g * ALPHA).mul_(g).mul_(u.add_(1))

    def work(self) -> Work:
        """The same for all variants. Nothing is copied: all of it happens in device memory."""
        return Work(
            items=sum(self.shape.lengths),
            unit="tokens",
            flops=FLOPS_PER_ELEMENT * self.elements,
            input_bytes=2 * 4 * self.elements,
            output_bytes=4 * self.elements,
            moved_bytes={"h2d": 0, "d2h": 0, "d2d": 0},
        )


class _Serving(Variant):
    """What all variants share: results in the requests' own buffers."""

    passes: int = CHAIN_PASSES
    """How often a tensor of a request's size goes through device memory."""

    def __init__(self, problem: Requests) -> None:
        self.problem = problem

    def outputs(self) -> Sequence[torch.Tensor]:
        return [request.result for request in self.problem.requests]

    def memory_bytes(self, request: Request) -> int:
        """The byte model: what the stage `pointwise` of this request reads from and writes to device memory."""
        return self.passes * int(request.result.nbytes)


class KeepCache(_Serving):
    """Temporaries from the framework's allocator, and back to it."""

    def iteration(self) -> None:
        for request in self.problem.requests:
            with stage("allocate", kind="alloc"):
                temporaries = [torch.empty_like(request.gate) for _ in range(TEMPORARIES)]
            with stage("pointwise", kind="compute", nbytes=self.memory_bytes(request)):
                chain(request.gate, request.up, request.result, temporaries)
            with stage("release", kind="alloc"):
                del temporaries
                self._hand_back()

    def _hand_back(self) -> None:
        """Nothing goes back to the driver."""


class Baseline(KeepCache):
    """As `KeepCache`, but what is cached goes back to the driver after every request."""

    def prepare(self) -> None:
        # glibc has it, other C libraries do not: there, freed memory is theirs to keep.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def _hand_back(self) -> None:
        if self.problem.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self._trim is not None:
            self._trim(0)


class Expandable(KeepCache):
    """As `KeepCache`, with segments that grow."""

    def prepare(self) -> None:
        """Raises `WorkloadError` where the allocator, asked for expandable segments, makes others."""
        torch.cuda.empty_cache()
        _set_allocator("expandable_segments:True")
        probe = torch.empty(self.problem.requests[0].gate.numel(), device=self.problem.device)
        holding = [s for s in torch.cuda.memory_snapshot() if 0 <= probe.data_ptr() - s["address"] < s["total_size"]]
        if not any(segment.get("is_expandable") for segment in holding):
            raise WorkloadError(
                "PyTorch was asked for expandable segments and allocated another kind; this driver or platform does not "
                "support them, so leave the variant expandable out"
            )

    def close(self) -> None:
        _set_allocator("expandable_segments:False")


class Reuse(_Serving):
    """Temporaries are views of one workspace, as long as the longest request needs."""

    def prepare(self) -> None:
        most = max(request.gate.numel() for request in self.problem.requests)
        self._workspace = torch.empty(TEMPORARIES, most, device=self.problem.device)

    def iteration(self) -> None:
        for request in self.problem.requests:
            with stage("allocate", kind="host"):  # the same place in the trace, but no allocator has a part in it
                used = self._workspace[:, : request.gate.numel()]
                temporaries = [row.view_as(request.gate) for row in used]
            with stage("pointwise", kind="compute", nbytes=self.memory_bytes(request)):
                chain(request.gate, request.up, request.result, temporaries)

    def scratch(self) -> Sequence[torch.Tensor]:
        return [self._workspace]


class Fused(_Serving):
    """Optimized on CUDA: our kernel on the framework's current stream."""

    passes = FUSED_PASSES

    def prepare(self) -> None:
        """Compiles the kernel, or finds it in the cache; raises `WorkloadError` if that fails."""
        try:
            self._kernel = ClampedSwiglu(torch.cuda.get_device_capability(self.problem.device))
        except KernelError as exc:
            raise WorkloadError(str(exc)) from exc

    def iteration(self) -> None:
        for request in self.problem.requests:
            with stage("pointwise", kind="compute", nbytes=self.memory_bytes(request)):
                gate, up, result = request.gate, request.up, request.result
                stream = torch.cuda.current_stream(self.problem.device).cuda_stream
                # The kernel takes addresses: all three are contiguous, as `torch.randn` and `torch.empty` made them.
                self._kernel(gate.data_ptr(), up.data_ptr(), result.data_ptr(), gate.numel(), ALPHA, LIMIT, stream)


class Blocked(_Serving):
    """Optimized on a CPU: the chain block by block, its temporaries in the processor's cache."""

    passes = FUSED_PASSES

    def prepare(self) -> None:
        self._workspace = torch.empty(TEMPORARIES, BLOCK_ELEMENTS)

    def iteration(self) -> None:
        for request in self.problem.requests:
            with stage("pointwise", kind="compute", nbytes=self.memory_bytes(request)):
                blocks = (t.view(-1).split(BLOCK_ELEMENTS) for t in (request.gate, request.up, request.result))
                for gate, up, result in zip(*blocks, strict=True):
                    chain(gate, up, result, [row[: gate.numel()] for row in self._workspace])

    def scratch(self) -> Sequence[torch.Tensor]:
        return [self._workspace]


def chain(gate: torch.Tensor, up: torch.Tensor, result: torch.Tensor, temporaries: Sequence[torch.Tensor]) -> None:
    """The activation, operation by operation; `temporaries` are `TEMPORARIES` tensors of the same shape.

    Reads and writes: 1 1 | 1 1 | 1 1 | 1 1 | 2 1 | 1 1 | 2 1, together `CHAIN_PASSES`.
    """
    g, u, s, t = temporaries
    torch.clamp(gate, max=LIMIT, out=g)
    torch.clamp(up, -LIMIT, LIMIT, out=u)
    torch.mul(g, ALPHA, out=s)
    torch.sigmoid(s, out=t)
    torch.mul(g, t, out=s)
    torch.add(u, 1, out=t)
    torch.mul(s, t, out=result)


def _set_allocator(settings: str) -> None:
    """Settings of torch's CUDA allocator, for segments to come."""
    with warnings.catch_warnings():
        # Newer versions of torch point from here to another private function, which older ones lack.
        warnings.simplefilter("ignore", FutureWarning)
        torch.cuda.memory._set_allocator_settings(settings)


def optimized(problem: Requests) -> Variant:
    """The optimized variant for the problem's device."""
    return Fused(problem) if problem.device.type == "cuda" else Blocked(problem)


VARIANTS: Final[Mapping[str, Callable[[Requests], Variant]]] = {
    "baseline": Baseline,
    "keep_cache": KeepCache,
    "reuse": Reuse,
    "optimized": optimized,
    "expandable": Expandable,
}

PROGRAM: Final = Program(entry=find("memory_standard"), setup=Requests, variants=VARIANTS)

if __name__ == "__main__":
    main(PROGRAM)
