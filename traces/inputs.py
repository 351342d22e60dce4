"""The files that a command reads, so that it never writes over one of them (`output`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .open import side_file
from .output import Inputs
from .places import calibration_folders
from .run import MANIFEST, Run


def inputs_of_run(run: Run, *others: Path) -> Inputs:
    """The files of `run`, wherever they lie, the machines' calibrations, and `others`."""
    return inputs_of_job([run], *others)


def inputs_of_job(runs: Sequence[Run], *others: Path) -> Inputs:
    """As `inputs_of_run`, for all `runs` of a job's ranks."""
    named = []
    for run in runs:
        recordings = [made for v in run.manifest.variants for made in v.recordings]
        named += [run.path / MANIFEST]
        named += [run.path / name for r in recordings for name in (r.trace, r.kind_file) if name is not None]
    return Inputs((*named, *_calibrations(), *others), tuple(run.path for run in runs))


def inputs_of_trace(trace: Path, *others: Path) -> Inputs:
    """The bare `trace` with the files that are read beside it, the machines' calibrations, and `others`."""
    beside = [trace.with_name(trace.name + ending) for ending in ("-wal", "-journal")]
    side = side_file(trace)
    return Inputs((trace, *beside, *([side] if side else []), *_calibrations(), *others))


def _calibrations() -> list[Path]:
    return [file for folder in calibration_folders(Path.cwd()) for file in sorted(folder.glob("calibration_*.json"))]
