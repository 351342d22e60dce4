"""Columns out of Kineto events: exact times, and integers and text that an event may lack.

Events come in batches (`document`). Of each batch only columns are kept, with a number for each text, so that a trace takes a few
bytes an event in memory, not a Python object.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, DecimalException
from typing import Any, Final

import numpy as np
import polars as pl

from ..model import text_column
from .events import Event


class Rows:
    """The events of one table: exact ``start_ns`` and ``end_ns``, and the columns that `columns_of` makes of each batch."""

    def __init__(self, columns_of: Callable[[Sequence[Event]], Mapping[str, pl.Series]]) -> None:
        self._columns_of = columns_of
        self._parts: list[pl.DataFrame] = []

    def add(self, events: Sequence[Event]) -> None:
        """Append the rows of `events`."""
        start, duration = nanoseconds([e.ts for e in events]), nanoseconds([e.dur for e in events])
        columns = {"start_ns": start, "end_ns": start + duration, **self._columns_of(events)}
        self._parts.append(pl.DataFrame([column.alias(name) for name, column in columns.items()]))

    def frame(self) -> pl.DataFrame:
        """All rows so far."""
        if not self._parts:
            self.add([])
        if len(self._parts) > 1:
            self._parts = [pl.concat(self._parts, rechunk=True)]
        return self._parts[0]


class Words:
    """A number for each distinct text."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def numbers(self, texts: Iterable[str]) -> pl.Series:
        """The number of each of `texts`."""
        known = self._numbers
        return pl.Series([known.setdefault(text, len(known)) for text in texts], dtype=pl.Int32)

    def number(self, text: str) -> int:
        """The number of one text."""
        return self._numbers.setdefault(text, len(self._numbers))

    def texts(self) -> list[str]:
        """Each text at the place of its number."""
        return list(self._numbers)

    def renamed(self, numbers: pl.Series, name: Callable[[str], str]) -> pl.Series:
        """The numbers of what `name` makes of the texts of `numbers`; it is asked once for each text."""
        texts = self.texts()
        new = {old: self.number(name(texts[old])) for old in numbers.unique().to_list()}
        return numbers.replace_strict(new, return_dtype=pl.Int32) if new else numbers

    def column(self, numbers: pl.Series) -> pl.Series:
        """The texts of `numbers` as a dictionary-encoded column of those that occur."""
        texts = self.texts()
        order = sorted(numbers.unique().to_list(), key=texts.__getitem__)
        places = np.zeros(len(texts) or 1, np.int32)
        places[order] = np.arange(len(order))
        return text_column(numbers.name, places[numbers.to_numpy()], [texts[number] for number in order])


def text(value: Any) -> str:
    """A text of an event; empty for anything else."""
    return value if type(value) is str else ""


def label(value: Any) -> str:
    """A text or whole number as text; empty for anything else."""
    return str(value) if isinstance(value, str | int) else ""


def integers(values: Sequence[Any], bits: int = 64) -> pl.Series:
    """Whole numbers, also written as text, that fit `bits` signed bits, 64 or 32; null for anything else."""
    kind = pl.Int64 if bits == 64 else pl.Int32
    if set(map(type, values)) <= _PLAIN:
        try:
            return pl.Series(values, dtype=pl.Int64).cast(kind, strict=False)
        except (TypeError, OverflowError):
            pass  # a number of more than 64 bits
    return pl.Series([integer(v, bits) for v in values], dtype=kind)


_PLAIN: Final = {int, type(None)}


def integer(value: Any, bits: int = 64) -> int | None:
    """A whole number, also one written as text, that fits `bits` signed bits; null for anything else."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        value = int(value)
    limit = 1 << (bits - 1)
    return value if isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit else None


def below(value: Any, limit: int) -> int | None:
    """A whole number from 0 on below `limit`; null for anything else."""
    number = integer(value)
    return number if number is not None and 0 <= number < limit else None


def bounded(column: pl.Series, limit: int) -> pl.Series:
    """`column` with null for what is negative, or not below `limit`."""
    odd = (column < 0) | (column >= limit)
    return column.set(odd.fill_null(False), None) if odd.any() else column


_MOST_NS: Final = 1 << 61
"""A time or duration from here on is none: a start and a duration below it can be added."""


def nanoseconds(microseconds: Sequence[Any]) -> pl.Series:
    """Microseconds (integers, or decimals as text) in whole nanoseconds, the nearest; null for anything else."""
    kinds = set(map(type, microseconds))
    if kinds <= {str, int, type(None)}:
        if int in kinds:
            microseconds = [str(value) if type(value) is int else value for value in microseconds]
        exact = pl.Series(microseconds, dtype=pl.String).cast(_THOUSANDTHS, strict=False).to_physical()
        # What polars takes for no decimal may be one, of more digits, or with an exponent.
        if exact.null_count() > (sum(value is None for value in microseconds) if type(None) in kinds else 0):
            exact = pl.Series([_exact(v) for v in microseconds], dtype=pl.Int64)
        elif exact.len() and not (exact.is_between(-_MOST_NS + 1, _MOST_NS - 1)).all():
            exact = exact.set(~exact.is_between(-_MOST_NS + 1, _MOST_NS - 1), None)
        return exact.cast(pl.Int64)
    return pl.Series([_exact(v) for v in microseconds], dtype=pl.Int64)


_THOUSANDTHS: Final = pl.Decimal(38, 3)


def _exact(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        number = Decimal(value) * 1000
    except DecimalException:
        return None  # no number, or one with an exponent that no clock shows
    return int(number.to_integral_value()) if number.is_finite() and abs(number) < _MOST_NS else None


def usable(frame: pl.DataFrame, what: str, odd: Counter[str]) -> pl.DataFrame:
    """`frame` without rows that lack a time or end before they start; counted in `odd` by `what`."""
    backwards = (pl.col("end_ns") < pl.col("start_ns")).fill_null(False)
    timeless = pl.col("start_ns").is_null() | pl.col("end_ns").is_null()
    for why, mask in (("without_end", timeless), ("end_before_start", backwards)):
        odd[f"{what}_{why}"] += int(frame.select(mask.sum()).item())
    return frame.filter(~backwards & ~timeless)


def thread_ids(events: Sequence[Event]) -> pl.Series:
    """Thread ids that fit the model: native ids as they are, pthread addresses by their low 31 bits, labels by a hash."""
    values = [e.tid for e in events]
    if set(map(type, values)) <= {int}:
        return pl.Series([value & 0x7FFFFFFF for value in values], dtype=pl.Int32)
    return pl.Series([thread_id(e) for e in events], dtype=pl.Int32)


def thread_id(event: Event) -> int:
    """One of `thread_ids`."""
    tid = integer(event.tid)
    return (_hashed(event.tid) if tid is None else tid) & 0x7FFFFFFF


def process_ids(events: Sequence[Event]) -> pl.Series:
    """Process ids that fit the model; null where an event names none.

    Programs that merge the traces of several ranks write labels ("rank 3: 4711") or numbers of more bits than a process id
    has, to keep the ranks apart; such a process has a hash of its label as its id.
    """
    return pl.Series([process_id(e) for e in events], dtype=pl.Int32)


def process_id(event: Event) -> int | None:
    """One of `process_ids`."""
    pid = event.pid
    if type(pid) is int and 0 <= pid < 1 << 31:
        return pid
    if not isinstance(pid, str | int):
        return None
    number = integer(pid, 32)
    return number if number is not None and number >= 0 else _hashed(pid) & 0xFFFFFF


def _hashed(value: Any) -> int:
    return zlib.crc32(label(value).encode("utf-8", "replace"))
