"""The list of tables: each of an analysis once, and a new one is a function and a line."""

from __future__ import annotations

from dataclasses import fields

import polars as pl
import pytest

from aisp_trace.analyze import tables
from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.attribute import Attributed
from aisp_trace.analyze.result import SCHEMAS, Analysis
from aisp_trace.analyze.side_by_side import side_by_side
from aisp_trace.analyze.tables import TABLES, Detail, Made, Table, table_names
from aisp_trace.report.export.tables import tables as exported
from aisp_trace.tests.oracle.build import build, call, device, op, span
from aisp_trace.traces.model import Trace


def small() -> Trace:
    r"""Two ops of one stage, 30 and 10 ns long, 60 ns apart.

    step     |----------------------|
    device       |AAA|......|B|
    """
    return build(
        devices=[device(0)],
        ranges=[span("step", 0, 200)],
        api=[call("cudaLaunchKernel", 10, 12, 1), call("cudaLaunchKernel", 100, 102, 2)],
        ops=[op("compute", 20, 50, 1), op("compute", 110, 120, 2)],
    )


def idle_share(ledger: pl.DataFrame) -> pl.DataFrame:
    """A metric as somebody may write it: the idle part of each device's window."""
    idle = pl.col("ns").filter(pl.col("category") == "idle").sum() / pl.col("ns").sum()
    return ledger.group_by("device").agg(idle.alias("idle_share"))


def test_every_table_of_an_analysis_is_in_the_list_once() -> None:
    of_analysis = {field.name for field in fields(Analysis) if field.type == "pl.DataFrame"}
    assert of_analysis == set(SCHEMAS)
    assert sorted(table_names()) == sorted(of_analysis)


@pytest.fixture(params=[1 << 62, 0], ids=["side by side", "one after the other"])
def any_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are made as those of a trace of that many ops are."""
    monkeypatch.setattr(tables, "side_by_side", lambda size: side_by_side(request.param))


@pytest.mark.usefixtures("any_size")
def test_a_new_metric_is_a_function_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Table("idle_share", lambda a, made: idle_share(made("ledger")))
    monkeypatch.setattr(tables, "TABLES", (*TABLES, line))
    trace = small()
    found = analyze(trace)
    assert found.more["idle_share"].rows() == [(0, 0.6)]
    assert dict(exported(trace, found))["analysis/idle_share"].rows() == [(0, 0.6)]
    assert found.ledger.equals(analyze(trace).ledger)


def test_without_details_only_detail_tables_are_empty() -> None:
    details = {name for step in TABLES if step.detail and not step.shared for name in step.name.split()}
    every, base = analyze(small()), analyze(small(), details=False)
    for name in table_names():
        table = getattr(base, name)
        assert table.schema == pl.Schema(SCHEMAS[name])
        assert table.is_empty() if name in details else table.equals(getattr(every, name)), name
    assert {"launches", "kernel_counts", "memory"} <= details
    assert not {"ledger", "trust", "bandwidth"} & details


def test_a_table_cannot_lean_on_one_that_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "TABLES", (Detail("idle_share", lambda a, made: idle_share(made("ledger"))), *TABLES))
    with pytest.raises(KeyError, match="ledger"):
        analyze(small())


@pytest.mark.usefixtures("any_size")
def test_what_a_table_raises_is_what_analyze_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(a: Attributed, made: Made) -> pl.DataFrame:
        raise ArithmeticError(f"{len(a.ops)} ops")

    first = (Table("broken", fails), Table("leaning", lambda a, made: made("broken")))
    monkeypatch.setattr(tables, "TABLES", (*first, *TABLES))
    with pytest.raises(ArithmeticError, match="2 ops"):
        analyze(small())
