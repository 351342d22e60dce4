"""What the ranks of a job say together: one value, from which every face is made.

    partials -> roster -> communicators -> clocks -> lateness -> causes -> Job

Nothing here touches a file. Figures are per rank and iteration; shares are of the job's iteration time, which is that of the
slowest rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..words import duration
from .aligned import Clocks, aligned
from .causes import Cause, Ledgers, category
from .lateness import Lateness, lateness
from .matching import Communicator, communicators
from .rank import Rank
from .roster import Roster, listed, roster

MATERIAL: Final = 0.02
"""Of an iteration: a rank that is less late than this is not called late. Two undisturbed ranks of a real job on two H200s
(traces/samples/h200x2_ddp_recipe.py) came up to 1.6 % of an iteration apart."""

TIMES_RESIDUAL: Final = 3
"""And less late than so many clock residuals: nine differences in ten are within one."""

FIXED: Final = 2 / 3
"""Of all that last ranks were late: one rank that this much is of is the job's straggler."""

ROTATES: Final = 1 / 3
"""And where no rank has more of it than this, the straggler rotates."""

LEAST_FIXED: Final = 2
"""Iterations with a late rank below which nothing repeats."""

MOST_CAUSES: Final = 5
"""Causes that are kept of an iteration."""

DOUBTFUL: Final = 0.1
"""Of what ranks wait at a collective on average: with a larger clock residual waiting and transfer are `partial`, if it may blur
a `MATERIAL` part of an iteration. Where nobody waits, any residual is larger than that."""


@dataclass(frozen=True, slots=True)
class Step:
    """One iteration of the job. `ns` is that of its slowest rank. `rank` was last by `late_ns` (null: nobody was late), at a
    collective `at` of `stage_at`, because of `causes`; the median other rank waited `lost_ns`, exposed. `skew_ns`: first to last
    arrival at the worst collective."""

    iteration: int
    start_ns: int
    ns: int
    rank: int | None
    late_ns: int
    lost_ns: int
    skew_ns: int
    at: str | None
    stage_at: str | None
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """Whether it is always the same rank: `kind` is ``none`` (nobody late), ``once``, ``fixed``, ``rotating`` or ``several``."""

    kind: str
    rank: int | None  # of ``fixed`` and ``once``
    late: int  # iterations with a late rank
    of: int
    by_rank: tuple[tuple[int, int, int], ...]  # (rank, times last, ns late in these), the latest in sum first


@dataclass(frozen=True, slots=True)
class Job:
    """Everything about a job of ranks. `trust` is (level, reasons); `metrics` are null where nothing can be said."""

    roster: Roster
    steps: tuple[Step, ...]
    pattern: Pattern
    ranks: pl.DataFrame
    ledger: pl.DataFrame
    stages: pl.DataFrame
    found: tuple[Communicator, ...]
    clocks: Clocks
    late: Lateness
    trust: tuple[str, tuple[str, ...]]
    metrics: dict[str, float | None]


def job_of(given: Sequence[Rank]) -> Job:
    """The job of the partials `given` (at least one), in any order."""
    who = roster(given)
    ranks = who.ranks
    found = communicators(ranks)
    clocks = aligned(ranks, found)
    late = lateness(ranks, found, clocks)
    length, start = _lengths(ranks, late, clocks)
    usual = float(np.median(length[late.present])) if late.present.any() else 0.0
    steps = _steps(who, found, clocks, late, length, start, usual)
    table = _rank_table(who, found, clocks, late, steps)
    cells = _cells(who)
    return Job(
        roster=who,
        steps=steps,
        pattern=_pattern(steps),
        ranks=table,
        ledger=_ledger(cells, len(ranks)),
        stages=_stages(cells),
        found=tuple(found),
        clocks=clocks,
        late=late,
        trust=_trust(who, found, clocks, late, usual),
        metrics=_metrics(late, length, steps, bool(found)),
    )


def _lengths(
    ranks: Sequence[Rank], late: Lateness, clocks: Clocks
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """[rank, iteration]: how long each took, 0 where it was not recorded; and when each began on the job's clock (0 likewise)."""
    length, start = (np.zeros(late.present.shape, np.int64) for _ in range(2))
    for r, rank in enumerate(ranks):
        table = rank.table("iterations")
        at = np.searchsorted(late.iterations, table["iteration"].to_numpy() + late.shift[r])
        length[r, at] = (table["end_ns"] - table["start_ns"]).to_numpy()
        start[r, at] = clocks.of(r, table["start_ns"].to_numpy())
    return length, start


def _steps(
    who: Roster,
    found: Sequence[Communicator],
    clocks: Clocks,
    late: Lateness,
    length: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    usual: float,
) -> tuple[Step, ...]:
    ledgers = Ledgers(who.ranks, late) if found else None
    least = max(MATERIAL * usual, TIMES_RESIDUAL * clocks.residual_ns)
    out = []
    for column, number in enumerate(late.iterations.tolist()):
        here = late.present[:, column]
        last = int(late.late[:, column].argmax())
        ns = int(late.late[last, column])
        one = ledgers if ns >= least and ns > 0 else None
        c, k = late.where[last, column].tolist()
        others = np.delete(late.waiting[:, column], last)[np.delete(here, last)]
        lost = max(int(np.median(others)) - int(late.waiting[last, column]), 0) if len(others) else 0
        at = stage_at = None
        if one is not None and c >= 0:
            member = found[c].members.index(last)
            at = found[c].what[k]
            stage_at = who.ranks[last].table("collectives")["stage"][int(found[c].rows[member, k])]
        out.append(
            Step(
                iteration=number,
                start_ns=int(start[here, column].min()) if here.any() else 0,
                ns=int(length[:, column].max()),
                rank=who.numbers[last] if one is not None else None,
                late_ns=ns if one is not None else 0,
                lost_ns=lost if one is not None else 0,
                skew_ns=int(late.skew[column]),
                at=at,
                stage_at=stage_at,
                causes=tuple(one.why(last, column)[:MOST_CAUSES]) if one is not None else (),
            )
        )
    return tuple(out)


def _pattern(steps: Sequence[Step]) -> Pattern:
    late = [step for step in steps if step.rank is not None]
    times = Counter(step.rank for step in late)
    found = [(rank, n, sum(s.late_ns for s in late if s.rank == rank)) for rank, n in times.items() if rank is not None]
    by_rank = tuple(sorted(found, key=lambda row: (-row[2], row[0])))
    if not by_rank:
        return Pattern("none", None, 0, len(steps), ())
    first, _, ns = by_rank[0]
    share = ns / sum(s.late_ns for s in late)
    kind = (
        "once"
        if len(late) < LEAST_FIXED
        else "fixed"
        if share >= FIXED
        else "rotating"
        if share <= ROTATES
        else "several"
    )
    return Pattern(kind, first if kind in ("once", "fixed") else None, len(late), len(steps), by_rank)


def _rank_table(
    who: Roster, found: Sequence[Communicator], clocks: Clocks, late: Lateness, steps: Sequence[Step]
) -> pl.DataFrame:
    """One row a rank: identity, clock, communication in ns over its iterations, and how often it was last."""
    short = dict(who.short)
    last = Counter(step.rank for step in steps)
    rows: list[dict[str, Any]] = []
    for r, (number, rank) in enumerate(zip(who.numbers, who.ranks, strict=True)):
        fit = clocks.fits.get(r)
        table = rank.table("iterations")
        rows.append(
            {
                "rank": number,
                "source": rank.identity.source,
                "trace": rank.trace,
                "host": rank.identity.host,
                "device": rank.identity.device,
                "gpu": rank.identity.device_name,
                "uuid": rank.identity.uuid,
                "iterations": table.height,
                "iteration_ns": int((table["end_ns"] - table["start_ns"]).sum()),
                "waiting_ns": int(late.waiting[r].sum()),
                "transfer_ns": int(late.transfer[r].sum()),
                "unsplit_ns": int(late.unsplit[r].sum()),
                "collectives": rank.table("collectives").height,
                "matched": sum(int((c.rows[c.members.index(r)] >= 0).sum()) for c in found if r in c.members),
                "times_last": last.get(number, 0),
                "late_ns": sum(step.late_ns for step in steps if step.rank == number),
                "clock_offset_ns": None if fit is None else fit.offset_ns,
                "clock_drift": None if fit is None else fit.drift,
                "clock_residual_ns": None if fit is None else fit.residual_ns,
                "short": number in short,
            }
        )
    return pl.DataFrame(rows, schema=RANK_SCHEMA)


RANK_SCHEMA: Final = {
    "rank": pl.Int64,
    "source": pl.String,
    "trace": pl.String,
    "host": pl.String,
    "device": pl.Int64,
    "gpu": pl.String,
    "uuid": pl.String,
    "iterations": pl.Int64,
    "iteration_ns": pl.Int64,
    "waiting_ns": pl.Int64,
    "transfer_ns": pl.Int64,
    "unsplit_ns": pl.Int64,
    "collectives": pl.Int64,
    "matched": pl.Int64,
    "times_last": pl.Int64,
    "late_ns": pl.Int64,
    "clock_offset_ns": pl.Int64,
    "clock_drift": pl.Float64,
    "clock_residual_ns": pl.Int64,
    "short": pl.Boolean,
}


def _cells(who: Roster) -> pl.DataFrame:
    """All ledgers: rank (number), stage, category, cause, ns an iteration of that rank."""
    frames = [
        rank.table("ledger")
        .filter(pl.col("iteration") >= 0)
        .group_by("stage", "category", "cause")
        .agg(pl.col("ns").sum() / max(rank.table("iterations").height, 1))
        .with_columns(pl.lit(number, pl.Int64).alias("rank"))
        for number, rank in zip(who.numbers, who.ranks, strict=True)
    ]
    return pl.concat(frames)


def _ledger(cells: pl.DataFrame, n: int) -> pl.DataFrame:
    """The job's ledger, ns an iteration: mean, spread and extremes over its `n` ranks (0 where one has no such cell), and the
    worst."""
    worst = pl.col("rank").sort_by("ns", "rank", descending=[True, False]).first()
    table = cells.group_by("stage", "category", "cause").agg(
        (pl.col("ns").sum() / n).alias("mean_ns"),
        ((pl.col("ns") ** 2).sum() / n).alias("square"),
        pl.when(pl.len() < n).then(0.0).otherwise(pl.col("ns").min()).alias("min_ns"),
        pl.col("ns").max().alias("max_ns"),
        worst.alias("worst_rank"),
    )
    variance = (pl.col("square") - pl.col("mean_ns") ** 2).clip(0)
    return (
        table.with_columns(variance.sqrt().alias("sd_ns"))
        .select("stage", "category", "cause", "mean_ns", "sd_ns", "min_ns", "max_ns", "worst_rank")
        .sort("mean_ns", "stage", "category", "cause", descending=[True, False, False, False])
    )


def _stages(cells: pl.DataFrame) -> pl.DataFrame:
    """Rank by stage, ns an iteration without communication: what differs here is a rank's own doing."""
    own = cells.filter(pl.col("category") != "comm")
    return own.group_by("rank", "stage").agg(pl.col("ns").sum()).sort("stage", "rank")


def by_category(job: Job) -> dict[str, float]:
    """The job's ledger in the words of `causes.CATEGORIES` and ``communication``, mean ns an iteration."""
    out: Counter[str] = Counter()
    for stage, kind, cause, mean in job.ledger.select("stage", "category", "cause", "mean_ns").iter_rows():
        out["communication" if kind == "comm" else category(stage, kind, cause)] += mean
    return dict(out.most_common())


def _trust(
    who: Roster, found: Sequence[Communicator], clocks: Clocks, late: Lateness, usual: float
) -> tuple[str, tuple[str, ...]]:
    """How far waiting and lateness can be trusted, and why no further."""
    if not found:
        return "unavailable", ("no collective was matched across ranks: nothing says who waited for whom",)
    reasons = []
    doubtful = [c for c in found if c.in_doubt]
    if doubtful:
        reasons.append(
            f"{len(doubtful)} of {len(found)} communicators are in doubt: their starts vary too little to tell whose collectives "
            "belong together"
        )
    matched = sum(int((c.rows >= 0).sum()) for c in found)
    residual = clocks.residual_ns
    waited = float(late.waiting.sum()) / matched if matched else 0.0
    steps = max(int(late.present.sum()), 1)
    blurred = residual * matched / steps  # of a rank's iteration, at most: a residual at each of its collectives
    if residual > DOUBTFUL * waited and blurred > MATERIAL * usual:
        reasons.append(
            f"clocks are aligned to within {duration(residual)}, more than {DOUBTFUL:.0%} of what ranks wait at a collective"
        )
    untied = [n for r, n in enumerate(who.numbers) if r not in clocks.fits]
    if untied:
        reasons.append(
            f"nothing ties {len(untied)} of {len(who.numbers)} ranks to the others, as if they were of another job: "
            f"{listed(untied)}"
        )
    if who.missing:
        reasons.append(f"{len(who.missing)} ranks are missing, any of which may have been last: {listed(who.missing)}")
    if who.notes:
        reasons += who.notes
    return ("partial" if reasons else "ok"), tuple(reasons)


def _metrics(
    late: Lateness, length: npt.NDArray[np.int64], steps: Sequence[Step], matched: bool
) -> dict[str, float | None]:
    """``exposed_comm_share``: of all ranks' iteration time; ``straggler_share``: lateness of the last rank over iteration time;
    ``skew``: first to last arrival at an iteration's worst collective over its length, the median."""
    total = int(length.sum())
    job = sum(step.ns for step in steps)
    exposed = int((late.waiting + late.transfer + late.unsplit).sum())
    return {
        "exposed_comm_share": exposed / total if total else None,
        "straggler_share": sum(s.late_ns for s in steps) / job if matched and job else None,
        "skew": float(np.median([s.skew_ns / s.ns for s in steps if s.ns])) if matched and job else None,
    }
