"""Why a window became shorter: each mechanism alone, random operations, and a real run counted again row by row."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.comparison.amounts import Amount, amounts
from aisp_trace.analyze.comparison.mechanisms import FAMILIES, Split, split
from aisp_trace.analyze.comparison.reasons import reasons, remarks
from aisp_trace.analyze.comparison.sides import account
from aisp_trace.analyze.comparison.waterfall import Waterfall, by_stage, layout, waterfall
from aisp_trace.analyze.naming.paths import at_or_above
from aisp_trace.analyze.result import CAUSES
from aisp_trace.expectations.comparing.compare import Choices, compare
from aisp_trace.tests.examples import examples
from aisp_trace.tests.oracle.build import Row, build, call, device, op, overhead, span
from aisp_trace.tests.oracle.strategies import Case, cases
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace

RUN = Path(__file__).parent.parent / "traces" / "samples" / "h200_pipeline_sequential"

Parts = dict[tuple[str, str | None], int]


def compared(base: Trace, opt: Trace, **choices: Any) -> tuple[Waterfall, Split]:
    sides = [analyze(t, details=False, **choices) for t in (base, opt)]
    fall = waterfall(layout([account(a, n) for a, n in zip(sides, ("base", "opt"), strict=True)]), 0, 1)
    return fall, split(fall, *map(amounts, sides))


def parts_of(found: Split) -> Parts:
    out: Counter[tuple[str, str | None]] = Counter()
    for part in found.parts:
        out[part.mechanism, part.of] += part.difference
    return {key: value for key, value in out.items() if value}


def why(base: Trace, opt: Trace, **choices: Any) -> Parts:
    return parts_of(compared(base, opt, **choices)[1])


# --- one mechanism at a time


def queue(*ops: tuple[str, int, int, dict[str, Any]]) -> Trace:
    """Ops as (kind, start, end, other), all launched before the first of them starts."""
    calls = [call("cudaLaunchKernel", i, i + 1, i + 1) for i in range(len(ops))]
    return build(ops=[op(k, 100 + s, 100 + e, i + 1, **o) for i, (k, s, e, o) in enumerate(ops)], api=calls)


GEMM, COPY = {"name": "gemm"}, {"nbytes": 1000}
BASE = queue(("h2d", 0, 40, COPY), ("compute", 40, 60, GEMM), ("compute", 60, 80, GEMM))


@pytest.mark.parametrize(
    ("opt", "parts"),
    [
        (BASE, {}),
        # h2d |----|    ->  |-|      the same bytes
        (queue(("h2d", 0, 10, COPY), ("compute", 10, 30, GEMM), ("compute", 30, 50, GEMM)), {("faster", "h2d"): -30}),
        # h2d |----|    ->  |--|     half of the bytes
        (
            queue(("h2d", 0, 20, {"nbytes": 500}), ("compute", 20, 40, GEMM), ("compute", 40, 60, GEMM)),
            {("less_work", "h2d"): -20},
        ),
        # gemm |--|--|  ->  |--|     one of two
        (queue(("h2d", 0, 40, COPY), ("compute", 40, 60, GEMM)), {("less_work", "compute"): -20}),
        (
            queue(("h2d", 0, 40, COPY), ("compute", 40, 55, GEMM), ("compute", 55, 70, GEMM)),
            {("faster", "compute"): -10},
        ),
        # gemm |--|--|  ->  fused |--|
        (queue(("h2d", 0, 40, COPY), ("compute", 40, 65, {"name": "fused"})), {("replaced", "compute"): -15}),
        # a graph in the place of the kernels
        (queue(("h2d", 0, 40, COPY), ("graph", 40, 75, {"name": "graph launch"})), {("replaced", "compute"): -5}),
        # h2d |----|        the copy beside the kernels
        #     |--|--|
        (queue(("h2d", 0, 40, COPY), ("compute", 0, 20, GEMM), ("compute", 20, 40, GEMM)), {("hidden", None): -40}),
        (
            queue(("h2d", 0, 40, COPY), ("compute", 40, 60, GEMM), ("compute", 66, 86, GEMM)),
            {("idle", "queued"): 6},
        ),
        # all copies gone
        (queue(("compute", 0, 20, GEMM), ("compute", 20, 40, GEMM)), {("less_work", "h2d"): -40}),
        # three quarters of the bytes are gone, and the rest moves at half the rate
        (
            queue(("h2d", 0, 20, {"nbytes": 250}), ("compute", 20, 40, GEMM), ("compute", 40, 60, GEMM)),
            {("less_work", "h2d"): -30, ("faster", "h2d"): 10},
        ),
    ],
)
def test_one_change_is_one_mechanism(opt: Trace, parts: Parts) -> None:
    assert why(BASE, opt) == parts
    assert why(opt, BASE) == {key: -difference for key, difference in parts.items()}


def waiting(gap: int, calls: Sequence[tuple[str, int, int]] = (), *, launch: int = 2, **tables: list[Row]) -> Trace:
    """A kernel, `gap` ns of which the host spends all but `launch` in `calls`, and the next kernel."""
    at = 100 + gap
    api = [call("cudaLaunchKernel", 0, 1, 1), call("cudaLaunchKernel", at - launch, at - 1, 2)]
    api += [call(name, 100 + start, 100 + end, 10 + i) for i, (name, start, end) in enumerate(calls)]
    return build(ops=[op("compute", 50, 100, 1), op("compute", at, at + 50, 2)], api=api, **tables)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        (None, "host"),
        ("cudaEventQuery", "host"),
        ("cudaDeviceSynchronize", "sync"),
        ("cudaMemcpy", "copy_api"),
        ("cudaMalloc", "allocator"),
        ("cuModuleLoadData", "loading"),
        ("cudaGraphInstantiate", "graph"),
    ],
)
def test_idle_time_is_told_by_family(name: str | None, family: str) -> None:
    long, short = ([] if name is None else [(name, 0, gap - 2)] for gap in (42, 12))
    assert why(waiting(42, long), waiting(12, short)) == {("idle", family): -30}


def test_idle_time_around_launches_recorders_and_the_end() -> None:
    assert why(waiting(42, launch=42), waiting(12, launch=12)) == {("idle", "launch"): -30}
    own = [overhead("profiler", 100, 140)], [overhead("profiler", 100, 110)]
    assert why(waiting(42, overhead=own[0]), waiting(12, overhead=own[1])) == {("idle", "recorder"): -30}
    blind = [build(ops=[op("compute", 0, 10), op("compute", 10 + gap, 20 + gap)]) for gap in (42, 12)]
    assert why(*blind) == {("idle", "unknown"): -30}
    sides = [waiting(12)] * 2
    analyses = [analyze(t, window=(50, end), details=False) for t, end in zip(sides, (200, 180), strict=True)]
    fall = waterfall(layout([account(a, "x") for a in analyses]), 0, 1)
    found = split(fall, *map(amounts, analyses))
    assert parts_of(found) == {("idle", "tail"): -20}


def test_every_cause_is_in_one_family() -> None:
    assert sorted(cause for causes in FAMILIES.values() for cause in causes) == sorted(CAUSES)


def test_a_copy_that_says_no_bytes_is_counted() -> None:
    two: list[tuple[str, int, int, dict[str, Any]]] = [("h2d", 0, 20, {}), ("h2d", 20, 40, {})]
    assert why(queue(*two), queue(("h2d", 0, 25, {}))) == {("less_work", "h2d"): -20, ("faster", "h2d"): 5}
    (rate,) = compared(queue(*two), queue(("h2d", 0, 25, {})))[1].rates
    assert (rate.unit, rate.base_work, rate.opt_work, rate.base_common, rate.opt_common) == ("operations", 2, 1, 20, 25)


def test_a_cut_copy_moves_the_bytes_of_its_time_inside() -> None:
    trace = queue(("h2d", 0, 40, COPY))
    found = amounts(analyze(trace, window=(110, 120), details=False))
    assert found == {(0, "(none)", "h2d", ""): Amount(1, 10, 250)}


def test_a_few_bytes_against_many_stay_within_the_times_of_both() -> None:
    """A copy of 5 GB in 350 ms against one of 500 bytes in 10 us: not minutes less work and minutes slower."""
    big, small = queue(("d2h", 0, 350_000_000, {"nbytes": 5 * 10**9})), queue(("d2h", 0, 10_000, {"nbytes": 500}))
    assert why(big, small) == {("less_work", "d2h"): -349_999_965, ("faster", "d2h"): 9_965}


def test_lines_name_what_changed_and_sum_up_what_is_small() -> None:
    base = queue(
        ("comm", 0, 9000, GEMM), ("h2d", 9000, 9004, COPY), ("d2h", 9004, 9008, COPY), ("compute", 9008, 9208, GEMM)
    )
    opt = queue(
        ("comm", 0, 4500, GEMM), ("h2d", 4500, 4503, COPY), ("d2h", 4503, 4509, COPY), ("compute", 4509, 4709, GEMM)
    )
    fall, found = compared(base, opt)
    assert [(r.difference, r.text) for r in reasons(fall, found)] == [
        (-4500, "collectives run 2.0x faster, waiting for other ranks included"),
        (1, "2 smaller reasons"),
    ]
    assert [r.text for r in reasons(*compared(BASE, queue(("h2d", 0, 20, {"nbytes": 500}))))] == [
        "less work in kernels: 2 -> 0 operations",
        "less work in h2d copies: 1.00 kB -> 500 B",
    ]


def test_names_of_stages_change_nothing() -> None:
    one, other = (
        build(ops=[op("compute", 4, end, 1)], api=[call("cudaLaunchKernel", 1, 2, 1)], ranges=[span(name, 0, 50)])
        for name, end in (("before", 30), ("after", 20))
    )
    assert why(one, other) == {("faster", "compute"): -10}
    assert "no stage is on both sides (1 only in base, 1 only in opt)" in remarks(compared(one, other)[0])[-1]


def test_other_numbers_of_iterations_are_split_per_iteration() -> None:
    """Three iterations of one kernel of 7 against two of one of 4: each is 3 faster, in sixths."""

    def steps(n: int, kernel: int) -> Trace:
        ops = [op("compute", i * 10, i * 10 + kernel, i + 1, name="k") for i in range(n)]
        calls = [call("cudaLaunchKernel", i * 10, i * 10 + 1, i + 1) for i in range(n)]
        ranges = [span("measured", 0, n * 10), *(span("iteration", i * 10, i * 10 + 10) for i in range(n))]
        return build(ops=ops, api=calls, ranges=ranges)

    fall, found = compared(steps(3, 7), steps(2, 4), window="measured")
    assert (fall.layout.denominator, fall.difference) == (6, 0)
    assert parts_of(found) == {("faster", "compute"): -3 * 6, ("idle", "host"): 3 * 6}
    assert fall.cancels
    assert "which is what remains of terms that move 6 ns in both directions" in remarks(fall)[0]


def test_devices_are_split_one_by_one_or_together() -> None:
    def devices(*lengths: int) -> Trace:
        ops = [op("compute", 0, n, i + 1, device=i, name="k") for i, n in enumerate(lengths)]
        return build(ops=ops, devices=[device(i) for i in range(len(lengths))])

    found = compared(devices(10, 20), devices(7, 25))[1]
    assert [(p.device, p.mechanism, p.difference) for p in found.parts] == [(1, "faster", 5), (0, "faster", -3)]
    found = compared(devices(40), devices(15, 12))[1]
    assert {(p.device, p.mechanism, p.difference) for p in found.parts} == {
        (None, "less_work", 14),
        (None, "faster", -27),
    }


def test_amounts_of_another_window_are_no_split() -> None:
    fall, _ = compared(BASE, queue(("h2d", 0, 10, COPY)))
    with pytest.raises(AssertionError, match="do not sum to the difference"):
        split(replace(fall, difference=fall.difference + 1), {}, {})


# --- random operations, and what the split is of them, as plainly as it can be told

Op = tuple[str, int, int, str, int | None, int]
"""(kind, start, end, name, bytes, stream)."""


@st.composite
def operations(draw: st.DrawFn) -> list[Op]:
    starts = draw(st.lists(st.integers(100, 400), min_size=1, max_size=12, unique=True))
    found = []
    for start in starts:
        kind = draw(st.sampled_from(("compute", "compute", "graph", "comm", "h2d", "d2h", "d2d", "memset")))
        copies = kind in ("h2d", "d2h", "d2d", "memset")
        nbytes = draw(st.sampled_from((0, 1, 64, 1000, 4096))) if copies else None
        name = draw(st.sampled_from(("k", "l<1>", "l<2>")))
        found.append((kind, start, start + draw(st.integers(1, 60)), name, nbytes, draw(st.integers(7, 9))))
    return found


def trace_of(ops: Sequence[Op]) -> Trace:
    rows = [
        op(kind, start, end, start, name=name, nbytes=nbytes, stream=stream)
        for kind, start, end, name, nbytes, stream in ops
    ]
    calls = [call("cudaLaunchKernel", start - 3, start - 1, start) for _, start, *_ in ops]
    return build(ops=rows, api=calls)


def plainly(base: Sequence[Op], opt: Sequence[Op]) -> Parts:
    """Busy time instant by instant, work operation by operation; all idle time in one."""

    def kind_of(o: Op) -> str:
        return "compute" if o[0] == "graph" else o[0]

    out: Counter[tuple[str, str | None]] = Counter()
    sides = []
    for sign, ops in ((-1, base), (1, opt)):
        busy = {t for o in ops for t in range(o[1], o[2])}
        window = max(o[2] for o in ops) - min(o[1] for o in ops)
        out["hidden", None] -= sign * (sum(o[2] - o[1] for o in ops) - len(busy))
        out["idle", None] += sign * (window - len(busy))
        side: dict[tuple[str, str], list[Op]] = {}
        for o in ops:
            side.setdefault((kind_of(o), "" if o[4] is not None else o[3]), []).append(o)
        sides.append(side)
    one, other = sides
    for kind in {k for k, _ in one.keys() | other.keys()}:
        gone, come = ([key for key in a if key[0] == kind and key not in b] for a, b in ((one, other), (other, one)))
        alone = sum(o[2] - o[1] for key in come for o in other[key]) - sum(
            o[2] - o[1] for key in gone for o in one[key]
        )
        out["replaced" if gone and come else "less_work", kind] += alone
        for key in one.keys() & other.keys():
            if key[0] != kind:
                continue
            s0, s1 = (sum(o[2] - o[1] for o in side[key]) for side in (one, other))
            w0, w1 = (sum(o[4] or 0 for o in side[key]) for side in (one, other))
            if not w0 or not w1:
                w0, w1 = len(one[key]), len(other[key])
            less = round(Fraction((w1 - w0) * (s0 if w1 <= w0 else s1), max(w0, w1)))
            out["less_work", kind] += less
            out["faster", kind] += s1 - s0 - less
    return {key: value for key, value in out.items() if value}


def idle_together(parts: Parts) -> Parts:
    out: Counter[tuple[str, str | None]] = Counter()
    for (mechanism, of), difference in parts.items():
        out[mechanism, None if mechanism == "idle" else of] += difference
    return {key: value for key, value in out.items() if value}


@settings(max_examples=examples(40))
@given(operations(), operations())
def test_the_split_is_that_of_the_plain_definition(base: list[Op], opt: list[Op]) -> None:
    fall, found = compared(trace_of(base), trace_of(opt))
    assert idle_together(parts_of(found)) == plainly(base, opt)
    assert sum(p.difference for p in found.parts) == found.difference == fall.difference
    assert sum(r.difference for r in reasons(fall, found)) == fall.difference
    for rate in found.rates:
        faster = sum(p.difference for p in found.parts if (p.mechanism, p.of) == ("faster", rate.kind))
        assert faster == rate.opt_common - rate.base_common
        assert 0 <= rate.base_common <= rate.base_ns and 0 <= rate.opt_common <= rate.opt_ns


@settings(max_examples=examples(10))
@given(operations(), operations(), st.randoms(use_true_random=False))
def test_swapping_negates_and_neither_rows_nor_streams_matter(
    base: list[Op], opt: list[Op], rng: random.Random
) -> None:
    found = why(trace_of(base), trace_of(opt))
    assert why(trace_of(opt), trace_of(base)) == {key: -difference for key, difference in found.items()}
    assert why(trace_of(base), trace_of(base)) == {}
    assert why(trace_of(rng.sample(base, len(base))), trace_of(rng.sample(opt, len(opt)))) == found
    assert why(trace_of(base), trace_of([(*o[:5], 20 + i) for i, o in enumerate(opt)])) == found


@settings(max_examples=examples(20))
@given(cases(), cases())
def test_whatever_is_wrong_with_a_trace_the_sum_is_exact(first: Case, second: Case) -> None:
    """Cut windows, several devices and processes, operations without length or call: conserved, and negated when swapped."""
    chosen = [
        (c.trace, analyze(c.trace, window=c.window, attribution=c.attribution, details=False)) for c in (first, second)
    ]
    plan = layout([account(a, str(i)) for i, (_, a) in enumerate(chosen)])
    did = [amounts(a) for _, a in chosen]
    there, back = (split(waterfall(plan, i, j), did[i], did[j]) for i, j in ((0, 1), (1, 0)))
    assert sum(p.difference for p in there.parts) == there.difference
    assert {(p.device, p.mechanism, p.of): -p.difference for p in back.parts} == {
        (p.device, p.mechanism, p.of): p.difference for p in there.parts
    }
    assert split(waterfall(plan, 0, 0), did[0], did[0]).parts == ()
    assert_stages_sum_to_the_whole(waterfall(plan, 0, 1), there)
    assert stages_of(back) == {key: -difference for key, difference in stages_of(there).items()}


# --- the same by stage

ByStage = dict[tuple[str, int | None, str, str | None], int]


def stages_of(found: Split) -> ByStage:
    return {(s.stage, p.device, p.mechanism, p.of): p.difference for s in found.by_stage for p in s.parts}


def assert_stages_sum_to_the_whole(fall: Waterfall, found: Split) -> None:
    """In integers: each column of all stages is that of the whole, each row what the waterfall says of the stage."""
    columns: Counter[tuple[int | None, str, str | None]] = Counter()
    for (_, device_, mechanism, of), difference in stages_of(found).items():
        columns[device_, mechanism, of] += difference
    assert {key: ns for key, ns in columns.items() if ns} == {
        (p.device, p.mechanism, p.of): p.difference for p in found.parts
    }
    rows = {s.stage: sum(p.difference for p in s.parts) for s in found.by_stage}
    assert rows == {s.stage: s.difference for s in found.by_stage}
    told = {t.stage: t.difference for t in by_stage(fall.terms)}
    assert all(rows.get(stage, 0) == difference for stage, difference in told.items())
    assert all(told.get(stage, 0) == difference for stage, difference in rows.items())


def staged(ops: Sequence[Op], bounds: Sequence[int]) -> Trace:
    """`ops`, of which those launched between two `bounds` are of one stage: a, b, a, b ..."""
    rows = [
        op(kind, start, end, start, name=name, nbytes=nbytes, stream=stream)
        for kind, start, end, name, nbytes, stream in ops
    ]
    calls = [call("cudaLaunchKernel", start - 3, start - 1, start) for _, start, *_ in ops]
    ranges = [span("ab"[i % 2], low, high) for i, (low, high) in enumerate(pairwise(sorted({0, *bounds, 500})))]
    return build(ops=rows, api=calls, ranges=ranges)


def test_work_that_moved_from_a_stage_to_another_is_no_less_work() -> None:
    """
    base   a |gemm 20|gemm 20|   b |gemm 20|
    opt    a |gemm 20|           b |gemm 20|gemm 30|      at 20 ns each, and 10 slower in b
    """
    base = staged([("compute", s, s + 20, "gemm", None, 7) for s in (100, 120, 300)], [200])
    times = (100, 120), (300, 320), (320, 350)
    opt = staged([("compute", s, e, "gemm", None, 7) for s, e in times], [200])
    fall, found = compared(base, opt)
    assert {key[:1] + key[2:]: ns for key, ns in stages_of(found).items() if key[2] != "idle"} == {
        ("a", "less_work", "compute"): -22,  # 65/3 ns each: the mean of both sides' 60 and 70 ns for three
        ("a", "faster", "compute"): 2,
        ("b", "less_work", "compute"): 22,
        ("b", "faster", "compute"): 8,
    }
    assert parts_of(found)["faster", "compute"] == 10
    assert_stages_sum_to_the_whole(fall, found)


@settings(max_examples=10)
@given(
    operations(),
    operations(),
    st.lists(st.integers(1, 499), max_size=5),
    st.lists(st.integers(1, 499), max_size=5),
    st.randoms(use_true_random=False),
)
def test_stages_sum_to_the_whole_in_every_column(
    base: list[Op], opt: list[Op], cuts: list[int], others: list[int], rng: random.Random
) -> None:
    """And swapping the sides negates every cell; neither the order of rows nor where else work lies in the tables matters."""
    fall, found = compared(staged(base, cuts), staged(opt, others))
    assert_stages_sum_to_the_whole(fall, found)
    _, back = compared(staged(opt, others), staged(base, cuts))
    assert stages_of(back) == {key: -ns for key, ns in stages_of(found).items()}
    _, again = compared(staged(rng.sample(base, len(base)), cuts), staged(rng.sample(opt, len(opt)), others))
    assert stages_of(again) == stages_of(found)
    sides = [analyze(staged(*side), details=False) for side in ((base, cuts), (opt, others))]
    shuffled = [
        replace(a, **{t: getattr(a, t).sample(fraction=1, shuffle=True, seed=1) for t in ("work", "ledger")})
        for a in sides
    ]
    falls = waterfall(layout([account(a, n) for a, n in zip(shuffled, ("base", "opt"), strict=True)]), 0, 1)
    assert split(falls, *map(amounts, shuffled)) == found


@settings(max_examples=examples(20))
@given(cases())
def test_table_work_is_what_the_other_tables_say_of_operations(case: Case) -> None:
    """Its sums are those of `kinds`, and what nests in a path, or is of it, those of `stage_kinds`. (Numbers too, but for whole
    recordings: there an operation without length at the very end is one of `kinds`, and of no window.) Where pages of unified
    memory move, a kernel has what it waited for them in `kinds`, and not as its work."""
    found = analyze(case.trace, window=case.window, attribution=case.attribution, details=False)
    columns = ("sum_ns",) if case.window is None else ("sum_ns", "ops")
    pages = "migration" in case.trace.ops["kind"].to_list()

    def agree(work: int, value: int, kind: str, column: str) -> bool:
        return work <= value if pages and column == "sum_ns" and kind in ("compute", "graph", "comm") else work == value

    kinds, stages = Counter[tuple[Any, ...]](), Counter[tuple[Any, ...]]()
    for row in found.work.iter_rows(named=True):
        for column in columns:
            kinds[row["device"], row["kind"], column] += row[column]
            for path in at_or_above(row["stage"]):
                stages[row["device"], path, row["kind"], column] += row[column]
    for column in columns:
        for *key, value in found.kinds.select("device", "kind", column).iter_rows():
            assert agree(kinds.pop((*key, column), 0), value, key[-1], column)
        listed = found.stage_kinds.filter(
            pl.col("path") != "(window)"
        )  # the window's own range holds stages of other paths
        for *key, value in listed.select("device", "path", "kind", column).iter_rows():
            assert agree(stages[*key, column], value, key[-1], column)
    assert not +kinds


# --- a real run, counted again from its rows


def counted(variant: str) -> dict[str, int]:
    """The window of a variant of the sample, its parts counted operation by operation."""
    trace = open_trace(RUN / variant / "trace.sqlite.xz")
    analysis = analyze(trace, window="measured", details=False)
    ((low, high),) = analysis.windows.select("start_ns", "end_ns").rows()
    found: Counter[str] = Counter(window=high - low)
    reached = low
    for kind, start, end, nbytes in trace.ops.select("kind", "start_ns", "end_ns", "nbytes").iter_rows():  # by start
        start, end = max(start, low), min(end, high)
        if start < end:
            found["copies" if kind in ("h2d", "d2h") else "kernels"] += end - start
            found["bytes"] += nbytes or 0
            found["operations"] += kind == "compute"
            found["hidden"] += min(end, max(start, reached)) - start
            found["idle"] += max(start - reached, 0)
            reached = max(reached, end)
    found["idle"] += high - reached
    idle = analysis.ledger.filter(pl.col("category") == "idle")
    for cause, ns in idle.select("cause", "ns").iter_rows():
        found[cause] += ns
    return found


def test_the_sample_run_is_split_as_its_rows_say() -> None:
    """-778 ms faster copies, -202 ms overlap, -128 ms idle, -1 ms kernels, of -1,109 ms in ten iterations."""
    (found,) = (c for c in compare([str(RUN)], Choices()).comparisons if c.role == "total")
    base, opt = counted("baseline"), counted("optimized")
    change = {name: opt[name] - base[name] for name in base | opt}
    assert (change["bytes"], change["operations"]) == (0, 0)
    parts = parts_of(found.why)
    idle = {of: ns for (mechanism, of), ns in parts.items() if mechanism == "idle"}
    assert {
        "copies": parts["faster", "h2d"] + parts["faster", "d2h"],
        "kernels": parts["faster", "compute"],
        "hidden": -parts["hidden", None],
        "idle": sum(idle.values()),
    } == {name: change[name] for name in ("copies", "kernels", "hidden", "idle")}
    assert (change["copies"], change["kernels"], change["hidden"], change["idle"], change["window"]) == (
        -777_724_883,
        -1_066_903,
        202_003_798,
        -127_786_321,
        -1_108_581_905,
    )
    assert {family: ns for family, ns in idle.items() if ns} == {
        family: ns for family, causes in FAMILIES.items() if (ns := sum(change.get(c, 0) for c in causes))
    }
    assert {mechanism for mechanism, _ in parts} == {"faster", "hidden", "idle"}
    assert_stages_sum_to_the_whole(found.waterfall, found.why)
    assert [s.stage for s in found.why.by_stage] == ["h2d", "d2h", "compute", "(own)"]
    lines = [(reason.difference, reason.text) for reason in reasons(found.waterfall, found.why)]
    assert lines[0] == (-777_724_883, "copies run 4.7x faster")
    assert lines[1] == (-202_003_798, "overlap hides more: 0 ns -> 202 ms")
    assert lines[2][1].startswith("less idle time: copy calls -76.5 ms, host code -42.5 ms, ")
    assert lines[3] == (-1_066_903, "kernels run 1.01x faster")


# --- what may be chance


def uneven(kernels: Sequence[int], gaps: Sequence[int]) -> Trace:
    """Iterations of 1,000 ns, each a kernel of one of `kernels` ns after one of `gaps` ns in which the host does something."""
    ranges = [span("measured", 0, 1000 * len(kernels))]
    ops, calls = [], []
    for i, (length, gap) in enumerate(zip(kernels, gaps, strict=True)):
        at = 1000 * i
        ranges.append(span("iteration", at, at + 1000))
        calls.append(call("cudaLaunchKernel", at + gap, at + gap + 1, i + 1))
        ops.append(op("compute", at + gap + 1, at + gap + 1 + length, i + 1, name="gemm"))
    return build(ops=ops, api=calls, ranges=ranges)


def test_a_reason_within_the_spread_of_the_iterations_says_so_and_comes_last() -> None:
    """Kernels of 100 or 500 ns, and 60 ns fewer in sum: chance. Gaps of 20 ns on every iteration: none."""
    noise = uneven([100, 500, 100, 500, 100], [100] * 5)
    base = uneven([100, 500, 100, 500, 400], [100] * 5)
    found = reasons(*compared(base, noise, window="measured"))
    by_text = {one.text: one.within_spread for one in found}
    assert [text for text, within in by_text.items() if within and text.startswith("kernels run ")]
    assert all(text.endswith("(within the spread of the iterations)") == within for text, within in by_text.items())
    assert [one.within_spread for one in found] == sorted(one.within_spread for one in found), "they come last"
    assert sum(one.difference for one in found) == compared(base, noise, window="measured")[0].difference
    steady = reasons(*compared(uneven([500] * 5, [100] * 5), uneven([400] * 5, [100] * 5), window="measured"))
    assert not any(one.within_spread for one in steady)
    alone = reasons(*compared(uneven([500], [100]), uneven([400], [100]), window="measured"))
    assert not any(one.within_spread for one in alone), "one iteration has no spread"
