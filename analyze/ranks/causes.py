"""Why a rank was late: what its device did in an iteration that those of the others did not.

The ledger of the late rank is held against the median of the other ranks', cell by cell: stage, category and cause. Communication
is left out, since that is where the others wait. What is more on the late rank, largest first, is why it was late.

Work that comes after an iteration's last collective delays the first one of the next: where the iteration itself says nothing,
the one before is asked.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.model import COPY_KINDS
from ..result import IDLE
from .lateness import Lateness, others_median
from .rank import Rank

EXPLAINS: Final = 0.5
"""Of a rank's lateness: what one iteration's excess has to reach, or the iteration before is asked as well."""

DATA_WORDS: Final = frozenset({"data", "dataloader", "loader", "batch", "load", "fetch", "input"})
"""Words in a stage's name by which host time in it counts as waiting for data: what training loops call it."""

_ALLOCATOR, _COPIES, _COMPUTE, _DATA, _HOST, _DEVICE = (
    "allocator",
    "copies",
    "compute",
    "data",
    "host code",
    "waiting for the device",
)
CATEGORIES: Final = (_COMPUTE, _COPIES, _ALLOCATOR, _DATA, _HOST, _DEVICE)
"""What a late rank was slower in."""

_OF_CAUSE: Final = {
    "allocator": _ALLOCATOR,
    "copy_api": _COPIES,
    "queued": _DEVICE,
    "graph_internal": _DEVICE,
    "dependency": _DEVICE,
}


def category(stage: str, kind: str, cause: str | None) -> str:
    """A ledger cell in the words of `CATEGORIES`."""
    if kind != IDLE:
        return _COPIES if kind in (*COPY_KINDS, "memset", "migration") else _COMPUTE
    if cause in _OF_CAUSE:
        return _OF_CAUSE[cause]
    return _DATA if DATA_WORDS & set(re.findall(r"[a-z]+", stage.rsplit("/", 1)[-1].lower())) else _HOST


@dataclass(frozen=True, slots=True)
class Cause:
    """What a late rank took `ns` more for than the others: a stage and a category, with the ledger's `cause` of most of it.
    `before`: in the iteration before."""

    stage: str
    category: str
    cause: str | None
    ns: int
    before: bool


class Ledgers:
    """The ledgers of all ranks as one table of cells, rank by rank, made once and asked for each late rank."""

    def __init__(self, ranks: Sequence[Rank], late: Lateness) -> None:
        self._late = late
        frames = [
            rank.table("ledger")
            .filter((pl.col("iteration") >= 0) & (pl.col("category") != "comm"))
            .with_columns(pl.lit(r, pl.Int32).alias("rank"), pl.col("iteration") + late.shift[r])
            for r, rank in enumerate(ranks)
        ]
        table = pl.concat(frames)
        self.cells = table.select("stage", "category", "cause").unique(maintain_order=True).with_row_index("cell")
        self._by_iteration = {
            int(n): part
            for (n,), part in table.join(self.cells, on=["stage", "category", "cause"], nulls_equal=True)
            .select("iteration", "rank", "cell", "ns")
            .group_by("iteration")
        }
        self._named = self.cells.rows(named=True)

    def why(self, rank: int, column: int) -> list[Cause]:
        """What `rank` took longer for than the others in an iteration (its column), the largest first; of the iteration before
        where that says more, and this one explains less than `EXPLAINS`."""
        here = self._excess(rank, column, before=False)
        needed = EXPLAINS * int(self._late.late[rank, column])
        if sum(c.ns for c in here) < needed and column > 0:
            earlier = self._excess(rank, column - 1, before=True)
            if sum(c.ns for c in earlier) > sum(c.ns for c in here):
                return earlier
        return here

    def _excess(self, rank: int, column: int, *, before: bool) -> list[Cause]:
        matrix = self._matrix(column)
        own = matrix[rank]
        others = others_median(matrix)[rank]
        more = np.nan_to_num(own - others, nan=0.0)
        found: dict[tuple[str, str], list[tuple[int, str | None]]] = defaultdict(list)
        for i in np.flatnonzero(more > 0).tolist():
            cell = self._named[i]
            key = cell["stage"], category(cell["stage"], cell["category"], cell["cause"])
            found[key].append((round(float(more[i])), cell["cause"]))
        causes = [
            Cause(stage, word, max(cells, key=lambda pair: pair[0])[1], sum(ns for ns, _ in cells), before)
            for (stage, word), cells in found.items()
        ]
        return sorted(causes, key=lambda one: (-one.ns, one.stage, one.category))

    def _matrix(self, column: int) -> npt.NDArray[np.float64]:
        """[rank, cell] of one iteration; NaN: the rank did not record it."""
        late = self._late
        out = np.zeros((len(late.present), len(self._named)))
        out[~late.present[:, column]] = np.nan
        part = self._by_iteration.get(int(late.iterations[column]))
        if part is not None:
            np.add.at(out, (part["rank"].to_numpy(), part["cell"].to_numpy()), part["ns"].to_numpy())
        return out
