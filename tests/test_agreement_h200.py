"""Recordings of H200s against oracles that share no code: `nsys stats`, and a sweep of the rows in plain Python.

CUDA graphs captured before a recording and in it, managed memory with faults and with prefetches, and two processes that each
call another GPU their first. All figures are nanoseconds and must match exactly.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from pathlib import Path

import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import IDLE
from aisp_trace.tests.builders.samples import SAMPLES, unpack
from aisp_trace.tests.oracle import rows
from aisp_trace.traces.open import open_trace

NEW = ("h200_graphs", "h200_managed", "h200x2_two_processes")
OLDER = ("h100_pipeline_decode_graph_nodes", "h200x2_handoff")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unpacked")


def stats(name: str) -> list[dict[str, str]]:
    with (SAMPLES / "nsys_stats" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", [*NEW, *OLDER])
def test_every_kind_of_work_fills_what_a_sweep_of_the_rows_says(folder: Path, name: str) -> None:
    file = unpack(name, folder)
    analysis = analyze(open_trace(file))
    found: dict[int, dict[str, int]] = defaultdict(Counter)
    for device, category, ns in analysis.ledger.select("device", "category", "ns").iter_rows():
        found[device][category] += ns
    for device, ns in analysis.kinds.group_by("device").agg(pl.col("sum_ns").sum()).iter_rows():
        found[device]["sum"] = ns
    expected = rows.busy(file)
    assert IDLE == "idle" and len(expected) in (1, 2)
    assert {device: dict(of_it) for device, of_it in found.items()} == expected


@pytest.mark.parametrize("name", NEW)
def test_kernels_sum_up_to_what_nsys_stats_says(folder: Path, name: str) -> None:
    kernels = open_trace(unpack(name, folder)).ops.filter(pl.col("kind") == "compute")
    ours = kernels.group_by("name").agg(pl.len(), (pl.col("end_ns") - pl.col("start_ns")).sum())
    theirs = stats(f"{name}_cuda_gpu_kern_sum")
    assert sorted((n, ns) for _, n, ns in ours.iter_rows()) == sorted(
        (int(row["Instances"]), int(row["Total Time (ns)"])) for row in theirs
    )


@pytest.mark.parametrize("name", NEW)
def test_copies_take_as_long_as_nsys_stats_says_which_counts_pages_that_fault_among_them(
    folder: Path, name: str
) -> None:
    others = open_trace(unpack(name, folder)).ops.filter(pl.col("kind") != "compute")
    theirs = stats(f"{name}_gpumemtimesum")
    assert len(others) == sum(int(row["Count"]) for row in theirs)
    assert (others["end_ns"] - others["start_ns"]).sum() == sum(int(row["Total Time (ns)"]) for row in theirs)
    assert name != "h200_managed" or set(others["kind"]) == {"migration", "h2d", "d2h"}


def test_projections_equal_nsys_stats_where_no_graph_is_replayed(folder: Path) -> None:
    """nsys says of a range that replays a graph that it has one operation, and nothing of the stages that were captured."""
    for name, skipped in (("h200_graphs", {"iteration", "early", "late", "capture"}), ("h200x2_two_processes", set())):
        analysis = analyze(open_trace(unpack(name, folder)), attribution="thread")
        ours: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for row in analysis.stages.filter(~pl.col("path").str.starts_with("capture")).iter_rows(named=True):
            name_of_it, first = row["path"].rpartition("/")[2], row["device"] in (None, 0)
            counted = (
                row["projected_ns"],
                row["host_ns"] * first,
                row["instances"] * first,
                row["ops"],
            )  # a row a device
            ours[name_of_it] = [a + b for a, b in zip(ours[name_of_it], counted, strict=True)]
        columns = ("Total Proj Time (ns)", "Total Range Time (ns)", "Range Instances", "Total GPU Ops")
        theirs = {
            row["Range"].partition(":")[2]: [int(row[c]) for c in columns] for row in stats(f"{name}_nvtx_gpu_proj_sum")
        }
        assert set(theirs) > skipped
        assert {one: ours[one] for one in theirs.keys() - skipped} == {
            one: theirs[one] for one in theirs.keys() - skipped
        }


def test_a_graph_captured_in_the_recording_has_the_stages_of_its_capture_and_one_from_before_has_not(
    folder: Path,
) -> None:
    """The nodes of both are in the export; of the early ones it has the time, before the recording began, and no range."""
    file = unpack("h200_graphs", folder)
    expected = rows.captured(file)
    assert {stage: n for stage, (n, _) in expected.items()} == {
        "": 8 * 13,
        "residual": 8 * 4,
        "project": 8 * 5,
        "mix": 8 * 4,
    }
    analysis = analyze(open_trace(file))
    kernels = analysis.stage_kinds.filter(pl.col("kind") == "compute").select("path", "ops", "sum_ns")
    mine = {path: (n, ns) for path, n, ns in kernels.iter_rows()}
    for stage in ("residual", "project", "mix"):
        assert mine[f"capture/{stage}"] == expected[stage]
    assert mine["iteration/early"] == expected[""]
    assert "iteration/late" not in mine
    levels = {metric: reason for metric, level, reason in analysis.trust.rows() if level == "partial"}
    assert "120 operations of CUDA graphs" in levels["projection"], "kernels and copies of the early one"
