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

By stage, each operation's work is charged at the rate of its whole window, r = s0 / w0 or s1 / w1 as above (where w0 = w1: of
both sides together). So what one stage did less another may have done more, and the columns of all stages sum to those above:

    less work of a stage   (w1 - w0 of the stage) * r        faster of a stage   its s1 - s0, without that
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from ...traces.model import KINDS
from ..accounts.work import MOVING
from ..result import CAUSES, IDLE
from .amounts import Amount, Amounts
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
    "page_faults": ("page_fault",),
    "dependency": ("dependency",),
    "queued": ("queued",),
    "graph": ("graph_internal", "graph_build"),
    "recorder": ("profiler", "driver_overhead"),
    "tail": ("tail",),
    "unknown": ("unknown",),
}
"""Causes of idle time by what one would do about them; each cause is in one family."""

FAMILY_OF: Final = {cause: family for family, causes in FAMILIES.items() for cause in causes}
"""The family of each cause."""
assert set(FAMILY_OF) == set(CAUSES)


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
class StageSplit:
    """One stage's share of the difference, stages matched as in the waterfall: `parts` sum to `difference`; of zeros none is
    listed."""

    stage: str
    difference: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """The difference of two windows by mechanism: `parts` sum to `difference`; of zeros none is listed.

    `by_stage` is the same once more for each stage of which anything differs, the largest difference first: the parts of all
    stages sum to `parts`, one by one.
    """

    parts: tuple[Part, ...]
    rates: tuple[Rate, ...]
    difference: int
    by_stage: tuple[StageSplit, ...]


def split(fall: Waterfall, base: Amounts, opt: Amounts) -> Split:
    """The difference of `fall` by mechanism, given what both sides did.

    Raises `AssertionError` if the parts do not sum to it: then the amounts are not those of the waterfall's windows.
    """
    weights, labels = fall.weights, fall.layout.labels
    before, after = (_by_kind(side, fall.layout.by_device) for side in (base, opt))
    found: Counter[tuple[str, int | None, str, str | None]] = Counter()
    rates = []
    for device, kind in sorted(before.keys() | after.keys(), key=lambda k: (k[0] or 0, KINDS.index(k[1]))):
        terms, rate = _of_kind(device, kind, before.get((device, kind), {}), after.get((device, kind), {}), weights)
        for (stage, mechanism), difference in terms.items():
            label = labels.get(stage, stage)
            found[label, device, mechanism, kind] += difference
            found[label, device, HIDDEN, None] -= difference  # all durations; what of them was not busy time was hidden
        rates.append(rate)
    for term in fall.terms:
        idle = term.category == IDLE
        family = FAMILY_OF[term.cause or ""] if idle else None
        found[term.stage, term.device, IDLE if idle else HIDDEN, family] += term.difference
    whole: Counter[tuple[int | None, str, str | None]] = Counter()
    stages: dict[str, list[Part]] = {}
    for (stage, device, mechanism, of), difference in found.items():
        part = Part(device, mechanism, of, difference)
        whole[part.device, part.mechanism, part.of] += difference
        if difference:
            stages.setdefault(stage, []).append(part)
    parts = _sorted(Part(*key, difference) for key, difference in whole.items() if difference)
    if sum(p.difference for p in parts) != fall.difference:
        raise AssertionError(
            f"the mechanisms from {fall.base} to {fall.opt} do not sum to the difference of the windows"
        )
    by_stage = [StageSplit(stage, sum(p.difference for p in some), _sorted(some)) for stage, some in stages.items()]
    by_stage.sort(key=lambda s: (-abs(s.difference), s.stage))
    return Split(parts, tuple(rates), fall.difference, tuple(by_stage))


def _sorted(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The largest first."""
    order = sorted(parts, key=lambda p: (-abs(p.difference), p.device or 0, MECHANISMS.index(p.mechanism), p.of or ""))
    return tuple(order)


_Stages = dict[str, Amount]
"""One operation's amounts by stage key."""

_Named = dict[str, _Stages]
"""Operations by name."""


def _by_kind(side: Amounts, by_device: bool) -> dict[tuple[int | None, str], _Named]:
    """The named operations of each (device, kind); of all devices together unless `by_device`."""
    out: dict[tuple[int | None, str], _Named] = {}
    for (device, stage, kind, name), amount in side.items():
        stages = out.setdefault((device if by_device else None, kind), {}).setdefault(name, {})
        stages[stage] = stages[stage] + amount if stage in stages else amount
    return out


_NOTHING: Final = Amount(0, 0, 0)


def _total(amounts: Iterable[Amount]) -> Amount:
    return sum(amounts, _NOTHING)


def _of_kind(
    device: int | None, kind: str, before: _Named, after: _Named, weights: tuple[int, int]
) -> tuple[Mapping[tuple[str, str], int], Rate]:
    """How the durations of one kind differ, by (stage, mechanism), and its rate."""
    weight, against = weights
    terms: Counter[tuple[str, str]] = Counter()
    common = [0, 0]
    for name in before.keys() & after.keys():
        b, o = _total(before[name].values()), _total(after[name].values())
        in_bytes = bool(b.nbytes and o.nbytes)
        work = {
            stage: tuple(_work(side.get(stage, _NOTHING), in_bytes) for side in (before[name], after[name]))
            for stage in before[name].keys() | after[name].keys()
        }
        w0, w1 = _work(b, in_bytes) * weight, _work(o, in_bytes) * against
        s0, s1 = b.ns * weight, o.ns * against
        only, shared = _alone(w0, s0, w1, s1)
        less = _less_work({stage: n * against - m * weight for stage, (m, n) in work.items()}, _rate(w0, s0, w1, s1))
        assert sum(less.values()) == only
        for stage, difference in less.items():
            took = (side.get(stage, _NOTHING).ns for side in (before[name], after[name]))
            m, n = took
            terms[stage, LESS_WORK] += difference
            terms[stage, FASTER] += n * against - m * weight - difference
        common = [common[0] + shared[0], common[1] + shared[1]]
    gone, come = before.keys() - after.keys(), after.keys() - before.keys()
    # Work that one side alone did is work more or less. Where both did work of their own, one took the place of the other,
    # and there is no rate to compare.
    mechanism = REPLACED if gone and come else LESS_WORK
    for sign, side, names in ((-weight, before, gone), (against, after, come)):
        for stage, amount in ((stage, amount) for name in names for stage, amount in side[name].items()):
            terms[stage, mechanism] += sign * amount.ns
    all_before, all_after = (_total(a for stages in side.values() for a in stages.values()) for side in (before, after))
    said = kind in MOVING and all(a.nbytes or not a.ops for a in (all_before, all_after))
    amount_0, amount_1 = (_work(a, said) for a in (all_before, all_after))
    unit = "bytes" if said else "operations"
    return terms, Rate(device, kind, unit, amount_0, amount_1, all_before.ns, all_after.ns, *common)


def _work(amount: Amount, in_bytes: bool) -> int:
    return amount.nbytes or 0 if in_bytes else amount.ops


def _rate(w0: int, s0: int, w1: int, s1: int) -> Fraction:
    """What a unit of an operation's work took on the side that did more of it; on both, where that is equal."""
    if w0 == w1:
        return Fraction(s0 + s1, w0 + w1)
    return Fraction(s0, w0) if w1 < w0 else Fraction(s1, w1)


def _less_work(more: Mapping[str, int], rate: Fraction) -> dict[str, int]:
    """The time of the work that each stage did more, in whole units that sum to the rounded sum.

    The sum is rounded as it grows from stage to stage, in order of their names, and a stage gets what it grew by. So none is off
    by more than a unit, and the other way round all are negated.
    """
    out = {}
    exact, reached = Fraction(0), 0
    for stage in sorted(more):
        exact += more[stage] * rate
        out[stage] = round(exact) - reached
        reached += out[stage]
    return out


def _alone(w0: int, s0: int, w1: int, s1: int) -> tuple[int, tuple[int, int]]:
    """The time of the work that only one side did, negative if that is the first, and what the rest took on both sides."""
    if w1 <= w0:
        only = round(Fraction((w0 - w1) * s0, w0))
        return -only, (s0 - only, s1)
    only = round(Fraction((w1 - w0) * s1, w1))
    return only, (s0, s1 - only)
