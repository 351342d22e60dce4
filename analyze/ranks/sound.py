"""Whether a partial that came from elsewhere can be one: what every partial keeps, since merging it leans on that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from ...traces.sums import LATEST_NS, MOST_SPAN
from .rank import Rank

_TIMED: Final = ("iterations", "collectives", "exposed")
_NEVER_NULL: Final = {
    "iterations": ("iteration",),
    "ledger": ("iteration", "stage", "category", "ns"),
    "collectives": ("iteration", "stage", "name", "what", "group", "split"),
    "exposed": ("collective",),
}


def faults(rank: Rank) -> Iterator[str]:
    """What of `rank` no partial says, each as the end of "it is damaged: "."""
    low, high = rank.window
    if not -LATEST_NS < low <= high < LATEST_NS or high - low > MOST_SPAN:
        yield f"its window is {low} to {high} ns"
    if not 0 <= rank.part < rank.parts:
        yield f"it is part {rank.part} of {rank.parts}"
    if (
        rank.warm_up < 0
        or rank.identity.device < 0
        or (rank.identity.rank or 0) < 0
        or (rank.identity.world_size or 1) < 1
    ):
        yield "a number in it is negative"
    for name in _TIMED:
        start, end = pl.col("start_ns"), pl.col("end_ns")
        held = (end >= start) & (start > -LATEST_NS) & (end < LATEST_NS) & (end - start <= MOST_SPAN)
        if not rank.table(name).select(held.fill_null(False).all()).item():
            yield f"table {name} has times that no clock shows"
    for name, columns in _NEVER_NULL.items():
        if missing := [c for c in columns if rank.table(name)[c].null_count()]:
            yield f"column {missing[0]} of table {name} lacks values"
    cells = rank.table("ledger")["ns"]
    if not bool((cells > 0).all()) or sum(cells.drop_nulls().to_list()) != high - low:
        yield "its ledger is not that of its window"
    which = rank.table("exposed")["collective"]
    if not bool(which.is_between(0, rank.table("collectives").height - 1).all()):
        yield "its exposed pieces are of collectives that it does not have"
