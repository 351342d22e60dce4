"""`aisp-trace accept` and `check --update-expectations`: what is shown, asked, refused and written."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len as display_width

from aisp_trace.cli.main import main
from aisp_trace.expectations.claims.load import load_file
from aisp_trace.expectations.judging import judged as cli_evidence
from aisp_trace.tests.judging.build import HIDDEN, SERIAL, run_folder
from aisp_trace.tests.test_expectations_files import MECHANISM, TIME, put, text
from aisp_trace.traces.run import MANIFEST

Aisp = Callable[..., tuple[int, str]]
SPELLINGS = [("accept",), ("check", "--update-expectations")]


@pytest.fixture
def aisp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Aisp:
    """Run a command in an empty project, with nobody to answer; gives exit code and everything it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_evidence, "analyses_of_run", lambda run: {"baseline": SERIAL, "optimized": HIDDEN})
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))

    def run(*args: str | Path) -> tuple[int, str]:
        code = main([*map(str, args)])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


def run_at(
    path: Path,
    *,
    git: dict[str, Any] | None = None,
    slower: float = 1.0,
    drift: float = 1.0,
    each: Sequence[float] = (1.0,),
    **changes: Any,
) -> Path:
    """A run of a clean tree; `slower` multiplies the optimized variant's times, `drift` once more in each round, and a round's
    own of `each`.

    No two names give the same measurement.
    """
    folder = run_folder(path, **changes)
    file = folder / MANIFEST
    manifest = json.loads(file.read_text(encoding="utf-8"))
    manifest["git"] = {"commit": "0123456789abcdef", "dirty": False} if git is None else git
    second = int.from_bytes(path.name.encode()[-3:]) % 3600
    manifest["created_utc"] = f"2026-01-01T01:{second // 60:02}:{second % 60:02}Z"
    for number, made in enumerate(manifest["rounds"]):
        made["wall_ns"] += int.from_bytes(path.name.encode()[-3:])
        for found in made["result"]["variants"]:
            if found["name"] == "optimized":
                found["iterations_ns"] = [
                    round(ns * slower * drift**number * each[number % len(each)]) for ns in found["iterations_ns"]
                ]
    file.write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def claims(folder: Path, *found: dict[str, Any]) -> Path:
    return put(folder, "expectations_h100.json", text(*found))


def state(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("spelling", SPELLINGS, ids=" ".join)
def test_what_is_accepted_is_shown_written_and_met_by_a_later_run(
    aisp: Aisp, tmp_path: Path, spelling: tuple[str, ...]
) -> None:
    folder = claims(tmp_path / "expectations", TIME, MECHANISM)
    code, out = aisp(*spelling, run_at(tmp_path / "pipeline-2"), "--yes")
    assert code == 0, out
    rows = [line.split() for line in out.splitlines() if line.endswith(("tighter", "looser", "moved", "new"))]
    assert rows[0] == ["faster", "statistic", "median", "mean", "moved"]
    assert rows[1] == ["faster", "speedup", "1.5", "..", "2.5", "1.89", "..", "2.11", "tighter"]
    assert "A bound proves nothing about the run it comes from.\nnext: commit the file, capture again, then" in out
    assert all(display_width(line) <= 80 for line in out.splitlines() if str(tmp_path) not in line)
    time = load_file(folder / "expectations_h100.json").claims[0]
    assert time.source.run == "pipeline-2"
    assert time.provenance is not None and time.provenance.commit == "0123456789ab"
    assert aisp("check", run_at(tmp_path / "pipeline-3"))[0] == 0
    assert aisp(*spelling, tmp_path / "pipeline-3", "--yes")[1].splitlines()[-1].startswith("Nothing changes")


@pytest.mark.parametrize("spelling", SPELLINGS, ids=" ".join)
@pytest.mark.parametrize(
    ("claim", "changes", "code", "words"),
    [
        (TIME, {"git": {"commit": "a", "dirty": True}}, 2, "refused: pipeline-2 was captured from a changed tree"),
        (
            TIME,
            {"git": {"commit": "a", "dirty": True, "changed": ["a.py", "b.py"]}},
            2,
            "captured from a changed tree (a.py, b.py); commit",
        ),
        (TIME, {"git": {"commit": None, "dirty": None}}, 2, "does not know its commit"),
        ({**TIME, "ratio": {"min": 1.95}}, {}, 2, "would loosen from >= 1.95 to >= 1.89"),
        ({**TIME, "ratio": {"min": 2.5}}, {}, 2, "pipeline.faster is missed"),
        (TIME, {"ok": False}, 3, "pipeline.faster is invalid"),
        (TIME, {"n_rounds": 3}, 3, "3 rounds have no 99 % interval"),
        ({**TIME, "ratio": {"min": 1.999}}, {"drift": 1.02}, 3, "drift"),
    ],
)
def test_each_refusal_writes_nothing(
    aisp: Aisp, tmp_path: Path, spelling: tuple[str, ...], claim: Any, changes: Any, code: int, words: str
) -> None:
    claims(tmp_path / "expectations", claim)
    run = run_at(tmp_path / "pipeline-2", **changes)
    before = state(tmp_path)
    found, out = aisp(*spelling, run, "--yes")
    assert (found, state(tmp_path)) == (code, before)
    assert words in out
    by_hand = "Or decide the bound yourself: make pipeline.faster in"
    assert (by_hand in out) == (words in ("does not know its commit", "drift")), (
        "only where such a bound would be judged"
    )
    assert out.partition(by_hand)[0].rstrip().endswith("Nothing was written.")


@pytest.mark.parametrize(
    ("below", "options", "road"),
    [
        ("aisp-runs", (), "Or decide a bound yourself: `aisp-trace expectations new pipeline`."),
        ("aisp-runs", ("--expectations", "my own"), "`aisp-trace expectations new pipeline --expectations 'my own'`."),
        ("elsewhere", (), "Or decide a bound yourself, in "),  # `expectations new` would not find the run
    ],
)
def test_the_other_road_can_be_gone(
    aisp: Aisp, tmp_path: Path, below: str, options: tuple[str, ...], road: str
) -> None:
    """Where `accept` refuses for want of a commit: the command that it names writes a claim."""
    for folder in (below, "my own"):
        (tmp_path / folder).mkdir()
    run = run_at(tmp_path / below / "pipeline-2", git={"commit": None, "dirty": None})
    code, out = aisp("accept", run, "--yes", *options)
    said = " ".join(out.split())
    assert (code, road in said) == (2, True), out
    for line in re.findall(r"`aisp-trace (expectations new [^`]*)`", said):
        assert aisp(*shlex.split(line))[0] == 0
        assert len(list(tmp_path.rglob("expectations_h100.json"))) == 1


@pytest.mark.parametrize("spelling", SPELLINGS, ids=" ".join)
def test_without_anyone_to_ask_nothing_is_written(aisp: Aisp, tmp_path: Path, spelling: tuple[str, ...]) -> None:
    claims(tmp_path / "expectations", TIME)
    run = run_at(tmp_path / "pipeline-2")
    before = state(tmp_path)
    code, out = aisp(*spelling, run)  # stdin says y, but it is not a terminal
    assert (code, state(tmp_path)) == (2, before)
    assert "there is no terminal to confirm on" in out and "tighter" in out


@pytest.mark.parametrize(("said", "code"), [("y\n", 0), ("yes\n", 0), ("\n", 2), ("n\n", 2), ("", 2)])
def test_a_person_is_asked(aisp: Aisp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, code: int) -> None:
    claims(tmp_path / "expectations", TIME)
    run = run_at(tmp_path / "pipeline-2")
    before = state(tmp_path)
    monkeypatch.setattr("sys.stdin", Terminal(said))
    found, out = aisp("accept", run)
    assert found == code
    assert "[y/N]" in out
    assert (state(tmp_path) == before) == (code != 0)


def test_loosening_needs_its_own_word(aisp: Aisp, tmp_path: Path) -> None:
    folder = claims(tmp_path / "expectations", {**TIME, "ratio": {"min": 2.5}})
    run = run_at(tmp_path / "pipeline-2")
    assert aisp("accept", run, "--yes")[0] == 2
    code, out = aisp("accept", run, "--yes", "--allow-loosen")
    assert code == 0 and "looser" in out
    assert aisp("check", run_at(tmp_path / "pipeline-3"), "--expectations", folder)[0] == 0


@pytest.mark.parametrize("spelling", SPELLINGS, ids=" ".join)
def test_a_missed_run_is_accepted_with_a_word(aisp: Aisp, tmp_path: Path, spelling: tuple[str, ...]) -> None:
    folder = claims(tmp_path / "expectations", {**TIME, "ratio": {"min": 2.5}})
    before = state(folder)
    words = (
        "warning: pipeline-2 missed the bounds that it replaces: pipeline.faster (speedup of optimized over baseline 2,"
    )
    run = run_at(tmp_path / "pipeline-2")
    code, out = aisp(*spelling, run, "--allow-loosen")  # nobody to ask: said before it asks
    assert (code, words in " ".join(out.split()), state(folder)) == (2, True, before)
    code, out = aisp(*spelling, run, "--allow-loosen", "--yes")
    assert (code, words in " ".join(out.split())) == (0, True)
    assert out.index("missed the bounds") < out.index("Written to")


NOISY = [1.0, 0.2, 0.7, 0.3, 0.8, 0.25, 0.5, 0.22]
"""What the optimized variant's rounds are multiplied by: 2x to 10x."""


@pytest.mark.parametrize("spelling", SPELLINGS, ids=" ".join)
def test_a_wide_bound_needs_somebody_who_reads_it(
    aisp: Aisp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: tuple[str, ...]
) -> None:
    run = run_at(tmp_path / "pipeline-2", each=NOISY)
    code, out = aisp(*spelling, run, "--yes")
    said = " ".join(out.split())
    assert (code, (tmp_path / "expectations").exists()) == (2, False), out
    assert "warning: a wide bound: pipeline.faster: the speedup was" in said
    assert "refused: with --yes nobody sees the warning; `accept --allow-wide` writes wide bounds anyway." in said
    assert "decide a bound yourself" not in said
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    code, out = aisp(*spelling, run)
    assert (code, "warning: a wide bound" in out) == (0, True), "a person has read it"
    shutil.rmtree(tmp_path / "expectations")
    assert aisp("accept", run, "--yes", "--allow-wide")[0] == 0


def test_only_the_ratio_is_written(aisp: Aisp, tmp_path: Path) -> None:
    code, out = aisp("accept", run_at(tmp_path / "pipeline-2"), "--yes", "--only-ratio")
    assert (code, "speedup" in out, " ms " in out) == (0, True, False), out
    (claim,) = load_file(tmp_path / "expectations" / "expectations_h100.json").claims
    assert claim.type == "time" and claim.max_ms == {}
    code, out = aisp("check", run_at(tmp_path / "pipeline-3"))
    assert (code, "speedup 2x met" in out, "limits" in out) == (0, True, False), out


@pytest.mark.parametrize(
    ("claim", "code"),
    [
        ({**TIME, "ratio": {"min": 2.5}}, 2),  # missed, and its bound would become looser
        ({**MECHANISM, "bound": {"min": 0.99}}, 1),  # missed, and not for runs to change
    ],
)
def test_the_gravest_refusal_gives_the_exit_code(aisp: Aisp, tmp_path: Path, claim: dict[str, Any], code: int) -> None:
    claims(tmp_path / "expectations", claim)
    found, out = aisp("accept", run_at(tmp_path / "pipeline-2"), "--yes")
    assert (found, "is missed" in out) == (code, True), out


def test_another_machines_file_is_not_written(aisp: Aisp, tmp_path: Path) -> None:
    file = claims(tmp_path / "mine", TIME) / "expectations_h100.json"
    run = run_at(tmp_path / "pipeline-2", key="a100")
    code, out = aisp("accept", run, "--yes", "--expectations", file)
    assert code == 2
    assert "the file is for h100, but pipeline-2 was made on a100" in out
    # a folder has room for both
    assert aisp("accept", run, "--yes", "--expectations", file.parent)[0] == 0
    assert sorted(p.name for p in file.parent.iterdir()) == ["expectations_a100.json", "expectations_h100.json"]


def test_an_empty_project_folder_gets_its_first_file(aisp: Aisp, tmp_path: Path) -> None:
    (tmp_path / "expectations").mkdir()
    code, out = aisp("accept", run_at(tmp_path / "pipeline-2"), "--yes")
    assert code == 0 and "new" in out
    assert [c.id for c in load_file(tmp_path / "expectations" / "expectations_h100.json").claims] == ["pipeline.faster"]
    code, out = aisp("accept", run_at(tmp_path / "pipeline-3"), "--yes", "--expectations", tmp_path / "absent")
    assert (code, "is not a folder; make it" in out) == (2, True)


def test_a_first_run_without_a_gain_carries_no_bound(aisp: Aisp, tmp_path: Path) -> None:
    """Nothing is written and nothing was written before: a script that goes on to commit the file has to notice."""
    code, out = aisp("accept", run_at(tmp_path / "pipeline-2", slower=2.1), "--yes")
    assert code == 3
    assert "no time claim for optimized: its speedup over baseline may be 0.9" in out
    assert "Nothing was written: these runs carry no bound." in out.splitlines()
    assert "Or decide a bound yourself, in" in out.partition("carry no bound.")[2]
    assert not (tmp_path / "expectations").exists()


def test_six_slow_steps_through_the_command_line(aisp: Aisp, tmp_path: Path) -> None:
    (tmp_path / "expectations").mkdir()
    assert aisp("accept", run_at(tmp_path / "pipeline-1"), "--yes")[0] == 0
    first = state(tmp_path / "expectations")
    for i in range(1, 7):
        run = run_at(tmp_path / f"slow-{i}", slower=1 / 0.76**i)
        assert aisp("check", run)[0] == 1
        assert aisp("accept", run, "--yes")[0] == 2
        assert aisp("check", run, "--update-expectations", "--yes")[0] == 2
        assert state(tmp_path / "expectations") == first


def test_a_copied_run_is_no_second_occasion(aisp: Aisp, tmp_path: Path) -> None:
    (tmp_path / "expectations").mkdir()
    run = run_at(tmp_path / "pipeline-1")
    shutil.copytree(run, tmp_path / "pipeline-2")
    manifest = tmp_path / "pipeline-2" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"pipeline-1"', '"pipeline-2"'))
    code, out = aisp("accept", run, tmp_path / "pipeline-2", "--yes")
    assert (code, "pipeline-1 and pipeline-2 hold the same measurement" in out) == (2, True)
    assert aisp("accept", run, "--yes")[0] == 0
    code, out = aisp("check", tmp_path / "pipeline-2")
    assert (code, "measured in this run" in out) == (3, True)


def test_several_runs_are_several_occasions(aisp: Aisp, tmp_path: Path) -> None:
    (tmp_path / "expectations").mkdir()
    runs = [run_at(tmp_path / "pipeline-1"), run_at(tmp_path / "pipeline-2", slower=1.1)]
    assert aisp("accept", *runs, "--yes")[0] == 0
    for run in runs:  # neither is judged by what it set itself
        assert aisp("check", run)[0] == 3
    for i, slower in enumerate((1.0, 1.05, 1.1)):
        assert aisp("check", run_at(tmp_path / f"later-{i}", slower=slower))[0] == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["check", "RUN", "--yes"], "--yes and --allow-loosen belong to --update-expectations"),
        (["check", "RUN", "--allow-loosen"], "--yes and --allow-loosen belong to --update-expectations"),
        (["check", "RUN", "--update-expectations", "--json"], "judges nothing"),
        (["accept", "RUN", "--allow-loose"], "did you mean '--allow-loosen'?"),
        (["accept", "RUN", "RUN"], "was named twice"),
        (["accept", "RUN", "--claim", "pipeline.fster", "--yes"], "did you mean 'pipeline.faster'?"),
        (["accept", "absent"], "absent"),
        (["accept"], "no complete run lies under"),
    ],
)
def test_wrong_usage_is_one_sentence(aisp: Aisp, tmp_path: Path, args: list[str], words: str) -> None:
    claims(tmp_path / "expectations", TIME)
    run = str(run_at(tmp_path / "pipeline-2"))
    before = state(tmp_path)
    code, out = aisp(*(run if a == "RUN" else a for a in args))
    assert (code, state(tmp_path)) == (2, before)
    assert words in out and len(out.splitlines()) == 1
