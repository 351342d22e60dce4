"""Where every nanosecond went: the ledger as stacked bars, stage by stage, the sides beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ...analyze.result import IDLE
from . import text
from .bars import Bar, Part, chart
from .markup import Html, element
from .palette import MEANINGS, colour, rank
from .sides import STAGE, Side, caution, device_name, iterations, several_devices, stage_label
from .tables import folded, section, table

MOST_STAGES = 16
"""Stages with a bar of their own; the others are summed in one that says how many they are."""

Cells = dict[str, int]
"""ns per device kind or idle cause."""


def ledger_section(sides: Sequence[Side]) -> Html:
    """The section: totals, stages, legend, and the exact cells."""
    cells = {side.name: _cells(side) for side in sides}
    if not any(cells.values()):
        words = element("p", "No device did anything in the window, so there is no time to account for.")
        return section("ledger", "Where every nanosecond went", words, caution(sides, "ledger"))
    intro = element(
        "p",
        "Each instant of the window is counted once: as the work of highest priority that ran, or as idle with its "
        "cause. ",
        *[_conservation(side) for side in sides],
    )
    return section(
        "ledger",
        "Where every nanosecond went",
        intro,
        caution(sides, "ledger", "causes"),
        _legend(cells),
        element("h3", "In all"),
        chart(_totals(sides, cells), "time in the window by kind and idle cause"),
        element("h3", "By stage"),
        chart(_stages(sides, cells), "time of each stage by kind and idle cause"),
        folded("Every cell in nanoseconds", _table(sides)),
    )


def _cells(side: Side) -> dict[tuple[int, str], Cells]:
    """ns by (device, stage) and then by kind or idle cause, over all iterations."""
    what = pl.when(pl.col("category") == IDLE).then(pl.col("cause").fill_null("unknown")).otherwise(pl.col("category"))
    grouped = side.analysis.ledger.group_by("device", STAGE, what.alias("what")).agg(pl.col("ns").sum())
    out: dict[tuple[int, str], Cells] = {}
    for device, stage, name, ns in grouped.iter_rows():
        out.setdefault((device, stage), {})[name] = ns
    return out


def _conservation(side: Side) -> Html:
    """Whether the cells sum to the window, device by device; said aloud because everything else rests on it."""
    windows = side.analysis.windows.with_columns((pl.col("end_ns") - pl.col("start_ns")).alias("window_ns"))
    sums = side.analysis.ledger.group_by("device").agg(pl.col("ns").sum())
    both = windows.join(sums, on="device", how="left").with_columns(pl.col("ns").fill_null(0))
    parts: list[Html] = []
    for device, window, total in both.select("device", "window_ns", "ns").iter_rows():
        where = f"{side.name}, {device_name(side, device)}"
        count = iterations(side)
        over = f" over {text.count(count, 'iteration')}" if count else ""
        if window == total:
            words = f"{where}: the cells sum to the window of {text.nanoseconds(window)}{over} exactly. "
            parts.append(element("span", words, class_="exact"))
        else:
            words = f"{where}: the cells sum to {text.nanoseconds(total)}, the window is {text.nanoseconds(window)}. "
            parts.append(element("strong", words, class_="wrong"))
    return Html("".join(parts))


def _legend(cells: dict[str, dict[tuple[int, str], Cells]]) -> Html:
    names = {name for side in cells.values() for stage in side.values() for name, ns in stage.items() if ns}
    return legend(sorted(names, key=rank))


def legend(names: Sequence[str]) -> Html:
    """Colour, name and meaning of each kind or cause."""
    items = []
    for name in names:
        swatch = Html(
            f'<svg class="swatch" width="12" height="12" aria-hidden="true">'
            f'<rect width="12" height="12" rx="2" fill="{colour(name)}"/></svg>'
        )
        items.append(element("li", swatch, element("b", name), " ", element("span", MEANINGS.get(name, ""))))
    return element("ul", items, class_="legend")


def _totals(sides: Sequence[Side], cells: dict[str, dict[tuple[int, str], Cells]]) -> list[tuple[str, list[Bar]]]:
    devices = sorted({device for side in cells.values() for device, _ in side})
    groups = []
    for device in devices:
        bars = []
        for side in sides:
            total: Cells = {}
            for (d, _), parts in cells[side.name].items():
                if d == device:
                    total = {k: total.get(k, 0) + parts.get(k, 0) for k in {*total, *parts}}
            bars.append(_bar(side.name, total, sum(total.values())))
        groups.append((device_name(sides[0], device) if len(devices) > 1 else "", bars))
    return groups


def _stages(sides: Sequence[Side], cells: dict[str, dict[tuple[int, str], Cells]]) -> list[tuple[str, list[Bar]]]:
    keys = {key for side in cells.values() for key in side}
    weight = {key: max(sum(cells[side.name].get(key, {}).values()) for side in sides) for key in keys}
    ordered = sorted(keys, key=lambda key: (-weight[key], key))
    totals = {side.name: sum(sum(parts.values()) for parts in cells[side.name].values()) for side in sides}
    groups = []
    named = several_devices(sides)
    for device, stage in ordered[:MOST_STAGES]:
        label = stage_label(stage)
        label = f"{device_name(sides[0], device)} · {label}" if named else label
        bars = [_bar(side.name, cells[side.name].get((device, stage), {}), totals[side.name]) for side in sides]
        groups.append((label, bars))
    rest = ordered[MOST_STAGES:]
    if rest:
        bars = []
        for side in sides:
            total: Cells = {}
            for key in rest:
                for name, ns in cells[side.name].get(key, {}).items():
                    total[name] = total.get(name, 0) + ns
            bars.append(_bar(side.name, total, totals[side.name]))
        groups.append((f"{len(rest)} further stages together", bars))
    return groups


def _bar(label: str, cells: Cells, whole: int) -> Bar:
    total = sum(cells.values())
    parts = [
        Part(ns, name, f"{label}: {name} {text.duration(ns)}, {text.share(ns / whole)} of the window")
        for name, ns in sorted(cells.items(), key=lambda item: rank(item[0]))
        if ns
    ]
    value = text.duration(total) if total else "nothing"
    return Bar(label, parts, f"{value} · {text.share(total / whole)}" if 0 < total < whole else value)


def _table(sides: Sequence[Side]) -> Html:
    keys = ["device", "stage", "category", "cause"]
    frames = [side.analysis.ledger.with_columns(STAGE).group_by(keys).agg(pl.col("ns").sum()) for side in sides]
    values = [{row[:4]: row[4] for row in frame.select(*keys, "ns").iter_rows()} for frame in frames]
    rows = sorted({key for side in values for key in side}, key=lambda k: -max(v.get(k, 0) for v in values))
    heads = ["device", "stage", "category", "cause", *(f"{side.name} ns" for side in sides)]
    pair = len(sides) > 1
    if pair:
        heads.append(f"{sides[-1].name} − {sides[0].name} ns")
    body = []
    for key in rows:
        device, stage, category, cause = key
        numbers = [v.get(key, 0) for v in values]
        cells = [device_name(sides[0], device), stage_label(stage), category, cause or ""]
        cells += [f"{ns:,}" for ns in numbers]
        if pair:
            cells.append(f"{numbers[-1] - numbers[0]:+,}")
        body.append(cells)
    sums = [sum(v.values()) for v in values]
    total = ["", "all", "", "", *(f"{ns:,}" for ns in sums), *([f"{sums[-1] - sums[0]:+,}"] if pair else [])]
    return table("every cell of the ledger", heads, [total, *body], numbers=range(4, len(heads)))
