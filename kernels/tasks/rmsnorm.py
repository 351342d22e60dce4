"""out = x / sqrt(mean(x^2) + eps) * weight over the columns of each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..task import DTYPES, ROW_SHAPES, Operand, Shape, Task, rows_constraints, rows_parameters

if TYPE_CHECKING:
    import torch


class RmsNorm(Task):
    """A sum over each row, then a product an element."""

    def flops(self, shape: Shape, dtype: str) -> int:
        """A square, a sum and two products an element; what happens once a row is left out."""
        return 4 * shape["rows"] * shape["columns"]

    def largest(self, shape: Shape, dtype: str) -> float:
        """The squares of a row are summed in float32."""
        return float(min(super().largest(shape, dtype), 1e15))

    def reference(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
        """In float64."""
        x = inputs["x"].double()
        scale = (x.square().mean(dim=1, keepdim=True) + self.scalars["eps"]).rsqrt()
        return {"out": x * scale * inputs["weight"].double()}

    def eager(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> dict[str, torch.Tensor]:
        """One call."""
        import torch

        x, weight = inputs["x"], inputs["weight"]
        return {"out": torch.nn.functional.rms_norm(x, (shape["columns"],), weight, self.scalars["eps"])}


TASK = RmsNorm(
    name="rmsnorm",
    title="root-mean-square normalisation of rows",
    sizes=("rows", "columns"),
    dtypes=DTYPES,
    inputs=(Operand("x", ("rows", "columns")), Operand("weight", ("columns",))),
    outputs=(Operand("out", ("rows", "columns")),),
    shapes=ROW_SHAPES,
    parameters=rows_parameters(items=4),
    constraints=rows_constraints(2),
    scalars={"eps": 1e-6},
    roundings=2,
    float32_steps=16,
    because="eager rounds x * scale before the weight is applied; the sum of squares has no cancellation, and is added up in "
    "a tree whose few levels cost one step each at most, halved by the root",
)
