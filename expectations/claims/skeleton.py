"""Claims for somebody to fill in: one time claim for each variant, with words where a reason and a bound belong.

JSON has no comments, so what is to be done stands in `why` and in the source's text. It asks that each variant be faster at all,
with limits in milliseconds so high that they bound nothing, and is judged once its notes are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...traces.errors import UsageError
from ...traces.hardware_key import slug
from ..model import Bound, Claim, Source, TimeClaim

TO_DO: Final = "TO DO"
"""What a claim still says that nobody has filled in. `validate` calls it a fault, and `check` judges nothing by such a claim."""

NO_LIMIT_MS: Final = 3_600_000
"""An hour for one iteration: there must be a limit, and this one is plainly none."""


def skeleton(workload: str, variants: Sequence[str], size: str | None) -> tuple[TimeClaim, ...]:
    """A claim for each of `variants` against "baseline", or the first where none is called so. `UsageError` for one alone."""
    baseline = "baseline" if "baseline" in variants else variants[0]
    others = [name for name in variants if name != baseline]
    if not others:
        raise UsageError(f"{workload} has the variant {baseline!r} alone; a speedup needs another to compare with it")
    return tuple(_claim(workload, baseline, name, size) for name in others)


def unfinished(claim: Claim) -> str:
    """Which notes of `claim` still say `TO_DO`, in words; empty if none does."""
    left = [key for key, text in (("why", claim.why), ("source.text", claim.source.text)) if TO_DO in text]
    return f"{' and '.join(left)} still say{'s' if len(left) == 1 else ''} {TO_DO}" if left else ""


def time_id(workload: str, variant: str) -> str:
    """Ids are plainer than names: a workload of the user's own may be called anything."""
    name = slug(workload)[:40] or "workload"
    return f"{name}.faster" if variant == "optimized" else f"{name}.{slug(variant)[:24] or 'variant'}_faster"


def _claim(workload: str, baseline: str, variant: str, size: str | None) -> TimeClaim:
    text = (
        f"{TO_DO}: say where ratio.min comes from: what you ask for, a calculation, a data sheet; 1 only asks that {variant} "
        "be faster. max_ms is an hour, which bounds nothing: a ratio alone does not see both sides slow down together, so write "
        "real limits, or {} on a machine whose speed changes"
    )
    return TimeClaim(
        id=time_id(workload, variant),
        workload=workload,
        variant=variant,
        baseline=baseline,
        size=size,
        ratio=Bound(1.0, None),
        max_ms=dict.fromkeys((baseline, variant), NO_LIMIT_MS),
        why=f"{TO_DO}: say what {variant} saves, such as copies that run under compute",
        source=Source("definition", None, text),
    )
