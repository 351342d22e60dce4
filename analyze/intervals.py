"""Exact algebra on half-open intervals of integer nanoseconds.

A *set of intervals* is two int64 arrays ``(start, end)`` of equal length with ``start <= end``. "Sorted" means by
start. A *cover* is sorted, disjoint and without empty members: the normal form of a union. Nothing here knows what an
interval means.

    a  |---|   |-----|            union of a and b:  |-----| |-----|   (touching members merge)
    b     |--|                    measure:           length of the union
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..traces.engine import primitive

Ints: TypeAlias = npt.NDArray[np.integer]
"""Times are int64; kinds, causes and positions may be narrower."""


def owned_from(start: Ints, end: Ints) -> Ints:
    """Where each interval of a *sorted* set begins to be the earliest-started one still open.

    Interval i owns ``[max(start_i, largest earlier end), end_i)``, empty when that is not before its end: at any instant in
    it every earlier interval has ended. The owned parts are disjoint and their union is the union of the set, so

        measure = sum(max(end - owned_from, 0))

    One pass; equal starts keep their order, so that the first of them owns.
    """
    if len(start) == 0:
        return start
    reach = np.maximum.accumulate(end)
    out = start.copy()
    np.maximum(start[1:], reach[:-1], out=out[1:])
    return out


def near_rows(start: Ints, end: Ints) -> Callable[[int, int], slice]:
    """For intervals sorted by start: what gives the rows that hold all of those which meet ``[low, high)``.

    Nothing before the first row whose running maximum of ends passes `low` can reach into it.
    """
    reach = np.maximum.accumulate(end)

    def near(low: int, high: int) -> slice:
        first = int(np.searchsorted(reach, low, side="right"))
        return slice(first, max(first, int(np.searchsorted(start, high, side="left"))))

    return near


@primitive
def measure(start: Ints, end: Ints) -> int:
    """Length in ns of the union of a *sorted* set."""
    if len(start) == 0:
        return 0
    return int(np.maximum(end - owned_from(start, end), 0).sum())


@primitive
def place_right(at: Ints, time: Ints) -> npt.NDArray[np.integer]:
    """How many of the sorted instants `at` are not after each of `time` (any order; fastest nearly in order)."""
    return np.searchsorted(at, time, side="right")


@dataclass(frozen=True)
class Cover:
    """A union of intervals, ready to be measured up to any instant. Build it with `cover`."""

    start: Ints
    end: Ints

    @cached_property
    def total_before(self) -> Ints:
        """``total_before[i]`` = length of the members before i; one longer than start."""
        total = np.zeros(len(self.start) + 1, np.int64)
        np.cumsum(self.end - self.start, out=total[1:])
        return total

    @cached_property
    def total(self) -> int:
        """Length of the whole cover in ns."""
        return int((self.end - self.start).sum())

    def before(self, time: Ints) -> Ints:
        """Covered ns before each instant of `time` (any order). O(len(time) * log(len(cover)))."""
        if len(self.start) == 0:
            return np.zeros(len(time), np.int64)
        opened = place_right(self.start, time)
        last = np.maximum(opened - 1, 0)
        unfinished = np.where(opened > 0, np.maximum(self.end[last] - time, 0), 0)
        return np.asarray(self.total_before[opened] - unfinished)

    def within(self, start: Ints, end: Ints) -> Ints:
        """Covered ns inside each interval."""
        return self.before(end) - self.before(start)

    def clip(self, low: int, high: int) -> Cover:
        """The part of the cover inside ``[low, high)``."""
        if len(self.start) and self.start[0] >= low and self.end[-1] <= high:
            return self
        start, end = np.maximum(self.start, low), np.minimum(self.end, high)
        keep = start < end
        return Cover(start[keep], end[keep])


def cover(start: Ints, end: Ints) -> Cover:
    """The union of a *sorted* set; members that touch are merged, empty ones vanish."""
    return Cover(*_cover(start, end))


@primitive
def _cover(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    keep = end > start
    if not keep.all():
        start, end = start[keep], end[keep]
    if len(start) == 0:
        return start, end
    reach = np.maximum.accumulate(end)
    fresh = np.empty(len(start), bool)
    fresh[0] = True
    np.greater(start[1:], reach[:-1], out=fresh[1:])
    first = np.flatnonzero(fresh)
    last = np.append(first[1:] - 1, len(start) - 1)
    return start[first], reach[last]


def measured_before(of: Cover) -> Callable[[Ints], Ints]:
    """For times, in ns, how much of the cover `of` lies before each."""
    start, end = of.start, of.end
    whole = np.concatenate([[0], np.cumsum(end - start)])

    def before(at: Ints) -> Ints:
        place = np.searchsorted(start, at, side="right")
        last = np.where(place > 0, end[place - 1], at) if len(end) else at
        return np.asarray(whole[place] - np.maximum(last - at, 0), np.int64)

    return before


def common(a: Cover, b: Cover) -> int:
    """Length in ns of the intersection of two covers."""
    if len(a.start) > len(b.start):
        a, b = b, a
    return int(b.within(a.start, a.end).sum())


def union(a: Cover, b: Cover) -> Cover:
    """The union of two covers."""
    if not len(a.start) or not len(b.start):
        return b if len(b.start) else a
    start = np.concatenate([a.start, b.start])
    order = np.argsort(start, kind="stable")
    return cover(start[order], np.concatenate([a.end, b.end])[order])


def minus(a: Cover, b: Cover) -> Cover:
    """What of `a` lies outside `b`. O(len(a) * log(len(b)) + members of the answer)."""
    if not len(a.start) or not len(b.start):
        return a
    first = np.searchsorted(b.end, a.start, side="right")  # the members of b that touch each of a
    last = np.searchsorted(b.start, a.end, side="left")
    free = np.maximum(last - first, 0) + 1  # what k members leave is at most k + 1 pieces
    row = np.repeat(np.arange(len(free)), free)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(free) - free, free)
    member = first[row] + offset
    low = np.where(offset > 0, b.end[np.maximum(member - 1, 0)], a.start[row])
    high = np.where(offset < free[row] - 1, b.start[np.minimum(member, len(b.start) - 1)], a.end[row])
    keep = low < high
    return Cover(low[keep], high[keep])


def gaps(busy: Cover, low: int, high: int) -> tuple[Ints, Ints]:
    """What of ``[low, high)`` the cover leaves free: a disjoint, sorted set of non-empty intervals."""
    return next(gaps_in_turn(busy, low, high, len(busy.start) + 1))


def gaps_in_turn(busy: Cover, low: int, high: int, most: int) -> Iterator[tuple[Ints, Ints]]:
    """`gaps`, at most so many at once."""
    inside = busy.clip(low, high)
    members = len(inside.start)
    for first in range(0, members + 1, most):  # gap i lies before member i, the last one behind all
        start, end = inside.end[max(first - 1, 0) : first + most - 1], inside.start[first : first + most]
        if first == 0:
            start = np.concatenate([np.array([low], np.int64), start])
        if first + most > members:
            end = np.concatenate([end, np.array([high], np.int64)])
        keep = start < end
        yield (start, end) if keep.all() else (start[keep], end[keep])


@primitive
def grouped_measure(group: npt.NDArray[np.integer], start: Ints, end: Ints, groups: int) -> Ints:
    """`measure` of each group 0..groups-1 of a *sorted* set; rows of a negative group are ignored."""
    out = np.zeros(groups, np.int64)
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    bounds = np.searchsorted(ordered, np.arange(groups + 1))
    for g in np.flatnonzero(np.diff(bounds)):
        rows = order[bounds[g] : bounds[g + 1]]
        out[g] = measure(start[rows], end[rows])
    return out
