"""Figures of what rests on the ledger: findings, the critical path, comparisons, and what waits inside kernels and graphs."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.attribute import attribute
from aisp_trace.analyze.comparison.amounts import amounts
from aisp_trace.analyze.comparison.mechanisms import split
from aisp_trace.analyze.comparison.sides import account
from aisp_trace.analyze.comparison.waterfall import layout, waterfall
from aisp_trace.analyze.findings.find import find
from aisp_trace.analyze.headroom.path import critical_pieces
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.definitions.drawing import Bar, Drawing
from aisp_trace.tests.definitions.timelines import (
    LAUNCH,
    SYNC,
    US,
    called,
    launched,
    ledger,
    ops,
    percent,
    ranges,
    stages,
    us,
)
from aisp_trace.tests.oracle.build import build, call, device, op, span
from aisp_trace.tests.test_kineto_reader import written
from aisp_trace.tests.test_torch_operators import AUTOGRAD, MAIN, step
from aisp_trace.traces.kineto.read import read_kineto
from aisp_trace.traces.model import Trace
from aisp_trace.traces.nsys.read import read_nsys

NO_EVENT = {"event_id": None, "event_sync_id": None}


def findings() -> Drawing:
    """Each finding rests on cells of its own."""
    pageable = {"src_kind": "pageable", "dst_kind": "device", "nbytes": 400_000}
    trace = build(
        ranges=[span("load", 0, 52 * US), span("train", 52 * US, 120 * US)],
        api=[
            call("cudaMemcpy", 2 * US, 50 * US, 1),
            call(LAUNCH, 54 * US, 56 * US, 2),
            call("cudaMalloc", 82 * US, 96 * US, 3),
            call(LAUNCH, 96 * US, 97 * US, 4),
        ],
        ops=[
            op("h2d", 4 * US, 24 * US, 1, **pageable),
            op("h2d", 30 * US, 48 * US, 1, **pageable),
            op("compute", 57 * US, 82 * US, 2),
            op("compute", 98 * US, 118 * US, 4),
        ],
    )
    seen = analyze(trace)
    made = Drawing(
        "Copies through pageable memory and a stall of the allocator, each with the cells that it takes.",
        4 * US,
        118 * US,
    )
    whole = ledger(trace, 4 * US, 118 * US)
    made.row("ledger", *whole)
    cells = {"pageable_copies": ("h2d", "copy_api"), "allocator_stalls": ("allocator",)}
    found = find(seen)
    for one in found:
        bars = [bar for bar in whole if bar.text in cells[one.rule]]
        assert sum(bar.end - bar.start for bar in bars) == one.saving_at_most_ns
        made.row(one.rule, *bars)
        made.note(f"{one.rule}: saving_at_most_ns {us(one.saving_at_most_ns)}, {percent(one.share)} of the window")
    return made


def critical() -> Drawing:
    """Busy, and off the path."""
    trace = build(
        ranges=[span("step", 0, 110 * US)],
        api=[
            *launched(0),
            call("cudaMemcpyAsync", 6 * US, 10 * US, 2),
            call(SYNC, 12 * US, 44 * US, 3),
            *launched(58 * US, first=4),
            call(SYNC, 64 * US, 108 * US, 5),
        ],
        ops=[
            op("compute", 6 * US, 42 * US, 1, name="A"),
            op(
                "d2h",
                14 * US,
                90 * US,
                2,
                name="copy back",
                stream=13,
                nbytes=1_000_000,
                src_kind="device",
                dst_kind="pinned",
            ),
            op("compute", 66 * US, 106 * US, 4, name="B"),
        ],
        syncs=[
            {"pid": 1, "device": 0, "context": 1, "stream": 7, "start_ns": a, "end_ns": b, "correlation": c, **NO_EVENT}
            for a, b, c in ((12 * US, 44 * US, 3), (64 * US, 108 * US, 5))
        ],
        devices=[device(0)],
    )
    path = critical_pieces(attribute(trace))
    made = Drawing("The copy keeps the device busy for 76 us and is not on the path.", 0, 108 * US)
    made.row("calls", *called(trace))
    made.row("stream 7", *ops(trace, stream=7))
    made.row("stream 13", *ops(trace, stream=13))
    made.row(
        "critical path",
        *(
            Bar(r["start_ns"], r["end_ns"], word, word)
            for r in path.iter_rows(named=True)
            for word in [r["cause"] or r["category"]]
        ),
    )
    total = path.select((pl.col("end_ns") - pl.col("start_ns")).sum()).item()
    of_copies = path.filter(category="d2h").height
    window = analyze(trace).windows.select((pl.col("end_ns") - pl.col("start_ns")).sum()).item()
    made.note(f"The pieces sum to {us(total)}, the window is {us(window)}; pieces of kind d2h: {of_copies}.")
    return made


def _pair() -> tuple[Trace, Trace]:
    """Copy, then two kernels; and the copy beside kernels that run faster."""
    copied = {"nbytes": 4_000_000, "src_kind": "pinned", "dst_kind": "device"}
    ranges_ = [span("step", 0, 100 * US)]
    base = build(
        ranges=ranges_,
        api=launched(-12 * US, -8 * US, 52 * US),
        ops=[
            op("h2d", 0, 30 * US, 1, **copied),
            op("compute", 30 * US, 50 * US, 2, name="gemm"),
            op("compute", 60 * US, 80 * US, 3, name="gemm"),
        ],
    )
    opt = build(
        ranges=ranges_,
        api=launched(-12 * US, -8 * US, -4 * US),
        ops=[
            op("h2d", 0, 30 * US, 1, stream=13, **copied),
            op("compute", 10 * US, 28 * US, 2, name="gemm"),
            op("compute", 28 * US, 46 * US, 3, name="gemm"),
        ],
    )
    return base, opt


def comparison() -> Drawing:
    """Terms and mechanisms sum to the same difference."""
    traces = _pair()
    seen = [analyze(trace, details=False) for trace in traces]
    fall = waterfall(layout([account(a, n) for a, n in zip(seen, ("base", "opt"), strict=True)]), 0, 1)
    why = split(fall, *map(amounts, seen))
    made = Drawing("Two traces of the same work, and their difference twice: by cell, and by mechanism.", 0, 80 * US)
    for name, trace in zip(("baseline", "optimized"), traces, strict=True):
        last = max(trace.ops["end_ns"])
        for stream in sorted(set(trace.ops["stream"])):
            made.row(f"{name}: stream {stream}", *ops(trace, stream=stream))
        made.row(f"{name}: ledger", *ledger(trace, 0, last))
    terms = ", ".join(f"{t.what} {t.difference / US:+.0f}" for t in fall.terms if t.difference)
    made.note(f"difference {fall.difference / US:+.0f} us, by cell: {terms}")
    parts = ", ".join(
        f"{p.mechanism}{f' {p.of}' if p.of else ''} {p.difference / US:+.0f}" for p in why.parts if p.difference
    )
    made.note(f"difference {why.difference / US:+.0f} us, by mechanism: {parts}")
    return made


def _read(export: NsysExport) -> Trace:
    with TemporaryDirectory() as folder:
        return read_nsys(export.write(Path(folder) / "t.sqlite"))


def unified() -> Drawing:
    """A kernel that waits for pages, and a host that does."""
    moved = {"srcKind": 7, "dstKind": 7, "correlationId": 0, "migrationCause": 2, "streamId": 14, "nbytes": 65_536}
    export = NsysExport().range(0, 90 * US, "add").range(90 * US, 250 * US, "sum")
    export.call(2 * US, 8 * US, "cudaLaunchKernel").kernel(10 * US, 80 * US)
    for at in (20, 50):
        export.copy(at * US, (at + 12) * US, kind=11, **moved)
    export.copy(150 * US, 158 * US, kind=12, **moved).copy(190 * US, 198 * US, kind=12, **moved)
    trace = _read(export)
    seen = analyze(trace)
    made = Drawing(
        "Pages that move during a kernel are its stall; those that the host fetches leave the device idle.",
        10 * US,
        198 * US,
    )
    made.row("stream 7", *(Bar(b.start, b.end, "kernel", b.fill) for b in ops(trace, kind="compute")))
    made.row("pages", *(Bar(b.start, b.end, "", b.fill) for b in ops(trace, kind="migration")))
    made.row("ledger", *ledger(trace, 10 * US, 198 * US, at=(110 * US,)))
    made.row("stage", *stages(trace, 10 * US, 198 * US, at=(110 * US,)))
    for row in seen.migrations.filter(pl.col("stage").is_not_null()).iter_rows(named=True):
        made.note(
            f"{row['stage']}: {row['ops']} pages, stall_ns {us(row['stall_ns'])}, exposed_ns {us(row['exposed_ns'])}"
        )
    return made


def graphs() -> Drawing:
    """Nodes count for the stage that they were captured in."""
    original, clone = 1 << 32, 2 << 32
    export = NsysExport().range(0, 60 * US, "setup")
    for i, stage in enumerate(("attn", "mlp")):
        at = (4 + 28 * i) * US
        export.range(at, at + 26 * US, stage).call(at + 4 * US, at + 12 * US, "cudaLaunchKernel", correlationId=50 + i)
        export.node(at + 6 * US, original + i).node(58 * US, clone + i).node(58 * US, clone + i, original + i)
    export.range(70 * US, 140 * US, "replay").call(74 * US, 82 * US, "cudaGraphLaunch_v10000", correlationId=100)
    for i in range(2):
        export.kernel((86 + 26 * i) * US, (110 + 26 * i) * US, graphNodeId=clone + i, correlationId=100)
    trace = _read(export)
    made = Drawing(
        "One call replays the graph; each kernel counts for the stage in which it was captured.", 0, 140 * US
    )
    made.row("ranges", *(bar for bar in ranges(trace, trace.ranges["tid"][0]) if bar.text != "setup"))
    made.row("calls", *called(trace, trace.ranges["tid"][0]))
    made.row("device", *(Bar(b.start, b.end, "node", b.fill) for b in ops(trace)))
    made.row("stage of the op", *stages(trace, 86 * US, 136 * US, idle=False))
    for row in analyze(trace).replays.sort("stage").iter_rows(named=True):
        made.note(f"replays: {row['stage']}, replayed in {row['replayed_in']}, {us(row['sum_ns'])}")
    return made


def torch_modules() -> Drawing:
    """Backward operators get the module of their forward operator."""
    with TemporaryDirectory() as folder:
        trace = read_kineto(written(Path(folder), step()))
    seen = analyze(trace, domain="torch.module", fold=False)
    made = Drawing(
        "Backward runs on a thread without modules; the sequence number finds the forward operator.", 0, 620 * US
    )
    modules = trace.ranges.filter(
        pl.col("domain") == "torch.module", pl.col("name").cast(pl.String).str.starts_with("Linear")
    )
    forward = modules.filter(tid=MAIN).sort("start_ns")
    made.row("modules, thread 10", *(Bar(a, b, n) for n, a, b in forward.select("name", "start_ns", "end_ns").rows()))
    for tid, name in ((MAIN, "operators, thread 10"), (AUTOGRAD, "autograd, thread 20")):
        numbered = {e["ts"]: e for e in step() if e["tid"] == tid and "Sequence number" in e["args"]}
        outer = [
            e for e in numbered.values() if not any(o["ts"] < e["ts"] < o["ts"] + o["dur"] for o in numbered.values())
        ]
        made.row(
            name, *(Bar(e["ts"] * US, (e["ts"] + e["dur"]) * US, f"seq {e['args']['Sequence number']}") for e in outer)
        )
    made.row("kernels", *stages(trace, 50 * US, 540 * US, idle=False, domain="torch.module", fold=False))
    for stage, ns in seen.ledger.filter(category="compute").select("stage", "ns").sort("stage").iter_rows():
        made.note(f"kernels of {stage}: {us(ns)}")
    return made
