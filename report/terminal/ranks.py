"""A job of ranks as text: the verdict on stragglers first, then who, when and why, then the job's ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from ...analyze.ranks.gather import Failed
from ...analyze.ranks.job import Job, by_category
from ...analyze.ranks.roster import listed
from ...analyze.words import ms, percent
from ..rank_rows import headline, late_steps, latest_ranks, step_row
from .console import Column, print_table, say, say_wrapped

LEFT: Final = "left"
SHOWN_STEPS: Final = 20
SHOWN_RANKS: Final = 10
SHOWN_CELLS: Final = 15


def print_job(job: Job, failed: Sequence[Failed]) -> None:
    """Everything that fits a screen or two; the page and ``--json`` have all of it."""
    for line in headline(job):
        say_wrapped(line)
    _print_roster(job, failed)
    level, reasons = job.trust
    for reason in reasons:
        say_wrapped(reason, f"trust {level}: ", "  ")
    late = late_steps(job)
    if late:
        say()
        rows = [step_row(step) for step in sorted(late[:SHOWN_STEPS], key=lambda s: s.iteration)]
        print_table(_STEPS, rows)
        if len(late) > SHOWN_STEPS:
            say(f"the {SHOWN_STEPS} of {len(late)} iterations that lost most; --json has all")
    say()
    _print_ranks(job)
    say()
    _print_ledger(job)


_STEPS: Final = (
    Column("iteration"),
    Column("rank"),
    Column("late ms"),
    Column("waited ms"),
    Column("because of", LEFT),
    Column("in stage", LEFT, shrink=True),
    Column("ms more"),
)


def _print_roster(job: Job, failed: Sequence[Failed]) -> None:
    who = job.roster
    if who.missing:
        say_wrapped(f"missing: {listed(who.missing)}")
    if who.short:
        words = ", ".join(f"rank {rank} with {count}" for rank, count in who.short[:SHOWN_RANKS])
        say_wrapped(f"short: {words} of {who.usual} iterations" + _more(len(who.short)))
    for one in who.duplicates[:SHOWN_RANKS]:
        say_wrapped(f"left out: {one.trace}: {one.why}")
    if failed:
        say_wrapped(f"failed: {', '.join(one.file for one in failed[:SHOWN_RANKS])}{_more(len(failed))}; see above")


def _more(count: int) -> str:
    return f" and {count - SHOWN_RANKS} more" if count > SHOWN_RANKS else ""


def _print_ranks(job: Job) -> None:
    worst = latest_ranks(job).head(SHOWN_RANKS)
    rows = [
        (
            r["rank"],
            r["times_last"],
            ms(r["late_ns"]),
            percent(r["waiting_ns"] / r["iteration_ns"]) if r["iteration_ns"] else None,
            percent(r["transfer_ns"] / r["iteration_ns"]) if r["iteration_ns"] else None,
            f"{r['gpu'] or 'device'} {r['device']}" + (f" of {r['host']}" if r["host"] else ""),
            r["trace"],
        )
        for r in worst.iter_rows(named=True)
    ]
    print_table(
        [
            *(Column(title) for title in ("rank", "times last", "late ms", "waiting", "transfer")),
            Column("device", LEFT, shrink=True),
            Column("trace", LEFT, shrink=True),
        ],
        rows,
    )
    if job.ranks.height > SHOWN_RANKS:
        say(f"{SHOWN_RANKS} of {job.ranks.height} ranks, the latest first; --json has all")


def _print_ledger(job: Job) -> None:
    """Where an iteration of the job goes, and on which rank it differs most."""
    parts = ", ".join(f"{word} {ms(ns)}" for word, ns in by_category(job).items())
    say_wrapped(f"an iteration in ms, the mean of all ranks: {parts}")
    rows = [
        (
            r["stage"],
            r["category"] if r["cause"] is None else f"{r['category']}: {r['cause']}",
            *(ms(r[name]) for name in ("mean_ns", "sd_ns", "min_ns", "max_ns")),
            r["worst_rank"],
        )
        for r in job.ledger.filter(pl.col("max_ns") > 0).head(SHOWN_CELLS).iter_rows(named=True)
    ]
    figures = [Column(title) for title in ("mean ms", "spread", "least", "most", "on rank")]
    print_table([Column("stage", LEFT, shrink=True), Column("category", LEFT), *figures], rows)
