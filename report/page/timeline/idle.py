"""The causes of each device's idle time, for gaps that the page finds by itself.

    ops      |---a---|        |---b---|       |--c--|
    gaps             |........|       |.......|            derived in the page: what the union of the operations leaves
    pieces           | sync | |       | launch|            here: how many each gap has, their causes, all lengths but the last

The page adds up what it derives and compares with the ledger's idle time, cause by cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from ....analyze.accounts.ledger import Pieces
from ....analyze.accounts.ledger_tables import pieces_of_idle_time
from ....analyze.attribution.attribute import Attributed
from ....analyze.attribution.window_ops import kind_codes
from ....analyze.intervals import Ints, cover
from ....analyze.result import CAUSES, IDLE, Analysis
from ....traces.model import KINDS
from .columns import Columns
from .names import Names
from .streams import device_word
from .sums import Grid, by_priority, sums_of


def device_lanes(
    a: Attributed, analysis: Analysis, columns: Columns, names: Names, grid: Grid | None, zero_ns: int
) -> list[dict[str, Any]]:
    """Each device with its window, the causes of its gaps, and what its ledger says of busy and idle time in ns."""
    found = []
    for span, several in pieces_of_idle_time(a):
        ledger = analysis.ledger.filter(pl.col("device") == span.device)
        start, end, stage, cause = _joined(several)
        path = names.of_codes(a.stages.path_of_code(stage), *_words(a))
        device: dict[str, Any] = {
            "device": span.device,
            "label": device_word(a, span.device),
            "window": [span.start_ns - zero_ns, span.end_ns - zero_ns],
            "busy": _sums(ledger.filter(pl.col("category") != IDLE), "category"),
            "idle": _sums(ledger.filter(pl.col("category") == IDLE), "cause"),
        }
        if grid is not None:
            ops = a.trace.ops.filter(pl.col("device") == span.device)
            s, e = (np.clip(ops[c].to_numpy(), span.start_ns, span.end_ns) for c in ("start_ns", "end_ns"))
            parts = by_priority(kind_codes(ops).astype(np.int64), s, e, len(KINDS))
            device["summed"] = sums_of(columns, grid, parts, s)
            covers = {c: cover(start[cause == c], end[cause == c]) for c in np.unique(cause).tolist()}
            device["summed_idle"] = sums_of(columns, grid, covers, start)
            start, end, path, cause = _within(grid, start, end, path, cause)
        found.append(device | _pieces(columns, start, end, path, cause))
    return found


def _words(a: Attributed) -> tuple[Sequence[str], dict[int, str]]:
    special = {code: word for code, word in a.stages.path_names.items() if code < 0}
    return a.stages.paths if len(a.stages) else [], special


def _sums(ledger: pl.DataFrame, by: str) -> dict[str, int]:
    return dict(ledger.group_by(by).agg(pl.col("ns").sum()).sort(by).iter_rows())


def _joined(several: Sequence[Pieces]) -> tuple[Ints, Ints, Ints, Ints]:
    """All pieces; neighbours of one stage and cause are one."""
    if not several:
        return tuple(np.empty(0, np.int64) for _ in range(4))  # type: ignore[return-value]
    columns = ("start_ns", "end_ns", "stage", "cause")
    start, end, stage, cause = (np.concatenate([getattr(p, c) for p in several]) for c in columns)
    fresh = np.ones(len(start), bool)
    fresh[1:] = (start[1:] != end[:-1]) | (stage[1:] != stage[:-1]) | (cause[1:] != cause[:-1])
    first = np.flatnonzero(fresh)
    last = np.r_[first[1:] - 1, len(start) - 1] if len(start) else first
    return start[first], end[last], stage[first], cause[first]


def _within(grid: Grid, start: Ints, end: Ints, path: Ints, cause: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """What of the pieces lies in exact stretches."""
    parts = []
    for low, high in grid.stretches:
        first, last = np.searchsorted(end, low, side="right"), np.searchsorted(start, high, side="left")
        rows = slice(int(first), int(last))
        parts.append((np.maximum(start[rows], low), np.minimum(end[rows], high), path[rows], cause[rows]))
    if not parts:
        return start[:0], end[:0], path[:0], cause[:0]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def _pieces(columns: Columns, start: Ints, end: Ints, path: Ints, cause: Ints) -> dict[str, Any]:
    opens = np.ones(len(start), bool)
    opens[1:] = start[1:] != end[:-1]
    first = np.flatnonzero(opens)
    closes = np.r_[opens[1:], True] if len(start) else opens
    used, which = np.unique(path * len(CAUSES) + cause, return_inverse=True)
    return {
        "gaps": len(first),
        "pieces": columns.add(np.diff(np.r_[first, len(start)])),
        "lengths": columns.add((end - start)[~closes]),
        "which": columns.add(which.reshape(-1)),
        "causes": [[int(code % len(CAUSES)), int(code // len(CAUSES))] for code in used.tolist()],
    }
