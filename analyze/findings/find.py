"""All findings of an analysis, ranked."""

from __future__ import annotations

from collections.abc import Sequence

from ..result import Analysis
from .finding import Finding, Rule, devices_of
from .rules import RULES


def find(analysis: Analysis, rules: Sequence[Rule] = RULES) -> tuple[Finding, ...]:
    """What `rules` find, what saves most first. Of several devices each rule names the one it costs most."""
    found: dict[str, Finding] = {}
    for device in devices_of(analysis):
        for rule in rules:
            one = rule.about(device)
            if one is not None and (one.rule not in found or one.share > found[one.rule].share):
                found[one.rule] = one
    return tuple(sorted(found.values(), key=lambda one: (-one.saving_ns, one.rule)))
