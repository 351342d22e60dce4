"""Recording a part of a program: wait for its beginning, begin, wait for its end, end; the program goes on meanwhile and after.

What begins and ends a recording is the recorder's (`Controls`): ``nsys_session.py`` and ``torch_runs.py``.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from ..traces.errors import RecorderError, WorkloadError
from .processes import Finished, how_ended
from .running import Running, pause
from .window import SIGNAL, Window


class Controls(Protocol):
    """What a recorder offers while a program runs."""

    def check(self) -> None:
        """Raises `RecorderError` if the recorder has failed to start the program, though it may itself live on."""
        ...

    def begin(self) -> None:
        """Begin now, or when the window's range does; raises `RecorderError` if that fails."""
        ...

    def recording(self) -> bool:
        """Whether it has begun: later than `begin` where a range begins it."""
        ...

    def complete(self) -> bool:
        """Whether it has ended by itself, with the window's range."""
        ...

    def end(self) -> None:
        """End now; the trace is whole when this returns. Raises `RecorderError` if that fails."""
        ...


def drive(
    window: Window, running: Running, controls: Controls, asked: threading.Event, *, who: str, timeout_s: float
) -> str:
    """Record the `window` of program `who`; answers with what ended the recording, for people.

    `asked` is set by `SIGNAL`. Raises `WorkloadError` if the program ends before it begins, `RecorderError` if that does not
    happen, or the end does not, within `timeout_s` of the program's start.
    """

    def watch(for_what: str) -> None:
        if time.monotonic() > running.begun + timeout_s:
            raise RecorderError(
                f"{who} was not recorded {window.describe()}: {for_what} within {timeout_s:g} s of its start; give it longer "
                "with --timeout"
            )
        pause()

    def must_run() -> None:
        if (code := running.exit_code) is not None:
            raise WorkloadError(f"{who} {how_ended(code)} before its recording began, which is {window.describe()}")
        controls.check()

    if window.range_name is None:
        at = running.begun + window.delay_s
        while not (asked.is_set() if window.start_on else time.monotonic() >= at):
            must_run()
            watch(f"no {SIGNAL} came" if window.start_on else "its beginning was not due")
        asked.clear()
    must_run()
    controls.begin()
    while not controls.recording():
        must_run()
        watch("it did not begin")
    begun = time.monotonic()
    by_range = window.range_name is not None and window.duration_s is None
    while not (by_range and controls.complete()):
        over = window.duration_s is not None and time.monotonic() >= begun + window.duration_s
        gone = running.exit_code is not None
        if over or gone or asked.is_set():
            controls.end()
            return "the program ended" if gone else f"{window.duration_s:g} s were over" if over else f"{SIGNAL} came"
        watch("it did not end")
    return "the range ended"


def after_recording(window: Window, running: Running) -> Finished:
    """How the program stands when its recording is over, as of one that ended well while it goes on; `kill` ends it first."""
    if window.kill:
        running.close()
    code = 0 if window.kill else running.exit_code or 0
    return Finished(code, round((time.monotonic() - running.begun) * 1e9), False, running.forked)
