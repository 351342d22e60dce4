"""The largest gaps: when a device had nothing to do for longest, why, and what the host did meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ...analyze.sampled import sampled
from . import text
from .markup import Html, clip, element
from .sides import Side, caution, device_name, stage_label
from .tables import folded, section, table

SHOWN = 5
"""Gaps of a side that are seen at once."""

MOST = 60
"""Gaps of a side with the folded ones."""

CALLS = 3
"""Calls named in each gap."""

FUNCTIONS = 3
"""Functions named in each gap."""


def gaps_section(sides: Sequence[Side]) -> Html | None:
    """The longest idle intervals of every side, longest first; null where no device ever idled."""
    if all(side.analysis.gaps.is_empty() for side in sides):
        return None
    intro = element(
        "p",
        "The longest idle intervals of each device. Cause and stage are those of the largest piece of the gap; ",
        element("b", "opened by"),
        " is what the host was blocked in when the device ran dry, and the calls are what the thread that the device "
        "waited for did in it. Without any call it was in the program's own code. Where the recorder took CPU samples of that "
        "thread, the functions with most of them are named.",
    )
    rows = {side.name: _rows(side) for side in sides}
    more = [row for side in sides for row in rows[side.name][SHOWN:]]
    return section(
        "gaps",
        "Largest gaps",
        intro,
        caution(sides, "causes"),
        _table("the longest idle gaps", [row for side in sides for row in rows[side.name][:SHOWN]]),
        folded(f"{text.count(len(more), 'shorter gap')}", _table("shorter idle gaps", more)) if more else None,
    )


def _table(caption: str, rows: Sequence[tuple[list[str], str]]) -> Html:
    heads = ["variant", "device", "length", "of the window", "begins at", "cause", "stage", "opened by"]
    return table(caption, heads, [row for row, _ in rows], (2, 3, 4), under=[calls for _, calls in rows])


def _rows(side: Side) -> list[tuple[list[str], str]]:
    """The cells of each gap, and the line about its calls."""
    windows = {d: (start, end - start) for d, start, end in side.analysis.windows.iter_rows()}
    out = []
    for gap in side.analysis.gaps.sort("ns", descending=True, maintain_order=True).head(MOST).iter_rows(named=True):
        start, length = windows.get(gap["device"], (gap["start_ns"], 0))
        row = [side.name, device_name(side, gap["device"]), text.duration(gap["ns"])]
        row += [text.share(gap["ns"] / length if length else None), side.moment(gap["start_ns"], start)]
        row += [gap["cause"] or "unknown", stage_label(gap["stage"]), gap["opened_by"] or ""]
        words = [_calls(side, gap["device"], gap["start_ns"]), _functions(side, gap["device"], gap["start_ns"])]
        out.append((row, "; ".join(w for w in words if w)))
    return out


def _calls(side: Side, device: int, start_ns: int) -> str:
    """``cudaStreamSynchronize 3.100 ms, 12 × read 80.00 µs``: the calls that took most of the gap."""
    rows = side.analysis.gap_calls.filter((pl.col("device") == device) & (pl.col("start_ns") == start_ns))
    words = []
    for name, calls, ns in rows.sort("ns", descending=True).head(CALLS).select("name", "calls", "ns").iter_rows():
        many = f"{calls:,} × " if calls > 1 else ""
        words.append(f"{many}{clip(name, 60)} {text.duration(ns)}")
    return ", ".join(words) or "no call"


def _functions(side: Side, device: int, start_ns: int) -> str:
    """``CPU samples: x_add (python3) in 31 of 120, memcpy (libc.so.6) in 20``; empty without samples."""
    rows = side.analysis.gap_functions.filter((pl.col("device") == device) & (pl.col("start_ns") == start_ns))
    ran = sampled(rows)
    return "" if ran is None else f"CPU samples: {ran.sentence(FUNCTIONS)}"
