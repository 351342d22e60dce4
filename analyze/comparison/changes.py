"""What two recordings did, beside how long it took: kernels added, removed and changed, copies, launches, large gaps.

Kernels are identified by their short name (`traces.kernel_names.function_name`), cut to the windows like everything else, so
that their numbers and times sum to those of table ``kernel_counts`` (and the whole graph launches beside them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from ...traces.kernel_names import function_name
from ...traces.model import COPY_KINDS, Trace
from ..result import Analysis
from .sides import GRAPH

LARGE_GAP: Final = 0.05
"""One gap above this fraction of its window is flagged: a comparison of single recordings may rest on it alone."""

_KERNELS: Final = ("compute", "comm", GRAPH)
_COPIES: Final = (*COPY_KINDS, "memset")

KernelTotals = dict[tuple[str, str], tuple[int, int]]
"""(short name, kind) -> (how many, sum of their ns)."""


@dataclass(frozen=True, slots=True)
class Change:
    """One kernel (by short name) or one kind of copy on both sides.

    `status` is ``added``, ``removed``, ``changed`` (another number for the same work) or ``same`` (the same number; its time
    may differ). `difference` is the optimized time minus the baseline's in the units of the comparison; the bytes of
    kernels are 0.
    """

    name: str
    kind: str
    status: str
    base_ops: int
    opt_ops: int
    base_ns: int
    opt_ns: int
    difference: int
    base_bytes: int = 0
    opt_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LargeGap:
    """An idle interval longer than `LARGE_GAP` of its window."""

    device: int
    ns: int
    share: float
    stage: str
    cause: str
    opened_by: str


def kernel_totals(trace: Trace, windows: pl.DataFrame) -> KernelTotals:
    """Kernels, and graph launches recorded whole, inside `windows` (table ``windows``), over all devices that are GPUs."""
    hosts = trace.devices.filter(pl.col("type") == "host")["device"].to_list()
    out: KernelTotals = {}
    ops = trace.ops.lazy().filter(pl.col("kind").cast(pl.String).is_in(_KERNELS))
    for device, low, high in windows.iter_rows():
        if device in hosts:
            continue
        start, end = pl.col("start_ns"), pl.col("end_ns")
        touching = (start < high) & ((end > low) | ((start == end) & (end >= low)))
        found = (
            ops.filter((pl.col("device") == device) & touching)
            .group_by("name", "kind")
            .agg(pl.len().alias("n"), (end.clip(low, high) - start.clip(low, high)).sum().alias("ns"))
            .collect()
        )
        for name, kind, n, ns in found.iter_rows():
            key = (name if kind == GRAPH else function_name(name or ""), kind)
            before = out.get(key, (0, 0))
            out[key] = (before[0] + n, before[1] + ns)
    return out


def kernel_changes(base: KernelTotals, opt: KernelTotals, weights: tuple[int, int]) -> list[Change]:
    """Every kernel of either side, the largest difference of time first; `weights` are those of the waterfall."""
    rows = []
    for key in base.keys() | opt.keys():
        (n, ns), (m, other) = base.get(key, (0, 0)), opt.get(key, (0, 0))
        rows.append(_change(*key, n, m, ns, other, weights))
    return _largest_first(rows)


def copy_changes(base: Analysis, opt: Analysis, weights: tuple[int, int]) -> list[Change]:
    """Each kind of copy of either side: how many, their bytes, and the sum of their times over all devices."""
    one, other = _copies(base), _copies(opt)
    rows = []
    for kind in (k for k in _COPIES if k in one or k in other):
        (n, nbytes, ns), (m, moved, after) = one.get(kind, (0, 0, 0)), other.get(kind, (0, 0, 0))
        rows.append(_change(kind, kind, n, m, ns, after, weights, nbytes, moved))
    return rows


def launch_count(analysis: Analysis) -> int | None:
    """Calls that launched at least one op that starts in the window; null where launches were not recorded."""
    found = analysis.launches.filter((pl.col("figure") == "latency") & pl.col("stage").is_null())
    return None if found.is_empty() else int(found["n"].sum())


def large_gaps(analysis: Analysis) -> list[LargeGap]:
    """Gaps above `LARGE_GAP` of their device's window, longest first."""
    windows = analysis.windows.select("device", (pl.col("end_ns") - pl.col("start_ns")).alias("window_ns"))
    gaps = analysis.gaps.join(windows, on="device").filter(pl.col("ns") > pl.col("window_ns") * LARGE_GAP)
    return [
        LargeGap(g["device"], g["ns"], g["ns"] / g["window_ns"], g["stage"], g["cause"], g["opened_by"])
        for g in gaps.sort("ns", descending=True).iter_rows(named=True)
    ]


def rest(changes: Sequence[Change]) -> Change:
    """`changes` summed into one row; its status is ``rest``."""
    return Change(
        f"{len(changes)} more",
        "",
        "rest",
        sum(c.base_ops for c in changes),
        sum(c.opt_ops for c in changes),
        sum(c.base_ns for c in changes),
        sum(c.opt_ns for c in changes),
        sum(c.difference for c in changes),
        sum(c.base_bytes for c in changes),
        sum(c.opt_bytes for c in changes),
    )


def _change(
    name: str,
    kind: str,
    n: int,
    m: int,
    ns: int,
    other: int,
    weights: tuple[int, int],
    nbytes: int = 0,
    moved: int = 0,
) -> Change:
    weight, against = weights
    if not n or not m:
        status = "added" if m else "removed"
    else:
        status = "same" if (n * weight, nbytes * weight) == (m * against, moved * against) else "changed"
    return Change(name, kind, status, n, m, ns, other, other * against - ns * weight, nbytes, moved)


def _largest_first(rows: list[Change]) -> list[Change]:
    return sorted(rows, key=lambda c: (-abs(c.difference), -c.base_ns, c.name, c.kind))


def _copies(analysis: Analysis) -> dict[str, tuple[int, int, int]]:
    copies = analysis.kinds.filter(pl.col("kind").cast(pl.String).is_in(_COPIES))
    table = copies.group_by("kind").agg(pl.col("ops").sum(), pl.col("nbytes").sum(), pl.col("sum_ns").sum())
    return {kind: (ops, nbytes, ns) for kind, ops, nbytes, ns in table.iter_rows()}
