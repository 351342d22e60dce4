"""What ``import aisp_trace`` offers as ``aisp_trace.compare``."""

from __future__ import annotations

from pathlib import Path

from ...analyze.sources import Asked
from .compare import Choices, Compared, compare


def compare_recordings(
    base: str | Path | None = None,
    opt: str | Path | None = None,
    *,
    window: str | None = None,
    against: str | None = None,
    attribution: str = "process",
    domain: str | None = None,
    stages: str | None = None,
    depth: int | None = None,
    exact: bool = False,
) -> Compared:
    """Two recordings, or the variants of one run, held against each other, as ``aisp-trace compare`` does it.

    `base` and `opt` are runs, ``RUN:VARIANT`` or traces; without any, the newest run. The terms of each comparison sum exactly
    to its difference. Raises `UsageError` where they name nothing to be compared, `InputError` for what cannot be read.
    """
    words = [str(word) for word in (base, opt) if word is not None]
    asked = Asked(window, attribution, domain, stages=stages, depth=depth, fold=not exact)
    return compare(words, Choices(asked, against, exact))
