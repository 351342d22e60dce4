"""The largest gaps: when a device had nothing to do for longest, why, and what the host did meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ...analyze.ran import code_ran, sampled
from . import cells, text
from .blocks import Cell, Para, Row, Section, Span, Table, section, strong
from .links import timeline_link
from .markup import clip
from .sides import Side, caution, device_name

MOST = 40
"""Gaps of a side."""

CALLS = 3
"""Calls named in each gap."""

FUNCTIONS = 3
"""Functions named in each gap."""

AROUND = 0.5
"""A gap's link shows it with this much of its length on both sides, so that what opens and ends it is seen."""

_HEADS = ("variant", "device", "length", "of the window", "begins at", "cause", "stage", "opened by")


def gaps_section(sides: Sequence[Side]) -> Section | None:
    """The longest idle intervals of every side, longest first; null where no device ever idled."""
    if all(side.analysis.gaps.is_empty() for side in sides):
        return None
    intro = (
        "The longest idle intervals of each device; click a length to see the gap in the timeline. Cause and stage are those of "
        "its largest piece; ",
        strong("opened by"),
        " is what the host was blocked in when the device ran dry, and the calls are what the thread that the device waited for "
        "did in it. Without any call it was in the program's own code. Where the recorder took CPU samples of that thread, the "
        "functions with most of them are named.",
    )
    rows = [row for side in sides for row in _rows(side)]
    table = Table("the longest idle gaps", _HEADS, rows, (2, 3, 4))
    return section("gaps", "Largest gaps", Para(intro), caution(sides, "causes"), table)


def _rows(side: Side) -> list[Row]:
    windows = {d: (start, end - start) for d, start, end in side.analysis.windows.iter_rows()}
    out = []
    for gap in side.analysis.gaps.sort("ns", descending=True, maintain_order=True).head(MOST).iter_rows(named=True):
        device, start = gap["device"], gap["start_ns"]
        opened, length = windows.get(device, (start, 0))
        margin = int(AROUND * gap["ns"])
        link = timeline_link(side, start_ns=start - margin, end_ns=gap["end_ns"] + margin)
        row = [
            *(side.name, device_name(side, device)),
            Cell(Span(text.duration(gap["ns"]), href=link), gap["ns"]),
            cells.share(gap["ns"] / length if length else None),
            Cell(side.moment(start, opened), start),
            *(gap["cause"] or "unknown", cells.stage(side, gap["stage"]), gap["opened_by"] or ""),
        ]
        words = [_calls(side, device, start), _functions(side, device, start)]
        out.append(Row(row, "; ".join(w for w in words if w), stage=gap["stage"]))
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
    """``CPU samples: x_add (python3) in 31 of 120, memcpy (libc.so.6) in 20``; empty where nothing says it."""
    rows = side.analysis.gap_functions.filter((pl.col("device") == device) & (pl.col("start_ns") == start_ns))
    ran = sampled(rows)
    code = side.analysis.gap_code.filter((pl.col("device") == device) & (pl.col("start_ns") == start_ns))
    said = code_ran(code, FUNCTIONS)
    return "; ".join(said if ran is None else [f"CPU samples: {ran.sentence(FUNCTIONS)}", *said])
