"""What the commands that write have in common: what they read, their ``--force``, and where they then say so.

The rule itself is `traces.output`; docs/outputs.md tells it to people.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Final

import typer

from ..traces.errors import UsageError
from ..traces.output import Inputs, Output
from ..traces.run import MANIFEST, Run
from . import calibration

FORCE: Final = "replace a file of another kind too; never an input, never a folder"

Force = Annotated[bool, typer.Option("--force", help=FORCE)]


def inputs_of_run(run: Run, *others: Path) -> Inputs:
    """The files of `run`, wherever they lie, the machines' calibrations, and `others`."""
    recordings = [v.recording for v in run.manifest.variants if v.recording is not None]
    named = [run.path / name for r in recordings for name in (r.trace, r.kind_file) if name is not None]
    return Inputs((run.path / MANIFEST, *named, *_calibrations(), *others), (run.path,))


def inputs_of_trace(trace: Path, *others: Path) -> Inputs:
    """The bare `trace` with the files that are read beside it, the machines' calibrations, and `others`."""
    from ..traces.open import side_file  # lazily, here and below: `--help` needs no table

    beside = [trace.with_name(trace.name + ending) for ending in ("-wal", "-journal")]
    side = side_file(trace)
    return Inputs((trace, *beside, *([side] if side else []), *_calibrations(), *others))


def expectation_files(asked: Path | None) -> list[Path]:
    """The files by which a run is judged (`choose_folder`); raises `InputError` if `asked` holds none."""
    from ..expectations.claims.load import PATTERN, choose_folder

    return sorted(choose_folder(asked, Path.cwd())[0].glob(PATTERN))


@contextmanager
def aside(*outputs: Output) -> Iterator[None]:
    """Inside, what is printed goes to stderr where an output goes to standard output: the two must not mix."""
    if any(output.to_stdout for output in outputs):
        with redirect_stdout(sys.stderr):
            yield
    else:
        yield


def refuse_mixture(as_json: bool, *outputs: Output) -> None:
    """Raise `UsageError` where --json and an output would both go to standard output."""
    for output in outputs:
        if as_json and output.to_stdout:
            raise UsageError(f"--json and {output.option} both go to standard output; name a file with {output.option}")


def _calibrations() -> list[Path]:
    return [file for folder in calibration.folders(Path.cwd()) for file in sorted(folder.glob("calibration_*.json"))]
