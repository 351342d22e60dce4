"""What is slow, before every table: one numbered paragraph a finding."""

from __future__ import annotations

from typing import Final

from ...analyze.findings.find import NOTHING, find
from ...analyze.result import Analysis
from .console import heading, say, say_wrapped

SHOWN: Final = 5
"""Findings printed; --json has all."""


def print_findings(analysis: Analysis) -> None:
    """The costliest findings, or one line that nothing stands out; nothing at all where no device did anything."""
    if analysis.windows.is_empty():
        return
    found = find(analysis)
    say()
    if not found:
        say_wrapped(NOTHING)
        return
    heading("What is slow, and its share of the window:")
    several = analysis.windows["device"].n_unique() > 1
    for number, one in enumerate(found[:SHOWN], 1):
        say_wrapped(one.said(several), f"{number}. ", "   ", style="bold yellow")
    if len(found) > SHOWN:
        say(f"   and {len(found) - SHOWN} more in --json")
