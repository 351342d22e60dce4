"""One figure a topic of docs/definitions: a trace in literals, and what the analysis says of it.

Bars of stages, categories and causes, and every number in the lines below them, come from `analyze`; the literals are only what
was recorded. So a figure cannot say other than the product does, and tests/test_definitions.py compares it with the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from aisp_trace.tests.definitions import attributed, counted, explained
from aisp_trace.tests.definitions.drawing import Drawing

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "definitions"

FIGURES: Final[Mapping[str, Callable[[], Drawing]]] = {
    "work": attributed.work,
    "stages": attributed.stages_of_ops,
    "windows": attributed.windows,
    "ledger": attributed.gap,
    "host": attributed.waiting,
    "findings": explained.findings,
    "critical_path": explained.critical,
    "comparison": explained.comparison,
    "overlap": counted.overlap,
    "communication": counted.collectives,
    "bandwidth": counted.bandwidth,
    "counters": counted.counters,
    "launches": counted.launches,
    "memory": counted.memory,
    "unified_memory": explained.unified,
    "graphs": explained.graphs,
    "torch": explained.torch_modules,
}
"""By the name of the page and the file, without their endings."""
