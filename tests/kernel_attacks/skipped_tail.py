"""Output: only whole vectors of eight are written; what is left at the end of a tensor is not."""

from __future__ import annotations

from typing import Any

Tensors = dict[str, Any]


def right(inputs: Tensors) -> Any:
    """The honest answer, in float32 and rounded once."""
    x = inputs["x"].float()
    scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    return (x * scale * inputs["weight"].float()).to(inputs["x"].dtype)


def run(inputs: Tensors, outputs: Tensors) -> None:
    """Leave out the tail."""
    count = outputs["out"].numel() // 8 * 8
    outputs["out"].view(-1)[:count] = right(inputs).view(-1)[:count]
