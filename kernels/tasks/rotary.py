"""Rotary position embedding: the pair (x[0, i], x[1, i]) of each head is turned by the angle of its token and of i."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..task import DTYPES, Operand, Shape, Task, threads, unroll, vector_bytes

if TYPE_CHECKING:
    import torch


class Rotary(Task):
    """The first half of a head's dimensions turns against the second one; the angles are given as cosine and sine."""

    def flops(self, shape: Shape, dtype: str) -> int:
        """Four products and two sums a pair."""
        return 6 * shape["tokens"] * shape["heads"] * shape["pairs"]

    def draw_one(
        self,
        operand: Operand,
        generator: torch.Generator,
        shape: Shape,
        dtype: str,
        device: torch.device | str,
        kind: str,
    ) -> torch.Tensor:
        """Cosines and sines are those of angles that the generator's next numbers give, whatever the kind."""
        import torch

        if operand.dtype == "element":
            return super().draw_one(operand, generator, shape, dtype, device, kind)
        angles = torch.rand(operand.shape(shape), generator=generator, device=device, dtype=torch.float64)
        return (angles * 2 * math.pi).cos().float()

    def draw(
        self, generator: torch.Generator, shape: Shape, dtype: str, device: torch.device | str, kind: str = "random"
    ) -> dict[str, torch.Tensor]:
        """The sine belongs to the cosine's angle."""
        made = super().draw(generator, shape, dtype, device, kind)
        cos = made["cos"].double()
        sign = made["sin"].double().sign()
        return made | {"sin": ((1 - cos.square()).clamp(min=0).sqrt() * sign).float()}

    def reference(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
        """In float64."""
        return {"out": _turned(inputs["x"].double(), inputs["cos"].double(), inputs["sin"].double())}

    def eager(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> dict[str, torch.Tensor]:
        """In float32, as models do, since the tables are; rounded at the end."""
        return {"out": _turned(inputs["x"].float(), inputs["cos"], inputs["sin"]).to(inputs["x"].dtype)}


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    import torch

    first, second = x.unbind(dim=2)
    c, s = cos[:, None, :], sin[:, None, :]
    return torch.stack((first * c - second * s, second * c + first * s), dim=2)


TASK = Rotary(
    name="rotary",
    title="rotary position embedding of heads, halves against each other",
    sizes=("tokens", "heads", "pairs"),
    dtypes=DTYPES,
    inputs=(
        Operand("x", ("tokens", "heads", 2, "pairs")),
        *(Operand("cos", ("tokens", "pairs"), "float32"), Operand("sin", ("tokens", "pairs"), "float32")),
    ),
    outputs=(Operand("out", ("tokens", "heads", 2, "pairs")),),
    shapes=tuple(
        {"tokens": tokens, "heads": heads, "pairs": pairs}
        for tokens, heads, pairs in (
            *((16384, 32, 64), (65536, 8, 64), (8192, 32, 32)),
            *((1, 1, 1), (3, 5, 7), (17, 3, 32), (5, 33, 64), (129, 1, 40), (2, 7, 127), (11, 4, 256)),
        )
    ),
    parameters=(vector_bytes(), threads(256), unroll(4, "heads of a thread, which share a cosine and a sine")),
    roundings=1,
    float32_steps=4,
    because="the result is rounded once; in float32 two products and a sum round, of terms no larger than the pair",
)
