"""Plotly figures as plain data: the two interactive kinds of this page.

A figure is the ``{data, layout}`` object that plotly.js takes, made without ``plotly.graph_objects`` (a second of
import time for validation that a test does once). The page inlines plotly.js one time and draws every figure from one
JSON block. Ink, grid and background come from the page's style sheet, so that figures follow the colour scheme and
print without being drawn again.

Why plotly for timelines: after merging (`timeline`) a figure has a few thousand bars, which SVG draws in well under a
second, and zoom, pan, hover and export of the picture come with it. Bars of shares and sums need none of that and are
small inline SVG (`bars`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ...analyze.result import IDLE
from ..palette import colour
from .marks import Mark
from .markup import escape
from .timeline import Timeline

Figure = dict[str, Any]

LANE_HEIGHT: Final = 24
"""Pixels of one lane; text in stage bands needs 12."""

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


def timeline_figure(timeline: Timeline, common_ns: int) -> Figure:
    """The timeline on a scale of `common_ns`, in ms from the first operation; one trace a kind, lanes from top to bottom."""
    lanes = timeline.lanes
    unit = 1e6
    start = timeline.start_ns or 0
    since = "the start of the view" if timeline.start_ns is None else "the first operation"
    data = []
    for kind in sorted({mark.kind for mark in timeline.marks}, key=_drawing_order):
        marks = [mark for mark in timeline.marks if mark.kind == kind]
        data.append(_bars(kind, marks, start, unit))
    layout = {
        **_LAYOUT,
        "barmode": "overlay",
        "bargap": 0,
        "height": LANE_HEIGHT * len(lanes) + 74,
        "margin": {"l": 136, "r": 12, "t": 28, "b": 44},
        "xaxis": {**_AXIS, "range": [start / unit, (start + common_ns) / unit], "title": {"text": f"ms from {since}"}},
        "yaxis": {
            "range": [len(lanes) - 0.4, -0.6],
            "fixedrange": True,
            "ticklabelstandoff": 6,
            "tickvals": list(range(len(lanes))),
            "ticktext": [str(escape(lane.label)) for lane in lanes],
            "showgrid": False,
            "zeroline": False,
        },
        "uniformtext": {"minsize": 9, "mode": "hide"},
        "shapes": _separators(timeline),
    }
    return {"data": data, "layout": layout}


def _drawing_order(kind: str) -> tuple[int, str]:
    return (0 if kind.startswith("stage") else 1, kind)


def _bars(kind: str, marks: Sequence[Mark], start: int, unit: float) -> Figure:
    stage = kind.startswith("stage")
    trace: Figure = {
        "type": "bar",
        "orientation": "h",
        "name": str(escape(kind)),
        "base": [round((start + mark.start_ns) / unit, 6) for mark in marks],
        "x": [round(mark.duration_ns / unit, 6) for mark in marks],
        "y": [mark.lane for mark in marks],
        "width": 0.84 if stage else 0.72,
        # A stroke keeps bars visible that are thinner than a pixel.
        "marker": {
            "color": _colour(kind),
            "opacity": _opacity(marks, 0.45 if stage or kind == IDLE else 1.0),
            "line": {"width": 0.6, "color": _colour(kind)},
        },
        "hoverinfo": "text",
        # plotly reads a little markup in texts, so they are escaped for it as for the page.
        "hovertext": ["<br>".join(escape(line) for line in mark.hover) for mark in marks],
    }
    if stage:
        trace["text"] = [str(escape(mark.label)) for mark in marks]
        trace |= {"textposition": "inside", "insidetextanchor": "start", "textangle": 0, "textfont": {"size": 11}}
    return trace


def _opacity(marks: Sequence[Mark], full: float) -> float | list[float]:
    """One number, or one a mark where merged marks were busy only in part; a quarter is still seen."""
    if all(mark.density == 1 for mark in marks):
        return full
    return [round(full * max(mark.density, 0.25), 3) for mark in marks]


def _separators(timeline: Timeline) -> list[Figure]:
    """A line wherever the lanes change from stages to streams."""
    roles = [lane.role for lane in timeline.lanes]
    line = {"color": "rgba(128,128,128,0.5)", "width": 1}
    return [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": i - 0.5, "y1": i - 0.5, "line": line}
        for i in range(1, len(roles))
        if (roles[i - 1] == "stage") != (roles[i] == "stage")
    ]


def _colour(kind: str) -> str:
    return colour(kind.removeprefix("stage").strip()).light
