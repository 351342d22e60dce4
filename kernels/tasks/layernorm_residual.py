"""summed = x + residual; out = (summed - mean) / sqrt(variance + eps) * weight + bias over the columns of each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..task import DTYPES, ROW_SHAPES, Operand, Shape, Task, rows_constraints, rows_parameters

if TYPE_CHECKING:
    import torch


class LayerNormResidual(Task):
    """Two inputs, two outputs, two reductions over each row."""

    def flops(self, shape: Shape, dtype: str) -> int:
        """Residual 1, mean 1, variance 3, normalisation 1, weight and bias 2."""
        return 8 * shape["rows"] * shape["columns"]

    def largest(self, shape: Shape, dtype: str) -> float:
        """The squares of a row are summed in float32. A short row may be constant, and its rounding is divided by sqrt(eps)."""
        return 1.0 if shape["columns"] < 64 else float(min(super().largest(shape, dtype), 1e15))

    def draw_one(
        self,
        operand: Operand,
        generator: torch.Generator,
        shape: Shape,
        dtype: str,
        device: torch.device | str,
        kind: str,
    ) -> torch.Tensor:
        """Weight and bias are not extremes: beside a tiny bias, the rounding of a constant row would be the result."""
        plain = kind == "edge" and operand.name in ("weight", "bias")
        return super().draw_one(operand, generator, shape, dtype, device, "random" if plain else kind)

    def reference(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
        """In float64, from the sum before it is rounded."""
        summed = inputs["x"].double() + inputs["residual"].double()
        centred = summed - summed.mean(dim=1, keepdim=True)
        scale = (centred.square().mean(dim=1, keepdim=True) + self.scalars["eps"]).rsqrt()
        return {"out": centred * scale * inputs["weight"].double() + inputs["bias"].double(), "summed": summed}

    def eager(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> dict[str, torch.Tensor]:
        """Two calls; the norm sees the rounded sum."""
        import torch

        summed = inputs["x"] + inputs["residual"]
        weight, bias = inputs["weight"], inputs["bias"]
        normed = torch.nn.functional.layer_norm(summed, (shape["columns"],), weight, bias, self.scalars["eps"])
        return {"out": normed, "summed": summed}


TASK = LayerNormResidual(
    name="layernorm_residual",
    title="layer normalisation of rows of x + residual, and the sum itself",
    sizes=("rows", "columns"),
    dtypes=DTYPES,
    inputs=(
        *(Operand("x", ("rows", "columns")), Operand("residual", ("rows", "columns"))),
        *(Operand("weight", ("columns",)), Operand("bias", ("columns",))),
    ),
    outputs=(Operand("out", ("rows", "columns")), Operand("summed", ("rows", "columns"))),
    shapes=ROW_SHAPES,
    parameters=rows_parameters(items=4),
    constraints=rows_constraints(2),
    scalars={"eps": 1e-5},
    roundings=4,
    float32_steps=32,
    because="eager rounds the sum, which the norm divides by the spread of the row, and the result; where the bias cancels a "
    "part of the product, an error of the product weighs more (seen: 1.3 times); mean and variance are added up in a tree",
)
