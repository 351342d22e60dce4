"""Which calibration applies to what is being read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ..traces.hardware_key import calibration_name, hardware_key
from ..traces.model import Trace
from ..traces.places import calibration_folders
from .accounts.peaks import Peaks

if TYPE_CHECKING:
    from ..traces.calibration import Calibration
    from ..traces.run import Run


def peaks_for(run: Run | None, trace: Trace, project: Path, only: Sequence[Path] | None = None) -> Peaks | None:
    """The calibration of the hardware that `trace` was recorded on, or null if nobody made one.

    It is looked for in the folders that apply to `project`, or in those of `only`. Raises `InputError` if there is one
    that cannot be read.
    """
    found = calibration_for(keys(run, trace), project, only)
    return None if found is None else Peaks(found)


def calibration_for(keys: Sequence[str], project: Path, only: Sequence[Path] | None = None) -> Calibration | None:
    """The calibration in `calibration_file`; null if there is none, `InputError` for one that cannot be read."""
    from ..traces.calibration import load_calibration

    file = calibration_file(keys, project, only)
    return None if file is None else load_calibration(file)


def calibration_file(keys: Sequence[str], project: Path, only: Sequence[Path] | None = None) -> Path | None:
    """The calibration of the first of the hardware `keys` that has one; the folders are those of `peaks_for`."""
    folders = calibration_folders(project) if only is None else only
    files = (folder / calibration_name(key) for key in keys for folder in folders)
    return next((file for file in files if file.is_file()), None)


def keys(run: Run | None, trace: Trace) -> Sequence[str]:
    """Hardware keys that may name the machine: a run's own; of a bare trace all its GPUs, then those that did anything.

    A trace lists every GPU of its machine, also those that its program was not allowed to see.
    """
    if run is not None:
        return (run.manifest.hardware.key,)
    gpus = trace.devices.filter((pl.col("type") == "gpu") & pl.col("name").is_not_null())
    used = gpus.filter(pl.col("device").is_in(trace.ops["device"].unique().to_list()))
    found = [hardware_key(table["name"].to_list(), "") for table in (gpus, used) if len(table)]
    return tuple(dict.fromkeys(found))
