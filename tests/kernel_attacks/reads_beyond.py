"""Output: rows are read in whole vectors of eight; what lies behind the last row takes part in its mean."""

from __future__ import annotations

from typing import Any

Tensors = dict[str, Any]


def run(inputs: Tensors, outputs: Tensors) -> None:
    """Pad each row with what happens to follow it."""
    x = inputs["x"]
    rows, columns = x.shape
    wide = x.as_strided((rows, columns // 8 * 8 + 8), x.stride()).float()
    scale = (wide.square().sum(-1, keepdim=True) / columns + 1e-6).rsqrt()
    outputs["out"].copy_((x.float() * scale * inputs["weight"].float()).to(x.dtype))
