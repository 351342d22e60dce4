"""How fast copies over the host's link and device memory could be, where a change is about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from ..accounts.peaks import PCIE, UNIFIED, Peaks, data_sheet, memory_peak

LINK_SHARE: Final = 0.88
"""Of PCI Express's rate, what copies between pinned memory and a device reach: 55.4 of 63.0 GB/s on an H200
(``expectations/calibration_h200.json``)."""

NS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes per ns: `link` of copies by kind, ``h2d`` and ``d2h``, where it is known, `memory` of a device, null if unknown.

    `measured`: the link's are from a calibration of this hardware; `source` says in words where they are from.
    """

    link: Mapping[str, float] = field(default_factory=dict)
    memory: float | None = None
    measured: bool = False
    source: str = ""


def rates_of(devices: pl.DataFrame, peaks: Peaks | None) -> Rates:
    """The rates of the first GPU of a trace's table of devices: as calibrated, else by its data sheet."""
    gpu = next(devices.filter(pl.col("type") == "gpu").sort("device").iter_rows(named=True), None)
    if gpu is None:
        return Rates()
    peak, _ = memory_peak(gpu, peaks)
    memory = None if peak is None else peak / NS
    if peaks is not None:
        pinned = [one for one in peaks.calibration.links if one.memory == "pinned" and one.kind in ("h2d", "d2h")]
        if pinned:
            link = {one.kind: one.best.median_bytes_per_s / NS for one in pinned}
            return Rates(link, memory, True, peaks.source)
    sheet = data_sheet(gpu["name"])
    if sheet is None or re.search(UNIFIED, gpu["name"]):
        return Rates({}, memory)
    rate = LINK_SHARE * PCIE[sheet.pcie] / NS
    return Rates({"h2d": rate, "d2h": rate}, memory, False, f"datasheet {sheet.name}")
