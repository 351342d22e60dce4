"""What is slow, in words: the findings of each side, costliest first, and which iterations they are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...analyze.findings.find import NOTHING, find
from ...analyze.findings.first_lines import steady_sentences
from ...analyze.findings.missing import missing_sentences
from .markup import Html, element
from .sides import Side
from .tables import section

SHOWN: Final = 5
"""Findings of a side; `aisp-trace analyze --json` has all."""


def findings_section(sides: Sequence[Side]) -> Html | None:
    """A list for every side on whose devices anything ran, or that says why nothing did; null where there is none."""
    told = [side for side in sides if not side.analysis.windows.is_empty() or any(missing_sentences(side.analysis))]
    if not told:
        return None
    intro = element(
        "p",
        "Ranked by what a change could save at most: the time of the window that each rests on. No instant counts twice, except "
        "that slow iterations, contention and low clocks see the same time from another side.",
        class_="note",
    )
    return section("findings", "What is slow", intro, [_of(side, len(told) > 1) for side in told])


def _of(side: Side, named: bool) -> Html:
    missing = [
        element("p", f"{one[0].upper()}{one[1:].rstrip('.')}.", class_="note")
        for one in missing_sentences(side.analysis)
    ]
    if side.analysis.windows.is_empty():
        return element("div", element("h3", side.name) if named else None, missing)
    found = find(side.analysis)
    several = side.analysis.windows["device"].n_unique() > 1
    steady = [element("p", f"{one[0].upper()}{one[1:]}.", class_="note") for one in steady_sentences(side.analysis)]
    items = [element("li", one.said(several)) for one in found[:SHOWN]]
    more = element("p", f"and {len(found) - SHOWN} more in `aisp-trace analyze --json`", class_="note")
    return element(
        "div",
        element("h3", side.name) if named else None,
        missing,
        steady,
        element("ol", items) if items else element("p", NOTHING),
        more if len(found) > SHOWN else None,
    )
