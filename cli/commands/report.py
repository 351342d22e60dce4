"""``aisp-trace report``: one offline HTML page about a run or trace."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Final

import typer

from ..console import say

MOST_GAPS: Final = 500
"""Idle gaps of one device that a timeline draws, the longest of the window."""


def run(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN|TRACE]", help="a run folder or a trace; default: the newest run", show_default=False
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="where to write the page")] = Path(
        "report.html"
    ),
    expectations: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="folder of expectations_*.json; default: ./expectations, else the package's"),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="show it in the browser when it is written")] = False,
) -> None:
    """Write one offline HTML page about a run.

    The verdicts, both timelines, where every nanosecond went, which copies were hidden, bandwidth, allocator and provenance, in
    one file that needs no network and can be sent to anyone. A bare trace gives a page without verdict.
    """
    from ...report.page import render, write
    from ..evidence import judge_run
    from ..main import version
    from ..sources import find_source

    found = find_source(source)
    opened = list(found.open(gaps=MOST_GAPS))
    analyses = {str(o.variant): o.analysis for o in opened}
    traces = {o.side: o.trace for o in opened}
    verdicts = None if found.run is None else judge_run(found.run, analyses, expectations).verdicts
    page = render(found.run, [o.analysis for o in opened], traces, verdicts, version=version())
    write(output, page)
    say(f"report: {output} ({len(page.encode()) / 1e6:.1f} MB)")
    if open_it:
        webbrowser.open(output.absolute().as_uri())
