"""Communication: how much of the collectives' time was waiting for the slowest rank."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ...analyze.naming.kernels import short_names
from . import text
from .bars import Bar, Part, chart
from .markup import Html, clip, element
from .palette import colour
from .sides import Side, caution, device_name, stage_label
from .tables import folded, section, table


def communication_section(sides: Sequence[Side]) -> Html | None:
    """Waiting and moving of every device's collectives; null where nothing was communicated."""
    if all(side.analysis.collectives.is_empty() for side in sides):
        return None
    intro = element(
        "p",
        "A collective's kernel runs from when its own rank arrives. Until the last rank arrives it ",
        element("b", "waits"),
        "; only after that it communicates. Collectives whose other ranks are not in the trace, or that may end before all ranks "
        "began, cannot be split.",
    )
    devices = sorted({d for side in sides for d in side.analysis.collectives["device"].to_list()})
    groups = [(device_name(sides[0], device), [_bar(side, device) for side in sides]) for device in devices]
    heads = ["variant", "device", "stage", "collective", "ops", "time", "paired", "ranks", "waiting", "communicating"]
    rows = [row for side in sides for row in _rows(side)]
    return section(
        "communication",
        "Communication",
        intro,
        caution(sides, "comm"),
        _legend(),
        chart(groups, "time of collectives, waiting and communicating"),
        folded("Every collective", table("collectives by stage", heads, rows, numbers=range(4, 10))),
    )


def _bar(side: Side, device: int) -> Bar:
    mine = side.analysis.collectives.filter(pl.col("device") == device)
    total, wait, comm = (int(mine[column].sum()) for column in ("sum_ns", "comm_wait_ns", "comm_ns"))
    if not total:
        return Bar(side.name, [], "no collectives")
    unsplit = total - wait - comm
    words = [
        f"{text.duration(ns)} {what}"
        for ns, what in ((wait, "waiting"), (comm, "moving"), (unsplit, "not split"))
        if ns
    ]
    parts = [
        Part(wait, ".wait-part", f"{side.name}: {text.duration(wait)} waiting for the last rank"),
        Part(comm, "comm", f"{side.name}: {text.duration(comm)} communicating"),
        Part(unsplit, ".unsplit-part", f"{side.name}: {text.duration(unsplit)} that cannot be split"),
    ]
    return Bar(side.name, parts, ", ".join(words))


def _rows(side: Side) -> list[list[str]]:
    out = []
    short = short_names(side.analysis.collectives["name"].to_list())
    for r in side.analysis.collectives.sort("sum_ns", descending=True, maintain_order=True).iter_rows(named=True):
        known = r["paired"] > 0
        out.append(
            [
                *(side.name, device_name(side, r["device"]), stage_label(r["stage"]), clip(short[r["name"]], 80)),
                *(f"{r['ops']:,}", text.duration(r["sum_ns"]), f"{r['paired']:,}"),
                *(str(r["ranks"]) if known else text.ABSENT,),
                *(text.duration(r[c]) if known else text.ABSENT for c in ("comm_wait_ns", "comm_ns")),
            ]
        )
    return out


def _legend() -> Html:
    swatch = (
        '<li><svg class="swatch" width="12" height="12" aria-hidden="true"><rect width="12" height="12" rx="2" {}/></svg>'
        "<b>{}</b> <span>{}</span></li>"
    )
    items = [
        swatch.format('class="wait-part"', "waiting", "for the last rank to begin"),
        swatch.format(f'fill="{colour("comm")}"', "communicating", "all ranks there"),
        swatch.format('class="unsplit-part"', "not split", "other ranks unknown"),
    ]
    return Html(f'<ul class="legend">{"".join(items)}</ul>')
