"""NVTX ranges of one domain, made so that they are right in forked processes too.

An annotation holds its registered string, category and payload and keeps no state of its own, so threads may share it: a range
met before costs one look-up. Registered strings are why `-p measured@aisp` needs NSYS_NVTX_PROFILER_REGISTER_ONLY=0, and why a
forked process must make its annotations anew (``nvtx_forks.py``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .nvtx_forks import forget_nvtx


def nvtx_ranges(domain: str) -> Callable[[str, str | None, int | None], Any]:
    """Gives the range of a name, kind (the category) and number of bytes (the payload); raises `ImportError` without nvtx."""
    import nvtx

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
