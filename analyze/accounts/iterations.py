"""What each iteration did, and what overlapped in it: the figures of the whole device, once per iteration.

An op belongs to the iteration that was open in its process when it was launched, so that unions of two iterations may share
instants. To measure all iterations in one pass, each is moved to a place of its own on one long time axis:

    time     |--0--|                     moved    |--0--| |--1---|  |-2-|
               |--1---|
                     |-2-|                        offsets: 0       6         14

Unions of the moved ops are the unions of each iteration side by side, and are read off at the offsets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from ...traces.model import KIND_TYPE, KINDS
from ..attribution.steps import NOTHING
from ..attribution.work import Rows, Work
from ..intervals import Cover, Ints, cover, union
from ..result import SCHEMAS
from .overlap import PAIRS, group_covers


def iteration_tables(work: Work) -> dict[str, pl.DataFrame]:
    """Tables ``iteration_kinds``, ``iteration_overlap`` (rows where a is present) and ``iteration_exposed``."""
    frames: dict[str, list[pl.DataFrame]] = {
        name: [pl.DataFrame(schema=SCHEMAS[name])]
        for name in ("iteration_kinds", "iteration_overlap", "iteration_exposed")
    }
    for span, rows in work.devices():
        inside = rows[work.iteration[rows] != NOTHING]
        if len(inside) == 0:
            continue
        moved = _moved(work, inside)
        covers = group_covers(moved.kind, moved.start, moved.end)
        for name, frame in (
            ("iteration_kinds", _kinds(work, moved)),
            ("iteration_overlap", _overlaps(moved, covers)),
            ("iteration_exposed", _exposed(moved, covers)),
        ):
            here = frame.with_columns(pl.lit(span.device, pl.Int32).alias("device"))
            frames[name].append(here.select(*SCHEMAS[name]).cast(pl.Schema(SCHEMAS[name])))
    return {name: pl.concat(parts) for name, parts in frames.items()}


@dataclass(frozen=True, slots=True)
class _Moved:
    """Ops of one device by iteration, then start; iteration ``numbers[i]`` lies in ``[bounds[i], bounds[i + 1])``."""

    rows: Rows
    index: Ints  # position in `numbers`
    numbers: Ints
    bounds: Ints
    kind: Ints
    start: Ints
    end: Ints

    def per_iteration(self, whole: Cover) -> Ints:
        """Length of the cover in each iteration."""
        return np.diff(whole.before(self.bounds))

    def common(self, a: Cover, b: Cover) -> Ints:
        """Length of the intersection in each iteration."""
        total = np.zeros(len(a.start) + 1, np.int64)
        np.cumsum(b.within(a.start, a.end), out=total[1:])
        return np.diff(total[np.searchsorted(a.start, self.bounds)])


def _moved(work: Work, rows: Rows) -> _Moved:
    number = work.iteration[rows]
    if (np.diff(number) < 0).any():
        order = np.argsort(number, kind="stable")
        rows, number = rows[order], number[order]
    first = np.flatnonzero(np.r_[True, np.diff(number) > 0])
    index = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(number)]))
    start, end = work.start[rows], work.end[rows]
    low = start[first]  # rows of one iteration are in order of start
    length = np.maximum.reduceat(end, first) - low + 1  # one ns apart, so that neighbours never merge
    bounds = np.zeros(len(first) + 1, np.int64)
    np.cumsum(length, out=bounds[1:])
    shift = (bounds[:-1] - low)[index]
    return _Moved(rows, index, number[first], bounds, work.kind[rows].astype(np.int64), start + shift, end + shift)


def _kinds(work: Work, moved: _Moved) -> pl.DataFrame:
    nbytes = work.ops["nbytes"].fill_null(0).to_numpy()[moved.rows]
    frames = []
    for code in np.unique(moved.kind).tolist():
        of = np.flatnonzero(moved.kind == code)
        start, end = moved.start[of], moved.end[of]
        cuts = np.searchsorted(moved.index[of], np.arange(len(moved.numbers) + 1))
        frame = pl.DataFrame(
            {
                "iteration": moved.numbers,
                "kind": pl.Series([KINDS[code]] * len(moved.numbers), dtype=KIND_TYPE),
                "ops": np.diff(cuts),
                "sum_ns": _sums(end - start, cuts),
                "union_ns": moved.per_iteration(cover(start, end)),
                "nbytes": _sums(nbytes[of], cuts),
            }
        )
        frames.append(frame.filter(pl.col("ops") > 0))
    return pl.concat(frames).sort("iteration", "kind")


def _sums(values: Ints, cuts: Ints) -> Ints:
    total = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=total[1:])
    return np.diff(total[cuts])


def _overlaps(moved: _Moved, covers: dict[str, Cover]) -> pl.DataFrame:
    lengths = {name: moved.per_iteration(c) for name, c in covers.items()}
    frames = [
        pl.DataFrame(
            {
                "iteration": moved.numbers,
                "a": [a] * len(moved.numbers),
                "b": [b] * len(moved.numbers),
                "a_ns": lengths[a],
                "b_ns": lengths[b],
                "both_ns": moved.common(covers[a], covers[b]),
            }
        )
        for a, b in PAIRS
    ]
    return pl.concat(frames).filter(pl.col("a_ns") > 0).sort("iteration", maintain_order=True)


def _exposed(moved: _Moved, covers: dict[str, Cover]) -> pl.DataFrame:
    busy = union(covers["compute"], covers["comm"])
    frames = [
        pl.DataFrame(
            {
                "iteration": moved.numbers,
                "kind": [kind] * len(moved.numbers),
                "ns": moved.per_iteration(covers[kind]) - moved.common(covers[kind], under),
            }
        )
        for kind, under in (("copy", busy), ("comm", covers["compute"]))
    ]
    return pl.concat(frames).sort("iteration", maintain_order=True)
