"""The top of the page: which ratio it tells, what speaks against it, what is left, for every kind of source."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import polars as pl
import pytest

import aisp_trace
from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.findings.find import find
from aisp_trace.cli.main import main
from aisp_trace.expectations.judging.verdict import Verdict
from aisp_trace.expectations.model import Bound, Source
from aisp_trace.report.page.blocks import Cell, Span, Table
from aisp_trace.report.page.left import headroom_section, left_section
from aisp_trace.report.page.page import render
from aisp_trace.report.page.sides import Side
from aisp_trace.report.page.why import made_of_section
from aisp_trace.tests.builders import pair
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.builders.samples import SAMPLES, unpack
from aisp_trace.tests.test_cases import seconds_away
from aisp_trace.tests.test_compare_command import command_run
from aisp_trace.tests.test_waiting_for_data import GPU, bunched, loop
from aisp_trace.traces.model import Trace


def _traces() -> dict[str, Trace]:
    return {"baseline": pair.baseline(), "optimized": pair.optimized()}


def _speedup(**changes: object) -> Verdict:
    made = Verdict(
        claim="pair.faster",
        quantity="speedup of optimized over baseline",
        status="met",
        reason="the interval lies inside the bound",
        variant="optimized",
        hardware_key="h100_80gb_hbm3",
        expected_on="h100_80gb_hbm3",
        source=Source("measured", "other", "run other"),
        unit="ratio",
        bound=Bound(1.5, None),
        value=1.987,
        low=1.9,
        high=2.1,
        coverage=0.992,
        n=8,
        sample="rounds",
        statistic="mean",
        part="speedup",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def _header(page: str) -> str:
    header = page.split('<header id="verdict">', 1)[1].split("</header>", 1)[0]
    return unescape(" ".join(re.sub("<[^>]*>", " ", header).split()))


def text_of(page: str) -> str:
    """All that a page says, without its markup and scripts."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return unescape(" ".join(re.sub("<[^>]*>", " ", body).split()))


def _page(tmp_path: Path, *verdicts: Verdict, rounds: int = 8) -> str:
    traces = _traces()
    analyses = [analyze(t, variant=n, window="measured") for n, t in traces.items()]
    return _header(render(pair.run(tmp_path, rounds=rounds), analyses, traces, verdicts or None))


def test_the_judged_ratio_goes_before_that_of_the_rounds(tmp_path: Path) -> None:
    said = _page(tmp_path, _speedup())
    assert "optimized is 1.987 × as fast as baseline ✓ met between 1.900 × and 2.100 ×" in said
    assert "8 untraced rounds, 99.2% interval; bound ≥ 1.500 × (measured)" in said
    assert "iteration 1.987 × baseline" in said and "2.000 ×" not in said
    assert "speedup 1.987 × met" in said


def test_a_bound_that_is_not_met_says_why_first(tmp_path: Path) -> None:
    said = _page(tmp_path, _speedup(status="inconclusive", reason="the interval straddles the bound"))
    assert "? inconclusive between" in said
    assert "Before you rely on it: inconclusive: the interval straddles the bound." in said


def test_other_claims_are_no_headline(tmp_path: Path) -> None:
    other = _speedup(quantity="speedup of pinned over baseline", variant="pinned", value=7.0)
    part = _speedup(part="mechanism", unit="fraction", value=0.5)
    assert "optimized is 2.000 × as fast as baseline between 2.000 × and 2.000 ×" in _page(tmp_path, other, part)


def test_recordings_without_rounds_are_told_by_their_windows() -> None:
    analyses = [analyze(t, variant=n, window="measured") for n, t in _traces().items()]
    said = _header(render(None, analyses, {}))
    assert "optimized is 1.667 × as fast as baseline one traced recording of each: no interval, no bound" in said
    assert "baseline 20.00 ms optimized 12.00 ms the window, traced" in said
    assert "nothing recorded proves that both sides did the same work" in said


def test_a_run_of_which_one_variant_was_traced_is_still_told_by_its_rounds(tmp_path: Path) -> None:
    found = analyze(pair.optimized(), variant="optimized", window="measured")
    said = _header(render(pair.run(tmp_path), [found], {}, []))
    assert "optimized is 2.000 × as fast as baseline" in said and "copies hidden 66.7 %" in said


def test_a_run_of_one_command_is_told_like_a_trace(tmp_path: Path) -> None:
    run = pair.run(tmp_path, rounds=0)
    alone = replace(run, manifest=replace(run.manifest, variants=run.manifest.variants[1:]))
    found = analyze(pair.optimized(), variant="optimized", window="measured")
    said = _header(render(alone, [found], {}, []))
    assert said.startswith("pair on NVIDIA H100 80GB HBM3 ") and "the device busy 66.7 % of it" in said
    assert "Nothing was timed" not in said


def test_a_bare_trace_tells_its_iteration_and_how_busy_the_device_is(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    assert main(["report", str(unpack("h200x2_ddp", tmp_path)), "-o", str(target)]) == 0
    said = _header(target.read_text(encoding="utf-8"))
    assert "An iteration takes 4.835 ms, the devices busy 91.5 % of it median of 4 iterations, p90 6.618 ms" in said
    assert "with nothing to compare with" in said


def test_what_the_device_did_between_iterations_is_not_said_of_them() -> None:
    """Of a window of 40 ms, the two iterations of 10 ms are half."""
    trace = pair.trace(
        [("compute", 7, 2_000, 9_000_000), ("compute", 7, 10_002_000, 39_000_000)],
        [("measured", 0, 40_000_000), ("iteration", 0, 10_000_000), ("iteration", 10_000_000, 20_000_000)],
    )
    said = _header(render(None, [analyze(trace)], {}))
    assert "the device busy" in said and "of the window of 39.00 ms" in said


def test_recordings_of_which_one_has_no_device_work_are_compared_by_host_time(tmp_path: Path) -> None:
    names = [str(unpack(name, tmp_path)) for name in ("cpu_threads_nsys2022", "h200x2_ddp")]
    target = tmp_path / "page.html"
    assert main(["report", *names, "-o", str(target)]) == 0
    page = target.read_text(encoding="utf-8")
    said = _header(page)
    assert re.search(r"h200x2_ddp.sqlite is [\d.]+ × as fast as cpu_threads_nsys2022.sqlite", said)
    assert (
        "only host times can be compared, since no device operation of cpu_threads_nsys2022.sqlite was recorded" in said
    )
    assert "What changed on the host" in page and 'id="waterfall"' not in page


def test_the_window_of_one_recording_is_told_to_the_nanosecond() -> None:
    found = aisp_trace.analyze(SAMPLES / "h200x2_ddp.sqlite.xz")
    made = made_of_section(Side("ddp", found))
    assert made is not None
    (table,) = [block for block in made.blocks if isinstance(block, Table)]
    values = [cell.value for row in table.rows for cell in row.cells[2:3] if isinstance(cell, Cell)]
    whole = int((found.windows["end_ns"] - found.windows["start_ns"]).sum())
    assert sum(v for v in values if v is not None) == whole == int(found.ledger["ns"].sum())


@pytest.mark.parametrize("name", ["h200x2_ddp.sqlite.xz", "h100_pipeline_decode.sqlite.xz"])
def test_findings_are_ranked_and_each_shows_its_view(name: str) -> None:
    found = aisp_trace.analyze(SAMPLES / name)
    made = left_section([Side("a b", found)])
    assert made is not None
    table = next(block for block in made.blocks if isinstance(block, Table))
    told = find(found)
    assert [cell.value for row in table.rows for cell in row.cells[1:2] if isinstance(cell, Cell)] == [
        one.saving_ns for one in told
    ]
    for row, one in zip(table.rows, told, strict=True):
        first = row.cells[0]
        assert isinstance(first, Cell) and isinstance(first.text, Span) and row.stage == one.stage
        assert str(first.text.href).startswith("#timeline&trace=a%20b")
        assert row.under is not None and one.remedy in str(row.under)


def test_what_a_change_would_gain_is_the_table_of_the_analysis() -> None:
    found = aisp_trace.analyze(SAMPLES / "h200x2_ddp.sqlite.xz")
    (table,) = [block for block in headroom_section(found) if isinstance(block, Table)]
    now = found.replayed["base_ns"][0]
    pays = found.headroom.filter(pl.col("estimate_ns") < 0.99 * now)
    shown = [(str(row.cells[0].text), row.cells[1].value) for row in table.rows
             if isinstance(row.cells[0], Span) and isinstance(row.cells[1], Cell)]  # fmt: skip
    assert shown == pays.select("change", "estimate_ns").rows() and len(shown) >= 1
    nothing = replace(found, headroom=found.headroom.clear(), replayed=found.replayed.clear())
    assert headroom_section(nothing) == []


def test_a_doubt_comes_before_how_the_two_were_compared_and_its_reason_once(tmp_path: Path) -> None:
    """A kernel 500 s before all others, on one side alone."""
    base, opt = seconds_away(0), seconds_away(first_ns=0)
    files = [one.write(tmp_path / f"{name}.sqlite") for name, one in (("base", base), ("opt", opt))]
    target = tmp_path / "page.html"
    assert main(["report", *map(str, files), "-o", str(target)]) == 0
    said = text_of(target.read_text())
    assert "Before you rely on it: DOUBT in base.sqlite: 1 of 21 operations of device 0 (gemm) lies 500 s" in said
    above = said[: said.index("Why it became faster")]
    assert "whole windows are compared" in above
    assert above.count("1 of 21 operations of device 0") == 1


def test_launches_without_rows_are_no_idle_device(tmp_path: Path) -> None:
    """Neither "did anything", nor "no calls that launch"."""
    export = seconds_away(first_ns=0)
    export.rows.pop("CUPTI_ACTIVITY_KIND_KERNEL")
    for name, made, headline in (
        ("lost", export, "Only host times are known: no device operation was recorded"),
        (
            "empty",
            NsysExport().call(0, 5, "cudaLaunchKernel").kernel(9, 9),
            "Only host times are known: no device operation was of any length in this window",
        ),
    ):
        target = tmp_path / f"{name}.html"
        assert main(["report", str(made.write(tmp_path / f"{name}.sqlite")), "-o", str(target)]) == 0
        said = text_of(target.read_text())
        assert headline in said and "did anything" not in said and "no calls that launch any" not in said


def test_a_graph_recorded_whole_is_no_copy(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    given = SAMPLES / "h100_pipeline_decode.sqlite.xz"
    assert main(["report", str(given), "-o", str(target)]) == 0
    said = text_of(target.read_text())
    assert "graph launches 8.356 ms" in said and "graph copies" not in said
    assert "Replayed without the host's time there, the window is" in said, "no iterations were found"


def test_several_devices_have_several_windows(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    assert main(["report", str(SAMPLES / "h200x2_ddp.sqlite.xz"), "-o", str(target)]) == 0
    said = text_of(target.read_text())
    assert "Of the windows of 2 devices, kernels" in said and "the windows of 2 devices 42.30 ms" in said
    assert "an iteration of 5.272 ms traced, the mean," in said, "the headline's is the median"


def test_a_host_without_a_device_has_no_busy_device() -> None:
    said = _header(render(None, [loop(250_000)], {}, None))
    assert "75.0 % of" in said and "at work" in said and "no device was recorded" in said
    assert "device busy" not in said and "copies" not in said and "allocator" not in said
    page = text_of(render(None, [loop(250_000)], {}, None))
    assert "Of the window, stages that compute 75.0 %; other time 25.0 %." in page, "a host runs no kernels"
    on_gpu = _header(render(None, [loop(250_000, devices=GPU)], {}, None))
    assert "the device busy 75.0 %" in on_gpu and "copies hidden" in on_gpu


def test_batches_in_bunches_are_told_by_their_mean() -> None:
    said = _header(render(None, [bunched([100, 12, 12, 12] * 4)], {}, None))
    assert "An iteration takes 34.00 µs on average" in said and "mean of 16 iterations" in said
    alone = _header(render(None, [bunched([12] * 15 + [100])], {}, None))
    assert "An iteration takes 12.00 µs, " in alone and "median of 16 iterations" in alone


def test_the_page_of_a_command_counts_its_steady_iterations(tmp_path: Path) -> None:
    """It said "no iterations were found", where `analyze` names them."""
    target = tmp_path / "page.html"
    assert main(["report", str(command_run(tmp_path, 1)), "-o", str(target)]) == 0
    said = _header(target.read_text())
    assert "An iteration takes" in said and "no iterations were found" not in said
