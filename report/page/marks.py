"""Marks: the bars of a timeline, and how many neighbours become one where a page cannot hold them all.

ops      | | ||   |  |||||||       merged by the cell of time they start in,
cells    '---'---'---'---'---      the shortest cells that leave few enough marks
marks    [  ][  ] [ ][ ][  ]       paler where the ops of a mark were busy for less of it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from . import text
from .markup import clip

# Cells in which neighbours are merged, as parts of the drawn span, finest first to keep detail for zooming in. A lane is
# about 1000 pixels wide, so that even the coarsest is two pixels.
_DIVISORS: Final = tuple(1 << power for power in range(24, 8, -1))


@dataclass(frozen=True, slots=True)
class Mark:
    """One bar. `start_ns` counts from the view's start; `lane` indexes `Timeline.lanes`; `hover` is plain lines.

    `density` is the busy part of a mark that stands for several ops, else 1.
    """

    lane: int
    kind: str
    start_ns: int
    duration_ns: int
    label: str
    hover: tuple[str, ...]
    density: float = 1.0


def merge(frame: pl.DataFrame, keys: list[str], span: int, most: int) -> tuple[pl.DataFrame, int]:
    """Rows of equal `keys` that start in the same cell of time, merged; cells are the shortest that leave `most` rows.

    Returns the merged rows (`items` of each, `busy_ns` = sum of durations, `name` of the longest, `nbytes` summed)
    and the length of a cell in ns (0: nothing was merged), at most two pixels: then there may be more than `most` rows.
    """
    cell, quantum = pl.int_range(pl.len()), 0
    for divisor in _DIVISORS if frame.height > most else ():
        quantum = max(span // divisor, 1)
        cell = pl.col("start_ns") // quantum
        if frame.select(pl.struct(*keys, cell.alias("cell")).n_unique()).item() <= most:
            break
    length = pl.col("end_ns") - pl.col("start_ns")
    others = [c for c in frame.columns if c not in {*keys, "start_ns", "end_ns", "name", "nbytes"}]
    merged = (
        frame.sort([*keys, "start_ns"], maintain_order=True)
        .group_by(*keys, cell.alias("cell"), maintain_order=True)
        .agg(
            *(pl.col(c).first() for c in others),
            pl.col("start_ns").min(),
            pl.col("name").sort_by(length, descending=True).first(),
            pl.col("nbytes").sum(),
            length.sum().alias("busy_ns"),
            pl.len().alias("items"),
            pl.col("end_ns").max(),
        )
    )
    return merged, quantum


def merged_note(items: int, marks: int, what: str, quantum: int) -> str:
    """The sentence that says how many of `what` (op, range) were merged."""
    near = f"those of one lane that start within the same {text.duration(quantum)} are one mark"
    return f"{text.count(items, what)} drawn as {text.count(marks, 'mark')}: {near}, the paler the less it was busy"


@dataclass(frozen=True, slots=True)
class View:
    """The drawn time ``[start_ns, end_ns)`` of a recording, and `zero_ns`, what its instants are told from."""

    start_ns: int
    end_ns: int
    zero_ns: int


def mark_of(lane: int, kind: str, row: dict[str, int], view: View, label: str, lines: Sequence[str]) -> Mark:
    """The mark of one merged row, cut to the `view`; `lines` are its hover text, which gets its time."""
    left, right = max(row["start_ns"], view.start_ns), min(row["end_ns"], view.end_ns)
    at = f"at {text.moment(row['start_ns'] - view.zero_ns)}"
    extent = row["end_ns"] - row["start_ns"]
    density = min(row["busy_ns"] / extent, 1.0) if row.get("items", 1) > 1 and extent > 0 else 1.0
    return Mark(lane, kind, left - view.start_ns, max(right - left, 0), label, (*lines, at), density)


def shown_name(name: str | None) -> str:
    """A recorded name, clipped."""
    return clip(name) if name else "(unnamed)"
