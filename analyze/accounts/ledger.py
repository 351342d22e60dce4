"""The ledger: every nanosecond of a device's window, attributed exactly once.

Busy instants go to the op of highest priority (order of `traces.model.KINDS`, then earliest start, then op_id). Within one
priority, ops sorted by start own what `intervals.owned_from` gives them; a lower priority keeps what the cover of all
higher ones leaves:

    compute     |-----A-----|
    h2d      |----B----|  |---C---|
    owner    BBB AAAAAAAAAAAA CCCCC

Idle instants are the gaps of the union. A gap ends where an op X starts; X was launched by call L on thread T:

    gap      |.............................|X
    L                     |-----L----|
    T        ..call.stage.                       who is to blame
             host state of T | inside L | launch latency

If L had returned before the gap, X was waiting on the device: `queued`, `graph_internal` between two ops of one launch, or
`dependency` while work that its stream had been told to wait for still ran on another device.
Pieces before L are cut wherever T's stage, call or the iteration changes, and carry T's stage at that instant, or that of the
thread it waits for; all other pieces carry X's stage. Where X only interrupts a wait for another thread
(`attribution.interruptions`), that one is T, and all of the gap lies before its next launch. A gap that the window cuts has, in
its part inside, the stages and causes that it has as a whole: X may lie behind a window of instants, and the device may have run
dry before it. After the last op, or the last of a range's window, T is the thread that owns the window.

The cells of one device sum to its window: the parts are disjoint by construction, and `analyze` asserts the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.engine import primitive
from ...traces.model import KINDS
from ..attribution import calls as api
from ..attribution.host_state import BLOCKED, HostStates
from ..attribution.interruptions import Interrupted
from ..attribution.migrations import MIGRATION
from ..attribution.stages import NO_STAGE, Thread
from ..attribution.steps import NOTHING
from ..attribution.window import Span
from ..intervals import Cover, Ints, cover, gaps_in_turn, owned_from, place_right, union
from ..result import CAUSES

CAUSE: Final[Mapping[str, int]] = {name: i for i, name in enumerate(CAUSES)}
BUSY: Final = NOTHING
"""Cause of a busy cell."""


@dataclass(frozen=True, slots=True)
class DeviceOps:
    """The ops of one device with a positive length, sorted by (start, op_id), as arrays; `stage` are stage codes.

    `launched` tells of the launches of some of them, given their positions: few ops end a gap.
    """

    start_ns: Ints
    end_ns: Ints
    kind: npt.NDArray[np.integer]
    stage: npt.NDArray[np.integer]
    iteration: npt.NDArray[np.integer]
    launched: Callable[[npt.NDArray[np.integer]], Launched]
    awaited: Callable[[npt.NDArray[np.integer], Ints, Ints, Ints], Ints] | None = None
    """Of (positions of ops, when they were launched, start and end of the gaps before them): until when each gap waited for
    another device, its start where it did not (`dependencies`)."""


@dataclass(frozen=True, slots=True)
class Launched:
    """The launches of some ops. `call_*` describe the launching call; `call` is `NOTHING` without one. `pageable`: the op is a
    copy that touches pageable memory."""

    call: npt.NDArray[np.integer]
    launch: Ints  # equal for ops of one launch: a code of (pid, correlation)
    thread: npt.NDArray[np.integer]
    call_start_ns: Ints
    call_end_ns: Ints
    call_kind: npt.NDArray[np.integer]
    call_synchronous: npt.NDArray[np.bool_]
    pageable: npt.NDArray[np.bool_]

    def only(self, chosen: npt.NDArray[np.bool_]) -> Launched:
        """Those of the `chosen` ops."""
        return Launched(*(getattr(self, name)[chosen] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Cells:
    """Parts of a window, one row each: a stage code, iteration (or `NOTHING`), category (position in `KINDS`, or
    ``len(KINDS)`` for idle), cause (position in `CAUSES`, or `BUSY`) and length. Not yet summed."""

    stage: npt.NDArray[np.integer]
    iteration: npt.NDArray[np.integer]
    category: npt.NDArray[np.integer]
    cause: npt.NDArray[np.integer]
    ns: Ints


def summed(cells: Cells, path: npt.NDArray[np.integer]) -> pl.DataFrame:
    """(path, iteration, category, cause, ns): the cells summed over stages of one path (`path` replaces the stage code)."""
    table = _summed_by_table(cells, path) if len(path) else None
    if table is not None:
        return table
    return (
        pl.DataFrame(
            {
                "path": path,
                "iteration": cells.iteration.astype(np.int32),
                "category": cells.category.astype(np.int32),
                "cause": cells.cause.astype(np.int32),
                "ns": cells.ns,
            }
        )
        .filter(pl.col("ns") > 0)
        .group_by("path", "iteration", "category", "cause")
        .agg(pl.col("ns").sum())
    )


_SLICE: Final = 1 << 20
"""Cells that are summed at once."""

_TABLE: Final = 1 << 20
"""Conceivable cells up to which a table of all of them is made."""


def _summed_by_table(cells: Cells, path: npt.NDArray[np.integer]) -> pl.DataFrame | None:
    """`summed` through a table of all possible cells; null if there were too many of them."""
    names = ("path", "iteration", "category", "cause")
    columns = [path, cells.iteration, cells.category, cells.cause]
    lows = [int(c.min()) for c in columns]
    widths = [int(c.max()) - low + 1 for c, low in zip(columns, lows, strict=True)]
    if math.prod(widths) > _TABLE:
        return None
    total = np.zeros(math.prod(widths), np.int64)
    for first in range(0, len(path), _SLICE):  # the keys of some cells at a time
        some = slice(first, first + _SLICE)
        key = np.zeros(len(path[some]), np.int32)
        for column, low, width in zip(columns, lows, widths, strict=True):
            key *= width
            key += column[some] - low
        np.add.at(total, key, cells.ns[some])
    used = np.flatnonzero(total)
    rest, found = used, {}
    for name, low, width in reversed(list(zip(names, lows, widths, strict=True))):
        found[name] = pl.Series(rest % width + low, dtype=pl.Int32)
        rest = rest // width
    return pl.DataFrame({**{name: found[name] for name in names}, "ns": total[used]})


@dataclass(frozen=True, slots=True)
class Pieces:
    """The same parts of idle time as intervals in order of time, which fill the gaps: a stage code and a cause of each."""

    start_ns: Ints
    end_ns: Ints
    stage: Ints
    cause: Ints


@dataclass(frozen=True, slots=True)
class Gaps:
    """Idle intervals with the stage and cause of their largest piece and what opened them (position in `OPENED_BY`)."""

    start_ns: Ints
    end_ns: Ints
    stage: Ints
    cause: Ints
    opened_by: Ints

    def largest(self, most: int) -> Gaps:
        """The `most` longest of them, longest first; of equal ones the earlier."""
        negative = self.start_ns - self.end_ns
        rows = np.arange(len(negative))
        if 0 < most < len(rows):  # sort only those no shorter than the last one wanted
            rows = np.flatnonzero(negative <= np.partition(negative, most - 1)[most - 1])
        rows = rows[np.argsort(negative[rows], kind="stable")[:most]]
        return Gaps(*(getattr(self, name)[rows] for name in self.__slots__))

    @staticmethod
    def joined(several: Sequence[Gaps]) -> Gaps:
        """All of `several`, in their order."""
        if not several:
            return Gaps(*(np.empty(0, np.int64) for _ in Gaps.__slots__))
        return Gaps(*(np.concatenate([getattr(g, name) for g in several]) for name in Gaps.__slots__))


IDLE_CATEGORY: Final = len(KINDS)


def busy_cells(ops: DeviceOps, low: int, high: int) -> tuple[Cells, Cover]:
    """Cells of the busy part of ``[low, high)``, and the union of all ops clipped to it."""
    start, end = ops.start_ns, ops.end_ns
    if len(start) and (start[0] < low or end.max() > high):
        start, end = np.clip(start, low, high), np.clip(end, low, high)
    kind = ops.kind.astype(np.int8, copy=False)
    owned = _own(kind, start, end, len(KINDS))
    return Cells(ops.stage, ops.iteration, kind, np.full(len(start), BUSY, np.int8), owned), cover(start, end)


@primitive
def _own(kind: Ints, start: Ints, end: Ints, kinds: int) -> Ints:
    """How long each op, sorted by start, owns its device; the lower of `kinds` have priority."""
    ns = np.zeros(len(start), np.int64)
    above = Cover(start[:0], end[:0])
    for priority in range(kinds):
        rows = np.flatnonzero((kind == priority) & (end > start))
        begin, stop = owned_from(start[rows], end[rows]), end[rows]
        owns = stop > begin
        rows, begin, stop = rows[owns], begin[owns], stop[owns]
        ns[rows] = stop - begin - above.within(begin, stop)
        above = union(above, cover(begin, stop))
    return ns


FAULT_NS: Final = 40_000
"""How long before its first page moves a fault of the host begins. Measured where an H200's host read 96 MiB that a kernel had
written (traces/samples/h200_managed_recipe.cu): from one migration to the next went by 34 to 44 us, and 0.29 to 0.34 us more for
each KiB that the first one had brought, which the host read meanwhile."""

LATENCY_NS: Final = 1_000_000
"""An idle device begins what was launched on it within microseconds of the call's return: of 23,800 such launches in 18
recordings of H100s and H200s half did within 0.4 to 2.8 us and all but one within 11 (the one that touched managed memory: 340).
Where it takes longer than this, something that was not recorded held the stream, and nobody knows what."""

CHUNK: int = 1 << 17
"""Gaps that are looked into at once, so that what is known of each needs no memory for all of them."""


@dataclass(frozen=True, slots=True)
class Host:
    """What keeps a device waiting: the `states` of `threads`, which `Launched` numbers; `is_device`: it is the device itself.
    `interrupted` are gaps that do not wait for whoever launched the next op."""

    states: HostStates
    threads: Sequence[Thread]
    is_device: bool
    interrupted: Interrupted


def idle_cells(ops: DeviceOps, busy: Cover, span: Span, host: Host) -> Iterator[tuple[Cells, Gaps]]:
    """Cells of the idle part of `span`, and the gaps themselves, in order of time and some at once."""
    for g0, g1, parts, opened in _idle_parts(ops, busy, span, host):
        yield parts.cells(), parts.gaps(g0, g1, opened)


def idle_pieces(ops: DeviceOps, busy: Cover, span: Span, host: Host) -> Iterator[Pieces]:
    """What `idle_cells` sums, piece by piece, in order of time and some at once."""
    for _, _, parts, _ in _idle_parts(ops, busy, span, host):
        yield parts.pieces()


def _idle_parts(ops: DeviceOps, busy: Cover, span: Span, host: Host) -> Iterator[tuple[Ints, Ints, _Parts, Ints]]:
    """(start and end of some gaps, their parts, what opened them)."""
    last = _last_to_end(ops.end_ns)
    for g0, g1 in gaps_in_turn(busy, span.start_ns, span.end_ns, CHUNK):
        if len(g0):
            yield g0, g1, *_parts_of(ops, last, g0, g1, span, host)


def _parts_of(
    ops: DeviceOps, last: npt.NDArray[np.integer], g0: Ints, g1: Ints, span: Span, host: Host
) -> tuple[_Parts, Ints]:
    n = len(g0)
    x = place_right(ops.start_ns, g1 - 1)
    has_next = x < len(ops.start_ns)
    if span.owner is not None:
        has_next &= g1 < span.end_ns
    x = np.where(has_next, x, 0)
    if has_next.any():
        g1 = np.where(has_next, ops.start_ns[x], g1)  # the same but for a gap that the window ends
    parts = _Parts(span.end_ns)
    opened = np.full(n, BLOCKED.index("unknown"), np.int64)

    waits_for = np.where(has_next, host.interrupted.of(g1), NOTHING)
    for t in np.unique(waits_for[waits_for != NOTHING]).tolist():
        rows = np.flatnonzero(waits_for == t)
        _host_pieces(parts, opened, rows, g0[rows], g1[rows], host, host.threads[t])

    rows = np.flatnonzero(has_next & (waits_for == NOTHING))
    xs = x[rows]
    launched = ops.launched(xs)
    orphan = (launched.call < 0) & (launched.thread < 0)
    parts.add(
        rows[orphan], g0[rows[orphan]], g1[rows[orphan]], ops.stage[xs[orphan]], ops.iteration[xs[orphan]], "unknown"
    )

    rows, xs, launched = rows[~orphan], xs[~orphan], launched.only(~orphan)
    began = g0
    if (
        n and g0[0] == span.start_ns
    ):  # the device may have been idle before the window, and causes are those of the whole gap
        earlier = int(np.searchsorted(ops.start_ns, span.start_ns, side="left"))
        began = g0.copy()
        began[0] = ops.end_ns[last[earlier - 1]] if earlier else np.iinfo(np.int64).min
    returned = launched.call_end_ns <= began[rows]
    previous = last[np.maximum(xs - 1, 0)]
    same_launch = (xs > 0) & (ops.launched(previous).launch == launched.launch)
    r, q = rows[returned & same_launch], xs[returned & same_launch]
    parts.add(r, g0[r], g1[r], ops.stage[q], ops.iteration[q], "graph_internal")
    chosen = returned & ~same_launch
    r, q = rows[chosen], xs[chosen]
    until = g0[r] if ops.awaited is None else ops.awaited(q, launched.call_start_ns[chosen], g0[r], g1[r])
    parts.add(r, g0[r], until, ops.stage[q], ops.iteration[q], "dependency")
    parts.add(r, until, g1[r], ops.stage[q], ops.iteration[q], "queued")
    opened[rows[returned]] = BLOCKED.index("queued")

    rows, xs, launched = rows[~returned], xs[~returned], launched.only(~returned)
    faulted = (launched.call < 0) & (ops.kind[xs] == MIGRATION) & (not host.is_device)
    launch_from = np.clip(launched.call_start_ns, g0[rows], g1[rows])
    launch_to = np.clip(launched.call_end_ns, launch_from, g1[rows])
    inside = _inside_launch(launched)
    parts.add(rows, launch_from, launch_to, ops.stage[xs], ops.iteration[xs], inside)
    until = launch_to if ops.awaited is None else ops.awaited(xs, launched.call_start_ns, launch_to, g1[rows])
    parts.add(rows, launch_to, until, ops.stage[xs], ops.iteration[xs], "dependency")
    slow = g1[rows] - np.where(until > launch_to, until, launched.call_end_ns) > LATENCY_NS
    latency = np.where(slow & (launched.call >= 0), CAUSE["unknown"], CAUSE["launch_latency"])
    parts.add(rows, until, g1[rows], ops.stage[xs], ops.iteration[xs], latency)
    thread = launched.thread
    for t in np.flatnonzero(np.bincount(thread)).tolist() if len(xs) else ():
        mine = thread == t
        r, until, faults = rows[mine], launch_from[mine], faulted[mine]
        begun = np.where(faults, np.maximum(until - FAULT_NS, g0[r]), until)
        _host_pieces(parts, opened, r[faults], begun[faults], until[faults], host, host.threads[t], "page_fault")
        _host_pieces(parts, opened, r, g0[r], begun, host, host.threads[t])
    in_launch = launch_from == g0[rows]
    blocked = np.where(inside == CAUSE["copy_api"], BLOCKED.index("copy_api"), BLOCKED.index("host"))
    opened[rows[in_launch]] = blocked[in_launch]

    rows = np.flatnonzero(~has_next)
    if span.owner is None:
        nothing = np.full(len(rows), NO_STAGE, np.int64)
        parts.add(rows, g0[rows], g1[rows], nothing, nothing, "tail")
    else:
        _host_pieces(parts, opened, rows, g0[rows], g1[rows], host, span.owner)
    return parts, opened


def _inside_launch(launched: Launched) -> Ints:
    """Cause of the time inside the launching call of each op."""
    kind = launched.call_kind
    blocking = (kind == api.COPY) & (launched.pageable | launched.call_synchronous)
    slow = api.LOADS[kind] & (launched.call_end_ns - launched.call_start_ns > api.LAZY_LOAD_NS)
    out = np.full(len(kind), CAUSE["launch_api"], np.int64)
    out[blocking] = CAUSE["copy_api"]
    out[slow] = CAUSE["lazy_load"]
    return out


def _host_pieces(
    parts: _Parts,
    opened: Ints,
    rows: npt.NDArray[np.integer],
    start: Ints,
    end: Ints,
    host: Host,
    thread: Thread,
    code: str = "host_code",
) -> None:
    """Cut ``[start, end)`` of each gap by what the host thread was doing; `code` is the cause where it ran its own."""
    which, begin, stop, stage, iteration, cause, blocked = host.states.walk(thread, host.is_device, start, end)
    cause = np.where(cause == CAUSE["host_code"], cause.dtype.type(CAUSE[code]), cause)
    parts.add(rows[which], begin, stop, stage, iteration, cause)
    opened[rows] = blocked


def _last_to_end(end: Ints) -> npt.NDArray[np.integer]:
    """For each op the op up to it (in order of start) that ends last; of equal ends the later one."""
    if len(end) == 0:
        return end
    reach = np.maximum.accumulate(end)
    return np.maximum.accumulate(np.where(end >= reach, np.arange(len(end), dtype=np.int32), np.int32(0)))


class _Parts:
    """Collects pieces of gaps as arrays, cut at `high`; empty pieces are dropped."""

    def __init__(self, high: int) -> None:
        self._high = high
        self._columns: list[tuple[Ints, Ints, Ints, Ints, Ints, Ints]] = []

    def add(self, gap: Ints, start: Ints, end: Ints, stage: Ints, iteration: Ints, cause: str | Ints) -> None:
        causes = np.full(len(gap), CAUSE[cause], np.int64) if isinstance(cause, str) else cause
        end = np.minimum(end, self._high)
        keep = end > start
        columns = (gap, start, end - start, stage, iteration, causes)
        self._columns.append(tuple(column[keep] for column in columns))  # type: ignore[arg-type]

    def _joined(self) -> tuple[Ints, ...]:
        if not self._columns:
            return tuple(np.empty(0, np.int64) for _ in range(6))
        return tuple(np.concatenate(c) for c in zip(*self._columns, strict=True))

    def cells(self) -> Cells:
        _, _, ns, stage, iteration, cause = self._joined()
        return Cells(stage, iteration, np.full(len(ns), IDLE_CATEGORY, np.int64), cause, ns)

    def pieces(self) -> Pieces:
        _, start, ns, stage, _, cause = self._joined()
        order = np.argsort(start, kind="stable")
        return Pieces(start[order], (start + ns)[order], stage[order], cause[order])

    def gaps(self, start: Ints, end: Ints, opened: Ints) -> Gaps:
        gap, _, ns, stage, _, cause = self._joined()
        most = np.zeros(len(start), np.int64)
        np.maximum.at(most, gap, ns)
        winners = np.flatnonzero(ns == most[gap])
        largest = np.zeros(len(start), np.int64)  # every gap has a piece
        largest[gap[winners]] = winners  # of equal pieces the last
        return Gaps(start, end, stage[largest], cause[largest], opened)
