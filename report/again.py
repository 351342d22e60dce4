"""A trace attributed once more as its analysis was, for faces that show single operations."""

from __future__ import annotations

from ..analyze.attribution.attribute import Attributed, attribute
from ..analyze.attribution.selection import Selection
from ..analyze.attribution.stages import is_word
from ..analyze.attribution.window import STEADY
from ..analyze.result import Analysis, Choices
from ..traces.model import Trace


def attributed_as(analysis: Analysis, trace: Trace) -> Attributed:
    """`trace` by the choices that `analysis` was made with, in the window that it has."""
    choices, steady = analysis.choices, analysis.steady
    domain, asked, across = choices_of(trace, choices)
    window = steady.window if choices.window == STEADY and steady is not None else choices.window  # as they were found
    return attribute(trace, window=window, across=across, domain=domain, selection=asked, fold=choices.fold)


def choices_of(trace: Trace, choices: Choices) -> tuple[str | None, Selection, bool]:
    """The domain of the stages (null: the trace has none of that name), which ranges are stages, and whether launches of other
    threads count."""
    known = bool(is_word(trace.ranges["domain"], choices.domain).any())
    selection = Selection(choices.stages, choices.depth, choices.below)
    return choices.domain if known else None, selection, choices.attribution == "process"
