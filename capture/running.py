"""A program that runs beside what `capture` does, and is ended with all it started when `capture` leaves it."""

from __future__ import annotations

import contextlib
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .forks import Forks
from .processes import MARKER, Shown, end_all, outputs, termination_as_interrupt

TICK_S: Final = 0.02


class Running:
    """`command` in a session of its own, its output passing through and kept; ended by `close`, or when it ends.

    Raises `OSError` if it cannot be started.
    """

    def __init__(
        self, command: Sequence[str], *, stdout: Path, stderr: Path, environment: Mapping[str, str], shown: Shown
    ) -> None:
        self.marker = uuid.uuid4().hex
        self.process: subprocess.Popen[Any] | None = None
        self._stack = contextlib.ExitStack()
        try:
            self._stack.enter_context(termination_as_interrupt())
            self._forks = self._stack.enter_context(Forks(f"{MARKER}={self.marker}"))
            out, err, begin = self._stack.enter_context(outputs(stdout, stderr, shown))
            self._stack.callback(self._end)
            self.begun = time.monotonic()
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**environment, MARKER: self.marker},
                start_new_session=True,
            )
            begin()
        except BaseException:
            self._stack.close()
            raise

    @property
    def exit_code(self) -> int | None:
        """How it ended; null while it runs."""
        return None if self.process is None else self.process.poll()

    @property
    def started(self) -> bool:
        """Whether the program itself is up, not only the recorder that starts it."""
        return self._forks.started

    @property
    def forked(self) -> tuple[int, ...]:
        """Its workers so far (``forks.py``)."""
        return self._forks.pids

    def wait(self) -> int:
        """Wait until it ends; an interrupt ends it, and is answered with its exit code too."""
        assert self.process is not None
        try:
            return self.process.wait()
        except KeyboardInterrupt:
            self._end()
            return self.process.wait()

    def close(self) -> None:
        """End it if it runs, with all that it started."""
        self._stack.close()

    def _end(self) -> None:
        end_all(self.process, self.marker)


def pause() -> None:
    """Between two looks at a program and a clock."""
    time.sleep(TICK_S)
