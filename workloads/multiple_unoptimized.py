"""multiple_unoptimized: five bottlenecks stacked in one inference loop, and removed one at a time.

    variant     copies     statistics     activation     sums and buffers     matrix products
    baseline    pageable   .item() each   eight kernels  a tensor each        fp32
    pinned      PINNED     .item() each   eight kernels  a tensor each        fp32
    no_sync     pinned     KEPT, ONCE     eight kernels  a tensor each        fp32
    fused       pinned     kept, once     ONE KERNEL     a tensor each        fp32
    in_place    pinned     kept, once     one kernel     IN PLACE             fp32
    optimized   pinned     kept, once     one kernel     in place             BF16
    generated   pinned     kept, once     OURS, + BIAS   a tensor each        fp32      (an alternative to fused)

What it proves: when several things are wrong at once, the ledger says how much of the time each of them cost. Every rung
removes one bottleneck and touches nothing else, so that the difference to the rung before it is that bottleneck's price. The
order matters: a price is what the bottleneck costs *after* those above it have gone.

Every variant runs the same forwards: each batch once through all layers of a residual perceptron,
x += gelu(x W1 + b1) W2 + b2, at one batch size, with one statistic of every layer's activations (their mean magnitude)
delivered to the host. Inputs arrive in and outputs leave to host memory in fp32, in the bf16 rung too.

Baseline. Each part is a habit of real code. `batch.to(device)` and `.cpu()` on ordinary tensors are the loop of
sentence-transformers' `encode`. `.item()` on a statistic per layer is how activation statistics are printed from forward hooks,
and loss.item() per step from training loops; it waits for everything launched so far. The activation written as a formula is
`NewGELUActivation` of Hugging Face transformers' GPT-2 (minGPT's `NewGELU`), eight elementwise kernels and as many temporaries.
fp32 without TF32 is PyTorch's default for matrix products.

Rungs. `pinned`: inputs and results lie in page-locked memory and copies do not wait (on a CPU, which has no page-locked memory,
results go into tensors that are allocated once). `no_sync`: statistics stay on the device and leave together at the end. `fused`:
`torch.nn.functional.gelu`, one kernel. `in_place`: bias and product in one call (`addmm`) into buffers that are allocated once,
and the residual sum in place. `optimized`: weights, hidden activations and matrix products in bf16; the residual stream,
which every layer adds to, stays fp32. Weights are converted when the model is loaded, as a program does with `model.bfloat16()`.
`generated`, one change to `fused`: the bias is added by the kernel that computes the activation, generated for the task
`bias_gelu` and let through by the guard (`kernels/guard.py`), so that the sum of the two is never written to memory.

Stages. `h2d`, then for each layer `up`, `gelu`, `down`, `statistic`, `log`, then `d2h`; where statistics leave together,
one `log` ends the iteration instead. They follow each other without a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import torch
from torch.nn.functional import gelu

from ..capture.stages import stage
from ..kernels.guard import kernel
from ..traces.errors import WorkloadError
from ..traces.run import Work
from .catalog import find
from .interface import Problem, Program, Tolerance, Variant
from .runner import main

SQRT_2_OVER_PI: Final = 0.7978845608028654
"""sqrt(2 / pi), of the tanh form of GELU (Hendrycks and Gimpel, arXiv:1606.08415)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`count` batches of `rows` x `width` floats, through `layers` layers of `hidden`."""

    count: int
    rows: int
    width: int
    hidden: int
    layers: int


SHAPES: Final[Mapping[tuple[str, str], Shape]] = {
    # H100 and H200, a batch: 16 MiB copy in 0.3 ms pinned and 1.5 to 3 ms pageable; a layer is 17 GFLOP, 0.35 ms in
    # fp32 and 0.03 ms in bf16; eight elementwise kernels over 16 MiB take some 0.08 ms, a synchronisation costs 0.02 ms
    # of idle time. So no bottleneck is lost behind another. From 32 MiB on glibc would map every host tensor anew (see
    # pipeline_sequential).
    ("cuda", "tiny"): Shape(count=3, rows=256, width=256, hidden=256, layers=3),
    ("cuda", "default"): Shape(count=8, rows=4096, width=1024, hidden=1024, layers=12),
    ("cuda", "large"): Shape(count=32, rows=4096, width=1024, hidden=1024, layers=12),
    ("cpu", "tiny"): Shape(count=3, rows=64, width=64, hidden=64, layers=3),
    ("cpu", "default"): Shape(count=4, rows=512, width=256, hidden=256, layers=6),
    ("cpu", "large"): Shape(count=16, rows=512, width=256, hidden=256, layers=6),
}


FP32: Final = Tolerance(
    bound=5e-5,
    reason=(
        "an fp32 dot product of 4,096 terms rounds to about sqrt(4096) * 2^-24 = 4e-6 at worst (seen: 1.6e-6 of the sum of "
        "twelve layers); TF32 would give 5e-4 and bf16 4e-3"
    ),
)
"""Of the rungs that compute in fp32."""


class Residual(Problem):
    """The batches (in pageable host memory) and the weights (on the device)."""

    tolerance = Tolerance(
        bound=2e-2,
        reason=(
            "a bf16 rounding is off by 2^-9 / sqrt(3) = 1.1e-3 of a value (rms, at most); four in a layer (input, up, "
            "gelu, down) give 2.3e-3 of its sum, twelve layers sqrt(12) times that, 8e-3 (seen: 8.2e-3); left-out or "
            "exchanged layers give more than 5e-1, since every layer's sum is about as large as what it is added to"
        ),
    )

    def __init__(self, device: torch.device, size: str, seed: int) -> None:
        # fp32 means fp32: what TF32 would win belongs to no rung. One thread on a CPU, where cores would hide the temporaries.
        torch.set_float32_matmul_precision("highest")
        if device.type == "cpu":
            torch.set_num_threads(1)
        self.device = device
        self.shape = shape = SHAPES[device.type, size]
        random = torch.Generator(device).manual_seed(seed)

        def normal(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=random, device=device)

        self.layers = [
            (
                normal(shape.width, shape.hidden) * shape.width**-0.5,
                normal(shape.hidden) * 0.1,
                normal(shape.hidden, shape.width) * shape.hidden**-0.5,
                normal(shape.width) * 0.1,
            )
            for _ in range(shape.layers)
        ]
        self.batches = [normal(shape.rows, shape.width).cpu() for _ in range(shape.count)]

    @property
    def batch_bytes(self) -> int:
        """Bytes of one batch, input or output."""
        return self.shape.rows * self.shape.width * 4

    @property
    def statistics_bytes(self) -> int:
        """Bytes of all statistics of an iteration."""
        return self.shape.count * self.shape.layers * 4

    def inputs(self) -> Sequence[torch.Tensor]:
        """The batches. The weights stay, since a rung may convert them when the model is loaded."""
        return self.batches

    def tolerance_of(self, variant: str) -> Tolerance:
        """That of fp32 where the rung computes in it."""
        return self.tolerance if RUNGS[variant].bf16 else FP32

    def reference(self) -> Iterator[torch.Tensor]:
        """Every batch's output, then the statistics by batch and layer, in float64, on the device."""
        layers = [tuple(t.double() for t in layer) for layer in self.layers]
        statistics = torch.zeros(self.shape.count, self.shape.layers, dtype=torch.float64, device=self.device)
        for i, batch in enumerate(self.batches):
            x = batch.to(self.device).double()
            for k, (w1, b1, w2, b2) in enumerate(layers):
                h = gelu(x @ w1 + b1, approximate="tanh")
                statistics[i, k] = h.abs().mean()
                x = x + h @ w2 + b2
            yield x
        yield statistics

    def work(self) -> Work:
        """The same for all variants: statistics cross one by one or together, and no weight crosses."""
        shape, batches = self.shape, self.shape.count * self.batch_bytes
        return Work(
            items=shape.count * shape.rows,
            unit="samples",
            flops=shape.count * shape.layers * 2 * (2 * shape.rows * shape.width * shape.hidden),
            input_bytes=batches,
            output_bytes=batches + self.statistics_bytes,
            moved_bytes={"h2d": batches, "d2h": batches + self.statistics_bytes},
        )


@dataclass(frozen=True, slots=True)
class Rung:
    """Which bottlenecks are gone."""

    pinned: bool = False
    deferred: bool = False
    fused: bool = False
    in_place: bool = False
    bf16: bool = False
    generated: bool = False
    """Whether bias and activation are one kernel of ours; no rung of the ladder."""


class Stack(Variant):
    """The loop, with some of the bottlenecks gone. The rungs differ in `rung` alone."""

    def __init__(self, problem: Residual, rung: Rung = Rung()) -> None:
        self.problem = problem
        self.rung = rung
        self._results: list[torch.Tensor] = []
        self._logged: list[float] = []
        self._buffers: list[torch.Tensor] = []

    def prepare(self) -> None:
        problem, shape, rung = self.problem, self.problem.shape, self.rung
        pinned = rung.pinned and problem.device.type == "cuda"
        self._inputs = [batch.pin_memory() for batch in problem.batches] if pinned else problem.batches
        if rung.pinned:
            self._results = [torch.empty_like(batch, pin_memory=pinned) for batch in problem.batches]
        if rung.deferred:
            self._kept = torch.empty(shape.count, shape.layers, device=problem.device)
            self._log = torch.empty(shape.count, shape.layers, pin_memory=pinned)
        dtype = torch.bfloat16 if rung.bf16 else torch.float32
        self._layers = [tuple(t.to(dtype) for t in layer) for layer in problem.layers]
        if rung.in_place:
            widths = (shape.hidden, shape.width, *([shape.width] if rung.bf16 else []))
            self._buffers = [torch.empty(shape.rows, n, dtype=dtype, device=problem.device) for n in widths]
            self._h, self._y, *_ = self._buffers
        if rung.generated:
            self._guard()

    def _guard(self) -> None:
        """Load the generated kernel; raises `WorkloadError` if the guard does not let it through."""
        self._bias_gelu = kernel("bias_gelu")
        _, b1, _, _ = self._layers[0]
        h = torch.empty(self.problem.shape.rows, self.problem.shape.hidden, device=self.problem.device)
        decision = self._bias_gelu.decide(x=h, bias=b1)
        if not decision.used:
            raise WorkloadError(decision.reason)
        self._sha256 = decision.sha256

    def iteration(self) -> None:
        problem, rung = self.problem, self.rung
        results: list[torch.Tensor] = []
        self._logged = []
        for i, batch in enumerate(self._inputs):
            with stage("h2d", kind="h2d", nbytes=problem.batch_bytes):
                # `copy` changes nothing on CUDA; on a CPU `.to()` would copy nothing without it.
                x = batch.to(problem.device, non_blocking=rung.pinned, copy=True)
            for k, (w1, b1, w2, b2) in enumerate(self._layers):
                with stage("up", kind="compute"):
                    h = self._up(x, w1, b1)
                with stage("gelu", kind="compute"):
                    h = self._gelu(h, b1)
                with stage("down", kind="compute"):
                    x = self._down(x, h, w2, b2)
                self._statistic(i, k, h)
            with stage("d2h", kind="d2h", nbytes=problem.batch_bytes):
                if rung.pinned:
                    self._results[i].copy_(x, non_blocking=True)
                else:
                    results.append(x.to("cpu", copy=True))
        if rung.deferred:
            with stage("log", kind="d2h", nbytes=problem.statistics_bytes):
                self._log.copy_(self._kept, non_blocking=True)
        self._results = results or self._results

    def _up(self, x: torch.Tensor, w1: torch.Tensor, b1: torch.Tensor) -> torch.Tensor:
        if not self.rung.in_place:
            h = x @ w1
            return h if self.rung.generated else h + b1
        if self.rung.bf16:
            x = self._buffers[-1].copy_(x)  # rounded
        return torch.addmm(b1, x, w1, out=self._h)

    def _gelu(self, h: torch.Tensor, b1: torch.Tensor) -> torch.Tensor:
        if not self.rung.generated:
            return gelu(h, approximate="tanh") if self.rung.fused else _gelu_by_formula(h)
        made: torch.Tensor = self._bias_gelu(x=h, bias=b1)
        if not self._bias_gelu.decision.used:
            raise WorkloadError(self._bias_gelu.decision.reason)
        return made

    def kernels(self) -> Mapping[str, str]:
        return {"bias_gelu": self._sha256} if self.rung.generated else {}

    def _down(self, x: torch.Tensor, h: torch.Tensor, w2: torch.Tensor, b2: torch.Tensor) -> torch.Tensor:
        if not self.rung.in_place:
            y = h @ w2
            y = y + b2
            return x + y
        return x.add_(torch.addmm(b2, h, w2, out=self._y))

    def _statistic(self, batch: int, layer: int, h: torch.Tensor) -> None:
        """The mean magnitude of `h`, summed in fp32 everywhere; into the kept table, or to the host at once."""
        if self.rung.deferred:
            with stage("statistic", kind="compute"):
                torch.mean(h.abs(), (0, 1), dtype=torch.float32, out=self._kept[batch, layer])
            return
        with stage("statistic", kind="compute"):
            mean = torch.mean(h.abs(), (0, 1), dtype=torch.float32)
        with stage("log", kind="d2h", nbytes=4):
            self._logged.append(mean.item())

    def outputs(self) -> Sequence[torch.Tensor]:
        shape = self.problem.shape
        if self.rung.deferred:
            return [*self._results, self._log]
        whole = len(self._logged) == shape.count * shape.layers
        log = torch.tensor(self._logged)
        return [*self._results, log.view(shape.count, shape.layers) if whole else log]

    def buffers(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        return list(zip(self.problem.batches, self._inputs, strict=True))

    def scratch(self) -> Sequence[torch.Tensor]:
        return [*self._buffers, self._kept] if self.rung.deferred else self._buffers


def _gelu_by_formula(h: torch.Tensor) -> torch.Tensor:
    """The tanh form of GELU, written out."""
    return 0.5 * h * (1.0 + torch.tanh(SQRT_2_OVER_PI * (h + 0.044715 * torch.pow(h, 3.0))))


BASELINE: Final = Rung()
PINNED: Final = replace(BASELINE, pinned=True)
NO_SYNC: Final = replace(PINNED, deferred=True)
FUSED: Final = replace(NO_SYNC, fused=True)
IN_PLACE: Final = replace(FUSED, in_place=True)
OPTIMIZED: Final = replace(IN_PLACE, bf16=True)
GENERATED: Final = replace(FUSED, generated=True)

RUNGS: Final[Mapping[str, Rung]] = {
    "baseline": BASELINE,
    "pinned": PINNED,
    "no_sync": NO_SYNC,
    "fused": FUSED,
    "in_place": IN_PLACE,
    "optimized": OPTIMIZED,
    "generated": GENERATED,
}

VARIANTS: Final[Mapping[str, Callable[[Residual], Variant]]] = {
    name: partial(Stack, rung=rung) for name, rung in RUNGS.items()
}

PROGRAM: Final = Program(entry=find("multiple_unoptimized"), setup=Residual, variants=VARIANTS)

if __name__ == "__main__":
    main(PROGRAM)
