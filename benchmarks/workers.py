"""One worker beside two on the same traces: time and memory of ``aisp-trace ranks``, all its processes together.

    python -P -m aisp_trace.benchmarks.rank_files JOB --ranks 64 --kernels 200000
    python -P -m aisp_trace.benchmarks.workers JOB --workers 1 2 --repeats 3

Runs take turns, so that what else the machine does meets all alike. `wall_s` is what a clock on the wall says; `cpu_s` what it
would be at least if no other process ran: the processor time of the busiest worker and of the command itself. `peak_mib` is
the largest sum of the resident memory of all processes, sampled; pages that they share count in each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

SAMPLED_S: Final = 0.05
"""How often memory is looked at: a worker takes half a second for a trace."""

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. `busiest_s`: processor seconds of the worker that used most, `all_s` of all processes."""

    workers: int
    traces: int
    wall_s: float
    cpu_s: float
    busiest_s: float
    all_s: float
    peak_mib: float


def measure(folder: Path, workers: int, most: int | None) -> Measured:
    """Run the command on the traces in `folder` (the first `most`), reading all of them, one thread a worker."""
    traces = sorted(str(path) for path in folder.glob("*.sqlite"))[:most]
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-P", "-m", "aisp_trace.cli", "ranks", *traces, "--workers", str(workers), "--json"]
        began = time.perf_counter()
        with (Path(place) / "out").open("wb") as out:
            process = subprocess.Popen(
                [*command, "--partial", f"{place}/parts"], stdout=out, env={**os.environ, "POLARS_MAX_THREADS": "1"}
            )
            used: dict[int, float] = {}
            peak = 0
            while process.poll() is None:
                peak = max(peak, _sample(process.pid, used))
                time.sleep(SAMPLED_S)
        wall = time.perf_counter() - began
        answer = json.loads((Path(place) / "out").read_text(encoding="utf-8"))
    if process.returncode != 0 or len(answer["ranks"]) != len(traces):
        raise RuntimeError(
            f"{len(answer['ranks'])} of {len(traces)} traces were merged, exit code {process.returncode}"
        )
    own = used.pop(process.pid)
    busiest = max(used.values(), default=0.0)
    return Measured(workers, len(traces), wall, own + busiest, busiest, own + sum(used.values()), peak / 2**20)


def _sample(root: int, used: dict[int, float]) -> int:
    """Processor seconds of `root` and each process below it into `used`; the sum of their resident bytes."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    held = 0
    for pid in family:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
            held += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        except OSError:
            continue
    return held


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line of JSON a run, then the medians and their ratios to the first number of workers."""
    parser = argparse.ArgumentParser(description="One worker beside two.", allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--traces", type=int, help="read so many; default: all")
    asked = parser.parse_args(argv)
    found: dict[int, list[Measured]] = {n: [] for n in asked.workers}
    for _ in range(asked.repeats):
        for workers, runs in found.items():
            runs.append(measure(asked.folder, workers, asked.traces))
            print(json.dumps(asdict(runs[-1])), flush=True)
    first = found[asked.workers[0]]
    for workers, runs in found.items():
        ratios = {
            name: [getattr(a, name) / getattr(b, name) for a, b in zip(first, runs, strict=True)]
            for name in ("wall_s", "cpu_s")
        }
        said = {f"times_faster_by_{name}": round(median(of), 3) for name, of in ratios.items()}
        print(json.dumps({"workers": workers, **said, "peak_mib": max(run.peak_mib for run in runs)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
