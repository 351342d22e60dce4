"""Reasons to refuse a verdict: wrong outputs, different work, a trace that contradicts its variant's prediction.

A fast answer to another question is not a speedup. Required work (items, model FLOPs, input and output bytes, inputs) must
be the same for every variant in every process; moved bytes may differ between variants, but each variant must move
what it predicted. All functions are pure and answer with sentences; no sentence, no objection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ...analyze.result import Analysis
from .evidence import Answer, Evidence, VariantEvidence
from .verdict import Verdict

BYTES_TOLERANCE: Final = 0.01
"""A trace may differ from the predicted bytes by this fraction, and by `BYTES_SLACK`, before it contradicts them:
libraries copy scalars and tables of their own. A missing or doubled copy of a microbatch is far outside."""

BYTES_SLACK: Final = 4096
"""Bytes per iteration that a library may move unannounced: one page."""

DIRECTIONS: Final = ("h2d", "d2h", "d2d", "p2p")


@dataclass(frozen=True, slots=True)
class BytesCheck:
    """Predicted against traced bytes of one direction, per iteration. `state`: agrees, contradicted, unavailable."""

    variant: str
    direction: str
    predicted: int
    found: float | None
    state: str
    reason: str


def objections(evidence: Evidence, variants: Sequence[str]) -> tuple[str, ...]:
    """Every reason why no verdict on `variants` may be given; empty if there is none.

    Work is compared over the whole run, since nobody can tell which of two differing variants did the right work;
    outputs and moved bytes are those of `variants` alone.
    """
    involved = [evidence.variants[name] for name in variants]
    found = [*(_outputs(evidence, v) for v in involved), _work(evidence), _inputs(evidence)]
    found += [sentence for v in involved for sentence in _proof(v)]
    found += [check.reason for v in involved for check in byte_checks(v) if check.state == "contradicted"]
    found += [evidence.stated.conflict] if evidence.stated else []
    return tuple(sentence for sentence in found if sentence)


def beforehand(verdicts: Sequence[Verdict], run_id: str, digest: str = "") -> tuple[Verdict, ...]:
    """`verdicts` on run `run_id`; what is met by a bound that was measured in that very run is `unrecorded` instead.

    A bound taken from a run holds for it, whatever it says: nothing was written down before the run. `digest` is that of the
    run's manifest: a copy under another name is the same run.
    """
    reason = "the bound was measured in this run, which meets it by construction; judge a later run"
    own = [(run_id in v.source.runs or digest in v.measured_in) and v.status in ("met", "exceeded") for v in verdicts]
    return tuple(replace(v, status="unrecorded", reason=reason) if o else v for v, o in zip(verdicts, own, strict=True))


def timer_objection(evidence: Evidence, variants: Sequence[str]) -> str:
    """Why the times of `variants` cannot be divided by each other; empty if they can."""
    timers = sorted({a.timer for name in variants for a in evidence.variants[name].answers})
    return f"times were taken with different timers: {', '.join(timers)}" if len(timers) > 1 else ""


def byte_checks(variant: VariantEvidence) -> tuple[BytesCheck, ...]:
    """One check for each direction that `variant` predicts, and one more for each recording that answers differently.

    None where it was not traced or predicts nothing.
    """
    if not variant.answers:
        return ()
    moved = variant.answers[-1].work.moved_bytes
    predictions = [(d, p) for d in DIRECTIONS if (p := moved.get(d)) is not None]
    traces = [made.analysis for made in variant.recordings if made.analysis is not None]
    checks = (_bytes_check(variant.name, trace, d, p) for d, p in predictions for trace in traces)
    return tuple(dict.fromkeys(checks))


def _bytes_check(name: str, analysis: Analysis, direction: str, predicted: int) -> BytesCheck:
    totals = {
        str(kind): (ops, nbytes)
        for kind, ops, nbytes in analysis.kinds.group_by("kind").sum().select("kind", "ops", "nbytes").rows()
    }
    ops, nbytes = totals.get(direction, (0, 0))
    iterations = analysis.iterations.height
    if iterations == 0:
        why = f"the trace of {name} has no iterations to divide its bytes by"
        return BytesCheck(name, direction, predicted, None, "unavailable", why)
    if ops and not nbytes:
        why = f"the {direction} operations in the trace of {name} carry no bytes"
        return BytesCheck(name, direction, predicted, None, "unavailable", why)
    found = nbytes / iterations
    slack = BYTES_TOLERANCE * predicted + BYTES_SLACK
    if abs(found - predicted) <= slack:
        return BytesCheck(name, direction, predicted, found, "agrees", "")
    if found < predicted and totals.get("graph", (0, 0))[0]:
        why = f"{name} replays CUDA graphs that were recorded whole, so its {direction} bytes cannot be counted"
        return BytesCheck(name, direction, predicted, found, "unavailable", why)
    why = (
        f"{name} predicts {predicted:,} {direction} bytes per iteration, but its trace shows {found:,.0f}"
        f" over {iterations} iterations"
    )
    return BytesCheck(name, direction, predicted, found, "contradicted", why)


def _outputs(evidence: Evidence, variant: VariantEvidence) -> str:
    if not evidence.outputs_compared:
        return ""
    if not variant.answers:
        return f"no output of {variant.name} was compared with a reference"
    for answer in variant.answers:
        out = answer.output
        if out.poisoned > 0:
            return f"{variant.name} left {out.poisoned:,} output elements unwritten in {answer.where}"
        # `ok` is the process's own opinion; its figures are asked as well.
        if not out.ok or out.error is None or not out.error <= out.tolerance:
            error = "not finite" if out.error is None else f"{out.error:.3g}"
            return (
                f"the output of {variant.name} in {answer.where} differs from the {out.reference} reference:"
                f" error {error}, tolerance {out.tolerance:.3g}"
            )
    return ""


def _proof(variant: VariantEvidence) -> tuple[str, ...]:
    """What the harness objects to, of the first process in which it does."""
    for answer in variant.answers:
        if answer.proof is not None and answer.proof.objections:
            return tuple(f"{sentence} ({answer.where})" for sentence in answer.proof.objections)
    return ()


def _work(evidence: Evidence) -> str:
    seen: tuple[str, Answer] | None = None
    promised: dict[str, Answer] = {}
    for name, variant in evidence.variants.items():
        for answer in variant.answers:
            if seen is None:
                seen = (name, answer)
            for field in ("items", "unit", "flops", "input_bytes", "output_bytes"):
                one, other = getattr(seen[1].work, field), getattr(answer.work, field)
                if one != other:
                    first, second = f"{seen[0]} in {seen[1].where}", f"{name} in {answer.where}"
                    return f"required work differs: {field} is {one} for {first} and {other} for {second}"
            before = promised.setdefault(name, answer)
            if dict(before.work.moved_bytes) != dict(answer.work.moved_bytes):
                return f"{name} predicts other moved bytes in {answer.where} than in {before.where}"
    return ""


def _inputs(evidence: Evidence) -> str:
    labels = ("workload", "device", "size", "seed")
    seen: tuple[str, Answer] | None = None
    for name, variant in evidence.variants.items():
        for answer in variant.answers:
            if seen is None:
                seen = (name, answer)
            for label, one, other in zip(labels, seen[1].inputs, answer.inputs, strict=True):
                if one != other:
                    first, second = f"{seen[0]} in {seen[1].where}", f"{name} in {answer.where}"
                    return f"inputs differ: {label} is {one} for {first} and {other} for {second}"
    return ""
