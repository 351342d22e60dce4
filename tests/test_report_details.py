"""The page's sections of detail: what they say of planted traces, and that they are absent where nothing was recorded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from aisp_trace.analyze.accounts.peaks import PCIE
from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import SCHEMAS
from aisp_trace.report.figures import MOST_COLUMNS, iterations_figure
from aisp_trace.report.page import copies, critical, gaps, iterations, launches, memory, streams
from aisp_trace.report.page.blocks import Cell, Fold, Row, Section, Span, Table
from aisp_trace.report.page.communication import communication_section
from aisp_trace.report.page.counters import counters_section
from aisp_trace.report.page.critical import critical_section
from aisp_trace.report.page.ledger import ledger_section
from aisp_trace.report.page.operators import operators_section
from aisp_trace.report.page.page import render
from aisp_trace.report.page.sides import Side
from aisp_trace.report.page.templates import html_of
from aisp_trace.tests.builders import pair
from aisp_trace.tests.oracle.build import build, call, device, op, span

MS = 1_000_000
HOSTILE = "</td><script>alert(1)</script>\u202e"


def said(made: Section | None) -> str:
    """The words of a section, without its markup."""
    assert made is not None
    return _words(html_of(made))


def _words(made: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", made).replace("&gt;", ">").replace("&lt;", "<").split())


def tables(made: Section | None) -> dict[str, Table]:
    """The tables of a section by their captions, those in folds included."""
    assert made is not None
    flat = [one for block in made.blocks for one in (block.blocks if isinstance(block, Fold) else [block])]
    return {one.caption: one for one in flat if isinstance(one, Table)}


def sides() -> list[Side]:
    found = [("baseline", pair.baseline()), ("optimized", pair.optimized())]
    return [Side(n, analyze(t, variant=n, window="measured", largest_gaps=500)) for n, t in found]


def test_gaps_are_listed_with_their_cause_and_the_calls_that_fill_them() -> None:
    """
    thread    [cudaMalloc 2100 .. 4000]  [launch]
    device    |-- 1000 .. 2000 --|............|-- 5000
    """
    trace = build(
        ops=[op("compute", 1000, 2000, 1), op("compute", 5000, 6000, 2)],
        api=[
            call("cudaLaunchKernel", 900, 950, 1),
            call(HOSTILE, 2100, 4000, 9),
            call("cudaLaunchKernel", 4800, 4900, 2),
        ],
        ranges=[span("work", 800, 6000)],
    )
    made = gaps.gaps_section([Side("only", analyze(trace))])
    assert "only GPU 0 3.000 µs 60.0 % +0.001ms other_api work" in said(made)
    assert "1.900 µs, cudaLaunchKernel 100 ns" in said(made)
    assert made is not None
    assert "<script>" not in html_of(made) and "&lt;/td&gt;" in html_of(made)


def test_a_gap_is_linked_to_its_place_in_the_timeline_with_what_lies_around_it() -> None:
    trace = build(ops=[op("compute", 100 * i, 100 * i + 50) for i in range(gaps.MOST + 4)])
    rows = tables(gaps.gaps_section([Side("a & b", analyze(trace, largest_gaps=500))]))["the longest idle gaps"].rows
    assert len(rows) == gaps.MOST
    lengths = [row.cells[2] for row in rows]
    assert all(isinstance(cell, Cell) and cell.value == 50 for cell in lengths)
    assert isinstance(lengths[0], Cell) and isinstance(lengths[0].text, Span)
    assert lengths[0].text.href == "#timeline&trace=a%20%26%20b&from=25&to=125"


def test_a_pinned_copy_has_its_share_of_the_links_peak_and_where_that_comes_from() -> None:
    base, fast = sides()
    assert PCIE[5] == 63.015e9  # 50 MB in 3 ms on an H100's link
    assert "16.67 GB/s 16.67 GB/s 26.4 % of 63.02 GB/s –" in said(copies.bandwidth_section([fast]))
    assert "link can carry (datasheet H100 SXM)" in said(copies.bandwidth_section([fast]))
    slow = said(copies.bandwidth_section([base]))
    assert "no peak is known" in slow and "%" not in slow and slow.endswith("effective –")


def test_counters_show_bytes_means_and_what_is_weak() -> None:
    """
    samples    0 |  50 % read, 1 % written, 40 % tensor  | 100
    device     |---------------- stage a ----------------|         1e12 bytes a second
    """
    metrics = ("DRAM Read Bandwidth [Throughput %]", 50), ("DRAM Write Bandwidth [Throughput %]", 1)
    trace = build(
        ops=[op("compute", 0, 100_000, 1)],
        api=[call("cudaLaunchKernel", 0, 1, 1)],
        ranges=[span("a", 0, 100_000)],
        gpu_metrics=[
            {"device": 0, "time_ns": at, "metric": name, "value": value}
            for at in (0, 50_000)
            for name, value in (*metrics, ("Tensor Active [Throughput %]", 40))
        ],
        devices=[device(0) | {"memory_bytes_per_s": 10**12}],
    )
    words = said(counters_section([Side("only", analyze(trace))]))
    assert "the whole window only GPU 0 50.00 MB · 50.0 % 1.000 MB · 1.0 % ~ 40.0 % –" in words
    assert "a only GPU 0 50.00 MB" in words and "~ read with care: a mean below 3 %" in words


def test_waiting_for_the_slowest_rank_is_told_from_moving() -> None:
    """
    rank 0   |0 ~~~~~~ 30 === 50|
    rank 1             |30 === 50|   |60 unpaired 70|
    """
    name = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"
    ops = [
        op("comm", 0, 50, name=name, device=0, pid=1, stream=20),
        op("comm", 30, 50, name=name, device=1, pid=2, stream=20),
        op("comm", 60, 70, name="ncclDevKernel_Broadcast_RING_LL", device=1, pid=2, stream=20),
    ]
    words = said(communication_section([Side("only", analyze(build(ops=ops)))]))
    assert "GPU 0 only 50 ns 30 ns 60.0 % 20 ns 0" in words
    assert "GPU 1 only 30 ns 0 0 % 20 ns 10 ns" in words
    assert "nccl AllReduce_Sum_bf16_RING_LL 1 50 ns 1 2 30 ns 20 ns" in words
    assert "Broadcast_RING_LL 1 10 ns 0 – – –" in words
    assert "Read with care (comm, only)" in words


def test_iterations_stand_side_by_side_with_what_was_hidden_in_each() -> None:
    made = iterations.iterations_section(sides())
    words = said(made)
    assert "median 10.00 ms, 10.00 ms to 10.00 ms" in words and "median 6.000 ms" in words
    assert "baseline 0 10.00 ms 1.000 × 2 3.000 ms 0 % 3.000 ms – –" in words
    assert "optimized 1 6.000 ms 1.000 × 2 3.000 ms 66.7 % 1.000 ms – –" in words
    assert "None took 1.5 times the median" in words and "slow" not in [row.look for row in _iterations(made)]


def _iterations(made: Section | None) -> Sequence[Row]:
    return tables(made)["what each iteration did"].rows


def test_a_slow_iteration_is_marked_and_linked() -> None:
    """Iterations of 10, 10, 10, 10 and 16 ms."""
    starts = [0, 10, 20, 30, 40]
    ops = [op("compute", t * MS + 10, (t + 5) * MS, n) for n, t in enumerate(starts, 1)]
    calls = [call("cudaLaunchKernel", t * MS + 1, t * MS + 2, n) for n, t in enumerate(starts, 1)]
    ranges = [span("iteration", t * MS, (t + 16 if t == 40 else t + 10) * MS) for t in starts]
    trace = build(ops=ops, api=calls, ranges=ranges)
    made = iterations.iterations_section([Side("only", analyze(trace))])
    rows = _iterations(made)
    assert [row.look for row in rows] == ["", "", "", "", "slow"]
    number = rows[4].cells[1]
    assert isinstance(number, Cell) and isinstance(number.text, Span)
    assert number.text.href == f"#timeline&trace=only&from={40 * MS - 10}&to={56 * MS - 10}"
    assert "1 iteration took 1.5 times the median or longer" in said(made)


def test_many_iterations_share_columns_that_show_the_slowest() -> None:
    n = 2 * MOST_COLUMNS
    side = sides()[0]
    table = pl.DataFrame({"iteration": range(n), "start_ns": 0, "end_ns": [1000] * (n - 1) + [9000], "host_ns": 1})
    many = replace(side.analysis, iterations=table.cast(side.analysis.iterations.schema))
    (bars,) = iterations_figure([("only", many)])["data"]
    assert len(bars["y"]) == MOST_COLUMNS and bars["y"][-1] == 0.009
    assert f"slowest of iterations {n - 2} to {n - 1}: 9.000 µs" in bars["hovertext"][-1]


def test_kernels_and_launches_of_the_device_are_open_and_the_stages_folded() -> None:
    made = launches.launches_section([sides()[0]])
    assert made is not None
    open_, fold = (_words(part) for part in html_of(made).split("<details>"))
    assert "baseline GPU 0 (whole device)" in open_ and "4 2.000 8.000 ms 0 0 % 0 %" in open_
    assert "latency 6 1.000 µs 1.000 µs" in open_ and "queue delay" in open_
    assert "baseline GPU 0 gemm 4 8.000 ms 2.000 ms 100 %" in open_
    assert "baseline GPU 0 compute gemm 4 8.000 ms" in fold and "(whole device)" not in fold
    top = tables(made)["kernels of each stage that took the most time"].rows[0]
    assert top.stage == "iteration/compute" and isinstance(top.cells[3], Span)
    assert top.cells[3].href == "#timeline&trace=baseline&stage=iteration/compute&kernel=gemm"


def test_streams_busy_at_once() -> None:
    """optimized: 12 ms, of them 4 with two streams, 4 with one, 4 with none: (2 x 3 + 2 x 3) / 12 = 1."""
    made = streams.streams_section(sides())
    assert "optimized GPU 0 33.3 % 33.3 % 33.3 % 0 % 1.00 streams" in said(made)
    assert streams.streams_section(sides()[:1]) is None  # one stream


def test_the_critical_path_sums_to_the_window_and_names_its_stages() -> None:
    found = sides()
    made = tables(critical_section(found))["critical path"]
    for side in found:
        path = side.analysis.critical
        mine = [row for row in made.rows if row.cells[0] == side.name]
        pieces = mine[:-1]
        times = [cell.value for row in mine for cell in [row.cells[4]] if isinstance(cell, Cell)]
        assert times[-1] == path["ns"].sum() == sum(t for t in times[:-1] if t is not None)
        assert [row.stage for row in pieces[: path.height]] == path["stage"].head(critical.ROWS).to_list()
    bare = replace(found[0], analysis=replace(found[0].analysis, critical=found[0].analysis.critical.clear()))
    assert critical_section([bare]) is None


def test_memory_in_use_and_who_took_it() -> None:
    """
    events     +64 kB at 100      +128 kB at 200        -64 kB at 300
    window     0 .................................................. 400
    """
    events = [
        {"device": 0, "time_ns": at, "address": where, "nbytes": n, "kind": "device", "is_free": free, "correlation": c}
        for at, where, n, free, c in ((100, 1, 64000, False, 5), (200, 2, 128000, False, 6), (300, 1, 64000, True, 7))
    ]
    trace = build(
        ops=[op("compute", 0, 400, 1)],
        api=[
            call("cudaLaunchKernel", 0, 1, 1),
            *(call("cudaMalloc", t, t + 5, c) for t, c in ((98, 5), (198, 6), (298, 7))),
        ],
        ranges=[span("load", 0, 250), span("free", 250, 400)],
        memory=[{"pid": 1} | e for e in events],
    )
    made = memory.memory_section([Side("only", analyze(trace))])
    words = said(made)
    assert "only GPU 0 device 2 1 192.0 kB 0 B 192.0 kB 128.0 kB" in words
    assert "only GPU 0 device load 2 0 192.0 kB 192.0 kB" in words
    assert made is not None
    (chart,) = made.charts
    assert [line["y"] for line in chart.figure["data"]] == [[64e-6, 192e-6, 128e-6]]
    assert chart.figure["data"][0]["x"] == [100e-6, 200e-6, 300e-6]


def test_operators_with_their_own_time_and_what_they_launched() -> None:
    """
    aten::linear   0 |------------------ 100 us -----------------|     launches nothing itself
    aten::addmm          10 |---- 60 us ----|                          launches 40 us
    """
    analysis = analyze(pair.trace([("compute", 7, 1000, 2000)], [("measured", 0, 3000)]), window="measured")
    rows = [("aten::addmm", 1, 60_000, 60_000, 1, 40_000, 0), (HOSTILE, 1_234, 100_000, 40_000, 0, 0, 9_000)]
    table = pl.DataFrame(rows, schema=SCHEMAS["operators"], orient="row")
    assert operators_section([Side("bare", analysis)]) is None
    words = said(operators_section([Side("only", replace(analysis, operators=table))]))
    assert "only aten::addmm 1 60.00 µs 0 60.00 µs 1 40.00 µs" in words
    assert "\\u202e 1,234 40.00 µs 9.000 µs 100.0 µs – –" in words, "the mark that turns text round is shown, not sent"
    assert "more operator" not in words
    many = pl.concat([table.head(1)] * 14)
    words = said(operators_section([Side("only", replace(analysis, operators=many))]))
    assert words.count("aten::addmm") == 12 and "And 2 more operators of only in --json." in words


def test_what_was_not_recorded_has_no_section() -> None:
    trace = pair.trace([("compute", 7, 1000, 2000)], [("measured", 0, 3000)])
    page = render(None, [analyze(trace, window="measured")], {})
    ids = set(re.findall(r'<section id="([^"]*)"', page))
    assert not ids & {"communication", "counters", "iterations", "streams", "memory", "operators"}
    assert {"ledger", "gaps", "kernels"} <= ids


def test_what_matters_comes_first() -> None:
    page = render(None, [side.analysis for side in sides()], {})
    order = [
        "why",
        "left",
        "waterfall",
        "ledger",
        "critical",
        "stages",
        "kernels",
        "overlap",
        "bandwidth",
        "gaps",
        "iterations",
    ]
    order += ["allocator", "streams", "trust", "reproduce", "environment"]
    assert [i for i in re.findall(r'<section id="([^"]*)"', page) if i in order] == order


def test_no_section_is_made_of_empty_tables() -> None:
    full = sides()[0].analysis
    bare = analyze(pair.baseline(), variant="baseline", window="measured", details=False)
    side = [Side("bare", replace(bare, gaps=full.gaps.clear(), iterations=full.iterations.clear()))]
    for section in (
        gaps.gaps_section,
        communication_section,
        counters_section,
        iterations.iterations_section,
        launches.launches_section,
        streams.streams_section,
        memory.memory_section,
    ):
        assert section(side) is None


def test_cells_of_one_size_stand_in_the_order_of_their_names() -> None:
    """A bundle's page is made again by `verify`, in another process, and must be the same to the byte."""
    ledger = pl.DataFrame(
        [(0, stage, None, "idle", cause, 5) for stage in ("b", "a", "c") for cause in ("sync", "queued", "tail")],
        schema=SCHEMAS["ledger"],
        orient="row",
    )
    side = replace(sides()[0], analysis=replace(sides()[0].analysis, ledger=ledger))
    rows = tables(ledger_section([side]))["every cell of the ledger"].rows
    told = [tuple(row.cells[1:4]) for row in rows]
    assert told == sorted(told) and len(told) == 9
