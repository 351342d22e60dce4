"""`check --markdown` and $GITHUB_STEP_SUMMARY: the table, and names that Markdown or HTML would obey."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aisp_trace.cli.main import main
from aisp_trace.expectations.judging import judged as cli_evidence
from aisp_trace.report.ci.markdown import markdown, plain
from aisp_trace.tests.judging.build import HIDDEN, SERIAL, run_folder
from aisp_trace.tests.test_check_junit import HOSTILE, judged, verdict
from aisp_trace.tests.test_expectations_files import TIME, put, text


def test_a_summary_is_a_heading_a_table_and_reasons() -> None:
    found = markdown(judged([verdict("met"), verdict("missed")], notes=["a note"]))
    assert found.splitlines() == [
        "### pipeline: ❌ a claim was missed",
        "",
        "Run pipeline-1 on h100, expectations of expectations.",
        "",
        "Judged: mechanism missed; speedup 2x not judged: no claim bounds it.",
        "",
        "| verdict | claim | value | interval | bound | margin | n | bound from |",
        "| --- | --- | --: | --: | --: | --: | --: | --- |",
        "| ✅ met | faster: speedup of optimized over baseline | 2 | 1.9 .. 2.1 | 1.5 .. 3 | +0.4 | 8 | measured |",
        "| ❌ missed | faster: speedup of optimized over baseline | 2 | 1.9 .. 2.1 | 1.5 .. 3 | +0.4 | 8 | measured |",
        "",
        "1 met, 1 missed.",
        "",
        "- missed: pipeline.faster, speedup of optimized over baseline: the interval lies somewhere.",
        "- note: a note.",
    ]


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        (["met", "unrecorded"], "every judged claim holds"),
        (["missed", "invalid"], "a claim was missed"),
        (["met", "inconclusive"], "could not be judged"),
        (["unrecorded"], "could not be judged"),
        ([], "could not be judged"),
    ],
)
def test_the_heading_follows_the_exit_code(statuses: list[str], words: str) -> None:
    assert words in markdown(judged([verdict(s) for s in statuses])).splitlines()[0]


def test_hostile_names_stay_in_their_cell() -> None:
    bad = verdict("invalid", claim=HOSTILE, quantity=HOSTILE, reason=HOSTILE)
    found = markdown(judged([bad], workload=HOSTILE, notes=[HOSTILE]))
    rows = [line for line in found.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [9, 9, 9]
    assert not re.search(r"(?<!\\)[`*\[\]]", found)
    assert not re.search(r"<(?!!-- -->)", found), "no element but the empty comment"
    for alive in ("@you", "#1", "https://", "\x1b", "\u202e", "\x00"):
        assert alive not in found
    found.encode("utf-8")


@pytest.mark.parametrize(
    ("text_", "shown"),
    [
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("&lt;", "&amp;lt;"),
        ("@team", "@<!-- -->team"),
        ("www.x.y", "www<!-- -->.x.y"),
        ("two\nlines", r"two\\nlines"),
    ],
)
def test_plain_text(text_: str, shown: str) -> None:
    assert plain(text_) == shown


def test_the_command_writes_and_appends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_evidence, "analyses_of_run", lambda run: {"baseline": SERIAL, "optimized": HIDDEN})
    run = run_folder(tmp_path / "pipeline-2")
    put(tmp_path / "mine", "expectations_h100.json", text(TIME, key="h100"))
    step, file = tmp_path / "step.md", tmp_path / "out.md"
    step.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    args = ["check", str(run), "--expectations", str(tmp_path / "mine")]
    assert main([*args, "--markdown", str(file)]) == 0
    written = file.read_text(encoding="utf-8")
    assert written.startswith("### pipeline: ✅")
    assert step.read_text(encoding="utf-8") == f"before\n\n{written}"
    capsys.readouterr()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))  # a folder: not asked for, so the verdict stands
    assert main(args) == 0
    assert "could not be appended to $GITHUB_STEP_SUMMARY" in capsys.readouterr().err
