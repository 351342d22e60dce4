"""Collectives paired over ranks: how much of a collective's time is waiting for the slowest rank.

    rank 0    |~~~~~~~~~~|=====|       ~ comm_wait: before the last rank began
    rank 1               |=====|       = comm: after it

Only AllReduce, AllGather and ReduceScatter are split: none of them can end on any rank before all ranks have begun. A Broadcast
can. A recording does not say which communicator a kernel belongs to, so ranks are found by what must hold for them: streams
(process, context, stream) on different devices of one host that ran the same kernels in the same order, and whose k-th kernels
all overlap in time. Two streams of one device with the same sequence cannot be told apart, and are left unpaired; so is a stream
with a partner that another partner contradicts. Clocks of different hosts differ by more than a collective lasts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from ..traces.model import KINDS, distinct_values
from .intervals import Ints
from .result import SCHEMAS
from .work import Rows, Work, groups, lanes_of

SPLIT: Final = re.compile(r"AllReduce|AllGather|ReduceScatter|all_reduce|all_gather|reduce_scatter")
"""Collectives that end nowhere before they have begun everywhere: as NCCL and RCCL name their kernels, and as torch calls
them, which is how stages name those of a CPU."""

_HOST_BITS: Final = 24
"""Position of the host's index in a model pid (``traces.model``)."""


def collective_table(work: Work) -> pl.DataFrame:
    """Table ``collectives``: communication ops in the window by device, stage and kernel, split where they could be paired."""
    comm = np.flatnonzero(work.kind == KINDS.index("comm"))
    if len(comm) == 0:
        return pl.DataFrame(schema=SCHEMAS["collectives"])
    last, ranks = last_starts(work, work.in_trace(comm))
    start, end = work.start[comm], work.end[comm]
    paired = ranks > 0
    wait = np.where(paired, np.clip(last, start, end) - start, 0)
    names = distinct_values(work.ops["name"])
    table = pl.DataFrame(
        {
            "device": work.device[comm],
            "path": work.path[comm],
            "code": work.ops["name"].to_physical().fill_null(0).to_numpy()[comm],
            "paired": paired,
            "ranks": ranks,
            "ns": end - start,
            "wait": wait,
        }
    )
    of_paired = pl.col("ns").filter(pl.col("paired")).sum()
    waiting = pl.col("wait").filter(pl.col("paired")).sum()
    found = table.group_by("device", "path", "code").agg(
        pl.len().cast(pl.Int64).alias("ops"),
        pl.col("ns").sum().alias("sum_ns"),
        pl.col("paired").sum().cast(pl.Int64),
        pl.col("ranks").max().cast(pl.Int32),
        waiting.alias("comm_wait_ns"),
        (of_paired - waiting).alias("comm_ns"),
    )
    return (
        found.with_columns(
            pl.Series("stage", [work.names[p] for p in found["path"]], dtype=pl.String),
            pl.Series("name", [names[c] for c in found["code"]], dtype=pl.String),
        )
        .select(*SCHEMAS["collectives"])
        .cast(pl.Schema(SCHEMAS["collectives"]))
        .sort("device", "stage", "name")
    )


def last_starts(work: Work, comm: Rows) -> tuple[Ints, Ints]:
    """For each of the ops `comm` of the trace: when the last rank of its collective began, and the number of ranks (0: not
    paired)."""
    ops = work.trace.ops
    every = np.flatnonzero(ops["kind"].to_physical().to_numpy() == KINDS.index("comm"))
    last, ranks = np.zeros(len(every), np.int64), np.zeros(len(every), np.int64)
    start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    for streams in _alike(ops):
        for members in _together(streams, start, end):
            began = np.max([start[s.rows] for s in members], axis=0)
            for s in members:
                at = np.searchsorted(every, s.rows)
                last[at], ranks[at] = began, len(members)
    at = np.searchsorted(every, comm)
    return last[at], ranks[at]


@dataclass(frozen=True, slots=True)
class _Stream:
    device: int
    rows: Rows  # its collectives that can be split, in order


def _alike(ops: pl.DataFrame) -> list[list[_Stream]]:
    """Streams of one host that ran the same sequence of kernels, each on a device of its own."""
    names = distinct_values(ops["name"])
    splits = np.array([bool(SPLIT.search(n)) for n in names] or [False], bool)
    code = ops["name"].to_physical().fill_null(0).to_numpy()
    comm = np.flatnonzero((ops["kind"].to_physical().to_numpy() == KINDS.index("comm")) & splits[code])
    lane, known = lanes_of(ops[comm])
    found: dict[tuple[int, bytes], list[_Stream]] = defaultdict(list)
    for number, at in groups(lane):
        device, pid = known[number][0], known[number][1] or 0
        found[pid >> _HOST_BITS, code[comm[at]].tobytes()].append(_Stream(device, comm[at]))
    out = []
    for streams in found.values():
        once = [s for s in streams if sum(t.device == s.device for t in streams) == 1]
        if len(once) > 1:
            out.append(once)
    return out


def _together(streams: list[_Stream], start: Ints, end: Ints) -> list[list[_Stream]]:
    """The groups of `streams` whose k-th kernels all overlap, for every k; a stream that fits two groups is in none."""

    def overlap(a: _Stream, b: _Stream) -> bool:
        return bool(((start[a.rows] <= end[b.rows]) & (start[b.rows] <= end[a.rows])).all())

    n = len(streams)
    fits = [{j for j in range(n) if j == i or overlap(streams[i], streams[j])} for i in range(n)]
    out = []
    for i in range(n):
        members = fits[i]
        if min(members) == i and len(members) > 1 and all(fits[j] == members for j in members):
            out.append([streams[j] for j in sorted(members)])
    return out
