"""Rows about a claim's bound: what has changed since it was measured, and whether a hand has edited it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ....traces.figures import significant
from ...claims.digest import is_changed
from ...deciding import OCCASION
from ...metrics.registry import METRICS, greatest
from ...model import Claim, TimeClaim
from ..evidence import Evidence
from ..starts import LEAST_FRACTION, SURE, between_starts
from .asked import INVALID, NAMED, OBJECTION, Finding


def provenance(claim: Claim, evidence: Evidence) -> Iterator[Finding]:
    then, manifest = claim.provenance, evidence.manifest
    if then is None or manifest is None:
        return
    # Not the commit: it differs whenever somebody changes the program, which is what a gate is for.
    parts = [
        ("driver", then.driver, manifest.hardware.driver),
        ("torch", then.torch, manifest.packages.get("torch")),
    ]
    later = then.recorded_utc is not None and then.recorded_utc > manifest.created_utc
    if later:
        yield Finding(NAMED, f"the bound was measured at {str(then.recorded_utc)[:40]}, after this run")
    same_second = then.recorded_utc == manifest.created_utc and then.evidence and manifest.digest not in then.evidence
    if same_second and manifest.run_id not in claim.source.runs:
        yield Finding(
            INVALID, "the run was complete in the very second in which the bound's was, and is an edited copy of it"
        )
    changed = [f"{what} {one} then, {other} now" for what, one, other in parts if one and other and one != other]
    if changed:
        yield Finding(NAMED, f"changed since the bound was measured: {', '.join(changed)}")


_NUMBER: Final = r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_READING: Final = re.compile(
    rf"{_NUMBER}(?: \({_NUMBER} to {_NUMBER}\))? (?:over \d+ \w+|in one recording)(?: in [^;]+)?"
)
_EARLIER: Final = re.compile(r"and \d+ earlier runs")

ROOM: Final = 1.5
"""How much more room than `derive` gives a bound may have: the source's text rounds what it was derived from."""

OWN: Final = (
    "to decide it yourself, set source.kind to 'definition', say in source.text where the number comes from, and remove "
    "source.run, source.also and provenance; to have a measured one again, undo the edit or `accept` a run with --allow-loosen"
)
"""What to do about an edited bound: if the edit is meant, it is not what a run measured."""


def edited(claim: Claim, evidence: Evidence) -> Iterator[Finding]:
    """A measured bound is what `accept` wrote, by its digest; with or without one, it has the room that accepting gives, neither
    more nor less. Limits in ms are in the digest alone, and not in the text."""
    if is_changed(claim):
        yield Finding(
            OBJECTION,
            "the bound was edited by hand: it does not fit the digest that `accept` gave it (`aisp-trace expectations diff` "
            f"shows what changed since the last commit); {OWN}",
        )
        return
    readings = _readings(claim.source.text)
    if readings is None:
        return
    values, complete = readings
    low, high = min(v[1] for v in values), max(v[2] for v in values)
    least, most = _room(claim, values)
    bound = claim.ratio if isinstance(claim, TimeClaim) else claim.bound
    said = f"its source says {claim.source.text.removeprefix('accepted: ')[:120]}"
    if bound.minimum is not None and (
        bound.minimum > low + _rounding(low) or (complete and bound.minimum < least - _rounding(least))
    ):
        yield Finding(
            OBJECTION, f"the bound was edited by hand: its minimum is {significant(bound.minimum)}, and {said}; {OWN}"
        )
    elif bound.maximum is not None and (
        bound.maximum < high - _rounding(high) or (complete and bound.maximum > most + _rounding(most))
    ):
        yield Finding(
            OBJECTION, f"the bound was edited by hand: its maximum is {significant(bound.maximum)}, and {said}; {OWN}"
        )


def _readings(text: str) -> tuple[list[tuple[float, float, float]], bool] | None:
    """((value, low, high) of each occasion, whether all are listed); null for text that `accept` did not write."""
    if not text.startswith("accepted: "):
        return None
    parts = text.removeprefix("accepted: ").split("; ")
    told = [part for part in parts if not _EARLIER.fullmatch(part)]
    found = [_READING.fullmatch(part) for part in told]
    if not found or not all(found):
        return None
    values = [(float(m[1]), float(m[2] or m[1]), float(m[3] or m[1])) for m in found if m]
    return values, len(told) == len(parts)


def _room(claim: Claim, values: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """The least minimum and the greatest maximum that accepting could have made of `values`."""
    middle = [value for value, _, _ in values]
    low, high = min(v[1] for v in values), max(v[2] for v in values)
    reach = max(*(top - bottom for _, bottom, top in values), max(middle) - min(middle))
    alone = len(values) == 1
    if not isinstance(claim, TimeClaim):
        metric = METRICS.get(claim.metric)
        if metric is not None and metric.counted:
            return low, high
        starts = 2 * SURE * max(between_starts(claim, value)[0] for value in middle)
        reach = max(reach, starts)
        if greatest(claim.metric, claim.unit) is not None:
            allowance = min(OCCASION, max(min(middle[0], 1 - middle[0]), 0.0) / 2) if alone else 0.0
            reach = max(reach, allowance, LEAST_FRACTION)
            return low - ROOM * reach - 0.01, high + ROOM * reach + 0.01
    reach = max(reach, OCCASION * abs(middle[0]) if alone else 0.0)
    edges = (low - ROOM * reach, high + ROOM * reach)
    return edges[0] - 0.01 * abs(edges[0]), edges[1] + 0.01 * abs(edges[1])


def _rounding(value: float) -> float:
    """What four significant figures may hide."""
    return 1e-3 * abs(value) + 1e-12
