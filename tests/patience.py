"""How long a test waits for something that always comes, and how it is told that it has come.

On a busy machine a process may need a hundred times as long to start as on a quiet one. So no test waits a fixed time and then
looks: it waits for what it needs, and the longest wait only turns a hang into a failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import pytest

from aisp_trace.capture.nsys_starts import AGENT_FAILURES

T = TypeVar("T")

PATIENCE_S: Final = 300.0
"""After this long something hangs."""

TIMEOUTS_S: Final = (3.0, 15.0, 75.0, PATIENCE_S)
"""For tests of a timeout, which has to strike after a program is up: each is tried until one does."""


def wait_until(happened: Callable[[], T], what: str) -> T:
    """The first true answer of `happened`."""
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := happened()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE_S:g} s: {what}")
        time.sleep(0.02)
    return answer


def text_of(file: Path) -> str:
    """The text in `file`, once there is any; programs replace the file, so that it is never half there."""
    return wait_until(lambda: file.is_file() and file.read_text(encoding="utf-8"), f"text in {file.name}") or ""


def timed_out_when_up(run: Callable[[float], T], up: Path) -> T:
    """What `run` answers for the first timeout (s) that leaves its program the time to write the file `up`."""
    for timeout_s in TIMEOUTS_S:
        answer = run(timeout_s)
        if up.is_file():
            return answer
    pytest.fail(f"{up.name} was not written within {PATIENCE_S:g} s")


def nsys_lost_its_agent(said: str) -> bool:
    """Whether nsys failed by itself. `capture` does not start a program of the user's again, which may have begun; a test may."""
    return any(failure in said for failure in AGENT_FAILURES)
