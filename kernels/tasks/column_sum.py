"""out[c] = sum of x[r, c] over the rows: the gradient of a bias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..task import DTYPES, Operand, Parameter, Shape, Task, threads, unroll, vector_bytes

if TYPE_CHECKING:
    import torch


class ColumnSum(Task):
    """A reduction against the order of the memory."""

    def flops(self, shape: Shape, dtype: str) -> int:
        """One sum fewer than rows, for each column."""
        return (shape["rows"] - 1) * shape["columns"]

    def largest(self, shape: Shape, dtype: str) -> float:
        """One of which a column may be full."""
        return super().largest(shape, dtype) / shape["rows"]

    def reference(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
        """In float64."""
        return {"out": inputs["x"].double().sum(dim=0)}

    def eager(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> dict[str, torch.Tensor]:
        """One call; torch adds up in float32."""
        return {"out": inputs["x"].sum(dim=0)}


TASK = ColumnSum(
    name="column_sum",
    title="sums of the columns of a matrix",
    sizes=("rows", "columns"),
    dtypes=DTYPES,
    inputs=(Operand("x", ("rows", "columns")),),
    outputs=(Operand("out", ("columns",)),),
    shapes=tuple(
        {"rows": rows, "columns": columns}
        for rows, columns in (
            *((16384, 8192), (65536, 1024), (8192, 32768)),
            *((1, 1), (3, 7), (37, 64), (127, 5), (1000, 33), (1024, 129), (513, 1032), (4099, 16), (2, 4100)),
        )
    ),
    parameters=(
        *(vector_bytes(), threads(512)),
        Parameter(
            "tile_bytes", 64, (32, 64, 128, 256), "bytes of a row that a block reads; fewer where blocks are too few"
        ),
        unroll(8, "rows of a thread under way"),
        Parameter("reduction", "shuffle", ("shuffle", "shared"), "how the threads of a column add up"),
    ),
    roundings=1,
    float32_steps=32,
    because="the result is rounded once; each thread adds up hundreds of rows in float32 and the errors, of either sign, grow "
    "with the root of their number, as the sum of random numbers does",
)
