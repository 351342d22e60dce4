"""Runs that were just captured, as a table: times and speedups."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

from ...analyze.words import ms
from ...expectations.deciding import median_interval, speedups_of
from ...traces.run import Run
from .console import Column, table

COLUMNS: Final = (
    *(Column("workload", "left"), Column("variant", "left")),
    *(Column("ms"), Column("speedup"), Column("99 % interval")),
)

BASELINE: Final = "baseline"


def summary(runs: Sequence[Run]) -> str:
    """A row for each variant of each run: the time of an iteration, and its speedup over the baseline.

    Both are medians over the rounds, of the means of their iterations. The interval is that of `check`.
    """
    return table(COLUMNS, [row for run in runs for row in _rows(run)])


def _rows(run: Run) -> list[tuple[str | None, ...]]:
    times: dict[str, dict[int, Sequence[int]]] = {}
    for made in run.manifest.rounds:
        for result in made.result.variants:
            times.setdefault(result.name, {})[made.index] = result.iterations_ns
    rows: list[tuple[str | None, ...]] = []
    for variant in run.manifest.variants:
        name, mine = variant.name, times.get(variant.name, {})
        median = statistics.median(map(statistics.fmean, mine.values())) if mine else None
        looks = run.manifest.looks
        ratios = speedups_of(times.get(BASELINE, {}), mine, looks) if name != BASELINE else None
        speedup = interval = None
        if ratios is not None:
            found = median_interval(ratios.mean, looks)
            speedup = f"{found.value:.2f} x"
            interval = None if found.low is None else f"{found.low:.2f} to {found.high:.2f}"
        rows.append((run.manifest.workload if not rows else "", name, ms(median), speedup, interval))
    return rows
