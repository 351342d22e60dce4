"""What is slow, before every table: one numbered paragraph a finding."""

from __future__ import annotations

from typing import Final

from ...analyze.findings.find import find
from ...analyze.findings.finding import Finding
from ...analyze.result import Analysis
from ...analyze.words import duration, percent, shorten
from .console import say, say_wrapped

SHOWN: Final = 5
"""Findings printed; --json has all."""

STAGE_WIDTH: Final = 40


def print_findings(analysis: Analysis) -> None:
    """The costliest findings, or one line that nothing stands out; nothing at all where no device did anything."""
    if analysis.windows.is_empty():
        return
    found = find(analysis)
    say()
    if not found:
        say("Nothing stands out: no rule finds a part of this window that is large enough to name.")
        return
    say("What is slow, and what it takes of the window:")
    several = analysis.windows["device"].n_unique() > 1
    for number, one in enumerate(found[:SHOWN], 1):
        say_wrapped(_sentence(one, several), f"{number}. ", "   ")
    if len(found) > SHOWN:
        say(f"   and {len(found) - SHOWN} more in --json")


def _sentence(one: Finding, several: bool) -> str:
    where = f", most of it in {shorten(one.stage, STAGE_WIDTH)}" if one.stage else ""
    device = f" of device {one.device}" if several else ""
    return (
        f"{one.what[0].upper()}{one.what[1:]}: {percent(one.share)}{device} ({duration(one.saving_at_most_ns)}){where}. "
        f"{one.evidence[0].upper()}{one.evidence[1:]}. To change that, {one.remedy}."
    )
