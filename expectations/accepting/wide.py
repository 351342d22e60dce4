"""Bounds that say little: so far from what was measured that a clear regression would still meet them.

A bound leaves room beyond everything that was measured (``derive.py``). Rounds that scatter make it true and useless, such as
1 .. 18 for a speedup of 4. It may be written, but whoever relies on it should know, and know what narrows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Final

from ...traces.figures import milliseconds, significant
from ..deciding import OCCASION, is_wide, own_bound
from ..model import Bound

TIMES: Final = 2.0
"""A time, rate or ratio that may become this many times worse and still meet its bound is hardly bounded."""

SHARE: Final = 0.25
"""The same for a share of something, as a difference: a quarter of the whole."""


def wide_speedup(
    bound: Bound, ratios: Sequence[float], occasions: int, ends: tuple[float, float] | None = None
) -> Iterator[str]:
    """A sentence if a run that lost more of its speedup than it kept would meet `bound`; `ratios` are those of all rounds, `ends`
    those of the interval that it leaves room beyond."""
    middle = median(ratios)
    if bound.minimum is None or not is_wide(bound.minimum, middle):
        return
    told = f"the speedup was {significant(middle)}, and {significant(bound.minimum)} would still meet {bound}"
    if occasions == 1 and max(ratios) - min(ratios) <= OCCASION * middle:
        yield f"{told}: one run cannot show how far days differ, so {OCCASION:.0%} stand in; accept runs of several days"
    else:
        if ends is not None:
            told += f" ({_own(*ends)})"
        yield told + _scattered(ratios, lambda ratio: f"{significant(ratio)}x")


def _own(low: float, high: float) -> str:
    """What somebody may ask for who decides a bound alone, where by mean and median the speedup lies between `low` and `high`."""
    asked = own_bound(low, high)
    found = f"by mean and median it lies between {significant(low)} and {significant(high)}"
    if asked <= 1:
        return f"{found}; with this much scatter no bound can guard a gain of that size"
    return f"{found}; a bound of your own may ask for {significant(asked)}, which an equally noisy run would meet"


def wide_limit(name: str, most_ms: float, times_ms: Sequence[float]) -> Iterator[str]:
    """A sentence if `name` could take `TIMES` as long as in the middle round and stay below `most_ms`."""
    if most_ms > TIMES * median(times_ms):
        times = most_ms / median(times_ms)
        told = (
            f"{name} took {milliseconds(median(times_ms))}, and {significant(times, 2)} times that would "
            f"still meet <= {milliseconds(most_ms)}"
        )
        yield told + _scattered(times_ms, milliseconds)


def wide_metric(bound: Bound, values: Sequence[float], *, share: bool) -> Iterator[str]:
    """A sentence for each end of `bound` that is far from the middle of `values`; `share` says that they are fractions."""
    middle = median(values)
    for end, sign in ((bound.minimum, 1), (bound.maximum, -1)):
        if end is None:
            continue
        good, bad = (middle, end) if sign > 0 else (end, middle)
        if good - bad > SHARE if share else good > TIMES * bad:
            yield (
                f"{significant(middle)} was measured, and {significant(end)} would still meet {bound}: the recordings "
                "lie far apart; record again on a quieter machine, with more of them (--recordings 5)"
            )


def _scattered(values: Sequence[float], shown: Callable[[float], str]) -> str:
    return (
        f": the rounds scatter from {shown(min(values))} to {shown(max(values))}; capture "
        "again with longer or more iterations in a process, or on a quieter machine, and accept that run"
    )
