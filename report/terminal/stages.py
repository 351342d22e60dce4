"""The stage table on the terminal. Where lines are short, columns that say least give way."""

from __future__ import annotations

from typing import Final

from ...analyze.attribution.bounded import OTHERS
from ...analyze.result import Analysis
from ...analyze.words import NOTHING
from ..stage_rows import StageColumn, legend, stage_table
from .console import GAP, Column, print_table, say, say_wrapped, terminal_width
from .details import ROWS_SHOWN

NAME: Final = "stage (ms)"

LEAST_NAME: Final = 24
"""What is left for a stage's name before columns give way."""

GIVING_WAY: Final = ("comm transfer", "own idle", "wait", "comm wait", "each", "share")
"""Columns that are left out of short lines, the first of them first."""

Rows = list[list[str | None]]


def print_stages(analysis: Analysis) -> None:
    """Nested stages are indented below their parents; a stage that launched nothing shows the idle time of all devices."""
    if analysis.stages.is_empty():
        return
    found = stage_table(analysis, ROWS_SHOWN)
    columns = found.columns
    rows = [["  " * row.depth + row.name, *(column.text(row) for column in columns)] for row in found.rows]
    if found.small:
        rows.append([found.small_name, *[None] * (len(columns) - 1), found.small_share])
    say("")
    columns, rows = _that_fit(columns, rows)
    print_table([Column(NAME, "left", shrink=True), *(Column(column.title) for column in columns)], rows)
    if found.shorter:
        say(f"{found.not_shown}; --depth and --stages choose, --json lists them")
    say_wrapped(legend(columns, NOTHING, host_only=analysis.host_only))
    if analysis.stage_names.height:
        say_wrapped("names that differ in numbers alone are one stage here; --no-fold lists each")
    if folded := analysis.choices.folded:
        say(f"{folded:,} less costly stages are folded: into what they nest in, else into {OTHERS}; --all lists them")


def _that_fit(columns: tuple[StageColumn, ...], rows: Rows) -> tuple[tuple[StageColumn, ...], Rows]:
    """The table without the columns of `GIVING_WAY` that leave a stage's name too little room."""
    room = terminal_width() - min(LEAST_NAME, max(len(row[0] or "") for row in rows))
    for title in (None, *GIVING_WAY):
        at = next((i for i, column in enumerate(columns) if column.title == title), None)
        if at is not None:
            columns, rows = columns[:at] + columns[at + 1 :], [row[: at + 1] + row[at + 2 :] for row in rows]
        widths = [
            max(len(column.title), *(len(row[i] or NOTHING) for row in rows)) for i, column in enumerate(columns, 1)
        ]
        if sum(widths) + len(GAP) * len(columns) <= room:
            break
    return columns, rows
