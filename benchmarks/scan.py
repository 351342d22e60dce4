"""The yardstick: how long SQLite itself needs to look at every event. Standard library only.

python -I benchmarks/scan.py FILE.sqlite
"""

from __future__ import annotations

import sqlite3
import sys

TABLES = (
    "CUPTI_ACTIVITY_KIND_KERNEL",
    "CUPTI_ACTIVITY_KIND_MEMCPY",
    "CUPTI_ACTIVITY_KIND_MEMSET",
    "CUPTI_ACTIVITY_KIND_RUNTIME",
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION",
    "NVTX_EVENTS",
)


def scan(path: str) -> dict[str, tuple[int, int | None]]:
    """(rows, nanoseconds) of every table of `TABLES`."""
    database = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    try:
        return {
            table: database.execute(f"SELECT count(*), sum(end - start) FROM {table}").fetchone() for table in TABLES
        }
    finally:
        database.close()


if __name__ == "__main__":
    for name, (rows, total) in scan(sys.argv[1]).items():
        print(name, rows, total)
