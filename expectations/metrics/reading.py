"""What reading a metric off an analysis may answer, and how its tables are narrowed to a stage.

A stage on the main thread has the path ``iteration/h2d``, the same stage on a worker thread only ``h2d``. Claims compare
variants that differ in exactly that, so they name paths without the range that only groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import polars as pl

from ...analyze.result import Analysis

_GROUPS: Final = r"^iteration/"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a metric found. `total` is over the window (counts: divided by its iterations), null where there is none.

    `per_iteration` holds one value for each iteration that has any, null where the analysis does not attribute the
    quantity to iterations. `absent` says why there is nothing to measure ("no copies"): a claim about it cannot be
    judged. `unavailable` says why the evidence does not carry the number: a claim on it is invalid. `unsampled` says that the
    recording did not ask for it: a claim on it is one for another recording. All are empty where `total` is a number.
    """

    total: float | None
    per_iteration: tuple[float, ...] | None
    iterations: int
    absent: str = ""
    unavailable: str = ""
    unsampled: str = ""


Reader = Callable[[Analysis, str | None, str | None], Reading]
"""Reads a metric off an analysis, given a claim's `of` and `stage`."""


def total(analysis: Analysis, value: float) -> Reading:
    """A number of the whole window, which nobody split over iterations."""
    return Reading(value, None, analysis.iterations.height)


def per_iteration(analysis: Analysis, number: int) -> Reading:
    """A count of the window as a count per iteration; of the whole window where there are none."""
    return total(analysis, number / max(analysis.iterations.height, 1))


def nothing(analysis: Analysis, absent: str) -> Reading:
    """There is nothing to measure: `absent`."""
    return Reading(None, None, analysis.iterations.height, absent=absent)


def unavailable(analysis: Analysis, why: str) -> Reading:
    """The evidence does not carry the number: `why`."""
    return Reading(None, None, analysis.iterations.height, unavailable=why)


def unsampled(analysis: Analysis, what: str) -> Reading:
    """The recording does not hold what its profile does not ask for: `what`."""
    return Reading(None, None, analysis.iterations.height, unsampled=what)


def at(stage: str, column: str = "stage") -> pl.Expr:
    """Rows of exactly this stage, nested stages not counted again."""
    return pl.col(column).str.replace(_GROUPS, "") == stage


def under(stage: str) -> pl.Expr:
    """Rows of this stage and of stages nested in it."""
    path = pl.col("stage").str.replace(_GROUPS, "")
    return (path == stage) | path.str.starts_with(stage + "/")


def at_or_whole(stage: str | None) -> pl.Expr:
    """Rows of exactly this stage, or those of the whole device where no stage is asked for."""
    return pl.col("stage").is_null() if stage is None else at(stage)


def has_stage(analysis: Analysis, stage: str) -> bool:
    """Whether any range of the window is this stage."""
    return not analysis.stages.filter(at(stage, "path")).is_empty()


def naming(analysis: Analysis, stage: str | None) -> Analysis:
    """`analysis` with the names by which `stage` is known: those that were recorded, else the folded ones."""
    other = analysis.other_names
    if stage is None or other is None:
        return analysis
    recorded, folded = (other, analysis) if analysis.choices.fold else (analysis, other)
    return folded if has_stage(folded, stage) and not has_stage(recorded, stage) else recorded


def in_stage(stage: str | None) -> str:
    """`` in stage 'h2d'`` for a sentence; empty for the whole."""
    return "" if stage is None else f" in stage {stage!r}"


def add_up(frame: pl.DataFrame, column: str) -> int:
    """The sum of an integer column; 0 for no rows."""
    return int(frame[column].sum() or 0)
