"""``aisp-trace export``: a trace and its analysis for other programs, or a copy that may be given away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..outputs import Force

if TYPE_CHECKING:
    from ..sources import Source

ENDINGS: Final = {"perfetto": ".pftrace", "parquet": "-parquet", "csv": "-csv", "json": ".analysis.json"}
"""What is added to the trace's name where no ``-o`` is given."""

SCRUBBED: Final = ".scrubbed.sqlite"

GAPS: Final = 1000
"""Idle gaps of each device that go along; beyond that they are too short to look for in a viewer."""


def run(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN|TRACE]", help="a run folder or a trace; default: the newest run", show_default=False
        ),
    ] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="|".join(ENDINGS), help="the format")] = None,
    scrub: Annotated[
        bool, typer.Option("--scrub", help="copy an nsys .sqlite without environment, paths, users and hosts")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT", help="file, or for parquet and csv folder, to make; - is standard output"
        ),
    ] = None,
    variant: Annotated[
        str | None, typer.Option("--variant", metavar="NAME", help="of a run, only this variant")
    ] = None,
    window: Annotated[
        str | None, typer.Option("--window", metavar="START:END|RANGE", help="analyze only this time, as in `analyze`")
    ] = None,
    attribution: Annotated[
        str, typer.Option("--attribution", metavar="process|thread", help="as in `analyze`")
    ] = "process",
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="NAME", help="NVTX domain whose ranges are the stages")
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option("--stages", metavar="REGEX", help="only ranges whose name matches are stages, as in `analyze`"),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", metavar="N", min=1, help="fold stages deeper than N levels into their ancestor"),
    ] = None,
    below: Annotated[
        str | None, typer.Option("--range", metavar="RANGE", help="only this range and ranges in it are stages")
    ] = None,
    force: Force = False,
) -> None:
    """Write a trace and its analysis in a format that other programs read.

    perfetto: one file for https://ui.perfetto.dev and the trace processor (with .gz at its end, compressed): stages, CUDA
    calls, streams, launches, counters, idle gaps with their cause. parquet, csv: a folder with every table of the trace and
    of the analysis; in csv, text that a spreadsheet would run as a formula gets an apostrophe in front. json: what
    `analyze --json` prints. Of a run each variant is exported; its name goes into the file's name, or is a folder in OUT.

    --scrub copies an nsys export so that it can be given away: numbers, and the names that an analysis shows.
    """
    from ...analyze.attribution.selection import Selection
    from ..exports import Job, export, scrub_traces
    from ..sources import find_recorded

    form = _format(to, scrub)
    if form is None:
        other = {"--stages": stages, "--depth": depth, "--range": below}
        rule = attribution if attribution != "process" else None
        _refuse({"--window": window, "--domain": domain, "--attribution": rule, **other})
    chosen = _only(find_recorded(source), variant)
    stem = _stem(chosen.path) + (f".{variant}" if variant else "")
    target = output or Path(stem + (SCRUBBED if form is None else ENDINGS[form]))
    if form is None:
        scrub_traces(chosen, target, force=force)
        return
    selection = Selection(stages=stages, depth=depth, below=below)
    export(chosen, Job(form, target, force, GAPS, window, attribution, domain, selection))


def _format(to: str | None, scrub: bool) -> str | None:
    """The format asked for, or null for a scrubbed copy."""
    from ...traces.errors import UsageError
    from ...traces.run import nearest

    names = ", ".join(ENDINGS)
    if scrub:
        if to is not None:
            raise UsageError(f"--scrub copies the trace as it is and --to {to} converts it; give one of them")
        return None
    if to is None:
        raise UsageError(f"nothing says what to export to; give --to with one of {names}, or --scrub")
    if to not in ENDINGS:
        raise UsageError(f"no format is called {to!r}{nearest(to, ENDINGS) or '; formats are ' + names}")
    return to


def _refuse(given: dict[str, str | int | None]) -> None:
    """A scrubbed copy is not analyzed, so options of the analysis would have no effect."""
    from ...traces.errors import UsageError

    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option} {value} has no effect on --scrub, which copies the whole trace; leave it out")


def _only(source: Source, variant: str | None) -> Source:
    """`source` with nothing but `variant`, if one is named."""
    from dataclasses import replace

    from ...traces.errors import UsageError
    from ..sources import Source as Found

    if variant is None:
        return source
    if source.run is None:
        raise UsageError(f"{source.path} is a single trace and has no variant {variant!r}; leave --variant out")
    chosen = source.run.variant(variant)
    if chosen.recording is None:
        raise UsageError(f"variant {variant!r} of {source.path} was not traced; capture it with --profile minimal")
    manifest = replace(source.run.manifest, variants=(chosen,))
    return Found(replace(source.run, manifest=manifest), source.path)


def _stem(path: Path) -> str:
    """The name of a run or trace without the endings that say its format."""
    name = path.resolve().name
    for ending in (".xz", ".gz", ".sqlite", ".nsys-rep", ".json"):
        name = name.removesuffix(ending)
    return name
