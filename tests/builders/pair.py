"""A run of two variants by hand: two iterations of one copy and two kernels, first in a row, then side by side.

ms            0    1    2    3    4    5    6    7    8    9   10
iteration     |------------------ 0 -----------------|  |-- 1 ..          one iteration every 10 ms
baseline      [h2d     ][.][compute][compute]                      stream 7
optimized     [h2d     ]                                            stream 13
                   [compute][compute]                              stream 7
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from aisp_trace.traces.model import SCHEMAS, Meta, Trace, empty, make_trace
from aisp_trace.traces.run import (
    SCHEMA,
    Allocator,
    Hardware,
    Manifest,
    Output,
    ProcessResult,
    Recording,
    Round,
    Run,
    Variant,
    VariantResult,
    Work,
)

MS = 1_000_000
PID, TID = 10, 11

Span = tuple[str, int, int]


def trace(
    ops: list[tuple[str, int, int, int]],
    spans: list[Span],
    *,
    kernel: str = "gemm",
    pinned: bool = True,
    file: str = "trace.sqlite",
    **tables: pl.DataFrame,
) -> Trace:
    """A trace of `ops` (kind, stream, start, end) and ranges `spans` (name, start, end), all in ns.

    Each op is launched by a call of 1 us at its start, from the one thread that opened all ranges.
    """
    memory = "pinned" if pinned else "pageable"
    rows = [
        {
            "kind": kind,
            "device": 0,
            "context": 1,
            "stream": stream,
            "pid": PID,
            "start_ns": start,
            "end_ns": end,
            "correlation": number,
            "name": kernel if kind == "compute" else kind,
            "nbytes": None if kind == "compute" else 50 * MS,
            "src_kind": None if kind == "compute" else memory,
            "dst_kind": None if kind == "compute" else "device",
        }
        for number, (kind, stream, start, end) in enumerate(ops, 1)
    ]
    calls = [
        {
            "pid": PID,
            "tid": TID,
            "start_ns": max(start - 1000, 0),
            "end_ns": start,
            "correlation": number,
            "name": "cudaLaunchKernel" if kind == "compute" else "cudaMemcpyAsync",
            "result": 0,
        }
        for number, (kind, _, start, _) in enumerate(ops, 1)
    ]
    named = [
        {
            "pid": PID,
            "tid": TID,
            "end_tid": TID,
            "domain": "aisp",
            "name": name,
            "category": name if name in ("h2d", "compute") else "",
            "start_ns": start,
            "end_ns": end,
            "style": "push_pop",
        }
        for name, start, end in spans
    ]
    device = {"device": 0, "type": "gpu", "name": "NVIDIA H100 80GB HBM3"}
    made = {
        "ops": _frame("ops", rows),
        "api": _frame("api", calls),
        "ranges": _frame("ranges", named),
        "devices": _frame("devices", [device]),
        "threads": _frame("threads", [{"pid": PID, "tid": TID, "name": "main"}]),
    }
    meta = Meta(file, "nsys", "2025.3.2", "3.20.3", tables=("CUPTI_ACTIVITY_KIND_KERNEL",))
    return make_trace(meta, **(made | tables))


def _frame(table: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    if not rows:
        return empty(table)
    return pl.DataFrame(
        [{column: row.get(column) for column in SCHEMAS[table]} for row in rows], infer_schema_length=None
    )


def baseline(kernel: str = "gemm") -> Trace:
    """One after the other, pageable."""
    ops, ranges = [], [("measured", 0, 20 * MS)]
    for at in (0, 10 * MS):
        ops += [("h2d", 7, at + 1 * MS, at + 4 * MS), ("compute", 7, at + 5 * MS, at + 7 * MS)]
        ops += [("compute", 7, at + 7 * MS, at + 9 * MS)]
        ranges += [("iteration", at, at + 10 * MS), ("h2d", at, at + 4 * MS), ("compute", at + 4 * MS, at + 9 * MS)]
    return trace(ops, ranges, kernel=kernel, pinned=False)


def optimized(kernel: str = "gemm") -> Trace:
    """The copy beside the kernels: of its 3 ms, 2 are hidden."""
    ops, ranges = [], [("measured", 0, 12 * MS)]
    for at in (0, 6 * MS):
        ops += [("h2d", 13, at + 1 * MS, at + 4 * MS), ("compute", 7, at + 2 * MS, at + 4 * MS)]
        ops += [("compute", 7, at + 4 * MS, at + 5 * MS)]
        ranges += [
            ("iteration", at, at + 6 * MS),
            ("h2d", at, at + 1 * MS + 1),
            ("compute", at + 1 * MS + 1, at + 6 * MS),
        ]
    return trace(ops, ranges, kernel=kernel)


def run(folder: Path, *, workload: str = "pair", rounds: int = 8) -> Run:
    """The run both belong to: untraced rounds of 10 ms against 5 ms, give or take a little."""
    variants = tuple(Variant(n, n, Recording(**_recording(n))) for n in ("baseline", "optimized"))
    timed = tuple(
        Round(i, ("python", "-P", "-m", "work"), 0, 9 * MS, "2026-01-01T00:00:00Z", _result(i)) for i in range(rounds)
    )
    hardware = Hardware("h100_80gb_hbm3", "cuda", ("NVIDIA H100 80GB HBM3",), "580.1", "13.0", "Xeon", 26, {})
    manifest = Manifest(
        schema=SCHEMA,
        run_id="pair-20260101T000000Z",
        created_utc="2026-01-01T00:00:00Z",
        workload=workload,
        source="builtin",
        command_line=("aisp-trace", "capture", "pair"),
        profile="minimal",
        recorder="nsys",
        hardware=hardware,
        size="tiny",
        seed=0,
        iterations=2,
        warmup=1,
        packages={"torch": "2.11.0"},
        git={"commit": "0123456789abcdef", "dirty": True},
        variants=variants,
        rounds=timed,
        notes=("clocks were not locked",),
    )
    return Run(folder, manifest)


def _result(index: int) -> ProcessResult:
    return ProcessResult(
        "aisp-trace/result/1",
        "pair",
        "cuda",
        "tiny",
        0,
        (_variant("baseline", 10 * MS + index * 100), _variant("optimized", 5 * MS + (index * 5 % 8) * 100)),
    )


def _variant(name: str, ns: int) -> VariantResult:
    work = Work(1, "items", 1, 1, 1, {"h2d": 50 * MS})
    return VariantResult(name, "cuda_event", (ns, ns, ns), work, Output(0.0, 1e-3, "float64", 0, True), Allocator())


def _recording(name: str) -> dict[str, Any]:
    return {
        "recorder": "nsys",
        "recorder_version": "2025.3.2",
        "command": ("nsys", "profile", "-t", "cuda,nvtx", "-o", f"{name}/trace", "python", "-m", "work"),
        "exit_code": 0,
        "wall_ns": 9 * MS,
        "trace": f"{name}/trace.sqlite",
        "kind_file": None,
        "result": ProcessResult("aisp-trace/result/1", "pair", "cuda", "tiny", 0, (_variant(name, 11 * MS),)),
    }
