"""Streams: how many of them were busy at once."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from . import cells, text
from .blocks import Cell, Fold, Para, Row, Section, Table, section
from .sides import Side, caution, device_name

LEVELS = ("idle", "one stream", "two streams", "three or more")


def streams_section(sides: Sequence[Side]) -> Section | None:
    """Time with none, one, two, more streams busy; null where no device used more than one."""
    if not any(n > 1 for side in sides for _, n in side.analysis.streams.group_by("device").len().iter_rows()):
        return None
    devices = sorted({d for side in sides for d in side.analysis.concurrency["device"].to_list()})
    levels = [row for device in devices for side in sides if (row := _levels(side, device))]
    heads = ["variant", "device", "process", "context", "stream", "ops", "busy", "of the window"]
    rows = [row for side in sides for row in _rows(side)]
    return section(
        "streams",
        "Streams busy at once",
        Para("A stream is busy while any of its operations runs. Shares are of the whole window."),
        caution(sides, "overlap"),
        Table("time by number of busy streams", ["variant", "device", *LEVELS, "on average"], levels, range(2, 7)),
        Fold("Every stream", [Table("streams of each device", heads, rows, numbers=range(5, 8))]),
    )


def _levels(side: Side, device: int) -> Row | None:
    here = pl.col("device") == device
    levels = dict(side.analysis.concurrency.filter(here).select("streams", "ns").iter_rows())
    window = sum(levels.values())
    if not window:
        return None
    busy = int(side.analysis.streams.filter(here)["busy_ns"].sum())
    shares = [cells.share(levels.get(n, 0) / window) for n in range(len(LEVELS))]
    average = f"{busy / window:.2f} streams"
    return Row((side.name, device_name(side, device), *shares, Cell(average, busy / window)))


def _rows(side: Side) -> list[Row]:
    windows = {d: end - start for d, start, end in side.analysis.windows.iter_rows()}
    out = []
    for r in side.analysis.streams.sort("busy_ns", descending=True, maintain_order=True).iter_rows(named=True):
        whole = windows.get(r["device"])
        ids = (text.ABSENT if r[c] is None else str(r[c]) for c in ("pid", "context", "stream"))
        share = cells.share(r["busy_ns"] / whole if whole else None)
        figures = (cells.count(r["ops"]), cells.time(r["busy_ns"]), share)
        out.append(Row((side.name, device_name(side, r["device"]), *ids, *figures)))
    return out
