"""Whatever a person names: a trace is opened by its content, and anything else is refused in one sentence."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.builders.samples import SAMPLES, unpack
from aisp_trace.traces.errors import EmptyTraceError, InputError, RecorderError
from aisp_trace.traces.open import NSYS_REPORT_MAGIC, open_trace

ANNOTATION = {"ph": "X", "cat": "user_annotation", "name": "load", "pid": 1, "tid": 1, "ts": 1, "dur": 1}


@pytest.mark.parametrize(
    ("file", "ops", "ranges"),
    [
        ("h100_pipeline_decode.sqlite.xz", 2391 + 113 + 64, 223),
        ("h100_pipeline_decode_graph_nodes.sqlite.xz", 4439 + 113, 222),
        ("h100_pipeline_decode_nsys2023.sqlite.xz", 2391 + 113, 222),
        ("h100_pipeline_decode_kineto.json.gz", 4439 + 113, 7610),  # operators
        ("cpu_threads_nsys2022.sqlite.xz", 0, 86),
    ],
)
def test_every_sample_opens_packed_as_it_is(file: str, ops: int, ranges: int) -> None:
    trace = open_trace(SAMPLES / file)
    assert (trace.ops.height, trace.ranges.height) == (ops, ranges)
    assert trace.meta.file == file


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    export = NsysExport().kernel(1, 2).write(tmp_path / "export.json")
    profile = tmp_path / "profile.sqlite"
    profile.write_text("\n  " + json.dumps({"traceEvents": [ANNOTATION]}))
    packed = tmp_path / "packed.txt"
    packed.write_bytes(gzip.compress(export.read_bytes()))
    assert [open_trace(p).meta.recorder for p in (export, profile, packed)] == ["nsys", "torch", "nsys"]


def test_the_side_file_beside_a_torch_trace_is_found(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json.gz"
    trace.write_bytes(gzip.compress(json.dumps({"traceEvents": [ANNOTATION]}).encode()))
    assert open_trace(trace).ranges.get_column("domain").to_list() == [""]
    entry = {"name": "load", "kind": "h2d", "nbytes": 8, "tid": 1, "index": 0}
    stages = {"schema": "aisp-trace/stages/1", "ranges": [entry]}
    (tmp_path / "stages.json").write_text(json.dumps(stages))
    opened = open_trace(trace)
    assert opened.ranges.get_column("domain").to_list() == ["aisp"]
    assert opened.ops.select("kind", "nbytes").rows() == [("h2d", 8)]


def test_a_report_is_exported_first(tmp_path: Path) -> None:
    report = tmp_path / "run.nsys-rep"
    report.write_bytes(NSYS_REPORT_MAGIC + b" 1.")
    seen = []

    def export(source: Path, target: Path) -> None:
        seen.append(source)
        NsysExport().kernel(1, 2).write(target)

    trace = open_trace(report, export=export)
    assert seen == [report]
    assert (trace.meta.file, trace.ops.height) == ("run.nsys-rep", 1)


def test_a_report_without_nsys_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "run.nsys-rep"
    report.write_bytes(NSYS_REPORT_MAGIC + b" 1.")
    monkeypatch.delenv("AISP_NSYS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecorderError, match=r"no nsys was found; install it or set AISP_NSYS"):
        open_trace(report)
    failing = tmp_path / "nsys"
    failing.write_text("#!/bin/sh\necho 'Importer error status' >&2\nexit 3\n")
    failing.chmod(0o755)
    monkeypatch.setenv("AISP_NSYS", str(failing))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(RecorderError, match="exit 3; it said: Importer error status"):
        open_trace(report)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_trace(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_what_is_no_trace(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "absent.sqlite")
    assert "a folder" in refused(tmp_path)
    for name, content, word in (
        ("empty", b"", "it is empty"),
        ("text", b"hello world", "it is neither"),
        ("json", b'{"a": 1}', "no list `traceEvents`"),
        ("half.json", b'{"traceEvents": [', "not complete JSON"),
        ("half.xz", lzma.compress(b"x" * 9999)[:-20], "damaged"),
        ("half.gz", gzip.compress(bytes(range(256)) * 99, mtime=0)[:-20], "damaged"),
        ("noise.gz", b"\x1f\x8b\x08\x00" + b"\xff" * 200, "damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        assert word in refused(tmp_path / name)


def test_traces_of_other_tools_are_named_with_what_to_give_instead(tmp_path: Path) -> None:
    source = tmp_path / "t.sqlite"
    NsysExport().kernel(1, 2).range(0, 9, "s").write(source)
    assert main(["export", str(source), "--to", "perfetto", "-o", str(tmp_path / "t.pftrace")]) == 0
    packed = tmp_path / "t.gz"
    packed.write_bytes(gzip.compress((tmp_path / "t.pftrace").read_bytes()))
    for file in (tmp_path / "t.pftrace", packed):
        assert "a Perfetto trace (.pftrace), which is not read here; give the trace that it was made from" in refused(
            file
        )
    plane = b"\x08\x01\x12\x09/host:CPU"
    (tmp_path / "x.pb").write_bytes((b"\x0a" + bytes([len(plane)]) + plane) * 2 + b"\x22\x04node")
    assert "JAX or TensorFlow (.xplane.pb)" in refused(tmp_path / "x.pb")
    for number, content in enumerate(
        (b"\nhello, this is a text", b"\n\n\n\n", b"\n", b"\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
    ):
        (tmp_path / f"{number}").write_bytes(content)
        assert "it is neither an nsys export nor a torch.profiler file" in refused(tmp_path / f"{number}")


def test_truncated_and_corrupt_databases(tmp_path: Path) -> None:
    whole = unpack("h100_pipeline_decode", tmp_path).read_bytes()
    for size in (16, 99, 5_000, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:size])
        assert "truncated" in refused(tmp_path / "cut")
    broken = bytearray(whole)
    broken[4096:] = b"\xa5" * (len(whole) - 4096)
    (tmp_path / "noise").write_bytes(broken)
    assert "damaged" in refused(tmp_path / "noise")
    with closing(sqlite3.connect(tmp_path / "h100_pipeline_decode.sqlite")) as db:
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'CUPTI_ACTIVITY_KIND_RUNTIME'").fetchone()[0]
    broken = bytearray(whole)
    broken[(page - 1) * 4096 : page * 4096] = bytes(4096)
    (tmp_path / "hole").write_bytes(broken)
    assert "damaged" in refused(tmp_path / "hole")


def test_a_database_of_something_else(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as db, db:
        db.execute("CREATE TABLE StringIds (name TEXT)")
    assert "something else" in refused(tmp_path / "other.sqlite")


def test_a_trace_in_which_nothing_happened(tmp_path: Path) -> None:
    nsys = NsysExport().kernel(5, 0).write(tmp_path / "empty.sqlite")
    torch = tmp_path / "empty.json"
    torch.write_text('{"traceEvents": []}')
    for path in (nsys, torch):
        with pytest.raises(EmptyTraceError, match="nothing happened in it"):
            open_trace(path)


def test_no_temporary_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    shutil.copy(SAMPLES / "h100_pipeline_decode.sqlite.xz", tmp_path)
    open_trace(tmp_path / "h100_pipeline_decode.sqlite.xz")
    assert list(temporary.iterdir()) == []
