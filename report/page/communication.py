"""Communication: how much of the collectives' time was waiting for the slowest rank."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ...analyze.naming.kernels import short_names
from . import cells, text
from .blocks import Fold, Para, Row, Section, Table, section, strong
from .sides import Side, caution, device_name


def communication_section(sides: Sequence[Side]) -> Section | None:
    """Waiting and moving of every device's collectives; null where nothing was communicated."""
    if all(side.analysis.collectives.is_empty() for side in sides):
        return None
    intro = (
        "A collective's kernel starts when its own rank arrives. Until the last rank arrives it ",
        strong("waits"),
        "; only after that it communicates. Collectives whose other ranks are not in the trace, or that may end before all ranks "
        "began, cannot be split.",
    )
    devices = sorted({d for side in sides for d in side.analysis.collectives["device"].to_list()})
    whole = [row for device in devices for side in sides if (row := _whole(side, device))]
    parts = ["device", "variant", "collectives", "waiting", "of their time", "communicating", "not split"]
    heads = ["variant", "device", "stage", "collective", "ops", "time", "paired", "ranks", "waiting", "communicating"]
    rows = [row for side in sides for row in _rows(side)]
    return section(
        "communication",
        "Communication",
        Para(intro),
        caution(sides, "comm"),
        Table("time of collectives, waiting and communicating", parts, whole, numbers=range(2, 7)),
        Fold("Every collective", [Table("collectives by stage", heads, rows, numbers=range(4, 10))]),
    )


def _whole(side: Side, device: int) -> Row | None:
    mine = side.analysis.collectives.filter(pl.col("device") == device)
    total, wait, comm = (int(mine[column].sum()) for column in ("sum_ns", "comm_wait_ns", "comm_ns"))
    if not total:
        return None
    split = cells.share(wait / total, fill="cause-waiting") if wait + comm else cells.share(None)
    times = (cells.time(wait if wait + comm else None), split, cells.time(comm if wait + comm else None))
    return Row([device_name(side, device), side.name, cells.time(total), *times, cells.time(total - wait - comm)])


def _rows(side: Side) -> list[Row]:
    out = []
    short = short_names(side.analysis.collectives["name"].to_list())
    for r in side.analysis.collectives.sort("sum_ns", descending=True, maintain_order=True).iter_rows(named=True):
        known = r["paired"] > 0
        row = [
            *(side.name, device_name(side, r["device"]), cells.stage(side, r["stage"])),
            cells.kernel(side, r["name"], short[r["name"]], r["stage"]),
            *(cells.count(r["ops"]), cells.time(r["sum_ns"]), cells.count(r["paired"])),
            str(r["ranks"]) if known else text.ABSENT,
            *(cells.time(r[c] if known else None) for c in ("comm_wait_ns", "comm_ns")),
        ]
        out.append(Row(row, stage=r["stage"]))
    return out
