"""Allocator: what the host spent in allocator calls, and what the device waited for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from ...traces.run import Allocator
from . import cells
from .blocks import Block, Cell, Para, Row, Section, Sub, Table, section
from .sides import STAGE, Side, caution, stage_label


def allocator_section(sides: Sequence[Side], counters: Mapping[str, Sequence[Allocator]]) -> Section:
    """Host time and stall of each stage, and the framework's own counters (one `Allocator` a process) by side."""
    tables = {side.name: _rows(side) for side in sides}
    stages = sorted({stage for rows in tables.values() for stage in rows}, key=lambda s: (-_weight(tables, s), s))
    words = (
        "Stall is the device's idle time that allocator calls caused; it is what they cost. Host time inside them "
        "costs nothing while the device has work."
    )
    content: list[Block] = [Para(words), *caution(sides, "allocator")]
    if stages:
        heads = ["stage", *(f"{side.name} {what}" for side in sides for what in ("calls", "host time", "stall"))]
        rows = [
            Row([stage_label(s), *(c for side in sides for c in _cells(side, tables[side.name].get(s)))], stage=s)
            for s in stages
        ]
        content.append(Table("allocator calls of each stage", heads, rows, numbers=range(1, len(heads))))
    else:
        unknown = [reason for side in sides if (reason := side.cannot_tell("allocator"))]
        if len(unknown) < len(sides):
            content.append(Para("No allocator call was made in the window."))
    return section("allocator", "Allocator", [*content, *_framework(counters)])


def stall_ns(side: Side) -> int | None:
    """The device's idle time caused by allocator calls, from the ledger; null where it is unknown."""
    if side.cannot_tell("allocator") or side.analysis.ledger.is_empty():
        return None
    return int(side.analysis.ledger.filter(pl.col("cause") == "allocator")["ns"].sum())


def _rows(side: Side) -> dict[str, tuple[int, int, int]]:
    rows = side.analysis.allocator.filter((pl.col("calls") > 0) | (pl.col("stall_ns") > 0))
    summed = rows.group_by(STAGE).agg(pl.col("calls", "host_ns", "stall_ns").sum())
    return {s: (calls, host, stall) for s, calls, host, stall in summed.iter_rows()}


def _weight(tables: Mapping[str, Mapping[str, tuple[int, int, int]]], stage: str) -> int:
    return max(max(rows[stage][1:]) for rows in tables.values() if stage in rows)


def _cells(side: Side, found: tuple[int, int, int] | None) -> list[Cell]:
    if side.cannot_tell("allocator"):
        return [Cell(cells.CANNOT_TELL)] * 3
    if found is None:
        return [cells.count(0), cells.time(None), cells.time(None)]
    calls, host, stall = found
    return [cells.count(calls), cells.time(host), cells.time(stall)]


def _framework(counters: Mapping[str, Sequence[Allocator]]) -> list[Block]:
    """The counters of PyTorch's caching allocator, where the untraced processes reported any."""
    rows = []
    for name, values in counters.items():
        if not any(v.retries is not None or v.reserved_bytes_after is not None for v in values):
            continue
        before = _greatest([v.reserved_bytes_before for v in values])
        after = _greatest([v.reserved_bytes_after for v in values])
        peak = _greatest([v.peak_bytes for v in values])
        counts = [_greatest([getattr(v, f) for v in values]) for f in _COUNTERS]
        rows.append(Row([name, *map(cells.count, counts), *map(cells.size, (before, after, peak))]))
    if not rows:
        return []
    heads = ["variant", "retries", "out of memory", "segments taken", "segments returned"]
    heads += ["reserved before", "reserved after", "peak in use"]
    return [
        Sub("The framework's own counters"),
        Para("Over the measured iterations of the untraced rounds; the largest of all rounds."),
        Table("allocator counters of the framework", heads, rows, numbers=range(1, 8)),
    ]


_COUNTERS = ("retries", "ooms", "segments_allocated", "segments_freed")


def _greatest(values: Sequence[int | None]) -> int | None:
    return max((v for v in values if v is not None), default=None)
