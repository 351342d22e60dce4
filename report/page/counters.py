"""Hardware counters: what each stage read from and wrote to HBM, and how busy SMs and tensor cores were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...analyze.accounts.counters import WEAK_PERCENT
from ...analyze.result import IDLE
from . import cells, text
from .blocks import Cell, Para, Row, Section, Span, Table, section
from .sides import Side, caution, device_name

METRICS: Final = ("hbm_read", "hbm_write", "tensor", "sm_active", "sm_clock")

Key = tuple[int, str | None]
"""(device, stage); stage null is the whole window."""

Found = Mapping[str, Mapping[str, Any]]
"""The row of each metric."""


def counters_section(sides: Sequence[Side]) -> Section | None:
    """HBM traffic and activity of each stage; null where no counter was sampled."""
    per_side = [(side, _by_stage(side)) for side in sides]
    keys = {key for _, found in per_side for key in found}
    if not keys:
        return None
    weight = {key: max(_traffic(found.get(key, {})) for _, found in per_side) for key in keys}
    ordered = sorted(keys, key=lambda key: (key[1] is not None, -weight[key], key[0], key[1] or ""))
    rows = [
        Row([_label(side, key[1]), side.name, device_name(side, key[0]), *_cells(found[key])], stage=key[1])
        for key in ordered
        for side, found in per_side
        if key in found
    ]
    heads = ["stage", "variant", "device", "HBM read", "HBM write", "tensor active", "SM active", "SM clock"]
    weak = (
        f"~ read with care: a mean below {WEAK_PERCENT:.0f} % (samples are whole percents), samples that other stages share, or "
        "a window that was not sampled throughout."
    )
    words = (
        "Sampled by the hardware: bytes are the sampled share of the device's memory bandwidth, percents are means over the "
        "time in which the stage kept the device busy."
    )
    doubtful = any("~" in str(cell.text) for row in rows for cell in row.cells if isinstance(cell, Cell))
    return section(
        "counters",
        "Memory traffic and activity",
        Para(words),
        caution(sides, "hbm"),
        Table("hardware counters of each stage", heads, rows, numbers=range(3, 8)),
        Para(weak, "note") if doubtful else None,
    )


def _by_stage(side: Side) -> dict[Key, dict[str, dict[str, Any]]]:
    out: dict[Key, dict[str, dict[str, Any]]] = {}
    for row in side.analysis.counters.iter_rows(named=True):
        out.setdefault((row["device"], row["stage"]), {})[row["metric"]] = row
    return out


def _traffic(found: Found) -> int:
    """Bytes read and written; 0 where the device's bandwidth is unknown."""
    return sum(found.get(metric, {}).get("nbytes") or 0 for metric in ("hbm_read", "hbm_write"))


def _cells(found: Found) -> list[Cell]:
    made = []
    for metric in METRICS:
        row = found.get(metric)
        if row is None:
            made.append(Cell(text.ABSENT))
            continue
        mean = None if row["percent"] is None else row["percent"] / 100
        words = text.share(mean) if row["nbytes"] is None else f"{text.size(row['nbytes'])} · {text.share(mean)}"
        made.append(Cell(words if row["trust"] == "ok" else f"{words} ~", row["nbytes"] or mean, mean))
    return made


def _label(side: Side, stage: str | None) -> Span | str:
    return "while nothing was busy" if stage == f"({IDLE})" else cells.stage(side, stage, "the whole window")
