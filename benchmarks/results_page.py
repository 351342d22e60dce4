"""The page of results: medians, ranges and ratios of what was measured, held against the project's aims."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aisp_trace.benchmarks.measure import Cost

MIB: Final = 1 << 20
GIB: Final = 1 << 30


@dataclass(slots=True)
class Series:
    """The costs of one command on one trace, round by round; None where it was not run.

    `proof` must be in the output for a cost to count: nsys exits 0 when it shows nothing too. `forget` is a trace whose kept
    tables and analyses are deleted before, `forget_analyses` deletes analyses alone.
    """

    size: int
    label: str
    command: tuple[str, ...]
    costs: list[Cost | None] = field(default_factory=list)
    proof: str = ""
    forget: Path | None = None
    forget_analyses: bool = False

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


COLD: Final = "analyze --no-cache"
FIRST: Final = "analyze, first look"
SECOND: Final = "analyze, second look"
WINDOW: Final = "analyze --window, other"
"""Neither kept nor used; with what is kept written; the same again; another question about a trace whose tables are kept."""

SMALL: Final = 1_000
"""Kernels of the trace that a second look at a large one is held against."""


def _second(own: Series, others: Mapping[str, Series]) -> bool | None:
    small = others.get(f"{SECOND} {SMALL}")
    ratio = None if small is None else own.ratio_to(small)
    return None if ratio is None else ratio <= 1.5


AIMS: Final = (
    Aim(100_000, COLD, "under 1 s", _wall(1.0)),
    Aim(1_000_000, COLD, "at most 8 scans", _times("scan", 8)),
    Aim(1_000_000, COLD, "under nsys' kernel summary", _times("nsys", 1)),
    Aim(1_000_000, COLD, "under 1 GiB", _peak(GIB)),
    Aim(1_000_000, SECOND, "at most 1.5 times that of 1,000 kernels", _second),
    Aim(1_000_000, WINDOW, "at most 6 scans", _times("scan", 6)),
    Aim(10_000_000, COLD, "at most 5 scans", _times("scan", 5)),
    Aim(10_000_000, COLD, "under 2.5 GiB", _peak(5 * GIB // 2)),
    Aim(10_000_000, SECOND, "at most 1.5 times that of 1,000 kernels", _second),
    Aim(0, "--help", "under 0.3 s", _wall(0.3)),
)


def results(series: Sequence[Series], stages: Sequence[float], rounds: int) -> str:
    """The page as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make bench` in at most {rounds} rounds, interleaved, every command a fresh process.",
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
    for group in by_size.values():
        group |= {f"{SECOND} {SMALL}": one for one in series if (one.size, one.label) == (SMALL, SECOND)}
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
    packages = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("polars", "numpy", "numba", "pyarrow")
    )
    nsys = shutil.which("nsys")
    version = subprocess.run([nsys, "--version"], capture_output=True, text=True).stdout.split() if nsys else []
    return [
        f"{len(os.sched_getaffinity(0))} cores of {cpu}, {memory:.0f} GiB, page cache, bytecode and compiled code warm",
        f"Python {platform.python_version()}, {packages}, SQLite {sqlite3.sqlite_version} (scan)",
        f"nsys {next((v for v in version if v[0].isdigit()), 'of unknown version')}" if nsys else "no nsys here",
        "scan: `count(*), sum(end - start)` over the kernel, memcpy, memset, runtime, synchronization and NVTX tables",
        "analyze: everything `aisp-trace analyze FILE --json` prints; --no-cache keeps nothing and uses nothing; the first look "
        "writes what the second reads; another window is asked of the kept tables; nsys: its kernel summary alone",
        "4 calls: the trace of 1,000,000 kernels with two short calls more after each",
    ]
