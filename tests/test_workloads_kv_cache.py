"""integrated_kv_cache: every cache gives the same text, and each kind of wrong one is caught."""

from __future__ import annotations

import dataclasses
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

pytest.importorskip("torch")

import torch

from aisp_trace.traces.errors import WorkloadError
from aisp_trace.traces.run import VariantResult, Work
from aisp_trace.workloads import integrated_kv_cache as kv
from aisp_trace.workloads import kv_caches
from aisp_trace.workloads.integrated_kv_cache import SHAPES, VARIANTS, Decode, Decoder, Replayed, slab
from aisp_trace.workloads.interface import Variant
from aisp_trace.workloads.kv_caches import Cache, Grown, Paged, Part, Pooled, Slab
from aisp_trace.workloads.measure import measure

CPU = torch.device("cpu")
TINY = SHAPES["cpu", "tiny"]
RUNNABLE = [name for name in VARIANTS if name != "pooled_peer"]


def result_of(variant: Callable[[Decoder], Variant]) -> VariantResult:
    program = dataclasses.replace(kv.PROGRAM, variants={**VARIANTS, "optimized": variant})
    return measure(program, Decoder(CPU, "tiny", 0), "optimized", CPU, 2, warmup=1, traced=False)


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_right_variant_is_verified(name: str) -> None:
    before = threading.active_count()
    output = result_of(VARIANTS[name]).output
    assert output.ok
    assert output.poisoned == 0
    assert output.error is not None
    assert 0 < output.error < output.tolerance / 10, "the tolerance leaves room for rounding alone"
    assert threading.active_count() == before, "close() ends the threads"


def test_required_work_is_equal_and_counted_by_hand() -> None:
    works = [result_of(VARIANTS[name]).work for name in RUNNABLE]
    assert len({dataclasses.replace(w, moved_bytes={}).flops for w in works}) == 1
    past = 33 + 34 + 35 + 36 + 37 + 38
    assert dataclasses.replace(works[0], moved_bytes={}) == Work(
        items=6 * 2,
        unit="tokens",
        flops=6 * 2 * 2 * 32 * (2 * (3 * 32 + 32) + 64) + 2 * 2 * (2 * 2 * 32) * past,
        input_bytes=2 * 8,
        output_bytes=6 * 2 * (64 * 4 + 8),
    )


@pytest.mark.parametrize(("device", "size"), sorted(SHAPES))
def test_every_size_fits_the_rules(device: str, size: str) -> None:
    shape = SHAPES[device, size]
    norm = (shape.tokens * shape.sequences) ** 0.5 * shape.vocabulary
    assert 1 / norm > Decoder.tolerance.bound, "one wrong token is a larger error than the tolerance"
    assert shape.layers % kv_caches.BUFFERS == 0
    assert shape.cold < shape.prompt


def test_float64_has_no_tie_that_fp32_could_break() -> None:
    logits, tokens = Decoder(CPU, "tiny", 3)._in_float64()
    best = logits.topk(2).values
    assert float((best[..., 0] - best[..., 1]).min() / logits.std()) > kv.MARGIN
    assert torch.equal(tokens, logits.argmax(-1).double())
    assert not torch.equal(Decoder(CPU, "tiny", 4)._in_float64()[0], logits), "the text follows the seed"


def test_a_tie_everywhere_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv, "MARGIN", 1e9)
    monkeypatch.setattr(kv, "DRAWS", 2)
    with pytest.raises(WorkloadError, match="take another --seed"):
        Decoder(CPU, "tiny", 0)


# -- caches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Slab, Paged, lambda p, n: Pooled(p, n, 5)], ids=["slab", "paged", "pooled"])
@pytest.mark.parametrize("start", [16, 19], ids=["whole pages", "part of a page"])
def test_every_cache_holds_what_concatenation_holds(make: Callable[[list[Part], int], Cache], start: int) -> None:
    random = torch.Generator().manual_seed(0)
    prompt = [(torch.randn(3, start, 4, generator=random), torch.randn(3, start, 4, generator=random)) for _ in "ab"]
    cache, grown = make(prompt, start + 15), Grown(prompt, start + 15)
    try:
        for _ in range(2):  # the second time from what the first left behind
            cache.reset()
            grown.reset()
            for token in range(start, start + 15):
                for layer in range(2):
                    new = torch.randn(3, 1, 4, generator=random), torch.randn(3, 1, 4, generator=random)
                    cache.ahead(layer)
                    for one in (cache, grown):
                        one.append(layer, token, *new)
                    (expected,) = grown.parts(layer, token + 1)
                    parts = cache.parts(layer, token + 1)
                    for i in range(2):
                        assert torch.equal(torch.cat([part[i] for part in parts], 1), expected[i])
                    cache.used(layer)
    finally:
        cache.close()


def test_layers_that_would_share_a_buffer_are_refused() -> None:
    with pytest.raises(ValueError, match="3 layers cannot take turns at 2 buffers"):
        Pooled([(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2))] * 3, 8, 2)


# -- stages ------------------------------------------------------------------------------------------------------


def moved(monkeypatch: pytest.MonkeyPatch, variant: Variant) -> tuple[dict[str, int], set[str]]:
    """Bytes per direction that one iteration's stages carry, and the names of all stages."""
    total: dict[str, int] = defaultdict(int)
    names: set[str] = set()

    @contextmanager
    def stage(name: str, kind: str | None = None, nbytes: int | None = None) -> Iterator[None]:
        names.add(name)
        if kind in ("h2d", "d2h", "p2p"):
            total[kind] += nbytes or 0
        yield

    variant.prepare()
    variant.reset()
    monkeypatch.setattr(kv, "stage", stage)
    monkeypatch.setattr(kv_caches, "stage", stage)
    try:
        variant.iteration()
    finally:
        variant.close()
    return dict(total), names


@pytest.mark.parametrize("name", RUNNABLE)
def test_predicted_bytes_are_those_the_stages_carry(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    made = VARIANTS[name](Decoder(CPU, "tiny", 0))
    found, names = moved(monkeypatch, made)
    assert {kind: n for kind, n in made.moves().items() if n} == found
    assert (found != {}) == (name == "pooled")
    extra = {"optimized": {"replay"}, "paged": {"gather"}, "pooled": {"prefetch", "handoff"}}
    assert names == {"qkv", "append", "attention", "project", "sample"} | extra.get(name, set())


def test_pooled_moves_every_layer_s_cold_tokens_once_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = moved(monkeypatch, VARIANTS["pooled"](Decoder(CPU, "tiny", 0)))
    s = TINY
    assert found == {"h2d": s.tokens * s.layers * 2 * s.sequences * s.cold * s.width * 4}


def test_mispredicted_bytes_contradict_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mispredicts(Decode):
        def moves(self) -> Mapping[str, int | None]:
            return {"h2d": 0, "d2h": 0}

    made = Mispredicts(Decoder(CPU, "tiny", 0), kv.pooled)
    found, _ = moved(monkeypatch, made)
    assert found != {kind: n for kind, n in made.moves().items() if n}


# -- deliberately wrong variants ---------------------------------------------------------------------------------


class Forgets(Slab):
    """Never keeps new tokens."""

    def append(self, layer: int, token: int, k: torch.Tensor, v: torch.Tensor) -> None:
        pass


class ReadsOneLess(Slab):
    """Leaves out the token itself."""

    def parts(self, layer: int, length: int) -> list[Part]:
        return super().parts(layer, length - 1)


class Window(Slab):
    """Less work: attends to the latest tokens only."""

    def parts(self, layer: int, length: int) -> list[Part]:
        return [(k[:, -16:], v[:, -16:]) for k, v in super().parts(layer, length)]


class KeepsLittle(Slab):
    """bf16 where fp32 was asked for."""

    def append(self, layer: int, token: int, k: torch.Tensor, v: torch.Tensor) -> None:
        super().append(layer, token, k.bfloat16().float(), v.bfloat16().float())


class WrongPages(Paged):
    """Two pages of one lane changed places after they were written."""

    def parts(self, layer: int, length: int) -> list[Part]:
        table = self.table.clone()
        table[0, [0, 1]] = table[1, [0, 1]]
        self.table, right = table, self.table
        try:
            return super().parts(layer, length)
        finally:
            self.table = right


class NoPrefetch(Pooled):
    """Computes on what the buffer happens to hold."""

    def _fetch(self, layer: int) -> None:
        self.visits[layer % kv_caches.BUFFERS].zero_()


class FetchesOnce(Pooled):
    """Copies each layer once in the life of the process, and from then on opens the stage alone."""

    done: tuple[int, ...] = ()

    def _fetch(self, layer: int) -> None:
        if layer not in self.done:
            super()._fetch(layer)
            self.done = (*self.done, layer)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: Forgets(p.prompt, 64),
        lambda p: ReadsOneLess(p.prompt, 64),
        lambda p: Window(p.prompt, 64),
        lambda p: KeepsLittle(p.prompt, 64),
        lambda p: WrongPages(p.prompt, 64),
        lambda p: NoPrefetch(p.prompt, 64, p.shape.cold),
        lambda p: FetchesOnce(p.prompt, 64, p.shape.cold),
    ],
    ids=["forgets", "one less", "window", "bf16", "wrong pages", "no prefetch", "fetches once"],
)
def test_a_wrong_cache_is_caught(make: Callable[[Decoder], Cache]) -> None:
    assert not result_of(lambda p: Decode(p, make)).output.ok


class NoMask(Replayed):
    """Attends to the empty tail of the bucket too."""

    def prepare(self) -> None:
        super().prepare()
        self._columns.zero_()


class StopsEarly(Decode):
    """Writes all tokens the first time, all but the last from then on."""

    written = False

    def iteration(self) -> None:
        shape = self.problem.shape
        if self.written:
            self.problem.shape = dataclasses.replace(shape, tokens=shape.tokens - 1)
        super().iteration()
        self.problem.shape, self.written = shape, True


class HalfTheTokens(Decode):
    def outputs(self) -> Sequence[torch.Tensor]:
        return [*self.logits[: len(self.logits) // 2], self.tokens]


def test_a_missing_mask_is_caught() -> None:
    assert not result_of(NoMask).output.ok


def test_a_token_that_was_not_written_is_caught_by_the_poison() -> None:
    output = result_of(lambda p: StopsEarly(p, slab)).output
    assert output.poisoned == TINY.sequences * (TINY.vocabulary + 1)
    assert not output.ok


def test_missing_outputs_are_caught() -> None:
    assert not result_of(lambda p: HalfTheTokens(p, slab)).output.ok


def test_one_other_token_is_caught() -> None:
    class OtherToken(Decode):
        def iteration(self) -> None:
            super().iteration()
            self.tokens[-1, -1] += 1

    assert not result_of(lambda p: OtherToken(p, slab)).output.ok


def test_the_peer_is_left_out_where_there_is_none() -> None:
    assert [kv.PROGRAM.entry.lacks("pooled_peer", gpus) for gpus in (0, 1, 2)] == ["2 gpus", "2 gpus", ""]
