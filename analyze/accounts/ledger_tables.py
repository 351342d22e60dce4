"""Tables ``ledger`` and ``gaps`` of every device, from the cells of `ledger`.

The cells of a device are summed over the stages of one path, some at a time, and must add up to its window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import polars as pl

from ...traces.model import KINDS
from ..attribution.attribute import Attributed
from ..attribution.calls import OTHER
from ..attribution.dependencies import STREAM, Awaited, awaited
from ..attribution.interruptions import NONE, Interrupted, interrupted
from ..attribution.lanes import lanes_of
from ..attribution.stages import Stages
from ..attribution.window import Span
from ..attribution.window_ops import Rows, kind_codes
from ..intervals import Ints, cover
from ..result import CAUSES, IDLE, OPENED_BY, SCHEMAS, joined
from .bandwidth import IS_COPY
from .ledger import DeviceOps, Gaps, Host, Launched, Pieces, busy_cells, idle_cells, idle_pieces, summed


def ledger_tables(
    a: Attributed, waits: Awaited | None, interrupted: Mapping[int, Interrupted], largest_gaps: int
) -> dict[str, pl.DataFrame]:
    """Tables ``ledger`` and ``gaps`` (at most `largest_gaps` a device), one device after the other: what is kept of each
    meanwhile is as large as its ops are. `waits` are waits for other devices, null where none was recorded."""
    launched, states = _launches_of(a), a.host_states()
    found = []
    for span in a.spans:
        host = Host(states, a.launches.threads, span.device in a.host_devices, interrupted[span.device])
        found.append(_of_device(span, _device_ops(a, span.device, launched, waits), host, a.stages, largest_gaps))
    return joined(found, "ledger", "gaps")


def pieces_of_idle_time(a: Attributed) -> Iterator[tuple[Span, list[Pieces]]]:
    """The idle cells of each device's ledger as intervals: of one cause and stage they sum to that table's cells."""
    waits, others = awaited(a.trace, a.calls, a.launches, lanes_of(a.ops)), interrupted_gaps(a)
    launched, states = _launches_of(a), a.host_states()
    for span in a.spans:
        host = Host(states, a.launches.threads, span.device in a.host_devices, others[span.device])
        ops = _device_ops(a, span.device, launched, waits)
        busy = cover(*(np.clip(column, span.start_ns, span.end_ns) for column in (ops.start_ns, ops.end_ns)))
        yield span, list(idle_pieces(ops, busy, span, host))


def interrupted_gaps(a: Attributed) -> dict[int, Interrupted]:
    """The gaps of each device that other work only interrupts; a host has none: its threads are the device."""
    return {
        span.device: NONE
        if span.device in a.host_devices
        else interrupted(a.trace.ops, a.calls, a.launches, a.found, span.device)
        for span in a.spans
    }


def _of_device(span: Span, ops: DeviceOps, host: Host, stages: Stages, largest_gaps: int) -> dict[str, pl.DataFrame]:
    busy, union = busy_cells(ops, span.start_ns, span.end_ns)
    cells = [summed(busy, stages.path_of_code(busy.stage))]
    del busy
    largest: list[Gaps] = []
    for idle, gaps in idle_cells(ops, union, span, host):
        cells.append(summed(idle, stages.path_of_code(idle.stage)))
        largest.append(gaps.largest(largest_gaps))
    ledger = _ledger_table(span.device, pl.concat(cells), stages)
    total = int(ledger["ns"].sum())
    if total != span.end_ns - span.start_ns:
        raise AssertionError(f"ledger of device {span.device} sums to {total}, not to its window")
    return {"ledger": ledger, "gaps": _gap_table(span.device, Gaps.joined(largest).largest(largest_gaps), stages)}


def _device_ops(a: Attributed, device: int, launched: Callable[[Rows], Launched], waits: Awaited | None) -> DeviceOps:
    ops = a.ops
    columns = [ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy(), kind_codes(ops), ops["stage"].to_numpy()]
    columns.append(a.iteration)
    solid = (ops["device"].to_numpy() == device) & (columns[1] > columns[0])
    rows = None if solid.all() else np.flatnonzero(solid).astype(np.int32)

    def in_trace(chosen: Rows) -> Rows:
        return chosen if rows is None else rows[chosen]

    def until(chosen: Rows, called: Ints, start: Ints, end: Ints) -> Ints:
        assert waits is not None
        return waits.until(ops.select(STREAM)[in_trace(chosen)], device, called, start, end)

    start, end, kind, stage, iteration = columns if rows is None else [column[rows] for column in columns]
    return DeviceOps(
        start_ns=start,
        end_ns=end,
        kind=kind,
        stage=stage,
        iteration=iteration,
        launched=lambda chosen: launched(in_trace(chosen)),
        awaited=None if waits is None else until,
    )


def _launches_of(a: Attributed) -> Callable[[Rows], Launched]:
    """What is known of the launches of some ops of the trace."""
    ops, calls, launches = a.trace.ops, a.calls, a.launches
    highest = ops["correlation"].max()
    ids = np.int64(highest if isinstance(highest, int) and highest > 0 else 0) + 2  # more than there are

    def launched(rows: Rows) -> Launched:
        table = ops.select("pid", "correlation", "kind", "src_kind", "dst_kind")[rows]
        touches = (pl.col("src_kind") == "pageable") | (pl.col("dst_kind") == "pageable")
        pageable = table.select(touches.fill_null(False)).to_series().to_numpy() & IS_COPY[kind_codes(table)]
        call, at = launches.call[rows], launches.at_ns(rows, ops, calls)
        known = call >= 0
        if len(calls):
            ends, kinds = np.where(known, calls.end_ns[call], at), np.where(known, calls.kind[call], OTHER)
            synchronous = known & calls.synchronous[call]
        else:
            ends, kinds, synchronous = at, np.full(len(rows), OTHER, np.int8), np.zeros(len(rows), bool)
        return Launched(
            call=call,
            launch=table["pid"].to_numpy() * ids + table["correlation"].cast(pl.Int64).fill_null(-1).to_numpy() + 1,
            thread=launches.thread[rows],
            call_start_ns=at,
            call_end_ns=ends,
            call_kind=kinds,
            call_synchronous=synchronous,
            pageable=pageable,
        )

    return launched


def _ledger_table(device: int, parts: pl.DataFrame, stages: Stages) -> pl.DataFrame:
    keys = ("path", "iteration", "category", "cause")
    cells = parts.group_by(keys).agg(pl.col("ns").sum()).sort(keys)
    return pl.DataFrame(
        {
            "device": pl.repeat(device, len(cells), dtype=pl.Int32, eager=True),
            "stage": [stages.path_names[p] for p in cells["path"]],
            "iteration": [i if i >= 0 else None for i in cells["iteration"]],
            "category": [(*KINDS, IDLE)[c] for c in cells["category"]],
            "cause": [CAUSES[c] if c >= 0 else None for c in cells["cause"]],
            "ns": cells["ns"],
        },
        schema=SCHEMAS["ledger"],
    )


def _gap_table(device: int, found: Gaps, stages: Stages) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "device": [device] * len(found.start_ns),
            "start_ns": found.start_ns,
            "end_ns": found.end_ns,
            "ns": found.end_ns - found.start_ns,
            "stage": stages.path_of(found.stage),
            "cause": [CAUSES[c] for c in found.cause.tolist()],
            "opened_by": [OPENED_BY[o] for o in found.opened_by.tolist()],
        },
        schema=SCHEMAS["gaps"],
    )
