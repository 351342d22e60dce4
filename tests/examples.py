"""How many generated examples a property is tried on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import pytest

Item = TypeVar("Item")

SAME_EACH_TIME: Final = bool(os.environ.get("CI"))
"""In CI the same examples are tried every time (tests/conftest.py), so that many of them find a fault once or never. Elsewhere
each run tries others."""


def examples(usual: int) -> int:
    """`usual`, or in CI two fifths of it, ten at least."""
    return min(usual, max(usual * 2 // 5, 10)) if SAME_EACH_TIME else usual


def sampled(usual: Sequence[Item]) -> list[Item]:
    """`usual`, or in CI two fifths of them, spread evenly and with the first."""
    kept = examples(len(usual))
    return [usual[i * len(usual) // kept] for i in range(kept)]


def nightly(*usual: object) -> list[Any]:
    """Parameters of the nightly set; several that are a tuple are those of one test."""
    return [pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=pytest.mark.nightly) for one in usual]
