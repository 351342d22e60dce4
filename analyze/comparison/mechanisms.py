"""Why one window is shorter than another: less work, the same work done faster, more of it hidden, less idle time.

    sum of durations    |==h2d==|==kernels==|=d2h=|
    hidden by overlap                       |-----|       busy = sum of durations - hidden
    idle, by family                               |.....| window = busy + idle

so that, device by device, the difference of two windows is exactly

    less work + faster + replaced  (per kind: the difference of the durations' sums)
    - what more is hidden  + what more is idle, by family of cause

Work that one side alone did is charged at that side's own rate, since that is the time it took there. Work that both did is
compared by its rate. Of an operation with work w0 and w1 and durations s0 and s1 in sum:

                   w1 <= w0                          w1 > w0
    less work      -(w0 - w1) * s0 / w0              (w1 - w0) * s1 / w1
    faster         s1 - s0 * w1 / w0                 s1 * w0 / w1 - s0

Both are bounded by s0 and s1, they sum to s1 - s0, and swapping the sides negates them. (With one formula for both columns,
a copy of 5 GB against one of 500 bytes would be minutes less work and minutes slower.) Less work is rounded to whole units,
half to even, and `faster` takes the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from ...traces.model import KINDS
from ..result import CAUSES, IDLE
from .amounts import MOVING, Amount, Amounts
from .waterfall import Waterfall

LESS_WORK: Final = "less_work"
FASTER: Final = "faster"
REPLACED: Final = "replaced"
HIDDEN: Final = "hidden"
MECHANISMS: Final = (LESS_WORK, FASTER, REPLACED, HIDDEN, IDLE)

FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "host": ("host_code", "other_api"),
    "launch": ("launch_latency", "launch_api", "earlier_launch"),
    "sync": ("sync",),
    "waiting": ("waiting",),
    "copy_api": ("copy_api",),
    "allocator": ("allocator",),
    "loading": ("lazy_load", "module_load"),
    "dependency": ("dependency",),
    "queued": ("queued",),
    "graph": ("graph_internal", "graph_build"),
    "recorder": ("profiler", "driver_overhead"),
    "tail": ("tail",),
    "unknown": ("unknown",),
}
"""Causes of idle time by what one would do about them; each cause is in one family."""

_FAMILY: Final = {cause: family for family, causes in FAMILIES.items() for cause in causes}
assert set(_FAMILY) == set(CAUSES)


@dataclass(frozen=True, slots=True)
class Part:
    """One mechanism's share of the difference, in 1/denominator ns. `of` is the kind of work, or the family of idle time;
    null for `hidden`, which is of all kinds together. `device` is a position among the windows, null where they were added up."""

    device: int | None
    mechanism: str
    of: str | None
    difference: int


@dataclass(frozen=True, slots=True)
class Rate:
    """One kind of work on both sides, of the whole windows. `unit` is ``bytes`` where both sides say them, else ``operations``.

    `base_common` and `opt_common` are what work that both did took on either side, in 1/denominator ns: `faster` is their
    difference.
    """

    device: int | None
    kind: str
    unit: str
    base_work: int
    opt_work: int
    base_ns: int
    opt_ns: int
    base_common: int
    opt_common: int


@dataclass(frozen=True, slots=True)
class Split:
    """The difference of two windows by mechanism: `parts` sum to `difference`; of zeros none is listed."""

    parts: tuple[Part, ...]
    rates: tuple[Rate, ...]
    difference: int


def split(fall: Waterfall, base: Amounts, opt: Amounts) -> Split:
    """The difference of `fall` by mechanism, given what both sides did.

    Raises `AssertionError` if the parts do not sum to it: then the amounts are not those of the waterfall's windows.
    """
    weights = fall.weights
    before, after = (_by_kind(side, fall.layout.by_device) for side in (base, opt))
    found: Counter[tuple[int | None, str, str | None]] = Counter()
    rates = []
    for device, kind in sorted(before.keys() | after.keys(), key=lambda k: (k[0] or 0, KINDS.index(k[1]))):
        terms, rate = _of_kind(device, kind, before.get((device, kind), {}), after.get((device, kind), {}), weights)
        for mechanism, difference in terms.items():
            found[device, mechanism, kind] += difference
        rates.append(rate)
    for rate in rates:  # all durations; what of them was not busy time was hidden
        found[rate.device, HIDDEN, None] -= rate.opt_ns * weights[1] - rate.base_ns * weights[0]
    for term in fall.terms:
        idle = term.category == IDLE
        found[term.device, IDLE if idle else HIDDEN, _FAMILY[term.cause or ""] if idle else None] += term.difference
    parts = [Part(*key, difference) for key, difference in found.items() if difference]
    parts.sort(key=lambda p: (-abs(p.difference), p.device or 0, MECHANISMS.index(p.mechanism), p.of or ""))
    if sum(p.difference for p in parts) != fall.difference:
        raise AssertionError(
            f"the mechanisms from {fall.base} to {fall.opt} do not sum to the difference of the windows"
        )
    return Split(tuple(parts), tuple(rates), fall.difference)


_Named = dict[str, Amount]


def _by_kind(side: Amounts, by_device: bool) -> dict[tuple[int | None, str], _Named]:
    """The named operations of each (device, kind); of all devices together unless `by_device`."""
    out: dict[tuple[int | None, str], _Named] = {}
    for (device, kind, name), amount in side.items():
        named = out.setdefault((device if by_device else None, kind), {})
        named[name] = named[name] + amount if name in named else amount
    return out


def _of_kind(
    device: int | None, kind: str, before: _Named, after: _Named, weights: tuple[int, int]
) -> tuple[dict[str, int], Rate]:
    """How the durations of one kind differ, by mechanism, and its rate."""
    weight, against = weights
    less, common = 0, [0, 0]
    for name in before.keys() & after.keys():
        b, o = before[name], after[name]
        w0, w1 = _work(b, o)
        only, shared = _alone(w0 * weight, b.ns * weight, w1 * against, o.ns * against)
        less += only
        common = [common[0] + shared[0], common[1] + shared[1]]
    gone = sum(before[name].ns for name in before.keys() - after.keys()) * weight
    come = sum(after[name].ns for name in after.keys() - before.keys()) * against
    # Work that one side alone did is work more or less. Where both did work of their own, one took the place of the other,
    # and there is no rate to compare.
    both = bool(before.keys() - after.keys()) and bool(after.keys() - before.keys())
    terms = {
        LESS_WORK: less if both else less + come - gone,
        FASTER: common[1] - common[0],
        REPLACED: come - gone if both else 0,
    }
    all_before, all_after = (sum(side.values(), Amount(0, 0, 0)) for side in (before, after))
    said = kind in MOVING and all(a.nbytes or not a.ops for a in (all_before, all_after))
    w0, w1 = (a.nbytes or 0 if said else a.ops for a in (all_before, all_after))
    unit = "bytes" if said else "operations"
    return terms, Rate(device, kind, unit, w0, w1, all_before.ns, all_after.ns, *common)


def _work(base: Amount, opt: Amount) -> tuple[int, int]:
    """The work of an operation on both sides in one unit, neither of them zero: bytes, else operations."""
    if base.nbytes and opt.nbytes:
        return base.nbytes, opt.nbytes
    return base.ops, opt.ops


def _alone(w0: int, s0: int, w1: int, s1: int) -> tuple[int, tuple[int, int]]:
    """The time of the work that only one side did, negative if that is the first, and what the rest took on both sides."""
    if w1 <= w0:
        only = round(Fraction((w0 - w1) * s0, w0))
        return -only, (s0 - only, s1)
    only = round(Fraction((w1 - w0) * s1, w1))
    return only, (s0, s1 - only)
