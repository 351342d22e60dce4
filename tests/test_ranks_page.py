"""The page of a job: complete without a network, safe whatever names a trace holds, small at any number of ranks."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from aisp_trace.analyze.ranks.gather import Failed
from aisp_trace.analyze.ranks.job import Job, job_of
from aisp_trace.analyze.ranks.look import Look
from aisp_trace.analyze.ranks.make import ranks_of
from aisp_trace.benchmarks.ranks import Delay, Plan, Simulated
from aisp_trace.report.ranks.maps import MOST_CELLS, MOST_ITERATIONS, late_map, stage_map
from aisp_trace.report.ranks.page import render
from aisp_trace.traces.unread import is_page


@pytest.fixture(scope="module")
def job() -> Job:
    plan = Plan(6, 6, {(4, i): [Delay("h2d", 900_000)] for i in (1, 3)}, groups=[list(range(6))])
    made = Simulated(plan)
    return job_of([one for r in range(6) if r != 2 for one in ranks_of(made.trace(r), Look(), f"c{r}")])


def maps_of(page: str) -> dict[str, dict[str, object]]:
    found = re.search(r'<script type="application/json" id="maps">(.*?)</script>', page)
    assert found is not None
    maps: dict[str, dict[str, object]] = json.loads(found[1])
    return maps


def test_the_page_says_who_when_and_why(job: Job) -> None:
    page = render(job, [Failed("broken.sqlite", "broken.sqlite is truncated")], version="1")
    assert is_page(page.encode())
    assert "rank 4 accounts for 100.0 % of the lateness, by up to" in page and "above all in iterations" in page
    assert "missing: no trace is of these ranks" in page
    assert "broken.sqlite is truncated" in page
    late = maps_of(page)["map-late"]
    assert late["columns"] == ["0", "1", "3", "4", "5"]
    cells = late["cells"]
    assert isinstance(cells, list)
    assert sorted((row, column) for column, row, _ in cells) == [(1, 3), (3, 3)]
    assert all(us == pytest.approx(900, abs=80) for _, _, us in cells)


def test_only_the_script_of_the_page_may_run_and_nothing_is_fetched(job: Job) -> None:
    page = render(job, [])
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}';" in policy.replace("&#x27;", "'")
    assert not re.search(r"https?://|\bsrc=|@import|url\(", page)


def test_names_cannot_break_out(job: Job) -> None:
    evil = '"><script>alert(1)</script></script>\u202e\x1b[31m'
    hostile = [
        replace(
            rank,
            trace=evil,
            identity=replace(rank.identity, device_name=evil),
            tables={
                n: t.with_columns(stage=pl.lit(evil)) if "stage" in t.columns else t for n, t in rank.tables.items()
            },
        )
        for rank in job.roster.ranks
    ]
    page = render(job_of(hostile), [Failed(evil, evil)])
    assert "<script>alert" not in page
    assert "\u202e" not in page and "\x1b" not in page
    assert evil in maps_of(page)["map-stages"]["rows"]  # type: ignore[operator]


def test_a_page_of_1024_ranks_is_small_and_bounded(job: Job) -> None:
    """Every cell late, more iterations than rows, more stages than shown."""
    ranks, steps = 1024, 1000
    rng = np.random.default_rng(0)
    late = replace(job.late, late=rng.integers(10**6, 10**7, (ranks, steps)))
    stages = pl.DataFrame(
        {
            "rank": np.repeat(np.arange(ranks), 100),
            "stage": [f"iteration/layer {i}" for i in range(100)] * ranks,
            "ns": rng.uniform(1e6, 2e6, ranks * 100),
        }
    )
    roster = replace(job.roster, numbers=tuple(range(ranks)))
    one = next(step for step in job.steps if step.rank == job.pattern.by_rank[0][0])
    large = replace(
        job,
        late=late,
        stages=stages,
        roster=roster,
        steps=tuple(replace(one, iteration=i) for i in range(steps)),
    )
    found = late_map(large)
    assert len(found["rows"]) <= MOST_ITERATIONS
    assert len(found["cells"]) == MOST_CELLS
    assert found["cells"][-1][2] == round(late.late.max() / 1e3), "the latest is drawn last"
    assert found["rows"][0] == "0 to 3"
    assert len(stage_map(large)["rows"]) == 40
    assert len(render(large, []).encode()) < 10_000_000
