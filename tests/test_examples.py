"""The examples do what their texts say, and every command line in them is one that the program accepts."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.capture.answer import ANSWER_VARIABLE, read_answer
from aisp_trace.capture.host import hardware
from aisp_trace.capture.stages import INJECTED, RECORDER_VARIABLE
from aisp_trace.cli.main import main
from aisp_trace.expectations.claims.load import load_expectations
from aisp_trace.tests.builders.commands import actions
from aisp_trace.tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
WORKFLOWS = sorted((EXAMPLES / "ci").glob("*.yml"))
TEXTS = [*WORKFLOWS, EXAMPLES / "README.md", EXAMPLES / "my_workload.py"]


def commands(text: str) -> list[list[str]]:
    """Every line that begins with ``aisp-trace``, as words: what follows it, without comment and shell."""
    found = re.findall(r"^ *(?:run: )?aisp-trace (.*)$", text, flags=re.MULTILINE)
    words = [shlex.split(line.split("  #")[0].removesuffix(" || true")) for line in found]
    return [[os.path.expandvars(word) for word in line] for line in words]


def yours(file: Path) -> dict[str, str]:
    """What the reader of a workflow changes: the variables between its two marks."""
    marked = file.read_text(encoding="utf-8").partition("# ---- yours")[2].partition("# -----")[0]
    return dict(re.findall(r"^  (\w+): ([^#\n]*?) *(?:#.*)?$", marked, flags=re.MULTILINE))


def parse(words: list[str]) -> dict[str, Any]:
    """`words` as the command's own parser takes them, without running it; raises for what it would refuse."""
    (action,) = (a for a in actions() if a.words == (words[0],))
    parameters: dict[str, Any] = action.parser.make_context(words[0], words[1:]).params
    return parameters


@pytest.mark.parametrize("file", TEXTS, ids=lambda p: p.name)
def test_every_command_line_is_accepted(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(EXAMPLES)
    for own in ("slow.py", "fast.py"):  # scripts of the reader's, which must be there
        (tmp_path / own).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name, value in yours(file).items():
        monkeypatch.setenv(name, value)
    found = commands(file.read_text(encoding="utf-8"))
    assert {"capture", "check"} <= {words[0] for words in found}
    for words in found:
        assert parse(words)
        assert all((ROOT / w).exists() for w in " ".join(words).split() if w.startswith("examples/"))
        if words[0] == "capture":
            assert main(["capture", "--recorder", "torch", "--dry-run", *words[1:]]) == 0
    assert all(
        line.startswith(("#", "/", "AISP", "python", "torchrun")) for line in capsys.readouterr().out.splitlines()
    )


def test_a_command_line_with_a_wrong_option_would_be_found() -> None:
    ((*words,),) = commands("          aisp-trace check --junitt x.xml\n")
    with pytest.raises(Exception, match="junitt"):
        parse(words)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda p: p.name)
def test_a_workflow_is_yaml_whose_verdict_is_the_jobs(file: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="no YAML library is installed")
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    (job,) = document["jobs"].values()
    steps = {step["name"]: step for step in job["steps"] if "name" in step}
    assert steps["Check"]["run"].startswith("aisp-trace check ")
    assert not any("continue-on-error" in step for step in job["steps"])
    assert all("cancelled" in steps[name]["if"] for name in ("Report", "Upload"))
    uploaded = steps["Upload"]["with"]["path"].split()
    assert uploaded == ["report.html", "verdicts.xml", "verdicts.md"]
    assert document["permissions"] == {"contents": "read"}
    # started by hand for bounds, it measures and judges nothing
    assert document[True]["workflow_dispatch"]["inputs"]["bounds"]["default"] is False, "`on` is a truth to YAML 1.1"
    for name, condition in (
        *(("Bounds", "${{ inputs.bounds }}"), ("Upload the bounds", "${{ inputs.bounds }}")),
        *(("Check", "${{ !inputs.bounds }}"), ("Report", "${{ !cancelled() && !inputs.bounds }}")),
    ):
        assert steps[name]["if"] == condition
    assert steps["Upload the bounds"]["with"]["path"] == "expectations/"
    assert "--decide" in steps["Capture"]["run"] and list(steps).index("Capture") < list(steps).index("Bounds")


def test_a_runner_without_gpu_is_given_a_name() -> None:
    """docs/ci.md says that it needs one; GPUs are called by their own."""
    marked = (EXAMPLES / "ci" / "github-actions.yml").read_text(encoding="utf-8").partition("# ---- yours")[2]
    assert re.search(
        r"^  # AISP_MACHINE: \S+ +# what you call this kind of runner", marked.partition("# -----")[0], re.M
    )


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda p: p.name)
def test_a_workflow_lets_no_verdict_be_ignored(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert "\t" not in text
    assert "continue-on-error" not in text
    ignored = [line for line in text.splitlines() if "|| true" in line]
    assert all("doctor" in line for line in ignored)
    (check,) = [words for words in commands(text) if words[0] == "check"]
    upload = text[text.index("upload-artifact") :]
    for option in ("--junit", "--markdown"):
        assert check[check.index(option) + 1] in upload


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda p: p.name)
def test_a_workflow_is_the_readers_but_for_what_is_marked(file: Path) -> None:
    """Nothing in it is this project's, and each variable of a step is one of those that he is told to change."""
    yaml = pytest.importorskip("yaml", reason="no YAML library is installed")
    text = file.read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    assert {name: str(value) for name, value in document["env"].items()} == yours(file)
    (job,) = document["jobs"].values()
    scripts = "\n".join(step.get("run", "") for step in job["steps"])
    assert set(re.findall(r"\$\{?(\w+)", scripts)) == set(yours(file)), "used, and marked"
    steps = text.partition("jobs:")[2]
    assert not re.search(r"examples|workloads|my_workload|byte_counts|vars\.", text)
    assert not any(value in steps for value in yours(file).values()), "what is changed above is not said again below"
    assert "--expectations expectations" in scripts


@pytest.mark.skipif(shutil.which("bash") is None or shutil.which("git") is None, reason="no bash or git")
def test_a_workflow_runs_in_a_repository_of_somebody_else(tmp_path: Path) -> None:
    """Copied, with its marked lines changed: a claim that holds leaves 0, one that asks for more leaves 1."""
    yaml = pytest.importorskip("yaml", reason="no YAML library is installed")
    document = yaml.safe_load((EXAMPLES / "ci" / "github-actions.yml").read_text(encoding="utf-8"))
    (job,) = document["jobs"].values()
    steps = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "aisp-trace"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m aisp_trace.cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (tmp_path / "bin" / "pip").write_text('#!/bin/sh\necho "$#: $*" >> pip.txt\n', encoding="utf-8")
    (tmp_path / "bin" / "pip").chmod(0o755)
    (tmp_path / "before.py").write_text("import time\ntime.sleep(0.2)\n", encoding="utf-8")
    (tmp_path / "after.py").write_text("", encoding="utf-8")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "before.py", "after.py"], ["commit", "-qm", "pair"]):
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)
    changed = {
        "PAIR": "ours",
        "BASELINE": "python3 -S before.py",
        "OPTIMIZED": "python3 -S after.py",
        "PROFILE": "none",
        "MINUTES": "2",
    }
    hidden = (RECORDER_VARIABLE, ANSWER_VARIABLE, *INJECTED)
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment |= {name: str(value) for name, value in document["env"].items()} | changed
    environment |= {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    environment["GITHUB_STEP_SUMMARY"] = str(tmp_path / "summary.md")

    def run(name: str) -> int:
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps[name]]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode

    assert run("Install") == 0
    environment["REQUIREMENTS"] = ""  # the programs need nothing
    assert run("Install") == 0
    assert (tmp_path / "pip.txt").read_text(encoding="utf-8").splitlines() == [
        "4: install wheels/aisp_trace-*.whl -r requirements.txt",
        "2: install wheels/aisp_trace-*.whl",
    ]
    assert run("Capture") == 0
    key = hardware("cpu").key
    measured = tmp_path / "expectations" / f"expectations_{key}.json"
    # a busy machine: 2, the bounds are wide; 3, the rounds are in doubt
    assert (run("Bounds"), measured.is_file()) in ((0, True), (2, False), (3, False))
    for least, code in ((1.01, 0), (1000.0, 1)):
        claim = {
            "type": "time", "id": "ours.faster", "workload": "ours", "variant": "optimized", "baseline": "baseline",
            "size": None, "ratio": {"min": least}, "max_ms": {"baseline": 3_600_000, "optimized": 3_600_000},
            "why": "it waits no more", "source": {"kind": "definition", "text": "what is asked"},
        }  # fmt: skip
        bounds = {"schema": "aisp-trace/expectations/2", "hardware_key": key, "claims": [claim]}
        (tmp_path / "expectations").mkdir(exist_ok=True)
        (tmp_path / "expectations" / f"expectations_{key}.json").write_text(json.dumps(bounds), encoding="utf-8")
        assert (
            run("Capture") == 0
        )  # by rounds that the claim ends: those for first bounds may go on until they are in doubt
        assert run("Check") == code
        for left in ("verdicts.xml", "verdicts.md"):
            (tmp_path / left).unlink()
    assert run("Report") == 0
    assert "ours" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_pair_states_the_same_work(tmp_path: Path) -> None:
    hidden = (RECORDER_VARIABLE, *INJECTED)
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    answers = []
    for name in ("slow", "fast"):
        file = tmp_path / f"{name}.jsonl"
        script = [sys.executable, str(EXAMPLES / "pair" / f"{name}.py")]
        subprocess.run(script, env={**environment, ANSWER_VARIABLE: str(file)}, check=True, timeout=PATIENCE_S)
        answers.append(read_answer(file, name))
    slow, fast = answers
    assert len(slow.iterations_ns) == len(fast.iterations_ns) == 10
    assert slow.stated == fast.stated and slow.stated[0].items == 40
    assert sorted(fast.iterations_ns)[5] < sorted(slow.iterations_ns)[5]


@pytest.mark.nightly
def test_the_workload_of_a_file_is_captured_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the example's file to its verdict, as a user would: the embedded recorder, expectations of the project."""
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (tmp_path / "expectations").symlink_to(EXAMPLES / "expectations")
    args = ["capture", str(EXAMPLES / "my_workload.py"), "--size", "tiny", "--device", "cpu", "--recorder", "torch"]
    assert main([*args, "--rounds", "1"]) == 0
    capsys.readouterr()
    assert main(["check", "--junit", "verdicts.xml"]) == 0
    out = capsys.readouterr().out
    assert "(the current project's)" in out
    assert out.rstrip().endswith("1 met.")
    assert (tmp_path / "verdicts.xml").is_file()


def test_the_expectations_are_about_the_examples() -> None:
    found = load_expectations(EXAMPLES / "expectations", ROOT)
    assert {claim.workload for file in found.files for claim in file.claims} == {"my_workload", "byte_counts"}


def test_a_file_called_as_a_workload_of_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its runs would be judged by expectations that were written for other work."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline_sequential.py").write_text("from aisp_trace.workloads.runner import main\n", encoding="utf-8")
    assert main(["capture", "./pipeline_sequential.py", "--profile", "none"]) == 2
    assert "rename the file" in capsys.readouterr().err
