"""Recordings of a machine whose truth is known, and how often a mechanism's interval is wrong about it.

The metric is a fraction. Recordings of different starts of the machine lie `STARTS` from the truth, as a standard deviation. Of
that, `WITHIN` is the recording's own: the standard error of the mean of its iterations. Recordings of one start share the
rest. The bound is at the truth, where every `met` and every `missed` is an error.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import fmean, stdev
from typing import Final

import numpy as np

from aisp_trace.benchmarks.rounds import TRIALS, Array
from aisp_trace.expectations.deciding import inside, median_interval, outside
from aisp_trace.expectations.judging.starts import STARTS, interval
from aisp_trace.expectations.model import Bound, MechanismClaim, Source

WITHIN: Final = 0.004
"""How far recordings of one start lie apart in this project's own runs, as a standard deviation (docs/decisions.md)."""

RECORDINGS: Final = (1, 2, 3, 5, 10)

ITERATIONS: Final = 10
STUDENT_9: Final = 3.250
"""The 0.995 quantile of Student's t for 9 degrees of freedom: of ten iterations."""

STATED: Final = 0.005
"""One side of a 99 % interval."""


@dataclass(frozen=True, slots=True)
class Spread:
    """`apart`: each recording is of a start of its own; `judged_apart`: it is judged so.

    `times` is the true over the expected spread; `on_top`: the recording's own spread comes on top of `STARTS`.
    """

    name: str
    apart: bool = False
    judged_apart: bool = False
    times: float = 1.0
    on_top: bool = False
    truth: float = 0.5


EXPECTED: Final = (
    Spread("one start, spread as expected"),
    Spread("several starts, spread as expected", apart=True, judged_apart=True),
    Spread("one start, a fraction of 0.02, spread as expected there", truth=0.02),
)
"""What the rule assumes: here its rates must hold."""

DOUBTFUL: Final = (
    Spread("one start, expected spread without the recording's own", on_top=True),
    Spread("one start, true spread twice the expected", times=2),
    Spread("several starts, true spread twice the expected", apart=True, judged_apart=True, times=2),
    Spread("one start, true spread four times the expected", times=4),
    Spread("several starts, true spread four times the expected", apart=True, judged_apart=True, times=4),
    Spread("one start, but judged as several", judged_apart=True),
)

OLD: Final = ("t interval of ten iterations", "median interval of ten iterations")
"""Rules that take the iterations of one process for the evidence."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """Fractions of all trials; `covered`: the interval holds the truth."""

    met: float
    missed: float
    covered: float


@lru_cache(maxsize=128)
def wrong(spread: Spread, n: int, trials: int = TRIALS) -> Wrong:
    """The rule of `expectations/judging/starts.py` on `n` recordings a trial. Seeded by the spread's name and `n`."""
    rng = np.random.default_rng(zlib.crc32(f"{spread.name} {n}".encode()))
    intervals = []
    for values in _recordings(rng, spread, trials, n).tolist():
        found = interval(_CLAIM, values, apart=spread.judged_apart)
        intervals.append((found.low, found.high))
    return _counted(intervals, spread.truth)


@lru_cache(maxsize=8)
def old_wrong(name: str, trials: int = TRIALS) -> Wrong:
    """A rule of `OLD` on the ten iterations of one recording."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    start = sqrt(STARTS**2 - WITHIN**2) * rng.standard_normal((trials, 1))
    iterations = 0.5 + start + WITHIN * sqrt(ITERATIONS) * rng.standard_normal((trials, ITERATIONS))
    intervals = []
    for values in iterations.tolist():
        if name.startswith("t "):
            half = STUDENT_9 * stdev(values) / sqrt(ITERATIONS)
            intervals.append((fmean(values) - half, fmean(values) + half))
        else:
            found = median_interval(values)
            assert found.low is not None and found.high is not None  # ten values have one
            intervals.append((found.low, found.high))
    return _counted(intervals, 0.5)


def _recordings(rng: np.random.Generator, spread: Spread, trials: int, n: int) -> Array:
    scale = 2 * sqrt(spread.truth * (1 - spread.truth))
    start = spread.times * STARTS
    if not spread.on_top:
        start = sqrt(start**2 - WITHIN**2)
    starts = start * rng.standard_normal((trials, n if spread.apart else 1))
    values: Array = spread.truth + scale * (starts + WITHIN * rng.standard_normal((trials, n)))
    return values


def _counted(intervals: list[tuple[float, float]], truth: float) -> Wrong:
    met = sum(inside(low, high, truth, None) for low, high in intervals)
    missed = sum(outside(low, high, truth, None) for low, high in intervals)
    trials = len(intervals)
    return Wrong(met / trials, missed / trials, 1 - (met + missed) / trials)


_CLAIM: Final = MechanismClaim(
    id="simulated",
    workload="simulated",
    variant="optimized",
    metric="overlap.hidden",
    of="copy|compute",
    bound=Bound(0.5, None),
    unit="fraction",
    why="simulated",
    source=Source(kind="model", run=None, text="simulated"),
)
