"""Launches: how long work waited, how small the kernels are, and which of them took the time.

    call        |---L---|
    stream   ...XXX|           |YYYYY            latency      = start of Y - start of L
                                                 queue delay  = start of Y - max(end of L, end of X), at least 0

Latency includes the time inside the call; the queue delay is what neither the host nor the stream's own earlier work explains.
Only the first op of a launch counts (a graph launch starts many), and only ops that start inside the window. Percentiles are
nearest-rank: values that occurred. Everything is by innermost stage; a null stage is the whole device. A machine
without a GPU launches nothing and has no rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..traces.model import KINDS, distinct_values
from .acceleration import accelerated
from .concurrency import ends_before
from .intervals import Ints
from .result import IDLE, SCHEMAS
from .steps import NOTHING
from .work import Rows, Span, Work

SMALL_NS: Final = 10_000
"""Kernels shorter than this are small: about what one launch costs the host (2 to 10 us)."""

PERCENTILES: Final = (50, 90, 99)

DEVICE_CAUSES: Final = ("queued", "graph_internal", "dependency")
"""Idle causes for which the host is not to blame."""

TOP: Final = 10
"""Kernels listed for each device, and half as many for each stage."""

_IS_KERNEL: Final = np.array([kind in ("compute", "comm") for kind in KINDS])


Counts = dict[tuple[int, str | None], tuple[int | float | None, ...]]


def launch_tables(work: Work) -> tuple[pl.DataFrame, Counts, pl.DataFrame]:
    """Tables ``launches`` and ``top_kernels``, and between them what `kernel_counts` needs."""
    launches = pl.DataFrame(_distributions(work), schema=SCHEMAS["launches"], orient="row")
    kernels = list(_kernels(work))  # as much as the numbers of all ops, so not before
    return launches, _counts(work, kernels), _top(work, kernels)


@dataclass(frozen=True, slots=True)
class _Kernels:
    """The kernels of one device, and by stage; `rows` are all its ops."""

    span: Span
    rows: Rows
    kernels: Rows
    by_stage: list[tuple[str, Rows]]


def _kernels(work: Work) -> Iterator[_Kernels]:
    for span, rows in work.devices():
        if span.device not in work.host_devices:
            kernels = rows[_IS_KERNEL[work.kind[rows]]]
            yield _Kernels(span, rows, kernels, list(work.by_path(kernels)))


def _distributions(work: Work) -> list[tuple[object, ...]]:
    if len(work.calls) == 0 or len(work.ops) == 0:
        return []
    delay, first = op_waits(work)
    start = work.trace.ops["start_ns"].to_numpy()
    latencies: list[tuple[object, ...]] = []
    delays: list[tuple[object, ...]] = []
    for span, mine in work.devices():
        at = work.in_trace(mine)
        rows = mine[first[at] & (start[at] >= span.start_ns)]
        parts = [(None, rows), *work.by_path(rows)] if len(rows) else []
        for stage, chosen in parts:
            at = work.in_trace(chosen)
            waited = start[at]
            waited -= work.calls.start_ns[work.launches.call[at]]
            latency = _distribution(waited)
            del waited
            latencies.append((span.device, stage, "latency", *latency))
            delays.append((span.device, stage, "queue_delay", *_distribution(delay[at])))
    return latencies + delays


def op_waits(work: Work) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """(queue delay of each op of the trace that has a call, which ops are the first of their call)."""
    ops, launches, calls = work.trace.ops, work.launches, work.calls
    start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    fast = accelerated(len(start))
    if fast is not None:
        call = launches.call.astype(np.int32, copy=False)
        delay, first = np.zeros(len(start), np.int64), np.zeros(len(start), bool)
        fast.launch_waits(call, work.lane, start, end, calls.end_ns, len(work.lanes), delay, first)
        return delay, first
    launched = launches.call >= 0
    earliest = np.full(len(calls), len(ops), np.int64)
    reverse = np.flatnonzero(launched)[::-1]
    earliest[launches.call[reverse]] = reverse  # the earliest op of a call is written last
    of = np.maximum(launches.call, 0)
    first = launched & (earliest[of] == np.arange(len(ops)))
    ready = np.maximum(calls.end_ns[of], ends_before(work.lane, end))
    return np.where(launched, np.maximum(start - ready, 0), 0), first


def _distribution(values: Ints) -> tuple[int, ...]:
    """Count, minimum, the percentiles, maximum. Changes the order of `values`."""
    n = len(values)
    ranks = [0, *(-(-p * n // 100) - 1 for p in PERCENTILES), n - 1]
    values.partition(sorted(set(ranks)))
    return n, *(int(values[r]) for r in ranks)


def _counts(work: Work, found: list[_Kernels]) -> Counts:
    out: Counts = {}
    for one in found:
        iteration = work.iteration[one.rows]
        iterations = len(np.unique(iteration[iteration != NOTHING]))
        for stage, mine in [(None, one.kernels), *one.by_stage]:
            out[one.span.device, stage] = _count(work, mine, iterations)
    return out


def kernel_counts(work: Work, found: Counts, ledger: pl.DataFrame) -> pl.DataFrame:
    """Table ``kernel_counts``: kernels, small ones, kernels per iteration, and the idle time the host is to blame for."""
    idle = (pl.col("category") == IDLE) & ~pl.col("cause").is_in(DEVICE_CAUSES).fill_null(False)
    blame = (
        ledger.group_by("device", "stage")
        .agg(pl.col("ns").sum().alias("ledger_ns"), pl.col("ns").filter(idle).sum().alias("host_bound_ns"))
        .sort("device", "stage")
    )
    cells: dict[tuple[int, str | None], tuple[int, int]] = {
        (d, s): (t, h) for d, s, t, h in blame.iter_rows() if d not in work.host_devices
    }
    for span in work.spans:
        if span.device in work.host_devices:
            continue
        mine_cells = [v for (d, s), v in cells.items() if d == span.device]
        cells[span.device, None] = (sum(t for t, _ in mine_cells), sum(h for _, h in mine_cells))
    keys = sorted(found.keys() | cells.keys(), key=lambda key: (key[0], key[1] is not None, key[1] or ""))
    rows_out = [(*key, *found.get(key, (0, 0, 0, 0, None)), *cells.get(key, (0, 0))) for key in keys]
    return pl.DataFrame(rows_out, schema=SCHEMAS["kernel_counts"], orient="row")


def _count(work: Work, kernels: Rows, iterations: int) -> tuple[int | float | None, ...]:
    length = work.end[kernels] - work.start[kernels]
    small = length < SMALL_NS
    inside = int((work.iteration[kernels] != NOTHING).sum())
    return (
        len(kernels),
        int(length.sum()),
        int(small.sum()),
        int(length[small].sum()),
        inside / iterations if iterations else None,
    )


def _top(work: Work, found: list[_Kernels]) -> pl.DataFrame:
    """The kernels with the longest total time. `share` is of the kernels of that stage or device."""
    names = distinct_values(work.ops["name"])
    name = work.ops["name"].to_physical().fill_null(0).to_numpy()
    rows_out: list[tuple[object, ...]] = []
    for one in found:
        parts: list[tuple[str | None, Rows]] = [(None, one.kernels)] if len(one.kernels) else []
        for stage, mine in [*parts, *one.by_stage]:
            length, code = work.end[mine] - work.start[mine], name[mine]
            # Sums below 2**53 ns (104 days) are exact in float64.
            total = np.bincount(code, weights=length, minlength=len(names)).astype(np.int64)
            count = np.bincount(code, minlength=len(names))
            used = np.flatnonzero(count)
            whole = int(total.sum())
            for c in used[np.argsort(-total[used], kind="stable")[: TOP if stage is None else TOP // 2]].tolist():
                ns, n = int(total[c]), int(count[c])
                rows_out.append((one.span.device, stage, names[c], n, ns, ns / n, ns / whole if whole else None))
    return pl.DataFrame(rows_out, schema=SCHEMAS["top_kernels"], orient="row")
