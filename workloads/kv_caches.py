"""Ways to keep the keys and values of a decoder's past tokens, one layer's as ``[lanes, tokens, head]``.

A lane is one head of one sequence. All caches take one token a lane at a time and give the whole past as parts, each a
pair of keys and values, in order of tokens; attention over the parts is the same whatever made them.

    Grown      concatenates: every token makes a new tensor of everything
    Slab       writes into a tensor of the final length
    Paged      writes into pages of a pool, found by a table; gathered before use
    Pooled     a slab for recent tokens; the oldest wait elsewhere and visit a double buffer, layer by layer
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import torch

from ..capture.stages import stage

Part = tuple[torch.Tensor, torch.Tensor]

PAGE: Final = 16
"""Tokens of a page, as vLLM's default block."""

BUFFERS: Final = 2
"""Layers whose cold tokens are on the device at once: one is used while the next one's arrive."""


class Cache(ABC):
    """Keys and values of every layer. `prompt` holds one part a layer and is never written to."""

    def __init__(self, prompt: Sequence[Part], capacity: int) -> None:
        """`capacity`: the most tokens a lane will have."""
        self.prompt = prompt
        self.layers = len(prompt)
        self.capacity = capacity
        self.lanes, self.start, self.head = prompt[0][0].shape
        self.device = prompt[0][0].device

    @abstractmethod
    def reset(self) -> None:
        """Hold the prompt and nothing else."""

    def ahead(self, layer: int) -> None:  # noqa: B027  (most caches have everything at hand)
        """Begin to bring what `parts(layer)` will need and is elsewhere."""

    @abstractmethod
    def append(self, layer: int, token: int, k: torch.Tensor, v: torch.Tensor) -> None:
        """Keys and values ``[lanes, 1, head]`` of position `token`."""

    @abstractmethod
    def parts(self, layer: int, length: int) -> list[Part]:
        """The first `length` tokens."""

    def used(self, layer: int) -> None:  # noqa: B027
        """All work that reads `parts(layer)` has been enqueued."""

    def scratch(self) -> Sequence[torch.Tensor]:
        """Buffers that hold nothing after `reset`, and are filled anew before they are read."""
        return ()

    def buffers(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        """Parts of the prompt, each with its copy that `reset` does not renew."""
        return ()

    @property
    def moved_bytes_per_token(self) -> dict[str, int]:
        """Bytes that one token of all lanes makes cross a link, all layers together."""
        return {"h2d": 0, "d2h": 0}

    def close(self) -> None:  # noqa: B027
        """Stop what the cache started."""


class Grown(Cache):
    """``torch.cat`` of the past and the new token."""

    def reset(self) -> None:
        self._past = list(self.prompt)

    def append(self, layer: int, token: int, k: torch.Tensor, v: torch.Tensor) -> None:
        old_k, old_v = self._past[layer]
        self._past[layer] = torch.cat((old_k, k), 1), torch.cat((old_v, v), 1)

    def parts(self, layer: int, length: int) -> list[Part]:
        return [self._past[layer]]


class Slab(Cache):
    """One tensor of `capacity` tokens a layer; behind the tokens held it is zero."""

    skipped = 0
    """Tokens at the beginning that the slab does not hold."""

    def __init__(self, prompt: Sequence[Part], capacity: int) -> None:
        super().__init__(prompt, capacity)
        self.slabs: list[Part] = [
            (
                k.new_zeros(self.lanes, capacity - self.skipped, self.head),
                v.new_zeros(self.lanes, capacity - self.skipped, self.head),
            )
            for k, v in prompt
        ]

    def reset(self) -> None:
        held = self.start - self.skipped
        for slabs, prompts in zip(self.slabs, self.prompt, strict=True):
            for slab, prompt in zip(slabs, prompts, strict=True):
                slab[:, :held].copy_(prompt[:, self.skipped :])
                slab[:, held:].zero_()

    def append(self, layer: int, token: int, k: torch.Tensor, v: torch.Tensor) -> None:
        for slab, new in zip(self.slabs[layer], (k, v), strict=True):
            slab[:, token - self.skipped].copy_(new[:, 0])

    def parts(self, layer: int, length: int) -> list[Part]:
        k, v = self.slabs[layer]
        return [(k[:, : length - self.skipped], v[:, : length - self.skipped])]


class Paged(Cache):
    """Pages of `PAGE` tokens, handed out in an arbitrary order as they are in a server that has run for a while."""

    def __init__(self, prompt: Sequence[Part], capacity: int) -> None:
        super().__init__(prompt, capacity)
        self.blocks = -(-capacity // PAGE)
        shape = (self.lanes * self.blocks, PAGE, self.head)
        self.pools: list[Part] = [(k.new_zeros(shape), v.new_zeros(shape)) for k, v in prompt]
        order = torch.randperm(shape[0], generator=torch.Generator().manual_seed(0))
        self.table = order.view(self.lanes, self.blocks).to(self.device)

    def reset(self) -> None:
        whole = self.start // PAGE
        for pools, prompts in zip(self.pools, self.prompt, strict=True):
            for pool, prompt in zip(pools, prompts, strict=True):
                pages = prompt[:, : whole * PAGE].reshape(-1, PAGE, self.head)
                pool.zero_().index_copy_(0, self.table[:, :whole].reshape(-1), pages)
                for token in range(whole * PAGE, self.start):
                    pool[self.table[:, token // PAGE], token % PAGE] = prompt[:, token]

    def append(self, layer: int, token: int, k: torch.Tensor, v: torch.Tensor) -> None:
        page = self.table[:, token // PAGE]
        for pool, new in zip(self.pools[layer], (k, v), strict=True):
            pool[:, token % PAGE].index_copy_(0, page, new[:, 0])

    def parts(self, layer: int, length: int) -> list[Part]:
        pages = self.table[:, : -(-length // PAGE)].reshape(-1)
        with stage("gather", kind="compute"):
            k, v = (pool.index_select(0, pages).view(self.lanes, -1, self.head) for pool in self.pools[layer])
        return [(k[:, :length], v[:, :length])]


class Pooled(Slab):
    """The first `cold` tokens wait in `home` (null: in host memory), and visit one of two buffers when they are read.

        side stream   cold 1 | cold 2 | ...        ahead(l + 1) is called when layer l begins
        main stream   layer 0 | layer 1 | ...

    On a CPU a worker thread makes the copies. Raises `ValueError` for a number of layers that the buffers do not divide:
    the last layer and the next token's first would share one.
    """

    def __init__(self, prompt: Sequence[Part], capacity: int, cold: int, home: torch.device | None = None) -> None:
        if len(prompt) % BUFFERS:
            raise ValueError(f"{len(prompt)} layers cannot take turns at {BUFFERS} buffers")
        self.skipped = cold
        super().__init__(prompt, capacity)
        self._cuda = self.device.type == "cuda"
        self._kind = "h2d" if home is None else "p2p"
        # Keys and values of a layer are one tensor, so that they come in one copy.
        cut = [torch.stack((k[:, :cold], v[:, :cold])) for k, v in prompt]
        self.cold = [c.to(home or "cpu", copy=True) for c in cut]
        if self._cuda and home is None:
            self.cold = [c.pin_memory() for c in self.cold]
        self.visits = [torch.empty_like(cut[0]) for _ in range(BUFFERS)]
        self._coming: list[Future[None] | None] = [None] * BUFFERS
        self._worker: ThreadPoolExecutor | None = None
        if self._cuda:
            self._side = torch.cuda.Stream(self.device)
            self._come, self._read = ([torch.cuda.Event() for _ in range(BUFFERS)] for _ in range(2))
        else:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
            self._worker.submit(int).result()  # starts the thread now, not in the first iteration

    @property
    def cold_bytes(self) -> int:
        """Bytes of one layer's cold tokens."""
        return int(self.cold[0].nbytes)

    @property
    def moved_bytes_per_token(self) -> dict[str, int]:
        moved = {"h2d": 0, "d2h": 0}
        return {**moved, self._kind: self.layers * self.cold_bytes}

    def scratch(self) -> Sequence[torch.Tensor]:
        return self.visits

    def buffers(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        halves = [(half[:, : self.skipped] for half in part) for part in self.prompt]
        return [pair for half, cold in zip(halves, self.cold, strict=True) for pair in zip(half, cold, strict=True)]

    def ahead(self, layer: int) -> None:
        slot = layer % BUFFERS
        if self._worker is not None:
            with stage("handoff", kind="host"):
                self._coming[slot] = self._worker.submit(self._fetch, layer)
            return
        with stage("prefetch", kind=self._kind, nbytes=self.cold_bytes), torch.cuda.stream(self._side):
            self._side.wait_event(self._read[slot])
            self.visits[slot].copy_(self.cold[layer], non_blocking=True)
            self._come[slot].record(self._side)

    def _fetch(self, layer: int) -> None:
        with stage("prefetch", kind=self._kind, nbytes=self.cold_bytes):
            self.visits[layer % BUFFERS].copy_(self.cold[layer])

    def parts(self, layer: int, length: int) -> list[Part]:
        slot = layer % BUFFERS
        coming = self._coming[slot]
        if coming is not None:
            with stage("handoff", kind="host"):
                coming.result()
        elif self._cuda:
            torch.cuda.current_stream(self.device).wait_event(self._come[slot])
        buffer = self.visits[slot]
        return [(buffer[0], buffer[1]), *super().parts(layer, length)]

    def used(self, layer: int) -> None:
        if self._cuda:
            self._read[layer % BUFFERS].record(torch.cuda.current_stream(self.device))

    def close(self) -> None:
        if self._worker is not None:
            self._worker.shutdown()
