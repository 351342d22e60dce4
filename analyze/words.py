"""Figures as a terminal and a sentence show them, in ASCII; a figure that does not exist is ``-``, never zero.

Times arrive as integer nanoseconds. The page, which has typography, words its figures in ``report/page/text.py``.
"""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len, set_cell_size

NOTHING: Final = "-"
"""What is shown where a figure does not exist."""

LOADER: Final = r"(?i)(load|fetch|collate|dataset|(^|[^a-z])(data|batch)([^a-z]|$))[^/]*$"
"""What stages that prepare batches are called: the last part of their path."""


def memory_title(recorder: str) -> str:
    """Whose memory a `recorder` sees: nsys what the driver hands out, torch.profiler what PyTorch's allocators do."""
    return "PyTorch memory" if recorder == "torch" else "driver memory"


def ms(ns: float | None, digits: int = 3) -> str:
    """Nanoseconds as milliseconds, without the unit: 1234567890 -> ``1,234.568``."""
    return NOTHING if ns is None else f"{ns / 1e6:,.{digits}f}"


def duration(ns: float | None) -> str:
    """Nanoseconds in the unit a person would choose: ``640 ns``, ``12.3 us``, ``4.57 ms``, ``1.20 s``."""
    return _scaled(ns, (("s", 1e9), ("ms", 1e6), ("us", 1e3)), "ns")


def size(nbytes: float | None) -> str:
    """Bytes in decimal units, as link speeds are given: ``805 MB``."""
    return _scaled(nbytes, (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)), "B")


def joules(energy: float | None) -> str:
    """Energy in the unit a person would choose: ``414 uJ``, ``207 mJ``, ``12.3 J``, ``4.00 kJ``."""
    if energy is None:
        return NOTHING
    return _scaled(energy * 1e6, (("kJ", 1e9), ("J", 1e6), ("mJ", 1e3)), "uJ")


def rate(bytes_per_s: float | None) -> str:
    """Bytes per second as GB/s, without the unit: 51.06e9 -> ``51.06``."""
    return NOTHING if bytes_per_s is None else f"{bytes_per_s / 1e9:,.2f}"


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as percent: 0.845 -> ``84.5 %``; null (nothing to divide by) -> ``-``."""
    return NOTHING if fraction is None else f"{fraction * 100:.{digits}f} %"


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` columns of a terminal: the middle gives way, since names differ at both ends."""
    if cell_len(text) <= width:
        return text
    head = set_cell_size(text, width // 2).rstrip()
    tail = set_cell_size(text[::-1], (width - 1) // 2)[::-1].lstrip()
    return f"{head}…{tail}"


def _scaled(value: float | None, units: tuple[tuple[str, float], ...], smallest: str) -> str:
    """`value` in the largest of `units` that it reaches, with three significant figures and no exponent."""
    if value is None:
        return NOTHING
    for unit, scale in units:
        if abs(value) >= scale:
            scaled = value / scale
            digits = 2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0
            return f"{scaled:,.{digits}f} {unit}"
    return f"{value:.0f} {smallest}"


def speedup(value: float, low: float | None, high: float | None, coverage: float | None, of: str) -> str:
    """``9.93x, between 9.56x and 10.34x (99.4 %, the median ratio of 12 rounds)``: a ratio, the interval with its exact coverage,
    and what it is `of`."""
    if low is None or high is None:
        return f"{value:.2f}x ({of}: too few for an interval)"
    sure = "" if coverage is None else f"{percent(coverage)}, "
    return f"{value:.2f}x, between {low:.2f}x and {high:.2f}x ({sure}{of})"
