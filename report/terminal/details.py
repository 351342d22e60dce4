"""The detail sections of an analysis as text: streams, launches, kernels, counters, memory, collectives.

Each prints something only where there is something to say, at most 80 columns wide.
"""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from ...analyze.accounts.launches import SMALL_NS
from ...analyze.findings.find import find
from ...analyze.findings.limits import hiding
from ...analyze.naming.kernels import short_names
from ...analyze.ran import code_ran, sampled
from ...analyze.result import Analysis
from ...analyze.words import duration, memory_title, ms, percent, shorten, size
from ...traces.figures import significant
from ...traces.model import COPY_KINDS
from .console import Column, print_table, say, say_wrapped

LEFT: Final = "left"

ROWS_SHOWN: Final = 60
"""Rows of a table that has one for each stage; the JSON document has all."""

KERNELS_SHOWN: Final = 5
WORK: Final = {"comm": "communication", "graph": "graphs", **{kind: f"{kind} copies" for kind in COPY_KINDS}}
"""Kinds of work in a sentence, where people say more than the kind's name."""

CALLS_SHOWN: Final = 3
FUNCTIONS_SHOWN: Final = 3


def longest(table: pl.DataFrame, *by: str | pl.Expr) -> pl.DataFrame:
    """The `ROWS_SHOWN` rows of `table` that have the most of `by`, the most first."""
    return table.sort(*by, descending=True, maintain_order=True).head(ROWS_SHOWN)


def print_gap_calls(analysis: Analysis, device: int, start: int) -> None:
    """The calls that fill the gap that starts at `start`, below its line."""
    rows = analysis.gap_calls.filter((pl.col("device") == device) & (pl.col("start_ns") == start))
    calls = [
        f"{shorten(name, 24)} {duration(ns)}" for name, ns in rows.select("name", "ns").head(CALLS_SHOWN).iter_rows()
    ]
    while len(calls) > 1 and len(", ".join(calls)) > 70:
        calls.pop()
    if calls:
        say(f"  in it: {', '.join(calls)}")


def print_gap_functions(analysis: Analysis, device: int, start: int) -> None:
    """What the thread that the device waited for ran in the gap that starts at `start`: CPU samples, operators, functions."""
    ran = sampled(analysis.gap_functions.filter((pl.col("device") == device) & (pl.col("start_ns") == start)))
    if ran is not None:
        say_wrapped(ran.sentence(FUNCTIONS_SHOWN), "  CPU samples: ", "    ")
    code = analysis.gap_code.filter((pl.col("device") == device) & (pl.col("start_ns") == start))
    for line in code_ran(code, FUNCTIONS_SHOWN):
        say_wrapped(line, "  ", "    ")


def print_device_details(analysis: Analysis, device: int) -> None:
    """The bound of an iteration, streams, launches and the top kernels of one device."""
    if (most := hiding(analysis, device)) is not None:
        say()
        takes = f"{ms(round(most.measured_ns))} ms on average{', gaps between included' if most.between else ''}"
        alone = f"its {WORK.get(most.kind, most.kind)} alone {ms(round(most.alone_ns))} ms"
        say_wrapped(
            f"an iteration takes {takes}, {alone}: hiding all else would make it at most {most.gain:.2f}x as fast"
            f"{_unless(most.kind)}{_part_of_that(analysis, device)}"
        )
    _print_streams(analysis, device)
    _print_launches(analysis, device)
    _print_kernels(analysis, device)


def _unless(kind: str) -> str:
    """What else there is to gain by, of copies: pinning makes them faster, and a bound on arrangements does not know."""
    return ", unless those become faster" if kind in COPY_KINDS else ""


def _part_of_that(analysis: Analysis, device: int) -> str:
    """What a finding says is gained at most by no waiting for data, beside what hiding everything would gain."""
    for one in find(analysis):
        if one.rule == "data_loading" and one.device == device and one.share < 1:
            return f"; data that is always ready, {1 / (1 - one.share):.2f}x, is a part of that"
    return ""


def print_details(analysis: Analysis) -> None:
    """What follows the stages: counters, collectives and memory of all devices."""
    _print_counters(analysis)
    _print_collectives(analysis)
    _print_memory(analysis)
    for row in analysis.concurrent_allocator.sort("ns", descending=True).head(3).iter_rows(named=True):
        thread, ns = row["tid"], duration(row["ns"])
        say_wrapped(
            f"thread {thread} spent {ns} in allocator calls while device {row['device']} was idle, waiting for another thread"
        )


def _print_streams(analysis: Analysis, device: int) -> None:
    here = pl.col("device") == device
    streams = analysis.streams.filter(here)
    levels = analysis.concurrency.filter(here)["ns"].to_list()
    if len(streams) < 2 or not sum(levels):
        return
    window = sum(levels)
    shares = ", ".join(f"{name} {percent(ns / window)}" for name, ns in zip(("0", "1", "2", "3+"), levels, strict=True))
    average = int(streams["busy_ns"].sum()) / window
    say()
    say_wrapped(f"share of the window by how many streams were busy: {shares}; {average:.2f} on average")


def _print_launches(analysis: Analysis, device: int) -> None:
    whole = (pl.col("device") == device) & pl.col("stage").is_null()
    waits = {row["figure"]: row for row in analysis.launches.filter(whole).iter_rows(named=True)}
    if waits:
        rows = [
            (
                name.replace("_", " "),
                w["n"],
                *(duration(w[p]) for p in ("min_ns", "p50_ns", "p90_ns", "p99_ns", "max_ns")),
            )
            for name, w in waits.items()
        ]
        say("")
        titles = ("n", "min", "p50", "p90", "p99", "max")
        print_table([Column("launches", LEFT), *(Column(t) for t in titles)], rows)
    for row in analysis.kernel_counts.filter(whole).iter_rows(named=True):
        _print_kernel_counts(row)


def _print_kernel_counts(row: dict[str, Any]) -> None:
    """``168 kernels, 42 per iteration; 38.1 % of them take under 10.0 us (1.5 % of kernel time); host-bound 3.4 % ...``."""
    parts = []
    if row["kernels"]:
        many = row["kernels_per_iteration"]
        each = "" if many is None else f", {significant(many)} per iteration"
        small = f"{percent(row['small_kernels'] / row['kernels'])} of them take under {duration(SMALL_NS)}"
        if row["kernel_ns"]:
            small += f" ({percent(row['small_ns'] / row['kernel_ns'])} of kernel time)"
        parts += [f"{row['kernels']:,} kernels{each}", small]
    if row["ledger_ns"]:
        parts.append(f"host-bound {percent(row['host_bound_ns'] / row['ledger_ns'])} of the window")
    if parts:
        say_wrapped("; ".join(parts))


def _print_kernels(analysis: Analysis, device: int) -> None:
    top = analysis.top_kernels.filter((pl.col("device") == device) & pl.col("stage").is_null()).head(KERNELS_SHOWN)
    short = short_names(analysis.top_kernels["name"].to_list())
    rows = [
        (short[row["name"]], row["ops"], ms(row["sum_ns"]), duration(row["mean_ns"]), percent(row["share"]))
        for row in top.iter_rows(named=True)
    ]
    if rows:
        say("")
        print_table([Column("kernel", LEFT, shrink=True), *(Column(t) for t in ("n", "ms", "mean", "share"))], rows)


def _print_counters(analysis: Analysis) -> None:
    """Shares in bytes for memory traffic, means for activity; a figure that is only partly to be believed ends in ``~``."""
    rows = []
    busiest = analysis.counters.group_by("device", "stage", maintain_order=True).agg(pl.col("ns").max())
    most = longest(busiest, pl.col("stage").is_null(), "ns")  # the window before its stages
    for device, stage in most.select("device", "stage").iter_rows():
        here = (pl.col("device") == device) & pl.col("stage").eq_missing(pl.lit(stage))
        found = {row["metric"]: row for row in analysis.counters.filter(here).iter_rows(named=True)}
        cells = [_counter(found.get(metric)) for metric in ("hbm_read", "hbm_write", "tensor", "sm_active", "sm_clock")]
        rows.append(("window" if stage is None else stage, device, *cells))
    if rows:
        say("")
        titles = ("dev", "HBM read", "HBM write", "tensor", "SM active", "SM clock")
        print_table([Column("counters", LEFT, shrink=True), *(Column(t) for t in titles)], rows)
        if left := len(busiest) - len(most):
            say(f"and {left:,} stages that were busy for less")
        if (analysis.counters["trust"] != "ok").any():
            say("~ low confidence: under 3 %, shared with other stages, or sampled only in part")


def _counter(row: dict[str, Any] | None) -> str | None:
    if row is None:
        return None
    text = (
        percent(None if row["percent"] is None else row["percent"] / 100)
        if row["nbytes"] is None
        else size(row["nbytes"])
    )
    return text if row["trust"] == "ok" else f"{text}~"


def _print_collectives(analysis: Analysis) -> None:
    rows = []
    short = short_names(analysis.collectives["name"].to_list())
    for row in longest(analysis.collectives, "sum_ns").iter_rows(named=True):
        waits = (ms(row["comm_wait_ns"]), ms(row["comm_ns"])) if row["paired"] else (None, None)
        rows.append(
            (
                short[row["name"]],
                row["stage"],
                row["device"],
                row["ops"],
                row["paired"],
                ms(row["sum_ns"]),
                *waits,
            )
        )
    if rows:
        say("")
        columns = [Column("collective", LEFT, shrink=True), Column("stage", LEFT, shrink=True)]
        print_table([*columns, *(Column(t) for t in ("dev", "n", "paired", "ms", "wait", "comm"))], rows)
        if left := len(analysis.collectives) - len(rows):
            say(f"and {left:,} that took less")


def _print_memory(analysis: Analysis) -> None:
    rows = [
        (
            row["kind"],
            row["device"],
            row["allocations"],
            row["frees"],
            size(row["allocated_bytes"]),
            size(row["peak_bytes"]),
            size(row["end_bytes"]),
        )
        for row in analysis.memory.filter(pl.col("kind") != "static").iter_rows(named=True)
    ]
    if rows:
        say("")
        titles = ("dev", "allocations", "frees", "allocated", "peak", "at the end")
        print_table([Column(memory_title(analysis.meta.recorder), LEFT), *(Column(t) for t in titles)], rows)
