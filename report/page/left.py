"""What is left: the findings, ranked by what a change could save at most, each with the view of the timeline that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from ...analyze.findings.find import NOTHING, find
from ...analyze.findings.finding import Finding
from ...analyze.findings.first_lines import steady_sentences
from ...analyze.findings.missing import missing_sentences
from ...analyze.headroom.predicted import Predicted
from ...analyze.result import IDLE
from . import cells, text
from .blocks import Block, Cell, Fold, Para, Row, Section, Span, Sub, Table, section
from .links import timeline_link
from .sides import Side

NOTE: Final = (
    "Ranked by what a change could save at most: the time of the window that each rests on. No instant counts twice, except that "
    "slow iterations, contention and low clocks see the same time from another side. The name shows it in the timeline."
)


def left_section(sides: Sequence[Side], headroom: Sequence[Block] = ()) -> Section | None:
    """The findings of the last of `sides`, then `headroom_section`; those of the others are folded. Null where there are none."""
    told = [side for side in sides if not side.analysis.windows.is_empty() or any(missing_sentences(side.analysis))]
    if not told:
        return None
    *others, last = told
    several = len(sides) > 1
    return section(
        "left",
        f"What is left in {last.name}" if several else "What is slow",
        _missing(last),
        [] if last.analysis.windows.is_empty() else _findings(last),
        headroom,
        [Fold(f"What is slow in {side.name}", [*_missing(side), *_findings(side)]) for side in others],
    )


def headroom_section(found: Predicted) -> list[Block]:
    """What named changes would gain, by a replay of the recording: the predictions of ``aisp-trace predict`` as a table."""
    now = found.base.untraced_ns or found.base.ns
    every = [*found.each, *([found.together] if found.together else [])]
    if not every:
        return [Para("No known change would save 1 % or more.", "note")]
    rows = []
    for one in every:
        under = one.why if one.estimate_ns is None else one.assumes[-1] if one.assumes else None
        gains = [
            Cell(f"{now / ns:.2f} ×", now / ns) if ns else Cell(text.ABSENT) for ns in (one.estimate_ns, one.at_most_ns)
        ]
        rows.append(Row([" then ".join(one.changes), cells.time(one.estimate_ns), *gains, one.grade], under))
    basis = "untraced" if found.base.untraced_ns is not None else "traced"
    said = f"What a change would make of an iteration that takes {text.duration(now)} {basis}, before it is made."
    heads = ["change", "iteration", "gain", "at most", "grade"]
    return [Sub("What a change would gain"), Para(said, "note"), Table("predictions", heads, rows, numbers=(1, 2, 3))]


def _missing(side: Side) -> list[Block]:
    said = [*missing_sentences(side.analysis)]
    if not side.analysis.windows.is_empty():
        said += steady_sentences(side.analysis)
    return [Para(f"{one[0].upper()}{one[1:].rstrip('.')}.", "note") for one in said]


def _findings(side: Side) -> list[Block]:
    found = find(side.analysis)
    if not found:
        return [Para(NOTHING)]
    several = side.analysis.windows["device"].n_unique() > 1
    heads = ["finding", "saves at most", "of the window", "most of it in"]
    rows = [
        Row(
            [
                Cell(Span(f"{one.what[0].upper()}{one.what[1:]}", href=_view(side, one)), below=_where(one, several)),
                cells.time(one.saving_at_most_ns),
                cells.share(one.share),
                cells.stage(side, one.stage, text.ABSENT),
            ],
            (f"{one.evidence[0].upper()}{one.evidence[1:]}. ", Span(f"To change that, {one.remedy}.", "remedy")),
            stage=one.stage,
        )
        for one in found
    ]
    return [Para(NOTE, "note"), Table(f"findings of {side.name}", heads, rows, numbers=(1, 2))]


def _where(one: Finding, several: bool) -> str:
    return f"device {one.device}" if several else ""


def _view(side: Side, one: Finding) -> str:
    """The slowest iteration for a finding about one; else the longest gap in the stage with what is around it; else the stage."""
    a = side.analysis
    if one.rule == "slow_iteration" and not a.iterations.is_empty():
        start, end = a.iterations.sort(pl.col("end_ns") - pl.col("start_ns")).select("start_ns", "end_ns").row(-1)
        return timeline_link(side, start_ns=start, end_ns=end)
    here = a.gaps.filter((pl.col("device") == one.device) & pl.col("stage").eq_missing(one.stage)).sort(
        "ns", descending=True
    )
    idles = a.ledger.filter(pl.col("stage").eq_missing(one.stage) & (pl.col("category") == IDLE))["ns"].sum()
    if here.is_empty() or not idles:
        return timeline_link(side, stage=one.stage)
    start, end = here.select("start_ns", "end_ns").row(0)
    margin = 2 * (end - start)
    return timeline_link(side, start_ns=start - margin, end_ns=end + margin, stage=one.stage)
