"""Several processes in one recording: torchrun's ranks, with and without the gate, and their end together."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("torch")

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.sources import find_source
from aisp_trace.capture.leftovers import marked
from aisp_trace.capture.nsight import find_nsys
from aisp_trace.capture.nsys import NsysRecorder
from aisp_trace.capture.processes import run_process
from aisp_trace.cli.main import main
from aisp_trace.tests.patience import PATIENCE_S, nsys_lost_its_agent, timed_out_when_up, wait_until
from aisp_trace.traces.open import open_trace
from aisp_trace.traces.run import load_run

INSTALLED = find_nsys()
needs_nsys = pytest.mark.skipif(
    INSTALLED is None or INSTALLED.problem is not None, reason="no nsys that can make reports is installed"
)

TWO = """
import os, socket, subprocess, sys, time
from aisp_trace.capture.stages import iteration, measured, stage

# The second process is in a session of its own, as some launchers start theirs.
if len(sys.argv) == 1:
    near, far = socket.socketpair()
    other = subprocess.Popen([sys.executable, __file__, str(far.fileno())], pass_fds=[far.fileno()], start_new_session=True)
else:
    near, other = socket.socket(fileno=int(sys.argv[1])), None

def meet():
    near.sendall(b"x")
    near.recv(1)

def steps():
    for _ in range(3):
        meet()
        with iteration(), stage("work", kind="compute"):
            time.sleep(0.002)

meet()
if other is not None:
    with measured():
        meet()
        steps()
        meet()
    sys.exit(other.wait())
meet()
with measured():
    steps()
meet()
"""

RANKS = """
import torch.distributed as dist
from aisp_trace.capture.stages import iteration, stage
import torch, os
dist.init_process_group("gloo")
rank = dist.get_rank()
for _ in range(2):
    with iteration():
        with stage("forward", kind="compute"):
            x = torch.ones(1000)
        with stage("all_reduce", kind="comm", nbytes=x.nbytes):
            dist.all_reduce(x)
assert x[0] == 2
dist.destroy_process_group()
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "program.py"
    file.write_text(text, encoding="utf-8")
    return file


@needs_nsys
def test_the_gate_holds_the_measured_ranges_of_both_processes(tmp_path: Path) -> None:
    assert INSTALLED is not None
    target = (sys.executable, "-P", str(written(tmp_path, TWO)))
    recorded = NsysRecorder(INSTALLED, "minimal", "cpu").record(target, tmp_path, gated=True, timeout_s=PATIENCE_S)
    assert recorded.exit_code == 0
    trace = open_trace(tmp_path / recorded.trace)
    assert trace.ranges["pid"].n_unique() == 2
    assert trace.ranges["end_ns"].null_count() == 0, "no range is cut off by the end of the other process's"
    analysis = analyze(trace, window="measured")
    assert analysis.windows.height == 2, "one window for each process"
    work = analysis.stages.filter(pl.col("path") == "iteration/work")
    assert work.select("device", "ops").rows() == [(0, 3), (1, 3)]
    assert analysis.iterations.height == 3, "iterations of two processes run side by side"


@needs_nsys
def test_torchrun_is_recorded_with_all_its_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = written(tmp_path, RANKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    launcher = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert main(["capture", "--", *launcher, str(program)]) == 0, capsys.readouterr().err
    (folder,) = (tmp_path / "aisp-runs").glob("[!.]*")
    recording = load_run(folder).manifest.variants[0].recording
    assert recording is not None
    assert recording.exit_code == 0
    (opened,) = find_source(folder).open()
    comm = opened.analysis.kinds.filter(pl.col("kind") == "comm")
    assert comm.select("device", "ops").rows() == [(0, 2), (1, 2)], "each rank is a device of its own"
    hidden = opened.analysis.overlap.filter(pl.col("stage").is_null() & (pl.col("a") == "comm"))
    assert hidden["device"].unique().to_list() == [0, 1]
    assert hidden["both_ns"].sum() == 0, "no rank hides its communication under another's compute"
    split = opened.analysis.collectives
    assert split["paired"].to_list() == split["ops"].to_list() == [2, 2]


SLEEPS = """
import os, pathlib, subprocess, sys, time
code = "import time; time.sleep(1000)"
subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
subprocess.Popen([sys.executable, "-c", code])
pathlib.Path("up").write_text(os.environ["AISP_TRACE_PROCESS"])
time.sleep(1000)
"""


@pytest.mark.parametrize("recorder", [pytest.param("nsys", marks=needs_nsys), "none"])
def test_a_timeout_ends_every_process_of_the_tree(recorder: str, tmp_path: Path) -> None:
    """Also those that left the process group and the session. An nsys that lost its race with itself is started again."""
    target = [sys.executable, "-P", str(written(tmp_path, SLEEPS))]
    command = (
        target
        if recorder == "none"
        else [
            str(INSTALLED and INSTALLED.path),
            "profile",
            "--trace=nvtx",
            "--force-overwrite=true",
            "-o",
            "t",
            *target,
        ]
    )
    done = timed_out_when_up(
        lambda timeout_s: run_process(
            command, stdout=tmp_path / "out", stderr=tmp_path / "err", timeout_s=timeout_s, cwd=tmp_path
        ),
        tmp_path / "up",
    )
    assert done.timed_out
    assert marked((tmp_path / "up").read_text(encoding="utf-8")) == []


def test_an_interrupt_of_capture_ends_every_rank(tmp_path: Path) -> None:
    environment = {**os.environ, "AISP_TEST_TREE": f"tree-{os.getpid()}"}
    command = [
        sys.executable,
        "-P",
        "-m",
        "aisp_trace.cli",
        "capture",
        "ddp_overlap",
        "--size",
        "tiny",
        "--device",
        "cpu",
    ]
    command += ["--profile", "none", "--rounds", "1", "--iterations", "1000000", "--output", str(tmp_path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True) as process:
        wait_until(lambda: len(tree(environment)) == 3, "capture and both ranks")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert b"interrupted; go on with `aisp-trace capture --resume" in said
    assert tree(environment) == []


def tree(environment: dict[str, str]) -> list[str]:
    """The living processes that inherited the variable."""
    wanted = f"AISP_TEST_TREE={environment['AISP_TEST_TREE']}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(entry.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("recorder", ["torch", pytest.param("nsys", marks=[needs_nsys, pytest.mark.nightly])])
def test_a_recorder_inside_torchrun_leaves_one_run_a_rank(recorder: str, tmp_path: Path) -> None:
    (tmp_path / "ranks.py").write_text(RANKS, encoding="utf-8")
    capture = [sys.executable, "-P", "-m", "aisp_trace.cli", "capture", "--recorder", recorder, "--output", "job"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--no-python"]
    for _ in range(3):  # nsys may lose its agent, and does not start a program of the user's again
        shutil.rmtree(tmp_path / "job", ignore_errors=True)
        done = subprocess.run(
            [*torchrun, *capture, "--", sys.executable, "ranks.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
        if not nsys_lost_its_agent(done.stderr):
            break
    assert done.returncode == 0, done.stderr
    runs = list((tmp_path / "job").glob("[!.]*"))
    assert sorted(path.name.rpartition("-")[2] for path in runs) == ["rank0", "rank1"]
    for path in runs:
        run = load_run(path)
        file = run.trace_path(run.manifest.variants[0])
        assert file is not None
        ranges = open_trace(file).ranges.filter(pl.col("domain").cast(pl.String) == "aisp")
        assert ranges["pid"].n_unique() == 1
        names = ranges["name"].cast(pl.String).to_list()
        assert (names.count("iteration"), names.count("forward"), names.count("all_reduce")) == (2, 2, 2)
