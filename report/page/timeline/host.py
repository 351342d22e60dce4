"""What host threads did: the stages open on each, one row a nesting depth, and its calls.

thread 4242      |--------- iteration ---------|
                 |-- h2d --||---- compute ----|
calls              |copy|  |launch|  |  sync  |       CUDA calls; the innermost of nested ones is drawn
OS calls                             |  read  |       where the recorder has them
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ....analyze.attribution import calls as api
from ....analyze.attribution.attribute import Attributed
from ....analyze.attribution.launches import grouped_rows
from ....analyze.attribution.stages import Thread, levels_of
from ....analyze.attribution.steps import innermost
from ....analyze.intervals import Cover, Ints
from ....traces.model import STAGE_KINDS, Trace, distinct_values
from .columns import Columns, by_class, steps_between
from .names import Names
from .sums import Grid, sums_of

MOST_THREADS: Final = 24
"""Threads of one trace; those that do most are kept."""

MOST_ROWS: Final = 12
"""Rows of stage bands of one thread."""

CALL_CLASSES: Final = (*api.CLASSES, "os", "os_wait")
"""Classes of host calls: those of CUDA, operating-system calls, and those of them that wait."""

OS, OS_WAIT = len(api.CLASSES), len(api.CLASSES) + 1


@dataclass(frozen=True, slots=True)
class Host:
    """Threads as the page reads them, the number of each CUDA call on the page (or -1), and what is not drawn."""

    threads: list[dict[str, Any]]
    call_number: Ints
    notes: list[str]


def host_lanes(a: Attributed, columns: Columns, names: Names, grid: Grid | None, zero_ns: int) -> Host:
    """The bands and calls of every thread that has any. In a `grid`, where given, calls are summed outside exact bins."""
    trace, calls = a.trace, a.calls
    notes: list[str] = []
    bands = {t: rows[~a.stages.is_measured[rows]] for t, rows in a.stages.threads.items()}
    os_rows = _by_thread(trace.osrt)
    weight: dict[Thread, int] = {}
    for group in (bands, calls.rows_of_thread if len(calls) else {}):
        for thread, rows in group.items():
            weight[thread] = weight.get(thread, 0) + len(rows)
    kept = sorted(weight, key=lambda t: -weight[t])[:MOST_THREADS]
    if len(weight) > MOST_THREADS:
        notes.append(f"{len(weight) - MOST_THREADS:,} threads with few stages and calls are not drawn")
    staged = {t[0] for t, rows in bands.items() if len(rows)}
    kept.sort(key=lambda t: (t[0] not in staged, t[0], -len(bands.get(t, ())), -weight[t], t[1]))
    number = np.full(len(calls), -1, np.int64)
    shown, threads = 0, []
    for thread in kept:
        rows = bands.get(thread, np.empty(0, np.int64))
        one: dict[str, Any] = {"label": _label(trace, thread), "bands": _bands(a, rows, columns, names, zero_ns, notes)}
        of = calls.rows_of_thread.get(thread, np.empty(0, np.int64)) if len(calls) else np.empty(0, np.int64)
        if len(of):
            of = of[np.lexsort((-calls.end_ns[of], calls.start_ns[of]))]
            start, end, kind = calls.start_ns[of], calls.end_ns[of], calls.kind[of].astype(np.int64)
            one["calls"], exact = _calls(columns, start, end, kind, names.of(trace.api["name"][of]), grid, zero_ns)
            number[of[exact]] = shown + np.arange(int(exact.sum()))
            shown += int(exact.sum())
        if thread in os_rows:
            table = trace.osrt[os_rows[thread]].sort("start_ns", pl.col("end_ns"), descending=[False, True])
            start, end = table["start_ns"].to_numpy(), table["end_ns"].to_numpy()
            one["os"], _ = _calls(columns, start, end, _os_classes(table), names.of(table["name"]), grid, zero_ns)
        threads.append(one)
    return Host(threads, number, notes)


def _label(trace: Trace, thread: Thread) -> str:
    """``main 11``; the number is left out where the name holds it already."""
    pid, tid = thread
    named = trace.threads.filter((pl.col("pid") == pid) & (pl.col("tid") == tid))["name"]
    name = (named[0] or "") if len(named) else ""
    number = f"{tid}" if trace.threads["pid"].n_unique() <= 1 else f"{pid & 0xFFFFFF}/{tid}"
    return name[:60] if number in name else f"{name[:40] or 'thread'} {number}"


def _by_thread(table: pl.DataFrame) -> dict[Thread, Ints]:
    if table.is_empty():
        return {}
    rows = table.select("pid", "tid").with_row_index("row").group_by("pid", "tid").agg("row")
    return {(pid, tid): np.array(of, np.int64) for pid, tid, of in rows.iter_rows()}


def _os_classes(table: pl.DataFrame) -> Ints:
    words = [*distinct_values(table["name"]), ""]
    waits = np.array([re.search(api.WAITING_OS_CALLS, word) is not None for word in words])
    codes = table["name"].to_physical().cast(pl.Int64).fill_null(len(words) - 1).to_numpy()
    return np.where(waits[codes], OS_WAIT, OS)


def _calls(
    columns: Columns, start: Ints, end: Ints, kind: Ints, name: Ints, grid: Grid | None, zero_ns: int
) -> tuple[dict[str, Any], npt.NDArray[np.bool_]]:
    """A lane of calls by (start, longest first), and which of them it holds one by one."""
    end = np.maximum(start, end)
    lane: dict[str, Any] = {"items": len(start)}
    exact = np.ones(len(start), bool)
    if grid is not None:
        open_ = innermost(start, end, kind)
        until = np.r_[open_.at[1:], open_.at[-1:]]
        parts = {}
        for k in np.unique(kind).tolist():
            mine = (open_.value == k) & (until > open_.at)
            parts[k] = Cover(open_.at[mine], until[mine])
        lane["summed"] = sums_of(columns, grid, parts, start)
        exact = grid.touches(start, end)
    start, end = start[exact] - zero_ns, end[exact] - zero_ns
    used, which = np.unique(name[exact] * len(CALL_CLASSES) + kind[exact], return_inverse=True)
    lane["classes"] = [[int(code // len(CALL_CLASSES)), int(code % len(CALL_CLASSES))] for code in used.tolist()]
    lane["step"] = columns.add(steps_between(start, end), signed=True)
    lane["length"] = columns.add(by_class(end - start, which.reshape(-1)))
    lane["class"] = columns.add(which.reshape(-1))
    return lane, exact


def _bands(
    a: Attributed, rows: Ints, columns: Columns, names: Names, zero_ns: int, notes: list[str]
) -> list[dict[str, Any]]:
    """The rows of one thread's stages, outermost first; a class is (name, stage path, 1 + kind in `STAGE_KINDS` or 0,
    whether it was never closed)."""
    stages = a.stages
    start, end = stages.start_ns[rows], stages.end_ns[rows]
    ranges = a.trace.ranges
    category = ranges["category"].to_physical().cast(pl.Int64).fill_null(-1).to_numpy()[stages.range_id[rows]]
    words = distinct_values(ranges["category"])
    kinds = np.array([1 + STAGE_KINDS.index(w) if w in STAGE_KINDS else 0 for w in words] + [0], np.int64)[category]
    open_ = ranges["end_ns"].is_null().to_numpy()[stages.range_id[rows]].astype(np.int64)
    name = names.of(ranges["name"][stages.range_id[rows]])
    path = names.of_codes(stages.path_id[rows], stages.paths)
    nbytes = ranges["nbytes"].fill_null(-1).to_numpy()[stages.range_id[rows]] + 1
    found = []
    levels = _rows(a, rows, start, end)
    for level in levels[:MOST_ROWS]:
        key = np.stack([name[level], path[level], kinds[level], open_[level]], axis=1)
        used, which = np.unique(key, axis=0, return_inverse=True)
        begin, stop = start[level] - zero_ns, end[level] - zero_ns
        found.append(
            {
                "items": len(level),
                "classes": used.tolist(),
                "step": columns.add(steps_between(begin, stop), signed=True),
                "length": columns.add(by_class(stop - begin, which.reshape(-1))),
                "class": columns.add(which.reshape(-1)),
                "bytes": columns.add(nbytes[level]),
            }
        )
    deeper = sum(len(level) for level in levels[MOST_ROWS:])
    if deeper:
        notes.append(f"{deeper:,} ranges nested deeper than {MOST_ROWS} rows are not drawn")
    return found


def _rows(a: Attributed, rows: Ints, start: Ints, end: Ints) -> list[Ints]:
    """Positions in `rows` by the row they are drawn in: by nesting depth, and where ranges of one depth overlap (requests in
    flight), each in the first row below its parent's that is free."""
    if len(rows) == 0:
        return []
    inverse = np.full(len(a.stages), -1, np.int64)
    inverse[rows] = np.arange(len(rows))
    above = a.stages.parent[rows]
    parent = np.where(above >= 0, inverse[above], -1)
    levels = levels_of(parent)
    if all((start[level[1:]] >= end[level[:-1]]).all() for level in levels):
        return [np.asarray(level) for level in levels]
    open_: list[tuple[int, int]] = []
    depth = np.zeros(len(rows), np.int64)
    for i, (begin, stop) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        open_ = [(until, d) for until, d in open_ if until > begin]
        taken = {d for _, d in open_}
        least = int(depth[parent[i]]) + 1 if parent[i] >= 0 else 0
        depth[i] = next(d for d in range(least, least + len(taken) + 1) if d not in taken)
        open_.append((stop, int(depth[i])))
    order, bounds = grouped_rows(depth, int(depth.max()) + 1)
    return [order[bounds[d] : bounds[d + 1]] for d in range(int(depth.max()) + 1)]
