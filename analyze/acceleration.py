"""Whether the compiled primitives of `fast` are used: on large inputs, where numba is installed.

Loading numba and its cached machine code takes a good part of a second, so small traces never pay for it. Every primitive
has a numpy version that gives the same answer; this module only chooses.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Final

from ..traces.nsys_pages import decoder

THRESHOLD: int = 200_000
"""From this many elements on a primitive runs compiled. Tests set it to 0 or to a very large number."""

SLOW_LOAD_S: Final = 2.0
"""Loading cached machine code takes less than this; what takes longer is compiling."""

_lock = threading.Lock()
_loaded: list[ModuleType | None] = []


def accelerated(size: int) -> ModuleType | None:
    """The module `fast` if it should be used on `size` elements, else null."""
    return _load() if size >= THRESHOLD else None


def prepare(say: Callable[[str], None]) -> None:
    """Load `fast` ahead of its use (for instance while a file is read); `say` is told if it has to be compiled."""
    timer = threading.Timer(SLOW_LOAD_S, say, ("compiling the fast primitives, once",))
    timer.daemon = True
    timer.start()
    try:
        _load()
    finally:
        timer.cancel()


def _load() -> ModuleType | None:
    with _lock:
        if not _loaded:
            _loaded.append(_import() if decoder() is not None else None)
        return _loaded[0]


def _import() -> ModuleType | None:
    try:
        return importlib.import_module(".fast", __package__)
    except ImportError:
        return None  # numba is optional
