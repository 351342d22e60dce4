"""Counting rows of a fresh nsys export, to notice what nsys loses without an error.

Seen: an nvtx package whose ranges an older nsys does not record at all, and an nsys older than the driver that loses
almost all device rows; both end with exit code 0. The standard library's sqlite3 is enough for this.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..traces.errors import RecorderError
from ..traces.phases import PHASES
from .stages import DOMAIN

RANGE_TYPES: Final = (59, 60)
"""NvtxPushPopRange and NvtxStartEndRange in ENUM_NSYS_EVENT_TYPE, the same from 2022.4 to 2025.3."""
DOMAIN_CREATE: Final = 75
"""NvtxDomainCreate: names a (process, domainId)."""

DEVICE_TABLES: Final = (
    "CUPTI_ACTIVITY_KIND_KERNEL",
    "CUPTI_ACTIVITY_KIND_MEMCPY",
    "CUPTI_ACTIVITY_KIND_MEMSET",
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
)
WITH_PROCESSES: Final = ("NVTX_EVENTS", "CUPTI_ACTIVITY_KIND_RUNTIME")
"""Tables whose rows say which process made them: bits 24 to 47 of globalTid."""
LAUNCHES: Final = ("cudaLaunch*", "cuLaunch*", "cudaMemcpy*Async*", "cuMemcpy*Async*", "cudaGraphLaunch*")
"""GLOB patterns of API calls each of which puts something on a device, unless its stream is being captured."""
BEGIN_CAPTURE: Final = ("*StreamBeginCapture*",)
"""GLOB patterns of the calls that begin the capture of a CUDA graph."""
END_CAPTURE: Final = ("*StreamEndCapture*",)
"""And of those that end it, whatever they return."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What an export holds. `own_ranges` are ranges of domain ``aisp``, `phases` those of ``phases.py``; `without_row` of the
    launches have no device row.

    Launches made while a CUDA graph was captured are not counted: nothing runs then.
    """

    own_ranges: int
    ranges: int
    launches: int
    without_row: int
    phases: int = 0


def count_rows(export: Path) -> Counts:
    """Count the rows of `export`. Tables that are absent count as empty; raises `RecorderError` if it is not a database."""
    with _opened(export) as (db, tables):
        own, phases, every = _ranges(db, tables)
        launches, without = _launches(db, tables)
        return Counts(own, every, launches, without, phases)


def recorded_processes(export: Path) -> frozenset[int]:
    """The processes that opened a range or made a CUDA call, by their system's number; raises as `count_rows` does."""
    with _opened(export) as (db, tables):
        rows = " UNION ".join(f"SELECT globalTid FROM {table}" for table in WITH_PROCESSES if table in tables)
        found = db.execute(f"SELECT DISTINCT globalTid >> 24 & 0xFFFFFF FROM ({rows})") if rows else ()
        return frozenset(pid for (pid,) in found)


@contextmanager
def _opened(export: Path) -> Iterator[tuple[sqlite3.Connection, set[str]]]:
    """The export, read only, and the names of its tables."""
    try:
        with closing(sqlite3.connect(f"{export.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            yield db, {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as exc:
        raise RecorderError(f"the export {export} cannot be read ({exc}); record again") from exc


def _ranges(db: sqlite3.Connection, tables: set[str]) -> tuple[int, int, int]:
    """Ranges of our stages, of phases, and all."""
    if "NVTX_EVENTS" not in tables:
        return 0, 0, 0
    types = ", ".join(str(number) for number in RANGE_TYPES)
    name = "e.text"
    join = ""
    if "StringIds" in tables and "textId" in {row[1] for row in db.execute("PRAGMA table_info(NVTX_EVENTS)")}:
        name, join = "COALESCE(e.text, s.value)", "LEFT JOIN StringIds s ON s.id = e.textId"
    # Domain ids are per process.
    own = f"""
        SELECT COUNT(*) FROM NVTX_EVENTS r WHERE r.eventType IN ({types}) AND (r.globalTid >> 24, r.domainId) IN (
            SELECT e.globalTid >> 24, e.domainId FROM NVTX_EVENTS e {join}
            WHERE e.eventType = {DOMAIN_CREATE} AND {name} = ?)
    """
    (every,) = db.execute(f"SELECT COUNT(*) FROM NVTX_EVENTS WHERE eventType IN ({types})").fetchone()
    ours, phases = (db.execute(own, (domain,)).fetchone()[0] for domain in (DOMAIN, PHASES))
    return ours, phases, every


def _launches(db: sqlite3.Connection, tables: set[str]) -> tuple[int, int]:
    if "CUPTI_ACTIVITY_KIND_RUNTIME" not in tables or "StringIds" not in tables:
        return 0, 0
    # Process and correlation as one word: of a pair of columns SQLite makes no index, and compares all with all.
    rows = " UNION ".join(
        f"SELECT (globalPid >> 24) || ':' || correlationId FROM {table} WHERE correlationId NOT NULL AND globalPid NOT NULL"
        for table in DEVICE_TABLES
        if table in tables
    )
    lost = f" AND (r.globalTid >> 24) || ':' || r.correlationId NOT IN ({rows})" if rows else ""
    (launches,) = db.execute(_calls("COUNT(*)", LAUNCHES), LAUNCHES).fetchone()
    begins, ends = _by_thread(db, BEGIN_CAPTURE), _by_thread(db, END_CAPTURE, "true")
    captured = without = 0
    for thread, start in db.execute(_calls("r.globalTid, r.start", LAUNCHES) + lost, LAUNCHES):
        if bisect_right(begins[thread], start) > bisect_right(ends[thread], start):
            captured += 1
        else:
            without += 1
    return launches - captured, without


def _calls(columns: str, names: Sequence[str], condition: str = "r.returnValue = 0") -> str:
    like = " OR ".join("s.value GLOB ?" for _ in names)
    return f"""
        SELECT {columns} FROM CUPTI_ACTIVITY_KIND_RUNTIME r JOIN StringIds s ON s.id = r.nameId
        WHERE ({like}) AND {condition}
    """


def _by_thread(
    db: sqlite3.Connection, names: Sequence[str], condition: str = "r.returnValue = 0"
) -> defaultdict[int, list[int]]:
    starts = defaultdict[int, list[int]](list)
    for thread, start in db.execute(_calls("r.globalTid, r.start", names, condition) + " ORDER BY r.start", names):
        starts[thread].append(start)
    return starts
