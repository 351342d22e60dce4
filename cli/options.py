"""Options that several commands have, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from ..traces.errors import UsageError
from ..traces.output import Output
from ..traces.run import MANIFEST, RUNS_DIR, Run, load_run, newest_run
from ..workloads.catalog import CATALOG
from .app import one_of

Artifacts = Annotated[
    Path,
    typer.Option("--artifacts", metavar="DIR", help="folder that keeps what was made, in DIR/kernels/TASK/DIGEST"),
]
FORCE: Final = "replace a file of another kind too; never an input, never a folder"

Force = Annotated[bool, typer.Option("--force", help=FORCE)]
Scrub = Annotated[bool, typer.Option("--scrub", help="for others: without paths, users, hosts, addresses and secrets")]
ShowPersonal = Annotated[
    bool, typer.Option("--show-personal", help="only show what would be replaced as personal; write nothing")
]
RunUntrusted = Annotated[
    bool,
    typer.Option("--run-untrusted", help="run what a model wrote, with your rights on this machine; no sandbox"),
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document instead of text")]
Expectations = Annotated[
    Path | None,
    typer.Option(
        "--expectations",
        metavar="DIR",
        help="folder of expectations_*.json; default: ./expectations, else the package's",
    ),
]
OneSource = Annotated[
    Path | None,
    typer.Argument(metavar="RUN|TRACE", help="a run folder or a trace; default: the newest run", show_default=False),
]
OneRun = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="a run folder; default: the newest run", show_default=False)
]
Window = Annotated[
    str | None,
    typer.Option(
        "--window",
        metavar="START:END|RANGE",
        help="this time (1.5ms:20ms; +a:+b after the first op), range (path#0), slice (a#1:a#9), all, or steady",
    ),
]
Iterations = Annotated[
    str | None,
    typer.Option("--iterations", metavar="REGEX", help="iterations: ranges it matches, or kernels they begin with"),
]
Skip = Annotated[
    int | None,
    typer.Option("--skip", metavar="N", min=0, help="the first N iterations are warm-up; default: those that are slow"),
]
Attribution = Annotated[
    str,
    typer.Option(
        "--attribution",
        **one_of("process", "thread"),
        help="with thread, a range sees only launches of its own thread, as in nsys",
    ),
]
ExpectationsToWrite = Annotated[
    Path | None,
    typer.Option(
        "--expectations",
        metavar="DIR",
        help="folder (or file) to write; default: ./expectations, made if it does not exist",
    ),
]
Domain = Annotated[str | None, typer.Option("--domain", metavar="NAME", help="NVTX domain whose ranges are the stages")]
Stages = Annotated[
    str | None, typer.Option("--stages", metavar="REGEX", help="only ranges whose name matches are stages")
]
Depth = Annotated[
    int | None,
    typer.Option("--depth", metavar="N", min=1, help="fold stages deeper than N levels into their ancestor"),
]
Below = Annotated[
    str | None,
    typer.Option(
        "--range", metavar="RANGE", help="only this range and ranges in it are stages (--window limits the time)"
    ),
]
NoFold = Annotated[
    bool,
    typer.Option("--no-fold", help="keep stages apart whose names differ in numbers alone, such as step 1 and step 2"),
]
Cache = Annotated[
    bool, typer.Option("--cache/--no-cache", help="keep what was read and computed, and use what was kept before")
]


def workload_names(incomplete: str) -> list[str]:
    """The workloads of ours whose names begin so, for the shell's completion."""
    return [entry.name for entry in CATALOG if entry.name.startswith(incomplete)]


def run_of(path: Path | None) -> Run:
    """The run that a command on runs alone was given, by default the newest; raises `UsageError` for a trace, `InputError` for
    what is no run."""
    if path is not None and path.is_file() and path.name != MANIFEST:
        from ..traces.bundle import holds_bundle

        if holds_bundle(path):
            raise UsageError(
                f"{path} is a bundle; `aisp-trace bundle verify {path}` checks it and judges its run again, `tar -xzf {path}` "
                "unpacks its traces"
            )
        raise UsageError(
            f"{path} is a file, and verdicts are about runs, which hold timings too; `aisp-trace analyze {path}` accounts for a "
            "trace, `aisp-trace capture` makes a run"
        )
    return newest_run(Path(RUNS_DIR)) if path is None else load_run(path)


def refuse_mixture(as_json: bool, *outputs: Output) -> None:
    """Raise `UsageError` where --json and an output would both go to standard output."""
    for output in outputs:
        if as_json and output.to_stdout:
            raise UsageError(f"--json and {output.option} both go to standard output; name a file with {output.option}")
