"""What an nsys export holds of a verification: ranges, device operations, and the call that launched each.

Read with the standard library alone, so that a verdict can be given wherever something can be recorded.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ...capture.export_check import RANGE_TYPES
from ...traces.errors import RecorderError

KERNEL: Final = "kernel"
COPY: Final = "copy"
SET: Final = "memset"
GRAPH: Final = "graph"

_TABLES: Final = {
    KERNEL: "CUPTI_ACTIVITY_KIND_KERNEL",
    COPY: "CUPTI_ACTIVITY_KIND_MEMCPY",
    SET: "CUPTI_ACTIVITY_KIND_MEMSET",
    GRAPH: "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
}
_CALLS: Final = ("CUPTI_ACTIVITY_KIND_RUNTIME", "CUPTI_ACTIVITY_KIND_DRIVER")

_COPY_KINDS: Final = {1: "h2d", 2: "d2h", 8: "d2d", 10: "p2p"}
"""Numbers of CUpti_ActivityMemcpyKind."""


@dataclass(frozen=True, slots=True)
class Range:
    """An NVTX push/pop range; `thread` is the global number of its thread, which holds that of the process."""

    name: str
    start_ns: int
    end_ns: int
    thread: int


@dataclass(frozen=True, slots=True)
class Op:
    """A device operation. `launched_ns` and `thread` are of the call that launched it, null where the recording has none.

    `name` is a kernel's demangled name, a copy's direction, or ``memset``; `mangled` a kernel's own name, empty if unknown.
    """

    kind: str
    name: str
    mangled: str
    start_ns: int
    end_ns: int
    stream: int
    launched_ns: int | None
    thread: int | None
    in_graph: bool = False
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Recording:
    """Ranges and operations, each in the order of their start."""

    ranges: Sequence[Range]
    ops: Sequence[Op]


def read_recording(export: Path) -> Recording:
    """What is in `export`. Tables that are absent are empty; raises `RecorderError` if it is not a database of nsys."""
    try:
        with closing(sqlite3.connect(f"{export.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            words = dict(db.execute("SELECT id, value FROM StringIds")) if "StringIds" in tables else {}
            launches = dict(_launches(db, tables))
            ops = [op for kind in _TABLES for op in _ops(db, tables, kind, words, launches)]
            ranges = list(_ranges(db, tables, words))
    except sqlite3.Error as exc:
        raise RecorderError(f"the recording {export} cannot be read ({exc}); verify again") from exc
    return Recording(sorted(ranges, key=lambda r: r.start_ns), sorted(ops, key=lambda o: (o.start_ns, o.end_ns)))


def _launches(db: sqlite3.Connection, tables: set[str]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """(process, correlation) -> (start, thread) of each call; of nested ones the first in the tables' order counts."""
    seen: dict[tuple[int, int], tuple[int, int]] = {}
    for table in _CALLS:
        if table in tables:
            rows = db.execute(f"SELECT globalTid, correlationId, start FROM {table} WHERE correlationId NOT NULL")
            for thread, correlation, start in rows:
                seen.setdefault((thread >> 24, correlation), (start, thread))
    yield from seen.items()


def _ops(
    db: sqlite3.Connection,
    tables: set[str],
    kind: str,
    words: dict[int, str],
    launches: dict[tuple[int, int], tuple[int, int]],
) -> Iterator[Op]:
    table = _TABLES[kind]
    if table not in tables:
        return
    there = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
    names = ("demangledName", "mangledName", "graphNodeId", "bytes", "copyKind")
    columns = ", ".join(name if name in there else f"NULL AS {name}" for name in names)
    rows = db.execute(f"SELECT start, end, streamId, correlationId, globalPid, {columns} FROM {table}")
    for start, end, stream, correlation, process, name, mangled, node, nbytes, direction in rows:
        launched, thread = launches.get(((process or 0) >> 24, correlation), (None, None))
        yield Op(
            kind=kind,
            name=_op_name(kind, words.get(name), direction),
            mangled=words.get(mangled, "") if mangled is not None else "",
            start_ns=start,
            end_ns=end,
            stream=stream if stream is not None else -1,
            launched_ns=launched,
            thread=thread,
            in_graph=kind == GRAPH or bool(node),
            nbytes=nbytes or 0,
        )


def _op_name(kind: str, name: str | None, direction: int | None) -> str:
    if kind == COPY:
        return _COPY_KINDS.get(direction if direction is not None else -1, "copy")
    return name or kind


def _ranges(db: sqlite3.Connection, tables: set[str], words: dict[int, str]) -> Iterator[Range]:
    if "NVTX_EVENTS" not in tables:
        return
    types = ", ".join(map(str, RANGE_TYPES))
    rows: Any = db.execute(f"SELECT text, textId, start, end, globalTid FROM NVTX_EVENTS WHERE eventType IN ({types})")
    for text, number, start, end, thread in rows:
        if end is not None:
            yield Range(text or words.get(number, ""), start, end, thread)
