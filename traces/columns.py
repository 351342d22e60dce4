"""Columns between numpy and polars without a copy, and small tables merged into a large one.

A column is an array of values and, where it has nulls, an array that says which rows are null.
"""

from __future__ import annotations

import mmap
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

Array = npt.NDArray[Any]

SLICE: Final = 1 << 18
"""Rows that are worked on together: what that needs meanwhile stays in the processor's cache."""


def series(name: str, values: Array, absent: npt.NDArray[np.bool_] | None = None) -> pl.Series:
    """A column over the memory of `values` (contiguous integers, not changed afterwards); null where `absent`.

    A small one is a copy: loading pyarrow takes longer.
    """
    if len(values) < SLICE:
        column = pl.Series(name, values)
        return column if absent is None or not absent.any() else column.set(pl.Series(absent), None)
    import pyarrow as pa

    valid = None if absent is None or not absent.any() else pa.py_buffer(np.packbits(~absent, bitorder="little"))
    array = pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [valid, pa.py_buffer(values)])
    return pl.Series(name, pl.from_arrow(array))


def parts(column: pl.Series) -> tuple[Array, npt.NDArray[np.bool_] | None]:
    """(values, which are null, or null if none is) of a column of integers."""
    if not column.null_count():
        return column.to_numpy(), None
    return column.fill_null(0).to_numpy(), column.is_null().to_numpy()


def gathered(column: pl.Series, rows: Array) -> pl.Series:
    """`rows` (ascending) of a column of integers or of few words without nulls, in memory of numpy's, which is used again
    when it is free; polars allocates on its own."""
    if not column.null_count():
        found = series(column.name, column.to_physical().to_numpy()[rows])
        return found.cat.to(column.dtype) if isinstance(column.dtype, pl.Enum) else found
    values, absent = np.empty(len(rows), column.clear().to_numpy().dtype), np.empty(len(rows), bool)
    for first in range(0, len(rows), SLICE):
        some = rows[first : first + SLICE]
        part = column.slice(int(some[0]), int(some[-1] - some[0]) + 1)
        values[first : first + SLICE] = part.fill_null(0).to_numpy()[some - some[0]]
        absent[first : first + SLICE] = part.is_null().to_numpy()[some - some[0]]
    return series(column.name, values, absent)


def in_slices(frame: pl.DataFrame, expression: pl.Expr, dtype: Any = np.int32) -> pl.Series:
    """`expression`, a column of integers that `dtype` holds, worked out for some rows of `frame` at a time.

    At once, polars would make a new column of all rows for every step of it, and new memory is dearer than the arithmetic.
    """
    values, absent = np.empty(frame.height, dtype), None
    name = frame.clear().select(expression).columns[0]
    for first in range(0, frame.height, SLICE):
        found, missing = parts(frame.slice(first, SLICE).select(expression).to_series())
        values[first : first + SLICE] = found
        if missing is not None:
            absent = np.zeros(frame.height, bool) if absent is None else absent
            absent[first : first + SLICE] = missing
    return series(name, values, absent)


def places(large: Array, small: Array) -> Array:
    """Where the rows of sorted `small` go when it is merged into sorted `large`; of equal keys the large one's come first."""
    return np.searchsorted(large, small, side="right") + np.arange(len(small))


def merged(name: str, large: pl.Series | None, small: pl.Series | None, at: Array, rows: int, dtype: Any) -> pl.Series:
    """One column of `rows` rows: that of the small table at the places `at`, that of the large one elsewhere.

    A column that a table lacks is null there.
    """
    if large is None and small is None:
        return pl.repeat(None, rows, dtype=dtype, eager=True).alias(name)
    kind = pl.Series([], dtype=dtype).to_numpy().dtype
    values = _zeros(rows, kind) if large is None else np.empty(rows, kind)
    absent = None
    elsewhere = np.ones(rows, bool)
    elsewhere[at] = False
    for column, where in ((large, elsewhere), (small, at)):
        found, missing = (None, None) if column is None else parts(column)
        if found is not None and large is None and missing is not None:
            values[at[~missing]] = found[~missing]
        elif found is not None:
            values[where] = found
        if column is None or missing is not None:
            absent = np.zeros(rows, bool) if absent is None else absent
            absent[where] = True if missing is None else missing
    return series(name, values, absent)


def _zeros(rows: int, kind: np.dtype[Any]) -> Array:
    """Zeros of which only pages that are written to need memory; numpy's own ask for pages of 2 MiB."""
    return np.frombuffer(mmap.mmap(-1, max(rows, 1) * kind.itemsize), kind, rows)


MOST_LATE = 10_000
"""With more rows than this out of order, a table is sorted as a whole."""


def repairs(key: Array) -> list[tuple[int, Array]] | None:
    """What puts nearly sorted `key` in order: (first row, stable order of the rows from there on) for each stretch that is not.

    Recorders write rows when they end up in a buffer, so a few of millions lie out of order. Null where that is no longer so.
    """
    carried, ends, found = np.iinfo(np.int64).min, [], []
    for first in range(0, len(key), SLICE):
        reach = _reach(key, first, carried)
        found.append(np.flatnonzero(key[first : first + SLICE] < reach) + first)
        carried = reach[-1]
        ends.append(carried)
    late = np.concatenate(found) if found else np.empty(0, np.int64)
    if len(late) > MOST_LATE:
        return None
    begin = _begins(key, np.array(ends), late)
    stretches: list[tuple[int, int]] = []
    for first, last in zip(begin.tolist(), (late + 1).tolist(), strict=True):
        while stretches and first < stretches[-1][1]:  # a key that is late by far may reach back over several
            first = min(first, stretches.pop()[0])
        stretches.append((first, last))
    if sum(b - a for a, b in stretches) > max(len(key) // 8, 1_000):
        return None
    return [(a, np.argsort(key[a:b], kind="stable")) for a, b in stretches]


def _reach(key: Array, first: int, carried: Any) -> Array:
    """The running maximum of a slice of `key`; `carried` is that of all before."""
    reach: Array = np.maximum.accumulate(key[first : first + SLICE])
    np.maximum(reach, carried, out=reach)
    return reach


def _begins(key: Array, ends: Array, late: Array) -> Array:
    """For each of the rows `late` the first row that has a larger key. `ends` is the running maximum behind each slice."""
    out = np.empty(len(late), np.int64)
    slices = np.searchsorted(ends, key[late], side="right")
    for one in np.unique(slices).tolist():
        mine = slices == one
        reach = _reach(key, one * SLICE, ends[one - 1] if one else np.iinfo(np.int64).min)
        out[mine] = np.searchsorted(reach, key[late[mine]], side="right") + one * SLICE
    return out


def repair(values: Array, stretches: list[tuple[int, Array]]) -> None:
    """Apply `repairs` to another column of the same rows, in place."""
    for first, order in stretches:
        values[first : first + len(order)] = values[first : first + len(order)][order]
