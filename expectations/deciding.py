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
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import comb, log
from typing import Final

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

SPREAD_LIMIT: Final = 0.10
"""Largest interquartile range, as a fraction of the median, that still counts as one measurement of one thing."""


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
    """A broken assumption: `kind` is drift, bimodal or spread; `text` says what was seen."""

    kind: str
    text: str


def paired_ratios(baseline: Sequence[Sequence[int]], variant: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Per round, median of the baseline's times over median of the variant's: above 1 the variant is faster.

    Both arguments hold one sequence of positive times per round, in the same order of rounds. Raises `ValueError` for
    unequal numbers of rounds, an empty round, or a median that is not positive.
    """
    ratios = []
    for base, other in zip(baseline, variant, strict=True):
        if not base or not other:
            raise ValueError("a round without times has no ratio")
        slow, fast = statistics.median(base), statistics.median(other)
        if slow <= 0 or fast <= 0:
            raise ValueError("times must be positive")
        ratios.append(slow / fast)
    return tuple(ratios)


def median_interval(values: Sequence[float]) -> Estimate:
    """The median of `values` with its exact order-statistic interval. Raises `ValueError` for no values."""
    if not values:
        raise ValueError("no values, no median")
    ordered = sorted(values)
    n = len(ordered)
    rank = _rank(n)
    if rank == 0:
        return Estimate(statistics.median(ordered), None, None, n, None)
    return Estimate(statistics.median(ordered), ordered[rank - 1], ordered[n - rank], n, float(_coverage(n, rank)))


def concerns(values: Sequence[float]) -> tuple[Concern, ...]:
    """What speaks against one shared median of positive `values`, given in the order they were measured.

    An empty answer does not prove the opposite. Eight rounds show a trend only if it is nearly monotone (a step in
    the middle of otherwise quiet rounds is seen, a rise that falls again is not), and only one larger than the noise;
    a mode seen in a single round is an outlier, which the interval covers instead; and whatever is equally wrong in
    every round (a throttled card, a shared machine) cannot be seen from within.
    """
    found = (_drift(values), _bimodality(values), _spread(values))
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
    return Concern("drift", f"the rounds drift by {change:+.1%} from their first half to their second")


def _bimodality(values: Sequence[float]) -> Concern | None:
    if len(values) < MIN_ROUNDS:
        return None
    ordered = [log(v) for v in sorted(values)]  # times are multiplicative: a clock state is a factor
    for k in range(2, len(ordered) - 1):
        gap = ordered[k] - ordered[k - 1]
        widths = (ordered[k - 1] - ordered[0]) + (ordered[-1] - ordered[k])
        if gap > GAP_FLOOR and gap > GAP_FACTOR * widths:
            low, high = sorted(values)[k - 1 : k + 1]
            text = f"the rounds fall into two groups, {k} up to {low:.4g} and {len(ordered) - k} from {high:.4g}"
            return Concern("bimodal", text)
    return None


def _spread(values: Sequence[float]) -> Concern | None:
    if len(values) < MIN_ROUNDS:
        return None
    first, middle, third = statistics.quantiles(values, n=4, method="inclusive")
    spread = (third - first) / middle
    if spread <= SPREAD_LIMIT:
        return None
    return Concern("spread", f"the middle half of the rounds spreads over {spread:.0%} of the median")


@lru_cache(maxsize=256)
def _rank(n: int) -> int:
    """The largest k with ``_coverage(n, k) >= COVERAGE``; 0 if even minimum and maximum cover less."""
    rank = 0
    while 2 * (rank + 1) <= n and _coverage(n, rank + 1) >= COVERAGE:
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
