"""Choosing a recorder: nsys where it works, else the embedded torch profiler, else a sentence with the remedy."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from ..traces.errors import RecorderError, UsageError
from .environments import NVTX, environment_of
from .host import package_versions
from .nsight import INSTALL, Nsys, find_nsys
from .nsys import NsysRecorder, Recorded
from .torch_runs import TorchRecorder
from .window import CUDA_PROFILER, Window

RECORDERS: Final = ("auto", "nsys", "torch")

FIRST_UNSEEN: Final = (0, 2, 12)
FIRST_SEEING: Final = (2024, 0)
"""nsys 2022.4 and 2023.4 record no range of nvtx 0.2.12 and later; 2025.3 does, and of 2024 nobody knows (docs/recorders.md)."""


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
    programs: Sequence[Sequence[str]] = (),
) -> tuple[Recorder | None, tuple[str, ...]]:
    """(the recorder for this profile, notes about the choice); no recorder under the profile ``none``.

    `asked` is one of `RECORDERS`; `foreign` says that the program is not a workload, so that it may have another Python, and
    torch there; `window` is the part of it to record. `programs` are the command lines of programs of the user's, whose own
    environments ``auto`` then looks at.

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
        plain = asked == "auto" and profile == "minimal" and not nsys_args
        return _suited(recorder, programs) if plain else (recorder, ())
    if asked == "nsys" or nsys_args:
        raise RecorderError(problem)
    if not foreign and importlib.util.find_spec("torch") is None:
        raise RecorderError(f"no recorder works here: {problem}; or install torch (aisp-trace[workloads])")
    if profile == "deep":
        raise RecorderError(f"profile deep needs nsys: {problem}; or take --profile minimal")
    return _torch(foreign, window), (f"torch.profiler records, because {problem}",)


def _suited(recorder: NsysRecorder, programs: Sequence[Sequence[str]]) -> tuple[Recorder, tuple[str, ...]]:
    """(nsys, or torch.profiler where nsys would see neither stages nor torch's calls of one of `programs`; notes).

    Raises `RecorderError` for a single program on a CPU of which neither would see anything: on a GPU, nsys sees what that does.
    """
    environments = [environment_of(program) for program in programs]
    lacking = [(one, why) for one in environments if one is not None and (why := _unseen(one.nvtx, recorder.nsys))]
    if not lacking:
        return recorder, ()
    one, why = lacking[0]
    because = f"the program's Python ({one.python}) {why}"
    remedy = f"`{shlex.quote(one.python)} -m pip install {NVTX}`"
    by_range = recorder.window is None or recorder.window.start_on != CUDA_PROFILER
    if by_range and all(found is not None and found.torch is not None for found in environments):
        said = f"torch.profiler records, because {because}; to have nsys record: {remedy}"
        return TorchRecorder(one.torch or "unknown", recorder.window), (said,)
    if len(programs) == 1 and recorder.device == "cpu" and one.torch is None:
        raise RecorderError(
            f"nothing would be recorded: {because}, and it has no torch, whose profiler could record instead; run {remedy}, or "
            "take --recorder nsys if what is to be recorded are other programs, which this one starts"
        )
    return recorder, ()


def _unseen(nvtx: str | None, nsys: Nsys) -> str:
    """Why `nsys` sees no ranges of a Python with this nvtx (null: none), to be said of it; empty where it sees them."""
    if nvtx is None:
        return "lacks the package nvtx, without which nsys sees neither stages nor torch's calls"
    numbers = tuple(map(int, re.findall(r"\d+", nvtx)[:3]))
    if numbers >= FIRST_UNSEEN and nsys.release < FIRST_SEEING:
        return f"has nvtx {nvtx}, whose ranges nsys {nsys.version} does not record"
    return ""


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
        return f"the package nvtx is not installed, without which nsys sees no stages: pip install {NVTX}", None
    if not foreign and (unseen := _unseen(package_versions().get("nvtx", ""), nsys)):
        return f"this Python {unseen}: pip install {NVTX}", None
    return "", NsysRecorder(nsys, profile, device, tuple(nsys_args), window=window)


def _torch(foreign: bool, window: Window | None) -> TorchRecorder:
    version = package_versions().get("torch")
    if version is None and not foreign:
        raise RecorderError(
            "the torch recorder was asked for, but torch is not installed; install aisp-trace[workloads]"
        )
    return TorchRecorder(version or "unknown", window)
