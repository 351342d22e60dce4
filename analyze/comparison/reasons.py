"""The split of a difference in words: one line a mechanism, and a sentence where a table of shares would be nonsense."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ...traces.model import COPY_KINDS
from ..result import IDLE
from ..words import LOADER, duration, size
from .matching import UNPLACED
from .mechanisms import FAMILIES, FASTER, HIDDEN, LESS_WORK, REPLACED, Part, Rate, Split
from .sides import COMPUTE, GRAPH
from .waterfall import Waterfall, by_stage, over_devices, within_spread

SMALL: Final = 0.001
"""Reasons below this fraction of all that move are summed in one line."""

_MINOR: Final = 0.01
"""Families below this fraction of the idle time that moves are not named."""

_MOST_FAMILIES: Final = 4

_IN_A_SENTENCE: Final = 3
"""Reasons that a sentence names; the others are summed in its last words."""

WITHIN: Final = "within the spread of the iterations"
"""Said of a reason that may be chance."""

WORK_WORDS: Final = {
    "compute": "kernels",
    "graph": "graph launches",
    "comm": "collectives",
    "memset": "memsets",
    "migration": "page migrations",
    "copy": "copies",
}
FAMILY_WORDS: Final = {
    "host": "host code",
    "launch": "launching",
    "sync": "synchronising",
    "waiting": "waiting for other threads",
    "copy_api": "copy calls",
    "allocator": "allocator",
    "loading": "loading modules",
    "page_faults": "page faults of the host",
    "dependency": "other devices",
    "queued": "queued on the device",
    "graph": "in and around graphs",
    "recorder": "recorder and driver",
    "tail": "after the last operation",
    "unknown": "unknown",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One line: what changed, and by how much, in 1/denominator ns. `within_spread`: iterations of one side differ by more."""

    difference: int
    text: str
    within_spread: bool = False


def reasons(fall: Waterfall, split: Split) -> list[Reason]:
    """Why the optimized side of `fall` is faster or slower, the largest reason first; they sum to the difference.

    Those that are within the spread of the iterations may be chance: they say so, and come last.
    """
    found = [replace(r, text=f"{r.text} ({WITHIN})") if r.within_spread else r for r in _reasons(fall, split)]
    found.sort(key=lambda r: (r.within_spread, -abs(r.difference)))
    least = SMALL * sum(abs(r.difference) for r in found)
    large = [r for r in found if abs(r.difference) >= least]
    small = [r for r in found if abs(r.difference) < least]
    rest = Reason(sum(r.difference for r in small), f"{len(small)} smaller reasons")
    return [*large, *(small if len(small) < 2 else [rest])]


def sentence(fall: Waterfall, split: Split) -> str:
    """The whole in one sentence without a full stop: by how much the sides differ, and the largest reasons for it."""
    base, opt = ("base", "opt") if fall.base == fall.opt else (fall.base, fall.opt)
    if fall.layout.per == "iteration":
        base, opt = f"one of {base}", f"an iteration of {opt}"
    than = "less than" if fall.difference < 0 else "more than"
    much = f"{duration(fall.layout.ns(abs(fall.difference)))} {than}" if fall.difference else "as long as"
    found = reasons(fall, split)
    kept = len(found) if len(found) <= _IN_A_SENTENCE + 1 else _IN_A_SENTENCE
    told = [f"{one.text} ({signed(fall, one.difference)})" for one in found[:kept]]
    if found[kept:]:
        rest = sum(one.difference for one in found[kept:])
        told.append(f"and {len(found) - kept} smaller reasons ({signed(fall, rest)})")
    return f"{opt} takes {much} {base}{': ' if told else ''}{'; '.join(told)}"


def remarks(fall: Waterfall) -> list[str]:
    """What must be said before anyone reads the terms as an answer, as sentences without a full stop."""
    found = []
    if not any(t.difference for t in fall.terms):
        found.append("nothing differs, to the nanosecond: this is one recording compared with itself")
    elif fall.cancels:
        moved = fall.layout.ns(sum(abs(t.difference) for t in over_devices(fall.terms)))
        left = fall.layout.ns(abs(fall.difference))
        found.append(
            f"the two sides differ by {duration(left)}, which is what remains of terms that move {duration(moved)} in both "
            "directions: shares of it would mean nothing and are left out"
        )
    stages = [t for t in by_stage(fall.terms) if t.stage not in UNPLACED]
    removed, added = (sum(t.status == status for t in stages) for status in ("removed", "added"))
    if removed and added and removed + added == len(stages):
        found.append(
            f"no stage is on both sides ({removed} only in base, {added} only in opt): if they were renamed, the rows by stage "
            "say what each side spent, not what changed. The reasons above hold under any names"
        )
    return found


def _reasons(fall: Waterfall, split: Split) -> Iterator[Reason]:
    parts = split.parts

    def told(mechanism: str, text: Callable[[str, Sequence[str], int], str]) -> Iterator[Reason]:
        for word, kinds, some in _by_work(p for p in parts if p.mechanism == mechanism):
            total = sum(p.difference for p in some)
            word = "compute" if fall.layout.host and kinds == ["compute"] else word
            yield Reason(total, text(word, kinds, total), may_be_chance(fall, mechanism, kinds, total))

    yield from told(FASTER, lambda word, kinds, total: _faster(split.rates, word, kinds, total))
    yield from told(LESS_WORK, lambda word, kinds, total: _amount(fall, split.rates, word, kinds, total))
    yield from told(REPLACED, lambda word, _, __: f"other {word} in place of base's")
    hidden = sum(p.difference for p in parts if p.mechanism == HIDDEN)
    if hidden:
        yield Reason(hidden, f"overlap hides {_hidden(fall, split.rates, hidden)}")
    idle = [p for p in parts if p.mechanism == IDLE]
    if idle:
        total = sum(p.difference for p in idle)
        time = "time outside of compute" if fall.layout.host else "idle time"
        text = f"{'less' if total < 0 else 'more'} {time}: {_families(fall, idle)}"
        yield Reason(total, text, may_be_chance(fall, IDLE, tuple(FAMILIES), total))


def may_be_chance(fall: Waterfall, mechanism: str, of: Collection[str], difference: int) -> bool:
    """Whether `difference` is within the spread of the iterations, by the ledger's cells of these kinds of work or families.

    Less work is not asked: operations and bytes are counted, so it is no chance. What is hidden has no cells of its own.
    """
    if mechanism in (LESS_WORK, HIDDEN):
        return False
    if mechanism == IDLE:
        causes = {cause for family in of for cause in FAMILIES[family]}
        return within_spread(
            fall, difference, lambda category, cause: category == IDLE and (cause or "unknown") in causes
        )
    kinds = {COMPUTE if kind == GRAPH else kind for kind in of}
    return within_spread(fall, difference, lambda category, _: category in kinds)


def _by_work(parts: Iterable[Part]) -> Iterator[tuple[str, list[str], list[Part]]]:
    """(word, kinds, parts) of each kind of work over all devices; copies together unless they moved in both directions."""
    by_kind: dict[str, list[Part]] = {}
    for part in parts:
        by_kind.setdefault(part.of or "", []).append(part)
    totals = {kind: sum(p.difference for p in some) for kind, some in by_kind.items()}
    copies = [kind for kind in COPY_KINDS if totals.get(kind)]
    if len(copies) > 1 and len({totals[kind] > 0 for kind in copies}) == 1:
        yield WORK_WORDS["copy"], copies, [p for kind in copies for p in by_kind[kind]]
        by_kind = {kind: some for kind, some in by_kind.items() if kind not in copies}
    for kind, some in by_kind.items():
        if totals[kind]:
            yield WORK_WORDS.get(kind, f"{kind} copies"), [kind], some


def _faster(rates: Sequence[Rate], word: str, kinds: Sequence[str], difference: int) -> str:
    """``kernels run 6.1x faster``, ``compute runs ...``."""
    speed = _speed(rates, kinds, difference)
    return f"{word} {speed.replace('run ', 'runs ', 1) if word == 'compute' else speed}"


def _speed(rates: Sequence[Rate], kinds: Sequence[str], difference: int) -> str:
    """``run 6.1x faster``; without a figure where it would read 1.0x."""
    mine = [r for r in rates if r.kind in kinds]
    base, opt = sum(r.base_common for r in mine), sum(r.opt_common for r in mine)
    word = "faster" if difference < 0 else "slower"
    if list(kinds) == ["comm"]:
        word += ", waiting for other ranks included"
    if not base or not opt:
        return f"run {word}"
    times = base / opt if difference < 0 else opt / base
    if times < 1.005:
        return f"run a little {word}"
    return f"run {times:.2f}x {word}" if times < 2 else f"run {times:,.1f}x {word}"


def _amount(fall: Waterfall, rates: Sequence[Rate], word: str, kinds: Sequence[str], difference: int) -> str:
    """``copies: 5.37 GB -> 2.68 GB``, of an iteration where iterations are compared."""
    mine = [r for r in rates if r.kind in kinds]
    weight, against = fall.weights
    base = fall.layout.ns(sum(r.base_work for r in mine) * weight)
    opt = fall.layout.ns(sum(r.opt_work for r in mine) * against)
    less = "less" if difference < 0 else "more"
    units = {r.unit for r in mine}
    if len(units) > 1 or (opt - base) * difference <= 0:  # the mix changed, not the number
        return f"{less} work in {word}"
    if units == {"bytes"}:
        return f"{less} work in {word}: {size(base)} -> {size(opt)}"
    return f"{less} work in {word}: {_count(base)} -> {_count(opt)} operations"


def _hidden(fall: Waterfall, rates: Sequence[Rate], difference: int) -> str:
    """``more: 0 ns -> 202 ms``: the sum of all durations without the time in which something ran."""
    busy = [t for t in fall.terms if t.category != IDLE]
    base = (sum(r.base_ns for r in rates) - sum(t.base_ns for t in busy)) * fall.weights[0]
    opt = (sum(r.opt_ns for r in rates) - sum(t.opt_ns for t in busy)) * fall.weights[1]
    return (
        f"{'more' if difference < 0 else 'less'}: {duration(fall.layout.ns(base))} -> {duration(fall.layout.ns(opt))}"
    )


def _count(number: float) -> str:
    return f"{number:,.1f}".removesuffix(".0")


def _families(fall: Waterfall, idle: Sequence[Part]) -> str:
    """``copy calls -76.5 ms, host code -42.5 ms``: the largest ones."""
    totals: dict[str, int] = {}
    for part in idle:
        totals[part.of or ""] = totals.get(part.of or "", 0) + part.difference
    least = _MINOR * sum(map(abs, totals.values()))
    named = sorted((f for f in totals if abs(totals[f]) >= least), key=lambda f: -abs(totals[f]))
    return ", ".join(f"{_family(fall, f, totals[f])} {signed(fall, totals[f])}" for f in named[:_MOST_FAMILIES])


def _family(fall: Waterfall, family: str, difference: int) -> str:
    """A family of idle time in words: the host's code is ``waiting for data`` where most of it lies in stages that load."""
    if family != "host":
        return FAMILY_WORDS[family]
    causes = FAMILIES[family]
    loads = sum(
        t.difference for t in fall.terms if t.category == IDLE and t.cause in causes and re.search(LOADER, t.stage)
    )
    return "waiting for data" if 2 * abs(loads) > abs(difference) and loads * difference > 0 else FAMILY_WORDS[family]


def signed(fall: Waterfall, difference: int) -> str:
    """A difference as a signed duration, of an iteration where iterations are compared."""
    ns = fall.layout.ns(difference)
    return f"{'+' if ns > 0 else ''}{duration(ns)}"
