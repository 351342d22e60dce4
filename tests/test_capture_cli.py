"""`aisp-trace capture` as a person meets it: options, refusals, dry runs, and a run with the embedded recorder."""

from __future__ import annotations

import gzip
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from aisp_trace.capture.nsight import Nsys
from aisp_trace.capture.nsys import NsysRecorder
from aisp_trace.cli.main import main
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.run import load_run

FAKE = Path(__file__).with_name("fake_workload.py")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go below the current folder, which is not the checkout."""
    monkeypatch.chdir(tmp_path)


def test_a_dry_run_prints_every_command_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["capture", "pipeline_sequential", "--profile", "none", "--rounds", "2", "--size", "tiny", "--device", "cpu"]
    assert main([*args, "--iterations", "4", "--seed", "5", "--dry-run"]) == 0
    head, *commands = capsys.readouterr().out.splitlines()
    assert head.startswith("# pipeline_sequential, profile none, recorder none")
    words = [shlex.split(command) for command in commands]
    assert [[w[i + 1] for i, word in enumerate(w) if word == "--variant"] for w in words] == [
        ["baseline", "optimized"],
        ["optimized", "baseline"],
    ]
    assert words[0][1:4] == ["-P", "-m", "aisp_trace.workloads.pipeline_sequential"]
    assert "--iterations 4" in commands[0]
    assert "--seed 5" in commands[0]
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_the_torch_recorder_shows_its_variables(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    args = ["capture", "pipeline_sequential", "--recorder", "torch", "--rounds", "0", "--device", "cpu", "--dry-run"]
    assert main([*args, "--variant", "optimized"]) == 0
    _, traced = capsys.readouterr().out.splitlines()
    assert traced.startswith("AISP_TRACE_RECORDER=torch AISP_TRACE_OUTPUT=")
    assert traced.endswith("--trace")
    assert "baseline" not in traced


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["pipeline_sequentia"], "no workload is called 'pipeline_sequentia'; did you mean 'pipeline_sequential'?"),
        (["pipeline_sequential", "--variant", "optimised"], "no variant 'optimised'; did you mean 'optimized'?"),
        (["pipeline_sequential", "--size", "huge"], "has no size 'huge'; it has tiny, default, large"),
        (["pipeline_sequential", "--device", "tpu"], "device 'tpu' does not exist"),
        (["pipeline_sequential", "--profile", "roofline"], "profile 'roofline' does not exist"),
        (["pipeline_sequential", "--recorder", "perf"], "recorder 'perf' does not exist"),
        (["pipeline_sequential", "--profile", "none", "--iterations", "0"], "--iterations is 0"),
        (["pipeline_sequential", "--itertions", "3"], "no option of capture is called '--itertions'; did you mean"),
        (["absent.py"], "absent.py does not exist"),
        (["absent.py", "--steps", "3"], "absent.py does not exist; check its spelling"),
        (["pipeline_sequential", "--", "true"], "both the workload 'pipeline_sequential' and a command were given"),
        (["--rounds", "3", "--", "true"], "--rounds was given with a command of your own"),
        (["--", "no-such-program", "-x"], "the program 'no-such-program' was not found; check its spelling"),
        (["--profile", "none", "--", "true"], "profile none times workloads and cannot record a command"),
        (["--resume", "x", "--seed", "3"], "--seed was given together with --resume"),
        (["--resume", "x", "pipeline_sequential"], "workload was given together with --resume"),
        (["--resume", "x"], "not an unfinished run"),
        (["--resume", "x", "--timeout", "9"], "not an unfinished run"),
    ],
)
def test_refusals_are_one_sentence_and_leave_nothing(
    args: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["capture", *args]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_workload_in_a_file_recorded_by_the_embedded_recorder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    args = ["capture", str(FAKE), "--recorder", "torch", "--device", "cpu", "--rounds", "1", "--iterations", "2"]
    assert main([*args, "--variant", "baseline"]) == 0
    out, err = capsys.readouterr()
    (folder,) = (tmp_path / "aisp-runs").glob("[!.]*")
    assert out.splitlines() == [f"run: aisp-runs/{folder.name}", f"next: aisp-trace analyze aisp-runs/{folder.name}"]
    assert "round 1/1: baseline" in err
    run = load_run(folder)
    recording = run.manifest.variants[0].recording
    assert recording is not None
    assert (run.manifest.source, run.manifest.recorder, recording.kind_file) == (
        "file",
        "torch",
        "baseline/stages.json",
    )
    stages = json.loads((folder / "baseline/stages.json").read_text(encoding="utf-8"))["ranges"]
    assert sorted(r["name"] for r in stages) == sorted(["measured", *["iteration", "load", "compute"] * 2])
    with gzip.open(folder / recording.trace, "rt", encoding="utf-8") as file:
        assert json.load(file)["traceEvents"]


def test_a_traced_process_without_ranges_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setenv("FAKE_SILENT", "1")
    args = ["capture", str(FAKE), "--recorder", "torch", "--device", "cpu", "--rounds", "0", "--variant", "baseline"]
    assert main(args) == 2
    assert "left no trace with ranges in it" in capsys.readouterr().err


def test_the_command_imports_nothing_heavy() -> None:
    code = (
        "import sys, aisp_trace.cli.commands.capture, aisp_trace.cli.commands.doctor\n"
        "print([m for m in ('torch', 'polars', 'plotly', 'numpy', 'nvtx', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said at the start is all that happens; nsys is taken to be there."""
    recorder = NsysRecorder(Nsys(Path("nsys"), "2025.3", frozenset(), None, True), "minimal", "cpu")
    monkeypatch.setattr("aisp_trace.cli.plans.choose_recorder", lambda *_, **__: (recorder, ()))
    monkeypatch.setattr("aisp_trace.cli.every.capture_each", lambda plans, output: [])


@pytest.mark.usefixtures("nothing_runs")
def test_programs_without_nvtx_are_named_before_anything_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python finds no installed package under -S."""
    for name in ("slow.py", "fast.py"):
        (tmp_path / name).write_text("", encoding="utf-8")
    bare, whole = f"{shlex.quote(sys.executable)} -S", shlex.quote(sys.executable)

    def said(*args: str) -> str:
        assert main(["capture", "--device", "cpu", *args]) == 0
        return "".join(
            line for line in capsys.readouterr().err.splitlines() if "nvtx" in line.replace(str(tmp_path), "")
        )

    found = said("--baseline", f"{bare} slow.py", "--optimized", f"{bare} fast.py")
    assert found == (
        "aisp-trace: the environment of baseline and optimized lacks the package nvtx, without which nsys does not see anything, "
        f"so recordings are left out: run `{sys.executable} -m pip install nvtx==0.2.11`, or time the pair without "
        "recording it: --profile none"
    )
    assert "of optimized lacks" in said("--baseline", f"{whole} slow.py", "--optimized", f"{bare} fast.py")
    assert said("--baseline", f"{whole} slow.py", "--optimized", f"{whole} fast.py -S") == "", "a flag of the program's"
    one = said("--", sys.executable, "-S", "slow.py")
    assert "the environment of the program lacks" in one and "--profile none" not in one
    assert said("--baseline", "true", "--optimized", "env true") == "", "nobody knows what these are"


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("args", "noted"),
    [
        (["slow.py", "fast.py"], True),
        (["--", sys.executable, "slow.py", "fast.py"], True),
        (["./slow", "./fast"], True),
        (["slow.py", "fast.py", "--steps=3"], False),
        (["slow.py", "--other", "fast.py"], False),
        (["slow.py", "absent.py"], False),
        (["slow.py", "data.txt"], False),
        (["slow.py"], False),
        (["./slow", "fast.py"], False),
    ],
)
def test_a_second_script_is_an_argument_and_a_pair_is_offered(
    args: list[str], noted: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("slow.py", "fast.py", "slow", "fast", "data.txt"):
        (tmp_path / name).write_text("#!/bin/sh\n" if "." not in name else "", encoding="utf-8")
        (tmp_path / name).chmod(0o644 if "." in name else 0o755)
    assert main(["capture", "--device", "cpu", *args]) == 0
    first, second = ("./slow", "./fast") if args[0] == "./slow" else ("slow.py", "fast.py")
    meant = (
        f"aisp-trace: {second} is an argument of {first} here; to compare the two: aisp-trace capture --baseline {first} "
        f"--optimized {second}\n"
    )
    assert (meant in capsys.readouterr().err) == noted
