"""``aisp-trace analyze``: every nanosecond of a run or trace, stage by stage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ...analyze.ranks.look import Look
from ...analyze.words import size
from ...report.terminal.console import print_json, remark, say, warn
from ...report.terminal.live import watched
from ...traces.errors import InputError, UsageError
from ..app import examples, new_app
from ..options import Attribution, Below, Cache, Depth, Domain, Iterations, Json, NoFold, Skip, Stages, Window

if TYPE_CHECKING:  # imported when a trace is read
    from ...analyze.result import Analysis
    from ...analyze.sources import Asked

MOST_STAGES: Final = 500
"""Stages that are listed by name unless --all asks for more: beyond that nobody reads them, and each costs time."""

app = new_app()


@app.command(
    epilog=examples(
        "analyze  # the newest run",
        "analyze train.sqlite --window step#3  # one range of a trace",
        "analyze train.sqlite --no-fold --json  # each step by its name",
        "analyze train.sqlite --timeline  # one steady iteration, drawn",
        "analyze aisp-runs/RUN --depth 2 --json",
        "analyze --partial /shared/job rank3.nsys-rep  # for ranks",
    )
)
def run(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN|TRACE", help="run folders or traces; default: the newest run", show_default=False),
    ] = None,
    window: Window = None,
    iterations: Iterations = None,
    skip: Skip = None,
    attribution: Attribution = "process",
    domain: Domain = None,
    stages: Stages = None,
    depth: Depth = None,
    below: Below = None,
    gaps: Annotated[
        int,
        typer.Option("--gaps", metavar="N", min=0, help="how many of the largest idle gaps to keep for each device"),
    ] = 20,
    no_fold: NoFold = False,
    cache: Cache = True,
    every: Annotated[
        bool, typer.Option("--all", help=f"list every stage; by default the {MOST_STAGES} costliest, others folded")
    ] = False,
    partial: Annotated[
        Path | None,
        typer.Option("--partial", metavar="DIR", help="write each rank's partial there, for `ranks`, and nothing else"),
    ] = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="draw one steady iteration (or the --window) in place of the tables")
    ] = False,
    as_json: Json = False,
) -> int:
    """Account for every nanosecond of a run or trace.

    For each trace and each of its stages: where the device's time went (busy by kind, idle by cause), what was launched, which
    copies were hidden under compute, bandwidth per direction, and what the allocator cost. The cells of the ledger add up
    exactly.

    A bare trace, or one of `capture -- CMD`, is accounted for over its steady iterations where they are found: start-up and
    warm-up are set aside, and `--window all` counts them.

    With --partial nothing is shown: of every rank of a job in the traces one small file is written, on the machine where the
    trace lies. `aisp-trace ranks` merges them anywhere.
    """
    if partial is not None:
        return _write_partials(sources or [], partial, Look(domain, iterations, skip, stages, depth))
    from ...analyze.sources import Asked, Quick, find_recorded, traces_beside

    most = None if every else MOST_STAGES
    asked = Asked(window, attribution, domain, gaps, stages, depth, below, most, not no_fold)
    asked = replace(asked, steady=True, iterations=iterations, skip=skip, work=False)
    given: list[Path] | list[None] = sources or [None]
    if sources is not None and len(sources) > 1:  # as a shell expands *
        from ...report.own import without_own

        given, passed = without_own(sources)
        if passed:
            remark(passed)
    if timeline:
        if as_json:
            raise UsageError("--timeline draws characters and --json prints a document; give one of them")
        _draw(given, asked, cache)
        return 0
    found: list[tuple[Path | None, Analysis]] = []
    failed: list[InputError] = []
    with watched("reading and analysing") as tell:
        for source in given:
            try:
                found += [(source, one) for one in find_recorded(source).analyses(asked, Quick(cache, tell))]
            except InputError as error:
                if len(given) == 1 or as_json:
                    raise
                failed.append(error)
    if as_json:
        from ...analyze.document import document

        print_json(document(analysis for _, analysis in found))
        return 0
    from ...report.terminal.analysis import print_analysis
    from ...report.terminal.findings import Beside

    for source, analysis in found:
        others = traces_beside(source)
        print_analysis(analysis, Beside(source.parent, others) if source is not None and others else None)
    for one in failed:
        warn(str(one))
    return failed[0].exit_code if failed else 0


def _write_partials(sources: list[Path], folder: Path, look: Look) -> int:
    """Write the partials of the traces that `sources` name; leaves 2 where one failed."""
    from ...analyze.ranks.engine import in_process
    from ...analyze.ranks.gather import find, make

    if not sources:
        raise UsageError("--partial needs the traces of a job's ranks; name them, or the folder that holds them")
    files, failed = make(find([str(one) for one in sources]).traces, folder, look, in_process)
    for file in files:
        say(f"{file} ({size(file.stat().st_size)})")
    for one in failed:
        warn(one.why)
    return 2 if failed else 0


def _draw(given: Iterable[Path | None], asked: Asked, cache: bool) -> None:
    """The first lines of each analysis, and its timeline."""
    from ...analyze.sources import Quick, find_recorded
    from ...report.terminal.analysis import print_first_lines
    from ...report.terminal.timeline import print_timeline

    for source in given:
        with watched("reading and analysing") as tell:
            opened = list(find_recorded(source).open(asked, Quick(cache, tell)))
        for one in opened:
            print_first_lines(one.analysis)
            print_timeline(one.trace, one.analysis)
            say()
