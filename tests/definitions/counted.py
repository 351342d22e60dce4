"""Figures of what is counted: overlap, collectives, copies, counters, launches and memory."""

from __future__ import annotations

import polars as pl

from aisp_trace.analyze.analyze import analyze
from aisp_trace.tests.definitions.drawing import Bar, Drawing
from aisp_trace.tests.definitions.timelines import (
    LAUNCH,
    US,
    called,
    launched,
    ledger,
    only,
    ops,
    percent,
    ranges,
    us,
)
from aisp_trace.tests.oracle.build import build, call, device, op, span


def overlap() -> Drawing:
    """Hidden and exposed time, and streams busy at once."""
    trace = build(
        ranges=[span("step", 0, 100 * US)],
        api=launched(-15 * US, -10 * US, -5 * US, first=1),
        ops=[
            op("h2d", 0, 40 * US, 1, name="copy", stream=13),
            op("compute", 20 * US, 80 * US, 2, name="kernel"),
            op("d2h", 60 * US, 100 * US, 3, name="copy", stream=14),
        ],
    )
    found = analyze(trace)
    pair = only(found.overlap.filter(pl.col("stage").is_null()), a="copy", b="compute")
    exposed = only(found.exposed.filter(pl.col("stage").is_null()), kind="copy")
    made = Drawing("Copies run for 80 us, 40 of them under a kernel.", 0, 100 * US)
    for stream in (13, 7, 14):
        made.row(f"stream {stream}", *ops(trace, stream=stream))
    both = [Bar(20 * US, 40 * US, "both", "mark"), Bar(60 * US, 80 * US, "both", "mark")]
    assert sum(bar.end - bar.start for bar in both) == pair["both_ns"]
    made.row("copy and compute", *both)
    made.row("ledger", *ledger(trace, 0, 100 * US))
    made.note(
        f"|U_copy| {us(pair['a_ns'])}, |U_compute| {us(pair['b_ns'])}, both {us(pair['both_ns'])}: "
        f"hidden {percent(pair['hidden'])}, efficiency {percent(pair['efficiency'])}, exposed {us(exposed['ns'])}"
    )
    busy = dict(found.concurrency.select("streams", "ns").rows())
    made.note(f"streams busy: one for {us(busy[1])}, two for {us(busy[2])}; together the window")
    return made


def collectives() -> Drawing:
    """Waiting and transfer of a collective."""
    name = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"
    spans = {0: (10, 60), 1: (42, 60)}
    trace = build(
        ops=[op("comm", a * US, b * US, 1, name=name, device=n, pid=n + 1, stream=20) for n, (a, b) in spans.items()]
        + [op("compute", 0, a * US, 2, device=n, pid=n + 1) for n, (a, _) in spans.items()]
    )
    found = {r["device"]: r for r in analyze(trace).collectives.iter_rows(named=True)}
    made = Drawing("Rank 0 waits in the collective until rank 1 begins; only the rest is transfer.", 0, 64 * US)
    for n, (a, b) in spans.items():
        made.row(f"rank {n}: stream 7", *ops(trace, device=n, kind="compute"))
        row = found[n]
        parts = [Bar(a * US, a * US + row["comm_wait_ns"], "comm_wait", "waiting")] if row["comm_wait_ns"] else []
        made.row(f"rank {n}: AllReduce", *parts, Bar(a * US + row["comm_wait_ns"], b * US, "comm", "comm"))
        made.note(f"rank {n}: comm_wait {us(row['comm_wait_ns'])} + comm {us(row['comm_ns'])} = {us(row['sum_ns'])}")
    made.line(42 * US, "the last rank begins")
    return made


def bandwidth() -> Drawing:
    """Two rates of the same copies."""
    pinned = {"src_kind": "pinned", "dst_kind": "device", "name": "2 MB", "nbytes": 2_000_000}
    trace = build(
        ops=[op("h2d", 0, 80 * US, 1, stream=13, **pinned), op("h2d", 20 * US, 100 * US, 2, stream=14, **pinned)]
    )
    row = only(analyze(trace).bandwidth)
    made = Drawing("Two copies share the link for 60 us.", 0, 100 * US)
    for stream in (13, 14):
        made.row(f"stream {stream}: h2d", *ops(trace, stream=stream))
    made.row("union", Bar(0, 100 * US, "the link is in use", "mark"))
    made.note(
        f"bytes_per_s: {row['nbytes']:,} bytes / {us(row['sum_ns'])} = {row['bytes_per_s'] / 1e9:.1f} GB/s, what a copy sees"
    )
    made.note(
        f"union_bytes_per_s: the same bytes / {us(row['union_ns'])} = {row['union_bytes_per_s'] / 1e9:.1f} GB/s, "
        "what the link carried; shares of the peak are of this one"
    )
    return made


def counters() -> Drawing:
    """Samples handed out to stages."""
    metric = "DRAM Read Bandwidth [Throughput %]"
    values = (20, 60, 8)
    where = {"a": (0, 100), "b": (50, 200)}
    trace = build(
        ranges=[span(name, a * US, b * US, tid=10 + i) for i, (name, (a, b)) in enumerate(where.items())],
        api=[call(LAUNCH, a * US, (a + 1) * US, i + 1, tid=10 + i) for i, (a, _) in enumerate(where.values())],
        ops=[
            *(
                op("compute", a * US, b * US, i + 1, stream=7 + i, name=name)
                for i, (name, (a, b)) in enumerate(where.items())
            ),
        ],
        gpu_metrics=[
            {"device": 0, "time_ns": i * 100 * US, "metric": metric, "value": v} for i, v in enumerate(values)
        ],
        devices=[device(0) | {"memory_bytes_per_s": 10**12}],
    )
    found = analyze(trace, window=(0, 300 * US)).counters.filter(metric="hbm_read")
    made = Drawing("A sample is shared by the stages that were busy in it.", 0, 300 * US)
    for i, name in enumerate(where):
        made.row(f"stage {name}", *ops(trace, stream=7 + i))
    made.row(
        "samples of hbm_read",
        *(Bar(i * 100 * US, (i + 1) * 100 * US, f"{v} %", "mark") for i, v in enumerate(values)),
    )
    for stage in (*where, "(idle)", None):
        row = only(found.filter(pl.col("stage").eq_missing(pl.lit(stage))))
        made.note(
            f"{stage or 'the window'}: percent_ns {row['percent_ns'] / US:,.0f} % x us, {row['nbytes'] / 1e6:.1f} MB"
        )
    return made


def launches() -> Drawing:
    """Latency and queue delay."""
    trace = build(
        ranges=[span("step", 0, 90 * US)],
        api=launched(2 * US, 16 * US),
        ops=[op("compute", 10 * US, 50 * US, 1, name="first"), op("compute", 54 * US, 84 * US, 2, name="second")],
    )
    found = analyze(trace).launches.filter(pl.col("stage").is_null())
    made = Drawing("The second launch waits for the first kernel, then 4 us more.", 0, 90 * US)
    made.row("calls", *called(trace))
    made.row("stream 7", *ops(trace))
    for figure in ("latency", "queue_delay"):
        row = only(found, figure=figure)
        low, high = row["min_ns"], row["max_ns"]
        assert isinstance(low, int) and isinstance(high, int)
        start = 16 * US if figure == "latency" else 54 * US - low
        long = high if figure == "latency" else low
        made.row(f"{figure} of the second", Bar(start, start + long, us(long), "mark"))
        made.note(f"{figure}: smallest {us(low)}, largest {us(high)}")
    return made


def memory() -> Drawing:
    """In use, peaks, and the stall."""
    events = [(10, 400, 1), (22, 200, 1), (50, 200, -1), (92, 400, -1)]
    calls = [
        call("cudaMalloc" if sign > 0 else "cudaFree", t * US - 6 * US, t * US, i)
        for i, (t, _, sign) in enumerate(events, 1)
    ]
    trace = build(
        ranges=[span("load", 0, 40 * US), span("train", 40 * US, 100 * US)],
        api=[*calls, call(LAUNCH, 24 * US, 28 * US, 9), call(LAUNCH, 52 * US, 56 * US, 10)],
        ops=[op("compute", 0, 3 * US), op("compute", 30 * US, 48 * US, 9), op("compute", 58 * US, 98 * US, 10)],
        memory=[
            {
                "time_ns": t * US,
                "pid": 1,
                "device": 0,
                "kind": "device",
                "address": size,
                "nbytes": size * 2**20,
                "is_free": sign < 0,
                "correlation": i,
            }
            for i, (t, size, sign) in enumerate(events, 1)
        ],
    )
    found = analyze(trace)
    most = max(found.memory_timeline["in_use_bytes"].to_list())
    made = Drawing("Memory in use is a running sum; a stall is the idle time that allocator calls cause.", 0, 100 * US)
    made.row("ranges", *ranges(trace))
    made.row("calls", *called(trace))
    made.row("device", *ops(trace))
    made.curve("in use", *((t, n / most) for t, n in found.memory_timeline.select("time_ns", "in_use_bytes").rows()))
    made.row("ledger", *ledger(trace, 0, 98 * US))
    peaks = dict(found.stage_memory.select("stage", "peak_bytes").rows())
    made.note(f"peak: load {peaks['load'] / 2**20:.0f} MiB, train {peaks['train'] / 2**20:.0f} MiB")
    for row in found.allocator.sort("stage").iter_rows(named=True):
        made.note(
            f"{row['stage']}: inside allocator calls {us(row['host_ns'])}, of which the device stalled {us(row['stall_ns'])}"
        )
    return made
