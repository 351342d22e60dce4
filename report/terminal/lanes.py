"""What a timeline in characters shows of an iteration, before anything is drawn: a lane for each stream, for what each device
waits for, and for each host thread.

A lane's `busy_ns` is measured on the union of its intervals, column by column; nothing is drawn wider than it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from ...analyze.analyze import analyze
from ...analyze.attribution.calls import CLASSES, classes_of
from ...analyze.attribution.stages import MEASURED
from ...analyze.attribution.window import STEADY
from ...analyze.intervals import Cover, Ints, cover
from ...analyze.result import Analysis
from ...analyze.steady import Instance
from ...analyze.words import duration
from ...traces.model import KINDS, Trace
from ..again import choices_of
from .cells import busy, edges, eighths, fullest

STREAMS: Final = 8
DEVICES: Final = 8
THREADS: Final = 6
"""Lanes that are drawn, the busiest first; a note counts the others. With `LEVELS` they bound the output to about 80 lines."""

LEVELS: Final = 2
"""Levels of nested stages that are drawn of a thread."""

RANGES: Final = 20_000
"""Stages of one thread beyond which none is drawn: hundreds would share a column."""

CALLS: Final = {"launch": "launch_api", "poll": "sync", "kernel_query": "other_api", "other": "other_api"}
"""Classes of host calls that have the name of another idle cause."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One row: in each column how high its bar is, in eighths, and what fills most of it (null: nothing at all)."""

    label: str
    role: str  # "stream", "idle" or "calls"
    heights: tuple[int, ...]
    what: tuple[str | None, ...]
    busy_ns: int


@dataclass(frozen=True, slots=True)
class Band:
    """The stages of one thread and level: in each column the number and name of the range that fills most of it."""

    label: str
    ranges: tuple[tuple[int, str] | None, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The rows below one title: a device or the host."""

    title: str
    rows: tuple[Lane | Band, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is drawn of ``[start_ns, end_ns)``; `shown` says what that is, `notes` what is left out."""

    shown: str
    start_ns: int
    end_ns: int
    bounds: Ints
    groups: tuple[Group, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _View:
    start: int
    end: int
    bounds: Ints

    def of(self, table: pl.DataFrame) -> pl.DataFrame:
        """Rows that have a part in the view; open ones end with it."""
        end = pl.col("end_ns").fill_null(self.end)
        return table.filter((pl.col("start_ns") < self.end) & (end > self.start)).with_columns(end.alias("end_ns"))

    def cover(self, table: pl.DataFrame) -> Cover:
        """The union of what `table` has in the view."""
        table = table.sort("start_ns")
        return cover(table["start_ns"].to_numpy(), table["end_ns"].to_numpy()).clip(self.start, self.end)

    def busiest(self, table: pl.DataFrame, *by: str) -> pl.DataFrame:
        """The groups of `table` by the columns `by`, those with the longest sum of intervals in the view first."""
        length = pl.col("end_ns").clip(upper_bound=self.end) - pl.col("start_ns").clip(lower_bound=self.start)
        groups = table.group_by(by).agg(length.sum().alias("ns"))
        return groups.sort("ns", *by, descending=[True, *(False for _ in by)])


def timeline(trace: Trace, analysis: Analysis, columns: int) -> Timeline | None:
    """The typical iteration of `analysis`, or its window where it has none or one was given; null where nothing was recorded."""
    chosen = _chosen(trace, analysis)
    if chosen is None:
        return None
    start, end, shown = chosen
    view = _View(start, end, edges(start, end, columns))
    notes: list[str] = []
    groups = [*_devices(trace, _within(trace, analysis, start, end), view, notes)]
    if host := tuple(_threads(trace, analysis, view, notes)):
        groups.append(Group("host", host))
    return Timeline(shown, start, end, view.bounds, tuple(groups), tuple(notes)) if groups else None


def _chosen(trace: Trace, analysis: Analysis) -> tuple[int, int, str] | None:
    """(start, end, what it is)."""
    window, steady = analysis.choices.window, analysis.steady
    own = window in (None, STEADY, MEASURED)
    if own and steady is not None and window != MEASURED:
        return _typical(steady.steady, "steady iteration")
    if own and analysis.iterations["end_ns"].drop_nulls().len():
        rows = analysis.iterations.drop_nulls("end_ns").select("iteration", "start_ns", "end_ns").rows()
        return _typical([Instance(f"iteration {i}", start, end) for i, start, end in rows], "iteration")
    if analysis.windows.height:
        start, end = _least(analysis.windows["start_ns"]), _most(analysis.windows["end_ns"])
        return start, end, f"the whole window, {duration(end - start)}"
    some = [table for table in (trace.ops, trace.ranges, trace.api) if table.height]
    if not some:
        return None
    start = min(_least(table["start_ns"]) for table in some)
    end = max(_most(table[name]) for table in some for name in ("start_ns", "end_ns"))
    return (start, end, f"the whole recording, {duration(end - start)}") if end > start else None


def _typical(some: tuple[Instance, ...] | list[Instance], noun: str) -> tuple[int, int, str] | None:
    """The iteration of median length, of two the shorter."""
    some = [one for one in some if one.ns > 0]
    if not some:
        return None
    one = sorted(some, key=lambda one: (one.ns, one.start_ns))[(len(some) - 1) // 2]
    which = f"the only {noun}" if len(some) == 1 else f"the median of {len(some):,} {noun}s"
    return one.start_ns, one.end_ns, f"{one.name}, {duration(one.ns)}, {which}"


def _within(trace: Trace, analysis: Analysis, start: int, end: int) -> Analysis:
    """The gaps of ``[start, end)``, all of them, by the choices that `analysis` was made with."""
    choices = analysis.choices
    domain, selection, _ = choices_of(trace, choices)
    return analyze(
        trace,
        window=(start, end),
        attribution=choices.attribution,
        domain=domain,
        selection=selection,
        fold=choices.fold,
        largest_gaps=trace.ops.height + 1,
        details=False,
        work=False,
    )


def _devices(trace: Trace, inside: Analysis, view: _View, notes: list[str]) -> Iterator[Group]:
    names = {device: (kind, name or "") for device, kind, name in trace.devices.select("device", "type", "name").rows()}
    ops = view.of(trace.ops.select("device", "stream", "pid", "kind", "start_ns", "end_ns"))
    order = view.busiest(ops, "device", "pid", "stream")
    devices = order["device"].unique(maintain_order=True).to_list()
    idle = [device for device in inside.windows["device"].to_list() if device not in devices]
    for device in sorted([*devices, *idle][:DEVICES]):
        kind, name = names.get(device, ("gpu", ""))
        mine = order.filter(pl.col("device") == device)
        several = mine["pid"].n_unique() > 1
        rows: list[Lane | Band] = []
        shown = mine.head(STREAMS).sort("pid", "stream", nulls_last=True)
        for _, pid, stream, _ in shown.iter_rows():
            one = ops.filter(
                (pl.col("device") == device) & (pl.col("pid") == pid) & pl.col("stream").eq_missing(stream)
            )
            label = "work" if stream is None else f"stream {stream}"
            parts = {k: view.cover(one.filter(pl.col("kind") == k)) for k in KINDS if (one["kind"] == k).any()}
            rows.append(_lane(f"{label} of {pid}" if several else label, "stream", view, view.cover(one), parts))
        gaps = inside.gaps.filter(pl.col("device") == device)
        causes = {c: view.cover(gaps.filter(pl.col("cause") == c)) for c in gaps["cause"].unique().sort().to_list()}
        rows.append(_lane("idle", "idle", view, view.cover(gaps), causes))
        if left := mine.height - shown.height:
            notes.append(f"{left:,} less busy stream{'' if left == 1 else 's'} of device {device} not drawn")
        title = f"GPU {device}" if kind == "gpu" else f"host device {device}"
        yield Group(f"{title} {name}".rstrip(), tuple(rows))
    if (left := len(devices) + len(idle) - DEVICES) > 0:
        notes.append(f"{left:,} less busy devices not drawn")


def _threads(trace: Trace, analysis: Analysis, view: _View, notes: list[str]) -> Iterator[Lane | Band]:
    """For each thread the stages it has open, and what its CUDA calls are."""
    ranges = _stages(trace, analysis, view)
    calls = view.of(trace.api.select("pid", "tid", "name", "start_ns", "end_ns"))
    calls = calls.with_columns(pl.Series("class", classes_of(calls["name"]), pl.Int64)) if calls.height else calls
    both = [t.select("pid", "tid", "start_ns", "end_ns") for t in (ranges, calls)]
    order = view.busiest(pl.concat(both), "pid", "tid")
    names = _names(trace, order.head(THREADS).select("pid", "tid").rows())
    for pid, tid, _ in order.head(THREADS).iter_rows():
        mine = (pl.col("pid") == pid) & (pl.col("tid") == tid)
        label = names[pid, tid]
        bands = list(_bands(label, ranges.filter(mine), view, notes))
        yield from bands
        if calls.height and (own := calls.filter(mine)).height:
            parts: dict[str, list[pl.DataFrame]] = {}
            for code, word in enumerate(CLASSES):
                some = own.filter(pl.col("class") == code)
                if some.height:
                    parts.setdefault(CALLS.get(word, word), []).append(some)
            covers = {cause: view.cover(pl.concat(tables)) for cause, tables in parts.items()}
            yield _lane("  calls" if bands else label, "calls", view, view.cover(own), covers)
    if (left := order.height - THREADS) > 0:
        notes.append(f"{left:,} less busy thread{'' if left == 1 else 's'} not drawn")


def _names(trace: Trace, threads: list[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """What to call `threads`: by name, and by number where several share it."""
    known = {(pid, tid): name for pid, tid, name in trace.threads.select("pid", "tid", "name").rows() if name}
    names = [known.get(one, "thread") for one in threads]
    alike = {name for name in names if names.count(name) > 1} | {"thread"}
    return {one: f"{name} {one[1]}" if name in alike else name for one, name in zip(threads, names, strict=True)}


def _stages(trace: Trace, analysis: Analysis, view: _View) -> pl.DataFrame:
    """Ranges of the stages' domain in the view, but for those that fill it: they say nothing of where its time goes."""
    ranges = view.of(trace.ranges.select("pid", "tid", "domain", "name", "start_ns", "end_ns"))
    ranges = ranges.with_columns(pl.col("domain", "name").cast(pl.String))
    fills = (pl.col("start_ns") <= view.start) & (pl.col("end_ns") >= view.end)
    ours = (pl.col("domain") == analysis.choices.domain) & (pl.col("name").fill_null("") != MEASURED)
    return ranges.filter(ours & ~fills)


def _bands(label: str, ranges: pl.DataFrame, view: _View, notes: list[str]) -> Iterator[Band]:
    if ranges.height > RANGES:
        notes.append(f"{ranges.height:,} stages of {label} are too many to name; --window draws a part")
        return
    levels: list[list[tuple[int, int, int, str]]] = []
    open_: list[int] = []
    ordered = ranges.sort(["start_ns", "end_ns"], descending=[False, True])
    for number, (start, end, name) in enumerate(ordered.select("start_ns", "end_ns", "name").iter_rows()):
        open_ = [until for until in open_ if until > start]
        if len(open_) == len(levels):
            levels.append([])
        levels[len(open_)].append((number, start, end, name or "?"))
        open_.append(end)
    for level, rows in enumerate(levels[:LEVELS]):
        yield Band(label if level == 0 else "", _filled(rows, view.bounds))
    if len(levels) > LEVELS:
        deeper = sum(map(len, levels[LEVELS:]))
        notes.append(f"{deeper:,} more deeply nested stage{'' if deeper == 1 else 's'} of {label} not drawn")


def _filled(rows: list[tuple[int, int, int, str]], bounds: Ints) -> tuple[tuple[int, str] | None, ...]:
    """The range that fills most of each column."""
    most = [0] * (len(bounds) - 1)
    found: list[tuple[int, str] | None] = [None] * (len(bounds) - 1)
    edge = bounds.tolist()
    for number, start, end, name in rows:
        first = max(int(np.searchsorted(bounds, start, "right")) - 1, 0)
        for column in range(first, len(most)):
            if edge[column] >= end:
                break
            ns = min(end, edge[column + 1]) - max(start, edge[column])
            if ns > most[column]:
                most[column], found[column] = ns, (number, name)
    return tuple(found)


def _lane(label: str, role: str, view: _View, whole: Cover, parts: dict[str, Cover]) -> Lane:
    filled = {name: busy(one, view.bounds) for name, one in parts.items()}
    what = fullest(filled) or [None] * (len(view.bounds) - 1)
    return Lane(label, role, tuple(eighths(busy(whole, view.bounds), view.bounds)), tuple(what), whole.total)


def _least(series: pl.Series) -> int:
    value = series.min()
    assert isinstance(value, int)
    return value


def _most(series: pl.Series) -> int:
    value = series.max()
    return value if isinstance(value, int) else 0
