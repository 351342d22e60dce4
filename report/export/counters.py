"""What copies move each second, as a step function: (time, value from then on), times strictly increasing.

copies      |---8 B in 4 s---|            value   2    5        3       0
                 |---12 B in 4 s---|      at      0    1        4       5
"""

from __future__ import annotations

import numpy as np
import polars as pl

from ...analyze.intervals import Ints


def copy_rate(copies: pl.DataFrame) -> tuple[Ints, Ints]:
    """Bytes per second, as if every copy moved its bytes evenly; copies at the same time add up.

    `copies` are rows of `ops`; those without duration or size count nothing.
    """
    solid = copies.filter((pl.col("end_ns") > pl.col("start_ns")) & (pl.col("nbytes") > 0))
    start, end = solid["start_ns"].to_numpy(), solid["end_ns"].to_numpy()
    # Whole bytes per second, so that what is added at a start is exactly what is taken away at the end.
    rate = np.rint(solid["nbytes"].to_numpy() / (end - start) * 1e9).astype(np.int64)
    return _steps(np.concatenate([start, end]), np.concatenate([rate, -rate]))


def _steps(time: Ints, change: Ints) -> tuple[Ints, Ints]:
    """The running sum of `change`, after all changes of an instant."""
    rows = np.argsort(time, kind="stable")
    at, value = time[rows], np.cumsum(change[rows])
    last = np.ones(len(at), bool)
    last[:-1] = at[1:] != at[:-1]
    return at[last], value[last]
