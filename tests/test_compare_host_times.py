"""Recordings without device operations held against each other, and against one that has them, by host time."""

from __future__ import annotations

import json
import lzma
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport

SAMPLE = Path(__file__).resolve().parents[1] / "traces" / "samples" / "cpu_threads_nsys2022.sqlite.xz"
MS = 1_000_000


def steps(lengths: Sequence[int], *, load: int, device: bool = False, name: str = "iteration") -> NsysExport:
    """Iterations of these lengths in ms, 1 ms apart, each with `load` ms of `load` at its start, and `fwd` in the rest.

    iteration  |load|---- fwd ----|    |load|---- fwd ----|
    """
    export, at = NsysExport(), 0
    for number, ms in enumerate(lengths):
        end = at + ms * MS
        export.range(at, end, name).range(at, at + load * MS, "load").range(at + load * MS, end, "fwd")
        if device:
            export.call(at + load * MS, at + load * MS + 10, "cudaLaunchKernel", correlationId=number + 1)
            export.kernel(at + load * MS + 20, end - 10, correlationId=number + 1)
        at = end + MS
    return export


def compared(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[dict[str, Any], str]:
    assert main(["compare", *map(str, arguments), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert main(["compare", *map(str, arguments)]) == 0
    return document, capsys.readouterr().out


def test_iterations_and_stages_by_host_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = steps([30] * 9 + [60], load=12).write(tmp_path / "a.sqlite")
    opt = steps([20] * 5, load=2).write(tmp_path / "b.sqlite")
    found, shown = compared(capsys, base, opt)
    assert found["comparisons"] == []
    (one,) = found["host_comparisons"]
    assert one["per"] == "iteration"
    assert one["device_operations"] == {"base": False, "opt": False}
    lengths = one["iterations"]
    assert (lengths["base"]["n"], lengths["opt"]["n"]) == (10, 5)
    assert (lengths["base"]["median_ns"], lengths["base"]["mean_ns"]) == (30 * MS, 33 * MS)
    assert (lengths["median_ratio"], lengths["mean_ratio"]) == (pytest.approx(1.5), pytest.approx(1.65))
    stages = {s["stage"]: (s["base_ns"] / MS, s["opt_ns"] / MS, s["difference"] / MS) for s in one["stages"]}
    assert stages == {"load": (12, 2, -10), "fwd": (21, 18, -3)}
    assert [s["ratio"] for s in one["stages"]] == [pytest.approx(6), pytest.approx(21 / 18)]
    lines = shown.splitlines()
    assert lines[2].startswith("Only host times are known: neither side has device operations.")
    assert "go by the untraced rounds" not in " ".join(lines), "two recordings have none"
    assert any(line == "median iteration: 30.0 ms -> 20.0 ms, 1.50x" for line in lines[:8])
    assert any(line.split() == ["load", "10", "5", "12.000", "2.000", "-10.000", "6.00x"] for line in lines)
    assert max(map(len, lines)) <= 80


def test_iterations_of_other_names_match_by_the_stages_in_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = steps([30] * 6, load=12).write(tmp_path / "a.sqlite")
    opt = steps([20] * 6, load=2, name="step").write(tmp_path / "b.sqlite")
    found, _ = compared(capsys, base, opt)
    (one,) = found["host_comparisons"]
    assert {s["stage"]: s["status"] for s in one["stages"]} == {"load": "matched", "fwd": "matched"}
    assert "iterations are `iteration` in base and `step` in opt" in one["notes"]


def test_against_a_recording_with_a_device_one_sentence_says_what_cannot_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = steps([30] * 8, load=12).write(tmp_path / "host.sqlite")
    device = steps([20] * 8, load=2, device=True).write(tmp_path / "device.sqlite")
    found, shown = compared(capsys, host, device)
    (one,) = found["host_comparisons"]
    assert one["device_operations"] == {"base": False, "opt": True}
    assert one["iterations"]["median_ratio"] == pytest.approx(1.5)
    assert {s["stage"]: s["difference"] for s in one["stages"]} == {"load": -10 * MS, "fwd": 0}
    words = " ".join(shown.split())
    assert "Only host times can be compared: base (host.sqlite) has no device operations, opt has." in words
    _, turned = compared(capsys, device, host)
    assert "Only host times can be compared: opt (host.sqlite) has no device operations, base has." in " ".join(
        turned.split()
    )


def test_without_iterations_whole_windows_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = NsysExport().range(0, 5 * MS, "load").range(6 * MS, 9 * MS, "load").write(tmp_path / "a.sqlite")
    opt = NsysExport().range(0, 2 * MS, "load").range(3 * MS, 4 * MS, "save").write(tmp_path / "b.sqlite")
    found, shown = compared(capsys, base, opt)
    (one,) = found["host_comparisons"]
    assert (one["per"], one["iterations"]) == ("window", None)
    rows = [(s["stage"], s["status"], s["base_instances"], s["difference"]) for s in one["stages"]]
    assert rows == [("load", "matched", 2, -6 * MS), ("save", "added", 0, 1 * MS)]
    assert "times are of the whole window" in shown


def test_a_window_is_what_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = steps([30] * 6, load=12).write(tmp_path / "a.sqlite")
    found, _ = compared(capsys, file, "--window", "iteration#0", "--against", "iteration#1")
    (one,) = found["host_comparisons"]
    assert one["per"] == "window"
    assert {s["stage"]: (s["base_ns"], s["opt_ns"]) for s in one["stages"]} == {
        "load": (12 * MS, 12 * MS),
        "fwd": (18 * MS, 18 * MS),
    }


def test_neither_operations_nor_stages_leave_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = NsysExport().call(0, 5, "cudaFree").write(tmp_path / "a.sqlite")
    assert main(["compare", str(file), str(file)]) == 2
    assert "it has no stages, so there is no time to compare" in capsys.readouterr().err


def test_a_real_recording_against_one_whose_stage_is_shorter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, opt = tmp_path / "base.sqlite", tmp_path / "opt.sqlite"
    base.write_bytes(lzma.decompress(SAMPLE.read_bytes()))
    shutil.copy(base, opt)
    with closing(sqlite3.connect(opt)) as db, db:
        db.execute(
            'UPDATE NVTX_EVENTS SET "end" = start + ("end" - start) / 2 '
            "WHERE textId IN (SELECT id FROM StringIds WHERE value = 'stage:load') OR text = 'stage:load'"
        )
    found, _ = compared(capsys, base, opt)
    (one,) = found["host_comparisons"]
    rows = {s["stage"]: s["ratio"] for s in one["stages"]}
    assert rows["stage:load"] == pytest.approx(2, abs=0.001)
    assert rows["stage:compute"] == 1
    assert one["stages"][0]["stage"] == "stage:load"
    assert one["iterations"]["base"]["n"] == 11


def test_a_run_whose_recordings_lack_the_device_keeps_its_untraced_times_and_iterations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sample run with nothing but ranges left in its traces: what the device moved is unknown, not other work."""
    run = tmp_path / "run"
    shutil.copytree(SAMPLE.parent / "h200_pipeline_sequential", run)
    for variant in json.loads((run / "manifest.json").read_text())["variants"]:
        packed, plain = run / variant["recording"]["trace"], tmp_path / "plain.sqlite"
        plain.write_bytes(lzma.decompress(packed.read_bytes()))
        with closing(sqlite3.connect(plain)) as db, db:
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                if name.startswith("CUPTI_ACTIVITY"):
                    db.execute(f'DROP TABLE "{name}"')
            db.execute("UPDATE NVTX_EVENTS SET category = NULL WHERE eventType <> 33")
            db.execute("DELETE FROM NVTX_EVENTS WHERE eventType = 33")
            db.commit()
            db.execute("VACUUM")  # rows that were deleted leave gaps, which exports have not
        packed.write_bytes(lzma.compress(plain.read_bytes(), preset=0))
    found, shown = compared(capsys, f"{run}:baseline", f"{run}:optimized")
    (one,) = found["host_comparisons"]
    assert one["objections"] == []
    assert (one["per"], one["iterations"]["base"]["n"], one["iterations"]["base"]["path"]) == (
        "iteration",
        10,
        "iteration",
    )
    assert one["iterations"]["mean_ratio"] == pytest.approx(9.97, abs=0.01)
    assert {s["stage"] for s in one["stages"]} == {"h2d", "d2h", "compute"}
    assert one["untraced"]["ratio"] == pytest.approx(10.03, abs=0.01)
    assert "go by the untraced rounds" in shown
    assert "untraced: 10.03x, between 9.11x and 15.19x (99.5 %, the median ratio of 12 rounds)" in " ".join(
        shown.split()
    )
