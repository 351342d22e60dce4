"""Collectives paired over ranks: how much of a collective's time is waiting for the slowest rank.

    rank 0    |~~~~~~~~~~|=====|       ~ comm_wait: before the last rank began
    rank 1               |=====|       = comm: after it

Only AllReduce, AllGather and ReduceScatter are split: none of them can end on any rank before all ranks have begun. A Broadcast
can. A recording does not say which communicator a kernel belongs to, so ranks are found by what must hold for them: streams
(process, context, stream) on different devices of one host that ran the same kernels in the same order, and whose k-th kernels
all overlap in time. Two streams of one device with the same sequence cannot be told apart, and are left unpaired; so is a stream
with a partner that another partner contradicts. Clocks of different hosts differ by more than a collective lasts.

torch.profiler says more of each kernel (table ``comms``): what collective it is, whatever the kernel is called, and of which
group of how many ranks. Then collectives are paired group by group. Where fewer ranks are in the trace than the group has, they
are split by those that are, and ``absent`` counts them: the last rank to begin may be another.

Two communicators that run in step (tensor parallel groups side by side) pass this test as if they were one. What tells them
apart is how starts and ends vary from one collective to the next:

    one communicator        all end together, after the last start, whoever was late
    several                 each ends by itself, and a side that starts late ends late

Every way to cut the ranks in two where their ends lie apart is tried, and the cut made if the ends of both sides are
independent. Where starts vary too little to tell, ranks stay paired, but the pairing is `in_doubt` if it matters. Constant
differences say nothing: the clocks of two devices may differ by as much. Nor do the ends of threads, which the operating system
may let run late, so that ranks on a CPU are left together.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.model import KINDS, distinct_values
from ..attribution.lanes import lanes_of
from ..attribution.window_ops import Rows, WindowOps, groups
from ..intervals import Ints
from ..result import SCHEMAS

SPLIT: Final = re.compile(r"AllReduce|AllGather|ReduceScatter|all_reduce|all_gather|reduce_scatter")
"""Collectives that end nowhere before they have begun everywhere: as NCCL and RCCL name their kernels, and as torch calls
them, which is how stages name those of a CPU."""

_HOST_BITS: Final = 24
"""Position of the host's index in a model pid (``traces.model``)."""

TOGETHER: Final = 0.25
"""Ends are said to be those of one communicator where they vary by no more than this share of what the starts vary."""

OWN_STEPS: Final = 0.2
"""Ends of one communicator vary by the steps of its ring: by 0.3 to 8 % of the time after the last start, for 17 pairs of
ranks on two H200s. Only ends that vary by more than this can be those of several."""

NOISE_NS: Final = 5_000
"""And by more than this on average: kernels end and their ends are recorded some microseconds apart."""

IMMATERIAL: Final = 0.05
"""Starts of two sides that differ by no more than this share of that time: paired or apart, the waits are the same."""

MOST: Final = 1 << 14
"""Collectives, evenly spread, that are looked at to tell communicators apart."""

FEWEST: Final = 5
"""Collectives below which variation is not evidence."""


def collective_tables(
    ops: WindowOps, in_trace: pl.DataFrame, comms: pl.DataFrame, host_devices: Set[int]
) -> dict[str, pl.DataFrame]:
    """Table ``collectives``: communication ops in the window by device, stage and kernel, split where they could be paired; and
    table ``skews``: devices whose clocks may be why they could not.

    `in_trace` are all ops of the trace, `comms` what is known of them beside.
    """
    comm = np.flatnonzero(ops.kind == KINDS.index("comm"))
    if len(comm) == 0:
        return {name: pl.DataFrame(schema=SCHEMAS[name]) for name in ("collectives", "skews")}
    pairing = paired_ops(in_trace, ops.in_trace(comm), comms, host_devices)
    last, ranks = pairing.last, pairing.ranks
    start, end = ops.start[comm], ops.end[comm]
    paired = ranks > 0
    wait = np.where(paired, np.clip(last, start, end) - start, 0)
    names = distinct_values(ops.table["name"])
    table = pl.DataFrame(
        {
            "device": ops.device[comm],
            "path": ops.path[comm],
            "code": ops.table["name"].to_physical().fill_null(0).to_numpy()[comm],
            "paired": paired,
            "in_doubt": pairing.in_doubt,
            "ranks": ranks,
            "group_size": pairing.group_size,
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
        pl.col("in_doubt").sum().cast(pl.Int64),
        pl.col("ranks").max().cast(pl.Int32),
        pl.col("group_size").max().replace(0, None).cast(pl.Int32),
        (pl.col("paired") & (pl.col("group_size") > pl.col("ranks"))).sum().cast(pl.Int64).alias("absent"),
        waiting.alias("comm_wait_ns"),
        (of_paired - waiting).alias("comm_ns"),
    )
    named = (
        found.with_columns(
            pl.Series("stage", [ops.stages.path_names[p] for p in found["path"]], dtype=pl.String),
            pl.Series("name", [names[c] for c in found["code"]], dtype=pl.String),
        )
        .select(*SCHEMAS["collectives"])
        .cast(pl.Schema(SCHEMAS["collectives"]))
        .sort("device", "stage", "name")
    )
    return {"collectives": named, "skews": pl.DataFrame(pairing.skews, schema=SCHEMAS["skews"], orient="row")}


@dataclass(frozen=True, slots=True)
class Pairing:
    """Of each communication op: when the last rank of its collective began, the number of ranks (0: not paired), whether these
    may be the ranks of several communicators, and how many ranks its group has (0: unknown). `skews` are rows of that table."""

    last: Ints
    ranks: Ints
    in_doubt: npt.NDArray[np.bool_]
    group_size: Ints
    skews: list[tuple[int, int, int, int]]


def paired_ops(ops: pl.DataFrame, comm: Rows, comms: pl.DataFrame, host_devices: Set[int]) -> Pairing:
    """How the communication ops `comm` among all `ops` of a trace are paired; `comms` is that table of the trace."""
    every = np.flatnonzero(ops["kind"].to_physical().to_numpy() == KINDS.index("comm"))
    last, ranks = np.zeros(len(every), np.int64), np.zeros(len(every), np.int64)
    in_doubt = np.zeros(len(every), bool)
    start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    what = _what_is_said(ops[every], comms)
    skews: list[tuple[int, int, int, int]] = []
    for streams in _alike(ops[every], every, what):
        skews += _skews(streams, start, end)
        for members, doubtful in _paired(streams, start, end, host_devices):
            began = np.max([start[s.rows] for s in members], axis=0)
            for s in members:
                at = np.searchsorted(every, s.rows)
                last[at], ranks[at], in_doubt[at] = began, len(members), doubtful
    at = np.searchsorted(every, comm)
    return Pairing(last[at], ranks[at], in_doubt[at], what.group_size[at], skews)


def _paired(
    streams: list[_Stream], start: Ints, end: Ints, host_devices: Set[int]
) -> Iterator[tuple[list[_Stream], bool]]:
    """The communicators among `streams` that are alike, and whether each may really be several."""
    for fitting in _together(streams, start, end):
        sure = len(fitting) == fitting[0].group_size or not host_devices.isdisjoint(s.device for s in fitting)
        yield from [(fitting, False)] if sure else _communicators(fitting, start, end)


def whole_collectives(ops: pl.DataFrame, comms: pl.DataFrame, host_devices: Set[int]) -> list[npt.NDArray[np.int64]]:
    """Of each communicator all of whose ranks are in the trace for sure, the rows of its collectives in `ops`: [rank, k]."""
    every = np.flatnonzero(ops["kind"].to_physical().to_numpy() == KINDS.index("comm"))
    start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    found = []
    for streams in _alike(ops[every], every, _what_is_said(ops[every], comms)):
        for members, doubtful in _paired(streams, start, end, host_devices):
            if not doubtful and members[0].group_size in (0, len(members)):
                found.append(np.array([s.rows for s in members], np.int64))
    return found


def _skews(streams: list[_Stream], start: Ints, end: Ints) -> Iterator[tuple[int, int, int, int]]:
    """(device, other device, collectives, ns) of each stream beside the first that does not overlap with it, and would if its
    clock were put back by as much as its collectives end apart."""
    first = streams[0]
    for other in streams[1:] if len(first.rows) >= FEWEST else ():
        skew = int(np.median(end[other.rows] - end[first.rows]))
        if not _overlap(first, other, start, end) and _overlap(first, other, start, end, back=skew):
            yield first.device, other.device, len(first.rows), abs(skew)


@dataclass(frozen=True, slots=True)
class _Said:
    """Of each communication op: a number for what it does (its collective, else its kernel), whether that can be split, a number
    for its group (0: unknown), and how many ranks that has (0: unknown)."""

    what: Ints
    splits: npt.NDArray[np.bool_]
    group: Ints
    group_size: Ints


def _what_is_said(ops: pl.DataFrame, comms: pl.DataFrame) -> _Said:
    """What is known of the communication `ops` by their names, and by the table `comms` where they are in it."""
    key = ["device", "stream", "start_ns"]
    table = ops.select(*key, pl.col("name").cast(pl.String).fill_null("")).join(
        comms.with_columns(pl.col("collective", "process_group", "ranks").cast(pl.String)).unique(key),
        on=key,
        how="left",
        maintain_order="left",
    )
    group = pl.coalesce(pl.col("ranks"), pl.lit("group ") + pl.col("process_group"))
    table = table.select(
        pl.coalesce("collective", "name").alias("what"),
        pl.when(group.is_not_null())
        .then(pl.format("{} of {}", group, pl.col("group_size").fill_null(0)))
        .alias("group"),
        pl.col("group_size").fill_null(0),
    )
    words = table["what"].cast(pl.Enum(table["what"].unique(maintain_order=True)))
    known = table["group"].unique(maintain_order=True).drop_nulls()
    splits = np.array([bool(SPLIT.search(word)) for word in distinct_values(words)] or [False], bool)
    code = words.to_physical().to_numpy().astype(np.int64)
    return _Said(
        what=code,
        splits=splits[code],
        group=table["group"].cast(pl.Enum(known)).to_physical().cast(pl.Int64).fill_null(-1).to_numpy() + 1,
        group_size=table["group_size"].cast(pl.Int64).to_numpy(),
    )


@dataclass(frozen=True, slots=True)
class _Stream:
    device: int
    rows: Rows  # in the trace: its collectives of one group that can be split, in order
    group_size: int  # 0: unknown


def _alike(ops: pl.DataFrame, number: Rows, said: _Said) -> list[list[_Stream]]:
    """Streams of one host that ran the same sequence of collectives of one group, each on a device of its own. `ops` are the
    communication ops, `number` where they are in the trace."""
    comm = np.flatnonzero(said.splits)
    lanes = lanes_of(ops[comm])
    found: dict[tuple[int, int, bytes], list[_Stream]] = defaultdict(list)
    for lane, at in groups(lanes.of):
        device, pid = lanes.known[lane][0], lanes.known[lane][1] or 0
        for group, of in groups(said.group[comm[at]]):
            rows = comm[at][of]
            size = int(said.group_size[rows[0]])
            stream = _Stream(device, number[rows], size)
            found[pid >> _HOST_BITS, group, said.what[rows].tobytes()].append(stream)
    out = []
    for streams in found.values():
        once = [s for s in streams if sum(t.device == s.device for t in streams) == 1]
        if len(once) > 1:
            out.append(once)
    return out


def _overlap(a: _Stream, b: _Stream, start: Ints, end: Ints, back: int = 0) -> bool:
    """Whether the k-th kernels of both overlap, for every k, with the clock of `b` put `back` by so many ns."""
    return bool(((start[a.rows] <= end[b.rows] - back) & (start[b.rows] - back <= end[a.rows])).all())


def _together(streams: list[_Stream], start: Ints, end: Ints) -> list[list[_Stream]]:
    """The groups of `streams` whose k-th kernels all overlap, for every k; a stream that fits two groups is in none."""
    n = len(streams)
    fits = [{j for j in range(n) if j == i or _overlap(streams[i], streams[j], start, end)} for i in range(n)]
    out = []
    for i in range(n):
        members = fits[i]
        if min(members) == i and len(members) > 1 and all(fits[j] == members for j in members):
            out.append([streams[j] for j in sorted(members)])
    return out


def _communicators(streams: list[_Stream], start: Ints, end: Ints) -> list[tuple[list[_Stream], bool]]:
    """The communicators of `streams` that fit each other, and whether each may really be several; a rank that turns out to be
    alone is in none."""
    every = slice(None, None, -(-len(streams[0].rows) // MOST))
    started = np.array([start[s.rows[every]] for s in streams])
    ended = np.array([end[s.rows[every]] for s in streams])
    found: list[tuple[list[_Stream], bool]] = []
    left = [list(range(len(streams)))]
    while left:
        ranks = left.pop()
        if len(ranks) < 2:
            continue
        doubtful = False
        for side in _cuts(ended[ranks]):
            one, other = ([r for r, s in zip(ranks, side, strict=True) if s == half] for half in (True, False))
            apart = _apart(started[one], ended[one], started[other], ended[other])
            if apart is True:
                left += [one, other]
                break
            doubtful |= apart is None and min(len(one), len(other)) > 1  # one rank alone would not communicate
        else:
            found.append(([streams[r] for r in ranks], doubtful))
    return found


def _cuts(ended: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.bool_]]:
    """Ways to cut ranks in two where their ends, [rank, collective], lie apart: without each edge of a shortest tree through
    them. Farthest apart first; by what varies, then by all."""
    varying, all_of_it = np.zeros((2, len(ended), len(ended)))
    for i, row in enumerate(ended):
        difference = ended - row
        all_of_it[i] = np.abs(difference).sum(axis=1)
        varying[i] = np.abs(difference - np.median(difference, axis=1, keepdims=True)).sum(axis=1)
    for apart in (varying, all_of_it):
        inside, edges = [0], list[tuple[float, int, int]]()
        while len(inside) < len(ended):
            outside = [j for j in range(len(ended)) if j not in inside]
            edges.append(min((float(apart[i, j]), i, j) for i in inside for j in outside))
            inside.append(edges[-1][2])
        for _, _, cut in sorted(edges, reverse=True):
            side = np.arange(len(ended)) == cut
            for _, i, j in edges:  # from the root outwards, so that one pass reaches all that hangs on the cut edge
                side[j] |= side[i]
            yield side


def _apart(
    started: npt.NDArray[np.int64],
    ended: npt.NDArray[np.int64],
    other_started: npt.NDArray[np.int64],
    other_ended: npt.NDArray[np.int64],
) -> bool | None:
    """Whether two sides, [rank, collective] each, are not one communicator; null where that is unknown and matters."""
    last, late = _last(started, ended), _last(other_started, other_ended)
    starts = last[0] - late[0]
    ends = last[1] - late[1]
    began = np.maximum(started.max(axis=0), other_started.max(axis=0))
    own = float((np.minimum(ended.min(axis=0), other_ended.min(axis=0)) - began).sum())
    starts_vary = float(np.abs(starts - np.median(starts)).sum())
    ends_vary = float(np.abs(ends - np.median(ends)).sum())
    if len(starts) >= FEWEST and ends_vary < TOGETHER * starts_vary:
        return False
    if len(starts) >= FEWEST and ends_vary > max(OWN_STEPS * own, NOISE_NS * len(starts)):
        return True
    return False if np.abs(starts).sum() <= IMMATERIAL * own else None


def _last(started: npt.NDArray[np.int64], ended: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], ...]:
    """(last start, mean end) of each collective of one communicator, by the clock of its first rank: if the ranks do belong
    together, a constant difference of their ends is one of their clocks."""
    ahead = np.median(ended - ended[0], axis=1, keepdims=True)
    return (started - ahead).max(axis=0), (ended - ahead).mean(axis=0)
