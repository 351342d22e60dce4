"""Bounds from measurements: how far a later, honest run of the same machine may lie from the ones at hand.

Each occasion (a run) offers an interval [low, high] around its value. Over all occasions, `low` is the least low end and
`high` the greatest high end, so a bound is never inside anything that was measured. Then

    reach  = max(widest interval of an occasion, range of the occasions' values, allowance)
    bound  = low - reach  and  high + reach, rounded outwards

A confidence interval says where this occasion's median lies, not where the next one's will: its own width once more is
what that costs. `allowance` stands in for what a single occasion cannot show, the spread between occasions, and is zero
from the second one on:

    times and throughputs   OCCASION of the value
    metrics of a trace      twice what the judge allows between two starts of a machine (`judge.between_starts`): once for where
                            the next one lies, once for its own interval; also from the second occasion on

Counts are exact: the bound is the count, and occasions that disagree have none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ..deciding import OCCASION
from ..judging.starts import LEAST_FRACTION
from ..judging.verdict import Verdict
from ..model import Bound

DIGITS: Final = 3
"""Significant figures of a bound that is not a fraction."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One occasion's answer for one bounded part: `low` and `high` equal `value` where it has no interval.

    `spread` is (max - min) of the rounds, in the unit of the value; the interval's width where no rounds are known.
    """

    value: float
    low: float
    high: float
    n: int
    sample: str
    spread: float


def measured(verdict: Verdict, *, rounds: Sequence[float] = ()) -> Measured:
    """What a judge found, from a verdict that has a value.

    A bound must hold by mean and by median, so the interval covers those of both. `rounds` are the values of the single rounds.
    """
    assert verdict.value is not None
    found = (verdict.value, verdict.low, verdict.high, verdict.other_low, verdict.other_high)
    ends = [v for v in found if v is not None]
    low, high = min(ends), max(ends)
    spread = max(rounds) - min(rounds) if rounds else high - low
    return Measured(verdict.value, low, high, verdict.n, verdict.sample, spread)


def band(occasions: Sequence[Measured], *, floor: float | None = None, allowance: float | None = None) -> Bound:
    """Both ends for a relative quantity; `floor` is the least the lower end may be while all of the data lies above it.

    `allowance` replaces that of a single occasion.
    """
    low, high, reach = _around(occasions, _relative_allowance(occasions) if allowance is None else allowance)
    minimum = round_down(low - reach)
    if floor is not None and low > floor:
        minimum = max(minimum, floor)
    return Bound(minimum, round_up(high + reach))


def limit(occasions: Sequence[Measured]) -> float:
    """The upper end for an absolute time: the intervals and the spread between rounds, which is wider."""
    _, high, reach = _around(occasions, _relative_allowance(occasions))
    return round_up(high + max(reach, *(o.spread for o in occasions)))


def least(occasions: Sequence[Measured]) -> float:
    """The lower end for a throughput, by the same rule as `limit`; 0 < least where all values are."""
    low, _, reach = _around(occasions, _relative_allowance(occasions))
    return round_down(max(low - max(reach, *(o.spread for o in occasions)), low / 2))


def fraction(occasions: Sequence[Measured], allowance: float) -> Bound:
    """Both ends of a share of something, inside [0, 1] and in hundredths."""
    low, high, reach = _around(occasions, max(allowance, LEAST_FRACTION))
    # 1e-9: 0.13 is 13.000000000000002 hundredths
    minimum, maximum = math.floor((low - reach) * 100 + 1e-9) / 100, math.ceil((high + reach) * 100 - 1e-9) / 100
    return Bound(max(minimum, 0.0), min(maximum, 1.0))


def exact(occasions: Sequence[Measured]) -> Bound | None:
    """The count itself; null where occasions disagree, which no exact count does."""
    values = {o.value for o in occasions}
    return Bound(*(values.pop(),) * 2) if len(values) == 1 else None


def round_down(value: float) -> float:
    """`value` with `DIGITS` significant figures, towards minus infinity."""
    return _rounded(value, math.floor)


def round_up(value: float) -> float:
    """`value` with `DIGITS` significant figures, towards infinity."""
    return _rounded(value, math.ceil)


def _around(occasions: Sequence[Measured], allowance: float) -> tuple[float, float, float]:
    values = [o.value for o in occasions]
    widest = max(o.high - o.low for o in occasions)
    reach = max(widest, max(values) - min(values), allowance)
    return min(o.low for o in occasions), max(o.high for o in occasions), reach


def _relative_allowance(occasions: Sequence[Measured]) -> float:
    return OCCASION * abs(occasions[0].value) if len(occasions) == 1 else 0.0


def _rounded(value: float, towards: Callable[[float], int]) -> float:
    if value == 0:
        return 0.0
    places = DIGITS - 1 - math.floor(math.log10(abs(value)))
    # Through decimal text, so that 8.78 stays 8.78 and no bound shows binary dust.
    scaled = towards(round(value * 10.0**places, 6))
    return float(f"{scaled}e{-places}")
