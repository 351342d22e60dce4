"""``aisp-trace predict``: what a change would gain, from one recording."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from ...report.terminal.console import print_json
from ...report.terminal.live import watched
from ...traces.errors import UsageError
from ..app import examples, new_app
from ..options import Domain, ExpectationsToWrite, Iterations, Json, Skip

app = new_app()


@app.command(
    epilog=examples(
        "predict RUN:baseline  # all known changes, the largest gain first",
        "predict train.sqlite --change graph:decode  # a stage as a graph",
        "predict RUN:baseline --change copies:overlap --change syncs",
        "predict RUN:baseline --change copies:overlap --write  # a claim",
    )
)
def run(
    recording: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|TRACE",
            help="a run (its first variant), RUN:VARIANT, or a trace; default: the newest run",
            show_default=False,
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--change",
            metavar="CHANGE",
            help="a change to replay: graph:STAGE, copies:overlap, copies:pinned, syncs, allocator, comm, host:STAGE, "
            "kernels:STAGE:K or fuse:STAGE:BYTES; repeats",
        ),
    ] = None,
    iterations: Iterations = None,
    skip: Skip = None,
    domain: Domain = None,
    write: Annotated[
        bool, typer.Option("--write", help="write the prediction down as a claim, before the change is measured")
    ] = False,
    variant: Annotated[
        str, typer.Option("--variant", metavar="NAME", help="with --write: the variant that will have the changes")
    ] = "optimized",
    expectations: ExpectationsToWrite = None,
    as_json: Json = False,
) -> int:
    """Predict how long an iteration would take after a change, from one recording.

    The recorded calls and operations are replayed with the change: what waited for what stays as it was. Untraced rounds of
    a run tell how much recording slowed the host down. Exits with 3 where no prediction is to be trusted.

    With --write the prediction becomes a claim with the source "model", which `check` holds against the run that makes the
    change, and `compare` explains. It replaces an earlier prediction of the same variant, and nothing else; it is refused where
    that variant was measured already.
    """
    from ...analyze.attribution.steady import Seeking
    from ...analyze.headroom.estimate import REFUSED
    from ...analyze.headroom.predicted import predicted
    from ...analyze.operands import newest, operand
    from ...report.documents.headroom import document
    from ...report.terminal.headroom import print_predicted

    given = newest() if recording is None else operand(recording)
    if not write and expectations is not None:
        raise UsageError("--expectations is where --write writes; give both")
    with watched("reading and replaying"):
        found = predicted(given, change or [], domain, Seeking(iterations, skip))
    if as_json:
        print_json(document(found))
    else:
        print_predicted(found)
    if write:
        from ..predicting import write as write_down

        with redirect_stdout(sys.stderr if as_json else sys.stdout):
            write_down(found, variant, expectations)
    return 3 if found.each and all(one.grade == REFUSED for one in found.each) else 0
