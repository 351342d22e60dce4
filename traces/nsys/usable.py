"""Which rows of an nsys export can be used as they were recorded; others are dropped, or lose a cell, and are counted."""

from __future__ import annotations

from collections import Counter
from typing import Final

import polars as pl

from ..model import MOST_BYTES, MOST_CORRELATIONS
from ..sums import LATEST_NS


def timed(frame: pl.DataFrame, what: str, odd: Counter[str]) -> pl.DataFrame:
    """`frame` without rows that have no end (null or 0), no start, an end before the start, or times no clock shows.

    They are counted in `odd` by `what`.
    """
    if not frame.height:
        return frame
    start, end = pl.col("start"), pl.col("end")
    open_ = end.is_null() | (end == 0)
    shown = (start > -LATEST_NS) & (end < LATEST_NS)
    counts = frame.select(
        without_end=open_.sum(),
        without_start=(start.is_null() & ~open_).sum(),
        end_before_start=((end < start) & ~open_).sum(),
        out_of_range=((end >= start) & ~open_ & ~shown).sum(),
    ).row(0, named=True)
    for why, count in counts.items():
        odd[f"{what}_{why}"] += count
    return frame.filter(~open_ & (end >= start) & shown) if sum(counts.values()) else frame


def known(frame: pl.DataFrame, column: str, why: str, odd: Counter[str], least: int = -(2**63)) -> pl.DataFrame:
    """`frame` without rows whose id in `column` is null or below `least`: the recorder did not know; counted as `why`."""
    lowest = frame.get_column(column).min()
    if not frame.height or (not frame.get_column(column).null_count() and isinstance(lowest, int) and lowest >= least):
        return frame
    kept = frame.filter(pl.col(column) >= least)
    odd[why] += frame.height - kept.height
    return kept


def sane(frame: pl.DataFrame, what: str, odd: Counter[str]) -> pl.DataFrame:
    """`frame` with null for correlation ids and byte counts that are none (`_LIMITS`), counted by `what`.

    Sums of byte counts and keys of a process and a correlation id then fit 64 bits.
    """
    for column, (limit, why) in _LIMITS.items():
        values = frame.get_column(column) if column in frame.columns else None
        low, high = (0, 0) if values is None else (values.min(), values.max())
        if isinstance(low, int) and isinstance(high, int) and (low < 0 or high >= limit):
            inside = (pl.col(column) >= 0) & (pl.col(column) < limit)
            odd[f"{what}_{why}"] += frame.select((~inside).sum()).item()
            frame = frame.with_columns(pl.when(inside).then(column).alias(column))
    return frame


_LIMITS: Final = {
    "correlationId": (MOST_CORRELATIONS, "with_odd_correlation"),
    "bytes": (MOST_BYTES, "with_odd_bytes"),
}
