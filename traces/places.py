"""Where calibrations are kept: they lie beside expectations, in ``./expectations`` of the current project, else in the user's
data folder, else in the package. The first folder that has one for the hardware key gives it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .errors import InputError
from .output import reason

PROJECT_DIR: Final = "expectations"
PACKAGE_DIR: Final = Path(__file__).resolve().parents[1] / PROJECT_DIR
DATA: Final = "aisp-trace"


def calibration_folders(project: Path, environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where a calibration is looked for, in this order."""
    return project / PROJECT_DIR, data_folder(environ), PACKAGE_DIR


def folder_for_new(project: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Where a new calibration goes unless told otherwise: the project's folder if there is one, else the user's.

    The folders above the user's own are made, since no option names them; raises `InputError` if they cannot be.
    """
    if (project / PROJECT_DIR).is_dir():
        return project / PROJECT_DIR
    folder = data_folder(environ)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"{folder.parent} cannot be made: {reason(exc)}; name another place with --output") from exc
    return folder


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """``$XDG_DATA_HOME/aisp-trace``, by default ``~/.local/share/aisp-trace``; a relative XDG_DATA_HOME is ignored."""
    base = Path(environ.get("XDG_DATA_HOME") or "")
    return (base if base.is_absolute() else Path.home() / ".local" / "share") / DATA
