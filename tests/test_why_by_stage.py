"""Why by stage, as people see it: the terminal's table, the page of a run and that of a comparison show the objects of --json."""

from __future__ import annotations

import json
import re
from collections import Counter
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.cli.main import main
from aisp_trace.report.page.page import render
from aisp_trace.report.page.waterfall import stage_name
from aisp_trace.report.page.why import why_section
from aisp_trace.report.terminal.comparison import LEAST_NAME
from aisp_trace.tests.builders import pair
from aisp_trace.tests.builders.samples import SAMPLES, unpack

RUN = str(SAMPLES / "h200_pipeline_sequential")
BOTH = [f"{RUN}:baseline", f"{RUN}:optimized"]

Capture = pytest.CaptureFixture[str]


def compared(capsys: Capture, *words: str) -> dict[str, Any]:
    """The one comparison, or the total of a ladder, in JSON."""
    assert main(["compare", *words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = next((c for c in told["comparisons"] if c["role"] == "total"), told["comparisons"][0])
    names: dict[str, Any] = {f"{side}_name": told["sides"][found[side]]["name"] for side in ("base", "opt")}
    return {**found, **names}


def page_of(tmp_path: Path, *words: str) -> str:
    assert main(["report", *words, "-o", str(tmp_path / "page.html")]) == 0
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def table_on(page: str, caption: str) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of the table of that caption."""
    table = page.split(f'<caption class="unseen">{caption}</caption>', 1)[1].split("</table>", 1)[0]
    heads = re.findall(r"<th [^>]*>(.*?)</th>", table)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", table)[1:]]
    return heads, [[unescape(cell) for cell in row] for row in rows]


def why_on(page: str) -> tuple[str, list[str], list[list[str]]]:
    """The sentence of the section, the titles and the rows of its table by stage."""
    section = page.split('<section id="why"', 1)[1].split("</section>", 1)[0]
    (sentence,) = re.findall(r'<p class="why">(.*?)</p>', section)
    return unescape(sentence), *table_on(section, "difference of each stage by mechanism")


def column(part: dict[str, Any]) -> str:
    """The title of a part's column."""
    return f"idle: {part['of']}" if part["mechanism"] == "idle" else str(part["mechanism"]).replace("_", " ")


def number(cell: str) -> int:
    return int(cell.replace(",", "").replace("−", "-"))


def assert_page_shows(page: str, comparison: dict[str, Any]) -> None:
    """Cell by cell, in whole nanoseconds."""
    why = comparison["why"]
    sentence, heads, rows = why_on(page)
    assert sentence.replace("→", "->") == f"{why['sentence']}."
    caption = f"from {comparison['base_name']} to {comparison['opt_name']}, by mechanism"
    _, (total, *parts) = table_on(page, caption)
    summed = Counter[tuple[str, str | None]]()
    for part in why["parts"]:
        summed[part["mechanism"], part["of"]] += part["difference"]
    assert number(total[2]) == comparison["difference"] == sum(number(part[2]) for part in parts)
    assert sorted(number(part[2]) for part in parts) == sorted(n for n in summed.values() if n)
    whole = {"stage": "all", "difference": comparison["difference"], "parts": why["parts"]}
    expected = []
    for stage in (whole, *why["by_stage"]):
        cells = Counter[str]()
        for part in stage["parts"]:
            cells[column(part)] += part["difference"]
        assert set(cells) <= set(heads)
        expected.append([stage_name(stage["stage"]), stage["difference"], *(cells[title] for title in heads[2:-1])])
    assert [[row[0], *map(number, row[1:-1])] for row in rows] == expected
    for at in range(1, len(heads) - 1):
        assert sum(number(row[at]) for row in rows[1:]) == number(rows[0][at])


def test_the_page_of_a_comparison_shows_what_json_says(tmp_path: Path, capsys: Capture) -> None:
    told = compared(capsys, *BOTH)
    assert (told["difference"], len(told["why"]["by_stage"])) == (-1_108_581_905, 4)
    page = page_of(tmp_path, *BOTH)
    assert_page_shows(page, told)
    assert "<h1>optimized is 10.03 × as fast as baseline</h1>" in page
    assert '<p class="what">baseline → optimized</p>' in page and "2 recordings compared, recorded by nsys" in page
    assert 'data-timeline="1"' in page and 'id="claims"' not in page


def test_the_page_of_a_run_shows_the_ladders_total(tmp_path: Path, capsys: Capture) -> None:
    told = compared(capsys, RUN)
    assert_page_shows(page_of(tmp_path, RUN), told)


def test_traces_of_one_name_are_told_apart(tmp_path: Path, capsys: Capture) -> None:
    """The same recording twice: nothing differs, and that is said."""
    (tmp_path / "again").mkdir()
    words = [str(unpack("h100_pipeline_decode", folder)) for folder in (tmp_path, tmp_path / "again")]
    page = page_of(tmp_path, *words)
    base, opt = (f"h100_pipeline_decode.sqlite ({word})" for word in ("base", "opt"))
    assert f"<h1>{opt} is 1.000 × as fast as {base}</h1>" in page and f'<p class="what">{base} → {opt}</p>' in page
    assert why_on(page)[0] == f"{opt} takes as long as {base}."
    assert "Nothing differs, to the nanosecond: this is one recording compared with itself." in page


def test_a_run_of_several_variants_is_no_side(tmp_path: Path, capsys: Capture) -> None:
    assert main(["report", RUN, BOTH[1], "-o", str(tmp_path / "page.html")]) == 2
    assert f"{RUN} has several variants" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_steps_and_iterations_are_said() -> None:
    """A ladder of three, the last of half as many iterations: every cell is per iteration, and each step has a sentence."""
    names = {"baseline": pair.baseline(), "pinned": pair.optimized(), "optimized": pair.optimized()}
    windows = ("measured", "measured", "iteration#0")
    sides = [
        analyze(trace, variant=name, window=window)
        for (name, trace), window in zip(names.items(), windows, strict=True)
    ]
    made = render(None, sides, {}).split('<section id="why"', 1)[1].split("</section>", 1)[0]
    sentence, _, rows = why_on(f'<section id="why"{made}')
    assert sentence.startswith("an iteration of optimized takes 4.00 ms less than one of baseline: ")
    assert "In ns per iteration" in made and rows[0][1] == "−4,000,000"
    steps = re.findall(r"<li>([^<]*)</li>", made)
    assert len(steps) == 2 and steps[0].startswith("an iteration of pinned takes 4.00 ms less than one of baseline: ")
    assert why_section(None) is None


@pytest.mark.parametrize("width", [80, 200])
def test_the_terminal_shows_a_column_a_reason_in_the_width_there_is(
    width: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    why = compared(capsys, *BOTH)["why"]
    assert main(["compare", *BOTH, "--by-stage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("why, by stage, in ms:")
    table = [re.split(r" {2,}", line.strip()) for line in lines[at + 1 : lines.index("", at + 1)]]
    assert max(map(len, lines)) <= width
    heads, *rows = [row for row in table if len(row) == len(table[0])]
    parts = Counter(f"{part['mechanism']}: {part['of']}" for part in why["parts"] if part["mechanism"] == "idle")
    assert [row[0] for row in rows] == [*(stage["stage"] for stage in why["by_stage"]), "total"]
    idle = [title for title in heads if title.startswith("idle: ")]
    assert set(idle) <= set(parts) and len(idle) < len(parts) if width == 80 else set(idle) == set(parts)
    assert ("other idle" in heads) == (width == 80)
    for row in rows:
        whole, *cells = (float(cell.replace(",", "")) for cell in row[1:])
        assert sum(cells) == pytest.approx(whole, abs=0.001 * len(cells))
    for number_ in range(1, len(heads)):
        cells = [float(row[number_].replace(",", "")) for row in rows]
        assert sum(cells[:-1]) == pytest.approx(cells[-1], abs=0.001 * len(cells))
    assert main(["compare", *BOTH]) == 0
    assert "why, by stage" not in capsys.readouterr().out and LEAST_NAME < 40
