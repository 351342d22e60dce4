"""The verdicts on a job whose ranks were recorded one by one: a claim holds if it holds on every rank.

    runs of the ranks -> traces -> one analysis a rank -> one judgement a rank -> the gravest verdict on each claim
                               `-> job of ranks -> table `job` of each analysis

Figures of the job are the same on every rank; any other claim is judged on each rank, and what is shown is the worst one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ...analyze.ranks.job import job_of
from ...analyze.ranks.look import Look
from ...analyze.ranks.make import ranks_of
from ...analyze.ranks.of_trace import job_row
from ...analyze.ranks.partials import clock_of, key_of
from ...analyze.ranks.rank import Rank
from ...analyze.result import Analysis
from ...analyze.sources import Asked, Source
from ...traces.run import Run
from ..claims.load import load_expectations
from .judged import Judged, judge_run
from .verdict import Verdict

_GRAVEST: Final = ("missed", "invalid", "inconclusive", "unrecorded", "met", "exceeded")


def judge_job(folder: Path, runs: Sequence[Run], asked: Path | None = None) -> Judged:
    """Judge the job in `folder`, whose ranks are `runs` (at least one), by the expectations in folder `asked` or those that
    apply in the current folder; raises `InputError` for a trace that cannot be read."""
    analyses: list[dict[str, Analysis]] = []
    ranks: list[Rank] = []
    for run in runs:
        manifest, found = run.manifest, {}
        of_run = (manifest.rank or 0, manifest.ranks or 1)
        for opened in Source(run, run.path).open(Asked(both_names=True)):
            found[str(opened.variant)] = opened.analysis
            trace = run.trace_path(run.variant(str(opened.variant)))
            assert trace is not None  # it was opened
            clock = clock_of(key_of(trace, Look()))
            ranks += ranks_of(opened.trace, Look(), clock, str(trace), of_run)
        analyses.append(found)
    row = job_row(job_of(ranks)) if ranks else None
    judged = []
    for run, found in zip(runs, analyses, strict=True):
        if row is not None:
            found = {name: replace(analysis, job=row) for name, analysis in found.items()}
        judged.append(judge_run(run, found, asked, of_job=True))
    first = judged[0]
    whose = [run.manifest.rank for run in runs]
    notes = [
        f"{len(set(whose))} of {runs[0].manifest.ranks} ranks: a claim holds if it holds on each, and figures are the worst one's"
    ]
    notes += dict.fromkeys(note for one in judged for note in one.notes)
    return Judged(
        load_expectations(asked, Path.cwd()),
        replace(first.evidence, run_id=folder.name),
        _gravest([one.verdicts for one in judged], whose),
        tuple(notes),
    )


def _gravest(verdicts: Sequence[Sequence[Verdict]], ranks: Sequence[int | None]) -> tuple[Verdict, ...]:
    """Of each claim's verdicts, one a rank, the gravest; of those alike, the one with the least margin."""
    by_part: dict[tuple[str, ...], list[tuple[Verdict, int | None]]] = {}
    for own, rank in zip(verdicts, ranks, strict=True):
        for verdict in own:
            by_part.setdefault((verdict.claim, verdict.part, verdict.quantity), []).append((verdict, rank))
    out = []
    for found in by_part.values():
        worst, rank = min(found, key=lambda pair: (_GRAVEST.index(pair[0].status), _margin(pair[0])))
        alike = all((v.status, v.value) == (worst.status, worst.value) for v, _ in found)
        out.append(
            worst if alike else replace(worst, reason=f"{worst.reason}; on rank {rank}, the worst of {len(found)}")
        )
    return tuple(out)


def _margin(verdict: Verdict) -> float:
    return float("inf") if verdict.margin is None else verdict.margin
