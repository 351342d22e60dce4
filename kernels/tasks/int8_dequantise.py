"""out = q * scale: whole numbers of 8 bits with a scale for each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..task import ROW_SHAPES, Operand, Shape, Task, threads, unroll, vector_bytes

if TYPE_CHECKING:
    import torch


class Int8Dequantise(Task):
    """One product an element."""

    def flops(self, shape: Shape, dtype: str) -> int:
        """A product."""
        return shape["rows"] * shape["columns"]

    def largest(self, shape: Shape, dtype: str) -> float:
        """A scale of which 128 fit."""
        return super().largest(shape, dtype) / 32

    def reference(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
        """In float64."""
        return {"out": inputs["q"].double() * inputs["scale"].double()[:, None]}

    def eager(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> dict[str, torch.Tensor]:
        """In float32, since the scale is; rounded at the end."""
        import torch

        return {"out": (inputs["q"] * inputs["scale"][:, None]).to(getattr(torch, dtype))}


TASK = Int8Dequantise(
    name="int8_dequantise",
    title="int8 values times the scale of their row",
    sizes=("rows", "columns"),
    dtypes=("bfloat16", "float16", "float32"),
    inputs=(Operand("q", ("rows", "columns"), "int8"), Operand("scale", ("rows",), "float32")),
    outputs=(Operand("out", ("rows", "columns")),),
    shapes=ROW_SHAPES,
    parameters=(vector_bytes(), threads(256), unroll(4, "rows of a thread")),
    roundings=1,
    float32_steps=2,
    because="the product is rounded to float32 and then to the element",
)
