"""An oracle that shares no code with the project: nsys rows, swept in plain Python with nothing but SQL before it.

It knows what lies on a device, which kind of work goes first, and in which range a graph's node was created; of idle time it
knows the sum. It reads a whole export, and no window.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

ORDER: Final = ("migration", "compute", "h2d", "d2h", "p2p", "d2d", "memset")
COPIES: Final = {1: "h2d", 2: "d2h", 8: "d2d", 10: "p2p"}
PAGES: Final = {11: "h2d", 12: "d2h"}
ASKED: Final = 1
"""The cause of a migration that the program asked for: cudaMemPrefetchAsync."""

Op = tuple[int, str, int, int]
"""(GPU, kind, start, end)."""


def ops(db: sqlite3.Connection) -> Iterator[Op]:
    """All of the export, on the GPU that the process's own number stands for. No kernel is a collective's here."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    gpus = {(pid, cuda): gpu for gpu, cuda, pid in db.execute("SELECT gpuId, cudaId, pid FROM TARGET_INFO_CUDA_DEVICE")}

    def rows(table: str, columns: str) -> Iterator[tuple[int, int, int, int, int | None]]:
        if table in tables:
            for device, process, start, end, *more in db.execute(
                f"SELECT deviceId, (globalPid >> 24) & 0xFFFFFF, start, end{columns} FROM {table}"
            ):
                yield gpus[process, device], start, end, *(more or (0, None))

    for gpu, start, end, _, _ in rows("CUPTI_ACTIVITY_KIND_KERNEL", ""):
        yield gpu, "compute", start, end
    for gpu, start, end, kind, cause in rows("CUPTI_ACTIVITY_KIND_MEMCPY", ", copyKind, migrationCause"):
        page = PAGES.get(kind)
        yield gpu, COPIES[kind] if page is None else page if cause == ASKED else "migration", start, end
    for gpu, start, end, _, _ in rows("CUPTI_ACTIVITY_KIND_MEMSET", ""):
        yield gpu, "memset", start, end


def busy(file: Path) -> dict[int, dict[str, int]]:
    """Of each GPU: ns by kind, each instant counted for the first kind of `ORDER` that runs then, "idle" between the first start
    and the last end, and "sum" of all durations."""
    edges: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    found: dict[int, Counter[str]] = defaultdict(Counter)
    with closing(sqlite3.connect(file)) as db:
        for gpu, kind, start, end in ops(db):
            edges[gpu] += [(start, 1, kind), (end, -1, kind)]
            found[gpu]["sum"] += end - start
    for gpu, all_of_it in edges.items():
        running: Counter[str] = Counter()
        before = min(time for time, _, _ in all_of_it)
        for time, step, kind in sorted(all_of_it):
            found[gpu][next((one for one in ORDER if running[one]), "idle")] += time - before
            running[kind] += step
            before = time
    return {gpu: {kind: ns for kind, ns in of_it.items() if ns} for gpu, of_it in found.items()}


def captured(file: Path) -> dict[str, tuple[int, int]]:
    """Kernels that graphs replayed: (how many, ns in sum) by the innermost range in which their node was captured, "" where none
    of the recording was open then."""
    found: dict[str, tuple[int, int]] = {}
    query = """
        WITH clone AS (SELECT graphNodeId AS id, originalGraphNodeId AS original FROM CUDA_GRAPH_NODE_EVENTS
                       WHERE originalGraphNodeId NOT NULL),
             born AS (SELECT graphNodeId AS id, globalTid AS tid, MIN(start) AS at FROM CUDA_GRAPH_NODE_EVENTS
                      WHERE originalGraphNodeId IS NULL GROUP BY graphNodeId)
        SELECT k.end - k.start, born.tid, born.at FROM CUPTI_ACTIVITY_KIND_KERNEL k
        JOIN clone ON clone.id = k.graphNodeId JOIN born ON born.id = clone.original
    """
    ranges = """
        SELECT COALESCE(e.text, s.value) FROM NVTX_EVENTS e LEFT JOIN StringIds s ON s.id = e.textId
        WHERE e.eventType = 59 AND e.globalTid = ? AND e.start <= ? AND e.end > ? ORDER BY e.start DESC LIMIT 1
    """
    with closing(sqlite3.connect(file)) as db:
        for ns, thread, at in db.execute(query).fetchall():
            (name,) = db.execute(ranges, (thread, at, at)).fetchone() or ("",)
            count, total = found.get(name, (0, 0))
            found[name] = (count + 1, total + ns)
    return found
