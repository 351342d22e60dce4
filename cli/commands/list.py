"""``aisp-trace list``: the workloads there are, what each needs and what it proves."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import typer

from ...workloads.catalog import CATALOG, Entry
from ..console import print_json, say_lines
from ..every import usable_gpus

SCHEMA: Final = "aisp-trace/list/1"
WIDTH: Final = 80
COLUMNS: Final = (("workload", 20), ("variants", 14), ("needs", 17), ("proves", 23))
"""Heading and width of each column; with two spaces between them they fill `WIDTH`."""


def run(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON envelope instead of a table.")] = False,
) -> None:
    """List the workloads: their variants, what each needs, and what it proves."""
    if as_json:
        print_json(envelope(CATALOG, usable_gpus()))
    else:
        say_lines(table(CATALOG, usable_gpus()))


def envelope(entries: Sequence[Entry], gpus: int = 0) -> dict[str, Any]:
    """All facts of `entries` as plain JSON types (``docs/json.md``), and where a machine with `gpus` GPUs runs them."""
    return {"schema": SCHEMA, "workloads": [_facts(entry, gpus) for entry in entries]}


def table(entries: Sequence[Entry], gpus: int = 0) -> str:
    """`entries` as text of at most `WIDTH` columns; the variants' descriptions follow the table."""
    lines = [_line(heading for heading, _ in COLUMNS), _line("-" * width for _, width in COLUMNS)]
    for entry in entries:
        lines += [*_rows(entry), ""]
    for entry in entries:
        lines += textwrap.wrap(f"{entry.name}: {entry.title}", WIDTH, subsequent_indent="    ")
        for name, description in entry.variants:
            need = entry.variant_needs.get(name)
            description += f" (needs {need})" if need else ""
            lines += textwrap.wrap(f"{name}: {description}", WIDTH, initial_indent="  ", subsequent_indent="    ")
        lines += textwrap.wrap(_here(entry, gpus), WIDTH, initial_indent="  ", subsequent_indent="    ")
        lines.append("")
    lines.append("Run one with `aisp-trace capture NAME`, or all that this machine can run without a name.")
    return "\n".join(lines[:-1] + textwrap.wrap(lines[-1], WIDTH))


def _here(entry: Entry, gpus: int) -> str:
    """Where this machine can run it, or why it cannot; and which variants it then lacks."""
    devices = _devices(entry, gpus)
    if not devices:
        return f"This machine cannot run it: {entry.unmet(entry.devices[0], gpus)}."
    usable = gpus if "cuda" in devices else 0
    lacking = [name for name in entry.variant_names if entry.lacks(name, usable)]
    without = f", without {', '.join(lacking)}" if lacking else ""
    return f"This machine can run it on {' and '.join(devices)}{without}."


def _devices(entry: Entry, gpus: int) -> list[str]:
    return [device for device in entry.devices if not entry.unmet(device, gpus)]


def _facts(entry: Entry, gpus: int) -> dict[str, Any]:
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
        "variant_needs": dict(entry.variant_needs),
        "changes": dict(entry.changes),
        "gpus": entry.gpus,
        "runs_here_on": _devices(entry, gpus),
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
