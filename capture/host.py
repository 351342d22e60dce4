"""The machine a run is made on: device names, driver, clocks, package versions, the source's commit.

Everything is read without torch, from nvidia-smi and /proc, and nothing is set: clocks are looked at, never locked.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ..traces.hardware_key import MACHINE_VARIABLE, hardware_key, named
from ..traces.run import Hardware
from .processes import ask

PACKAGES: Final = ("aisp-trace", "torch", "nvtx", "triton", "numpy", "typer")
"""Packages whose versions a run records, where they are installed."""

CLEAN: Final = "clean"
"""The tree of sources whose tracked files are those of the commit."""
CHANGED: Final = 10
"""How many changed files of a tree are named."""


def now_utc() -> str:
    """The current time as ``2026-11-22T17:01:02Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def hardware(device: str) -> Hardware:
    """The machine as a run on `device` ("cuda" or "cpu") sees it; `key` names it in expectation files.

    Where no GPU is used, AISP_MACHINE is part of the processor's name, and so of the key.
    """
    rows = visible_gpus() if device == "cuda" else []
    names = tuple(row["name"] for row in rows)
    cpu = cpu_model()
    if not rows:
        cpu = named(cpu, os.environ.get(MACHINE_VARIABLE))
    return Hardware(
        key=hardware_key(names, cpu),
        device=device,
        gpus=names,
        driver=rows[0]["driver"] if rows else None,
        cuda=cuda_version() if rows else None,
        cpu=cpu,
        cores=os.cpu_count() or 1,
        clocks={"before": clocks()} if rows else {},
    )


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name without trademark signs and nominal clock; the architecture where it has no name (Arm)."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    name = found[1] if found else (platform.processor() or platform.machine() or "unknown")
    name = re.sub(r"\((?:R|TM|C)\)|\bCPU\b|@.*$|\bProcessor\b", " ", name, flags=re.IGNORECASE)
    return re.sub(r"\s+", " ", name).strip() or platform.machine()


def visible_gpus(environ: Mapping[str, str] = os.environ) -> list[dict[str, str]]:
    """name, uuid, driver and index of the GPUs a program started now would see (CUDA_VISIBLE_DEVICES applied)."""
    answer = ask(["nvidia-smi", "--query-gpu=index,uuid,driver_version,name", "--format=csv,noheader"])
    return parse_gpus(answer or "", environ.get("CUDA_VISIBLE_DEVICES"))


def parse_gpus(csv: str, visible: str | None) -> list[dict[str, str]]:
    """The rows of nvidia-smi's answer that `visible` (CUDA_VISIBLE_DEVICES, null: unset) lets through, in its order.

    As CUDA does it: an empty value hides all, and the first entry that names no GPU hides itself and the rest.
    """
    rows = []
    for line in csv.splitlines():
        parts = [part.strip() for part in line.split(",", 3)]
        if len(parts) == 4 and parts[0].isdigit():
            rows.append(dict(zip(("index", "uuid", "driver", "name"), parts, strict=True)))
    return visible_rows(rows, visible)


def visible_rows(rows: Sequence[dict[str, str]], visible: str | None) -> list[dict[str, str]]:
    """Those of `rows` (each with ``index`` and ``uuid``) that `visible` lets through, as `parse_gpus` says."""
    if visible is None:
        return list(rows)
    chosen: list[dict[str, str]] = []
    for entry in visible.split(","):
        entry = entry.strip()
        match = [r for r in rows if r["index"] == entry or (entry.startswith("GPU-") and r["uuid"].startswith(entry))]
        if not match:
            break
        chosen.append(match[0])
    return chosen


def cuda_version() -> str | None:
    """The highest CUDA version the driver supports, as nvidia-smi's banner says; null where it does not."""
    found = re.search(r"CUDA Version:\s*([0-9.]+)", ask(["nvidia-smi"]) or "")
    return found[1] if found else None


def clocks() -> list[dict[str, str]]:
    """Per GPU: current and maximum SM clock, memory clock, power and its limit, and why the clock is held down; empty without an
    answer."""
    base = ("index", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu", "power.draw")
    # The last column was renamed in driver 535; older drivers know only the second name.
    for reasons in ("clocks_event_reasons.active", "clocks_throttle_reasons.active"):
        fields = (*base, reasons)
        answer = ask(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"])
        if answer:
            names = [*base[:-2], "temperature", "power", "throttle_reasons"]
            names = [name.replace(".", "_") for name in names]
            rows = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines()]
            return [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]
    return []


def package_versions() -> dict[str, str]:
    """Versions of `PACKAGES` that are installed, and of Python."""
    import importlib.metadata  # lazily: it costs more than the rest of this module

    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cuda_usable() -> bool:
    """Whether a workload could use a GPU: one is visible, and the installed torch is not a CPU-only build."""
    torch = package_versions().get("torch", "")
    return bool(visible_gpus()) and not torch.endswith("+cpu")


def usable_gpus() -> int:
    """How many GPUs a workload could use on this machine."""
    return len(visible_gpus()) if cuda_usable() else 0


def git_state(folder: Path, *, root: bool, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """``{"commit", "dirty", "changed"}`` of the sources in `folder`; null where unknown.

    Dirty is a tree in which tracked files differ from the commit; `changed` are the first `CHANGED` of them, by their paths in
    the repository. Files that git does not track, such as runs and reports, change nothing.

    AISP_GIT_COMMIT and AISP_GIT_DIRTY (1/true or 0/false) say it where there is no ``.git``, and come first, without `changed`.
    With `root`, `folder` must itself be the top of a repository: a package installed below someone's project is not theirs.
    """
    commit = environ.get("AISP_GIT_COMMIT")
    if commit:
        dirty = environ.get("AISP_GIT_DIRTY", "").strip().lower()
        known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        return {"commit": commit, "dirty": known.get(dirty)}
    git = ["git", "-C", str(folder)]
    top = ask([*git, "rev-parse", "--show-toplevel"])
    if top is None or (root and Path(top.strip()).resolve() != folder.resolve()):
        return {"commit": None, "dirty": None}
    head = ask([*git, "rev-parse", "HEAD"])
    status = ask([*git, "status", "--porcelain", "--untracked-files=no"])
    changed = [
        line[3:] for line in (status or "").splitlines()
    ]  # two letters of state and a blank stand before the path
    return {
        "commit": head.strip() if head else None,
        "dirty": None if status is None else bool(changed),
        "changed": changed[:CHANGED],
    }


def sources_of(folder: Path, *, root: bool, environ: Mapping[str, str] = os.environ) -> tuple[str | None, str | None]:
    """(commit, tree) of the sources in `folder` right now, as ``Round`` keeps them of each process; null where unknown.

    Two questions to git, of some milliseconds each, asked before a process is started. Files that are not tracked do not count:
    the run's own folder may be one. `root` and AISP_GIT_COMMIT as for `git_state`; without ``.git`` nobody knows the tree.
    """
    git = ["git", "--no-optional-locks", "-C", str(folder)]
    top = ask([*git, "rev-parse", "--show-toplevel", "HEAD"])
    lines = top.splitlines() if top else []
    if len(lines) != 2 or (root and Path(lines[0]).resolve() != folder.resolve()):
        return environ.get("AISP_GIT_COMMIT") or None, None
    changes = ask([*git, "diff", "HEAD", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv"])
    tree = None if changes is None else hashlib.sha256(changes.encode()).hexdigest()[:16] if changes else CLEAN
    return environ.get("AISP_GIT_COMMIT") or lines[1], tree
