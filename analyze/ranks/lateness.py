"""Who keeps the others waiting: how late each rank came to the collectives of an iteration, and what the others lost by it.

    rank 0   |--forward--|~~~~wait~~~~|==all_reduce==|~~~wait~~~|==|
    rank 1   |--data--------|--forward-|==all_reduce==|-backward|==|    late by its data
    rank 2   |--forward--|~~~~wait~~~~|==all_reduce==|~~~wait~~~|==|

A rank's own arrival is when it began a collective, less what it had waited, exposed, for others in the same iteration: what it
would have reached by itself. A rank that waited for a late one and so came late to the next collective is not late by that. How
late a rank is: its own arrival after the median own arrival of the other members, at the collective where that is most.

Exposed communication is split at the last arrival: before it is waiting, after it transfer. Of a collective matched to no
other rank it is neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..intervals import Ints
from .aligned import Clocks
from .matching import ABSENT, Communicator
from .rank import Rank

Table = npt.NDArray[np.int64]
"""A figure of each rank (rows, by position) in each of the job's iterations (columns)."""


@dataclass(frozen=True, slots=True)
class Lateness:
    """By rank and iteration of the job, in ns: `late` (0 where it was not, or had no collective), exposed `waiting`, `transfer`
    and `unsplit` communication, and how late it came by the clock, `skew`: first arrival to last, at the worst collective.

    `iterations` are the job's numbers, those of the reference rank; `shift[r]`: its number less that of rank r. `where[r, i]`:
    (communicator, k) of the collective at which the rank was latest, or -1. `present`: the rank recorded that iteration.
    """

    iterations: Ints
    shift: tuple[int, ...]
    late: Table
    waiting: Table
    transfer: Table
    unsplit: Table
    skew: Ints
    where: npt.NDArray[np.int64]
    present: npt.NDArray[np.bool_]


def lateness(ranks: Sequence[Rank], found: Sequence[Communicator], clocks: Clocks) -> Lateness:
    """How late each of `ranks` was, from the communicators `found` and the aligned `clocks`."""
    shift = _shifts(ranks, found)
    numbers = np.unique(
        np.concatenate([r.table("iterations")["iteration"].to_numpy() + s for r, s in zip(ranks, shift, strict=True)])
    )
    starts = [_starts(ranks, one, clocks) for one in found]
    last = _last_starts(ranks, found, starts)
    shape = (len(ranks), len(numbers))
    waiting, transfer, unsplit = (np.zeros(shape, np.int64) for _ in range(3))
    present = np.zeros(shape, bool)
    waited_before: list[Ints] = []
    columns: list[Ints] = []
    for r, rank in enumerate(ranks):
        own = rank.table("collectives")
        column = np.searchsorted(numbers, own["iteration"].to_numpy() + shift[r])
        outside = own["iteration"].to_numpy() < 0
        column = np.where(outside, -1, np.minimum(column, len(numbers) - 1))
        pieces = rank.table("exposed")
        of = pieces["collective"].to_numpy()
        low, high = (clocks.of(r, pieces[name].to_numpy()) for name in ("start_ns", "end_ns"))
        matched = last[r][of] != _NEVER
        before = np.where(matched, np.clip(last[r][of], low, high) - low, 0)
        for table, ns in (
            (waiting, before),
            (transfer, np.where(matched, high - low - before, 0)),
            (unsplit, np.where(matched, 0, high - low)),
        ):
            inside = column[of] >= 0
            np.add.at(table[r], column[of][inside], ns[inside])
        present[r, np.searchsorted(numbers, rank.table("iterations")["iteration"].to_numpy() + shift[r])] = True
        waited_before.append(_waited_before(column, np.bincount(of, before, len(own)).astype(np.int64)))
        columns.append(column)
    late, where, skew = _late(found, starts, columns, waited_before, shape)
    return Lateness(numbers, shift, late, waiting, transfer, unsplit, skew, where, present)


_NEVER = np.iinfo(np.int64).min


def _shifts(ranks: Sequence[Rank], found: Sequence[Communicator]) -> tuple[int, ...]:
    """By how much the job's iteration numbers are higher than those of each rank: those of the first member of the largest
    communicator count, and others follow by what they ran together."""
    iteration = [rank.table("collectives")["iteration"].to_numpy() for rank in ranks]
    known: dict[int, int] = {}
    left = list(found)
    while left:
        at = next((i for i, c in enumerate(left) if not known or any(m in known for m in c.members)), None)
        if at is None:
            known[left[0].members[0]] = 0
            continue
        one = left.pop(at)
        anchor = next((i for i, m in enumerate(one.members) if m in known), 0)
        known.setdefault(one.members[anchor], 0)
        for i, member in enumerate(one.members):
            both = (one.rows[anchor] != ABSENT) & (one.rows[i] != ABSENT)
            a, b = iteration[one.members[anchor]][one.rows[anchor][both]], iteration[member][one.rows[i][both]]
            inside = (a >= 0) & (b >= 0)
            if member not in known and inside.any():
                values, counts = np.unique(a[inside] - b[inside], return_counts=True)
                known[member] = int(values[counts.argmax()]) + known[one.members[anchor]]
    return tuple(known.get(r, 0) for r in range(len(ranks)))


def _starts(ranks: Sequence[Rank], one: Communicator, clocks: Clocks) -> npt.NDArray[np.int64]:
    """[member, k]: when each member began each collective, on the job's clock; `_NEVER` where it is absent."""
    began = []
    for member, rows in zip(one.members, one.rows, strict=True):
        start = ranks[member].table("collectives")["start_ns"].to_numpy()
        began.append(np.where(rows == ABSENT, _NEVER, clocks.of(member, start[np.maximum(rows, 0)])))
    return np.array(began)


def _last_starts(
    ranks: Sequence[Rank], found: Sequence[Communicator], starts: Sequence[npt.NDArray[np.int64]]
) -> list[Ints]:
    """Of each rank's collectives, when the last member began it; `_NEVER` where it was matched to no other rank."""
    last = [np.full(rank.table("collectives").height, _NEVER) for rank in ranks]
    for one, start in zip(found, starts, strict=True):
        latest = np.where((start != _NEVER).sum(axis=0) > 1, start.max(axis=0), _NEVER)
        for m, member in enumerate(one.members):
            here = one.rows[m] != ABSENT
            last[member][one.rows[m][here]] = latest[here]
    return last


def _waited_before(column: Ints, waited: Ints) -> Ints:
    """Of each collective (in order of time), what was waited at earlier ones of the same iteration."""
    before = np.cumsum(waited) - waited
    new = np.r_[True, np.diff(column) != 0] if len(column) else np.zeros(0, bool)
    first = np.maximum.accumulate(np.where(new, np.arange(len(column)), 0)) if len(column) else new
    return np.asarray(before - before[first], np.int64) if len(column) else before


def _late(
    found: Sequence[Communicator],
    starts: Sequence[npt.NDArray[np.int64]],
    columns: Sequence[Ints],
    waited_before: Sequence[Ints],
    shape: tuple[int, int],
) -> tuple[Table, npt.NDArray[np.int64], Ints]:
    late = np.zeros(shape, np.int64)
    where = np.full((*shape, 2), -1, np.int64)
    skew = np.zeros(shape[1], np.int64)
    for c, (one, start) in enumerate(zip(found, starts, strict=True)):
        here = one.rows != ABSENT
        waited = np.array(
            [waited_before[m][np.maximum(rows, 0)] for m, rows in zip(one.members, one.rows, strict=True)]
        )
        origin = np.where(here, start, np.iinfo(np.int64).max).min(axis=0)
        spread = np.where(here, start, _NEVER).max(axis=0) - origin
        own = np.where(here, (start - origin - waited).astype(np.float64), np.nan)
        behind = own - others_median(own)
        ref = columns[one.members[0]][np.maximum(one.rows[0], 0)]
        inside = here[0] & (ref >= 0)
        np.maximum.at(skew, ref[inside], spread[inside])
        for m, member in enumerate(one.members):
            rows = one.rows[m]
            column = np.where(rows == ABSENT, -1, columns[member][np.maximum(rows, 0)])
            value = np.nan_to_num(behind[m], nan=0.0)
            chosen = np.flatnonzero((column >= 0) & (value > 0))
            chosen = chosen[np.argsort(value[chosen], kind="stable")]  # of one column the largest comes last, and stays
            best = np.zeros(shape[1], np.int64)
            at = np.full(shape[1], -1, np.int64)
            best[column[chosen]] = np.rint(value[chosen]).astype(np.int64)
            at[column[chosen]] = chosen
            more = best > late[member]
            late[member][more] = best[more]
            where[member][more] = np.stack([np.full(int(more.sum()), c), at[more]], axis=1)
    return late, where, skew


def others_median(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of each value, the median of the others in its column; NaN counts as absent. NaN where there are no others."""
    ordered = np.sort(values, axis=0)  # NaN last
    n = (~np.isnan(values)).sum(axis=0)
    columns = np.arange(values.shape[1])

    def without_one(nth: Ints) -> npt.NDArray[np.float64]:
        """The `nth` smallest of the others: the next one where the value itself is among the smaller."""
        nth = np.clip(nth, 0, len(values) - 1)
        here, beyond = ordered[nth, columns], ordered[np.minimum(nth + 1, len(values) - 1), columns]
        return np.where(values <= here, beyond, here)

    middle = (without_one((n - 2) // 2) + without_one((n - 1) // 2)) / 2
    return np.where((n > 1) & ~np.isnan(values), middle, np.nan)
