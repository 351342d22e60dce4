"""The options that select a part of a trace: the same in every command, and the page of a selection has its figures."""

from __future__ import annotations

import html
import json
import re
import typing
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from aisp_trace.analyze.sources import Asked
from aisp_trace.cli import options
from aisp_trace.cli.main import main
from aisp_trace.tests.builders.commands import actions
from aisp_trace.tests.builders.nsys_export import NsysExport

ROOT: Final = Path(__file__).resolve().parents[1]
SAMPLES: Final = ROOT / "traces" / "samples"
GRAPHS: Final = SAMPLES / "h200_graphs.sqlite.xz"
DDP: Final = SAMPLES / "h200x2_ddp.sqlite.xz"
TORCH: Final = SAMPLES / "h100_pipeline_decode_kineto.json.gz"
RUN: Final = SAMPLES / "h200_pipeline_sequential"

SELECTING: Final[dict[str, Any]] = {
    "window": options.Window,
    "iterations": options.Iterations,
    "skip": options.Skip,
    "attribution": options.Attribution,
    "domain": options.Domain,
    "stages": options.Stages,
    "depth": options.Depth,
    "below": options.Below,
    "no_fold": options.NoFold,
}
"""The parameters that select, each with its one declaration."""

READERS: Final = ("analyze", "ranks", "compare", "predict", "report", "export")
"""The commands that take a trace."""

Cells = Counter[tuple[str, str, str]]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- which command has which ----------------------------------------------------------------------------------------------


def test_an_option_that_selects_is_declared_once() -> None:
    """``--no-fold`` of `compare` is another name of its ``--exact``."""
    for action in (one for one in actions() if str(one) in READERS):
        for name, hint in typing.get_type_hints(action.function, include_extras=True).items():
            if name in SELECTING and (str(action), name) != ("compare", "no_fold"):
                assert hint == SELECTING[name], f"{action} declares {name} anew"


def test_the_table_of_options_is_that_of_the_commands() -> None:
    table = (ROOT / "docs" / "trace.md").read_text(encoding="utf-8").partition("| option |")[2].partition("\n\n")[0]
    head, _, *rows = table.splitlines()
    columns = [word.strip(" `") for word in head.strip("|").split("|")]
    told = {}
    for row in rows:
        option, *marks = [word.strip(" `") for word in row.strip("|").split("|")]
        told[option] = {c for c, mark in zip(columns, marks, strict=True) if mark}
    parsers = {str(action): action.parser for action in actions() if str(action) in columns}
    assert set(columns) == set(parsers) == set(READERS)
    known = {o for p in parsers["analyze"].params for o in p.opts if p.name in SELECTING}
    has = {o: {name for name, p in parsers.items() if any(o in one.opts for one in p.params)} for o in known}
    assert told == has


@pytest.mark.parametrize(
    ("typed", "owners"),
    [
        ("predict t.sqlite --window step#2", "analyze, compare, report, export have it"),
        ("ranks t.sqlite --range step", "analyze, compare, report, export have it"),
        ("check run --domain NCCL", "analyze, ranks, compare, predict, report, export have it"),
        ("bundle run --skip 2", "analyze, ranks, compare, predict, report, export have it"),
    ],
)
def test_the_refusal_of_the_others_says_who_has_it(typed: str, owners: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(typed.split()) == 2
    assert owners in capsys.readouterr().err


def test_the_words_of_a_selection() -> None:
    assert Asked().options == [] and Asked().chosen_window is None
    assert Asked("a b", "thread", "NCCL", skip=0).options == [
        *("--window", "a b", "--skip", "0", "--attribution", "thread", "--domain", "NCCL")
    ]
    assert Asked(skip=0).chosen_window == Asked(iterations="x").chosen_window == "steady"
    assert Asked("all", skip=2).chosen_window == "all", "a window goes before the iterations"


# --- the page has the figures of analyze ----------------------------------------------------------------------------------


def _page() -> str:
    return Path("report.html").read_text(encoding="utf-8")


def _of_page(page: str, sides: int) -> list[Cells]:
    """The cells of the page's ledger, a counter of (stage, category, cause) in ns for each side."""
    table = page.partition('<caption class="unseen">every cell of the ledger</caption>')[2].partition("</table>")[0]
    found: list[Cells] = [Counter() for _ in range(sides)]
    for stage, row in re.findall(r'<tr[^>]* data-stage="([^"]*)"[^>]*>(.*?)</tr>', table, re.DOTALL):
        words = [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        values = [int(v) for v in re.findall(r'data-v="(-?\d+)"', row)]
        kind, cause = words[-len(values) - 2 : -len(values)]
        for side, ns in zip(found, values, strict=False):  # a difference follows where there are two
            side[html.unescape(stage), kind, cause] += ns
    return [+side for side in found]


def _of_analyze(shown: str) -> list[Cells]:
    found: list[Cells] = []
    for trace in json.loads(shown)["traces"]:
        cells: Cells = Counter()
        for device in trace["ledger"]:
            for cell in device["cells"]:
                key = (cell["stage"].removeprefix("iteration/"), cell["category"], cell["cause"] or "")
                cells[key] += cell["ns"]
        found.append(+cells)
    return found


SELECTIONS: Final[tuple[tuple[Path, list[str]], ...]] = (
    (GRAPHS, []),
    (GRAPHS, ["--window", "iteration#2"]),
    (GRAPHS, ["--window", "iteration#2:iteration#4", "--depth", "1"]),
    (GRAPHS, ["--window", "+1ms:+5ms"]),
    (GRAPHS, ["--window", "all", "--attribution", "thread"]),
    (GRAPHS, ["--skip", "3", "--no-fold"]),
    (GRAPHS, ["--iterations", "iteration", "--range", "iteration/eager"]),
    (DDP, ["--domain", "NCCL"]),
    (TORCH, ["--window", "+20us:+400us"]),
    (RUN, ["--window", "iteration#2"]),
    (RUN, ["--skip", "4"]),
)


@pytest.mark.parametrize(
    ("source", "chosen"), SELECTIONS, ids=lambda one: " ".join(one) if isinstance(one, list) else one.name
)
def test_the_page_has_the_cells_of_analyze(source: Path, chosen: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(source), "--json", *chosen]) == 0
    wanted = _of_analyze(capsys.readouterr().out)
    assert main(["report", str(source), *chosen]) == 0
    assert any(wanted) and _of_page(_page(), len(wanted)) == wanted


def test_a_selection_changes_the_cells(capsys: pytest.CaptureFixture[str]) -> None:
    """Else equal cells would say nothing of the options."""
    found = []
    for source, chosen in SELECTIONS[:7]:
        assert main(["analyze", str(source), "--json", *chosen]) == 0
        found.append(_of_analyze(capsys.readouterr().out))
    assert len({str(sorted(one[0].items())) for one in found}) == len(found)


def test_a_comparison_has_the_cells_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    sides = [f"{RUN}:{name}" for name in ("baseline", "optimized")]
    wanted: list[Cells] = []
    for side in sides:
        assert main(["analyze", side, "--json", "--skip", "5"]) == 0
        wanted += _of_analyze(capsys.readouterr().out)
    assert main(["report", *sides, "--skip", "5"]) == 0
    assert _of_page(_page(), 2) == wanted
    capsys.readouterr()
    assert main(["compare", *sides, "--skip", "5", "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)["comparisons"]
    base, opt = (sum(side.values()) for side in wanted)
    assert pair["difference"] == opt - base


# --- the page says what was selected --------------------------------------------------------------------------------------


def _said(page: str) -> str:
    header = page.partition("<header")[2].partition("</header>")[0]
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", header)).split())


def test_the_page_says_what_was_selected() -> None:
    assert main(["report", str(GRAPHS), "--window", "iteration#2", "--domain", "aisp"]) == 0
    page, words = _page(), "--window 'iteration#2' --domain aisp"
    assert f"Selected with {words} : figures and tables are of this selection." in _said(page)
    assert "The window takes" in _said(page) and "the part of the recording that was selected" in _said(page)
    assert f"aisp-trace report h200_graphs.sqlite.xz {words}" in html.unescape(page), "how to make it again"
    assert main(["report", str(GRAPHS), "--no-fold"]) == 0
    assert "Selected" not in _said(_page()) and "report h200_graphs.sqlite.xz --no-fold" in _page()


def test_claims_of_a_run_are_judged_by_all_of_it() -> None:
    """The speedup that was judged is that of the rounds, so it is not called by that of the window."""
    assert main(["report", str(RUN)]) == 0
    whole = _page()
    assert main(["report", str(RUN), "--window", "iteration#2"]) == 0
    part = _page()
    assert "claims are judged by the whole of each variant" in _said(part)
    assert "one traced recording of each: no interval" in _said(part)
    assert re.search(r"speedup [\d.]+ × met", _said(whole)) and "speedup met" in _said(part)
    claims = [re.search(r'<section id="claims".*?</section>', page, re.DOTALL) for page in (whole, part)]
    assert claims[0] and claims[1] and claims[0][0] == claims[1][0]


def test_what_was_selected_of_a_scrubbed_page_is_scrubbed() -> None:
    """The copy has other names, so who names a range by what the original calls it gets what it became."""
    export = NsysExport().range(1_000, 9_000, "zoltan step").call(1_500, 1_600, "cudaLaunchKernel", correlationId=7)
    export.kernel(2_000, 5_000, "k", correlationId=7)
    export.add("TARGET_INFO_SYSTEM_ENV", name="USER", value="zoltan").write(Path("t.sqlite"))
    words = ["--window", "zoltan step#0", "--stages", "zoltan.*|.*", "--scrub"]
    assert main(["report", "t.sqlite", *words]) == 0
    assert "zoltan" not in _page().lower() and "(user a) step#0" in html.unescape(_said(_page()))
