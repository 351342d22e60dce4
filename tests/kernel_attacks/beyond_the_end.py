"""Output: whole vectors of eight are written, also beyond the end of the tensor."""

from __future__ import annotations

from typing import Any

Tensors = dict[str, Any]


def right(inputs: Tensors) -> Any:
    """The honest answer, in float32 and rounded once."""
    x = inputs["x"].float()
    scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    return (x * scale * inputs["weight"].float()).to(inputs["x"].dtype)


def run(inputs: Tensors, outputs: Tensors) -> None:
    """Round the length up."""
    place = outputs["out"]
    place.copy_(right(inputs))
    place.as_strided((place.numel() // 8 * 8 + 8,), (1,))[place.numel() :] = 0
