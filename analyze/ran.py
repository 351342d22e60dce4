"""What a thread ran, in words, as CPU samples (table ``gap_functions``) or torch.profiler (``gap_code``) say it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import polars as pl

from ..traces.kineto.operators import FUNCTIONS
from ..traces.stage_domain import OPERATORS
from .words import duration, percent, shorten

WIDTH: Final = 48
"""Columns for a function's name: those of C++ templates run to thousands."""

TOP: Final = 0.25
"""The least share of the longest gaps for which what ran in them is named."""


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


def code_ran(rows: pl.DataFrame, most: int) -> list[str]:
    """Rows of table ``gap_code`` added up by name: ``functions: data.py(12): load 2.10 ms, data.py(7): open 1.20 ms``, for each
    domain that has any, with its `most` longest."""
    said = []
    for domain, called in ((FUNCTIONS, "functions"), (OPERATORS, "operators")):
        named = [f"{_short(name)} {duration(ns)}" for name, ns in _by_name(rows, domain).head(most).iter_rows()]
        if named:
            said.append(f"{called}: {', '.join(named)}")
    return said


def code_top(rows: pl.DataFrame, of_ns: int) -> str:
    """``data.py(12): load, for 83.2 % of their time``: what rows of ``gap_code`` say of gaps of `of_ns` together; empty where
    nothing takes `TOP` of it. A function of the program says more than an operator."""
    for domain in (FUNCTIONS, OPERATORS):
        for name, ns in _by_name(rows, domain).head(1).iter_rows():
            if ns >= TOP * of_ns:
                return f"{_short(name)}, for {percent(ns / of_ns)} of their time"
    return ""


def _by_name(rows: pl.DataFrame, domain: str) -> pl.DataFrame:
    named = rows.filter(pl.col("domain") == domain).group_by("name").agg(pl.col("ns").sum())
    return named.sort("ns", "name", descending=[True, False])


def _short(name: str) -> str:
    """``/srv/app/data.py(12): load`` as ``app/data.py(12): load``."""
    return shorten(_FOLDERS.sub("", name), WIDTH)


_FOLDERS: Final = re.compile(r"^.*/(?=[^/]+/[^/]+\(\d+\): )")


def _called(name: str, module: str | None) -> str:
    return shorten(name, WIDTH) + (f" ({shorten(module, WIDTH)})" if module else "")
