"""out = gelu(x + bias) with the tanh form of GELU, which equals v * sigmoid(2 z), z = sqrt(2 / pi) * (v + 0.044715 v^3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..task import DTYPES, ROW_SHAPES, Operand, Shape, Task, threads, unroll, vector_bytes

if TYPE_CHECKING:
    import torch


class BiasGelu(Task):
    """Element by element, with a bias for each column."""

    def flops(self, shape: Shape, dtype: str) -> int:
        """Bias 1, the polynomial 5, exponential, sum and division 3."""
        return 9 * shape["rows"] * shape["columns"]

    def reference(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
        """In float64."""
        v = inputs["x"].double() + inputs["bias"].double()
        z = math.sqrt(2 / math.pi) * (v + 0.044715 * v * v * v)
        return {"out": v / (1 + (-2 * z).exp())}

    def eager(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> dict[str, torch.Tensor]:
        """Two calls, with the sum in between."""
        import torch

        return {"out": torch.nn.functional.gelu(inputs["x"] + inputs["bias"], approximate="tanh")}


TASK = BiasGelu(
    name="bias_gelu",
    title="GELU (tanh form) of x + bias",
    sizes=("rows", "columns"),
    dtypes=DTYPES,
    inputs=(Operand("x", ("rows", "columns")), Operand("bias", ("columns",))),
    outputs=(Operand("out", ("rows", "columns")),),
    shapes=ROW_SHAPES,
    parameters=(vector_bytes(), threads(256), unroll(4, "rows of a thread")),
    roundings=3,
    float32_steps=16,
    because="eager rounds x + bias, which GELU's slope of at most 1.13 passes on, and the result; float32 evaluates the formula",
)
