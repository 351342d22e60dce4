"""Measure aisp-trace against a bare scan and against nsys, interleaved, every command as a fresh process.

    python benchmarks/run.py [--sizes 1000,100000,1000000,10000000] [--repeat 3] [--output benchmarks/results.md]

Traces that are not there yet are generated first. One round runs every command on every size once, so that a slow spell
of the machine meets all of them; a ratio is formed inside its round, and the table shows medians over the rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aisp_trace.benchmarks.measure import measure
from aisp_trace.benchmarks.more_calls import more_calls
from aisp_trace.benchmarks.results_page import COLD, FIRST, SECOND, SMALL, WINDOW, Series, results

HERE: Final = Path(__file__).resolve().parent
PYTHON: Final = (sys.executable, "-P", "-m")
TOOL: Final = (*PYTHON, "aisp_trace.cli")

SIZES: Final = (SMALL, 100_000, 1_000_000, 10_000_000)

MORE_CALLS: Final = 1_000_000
"""Kernels of the trace that is also measured with four calls a kernel."""
MOST_ROUNDS: Final = {10_000_000: 2}
"""Kernels of a trace -> rounds that are enough, where three would take too long."""

BYTES_PER_KERNEL: Final = 200
"""Room on the disk that a trace needs at most."""

RECORDERS: Final = (
    "AISP_TRACE_RECORDER",
    "NVTX_INJECTION64_PATH",
    "NVTX_INJECTION32_PATH",
    "NSYS_PROFILING_SESSION_ID",
)
"""Variables by which a recorder would switch stages on."""

UNLIKE_AN_INSTALL: Final = ("PYTHONDONTWRITEBYTECODE", "AISP_TRACE_NO_NUMBA", "NUMBA_DISABLE_JIT", "NUMBA_CACHE_DIR")
"""Variables by which a process would not do what it does where the package is installed: compile each module once, and
large traces' primitives with numba, which come with it."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure aisp-trace against a bare scan and against nsys.")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="kernels per trace, separated by commas")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; traces of 10 million kernels get at most 2")
    parser.add_argument("--traces", type=Path, default=Path(tempfile.gettempdir()) / "aisp-trace-benchmarks")
    parser.add_argument("--output", type=Path, default=HERE / "results.md")
    given = parser.parse_args(argv)
    try:
        sizes = sorted({int(size) for size in given.sizes.split(",")})
    except ValueError:
        parser.error(f"--sizes takes numbers separated by commas, not {given.sizes!r}")
    if given.repeat < 1:
        parser.error("--repeat takes a number of at least 1")
    environment = {k: v for k, v in os.environ.items() if k not in (*RECORDERS, *UNLIKE_AN_INSTALL)}
    environment["XDG_CACHE_HOME"] = str(given.traces / "cache")
    traces = {size: path for size in sizes if (path := _trace(given.traces, size, environment)) is not None}
    series = _plan(traces, environment)
    stages = _measure(series, given.repeat, environment)
    text = results(series, stages, given.repeat)
    given.output.write_text(text, encoding="utf-8")
    print(text)
    return 0


def _trace(folder: Path, size: int, environment: Mapping[str, str]) -> Path | None:
    """The generated trace of `size` kernels; its name holds a digest of the generator, so that it is never stale."""
    sources = sorted([*HERE.glob("*.py"), HERE / "schema_2025.sql"])
    own = {"run.py", "results_page.py", "measure.py", "scan.py", "stage_cost.py", "more_calls.py"}
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sources if p.name not in own)).hexdigest()[:12]
    path = folder / f"kernels_{size}_{digest}.sqlite"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < size * BYTES_PER_KERNEL:
        _say(f"{folder} lacks the room for a trace of {size:,} kernels; that size is left out")
        return None
    _say(f"generating {size:,} kernels")
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    subprocess.run(
        [*PYTHON, "aisp_trace.benchmarks.generate", str(part), "--kernels", str(size)],
        env=dict(environment), check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    part.rename(path)
    return path


def _plan(traces: Mapping[int, Path], environment: Mapping[str, str]) -> list[Series]:
    """Every command on every trace, and those that need none (size 0)."""
    nsys = os.environ.get("AISP_NSYS") or shutil.which("nsys")
    report = _kernel_report(nsys, environment) if nsys else None
    planned = []
    for size, path in traces.items():
        file = str(path)
        look = (*TOOL, "analyze", file, "--json")
        planned.append(Series(size, "scan", (sys.executable, "-I", str(HERE / "scan.py"), file)))
        planned.append(Series(size, COLD, (*look, "--no-cache")))
        planned.append(Series(size, FIRST, look, forget=path))
        planned.append(Series(size, SECOND, look))
        planned.append(Series(size, WINDOW, (*look, "--window", "100ms:1s"), forget_analyses=True))
        if nsys and report:
            command = (nsys, "stats", "--report", report, "--format", "csv", file)
            planned.append(Series(size, "nsys", command, proof="Total Time"))
        if size == MORE_CALLS:
            more = path.with_name(f"calls_{path.name}")
            if not more.exists():
                _say(f"adding calls to {size:,} kernels")
                more_calls(path, more)
            planned.append(Series(size, f"{COLD}, 4 calls", (*TOOL, "analyze", str(more), "--json", "--no-cache")))
    planned.append(Series(0, "--help", (*TOOL, "--help")))
    return planned


def _kernel_report(nsys: str, environment: Mapping[str, str]) -> str | None:
    """What this version of nsys calls its kernel summary."""
    offered = measure([nsys, "stats", "--help-reports"], environment)
    known = (name for name in ("cuda_gpu_kern_sum", "gpukernsum") if name in offered.output + offered.said)
    return next(known, None)


def _measure(series: Sequence[Series], rounds: int, environment: Mapping[str, str]) -> list[float]:
    """Run everything; returns nanoseconds of a stage, one number a round. Files and caches are warmed first."""
    for one in series:
        if one.label in ("scan", COLD):
            _say(f"warming up: {one.label}, {one.size:,} kernels")
            measure(one.command, environment)
    stages = []
    for number in range(rounds):
        for one in series:
            if number >= MOST_ROUNDS.get(one.size, rounds):
                one.costs.append(None)
                continue
            _forget(one, Path(environment["XDG_CACHE_HOME"]))
            cost = measure(one.command, environment)
            one.costs.append(cost)
            outcome = f"{cost.wall_s:.2f} s" if one.counts(cost) else f"failed, exit {cost.exit_code}: {cost.said}"
            on = f", {one.size:,} kernels" if one.size else ""
            _say(f"round {number + 1}: {one.label}{on}: {outcome}")
        stage = measure([*PYTHON, "aisp_trace.benchmarks.stage_cost"], environment)
        if stage.exit_code == 0:
            stages.append(float(stage.output))
    return stages


def _forget(one: Series, cache: Path) -> None:
    """Delete what earlier commands kept, as far as `one` says."""
    if one.forget is not None:
        shutil.rmtree(one.forget.with_name(one.forget.name + ".aisp-cache"), ignore_errors=True)
    if one.forget is not None or one.forget_analyses:
        shutil.rmtree(cache / "aisp-trace" / "analyses", ignore_errors=True)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
