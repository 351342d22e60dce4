"""An analysis as tables for people, at most 80 columns wide."""

from __future__ import annotations

from typing import Final

import polars as pl

from ...analyze.attribution.bounded import OTHERS
from ...analyze.comparison.matching import split
from ...analyze.findings.first_lines import steady_sentences
from ...analyze.naming.numbers import shape
from ...analyze.result import IDLE, Analysis
from ...analyze.words import duration, ms, percent, rate, shorten, size
from .console import Column, print_table, say, say_wrapped
from .details import longest, print_details, print_device_details, print_gap_calls
from .findings import print_findings

LEFT: Final = "left"

COST: Final = pl.max_horizontal(pl.col("projected_ns").fill_null(0), pl.col("host_ns"))
"""Of a stage: its work on the device from first to last, or its ranges' own time, whichever is longer."""

STAGE_WIDTH: Final = 52
"""Columns for a stage in a sentence: a path may be megabytes long."""


def print_analysis(analysis: Analysis) -> None:
    """Print everything a person asks first, in the order they ask it: where did the time go, what was hidden, can I trust it."""
    meta = analysis.meta
    title = meta.file if analysis.variant is None else f"{analysis.variant} ({meta.file})"
    say(f"{title}: {meta.recorder} {meta.recorder_version}")
    for sentence in steady_sentences(analysis):
        say_wrapped(sentence)
    print_findings(analysis)
    for row in analysis.devices.iter_rows(named=True):
        _print_device(analysis, row["device"], row["name"])
    if analysis.devices.is_empty():
        found = "were recorded" if analysis.choices.window is None else "lie in this window"
        say(f"No device operations {found}: only host times are known.")
    _print_stages(analysis)
    _print_bandwidth(analysis)
    _print_allocator(analysis)
    print_details(analysis)
    _print_trust(analysis)
    say()


def _print_device(analysis: Analysis, device: int, name: str) -> None:
    here = pl.col("device") == device
    window = analysis.windows.filter(here).row(0, named=True)
    length = window["end_ns"] - window["start_ns"]
    say()
    say(f"device {device} {name}: window {duration(length)} from {window['start_ns']} ns")
    cells = (
        analysis.ledger.filter(here).group_by("category", "cause").agg(pl.col("ns").sum()).sort("ns", descending=True)
    )
    unions = {r["kind"]: r for r in analysis.kinds.filter(here).iter_rows(named=True)}
    rows = []
    for cell in cells.iter_rows(named=True):
        kind = unions.get(cell["category"])
        what = cell["category"] if cell["cause"] is None else f"{IDLE}: {cell['cause']}"
        rows.append(
            (
                what,
                ms(cell["ns"]),
                percent(cell["ns"] / length),
                None if kind is None else kind["ops"],
                None if kind is None else ms(kind["union_ns"]),
                None if kind is None or not kind["nbytes"] else size(kind["nbytes"]),
            )
        )
    rows.append(("total", ms(length), percent(1.0), None, None, None))
    columns = [Column("where the time went", LEFT), Column("ms"), Column("share")]
    print_table([*columns, Column("ops"), Column("union ms"), Column("bytes")], rows)
    _print_overlap(analysis, device)
    _print_gaps(analysis, device, window["start_ns"], length)
    print_device_details(analysis, device)


def _print_overlap(analysis: Analysis, device: int) -> None:
    whole = analysis.overlap.filter((pl.col("device") == device) & pl.col("stage").is_null() & (pl.col("a_ns") > 0))
    rows = [
        (f"{r['a']} under {r['b']}", ms(r["a_ns"]), ms(r["both_ns"]), percent(r["hidden"]), percent(r["efficiency"]))
        for r in whole.iter_rows(named=True)
        if r["b_ns"]
    ]
    if rows:
        say("")
        print_table(
            [Column("overlap", LEFT), Column("ms"), Column("hidden ms"), Column("hidden"), Column("of ideal")], rows
        )
        return
    moved = not whole.filter(pl.col("a") == "copy").is_empty()
    say()
    say("overlap: nothing ran beside the copies" if moved else "overlap: no copies")


def _print_gaps(analysis: Analysis, device: int, start: int, length: int) -> None:
    """Only gaps that matter by themselves: above 5 % of the window. They are told from the first op, as `--window` takes them."""
    origin = start if analysis.first_op_ns is None else analysis.first_op_ns
    large = analysis.gaps.filter((pl.col("device") == device) & (pl.col("ns") > length // 20))
    for gap in large.head(5).iter_rows(named=True):
        say_wrapped(
            f"one gap of {duration(gap['ns'])} ({percent(gap['ns'] / length)}) at +{duration(gap['start_ns'] - origin)}: "
            f"{gap['cause']} in {shorten(gap['stage'], STAGE_WIDTH)}, opened by {gap['opened_by']}"
        )
        print_gap_calls(analysis, device, gap["start_ns"])


def _print_stages(analysis: Analysis) -> None:
    """Nested stages are indented below their parents; a stage that launched nothing shows the idle time of all devices."""
    if analysis.stages.is_empty():
        return
    idle = analysis.ledger.filter(pl.col("category") == IDLE)
    stages = in_tree_order(longest(analysis.stages, COST))
    labels = _tree_labels(stages["path"].to_list())
    rows = []
    for row in stages.iter_rows(named=True):
        here = pl.col("device").eq_missing(pl.lit(row["device"]))
        kinds = analysis.stage_kinds.filter(here & (pl.col("path") == row["path"]))
        union = {r["kind"]: r["union_ns"] for r in kinds.iter_rows(named=True)}
        mine = idle.filter(pl.col("stage") == row["path"])
        waited = mine if row["device"] is None else mine.filter(pl.col("device") == row["device"])
        figures = (
            union.get("compute", 0) + union.get("graph", 0),
            sum(union.get(k, 0) for k in ("h2d", "d2h", "p2p", "d2d", "h2h", "memset")),
            union.get("comm", 0),
            int(waited["ns"].sum()),
        )
        ops = None if row["device"] is None else row["ops"]
        shown = [ms(f) if f else None for f in figures]
        rows.append((labels[row["path"]], row["device"], row["instances"], ms(row["host_ns"]), ops, *shown))
    titles = ("dev", "n", "host ms", "ops", "compute", "copy", "comm", "idle")
    say("")
    print_table([Column("stage (ms)", LEFT, shrink=True), *(Column(t) for t in titles)], rows)
    if analysis.stage_names.height:
        say_wrapped("names that differ in numbers alone are one stage here; --no-fold lists each")
    if left := len(analysis.stages) - len(stages):
        say(f"and {left:,} shorter ones; --depth and --stages choose, --json lists them")
    if folded := analysis.choices.folded:
        say(f"{folded:,} less costly stages are folded: into what they nest in, else into {OTHERS}; --all lists them")


def _tree_labels(paths: list[str]) -> dict[str, str]:
    """Each path's last name, two columns to the right for each of its ancestors that is shown; else the whole path."""
    shown = set(paths)
    labels: dict[str, str] = {}
    depth: dict[str, int] = {}
    for path in sorted(shown, key=len):  # parents are shorter
        *above, name = split(path)
        parent = "/".join(above)
        depth[path] = depth[parent] + 1 if parent in shown else 0
        labels[path] = "  " * depth[path] + (name if parent in shown else path)
    return labels


def in_tree_order(stages: pl.DataFrame) -> pl.DataFrame:
    """Rows of table ``stages`` with each stage behind the one it nests in; of several in one stage the costliest first, but
    those that differ in numbers alone, which are a sequence, together and in order of time.
    """
    by_path = stages.group_by("path").agg(COST.sum().alias("cost"), pl.col("first_start_ns").min())
    found = {path: (cost, first) for path, cost, first in by_path.iter_rows()}
    below: dict[str, dict[str, list[str]]] = {}
    for path in found:
        *above, name = split(path)
        parent = "/".join(above) if "/".join(above) in found else ""
        below.setdefault(parent, {}).setdefault(shape(name if parent else path), []).append(path)
    order: list[str] = []
    rising = [""]
    while rising:
        path = rising.pop()
        order += [path] if path else []
        alike = sorted(below.get(path, {}).items(), key=lambda one: (-sum(found[p][0] for p in one[1]), one[0]))
        inner = [p for _, paths in alike for p in sorted(paths, key=lambda p: (found[p][1], p))]
        rising += reversed(inner)
    place = pl.Series("place", order, dtype=pl.String)
    ranked = pl.DataFrame({"path": place, "rank": range(len(order))}, schema_overrides={"rank": pl.Int64})
    return stages.join(ranked, on="path").sort("rank", "device", nulls_last=False).drop("rank")


def _print_bandwidth(analysis: Analysis) -> None:
    """A table for each device that copied; its number stands above where there are several."""
    several = analysis.bandwidth["device"].n_unique() > 1
    for (device,), copies in analysis.bandwidth.group_by("device", maintain_order=True):
        say()
        if several:
            say(f"copies of device {device}")
        _print_copies(copies)


def _print_copies(copies: pl.DataFrame) -> None:
    rows = []
    for r in copies.iter_rows(named=True):
        ends = f"{r['src_kind'] or '?'} to {r['dst_kind'] or '?'}"
        of_peak = "effective" if r["effective"] else percent(r["share"])
        rates = (rate(r["bytes_per_s"]), rate(r["expected_bytes_per_s"]))
        rows.append((r["kind"], ends, r["bucket"], r["ops"], size(r["nbytes"]), *rates, of_peak))
    columns = [Column("copies", LEFT), Column("memory", LEFT, shrink=True), Column("size", LEFT)]
    figures = ("n", "bytes", "GB/s", "expected", "of peak")
    print_table([*columns, *(Column(title) for title in figures)], rows)
    for line in _peaks(copies):
        say(line)


def _peaks(copies: pl.DataFrame) -> list[str]:
    """Each peak that shares were taken of, with its source: ``peak h2d: 55.31 GB/s (calibration 2026-11-22)``."""
    known = copies.filter(pl.col("peak_bytes_per_s").is_not_null())
    peaks = known.select("kind", "peak_bytes_per_s", "peak_source").unique(maintain_order=True)
    return [f"peak {kind}: {rate(peak)} GB/s ({source})" for kind, peak, source in peaks.iter_rows()]


def _print_allocator(analysis: Analysis) -> None:
    used = analysis.allocator.filter((pl.col("calls") > 0) | (pl.col("stall_ns") > 0))
    most = longest(used, "stall_ns", "host_ns")
    rows = [(r["stage"], r["calls"], ms(r["host_ns"]), ms(r["stall_ns"])) for r in most.iter_rows(named=True)]
    if rows:
        say("")
        columns = [
            Column("allocator", LEFT, shrink=True),
            Column("calls"),
            Column("host ms"),
            Column("device stalled ms"),
        ]
        print_table(columns, rows)
        if left := len(used) - len(rows):
            say(f"and {left:,} stages that stalled less")


def _print_trust(analysis: Analysis) -> None:
    doubts = analysis.trust.filter(pl.col("level") != "ok")
    if doubts.is_empty():
        return
    by_reason: dict[tuple[str, str], list[str]] = {}
    for row in doubts.iter_rows(named=True):
        by_reason.setdefault((row["level"], row["reason"]), []).append(row["metric"])
    say("")
    for (level, reason), metrics in by_reason.items():
        say_wrapped(f"{level}: {', '.join(metrics)} ({reason})")
