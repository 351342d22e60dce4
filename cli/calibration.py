"""What ``aisp-trace capture --calibrate`` does: measure, show, keep. Needs no analysis libraries, as all of `capture`.

Calibrations lie beside expectations: in ``./expectations`` of the current project, else in the user's data folder, else in
the package. The first folder that has one for the hardware key gives it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .. import expectations
from ..traces.errors import InputError
from ..traces.output import check_container, reason
from . import console

if TYPE_CHECKING:
    from ..traces.calibration import Calibration, Link

PROJECT_DIR: Final = "expectations"
PACKAGE_DIR: Final = Path(expectations.__path__[0]).resolve()
DATA: Final = "aisp-trace"

SMALL: Final = 64 << 10
"""Of this size, or the nearest one measured, a table shows the rate beside the largest."""


def run(output: Path | None, *, force: bool, timeout_s: float) -> int:
    """Calibrate this machine into folder `output`, by default where `analyze` looks first; returns the exit code."""
    from ..capture import calibrate  # lazily: reading commands only ask where a calibration lies

    folder = _home() if output is None else output
    check_container(folder, "--output")
    calibration = calibrate.measure(timeout_s, console.say)
    show(calibration)
    file = calibrate.store(calibration, folder, force=force, say=console.say)
    console.say(f"calibration: {file}")
    return 0


def folders(project: Path, environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where a calibration is looked for, in this order."""
    return project / PROJECT_DIR, data_folder(environ), PACKAGE_DIR


def folder_for_new(project: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Where a new calibration goes unless told otherwise: the project's folder if there is one, else the user's."""
    return project / PROJECT_DIR if (project / PROJECT_DIR).is_dir() else data_folder(environ)


def _home() -> Path:
    """`folder_for_new`; the folders above the user's own are made, since no option names them."""
    folder = folder_for_new(Path.cwd())
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"{folder.parent} cannot be made: {reason(exc)}; name another place with --output") from exc
    return folder


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """``$XDG_DATA_HOME/aisp-trace``, by default ``~/.local/share/aisp-trace``; a relative XDG_DATA_HOME is ignored."""
    base = Path(environ.get("XDG_DATA_HOME") or "")
    return (base if base.is_absolute() else Path.home() / ".local" / "share") / DATA


def show(calibration: Calibration) -> None:
    """One row a link: its largest rate and at which size, how far repetitions spread there, and the rate of small copies."""
    columns = [console.Column("link", "left", shrink=True)]
    columns += [console.Column(title) for title in ("GB/s", "copies of", "spread", "64 KiB GB/s")]
    console.say(f"hardware key {calibration.hardware_key}, driver {calibration.hardware.driver}")
    console.say_lines(console.table(columns, [_row(link) for link in calibration.links]))


def _row(link: Link) -> tuple[str, ...]:
    best = link.best
    small = min(link.rates, key=lambda rate: abs(rate.nbytes - SMALL))
    name = f"{link.name} (through the host)" if link.direct is False else link.name
    rates = (console.rate(best.median_bytes_per_s), console.size(best.nbytes), console.percent(best.spread))
    return (name, *rates, console.rate(small.median_bytes_per_s))
