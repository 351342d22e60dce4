"""The sides of a comparison: what every section of the page is given.

A run has one side a variant, baseline first; a bare trace is one side without a name of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final
from zlib import crc32

import polars as pl

from ...analyze.attribution.stages import ITERATION, WINDOW
from ...analyze.result import AMBIGUOUS, NONE, ORPHAN, OUTSIDE, Analysis
from . import text
from .blocks import Para, strong
from .markup import LONGEST_NAME, clip


@dataclass(frozen=True, slots=True)
class Side:
    """One analysed trace and the name it goes by. `trace` is what its trace is found under, where the name does not show it."""

    name: str
    analysis: Analysis
    trace: str | None = None

    @property
    def key(self) -> str:
        """What its trace is found under: the variant, or the file as the trace names it."""
        return self.trace or self.analysis.variant or self.analysis.meta.file

    def moment(self, time_ns: int, start_ns: int) -> str:
        """The instant `time_ns` of the recording as the terminal tells it: from the trace's first operation; from `start_ns`
        where it has none."""
        first = self.analysis.first_op_ns
        return text.moment(time_ns - (start_ns if first is None else first))

    def trust(self, metric: str) -> tuple[str, str]:
        """Level and reason of a metric; ``ok`` where the analysis says nothing about it."""
        rows = self.analysis.trust.filter(pl.col("metric") == metric)
        return (rows["level"][0], rows["reason"][0]) if rows.height else ("ok", "")

    def cannot_tell(self, metric: str) -> str | None:
        """Why `metric` is unavailable, or null if it is available."""
        level, reason = self.trust(metric)
        return (reason or "no reason was given") if level == "unavailable" else None


def sides_of(analyses: Iterable[Analysis]) -> tuple[Side, ...]:
    """A side for each analysis, named by its variant or its file."""
    return tuple(Side(a.variant or clip(PurePath(a.meta.file).name, 40) or "trace", a) for a in analyses)


def caution(sides: Sequence[Side], *metrics: str) -> list[Para]:
    """A sentence for each metric that is not fully trusted on a side; nothing where all is well."""
    notes = []
    for metric in metrics:
        for side in sides:
            level, reason = side.trust(metric)
            if level == "ok":
                continue
            lead = "Cannot tell" if level == "unavailable" else "Read with care"
            who = strong(f"{lead} ({metric}, {side.name}): ")
            notes.append(Para((who, reason), f"caution {level}"))
    return notes


def device_name(side: Side, device: int | None) -> str:
    """``GPU 0`` or ``host``; null is a stage that ran on the host alone."""
    if device is None:
        return "host only"
    rows = side.analysis.devices.filter(pl.col("device") == device)
    return "host" if rows.height and rows["type"][0] == "host" else f"GPU {device}"


def several_devices(sides: Sequence[Side]) -> bool:
    """Whether rows have to say which device they mean."""
    return len({d for side in sides for d in side.analysis.windows["device"].to_list()}) > 1


STAGE: Final = pl.col("stage").str.replace("^iteration/", "")
"""The column `stage` as sides share it: a stage is ``iteration/h2d`` on the main thread and ``h2d`` on a worker's."""


_WORDS: Final = {
    ITERATION: "between stages, in an iteration",
    WINDOW: "outside iterations",
    NONE: f"{NONE} · no stage was open",
    AMBIGUOUS: f"{AMBIGUOUS} · several threads had a stage open",
    ORPHAN: f"{ORPHAN} · the launching call was not recorded",
    OUTSIDE: f"{OUTSIDE} · of stages that are not in the window",
}


def stage_label(path: str) -> str:
    """A stage path as a heading."""
    return _WORDS.get(path) or clipped(path.removeprefix("iteration/")) or "(unnamed)"


def clipped(path: str, longest: int = LONGEST_NAME) -> str:
    """A stage path in at most `longest` characters; a longer one ends in a checksum, so that no two read the same."""
    if len(path) <= longest:
        return path
    mark = f" ·{crc32(path.encode(errors='replace')):08x}"
    return clip(path, longest - len(mark)) + mark


def iterations(side: Side) -> int:
    """How many iterations the window holds (0: none are marked)."""
    return side.analysis.iterations.height
