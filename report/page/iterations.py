"""Iterations: whether the window is one steady state, or a few slow iterations that a mean would hide."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import polars as pl

from . import text
from .markup import Html, element
from .sides import Side, caution
from .tables import folded, section, table

HEIGHT = 46
"""Pixels of the plot of a side."""

MOST = 500
"""Columns of a plot; beyond it neighbours share one, which shows the slowest of them."""


def iterations_section(sides: Sequence[Side]) -> Html | None:
    """A column for each iteration, from zero to the slowest of its side; null where no side has two."""
    if all(side.analysis.iterations.height < 2 for side in sides):
        return None
    plots = [_plot(side) for side in sides if side.analysis.iterations.height]
    heads = ["variant", "iteration", "from start to end", "kernels", "copies", "copies hidden", "exposed copies"]
    heads += ["collectives", "exposed collectives"]
    rows = [row for side in sides for row in _rows(side)]
    return section(
        "iterations",
        "Iterations",
        element(
            "p",
            "Each traced iteration from its first to its last instant on the host, each row from zero to its slowest. "
            "The recorder slows them; the untraced times stand under Speed.",
        ),
        caution(sides, "time"),
        element("div", plots, class_="chart", role="group", aria_label="time of each iteration"),
        folded("Every iteration", table("what each iteration did", heads, rows, numbers=range(1, 9))),
    )


def _plot(side: Side) -> Html:
    table = side.analysis.iterations
    times = (table["end_ns"] - table["start_ns"]).to_list()
    longest = max(times)
    step = -(-len(times) // MOST)
    shown = [(i, max(times[i : i + step])) for i in range(0, len(times), step)]
    width = 100 / len(shown)
    columns = []
    for at, (number, ns) in enumerate(shown):
        high = HEIGHT * ns / longest if longest else 0
        words = f"iteration {number}: {text.duration(ns)}"
        if step > 1:
            words = f"slowest of iterations {number} to {min(number + step, len(times)) - 1}: {text.duration(ns)}"
        place = {"x": f"{at * width:.3f}%", "y": f"{HEIGHT - high:.2f}", "width": f"{width * 0.86:.3f}%"}
        rect = element("rect", height=f"{high:.2f}", class_="column", **place)
        columns.append(element("g", element("title", words), rect))
    middle = text.duration(median(times))
    words = f"median {middle}, {text.duration(min(times))} to {text.duration(max(times))}"
    svg = element(
        "svg", columns, class_="columns", width="100%", height=HEIGHT, role="img", aria_label=f"{side.name}: {words}"
    )
    return element(
        "div",
        element("span", side.name, class_="bar-label"),
        svg,
        element("span", words, class_="bar-value"),
        class_="bar-row",
    )


def _rows(side: Side) -> list[list[str]]:
    a = side.analysis
    kernels = _sums(a.iteration_kinds.filter(pl.col("kind").cast(pl.String).is_in(["compute", "graph"])), "ops")
    moved = a.iteration_overlap.filter((pl.col("a") == "copy") & (pl.col("b") == "compute"))
    copies, comm = _sums(moved, "a_ns"), _sums(_pair(a.iteration_overlap, "comm"), "a_ns")
    exposed = {k: _sums(a.iteration_exposed.filter(pl.col("kind") == k), "ns") for k in ("copy", "comm")}
    out = []
    for number, host in a.iterations.select("iteration", pl.col("end_ns") - pl.col("start_ns")).iter_rows():
        copy, free = copies.get(number), exposed["copy"].get(number, 0)
        unknown = side.cannot_tell("overlap")
        hidden = "cannot tell" if unknown else "no copies" if not copy else text.share(1 - free / copy)
        out.append(
            [
                *(side.name, str(number), text.duration(host), f"{kernels.get(number, 0):,}", text.duration(copy)),
                *(hidden, text.ABSENT if not copy or unknown else text.duration(free)),
                text.duration(comm.get(number)),
                text.ABSENT if number not in comm or unknown else text.duration(exposed["comm"].get(number, 0)),
            ]
        )
    return out


def _pair(overlap: pl.DataFrame, a: str) -> pl.DataFrame:
    return overlap.filter((pl.col("a") == a) & (pl.col("b") == "compute"))


def _sums(frame: pl.DataFrame, column: str) -> dict[int, int]:
    """The sum over devices by iteration."""
    return dict(frame.group_by("iteration").agg(pl.col(column).sum()).iter_rows())
