"""Progress as plain lines on stderr, the same with and without a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from ..traces.content import one_line, printed


class Progress:
    """Says what is about to happen, how long it has taken so far and about how long is left.

    `total` is the number of steps of the whole capture. The estimate is the mean of the steps done so far, so there is
    none before the first has ended.
    """

    def __init__(
        self,
        workload: str,
        total: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workload = workload
        self._total = total
        self._stream = stream
        self._clock = clock
        self._begun = clock()
        self._done = 0
        self._step_begun: float | None = None
        self._worked = 0.0

    def step(self, label: str, *, repeated: bool = False) -> None:
        """A step begins; the one before it has ended. `repeated`: one like it, of an earlier round, was shown."""
        self._end_step()
        now = self._clock()
        self._step_begun = now
        text = label
        if self._done:
            left = self._worked / self._done * (self._total - self._done)
            text += f"  ({seconds(now - self._begun)} elapsed, about {seconds(left)} left)"
        self.show_step(text, repeated=repeated)

    def show_step(self, text: str, *, repeated: bool = False) -> None:
        """Show the step that begins: on a line of its own, unless a subclass has a place for it."""
        self.say(f"[{self._workload}] {text}")

    def skip(self, label: str, *, repeated: bool = False) -> None:
        """A step need not be done again."""
        self._total -= 1
        self.show_step(f"{label}: kept from before", repeated=repeated)

    def more(self, steps: int) -> None:
        """So many steps more than were expected at first."""
        self._total += steps

    def finish(self) -> None:
        """All steps have ended."""
        self._end_step()
        self.say(f"[{self._workload}] done in {seconds(self._clock() - self._begun)}")

    def say(self, text: str) -> None:
        """One line of its own, on how far it is or on what is noticed."""
        self.urge(text)

    def urge(self, text: str) -> None:
        """One line of its own on a capture that did not come to its end, whatever a subclass does with `say`."""
        line = printed(one_line(text))  # notes repeat what a workload's process answered
        print(line, file=self._stream if self._stream is not None else sys.stderr, flush=True)

    def _end_step(self) -> None:
        if self._step_begun is not None:
            self._worked += self._clock() - self._step_begun
            self._done += 1
            self._step_begun = None


def seconds(value: float) -> str:
    """``4.2 s``, ``42 s`` or ``3 min 20 s``."""
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60} s"
