"""``aisp-trace compare``: where the saved time went, stage by stage."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import print_json


def run(
    base: Annotated[
        str | None,
        typer.Argument(
            metavar="[BASE]", help="a run, RUN:VARIANT, or a trace; default: the newest run", show_default=False
        ),
    ] = None,
    opt: Annotated[
        str | None,
        typer.Argument(metavar="[OPT]", help="the same; a run alone: its own variants as a ladder", show_default=False),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option("--window", metavar="START:END|RANGE", help="compare only this time, or this range (path#0)"),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="START:END|RANGE", help="the other side's window, also in the same trace"),
    ] = None,
    top: Annotated[
        int, typer.Option("--top", min=1, metavar="N", help="rows of terms and of kernels; others are summed")
    ] = 12,
    exact: Annotated[
        bool, typer.Option("--exact", help="keep digits in stage names: layer1 and layer2 are two stages")
    ] = False,
    attribution: Annotated[
        str, typer.Option("--attribution", metavar="process|thread", help="as of `aisp-trace analyze`")
    ] = "process",
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="NAME", help="NVTX domain whose ranges are the stages")
    ] = None,
    stages: Annotated[
        str | None, typer.Option("--stages", metavar="REGEX", help="only ranges whose name matches are stages")
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", metavar="N", min=1, help="fold stages deeper than N levels into their ancestor"),
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="keep the tables of a large trace, and use those kept before")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of tables")] = False,
) -> int:
    """Show where the saved time went, stage by stage; the terms sum exactly to the difference.

    One run: each variant against the one before it, and the last against the first. Two runs: each variant against its
    namesake. Two variants or traces: one against the other. One trace with --window A --against B: two of its ranges.
    Leaves 3 where the two sides did different work, or their ledgers cannot be told.
    """
    from ...analyze.attribution.selection import Selection
    from ..compared import Choices, compare
    from ..comparison import print_compared
    from ..comparison_document import document

    choices = Choices(
        windows=(window, against),
        attribution=attribution,
        domain=domain,
        selection=Selection(stages=stages, depth=depth),
        exact=exact,
        cache=cache,
    )
    found = compare([word for word in (base, opt) if word is not None], choices)
    if as_json:
        print_json(document(found))
    else:
        print_compared(found, top)
    return found.exit_code
