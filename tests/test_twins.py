"""Every compiled primitive against its plain twin, and whole analyses with them forced on and off."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.analyze.accounts.concurrency import busy_levels
from aisp_trace.analyze.accounts.ledger import Cells, DeviceOps, Gaps, _last_to_end, busy_cells, summed
from aisp_trace.analyze.accounts.overlap import overlaps
from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution import launches
from aisp_trace.analyze.attribution.launches import Calls, grouped_rows
from aisp_trace.analyze.attribution.steps import innermost, nesting
from aisp_trace.analyze.document import document
from aisp_trace.analyze.headroom.replay import _replay
from aisp_trace.analyze.intervals import common, cover, grouped_measure, measure, minus, near_rows, place_right, union
from aisp_trace.tests.examples import examples
from aisp_trace.tests.optional import force, needs_numba
from aisp_trace.tests.oracle.campaigns import seeds
from aisp_trace.tests.oracle.strategies import seeded_case
from aisp_trace.tests.test_oracle import check
from aisp_trace.traces import engine
from aisp_trace.traces.model import KINDS

NEVER = 1 << 62
COMPILED = "aisp_trace.analyze.compiled"

INTERVALS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), max_size=25)
LABELS = st.lists(st.integers(-1, 4), min_size=25, max_size=25)


def both(monkeypatch: pytest.MonkeyPatch, compute: Callable[[], Any]) -> tuple[Any, Any]:
    """(with the compiled primitives, with numpy)."""
    answers = []
    for compiled in (True, False):
        force(monkeypatch, compiled=compiled)
        assert (engine.compiled(5, COMPILED) is not None) == compiled
        answers.append(compute())
    return answers[0], answers[1]


def in_order(spans: list[tuple[int, int]]) -> tuple[Any, Any]:
    """(start, end) of ``(start, length)`` spans, by start, longest first."""
    ordered = sorted((s, -(s + n)) for s, n in spans)
    return np.array([s for s, _ in ordered], np.int64), np.array([-e for _, e in ordered], np.int64)


def same(pair: tuple[Any, Any]) -> None:
    assert [np.asarray(a).tolist() for a in pair[0]] == [np.asarray(b).tolist() for b in pair[1]]


Rng = np.random.Generator


def spans(rng: Rng, n: int) -> tuple[Any, Any]:
    return in_order(list(zip(rng.integers(0, 40, n).tolist(), rng.integers(0, 15, n).tolist(), strict=True)))


def apart(rng: Rng, n: int) -> tuple[Any, Any]:
    """(start, end) of sorted, disjoint intervals, some of them empty."""
    edges = np.sort(rng.integers(0, 120, 2 * n))
    return edges[::2].copy(), edges[1::2].copy()


def steps(rng: Rng, n: int, dtype: Any = np.int32) -> tuple[Any, Any]:
    at = np.unique(rng.integers(0, 120, n))
    return at, rng.integers(-1, 4, len(at)).astype(dtype)


def some(rng: Rng, low: int, high: int, n: int, dtype: Any = np.int32) -> Any:
    return rng.integers(low, high, n).astype(dtype)


def either(rng: Rng, *dtypes: Any) -> Any:
    return dtypes[rng.integers(len(dtypes))]


def tree(rng: Rng) -> Any:
    """Parents that precede their children."""
    return np.array([rng.integers(-1, i) for i in range(rng.integers(1, 6))], np.int64)


def path_kinds(rng: Rng, n: int) -> tuple[Any, ...]:
    above = [sorted(rng.choice(4, rng.integers(0, 4), replace=False).tolist()) for _ in range(3)]
    first = np.cumsum([0, *map(len, above)]).astype(np.int32)
    paths = np.array([p for each in above for p in each], np.int32)
    return (
        some(rng, 0, 3, n, np.int8),
        some(rng, -1, 3, n),
        *spans(rng, n),
        some(rng, 0, 99, n, np.int64),
        first,
        paths,
        4,
        3,
    )


def calls_and_ops(rng: Rng, n: int) -> tuple[Any, ...]:
    calls, low = n + 1, int(rng.integers(0, 9))
    of_calls = some(rng, 0, 3, calls) * 2 + 5, some(rng, low, low + 20, calls, np.uint32)
    return *of_calls, some(rng, 4, 10, n), some(rng, 0, 40, n, np.uint32), low, 20, np.array([5, 7, 9], np.int32)


def waits(rng: Rng, n: int) -> tuple[Any, ...]:
    lane = some(rng, 0, 4, n, either(rng, np.int16, np.int32))
    return some(rng, -1, 5, n, either(rng, np.int32, np.int64)), lane, *spans(rng, n), some(rng, 0, 60, 5, np.int64), 4


def overlapping(rng: Rng, n: int) -> tuple[Any, ...]:
    groups = some(rng, 0, 32, len(KINDS)), some(rng, 0, 32, len(KINDS))
    pairs = some(rng, 0, 5, 4), some(rng, 0, 5, 4)
    kind, side = some(rng, 0, len(KINDS), n, np.int8), some(rng, 0, 4, n, np.int8)
    return kind, *spans(rng, n), side, *groups, 5, *pairs, 0, 1, 2


def chained(rng: Rng, n: int) -> tuple[Any, ...]:
    """A graph of n + 1 nodes with an edge or more each, its times, and where a path begins and ends."""
    count = rng.integers(1, 4, n + 1)
    first = np.r_[0, np.cumsum(count)]
    target = np.repeat(np.arange(n + 1), count)
    source = np.array([int(rng.integers(-1, node)) if node else -1 for node in target.tolist()], np.int32)
    weight = some(rng, -5, 50, len(target), np.int64)
    time = _replay(first, source, weight)
    return first, source, weight, time, int(rng.integers(-5, 200)), int(rng.integers(0, n + 1))


ARGUMENTS: Mapping[str, Callable[[Rng, int], tuple[Any, ...]]] = {
    "accounts.concurrency._levels": lambda rng, n: (some(rng, 0, 5, n, np.int16), *spans(rng, n), 5, 3),
    "accounts.launches._launch_waits": waits,
    "accounts.ledger._own": lambda rng, n: (some(rng, 0, 4, n, np.int8), *spans(rng, n), 4),
    "accounts.overlap._overlaps": overlapping,
    "accounts.stages._path_kinds": path_kinds,
    "accounts.stages._project": lambda rng, n: (some(rng, -3, len(up := tree(rng)), n), *spans(rng, n), up),
    "attribution.host_state._host_pieces": lambda rng, n: (
        *apart(rng, n), np.array([9, 3, 7, 8, 6], np.int32), *steps(rng, n, np.int8),
        *(a for _ in range(5) for a in steps(rng, n)),
    ),
    "attribution.launches._join": calls_and_ops,
    "attribution.launches._threads": lambda rng, n: (some(rng, 1, 4, n), some(rng, 1, 200, n)),
    "attribution.launches.grouped_rows": lambda rng, n: (some(rng, -1, 5, n, either(rng, np.int16, np.int32)), 5),
    "attribution.steps._innermost": lambda rng, n: (*spans(rng, n), some(rng, 0, 5, n, either(rng, np.int8, np.int64))),
    "attribution.steps.nesting": spans,
    "headroom.replay._chain": lambda rng, n: chained(rng, n),
    "headroom.replay._replay": lambda rng, n: chained(rng, n)[:3],
    "intervals._cover": spans,
    "intervals.grouped_measure": lambda rng, n: (some(rng, -1, 5, n, either(rng, np.int8, np.int16)), *spans(rng, n), 5),
    "intervals.measure": spans,
    "intervals.place_right": lambda rng, n: (spans(rng, n)[0], some(rng, -3, 60, n, np.int64)),
}  # fmt: skip
"""Arguments for tables of some rows, for every primitive by its name within `analyze`."""


def primitives() -> dict[str, Any]:
    found = pkgutil.walk_packages(importlib.import_module("aisp_trace.analyze").__path__, "aisp_trace.analyze.")
    for name in (module.name for module in found if not module.name.endswith(".compiled")):
        importlib.import_module(name)
    return {name.removeprefix("aisp_trace.analyze."): chosen for name, chosen in engine.PRIMITIVES.items()}


def test_every_primitive_has_a_twin_and_arguments_here() -> None:
    assert set(primitives()) == set(ARGUMENTS)


@needs_numba
def test_no_compiled_function_is_without_a_plain_twin() -> None:
    module = importlib.import_module(COMPILED)
    public = {n for n, f in vars(module).items() if not n.startswith("_") and getattr(f, "__module__", "") == COMPILED}
    twins = [engine.twin(inspect.unwrap(chosen)) for chosen in primitives().values()]
    assert sorted(twins) == sorted((COMPILED, name) for name in public)


@needs_numba
@pytest.mark.parametrize("name", sorted(ARGUMENTS))
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 25))
@settings(max_examples=examples(200))
def test_twins_give_the_same_answer_and_change_no_argument(name: str, seed: int, rows: int) -> None:
    chosen = primitives()[name]
    arguments = ARGUMENTS[name](np.random.default_rng(seed), rows)
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            argument.flags.writeable = False
    with pytest.MonkeyPatch.context() as monkeypatch:
        compiled, plain = both(monkeypatch, lambda: chosen(*arguments))
    assert plainly(compiled) == plainly(plain)


def plainly(answer: Any) -> Any:
    return [plainly(a) for a in answer] if isinstance(answer, tuple) else np.asarray(answer).tolist()


@needs_numba
@given(INTERVALS, INTERVALS, LABELS)
@settings(max_examples=examples(300))
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
@settings(max_examples=examples(300))
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
@settings(max_examples=examples(200))
def test_overlap_of_a_stage_and_the_others(spans: list[tuple[int, int]], kinds: list[int], labels: list[int]) -> None:
    start, end = in_order(spans)
    kind, mine = np.array(kinds[: len(start)], np.int8), np.array(labels[: len(start)]) > 1

    with pytest.MonkeyPatch.context() as monkeypatch:
        rows = slice(0, len(start))
        compiled, plain = both(monkeypatch, lambda: list(overlaps(kind, start, end, [(rows, mine), (rows, ~mine)])))
    assert compiled == plain


@needs_numba
@given(INTERVALS, st.lists(st.integers(0, len(KINDS) - 1), min_size=25, max_size=25), LABELS)
@settings(max_examples=examples(300))
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
@settings(max_examples=examples(300))
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
@settings(max_examples=examples(200))
def test_sums_of_cells(rows: list[tuple[int, ...]]) -> None:
    stage, iteration, category, cause, ns = (np.array([r[i] for r in rows], np.int64) for i in range(5))

    def compute() -> list[Any]:
        return summed(Cells(stage, iteration, category, cause, ns), stage.astype(np.int32)).sort(pl.all()).rows()

    with pytest.MonkeyPatch.context() as monkeypatch:
        compiled, plain = both(monkeypatch, compute)
    assert compiled == plain


@needs_numba
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 200)), max_size=40))
@settings(max_examples=examples(100))
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
@settings(max_examples=examples(200))
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
@settings(max_examples=examples(300))
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
    force(monkeypatch, compiled=True)
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


def test_a_compiled_cover_may_begin_at_the_smallest_integer() -> None:
    low = np.iinfo(np.int64).min
    compiled = importlib.import_module("aisp_trace.analyze.compiled")
    starts, ends = compiled.cover(np.array([low, low, 5]), np.array([3, 2, 9]))
    assert (starts.tolist(), ends.tolist()) == ([low, 5], [3, 9])
