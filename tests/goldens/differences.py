"""Where two answers differ, said so that a person can go there: table, column, first differing row, both values.

    traces[0].ledger[1].cells, column ns: 3 of 41 rows differ; first row 7 (category=idle, cause=sync): 120 -> 121

A list of objects is a table, what lies in its objects are its columns. Rows are compared by position; where their numbers
differ, the numbers and the first row that differs are said, not what follows from the shift.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

ABSENT: Final = "(absent)"
FIRST_ROW: Final = "first row that differs"
_LONGEST: Final = 160


@dataclass(frozen=True, slots=True)
class Place:
    """One value that differs: `column` of row `row` of the `rows` of `table`; row null where it is in no table."""

    table: str
    column: str
    row: int | None
    rows: int
    label: str
    stored: Any
    found: Any


def differences(stored: Any, found: Any) -> list[str]:
    """One line for each column (or value, or number of rows) in which `found` differs from `stored`; none if they are equal."""
    columns: dict[tuple[str, str], list[Place]] = {}
    for place in places(stored, found):
        columns.setdefault((place.table, place.column), []).append(place)
    return [_line(alike) for alike in columns.values()]


def places(stored: Any, found: Any) -> Iterator[Place]:
    """Every value that differs, in the order of `stored`. Text equal to a number differs from it, and 1 from 1.0."""
    yield from _places(stored, found, Place("", "", None, 0, "", None, None))


def _places(stored: Any, found: Any, here: Place) -> Iterator[Place]:
    if isinstance(stored, dict) and isinstance(found, dict):
        for key in [*stored, *(k for k in found if k not in stored)]:
            column = f"{here.column}.{key}" if here.column else str(key)
            yield from _places(stored.get(key, ABSENT), found.get(key, ABSENT), replace(here, column=column))
    elif _is_table(stored) and _is_table(found) and (stored or found):
        table = _path(here.table, here.row, here.column)
        if len(stored) == len(found):
            for index, (a, b) in enumerate(zip(stored, found, strict=True)):
                yield from _places(a, b, Place(table, "", index, len(stored), _label(a), None, None))
            return
        yield Place(table, "number of rows", None, 0, "", len(stored), len(found))
        common = min(len(stored), len(found))
        at = next((i for i in range(common) if not _same(stored[i], found[i])), common)
        a, b = (rows[at] if at < len(rows) else ABSENT for rows in (stored, found))
        yield Place(table, FIRST_ROW, at, len(stored), "", a, b)
    elif not _same(stored, found):
        yield replace(here, stored=stored, found=found)


def _same(a: Any, b: Any) -> bool:
    """Equal to the last digit: their texts are."""
    return a is b or json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _path(table: str, row: int | None, column: str) -> str:
    return ".".join(part for part in (table if row is None else f"{table}[{row}]", column) if part)


def _label(row: Mapping[str, Any]) -> str:
    """What names a row: its first three texts."""
    texts = [f"{key}={value}" for key, value in row.items() if isinstance(value, str) and value][:3]
    return ", ".join(texts)


def _line(alike: Sequence[Place]) -> str:
    first = alike[0]
    values = f"{_text(first.stored)} -> {_text(first.found)}"
    if first.row is None:
        return f"{_path(first.table, None, first.column)}: {values}"
    where = f"row {first.row}" + (f" ({_text(first.label, 80)})" if first.label else "")
    if first.column == FIRST_ROW:
        return f"{first.table}, {FIRST_ROW}: {where}: {values}"
    return f"{first.table}, column {first.column}: {len(alike)} of {first.rows} rows differ; first {where}: {values}"


def _text(value: Any, longest: int = _LONGEST) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
