"""The page of a job of ranks: one HTML file with everything inside, that stays below 10 MB for any number of ranks.

    header         the job, its straggler, why, and what it costs
    lateness       a map of ranks and iterations: a vertical line is one rank again and again, dots are one that rotates
    stages         a map of stages and ranks: where a rank takes longer than the median one
    tables         iterations with a late rank, ranks, ledger, communicators, and who is missing

As on the page of a trace (`report.page`), whose blocks it is made of, nothing is fetched, only the script whose hash the policy
names may run, and every recorded name is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from ...analyze.ranks.gather import Failed
from ...analyze.ranks.job import Job, by_category
from ...analyze.ranks.roster import listed
from ...analyze.words import duration, ms, percent
from ..page.blocks import Block, Para, Row, Section, Table
from ..page.frame import framed
from ..page.markup import embedded_json
from ..page.text import count
from ..rank_rows import headline, late_steps, latest_ranks, step_row
from .maps import Map, late_map, stage_map

HERE: Final = Path(__file__).parent
MOST_RANKS: Final = 200
"""Ranks that are listed, the latest first."""


@dataclass(frozen=True, slots=True)
class _Figure:
    """A heat map: its element, what it shows, how large it is, and its `data`."""

    id: str
    told: str
    data: Map

    @property
    def size(self) -> str:
        rows, columns, most = len(self.data["rows"]), len(self.data["columns"]), self.data["most"]
        return f"{rows:,} rows, {columns:,} columns; the darkest is {most / 1000:,.3f} ms."


@dataclass(frozen=True, slots=True)
class _Part:
    section: Section
    map: _Figure | None = None


def render(job: Job, failed: Sequence[Failed], *, version: str = "", scrubbed: bool = False) -> str:
    """The page of `job`; `failed` are traces that are not part of it. `scrubbed`: all of it is of scrubbed copies."""
    late = _Figure(
        "map-late", "How late each rank was: ranks from left to right, iterations from top to bottom", late_map(job)
    )
    told = (
        "How much longer than the median rank each one takes, communication left out: ranks from left to right, stages from top "
        "to bottom"
    )
    differ = _Figure("map-stages", told, stage_map(job))
    parts = [
        _Part(Section("late", "Who was late", _late(job)), late),
        _Part(Section("stages", "Where ranks differ", _stages(differ.data)), differ),
        _Part(Section("ranks", "Ranks", _ranks(job))),
        _Part(Section("ledger", "Where an iteration goes", _ledger(job))),
        _Part(Section("communicators", "Collectives", _communicators(job))),
        _Part(Section("missing", "What is missing", _missing(job, failed))),
    ]
    parts = [part for part in parts if part.section.blocks]
    level, reasons = job.trust
    return framed(
        "ranks.html",
        version=version,
        scrubbed=scrubbed,
        to_send_on="ranks --scrub makes a page to send on",
        title=f"Job of {count(len(job.roster.ranks), 'rank')}",
        contents=[(part.section.anchor, part.section.title) for part in parts],
        style=_file("maps.css"),
        scripts=[_file("maps.js")],
        lines=[line[:1].upper() + line[1:] for line in headline(job)],
        level=level,
        reasons=reasons,
        parts=parts,
        maps=embedded_json({one.id: one.data for one in (late, differ)}),
    )


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[int] = ()) -> Table:
    return Table(caption, heads, [Row(["-" if c is None else str(c) for c in row]) for row in rows], numbers)


def _late(job: Job) -> list[Block]:
    late = late_steps(job)
    if not late:
        return [Para("No rank was late in any iteration.")]
    heads = ("iteration", "rank", "late ms", "others waited ms", "because of", "in stage", "ms more")
    rows = [step_row(step) for step in late]
    return [_table("Iterations with a late rank, the latest first", heads, rows, (0, 1, 2, 3, 6))]


def _stages(data: Map) -> list[Block]:
    names = list(enumerate(data["rows"], 1))
    return [_table("The stages of the map, from top to bottom", ("row", "stage"), names, (0,))]


def _ranks(job: Job) -> list[Block]:
    rows = [
        (
            r["rank"],
            r["times_last"],
            ms(r["late_ns"]),
            *(percent(r[n] / r["iteration_ns"]) if r["iteration_ns"] else None for n in ("waiting_ns", "transfer_ns")),
            f"{r['gpu'] or 'device'} {r['device']}",
            r["trace"],
            r["source"],
            None if r["clock_offset_ns"] is None else ms(r["clock_offset_ns"]),
        )
        for r in latest_ranks(job).head(MOST_RANKS).iter_rows(named=True)
    ]
    heads = (
        "rank",
        "times last",
        "late ms",
        "waiting",
        "transfer",
        "device",
        "trace",
        "rank known by",
        "clock ahead ms",
    )
    table = _table("Ranks, the latest first", heads, rows, (0, 1, 2, 3, 4, 8))
    if job.ranks.height <= MOST_RANKS:
        return [table]
    return [Para(f"The {MOST_RANKS} latest of {job.ranks.height:,} ranks."), table]


def _ledger(job: Job) -> list[Block]:
    words = ", ".join(f"{word} {ms(ns)} ms" for word, ns in by_category(job).items())
    rows = [
        (
            r["stage"],
            r["category"],
            r["cause"],
            *(ms(r[n]) for n in ("mean_ns", "sd_ns", "min_ns", "max_ns")),
            r["worst_rank"],
        )
        for r in job.ledger.filter(pl.col("max_ns") > 0).iter_rows(named=True)
    ]
    heads = ("stage", "category", "cause", "mean ms", "spread", "least", "most", "on rank")
    return [
        Para(f"The mean of all ranks: {words}."),
        _table("The job's ledger, per iteration", heads, rows, (3, 4, 5, 6, 7)),
    ]


def _communicators(job: Job) -> list[Block]:
    rows = [
        (
            one.group or "not recorded",
            listed([job.roster.numbers[m] for m in one.members], most=6),
            f"{one.rows.shape[1]:,}",
            ", ".join(sorted(set(one.what))),
            duration(one.residual_ns),
            "in doubt" if one.in_doubt else "sure",
        )
        for one in job.found
    ]
    heads = ("group", "ranks", "collectives", "kinds", "ends apart", "matched")
    return [_table("Communicators", heads, rows, (2, 4))] if rows else []


def _missing(job: Job, failed: Sequence[Failed]) -> list[Block]:
    who = job.roster
    rows: list[tuple[Any, str]] = []
    if who.missing:
        rows.append((listed(who.missing), "missing: no trace is of these ranks"))
    rows += [(rank, f"short: {count} of {who.usual} iterations") for rank, count in who.short]
    rows += [(one.rank, f"{one.trace} is left out: {one.why}") for one in who.duplicates]
    rows += [(None, one.why) for one in failed]
    return [_table("Missing ranks and traces", ("rank", "why"), rows)] if rows else []
