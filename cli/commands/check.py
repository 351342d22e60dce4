"""``aisp-trace check``: the verdict on a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ...report.terminal.console import aside, print_json
from ...report.terminal.live import watched
from ...traces.errors import UsageError
from ...traces.run import Run, ranks_below
from ..app import examples, new_app
from ..options import Expectations, Force, Json, OneRun, refuse_mixture, run_of

app = new_app()


@app.command(
    epilog=examples(
        "check  # the newest run",
        "check aisp-runs/RUN --junit verdicts.xml --markdown verdicts.md",
        "check aisp-runs/RUN --expectations my/expectations --json",
    )
)
def run(
    source: OneRun = None,
    expectations: Expectations = None,
    as_json: Json = False,
    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="also write the verdicts as JUnit XML; - is standard output"),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="also write them as Markdown")
    ] = None,
    force: Force = False,
    update: Annotated[
        bool, typer.Option("--update-expectations", help="accept the run's bounds instead, as `aisp-trace accept` does")
    ] = False,
    allow_loosen: Annotated[
        bool, typer.Option("--allow-loosen", help="with it: accept bounds that ask for less, as `accept` does")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="with it: do not ask")] = False,
) -> int:
    """Judge a run against the expectations written down for it.

    RUN may be the folder of a job (`capture --ranks`): then a claim holds if it holds on every rank, and figures of
    the job (`job.straggler_share`) cover all ranks together. A missing rank leaves these undecided.

    Every claim gets a verdict with its working: value, interval, bound, margin, sample count, and where the bound comes
    from. Nothing is written without --junit, --markdown or --update-expectations, except that the Markdown is
    appended to $GITHUB_STEP_SUMMARY if that is set. Exits with 0 if all judged claims hold, 1 if one is
    missed, 3 if one, or all, could not be judged.
    """
    from ...expectations.claims.dated import younger_bounds
    from ...expectations.claims.load import expectation_files
    from ...expectations.judging.job import judge_job
    from ...expectations.judging.judged import analyses_of_run, judge_run
    from ...expectations.judging.verdict import exit_code
    from ...report.ci.summaries import summaries
    from ...report.documents.verdicts import document
    from ...report.terminal.verdicts import print_judged
    from ...traces.inputs import inputs_of_job

    ranks = [] if source is None or update else ranks_below(source)
    found = ranks[0] if ranks else run_of(source)
    if update and force:
        raise UsageError(
            "--force has no effect on --update-expectations, which writes nothing but expectations; leave it out"
        )
    if update:
        return _update(found, expectations, yes, allow_loosen, judging=as_json or bool(junit or markdown))
    if yes or allow_loosen:
        raise UsageError("--yes and --allow-loosen belong to --update-expectations; check alone writes no bounds")
    if force and not (junit or markdown):
        raise UsageError("--force is for a file that --junit or --markdown names, and neither was given; leave it out")
    inputs = inputs_of_job(ranks or [found], *expectation_files(expectations))
    files = summaries(junit, markdown, inputs, force=force)
    refuse_mixture(as_json, *files.asked)
    if source is not None and ranks:
        with watched(f"reading and judging {len(ranks)} ranks"):
            judged = judge_job(source, ranks, expectations)
    else:
        with watched(f"reading and judging {found.manifest.run_id}"):
            judged = judge_run(found, analyses_of_run(found), expectations)
    judged = replace(judged, notes=(*judged.notes, *younger_bounds(judged.expectations, found.manifest)))
    files.write(judged)
    if as_json:
        print_json(document(judged))
    else:
        with aside(*files.asked):
            print_judged(judged)
    return exit_code(judged.verdicts)


def _update(found: Run, expectations: Path | None, yes: bool, allow_loosen: bool, *, judging: bool) -> int:
    from ..accepting import accept

    if judging:
        raise UsageError("--update-expectations judges nothing, so it has no --json, --junit or --markdown")
    return accept([found], expectations, yes=yes, allow_loosen=allow_loosen)
