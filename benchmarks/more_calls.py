"""A trace with two short calls more after each CUDA call that leaves room for them: about four calls a kernel, as frameworks make
that ask the runtime for errors and capture states.

python -m aisp_trace.benchmarks.more_calls TRACE TARGET
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

TABLE: Final = "CUPTI_ACTIVITY_KIND_RUNTIME"

LENGTH_NS: Final = 100
"""How long each added call takes, and how far it is from the one before it."""


def more_calls(trace: Path, target: Path) -> int:
    """Write `trace` with more calls to `target`; returns how many calls that makes."""
    shutil.copyfile(trace, target)
    with closing(sqlite3.connect(target)) as db:
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({TABLE})")]
        names = ", ".join(columns)
        made = {
            "start": "end + {0}",
            "end": "end + {0} + {1}",
            "correlationId": "0",
            "nameId": "(SELECT min(nameId) FROM {2})",
        }
        one = ", ".join(made.get(column, column) for column in columns)
        extra = [one.format(LENGTH_NS * (2 * n + 1), LENGTH_NS, TABLE) for n in range(2)]
        room = f"SELECT *, lead(start) OVER (PARTITION BY globalTid ORDER BY start) AS next FROM {TABLE}"
        parts = [
            f"SELECT {names} FROM {TABLE}",
            *(f"SELECT {e} FROM room WHERE next - end > {LENGTH_NS * 6}" for e in extra),
        ]
        schema = db.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (TABLE,)).fetchone()[0]
        db.execute(schema.replace(TABLE, "more", 1))
        db.execute(f"WITH room AS ({room}) INSERT INTO more {' UNION ALL '.join(parts)} ORDER BY start")
        db.execute(f"DROP TABLE {TABLE}")
        db.execute(f"ALTER TABLE more RENAME TO {TABLE}")
        db.commit()
        db.execute("VACUUM")
        return int(db.execute(f"SELECT count(*) FROM {TABLE}").fetchone()[0])


if __name__ == "__main__":
    print(more_calls(Path(sys.argv[1]), Path(sys.argv[2])))
