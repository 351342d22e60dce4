"""The numbers that matter, large, at the top of the page: what a reader takes away in five seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import polars as pl

from ...expectations.judging.energy import Drawn
from . import text
from .allocator import stall_ns
from .copies import NO_COPIES, exposed_copy_ns, hidden_share
from .markup import Html, element
from .sides import Side, iterations
from .speed import Speedup

CANNOT_TELL = "cannot tell"


def tiles(
    sides: Sequence[Side], medians: dict[str, list[int]], speedups: Sequence[Speedup], drawn: Sequence[Drawn] = ()
) -> Html:
    """One tile a number: first and last side beside each other, or a single side's."""
    ends = [sides[0], sides[-1]] if len(sides) > 1 else list(sides)
    out: list[Html] = []
    if speedups:
        out.append(_tile(f"speedup of {speedups[-1].variant}", speedups[-1].words(), "untraced, paired by round"))
    timed = [name for name in medians if not ends or name in {side.name for side in ends}]
    if timed:
        times = [text.duration(median(medians[name])) for name in timed]
        out.append(_tile("time per iteration", " → ".join(times), "untraced, median of the rounds"))
    names = {side.name for side in ends} or {row.variant for row in (*drawn[:1], *drawn[-1:])}
    energies = [row for row in drawn if row.variant in names and row.joules_per_item is not None]
    if energies:
        values = " → ".join(text.joules(row.joules_per_item) for row in energies)
        out.append(
            _tile(f"energy, one of the {energies[0].unit}", values, "untraced, with what lies between iterations")
        )
    if ends:
        if not timed:
            out.append(_tile("window", _each(ends, _window), "traced"))
        out.append(_tile("copies hidden", _each(ends, _hidden), "under kernels or collectives"))
        out.append(_tile("exposed copies", _each(ends, _exposed), _per(ends)))
        out.append(_tile("device busy", _each(ends, _busy), "of the window"))
        out.append(_tile("allocator stall", _each(ends, _stall), _per(ends)))
    return element("div", out, class_="tiles")


def _tile(label: str, value: str, note: str) -> Html:
    body = (element("dt", label), element("dd", value), element("dd", note, class_="note"))
    return element("dl", *body, class_="tile")


def _each(sides: Sequence[Side], number: Callable[[Side], str]) -> str:
    values = [number(side) for side in sides]
    return values[0] if len(set(values)) == 1 else " → ".join(values)


def _per(sides: Sequence[Side]) -> str:
    return "per traced iteration" if all(iterations(side) for side in sides) else "in the window"


def _window(side: Side) -> str:
    windows = side.analysis.windows
    lengths = (windows["end_ns"] - windows["start_ns"]).to_list()
    return text.duration(max(lengths)) if lengths else "no device work"


def _hidden(side: Side) -> str:
    return CANNOT_TELL if side.cannot_tell("overlap") else text.share(hidden_share(side), NO_COPIES)


def _exposed(side: Side) -> str:
    if side.cannot_tell("overlap"):
        return CANNOT_TELL
    ns = exposed_copy_ns(side)
    return NO_COPIES if ns is None else text.duration(ns / max(iterations(side), 1))


def _busy(side: Side) -> str:
    ledger = side.analysis.ledger
    total = int(ledger["ns"].sum())
    if side.cannot_tell("ledger"):
        return CANNOT_TELL
    return text.share(int(ledger.filter(pl.col("category") != "idle")["ns"].sum()) / total if total else None)


def _stall(side: Side) -> str:
    ns = stall_ns(side)
    return CANNOT_TELL if ns is None else text.duration(ns / max(iterations(side), 1)) if ns else "none"
