"""`aisp-trace check`: what is printed, and what it leaves with. The traces' analyses are given; nothing is recorded."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len as display_width

from aisp_trace.analyze.result import Analysis
from aisp_trace.cli.main import main
from aisp_trace.expectations.judging import judged as cli_evidence
from aisp_trace.report.terminal.verdicts import sentences, verdict_table
from aisp_trace.tests.judging.build import HIDDEN, SERIAL, analysis, run_folder
from aisp_trace.tests.test_check_junit import verdict
from aisp_trace.tests.test_expectations_files import MECHANISM, TIME, put, text
from aisp_trace.traces.bundle import pack
from aisp_trace.traces.run import load_run

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Run `check` in an empty project with the given arguments; answers exit code and stdout (or stderr)."""
    monkeypatch.chdir(tmp_path)
    give(monkeypatch, {"baseline": SERIAL, "optimized": HIDDEN})

    def run(*args: str | Path) -> tuple[int, str]:
        code = main(["check", *map(str, args)])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


def give(monkeypatch: pytest.MonkeyPatch, analyses: Mapping[str, Analysis]) -> None:
    monkeypatch.setattr(cli_evidence, "analyses_of_run", lambda run: dict(analyses))


def claims(folder: Path, *found: dict[str, Any], key: str = "h100") -> Path:
    return put(folder, f"expectations_{key}.json", text(*found, key=key))


def test_a_run_that_holds(check: Check, tmp_path: Path) -> None:
    run_folder(tmp_path / "aisp-runs" / "pipeline-1")
    claims(tmp_path / "expectations", MECHANISM, TIME)
    code, out = check()
    assert code == 0
    assert "run           pipeline-1 on h100" in out
    assert f"expectations  {tmp_path / 'expectations'} (the current project's)" in out
    assert out.rstrip().endswith("4 met.")
    lines = out.splitlines()
    row = next(i for i, line in enumerate(lines) if "speedup of optimized" in line)
    assert lines[row].split()[0] == "met"
    assert lines[row + 1].split() == ["2", "1.993", "..", "2.007", "1.5", "..", "2.5", "+0.493", "8", "measured"]
    assert all(display_width(line) <= 80 for line in lines if "expectations  " not in line)


def test_a_missed_claim_is_explained_and_leaves_1(check: Check, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "pipeline-1")
    slow = {**TIME, "ratio": {"min": 2.5}}
    code, out = check(run, "--expectations", claims(tmp_path / "mine", MECHANISM, slow))
    assert code == 1
    assert "(--expectations)" in out
    sentence = "missed: pipeline.faster, speedup of optimized over baseline: the interval 1.993 .. 2.007 lies outside"
    assert sentence in flowed(out)
    assert out.rstrip().endswith("3 met, 1 missed.")


def test_wrong_outputs_leave_3(check: Check, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "pipeline-1", ok=False)
    code, out = check(run, "--expectations", claims(tmp_path / "mine", MECHANISM, TIME))
    assert code == 3
    assert "the output of optimized in round 0 differs from the float64 reference" in flowed(out)
    assert out.rstrip().endswith("2 invalid.")


def test_a_missed_claim_goes_before_one_that_cannot_be_judged(check: Check, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "pipeline-1", n_rounds=3)
    impossible = {**MECHANISM, "bound": {"min": 0.99}}
    code, out = check(run, "--expectations", claims(tmp_path / "mine", impossible, TIME))
    assert code == 1
    assert out.rstrip().endswith("1 missed, 3 inconclusive.")


def test_another_machine_leaves_3_and_says_which_was_recorded(check: Check, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "pipeline-1", key="cpu_epyc")
    code, out = check(run, "--expectations", claims(tmp_path / "mine", TIME))
    assert code == 3
    assert "recorded for h100; this run was made on cpu_epyc" in flowed(out)


def test_no_claim_about_the_workload_leaves_3(check: Check, tmp_path: Path) -> None:
    code, out = check(run_folder(tmp_path / "pipeline-1"))
    assert code == 3
    assert "(those of aisp-trace)" in out
    assert "No claim is about pipeline, so nothing was judged." in out
    assert "`aisp-trace expectations new pipeline` begins your own." in flowed(out)


def test_a_run_without_traces_says_what_was_not_checked(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, {})
    run = run_folder(tmp_path / "pipeline-1", traced=False)
    code, out = check(run, "--expectations", claims(tmp_path / "mine", TIME))
    assert code == 0
    assert "note: the moved bytes of baseline were not checked: it has no trace that is believed." in flowed(out)


def test_bytes_that_cannot_be_counted_are_noted(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = analysis(kinds={"graph": (10, 0), "d2h": (100, 10**7)}, overlap={"copy|compute": (500, 500, 400)})
    give(monkeypatch, {"baseline": SERIAL, "optimized": whole})
    run = run_folder(tmp_path / "pipeline-1")
    code, out = check(run, "--expectations", claims(tmp_path / "mine", TIME))
    assert code == 0
    assert "note: moved bytes not checked: optimized replays CUDA graphs that were recorded whole" in flowed(out)


def test_json_holds_the_whole_working(check: Check, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "pipeline-1")
    code, out = check(run, "--json", "--expectations", claims(tmp_path / "mine", MECHANISM, TIME))
    found = json.loads(out)
    assert (code, found["exit_code"], found["schema"]) == (0, 0, "aisp-trace/check/1")
    assert list(found) == [
        "schema",
        "run",
        "expectations",
        "verdicts",
        "headline",
        "counts",
        "untimed",
        "predictions",
        "notes",
        "exit_code",
    ]
    assert found["expectations"] == {"folder": str(tmp_path / "mine"), "chosen": "option", "hardware_keys": ["h100"]}
    assert found["counts"]["met"] == 4
    hidden, ratio, *_ = found["verdicts"]
    assert (
        hidden["interval"]["coverage"] == 0.99
        and hidden["value"] == 0.8
        and hidden["bound"] == {"min": 0.5, "max": None}
    )
    assert ratio["interval"]["coverage"] == 0.9921875
    assert (ratio["n"], ratio["sample"], ratio["verdict"]) == (8, "rounds", "met")
    assert ratio["source"] == {"kind": "measured", "run": "pipeline-0", "text": "median of 8 rounds"}


def test_nothing_is_ever_written(check: Check, tmp_path: Path) -> None:
    run_folder(tmp_path / "aisp-runs" / "pipeline-1")
    claims(tmp_path / "expectations", MECHANISM, {**TIME, "ratio": {"min": 1.01, "max": 1.02}})

    def state() -> dict[str, tuple[bytes, int]]:
        files = [p for p in tmp_path.rglob("*") if p.is_file()]
        return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}

    before = state()
    code, out = check()
    assert code == 0 and "exceeded" in out
    assert check("--json")[0] == 0
    assert state() == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["absent"], "absent"),
        ([], "no complete run lies under"),
        (["--expectation", "x"], "did you mean '--expectations'?"),
        (["a", "b"], "see `aisp-trace check --help`"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_2(check: Check, args: list[str], words: str) -> None:
    code, out = check(*args)
    assert code == 2
    assert words in out
    assert len(out.splitlines()) == 1


def test_a_bundle_is_verified_by_another_command(check: Check, tmp_path: Path) -> None:
    folder = tmp_path / "proof"
    folder.mkdir()
    (folder / "report.html").write_text("<p>", encoding="utf-8")
    bundle = tmp_path / "proof.tar.gz"
    pack(folder, bundle, "pipeline-1", {"aisp-trace": "1"})
    code, out = check(bundle)
    assert code == 2 and f"`aisp-trace bundle verify {bundle}` checks it" in out and "analyze" not in out
    assert main(["analyze", str(bundle)]) == 2
    (tmp_path / "other.tar.gz").write_bytes(gzip.compress(b"no bundle"))
    assert "verdicts are about runs" in check(tmp_path / "other.tar.gz")[1]


def test_wrong_expectations_leave_2(check: Check, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "pipeline-1")
    code, out = check(run, "--expectations", claims(tmp_path / "mine", {**MECHANISM, "bund": 1}))
    assert code == 2
    assert "unknown key 'bund'; did you mean 'bound'?" in out
    assert check(run, "--expectations", tmp_path / "absent")[0] == 2
    code, out = check(run, "--expectations", claims(tmp_path / "mine", {**MECHANISM, "bund": 1, "why": 3}))
    assert (code, len(out.splitlines()), out.count("aisp-trace: ")) == (2, 2, 2), "a line a fault"


def test_hostile_names_do_not_reach_the_terminal(check: Check, tmp_path: Path) -> None:
    run_folder(tmp_path / "pipeline-1").rename(tmp_path / "pipe\x1b[31mline")
    code, out = check(tmp_path / "pipe\x1b[31mline", "--expectations", claims(tmp_path / "mi\x1b[31mne", TIME))
    assert code == 0
    assert "\x1b" not in out
    assert "mi\\x1b[31mne" in out


def flowed(text: str) -> str:
    """`text` as one line: sentences are broken at the terminal's width."""
    return " ".join(text.split())


def test_claims_of_one_verdict_and_reason_share_a_sentence() -> None:
    nowhere: dict[str, Any] = {
        "value": None,
        "low": None,
        "high": None,
        "margin": None,
        "n": 0,
        "reason": "recorded for h100",
    }
    found = [
        verdict("met"),
        verdict("unrecorded", **nowhere),
        verdict("missed", claim="pipeline.busy", quantity="idle of b"),
        verdict("unrecorded", **nowhere, claim="pipeline.hidden", quantity="overlap of b"),
        verdict("unrecorded", **nowhere | {"reason": "another size"}, claim="pipeline.share"),
    ]
    assert sentences(found) == [
        "unrecorded: pipeline.faster, hidden: recorded for h100.",
        "missed: pipeline.busy, idle of b: the interval lies somewhere.",
        "unrecorded: pipeline.share, speedup of optimized over baseline: another size.",
    ]
    lines = verdict_table(found, "pipeline", 80).splitlines()
    assert len(lines) == 1 + 2 * 2 + 3, "nothing was measured for three of them"
    assert lines[3] == "unrecorded    faster: speedup of optimized over baseline"


def test_bounds_that_git_knows_to_be_younger_than_the_run_are_named(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In no work tree nothing is said; then not committed, committed afterwards, changed since, committed before."""
    run = run_folder(tmp_path / "aisp-runs" / "pipeline-1")
    file = claims(tmp_path / "expectations", MECHANISM, TIME) / "expectations_h100.json"
    begun = min(made.started_utc for made in load_run(run).manifest.rounds)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    def git(*words: str, at: str = begun) -> None:
        environment = {**os.environ, "GIT_COMMITTER_DATE": at}
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", *who, *words], cwd=tmp_path, env=environment, check=True, capture_output=True)

    def said() -> str:
        code, out = check()
        assert code == 0 and out.rstrip().endswith("4 met."), "the verdict stays"
        return flowed(out)

    assert "these bounds were" not in said()
    git("init", "-q")
    assert (
        "nothing shows that these bounds were written before the run: " in (out := said()) and "is in no commit" in out
    )
    git("add", "expectations")
    assert "is in no commit" in said()
    later = begun.replace(begun[:4], str(int(begun[:4]) + 1))
    git("commit", "-qm", "bounds", at=later)
    assert f"was last committed at {later}, and the run began at {begun}" in said()
    git("commit", "-q", "--amend", "--no-edit", at=begun)
    assert "these bounds were" not in said()
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert "differs from its last commit" in said()
