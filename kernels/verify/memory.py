"""Memory that shows what a candidate does with it: guard bands, poison, and addresses that differ from call to call.

    | guard | random gap | operand | guard |         all of it poison, until the operand's values are put in

The poison is one 16-bit pattern that is a NaN as float16, bfloat16 and float32. What is read beyond an operand's end, or never
written, shows in the results; what is written beyond it shows in the guard.
"""

from __future__ import annotations

import ctypes
import math
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import torch

from .plan import UNALIGNED, VIEWS

GUARD_BYTES: Final = 4096
GAP_STEPS: Final = 64
STEP_BYTES: Final = 256
"""Addresses are multiples of this, which is what CUDA's own allocator gives at least."""

PATTERN: Final = 0x7FDE
"""The poison of two-byte floats in workloads/verify.py."""

ON_CPU: Final = 8
"""Blocks of an output's size that are poisoned and given back, where the allocator is the C library's."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A tensor in its memory: `whole` are the bytes, of which `first` to `last` may change."""

    tensor: torch.Tensor
    whole: torch.Tensor
    first: int
    last: int

    def overwritten(self) -> int:
        """Bytes of the guard bands that are not poison any more."""
        found = 0
        for band, odd in ((self.whole[: self.first], 0), (self.whole[self.last :], self.last % 2)):
            low, high = band[odd::2], band[1 - odd :: 2]
            found += int((low != PATTERN & 0xFF).sum()) + int((high != PATTERN >> 8).sum())
        return found


def place(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device, how: str, chance: random.Random, *, bare: bool
) -> Placed:
    """A tensor full of poison. `how`: aligned, unaligned, views (plan.py); `bare`: memory of exactly its size, for tools that
    find wrong addresses themselves."""
    each = dtype.itemsize
    count = math.prod(shape)
    if bare:
        whole = torch.empty(max(count * each, 1), dtype=torch.uint8, device=device)
        return Placed(whole[: count * each].view(dtype).view(tuple(shape)), whole, 0, len(whole))
    spread = 2 if how == VIEWS else 1
    nbytes = count * each * spread
    room = GUARD_BYTES * 2 + nbytes + (GAP_STEPS + 2) * STEP_BYTES
    whole = torch.empty(room // 2 * 2, dtype=torch.uint8, device=device)
    whole.view(torch.int16).fill_(PATTERN)
    first = GUARD_BYTES + chance.randrange(GAP_STEPS) * STEP_BYTES
    first += -(whole.data_ptr() + first) % STEP_BYTES + (each if how == UNALIGNED else 0)
    # `view` wants offsets that are multiples of the element: the bytes are cut first, so that any address will do.
    flat = torch.empty(0, dtype=dtype, device=device).set_(
        whole.untyped_storage(), (whole.storage_offset() + first) // each, (nbytes // each,)
    )
    if how == VIEWS:
        last = shape[-1] if shape else 1
        wide = flat.view(*shape[:-1], 2 * last) if shape else flat
        return Placed(wide[..., ::2] if shape else wide[0], whole, first, first + nbytes)
    return Placed(flat.view(tuple(shape)), whole, first, first + nbytes)


class FreeMemory:
    """Poisons what an allocator would hand out next, so that no earlier answer lies there."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._set: Any = None
        if device.type == "cuda":
            with suppress(OSError, AttributeError):
                function = ctypes.CDLL("libcuda.so.1").cuMemsetD16_v2
                function.argtypes = [ctypes.c_uint64, ctypes.c_ushort, ctypes.c_size_t]
                function.restype = ctypes.c_int
                self._set = function
        self._snapshot = torch.cuda.memory_snapshot

    def poison(self, sizes: Sequence[int]) -> bool:
        """Whether it could be done. `sizes` are those of the outputs, in bytes: on a processor such blocks are poisoned."""
        if self._device.type != "cuda":
            for nbytes in sizes:
                blocks = [torch.empty(nbytes // 2 + 1, dtype=torch.int16) for _ in range(ON_CPU)]
                for block in blocks:
                    block.fill_(PATTERN)
            return True
        if self._set is None:
            return False
        torch.cuda.synchronize()
        for segment in self._snapshot():
            for block in segment["blocks"]:
                if (
                    block["state"] == "inactive"
                    and block.get("address")
                    and self._set(block["address"], PATTERN, block["size"] // 2)
                ):
                    return False
        return True
