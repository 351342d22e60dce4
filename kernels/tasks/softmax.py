"""out = exp(x - max(x)) / sum(exp(x - max(x))) over the columns of each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..task import DTYPES, ROW_SHAPES, Operand, Shape, Task, rows_constraints, rows_parameters

if TYPE_CHECKING:
    import torch


class Softmax(Task):
    """Two reductions over each row."""

    def flops(self, shape: Shape, dtype: str) -> int:
        """A comparison, a difference, an exponential, a sum and a product an element."""
        return 5 * shape["rows"] * shape["columns"]

    def reference(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
        """In float64."""
        return {"out": inputs["x"].double().softmax(dim=1)}

    def eager(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> dict[str, torch.Tensor]:
        """One call."""
        return {"out": inputs["x"].softmax(dim=1)}


TASK = Softmax(
    name="softmax",
    title="softmax of rows",
    sizes=("rows", "columns"),
    dtypes=DTYPES,
    inputs=(Operand("x", ("rows", "columns")),),
    outputs=(Operand("out", ("rows", "columns")),),
    shapes=ROW_SHAPES,
    parameters=rows_parameters(items=4),
    constraints=rows_constraints(1),
    roundings=1,
    float32_steps=32,
    because="the result is rounded once; the exponent's argument is rounded, which costs |x - max| steps of an element that is "
    "exp(-|x - max|) of the largest one, and the sum of positive numbers a few",
)
