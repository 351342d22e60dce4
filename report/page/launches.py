"""Kernels and launches: which kernels took the time, how small they are, and how long work waited for its launch."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ...analyze.accounts.launches import SMALL_NS
from ...analyze.naming.kernels import short_names
from . import cells, text
from .blocks import Block, Cell, Fold, Para, Row, Section, Table, section, strong
from .sides import Side, caution, device_name


def launches_section(sides: Sequence[Side]) -> Section | None:
    """Kernels, launch latency and queue delay of each device; by stage in folds. Null where nothing was launched."""
    if all(side.analysis.kernel_counts.is_empty() and side.analysis.launches.is_empty() for side in sides):
        return None
    intro = (
        strong("Host-bound"),
        " is the part of the window in which the device idled because of the host. ",
        strong("Latency"),
        " runs from the start of the launching call to the start of the work; ",
        strong("queue delay"),
        " is what remains of it after the call had returned and the stream's earlier work was done.",
    )
    of_stages = [
        table for table in (_top(sides, whole=False), _kernels(sides, whole=False), _waits(sides, whole=False)) if table
    ]
    blocks: list[Block | None] = [
        *(_top(sides, whole=True), Para(intro), *caution(sides, "causes")),
        *(_kernels(sides, whole=True), _waits(sides, whole=True)),
        Fold("By stage", of_stages) if of_stages else None,
    ]
    return section("kernels", "Kernels and launches", *blocks)


def _of(frame: pl.DataFrame, whole: bool) -> pl.DataFrame:
    return frame.filter(pl.col("stage").is_null() if whole else pl.col("stage").is_not_null())


def _kernels(sides: Sequence[Side], *, whole: bool) -> Table | None:
    rows = []
    for side in sides:
        unknown = side.cannot_tell("causes")
        found = _of(side.analysis.kernel_counts, whole).sort(
            "device", "ledger_ns", descending=[False, True], maintain_order=True
        )
        for r in found.iter_rows(named=True):
            n, per = r["kernels"], r["kernels_per_iteration"]
            if not n and not r["host_bound_ns"]:
                continue
            bound = r["host_bound_ns"] / r["ledger_ns"] if r["ledger_ns"] else None
            words = cells.CANNOT_TELL if unknown else f"{text.share(bound)} · {text.duration(r['host_bound_ns'])}"
            row = [
                *(side.name, device_name(side, r["device"]), cells.stage(side, r["stage"])),
                Cell(words, None if unknown else r["host_bound_ns"]),
                cells.count(n),
                Cell(text.ABSENT if per is None else text.significant(per), per),
                *(cells.time(r["kernel_ns"]), cells.count(r["small_kernels"])),
                cells.share(r["small_kernels"] / n if n else None),
                cells.share(r["small_ns"] / r["kernel_ns"] if r["kernel_ns"] else None),
            ]
            rows.append(Row(row, stage=r["stage"]))
    if not rows:
        return None
    limit = text.duration(SMALL_NS)
    heads = ["variant", "device", "stage", "host-bound", "kernels", "per iteration", "kernel time"]
    heads += [f"under {limit}", "of the kernels", "of their time"]
    return Table("kernels and host-bound time", heads, rows, numbers=range(3, 10))


def _waits(sides: Sequence[Side], *, whole: bool) -> Table | None:
    rows = [
        Row(
            [
                *(side.name, device_name(side, r["device"]), cells.stage(side, r["stage"])),
                *(r["figure"].replace("_", " "), cells.count(r["n"])),
                *(cells.time(r[f"{name}_ns"]) for name in ("min", "p50", "p90", "p99", "max")),
            ],
            stage=r["stage"],
        )
        for side in sides
        for r in _of(side.analysis.launches, whole)
        .sort("device", "figure", "n", descending=[False, False, True], maintain_order=True)
        .iter_rows(named=True)
    ]
    if not rows:
        return None
    heads = ["variant", "device", "stage", "figure", "launches", "min", "median", "p90", "p99", "max"]
    return Table("launch latency and queue delay", heads, rows, numbers=range(4, 10))


def _top(sides: Sequence[Side], *, whole: bool) -> Table | None:
    """The kernels with most time, of each device or of each of its stages, those with the most kernel time first."""
    short = short_names(name for side in sides for name in side.analysis.top_kernels["name"].to_list())
    rows = [
        Row(
            [
                *(side.name, device_name(side, r["device"])),
                *([] if whole else [cells.stage(side, r["stage"])]),
                *(cells.kernel(side, r["name"], short[r["name"]], r["stage"]), cells.count(r["ops"])),
                *(cells.time(r["sum_ns"]), cells.time(r["mean_ns"]), cells.share(r["share"], fill="kind-compute")),
            ],
            stage=r["stage"],
        )
        for side in sides
        for r in _of(side.analysis.top_kernels, whole)
        .with_columns(pl.col("sum_ns").sum().over("device", "stage").alias("stage_ns"))
        .sort("device", "stage_ns", descending=[False, True], maintain_order=True)
        .iter_rows(named=True)
    ]
    if not rows:
        return None
    heads = ["variant", "device", *([] if whole else ["stage"]), "kernel", "runs", "time", "mean", "of kernel time"]
    first = heads.index("runs")
    caption = "kernels that took the most time" if whole else "kernels of each stage that took the most time"
    return Table(caption, heads, rows, numbers=range(first, first + 4))
