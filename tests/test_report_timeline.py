"""What the page's timeline holds: every operation, the launches, the causes of every gap, and sums where it is too large."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import CAUSES, IDLE, Analysis
from aisp_trace.analyze.sources import Asked, Source
from aisp_trace.report.page.timeline import Shown, section, streams
from aisp_trace.tests.builders import pair
from aisp_trace.tests.builders.samples import unpack
from aisp_trace.tests.builders.timeline_payload import KINDS, Payload, payloads
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.model import Trace

MS = pair.MS
TRACES = (
    "h100_pipeline_decode",
    "h100_pipeline_decode_graph_nodes",
    "h200_managed",
    "h200x2_ddp",
    "cpu_threads_nsys2022",
)


def _opened(name: str, folder: Path) -> tuple[Trace, Analysis]:
    (one,) = Source(None, unpack(name, folder)).open(Asked(steady=True))
    return one.trace, one.analysis


def _payload(trace: Trace, analysis: Analysis, **limits: int) -> Payload:
    made = section([Shown("v", "v", trace, analysis)], **limits)
    assert made is not None
    (found,) = payloads(made.data)
    return found


def _gaps(spans: list[tuple[int, int]], low: int, high: int) -> list[tuple[int, int]]:
    """What `spans` leave of ``[low, high)``."""
    out, at = [], low
    for start, end in sorted(spans):
        if end > start:
            if min(start, high) > at:
                out.append((at, min(start, high)))
            at = max(at, end)
    return [*out, (at, high)] if at < high else out


def _idle_of_page(side: Payload) -> Counter[tuple[int, str, str]]:
    """ns by (device, stage, cause): the gaps that the page's operations leave, by the causes that it gives them."""
    found: Counter[tuple[int, str, str]] = Counter()
    for device in side.header["devices"]:
        lanes = [lane for lane in side.header["streams"] if lane["device"] == device["device"]]
        gaps = _gaps([(o.start, o.end) for lane in lanes for o in side.ops(lane)], *device["window"])
        assert device["gaps"] == len(gaps)
        for start, end, cause, path in side.pieces(device, gaps):
            found[device["device"], side.header["names"][path], CAUSES[cause]] += end - start
    return found


def _idle_of_ledger(analysis: Analysis) -> Counter[tuple[int, str, str]]:
    idle = analysis.ledger.filter(pl.col("category") == IDLE)
    rows = idle.group_by("device", "stage", "cause").agg(pl.col("ns").sum())
    return Counter({(device, stage, cause): ns for device, stage, cause, ns in rows.iter_rows()})


@pytest.mark.parametrize("name", TRACES)
def test_operations_and_their_launches_are_those_of_the_trace(name: str, tmp_path: Path) -> None:
    trace, analysis = _opened(name, tmp_path)
    side, zero = _payload(trace, analysis), analysis.first_op_ns or 0
    columns = ("device", "start_ns", "end_ns", "kind", "nbytes")
    wanted = Counter((d, s - zero, e - zero, k, b) for d, s, e, k, b in trace.ops.select(columns).iter_rows())
    ops = [(lane["device"], op) for lane in side.header["streams"] for op in side.ops(lane)]
    assert Counter((device, o.start, o.end, o.kind, o.nbytes) for device, o in ops) == wanted
    calls = side.calls()
    assert len(calls) == len(trace.api)
    launches = Counter((o.start + zero, calls[o.call][0] + zero) for _, o in ops if o.call >= 0)
    api = (
        trace.api.filter(pl.col("correlation") > 0)
        .group_by("pid", "correlation")
        .agg(pl.len(), pl.col("start_ns").min())
    )
    hosts = trace.devices.filter(pl.col("type") == "host")["device"].to_list()
    joined = trace.ops.filter(~pl.col("device").is_in(hosts)).join(
        api.filter(pl.col("len") == 1), on=["pid", "correlation"], suffix="_call"
    )
    expected = Counter(joined.select("start_ns", "start_ns_call").iter_rows())
    assert expected <= launches  # a correlation that several calls share is told by its time (tests of launches)


@pytest.mark.parametrize("name", TRACES)
def test_gaps_and_their_causes_are_the_ledgers(name: str, tmp_path: Path) -> None:
    trace, analysis = _opened(name, tmp_path)
    found = _idle_of_page(_payload(trace, analysis))
    assert found == _idle_of_ledger(analysis)
    assert found or analysis.windows.is_empty()


OPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from([7, 13]), st.integers(0, 300), st.integers(0, 60)), max_size=30
)


@settings(max_examples=60)
@given(OPS, st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 300), st.integers(0, 90)), max_size=6))
def test_any_operations_and_ranges_come_back(
    ops: list[tuple[str, int, int, int]], spans: list[tuple[str, int, int]]
) -> None:
    trace = pair.trace(
        [(kind, stream, 1000 + start, 1000 + start + length) for kind, stream, start, length in ops],
        [(name, 1000 + start, 1000 + start + length) for name, start, length in spans],
    )
    analysis = analyze(trace)
    if trace.ops.is_empty() and trace.ranges.is_empty():
        assert section([Shown("v", "v", trace, analysis)]) is None
        return
    side = _payload(trace, analysis)
    zero = analysis.first_op_ns if analysis.first_op_ns is not None else int(trace.ranges["start_ns"].min())  # type: ignore[arg-type]
    drawn = [o for lane in side.header["streams"] for o in side.ops(lane)]
    assert sorted((o.kind, o.start, o.end) for o in drawn) == sorted(
        (kind, 1000 + s - zero, 1000 + s + n - zero) for kind, _, s, n in ops
    )
    bands = [
        (lane, row) for thread in side.header["threads"] for row in thread["bands"] for lane in side.intervals(row)
    ]
    assert sorted((row["classes"][cls][0], s, e) for (s, e, cls), row in bands) == sorted(
        (side.header["names"].index(name), 1000 + s - zero, 1000 + s + n - zero) for name, s, n in spans
    )
    for thread in side.header["threads"]:
        for row in thread["bands"]:
            items = side.intervals(row)
            assert all(a[1] <= b[0] for a, b in pairwise(items))
    assert _idle_of_page(side) == _idle_of_ledger(analysis)


def _busy(trace: Trace, device: int, stream: int | None) -> Counter[str]:
    """ns by kind, each instant given to the kind that stands first in `KINDS`: second by second, as it were."""
    mine = trace.ops.filter(
        (pl.col("device") == device) & ((pl.col("stream") == stream) if stream is not None else True)
    )
    ops = [(KINDS.index(k), s, e) for k, s, e in mine.select("kind", "start_ns", "end_ns").iter_rows()]
    cuts = sorted({t for _, s, e in ops for t in (s, e)})
    cell = np.full(max(len(cuts) - 1, 0), len(KINDS))
    for rank, start, end in sorted(ops, reverse=True):
        cell[np.searchsorted(cuts, start) : np.searchsorted(cuts, end)] = rank
    found: Counter[str] = Counter()
    for rank, length in zip(cell.tolist(), np.diff(cuts).tolist(), strict=True):
        if rank < len(KINDS):
            found[KINDS[rank]] += length
    return found


@pytest.mark.parametrize("name", ["h100_pipeline_decode", "h200x2_ddp"])
def test_a_trace_that_is_too_large_is_summed_to_the_nanosecond(name: str, tmp_path: Path) -> None:
    trace, analysis = _opened(name, tmp_path)
    side = _payload(trace, analysis, most_ops=300, most_calls=500)
    header, zero = side.header, analysis.first_op_ns
    assert zero is not None
    grid = header["grid"]
    stretches = grid["exact"]
    assert stretches and len(header["streams"]) > 1
    held = 0
    for lane, (device, stream) in zip(header["streams"], _streams(trace), strict=True):
        sums = {
            KINDS[k]: sum(side.column(c)) for k, c in zip(lane["summed"]["kinds"], lane["summed"]["sums"], strict=True)
        }
        assert sums == _busy(trace, device, stream)
        mine = trace.ops.filter((pl.col("device") == device) & (pl.col("stream") == stream))
        assert sum(side.column(lane["summed"]["count"])) == lane["items"] == len(mine)
        spans = {(s - zero, e - zero) for s, e in mine.select("start_ns", "end_ns").iter_rows()}
        drawn = [(o.start, o.end) for o in side.ops(lane)]
        inside = {(s, e) for s, e in spans if any(s < high and e >= low for low, high in stretches)}
        assert inside <= set(drawn) <= spans
        held += len(drawn)
    assert 0 < held <= 300
    assert sum(t["calls"]["items"] for t in header["threads"] if "calls" in t) == len(trace.api)
    assert 0 < len(side.calls()) <= 500
    for device in header["devices"]:
        summed = device["summed_idle"]
        idle = {CAUSES[c]: sum(side.column(n)) for c, n in zip(summed["kinds"], summed["sums"], strict=True)}
        assert idle == device["idle"]
        gaps = []
        lanes = [lane for lane in header["streams"] if lane["device"] == device["device"]]
        spans_ = [(o.start, o.end) for lane in lanes for o in side.ops(lane)]
        for low, high in stretches:
            gaps += _gaps(
                [(s, e) for s, e in spans_ if e > low], max(low, device["window"][0]), min(high, device["window"][1])
            )
        pieces = side.pieces(device, gaps)
        width, first = grid["width"], grid["low"]
        exact = sum(
            side.column(column)[b]
            for column in summed["sums"]
            for b in range(grid["bins"])
            if any(low <= first + b * width < high for low, high in stretches)
        )
        assert sum(e - s for s, e, _, _ in pieces) == exact


def _streams(trace: Trace) -> list[tuple[int, int]]:
    return list(trace.ops.select("device", "stream").unique().sort("device", "stream").iter_rows())


def test_lanes_are_threads_then_streams() -> None:
    side = _payload(trace := pair.optimized(), analyze(trace, variant="v", window="measured"))
    (thread,) = side.header["threads"]
    assert thread["label"] == "main 11" and thread["calls"]["items"] == 6
    assert [row["items"] for row in thread["bands"]] == [
        2,
        4,
    ]  # iterations; h2d and compute in them; the gate is not drawn
    assert [lane["label"] for lane in side.header["streams"]] == ["GPU 0 · stream 7", "GPU 0 · stream 13"]
    assert [d["window"] for d in side.header["devices"]] == [[-MS, 11 * MS]]


def test_streams_beyond_the_limit_share_a_lane() -> None:
    ops = [("compute", s, 0, 1000 + s) for s in range(streams.MOST_STREAMS + 6)]
    side = _payload(trace := pair.trace(ops, []), analyze(trace))
    assert len(side.header["streams"]) == streams.MOST_STREAMS + 1
    assert side.header["streams"][-1]["label"] == "GPU 0 · 6 more streams"
    assert sum(lane["items"] for lane in side.header["streams"]) == len(ops)


def test_an_open_range_lasts_until_the_end_and_says_so() -> None:
    ranges = pair.trace([], [("stuck", 1000, 2000), ("iteration", 0, 5000)]).ranges
    end = pl.when(pl.col("name").cast(pl.String) != "stuck").then("end_ns")
    trace = pair.trace([("compute", 7, 0, 5000)], [], ranges=ranges.with_columns(end.alias("end_ns")))
    side = _payload(trace, analyze(trace))
    outer, inner = side.header["threads"][0]["bands"]
    assert (side.intervals(inner), inner["classes"][0][3]) == ([(1000, 5000, 0)], 1)
    assert (side.intervals(outer), outer["classes"][0][3]) == ([(0, 5000, 0)], 0)


def test_nothing_is_no_timeline() -> None:
    trace = pair.trace([], [])
    assert section([Shown("v", "v", trace, analyze(trace))]) is None


LONG_NAME = """
import resource
from dataclasses import replace
import numpy as np
from aisp_trace.analyze.analyze import analyze
from aisp_trace.report.page.timeline import Shown, section
from aisp_trace.tests.builders import pair
from aisp_trace.traces.model import text_column
plain = pair.trace([("compute", 7, i * 10, i * 10 + 5) for i in range(3000)], [("step", 0, 30_000)])
def held(trace):
    found = analyze(trace)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = section([Shown("v", "v", trace, found)])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(made.data)
words = ["A" * 4_000_000]
named = lambda table: table.with_columns(text_column("name", np.zeros(len(table), int), words))
long = replace(plain, ops=named(plain.ops), ranges=named(plain.ranges), api=named(plain.api))
held(plain)
print(*held(long))
"""


def test_a_name_of_4_mb_costs_nothing() -> None:
    """Written out for each operation it would be 12 GB."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", LONG_NAME], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    kilobytes, size = (int(word) for word in done.stdout.split())
    assert kilobytes < 100_000 and size < 60_000
