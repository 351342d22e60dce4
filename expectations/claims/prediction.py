"""A claim that a prediction makes: how much faster a variant will be, written down before anybody has measured it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ...analyze.headroom.estimate import REFUSED, Base, Prediction
from ...traces.errors import UsageError
from ...traces.pair_timing import STEPS
from ...traces.run import Run
from ..model import Bound, Claim, Predicted, Provenance, Source, TimeClaim
from .skeleton import time_id

TOLERANCE: Final = {"estimate": 0.03, "indicative": 0.2}
"""Errors up to which a prediction of this grade came true: what the grades promise (docs/headroom.md)."""

ROOM: Final = 1.1
"""How much longer an iteration may take on another start of the machine: the limits in milliseconds are there for both sides
slowing down together, which the ratio does not see."""

NS: Final = 1e6


def predicted_claim(
    run: Run, baseline: str, variant: str, base: Base, made: Prediction, stages_ns: Mapping[str, float]
) -> TimeClaim:
    """The claim that `variant` will take what `made` says, within what its grade promises (`TOLERANCE`).

    `stages_ns` are an iteration's ns by stage. Raises `UsageError` for a refused prediction, and for a base without untraced
    rounds.
    """
    if made.grade == REFUSED or made.estimate_ns is None or made.at_most_ns is None:
        raise UsageError(f"{' '.join(made.changes)} is refused ({made.why}); there is nothing to write")
    if base.untraced_ns is None:
        raise UsageError(f"{run.path} has no untraced rounds of {baseline}; without them no time can be claimed")
    if made.estimate_ns <= 0:
        raise UsageError(f"{' '.join(made.changes)} leaves nothing of an iteration; there is no time to write")
    gain, within = base.untraced_ns / made.estimate_ns, 1 + TOLERANCE[made.grade]
    changes = ", then ".join(made.changes)
    manifest = run.manifest
    workload = manifest.workload
    return TimeClaim(
        id=f"{time_id(workload, variant)}_predicted",
        workload=workload,
        variant=variant,
        baseline=baseline,
        size=manifest.size,
        ratio=Bound(_digits(gain / within), _digits(gain * within)),
        max_ms={
            baseline: _digits(max(run.untraced_means_ns(baseline)) / NS * ROOM),
            variant: _digits(made.estimate_ns / NS * within * ROOM),
        },
        why=f"a replay of {baseline} with {changes} takes {made.estimate_ns / NS:.3f} ms",
        source=Source("model", None, f"predicted from {baseline} of {manifest.run_id}: {'; '.join(made.assumes)}"),
        # What iterations or steps of the baseline say is not said of whole processes.
        provenance=Provenance(timed_by="steps" if manifest.timed == STEPS else "iterations"),
        predicted=Predicted(
            run=manifest.run_id,
            changes=made.changes,
            grade="estimate" if made.grade == "estimate" else "indicative",
            base_ms=base.untraced_ns / NS,
            estimate_ms=made.estimate_ns / NS,
            at_most_ms=made.at_most_ns / NS,
            stages_ms={stage: _digits(ns / NS) for stage, ns in stages_ns.items() if ns >= 1},
        ),
    )


def with_prediction(claims: Sequence[Claim], made: TimeClaim) -> tuple[Claim, ...]:
    """`claims` with `made` in place of an earlier prediction of the same id, or behind them.

    Raises `UsageError` where that id is of a claim that no prediction wrote.
    """
    for position, claim in enumerate(claims):
        if claim.id != made.id:
            continue
        if not isinstance(claim, TimeClaim) or claim.predicted is None:
            raise UsageError(f"the claim {made.id!r} is there already, and no prediction wrote it; rename or delete it")
        return (*claims[:position], made, *claims[position + 1 :])
    return (*claims, made)


def refuse_measured(runs: Sequence[Run], made: TimeClaim) -> None:
    """Raise `UsageError` if one of `runs` has the variant of `made` already: then it is not a prediction."""
    for run in runs:
        m = run.manifest
        if (m.workload, m.size) == (made.workload, made.size) and any(v.name == made.variant for v in m.variants):
            raise UsageError(
                f"{run.path} has measured {made.variant} already; a prediction is written before. Name another variant with "
                "--variant, or move that run away"
            )


def _digits(value: float) -> float:
    """Five significant digits: more would pretend."""
    return float(f"{value:.5g}")
