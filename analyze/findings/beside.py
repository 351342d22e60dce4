"""What kernels pay for what runs beside them, in words: the same sentence in the findings, the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from ..result import Analysis
from ..words import duration, percent

BESIDE: Final = {"comm": "communication", "copy": "copies", "compute": "kernels of other streams"}
"""What the table ``contention`` calls what kernels ran beside, and what people call it."""


ALIKE: Final = 0.02
"""Kernels whose times differ by less are as fast as alone."""


def what_overlap_costs(analysis: Analysis) -> Iterator[str]:
    """The sentences of `slowed` for every device, with its number where there are several."""
    devices = analysis.windows["device"].to_list()
    for device in devices:
        where = f"on device {device}, " if len(devices) > 1 else ""
        for one in slowed(analysis, device):
            yield f"{where}{one}"


def slowed(analysis: Analysis, device: int) -> Iterator[str]:
    """One sentence for each thing that kernels of `device` ran beside, and were compared under."""
    mine = pl.col("device") == device
    pairs = analysis.overlap.filter(mine & pl.col("stage").is_null() & (pl.col("b") == "compute"))
    for row in analysis.contention.filter(mine & pl.col("stage").is_null() & (pl.col("compared") > 0)).to_dicts():
        hidden = int(pairs.filter(pl.col("a") == row["beside"])["both_ns"].sum())
        who, are, take = ("kernel", "is", "takes") if row["compared"] == 1 else ("kernels", "are", "take")
        what, beside = f"{row['compared']:,} {who}", f"beside {BESIDE[row['beside']]}"
        if abs(row["slowdown"] - 1) < ALIKE:
            yield f"{what} {are} as fast {beside} as alone"
        else:
            yield f"{what} {take} {row['slowdown']:.2f} times as long {beside} as alone{_against(row['extra_ns'], hidden)}"


def _against(extra: int, hidden: int) -> str:
    """What the kernels take longer, beside what they hide."""
    if extra <= 0:
        return ""
    if not hidden:
        return f", {duration(extra)} more in total"
    part = "more than" if extra > hidden else f"{percent(extra / hidden)} of"
    return f": {duration(extra)} more, {part} the {duration(hidden)} they hide"
