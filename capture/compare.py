"""Holding the processes of a run against each other: did they all do the same work, and rightly?

A difference does not stop a capture. It becomes a note of the run, shown at once, and `check` judges it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Final

from ..traces.run import ProcessResult, VariantResult, Work

REQUIRED: Final = tuple(field.name for field in fields(Work) if field.name != "moved_bytes")
"""The parts of `Work` that must be equal for all variants of a run."""


def differences(labelled: Sequence[tuple[str, ProcessResult]]) -> list[str]:
    """One sentence for each way in which the results disagree; `labelled` pairs each with the words for its process.

    Compared: required work over all variants and processes, predicted bytes of each variant over its processes,
    facts (versions, device names) over processes. Each wrong output is its own sentence.
    """
    every = [(label, variant) for label, result in labelled for variant in result.variants]
    notes = []
    for part in REQUIRED:
        notes += _unequal(
            f"required work differs in {part}", ((f"{v.name} in {label}", getattr(v.work, part)) for label, v in every)
        )
    for name in dict.fromkeys(variant.name for _, variant in every):
        mine = [(label, variant) for label, variant in every if variant.name == name]
        notes += _unequal(
            f"predicted bytes of {name} differ between processes",
            ((label, dict(variant.work.moved_bytes)) for label, variant in mine),
        )
        notes += _unequal(f"the timer of {name} differs between processes", ((la, v.timer) for la, v in mine))
        notes += _unequal(
            f"the generated kernels of {name} differ between processes", ((la, v.kernels) for la, v in mine)
        )
        notes += _wrong_outputs(name, mine)
    for key in sorted({key for _, result in labelled for key in result.facts}):
        notes += _unequal(
            f"fact {key!r} differs between processes", ((label, result.facts.get(key)) for label, result in labelled)
        )
    return notes


def _unequal(what: str, values: Iterable[tuple[str, Any]]) -> list[str]:
    """A sentence naming the first value and the first one that differs from it, or nothing."""
    pairs = list(values)
    for label, value in pairs[1:]:
        if value != pairs[0][1]:
            return [f"{what}: {pairs[0][1]!r} for {pairs[0][0]}, {value!r} for {label}"]
    return []


def _wrong_outputs(name: str, results: Sequence[tuple[str, VariantResult]]) -> list[str]:
    wrong = [(label, v.output) for label, v in results if not v.output.ok or v.output.poisoned]
    if not wrong:
        return []
    label, output = wrong[0]
    error = "infinite" if output.error is None else f"{output.error:.3g}"
    return [
        f"the output of {name} is wrong in {len(wrong)} of {len(results)} processes: in {label} its error against "
        f"{output.reference} is {error} where {output.tolerance:.3g} is tolerated, and {output.poisoned} elements were "
        "never written"
    ]
