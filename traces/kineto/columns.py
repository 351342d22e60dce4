"""Columns out of Kineto events: exact times, and integers and text that an event may lack."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal, DecimalException
from typing import Any, Final

import polars as pl


def timed_frame(events: Sequence[dict[str, Any]], columns: dict[str, Iterable[Any]]) -> pl.DataFrame:
    """`columns` (integers, text or null) beside exact `start_ns` and `end_ns`; what is neither becomes null."""
    start, duration = nanoseconds([e.get("ts") for e in events]), nanoseconds([e.get("dur") for e in events])
    data = {}
    for name, values in columns.items():
        if name in _TEXT_COLUMNS:
            data[name] = _texts(name, [v if isinstance(v, str) else None for v in values])
        else:
            whole = pl.Series(name, [integer(v) for v in values], dtype=pl.Int64)
            data[name] = whole.cast(pl.Int32, strict=False) if name in _SHORT_COLUMNS else whole
    return pl.DataFrame([start.alias("start_ns"), (start + duration).alias("end_ns"), *data.values()])


_TEXT_COLUMNS: Final = ("name", "kind", "src_kind", "dst_kind", "source")
_SHORT_COLUMNS: Final = ("device", "context", "pid", "tid", "src_device", "dst_device", "result")


def _texts(name: str, values: list[str | None]) -> pl.Series:
    try:
        return pl.Series(name, values, dtype=pl.String)
    except UnicodeEncodeError:  # JSON may escape half a character, which is no text
        return pl.Series(name, [None if v is None else text(v) for v in values], dtype=pl.String)


def text(value: str) -> str:
    """`value` with only whole characters in it."""
    return value.encode("utf-8", "replace").decode("utf-8")


def integer(value: Any, bits: int = 64) -> int | None:
    """A whole number, also one written as text, that fits `bits` signed bits; null for anything else."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
        value = int(value)
    limit = 1 << (bits - 1)
    return value if isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit else None


def below(value: Any, limit: int) -> int | None:
    """A whole number from 0 on below `limit`; null for anything else."""
    number = integer(value)
    return number if number is not None and 0 <= number < limit else None


def nanoseconds(microseconds: Sequence[Any]) -> pl.Series:
    """Microseconds (integers, or decimals as text) in whole nanoseconds; null for anything else."""

    def exact(value: Any) -> int | None:
        if isinstance(value, bool) or not isinstance(value, int | str):
            return None
        try:
            number = Decimal(value) * 1000
        except DecimalException:
            return None  # no number, or one with an exponent that no clock shows
        return int(number.to_integral_value()) if number.is_finite() and abs(number) < 2**61 else None

    return pl.Series("ns", [exact(v) for v in microseconds], dtype=pl.Int64)


def usable(frame: pl.DataFrame, what: str, odd: Counter[str]) -> pl.DataFrame:
    """`frame` without rows that lack a time or end before they start; counted in `odd` by `what`."""
    backwards = (pl.col("end_ns") < pl.col("start_ns")).fill_null(False)
    timeless = pl.col("start_ns").is_null() | pl.col("end_ns").is_null()
    for why, mask in (("without_end", timeless), ("end_before_start", backwards)):
        odd[f"{what}_{why}"] += int(frame.select(mask.sum()).item())
    return frame.filter(~backwards & ~timeless)


def arguments(event: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an event; empty where it has none."""
    args = event.get("args")
    return args if isinstance(args, dict) else {}


def thread_id(event: dict[str, Any]) -> int:
    """A thread id that fits the model: native ids as they are, pthread addresses by their low 31 bits, labels by a hash."""
    tid = integer(event.get("tid"))
    return (_hashed(event.get("tid")) if tid is None else tid) & 0x7FFFFFFF


def process_id(event: dict[str, Any], default: int) -> int:
    """A process id that fits the model; `default` where the event names none.

    Programs that merge the traces of several ranks write labels ("rank 3: 4711") or numbers of more bits than a process id
    has, to keep the ranks apart; such a process has a hash of its label as its id.
    """
    if event.get("pid") is None:
        return default
    pid = integer(event["pid"], 32)
    return pid if pid is not None and pid >= 0 else _hashed(event["pid"]) & 0xFFFFFF


def _hashed(label: Any) -> int:
    return zlib.crc32(str(label).encode("utf-8", "replace"))
