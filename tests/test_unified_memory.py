"""Pages of unified memory: no lost calls, no hidden copies; kernels and the host wait for them, and prefetches are copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import IDLE, Analysis
from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.traces.nsys.read import read_nsys

US = 1_000
TO_DEVICE, TO_HOST, BETWEEN = 11, 12, 13
"""CUPTI's kinds of copies for unified memory (CUpti_ActivityMemcpyKind)."""
UNKNOWN, USER, COHERENCE, PREFETCH, EVICTION, COUNTERS = range(6)
"""Why pages moved (CUpti_ActivityUnifiedMemoryMigrationCause)."""


def moved(export: NsysExport, kind: int, start: int, end: int, cause: int | None, nbytes: int = 65_536) -> NsysExport:
    """A migration as recorders write it: no call, memory kinds unknown (7)."""
    more: dict[str, Any] = {"srcKind": 7, "dstKind": 7, "correlationId": 0, "migrationCause": cause, "streamId": 14}
    return export.copy(start, end, kind=kind, nbytes=nbytes, **more)


def faulting() -> NsysExport:
    """A kernel of 1 ms that faults on 100 pages, each 5 us in coming; then the host reads 50 of them, one after the other."""
    export = NsysExport().range(0, 1_050 * US, "add").range(1_060 * US, 2_200 * US, "sum")
    export.call(10 * US, 15 * US, "cudaLaunchKernel").kernel(20 * US, 1_020 * US)
    export.call(16 * US, 1_030 * US, "cudaDeviceSynchronize", correlationId=2)
    for i in range(100):
        moved(export, TO_DEVICE, 30 * US + i * 9 * US, 35 * US + i * 9 * US, COHERENCE)
    for i in range(50):
        moved(export, TO_HOST, 1_100 * US + i * 20 * US, 1_105 * US + i * 20 * US, COHERENCE)
    return export.call(2_200 * US, 2_210 * US, "cudaFree", correlationId=3)


def prefetched() -> NsysExport:
    """The cure: the pages are asked for, and the kernel needs half the time."""
    export = NsysExport().range(0, 1_050 * US, "add")
    export.call(2 * US, 8 * US, "cudaMemPrefetchAsync_v2", correlationId=1)
    moved(export, TO_DEVICE, 10 * US, 210 * US, USER, nbytes=100 * 65_536)
    export.call(9 * US, 14 * US, "cudaLaunchKernel", correlationId=2)
    return export.kernel(215 * US, 715 * US, correlationId=2)


def analysed(folder: Path, export: NsysExport, **choices: Any) -> Analysis:
    return analyze(read_nsys(export.write(folder / f"{len(list(folder.iterdir()))}.sqlite")), **choices)


def cells(analysis: Analysis) -> dict[tuple[str, str, str | None], int]:
    rows = analysis.ledger.group_by("stage", "category", "cause").agg(pl.col("ns").sum())
    return {(stage, category, cause): ns for stage, category, cause, ns in rows.iter_rows()}


def levels(analysis: Analysis) -> dict[str, str]:
    return dict(analysis.trust.select("metric", "level").iter_rows())


def test_faults_are_the_kernels_stall_and_then_the_hosts(tmp_path: Path) -> None:
    found = analysed(tmp_path, faulting())
    assert cells(found) == {
        ("add", "compute", None): 500 * US,
        ("add", "migration", None): 500 * US,
        ("add", IDLE, "sync"): 10 * US,
        ("add", IDLE, "host_code"): 20 * US,
        ("(none)", IDLE, "host_code"): 10 * US,
        ("sum", "migration", None): 250 * US,
        ("sum", IDLE, "page_fault"): (40 + 735) * US,
    }
    assert found.migrations.rows() == [
        (0, None, 150, 150 * 65_536, 750 * US, 750 * US, 500 * US, 250 * US),
        (0, "add", 100, 100 * 65_536, 500 * US, 500 * US, 500 * US, 0),
        (0, "sum", 50, 50 * 65_536, 250 * US, 250 * US, 0, 250 * US),
    ]
    assert levels(found)["causes"] == levels(found)["projection"] == levels(found)["ledger"] == "ok"


def test_they_are_copies_of_nobody_and_hidden_under_nothing(tmp_path: Path) -> None:
    found = analysed(tmp_path, faulting())
    whole = found.overlap.filter(pl.col("stage").is_null() & (pl.col("a") == "copy"))
    assert (whole["a_ns"] == 0).all() and whole["hidden"].null_count() == len(whole)
    assert found.bandwidth.is_empty()
    assert found.exposed.filter(pl.col("kind") == "copy")["ns"].sum() == 0


def test_prefetches_are_copies_of_the_call_that_asked(tmp_path: Path) -> None:
    found = analysed(tmp_path, prefetched())
    assert cells(found) == {
        ("add", "h2d", None): 200 * US,
        ("add", IDLE, "queued"): 5 * US,
        ("add", "compute", None): 500 * US,
    }
    assert found.migrations.is_empty()
    assert found.bandwidth.select("kind", "src_kind", "ops", "nbytes").rows() == [("h2d", "managed", 1, 100 * 65_536)]
    assert levels(found)["causes"] == "ok"


@pytest.mark.parametrize(
    ("kind", "cause", "counts_as"),
    [
        *((TO_DEVICE, cause, "migration") for cause in (UNKNOWN, COHERENCE, PREFETCH, EVICTION, COUNTERS, None, 99)),
        *((TO_HOST, cause, "migration") for cause in (UNKNOWN, COHERENCE, EVICTION)),
        (TO_DEVICE, USER, "h2d"),
        (TO_HOST, USER, "d2h"),
        *((BETWEEN, cause, "p2p") for cause in (USER, COHERENCE, None)),
        (1, COHERENCE, "h2d"),  # no unified memory: what stands in the column means nothing
    ],
)
def test_each_kind_and_cause(tmp_path: Path, kind: int, cause: int | None, counts_as: str) -> None:
    trace = read_nsys(moved(NsysExport(), kind, 10, 20, cause).write(tmp_path / "t.sqlite"))
    assert trace.ops["kind"].to_list() == [counts_as]


def test_what_a_host_does_between_two_reads_is_no_fault(tmp_path: Path) -> None:
    """It computes for most of 200 us between two pages, and is inside a call between two others. A fault takes 40 us."""
    export = NsysExport().range(0, 900 * US, "sum").call(1 * US, 2 * US, "cudaLaunchKernel").kernel(3 * US, 10 * US)
    for at in (100, 305, 400):
        moved(export, TO_HOST, at * US, (at + 5) * US, COHERENCE)
    export.call(320 * US, 380 * US, "cudaMalloc", correlationId=2)
    assert cells(analysed(tmp_path, export)) == {
        ("sum", "compute", None): 7 * US,
        ("sum", "migration", None): 15 * US,
        ("sum", IDLE, "host_code"): (50 + 160 + 10) * US,
        ("sum", IDLE, "allocator"): 60 * US,
        ("sum", IDLE, "page_fault"): (40 + 40 + 20) * US,
    }


def test_pages_of_a_process_are_not_those_of_another(tmp_path: Path) -> None:
    export = faulting().range(0, 3_000 * US, "other", pid=7, tid=7)
    export.call(1 * US, 2 * US, "cudaLaunchKernel", pid=7, tid=7, correlationId=9)
    export.kernel(2_500 * US, 2_501 * US, pid=7, correlationId=9)
    assert analysed(tmp_path, export).migrations["stage"].to_list() == [None, "add", "sum"]


def test_a_kernel_does_not_wait_for_pages_of_another_process(tmp_path: Path) -> None:
    """Two processes share a device; the first one's host reads a page, while the second one's kernel runs on."""
    export = NsysExport().range(0, 900 * US, "A").range(0, 900 * US, "B", pid=101, tid=101)
    export.call(1 * US, 2 * US, "cudaLaunchKernel").kernel(3 * US, 10 * US)
    export.call(1 * US, 2 * US, "cudaLaunchKernel", pid=101, tid=101).kernel(100 * US, 500 * US, pid=101)
    for pid in (100, 101):
        export.add("TARGET_INFO_CUDA_DEVICE", gpuId=0, cudaId=0, pid=pid)
    found = analysed(tmp_path, moved(export, TO_HOST, 200 * US, 210 * US, COHERENCE))
    assert found.migrations.select("stage", "ops", "stall_ns", "exposed_ns").rows() == [
        (None, 1, 0, 10 * US),
        ("A", 1, 0, 10 * US),
    ]
    work = {(stage, kind): ns for stage, kind, ns in found.work.select("stage", "kind", "sum_ns").iter_rows()}
    assert work == {("A", "compute"): 7 * US, ("A", "migration"): 10 * US, ("B", "compute"): 400 * US}


def test_pages_that_move_between_gpus_are_of_whoever_touches_them(tmp_path: Path) -> None:
    """By a kernel's fault, of the kernel; by no kernel's, of the thread that launched last. Nothing was lost."""
    export = NsysExport().range(0, 250 * US, "add").range(260 * US, 900 * US, "sum")
    export.call(1 * US, 2 * US, "cudaLaunchKernel").kernel(100 * US, 200 * US)
    moved(moved(export, BETWEEN, 130 * US, 140 * US, COHERENCE), BETWEEN, 300 * US, 310 * US, COHERENCE)
    found = analysed(tmp_path, export)
    own = cells(found)
    assert (own["add", "compute", None], own["sum", "p2p", None]) == (100 * US, 10 * US)
    assert not [stage for stage, *_ in own if stage == "(orphan)"]
    assert levels(found)["causes"] == levels(found)["projection"] == "ok"


def test_without_any_launch_nobody_is_known_to_have_caused_them(tmp_path: Path) -> None:
    found = analysed(tmp_path, moved(moved(NsysExport(), TO_HOST, 0, 10, 2), TO_HOST, 20, 30, 2))
    assert cells(found) == {("(orphan)", "migration", None): 20, ("(orphan)", IDLE, "unknown"): 10}


def test_the_diagnosis_names_both_waits_and_the_cure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = faulting().write(tmp_path / "slow.sqlite")
    assert main(["analyze", str(file)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1. Unified-memory migrations: 73.8 % (1.52 ms)" in said
    assert "150 page migrations move 9.83 MB: kernels stall for 500 us, the host waits for 1.02 ms" in said
    assert "cudaMemPrefetchAsync" in said and "Copies that nothing hides" not in said
    assert main(["analyze", str(file), "--json"]) == 0
    (trace,) = json.loads(capsys.readouterr().out)["traces"]
    assert [row["stall_ns"] for row in trace["migrations"]] == [500 * US, 500 * US, 0]


def test_a_comparison_says_that_pages_move_less_and_kernels_are_as_fast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel takes 1 ms with the stall and 500 us without: it computes no faster."""
    slow, fast = faulting().write(tmp_path / "slow.sqlite"), prefetched().write(tmp_path / "fast.sqlite")
    assert main(["compare", str(slow), str(fast), "--json"]) in (0, 3)
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    parts: dict[tuple[str, str | None], int] = {}
    for part in found["why"]["parts"]:
        key = (part["mechanism"], part["of"])
        parts[key] = parts.get(key, 0) + part["difference"]
    assert parts.get(("faster", "compute"), 0) == 0
    assert parts["less_work", "migration"] == -750 * US
    assert parts["less_work", "h2d"] == 200 * US
    assert parts["idle", "page_faults"] == -775 * US
    assert parts.get(("hidden", None), 0) == 0
