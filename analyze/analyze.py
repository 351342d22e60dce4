"""One trace in, all its numbers out: the order in which the pieces of this package are put together.

    ranges -> stages -> window        calls -> launches -> stage of each op
    ops + stages + window -> ledger (busy, idle), overlap, projection, bandwidth, allocator -> trust

Nothing here touches a file or prints. The whole analysis is a function of the trace and the few choices below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..traces.columns import SLICE, gathered, series
from ..traces.errors import UsageError
from ..traces.model import COPY_KINDS, KIND_TYPE, KINDS, TABLES, Trace, distinct_values
from .accounts.allocator import allocator_table
from .accounts.bandwidth import bandwidth_table
from .accounts.detail import start_details, with_detail
from .accounts.ledger import Cells, DeviceOps, Gaps, Launched, busy_cells, idle_cells, summed
from .accounts.overlap import Part, exposed_rows, overlaps, pair_rows
from .accounts.peaks import Peaks, with_peaks
from .accounts.stages import INSTANCES, kind_codes, per_instance, stage_kinds, stage_table
from .accounts.trust import Facts, trust_table
from .attribution.calls import OTHER
from .attribution.dependencies import STREAM, Awaited, awaited
from .attribution.host_state import HostStates
from .attribution.launches import Calls, Launches, find_launches, unrecorded_launches
from .attribution.selection import Selected, Selection, select
from .attribution.stages import (
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
from .attribution.steps import NOTHING
from .attribution.window import Window, WindowSpec, resolve
from .attribution.work import CUT, Lane, Span, Work, lanes_of
from .intervals import Ints, grouped_measure, measure, near_rows
from .result import AMBIGUOUS, CAUSES, IDLE, NONE, OPENED_BY, ORPHAN, OUTSIDE, SCHEMAS, Analysis, Choices
from .side_by_side import side_by_side

SPECIAL: Final = {NO_STAGE: NONE, AMBIGUOUS_STAGE: AMBIGUOUS, ORPHAN_STAGE: ORPHAN, OUTSIDE_STAGE: OUTSIDE}

ATTRIBUTION_RULES: Final = ("process", "thread")

_FEW_PATHS: Final = 16
"""Up to so many stages each is held against all ops of a device, beyond only against those that run beside its own."""

_PART_COLUMNS: Final = ("stage", "kind", "start_ns", "end_ns", "nbytes")
_LAUNCH_COLUMNS: Final = ("pid", "correlation", "kind", "src_kind", "dst_kind")

_COPIES: Final = np.array([kind in COPY_KINDS for kind in KINDS])
_MOVES: Final = np.array([kind in COPY_KINDS or kind == "comm" for kind in KINDS])


def analyze(
    trace: Trace,
    *,
    variant: str | None = None,
    window: WindowSpec = None,
    attribution: str = "process",
    domain: str | None = None,
    selection: Selection | None = None,
    largest_gaps: int = 20,
    peaks: Peaks | None = None,
    details: bool = True,
) -> Analysis:
    """All numbers of `trace`; without `details` the tables of `detail` stay empty.

    `window` limits the time: instants ``(start_ns, end_ns)`` or a range by name or path (``measured`` for our own runs).
    `attribution` is ``process`` (with the cross-thread rule) or ``thread`` (a range sees only its own thread's launches,
    as ``nsys stats`` does). `domain` chooses the NVTX domain of the stages, `selection` which of its ranges are stages.
    `peaks` are what copies reached when this hardware was calibrated.

    Raises `UsageError` for an unknown rule, domain or range, and for a selection that leaves nothing.
    """
    if attribution not in ATTRIBUTION_RULES:
        raise UsageError(f"attribution {attribution!r} does not exist; choose {' or '.join(ATTRIBUTION_RULES)}")
    engine = _Engine(trace, window, across=attribution == "process", domain=domain, selection=selection, peaks=peaks)
    asked = selection or Selection()
    choices = Choices(attribution, engine.found.domain, asked.stages, asked.depth, asked.below, window)
    return replace(engine.analysis(variant, largest_gaps, details), choices=choices)


@dataclass(frozen=True, slots=True)
class _DeviceWindow:
    device: int
    start_ns: int
    end_ns: int
    owner: Thread | None


class _Engine:
    """The intermediate results of one analysis, each made once."""

    def __init__(
        self,
        trace: Trace,
        window: WindowSpec,
        *,
        across: bool,
        domain: str | None,
        selection: Selection | None,
        peaks: Peaks | None,
    ) -> None:
        self.trace = trace
        self.across = across
        self.peaks = peaks
        self.host_devices = set(trace.devices.filter(pl.col("type") == "host")["device"].to_list())
        # All ranges of the domain settle the window and what lies outside of it; `stages` are those that were selected.
        self.found: Stages = find_stages(trace, domain=domain, end_ns=_last_instant(trace))
        self.stages: Stages = select(self.found, trace, selection)
        self.window: Window = resolve(window, self.found)
        self.calls = Calls.of(trace)
        self.launches: Launches = find_launches(trace, self.calls, self.found, self.host_devices, across=across)
        self.inside = None if self.window.roots is None else self.found.within(self.window.roots)
        self.ops = trace.ops.with_columns(series("stage", outside(self.launches.stage, self.inside)))
        self.iteration: Ints = self._iterations()
        self.windows = self._windows()
        if isinstance(self.stages, Selected):
            excluded = self.ops["stage"].to_numpy() == OUTSIDE_STAGE
            self.launches = find_launches(trace, self.calls, self.stages, self.host_devices, across=across)
            stage = np.where(excluded, self.launches.stage.dtype.type(OUTSIDE_STAGE), self.launches.stage)
            self.ops = trace.ops.with_columns(series("stage", stage))

    def _iterations(self) -> Ints:
        """The iteration each op belongs to: the one open when it was launched on its launching thread, else in its process."""
        out = np.full(len(self.ops), NOTHING, np.int32)
        pid = self.ops["pid"].to_numpy()
        for process, steps in self.stages.iteration_of.items():
            rows = np.flatnonzero(pid == process)
            out[rows] = steps(self.launches.at_ns(rows, self.ops, self.calls))
        for thread, steps in self.stages.iterations_by_thread.items():
            if thread in self.launches.threads:
                rows = np.flatnonzero(self.launches.thread == self.launches.threads.index(thread))
                own = steps(self.launches.at_ns(rows, self.ops, self.calls))
                out[rows[own >= 0]] = own[own >= 0]
        return out

    def _windows(self) -> list[_DeviceWindow]:
        """The window of every device that has ops: of a range, in it; of instants, at any time, since idling is to be told."""
        ops, out = self.ops, []
        times = ops.select("device", "start_ns", "end_ns")
        hulls = pl.concat([times.clear(), *(_hulls(part) for part in times.iter_slices(SLICE))])
        hulls = _hulls(hulls).sort("device")
        if self._whole:
            return [_DeviceWindow(d, low, high, None) for d, low, high in hulls.iter_rows() if high > low]
        devices = hulls["device"].to_list()
        if self.window.instants is not None:
            low, high = self.window.instants
            return [_DeviceWindow(d, low, high, None) for d in devices if high > low]
        roots = self.window.roots
        assert roots is not None
        device = ops["device"].to_numpy()
        end = ops["end_ns"].to_numpy()
        stage, pid = ops["stage"].to_numpy(), ops["pid"].to_numpy()
        for d in devices:
            own = stage >= 0
            if len(devices) > 1:
                own &= device == d
            used = roots[np.isin(self.found.pid[roots], pid[own])] if own.any() else roots[:0]
            if len(used) == 0:
                continue
            hull = self._hull(used)
            low = int(self.found.start_ns[hull].min())
            high = max(int(self.found.end_ns[hull].max()), int(end[own].max()))
            last = used[np.argmax(self.found.end_ns[used])]
            if high > low:
                owner = (int(self.found.pid[last]), int(self.found.tid[last]))
                out.append(_DeviceWindow(d, low, high, owner))
        return out

    def _hull(self, roots: Ints) -> Ints:
        """The stages that span a window of `roots`: they themselves, but of window ``measured`` its iterations.

        Opening and closing the recording takes time inside `measured` that is the recorder's, not the program's.
        """
        if not self.window.trimmed:
            return roots
        inside = np.flatnonzero(np.isin(self.found.parent, roots))
        iterations = np.intersect1d(inside, self.found.named(ITERATION))
        return iterations if len(iterations) else roots

    def analysis(self, variant: str | None, largest_gaps: int, details: bool) -> Analysis:
        clipped = self._clipped()
        hosts = self._hosts()
        low = min((w.start_ns for w in self.windows), default=_first_instant(self.trace))
        high = max((w.end_ns for w in self.windows), default=_last_instant(self.trace))
        if self.window.instants is not None:
            low, high = self.window.instants
        limits = (None, None) if self.window.instants is None else (low, high)
        shown = self._shown_stages(clipped, low, high)
        with side_by_side(len(self.ops)) as start:
            accounts = start(self._accounts, hosts, largest_gaps)
            del hosts
            measured = start(self._measured, clipped)
            work = self._work(clipped)
            found = start_details(start, work, shown, low, high, across=self.across) if details else None
            trust = start(lambda: trust_table(self.trace, self._facts(clipped)))
            bandwidth = start(lambda: with_peaks(bandwidth_table(_copies(clipped)), self.trace.devices, self.peaks))
            ledger, gaps = accounts()
            detail: dict[str, Any] = {} if found is None else found(ledger, gaps)
            measures = measured()
            kinds = measures.stage_kinds.sort("path", "device", maintain_order=True)
            unions = kinds.filter(pl.col("kind").is_null())
            payload = self.trace.ranges.select("range_id", "nbytes").drop_nulls()
            return Analysis(
                variant=variant,
                meta=self.trace.meta,
                devices=measures.devices,
                kinds=measures.kinds,
                overlap=measures.overlap,
                exposed=measures.exposed,
                stages=stage_table(self.stages, shown, unions, measures.instances, payload, *limits).select(
                    *SCHEMAS["stages"]
                ),
                stage_kinds=kinds.filter(pl.col("kind").is_not_null()).select(*SCHEMAS["stage_kinds"]),
                windows=pl.DataFrame(
                    [(w.device, w.start_ns, w.end_ns) for w in self.windows], schema=SCHEMAS["windows"], orient="row"
                ),
                ledger=ledger,
                gaps=gaps,
                iterations=self._iteration_table(low, high),
                bandwidth=bandwidth(),
                allocator=allocator_table(
                    self.trace, self.calls, self.stages, ledger, SPECIAL, across=self.across, low=low, high=high
                ),
                trust=with_detail(trust(), detail) if detail else trust(),
                **detail,
            )

    def _accounts(self, hosts: HostStates, largest_gaps: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """(ledger, largest gaps), one device after the other: what is kept of each meanwhile is as large as its ops are."""
        found = [self._device(window, hosts, largest_gaps) for window in self.windows]
        ledger = pl.concat([pl.DataFrame(schema=SCHEMAS["ledger"]), *(one for one, _ in found)])
        return ledger, pl.concat([pl.DataFrame(schema=SCHEMAS["gaps"]), *(one for _, one in found)])

    def _device(self, window: _DeviceWindow, hosts: HostStates, largest_gaps: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """(ledger, largest gaps) of one device."""
        ops = self._device_ops(window.device)
        busy, union = busy_cells(ops, window.start_ns, window.end_ns)
        cells = [self._summed(busy)]
        del busy
        largest: list[Gaps] = []
        on_host = window.device in self.host_devices
        for idle, found in idle_cells(
            ops, union, window.start_ns, window.end_ns, hosts, self.launches.threads, window.owner, on_host
        ):
            cells.append(self._summed(idle))
            largest.append(found.largest(largest_gaps))
        ledger = self._ledger_table(window.device, cells)
        total = int(ledger["ns"].sum())
        if total != window.end_ns - window.start_ns:
            raise AssertionError(f"ledger of device {window.device} sums to {total}, not to its window")
        return ledger, self._gap_table(window.device, Gaps.joined(largest).largest(largest_gaps))

    def _summed(self, cells: Cells) -> pl.DataFrame:
        return summed(cells, self.stages.path_of_code(cells.stage))

    def _work(self, clipped: pl.DataFrame) -> Work:
        return Work(
            trace=self.trace,
            ops=clipped,
            spans=[Span(w.device, w.start_ns, w.end_ns, w.owner) for w in self.windows],
            stages=self.stages,
            names=dict(enumerate(self.stages.paths)) | SPECIAL,
            calls=self.calls,
            launches=self.launches,
            all_iterations=self.iteration,
            host_devices=frozenset(self.host_devices),
            lane=self._lanes[0],
            lanes=self._lanes[1],
        )

    def _hosts(self) -> HostStates:
        if isinstance(self.stages, Selected):
            view = self.stages.for_window(self.inside)
            return HostStates(self.trace, self.calls, view, across=self.across, inside=None)
        return HostStates(self.trace, self.calls, self.stages, across=self.across, inside=self.inside)

    @property
    def _whole(self) -> bool:
        """Whether the windows are those of the whole recording, so that nothing is cut."""
        return self.window.instants is None and self.window.roots is None

    def _clipped(self) -> pl.DataFrame:
        """The ops of every device's window, cut to it. Sorted by start, then op_id.

        Where anything can be cut a column ``cut`` says of which ops, and bytes are null of them: how many of its bytes a copy
        had moved by then is not known.
        """
        frames = []
        if self._whole:
            return self.ops
        ops = self.ops
        if "op_id" not in ops.columns:  # of a large trace row numbers are left out
            ops = ops.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("op_id"))
        for w in self.windows:
            touching = (pl.col("start_ns") < w.end_ns) & (
                (pl.col("end_ns") > w.start_ns)
                | ((pl.col("start_ns") == pl.col("end_ns")) & (pl.col("end_ns") >= w.start_ns))
            )
            cut = (pl.col("start_ns") < w.start_ns) | (pl.col("end_ns") > w.end_ns)
            frames.append(
                ops.filter((pl.col("device") == w.device) & touching).with_columns(
                    pl.col("start_ns").clip(w.start_ns, w.end_ns),
                    pl.col("end_ns").clip(w.start_ns, w.end_ns),
                    pl.when(~cut).then(pl.col("nbytes")).alias("nbytes"),
                    cut.alias(CUT),
                )
            )
        if not frames:
            return ops.clear().with_columns(pl.lit(False).alias(CUT))
        return frames[0] if len(frames) == 1 else pl.concat(frames).sort("start_ns", "op_id")

    def _device_ops(self, device: int) -> DeviceOps:
        ops = self.ops
        columns = [ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy(), kind_codes(ops), ops["stage"].to_numpy()]
        columns.append(self.iteration)
        solid = (ops["device"].to_numpy() == device) & (columns[1] > columns[0])
        rows = None if solid.all() else np.flatnonzero(solid).astype(np.int32)
        start, end, kind, stage, iteration = columns if rows is None else [column[rows] for column in columns]
        return DeviceOps(
            start_ns=start,
            end_ns=end,
            kind=kind,
            stage=stage,
            iteration=iteration,
            launched=lambda chosen: self._launched(chosen if rows is None else rows[chosen]),
            awaited=self._awaited(device, rows),
        )

    def _awaited(
        self, device: int, rows: npt.NDArray[np.integer] | None
    ) -> Callable[[npt.NDArray[np.integer], Ints, Ints, Ints], Ints] | None:
        """Until when gaps of `device` waited for other devices; null where no trace of such waiting was recorded."""
        waits = self._waits
        if waits is None:
            return None
        return lambda chosen, called, start, end: waits.until(
            self.ops.select(STREAM)[chosen if rows is None else rows[chosen]], device, called, start, end
        )

    @cached_property
    def _waits(self) -> Awaited | None:
        return awaited(self.trace, self.calls, self.launches, *self._lanes)

    @cached_property
    def _lanes(self) -> tuple[npt.NDArray[np.integer], list[Lane]]:
        return lanes_of(self.trace.ops)

    @cached_property
    def _correlations(self) -> np.int64:
        """More than there are correlation ids: pid times this plus the id tells launches apart."""
        highest = self.ops["correlation"].max()
        return np.int64(highest if isinstance(highest, int) and highest > 0 else 0) + 2

    def _launched(self, rows: npt.NDArray[np.integer]) -> Launched:
        """What is known of the launches of the ops `rows`."""
        table = self.ops.select(*_LAUNCH_COLUMNS)[rows]
        calls = self.calls
        call, at = self.launches.call[rows], self.launches.at_ns(rows, self.ops, calls)
        known = call >= 0
        if len(calls):
            ends, kinds = np.where(known, calls.end_ns[call], at), np.where(known, calls.kind[call], OTHER)
            synchronous = known & calls.synchronous[call]
        else:
            ends, kinds, synchronous = at, np.full(len(rows), OTHER, np.int8), np.zeros(len(rows), bool)
        return Launched(
            call=call,
            launch=table["pid"].to_numpy() * self._correlations
            + table["correlation"].cast(pl.Int64).fill_null(-1).to_numpy()
            + 1,
            thread=self.launches.thread[rows],
            call_start_ns=at,
            call_end_ns=ends,
            call_kind=kinds,
            call_synchronous=synchronous,
            pageable=_pageable(table),
        )

    def _ledger_table(self, device: int, parts: list[pl.DataFrame]) -> pl.DataFrame:
        cells = (
            pl.concat(parts)
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

    def _gap_table(self, device: int, found: Gaps) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "device": [device] * len(found.start_ns),
                "start_ns": found.start_ns,
                "end_ns": found.end_ns,
                "ns": found.end_ns - found.start_ns,
                "stage": self.stages.path_of(found.stage, SPECIAL),
                "cause": [CAUSES[c] for c in found.cause.tolist()],
                "opened_by": [OPENED_BY[o] for o in found.opened_by.tolist()],
            },
            schema=SCHEMAS["gaps"],
        )

    def _measured(self, clipped: pl.DataFrame) -> _Measures:
        """What is measured of each device alone."""
        devices = {*clipped["device"].unique().drop_nulls().to_list(), *(w.device for w in self.windows)}
        return _Measures.joined([self._measured_of(device, clipped) for device in sorted(devices)])

    def _measured_of(self, device: int, clipped: pl.DataFrame) -> _Measures:
        """What is measured of the ops of one device, all of it at once: of several devices they have to be copied."""
        ops = clipped.select("device", *_PART_COLUMNS)
        mine = clipped["device"].to_numpy() == device
        if not mine.all():
            chosen = np.flatnonzero(mine).astype(np.int32)
            ops = pl.DataFrame([gathered(ops[name], chosen) for name in ops.columns])
            del chosen
        del mine
        stages = {
            "stage_kinds": stage_kinds(device, ops, self.stages),
            "instances": per_instance(device, ops, self.stages),
        }
        if device not in {w.device for w in self.windows}:  # its ops take no time
            return _Measures(**stages)
        rows = {"devices": self._device_row(device, ops), "kinds": _kinds(device, ops)}
        ops = ops.drop("device", "nbytes")
        overlap, exposed = self._overlap(device, ops)
        return _Measures(**rows, overlap=overlap, exposed=exposed, **stages)

    def _device_row(self, device: int, ops: pl.DataFrame) -> pl.DataFrame:
        """The row of table ``devices``."""
        start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
        span, busy = int(end.max() - start.min()) if len(start) else 0, measure(start, end)
        known = self.trace.devices.filter(pl.col("device") == device).select("name", "type").rows()
        name, type_ = known[-1] if known else (None, "gpu")
        row = (device, name or f"device {device}", type_, span, busy, span - busy)
        return pl.DataFrame([row], schema=SCHEMAS["devices"], orient="row")

    def _overlap(self, device: int, ops: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows of tables ``overlap`` and ``exposed``."""
        kind = kind_codes(ops)
        start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
        node = self.stages.node_of(ops["stage"].to_numpy())
        moving = set(node[_MOVES[kind]].tolist())
        paths = sorted(self.stages.nodes_below, key=lambda path: self.stages.paths[path])
        paths = [path for path in paths if not moving.isdisjoint(self.stages.nodes_below[path].tolist())]
        parts = self._parts(paths, node, start, end)
        pairs, exposed = [], []
        for stage, found in zip(
            [None, *map(self.stages.paths.__getitem__, paths)], overlaps(kind, start, end, parts), strict=True
        ):
            pairs += pair_rows(device, stage, found)
            exposed += exposed_rows(device, stage, found)
        return pl.DataFrame(pairs, schema=SCHEMAS["overlap"]), pl.DataFrame(exposed, schema=SCHEMAS["exposed"])

    def _parts(self, paths: list[int], node: Ints, start: Ints, end: Ints) -> Iterator[Part]:
        """The ops of each of `paths` and those around them; of few paths all ops, since those fill most of the time anyway."""
        nodes = len(self.stages.node_parent)
        everything = slice(0, len(node))
        near = None
        if len(paths) > _FEW_PATHS:
            near = near_rows(start, end)
            low, high = np.full(nodes + 1, np.iinfo(np.int64).max), np.full(nodes + 1, np.iinfo(np.int64).min)
            np.minimum.at(low, node, start)
            np.maximum.at(high, node, end)
        member = np.zeros(nodes + 1, bool)  # the last answer, for `NOTHING`, stays no
        for path in paths:
            below = self.stages.nodes_below[path]
            rows = everything if near is None else near(int(low[below].min()), int(high[below].max()))
            if rows.stop - rows.start > len(node) // 2:
                rows = everything
            member[below] = True
            yield rows, member[node[rows]]
            member[below] = False

    def _shown_stages(self, ops: pl.DataFrame, low: int, high: int) -> npt.NDArray[np.intp]:
        """The stages to list: those of the window's range, or those that touch its instants or have work in them."""
        if self.inside is not None and isinstance(self.stages, Selected):
            shown = self.inside[self.stages.source]
            used = ops["stage"].unique().to_numpy()  # also ranges that enclose the window, if they were selected
            shown[used[used >= 0]] = True
        elif self.inside is not None:
            shown = self.inside
        elif self.window.instants is None:
            shown = np.ones(len(self.stages), bool)
        else:
            shown = (self.stages.start_ns < high) & (self.stages.end_ns > low)
            busy = np.unique(ops["stage"].to_numpy())
            busy = busy[busy >= 0]
            while len(busy):  # device work outlives its range, and all that it is nested in
                shown[busy] = True
                busy = np.unique(self.stages.parent[busy])
                busy = busy[busy >= 0]
        return np.flatnonzero(shown & ~self.stages.is_measured)

    def _iteration_table(self, low: int, high: int) -> pl.DataFrame:
        rows = self.found.named(ITERATION)
        rows = rows[(self.found.start_ns[rows] < high) & (self.found.end_ns[rows] > low)]
        if len(rows):
            rows = rows[self.found.pid[rows] == self.found.pid[rows[0]]]
        start, end = self.found.start_ns[rows], self.found.end_ns[rows]
        number = self.found.iteration_of[int(self.found.pid[rows[0]])](start) if len(rows) else start
        return pl.DataFrame(
            {"iteration": number, "start_ns": start, "end_ns": end, "host_ns": end - start},
            schema=SCHEMAS["iterations"],
        )

    def _facts(self, ops: pl.DataFrame) -> Facts:
        columns = ("kind", "nbytes", "stage", "correlation", "src_kind", "dst_kind")
        copies = _copies(ops.select(*columns, *([CUT] if CUT in ops.columns else [])))
        cut = int(copies[CUT].sum()) if CUT in copies.columns else 0
        counts = np.bincount(kind_codes(ops), minlength=len(KINDS))
        missing, wanted = unrecorded_launches(self.calls, self.launches.call, self._launching_nothing())
        unseen = 0
        if self.window.instants is not None:
            low, high = self.window.instants
            first, last = _first_instant(self.trace), _last_instant(self.trace)
            unseen = high - low - max(min(high, last) - max(low, first), 0)
        return Facts(
            windows=len(self.windows),
            unseen_ns=unseen,
            ops=len(ops),
            orphans=int((ops["stage"] == ORPHAN_STAGE).sum()),
            migrations=_migrations(copies),
            ambiguous=int((ops["stage"] == AMBIGUOUS_STAGE).sum()),
            launch_calls=wanted,
            unrecorded=missing,
            calls=len(self.calls),
            stages=len(self.stages),
            unclosed=self.stages.unclosed,
            crossing=self.stages.crossing,
            guessed=self._guessed(),
            graphs=int(counts[KINDS.index("graph")]),
            comm_ops=int(counts[KINDS.index("comm")]),
            copies=len(copies),
            copies_without_bytes=copies["nbytes"].null_count() - cut,
            copies_cut=cut,
            peer_copies=int(counts[KINDS.index("p2p")]),
            host_devices=bool(self.host_devices),
        )

    def _guessed(self) -> int:
        """Ops that belong to a range which one thread began for another to end, where it is the latest of several: launched by a
        thread that began, or was handed, several at a time."""
        stages, threads = self.stages, self.launches.threads
        if not stages.is_handed.any():
            return 0
        stage = self.ops["stage"].to_numpy()
        rows = np.flatnonzero((stage >= 0) & (self.launches.thread >= 0))
        rows = rows[stages.is_handed[stage[rows]]]
        who = self.launches.thread[rows]
        launched_by = np.array([tid for _, tid in threads], np.int64)[who]
        guess = np.zeros(len(rows), bool)
        for whose in (stages.tid, stages.end_tid):
            in_turn = stages.in_turn(whose)
            several = np.array([not in_turn.get(thread, True) for thread in threads], bool)
            guess |= (launched_by == whose[stage[rows]]) & several[who]
        return int(guess.sum())

    def _launching_nothing(self) -> npt.NDArray[np.bool_]:
        """Calls that may rightly have no device row: they failed, their thread was capturing a stream into a graph, or they set
        memory (of no bytes, as cuBLAS does: such calls return in 0.2 us, ten times as fast as one that launches)."""
        out: npt.NDArray[np.bool_] = self.trace.api["result"].fill_null(0).to_numpy() != 0
        names = self.trace.api["name"]
        words = distinct_values(names)
        sets = np.array(["memset" in w.lower() for w in [*words, ""]])
        if sets.any():
            out |= sets[names.to_physical().fill_null(len(words)).to_numpy()]
        step = np.array([("StreamBeginCapture" in w) - ("StreamEndCapture" in w) for w in [*words, ""]], np.int32)
        if not step.any():
            return out
        change = step[names.to_physical().fill_null(len(words)).to_numpy()]
        for rows in self.calls.rows_of_thread.values() if change.any() else ():
            out[rows] |= np.cumsum(change[rows]) > 0
        return out


@dataclass(frozen=True, slots=True)
class _Measures:
    """Tables of one device, or of all of them: ``devices``, ``kinds``, ``overlap`` and ``exposed`` as they are, and what
    `stage_kinds` and `per_instance` say."""

    devices: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCHEMAS["devices"]))
    kinds: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCHEMAS["kinds"]))
    overlap: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCHEMAS["overlap"]))
    exposed: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCHEMAS["exposed"]))
    stage_kinds: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCHEMAS["stage_kinds"]))
    instances: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=INSTANCES))

    @classmethod
    def joined(cls, parts: list[_Measures]) -> _Measures:
        """The tables of several devices one below the other."""
        return cls(*(pl.concat(getattr(part, f.name) for part in [cls(), *parts]) for f in fields(cls)))


def _kinds(device: int, ops: pl.DataFrame) -> pl.DataFrame:
    """The rows of table ``kinds``."""
    union = grouped_measure(kind_codes(ops), ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy(), len(KINDS))
    unions = pl.DataFrame({"kind": pl.Series(KINDS, dtype=KIND_TYPE), "union_ns": union})
    # Some ops at a time: to group all of them at once, polars copies them.
    sums = pl.concat(
        part.group_by("kind").agg(
            pl.len().cast(pl.Int64).alias("ops"),
            (pl.col("end_ns") - pl.col("start_ns")).sum().alias("sum_ns"),
            pl.col("nbytes").sum(),
        )
        for part in (ops.iter_slices(SLICE) if len(ops) else [ops])
    )
    return (
        sums.group_by("kind")
        .agg(pl.all().sum())
        .join(unions, on="kind")
        .sort("kind")
        .with_columns(pl.lit(device, pl.Int32).alias("device"))
        .select(*SCHEMAS["kinds"])
    )


def _hulls(times: pl.DataFrame) -> pl.DataFrame:
    """The first start and the last end of each device."""
    return times.group_by("device").agg(pl.col("start_ns").min(), pl.col("end_ns").max())


def _copies(ops: pl.DataFrame) -> pl.DataFrame:
    """The ops that are copies: few of many, so their rows are chosen by number."""
    return ops[np.flatnonzero(_COPIES[kind_codes(ops)])]


def _migrations(copies: pl.DataFrame) -> int:
    """How many of the orphans among `copies` moved pages of unified memory, which the driver does by itself."""
    managed = (pl.col("src_kind") == "managed") | (pl.col("dst_kind") == "managed")
    alone = (pl.col("stage") == ORPHAN_STAGE) & (pl.col("correlation").fill_null(0) == 0)
    return copies.filter(alone & managed.fill_null(False)).height


def _pageable(ops: pl.DataFrame) -> npt.NDArray[np.bool_]:
    touches = (pl.col("src_kind") == "pageable") | (pl.col("dst_kind") == "pageable")
    touched: npt.NDArray[np.bool_] = ops.select(touches.fill_null(False).alias("p"))["p"].to_numpy()
    return np.asarray(touched & _COPIES[kind_codes(ops)])


def _last_instant(trace: Trace) -> int:
    """The latest time in the tables of the trace."""
    return max((t for c in _times(trace, "start_ns", "end_ns", "time_ns") if isinstance(t := c.max(), int)), default=0)


def _first_instant(trace: Trace) -> int:
    return min((t for c in _times(trace, "start_ns") if isinstance(t := c.min(), int)), default=0)


def _times(trace: Trace, *names: str) -> Iterator[pl.Series]:
    """The columns called `names` of all tables."""
    for table in TABLES:
        frame = trace.table(table)
        for name in names:
            if name in frame.columns:
                yield frame[name]
