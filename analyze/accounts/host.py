"""What a trace holds beside device operations: ranges of other NVTX domains, and calls where no device row says what they did."""

from __future__ import annotations

import polars as pl

from ...traces.model import Trace
from ..attribution.launches import Calls, Launches, capturing_calls, silent_calls, unrecorded_launches
from ..result import SCHEMAS


def domain_table(ranges: pl.DataFrame) -> pl.DataFrame:
    """Table ``domains`` of the trace's `ranges`, whatever the window."""
    table = ranges.group_by("domain").agg(pl.len().cast(pl.Int64).alias("ranges"))
    table = table.with_columns(pl.col("domain").cast(pl.String).fill_null("")).sort(
        ["ranges", "domain"], descending=[True, False]
    )
    return table.select(*SCHEMAS["domains"])


def call_table(api: pl.DataFrame, ops: pl.DataFrame, limits: tuple[int, int]) -> pl.DataFrame:
    """Table ``api_calls``: the trace's calls that begin within the `limits`, by name, costliest first; empty if there are `ops`.

    Calls nest and run on several threads, so their times do not add up to anything.
    """
    if not ops.is_empty():
        return pl.DataFrame(schema=SCHEMAS["api_calls"])
    length = pl.col("end_ns") - pl.col("start_ns")
    table = (
        api.filter((pl.col("start_ns") >= limits[0]) & (pl.col("start_ns") < limits[1]))
        .group_by("name")
        .agg(pl.len().cast(pl.Int64).alias("calls"), length.sum().alias("sum_ns"), length.max().alias("longest_ns"))
        .with_columns(pl.col("name").cast(pl.String).fill_null("(unnamed)"))
        .sort(["sum_ns", "name"], descending=[True, False])
    )
    return table.select(*SCHEMAS["api_calls"])


def launch_rows(trace: Trace, calls: Calls, launches: Launches) -> pl.DataFrame:
    """Table ``launch_rows``: of each process of the trace the calls that launch or copy, how many have no device row, and how
    many of these come after the last that has one."""
    names = dict(trace.processes.select("pid", "name").iter_rows())
    found = unrecorded_launches(calls, launches.call, silent_calls(trace, calls), capturing_calls(trace, calls))
    rows = [(pid, names.get(pid), *counts) for pid, *counts in found]
    return pl.DataFrame(rows, schema=SCHEMAS["launch_rows"], orient="row")
