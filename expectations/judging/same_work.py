"""Whether a run does the work that a bound was measured on. Pure.

A workload's size has a name, and the name may come to stand for less: half of the FLOPs in every process alike is a speedup that
no comparison within the run sees.
"""

from __future__ import annotations

from ..model import Claim, RequiredWork
from .evidence import Evidence


def required_work(evidence: Evidence) -> RequiredWork | None:
    """What an iteration of the run has to do, which is the same for all of its variants; null where it is not stated."""
    for variant in evidence.variants.values():
        for answer in variant.answers:
            w = answer.work
            return RequiredWork(w.items, w.unit, w.flops, w.input_bytes, w.output_bytes) if w.unit else None
    stated = evidence.stated.work if evidence.stated else None
    return None if stated is None else RequiredWork(stated.items, stated.unit)


def other_work(claim: Claim, evidence: Evidence) -> str:
    """Why the claim's bound is not about this run's work; empty where it is, or where the bound does not say."""
    then = claim.provenance.work if claim.provenance else None
    if then is None:
        return ""
    now = required_work(evidence)
    if now is None:
        if evidence.stated is not None and evidence.stated.conflict:
            return ""  # what its processes state differs, which is invalid: no verdict is to be had by it
        return "the bound was measured on stated work, and this run states none"
    parts = [(name, getattr(then, name), getattr(now, name)) for name in RequiredWork.__dataclass_fields__]
    changed = [
        f"{name} {one:,} then, {other:,} now" if name != "unit" else f"{one} then, {other} now"
        for name, one, other in parts
        if one is not None and other is not None and one != other
    ]
    return f"the bound was measured on other work: {', '.join(changed)}; accept a new one" if changed else ""
