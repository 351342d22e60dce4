"""Reading with polars what nobody vouches for: offsets beyond a Parquet file make its threads panic instead of raising."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import RLock
from typing import Final

import polars as pl

_STDERR: Final = 2
_ALONE: Final = RLock()
"""Two threads that swap the stream at once would restore it in the wrong order."""


@contextmanager
def contained() -> Iterator[None]:
    """Within it a panic of polars is a `pl.exceptions.ComputeError`, and what Rust prints of it (a backtrace) goes nowhere.

    Nothing else of this process should write to standard error meanwhile.
    """
    with _ALONE:
        kept = None
        with suppress(OSError):  # a process without a standard error
            kept = os.dup(_STDERR)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, _STDERR)
            os.close(nowhere)
        try:
            yield
        except pl.exceptions.PanicException as exc:
            raise pl.exceptions.ComputeError(str(exc)) from None
        finally:
            if kept is not None:
                os.dup2(kept, _STDERR)
                os.close(kept)
