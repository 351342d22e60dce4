"""Running other programs so that nothing of them is left behind.

A recorder does not keep its children together: nsys starts its agent and the traced program in sessions of their
own, and the agent is re-parented to init. Killing one process group therefore leaves the other two running. So every
process started here carries a marker in its environment, which all its descendants inherit, and ending it means
ending every process that carries the marker.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from .forks import Forks
from .passing import OwnLines, Passed

MARKER: Final = "AISP_TRACE_PROCESS"
GRACE_S: Final = 3.0
"""How long processes may take to leave after SIGTERM before they are killed."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a process ended. `exit_code` is negative for a signal, as in `subprocess`; `forked` are workers, see ``forks.py``."""

    exit_code: int
    wall_ns: int
    timed_out: bool
    forked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """Where a program's output passes through (null: nowhere), without a recorder's own lines."""

    stdout: IO[bytes] | None
    stderr: IO[bytes] | None
    own: OwnLines | None = None


def to_terminal(own: OwnLines | None = None) -> Shown:
    """Pass output through to this process's own streams."""
    return Shown(getattr(sys.stdout, "buffer", None), getattr(sys.stderr, "buffer", None), own)


def how_ended(exit_code: int) -> str:
    """``ended with exit code 3``, or the name of the signal: a shell, and nsys, say 128 plus its number."""
    number = -exit_code if exit_code < 0 else exit_code - 128
    try:
        return f"was ended by {signal.Signals(number).name}" if number > 0 else f"ended with exit code {exit_code}"
    except ValueError:
        return f"ended with exit code {exit_code}"


def run_process(
    command: Sequence[str],
    *,
    stdout: Path,
    stderr: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    shown: Shown | None = None,
) -> Finished:
    """Run `command` in a session of its own, its output in the two files, until it ends or `timeout_s` has passed.

    With `shown` its output also passes through as it comes, the files hold the first and last of it, and its forked workers are
    looked for.

    On a timeout, Ctrl-C or SIGTERM, it and all its descendants are ended before this returns or raises. Descendants that
    outlive a process that ended by itself are ended too: an nsys that fails leaves its agent running.
    Raises `OSError` if the program cannot be started and `KeyboardInterrupt` when interrupted.
    """
    marker = uuid.uuid4().hex
    child_environment = {**(os.environ if environment is None else environment), MARKER: marker}
    process = None
    timed_out = False
    started = time.perf_counter_ns()
    watched = Forks(f"{MARKER}={marker}")
    with (
        outputs(stdout, stderr, shown) as (out, err, begin),
        termination_as_interrupt(),
        watched if shown is not None else contextlib.nullcontext(),
    ):
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=child_environment,
                cwd=cwd,
                start_new_session=True,
            )
            begin()
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            timed_out = True
            end_all(process, marker)
        except BaseException:  # an interrupt may come before Popen has returned: the marker finds the process
            end_all(process, marker)
            raise
        wall_ns = time.perf_counter_ns() - started
        if not timed_out:
            end_all(process, marker)
    assert process is not None
    return Finished(process.returncode, wall_ns, timed_out, watched.pids)


@contextlib.contextmanager
def outputs(
    stdout: Path, stderr: Path, shown: Shown | None
) -> Iterator[tuple[IO[bytes] | int, IO[bytes] | int, Callable[[], object]]]:
    """What a process is to write to, and what to do when it has been started."""
    if shown is None:
        with stdout.open("wb") as out, stderr.open("wb") as err:
            yield out, err, lambda: None
        return
    streams = Passed(stdout, shown.stdout, shown.own), Passed(stderr, shown.stderr, shown.own)

    def begin() -> None:
        for stream in streams:
            stream.start()

    try:
        yield streams[0].write_end, streams[1].write_end, begin
    finally:
        for stream in streams:
            stream.finish(GRACE_S)


def end_all(process: subprocess.Popen[Any] | None, marker: str) -> None:
    """End `process` (null: not known), its group and all that carry `marker`: SIGTERM, after `GRACE_S` SIGKILL."""
    if process is not None and process.poll() is not None and not marked(marker):
        return
    for number, patience_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        _signal_all(process, marker, number)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if (process is None or process.poll() is not None) and not marked(marker):
                return
            time.sleep(0.02)


def marked(marker: str) -> list[int]:
    """Ids of the living processes whose environment holds the marker; empty where there is no /proc."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        # A process may end while it is looked at, and other users' environments cannot be read.
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def _signal_all(process: subprocess.Popen[Any] | None, marker: str, number: signal.Signals) -> None:
    if process is not None and process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
    for pid in marked(marker):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """While inside, SIGTERM raises `KeyboardInterrupt`, so that a cancelled job leaves no process behind either."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous if previous is not None else signal.SIG_DFL)


def ask(command: Sequence[str], *, timeout_s: float = 20.0, environment: Mapping[str, str] | None = None) -> str | None:
    """What a short-lived helper program prints on stdout; null if it is missing, fails or does not answer in time."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            env=None if environment is None else dict(environment),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def last_line(log: Path) -> str:
    """The last line with text in `log`, at most 300 characters; empty if there is none."""
    try:
        data = log.read_bytes()[-8192:]
    except OSError:
        return ""
    lines = [line.strip() for line in data.decode("utf-8", "replace").replace("\r", "\n").splitlines()]
    return next((line[:300] for line in reversed(lines) if line), "")


def last_words(folder: Path, step: str) -> str:
    """The last line of the logs of `step` in `folder`: of its stderr, else of its stdout."""
    return last_line(folder / f"{step}.stderr.log") or last_line(folder / f"{step}.stdout.log")
