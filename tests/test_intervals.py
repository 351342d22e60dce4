"""The interval algebra against sets of integer instants: [start, end) is literally the set {start, ..., end - 1}."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.analyze.intervals import (
    Ints,
    common,
    cover,
    gaps,
    grouped_measure,
    measure,
    owned_from,
    union,
)

SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=12)


def arrays(spans: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    """(start, length) pairs as sorted arrays."""
    spans = sorted((s, s + n) for s, n in spans)
    return np.array([s for s, _ in spans], np.int64), np.array([e for _, e in spans], np.int64)


def instants(start: Ints, end: Ints) -> set[int]:
    return {t for s, e in zip(start.tolist(), end.tolist(), strict=True) for t in range(s, e)}


def test_owned_parts_are_the_earliest_started_ones() -> None:
    #    0123456789
    # a  |---|
    # b    |-----|
    # c   |-|
    start, end = np.array([0, 1, 2]), np.array([4, 3, 8])
    assert owned_from(start, end).tolist() == [0, 4, 4]  # c never owns: it would begin at 4, after its end


@given(SPANS)
def test_owned_parts_partition_the_union(spans: list[tuple[int, int]]) -> None:
    start, end = arrays(spans)
    owned = [set(range(b, e)) for b, e in zip(owned_from(start, end).tolist(), end.tolist(), strict=True)]
    assert sum(map(len, owned)) == len(set().union(*owned)) == len(instants(start, end)) == measure(start, end)
    for row, mine in enumerate(owned):
        for t in mine:
            assert not any(s <= t < e for s, e in zip(start[:row].tolist(), end[:row].tolist(), strict=True))


def test_a_cover_may_begin_at_the_smallest_integer() -> None:
    low = np.iinfo(np.int64).min
    starts, ends = np.array([low, low, 5]), np.array([3, 2, 9])
    found = cover(starts, ends)
    assert (found.start.tolist(), found.end.tolist()) == ([low, 5], [3, 9])


@given(SPANS)
def test_a_cover_is_disjoint_sorted_and_idempotent(spans: list[tuple[int, int]]) -> None:
    start, end = arrays(spans)
    once = cover(start, end)
    assert instants(once.start, once.end) == instants(start, end)
    assert (once.end > once.start).all()
    assert (once.start[1:] > once.end[:-1]).all()  # not even touching
    again = cover(once.start, once.end)
    assert again.start.tolist() == once.start.tolist()
    assert again.end.tolist() == once.end.tolist()
    assert once.total == len(instants(start, end))


@given(SPANS, st.integers(-5, 60), st.integers(-5, 60))
def test_measure_before_and_within_and_clip(spans: list[tuple[int, int]], a: int, b: int) -> None:
    low, high = min(a, b), max(a, b)
    busy = cover(*arrays(spans))
    points = instants(busy.start, busy.end)
    assert busy.before(np.array([low])).tolist() == [len([t for t in points if t < low])]
    inside = {t for t in points if low <= t < high}
    assert busy.within(np.array([low]), np.array([high])).tolist() == [len(inside)]
    part = busy.clip(low, high)
    assert instants(part.start, part.end) == inside


@given(SPANS, SPANS)
def test_common_and_union_obey_inclusion_and_exclusion(x: list[tuple[int, int]], y: list[tuple[int, int]]) -> None:
    a, b = cover(*arrays(x)), cover(*arrays(y))
    both = instants(a.start, a.end) & instants(b.start, b.end)
    assert common(a, b) == common(b, a) == len(both)
    assert union(a, b).total == a.total + b.total - len(both)


@given(SPANS, st.integers(-5, 60), st.integers(0, 40))
def test_busy_and_gaps_are_the_window(spans: list[tuple[int, int]], low: int, length: int) -> None:
    busy = cover(*arrays(spans))
    g0, g1 = gaps(busy, low, low + length)
    assert (g1 > g0).all()
    assert (g0[1:] > g1[:-1]).all()
    assert int((g1 - g0).sum()) + busy.clip(low, low + length).total == length
    assert not instants(g0, g1) & instants(busy.start, busy.end)


@given(SPANS, st.data())
def test_grouped_measure_is_measure_of_each_group(spans: list[tuple[int, int]], data: st.DataObject) -> None:
    start, end = arrays(spans)
    group = np.array(data.draw(st.lists(st.integers(-1, 3), min_size=len(spans), max_size=len(spans))), np.int64)
    expected = [measure(start[group == g], end[group == g]) for g in range(4)]
    assert grouped_measure(group, start, end, 4).tolist() == expected
