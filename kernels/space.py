"""The combinations of a task's parameters that make sense, in the order in which a search should try them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from .task import Parameter, Settings, Task


def defaults(task: Task) -> dict[str, int | str]:
    """The values for when nothing was measured."""
    return {parameter.name: parameter.default for parameter in task.parameters}


def objection(task: Task, settings: Settings) -> str | None:
    """Why these values do not go together; null: they do. `settings` has a value for every parameter."""
    return next((constraint.why for constraint in task.constraints if not constraint.holds(settings)), None)


def combinations(task: Task) -> Iterator[dict[str, int | str]]:
    """Every valid combination once: the defaults first, then those that differ from them in one value, in two, and so on.

    Combinations that differ in equally many come in the order of the parameters and of their values.
    """
    names = [parameter.name for parameter in task.parameters]
    wanted = defaults(task)
    found = [
        made
        for values in itertools.product(*(parameter.values for parameter in task.parameters))
        if objection(task, made := dict(zip(names, values, strict=True))) is None
    ]
    yield from sorted(found, key=lambda made: sum(made[name] != wanted[name] for name in names))


def value(parameter: Parameter, text: str) -> int | str | None:
    """The value of `parameter` that is written as `text`; null if it has none such."""
    return next((known for known in parameter.values if str(known) == text), None)
