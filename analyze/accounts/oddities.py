"""What cannot be, or cannot be all: rows of a trace that contradict physics, and what follows for the figures.

    early       an operation begins before the call that launches it: the clocks of host and device disagree
    far         a few operations lie far before or after all others, and nothing that was recorded near them bears their times out
    instant     all operations of a device begin and end at one instant, so that there is no time to account for
    held        an idle device begins work long after its launch returned: something that was not recorded held the stream
    twice       a launch was recorded twice under one correlation id; its operations are counted once
    silent      a process launched work, and no operation of it was recorded; the others are whole
    pending     launches at the end without a device row: the recording ended before they ran
    shared      processes name one device, and nothing says whether they mean the same
    skewed      ranks run the same collectives, always the same time apart: their clocks disagree

Each is one row with its numbers and an example, and lowers trust in those metrics alone that rest on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.model import distinct_values
from ..attribution.attribute import Attributed
from ..attribution.calls import COPY, LAUNCH
from ..attribution.dependencies import STREAM, Awaited
from ..attribution.launches import SPARSE
from ..intervals import Ints, cover, place_right
from ..result import SCHEMAS
from ..words import duration, shorten
from .ledger import LATENCY_NS

TOLERATED: Final = 0.001
"""Up to this share of ops or launches may be odd, orphaned or unrecorded before anything is said: the few that a recording cuts
off at its edges."""

DOUBTFUL: Final = 0.05
"""Of the windows: from this share on, unexplained time is worth a word in the first lines."""

WIDTH: Final = 40
"""Columns for a name in these sentences."""

FAR: Final = 10
"""Times as long as the operations in the middle took: so long before or after all others lies an operation that is far."""

EDGE: Final = 10
"""One in so many operations, counted from each end, may be far; the rest is the middle."""

NAMED: Final = 4
"""Devices that a sentence names."""

UNMAPPED: Final = "devices_without_map"
"""Anomaly of readers: processes beyond the first of a device whose numbers nothing maps to the machine's."""


@dataclass(frozen=True, slots=True)
class Oddity:
    """`rows` of `of` contradict what must hold; `level` is what that makes of trust in `metrics`, `text` says it in words.

    A `doubt` goes in the first lines: the rest would mislead without it.
    """

    what: str
    rows: int
    of: int
    level: str
    metrics: tuple[str, ...]
    text: str
    doubt: bool


def oddities(a: Attributed, launch_rows: pl.DataFrame, skews: pl.DataFrame, waits: Awaited | None) -> list[Oddity]:
    """All of them; `launch_rows` and `skews` are those tables of the analysis, `waits` what devices wait for of each other."""
    return [
        *_early(a),
        *_far(a),
        *_instant(a),
        *_held(a, waits),
        *_twice(a),
        *_silent(a, launch_rows),
        *_pending(launch_rows),
        *_shared(a),
        *_skewed(skews),
    ]


def oddity_table(found: list[Oddity]) -> pl.DataFrame:
    """Table ``oddities``."""
    rows = [(one.what, one.rows, one.of, one.level, one.text, one.doubt) for one in found]
    return pl.DataFrame(rows, schema=SCHEMAS["oddities"], orient="row")


def _early(a: Attributed) -> Iterator[Oddity]:
    rows = np.flatnonzero(a.launches.call >= 0)
    if len(rows) == 0:
        return
    start = a.trace.ops["start_ns"].to_numpy()
    ahead = a.calls.start_ns[a.launches.call[rows]] - start[rows]
    early = np.flatnonzero(ahead > 0)
    if len(early) <= TOLERATED * len(rows):
        return
    most = int(early[np.argmax(ahead[early])])
    text = (
        f"{len(early):,} of {len(rows):,} operations begin before the call that launches them, by up to "
        f"{duration(int(ahead[most]))} ({_name(a, int(rows[most]))}): the clocks of host and device disagree"
    )
    level = "unavailable" if 2 * len(early) > len(rows) else "partial"
    yield Oddity("early", len(early), len(rows), level, ("causes", "latency"), text, True)


def _name(a: Attributed, op: int) -> str:
    """The op as a sentence names it."""
    return shorten(a.trace.ops["name"][op] or "an operation", WIDTH)


def _far(a: Attributed) -> Iterator[Oddity]:
    """Of each device, since each has a clock of its own.

    ops      |                              ||||||||||||||||      far: the first, unless it was launched or a range began
    middle                                    |----------|        in this half of the silence between
    """
    device, start, end = (a.trace.ops[name].to_numpy() for name in ("device", "start_ns", "end_ns"))
    begun = np.sort(np.r_[a.calls.start_ns, a.trace.ranges["start_ns"].to_numpy()])
    for span in a.spans:
        mine = np.flatnonzero((device == span.device) & (end >= span.start_ns) & (start <= span.end_ns))
        few = len(mine) // EDGE
        if few == 0 or span.device in a.host_devices:
            continue
        starts, ends = start[mine], np.maximum.accumulate(end[mine])
        silence = starts[1:] - ends[:-1]
        long = FAR * max(int(ends[-1 - few] - starts[few]), 1)
        first = int(np.flatnonzero(silence[:few] > long).max(initial=-1)) + 1
        if first and begun.searchsorted(ends[first - 1] + silence[first - 1] // 2) > 0:
            first = 0
        last = len(silence) - few + int(np.flatnonzero(silence[len(silence) - few :] > long).min(initial=few)) + 1
        if last < len(mine) and begun.searchsorted(starts[last] - silence[last - 1] // 2) < len(begun):
            last = len(mine)
        far = np.r_[mine[:first], mine[last:]]
        if len(far):
            most = max([*(silence[first - 1 : first] if first else ()), *silence[last - 1 : last]])
            text = (
                f"{len(far):,} of {len(mine):,} operations of device {span.device} ({_name(a, int(far[0]))}) "
                f"lie{'s' if len(far) == 1 else ''} {duration(int(most))} from all others, and nothing else was recorded near: "
                f"{'its' if len(far) == 1 else 'their'} times may be wrong. "
                f"`--window {int(starts[first])}ns:{int(ends[last - 1])}ns` leaves {'it' if len(far) == 1 else 'them'} out"
            )
            yield Oddity("far", len(far), len(mine), "partial", ("ledger", "causes", "overlap"), text, True)


def _instant(a: Attributed) -> Iterator[Oddity]:
    """Devices whose first operation begins when their last one ends: they have no window, whatever was asked for."""
    devices = (
        a.trace.ops.group_by("device")
        .agg(pl.len().alias("ops"), pl.col("start_ns").min(), pl.col("end_ns").max())
        .filter(pl.col("end_ns") <= pl.col("start_ns"))
        .sort("device")
    )
    if rows := int(devices["ops"].sum()):
        names = ", ".join(map(str, devices["device"].head(NAMED)))
        more = f" and {devices.height - NAMED:,} more" if devices.height > NAMED else ""
        whose = f"device{'s' if devices.height > 1 else ''} {names}{more}"
        text = (
            f"{rows:,} of {a.trace.ops.height:,} operations are left out: all of {whose} take no time, at one instant, so "
            "there is nothing to account for"
        )
        yield Oddity("instant", rows, a.trace.ops.height, "partial", ("ledger",), text, False)


def _held(a: Attributed, waits: Awaited | None) -> Iterator[Oddity]:
    device, start, end = (a.trace.ops[name].to_numpy() for name in ("device", "start_ns", "end_ns"))
    worst, rows, idle, looked_at = (0, -1), 0, 0, 0
    for span in a.spans:
        if span.device in a.host_devices:
            continue
        mine = np.flatnonzero((device == span.device) & (end > start))
        busy = cover(start[mine], end[mine])
        first = mine[place_right(start[mine], busy.start - 1)]
        call = a.launches.call[first]
        looked_at += len(first)
        known = np.flatnonzero(call >= 0)
        returned, ran_dry = a.calls.end_ns[call[known]], np.r_[np.iinfo(np.int64).min, busy.end[:-1]][known]
        begun = start[first[known]]
        late = np.flatnonzero(
            (returned > ran_dry) & (begun > returned) & (begun > span.start_ns) & (returned < span.end_ns)
        )
        ops, ready, begun = first[known[late]], returned[late], begun[late]
        if waits is not None:  # for another device
            called = a.calls.start_ns[call[known[late]]]
            ready = waits.until(a.trace.ops.select(STREAM)[ops], span.device, called, ready, begun)
        held = np.where(begun - ready > LATENCY_NS, begun - ready, 0)
        if held.any():
            rows, idle = rows + int((held > 0).sum()), idle + int(held.sum())
            worst = max(worst, (int(held.max()), int(ops[np.argmax(held)])))
    if rows == 0:
        return
    text = (
        f"{rows:,} operation{' begins' if rows == 1 else 's begin'} up to {duration(worst[0])} after the launch returned, on an "
        f"idle device ({_name(a, worst[1])}): something that was not recorded held the stream"
    )
    window = sum(span.end_ns - span.start_ns for span in a.spans)
    yield Oddity("held", rows, looked_at, "partial", ("causes", "latency"), text, idle > DOUBTFUL * window)


def _twice(a: Attributed) -> Iterator[Oddity]:
    calls = a.calls
    launches = np.flatnonzero(((calls.kind == LAUNCH) | (calls.kind == COPY)) & (calls.correlation > 0))
    if len(launches) == 0:
        return
    if _distinct(calls.pid[launches], calls.correlation[launches]):
        return
    key = calls.pid[launches].astype(np.int64) << 32 | calls.correlation[launches].astype(np.int64)
    name = a.trace.api["name"].to_physical().fill_null(0).to_numpy()[launches]
    order = np.lexsort((name, key))
    again = (key[order][1:] == key[order][:-1]) & (name[order][1:] == name[order][:-1])
    twice = int(again.sum())
    if twice <= TOLERATED * len(launches):
        return
    example = distinct_values(a.trace.api["name"])[int(name[order][1:][again][0])]
    text = (
        f"{twice:,} of {len(launches):,} launching calls share a correlation id with another call of their name "
        f"({shorten(example, WIDTH)}); each operation counts for the latest that began before it"
    )
    yield Oddity("twice", twice, len(launches), "partial", ("causes", "projection", "latency"), text, False)


def _distinct(pid: Ints, correlation: npt.NDArray[np.uint32]) -> bool:
    """Whether no two calls of one process share a correlation id. Ids lie close together: a table is quicker than sorting."""
    for process in np.unique(pid).tolist():
        mine = correlation if (pid == process).all() else correlation[pid == process]
        low, high = int(mine.min()), int(mine.max())
        if high - low > SPARSE * len(mine) + 1_000_000:
            if len(np.unique(mine)) < len(mine):
                return False
        elif np.bincount(mine - np.uint32(low)).max() > 1:
            return False
    return True


def _silent(a: Attributed, launch_rows: pl.DataFrame) -> Iterator[Oddity]:
    lost = silent_processes(launch_rows)
    if lost.is_empty() or a.trace.ops.is_empty():
        return
    named = ", ".join(f"{pid & 0xFFFFFF}" for pid in lost["pid"].head(4).to_list())
    launches = int(lost["launches"].sum())
    text = (
        f"process{'' if lost.height == 1 else 'es'} {named}{' and others' if lost.height > 4 else ''} launched {launches:,} "
        "times, and none of these operations was recorded; all figures are those of the other processes"
    )
    yield Oddity("silent", lost.height, launch_rows.height, "partial", ("processes",), text, False)


def silent_processes(launch_rows: pl.DataFrame) -> pl.DataFrame:
    """Those of table ``launch_rows`` that launched, and have no device row, while another one has some."""
    whole = launch_rows.filter(pl.col("missing") < pl.col("launches"))
    lost = launch_rows.filter((pl.col("launches") > 0) & (pl.col("missing") == pl.col("launches")))
    return lost if whole.height else lost.clear()


def _pending(launch_rows: pl.DataFrame) -> Iterator[Oddity]:
    pending, launches = int(launch_rows["pending"].sum()), int(launch_rows["launches"].sum())
    if pending <= TOLERATED * launches:
        return
    text = (
        f"the last {pending:,} of {launches:,} launches have no device row: the recording ended before they ran, or lost its "
        "end; synchronise before it stops"
    )
    level = "unavailable" if 2 * pending > launches else "partial"
    metrics = ("ledger", "causes", "projection", "overlap", "bandwidth", "bytes")
    yield Oddity("pending", pending, launches, level, metrics, text, False)


def _shared(a: Attributed) -> Iterator[Oddity]:
    shared = a.trace.meta.anomalies.get(UNMAPPED, 0)
    if not shared:
        return
    text = (
        f"{shared + 1} processes name the same device number, and the trace has no map of devices: with CUDA_VISIBLE_DEVICES "
        "they may be different GPUs, added up here as one"
    )
    yield Oddity("shared", shared, shared + 1, "partial", ("ledger", "causes", "overlap", "contention"), text, True)


def _skewed(skews: pl.DataFrame) -> Iterator[Oddity]:
    for device, other, ops, skew in skews.iter_rows():
        text = (
            f"devices {device} and {other} run the same {ops:,} collectives {duration(skew)} apart, every time: their clocks "
            "disagree, or they belong to different groups, so that they cannot be paired"
        )
        yield Oddity("skewed", ops, ops, "partial", ("comm",), text, False)
