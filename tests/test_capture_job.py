"""`capture --ranks N -- torchrun ...`: one recorder and one run a rank, which `ranks` merges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from aisp_trace.capture.job import _python_of
from aisp_trace.cli.main import main
from aisp_trace.tests.patience import PATIENCE_S

STEPS = """
import os, time
import torch
import torch.distributed as dist
from aisp_trace.capture.stages import iteration, stage

dist.init_process_group("gloo")
rank = dist.get_rank()
for step in range(8):
    with iteration():
        with stage("data", kind="host"):
            time.sleep(0.3 if rank == 1 and step in (3, 5, 6) else 0.002)
        with stage("forward", kind="compute"):
            x = torch.ones(200_000).sin()
        with stage("all_reduce", kind="comm", nbytes=x.nbytes):
            dist.all_reduce(x)
dist.destroy_process_group()
"""


def test_each_rank_of_torchrun_is_recorded_by_itself_and_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recorded by torch, so without a GPU; rank 1's data take 300 ms in three steps of eight."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "steps.py").write_text(STEPS, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    ours = [
        sys.executable,
        "-P",
        "-m",
        "aisp_trace.cli",
        "capture",
        "--ranks",
        "2",
        "--recorder",
        "torch",
        "--output",
        "job",
    ]
    done = subprocess.run(
        [*ours, "--", *torchrun, "steps.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "next: aisp-trace ranks job" in done.stdout
    assert sorted(p.name.rpartition("-")[2] for p in (tmp_path / "job").iterdir()) == ["rank0", "rank1"]
    assert main(["ranks", "job", "--workers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(r["rank"], r["source"]) for r in found["ranks"]] == [(0, "file name"), (1, "file name")]
    late = {
        step["iteration"]: step for step in found["iterations"] if step["last_rank"] == 1 and step["late_ns"] > 150e6
    }
    assert list(late) == [3, 5, 6]
    for step in late.values():
        assert step["late_ns"] == pytest.approx(298e6, rel=0.2), "a sleep on a busy machine"
        assert (step["causes"][0]["stage"].rpartition("/")[2], step["causes"][0]["category"]) == ("data", "data")


def test_a_launcher_that_starts_no_rank_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["capture", "--ranks", "2", "--output", "job", "--", sys.executable, "-c", "pass"]) == 2
    assert "no rank was recorded" in capsys.readouterr().err
    assert list((tmp_path / "job").iterdir()) == []


def test_every_rank_gets_what_was_given_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["-q", "capture", "--ranks", "2", "--color", "never", "--profile", "minimal", "--delay", "2", "--kill"]
    assert main([*words, "--", "sh", "-c", 'cat "$PYTHON_EXEC"']) == 2
    assert " --quiet --color=never --profile=minimal --delay=2.0 --kill -- " in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--ranks", "2"], "without a launcher"),
        (["--ranks", "0", "--", "torchrun"], "--ranks is 0"),
        (["--ranks", "2", "--rounds", "3", "--", "torchrun"], "records each rank once"),
        (["--ranks", "2", "--output", "full", "--", "torchrun"], "is not empty"),
        (["--ranks", "2", "--", "no-such-launcher"], "cannot be started"),
    ],
)
def test_wrong_words(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert main(["capture", *words]) == 2
    said = capsys.readouterr().err
    assert told in said and "Traceback" not in said


def test_the_python_of_a_launcher(tmp_path: Path) -> None:
    script = tmp_path / "torchrun"
    script.write_text("#!/opt/venv/bin/python3.12\nimport x\n", encoding="utf-8")
    assert _python_of(str(script)) == "/opt/venv/bin/python3.12"
    assert _python_of("/usr/bin/python3") == "/usr/bin/python3"
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    assert _python_of(str(script)) == sys.executable
    assert _python_of("nothing") == sys.executable
