"""Output: strides are not looked at, so that a view is read as if it were contiguous."""

from __future__ import annotations

from typing import Any

Tensors = dict[str, Any]


def right(inputs: Tensors) -> Any:
    """The honest answer, in float32 and rounded once."""
    x = inputs["x"].float()
    scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    return (x * scale * inputs["weight"].float()).to(inputs["x"].dtype)


def run(inputs: Tensors, outputs: Tensors) -> None:
    """Read as many elements as there are, one after the other."""
    x = inputs["x"]
    outputs["out"].copy_(right({**inputs, "x": x.as_strided(x.shape, (x.shape[1], 1))}))
