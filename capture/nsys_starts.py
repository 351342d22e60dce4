"""How nsys fails by itself while it starts, so that it may be started again: each was seen on busy machines."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .nsys_report import REPORT, STREAM

LOGS: Final = ("stdout", "stderr")

STARTUP_FAILURE: Final = "Connection reset by peer"
"""All that nsys 2022.4 says, rarely and under heavy load, when its own agent did not come up: nothing has run then."""

FOUND_FAILURE: Final = ("Agent::InstanceInfo ", "std::exception::what: No such file or directory")
"""Likewise, when another nsys looks for the session before its agent is up: both may fail."""

LAUNCHER_FAILURE: Final = "Agent launcher failed."
"""All that it says when the process that starts the program did not come up; ``nsys launch`` then lives on with nothing to do."""

AGENT_FAILURES: Final = ("Connection to the Agent lost.", "End of file", "Server not found.")
"""One of these, once or twice, is all that nsys 2022.4 says when its agent was lost before anything was recorded, also with exit
code 0. Whether the program had been started by then it does not say either."""

WAITER_FAILURE: Final = ("QuadDCommon::ProcessWaiter::", "] = sem_open")
"""Parts of all that nsys 2022.4 says when it loses a race with itself: its agent opens a semaphore that its launcher may not have
made yet. The launcher starts the program only when the agent tells it to, more than a second later, so nothing has run then."""

ENDPOINT_FAILURE: Final = ("QuadDProtobufComm::Client::ClientProxy::", "Local Endpoint is not available.")
"""Likewise, when nsys 2022.4 has no connection to its own agent yet, which is what starts the program."""

_AGENT_LOST: Final = re.compile(rf"(?:(?:{'|'.join(map(re.escape, AGENT_FAILURES))})\s*)+")

_RACES: Final = (WAITER_FAILURE, FOUND_FAILURE, ENDPOINT_FAILURE)

_OWN_EXCEPTION: Final = re.compile(
    r"/\S+\(\d+\): Throw in function .*\bQuadD\w*::.*(?:\n(?:Dynamic exception type: |std::exception::what: |\[).*)*"
)
"""All of an exception of nsys's own, whichever it is: where it was thrown, then one line for each thing known of it."""

STARTS: Final = 6
"""How often nsys is started while it fails by itself. On a busy machine one start in eight lost its race (7 of 52)."""

PAUSE_S: Final = 0.25
"""Seconds to wait before nsys is started again, once more with each start: what makes it lose its race lasts for moments."""


def starts() -> Iterator[int]:
    """The starts that nsys gets, from 0, each after a longer pause than the one before."""
    for start in range(STARTS):
        time.sleep(PAUSE_S * start)
        yield start


def failed_itself(folder: Path, exit_code: int, *, gated: bool) -> bool:
    """Whether nsys failed while it started, said so with nothing else in its logs, and the program may be run again."""
    said = _said(folder)
    if _never_began(said):
        return exit_code != 0 and not _left_something(folder)
    own = _OWN_EXCEPTION.fullmatch(said) is not None or _AGENT_LOST.fullmatch(said) is not None
    return gated and own and not _left_something(folder)


def launches_nothing(folder: Path) -> bool:
    """Whether an ``nsys launch`` that may still live has failed so: the program was not started, and will not be."""
    return _never_began(_said(folder))


def _said(folder: Path) -> str:
    return "".join(
        (folder / f"nsys-profile.{name}.log").read_text(encoding="utf-8", errors="replace").strip() for name in LOGS
    )


def _never_began(said: str) -> bool:
    """Whether all that nsys `said` is how it fails before the program has started."""
    lost = said.startswith("/") and any(said.endswith(end) and part in said for part, end in _RACES)
    return lost or said in (STARTUP_FAILURE, LAUNCHER_FAILURE)


def _left_something(folder: Path) -> bool:
    return (folder / REPORT).exists() or (folder / STREAM).exists()
