"""The stage table: one row a stage and device, nested stages below the one they nest in.

Every figure of a row counts what nests in the stage, but for those whose title says own; so what stands in one row is about the
same time. Where lines are short, columns that say least give way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from ...analyze.attribution.bounded import OTHERS
from ...analyze.comparison.matching import split
from ...analyze.naming.numbers import shape
from ...analyze.result import IDLE, Analysis
from ...analyze.words import ms, percent
from .console import GAP, Column, print_table, say, say_wrapped, terminal_width
from .details import longest

COST: Final = pl.max_horizontal(pl.col("projected_ns").fill_null(0), pl.col("host_ns"))
"""Of a stage: its work on the device from first to last, or its ranges' own time, whichever is longer."""

SMALL: Final = 0.001
"""Stages whose time on the host and in the ledger is a smaller part of the window share a row."""

LEAST_NAME: Final = 24
"""What is left for a stage's name before columns give way."""

GIVING_WAY: Final = ("own idle", "wait", "each", "share")
"""Columns that are left out of short lines, the first of them first."""

_WAITS: Final = ("sync", "waiting")
_COPIES: Final = ("h2d", "d2h", "p2p", "d2d", "h2h", "memset")


@dataclass(frozen=True, slots=True)
class Ledger:
    """ns of ledger cells by (device, stage). A null device stands for all; `of` and the others count nested stages, `own` not."""

    of: Mapping[tuple[int | None, str], int]
    idle: Mapping[tuple[int | None, str], int]
    waits: Mapping[tuple[int | None, str], int]
    own: Mapping[tuple[int | None, str], int]
    own_idle: Mapping[tuple[int | None, str], int]
    window: Mapping[int | None, int]


def ledger_of(analysis: Analysis) -> Ledger:
    """The ledger by stage, rolled up: what a stage's cells are is also its ancestors'."""
    of, idle, waits, own, own_idle = (Counter[tuple[int | None, str]]() for _ in range(5))
    cells = analysis.ledger.group_by("device", "stage", "category", "cause").agg(pl.col("ns").sum())
    for number, stage, category, cause, ns in cells.iter_rows():
        names = split(stage)
        above = ["/".join(names[: depth + 1]) for depth in range(len(names))]
        for device in (number, None):
            own[device, stage] += ns
            own_idle[device, stage] += ns if category == IDLE else 0
            for path in above:
                of[device, path] += ns
                idle[device, path] += ns if category == IDLE else 0
                waits[device, path] += ns if cause in _WAITS else 0
    window: Counter[int | None] = Counter()
    for number, start, end in analysis.windows.select("device", "start_ns", "end_ns").iter_rows():
        window[number] += end - start
        window[None] += end - start
    return Ledger(of, idle, waits, own, own_idle, window)


def print_stages(analysis: Analysis) -> None:
    """Nested stages are indented below their parents; a stage that launched nothing shows the idle time of all devices."""
    if analysis.stages.is_empty():
        return
    ledger = ledger_of(analysis)
    large, small = _by_size(analysis.stages, ledger)
    stages = in_tree_order(longest(large, COST))
    labels = _tree_labels(stages["path"].to_list())
    columns = [Column("stage (ms)", "left", shrink=True), *map(Column, ("dev", "n", "host", "each", "ops"))]
    columns += map(Column, ("compute", "copy", "comm", "wait", "idle", "own idle", "share"))
    rows: list[list[object]] = [
        [labels[row["path"]], *_figures(analysis, ledger, row)] for row in stages.iter_rows(named=True)
    ]
    if small:
        there = {(device, path) for device, path in small if device is not None}
        ns = sum(ledger.own[key] for key in there)
        blank = [None] * (len(columns) - 2)
        rows.append([f"({len(small):,} more, {ms(ns)} ms)", *blank, _share(ns, ledger.window[None])])
    say("")
    columns, rows = _that_fit(columns, rows)
    print_table(columns, rows)
    if left := len(large) - len(stages):
        say(f"and {left:,} shorter ones; --depth and --stages choose, --json lists them")
    told = {column.title for column in columns}
    legend = [
        "host: how long the ranges were open",
        *(["each: one instance of them"] if "each" in told else []),
        "idle: device time spent waiting for the stage",
        *(["wait: the part in which its threads waited"] if "wait" in told else []),
        *([f"share: of the window, with rows under {percent(SMALL)} in one"] if "share" in told else []),
    ]
    except_ = " but own idle" if "own idle" in told else ""
    say_wrapped(f"every column{except_} counts nested stages; {'; '.join(legend)}")
    if analysis.stage_names.height:
        say_wrapped("names that differ in numbers alone are one stage here; --no-fold lists each")
    if folded := analysis.choices.folded:
        say(f"{folded:,} less costly stages are folded: into what they nest in, else into {OTHERS}; --all lists them")


def _by_size(stages: pl.DataFrame, ledger: Ledger) -> tuple[pl.DataFrame, list[tuple[int | None, str]]]:
    """(the rows of table ``stages`` to show by themselves, device and path of the others: none, or several)."""
    if not ledger.window[None]:
        return stages, []
    keep = [
        max(host, ledger.of[device, path]) >= SMALL * (ledger.window[device] or ledger.window[None])
        for device, path, host in stages.select("device", "path", "host_ns").iter_rows()
    ]
    small = stages.filter(~pl.Series(keep, dtype=pl.Boolean)).select("device", "path").rows()
    return (stages, []) if len(small) < 2 else (stages.filter(pl.Series(keep, dtype=pl.Boolean)), small)


def _figures(analysis: Analysis, ledger: Ledger, row: Mapping[str, object]) -> list[object]:
    """The cells of a row of table ``stages``, behind its name."""
    device, path, n, host = row["device"], str(row["path"]), int(str(row["instances"])), int(str(row["host_ns"]))
    here = pl.col("device").eq_missing(pl.lit(device)) & (pl.col("path") == path)
    union = {r["kind"]: r["union_ns"] for r in analysis.stage_kinds.filter(here).iter_rows(named=True)}
    key = (None if device is None else int(str(device)), path)
    times = (
        union.get("compute", 0) + union.get("graph", 0),
        sum(union.get(k, 0) for k in _COPIES),
        union.get("comm", 0),
        ledger.waits[key],
        ledger.idle[key],
        ledger.own_idle[key],
    )
    ops = None if device is None else row["ops"]
    shown = [ms(ns) if ns else None for ns in times]
    return [device, n, ms(host), ms(host // n), ops, *shown, _share(ledger.of[key], ledger.window[key[0]])]


def _share(ns: int, window: int) -> str | None:
    return percent(ns / window) if ns and window else None


def _that_fit(columns: list[Column], rows: list[list[object]]) -> tuple[list[Column], list[list[object]]]:
    """The table without the columns of `GIVING_WAY` that leave a stage's name too little room."""
    room = terminal_width() - min(LEAST_NAME, max(len(str(row[0])) for row in rows))
    for title in (None, *GIVING_WAY):
        at = next((i for i, column in enumerate(columns) if column.title == title), None)
        if at is not None:
            columns, rows = columns[:at] + columns[at + 1 :], [row[:at] + row[at + 1 :] for row in rows]
        widths = [
            max(len(column.title), *(len("-" if row[i] is None else str(row[i])) for row in rows))
            for i, column in enumerate(columns)
        ]
        if sum(widths[1:]) + len(GAP) * (len(columns) - 1) <= room:
            break
    return columns, rows


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
