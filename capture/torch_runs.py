"""The recorder torch: start a program that torch.profiler records from inside, and take what it leaves.

A workload profiles itself (`stages.measured`). A program of the user's is recorded from its start, or from when it is asked, in
each of its processes that imports torch (``torch_program.py``); the trace of one of them becomes that of the recording.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ..traces.documents import STAGES as STAGES_KIND
from ..traces.documents import read
from ..traces.errors import RecorderError, WorkloadError
from . import program
from .answer import ANSWER, ANSWER_VARIABLE
from .nsys import NAME_STAGES, ONLY_PHASES, Recorded, processes_named, shown_command
from .processes import Finished, how_ended, last_line, run_process, to_terminal
from .running import Running, pause
from .stages import OUTPUT_VARIABLE, RECORDER_VARIABLE
from .torch_program import BEGIN, END, START_ON_VARIABLE
from .torch_recorder import STAGES, TRACE, any_event, recorded_ranges
from .window import Window, signalled
from .windowed import after_recording, drive

MOST_S: Final = 60.0
"""How long a program is recorded unless a window says otherwise: torch.profiler keeps all events in the program's memory, some
100 MB of them a minute in a loop of small operators."""

QUIET: Final = "99"
"""Of KINETO_LOG_LEVEL: the profiler's own lines do not belong into the program's output."""

WRITE_S: Final = 300.0
"""How long processes may take to write their traces: a million events take some ten seconds."""

OTHERS: Final = "others"
"""Folder of the traces of a program's other processes."""


@dataclass(frozen=True, slots=True)
class TorchRecorder:
    """The embedded recorder, controlled by the environment.

    `window` is the part of a program of the user's that is recorded; null: all of it, up to `MOST_S`.
    """

    version: str
    window: Window | None = None
    name: str = "torch"

    def environment(self, folder: Path, gated: bool) -> dict[str, str]:
        """Variables that a workload gets (`gated`), or a program of the user's."""
        if gated:
            return {RECORDER_VARIABLE: "torch", OUTPUT_VARIABLE: str(folder)}
        return {
            RECORDER_VARIABLE: "program",
            OUTPUT_VARIABLE: str(folder),
            "KINETO_LOG_LEVEL": os.environ.get("KINETO_LOG_LEVEL", QUIET),
            ANSWER_VARIABLE: str(folder / ANSWER),
            **program.environment("torch", os.environ.get("PYTHONPATH")),
            **({START_ON_VARIABLE: self.window.range_name} if self.window and self.window.range_name else {}),
        }

    def command(self, target: Sequence[str], folder: Path, gated: bool) -> tuple[str, ...]:
        """The program's own command line: nothing is wrapped around it."""
        return tuple(target)

    def record(
        self, target: Sequence[str], folder: Path, *, gated: bool, timeout_s: float, shown: bool = False
    ) -> Recorded:
        """Run the program; raises `RecorderError` if it left no trace although it ended well, `WorkloadError` if a program of the
        user's failed before it left one."""
        clear(folder)
        if gated:
            return _workload(self._run(target, folder, gated, timeout_s, shown), folder)
        if self.window is not None:
            return self._record_window(self.window, target, folder, timeout_s)
        (folder / BEGIN).touch()
        ending = threading.Timer(MOST_S, (folder / END).touch)
        ending.daemon = True
        ending.start()
        try:
            done = self._run(target, folder, gated, timeout_s, shown)
        finally:
            ending.cancel()
        return collect(target, done, folder, needed=shown, capped=(folder / END).exists())

    def _record_window(self, window: Window, target: Sequence[str], folder: Path, timeout_s: float) -> Recorded:
        running = Running(
            target,
            stdout=folder / "traced.stdout.log",
            stderr=folder / "traced.stderr.log",
            environment={**os.environ, **self.environment(folder, False)},
            shown=to_terminal(),
        )
        limited = window if window.duration_s is not None else replace(window, duration_s=MOST_S)
        shown = limited if window.range_name is None else window
        try:
            with signalled() as asked:
                controls = _Files(folder, running, by_range=window.range_name is not None)
                why = drive(shown, running, controls, asked, who=shown_command(target), timeout_s=timeout_s)
            made = collect(target, after_recording(window, running), folder, needed=True)
        except BaseException:
            running.close()
            raise
        return replace(made, notes=(f"recorded {shown.describe()}, until {why}", *made.notes), running=running)

    def _run(self, target: Sequence[str], folder: Path, gated: bool, timeout_s: float, shown: bool) -> Finished:
        out, err = folder / "traced.stdout.log", folder / "traced.stderr.log"
        done = run_process(
            target,
            stdout=out,
            stderr=err,
            timeout_s=timeout_s,
            environment={**os.environ, **self.environment(folder, gated)},
            shown=to_terminal() if shown else None,
        )
        if done.timed_out:
            raise RecorderError(
                f"the traced process did not end within {timeout_s:g} s and was stopped; give it longer with --timeout, "
                f"and see {err} for how far it came"
            )
        return done


class _Files:
    """`windowed.Controls` of torch.profiler: processes report to the folder, and are controlled through it."""

    def __init__(self, folder: Path, running: Running, *, by_range: bool) -> None:
        self._folder = folder
        self._running = running
        self._by_range = by_range

    def check(self) -> None:
        """Nothing stands between: the program is started as it is."""

    def begin(self) -> None:
        """Tell them, unless a range does."""
        if not self._by_range:
            (self._folder / BEGIN).touch()

    def recording(self) -> bool:
        """Whether one of them has begun."""
        return any(self._folder.glob("process-*.begun"))

    def complete(self) -> bool:
        """Whether all that have begun and still live have written their traces."""
        begun = {_pid(file) for file in self._folder.glob("process-*.begun")}
        whole = {_pid(file) for file in self._folder.glob(f"process-*.{STAGES}")}
        return bool(begun) and all(not Path("/proc", pid).exists() for pid in begun - whole)

    def end(self) -> None:
        """Tell them, and wait for their traces: a process that is asleep wakes to write its own."""
        (self._folder / END).touch()
        deadline = time.monotonic() + WRITE_S
        while self._running.exit_code is None and not self.complete() and time.monotonic() < deadline:
            pause()


def clear(folder: Path) -> None:
    """Remove what an earlier recording left in `folder`."""
    for leftover in (TRACE, STAGES, BEGIN, END):
        (folder / leftover).unlink(missing_ok=True)
    for file in [*folder.glob("process-*"), *folder.glob(f"{OTHERS}/process-*")]:
        file.unlink()


def _workload(done: Finished, folder: Path) -> Recorded:
    whole = (folder / TRACE).is_file() and recorded_ranges(folder) > 0
    if done.exit_code == 0 and not whole:
        raise RecorderError(
            "the torch recorder left no trace with ranges in it; the workload must run its iterations inside "
            "capture.stages.measured() when it is given --trace "
            f"({last_line(folder / 'traced.stderr.log') or 'it said nothing'})"
        )
    return Recorded(done.exit_code, done.wall_ns, TRACE, STAGES, ())


def collect(target: Sequence[str], done: Finished, folder: Path, *, needed: bool, capped: bool = False) -> Recorded:
    """Make the trace of one process of `target` the recording's: of rank 0 where there are ranks, else the largest.

    `capped`: it ended because of `MOST_S`. Those of others go to the folder `OTHERS`. Without any trace it raises as
    `TorchRecorder.record` says, or answers that the recording is empty unless one is `needed`.
    """
    whole = sorted(
        folder.glob(f"process-*.{STAGES}"), key=lambda file: (_rank(file) != "0", -_trace_of(file).stat().st_size)
    )
    begun = sorted(folder.glob("process-*.begun"))
    for file in (*begun, folder / BEGIN, folder / END):
        file.unlink(missing_ok=True)
    if not whole:
        if done.exit_code != 0:
            said = last_line(folder / "traced.stderr.log") or "without a word on stderr"
            raise WorkloadError(
                f"{shown_command(target)} {how_ended(done.exit_code)} before anything was recorded of it ({said})"
            )
        if needed:
            raise RecorderError(_nothing(target, len(begun)))
        return Recorded(done.exit_code, done.wall_ns, TRACE, None, (), empty=True)
    main, *others = whole
    pids = [_pid(file) for file in others]
    _trace_of(main).rename(folder / TRACE)
    main.rename(folder / STAGES)
    for file in others:
        (folder / OTHERS).mkdir(exist_ok=True)
        for one in (_trace_of(file), file):
            one.rename(folder / OTHERS / one.name)
    empty = not any_event(folder / TRACE)
    notes = [
        f"the program called no operator of torch and opened no range, so there is nothing to analyze; {NAME_STAGES}"
    ]
    if not empty:
        notes = [] if recorded_ranges(folder) else [ONLY_PHASES]
    if capped:
        notes.append(
            f"torch.profiler recorded the first {MOST_S:g} s of the program, because it keeps every event in memory; record "
            "another part with --delay and --duration"
        )
    if others:
        named = ", ".join(pids)
        notes.append(
            f"this is the trace of process {_pid(main)}, one of {len(whole)} that torch.profiler recorded; those of {named} "
            f"lie in the folder {OTHERS} beside it"
        )
    if lost := sorted({_pid(file) for file in begun} - {_pid(file) for file in whole}):
        notes.append(f"process {', '.join(lost)} was ended before it had written its trace, which is lost")
    if done.forked:
        notes.append(
            f"{processes_named(done.forked)} left nothing in the trace: torch.profiler records no process that was only forked; "
            "nsys does"
        )
    return Recorded(done.exit_code, done.wall_ns, TRACE, STAGES, tuple(notes), empty)


def _nothing(target: Sequence[str], begun: int) -> str:
    if begun:
        return (
            f"{shown_command(target)} was recorded, but its process was ended before it had written the trace; let it end by "
            "itself, or end the recording before with --duration"
        )
    return (
        f"no process of {shown_command(target)} imported torch, and torch.profiler records nothing else; record it with nsys "
        "(`aisp-trace doctor`), or leave out -I, -E and -S of a Python that does"
    )


def _trace_of(stages: Path) -> Path:
    return stages.with_name(stages.name.removesuffix(STAGES) + "json.gz")


def _pid(file: Path) -> str:
    return file.name.removeprefix("process-").partition(".")[0]


def _rank(stages: Path) -> str | None:
    found = read(stages, STAGES_KIND)
    rank = found.get("rank") if isinstance(found, dict) else None
    return rank if isinstance(rank, str) else None
