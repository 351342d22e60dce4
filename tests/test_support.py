"""What docs/support.md says of recorders and systems: each cell has its test here or beside it, or says that nobody tried."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.tests.builders.samples import SAMPLES
from aisp_trace.tests.test_foreign_traces import ALIKE, cells, every, profile
from aisp_trace.tests.test_kineto_reader import event, written
from aisp_trace.traces.kineto.read import read_kineto
from aisp_trace.traces.open import open_trace
from aisp_trace.traces.scrub.kineto import scrub_kineto
from aisp_trace.traces.unpack import unpack

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "support.md"

RECORDERS = {
    "NVIDIA": ("cuda_runtime", "cudaLaunchKernel"),
    "ROCm": ("cuda_runtime", "hipLaunchKernel"),
    "ROCm, extensions": ("cuda_runtime", "hipExtModuleLaunchKernel"),
    "ROCm, another category": ("hip_runtime", "hipModuleLaunchKernel"),
    "XPU": ("xpu_runtime", "urEnqueueKernelLaunch"),
    "XPU, driver": ("xpu_driver", "zeCommandListAppendLaunchKernel"),
    "MTIA": ("mtia_runtime", "launch"),
    "another device": ("privateuse1_runtime", "launch"),
}
"""Category and name of the calls that launch, by what torch.profiler recorded."""


def told_by(recorder: str) -> list[dict[str, Any]]:
    """The recording of test_foreign_traces, as torch.profiler tells it of that device."""
    category, name = RECORDERS[recorder]
    return [e | {"cat": category, "name": name} if e["cat"] == "cuda_runtime" else e for e in profile()]


@pytest.mark.parametrize("recorder", RECORDERS)
def test_every_device_of_torch_profiler_gives_the_same_ledger(recorder: str, tmp_path: Path) -> None:
    path = written(tmp_path, told_by(recorder))
    scrub_kineto(path, tmp_path / "scrubbed.json")
    for file in (path, tmp_path / "scrubbed.json"):
        trace = open_trace(file)
        assert cells(analyze(trace), 1000) == ALIKE
        assert trace.meta.unread == {}


def test_the_categories_of_before_pytorch_1_12_survive_scrubbing(tmp_path: Path) -> None:
    earlier = {"kernel": "Kernel", "cuda_runtime": "Runtime"}
    path = written(tmp_path, every(cat=lambda e: earlier.get(e["cat"], e["cat"])))
    scrub_kineto(path, tmp_path / "scrubbed.json")
    assert cells(analyze(open_trace(tmp_path / "scrubbed.json")), 1000) == ALIKE


def test_a_rocm_step_has_the_causes_of_a_cuda_step(tmp_path: Path) -> None:
    """What HIP's calls do to an idle device, held against the same step with CUDA's names.

    host    |hipLaunchKernel|.|hipMalloc------|.|hipMemcpyWithStream----|.|hipDeviceSynchronize-|.|hipLaunchKernel|
    GPU            |gemm|                            |CopyHostToDevice|                                 |gemm|
    """
    hip = ("hipLaunchKernel", "hipMalloc", "hipMemcpyWithStream", "hipDeviceSynchronize", "hipExtModuleLaunchKernel")
    cuda = ("cudaLaunchKernel", "cudaMalloc", "cudaMemcpy", "cudaDeviceSynchronize", "cudaLaunchKernelExC")
    found = []
    for number, (names, copy) in enumerate(((hip, "CopyHostToDevice"), (cuda, "Memcpy HtoD (Pageable -> Device)"))):
        spans = ((0, 10), (20, 60), (90, 60), (160, 40), (210, 10))
        calls = [
            event("cuda_runtime", name, ts, dur, correlation=i + 1)
            for i, (name, (ts, dur)) in enumerate(zip(names, spans, strict=True))
        ]
        where = {"device": 0, "stream": 0}
        work = [
            event("kernel", "Cijk_Ailk_Bljk_SB_MT64x64x8", 5, 12, 0, 0, correlation=1, **where),
            event("gpu_memcpy", copy, 110, 30, 0, 0, correlation=3, bytes=1 << 20, **where),
            event("kernel", "Cijk_Ailk_Bljk_SB_MT64x64x8", 225, 20, 0, 0, correlation=5, **where),
        ]
        folder = tmp_path / str(number)
        folder.mkdir()
        range_ = event("user_annotation", "step", 0, 300)
        found.append(cells(analyze(open_trace(written(folder, [range_, *calls, *work]))), 1000))
    assert found[0] == found[1]
    causes = {cause for _, _, cause in found[0]}
    assert {"compute", "h2d", "allocator", "copy_api", "sync", "launch_api", "launch_latency"} <= causes


def test_device_events_of_mtia_are_named_as_unread(tmp_path: Path) -> None:
    events = [*told_by("MTIA"), event("mtia_ccp_events", "pe", 5, 5), event("mtia_insight", "x", 5, 5)]
    assert dict(read_kineto(written(tmp_path, events)).meta.unread) == {"mtia_ccp_events": 1, "mtia_insight": 1}


_ELSEWHERE = """
import os, sys, types
import llvmlite.binding, numba, polars, rich.console, typer
from aisp_trace.traces import engine, heap
from aisp_trace.cli.main import main
for name in ("fcntl", "grp", "pwd", "resource", "termios", "syslog"):
    sys.modules[name] = None
for name in ("pread", "preadv", "chown", "fork", "getuid", "geteuid", "O_NOCTTY", "O_CLOEXEC", "mkfifo", "sched_getaffinity"):
    delattr(os, name)
def absent(name):
    raise OSError(name)
heap.ctypes = types.SimpleNamespace(CDLL=absent)
engine.COMPILED_FROM = 0
sys.exit(main(sys.argv[1:]))
"""
"""A Python without what Windows and macOS lack, once its libraries are there, which know of that themselves; what makes files and
paths of these systems differ is not in it."""


@pytest.mark.parametrize("words", [("analyze",), ("report", "-o", "r.html"), ("export", "--to", "csv", "-o", "tables")])
@pytest.mark.parametrize("sample", ["h100_pipeline_decode.sqlite.xz", "h100_pipeline_decode_kineto.json.gz"])
def test_analysis_needs_nothing_that_only_linux_has(words: tuple[str, ...], sample: str, tmp_path: Path) -> None:
    command, *rest = words
    path = tmp_path / sample.rpartition(".")[0]
    unpack(SAMPLES / sample, path)
    done = subprocess.run(
        [sys.executable, "-P", "-c", _ELSEWHERE, command, str(path), *rest],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_every_cell_of_the_page_names_its_test_or_says_that_nobody_tried() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    tables = [row for row in rows if not row.startswith("| what |")]
    assert len(tables) >= 12
    for row in tables:
        evidence = row.rstrip("| ").rsplit("|", 1)[1]
        named = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", evidence)
        assert named or "not tried" in evidence, row
        for file, test in named:
            text = (ROOT / file).read_text()
            assert not test or f"def {test}(" in text, f"{file} has no {test}"


def test_the_page_names_every_category_that_is_told_here() -> None:
    page = PAGE.read_text()
    assert {category for category, _ in RECORDERS.values()} <= set(re.findall(r"`(\w+)`", page))
