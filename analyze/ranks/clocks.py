"""The clocks of a job's traces, brought together by what happens everywhere at once: a collective ends on all of its ranks.

    rank 0, clock A      |~~~~~=====|            d[k] = end on B - end on A
    rank 1, clock B          |=====|             offset = median d, drift = its slope, residual = how far the rest lies off

An AllReduce ends on all ranks within the steps of its ring, some microseconds. So the median difference of the ends is the
clocks', whoever began late; it needs no synchronised clocks and no time of day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..intervals import Ints

FEWEST_FOR_DRIFT: Final = 16
"""Collectives that it takes to tell a slope from noise."""

SHRINKS: Final = 0.5
"""A drift is believed where it halves what is left of the differences."""

MOST_DRIFT: Final = 2e-4
"""Two crystals that are each within 100 parts in a million, as computers have them at least. A larger slope is not a clock's,
but that of two groups of ranks that do not run together."""

WITHIN: Final = 0.9
"""The residual is the 90th percentile of what is left: one late end in ten is the ring's, or the operating system's."""


@dataclass(frozen=True, slots=True)
class Fit:
    """``other - (offset + drift * (other - origin))`` is the reference's time, to within `residual_ns`."""

    offset_ns: int
    drift: float
    origin_ns: int
    residual_ns: int

    def to_reference(self, time: Ints) -> Ints:
        """`time` of the other clock on that of the reference."""
        bent = np.rint(self.drift * (time - self.origin_ns)).astype(np.int64) if self.drift else 0
        return time - self.offset_ns - bent


SAME: Final = Fit(0, 0.0, 0, 0)
"""The reference's own clock."""


def fit(reference: Ints, other: Ints) -> Fit:
    """How the clock of `other` runs beside that of `reference`, from the k-th end on both (at least one)."""
    difference = other - reference
    offset = int(np.median(difference))
    plain = _left(difference - offset)
    if len(other) >= FEWEST_FOR_DRIFT:
        half = len(other) // 2
        middle = [float(np.median(part)) for part in (other[:half], other[half:])]
        ends = [float(np.median(part)) for part in (difference[:half], difference[half:])]
        drift = (ends[1] - ends[0]) / max(middle[1] - middle[0], 1.0)
        origin = int(other[0])
        straight = difference - drift * (other - origin)
        bent = int(np.median(straight))
        left = _left(straight - bent)
        if abs(drift) <= MOST_DRIFT and left < SHRINKS * plain:
            return Fit(bent, drift, origin, round(left))
    return Fit(offset, 0.0, 0, round(plain))


def _left(values: npt.NDArray[np.number]) -> float:
    return float(np.quantile(np.abs(values), WITHIN))
