"""A claim with the bounds that some runs carry: the judge measures, `derive` draws the bounds.

The claim is judged with bounds that everything meets. Every doubt the judge has left is one about the evidence, and a
refusal here; what it measured is what bounds are derived from.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from ...traces.figures import significant
from ..claims.digest import sealed
from ..judging.admissible import examine
from ..judging.admissible.asked import NAMED
from ..judging.evidence import Evidence
from ..judging.judge import judge
from ..judging.same_timing import timing
from ..judging.same_work import required_work
from ..judging.starts import SURE, between_starts
from ..judging.verdict import Verdict
from ..metrics.registry import METRICS, cannot_fail, greatest
from ..model import Bound, Claim, ExpectationFile, MechanismClaim, Provenance, Source, TimeClaim
from .derive import Measured, band, exact, fraction, least, limit, measured
from .occasions import UNDECIDED, Occasion, Refusal
from .wide import wide_limit, wide_metric, wide_speedup

_EVERYTHING: Final = Bound(0.0, None)

RECORDINGS: Final = 3
"""Fewest recordings, of all runs together, that a bound is taken from; a count, which cannot vary, takes one."""


@dataclass(frozen=True, slots=True)
class Derived:
    """A claim with new bounds, and a sentence for each of them that says little (``wide.py``)."""

    claim: Claim
    wide: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TooFew:
    """A claim that stays as it is, since `made` recordings cannot say how far recordings lie apart."""

    claim: str
    made: int


def too_few(claims: Sequence[TooFew]) -> str:
    """One note for all of them."""
    made = min(c.made for c in claims)
    names = ", ".join(c.claim for c in claims)
    return (
        f"{made} recording{'s' if made > 1 else ''} of a variant cannot say how far recordings lie apart, so these stay as they "
        f"are: {names}; capture with --recordings {RECORDINGS}, or name {RECORDINGS} runs"
    )


def remeasure(claim: Claim, occasions: Sequence[Occasion]) -> Derived | Refusal | TooFew | str:
    """`claim` with bounds of these runs; a refusal where their evidence carries none; a note where nothing is to claim."""
    parts: list[list[Verdict]] = []
    for occasion in occasions:
        evidence = occasion.evidence
        verdicts = judge([ExpectationFile(evidence.hardware_key, (_opened(claim),))], evidence)
        for verdict in verdicts:
            if (
                verdict.status == "unrecorded"
            ):  # by a recording of another profile, which says nothing against the claim
                return f"no bound for {claim.id} from {evidence.run_id}: {verdict.reason}"
            if verdict.status not in ("met", "exceeded"):
                text = f"{evidence.run_id} carries no bound for {claim.id}, {verdict.quantity}: {verdict.reason}"
                return Refusal(UNDECIDED, text, by_hand=only_scatters(verdict, evidence))
        parts.append(list(verdicts))
    if isinstance(claim, TimeClaim):
        return _derive_time(claim, occasions, parts)
    return _derive_mechanism(claim, occasions, [p[0] for p in parts])


def only_scatters(verdict: Verdict, evidence: Evidence) -> bool:
    """Whether times are undecided by their rounds alone: a bound with more room would be decided on the same rounds."""
    timed = verdict.part in ("speedup", "limits") and verdict.status == "inconclusive" and verdict.low is not None
    return timed and all(found.grade == NAMED for found in examine(evidence))


def _opened(claim: Claim) -> Claim:
    """`claim` with bounds that every value meets, so that only doubts about the evidence are left: from nowhere, too."""
    claim = replace(claim, source=Source("model", None, "opened to measure"), provenance=None)
    if isinstance(claim, TimeClaim):
        return replace(
            claim,
            ratio=_EVERYTHING,
            max_ms=dict.fromkeys(claim.max_ms, float("inf")),
            min_items_per_s=dict.fromkeys(claim.min_items_per_s, 0.0),
            statistic=None,
        )
    return replace(claim, bound=Bound(float("-inf"), None))


def _derive_time(
    claim: TimeClaim, occasions: Sequence[Occasion], parts: Sequence[Sequence[Verdict]]
) -> Derived | Refusal | str:
    pair = (claim.baseline, claim.variant)
    means = [{name: _round_means(o.evidence, name, pair) for name in pair} for o in occasions]
    ratios = [[a / b for a, b in zip(m[pair[0]], m[pair[1]], strict=True)] for m in means]
    speedups = [measured(p[0], rounds=r) for p, r in zip(parts, ratios, strict=True)]
    new = claim.source.kind != "measured"
    slowest = min(s.low for s in speedups)
    if new and slowest <= 1:
        return (
            f"no time claim for {claim.variant}: its speedup over {claim.baseline} may be {significant(slowest, 3)}; "
            f"if it should be "
            "faster, time more rounds on a quieter machine (`capture --decide`)"
        )
    ratio = band(speedups, floor=1.0)
    if ratio.minimum is not None and ratio.minimum <= 0:
        return Refusal(UNDECIDED, f"{claim.id}: the runs spread too much to bound a speedup from below", by_hand=True)
    # A band without an upper end was meant so; a new one gets both.
    ratio = Bound(ratio.minimum, None if claim.ratio.maximum is None else ratio.maximum)
    limited = [name for name in pair if name in claim.max_ms]
    times = {
        name: [measured(p[1 + i], rounds=m[name]) for p, m in zip(parts, means, strict=True)]
        for i, name in enumerate(limited)
    }
    # Throughputs follow the ratio and the times, in the order of the claim.
    after = 1 + len(limited)
    floors = {name: [measured(p[after + i]) for p in parts] for i, name in enumerate(claim.min_items_per_s)}
    max_ms = {name: limit(found) for name, found in times.items()}
    wide = list(wide_speedup(ratio, list(chain(*ratios)), len(occasions), (slowest, max(s.high for s in speedups))))
    for name in limited:
        wide += wide_limit(name, max_ms[name], [ms for m in means for ms in m[name]])
    made = replace(
        claim,
        ratio=ratio,
        max_ms=max_ms,
        min_items_per_s={name: least(found) for name, found in floors.items()},
        statistic=None,
        source=_source(occasions, speedups),
        provenance=_provenance(occasions, ratios, [p[0] for p in parts]),
    )
    return Derived(sealed(made), tuple(wide))


def _derive_mechanism(
    claim: MechanismClaim, occasions: Sequence[Occasion], verdicts: Sequence[Verdict]
) -> Derived | Refusal | TooFew | str:
    metric = METRICS[claim.metric]
    readings = [_recorded(v) for v in verdicts]
    made = sum(len(v.recorded) for v in verdicts)
    if not metric.counted and made < RECORDINGS:
        return TooFew(claim.id, made)
    if metric.counted:
        found = exact(readings)
        if found is None:
            shown = ", ".join(f"{r.value:.6g}" for r in readings)
            return Refusal(UNDECIDED, f"{claim.id}: the runs count differently ({shown}), so no count is exact")
    else:
        values = [r.value for r in readings]
        starts = _provenance(occasions, [], verdicts)
        width = max(between_starts(replace(claim, provenance=starts), v)[0] for v in values)
        room = 2 * SURE * width
        whole = greatest(claim.metric, claim.unit) is not None
        found = fraction(readings, room) if whole else band(readings, allowance=room)
    bound = Bound(
        None if claim.bound.minimum is None else found.minimum, None if claim.bound.maximum is None else found.maximum
    )
    if cannot_fail(claim.metric, bound, claim.unit):
        text = f"the runs carry no bound for {claim.id} that a run could miss: they show {_shown(readings)}"
        return Refusal(UNDECIDED, text, claim.id) if claim.source.kind == "measured" else text
    pair = (claim.variant,)
    rounds = [_round_means(o.evidence, claim.variant, pair) for o in occasions]
    new = replace(
        claim,
        bound=bound,
        source=_source(occasions, readings),
        provenance=_provenance(occasions, rounds, verdicts),
    )
    share = greatest(claim.metric, claim.unit) is not None
    wide = () if metric.counted else tuple(wide_metric(bound, [r.value for r in readings], share=share))
    return Derived(sealed(new), wide)


def _recorded(verdict: Verdict) -> Measured:
    """The mean of an occasion's recordings, between the least and the greatest of them."""
    found = measured(replace(verdict, low=None, high=None))
    low, high = min(verdict.recorded), max(verdict.recorded)
    return replace(found, low=low, high=high, spread=high - low)


def _round_means(evidence: Evidence, name: str, needed: Collection[str]) -> list[float]:
    """Mean milliseconds of `name` in each round that has all of `needed`."""
    rounds = [r.times_ns for r in evidence.rounds if all(n in r.times_ns for n in needed)]
    return [statistics.fmean(times[name]) / 1e6 for times in rounds]


def _shown(readings: Sequence[Measured]) -> str:
    return "; ".join(_reading(m) for m in readings)


def _reading(m: Measured) -> str:
    ends = "" if m.low == m.high else f" ({m.low:.4g} to {m.high:.4g})"
    over = "in one recording" if m.sample == "recordings" and m.n == 1 else f"over {m.n} {m.sample}"
    return f"{m.value:.6g}{ends} {over}"


def _source(occasions: Sequence[Occasion], readings: Sequence[Measured]) -> Source:
    said = []
    for occasion, m in list(zip(occasions, readings, strict=True))[-3:]:
        earlier = "" if occasion is occasions[-1] else f" in {occasion.evidence.run_id[:80]}"
        said.append(f"{_reading(m)}{earlier}")
    more = len(occasions) - len(said)
    text = "; ".join([*said, *([f"and {more} earlier runs"] if more else [])])
    earlier_runs = tuple(o.evidence.run_id for o in occasions[:-1])
    return Source("measured", occasions[-1].evidence.run_id, f"accepted: {text}", earlier_runs)


def _provenance(
    occasions: Sequence[Occasion], rounds: Sequence[Sequence[float]], verdicts: Sequence[Verdict]
) -> Provenance:
    """Of the latest run; rounds of all of them, the widest spread of any, and that between runs, or recordings if larger."""
    means = [v.value for v in verdicts if v.value is not None]
    apart = [statistics.stdev(found) for found in (means, *(v.recorded for v in verdicts)) if len(found) > 1]
    manifest = occasions[-1].manifest
    recorders = {
        v.recording.recorder_version for v in manifest.variants if v.recording and v.recording.recorder == "nsys"
    }
    spreads = [(max(r) - min(r)) / statistics.median(r) for r in rounds if r]
    return Provenance(
        commit=str(manifest.git["commit"])[:12] if manifest.git.get("commit") else None,
        driver=manifest.hardware.driver,
        torch=manifest.packages.get("torch"),
        nsys=min(recorders, default=None),
        rounds=sum(len(r) for r in rounds),
        spread=round(max(spreads), 3) if spreads else None,
        recorded_utc=manifest.created_utc,
        harness=occasions[-1].evidence.harness,
        starts=len(means),
        between=float(f"{max(apart):.3g}") if apart else None,
        evidence=tuple(o.manifest.digest for o in occasions),
        work=required_work(occasions[-1].evidence),
        timed_by=timing(occasions[-1].evidence.timed),
    )
