"""Trust: how far each number may be believed, and what the recorder said about itself."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ...analyze.result import Analysis
from . import cells, text
from .blocks import Block, Fold, Items, Para, Row, Section, Span, Sub, Table, section
from .markup import clip
from .sides import Side

LOOKS = {"ok": ("✓", "good"), "partial": ("◐", "partial"), "unavailable": ("⊘", "unavailable")}

MOST_MESSAGES = 40
"""Messages of one recorder that are shown."""


def trust_section(sides: Sequence[Side], notes: Sequence[str]) -> Section:
    """What is not fully trusted, then rows that could not be used, the recorder's warnings, and the run's notes."""
    content: list[Block] = [*_matrix(sides)]
    odd = [
        Row([side.name, word.replace("_", " "), cells.count(n)])
        for side in sides
        for word, n in side.analysis.meta.anomalies.items()
    ]
    if odd:
        content.append(Sub("Rows that could not be used as recorded"))
        content.append(Table("anomalies of the traces", ["variant", "what", "rows"], odd, numbers=(2,)))
    for side in sides:
        grave, other = _messages(side.analysis, incomplete=True), _messages(side.analysis, incomplete=False)
        if grave:
            content += [Sub(f"{side.name}: what the recorder says may be missing"), _list(grave)]
        if other:
            content.append(
                Fold(f"{side.name}: {text.count(len(other), 'other warning')} of the recorder", [_list(other)])
            )
    if notes:
        content += [Sub("Notes of the capture"), _list(notes)]
    return section("trust", "How far to trust this", content)


def _matrix(sides: Sequence[Side]) -> list[Block]:
    """A row for each metric that is not ok on some side, with the reasons, the least trusted first; one line for the others."""
    order = list(LOOKS)
    worst: dict[str, int] = {}
    for side in sides:
        for metric, level in side.analysis.trust.select("metric", "level").iter_rows():
            worst[metric] = max(worst.get(metric, 0), order.index(level) if level in LOOKS else 0)
    if not worst:
        return [Para("The analysis has no notes on trust.")]
    rows = []
    for metric in sorted((m for m in worst if worst[m]), key=lambda m: -worst[m]):
        found = [side.trust(metric) for side in sides]
        reasons = [f"{side.name}: {reason}" for side, (_, reason) in zip(sides, found, strict=True) if reason]
        rows.append(Row([metric, *(chip(level) for level, _ in found)], "; ".join(reasons) or None))
    fine = [metric for metric, level in worst.items() if not level]
    heads = ["metric", *(side.name for side in sides)]
    said = (chip("ok"), f" {', '.join(fine)}")
    return [*([Table("trust in each metric", heads, rows)] if rows else []), *([Para(said)] if fine else [])]


def chip(level: str) -> Span:
    """A trust level as a coloured word."""
    sign, look = LOOKS.get(level, ("", "unknown"))
    return Span(f"{sign} {level}", f"chip {look}")


def _messages(analysis: Analysis, *, incomplete: bool) -> list[str]:
    rows = analysis.diagnostics.filter(pl.col("incomplete") == incomplete).select("severity", "text", "times")
    return [f"{severity}: {words}{f' ({n:,} times)' if n > 1 else ''}" for severity, words, n in rows.iter_rows()]


def _list(items: Sequence[str]) -> Items:
    shown = [clip(item, 600) for item in items[:MOST_MESSAGES]]
    if len(items) > MOST_MESSAGES:
        shown.append(f"and {len(items) - MOST_MESSAGES:,} more")
    return Items(shown)
