"""The way of `kernels verify`: a verdict, and what is kept of it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from ..kernels import build
from ..kernels.artifacts import store_verification
from ..kernels.untrusted import compiling
from ..kernels.verify.evidence import Asked
from ..kernels.verify.result import Verification
from ..report.terminal.console import progress, warn
from ..traces.errors import InputError
from ..traces.output import check_container


def verify_and_keep(asked: Asked, artifacts: Path) -> tuple[Verification, Path | None]:
    """The verdict, and the folder of its artefacts; null where no GPU gave it, or a warning says why. Raises as `verify`."""
    from ..kernels.verify.parent import verify

    check_container(artifacts, "--artifacts")  # before minutes of work
    with tempfile.TemporaryDirectory(prefix="aisp-trace-") as name:
        trace = Path(name) / "trace.sqlite"
        found = verify(replace(asked, keep=trace), progress)
        kept = trace if trace.is_file() else None
        try:
            return found, store_verification(artifacts, asked.file, found, _log(asked.file, found), kept)
        except (InputError, OSError) as exc:  # the verdict stands all the same
            warn(str(exc))
            return found, None


def _log(source: Path, found: Verification) -> str:
    """What nvcc says of the source; of one that it refused, why."""
    if source.suffix != ".cu" or "arch" not in found.made_with:
        return ""
    try:
        with compiling(source) as (file, compiler):
            return build.log(file, build.capability_of(found.made_with["arch"]), compiler=compiler)
    except build.CompileError as exc:
        return exc.said
    except build.KernelError as exc:
        return str(exc)
