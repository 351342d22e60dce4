"""Whether the compiled primitives of `fast` are used: on large inputs, where numba is installed.

Compiling takes seconds, so small traces never pay for it; code that an earlier process has left is used by smaller ones, too.
Every primitive has a numpy version that gives the same answer; this module only chooses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Final

from ..traces.compiled import Loader

THRESHOLD: int = 200_000
"""From this many elements on a primitive runs compiled, even if it has to be compiled first. Tests set it to 0 or to a very
large number."""

KEPT_SHARE: Final = 10
"""Where the machine code of an earlier process is kept, a primitive runs compiled from this part of the threshold on."""

SLOW_LOAD_S: Final = 2.0
"""Loading kept machine code takes less than this; what takes longer is compiling."""

FAST: Final = Loader(".fast", __package__)


def accelerated(size: int) -> ModuleType | None:
    """The module `fast` if it should be used on `size` elements, else null."""
    if size * KEPT_SHARE < THRESHOLD:
        return None
    return FAST.get(compiling=size >= THRESHOLD)


def prepare(say: Callable[[str], None]) -> None:
    """Load `fast` ahead of its use (for instance while a file is read); `say` is told if it has to be compiled."""
    timer = threading.Timer(SLOW_LOAD_S, say, ("compiling the fast primitives, once",))
    timer.daemon = True
    timer.start()
    try:
        FAST.get()
    finally:
        timer.cancel()
