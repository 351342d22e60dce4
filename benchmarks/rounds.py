"""Rounds of a machine whose true speedup is known, and how often the rule of `expectations/deciding.py` is wrong about it.

A case draws the rounds' ratios as a machine would give them. Its truth is the median over all rounds that this machine
could have run on this occasion, found by drawing very many. Then a bound is put at the truth, where `met` and `missed` are wrong,
and 5 % below it, where `met` is right.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aisp_trace.expectations.deciding import DECIDING, Decision, Sample, decide, error_of

TRIALS: Final = 10_000
TRUTH_TRIALS: Final = 100_000
SPEEDUP: Final = 2.0
ROOM: Final = 0.05
"""How far below the truth the bound lies that measures power."""

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Array]
"""(random source, trials, rounds) -> ratios in the order of the rounds, one row a trial."""


@dataclass(frozen=True, slots=True)
class Case:
    """`modelled`: the rounds keep the assumptions of the interval, so that its rates must hold."""

    name: str
    modelled: bool
    draw: Draw


@dataclass(frozen=True, slots=True)
class Rates:
    """Fractions of all trials. `refused`: inconclusive for a doubt, with the bound 5 % below the truth; `stated`: a side's rate.

    `rounds` is how many a run had on average, with that bound.
    """

    false_met: float
    false_missed: float
    power: float
    refused: float
    rounds: float
    stated: float


@lru_cache(maxsize=256)
def rates(case: Case, n: int, trials: int = TRIALS) -> Rates:
    """The rule applied to `trials` runs of `n` rounds; of up to 40, with all their looks. Seeded by the case's name and `n`."""
    rng = np.random.default_rng(zlib.crc32(f"{case.name} {n}".encode()))
    truth = float(np.median(case.draw(rng, TRUTH_TRIALS, n)))
    looks = DECIDING if n == DECIDING[-1] else (n,)
    count: Counter[str] = Counter()
    for ratios in case.draw(rng, trials, n).tolist():
        at_truth, below = (judged(ratios, bound, looks) for bound in (truth, truth * (1 - ROOM)))
        count["false_met"] += at_truth.status == "met"
        count["false_missed"] += at_truth.status == "missed"
        count["power"] += below.status == "met"
        count["refused"] += bool(below.doubts)
        count["rounds"] += below.estimate.n
    share = {key: value / trials for key, value in count.items()}
    return Rates(**share, stated=error_of(looks))


def judged(ratios: list[float], bound: float, looks: tuple[int, ...]) -> Decision:
    """The verdict at the first look that decides, else at the last: a run of one iteration a round, so mean and median agree."""
    for look in looks:
        seen = tuple(ratios[:look])
        found = decide(Sample(seen, seen), bound, None, looks=looks)
        if found.status != "inconclusive":
            break
    return found


def allowed(rate: float, trials: int = TRIALS) -> float:
    """`rate` and three binomial standard deviations of its estimate."""
    return rate + 3 * sqrt(rate * (1 - rate) / trials)


def _noise(rng: np.random.Generator, trials: int, n: int, base: float, other: float) -> Array:
    """The ratio of two sides with independent lognormal noise of these relative widths."""
    return SPEEDUP * np.exp(base * rng.standard_normal((trials, n)) - other * rng.standard_normal((trials, n)))


def _normal(rng: np.random.Generator, trials: int, n: int) -> Array:
    slow, fast = (1 + 0.01 * rng.standard_normal((trials, n)) for _ in range(2))
    return SPEEDUP * slow / fast


def _heavy(rng: np.random.Generator, trials: int, n: int) -> Array:
    slow, fast = (0.01 * rng.standard_t(2, (trials, n)) for _ in range(2))
    return SPEEDUP * np.exp(np.clip(slow - fast, -2, 2))


def _interrupted(rng: np.random.Generator, trials: int, n: int) -> Array:
    """Only ever slower: an exponential delay on either side."""
    slow, fast = (1 + rng.exponential(0.03, (trials, n)) for _ in range(2))
    return SPEEDUP * slow / fast


def _outliers(rng: np.random.Generator, trials: int, n: int) -> Array:
    hit = rng.random((trials, n)) < 0.1
    return np.where(hit, rng.uniform(1.3, 2, (trials, n)), 1) * _noise(rng, trials, n, 0.01, 0.01)


def _warming(rng: np.random.Generator, trials: int, n: int) -> Array:
    """Each process of the machine is 1 % slower than the one before it; the order alternates."""
    place = np.arange(2 * n).reshape(n, 2)  # first and second process of each round
    place[1::2] = place[1::2, ::-1].copy()
    heat = 1 + 0.01 * place
    return heat[:, 0] / heat[:, 1] * _noise(rng, trials, n, 0.005, 0.005)


def _both_clocks(rng: np.random.Generator, trials: int, n: int) -> Array:
    """A clock state of the machine, 20 % slower in half of the rounds, for both sides of a round: it cancels."""
    state = np.where(rng.random((trials, n)) < 0.5, 1.0, 1.2)
    return (state / state) * _noise(rng, trials, n, 0.01, 0.01)


def _path(shape: Callable[[Array], Array], noise: float = 0.005) -> Draw:
    """The ratio follows `shape` of the run's progress from 0 to 1, the same in every trial."""
    return lambda rng, trials, n: shape(np.linspace(0, 1, n)) * _noise(rng, trials, n, noise, noise)


def _clocks(share: float, slower: float) -> Draw:
    """The optimized side alone has a second clock state, in `share` of the rounds, each drawn anew."""

    def draw(rng: np.random.Generator, trials: int, n: int) -> Array:
        state = np.where(rng.random((trials, n)) < share, 1 - slower, 1.0)
        return state * _noise(rng, trials, n, 0.005, 0.005)

    return draw


def _sticky(rng: np.random.Generator, trials: int, n: int) -> Array:
    """Two clock states of the optimized side, 10 % apart, that stay from one round to the next four times in five."""
    state = np.empty((trials, n), dtype=bool)
    state[:, 0] = rng.random(trials) < 0.5
    for i in range(1, n):
        state[:, i] = state[:, i - 1] ^ (rng.random(trials) < 0.2)
    return np.where(state, 0.9, 1.0) * _noise(rng, trials, n, 0.005, 0.005)


def _related(rho: float) -> Draw:
    """Each round takes over `rho` of the deviation of the one before (AR(1)), 1 % wide."""

    def draw(rng: np.random.Generator, trials: int, n: int) -> Array:
        fresh = rng.standard_normal((trials, n))
        level = np.empty_like(fresh)
        level[:, 0] = fresh[:, 0]
        for i in range(1, n):
            level[:, i] = rho * level[:, i - 1] + sqrt(1 - rho * rho) * fresh[:, i]
        return SPEEDUP * np.exp(0.01 * level)

    return draw


MODELLED: Final = (
    Case("normal noise, 1 % a side", True, _normal),
    Case("lognormal noise, 5 % a side", True, lambda r, t, n: _noise(r, t, n, 0.05, 0.05)),
    Case("heavy tails (Student, 2 degrees), 1 % a side", True, _heavy),
    Case("delays only (exponential), 3 % a side", True, _interrupted),
    Case("5 % on one side, 0.3 % on the other", True, lambda r, t, n: _noise(r, t, n, 0.05, 0.003)),
    Case("outliers: one round in ten 30 to 100 % off", True, _outliers),
    Case("linear drift of the machine, 1 % a process", True, _warming),
    Case("two clocks of the machine, 20 % apart", True, _both_clocks),
)

BROKEN: Final = (
    Case("linear drift of the ratio, 2 % over the run", False, _path(lambda x: 1 - 0.02 * x)),
    Case("linear drift of the ratio, 15 % over the run", False, _path(lambda x: 1 - 0.15 * x)),
    Case("step: 5 % slower after half of the run", False, _path(lambda x: np.where(x < 0.5, 1, 0.95))),
    Case("step: 5 % slower after a quarter of the run", False, _path(lambda x: np.where(x < 0.25, 1, 0.95))),
    Case("thermal: 10 % slower, most of it at first", False, _path(lambda x: 0.9 + 0.1 * np.exp(-4 * x))),
    Case("two clocks of one side, 10 % apart, half of the rounds", False, _clocks(0.5, 0.1)),
    Case("two clocks of one side, 10 % apart, a quarter of the rounds", False, _clocks(0.25, 0.1)),
    Case("two clocks of one side, 3 % apart, half of the rounds", False, _clocks(0.5, 0.03)),
)

LIMITS: Final = (
    Case("each round takes over 0.3 of the last one's deviation", False, _related(0.3)),
    Case("each round takes over half of the last one's deviation", False, _related(0.5)),
    Case("each round takes over 0.8 of the last one's deviation", False, _related(0.8)),
    Case("two clocks of one side that stay for five rounds", False, _sticky),
)
"""Rounds that depend on each other: what no rule can see from within a few of them."""

GOOD: Final = tuple(
    Case(f"{w:.1%} a side".replace("%", " %"), True, lambda r, t, n, w=w: _noise(r, t, n, w, w))  # type: ignore[misc]
    for w in (0.003, 0.01, 0.02, 0.03, 0.05, 0.08)
)
"""Good runs of growing noise, for the share that is called inconclusive although the bound lies 5 % below the truth."""
