"""How far a metric of a trace lies from one start of a machine to another: what one recording cannot say of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from statistics import NormalDist, fmean, stdev
from typing import Final

from ..metrics.registry import greatest
from ..model import MechanismClaim

STARTS: Final = 0.0136
"""The usual spread of a share of time between starts of a machine, as a standard deviation: that of this project's own
recordings, which lie 0.004 apart within one start (docs/verdicts.md)."""

ENOUGH_STARTS: Final = 5
"""Starts whose own spread is believed although it is smaller than the usual one."""

LEAST_FRACTION: Final = 0.005
"""Fractions are bounded in steps of 0.01, and never closer than half a step."""

SURE: Final = NormalDist().inv_cdf(0.995)
COVERED: Final = 0.99
"""How much of a normal spread lies within `SURE` of its standard deviations."""

_STUDENT: Final = (63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250)
"""The 0.995 quantiles of Student's t for 1 to 9 degrees of freedom."""

_CHI_SQUARE: Final = (6.635, 9.210, 11.345, 13.277, 15.086, 16.812, 18.475, 20.090, 21.666)
"""The 0.99 quantiles of chi-square for 1 to 9 degrees of freedom."""


def between_starts(claim: MechanismClaim, value: float) -> tuple[float, bool]:
    """(standard deviation of `value` from one start of a machine to another, whether it was measured for this claim).

    The usual one is `STARTS`: of the value itself, or, for a fraction f, of ``2 sqrt(f (1 - f))``, which shrinks near none and
    all. What `accept` measured over several starts goes before it where it is larger, or has `ENOUGH_STARTS` behind it.
    """
    usual = STARTS * abs(value)
    if greatest(claim.metric, claim.unit) is not None:
        inside = min(max(value, 0.0), 1.0)
        usual = STARTS * 2 * sqrt(inside * (1 - inside))
    known = claim.provenance
    if known is None or known.between is None:
        return usual, False
    enough = (known.starts or 0) >= ENOUGH_STARTS
    return (known.between, True) if enough or known.between > usual else (usual, False)


@dataclass(frozen=True, slots=True)
class Recordings:
    """What recordings say of a metric: the 99 % interval, and the spread between starts that it rests on.

    `measured` says that `accept` measured that spread for the claim; `contradicted`, that the recordings lie too far apart for
    it.
    """

    low: float
    high: float
    between: float
    measured: bool
    contradicted: bool


def interval(claim: MechanismClaim, values: Sequence[float], *, apart: bool = False) -> Recordings:
    """The interval of `claim`'s metric from its `values` in 1 to 10 recordings, kept inside [0, 1] for a fraction.

    For a fraction with the usual spread Wilson's ends count where they lie further out: near none and all, a value that came out
    extreme would else be too sure of itself. `apart` is that of `interval_of_recordings`.
    """
    mean = fmean(values)
    between, known = between_starts(claim, mean)
    low, high, contradicted = interval_of_recordings(values, between, apart=apart)
    if greatest(claim.metric, claim.unit) is not None:
        if not known and 0 <= mean <= 1:
            below, above = _wilson(mean, len(values) if apart else 1)
            low, high = min(low, below), max(high, above)
        low, high = max(low, 0.0), min(high, max(mean, 1.0))
    return Recordings(low, high, between, known, contradicted)


def _wilson(value: float, starts: int) -> tuple[float, float]:
    """Wilson's 99 % interval of a fraction whose standard deviation is ``STARTS 2 sqrt(f (1 - f) / starts)`` at the truth f."""
    n = starts / (2 * STARTS) ** 2
    middle = (value + SURE**2 / (2 * n)) / (1 + SURE**2 / n)
    half = SURE / (1 + SURE**2 / n) * sqrt(value * (1 - value) / n + SURE**2 / (4 * n**2))
    return middle - half, middle + half


def interval_of_recordings(
    values: Sequence[float], between: float, *, apart: bool = False
) -> tuple[float, float, bool]:
    """(low, high, whether the values contradict `between`): the 99 % interval around the mean of 1 to 10 recordings.

    `between` is the standard deviation that `between_starts` expects. Recordings of one start of the machine share how far that
    start lies from the next: however many they are, the interval stays as wide as for one. Recordings that are `apart`, each
    of a start of its own, narrow it by the root of their number. Those that lie further apart than expected widen it. If they lie
    too far apart for `between` to be true (chi-square, 1 in 100), their own spread goes in by Student: alone if they are
    `apart`, else on top of `between`. Tried in benchmarks/recordings.py.
    """
    mean, n = fmean(values), len(values)
    own = stdev(values) if n > 1 else 0.0
    half = SURE * max(between, own) / (sqrt(n) if apart else 1.0)
    contradicted = n > 1 and (n - 1) * own**2 > _CHI_SQUARE[n - 2] * between**2
    if contradicted:
        half = hypot(0.0 if apart else SURE * between, _STUDENT[n - 2] * own / sqrt(n))
    return mean - half, mean + half, contradicted
