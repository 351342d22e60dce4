"""training_single: a few steps of training a small language model on one device, always from the same state.

    baseline    load 0 | h2d 0 | forward | loss | backward | optimizer | load 1 | h2d 1 | forward | ...

    optimized   forward | loss | backward | optimizer | forward | ...
                load 1 | h2d 1 | load 2 | ...

What it proves: where the time of a training step goes and what each of four well-known changes takes away from it. An
iteration is `Shape.steps` steps of AdamW from the restored weights, each on a batch of its own, and the loss on one more
batch after the last step. The model is a decoder-only transformer (pre-norm, learned positions, GELU). Its fp32 is
fp32: TF32 is off in every variant. Model FLOPs count the matrix products, attention in full, three times the forward
for a training step.

Baseline. The training loop of nanoGPT as one writes it first: windows of a token array are stacked on the host, moved
with ``.to(device)`` from pageable memory, which waits for everything before it, and run in fp32 through
``torch.optim.AdamW`` with its defaults.

bf16. Forward and loss under ``torch.autocast(dtype=bfloat16)``; weights, gradients and the optimizer stay fp32.
fused_adamw. ``AdamW(fused=True)``: one kernel for many tensors instead of several for each operation.
optimized. A worker thread stacks the next batch in pinned memory and copies it on a stream of its own while the
step before it runs; on a CPU it copies into a second buffer.
compiled, an alternative: `optimized` with the model through `torch.compile`, for a GPU. Compiling belongs to `prepare`.

Stages. `load`, `h2d`, `forward`, `loss`, `backward` and `optimizer` follow each other without a gap; a thread that waits
for another, or wakes it, says so by the stage `handoff`. On CUDA they enclose the enqueueing of their work, and backward runs
on the thread that asked for it, in every variant: two threads that open stages leave open whose a third one's kernels are.

Outputs are the losses before every step and after the last, and the weights, of which the problem compares how far they
moved (`progress`). A step left out, or one made at another rate, changes all losses that follow it; a tensor that is left as
it was hardly changes any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from ..capture.stages import stage
from ..traces.errors import WorkloadError
from ..traces.run import Work
from .catalog import find
from .interface import Problem, Program, Tolerance, Variant
from .runner import main

DEPTH: Final = 2
"""Batches in flight between the loader and the model: one is loaded while the other is used."""

OPTIMIZER: Final[Mapping[str, Any]] = {"betas": (0.9, 0.95), "weight_decay": 0.1}
"""Of AdamW, as nanoGPT has them; the rate belongs to the `Shape`."""

SKEW: Final = 6
"""Tokens are vocabulary * u ** SKEW for uniform u: far from uniform, so that the loss has somewhere to fall in few steps
(its floor is ln(SKEW) - SKEW + 1 = -3.2 below that of a uniform choice)."""

CORPUS_TOKENS: Final = 1 << 20

TOKEN_BYTES: Final = 8
"""Indices of an embedding are int64."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`steps` batches of `batch` windows of `context` tokens; a model of `layers` blocks, `width` wide; `rate` of AdamW."""

    steps: int
    batch: int
    context: int
    vocabulary: int
    width: int
    heads: int
    layers: int
    rate: float


SHAPES: Final[Mapping[tuple[str, str], Shape]] = {
    # 49 M weights in products, 16,384 tokens a step: 5 TFLOP, 0.1 s in fp32 (50 TFLOP/s). In bf16 the device still takes longer
    # than the host needs for some 400 launches a step, also while these are recorded: with 4,096 tokens a step it was the host
    # that set the pace from bf16 on, and no later rung told anything about the device. A wider model takes a smaller rate:
    # without a warm-up, 1e-3 makes its loss jump, and differences in rounding jump with it.
    ("cuda", "tiny"): Shape(steps=3, batch=4, context=64, vocabulary=512, width=64, heads=4, layers=2, rate=1e-3),
    ("cuda", "default"): Shape(
        steps=2, batch=64, context=256, vocabulary=8192, width=768, heads=12, layers=6, rate=3e-4
    ),
    ("cuda", "large"): Shape(steps=8, batch=64, context=256, vocabulary=8192, width=768, heads=12, layers=6, rate=3e-4),
    ("cpu", "tiny"): Shape(steps=3, batch=4, context=64, vocabulary=512, width=64, heads=4, layers=2, rate=1e-3),
    ("cpu", "default"): Shape(steps=4, batch=8, context=128, vocabulary=2048, width=192, heads=6, layers=3, rate=1e-3),
    ("cpu", "large"): Shape(steps=16, batch=8, context=128, vocabulary=2048, width=192, heads=6, layers=3, rate=1e-3),
}


class Block(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Attention and a perceptron, each on a normalised copy of the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.before_attention = nn.LayerNorm(shape.width)
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.project = nn.Linear(shape.width, shape.width)
        self.before_perceptron = nn.LayerNorm(shape.width)
        self.up = nn.Linear(shape.width, 4 * shape.width)
        self.down = nn.Linear(4 * shape.width, shape.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, context, width] to the same."""
        batch, context, width = x.shape
        qkv = self.qkv(self.before_attention(x)).view(batch, context, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(attended.transpose(1, 2).reshape(batch, context, width))
        return x + self.down(functional.gelu(self.up(self.before_perceptron(x))))


class Model(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Tokens to logits."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.last = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[batch, context] of int64 to [batch, context, vocabulary]."""
        x = self.tokens(tokens) + self.positions.weight
        for block in self.blocks:
            x = block(x)
        return self.head(self.last(x))


FP32: Final = Tolerance(
    bound=5e-6,
    reason=(
        "of each loss by itself, as a mean over hundreds of tokens, of fp32 products (seen: 1e-7); parameters that do not "
        "learn, TF32 and bf16 move a loss by 6e-5 and more"
    ),
)
"""Of the losses of what trains in fp32."""

PROGRESS: Final = Tolerance(
    bound=5e-2,
    reason=(
        "of how far each tensor of weights moved; bf16 turns the direction of some elements but not their "
        "number (in 100 draws of the smallest size: "
        "2e-3 in the middle, 1.5e-2 at most), "
        "while one tensor of 80 that does not learn makes 0.1, and no weight decay as much"
    ),
)

ROWS: Final = Tolerance(
    bound=2e-2,
    reason=(
        "of how far the row of each token moved, with bf16 products before it (seen: 2e-3); rows of tokens that no batch had "
        "stay where they were, so that the rows of one text are wrong by 0.9 for another"
    ),
)

PROGRESS_FP32: Final = Tolerance(
    bound=1e-3, reason="of how far each tensor of weights moved, in fp32 products and an fp32 optimizer (seen: 8e-5)"
)

ROWS_FP32: Final = Tolerance(bound=1e-3, reason="of how far the row of each token moved, in fp32 (seen: 2e-6)")


class Training(Problem):
    """The corpus (in host memory), which windows of it make which batch, and the weights every iteration starts from."""

    tolerance = Tolerance(
        bound=1e-3,
        reason=(
            "of each loss by itself, a quarter of what rounding it once to bf16 could cost (2^-8); the roundings in bf16 "
            "products are independent and nearly cancel in a mean over hundreds of tokens, while one step less, or steps "
            "of twice the size, move the losses after them by several times as much"
        ),
    )

    def __init__(self, device: torch.device, size: str, seed: int) -> None:
        torch.set_float32_matmul_precision("highest")  # no TF32
        if device.type == "cpu":
            torch.set_num_threads(1)  # the other core is the loader's
        self.device = device
        self.shape = shape = SHAPES[device.type, size]
        random = torch.Generator().manual_seed(seed)
        uniform = torch.rand(CORPUS_TOKENS, generator=random, dtype=torch.float64)
        self.corpus = (uniform**SKEW * shape.vocabulary).to(torch.int32)
        last = CORPUS_TOKENS - shape.context - 1
        self._last = last
        self._begin(random)
        self.weights = {}
        for name, tensor in Model(shape).state_dict().items():
            if tensor.dim() > 1:
                tensor.normal_(0, 0.02, generator=random)
            elif name.endswith("bias"):
                tensor.zero_()  # torch drew them from a generator that this seed does not rule
            self.weights[name] = tensor.to(device)

    def _begin(self, random: torch.Generator) -> None:
        shape = self.shape
        self.starts: list[list[int]] = torch.randint(
            self._last, (shape.steps + 1, shape.batch), generator=random
        ).tolist()
        self._reference: list[torch.Tensor] = []

    def inputs(self) -> Sequence[torch.Tensor]:
        """The corpus. The first weights stay: every iteration is the same training on other text."""
        return [self.corpus]

    def fresh(self, random: torch.Generator) -> None:
        """The tokens change places, which were drawn one by one, and windows begin elsewhere."""
        super().fresh(random)
        self._begin(random)

    def tolerance_of(self, variant: str) -> Sequence[Tolerance]:
        """Of each loss, then of the progress and of the rows: tighter for what trains in fp32."""
        losses = self.shape.steps + 1
        if variant == "baseline":
            return [FP32] * losses + [PROGRESS_FP32, ROWS_FP32]
        return [self.tolerance] * losses + [PROGRESS, ROWS]

    def to_compare(self, outputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """The losses, then the progress of the weights that follow them, and that of each token's row."""
        losses = self.shape.steps + 1
        weights = dict(zip(self.weights, outputs[losses:], strict=False))
        if len(weights) < len(self.weights):
            return outputs
        return [*outputs[:losses], self.progress(weights), self.rows(weights)]

    @property
    def batch_bytes(self) -> int:
        """Of one batch as it goes to the device: every window with the token after its last."""
        return self.shape.batch * (self.shape.context + 1) * TOKEN_BYTES

    def batch(self, step: int, out: torch.Tensor | None = None) -> torch.Tensor:
        """[batch, context + 1] of int64 in host memory, in `out` if given."""
        length = self.shape.context + 1
        windows = [self.corpus[start : start + length].long() for start in self.starts[step]]
        return torch.stack(windows, out=out)

    def reference(self) -> list[torch.Tensor]:
        """The losses and the progress in float64, by the plainest optimizer; computed once for the same inputs."""
        if not self._reference:
            model = Model(self.shape).to(self.device, torch.float64)
            model.load_state_dict(self.weights)
            optimizer = torch.optim.AdamW(
                model.parameters(), lr=self.shape.rate, foreach=False, fused=False, **OPTIMIZER
            )
            for step in range(self.shape.steps + 1):
                tokens = self.batch(step).to(self.device)
                loss = loss_of(model(tokens[:, :-1]), tokens[:, 1:])
                self._reference.append(loss.detach())
                if step < self.shape.steps:
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
            self._reference += [self.progress(model.state_dict()), self.rows(model.state_dict())]
        return self._reference

    def progress(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """[tensors + 1] of float64: how far each tensor moved from its first weights, as the root mean square of its elements
        in units of all steps at full rate, and by how much all of them shrank, in units of the weight decay.

        Biases of queries, keys and values are left out: a key's has no gradient (it moves all scores of a query alike), so
        that it follows rounding alone.
        """
        shape = self.shape
        moved = []
        along, size = (torch.zeros((), dtype=torch.float64, device=self.device) for _ in range(2))
        with torch.no_grad():
            for name, first in self.weights.items():
                if name.endswith("qkv.bias"):
                    continue
                start = first.double()
                change = weights[name].double() - start
                moved.append(change.square().mean().sqrt() / (shape.rate * shape.steps))
                along += (change * start).sum()
                size += start.square().sum()
            decay = shape.rate * OPTIMIZER["weight_decay"] * shape.steps
            return torch.stack([*moved, along / (size * decay)])

    def rows(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """[vocabulary] of float64: how far each token's row of the embedding moved, in the unit of `progress`."""
        with torch.no_grad():
            change = weights["tokens.weight"].double() - self.weights["tokens.weight"].double()
            return change.square().mean(1).sqrt() / (self.shape.rate * self.shape.steps)

    def work(self) -> Work:
        """The same for all variants: every batch crosses once; losses stay on the device."""
        shape = self.shape
        products = shape.layers * 12 * shape.width**2 + shape.vocabulary * shape.width
        attention = shape.layers * 2 * shape.context * shape.width
        forward = 2 * (products + attention) * shape.batch * shape.context
        return Work(
            items=(shape.steps + 1) * shape.batch * shape.context,
            unit="tokens",
            flops=(3 * shape.steps + 1) * forward,
            input_bytes=(shape.steps + 1) * self.batch_bytes,
            output_bytes=(shape.steps + 1) * 4,
            # Within the device, libraries copy as they like.
            moved_bytes={"h2d": (shape.steps + 1) * self.batch_bytes, "d2h": 0, "d2d": None},
        )


def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of the next token; autocast does it in fp32."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Baseline(Variant):
    """One batch after the other, in fp32. Subclasses change one thing each."""

    bf16 = False
    fused: bool | None = None
    """Whether AdamW is asked to be fused; null leaves its choice to it."""

    def __init__(self, problem: Training) -> None:
        self.problem = problem

    def prepare(self) -> None:
        problem = self.problem
        model = Model(problem.shape).to(problem.device)
        self._weights = dict(model.state_dict(keep_vars=True))
        self._model: Callable[[torch.Tensor], torch.Tensor] = model
        # Null is also the default of `foreach`: left alone, torch uses lists of tensors on a GPU and a loop elsewhere.
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=problem.shape.rate, fused=self.fused, **OPTIMIZER)
        self._losses = torch.empty(problem.shape.steps + 1, device=problem.device)

    def reset(self) -> None:
        """The first weights and an optimizer that has seen nothing, in the same memory."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(self.problem.weights[name])
        self._optimizer.zero_grad()
        for state in self._optimizer.state.values():
            for value in state.values():
                value.zero_()

    def iteration(self) -> None:
        problem = self.problem
        for step in range(problem.shape.steps + 1):
            with stage("load", kind="host"):
                batch = problem.batch(step)
            with stage("h2d", kind="h2d", nbytes=problem.batch_bytes):
                tokens = batch.to(problem.device, copy=True)
            self._learn(step, tokens)

    def _learn(self, step: int, tokens: torch.Tensor) -> None:
        """One step of training, or after the last step its loss alone."""
        train = step < self.problem.shape.steps
        with torch.set_grad_enabled(train):
            with stage("forward", kind="compute"), self._precision():
                logits = self._model(tokens[:, :-1])
            with stage("loss", kind="compute"), self._precision():
                loss = loss_of(logits, tokens[:, 1:])
                self._losses[step] = loss.detach()
        if train:
            # On a GPU, autograd would launch from a thread of its own, whose kernels nobody could tell from the loader's.
            with stage("backward", kind="compute"), torch.autograd.set_multithreading_enabled(False):
                loss.backward()
            with stage("optimizer", kind="compute"):
                self._optimizer.step()
                self._optimizer.zero_grad()

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.problem.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def outputs(self) -> Sequence[torch.Tensor]:
        return [*self._losses.unbind(), *(weight.detach() for weight in self._weights.values())]


class Bf16(Baseline):
    """Forward and loss under autocast."""

    bf16 = True


class FusedAdamw(Bf16):
    """And the optimizer in one kernel."""

    fused = True


class Prefetch(FusedAdamw):
    """And the next batch loaded by a worker thread; null in a queue of slot numbers says "give up".

        free -> [loader: load, h2d] -> loaded -> [main: forward ... optimizer] -> free

    On CUDA events carry the same order to the device: the copy into a slot waits for the step that used it last, a step
    for its copy. The loader itself waits for a copy before it writes over the pinned memory it came from.
    """

    def __init__(self, problem: Training) -> None:
        super().__init__(problem)
        self._free, self._loaded = (SimpleQueue[int | None]() for _ in range(2))
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")

    def prepare(self) -> None:
        super().prepare()
        shape, device = self.problem.shape, self.problem.device
        size = (shape.batch, shape.context + 1)
        cuda = device.type == "cuda"
        self._host = [torch.empty(size, dtype=torch.int64, pin_memory=cuda) for _ in range(DEPTH)]
        self._tokens = [torch.empty(size, dtype=torch.int64, device=device) for _ in range(DEPTH)]
        self._stream = torch.cuda.Stream(device) if cuda else None
        # Waiting for an event that was never recorded does not wait, which is right for the first use of a slot.
        self._copied, self._used = ([torch.cuda.Event() for _ in range(DEPTH if cuda else 0)] for _ in range(2))
        for slot in range(DEPTH):
            self._free.put(slot)
        self._loader.submit(int).result()  # starts the thread now, not in the first iteration

    def scratch(self) -> Sequence[torch.Tensor]:
        return [*self._host, *self._tokens]

    def iteration(self) -> None:
        loading = self._loader.submit(self._load)
        try:
            for step in range(self.problem.shape.steps + 1):
                with stage("handoff", kind="host"):
                    slot = self._take(step)
                self._learn(step, self._tokens[slot])
                with stage("handoff", kind="host"):
                    if self._stream is not None:
                        self._used[slot].record()
                    self._free.put(slot)
            with stage("handoff", kind="host"):
                loading.result()
        except BaseException:  # an interrupt too
            self._free.put(None)
            _raise_first(loading)
            raise

    def _take(self, step: int) -> int:
        slot = self._loaded.get()
        if slot is None:
            raise WorkloadError(f"the loader stopped before the batch of step {step}")
        if self._stream is not None:
            torch.cuda.current_stream(self.problem.device).wait_event(self._copied[slot])
        return slot

    def _load(self) -> None:
        problem = self.problem
        try:
            for step in range(problem.shape.steps + 1):
                with stage("handoff", kind="host"):
                    slot = self._free.get()
                    if slot is None:
                        return
                    if self._stream is not None:
                        self._copied[slot].synchronize()
                with stage("load", kind="host"):
                    problem.batch(step, out=self._host[slot])
                with stage("h2d", kind="h2d", nbytes=problem.batch_bytes):
                    self._copy(slot)
                with stage("handoff", kind="host"):
                    self._loaded.put(slot)
        except BaseException:
            self._loaded.put(None)
            raise

    def _copy(self, slot: int) -> None:
        if self._stream is None:
            self._tokens[slot].copy_(self._host[slot])
            return
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._used[slot])
            self._tokens[slot].copy_(self._host[slot], non_blocking=True)
            self._copied[slot].record(self._stream)

    def close(self) -> None:
        self._free.put(None)
        self._loader.shutdown()


def _raise_first(loading: Future[None]) -> None:
    """The loader's own failure explains more than the main thread's giving up after it."""
    failure = loading.exception()
    if failure is not None:
        raise failure


class Compiled(Prefetch):
    """And the model's operations fused and scheduled by `torch.compile`, for exactly these shapes."""

    def prepare(self) -> None:
        """Compiles forward and backward, with and without gradients, by running each once on zeros."""
        super().prepare()
        for tokens in self._tokens:
            tokens.zero_()
        # In this process alone: the compiler's workers would still come up while iterations are timed.
        from torch._inductor import config

        with config.patch(compile_threads=1):
            self._model = torch.compile(self._model, dynamic=False)
            for step in (0, self.problem.shape.steps):
                self._learn(step, self._tokens[0])
        if self._stream is not None:
            torch.cuda.synchronize(self.problem.device)


VARIANTS: Final[Mapping[str, Callable[[Training], Variant]]] = {
    "baseline": Baseline,
    "bf16": Bf16,
    "fused_adamw": FusedAdamw,
    "optimized": Prefetch,
    "compiled": Compiled,
}

PROGRAM: Final = Program(entry=find("training_single"), setup=Training, variants=VARIANTS)

if __name__ == "__main__":
    main(PROGRAM)
