"""Allocator: what the host spent in allocator calls, and what the device waited for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from ...traces.run import Allocator
from . import text
from .bars import Bar, Part, chart
from .markup import Html, element
from .sides import STAGE, Side, caution, stage_label
from .tables import section, table


def allocator_section(sides: Sequence[Side], counters: Mapping[str, Sequence[Allocator]]) -> Html:
    """Host time and stall of each stage, and the framework's own counters (one `Allocator` a process) by side."""
    tables = {side.name: _rows(side) for side in sides}
    stages = sorted({stage for rows in tables.values() for stage in rows}, key=lambda s: (-_weight(tables, s), s))
    content: list[Html] = [
        element(
            "p",
            "Stall is the device's idle time that allocator calls caused; it is what they cost. Host time inside them "
            "costs nothing while the device has work.",
        ),
        *caution(sides, "allocator"),
    ]
    if stages:
        groups = [(stage_label(s), [_bar(side, tables[side.name].get(s)) for side in sides]) for s in stages[:16]]
        heads = ["stage", *(f"{side.name} {what}" for side in sides for what in ("calls", "host time", "stall"))]
        rows = [
            [stage_label(s), *(c for side in sides for c in _cells(side, tables[side.name].get(s)))] for s in stages
        ]
        content.append(chart(groups, "allocator stall of each stage"))
        content.append(table("allocator calls of each stage", heads, rows, numbers=range(1, len(heads))))
    else:
        unknown = [reason for side in sides if (reason := side.cannot_tell("allocator"))]
        if len(unknown) < len(sides):
            content.append(element("p", "No allocator call was made in the window."))
    content.extend(_framework(counters))
    return section("allocator", "Allocator", content)


def stall_ns(side: Side) -> int | None:
    """The device's idle time caused by allocator calls, from the ledger; null where it cannot be told."""
    if side.cannot_tell("allocator") or side.analysis.ledger.is_empty():
        return None
    return int(side.analysis.ledger.filter(pl.col("cause") == "allocator")["ns"].sum())


def _rows(side: Side) -> dict[str, tuple[int, int, int]]:
    rows = side.analysis.allocator.filter((pl.col("calls") > 0) | (pl.col("stall_ns") > 0))
    summed = rows.group_by(STAGE).agg(pl.col("calls", "host_ns", "stall_ns").sum())
    return {s: (calls, host, stall) for s, calls, host, stall in summed.iter_rows()}


def _weight(tables: Mapping[str, Mapping[str, tuple[int, int, int]]], stage: str) -> int:
    return max(max(rows[stage][1:]) for rows in tables.values() if stage in rows)


def _bar(side: Side, found: tuple[int, int, int] | None) -> Bar:
    unknown = side.cannot_tell("allocator")
    if unknown:
        return Bar(side.name, [], "cannot tell", unknown)
    if found is None:
        return Bar(side.name, [], "no calls")
    _, host, stall = found
    words = f"{text.duration(stall)} stall, {text.duration(host)} in calls"
    return Bar(side.name, [Part(stall, "allocator", f"{side.name}: {words}")], words)


def _cells(side: Side, found: tuple[int, int, int] | None) -> list[str]:
    if side.cannot_tell("allocator"):
        return ["cannot tell"] * 3
    if found is None:
        return ["0", text.ABSENT, text.ABSENT]
    calls, host, stall = found
    return [f"{calls:,}", text.duration(host), text.duration(stall)]


def _framework(counters: Mapping[str, Sequence[Allocator]]) -> list[Html]:
    """The counters of PyTorch's caching allocator, where the untraced processes reported any."""
    rows = []
    for name, values in counters.items():
        if not any(v.retries is not None or v.reserved_bytes_after is not None for v in values):
            continue
        before = _greatest([v.reserved_bytes_before for v in values])
        after = _greatest([v.reserved_bytes_after for v in values])
        peak = _greatest([v.peak_bytes for v in values])
        counts = [_greatest([getattr(v, f) for v in values]) for f in _COUNTERS]
        rows.append([name, *("–" if c is None else f"{c:,}" for c in counts), *map(text.size, (before, after, peak))])
    if not rows:
        return []
    heads = ["variant", "retries", "out of memory", "segments taken", "segments returned"]
    heads += ["reserved before", "reserved after", "peak in use"]
    return [
        element("h3", "The framework's own counters"),
        element("p", "Over the measured iterations of the untraced rounds; the largest of all rounds."),
        table("allocator counters of the framework", heads, rows, numbers=range(1, 8)),
    ]


_COUNTERS = ("retries", "ooms", "segments_allocated", "segments_freed")


def _greatest(values: Sequence[int | None]) -> int | None:
    return max((v for v in values if v is not None), default=None)
