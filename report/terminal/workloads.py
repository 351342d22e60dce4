"""The workloads as text: a table of what each needs and proves, then its variants and where it can run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from ...workloads.catalog import Entry, devices_here
from .console import Column, table, terminal_width

COLUMNS: Final = (
    *(Column("workload", "left"), Column("variants", "left", wrap=True)),
    *(Column("needs", "left", wrap=True), Column("proves", "left", wrap=True)),
)


def workloads_text(entries: Sequence[Entry], gpus: int = 0) -> str:
    """`entries` on a machine with `gpus` GPUs; the variants' descriptions follow the table."""
    rows = [(entry.name, tuple(entry.variant_names), entry.needs, entry.proves) for entry in entries]
    lines = [table(COLUMNS, rows, spaced=True), ""]
    width = terminal_width()
    for entry in entries:
        lines += textwrap.wrap(f"{entry.name}: {entry.title}", width, subsequent_indent="    ")
        for name, description in entry.variants:
            need = entry.variant_needs.get(name)
            description += f" (needs {need})" if need else ""
            lines += textwrap.wrap(f"{name}: {description}", width, initial_indent="  ", subsequent_indent="    ")
        lines += textwrap.wrap(_here(entry, gpus), width, initial_indent="  ", subsequent_indent="    ")
        lines.append("")
    last = "Run one with `aisp-trace capture NAME`, or all that this machine can run without a name."
    return "\n".join(lines + textwrap.wrap(last, width))


def _here(entry: Entry, gpus: int) -> str:
    """Where this machine can run it, or why it cannot; and which variants it then lacks."""
    devices = devices_here(entry, gpus)
    if not devices:
        return f"This machine cannot run it: {entry.unmet(entry.devices[0], gpus)}."
    usable = gpus if "cuda" in devices else 0
    lacking = [name for name in entry.variant_names if entry.lacks(name, usable)]
    without = f", without {', '.join(lacking)}" if lacking else ""
    return f"This machine can run it on {' and '.join(devices)}{without}."
