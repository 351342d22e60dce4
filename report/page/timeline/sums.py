"""What a page holds of a trace that is too large for it: exact operations in some stretches, sums everywhere.

    time       |----|----|----|----|----|----|----|----|      bins of equal length
    exact           ^^^^^^^^^                ^^^^             the first, the median and the slowest iteration, the largest gaps
    elsewhere  busy time per bin and kind, to the nanosecond

Exact stretches begin and end with bins, so that each bin is either drawn from operations or from sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ....analyze.attribution.window import STEADY
from ....analyze.intervals import Cover, Ints, cover, minus, union
from ....analyze.result import Analysis
from .columns import Columns

BINS: Final = 8192
"""Bins of a trace: several for each pixel of a wide screen."""

LARGEST_GAPS: Final = 16
"""Gaps of each device that an exact stretch is made for."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Equal bins from `low_ns` on; `exact` says of each whether it is drawn from operations."""

    low_ns: int
    width_ns: int
    exact: npt.NDArray[np.bool_]

    @property
    def edges(self) -> Ints:
        """Where bins begin, and the end of the last."""
        return self.low_ns + self.width_ns * np.arange(len(self.exact) + 1, dtype=np.int64)

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """Start and end of each run of exact bins."""
        step = np.diff(np.r_[0, self.exact.astype(np.int8), 0])
        edges = self.edges
        pairs = zip(edges[np.flatnonzero(step > 0)].tolist(), edges[np.flatnonzero(step < 0)].tolist(), strict=True)
        return list(pairs)

    def touches(self, start: Ints, end: Ints) -> npt.NDArray[np.bool_]:
        """Which intervals reach into an exact bin."""
        before = np.r_[0, np.cumsum(self.exact)]
        first = np.clip((start - self.low_ns) // self.width_ns, 0, len(self.exact))
        last = np.clip((end - self.low_ns) // self.width_ns + 1, 0, len(self.exact))
        return np.asarray(before[np.maximum(first, last)] > before[first])

    def document(self, zero_ns: int) -> dict[str, Any]:
        """As the page reads it: `exact` are starts and ends of stretches."""
        exact = [[low - zero_ns, high - zero_ns] for low, high in self.stretches]
        return {"low": self.low_ns - zero_ns, "width": self.width_ns, "bins": len(self.exact), "exact": exact}


def choose_grid(analysis: Analysis, start: Ints, end: Ints, limits: tuple[int, int], most: int) -> Grid | None:
    """The grid of a trace whose operations have `start` (ascending) and `end`; null where all of them fit into `most`."""
    if len(start) <= most:
        return None
    low, high = limits
    width = max(-(-(high - low) // BINS), 1)
    grid = Grid(low, width, np.zeros(max(-(-(high - low) // width), 1), bool))
    ends = np.sort(end)
    held = 0  # at most so many: what lies in two stretches counts twice
    for begin, stop in _wanted(analysis, start, most):
        first, last = max((begin - low) // width, 0), min(-(-(stop - low) // width), len(grid.exact))
        if first < last and not grid.exact[first:last].all():
            ended = np.searchsorted(ends, low + first * width)
            more = int(np.searchsorted(start, low + last * width) - ended)
            if held + more <= most:
                grid.exact[first:last] = True
                held += more
    return grid


def _wanted(analysis: Analysis, start: Ints, most: int) -> list[tuple[int, int]]:
    """The stretches to show exactly, the most telling first: iterations, gaps, and the first operations for want of these."""
    every, _, warm_up = iteration_rows(analysis)
    rows = every[warm_up:]
    found: list[tuple[int, int]] = []
    if rows:
        by_length = sorted(rows, key=lambda row: row[1] - row[0])
        found = [rows[0], by_length[-1], by_length[(len(rows) - 1) // 2]]
    gaps = analysis.gaps.sort("ns", descending=True).group_by("device", maintain_order=True).head(LARGEST_GAPS)
    found += [(low - (high - low) // 4, high + (high - low) // 4) for low, high in gaps["start_ns", "end_ns"].rows()]
    return [*found, (int(start[0]), int(start[min(most // 4, len(start) - 1)]))]


def by_priority(kind: Ints, start: Ints, end: Ints, kinds: int) -> dict[int, Cover]:
    """Each instant given to the lowest kind that has an interval then; intervals are sorted by start."""
    above = Cover(start[:0], start[:0])
    found = {}
    for k in range(kinds):
        rows = np.flatnonzero(kind == k)
        if len(rows):
            whole = cover(start[rows], end[rows])
            found[k] = minus(whole, above)
            above = union(above, whole)
    return found


def sums_of(columns: Columns, grid: Grid, parts: Mapping[int, Cover], start: Ints) -> dict[str, Any]:
    """Columns of the busy ns of each kind in each bin, and of how many intervals begin in it."""
    edges = grid.edges
    kinds = sorted(parts)
    return {
        "kinds": kinds,
        "sums": [columns.add(np.diff(parts[k].before(edges))) for k in kinds],
        "count": columns.add(np.diff(np.searchsorted(start, edges))),
    }


def iteration_rows(analysis: Analysis) -> tuple[Sequence[tuple[int, int]], int, int]:
    """(start and end of each iteration, the number of the first, how many of them are warm-up that the window leaves out)."""
    steady = analysis.steady
    if steady is not None and analysis.choices.window == STEADY:
        return [(one.start_ns, one.end_ns) for one in steady.instances], 0, steady.warm_up
    rows = analysis.iterations.drop_nulls("end_ns").sort("start_ns")
    return rows.select("start_ns", "end_ns").rows(), int(rows["iteration"][0]) if rows.height else 0, 0
