"""What each stage had each device do, operation by operation: the amounts that rates are made of.

Kernels go by their full name, whatever their grid, copies and memsets by their kind alone. A kernel's time is without that in
which it waited for pages of unified memory, which is that of the migrations. Like everything in a window, operations count with
the part that lies inside; so do their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.model import COPY_KINDS, KINDS, distinct_values
from ..attribution.migrations import MIGRATION, RUNS
from ..attribution.stages import Stages
from ..attribution.steps import NOTHING
from ..attribution.window import Span
from ..attribution.window_ops import kind_codes
from ..intervals import Ints, cover
from ..result import SCHEMAS

MOVING: Final = (*COPY_KINDS, "memset", "migration")
"""The kinds whose work is bytes."""

_MOVES: Final = np.array([kind in MOVING for kind in KINDS])


def work_table(ops: pl.DataFrame, spans: Sequence[Span], stages: Stages, host_devices: Set[int]) -> pl.DataFrame:
    """Table ``work``: the operations inside each window by innermost stage, kind and name, sorted by these.

    `ops` are all of the trace, with a column `stage` of codes. Of a copy that the window cuts, the bytes are taken in proportion
    to its time inside.
    """
    device, path = ops["device"].to_numpy(), stages.path_of_code(ops["stage"].to_numpy())
    start, end, kind = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy(), kind_codes(ops)
    name, names = ops["name"].to_physical().fill_null(0).to_numpy(), distinct_values(ops["name"])
    unnamed = ops["name"].is_null().to_numpy() if ops["name"].null_count() else None
    lowest, width = int(path.min(initial=0)), len(names) + 1
    parts = []
    for span in spans:
        low, high = span.start_ns, span.end_ns
        touching = (start < high) & ((end > low) | ((start == end) & (end >= low)))
        rows = np.flatnonzero((device == span.device) & touching)
        inside = np.minimum(end[rows], high) - np.maximum(start[rows], low)
        inside -= _stalls(
            kind[rows], ops["pid"].gather(rows), np.clip(start[rows], low, high), np.clip(end[rows], low, high)
        )
        moves = _MOVES[kind[rows]]
        # What a host device does is named by its stages, which differ as the program is cut into them: no names to match by.
        blank = moves if unnamed is None else moves | unnamed[rows]
        told = (
            np.zeros(len(rows), np.int64)
            if span.device in host_devices
            else np.where(blank, 0, name[rows] + np.int64(1))
        )
        cell = ((path[rows] - np.int64(lowest)) * len(KINDS) + kind[rows]) * width + told
        known, cell = np.unique(cell, return_inverse=True) if _sparse(cell) else _dense(cell)
        count, total, moved, unsaid = (np.zeros(len(known), np.int64) for _ in range(4))
        np.add.at(count, cell, 1)
        np.add.at(total, cell, inside)
        copies = np.flatnonzero(moves)
        nbytes, said = _bytes(ops["nbytes"], rows[copies], inside[copies], (end - start)[rows[copies]])
        np.add.at(moved, cell[copies], nbytes)
        np.add.at(unsaid, cell[copies], ~said)
        used = np.flatnonzero(count)
        found, kinds = known[used] // width, known[used] // width % len(KINDS)
        parts.append(
            pl.DataFrame(
                {
                    "device": pl.repeat(span.device, len(used), dtype=pl.Int32, eager=True),
                    "stage": [stages.path_names[p] for p in (found // len(KINDS) + lowest).tolist()],
                    "kind": [KINDS[k] for k in kinds.tolist()],
                    "name": ["" if n == 0 else names[n - 1] for n in (known[used] % width).tolist()],
                    "ops": count[used],
                    "sum_ns": total[used],
                    "nbytes": pl.select(
                        pl.when(pl.Series(_MOVES[kinds] & (unsaid[used] == 0))).then(pl.Series(moved[used]))
                    ).to_series(),
                },
                schema=SCHEMAS["work"],
            )
        )
    table = pl.concat([pl.DataFrame(schema=SCHEMAS["work"]), *parts])
    return table.sort("device", "stage", "kind", "name")


def _stalls(kind: npt.NDArray[np.int8], process: pl.Series, start: Ints, end: Ints) -> Ints:
    """How long each op waited for pages of unified memory: a kernel, while any of its device and process moved; all others,
    never."""
    out = np.zeros(len(kind), np.int64)
    pages = np.flatnonzero(kind == MIGRATION)
    if len(pages):
        waits, pid = np.flatnonzero(RUNS[kind]), process.fill_null(NOTHING).to_numpy()
        for one in np.unique(pid[pages]).tolist():
            moved, mine = pages[pid[pages] == one], waits[pid[waits] == one]
            out[mine] = cover(start[moved], end[moved]).within(start[mine], end[mine])
    return out


def _sparse(cell: Ints) -> bool:
    """Whether a table of all cells would be much larger than the operations are many."""
    return int(cell.max(initial=0)) > 4 * len(cell) + (1 << 20)


def _dense(cell: Ints) -> tuple[Ints, Ints]:
    return np.arange(int(cell.max(initial=-1)) + 1), cell


def _bytes(nbytes: pl.Series, rows: Ints, inside: Ints, whole: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """(bytes that lie inside, 0 where nobody said them; whether they were said) of the ops `rows`."""
    mine = nbytes.gather(rows)
    said, moved = ~mine.is_null().to_numpy(), mine.fill_null(0).to_numpy().copy()
    cut = np.flatnonzero(inside < whole)
    moved[cut] = np.floor(moved[cut] * (inside[cut] / whole[cut]) + 0.5).astype(np.int64)
    return moved, said
