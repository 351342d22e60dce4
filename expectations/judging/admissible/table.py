"""The table: every row by name, and what its findings do to a verdict. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from ...model import Claim, TimeClaim
from ..evidence import Evidence
from ..verdict import Verdict
from . import bounds, machine, occasion, plan, readings, traced, whole, work
from .asked import INVALID, NAMED, Asked, Finding, first_of_each, processes_of


def examine(evidence: Evidence) -> tuple[Finding, ...]:
    """What the rows about a run find; empty for an admissible run, and where there is no manifest to ask."""
    if evidence.manifest is None:
        return ()
    asked = Asked(evidence, evidence.manifest, tuple(processes_of(evidence.manifest)))
    return tuple(finding for row in RUN_ROWS.values() for finding in row(asked))


def admit(
    verdicts: Iterable[Verdict], claim: Claim, evidence: Evidence, findings: Sequence[Finding]
) -> tuple[Verdict, ...]:
    """The verdicts on `claim` as far as the run, and the claim's own bound, let them stand."""
    involved = {claim.variant, claim.baseline if isinstance(claim, TimeClaim) else claim.against}
    timed = isinstance(claim, TimeClaim)
    here = [f for f in findings if (not f.variants or involved & set(f.variants)) and (timed or not f.times)]
    here += [found for row in CLAIM_ROWS.values() for found in row(claim, evidence)]
    return tuple(_admitted(verdict, here) for verdict in verdicts)


def _admitted(verdict: Verdict, findings: Sequence[Finding]) -> Verdict:
    if verdict.status not in ("met", "exceeded", "missed", "inconclusive"):
        return verdict
    named = "".join(f"; {f.text}" for f in findings if f.grade == NAMED)
    grave = [f for f in findings if f.grade != NAMED]
    texts = "; ".join(f.text for f in grave)
    if not grave:
        return verdict if verdict.status == "inconclusive" else replace(verdict, reason=verdict.reason + named)
    if verdict.status == "missed":
        return replace(verdict, reason=f"{verdict.reason}; besides, {texts}{named}")
    status = "invalid" if any(f.grade == INVALID for f in grave) else "inconclusive"
    return replace(verdict, status=status, reason=f"{texts}; apart from that, {verdict.reason}{named}")


RUN_ROWS: Final[Mapping[str, Callable[[Asked], Iterator[Finding]]]] = {
    "left out": whole.left_out,
    "device": machine.facts("device"),
    "machine": machine.hardware,
    "versions": machine.facts("versions"),
    "driver": machine.driver,
    "settings": machine.facts("settings"),
    "clock limits": machine.clocks,
    "sources": machine.sources,
    "commands": plan.commands,
    "iterations": plan.iterations,
    "answers": plan.answered,
    "asked for": plan.asked_for,
    "kept answers": work.kept_answers,
    "tolerances": work.tolerances,
    "proofs": work.proofs,
    "repeated input": work.repeated_input,
    "spans": occasion.spans,
    "host clock": occasion.host_clock,
    "repeated times": readings.repeated,
    "readings": readings.impossible,
    "rounds": plan.rounds,
    "times": occasion.times_in_order,
    "wall time": occasion.wall,
    "exit codes": occasion.exits,
    "recordings": traced.recordings,
    "trace files": traced.trace_files,
    "trace iterations": first_of_each(traced.trace_iterations),
    "trace times": first_of_each(traced.trace_times),
    "recording cost": traced.slowdown,
    "device time": first_of_each(traced.device_time),
    "no work stated": work.zero_work,
    "no work traced": work.device_work,
    "faster than hardware": work.too_fast,
    "untimed work": work.moved_out,
    "idle command": work.idle_commands,
}
"""Row of the table -> what it asks of a run."""

CLAIM_ROWS: Final[Mapping[str, Callable[[Claim, Evidence], Iterator[Finding]]]] = {
    "circumstances": bounds.provenance,
    "edited bound": bounds.edited,
}
"""Row of the table -> what it asks of a claim's bound, and of a run beside it."""

ROWS: Final = (*RUN_ROWS, *CLAIM_ROWS, "same run")
"""Every row of the table; `validity.beforehand` asks the last one, by the digest of what was measured."""
