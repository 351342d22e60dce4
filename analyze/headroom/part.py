"""A stretch of a long trace: some of its iterations, one after the other, as a trace of its own.

Iterations are alike, so that fifty of them predict what five hundred would, in a tenth of the time and memory.

    iterations      0 | 1 | 2 | 3 | 4 | 5 | 6
    taken                 [ 2 | 3 | 4 ]           calls that begin in here; operations that they launched
                        ^                         operations that still run: they begin and end as recorded
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import polars as pl

from ...traces.errors import InputError
from ..attribution.attribute import Attributed, attribute
from ..steady import Instance

MOST: Final = 400_000
"""Calls and operations up to which a trace is replayed whole; a graph takes 260 bytes of memory for each, and a microsecond."""

FEWEST: Final = 3
"""Iterations of a stretch."""


def stretch(a: Attributed, most: int) -> Attributed:
    """`a` itself, or of a trace of more than `most` calls and operations the iterations in its middle that have as many.

    Raises `InputError` for such a trace without iterations.
    """
    rows = len(a.calls) + len(a.ops)
    if rows <= most:
        return a
    steady = a.steady
    if steady is None:
        raise InputError(
            f"the trace has {rows:,} calls and operations and no iterations, and at most {most:,} are replayed; name its "
            "iterations with --iterations REGEX"
        )
    length = steady.steady[-1].end_ns - steady.steady[0].start_ns
    recorded = max(a.recorded[1] - a.recorded[0], 1)
    each = rows * length / recorded / len(steady.steady)
    many = min(max(int(most / each), FEWEST), len(steady.steady))
    first = (len(steady.steady) - many) // 2
    return _cut(a, steady.steady[first : first + many])


def _cut(a: Attributed, chosen: Sequence[Instance]) -> Attributed:
    assert a.steady is not None
    low, high = chosen[0].start_ns, chosen[-1].end_ns
    trace, ops = a.trace, a.trace.ops
    call = a.launches.call
    called = np.where(call >= 0, a.calls.start_ns[np.maximum(call, 0)], -1)
    start, end = (ops[name].to_numpy() for name in ("start_ns", "end_ns"))
    if a.steady.found_by == "kernels":  # in the device's time: its launches come before
        inside = (start >= low) & (start < high)
        known = inside & (called >= 0)
        low_call, high_call = (int(f(called[known])) for f in (np.min, np.max)) if known.any() else (low, high)
    else:
        inside = np.where(called >= 0, (called >= low) & (called < high), (start >= low) & (start < high))
        low_call, high_call = low, high
    running = (called < low_call) & (end > low_call) & (start < high)
    collective = (ops["kind"] == "comm").to_numpy()
    mine = np.where(collective, (end > low) & (end <= high), inside | running)
    within = pl.col("start_ns").is_between(low_call, high_call)
    cut = replace(
        trace,
        ops=ops.filter(pl.Series(mine)),
        api=trace.api.filter(within),
        syncs=trace.syncs.filter(within),
        ranges=trace.ranges.filter(within & (pl.col("end_ns") <= high_call)),
    )
    domains = cut.ranges["domain"].cast(pl.String).fill_null("").unique().to_list()
    part = attribute(cut, across=a.across, domain=a.found.domain if a.found.domain in domains else None)
    return replace(part, steady=replace(a.steady, instances=tuple(chosen), warm_up=0))
