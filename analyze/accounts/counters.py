"""Hardware counters by stage: memory traffic, tensor and SM activity, SM clock, from samples of whole percents.

A sample says the mean over its interval: from its timestamp to the next sample of that metric, one usual period where the next
is far away (sampling paused) or missing. Cut to the window, it is handed to the stages that were busy in it, in proportion to
their busy time; a sample in which nothing was busy is idle. What a stage got and what idle got add up to the whole.

    samples     |  20 %  |  60 %  |   0 %  |
    stage a       |--|                              20 % x its length
    stage b            |--------|                   none of the first if a and b were busy alike: half of it
                                                    60 % x its length
    idle                             |------|       0 % x its length

The split of a sample between stages that were busy in it is an assumption (trust says where it matters), so beside a stage's
share stands its mean: what the samples said while it was busy, whoever else was.

Bytes = share x the device's memory bandwidth. A percent is rounded to an integer, so that below a mean of 3 the
rounding alone may be a sixth of the figure or more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.model import distinct_values
from ..attribution.steps import pieces
from ..attribution.window import Span
from ..attribution.window_ops import WindowOps, groups
from ..intervals import Ints, cover
from ..result import IDLE, SCHEMAS

METRICS: Final = {
    "hbm_read": r"DRAM Read (Bandwidth|Throughput)\b.*%",
    "hbm_write": r"DRAM Write (Bandwidth|Throughput)\b.*%",
    "tensor": r"(SM )?Tensor (Core |Pipe )?Active\b.*%",
    "sm_active": r"SMs? Active\b.*%",
    "sm_clock": r"GPC Clock Frequency\b",
}
"""Our names, and what nsys calls the counters (their names change a little between GPUs and versions)."""

CLOCK: Final = "sm_clock"
"""The one that is sampled in Hz, and made a percentage of the device's clock at full speed."""

WEAK_PERCENT: Final = 3.0
"""Below this mean a figure is `partial`."""

COVERED_SHARE: Final = 0.99
"""Below this share of the window under samples, a figure of the whole is `partial`."""

CONTESTED_SHARE: Final = 0.1
"""Where other stages had more than this part in the busy time of a stage's samples, its figure is `partial`: the split is a
guess."""

_PAUSE: Final = 2
"""A sample longer than this many usual periods did not last so long: sampling paused."""

Floats = npt.NDArray[np.float64]


MOST_PERCENT: Final = 100
"""A sample beyond this is none: these counters are shares of a peak, in whole percents."""


def counter_table(ops: WindowOps, table: pl.DataFrame, devices: pl.DataFrame) -> pl.DataFrame:
    """Table ``counters``: one row per device, metric and stage (null: the whole window; ``idle``: nothing was busy).

    `table` are the samples (``gpu_metrics``), `devices` the trace's table of devices.
    """
    rows_out: list[tuple[object, ...]] = []
    known = distinct_values(table["metric"]) if len(table) else []
    speed, clock = (dict(devices.select("device", name).iter_rows()) for name in ("memory_bytes_per_s", "sm_clock_hz"))
    for metric, pattern in METRICS.items():
        source = next((name for name in sorted(known) if re.match(pattern, name)), None)
        if source is None:
            continue
        samples = table.filter(pl.col("metric") == source)
        samples = _of_clock(samples, clock) if metric == CLOCK else samples
        samples = samples.filter(pl.col("value").is_between(0, MOST_PERCENT))
        for span in ops.spans:
            mine = samples.filter(pl.col("device") == span.device).drop_nulls("value").sort("time_ns")
            grid = _clipped(mine["time_ns"].to_numpy(), mine["value"].to_numpy(), span)
            if len(grid.start):
                rows_out += _rows(span, metric, grid, _busy(ops, span), ops.stages.path_names, speed.get(span.device))
    return pl.DataFrame(rows_out, schema=SCHEMAS["counters"], orient="row")


def _of_clock(samples: pl.DataFrame, clock: Mapping[int, int | None]) -> pl.DataFrame:
    """Clocks in whole percents of the device's own; none of a device whose clock is not known, none beyond 100 (boost)."""
    known = {device: hz for device, hz in clock.items() if hz}
    full = pl.col("device").replace_strict(known, default=None, return_dtype=pl.Int64)
    percent = (pl.col("value") / full * 100).round().cast(pl.Int64).clip(upper_bound=MOST_PERCENT)
    return samples.with_columns(percent.alias("value"))


@dataclass(frozen=True, slots=True)
class _Samples:
    """Disjoint sample intervals in order of time, cut to a window, with their values in percent."""

    start: Ints
    end: Ints
    value: Ints


@dataclass(frozen=True, slots=True)
class _Busy:
    """Busy intervals of the stages (unions of each stage's own ops), in order of stage, then time."""

    path: Ints
    start: Ints
    end: Ints


def _clipped(time: Ints, value: Ints, span: Span) -> _Samples:
    if len(time) == 0:
        return _Samples(time, time, value)
    step = np.diff(time)
    usual = int(np.median(step)) if len(step) else 0
    length = np.r_[np.where(step > _PAUSE * usual, usual, step), usual]
    start, end = np.clip(time, span.start_ns, span.end_ns), np.clip(time + length, span.start_ns, span.end_ns)
    keep = end > start
    return _Samples(start[keep], end[keep], value[keep])


def _busy(ops: WindowOps, span: Span) -> _Busy:
    rows = np.flatnonzero(ops.device == span.device)
    parts = []
    for code, at in groups(ops.path[rows]):
        union = cover(ops.start[rows[at]], ops.end[rows[at]])
        parts.append((np.full(len(union.start), code, np.int64), union.start, union.end))
    if not parts:
        empty = np.empty(0, np.int64)
        return _Busy(empty, empty, empty)
    path, start, end = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Busy(path, start, end)


@dataclass(frozen=True, slots=True)
class _Shares:
    """What each busy interval got of the samples: its share and its plain reading (both percent x ns), the time of it that was
    sampled, and the share weighted by the part that others had in the busy time of its samples."""

    got: Floats
    read: Floats
    sampled: Floats
    contested: Floats
    unused: Ints  # samples in which nothing was busy


def _shares(samples: _Samples, busy: _Busy) -> _Shares:
    n, m = len(samples.start), len(busy.start)
    edges = np.unique(np.concatenate([samples.start, samples.end]))
    row, start, end = pieces(busy.start, busy.end, edges)
    at = np.searchsorted(samples.start, start, side="right") - 1
    in_sample = (at >= 0) & (end <= samples.end[np.maximum(at, 0)])
    row, at, length = row[in_sample], at[in_sample], (end - start)[in_sample]
    occupied = np.bincount(at, weights=length, minlength=n)
    value = samples.value[at]
    got = value * (samples.end - samples.start)[at] * (length / occupied[at])
    stage = busy.path[row] - busy.path.min(initial=0)
    _, pair = np.unique(at.astype(np.int64) << 32 | stage, return_inverse=True)
    others = 1 - np.bincount(pair, weights=length)[pair] / occupied[at]
    return _Shares(
        got=_sums(row, got, m),
        read=_sums(row, value * length, m),
        sampled=_sums(row, length, m),
        contested=_sums(row, got * others, m),
        unused=np.flatnonzero(occupied == 0).astype(np.int64),
    )


def _sums(row: npt.NDArray[np.integer], weights: npt.NDArray[np.floating | np.integer], n: int) -> Floats:
    return np.asarray(np.bincount(row, weights=weights, minlength=n), np.float64)


def _rows(
    span: Span, metric: str, samples: _Samples, busy: _Busy, names: Mapping[int, str], bytes_per_s: int | None
) -> Iterator[tuple[object, ...]]:
    length = samples.end - samples.start
    traffic = metric.startswith("hbm")

    def row(stage: str | None, got: float, read: float, ns: int, *, doubt: bool) -> tuple[object, ...]:
        mean = read / ns if ns else None
        nbytes = round(got / 100 * bytes_per_s / 1e9) if traffic and bytes_per_s else None
        weak = doubt or mean is None or mean < WEAK_PERCENT
        return (span.device, stage, metric, ns, got, mean, nbytes, "partial" if weak else "ok")

    whole, covered = float((samples.value * length).sum()), int(length.sum())
    yield row(None, whole, whole, covered, doubt=covered < COVERED_SHARE * (span.end_ns - span.start_ns))
    found = _shares(samples, busy)
    for code, at in sorted(groups(busy.path), key=lambda item: names[item[0]]):
        got = float(found.got[at].sum())
        contested = float(found.contested[at].sum()) > CONTESTED_SHARE * got
        yield row(names[code], got, float(found.read[at].sum()), int(found.sampled[at].sum()), doubt=contested)
    rest = float((samples.value[found.unused] * length[found.unused]).sum())
    yield row(f"({IDLE})", rest, rest, int(length[found.unused].sum()), doubt=False)


def counter_trust(counters: pl.DataFrame) -> tuple[str, str, str] | None:
    """The row of table ``trust`` for metric ``hbm``; null where the trace has no such samples."""
    whole = counters.filter(pl.col("stage").is_null() & pl.col("metric").str.starts_with("hbm"))
    if whole.is_empty():
        return None
    weak = whole.filter(pl.col("trust") != "ok")
    if whole["nbytes"].null_count():
        return "hbm", "partial", "the memory bandwidth of the device is unknown, so percents have no bytes"
    if weak.is_empty():
        return "hbm", "ok", ""
    text = f"memory traffic below {WEAK_PERCENT:.0f} % is mostly rounding, or samples cover only part of the window"
    return "hbm", "partial", text
