"""What ``with stage(...)`` costs while nothing records, in nanoseconds: the best of ten runs of 200,000."""

from __future__ import annotations

import time

from aisp_trace.capture.stages import stage


def stage_ns(calls: int = 200_000, runs: int = 10) -> float:
    """Nanoseconds of one stage, the loop around it included."""
    best = float("inf")
    for _ in range(runs):
        began = time.perf_counter_ns()
        for _ in range(calls):
            with stage("load", kind="h2d", nbytes=1):
                pass
        best = min(best, (time.perf_counter_ns() - began) / calls)
    return best


if __name__ == "__main__":
    print(stage_ns())
