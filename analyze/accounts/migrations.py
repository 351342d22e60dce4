"""Pages of unified memory that moved, and how long kernels waited for them.

kernel       |-----------------|
migrations      ##   ##    ##          stall: while kernels of their process ran on the device
host                                ##   ##   exposed: while none did
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from ..attribution.migrations import MIGRATION, RUNS
from ..attribution.steps import NOTHING
from ..attribution.window_ops import Rows, WindowOps
from ..intervals import Cover, cover, minus
from ..intervals import union as either
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
    pid = work.table["pid"].fill_null(NOTHING).to_numpy()
    running = {p: _cover(work, kernels[pid[kernels] == p]) for p in np.unique(pid[moved]).tolist()}
    for stage, rows in [(None, moved), *work.by_path(moved)]:
        union, waits = _cover(work, rows), cover(*np.empty((2, 0), np.int64))
        for process in np.unique(pid[rows]).tolist():
            pages = _cover(work, rows[pid[rows] == process])
            waits = either(waits, minus(pages, minus(pages, running[process])))
        held = int(work.table["nbytes"].gather(rows).sum())
        total = int((work.end[rows] - work.start[rows]).sum())
        stall = waits.total
        yield int(work.device[rows[0]]), stage, len(rows), held, total, union.total, stall, union.total - stall


def _cover(work: WindowOps, rows: Rows) -> Cover:
    return cover(work.start[rows], work.end[rows])
