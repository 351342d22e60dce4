"""``aisp-trace export``: a trace and its analysis for other programs, or a copy that may be given away."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ...report.terminal.console import aside, say
from ...report.terminal.live import meter
from ...traces.errors import UsageError
from ...traces.faults import nearest
from ..app import examples, new_app, one_of
from ..options import (
    Attribution,
    Below,
    Depth,
    Domain,
    Force,
    Iterations,
    NoFold,
    OneSource,
    ShowPersonal,
    Skip,
    Stages,
    Window,
)

if TYPE_CHECKING:
    from ...analyze.sources import Source

ENDINGS: Final = {"perfetto": ".pftrace", "parquet": "-parquet", "csv": "-csv", "json": ".analysis.json"}
"""What is added to the trace's name where no ``-o`` is given."""

SCRUBBED: Final = ".scrubbed"

GAPS: Final = 1000
"""Idle gaps of each device that go along; beyond that they are too short to look for in a viewer."""

app = new_app()


@app.command(
    epilog=examples(
        "export train.sqlite --to perfetto  # for https://ui.perfetto.dev",
        "export aisp-runs/RUN --to parquet -o tables",
        "export train.sqlite --scrub  # a copy to give away",
    )
)
def run(
    source: OneSource = None,
    to: Annotated[str | None, typer.Option("--to", **one_of(*ENDINGS), help="the format")] = None,
    scrub: Annotated[
        bool,
        typer.Option(
            "--scrub", help="without environment, paths, users, hosts, addresses, secrets; alone: a copy of the trace"
        ),
    ] = False,
    show_personal: ShowPersonal = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT", help="file to make, for parquet and csv a folder; - is standard output"
        ),
    ] = None,
    variant: Annotated[
        str | None, typer.Option("--variant", metavar="NAME", help="of a run, only this variant")
    ] = None,
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
) -> None:
    """Write a trace for Perfetto, as tables, as JSON, or scrubbed.

    perfetto: one file for https://ui.perfetto.dev and the trace processor (with .gz at its end, compressed): stages,
    CUDA calls, streams, launches, counters, idle gaps with their cause. parquet, csv: a folder with every table of
    the trace and of the analysis; in csv, text that a spreadsheet would run as a formula gets an apostrophe in front.
    json: what `analyze --json` prints. For a run, each variant is exported; its name becomes part of the file's name,
    or a folder in OUT.

    --scrub alone copies a trace so that it can be given away: numbers, and the names that an analysis shows, in
    which folders, users, hosts, addresses and what looks like a secret are replaced. With --to, the export is made
    from such a copy. --show-personal lists what that replaces. Of a run, it copies the traces alone; `bundle` keeps
    timings and verdict, too.
    """
    from ...analyze.sources import Asked, find_recorded
    from ...analyze.words import size
    from ...report.export.traces import Job, export, scrub_traces
    from ...report.scrubbed import as_in_copy, scrubbed
    from ...traces.scrub.personal import Policy

    form = _format(to, scrub or show_personal)
    asked = Asked(
        window,
        attribution,
        domain,
        GAPS,
        stages,
        depth,
        below,
        fold=not no_fold,
        steady=form == "json",  # as `analyze`; viewers and tables are given all
        iterations=iterations,
        skip=skip,
    )
    if form is None:
        _refuse([*asked.options, *(["--no-fold"] if no_fold else [])])
    found = find_recorded(source)
    chosen = found if variant is None else _only(found, variant)
    stem = _stem(chosen.path) + (f".{variant}" if variant else "")
    if show_personal:
        _show(chosen)
        return
    target = output or Path(stem + (_scrubbed_ending(chosen) if form is None else ENDINGS[form]))
    with meter("events") as tell, ExitStack() as stack:
        if form is None:
            written = scrub_traces(chosen, target, force=force)
        elif scrub:
            policy = Policy.of_this_machine()
            copy = stack.enter_context(scrubbed(chosen, policy))
            written = export(copy, Job(form, target, force, as_in_copy(asked, policy), chosen), tell)
        else:
            written = export(chosen, Job(form, target, force, asked), tell)
        for one in written:
            with aside(one.output):
                say(f"{one.output.path}  ({size(one.nbytes)}{', ' + one.what if one.what else ''})")


def _scrubbed_ending(chosen: Source) -> str:
    """What the copy of the trace, or of a run's, is called: as torch.profiler's where the trace is one by its name."""
    run = chosen.run
    name = (
        chosen.path.name if run is None else next((v.recording.trace for v in run.manifest.variants if v.recording), "")
    )
    return SCRUBBED + (".json" if name.removesuffix(".gz").removesuffix(".xz").endswith(".json") else ".sqlite")


def _show(chosen: Source) -> None:
    from ...report.scrubbed import scrubbed
    from ...report.terminal.personal import print_personal
    from ...traces.scrub.personal import Policy

    policy = Policy.of_this_machine()
    with scrubbed(chosen, policy):
        print_personal(policy)


def _format(to: str | None, scrub: bool) -> str | None:
    """The format asked for, or null for a scrubbed copy."""
    names = ", ".join(ENDINGS)
    if to is None and scrub:
        return None
    if to is None:
        raise UsageError(f"no format was given; give --to with one of {names}, or --scrub")
    if to not in ENDINGS:
        raise UsageError(f"no format is called {to!r}{nearest(to, ENDINGS) or '; formats are ' + names}")
    return to


def _refuse(options: list[str]) -> None:
    """A scrubbed copy is not analyzed, so `options` of the analysis would have no effect."""
    if options:
        raise UsageError(
            f"{shlex.join(options)} has no effect on --scrub, which copies the whole trace; leave it out, or add --to"
        )


def _only(source: Source, variant: str) -> Source:
    """`source` with nothing but `variant`, which was traced."""
    chosen = source.only(variant)
    if chosen.run is not None and chosen.run.manifest.variants[0].recording is None:
        raise UsageError(f"variant {variant!r} of {source.path} was not traced; capture it with --profile minimal")
    return chosen


def _stem(path: Path) -> str:
    """The name of a run or trace without the endings that say its format."""
    name = path.resolve().name
    for ending in (".xz", ".gz", ".sqlite", ".nsys-rep", ".json"):
        name = name.removesuffix(ending)
    return name
