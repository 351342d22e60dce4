"""Every table of an analysis keeps its schema, and the faces can show whatever an analysis may hold."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given, settings
from rich.cells import cell_len as display_width

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.document import trace_document
from aisp_trace.analyze.result import SCHEMAS
from aisp_trace.report.terminal.details import print_details, print_device_details, print_gap_calls
from aisp_trace.tests.examples import examples
from aisp_trace.tests.oracle.build import Row, build, call, device, op, span
from aisp_trace.tests.oracle.strategies import Case, cases
from aisp_trace.traces.model import Trace


@given(cases())
@settings(max_examples=examples(50))
def test_tables_have_their_schemas_and_become_json(case: Case) -> None:
    if case.domain is not None or (isinstance(case.window, tuple) and case.window[0] >= case.window[1]):
        return
    found = analyze(case.trace, window=case.window, attribution=case.attribution)
    for name, schema in SCHEMAS.items():
        assert getattr(found, name).schema == pl.Schema(schema), name
    json.dumps(trace_document(found), allow_nan=False)


def everything() -> Trace:
    """Two ranks, two iterations, two streams, counters, memory events, an allocating thread and one large gap."""
    api, ops, memory = [], [], []
    ranges = [span("iteration", i * 100_000, i * 100_000 + 90_000) for i in range(2)]
    for i in range(2):
        at = i * 100_000
        for d in range(2):
            n = 10 * i + 5 * d + 1
            api += [
                call("cudaLaunchKernel", at + 10 + d, at + 12 + d, n),
                call("cudaMemcpyAsync", at + 20, at + 22, n + 1),
            ]
            name = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL" + "x" * 90
            ops.append(op("comm", at + 30 + 40 * d, at + 20_000, n, device=d, name=name))
            ops.append(op("h2d", at + 40, at + 15_000, n + 1, device=d, stream=8, nbytes=1 << 20))
        api.append(call("cudaMalloc", at + 24, at + 28, 100 + i))
        row: Row = {"pid": 1, "device": 0, "time_ns": at + 26, "address": 4096, "nbytes": 1 << 20, "kind": "device"}
        memory.append(row | {"is_free": False, "correlation": 100 + i})
    api.append(call("cudaHostAlloc", 30_000, 95_000, 200, tid=11))
    metrics = [
        {"device": 0, "time_ns": 1000 * i, "metric": metric, "value": 40}
        for i in range(130)
        for metric in ("DRAM Read Bandwidth [Throughput %]", "SMs Active [Throughput %]")
    ]
    gpus = [device(d) | {"memory_bytes_per_s": 10**12} for d in range(2)]
    return build(api=api, ops=ops, ranges=ranges, memory=memory, gpu_metrics=metrics, devices=gpus)


def test_details_fit_80_columns_and_say_what_there_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = analyze(everything())
    for number in (0, 1):
        print_device_details(found, number)
        for gap in found.gaps.filter(pl.col("device") == number).iter_rows(named=True):
            print_gap_calls(found, number, gap["start_ns"])
    print_details(found)
    out = capsys.readouterr().out
    assert max(display_width(line) for line in out.splitlines()) <= 80
    for word in (
        *("how many streams were busy", "latency", "queue delay", "host-bound", "1 per iteration", "in it: cudaMalloc"),
        *("HBM read", "SM active", "paired", "driver memory", "thread 11 spent"),
    ):
        assert word in out, word


def test_details_say_nothing_where_there_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    found = analyze(build(ranges=[span("host", 0, 10)]))
    print_details(found)
    assert capsys.readouterr().out == ""


def test_json_has_the_details() -> None:
    document = trace_document(analyze(everything()))
    assert [d["concurrency"]["busy_streams_ns"]["2"] for d in document["devices"]] == [2 * 14_960, 2 * (15_000 - 70)]
    iteration = document["iterations"][0]["devices"][0]
    assert iteration["overlap"]["copy|comm"] == {"a_ns": 14_960, "b_ns": 19_970, "both_ns": 14_960}
    assert iteration["exposed_ns"] == {"copy": 0, "comm": 19_970}
    assert document["collectives"][0]["comm_wait_ns"] == 80
    assert document["memory"][0]["stages"][0]["allocations"] == 1  # the first came before the first op
    assert {c["metric"] for c in document["counters"]} == {"hbm_read", "sm_active"}
    assert document["gaps"][0]["calls"]


def test_a_stage_says_the_bytes_of_its_own_ranges_in_the_window() -> None:
    """Twice 100 and 20 in the window of 0 to 40, once 7 behind it; `inner` says nothing, `outer` counts none of its parts."""
    ranges = [
        span("measured", 0, 40),
        *(span("part", at, at + 5, nbytes=100) for at in (1, 11)),
        span("outer", 20, 30),
        span("part", 21, 25, nbytes=20),
        span("inner", 31, 39),
        span("part", 50, 55, nbytes=7),
    ]
    trace = build(
        ranges=ranges, ops=[op("compute", 2, 4, 1)], api=[call("cudaLaunchKernel", 1, 2, 1)], devices=[device(0)]
    )
    windowed = analyze(trace, window="measured").stages
    said = dict(windowed.select("path", "payload_bytes").iter_rows())
    assert said == {"part": 200, "outer": None, "outer/part": 20, "inner": None}
    whole = dict(analyze(build(ranges=[span("part", 0, 9)])).stages.select("path", "payload_bytes").iter_rows())
    assert whole == {"part": None}
