"""Charts in a notebook: the very figures of the page, and a sentence where there is none."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go
import pytest

import aisp_trace
from aisp_trace.analyze.result import Analysis
from aisp_trace.cli.main import main
from aisp_trace.expectations.comparing.compare import Compared
from aisp_trace.report.figures import OF_ANALYSES
from aisp_trace.report.palette import CAUSES, KINDS, on_dark
from aisp_trace.tests.builders.samples import SAMPLES
from aisp_trace.traces.errors import UsageError

RUN = SAMPLES / "h200_pipeline_sequential"


@pytest.fixture(scope="module")
def compared() -> Compared:
    return aisp_trace.compare(f"{RUN}:baseline", f"{RUN}:optimized")


def test_a_notebook_gets_the_figures_of_the_page(tmp_path: Path, compared: Compared) -> None:
    page = tmp_path / "page.html"
    assert main(["report", f"{RUN}:baseline", f"{RUN}:optimized", "-o", str(page)]) == 0
    (text,) = re.findall(r'id="figures">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    drawn = {name: figure for name, figure in json.loads(text)["figures"].items() if name.startswith("figure-")}
    assert set(drawn) == {"figure-waterfall", "figure-ledger", "figure-overlap", "figure-iterations"}
    for name, figure in drawn.items():
        made = aisp_trace.figure(name.removeprefix("figure-"), compared)
        assert isinstance(made, go.Figure)
        assert json.loads(made.to_json()) == json.loads(go.Figure(figure).to_json()), name


def test_the_ledgers_chart_holds_every_nanosecond() -> None:
    found = aisp_trace.analyze(f"{RUN}:optimized")
    made = aisp_trace.figure("ledger", found).to_plotly_json()
    drawn = sum(round(x * 1e6) for bars in made["data"] for x in bars["x"])
    assert drawn == int(found.ledger["ns"].sum()) > 0


def test_waiting_is_hatched_and_every_colour_is_of_the_palette() -> None:
    found = aisp_trace.analyze(f"{RUN}:baseline")
    for bars in aisp_trace.figure("ledger", found).to_plotly_json()["data"]:
        assert bars["marker"]["color"] in on_dark()
        assert ("pattern" in bars["marker"]) == bars["name"].startswith("idle: ")
    assert {found.light for found in (*KINDS.values(), *CAUSES.values())} < set(on_dark())


def test_several_analyses_stand_beside_each_other() -> None:
    pair = [aisp_trace.analyze(f"{RUN}:{name}") for name in ("baseline", "optimized")]
    names = [bars["name"] for bars in aisp_trace.figure("iterations", pair).to_plotly_json()["data"]]
    assert names == ["baseline", "optimized"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("<b>pie", "there is no figure '<b>pie'; there are ledger, overlap, iterations, memory, waterfall"),
        ("waterfall", "a waterfall is drawn of a comparison of two recordings"),
        ("memory", "the recording holds nothing for the figure 'memory'"),
    ],
)
def test_what_cannot_be_drawn_is_said(name: str, said: str) -> None:
    found: Analysis = aisp_trace.analyze(f"{RUN}:baseline")
    found = found if name != "memory" else _without_memory(found)
    with pytest.raises(UsageError, match=re.escape(said)):
        aisp_trace.figure(name, found)


def _without_memory(found: Analysis) -> Analysis:
    return replace(found, memory_timeline=found.memory_timeline.clear())


def test_every_name_is_documented() -> None:
    told = aisp_trace.figure.__doc__ or ""
    assert all(f"``{name}``" in told for name in (*OF_ANALYSES, "waterfall"))
