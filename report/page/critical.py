"""The critical path: the chain of work and waits that set the pace, by what it was and in which stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..palette import custom_property
from ..replayed import path_doubt
from . import cells
from .blocks import Cell, Para, Row, Section, Table, section
from .sides import Side, device_name

ROWS: Final = 8
"""Pieces of each side that are listed; the rest is one row."""


def critical_section(sides: Sequence[Side]) -> Section | None:
    """What the critical path of each side consists of, summing to its window; null where no trace has one."""
    rows = [row for side in sides for row in _rows(side)]
    if not rows:
        return None
    heads = ["variant", "what", "device", "stage", "time", "of the path"]
    return section(
        "critical",
        "What set the pace",
        Para(
            "The critical path: one chain of work and waits, through host, streams and events, to the end of the last operation. "
            "Saving time off the path gains nothing; busy time off the path was hidden."
        ),
        *(Para(f"{side.name}: {doubt}.", "note") for side in sides if (doubt := path_doubt(side.analysis))),
        Table("critical path", heads, rows, numbers=range(4, 6)),
    )


def _rows(side: Side) -> list[Row]:
    path = side.analysis.critical
    total = int(path["ns"].sum())
    if not total:
        return []
    out = []
    for r in path.head(ROWS).iter_rows(named=True):
        what = r["cause"] or r["category"]
        device = "host" if r["device"] is None else device_name(side, r["device"])
        share = cells.share(r["ns"] / total, fill=custom_property(what))
        out.append(
            Row(
                (side.name, what.replace("_", " "), device, cells.stage(side, r["stage"]), cells.time(r["ns"]), share),
                stage=r["stage"],
            )
        )
    rest = total - int(path["ns"].head(ROWS).sum())
    if rest:
        more = f"{path.height - ROWS:,} more"
        out.append(Row((side.name, more, "", "", cells.time(rest), cells.share(rest / total))))
    out.append(Row((side.name, "in all", "", "", cells.time(total), Cell("100 %", 1.0)), look="strong"))
    return out
