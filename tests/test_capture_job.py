"""`capture --ranks N -- torchrun ...`: one recorder and one run a rank, which `ranks` merges."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from aisp_trace.capture.job import _python_of
from aisp_trace.capture.nsight import find_nsys
from aisp_trace.cli.main import main
from aisp_trace.tests.patience import PATIENCE_S, nsys_lost_its_agent
from aisp_trace.traces.run import load_run

INSTALLED = find_nsys()
needs_nsys = pytest.mark.skipif(
    INSTALLED is None or INSTALLED.problem is not None, reason="no nsys that can make reports is installed"
)
EXAMPLE = Path(__file__).parents[1] / "examples" / "slow_loader.py"


@pytest.mark.parametrize("recorder", ["torch", pytest.param("nsys", marks=needs_nsys)])
def test_a_slow_loader_is_explained_and_judged(
    recorder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real job of two processes, each with a recorder of its own. Rank 1's data are late in four steps of sixteen: rank, steps,
    stage and milliseconds are what the program itself wrote down."""
    monkeypatch.chdir(tmp_path)
    for _ in range(3):  # nsys may lose its agent, or what it recorded; a busy machine may hold a rank up, too
        for left in ("job", "aisp-ranks", "said"):
            shutil.rmtree(tmp_path / left, ignore_errors=True)
        done = captured(recorder, tmp_path)
        if nsys_lost_its_agent(done.stderr):
            continue
        assert done.returncode == 0, done.stderr
        took = [json.loads((tmp_path / "said" / f"rank{n}.json").read_text(encoding="utf-8")) for n in range(2)]
        written = {i: own - other for i, (other, own) in enumerate(zip(*took, strict=True)) if own - other > LEAST_NS}
        assert main(["ranks", "job", "--workers", "1", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        late = {step["iteration"]: step for step in found["iterations"] if step["late_ns"] > LEAST_NS}
        if list(late) == list(written) == PLANTED:
            break
    assert "next: aisp-trace ranks job" in done.stdout
    assert sorted(p.name.rpartition("-")[2] for p in (tmp_path / "job").iterdir()) == ["rank0", "rank1"]
    assert [(r["rank"], r["source"]) for r in found["ranks"]] == [(0, "run"), (1, "run")]
    assert found["world_size"] == 2
    assert list(late) == list(written) == PLANTED
    for number, step in late.items():
        cause = step["causes"][0]
        assert (step["last_rank"], cause["stage"].rpartition("/")[2], cause["category"]) == (1, "data", "data")
        assert cause["ns"] == pytest.approx(written[number], rel=0.05)
    judged_end_to_end(found, tmp_path, capsys)


PLANTED = [4, 7, 8, 13]

LEAST_NS = 200_000_000
"""Half of what the example plants, and more than a busy machine takes from a step."""


def captured(recorder: str, folder: Path) -> subprocess.CompletedProcess[str]:
    ours = [sys.executable, "-P", "-m", "aisp_trace.cli", "capture", "--ranks", "2", "--recorder", recorder]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    return subprocess.run(
        [*ours, "--output", "job", "--", *torchrun, str(EXAMPLE), "said"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )


def judged_end_to_end(found: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`check` on what `capture --ranks` left, which `ranks` has `found`, and again without one of its ranks."""
    key = load_run(next((folder / "job").glob("*-rank0"))).manifest.hardware.key
    claim = {
        "type": "mechanism",
        "id": "command.straggler",
        "workload": "command",
        "variant": "command",
        "metric": "job.straggler_share",
        "bound": {"max": 0.1},
        "unit": "fraction",
        "why": "No rank holds up the other.",
        "source": {"kind": "model", "text": "a step is 10 ms"},
    }
    file = {"schema": "aisp-trace/expectations/2", "hardware_key": key, "claims": [claim]}
    (folder / "expectations").mkdir()
    (folder / "expectations" / f"expectations_{key}.json").write_text(json.dumps(file), encoding="utf-8")
    trusted = found["trust"]["level"] == "ok"  # a busy machine ends a collective late, so that clocks are in doubt
    assert main(["check", "job", "--json"]) == (1 if trusted else 3)
    (verdict,) = json.loads(capsys.readouterr().out)["verdicts"]
    expected = ("missed", found["metrics"]["straggler_share"]) if trusted else ("invalid", None)
    assert (verdict["verdict"], verdict["value"]) == expected
    shutil.rmtree(next((folder / "job").glob("*-rank1")))
    assert main(["check", "job", "--json"]) == 3
    (verdict,) = json.loads(capsys.readouterr().out)["verdicts"]
    assert verdict["verdict"] == "inconclusive"
    assert "no other trace of rank 1" in verdict["reason"]


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


def test_a_dry_run_shows_what_each_rank_is_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["capture", "--ranks", "2", "--profile", "minimal", "--dry-run", "--", "torchrun", "train.py"]) == 0
    _, each, launcher = capsys.readouterr().out.splitlines()
    assert " capture --output " in each and " --profile=minimal -- " in each
    assert (launcher, list(tmp_path.iterdir())) == ("torchrun train.py", [])


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
