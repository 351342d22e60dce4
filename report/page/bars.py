"""Stacked horizontal bars as inline SVG: small, printable, and readable without scripts.

Widths are percentages of the widest bar, so a chart fits any page. Every part has a ``<title>`` (shown on hover, read
by screen readers); the numbers themselves stand in a table beside or below, because a bar alone is no evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .markup import Html, element
from .palette import colour

HEIGHT = 14
"""Pixels of one bar."""


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a bar; all parts of a chart share one unit. `look` is a colour name of `palette`, or a class of
    the style sheet where it starts with a dot.
    """

    amount: int
    look: str
    title: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of a chart: `label` (the variant), its parts from left to right, and what is written behind them.

    `unknown` replaces the bar by a hatched one with that reason: what cannot be told is not drawn as zero.
    """

    label: str
    parts: Sequence[Part]
    value: str
    unknown: str | None = None


def chart(groups: Sequence[tuple[str, Sequence[Bar]]], description: str) -> Html:
    """Bars in groups (stages), all on the scale of the widest; `description` is the chart's text alternative."""
    widest = max((sum(part.amount for part in bar.parts) for _, bars in groups for bar in bars), default=0)
    body = [
        element(
            "div",
            element("div", name, class_="group-name"),
            [_row(bar, widest) for bar in bars],
            class_="group",
        )
        for name, bars in groups
    ]
    return element("div", body, class_="chart", role="group", aria_label=description)


def _row(bar: Bar, widest: int) -> Html:
    drawing = _hatched(bar.unknown) if bar.unknown else _stack(bar, widest)
    return element(
        "div",
        element("span", bar.label, class_="bar-label"),
        drawing,
        element("span", bar.value, class_="bar-value"),
        class_="bar-row",
    )


def _stack(bar: Bar, widest: int) -> Html:
    rects = []
    left = 0
    for part in bar.parts:
        if part.amount <= 0:
            continue
        x, width = 100 * left / widest, 100 * part.amount / widest
        look = {"class_": part.look[1:]} if part.look.startswith(".") else {"fill": colour(part.look)}
        rects.append(
            element(
                "g",
                element("title", part.title),
                Html(element("rect", x=f"{x:.3f}%", y=0, width=f"{width:.3f}%", height=HEIGHT, **look)),
            )
        )
        left += part.amount
    words = f"{bar.label}: {bar.value}"
    return element("svg", rects, class_="bar", width="100%", height=HEIGHT, role="img", aria_label=words)


def _hatched(reason: str) -> Html:
    rect = element("rect", x=0, y=0, width="100%", height=HEIGHT, fill="url(#hatch)", class_="unknown")
    label = f"cannot tell: {reason}"
    return element(
        "svg",
        element("title", label),
        rect,
        class_="bar",
        width="100%",
        height=HEIGHT,
        role="img",
        aria_label=label,
    )


def hatch() -> Html:
    """The pattern of what cannot be told; put once into the page."""
    return Html(
        '<svg width="0" height="0" class="defs" aria-hidden="true"><defs><pattern id="hatch" width="7" height="7" '
        'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="7" height="7" class="hatch-ground"/>'
        '<line x1="0" y1="0" x2="0" y2="7" class="hatch-line"/></pattern></defs></svg>'
    )
