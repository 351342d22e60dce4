"""How far a metric of a trace lies from one start of a machine to another: what one recording cannot say of itself."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import Final

from ..metrics.registry import greatest
from ..model import MechanismClaim

STARTS: Final = 0.0136
"""The usual spread of a share of time between starts of a machine, as a standard deviation: that of this project's own
recordings, which lie 0.004 apart within one start (docs/verdicts.md)."""

ENOUGH_STARTS: Final = 5
"""Starts whose own spread is believed although it is smaller than the usual one."""

OCCASION: Final = 0.05
"""How far apart two occasions may lie while only one has been seen. A convention, stated in ``docs/verdicts.md``; a
second run replaces it by what is measured."""

LEAST_FRACTION: Final = 0.005
"""Fractions are bounded in steps of 0.01, and never closer than half a step."""

SURE: Final = NormalDist().inv_cdf(0.995)
COVERED: Final = 0.99
"""How much of a normal spread lies within `SURE` of its standard deviations."""


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
