"""The tables that go beyond the ledger, put together: one call from `analyze`, one name a table of `Analysis`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from ..attribution.work import Work
from ..result import SCHEMAS
from ..side_by_side import Start
from .communication import collective_table
from .concurrency import concurrency_tables
from .counters import counter_table, counter_trust
from .gaps import gap_calls
from .iterations import iteration_tables
from .launches import kernel_counts, launch_tables
from .memory import concurrent_allocator, memory_tables

Tables = dict[str, pl.DataFrame]


def start_details(
    start: Start,
    work: Work,
    shown: npt.NDArray[np.intp],
    low: int,
    high: int,
    *,
    across: bool,
) -> Callable[[pl.DataFrame, pl.DataFrame], Tables]:
    """Start every detail table; `shown` are the stages to list, ``[low, high)`` the window.

    Returns what makes all of them, by their names in `Analysis`, from the tables ``ledger`` and ``gaps``.
    """
    launches = start(launch_tables, work)
    streams = start(concurrency_tables, work)
    memory = start(memory_tables, work, shown, low, high, across=across)
    allocator = start(concurrent_allocator, work)
    collectives = start(collective_table, work)
    iterations = start(iteration_tables, work)
    counters = start(counter_table, work)

    def finish(ledger: pl.DataFrame, gaps: pl.DataFrame) -> Tables:
        calls = start(gap_calls, work, gaps)
        waits, counts, top = launches()
        return {
            **iterations(),
            **streams(),
            "launches": waits,
            "kernel_counts": kernel_counts(work, counts, ledger),
            "top_kernels": top,
            **memory(),
            "gap_calls": calls(),
            "concurrent_allocator": allocator(),
            "counters": counters(),
            "collectives": collectives(),
        }

    return finish


def with_detail(trust: pl.DataFrame, detail: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Table ``trust`` with what the details say: `comm` is ok where every collective was paired beyond doubt, and a row for
    `hbm`."""
    collectives = detail["collectives"]
    unpaired = int((collectives["ops"] - collectives["paired"]).sum())
    in_doubt = int(collectives["in_doubt"].sum())
    rows = [row for row in trust.rows() if row[0] != "hbm"]
    if len(collectives):
        total = int(collectives["ops"].sum())
        reasons = []
        if unpaired:
            text = "a collective's time includes waiting for the slowest rank"
            reasons.append(f"{text}: {unpaired} of {total} have no other rank in the trace or cannot be split")
        if in_doubt:
            text = "collectives may be those of several communicators that ran in step, and wait for fewer ranks"
            reasons.append(f"{in_doubt} of {total} {text}")
        said = ("comm", "partial" if reasons else "ok", "; ".join(reasons))
        rows = [said if row[0] == "comm" and row[1] == "partial" else row for row in rows]
    hbm = counter_trust(detail["counters"])
    return pl.DataFrame([*rows, *([hbm] if hbm else [])], schema=SCHEMAS["trust"], orient="row")
