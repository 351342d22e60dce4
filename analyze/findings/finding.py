"""One finding, and one device as the rules see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import polars as pl

from ..result import IDLE, Analysis
from ..words import duration, percent, shorten

STAGE_WIDTH: Final = 40
"""Columns for a stage's path in a sentence."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found on one device.

    `what` names it in a few words, `evidence` is a sentence with its figures, `remedy` says what to do. `saving_at_most_ns` is
    the time of the window that it takes: with it gone entirely, and nothing in its place, the window is shorter by this much.
    `stage` is where most of it lies, null for none. `share` is of the device's window.
    """

    rule: str
    device: int
    stage: str | None
    what: str
    evidence: str
    saving_at_most_ns: int
    share: float
    remedy: str

    def said(self, several: bool) -> str:
        """One paragraph of all of it; with `several` devices it says which."""
        where = f", most of it in {shorten(self.stage, STAGE_WIDTH)}" if self.stage else ""
        device = f" of device {self.device}" if several else ""
        return (
            f"{_capital(self.what)}: {percent(self.share)}{device} ({duration(self.saving_at_most_ns)}){where}. "
            f"{_capital(self.evidence)}. To change that, {self.remedy}."
        )


Rule = Callable[["Device"], Iterator[Finding]]
"""Findings about one device, none or one; pure."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device of an analysis as the rules see it: its window and its ledger."""

    analysis: Analysis
    device: int
    window_ns: int
    ledger: pl.DataFrame

    def idle(self, *causes: str) -> pl.DataFrame:
        """The ledger's idle cells of these causes."""
        return self.ledger.filter((pl.col("category") == IDLE) & pl.col("cause").is_in(causes))

    def busy(self, *kinds: str) -> pl.DataFrame:
        """The ledger's cells of these kinds: time in which nothing of higher priority ran."""
        return self.ledger.filter(pl.col("category").is_in(kinds))

    def of(self, table: str) -> pl.DataFrame:
        """The rows of one of the analysis's tables that are about this device."""
        found: pl.DataFrame = getattr(self.analysis, table)
        return found.filter(pl.col("device") == self.device)

    def share(self, ns: int) -> float:
        """`ns` as a part of the window."""
        return ns / self.window_ns

    def part(self, cells: pl.DataFrame) -> str:
        """How much of the window these cells take, in words."""
        return percent(self.share(total(cells)))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def total(cells: pl.DataFrame) -> int:
    """The nanoseconds of ledger cells."""
    return int(cells["ns"].sum())


def stage_of(cells: pl.DataFrame) -> str | None:
    """The stage with most of the cells' time; null where none is named."""
    named = cells.filter(~pl.col("stage").str.starts_with("("))
    if named.is_empty():
        return None
    most = named.group_by("stage").agg(pl.col("ns").sum()).sort(["ns", "stage"], descending=[True, False])
    return str(most["stage"][0])
