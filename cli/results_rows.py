"""A recorded variant in figures: what one row of the page of results says, before it is made text.

    rounds    ->  time, gain over the baseline, gain over the variant it changes
    analysis  ->  copies and communication hidden and exposed, allocator stall, idle time by who was waited for, what bounds it

Pure functions of a judged run. Null is what the run cannot tell (no trace, too few rounds, an untrusted metric), never zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import polars as pl

from ..analyze.bound import Bound, bounds
from ..analyze.launch_stats import DEVICE_CAUSES
from ..analyze.result import IDLE, Analysis
from ..expectations.evidence import Evidence
from ..expectations.judge import order_concern
from ..expectations.speedup import Concern, Estimate, concerns, median_interval, paired_ratios
from ..expectations.validity import objections, timer_objection
from ..report.allocator import stall_ns
from ..report.copies import copy_time, exposed_copy_ns, hidden_share
from ..report.sides import STAGE, Side, device_name
from ..report.speed import round_medians


@dataclass(frozen=True, slots=True)
class Gain:
    """How many times faster a variant is than variant `over`, what speaks against the rounds, and against comparing at all.

    `faster` counts the rounds in which it was.
    """

    over: str
    ratio: Estimate
    concerns: tuple[Concern, ...]
    objections: tuple[str, ...]
    faster: int


@dataclass(frozen=True, slots=True)
class Cell:
    """The largest part of a window: its stage, its category and, of idle time, its cause, as a share of the window."""

    stage: str
    category: str
    cause: str | None
    share: float


@dataclass(frozen=True, slots=True)
class Spent:
    """Where the traced window of a variant went, all its devices summed; shares are of that window.

    `hidden_copies` are the part of all copy time under kernels, `hidden_comm` of all communication under compute.
    `copies` and `comm` say whether there were any: if not, there was nothing to hide. `busiest` has an entry a device, with
    its name.
    """

    copies: bool | None
    hidden_copies: float | None
    exposed_copies: float | None
    comm: bool | None
    hidden_comm: float | None
    exposed_comm: float | None
    allocator: float | None
    idle: float | None
    idle_host: float | None
    idle_cause: str | None
    largest: Cell | None
    busiest: tuple[tuple[str, Bound], ...]
    doubts: tuple[tuple[str, str, str], ...]
    """(metric, level, reason) of all that is not fully trusted."""


@dataclass(frozen=True, slots=True)
class Row:
    """One variant. `time_ns` is the median of its rounds' medians, `tracing` how much longer an iteration took traced."""

    variant: str
    time_ns: float | None
    overall: Gain | None
    step: Gain | None
    tracing: float | None
    spent: Spent | None


def rows_of(evidence: Evidence, changes: Mapping[str, str]) -> list[Row]:
    """A row for each variant of the run, in order; `changes` maps alternatives to the variant they are one change to.

    Every other variant is one change to the one before it, and the first is the baseline of all.
    """
    names = list(evidence.variants)
    medians = round_medians(evidence.rounds, names)
    ladder = [name for name in names if name not in changes]
    before = {**dict(zip(ladder[1:], ladder[:-1], strict=True)), **changes}
    out = []
    for name, variant in evidence.variants.items():
        timed = [ns for r in evidence.rounds for ns in r.times_ns.get(name, ())]
        slower = median(variant.traced_ns) / median(timed) if variant.traced_ns and timed else None
        first = names[0] != name
        out.append(
            Row(
                variant=name,
                time_ns=median(medians[name]) if name in medians else None,
                overall=gain(evidence, names[0], name) if first else None,
                step=gain(evidence, before[name], name) if name in before else None,
                tracing=slower,
                spent=None if variant.analysis is None else spent(variant.analysis),
            )
        )
    return out


def gain(evidence: Evidence, over: str, name: str) -> Gain | None:
    """`name` against `over` from the rounds that timed both, paired; null where no round did, or `over` is no variant."""
    both = [r for r in evidence.rounds if over in r.times_ns and name in r.times_ns]
    if not both or over not in evidence.variants:
        return None
    ratios = paired_ratios([r.times_ns[over] for r in both], [r.times_ns[name] for r in both])
    against = objections(evidence, (over, name))
    timers = timer_objection(evidence, (over, name))
    return Gain(
        over=over,
        ratio=median_interval(ratios),
        concerns=(*concerns(ratios), *order_concern(both, over, name)),
        objections=(*against, *([timers] if timers else [])),
        faster=sum(ratio > 1 for ratio in ratios),
    )


def spent(analysis: Analysis) -> Spent:
    """Where the window of `analysis` went."""
    side = Side("", analysis)
    window = int(analysis.ledger["ns"].sum())
    known = bool(window) and side.cannot_tell("ledger") is None
    overlaps = side.cannot_tell("overlap") is None
    comm_ns, comm_hidden = _communication(analysis)
    idle = analysis.ledger.filter(pl.col("category") == IDLE)
    causes = _largest(idle, ["cause"]) if side.cannot_tell("causes") is None else None
    own = int(idle.filter(pl.col("cause").is_in(DEVICE_CAUSES))["ns"].sum())
    stall = stall_ns(side)
    level = analysis.trust.filter(pl.col("level") != "ok")
    return Spent(
        copies=any(stage is None for _, stage in copy_time(side)) if overlaps else None,
        hidden_copies=hidden_share(side),
        exposed_copies=_share(exposed_copy_ns(side), window),
        comm=bool(comm_ns) if overlaps else None,
        hidden_comm=comm_hidden / comm_ns if comm_ns and overlaps else None,
        exposed_comm=_share(_exposed_comm(analysis), window) if comm_ns and overlaps else None,
        allocator=_share(stall, window) if known else None,
        idle=int(idle["ns"].sum()) / window if known else None,
        idle_host=(int(idle["ns"].sum()) - own) / window if known and side.cannot_tell("causes") is None else None,
        idle_cause=None if causes is None or not causes["ns"] else str(causes["cause"]),
        largest=_cell(analysis, window) if known else None,
        busiest=tuple((device_name(side, b.device), b) for b in bounds(analysis)),
        doubts=tuple(level.select("metric", "level", "reason").rows()),
    )


def _communication(analysis: Analysis) -> tuple[int, int]:
    """Time of all communication, and the part of it under compute."""
    rows = analysis.overlap.filter(pl.col("stage").is_null(), pl.col("a") == "comm", pl.col("b") == "compute")
    return int(rows["a_ns"].sum()), int(rows["both_ns"].sum())


def _exposed_comm(analysis: Analysis) -> int:
    return int(analysis.exposed.filter(pl.col("stage").is_null(), pl.col("kind") == "comm")["ns"].sum())


def _cell(analysis: Analysis, window: int) -> Cell | None:
    found = _largest(analysis.ledger, ["stage", "category", "cause"])
    if found is None:
        return None
    cause = None if found["cause"] is None else str(found["cause"])
    return Cell(str(found["stage"]), str(found["category"]), cause, int(str(found["ns"])) / window)


def _largest(ledger: pl.DataFrame, keys: Sequence[str]) -> dict[str, object] | None:
    """The group of cells with most time, its `keys` and ``ns``; ties by name, null without cells."""
    summed = ledger.with_columns(STAGE).group_by(keys).agg(pl.col("ns").sum())
    ordered = summed.sort("ns", *keys, descending=[True, *(False for _ in keys)], nulls_last=True)
    return ordered.row(0, named=True) if ordered.height else None


def _share(ns: int | None, window: int) -> float | None:
    return None if ns is None or not window else ns / window
