"""Runs of queries that are a wait: a thread asks again and again whether an event or stream is done.

    calls   L  q  q  q  q  q   L     q: cudaEventQuery and the like
    run        |------------|        counts as one synchronisation, gaps included

A single query is none: allocators ask once whether a block is free. Nor are two, a question and its repetition.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ..intervals import Ints

LEAST: Final = 3
"""Queries in a row that are a run."""

GAP_NS: Final = 100_000
"""The longest break between two queries of a run. The shortest sleep takes some 50 us on Linux (the default timer slack), so a
loop that sleeps in between is still one; who does something else for longer than this is not waiting all the time."""


def runs(start: Ints, end: Ints, is_query: npt.NDArray[np.bool_]) -> tuple[Ints, Ints, npt.NDArray[np.intp]]:
    """(start and end of each run, which calls are in one) of the calls of one thread, in order of start.

    In a run no other call begins, and each query begins at most `GAP_NS` after the one before it ended.
    """
    rows = np.flatnonzero(is_query)
    if len(rows) < LEAST:
        return start[:0], end[:0], rows[:0]
    follows = (np.diff(rows) == 1) & (start[rows[1:]] - end[rows[:-1]] <= GAP_NS)
    first = np.flatnonzero(np.r_[True, ~follows])
    count = np.diff(np.r_[first, len(rows)])
    until = np.maximum.reduceat(end[rows], first)
    long = count >= LEAST
    return start[rows[first[long]]], until[long], rows[np.repeat(long, count)]
