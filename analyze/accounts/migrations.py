"""Pages of unified memory that moved, and how long kernels waited for them.

kernel       |-----------------|
migrations      ##   ##    ##          stall: while kernels of the device ran
host                                ##   ##   exposed: while none did
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from ...traces.model import KINDS
from ..attribution.migrations import MIGRATION
from ..attribution.window_ops import Rows, WindowOps
from ..intervals import Cover, common, cover
from ..result import SCHEMAS

KERNELS = np.array([kind in ("compute", "graph", "comm") for kind in KINDS])
"""The kinds that wait for pages."""


def migration_table(work: WindowOps) -> pl.DataFrame:
    """Table ``migrations`` of every window, of the device and by innermost stage; empty where no page moved."""
    rows = [row for _, mine in work.devices() for row in _of_device(work, mine)]
    return pl.DataFrame(rows, schema=SCHEMAS["migrations"], orient="row")


def _of_device(work: WindowOps, mine: Rows) -> Iterator[tuple[object, ...]]:
    moved = mine[work.kind[mine] == MIGRATION]
    if len(moved) == 0:
        return
    kernels = mine[KERNELS[work.kind[mine]]]
    running = cover(work.start[kernels], work.end[kernels])
    nbytes = work.table["nbytes"].gather(moved).fill_null(0).to_numpy()
    position = {row: i for i, row in enumerate(moved.tolist())}
    for stage, rows in [(None, moved), *work.by_path(moved)]:
        union: Cover = cover(work.start[rows], work.end[rows])
        stall = common(union, running)
        held = int(nbytes[[position[row] for row in rows.tolist()]].sum())
        total = int((work.end[rows] - work.start[rows]).sum())
        yield int(work.device[rows[0]]), stage, len(rows), held, total, union.total, stall, union.total - stall
