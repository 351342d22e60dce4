"""How many generated examples a property is tried on."""

from __future__ import annotations

import os
from typing import Final

SAME_EACH_TIME: Final = bool(os.environ.get("CI"))
"""In CI the same examples are tried every time (tests/conftest.py), so that many of them find a fault once or never. Elsewhere
each run tries others."""


def examples(usual: int) -> int:
    """`usual`, or in CI two fifths of it, ten at least."""
    return min(usual, max(usual * 2 // 5, 10)) if SAME_EACH_TIME else usual
