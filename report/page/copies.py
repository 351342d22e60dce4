"""Copies: how much of their time was hidden under work, stage by stage, and how fast they went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from ...analyze.attribution.stages import ITERATION, WINDOW
from . import text
from .bars import Bar, Part, chart
from .markup import Html, element
from .sides import STAGE, Side, caution, device_name, several_devices, stage_label
from .tables import folded, section, table

NO_COPIES = "no copies"

Hidden = tuple[int, int]
"""(copy time, of it exposed) in ns."""


def overlap_section(sides: Sequence[Side]) -> Html:
    """Hidden and exposed copy time, for the devices and for each stage."""
    per_side = {side.name: copy_time(side) for side in sides}
    keys = {key for found in per_side.values() for key in found}
    if not keys:
        words = element("p", "There were no copies, so there was nothing to hide.")
        return section("overlap", "Copies hidden under work", words, caution(sides, "overlap"))
    whole = sorted(key for key in keys if key[1] is None)
    stages = sorted(
        (key for key in keys if key[1] is not None),
        key=lambda key: (-max(found.get(key, (0, 0))[0] for found in per_side.values()), key[0], key[1] or ""),
    )
    several = several_devices(sides)
    groups = []
    for key in [*whole, *stages]:
        device, stage = key
        name = "all copies" if stage is None else stage_label(stage)
        name = f"{device_name(sides[0], device)} · {name}" if several else name
        groups.append((name, [_bar(side, per_side[side.name].get(key)) for side in sides]))
    key_ = Html(
        '<ul class="legend"><li><svg class="swatch" width="12" height="12" aria-hidden="true"><rect width="12" '
        'height="12" rx="2" class="hidden-part"/></svg><b>hidden</b> <span>under kernels or collectives</span></li>'
        '<li><svg class="swatch" width="12" height="12" aria-hidden="true"><rect width="12" height="12" rx="2" '
        'class="exposed-part"/></svg><b>exposed</b> <span>nothing else ran</span></li></ul>'
    )
    intro = element(
        "p",
        "Copy time is the union of all copies. A stage's copies are held against the work of all other stages, "
        "never its own.",
    )
    return section(
        "overlap",
        "Copies hidden under work",
        intro,
        caution(sides, "overlap"),
        key_,
        chart(groups, "copy time hidden and exposed"),
        folded("All pairs, in nanoseconds", _pairs(sides)),
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
    """Hidden part of all copy time over all devices; null where there are no copies or it cannot be told."""
    if side.cannot_tell("overlap"):
        return None
    whole = [found for (_, stage), found in copy_time(side).items() if stage is None]
    total = sum(copy for copy, _ in whole)
    return 1 - sum(exposed for _, exposed in whole) / total if total else None


def exposed_copy_ns(side: Side) -> int | None:
    """Exposed copy time over all devices; null where there are no copies or it cannot be told."""
    if side.cannot_tell("overlap"):
        return None
    whole = [exposed for (_, stage), (_, exposed) in copy_time(side).items() if stage is None]
    return sum(whole) if whole else None


def _bar(side: Side, found: Hidden | None) -> Bar:
    unknown = side.cannot_tell("overlap")
    if unknown:
        return Bar(side.name, [], "cannot tell", unknown)
    if found is None:
        return Bar(side.name, [], NO_COPIES)
    total, exposed = found
    hidden = total - exposed
    parts = [
        Part(hidden, ".hidden-part", f"{side.name}: {text.duration(hidden)} hidden"),
        Part(exposed, ".exposed-part", f"{side.name}: {text.duration(exposed)} exposed"),
    ]
    return Bar(side.name, parts, f"{text.share(hidden / total)} of {text.duration(total)} hidden")


def _costliest_first(overlap: pl.DataFrame) -> pl.DataFrame:
    """The whole device, then its stages, those with the longest copies or communication first."""
    longest = pl.col("a_ns").max().over("device", "stage").alias("longest")
    order = ["device", pl.col("stage").is_not_null(), "longest", "stage"]
    ranked = overlap.with_columns(longest).sort(order, descending=[False, False, True, False], maintain_order=True)
    return ranked.drop("longest")


def _pairs(sides: Sequence[Side]) -> Html:
    rows = []
    for side in sides:
        for r in _costliest_first(side.analysis.overlap).iter_rows(named=True):
            stage = "(whole device)" if r["stage"] is None else stage_label(r["stage"])
            label = NO_COPIES if r["a"] in ("copy", "h2d", "d2h") else f"no {r['a']}"
            numbers = [f"{r[name]:,}" for name in ("a_ns", "b_ns", "both_ns")]
            hidden = text.share(r["hidden"], label)
            efficiency = text.share(r["efficiency"])
            if side.cannot_tell("overlap"):
                hidden = efficiency = "cannot tell"
            where = device_name(side, r["device"])
            rows.append([side.name, where, stage, r["a"], r["b"], *numbers, hidden, efficiency])
    heads = ["variant", "device", "stage", "a", "b", "a ns", "b ns", "both ns", "a hidden", "of the ideal"]
    return table("overlap of every pair of kinds", heads, rows, numbers=range(5, 10))


def bandwidth_section(sides: Sequence[Side]) -> Html:
    """Bytes per second of every copy direction, memory kind and size."""
    rows = []
    sources: dict[str, None] = {}
    for side in sides:
        unknown = side.cannot_tell("bandwidth")
        for r in side.analysis.bandwidth.sort("kind", "nbytes", descending=[False, True]).iter_rows(named=True):
            means = f"{r['src_kind'] or '?'} → {r['dst_kind'] or '?'}"
            if r["kind"] == "p2p":
                means = f"GPU {r['src_device']} → GPU {r['dst_device']}"
            rates = [text.rate(r["bytes_per_s"]), text.rate(r["union_bytes_per_s"])]
            rates = ["cannot tell"] * 4 if unknown else [*rates, _of_peak(r), text.rate(r["expected_bytes_per_s"])]
            if r["share"] is not None:
                sources[r["peak_source"]] = None
            rows.append(
                [
                    *(side.name, device_name(side, r["device"]), r["kind"], means, r["bucket"], f"{r['ops']:,}"),
                    *(text.size(r["nbytes"]), text.duration(r["sum_ns"]), *rates),
                ]
            )
    notes = caution(sides, "bandwidth")
    if not rows:
        return section("bandwidth", "Bandwidth", element("p", "There were no copies to measure."), notes)
    heads = ["variant", "device", "kind", "memory", "size of a copy", "copies", "bytes", "time"]
    heads += ["bytes / time", "bytes / union", "of peak", "expected"]
    words = [
        "Bytes over the sum of the copies' durations, and over their union (several at once share the link). ",
        element("b", "effective"),
        ": pageable host memory is staged through a pinned buffer, so this is the rate the program saw and says "
        "nothing about the link. ",
        element("b", "of peak"),
        ": the union's rate over what the link can carry (",
        ", ".join(sources) or "no peak is known for these copies",
        "); a copy within a device counts twice, for it reads and writes. ",
        element("b", "expected"),
        ": what copies of this size reached when this hardware was calibrated.",
    ]
    return section(
        "bandwidth",
        "Bandwidth",
        element("p", words),
        notes,
        table("bandwidth of copies", heads, rows, numbers=range(5, 12)),
    )


def _of_peak(row: Mapping[str, Any]) -> Html | str:
    """``90.9 % of 55.37 GB/s``; a label for pageable memory, which has no peak; absent where none is known."""
    if row["effective"]:
        return element("span", "effective", class_="chip partial")
    if row["share"] is None:
        return text.ABSENT
    return f"{text.share(row['share'])} of {text.rate(row['peak_bytes_per_s'])}"
