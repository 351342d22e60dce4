"""All findings of an analysis, ranked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from ..result import Analysis
from .finding import Device, Finding, Rule
from .rules import RULES

NOTHING: Final = "Nothing stands out: no known problem costs enough of the window to be worth mentioning."
"""What is said where there is no finding."""


def find(analysis: Analysis, rules: Sequence[Rule] = RULES) -> tuple[Finding, ...]:
    """What `rules` find, what saves most first. Of several devices each rule names the one it costs most."""
    found: dict[str, Finding] = {}
    for row in analysis.windows.iter_rows(named=True):
        ledger = analysis.ledger.filter(pl.col("device") == row["device"])
        device = Device(analysis, row["device"], row["end_ns"] - row["start_ns"], ledger)
        if device.window_ns <= 0:
            continue
        for rule in rules:
            one = rule.about(device)
            if one is not None and (one.rule not in found or one.share > found[one.rule].share):
                found[one.rule] = one
    return tuple(sorted(found.values(), key=lambda one: (-one.saving_ns, one.rule)))
