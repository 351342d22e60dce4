"""A part of a program under nsys: its sessions, which begin and end recordings while the program runs.

    nsys launch --session-new=S ... PROGRAM     runs the program, ready to be recorded
    nsys start --session=S -o ...               begins, at once or at a range
    nsys stop --session=S                       ends, and writes the report; the program goes on

Each takes some of the options that ``nsys profile`` takes together; what its help names, it gets.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ..traces.errors import RecorderError, UsageError, WorkloadError
from .nsight import Nsys, parse_options
from .nsys_report import EXPORT_TIMEOUT_S, REPORT, STREAM
from .nsys_starts import STARTS, launches_nothing, starts
from .passing import OwnLines
from .processes import Finished, ask, last_line, last_words, run_process, to_terminal
from .running import Running, pause
from .window import CUDA_PROFILER, Window, signalled
from .windowed import drive

READY_S: Final = 60.0
"""How long a program may take until nsys has it: the start of nsys's agent on a busy machine."""

WAITING: Final = "StartRange"
"""How ``nsys sessions list`` calls a session that waits for a range (2022.4)."""

MISSED: Final = 20
"""Looks in a row at which a session is not listed before it is taken for lost."""

SETTLED_S: Final = 1.0
"""A report whose size has not changed for so long is whole."""


def session_commands(
    nsys: Nsys, options: Sequence[str], target: Sequence[str], folder: Path, window: Window, session: str
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The command lines that launch `target`, begin and end; `options` are those of ``nsys profile``.

    Raises `UsageError` for one that neither launch nor start takes.
    """
    known = {verb: parse_options(ask([str(nsys.path), verb, "--help"]) or "") for verb in ("launch", "start")}
    chosen: dict[str, list[str]] = {"launch": [], "start": []}
    for option in options:
        name = option.removeprefix("--").partition("=")[0]
        verbs = [verb for verb in ("launch", "start") if name in known[verb]]
        if not verbs:
            raise UsageError(
                f"nsys {nsys.version} takes {option} for a whole program only, not for a part of one; leave it out"
            )
        chosen[verbs[0]].append(option)
    launch, start = chosen["launch"], chosen["start"]
    if window.range_name is not None:
        if window.range_name != CUDA_PROFILER:
            launch += ["-p", f"{window.range_name}@*"]
        by = CUDA_PROFILER if window.range_name == CUDA_PROFILER else "nvtx"
        start += ["-c", by, f"--capture-range-end={'stop' if window.duration_s is None else 'none'}"]
    program = str(nsys.path)
    output = ["--force-overwrite=true", f"--output={folder / REPORT.removesuffix('.nsys-rep')}"]
    return (
        (program, "launch", f"--session-new={session}", *launch, *target),
        (program, "start", f"--session={session}", *output, *start),
        (program, "stop", f"--session={session}"),
    )


class _Session:
    """`windowed.Controls` of nsys."""

    def __init__(
        self, nsys: Nsys, start: Sequence[str], stop: Sequence[str], session: str, folder: Path, running: Running
    ) -> None:
        self._nsys = nsys
        self._start = start
        self._stop = stop
        self._session = session
        self._folder = folder
        self._running = running
        self._size = (-1, 0.0)
        self._missed = 0

    def check(self) -> None:
        """Raises `RecorderError` if nsys has failed by itself."""
        if launches_nothing(self._folder):
            said = last_line(self._folder / "nsys-profile.stderr.log")
            raise RecorderError(f"nsys could not start the program ({said}); see the logs in {self._folder}")

    def begin(self) -> None:
        """Once the program is up: a session that is looked for before makes both nsys fail."""
        deadline = time.monotonic() + READY_S
        while not (self._running.started or self._running.exit_code is not None or launches_nothing(self._folder)):
            if time.monotonic() > deadline:
                break
            pause()
        while (done := self._step(self._start, "nsys-start")).exit_code != 0:
            if time.monotonic() > deadline or self._running.exit_code is not None or launches_nothing(self._folder):
                said = last_words(self._folder, "nsys-start")
                raise RecorderError(
                    f"nsys could not begin to record (exit code {done.exit_code}: {said}); see the logs in {self._folder}"
                )
            time.sleep(0.1)

    def recording(self) -> bool:
        """Whether the session waits for no range any more."""
        listed = ask([str(self._nsys.path), "sessions", "list"]) or ""
        own = [line for line in listed.splitlines() if self._session in line]
        self._missed = 0 if own or self._running.exit_code is not None else self._missed + 1
        if self._missed > MISSED:
            raise RecorderError(
                f"nsys lost the program ({last_line(self._folder / 'nsys-profile.stderr.log')}); record it again"
            )
        return bool(own) and not any(WAITING in line for line in own)

    def complete(self) -> bool:
        """Whether nsys has written the report by itself."""
        file = next((self._folder / name for name in (REPORT, STREAM) if (self._folder / name).is_file()), None)
        if file is None:
            return False
        size, now = file.stat().st_size, time.monotonic()
        if size != self._size[0]:
            self._size = size, now
        return size > 0 and now > self._size[1] + SETTLED_S

    def end(self) -> None:
        """Stop; where the program has ended, nsys does so by itself."""
        if self._running.exit_code is None:
            self._step(self._stop, "nsys-stop")
        deadline = time.monotonic() + READY_S
        while not self.complete() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _step(self, command: Sequence[str], name: str) -> Finished:
        logs = self._folder / f"{name}.stdout.log", self._folder / f"{name}.stderr.log"
        return run_process(command, stdout=logs[0], stderr=logs[1], timeout_s=EXPORT_TIMEOUT_S)


def run_window(
    nsys: Nsys,
    options: Sequence[str],
    target: Sequence[str],
    folder: Path,
    window: Window,
    *,
    environment: Mapping[str, str],
    own: OwnLines,
    who: str,
    timeout_s: float,
) -> tuple[Running, str]:
    """Run `target` and record the `window` of it; answers with the program, which may go on, and what ended the recording.

    `options` are those of ``nsys profile``, `environment` is all that the program starts with. Raises as `session_commands` and
    `windowed.drive` do, and ends the program then.
    """
    session = f"aisp-{uuid.uuid4().hex[:12]}"
    launch, start, stop = session_commands(nsys, options, target, folder, window, session)

    def once() -> tuple[Running, str]:
        try:
            running = Running(
                launch,
                stdout=folder / "nsys-profile.stdout.log",
                stderr=folder / "nsys-profile.stderr.log",
                environment={**environment, "NSYS_NVTX_PROFILER_REGISTER_ONLY": "0"},
                shown=to_terminal(own),
            )
        except OSError as exc:
            raise RecorderError(f"{nsys.path} cannot be started: {exc}; see `aisp-trace doctor`") from exc
        try:
            controls = _Session(nsys, start, stop, session, folder, running)
            with signalled() as asked:
                return running, drive(window, running, controls, asked, who=who, timeout_s=timeout_s)
        except BaseException:
            running.close()
            raise

    for attempt in starts():
        try:
            return once()
        except (RecorderError, WorkloadError):
            if attempt == STARTS - 1 or not launches_nothing(folder):
                raise
    raise AssertionError("the last start returns or raises")
