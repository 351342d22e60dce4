"""Two functions of a test, timed on a clock that the test turns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.capture import host
from aisp_trace.cli.paired import Asked, judge_pair


def claim(name: str, **bounds: Any) -> dict[str, Any]:
    """A time claim that somebody has decided."""
    source = {"kind": "definition", "text": "what is asked"}
    limits = {"baseline": 3_600_000, "optimized": 3_600_000}
    sides = {"workload": "mine", "variant": "optimized", "baseline": "baseline", "size": None}
    return {
        "type": "time",
        "id": name,
        **sides,
        "ratio": {"min": 1.5},
        "max_ms": limits,
        "why": "x",
        "source": source,
        **bounds,
    }


@pytest.mark.parametrize(
    ("first", "rounds", "statuses"),
    [
        (claim("mine.faster", ratio={"min": 9.0}), 12, {"missed", "inconclusive", "met"}),
        (claim("mine.faster"), 40, {"inconclusive", "met"}),
    ],
)
def test_a_miss_ends_the_rounds_of_functions_too(
    first: dict[str, Any], rounds: int, statuses: set[str], tmp_path: Path
) -> None:
    """2x, and a limit that lies among the rounds, which no number of them decides."""
    now = [0]
    calls = [0]

    def lasting(ms: float) -> Callable[[], None]:
        def call() -> None:
            calls[0] += 1
            now[0] += round((ms + 0.01 * (calls[0] // 2 * 7 % 5)) * 1e6)

        return call

    key = host.hardware("cuda" if host.visible_gpus() else "cpu").key
    second = claim("mine.open", max_ms={"baseline": 3_600_000, "optimized": 5.02})
    document = {"schema": "aisp-trace/expectations/2", "hardware_key": key, "claims": [first, second]}
    (tmp_path / f"expectations_{key}.json").write_text(json.dumps(document), encoding="utf-8")
    asked = Asked("mine", None, tmp_path, None, 1e9, None, lambda: now[0], tmp_path)
    verdicts = judge_pair(lasting(10.0), lasting(5.0), asked)
    assert {v.n for v in verdicts if v.part == "speedup"} == {rounds}
    assert {v.status for v in verdicts} == statuses
