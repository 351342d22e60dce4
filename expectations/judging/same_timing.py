"""Whether a run times what a bound was measured on. Pure.

The commands of a pair are timed by whole processes until somebody marks their iterations. Milliseconds of a process with its
start-up and of one iteration are different quantities, and so are their ratios: a bound on one says nothing of the other.
"""

from __future__ import annotations

from typing import Final

from ...traces.pair_timing import WORDS
from ..model import Claim, MechanismClaim, TimedBy
from .evidence import ITERATION, STEP, WHOLE, Evidence

_CALLED: Final[dict[str, TimedBy]] = {ITERATION: "iterations", STEP: "steps", WHOLE: "processes"}


def timing(timed: str) -> TimedBy | None:
    """What a bound remembers of `Evidence.timed`; null for what no run is timed by (calls of a test's functions)."""
    return _CALLED.get(timed)


def by_words(timed: str) -> str:
    """`Evidence.timed` in words, in the plural: ``whole processes``."""
    called = timing(timed)
    return f"{timed}s" if called is None else WORDS[called]


def timed_otherwise(claim: Claim, evidence: Evidence) -> str:
    """Why the claim's bound is not about what this run times; empty where it is, or where the bound does not say.

    Of mechanism claims it is asked for counts and bytes: they are per iteration, where there are any. Shares are not.
    """
    then = claim.provenance.timed_by if claim.provenance else None
    if then is None or then == timing(evidence.timed):
        return ""
    if isinstance(claim, MechanismClaim) and claim.unit not in ("count", "bytes"):
        return ""
    return f"the bound was measured by {WORDS[then]}, this run by {by_words(evidence.timed)}; accept a new one"
