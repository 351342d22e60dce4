"""Traces from frames of the user's own: what is filled and refused; a recording's own tables give the recording's figures."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import polars as pl
import pytest

import aisp_trace
from aisp_trace.tests.builders.samples import SAMPLES
from aisp_trace.traces.errors import AispTraceError, EmptyTraceError
from aisp_trace.traces.model import SCHEMAS, TABLES
from aisp_trace.traces.open import open_trace

GRAPHS = str(SAMPLES / "h200_graphs.sqlite.xz")

# device 0   compute |####|      |###|
#            h2d       |####|
#            0        2 4   6   9   12
OPS: dict[str, list[Any]] = {"kind": ["compute", "h2d", "compute"], "start_ns": [0, 2, 9], "end_ns": [4, 6, 12]}


def ledger(trace: Any) -> dict[str, int]:
    found = aisp_trace.analyze(trace).ledger
    return dict(found.group_by("category").agg(pl.col("ns").sum()).iter_rows())


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_three_operations_are_enough(frame: Any) -> None:
    trace = aisp_trace.from_tables(ops=frame({**OPS, "mine": ["a", "b", "c"]}))
    assert ledger(trace) == {"compute": 7, "h2d": 2, "idle": 3}
    assert "mine" not in trace.ops.columns
    assert trace.ops["name"].cast(pl.String).to_list() == OPS["kind"]


def test_times_of_pandas_are_nanoseconds() -> None:
    ops = pd.DataFrame({**OPS, "start_ns": pd.to_timedelta(OPS["start_ns"], unit="us")})
    ops["end_ns"] = pd.to_timedelta(OPS["end_ns"], unit="us")
    assert ledger(aisp_trace.from_tables(ops=ops)) == {"compute": 7000, "h2d": 2000, "idle": 3000}


def test_whole_floats_and_holes_of_pandas_are_integers_and_nulls() -> None:
    ops = pd.DataFrame({**OPS, "nbytes": [None, 64, None]})
    assert ops["nbytes"].dtype == "float64"
    assert aisp_trace.from_tables(ops=ops).ops["nbytes"].to_list() == [None, 64, None]


def test_calls_and_ranges_give_stages() -> None:
    # thread  step [-------------------)   launches at 0, 1, 8
    ops = pd.DataFrame({**OPS, "correlation": [1, 2, 3]})
    api = pd.DataFrame({"name": ["cudaLaunchKernel", "cudaMemcpyAsync", "cudaLaunchKernel"], "start_ns": [0, 1, 8]})
    api = api.assign(end_ns=api["start_ns"] + 1, correlation=[1, 2, 3])
    ranges = pd.DataFrame({"name": ["step"], "start_ns": [0], "end_ns": [20]})
    found = aisp_trace.analyze(aisp_trace.from_tables(ops=ops, api=api, ranges=ranges))
    assert set(found.ledger.filter(pl.col("category") != "idle")["stage"]) == {"step"}
    assert found.ledger["ns"].sum() == 12


@pytest.mark.parametrize("convert", [lambda t: t, lambda t: t.to_pandas()], ids=["polars", "pandas"])
def test_a_recordings_own_tables_give_its_own_figures(convert: Any) -> None:
    trace = open_trace(GRAPHS)
    again = aisp_trace.from_tables(trace.meta.file, **{name: convert(trace.table(name)) for name in TABLES})
    for name in TABLES:
        assert dict(again.table(name).schema).keys() == SCHEMAS[name].keys()
    one, other = aisp_trace.analyze(trace), aisp_trace.analyze(again)
    for name, table in one.tables().items():
        if name not in ("trust", "diagnostics"):  # which tell what the recorder was
            assert table.sort(table.columns).equals(other.tables()[name].sort(table.columns)), name


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({}, "a trace needs operations or ranges"),
        ({"api": OPS}, "a trace needs operations or ranges"),
        ({"op": OPS}, "no table is called 'op'; tables are ops, api"),
        ({"ops": OPS}, "ops is no frame of pandas or polars, but dict"),
        ({"ops": pd.DataFrame({"kind": ["compute"], "start_ns": [1]})}, "ops lacks the column 'end_ns'; it needs kind, start_ns"),
        ({"ops": pd.DataFrame({**OPS, "kind": ["compute", "copy", "h2d"]})}, "ops.kind holds"),
        ({"ops": pd.DataFrame({**OPS, "start_ns": [0.5, 2, 9]})}, "ops.start_ns holds numbers that are not whole"),
        ({"ops": pd.DataFrame({**OPS, "start_ns": ["a", "b", "c"]})}, "ops.start_ns holds String"),
        ({"ops": pd.DataFrame({**OPS, "end_ns": [4, 1, 12]})}, "row 1 of ops ends before it starts"),
        ({"ops": pd.DataFrame({**OPS, "end_ns": [4, None, 12]})}, "ops.end_ns has a row without a value"),
        ({"ops": pd.DataFrame({**OPS, "device": [0, 1 << 40, 0]})}, "ops.device holds Int64"),
        ({"ops": pd.DataFrame({**OPS, "start_ns": [float("inf"), 2, 9]})}, "ops.start_ns holds Float64"),
    ],
)  # fmt: skip
def test_what_is_no_trace_is_refused_in_a_sentence(tables: dict[str, Any], said: str) -> None:
    with pytest.raises(AispTraceError, match=re.escape(said)) as caught:
        aisp_trace.from_tables(**tables)
    assert "\n" not in str(caught.value)


def test_no_operation_at_all_is_said() -> None:
    with pytest.raises(EmptyTraceError, match="neither operations nor ranges have a row"):
        aisp_trace.from_tables(ops=pd.DataFrame({name: [] for name in OPS}))


def test_a_trace_is_opened_by_a_string_as_well() -> None:
    assert open_trace(GRAPHS).ops.equals(aisp_trace.open(GRAPHS).ops)
