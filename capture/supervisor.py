"""Runs one program for ``capture`` and ends everything that it has started, also when ``capture`` itself is killed.

    capture --control pipe--> supervisor (this file) -- PROGRAM -- what it starts
            <--status pipe---

Every process below the program stays below this one, whatever session, group or environment it takes: this one is their
subreaper (prctl(2)), so that an orphan becomes its child. It ends them when the control pipe closes, which the kernel does for a
capture that is killed, or on a signal. Should this process be killed as well, the program itself dies with it (PR_SET_PDEATHSIG);
what the program has started is then found by `leftovers.py`.

It is started as ``python -I -S supervisor.py CONTROL STATUS GRACE VARIABLE VALUE COMMAND ...`` with the program's environment,
to which VARIABLE is added, and says on the status pipe:

    failed ERRNO          the program cannot be started
    began NS              just before it was started (perf_counter_ns, one clock for all processes of Linux)
    ended CODE NS         when it has ended; negative for a signal

Nothing is imported but the standard library, since it starts before every program that is timed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
"""Both of <linux/prctl.h>."""

LOOK_S: Final = 0.02
"""Between looks at what is being ended."""


def main(words: list[str]) -> int:
    """Run the program; returns when nothing of it is left, or nothing can be done about it."""
    control, status = int(words[0]), int(words[1])
    grace_s, (variable, value), command = float(words[2]), words[3:5], words[5:]
    os.environ[variable] = value
    os.set_inheritable(control, False)
    os.set_inheritable(status, False)
    prctl = _prctl()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    own = {number for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) if _takes(number)}
    for one in (signal.SIGCHLD, *own):
        signal.signal(one, lambda *_: None)
    if select.select([control], [], [], 0)[0]:  # it was killed, or interrupted, before this one was up
        return 0
    began = time.perf_counter_ns()
    program = _start(command, prctl)
    if isinstance(program, OSError):
        _say(status, f"failed {program.errno}")
        return 1
    for stream in (0, 1, 2):  # the program's pipes are its own: they end when it does
        _quiet(stream)
    _say(status, f"began {began}")
    while True:
        ready, _, _ = select.select([control, wake], [], [])
        asked = control in ready or any(number in own for number in (os.read(wake, 4096) if wake in ready else b""))
        _reap(program, status)
        if asked:
            break
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + grace_s
        told: set[int] = set()
        while (left := descendants(os.getpid())) and time.monotonic() < deadline:
            # Who is started meanwhile is told as well; SIGKILL is sent until nobody is left.
            for pid in left if number == signal.SIGKILL else left - told:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            told |= left
            time.sleep(LOOK_S)
            _reap(program, status)
    return 0


def descendants(root: int) -> set[int]:
    """All processes below `root`, those that have ended and wait for a parent included."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 (pathlib costs 10 ms of start)
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
            # The name in brackets may hold anything; the parent's number is the second word after it.
            children.setdefault(int(file.read().rpartition(b")")[2].split()[1]), []).append(int(name))
    found: set[int] = set()
    waiting = [root]
    while waiting:
        below = [pid for pid in children.get(waiting.pop(), []) if pid not in found]
        found.update(below)
        waiting += below
    return found


def _start(command: list[str], prctl: Callable[[int, int], int]) -> int | OSError:
    """The program's process id, in a session of its own; the error if it cannot be started."""
    heard, said = os.pipe()
    supervisor = os.getpid()
    program = os.fork()
    if program == 0:
        try:
            os.setsid()
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and would pass on
                signal.signal(number, signal.SIG_DFL)
            if os.getppid() == supervisor:
                os.execvpe(command[0], command, os.environ)
        except OSError as error:
            os.write(said, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(said)
    with os.fdopen(heard, "rb") as pipe:
        failed = pipe.read()  # empty: the program runs, which closed its end
    return OSError(int(failed), "") if failed else program


def _reap(program: int, status: int) -> None:
    """Take leave of all children that have ended, and say so of `program`."""
    while True:
        try:
            pid, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == program:
            _say(status, f"ended {os.waitstatus_to_exitcode(how)} {time.perf_counter_ns()}")


def _say(status: int, line: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(status, f"{line}\n".encode())


def _quiet(number: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, number)
    os.close(nothing)


def _takes(number: signal.Signals) -> bool:
    """Whether a signal is not ignored, as SIGHUP is under nohup."""
    return signal.getsignal(number) is not signal.SIG_IGN


def _prctl() -> Callable[[int, int], int]:
    function = ctypes.CDLL(None).prctl
    function.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
    return lambda option, value: function(option, int(value), 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
