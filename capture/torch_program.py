"""The torch recorder inside a program of the user's: torch.profiler over every thread of each process that imports torch.

`capture` says by files in the output folder when to record, since a program may be any number of processes:

    <folder>/begin        made before the program is started, or when the recording is to begin
    <folder>/end          made when it is to end before the program does

Each process leaves there, the last only when the trace is whole:

    process-<pid>.begun           it records
    process-<pid>.json.gz         the trace
    process-<pid>.stages.json     the kinds and bytes of its own `stage()` ranges; rank, if it has one

Workers that are forked do not record: torch.profiler does not survive a fork.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from ..traces.errors import RecorderError
from . import stages
from .stages import OUTPUT_VARIABLE
from .torch_recorder import PHASE_PREFIX, TorchRecording

BEGIN: Final = "begin"
END: Final = "end"
START_ON_VARIABLE: Final = "AISP_TRACE_START_ON"
"""The range that begins and ends the recording, if one does."""

INTERVAL_S: Final = 0.02
"""Between looks for the files: what a recording may begin or end late by."""


def record(phases: ModuleType) -> None:
    """Record this process as the folder's files, or a range, say; the trace is written at the end of either."""
    process = _Process(Path(os.environ[OUTPUT_VARIABLE]), os.environ.get(START_ON_VARIABLE))
    stages.record_program(process.stage)
    phases.put_around_torch(process.phase)
    process.watch()


class _Process:
    """The recording of one process; at most one, and none in what it forks."""

    def __init__(self, folder: Path, start_on: str | None) -> None:
        self._folder = folder
        self._start_on = start_on
        self._pid = os.getpid()
        self._recording: TorchRecording | None = None
        self._lock = threading.RLock()
        self._over = False

    def watch(self) -> None:
        """Begin now if that is asked for, else when it is; see to the end."""
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.end)
        self._yield_to_others()
        if (self._folder / BEGIN).exists():
            self.begin()
        threading.Thread(target=self._look, name="aisp-trace", daemon=True).start()

    def stage(self, name: str, kind: str | None, nbytes: int | None) -> Any:
        """The range of a `stage()` of the program's own."""
        if self._start_on == name and not self._over and os.getpid() == self._pid:
            return _Opening(self, name, kind, nbytes)
        return contextlib.nullcontext() if self._recording is None else self._recording.range(name, kind, nbytes)

    def phase(self, name: str) -> Any:
        """The range of a phase."""
        return (
            contextlib.nullcontext() if self._recording is None else self._recording.record_function(name, PHASE_PREFIX)
        )

    def begin(self) -> None:
        """Start the profiler; raises what torch raises."""
        with self._lock:
            if self._recording is None and not self._over:
                recording = TorchRecording(self._folder)
                recording.start()
                self._recording = recording
                (self._folder / f"process-{self._pid}.begun").touch()

    def end(self) -> None:
        """Stop the profiler and write the trace, once, in the process that began it."""
        with self._lock:
            recording, self._recording = self._recording, None
            if recording is None or os.getpid() != self._pid:
                return
            self._over = True
            try:
                recording.stop()
                recording.write(f"process-{self._pid}", rank=os.environ.get("RANK"))
            except Exception as exc:  # the program goes on, or ends as it would have
                print(f"aisp-trace: the trace of process {self._pid} is lost: {exc}", file=sys.stderr)

    def _look(self) -> None:
        pause = threading.Event()
        while not self._over and not (self._folder / END).exists():
            if self._recording is None and (self._folder / BEGIN).exists():
                try:
                    self.begin()
                except (RuntimeError, RecorderError) as exc:
                    print(f"aisp-trace: process {self._pid} is not recorded: {exc}", file=sys.stderr)
                    break
            pause.wait(INTERVAL_S)
        self.end()

    def _forget(self) -> None:
        self._recording, self._over = None, True
        self._lock = threading.RLock()  # another thread of the parent may have held it

    def _yield_to_others(self) -> None:
        """A process has one profiler: where the program starts its own, this one ends before."""
        from torch.autograd import profiler

        made = profiler.profile.__init__

        def making(other: Any, *args: Any, **kwargs: Any) -> None:
            if self._recording is not None:
                print(
                    "aisp-trace: the program starts a profiler of its own; it is recorded until here", file=sys.stderr
                )
                self.end()
            made(other, *args, **kwargs)

        profiler.profile.__init__ = making


class _Opening:
    """The range that begins the recording and ends it."""

    def __init__(self, process: _Process, *asked: Any) -> None:
        self._process = process
        self._asked = asked

    def __enter__(self) -> None:
        self._process.begin()
        recording = self._process._recording
        self._range = contextlib.nullcontext() if recording is None else recording.range(*self._asked)
        self._range.__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._range.__exit__(*exc)
        self._process.end()
