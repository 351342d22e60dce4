"""Launches and kernels: how long work waited, how small the kernels are, and which of them took the time."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ...analyze.accounts.launches import SMALL_NS
from ...analyze.naming.kernels import short_names
from . import text
from .markup import Html, clip, element
from .sides import Side, caution, device_name, stage_label
from .tables import folded, section, table

WHOLE = "(whole device)"


def launches_section(sides: Sequence[Side]) -> Html | None:
    """Kernels, launch latency and queue delay of each device; by stage in folds. Null where nothing was launched."""
    if all(side.analysis.kernel_counts.is_empty() and side.analysis.launches.is_empty() for side in sides):
        return None
    intro = element(
        "p",
        element("b", "Host-bound"),
        " is the part of the window in which the device idled and the host was to blame. ",
        element("b", "Latency"),
        " runs from the start of the launching call to the start of the work; ",
        element("b", "queue delay"),
        " is what is left of it after the call had returned and the stream's earlier work was done.",
    )
    return section(
        "launches",
        "Kernels and launches",
        intro,
        caution(sides, "causes"),
        _kernels(sides, whole=True),
        _waits(sides, whole=True),
        folded("Kernels that took the most time", _top(sides)) if _any(sides, "top_kernels") else None,
        folded("By stage", _kernels(sides, whole=False), _waits(sides, whole=False)),
    )


def _any(sides: Sequence[Side], name: str) -> bool:
    return any(not getattr(side.analysis, name).is_empty() for side in sides)


def _of(frame: pl.DataFrame, whole: bool) -> pl.DataFrame:
    return frame.filter(pl.col("stage").is_null() if whole else pl.col("stage").is_not_null())


def _stage(path: str | None) -> str:
    return WHOLE if path is None else stage_label(path)


def _kernels(sides: Sequence[Side], *, whole: bool) -> Html | None:
    rows = []
    for side in sides:
        unknown = side.cannot_tell("causes")
        found = _of(side.analysis.kernel_counts, whole).sort(
            "device", "ledger_ns", descending=[False, True], maintain_order=True
        )
        for r in found.iter_rows(named=True):
            n, per = r["kernels"], r["kernels_per_iteration"]
            if not n and not r["host_bound_ns"]:
                continue
            bound = text.share(r["host_bound_ns"] / r["ledger_ns"] if r["ledger_ns"] else None)
            rows.append(
                [
                    *(side.name, device_name(side, r["device"]), _stage(r["stage"])),
                    "cannot tell" if unknown else f"{bound} · {text.duration(r['host_bound_ns'])}",
                    *(f"{n:,}", text.ABSENT if per is None else text.significant(per), text.duration(r["kernel_ns"])),
                    *(f"{r['small_kernels']:,}", text.share(r["small_kernels"] / n if n else None)),
                    text.share(r["small_ns"] / r["kernel_ns"] if r["kernel_ns"] else None),
                ]
            )
    if not rows:
        return None
    limit = text.duration(SMALL_NS)
    heads = ["variant", "device", "stage", "host-bound", "kernels", "per iteration", "kernel time"]
    heads += [f"under {limit}", "of the kernels", "of their time"]
    return table("kernels and host-bound time", heads, rows, numbers=range(3, 10))


def _waits(sides: Sequence[Side], *, whole: bool) -> Html | None:
    rows = [
        [
            *(
                side.name,
                device_name(side, r["device"]),
                _stage(r["stage"]),
                r["figure"].replace("_", " "),
                f"{r['n']:,}",
            ),
            *(text.duration(r[f"{name}_ns"]) for name in ("min", "p50", "p90", "p99", "max")),
        ]
        for side in sides
        for r in _of(side.analysis.launches, whole)
        .sort("device", "figure", "n", descending=[False, False, True], maintain_order=True)
        .iter_rows(named=True)
    ]
    if not rows:
        return None
    heads = ["variant", "device", "stage", "figure", "launches", "min", "median", "p90", "p99", "max"]
    return table("launch latency and queue delay", heads, rows, numbers=range(4, 10))


def _top(sides: Sequence[Side]) -> Html:
    """The whole device first, then its stages, those with the most kernel time first."""
    short = short_names(name for side in sides for name in side.analysis.top_kernels["name"].to_list())
    rows = [
        [
            *(
                side.name,
                device_name(side, r["device"]),
                _stage(r["stage"]),
                clip(short[r["name"]], 100),
                f"{r['ops']:,}",
            ),
            *(text.duration(r["sum_ns"]), text.duration(r["mean_ns"]), text.share(r["share"])),
        ]
        for side in sides
        for r in side.analysis.top_kernels.with_columns(
            pl.col("sum_ns").sum().over("device", "stage").alias("stage_ns")
        )
        .sort("device", pl.col("stage").is_not_null(), "stage_ns", descending=[False, False, True], maintain_order=True)
        .iter_rows(named=True)
    ]
    heads = ["variant", "device", "stage", "kernel", "runs", "time", "mean", "of kernel time"]
    return table("kernels with the most time", heads, rows, numbers=range(4, 8))
