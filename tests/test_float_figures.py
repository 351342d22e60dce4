"""Figures that are kept as floats: no exponent where they are large, and a unit that people read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.expectations.claims.skeleton import NO_LIMIT_MS
from aisp_trace.expectations.deciding import bound_words
from aisp_trace.expectations.judging.verdict import Verdict
from aisp_trace.expectations.model import Bound
from aisp_trace.report.ci.junit import working
from aisp_trace.report.page.verdicts import lines_of
from aisp_trace.report.terminal.verdicts import cells, verdict_table
from aisp_trace.tests.judging.build import DEFINITION
from aisp_trace.traces.figures import milliseconds, significant


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0 ms"),
        (0.01234, "0.01234 ms"),
        (883.34, "883.3 ms"),
        (9999.0, "9999 ms"),
        (10_000.0, "10 s"),
        (12_345.0, "12.35 s"),
        (-75_300.0, "-75.3 s"),
        (599_999.0, "600 s"),
        (600_000.0, "10 min"),
        (NO_LIMIT_MS, "60 min"),
        (math.inf, "inf ms"),
    ],
)
def test_times_in_milliseconds(value: float, said: str) -> None:
    assert milliseconds(value) == said


@given(st.floats(1e-4, 1e300))
def test_no_figure_has_an_exponent(value: float) -> None:
    assert "e" not in significant(value) and "e" not in milliseconds(value)
    assert float(significant(value).replace(",", "")) == pytest.approx(value, rel=1e-3)


def test_small_ones_are_as_they_were() -> None:
    assert [significant(v) for v in (1.5, 0.02, 1234.5, 2.0, 1e-7)] == ["1.5", "0.02", "1234", "2", "1e-07"]
    assert (bound_words(None, 3.6e6), bound_words(1.5, 3.0)) == ("<= 3,600,000", "1.5 .. 3")


def verdict(unit: str, value: float, low: float, high: float, most: float) -> Verdict:
    return Verdict(
        claim="train.faster",
        quantity="time of optimized",
        status="met",
        reason="",
        variant="optimized",
        hardware_key="gpu",
        expected_on="gpu",
        source=DEFINITION,
        unit=unit,
        bound=Bound(None, most),
        value=value,
        low=low,
        high=high,
        margin=most - high,
        n=8,
        sample="rounds",
    )


def test_a_verdict_on_a_long_time_is_in_seconds_on_every_face() -> None:
    long = verdict("ms", 12_345, 12_100, 12_400, NO_LIMIT_MS)
    shown = cells(long)
    assert (shown.value, shown.interval, shown.bound, shown.margin) == (
        "12.35 s",
        "12.1 s .. 12.4 s",
        "<= 60 min",
        "+59.8 min",
    )
    assert "[ms]" not in verdict_table([long], "train", 120)
    assert working(long).startswith(
        "value 12.35 s, interval 12.1 s .. 12.4 s, bound <= 60 min, margin +59.8 min, n 8 rounds"
    )
    (line,) = lines_of([long])
    assert (line.value, line.bound, line.margin) == ("12.35 s", "≤ 60 min", "+59.79 min")


def test_a_short_one_stays_in_milliseconds_whatever_its_bound() -> None:
    short = verdict("ms", 12.3, 12.2, 12.4, NO_LIMIT_MS)
    assert (cells(short).value, cells(short).bound, cells(short).margin) == ("12.3", "<= 60 min", "+60 min")
    assert "time of optimized [ms]" in verdict_table([short], "train", 120)


def test_other_units_are_themselves() -> None:
    assert cells(verdict("ratio", 2.0, 1.9, 2.1, 3.0)).margin == "+0.9"
    assert cells(verdict("bytes", 5.36870912e9, 5.3e9, 5.4e9, 6e9)).value == "5369 MB"
    assert cells(verdict("count", 1_234_567, 1, 2, 3e6)).value == "1,234,567"
    assert cells(verdict("ratio", 2.0, 1.9, 3.0, 3.0)).margin == "+0"
