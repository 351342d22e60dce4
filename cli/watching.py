"""A capture's progress as `report.terminal.live` shows what takes long: one living line on a terminal, plain lines in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..capture.plan import Plan
from ..capture.progress import Progress
from ..report.terminal.live import live_line
from ..report.terminal.look import LOOK


@contextmanager
def progress_of(plan: Plan) -> Iterator[Callable[[str, int], Progress]]:
    """What makes the progress of a capture of `plan`.

    Programs of the user's own may write to the terminal themselves, so that their steps are plain lines there too.
    """
    if LOOK.quiet:
        yield lambda workload, total: Steps(workload, total, lambda text: None)
        return
    with live_line(wanted=plan.source not in ("command", "pair")) as show:
        yield Progress if show is None else lambda workload, total: Steps(workload, total, show)


class Steps(Progress):
    """Progress whose steps go to `show`; what else there is to say is a line, as ever."""

    def __init__(self, workload: str, total: int, show: Callable[[str], None]) -> None:
        super().__init__(workload, total)
        self._show = show

    def show_step(self, text: str) -> None:
        """As `Progress`."""
        self._show(text)
