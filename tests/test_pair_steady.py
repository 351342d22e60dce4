"""Two commands are shown by their steady iterations, one at a time, on every face; claims count their whole recordings.

ms           0         10  11  12  13  14  15  16
step         |--- 0 ---|-1-|-2-|-3-|-4-|-5-|-6-|          6 steady ones of 1 ms in `baseline`, of 0.5 ms in `optimized`
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from aisp_trace.analyze.attribution.window import STEADY
from aisp_trace.analyze.sources import Asked, Source
from aisp_trace.cli.main import main
from aisp_trace.expectations.judging.judged import analyses_to_judge
from aisp_trace.report.page.waterfall import exact_difference, exact_sum
from aisp_trace.tests.builders import pair
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.traces.run import MANIFEST, Run, load_run, write_json

MS = 1_000_000
US = 1_000


def export(each_ns: int, steps: int = 6) -> NsysExport:
    """A first step of 10 ms, then `steps` of `each_ns`; a kernel takes all but 100 us of each."""
    made, at = NsysExport(), 0
    for number, length in enumerate([10 * MS, *[each_ns] * steps]):
        made.range(at, at + length, f"step {number}").call(
            at, at + 5 * US, "cudaLaunchKernel", correlationId=number + 1
        )
        made.kernel(at + 10 * US, at + length - 90 * US, correlationId=number + 1)
        at += length
    return made


def run_of(folder: Path, source: str = "pair", steps: int = 6) -> Run:
    run = pair.run(folder)
    for name, made in (("baseline", export(MS)), ("optimized", export(MS // 2, steps))):
        (run.path / name).mkdir(parents=True)
        made.write(run.path / name / "trace.sqlite")
    write_json(run.path / MANIFEST, replace(run.manifest, source=source, rounds=()))
    return load_run(run.path)


@pytest.mark.parametrize("steps", [6, 4])
def test_both_columns_are_of_one_steady_iteration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    """Also where both have as many: "1.98 s -> 840 ms" said how many steps were recorded."""
    assert main(["compare", str(run_of(tmp_path / "run", steps=steps).path)]) == 3, "its manifest predicts copies"
    said = " ".join(capsys.readouterr().out.split())
    assert "device 0: one iteration 1.00 ms -> 500 us, -500 us" in said and "traced: 2.00x" in said
    assert "all times are those of one iteration, on average" in said
    assert "total 1.000 0.500 -0.500 100.0 %" in said


def test_the_page_of_a_pair_counts_what_analyze_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(run_of(tmp_path / "run").path), "-o", "page.html"]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "an iteration of optimized takes 500 us less than one of baseline" in page
    assert "6 iterations <code>step #</code>" in page or "6 iterations" in page
    section = page.split('<section id="waterfall"', 1)[1].split("</section>", 1)[0]
    assert "Steady iterations are compared, so every difference here is per iteration." in section
    (total,) = re.findall(r"<tr[^>]*>(?:(?!</tr>).)*?>all<.*?</tr>", section.split("Every term")[0], re.DOTALL)[:1]
    assert ">1,000,000<" in total and ">500,000<" in total and "−500,000" in total


def test_claims_about_a_pair_count_whole_recordings(tmp_path: Path) -> None:
    for source, whole in (("pair", True), ("command", False)):
        run = run_of(tmp_path / source, source)
        shown = {str(o.variant): o.analysis for o in Source(run, run.path).open(Asked(both_names=True, steady=True))}
        assert {one.choices.window for one in shown.values()} == {STEADY}
        judged = analyses_to_judge(run, shown)
        assert (judged is not shown) == whole
        lengths = [end - start for one in judged.values() for _, start, end in one.windows.rows()]
        assert all((length > 12 * MS) == whole for length in lengths)


@pytest.mark.parametrize(
    ("value", "of", "shown", "exact"), [(-6, 2, "−3", "−3"), (7, 2, "+3.5", "+7 / 2"), (0, 3, "0", "0")]
)
def test_figures_per_iteration_are_shown_in_ns_and_their_sum_exactly(
    value: int, of: int, shown: str, exact: str, tmp_path: Path
) -> None:
    from aisp_trace.analyze.comparison.waterfall import Layout

    plan = Layout((), (1, 1), of, "iteration", True, "equal", {})
    assert (exact_difference(plan, value), exact_sum(plan, value)) == (shown, exact)
