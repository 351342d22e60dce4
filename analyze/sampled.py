"""What CPU samples say a thread ran, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from .words import percent, shorten

WIDTH: Final = 48
"""Columns for a function's name: those of C++ templates run to thousands."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """`samples` looks at what a thread ran; `functions` are (name, module, how many of them), most first. Samples without any
    named function are among `samples` alone."""

    samples: int
    functions: tuple[tuple[str, str | None, int], ...]

    def sentence(self, most: int) -> str:
        """``x_add (python3) in 31 of 120, memcpy (libc.so.6) in 20``: the `most` frequent functions."""
        if not self.functions:
            return f"{self.samples:,}, none in a function whose name is known"
        named = [f"{_called(name, module)} in {n:,}" for name, module, n in self.functions[:most]]
        return ", ".join([f"{named[0]} of {self.samples:,}", *named[1:]])

    def top(self) -> str:
        """``x_add (python3), in 31 of 120 CPU samples (25.8 %)``."""
        name, module, n = self.functions[0]
        return f"{_called(name, module)}, in {n:,} of {self.samples:,} CPU samples ({percent(n / self.samples)})"


def sampled(rows: pl.DataFrame) -> Sampled | None:
    """Rows of table ``gap_functions`` added up by function; null where there are no samples."""
    if rows.is_empty():
        return None
    total = rows.group_by("function", "module").agg(pl.col("samples").sum()).drop_nulls("function")
    total = total.sort(["samples", "function", "module"], descending=[True, False, False])
    return Sampled(int(rows["samples"].sum()), tuple(total.select("function", "module", "samples").rows()))


def _called(name: str, module: str | None) -> str:
    return shorten(name, WIDTH) + (f" ({shorten(module, WIDTH)})" if module else "")
