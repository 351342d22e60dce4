"""Generate a large, realistic nsys SQLite export of a data-parallel training: same arguments, same rows.

    python benchmarks/generate.py OUT.sqlite --kernels 1000000 --processes 2 --devices 2 --seed 0

The file has the schema of nsys 2025.3 and is accepted by ``nsys stats``. What it holds is in ``training.py``; how much of
everything is in the `Truth` that comes back, and with ``--truth FILE`` in a JSON file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from aisp_trace.benchmarks.export_file import ExportFile
from aisp_trace.benchmarks.export_rows import append
from aisp_trace.benchmarks.facts import finish_facts, write_facts
from aisp_trace.benchmarks.layout import Shape, graph_nodes
from aisp_trace.benchmarks.metrics import Sampler
from aisp_trace.benchmarks.training import StartUp, Training
from aisp_trace.benchmarks.truth import Truth

KERNELS_PER_CHUNK: Final = 50_000
"""Kernels simulated at once: what bounds the memory, whatever the size of the trace."""

MOST_PER_STEP, LEAST_PER_STEP, STEPS_AT_LEAST = 1_000, 40, 6
START_UP: Final = 16
"""Kernels that each process launches at least before its first step."""

FIRST_PID, PID_STRIDE = 4_242, 131


def generate(
    path: Path,
    *,
    kernels: int,
    processes: int = 2,
    devices: int = 2,
    seed: int = 0,
    graph_share: float = 0.1,
    gpu_metrics_hz: int = 0,
) -> Truth:
    """Write an export with exactly `kernels` kernel rows to `path` (which must not exist) and return what is in it.

    Process p works on device p modulo `devices`. `graph_share` of the kernels of a step are nodes of CUDA graphs.
    With `gpu_metrics_hz` counters are sampled that often. Raises `ValueError` for arguments that do not fit together
    and `FileExistsError` if `path` exists.
    """
    least = processes * (LEAST_PER_STEP + START_UP)
    if processes < 1 or not 1 <= devices <= processes:
        raise ValueError(f"{devices} devices do not fit {processes} processes: each device needs a process")
    if kernels < least:
        raise ValueError(f"{kernels} kernels are too few for {processes} processes: give at least {least}")
    if not 0 <= graph_share <= 0.5:
        raise ValueError(f"a graph share of {graph_share} was asked for; it is between 0 and 0.5")
    if path.exists():
        raise FileExistsError(f"{path} exists")
    available = kernels // processes - START_UP
    layout = Shape.of(max(LEAST_PER_STEP, min(MOST_PER_STEP, available // STEPS_AT_LEAST)), graph_share)
    steps = available // layout.total
    spare = kernels - steps * layout.total * processes
    rng = np.random.default_rng(seed)
    truth = Truth()
    placed = [p % devices for p in range(processes)]
    pids = [FIRST_PID + PID_STRIDE * p for p in range(processes)]
    with ExportFile(path, rng, pids, placed, truth) as file:
        write_facts(file, ["python"] * processes, graph_nodes(layout.graph), seed)
        sampler = Sampler(file, rng, gpu_metrics_hz) if gpu_metrics_hz else None
        counts = [spare // processes + (p < spare % processes) for p in range(processes)]
        recording, length = StartUp(rng, 0, 1, placed).run(counts)
        now = 5_000_000
        append(file, recording, np.array([now]))
        now += int(length[0])
        chunk = max(1, KERNELS_PER_CHUNK // (layout.total * processes))
        for first in range(0, steps, chunk):
            recording, length = Training(rng, first, min(chunk, steps - first), placed, layout).run()
            offsets = now + np.concatenate([[0], np.cumsum(length)])
            ran = append(file, recording, offsets[:-1])
            now = int(offsets[-1])
            if sampler is not None:
                sampler.sample(*ran, until=now)
        if sampler is None:
            for table in ("GPU_METRICS", "TARGET_INFO_GPU_METRICS"):
                file.database.execute(f"DROP TABLE {table}")
        finish_facts(file)
    return truth


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Generate a large, realistic nsys SQLite export.")
    parser.add_argument("out", type=Path, help="the file to write; it must not exist")
    parser.add_argument("--kernels", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices", type=int, default=2, help="at most one for each process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--graph-share", type=float, default=0.1, help="share of kernels that are CUDA graph nodes")
    parser.add_argument(
        "--gpu-metrics", type=int, default=0, metavar="HZ", help="sample counters this often (default: never)"
    )
    parser.add_argument("--truth", type=Path, help="write what the file holds as JSON")
    given = parser.parse_args(argv)
    began = time.perf_counter()
    try:
        truth = generate(
            given.out,
            kernels=given.kernels,
            processes=given.processes,
            devices=given.devices,
            seed=given.seed,
            graph_share=given.graph_share,
            gpu_metrics_hz=given.gpu_metrics,
        )
    except (ValueError, OSError) as error:
        print(f"generate: {error}", file=sys.stderr)
        return 2
    if given.truth is not None:
        given.truth.write_text(json.dumps(truth.to_json(), indent=1) + "\n", encoding="utf-8")
    took, size = time.perf_counter() - began, given.out.stat().st_size
    print(f"{given.out}: {size / 1e6:,.0f} MB in {took:.1f} s, {truth.end_ns / 1e9:.2f} s of trace")
    for table, count in sorted(truth.rows.items()):
        print(f"  {table:<40} {count:>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
