"""What is slow, before every table: one numbered paragraph a finding."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...analyze.findings.find import find
from ...analyze.findings.limits import limit_sentences
from ...analyze.findings.rules import waits_unknown
from ...analyze.result import Analysis
from .console import heading, say, say_wrapped

SHOWN: Final = 5
"""Findings printed; --json has all."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Other traces in the folder of one: how many, and the folder."""

    folder: Path
    traces: int


def print_findings(analysis: Analysis, beside: Beside | None = None) -> None:
    """The costliest findings, and what limits the window where there is none, or compute does all the same; nothing where no
    device did anything. What lies `beside` the trace may be the other ranks that its collectives wait for."""
    if analysis.windows.is_empty():
        return
    found = find(analysis)
    say()
    if not found:
        for sentence in limit_sentences(analysis):
            say_wrapped(sentence)
        return
    heading("What is slow, and its share of the window:")
    several = analysis.windows["device"].n_unique() > 1
    for number, one in enumerate(found[:SHOWN], 1):
        say_wrapped(one.said(several), f"{number}. ", "   ", style="bold yellow")
    if len(found) > SHOWN:
        say(f"   and {len(found) - SHOWN} more in --json")
    for sentence in limit_sentences(analysis, found):
        say_wrapped(sentence)
    if beside is not None and any(
        one.rule == "exposed_communication" and waits_unknown(analysis, one.device) for one in found
    ):
        command = shlex.join(["aisp-trace", "ranks", str(beside.folder)])
        others = "one more trace lies" if beside.traces == 1 else f"{beside.traces:,} more traces lie"
        say_wrapped(f"{others} beside this one; if this is a job of several ranks: `{command}`")
