"""Control: wrong, the mean is subtracted as in another normalisation. It must be caught."""

from __future__ import annotations

from typing import Any

Tensors = dict[str, Any]


def right(inputs: Tensors) -> Any:
    """The honest answer, in float32 and rounded once."""
    x = inputs["x"].float()
    scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    return (x * scale * inputs["weight"].float()).to(inputs["x"].dtype)


def run(inputs: Tensors, outputs: Tensors) -> None:
    """Normalise what is left of x without its mean."""
    x = inputs["x"]
    outputs["out"].copy_(right({**inputs, "x": x - x.mean(-1, keepdim=True)}))
