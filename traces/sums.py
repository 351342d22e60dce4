"""What no recording holds is dropped where a trace is made, so that no sum of its times or bytes can leave 64 bits.

A damaged export may say that 300 kernels took 36 years each. Each time alone fits int64, their sum does not, and everything
after this adds without looking: NumPy, polars and compiled code wrap silently. So a trace obeys three rules:

    span        all times lie within `longest_span` of each other; rows further from the median start are dropped
    durations   each table's add up to less than `MOST`; otherwise rows longer than an equal share of it are dropped
    bytes       each table's add up to less than `MOST`; otherwise counts above an equal share of it become null

For a trace of up to 32,768 rows a table, times a row make less than `MOST` whatever they are the difference of: waits, gaps,
projections. A larger one may span `DAY_AND_A_HALF`, and what is added is its durations, its windows and its waits within them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import polars as pl

from .columns import SLICE

LATEST_NS: Final = 1 << 61
"""73 years: times are counted from the start of a recording, or from 1970, and the difference of two must fit 64 bits."""

MOST: Final = 1 << 62
"""Half of what int64 holds, so that twice a sum, or the difference of two, still fits."""

MOST_SPAN: Final = 1 << 53
"""104 days. float64, which percentages and means are taken in, holds every nanosecond up to here."""

DAY_AND_A_HALF: Final = 1 << 47
"""39 hours: what a recording of any number of rows may span. Nsight Systems' own files end at minutes to hours."""

_TIMES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("ops", "api", "ranges", "syncs", "osrt", "overhead"), ("start_ns", "end_ns")),
    **dict.fromkeys(("memory", "gpu_metrics", "graph_nodes"), ("time_ns",)),
}
_CENTRAL: Final = ("ops", "api", "ranges")
_BYTES: Final = ("ops", "ranges", "memory")


def longest_span(rows: int) -> int:
    """Nanoseconds that a trace whose largest table has `rows` rows may span."""
    return min(MOST_SPAN, max(MOST // max(rows, 1), DAY_AND_A_HALF))


def summable(tables: Mapping[str, pl.DataFrame]) -> tuple[dict[str, pl.DataFrame], dict[str, int]]:
    """`tables` of a trace, by name, without what breaks a rule, and how many rows or cells that were, by anomaly.

    A trace that keeps the rules costs a look at its first and last times.
    """
    out, odd = dict(tables), dict[str, int]()
    present = {name: columns for name, columns in _TIMES.items() if name in tables and tables[name].height}
    if not present:
        return out, odd
    rows = max(tables[name].height for name in present)
    span = _span(tables, present)
    if span > longest_span(rows):
        low, high = _around_the_median(tables, present, longest_span(rows))
        for name, columns in present.items():
            inside = [pl.col(c).is_null() | pl.col(c).is_between(low, high) for c in columns]
            _keep(out, odd, name, pl.all_horizontal(inside))
        span = _span(out, {name: columns for name, columns in present.items() if out[name].height})
    if rows * span < MOST:
        return _with_summable_bytes(out, odd), odd
    for name, columns in present.items():
        if len(columns) == 2 and _total(out[name], pl.col("end_ns") - pl.col("start_ns")) >= MOST:
            length = pl.col("end_ns") - pl.col("start_ns")
            _keep(out, odd, name, length.is_null() | (length <= MOST // out[name].height))
    return _with_summable_bytes(out, odd), odd


def _with_summable_bytes(tables: dict[str, pl.DataFrame], odd: dict[str, int]) -> dict[str, pl.DataFrame]:
    for name in _BYTES:
        frame = tables.get(name)
        if frame is not None and frame.height and "nbytes" in frame.columns:
            largest = frame["nbytes"].max()
            doubtful = isinstance(largest, int) and largest * frame.height >= MOST
            if doubtful and _total(frame, pl.col("nbytes")) >= MOST:
                share = MOST // frame.height
                odd[f"{name}_with_odd_bytes"] = int((frame["nbytes"] > share).sum())
                tables[name] = frame.with_columns(pl.when(pl.col("nbytes") <= share).then("nbytes").alias("nbytes"))
    return tables


def _span(tables: Mapping[str, pl.DataFrame], columns: Mapping[str, tuple[str, ...]]) -> int:
    times = list(_ends(tables, columns))
    return max(times) - min(times) if times else 0


def _ends(tables: Mapping[str, pl.DataFrame], columns: Mapping[str, tuple[str, ...]]) -> Iterator[int]:
    for name, of in columns.items():
        for time in (tables[name][of[0]].min(), *(tables[name][column].max() for column in of)):
            if isinstance(time, int):
                yield time


def _around_the_median(
    tables: Mapping[str, pl.DataFrame], columns: Mapping[str, tuple[str, ...]], span: int
) -> tuple[int, int]:
    """The `span` ns around the median start: most rows of a damaged trace are right."""
    chosen = [name for name in _CENTRAL if name in columns] or list(columns)
    starts = pl.concat([tables[name][columns[name][0]].rename("start") for name in chosen]).drop_nulls().sort()
    middle = int(starts[len(starts) // 2]) if len(starts) else 0
    return max(middle - span // 2, -(1 << 63)), min(middle + span // 2, (1 << 63) - 1)


def _keep(tables: dict[str, pl.DataFrame], odd: dict[str, int], name: str, rule: pl.Expr) -> None:
    kept = tables[name].filter(rule)
    if lost := tables[name].height - kept.height:
        odd[f"{name}_out_of_range"] = odd.get(f"{name}_out_of_range", 0) + lost
        tables[name] = kept


def _total(frame: pl.DataFrame, values: pl.Expr) -> float:
    """The sum in float64, which cannot wrap; it is off by far less than the factor of two between `MOST` and int64's end."""
    return sum(float(part.select(values.cast(pl.Float64).sum()).item() or 0.0) for part in frame.iter_slices(SLICE))
