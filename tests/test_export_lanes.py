"""Lanes: what shares a track, and the order of begins and ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.report.export.lanes import OPEN, lanes, order

Spans = list[tuple[int, int]]


def laid_out(spans: Spans, *, nest: bool) -> list[list[str]]:
    """Each lane's events as words: ``+a`` where the first span begins, ``-a`` where it ends."""
    start, end = (np.array([s[i] for s in spans], np.int64) for i in (0, 1))
    rows = order(start, end)
    word = ["abcdefghijkl"[i] for i in rows.tolist()]
    return [
        [f"+{word[i]}" if i >= 0 else f"-{word[~i]}" for i in lane.tolist()]
        for lane in lanes(start[rows], end[rows], nest=nest)
    ]


def test_what_nests_shares_a_lane_in_stack_order() -> None:
    #      0    5    10
    # a    |---------|
    # b    |----|          begins with a, so a comes first
    # c         |----|     ends with a, so c ends first; begins when b ends, so b ends first
    assert laid_out([(0, 10), (0, 5), (5, 10)], nest=True) == [["+a", "+b", "-b", "+c", "-c", "-a"]]


def test_what_crosses_goes_to_the_next_lane() -> None:
    # a    |------|
    # b        |------|
    # c               |--|
    assert laid_out([(0, 7), (4, 11), (11, 14)], nest=True) == [["+a", "-a", "+c", "-c"], ["+b", "-b"]]


def test_without_nesting_whatever_overlaps_goes_to_the_next_lane() -> None:
    # a    |----------|
    # b      |--|
    # c         |--|
    # d               |--|
    spans = [(0, 11), (2, 5), (5, 8), (11, 14)]
    assert laid_out(spans, nest=False) == [["+a", "-a", "+d", "-d"], ["+b", "-b", "+c", "-c"]]


def test_empty_spans_stay() -> None:
    assert laid_out([(3, 3), (3, 3), (3, 5)], nest=True) == [["+c", "+a", "-a", "+b", "-b", "-c"]]
    assert laid_out([(3, 3), (3, 3)], nest=False) == [["+a", "-a", "+b", "-b"]]


def test_an_open_span_has_no_end() -> None:
    assert laid_out([(0, OPEN)], nest=True) == [["+a"]]
    assert laid_out([(0, OPEN), (2, 4)], nest=True) == [["+a", "+b", "-b"]]
    assert laid_out([(0, 6), (2, OPEN)], nest=True) == [["+a", "-a"], ["+b"]]


def test_nothing_needs_no_lane() -> None:
    assert laid_out([], nest=True) == []


SPAN = st.tuples(st.integers(0, 20), st.integers(0, 8), st.booleans()).map(
    lambda s: (s[0], OPEN if s[2] and s[1] == 0 else s[0] + s[1])
)


@pytest.mark.parametrize("nest", [True, False])
@given(spans=st.lists(SPAN, max_size=12))
def test_a_viewers_stack_gets_every_span_back(nest: bool, spans: Spans) -> None:
    """Times never go back, every end closes what was opened last, and each span appears once."""
    start, end = (np.array([s[i] for s in spans], np.int64) for i in (0, 1))
    rows = order(start, end)
    start, end = start[rows], end[rows]
    seen = []
    for lane in lanes(start, end, nest=nest):
        stack: list[int] = []
        clock = 0
        for event in lane.tolist():
            at = int(start[event] if event >= 0 else end[~event])
            assert at >= clock
            clock = at
            if event >= 0:
                assert nest or not stack
                stack.append(event)
                seen.append(event)
            else:
                assert stack.pop() == ~event
        assert all(end[i] == OPEN for i in stack)
    assert sorted(seen) == list(range(len(spans)))
