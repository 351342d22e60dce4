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
from typing import Final

import numpy as np
import polars as pl

from ...traces.model import KIND_TYPE, KINDS
from ..attribution.stages import ITERATION, Stages
from ..attribution.steps import NOTHING
from ..attribution.window_ops import Rows, WindowOps
from ..intervals import Cover, Ints, cover, union
from ..result import SCHEMAS, joined
from ..steady import Steady
from .overlap import PAIRS, group_covers


def iteration_table(found: Stages, steady: Steady | None, limits: tuple[int, int]) -> pl.DataFrame:
    """Table ``iterations``: those of `found` (all ranges of the domain) that touch the `limits`, of one process: the
    first one's, or that of `steady`.

    `steady` is given where its steady iterations are the window: then only those wholly within the `limits` are listed, since
    another process may begin its first steady iteration before this one has ended its warm-up. Where no range is called so, or
    others were asked for, they are its own; found by kernels, their host time is null.
    """
    low, high = limits
    high -= 0 if steady is None else steady.behind_ns  # the ranges end before the work that they launched
    rows = found.named(ITERATION)
    if steady is not None and (steady.found_by == "option" or len(rows) == 0):
        known = steady.found_by != "kernels"
        all_of_them = pl.DataFrame(
            [(i, one.start_ns, one.end_ns, one.ns if known else None) for i, one in enumerate(steady.instances)],
            SCHEMAS["iterations"],
            orient="row",
        )
        return all_of_them.filter((pl.col("start_ns") >= low) & (pl.col("end_ns") <= high))
    if steady is None:
        rows = rows[(found.start_ns[rows] < high) & (found.end_ns[rows] > low)]
    else:
        rows = rows[(found.start_ns[rows] >= low) & (found.end_ns[rows] <= high)]
    if len(rows) == 0:
        return pl.DataFrame(schema=SCHEMAS["iterations"])
    pid = int(found.pid[rows[0] if steady is None else _first_steady(found, rows, steady)])
    rows = rows[found.pid[rows] == pid]
    start, end = found.start_ns[rows], found.end_ns[rows]
    columns = {"iteration": found.iteration_of[pid](start), "start_ns": start, "end_ns": end, "host_ns": end - start}
    return pl.DataFrame(columns, schema=SCHEMAS["iterations"])


def _first_steady(found: Stages, rows: Ints, steady: Steady) -> int:
    """Which of `rows` is the first iteration of `steady`, whose process is the one to list; else the first of all."""
    first = steady.steady[0]
    same = rows[(found.start_ns[rows] == first.start_ns) & (found.end_ns[rows] == first.end_ns)]
    return int(same[0] if len(same) else rows[0])


_TABLES: Final = ("iteration_kinds", "iteration_overlap", "iteration_exposed")


def iteration_tables(ops: WindowOps) -> dict[str, pl.DataFrame]:
    """Tables ``iteration_kinds``, ``iteration_overlap`` (rows where a is present) and ``iteration_exposed``."""
    found = []
    for span, rows in ops.devices():
        inside = rows[ops.iteration[rows] != NOTHING]
        if len(inside):
            moved = _moved(ops, inside)
            covers = group_covers(moved.kind, moved.start, moved.end)
            tables = (_kinds(ops.table["nbytes"], moved), _overlaps(moved, covers), _exposed(moved, covers))
            device = pl.lit(span.device, pl.Int32).alias("device")
            found.append({name: table.with_columns(device) for name, table in zip(_TABLES, tables, strict=True)})
    return joined(found, *_TABLES)


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
        return _sums(b.within(a.start, a.end), np.searchsorted(a.start, self.bounds))


def _moved(ops: WindowOps, rows: Rows) -> _Moved:
    number = ops.iteration[rows]
    if (np.diff(number) < 0).any():
        order = np.argsort(number, kind="stable")
        rows, number = rows[order], number[order]
    first = np.flatnonzero(np.r_[True, np.diff(number) > 0])
    index = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(number)]))
    start, end = ops.start[rows], ops.end[rows]
    low = start[first]  # rows of one iteration are in order of start
    length = np.maximum.reduceat(end, first) - low + 1  # one ns apart, so that neighbours never merge
    bounds = np.zeros(len(first) + 1, np.int64)
    np.cumsum(length, out=bounds[1:])
    shift = (bounds[:-1] - low)[index]
    return _Moved(rows, index, number[first], bounds, ops.kind[rows].astype(np.int64), start + shift, end + shift)


def _kinds(sizes: pl.Series, moved: _Moved) -> pl.DataFrame:
    nbytes = sizes.fill_null(0).to_numpy()[moved.rows]
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
