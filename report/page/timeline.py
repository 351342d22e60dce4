"""What a timeline shows: lanes and marks of the first measured iterations, before anything is drawn.

    thread 4242       |----------- iteration -----------|       stage bands: one row a nesting depth
                      |-- h2d --||-- compute --||- d2h -|
    GPU 0 stream 13     [h2d]       [h2d]                       one lane per (device, stream)
    GPU 0 stream 7              [compute]  [compute]
    GPU 0 idle        [........]        [..]                    gaps, with their cause

A timeline holds at most about `MOST_MARKS` marks, since each becomes an element of the page. Where there are more,
neighbours of one lane and kind that fall into the same pixel or two are drawn as one mark, and the timeline says how many.
Nothing is left out without a note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from ...analyze.attribution.stages import MEASURED, choose_domain
from ...analyze.result import IDLE, Analysis
from ...traces.model import Trace
from . import text
from .marks import Mark, View, mark_of, merge, merged_note, shown_name
from .markup import clip

MOST_MARKS: Final = 4000
"""Marks of one timeline; a browser draws and hovers this many bars without a noticeable wait."""

MOST_STREAMS: Final = 24
"""Stream lanes of one timeline; the ops of further streams share one lane."""

MOST_ROWS: Final = 24
"""Rows of stage bands of one timeline; ranges of further rows are counted in a note."""

ITERATIONS: Final = 2
"""Iterations drawn where they fit: the second shows whether the first is typical."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One row. `role` is "stage", "stream" or "idle"; `items` and `busy_ns` count what it holds within the view."""

    label: str
    role: str
    items: int
    busy_ns: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """The drawn view ``[0, span_ns)`` of one variant, which begins `start_ns` after the trace's first operation (null: it has
    none). `shown` names it, `notes` say what was merged or left out."""

    variant: str | None
    shown: str
    start_ns: int | None
    span_ns: int
    ops: int
    lanes: tuple[Lane, ...]
    marks: tuple[Mark, ...]
    notes: tuple[str, ...]


def build(trace: Trace, analysis: Analysis) -> Timeline | None:
    """The timeline of the first measured iterations, or of the whole window where there are none.

    Null where the trace has neither ops nor ranges in the view.
    """
    start, end, shown = _view(trace, analysis)
    if end <= start:
        return None
    bands = _Rows([], [], [])
    first = analysis.first_op_ns
    view = View(start, end, start if first is None else first)
    _stage_bands(trace, view, bands)
    ops = _within(trace.ops, start, end)
    _streams(trace, ops, view, bands)
    _idle(analysis, view, bands)
    if not bands.lanes:
        return None
    return Timeline(
        variant=analysis.variant,
        shown=shown,
        start_ns=None if first is None else start - first,
        span_ns=end - start,
        ops=ops.height,
        lanes=tuple(bands.lanes),
        marks=tuple(bands.marks),
        notes=tuple(bands.notes),
    )


@dataclass(slots=True)
class _Rows:
    lanes: list[Lane]
    marks: list[Mark]
    notes: list[str]


def _view(trace: Trace, analysis: Analysis) -> tuple[int, int, str]:
    iterations = analysis.iterations.drop_nulls("end_ns").sort("start_ns")
    total = iterations.height
    for shown in range(min(ITERATIONS, total), 0, -1):
        start, end = iterations["start_ns"][0], iterations["end_ns"][shown - 1]
        if shown == 1 or _within(trace.ops, start, end).height <= MOST_MARKS:
            which = "the first iteration" if shown == 1 else f"the first {shown} iterations"
            return start, end, f"{which} of {total}" if total > shown else _all(total)
    if analysis.windows.height:
        start, end = _least(analysis.windows["start_ns"]), _most(analysis.windows["end_ns"])
        return start, end, "the whole window"
    sources = [frame for frame in (trace.ops, trace.ranges) if frame.height]
    if not sources:
        return 0, 0, "nothing"
    start = min(_least(frame["start_ns"]) for frame in sources)
    end = max(max(_most(frame["end_ns"]), _most(frame["start_ns"])) for frame in sources)
    return start, end, "the whole trace"


def _all(iterations: int) -> str:
    return "the only iteration" if iterations == 1 else f"all {iterations} iterations"


def _least(series: pl.Series) -> int:
    value = series.min()
    return value if isinstance(value, int) else 0


def _most(series: pl.Series) -> int:
    value = series.max()
    return value if isinstance(value, int) else 0


def _within(frame: pl.DataFrame, start: int, end: int) -> pl.DataFrame:
    return frame.filter((pl.col("start_ns") < end) & (pl.col("end_ns").fill_null(end) > start))


# Stage bands


def _stage_bands(trace: Trace, view: View, rows: _Rows) -> None:
    start, end = view.start_ns, view.end_ns
    ranges = _within(_stage_ranges(trace.ranges, choose_domain(trace, None)), start, end).with_columns(
        pl.col("name").cast(pl.String)
    )
    if ranges.is_empty():
        return
    names = _thread_names(trace)
    processes = ranges["pid"].n_unique()
    hidden = 0
    order = ranges.group_by("pid", "tid").agg(pl.col("start_ns").min()).sort("start_ns", "tid")
    for pid, tid in order.select("pid", "tid").iter_rows():
        own = ranges.filter((pl.col("pid") == pid) & (pl.col("tid") == tid))
        own = own.with_columns(pl.col("end_ns").fill_null(end).alias("stop_ns"))
        depth = _depths(own["start_ns"].to_list(), own["stop_ns"].to_list())
        own = own.with_columns(pl.Series("depth", depth, dtype=pl.Int64))
        label = _thread_label(names.get((pid, tid), ""), tid if processes == 1 else f"{pid}/{tid}")
        for level in range(max(depth) + 1):
            row = own.filter(pl.col("depth") == level)
            if len(rows.lanes) >= MOST_ROWS:
                hidden += row.height
                continue
            _stage_row(label if level == 0 else "", row, view, rows)
    if hidden:
        rows.notes.append(f"{text.count(hidden, 'range')} of further threads or deeper nesting not drawn")


def _stage_ranges(ranges: pl.DataFrame, domain: str) -> pl.DataFrame:
    """The stages without the recording gate, which covers everything and says nothing."""
    stages = ranges.filter(pl.col("domain").cast(pl.String) == domain)
    return stages.filter(pl.col("name").cast(pl.String).fill_null("") != MEASURED)


def _thread_names(trace: Trace) -> dict[tuple[int, int], str]:
    rows = trace.threads.select("pid", "tid", pl.col("name").cast(pl.String)).drop_nulls().iter_rows()
    return {(pid, tid): name for pid, tid, name in rows}


def _thread_label(name: str, number: int | str) -> str:
    """``main 11``; short enough for the figure's margin, and without the number where the name holds it already."""
    return clip(name, 20) if str(number) in name else f"{clip(name, 12) or 'thread'} {number}"


def _depths(starts: Sequence[int], stops: Sequence[int]) -> list[int]:
    """Row of each range (sorted by start, longest first): one below the lowest range still open when it starts."""
    open_: list[tuple[int, int]] = []
    out = []
    for start, stop in zip(starts, stops, strict=True):
        open_ = [(s, d) for s, d in open_ if s > start]
        depth = max((d for _, d in open_), default=-1) + 1
        open_.append((stop, depth))
        out.append(depth)
    return out


def _stage_row(label: str, row: pl.DataFrame, view: View, rows: _Rows) -> None:
    lane = len(rows.lanes)
    busy = int((row["stop_ns"] - row["start_ns"]).sum())
    rows.lanes.append(Lane(label, "stage", row.height, busy))
    frame = row.select(
        pl.lit(lane).alias("lane"),
        pl.col("category").cast(pl.String).fill_null("").alias("kind"),
        "start_ns",
        pl.col("stop_ns").alias("end_ns"),
        "name",
        "nbytes",
        pl.col("end_ns").is_null().alias("open"),
    )
    merged, quantum = merge(frame, ["lane"], view.end_ns - view.start_ns, MOST_MARKS // 8)
    if merged.height < frame.height:
        rows.notes.append(merged_note(frame.height, merged.height, "range", quantum))
    for r in merged.iter_rows(named=True):
        lines = [shown_name(r["name"]), f"{text.duration(r['end_ns'] - r['start_ns'])} on the host"]
        if r["items"] > 1:
            lines = [f"{r['items']:,} ranges drawn as one", f"longest: {shown_name(r['name'])}"]
        elif r["open"]:
            lines.append("never closed; drawn to the end of the view")
        if r["nbytes"]:
            lines.append(text.size(r["nbytes"]))
        kind = r["kind"] if r["items"] == 1 and r["kind"] else "stage"
        label = shown_name(r["name"]) if r["items"] == 1 else ""
        rows.marks.append(mark_of(lane, f"stage {kind}", r, view, label, lines))


# Device lanes


def _streams(trace: Trace, ops: pl.DataFrame, view: View, rows: _Rows) -> None:
    if ops.is_empty():
        return
    types = dict(trace.devices.select("device", pl.col("type").cast(pl.String)).iter_rows())
    order = ops.group_by("device", "stream").agg(pl.len().alias("n"), (pl.col("end_ns") - pl.col("start_ns")).sum())
    kept = order.sort("end_ns", descending=True).head(MOST_STREAMS).sort("device", "stream", nulls_last=True)
    lanes: dict[tuple[int, int | None], int] = {}
    for device, stream, items, busy in kept.iter_rows():
        lanes[device, stream] = len(rows.lanes)
        rows.lanes.append(Lane(_lane_label(types.get(device), device, stream), "stream", items, busy))
    rest = order.join(kept, on=["device", "stream"], how="anti", nulls_equal=True)
    if rest.height:
        items, busy = int(rest["n"].sum()), int(rest["end_ns"].sum())
        for device, stream, *_ in rest.iter_rows():
            lanes[device, stream] = len(rows.lanes)
        rows.lanes.append(Lane(f"{rest.height} more streams", "stream", items, busy))
        rows.notes.append(f"the {rest.height} least busy streams share one lane")
    places = pl.DataFrame(
        [(device, stream, lane) for (device, stream), lane in lanes.items()],
        schema={"device": ops.schema["device"], "stream": ops.schema["stream"], "lane": pl.Int64},
        orient="row",
    )
    frame = ops.join(places, on=["device", "stream"], how="left", nulls_equal=True, maintain_order="left").with_columns(
        pl.col("kind", "src_kind", "dst_kind", "name").cast(pl.String),
    )
    merged, quantum = merge(frame, ["lane", "kind"], view.end_ns - view.start_ns, MOST_MARKS)
    if merged.height < frame.height:
        rows.notes.append(merged_note(frame.height, merged.height, "op", quantum))
    for r in merged.iter_rows(named=True):
        where = rows.lanes[r["lane"]].label
        kind = r["kind"] or "compute"
        if r["items"] > 1:
            lines = [f"{r['items']:,} {kind} ops drawn as one", f"busy {text.duration(r['busy_ns'])} in total"]
            lines.append(f"longest: {shown_name(r['name'])}")
        else:
            lines = [shown_name(r["name"]), f"{kind}, {text.duration(r['end_ns'] - r['start_ns'])}"]
            if r["src_kind"] or r["dst_kind"]:
                lines.append(f"{r['src_kind'] or '?'} to {r['dst_kind'] or '?'}")
        if r["nbytes"]:
            per_s = r["nbytes"] / (r["busy_ns"] / 1e9) if r["busy_ns"] else None
            lines.append(f"{text.size(r['nbytes'])}, {text.rate(per_s)}")
        rows.marks.append(mark_of(r["lane"], kind, r, view, "", [*lines, where]))


def _lane_label(device_type: str | None, device: int, stream: int | None) -> str:
    if device_type == "host":
        return "host" if stream is None else f"host · {stream}"
    return f"GPU {device}" if stream is None else f"GPU {device} · stream {stream}"


def _idle(analysis: Analysis, view: View, rows: _Rows) -> None:
    gaps = _within(analysis.gaps, view.start_ns, view.end_ns)
    for device in sorted(gaps["device"].drop_nulls().unique().to_list()):
        own = gaps.filter(pl.col("device") == device).sort("start_ns")
        lane = len(rows.lanes)
        kind = analysis.devices.filter((pl.col("device") == device) & (pl.col("type") == "host")).height
        rows.lanes.append(Lane("host idle" if kind else f"GPU {device} idle", "idle", own.height, int(own["ns"].sum())))
        for r in own.iter_rows(named=True):
            lines = [f"idle {text.duration(r['ns'])}", f"cause: {r['cause'] or 'unknown'}"]
            lines.append(f"stage: {shown_name(r['stage'])}")
            if r["opened_by"] and r["opened_by"] != "unknown":
                lines.append(f"opened by: {r['opened_by']}")
            rows.marks.append(mark_of(lane, IDLE, r, view, "", lines))
        idle = int(analysis.ledger.filter((pl.col("device") == device) & (pl.col("category") == IDLE))["ns"].sum())
        known = int(analysis.gaps.filter(pl.col("device") == device)["ns"].sum())
        if idle > known:
            part = text.share(known / idle)
            rows.notes.append(f"only the longest idle gaps are drawn; they hold {part} of the window's idle time")
