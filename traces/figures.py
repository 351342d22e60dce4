"""Figures that are kept as floats, as people read them: never with an exponent where they are large. Of the standard library
alone, since `expectations.deciding` is. Times in nanoseconds are worded in ``analyze/words.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

_LARGE: Final[Mapping[str, Sequence[tuple[float, float, str]]]] = {
    "ms": ((600_000, 60_000, "min"), (10_000, 1_000, "s")),
    "bytes": ((1e10, 1e9, "GB"), (1e7, 1e6, "MB")),
}
"""Of a unit: from so many on, so many are one of another, which people read more easily; the largest first."""


def significant(value: float, digits: int = 4) -> str:
    """`value` with so many significant digits, a larger one with all its whole digits: ``1.5``, ``0.01234``, ``3,600,000``."""
    text = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in text else text


def scaled(value: float, unit: str, digits: int = 4) -> tuple[str, str]:
    """(`value` of `unit` with so many significant digits, the unit it is in): ten seconds, ten minutes, 10 MB and 10 GB and more
    leave milliseconds and bytes."""
    for least, scale, larger in _LARGE.get(unit, ()):
        if least <= abs(value) < float("inf"):
            return significant(value / scale, digits), larger
    return significant(value, digits), unit


def milliseconds(value: float) -> str:
    """A time that is kept in milliseconds: ``12.35 ms``, ``75.3 s``, ``60 min``."""
    return " ".join(scaled(value, "ms"))
