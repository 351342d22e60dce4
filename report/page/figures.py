"""Plotly figures as plain data: those of this page that are not small inline SVG (`bars`).

A figure is the ``{data, layout}`` object that plotly.js takes, made without ``plotly.graph_objects`` (a second of
import time for validation that a test does once). The page inlines plotly.js one time and draws every figure from one
JSON block. Ink, grid and background come from the page's style sheet, so that figures follow the colour scheme and
print without being drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from . import text
from .markup import escape
from .palette import VARIANT_COLOURS

Figure = dict[str, Any]

_AXIS: Final = {
    "showgrid": True,
    "zeroline": False,
    "gridcolor": "rgba(128,128,128,0.22)",
    "linecolor": "rgba(128,128,128,0.5)",
    "ticks": "outside",
    "tickcolor": "rgba(128,128,128,0.5)",
}
_LAYOUT: Final = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "inherit", "size": 12},
    "hoverlabel": {"bgcolor": "#20262d", "bordercolor": "#20262d", "font": {"color": "#f2f4f6", "size": 12}},
    "showlegend": False,
    "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#8a939b", "activecolor": "#2878b5"},
    "dragmode": "pan",
}


def rounds_figure(medians_ns: Mapping[str, Sequence[int]]) -> Figure:
    """The untraced rounds: each round's median time of an iteration, one row a variant, on one scale from zero."""
    data = []
    for i, (variant, values) in enumerate(medians_ns.items()):
        data.append(
            {
                "type": "box",
                "orientation": "h",
                "name": str(escape(variant)),
                "x": [round(v / 1e6, 6) for v in values],
                "y": [i] * len(values),
                "boxpoints": "all",
                "jitter": 0.5,
                "pointpos": 0,
                "width": 0.55,
                "line": {"width": 1.2},
                "marker": {"size": 6, "opacity": 0.85, "color": VARIANT_COLOURS[i % len(VARIANT_COLOURS)]},
                "fillcolor": "rgba(128,128,128,0.12)",
                "hoverinfo": "text",
                "hovertext": [f"round {r}: {escape(text.duration(v))}" for r, v in enumerate(values)],
            }
        )
    names = list(medians_ns)
    layout = {
        **_LAYOUT,
        "height": 78 + 46 * len(names),
        "margin": {"l": 136, "r": 12, "t": 28, "b": 44},
        "xaxis": {**_AXIS, "rangemode": "tozero", "title": {"text": "ms per iteration, median of a round"}},
        "yaxis": {
            "range": [len(names) - 0.4, -0.6],
            "fixedrange": True,
            "ticklabelstandoff": 6,
            "tickvals": list(range(len(names))),
            "ticktext": [str(escape(name)) for name in names],
            "showgrid": False,
            "zeroline": False,
        },
    }
    return {"data": data, "layout": layout}
