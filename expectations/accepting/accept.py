"""Which bounds a run (or several of one workload) would write, and every reason not to. Pure: reads and writes no file.

A bound never follows the last run by itself. Accepting is asked for, shows what changes, and is refused where

    the runs are of different work or machines, or of another machine than the file
    a run comes from an unknown commit or a changed tree: nobody could repeat it
    the present expectations were not met: accepting would make a regression the new normal
    the evidence does not carry a bound: wrong outputs, lost events, too few rounds, drift, two modes, spread
    a bound would become looser or vanish, unless that was asked for in so many words
    nobody would read that a bound is so wide that a clear regression meets it, unless that was asked for

Only bounds that were measured are derived again. What a model, a data sheet or a definition says is not changed by a run.
The judge itself does the measuring: a claim with bounds that everything meets is judged, and every doubt it has about
the evidence is a refusal here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Final

from ...traces.errors import UsageError
from ...traces.faults import nearest
from ...traces.figures import significant
from ...traces.hardware_key import slug, vague_key
from ..claims.diff import LOOSER, REMOVED, REWORDED, Difference, differences
from ..claims.digest import is_changed
from ..claims.skeleton import time_id
from ..judging.evidence import Evidence
from ..judging.judge import judge
from ..judging.verdict import Verdict
from ..model import ANY, Bound, Claim, ExpectationFile, MechanismClaim, Source, TimeClaim
from .occasions import MISSED, UNDECIDED, USAGE, Occasion, Refusal, machine_refusal, provenance_refusals, refuse_mixture
from .remeasure import TooFew, only_scatters, remeasure, too_few


@dataclass(frozen=True, slots=True)
class Proposal:
    """What would be written: all `claims` of the file, and the `changes` against the present ones.

    Nothing may be written while there are `refusals`. `kept` says of each measured claim why it stays as it is, and
    `notes` what else a reader should know. `wide` has a sentence for each new bound that a clear regression would meet, and
    `against` one for each run that did not meet the present ones, where loosening was asked for.
    """

    claims: tuple[Claim, ...]
    changes: tuple[Difference, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]
    wide: tuple[str, ...] = ()
    against: tuple[str, ...] = ()


def propose(
    occasions: Sequence[Occasion],
    target: ExpectationFile,
    others: Sequence[ExpectationFile] = (),
    wanted: Sequence[MechanismClaim] = (),
    *,
    only: Collection[str] = (),
    allow_loosen: bool = False,
    allow_wide: bool = True,
    only_ratio: bool = False,
) -> Proposal:
    """Bounds for `target` from `occasions`, oldest first.

    `others` are the files beside it, by which the runs are judged, too. `wanted` are claims without bounds that the
    machine's file should have. `only` names the claims to change or add; empty: all. With `only_ratio` speedups alone are
    bounded, and no milliseconds or items per second. Without `allow_wide` a bound that says little is refused. Raises
    `UsageError` if the runs are not several occasions of one thing, or `only` names a claim that nobody could write.
    """
    occasions = sorted(occasions, key=lambda o: (o.manifest.created_utc, o.manifest.run_id))
    refuse_mixture(occasions)
    first = occasions[0].evidence
    refusals = [*provenance_refusals(occasions), *machine_refusal(first, target)]
    candidates = {c.id: c for c in (*_measured_claims(target, first), *_missing(target, others, wanted, first))}
    if not candidates:
        refusals.append(Refusal(UNDECIDED, _nothing_to_claim(first, target)))
    for name in only:
        if name not in candidates:
            hint = nearest(name, candidates) or f"; those that can be accepted are {', '.join(candidates) or 'none'}"
            raise UsageError(f"no measured claim of {first.workload} is called {name!r}{hint}")
    chosen = {i: c for i, c in candidates.items() if not only or i in only}
    standing = _standing(occasions, (target, *others))
    if not allow_loosen:
        refusals += [one.refusal for one in standing]
    else:  # whether the evidence carries another bound is asked when it is derived
        refusals += [
            one.refusal for one in standing if one.verdict.status == "invalid" or one.verdict.claim not in chosen
        ]
    if only_ratio:
        chosen = {i: _without_limits(c) for i, c in chosen.items()}
    present = {c.id: c for c in target.claims}
    notes: list[str] = []
    wide: list[str] = []
    few: list[TooFew] = []
    after = dict(present)
    for key, claim in chosen.items():
        derived = remeasure(claim, occasions)
        if isinstance(derived, Refusal):
            if key not in {r.claim for r in refusals}:  # what stands between claim and run is said once
                refusals.append(derived)
        elif isinstance(derived, TooFew):
            few.append(derived)
        elif isinstance(derived, str):
            notes.append(derived)
        elif key not in present or is_changed(present[key]) or _changed(present[key], derived.claim):
            after[key] = derived.claim
            wide += [f"{key}: {text}" for text in derived.wide]
    notes += [too_few(few)] if few else []
    changes = differences(target.claims, tuple(after.values()))
    if not allow_loosen:
        refusals += [
            Refusal(USAGE, f"{d.claim}: {d.part} would loosen from {d.old} to {d.new}; --allow-loosen accepts that")
            for d in changes
            if d.direction == LOOSER
        ]
        refusals += [
            Refusal(USAGE, f"{d.claim}: {d.part} {d.old} would not be bounded any more; --allow-loosen accepts that")
            for d in changes
            if d.direction == REMOVED
        ]
    if wide and not allow_wide:
        refusals.append(
            Refusal(USAGE, "with --yes nobody sees the warning; `accept --allow-wide` writes wide bounds anyway")
        )
    if changes and (vague := vague_key(first.hardware_key, occasions[-1].manifest.hardware.cpu)):
        notes.append(vague)
    against = tuple(_against(standing, {d.claim for d in changes} & chosen.keys())) if allow_loosen else ()
    return Proposal(tuple(after.values()), changes, tuple(dict.fromkeys(refusals)), tuple(notes), tuple(wide), against)


def _nothing_to_claim(evidence: Evidence, target: ExpectationFile) -> str:
    """Why no bound of the file could come from this run."""
    if written := [c.id for c in target.claims if _applies(c, evidence)]:
        return (
            f"no claim on {evidence.run_id} has a measured bound ({', '.join(written)}), and what people wrote stays as it is; "
            "delete a claim to have it measured"
        )
    names = ", ".join(evidence.variants) or "none"
    return (
        f"{evidence.run_id} has nothing to claim: no baseline beside another variant (it has {names}), nothing wanted"
    )


def _changed(old: Claim, new: Claim) -> bool:
    """Whether a bound differs: words and circumstances alone are no reason to write."""
    return any(d.direction != REWORDED for d in differences((old,), (new,)))


@dataclass(frozen=True, slots=True)
class _Standing:
    """A verdict by the present expectations that a run does not meet, and the refusal that it is."""

    run_id: str
    verdict: Verdict
    refusal: Refusal


def _standing(occasions: Sequence[Occasion], files: Sequence[ExpectationFile]) -> list[_Standing]:
    """What the present expectations have against each run."""
    found = []
    for occasion in occasions:
        evidence = occasion.evidence
        for verdict in judge(files, evidence):
            if verdict.status in ("met", "exceeded", "unrecorded"):
                continue
            code = MISSED if verdict.status == "missed" else UNDECIDED
            text = f"{evidence.run_id}: {verdict.claim} is {verdict.status}, {verdict.quantity}: {verdict.reason}"
            refusal = Refusal(code, text, verdict.claim, only_scatters(verdict, evidence))
            found.append(_Standing(evidence.run_id, verdict, refusal))
    return found


_DID: Final = {
    (True, True): "missed the bounds that it replaces",
    (True, False): "missed bounds that stay",
    (False, True): "could not be decided by the bounds that it replaces",
    (False, False): "could not be decided by bounds that stay",
}
"""What a run did, by whether it missed and whether its bounds are replaced."""


def _against(standing: Sequence[_Standing], replaced: Collection[str]) -> Iterator[str]:
    """For each run, a sentence on the bounds that it did not meet: those among `replaced`, and those that stay."""
    by_run: dict[tuple[str, str], list[str]] = {}
    for one in standing:
        v = one.verdict
        found = "" if v.value is None else f" {significant(v.value)}"
        did = _DID[v.status == "missed", v.claim in replaced]
        by_run.setdefault((one.run_id, did), []).append(f"{v.claim} ({v.quantity}{found}, bound {v.bound})")
    for (run_id, did), parts in by_run.items():
        yield f"{run_id} {did}: {', '.join(parts)}"


def _without_limits(claim: Claim) -> Claim:
    return replace(claim, max_ms={}, min_items_per_s={}) if isinstance(claim, TimeClaim) else claim


# --- which claims -------------------------------------------------------------------------------------------------------


def _measured_claims(target: ExpectationFile, evidence: Evidence) -> list[Claim]:
    """Claims of the file whose bounds come from runs like this one."""
    return [c for c in target.claims if c.source.kind == "measured" and _applies(c, evidence)]


def _applies(claim: Claim, evidence: Evidence) -> bool:
    any_size = isinstance(claim, MechanismClaim) and claim.size is None
    return claim.workload == evidence.workload and (any_size or claim.size == evidence.size)


def _missing(
    target: ExpectationFile, others: Sequence[ExpectationFile], wanted: Sequence[MechanismClaim], evidence: Evidence
) -> list[Claim]:
    """A time claim for each variant that has none against the baseline, and each wanted claim that is not there."""
    here = [c for c in target.claims if _applies(c, evidence)]
    taken = {c.id for f in (target, *(o for o in others if o.hardware_key == ANY)) for c in f.claims}
    found: list[Claim] = []
    names = list(evidence.variants)
    baseline = "baseline" if "baseline" in names else names[0]
    timed = {c.variant for c in here if isinstance(c, TimeClaim)}
    for variant in names:
        if variant != baseline and variant not in timed:
            found.append(
                _time_claim(_free_id(time_id(evidence.workload, variant), evidence, taken), baseline, variant, evidence)
            )
    known = {_said(c) for c in here if isinstance(c, MechanismClaim)}
    for claim in wanted:
        if claim.workload != evidence.workload or claim.variant not in names or _said(claim) in known:
            continue
        if claim.against is None or claim.against in names:
            found.append(replace(claim, id=_free_id(claim.id, evidence, taken), size=evidence.size))
    return found


def _said(claim: MechanismClaim) -> tuple[str | None, ...]:
    return claim.variant, claim.metric, claim.of, claim.stage, claim.against


def _free_id(wish: str, evidence: Evidence, taken: Collection[str]) -> str:
    """`wish`, with the size behind it if that id is taken (by the claim of another size), else with a number."""
    if wish not in taken:
        return wish
    sized = f"{wish}.{slug(evidence.size or '') or 'any'}"
    return next(i for i in chain((sized,), (f"{sized}.{n}" for n in count(2))) if i not in taken)


def _time_claim(claim_id: str, baseline: str, variant: str, evidence: Evidence) -> TimeClaim:
    return TimeClaim(
        id=claim_id,
        workload=evidence.workload,
        variant=variant,
        baseline=baseline,
        size=evidence.size,
        ratio=Bound(1.0, float("inf")),
        max_ms={name: float("inf") for name in (baseline, variant)},
        why=f"{variant} does the same work as {baseline} in less time; mechanism claims say why.",
        source=Source("model", None, "not measured yet"),
        provenance=None,
    )
