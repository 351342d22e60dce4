"""Step functions against looking at every instant."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.analyze.attribution.steps import EMPTY, NOTHING, Steps, first_of, innermost, nesting, only_one, pieces
from aisp_trace.analyze.intervals import Ints

TIMES = np.arange(-2, 70, dtype=np.int64)
SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), max_size=9)
SEVERAL = -7


def arrays(spans: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    """(start, length) pairs as arrays sorted by start, longest first."""
    ordered = sorted(((s, s + n) for s, n in spans), key=lambda x: (x[0], -x[1]))
    return np.array([s for s, _ in ordered], np.int64), np.array([e for _, e in ordered], np.int64)


def innermost_at(start: Ints, end: Ints, time: int) -> int:
    open_ = [i for i in range(len(start)) if start[i] <= time < end[i]]
    return max(open_, key=lambda i: (start[i], i), default=NOTHING)


def nested(draw_seed: list[int]) -> tuple[Ints, Ints]:
    """Properly nested spans from a list of small numbers: a push for an even one, a pop for an odd one."""
    stack, spans, time = [], [], 0
    for n in draw_seed:
        time += n // 2
        if n % 2 == 0:
            stack.append(time)
        elif stack:
            spans.append((stack.pop(), time))
    while stack:
        time += 1
        spans.append((stack.pop(), time))
    spans.sort(key=lambda x: (x[0], -x[1]))
    return np.array([s for s, _ in spans], np.int64), np.array([e for _, e in spans], np.int64)


def test_the_innermost_of_nested_ranges() -> None:
    # outer   |-----------------|
    # inner       |---|
    steps = innermost(np.array([0, 3]), np.array([18, 7]))
    assert steps.at.tolist() == [0, 3, 7, 18]
    assert steps.value.tolist() == [0, 1, 0, NOTHING]


def test_ranges_that_touch_and_ranges_that_end_together() -> None:
    # a  |---|
    # b      |-------|
    # c          |---|
    steps = innermost(np.array([0, 4, 8]), np.array([4, 12, 12]))
    assert steps.at.tolist() == [0, 4, 8, 12]
    assert steps.value.tolist() == [0, 1, 2, NOTHING]


@given(SPANS)
def test_innermost_of_any_ranges(spans: list[tuple[int, int]]) -> None:
    start, end = arrays(spans)
    assert innermost(start, end)(TIMES).tolist() == [innermost_at(start, end, t) for t in TIMES.tolist()]


@given(st.lists(st.integers(0, 7), max_size=30))
def test_innermost_and_parents_of_nested_ranges(seed: list[int]) -> None:
    start, end = nested(seed)
    times = np.arange(0, int(end.max(initial=0)) + 2)
    assert innermost(start, end)(times).tolist() == [innermost_at(start, end, t) for t in times.tolist()]
    parent, proper = nesting(start, end)
    assert proper
    for row in range(len(start)):
        others = [i for i in range(len(start)) if i != row and start[i] <= start[row] < end[i] and i < row]
        expected = max(others, key=lambda i: (start[i], i), default=NOTHING)
        if end[row] > start[row]:
            assert parent[row] == expected


@given(SPANS)
def test_a_parent_is_the_innermost_that_holds_its_child(spans: list[tuple[int, int]]) -> None:
    start, end = arrays(spans)
    parent, _ = nesting(start, end)
    for row in np.flatnonzero(end > start).tolist():
        holders = [i for i in range(row) if start[i] <= start[row] < end[i] and end[row] <= end[i]]
        assert parent[row] == max(holders, key=lambda i: (start[i], i), default=NOTHING)


def test_crossing_ranges_are_noticed() -> None:
    # a  |-----|
    # b     |-----|
    parent, proper = nesting(np.array([0, 3]), np.array([6, 9]))
    assert (parent.tolist(), proper) == ([NOTHING, NOTHING], False)


@given(st.lists(SPANS, max_size=3))
def test_only_one_and_first_of(sets: list[list[tuple[int, int]]]) -> None:
    functions = [
        innermost(*arrays(spans), value=np.arange(100 * k, 100 * k + len(spans))) for k, spans in enumerate(sets)
    ]
    joined = only_one(functions, SEVERAL)
    for t in TIMES.tolist():
        values = [v for f in functions if (v := int(f(np.array([t]))[0])) != NOTHING]
        expected = NOTHING if not values else values[0] if len(values) == 1 else SEVERAL
        assert int(joined(np.array([t]))[0]) == expected
    a, b = [*functions, EMPTY, EMPTY][:2]
    expected_first = np.where(a(TIMES) != NOTHING, a(TIMES), b(TIMES))
    assert first_of(a, b)(TIMES).tolist() == expected_first.tolist()


@given(SPANS, st.lists(st.integers(0, 55), max_size=10))
def test_pieces_partition_each_interval_at_the_cuts(spans: list[tuple[int, int]], cuts: list[int]) -> None:
    start, end = arrays(spans)
    at = np.unique(np.array(cuts, np.int64))
    row, low, high = pieces(start, end, at)
    for i in range(len(start)):
        inner = [c for c in at.tolist() if start[i] < c < end[i]]
        edges = [int(start[i]), *inner, int(end[i])] if end[i] > start[i] else []
        mine = row == i
        assert list(zip(low[mine].tolist(), high[mine].tolist(), strict=True)) == list(pairwise(edges))


def test_steps_before_the_first_and_without_any() -> None:
    assert Steps(np.array([5]), np.array([2]))(np.array([4, 5])).tolist() == [NOTHING, 2]
    assert EMPTY(np.array([1])).tolist() == [NOTHING]


def test_a_chain_of_requests_that_overlap_stays_flat() -> None:
    # each starts before the one before it ends: |-----|
    #                                                |-----|
    #                                                   |-----| ...
    start = np.arange(0, 3_000_000, 30)
    parent, proper = nesting(start, start + 50)
    assert not proper
    assert (parent == NOTHING).all()
