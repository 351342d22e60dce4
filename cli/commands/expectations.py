"""``aisp-trace expectations``: the claims that were written down, read without judging anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...report.terminal.console import print_json, say, say_lines
from ..app import examples, new_app
from ..options import Expectations, ExpectationsToWrite, Json, workload_names

app = new_app("Begin, show, validate and compare expectation files.")


@app.command(epilog=examples("expectations show pipeline_sequential", "expectations show --hardware h200 --json"))
def show(
    workload: Annotated[
        str | None,
        typer.Argument(
            metavar="WORKLOAD",
            help="only claims on this workload",
            show_default=False,
            autocompletion=workload_names,
        ),
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(
            "--hardware", metavar="KEY", help="only what is judged on this machine: its file, and that for any"
        ),
    ] = None,
    expectations: Expectations = None,
    as_json: Json = False,
) -> None:
    """Show the claims that apply here, with bounds, sources and reasons."""
    from ...expectations.claims.asked import chosen_claims
    from ...report.documents.expectations import claims_document
    from ...report.terminal.expectations import claims_text

    found = chosen_claims(expectations, workload, hardware)
    if as_json:
        print_json(claims_document(found))
    else:
        say_lines(claims_text(found))


@app.command(epilog=examples("expectations validate", "expectations validate expectations/expectations_h200.json"))
def validate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE|DIR", help="default: what applies here", show_default=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Read expectation files as strictly as `check` does; say what is wrong.

    Claims that `expectations new` wrote and nobody filled in are wrong here too. Exits with 2 if anything is.
    """
    from ...expectations.claims.asked import validations
    from ...report.documents.expectations import validation_document

    found = validations(paths)
    if as_json:
        print_json(validation_document(found))
    else:
        for v in found:
            for line in [f"wrong: {fault}" for fault in v.faults] or [f"{v.path}: {_claims(v.claims)}"]:
                say(line)
    return 2 if any(v.faults for v in found) else 0


def _claims(many: int) -> str:
    return "1 claim" if many == 1 else f"{many} claims"


@app.command(epilog=examples("expectations new pipeline_sequential", "expectations new my_workload.py"))
def new(
    workload: Annotated[
        str,
        typer.Argument(
            metavar="WORKLOAD",
            help="a name from `aisp-trace list`, a .py file, or the name of a pair you captured",
            show_default=False,
            autocompletion=workload_names,
        ),
    ],
    expectations: ExpectationsToWrite = None,
) -> None:
    """Write a claim to fill in for each variant of a workload.

    Variants, size and machine are those of its newest run in ./aisp-runs; without one, those that the workload has,
    and this machine. The claims say in words what to fill in. An existing claim is never overwritten.
    """
    from ..starting import start

    start(workload, expectations)


@app.command(
    epilog=examples(
        "expectations diff  # ./expectations against git's last commit",
        "expectations diff HEAD~1",
        "expectations diff old.json new.json",
    )
)
def diff(
    old: Annotated[
        Path | None,
        typer.Argument(metavar="A", help="a file, folder or commit; default: ./expectations", show_default=False),
    ] = None,
    new: Annotated[
        Path | None,
        typer.Argument(metavar="B", help="another; default: A is compared with what git has", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what becomes tighter or looser from A (or its commit) to B."""
    from ...expectations.claims.asked import differing
    from ...report.documents.expectations import difference_document
    from ...report.terminal.expectations import difference_text

    found = differing(old, new)
    if as_json:
        print_json(difference_document(found))
    else:
        say_lines(difference_text(found))


@app.command(epilog=examples("expectations migrate", "expectations migrate expectations/expectations_h200.json --yes"))
def migrate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE|DIR", help="default: what applies here", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="write; without it, only say what would be written")] = False,
) -> None:
    """Rewrite files of schema 1 as schema 2, with the same meaning.

    Their times keep the median of harness 1. Runs of harness 2 leave them `unrecorded` until `accept` has measured
    again.
    """
    from ...expectations.claims.migrate import migrated
    from ...report.terminal.expectations import migration_text

    found = migrated(paths)
    for one in found if yes else ():
        one.write()
    say_lines(migration_text(found, written=yes))


@app.command(epilog=examples("expectations metrics", "expectations metrics stage.share"))
def metrics(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="METRIC", help="only these", show_default=False),
    ] = None,
) -> None:
    """Show what a claim can bound beside times: metrics of a recording.

    With each: its unit, what `of` may be, whether it takes a stage, and whether it means the same on every machine.
    """
    from ...expectations.metrics.registry import chosen
    from ...report.terminal.expectations import print_metrics

    print_metrics(chosen(names or ()))


@app.command(epilog=examples("expectations schema > expectations.schema.json"))
def schema() -> None:
    """Print the JSON Schema of an expectation file."""
    from ...expectations.claims.parse import schema as made

    print_json(made())
