"""Where the saved time went: the difference of two ledgers, cell by cell, to the last nanosecond.

    baseline window   |======================================|
    d2h  d2h          |                    ------------------   -580.868
    h2d  h2d          |              ------                      -99.723
    d2h  idle: ...    |          ----                            -38.673
    ...
    optimized window  |==========|                               the bars between add up to the difference, exactly

A *term* is the optimized cell minus the baseline cell of equal (device, stage, category, cause), stages matched by
`matching.stage_key`, whole graphs counted as ``compute``. A ledger's cells sum to its window, so the terms sum to the
difference of the windows; that is asserted here, not assumed.

Two recordings with different numbers of iterations did different amounts of work. They are compared per iteration, in
units of 1/L ns, where L is the least common multiple of the numbers: every term stays an integer, and the sum stays exact.
So are the steady iterations of two programs, where the number is chance and people ask for one; a workload's variants, which
run a stated number of them, are compared by their whole windows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from .matching import UNPLACED, labels
from .sides import Account, Key


@dataclass(frozen=True, slots=True)
class Spread:
    """One cell over the iterations of one side, in ns: quartiles and extremes; of a single iteration all are equal."""

    n: int
    median: float
    lower: float
    upper: float
    minimum: int
    maximum: int

    @property
    def width(self) -> float:
        """The interquartile range."""
        return self.upper - self.lower


@dataclass(frozen=True, slots=True)
class Layout:
    """What all sides of a comparison share, so that the steps of a ladder add up.

    `weights` multiply each side's ns and `denominator` divides the products: 1 and 1 where windows are compared whole, L / n
    and L where iterations are. `per` is ``window`` or ``iteration``. `by_device`: the k-th device is held against the k-th;
    else, their numbers being unequal, the devices of each side are added up. `work` says what iterations tell about the work:
    ``equal``, ``scaled`` (other numbers of iterations, compared per iteration) or ``unknown``.
    """

    accounts: tuple[Account, ...]
    weights: tuple[int, ...]
    denominator: int
    per: str
    by_device: bool
    work: str
    labels: Mapping[str, str]

    @property
    def host(self) -> bool:
        """Whether no side recorded a device: there are no kernels then, and what is not compute is not idle."""
        return all(account.host for account in self.accounts)

    def ns(self, value: int) -> float:
        """A difference in ns (per iteration where iterations are compared); for showing only."""
        return value / self.denominator


@dataclass(frozen=True, slots=True)
class Term:
    """One part of the difference. `base_ns` and `opt_ns` are of the whole windows, `difference` is in 1/denominator ns.

    `status` is ``matched``, or ``added`` or ``removed`` for a stage that only one side has.
    """

    device: int | None
    stage: str
    category: str
    cause: str | None
    status: str
    base_ns: int
    opt_ns: int
    difference: int
    base_spread: Spread | None
    opt_spread: Spread | None

    @property
    def what(self) -> str:
        """Category, and for idle time its cause."""
        return self.category if self.cause is None else f"{self.category}: {self.cause}"


@dataclass(frozen=True, slots=True)
class DeviceWindow:
    """The windows of one pair of devices; the devices are null where all of a side were added up."""

    base_device: int | None
    opt_device: int | None
    base_ns: int
    opt_ns: int
    difference: int


CANCELLED: Final = 0.1
"""A difference below this fraction of what the terms move in either direction is what is left of terms that cancel. A share of
it could pass 1,000 %, and would tell how well they cancel, not where the time went."""


@dataclass(frozen=True)  # no slots: `cancels` is kept once it was asked for
class Waterfall:
    """All terms, largest first; they sum to `difference`, the optimized windows minus the baseline's.

    `weights` are what the baseline's and the optimized ns were multiplied by; `places` say which accounts of the layout they are.
    """

    base: str
    opt: str
    layout: Layout
    weights: tuple[int, int]
    windows: tuple[DeviceWindow, ...]
    terms: tuple[Term, ...]
    difference: int
    places: tuple[int, int] = (0, 1)

    @property
    def base_ns(self) -> int:
        return sum(w.base_ns for w in self.windows)

    @property
    def opt_ns(self) -> int:
        return sum(w.opt_ns for w in self.windows)

    @property
    def ratio(self) -> float | None:
        """Baseline over optimized time for equal work; null where the optimized window is empty."""
        base, opt = self.weights
        return self.base_ns * base / (self.opt_ns * opt) if self.opt_ns else None

    @cached_property
    def cancels(self) -> bool:
        """Whether the terms cancel so far that a share of the difference tells nothing."""
        moved = sum(abs(t.difference) for t in over_devices(self.terms))
        return abs(self.difference) < CANCELLED * moved

    def share(self, difference: int) -> float | None:
        """`difference` as a part of the whole, to a tenth of a per cent; one that goes the other way has a negative share. Null
        where there is no difference, or the terms cancel."""
        return None if self.cancels or not self.difference else round(difference / self.difference, 3) or 0.0


def layout(accounts: Sequence[Account]) -> Layout:
    """How `accounts`, at least two, are compared with one another."""
    counts = [a.iterations for a in accounts]
    known = [n for n in counts if n is not None]
    weights, denominator, per, work = (1,) * len(counts), 1, "window", "unknown"
    if len(known) == len(counts):
        work = "equal" if len(set(known)) == 1 else "scaled"
        if work == "scaled" or all(a.steady for a in accounts):
            denominator = math.lcm(*known)
            weights, per = tuple(denominator // n for n in known), "iteration"
    return Layout(
        accounts=tuple(accounts),
        weights=weights,
        denominator=denominator,
        per=per,
        by_device=len({len(a.windows) for a in accounts}) == 1,
        work=work,
        labels=labels(a.keys for a in accounts),
    )


def waterfall(plan: Layout, base: int, opt: int) -> Waterfall:
    """The terms between the accounts at positions `base` and `opt` of `plan`.

    Raises `AssertionError` if they do not sum to the difference of the windows: that would be a bug of the ledger.
    """
    one, other = plan.accounts[base], plan.accounts[opt]
    weight, against = plan.weights[base], plan.weights[opt]
    before, after = _cells(one, plan), _cells(other, plan)
    only_base = set(one.keys.values()) - set(other.keys.values()) - UNPLACED
    only_opt = set(other.keys.values()) - set(one.keys.values()) - UNPLACED
    terms = []
    for key in before.keys() | after.keys():
        device, stage, category, cause = key
        b, o = before.get(key, 0), after.get(key, 0)
        status = "removed" if stage in only_base else "added" if stage in only_opt else "matched"
        spreads = (_spread(a, key, plan.by_device) for a in (one, other))
        terms.append(
            Term(device, plan.labels[stage], category, cause, status, b, o, o * against - b * weight, *spreads)
        )
    terms.sort(key=lambda t: (-abs(t.difference), -t.base_ns, t.device or 0, t.stage, t.what))
    windows = _windows(one, other, plan, weight, against)
    total = sum(w.difference for w in windows)
    if sum(t.difference for t in terms) != total:
        raise AssertionError(f"the terms from {one.name} to {other.name} do not sum to the difference of the windows")
    return Waterfall(one.name, other.name, plan, (weight, against), windows, tuple(terms), total, (base, opt))


def within_spread(fall: Waterfall, difference: int, counted: Callable[[str, str | None], bool]) -> bool:
    """Whether `difference`, per iteration, is smaller than what iterations of one side differ by among themselves: the larger
    interquartile range, of the sum of the cells whose category and cause are `counted`. False with one iteration."""
    widths = []
    for place in fall.places:
        side = fall.layout.accounts[place]
        rows = [row for (_, _, category, cause), row in side.per_iteration.items() if counted(category, cause)]
        if (side.iterations or 0) < 2:
            return False
        widths.append(spread_of([sum(column) for column in zip(*rows, strict=True)]).width if rows else 0.0)
    iterations = 1 if fall.layout.per == "iteration" else fall.layout.accounts[fall.places[0]].iterations or 1
    return abs(fall.layout.ns(difference)) / iterations < max(widths)


def summed(terms: Iterable[Term], by: Callable[[Term], tuple[str, str, str | None]]) -> list[Term]:
    """`terms` added up where `by` gives equal (stage, category, cause), over all devices; largest first.

    Spreads of sums are not sums of spreads, so a sum of several terms has none.
    """
    groups: dict[tuple[str, str, str | None], list[Term]] = {}
    for term in terms:
        groups.setdefault(by(term), []).append(term)
    out = []
    for (stage, category, cause), parts in groups.items():
        statuses = {t.status for t in parts}
        one = parts[0] if len(parts) == 1 else None
        out.append(
            Term(
                one.device if one else None,
                stage,
                category,
                cause,
                statuses.pop() if len(statuses) == 1 else "matched",
                sum(t.base_ns for t in parts),
                sum(t.opt_ns for t in parts),
                sum(t.difference for t in parts),
                one.base_spread if one else None,
                one.opt_spread if one else None,
            )
        )
    return sorted(out, key=lambda t: (-abs(t.difference), -t.base_ns, t.stage, t.what))


def by_stage(terms: Iterable[Term]) -> list[Term]:
    """One term a stage, its category ``all``."""
    return summed(terms, lambda t: (t.stage, "all", None))


def over_devices(terms: Iterable[Term]) -> list[Term]:
    """Terms of all devices added up, cell by cell."""
    return summed(terms, lambda t: (t.stage, t.category, t.cause))


def _cells(side: Account, plan: Layout) -> Mapping[Key, int]:
    if plan.by_device:
        return side.cells
    out: dict[Key, int] = {}
    for (_, stage, category, cause), ns in side.cells.items():
        key = (None, stage, category, cause)
        out[key] = out.get(key, 0) + ns
    return out


def _spread(side: Account, key: Key, by_device: bool) -> Spread | None:
    """The cell over the side's iterations; a cell that it never had was zero in each. Null without iterations."""
    if side.iterations is None:
        return None
    nothing = [0] * side.iterations
    if by_device:
        return spread_of(side.per_iteration.get(key, nothing))
    rows = [v for k, v in side.per_iteration.items() if k[1:] == key[1:]]
    return spread_of([sum(column) for column in zip(*rows, strict=True)] if rows else nothing)


def spread_of(values: Sequence[int]) -> Spread:
    """Quartiles (linear between the values, as ``statistics.quantiles`` with ``inclusive``) of at least one value."""
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (float(values[0]),) * 3
    )
    return Spread(len(values), middle, low, high, min(values), max(values))


def _windows(one: Account, other: Account, plan: Layout, weight: int, against: int) -> tuple[DeviceWindow, ...]:
    if plan.by_device:
        pairs = [(a, b, x, y) for (a, x), (b, y) in zip(one.windows, other.windows, strict=True)]
        return tuple(DeviceWindow(a, b, x, y, y * against - x * weight) for a, b, x, y in pairs)
    x, y = sum(ns for _, ns in one.windows), sum(ns for _, ns in other.windows)
    return (DeviceWindow(None, None, x, y, y * against - x * weight),)
