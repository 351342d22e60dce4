"""The page of a job of ranks: one HTML file with everything inside, that stays below 10 MB for any number of ranks.

    header         the job, its straggler, why, and what it costs
    lateness       a map of ranks and iterations: a vertical line is one rank again and again, dots are one that rotates
    stages         a map of stages and ranks: where a rank takes longer than the median one
    tables         iterations with a late rank, ranks, ledger, communicators, and who is missing

As on the page of a trace (`report.page`), nothing is fetched, only the script whose hash the policy names may run, and every
recorded name is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any, Final

import polars as pl

from ...analyze.ranks.gather import Failed
from ...analyze.ranks.job import Job, by_category, listed
from ...analyze.words import duration, ms, percent
from ..page.markup import Html, clip, element, embedded_json, escape
from ..page.tables import section, table
from ..terminal.ranks import headline, step_row
from .maps import late_map, stage_map

HERE: Final = Path(__file__).parent
TITLES: Final = {
    "late": "Who was late",
    "stages": "Where ranks differ",
    "ranks": "Ranks",
    "ledger": "Where an iteration goes",
    "communicators": "Collectives",
    "missing": "What is missing",
}
"""The sections by their anchors."""

MOST_RANKS: Final = 200
"""Ranks that are listed, the latest first."""


def render(job: Job, failed: Sequence[Failed], *, version: str = "") -> str:
    """The page of `job`; `failed` are traces that are no part of it."""
    maps = {"map-late": late_map(job), "map-stages": stage_map(job)}
    parts = [
        _lateness(job, maps["map-late"]),
        _stages(maps["map-stages"]),
        _ranks(job),
        _ledger(job),
        _communicators(job),
        _roster(job, failed),
    ]
    sections = [part for part in parts if part is not None]
    script = (HERE / "maps.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    title = f"Job of {len(job.roster.ranks):,} ranks"
    lines = [element("p", line[:1].upper() + line[1:] + ".") for line in headline(job)]
    level, reasons = job.trust
    cautions = [
        element("p", element("strong", f"trust {level}: "), reason, class_=f"caution {level}") for reason in reasons
    ]
    links = [(anchor, name) for anchor, name in TITLES.items() if any(f'id="{anchor}"' in part for part in sections)]
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        policy=Html(rules),
        version=escape(version),
        title=escape(f"{title} · aisp-trace"),
        style=(HERE.parent / "page" / "page.css").read_text(encoding="utf-8"),
        header="\n".join([element("h1", title), *lines, *cautions]),
        contents="".join(element("li", element("a", name, href=f"#{anchor}")) for anchor, name in links),
        body="\n".join(sections),
        maps=embedded_json(maps),
        script=script,
    )


def _figure(anchor: str, told: str, data: dict[str, Any]) -> Html:
    size = f"{len(data['rows']):,} rows, {len(data['columns']):,} columns; the darkest is {data['most'] / 1000:,.3f} ms"
    canvas = element("canvas", f"{told}: {size}", role="img", aria_label=told)
    return element(
        "figure",
        canvas,
        element("output", f"{size}. Point at a cell to read it."),
        element("figcaption", told),
        id=anchor,
        class_="map",
    )


def _lateness(job: Job, data: dict[str, Any]) -> Html:
    late = sorted((s for s in job.steps if s.rank is not None), key=lambda s: (-s.late_ns, s.iteration))
    heads = ("iteration", "last rank", "late ms", "others waited ms", "because of", "in stage", "ms more")
    rows = [tuple(None if v is None else clip(str(v)) for v in step_row(step)) for step in late]
    told = "How late each rank was: ranks from left to right, iterations from top to bottom"
    return section(
        "late",
        TITLES["late"],
        _figure("map-late", told, data),
        table("Iterations with a late rank, the latest first", heads, rows, numbers=(0, 1, 2, 3, 6)) if rows else None,
    )


def _stages(data: dict[str, Any]) -> Html:
    told = (
        "How much longer than the median rank each one takes, communication left out: ranks from left to right, stages from top "
        "to bottom"
    )
    names = [(str(i + 1), clip(name)) for i, name in enumerate(data["rows"])]
    return section(
        "stages",
        TITLES["stages"],
        _figure("map-stages", told, data),
        table("The stages of the map, from top to bottom", ("row", "stage"), names, numbers=(0,)),
    )


def _ranks(job: Job) -> Html:
    worst = job.ranks.sort("late_ns", "waiting_ns", "rank", descending=[True, False, False])
    rows = [
        (
            str(r["rank"]),
            str(r["times_last"]),
            ms(r["late_ns"]),
            *(percent(r[n] / r["iteration_ns"]) if r["iteration_ns"] else None for n in ("waiting_ns", "transfer_ns")),
            clip(f"{r['gpu'] or 'device'} {r['device']}"),
            clip(r["trace"]),
            r["source"],
            None if r["clock_offset_ns"] is None else ms(r["clock_offset_ns"]),
        )
        for r in worst.head(MOST_RANKS).iter_rows(named=True)
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
        "clock ahead by ms",
    )
    note = f"The {MOST_RANKS} latest of {job.ranks.height:,} ranks." if job.ranks.height > MOST_RANKS else None
    return section(
        "ranks",
        TITLES["ranks"],
        element("p", note) if note else None,
        table("Ranks, the latest first", heads, rows, numbers=(0, 1, 2, 3, 4, 8)),
    )


def _ledger(job: Job) -> Html:
    words = ", ".join(f"{word} {ms(ns)} ms" for word, ns in by_category(job).items())
    rows = [
        (
            clip(r["stage"]),
            r["category"],
            r["cause"],
            *(ms(r[n]) for n in ("mean_ns", "sd_ns", "min_ns", "max_ns")),
            str(r["worst_rank"]),
        )
        for r in job.ledger.filter(pl.col("max_ns") > 0).iter_rows(named=True)
    ]
    heads = ("stage", "category", "cause", "mean ms", "spread", "least", "most", "on rank")
    return section(
        "ledger",
        TITLES["ledger"],
        element("p", f"The mean of all ranks: {words}."),
        table("The job's ledger, per iteration", heads, rows, numbers=(3, 4, 5, 6, 7)),
    )


def _communicators(job: Job) -> Html | None:
    if not job.found:
        return None
    rows = [
        (
            one.group or "not recorded",
            listed([job.roster.numbers[m] for m in one.members], most=6),
            f"{one.rows.shape[1]:,}",
            clip(", ".join(sorted(set(one.what)))),
            duration(one.residual_ns),
            "in doubt" if one.in_doubt else "sure",
        )
        for one in job.found
    ]
    heads = ("group", "ranks", "collectives", "kinds", "ends apart", "matched")
    return section("communicators", TITLES["communicators"], table("Communicators", [*heads], rows, numbers=(2, 4)))


def _roster(job: Job, failed: Sequence[Failed]) -> Html | None:
    who = job.roster
    rows: list[tuple[str, str]] = []
    if who.missing:
        rows.append((listed(who.missing), "missing: no trace is of these ranks"))
    rows += [(str(rank), f"short: {count} of {who.usual} iterations") for rank, count in who.short]
    rows += [(str(one.rank), f"{clip(one.trace)} is left out: {one.why}") for one in who.duplicates]
    rows += [("-", one.why) for one in failed]
    return (
        section("missing", TITLES["missing"], table("Missing ranks and traces", ("rank", "why"), rows))
        if rows
        else None
    )
