"""Claims against evidence: one verdict for each judged part of each claim. Pure; reads no file and prints nothing.

The order of questions is the order of doubt. Was this ever written down for this machine and size (`unrecorded`)? Did
the variants do the same, right work, and does the trace agree (`invalid`)? Is the part of the trace that the claim rests
on trusted (`invalid`)? Is there enough of it, and does it describe one thing (`inconclusive`)? Only then is the
interval held against the bound; and what is met goes through `admissible`, which asks whether the run is one run.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

import polars as pl

from ...analyze.result import Analysis
from ..deciding import MIN_ROUNDS, Concern, Estimate, concerns, median_interval, paired_ratios
from ..metrics.registry import METRICS, Metric, Reading
from ..model import ANY, Bound, Claim, ExpectationFile, MechanismClaim, TimeClaim
from .admissible import admit, examine
from .evidence import Evidence, RoundTimes
from .validity import objections, timer_objection
from .verdict import Verdict

MIN_ITERATIONS: Final = 10
"""Fewest iterations that a fraction of a trace is judged on; counts are exact and need none."""

SLOWDOWN_LIMIT: Final = 1.2
"""Shares of time are refused where the traced iterations took longer than the untraced by more than this factor: at
that point the recorder's own cost may be as large as the shares it shows."""

ORDER_SHARE: Final = 0.25
"""Each variant must have run first in at least this part of the rounds, or drift within a round does not cancel."""


def judge(files: Sequence[ExpectationFile], evidence: Evidence) -> tuple[Verdict, ...]:
    """Verdicts in the order of the claims, those of other machines last; empty if no claim is about this workload.

    A claim of another machine is `unrecorded` here, once, unless this machine has a claim of the same id.
    """
    mine = [(f.hardware_key, c) for f in files if f.hardware_key in (ANY, evidence.hardware_key) for c in f.claims]
    others = [
        (f.hardware_key, c) for f in files if f.hardware_key not in (ANY, evidence.hardware_key) for c in f.claims
    ]
    mine = [(key, claim) for key, claim in mine if claim.workload == evidence.workload]
    known = {claim.id for _, claim in mine}
    elsewhere: dict[str, tuple[Claim, list[str]]] = {}
    for key, claim in others:
        if claim.workload == evidence.workload and claim.id not in known:
            elsewhere.setdefault(claim.id, (claim, []))[1].append(key)
    standing = examine(evidence)
    judged = chain.from_iterable(
        admit([_doubted(v, evidence) for v in _judge(claim, key, evidence)], claim, evidence, standing)
        for key, claim in mine
    )
    return (*judged, *(_of_other_machines(claim, keys, evidence) for claim, keys in elsewhere.values()))


def _doubted(verdict: Verdict, evidence: Evidence) -> Verdict:
    """A verdict on commands of the user's own says what nobody could verify."""
    doubt = evidence.stated.doubt if evidence.stated else ""
    if not doubt or verdict.status not in ("met", "exceeded", "missed"):
        return verdict
    return replace(verdict, reason=f"{verdict.reason}; {doubt}")


def _judge(claim: Claim, key: str, evidence: Evidence) -> Iterator[Verdict]:
    blank = _blank(claim, key, evidence)
    needed = (claim.baseline,) if isinstance(claim, TimeClaim) else (claim.against,) if claim.against else ()
    variants = (*needed, claim.variant)
    absent = [name for name in variants if name not in evidence.variants]
    wrong_size = claim.size != evidence.size and (claim.size is not None or isinstance(claim, TimeClaim))
    if wrong_size:
        sizes = f"recorded for size {claim.size}, this run has size {evidence.size}"
        yield replace(blank, status="unrecorded", reason=sizes)
    elif absent:
        there = ", ".join(evidence.variants) or "none"
        reason = f"the run has no variant {absent[0]!r}; it has {there}"
        yield replace(blank, status="inconclusive", reason=reason)
    elif objected := objections(evidence, variants):
        yield replace(blank, status="invalid", reason="; ".join(objected))
    elif isinstance(claim, TimeClaim):
        yield from _judge_time(claim, blank, evidence)
    else:
        yield _judge_mechanism(claim, blank, evidence)


def _judge_time(claim: TimeClaim, blank: Verdict, evidence: Evidence) -> Iterator[Verdict]:
    pair = (claim.baseline, claim.variant)
    if objected := timer_objection(evidence, pair):
        yield replace(blank, status="invalid", reason=objected)
        return
    rounds = [r for r in evidence.rounds if all(name in r.times_ns for name in pair)]
    if not rounds:
        yield replace(blank, status="inconclusive", reason="the run has no untraced round with both variants")
        return
    base, other = ([r.times_ns[name] for r in rounds] for name in pair)
    ratios = paired_ratios(base, other)
    doubts = [*concerns(ratios), *order_concern(rounds, claim.baseline, claim.variant)]
    yield _sampled(blank, claim.ratio, median_interval(ratios), doubts, band=True)
    for name, times in zip(pair, (base, other), strict=True):
        medians = [statistics.median(t) / 1e6 for t in times]
        limit = replace(blank, quantity=f"time of one {evidence.timed} of {name}", unit="ms", variant=name)
        yield _sampled(limit, Bound(None, claim.max_ms[name]), median_interval(medians), concerns(medians), band=False)
    for name, floor in claim.min_items_per_s.items():
        yield _throughput(blank, name, Bound(floor, None), rounds, evidence)


def _throughput(blank: Verdict, name: str, bound: Bound, rounds: Sequence[RoundTimes], evidence: Evidence) -> Verdict:
    """Required items of one iteration over its median time, by round. All agree on the work, or it was `invalid`."""
    work = next((a.work for a in evidence.variants[name].answers), evidence.stated.work if evidence.stated else None)
    unit = f"{work.unit}/s" if work else "items/s"
    verdict = replace(blank, quantity=f"throughput of {name}", unit=unit, variant=name, bound=bound)
    if work is None or work.items <= 0:
        return replace(verdict, status="inconclusive", reason=f"{name} does not say how many items it processes")
    per_second = [work.items / (statistics.median(r.times_ns[name]) / 1e9) for r in rounds]
    return _sampled(verdict, bound, median_interval(per_second), concerns(per_second), band=False)


def _sampled(blank: Verdict, bound: Bound, found: Estimate, doubts: Sequence[Concern], *, band: bool) -> Verdict:
    verdict = replace(blank, bound=bound, value=found.value, n=found.n, sample="rounds", coverage=found.coverage)
    if found.low is None or found.high is None:
        reason = f"{found.n} rounds have no 99 % interval; it needs {MIN_ROUNDS}: capture with --rounds {MIN_ROUNDS}"
        return replace(verdict, status="inconclusive", reason=reason)
    low, high = found.low, found.high
    lower = Bound(bound.minimum, None) if band else bound  # above a speedup's band is no failure
    verdict = replace(verdict, low=low, high=high, margin=lower.margin(low, high))
    if doubts:
        return replace(verdict, status="inconclusive", reason="; ".join(d.text for d in doubts))
    status = _status(lower, low, high)
    if band and bound.maximum is not None and low > bound.maximum:
        status = "exceeded"
    return replace(verdict, status=status, reason=_interval_reason(status, bound, low, high))


def _judge_mechanism(claim: MechanismClaim, blank: Verdict, evidence: Evidence) -> Verdict:
    metric = METRICS[claim.metric]
    names = (claim.variant, *((claim.against,) if claim.against else ()))
    readings: list[Reading] = []
    for name in names:
        analysis = evidence.variants[name].analysis
        if analysis is None:
            return replace(blank, status="inconclusive", reason=f"the run holds no trace of {name}")
        reading = metric.read(analysis, claim.of, claim.stage)
        if reading.unsampled:
            return replace(blank, status="unrecorded", reason=f"the trace of {name} has {reading.unsampled}")
        if distrust := _distrust(metric, claim, analysis) or _slowdown(metric, evidence, name):
            return replace(blank, status="invalid", reason=f"{distrust} (trace of {name})")
        if reading.unavailable:
            return replace(blank, status="invalid", reason=f"{reading.unavailable} (trace of {name})")
        if reading.total is None:
            return replace(blank, status="inconclusive", reason=f"the trace of {name} has {reading.absent}")
        readings.append(reading)
    return _held(claim, metric, readings, blank)


def _held(claim: MechanismClaim, metric: Metric, readings: Sequence[Reading], blank: Verdict) -> Verdict:
    own, *other = readings
    total, per_iteration = own.total, own.per_iteration
    assert total is not None  # readings without a number were answered before
    iterations = min(r.iterations for r in readings)
    if other:
        # Iterations of two processes are no pairs, so the totals are divided.
        if not other[0].total:
            return replace(blank, status="inconclusive", reason=f"{claim.against} has none to compare with")
        total, per_iteration = total / other[0].total, None
    sample = "iterations" if iterations else "windows"
    verdict = replace(blank, value=total, margin=claim.bound.margin(total, total), n=iterations or 1, sample=sample)
    if not metric.counted and 0 < iterations < MIN_ITERATIONS:
        reason = f"{iterations} iterations are too few for {claim.metric}: capture with --iterations {MIN_ITERATIONS}"
        return replace(verdict, status="inconclusive", reason=reason)
    if per_iteration is None or len(per_iteration) < MIN_ITERATIONS:
        status = _status(claim.bound, total, total)
        return replace(verdict, status=status, reason=_value_reason(status, claim.bound, total, verdict))
    found = median_interval(per_iteration)
    assert found.low is not None and found.high is not None  # MIN_ITERATIONS >= MIN_ROUNDS
    low, high = found.low, found.high
    verdict = replace(verdict, value=found.value, low=low, high=high, coverage=found.coverage, n=found.n)
    verdict = replace(verdict, margin=claim.bound.margin(low, high))
    status = _status(claim.bound, low, high)
    if status == "met" and not claim.bound.holds(total, total):
        # A median is blind to a cost that only some iterations pay; the window's total is not.
        reason = f"the median iteration holds, but the whole window is at {total:.4g}: a few iterations differ"
        return replace(verdict, status="inconclusive", reason=reason)
    if status == "missed" and claim.bound.holds(total, total):
        # An iteration does not see what hides it in its neighbours.
        reason = (
            f"no iteration holds by itself, but the whole window does at {total:.4g}: iterations run into each other"
        )
        return replace(verdict, status="inconclusive", reason=reason)
    return replace(verdict, status=status, reason=_interval_reason(status, claim.bound, low, high))


def _distrust(metric: Metric, claim: MechanismClaim, analysis: Analysis) -> str:
    for row in metric.trusts(claim.of, claim.stage):
        found = analysis.trust.filter(pl.col("metric") == row).select("level", "reason").rows()
        if not found:
            return f"the analysis says nothing about its trust in {row}"
        for level, reason in found:
            if level != "ok":
                return f"trust in {row} is {level}: {reason or 'no reason given'}"
    return ""


def _slowdown(metric: Metric, evidence: Evidence, name: str) -> str:
    traced = evidence.variants[name].traced_ns
    untraced = [t for r in evidence.rounds for t in r.times_ns.get(name, ())]
    if "time" not in metric.trust or not traced or not untraced:
        return ""
    factor = statistics.median(traced) / statistics.median(untraced)
    return f"tracing slowed it down {factor:.2f} times, too much for shares of time" if factor > SLOWDOWN_LIMIT else ""


def order_concern(rounds: Sequence[RoundTimes], baseline: str, variant: str) -> tuple[Concern, ...]:
    """A concern where one of the two ran first too often for drift within rounds to cancel. `rounds` timed both."""
    first = sum(r.order.index(baseline) < r.order.index(variant) for r in rounds)
    if min(first, len(rounds) - first) >= ORDER_SHARE * len(rounds):
        return ()
    text = (
        f"{baseline} ran before {variant} in {first} of {len(rounds)} rounds, so drift within a round does not cancel"
    )
    return (Concern("order", text),)


def _status(bound: Bound, low: float, high: float) -> str:
    if bound.holds(low, high):
        return "met"
    return "missed" if bound.excludes(low, high) else "inconclusive"


def _interval_reason(status: str, bound: Bound, low: float, high: float) -> str:
    where = {
        "met": "lies inside",
        "exceeded": "lies above",
        "missed": "lies outside",
        "inconclusive": "straddles",
    }[status]
    return f"the interval {low:.4g} .. {high:.4g} {where} the bound {bound}"


def _value_reason(status: str, bound: Bound, value: float, verdict: Verdict) -> str:
    where = "inside" if status == "met" else "outside"
    over = f"the total of {verdict.n} {verdict.sample}" if verdict.n > 1 else f"one of the {verdict.sample}"
    return f"{value:.4g}, {over}, lies {where} the bound {bound}"


def _blank(claim: Claim, key: str, evidence: Evidence) -> Verdict:
    """What every verdict on `claim` says before anything was asked."""
    if isinstance(claim, TimeClaim):
        quantity, unit, bound = f"speedup of {claim.variant} over {claim.baseline}", "ratio", claim.ratio
    else:
        quantity, unit, bound = claim.quantity(), claim.unit, claim.bound
    return Verdict(
        claim=claim.id,
        quantity=quantity,
        status="unrecorded",
        reason="",
        variant=claim.variant,
        hardware_key=evidence.hardware_key,
        expected_on=key,
        source=claim.source,
        unit=unit,
        bound=bound,
        measured_in=claim.provenance.evidence if claim.provenance else (),
    )


def _of_other_machines(claim: Claim, keys: Sequence[str], evidence: Evidence) -> Verdict:
    reason = f"recorded for {', '.join(sorted(keys))}; this run was made on {evidence.hardware_key}"
    return replace(_blank(claim, keys[0], evidence), reason=reason)
