"""Step functions of time: what is the innermost thing open on a thread at an instant?

A `Steps` is piecewise constant: ``value[i]`` holds from ``at[i]`` up to ``at[i + 1]``, and `NOTHING` before ``at[0]``.
Ranges and API calls become one each with `innermost`:

    outer   |-----------------|            at     0   3   7  18
    inner       |---|                      value  o   i   o  NOTHING
            0   3   7         18

"Innermost" is the one that started last (of equal starts: the later row). Push/pop ranges nest, so a pop returns to the
parent; where intervals cross (start/end ranges, or damaged traces) a sweep keeps the open ones in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ...traces.engine import primitive
from ..intervals import Ints, place_right

NOTHING: Final = -1
"""Value of a `Steps` where nothing is open."""


@dataclass(frozen=True, slots=True)
class Steps:
    """A piecewise constant function; `at` strictly increases."""

    at: Ints
    value: Ints

    def __call__(self, time: Ints) -> Ints:
        """The value at each instant of `time` (any order)."""
        if len(self.at) == 0:
            return np.full(len(time), NOTHING, np.int64)
        index = place_right(self.at, time)
        if len(index) and self.value.dtype == np.int32:  # half the memory, where the values allow it
            return np.asarray(np.append(self.value, np.int32(NOTHING))[index - 1])
        return np.where(index > 0, self.value[index - 1], NOTHING)


EMPTY: Final = Steps(np.empty(0, np.int64), np.empty(0, np.int64))


@primitive
def nesting(start: Ints, end: Ints) -> tuple[Ints, bool]:
    """The parent of each interval: the innermost earlier one that holds all of it, as an index or `NOTHING`.

    Intervals are sorted by start, longest first among equal starts. Also says whether they nest properly (none crosses
    another). One that crosses is not nested in what it crosses: requests that overlap in a chain would otherwise nest
    without end. Empty intervals are nobody's parent.
    """
    parent = np.full(len(start), NOTHING, np.int64)
    proper = True
    solid = np.flatnonzero(end > start)
    if len(solid):
        s, e = start[solid], end[solid]
        depth = np.arange(len(s)) - np.searchsorted(np.sort(e), s, side="right")
        found = _parents_by_depth(depth)
        proper = bool((e <= np.where(found >= 0, e[found], np.iinfo(np.int64).max)).all())
        if not proper:
            found = _parents_by_sweep(s, e)
        parent[solid] = np.where(found >= 0, solid[found], NOTHING)
    hollow = np.flatnonzero(end <= start)
    if len(hollow) and len(solid):
        inner = innermost(start[solid], end[solid])(start[hollow])
        parent[hollow] = np.where(inner >= 0, solid[inner], NOTHING)
        # An empty interval sorts after longer ones that start with it, so the innermost may be a later row: still a parent.
    return parent, proper


def _parents_by_depth(depth: Ints) -> Ints:
    """Parent = the last earlier interval one level up. Exact where intervals nest; one pass a level."""
    parent = np.full(len(depth), NOTHING, np.int64)
    above = np.flatnonzero(depth == 0)
    for level in range(1, int(depth.max(initial=0)) + 1):
        here = np.flatnonzero(depth == level)
        parent[here] = above[np.searchsorted(above, here) - 1]
        above = here
    return parent


def _parents_by_sweep(start: Ints, end: Ints) -> Ints:
    """Parents of intervals that may cross: the last one still open, in order of start, that ends no earlier.

    O(n * most open at once).
    """
    parent = np.full(len(start), NOTHING, np.int64)
    open_: list[tuple[int, int]] = []  # (end, row), in order of start
    for row, (s, e) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        open_ = [item for item in open_ if item[0] > s]
        parent[row] = next((r for outer, r in reversed(open_) if outer >= e), NOTHING)
        open_.append((e, row))
    return parent


def innermost(start: Ints, end: Ints, value: Ints | None = None) -> Steps:
    """The innermost open interval as a function of time; its row, or ``value[row]``.

    Intervals are sorted by start, longest first among equal starts. Empty ones never show.
    """
    return Steps(*_innermost(start, end, np.arange(len(start), dtype=np.int32) if value is None else value))


@primitive
def _innermost(start: Ints, end: Ints, value: Ints) -> tuple[Ints, Ints]:
    rows = np.flatnonzero(end > start)
    if len(rows) == 0:
        return EMPTY.at, EMPTY.value.astype(value.dtype)
    s, e = start[rows], end[rows]
    if len(s) == 1 or (s[1:] >= e[:-1]).all():
        steps = _flat(s, e)
    else:
        parent, proper = nesting(s, e)
        steps = _nested(s, e, parent) if proper else _crossing(s, e)
    shown = _tidy(steps.at, np.where(steps.value >= 0, value[rows][steps.value], NOTHING))
    return shown.at, shown.value


def _flat(start: Ints, end: Ints) -> Steps:
    at = np.empty(2 * len(start), np.int64)
    at[0::2], at[1::2] = start, end
    value = np.full(len(at), NOTHING, np.int64)
    value[0::2] = np.arange(len(start))
    return _last_of_each(at, value)


def _nested(start: Ints, end: Ints, parent: Ints) -> Steps:
    """Entering shows the interval, leaving shows its parent.

    At one instant leaving comes before entering; of several that leave, the outermost leaves last, which is the one with
    the smallest row; of several that enter, the largest row enters last.
    """
    n = len(start)
    row = np.arange(n)
    at = np.concatenate([end, start])
    value = np.concatenate([parent, row])
    entering = np.repeat([0, 1], n)
    order = np.lexsort((np.concatenate([-row, row]), entering, at))
    return _last_of_each(at[order], value[order])


def _crossing(start: Ints, end: Ints) -> Steps:
    """Sweep over all boundaries with a stack of the open rows in order of start."""
    at = instants(start, end)
    value = np.full(len(at), NOTHING, np.int64)
    ends = end.tolist()
    open_: list[int] = []
    row = 0
    for i, t in enumerate(at.tolist()):
        while open_ and ends[open_[-1]] <= t:
            open_.pop()
        while row < len(start) and start[row] <= t:
            open_.append(row)
            row += 1
        if open_:
            value[i] = open_[-1]
    return Steps(at, value)


def instants(*times: Ints) -> Ints:
    """The distinct values of several arrays, ascending. (`numpy.unique` hashes first, which is ten times slower here.)"""
    every = np.concatenate(times)
    every.sort(kind="stable")  # merges what is sorted already
    keep = np.ones(len(every), bool)
    np.not_equal(every[1:], every[:-1], out=keep[1:])
    return every[keep]


def _last_of_each(at: Ints, value: Ints) -> Steps:
    keep = np.empty(len(at), bool)
    keep[-1:] = True
    np.not_equal(at[1:], at[:-1], out=keep[:-1])
    return Steps(at[keep], value[keep])


def _tidy(at: Ints, value: Ints) -> Steps:
    """Drop steps that change nothing."""
    keep = np.empty(len(at), bool)
    keep[:1] = value[:1] != NOTHING
    np.not_equal(value[1:], value[:-1], out=keep[1:])
    return Steps(at[keep], value[keep])


def only_one(functions: list[Steps], several: int, alike: Ints | None = None) -> Steps:
    """The one value that any function has; `NOTHING` where none has one, `several` where they have different ones.

    Values with the same number in `alike` are one, of which the largest is meant.
    """
    functions = [f for f in functions if len(f.at)]
    if not functions:
        return EMPTY
    if len(functions) == 1:
        return functions[0]
    at = instants(*(f.at for f in functions))
    differ = np.zeros(len(at), bool)
    value = np.full(len(at), NOTHING, np.int64)
    for f in functions:
        here = f(at)
        has = here != NOTHING
        both = has & (value != NOTHING) & (value != here)
        differ |= both if alike is None else both & (alike[value] != alike[here])
        value = np.maximum(value, here)
    return _tidy(at, np.where(differ, several, value))


def first_of(primary: Steps, fallback: Steps) -> Steps:
    """`primary` where it has a value, else `fallback`."""
    if len(primary.at) == 0:
        return fallback
    if len(fallback.at) == 0:
        return primary
    at = instants(primary.at, fallback.at)
    first = primary(at)
    return _tidy(at, np.where(first != NOTHING, first, fallback(at)))


def without(steps: Steps, hidden: Steps) -> Steps:
    """`steps`, but `NOTHING` where `hidden` has a value."""
    if len(steps.at) == 0 or len(hidden.at) == 0:
        return steps
    at = instants(steps.at, hidden.at)
    return _tidy(at, np.where(hidden(at) != NOTHING, NOTHING, steps(at)))


def only_where(value: Ints, kept: npt.NDArray[np.bool_]) -> Ints:
    """`value`, numbers from 0 or `NOTHING`, with `NOTHING` in place of those numbers that are not `kept`."""
    return np.where(np.append(kept, False)[value], value, value.dtype.type(NOTHING))


def pieces(start: Ints, end: Ints, at: Ints) -> tuple[npt.NDArray[np.intp], Ints, Ints]:
    """Cut each interval at the boundaries `at` (sorted) inside it: (row of the interval, piece start, piece end).

    Pieces are in order of row, then time; empty intervals have none.
    """
    solid = np.flatnonzero(end > start)
    low = place_right(at, start[solid])
    high = place_right(at, end[solid] - 1)
    cuts = high - low
    row = np.repeat(np.arange(len(solid)), cuts + 1)
    first = np.zeros(len(solid) + 1, np.int64)
    np.cumsum(cuts + 1, out=first[1:])
    offset = np.arange(len(row)) - first[:-1][row]  # 0 for an interval's first piece
    index = low[row] + offset
    piece_start = np.where(offset == 0, start[solid][row], at[np.maximum(index - 1, 0)] if len(at) else 0)
    last = offset == cuts[row]
    piece_end = np.where(last, end[solid][row], at[np.minimum(index, len(at) - 1)] if len(at) else 0)
    return solid[row], piece_start, piece_end
