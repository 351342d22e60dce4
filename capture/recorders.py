"""Choosing a recorder: nsys where it works, else the embedded torch profiler, else a sentence with the remedy."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from ..traces.errors import RecorderError, UsageError
from .host import package_versions
from .nsight import INSTALL, find_nsys
from .nsys import NsysRecorder, Recorded
from .torch_runs import TorchRecorder
from .window import CUDA_PROFILER, Window

RECORDERS: Final = ("auto", "nsys", "torch")


class Recorder(Protocol):
    """Runs a program and leaves a trace in a folder."""

    @property
    def name(self) -> str:
        """``nsys`` or ``torch``."""
        ...

    @property
    def version(self) -> str:
        """Its version, as the recordings will state it."""
        ...

    def environment(self, folder: Path, gated: bool) -> dict[str, str]:
        """Variables the recorded program gets."""
        ...

    def command(self, target: Sequence[str], folder: Path, gated: bool) -> tuple[str, ...]:
        """The exact command line that `record` runs."""
        ...

    def record(
        self, target: Sequence[str], folder: Path, *, gated: bool, timeout_s: float, shown: bool = False
    ) -> Recorded:
        """Run `target` and leave its trace in `folder`; `shown`: its output passes through.

        Raises `RecorderError` if there is no trace.
        """
        ...


def choose_recorder(
    asked: str,
    *,
    profile: str,
    device: str,
    nsys_args: Sequence[str] = (),
    foreign: bool = False,
    window: Window | None = None,
) -> tuple[Recorder | None, tuple[str, ...]]:
    """(the recorder for this profile, notes about the choice); no recorder under the profile ``none``.

    `asked` is one of `RECORDERS`; `foreign` says that the program is not a workload, so that it may have another Python, and
    torch there; `window` is the part of it to record.

    Raises `RecorderError` with the remedy if what was asked for does not work here.
    """
    if asked not in RECORDERS:
        raise UsageError(f"recorder {asked!r} does not exist; recorders are {', '.join(RECORDERS)}")
    if profile == "none":
        return None, ()
    if asked == "torch":
        if nsys_args:
            raise UsageError("--nsys-arg was given with --recorder torch, which takes none")
        if profile == "deep":
            raise UsageError("--profile deep was given with --recorder torch, which has one profile; leave it out")
        if window is not None and window.start_on == CUDA_PROFILER:
            raise UsageError(f"--start-on {CUDA_PROFILER} was given with --recorder torch, which cannot; name a range")
        return _torch(foreign, window), ()
    problem, recorder = _nsys(profile, device, nsys_args, foreign, window)
    if recorder is not None:
        return recorder, ()
    if asked == "nsys" or nsys_args:
        raise RecorderError(problem)
    if not foreign and importlib.util.find_spec("torch") is None:
        raise RecorderError(f"no recorder works here: {problem}; or install torch (aisp-trace[workloads])")
    if profile == "deep":
        raise RecorderError(f"profile deep needs nsys: {problem}; or take --profile minimal")
    return _torch(foreign, window), (f"recorded with torch.profiler, because {problem}",)


def _nsys(
    profile: str, device: str, nsys_args: Sequence[str], foreign: bool, window: Window | None
) -> tuple[str, NsysRecorder | None]:
    """("", the recorder), or (why nsys cannot be used and what to do, null)."""
    nsys = find_nsys()
    if nsys is None:
        return f"nsys was not found; {INSTALL}", None
    if nsys.problem is not None:
        return nsys.problem, None
    if not foreign and importlib.util.find_spec("nvtx") is None:
        return "the package nvtx is not installed, without which nsys sees no stages: pip install nvtx==0.2.11", None
    return "", NsysRecorder(nsys, profile, device, tuple(nsys_args), window=window)


def _torch(foreign: bool, window: Window | None) -> TorchRecorder:
    version = package_versions().get("torch")
    if version is None and not foreign:
        raise RecorderError(
            "the torch recorder was asked for, but torch is not installed; install aisp-trace[workloads]"
        )
    return TorchRecorder(version or "unknown", window)
