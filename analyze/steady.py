"""The steady state of a trace: its iterations, which of them are warm-up, and how long the others are.

Plain values; ``attribution/steady.py`` finds them and has the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np

from .intervals import Ints

LEAST_EXCESS: Final = 1.25
"""Times the median: the least that is called slow."""

SPREADS: Final = 4
"""Standard deviations above the median that are called slow; of normally spread times one in 30,000 is."""

SIGMA: Final = 1.4826
"""Standard deviation over median absolute deviation of normally spread values."""

SHOWN: Final = 10
"""Outliers and other sequences that are listed."""

FoundBy = Literal["option", "name", "repetition", "kernels"]
"""By `--iterations`, by what they are called, by a range that repeats, or by kernels that do."""


BUNCHED: Final = 0.1
"""From this part of all iterations on, and from `FEWEST_LONG` on, long ones are no outliers but how the program works: ten
workers that finish together hand out ten batches at once."""

FEWEST_LONG: Final = 3
"""Two long iterations may be chance."""

LONG: Final = 1.5
"""An iteration this many times the median is a long one."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One iteration. `name` is what it was recorded as, with ``#k`` where others are called the same, as `--window` takes it."""

    name: str
    start_ns: int
    end_ns: int

    @property
    def ns(self) -> int:
        """Its length."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class Other:
    """A sequence that could have been the iterations: its folded path, number and total length."""

    path: str
    instances: int
    ns: int


@dataclass(frozen=True, slots=True)
class Steady:
    """The iterations of a trace in order of time: `warm_up` leading ones are set aside because of `why`, the rest is steady.

    `window` holds the steady ones of every thread that runs them; `ops` are the first op's start and the last one's end.
    `window` ends `behind_ns` later than they do where the devices had not done their work by then.
    `path` is the range's folded path. Found by ``kernels`` it is the one that an iteration begins with, `every` so many ops of
    its stream, and all times are the device's.
    """

    path: str
    found_by: FoundBy
    instances: tuple[Instance, ...]
    warm_up: int
    why: str
    others: tuple[Other, ...]
    window: tuple[int, int]
    ops: tuple[int, int] | None
    every: int | None = None
    behind_ns: int = 0

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """From its fields as JSON gives them."""
        lists = {
            "instances": tuple(Instance(**one) for one in fields["instances"]),
            "others": tuple(Other(**one) for one in fields["others"]),
            "window": tuple(fields["window"]),
            "ops": None if fields["ops"] is None else tuple(fields["ops"]),
        }
        return cls(**{**fields, **lists})

    @property
    def steady(self) -> tuple[Instance, ...]:
        """Those that are counted."""
        return self.instances[self.warm_up :]

    @property
    def set_aside(self) -> tuple[Instance, ...]:
        """The warm-up."""
        return self.instances[: self.warm_up]

    @property
    def start_up_ns(self) -> int:
        """From the first op to the first iteration; 0 if it begins before."""
        return 0 if self.ops is None else max(self.instances[0].start_ns - self.ops[0], 0)

    @property
    def after_ns(self) -> int:
        """From the end of the steady window to that of the last op; 0 if it ends before."""
        return 0 if self.ops is None else max(self.ops[1] - self.window[1], 0)

    @property
    def between_ns(self) -> int:
        """Time between steady iterations: none of them, but in the window."""
        times = self.steady
        return times[-1].end_ns - times[0].start_ns - sum(one.ns for one in times)

    @property
    def median_ns(self) -> float:
        """Median length of the steady iterations."""
        return float(np.median(_lengths(self.steady)))

    @property
    def mean_ns(self) -> float:
        """Their mean length: what their number and their sum say."""
        return float(np.mean(_lengths(self.steady)))

    @property
    def of_ranges(self) -> tuple[int, int]:
        """The window of the ranges alone, which the devices' work may go beyond."""
        return self.window[0], self.window[1] - self.behind_ns

    @property
    def by_mean(self) -> bool:
        """Whether one iteration says little of the others: long ones come in bunches, or the host ran ahead."""
        return self.behind_ns > 0 or in_bunches([one.ns for one in self.steady])

    @property
    def each_ns(self) -> float:
        """What an iteration takes: the median, or the mean; where the host ran ahead, the devices' mean."""
        if self.behind_ns:
            return (self.window[1] - self.window[0]) / len(self.steady)
        return self.mean_ns if self.by_mean else self.median_ns

    @property
    def p90_ns(self) -> int:
        """Their 90th percentile: nearest rank, a length that occurred."""
        ordered = np.sort(_lengths(self.steady))
        return int(ordered[-(-len(ordered) * 9 // 10) - 1])

    @property
    def slowest(self) -> Instance:
        """The longest of them, the first of several."""
        return self.steady[int(np.argmax(_lengths(self.steady)))]

    @property
    def outliers(self) -> tuple[Instance, ...]:
        """Those longer than the `limit` of all, the longest first; at most `SHOWN`."""
        most = limit(_lengths(self.steady))
        slow = sorted((one for one in self.steady if one.ns > most), key=lambda one: (-one.ns, one.start_ns))
        return tuple(slow[:SHOWN])


def in_bunches(lengths: Sequence[int]) -> bool:
    """Whether long iterations are too many to be outliers, and still the fewer ones."""
    median = sorted(lengths)[(len(lengths) - 1) // 2] if lengths else 0
    long = sum(one >= LONG * median for one in lengths)
    return FEWEST_LONG <= long < len(lengths) - long and long >= BUNCHED * len(lengths)


def limit(length: Ints) -> float:
    """The length above which an iteration is slow beside those of `length` (at least one)."""
    middle = float(np.median(length))
    spread = SIGMA * float(np.median(np.abs(length - middle)))
    return max(LEAST_EXCESS * middle, middle + SPREADS * spread)


def _lengths(some: Sequence[Instance]) -> Ints:
    return np.array([one.ns for one in some], np.int64)
