"""The kernel tasks as text: what each computes, in which types, and what its parameters may be."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from ...kernels.task import Parameter, Task
from .console import Column, table, terminal_width

COLUMNS = (Column("task", "left"), Column("computes", "left", wrap=True), Column("types", "left", wrap=True))


def tasks_text(tasks: Sequence[Task]) -> str:
    """A table of `tasks`, then the parameters that each has, by what they mean."""
    rows = [(task.name, task.title, tuple(task.dtypes)) for task in tasks]
    lines = [table(COLUMNS, rows, spaced=True), "", "Parameters, the default first:"]
    users: dict[Parameter, list[str]] = {}
    for task in tasks:
        for parameter in task.parameters:
            users.setdefault(parameter, []).append(task.name)
    width = terminal_width()
    for parameter, names in users.items():
        values = [parameter.default, *(value for value in parameter.values if value != parameter.default)]
        text = f"{parameter.name} = {', '.join(map(str, values))}: {parameter.what} ({', '.join(names)})"
        lines += textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ")
    last = "Write one with `aisp-trace kernels emit TASK -o test.cu`."
    return "\n".join([*lines, "", *textwrap.wrap(last, width)])
