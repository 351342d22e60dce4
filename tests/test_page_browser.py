"""The page in a real browser, without its timeline: charts, tables, filters, links, widths and paper, under its own policy."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.cli.main import main
from aisp_trace.report.page.page import render
from aisp_trace.tests.builders import pair
from aisp_trace.tests.builders.chromium import CHROMIUM, drive, load, printed_pages, screenshot
from aisp_trace.tests.builders.samples import SAMPLES, unpack

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on the PATH: the page was not loaded in a browser"
)

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def _write(folder: Path, kernel: str = "gemm") -> Path:
    traces = {"baseline": pair.baseline(kernel), "optimized": pair.optimized(kernel)}
    analyses = [analyze(t, variant=n, window="measured", largest_gaps=500) for n, t in traces.items()]
    place = folder / "report.html"
    place.write_text(render(pair.run(folder), analyses, traces, []), encoding="utf-8")
    return place


def _sample(name: str, folder: Path) -> Path:
    """The page of a sample, as the command writes it."""
    source = SAMPLES / name
    given = source if source.is_dir() else unpack(name, folder)
    target = folder / f"{name}.html"
    assert main(["report", str(given), "-o", str(target)]) == 0
    return target


CHARTS = """
const charts = [...document.querySelectorAll(".figure[id^=figure]")];
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
(async () => {
  window.scrollTo(0, 0);
  document.body.dataset.first = String(charts.filter((one) => one.dataset.drawn).length);
  for (const chart of charts) {
    chart.closest("details")?.setAttribute("open", "");
    chart.scrollIntoView({ behavior: "instant" });
    for (let tries = 0; tries < 60 && !chart.dataset.drawn; tries += 1) await wait(50);
  }
  document.body.dataset.drawn = charts.map((one) => `${one.id}:${one.dataset.drawn ?? 0}`).join(" ");
  document.body.dataset.fills = String(new Set([...document.querySelectorAll("#figure-ledger .point path")]
    .map((one) => one.style.fill)).size);
})();
"""


def test_charts_are_drawn_when_they_come_into_view_and_not_before(tmp_path: Path) -> None:
    """No chart is in the first 300 pixels, so plotly is not even unpacked for them."""
    said, console = drive(_write(tmp_path), tmp_path, CHARTS, height=300)
    assert console == [] and said["first"] == "0"
    drawn = dict(one.split(":") for one in said["drawn"].split())
    assert {"figure-waterfall", "figure-ledger", "figure-overlap", "figure-iterations", "figure-rounds"} == set(drawn)
    assert all(int(traces) > 0 for traces in drawn.values()), drawn
    assert int(said["fills"]) >= 3  # kinds, and causes in their hatches


def test_a_first_screen_without_charts_unpacks_nothing(tmp_path: Path) -> None:
    script = "setTimeout(() => { document.body.dataset.plotly = typeof window.Plotly; }, 3000);"
    said, console = drive(_write(tmp_path), tmp_path, script, height=300)
    assert said["plotly"] == "undefined" and console == []


TABLES = """
const table = (caption) => [...document.querySelectorAll("table.sorts")].find((one) => one.caption.textContent === caption);
const column = (one, at) => [...one.tBodies[0].rows].filter((row) => !row.hidden && !row.classList.contains("under"))
  .map((row) => row.cells[at].textContent.trim()).join("|");
const said = document.body.dataset;
const gaps = table("the longest idle gaps");
const titles = gaps.tHead.rows[0].cells;
titles[2].querySelector("button").click(); said.down = column(gaps, 2); said.sort = titles[2].ariaSort;
titles[2].querySelector("button").click(); said.up = column(gaps, 2);
titles[0].querySelector("button").click(); said.names = column(gaps, 0);
said.pairs = String([...gaps.tBodies[0].rows].every((row, at) => row.classList.contains("under") === (at % 2 === 1)));
const cells = table("every cell of the ledger");
cells.tHead.rows[0].cells[4].querySelector("button").click(); said.first = column(cells, 1).split("|")[0];
const field = table("overlap of every pair of kinds").parentElement.previousElementSibling.querySelector("input");
field.value = "optimized h2d"; field.dispatchEvent(new Event("input"));
said.found = column(table("overlap of every pair of kinds"), 0);
const link = [...document.querySelectorAll("#stages td:first-child a")].find((one) => one.textContent === "h2d");
said.href = link.getAttribute("href");
const before = window.scrollY;
link.click();
setTimeout(() => {
  said.stages = column(table("stages of baseline"), 0);
  said.filter = document.getElementById("filter").hidden + " " + document.querySelector("#filter b").textContent;
  said.still = String(window.scrollY === before);
  document.querySelector("#filter button").click();
  setTimeout(() => {
    said.all = column(table("stages of baseline"), 0);
    said.cleared = String(document.getElementById("filter").hidden);
  }, 300);
}, 300);
"""


def test_tables_sort_search_and_follow_the_stage_that_the_address_names(tmp_path: Path) -> None:
    said, console = drive(_write(tmp_path), tmp_path, TABLES)
    assert console == []
    lengths = said["down"].split("|")
    assert lengths[0] == "2.000 ms" and lengths[-1] == "1.000 ms" and said["sort"] == "descending"
    assert said["up"].split("|") == sorted(lengths) and said["pairs"] == "true"
    assert said["names"].split("|") == sorted(said["names"].split("|"))
    assert said["first"] == "all"  # the sum stays first
    assert set(said["found"].split("|")) == {"optimized"}
    assert said["href"] == "#timeline&amp;trace=baseline&amp;stage=iteration/h2d"
    assert (said["stages"], said["filter"], said["still"]) == ("h2d", "false iteration/h2d", "true")
    assert said["all"].split("|") == ["iteration", "compute", "h2d"] and said["cleared"] == "true"


@pytest.mark.parametrize("name", ["h200_pipeline_sequential", "h200x2_ddp"])
def test_the_headline_the_tile_and_the_times_are_one_ratio(tmp_path: Path, name: str) -> None:
    dom, console = load(_sample(name, tmp_path), tmp_path)
    assert console == []
    headline = re.findall(r"<h1>(.*?)</h1>", dom)[0]
    tiles = re.findall(r'<dl class="tile">(.*?)</dl>', dom, re.DOTALL)
    ratios = [found for tile in tiles for found in re.findall(r'<b class="ratio">(.*?)</b>', tile)]
    if name == "h200x2_ddp":
        assert headline.startswith("An iteration takes ") and ratios == []
        return
    (ratio,) = ratios
    assert headline == f"optimized is {ratio} as fast as baseline"
    base, opt = (float(ms) for ms in re.findall(r'<span class="value">([\d.]+) ms</span>', tiles[0]))
    assert re.findall(r'<span class="of">(.*?)</span>', tiles[0]) == ["baseline", "optimized"]
    assert base / opt == pytest.approx(float(ratio.removesuffix(" ×")), rel=0.02)


def test_a_hostile_name_runs_nothing(tmp_path: Path) -> None:
    dom, console = load(_write(tmp_path, HOSTILE), tmp_path)
    assert console == []
    assert "<title>pair on NVIDIA H100 80GB HBM3 · aisp-trace</title>" in dom and "<img" not in dom


def test_a_link_with_a_hostile_address_filters_and_runs_nothing(tmp_path: Path) -> None:
    script = f"""
    location.hash = "timeline&stage=" + encodeURIComponent({HOSTILE.replace("</script>", "<b>")!r});
    const made = () => document.querySelectorAll("#filter b b, #filter img").length;
    setTimeout(() => {{ document.body.dataset.bold = String(made()); }}, 500);
    """.replace("</", "<\\/")
    said, console = drive(_write(tmp_path), tmp_path, script)
    assert said["bold"] == "0" and console == []


WIDE = """
document.querySelectorAll("details").forEach((one) => { one.open = true; });
setTimeout(() => {
  document.body.dataset.overflow = String(document.documentElement.scrollWidth - document.documentElement.clientWidth);
}, 2500);
"""


@pytest.mark.parametrize("width", [390, 760, 1920])
def test_the_page_never_scrolls_sideways(tmp_path: Path, width: int) -> None:
    said, _ = drive(_write(tmp_path), tmp_path, WIDE, width)
    assert int(said["overflow"]) <= 0


def test_it_can_be_used_from_the_keyboard(tmp_path: Path) -> None:
    """Every control and every box that scrolls takes the focus, and has a name."""
    script = """
    const all = (what) => [...document.querySelectorAll(what)];
    const taken = all("a, button, input, summary, [tabindex='0']").filter((one) => !one.closest("[hidden]"));
    const name = (one) => (one.ariaLabel ?? one.title ?? "") + one.textContent.trim();
    document.body.dataset.nameless = String(taken.filter((one) => !name(one)).length);
    document.body.dataset.boxes = String(all(".scroll").filter((one) => one.tabIndex !== 0).length);
    document.body.dataset.titles = String(all("table.sorts th").filter((one) => !one.querySelector("button")).length);
    """
    said, console = drive(_write(tmp_path), tmp_path, script)
    assert (said["nameless"], said["boxes"], said["titles"]) == ("0", "0", "0") and console == []


def test_on_paper_it_takes_four_sheets_at_most(tmp_path: Path) -> None:
    assert 1 <= printed_pages(_sample("h200_pipeline_sequential", tmp_path), tmp_path) <= 4


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_looked_at(tmp_path: Path, dark: bool) -> None:
    """Light and dark differ, and neither is a blank sheet; CI keeps the pictures where ``AISP_SCREENSHOTS`` says."""
    page = _sample("h200_pipeline_sequential", tmp_path)
    seen = screenshot(page, tmp_path, "run", 1280, 2400, dark=dark)
    assert seen.stat().st_size > 100_000


@pytest.mark.nightly
@pytest.mark.parametrize("width", [390, 1280, 1920])
@pytest.mark.parametrize(
    "name", ["h200_pipeline_sequential", "h200_memory_standard", "h200x2_ddp", "cpu_threads_nsys2022"]
)
def test_samples_at_every_width(tmp_path: Path, name: str, width: int) -> None:
    page = _sample(name, tmp_path)
    said, console = drive(page, tmp_path, WIDE, width)
    assert console == [] and int(said["overflow"]) <= 0
    assert len(page.read_bytes()) < 2_500_000
    for dark in (False, True):
        screenshot(page, tmp_path, name, width, 3600, dark=dark)


def test_a_page_says_its_strongest_caution_first(tmp_path: Path) -> None:
    """Outputs that differ forbid the comparison: that stands above the number."""
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
