"""A job of ranks, each recorded by a recorder of its own: one run folder a rank, which ``aisp-trace ranks`` merges.

torchrun (and what is built on it) starts its workers with the Python that ``PYTHON_EXEC`` names. A job sets it to a script that
starts ``aisp-trace capture -- python ...`` in each worker, which knows its rank and names its run after it.

    capture --ranks 2 -- torchrun ...
        `- torchrun                PYTHON_EXEC=DIR/python
             |- capture -- python train.py      RANK=0  ->  DIR/...-rank0
             `- capture -- python train.py      RANK=1  ->  DIR/...-rank1
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..traces.errors import RecorderError, UsageError
from .leftovers import MARKER, new_marker
from .processes import GRACE_S, ended, how_ended, interruptible
from .supervised import Supervised

LAUNCHED_BY: Final = "PYTHON_EXEC"
"""The variable by which torchrun finds the Python of its workers (``torch.distributed.run``)."""

WRAPPER: Final = "python-of-ranks"

_RANK: Final = re.compile(r"-rank(\d+)$")


@dataclass(frozen=True, slots=True)
class Job:
    """A job that ran: the launcher's exit code, and the run folder of each rank that was recorded."""

    exit_code: int
    runs: dict[int, Path]


def capture_job(ranks: int, command: Sequence[str], folder: Path, options: Sequence[str], timeout_s: float) -> Job:
    """Start `command`, a launcher of `ranks` processes on this host, and record each into `folder`; `options` are those of
    ``capture`` for every rank.

    Raises `UsageError` for a folder that holds something, and `RecorderError` if no rank was recorded, or in time.
    """
    if ranks < 1:
        raise UsageError(f"--ranks is {ranks}; give how many processes the launcher starts on this host")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; name a new folder with --output, a job has one of its own")
    folder.mkdir(parents=True, exist_ok=True)
    wrapper = folder / WRAPPER
    line = python_of_ranks(command, folder, options)
    wrapper.write_text(f'#!/bin/sh\nunset {LAUNCHED_BY}\nexec {line} "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    launcher = Supervised((MARKER, new_marker()), 2 * GRACE_S)  # the captures of the ranks end their own programs first
    try:
        with interruptible(), ended(launcher):
            launcher.start(
                command,
                stdin=None,
                stdout=None,
                stderr=None,
                environment={**os.environ, LAUNCHED_BY: str(wrapper.absolute())},
            )
            exit_code = launcher.wait(timeout_s)
    except OSError as exc:
        raise UsageError(f"{command[0]} cannot be started: {exc.strerror}; check its spelling") from exc
    except subprocess.TimeoutExpired as exc:
        raise RecorderError(f"the job did not end within {timeout_s:g} s; give it longer with --timeout") from exc
    finally:
        wrapper.unlink()
    runs = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    found = {int(m[1]): path for path in runs if (m := _RANK.search(path.name))}
    if not found:
        raise RecorderError(
            f"{shlex.join(command)[:80]} {how_ended(exit_code)} and no rank was recorded; it may not be torchrun, "
            "or failed early. Other launchers: put `aisp-trace capture --output DIR --` before the python of each rank"
        )
    return Job(exit_code, found)


def python_of_ranks(command: Sequence[str], folder: Path, options: Sequence[str]) -> str:
    """What each rank is started with in place of the Python that the launcher `command` gives it, as a line of a shell."""
    python = os.environ.get(LAUNCHED_BY) or _python_of(command[0])
    ours = f"{(__package__ or '').partition('.')[0]}.cli"
    own = [sys.executable, "-P", "-m", ours, "capture", "--output", str(folder.absolute())]
    return shlex.join([*own, *options, "--", python])


def _python_of(program: str) -> str:
    """The Python that a launcher runs under: itself, or the one that its script names; else this one."""
    found = shutil.which(program) or program
    if re.fullmatch(r"python[\d.]*", Path(found).name):
        return found
    try:
        with Path(found).open("rb") as script:
            first = script.readline(4096).decode(errors="replace").strip()
    except OSError:
        return sys.executable
    named = first.removeprefix("#!").split()
    return named[0] if first.startswith("#!") and named and "python" in Path(named[0]).name else sys.executable
