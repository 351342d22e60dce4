"""Facts beside the events of a Kineto trace: devices, the process and its threads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from ..content import last_part
from ..model import SCHEMAS
from .columns import integer, process_id, thread_id
from .events import Event, arguments


def read_devices(properties: Any, seen: Iterable[int]) -> pl.DataFrame:
    """The table `devices`: those Kineto lists, and a nameless one for each further device that worked."""
    rows: dict[int, tuple[Any, ...]] = {}
    for p in properties if isinstance(properties, list) else []:
        if isinstance(p, dict) and (number := integer(p.get("id"), 32)) is not None:
            major, minor = p.get("computeMajor"), p.get("computeMinor")
            capability = f"{major}.{minor}" if isinstance(major, int) and isinstance(minor, int) else None
            memory, sms = integer(p.get("totalGlobalMem")), integer(p.get("numSms"), 32)
            rows[number] = (_text(p.get("name")), memory, sms, capability)
    for device in seen:
        rows.setdefault(device, (f"GPU {device}", None, None, None))
    table = [
        (d, "gpu", name, None, memory, None, sms, cap, None) for d, (name, memory, sms, cap) in sorted(rows.items())
    ]
    return pl.DataFrame(table, schema=pl.Schema(SCHEMAS["devices"]), orient="row")


def read_names(events: Iterable[Event], pid: int, tables: dict[str, pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tables `processes` and `threads`: the traced process, and its threads that called or annotated.

    Of `events` those of phase M name them.
    """
    process, threads = None, {}
    for event in events:
        if process_id(event) == pid:
            if event.name == "process_name":
                process = arguments(event).name
            elif event.name == "thread_name":
                threads[thread_id(event)] = arguments(event).name
    name = last_part(process) if isinstance(process, str) else None
    used = {t for n in ("api", "ranges") for t in tables[n].get_column("tid").drop_nulls().unique().to_list()}
    busy = used or tables["ops"].height
    rows = [(pid, t, _text(threads.get(t))) for t in sorted(used)]
    return (
        pl.DataFrame(
            [(pid, 0, pid, name)] if busy else [],
            schema={"pid": pl.Int32, "host": pl.Int32, "os_pid": pl.Int32, "name": pl.String},
            orient="row",
        ),
        pl.DataFrame(rows, schema={"pid": pl.Int32, "tid": pl.Int32, "name": pl.String}, orient="row"),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
