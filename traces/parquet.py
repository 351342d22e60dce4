"""Tables as Parquet files, and what a disk that is full says of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import polars as pl

_PROBE: Final = bytes(1 << 20)
"""More than is left of a disk on which the last page of a file found no room."""


def write_parquet(table: pl.DataFrame, file: Path, **options: Any) -> None:
    """Write `table` to `file`, with `options` of polars.

    Raises `OSError` where the disk takes no more. polars tells that as a `ComputeError`, in other words for each place of the
    file at which it happens, so the disk is asked once more.
    """
    try:
        table.write_parquet(file, **options)
    except pl.exceptions.ComputeError:
        with file.open("ab") as written:
            written.write(_PROBE)
            written.flush()
            os.fsync(written.fileno())
        raise
