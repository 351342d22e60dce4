"""Predictions for what a word of the command line names: a variant of a run, whose untraced rounds count, or a bare trace."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...traces.errors import InputError
from ...traces.run import Run
from ..attribution.attribute import attribute
from ..attribution.steady import Seeking
from ..calibrated import calibration_for, keys
from ..operands import Operand, single
from .estimate import REFUSED, Base, Prediction, base_of, predict

APPLYING: Final = ("graph:iteration", "copies:overlap", "copies:pinned", "syncs", "allocator", "host:iteration")
"""What is tried unasked, on the whole iteration."""

WORTH: Final = 0.01
"""Gains below this share of an iteration are not worth a line unasked."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """What was found for one recording. `each` are changes by themselves, `together` those asked for, one after the other."""

    text: str
    base: Base
    each: tuple[Prediction, ...]
    together: Prediction | None


def predicted(given: Operand, changes: Sequence[str], domain: str | None, seeking: Seeking) -> Predicted:
    """Predictions for `given`, of the `changes` or, without any, of all that apply, the largest gain first.

    Raises `UsageError` for a change that is not known, and `InputError` where there is nothing to predict from.
    """
    one = single(given)
    source = one.source if one.variant is None else one.source.only(one.variant)
    variant, trace = next(source.traces(), (None, None))
    if trace is None:
        raise InputError(f"{given.text} has no recording; capture it with --profile minimal")
    found = calibration_for(keys(source.run, trace), Path.cwd())
    link: Mapping[str, float] = {}
    if found is not None:
        pinned = [one for one in found.links if one.memory == "pinned" and one.kind in ("h2d", "d2h")]
        link = {one.kind: one.best.median_bytes_per_s / 1e9 for one in pinned}
    untraced = None if one.source.run is None or variant is None else untraced_ns(one.source.run, variant)
    base = base_of(attribute(trace, domain=domain, seeking=seeking), link, untraced)
    if changes:
        made = tuple(predict(base, [said]) for said in changes)
        return Predicted(given.text, base, made, predict(base, changes) if len(changes) > 1 else None)
    now = base.untraced_ns or base.ns
    tried = [predict(base, [said]) for said in APPLYING]
    pays = [p for p in tried if p.estimate_ns is None or now - p.estimate_ns > WORTH * now]
    pays.sort(key=lambda p: now if p.estimate_ns is None else p.estimate_ns)
    if pays and all(p.grade == REFUSED for p in pays):
        pays = pays[:1]
    return Predicted(given.text, base, tuple(pays), None)


def untraced_ns(run: Run, variant: str) -> int | None:
    """The median over the untraced rounds of the mean of an iteration; null without any."""
    means = [
        statistics.mean(one.iterations_ns)
        for made in run.manifest.rounds
        for one in made.result.variants
        if one.name == variant and one.iterations_ns
    ]
    return round(statistics.median(means)) if means else None
