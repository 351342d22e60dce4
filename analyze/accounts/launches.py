"""Launches: how long work waited, how small the kernels are, and which of them took the time.

    call        |---L---|
    stream   ...XXX|           |YYYYY            latency      = start of Y - start of L
                                                 queue delay  = start of Y - max(end of L, end of X), at least 0

Latency includes the time inside the call; the queue delay is what neither the host nor the stream's own earlier work explains.
Only the first op of a launch counts (a graph launch starts many), and only ops that start inside the window. Kernels count
if they lie in it whole: the length of one that the window cuts would say more of the window than of the kernel. Percentiles
are nearest-rank: values that occurred. Everything is by innermost stage; a null stage is the whole device. A machine
without a GPU launches nothing and has no rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.columns import SLICE
from ...traces.engine import primitive
from ...traces.model import KINDS, distinct_values
from ..attribution.lanes import Lanes
from ..attribution.launches import Calls, Launches
from ..attribution.steps import NOTHING
from ..attribution.window import Span
from ..attribution.window_ops import Rows, WindowOps
from ..intervals import Ints
from ..result import IDLE, SCHEMAS
from .concurrency import ends_before

SMALL_NS: Final = 10_000
"""Kernels shorter than this are small: about what one launch costs the host (2 to 10 us)."""

PERCENTILES: Final = (50, 90, 99)

DEVICE_CAUSES: Final = ("queued", "graph_internal", "dependency", "unknown")
"""Idle causes for which the host is not to blame, or is not known to be."""

TOP: Final = 10
"""Kernels listed for each device, and half as many for each stage."""

_IS_KERNEL: Final = np.array([kind in ("compute", "comm") for kind in KINDS])


def launch_table(work: WindowOps, ops: pl.DataFrame, calls: Calls, launches: Launches, lanes: Lanes) -> pl.DataFrame:
    """Table ``launches`` of the ops in the windows; `ops`, `launches` and `lanes` are those of the whole trace."""
    if len(calls) == 0 or len(work.table) == 0:
        return pl.DataFrame(schema=SCHEMAS["launches"])
    delay, first = op_waits(ops, calls, launches, lanes)
    start = ops["start_ns"].to_numpy()
    latencies: list[tuple[object, ...]] = []
    delays: list[tuple[object, ...]] = []
    for span, mine in work.devices():
        at = work.in_trace(mine)
        rows = mine[first[at] & (start[at] >= span.start_ns)]
        parts = [(None, rows), *work.by_path(rows)] if len(rows) else []
        for stage, chosen in parts:
            at = work.in_trace(chosen)
            latency = _latency(start, at, calls, launches)
            latencies.append((span.device, stage, "latency", *_distribution(latency)))
            delays.append((span.device, stage, "queue_delay", *_distribution(delay[at])))
    return pl.DataFrame(latencies + delays, schema=SCHEMAS["launches"], orient="row")


def kernel_sums(work: WindowOps, host_devices: Set[int]) -> list[Kernels]:
    """The kernels of each device in its window, counted for `kernel_counts` and `top_kernels`."""
    return [_sums(work, *one) for one in work.devices() if one[0].device not in host_devices]


@dataclass(frozen=True, slots=True)
class _Stage:
    """The kernels of one stage, or of all of a device (null): how many of each name and for how long, how many small ones and for
    how long, and how many of all within an iteration."""

    stage: str | None
    count: Ints
    total_ns: Ints
    small: int
    small_ns: int
    inside: int


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of one device by stage, and how many iterations its ops belong to."""

    device: int
    iterations: int
    stages: list[_Stage]


def _sums(work: WindowOps, span: Span, rows: Rows) -> Kernels:
    """What is counted of the kernels among the ops `rows` of a device."""
    names = len(distinct_values(work.table["name"])) or 1
    dense = (max(work.stages.path_names) - min(work.stages.path_names) + 2) * names <= _TABLE
    stages = list(_by_table(work, rows, names) if dense else _by_stage(work, rows, names))
    return Kernels(span.device, _distinct(work.iteration[rows]), stages)


_TABLE: Final = 1 << 21
"""Pairs of a stage and a name up to which a table of all of them is made."""


def _distinct(iteration: Ints) -> int:
    """How many iterations there are in `iteration`."""
    if len(iteration) == 0:
        return 0
    width = int(iteration.max()) + 1
    if width > len(iteration):
        return len(np.unique(iteration[iteration != NOTHING]))
    seen = np.zeros(width + 1, bool)
    seen[iteration] = True  # the last one stands for `NOTHING`
    return int(seen[:-1].sum())


def _by_stage(work: WindowOps, rows: Rows, names: int) -> Iterator[_Stage]:
    kernels = rows[_IS_KERNEL[work.kind[rows]]]
    if work.whole is not None:
        kernels = kernels[work.whole[kernels]]
    name = work.table["name"].to_physical().fill_null(0).to_numpy()
    for stage, mine in [(None, kernels), *work.by_path(kernels)]:
        length = work.end[mine] - work.start[mine]
        small = length < SMALL_NS
        total = np.zeros(names, np.int64)  # not `bincount`, whose float64 is exact only below 2**53 ns
        np.add.at(total, name[mine], length)
        yield _Stage(
            stage,
            np.bincount(name[mine], minlength=names),
            total,
            int(small.sum()),
            int(length[small].sum()),
            int((work.iteration[mine] != NOTHING).sum()),
        )


def _by_table(work: WindowOps, rows: Rows, names: int) -> Iterator[_Stage]:
    """`_by_stage` through a table of all stages and names. Its first row is the whole device."""
    low, high = min(work.stages.path_names), max(work.stages.path_names)
    count, total = (np.zeros((high - low + 2, names), np.int64) for _ in range(2))
    small, small_ns, inside = (np.zeros(high - low + 2, np.int64) for _ in range(3))
    name = work.table["name"].to_physical().fill_null(0).to_numpy()
    for first in range(0, len(rows), SLICE):
        some = rows[first : first + SLICE]
        some = some[
            _IS_KERNEL[work.kind[some]] if work.whole is None else _IS_KERNEL[work.kind[some]] & work.whole[some]
        ]
        stage, length = work.path[some] - np.int64(low - 1), work.end[some] - work.start[some]
        cell, is_small = stage * names + name[some], length < SMALL_NS
        np.add.at(count.reshape(-1), cell, 1)
        np.add.at(total.reshape(-1), cell, length)
        np.add.at(small, stage[is_small], 1)
        np.add.at(small_ns, stage[is_small], length[is_small])
        np.add.at(inside, stage, work.iteration[some] != NOTHING)
    for column in (count, total, small, small_ns, inside):
        column[0] = column[1:].sum(axis=0)
    used = np.flatnonzero(count[1:].sum(axis=1)).tolist()
    for stage, i in [(None, 0), *sorted((work.stages.path_names[i + low], i + 1) for i in used)]:
        yield _Stage(stage, count[i], total[i], int(small[i]), int(small_ns[i]), int(inside[i]))


def _latency(op_start: Ints, rows: Rows, calls: Calls, launches: Launches) -> Ints:
    """The latency of the ops `rows` of the trace."""
    out = np.empty(len(rows), np.int64)
    for first in range(0, len(rows), SLICE):
        some = rows[first : first + SLICE]
        np.subtract(op_start[some], calls.start_ns[launches.call[some]], out=out[first : first + SLICE])
    return out


def op_waits(ops: pl.DataFrame, calls: Calls, launches: Launches, lanes: Lanes) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """(queue delay of each op of the trace that has a call, which ops are the first of their call)."""
    start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    return _launch_waits(launches.call, lanes.of, start, end, calls.end_ns, len(lanes.known))


@primitive
def _launch_waits(
    call: Ints, lane: Ints, start: Ints, end: Ints, call_end: Ints, lanes: int
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    launched = call >= 0
    earliest = np.full(len(call_end), len(call), np.int64)
    reverse = np.flatnonzero(launched)[::-1]
    earliest[call[reverse]] = reverse  # the earliest op of a call is written last
    of = np.maximum(call, 0)
    first = launched & (earliest[of] == np.arange(len(call)))
    ready = np.maximum(call_end[of], ends_before(lane, end))
    return np.where(launched, np.maximum(start - ready, 0), 0), first


def _distribution(values: Ints) -> tuple[int, ...]:
    """Count, minimum, the percentiles, maximum. Changes the order of `values`."""
    n = len(values)
    ranks = [0, *(-(-p * n // 100) - 1 for p in PERCENTILES), n - 1]
    values.partition(sorted(set(ranks)))
    return n, *(int(values[r]) for r in ranks)


def kernel_counts(
    kernels: Sequence[Kernels], ledger: pl.DataFrame, spans: Sequence[Span], host_devices: Set[int]
) -> pl.DataFrame:
    """Table ``kernel_counts``: kernels, small ones, kernels per iteration, and the idle time the host is to blame for."""
    found: dict[tuple[int, str | None], tuple[int | float | None, ...]] = {
        (one.device, of.stage): (
            int(of.count.sum()),
            int(of.total_ns.sum()),
            of.small,
            of.small_ns,
            of.inside / one.iterations if one.iterations else None,
        )
        for one in kernels
        for of in one.stages
    }
    idle = (pl.col("category") == IDLE) & ~pl.col("cause").is_in(DEVICE_CAUSES).fill_null(False)
    blame = (
        ledger.group_by("device", "stage")
        .agg(pl.col("ns").sum().alias("ledger_ns"), pl.col("ns").filter(idle).sum().alias("host_bound_ns"))
        .sort("device", "stage")
    )
    cells: dict[tuple[int, str | None], tuple[int, int]] = {
        (d, s): (t, h) for d, s, t, h in blame.iter_rows() if d not in host_devices
    }
    for span in spans:
        if span.device in host_devices:
            continue
        mine_cells = [v for (d, s), v in cells.items() if d == span.device]
        cells[span.device, None] = (sum(t for t, _ in mine_cells), sum(h for _, h in mine_cells))
    keys = sorted(found.keys() | cells.keys(), key=lambda key: (key[0], key[1] is not None, key[1] or ""))
    rows_out = [(*key, *found.get(key, (0, 0, 0, 0, None)), *cells.get(key, (0, 0))) for key in keys]
    return pl.DataFrame(rows_out, schema=SCHEMAS["kernel_counts"], orient="row")


def top_kernels(kernels: Sequence[Kernels], names: Sequence[str]) -> pl.DataFrame:
    """Table ``top_kernels``: those with the longest total time. `share` is of the kernels of that stage or device.

    `names` are the words of the ops' column of names.
    """
    rows_out: list[tuple[object, ...]] = []
    for one in kernels:
        for of in one.stages:
            used = np.flatnonzero(of.count)
            whole = int(of.total_ns.sum())
            longest = used[np.argsort(-of.total_ns[used], kind="stable")[: TOP if of.stage is None else TOP // 2]]
            for c in longest.tolist():
                ns, n = int(of.total_ns[c]), int(of.count[c])
                rows_out.append((one.device, of.stage, names[c], n, ns, ns / n, ns / whole if whole else None))
    return pl.DataFrame(rows_out, schema=SCHEMAS["top_kernels"], orient="row")
