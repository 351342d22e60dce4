"""out = a * x + y: the smallest task, bound by memory alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..task import DTYPES, Operand, Shape, Task, threads, unroll, vector_bytes

if TYPE_CHECKING:
    import torch


class Saxpy(Task):
    """One multiply and one add an element."""

    def flops(self, shape: Shape, dtype: str) -> int:
        """A product and a sum."""
        return 2 * shape["count"]

    def reference(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
        """In float64."""
        return {"out": self.scalars["a"] * inputs["x"].double() + inputs["y"].double()}

    def eager(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> dict[str, torch.Tensor]:
        """One call."""
        import torch

        return {"out": torch.add(inputs["y"], inputs["x"], alpha=self.scalars["a"])}


TASK = Saxpy(
    name="saxpy",
    title="a * x + y, element by element",
    sizes=("count",),
    dtypes=DTYPES,
    inputs=(Operand("x", ("count",)), Operand("y", ("count",))),
    outputs=(Operand("out", ("count",)),),
    shapes=tuple({"count": n} for n in (1 << 27, 1 << 24, 1, 3, 127, 1000, 4099, 65536, 1_000_003)),
    parameters=(vector_bytes(), threads(256), unroll(4, "vectors of a thread")),
    scalars={"a": 2.5},
    roundings=3,
    float32_steps=4,
    because="eager rounds the product on a CPU, which may be larger than the result, and the result",
)
