"""A program that runs beside what `capture` does, and is ended with all it started when `capture` leaves it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from .forks import Forks
from .leftovers import MARKER, new_marker
from .processes import GRACE_S, Shown, ended, interruptible, outputs
from .supervised import Supervised

TICK_S: Final = 0.02


class Running:
    """`command` in a session of its own, its output passing through and kept; ended by `close`, or when it ends.

    Raises `OSError` if it cannot be started.
    """

    def __init__(
        self, command: Sequence[str], *, stdout: Path, stderr: Path, environment: Mapping[str, str], shown: Shown
    ) -> None:
        marker = new_marker()
        self._program = Supervised((MARKER, marker), GRACE_S)
        self._stack = contextlib.ExitStack()
        try:
            self._stack.enter_context(interruptible())
            self._forks = self._stack.enter_context(Forks(f"{MARKER}={marker}"))
            out, err, begin = self._stack.enter_context(outputs(stdout, stderr, shown))
            self._stack.enter_context(ended(self._program))
            self.begun = time.monotonic()
            self._program.start(command, stdout=out, stderr=err, environment=environment)
            begin()
        except BaseException:
            self._stack.close()
            raise

    @property
    def exit_code(self) -> int | None:
        """How it ended; null while it runs."""
        return self._program.exit_code

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
        try:
            return self._program.wait()
        except KeyboardInterrupt:
            self.close()
            return self._program.wait()

    def close(self) -> None:
        """End it if it runs, with all that it started."""
        self._stack.close()


def pause() -> None:
    """Between two looks at a program and a clock."""
    time.sleep(TICK_S)
