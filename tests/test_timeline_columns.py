"""Columns of the page's timeline: what goes in comes out of a decoder that shares nothing with the encoder."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.report.page.timeline.columns import Columns, by_class, steps_between
from aisp_trace.report.page.timeline.names import MOST, Names
from aisp_trace.tests.builders.timeline_payload import Payload

ROWS = st.lists(st.integers(-(2**61), 2**61), max_size=40)


@given(st.lists(st.tuples(st.booleans(), ROWS), max_size=5))
def test_columns_come_back(columns: list[tuple[bool, list[int]]]) -> None:
    made = Columns()
    given_: list[list[int]] = []
    for signed, values in columns:
        held = values if signed else [abs(v) for v in values]
        assert made.add(np.array(held, np.int64), signed=signed) == len(given_)
        given_.append(held)
    read = Payload(made.payload({"name": "</script>\u202e"}))
    assert [read.column(i) for i in range(len(given_))] == given_
    assert read.header["name"] == "</script>\u202e"


@given(st.lists(st.tuples(st.integers(-(10**15), 10**15), st.integers(0, 10**12), st.integers(0, 3)), max_size=40))
def test_intervals_come_back(rows: list[tuple[int, int, int]]) -> None:
    rows.sort(key=lambda row: row[0])
    start, length, cls = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    made = Columns()
    lane = {
        "step": made.add(steps_between(start, start + length), signed=True),
        "length": made.add(by_class(length, cls)),
        "class": made.add(cls),
    }
    assert Payload(made.payload({})).intervals(lane) == [(s, s + n, c) for s, n, c in rows]


def test_what_is_not_signed_holds_nothing_negative() -> None:
    with pytest.raises(ValueError, match="column 0 holds -1"):
        Columns().add(np.array([-1]))


def test_small_values_take_few_bytes() -> None:
    made = Columns()
    made.add(np.arange(100_000) % 7)
    assert len(made.payload({})) < 1_500


def _column(words: list[str]) -> pl.Series:
    return pl.Series("name", words, dtype=pl.Enum(list(dict.fromkeys(words))))


def test_names_are_held_once_and_clipped() -> None:
    names = Names()
    long = ["x" * 4_000_000 + end for end in ("a", "b")]
    assert names.of(_column(["gemm", *long, "gemm", long[0]])).tolist() == [0, 1, 2, 0, 1]
    assert names.words[0] == "gemm" and all(len(word) < 180 for word in names.words)
    assert len(set(names.words)) == 3


def test_names_that_read_the_same_when_clipped_are_told_apart() -> None:
    names = Names()
    alike = ["k" * 110 + middle * 200 + "z" * 60 for middle in "abc"]
    assert names.of(_column(alike)).tolist() == [0, 1, 2]
    assert len(set(names.words)) == 3


def test_the_rarest_of_too_many_names_share_one() -> None:
    words = [f"kernel_{i}" for i in range(MOST + 5)]
    names = Names()
    numbers = names.of(_column([*words, *words[:MOST]]))
    assert len(names.words) == MOST + 1 and names.words[int(numbers[MOST + 4])] == "(one of 5 rarer names)"


def test_unseen_characters_and_nulls_are_shown() -> None:
    names = Names()
    column = pl.Series("name", ["a\x1b\u202e", None, ""], dtype=pl.Enum(["a\x1b\u202e", ""]))
    assert [names.words[i] for i in names.of(column).tolist()] == ["a\\x1b\\u202e", "(unnamed)", "(unnamed)"]
