"""Instants on the page: they count from the trace's first operation, as the terminal tells them and --window takes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.window import Offsets, parse_window
from aisp_trace.analyze.words import duration
from aisp_trace.cli.main import main
from aisp_trace.report.page.page import ZERO, render
from aisp_trace.report.page.text import moment
from aisp_trace.tests.builders.samples import SAMPLES
from aisp_trace.tests.oracle.build import build, call, op, span
from aisp_trace.traces.model import Trace

MS = 1_000_000


def late() -> Trace:
    """A window that begins long after the first operation, on a clock that begins long before it.

    ms        100   101        150     152        160     161
    device     [first]          [second]           [third]
    iteration                  |-----------------------------|   150 to 162 ms
    """
    at = {1: (100, 101), 2: (150, 152), 3: (160, 161)}
    return build(
        ops=[op("compute", start * MS, end * MS, n, name="gemm") for n, (start, end) in at.items()],
        api=[call("cudaLaunchKernel", start * MS - 10, start * MS - 5, n) for n, (start, _) in at.items()],
        ranges=[span("iteration", 150 * MS - 20, 162 * MS)],
    )


def test_gaps_marks_and_axes_count_from_the_first_operation() -> None:
    trace = late()
    found = analyze(trace, window=(150 * MS, 162 * MS), largest_gaps=500)
    page = render(None, [found], {"literal": trace})
    gaps = page.split('<section id="gaps"', 1)[1].split("</section>", 1)[0]
    assert re.findall(r">([+-][^<]*)</td>", gaps) == ["+52ms", "+61ms"]
    figure = json.loads(page.split('id="figures">', 1)[1].split("</script>", 1)[0])["figures"]["timeline-0"]
    axis = figure["layout"]["xaxis"]
    assert axis["range"] == pytest.approx([50 - 2e-5, 62]) and axis["title"]["text"] == "ms from the first operation"
    drawn = {kind["name"]: kind for kind in figure["data"]}
    assert drawn["compute"]["base"] == [50, 60] and drawn["idle"]["base"] == [52, 61]
    hover = [
        line for kind in figure["data"] for text in kind["hovertext"] for line in text.split("<br>") if "at " in line
    ]
    assert sorted(hover) == sorted(["at +50ms", "at +60ms", "at +52ms", "at +61ms", "at +49.99998ms"])
    assert 'data-start="49.999980"' in page
    assert page.count("count from the first device operation") == 1 and ZERO in page.replace("&gt;", ">")


@given(st.integers(0, 10**15), st.integers(1, 10**12))
def test_an_instant_is_what_window_takes_exactly(start: int, length: int) -> None:
    assert parse_window(f"{moment(start)}:{moment(start + length)}") == Offsets(start, start + length)
    assert moment(-start - length) == moment(start + length).replace("+", "-")


def test_page_and_terminal_tell_one_gap_alike_and_window_finds_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample's largest gap begins 6.26 s after its first operation, 14 ms into the window."""
    monkeypatch.setenv("COLUMNS", "200")
    sample = str(SAMPLES / "h200x2_ddp.sqlite.xz")
    assert main(["analyze", sample]) == 0
    (told,) = re.findall(r"one gap of (.*?) \(.*? at \+(.*?): ", capsys.readouterr().out)
    assert main(["report", sample, "-o", str(tmp_path / "page.html")]) == 0
    capsys.readouterr()
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page.split('<section id="gaps"', 1)[1].split("</section>", 1)[0])
    begins = next(cell for cell in cells if cell.startswith("+"))
    found = parse_window(f"{begins}:{moment(10**13)}")
    assert isinstance(found, Offsets) and told == ("1.25 ms", duration(found.start_ns))
    window = f"{begins}:{moment(found.start_ns + 1_000_000)}"
    assert main(["analyze", sample, "--window", window, "--json"]) == 0
    ledger = json.loads(capsys.readouterr().out)["traces"][0]["ledger"]
    assert {cell["category"] for of in ledger if of["device"] == 1 for cell in of["cells"]} == {"idle"}
