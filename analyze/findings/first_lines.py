"""What the first lines of an analysis say: how long the iterations are, what is not counted, and where the time went."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import polars as pl

from ..attribution.window import STEADY
from ..result import IDLE, Analysis
from ..steady import LONG, Instance, Steady, in_bunches
from ..words import LOADER, duration, percent, shorten
from .slow import More, gap_of, more_of

WIDTH: Final = 40
"""Columns for a range's name in these sentences."""

SHOWN_LONG: Final = 6
"""Iterations that wait long for data and are named."""

LATE: Final = 2
"""A device for which others wait so many times as long as it waits for them is named."""

OUTLIERS: Final = 3
"""Slow iterations that are named."""

DEVICES: Final = 8
PARTS: Final = 3
LEAST_PART: Final = 0.01
"""What the sentence on devices names: so many devices, or kinds of work and causes from this share of the window on."""

WORTH_SAYING: Final = 0.1
"""Share of the window between iterations from which on it is said: less is how loops are."""


def steady_sentences(analysis: Analysis) -> Iterator[str]:
    """The sentences on the iterations of `analysis`, none where its window is the person's own choice, or the variant's."""
    steady, window = analysis.steady, analysis.choices.window
    if window == STEADY and steady is not None:
        yield f"steady: {_figures(steady)}{_left_out(steady)}"
        if not steady.behind_ns:
            yield from _slow(analysis, steady)
        yield from _behind(steady)
        yield from _beside(steady)
    elif window is None and analysis.variant is None and steady is not None:
        counted = "; the whole recording is counted, `--window steady` takes them alone" if steady.ops else ""
        yield f"found: {_figures(steady)}{counted}"
    elif window is None and analysis.variant is None and not analysis.windows.is_empty():
        yield (
            "no iterations were found, so the whole recording is counted; --iterations REGEX names the ranges that are, or the "
            "kernel each begins with"
        )


def where_sentences(analysis: Analysis) -> Iterator[str]:
    """Where the window went: of a device what it did and why it idled, of several how busy each was; without any, which stages
    took the host's time."""
    rows = [(device, end - start) for device, start, end in analysis.windows.rows() if end > start]
    types = dict(analysis.devices.select("device", "type").rows())
    names = {device: f"host device {device}" if types.get(device) == "host" else f"GPU {device}" for device, _ in rows}
    if not rows:
        yield from _longest_stages(analysis)
    elif len(rows) == 1:
        device, length = rows[0]
        busy, idle = _parts(analysis, device)
        if analysis.host_only:
            yield f"host, no device was recorded: {_listed('at work', busy, length)}; {_listed('otherwise', idle, length)}"
            return
        yield f"{names[device]}: {_listed('busy', busy, length)}; {_listed('idle', idle, length)}"
    else:
        told = [
            f"{names[device]} {percent(sum(ns for _, ns in _parts(analysis, device)[0]) / length)}"
            for device, length in rows[:DEVICES]
        ]
        more = f" and {len(rows) - DEVICES:,} more" if len(rows) > DEVICES else ""
        yield f"busy: {', '.join(told)}{more}"


def _parts(analysis: Analysis, device: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(kinds of work, idle causes) of a device with their times, the largest first."""
    cells = analysis.ledger.filter(pl.col("device") == device).group_by("category", "cause").agg(pl.col("ns").sum())
    parts = cells.sort("ns", "category", "cause", descending=[True, False, False]).rows()
    busy = [(category, ns) for category, _, ns in parts if category != IDLE]
    return busy, [(cause, ns) for category, cause, ns in parts if category == IDLE]


def _listed(word: str, parts: Sequence[tuple[str, int]], length: int) -> str:
    """``busy 54.1 % (compute 40.0 %, h2d 14.1 %)``: of the parts that matter the largest."""
    whole = sum(ns for _, ns in parts)
    told = [f"{name} {percent(ns / length)}" for name, ns in parts[:PARTS] if ns >= LEAST_PART * length]
    named = f" ({', '.join(told)})" if told else ""
    return f"{word} {percent(whole / length)}{named}"


def _longest_stages(analysis: Analysis) -> Iterator[str]:
    """The stages that took longest by themselves, without those nested in them, on all threads together."""
    each = analysis.stages.group_by("path").agg(pl.col("host_ns", "instances").sum())
    within = pl.col("path").str.extract(r"^(.*)/").alias("path")
    nested = each.select(within, "host_ns").group_by("path").agg(pl.col("host_ns").sum().alias("nested_ns"))
    own = pl.col("host_ns") - pl.col("nested_ns").fill_null(0)
    rows = each.join(nested, on="path", how="left").with_columns(own.alias("ns")).filter(pl.col("ns") > 0)
    rows = rows.sort("ns", "path", descending=[True, False]).head(PARTS)
    told = [
        f"`{shorten(path, WIDTH)}` {duration(ns)} in {n:,}"
        for path, ns, n in rows.select("path", "ns", "instances").rows()
    ]
    if told:
        yield f"stages that took the host's time: {', '.join(told)}"


def _figures(steady: Steady) -> str:
    many = len(steady.steady)
    slowest = f"slowest {duration(steady.slowest.ns)}: {_name(steady.slowest)}"
    called = f"`{shorten(steady.path, WIDTH)}`"
    if steady.every is not None:
        called = f"found by kernel pattern (every {steady.every:,} operations, starting with {called})"
    if many == 1:
        return f"1 iteration {called}, {duration(steady.slowest.ns)}"
    if steady.behind_ns:
        return f"{many:,} iterations {called}, {duration(steady.each_ns)} each on average"
    each = f"{duration(steady.median_ns)} each"
    if steady.by_mean:
        each = f"{duration(steady.mean_ns)} on average, {duration(steady.median_ns)} at the median"
    return f"{many:,} iterations {called}, {each} (p90 {duration(steady.p90_ns)}, {slowest})"


def _left_out(steady: Steady) -> str:
    """The clause on what `--window all` counts besides."""
    parts = [f"start-up {duration(steady.start_up_ns)}"] if steady.start_up_ns else []
    if aside := steady.set_aside:
        first, last = _name(aside[0]), _name(aside[-1])
        names = first if len(aside) == 1 else f"{first} to {last}"
        parts.append(f"{names}, {duration(steady.steady[0].start_ns - aside[0].start_ns)},")
    parts += [f"{duration(steady.after_ns)} at the end"] if steady.after_ns else []
    if not parts:
        return ""
    listed = parts[0] if len(parts) == 1 else f"{', '.join(p.rstrip(',') for p in parts[:-1])} and {parts[-1]}"
    return f"; {listed} {'is' if len(parts) == 1 else 'are'} not counted; `--window all` counts {_them(parts)}"


def _them(parts: list[str]) -> str:
    return "it" if len(parts) == 1 else "them"


def _slow(analysis: Analysis, steady: Steady) -> Iterator[str]:
    """The outliers, each with what it has most more of than the others have on average; where collectives were matched across
    devices, also the command that says which rank was late."""
    slow = steady.outliers
    if slow and (bunches := _bunches(analysis, steady)):
        yield bunches
    elif slow:
        told = [f"{_name(one)} {duration(one.ns)}{_because(analysis, steady, one)}" for one in slow[:OUTLIERS]]
        more = f"; and {len(slow) - OUTLIERS} more" if len(slow) > OUTLIERS else ""
        yield f"slow: {'; '.join(told)}{more}{_late(analysis)}"


def _late(analysis: Analysis) -> str:
    """Of devices whose collectives were matched: the one that waits least for the others, and the command that says why."""
    paired = analysis.collectives.filter(pl.col("paired") > 0)
    each = paired.group_by("device").agg(pl.col("comm_wait_ns").sum()).sort("comm_wait_ns", "device").rows()
    if len(each) < 2:
        return ""
    (last, least), *_, (_, most) = each
    look = shlex.join(["aisp-trace", "ranks", analysis.meta.file])
    return f"; late: GPU {last}, `{look}`" if most and most >= LATE * least else f"; late rank: `{look}`"


def _bunches(analysis: Analysis, steady: Steady) -> str:
    """The sentence on long iterations that are too many to be outliers; empty where they are few."""
    lengths = [one.ns for one in steady.steady]
    most = _most(analysis, steady, steady.outliers[0])
    if most is None or not in_bunches(lengths):
        return ""
    long = [i for i, one in enumerate(lengths) if one >= LONG * steady.median_ns]
    if not re.search(LOADER, most.stage):
        return (
            f"{len(long)} of {len(lengths):,} iterations take {LONG:g} times the median or longer, too many to be outliers, so "
            f"go by the average; the slowest, {_name(steady.outliers[0])}, has {most.said()} than the others"
        )
    said = f"{len(long)} of {len(lengths):,} iterations wait long in {shorten(most.stage, WIDTH)}, the others hardly"
    apart = [later - earlier for earlier, later in pairwise(long)]
    if max(apart) - min(apart) > 1:
        which = ", ".join(_name(steady.steady[i]) for i in long[:SHOWN_LONG]) + (
            ", ..." if len(long) > SHOWN_LONG else ""
        )
        return f"{said}: {which}; go by the average"
    return f"{said}: batches come in bunches, as from workers that finish together, so go by the average"


def _because(analysis: Analysis, steady: Steady, one: Instance) -> str:
    most = _most(analysis, steady, one)
    return "" if most is None else f", {most.said()} than the others"


def _most(analysis: Analysis, steady: Steady, one: Instance) -> More | None:
    found = (more_of(analysis.ledger, steady.instances.index(one)), gap_of(analysis.gaps, steady.steady, one))
    return max((more for more in found if more is not None), key=lambda more: more.more_ns, default=None)


def _behind(steady: Steady) -> Iterator[str]:
    if steady.behind_ns:
        yield (
            f"the host runs ahead of the device: the window ends {duration(steady.behind_ns)} after the last iteration, when the "
            "device has done as much work as they launched"
        )


def _beside(steady: Steady) -> Iterator[str]:
    length = steady.steady[-1].end_ns - steady.steady[0].start_ns
    if length and steady.between_ns > WORTH_SAYING * length:
        doubt = ": these are probably not the program's iterations" if 2 * steady.between_ns > length else ""
        between = f"{percent(steady.between_ns / length)} of the window lies between iterations"
        yield f"{between} ({duration(steady.between_ns)}){doubt}"
    if steady.others:
        names = ", ".join(f"`{shorten(one.path, WIDTH)}` ({one.instances:,})" for one in steady.others[:3])
        yield f"other ranges that could be the iterations: {names}; --iterations REGEX takes one"


def _name(one: Instance) -> str:
    return shorten(one.name, WIDTH)
