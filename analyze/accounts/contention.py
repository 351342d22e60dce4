"""What kernels pay for what runs beside them: the same kernel and grid alone, and under other work.

    comm            |===========|
    gemm   |---|---|-----|-----|---|        alone 4, beside 6: 1.5 times slower; 4 of the 12 hidden are paid back

A kernel is alone where next to nothing else runs on its device, and otherwise beside that which covers most of it: communication,
copies, or kernels of other streams. It is compared with the median of the same kernel and grid alone in the same stage, and
where none ran alone there, in all stages: the same grid may then do another amount of work, which ``elsewhere`` counts. Kernels
whose times vary when alone are not compared at all.

``extra_ns = compared_ns - alone_ns`` is what the compared kernels took longer, in integers, and ``compared_ns / alone_ns`` how
many times slower they were. A kernel pays for more than the time beside: where a collective holds the processors that a part of
its blocks needs, these begin when the collective ends.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.model import COPY_KINDS, KINDS
from ..attribution.lanes import Lanes
from ..attribution.window_ops import Rows, WindowOps, groups
from ..intervals import Cover, Ints, cover
from ..result import SCHEMAS
from .concurrency import busy_depth

BESIDE: Final = ("comm", "copy", "compute")
"""What a kernel can run beside; of equal shares the first."""

ALONE: Final = 0.01
"""Up to this share of its time beside anything, a kernel ran alone."""

FEWEST: Final = 3
"""Times that a kernel must have run alone to be compared."""

STEADY: Final = 1.25
"""Kernels whose upper quartile alone is more than this times their lower one do not do the same each time."""

SOON_NS: Final = 2_000
SOON: Final = 0.01
"""A kernel that ends no later than this, or than this share of its time, after a copy that it covers may have waited for it."""

MOST: Final = 32
"""Kernels that end so soon after one copy, of which the first are looked at."""

_COMPUTE, _COMM = KINDS.index("compute"), KINDS.index("comm")
_COPIES: Final = tuple(KINDS.index(kind) for kind in COPY_KINDS if kind != "h2h")


def contention_table(ops: WindowOps, lanes: Lanes, host_devices: Set[int]) -> pl.DataFrame:
    """Table ``contention``: per GPU (stage null) and stage, the kernels that ran beside each of `BESIDE`; no rows without any.

    Kernels that the window cuts are left out; `lanes` are those of all ops of the trace.
    """
    found = [
        _of_device(span.device, ops, rows, lanes.of[ops.in_trace(rows)])
        for span, rows in ops.devices()
        if span.device not in host_devices
    ]
    return pl.concat([pl.DataFrame(schema=SCHEMAS["contention"]), *found])


def _of_device(device: int, ops: WindowOps, rows: Rows, lane: npt.NDArray[np.integer]) -> pl.DataFrame:
    kind, start, end = ops.kind[rows], ops.start[rows], ops.end[rows]
    computing = kind == _COMPUTE
    moved = [cover(start[some], end[some]) for some in (kind == _COMM, np.isin(kind, _COPIES))]
    covers = [*moved, _shared(lane[computing], start[computing], end[computing])]
    kernels = np.flatnonzero(computing if ops.whole is None else computing & ops.whole[rows])
    if not any(len(one.start) for one in covers) or not len(kernels):
        return pl.DataFrame(schema=SCHEMAS["contention"])
    low, high = start[kernels], end[kernels]
    under = np.stack([one.within(low, high) for one in covers])
    most = under.argmax(axis=0)
    table = pl.DataFrame(
        {
            "name": ops.table["name"].to_physical().gather(rows[kernels]),
            "grid": ops.table["grid"].gather(rows[kernels]),
            "path": ops.path[rows[kernels]],
            "ns": high - low,
            "beside": most,
            "beside_ns": under.max(axis=0),
            "alone": under.sum(axis=0) <= ALONE * (high - low),
        }
    )
    slowed = table.filter(~pl.col("alone"))
    if slowed.is_empty():
        return pl.DataFrame(schema=SCHEMAS["contention"])
    compared = _compared(slowed, table.filter(pl.col("alone") & pl.col("grid").is_not_null()))
    names = pl.Series(BESIDE, dtype=pl.String)
    stage = pl.Series([ops.stages.path_names[code] for code in compared["path"].to_list()], dtype=pl.String)
    whole = compared.with_columns(stage.alias("stage"), names.gather(compared["beside"]).alias("beside"))
    sums = [_sums(whole.with_columns(pl.lit(None, pl.String).alias("stage"))), _sums(whole)]
    return pl.concat(sums).with_columns(pl.lit(device, pl.Int32).alias("device")).select(list(SCHEMAS["contention"]))


def _shared(lane: npt.NDArray[np.integer], start: Ints, end: Ints) -> Cover:
    """When two streams or more are busy; `lane` is the stream of each op, and the ops are sorted by start."""
    at, depth = busy_depth([cover(start[rows], end[rows]) for _, rows in groups(lane)])
    several = np.flatnonzero(depth >= 2)
    return cover(at[several], at[several + 1])


def _compared(slowed: pl.DataFrame, alone: pl.DataFrame) -> pl.DataFrame:
    """`slowed` with what each kernel takes alone (``alone_ns``, null: cannot tell) and whether that was seen ``elsewhere``."""
    same = ["name", "grid"]
    here = slowed.join(_usual(alone, [*same, "path"]), on=[*same, "path"], how="left", maintain_order="left")
    both = here.join(_usual(alone, same), on=same, how="left", suffix="_elsewhere", maintain_order="left")
    nowhere = pl.col("alone_ns").is_null() & ~pl.col("seen").fill_null(False)
    return both.with_columns(
        pl.when(nowhere).then("alone_ns_elsewhere").otherwise("alone_ns").alias("alone_ns"),
        (nowhere & pl.col("alone_ns_elsewhere").is_not_null()).alias("elsewhere"),
    )


def _usual(alone: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """What kernels take alone, the lower median in ns, null where they vary; of those that ran so often enough (``seen``)."""
    ns = pl.col("ns")
    return (
        alone.group_by(by)
        .agg(
            ns.sort().get((pl.len() - 1) // 2).alias("alone_ns"),
            ns.quantile(0.25, "lower").alias("low"),
            ns.quantile(0.75, "higher").alias("high"),
            pl.len().alias("n"),
        )
        .filter(pl.col("n") >= FEWEST)
        .select(
            *by,
            pl.when(pl.col("high") <= STEADY * pl.col("low")).then("alone_ns").alias("alone_ns"),
            pl.lit(True).alias("seen"),
        )
    )


def _sums(kernels: pl.DataFrame) -> pl.DataFrame:
    known = pl.col("alone_ns").is_not_null()
    ns, alone = pl.col("ns").filter(known).sum(), pl.col("alone_ns").sum()
    return (
        kernels.group_by("stage", "beside")
        .agg(
            pl.len().cast(pl.Int64).alias("kernels"),
            pl.col("ns").sum().alias("kernel_ns"),
            pl.col("beside_ns").sum(),
            known.sum().cast(pl.Int64).alias("compared"),
            pl.col("elsewhere").sum().cast(pl.Int64),
            ns.alias("compared_ns"),
            alone.alias("alone_ns"),
            (ns - alone).alias("extra_ns"),
            pl.when(alone > 0).then(ns / alone).alias("slowdown"),
        )
        .sort(["stage", "kernel_ns", "beside"], descending=[False, True, False], nulls_last=False)
    )


def feeds(ops: WindowOps, lanes: Lanes, host_devices: Set[int]) -> tuple[int, int]:
    """(ns of copies and communication under kernels that ended just as they did, ns of them under any kernel)."""
    fed = under = 0
    for span, rows in ops.devices():
        if span.device in host_devices:
            continue
        kind = ops.kind[rows]
        computing, moving = kind == _COMPUTE, np.isin(kind, (*_COPIES, _COMM))
        if computing.any() and moving.any():
            stream = lanes.of[ops.in_trace(rows)]
            part = _fed(stream, ops.start[rows], ops.end[rows], computing, moving)
            fed, under = fed + part[0], under + part[1]
    return fed, under


def _fed(
    lane: npt.NDArray[np.integer],
    start: Ints,
    end: Ints,
    computing: npt.NDArray[np.bool_],
    moving: npt.NDArray[np.bool_],
) -> tuple[int, int]:
    """`feeds` of one device."""
    kernels = cover(start[computing], end[computing])
    low, high = start[moving], end[moving]
    beneath = kernels.within(low, high)
    order = np.argsort(end[computing], kind="stable")
    ends, starts, streams = end[computing][order], start[computing][order], lane[computing][order]
    first = np.searchsorted(ends, high, side="left")
    last = np.searchsorted(ends, high + np.maximum(SOON_NS, (SOON * (high - low)).astype(np.int64)), side="right")
    held = np.zeros(len(low), bool)
    for step in range(min(int((last - first).max(initial=0)), MOST)):
        at = np.minimum(first + step, len(ends) - 1)
        held |= (first + step < last) & (starts[at] <= low) & (streams[at] != lane[moving])
    return int(beneath[held].sum()), int(beneath.sum())
