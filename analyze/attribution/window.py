"""The time that is accounted for.

Without a window (``all``) each device is accounted from its first op's start to its last op's end. ``START:END`` gives
instants on the trace's own clock, ``+START:+END`` counts from the first op. ``step#5:step#14`` lasts from the start of one
range to the end of another. ``steady`` are the steady iterations (``steady.py``). A range (``measured``, a stage path, or the
third of several instances as ``path#2``, counted in each process by itself) gives, per device, ``[range start, max(range end,
end of the last op that belongs to it))``: device work outlives the range that launched it.
The window ``measured`` is trimmed to the iterations in it, since opening and closing a recording takes time within it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from ...traces.columns import SLICE
from ...traces.errors import UsageError
from ...traces.model import TABLES, Trace
from ...traces.sums import LATEST_NS, MOST_SPAN
from ..intervals import Ints
from .folding import ranges_called, without_last_number
from .stages import ITERATION, MEASURED, Stages, Thread

WindowSpec = tuple[int, int] | str | int | None
"""Instants, a range by name or path (or `STEADY`, or two as a slice), a range by its `range_id`, or everything."""

WHOLE: Final = "all"
"""The word for everything. A range of that name is ``all#0``."""

STEADY: Final = "steady"
"""The word for the steady iterations; likewise."""

WORDED: Final = "write START:END (1.5ms:20ms), +START:+END after the first operation, a range, all or steady"


@dataclass(frozen=True, slots=True)
class Offsets:
    """Instants counted from the first op of the trace, as gaps are printed."""

    start_ns: int
    end_ns: int

    def after(self, first_ns: int) -> tuple[int, int]:
        """The instants on the trace's clock."""
        return first_ns + self.start_ns, first_ns + self.end_ns


@dataclass(frozen=True, slots=True)
class Window:
    """What to account for: instants, or the stages (positions) whose time and work it is; neither: everything.

    `roots` hold at most one range of each process; `trimmed`: only their iterations count.
    """

    instants: tuple[int, int] | None = None
    roots: Ints | None = None
    trimmed: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is the whole recording, so that nothing is cut."""
        return self.instants is None and self.roots is None


@dataclass(frozen=True, slots=True)
class Span:
    """The window of one device; `owner` is the thread of its range, if it has one."""

    device: int
    start_ns: int
    end_ns: int
    owner: Thread | None


def parse_window(text: str) -> WindowSpec | Offsets:
    """``START:END`` (ns, or with a unit: ``1.5ms:20ms``) as instants, with ``+`` before both as `Offsets`, ``all`` as null,
    anything else as a range's name."""
    if text == WHOLE:
        return None
    match = re.fullmatch(r"([-+]?[\d.]+)(ns|us|ms|s)?:([-+]?[\d.]+)(ns|us|ms|s)?", text)
    if not match:
        return text
    if match[1].startswith("+") != match[3].startswith("+"):
        raise UsageError(f"--window {text[:80]!r} counts one end from the first operation and one not; {WORDED}")
    unit = {None: 1, "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
    try:
        start, end = (round(float(match[i]) * unit[match[i + 1]]) for i in (1, 3))
    except (ValueError, OverflowError) as exc:
        raise UsageError(f"--window {text[:80]!r} holds no two numbers; write START:END, e.g. 1.5ms:20ms") from exc
    if max(abs(start), abs(end)) >= LATEST_NS or end - start > MOST_SPAN:
        raise UsageError(
            f"--window {text[:80]!r} is longer than the {MOST_SPAN // 86_400_000_000_000} days a recording may span, or beyond "
            "any clock; write START:END within the trace"
        )
    if end <= start:
        raise UsageError(f"--window {text!r} ends before it starts; write START:END with START < END")
    return Offsets(start, end) if match[1].startswith("+") else (start, end)


def resolve(spec: WindowSpec, stages: Stages) -> Window:
    """`spec` against the ranges of a trace.

    Raises `UsageError` if no range has that name or path, or if several of one process have it and none was chosen.
    """
    if spec is None:
        return Window()
    if isinstance(spec, tuple):
        if spec[1] < spec[0]:
            raise UsageError(f"the window {spec[0]}:{spec[1]} ends before it starts; give (start, end) in this order")
        return Window(instants=spec)
    if isinstance(spec, int):
        found = np.flatnonzero(stages.range_id == spec)
        if len(found) == 0:
            raise UsageError(
                f"range {spec} is not a stage of this trace; its stages are ranges of domain {stages.domain!r}"
            )
        return Window(roots=found)
    rows, wanted, number = ranges_called(stages, spec)
    if len(rows) == 0 and (instants := _slice(spec, stages)) is not None:
        return Window(instants=instants)
    if len(rows) == 0:
        from ...traces.faults import nearest

        known = sorted(set(stages.paths))
        if wanted.lower() in SUPERLATIVES:
            raise UsageError(
                f"no range is called {wanted!r}; `aisp-trace analyze` without --window names the slowest iteration in its first "
                f"lines, and --window '{ITERATION}#2' then looks at it alone"
            )
        raise UsageError(f"no range is called {wanted!r}{nearest(wanted, known, '`aisp-trace analyze` lists them')}")
    rows = _chosen(rows, wanted, number, stages)
    return Window(roots=rows, trimmed=spec == MEASURED)


SUPERLATIVES: Final = ("slowest", "longest", "worst", "max")
"""What people write for the iteration that took longest."""


def _slice(text: str, stages: Stages) -> tuple[int, int] | None:
    """From the start of one range to the end of another, ``step#5:step#14``; null if `text` names no two ranges."""
    for colon in re.finditer(":", text):
        sides = [ranges_called(stages, part) for part in (text[: colon.start()], text[colon.end() :]) if part]
        if len(sides) == 2 and all(len(rows) for rows, _, _ in sides):
            first, last = (_chosen(*side, stages) for side in sides)
            start, end = int(stages.start_ns[first].min()), int(stages.end_ns[last].max())
            if end <= start:
                raise UsageError(f"--window {text[:80]!r} ends before it starts; name the earlier range first")
            return start, end
    return None


def _chosen(rows: Ints, wanted: str, number: int | None, stages: Stages) -> Ints:
    """Of the ranges `rows`, called `wanted`, the one that `number` asks for in each process.

    Raises `UsageError` if there is none, or if several of one process are left.
    """
    if number is not None:
        rows = rows[np.argsort(stages.start_ns[rows], kind="stable")]
        ones = [rows[stages.pid[rows] == pid] for pid in np.unique(stages.pid[rows])]
        most = max(len(one) for one in ones)
        if number >= most:
            where = " in one process at most" if len(ones) > 1 else ""
            raise UsageError(f"range {wanted!r} has {most} instances{where}, so there is no #{number}; count from 0")
        rows = np.sort(np.concatenate([one[[number]] for one in ones if len(one) > number]))
    if len(np.unique(stages.pid[rows])) < len(rows):
        raise UsageError(
            f"range {wanted!r} has {len(rows)} instances; choose one, e.g. --window '{without_last_number(wanted)}#0'"
        )
    return rows


def spans_of(window: Window, found: Stages, ops: pl.DataFrame, stage: Ints) -> list[Span]:
    """The window of every device that has ops: of a range, in it; of instants, at any time, because idling counts.

    `stage` is the code of each of `ops`, `found` are all ranges of the domain.
    """
    times = ops.select("device", "start_ns", "end_ns")
    hulls = _hulls(pl.concat([times.clear(), *(_hulls(part) for part in times.iter_slices(SLICE))])).sort("device")
    if window.roots is None:
        limits = [(d, *(window.instants or (low, high))) for d, low, high in hulls.iter_rows()]
        return [Span(d, low, high, None) for d, low, high in limits if high > low]
    devices, out = hulls["device"].to_list(), []
    device, pid, end = (ops[name].to_numpy() for name in ("device", "pid", "end_ns"))
    for d in devices:
        own = stage >= 0
        if len(devices) > 1:
            own &= device == d
        used = window.roots[np.isin(found.pid[window.roots], pid[own])] if own.any() else window.roots[:0]
        if len(used) == 0:
            continue
        spanning = _spanning(used, found) if window.trimmed else used
        low = int(found.start_ns[spanning].min())
        high = max(int(found.end_ns[spanning].max()), int(end[own].max()))
        last = used[np.argmax(found.end_ns[used])]
        if high > low:
            out.append(Span(d, low, high, (int(found.pid[last]), int(found.tid[last]))))
    return out


def _spanning(roots: Ints, found: Stages) -> Ints:
    """The iterations of the ``measured`` ranges `roots`, else these themselves.

    Opening and closing the recording takes time inside `measured` that is the recorder's, not the program's.
    """
    inside = np.flatnonzero(np.isin(found.parent, roots))
    iterations = np.intersect1d(inside, found.named(ITERATION))
    return iterations if len(iterations) else roots


def _hulls(times: pl.DataFrame) -> pl.DataFrame:
    """The first start and the last end of each device."""
    return times.group_by("device").agg(pl.col("start_ns").min(), pl.col("end_ns").max())


def extent(trace: Trace) -> tuple[int, int]:
    """The earliest start and the latest time in the tables of the trace; zeros where there is none."""
    names = ("start_ns", "end_ns", "time_ns")
    times = [column for table in TABLES for column in trace.table(table).iter_columns() if column.name in names]
    first = min((t for c in times if c.name == "start_ns" and isinstance(t := c.min(), int)), default=0)
    return first, max((t for c in times if isinstance(t := c.max(), int)), default=0)
