"""``aisp-trace report``: one offline HTML page about a run or trace."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ...report.terminal.console import aside, say
from ..app import examples, new_app
from ..options import Expectations, Force, NoFold, OneSource

app = new_app()


@app.command(epilog=examples("report  # the newest run", "report train.sqlite -o train.html --open"))
def run(
    source: OneSource = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="where to write the page; - is standard output")
    ] = Path("report.html"),
    expectations: Expectations = None,
    no_fold: NoFold = False,
    force: Force = False,
    open_it: Annotated[bool, typer.Option("--open", help="show it in the browser when it is written")] = False,
) -> None:
    """Write one offline HTML page about a run.

    The verdicts, both timelines, where every nanosecond went, which copies were hidden, bandwidth, allocator and provenance, in
    one file that needs no network and can be sent to anyone. A bare trace gives a page without verdict.
    """
    from ...analyze.sources import Asked, find_source
    from ...expectations.claims.load import expectation_files
    from ...expectations.judging.judged import judge_run
    from ...report.page.page import MOST_GAPS, PAGE, render
    from ...traces.inputs import inputs_of_run, inputs_of_trace
    from ...traces.output import Output
    from ...traces.version import version

    found = find_source(source)
    files = [] if found.run is None else expectation_files(expectations)
    inputs = inputs_of_trace(found.path) if found.run is None else inputs_of_run(found.run, *files)
    target = Output(output, PAGE, inputs, force)
    target.check()
    bare = found.run is None
    opened = list(found.open(Asked(gaps=MOST_GAPS, fold=not no_fold, both_names=True, steady=bare)))
    analyses = {str(o.variant): o.analysis for o in opened}
    traces = {o.side: o.trace for o in opened}
    verdicts = None if found.run is None else judge_run(found.run, analyses, expectations).verdicts
    page = render(found.run, [o.analysis for o in opened], traces, verdicts, version=version())
    target.write_text(page)
    with aside(target):
        say(f"report: {output} ({len(page.encode()) / 1e6:.1f} MB)")
    if open_it and not target.is_stream:
        webbrowser.open(output.absolute().as_uri())
