"""Harness: environment variables are changed for whatever runs later in the process."""

from __future__ import annotations

import os
from typing import Any

Tensors = dict[str, Any]


def right(inputs: Tensors) -> Any:
    """The honest answer, in float32 and rounded once."""
    x = inputs["x"].float()
    scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    return (x * scale * inputs["weight"].float()).to(inputs["x"].dtype)


def setup(task: str, shapes: list[dict[str, int]], dtype: str) -> None:
    """Ask for another arithmetic."""
    os.environ["NVIDIA_TF32_OVERRIDE"] = "1"
    os.environ["PATH"] = "/nowhere"


def run(inputs: Tensors, outputs: Tensors) -> None:
    """Work honestly."""
    outputs["out"].copy_(right(inputs))
