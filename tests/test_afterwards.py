"""What `capture` says of `accept` before it starts, and the command it names at its end, walked as for a gate."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from aisp_trace.capture import host
from aisp_trace.cli.main import main
from aisp_trace.expectations.claims.load import load_folder

SLOW, FAST = "import sys\nfor _ in range(40):\n    [i * i for i in range(20_000)]\n", "import sys\n"


class Said(NamedTuple):
    """The command that a capture names next, and what it printed on both streams."""

    following: str
    out: str
    err: str


Aisp = Callable[..., tuple[int, str, str]]


@pytest.fixture
def aisp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Aisp:
    """Run a command in a folder with two scripts and no git; answers exit code, output and messages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("AISP_GIT_COMMIT", raising=False)
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    (tmp_path / "fast.py").write_text(FAST, encoding="utf-8")

    def run(*args: str) -> tuple[int, str, str]:
        code = main(list(args))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def git(*args: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *args], check=True, capture_output=True)


def capture(aisp: Aisp, *options: str) -> Said:
    """A capture of the two scripts."""
    python = shlex.quote(sys.executable)
    pair = ["--baseline", f"{python} -S slow.py", "--optimized", f"{python} -S fast.py", "--name", "mine"]
    code, out, err = aisp("capture", "--profile", "none", "--device", "cpu", *pair, *options)
    assert code == 0, err
    (following,) = re.findall(r"^next: aisp-trace (.*)$", out, flags=re.MULTILINE)
    return Said(following, out, err)


def test_outside_git_it_is_said_at_the_start_that_accept_will_refuse(aisp: Aisp) -> None:
    following, out, err = capture(aisp, "--rounds", "8")
    first, second = err.splitlines()[:2]
    assert "`accept` will take no bounds from this run: " in first
    assert "is not in a git repository with a commit; commit the programs first, or decide bounds yourself" in first
    assert "round 1/8" in second, "before the first process"
    assert following.startswith("check aisp-runs/mine-"), "accept would refuse"
    assert "rounds, of whole processes with start-up)" in out
    assert aisp("accept")[0] == 2


def test_from_a_first_capture_to_a_verdict_each_end_names_the_next_command(aisp: Aisp, tmp_path: Path) -> None:
    git("init", "-q")
    assert "is not in a git repository with a commit" in capture(aisp, "--rounds", "1").err, (
        "a repository without a commit is none"
    )
    git("add", "slow.py", "fast.py")
    git("commit", "-qm", "pair")
    (tmp_path / "fast.py").write_text(FAST + "# tuned\n", encoding="utf-8")
    following, out, err = capture(aisp, "--rounds", "8")
    assert "tracked files differ from the commit (fast.py); commit them first" in err
    assert following.startswith("check ")
    git("commit", "-qam", "tuned")
    following, out, err = capture(aisp, "--rounds", "1")
    assert ("`accept` will" in err, following.split()[0]) == (False, "check"), "a round carries no bound"
    assert "(1 round, of whole processes with start-up: too few for an interval)" in out
    following, out, err = capture(aisp, "--decide")
    assert "`accept` will" not in err
    assert re.search(r"^untraced: optimized \d+\.\d\dx, between ", out, flags=re.MULTILINE)
    command, *where = shlex.split(following)
    assert command == "accept"
    code, out, _ = aisp(command, *where, "--yes")
    assert code in (0, 3), out
    if code == 3:  # a busy machine: rounds in doubt
        assert "Or decide a bound yourself: `aisp-trace expectations new mine`." in " ".join(out.split())
        assert aisp("expectations", "new", "mine")[0] == 0
    assert [c.workload for c in load_folder(tmp_path / "expectations", "option").files[0].claims] == ["mine"]
    following, out, err = capture(aisp, "--rounds", "1")
    assert following.startswith("check ")
    git("commit", "-q", "--allow-empty", "-m", "x")
    (tmp_path / "fast.py").write_text(FAST, encoding="utf-8")
    assert "`accept` will" not in capture(aisp, "--rounds", "1").err, "bounds exist: it is judged, not accepted"


def test_a_commit_that_the_environment_names_needs_a_word_on_its_tree(
    aisp: Aisp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AISP_GIT_COMMIT", "a" * 40)
    assert "if they are, set AISP_GIT_DIRTY=0" in capture(aisp, "--rounds", "1").err
    monkeypatch.setenv("AISP_GIT_DIRTY", "1")
    assert "tracked files differ from the commit (not listed)" in capture(aisp, "--rounds", "1").err
    monkeypatch.setenv("AISP_GIT_DIRTY", "0")
    assert "`accept` will" not in capture(aisp, "--rounds", "1").err


@pytest.mark.parametrize(("model", "vague"), [("AMD EPYC", True), ("AMD EPYC 9654 96-Core", False)])
def test_bounds_of_a_vague_machine_say_so_and_a_named_one_has_its_own(
    aisp: Aisp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, vague: bool
) -> None:
    monkeypatch.setattr(host, "cpu_model", lambda: model)
    monkeypatch.setenv("AISP_GIT_COMMIT", "a" * 40)
    monkeypatch.setenv("AISP_GIT_DIRTY", "0")
    capture(aisp, "--rounds", "8")
    steady(only(tmp_path))
    code, out, _ = aisp("accept", "--yes")
    assert code == 0, out
    told = " ".join(out.split())
    assert ("cpu_amd_epyc is no processor's model, as in a virtual machine" in told) == vague
    monkeypatch.setenv("AISP_MACHINE", "build-7")
    err = capture(aisp, "--rounds", "8").err
    assert "AISP_MACHINE" not in err
    steady(only(tmp_path, "build_7"))
    code, out, _ = aisp("accept", "--yes")
    assert (code, "is no processor's model" in out) == (0, False), out
    key = host.hardware("cpu").key
    assert key.endswith("_build_7") and (tmp_path / "expectations" / f"expectations_{key}.json").is_file()
    assert len(list((tmp_path / "expectations").glob("*.json"))) == 2
    out = aisp("check", "--json")[1]
    assert "called" not in out, "the name is part of the machine, not a contradiction"


def only(folder: Path, named: str = "") -> Path:
    """The newest run's manifest, which must be of a machine with this name."""
    newest = max((folder / "aisp-runs").glob("mine-*/manifest.json"), key=lambda file: file.stat().st_mtime_ns)
    assert named in json.loads(newest.read_text(encoding="utf-8"))["hardware"]["key"]
    return newest


def steady(manifest: Path) -> None:
    """Times of a quiet machine, twice as fast in the second script: what is tested is not the noise here."""
    document = json.loads(manifest.read_text(encoding="utf-8"))
    for number, one in enumerate(document["commands"]):
        one["wall_ns"] = (20 if one["variant"] == "baseline" else 10) * 10**6 + (number * 7 % 5) * 10_000 + number
    manifest.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize(
    "text", ['{"schema"', '{"schema": "aisp-trace/expectations/2", "hardware_key": "any", "claims": [{}]}']
)
def test_expectations_that_cannot_be_read_stop_a_capture_before_anything_runs(
    aisp: Aisp, tmp_path: Path, text: str
) -> None:
    (tmp_path / "expectations").mkdir()
    (tmp_path / "expectations" / "expectations_any.json").write_text(text, encoding="utf-8")
    _, said, _ = aisp("expectations", "validate")
    pair = ["--baseline", f"{sys.executable} slow.py", "--optimized", f"{sys.executable} fast.py", "--profile", "none"]
    for options in (["--decide"], ["--rounds", "1"]):
        code, out, err = aisp("capture", *pair, "--device", "cpu", *options)
        assert (code, out) == (2, "")
        assert err.replace("aisp-trace: ", "wrong: ") == said and "expectations_any.json" in err
    assert not (tmp_path / "aisp-runs").exists()


def test_the_interval_of_a_capture_says_its_confidence(aisp: Aisp) -> None:
    _, out, _ = capture(aisp, "--rounds", "8")
    assert re.search(r"between \d+\.\d\dx and \d+\.\d\dx \(99\.2 %, the median ratio of 8 rounds", out)
