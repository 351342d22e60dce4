"""The rules of other tools, on samples whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from aisp_trace.benchmarks.other_rules import Array, Rule, asv, criterion, google, u_statistic, u_test


def samples(n: int, u: int) -> tuple[Array, Array]:
    """Two samples of n values, without ties, in which `u` pairs have the first above the second."""
    places = np.arange(n)
    for i in range(n - 1, -1, -1):  # the highest moves up first, past at most n values of the other sample
        step = min(u, n)
        places[i] += step
        u -= step
    others = np.setdiff1d(np.arange(2 * n), places)
    return places[None, :].astype(float), others[None, :].astype(float)


def sides(ratio: float, n: int = 20) -> tuple[Array, Array]:
    """Two sides that differ by `ratio`, with a thousandth of noise."""
    rng = np.random.default_rng(1)
    base, fast = (1 + 0.001 * rng.standard_normal((3, n)) for _ in range(2))
    return ratio * base, fast


def test_u_counts_the_pairs() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.random((4, 5)), rng.random((4, 7))
    assert u_statistic(x, y).tolist() == [sum(a > b for a in xs for b in ys) for xs, ys in zip(x, y, strict=True)]


def test_p_is_that_of_scipys_own_example() -> None:
    """SciPy's page of `mannwhitneyu`: ages at the diagnosis of diabetes; U is 17, p 0.1111, and 0.11135 by the normal."""
    men, women = np.array([[19.0, 22, 16, 29, 24]]), np.array([[20.0, 11, 17, 12]])
    assert u_statistic(men, women).tolist() == [17]
    assert u_test(men, women, exact=True, continuity=0.5)[0] == pytest.approx(0.1111111, abs=1e-6)
    assert u_test(men, women, exact=False, continuity=0.5)[0] == pytest.approx(0.1113469, abs=1e-6)


@pytest.mark.parametrize(("n", "critical"), [(5, 2), (8, 13), (10, 23), (15, 64), (20, 127)])
def test_p_passes_a_twentieth_at_the_tables_critical_value(n: int, critical: int) -> None:
    """Printed tables of the Mann-Whitney test, two-sided 0.05."""
    for u, significant in ((critical, True), (critical + 1, False), (n * n - critical, True)):
        x, y = samples(n, u)
        assert u_statistic(x, y).tolist() == [u]
        assert (u_test(x, y, exact=True, continuity=0.0)[0] <= 0.05) == significant


def test_the_normal_p_is_near_the_counted_one() -> None:
    for u in (90, 127, 160, 200):
        x, y = samples(20, u)
        exact, normal = (float(u_test(x, y, exact=e, continuity=0.5)[0]) for e in (True, False))
        assert normal == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize("rule", [asv(), asv(1.0), google, criterion])
def test_every_rule_calls_a_large_change_by_its_direction(rule: Rule) -> None:
    base, fast = sides(1.2)
    assert rule(base, fast).tolist() == [1, 1, 1]
    assert rule(fast, base).tolist() == [-1, -1, -1]


def test_asv_calls_nothing_within_its_factor() -> None:
    assert asv()(*sides(1.09)).tolist() == [0, 0, 0]
    assert asv(1.0)(*sides(1.09)).tolist() == [1, 1, 1]


def test_asv_wants_more_than_six_values_a_side() -> None:
    """All of one side below all of the other: p is 2 / 924 for 6 values a side, 2 / 3432 for 7."""
    assert asv()(*sides(1.2, 6)).tolist() == [0, 0, 0]
    assert asv()(*sides(1.2, 7)).tolist() == [1, 1, 1]


def test_criterion_calls_nothing_within_its_noise() -> None:
    assert criterion(*sides(1.009)).tolist() == [0, 0, 0]
    assert criterion(*sides(1.02)).tolist() == [1, 1, 1]


def test_a_rule_at_its_level_calls_as_many_equal_samples_as_it_states() -> None:
    """Google Benchmark's has no threshold besides p, and criterion.rs's can only add to its level of 5 %."""
    rng = np.random.default_rng(3)
    base, fast = (np.exp(0.1 * rng.standard_normal((4000, 20))) for _ in range(2))
    assert 0.04 <= np.abs(google(base, fast)).mean() <= 0.06
    assert 0.01 <= np.abs(criterion(base[:1000], fast[:1000])).mean() <= 0.07
