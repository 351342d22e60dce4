"""Tasks for the executors under test: modules of their own, so that fresh processes can import them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def length(word: str) -> int:
    """How long `word` is."""
    return len(word)


def dies_of_b(word: str) -> int:
    """`length`, but ``b`` kills the process, as the system does when memory runs out."""
    if word == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return len(word)


def slow_length(word: str) -> int:
    """`length` of the last part of a path, after saying which process works on it in a file of that name."""
    Path(f"{word}.{os.getpid()}").touch()
    time.sleep(0.3)
    return len(Path(word).name)
