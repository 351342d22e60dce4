"""Claims against evidence: one verdict for each judged part of each claim. Pure; reads no file and prints nothing.

The order of questions is the order of doubt. Was this ever written down for this machine and size (`unrecorded`)? Did
the variants do the same, right work, and does the trace agree (`invalid`)? Is the part of the trace that the claim rests
on trusted (`invalid`)? Is there enough of it, and does it describe one thing (`inconclusive`)? Only then is the
interval held against the bound; and what is met goes through `admissible`, which asks whether the run is one run.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

import polars as pl

from ...analyze.result import Analysis
from ...traces.figures import milliseconds, significant
from ...traces.hardware_key import same_kind
from ..claims.skeleton import unfinished
from ..deciding import (
    DECIDING,
    Concern,
    Sample,
    decide,
    detectable,
    median_interval,
    rate_sample,
    ratio_sample,
    rounds_needed,
    split,
    time_sample,
)
from ..metrics.registry import METRICS, Metric, Reading
from ..model import ANY, Bound, Claim, ExpectationFile, MechanismClaim, TimeClaim
from .admissible import admit, examine
from .clocks import clock_concerns
from .evidence import Evidence, Recorded, RoundTimes
from .same_timing import timed_otherwise
from .same_work import other_work
from .starts import COVERED, interval
from .validity import objections, timer_objection
from .verdict import Verdict

ENOUGH: Final = 24
"""Rounds that are worth another capture where fewer were doubted."""

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
    elif left := unfinished(claim):
        yield replace(blank, status="unrecorded", reason=f"its {left}: nobody has decided this bound")
    elif unlike := timed_otherwise(claim, evidence) or other_work(claim, evidence):
        yield replace(blank, status="unrecorded", reason=unlike)
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
    if unlike := other_harness(claim, evidence):
        yield replace(blank, status="unrecorded", reason=unlike)
        return
    rounds = evidence.both(*pair)
    if not rounds:
        yield replace(blank, status="inconclusive", reason="the run has no untraced round with both variants")
        return
    base, other = ([r.times_ns[name] for r in rounds] for name in pair)
    ratios = ratio_sample(base, other)
    clocks = clock_concerns(rounds, *pair, ratios.by(claim.by), claim.ratio)
    doubts = (*order_concern(rounds, *pair), *_groups(rounds, pair), *clocks)
    blank = replace(blank, statistic=claim.by, sample="rounds")
    yield _sampled(blank, claim.ratio, ratios, evidence, doubts, band=True)
    for name, times in zip(pair, (base, other), strict=True):
        if name not in claim.max_ms:
            continue
        limit = replace(
            blank, quantity=f"time of one {evidence.timed} of {name}", unit="ms", variant=name, part="limits"
        )
        groups = _groups(rounds, (name,))
        yield _sampled(limit, Bound(None, claim.max_ms[name]), time_sample(times), evidence, groups, band=False)
    for name, floor in claim.min_items_per_s.items():
        yield _throughput(blank, name, Bound(floor, None), rounds, evidence)


def other_harness(claim: Claim, evidence: Evidence) -> str:
    """Why a measured time is not judged on this run: another harness timed it; empty where the same one did, or none."""
    if claim.source.kind != "measured" or evidence.harness is None:
        return ""
    measured = claim.provenance.harness if claim.provenance else None
    if (measured or 1) == evidence.harness:
        return ""
    return (
        f"the bound was measured by harness {measured or 1} and this run by harness {evidence.harness}, which time different "
        "things; accept a new one"
    )


def _groups(rounds: Sequence[RoundTimes], names: Sequence[str]) -> Iterator[Concern]:
    """An objection for each variant whose iterations fall into two groups."""
    for name in names:
        if found := split([r.times_ns[name] for r in rounds]):
            fast, slow, share = found
            text = (
                f"the iterations of {name} fall into two groups, up to {milliseconds(fast / 1e6)} and from "
                f"{milliseconds(slow / 1e6)} "
                f"({share:.0%} of them): they did not all do the same"
            )
            yield Concern("groups", text)


def _throughput(blank: Verdict, name: str, bound: Bound, rounds: Sequence[RoundTimes], evidence: Evidence) -> Verdict:
    """Required items of one iteration over its time, by round. All agree on the work, or it was `invalid`."""
    work = next((a.work for a in evidence.variants[name].answers), evidence.stated.work if evidence.stated else None)
    unit = f"{work.unit}/s" if work else "items/s"
    verdict = replace(blank, quantity=f"throughput of {name}", unit=unit, variant=name, bound=bound, part="limits")
    if work is None or work.items <= 0:
        return replace(verdict, status="inconclusive", reason=f"{name} does not say how many items it processes")
    rates = rate_sample([r.times_ns[name] for r in rounds], work.items)
    return _sampled(verdict, bound, rates, evidence, _groups(rounds, (name,)), band=False)


def _sampled(
    blank: Verdict, bound: Bound, sample: Sample, evidence: Evidence, objected: Iterable[Concern], *, band: bool
) -> Verdict:
    """Rounds against `bound`. With `band`, above it is `exceeded`, which is not a failure."""
    lower = Bound(bound.minimum, None) if band else bound
    made = decide(
        sample, lower.minimum, lower.maximum, statistic=blank.statistic, looks=evidence.looks, also=tuple(objected)
    )
    found, other, values = made.estimate, made.other, sample.by(blank.statistic)
    verdict = replace(
        blank,
        bound=bound,
        value=found.value,
        n=found.n,
        coverage=found.coverage,
        low=found.low,
        high=found.high,
        other_low=other.low,
        other_high=other.high,
        detects=detectable(values, evidence.looks),
        rounds_for_5=rounds_needed(values),
    )
    if found.low is None or found.high is None:
        return replace(verdict, status=made.status, reason=made.reason)
    verdict = replace(verdict, margin=lower.margin(found.low, found.high))
    status, reason = made.status, made.reason
    if band and status == "met" and bound.maximum is not None and min(found.low, other.low or 0.0) > bound.maximum:
        ends = f"{significant(found.low)} .. {significant(found.high)}"
        status, reason = "exceeded", f"the interval {ends} lies above the bound {bound}"
    if status in ("met", "exceeded"):
        reason += ", on this start of the machine"
    elif status == "inconclusive" and not made.doubts:
        reason += _needed(verdict)
    elif made.unsteady:
        reason += f"; {_steadier(found.n, evidence.looks)}"
    if blank.statistic == "median":
        reason += "; judged by the median, by which the bound was measured"
    return replace(verdict, status=status, reason=reason)


def _needed(verdict: Verdict) -> str:
    """What the rounds at hand could have detected, and what 5 % would take, as the end of a sentence."""
    if verdict.detects is None:
        return ""
    more = f"{verdict.rounds_for_5} rounds" if verdict.rounds_for_5 else "longer iterations, or a quieter machine"
    return f"; {verdict.n} rounds like these detect {significant(100 * verdict.detects, 2)} %, and 5 % takes {more}"


def _steadier(n: int, looks: Sequence[int]) -> str:
    """What to do about `n` rounds that drift, fall into groups or resemble each other."""
    enough = next((look for look in DECIDING if look >= max(n + 1, ENOUGH)), None)
    more = "" if enough is None else f", with more rounds than {n}: `capture --rounds {enough}`"
    adds = " or `capture --decide`, which adds them" if more and len(looks) < 2 else ""
    return f"time it again on a quieter machine{more}{adds}"


def _judge_mechanism(claim: MechanismClaim, blank: Verdict, evidence: Evidence) -> Verdict:
    metric = METRICS[claim.metric]
    names = (claim.variant, *((claim.against,) if claim.against else ()))
    readings: list[list[Reading]] = []
    aside: list[str] = []
    for name in names:
        readings.append([])
        recordings = evidence.variants[name].recordings
        slowed = [_slowdown(metric, evidence, name, made) for made in recordings]
        few = 2 * sum(map(bool, slowed)) < len(recordings)
        for number, (made, slow) in enumerate(zip(recordings, slowed, strict=True), 1):
            trace = f"trace {number} of {name}" if len(recordings) > 1 else f"the trace of {name}"
            if slow and few:
                aside.append(f"{trace} is left out: {slow}")
                continue
            if made.analysis is None:
                lacking = (
                    f"the run holds no trace {number} of {name}" if number > 1 else f"the run holds no trace of {name}"
                )
                return replace(blank, status="inconclusive", reason=lacking)
            reading = metric.read(made.analysis, claim.of, claim.stage)
            if reading.unsampled:
                return replace(blank, status="unrecorded", reason=f"{trace} has {reading.unsampled}")
            if distrust := _distrust(metric, claim, made.analysis) or slow:
                return replace(blank, status="invalid", reason=f"{distrust} ({trace.removeprefix('the ')})")
            if reading.unavailable:
                return replace(blank, status="invalid", reason=f"{reading.unavailable} ({trace.removeprefix('the ')})")
            if reading.total is None:
                return replace(blank, status="inconclusive", reason=f"{trace} has {reading.absent}")
            readings[-1].append(reading)
    held = _held(claim, metric, readings, blank)
    return replace(held, reason="; ".join([held.reason, *aside])) if aside else held


def _held(claim: MechanismClaim, metric: Metric, readings: Sequence[Sequence[Reading]], blank: Verdict) -> Verdict:
    """The verdict on a claim whose variants (its own, and the one to divide by) have a number in every recording."""
    own, *other = readings
    totals = [reading.total for reading in own if reading.total is not None]
    iterations = min(r.iterations for found in readings for r in found)
    if other:
        # Iterations of two processes are not pairs, so the totals are divided.
        below = [reading.total for reading in other[0] if reading.total]
        if len(below) < len(other[0]):
            return replace(blank, status="inconclusive", reason=f"{claim.against} has none to compare with")
        totals = [one / two for one, two in zip(totals, below, strict=False)]
    total = statistics.fmean(totals)
    sample = "iterations" if iterations else "windows"
    verdict = replace(
        blank,
        value=total,
        margin=claim.bound.margin(total, total),
        n=iterations or 1,
        sample=sample,
        recorded=tuple(totals),
    )
    if metric.counted:
        if len(set(totals)) > 1:
            counted = ", ".join(significant(one, 6) for one in totals)
            reason = f"the recordings count differently ({counted}), so no count is the program's"
            missed = all(claim.bound.excludes(one, one) for one in totals)
            return replace(verdict, status="missed" if missed else "inconclusive", reason=reason)
        status = _status(claim.bound, total, total)
        return replace(verdict, status=status, reason=_value_reason(status, claim.bound, total, verdict))
    if 0 < iterations < MIN_ITERATIONS:
        reason = f"{iterations} iterations are too few for {claim.metric}: capture with --iterations {MIN_ITERATIONS}"
        return replace(verdict, status="inconclusive", reason=reason)
    found = interval(claim, totals)
    low, high = found.low, found.high
    verdict = replace(
        verdict,
        low=low,
        high=high,
        coverage=COVERED,
        n=len(totals),
        sample="recordings",
        margin=claim.bound.margin(low, high),
    )
    status = _status(claim.bound, low, high)
    spread = f"the {'measured' if found.measured else 'usual'} spread between starts ({found.between:.2g})"
    if found.contradicted:
        told = f"; from {len(totals)} recordings, which lie too far apart for {spread}"
    else:
        told = f"; from {f'{len(totals)} recordings' if len(totals) > 1 else 'one recording'}, with {spread}"
    for reading in own if status == "met" and not other else ():
        if reading.per_iteration is None or len(reading.per_iteration) < MIN_ITERATIONS:
            continue
        each = median_interval(reading.per_iteration)
        assert each.low is not None and each.high is not None  # MIN_ITERATIONS >= MIN_ROUNDS
        if claim.bound.excludes(each.low, each.high):
            # An iteration does not see what hides it in its neighbours, nor a total what only some iterations pay.
            reason = (
                f"the whole window holds at {significant(total)}, but the median iteration does not, at "
                f"{significant(each.value)}: a few "
                "iterations differ, or they run into each other"
            )
            return replace(verdict, status="inconclusive", reason=reason)
    return replace(verdict, status=status, reason=_interval_reason(status, claim.bound, low, high) + told)


def _distrust(metric: Metric, claim: MechanismClaim, analysis: Analysis) -> str:
    for row in metric.trusts(claim.of, claim.stage):
        found = analysis.trust.filter(pl.col("metric") == row).select("level", "reason").rows()
        if not found:
            return f"the analysis says nothing about its trust in {row}"
        for level, reason in found:
            if level != "ok":
                return f"trust in {row} is {level}: {reason or 'no reason given'}"
    return ""


def _slowdown(metric: Metric, evidence: Evidence, name: str, made: Recorded) -> str:
    traced = made.traced_ns
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
    return f"the interval {significant(low)} .. {significant(high)} {where} the bound {bound}"


def _value_reason(status: str, bound: Bound, value: float, verdict: Verdict) -> str:
    where = "inside" if status == "met" else "outside"
    over = f"the total of {verdict.n} {verdict.sample}" if verdict.n > 1 else f"one of the {verdict.sample}"
    return f"{significant(value)}, {over}, lies {where} the bound {bound}"


def _blank(claim: Claim, key: str, evidence: Evidence) -> Verdict:
    """What every verdict on `claim` says before anything was asked."""
    if isinstance(claim, TimeClaim):
        quantity, unit, bound = f"speedup of {claim.variant} over {claim.baseline}", "ratio", claim.ratio
    else:
        quantity, unit, bound = claim.quantity(), claim.unit, claim.bound
    return Verdict(
        part="speedup" if isinstance(claim, TimeClaim) else "mechanism",
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
    cpu = "" if evidence.manifest is None else evidence.manifest.hardware.cpu
    hints = (hint for key in sorted(keys) if (hint := same_kind(evidence.hardware_key, cpu, key)))
    return replace(_blank(claim, keys[0], evidence), reason="; ".join((reason, *hints)))
