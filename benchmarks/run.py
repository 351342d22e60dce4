"""Measure aisp-trace against a bare scan and against nsys, interleaved, every command as a fresh process.

    python benchmarks/run.py [--sizes 100000,1000000,10000000] [--repeat 3] [--output benchmarks/results.md]

Traces that are not there yet are generated first. One round runs every command on every size once, so that a slow spell
of the machine meets all of them; a ratio is formed inside its round, and the table shows medians over the rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aisp_trace.benchmarks.measure import Cost, measure

HERE: Final = Path(__file__).resolve().parent
PYTHON: Final = (sys.executable, "-P", "-m")
TOOL: Final = (*PYTHON, "aisp_trace.cli")

SIZES: Final = (100_000, 1_000_000, 10_000_000)
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

MIB: Final = 1 << 20
GIB: Final = 1 << 30


@dataclass(slots=True)
class Series:
    """The costs of one command on one trace, round by round; None where it was not run.

    `proof` must be in the output for a cost to count: nsys exits 0 when it shows nothing too.
    """

    size: int
    label: str
    command: tuple[str, ...]
    costs: list[Cost | None] = field(default_factory=list)
    proof: str = ""

    @property
    def good(self) -> list[Cost]:
        return [c for c in self.costs if c is not None and self.counts(c)]

    def counts(self, cost: Cost) -> bool:
        return cost.exit_code == 0 and self.proof in cost.output

    def ratio_to(self, other: Series) -> float | None:
        """Median over the rounds of wall time here by wall time there."""
        pairs = zip(self.costs, other.costs, strict=True)
        ratios = [a.wall_s / b.wall_s for a, b in pairs if a and b and self.counts(a) and other.counts(b)]
        return statistics.median(ratios) if ratios else None


Holds = Callable[[Series, Mapping[str, Series]], bool | None]


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound of the project on one command and size: on the ratio to the scan, the wall time, or the peak memory.

    `holds` sees the command's series and all of that size; None: what it compares with was not measured.
    """

    size: int
    label: str
    text: str
    holds: Holds


def _times(label: str, bound: float) -> Holds:
    def holds(own: Series, others: Mapping[str, Series]) -> bool | None:
        ratio = own.ratio_to(others[label]) if label in others else None
        return None if ratio is None else ratio <= bound

    return holds


def _peak(bound: int) -> Holds:
    return lambda own, others: max(c.peak_bytes for c in own.good) < bound


def _wall(bound_s: float) -> Holds:
    return lambda own, others: statistics.median(c.wall_s for c in own.good) < bound_s


COLD, WARM = "analyze, cold", "analyze, warm"

AIMS: Final = (
    Aim(100_000, COLD, "under 1 s", _wall(1.0)),
    Aim(1_000_000, COLD, "at most 8 scans", _times("scan", 8)),
    Aim(1_000_000, COLD, "under nsys' kernel summary", _times("nsys", 1)),
    Aim(1_000_000, COLD, "under 1 GiB", _peak(GIB)),
    Aim(1_000_000, WARM, "at most 6 scans", _times("scan", 6)),
    Aim(10_000_000, COLD, "at most 5 scans", _times("scan", 5)),
    Aim(10_000_000, COLD, "under 2.5 GiB", _peak(5 * GIB // 2)),
    Aim(0, "--help", "under 0.3 s", _wall(0.3)),
)


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
    environment = {k: v for k, v in os.environ.items() if k not in RECORDERS}
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
    own = {"run.py", "measure.py", "scan.py", "stage_cost.py"}
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
    offered = measure([*TOOL, "analyze", "--help"], environment).output
    cold, warm = _cache_options(offered)
    nsys = os.environ.get("AISP_NSYS") or shutil.which("nsys")
    report = _kernel_report(nsys, environment) if nsys else None
    planned = []
    for size, path in traces.items():
        file = str(path)
        planned.append(Series(size, "scan", (sys.executable, "-I", str(HERE / "scan.py"), file)))
        planned.append(Series(size, COLD, (*TOOL, "analyze", file, "--json", *cold)))
        if warm is not None:
            planned.append(Series(size, WARM, (*TOOL, "analyze", file, "--json", *warm)))
        if nsys and report:
            command = (nsys, "stats", "--report", report, "--format", "csv", file)
            planned.append(Series(size, "nsys", command, proof="Total Time"))
    planned.append(Series(0, "--help", (*TOOL, "--help")))
    return planned


def _cache_options(offered: str) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The options of `analyze` that leave the table cache alone, and that use it; None where there is no cache."""
    if "--no-cache" in offered:
        return ("--no-cache",), ()
    return (), (("--cache",) if "--cache" in offered else None)


def _kernel_report(nsys: str, environment: Mapping[str, str]) -> str | None:
    """What this version of nsys calls its kernel summary."""
    offered = measure([nsys, "stats", "--help-reports"], environment)
    known = (name for name in ("cuda_gpu_kern_sum", "gpukernsum") if name in offered.output + offered.said)
    return next(known, None)


def _measure(series: Sequence[Series], rounds: int, environment: Mapping[str, str]) -> list[float]:
    """Run everything; returns nanoseconds of a stage, one number a round. Files and caches are warmed first."""
    for one in series:
        if one.label in ("scan", WARM):
            _say(f"warming up: {one.label}, {one.size:,} kernels")
            measure(one.command, environment)
    stages = []
    for number in range(rounds):
        for one in series:
            if number >= MOST_ROUNDS.get(one.size, rounds):
                one.costs.append(None)
                continue
            cost = measure(one.command, environment)
            one.costs.append(cost)
            outcome = f"{cost.wall_s:.2f} s" if one.counts(cost) else f"failed, exit {cost.exit_code}: {cost.said}"
            on = f", {one.size:,} kernels" if one.size else ""
            _say(f"round {number + 1}: {one.label}{on}: {outcome}")
        stage = measure([*PYTHON, "aisp_trace.benchmarks.stage_cost"], environment)
        if stage.exit_code == 0:
            stages.append(float(stage.output))
    return stages


def results(series: Sequence[Series], stages: Sequence[float], rounds: int) -> str:
    """The page as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make bench`: {rounds} rounds, interleaved, every command a fresh process.",
        "",
    ]
    lines += [f"- {fact}" for fact in _machine()]
    lines += [
        "",
        "| kernels | command | wall, s (median, range) | processor, s | peak memory, MiB | times the scan |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    by_size: dict[int, dict[str, Series]] = {}
    for one in series:
        by_size.setdefault(one.size, {})[one.label] = one
    lines += [_row(one, by_size[one.size].get("scan")) for one in series]
    if stages:
        lines.append(f"|  | `stage()` with no recorder | {statistics.median(stages):,.0f} ns |  |  |  |")
    lines += ["", "| aim | kernels | |", "| --- | ---: | --- |"]
    for aim in AIMS:
        own = by_size.get(aim.size, {}).get(aim.label)
        held = aim.holds(own, by_size[aim.size]) if own and own.good else None
        outcome = "not measured" if held is None else "met" if held else "missed"
        lines.append(f"| {aim.label}: {aim.text} | {f'{aim.size:,}' if aim.size else ''} | {outcome} |")
    outcome = ("met" if statistics.median(stages) < 1_000 else "missed") if stages else "not measured"
    lines.append(f"| `stage()` with no recorder: under 1 µs |  | {outcome} |")
    return "\n".join(lines) + "\n"


def _row(one: Series, scan: Series | None) -> str:
    size = f"{one.size:,}" if one.size else ""
    if not one.good:
        failed = next((c for c in one.costs if c is not None), None)
        why = f"failed, exit {failed.exit_code}" if failed else "not run"
        return f"| {size} | {one.label} | {why} |  |  |  |"
    walls = [c.wall_s for c in one.good]
    ratio = one.ratio_to(scan) if scan is not None else None
    cells = (
        size,
        one.label,
        f"{statistics.median(walls):.2f} ({min(walls):.2f} to {max(walls):.2f})",
        f"{statistics.median(c.cpu_s for c in one.good):.2f}",
        f"{max(c.peak_bytes for c in one.good) / MIB:,.0f}",
        f"{ratio:.1f}" if ratio is not None else "",
    )
    return f"| {' | '.join(cells)} |"


def _machine() -> list[str]:
    """What the numbers depend on, without naming the machine."""
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = models[0] if models else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("polars", "numpy", "pyarrow"))
    nsys = shutil.which("nsys")
    version = subprocess.run([nsys, "--version"], capture_output=True, text=True).stdout.split() if nsys else []
    return [
        f"{len(os.sched_getaffinity(0))} cores of {cpu}, {memory:.0f} GiB, page cache warm",
        f"Python {platform.python_version()}, {packages}, SQLite {sqlite3.sqlite_version} (scan)",
        f"nsys {next((v for v in version if v[0].isdigit()), 'of unknown version')}" if nsys else "no nsys here",
        "scan: `count(*), sum(end - start)` over the kernel, memcpy, memset, runtime, synchronization and NVTX tables",
        "analyze: everything `aisp-trace analyze FILE --json` prints; nsys: its kernel summary alone",
    ]


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
