"""Figures of whose time it is: work, stages, windows, gaps and waits."""

from __future__ import annotations

import polars as pl

from aisp_trace.analyze.analyze import analyze
from aisp_trace.tests.definitions.drawing import Bar, Drawing
from aisp_trace.tests.definitions.timelines import (
    LAUNCH,
    SYNC,
    US,
    called,
    launched,
    ledger,
    only,
    ops,
    ranges,
    stages,
    us,
)
from aisp_trace.tests.oracle.build import build, call, op, span

WORKER = {"tid": 11, "end_tid": 11}


def work() -> Drawing:
    """Sum, union and ledger of the same operations."""
    trace = build(
        ranges=[span("step", 0, 100 * US)],
        ops=[
            op("compute", 0, 40 * US, 1, name="gemm"),
            op("compute", 20 * US, 60 * US, 2, name="norm", stream=13),
            op("h2d", 45 * US, 90 * US, 3, name="copy", stream=14),
        ],
        api=launched(-9 * US, -6 * US, -3 * US),
    )
    found = analyze(trace)
    kernels, copies = (only(found.kinds, kind=kind) for kind in ("compute", "h2d"))
    cells = dict(found.ledger.select("category", "ns").rows())
    made = Drawing("Two kernels overlap by 20 us; the ledger gives each instant to one kind.", 0, 90 * US)
    for stream in (7, 13, 14):
        made.row(f"stream {stream}", *ops(trace, stream=stream))
    made.row("ledger", *ledger(trace, 0, 90 * US))
    made.note(
        f"compute: sum_ns {us(kernels['sum_ns'])}, union_ns {us(kernels['union_ns'])}, ledger {us(cells['compute'])}"
    )
    made.note(f"h2d: sum_ns {us(copies['sum_ns'])}, union_ns {us(copies['union_ns'])}, ledger {us(cells['h2d'])}")
    return made


def stages_of_ops() -> Drawing:
    """An op counts for the stage that was open when and where its launching call began."""
    trace = build(
        ranges=[span("forward", 0, 40 * US), span("backward", 44 * US, 96 * US)],
        api=[*launched(6 * US, 12 * US), *launched(52 * US, tid=11, first=3)],
        ops=[
            op("compute", 14 * US, 34 * US, 1),
            op("compute", 34 * US, 60 * US, 2),
            op("compute", 62 * US, 90 * US, 3),
        ],
    )
    made = Drawing(
        "The second kernel runs while backward is open, and counts for forward, which launched it.", 0, 96 * US
    )
    made.row("thread 10: ranges", *ranges(trace))
    made.row("thread 10: calls", *called(trace))
    made.row("thread 11: calls", *called(trace, 11))
    made.row("stream 7", *ops(trace))
    made.row("stage of the op", *stages(trace, 14 * US, 90 * US, idle=False))
    made.row("--attribution thread", *stages(trace, 14 * US, 90 * US, idle=False, attribution="thread"))
    for how in ("process", "thread"):
        ns = {r["path"]: r["projected_ns"] for r in analyze(trace, attribution=how).stages.iter_rows(named=True)}
        made.note(f"--attribution {how}: projected_ns of forward {us(ns['forward'])}, of backward {us(ns['backward'])}")
    return made


def windows() -> Drawing:
    """Start-up, warm-up, steady iterations."""
    lengths = [30, 22, 10, 10, 11, 10, 10]
    starts = [12 + sum(lengths[:i]) for i in range(len(lengths))]
    trace = build(
        ranges=[
            span(f"step {i}", at * US, (at + n) * US) for i, (at, n) in enumerate(zip(starts, lengths, strict=True))
        ],
        api=[
            *launched(0, *(at * US for at in starts)),
            call("cudaMemcpyAsync", (sum(lengths) + 14) * US, (sum(lengths) + 15) * US, 99),
        ],
        ops=[
            op("compute", 2 * US, 8 * US, 1),
            *(
                op("compute", (at + 2) * US, (at + n) * US, i + 2)
                for i, (at, n) in enumerate(zip(starts, lengths, strict=True))
            ),
            op("d2h", (end := starts[-1] + lengths[-1] + 6) * US, (end + 6) * US, 99, name="save"),
        ],
    )
    steady = analyze(trace).steady
    assert steady is not None and steady.ops is not None
    low, high = steady.window
    first, last = steady.ops
    made = Drawing("Two slow first iterations are warm-up; the steady window holds the other five.", 0, last)
    made.row("ranges", *(Bar(s.start_ns, s.end_ns, s.name) for s in steady.instances))
    made.row("device", *ops(trace))
    begin, warm = steady.instances[0].start_ns, steady.instances[: steady.warm_up]
    made.row(
        "what counts",
        Bar(first, begin, "start-up"),
        Bar(begin, warm[-1].end_ns, f"warm-up: {steady.why}"),
        Bar(low, high, "steady window", "mark"),
        Bar(high, last, "after"),
    )
    made.note(f"{len(steady.instances) - steady.warm_up} steady iterations, median {us(steady.median_ns)}")
    made.note(
        f"start-up {us(begin - first)} + warm-up {us(low - begin)} + steady {us(high - low)} + after {us(last - high)}"
        f" = {us(last - first)}, from the first operation to the last"
    )
    return made


def gap() -> Drawing:
    """What a gap is made of."""
    trace = build(
        ranges=[span("forward", 0, 66 * US), span("loss", 66 * US, 120 * US)],
        api=[
            *launched(2 * US),
            call(SYNC, 8 * US, 44 * US, 2),
            call("cudaMalloc", 56 * US, 66 * US, 3),
            call(LAUNCH, 76 * US, 86 * US, 4),
        ],
        ops=[op("compute", 8 * US, 40 * US, 1, name="A"), op("compute", 92 * US, 116 * US, 4, name="X")],
    )
    found = analyze(trace)
    made = Drawing("The gap before X is cut wherever the launching thread changes what it does.", 0, 120 * US)
    made.row("thread T: ranges", *ranges(trace))
    made.row("thread T: calls", *called(trace))
    made.row("device", *ops(trace))
    made.row("ledger: cause", *ledger(trace, 8 * US, 116 * US))
    made.row("ledger: stage", *stages(trace, 8 * US, 116 * US))
    opened = only(found.gaps)
    cells = found.ledger.group_by("category").agg(pl.col("ns").sum())
    total = dict(cells.rows())
    made.note(f"The gap of {us(opened['ns'])}: opened_by {opened['opened_by']}.")
    made.note(f"compute {us(total['compute'])} + idle {us(total['idle'])} = window {us(sum(total.values()))}")
    return made


def waiting() -> Drawing:
    """A thread that waits for a feeder."""
    trace = build(
        ranges=[
            span("train", 0, 120 * US),
            span("load", 24 * US, 84 * US, **WORKER),
        ],
        api=launched(4 * US, 92 * US),
        ops=[op("compute", 10 * US, 22 * US, 1), op("compute", 98 * US, 118 * US, 2)],
    )
    made = Drawing(
        "The launching thread makes no call while a feeder's range is open: it waits, and the feeder is charged.",
        0,
        120 * US,
    )
    made.row("thread 10: range", *ranges(trace))
    made.row("thread 10: calls", *called(trace))
    made.row("thread 11: range", *ranges(trace, 11))
    made.row("device", *ops(trace))
    made.row("ledger: cause", *ledger(trace, 10 * US, 118 * US))
    made.row("ledger: stage", *stages(trace, 10 * US, 118 * US))
    trust = only(analyze(trace).trust, metric="causes")
    made.note(f"Trust in causes: {trust['level']}. No operating-system call proves the wait.")
    return made
