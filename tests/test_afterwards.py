"""What `capture` says of `accept` before it starts, and the command it names at its end, walked as for a gate."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from aisp_trace.capture import host
from aisp_trace.cli.afterwards import _doubt_of_rounds, following
from aisp_trace.cli.main import main
from aisp_trace.expectations.accepting.run import prepare
from aisp_trace.expectations.claims.load import load_folder
from aisp_trace.expectations.deciding import DECIDING
from aisp_trace.traces.run import Run, load_run

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
    (following,) = re.findall(r"^next: (?:aisp-trace )?(.*)$", out, flags=re.MULTILINE)
    return Said(following, out, err)


def test_outside_git_it_is_said_at_the_start_that_accept_will_refuse(aisp: Aisp) -> None:
    following, out, err = capture(aisp, "--rounds", "8")
    first, second, *others = err.splitlines()
    assert "`accept` will take no bounds from this run: " in first
    assert "is not in a git repository with a commit; commit the programs first, or decide bounds yourself" in first
    assert "round 1/8" in second, "before the first process"
    told = next(
        i for i, line in enumerate(others) if "timed by whole processes, start-up included, because baseline" in line
    )
    assert told < next(i for i, line in enumerate(others) if "round 2/8" in line), (
        "after the first round, not after all"
    )
    assert following == "expectations new mine", "accept would refuse, and check has nothing to judge by"
    assert "rounds, of whole processes with start-up)" in out
    assert aisp("accept")[0] == 2
    assert aisp(*shlex.split(following))[0] == 0
    assert capture(aisp, "--rounds", "1").following.startswith("check aisp-runs/mine-"), "now something is written down"


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
    assert following == "commit fast.py and capture again, for bounds that `accept` takes"
    git("commit", "-qam", "tuned")
    following, out, err = capture(aisp, "--rounds", "1")
    assert "`accept` will" not in err
    assert following == "capture again with --rounds 8, or --decide: 1 round carries no bound"
    assert "or decide a bound yourself: aisp-trace expectations new mine" in out
    assert "(1 round, of whole processes with start-up: too few for an interval)" in out
    assert "work: the commands state no work and no output, so it is unverified that they do the same" in " ".join(
        out.split()
    )
    following, out, err = capture(aisp, "--decide")
    assert "`accept` will" not in err
    assert re.search(r"^untraced: optimized \d+\.\d\dx, between ", out, flags=re.MULTILINE)
    refuses = "`accept` would take no bound from this run: " in out  # a busy machine: rounds in doubt
    warns = "`accept` would warn of a wide bound, and with --yes refuse it: " in out  # a busy machine: rounds far apart
    limits = (
        "`accept` would not take milliseconds from this run as limits: " in out
    )  # a busy machine: times in doubt, the ratio not
    loose = "--only-ratio (it would be wide: " in out
    again, alone = "time it again on a quieter machine", "bound the speedup alone: aisp-trace accept aisp-runs/mine-"
    assert following.startswith(
        alone if limits and not loose else again if refuses or warns or loose else "accept aisp-runs/mine-"
    )
    assert ("or decide a bound yourself: aisp-trace expectations new mine" in out) == (refuses or warns or limits)
    assert ("or take it anyway: aisp-trace accept aisp-runs/mine-" in out) == warns
    code, out, _ = aisp("accept", "--yes")
    assert code == (3 if refuses or limits else 2 if warns else 0), out
    if limits:
        assert aisp("accept", "--yes", "--only-ratio", "--allow-wide")[0] == 0
    if warns:
        assert aisp("accept", "--yes", "--allow-wide")[0] == 0
    if refuses:
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
    before = " ".join(capture(aisp, "--rounds", "8").err.split())
    steady(only(tmp_path))
    code, out, _ = aisp("accept", "--yes")
    assert code == 0, out
    told = " ".join(out.split())
    for text in (before, told):
        assert ("cpu_amd_epyc is no processor's model, as in a virtual machine" in text) == vague
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


@pytest.fixture
def made(aisp: Aisp, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The manifest of a run of eight rounds from a known, clean tree, where nothing is written down."""
    monkeypatch.setenv("AISP_GIT_COMMIT", "a" * 40)
    monkeypatch.setenv("AISP_GIT_DIRTY", "0")
    capture(aisp, "--rounds", "8")
    return only(Path.cwd())


def with_rounds(manifest: Path, speedups: Sequence[float], looks: Sequence[int], drift: float = 0.0) -> Run:
    """The run with these rounds instead, the baseline's of about 20 ms, each longer by the part `drift` than the one before."""
    document = json.loads(manifest.read_text(encoding="utf-8"))
    first, second = document["commands"][:2]
    document["commands"] = []
    for index, speedup in enumerate(speedups):
        both = [
            {**first, "wall_ns": round(20_000_000 * (1 + drift) ** index) + index * 7919 % 5 * 9_000 + 17 * index},
            {**second},
        ]
        both[1]["wall_ns"] = round(both[0]["wall_ns"] / speedup) + 29 * index + 5  # no two processes take the same
        document["commands"] += [{**one, "index": index} for one in (both if index % 2 == 0 else both[::-1])]
    document["looks"] = list(looks)
    words = [word for word in document["command_line"] if word not in ("--rounds", "--decide") and not word.isdecimal()]
    document["command_line"] = [*words, *(["--rounds", str(looks[0])] if len(looks) == 1 else ["--decide"])]
    manifest.write_text(json.dumps(document), encoding="utf-8")
    return load_run(manifest.parent)


ROUNDS = st.one_of(
    st.lists(st.floats(0.9, 3.0), min_size=1, max_size=40),
    st.lists(st.floats(1.9, 2.1), min_size=12, max_size=12),
    st.lists(st.floats(1.3, 3.5), min_size=12, max_size=12),
    st.builds(  # on the way to somewhere, in two groups, or quiet
        lambda n, base, step, gap: [
            base + step * i + (gap if i % 3 == 0 else 0.0) + i * 7 % 5 * 0.003 for i in range(n)
        ],
        st.sampled_from((8, 12, 16, 40)),
        st.floats(0.95, 2.5),
        st.sampled_from((0.0, 0.0, 0.01, 0.05)),
        st.sampled_from((0.0, 0.0, 0.3)),
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(speedups=ROUNDS, decided=st.booleans())
def test_accept_is_named_just_where_it_takes_bounds(made: Path, speedups: list[float], decided: bool) -> None:
    run = with_rounds(made, speedups, DECIDING if decided else (len(speedups),))
    lines = following(run, "RUN")
    proposal = prepare([run], None, allow_wide=False).proposal  # as with --yes
    takes = not proposal.refusals and bool(proposal.changes)
    assert (lines == ["next: aisp-trace accept RUN"]) == takes, (lines, proposal)
    event("taken" if takes else "wide" if len(lines) == 4 else "refused")
    assert takes or lines[-1].startswith("or decide a bound yourself: aisp-trace expectations new mine")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(speedups=ROUNDS, drift=st.sampled_from((0.0, 0.02)))
def test_the_speedup_alone_is_named_just_where_it_is_taken(made: Path, speedups: list[float], drift: float) -> None:
    """Where the times are in doubt, as on a machine that becomes slower, and their ratio is not; also where it would be wide."""
    run = with_rounds(made, speedups, DECIDING, drift)
    lines = following(run, "RUN")
    refused = bool(prepare([run], None).proposal.refusals)
    alone = prepare([run], None, only_ratio=True).proposal
    takes = refused and bool(alone.changes) and not alone.refusals
    assert any("aisp-trace accept RUN --only-ratio" in line for line in lines) == takes, (lines, alone)
    wide = takes and bool(alone.wide)
    assert any("--only-ratio (it would be wide: " in line for line in lines) == wide
    event("wide" if wide else "taken" if takes else "refused" if refused else "all taken")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(speedups=ROUNDS)
def test_where_only_what_records_is_installed_the_rounds_are_asked_alike(made: Path, speedups: list[float]) -> None:
    """By what `--decide` asks of them. `accept` asks for more, such as copied processes, but doubts the rounds alike."""
    run = with_rounds(made, speedups, (len(speedups),))
    doubt = _doubt_of_rounds(run.manifest)
    refusals = [refusal.text for refusal in prepare([run], None).proposal.refusals]
    assert not doubt or any(doubt in text for text in refusals)
    assert doubt or not any(word in text for text in refusals for word in ("drift by", "into two groups", "resembles"))


def test_rounds_in_doubt_name_what_would_settle_them(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = with_rounds(made, [2 + 0.05 * i for i in range(12)], DECIDING)
    why, then, otherwise = following(run, "RUN")
    assert why.startswith("`accept` would take no bound from this run: ") and "drift" in why
    assert then == "next: time it again on a quieter machine, with --rounds 16"
    assert re.fullmatch(
        r"or decide a bound yourself: aisp-trace expectations new mine( \(an equally noisy run would meet 1\.\d\d\))?",
        otherwise,
    )
    run = with_rounds(made, [2 + 0.05 * i for i in range(40)], DECIDING)
    assert following(run, "RUN")[1] == "next: time it again on a quieter machine", "40 are the most"
    run = with_rounds(made, [2.0 + i * 7 % 5 * 0.01 for i in range(5)], DECIDING)
    assert following(run, "RUN")[0] == "next: capture again with a longer --budget: 5 rounds carry no bound"
    monkeypatch.setattr("aisp_trace.cli.afterwards.find_spec", lambda name: None)
    run = with_rounds(made, [2 + 0.05 * i for i in range(12)], DECIDING)
    assert following(run, "RUN")[1:] == [then, otherwise], "without what judges"
    run = with_rounds(made, [2.0 + i * 7 % 5 * 0.01 for i in range(12)], DECIDING)
    assert following(run, "RUN") == ["next: aisp-trace accept RUN"]
    monkeypatch.undo()
    monkeypatch.chdir(run.path.parent.parent)
    far_apart = [3.4, 3.17, 2.29, 1.87, 2.53, 2.25, 3.24, 1.99, 2.44, 2.72, 3.56, 2.51]
    scattered = with_rounds(made, far_apart, DECIDING)
    why, then, anyway, otherwise = following(scattered, "RUN")
    assert why.startswith("`accept` would warn of a wide bound, and with --yes refuse it: mine.faster: ")
    assert then == "next: time it again on a quieter machine, with --rounds 16"
    assert anyway == "or take it anyway: aisp-trace accept RUN"
    (run.path.parent / "elsewhere").mkdir()
    moved = run.path.rename(run.path.parent / "elsewhere" / run.path.name)
    run = with_rounds(moved / "manifest.json", [2.0], (1,))
    assert following(run, "RUN")[-1] == "or decide a bound yourself: docs/change.md says how", (
        "`new` does not look there"
    )


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
