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

from ...analyze.accounts.bound import Bound, bounds
from ...analyze.result import IDLE, Analysis
from ...expectations.deciding import Concern, Estimate, concerns, median_interval
from ...expectations.judging.energy import Drawn, drawn_by
from ...expectations.judging.evidence import Evidence
from ...expectations.judging.judge import order_concern
from ...expectations.judging.validity import objections, timer_objection
from ...expectations.metrics.registry import METRICS
from ..page.allocator import stall_ns
from ..page.sides import STAGE, Side, device_name
from ..page.speed import round_medians


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
    """The largest part of all iterations: its stage, its category and, of idle time, its cause, as a share of them."""

    stage: str
    category: str
    cause: str | None
    share: float


@dataclass(frozen=True, slots=True)
class Rate:
    """What copies in a direction reached in GB/s, all bytes over all durations, and as a share of the link's peak where that
    is known; `effective` where pageable memory was involved, so that the link is not what it tells of."""

    kind: str
    gb_per_s: float
    share: float | None
    effective: bool


@dataclass(frozen=True, slots=True)
class Spent:
    """Where the traced iterations of a variant went, all its devices summed: each share is the median over the iterations, as
    claims have it, and of the window where nothing marks iterations. What lies between two iterations (a reset) is in none.

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
    rates: tuple[Rate, ...]
    busiest: tuple[tuple[str, Bound], ...]
    doubts: tuple[tuple[str, str, str], ...]
    """(metric, level, reason) of all that is not fully trusted."""


@dataclass(frozen=True, slots=True)
class Row:
    """One variant. `time_ns` is the median of its rounds' medians, `tracing` how much longer an iteration took traced, `drawn`
    its energy and clock."""

    variant: str
    time_ns: float | None
    overall: Gain | None
    step: Gain | None
    tracing: float | None
    spent: Spent | None
    drawn: Drawn | None = None


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
                drawn=drawn_by(evidence, name),
            )
        )
    return out


def gain(evidence: Evidence, over: str, name: str) -> Gain | None:
    """`name` against `over` from the rounds that timed both, paired; null where no round did, or `over` is not a variant."""
    found = evidence.speedups(over, name)
    if found is None or over not in evidence.variants:
        return None
    ratios = found.mean
    against = objections(evidence, (over, name))
    timers = timer_objection(evidence, (over, name))
    return Gain(
        over=over,
        ratio=median_interval(ratios, evidence.looks),
        concerns=(*concerns(ratios), *order_concern(evidence.both(over, name), over, name)),
        objections=(*against, *([timers] if timers else [])),
        faster=sum(ratio > 1 for ratio in ratios),
    )


def spent(analysis: Analysis) -> Spent:
    """Where the iterations of `analysis` went."""
    side = Side("", analysis)
    inside = analysis.ledger.drop_nulls("iteration")
    ledger = analysis.ledger if inside.is_empty() else inside
    known = bool(ledger["ns"].sum()) and side.cannot_tell("ledger") is None
    causes = known and side.cannot_tell("causes") is None
    overlaps = side.cannot_tell("overlap") is None
    comm = bool(_pair(analysis, "comm")["a_ns"].sum())
    idle = _largest(ledger.filter(pl.col("category") == IDLE), ["cause"]) if causes else None
    level = analysis.trust.filter(pl.col("level") != "ok")
    return Spent(
        copies=bool(_pair(analysis, "copy")["a_ns"].sum()) if overlaps else None,
        hidden_copies=_read(analysis, "overlap.hidden", "copy|compute") if overlaps else None,
        exposed_copies=_read(analysis, "exposed.share", "copy") if overlaps else None,
        comm=comm if overlaps else None,
        hidden_comm=_read(analysis, "overlap.hidden", "comm|compute") if comm and overlaps else None,
        exposed_comm=_read(analysis, "exposed.share", "comm") if comm and overlaps else None,
        allocator=_read(analysis, "allocator.stall_share", None) if causes and stall_ns(side) is not None else None,
        idle=_read(analysis, "idle.share", "all") if known else None,
        idle_host=_read(analysis, "idle.share", "host") if causes else None,
        idle_cause=None if idle is None or not idle["ns"] else str(idle["cause"]),
        largest=_cell(ledger) if known else None,
        rates=_rates(analysis) if side.cannot_tell("bandwidth") is None else (),
        busiest=tuple((device_name(side, b.device), b) for b in bounds(analysis)),
        doubts=tuple(level.select("metric", "level", "reason").rows()),
    )


def _read(analysis: Analysis, metric: str, of: str | None) -> float | None:
    """What `check` measures: the median over iterations, else that of the window."""
    found = METRICS[metric].read(analysis, of, None)
    return median(found.per_iteration) if found.per_iteration else found.total


def _rates(analysis: Analysis) -> tuple[Rate, ...]:
    """To the device and back, over all sizes; peaks of several devices are taken for one if they are equal."""
    out = []
    for kind in ("h2d", "d2h"):
        rate = _read(analysis, "bandwidth.gb_per_s", kind)
        if rate is None:
            continue
        rows = analysis.bandwidth.filter(pl.col("kind") == kind)
        peaks = rows["peak_bytes_per_s"].unique()
        peak = peaks[0] if len(peaks) == 1 else None
        out.append(Rate(kind, rate, rate * 1e9 / peak if peak else None, bool(rows["effective"].any())))
    return tuple(out)


def _pair(analysis: Analysis, kind: str) -> pl.DataFrame:
    """What is known of `kind` beside compute, a row a device."""
    return analysis.overlap.filter(pl.col("stage").is_null(), pl.col("a") == kind, pl.col("b") == "compute")


def _cell(ledger: pl.DataFrame) -> Cell | None:
    found = _largest(ledger, ["stage", "category", "cause"])
    if found is None:
        return None
    cause = None if found["cause"] is None else str(found["cause"])
    share = int(str(found["ns"])) / int(ledger["ns"].sum())
    return Cell(str(found["stage"]), str(found["category"]), cause, share)


def _largest(ledger: pl.DataFrame, keys: Sequence[str]) -> dict[str, object] | None:
    """The group of cells with most time, its `keys` and ``ns``; ties by name, null without cells."""
    summed = ledger.with_columns(STAGE).group_by(keys).agg(pl.col("ns").sum())
    ordered = summed.sort("ns", *keys, descending=[True, *(False for _ in keys)], nulls_last=True)
    return ordered.row(0, named=True) if ordered.height else None
