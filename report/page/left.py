"""What is left: the findings, ranked by what a change could save at most, each with the view of the timeline that shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import polars as pl

from ...analyze.findings.find import find
from ...analyze.findings.finding import Finding, capital
from ...analyze.findings.first_lines import steady_sentences
from ...analyze.findings.limits import limit_sentences
from ...analyze.findings.missing import missing_sentences
from ...analyze.headroom.helps import MEANING, NONE_PAYS, now_of, paying
from ...analyze.result import IDLE, Analysis
from . import cells, text
from .blocks import Block, Cell, Fold, Para, Row, Section, Span, Sub, Table, section
from .links import timeline_link
from .sides import Side

NOTE: Final = (
    "Ranked by what a change would save: what a replay predicts, else all the time that the finding covers. Findings do not "
    "overlap, except slow iterations, contention and low clocks, whose time other findings cover, too. Click a name to see "
    "the finding in the timeline."
)
MORE: Final = (
    " A replay may save more than the finding takes: copies that hide under compute no longer wait for it either."
)


def left_section(sides: Sequence[Side]) -> Section | None:
    """The findings of the last of `sides`, then what changes would gain; both of the others are folded. Null where none is."""
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
        headroom_section(last.analysis),
        [
            Fold(f"What is slow in {side.name}", [*_missing(side), *_findings(side), *headroom_section(side.analysis)])
            for side in others
        ],
    )


def headroom_section(analysis: Analysis) -> list[Block]:
    """What named changes would gain, by a replay of the recording; a sentence where none is predicted, nothing without replay."""
    on = next(analysis.replayed.iter_rows(named=True), None)
    if on is None or on["found_by"] is None:
        return []
    title = Sub("What a change would gain")
    if on["why"]:
        return [title, Para(f"No gain can be predicted: {on['why']}.", "note")]
    now = now_of(on)
    of = "the window" if on["found_by"] == "window" else "an iteration"
    mean = "" if on["found_by"] == "window" else ", the mean"
    basis = f"traced{mean}" if on["untraced_ns"] is None else "untraced"
    fit = f"with every latency at its median the replay is {text.share(on['structure_error'])} off"
    pays = paying(analysis.headroom, now)
    if pays.is_empty():
        return [title, Para(f"{capital(NONE_PAYS)} ({fit}).", "note")]
    meaning = capital(MEANING)
    said = f"What each change would make of {of} of {text.duration(now)} {basis}, by a replay of the recording ({fit}). {meaning}"
    heads = ["change", of, "gain", "at most", "with all above", "grade"]
    rows = [_change(row, now) for row in pays.iter_rows(named=True)]
    return [title, Para(said, "note"), Table("what changes would gain", heads, rows, numbers=range(1, 5))]


def _change(row: Mapping[str, Any], now: int) -> Row:
    gains = [
        Cell(f"{text.significant(now / row[when])} ×", now / row[when]) if row[when] else Cell(text.ABSENT)
        for when in ("estimate_ns", "at_most_ns", "after_ns")
    ]
    under = "; ".join(words for words in (row["why"], row["assumes"]) if words)
    return Row([Span(row["change"], "code"), cells.time(row["estimate_ns"]), *gains, row["grade"]], under or None)


def _missing(side: Side) -> list[Block]:
    said = [*missing_sentences(side.analysis)]
    if not side.analysis.windows.is_empty():
        said += steady_sentences(side.analysis)
    return [Para(f"{capital(one).rstrip('.')}.", "note") for one in said]


def _findings(side: Side) -> list[Block]:
    found = find(side.analysis)
    limits = [Para(sentence) for sentence in limit_sentences(side.analysis, found)]
    if not found:
        return list(limits)
    several = side.analysis.windows["device"].n_unique() > 1
    apart = any(one.gain is not None or not one.bounded for one in found)
    heads = ["finding", "saves" if apart else "saves at most", "takes", "of the window", "largest part in"]
    rows = [
        Row(
            [
                Cell(Span(capital(one.what), href=_view(side, one)), below=_where(one, several)),
                replace(
                    cells.time(one.saving_ns), below="at most" if apart and one.gain is None and one.bounded else ""
                ),
                cells.time(one.saving_at_most_ns),
                cells.share(one.share),
                Cell(cells.stage(side, one.stage, text.ABSENT), below=_part(one)),
            ],
            (
                f"{capital(one.evidence)}. ",
                Span(f"To change that, {one.remedy}.{one.replay_words}", "remedy"),
            ),
            stage=one.stage,
        )
        for one in found
    ]
    more = MORE if any(one.saving_ns > one.saving_at_most_ns for one in found) else ""
    return [Para(NOTE + more, "note"), Table(f"findings of {side.name}", heads, rows, numbers=(1, 2, 3)), *limits]


def _where(one: Finding, several: bool) -> str:
    return f"device {one.device}" if several else ""


def _part(one: Finding) -> str:
    """How much of a finding lies in its stage; empty where that is not known."""
    if one.stage is None or one.stage_share is None:
        return ""
    return "all of it" if one.stage_share == 1 else f"{text.share(one.stage_share)} of it"


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
