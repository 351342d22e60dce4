"""Where every nanosecond went: the ledger as a chart, by stage, and its exact cells, the sides beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ..figures import ledger_figure
from ..palette import MEANINGS, rank
from . import text
from .blocks import Cell, Chart, Fold, Legend, Para, Row, Section, Span, Table, Words, section
from .sides import STAGE, Side, caution, device_name, iterations, stage_label


def ledger_section(sides: Sequence[Side]) -> Section:
    """The section: whether the cells sum to the windows, the chart, what its colours mean, and the exact cells."""
    title = "Where every nanosecond went"
    if all(side.analysis.ledger.is_empty() for side in sides):
        words = Para("The window has no device operations, so there is no time to account for.")
        return section("ledger", title, words, caution(sides, "ledger"))
    intro: list[Words] = [
        "Each instant of the window counts once: as the work of highest priority that ran, or as idle with its cause (hatched). ",
        *(span for side in sides for span in _conservation(side)),
    ]
    found = [(side.name, side.analysis) for side in sides]
    return section(
        "ledger",
        title,
        Para(intro),
        caution(sides, "ledger", "causes"),
        Chart("figure-ledger", ledger_figure(found), "time of each stage by kind of work and cause of idle time"),
        Fold("What the kinds and causes mean", [legend_of(sides)]),
        Fold("Every cell in nanoseconds", [_table(sides)]),
    )


def legend_of(sides: Sequence[Side]) -> Legend:
    """The kinds of work and causes of idle time that the sides have."""
    cells = [side.analysis.ledger.filter(pl.col("ns") > 0).select("category", "cause").unique() for side in sides]
    names = {cause or category for found in cells for category, cause in found.iter_rows()}
    return Legend([(name, MEANINGS.get(name, "")) for name in sorted(names, key=lambda name: (rank(name), name))])


def _conservation(side: Side) -> list[Span]:
    """Whether the cells sum to the window, device by device; said aloud because everything else rests on it."""
    windows = side.analysis.windows.with_columns((pl.col("end_ns") - pl.col("start_ns")).alias("window_ns"))
    sums = side.analysis.ledger.group_by("device").agg(pl.col("ns").sum())
    both = windows.join(sums, on="device", how="left").with_columns(pl.col("ns").fill_null(0))
    parts = []
    for device, window, total in both.select("device", "window_ns", "ns").iter_rows():
        where = f"{side.name}, {device_name(side, device)}"
        count = iterations(side)
        over = f" over {text.count(count, 'iteration')}" if count else ""
        if window == total:
            words = f"{where}: the cells sum to the window of {text.nanoseconds(window)}{over} exactly. "
            parts.append(Span(words, "exact"))
        else:
            words = f"{where}: the cells sum to {text.nanoseconds(total)}, the window is {text.nanoseconds(window)}. "
            parts.append(Span(words, "wrong"))
    return parts


def _table(sides: Sequence[Side]) -> Table:
    keys = ["device", "stage", "category", "cause"]
    frames = [side.analysis.ledger.with_columns(STAGE).group_by(keys).agg(pl.col("ns").sum()) for side in sides]
    values = [{row[:4]: row[4] for row in frame.select(*keys, "ns").iter_rows()} for frame in frames]
    every = {key for side in values for key in side}
    rows = sorted(
        every, key=lambda k: (-max(v.get(k, 0) for v in values), *("" if part is None else str(part) for part in k))
    )
    heads = ["device", "stage", "category", "cause", *(f"{side.name} ns" for side in sides)]
    pair = len(sides) > 1
    if pair:
        heads.append(f"{sides[-1].name} − {sides[0].name} ns")
    body = []
    for key in rows:
        device, stage, category, cause = key
        numbers = [v.get(key, 0) for v in values]
        cells: list[Cell | str] = [device_name(sides[0], device), stage_label(stage), category, cause or ""]
        body.append(Row([*cells, *_numbers(numbers, pair)], stage=stage))
    sums = [sum(v.values()) for v in values]
    total = Row(["", "all", "", "", *_numbers(sums, pair)])
    return Table("every cell of the ledger", heads, body, numbers=range(4, len(heads)), total=total)


def _numbers(numbers: Sequence[int], pair: bool) -> list[Cell]:
    difference = numbers[-1] - numbers[0]
    last = [Cell(f"{difference:+,}".replace("-", "−"), difference)] if pair else []
    return [*(Cell(f"{ns:,}", ns) for ns in numbers), *last]
