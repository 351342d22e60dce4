"""What the warps of a verified kernel wait for, by Nsight Compute, where that is installed and may read the GPU's counters.

One call at the timed shape, in the verifier's own child under ``ncu``. Clocks are left alone. Whatever goes wrong, the answer is
that nothing is known: a profile helps the model, and no verdict rests on it.
"""

from __future__ import annotations

import csv
import os
import random
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ...traces.errors import AispTraceError
from ..build import KernelError, build
from ..task import Shape, Task
from ..untrusted import compiling
from ..verify.evidence import Candidate
from ..verify.limits import MemoryLimits
from ..verify.names import library_of
from ..verify.plan import Call, Plan
from ..verify.process import Child, Conversation

OPTIONS: Final = ("--csv", "--page", "raw", "--section", "WarpStateStats", "--clock-control", "none")
PATIENCE: Final = 10.0
"""By which everything may take longer under ncu, which replays each kernel several times."""

REASONS_TOLD: Final = 3
LEAST: Final = 0.1
"""Cycles of stall an issued instruction, below which a reason is not worth a word."""

_METRIC: Final = re.compile(r"smsp__average_warps_issue_stalled_(\w+?)_per_issue_active\.ratio")


def find_ncu(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The program, of CUDA_HOME, of PATH or of /usr/local/cuda; null if there is none."""
    homes = [Path(environ[name]) / "bin" / "ncu" for name in ("CUDA_HOME", "CUDA_PATH") if environ.get(name)]
    on_path = shutil.which("ncu", path=environ.get("PATH", os.defpath))
    places = [*homes, *([Path(on_path)] if on_path else []), Path("/usr/local/cuda/bin/ncu")]
    return next((place for place in places if place.is_file()), None)


def stall_reasons(
    file: Path, task: Task, dtype: str, shape: Shape, capability: tuple[int, int], within_s: float
) -> list[str]:
    """A sentence for each kernel of the source `file`; none without ncu, or where it could not profile."""
    program = find_ncu()
    if program is None or within_s < 1:
        return []
    try:
        with compiling(file, within_s) as (source, compiler):
            library = build(source, capability, compiler=compiler)
        with tempfile.TemporaryDirectory(prefix="aisp-trace-ncu-") as name:
            log = Path(name) / "ncu.csv"
            candidate = Candidate(file, library, "", None, None)
            child = Child(Path(name), task, dtype, "cuda", candidate, within_s, 60.0, MemoryLimits())
            plan = Plan((), [Call("profile", shape)])
            talk = Conversation(child, plan, random.SystemRandom(), recorded=True, bare=False, patience=PATIENCE)
            child.run_alone(talk, [str(program), *OPTIONS, "--log-file", str(log)])
            return told(log.read_text(encoding="utf-8", errors="replace") if log.is_file() else "")
    except (AispTraceError, KernelError, OSError):
        return []


def told(log: str) -> list[str]:
    """The sentences, from ncu's table: a row of units below the titles, then a row a launch. Libraries' kernels are left out."""
    lines = log.splitlines()
    begin = next((number for number, line in enumerate(lines) if line.startswith('"ID",')), None)
    if begin is None:
        return []
    stalls: dict[str, dict[str, float]] = defaultdict(dict)
    for row in csv.DictReader(lines[begin:]):
        name = row.get("Kernel Name") or ""
        if not name or library_of(name) is not None:
            continue
        for title, text in row.items():
            metric = _METRIC.fullmatch(title or "")
            value = _number(text)
            if metric and value is not None and not metric[1].endswith("_not_issued"):
                stalls[name][metric[1]] = max(value, stalls[name].get(metric[1], 0.0))
    found = []
    for name, reasons in stalls.items():
        most = sorted(reasons.items(), key=lambda one: -one[1])[:REASONS_TOLD]
        words = [f"{reason.replace('_', ' ')} {value:.1f}" for reason, value in most if value >= LEAST]
        if words:
            found.append(f"Stalls of {name[:120]}, cycles an issued instruction: {', '.join(words)}")
    return found


def _number(text: object) -> float | None:
    try:
        return float(str(text).replace(",", ""))
    except ValueError:
        return None
