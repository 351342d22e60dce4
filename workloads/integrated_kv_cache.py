"""integrated_kv_cache: a decoder writes tokens one by one, each reading the keys and values of all before it.

    one token:   qkv | append | (gather) | attention | project     for every layer, then     sample

What it proves: what the way of keeping the cache costs, and what launching small kernels one by one does. The model is
a decoder of `Shape.layers` attention layers in fp32 with layer norm and a residual; an iteration writes `tokens` tokens
for every sequence after a prompt whose keys and values are the initial state. The next token is the most probable one
and is computed on the device; it is the input of the next step, so every output depends on the cache.

Baseline. The cache of ``past_key_values`` grown by ``torch.cat``, as `DynamicCache` of transformers does for every
layer and token: all of the past is read and written anew, and a larger tensor is asked of the allocator each time.

`preallocated` writes each token into a slab of the final length. `optimized` replays a captured CUDA graph of one step
in place of its some sixty launches. A graph has fixed shapes, so the position is a number on the device and attention
runs over whole buckets of `BUCKET` tokens, the tail masked: it reads up to `BUCKET` - 1 tokens more than it must. On a
CPU the same step, buckets and mask included, runs without a graph.

Alternatives, each one change to `preallocated`. `paged` keeps pages behind a block table and gathers them before
attention; it saves memory in a server, and here it costs a second pass over the cache, since no kernel of torch reads
pages in place. `pooled` keeps the first `cold` tokens of every layer in page-locked host memory and prefetches the next
layer's while one computes; `pooled_peer` keeps them in the memory of another GPU. They save device memory; the link
decides how many tokens may be cold without costing time.

Outputs are the logits of every step and the tokens. Float64 and fp32 must choose the same tokens or they would compare
different texts, so `Decoder` draws prompts until float64 never has a tie nearer than `MARGIN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F

from ..capture.stages import stage
from ..traces.errors import WorkloadError
from ..traces.run import Work
from .catalog import find
from .interface import Problem, Program, Tolerance, Variant
from .kv_caches import Cache, Grown, Paged, Part, Pooled, Slab
from .runner import main

BUCKET: Final = 32
"""Tokens by which the length of a captured step grows."""

MARGIN: Final = 3e-5
"""Least distance of the best two logits, in units of the logits' spread; fp32 errs by about 1e-6 of it."""

DRAWS: Final = 50
"""Prompts tried for `MARGIN`. Some 2,000 choices lie nearer than it in about one prompt of five."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`tokens` are written after `prompt`, of which `cold` tokens may wait elsewhere."""

    sequences: int
    heads: int
    head: int
    layers: int
    vocabulary: int
    prompt: int
    tokens: int
    cold: int

    @property
    def width(self) -> int:
        """Of a token's vector."""
        return self.heads * self.head


SHAPES: Final[Mapping[tuple[str, str], Shape]] = {
    # H200: a layer's cache is 134 MB, read in 30 us at 4.8 TB/s; concatenating reads and writes it once more. A step is
    # about 60 launches of 5 us. 64 cold tokens are 8.4 MB a layer, 0.15 ms over pinned PCIe 5 x16.
    ("cuda", "tiny"): Shape(4, 4, 32, 2, 256, 64, 8, 16),
    ("cuda", "default"): Shape(16, 16, 64, 4, 1024, 1024, 32, 64),
    ("cuda", "large"): Shape(16, 16, 64, 4, 1024, 1024, 64, 64),
    ("cpu", "tiny"): Shape(2, 2, 16, 2, 64, 32, 6, 16),
    ("cpu", "default"): Shape(4, 4, 32, 2, 256, 512, 32, 64),
    ("cpu", "large"): Shape(4, 4, 32, 2, 256, 512, 128, 64),
}


class Decoder(Problem):
    """Weights, the prompt's cache and the first token of every sequence, on the device."""

    tolerance = Tolerance(
        bound=1e-5,
        reason=(
            "four layers of fp32 dot products of about 1024 terms round to some 1e-6; TF32 would give about 1e-3, and "
            "one other token among all is a larger relative difference than the bound"
        ),
    )

    def __init__(self, device: torch.device, size: str, seed: int) -> None:
        torch.set_float32_matmul_precision("highest")
        if device.type == "cpu":
            torch.set_num_threads(1)
        self.device, self.shape = device, (shape := SHAPES[device.type, size])
        random = torch.Generator(device).manual_seed(seed)

        def normal(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=random, device=device)

        width, lanes = shape.width, shape.sequences * shape.heads
        self.embedding = normal(shape.vocabulary, width)
        self.qkv = [normal(width, 3 * width) * width**-0.5 for _ in range(shape.layers)]
        self.out = [normal(width, width) * width**-0.5 for _ in range(shape.layers)]
        self.unembedding = normal(width, shape.vocabulary) * width**-0.5
        size_of = (lanes, shape.prompt, shape.head)
        self.prompt: list[Part] = [
            (torch.empty(size_of, device=device), torch.empty(size_of, device=device)) for _ in range(shape.layers)
        ]
        self.first = torch.empty(shape.sequences, dtype=torch.int64, device=device)
        self._draw(random)

    def inputs(self) -> Sequence[torch.Tensor]:
        """The prompt's keys and values, and the first tokens. The weights stay, as a served model's do."""
        return [self.first, *(half for part in self.prompt for half in part)]

    def fresh(self, random: torch.Generator) -> None:
        """Another prompt without a tie, and other first tokens."""
        seed = int(torch.randint(1 << 62, (), generator=random))
        self._draw(torch.Generator(self.device).manual_seed(seed))

    def _draw(self, random: torch.Generator) -> None:
        """Prompt and first tokens, in place, until float64 has no tie. Its results are not kept: a variant could find them."""
        for _ in range(DRAWS):
            for k, v in self.prompt:
                # Keys of spread 2 make attention prefer some tokens, so that its sum does not average the past away.
                k.normal_(generator=random).mul_(2)
                v.normal_(generator=random)
            self.first.random_(self.shape.vocabulary, generator=random)
            logits, _ = self._in_float64()
            best = logits.topk(2).values
            if float((best[..., 0] - best[..., 1]).min() / logits.std()) > MARGIN:
                return
        raise WorkloadError(f"{DRAWS} prompts in a row all had a tie nearer than {MARGIN:g}; take another --seed")

    def _in_float64(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and tokens, by a loop of its own."""
        shape, token = self.shape, self.first
        past = [(k.double(), v.double()) for k, v in self.prompt]
        qkv, out = ([weight.double() for weight in weights] for weights in (self.qkv, self.out))
        unembedding = self.unembedding.double()
        logits, tokens = [], []
        for _ in range(shape.tokens):
            x = self.embedding[token].double()
            for layer in range(shape.layers):
                new = (x @ qkv[layer]).view(shape.sequences * shape.heads, 3, shape.head)
                q, k, v = new.unbind(1)
                old_k, old_v = past[layer]
                past[layer] = torch.cat((old_k, k[:, None]), 1), torch.cat((old_v, v[:, None]), 1)
                scores = torch.einsum("ld,lnd->ln", q, past[layer][0]) * shape.head**-0.5
                mixed = torch.einsum("ln,lnd->ld", scores.softmax(-1), past[layer][1])
                x = F.layer_norm(x + mixed.reshape(shape.sequences, -1) @ out[layer], (shape.width,))
            logits.append(x @ unembedding)
            token = logits[-1].argmax(-1)
            tokens.append(token)
        return torch.stack(logits), torch.stack(tokens).double()

    def reference(self) -> Iterator[torch.Tensor]:
        """Logits of every step one by one, then the tokens."""
        logits, tokens = self._in_float64()
        yield from logits
        yield tokens

    def work(self) -> Work:
        """All required work; no copy crosses a link."""
        s = self.shape
        past = sum(range(s.prompt + 1, s.prompt + s.tokens + 1))
        dense = s.tokens * s.sequences * 2 * s.width * (s.layers * 4 * s.width + s.vocabulary)
        return Work(
            items=s.tokens * s.sequences,
            unit="tokens",
            flops=dense + s.layers * s.sequences * 4 * s.width * past,
            input_bytes=s.sequences * 8,
            output_bytes=s.tokens * s.sequences * (s.vocabulary * 4 + 8),
            moved_bytes={"h2d": 0, "d2h": 0},
        )


class Decode(Variant):
    """Token by token over a cache that `make` makes."""

    def __init__(self, problem: Decoder, make: Callable[[Decoder], Cache]) -> None:
        self.problem, self._make = problem, make
        self.cache: Cache | None = None

    def prepare(self) -> None:
        s, device = self.problem.shape, self.problem.device
        self.cache = self._make(self.problem)
        self.logits = torch.empty(s.tokens, s.sequences, s.vocabulary, device=device)
        self.tokens = torch.empty(s.tokens, s.sequences, dtype=torch.int64, device=device)

    def reset(self) -> None:
        assert self.cache is not None
        self.cache.reset()

    def iteration(self) -> None:
        p, cache = self.problem, self.cache
        assert cache is not None
        token = p.first
        cache.ahead(0)
        for step in range(p.shape.tokens):
            with stage("qkv", kind="compute"):
                x = p.embedding[token]
            for layer in range(p.shape.layers):
                # Cold tokens of the next layer, or of the next step's first, come while this one computes.
                following = step * p.shape.layers + layer + 1
                if following < p.shape.tokens * p.shape.layers:
                    cache.ahead(following % p.shape.layers)
                x = self._layer(cache, layer, p.shape.prompt + step, x)
            with stage("sample", kind="compute"):
                torch.mm(x, p.unembedding, out=self.logits[step])
                token = torch.argmax(self.logits[step], -1, out=self.tokens[step])

    def _layer(self, cache: Cache, layer: int, position: int, x: torch.Tensor) -> torch.Tensor:
        with stage("qkv", kind="compute"):
            q, k, v = heads(self.problem, layer, x)
        with stage("append", kind="compute"):
            cache.append(layer, position, k, v)
        parts = cache.parts(layer, position + 1)
        with stage("attention", kind="compute"):
            mixed = attention(q, parts)
        cache.used(layer)
        with stage("project", kind="compute"):
            return project(self.problem, layer, x, mixed)

    def outputs(self) -> Sequence[torch.Tensor]:
        return [*self.logits, self.tokens]

    def scratch(self) -> Sequence[torch.Tensor]:
        return () if self.cache is None else self.cache.scratch()

    def buffers(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        return () if self.cache is None else self.cache.buffers()

    def moves(self) -> Mapping[str, int | None]:
        assert self.cache is not None
        return {kind: n * self.problem.shape.tokens for kind, n in self.cache.moved_bytes_per_token.items()}

    def close(self) -> None:
        if self.cache is not None:
            self.cache.close()


def heads(problem: Decoder, layer: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values ``[lanes, 1, head]``."""
    s = problem.shape
    q, k, v = (x @ problem.qkv[layer]).view(s.sequences * s.heads, 3, s.head).split(1, 1)
    return q, k, v


def attention(q: torch.Tensor, parts: Sequence[Part], hidden: torch.Tensor | None = None) -> torch.Tensor:
    """``[lanes, 1, head]`` from all parts together; positions where `hidden` is true do not count."""
    scores = [torch.bmm(q, k.transpose(1, 2)) for k, _ in parts]
    together = (scores[0] if len(scores) == 1 else torch.cat(scores, 2)) * q.shape[2] ** -0.5
    if hidden is not None:
        together = together.masked_fill(hidden, float("-inf"))
    weights = together.softmax(2).split([k.shape[1] for k, _ in parts], 2)
    mixed = [torch.bmm(w, v) for w, (_, v) in zip(weights, parts, strict=True)]
    return mixed[0] if len(mixed) == 1 else torch.stack(mixed).sum(0)


def project(problem: Decoder, layer: int, x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    """The layer's output, from its input and what its attention mixed."""
    return F.layer_norm(x + mixed.reshape(x.shape) @ problem.out[layer], (problem.shape.width,))


class Replayed(Decode):
    """Optimized: one captured step a bucket of lengths. All that changes from step to step is on the device."""

    def __init__(self, problem: Decoder) -> None:
        super().__init__(problem, slab)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def prepare(self) -> None:
        super().prepare()
        p = self.problem
        self._token = p.first.clone()
        self._position = torch.zeros(1, dtype=torch.int64, device=p.device)
        self._columns = torch.arange(self._buckets()[-1], device=p.device)

    def _buckets(self) -> list[int]:
        """The padded length of every step."""
        s = self.problem.shape
        return [-(-(s.prompt + step + 1) // BUCKET) * BUCKET for step in range(s.tokens)]

    def graphs(self) -> None:
        if self.problem.device.type != "cuda":
            return
        self._graphs.clear()
        self.reset()
        pool = None
        for bucket in dict.fromkeys(self._buckets()):
            self._position.fill_(self.problem.shape.prompt)
            self._step(bucket)  # libraries set themselves up at their first use, which may not be in a capture
            torch.cuda.synchronize(self.problem.device)
            self._position.fill_(self.problem.shape.prompt)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                self._step(bucket)
            pool = graph.pool()
            self._graphs[bucket] = graph

    def reset(self) -> None:
        super().reset()
        self._token.copy_(self.problem.first)
        self._position.fill_(self.problem.shape.prompt)

    def iteration(self) -> None:
        for bucket in self._buckets():
            with stage("replay"):
                if self._graphs:
                    self._graphs[bucket].replay()
                else:
                    self._step(bucket)

    def _step(self, bucket: int) -> None:
        p, cache = self.problem, self.cache
        assert isinstance(cache, Slab)
        with stage("qkv", kind="compute"):
            x = p.embedding[self._token]
            hidden = self._columns[:bucket] > self._position
        for layer in range(p.shape.layers):
            with stage("qkv", kind="compute"):
                q, k, v = heads(p, layer, x)
            with stage("append", kind="compute"):
                for to, new in zip(cache.slabs[layer], (k, v), strict=True):
                    to.index_copy_(1, self._position, new)
            with stage("attention", kind="compute"):
                mixed = attention(q, cache.parts(layer, bucket), hidden)
            with stage("project", kind="compute"):
                x = project(p, layer, x, mixed)
        with stage("sample", kind="compute"):
            logits = x @ p.unembedding
            self._token.copy_(logits.argmax(-1))
            step = self._position - p.shape.prompt
            self.logits.index_copy_(0, step, logits[None])
            self.tokens.index_copy_(0, step, self._token[None])
            self._position.add_(1)

    def close(self) -> None:
        self._graphs.clear()
        super().close()


def slab(problem: Decoder) -> Cache:
    """Room for all tokens, rounded up to whole buckets."""
    s = problem.shape
    return Slab(problem.prompt, -(-(s.prompt + s.tokens) // BUCKET) * BUCKET)


def pooled(problem: Decoder, home: torch.device | None = None) -> Cache:
    """A slab without the cold tokens."""
    s = problem.shape
    return Pooled(problem.prompt, s.prompt + s.tokens, s.cold, home)


def peer(device: torch.device) -> torch.device:
    """Another GPU than `device`."""
    return torch.device("cuda", ((device.index or 0) + 1) % torch.cuda.device_count())


VARIANTS: Final[Mapping[str, Callable[[Decoder], Variant]]] = {
    "baseline": lambda p: Decode(p, lambda p: Grown(p.prompt, p.shape.prompt + p.shape.tokens)),
    "preallocated": lambda p: Decode(p, slab),
    "optimized": Replayed,
    "paged": lambda p: Decode(p, lambda p: Paged(p.prompt, p.shape.prompt + p.shape.tokens)),
    "pooled": lambda p: Decode(p, pooled),
    "pooled_peer": lambda p: Decode(p, lambda p: pooled(p, peer(p.device))),
}

PROGRAM: Final = Program(entry=find("integrated_kv_cache"), setup=Decoder, variants=VARIANTS)

if __name__ == "__main__":
    main(PROGRAM)
