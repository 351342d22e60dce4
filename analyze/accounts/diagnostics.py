"""What the recorder warned of, each message once, and whether it bears on how complete the recording is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import polars as pl

from ...traces.model import Trace
from ..result import SCHEMAS
from ..words import shorten

MOST: Final = 1_000
"""Messages that are kept: a recorder that warns of each buffer in words of its own says no more in the next thousand."""

WIDTH: Final = 240
"""Columns of a message in a sentence."""

INCOMPLETE: Final = re.compile(
    r"drop|los[ts]|discard|overflow|incomplete|not all |no \w+ events|missing|missed|truncat|out of memory|non-fatal|"
    r"not? (be |been )?(collected|recorded|started|supported|available|enabled|initialized|captured|traced)|disabl|"
    r"fail|unable|cannot|can't|could not|couldn't|insufficient|permission|denied|terminated|timed? ?out|too (many|large|old)",
    re.IGNORECASE,
)
"""Words by which a warning says that something may be missing. An error always bears on it."""


NONE_OF: Final = re.compile(r"\bno (NVTX|CUDA) events (were )?collected", re.IGNORECASE)
"""nsys says this of each process without such events, as of the launcher of a job."""


def diagnostic_table(trace: Trace) -> pl.DataFrame:
    """Table ``diagnostics`` of `trace`: errors first, then warnings, in the order of their first occurrence.

    "No NVTX events collected" does not bear on a trace that holds ranges, nor the same of CUDA on one with device operations.
    """
    there = {"NVTX": not trace.ranges.is_empty(), "CUDA": not trace.ops.is_empty()}
    diagnostics = trace.diagnostics
    serious = diagnostics.filter(pl.col("severity").is_in(["error", "warning"]) & pl.col("text").is_not_null())
    found: dict[tuple[str, str], int] = {}
    for severity, text in serious.sort("severity", maintain_order=True).select("severity", "text").iter_rows():
        key = (severity, " ".join(text.split()))
        if key in found or len(found) < MOST:
            found[key] = found.get(key, 0) + 1
    rows = [(s, text, n, s == "error" or _is_incomplete(text, there)) for (s, text), n in found.items()]
    return pl.DataFrame(rows, schema=SCHEMAS["diagnostics"], orient="row")


def _is_incomplete(text: str, there: Mapping[str, bool]) -> bool:
    none = NONE_OF.search(text)
    return INCOMPLETE.search(text) is not None and not (none and there[none[1].upper()])


def quoted(text: str) -> str:
    """A message as sentences quote it: on one line, and short."""
    return shorten(" ".join(text.split()), WIDTH)
