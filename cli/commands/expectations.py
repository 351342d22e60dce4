"""``aisp-trace expectations``: the claims that were written down, read without judging anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import print_json, say, say_lines

_FOLDER = typer.Option(
    "--expectations", metavar="DIR", help="folder of expectations_*.json; default: ./expectations, else the package's"
)
_JSON = typer.Option("--json", help="print one JSON document instead of the table")


def show(
    workload: Annotated[
        str | None, typer.Argument(metavar="[WORKLOAD]", help="only claims on this workload", show_default=False)
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(
            "--hardware", metavar="KEY", help="only what is judged on this machine: its file, and that for any"
        ),
    ] = None,
    expectations: Annotated[Path | None, _FOLDER] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> int:
    """Show the claims that apply here, with bounds, sources and reasons."""
    from ..expectations import chosen_claims, claims_document, claims_text

    found = chosen_claims(expectations, workload, hardware)
    if as_json:
        print_json(claims_document(found))
    else:
        say_lines(claims_text(found))
    return 0


def validate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE|DIR ...]", help="default: what applies here", show_default=False),
    ] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> int:
    """Read expectation files as strictly as `check` does; say what is wrong."""
    from ..expectations import validations

    found = validations(paths)
    if as_json:
        files = [{"path": str(v.path), "claims": v.claims, "error": v.error} for v in found]
        print_json({"schema": "aisp-trace/expectations-validation/1", "files": files})
    else:
        for v in found:
            say(f"{v.path}: {v.claims} claims" if v.error is None else f"wrong: {v.error}")
    return 2 if any(v.error is not None for v in found) else 0


def diff(
    old: Annotated[Path, typer.Argument(metavar="A", help="a file or folder of expectations", show_default=False)],
    new: Annotated[
        Path | None,
        typer.Argument(metavar="[B]", help="another; default: A is compared with what git has", show_default=False),
    ] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> int:
    """Show what becomes tighter or looser from A (or its commit) to B."""
    from ..expectations import difference_document, difference_text, differing

    found = differing(old, new)
    if as_json:
        print_json(difference_document(found))
    else:
        say_lines(difference_text(found))
    return 0


def schema() -> int:
    """Print the JSON Schema of an expectation file."""
    from ...expectations.claims.schema import schema as made

    print_json(made())
    return 0


SUBCOMMANDS = {"show": show, "validate": validate, "diff": diff, "schema": schema}
