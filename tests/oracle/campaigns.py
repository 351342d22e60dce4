"""Which seeds of `strategies.seeded_case` a test tries by default, and which in the nightly set."""

from __future__ import annotations

from typing import Any

import pytest

from aisp_trace.tests.examples import examples


def seeds(few: int, many: int, chunk: int) -> list[Any]:
    """Parameters, each a range of `chunk` seeds: those below `few` by default, the rest of `many` in the nightly set.

    In CI, where they are the same each time, the first ones of each range.
    """
    return [
        pytest.param(
            range(first, first + examples(chunk)), id=str(first), marks=() if first < few else pytest.mark.nightly
        )
        for first in range(0, many, chunk)
    ]
