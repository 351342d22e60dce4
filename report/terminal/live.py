"""What a person sees while something takes long: on a terminal a line that lives, in a log plain lines.

reading train.sqlite, 640 MB  0:00:07            terminal: a spinner and the time, gone when it is done
aisp-trace: reading train.sqlite, 640 MB ...     log: a line when a step is reported, or has lasted `PATIENCE_S`
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from .console import escape, progress, terminal_width
from .look import LOOK, console_for, is_terminal

PATIENCE_S: Final = 10.0
"""A log says what goes on after this long; most commands have ended by then, and their logs stay empty."""


@contextmanager
def watched(what: str) -> Iterator[Callable[[str], None]]:
    """Show that `what` is being done; call what it yields with each further step, in the same words."""
    with live_line(what) as show:
        if show is not None or LOOK.quiet:
            yield show or (lambda step: None)
            return
        late = threading.Timer(PATIENCE_S, progress, (what,))
        late.daemon = True
        late.start()

        def tell(step: str) -> None:
            late.cancel()
            progress(step)

        try:
            yield tell
        finally:
            late.cancel()


@contextmanager
def live_line(what: str = "", *, wanted: bool = True) -> Iterator[Callable[[str], None] | None]:
    """A line that says `what`, then each step; null where nobody watches, or none is `wanted`.

    Messages on stderr meanwhile stand above it.
    """
    if not wanted or LOOK.quiet or not is_terminal(sys.stderr):
        yield None
        return
    with _bar() as (shown, task):
        shown.update(task, description=escape(what))
        yield lambda step: shown.update(task, description=escape(step))


@contextmanager
def meter(what: str) -> Iterator[Callable[[int, int], None]]:
    """As `watched`, of `what` that is counted: call what it yields with how many of how many are done."""
    if not is_terminal(sys.stderr) or LOOK.quiet:
        with watched(f"writing {what}"):
            yield lambda done, expected: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    with _bar(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as (shown, task):
        shown.update(task, description=escape(what))
        yield lambda done, expected: shown.update(task, completed=done, total=max(done, expected))


@contextmanager
def _bar(*more: Any) -> Iterator[tuple[Any, Any]]:
    """A line of rich's progress on stderr that vanishes at its end, and its only task."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    elapsed = TimeElapsedColumn(Column(min_width=len("0:00:00")))
    columns = (SpinnerColumn(table_column=Column(min_width=1)), text, *(more or (elapsed,)))
    console = console_for(sys.stderr, terminal_width())
    with Progress(*columns, console=console, transient=True, redirect_stdout=is_terminal(sys.stdout)) as shown:
        yield shown, shown.add_task("", total=None)
