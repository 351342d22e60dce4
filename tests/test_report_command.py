"""``aisp-trace report``: real traces in, one file out; bad input leaves what was there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aisp_trace.cli.main import main
from aisp_trace.tests.builders import pair
from aisp_trace.tests.builders.samples import SAMPLES, unpack
from aisp_trace.traces.run import MANIFEST, Run, write_json


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _store(run: Run) -> None:
    """The run on disk; both variants have the same recording."""
    for variant in run.manifest.variants:
        (run.path / variant.name).mkdir(parents=True)
        (run.path / variant.name / "trace.sqlite").hardlink_to(unpack("h100_pipeline_decode", run.path.parent))
    write_json(run.path / MANIFEST, run.manifest)


@pytest.mark.parametrize("name", ["h100_pipeline_decode", "h100_pipeline_decode_nsys2023", "cpu_threads_nsys2022"])
def test_a_bare_trace_gives_a_page(place: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["report", str(unpack(name, place)), "-o", "page.html"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("report: page.html (") and said.err == ""
    page = (place / "page.html").read_text(encoding="utf-8")
    assert f'<p class="what">{name}.sqlite</p>' in page and 'data-timeline="0"' in page and 'id="claims"' not in page


def test_the_footer_says_whether_the_page_may_leave(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = str(SAMPLES / "cpu_threads_nsys2022.sqlite.xz")
    for words, says, other in (([], "Not scrubbed: ", "Scrubbed: "), (["--scrub"], "Scrubbed: ", "Not scrubbed: ")):
        assert main(["report", trace, "-o", "page.html", *words]) == 0
        footer = (place / "page.html").read_text(encoding="utf-8").partition("<footer>")[2].partition("</footer>")[0]
        assert f"<p>{says}" in footer and f"<p>{other}" not in footer
    assert capsys.readouterr().out.count("(replaced)") == 1
    assert main(["report", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "add --scrub before it leaves your company" in told and "sent to anyone" not in told


def test_a_torch_profile_gives_a_page(place: Path) -> None:
    assert main(["report", str(SAMPLES / "h100_pipeline_decode_kineto.json.gz"), "-o", "page.html"]) == 0
    assert "recorded by torch" in (place / "page.html").read_text(encoding="utf-8")


def test_the_newest_run_is_the_default_and_is_judged(place: Path) -> None:
    _store(pair.run(place / "aisp-runs" / "pair-20260101T000000Z"))
    assert main(["report"]) == 0
    page = (place / "report.html").read_text(encoding="utf-8")
    assert 'id="claims"' in page and 'data-timeline="1"' in page and 'id="figure-rounds"' in page


def test_a_run_without_traces_gives_its_timings(place: Path) -> None:
    run = pair.run(place / "run")
    untraced = tuple(replace(v, recording=None) for v in run.manifest.variants)
    (place / "run").mkdir()
    write_json(place / "run" / MANIFEST, replace(run.manifest, variants=untraced, profile="none", recorder=None))
    assert main(["report", "run"]) == 0
    page = (place / "report.html").read_text(encoding="utf-8")
    assert "timed without a recorder" in page and 'id="timeline"' not in page


@pytest.mark.parametrize("bad", ["absent.sqlite", "text.sqlite", "folder"])
def test_bad_input_leaves_the_old_report(place: Path, capsys: pytest.CaptureFixture[str], bad: str) -> None:
    old = '<!DOCTYPE html>\n<meta name="generator" content="aisp-trace 0">'
    (place / "report.html").write_text(old)
    (place / "text.sqlite").write_text("this is not a trace")
    (place / "folder").mkdir()
    assert main(["report", bad]) == 2
    said = capsys.readouterr()
    assert said.out == "" and bad in said.err and said.err.count("\n") == 1
    assert (place / "report.html").read_text() == old


def test_a_place_that_cannot_be_written_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = unpack("cpu_threads_nsys2022", place)
    assert main(["report", str(trace), "-o", "absent/report.html"]) == 2
    assert "absent/report.html" in capsys.readouterr().err
