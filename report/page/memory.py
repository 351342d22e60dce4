"""Driver memory: in use over time, and what each stage took and gave back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from ...analyze.words import memory_title
from ..figures import memory_figure
from . import cells, text
from .blocks import Cell, Chart, Fold, Para, Row, Section, Table, section
from .sides import Side, device_name

_WHOSE = {"torch": "What PyTorch's allocators handed out, one tensor's storage after the other."}
_DRIVERS = "What the driver handed out: a framework's own pool is one allocation here."


def memory_section(sides: Sequence[Side]) -> Section | None:
    """Memory in use, its peak and what was allocated; null where no memory event was recorded."""
    if all(side.analysis.memory.is_empty() for side in sides):
        return None
    recorder = sides[0].analysis.meta.recorder
    title = memory_title(recorder)
    heads = ["variant", "device", "kind", "allocations", "frees", "allocated", "at the start", "peak", "at the end"]
    rows = [
        Row([*(side.name, device_name(side, r["device"]), r["kind"]), *_counts(r), *_sizes(r)])
        for side in sides
        for r in side.analysis.memory.iter_rows(named=True)
    ]
    stages = [
        Row(
            [
                *(side.name, device_name(side, r["device"]), r["kind"], cells.stage(side, r["stage"]), *_counts(r)),
                cells.size(r["peak_bytes"]),
            ],
            stage=r["stage"],
        )
        for side in sides
        for r in side.analysis.stage_memory.sort(
            "allocated_bytes", "peak_bytes", descending=True, maintain_order=True
        ).iter_rows(named=True)
        if r["allocations"] or r["frees"] or r["peak_bytes"]
    ]
    of_stage = ["variant", "device", "kind", "stage", "allocations", "frees", "allocated", "peak while open"]
    drawn = memory_figure([(side.name, side.analysis) for side in sides])
    whose = _WHOSE.get(recorder, _DRIVERS)
    return section(
        "memory",
        title[0].upper() + title[1:],
        Para(f"{whose} Counts and peaks are those of the window, the plots cover the recording."),
        Chart("figure-memory", drawn, "device memory in use over time") if drawn["data"] else None,
        Table(title, heads, rows, numbers=range(3, 9)),
        Fold("By stage", [Table(f"{title} of each stage", of_stage, stages, numbers=range(4, 8))]) if stages else None,
        [_concurrent(side, r) for side in sides for r in _others(side)],
    )


def _counts(row: dict[str, Any]) -> list[Cell]:
    return [cells.count(row["allocations"]), cells.count(row["frees"]), cells.size(row["allocated_bytes"])]


def _sizes(row: dict[str, Any]) -> list[Cell]:
    return [cells.size(row[f"{when}_bytes"]) for when in ("start", "peak", "end")]


def _others(side: Side) -> list[dict[str, Any]]:
    return side.analysis.concurrent_allocator.sort(pl.col("ns"), descending=True).head(3).to_dicts()


def _concurrent(side: Side, row: dict[str, Any]) -> Para:
    words = (
        f"{side.name}: thread {row['tid']} spent {text.duration(row['ns'])} in allocator calls while "
        f"{device_name(side, row['device'])} idled for another thread; the driver's lock may have held that thread up."
    )
    return Para(words, "note")
