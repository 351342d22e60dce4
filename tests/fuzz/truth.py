"""What a trace holds by plain SQL or JSON, without any code of the project: how many operations, and the sum of their times.

An analysis of the whole trace must say the same, less the rows that it names as dropped.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

TABLES: Final = tuple(f"CUPTI_ACTIVITY_KIND_{kind}" for kind in ("KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE"))
DROPPED: Final = (
    *("ops_without_end", "ops_without_start", "ops_end_before_start", "ops_out_of_range", "ops_without_device"),
    "ops_without_duration",
)
"""Reasons for which an operation is left out; the reader counts them under these words."""

LATEST: Final = 2**61


def against(file: Path, document: Mapping[str, Any], odd: Mapping[str, int]) -> Iterator[str]:
    """What the analysis `document` of all of `file` says otherwise than the file itself; nothing where SQL or JSON cannot tell.

    `odd` is what the reader of the trace says that it dropped (``Trace.meta.anomalies``).
    """
    told = of_export(file) if file.read_bytes()[:6] == b"SQLite" else of_profile(file)
    if told is None:
        return
    rows, usable, total = told
    (trace,) = document["traces"]
    kinds = [kind for device in trace["devices"] if device["type"] != "host" for kind in device["by_kind"].values()]
    ops, ns = sum(kind["ops"] for kind in kinds), sum(kind["sum_ns"] for kind in kinds)
    dropped = sum(odd.get(why, 0) for why in DROPPED)
    dropped += sum(one["rows"] for one in trace.get("oddities", ()) if one["what"] == "instant")
    if ops + dropped != rows:
        yield f"the file has {rows} operations, the analysis {ops} and {dropped} that it names as dropped"
    elif not odd.get("ops_out_of_range") and ops == usable and ns != total:
        yield f"{ops} operations take {total} ns in the file and {ns} ns in the analysis"


def of_export(file: Path) -> tuple[int, int, int] | None:
    """(rows of operations, those with a usable time and device, the sum of their times in ns); null where a cell is no integer,
    or SQLite cannot read it."""
    if any(file.with_name(file.name + end).exists() for end in ("-wal", "-journal")):
        return None
    rows = usable = total = 0
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as db:
            there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for table in there & set(TABLES):
                columns = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
                if not columns >= {"start", "end", "deviceId"}:
                    return None
                for start, end, device in db.execute(f"SELECT start, end, deviceId FROM {table}"):
                    rows += 1
                    if not all(isinstance(cell, int | None) for cell in (start, end, device)):
                        return None
                    if None in (start, end, device) or end == 0 or end < start or not 0 <= device < 2**31:
                        continue
                    if start > -LATEST and end < LATEST:
                        usable += 1
                        total += end - start
    except sqlite3.Error:
        return None
    return rows, usable, total


def of_profile(file: Path) -> tuple[int, int, int] | None:
    """The same of a torch.profiler trace; null where it is not plain JSON of complete events, whose times are whole ns."""
    data = file.read_bytes()
    try:
        whole = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data, parse_float=Decimal)
        events = whole if isinstance(whole, list) else whole["traceEvents"]
        found = [e for e in events if e.get("ph") == "X" and e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
        if any(e.get("ph") in ("B", "E") for e in events):
            return None
        usable = total = 0
        for event in found:
            start, length, device = event["ts"], event["dur"], event["args"]["device"]
            plain = all(isinstance(v, int | Decimal) and not isinstance(v, bool) for v in (start, length))
            if not plain or not isinstance(device, int) or isinstance(device, bool) or not 0 <= device < 2**31:
                return None
            if length < 0 or length * 1000 % 1 or start * 1000 % 1 or max(abs(start), length) * 1000 >= LATEST:
                return None
            usable += 1
            total += int(length * 1000)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, OSError, EOFError, RecursionError):
        return None
    return len(found), usable, total
