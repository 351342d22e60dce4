"""Output: all of it in bfloat16, half the bytes, where float32 was asked for; in 8 bits where bfloat16 was."""

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
    """Round what comes in."""
    x = inputs["x"]
    narrow = torch.bfloat16 if x.dtype == torch.float32 else torch.float8_e4m3fn
    outputs["out"].copy_(right({**inputs, "x": x.to(narrow).to(x.dtype)}))
