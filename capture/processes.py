"""Running other programs so that nothing of them is left behind.

A recorder does not keep its children together: nsys starts its agent and the traced program in sessions of their
own, and the agent is re-parented to init. Killing one process group therefore leaves the other two running. So every
program started here runs below a process that keeps all of them together (``supervisor.py``), and carries a variable that says
whose it is (``leftovers.py``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Final

from .forks import Forks
from .leftovers import MARKER, new_marker
from .passing import OwnLines, Passed
from .supervised import Supervised

GRACE_S: Final = 3.0
"""How long processes may take to leave after SIGTERM before they are killed."""

INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Ctrl-C, a cancelled job, a terminal or an ssh connection that has gone, and Ctrl-\\."""


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

    The files hold the first and the last of its output (`passing.KEPT_BYTES`). With `shown` it also passes through as it comes,
    and its forked workers are looked for.

    On a timeout, or one of `INTERRUPTS`, it and all its descendants are ended before this returns or raises. Descendants that
    outlive a process that ended by itself are ended too: an nsys that fails leaves its agent running.
    Raises `OSError` if the program cannot be started and `KeyboardInterrupt` when interrupted.
    """
    marker = new_marker()
    timed_out = False
    watched = Forks(f"{MARKER}={marker}")
    program = Supervised((MARKER, marker), GRACE_S)
    with (
        interruptible(),
        outputs(stdout, stderr, shown) as (out, err, begin),
        watched if shown is not None else contextlib.nullcontext(),
        ended(program),
    ):
        program.start(
            command, stdout=out, stderr=err, environment=os.environ if environment is None else environment, cwd=cwd
        )
        begin()
        try:
            program.wait(timeout_s)
        except subprocess.TimeoutExpired:
            timed_out = True
    return Finished(program.wait(), program.ended_ns - program.began_ns, timed_out, watched.pids)


@contextlib.contextmanager
def ended(program: Supervised) -> Iterator[None]:
    """`program` is ended when this is left, by whatever; no interrupt keeps it from that."""
    try:
        yield
    finally:
        with uninterrupted():
            program.end()


@contextlib.contextmanager
def outputs(stdout: Path, stderr: Path, shown: Shown | None) -> Iterator[tuple[int, int, Callable[[], object]]]:
    """What a process is to write to, and what to do when it has been started."""
    one, two = (shown.stdout, shown.stderr) if shown is not None else (None, None)
    own = shown.own if shown is not None else None
    streams = Passed(stdout, one, own), Passed(stderr, two, own)

    def begin() -> None:
        for stream in streams:
            stream.start()

    try:
        yield streams[0].write_end, streams[1].write_end, begin
    finally:
        for stream in streams:
            stream.finish(GRACE_S)


_ending = 0
"""How many `uninterrupted` are open."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """While inside, each of `INTERRUPTS` raises `KeyboardInterrupt`, so that whatever ends this process leaves none behind.

    One that is ignored, as SIGHUP is under nohup, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in INTERRUPTS}
    taken = [number for number in INTERRUPTS if previous[number] is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in taken:
            before = previous[number]
            signal.signal(number, before if before is not None else signal.SIG_DFL)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """While inside, those of `INTERRUPTS` that are taken do nothing: a second Ctrl-C leaves no process behind either."""
    global _ending
    _ending += 1
    try:
        yield
    finally:
        _ending -= 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:
        _leave_terminal()
    if not _ending:
        raise KeyboardInterrupt


def _leave_terminal() -> None:
    """Whatever is said from now on is said to nobody: writing to a terminal that has gone would raise."""
    for stream in (0, 1, 2):
        with contextlib.suppress(OSError):
            if os.isatty(stream):
                nothing = os.open(os.devnull, os.O_RDWR)
                os.dup2(nothing, stream)
                os.close(nothing)


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
