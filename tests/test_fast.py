"""The compiled primitives against their numpy versions, and whole analyses with them forced on and off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.analyze import acceleration
from aisp_trace.analyze.accounts.concurrency import busy_levels
from aisp_trace.analyze.accounts.ledger import Cells, DeviceOps, Gaps, _last_to_end, busy_cells, summed
from aisp_trace.analyze.accounts.overlap import overlaps
from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution import launches
from aisp_trace.analyze.attribution.launches import Calls, grouped_rows
from aisp_trace.analyze.attribution.steps import innermost, nesting
from aisp_trace.analyze.document import document
from aisp_trace.analyze.intervals import common, cover, grouped_measure, measure, minus, near_rows, place_right, union
from aisp_trace.tests.optional import needs_numba
from aisp_trace.tests.oracle.campaigns import seeds
from aisp_trace.tests.oracle.strategies import seeded_case
from aisp_trace.tests.test_oracle import check
from aisp_trace.traces.compiled import Loader
from aisp_trace.traces.model import KINDS

NEVER = 1 << 62

INTERVALS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), max_size=25)
LABELS = st.lists(st.integers(-1, 4), min_size=25, max_size=25)


def both(monkeypatch: pytest.MonkeyPatch, compute: Callable[[], Any]) -> tuple[Any, Any]:
    """(with the compiled primitives, with numpy)."""
    answers = []
    for threshold in (0, NEVER):
        monkeypatch.setattr(acceleration, "THRESHOLD", threshold)
        assert (acceleration.accelerated(5) is not None) == (threshold == 0)
        answers.append(compute())
    return answers[0], answers[1]


def in_order(spans: list[tuple[int, int]]) -> tuple[Any, Any]:
    """(start, end) of ``(start, length)`` spans, by start, longest first."""
    ordered = sorted((s, -(s + n)) for s, n in spans)
    return np.array([s for s, _ in ordered], np.int64), np.array([-e for _, e in ordered], np.int64)


def same(pair: tuple[Any, Any]) -> None:
    assert [np.asarray(a).tolist() for a in pair[0]] == [np.asarray(b).tolist() for b in pair[1]]


@needs_numba
@given(INTERVALS, INTERVALS, LABELS)
@settings(max_examples=300)
def test_unions(a: list[tuple[int, int]], b: list[tuple[int, int]], labels: list[int]) -> None:
    start, end = in_order(a)
    other = in_order(b)
    group = np.array(labels[: len(start)], np.int8)

    def compute() -> list[Any]:
        first, second = cover(start, end), cover(*other)
        whole, rest = union(first, second), minus(first, second)
        return [
            measure(start, end),
            grouped_measure(group, start, end, 5),
            *(x for c in (first, second, whole, rest) for x in (c.start, c.end, c.total)),
            common(first, second),
            common(whole, first),
            _last_to_end(end),
        ]

    with pytest.MonkeyPatch.context() as monkeypatch:
        compiled, plain = both(monkeypatch, compute)
    same((compiled, plain))
    first, second = cover(start, end), cover(*other)
    assert minus(first, second).total == first.total - common(first, second)


@needs_numba
@given(INTERVALS, st.lists(st.integers(-3, 60), max_size=30))
@settings(max_examples=300)
def test_steps(spans: list[tuple[int, int]], times: list[int]) -> None:
    start, end = in_order(spans)
    time = np.array(times, np.int64)

    def compute() -> list[Any]:
        steps, (parent, proper) = innermost(start, end), nesting(start, end)
        return [steps.at, steps.value, steps(time), parent, proper, place_right(start, time)]

    with pytest.MonkeyPatch.context() as monkeypatch:
        same(both(monkeypatch, compute))


@needs_numba
@given(INTERVALS, st.lists(st.integers(0, len(KINDS) - 1), min_size=25, max_size=25), LABELS)
@settings(max_examples=200)
def test_overlap_of_a_stage_and_the_others(spans: list[tuple[int, int]], kinds: list[int], labels: list[int]) -> None:
    start, end = in_order(spans)
    kind, mine = np.array(kinds[: len(start)], np.int8), np.array(labels[: len(start)]) > 1

    with pytest.MonkeyPatch.context() as monkeypatch:
        rows = slice(0, len(start))
        compiled, plain = both(monkeypatch, lambda: list(overlaps(kind, start, end, [(rows, mine), (rows, ~mine)])))
    assert compiled == plain


@needs_numba
@given(INTERVALS, st.lists(st.integers(0, len(KINDS) - 1), min_size=25, max_size=25), LABELS)
@settings(max_examples=300)
def test_what_runs_beside_a_stage_lies_near_it(
    spans: list[tuple[int, int]], kinds: list[int], labels: list[int]
) -> None:
    start, end = in_order(spans)
    kind, mine = np.array(kinds[: len(start)], np.int8), np.array(labels[: len(start)]) > 1
    if not mine.any():
        return
    near = near_rows(start, end)(int(start[mine].min()), int(end[mine].max()))
    solid = mine & (end > start)
    assert mine[near].sum() >= solid.sum()
    _, found, wanted = overlaps(kind, start, end, [(near, mine[near]), (slice(0, len(start)), mine)])
    assert found == wanted


@needs_numba
@given(INTERVALS, st.lists(st.integers(0, len(KINDS) - 1), min_size=25, max_size=25))
@settings(max_examples=300)
def test_owned_time(spans: list[tuple[int, int]], kinds: list[int]) -> None:
    start, end = in_order(spans)
    kind, row = np.array(kinds[: len(start)], np.int8), np.arange(len(start))

    def compute() -> list[Any]:
        ops = DeviceOps(start, end, kind, row, row, launched=lambda _: pytest.fail("not asked for"))
        cells, busy = busy_cells(ops, 5, 50)
        owned = np.zeros(len(start), np.int64)
        owned[cells.stage] = cells.ns
        return [owned, busy.start, busy.end]

    with pytest.MonkeyPatch.context() as monkeypatch:
        same(both(monkeypatch, compute))


@needs_numba
@given(st.lists(st.tuples(*[st.integers(-1, 3)] * 4, st.integers(0, 9)), max_size=30))
@settings(max_examples=200)
def test_sums_of_cells(rows: list[tuple[int, ...]]) -> None:
    stage, iteration, category, cause, ns = (np.array([r[i] for r in rows], np.int64) for i in range(5))

    def compute() -> list[Any]:
        return summed(Cells(stage, iteration, category, cause, ns), stage.astype(np.int32)).sort(pl.all()).rows()

    with pytest.MonkeyPatch.context() as monkeypatch:
        compiled, plain = both(monkeypatch, compute)
    assert compiled == plain


@needs_numba
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 200)), max_size=40))
@settings(max_examples=100)
def test_threads_and_their_rows(rows: list[tuple[int, int]]) -> None:
    pid, tid = (np.array([r[i] for r in rows], np.int32) for i in range(2))
    none = np.zeros(len(rows), np.int64)

    def compute() -> list[Any]:
        calls = Calls(pid, tid, none, none, none.astype(np.uint32), none.astype(np.int8), none.astype(bool))
        order, first = grouped_rows(calls.thread, len(calls.threads))
        return [calls.threads, calls.thread, order, first]

    with pytest.MonkeyPatch.context() as monkeypatch:
        same(both(monkeypatch, compute))


@needs_numba
@given(INTERVALS, st.lists(st.integers(0, 4), min_size=25, max_size=25))
@settings(max_examples=200)
def test_busy_streams(spans: list[tuple[int, int]], lanes: list[int]) -> None:
    start, end = in_order(spans)
    lane = np.array(lanes[: len(start)], np.int16)

    def compute() -> list[Any]:
        busy = busy_levels(lane, start, end, 5)
        return [busy.levels, busy.streams]

    with pytest.MonkeyPatch.context() as monkeypatch:
        same(both(monkeypatch, compute))


@given(
    st.lists(st.tuples(st.integers(1, 2), st.integers(0, 12), st.integers(0, 40)), max_size=30),
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 14), st.integers(0, 40)), max_size=10),
    st.sampled_from([1, 1 << 24]),
)
@settings(max_examples=300)
def test_calls_of_few_ops(calls: list[tuple[int, int, int]], ops: list[tuple[int, int, int]], spread: int) -> None:
    pid, correlation, start = (np.array([c[i] for c in sorted(calls, key=lambda c: c[2])], np.int64) for i in range(3))
    none = np.zeros(len(calls), np.int64)
    ids = (correlation * spread).astype(np.uint32)
    made = Calls(pid.astype(np.int32), none, start, start, ids, none.astype(np.int8), none > 0)
    table = pl.DataFrame(
        [(p, c * spread, s) for p, c, s in ops],
        schema={"pid": pl.Int32, "correlation": pl.UInt32, "start_ns": pl.Int64},
        orient="row",
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = []
        for few in (0, NEVER):  # as if there were few ops, and as if there were many
            monkeypatch.setattr(launches, "FEW", few)
            found.append(launches.launching_calls(table, made).tolist())
    assert found[0] == found[1]


@given(st.lists(st.integers(1, 6), max_size=30), st.integers(1, 12))
def test_largest_gaps(lengths: list[int], most: int) -> None:
    start = np.arange(len(lengths)) * 10
    end = start + np.array(lengths, np.int64)
    found = Gaps(start, end, start, start, start).largest(most)
    assert found.start_ns.tolist() == [
        10 * i for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))[:most]
    ]


@needs_numba
@pytest.mark.parametrize("tried", seeds(100, 400, 100))
def test_definitions_hold_when_forced_on(tried: range, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "THRESHOLD", 0)
    for seed in tried:
        check(seeded_case(seed))


@needs_numba
@pytest.mark.parametrize("tried", seeds(30, 60, 30))
def test_whole_documents_are_equal(tried: range) -> None:
    for seed in tried:
        case = seeded_case(seed)
        if isinstance(case.window, tuple) and case.window[1] <= case.window[0]:
            continue
        if case.domain is not None and not (case.trace.ranges["domain"] == case.domain).any():
            continue

        def compute(case: Any = case) -> Any:
            return document([analyze(case.trace, window=case.window, attribution=case.attribution, domain=case.domain)])

        with pytest.MonkeyPatch.context() as monkeypatch:
            compiled, plain = both(monkeypatch, compute)
        assert compiled == plain


def test_small_inputs_take_what_is_kept_and_never_wait_for_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    loader = Loader(".absent", "aisp_trace.analyze")
    monkeypatch.setattr(loader, "get", lambda compiling: asked.append(compiling))
    monkeypatch.setattr(acceleration, "FAST", loader)
    for size in (1, 19_999, 20_000, 199_999, 200_000):
        acceleration.accelerated(size)
    assert asked == [False, False, True]


def test_absent_numba_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "THRESHOLD", 0)
    monkeypatch.setattr(acceleration, "FAST", Loader(".absent", "aisp_trace.analyze"))
    assert acceleration.accelerated(1) is None
    check(seeded_case(1))


def test_compiling_is_announced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    said: list[str] = []
    monkeypatch.setattr(acceleration, "SLOW_LOAD_S", 0.01)
    slow = Loader(".absent", "aisp_trace.analyze")
    monkeypatch.setattr(slow, "_import", lambda only_kept: time.sleep(0.2))
    monkeypatch.setattr(acceleration, "FAST", slow)
    acceleration.prepare(said.append)
    acceleration.prepare(said.append)
    assert said == ["compiling the fast primitives, once"]
