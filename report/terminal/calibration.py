"""A calibration as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...analyze.words import percent, rate, size
from .console import Column, print_table, say

if TYPE_CHECKING:
    from ...traces.calibration import Calibration, Link

SMALL: Final = 64 << 10
"""Of this size, or the nearest one measured, the table shows the rate beside the largest."""


def print_calibration(calibration: Calibration) -> None:
    """One row a link: its largest rate and at which size, how far repetitions spread there, and the rate of small copies."""
    say(f"hardware key {calibration.hardware_key}, driver {calibration.hardware.driver}")
    titles = ("GB/s", "copies of", "spread", "64 KiB GB/s")
    print_table([Column("link", "left", shrink=True), *map(Column, titles)], map(_row, calibration.links))


def _row(link: Link) -> tuple[str, ...]:
    best = link.best
    small = min(link.rates, key=lambda found: abs(found.nbytes - SMALL))
    name = f"{link.name} (through the host)" if link.direct is False else link.name
    rates = (rate(best.median_bytes_per_s), size(best.nbytes), percent(best.spread))
    return (name, *rates, rate(small.median_bytes_per_s))
