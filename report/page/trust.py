"""Trust: how far each number may be believed, and what the recorder said about itself."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ...analyze.result import Analysis
from . import text
from .markup import Html, clip, element, join
from .sides import Side
from .tables import folded, section, table

LOOKS = {"ok": ("✓", "good"), "partial": ("◐", "partial"), "unavailable": ("⊘", "unavailable")}

MOST_MESSAGES = 40
"""Messages of one recorder that are shown."""


def trust_section(sides: Sequence[Side], notes: Sequence[str]) -> Html:
    """A row a metric and side, then rows that could not be used, the recorder's warnings, and the run's notes."""
    content: list[Html] = [_matrix(sides)]
    odd = [
        [side.name, word.replace("_", " "), f"{n:,}"]
        for side in sides
        for word, n in side.analysis.meta.anomalies.items()
    ]
    if odd:
        content.append(element("h3", "Rows that could not be used as recorded"))
        content.append(table("anomalies of the traces", ["variant", "what", "rows"], odd, numbers=(2,)))
    for side in sides:
        grave, other = _messages(side.analysis, incomplete=True), _messages(side.analysis, incomplete=False)
        if grave:
            content.append(element("h3", f"{side.name}: what the recorder says may be missing"))
            content.append(_list(grave))
        if other:
            content.append(
                folded(f"{side.name}: {text.count(len(other), 'other warning')} of the recorder", _list(other))
            )
    if notes:
        content.append(element("h3", "Notes of the capture"))
        content.append(_list(notes))
    return section("trust", "How far to trust this", content)


def _matrix(sides: Sequence[Side]) -> Html:
    """Metrics down, sides across, and the reasons for all that is not ok; what can be trusted least stands first."""
    order = list(LOOKS)
    worst: dict[str, int] = {}
    for side in sides:
        for metric, level in side.analysis.trust.select("metric", "level").iter_rows():
            worst[metric] = max(worst.get(metric, 0), order.index(level) if level in LOOKS else 0)
    if not worst:
        return element("p", "The analysis has no notes on trust.")
    rows = []
    for metric in sorted(worst, key=lambda m: -worst[m]):
        found = [side.trust(metric) for side in sides]
        reasons = [
            element("div", element("b", f"{side.name}: "), reason)
            for side, (_, reason) in zip(sides, found, strict=True)
            if reason
        ]
        rows.append([metric, *(chip(level) for level, _ in found), join(reasons)])
    return table("trust in each metric", ["metric", *(side.name for side in sides), "reason"], rows)


def chip(level: str) -> Html:
    """A trust level as a coloured word."""
    sign, look = LOOKS.get(level, ("", "unknown"))
    return element("span", f"{sign} {level}", class_=f"chip {look}")


def _messages(analysis: Analysis, *, incomplete: bool) -> list[str]:
    rows = analysis.diagnostics.filter(pl.col("incomplete") == incomplete).select("severity", "text", "times")
    return [f"{severity}: {words}{f' ({n:,} times)' if n > 1 else ''}" for severity, words, n in rows.iter_rows()]


def _list(items: Sequence[str]) -> Html:
    shown = [element("li", clip(item, 600)) for item in items[:MOST_MESSAGES]]
    if len(items) > MOST_MESSAGES:
        shown.append(element("li", f"and {len(items) - MOST_MESSAGES:,} more"))
    return element("ul", shown)
