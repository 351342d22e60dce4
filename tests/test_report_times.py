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
from aisp_trace.tests.builders.timeline_payload import payloads
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
    (side,) = payloads(page)
    assert [(o.start, o.end) for lane in side.header["streams"] for o in side.ops(lane)] == [
        (0, MS),
        (50 * MS, 52 * MS),
        (60 * MS, 61 * MS),
    ]
    assert side.header["zero"] and side.header["devices"][0]["window"] == [50 * MS, 62 * MS]
    assert side.intervals(side.header["threads"][0]["bands"][0]) == [(50 * MS - 20, 62 * MS, 0)]
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
