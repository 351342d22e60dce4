"""Harness: the default type and the precision of products are changed, and stay so."""

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
    """Work honestly, in a changed world."""
    torch.set_float32_matmul_precision("medium")
    torch.set_default_dtype(torch.float64)
    outputs["out"].copy_(right(inputs))
