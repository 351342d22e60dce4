"""Results in a notebook: the terminal's words and figures as HTML that no recorded name breaks, frames, short reprs."""

from __future__ import annotations

import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import aisp_trace
from aisp_trace.cli.main import main
from aisp_trace.report.notebook import PRINTED
from aisp_trace.tests.builders.samples import ROOT, SAMPLES, unpack
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.errors import UsageError

RUN = str(SAMPLES / "h200_pipeline_sequential")
GRAPHS = str(SAMPLES / "h200_graphs.sqlite.xz")
EXPECTATIONS = str(ROOT / "expectations")

RESULTS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "analysis": (lambda: aisp_trace.analyze(GRAPHS), ["analyze", GRAPHS]),
    "variant": (lambda: aisp_trace.analyze(f"{RUN}:optimized"), ["analyze", f"{RUN}:optimized"]),
    "pair": (
        lambda: aisp_trace.compare(f"{RUN}:baseline", f"{RUN}:optimized"),
        ["compare", f"{RUN}:baseline", f"{RUN}:optimized"],
    ),
    "ladder": (lambda: aisp_trace.compare(RUN), ["compare", RUN]),
    "verdicts": (lambda: aisp_trace.check(RUN, EXPECTATIONS), ["check", RUN, "--expectations", EXPECTATIONS]),
    "headroom": (lambda: aisp_trace.predict(f"{RUN}:baseline"), ["predict", f"{RUN}:baseline"]),
}


@cache
def result_of(name: str) -> Any:
    """The result called `name`, made once."""
    return RESULTS[name][0]()


@cache
def json_of(name: str) -> Any:
    """What the command prints as JSON about the same, once."""
    out = io.StringIO()
    with redirect_stdout(out):
        main([*RESULTS[name][1], "--json"])
    return json.loads(out.getvalue())


def html_of(result: Any) -> str:
    """What a notebook shows."""
    html = result._repr_html_()
    assert isinstance(html, str)
    return html


def words_of(html: str) -> str:
    """The text that a reader sees; raises where the markup is not well-formed."""
    return " ".join(" ".join(ElementTree.fromstring(html).itertext()).split())


def figures(text: str) -> set[str]:
    return set(re.findall(r"[-+]?\d[\d,.]*\d|\d", text))


@pytest.mark.parametrize("name", RESULTS)
def test_html_says_what_the_terminal_says(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same words in the same order, where lines are not too short for them; of an analysis its first part."""
    monkeypatch.setenv("COLUMNS", "400")
    html = html_of(result_of(name))
    assert capsys.readouterr().out == ""
    main(RESULTS[name][1])
    printed = " ".join(capsys.readouterr().out.split())
    shown = words_of(html)
    assert len(figures(shown)) > 15 and not figures(shown) - figures(printed)
    if name in ("pair", "ladder", "headroom"):
        assert shown == printed
    assert len(html) < 20_000


def test_the_figures_of_the_ledger_are_there() -> None:
    found = result_of("analysis")
    (table,) = (t for t in ElementTree.fromstring(html_of(found)).iter("table") if "where" in str(t[0][0][0].text))
    cells = [[str(cell.text) for cell in row] for row in table[1]]
    by_kind = {row[0]: float(row[1].replace(",", "")) for row in cells}
    for kind in ("compute", "h2d", "d2h"):
        assert by_kind[kind] == round(found.ledger.filter(pl.col("category") == kind)["ns"].sum() / 1e6, 3)
    assert cells[-1][0] == "total" and by_kind["total"] == round(found.ledger["ns"].sum() / 1e6, 3)


HOSTILE = "<script>alert(1)</script>&\"'\x1b[31m\u202e" + "x" * 300_000


def test_names_in_a_trace_are_escaped_and_cut(tmp_path: Path) -> None:
    file = unpack("h200_graphs", tmp_path).rename(tmp_path / "hostile<b>.sqlite")
    with sqlite3.connect(file) as rows:
        rows.execute("update NVTX_EVENTS set text = ? || text where text is not null", [HOSTILE])
        rows.execute("update StringIds set value = ? || value", [HOSTILE])
    html = html_of(aisp_trace.analyze(file))
    assert len(html) < 60_000
    root = ElementTree.fromstring(html)
    assert {one.tag for one in root.iter()} <= {
        "div",
        "p",
        "b",
        "pre",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "br",
    }
    assert {key for one in root.iter() for key in one.attrib} <= {"class", "style"}
    assert "hostile<b>.sqlite" in words_of(html) and "\x1b" not in html and "\u202e" not in html


@pytest.mark.parametrize("name", RESULTS)
def test_repr_is_short(name: str) -> None:
    result = result_of(name)
    assert type(result) in PRINTED
    for one in (result, *getattr(result, "comparisons", ())):
        assert repr(one).startswith("<") and len(repr(one)) < 300 and repr(one).isprintable()


def test_what_is_printed_after_an_error_in_between_goes_to_stdout_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(result: Any) -> None:
        raise RuntimeError("no")

    found = result_of("headroom")
    monkeypatch.setitem(PRINTED, type(found), fails)
    with pytest.raises(RuntimeError):
        found._repr_html_()
    assert main(["list"]) == 0
    assert "pipeline_sequential" in capsys.readouterr().out


# --- frames -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "table", "place", "key"),
    [
        ("pair", "terms", ("comparisons", 0, "terms"), "difference"),
        ("pair", "kernels", ("comparisons", 0, "kernels"), "base_ns"),
        ("pair", "reasons", ("comparisons", 0, "why", "reasons"), "difference"),
        ("verdicts", "verdicts", ("verdicts",), "value"),
        ("headroom", "predictions", ("predictions",), "estimate_ns"),
    ],
)
def test_a_frame_has_the_rows_of_the_json(result: str, table: str, place: tuple[str | int, ...], key: str) -> None:
    rows = json_of(result)
    for step in place:
        rows = rows[step]
    found = aisp_trace.frame(table, result_of(result))
    assert found[key].to_list() == [row[key] for row in rows] and len(rows) > 1
    assert found.to_pandas()[key].tolist() == found[key].to_list()


def test_objects_in_rows_become_columns() -> None:
    found = aisp_trace.frame("verdicts", result_of("verdicts"))
    assert {"bound.min", "interval.low", "source.kind"} <= set(found.columns)
    assert not {"bound", "interval", "source"} & set(found.columns)


def test_every_table_of_an_analysis_is_a_frame() -> None:
    found = result_of("analysis")
    for name, table in found.tables().items():
        assert aisp_trace.frame(name, found).equals(table)


def test_a_frame_that_does_not_exist_is_said() -> None:
    with pytest.raises(UsageError, match="there is no table 'verdict'; there are verdicts"):
        aisp_trace.frame("verdict", result_of("verdicts"))
    with pytest.raises(UsageError, match="Path has no tables"):
        aisp_trace.frame("ledger", Path())  # type: ignore[arg-type]


# --- the notebook in examples/ ----------------------------------------------------------------------------------------


def run_script(folder: Path, what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", str(folder / "scripts" / "notebook.py"), what]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


def test_the_example_shows_what_its_cells_give_now() -> None:
    done = run_script(ROOT, "--check")
    assert done.returncode == 0, done.stderr


def test_an_output_of_yesterday_is_found_and_refreshed(tmp_path: Path) -> None:
    for name in ("scripts", "examples"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "scripts" / "notebook.py", tmp_path / "scripts")
    cells = [{"cell_type": "code", "source": ["a = 2\n", "print(a)\n", "a + 1"], "outputs": [], "execution_count": 1}]
    cells.append({"cell_type": "markdown", "source": ["text"]})
    file = tmp_path / "examples" / "notebook.ipynb"
    file.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    done = run_script(tmp_path, "--check")
    assert done.returncode == 1 and "outputs of cells [1] are out of date" in done.stderr
    assert run_script(tmp_path, "--write").returncode == run_script(tmp_path, "--check").returncode == 0
    printed, value = json.loads(file.read_text(encoding="utf-8"))["cells"][0]["outputs"]
    assert printed["text"] == ["2\n"] and value["data"] == {"text/plain": ["3"]}
