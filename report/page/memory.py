"""Driver memory: in use over time, and what each stage took and gave back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from ...analyze.document import thinned
from ...analyze.words import memory_title
from . import text
from .markup import Html, element
from .sides import Side, device_name, stage_label
from .tables import folded, section, table

HEIGHT = 46
"""Pixels of the plot of a side."""

WIDTH = 1000
"""The plot's own units across; it is stretched to the page."""

MOST_POINTS = 400

_WHOSE = {"torch": "What PyTorch's allocators handed out, one tensor's storage after the other."}
_DRIVERS = "What the driver handed out: a framework's own pool is one allocation here."


def memory_section(sides: Sequence[Side]) -> Html | None:
    """Memory in use, its peak and what was allocated; null where no memory event was recorded."""
    if all(side.analysis.memory.is_empty() for side in sides):
        return None
    recorder = sides[0].analysis.meta.recorder
    title = memory_title(recorder)
    heads = ["variant", "device", "kind", "allocations", "frees", "allocated", "at the start", "peak", "at the end"]
    rows = [
        [*(side.name, device_name(side, r["device"]), r["kind"]), *_counts(r), *_sizes(r)]
        for side in sides
        for r in side.analysis.memory.iter_rows(named=True)
    ]
    stages = [
        [
            *(side.name, device_name(side, r["device"]), r["kind"], stage_label(r["stage"]), *_counts(r)),
            text.size(r["peak_bytes"]),
        ]
        for side in sides
        for r in side.analysis.stage_memory.sort(
            "allocated_bytes", "peak_bytes", descending=True, maintain_order=True
        ).iter_rows(named=True)
        if r["allocations"] or r["frees"] or r["peak_bytes"]
    ]
    of_stage = ["variant", "device", "kind", "stage", "allocations", "frees", "allocated", "peak while open"]
    return section(
        "memory",
        title[0].upper() + title[1:],
        element(
            "p",
            f"{_WHOSE.get(recorder, _DRIVERS)} Counts and peaks are those of the window, the plots cover the recording.",
        ),
        _plots(sides),
        table(title, heads, rows, numbers=range(3, 9)),
        folded("By stage", table(f"{title} of each stage", of_stage, stages, numbers=range(4, 8))) if stages else None,
        [_concurrent(side, r) for side in sides for r in _others(side)],
    )


def _counts(row: dict[str, Any]) -> list[str]:
    return [f"{row['allocations']:,}", f"{row['frees']:,}", text.size(row["allocated_bytes"])]


def _sizes(row: dict[str, Any]) -> list[str]:
    return [text.size(row[f"{when}_bytes"]) for when in ("start", "peak", "end")]


def _plots(sides: Sequence[Side]) -> Html | None:
    """Device memory over time, one plot a side and device, all on the scale of the highest."""
    found = []
    for side in sides:
        timeline = side.analysis.memory_timeline.filter(pl.col("kind") == "device")
        for device in timeline["device"].drop_nulls().unique().sort().to_list():
            points = timeline.filter(pl.col("device") == device).sort("time_ns", maintain_order=True)
            if points.height > 1:
                found.append((side, device, thinned(points, MOST_POINTS)))
    highest = max((int(points["in_use_bytes"].max() or 0) for _, _, points in found), default=0)  # type: ignore[arg-type]
    if not highest:
        return None
    rows = [_plot(side, device, points, highest) for side, device, points in found]
    return element("div", rows, class_="chart", role="group", aria_label="device memory in use over time")


def _plot(side: Side, device: int, points: pl.DataFrame, highest: int) -> Html:
    times, use = points["time_ns"].to_list(), points["in_use_bytes"].to_list()
    span = max(times[-1] - times[0], 1)
    corners = ["0,0"]
    y = 0.0
    for time, nbytes in zip(times, use, strict=True):
        x = WIDTH * (time - times[0]) / span
        corners.append(f"{x:.1f},{y:.1f}")
        y = HEIGHT * nbytes / highest
        corners.append(f"{x:.1f},{y:.1f}")
    corners.append(f"{WIDTH},{y:.1f}")
    corners.append(f"{WIDTH},0")
    words = f"{text.size(max(use))} at most, {text.size(use[-1])} at the end, over {text.duration(span)}"
    area = element("polygon", points=" ".join(corners), class_="area", transform=f"matrix(1 0 0 -1 0 {HEIGHT})")
    label = f"device memory of {side.name}: {words}"
    svg = element(
        "svg",
        element("title", label),
        area,
        class_="columns",
        width="100%",
        height=HEIGHT,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )
    return element(
        "div",
        element("span", f"{side.name}, {device_name(side, device)}", class_="bar-label"),
        svg,
        element("span", words, class_="bar-value"),
        class_="bar-row",
    )


def _others(side: Side) -> list[dict[str, Any]]:
    return side.analysis.concurrent_allocator.sort("ns", descending=True).head(3).to_dicts()


def _concurrent(side: Side, row: dict[str, Any]) -> Html:
    words = (
        f"{side.name}: thread {row['tid']} spent {text.duration(row['ns'])} in allocator calls while "
        f"{device_name(side, row['device'])} idled for another thread; the driver's lock may have held that one up."
    )
    return element("p", words, class_="note")
