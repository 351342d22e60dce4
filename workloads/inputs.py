"""A problem's input tensors: found in its attributes, and given other values in place.

Nothing here allocates memory of an input's size, so that a device's allocator is left as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Final

import torch

_INTEGERS: Final = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of an element -> the integer type whose bits can be exchanged."""


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in `value` whose elements may change places, once: through lists, tuples, dicts and dataclasses."""
    seen: set[int] = set()

    def search(value: Any) -> Iterator[torch.Tensor]:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            if _may_change(value):
                yield value
        elif isinstance(value, dict):
            for one in value.values():
                yield from search(one)
        elif isinstance(value, list | tuple):
            for one in value:
                yield from search(one)
        elif is_dataclass(value) and not isinstance(value, type):
            for field in fields(value):
                yield from search(getattr(value, field.name, None))

    return search(value)


def _may_change(tensor: torch.Tensor) -> bool:
    plain = type(tensor) is torch.Tensor and tensor.layout == torch.strided and not tensor.requires_grad
    numbers = tensor.is_floating_point() or tensor.dtype in (torch.int32, torch.int64)
    repeated = (
        any(step == 0 and n > 1 for step, n in zip(tensor.stride(), tensor.shape, strict=True)) if plain else True
    )
    return plain and numbers and not repeated


def exchange(tensor: torch.Tensor, random: torch.Generator) -> None:
    """Give every element of `tensor` another place, at a random distance, in place; `random` is a generator on the CPU.

        before    | A | M | B |        A and B are equally long, a third to half of the whole
        then      | B | M | A |
        after     | M' B' ... |        M changed places with the beginning of B

    A tensor of one element stays as it is. Only one that is not contiguous is copied for it.
    """
    values = tensor.detach()
    flat = (values if values.is_contiguous() else values.contiguous()).view(-1).view(_INTEGERS[values.element_size()])
    n = flat.numel()
    if n < 2:
        return
    least = max(1, -(-n // 3))
    cut = int(torch.randint(least, max(least, n // 2) + 1, (), generator=random))
    cut = min(cut, n // 2)
    middle = min(n - 2 * cut, cut)
    _swap(flat[:cut], flat[n - cut :])
    _swap(flat[:middle], flat[cut : cut + middle])
    if not values.is_contiguous():
        values.copy_(flat.view(values.dtype).view(values.shape))


def _swap(a: torch.Tensor, b: torch.Tensor) -> None:
    """Exchange two pieces of memory bit by bit, without a third."""
    a.bitwise_xor_(b)
    b.bitwise_xor_(a)
    a.bitwise_xor_(b)
