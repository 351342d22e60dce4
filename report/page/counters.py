"""Hardware counters: what each stage read from and wrote to HBM, and how busy SMs and tensor cores were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...analyze.accounts.counters import WEAK_PERCENT
from ...analyze.result import IDLE
from . import text
from .bars import Bar, Part, chart
from .markup import Html, element
from .sides import Side, caution, device_name, several_devices, stage_label
from .tables import section, table

METRICS: Final = ("hbm_read", "hbm_write", "tensor", "sm_active", "sm_clock")

MOST_STAGES: Final = 12
"""Stages with bars; the table holds all."""

Key = tuple[int, str | None]
"""(device, stage); stage null is the whole window."""

Found = Mapping[str, Mapping[str, Any]]
"""The row of each metric."""


def counters_section(sides: Sequence[Side]) -> Html | None:
    """HBM traffic and activity of each stage; null where no counter was sampled."""
    per_side = {side.name: _by_stage(side) for side in sides}
    keys = {key for found in per_side.values() for key in found}
    if not keys:
        return None
    ordered = sorted(keys, key=lambda key: (key[1] is not None, -_weight(per_side, key), key[0], key[1] or ""))
    several = several_devices(sides)
    groups = []
    for device, stage in [key for key in ordered if _weight(per_side, key)][:MOST_STAGES]:
        name = f"{device_name(sides[0], device)} · {_label(stage)}" if several else _label(stage)
        groups.append((name, [_bar(side.name, per_side[side.name].get((device, stage), {})) for side in sides]))
    rows = [
        [_label(key[1]), side.name, device_name(side, key[0]), *_cells(per_side[side.name][key])]
        for key in ordered
        for side in sides
        if key in per_side[side.name]
    ]
    heads = ["stage", "variant", "device", "HBM read", "HBM write", "tensor active", "SM active", "SM clock"]
    weak = element(
        "p",
        f"~ read with care: a mean below {WEAK_PERCENT:.0f} % (samples are whole percents), samples that other stages share, or "
        "a window that was not sampled throughout.",
        class_="note",
    )
    return section(
        "counters",
        "Memory traffic and activity",
        element(
            "p",
            "Sampled by the hardware: bytes are the sampled share of the device's memory bandwidth, percents are means over the "
            "time in which the stage kept the device busy.",
        ),
        caution(sides, "hbm"),
        [_legend(), chart(groups, "HBM bytes read and written by each stage")] if groups else None,
        table("hardware counters of each stage", heads, rows, numbers=(3, 4, 5, 6)),
        weak if any("~" in cell for row in rows for cell in row[3:]) else None,
    )


def _by_stage(side: Side) -> dict[Key, dict[str, dict[str, Any]]]:
    out: dict[Key, dict[str, dict[str, Any]]] = {}
    for row in side.analysis.counters.iter_rows(named=True):
        out.setdefault((row["device"], row["stage"]), {})[row["metric"]] = row
    return out


def _weight(per_side: Mapping[str, Mapping[Key, Found]], key: Key) -> int:
    """The most bytes any side moved there; 0 where the device's bandwidth is unknown."""
    return max((sum(_traffic(found.get(key, {}))) for found in per_side.values()), default=0)


def _traffic(found: Found) -> tuple[int, int]:
    read, write = (found.get(metric, {}).get("nbytes") or 0 for metric in ("hbm_read", "hbm_write"))
    return read, write


def _bar(name: str, found: Found) -> Bar:
    if not found:
        return Bar(name, [], "no samples")
    read, write = _traffic(found)
    parts = [
        Part(read, ".read-part", f"{name}: {text.size(read)} read"),
        Part(write, ".write-part", f"{name}: {text.size(write)} written"),
    ]
    return Bar(name, parts, f"{text.size(read)} read, {text.size(write)} written")


def _cells(found: Found) -> list[str]:
    cells = []
    for metric in METRICS:
        row = found.get(metric)
        if row is None:
            cells.append(text.ABSENT)
            continue
        mean = text.share(None if row["percent"] is None else row["percent"] / 100)
        words = mean if row["nbytes"] is None else f"{text.size(row['nbytes'])} · {mean}"
        cells.append(words if row["trust"] == "ok" else f"{words} ~")
    return cells


def _label(stage: str | None) -> str:
    if stage is None:
        return "the whole window"
    return "while nothing was busy" if stage == f"({IDLE})" else stage_label(stage)


def _legend() -> Html:
    return Html(
        '<ul class="legend"><li><svg class="swatch" width="12" height="12" aria-hidden="true"><rect width="12" '
        'height="12" rx="2" class="read-part"/></svg><b>read</b></li><li><svg class="swatch" width="12" height="12" '
        'aria-hidden="true"><rect width="12" height="12" rx="2" class="write-part"/></svg><b>written</b></li></ul>'
    )
