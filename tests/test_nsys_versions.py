"""Exports of nsys from 2021 to 2026: shapes of rows, tables that name devices, MIG, and reports that are too new."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport, gid
from aisp_trace.tests.builders.samples import SAMPLES
from aisp_trace.tests.test_foreign_traces import ALIKE, cells, recording
from aisp_trace.traces.errors import EmptyTraceError, RecorderError
from aisp_trace.traces.nsys.read import read_nsys
from aisp_trace.traces.open import NSYS_REPORT_MAGIC, open_trace
from aisp_trace.traces.scrub.nsys import scrub_sqlite
from aisp_trace.traces.unpack import unpack

KERNELS = "CUPTI_ACTIVITY_KIND_KERNEL"


def without(export: NsysExport, table: str, *columns: str) -> None:
    """Take `columns` out of the declaration and the rows of `table`."""
    declared = [part.strip() for part in export.columns[table].split(",")]
    export.columns[table] = ", ".join(part for part in declared if part.split()[0] not in columns)
    for row in export.rows.get(table, []):
        for column in columns:
            row.pop(column, None)


def defaults_for_nulls(export: NsysExport) -> None:
    """As nsys wrote until 2022: every column NOT NULL, 0 or an empty text where nothing is to be said."""
    for table, rows in export.rows.items():
        parts = [part.split() for part in export.columns[table].split(",")]
        kinds = {name: kind for name, kind, *_ in parts}
        for row in rows:
            for name, kind in kinds.items():
                if row.get(name) is None:
                    row[name] = "" if kind == "TEXT" else 0


def early_2021(export: NsysExport) -> NsysExport:
    """Without graphs' nodes and a description of the export; devices in TARGET_INFO_CUDA_GPU."""
    export.rows.pop("META_DATA_EXPORT", None)
    without(export, KERNELS, "graphNodeId", "greenContextId", "mangledName")
    export.columns["TARGET_INFO_CUDA_GPU"] = (
        "deviceId INTEGER, name TEXT, computeCapabilityMajor INTEGER, computeCapabilityMinor INTEGER, "
        "numMultiprocessors INTEGER, coreClockRate INTEGER, globalMemorySize INTEGER, globalMemoryBandwidth INTEGER"
    )
    export.add(
        "TARGET_INFO_CUDA_GPU", deviceId=0, name="Tesla V100", computeCapabilityMajor=7, computeCapabilityMinor=0,
        numMultiprocessors=80, coreClockRate=1380000, globalMemorySize=16 << 30, globalMemoryBandwidth=900,
    )  # fmt: skip
    defaults_for_nulls(export)
    return export


def mid_2021(export: NsysExport) -> NsysExport:
    """Devices in TARGET_INFO_GPU, without a host, a bandwidth or a clock."""
    export.rows.pop("META_DATA_EXPORT", None)
    export.columns["TARGET_INFO_GPU"] = "id INTEGER, name TEXT, busLocation TEXT, smCount INTEGER"
    export.add("TARGET_INFO_GPU", id=0, name="Tesla V100", smCount=80)
    defaults_for_nulls(export)
    return export


def from_2026(export: NsysExport) -> NsysExport:
    """Green contexts, graph ids and priorities in kernels; more columns than any reader knows."""
    export.columns[KERNELS] += ", priority INTEGER, graphId INTEGER, graphExecId INTEGER, tbd INTEGER"
    export.columns["TARGET_INFO_CUDA_DEVICE"] += ", uuid TEXT, numMultiprocessors INTEGER"
    export.columns["TARGET_INFO_GPU"] += ", numaNodeId INTEGER"
    export.add("TARGET_INFO_GPU", vmId=gid(0), id=0, name="Tesla V100", smCount=80, numaNodeId=1)
    export.add("TARGET_INFO_CUDA_DEVICE", gpuId=0, cudaId=0, pid=100, uuid="GPU-1", numMultiprocessors=80)
    return export


SHAPES = {"early 2021": early_2021, "mid 2021": mid_2021, "2026": from_2026}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_rows_gives_the_same_ledger(shape: str, tmp_path: Path) -> None:
    export = SHAPES[shape](recording())
    export.add("NVTX_EVENTS", start=5, end=None, eventType=34, text="a mark", globalTid=gid(100, 100))
    trace = open_trace(export.write(tmp_path / "t.sqlite"))
    scrub_sqlite(tmp_path / "t.sqlite", tmp_path / "scrubbed.sqlite")
    assert open_trace(tmp_path / "scrubbed.sqlite").devices["name"].to_list() == ["Tesla V100"]
    assert cells(analyze(trace)) == ALIKE
    assert trace.ranges.select("tid", "end_tid", "name").rows() == [(100, 100, "s")]
    assert trace.ops["graph_node"].to_list() == [None, None]
    assert trace.devices.select("name", "sm_count").rows() == [("Tesla V100", 80)]


def test_payloads_of_2021_are_those_that_are_not_zero(tmp_path: Path) -> None:
    export = NsysExport().kernel(1, 2).range(0, 9, "s", uint32Value=4096)
    defaults_for_nulls(export)
    assert read_nsys(export.write(tmp_path / "t.sqlite")).ranges["nbytes"].to_list() == [4096]


def test_a_device_without_a_table_has_the_name_that_the_program_gave_it(tmp_path: Path) -> None:
    export = NsysExport().kernel(1, 2).kernel(3, 4, deviceId=1)
    export.columns["TARGET_INFO_NVTX_CUDA_DEVICE"] = "name TEXT, hwId INTEGER, vmId INTEGER, deviceId INTEGER"
    export.add("TARGET_INFO_NVTX_CUDA_DEVICE", name="left", hwId=0, vmId=0, deviceId=0)
    assert read_nsys(export.write(tmp_path / "t.sqlite")).devices["name"].to_list() == ["left", "GPU 1"]


def test_mig_instances_are_devices_of_their_own(tmp_path: Path) -> None:
    """Two instances of GPU 0 and one of GPU 1, each its process's device 0; both halves of GPU 0 are busy at once."""
    export = NsysExport()
    export.columns["TARGET_INFO_CUDA_DEVICE"] += ", uuid TEXT, numMultiprocessors INTEGER"
    for pid, gpu, uuid, sms in ((100, 0, "MIG-b", 16), (200, 0, "MIG-a", 32), (300, 1, "MIG-c", 16)):
        export.call(0, 5, "cudaLaunchKernel", pid=pid, tid=pid).kernel(10, 60, pid=pid)
        export.add("TARGET_INFO_CUDA_DEVICE", gpuId=gpu, cudaId=0, pid=pid, uuid=uuid, numMultiprocessors=sms)
    for gpu in (0, 1):
        export.add("TARGET_INFO_GPU", vmId=gid(0), id=gpu, name="H100", uuid=f"GPU-{gpu}", smCount=132, computeMajor=9)
    scrub_sqlite(export.write(tmp_path / "t.sqlite"), tmp_path / "scrubbed.sqlite")
    for file in ("scrubbed", "t"):
        trace = open_trace(tmp_path / f"{file}.sqlite")
        assert trace.ops.select("pid", "device").rows() == [(100, 0), (200, 2), (300, 1)]
        assert trace.devices.select("device", "name", "sm_count").rows() == [
            (0, "H100 MIG instance of 16 SMs", 16),
            (1, "H100 MIG instance of 16 SMs", 16),
            (2, "H100 MIG instance of 32 SMs", 32),
        ]
    assert trace.devices["uuid"].to_list() == ["MIG-b", "MIG-c", "MIG-a"]
    assert [row["busy_ns"] for row in analyze(trace).devices.iter_rows(named=True)] == [50, 50, 50]


def test_programs_of_windows_are_called_without_their_folders(tmp_path: Path) -> None:
    export = NsysExport().kernel(1, 2).call(0, 1, "cudaLaunchKernel")
    export.add("PROCESSES", globalPid=gid(100), pid=100, name="C:\\Users\\someone\\python.exe")
    scrub_sqlite(export.write(tmp_path / "t.sqlite"), tmp_path / "scrubbed.sqlite")
    for file in ("t", "scrubbed"):
        assert read_nsys(tmp_path / f"{file}.sqlite").processes["name"].to_list() == ["python.exe"]
    assert b"someone" not in (tmp_path / "scrubbed.sqlite").read_bytes()


def test_ranges_of_another_domain_alone_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = recording().domain(3, "myapp")
    export.rows["NVTX_EVENTS"][0]["domainId"] = 3
    path = str(export.write(tmp_path / "t.sqlite"))
    assert main(["analyze", path]) == 0
    assert "myapp (1); --domain myapp makes them the stages" in " ".join(capsys.readouterr().out.split())
    assert main(["analyze", path, "--domain", "myapp"]) == 0
    assert "makes them the stages" not in capsys.readouterr().out


@pytest.mark.parametrize("tables", [(), (KERNELS,), (KERNELS, "NVTX_EVENTS", "CUPTI_ACTIVITY_KIND_RUNTIME")])
def test_an_export_with_nothing_in_it_is_refused_in_a_sentence(tables: tuple[str, ...], tmp_path: Path) -> None:
    export = NsysExport()
    for table in tables:
        export.rows[table] = []
    with pytest.raises(EmptyTraceError, match="nothing happened in it"):
        open_trace(export.write(tmp_path / "t.sqlite"))


@pytest.mark.parametrize("seed", [1, 2])
def test_rows_of_every_table_may_stand_in_any_order(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    unpack(SAMPLES / "h200x2_two_processes.sqlite.xz", path)
    before = analyze(open_trace(path))
    with closing(sqlite3.connect(path)) as db, db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            (declared,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            rows = db.execute(f"SELECT * FROM {table}").fetchall()
            Random(seed).shuffle(rows)
            db.execute(f"DROP TABLE {table}")
            db.execute(declared)
            if rows:
                db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    after = analyze(open_trace(path))
    for name in ("ledger", "devices", "stages", "trust", "launches"):
        assert getattr(after, name).equals(getattr(before, name)), name


def fake_nsys(folder: Path, said: str, version: str) -> Path:
    script = folder / "nsys"
    script.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "NVIDIA Nsight Systems version {version}"; exit 0; fi\n'
        f'echo "{said}" >&2\nexit 1\n'
    )
    script.chmod(0o755)
    return script


SAID = (
    "Exportation error: Report was created in Nsight Systems version (2026.3.1.12-3), "
    "newer than your current version (2025.3.2.0)."
)


@pytest.mark.parametrize(
    ("said", "inside", "words"),
    [
        (SAID, b"", "by Nsight Systems 2026.3.1.12, and this one is 2025.3.2.0; install 2026.3.1.12 or newer"),
        (
            "Importer error status",
            b"2026.3.1.12-df9881f",
            "by Nsight Systems 2026.3.1.12, and this one is 2025.3.2.474",
        ),
        ("Importer error status", b"2024.1.1.59-df9881f", "exit 1; it said: Importer error status"),
        ("Importer error status", b"nothing", "exit 1; it said: Importer error status"),
    ],
)
def test_a_report_that_is_too_new_says_which_nsys_reads_it(
    said: str, inside: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "run.nsys-rep"
    report.write_bytes(NSYS_REPORT_MAGIC + b" 1." + bytes(200_000) + b"\x02vm2\x12" + inside + b":\x12")
    monkeypatch.setenv("AISP_NSYS", str(fake_nsys(tmp_path, said, "2025.3.2.474-253236389321v0")))
    with pytest.raises(RecorderError) as caught:
        open_trace(report)
    assert words in str(caught.value) and "\n" not in str(caught.value)
