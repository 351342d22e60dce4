"""Timelines: which part of a trace is shown, in which lanes, and that nothing goes missing unsaid."""

from __future__ import annotations

import polars as pl

from aisp_trace.analyze.analyze import analyze
from aisp_trace.report.page import timeline
from aisp_trace.report.page.timeline import Timeline, build
from aisp_trace.tests.builders import pair
from aisp_trace.traces.model import Trace

MS = pair.MS


def _built(trace: Trace, window: str | None = "measured") -> Timeline:
    made = build(trace, analyze(trace, variant="v", window=window, largest_gaps=500))
    assert made is not None
    return made


def _drawn(made: Timeline, lane: str) -> list[tuple[str, int, int]]:
    index = [each.label for each in made.lanes].index(lane)
    return [(m.kind, m.start_ns // 1000, m.duration_ns // 1000) for m in made.marks if m.lane == index]


def test_lanes_are_stages_then_streams_then_idle() -> None:
    made = _built(pair.optimized())
    assert [(each.label, each.role) for each in made.lanes] == [
        ("main 11", "stage"),  # iteration; the gate around it is not drawn
        ("", "stage"),  # h2d and compute below it
        ("GPU 0 · stream 7", "stream"),
        ("GPU 0 · stream 13", "stream"),
        ("GPU 0 idle", "idle"),
    ]
    assert made.shown == "all 2 iterations" and made.span_ns == 12 * MS and made.ops == 6


def test_marks_lie_where_they_are_in_the_view() -> None:
    made = _built(pair.optimized())
    assert _drawn(made, "main 11") == [("stage stage", 0, 6000), ("stage stage", 6000, 6000)]
    assert _drawn(made, "GPU 0 · stream 13") == [("h2d", 1000, 3000), ("h2d", 7000, 3000)]
    assert _drawn(made, "GPU 0 · stream 7") == [
        ("compute", 2000, 2000),
        ("compute", 4000, 1000),
        ("compute", 8000, 2000),
        ("compute", 10000, 1000),
    ]
    assert [(start, length) for _, start, length in _drawn(made, "GPU 0 idle")] == [
        (0, 1000),
        (5000, 2000),
        (11000, 1000),
    ]


def test_the_cause_of_idle_time_is_on_hover() -> None:
    trace = pair.baseline()
    found = analyze(trace, variant="v", window="measured", largest_gaps=500)
    made = build(trace, found)
    assert made is not None
    said = sorted(line.removeprefix("cause: ") for m in made.marks for line in m.hover if line.startswith("cause: "))
    assert said == sorted(found.gaps["cause"].to_list())


def test_two_of_many_iterations_are_shown() -> None:
    ops = [("compute", 7, i * MS + 1000, i * MS + 2000) for i in range(5)]
    ranges = [("measured", 0, 5 * MS), *[("iteration", i * MS, (i + 1) * MS) for i in range(5)]]
    made = _built(pair.trace(ops, ranges))
    assert made.shown == "the first 2 iterations of 5" and made.ops == 2 and made.span_ns == 2 * MS


def test_a_trace_without_iterations_is_shown_whole() -> None:
    made = _built(pair.trace([("compute", 7, 5000, 6000), ("h2d", 7, 8000, 9000)], []), window=None)
    assert made.shown == "the whole window" and made.span_ns == 4000
    assert [each.role for each in made.lanes] == ["stream", "idle"]


def test_too_many_ops_are_merged_below_a_pixel_and_counted() -> None:
    """40,000 kernels of 1 us every 2 us: far more than can be drawn, or seen."""
    ops = [("compute", 7, i * 2000, i * 2000 + 1000) for i in range(40_000)]
    made = _built(pair.trace(ops, [("measured", 0, 80 * MS), ("iteration", 0, 80 * MS)]))
    marks = [m for m in made.marks if m.kind == "compute"]
    assert len(marks) <= timeline.MOST_MARKS
    assert sum(int(m.hover[0].split()[0].replace(",", "")) for m in marks if "drawn as one" in m.hover[0]) == 40_000
    assert any(note.startswith("40,000 ops drawn as") for note in made.notes)
    assert made.ops == 40_000
    assert {round(m.density, 1) for m in marks} == {0.5}


def test_few_ops_are_never_merged() -> None:
    """Neighbours without a gap stay apart where there is room for both."""
    ops = [("compute", 7, i * 10, i * 10 + 10) for i in range(1000)]
    made = _built(pair.trace(ops, [("measured", 0, MS), ("iteration", 0, MS)]))
    assert sum(m.kind == "compute" for m in made.marks) == 1000


def test_streams_beyond_the_limit_share_a_lane_with_a_note() -> None:
    ops = [("compute", s, 0, 1000 + s) for s in range(timeline.MOST_STREAMS + 6)]
    made = _built(pair.trace(ops, [("measured", 0, 5000), ("iteration", 0, 5000)]))
    assert sum(m.kind == "compute" for m in made.marks) >= timeline.MOST_STREAMS + 1
    assert "6 more streams" in [each.label for each in made.lanes]
    assert "the 6 least busy streams share one lane" in made.notes
    assert sum(each.items for each in made.lanes if each.role == "stream") == timeline.MOST_STREAMS + 6


def test_an_open_range_is_drawn_to_the_end_and_says_so() -> None:
    ranges = pair.trace([], [("stuck", 1000, 2000), ("iteration", 0, 5000)]).ranges
    end = pl.when(pl.col("name").cast(pl.String) != "stuck").then("end_ns")
    made = _built(
        pair.trace([("compute", 7, 0, 5000)], [], ranges=ranges.with_columns(end.alias("end_ns"))), window=None
    )
    stuck = [m for m in made.marks if m.label == "stuck"]
    assert [(m.start_ns, m.duration_ns) for m in stuck] == [(1000, 4000)]
    assert any("never closed" in line for line in stuck[0].hover)


def test_nothing_is_no_timeline() -> None:
    trace = pair.trace([], [])
    assert build(trace, analyze(trace)) is None
