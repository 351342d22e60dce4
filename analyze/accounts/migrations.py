"""Pages of unified memory that moved, and how long kernels waited for them.

kernel       |-----------------|
migrations      ##   ##    ##          stall: while kernels of the device ran
host                                ##   ##   exposed: while none did
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from ..attribution.migrations import MIGRATION, RUNS
from ..attribution.window_ops import Rows, WindowOps
from ..intervals import Cover, common, cover
from ..result import SCHEMAS


def migration_table(work: WindowOps) -> pl.DataFrame:
    """Table ``migrations`` of every window, of the device and by innermost stage; empty where no page moved."""
    rows = [row for _, mine in work.devices() for row in _of_device(work, mine)]
    return pl.DataFrame(rows, schema=SCHEMAS["migrations"], orient="row")


def _of_device(work: WindowOps, mine: Rows) -> Iterator[tuple[object, ...]]:
    moved = mine[work.kind[mine] == MIGRATION]
    if len(moved) == 0:
        return
    kernels = mine[RUNS[work.kind[mine]]]
    running = cover(work.start[kernels], work.end[kernels])
    for stage, rows in [(None, moved), *work.by_path(moved)]:
        union: Cover = cover(work.start[rows], work.end[rows])
        stall = common(union, running)
        held = int(work.table["nbytes"].gather(rows).sum())
        total = int((work.end[rows] - work.start[rows]).sum())
        yield int(work.device[rows[0]]), stage, len(rows), held, total, union.total, stall, union.total - stall
