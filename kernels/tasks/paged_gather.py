"""Rows of a paged key-value cache made contiguous: out[s, b] = pages[table[s, b]]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..task import Operand, Shape, Task, threads, unroll, vector_bytes

if TYPE_CHECKING:
    import torch


class PagedGather(Task):
    """No arithmetic: every bit of an element arrives, NaN and subnormals included."""

    def bytes(self, shape: Shape, dtype: str) -> int:
        """Pages that the table names are read once each, whoever shares them; the table is read, the output written."""
        pool, table = self.inputs
        asked = shape["sequences"] * shape["blocks"]
        page = pool.nbytes({**shape, "pages": 1}, dtype)
        return min(asked, shape["pages"]) * page + table.nbytes(shape, dtype) + asked * page

    def flops(self, shape: Shape, dtype: str) -> int:
        """None."""
        return 0

    def draw_one(
        self,
        operand: Operand,
        generator: torch.Generator,
        shape: Shape,
        dtype: str,
        device: torch.device | str,
        kind: str,
    ) -> torch.Tensor:
        """The table names as many different pages as it can, in any order: what `bytes` counts."""
        import torch

        if operand.name != "table":
            return super().draw_one(operand, generator, shape, dtype, device, kind)
        dims = operand.shape(shape)
        asked, pages = math.prod(dims), shape["pages"]
        order = torch.randperm(pages, generator=generator, device=device)[:asked]
        again = torch.randint(pages, (max(asked - pages, 0),), generator=generator, device=device)
        return torch.cat((order, again)).reshape(dims).to(torch.int32)

    def reference(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
        """The same elements in float64."""
        return {"out": inputs["cache"].double()[inputs["table"].long()]}

    def eager(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> dict[str, torch.Tensor]:
        """One index."""
        return {"out": inputs["cache"][inputs["table"]]}


TASK = PagedGather(
    name="paged_gather",
    title="pages of a key-value cache gathered by a block table",
    sizes=("pages", "sequences", "blocks", "page", "width"),
    dtypes=("bfloat16", "float16", "float32"),
    inputs=(
        Operand("cache", ("pages", "page", "width")),
        Operand("table", ("sequences", "blocks"), "int32", below="pages"),
    ),
    outputs=(Operand("out", ("sequences", "blocks", "page", "width")),),
    shapes=tuple(
        dict(zip(("pages", "sequences", "blocks", "page", "width"), sizes, strict=True))
        for sizes in (
            *((8192, 64, 128, 16, 1024), (32768, 32, 512, 16, 128), (1024, 64, 64, 32, 1024)),
            *(
                (1, 1, 1, 1, 1),
                (5, 3, 7, 1, 3),
                (64, 4, 9, 16, 8),
                (40, 3, 5, 2, 127),
                (7, 1, 3, 16, 1000),
                (300, 2, 129, 4, 16),
            ),
        )
    ),
    parameters=(vector_bytes(), threads(256), unroll(4, "pages of a thread")),
    roundings=0,
    float32_steps=0,
    because="elements are copied",
)
