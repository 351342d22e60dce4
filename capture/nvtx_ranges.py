"""NVTX ranges of one domain, made so that they are right in forked processes too.

An annotation holds its registered string, category and payload and keeps no state of its own, so threads may share it: a range
met before costs one look-up. Registered strings are why `-p measured@aisp` needs NSYS_NVTX_PROFILER_REGISTER_ONLY=0, and why a
forked process must make its annotations anew (``nvtx_forks.py``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from .nvtx_forks import forget_nvtx

LACKING_VARIABLE: Final = "AISP_TRACE_LACKING"
"""Names a file that a recorded program makes where its environment has no nvtx: only the program knows its environment."""

LACKING: Final = "nvtx-is-missing"


def nvtx_ranges(domain: str) -> Callable[[str, str | None, int | None], Any]:
    """Gives the range of a name, kind (the category) and number of bytes (the payload).

    Raises `ImportError` without nvtx, after it has told the recorder so.
    """
    try:
        import nvtx
    except ImportError:
        if file := os.environ.get(LACKING_VARIABLE):
            with suppress(OSError):  # what the program does not depend on must not end it
                Path(file).touch()
        raise

    made: dict[tuple[str, str | None, int | None], Any] = {}

    def emit(name: str, kind: str | None, nbytes: int | None) -> Any:
        key = (name, kind, nbytes)
        annotation = made.get(key)
        if annotation is None:
            annotation = made[key] = nvtx.annotate(name, domain=domain, category=kind, payload=nbytes)
        return annotation

    def forget() -> None:
        made.clear()
        forget_nvtx()

    os.register_at_fork(after_in_child=forget)
    return emit
