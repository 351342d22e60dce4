"""What PyTorch's allocators gave out and took back (``profile_memory=True``), as table ``memory``.

One instant event ``[memory]`` a tensor's storage: positive bytes are given out, negative ones come back. These are blocks of
PyTorch's caching allocator; what that takes from the driver is another, larger amount, and is not recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from ..model import MOST_BYTES
from .columns import Rows, integers, process_ids
from .events import Event, arguments

NAME: Final = "[memory]"

HOST_MEMORY: Final = "[memory] of the host"
"""What events of the host's allocator are called among those that are not read."""

_HOST: Final = 0
_ACCELERATORS: Final = (1, 6, 12, 13, 15, 19, 20)
"""c10::DeviceType: the host; CUDA (torch for ROCm calls itself so, too), HIP, XPU, MPS, HPU, MTIA, and PrivateUse1."""


class Memory:
    """What the allocators of GPUs did, a batch at a time."""

    def __init__(self) -> None:
        self._rows = Rows(_columns)
        self.of_host = 0

    def add(self, events: Sequence[Event]) -> None:
        """Append those of the instants `events` that are called `NAME`."""
        if found := [event for event in events if event.name == NAME]:
            self._rows.add(found)
            self.of_host += sum(arguments(event).device_type == _HOST for event in found)

    def table(self, pid: int, before_ns: int | None) -> pl.DataFrame | None:
        """The table ``memory`` of the allocators of GPUs; null if nothing of them was recorded.

        What was in use before the first event of a device (its ``Total Allocated`` without its own bytes) is one allocation
        before `before_ns`, if anything else happened, and before all others.
        """
        kind = pl.col("type").is_in(_ACCELERATORS)
        rows = self._rows.frame().filter(
            kind, pl.col("start_ns").is_not_null(), pl.col("device") >= 0, pl.col("nbytes") != 0
        )
        if rows.is_empty():
            return None
        rows = rows.with_columns(pl.col("pid").fill_null(pid))
        first = min(time for time in (rows["start_ns"].min(), before_ns) if isinstance(time, int))
        held = rows.group_by("pid", "device", maintain_order=True).first()
        held = held.with_columns(
            pl.lit(first - 1, pl.Int64).alias("start_ns"),
            (pl.col("total") - pl.col("nbytes")).alias("nbytes"),
            pl.lit(None, pl.UInt64).alias("address"),
        ).filter((pl.col("nbytes") > 0) & (pl.col("nbytes") < MOST_BYTES))
        size = pl.col("nbytes").abs()
        return pl.concat([held.select(rows.columns), rows]).select(
            "pid",
            "device",
            pl.col("start_ns").alias("time_ns"),
            "address",
            pl.when(size < MOST_BYTES).then(size).alias("nbytes"),
            pl.lit("device").alias("kind"),
            (pl.col("nbytes") < 0).alias("is_free"),
            pl.lit(None, pl.UInt32).alias("correlation"),
        )


def _columns(events: Sequence[Event]) -> dict[str, pl.Series]:
    args = [arguments(e) for e in events]
    return {
        "pid": process_ids(events),
        "type": integers([a.device_type for a in args]),
        "device": integers([a.device_id for a in args], 32),
        "nbytes": _bytes([a.size for a in args]),
        "address": pl.Series([_address(a.address) for a in args], dtype=pl.UInt64),
        "total": _bytes([a.total for a in args]),
    }


def _bytes(values: Sequence[Any]) -> pl.Series:
    """Numbers of bytes, given out or coming back; as `_ODD` where no memory is as large, and 0 where none is said."""
    found = integers(values).fill_null(0)
    return found.clip(-_ODD, _ODD)


_ODD: Final = 1 << 60


def _address(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 64 else None
