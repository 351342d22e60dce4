"""When the rounds of a capture end: at their planned number, once every claim on their times is decided or one of them is missed,
or with the budget.

Verdicts are given at planned looks alone (``expectations/deciding.py``), so rounds run from look to look. A budget that is
short of the first look is spent and leaves everything undecided, which is said after the first round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from ..expectations.deciding import (
    MIN_ROUNDS,
    Sample,
    bounds_doubt,
    decide,
    rate_sample,
    ratio_sample,
    time_sample,
    wide_doubt,
)
from ..traces.pair_timing import ITERATIONS
from ..traces.pair_timing import WORDS as TIMED
from .plan import Goal, Plan, per_round
from .progress import Progress, seconds

STRETCH: Final = 1.1
"""The rounds up to the first look may take this times the budget: some seconds less would leave nothing decided."""

NAMED: Final = 3
"""How many claims on recordings are named."""

Times = Sequence[tuple[int, str, Sequence[int]]]
"""(round, variant, its times in nanoseconds) of every untraced process, in order."""


@dataclass(frozen=True, slots=True)
class Made:
    """The rounds so far: their times, the nanoseconds that their processes took, required items of an iteration by variant, where
    they are known, and what the times are of (``traces/pair_timing.py``)."""

    times: Times
    spent_ns: int
    items: Mapping[str, int] = field(default_factory=dict)
    timed_by: str = ITERATIONS


def until_decided(plan: Plan, once: Callable[[int], None], made: Callable[[], Made], progress: Progress) -> None:
    """Run `once` for each round of the plan, up to the first look at which nothing is left to decide or to spend, or a miss
    decides what `check` exits with."""
    looks = plan.looks or (plan.rounds,)
    done = 0

    def say(text: str) -> None:
        progress.say(f"[{plan.workload}] {text}")

    for look, following in zip(looks, (*looks[1:], None), strict=True):
        for index in range(done, look):
            once(index)
            done = index + 1
            if len(looks) == 1:
                continue
            if done == 1:
                first = made()
                say(expected(plan, first.spent_ns / 1e9))
                for text in unlike(plan, first.timed_by):
                    say(text)
            if plan.budget_s is not None and done < looks[0] and _is_spent(plan, done, made().spent_ns / 1e9):
                rounds = "1 round is" if done == 1 else f"{done} rounds are"
                say(
                    f"the budget of {seconds(plan.budget_s)} is spent: {rounds} fewer than {looks[0]}, so nothing is decided"
                )
                return
        if len(looks) == 1:
            return
        now = made()
        left, missed = so_far(plan, now)
        if not left:
            say(_decided(plan, now.timed_by, done, missed))
            return
        if missed:
            say(f"{_missed(done, missed)}; left undecided: {', '.join(left)}")
            return
        told = f"{done} rounds leave undecided: {_with_reasons(left)}"
        if following is None:
            say(f"{told}; {done} are the most")
            return
        needed_s = now.spent_ns / 1e9 / done * following
        if plan.budget_s is not None and needed_s > plan.budget_s:
            say(f"{told}; {following} rounds would take {seconds(needed_s)}, more than the budget")
            return
        say(f"{told}; on to {following}")
        progress.more((following - done) * per_round(plan))


def expected(plan: Plan, round_s: float) -> str:
    """How long the rounds of a plan with several looks will take, from the first round's seconds."""
    first, *_, last = plan.looks
    least_s = round_s * first
    told = f"a round takes {seconds(round_s)}: {first} rounds, the fewest that decide, take about {seconds(least_s)}"
    beside = ", recordings not counted" if plan.recorder is not None else ""
    if plan.budget_s is None:
        return f"{told}, and {last}, the most, about {seconds(round_s * last)}{beside}"
    budget = f"the budget of {seconds(plan.budget_s)}"
    if _is_short(plan, round_s):
        minutes = ceil(least_s * STRETCH / 6) / 10
        return (
            f"{told}, more than {budget}; rounds end when it is spent, with no time decided. --budget {minutes:g} is enough to "
            f"decide, or --rounds {MIN_ROUNDS}, about {seconds(round_s * MIN_ROUNDS)}"
        )
    most = max((look for look in plan.looks if round_s * look <= plan.budget_s), default=first)
    return f"{told}; {budget} is enough for {most}{beside}"


def _is_spent(plan: Plan, done: int, spent_s: float) -> bool:
    """Whether the budget is short of the first look, and of one more round."""
    assert plan.budget_s is not None
    return _is_short(plan, spent_s / done) and spent_s / done * (done + 1) > plan.budget_s


def _is_short(plan: Plan, round_s: float) -> bool:
    """Whether the budget is short of the first look, if a round takes `round_s`."""
    return plan.budget_s is not None and round_s * plan.looks[0] > STRETCH * plan.budget_s


def _missed(done: int, missed: Sequence[str]) -> str:
    """Said where more rounds could not change what `check` exits with."""
    are = "is missed" if len(missed) == 1 else "are missed"
    return f"{done} rounds are enough: {', '.join(missed)} {are}, and more rounds cannot change that, so `check` fails"


def unlike(plan: Plan, timed_by: str) -> Iterator[str]:
    """A sentence for each goal whose bounds say nothing of rounds that are timed by `timed_by`."""
    for goal in plan.goals:
        if not _is_about(goal, timed_by):
            then = goal.timed_by or ""
            yield (
                f"the bound of {goal.claim} was measured by {TIMED.get(then, then)}, these rounds by {TIMED[timed_by]}: it "
                f"decides nothing; rounds go on until {goal.variant} is faster than {goal.baseline} or not, so that `accept` "
                "can take a new bound"
            )


def goals_of(plan: Plan, timed_by: str) -> Iterator[Goal]:
    """The plan's goals; in place of one about other times, whether its variant is faster at all, as where nothing is written."""
    for goal in plan.goals:
        faster = Goal(
            f"{goal.variant} faster than {goal.baseline}", goal.baseline, goal.variant, 1.0, "mean", to_bound=True
        )
        yield goal if _is_about(goal, timed_by) else faster


def _is_about(goal: Goal, timed_by: str) -> bool:
    return goal.timed_by in (None, timed_by)


def _decided(plan: Plan, timed_by: str, done: int, missed: Sequence[str]) -> str:
    goals = tuple(goals_of(plan, timed_by))
    what = "the speedup" if any(goal.to_bound for goal in goals) else "every claim on times"
    told = f"{done} rounds decide {what}: {', '.join(goal.claim for goal in goals)}"
    if missed:
        told += f"; missed: {', '.join(missed)}"
    if not plan.by_recording:
        return told
    more = len(plan.by_recording) - NAMED
    named = ", ".join(plan.by_recording[:NAMED]) + (f" and {more} more" if more > 0 else "")
    if plan.recorder is None:
        return f"{told}; without a recording these stay open: {named}"
    return f"{told}; rounds say nothing of these, which `check` judges from the recordings: {named}"


def _with_reasons(left: Mapping[str, str]) -> str:
    """Each part with what stands in its way, which is said once."""
    said: set[str] = set()
    parts = []
    for part, reason in left.items():
        parts.append(part if reason in said else f"{part} ({reason})")
        said.add(reason)
    return ", ".join(parts)


def so_far(plan: Plan, made: Made) -> tuple[dict[str, str], list[str]]:
    """What these rounds say of the plan's goals: (parts left open, with what stands in the way; parts that are missed).

    Open is what they neither meet nor miss, or what `accept` could take no bound from. A miss counts where `check` judges by it:
    it stays one whatever else is found, so the check fails. Where bounds are to come from the rounds, nothing can be missed.
    """
    by_round: dict[str, dict[int, Sequence[int]]] = {}
    for index, name, ns in made.times:
        by_round.setdefault(name, {})[index] = ns
    left: dict[str, str] = {}
    missed: list[str] = []
    for goal in goals_of(plan, made.timed_by):
        base, other = by_round.get(goal.baseline, {}), by_round.get(goal.variant, {})
        both = sorted(base.keys() & other.keys())
        rounds = {goal.baseline: [base[i] for i in both], goal.variant: [other[i] for i in both]}
        before, after = rounds[goal.baseline], rounds[goal.variant]
        is_open = False
        for words, sample, minimum, maximum in _parts(goal, ratio_sample(before, after), rounds, made.items):
            found = decide(sample, minimum, maximum, statistic=goal.statistic, looks=plan.looks)
            if found.status == "inconclusive":
                left[f"{goal.claim}{words}"] = found.reason
                is_open = True
            elif found.status == "missed" and goal.judged and not goal.to_bound:
                missed.append(f"{goal.claim}{words}")
        if goal.to_bound and not is_open:
            doubt = bounds_doubt(before, after, looks=plan.looks, statistic=goal.statistic)
            doubt = doubt or wide_doubt(ratio_sample(before, after), plan.looks)
            left |= {f"bounds for {goal.variant} that `accept` would take": doubt} if doubt else {}
    return left, missed


def _parts(
    goal: Goal, speedup: Sample, rounds: Mapping[str, Sequence[Sequence[int]]], items: Mapping[str, int]
) -> Iterator[tuple[str, Sample, float | None, float | None]]:
    """(words behind the claim's name, what is bounded, least, most) of each part that `check` judges by rounds.

    A throughput of unknown items is left out: no number of rounds decides it.
    """
    yield "", speedup, goal.minimum, None
    for name, most in goal.max_ms.items():
        if name in rounds:
            yield f", time of {name}", time_sample(rounds[name]), None, most
    for name, least in goal.min_items_per_s.items():
        if name in rounds and items.get(name, 0) > 0:
            yield f", throughput of {name}", rate_sample(rounds[name], items[name]), least, None
