"""When the rounds of a run decide whether a value clears its bound. Pure; of the standard library alone, so that `capture`,
which stops when everything is decided, and `check`, which judges, have one rule.

Quantity      one value a round: a ratio (baseline over variant, paired by round), milliseconds, items per second. Each is
              taken twice, by the mean of the round's timed iterations and by their median (`Sample`).
Interval      exact and free of any distribution: for order statistics x(1) <= ... <= x(n), the number of rounds below the true
              median is Binomial(n, 1/2), so [x(k), x(n+1-k)] misses it with probability 2 * P(Binomial(n, 1/2) < k), the
              same on each side. (H. A. David and H. N. Nagaraja, Order Statistics, 3rd ed., Wiley 2003, section 7.1.)
Looks         at how many rounds a verdict may be given is planned before the run. One look: k is the largest with coverage
              of at least 99 %; for 8 rounds that is minimum and maximum, 0.39 % each side. `DECIDING` plans five looks; the
              chance that any of them is wrong about a bound at the true median is 0.240 % each side (`error_of`, by counting
              paths), so it does not matter which of them ended the run.
Verdict       `met` where the intervals of mean and median both lie inside the bound, `missed` where that of the claim's statistic
              lies outside. Anything else is undecided.
Assumptions   rounds are independent and share one median. Dependence, drift and two groups are looked for (`concerns`); a doubt
              counts only where the noise could reach the bound (`matters`).
Cost          O(n log n) for an interval, O(n^2) for the trend. Round counts are small.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import ceil, comb, exp, floor, inf, log, sqrt
from typing import Final

from ..traces.figures import significant

COVERAGE: Final = Fraction(99, 100)
"""Least two-sided coverage of an interval."""

MIN_ROUNDS: Final = 8
"""Fewest values with an interval of `COVERAGE`: 1 - 2 / 2**8 = 0.992, while 1 - 2 / 2**7 = 0.984."""

DRIFT_P: Final = 0.01
"""Two-sided level of the trend test: one drift-free series in a hundred is called drifting."""

DRIFT_FLOOR: Final = 0.01
"""Trends that move the median by less than this fraction between the halves of a series are not worth a refusal."""

GAP_FACTOR: Final = 2.0
"""Two groups are two modes if the gap between them exceeds this multiple of both groups' widths together. In 20,000
simulated series of 8 to 24 values, fewer than 1 % from one normal, uniform or Laplace population pass it (1.2 % from
an exponential one)."""

GAP_FLOOR: Final = 0.02
"""Modes closer than this fraction are left alone: the interval covers both."""

DEPENDENCE_P: Final = 0.05
"""One-sided level of the dependence test: of independent rounds one run in twenty is doubted."""

FAR: Final = {"bimodal": 0.0, "dependence": 0.5, "drift": 1.0}
"""Doubts -> how many ranges of the rounds the bound must be away for them not to matter; tried in benchmarks/verdicts.py."""

SPLIT: Final = 3.0
"""Iterations that fall into two groups more than this factor apart are not one thing that a mean or a median describes."""

SPLIT_SHARE: Final = 0.05
"""The smaller group's least part of all iterations; fewer are outliers, which the mean pays for."""

WRONG_AT: Final = {12: 0, 16: 1, 24: 4, 32: 7, 40: 10}
"""Rounds of a look -> rounds on the wrong side of the bound that a verdict bears there (`DECIDING`)."""

DECIDING: Final = tuple(WRONG_AT)
"""The looks of a capture that goes on until everything is decided."""

POWER: Final = 0.9
"""How often a change counts as detected, where `detectable` and `rounds_needed` speak of one."""

OCCASION: Final = 0.05
"""How far apart two occasions may lie while only one has been seen. A convention, stated in ``docs/verdicts.md``; a
second run replaces it by what is measured."""

AGAIN: Final = 1 / sqrt(2)
"""How far below its interval, in widths of it, the interval of another run with as much noise begins once in 200 times: the
difference of two medians spreads by the root of two of what one does (`tests/test_accept.py` simulates it)."""

MOST_ROUNDS: Final = 400
"""`rounds_needed` looks no further."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median and its interval. `low` and `high` are null below `MIN_ROUNDS` values; `coverage` is the exact one."""

    value: float
    low: float | None
    high: float | None
    n: int
    coverage: float | None


@dataclass(frozen=True, slots=True)
class Concern:
    """A broken assumption: `kind` is drift, bimodal or dependence, or a word of who found it; `text` says what was seen.

    `upwards` says which way a drift goes; null for other kinds.
    """

    kind: str
    text: str
    upwards: bool | None = None


def paired_ratios(
    baseline: Sequence[Sequence[int]],
    variant: Sequence[Sequence[int]],
    middle: Callable[[Sequence[int]], float] = statistics.median,
) -> tuple[float, ...]:
    """Per round, the baseline's middle time over the variant's: above 1 the variant is faster.

    Both arguments hold one sequence of positive times per round, in the same order of rounds. Raises `ValueError` for
    unequal numbers of rounds, an empty round, or a median that is not positive.
    """
    ratios = []
    for base, other in zip(baseline, variant, strict=True):
        if not base or not other:
            raise ValueError("a round without times has no ratio")
        slow, fast = middle(base), middle(other)
        if slow <= 0 or fast <= 0:
            raise ValueError("times must be positive")
        ratios.append(slow / fast)
    return tuple(ratios)


def wrong_allowed(looks: Sequence[int], n: int) -> int | None:
    """How many of `n` rounds may lie on the wrong side of a bound that a verdict clears; null where none may be given there.

    `looks` are those of the plan; empty where none was written down, and `n` itself counts as planned.
    """
    if tuple(looks) == DECIDING:
        return WRONG_AT.get(n)
    rank = _rank(n)
    return rank - 1 if rank and (not looks or n in looks) else None


def rounds_judged(n: int, looks: Sequence[int]) -> int:
    """How many of `n` rounds count: the first ones, up to the last planned look; all before the first look, or without a plan."""
    return max((look for look in looks if look <= n), default=n)


@lru_cache(maxsize=64)
def error_of(looks: tuple[int, ...]) -> float:
    """How often, at most, a plan's verdict is wrong on one side, for independent rounds and a bound at the true median.

    By counting: a path of rounds ends at the first look at which few enough lie on the wrong side. Several looks that are
    not `DECIDING` are the user's own repetition, and each counts in full.
    """
    paths, ended, at = {0: Fraction(1)}, Fraction(0), 0
    for n in looks:
        for _ in range(n - at):
            further: dict[int, Fraction] = {}
            for wrong, chance in paths.items():
                for more in (0, 1):
                    further[wrong + more] = further.get(wrong + more, Fraction(0)) + chance / 2
            paths = further
        at = n
        borne = wrong_allowed(looks, n)
        if borne is not None:
            ended += sum((paths.pop(wrong) for wrong in list(paths) if wrong <= borne), Fraction(0))
    return float(ended)


def median_interval(values: Sequence[float], looks: Sequence[int] = ()) -> Estimate:
    """The median of `values` with the interval that `looks` allow. Raises `ValueError` for no values.

    At a look of `DECIDING` its coverage is that of all looks together, so that a run may end at any of them.
    """
    if not values:
        raise ValueError("no values, no median")
    ordered, n = sorted(values), len(values)
    wrong = wrong_allowed(looks, n)
    if wrong is None:
        return Estimate(statistics.median(ordered), None, None, n, None)
    covered = 1 - 2 * error_of(DECIDING) if tuple(looks) == DECIDING else float(_coverage(n, wrong + 1))
    return Estimate(statistics.median(ordered), ordered[wrong], ordered[n - 1 - wrong], n, covered)


@dataclass(frozen=True, slots=True)
class Sample:
    """One quantity, a value a round in the order of the rounds: by the mean of each round's iterations, and by their median."""

    mean: tuple[float, ...]
    median: tuple[float, ...]

    def by(self, statistic: str) -> tuple[float, ...]:
        """The values by "mean" or "median"."""
        return self.mean if statistic == "mean" else self.median


def speedups_of(
    base: Mapping[int, Sequence[int]], variant: Mapping[int, Sequence[int]], looks: Sequence[int]
) -> Sample | None:
    """How much faster `variant` is, by round, in those rounds that timed both and are judged; null where none did.

    Both hold a round's times by its index.
    """
    both = sorted(base.keys() & variant.keys())
    both = both[: rounds_judged(len(both), looks)]
    return ratio_sample([base[i] for i in both], [variant[i] for i in both]) if both else None


@dataclass(frozen=True, slots=True)
class Decision:
    """`status` is met, missed or inconclusive; `estimate` is by the claim's statistic, `other` by the other one.

    `doubts` are those that stood in the way, as sentences; `reason` says the status in one. `unsteady` says that the rounds
    themselves are in doubt, not only what else is known of them.
    """

    status: str
    reason: str
    estimate: Estimate
    other: Estimate
    doubts: tuple[str, ...] = ()
    unsteady: bool = False


def ratio_sample(baseline: Sequence[Sequence[int]], variant: Sequence[Sequence[int]]) -> Sample:
    """Speedups by round: `paired_ratios` by mean and by median."""
    return Sample(paired_ratios(baseline, variant, statistics.fmean), paired_ratios(baseline, variant))


def time_sample(rounds: Sequence[Sequence[int]], scale: float = 1e-6) -> Sample:
    """One side's time by round, in nanoseconds times `scale` (milliseconds)."""
    return Sample(
        tuple(statistics.fmean(t) * scale for t in rounds), tuple(statistics.median(t) * scale for t in rounds)
    )


def rate_sample(rounds: Sequence[Sequence[int]], items: int) -> Sample:
    """Items per second by round: by the mean, total items over total time."""
    times = time_sample(rounds, 1e-9)
    return Sample(tuple(items / t for t in times.mean), tuple(items / t for t in times.median))


def decide(
    sample: Sample,
    minimum: float | None,
    maximum: float | None,
    *,
    statistic: str = "mean",
    looks: Sequence[int] = (),
    also: Sequence[Concern] = (),
) -> Decision:
    """Whether `sample` lies inside ``[minimum, maximum]`` (null: open), as far as its rounds can say.

    Doubts about the rounds themselves leave nothing decided. `also` are objections from elsewhere (the order of the rounds, slow
    clocks): they take `met` away, but a claim that is missed stays missed. Raises `ValueError` for no rounds, or values that
    are not positive.
    """
    values = sample.by(statistic)
    other_name = "median" if statistic == "mean" else "mean"
    found, other = (median_interval(sample.by(name), looks) for name in (statistic, other_name))
    if found.low is None or found.high is None or other.low is None or other.high is None:
        return Decision("inconclusive", _not_planned(found.n, looks), found, other)
    bound = bound_words(minimum, maximum)
    if inside(found.low, found.high, minimum, maximum):
        status = "met" if inside(other.low, other.high, minimum, maximum) else "inconclusive"
    else:
        status = "missed" if outside(found.low, found.high, minimum, maximum) else "inconclusive"
    doubts = tuple(c.text for c in concerns(values) if matters(c, values, minimum, maximum))
    objected = tuple(c.text for c in also)
    ends = f"{significant(found.low)} .. {significant(found.high)}"
    if status == "inconclusive" and inside(found.low, found.high, minimum, maximum):
        reason = (
            f"by the {statistic} the interval {ends} lies inside the bound {bound}, but by the {other_name} it is "
            f"{significant(other.low)} .. {significant(other.high)}"
        )
        return Decision(status, reason, found, other)
    where = {"met": "lies inside", "missed": "lies outside", "inconclusive": "straddles"}[status]
    reason = f"the interval {ends} {where} the bound {bound}"
    if doubts or (objected and status == "met"):
        every = (*doubts, *objected)
        return Decision("inconclusive", "; ".join(every), found, other, every, unsteady=bool(doubts))
    return Decision(status, "; ".join((reason, *objected)), found, other, objected)


def bounds_doubt(
    before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]],
    *,
    looks: Sequence[int] = (),
    statistic: str = "mean",
) -> str:
    """Why `accept` would take no bounds from these rounds of two variants: what `decide` says where everything would meet the
    bounds; empty if nothing is in doubt. Raises as `decide` does."""
    asked: tuple[tuple[Sample, float | None, float | None], ...] = (
        (ratio_sample(before, after), 0.0, None),
        (time_sample(before), None, inf),
        (time_sample(after), None, inf),
    )
    made = (decide(sample, least, most, statistic=statistic, looks=looks) for sample, least, most in asked)
    return next((one.reason for one in made if one.status != "met"), "")


def widest(speedup: Sample, looks: Sequence[int] = ()) -> tuple[float, float] | None:
    """The ends of the interval by mean and by median together; null where there is none."""
    found = [median_interval(speedup.by(name), looks) for name in ("mean", "median")]
    ends = [end for one in found for end in (one.low, one.high) if end is not None]
    return (min(ends), max(ends)) if ends else None


def own_bound(low: float, high: float) -> float:
    """The most to ask of a speedup that lies between `low` and `high` here, so that another run with as much noise meets it, in
    hundredths, rounded down."""
    return floor(100 * (low - AGAIN * (high - low))) / 100


def is_wide(least: float, speedup: float) -> bool:
    """Whether a bound that asks for `least` lets more of a `speedup` go than it keeps: its root is half of it, as a factor."""
    return speedup > 1 and least <= sqrt(speedup)


def wide_doubt(speedup: Sample, looks: Sequence[int] = ()) -> str:
    """Why a bound that `accept` takes from these rounds would let more of the speedup go than it keeps, where more rounds narrow
    it; else empty. As ``accepting/derive.py`` has it, a bound leaves the interval's width below its lower end."""
    ends, middle = widest(speedup, looks), statistics.median(speedup.mean)
    if ends is None:
        return ""
    low, high = ends
    width = high - low
    if width <= OCCASION * middle or not is_wide(low - width, middle):
        return ""
    return (
        f"it would be wide: the speedup lies between {significant(low)} and {significant(high)}, and a bound leaves as much "
        "again below that"
    )


def matters(concern: Concern, values: Sequence[float], minimum: float | None, maximum: float | None) -> bool:
    """Whether a doubt about positive `values` could change on which side of the bound they are.

    They do not where the nearest round is far enough from the bound, in logarithms, against the range of all rounds (`FAR`): on
    the right side for two groups, half the range for dependence, the whole of it for a drift towards the bound, since as much
    movement again would not reach it. A drift away from the bound takes what is on the right side further to it. Where nothing
    is bounded, as while `accept` measures, every doubt matters.
    """
    low, high = log(min(values)), log(max(values))
    edges = [log(end) for end in (minimum, maximum) if end is not None and 0 < end < inf]
    for edge in edges:
        away = max(low - edge, edge - high)  # negative: the bound lies among the rounds
        leaves = concern.upwards is not None and concern.upwards == (low > edge)
        if away <= (0.0 if leaves else FAR[concern.kind]) * (high - low):
            return True
    return not edges


def split(rounds: Sequence[Sequence[int]]) -> tuple[float, float, float] | None:
    """(longest of the fast group, shortest of the slow one, the slow one's part) where all iterations fall into two groups
    more than `SPLIT` apart, each with at least `SPLIT_SHARE` of them; else null."""
    ordered = sorted(time for times in rounds for time in times)
    least = max(2, ceil(len(ordered) * SPLIT_SHARE))
    for k in range(least, len(ordered) - least + 1):
        if 0 < ordered[k - 1] * SPLIT < ordered[k]:
            return ordered[k - 1], ordered[k], 1 - k / len(ordered)
    return None


def detectable(values: Sequence[float], looks: Sequence[int] = ()) -> float | None:
    """By what fraction the true value may lie from a bound and be decided in `POWER` of runs like this one; null: unknown.

    From the spread of the logarithms of `values`, taken as normal: an aid to planning, on which no verdict rests.
    """
    n = len(values)
    wrong, width = wrong_allowed(looks, n), log_spread(values)
    return None if wrong is None or width is None else exp(_distance(n, wrong) * width) - 1


def rounds_needed(values: Sequence[float], change: float = 0.05) -> int | None:
    """The fewest rounds that detect a `change` in `POWER` of runs like this one; null: more than `MOST_ROUNDS`, or unknown."""
    width = log_spread(values)
    if width is None:
        return None
    enough = (n for n in range(MIN_ROUNDS, MOST_ROUNDS + 1) if _distance(n, _rank(n) - 1) * width <= log(1 + change))
    return next(enough, None)


def log_spread(values: Sequence[float]) -> float | None:
    """The standard deviation of the logarithms of positive `values`; null for fewer than four."""
    return statistics.stdev([log(v) for v in values]) if len(values) >= 4 else None


def concerns(values: Sequence[float]) -> tuple[Concern, ...]:
    """What speaks against one shared median of positive `values`, given in the order they were measured.

    An empty answer does not prove the opposite. Eight rounds show a trend only if it is nearly monotone (a step in
    the middle of otherwise quiet rounds is seen, a rise that falls again is not), and only one larger than the noise;
    a mode seen in a single round is an outlier, which the interval covers instead; and whatever is equally wrong in
    every round (a throttled card, a shared machine) cannot be seen from within.
    """
    found = (_drift(values), _bimodality(values), _dependence(values))
    return tuple(concern for concern in found if concern is not None)


def trend_p_value(values: Sequence[float]) -> float:
    """Two-sided exact p-value of Kendall's S against time: how often a random order is at least as monotone.

    Exact by counting permutations by their inversions; ties count for neither direction, which only makes the test
    slower to speak. 1.0 for fewer than two values. (M. G. Kendall, Biometrika 30, 1938; H. B. Mann, Econometrica 13,
    1945.)
    """
    n = len(values)
    score = sum((b > a) - (b < a) for i, a in enumerate(values) for b in values[i + 1 :])
    return _tails(n)[abs(score)]


def _drift(values: Sequence[float]) -> Concern | None:
    if len(values) < MIN_ROUNDS:
        return None
    half = len(values) // 2
    early, late = statistics.median(values[:half]), statistics.median(values[-half:])
    change = late / early - 1
    if abs(change) <= DRIFT_FLOOR or trend_p_value(values) > DRIFT_P:
        return None
    return Concern("drift", f"the rounds drift by {change:+.1%} from their first half to their second", change > 0)


def _bimodality(values: Sequence[float]) -> Concern | None:
    if len(values) < MIN_ROUNDS:
        return None
    ordered = [log(v) for v in sorted(values)]  # times are multiplicative: a clock state is a factor
    for k in range(2, len(ordered) - 1):
        gap = ordered[k] - ordered[k - 1]
        widths = (ordered[k - 1] - ordered[0]) + (ordered[-1] - ordered[k])
        if gap > GAP_FLOOR and gap > GAP_FACTOR * widths:
            low, high = sorted(values)[k - 1 : k + 1]
            text = (
                f"the rounds fall into two groups, {k} up to {significant(low)} and {len(ordered) - k} from "
                f"{significant(high)}"
            )
            return Concern("bimodal", text)
    return None


def _dependence(values: Sequence[float]) -> Concern | None:
    """Rounds that resemble the one before: von Neumann's ratio of the ranks, normal approximation from 8 values on.

    (R. Bartels, Journal of the American Statistical Association 77, 1982. Ties share their mean rank.)
    """
    n = len(values)
    if n < MIN_ROUNDS or len(set(values)) == 1:
        return None
    ordered = sorted(values)
    place = {v: (bisect_left(ordered, v) + bisect_right(ordered, v) + 1) / 2 for v in set(values)}
    ranks = [place[v] for v in values]
    middle = (n + 1) / 2
    ratio = sum((a - b) ** 2 for a, b in pairwise(ranks)) / sum((r - middle) ** 2 for r in ranks)
    width = sqrt(4 * (n - 2) * (5 * n * n - 2 * n - 9) / (5 * n * (n + 1) * (n - 1) ** 2))
    if _NORMAL.cdf((ratio - 2) / width) > DEPENDENCE_P:
        return None
    return Concern("dependence", "each round resembles the one before it, so they count as fewer independent rounds")


def _not_planned(n: int, looks: Sequence[int]) -> str:
    if len(looks) > 1 and n < looks[0]:
        return (
            f"{n} rounds are fewer than {looks[0]}, the first at which they may decide: the budget was too short; capture with a "
            f"longer one, or with --rounds {MIN_ROUNDS}"
        )
    if looks and n not in looks:
        planned = ", ".join(map(str, looks))
        return f"{n} rounds are none of the planned looks ({planned}), so nothing may be decided from them"
    return f"{n} rounds have no 99 % interval; it needs {MIN_ROUNDS}: capture with --rounds {MIN_ROUNDS}"


def inside(low: float, high: float, minimum: float | None, maximum: float | None) -> bool:
    """Whether all of ``[low, high]`` lies in ``[minimum, maximum]``; null leaves a side open."""
    return (minimum is None or low >= minimum) and (maximum is None or high <= maximum)


def outside(low: float, high: float, minimum: float | None, maximum: float | None) -> bool:
    """Whether all of ``[low, high]`` lies beyond one end of ``[minimum, maximum]``."""
    return (minimum is not None and high < minimum) or (maximum is not None and low > maximum)


def bound_words(minimum: float | None, maximum: float | None, shown: Callable[[float], str] = significant) -> str:
    """``>= 1.5``, ``<= 0.02`` or ``1.5 .. 3``, the figures as `shown`; empty where both sides are open."""
    if minimum is None:
        return "" if maximum is None else f"<= {shown(maximum)}"
    return f">= {shown(minimum)}" if maximum is None else f"{shown(minimum)} .. {shown(maximum)}"


@lru_cache(maxsize=4096)
def _distance(n: int, wrong: int) -> float:
    """How many standard deviations of a round the truth must lie from the bound, for `POWER` of n rounds' verdicts."""
    low, high = 0.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        miss = _NORMAL.cdf(-middle)  # the chance that one round lies on the wrong side
        term = power = (1 - miss) ** n  # that none does; below, that i + 1 of n do
        for i in range(wrong):
            term *= (n - i) / (i + 1) * miss / (1 - miss)
            power += term
        low, high = (middle, high) if power < POWER else (low, middle)
    return high


_NORMAL: Final = statistics.NormalDist()


@lru_cache(maxsize=4096)
def _rank(n: int) -> int:
    """The largest k with ``_coverage(n, k) >= COVERAGE``; 0 if even minimum and maximum cover less."""
    rank, term, below = 0, 1, 0  # term: n over rank; below: the sum of all before it
    while 2 * (rank + 1) <= n and 1 - Fraction(2 * (below + term), 2**n) >= COVERAGE:
        below += term
        term = term * (n - rank) // (rank + 1)
        rank += 1
    return rank


def _coverage(n: int, rank: int) -> Fraction:
    return 1 - Fraction(2 * sum(comb(n, i) for i in range(rank)), 2**n)


@lru_cache(maxsize=64)
def _tails(n: int) -> tuple[float, ...]:
    """How likely a random order of n things has an absolute score of at least 0, 1, 2 ..."""
    counts = _inversion_counts(n)
    pairs = len(counts) - 1  # a score is pairs in order minus inversions
    by_score = [sum(c for k, c in enumerate(counts) if abs(pairs - 2 * k) == score) for score in range(pairs + 1)]
    total, tails, left = sum(counts), [], sum(by_score)
    for count in by_score:
        tails.append(left / total)
        left -= count
    return tuple(tails)


@lru_cache(maxsize=64)
def _inversion_counts(n: int) -> tuple[int, ...]:
    """How many permutations of n things have 0, 1, 2 ... inversions (the Mahonian numbers)."""
    counts = [1]
    for size in range(2, n + 1):
        longer = [0] * (len(counts) + size - 1)
        for inversions, count in enumerate(counts):
            for extra in range(size):
                longer[inversions + extra] += count
        counts = longer
    return tuple(counts)
