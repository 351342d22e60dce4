"""A program that runs below a supervisor (``supervisor.py``), so that nothing of it outlives this process."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

SUPERVISOR: Final = Path(__file__).with_name("supervisor.py")

SLACK_S: Final = 10.0
"""How much longer than its two graces a supervisor may take to leave: on a busy machine a look at /proc takes a while."""

LOOK_S: Final = 0.5
"""The longest wait at a stretch. An interrupt that comes between Python's last look for one and the call that waits is
noticed when that call returns; on a loaded machine, and sent from a thread of this process, one in some hundreds came so."""


class Supervised:
    """One program; made before it is started, so that `end` may be called whenever an interrupt comes.

    `marker` is the name and the value of a variable that it gets, `grace_s` how long its processes may take to leave on SIGTERM
    before they are killed.
    """

    def __init__(self, marker: tuple[str, str], grace_s: float) -> None:
        self._marker = marker
        self._command: Sequence[str] = ()
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._theirs: tuple[int, ...] = ()
        self._heard = b""
        self._over = False  # the supervisor has left
        self._exit_code: int | None = None
        self.began_ns = 0
        """When the program was started, as `time.perf_counter_ns` counts; 0: not yet."""
        self.ended_ns = 0
        """When it ended; 0: not yet."""
        self._control: int = -1
        self._status: int = -1

    def start(
        self,
        command: Sequence[str],
        *,
        stdin: int | None = subprocess.DEVNULL,
        stdout: IO[bytes] | int | None,
        stderr: IO[bytes] | int | None,
        environment: Mapping[str, str],
        cwd: Path | None = None,
    ) -> None:
        """Start it; raises `OSError` if it cannot be started."""
        self._command = command
        control, self._control = os.pipe()
        self._status, status = os.pipe()
        self._theirs = control, status
        words = [str(control), str(status), str(self._grace_s), *self._marker, *command]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SUPERVISOR), *words],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=dict(environment),
            cwd=cwd,
            pass_fds=self._theirs,
            start_new_session=True,
        )
        self._close_theirs()
        while not self.began_ns:
            self._listen(LOOK_S)
            if self._over and not self.began_ns:
                raise OSError("the process that watches over it ended before it was started")

    @property
    def exit_code(self) -> int | None:
        """How the program ended, negative for a signal; null while it runs."""
        if self._exit_code is None and self._status >= 0:
            self._listen(0)
        return self._exit_code

    def wait(self, timeout_s: float | None = None) -> int:
        """Its exit code, once it has ended; raises `subprocess.TimeoutExpired` if that takes longer than `timeout_s`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._exit_code is None and not self._over:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired("the program", timeout_s or 0)
            self._listen(LOOK_S if left is None else min(left, LOOK_S))
        return self._exit_code if self._exit_code is not None else _KILLED

    def end(self) -> None:
        """End it and all that it has started; returns when nothing of it is left."""
        self._close_theirs()
        self._close("_control")
        deadline = time.monotonic() + 2 * self._grace_s + SLACK_S
        while self._status >= 0 and not self._over and (left := deadline - time.monotonic()) > 0:
            self._listen(left)
        self._close("_status")
        if self._process is not None:
            try:
                self._process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:  # it waits for the kernel to let go of something
                self._process.kill()

    def _listen(self, timeout_s: float) -> None:
        """Take what the supervisor says, waiting for it at most `timeout_s`; raises `OSError` if it could start nothing."""
        if not select.select([self._status], [], [], timeout_s)[0]:
            return
        data = os.read(self._status, 4096)
        self._over = not data
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            word, *numbers = line.decode().split()
            match word, [int(number) for number in numbers]:
                case "failed", [errno]:
                    raise OSError(errno, os.strerror(errno), self._command[0])
                case "began", [began]:
                    self.began_ns = began
                case "ended", [exit_code, at]:
                    self._exit_code, self.ended_ns = exit_code, at

    def _close_theirs(self) -> None:
        for number in self._theirs:
            os.close(number)
        self._theirs = ()

    def _close(self, name: str) -> None:
        number: Any = getattr(self, name)
        setattr(self, name, -1)
        if number >= 0:
            with contextlib.suppress(OSError):
                os.close(number)


_KILLED: Final = -9
"""What a program is said to have ended by whose supervisor was killed: the kernel kills it then too."""
