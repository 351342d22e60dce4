"""What times a pair of the user's commands: one rule, for the capture that writes it down and the judge that asks again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from .run import CommandAnswer

ITERATIONS: Final = "iterations"
"""Those that every command delimits itself (``capture.stages.iteration``)."""
STEPS: Final = "steps"
"""Training steps, from the end of one optimizer's ``step()`` to the end of the next (``capture/step_times.py``)."""
PROCESSES: Final = "processes"
"""Whole processes, start-up included."""

WORDS: Final = {ITERATIONS: "iterations", STEPS: "training steps", PROCESSES: "whole processes"}
"""Each of them in a sentence: timed by ..."""

FEWEST_STEPS: Final = 3
"""In a process, without its first: fewer are no loop, and begin and end of the process say as much."""


def timed_by(answers: Mapping[str, Sequence[CommandAnswer]]) -> tuple[str, str]:
    """(`ITERATIONS`, `STEPS` or `PROCESSES`, why neither of the first two); `answers` of every process, by variant.

    Steps stand for iterations where all processes made the same number of them, and none states its work: a statement is of
    the whole process where no iteration is delimited.
    """
    every = [(name, one) for name, some in answers.items() for one in some]
    if every and all(one.iterations_ns for _, one in every):
        return ITERATIONS, ""
    unmarked = [name for name, some in answers.items() if not all(one.iterations_ns for one in some)]
    marked = len(unmarked) < len(answers)
    for name, one in every:
        if not one.steps_ns:
            why = one.steps_lost or "it calls no optimizer of torch in its main thread"
            return PROCESSES, f"{unmarked[0]} times no iterations" if marked else f"{name} has no steps to time: {why}"
    if any(one.stated for _, one in every):
        return PROCESSES, "the commands state the work of whole processes"
    counts = {name: sorted({len(one.steps_ns) for one in some}) for name, some in answers.items()}
    if len({count for found in counts.values() for count in found}) > 1:
        shown = ", ".join(f"{name} {' or '.join(map(str, found))}" for name, found in counts.items())
        return PROCESSES, f"the commands make different numbers of training steps ({shown})"
    if every and len(every[0][1].steps_ns) < FEWEST_STEPS:
        return PROCESSES, f"the commands make fewer than {FEWEST_STEPS + 1} training steps"
    return STEPS, ""
