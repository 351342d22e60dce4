"""``aisp-trace accept``: the only command that writes what runs measured as bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..app import examples, new_app
from ..options import ExpectationsToWrite, run_of

app = new_app()


@app.command(
    epilog=examples(
        "accept aisp-runs/RUN  # show the difference, then ask",
        "accept RUN1 RUN2 RUN3 --yes  # bounds for all three",
        "accept aisp-runs/RUN --claim pipeline_sequential.faster",
    )
)
def run(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="run folders, one for each occasion; default: the newest run",
            show_default=False,
        ),
    ] = None,
    expectations: ExpectationsToWrite = None,
    claim: Annotated[
        list[str] | None, typer.Option("--claim", metavar="ID", help="change or add only this claim; may be repeated")
    ] = None,
    allow_loosen: Annotated[
        bool,
        typer.Option(
            "--allow-loosen", help="accept bounds that ask for less, also from a run that missed the present ones"
        ),
    ] = False,
    allow_wide: Annotated[
        bool, typer.Option("--allow-wide", help="with --yes: accept bounds that a clear regression would meet")
    ] = False,
    only_ratio: Annotated[
        bool,
        typer.Option("--only-ratio", help="of times, bound the speedup alone: no milliseconds, no items per second"),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask for confirmation; for scripts")] = False,
) -> int:
    """Write what runs measured as bounds.

    It shows the difference and asks first; no other command takes bounds from a run. Several runs of one workload,
    made on several occasions, give bounds that cover the spread between them. Refused: bounds that would become
    looser or vanish, runs of a changed or unknown tree, missed or undecided expectations, evidence that carries no
    bound, files of another machine, and files of an installed package; with --yes also wide bounds, which a person
    would have been warned of. --allow-loosen lifts the refusal of looser bounds, and of runs that missed or could not
    decide the bounds that they replace, which are named before anything is written. Bounds that were not measured
    stay as they are.

    Exits with 0 if the bounds were written or need no change. Of several refusals the gravest counts: 2 for the runs,
    their tree, machine or file, and for bounds that would become looser, vanish or be wide, so also for a missed one
    that would become looser; else 1 if an expectation was missed; else 3 if the evidence carries no bound.
    """
    from ..accepting import accept

    runs = [run_of(path) for path in sources] if sources else [run_of(None)]
    return accept(
        runs,
        expectations,
        yes=yes,
        allow_loosen=allow_loosen,
        allow_wide=allow_wide,
        only_ratio=only_ratio,
        only=tuple(claim or ()),
    )
