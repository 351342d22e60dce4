"""One trace in, all its numbers out: the order in which the pieces of this package are put together.

    ranges -> stages -> window        calls -> launches -> stage of each op
    ops + stages + window -> ledger (busy, idle), overlap, projection, bandwidth, allocator -> trust

Nothing here touches a file or prints. The whole analysis is a function of the trace and the few choices below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..traces.errors import UsageError
from ..traces.model import COPY_KINDS, KIND_TYPE, KINDS, TABLES, Trace
from .allocator import allocator_table
from .bandwidth import bandwidth_table
from .calls import OTHER
from .hosts import HostStates
from .intervals import Ints, cover, grouped_measure
from .launches import Calls, Launches, find_launches, unrecorded_launches
from .ledger import Cells, DeviceOps, Gaps, busy_cells, idle_cells
from .overlap import exposed_rows, group_covers, pair_rows, stage_covers
from .projection import stage_kinds, stage_table
from .result import AMBIGUOUS, CAUSES, IDLE, NONE, OPENED_BY, ORPHAN, OUTSIDE, SCHEMAS, Analysis
from .stages import (
    AMBIGUOUS_STAGE,
    ITERATION,
    NO_STAGE,
    ORPHAN_STAGE,
    OUTSIDE_STAGE,
    Stages,
    Thread,
    find_stages,
    outside,
)
from .steps import NOTHING
from .trust import Facts, trust_table
from .window import Window, WindowSpec, resolve

SPECIAL: Final = {NO_STAGE: NONE, AMBIGUOUS_STAGE: AMBIGUOUS, ORPHAN_STAGE: ORPHAN, OUTSIDE_STAGE: OUTSIDE}

ATTRIBUTION_RULES: Final = ("process", "thread")


def analyze(
    trace: Trace,
    *,
    variant: str | None = None,
    window: WindowSpec = None,
    attribution: str = "process",
    domain: str | None = None,
    largest_gaps: int = 20,
) -> Analysis:
    """All numbers of `trace`.

    `window` limits the time: instants ``(start_ns, end_ns)`` or a range by name or path (``measured`` for our own runs).
    `attribution` is ``process`` (with the cross-thread rule) or ``thread`` (a range sees only its own thread's launches,
    as ``nsys stats`` does). `domain` chooses the NVTX domain of the stages.

    Raises `UsageError` for an unknown rule, domain or range.
    """
    if attribution not in ATTRIBUTION_RULES:
        raise UsageError(f"attribution {attribution!r} does not exist; choose {' or '.join(ATTRIBUTION_RULES)}")
    engine = _Engine(trace, window, across=attribution == "process", domain=domain)
    return engine.analysis(variant, largest_gaps)


@dataclass(frozen=True, slots=True)
class _DeviceWindow:
    device: int
    start_ns: int
    end_ns: int
    owner: Thread | None


class _Engine:
    """The intermediate results of one analysis, each made once."""

    def __init__(self, trace: Trace, window: WindowSpec, *, across: bool, domain: str | None) -> None:
        self.trace = trace
        self.across = across
        self.host_devices = set(trace.devices.filter(pl.col("type") == "host")["device"].to_list())
        self.stages: Stages = find_stages(trace, domain=domain, end_ns=_last_instant(trace))
        self.window: Window = resolve(window, self.stages)
        self.calls = Calls.of(trace)
        self.launches: Launches = find_launches(trace, self.calls, self.stages, self.host_devices, across=across)
        self.inside = None if self.window.roots is None else self.stages.within(self.window.roots)
        self.ops = trace.ops.with_columns(pl.Series("stage", outside(self.launches.stage, self.inside)))
        self.iteration: Ints = self._iterations()
        self.windows = self._windows()

    def _iterations(self) -> Ints:
        """The iteration each op belongs to: the one open in its process when it was launched."""
        out = np.full(len(self.ops), NOTHING, np.int64)
        pid = self.ops["pid"].to_numpy()
        for process, steps in self.stages.iteration_of.items():
            rows = np.flatnonzero(pid == process)
            out[rows] = steps(self.launches.at_ns[rows])
        return out

    def _windows(self) -> list[_DeviceWindow]:
        """The window of every device that has ops in it."""
        ops, out = self.ops, []
        device = ops["device"].to_numpy()
        start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
        stage, pid = ops["stage"].to_numpy(), ops["pid"].to_numpy()
        for d in np.unique(device).tolist():
            mine = device == d
            owner: Thread | None = None
            if self.window.roots is not None:
                own = mine & (stage >= 0)
                roots = self.window.roots
                used = roots[np.isin(self.stages.pid[roots], pid[own])] if own.any() else roots[:0]
                if len(used) == 0:
                    continue
                hull = self._hull(used)
                low = int(self.stages.start_ns[hull].min())
                high = max(int(self.stages.end_ns[hull].max()), int(end[own].max()))
                last = used[np.argmax(self.stages.end_ns[used])]
                owner = (int(self.stages.pid[last]), int(self.stages.tid[last]))
            elif self.window.instants is not None:
                low, high = self.window.instants
            else:
                low, high = int(start[mine].min()), int(end[mine].max())
            touching = (start < high) & ((end > low) | ((start == end) & (end >= low)))
            if high > low and (mine & touching).any():
                out.append(_DeviceWindow(d, low, high, owner))
        return out

    def _hull(self, roots: Ints) -> Ints:
        """The stages that span a window of `roots`: they themselves, but of window ``measured`` its iterations.

        Opening and closing the recording takes time inside `measured` that is the recorder's, not the program's.
        """
        if not self.window.trimmed:
            return roots
        names = self.stages.names
        inside = np.flatnonzero(np.isin(self.stages.parent, roots))
        iterations = np.array([i for i in inside.tolist() if names[i] == ITERATION], np.int64)
        return iterations if len(iterations) else roots

    def analysis(self, variant: str | None, largest_gaps: int) -> Analysis:
        clipped = self._clipped()
        hosts = HostStates(self.trace, self.calls, self.stages, across=self.across, inside=self.inside)
        ledgers, gap_tables = [], []
        for window in self.windows:
            busy, idle, found = self._account(window, hosts)
            ledger = self._ledger_table(window.device, (busy, idle))
            total = int(ledger["ns"].sum())
            if total != window.end_ns - window.start_ns:
                raise AssertionError(f"ledger of device {window.device} sums to {total}, not to its window")
            ledgers.append(ledger)
            gap_tables.append(self._gap_table(window.device, found, largest_gaps))
        ledger = pl.concat([pl.DataFrame(schema=SCHEMAS["ledger"]), *ledgers])
        low = min((w.start_ns for w in self.windows), default=_first_instant(self.trace))
        high = max((w.end_ns for w in self.windows), default=_last_instant(self.trace))
        if self.window.instants is not None:
            low, high = self.window.instants
        kinds = stage_kinds(clipped, self.stages)
        unions = kinds.filter(pl.col("kind").is_null())
        shown = self._shown_stages(low, high)
        limited = self.window.instants is not None
        overlap, exposed = self._overlap(clipped)
        return Analysis(
            variant=variant,
            meta=self.trace.meta,
            devices=self._device_table(clipped),
            kinds=self._kind_table(clipped),
            overlap=overlap,
            exposed=exposed,
            stages=stage_table(
                clipped, self.stages, shown, unions, low if limited else None, high if limited else None
            ).select(*SCHEMAS["stages"]),
            stage_kinds=kinds.filter(pl.col("kind").is_not_null()).select(*SCHEMAS["stage_kinds"]),
            windows=pl.DataFrame(
                [(w.device, w.start_ns, w.end_ns) for w in self.windows], schema=SCHEMAS["windows"], orient="row"
            ),
            ledger=ledger,
            gaps=pl.concat([pl.DataFrame(schema=SCHEMAS["gaps"]), *gap_tables]),
            iterations=self._iteration_table(low, high),
            bandwidth=bandwidth_table(clipped),
            allocator=allocator_table(
                self.trace, self.calls, self.stages, ledger, SPECIAL, across=self.across, low=low, high=high
            ),
            trust=trust_table(self.trace, self._facts(clipped)),
        )

    def _clipped(self) -> pl.DataFrame:
        """The ops of every device's window, cut to it. Sorted by start, then op_id."""
        frames = []
        if self.window.instants is None and self.window.roots is None:
            return self.ops
        for w in self.windows:
            touching = (pl.col("start_ns") < w.end_ns) & (
                (pl.col("end_ns") > w.start_ns)
                | ((pl.col("start_ns") == pl.col("end_ns")) & (pl.col("end_ns") >= w.start_ns))
            )
            frames.append(
                self.ops.filter((pl.col("device") == w.device) & touching).with_columns(
                    pl.col("start_ns").clip(w.start_ns, w.end_ns), pl.col("end_ns").clip(w.start_ns, w.end_ns)
                )
            )
        if not frames:
            return self.ops.clear()
        return frames[0] if len(frames) == 1 else pl.concat(frames).sort("start_ns", "op_id")

    def _account(self, window: _DeviceWindow, hosts: HostStates) -> tuple[Cells, Cells, Gaps]:
        ops = self._device_ops(window.device)
        busy, union = busy_cells(ops, window.start_ns, window.end_ns)
        idle, found = idle_cells(
            ops,
            union,
            window.start_ns,
            window.end_ns,
            hosts,
            self.launches.threads,
            window.owner,
            window.device in self.host_devices,
        )
        return busy, idle, found

    def _device_ops(self, device: int) -> DeviceOps:
        ops = self.ops
        mine = np.flatnonzero(
            (ops["device"].to_numpy() == device) & (ops["end_ns"].to_numpy() > ops["start_ns"].to_numpy())
        )
        table = ops[mine]
        call = self.launches.call[mine]
        at = self.launches.at_ns[mine]
        known = call >= 0
        calls = self.calls
        if len(calls):
            ends, kinds = np.where(known, calls.end_ns[call], at), np.where(known, calls.kind[call], OTHER)
            synchronous = known & calls.synchronous[call]
        else:
            ends, kinds, synchronous = at, np.full(len(mine), OTHER, np.int64), np.zeros(len(mine), bool)
        return DeviceOps(
            start_ns=table["start_ns"].to_numpy(),
            end_ns=table["end_ns"].to_numpy(),
            kind=table["kind"].to_physical().to_numpy().astype(np.int64),
            stage=table["stage"].to_numpy(),
            iteration=self.iteration[mine],
            call=call,
            launch=_launch_codes(table),
            thread=self.launches.thread[mine],
            call_start_ns=at,
            call_end_ns=ends,
            call_kind=kinds,
            call_synchronous=synchronous,
            pageable=_pageable(table),
        )

    def _ledger_table(self, device: int, groups: tuple[Cells, ...]) -> pl.DataFrame:
        columns = [
            np.concatenate([getattr(c, f) for c in groups]) for f in ("stage", "iteration", "category", "cause", "ns")
        ]
        stage, iteration, category, cause, ns = columns
        path = np.where(stage >= 0, self.stages.path_id[np.maximum(stage, 0)] if len(self.stages) else 0, stage)
        cells = (
            pl.DataFrame({"path": path, "iteration": iteration, "category": category, "cause": cause, "ns": ns})
            .filter(pl.col("ns") > 0)
            .group_by("path", "iteration", "category", "cause")
            .agg(pl.col("ns").sum())
            .sort("path", "iteration", "category", "cause")
        )
        names = dict(enumerate(self.stages.paths)) | SPECIAL
        return pl.DataFrame(
            {
                "device": pl.Series([device] * len(cells), dtype=pl.Int32),
                "stage": pl.Series([names[p] for p in cells["path"]], dtype=pl.String),
                "iteration": pl.Series([i if i >= 0 else None for i in cells["iteration"]], dtype=pl.Int32),
                "category": pl.Series([(*KINDS, IDLE)[c] for c in cells["category"]], dtype=pl.String),
                "cause": pl.Series([CAUSES[c] if c >= 0 else None for c in cells["cause"]], dtype=pl.String),
                "ns": cells["ns"],
            },
            schema=SCHEMAS["ledger"],
        )

    def _gap_table(self, device: int, found: Gaps, largest: int) -> pl.DataFrame:
        length = found.end_ns - found.start_ns
        rows = np.argsort(-length, kind="stable")[:largest]
        return pl.DataFrame(
            {
                "device": [device] * len(rows),
                "start_ns": found.start_ns[rows],
                "end_ns": found.end_ns[rows],
                "ns": length[rows],
                "stage": self.stages.path_of(found.stage[rows], SPECIAL),
                "cause": [CAUSES[c] for c in found.cause[rows].tolist()],
                "opened_by": [OPENED_BY[o] for o in found.opened_by[rows].tolist()],
            },
            schema=SCHEMAS["gaps"],
        )

    def _device_table(self, ops: pl.DataFrame) -> pl.DataFrame:
        known = {row["device"]: row for row in self.trace.devices.iter_rows(named=True)}
        rows = []
        for w in self.windows:
            mine = ops.filter(pl.col("device") == w.device)
            start, end = mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy()
            span, busy = int(end.max() - start.min()), cover(start, end).total
            info = known.get(w.device, {"name": f"device {w.device}", "type": "gpu"})
            rows.append((w.device, info["name"] or f"device {w.device}", info["type"], span, busy, span - busy))
        return pl.DataFrame(rows, schema=SCHEMAS["devices"], orient="row")

    def _kind_table(self, ops: pl.DataFrame) -> pl.DataFrame:
        frames = [pl.DataFrame(schema=SCHEMAS["kinds"])]
        for w in self.windows:
            mine = ops.filter(pl.col("device") == w.device)
            kind = mine["kind"].to_physical().to_numpy().astype(np.int64)
            union = grouped_measure(kind, mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy(), len(KINDS))
            unions = pl.DataFrame({"kind": pl.Series(KINDS, dtype=KIND_TYPE), "union_ns": union})
            frames.append(
                mine.group_by("kind")
                .agg(
                    pl.len().cast(pl.Int64).alias("ops"),
                    (pl.col("end_ns") - pl.col("start_ns")).sum().alias("sum_ns"),
                    pl.col("nbytes").sum(),
                )
                .join(unions, on="kind")
                .sort("kind")
                .with_columns(pl.lit(w.device, pl.Int32).alias("device"))
                .select(*SCHEMAS["kinds"])
            )
        return pl.concat(frames)

    def _overlap(self, ops: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        pairs: list[dict[str, object]] = []
        exposed: list[dict[str, object]] = []
        moves = {KINDS.index(k) for k in (*COPY_KINDS, "comm")}
        for w in self.windows:
            mine = ops.filter(pl.col("device") == w.device)
            kind = mine["kind"].to_physical().to_numpy().astype(np.int64)
            start, end = mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy()
            whole = group_covers(kind, start, end)
            pairs += pair_rows(w.device, None, whole, whole)
            exposed += exposed_rows(w.device, None, whole, whole)
            stage = mine["stage"].to_numpy()
            node = np.where(stage >= 0, self.stages.node[np.maximum(stage, 0)] if len(self.stages) else 0, NOTHING)
            moving = set(np.unique(node[np.isin(kind, list(moves))]).tolist())
            for path, below in sorted(self.stages.nodes_below.items(), key=lambda item: self.stages.paths[item[0]]):
                if moving.isdisjoint(below.tolist()):
                    continue
                own, other = stage_covers(kind, start, end, np.isin(node, below), whole)
                pairs += pair_rows(w.device, self.stages.paths[path], own, other)
                exposed += exposed_rows(w.device, self.stages.paths[path], own, other)
        return pl.DataFrame(pairs, schema=SCHEMAS["overlap"]), pl.DataFrame(exposed, schema=SCHEMAS["exposed"])

    def _shown_stages(self, low: int, high: int) -> Ints:
        """The stages to list: those of the window's range, or those that touch its instants."""
        if self.inside is not None:
            shown = self.inside
        elif self.window.instants is None:
            shown = np.ones(len(self.stages), bool)
        else:
            shown = (self.stages.start_ns < high) & (self.stages.end_ns > low)
        return np.flatnonzero(shown & ~self.stages.is_measured)

    def _iteration_table(self, low: int, high: int) -> pl.DataFrame:
        rows = np.array([i for i, n in enumerate(self.stages.names) if n == ITERATION], np.int64)
        rows = rows[(self.stages.start_ns[rows] < high) & (self.stages.end_ns[rows] > low)]
        if len(rows):
            rows = rows[self.stages.pid[rows] == self.stages.pid[rows[0]]]
        start, end = self.stages.start_ns[rows], self.stages.end_ns[rows]
        number = self.stages.iteration_of[int(self.stages.pid[rows[0]])](start) if len(rows) else start
        return pl.DataFrame(
            {"iteration": number, "start_ns": start, "end_ns": end, "host_ns": end - start},
            schema=SCHEMAS["iterations"],
        )

    def _facts(self, ops: pl.DataFrame) -> Facts:
        copies = ops.filter(pl.col("kind").cast(pl.String).is_in(COPY_KINDS))
        missing, wanted = unrecorded_launches(self.calls, self.launches.call, self._captured())
        return Facts(
            ops=len(ops),
            orphans=int((ops["stage"] == ORPHAN_STAGE).sum()),
            ambiguous=int((ops["stage"] == AMBIGUOUS_STAGE).sum()),
            launch_calls=wanted,
            unrecorded=missing,
            calls=len(self.calls),
            stages=len(self.stages),
            unclosed=self.stages.unclosed,
            crossing=self.stages.crossing,
            graphs=int((ops["kind"].cast(pl.String) == "graph").sum()),
            comm_ops=int((ops["kind"].cast(pl.String) == "comm").sum()),
            copies=len(copies),
            copies_without_bytes=copies["nbytes"].null_count(),
            host_devices=bool(self.host_devices),
        )

    def _captured(self) -> npt.NDArray[np.bool_]:
        """Calls made while their thread captured a stream into a graph: they launch nothing yet."""
        out = np.zeros(len(self.calls), bool)
        name = self.trace.api["name"].cast(pl.String)
        edge = name.str.contains("StreamBeginCapture|StreamEndCapture")
        if not edge.any():
            return out
        for rows in self.calls.rows_of_thread.values():
            mine = name.gather(rows)
            begins = mine.str.contains("StreamBeginCapture").to_numpy()
            ends = mine.str.contains("StreamEndCapture").to_numpy()
            out[rows] = (np.cumsum(begins) - np.cumsum(ends)) > 0
        return out


def _launch_codes(ops: pl.DataFrame) -> Ints:
    """A number per (pid, correlation), unique within `ops`."""
    correlation = ops["correlation"].fill_null(-1).to_numpy()
    width = int(correlation.max(initial=0)) + 2
    return np.asarray(ops["pid"].to_numpy().astype(np.int64) * width + correlation + 1)


def _pageable(ops: pl.DataFrame) -> npt.NDArray[np.bool_]:
    touches = (pl.col("src_kind") == "pageable") | (pl.col("dst_kind") == "pageable")
    copy = pl.col("kind").cast(pl.String).is_in(COPY_KINDS)
    return ops.select((touches.fill_null(False) & copy).alias("p"))["p"].to_numpy()


def _last_instant(trace: Trace) -> int:
    """The latest time in the tables of the trace."""
    return max((int(c.max()) for c in _times(trace, "start_ns", "end_ns", "time_ns")), default=0)


def _first_instant(trace: Trace) -> int:
    return min((int(c.min()) for c in _times(trace, "start_ns")), default=0)


def _times(trace: Trace, *names: str) -> Iterator[Ints]:
    """The columns called `names` of all tables, without nulls and empty ones."""
    for table in TABLES:
        frame = trace.table(table)
        for name in names:
            if name in frame.columns and frame[name].null_count() < len(frame):
                yield frame[name].drop_nulls().to_numpy()
