"""``aisp-trace analyze``: every nanosecond of a run or trace, stage by stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..analysis import show


def run(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN|TRACE]...", help="run folders or traces; default: the newest run", show_default=False
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            "--window",
            metavar="START:END|RANGE",
            help="account only for this time (1.5ms:20ms), or this range (path#0)",
        ),
    ] = None,
    attribution: Annotated[
        str,
        typer.Option(
            "--attribution",
            metavar="process|thread",
            help="thread: a range sees only launches of its own thread, as nsys does",
        ),
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
    below: Annotated[
        str | None,
        typer.Option(
            "--range", metavar="RANGE", help="only this range and ranges in it are stages (--window limits the time)"
        ),
    ] = None,
    gaps: Annotated[
        int,
        typer.Option("--gaps", metavar="N", min=0, help="how many of the largest idle gaps to keep for each device"),
    ] = 20,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="keep the tables of a large trace, and use those kept before")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of tables")] = False,
) -> None:
    """Account for every nanosecond of a run or trace, stage by stage.

    For each trace: where the device's time went (busy by kind, idle by cause), what each stage launched, which copies were
    hidden under compute, bandwidth per direction, and what the allocator cost. The cells of the ledger add up exactly.
    """
    show(
        sources,
        window=window,
        attribution=attribution,
        domain=domain,
        stages=stages,
        depth=depth,
        below=below,
        gaps=gaps,
        cache=cache,
        as_json=as_json,
    )
