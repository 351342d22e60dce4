"""The page in a real browser, without its timeline: charts, tables, filters, links, widths and paper, under its own policy."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.cli.main import main
from aisp_trace.report.page.page import render
from aisp_trace.tests.builders import pair
from aisp_trace.tests.builders.browser import CHROMIUM, Browser, Page, running
from aisp_trace.tests.builders.samples import SAMPLES, unpack

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH: the page was not loaded in a browser")

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"

SCREENSHOTS = "AISP_SCREENSHOTS"
"""Environment variable that names a folder in which pictures are kept."""

SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

CHARTS = {"figure-waterfall", "figure-ledger", "figure-overlap", "figure-iterations", "figure-rounds"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run, as the command writes it."""
    return _sample("h200_pipeline_sequential", tmp_path_factory.mktemp("sample"))


def _sample(name: str, folder: Path) -> Path:
    source = SAMPLES / name
    given = source if source.is_dir() else unpack(name, folder)
    target = folder / f"{name}.html"
    assert main(["report", str(given), "-o", str(target)]) == 0
    return target


def _write(folder: Path, kernel: str = "gemm") -> Path:
    traces = {"baseline": pair.baseline(kernel), "optimized": pair.optimized(kernel)}
    analyses = [analyze(t, variant=n, window="measured", largest_gaps=500) for n, t in traces.items()]
    place = folder / "report.html"
    place.write_text(render(pair.run(folder), analyses, traces, []), encoding="utf-8")
    return place


def _open(browser: Browser, file: Path, width: int = 1200, height: int = 1000, fragment: str = "") -> Page:
    page = browser.open(file, width, height, fragment)
    page.until("document.readyState === 'complete' && document.querySelector('table.sorts th button') !== null")
    return page


def _quiet(page: Page) -> None:
    """Nothing was logged, thrown or asked of a network."""
    assert page.console() == [] and page.requests() == []


def _drawn(page: Page, chart: str) -> None:
    """Bring a chart into view, and wait for it."""
    page.eval(f"document.getElementById('{chart}').scrollIntoView({{ behavior: 'instant', block: 'center' }})")
    page.until(f"document.getElementById('{chart}').dataset.drawn > 0")


def _column(page: Page, caption: str, title: str) -> list[str]:
    """The cells of a column that are shown, in order."""
    script = f"""(() => {{
      const table = [...document.querySelectorAll("table.sorts")].find((one) => one.caption.textContent === {caption!r});
      const at = [...table.tHead.rows[0].cells].findIndex((one) => one.textContent === {title!r});
      const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden && !row.classList.contains("under"));
      return rows.map((row) => row.cells[at].textContent.trim());
    }})()"""
    return list(page.eval(script))


def _sort(page: Page, caption: str, title: str) -> str:
    """Click on a title; how the column is sorted then."""
    script = f"""(() => {{
      const table = [...document.querySelectorAll("table.sorts")].find((one) => one.caption.textContent === {caption!r});
      const found = [...table.tHead.rows[0].cells].find((one) => one.textContent === {title!r});
      found.querySelector("button").click();
      return found.ariaSort;
    }})()"""
    return str(page.eval(script))


def test_charts_are_drawn_when_they_come_into_view_and_not_before(browser: Browser, tmp_path: Path) -> None:
    """No chart is in the first 300 pixels, so that plotly is not even unpacked."""
    page = _open(browser, _write(tmp_path), height=300)
    assert page.eval("typeof window.Plotly") == "undefined"
    assert set(page.eval("[...document.querySelectorAll('.figure[id^=figure]')].map((one) => one.id)")) == CHARTS
    for chart in sorted(CHARTS):
        _drawn(page, chart)
    assert page.eval("document.querySelectorAll('#figure-ledger .point path').length") >= 6
    assert page.eval("document.querySelectorAll('#figure-ledger pattern').length") >= 1  # waiting is hatched
    _quiet(page)
    page.close()


def test_charts_follow_the_colour_scheme(browser: Browser, tmp_path: Path) -> None:
    page = _open(browser, _write(tmp_path))
    _drawn(page, "figure-iterations")
    ink = "getComputedStyle(document.querySelector('#figure-iterations .xtitle')).fill"
    light = page.eval(ink)
    _dark(page)
    page.until(f"{ink} !== {light!r}")
    assert (light, page.eval(ink)) == ("rgb(27, 33, 39)", "rgb(230, 234, 238)")
    page.close()


def _dark(page: Page) -> None:
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])


def test_a_table_is_sorted_by_a_click_and_its_sum_stays_first(browser: Browser, tmp_path: Path) -> None:
    page = _open(browser, _write(tmp_path))
    gaps = "the longest idle gaps"
    assert _sort(page, gaps, "length") == "descending"
    down = _column(page, gaps, "length")
    assert set(down) == {"2.000 ms", "1.000 ms"} and down == sorted(down, reverse=True)
    assert _sort(page, gaps, "length") == "ascending" and _column(page, gaps, "length") == sorted(down)
    assert _sort(page, gaps, "variant") == "ascending"
    assert _column(page, gaps, "variant") == sorted(_column(page, gaps, "variant"))
    rows = "[...document.querySelector('#gaps table').tBodies[0].rows].map((row) => row.classList.contains('under'))"
    assert page.eval(rows) == [False, True] * len(down)  # what is written below a row moves with it
    cells = "every cell of the ledger"
    _sort(page, cells, "baseline ns")
    sizes = [int(cell.replace(",", "")) for cell in _column(page, cells, "baseline ns")]
    assert sizes[0] == 20_000_000 == sum(sizes[1:]) and sizes[1:] == sorted(sizes[1:], reverse=True)
    _quiet(page)
    page.close()


def test_a_table_is_searched_by_words(browser: Browser, tmp_path: Path) -> None:
    page = _open(browser, _write(tmp_path))
    pairs = "overlap of every pair of kinds"
    every = _column(page, pairs, "variant")
    page.eval(f"""(() => {{
      const table = [...document.querySelectorAll("table.sorts")].find((one) => one.caption.textContent === {pairs!r});
      const field = table.parentElement.previousElementSibling.querySelector("input");
      field.value = "OPTIMIZED h2d"; field.dispatchEvent(new Event("input"));
    }})()""")
    found = _column(page, pairs, "variant")
    assert set(found) == {"optimized"} and 0 < len(found) < len(every)
    columns = [_column(page, pairs, title) for title in ("stage", "a", "b")]
    assert all("h2d" in cells for cells in zip(*columns, strict=True))
    page.close()


def test_a_stage_is_shown_in_the_timeline_and_filters_every_table(browser: Browser, tmp_path: Path) -> None:
    page = _open(browser, _write(tmp_path))
    stage = "[...document.querySelectorAll('#stages td:first-child a')].find((one) => one.textContent === 'h2d')"
    page.ready()
    page.eval(f"{stage}.scrollIntoView({{ behavior: 'instant', block: 'center' }})")
    page.eval(f"{stage}.click()")
    page.until("!document.getElementById('filter').hidden")
    assert page.eval("location.hash") == "#timeline&trace=baseline&stage=iteration/h2d"
    assert page.eval("document.querySelector('#filter b').textContent") == "iteration/h2d"
    assert _column(page, "stages of baseline", "stage") == ["h2d"]
    assert set(_column(page, "the longest idle gaps", "stage")) <= {"h2d"}
    page.until("Math.abs(document.getElementById('timeline').getBoundingClientRect().top) < 100")
    page.eval("document.querySelector('#filter button').click()")
    page.until("document.getElementById('filter').hidden")
    assert _column(page, "stages of baseline", "stage") == ["iteration", "compute", "h2d"]
    page.close()


def test_a_page_opens_at_the_stage_that_its_address_names(browser: Browser, tmp_path: Path) -> None:
    page = _open(browser, _write(tmp_path), fragment="#timeline&trace=baseline&stage=iteration/compute")
    page.until("!document.getElementById('filter').hidden")
    assert _column(page, "stages of baseline", "stage") == ["compute"]
    page.close()


def test_the_headline_the_tile_and_the_times_are_one_ratio(browser: Browser, sample: Path) -> None:
    page = _open(browser, sample)
    headline = page.eval("document.querySelector('h1').textContent")
    (ratio,) = page.eval("[...document.querySelectorAll('.tile .ratio')].map((one) => one.textContent)")
    assert headline == f"optimized is {ratio} as fast as baseline"
    tile = "[...document.querySelector('.ratio').closest('dl').querySelectorAll('.%s')].map((one) => one.textContent)"
    assert page.eval(tile % "of") == ["baseline", "optimized"]
    base, opt = (float(ms.removesuffix(" ms")) for ms in page.eval(tile % "value"))
    assert base / opt == pytest.approx(float(ratio.removesuffix(" ×")), rel=0.02)
    named = "[...document.querySelectorAll('.tile')].every((one) => one.querySelectorAll('.of').length === 2)"
    assert page.eval(named) is True  # both variants, in every figure
    _quiet(page)
    page.close()


def test_hostile_names_and_addresses_run_nothing(browser: Browser, tmp_path: Path) -> None:
    page = _open(browser, _write(tmp_path, HOSTILE))
    for chart in sorted(CHARTS):
        _drawn(page, chart)
    page.eval(f"location.hash = 'timeline&stage=' + encodeURIComponent({HOSTILE!r})")
    page.until("!document.getElementById('filter').hidden")
    assert page.eval("document.querySelector('#filter b').textContent") == HOSTILE
    assert page.eval("document.title") == "pair on NVIDIA H100 80GB HBM3 · aisp-trace"
    assert page.eval("document.images.length") == 0
    _quiet(page)
    page.close()


def test_the_policy_stops_a_script_that_is_not_the_pages_own(browser: Browser, tmp_path: Path) -> None:
    file = _write(tmp_path)
    file.write_text(file.read_text().replace("</body>", "<script>document.title='owned'</script></body>"))
    page = _open(browser, file)
    page.eval("(() => { const one = document.createElement('script'); one.textContent = 'document.title = 1'; "
              "document.head.append(one); })()")  # fmt: skip
    assert "aisp-trace" in page.eval("document.title")
    assert sum("Content Security Policy" in line for line in page.console()) >= 2
    page.close()


@pytest.mark.parametrize("width", [390, 760, 1920])
def test_the_page_never_scrolls_sideways(browser: Browser, sample: Path, width: int) -> None:
    page = _open(browser, sample, width)
    page.eval("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for chart in ("figure-waterfall", "figure-ledger"):
        _drawn(page, chart)
    assert page.eval(SIDEWAYS) <= 0
    page.close()


def test_it_can_be_used_from_the_keyboard(browser: Browser, sample: Path) -> None:
    """Every control and every box that scrolls takes the focus, and has a name."""
    page = _open(browser, sample)
    taken = "[...document.querySelectorAll('a, button, input, summary, [tabindex=\"0\"]')]"
    name = "(one.ariaLabel ?? one.title ?? '') + one.textContent.trim()"
    assert page.eval(f"{taken}.filter((one) => !one.closest('[hidden]') && !({name})).length") == 0
    assert page.eval("[...document.querySelectorAll('.scroll')].filter((one) => one.tabIndex !== 0).length") == 0
    assert (
        page.eval("[...document.querySelectorAll('.sorts th')].filter((one) => !one.querySelector('button')).length")
        == 0
    )
    page.close()


@pytest.mark.parametrize("whole", [False, True], ids=["at once", "after reading"])
def test_on_paper_it_takes_four_sheets_at_most(browser: Browser, sample: Path, whole: bool) -> None:
    page = _open(browser, sample)
    if whole:  # with all charts drawn and all folds open
        page.eval("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        for chart in sorted(CHARTS):
            _drawn(page, chart)
    data = base64.b64decode(page.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 4
    page.close()


def _picture(page: Page, name: str, folder: Path) -> Path:
    """A picture of the whole page, in the folder that `SCREENSHOTS` names or else in `folder`."""
    kept = Path(os.environ.get(SCREENSHOTS) or folder)
    kept.mkdir(parents=True, exist_ok=True)
    for chart in page.eval("[...document.querySelectorAll('.figure[id^=figure]')].map((one) => one.id)"):
        _drawn(page, chart)
    page.eval("scrollTo({ top: 0, behavior: 'instant' })")
    page.screenshot(kept / f"{name}.png", whole=True)
    return kept / f"{name}.png"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_looked_at(browser: Browser, sample: Path, tmp_path: Path, scheme: str) -> None:
    page = _open(browser, sample, 1280)
    if scheme == "dark":
        _dark(page)
    ground = page.eval("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 24, 28)")
    assert _picture(page, f"run-1280-{scheme}", tmp_path).stat().st_size > 100_000
    page.close()


@pytest.mark.nightly
@pytest.mark.parametrize(
    "name", ["h200_pipeline_sequential", "h200_memory_standard", "h200x2_ddp", "cpu_threads_nsys2022"]
)
def test_samples_at_every_width(browser: Browser, tmp_path: Path, name: str) -> None:
    file = _sample(name, tmp_path)
    for width in (390, 1280, 1920):
        for scheme in ("light", "dark"):
            page = _open(browser, file, width)
            if scheme == "dark":
                _dark(page)
            _picture(page, f"{name}-{width}-{scheme}", tmp_path)
            assert page.eval(SIDEWAYS) <= 0
            _quiet(page)
            page.close()


def test_a_page_says_its_strongest_caution_first(tmp_path: Path) -> None:
    """A recording that failed forbids the comparison: that stands below the headline, before every number."""
    traces = {"baseline": pair.baseline(), "optimized": pair.optimized()}
    analyses = [analyze(t, variant=n, window="measured") for n, t in traces.items()]
    run = pair.run(tmp_path)
    failed = [
        replace(v, recording=replace(v.recording, exit_code=3)) if v.name == "optimized" and v.recording else v
        for v in run.manifest.variants
    ]
    page = render(replace(run, manifest=replace(run.manifest, variants=tuple(failed))), analyses, traces, [])
    caution = page.split('<div class="caution">', 1)[1].split("</div>", 1)[0]
    assert "Not comparable: the recording of optimized ended with exit code 3 and is not believed." in caution
