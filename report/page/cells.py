"""Cells of tables: a figure as people read it, with the number that its column is sorted by."""

from __future__ import annotations

from . import text
from .blocks import Cell, Span
from .links import timeline_link
from .markup import clip
from .sides import Side, stage_label

CANNOT_TELL = "cannot tell"


def time(ns: int | float | None) -> Cell:
    """``883.3 ms``."""
    return Cell(text.duration(ns), ns)


def count(number: int | None) -> Cell:
    """``2,391``."""
    return Cell(text.ABSENT if number is None else f"{number:,}", number)


def size(nbytes: int | None) -> Cell:
    """``805.3 MB``."""
    return Cell(text.size(nbytes), nbytes)


def rate(bytes_per_s: float | None) -> Cell:
    """``51.06 GB/s``."""
    return Cell(text.rate(bytes_per_s), bytes_per_s)


def share(fraction: float | None, absent: str = text.ABSENT, fill: str = "") -> Cell:
    """``84.5 %`` with a bar of that length behind it."""
    bar = None if fraction is None else min(max(fraction, 0.0), 1.0)
    return Cell(text.share(fraction, absent), fraction, bar, fill)


def stage(side: Side, path: str | None, whole: str = "(whole device)") -> Span | str:
    """A stage's name, which shows it in the timeline and finds its rows in every table; null is the `whole` device."""
    return whole if path is None else Span(stage_label(path), href=timeline_link(side, stage=path))


def kernel(side: Side, name: str, short: str, path: str | None = None) -> Span:
    """A kernel's short name, which shows its runs in the timeline, in stage `path` alone if that is given."""
    return Span(clip(short, 100), href=timeline_link(side, kernel=name, stage=path), title=clip(name, 600))
