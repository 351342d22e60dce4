"""The tables that go beyond the ledger, put together: one call from `analyze`, one name a table of `Analysis`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from .communication import collective_table
from .concurrency import concurrency_tables
from .counters import counter_table, counter_trust
from .gap_calls import gap_calls
from .iterations import iteration_tables
from .launch_stats import launch_tables
from .memory import concurrent_allocator, memory_tables
from .result import SCHEMAS
from .work import Work


def detail_tables(
    work: Work,
    ledger: pl.DataFrame,
    gaps: pl.DataFrame,
    shown: npt.NDArray[np.intp],
    low: int,
    high: int,
    *,
    across: bool,
) -> dict[str, pl.DataFrame]:
    """Every detail table by its name in `Analysis`, from the tables `ledger` and `gaps`; `shown` are the stages to list."""
    return {
        **iteration_tables(work),
        **concurrency_tables(work),
        **launch_tables(work, ledger),
        **memory_tables(work, shown, low, high, across=across),
        "gap_calls": gap_calls(work, gaps),
        "concurrent_allocator": concurrent_allocator(work),
        "counters": counter_table(work),
        "collectives": collective_table(work),
    }


def with_detail(trust: pl.DataFrame, detail: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Table ``trust`` with what the details say: `comm` is ok where every collective was paired, and a row for `hbm`."""
    collectives = detail["collectives"]
    unpaired = int((collectives["ops"] - collectives["paired"]).sum())
    rows = [row for row in trust.rows() if row[0] != "hbm"]
    if len(collectives):
        total = int(collectives["ops"].sum())
        text = "a collective's time includes waiting for the slowest rank"
        doubt = ("comm", "partial", f"{text}: {unpaired} of {total} have no other rank in the trace or cannot be split")
        rows = [
            (doubt if unpaired else ("comm", "ok", "")) if row[0] == "comm" and row[1] == "partial" else row
            for row in rows
        ]
    hbm = counter_trust(detail["counters"])
    return pl.DataFrame([*rows, *([hbm] if hbm else [])], schema=SCHEMAS["trust"], orient="row")
