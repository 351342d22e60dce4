"""The statistics of a speedup: exact small cases, algebra, and simulations whose truth is known.

A simulated rate may exceed the stated one by three binomial standard deviations of its own trials.
"""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Callable
from math import comb, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.expectations.deciding import (
    MIN_ROUNDS,
    Estimate,
    concerns,
    median_interval,
    paired_ratios,
    trend_p_value,
)

TRIALS = 10_000

NOISE: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda r: r.gauss(0, 0.01),
    "uniform": lambda r: r.uniform(-0.02, 0.02),
    "laplace": lambda r: r.choice((-1, 1)) * r.expovariate(100),
    "outliers": lambda r: r.choice((0.5, -0.3)) if r.random() < 0.2 else r.gauss(0, 0.01),
}
"""Independent noise with median zero."""


def allowed(rate: float) -> float:
    return rate + 3 * sqrt(rate * (1 - rate) / TRIALS)


def kinds(values: list[float]) -> set[str]:
    return {c.kind for c in concerns(values)}


# --- exact small cases ------------------------------------------------------------------------------------------------


def test_eight_rounds_give_minimum_and_maximum() -> None:
    found = median_interval([3.0, 1.0, 4.0, 1.5, 9.0, 2.0, 6.0, 5.0])
    assert found == Estimate(3.5, 1.0, 9.0, 8, 1 - 2 / 2**8)


@pytest.mark.parametrize("n", range(1, MIN_ROUNDS))
def test_fewer_rounds_have_no_interval(n: int) -> None:
    found = median_interval([float(i) for i in range(n)])
    assert (found.low, found.high, found.coverage) == (None, None, None)
    assert found.n == n


@pytest.mark.parametrize(("n", "rank"), [(8, 1), (11, 1), (12, 2), (14, 2), (15, 3), (20, 4), (100, 37)])
def test_ranks_are_the_tightest_that_cover(n: int, rank: int) -> None:
    found = median_interval([float(i) for i in range(1, n + 1)])
    assert (found.low, found.high) == (rank, n + 1 - rank)

    def missed(k: int) -> float:
        return sum(comb(n, i) for i in range(k)) / float(2 ** (n - 1))

    assert found.coverage == pytest.approx(1 - missed(rank))
    assert missed(rank) <= 0.01 < missed(rank + 1)


def test_ratios_are_paired_by_round_and_use_medians() -> None:
    #          round 0: one slow iteration          round 1: machine half as fast
    baseline = [(20, 20, 900), (40, 40, 40)]
    optimized = [(10, 10, 10), (20, 20, 20)]
    assert paired_ratios(baseline, optimized) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("baseline", "optimized"),
    [([(1,)], [(1,), (1,)]), ([()], [(1,)]), ([(1,)], [()]), ([(0,)], [(1,)]), ([(1,)], [(-1,)])],
    ids=["unequal rounds", "empty baseline", "empty variant", "zero", "negative"],
)
def test_times_that_have_no_ratio_are_refused(baseline: list[tuple[int]], optimized: list[tuple[int]]) -> None:
    with pytest.raises(ValueError):
        paired_ratios(baseline, optimized)


def test_no_values_have_no_median() -> None:
    with pytest.raises(ValueError):
        median_interval([])


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_trend_p_value_equals_counting_permutations(n: int) -> None:
    def score(order: tuple[int, ...]) -> int:
        return sum((b > a) - (b < a) for a, b in itertools.combinations(order, 2))

    every = [abs(score(p)) for p in itertools.permutations(range(n))]
    for order in itertools.islice(itertools.permutations(range(n)), 24):
        expected = sum(s >= abs(score(order)) for s in every) / len(every)
        assert trend_p_value(order) == pytest.approx(expected)


def test_trend_of_constants_is_none() -> None:
    assert trend_p_value([1.0] * 8) == 1.0
    assert trend_p_value([1.0]) == 1.0
    assert trend_p_value([]) == 1.0


# --- what is found, and what is left alone ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([2.0] * 8, set()),
        ([2.00, 2.01, 1.99, 2.00, 2.02, 1.98, 2.01, 2.00], set()),
        ([2.00, 2.02, 2.05, 2.06, 2.09, 2.11, 2.12, 2.15], {"drift", "dependence"}),
        ([2.15, 2.12, 2.11, 2.09, 2.06, 2.05, 2.02, 2.00], {"drift", "dependence"}),
        # a trend of half a percent: no drift worth a word, but rounds that follow each other
        ([2.000, 2.001, 2.002, 2.003, 2.004, 2.005, 2.006, 2.007], {"dependence"}),
        # two clock states, a tenth apart
        ([2.00, 2.20, 2.01, 2.21, 2.00, 2.01, 2.20, 2.01], {"bimodal"}),
        # the same two states, one percent apart: the interval covers both
        ([2.00, 2.02, 2.001, 2.021, 2.00, 2.001, 2.02, 2.001], set()),
        # one outlier is not a mode and no spread: the interval reaches to it
        ([2.00, 2.01, 1.99, 2.00, 3.00, 1.98, 2.01, 2.00], set()),
        # however wide they spread: the interval says so
        ([1.0, 2.6, 1.4, 2.2, 1.8, 3.1, 1.2, 2.4], set()),
        # too few to say anything
        ([1.0, 2.0, 3.0, 4.0], set()),
    ],
)
def test_concerns(values: list[float], found: set[str]) -> None:
    assert kinds(values) == found


# --- algebra ----------------------------------------------------------------------------------------------------------

positive = st.floats(0.1, 100)


@given(st.lists(positive, min_size=1, max_size=40))
def test_interval_encloses_its_median_and_ignores_order(values: list[float]) -> None:
    found = median_interval(values)
    assert found == median_interval(values[::-1])
    assert found.value == statistics.median(values)
    if found.low is not None and found.high is not None:
        assert min(values) <= found.low <= found.value <= found.high <= max(values)


@given(st.lists(positive, min_size=8, max_size=16), st.sampled_from((0.25, 0.5, 2.0, 8.0)))
def test_interval_scales_with_the_unit(values: list[float], factor: float) -> None:
    one, other = median_interval(values), median_interval([v * factor for v in values])
    assert one.low is not None and one.high is not None
    assert (other.value, other.low, other.high) == (one.value * factor, one.low * factor, one.high * factor)


@given(st.lists(positive, min_size=2, max_size=12))
def test_a_trend_is_the_same_forwards_and_backwards(values: list[float]) -> None:
    assert trend_p_value(values) == trend_p_value(values[::-1])
    assert 0 < trend_p_value(values) <= 1


# --- simulations with known truth -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [8, 12])
@pytest.mark.parametrize("noise", NOISE)
def test_a_true_bound_is_exceeded_by_the_lower_end_at_most_at_the_stated_rate(noise: str, n: int) -> None:
    """The costly error: the truth is 2, the bound says more than 2, and the whole interval lies above 2."""
    draw, rng = NOISE[noise], random.Random(f"false met {noise} {n}")
    wrong_met = wrong_missed = 0
    for _ in range(TRIALS):
        found = median_interval([2.0 * (1 + draw(rng)) for _ in range(n)])
        assert found.low is not None and found.high is not None and found.coverage is not None
        wrong_met += found.low > 2.0
        wrong_missed += found.high < 2.0
        stated = (1 - found.coverage) / 2
    assert wrong_met / TRIALS <= allowed(stated)
    assert wrong_missed / TRIALS <= allowed(stated)
    assert (wrong_met + wrong_missed) / TRIALS <= allowed(0.01)


def test_linear_drift_inside_rounds_cancels_by_alternating() -> None:
    """Whoever runs second is 1 % slower; the order alternates; the truth stays inside the interval."""
    rng = random.Random("alternating")
    missed = 0
    for _ in range(TRIALS):
        ratios = [2.0 * (1.01 if i % 2 else 1 / 1.01) * (1 + rng.gauss(0, 0.005)) for i in range(8)]
        found = median_interval(ratios)
        assert found.low is not None and found.high is not None
        missed += not found.low <= 2.0 <= found.high
    assert missed / TRIALS <= allowed(0.01)


@pytest.mark.parametrize("noise", ["normal", "uniform", "laplace"])
def test_quiet_rounds_are_rarely_doubted(noise: str) -> None:
    """One percent for the trend, one for the gap: more refusals would make people distrust the word."""
    draw, rng = NOISE[noise], random.Random(f"quiet {noise}")
    found = [kinds([2.0 * (1 + draw(rng)) for _ in range(8)]) for _ in range(TRIALS)]
    assert sum("drift" in f for f in found) / TRIALS <= allowed(0.01)
    assert sum("bimodal" in f for f in found) / TRIALS <= allowed(0.01)
    assert sum("spread" in f for f in found) == 0


@pytest.mark.parametrize("per_round", [0.02, -0.02])
def test_drift_of_two_noise_widths_a_round_is_found(per_round: float) -> None:
    rng = random.Random(f"drift {per_round}")
    found = sum("drift" in kinds([2 + per_round * 2 * i + rng.gauss(0, 0.02) for i in range(8)]) for _ in range(TRIALS))
    assert found / TRIALS >= 0.98


def test_bimodal_clocks_are_found_or_harmless() -> None:
    """The slow state is 10 % slower and takes half the rounds. A met bound between the modes must stay rare."""
    rng = random.Random("clocks")
    found = false_met = 0
    for _ in range(TRIALS):
        ratios = [(2.0 if rng.random() < 0.5 else 1.8) * (1 + rng.gauss(0, 0.003)) for _ in range(8)]
        doubted = "bimodal" in kinds(ratios)
        found += doubted
        low = median_interval(ratios).low
        assert low is not None
        false_met += low >= 1.9 and not doubted
    assert found / TRIALS >= 0.85
    assert false_met / TRIALS <= allowed(0.5**8)


def test_a_step_in_the_middle_is_found_or_covered() -> None:
    """A card throttles after four rounds: the interval must not lie above the slower state's truth."""
    rng = random.Random("step")
    missed = 0
    for _ in range(TRIALS):
        ratios = [(2.0 if i < 4 else 1.8) * (1 + rng.gauss(0, 0.003)) for i in range(8)]
        low = median_interval(ratios).low
        assert low is not None
        missed += not kinds(ratios) and low > 1.9
    assert missed == 0


def test_one_wild_round_cannot_make_a_met() -> None:
    """Seven rounds at 1.4 and one at 40: the lower end stays where the rounds are."""
    found = median_interval([1.4, 1.41, 1.39, 1.4, 1.42, 1.38, 1.4, 40.0])
    assert found.low == 1.38
