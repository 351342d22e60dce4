"""Output: right at first; each call adds a little more of the call before."""

from __future__ import annotations

from typing import Any

Tensors = dict[str, Any]


def right(inputs: Tensors) -> Any:
    """The honest answer, in float32 and rounded once."""
    x = inputs["x"].float()
    scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    return (x * scale * inputs["weight"].float()).to(inputs["x"].dtype)


kept: dict[Any, Any] = {}


def run(inputs: Tensors, outputs: Tensors) -> None:
    """Add a hundredth of the last answer of this shape."""
    answer = right(inputs)
    before = kept.get(answer.shape)
    kept[answer.shape] = answer
    outputs["out"].copy_(answer if before is None else answer + 0.01 * before)
