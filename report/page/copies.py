"""Copies: how much of their time was hidden under work, stage by stage, and how fast they went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from ...analyze.attribution.stages import ITERATION, WINDOW
from ..figures import overlap_figure
from . import cells, text
from .blocks import Cell, Chart, Fold, Para, Row, Section, Span, Table, section, strong
from .sides import STAGE, Side, caution, device_name

NO_COPIES = "no copies"

Hidden = tuple[int, int]
"""(copy time, of it exposed) in ns."""


def overlap_section(sides: Sequence[Side]) -> Section:
    """Hidden and exposed copy time, for the devices and for each stage."""
    per_side = [(side, copy_time(side)) for side in sides]
    if not any(found for _, found in per_side):
        words = Para("There were no copies, so there was nothing to hide.")
        return section("overlap", "Copies hidden under work", words, caution(sides, "overlap"))
    rows = [_row(side, key, found) for side, times in per_side for key, found in sorted(times.items(), key=_costliest)]
    rows += [Row([side.name, "", "(whole device)", NO_COPIES, "", "", ""]) for side, times in per_side if not times]
    heads = ["variant", "device", "stage", "copies", "hidden", "exposed", "part hidden"]
    intro = "Copy time is the union of all copies. A stage's copies are compared with the work of other stages, never its own."
    drawn = overlap_figure([(s.name, s.analysis) for s in sides if not s.cannot_tell("overlap")])
    return section(
        "overlap",
        "Copies hidden under work",
        Para(intro),
        caution(sides, "overlap"),
        Chart("figure-overlap", drawn, "copy time hidden and exposed, by direction") if drawn["data"] else None,
        Table("copy time hidden and exposed", heads, rows, numbers=range(3, 7)),
        Fold("All pairs, in nanoseconds", [_pairs(sides)]),
    )


def copy_time(side: Side) -> dict[tuple[int, str | None], Hidden]:
    """Copy time and its exposed part by (device, stage); stage null is the whole device. Only where there are copies."""
    a = side.analysis
    groups = pl.col("stage").is_in([ITERATION, WINDOW])  # they hold every stage: there is no other work to hide under
    of_stages = a.overlap.filter(groups.not_().fill_null(True))
    copies = of_stages.filter((pl.col("a") == "copy") & (pl.col("a_ns") > 0)).select("device", "stage", "a_ns").unique()
    exposed = a.exposed.filter(pl.col("kind") == "copy").select("device", "stage", "ns")
    both = copies.join(exposed, on=["device", "stage"], how="left", nulls_equal=True).with_columns(
        pl.col("ns").fill_null(0)
    )
    summed = both.group_by("device", STAGE).agg(pl.col("a_ns", "ns").sum())
    return {(device, stage): (total, ns) for device, stage, total, ns in summed.iter_rows()}


def hidden_share(side: Side) -> float | None:
    """Hidden part of all copy time over all devices; null where there are no copies or it is unknown."""
    if side.cannot_tell("overlap"):
        return None
    whole = [found for (_, stage), found in copy_time(side).items() if stage is None]
    total = sum(copy for copy, _ in whole)
    return 1 - sum(exposed for _, exposed in whole) / total if total else None


def exposed_copy_ns(side: Side) -> int | None:
    """Exposed copy time over all devices; null where there are no copies or it is unknown."""
    if side.cannot_tell("overlap"):
        return None
    whole = [exposed for (_, stage), (_, exposed) in copy_time(side).items() if stage is None]
    return sum(whole) if whole else None


def _costliest(item: tuple[tuple[int, str | None], Hidden]) -> tuple[int, bool, int, str]:
    """Each device whole first, then its stages, those with the longest copies first."""
    (device, stage), (total, _) = item
    return device, stage is not None, -total, stage or ""


def _row(side: Side, key: tuple[int, str | None], found: Hidden) -> Row:
    device, stage = key
    total, exposed = found
    head = [side.name, device_name(side, device), cells.stage(side, stage, "all copies"), cells.time(total)]
    if side.cannot_tell("overlap"):
        return Row([*head, *[cells.CANNOT_TELL] * 3], stage=stage, look="unknown")
    hidden = total - exposed
    return Row([*head, cells.time(hidden), cells.time(exposed), cells.share(hidden / total)], stage=stage)


def _costliest_first(overlap: pl.DataFrame) -> pl.DataFrame:
    """The whole device, then its stages, those with the longest copies or communication first."""
    longest = pl.col("a_ns").max().over("device", "stage").alias("longest")
    order = ["device", pl.col("stage").is_not_null(), "longest", "stage"]
    ranked = overlap.with_columns(longest).sort(order, descending=[False, False, True, False], maintain_order=True)
    return ranked.drop("longest")


def _pairs(sides: Sequence[Side]) -> Table:
    rows = []
    for side in sides:
        unknown = side.cannot_tell("overlap")
        for r in _costliest_first(side.analysis.overlap).iter_rows(named=True):
            label = NO_COPIES if r["a"] in ("copy", "h2d", "d2h") else f"no {r['a']}"
            hidden, efficiency = cells.share(r["hidden"], label), cells.share(r["efficiency"])
            numbers = [cells.count(r[name]) for name in ("a_ns", "b_ns", "both_ns")]
            shares = [Cell(cells.CANNOT_TELL)] * 2 if unknown else [hidden, efficiency]
            where = device_name(side, r["device"])
            row = [side.name, where, cells.stage(side, r["stage"]), r["a"], r["b"], *numbers, *shares]
            rows.append(Row(row, stage=r["stage"]))
    heads = ["variant", "device", "stage", "a", "b", "a ns", "b ns", "both ns", "a hidden", "of the ideal"]
    return Table("overlap of every pair of kinds", heads, rows, numbers=range(5, 10))


def bandwidth_section(sides: Sequence[Side]) -> Section | None:
    """Bytes per second of every copy direction, memory kind and size; null where nothing was copied."""
    rows = []
    sources: dict[str, None] = {}
    for side in sides:
        unknown = side.cannot_tell("bandwidth")
        for r in side.analysis.bandwidth.sort("kind", "nbytes", descending=[False, True]).iter_rows(named=True):
            means = f"{r['src_kind'] or '?'} → {r['dst_kind'] or '?'}"
            if r["kind"] == "p2p":
                means = f"GPU {r['src_device']} → GPU {r['dst_device']}"
            rates = [cells.rate(r["bytes_per_s"]), cells.rate(r["union_bytes_per_s"]), _of_peak(r)]
            rates.append(cells.rate(r["expected_bytes_per_s"]))
            if r["share"] is not None:
                sources[r["peak_source"]] = None
            row = [
                *(side.name, device_name(side, r["device"]), r["kind"], means, r["bucket"]),
                *(cells.count(r["ops"]), cells.size(r["nbytes"]), cells.time(r["sum_ns"])),
                *([Cell(cells.CANNOT_TELL)] * 4 if unknown else rates),
            ]
            rows.append(Row(row))
    notes = caution(sides, "bandwidth")
    if not rows:
        return None
    heads = ["variant", "device", "kind", "memory", "size of a copy", "copies", "bytes", "time"]
    heads += ["bytes / time", "bytes / union", "of peak", "expected"]
    words = (
        "Bytes over the sum of the copies' durations, and over their union (several at once share the link). ",
        strong("effective"),
        ": pageable host memory is staged through a pinned buffer, so this is the rate the program saw and says "
        "nothing about the link. ",
        strong("of peak"),
        f": the union's rate over what the link can carry ({', '.join(sources) or 'no peak is known for these copies'}"
        "); a copy within a device counts twice, for it reads and writes. ",
        strong("expected"),
        ": what copies of this size reached when this hardware was calibrated.",
    )
    made = Table("bandwidth of copies", heads, rows, numbers=range(5, 12))
    return section("bandwidth", "Copies and their bandwidth", Para(words), notes, made)


def _of_peak(row: Mapping[str, Any]) -> Cell:
    """``90.9 % of 55.37 GB/s``; a label for pageable memory, which has no peak; absent where none is known."""
    if row["effective"]:
        return Cell(Span("effective", "chip partial"))
    if row["share"] is None:
        return Cell(text.ABSENT)
    words = f"{text.share(row['share'])} of {text.rate(row['peak_bytes_per_s'])}"
    return Cell(words, row["share"], min(row["share"], 1.0))
