"""Memory taken from and given back to the driver: in use over time, per stage, and who allocated while a device waited.

Events are instants, apart for `device` memory, `pinned` host memory and module `static`s. In use is the running sum of what was
taken minus what was given back. A trace that begins late frees what it never saw allocated, as the addresses tell: so much must
have been there from the start, and the sum begins with it, or with more if that is what keeps it from falling below zero.

    events       +64   +64      -64   +128
    in use    0   64    128      64    192          peak of a stage: the most in use at any instant of any of its ranges
    stage           |------|                        128
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..attribution.calls import ALLOCATOR
from ..attribution.interruptions import Interrupted
from ..attribution.launches import Calls, Launches, launching_calls
from ..attribution.stages import ORPHAN_STAGE, Stages, Thread
from ..attribution.steps import NOTHING
from ..attribution.window import Span
from ..attribution.window_ops import WindowOps
from ..intervals import Cover, Ints, cover, gaps_in_turn
from ..result import SCHEMAS
from .gaps import OWNER, thread_of, waiting_for

GROUPS: Final = {
    "device": "device",
    "array": "device",
    "managed": "device",
    "unknown": "device",
    "pageable": "pinned",
    "pinned": "pinned",
    "device_static": "static",
    "managed_static": "static",
}
"""Which figure each memory kind counts for; pageable host memory in this table was registered with the driver."""


def memory_tables(
    events: pl.DataFrame,
    calls: Calls,
    stages: Stages,
    shown: npt.NDArray[np.intp],
    limits: tuple[int, int],
    *,
    across: bool,
) -> dict[str, pl.DataFrame]:
    """Tables ``memory``, ``memory_timeline`` and ``stage_memory``; `shown` are the stages to list, `limits` those of the window.

    The timeline covers the whole recording; counts, bytes and peaks are those of the window.
    """
    low, high = limits
    names = ("memory", "memory_timeline", "stage_memory")
    if events.is_empty():
        return {name: pl.DataFrame(schema=SCHEMAS[name]) for name in names}
    events = events.sort("time_ns", maintain_order=True).with_columns(
        pl.col("kind").cast(pl.String).replace_strict(GROUPS, default="device").alias("group"),
        pl.col("nbytes").fill_null(0),
    )
    events = events.with_columns(pl.Series("stage", _stage_of(events, calls, stages, across=across)))
    totals: list[dict[str, object]] = []
    timeline = [pl.DataFrame(schema=SCHEMAS["memory_timeline"])]
    staged: list[dict[str, object]] = []
    for device, group in events.select("device", "group").unique().sort("device", "group").rows():
        mine = events.filter((pl.col("device").eq_missing(pl.lit(device))) & (pl.col("group") == group))
        use = _InUse(mine)
        inside = mine.filter((pl.col("time_ns") >= low) & (pl.col("time_ns") < high))
        key: dict[str, object] = {"device": device, "kind": group}
        start, peak, end = use.at(low), use.peaks(np.array([low]), np.array([high]))[0], use.at(high)
        totals.append(key | _counts(inside) | {"start_bytes": start, "peak_bytes": int(peak), "end_bytes": end})
        timeline.append(
            pl.DataFrame({"time_ns": use.time, "in_use_bytes": use.after})
            .with_columns(pl.lit(device, pl.Int32).alias("device"), pl.lit(group).alias("kind"))
            .select(*SCHEMAS["memory_timeline"])
        )
        if group != "static":
            staged += [key | row for row in _per_stage(stages, mine, inside, use, shown, low, high)]
    return {
        "memory": pl.DataFrame(totals, schema=SCHEMAS["memory"]),
        "memory_timeline": pl.concat(timeline),
        "stage_memory": pl.DataFrame(staged, schema=SCHEMAS["stage_memory"]),
    }


class _InUse:
    """Bytes in use after each event; several at one instant count together."""

    def __init__(self, events: pl.DataFrame) -> None:
        time = events["time_ns"].to_numpy()
        change = np.where(events["is_free"].to_numpy(), -1, 1) * events["nbytes"].to_numpy()
        running = np.cumsum(change)
        last = np.r_[np.flatnonzero(np.diff(time)), len(time) - 1]
        self.before = max(_unseen_bytes(events), -int(running[last].min()))
        self.time: Ints = time[last]
        self.after: Ints = running[last] + self.before

    def at(self, instant: int) -> int:
        """In use just before `instant`."""
        i = int(np.searchsorted(self.time, instant, side="left"))
        return int(self.after[i - 1]) if i else self.before

    def peaks(self, start: Ints, end: Ints) -> Ints:
        """The most in use within each ``[start, end)``, what was there at its start included."""
        level = np.r_[self.before, self.after, 0]  # the last one is only there to be a legal end
        first = np.searchsorted(self.time, start, side="right")
        stop = np.maximum(np.searchsorted(self.time, end, side="left") + 1, first + 1)
        return np.asarray(np.maximum.reduceat(level, np.column_stack([first, stop]).ravel())[::2])


def _unseen_bytes(events: pl.DataFrame) -> int:
    """Bytes that are freed at addresses (of a process) at which nothing is known to have been allocated before."""
    earlier = pl.col("is_free").shift(1).over("pid", "address")
    unseen = pl.col("is_free") & earlier.fill_null(True) & pl.col("address").is_not_null()
    return int(events.select(pl.col("nbytes").filter(unseen).sum()).item())


def _stage_of(events: pl.DataFrame, calls: Calls, stages: Stages, *, across: bool) -> Ints:
    """The stage open on the thread that made the allocating call, when it began."""
    out = np.full(len(events), ORPHAN_STAGE, np.int64)
    wanted = events.select("pid", pl.col("correlation").fill_null(0), pl.col("time_ns").alias("start_ns"))
    call = launching_calls(wanted, calls)
    for thread in {calls.threads[t] for t in np.unique(calls.thread[call[call != NOTHING]]).tolist()}:
        on = calls.threads.index(thread)
        rows = np.flatnonzero((call != NOTHING) & (calls.thread[np.maximum(call, 0)] == on))
        out[rows] = stages.on_thread(thread, across)(calls.start_ns[call[rows]])
    return out


def _counts(events: pl.DataFrame) -> dict[str, object]:
    freed, nbytes = events["is_free"].to_numpy(), events["nbytes"].to_numpy()
    return next(_counted(np.zeros(len(events), np.int64), freed, nbytes, 1))


def _counted(group: Ints, freed: npt.NDArray[np.bool_], nbytes: Ints, groups: int) -> Iterator[dict[str, object]]:
    """Allocations, frees and their bytes of each group of events."""
    figures = []
    for rows in (~freed, freed):
        total = np.zeros(groups, np.int64)
        np.add.at(total, group[rows], nbytes[rows])
        figures += [np.bincount(group[rows], minlength=groups), total]
    names = ("allocations", "allocated_bytes", "frees", "freed_bytes")
    for row in zip(*(f.tolist() for f in figures), strict=True):
        yield dict(zip(names, row, strict=True))


def _per_stage(
    stages: Stages,
    events: pl.DataFrame,
    inside: pl.DataFrame,
    use: _InUse,
    shown: npt.NDArray[np.intp],
    low: int,
    high: int,
) -> Iterator[dict[str, object]]:
    """One row a path: events of its innermost stages, and the peak within any of its ranges."""
    pids = events["pid"].unique().to_numpy()
    code = inside["stage"].to_numpy()
    own = np.where(code >= 0, stages.path_id[np.maximum(code, 0)] if len(stages) else 0, code)
    peak: dict[int, int] = {}
    listed = shown[np.isin(stages.pid[shown], pids)] if len(stages) else shown
    if len(listed):
        start, end = np.clip(stages.start_ns[listed], low, high), np.clip(stages.end_ns[listed], low, high)
        best = np.full(len(stages.paths), -1, np.int64)
        np.maximum.at(best, stages.path_id[listed], use.peaks(start, end))
        peak = {p: int(best[p]) for p in np.flatnonzero(best >= 0).tolist()}
    codes, group = np.unique(own, return_inverse=True)
    freed, nbytes = inside["is_free"].to_numpy(), inside["nbytes"].to_numpy()
    found = _counted(group, freed, nbytes, len(codes))
    counts = dict(zip(codes.tolist(), found, strict=True))
    nothing = next(_counted(group[:0], freed[:0], nbytes[:0], 1))
    for path in sorted(counts.keys() | peak.keys(), key=lambda p: stages.path_names[p]):
        yield {"stage": stages.path_names[path], **counts.get(path, nothing), "peak_bytes": peak.get(path)}


def concurrent_allocator(
    ops: WindowOps,
    in_trace: pl.DataFrame,
    calls: Calls,
    launches: Launches,
    interrupted: Mapping[int, Interrupted],
    host_devices: Set[int],
) -> pl.DataFrame:
    """Table ``concurrent_allocator``: how long each thread was inside allocator calls while a device idled and waited for
    another thread of the same process. For information: that it was the cause is not said. `in_trace` are all ops.

        device         ....idle.........|X          X was launched by thread 10
        thread 10      |--- host code --|
        thread 11        |cudaHostAlloc|            counted
    """
    covers = dict(_allocating(calls))
    rows_out = []
    for span, rows in ops.devices() if covers else ():
        if span.device in host_devices:
            continue
        low, high = _idle_beside(covers.values(), cover(ops.start[rows], ops.end[rows]), span)
        waited = waiting_for(in_trace, launches, span, interrupted[span.device], high)
        codes = [OWNER, *range(len(launches.threads))]
        known = {code: who for code in codes if (who := thread_of(launches, span, code)) is not None}
        for thread, busy in sorted(covers.items()):
            other = np.isin(waited, [code for code, who in known.items() if who != thread and who[0] == thread[0]])
            ns = int(busy.within(low[other], high[other]).sum()) if other.any() else 0
            if ns:
                rows_out.append((span.device, *thread, ns))
    return pl.DataFrame(rows_out, schema=SCHEMAS["concurrent_allocator"], orient="row")


def _idle_beside(covers: Collection[Cover], busy: Cover, span: Span) -> tuple[Ints, Ints]:
    """The gaps of a device that some member of `covers` overlaps."""
    found = [_touched(*some, covers) for some in gaps_in_turn(busy, span.start_ns, span.end_ns, _GAPS)]
    return np.concatenate([low for low, _ in found]), np.concatenate([high for _, high in found])


_GAPS: Final = 1 << 18
"""Gaps that are looked at together: what that needs meanwhile stays in the processor's cache."""


def _touched(low: Ints, high: Ints, covers: Iterable[Cover]) -> tuple[Ints, Ints]:
    """Those of some gaps that a member of `covers` overlaps: few of many."""
    ends = np.zeros(len(low) + 1, np.int32)  # +1 where a run of such gaps begins, -1 behind its end
    for one in covers:
        first, last = np.searchsorted(high, one.start, side="right"), np.searchsorted(low, one.end, side="left")
        some = first < last
        np.add.at(ends, first[some], 1)
        np.add.at(ends, last[some], -1)
    rows = np.flatnonzero(np.cumsum(ends[:-1]))
    return low[rows], high[rows]


def _allocating(calls: Calls) -> Iterator[tuple[Thread, Cover]]:
    """When each thread was inside allocator calls."""
    if len(calls) == 0 or not (calls.kind == ALLOCATOR).any():
        return
    for thread, rows in calls.rows_of_thread.items():
        mine = rows[calls.kind[rows] == ALLOCATOR]
        if len(mine):
            yield thread, cover(calls.start_ns[mine], calls.end_ns[mine])
