"""Time in columns of a terminal: how full each one is, drawn so that a lane's bars sum to what the lane really holds.

    busy      |#####|  ##      |   ######|         three columns of 8 units, busy 5, 2 and 6 of them
    exact     5      2          6                  in eighths
    drawn     ▅      ▂          ▆

What rounding takes from a column goes to the next one that is neither empty nor full, so that no column is off by an eighth or
more, and the whole lane by no more than half of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from ...analyze.intervals import Cover, Ints

FULL: Final = 8
"""Eighths of a full column: Unicode has a block for each."""


def edges(start: int, end: int, columns: int) -> Ints:
    """The bounds of `columns` columns over ``[start, end)``, one more than columns; they differ in length by 1 ns at most.

    There are fewer where the time has fewer nanoseconds.
    """
    n = max(1, min(columns, end - start))
    return np.array([start + (end - start) * i // n for i in range(n + 1)], np.int64)


def busy(cover: Cover, bounds: Ints) -> Ints:
    """Nanoseconds of `cover` in each column."""
    return np.diff(cover.before(bounds))


def eighths(busy_ns: Ints, bounds: Ints) -> list[int]:
    """How high each column's bar is: its exact share, rounded up or down so that the errors cancel along the lane."""
    drawn, error = [], 0.0
    for ns, length in zip(busy_ns.tolist(), np.diff(bounds).tolist(), strict=True):
        exact = FULL * ns / length
        height = min(max(round(exact + error), math.floor(exact)), math.ceil(exact))
        error += exact - height
        drawn.append(height)
    return drawn


def fullest(parts: Mapping[str, Ints]) -> list[str | None]:
    """The name of what fills most of each column, null where nothing does; of equals the first."""
    if not parts:
        return []
    names = list(parts)
    table = np.array([parts[name] for name in names])
    best = table.argmax(axis=0)
    return [names[i] if table[i, column] > 0 else None for column, i in enumerate(best.tolist())]
