"""Which collective of one rank is which of another: the communicators of a job, and the k-th collective of each on every member.

Where torch says of which group a collective is, that decides; its sequence numbers decide which is the k-th. Where nothing says
(Nsight Systems), ranks that ran the same sequence are held against each other: their ends differ by the same time throughout if
they are one communicator, and by what each happened to take if they are not. Recordings that begin elsewhere are shifted
until the ends fit.

    rank 0   A B A B A B          rank 5 was recorded one iteration later:
    rank 5       A B A B A B      shifted by two, all ends differ by one constant

The cost is that of one comparison a rank and communicator: nothing is compared pair by pair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..accounts.communication import NOISE_NS, OWN_STEPS, TOGETHER
from ..intervals import Ints
from .clocks import WITHIN, fit
from .rank import ON_HOST, Rank

MOST_SHIFTS: Final = 64
"""Shifts that are tried, the smallest first: recordings of one job begin a few iterations apart."""

MOST_COMPARED: Final = 512
"""Collectives, evenly spread, that a shift is judged by."""

LEAST_COMMON: Final = 2 / 3
"""Of the shorter recording, what has to be common: with less, a shift that fits is chance."""

ABSENT: Final = -1
"""Of a collective that a member's recording does not reach."""

CLOSE_NS: Final = 10 * NOISE_NS
"""Ends of one communicator differ by no more than this, or by `OWN_STEPS` of what its collectives take."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The collectives of one rank that may be of one communicator, in order: rows of its table, what and when."""

    rank: int  # position among the job's ranks
    rows: Ints
    what: tuple[str, ...]
    start: Ints
    end: Ints
    seq: Ints | None
    group_size: int  # 0: unknown


@dataclass(frozen=True, slots=True)
class Communicator:
    """Ranks (positions, ascending) whose k-th collectives are one: ``rows[m, k]`` is that of member m in its table, or `ABSENT`.

    `group`: what torch calls it, or "". `in_doubt`: it may be several communicators in step, or shifted by whole iterations.
    `residual_ns`: how far its ends lie apart when clocks are aligned.
    """

    group: str
    group_size: int
    members: tuple[int, ...]
    rows: npt.NDArray[np.int64]
    what: tuple[str, ...]
    in_doubt: bool
    residual_ns: int


def communicators(ranks: Sequence[Rank]) -> list[Communicator]:
    """The communicators of which at least two of `ranks` were found, those with most members first."""
    said: dict[str, list[Lane]] = defaultdict(list)
    for number, rank in enumerate(ranks):
        for group, lane in _lanes(number, rank):
            said[group].append(lane)
    found = []
    for group, lanes in said.items():
        found += _known(group, lanes) if group else _unknown(lanes)
    return sorted(found, key=lambda c: (-len(c.members), -c.rows.shape[1], c.members, c.group))


def _lanes(number: int, rank: Rank) -> list[tuple[str, Lane]]:
    table = rank.table("collectives").with_row_index("row").filter(pl.col("split"))
    out = []
    for (group, _), of in table.with_columns(
        pl.when(pl.col("group") == "").then(pl.col("stream")).alias("apart")
    ).group_by("group", "apart", maintain_order=True):
        seq = of["seq"].to_numpy() if of["seq"].null_count() == 0 and of["seq"].is_unique().all() else None
        lane = Lane(
            rank=number,
            rows=of["row"].to_numpy().astype(np.int64),
            what=tuple(of["what"].to_list()),
            start=of["start_ns"].to_numpy(),
            end=of["end_ns"].to_numpy(),
            seq=seq,
            group_size=int(of.select(pl.col("group_size").max().fill_null(0)).item()),
        )
        out.append((str(group), lane))
    return out


def _known(group: str, lanes: list[Lane]) -> list[Communicator]:
    """The communicator that torch calls `group`, of the lanes it names; several where ends say that these are of several jobs."""
    found: list[Communicator] = []
    left = sorted(lanes, key=lambda lane: (-len(lane.rows), lane.rank))
    while len(left) > 1:
        reference = left[0]
        shifts = [(lane, _shift(reference, lane)) for lane in left]
        fitting = [
            (lane, one)
            for lane, one in shifts
            if one is not None and (group == ON_HOST or _spread(reference, lane, one.by) <= _apart(reference))
        ]
        found += _made(group, reference, fitting)
        taken = {id(lane) for lane, _ in fitting}
        left = [lane for lane in left if id(lane) not in taken]
    return found


def _unknown(lanes: list[Lane]) -> list[Communicator]:
    """The communicators among `lanes` of which nothing is said, found by their ends."""
    found: list[Communicator] = []
    left = sorted(lanes, key=lambda lane: (-len(lane.rows), lane.rank))
    while len(left) > 1:
        reference = left[0]
        best: dict[int, tuple[Lane, _Shift]] = {reference.rank: (reference, _Shift(0, 0.0, False))}
        for lane in left[1:]:
            one = None if lane.rank == reference.rank else _shift(reference, lane)
            if one is not None and one.spread_ns <= _close(reference):
                other = best.get(lane.rank)
                if other is None or one.spread_ns < other[1].spread_ns:
                    best[lane.rank] = (lane, one)
        found += _made("", reference, list(best.values()))
        taken = {id(lane) for lane, _ in best.values()}
        left = [lane for lane in left if id(lane) not in taken]
    return found


def _close(lane: Lane) -> float:
    """How far the ends of a communicator lie apart at most, from collectives that did not wait long."""
    return max(CLOSE_NS, OWN_STEPS * float(np.quantile(lane.end - lane.start, 0.25)))


def _apart(lane: Lane) -> float:
    """From how far apart ends are those of two jobs, whatever their groups are called: half of what lies between two ends."""
    between = float(np.median(np.diff(lane.end))) if len(lane.end) > 1 else 0.0
    return max(_close(lane), between / 2)


@dataclass(frozen=True, slots=True)
class _Shift:
    """The k-th of the reference is the (k - `by`)-th of the lane; `spread_ns`: how much ends vary; `ambiguous`: others fit."""

    by: int
    spread_ns: float
    ambiguous: bool


def _shift(reference: Lane, lane: Lane) -> _Shift | None:
    """How `lane` lies beside `reference`; null if their sequences do not fit, however shifted."""
    if lane is reference:
        return _Shift(0, 0.0, False)
    if reference.seq is not None and lane.seq is not None:
        common = np.intersect1d(reference.seq, lane.seq)
        if len(common) == 0:
            return None
        at = int(np.searchsorted(reference.seq, common[0])), int(np.searchsorted(lane.seq, common[0]))
        return _Shift(at[0] - at[1], 0.0, False)
    if reference.what == lane.what and (spread := _spread(reference, lane, 0)) <= _close(reference):
        return _Shift(0, spread, False)
    shorter = min(len(reference.rows), len(lane.rows))
    tried = []
    codes = {word: i for i, word in enumerate(dict.fromkeys((*reference.what, *lane.what)))}
    one, other = (np.array([codes[w] for w in of.what], np.int64) for of in (reference, lane))
    for by in sorted(range(-len(lane.rows) + 1, len(reference.rows)), key=abs):
        a, b = _overlap(reference, lane, by)
        if len(a) < max(LEAST_COMMON * shorter, 2):
            break  # the overlap only shrinks from here on, for both signs
        if np.array_equal(one[a], other[b]):
            tried.append((_spread(reference, lane, by), abs(by), by))
            if len(tried) == MOST_SHIFTS:
                break
    if not tried:
        return None
    tried.sort()
    spread, _, by = tried[0]
    return _Shift(by, spread, len(tried) > 1 and tried[1][0] * TOGETHER < spread)


def _overlap(reference: Lane, lane: Lane, by: int) -> tuple[Ints, Ints]:
    low, high = max(by, 0), min(len(reference.rows), len(lane.rows) + by)
    at = np.arange(low, max(low, high))
    return at, at - by


def _spread(reference: Lane, lane: Lane, by: int) -> float:
    a, b = _overlap(reference, lane, by)
    every = slice(None, None, -(-len(a) // MOST_COMPARED))
    return float(fit(reference.end[a[every]], lane.end[b[every]]).residual_ns)


def _made(group: str, reference: Lane, fitting: list[tuple[Lane, _Shift]]) -> list[Communicator]:
    """The communicator of the `fitting` lanes over the collectives of the `reference`, which has most."""
    if len(fitting) < 2:
        return []
    fitting = sorted(fitting, key=lambda pair: pair[0].rank)
    rows = np.full((len(fitting), len(reference.rows)), ABSENT, np.int64)
    fits, late = [], []
    for own, (lane, one) in zip(rows, fitting, strict=True):
        a, b = _overlap(reference, lane, one.by)
        own[a] = lane.rows[b]
        fits.append(fit(reference.end[a], lane.end[b]))
        late.append(float(np.quantile(np.abs(fits[-1].to_reference(lane.start[b]) - reference.start[a]), WITHIN)))
    size = max(lane.group_size for lane, _ in fitting)
    # Starts have to vary for ends that do not to mean something: who begins late would end late, were it alone.
    told = max(one.residual_ns for one in fits) <= max(TOGETHER * max(late), NOISE_NS)
    doubt = any(one.ambiguous for _, one in fitting) or not (group or told)
    members = tuple(lane.rank for lane, _ in fitting)
    return [Communicator(group, size, members, rows, reference.what, doubt, max(one.residual_ns for one in fits))]
