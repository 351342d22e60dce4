"""Metrics that are shares of time: what ran beside what, and what each part of the window was spent on.

Several devices are summed before dividing, so a share is weighted by the devices' times. The whole device is judged over
iterations; the ledger also knows each stage's iterations, while overlaps of a stage are known over the window only.
"""

from __future__ import annotations

import polars as pl

from ...analyze.accounts.launches import DEVICE_CAUSES
from ...analyze.result import IDLE, Analysis
from ...traces.model import COPY_KINDS
from .reading import (
    Reader,
    Reading,
    add_up,
    at_or_whole,
    has_stage,
    in_stage,
    nothing,
    total,
    unavailable,
    under,
    unsampled,
)


def overlap(column: str) -> Reader:
    """Both kinds' common time over the first one's (`column` "hidden") or over the shorter one's ("efficiency")."""
    whole = pl.col("a_ns") if column == "hidden" else pl.min_horizontal("a_ns", "b_ns")

    def read(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
        a, b = str(of).split("|")
        pair = (pl.col("a") == a) & (pl.col("b") == b)
        rows = analysis.overlap.filter(pair & at_or_whole(stage))
        both, ideal = rows.select(pl.col("both_ns").sum(), whole.alias("whole").sum()).row(0)
        if not ideal:
            a_ns, b_ns = rows.select(pl.col("a_ns").sum(), pl.col("b_ns").sum()).row(0)
            missing = a if not a_ns else b if not b_ns else f"device with both {a} and {b}"
            return nothing(analysis, f"no {missing}{in_stage(stage)}")
        each = None
        if stage is None:
            parts = analysis.iteration_overlap.filter(pair).select(
                "iteration", pl.col("both_ns").alias("part"), whole.alias("whole")
            )
            each = _each(parts)
        return Reading(both / ideal, each, analysis.iterations.height)

    return read


def exposed_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """Time of copies (or communication) with nothing to hide them, over the window."""
    window = analysis.windows.select((pl.col("end_ns") - pl.col("start_ns")).sum()).item()
    rows = analysis.exposed.filter((pl.col("kind") == of) & at_or_whole(stage))
    if not window or rows.is_empty():
        return nothing(analysis, f"no {of}{in_stage(stage)}")
    each = None
    if stage is None:
        bare = (
            analysis.iteration_exposed.filter(pl.col("kind") == of)
            .group_by("iteration")
            .agg(pl.col("ns").sum().alias("part"))
        )
        lengths = analysis.ledger.drop_nulls("iteration").group_by("iteration").agg(pl.col("ns").sum().alias("whole"))
        each = _each(bare.join(lengths, on="iteration"))
    return Reading(add_up(rows, "ns") / window, each, analysis.iterations.height)


def stage_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """A stage's ledger cells of a category (``copy``: all kinds of copies), nested stages included, over the window."""
    category = pl.lit(True) if of == "all" else _category(of)
    return _ledger_share(analysis, under(str(stage)) & category, pl.lit(True), stage)


def stage_busy_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """A stage's ledger cells of a category (``all``: all that are not idle), nested stages included, over all such cells."""
    category = pl.col("category") != IDLE if of == "all" else _category(of)
    if analysis.ledger.filter(category).is_empty():
        return nothing(analysis, f"no {'work' if of == 'all' else of} on the device")
    return _ledger_share(analysis, under(str(stage)) & category, category, stage)


def _category(of: str | None) -> pl.Expr:
    return pl.col("category").is_in(COPY_KINDS if of == "copy" else (str(of),))


def idle_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """Idle cells of a cause (``host``: every cause the host is to blame for), over the window."""
    idle = pl.col("category") == IDLE
    if of == "host":
        idle &= ~pl.col("cause").is_in(DEVICE_CAUSES)
    elif of != "all":
        idle &= pl.col("cause") == of
    return _ledger_share(analysis, idle & (pl.lit(True) if stage is None else under(stage)), pl.lit(True), stage)


def critical_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """Pieces of the critical path of a category or a cause (``copy``: all kinds of copies), nested stages included."""
    path = analysis.critical
    if path.is_empty():
        return nothing(analysis, "no critical path")
    if stage is not None and not has_stage(analysis, stage):
        return nothing(analysis, f"no stage {stage!r}")
    chosen = pl.lit(True) if of == "all" else _category(of) | (pl.col("cause").fill_null("") == str(of))
    return total(
        analysis,
        add_up(path.filter(chosen & (pl.lit(True) if stage is None else under(stage))), "ns") / add_up(path, "ns"),
    )


def stall_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """Allocator cells over the window, or over the stage's own cells."""
    whole = pl.lit(True) if stage is None else under(stage)
    return _ledger_share(analysis, whole & (pl.col("cause") == "allocator"), whole, stage)


def comm_wait_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """Of the collectives' time, the part before the last rank began; only where every collective could be paired."""
    rows = analysis.collectives.filter(pl.lit(True) if stage is None else under(stage))
    time_ns, waited = add_up(rows, "sum_ns"), add_up(rows, "comm_wait_ns")
    if not time_ns:
        return nothing(analysis, f"no collectives{in_stage(stage)}")
    alone = add_up(rows, "ops") - add_up(rows, "paired")
    if alone:
        why = f"{alone} collectives have no other rank in the trace, or none that can be identified"
        return Reading(None, None, analysis.iterations.height, unavailable=why)
    return total(analysis, waited / time_ns)


def of_job(column: str) -> Reader:
    """A figure of the job of ranks that the trace holds or is one of (``analyze.ranks.of_trace``)."""

    def read(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
        for row in analysis.job.iter_rows(named=True):
            if row["trust"] == "alone":
                return unsampled(analysis, row["reason"])
            if row["missing"]:
                return nothing(
                    analysis, f"no other trace of rank {row['missing']}, and any that is missing may be the last"
                )
            if row["trust"] != "ok" or row[column] is None:
                return unavailable(analysis, row["reason"] or "nothing says who waited for whom")
            return Reading(row[column], None, row["iterations"])
        return nothing(analysis, "no ranks that communicate")

    return read


def small_kernel_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """Kernels shorter than 10 us over all kernels, by number; nested stages included."""
    rows = analysis.kernel_counts.filter(pl.col("stage").is_null() if stage is None else under(stage))
    kernels = add_up(rows, "kernels")
    if not kernels:
        return nothing(analysis, f"no kernels{in_stage(stage)}")
    return total(analysis, add_up(rows, "small_kernels") / kernels)


def _ledger_share(analysis: Analysis, part: pl.Expr, whole: pl.Expr, stage: str | None) -> Reading:
    cells = analysis.ledger.select(
        "iteration",
        pl.when(part.fill_null(False)).then("ns").otherwise(0).alias("part"),
        pl.when(whole.fill_null(False)).then("ns").otherwise(0).alias("whole"),
    )
    if stage is not None and not has_stage(analysis, stage):
        return nothing(analysis, f"no stage {stage!r}")
    if not add_up(cells, "whole"):
        return nothing(analysis, f"no device time{in_stage(stage)}")
    return Reading(add_up(cells, "part") / add_up(cells, "whole"), _each(cells), analysis.iterations.height)


def _each(parts: pl.DataFrame) -> tuple[float, ...] | None:
    """part / whole of each iteration that has any whole, devices summed; null where no iteration has."""
    each = parts.drop_nulls("iteration").group_by("iteration").agg(pl.col("part", "whole").sum()).sort("iteration")
    each = each.filter(pl.col("whole") > 0)
    return tuple((each["part"] / each["whole"]).to_list()) if each.height else None
