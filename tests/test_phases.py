"""Programs that are not edited: phases around torch's calls under both recorders, and what leaves the program as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("torch")

from aisp_trace.analyze.analyze import analyze
from aisp_trace.capture import program as inside
from aisp_trace.cli.main import main
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.tests.programs_of_users import COMPILED, TRAINING
from aisp_trace.tests.test_any_program import capture, elsewhere, needs_nsys, only_run, program
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace
from aisp_trace.traces.phases import PHASES
from aisp_trace.traces.stage_domain import domain_of_stages

__all__ = ["elsewhere"]


def recorded() -> Trace:
    run = only_run()
    path = run.trace_path(run.manifest.variants[0])
    assert path is not None
    return open_trace(path)


def phases_of(trace: Trace) -> Counter[str]:
    own = trace.ranges.filter(pl.col("domain").cast(pl.String) == PHASES)
    return Counter(own["name"].cast(pl.String).to_list())


@pytest.mark.parametrize("recorder", ["torch", pytest.param("nsys", marks=needs_nsys)])
def test_an_unedited_training_ends_in_a_diagnosis(recorder: str, capfd: pytest.CaptureFixture[str]) -> None:
    program("train.py", TRAINING)
    code, out, err = capture(capfd, "--recorder", recorder, "train.py")
    assert code == 0, err
    assert out.splitlines()[:10] == [f"step {i}" for i in range(10)]
    assert "its stages are torch's calls" in err and 'with stage("name"):' in err
    assert phases_of(recorded()) == {
        "step": 11, "data": 11, "load": 10, "forward": 11, "backward": 10, "optimizer": 10,
    }  # fmt: skip
    own = recorded().ranges.filter(pl.col("domain").cast(pl.String) == PHASES).sort("start_ns")
    steps, data, forward = (own.filter(pl.col("name").cast(pl.String) == name) for name in ("step", "data", "forward"))
    assert steps["end_ns"][-1] < forward["start_ns"][-1], "what follows the loop is in no step"
    assert 0 <= steps["end_ns"][-1] - data["end_ns"][-1] < 5_000_000, "the last step ends where no batch is left"
    assert main(["analyze"]) == 0
    text = capfd.readouterr().out
    assert "iterations `step`" in text and "Waiting for data" in text
    assert "step/data" in text or "  data" in text


@needs_nsys
def test_what_workers_of_a_loader_do_is_recorded(capfd: pytest.CaptureFixture[str]) -> None:
    program("train.py", TRAINING)
    code, _, err = capture(capfd, "--recorder", "nsys", "train.py", "2")
    assert code == 0 and "forked" not in err, err
    loads = recorded().ranges.filter(pl.col("name").cast(pl.String) == "load")
    assert loads["pid"].n_unique() == 2
    assert 6 <= loads.height <= 10, "a worker that is ended may take its last batches along"


@pytest.mark.nightly
def test_torchs_own_recorder_names_workers_that_it_cannot_see(capfd: pytest.CaptureFixture[str]) -> None:
    program("train.py", TRAINING)
    code, _, err = capture(capfd, "--recorder", "torch", "train.py", "2")
    assert code == 0
    assert "2 forked processes (" in err and "torch.profiler records no process that was only forked" in err


SAME_NAME = """
import os, time
from aisp_trace.capture.stages import stage
for name in ("first", "work"):
    with stage(name):
        pass
for name in ("other", "work"):
    pid = os.fork()
    if pid == 0:
        for _ in range(3):
            with stage(name):
                time.sleep(0.02)
        time.sleep(0.3)
        os._exit(0)
    os.waitpid(pid, 0)
"""


@needs_nsys
def test_a_forked_process_has_its_own_names(capfd: pytest.CaptureFixture[str]) -> None:
    """Names are registered: its parent's "first" came out as the child's "other", and "work" not at all."""
    program("forks.py", SAME_NAME)
    assert capture(capfd, "forks.py")[0] == 0
    ranges = recorded().ranges
    names = ranges.group_by("pid").agg(pl.col("name").cast(pl.String).unique().sort())["name"].to_list()
    assert sorted(map(list, names)) == [["first", "work"], ["other"], ["work"]]


@pytest.mark.parametrize("recorder", ["torch", pytest.param("nsys", marks=[needs_nsys, pytest.mark.nightly])])
def test_what_torch_compiles_and_traces_is_left_alone(recorder: str, capfd: pytest.CaptureFixture[str]) -> None:
    program("compiled.py", COMPILED)
    code, out, err = capture(capfd, "--recorder", recorder, "compiled.py")
    assert code == 0, err
    assert "all of it ran" in out
    found = phases_of(recorded())
    assert (found["backward"], found["optimizer"]) == (3, 3) and found["forward"] >= 3
    assert domain_of_stages(recorded().ranges) == PHASES


STAGED = """
from aisp_trace.capture.stages import stage

@stage("called", kind="compute")
def called():
    return torch.ones(100).sum()

import torch
with stage("opened", nbytes=400):
    called()
torch.nn.Linear(2, 2)(torch.ones(2))
"""


def test_stages_of_the_program_come_before_phases(capfd: pytest.CaptureFixture[str]) -> None:
    program("staged.py", STAGED)
    code, _, err = capture(capfd, "--recorder", "torch", "staged.py")
    assert code == 0, err
    assert "opened no range" not in err
    trace = recorded()
    assert phases_of(trace) == {"forward": 1}
    assert domain_of_stages(trace.ranges) == "aisp"
    own = trace.ranges.filter(pl.col("domain").cast(pl.String) == "aisp").sort("start_ns")
    assert own.select(pl.col("name", "category").cast(pl.String), "nbytes").rows() == [
        ("opened", "", 400),
        ("called", "compute", None),
    ]
    assert sorted(analyze(trace).stages["path"].cast(pl.String)) == ["opened", "opened/called"]


def ranges(*rows: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["domain", "name"], orient="row")


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([("aisp", "a"), (PHASES, "step"), ("", "b")], "aisp"),
        ([(PHASES, "step"), ("", "mine")], ""),
        ([(PHASES, "step"), ("", "Optimizer.step#AdamW.step"), ("", "enumerate(DataLoader)#_Single.__next__")], PHASES),
        ([(PHASES, "step"), ("torch.op", "aten::add")], PHASES),
        ([("NCCL", "x")], ""),
        ([("torch.op", "aten::add"), ("torch.module", "Net_0")], "torch.op"),
        ([("torch.op", "aten::add"), ("", "ProfilerStep#1")], ""),
        ([], ""),
    ],
)
def test_which_domain_has_the_stages(rows: list[tuple[str, str]], chosen: str) -> None:
    assert domain_of_stages(ranges(*rows)) == chosen


PROFILES_ITSELF = """
import torch
from torch.profiler import ProfilerActivity, profile
torch.nn.Linear(2, 2)(torch.ones(2))
with profile(activities=[ProfilerActivity.CPU]) as own:
    torch.nn.Linear(2, 2)(torch.ones(2))
assert any(event.key == "aten::addmm" for event in own.key_averages())
print("profiled")
"""


@pytest.mark.nightly
def test_a_program_that_profiles_itself_goes_first(capfd: pytest.CaptureFixture[str]) -> None:
    program("own.py", PROFILES_ITSELF)
    code, out, err = capture(capfd, "--recorder", "torch", "own.py")
    assert (code, out.splitlines()[0]) == (0, "profiled")
    assert "starts a profiler of its own; it is recorded until here" in err
    assert phases_of(recorded()) == {"forward": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("print('no torch')", "no process of `"),
        ("import torch, os; os._exit(0)", "was recorded, but its process was ended before it had written the trace"),
        ("import sys; sys.exit('no data')", "ended with exit code 1 before anything was recorded of it (no data)"),
    ],
)
def test_a_program_that_leaves_no_trace(text: str, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    program("other.py", text)
    code, _, err = capture(capfd, "--recorder", "torch", "other.py")
    assert code == 2
    assert words in err.splitlines()[-1]


@pytest.mark.nightly
def test_several_processes_of_a_program_are_recorded_each(capfd: pytest.CaptureFixture[str]) -> None:
    program("many.py", """
import os, subprocess, sys
import torch
if len(sys.argv) == 1:
    subprocess.run([sys.executable, __file__, "child"], env={**os.environ, "RANK": "0"}, check=True)
for _ in range(1 if sys.argv[1:] else 50):
    torch.nn.Linear(2, 2)(torch.ones(2))
""")  # fmt: skip
    code, _, err = capture(capfd, "--recorder", "torch", "many.py")
    assert code == 0
    assert "one of 2 that torch.profiler recorded" in err
    assert phases_of(recorded()) == {"forward": 1}, "rank 0's, though another's is larger"
    (other,) = only_run().path.glob("command/others/*.json.gz")
    assert phases_of(open_trace(other)) == {"forward": 50}


def test_the_program_is_as_it_was_and_the_hidden_sitecustomize_runs(tmp_path: Path) -> None:
    """Nobody records here: only what a Python process sees of it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text("import os\nos.environ['HIDDEN'] = __name__\n", encoding="utf-8")
    code = "import json, os, sys; print(json.dumps([sys.path, os.environ.get('HIDDEN'), sorted(sys.modules)]))"
    seen = []
    for extra in ({}, {inside.PROGRAM_VARIABLE: "nsys"}):
        path = str(tmp_path / "site")
        variables = {**inside.environment("nsys", path), **extra} if extra else {"PYTHONPATH": path}
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", inside.PROGRAM_VARIABLE)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, **variables},
            capture_output=True,
            check=True,
            timeout=PATIENCE_S,
        )
        assert done.stderr == b""
        seen.append(json.loads(done.stdout))
    assert seen[0][:2] == seen[1][:2]
    assert "aisp_trace" not in seen[1][2] and "torch" not in seen[1][2]


def test_an_interpreter_without_the_package_finds_it(tmp_path: Path) -> None:
    """The program's own environment need not have aisp-trace: -S leaves out the site-packages of this one."""
    code = (
        "import importlib.util as u, sys; assert u.find_spec('aisp_trace') is None; "
        f"s = u.spec_from_file_location('p', {str(Path(inside.__file__))!r}); m = u.module_from_spec(s); "
        "s.loader.exec_module(m); m._package(); from aisp_trace.capture import stages; print(stages.DOMAIN)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.stdout, done.stderr) == ("aisp\n", "")
