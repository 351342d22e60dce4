"""A capture's progress as `report.terminal.live` shows what takes long: one living line on a terminal, few lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ..capture.plan import Plan
from ..capture.progress import Progress
from ..report.terminal.live import live_line
from ..report.terminal.look import LOOK, is_terminal

EVERY_S: Final = 60.0
"""In a log, steps that repeat are shown this often: forty rounds of two programs would be eighty lines."""


@contextmanager
def progress_of(plan: Plan | None) -> Iterator[Callable[[str, int], Progress]]:
    """What makes the progress of a capture of `plan`; null: of one that is not known yet.

    Programs of the user's own may write to the terminal themselves, so that their steps are plain lines there too.
    """
    if LOOK.quiet:
        yield Silent
        return
    with live_line(wanted=plan is not None and plan.source not in ("command", "pair")) as show:
        if show is not None:
            yield lambda workload, total: Steps(workload, total, show)
        else:
            yield Progress if is_terminal(sys.stderr) else Logged


class Steps(Progress):
    """Progress whose steps go to `show`; what else there is to say is a line, as ever."""

    def __init__(self, workload: str, total: int, show: Callable[[str], None]) -> None:
        super().__init__(workload, total)
        self._show = show

    def show_step(self, text: str, *, repeated: bool = False) -> None:
        """As `Progress`."""
        self._show(text)


class Logged(Progress):
    """Progress in a log: of the steps that repeat the first, which says how long the others take, then one in `EVERY_S`."""

    def __init__(self, workload: str, total: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(workload, total, clock=clock)
        self._shown: float | None = None

    def show_step(self, text: str, *, repeated: bool = False) -> None:
        """As `Progress`."""
        now = self._clock()
        if repeated and self._shown is not None and now - self._shown < EVERY_S:
            return
        if repeated:
            self._shown = now
        super().show_step(text)


class Silent(Progress):
    """Progress that nobody asked for: only a capture that did not come to its end is heard of."""

    def say(self, text: str) -> None:
        """As `Progress`."""
