"""One finding, and one device as the rules see it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import polars as pl

from ..attribution.stages import MEASURED
from ..attribution.window import STEADY
from ..headroom.helps import now_of
from ..result import CAUSES, IDLE, Analysis
from ..words import duration, percent, shorten

STAGE_WIDTH: Final = 40
"""Columns for a stage's path in a sentence."""


EVERYWHERE: Final = "host:iteration"
"""The change that takes all of the host's time away, whatever its stage."""

MADE: Final = {
    "graph": "as one CUDA graph",
    "syncs": "with a single wait at its end",
    EVERYWHERE: "with a host that takes no time",
    "host": "without the host's time there",
    "copies:overlap": "with pinned copies on streams of their own",
    "allocator": "without allocator calls",
}
"""The changes of the rules, as a sentence names them."""

HALF: Final = 0.5
"""Below, most of a finding lies in other stages, or in none, than in the one that has the most of it."""

LEAST_PART: Final = 0.01
"""A stage with less of a finding is not named."""

LEAST_GAIN: Final = 1.01
"""Below, a replay is said to be no faster."""

FAULTING: Final = 0.05
"""From this share of the window on, page faults of the host make a replay without its time mean little."""

ABOVE_SHARE: Final = 1.05
"""So many times what its share alone allows, a replayed gain is said to hold more: iterations and the window differ a little."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found on one device.

    `what` names it in a few words, `evidence` is a sentence with its figures, `remedy` says what to do. `saving_at_most_ns` is
    the time of the window that it takes: with it gone entirely, and nothing in its place, the window is shorter by this much.
    `stage` is the one with the most of it, null for none, and `stage_share` how much of it that is, null where it is not a sum
    of stages. `share` is of the device's window. `command` shows it alone.

    Other work may hide under what goes, and other waits come in its place. Where the remedy is a change that a replay knows
    (`headroom`), `change` is that one and `gain` by how many times an iteration is as fast with it, of this `grade`; else null.
    `timed` is what is so much faster: the window, where no iterations were found.
    """

    rule: str
    device: int
    stage: str | None
    what: str
    evidence: str
    saving_at_most_ns: int
    share: float
    remedy: str
    command: str
    change: str | None = None
    gain: float | None = None
    grade: str | None = None
    timed: str = "an iteration"
    stage_share: float | None = None

    @property
    def saving_ns(self) -> int:
        """What findings are ranked by: the part of the window that a replay says is gained, else all that it takes."""
        if self.gain is None or not self.share:
            return self.saving_at_most_ns
        return round((1 - 1 / self.gain) * self.saving_at_most_ns / self.share)

    @property
    def bounded(self) -> bool:
        """Whether its time is the most that a cure saves: kernels wait between two faults, too, which counts as compute."""
        return self.rule != "migrations"

    def said(self, several: bool) -> str:
        """One paragraph of all of it; with `several` devices it says which."""
        device = f" of device {self.device}" if several else ""
        share = percent(self.share)
        evidence = re.sub(rf",? {re.escape(share)} of the time", "", self.evidence, count=1)  # once is enough
        return (
            f"{capital(self.what)}: {share}{device} ({duration(self.saving_at_most_ns)}){self.stage_words}. "
            f"{capital(evidence)}. Fix: {self.remedy}.{self.replay_words}"
        )

    @property
    def stage_words(self) -> str:
        """How much of it lies in its stage, after a comma: ``, 82 % of it in iteration/h2d``; empty where that has none worth
        naming. What is not quite all never rounds to it."""
        part = self.stage_share
        if self.stage is None or (part is not None and part < LEAST_PART):
            return ""
        stage = shorten(self.stage, STAGE_WIDTH)
        if part is None:
            return f", above all in {stage}"
        if part == 1:
            return f", all of it in {stage}"
        more = "" if part >= HALF else ", more than in any other stage"
        return f", {percent(min(part, 0.99), 0)} of it in {stage}{more}"

    @property
    def replay_words(self) -> str:
        """What a replay says that the remedy gains, after a space; empty where none was made."""
        if self.gain is None or self.change is None:
            return ""
        made = next(words for name, words in MADE.items() if self.change.startswith(name))
        if self.gain < LEAST_GAIN:
            return f" Replayed {made}, {self.timed} is no faster: something else takes as long."
        more = ": more than its share, since other waits go or are hidden, too" if self._above_share(self.gain) else ""
        return f" Replayed {made}, {self.timed} is {self.gain:,.2f}x as fast ({self.grade}){more}."

    def _above_share(self, gain: float) -> bool:
        """Whether a window without this finding's share alone would be slower than the replay."""
        return self.share < 1 and gain > ABOVE_SHARE / (1 - self.share)


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

    @property
    def iterations(self) -> int:
        """How many iterations the window was chosen to hold; 0 where it was chosen otherwise."""
        chosen = self.analysis.choices.window in (STEADY, MEASURED)
        return self.analysis.iterations["iteration"].n_unique() if chosen else 0

    @property
    def unit(self) -> str:
        """What is so much faster without a part of the window, in words."""
        return "an iteration" if self.iterations else "the window"

    @property
    def causes_unknown(self) -> bool:
        """Whether nobody can tell why the device idled."""
        rows = self.analysis.trust.filter(pl.col("metric") == "causes")
        return bool((rows["level"] == "unavailable").any())

    def share(self, ns: int) -> float:
        """`ns` as a part of the window."""
        return ns / self.window_ns

    def part(self, cells: pl.DataFrame) -> str:
        """How much of the window these cells take, in words."""
        return percent(self.share(total(cells)))


def devices_of(analysis: Analysis) -> Iterator[Device]:
    """The devices of an analysis whose windows last."""
    for device, start, end in analysis.windows.select("device", "start_ns", "end_ns").iter_rows():
        if end > start:
            yield Device(analysis, device, end - start, analysis.ledger.filter(pl.col("device") == device))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a rule rests on: `cells` of the ledger, and a sentence with its figures.

    `saving_ns` is their time unless given; `iteration` is the one it is about, if it is about one. `remedy` is a closer one than
    the rule's, empty for none.
    """

    cells: pl.DataFrame
    evidence: str
    saving_ns: int | None = None
    iteration: int | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: `see` says what it rests on, null where it does not apply; below `least` of the window it is silent. `change` is
    the one of `headroom` that its remedy makes, by how its name begins; empty for none."""

    name: str
    what: str
    least: float
    remedy: str
    see: Callable[[Device], Seen | None]
    change: str = ""

    def about(self, device: Device) -> Finding | None:
        """The finding on `device`, if it costs enough and the analysis trusts the causes that it rests on; pure."""
        seen = self.see(device)
        if seen is None:
            return None
        saving = total(seen.cells) if seen.saving_ns is None else seen.saving_ns
        blames = seen.saving_ns is None and seen.cells["cause"].is_in(CAUSES).any()
        if device.share(saving) < self.least or (blames and device.causes_unknown):
            return None
        stage, stage_share = stage_of(seen.cells)
        change, gain, grade = self._replayed(device, stage)
        return Finding(
            rule=self.name,
            device=device.device,
            stage=stage,
            what=self.what,
            evidence=seen.evidence,
            saving_at_most_ns=saving,
            share=device.share(saving),
            remedy=seen.remedy or self.remedy,
            command=_command(device.analysis, stage, seen.iteration),
            change=change,
            gain=gain,
            grade=grade,
            timed="the window" if "window" in device.analysis.replayed["found_by"] else "an iteration",
            stage_share=None if seen.iteration is not None else stage_share,
        )

    def _replayed(self, device: Device, stage: str | None) -> tuple[str | None, float | None, str | None]:
        """(change, gain, grade) of the change that the remedy makes; nulls where none was replayed, or where pages that the host
        fetches arrive in the replay when they did. Of changes to a stage, that of the finding's own `stage`, else of all of an
        iteration."""
        if self.change.startswith("host:") and device.share(total(device.idle("page_fault"))) >= FAULTING:
            return None, None, None
        analysis = device.analysis
        known = analysis.headroom.filter(pl.col("estimate_ns") > 0)  # of nothing that is left there is no gain to say
        rows = known.filter(pl.col("change").str.starts_with(self.change)) if self.change else known.clear()
        if self.change.endswith(":"):
            mine = rows.filter(pl.col("change") == f"{self.change}{stage}")
            rows = rows.filter(pl.col("change") == EVERYWHERE) if mine.is_empty() else mine
        if rows.is_empty():
            return None, None, None
        one, now = rows.row(0, named=True), now_of(analysis.replayed.row(0, named=True))
        return one["change"], now / one["estimate_ns"], one["grade"]


def _command(analysis: Analysis, stage: str | None, iteration: int | None) -> str:
    window = analysis.choices.window
    look = ["aisp-trace", "analyze", analysis.meta.file]
    if iteration is not None:
        look += ["--window", f"iteration#{iteration}"]
    else:
        look += ["--window", window] if isinstance(window, str) and analysis.variant is None else []
        look += ["--range", stage] if stage is not None else []
    return shlex.join(look)


def capital(text: str) -> str:
    """`text` as a sentence begins."""
    return text[0].upper() + text[1:]


def total(cells: pl.DataFrame) -> int:
    """The nanoseconds of ledger cells."""
    return int(cells["ns"].sum())


def stage_of(cells: pl.DataFrame) -> tuple[str | None, float | None]:
    """(the stage with most of the cells' time, the part of their time that it has); nulls where none is named."""
    named = cells.filter(~pl.col("stage").str.starts_with("("))
    if named.is_empty():
        return None, None
    most = named.group_by("stage").agg(pl.col("ns").sum()).sort(["ns", "stage"], descending=[True, False])
    whole = total(cells)
    return str(most["stage"][0]), most["ns"][0] / whole if whole else None
