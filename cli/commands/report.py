"""``aisp-trace report``: one offline HTML page about a run or trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...report.terminal.live import watched
from ...traces.errors import UsageError
from ..app import examples, new_app
from ..options import (
    Attribution,
    Below,
    Depth,
    Domain,
    Expectations,
    Force,
    Iterations,
    NoFold,
    OneSource,
    Scrub,
    ShowPersonal,
    Skip,
    Stages,
    Window,
)
from ..pages import write_page

if TYPE_CHECKING:  # imported when a trace is read
    from ...analyze.result import Analysis
    from ...analyze.sources import Asked

app = new_app()


@app.command(
    epilog=examples(
        "report  # the newest run",
        "report train.sqlite -o train.html --open",
        "report before.sqlite after.sqlite",
        "report train.sqlite --window 'step#3:step#5'  # these iterations",
    )
)
def run(
    source: OneSource = None,
    opt: Annotated[
        Path | None,
        typer.Argument(
            metavar="OPT", help="compare it with this run's variant or trace (RUN:VARIANT)", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="where to write the page; - is standard output")
    ] = Path("report.html"),
    expectations: Expectations = None,
    window: Window = None,
    iterations: Iterations = None,
    skip: Skip = None,
    attribution: Attribution = "process",
    domain: Domain = None,
    stages: Stages = None,
    depth: Depth = None,
    below: Below = None,
    no_fold: NoFold = False,
    force: Force = False,
    scrub: Scrub = False,
    show_personal: ShowPersonal = False,
    open_it: Annotated[bool, typer.Option("--open", help="show it in the browser when it is written")] = False,
) -> None:
    """Write one offline HTML page about a run, or about the comparison of two recordings.

    The verdict and what speaks against it, why, and what is left to gain; the timelines; then where every nanosecond
    went, kernels, copies, gaps, iterations and memory in tables with sorting and search. One file, which opens
    anywhere without a network; add --scrub before it leaves your company. A bare trace gives a page without verdict.
    Two traces, or two variants as RUN:VARIANT, give the page of their comparison: why the second is faster, stage by
    stage.

    What is selected (--window, --iterations, --domain and so on) is named at the top, and its figures are those of
    `analyze` with the same options. Claims are judged by the whole of each variant all the same.

    --scrub makes the page from a copy in which folders, users, hosts, addresses and what looks like a secret are
    replaced, in command lines as in names of ranges and threads; --show-personal lists them.
    """
    if source is not None and opt is not None and show_personal:
        raise UsageError("--show-personal takes one run or trace, and two were given; name one of them")
    from ...analyze.sources import Asked, Quick, find_source
    from ...report.page.page import MOST_GAPS, PAGE, render

    asked = Asked(
        window,
        attribution,
        domain,
        MOST_GAPS,
        stages,
        depth,
        below,
        fold=not no_fold,
        steady=True,
        iterations=iterations,
        skip=skip,
    )
    if source is not None and opt is not None:
        _report_comparison(str(source), str(opt), output, asked, scrub=scrub, force=force, open_it=open_it)
        return
    from ...expectations.claims.load import expectation_files
    from ...expectations.judging.judged import COUNTED_WHOLE, analyses_of_run, analyses_to_judge, judge_run
    from ...report.scrubbed import as_in_copy, scrubbed
    from ...report.terminal.personal import print_personal
    from ...traces.inputs import inputs_of_run, inputs_of_trace
    from ...traces.output import Output
    from ...traces.scrub.personal import Policy
    from ...traces.version import version

    found = find_source(source)
    files = [] if found.run is None else expectation_files(expectations)
    inputs = inputs_of_trace(found.path) if found.run is None else inputs_of_run(found.run, *files)
    target = Output(output, PAGE, inputs, force)
    target.check()
    shown: Callable[[str], str] = str
    with ExitStack() as stack:
        if scrub or show_personal:
            policy = Policy.of_this_machine()
            found = stack.enter_context(scrubbed(found, policy))
            if show_personal:
                print_personal(policy)
                return
            asked, shown = as_in_copy(asked, policy), policy.text
        bare = found.run is None
        asked = replace(asked, both_names=not bare and not asked.options, steady=True, work=not bare)
        with watched(f"reading and analysing {found.path.name}") as tell:
            opened = list(found.open(asked, Quick(cache=not scrub, tell=tell)))
            analyses = {str(o.variant): o.analysis for o in opened}
            by: Mapping[str, Analysis] = analyses
            if found.run is not None:  # claims count whole recordings, whatever the page shows
                by = analyses_of_run(found.run) if asked.options else analyses_to_judge(found.run, analyses)
        judged = None if found.run is None else judge_run(found.run, by, expectations)
        traces = {o.side: o.trace for o in opened}
        verdicts = None if judged is None else judged.verdicts
        notes, predictions = ((), ()) if judged is None else (judged.notes, judged.predictions)
        notes += (COUNTED_WHOLE,) if verdicts and by is not analyses and not asked.options else ()
        told = [o.analysis for o in opened]
        with watched("writing the page"):
            page = render(
                found.run,
                told,
                traces,
                verdicts,
                version=version(),
                notes=notes,
                predictions=predictions,
                scrubbed=scrub,
                asked=asked,
                shown=shown,
            )
    write_page(target, page, open_it=open_it)


def _report_comparison(
    base: str, opt: str, output: Path, asked: Asked, *, scrub: bool, force: bool, open_it: bool
) -> None:
    """Write the page of two recordings."""
    from ...analyze.operands import operand, single
    from ...analyze.sources import Quick
    from ...expectations.comparing.compare import Choices, compare
    from ...report.page.page import PAGE, render_comparison
    from ...report.scrubbed import as_in_copy, scrubbed_pair
    from ...traces.inputs import inputs_of_run, inputs_of_trace
    from ...traces.output import Inputs, Output
    from ...traces.scrub.personal import Policy
    from ...traces.version import version

    sides = [single(operand(word)) for word in (base, opt)]
    read = [
        inputs_of_trace(side.source.path) if side.source.run is None else inputs_of_run(side.source.run)
        for side in sides
    ]
    inputs = Inputs([file for one in read for file in one.files], [run for one in read for run in one.runs])
    target = Output(output, PAGE, inputs, force)
    target.check()
    words: list[str] = [base, opt]
    shown: Callable[[str], str] = str
    with ExitStack() as stack, watched("reading and comparing"):
        if scrub:
            policy = Policy.of_this_machine()
            words = stack.enter_context(scrubbed_pair(sides, policy))
            sides = [single(operand(word)) for word in words]
            asked, shown = as_in_copy(asked, policy), policy.text
        found = compare(words, Choices(asked, exact=not asked.fold, quick=Quick(cache=not scrub)))
        (pair,) = found.comparisons or found.host
        traces = []
        for side in sides:
            source = side.source if side.variant is None else side.source.only(side.variant)
            traces += [trace for _, trace in source.traces()]
        page = render_comparison(pair, traces, version=version(), asked=asked, scrubbed=scrub, shown=shown)
    write_page(target, page, open_it=open_it)
