"""Which operators of PyTorch took the time, of a trace that has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from . import cells, text
from .blocks import Para, Row, Section, Table, section
from .sides import Side, clipped

SHOWN: Final = 12
"""Operators of each variant."""

LONGEST: Final = 80


def operators_section(sides: Sequence[Side]) -> Section | None:
    """The operators with the most time of their own, and what they launched; null for traces without operators."""
    rows = [
        Row(
            [
                *(side.name, clipped(r["name"], LONGEST), cells.count(r["calls"])),
                *(cells.time(r["self_ns"]), cells.time(r["outside_ns"]), cells.time(r["sum_ns"])),
                *(cells.count(r["ops"] or None), cells.time(r["device_ns"] if r["ops"] else None)),
            ]
        )
        for side in sides
        for r in side.analysis.operators.head(SHOWN).iter_rows(named=True)
    ]
    if not rows:
        return None
    words = (
        "Host times of all threads, of operators that begin in the window. Own time leaves out nested operators, and what those "
        "launched is theirs."
    )
    more = [
        f"{text.count(count, 'more operator')} of {side.name}"
        for side in sides
        if (count := side.analysis.operators.height - SHOWN) > 0
    ]
    heads = ["variant", "operator", "calls", "own time", "in no stage", "with nested", "launched", "device time"]
    return section(
        "operators",
        "PyTorch's operators",
        Para(words),
        Table("operators that took the most time of their own", heads, rows, numbers=range(2, 8)),
        Para(f"And {', '.join(more)} in --json.", "note") if more else None,
    )
