"""What every face says of a job of ranks: its headline, and the order of its late iterations and of its ranks."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median_high
from typing import Final

import polars as pl

from ..analyze.ranks.job import Job, Step
from ..analyze.words import duration, ms, percent


def late_steps(job: Job) -> list[Step]:
    """The iterations with a late rank, the latest first."""
    return sorted((s for s in job.steps if s.rank is not None), key=lambda s: (-s.late_ns, s.iteration))


def latest_ranks(job: Job) -> pl.DataFrame:
    """`Job.ranks`, those first that were latest, then those that waited least: these keep the others waiting."""
    return job.ranks.sort("late_ns", "waiting_ns", "rank", descending=[True, False, False])


def step_row(step: Step) -> tuple[object, ...]:
    """An iteration with a late rank: what it did more than the others, by its largest cause."""
    cause = step.causes[0] if step.causes else None
    why = "-" if cause is None else cause.category + (" (iteration before)" if cause.before else "")
    stage = None if cause is None else cause.stage
    more = "-" if cause is None else ms(cause.ns)
    return step.iteration, step.rank, ms(step.late_ns), ms(step.lost_ns), why, stage, more


LEAST_REASON: Final = 0.02
"""Of the largest reason: a smaller one explains nothing."""

APART: Final = 0.1
"""Average and median of iterations that differ by more are both said."""

FEW: Final = 6
"""Iterations that a sentence names."""


def headline(job: Job) -> list[str]:
    """The job in two or three sentences: its size, its straggler and why, its communication."""
    who, pattern = job.roster, job.pattern
    lengths = [step.ns for step in job.steps]
    world = f" of {who.world_size}" if who.world_size else ""
    middle = _length(lengths) if lengths else "-"
    ranks, steps = len(who.ranks), len(job.steps)
    of_job = f"{ranks}{world} rank{'' if (who.world_size or ranks) == 1 else 's'}"
    by = {rank.found_by for rank in who.ranks}
    found = ", found by a pattern of kernels" if by == {"kernels"} else ""
    lines = [f"{of_job}, {steps} iteration{'' if steps == 1 else 's'}, {middle}{found}"]
    if job.trust[0] == "unavailable":
        return lines
    length = sum(lengths)
    waited = sum(step.lost_ns for step in job.steps if step.rank is not None)
    share = percent(waited / length) if length else "-"
    if pattern.kind == "none":
        lines.append("no rank is late: in every iteration all arrived at their collectives within 2 % of its length")
    else:
        verb = "has" if pattern.late == 1 else "have"
        of = (
            f"{pattern.late} of {pattern.of} iterations {verb} a late rank, for which others wait {share} of the job's time on "
            "average"
        )
        lines.append(f"{of}: {_who(job)}")
        reasons = _reasons(job)
        if reasons:
            lines.append(f"because of {', '.join(told for told, _ in reasons)}")
            lines.append(f"fix: {REMEDIES[reasons[0][1]]}{_gain(job)}")
    total, waiting, transfer, unsplit = (
        int(job.ranks[name].sum()) for name in ("iteration_ns", "waiting_ns", "transfer_ns", "unsplit_ns")
    )
    if total:
        one = len({rank.clock for rank in who.ranks}) == 1
        clocks = "" if one else f"; clocks are aligned to within {duration(job.clocks.residual_ns)}"
        rest = f", {percent(unsplit / total)} matched to no other rank" if unsplit else ""
        exposed, waits, moves = (percent(ns / total) for ns in (waiting + transfer + unsplit, waiting, transfer))
        lines.append(
            f"exposed communication takes {exposed} of all ranks' time together: {waits} waiting for the last rank, which itself "
            f"waits for nobody, {moves} transfer{rest}{clocks}"
        )
    return lines


def _length(lengths: Sequence[int]) -> str:
    """``38.3 ms each (median)``; with the average where it is another by a tenth, since totals go by that."""
    middle, mean = median_high(lengths), fmean(lengths)
    if abs(mean - middle) <= APART * middle:
        return f"{duration(middle)} each (median)"
    return f"{duration(mean)} each on average, {duration(middle)} at the median"


def _who(job: Job) -> str:
    """Which rank is late, of a job in which one is."""
    pattern = job.pattern
    first, times, late = pattern.by_rank[0]
    if pattern.kind == "once":
        return f"rank {first} was late once"
    if pattern.kind == "fixed":
        share = percent(late / sum(row[2] for row in pattern.by_rank))
        return f"rank {first} accounts for {share} of the lateness, {_when(job, first)}"
    if pattern.kind == "rotating":
        return f"it rotates over {len(pattern.by_rank)} ranks"
    return f"above all rank {first}, in {times} of these; {len(pattern.by_rank)} ranks in all"


def _when(job: Job, rank: int) -> str:
    """The iterations in which `rank` was at least half as late as it ever was, the first few by number."""
    mine = [step for step in job.steps if step.rank == rank]
    most = max(step.late_ns for step in mine)
    worst = [step.iteration for step in mine if 2 * step.late_ns >= most]
    named = ", ".join(map(str, worst[:FEW]))
    more = f" and {len(worst) - FEW} more" if len(worst) > FEW else ""
    return f"by up to {duration(most)}, above all in iteration{'' if len(worst) == 1 else 's'} {named}{more}"


REMEDIES: Final = {
    "data": "a loader that keeps up on every rank (more workers), and batches that cost each rank the same",
    "host code": "find what that rank's process does besides (logging, checkpoints, garbage collection, a shared core), and do "
    "it on all ranks at once, or elsewhere",
    "compute": "give every rank as much work (lengths, experts, pipeline stages), and see whether that GPU's clocks are lower",
    "copies": "give every rank as much to copy, from pinned memory, and hide it under compute",
    "allocator": "allocate once and reuse: no empty_cache() in the loop, fixed shapes, or expandable segments",
    "waiting for the device": "see what that rank's streams wait for: `analyze` of its trace names it",
}
"""What to do about each of `causes.CATEGORIES`."""


def _gain(job: Job) -> str:
    """The clause on how many times as fast the job would be at most if no rank came later than the median one, and all else
    stayed; empty where that is all of it."""
    length = sum(step.ns for step in job.steps)
    straggler = job.pattern.rank if job.pattern.kind == "fixed" else None

    def at_most(rank: int | None) -> float:
        saved = sum(min(s.late_ns, s.ns) for s in job.steps if s.rank is not None and rank in (None, s.rank))
        return length / (length - saved) if saved < length else 0.0

    alone, every = at_most(straggler), at_most(None)
    if not every:
        return ""
    if straggler is not None and every - alone >= 0.01:
        one = f"with rank {straggler} on time, the job would be at most {alone:.2f}x as fast"
        return f"; {one}, and with no rank late at all {every:.2f}x"
    return f"; with no rank late, the job would be at most {every:.2f}x as fast"


def _reasons(job: Job, most: int = 3) -> list[tuple[str, str]]:
    """What late ranks did more than the others, summed over iterations: in words, and its category, of the stages and categories
    that weigh most, each with its rank where it is always the same. Of a straggler it is what that one did more."""
    summed: dict[tuple[str, str], int] = {}
    whose: dict[tuple[str, str], set[int | None]] = {}
    only = job.pattern.by_rank[0][0] if job.pattern.kind == "fixed" else None  # the sentence is about that one
    for step in job.steps:
        for cause in step.causes[:1] if only is None or step.rank == only else ():
            key = cause.category, cause.stage
            summed[key] = summed.get(key, 0) + cause.ns
            whose.setdefault(key, set()).add(step.rank)
    least = LEAST_REASON * max(summed.values(), default=0)
    ranked = sorted(((k, ns) for k, ns in summed.items() if ns >= least), key=lambda pair: (-pair[1], pair[0]))[:most]
    several = len({rank for ranks in whose.values() for rank in ranks}) > 1
    found = []
    for key, ns in ranked:
        on = f" on rank {next(iter(whose[key]))}" if several and len(whose[key]) == 1 else ""
        found.append((f"{key[0]} in {key[1]} ({ms(ns)} ms more{on})", key[0]))
    return found
