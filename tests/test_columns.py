"""What keeps large columns cheap gives the answers of the plain way."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.analyze.attribution import launches
from aisp_trace.analyze.attribution.launches import Calls
from aisp_trace.tests.examples import examples
from aisp_trace.traces import columns
from aisp_trace.traces.columns import merged, repair, repairs


@given(st.lists(st.integers(-5, 60), max_size=60), st.integers(1, 9), st.booleans())
@settings(max_examples=examples(300))
def test_repairs_put_any_keys_in_stable_order_whatever_the_slices(keys: list[int], size: int, nearly: bool) -> None:
    key = np.array(sorted(keys) if nearly else keys, np.int64)
    if nearly and len(key) > 4:
        key[1], key[4] = key[4], key[1]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(columns, "SLICE", size)
        found = repairs(key)
    assert found is not None
    row = np.arange(len(key))
    repair(row, found)
    assert row.tolist() == np.argsort(key, kind="stable").tolist()


def test_keys_out_of_order_everywhere_are_not_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MOST_LATE", 10)
    assert repairs(np.arange(100)[::-1].copy()) is None
    assert repairs(np.arange(100)) == []


@pytest.mark.parametrize("dtype", [pl.Int32, pl.UInt32, pl.Int64])
def test_a_column_that_the_large_table_lacks_is_null_there(dtype: Any) -> None:
    small = pl.Series("c", [None, 7, None, 9], dtype=dtype)
    found = merged("c", None, small, np.array([0, 2, 3, 5]), 7, dtype)
    assert found.dtype == dtype
    assert found.to_list() == [None, None, 7, None, None, 9, None]


@given(st.lists(st.integers(0, 40), max_size=30), st.lists(st.integers(0, 40), min_size=1, max_size=8))
@settings(max_examples=examples(100))
@pytest.mark.parametrize("dtype", [pl.Int32, pl.UInt32, pl.Int64])
def test_tables_are_merged_in_order(dtype: Any, large: list[int], small: list[int]) -> None:
    big, few = (pl.Series("c", sorted(values), dtype=dtype) for values in (large, small))
    at = columns.places(big.to_numpy(), few.to_numpy())
    rows = len(large) + len(small)
    found = merged("c", big, few, at, rows, dtype)
    assert found.to_list() == sorted(large + small)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), min_size=1, max_size=40), st.integers(0, 60))
@settings(max_examples=examples(200))
def test_calls_near_an_interval_are_all_that_reach_into_it(spans: list[tuple[int, int]], low: int) -> None:
    start = np.array(sorted(s for s, _ in spans), np.int64)
    end = start + np.array([n for _, n in spans], np.int64)
    one = np.ones(len(spans), np.int32)
    calls = Calls(one, one, start, end, one.astype(np.uint32), one.astype(np.int8), one > 1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(launches, "_BLOCK", 4)
        monkeypatch.setattr(launches, "SLICE", 8)
        near = calls.near((1, 1), low, low + 5).tolist()
    assert near == list(range(near[0], near[-1] + 1)) if near else True
    assert set(np.flatnonzero((end > low) & (start < low + 5)).tolist()) <= set(near)
