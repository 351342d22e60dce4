"""The plan of looks: its error by two ways of counting, and a capture that goes on until everything is decided."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aisp_trace.capture import host
from aisp_trace.capture.looks import Made, until_decided
from aisp_trace.capture.plan import Goal, Plan
from aisp_trace.capture.progress import Progress
from aisp_trace.cli import goals as reading
from aisp_trace.cli.main import main
from aisp_trace.expectations.claims.skeleton import TO_DO
from aisp_trace.expectations.deciding import (
    DECIDING,
    WRONG_AT,
    Sample,
    concerns,
    decide,
    detectable,
    error_of,
    log_spread,
    matters,
    median_interval,
    rounds_needed,
    split,
    wrong_allowed,
)
from aisp_trace.tests.test_capture_rounds import make_plan, run_capture
from aisp_trace.traces.errors import InputError, UsageError

GOAL = Goal("w.faster", "baseline", "optimized", 1.5, "mean")


def test_the_error_of_the_looks_is_what_coins_show() -> None:
    """A bound at the true median: each round lies on the wrong side half of the time."""
    assert error_of(DECIDING) == pytest.approx(0.0023968, abs=1e-7)
    wrong = (np.random.default_rng(7).random((400_000, DECIDING[-1])) < 0.5).cumsum(axis=1)
    ended = np.zeros(len(wrong), dtype=bool)
    for n, most in WRONG_AT.items():
        ended |= wrong[:, n - 1] <= most
    assert ended.mean() == pytest.approx(error_of(DECIDING), abs=4 * (0.0024 / 400_000) ** 0.5)


@pytest.mark.parametrize("n", range(8, 17))
def test_the_error_of_one_look_is_that_of_all_its_outcomes(n: int) -> None:
    most = wrong_allowed((n,), n)
    assert most is not None
    bad = sum(sum(outcome) <= most for outcome in product((0, 1), repeat=n))
    assert error_of((n,)) == bad / 2**n <= 0.005


def test_verdicts_are_given_at_planned_looks_alone() -> None:
    assert [wrong_allowed(DECIDING, n) for n in (8, 12, 13, 16, 24, 32, 40, 41)] == [None, 0, None, 1, 4, 7, 10, None]
    assert [wrong_allowed((8,), n) for n in (7, 8, 12)] == [None, 0, None]
    assert [wrong_allowed((), n) for n in (7, 8, 12, 20)] == [None, 0, 1, 3]


def test_an_interval_at_a_look_leaves_out_as_many_rounds_as_it_bears() -> None:
    values = [float(v) for v in range(24)]
    found = median_interval(values, DECIDING)
    assert (found.low, found.high, found.coverage) == (4.0, 19.0, 1 - 2 * error_of(DECIDING))


def test_met_needs_mean_and_median() -> None:
    good, bad = (2.0, 2.01, 1.99, 2.0, 2.02, 1.98, 2.0, 2.01), (1.2, 1.21, 1.19, 1.2, 1.22, 1.18, 1.2, 1.21)
    assert decide(Sample(good, good), 1.5, None).status == "met"
    assert decide(Sample(good, bad), 1.5, None).status == "inconclusive"
    assert decide(Sample(bad, good), 1.5, None).status == "missed"
    assert decide(Sample(bad, good), 1.5, None, statistic="median").status == "inconclusive"


def test_iterations_of_two_kinds_are_found_and_outliers_are_not() -> None:
    assert split([(5, 5, 50), (5, 50, 5)]) == pytest.approx((5, 50, 1 / 3))
    assert split([(5,) * 20, (5,) * 19 + (50,)]) is None, "one in forty is an outlier, which the mean pays for"
    assert split([(5, 10, 20, 40, 80)] * 4) is None, "no gap of more than three"


@pytest.mark.parametrize(("width", "n"), [(0.02, 8), (0.02, 20), (0.05, 40)])
def test_what_could_be_detected_is_detected(width: float, n: int) -> None:
    """`detectable` promises nine runs in ten: told of runs with noise of this width, and simulated with it."""
    rng = np.random.default_rng(3)
    looks = DECIDING if n == 40 else ()
    most = wrong_allowed(looks, n)
    assert most is not None
    told = [detectable(np.exp(width * rng.standard_normal(n)).tolist(), looks) or 0.0 for _ in range(400)]
    shift = float(np.mean(np.log1p(told)))  # the mean over runs, whose own spreads differ
    wrong = (width * rng.standard_normal((4000, n)) + shift < 0).sum(axis=1)
    assert (wrong <= most).mean() == pytest.approx(0.9, abs=0.05)


def test_more_noise_needs_more_rounds() -> None:
    rng = np.random.default_rng(5)
    needed = [rounds_needed(np.exp(width * rng.standard_normal(400)).tolist()) for width in (0.01, 0.05, 0.1)]
    assert needed[0] == 8
    assert needed[1] is not None and needed[2] is not None and 8 < needed[1] < needed[2] < 120
    assert rounds_needed([1.0, 2.0]) is None, "too few to know their spread"
    assert log_spread([1.0, 2.0]) is None


# --- capture ----------------------------------------------------------------------------------------------------------


def rounds_at(speedups: Sequence[float], wall_ns: int = 10**9, items: Mapping[str, int] | None = None) -> Made:
    """Rounds of a baseline of 1 ms, each of which costs `wall_ns`: a stand-in for the processes of a capture."""
    times = [
        (i, name, (ns,))
        for i, s in enumerate(speedups)
        for name, ns in (("baseline", 10**6), ("optimized", round(10**6 / s)))
    ]
    return Made(times, wall_ns * len(speedups), items or {})


def ran(plan: Plan, speedups: Sequence[float], items: Mapping[str, int] | None = None) -> tuple[int, list[str]]:
    """How many rounds of these `until_decided` makes, and what it says."""
    made: list[int] = []
    said = io.StringIO()
    progress = Progress("fake", 12, said)
    until_decided(plan, made.append, lambda: rounds_at(speedups[: len(made)], items=items), progress)
    assert made == list(range(len(made)))
    return len(made), [line.removeprefix("[fake_workload] ") for line in said.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("speedups", "budget_s", "rounds", "words"),
    [
        ([2.0 + 0.01 * (i * 7 % 5) for i in range(40)], None, 12, "12 rounds decide every claim on times: w.faster"),
        ([1.2 + 0.01 * (i * 7 % 5) for i in range(40)], None, 12, "12 rounds decide every claim on times: w.faster"),
        # one round in eight on the wrong side: not at 12 (none), nor 16 (1), but at 24 (4)
        (
            [1.46 if i % 8 == 5 else 1.52 + 0.03 * (i * 7 % 5) for i in range(40)],
            None,
            24,
            "24 rounds decide every claim on times: w.faster",
        ),
        ([1.4 if i % 2 else 1.6 for i in range(40)], None, 40, "20 from 1.6); 40 are the most"),
        ([1.4 if i % 2 else 1.6 for i in range(40)], 20.0, 16, "24 rounds would take 24 s, more than the budget"),
        ([1.4 if i % 2 else 1.6 for i in range(40)], 11.0, 12, "16 rounds would take 16 s, more than the budget"),
    ],
)
def test_rounds_are_added_until_everything_is_decided(
    speedups: list[float], budget_s: float | None, rounds: int, words: str
) -> None:
    plan = make_plan(rounds=40, looks=DECIDING, goals=(GOAL,), budget_s=budget_s)
    made: list[int] = []
    said = io.StringIO()
    progress = Progress("fake", 12, said)
    until_decided(plan, made.append, lambda: rounds_at(speedups[: len(made)]), progress)
    assert made == list(range(rounds))
    assert words in said.getvalue()
    assert progress._total == rounds, "the time left is that of the next look, not of the last"


STEADY = tuple(2.0 + 0.01 * (i * 7 % 5) for i in range(40))


@pytest.mark.parametrize(
    ("goal", "rounds", "words"),
    [
        # the optimized side takes 0.49 to 0.50 ms: the speedup is decided at 12, this limit among its rounds never is
        (
            replace(GOAL, max_ms={"baseline": 2.0, "optimized": 0.495}),
            40,
            "12 rounds leave undecided: w.faster, time of optimized (the interval 0.4902 .. 0.5 straddles the bound <= 0.495); "
            "on to 16",
        ),
        (
            replace(GOAL, max_ms={"baseline": 2.0, "optimized": 0.6}),
            12,
            "12 rounds decide every claim on times: w.faster",
        ),
        # 10 items in 0.49 to 0.50 ms are 20,000 to 20,400 a second
        (
            replace(GOAL, min_items_per_s={"optimized": 20_200.0}),
            40,
            "12 rounds leave undecided: w.faster, throughput of optimized (the interval 20,000 .. 20,400 straddles the bound >= "
            "20,200); on to 16",
        ),
        (replace(GOAL, min_items_per_s={"optimized": 9_000.0}), 12, "12 rounds decide every claim on times: w.faster"),
        (replace(GOAL, min_items_per_s={"baseline": 9_000.0}), 12, "12 rounds decide every claim on times: w.faster"),
    ],
)
def test_rounds_go_on_until_every_limit_of_the_claim_is_decided(goal: Goal, rounds: int, words: str) -> None:
    """Items of the baseline are not known: no round decides a rate of them, so none is spent on it."""
    made, said = ran(make_plan(rounds=40, looks=DECIDING, goals=(goal,)), STEADY, {"optimized": 10})
    assert (made, words in said) == (rounds, True)


OPEN = replace(GOAL, claim="w.open", max_ms={"optimized": 0.495})
"""Never decided by STEADY's rounds: its limit lies among them."""


@pytest.mark.parametrize(
    ("goals", "rounds", "last"),
    [
        (
            (replace(GOAL, minimum=3.0), OPEN),
            12,
            "12 rounds are enough: w.faster is missed, and more rounds cannot change that, so `check` fails; left undecided: "
            "w.open, time of optimized",
        ),
        # within one claim: the limit is missed, the throughput open
        (
            (replace(GOAL, max_ms={"optimized": 0.4}, min_items_per_s={"optimized": 20_200.0}),),
            12,
            "12 rounds are enough: w.faster, time of optimized is missed, and more rounds cannot change that, so `check` fails; "
            "left undecided: w.faster, throughput of optimized",
        ),
        (
            (replace(GOAL, minimum=3.0), replace(GOAL, claim="w.too", minimum=4.0)),
            12,
            "12 rounds decide every claim on times: w.faster, w.too; missed: w.faster, w.too",
        ),
        # nobody will judge by the missed one, or it is no claim yet: the other one is worth its rounds
        ((replace(GOAL, minimum=3.0, judged=False), OPEN), 40, "40 are the most"),
        ((replace(GOAL, minimum=3.0, to_bound=True), OPEN), 40, "40 are the most"),
    ],
)
def test_rounds_end_at_a_miss_which_no_further_one_could_mend(goals: tuple[Goal, ...], rounds: int, last: str) -> None:
    plan = make_plan(rounds=40, looks=DECIDING, goals=goals, recorder=None)
    made, said = ran(plan, STEADY, {"optimized": 10})
    assert made == rounds
    assert said[-1].endswith(last)


def test_what_is_left_to_the_recordings_is_said_at_the_end() -> None:
    plan = make_plan(rounds=40, looks=DECIDING, goals=(GOAL,), by_recording=("w.a", "w.b", "w.c", "w.d"))
    told = "12 rounds decide every claim on times: w.faster; "
    left = "w.a, w.b, w.c and 1 more"
    recorded = f"{told}rounds say nothing of these, which `check` judges from the recordings: {left}"
    assert ran(replace(plan, recorder="nsys"), STEADY)[1][-1] == recorded
    assert ran(replace(plan, recorder=None), STEADY)[1][-1] == f"{told}without a recording these stay open: {left}"


@pytest.mark.parametrize(
    ("budget_s", "rounds", "first", "last"),
    [
        (
            None,
            12,
            "a round takes 1.0 s: 12 rounds, the fewest that decide, take about 12 s, and 40, the most, about 40 s",
            "",
        ),
        (60.0, 12, "take about 12 s; the budget of 60 s is enough for 40", ""),
        (25.0, 12, "take about 12 s; the budget of 25 s is enough for 24", ""),
        (
            11.0,
            12,
            "take about 12 s; the budget of 11 s is enough for 12",
            "",
        ),  # a second short would be lost as a whole
        (
            5.5,
            5,
            "take about 12 s, more than the budget of 5.5 s; rounds end when it is spent, with no time decided. --budget 0.3 is "
            "enough to decide, or --rounds 8, about 8.0 s",
            "the budget of 5.5 s is spent: 5 rounds are fewer than 12, so nothing is decided",
        ),
        (
            0.5,
            1,
            "more than the budget of 0.5 s",
            "the budget of 0.5 s is spent: 1 round is fewer than 12, so nothing is decided",
        ),
    ],
)
def test_the_first_round_says_how_long_it_will_take_and_a_short_budget_ends_when_it_is_spent(
    budget_s: float | None, rounds: int, first: str, last: str
) -> None:
    made, said = ran(make_plan(rounds=40, looks=DECIDING, goals=(GOAL,), budget_s=budget_s, recorder=None), STEADY)
    assert made == rounds
    assert first in said[0]
    assert said[-1] == (last or "12 rounds decide every claim on times: w.faster")
    assert 12 * 1.0 <= 0.3 * 60, "the remedy is enough"


def test_a_fixed_number_of_rounds_estimates_and_decides_nothing() -> None:
    assert ran(make_plan(rounds=5, looks=(5,)), STEADY) == (5, [])


def test_rounds_that_resemble_each_other_go_on_where_bounds_are_to_come_from_them() -> None:
    """2x is decided at once, whatever the rounds look like; `accept` would refuse the first twelve, and takes all sixteen."""
    speedups = [2.0 + 0.01 * i for i in (0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0, 5, 0, 5, 0)] + [2.02] * 24
    for to_bound, rounds in ((False, 12), (True, 16)):
        goal = replace(GOAL, minimum=1.0, to_bound=to_bound)
        made: list[int] = []
        said = io.StringIO()
        plan = make_plan(rounds=40, looks=DECIDING, goals=(goal,))
        until_decided(plan, made.append, lambda: rounds_at(speedups[: len(made)]), Progress("fake", 12, said))  # noqa: B023
        assert len(made) == rounds
        doubted = (
            "12 rounds leave undecided: bounds for optimized that `accept` would take (each round resembles"
            in said.getvalue()
        )
        assert doubted == to_bound


def test_a_capture_that_decides_says_at_which_looks_it_may_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake workload's optimized variant is faster by far: the first look ends it; its plan is kept for `--resume`."""
    monkeypatch.setattr("aisp_trace.capture.looks.so_far", lambda plan, made: ({}, []))
    plan = make_plan(rounds=40, looks=(2, 4), goals=(replace(GOAL, minimum=0.001),))
    manifest = run_capture(plan, tmp_path / "runs")
    assert ([r.index for r in manifest.rounds], manifest.looks) == ([0, 1], (2, 4))


def test_goals_are_the_ratio_claims_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(host, "hardware", lambda device: type("H", (), {"key": "mine"}))
    assert reading.TO_DO == TO_DO, "as `expectations new` writes it"
    plan = make_plan()
    assert reading.deciding(plan, 60.0).goals == (
        Goal("fake_workload: optimized faster than baseline", "baseline", "optimized", 1.0, "mean", to_bound=True),
    )
    claim: dict[str, Any] = {
        "type": "time",
        "id": "f",
        "workload": "fake_workload",
        "size": "tiny",
        "variant": "optimized",
    }
    claim |= {"baseline": "baseline", "ratio": {"min": 1.5}, "max_ms": {"baseline": 40, "optimized": 22}}
    file = tmp_path / "expectations" / "expectations_mine.json"
    file.parent.mkdir()
    for version, statistic in ((1, "median"), (2, "mean")):
        other = {**claim, "id": "other", "size": "default"}
        count = {"type": "mechanism", "id": "m", "workload": "fake_workload", "variant": "optimized"}
        document = {"schema": f"aisp-trace/expectations/{version}", "claims": [claim, other, count]}
        file.write_text(json.dumps(document), encoding="utf-8")
        found = reading.deciding(plan, 60.0)
        limits = {"baseline": 40.0, "optimized": 22.0}
        assert found.goals == (Goal("f", "baseline", "optimized", 1.5, statistic, max_ms=limits),)
        assert found.by_recording == ("m",)
        assert (found.rounds, found.looks, found.budget_s) == (40, DECIDING, 60.0)
    for more, judged in (
        ({"why": "TO DO: say what optimized saves"}, False),
        ({"why": "copies", "source": {"kind": "model", "text": "TO DO: say where"}}, False),
        ({"source": {"kind": "model", "text": "half the bytes"}}, True),
    ):
        document = {"schema": "aisp-trace/expectations/2", "claims": [{**claim, **more}]}
        file.write_text(json.dumps(document), encoding="utf-8")
        assert [goal.judged for goal in reading.deciding(plan, None).goals] == [judged], more
    file.write_text(json.dumps({"claims": [{"type": "time"}]}), encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read as claims"):
        reading.deciding(plan, None)
    with pytest.raises(UsageError, match="has one variant here"):
        reading.deciding(replace(plan, variants=plan.variants[:1]), None)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["memory_standard", "--decide", "--rounds", "9"], "--rounds and --decide were given"),
        (["memory_standard", "--budget", "4"], "--budget was given without --decide"),
        (["memory_standard", "--decide", "--budget", "0"], "it must be above 0"),
        (["--decide", "--", "true"], "--decide was given with a command of your own"),
    ],
)
def test_what_does_not_go_together_is_refused(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capture", "--profile", "none", "--device", "cpu", *args]) == 2
    assert words in capsys.readouterr().err


# --- drifts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minimum", "maximum", "doubted"),
    [
        (None, 101.0, False),  # away from the only bound: each further round lies deeper inside
        (80.0, None, True),  # towards it, and half a range away
        (80.0, 101.0, True),
        (60.0, None, False),  # towards it, and more than the whole range away
        (None, 95.0, True),  # among the rounds
        (None, None, True),  # as while `accept` measures
    ],
)
def test_a_drift_is_doubted_where_it_leads_to_the_bound(
    minimum: float | None, maximum: float | None, doubted: bool
) -> None:
    """Iterations of 96 ms that become faster by 1 ms a round, seen on a host whose pageable copies did."""
    values = [96.0 - i for i in range(12)]
    (drift,) = [c for c in concerns(values) if c.kind == "drift"]
    assert drift.upwards is False
    assert matters(drift, values, minimum, maximum) is doubted
    (turned,) = [c for c in concerns([1000 / v for v in values]) if c.kind == "drift"]
    ends = [None if end is None else 1000 / end for end in (maximum, minimum)]
    assert matters(turned, [1000 / v for v in values], *ends) is doubted, "the same of rates"
