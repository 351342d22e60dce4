"""Iterations: whether the window is one steady state, or a few slow iterations that a mean would hide."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import polars as pl

from ...analyze.findings.rules import SLOW
from ..figures import iterations_figure
from . import cells, text
from .blocks import Cell, Chart, Para, Row, Section, Span, Table, section
from .links import timeline_link
from .sides import Side, caution

NO_COPIES = "no copies"


def iterations_section(sides: Sequence[Side]) -> Section | None:
    """Each iteration's time and what it did, slow ones marked; null where no side has two."""
    if all(side.analysis.iterations.height < 2 for side in sides):
        return None
    heads = ["variant", "iteration", "from start to end", "of the median", "kernels", "copies", "copies hidden"]
    heads += ["exposed copies", "collectives", "exposed collectives"]
    rows = [row for side in sides for row in _rows(side)]
    slow = sum(row.look == "slow" for row in rows)
    words = "Each traced iteration, from start to end on the host. Tracing slows them; a run's untraced times are under Rounds. "
    told = (
        f"{text.count(slow, 'iteration')} took {SLOW} times the median or longer: marked, and linked to the timeline."
    )
    return section(
        "iterations",
        "Iterations",
        Para((words, told if slow else f"None took {SLOW} times the median.")),
        [Para(f"{side.name}: {_said(side)}.", "note") for side in sides if side.analysis.iterations.height],
        caution(sides, "time"),
        Chart("figure-iterations", iterations_figure([(s.name, s.analysis) for s in sides]), "time of each iteration"),
        Table("what each iteration did", heads, rows, numbers=range(1, 10)),
    )


def _times(side: Side) -> list[int]:
    table = side.analysis.iterations
    return (table["end_ns"] - table["start_ns"]).to_list()


def _said(side: Side) -> str:
    times = _times(side)
    return f"median {text.duration(median(times))}, {text.duration(min(times))} to {text.duration(max(times))}"


def _rows(side: Side) -> list[Row]:
    a = side.analysis
    if a.iterations.is_empty():
        return []
    middle = median(_times(side))
    kernels = _sums(a.iteration_kinds.filter(pl.col("kind").cast(pl.String).is_in(["compute", "graph"])), "ops")
    copies, comm = (_sums(_beside_compute(a.iteration_overlap, kind), "a_ns") for kind in ("copy", "comm"))
    exposed = {k: _sums(a.iteration_exposed.filter(pl.col("kind") == k), "ns") for k in ("copy", "comm")}
    unknown = side.cannot_tell("overlap")
    out = []
    for number, start, end in a.iterations.select("iteration", "start_ns", "end_ns").iter_rows():
        copy, free, took = copies.get(number), exposed["copy"].get(number, 0), end - start
        hidden = Cell(cells.CANNOT_TELL) if unknown else cells.share(1 - free / copy if copy else None, NO_COPIES)
        row: list[Cell | str] = [
            side.name,
            Cell(Span(str(number), href=timeline_link(side, start_ns=start, end_ns=end)), number),
            cells.time(took),
            Cell(f"{text.significant(took / middle)} ×" if middle else text.ABSENT, took),
            *(cells.count(kernels.get(number, 0)), cells.time(copy), hidden),
            cells.time(None if not copy or unknown else free),
            cells.time(comm.get(number)),
            cells.time(None if number not in comm or unknown else exposed["comm"].get(number, 0)),
        ]
        out.append(Row(row, look="slow" if took >= SLOW * middle and took > 0 else ""))
    return out


def _beside_compute(overlap: pl.DataFrame, a: str) -> pl.DataFrame:
    return overlap.filter((pl.col("a") == a) & (pl.col("b") == "compute"))


def _sums(frame: pl.DataFrame, column: str) -> dict[int, int]:
    """The sum over devices by iteration."""
    return dict(frame.group_by("iteration").agg(pl.col(column).sum()).iter_rows())
