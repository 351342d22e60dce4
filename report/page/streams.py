"""Streams: how many of them were busy at once."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from . import text
from .bars import Bar, Part, chart
from .markup import Html, element
from .sides import Side, caution, device_name
from .tables import folded, section, table

LEVELS = ("idle", "one stream", "two streams", "three or more")

PARTS = 1_000_000
"""A bar is the whole window, in parts per million: windows of different lengths are drawn alike."""


def streams_section(sides: Sequence[Side]) -> Html | None:
    """Time with none, one, two, more streams busy; null where no device used more than one."""
    several = [d for side in sides for d, n in side.analysis.streams.group_by("device").len().iter_rows() if n > 1]
    if not several:
        return None
    devices = sorted({d for side in sides for d in side.analysis.concurrency["device"].to_list()})
    groups = [
        (device_name(sides[0], d) if len(devices) > 1 else "", [_bar(side, d) for side in sides]) for d in devices
    ]
    heads = ["variant", "device", "process", "context", "stream", "ops", "busy", "of the window"]
    rows = [row for side in sides for row in _rows(side)]
    return section(
        "streams",
        "Streams busy at once",
        element("p", "A stream is busy while any of its operations runs. Each bar is the whole window."),
        caution(sides, "overlap"),
        _legend(),
        chart(groups, "time with so many streams busy"),
        folded("Every stream", table("streams of each device", heads, rows, numbers=range(5, 8))),
    )


def _bar(side: Side, device: int) -> Bar:
    here = pl.col("device") == device
    levels = dict(side.analysis.concurrency.filter(here).select("streams", "ns").iter_rows())
    window = sum(levels.values())
    if not window:
        return Bar(side.name, [], "nothing")
    busy = int(side.analysis.streams.filter(here)["busy_ns"].sum())
    parts = [
        Part(
            PARTS * levels.get(n, 0) // window,
            f".level-{n}",
            f"{side.name}: {name} {text.share(levels.get(n, 0) / window)}",
        )
        for n, name in enumerate(LEVELS)
    ]
    return Bar(side.name, parts, f"{busy / window:.2f} streams on average")


def _rows(side: Side) -> list[list[str]]:
    windows = {d: end - start for d, start, end in side.analysis.windows.iter_rows()}
    out = []
    for r in side.analysis.streams.sort("busy_ns", descending=True, maintain_order=True).iter_rows(named=True):
        whole = windows.get(r["device"])
        ids = (text.ABSENT if r[c] is None else str(r[c]) for c in ("pid", "context", "stream"))
        share = text.share(r["busy_ns"] / whole if whole else None)
        out.append(
            [side.name, device_name(side, r["device"]), *ids, f"{r['ops']:,}", text.duration(r["busy_ns"]), share]
        )
    return out


def _legend() -> Html:
    items = "".join(
        f'<li><svg class="swatch" width="12" height="12" aria-hidden="true"><rect width="12" height="12" rx="2" '
        f'class="level-{n}"/></svg><b>{name}</b></li>'
        for n, name in enumerate(LEVELS)
    )
    return Html(f'<ul class="legend">{items}</ul>')
