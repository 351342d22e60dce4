"""A job of ranks, planted: the two ranks of a real recording made many, with delays, clocks and gaps that are known."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from aisp_trace.analyze.ranks.causes import CATEGORIES
from aisp_trace.analyze.ranks.clocks import fit
from aisp_trace.analyze.ranks.job import Job, job_of
from aisp_trace.analyze.ranks.lateness import others_median
from aisp_trace.analyze.ranks.look import Look
from aisp_trace.analyze.ranks.make import ranks_of
from aisp_trace.analyze.ranks.rank import Rank
from aisp_trace.analyze.ranks.roster import listed
from aisp_trace.benchmarks.rank_files import write_job
from aisp_trace.benchmarks.rank_peers import counted
from aisp_trace.benchmarks.ranks import Delay, Plan, Simulated, templates
from aisp_trace.report.rank_rows import REMEDIES, headline
from aisp_trace.traces.open import open_trace

JITTER_NS = 80_000
"""How far undisturbed ranks of the sample arrive apart."""


@cache
def real() -> list[list[object]]:
    return templates()  # type: ignore[return-value]


def simulated(plan: Plan) -> list[Rank]:
    """The partials of a plan's ranks, each from a trace of its own."""
    job = Simulated(plan, real())  # type: ignore[arg-type]
    return [one for r in range(plan.ranks) for one in ranks_of(job.trace(r), Look(), f"clock {r}")]


def clocks(ranks: int, seed: int = 0) -> dict[str, dict[int, float]]:
    """Clocks up to a second apart, drifting by a few parts in a million."""
    rng = np.random.default_rng(seed)
    return {
        "offset_ns": {r: int(rng.integers(-(10**9), 10**9)) for r in range(ranks)},
        "drift": {r: float(rng.normal(0, 3e-6)) for r in range(ranks)},
    }


MANY, STEPS = 256, 8
FIXED = {i: Delay("h2d", 1_500_000) for i in (2, 5, 6)}
ROTATING = {
    1: (3, Delay("forward", 700_000, "compute")),
    3: (200, Delay("h2d", 900_000, "copies")),
    4: (90, Delay("h2d", 800_000, "allocator")),
}


@pytest.fixture(scope="module")
def many() -> Job:
    delays = {(17, i): [d] for i, d in FIXED.items()} | {(r, i): [d] for i, (r, d) in ROTATING.items()}
    plan = Plan(MANY, STEPS, delays, rename={"h2d": "data"}, **clocks(MANY))  # type: ignore[arg-type]
    return job_of(simulated(plan))


def test_planted_stragglers_of_256_ranks_are_named_with_their_milliseconds(many: Job) -> None:
    planted = {i: (17, d) for i, d in FIXED.items()} | ROTATING
    assert {s.iteration: s.rank for s in many.steps if s.rank is not None} == {i: r for i, (r, _) in planted.items()}
    for step in many.steps:
        if step.iteration in planted:
            rank, delay = planted[step.iteration]
            assert step.late_ns == pytest.approx(delay.ns, abs=JITTER_NS)
            assert step.causes[0].ns == pytest.approx(delay.ns, rel=0.05)
            stage = "data" if delay.stage == "h2d" else delay.stage
            word = {"host": "data", "compute": "compute", "copies": "copies", "allocator": "allocator"}[delay.kind]
            assert (step.causes[0].stage, step.causes[0].category) == (f"iteration/{stage}", word), rank


def test_the_lateness_of_the_others_is_jitter(many: Job) -> None:
    quiet = [i for i, step in enumerate(many.steps) if step.rank is None]
    assert len(quiet) == STEPS - len(FIXED) - len(ROTATING)
    assert many.late.late[:, quiet].max() < JITTER_NS


def test_what_the_others_waited_is_what_the_late_rank_took(many: Job) -> None:
    for step in many.steps:
        if step.rank is not None:
            # what of the delay lies under the others' own backward is hidden, and no loss
            assert 0.6 * step.late_ns < step.lost_ns < step.late_ns


def test_the_fix_is_that_of_the_reason_and_gains_no_more_than_is_said() -> None:
    """Against the same job without the delays, whose iterations really are as long as they would be."""
    delays = {(2, i): [Delay("h2d", 4_000_000)] for i in (1, 3, 4)}
    plans = (Plan(4, STEPS, delays, rename={"h2d": "data"}), Plan(4, STEPS, {}, rename={"h2d": "data"}))
    late, quiet = (job_of(simulated(plan)) for plan in plans)
    assert late.pattern.kind == "fixed" and late.pattern.rank == 2
    found = re.fullmatch(
        r"fix: (.+); with (?:no rank late|rank 2 on time), the job would be at most ([\d.]+)x as fast",
        headline(late)[3],
    )
    assert found is not None and found[1] == REMEDIES["data"]
    gained = sum(step.ns for step in late.steps) / sum(step.ns for step in quiet.steps)
    assert gained - 0.01 < float(found[2]) < 1.1 * gained
    assert gained > 1.1 and not any(line.startswith("fix:") for line in headline(quiet))


def test_what_one_straggler_costs_is_not_what_all_late_ranks_cost() -> None:
    delays = {(2, i): [Delay("h2d", 4_000_000)] for i in (1, 3, 4)} | {(1, 6): [Delay("forward", 1_500_000, "compute")]}
    both, alone = (
        job_of(
            simulated(Plan(4, STEPS, {key: d for key, d in delays.items() if key[0] in who}, rename={"h2d": "data"}))
        )
        for who in ((1, 2), (2,))
    )
    said = re.search(
        r"with rank 2 on time, .* at most ([\d.]+)x as fast, and with no rank late at all ([\d.]+)x$", headline(both)[3]
    )
    (other,) = re.findall(r"at most ([\d.]+)x as fast$", headline(alone)[3])
    assert said is not None and float(said[1]) < float(said[2])
    assert float(said[1]) == pytest.approx(float(other), rel=0.05)


def test_every_reason_has_a_fix() -> None:
    assert set(REMEDIES) == set(CATEGORIES)


def test_clocks_of_256_traces_are_one(many: Job) -> None:
    assert many.clocks.residual_ns < 5_000
    planted = clocks(MANY)
    reference = planted["offset_ns"][many.found[0].members[0]]
    for r in range(MANY):
        fit_of = many.clocks.fits[r]
        drifted = planted["drift"][r] * 50_000_000  # over the simulated 50 ms
        assert fit_of.offset_ns == pytest.approx(planted["offset_ns"][r] - reference, abs=5_000 + 10 * abs(drifted))


def test_conservation(many: Job) -> None:
    """Waiting, transfer and what is neither add up to each rank's exposed communication, iteration by iteration."""
    for r, rank in enumerate(many.roster.ranks):
        pieces = rank.table("exposed")
        total = int((pieces["end_ns"] - pieces["start_ns"]).sum())
        summed = sum(int(table[r].sum()) for table in (many.late.waiting, many.late.transfer, many.late.unsplit))
        assert abs(summed - total) <= len(pieces), "a nanosecond a piece, by the drift of its clock"
        assert many.late.unsplit[r].sum() == 0


def test_job_metrics(many: Job) -> None:
    late = sum(d.ns for d in FIXED.values()) + sum(d.ns for _, d in ROTATING.values())
    length = sum(step.ns for step in many.steps)
    assert many.metrics["straggler_share"] == pytest.approx(late / length, rel=0.05)
    assert many.trust == ("ok", ())
    assert many.pattern.kind == "several"


def pattern_of(last: dict[int, int], ranks: int = 6, steps: int = 6) -> Job:
    return job_of(simulated(Plan(ranks, steps, {(r, i): [Delay("h2d", 900_000)] for i, r in last.items()})))


def test_fixed_rotating_once_and_none() -> None:
    fixed = pattern_of({1: 4, 2: 4, 4: 4, 5: 0}).pattern
    assert (fixed.kind, fixed.rank, fixed.late, fixed.of) == ("fixed", 4, 4, 6)
    assert [(r, n) for r, n, _ in fixed.by_rank] == [(4, 3), (0, 1)]
    assert pattern_of({i: i for i in range(6)}).pattern.kind == "rotating"
    once = pattern_of({3: 5}).pattern
    assert (once.kind, once.rank) == ("once", 5)
    assert pattern_of({}).pattern == replace(once, kind="none", rank=None, late=0, by_rank=())


def test_two_late_ranks_in_one_iteration_are_told_apart() -> None:
    """The later one's delay is not that of the one that waited for the first: forward comes after h2d."""
    delays = {(1, 2): [Delay("h2d", 600_000)], (4, 2): [Delay("h2d", 1_400_000)]}
    job = job_of(simulated(Plan(6, 4, delays)))
    column = job.steps.index(next(s for s in job.steps if s.iteration == 2))
    assert job.steps[column].rank == 4
    assert job.late.late[1, column] == pytest.approx(600_000, abs=JITTER_NS)
    assert job.late.late[4, column] == pytest.approx(1_400_000, abs=JITTER_NS)


def test_recordings_that_begin_and_end_elsewhere() -> None:
    """Rank 2 was recorded two iterations later, rank 3 stops early: numbers are the job's, and the short one is named."""
    delays = {(2, 5): [Delay("h2d", 1_000_000)], (1, 3): [Delay("h2d", 1_000_000)]}
    plan = Plan(5, 10, delays, first={2: 2}, last={3: 6}, **clocks(5, seed=4))  # type: ignore[arg-type]
    job = job_of(simulated(plan))
    assert {s.iteration: s.rank for s in job.steps if s.rank is not None} == {5: 2, 3: 1}
    assert job.late.shift[2] == 2
    assert [n for n, _ in job.roster.short] == [2, 3]
    assert not any(c.in_doubt for c in job.found)


def test_groups_in_step_are_kept_apart_where_torch_names_them() -> None:
    groups = [[0, 1, 2], [3, 4, 5]]
    job = job_of(simulated(Plan(6, 5, {(1, 2): [Delay("h2d", 1_000_000)]}, groups=groups)))
    assert [c.members for c in job.found] == [(0, 1, 2), (3, 4, 5)]
    assert (job.late.waiting[[0, 2], 2] > 500_000).all()
    assert (job.late.waiting[3:, 2] < JITTER_NS).all(), "the other group waits for nobody"
    assert job.steps[2].rank == 1


def test_a_slow_stage_is_found_in_traces_of_torch(tmp_path: Path) -> None:
    """Iterations called ``ProfilerStep#``: the host's time in them is theirs, as it is of ranges called `iteration`."""
    truth = write_job(tmp_path / "job", 3, 700, torch=True)
    files = sorted((tmp_path / "job").iterdir())
    job = job_of([one for file in files for one in ranks_of(open_trace(file), Look(), file.name)])
    assert job.trust == ("ok", ())
    assert job.roster.world_size == 3
    late = {s.iteration: s for s in job.steps if s.rank is not None}
    assert list(late) == truth["iterations"]
    for step in late.values():
        cause = step.causes[0]
        assert (step.rank, cause.stage, cause.category) == (truth["rank"], "ProfilerStep#/data", "data")
        assert cause.ns == pytest.approx(truth["ns"], rel=0.02)
    rows = [counted(file) for file in files]  # a sweep over the rows of the files, which knows nothing of ours
    share = sum(row["exposed_us"] for row in rows) / sum(row["iterations_us"] for row in rows)
    assert job.metrics["exposed_comm_share"] == pytest.approx(share, rel=1e-3)


def test_clocks_may_be_hours_apart() -> None:
    offsets = {r: (r - 3) * 5 * 3_600_000_000_000 for r in range(6)}
    delays = {(2, i): [Delay("h2d", 1_000_000)] for i in (3, 6)}
    job = job_of(simulated(Plan(6, 8, delays, offset_ns=offsets, drift={r: 1e-5 * r for r in range(6)})))
    assert {s.iteration: s.rank for s in job.steps if s.rank is not None} == {3: 2, 6: 2}
    assert job.trust == ("ok", ())


@pytest.mark.parametrize("named", [True, False])
def test_ranks_of_two_jobs_are_no_communicator(named: bool) -> None:
    """Ranks 0 to 2 of one run and 3 to 5 of the next, in groups of one name: nobody is held against a rank of the other run."""
    groups = [list(range(6))] if named else None
    one = simulated(Plan(6, 8, {(2, 5): [Delay("h2d", 1_000_000)]}, groups=groups))
    other = simulated(Plan(6, 8, {(4, 3): [Delay("h2d", 3_000_000)]}, groups=groups, seed=5))
    job = job_of([*one[:3], *(replace(r, clock=f"other {r.clock}") for r in other[3:])])
    assert [c.members for c in job.found] == [(0, 1, 2), (3, 4, 5)]
    assert {s.iteration: s.rank for s in job.steps if s.rank is not None} == {5: 2, 3: 4}
    assert job.trust[0] == "partial"
    assert any(reason.endswith("of another job: 3 to 5") for reason in job.trust[1])


def test_two_recordings_of_one_rank_leave_a_doubt_and_a_copy_leaves_none() -> None:
    ranks = simulated(Plan(3, 4))
    assert job_of([*ranks, replace(ranks[1])]).trust == ("ok", ())
    level, reasons = job_of([*ranks, replace(ranks[1], clock="another recording")]).trust
    assert level == "partial" and "several recordings say they are rank 1" in reasons[0]


def test_a_job_in_which_nobody_waits_is_trusted() -> None:
    """Clocks are known to a microsecond or two, which is much of what undisturbed ranks wait, and nothing of an iteration."""
    job = job_of(simulated(Plan(4, 12, **clocks(4))))  # type: ignore[arg-type]
    assert job.pattern.kind == "none"
    assert job.trust == ("ok", ())


def test_groups_in_step_are_kept_apart_by_their_ends() -> None:
    """Nothing says which communicator: the groups' ends differ where one of them had to wait."""
    groups = [[0, 1, 2], [3, 4, 5]]
    delays = {(1, 2): [Delay("h2d", 1_000_000)], (4, 4): [Delay("h2d", 700_000)], (3, 6): [Delay("h2d", 900_000)]}
    named = simulated(Plan(6, 12, delays, groups=groups, **clocks(6)))  # type: ignore[arg-type]
    silent = [
        replace(
            r,
            tables={**r.tables, "collectives": r.table("collectives").with_columns(group=None, seq=None).fill_null("")},
        )
        for r in named
    ]
    assert [c.members for c in job_of(silent).found] == [(0, 1, 2), (3, 4, 5)]


def test_missing_and_duplicate_ranks_are_named() -> None:
    ranks = simulated(Plan(6, 4, groups=[list(range(6))]))
    job = job_of(
        [*ranks[:2], *ranks[3:5], replace(ranks[4]), replace(ranks[0], clock="another recording", trace="other.json")]
    )
    assert job.roster.world_size == 6
    assert job.roster.missing == (2, 5)
    assert sorted((d.rank, d.trace) for d in job.roster.duplicates) == [
        (0, "train.rank0.sqlite"),
        (4, "train.rank4.sqlite"),
    ]
    assert job.trust[0] == "partial"
    assert any("2 ranks are missing" in reason and reason.endswith("2, 5") for reason in job.trust[1])


def test_ranks_without_collectives_say_so() -> None:
    ranks = simulated(Plan(3, 4))
    silent = [
        replace(
            r, tables={**r.tables, "collectives": r.table("collectives").clear(), "exposed": r.table("exposed").clear()}
        )
        for r in ranks
    ]
    job = job_of(silent)
    assert job.trust[0] == "unavailable"
    assert job.pattern.kind == "none"
    assert job.metrics["straggler_share"] is None
    assert job.metrics["skew"] is None


def test_one_rank_alone_has_a_ledger_and_no_lateness() -> None:
    job = job_of(simulated(Plan(1, 4)))
    assert job.roster.numbers == (0,)
    assert job.ledger["mean_ns"].sum() > 4_000_000
    assert job.trust[0] == "unavailable"


def test_a_clock_is_fitted_by_ends() -> None:
    """Offset and drift are recovered from noisy ends, some of them far off."""
    rng = np.random.default_rng(3)
    truth = np.sort(rng.integers(0, 60_000_000_000, 400))
    late = np.where(rng.random(400) < 0.05, 5_000_000, 0)
    other = truth + 123_456_789 + np.rint(2e-6 * truth).astype(np.int64) + rng.integers(-2_000, 2_000, 400) + late
    found = fit(truth, other)
    assert found.drift == pytest.approx(2e-6, rel=0.05)
    back = found.to_reference(other - late)
    assert np.abs(back - truth).max() < 12_000
    assert found.residual_ns < 12_000


def test_median_of_the_others() -> None:
    values = np.array([[1.0, 5.0, np.nan], [2.0, 5.0, 7.0], [9.0, 5.0, np.nan], [3.0, np.nan, np.nan]])
    nan = np.nan
    expected = np.array([[3.0, 5.0, nan], [3.0, 5.0, nan], [2.0, 5.0, nan], [2.0, nan, nan]])
    np.testing.assert_array_equal(others_median(values), expected)


def test_numbers_are_listed_in_short() -> None:
    assert listed([7, 0, 3, 4, 5]) == "0, 3 to 5, 7"
    assert listed([1, 2]) == "1, 2"
    assert listed(range(0, 40, 2), most=3) == "0, 2, 4 and 17 more"
