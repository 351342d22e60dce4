"""The costliest stages by name, the others folded: no sum changes, no attribution either, and what is listed costs most."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.bounded import OTHERS
from aisp_trace.analyze.attribution.selection import Selection
from aisp_trace.analyze.result import Analysis
from aisp_trace.cli.commands import analyze as command
from aisp_trace.cli.main import main
from aisp_trace.tests.examples import nightly
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace

SAMPLES = Path(__file__).resolve().parents[1] / "traces" / "samples"
TRACES = (
    SAMPLES / "h100_pipeline_decode.sqlite.xz",
    SAMPLES / "h200x2_ddp.sqlite.xz",
    SAMPLES / "cpu_threads_nsys2022.sqlite.xz",
    SAMPLES / "h200_memory_standard" / "baseline" / "trace.sqlite.xz",
)


@cache
def trace_of(path: Path) -> Trace:
    return open_trace(path)


@cache
def looked_at(path: Path, most: int | None, depth: int | None = None, rule: str = "process") -> Analysis:
    selection = None if depth is None else Selection(depth=depth)
    return analyze(trace_of(path), attribution=rule, selection=selection, most_stages=most)


def listed(analysis: Analysis) -> set[str]:
    return set(analysis.stages["path"].to_list())


def sums(analysis: Analysis) -> dict[str, object]:
    """What no folding may change: time by device and cause, work by device and kind."""
    cells = analysis.ledger.group_by("device", "category", "cause").agg(pl.col("ns").sum())
    return {
        "ledger": sorted(cells.rows(), key=str),
        "devices": analysis.devices.rows(),
        "kinds": analysis.kinds.rows(),
        "windows": analysis.windows.rows(),
        "bandwidth": analysis.bandwidth.rows(),
        "iterations": analysis.iterations.rows(),
        "overlap": analysis.overlap.filter(pl.col("stage").is_null()).rows(),
        "own ops": int(analysis.stages["self_ops"].sum()),
        "allocator": int(analysis.allocator["host_ns"].sum()),
        "trust": analysis.trust.select("metric", "level").rows(),
    }


@pytest.mark.parametrize("path", TRACES, ids=lambda p: p.parent.name + p.name)
@pytest.mark.parametrize("depth", [None, 2])
@pytest.mark.parametrize("rule", ["process", "thread"])
@pytest.mark.parametrize("most", [1, *nightly(2, 3)])
def test_no_sum_changes(path: Path, depth: int | None, rule: str, most: int) -> None:
    whole, folded = looked_at(path, None, depth, rule), looked_at(path, most, depth, rule)
    assert sums(folded) == sums(whole)
    assert listed(folded) <= listed(whole) | {OTHERS}
    assert len(listed(folded)) <= most + 1
    assert (folded.choices.folded > 0) is (len(listed(whole)) > most)


@pytest.mark.parametrize("path", TRACES, ids=lambda p: p.parent.name + p.name)
def test_a_trace_with_few_stages_is_left_as_it_is(path: Path) -> None:
    whole, same = looked_at(path, None), looked_at(path, len(listed(looked_at(path, None))) + 50)
    assert same.choices.folded == 0
    assert all(
        a.equals(b, null_equal=True) for a, b in zip(whole.tables().values(), same.tables().values(), strict=True)
    )


@pytest.mark.parametrize("path", TRACES, ids=lambda p: p.parent.name + p.name)
def test_a_stage_that_stays_keeps_what_it_had(path: Path) -> None:
    """Its times and all that was launched in it or below: only its own part may grow, by what was folded into it."""
    whole, folded = looked_at(path, None).stages, looked_at(path, 3).stages
    columns = ["device", "path", "instances", "host_ns", "projected_ns", "ops", "busy_ns"]
    kept = folded.filter(pl.col("path") != OTHERS).select(columns)
    assert kept.height > 0
    assert set(kept.rows()) <= set(whole.select(columns).rows())


@pytest.mark.parametrize("path", TRACES, ids=lambda p: p.parent.name + p.name)
def test_what_is_listed_costs_most(path: Path) -> None:
    """No stage that is left out took longer on the host and launched more work than one that is listed."""
    whole = (
        looked_at(path, None).stages.group_by("path").agg(pl.col("host_ns").max(), pl.col("busy_ns").fill_null(0).sum())
    )
    cost = {p: (host, busy) for p, host, busy in whole.iter_rows()}
    shown = listed(looked_at(path, 3)) - {OTHERS}
    for left in set(cost) - shown:
        assert not any(cost[left][0] > cost[s][0] and cost[left][1] > 2 * cost[s][1] for s in shown), left


def test_the_command_says_what_it_folded_and_all_lists_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "MOST_STAGES", 2)
    file = str(TRACES[0])
    assert main(["analyze", file]) == 0
    assert "less costly stages are folded" in capsys.readouterr().out
    assert main(["analyze", file, "--json"]) == 0
    (few,) = json.loads(capsys.readouterr().out)["traces"]
    assert main(["analyze", file, "--json", "--all"]) == 0
    (every,) = json.loads(capsys.readouterr().out)["traces"]
    assert few["selection"]["folded_stages"] > 0 and every["selection"]["folded_stages"] == 0
    assert len({s["path"] for s in few["stages"]}) <= 3 < len({s["path"] for s in every["stages"]})
