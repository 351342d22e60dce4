"""The waterfall on the page: bars that hang where the last one ended, sums that are exact, and names that stay text."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.cli.main import main
from aisp_trace.expectations.comparing.compare import compare_analysed
from aisp_trace.report.figures import MOST_TERMS, waterfall_figure
from aisp_trace.report.page.page import render
from aisp_trace.report.page.sides import Side
from aisp_trace.report.page.templates import html_of
from aisp_trace.report.page.waterfall import waterfall_section
from aisp_trace.tests.builders import pair
from aisp_trace.tests.builders.samples import SAMPLES

HOSTILE = "<img src=x onerror=alert(1)>"


def sides(*names: str) -> list[Side]:
    """The pair of `builders.pair`; a third name is a middle rung that is as fast as the optimized one."""
    made = [
        analyze(pair.baseline(), window="measured"),
        *(analyze(pair.optimized(), window="measured") for _ in names[1:]),
    ]
    return [Side(name, replace(a, variant=name)) for name, a in zip(names, made, strict=True)]


def made_of(found: list[Side]) -> str:
    """The section's markup."""
    compared = compare_analysed({side.name: side.analysis for side in found}, {}, None)
    assert compared is not None
    whole = next(c for c in compared.comparisons if c.role in ("pair", "total"))
    made = waterfall_section(found, whole, [c for c in compared.comparisons if c.role == "step"])
    assert made is not None
    return str(html_of(made))


def words_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_the_bars_lead_from_one_window_to_the_other() -> None:
    """Each bar begins where the one above ended: shrinking ones at their right end, growing ones at their left."""
    compared = compare_analysed({s.name: s.analysis for s in sides("baseline", "optimized")}, {}, None)
    assert compared is not None
    drawn = waterfall_figure(compared.comparisons[0].waterfall)["data"]
    (first, *terms, last) = [(*bar["hovertext"], *bar["base"], *bar["x"]) for bar in drawn]
    assert first == ("baseline: 20.00 ms", 0, 20) and last == ("optimized: 12.00 ms", 0, 12)
    at = 20.0
    for words, start, length in terms:
        assert start == pytest.approx(at) and (length < 0) == ("−" in words)
        at = start + length
    assert at == pytest.approx(12)
    assert 1 <= len(terms) <= MOST_TERMS + 1


def test_the_sum_is_said_and_the_table_holds_every_term() -> None:
    made = made_of(sides("baseline", "optimized"))
    said = words_of(made)
    assert "From baseline to optimized the traced window became 8.000 ms shorter" in said
    assert "The terms sum to −8,000,000 ns exactly." in said
    table = made.split(">every term of the difference<", 1)[1]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
    figures = [
        [c.replace("−", "-").replace(",", "") for c in re.findall(r"<td[^>]*>([^<]*)</td>", row)] for row in rows
    ]
    total, *others = [row for row in figures if row]
    assert [int(total[i]) for i in (3, 4, 5)] == [20_000_000, 12_000_000, -8_000_000]
    assert sum(int(row[5]) for row in others) == -8_000_000


def test_a_ladder_shows_each_step_and_the_whole() -> None:
    said = words_of(made_of(sides("baseline", "pinned", "optimized")))
    assert "baseline → pinned −8.000 ms 100.0 % 1.667 ×" in said
    assert "pinned → optimized 0 0.0 % 1.000 ×" in said
    assert "in all −8.000 ms 100.0 % 1.667 ×" in said


def test_other_numbers_of_iterations_are_said() -> None:
    base, opt = sides("baseline", "optimized")
    one = replace(opt, analysis=analyze(pair.optimized(), window="iteration#0"))
    said = words_of(made_of([base, one]))
    assert "so every difference here is per iteration" in said
    assert "The terms sum to −4,000,000 ns exactly" in said


def test_one_side_or_an_empty_one_has_no_waterfall() -> None:
    base, _ = sides("baseline", "optimized")
    idle = analyze(pair.trace([], [("measured", 0, 3000)]))
    assert waterfall_section([base], None) is None
    assert compare_analysed({"baseline": base.analysis}, {}, None) is None
    assert compare_analysed({"baseline": base.analysis, "idle": idle}, {}, None) is None


def test_names_are_text() -> None:
    ops = [("compute", 7, 1000, 2000)]
    stages = [("measured", 0, 9000), ("iteration", 0, 9000), (HOSTILE, 100, 8000)]
    found = [analyze(pair.trace(ops, stages, file=HOSTILE), window="measured", variant=n) for n in (HOSTILE, "b")]
    made = made_of([Side(str(a.variant), a) for a in found])
    assert "<img" not in made and "&lt;img" in made


def test_the_page_has_it_between_speed_and_ledger() -> None:
    two = sides("baseline", "optimized")
    page = render(None, [s.analysis for s in two], {})
    places = [page.index(f'<section id="{name}"') for name in ("waterfall", "ledger", "trust")]
    assert places == sorted(places)
    assert 'href="#waterfall"' in page


def test_no_share_is_shown_where_terms_cancel(tmp_path: Path) -> None:
    """245 ms of terms leave 2 ms of difference: the page says that shares are left out, and leaves them out."""
    run = SAMPLES / "h200_pipeline_sequential"
    assert main(["report", f"{run}:optimized", f"{run}:cuda_graph", "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "shares of it would mean nothing and are left out" in page
    for anchor in ("why", "waterfall"):
        section = page[page.index(f'<section id="{anchor}"') :].split("</section>")[0]
        assert not re.findall(r">[−\d.,]+ %<", section)
