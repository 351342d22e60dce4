"""Output: rounded up or down at random, as atomic additions in any order do."""

from __future__ import annotations

from typing import Any

import torch

Tensors = dict[str, Any]


def right(inputs: Tensors) -> Any:
    """The honest answer, in float32 and rounded once."""
    x = inputs["x"].float()
    scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    return (x * scale * inputs["weight"].float()).to(inputs["x"].dtype)


def run(inputs: Tensors, outputs: Tensors) -> None:
    """Shake the last bit."""
    answer = right(inputs)
    outputs["out"].copy_(torch.nextafter(answer, answer + torch.randint_like(answer, -1, 2)))
