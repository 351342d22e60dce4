"""`aisp-trace analyze` as a person and as a script use it: fixed JSON keys, 80 columns, refusals."""

from __future__ import annotations

import json
import lzma
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.analyze.analyze import analyze as analysis_of
from aisp_trace.analyze.document import trace_document
from aisp_trace.report.terminal.analysis import print_analysis
from aisp_trace.tests.oracle.build import build, call, op, span

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "traces" / "samples"
H100 = SAMPLES / "h100_pipeline_decode.sqlite.xz"
CPU = SAMPLES / "cpu_threads_nsys2022.sqlite.xz"


def analyze(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "aisp_trace.cli", "analyze", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    done = analyze(H100, CPU, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


def test_the_fixed_keys_are_there(document: dict[str, Any]) -> None:
    assert set(document) >= {"schema", "traces"}
    for trace in document["traces"]:
        assert set(trace) >= {"variant", "trace", "devices", "stages", "ledger", "trust"}
        assert trace["variant"] is None
        assert set(trace["trace"]) >= {"file", "recorder", "recorder_version", "export_schema"}
    trace = document["traces"][0]
    device = trace["devices"][0]
    keys = {"device", "name", "ops_span_ns", "busy_ns", "idle_ns", "by_kind", "overlap", "exposed_ns"}
    assert set(device) >= keys
    for figures in device["by_kind"].values():
        assert set(figures) >= {"ops", "sum_ns", "union_ns", "nbytes"}
        assert all(isinstance(v, int) for v in figures.values())
    assert set(device["overlap"]) >= {"copy|compute", "comm|compute"}
    assert set(device["overlap"]["copy|compute"]) >= {"both_ns", "hidden"}
    assert set(device["exposed_ns"]) == {"copy", "comm"}
    stage = trace["stages"][0]
    keys = {"device", "path", "instances", "host_ns", "projected_ns", "ops", "by_kind", "self_ops"}
    assert set(stage) >= keys
    ledger = trace["ledger"][0]
    assert set(ledger) >= {"device", "window", "cells"}
    assert set(ledger["cells"][0]) >= {"stage", "category", "cause", "ns"}


def test_copies_of_several_devices_are_told_apart() -> None:
    done = analyze(SAMPLES / "h200x2_ddp.sqlite.xz")
    lines = done.stdout.splitlines()
    heads = [lines.index(f"copies of device {device}") for device in (0, 1)]
    for head in heads:
        assert lines[head + 1].startswith("copies  memory")
    assert max(map(len, lines)) <= 80, "reasons are broken at the width, tables fit it"


def test_the_cells_sum_to_the_window_and_to_the_busy_time(document: dict[str, Any]) -> None:
    trace = document["traces"][0]
    ledger, device = trace["ledger"][0], trace["devices"][0]
    window = ledger["window"]
    assert sum(c["ns"] for c in ledger["cells"]) == window["end_ns"] - window["start_ns"]
    assert sum(c["ns"] for c in ledger["cells"] if c["category"] != "idle") == device["busy_ns"]
    assert device["busy_ns"] + device["idle_ns"] == device["ops_span_ns"]


def test_a_trace_without_a_gpu_has_host_stages_and_says_what_it_cannot_tell(document: dict[str, Any]) -> None:
    trace = document["traces"][1]
    assert trace["devices"] == []
    paths = {s["path"]: s for s in trace["stages"]}
    assert all(s["device"] is None for s in paths.values())
    nested = paths["pipeline\\/baseline/iteration/stage:load"]
    assert (nested["instances"], nested["ops"], nested["projected_ns"]) == (12, 0, 0)
    assert paths["stage:load"]["instances"] == 12
    assert trace["trust"]["overlap"]["level"] == "unavailable"


def test_no_copies_is_null_not_zero() -> None:
    done = analyze(H100, "--window", "decode/baseline", "--json")
    overlap = json.loads(done.stdout)["traces"][0]["devices"][0]["overlap"]
    assert overlap["copy|compute"]["hidden"] is None
    assert overlap["copy|compute"]["both_ns"] == 0


def test_the_tables_fit_80_columns() -> None:
    done = analyze(H100)
    assert done.returncode == 0
    prose = ("partial", "unavailable", "one gap")
    too_long = [line for line in done.stdout.splitlines() if len(line) > 80 and not line.startswith(prose)]
    assert not too_long
    assert "where the time went" in done.stdout
    assert "NVIDIA H100 80GB HBM3" in done.stdout


def test_a_window_is_a_range_an_instance_or_two_instants() -> None:
    for window, length in (
        ("pipeline_sequential/optimized", 77_529_023),
        ("pipeline_sequential/baseline/stage:h2d#0", 12_185_284),
        ("8000ms:8100ms", 100_000_000),
    ):
        done = analyze(H100, "--window", window, "--json")
        found = json.loads(done.stdout)["traces"][0]["ledger"][0]["window"]
        assert found["end_ns"] - found["start_ns"] == length


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--window", "nothing"), "no range is called 'nothing'"),
        (("--window", "pipeline_sequential/baseline/stage:h2d"), "has 12 instances; choose one"),
        (("--window", "5ms:1ms"), "ends before it starts"),
        (("--domain", "nope"), "no ranges of domain 'nope'"),
        (("--attribution", "guess"), "'guess' does not exist"),
        (("--no-such-option",), "no-such-option"),
    ],
)
def test_refusals_are_one_sentence_and_exit_2(args: tuple[str, ...], said: str) -> None:
    done = analyze(H100, *args)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_unreadable_input_is_refused_and_left_alone(tmp_path: Path) -> None:
    whole = lzma.decompress(H100.read_bytes())
    cases = {
        "text.sqlite": b"hello",
        "empty.sqlite": b"",
        "cut.sqlite": whole[: len(whole) // 3],
        "other.json": b'{"a": 1}',
    }
    for name, content in cases.items():
        file = tmp_path / name
        file.write_bytes(content)
        done = analyze(file)
        assert done.returncode == 2, name
        assert "Traceback" not in done.stderr
        assert name in done.stderr
        assert file.read_bytes() == content
    missing = analyze(tmp_path / "missing.sqlite")
    assert missing.returncode == 2
    assert "does not exist" in missing.stderr


def test_without_an_argument_the_newest_run_is_meant(tmp_path: Path) -> None:
    done = analyze(cwd=tmp_path)
    assert done.returncode == 2
    assert "no complete run lies under aisp-runs" in done.stderr


def test_an_unfinished_run_is_recognised_and_named(tmp_path: Path) -> None:
    folder = tmp_path / ".partial-pipeline_sequential-20260101T000000Z"
    folder.mkdir()
    done = analyze(folder)
    assert done.returncode == 2
    assert "unfinished run" in done.stderr
    assert "--resume" in done.stderr


def test_a_sample_analysed_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    copy = tmp_path / H100.name
    shutil.copy(H100, copy)
    assert analyze(H100, "--json").stdout == analyze(copy, "--json").stdout


def test_of_many_stages_the_longest_are_shown_and_the_rest_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """A hundred stages in a row of 10 us each, the last of which is the longest; all below one."""
    ranges = [
        span("all", 0, 2_000_000),
        *(span(f"step {i:03}", 10_000 * i, 10_000 * i + 9_000 + i) for i in range(100)),
    ]
    calls = [call("cudaLaunchKernel", 10_000 * i, 10_000 * i + 5, i + 1) for i in range(100)]
    calls += [call("cudaMalloc", 10_000 * i + 10, 10_000 * i + 20) for i in range(100)]
    ops = [op("compute", 10_000 * i + 100, 10_000 * i + 200, i + 1) for i in range(100)]
    found = analysis_of(build(ranges=ranges, api=calls, ops=ops), fold=False)
    assert found.stages.height == 101
    print_analysis(found)
    lines = capsys.readouterr().out.splitlines()
    top = next(i for i, line in enumerate(lines) if line.startswith("stage (ms)"))
    names = [line.split("  0  ")[0].rstrip() for line in lines[top + 1 : top + 61]]
    assert names == ["all", *(f"  step {i:03}" for i in range(41, 100))]
    assert lines[top + 61] == "41 more of at least 0.1 % are not shown; --depth and --stages choose, --json lists them"
    assert "and 39 stages that stalled less" in lines, "the first call lies before the first kernel"
    assert len(trace_document(found)["stages"]) == 101


def test_one_source_that_cannot_be_read_hides_none_of_the_others() -> None:
    folder = SAMPLES / "h200x2_fsdp"
    done = analyze(folder, CPU)
    assert done.returncode == 2
    assert f"aisp-trace ranks {folder}" in done.stderr and done.stderr.count("\n") == 1
    assert CPU.name in done.stdout and "stage (ms)" in done.stdout
    alone, document = analyze(folder), analyze(folder, CPU, "--json")
    assert (alone.returncode, alone.stdout, document.returncode, document.stdout) == (2, "", 2, "")
