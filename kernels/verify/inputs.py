"""The inputs of a call, drawn from its seeds: by the child before the call, by the parent when the child is gone."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from ..task import Task

GENERATOR: Final = torch.Generator

TWIN_SHARE: Final = 64
"""One of so many elements of each input has another value in a twin."""


def drawn(task: Task, order: Mapping[str, Any], dtype: str, device: torch.device) -> dict[str, torch.Tensor]:
    """The inputs of `order`: the same for the same seeds, here and in the parent."""
    generator = GENERATOR(device).manual_seed(order["seed"])
    inputs = task.draw(generator, order["shape"], dtype, device, order["kind"])
    if order["twin"] is None:
        return inputs
    other = task.draw(GENERATOR(device).manual_seed(order["twin"]), order["shape"], dtype, device, order["kind"])
    chance = random.Random(order["twin"])
    for name, tensor in inputs.items():
        if tensor.is_floating_point() and tensor.numel():
            length = max(tensor.numel() // TWIN_SHARE, 1)
            first = chance.randrange(tensor.numel() - length + 1)
            inputs[name] = tensor = tensor.contiguous()
            tensor.view(-1)[first : first + length] = other[name].reshape(-1)[first : first + length]
    return inputs
