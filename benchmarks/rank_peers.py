"""What HTA says of a job of ranks, and what the rows of its traces say, counted in plain Python.

    python -P -m aisp_trace.benchmarks.rank_files JOB --ranks 8 --kernels 1000 --torch [--one-clock]
    pip install HolisticTraceAnalysis 'pandas<3'          # in an environment of its own
    python benchmarks/rank_peers.py JOB                   # with that environment's python

JOB is any folder of torch.profiler traces, one a rank. Beside it belongs ``aisp-trace ranks JOB --json``.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import importlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def counted(file: Path) -> dict[str, Any]:
    """Of one trace: rank, us of communication kernels, of these without any other kernel beside them, and of its iterations."""
    content = file.read_bytes()
    trace = json.loads(gzip.decompress(content) if file.suffix == ".gz" else content)
    events = [e for e in trace["traceEvents"] if e.get("ph") == "X"]
    steps = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if str(e["name"]).startswith("ProfilerStep#"))
    low, high = steps[0][0], steps[-1][1]
    kernels = [
        (max(e["ts"], low), min(e["ts"] + e["dur"], high), "nccl" in e["name"])
        for e in events
        if e["cat"] == "kernel" and e["ts"] < high and e["ts"] + e["dur"] > low
    ]
    comm, bare = swept(kernels)
    inside = sum(end - start for start, end in steps)
    return {"rank": trace["distributedInfo"]["rank"], "comm_us": comm, "exposed_us": bare, "iterations_us": inside}


def swept(kernels: Sequence[tuple[float, float, bool]]) -> tuple[float, float]:
    """Time with communication, and that with communication alone: one sweep over starts and ends."""
    edges = sorted((at, change, comm) for start, end, comm in kernels for at, change in ((start, 1), (end, -1)))
    open_ = {True: 0, False: 0}
    total = bare = 0.0
    before = edges[0][0] if edges else 0.0
    for at, change, comm in edges:
        if open_[True]:
            total += at - before
            bare += 0.0 if open_[False] else at - before
        open_[comm] += change
        before = at
    return total, bare


def asked_hta(folder: Path) -> Iterator[tuple[str, Any]]:
    """HTA's answers, or how it failed; nothing where it is not installed."""
    try:
        analysis: Any = importlib.import_module("hta.trace_analysis")
    except ModuleNotFoundError:
        return
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()):
        job = analysis.TraceAnalysis(trace_dir=str(folder))
    overlap = job.get_comm_comp_overlap(visualize=False)
    yield "hidden %", dict(zip(overlap["rank"].tolist(), overlap["comp_comm_overlap_pctg"].tolist(), strict=True))
    try:
        yield "stragglers", job.get_potential_stragglers(num_candidates=1)
    except Exception as exc:  # whatever it is, it is the answer
        yield "stragglers", repr(exc)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line of JSON for the rows, and one for each of HTA's answers."""
    parser = argparse.ArgumentParser(description="What other tools say of a job of ranks.", allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    rows = [counted(file) for file in sorted(asked.folder.glob("*.json*"))]
    hidden = {row["rank"]: round(100 * (1 - row["exposed_us"] / row["comm_us"]), 2) for row in rows if row["comm_us"]}
    share = sum(row["exposed_us"] for row in rows) / sum(row["iterations_us"] for row in rows)
    print(json.dumps({"rows": {"hidden %": hidden, "exposed share of iterations": round(share, 5)}}))
    for question, answer in asked_hta(asked.folder):
        print(json.dumps({"HTA": {question: answer}}, default=str))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
