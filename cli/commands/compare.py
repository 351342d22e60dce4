"""``aisp-trace compare``: where the saved time went, stage by stage."""

from __future__ import annotations

from typing import Annotated

import typer

from ...report.terminal.console import print_json, remark, say
from ...report.terminal.live import watched
from ...traces.errors import AispTraceError
from ..app import examples, new_app
from ..mistakes import traces_of_one_run
from ..options import Attribution, Below, Cache, Depth, Domain, Iterations, Json, Skip, Stages, Window

app = new_app()


@app.command(
    epilog=examples(
        "compare  # the newest run's variants, or a script's last two runs",
        "compare RUN:baseline RUN:optimized --by-stage",
        "compare before.sqlite after.sqlite --window step",
        "compare train.sqlite --window step#3 --against step#4",
    )
)
def run(
    base: Annotated[
        str | None,
        typer.Argument(
            metavar="BASE", help="a run, RUN:VARIANT, or a trace; default: the newest run", show_default=False
        ),
    ] = None,
    opt: Annotated[
        str | None,
        typer.Argument(metavar="OPT", help="the same; a run alone: its own variants as a ladder", show_default=False),
    ] = None,
    window: Window = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="START:END|RANGE", help="the other side's window, also in the same trace"),
    ] = None,
    top: Annotated[
        int, typer.Option("--top", min=1, metavar="N", help="rows of terms and of kernels; others are summed")
    ] = 12,
    by_stage: Annotated[
        bool,
        typer.Option(
            "--by-stage", help="also break the reasons down by stage: a column for each, which sums to the whole"
        ),
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="keep digits in stage names: layer1 and layer2 are two stages")
    ] = False,
    no_fold: Annotated[bool, typer.Option("--no-fold", help="the same as --exact")] = False,
    iterations: Iterations = None,
    skip: Skip = None,
    attribution: Attribution = "process",
    domain: Domain = None,
    stages: Stages = None,
    depth: Depth = None,
    below: Below = None,
    cache: Cache = True,
    as_json: Json = False,
) -> int:
    """Show why the second side is faster, and where the saved time went, stage by stage.

    Reasons and terms each sum exactly to the difference. One run: each variant against the one before it, and the
    last against the first; a program recorded by itself, against the run of the same script before it. Two runs: each
    variant against the one of the same name. Two variants or traces: one against the other. One trace with --window A
    --against B: two of its ranges. Exits with 3 where the two sides did different work, or have no ledger.
    """
    from ...analyze.sources import Asked, Quick
    from ...expectations.comparing.compare import Choices, compare
    from ...report.documents.comparison import document
    from ...report.terminal.comparison import print_compared

    exact = exact or no_fold
    asked = Asked(
        window,
        attribution,
        domain,
        stages=stages,
        depth=depth,
        below=below,
        fold=not exact,
        steady=True,
        iterations=iterations,
        skip=skip,
    )
    with watched("reading and comparing") as tell:
        choices = Choices(asked, against, exact, Quick(cache, tell))
        words = [word for word in (base, opt) if word is not None]
        try:
            found = compare(words, choices)
        except AispTraceError:
            from ..afterwards import unrecorded

            for line in () if as_json else unrecorded(words):
                say(line)
            raise
    if as_json:
        print_json(document(found))
    else:
        print_compared(found, top, by_stage=by_stage)
        if meant := traces_of_one_run(words):
            remark(meant)
    return found.exit_code
