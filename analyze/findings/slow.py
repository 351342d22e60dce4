"""What a slow iteration has more of than the others, read off the ledger and the largest gaps.

A gap that ends in the next iteration belongs to none of the ledger's iterations, so gaps are held against the iterations' times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ..result import IDLE
from ..steady import Instance
from ..words import duration

_CELL = ["device", "stage", "category", "cause"]


@dataclass(frozen=True, slots=True)
class More:
    """The cell of which an iteration has `more_ns` more than the others have on average, of `ns` in all; see ``ledger``."""

    stage: str
    category: str
    cause: str | None
    ns: int
    more_ns: int

    @property
    def what(self) -> str:
        """``compute``, or ``idle (sync)``."""
        return self.category if self.cause is None else f"{IDLE} ({self.cause})"

    def said(self) -> str:
        """``1.69 ms more compute``, with the stage where one is named."""
        where = "" if self.stage.startswith("(") else f" in {self.stage}"
        return f"{duration(self.more_ns)} more {self.what}{where}"


def more_of(ledger: pl.DataFrame, iteration: int) -> More | None:
    """The cell that `iteration` has most more of than the others; null where it has more of none, or there are no others."""
    cells = ledger.drop_nulls("iteration")
    others = cells["iteration"].n_unique() - 1
    mine = cells.filter(pl.col("iteration") == iteration)
    if others < 1 or mine.is_empty():
        return None
    usual = (
        cells.filter(pl.col("iteration") != iteration)
        .group_by(_CELL)
        .agg((pl.col("ns").sum() // others).alias("usual"))
    )
    more = (
        mine.group_by(_CELL)
        .agg(pl.col("ns").sum())
        .join(usual, on=_CELL, how="left", nulls_equal=True)
        .with_columns((pl.col("ns") - pl.col("usual").fill_null(0)).alias("more"))
        .sort(["more", *_CELL], descending=[True, False, False, False, False])
    )
    _, stage, category, cause, ns, _, excess = more.row(0)
    return More(stage, category, cause, ns, excess) if excess > 0 else None


def gap_of(gaps: pl.DataFrame, instances: Sequence[Instance], one: Instance) -> More | None:
    """The gap, of the largest ones in `gaps`, that fills most of `one`, and how much more it fills than such a gap of the other
    `instances` on average; null where it fills no more."""

    def largest(where: Instance) -> tuple[int, int]:
        start, end = gaps["start_ns"].clip(lower_bound=where.start_ns), gaps["end_ns"].clip(upper_bound=where.end_ns)
        within = (end - start).clip(lower_bound=0)
        at = within.arg_max()
        return (0, 0) if at is None else (int(within[at]), at)

    others = [largest(other)[0] for other in instances if other != one]
    ns, at = largest(one)
    more = ns - sum(others) // max(len(others), 1)
    if not others or more <= 0:
        return None
    return More(gaps["stage"][at], IDLE, gaps["cause"][at], ns, more)
