"""When the recording of a program begins and ends, where that is not when the program does: a server under load, a late step.

program    |-----------------------------------------------------> goes on
recording             |-----------------|
           delay_s, SIGUSR1, or         duration_s, SIGUSR1, or
           the range begins             the range ends
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ..traces.errors import UsageError

SIGNAL: Final = "SIGUSR1"
"""What begins a recording with ``--start-on SIGUSR1``, and ends one: sent to `capture`."""


CUDA_PROFILER: Final = "cudaProfilerApi"
"""``--start-on`` what a program says itself: cudaProfilerStart begins, cudaProfilerStop ends. As nsys calls it."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a program that is recorded. `start_on` is a range's name, `CUDA_PROFILER` (here a range like others), or
    `SIGNAL`; null: `delay_s` seconds after the start.

    It ends after `duration_s` seconds (null: with the range, or the program), and in any case at `SIGNAL`. `kill`: the
    program is ended with it, and goes on otherwise.
    """

    delay_s: float = 0.0
    duration_s: float | None = None
    start_on: str | None = None
    kill: bool = False

    @property
    def range_name(self) -> str | None:
        """The range that begins the recording; null if none does."""
        return None if self.start_on == SIGNAL else self.start_on

    def describe(self) -> str:
        """For people: ``from 5 s after its start, for 10 s``."""
        if self.range_name is not None:
            cuda = self.start_on == CUDA_PROFILER
            begin = "from cudaProfilerStart" if cuda else f"from the range {self.range_name!r}"
        else:
            begin = f"from {SIGNAL}" if self.start_on else f"from {self.delay_s:g} s after its start"
        if self.duration_s is not None:
            return f"{begin}, for {self.duration_s:g} s"
        return f"{begin} to its end" if self.range_name is not None else f"{begin}, until {SIGNAL} or the program's end"


def check_window(window: Window) -> None:
    """Raises `UsageError` for a window that cannot be."""
    if window.delay_s < 0:
        raise UsageError(f"--delay is {window.delay_s:g} s; it must be at least 0")
    if window.duration_s is not None and window.duration_s <= 0:
        raise UsageError(f"--duration is {window.duration_s:g} s; it must be above 0")
    if window.start_on is not None and window.delay_s:
        raise UsageError("--delay and --start-on were given; both say when the recording begins: give one")
    if window.start_on is not None and (not window.start_on or "@" in window.start_on):
        raise UsageError(f"--start-on is {window.start_on!r}; name a range without its domain, or {SIGNAL}")


@contextlib.contextmanager
def signalled() -> Iterator[threading.Event]:
    """An event that is set when this process gets `SIGNAL`, which does nothing else meanwhile; who has seen it clears it."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = signal.signal(signal.SIGUSR1, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGUSR1, previous if previous is not None else signal.SIG_DFL)
