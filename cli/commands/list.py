"""``aisp-trace list``: the workloads there are, what each needs and what it proves."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import typer

from ...workloads.catalog import CATALOG, Entry
from ..console import print_json, say

SCHEMA: Final = "aisp-trace/list/1"
WIDTH: Final = 80
COLUMNS: Final = (("workload", 20), ("variants", 14), ("needs", 17), ("proves", 23))
"""Heading and width of each column; with two spaces between them they fill `WIDTH`."""


def run(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON envelope instead of a table.")] = False,
) -> None:
    """List the workloads: their variants, what each needs, and what it proves."""
    if as_json:
        print_json(envelope(CATALOG))
    else:
        say(table(CATALOG))


def envelope(entries: Sequence[Entry]) -> dict[str, Any]:
    """All facts of `entries` as plain JSON types (``docs/json.md``)."""
    return {"schema": SCHEMA, "workloads": [_facts(entry) for entry in entries]}


def table(entries: Sequence[Entry]) -> str:
    """`entries` as text of at most `WIDTH` columns; the variants' descriptions follow the table."""
    lines = [_line(heading for heading, _ in COLUMNS), _line("-" * width for _, width in COLUMNS)]
    for entry in entries:
        lines += [*_rows(entry), ""]
    for entry in entries:
        lines += textwrap.wrap(f"{entry.name}: {entry.title}", WIDTH, subsequent_indent="    ")
        for name, description in entry.variants:
            lines += textwrap.wrap(f"{name}: {description}", WIDTH, initial_indent="  ", subsequent_indent="    ")
        lines.append("")
    lines.append("Run one with `aisp-trace capture NAME`, or all that this machine can run without a name.")
    return "\n".join(lines[:-1] + textwrap.wrap(lines[-1], WIDTH))


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "variants": [{"name": name, "description": description} for name, description in entry.variants],
        "needs": entry.needs,
        "proves": entry.proves,
        "devices": list(entry.devices),
        "sizes": list(entry.sizes),
        "default_iterations": entry.default_iterations,
        "default_warmup": entry.default_warmup,
        "process_per_variant": entry.process_per_variant,
        "module": entry.module,
    }


def _rows(entry: Entry) -> list[str]:
    """The entry's cells, each wrapped to its column, side by side."""
    cells = ([entry.name], list(entry.variant_names), [entry.needs], [entry.proves])
    wrapped = [
        [line for text in cell for line in textwrap.wrap(text, width)]
        for cell, (_, width) in zip(cells, COLUMNS, strict=True)
    ]
    height = max(map(len, wrapped))
    return [_line(column[i] if i < len(column) else "" for column in wrapped) for i in range(height)]


def _line(cells: Iterable[str]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True)).rstrip()
