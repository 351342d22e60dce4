"""Root-mean-square normalisation of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..task import Operand, Shape, Task, Tolerance

if TYPE_CHECKING:
    import torch


class RmsNorm(Task):
    """out = x / sqrt(mean(x^2) + eps) * weight, row by row."""

    name = "rmsnorm"
    title = "root-mean-square normalisation of rows"
    sizes = ("rows", "columns")
    dtypes = ("bfloat16", "float32", "float16")
    inputs = (Operand("x", ("rows", "columns")), Operand("weight", ("columns",)))
    outputs = (Operand("out", ("rows", "columns")),)
    shapes = (
        {"rows": 8192, "columns": 8192},
        {"rows": 64, "columns": 1024},
        {"rows": 7, "columns": 33},
        {"rows": 1, "columns": 1},
        {"rows": 5, "columns": 4099},
    )
    scalars = {"eps": 1e-6}
    tolerances = {
        "float32": Tolerance(2e-6, 2e-5, "float32 sums"),
        "float16": Tolerance(6e-4, 2e-3, "one rounding to float16"),
        "bfloat16": Tolerance(5e-3, 1.6e-2, "one rounding to bfloat16"),
    }

    def bytes(self, shape: Shape, dtype: str) -> int:
        """x and weight once, out once."""
        each = 4 if dtype == "float32" else 2
        return each * (2 * shape["rows"] * shape["columns"] + shape["columns"])

    def flops(self, shape: Shape, dtype: str) -> int:
        """Square and add, then two products."""
        return 4 * shape["rows"] * shape["columns"]

    def draw(
        self, generator: torch.Generator, shape: Shape, dtype: str, device: torch.device, kind: str = "random"
    ) -> dict[str, torch.Tensor]:
        """Normal x of random row scales, weight around 1."""
        import torch

        rows, columns, element = shape["rows"], shape["columns"], getattr(torch, dtype)
        x = torch.randn(rows, columns, generator=generator, device=device)
        if kind == "wide":
            x *= 10.0 ** torch.empty(rows, 1, device=device).uniform_(-4, 4, generator=generator)
        weight = 1 + 0.5 * torch.randn(columns, generator=generator, device=device)
        if kind == "edge":
            x[0] = 0
            x[-1, 0] = 1e-38
        if kind == "special":
            x[0, 0] = float("nan")
            x[-1, -1] = float("inf")
        return {"x": x.to(element), "weight": weight.to(element)}

    def reference(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
        """In float64."""
        x, weight = inputs["x"].double(), inputs["weight"].double()
        return {"out": x * (x.square().mean(-1, keepdim=True) + self.scalars["eps"]).rsqrt() * weight}

    def eager(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> dict[str, torch.Tensor]:
        """In float32, rounded once."""
        x, weight = inputs["x"].float(), inputs["weight"].float()
        out = x * (x.square().mean(-1, keepdim=True) + self.scalars["eps"]).rsqrt() * weight
        return {"out": out.to(inputs["x"].dtype)}


TASK = RmsNorm()
