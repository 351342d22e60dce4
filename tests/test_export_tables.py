"""Exported tables: every value comes back, and no spreadsheet runs one."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import SCHEMAS as ANALYSIS
from aisp_trace.analyze.result import Analysis
from aisp_trace.report.export.tables import for_csv, tables, write_tables
from aisp_trace.tests.builders.samples import unpack
from aisp_trace.tests.oracle.build import build, call, device, op, span
from aisp_trace.traces.model import TABLES, Trace
from aisp_trace.traces.open import open_trace

DANGEROUS = ["=cmd()", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'quoted"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, Analysis]:
    trace = open_trace(unpack("h100_pipeline_decode", tmp_path_factory.mktemp("trace")))
    return trace, analyze(trace)


def as_text(table: pl.DataFrame) -> pl.DataFrame:
    """`table` without dictionaries, whose unused words are not part of its content."""
    return table.with_columns(pl.col(c).cast(pl.String) for c, t in table.schema.items() if isinstance(t, pl.Enum))


def test_parquet_holds_every_table_exactly(recorded: tuple[Trace, Analysis], tmp_path: Path) -> None:
    trace, analysis = recorded
    count = write_tables(trace, analysis, tmp_path, "parquet")
    stored = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))
    names = [name for name, _ in tables(trace, analysis)]
    assert count == len(names) and list(stored["tables"]) == names
    assert {f"trace/{t}" for t in TABLES} | {f"analysis/{t}" for t in ANALYSIS} == set(names)
    for name, table in tables(trace, analysis):
        facts = stored["tables"][name]
        assert_frame_equal(as_text(pl.read_parquet(tmp_path / facts["file"])), as_text(table))
        assert facts["rows"] == len(table) and list(facts["columns"]) == table.columns
    assert stored["schema"] == "aisp-trace/export/1" and stored["format"] == "parquet"
    assert stored["trace"]["recorder"] == "nsys" and stored["variant"] is None
    assert len(list(tmp_path.rglob("*.parquet"))) == count


def test_csv_reads_back_with_pandas(recorded: tuple[Trace, Analysis], tmp_path: Path) -> None:
    trace, analysis = recorded
    write_tables(trace, analysis, tmp_path, "csv")
    for name, table in tables(trace, analysis):
        found = pd.read_csv(tmp_path / f"{name}.csv")
        assert list(found.columns) == table.columns and len(found) == len(table)
    ops = pd.read_csv(tmp_path / "trace" / "ops.csv")
    assert (ops["end_ns"] - ops["start_ns"]).sum() == (trace.ops["end_ns"] - trace.ops["start_ns"]).sum()
    assert ops["name"].tolist() == trace.ops["name"].cast(pl.String).to_list()


def test_every_table_becomes_a_pandas_frame(recorded: tuple[Trace, Analysis]) -> None:
    trace, analysis = recorded
    for name, table in tables(trace, analysis):
        frame = table.to_pandas()
        assert frame.shape == table.shape, name
        assert list(frame.columns) == table.columns
    assert int(analysis.ledger.to_pandas()["ns"].sum()) == analysis.ledger["ns"].sum()
    assert trace.ops.to_pandas()["kind"].astype(str).tolist() == trace.ops["kind"].cast(pl.String).to_list()


def test_tables_without_rows_become_pandas_frames_too() -> None:
    trace = build(devices=[device(0)], ops=[op("compute", 0, 5, 1)], api=[call("launch", 0, 1, 1)])
    for name, table in tables(trace, analyze(trace)):
        assert list(table.to_pandas().columns) == table.columns, name


def test_a_name_that_is_a_formula_is_text_in_csv_and_itself_in_parquet(tmp_path: Path) -> None:
    names = [*DANGEROUS, 'a "b", c\nd', "plain", "a=b"]
    trace = build(ranges=[span(n, i, i + 1) for i, n in enumerate(names)], ops=[op("compute", 0, 5, 1)])
    for form in ("csv", "parquet"):
        (tmp_path / form).mkdir()
        write_tables(trace, analyze(trace), tmp_path / form, form)
    with (tmp_path / "csv" / "trace" / "ranges.csv").open(encoding="utf-8", newline="") as file:
        shown = [row["name"] for row in csv.DictReader(file)]
    assert shown == [*(f"'{n}" for n in DANGEROUS), 'a "b", c\nd', "plain", "a=b"]
    kept = pl.read_parquet(tmp_path / "parquet" / "trace" / "ranges.parquet")["name"].cast(pl.String)
    assert kept.to_list() == names


@given(st.lists(st.one_of(st.none(), st.text(alphabet="=+-@'\t\r\n\",ab", max_size=4)), min_size=1, max_size=8))
def test_taking_one_apostrophe_away_restores_the_text(values: list[str | None]) -> None:
    shown: list[Any] = for_csv(pl.DataFrame({"name": values}, schema={"name": pl.String}))["name"].to_list()
    assert [s[1:] if s is not None and s.startswith("'") else s for s in shown] == values
    assert not any(s is not None and s[:1] in tuple("=+-@\t\r") and s for s in shown)


def test_numbers_are_not_text(tmp_path: Path) -> None:
    table = for_csv(pl.DataFrame({"ns": [-5, None], "share": [-0.5, None], "name": ["", None]}))
    assert table.write_csv(quote_style="non_numeric") == '"ns","share","name"\n-5,-0.5,""\n,,\n'


def test_another_format_is_refused(recorded: tuple[Trace, Analysis], tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_tables(*recorded, tmp_path, "xlsx")
    assert list(tmp_path.iterdir()) == []
