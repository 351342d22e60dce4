"""What a job of ranks costs, measured: partials, their size, and the merge, at several numbers of ranks.

    python -P -m aisp_trace.benchmarks.scale --ranks 16 64 256 1024 --iterations 12

Ranks are those of `benchmarks.ranks`: real iterations of two ranks of an H200, multiplied. Times are processor seconds of one
thread, so that what else runs on the machine counts little; memory is the most that the process held.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence

import numpy as np

from aisp_trace.analyze.ranks import partials
from aisp_trace.analyze.ranks.job import job_of
from aisp_trace.analyze.ranks.look import Look
from aisp_trace.analyze.ranks.make import ranks_of
from aisp_trace.analyze.ranks.rank import Rank
from aisp_trace.benchmarks.ranks import Delay, Plan, Simulated, templates
from aisp_trace.report.documents.ranks import document
from aisp_trace.report.ranks.page import render


def measure(ranks: int, iterations: int) -> dict[str, float]:
    """The costs of a job of so many ranks: seconds of processor, bytes, and MiB at most."""
    rng = np.random.default_rng(ranks)
    delays = {(int(rng.integers(ranks)), i): [Delay("h2d", 900_000)] for i in range(0, iterations, 3)}
    offsets = {r: int(rng.integers(-(10**9), 10**9)) for r in range(ranks)}
    job = Simulated(Plan(ranks, iterations, delays, offset_ns=offsets), templates())
    made: list[Rank] = []
    making, size, ops = 0.0, 0, 0
    for r in range(ranks):
        trace = job.trace(r)
        ops += trace.ops.height
        begun = time.process_time()
        for one in ranks_of(trace, Look(), f"clock {r}"):
            content = partials.content(one, {})
            making += time.process_time() - begun
            size += len(content)
            made.append(one)
    before = _peak_mib()
    begun = time.process_time()
    merged = job_of(made)
    merging = time.process_time() - begun
    page, answer = render(merged, []), json.dumps(document(merged, []))
    assert {s.rank for s in merged.steps if s.rank is not None} == {r for r, _ in delays}
    return {
        "ranks": ranks,
        "ops": ops,
        "partial_s": making / ranks,
        "partial_bytes": size / ranks,
        "merge_s": merging,
        "merge_mib": _peak_mib() - before,
        "peak_mib": _peak_mib(),
        "page_bytes": len(page.encode()),
        "json_bytes": len(answer),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line of JSON for each number of ranks."""
    parser = argparse.ArgumentParser(description="What a job of ranks costs.", allow_abbrev=False)
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 64, 256, 1024])
    parser.add_argument("--iterations", type=int, default=12)
    asked = parser.parse_args(argv)
    for ranks in asked.ranks:
        print(json.dumps(measure(ranks, asked.iterations)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
