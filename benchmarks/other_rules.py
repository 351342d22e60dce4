"""What asv, Google Benchmark and criterion.rs would say of the same times, written from what their sources do.

Every rule takes the times of two sides, one row a run and one time a round, and answers per run 1 (the second side is faster), -1
(slower) or 0 (no change is called). They ask whether two samples differ. To ask about a bound, divide the first side's times
by it: then "no difference" is "exactly the bound". Times are continuous here, so ties are left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from math import comb, erfc, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Calls = NDArray[np.int64]
Rule = Callable[[Array, Array], Calls]

ASV_P: Final = 0.002
"""asv's threshold of p (asv/_stats.py, `is_different`)."""

ASV_FACTOR: Final = 1.1
"""asv's `--factor` where none is given (asv/commands/common_args.py)."""

ASV_EXACT: Final = 20
"""Largest sample for which asv counts orders; above, it takes the normal distribution (asv/_stats.py, `mann_whitney_u`)."""

GOOGLE_ALPHA: Final = 0.05
"""Google Benchmark's `--alpha` where none is given (tools/compare.py)."""

SCIPY_EXACT: Final = 8
"""SciPy 1.18 counts orders where a sample is no larger than this and nothing ties; else normal with continuity correction."""

CRITERION_LEVEL: Final = 0.05
"""criterion.rs: significance level, and one less its confidence level (src/lib.rs, `Default for Criterion`)."""

CRITERION_NOISE: Final = 0.01
"""criterion.rs: relative changes within this are noise (src/lib.rs)."""

CRITERION_RESAMPLES: Final = (2000, 317, 7)
"""Resamples of t; those of one side's mean; and, for each of these, of the other's. criterion.rs draws 100,000, 317 and 316: a
p near 0.05 is known to 0.005 here, to 0.0007 there."""

_CHUNK: Final = 500
"""Runs that share their resamples, so that ten thousand runs take seconds."""


def asv(factor: float = ASV_FACTOR) -> Rule:
    """`asv compare` and `asv continuous`: Mann-Whitney's U with p < 0.002, and medians more than `factor` apart.

    Source: asv 0.6, asv/commands/compare.py (`_is_result_better`), asv/_stats.py at commit 4b9cb9b (`is_different`: two-sided,
    exact to 20 values, then normal without continuity correction), asv/commands/common_args.py at 013667f. From 7 values
    a side the U test can reach 0.002, so that asv's interval check for smaller samples never speaks here.
    """

    def rule(base: Array, fast: Array) -> Calls:
        exact = base.shape[1] <= ASV_EXACT
        different = u_test(base, fast, exact=exact, continuity=0.0) < ASV_P
        before, after = np.median(base, axis=1), np.median(fast, axis=1)
        return _called(different & (after < before / factor), different & (before < after / factor))

    return rule


def google(base: Array, fast: Array) -> Calls:
    """Google Benchmark's `tools/compare.py`: Mann-Whitney's U, two-sided, p < 0.05; below 9 repetitions it adds a warning.

    Source: google/benchmark, tools/compare.py at commit 0d933be and tools/gbench/report.py at b93f5a5 (`calc_utest`,
    `print_utest`), with the SciPy 1.18 that tools/requirements.txt at 231fffe asks for. It colours p and leaves it to the
    reader which side is faster; here that is the side on which U says so.
    """
    exact = base.shape[1] <= SCIPY_EXACT
    different = u_test(base, fast, exact=exact, continuity=0.5) < GOOGLE_ALPHA
    half = base.shape[1] * fast.shape[1] / 2
    u = u_statistic(base, fast)
    return _called(different & (u > half), different & (u < half))


def criterion(base: Array, fast: Array) -> Calls:
    """criterion.rs: a bootstrapped t test of the means, p < 0.05, and a 95 % interval of their relative change beyond 1 %.

    Source: bheisler/criterion.rs, src/analysis/compare.rs at commit f1ea31a (t of the pooled sample's resamples; the change
    from one side's resamples, each against many of the other's), src/stats/univariate/sample.rs at 09efa53 (Welch's t),
    src/report.rs (`compare_to_threshold`: by the mean), src/lib.rs at deb0eb0 (levels).
    """
    rng = np.random.default_rng(zlib.crc32(f"criterion {base.shape[1]}".encode()))
    parts = [_criterion(rng, base[i : i + _CHUNK], fast[i : i + _CHUNK]) for i in range(0, len(base), _CHUNK)]
    return np.concatenate(parts)


def _criterion(rng: np.random.Generator, base: Array, fast: Array) -> Calls:
    n = base.shape[1]
    pooled, ones, each = CRITERION_RESAMPLES
    picks = rng.integers(0, 2 * n, (pooled, 2 * n))
    both = np.concatenate([fast, base], axis=1)
    both = both - both.mean(axis=1, keepdims=True)  # t does not see it, and squares stay small
    (mean_a, var_a), (mean_b, var_b) = (_moments(both, p) for p in (picks[:, :n], picks[:, n:]))
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = (mean_a - mean_b) / np.sqrt((var_a + var_b) / n)
    seen = (fast.mean(axis=1) - base.mean(axis=1)) / np.sqrt((fast.var(axis=1, ddof=1) + base.var(axis=1, ddof=1)) / n)
    finite = np.isfinite(resampled)
    below = ((resampled < seen[:, None]) & finite).sum(axis=1)
    total = finite.sum(axis=1)
    different = 2 * np.minimum(below, total - below) / total < CRITERION_LEVEL

    after = _means(fast, rng.integers(0, n, (ones, n)))
    before = _means(base, rng.integers(0, n, (ones * each, n)))
    change = (np.repeat(after, each, axis=1) / before) - 1
    low, high = np.percentile(change, [100 * CRITERION_LEVEL / 2, 100 - 100 * CRITERION_LEVEL / 2], axis=1)
    return _called(different & (high < -CRITERION_NOISE), different & (low > CRITERION_NOISE))


def _moments(values: Array, picks: NDArray[np.int64]) -> tuple[Array, Array]:
    """Mean and variance of every resample, one row a run."""
    n = picks.shape[1]
    mean, square = _means(values, picks), _means(values**2, picks)
    return mean, np.maximum(square - mean**2, 0) * n / (n - 1)


def _means(values: Array, picks: NDArray[np.int64]) -> Array:
    """Means of the resamples `picks` of each row, by one product with how often each value was drawn."""
    drawn = np.zeros((len(picks), values.shape[1]))
    np.add.at(drawn, (np.arange(len(picks))[:, None], picks), 1 / picks.shape[1])
    product: Array = values @ drawn.T
    return product


def _called(faster: NDArray[np.bool_], slower: NDArray[np.bool_]) -> Calls:
    return faster.astype(np.int64) - slower.astype(np.int64)


def u_statistic(x: Array, y: Array) -> NDArray[np.int64]:
    """Per row, in how many pairs the value of `x` is above that of `y`."""
    m = x.shape[1]
    order = np.argsort(np.concatenate([x, y], axis=1), axis=1)
    places = np.argsort(order, axis=1)[:, :m]  # from 0: how many values are below
    found: NDArray[np.int64] = places.sum(axis=1) - m * (m - 1) // 2
    return found


def u_test(x: Array, y: Array, *, exact: bool, continuity: float) -> Array:
    """Two-sided p of Mann-Whitney's U per row: by counting orders, or normal with this continuity correction.

    (H. B. Mann and D. R. Whitney, Annals of Mathematical Statistics 18, 1947.)
    """
    m, n = x.shape[1], y.shape[1]
    u = u_statistic(x, y)
    least = np.minimum(u, m * n - u)
    if exact:
        below = np.cumsum([count / comb(m + n, m) for count in _orders(m, n)])
        p: Array = 2 * below[least]
    else:
        width = sqrt(m * n * (m + n + 1) / 12)
        p = np.array([erfc(max(m * n / 2 - k - continuity, 0.0) / width / sqrt(2)) for k in range(m * n // 2 + 1)])[
            least
        ]
    return np.minimum(p, 1.0)


@lru_cache(maxsize=4096)
def _orders(m: int, n: int) -> tuple[int, ...]:
    """In how many orders of m and n values U is 0, 1, 2 ... m n. The largest value is of one side or the other."""
    if m == 0 or n == 0:
        return (1,)
    counts = [0] * (m * n + 1)
    for k, count in enumerate(_orders(m, n - 1)):
        counts[k] += count
    for k, count in enumerate(_orders(m - 1, n)):
        counts[k + n] += count
    return tuple(counts)
