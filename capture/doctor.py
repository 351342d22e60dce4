"""What this machine can record with, tried rather than guessed: each finding with its exact remedy."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

from ..traces.documents import CHILD, parse
from ..traces.errors import InputError, RecorderError
from ..traces.hardware_key import MACHINE_VARIABLE, vague_key
from . import host, permissions
from .environments import NVTX
from .leftovers import leftovers, sentence
from .nsight import INSTALL, Nsys, find_nsys
from .nsys import NsysRecorder
from .processes import ask

SCHEMA: Final = "aisp-trace/doctor/1"
PROBE: Final = (sys.executable, "-P", "-m", "aisp_trace.capture.probe")
PROBE_TIMEOUT_S: Final = 120.0
"""Ample: recording one range takes about a second; the first start of a large nsys from a cold disk took tens."""

ASK_TORCH: Final = (
    "import json, torch; print(json.dumps({'version': torch.__version__, 'built_for': torch.version.cuda, "
    "'gpus': torch.cuda.device_count() if torch.cuda.is_available() else 0}))"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `remedy` is empty where `status` is ok."""

    name: str
    status: Literal["ok", "missing", "busy"]
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, the recorder that ``--recorder auto`` takes (null: none works), and the hardware key."""

    findings: Sequence[Finding]
    recorder: str | None
    hardware_key: str

    def document(self) -> dict[str, Any]:
        """The diagnosis as plain JSON types."""
        return {
            "schema": SCHEMA,
            "recorder": self.recorder,
            "hardware_key": self.hardware_key,
            "findings": [
                {"name": f.name, "status": f.status, "found": f.found, "remedy": f.remedy} for f in self.findings
            ],
        }


def diagnose(record: Callable[[Nsys], str | None] | None = None) -> Diagnosis:
    """Look at everything; takes a few seconds, because it records. `record` says why a recording fails, null if not."""
    nsys, nsys_findings = _nsys_findings(record or record_probe)
    torch = _torch_answer()
    gpus = host.visible_gpus()
    usable = "nsys" if nsys is not None else "torch" if torch is not None else None
    machine = host.hardware("cuda" if gpus else "cpu")
    key = machine.key
    named = f"{key} ({MACHINE_VARIABLE}=NAME would name this machine)" if vague_key(key, machine.cpu) else key
    findings = [
        _recorder_finding(usable),
        *nsys_findings,
        _torch_finding(torch),
        _gpu_finding(gpus, torch),
        *(
            Finding(one.what, "missing" if one.remedy else "ok", one.found, one.remedy)
            for one in permissions.look(bool(gpus))
        ),
        _leftover_finding(),
        Finding("hardware key", "ok", named),
    ]
    return Diagnosis(findings, usable, key)


def record_probe(nsys: Nsys) -> str | None:
    """Record one range with `nsys`; null if it arrived, else why not and what to do."""
    with tempfile.TemporaryDirectory(prefix="aisp-trace-doctor-") as folder:
        recorder = NsysRecorder(nsys, "minimal", "cpu")
        try:
            recorded = recorder.record(PROBE, Path(folder), gated=True, timeout_s=PROBE_TIMEOUT_S)
        except RecorderError as exc:
            return str(exc).replace(f"; see the logs in {folder}", "")
    if recorded.exit_code != 0:
        return (
            f"the program recorded for the test ended with exit code {recorded.exit_code}; run {' '.join(PROBE)} to see"
        )
    return None


def _leftover_finding() -> Finding:
    found = leftovers()
    if not found:
        return Finding("earlier captures", "ok", "nothing that they started still runs")
    said, _, remedy = sentence(found).rpartition("; ")
    return Finding("earlier captures", "busy", said, remedy)


def _recorder_finding(usable: str | None) -> Finding:
    if usable == "nsys":
        return Finding("recorder", "ok", "nsys")
    if usable == "torch":
        return Finding("recorder", "ok", "torch.profiler (embedded); nsys records more, and programs without torch")
    return Finding("recorder", "missing", "none works", f"pip install 'aisp-trace[workloads]', or {INSTALL}")


def _nsys_findings(record: Callable[[Nsys], str | None]) -> tuple[Nsys | None, list[Finding]]:
    """(the nsys that really recorded, or null; findings on it, its importer, and nvtx under it)."""
    pair = "nvtx and nsys"
    try:
        nsys = find_nsys()
    except RecorderError as exc:
        return None, [Finding("nsys", "missing", "AISP_NSYS is wrong", str(exc))]
    if nsys is None:
        lacking = Finding("nsys", "missing", "not found on the PATH or in NVIDIA's folders", INSTALL)
        return None, [
            lacking,
            Finding("importer", "missing", "comes with nsys", INSTALL),
            Finding(pair, "missing", "cannot be tried without nsys", INSTALL),
        ]
    findings = [Finding("nsys", "ok", f"{nsys.version} at {nsys.path}"), _importer_finding(nsys)]
    if nsys.problem is not None:
        findings.append(Finding(pair, "missing", "cannot be tried without the importer", nsys.problem))
        return None, findings
    nvtx = host.package_versions().get("nvtx")
    if nvtx is None:
        findings.append(Finding(pair, "missing", "nvtx is not installed", f"pip install {NVTX}"))
        return None, findings
    problem = record(nsys)
    if problem is not None:
        findings.append(Finding(pair, "missing", f"nvtx {nvtx} and nsys {nsys.version} recorded no range", problem))
        return None, findings
    findings.append(Finding(pair, "ok", f"nvtx {nvtx} recorded a range under nsys {nsys.version}"))
    return nsys, findings


def _importer_finding(nsys: Nsys) -> Finding:
    if nsys.problem is not None or nsys.importer is None:
        where = "not found beside nsys" if nsys.importer is None else str(nsys.importer.path)
        return Finding("importer", "missing", where, nsys.problem or "")
    how = "" if nsys.linked else ", started by aisp-trace because nsys does not find it itself"
    return Finding("importer", "ok", f"{nsys.importer.path}{how}")


def _torch_answer() -> Mapping[str, Any] | None:
    """What torch says of itself in a process of its own; null if it cannot be imported."""
    answer = ask([sys.executable, "-P", "-c", ASK_TORCH], timeout_s=120.0)
    if answer is None:
        return None
    try:
        found = parse(answer.splitlines()[-1], CHILD, "what torch says of itself")
    except (InputError, IndexError):
        return None
    return found if isinstance(found, dict) else None


def _torch_finding(torch: Mapping[str, Any] | None) -> Finding:
    if torch is None:
        return Finding("torch", "missing", "cannot be imported", "pip install 'aisp-trace[workloads]'")
    built = f"built for CUDA {torch['built_for']}" if torch["built_for"] else "a build for CPUs"
    return Finding("torch", "ok", f"{torch['version']}, {built}")


def _gpu_finding(gpus: Sequence[Mapping[str, str]], torch: Mapping[str, Any] | None) -> Finding:
    if not gpus:
        return Finding(
            "gpu",
            "missing",
            "nvidia-smi shows none",
            "nothing to do on a CPU-only machine (workloads run on the CPU); else install NVIDIA's driver, and see that "
            "CUDA_VISIBLE_DEVICES hides nothing",
        )
    names = f"{len(gpus)} x {gpus[0]['name']}, driver {gpus[0]['driver']}"
    if torch is not None and not torch["gpus"]:
        return Finding("gpu", "missing", f"{names}, but torch cannot use it", "install a CUDA build of torch")
    without = "" if find_spec("pynvml") else "; rounds do not say how it was clocked: pip install nvidia-ml-py"
    return Finding("gpu", "ok", f"{names}{without}")
