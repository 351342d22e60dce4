"""Harness: the candidate's own file is overwritten by an innocent one once it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Tensors = dict[str, Any]


def right(inputs: Tensors) -> Any:
    """The honest answer, in float32 and rounded once."""
    x = inputs["x"].float()
    scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    return (x * scale * inputs["weight"].float()).to(inputs["x"].dtype)


def setup(task: str, shapes: list[dict[str, int]], dtype: str) -> None:
    """Leave something else behind."""
    with Path(__file__).open("a", encoding="utf-8") as file:
        file.write("# innocent\n")


def run(inputs: Tensors, outputs: Tensors) -> None:
    """Work honestly."""
    outputs["out"].copy_(right(inputs))
