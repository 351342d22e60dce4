"""Calls without device rows: the first lines say what is missing, of whom, what is known instead, and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport

US = 1_000


def shown(capsys: pytest.CaptureFixture[str], file: Path, *more: str) -> list[str]:
    assert main(["analyze", str(file), *more]) == 0
    return capsys.readouterr().out.splitlines()


def analysis_of(capsys: pytest.CaptureFixture[str], file: Path) -> dict[str, Any]:
    assert main(["analyze", str(file), "--json"]) == 0
    trace: dict[str, Any] = json.loads(capsys.readouterr().out)["traces"][0]
    return trace


def two_processes() -> NsysExport:
    """Process 100 is whole; of process 101, which launched as often, no device row was recorded."""
    export = NsysExport().add("PROCESSES", globalPid=(1 << 48) | (101 << 24), pid=101, name="/usr/bin/worker")
    for pid in (100, 101):
        export.range(0, 2_000 * US, "step", pid=pid, tid=pid)
        for i in range(20):
            at = i * 100 * US
            export.call(at, at + 5 * US, "cudaLaunchKernel", pid=pid, tid=pid, correlationId=i + 1)
            if pid == 100:
                export.kernel(at + 10 * US, at + 90 * US, pid=pid, correlationId=i + 1)
    return export


def test_the_process_that_lacks_rows_is_named_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = two_processes().write(tmp_path / "t.sqlite")
    first = " ".join(" ".join(shown(capsys, file)[:10]).split())
    assert "MISSING: 20 of 20 launches of process 101 (worker) have no device row" in first
    assert "--cuda-flush-interval=1000" in first
    assert "process 100" not in first
    found = analysis_of(capsys, file)
    assert [(row["pid"], row["launches"], row["missing"]) for row in found["launch_rows"]] == [
        (100, 20, 0),
        (101, 20, 20),
    ]
    assert (
        "process 101 launched 20 times, and none of these operations was recorded"
        in found["trust"]["processes"]["reason"]
    )
    assert found["trust"]["ledger"]["level"] == "ok", "the other process is whole"
    assert main(["report", str(file), "-o", str(tmp_path / "r.html")]) == 0
    assert "20 of 20 launches of process 101 (worker) have no device row" in (tmp_path / "r.html").read_text()


def test_a_whole_recording_says_nothing_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = NsysExport().call(0, 5, "cudaLaunchKernel").kernel(10, 90).call(20, 25, "cudaStreamSynchronize")
    lines = shown(capsys, export.write(tmp_path / "t.sqlite"))
    assert not any("MISSING" in line or "No device operations" in line for line in lines)


def test_calls_without_any_row_are_diagnosed_in_the_first_ten_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = NsysExport().range(0, 1_000 * US, "step")
    for i in range(6):
        export.call(i * US, (i + 1) * US, "cudaLaunchKernel", correlationId=i + 1)
    export.call(10 * US, 910 * US, "cudaDeviceSynchronize", correlationId=9)
    file = export.write(tmp_path / "t.sqlite")
    first = " ".join(" ".join(shown(capsys, file)[:10]).split())
    assert (
        "No device operations were recorded: 6 of 6 launches have no device row, so only host times are known." in first
    )
    assert "--cuda-flush-interval=1000" in first
    assert "cudaDeviceSynchronize 900 us in 1 call (longest 900 us), cudaLaunchKernel 6.00 us in 6 calls" in first


def test_calls_that_launch_nothing_lack_no_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = NsysExport().range(0, 100, "step").call(0, 50, "cudaMalloc").write(tmp_path / "t.sqlite")
    first = " ".join(" ".join(shown(capsys, file)[:10]).split())
    assert "none of the recorded calls launches any: only host times are known" in first
    assert "buffers" not in first


def test_a_torch_trace_without_kernels_has_the_remedy_of_its_profiler(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of pytorch/kineto#996: runtime calls, and no kernel of theirs."""
    calls = [
        {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 1, "tid": 1, "ts": 10 * i, "dur": 8}
        | {"args": {"correlation": i + 1}}
        for i in range(6)
    ]
    step = {"ph": "X", "cat": "user_annotation", "name": "step", "pid": 1, "tid": 1, "ts": 0, "dur": 100}
    file = tmp_path / "t.json"
    file.write_text(json.dumps({"schemaVersion": 1, "traceEvents": [step, *calls]}))
    first = " ".join(" ".join(shown(capsys, file)[:10]).split())
    assert "6 of 6 launches have no device row" in first
    assert "CUPTI could not record" in first and "nsys" not in first
    assert "cudaLaunchKernel 48.0 us in 6 calls (longest 8.00 us)" in first


def test_a_recording_of_the_host_alone_says_how_to_record_a_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(capsys, NsysExport().range(0, 100, "step").write(tmp_path / "t.sqlite"))
    first = " ".join(" ".join(lines[:5]).split())
    assert "No device operations were recorded, and no calls that launch any: only host times are known." in first
    assert "record with `nsys profile --trace=cuda,nvtx`" in first


# --- the recorder's own messages ------------------------------------------------------------------------------------------

WARNING, ERROR, INFORMATION = 2, 3, 1


def with_messages(*messages: tuple[int, str]) -> NsysExport:
    export = NsysExport().call(0, 5, "cudaLaunchKernel").kernel(10, 90)
    for i, (severity, text) in enumerate(messages):
        export.add("DIAGNOSTIC_EVENT", timestamp=i, severity=severity, text=text)
    return export


def test_errors_and_warnings_of_what_is_missing_stand_beside_trust(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = with_messages(
        (WARNING, "Not all CUDA events might have been collected."),
        (WARNING, "Not all CUDA events  might\thave been collected."),
        (WARNING, "Environment variable FOO is ignored."),
        (INFORMATION, "Number of CUDA events collected: 2."),
        (ERROR, "The agent was closed."),
    ).write(tmp_path / "t.sqlite")
    lines = shown(capsys, file)
    assert "nsys reports an error: The agent was closed." in lines
    assert "nsys warns: Not all CUDA events might have been collected. (2 times)" in lines
    assert not any("FOO" in line or "Number of CUDA" in line for line in lines)
    assert analysis_of(capsys, file)["diagnostics"] == [
        {"severity": "error", "text": "The agent was closed.", "times": 1, "incomplete": True},
        {
            "severity": "warning",
            "text": "Not all CUDA events might have been collected.",
            "times": 2,
            "incomplete": True,
        },
        {"severity": "warning", "text": "Environment variable FOO is ignored.", "times": 1, "incomplete": False},
    ]
    assert main(["report", str(file), "-o", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "warning: Not all CUDA events might have been collected. (2 times)" in page
    assert "Environment variable FOO" in page


@pytest.mark.parametrize("what", ["NVTX", "CUDA"])
def test_a_process_without_events_is_no_gap_in_a_trace_that_has_them(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """nsys says so of a job's launcher, say; only where the whole trace has none it is the reader's business."""
    text = f"No {what} events collected. Does the process use {what}?"
    export = with_messages((WARNING, text)) if what == "CUDA" else with_messages((WARNING, text)).range(0, 100, "step")
    file = export.write(tmp_path / "has.sqlite")
    assert text not in " ".join(" ".join(shown(capsys, file)).split())
    assert [row["incomplete"] for row in analysis_of(capsys, file)["diagnostics"]] == [False]
    without = NsysExport().range(0, 100, "step") if what == "CUDA" else with_messages()
    without.add("DIAGNOSTIC_EVENT", timestamp=0, severity=WARNING, text=text)
    told = " ".join(" ".join(shown(capsys, without.write(tmp_path / "none.sqlite"))).split())
    assert f"nsys warns: {text}" in told


def test_what_trust_quotes_is_not_said_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = with_messages((WARNING, "3 CUPTI buffers were dropped.")).write(tmp_path / "t.sqlite")
    text = " ".join(" ".join(shown(capsys, file)).split())
    assert text.count("3 CUPTI buffers were dropped.") == 1
    assert "the recorder says: 3 CUPTI buffers were dropped." in text


def test_many_messages_are_counted_after_five(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = with_messages(*((ERROR, f"module {i} broke") for i in range(9))).write(tmp_path / "t.sqlite")
    lines = shown(capsys, file)
    assert [line for line in lines if "broke" in line] == [f"nsys reports an error: module {i} broke" for i in range(5)]
    assert "and 4 more such messages in --json" in lines


def test_a_long_or_hostile_message_is_quoted_in_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = with_messages((ERROR, "x\x1b[2J" + "lost " * 50_000)).write(tmp_path / "t.sqlite")
    lines = shown(capsys, file)
    assert len("".join(line for line in lines if "lost" in line)) < 1_000
    assert "\x1b" not in "".join(lines)


def captured_launches(tid: int = 100, *, begins: bool = True, result: int = 0) -> NsysExport:
    """100 launches into a capture of thread 100, by thread `tid`; then 20 that run. No nodes: the graph is recorded whole."""
    export = NsysExport()
    if begins:
        export.call(0, 5 * US, "cudaStreamBeginCapture_v10000", correlationId=800, returnValue=result)
    for i in range(100):
        export.call((10 + i) * US, (10 + i) * US + 500, "cudaLaunchKernel", correlationId=1000 + i, tid=tid)
    export.call(200 * US, 201 * US, "cudaStreamEndCapture_v10000", correlationId=801, returnValue=result)
    for i in range(20):
        at = 1000 * US + i * 100 * US
        export.call(at, at + 5 * US, "cudaLaunchKernel", correlationId=i + 1)
        export.kernel(at + 10 * US, at + 60 * US, correlationId=i + 1)
    return export


@pytest.mark.parametrize(
    "export",
    [
        captured_launches(),
        captured_launches(tid=200),  # autograd's, of a backward pass that is captured
        captured_launches(begins=False),  # the recording began in the capture
        captured_launches(tid=200, begins=False),
    ],
    ids=["own", "another thread's", "begun before", "another thread's, begun before"],
)
def test_launches_into_a_capture_are_not_missed(
    export: NsysExport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = export.write(tmp_path / "t.sqlite")
    assert "MISSING" not in " ".join(shown(capsys, file))
    assert [(r["launches"], r["missing"]) for r in analysis_of(capsys, file)["launch_rows"]] == [(20, 0)]


def test_a_capture_before_the_recording_hides_no_loss_after_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first capture's begin is not in the recording. The second's is; then launches are lost, of this process and of another
    one that captures nothing."""
    export = captured_launches(begins=False)
    export.call(4000 * US, 4001 * US, "cudaStreamBeginCapture_v10000", correlationId=802)
    for i in range(30):
        export.call((4010 + i) * US, (4010 + i) * US + 500, "cudaLaunchKernel", correlationId=2000 + i)
    export.call(4100 * US, 4101 * US, "cudaStreamEndCapture_v10000", correlationId=803)
    for i in range(25):
        at = (4200 + i) * US
        export.call(at, at + 500, "cudaLaunchKernel", correlationId=3000 + i)
        export.call(20 * US + i * US, 20 * US + i * US + 500, "cudaLaunchKernel", correlationId=1 + i, pid=7, tid=7)
    found = analysis_of(capsys, export.write(tmp_path / "t.sqlite"))["launch_rows"]
    assert [(r["pid"], r["launches"], r["missing"]) for r in found] == [(7, 25, 25), (100, 45, 25)]


def test_a_capture_that_did_not_begin_hides_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """cudaErrorIllegalState of both calls."""
    found = analysis_of(capsys, captured_launches(result=401).write(tmp_path / "t.sqlite"))["launch_rows"]
    assert [(r["launches"], r["missing"]) for r in found] == [(120, 100)]
