"""A job of ranks as text: the verdict on stragglers first, then who, when and why, then the job's ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from ...analyze.ranks.gather import Failed
from ...analyze.ranks.job import Job, Step, by_category, listed
from ...analyze.words import duration, ms, percent
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
    late = sorted((s for s in job.steps if s.rank is not None), key=lambda s: (-s.late_ns, s.iteration))
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
    Column("last rank"),
    Column("late ms"),
    Column("others waited ms"),
    Column("because of", LEFT),
    Column("in stage", LEFT, shrink=True),
    Column("ms more"),
)


def step_row(step: Step) -> tuple[object, ...]:
    """An iteration with a late rank: what it did more than the others, by its largest cause."""
    cause = step.causes[0] if step.causes else None
    why = "-" if cause is None else cause.category + (" (iteration before)" if cause.before else "")
    stage = None if cause is None else cause.stage
    more = "-" if cause is None else ms(cause.ns)
    return step.iteration, step.rank, ms(step.late_ns), ms(step.lost_ns), why, stage, more


def headline(job: Job) -> list[str]:
    """The job in two or three sentences: its size, its straggler and why, its communication."""
    who, pattern = job.roster, job.pattern
    lengths = sorted(step.ns for step in job.steps)
    world = f" of {who.world_size}" if who.world_size else ""
    middle = duration(lengths[len(lengths) // 2]) if lengths else "-"
    lines = [f"{len(who.ranks)}{world} ranks, {len(job.steps)} iterations, {middle} each (median)"]
    if job.trust[0] == "unavailable":
        return lines
    share = percent(job.metrics["straggler_share"])
    if pattern.kind == "none":
        lines.append("no rank is late: in every iteration all came to their collectives within 2 % of its length")
    else:
        first, times, late = pattern.by_rank[0]
        verb = "has" if pattern.late == 1 else "have"
        of = f"{pattern.late} of {pattern.of} iterations {verb} a late rank, which costs {share} of the job's time"
        words = {
            "once": f"rank {first} was late once",
            "fixed": f"it is rank {first}, last in {times} of these, by {duration(late / times)} on average",
            "rotating": f"it rotates over {len(pattern.by_rank)} ranks",
            "several": f"most often rank {first}, in {times} of these; {len(pattern.by_rank)} ranks in all",
        }[pattern.kind]
        lines.append(f"{of}: {words}")
        why = reasons_in_words(job)
        if why:
            lines.append(f"because of {why}")
    total, waiting, transfer, unsplit = (
        int(job.ranks[name].sum()) for name in ("iteration_ns", "waiting_ns", "transfer_ns", "unsplit_ns")
    )
    if total:
        one = len({rank.clock for rank in who.ranks}) == 1
        clocks = "" if one else f"; clocks are aligned to within {duration(job.clocks.residual_ns)}"
        rest = f", {percent(unsplit / total)} matched to no other rank" if unsplit else ""
        lines.append(
            f"exposed communication takes {percent((waiting + transfer + unsplit) / total)} of the ranks' time: "
            f"{percent(waiting / total)} waiting for the last rank, {percent(transfer / total)} transfer{rest}{clocks}"
        )
    return lines


def reasons_in_words(job: Job, most: int = 3) -> str:
    """What late ranks did more than the others, summed over iterations: the stages and categories that weigh most."""
    summed: dict[tuple[str, str], int] = {}
    for step in job.steps:
        for cause in step.causes[:1]:
            summed[cause.category, cause.stage] = summed.get((cause.category, cause.stage), 0) + cause.ns
    ranked = sorted(summed.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    return ", ".join(f"{category} in {stage} ({ms(ns)} ms more)" for (category, stage), ns in ranked)


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
    """The ranks that were last most, then those that waited least: these keep the others waiting."""
    worst = job.ranks.sort("late_ns", "waiting_ns", "rank", descending=[True, False, False]).head(SHOWN_RANKS)
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
