"""Charts as plotly figures, the same on the page and in a notebook: `figure` for people, a function a chart for the page.

A chart is the plain ``{data, layout}`` object that plotly.js takes. Only `figure` makes it a ``plotly.graph_objects.Figure``:
importing that takes a second, for which a page need not wait. Colours are those of light ground; the page's script exchanges them
on dark ground (`palette.on_dark`). plotly reads a little markup in texts, so names are escaped for it (`_text`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from ..analyze.attribution.stages import ITERATION, WINDOW
from ..analyze.comparison.mechanisms import FAMILY_OF
from ..analyze.comparison.reasons import FAMILY_WORDS
from ..analyze.comparison.waterfall import Term, Waterfall, over_devices
from ..analyze.document import thinned
from ..analyze.result import IDLE, Analysis
from ..expectations.comparing.compare import Compared, Comparison
from ..traces.errors import UsageError
from .page import text
from .page.markup import clip, escape
from .page.sides import stage_label
from .palette import INK, KINDS, MEANINGS, QUIET, colour, is_idle, rank

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

Figure = dict[str, Any]
"""``{data, layout}``."""

Named = Sequence[tuple[str, Analysis]]
"""Analyses and what they go by."""

MOST_STAGES: Final = 8
"""Stages with bars of their own; the others share one."""

MOST_TERMS: Final = 12
"""Terms of a waterfall with a bar of their own; the others share one."""

MOST_COLUMNS: Final = 500
"""Columns of a side's iterations; beyond it neighbours share one, which shows the slowest of them."""

MOST_POINTS: Final = 400

LABEL: Final = 34
"""Characters of a row's label."""

SIDES: Final = (QUIET.light, *(KINDS[kind].light for kind in ("compute", "h2d", "d2h", "comm")))
"""Of variants, baseline first: it is what the others are held against."""

_GRID: Final = "rgba(128,128,128,0.25)"
_AXIS: Final = {"gridcolor": _GRID, "zerolinecolor": _GRID, "linecolor": _GRID, "automargin": True}


def figure(name: str, result: Analysis | Sequence[Analysis] | Comparison | Compared) -> PlotlyFigure:
    """One of the report's charts as a ``plotly.graph_objects.Figure``.

    `name` is ``ledger``, ``overlap``, ``iterations``, ``memory`` or ``waterfall``. `result` is what `analyze` or `compare` gave,
    or several analyses; ``waterfall`` needs a comparison. Raises `UsageError` for a name that is none of these, and for a result
    that the chart cannot be made of.
    """
    if name == "waterfall":
        made = waterfall_figure(_comparison(result).waterfall)
    elif name in OF_ANALYSES:
        made = OF_ANALYSES[name](_named(result))
    else:
        raise UsageError(f"there is no figure {name[:80]!r}; there are {', '.join([*OF_ANALYSES, 'waterfall'])}")
    if not made["data"]:
        raise UsageError(f"the recording holds nothing for the figure {name!r}")
    from plotly.graph_objects import Figure

    return Figure(made)


def _comparison(result: object) -> Comparison:
    """The comparison that `result` is, or the one of the whole ladder that it holds."""
    if isinstance(result, Comparison):
        return result
    if not isinstance(result, Compared) or not result.comparisons:
        raise UsageError(
            "a waterfall is drawn of a comparison of two recordings with device work: aisp_trace.compare(BASE, OPT)"
        )
    return next((c for c in result.comparisons if c.role == "total"), result.comparisons[0])


def _named(result: Analysis | Sequence[Analysis] | Comparison | Compared) -> Named:
    if isinstance(result, Compared):
        return [(side.name, side.analysis) for side in result.sides]
    if isinstance(result, Comparison):
        return [(side.name, side.analysis) for side in (result.base, result.opt)]
    every = [result] if isinstance(result, Analysis) else list(result)
    return [(one.variant or clip(one.meta.file, LABEL), one) for one in every]


def _text(words: str) -> str:
    """Words for plotly, in which no name is markup."""
    return str(escape(words))


def _layout(height: int, **more: Any) -> Figure:
    return {
        "template": {},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK.light},
        "margin": {"l": 12, "r": 12, "t": 12, "b": 40},
        "hoverlabel": {"font": {"size": 12}, "align": "left"},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        "height": height,
        **more,
    }


def _rows_axis(labels: Sequence[str], places: Sequence[float]) -> Figure:
    return {
        **_AXIS,
        "showgrid": False,
        "zeroline": False,
        "tickvals": list(places),
        "ticktext": [_text(clip(label, LABEL)) for label in labels],
        "range": [max(places, default=0) + 0.6, -0.6],
    }


def _marker(name: str) -> Figure:
    """Solid for work, hatched for idle time."""
    found = colour(name).light
    if not is_idle(name):
        return {"color": found}
    return {
        "color": found,
        "pattern": {"shape": "/", "fgcolor": found, "fillmode": "replace", "solidity": 0.55, "size": 6},
    }


# The ledger

_SHORT: Final = {ITERATION: "between stages", WINDOW: "outside iterations"}
"""Of `stage_label`'s words, those that are long for a row."""

Parts = dict[str, dict[str, int]]
"""ns by kind of work or family of idle time, and in it by kind or cause."""


def ledger_figure(named: Named) -> Figure:
    """The costliest stages, a stacked bar a side: where their nanoseconds went, by kind of work and family of idle time."""
    cells = [_cells(analysis) for _, analysis in named]
    weight: dict[str, int] = {}
    for found in cells:
        for (stage, _), ns in found.items():
            weight[stage] = weight.get(stage, 0) + ns
    stages = sorted(weight, key=lambda stage: (-weight[stage], stage))
    groups = [[stage] for stage in stages[:MOST_STAGES]] + ([stages[MOST_STAGES:]] if stages[MOST_STAGES:] else [])
    rows: list[tuple[str, float, Parts, int]] = []
    for number, group in enumerate(groups):
        label = _SHORT.get(group[0], stage_label(group[0])) if len(group) == 1 else f"{len(group)} more stages"
        for at, ((name, _), found) in enumerate(zip(named, cells, strict=True)):
            place = number * (len(named) + 0.4) + at
            rows.append(
                (f"{label} · {name}" if len(named) > 1 else label, place, _parts(found, group), sum(found.values()))
            )
    shown = sorted({drawn: rank(next(iter(what))) for _, _, parts, _ in rows for drawn, what in parts.items()}.items(),
                   key=lambda item: item[1])  # fmt: skip
    data = [_ledger_bars(drawn, [row for row in rows if drawn in row[2]]) for drawn, _ in shown]
    legend_rows = 1 + len(shown) // 5
    layout = _layout(
        70 + 22 * legend_rows + round(24 * (max((row[1] for row in rows), default=0) + 1)),
        barmode="stack",
        bargap=0.25,
        xaxis={**_AXIS, "title": {"text": "ms"}},
        yaxis=_rows_axis([row[0] for row in rows], [row[1] for row in rows]),
    )
    return {"data": data, "layout": layout}


def _cells(analysis: Analysis) -> dict[tuple[str, str], int]:
    """ns by stage and kind or cause, over all devices and iterations."""
    what = pl.when(pl.col("category") == IDLE).then(pl.col("cause").fill_null("unknown")).otherwise(pl.col("category"))
    stage = pl.col("stage").str.replace("^iteration/", "")
    grouped = analysis.ledger.group_by(stage, what.alias("what")).agg(pl.col("ns").sum())
    return {(stage, name): ns for stage, name, ns in grouped.iter_rows() if ns}


def _parts(cells: Mapping[tuple[str, str], int], stages: Sequence[str]) -> Parts:
    parts: Parts = {}
    for (stage, what), ns in sorted(cells.items(), key=lambda item: rank(item[0][1])):
        if stage in stages:
            of = parts.setdefault(f"{IDLE}: {FAMILY_WORDS[FAMILY_OF[what]]}" if is_idle(what) else what, {})
            of[what] = of.get(what, 0) + ns
    return parts


def _ledger_bars(drawn: str, rows: Sequence[tuple[str, float, Parts, int]]) -> Figure:
    sums = [sum(parts[drawn].values()) for _, _, parts, _ in rows]
    return {
        "type": "bar",
        "orientation": "h",
        "name": _text(drawn),
        "x": [ns / 1e6 for ns in sums],
        "y": [place for _, place, _, _ in rows],
        "marker": _marker(next(iter(rows[0][2][drawn]))),
        "hoverinfo": "text",
        "hovertext": [
            "<br>".join(
                [
                    _text(clip(label, 80)),
                    _text(f"{drawn}: {text.duration(ns)}, {text.share(ns / whole)} of the window"),
                    *(
                        _text(f"{what} {text.duration(n)}: {MEANINGS.get(what, '')}")
                        for what, n in parts[drawn].items()
                    ),
                ]
            )
            for (label, _, parts, whole), ns in zip(rows, sums, strict=True)
        ],
    }


# What was hidden


def overlap_figure(named: Named) -> Figure:
    """The time of copies and collectives under kernels, and not, by direction, over all devices; a bar a side."""
    rows = []
    for name, analysis in named:
        pairs = analysis.overlap.filter(
            pl.col("stage").is_null() & (pl.col("b") == "compute") & pl.col("a").is_in(["h2d", "d2h", "comm"])
        )
        summed = pairs.group_by("a").agg(pl.col("a_ns", "both_ns").sum())
        rows += [(kind, name, both, total - both) for kind, total, both in summed.iter_rows() if total]
    order = [name for name, _ in named]
    rows.sort(key=lambda row: (rank(row[0]), order.index(row[1])))
    places = list(range(len(rows)))
    data = []
    marks = [colour(kind).light for kind, *_ in rows]
    pattern = {"shape": "/", "fgcolor": marks, "fillmode": "replace", "solidity": 0.3, "size": 6}
    for words, hidden in (("under kernels", True), ("not under kernels", False)):
        amounts = [both if hidden else rest for _, _, both, rest in rows]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": words,
                "x": [ns / 1e6 for ns in amounts],
                "y": places,
                "marker": {"color": marks, **({"pattern": pattern} if hidden else {})},
                "hoverinfo": "text",
                "hovertext": [
                    f"{_text(clip(name, 80))}, {kind}<br>{text.duration(ns)} {words}, {_text(text.share(ns / (both + rest)))}"
                    for (kind, name, both, rest), ns in zip(rows, amounts, strict=True)
                ],
            }
        )
    labels = [f"{kind} · {name}" if len(named) > 1 else kind for kind, name, _, _ in rows]
    layout = _layout(
        96 + 26 * len(rows),
        barmode="stack",
        bargap=0.25,
        xaxis={**_AXIS, "title": {"text": "ms"}},
        yaxis=_rows_axis(labels, places),
    )
    return {"data": data if rows else [], "layout": layout}


# From one window to another


def waterfall_figure(fall: Waterfall) -> Figure:
    """From the base's window to the optimised one's, a floating bar for each term between them, where the one above ended."""
    plan, (weight, against) = fall.layout, fall.weights
    moved = [term for term in over_devices(fall.terms) if term.difference]
    kept = len(moved) if len(moved) <= MOST_TERMS + 1 else MOST_TERMS
    bars = [(fall.base, IDLE, 0, fall.base_ns * weight)]
    at = fall.base_ns * weight
    for term in moved[:kept]:
        bars.append((_term(term), term.cause or term.category, at, term.difference))
        at += term.difference
    if moved[kept:]:
        rest = sum(term.difference for term in moved[kept:])
        bars.append((text.count(len(moved) - kept, "smaller term"), IDLE, at, rest))
    bars.append((fall.opt, IDLE, 0, fall.opt_ns * against))
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "x": [plan.ns(length) / 1e6],
            "base": [plan.ns(start) / 1e6],
            "y": [place],
            "marker": _marker(look),
            "hoverinfo": "text",
            "hovertext": [_text(f"{clip(label, 80)}: {text.duration(plan.ns(length))}").replace("-", "−")],
            "text": [text.duration(plan.ns(length)).replace("-", "−")],
            "textposition": "outside",
            "cliponaxis": False,
            "showlegend": False,
        }
        for place, (label, look, start, length) in enumerate(bars)
    ]
    per = " per iteration" if plan.per == "iteration" else ""
    ends = [plan.ns(end) / 1e6 for _, _, start, length in bars for end in (start, start + length)]
    least, most = min(ends), max(ends)
    room = 0.12 * (most - min(0, least))  # for the figures beside the bars
    layout = _layout(
        72 + 26 * len(bars),
        barmode="overlay",
        bargap=0.25,
        xaxis={**_AXIS, "title": {"text": f"ms{per}"}, "range": [min(0, least) - room * (least < 0), most + room]},
        yaxis=_rows_axis([label for label, *_ in bars], range(len(bars))),
    )
    return {"data": data, "layout": layout}


def _term(term: Term) -> str:
    return f"{term.stage} · {term.what}"


# Iterations, rounds, memory


def iterations_figure(named: Named) -> Figure:
    """The time of each traced iteration, a column each, from zero."""
    data = []
    for number, (name, analysis) in enumerate(named):
        table = analysis.iterations
        times, numbers = (table["end_ns"] - table["start_ns"]).to_list(), table["iteration"].to_list()
        step = -(-len(times) // MOST_COLUMNS) or 1
        shown = [(i, max(times[i : i + step])) for i in range(0, len(times), step)]
        if not shown:
            continue
        data.append(
            {
                "type": "bar",
                "name": _text(clip(name, LABEL)),
                "x": [numbers[i] for i, _ in shown],
                "y": [ns / 1e6 for _, ns in shown],
                "marker": {"color": SIDES[number % len(SIDES)]},
                "hoverinfo": "text",
                "hovertext": [_iteration_words(name, numbers[i : i + step], ns) for i, ns in shown],
            }
        )
    layout = _layout(
        230,
        barmode="group",
        showlegend=len(data) > 1,
        xaxis={**_AXIS, "title": {"text": "iteration"}, "showgrid": False},
        yaxis={**_AXIS, "title": {"text": "ms"}, "rangemode": "tozero"},
    )
    return {"data": data, "layout": layout}


def _iteration_words(name: str, numbers: Sequence[int], ns: int) -> str:
    first, last = numbers[0], numbers[-1]
    which = f"iteration {first}" if len(numbers) == 1 else f"slowest of iterations {first} to {last}"
    return _text(f"{clip(name, 80)}, {which}: {text.duration(ns)}")


def rounds_figure(medians_ns: Mapping[str, Sequence[int]]) -> Figure:
    """The untraced rounds: each round's median time of an iteration, one row a variant, on one scale from zero."""
    data = [
        {
            "type": "box",
            "orientation": "h",
            "name": _text(clip(variant, LABEL)),
            "x": [v / 1e6 for v in values],
            "y": [place] * len(values),
            "boxpoints": "all",
            "jitter": 0.5,
            "pointpos": 0,
            "width": 0.55,
            "line": {"width": 1.2},
            "marker": {"size": 6, "color": SIDES[place % len(SIDES)]},
            "fillcolor": _GRID,
            "hoverinfo": "text",
            "hovertext": [_text(f"{clip(variant, 80)}, round {r}: {text.duration(v)}") for r, v in enumerate(values)],
            "showlegend": False,
        }
        for place, (variant, values) in enumerate(medians_ns.items())
    ]
    axis = {**_AXIS, "rangemode": "tozero", "title": {"text": "ms per iteration, median of a round"}}
    layout = _layout(64 + 46 * len(data), xaxis=axis, yaxis=_rows_axis(list(medians_ns), range(len(medians_ns))))
    return {"data": data, "layout": layout}


def memory_figure(named: Named) -> Figure:
    """Device memory in use over each recording, from its first device operation on; a line a side and device."""
    data = []
    for number, (name, analysis) in enumerate(named):
        timeline = analysis.memory_timeline.filter(pl.col("kind") == "device")
        for device in timeline["device"].drop_nulls().unique().sort().to_list():
            points = timeline.filter(pl.col("device") == device).sort("time_ns", maintain_order=True)
            if points.height < 2:
                continue
            few = thinned(points, MOST_POINTS)
            first = few["time_ns"][0] if analysis.first_op_ns is None else analysis.first_op_ns
            use = few["in_use_bytes"].to_list()
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": _text(f"{clip(name, LABEL)}, device {device}"),
                    "x": [(ns - first) / 1e6 for ns in few["time_ns"].to_list()],
                    "y": [nbytes / 1e9 for nbytes in use],
                    "line": {"shape": "hv", "width": 1.8, "color": SIDES[number % len(SIDES)]},
                    "hoverinfo": "text",
                    "hovertext": [_text(f"{clip(name, 80)}: {text.size(nbytes)}") for nbytes in use],
                    "showlegend": True,
                }
            )
    layout = _layout(
        240,
        xaxis={**_AXIS, "title": {"text": "ms from the first operation"}, "showgrid": False},
        yaxis={**_AXIS, "title": {"text": "GB"}, "rangemode": "tozero"},
    )
    return {"data": data, "layout": layout}


OF_ANALYSES: Final[Mapping[str, Callable[[Named], Figure]]] = {
    "ledger": ledger_figure,
    "overlap": overlap_figure,
    "iterations": iterations_figure,
    "memory": memory_figure,
}
"""The charts that are made of analyses, by their names."""
