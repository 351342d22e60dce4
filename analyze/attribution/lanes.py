"""Streams as small numbers: a lane is one (device, process, context, stream)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.columns import SLICE
from ..intervals import Ints

LANE: Final = ("device", "pid", "context", "stream")
"""What makes a stream."""

Lane = tuple[int, int | None, int | None, int | None]

_TABLE: Final = 2**22
"""Entries up to which a table of all conceivable streams is made."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """The streams of some ops: `of` holds each op's, as a position in `known`, which is sorted (null first)."""

    of: npt.NDArray[np.integer]
    known: Sequence[Lane]


def lanes_of(ops: pl.DataFrame) -> Lanes:
    """The stream of each op."""
    digits = [_Digit.of(ops[name]) for name in LANE]
    size = math.prod(digit.width for digit in digits)
    if size > _TABLE:
        known = ops.select(LANE).unique().sort(LANE, nulls_last=False)
        numbered = known.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("lane"))
        found = ops.select(LANE).join(numbered, on=LANE, how="left", nulls_equal=True, maintain_order="left")
        return Lanes(found["lane"].to_numpy(), known.rows())
    # Every column becomes a digit of one small number, and that number the row's place in a table: no hashing of all ops.
    place = np.empty(len(ops), np.int32)
    used = np.zeros(size, bool)
    for first in range(0, len(ops), SLICE):
        here = place[first : first + SLICE]
        here[:] = _places(ops.slice(first, SLICE), digits)
        used[here] = True
    codes = np.flatnonzero(used)
    number: npt.NDArray[np.integer] = np.zeros(size, np.int16 if len(codes) < 2**15 else np.int32)
    number[codes] = np.arange(len(codes))
    return Lanes(number[place], list(zip(*_decoded(codes, digits), strict=True)))


@dataclass(frozen=True, slots=True)
class _Digit:
    """How the values of one column become the numbers 0 to ``width - 1``: null is 0, where there are nulls."""

    name: str
    low: int
    width: int
    nullable: bool

    @staticmethod
    def of(column: pl.Series) -> _Digit:
        low, high = column.min(), column.max()
        if not isinstance(low, int) or not isinstance(high, int):  # nothing but nulls
            return _Digit(column.name, -1, 1, True)
        nullable = column.null_count() > 0
        return _Digit(column.name, low - nullable, high - low + 1 + nullable, nullable)


def _places(ops: pl.DataFrame, digits: Sequence[_Digit]) -> npt.NDArray[np.int32]:
    out = np.zeros(len(ops), np.int32)
    for digit in digits:
        if digit.width > 1:
            out *= digit.width
            out += (ops[digit.name].cast(pl.Int64).fill_null(digit.low) - digit.low).cast(pl.Int32).to_numpy()
    return out


def _decoded(codes: Ints, digits: Sequence[_Digit]) -> list[list[int | None]]:
    """The values that each column has at the places `codes`."""
    columns = []
    for digit in reversed(digits):
        value = (codes % digit.width + digit.low).tolist()
        columns.append([None if digit.nullable and v == digit.low else v for v in value])
        codes = codes // digit.width
    return columns[::-1]
