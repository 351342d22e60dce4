"""CPU samples of an nsys export (``nsys profile --sample``): which functions a thread ran in given stretches of time.

    COMPOSITE_EVENTS      id, start, globalTid                                    one row a sample
    SAMPLING_CALLCHAINS   id, stackDepth (0: innermost), symbol, module, ...      one row a frame, by (id, stackDepth)

The first is scanned, the second, which has a dozen rows a sample, is only searched for the samples that lie in a stretch.
Memory is taken for these alone. OSRT_CALLCHAINS and CUDA_CALLCHAINS are stacks of calls, not samples, and are not read.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..content import last_part
from ..samples import FUNCTIONS, Stretch
from .schema import SAMPLE_FRAMES, SAMPLES
from .source import Source, quoted

_HOST_BITS: Final = 48
_FIELD: Final = 1 << 24
_PART: Final = 1 << 14
"""Samples held at a time while the wanted ones are picked."""

Numbers = npt.NDArray[np.int64]

Frame = tuple[int, int | None, int | None]
"""(depth, symbol, module); symbol null: a frame without a name."""


def read_samples(path: Path, stretches: Sequence[Stretch]) -> pl.DataFrame:
    """Table `samples.FUNCTIONS` of `stretches` in the nsys export `path`.

    No rows where the export has no samples, and where it covers several hosts, whose samples it does not tell apart by the
    model's pids. Raises `InputError` if the export is damaged, or if not all rows of its samples can be read.
    """
    with Source(path) as source:
        wanted = _samples_in(source, stretches)
        frames = _innermost(source, sorted({number for numbers in wanted for number in numbers}))
        ids = {n for _, symbol, module in frames.values() for n in (symbol, module) if n is not None}
        strings = source.strings(ids)
    rows: list[tuple[int, str | None, str | None, int]] = []
    for position, numbers in enumerate(wanted):
        functions: Counter[tuple[str | None, str | None]] = Counter()
        for number in numbers:
            _, symbol, module = frames.get(number, _NAMELESS)
            name = None if symbol is None else strings.get(symbol)
            whose = None if name is None or module is None else last_part(strings.get(module, "")) or None
            functions[name, whose] += 1
        rows += [(position, *key, n) for key, n in functions.items()]
    table = pl.DataFrame(rows, schema=FUNCTIONS, orient="row")
    return table.sort(["stretch", "samples", "function", "module"], descending=[False, True, False, False])


_NAMELESS: Final[Frame] = (0, None, None)


def _samples_in(source: Source, stretches: Sequence[Stretch]) -> list[list[int]]:
    """The ids of the samples in each of `stretches`."""
    found: list[list[int]] = [[] for _ in stretches]
    if not stretches or not source.has(SAMPLES, "id", "start", "globalTid") or not source.has(SAMPLE_FRAMES, "id"):
        return found
    low = min(s.start_ns for s in stretches)
    high = max(s.end_ns for s in stretches)
    seen, first, last = source.rows(
        f"SELECT count(CASE WHEN typeof(start) IS NOT NULL THEN 1 END), min(globalTid >> {_HOST_BITS}), "
        f"max(globalTid >> {_HOST_BITS}) FROM {quoted(SAMPLES)}"
    )[0]
    source.require_all(SAMPLES, seen)
    if first != last or any(s.pid >= _FIELD for s in stretches):
        return found
    by_thread: dict[int, list[int]] = {}
    for position, stretch in enumerate(stretches):
        by_thread.setdefault(stretch.pid * _FIELD + stretch.tid, []).append(position)
    for numbers, starts, threads in _parts(source, low, high, list(by_thread)):
        for thread, positions in by_thread.items():
            mine = threads == thread
            number, start = numbers[mine], starts[mine]
            for position in positions:
                inside = (start >= stretches[position].start_ns) & (start < stretches[position].end_ns)
                found[position] += number[inside].tolist()
    return found


def _parts(source: Source, low: int, high: int, threads: list[int]) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
    """(ids, times, threads) of the samples of `threads` in ``[low, high)``, some at a time."""
    whose = f"(globalTid & {(1 << _HOST_BITS) - 1})"
    numbers = " AND ".join(f"typeof({c}) = 'integer'" for c in ("id", "start", "globalTid"))
    text = (
        f"SELECT id, start, {whose} FROM {quoted(SAMPLES)} WHERE {numbers} AND start >= ? AND start < ? "
        f"AND {whose} IN (SELECT value FROM json_each(?))"
    )
    cursor: sqlite3.Cursor = source.guard(lambda: source.db.execute(text, (low, high, json.dumps(threads))))
    while rows := source.guard(lambda: cursor.fetchmany(_PART)):
        columns = np.array(rows, np.int64).T
        yield columns[0], columns[1], columns[2]


def _innermost(source: Source, numbers: list[int]) -> dict[int, Frame]:
    """Of each sample the innermost frame with a name, else one without; none of a sample that has no frames.

    Remarks such as ``[Broken backtraces]`` stand where frames do, and are their own module.
    Raises `InputError` where frames are missing because the table is damaged.
    """
    present = source.tables.get(SAMPLE_FRAMES, {})
    if not numbers or any(c not in present for c in ("stackDepth", "symbol")):
        return {}
    asked = ("id", "stackDepth", "symbol", "module", "unresolved", "specialEntry")
    cells = ", ".join(quoted(c) if c in present else "NULL" for c in asked)
    text = f"SELECT {cells} FROM {quoted(SAMPLE_FRAMES)} WHERE id IN (SELECT value FROM json_each(?))"
    cursor: sqlite3.Cursor = source.guard(lambda: source.db.execute(text, (json.dumps(numbers),)))
    found: dict[int, Frame] = {}
    extent: dict[int, list[int]] = {}  # of each sample: how many frames, and how many there must be
    while rows := source.guard(lambda: cursor.fetchmany(_PART)):
        for number, depth, symbol, module, unresolved, special in rows:
            if not isinstance(number, int) or not isinstance(depth, int):
                continue
            counted = extent.setdefault(number, [0, 0])
            counted[0] += 1
            counted[1] = max(counted[1], depth + 1)
            named = isinstance(symbol, int) and symbol != module and not unresolved and not special
            frame = (depth, symbol, module if isinstance(module, int) else None) if named else (depth, None, None)
            before = found.get(number)
            if before is None or (named and (before[1] is None or depth < before[0])):
                found[number] = frame
    if len(extent) < len(numbers) or any(n != most for n, most in extent.values()):
        source.require_all(SAMPLE_FRAMES, _visited(source))
    return found


def _visited(source: Source) -> int:
    """How many rows a walk over all frames meets; a search by id meets the same, or the index is damaged."""
    text = f"SELECT count(CASE WHEN typeof(symbol) IS NOT NULL THEN 1 END) FROM {quoted(SAMPLE_FRAMES)} NOT INDEXED"
    return int(source.rows(text)[0][0])
