"""A folder in which aisp-trace has worked: who names everything in it means the traces, and hears what was passed over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from aisp_trace.cli.main import main
from aisp_trace.report.own import is_own, without_own
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.judging.build import run_folder

SAMPLES = Path(__file__).parents[1] / "traces" / "samples"
TRACE = "t.sqlite.xz"

MADE = {
    "aisp-ranks": ["analyze", "--partial", "aisp-ranks", TRACE],
    "t.html": ["report", TRACE, "-o", "t.html"],
    "job.html": ["ranks", "aisp-ranks", "-o", "job.html"],
    "parquet": ["export", TRACE, "--to", "parquet", "-o", "parquet"],
    "both-csv": ["export", "run", "--to", "csv", "-o", "both-csv"],
    "a.json": ["export", TRACE, "--to", "json", "-o", "a.json"],
    "p.pftrace": ["export", TRACE, "--to", "perfetto", "-o", "p.pftrace"],
    "p.gz": ["export", TRACE, "--to", "perfetto", "-o", "p.gz"],
    "b.tar.gz": ["bundle", "run", "-o", "b.tar.gz"],
    "v.xml": ["check", "run", "--junit", "v.xml"],
    "v.md": ["check", "run", "--markdown", "v.md"],
}
"""Output -> how it is made."""

PRINTED = (["analyze", TRACE], ["compare", "run"], ["check", "run"], ["ranks", "aisp-ranks"], ["list"])
"""Commands whose --json somebody may keep."""


@pytest.fixture(scope="module")
def worked_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of every kind beside a trace and a run."""
    folder = tmp_path_factory.mktemp("worked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy(SAMPLES / "h200_graphs.sqlite.xz", TRACE)
        small = run_folder(folder / "run")
        for variant in ("baseline", "optimized"):
            (small / variant).mkdir(exist_ok=True)
            made = NsysExport().range(0, 90_000, "measured").call(1_000, 2_000, "cudaLaunchKernel", correlationId=7)
            made.kernel(3_000, 60_000, correlationId=7).write(small / variant / "trace.sqlite")
        for line in MADE.values():
            assert main(line) in (0, 1, 3), line
        (folder / "aisp-runs").mkdir()
        shutil.copytree("run", folder / "aisp-runs" / "run")
        Path("t.sqlite.aisp-cache").mkdir()
    return folder


@pytest.fixture
def place(worked_in: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(worked_in)
    return worked_in


def test_every_output_is_known_and_no_trace_is(place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    own = {path.name for path in place.iterdir() if is_own(path)}
    assert own == {*MADE, "aisp-runs", "t.sqlite.aisp-cache"}
    for line in PRINTED:
        capsys.readouterr()
        assert main([*line, "--json"]) in (0, 3)
        (tmp_path / "printed.json").write_text(capsys.readouterr().out)
        assert is_own(tmp_path / "printed.json"), line


def test_what_others_wrote_is_not_ours(tmp_path: Path) -> None:
    texts = {
        "notes.txt": "hi",
        "page.html": "<!DOCTYPE html><html></html>",
        "config.json": '{"schema": "other/1"}',
        "trace.json": '{"schemaVersion": 1, "traceEvents": []}',
        "junit.xml": '<testsuites name="pytest"></testsuites>',
        "README.md": "# Ours",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    for folder in ("empty", "aisp-ranks", "mixed"):
        (tmp_path / folder).mkdir()
    (tmp_path / "mixed" / "a.aisp-rank").touch()
    (tmp_path / "mixed" / "b.sqlite").touch()
    assert [path.name for path in tmp_path.iterdir() if is_own(path)] == []
    assert not is_own(tmp_path / "absent")


def test_everything_in_a_folder_is_its_traces(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = sorted(path.name for path in place.iterdir())
    assert main(["analyze", "--json", *words]) == 0
    said = capsys.readouterr()
    assert [trace["variant"] for trace in json.loads(said.out)["traces"]] == ["baseline", "optimized", None]
    assert said.err.startswith("aisp-trace: passed over what aisp-trace wrote: a.json, aisp-ranks, aisp-runs and ")
    assert said.err.count("\n") == 1
    assert main(["analyze", "--quiet", "--json", *words]) == 0
    assert capsys.readouterr().err == ""


def test_others_are_answered_as_before(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for other, told in ((tmp_path, "is not a run folder"), (SAMPLES / "h200x2_fsdp", "holds traces")):
        assert main(["analyze", TRACE, "aisp-ranks", str(other)]) == 2
        assert told in capsys.readouterr().err
    for alone in (["t.html"], ["aisp-ranks"], ["t.html", "b.tar.gz"]):
        assert main(["analyze", *alone]) == 2
        said = capsys.readouterr().err
        assert all(one in said for one in alone) and "passed over" not in said and said.count("\n") == len(alone)


def test_the_ranks_of_a_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Partials are what `ranks` reads, and each stands for its trace, however its folder is spelt."""
    assert main(["ranks", "--json", TRACE, "aisp-ranks", "t.html", "a.json", "b.tar.gz", "aisp-runs"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (len(found["ranks"]), found["duplicates"], found["failed"]) == (1, [], [])
    assert "passed over what aisp-trace wrote: t.html, a.json, b.tar.gz and 1 more" in said.err
    assert main(["ranks", "--json", TRACE, str(place / "aisp-ranks")]) == 0
    assert json.loads(capsys.readouterr().out)["duplicates"] == []


def test_which_are_passed_over_is_said_in_few_words() -> None:
    given = [Path(f"{n}.aisp-rank") for n in range(5)]
    assert without_own([*given, Path("x")]) == (
        [Path("x")],
        "passed over what aisp-trace wrote: 0.aisp-rank, 1.aisp-rank, 2.aisp-rank and 2 more",
    )
    assert without_own(given) == (given, "") and without_own(given[:1]) == (given[:1], "")
    assert without_own([*given, Path("x")], partials_too=False) == ([*given, Path("x")], "")
