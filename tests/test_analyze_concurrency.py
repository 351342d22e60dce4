"""How many streams are busy at once: planted, against looking at every instant, and always a partition of the window."""

from __future__ import annotations

from itertools import pairwise

import polars as pl
from hypothesis import given, settings

from aisp_trace.analyze.analyze import analyze
from aisp_trace.tests.examples import examples
from aisp_trace.tests.oracle.build import build, op
from aisp_trace.tests.oracle.strategies import Case, cases
from aisp_trace.traces.model import Trace


def four_streams() -> Trace:
    """
    stream 7    0--------40      60----80
    stream 8         20-------50
    stream 9           30--40
    stream 10          30-35                  (four at once are three or more)
    busy        1....2.3...2..1..0..1....
    """
    return build(
        ops=[
            op("compute", 0, 40),
            op("compute", 10, 30),  # a second kernel of the stream: still one stream
            op("compute", 20, 50, stream=8),
            op("h2d", 30, 40, stream=9),
            op("d2h", 30, 35, stream=10),
            op("compute", 60, 80),
        ]
    )


def test_levels_of_four_streams() -> None:
    found = analyze(four_streams())
    assert found.concurrency.rows() == [(0, 0, 10), (0, 1, 20 + 10 + 20), (0, 2, 10), (0, 3, 10)]
    busy = {stream: (ops, ns) for _, _, _, stream, ops, ns in found.streams.rows()}
    assert busy == {7: (3, 60), 8: (1, 30), 9: (1, 10), 10: (1, 5)}


def test_the_same_stream_number_of_two_processes_is_two_streams() -> None:
    trace = build(ops=[op("compute", 0, 10), op("compute", 5, 10, pid=2)])
    assert analyze(trace).concurrency["ns"].to_list() == [0, 5, 5, 0]


def test_a_device_has_streams_of_its_own() -> None:
    trace = build(ops=[op("compute", 0, 10), op("compute", 0, 10, device=1)])
    assert analyze(trace).concurrency.rows() == [
        *((0, 0, 0), (0, 1, 10), (0, 2, 0), (0, 3, 0)),
        *((1, 0, 0), (1, 1, 10), (1, 2, 0), (1, 3, 0)),
    ]


@given(cases())
@settings(max_examples=examples(80))
def test_levels_equal_counting_at_every_instant(case: Case) -> None:
    if case.domain is not None or (isinstance(case.window, tuple) and case.window[0] >= case.window[1]):
        return
    found = analyze(case.trace, window=case.window, attribution=case.attribution)
    for device, low, high in found.windows.rows():
        ops = case.trace.ops.filter(pl.col("device") == device)
        cuts = sorted({low, high, *(t for t in (*ops["start_ns"], *ops["end_ns"]) if low < t < high)})
        expected = [0, 0, 0, 0]
        for start, end in pairwise(cuts):
            running = ops.filter((pl.col("start_ns") <= start) & (pl.col("end_ns") >= end))
            streams = running.select("pid", "context", "stream").n_unique() if len(running) else 0
            expected[min(streams, 3)] += end - start
        levels = found.concurrency.filter(pl.col("device") == device)
        assert levels["ns"].to_list() == expected
        assert levels["ns"].sum() == high - low
