"""The report: one file that needs nothing, shows nothing unescaped, and draws itself in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.report.page import render, write
from aisp_trace.tests.oracle.build import build, call, op, span
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace

SAMPLES = Path(__file__).parent.parent / "traces" / "samples"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

HOSTILE = (
    "<script>alert('stage')</script>",
    "</script><img src=x onerror=alert(1)>",
    '" onmouseover="alert(2)',
    "\x1b[31mred\x07",
    "'; DROP TABLE ops; --",
    "x" * 1_000_000,
)


class Outline(HTMLParser):
    """What a browser would see: tags with their attributes, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._silent = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text.append(data)


def page_of(trace: Trace, window: str | None = None) -> str:
    return render(None, [analyze(trace, window=window)], {trace.meta.file: trace})


@pytest.fixture(scope="module")
def h100() -> Trace:
    return open_trace(SAMPLES / "h100_pipeline_decode.sqlite.xz")


@pytest.fixture(scope="module")
def hostile_page() -> str:
    ranges = [span(name, 10 * i, 10 * i + 9) for i, name in enumerate(HOSTILE)]
    api = [call("cudaLaunchKernel", 10 * i + 1, 10 * i + 2, i + 1) for i in range(len(HOSTILE))]
    ops = [op("compute", 10 * i + 3, 10 * i + 7, i + 1) | {"name": name} for i, name in enumerate(HOSTILE)]
    return page_of(build(ranges=ranges, api=api, ops=ops))


def test_the_page_needs_no_other_file(h100: Trace) -> None:
    outline = Outline(page_of(h100))
    for tag, attributes in outline.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        for name in ("src", "href", "data", "action", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    policies = [
        a["content"] for t, a in outline.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert policies[0] is not None
    assert policies[0].startswith("default-src 'none'")
    assert "unsafe-eval" not in policies[0]
    assert "script-src 'unsafe-inline'" not in policies[0]


def test_hostile_names_stay_text(hostile_page: str) -> None:
    benign = Outline(
        page_of(build(ranges=[span("a", 0, 9)], api=[call("cudaLaunchKernel", 1, 2, 1)], ops=[op("compute", 3, 7, 1)]))
    )
    outline = Outline(hostile_page)
    assert [t for t, _ in outline.tags].count("script") == [t for t, _ in benign.tags].count("script")
    assert "img" not in {t for t, _ in outline.tags}
    for tag, attributes in outline.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
    assert "alert('stage')" in "".join(outline.text)  # shown, as text
    assert "\x1b" not in hostile_page
    assert "\x07" not in hostile_page


def test_a_name_of_a_megabyte_does_not_make_a_page_of_megabytes(hostile_page: str) -> None:
    outline = Outline(hostile_page)
    assert sum(map(len, outline.text)) < 200_000
    assert hostile_page.count("x" * 1000) == 0


def test_no_copies_is_said_in_words(h100: Trace) -> None:
    text = "".join(Outline(page_of(h100, "decode/baseline")).text)
    assert "There were no copies" in text


def test_the_figures_on_the_page_are_those_of_the_analysis(h100: Trace) -> None:
    window = "pipeline_sequential/optimized"
    analysis = analyze(h100, window=window)
    text = "".join(Outline(page_of(h100, window)).text)
    total = int(analysis.ledger["ns"].sum())
    assert f"{total:,}" in text
    hidden = analysis.overlap.filter(pl.col("stage").is_null() & (pl.col("a") == "copy") & (pl.col("b") == "compute"))
    assert f"{hidden['both_ns'][0]:,}" in text


def test_doubts_are_shown(h100: Trace) -> None:
    text = "".join(Outline(page_of(h100)).text)
    assert "graph launches are recorded whole" in text


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "no" / "such" / "folder.html", "x")
    target = tmp_path / "page.html"
    write(target, "one")
    write(target, "two")
    assert target.read_text() == "two"
    assert [f.name for f in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (scripts/install-chromium-debian.sh)")
def test_the_page_draws_itself_without_a_network(h100: Trace, hostile_page: str, tmp_path: Path) -> None:
    for name, page in (("h100", page_of(h100)), ("hostile", hostile_page)):
        file = tmp_path / f"{name}.html"
        write(file, page)
        done = subprocess.run(
            [
                str(CHROMIUM),
                *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
                *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
                "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--user-data-dir={tmp_path / 'profile'}",
                *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=10000", "--dump-dom"),
                file.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert "js-plotly-plot" in done.stdout  # plotly made the timeline
        assert re.search(r'class="[^"]*main-svg', done.stdout)
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        assert not console
