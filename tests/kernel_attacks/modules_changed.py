"""Harness: a module that the harness uses is replaced by one that agrees with everything."""

from __future__ import annotations

import sys
import types
from typing import Any

Tensors = dict[str, Any]


def right(inputs: Tensors) -> Any:
    """The honest answer, in float32 and rounded once."""
    x = inputs["x"].float()
    scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    return (x * scale * inputs["weight"].float()).to(inputs["x"].dtype)


def run(inputs: Tensors, outputs: Tensors) -> None:
    """Replace the comparison."""
    made = types.ModuleType("aisp_trace.workloads.verify")
    made.poisoned = lambda tensor: 0  # type: ignore[attr-defined]
    sys.modules["aisp_trace.workloads.verify"] = made
    outputs["out"].copy_(right(inputs))
