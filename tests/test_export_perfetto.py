"""The Perfetto trace, loaded into Perfetto's own trace processor and asked in SQL."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.selection import Selection
from aisp_trace.analyze.attribution.steady import Seeking
from aisp_trace.analyze.attribution.window import STEADY
from aisp_trace.report.export.counters import copy_rate
from aisp_trace.report.export.packets import LONGEST_NAME, label
from aisp_trace.report.export.perfetto import write_perfetto
from aisp_trace.tests.builders.perfetto import Processor, running
from aisp_trace.tests.builders.samples import SAMPLES, unpack
from aisp_trace.tests.oracle.build import build, call, device, op, osrt, span
from aisp_trace.tests.oracle.strategies import random_trace
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace

Rows = list[tuple[Any, ...]]

# Slices with the name of the process-wide thread, or the named track, that they are on.
ON_TRACK = "slice JOIN track ON slice.track_id = track.id"
ON_THREAD = (
    "slice JOIN thread_track ON slice.track_id = thread_track.id JOIN thread USING (utid) JOIN process USING (upid)"
)
TROUBLE = "SELECT name, value FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0"


@pytest.fixture(scope="module")
def processor() -> Iterator[Processor]:
    with running() as found:
        yield found


def exported(trace: Trace, folder: Path, *, gaps: int = 20) -> Path:
    file = folder / "t.pftrace"
    with file.open("wb") as out:
        write_perfetto(trace, analyze(trace, largest_gaps=gaps), out)
    return file


def slices_of(processor: Processor, category: str) -> Rows:
    found = processor.query(f"SELECT ts, dur, name FROM slice WHERE category = '{category}' ORDER BY 1, 2, 3")
    return [tuple(row) for row in found]


def rows_of(table: pl.DataFrame) -> Rows:
    """(start, duration, shown name) of each row, in order."""
    names = table["name"].cast(pl.String).map_elements(label, return_dtype=pl.String, skip_nulls=True)
    rows = table.select("start_ns", pl.col("end_ns") - pl.col("start_ns"), names.alias("name"))
    return sorted(rows.rows())


@pytest.mark.parametrize("asked", [Seeking(skip=4), Seeking(pattern="^compute$"), Seeking(pattern="^h2d$", skip=2)])
def test_the_critical_path_fills_the_iterations_that_were_asked_for(
    processor: Processor, asked: Seeking, tmp_path: Path
) -> None:
    """Not those that are found where nothing is asked for."""
    (sample,) = (SAMPLES / "h200_pipeline_sequential" / "baseline").glob("trace.sqlite*")
    trace = open_trace(sample)
    analysis, plain = analyze(trace, window=STEADY, seeking=asked), analyze(trace, window=STEADY)
    file = tmp_path / "t.pftrace"
    with file.open("wb") as out:
        write_perfetto(trace, analysis, out)
    processor.load(file)
    (path,) = processor.query("SELECT min(ts), max(ts + dur), sum(dur) FROM slice WHERE category = 'critical path'")
    assert analysis.steady is not None and plain.steady is not None
    assert path[2] == path[1] - path[0] == analysis.critical["ns"].sum()
    assert (path[0], path[1]) == analysis.steady.window != plain.steady.window


@pytest.mark.parametrize(
    "sample", ["h100_pipeline_decode", "h100_pipeline_decode_graph_nodes", "h100_pipeline_decode_gpu_metrics_trimmed"]
)
def test_a_real_recording_arrives_whole(processor: Processor, sample: str, tmp_path: Path) -> None:
    """Every op, call, range, gap and sample, with its exact time, duration and name; every arrow; nothing lost."""
    trace = open_trace(unpack(sample, tmp_path))
    analysis = analyze(trace, largest_gaps=50)
    file = tmp_path / "t.pftrace"
    with file.open("wb") as out:
        write_perfetto(trace, analysis, out)
    processor.load(file)
    assert processor.query(TROUBLE) == []
    for (kind,), ops in trace.ops.group_by("kind"):
        assert slices_of(processor, str(kind)) == rows_of(ops)
    assert slices_of(processor, "cuda") == rows_of(trace.api)
    for (domain,), ranges in trace.ranges.group_by("domain"):
        closed = ranges.filter(pl.col("end_ns").is_not_null())
        assert slices_of(processor, str(domain) or "default domain") == rows_of(closed)
    assert slices_of(processor, "idle") == rows_of(analysis.gaps.rename({"cause": "name"}))
    path = processor.query("SELECT sum(dur) FROM slice WHERE category = 'critical path'")
    assert path == [(analysis.critical["ns"].sum(),)], "it fills the window"
    assert processor.query("SELECT count(*), sum(s.id IS NOT NULL) FROM flow LEFT JOIN slice s ON s.id = slice_in") == [
        (launching := _launching(trace), launching)
    ]
    samples = processor.query(
        "SELECT name, count(*), cast_int!(sum(value)) FROM counter JOIN track ON track.id = track_id "
        "WHERE name NOT LIKE '% memory in use' AND name NOT LIKE '% copies' GROUP BY 1"
    )
    expected = trace.gpu_metrics.group_by(pl.col("metric").cast(pl.String)).agg(pl.len(), pl.col("value").sum())
    assert sorted(samples) == sorted(expected.rows())


def _launching(trace: Trace) -> int:
    """Calls that launched something: pairs of (pid, correlation) that are in both tables."""
    keys = ["pid", "correlation"]
    return len(trace.api.select(keys).unique().join(trace.ops.select(keys).unique(), on=keys))


def test_stages_carry_over(processor: Processor, tmp_path: Path) -> None:
    """Busy time per stage, summed by the trace processor, is what the analysis says."""
    trace = open_trace(unpack("h100_pipeline_decode", tmp_path))
    analysis = analyze(trace)
    processor.load(exported(trace, tmp_path))
    found = processor.query(
        "SELECT extract_arg(arg_set_id, 'debug.stage'), count(*), sum(dur) FROM slice "
        "WHERE extract_arg(arg_set_id, 'debug.kind') = 'h2d' AND category = 'h2d' GROUP BY 1 ORDER BY 1"
    )
    shown = {stage: (ops, total) for stage, ops, total in found if not stage.startswith("(")}
    figures = analysis.stage_kinds.filter(pl.col("kind") == "h2d").select("path", "ops", "sum_ns")
    expected = {path: (ops, total) for path, ops, total in figures.iter_rows()}
    assert len(shown) >= 3  # each launches its own copies, and none of these has a stage inside that copies too
    assert shown == {path: expected[path] for path in shown}


def test_a_torch_recording_arrives_whole(processor: Processor, tmp_path: Path) -> None:
    trace = open_trace(SAMPLES / "h100_pipeline_decode_kineto.json.gz")
    processor.load(exported(trace, tmp_path))
    assert processor.query(TROUBLE) == []
    for (kind,), ops in trace.ops.group_by("kind"):
        assert slices_of(processor, str(kind)) == rows_of(ops)


def test_threads_without_a_device(processor: Processor, tmp_path: Path) -> None:
    trace = open_trace(unpack("cpu_threads_nsys2022", tmp_path))
    processor.load(exported(trace, tmp_path))
    found = processor.query(f"SELECT pid, tid, count(*) FROM {ON_THREAD} GROUP BY 1, 2")
    tables = [trace.table(name).select("pid", "tid") for name in ("ranges", "api", "osrt")]
    assert sorted(found) == sorted(pl.concat(tables).group_by("pid", "tid").len().rows())


def planted(**tables: list[dict[str, Any]]) -> Trace:
    return build(devices=[device(0)], **tables)


def test_overlap_and_crossing_keep_every_slice_as_it_was(processor: Processor, tmp_path: Path) -> None:
    #                  0    5    10   15   20
    # range a          |---------|
    # range b               |---------|               crosses a
    # call                 |-|                        launches k1
    # stream 7   k1              |-------|
    #            k2                  |------|         overlaps k1
    #            k3                          |        empty
    trace = planted(
        ranges=[span("a", 0, 10), span("b", 5, 15)],
        api=[call("launch", 4, 6, 1)],
        ops=[
            op("compute", 10, 18, 1, name="k1"),
            op("compute", 14, 21, 2, name="k2"),
            op("compute", 22, 22, 3, name="k3"),
        ],
    )
    processor.load(exported(trace, tmp_path))
    assert processor.query(TROUBLE) == []
    assert processor.query(
        f"SELECT track.name AS track, ts, dur, slice.name, depth FROM {ON_TRACK} WHERE category = 'compute' ORDER BY ts"
    ) == [
        ("stream 7", 10, 8, "k1", 0),
        ("stream 7 (overlap 2)", 14, 7, "k2", 0),
        ("stream 7", 22, 0, "k3", 0),
    ]
    assert processor.query("SELECT ts, dur, name, depth FROM slice WHERE category IN ('aisp', 'cuda') ORDER BY ts") == [
        (0, 10, "a", 0),
        (4, 2, "launch", 1),
        (5, 10, "b", 0),
    ]
    arrows = (
        "SELECT a.name AS call, b.name AS op FROM flow JOIN slice a ON a.id = slice_out JOIN slice b ON b.id = slice_in"
    )
    assert processor.query(arrows) == [("launch", "k1")]


def test_a_range_that_was_never_closed_stays_open(processor: Processor, tmp_path: Path) -> None:
    trace = planted(ranges=[span("a", 0, None), span("b", 5, 15)])
    processor.load(exported(trace, tmp_path))
    assert processor.query("SELECT name, ts, dur, depth FROM slice ORDER BY ts") == [
        ("a", 0, -1, 0),
        ("b", 5, 10, 1),
    ]


def test_processes_streams_and_contexts_are_told_apart(processor: Processor, tmp_path: Path) -> None:
    """Same correlation in two processes: each arrow stays in its own."""
    trace = planted(
        api=[call("launch", 0, 2, 1), call("launch", 1, 2, 1, pid=2, tid=20)],
        ops=[op("compute", 5, 9, 1, name="one"), op("compute", 6, 8, 1, pid=2, name="two")],
        processes=[
            {"pid": 1, "host": 0, "os_pid": 1, "name": "first"},
            {"pid": 2, "host": 0, "os_pid": 2, "name": "second"},
        ],
    )
    processor.load(exported(trace, tmp_path))
    names = processor.query(f"SELECT DISTINCT track.name FROM {ON_TRACK} WHERE category = 'compute' ORDER BY 1")
    assert names == [("stream 7 of process 1",), ("stream 7 of process 2",)]
    arrows = processor.query(
        "SELECT process.name AS process, b.name AS op FROM flow JOIN slice a ON a.id = slice_out JOIN slice b ON b.id = slice_in "
        "JOIN thread_track ON a.track_id = thread_track.id JOIN thread USING (utid) JOIN process USING (upid) ORDER BY 1"
    )
    assert arrows == [("first", "one"), ("second", "two")]


def test_one_launch_of_many_ops_points_at_the_first(processor: Processor, tmp_path: Path) -> None:
    trace = planted(
        api=[call("cudaGraphLaunch", 0, 2, 1)],
        ops=[op("compute", at, at + 2, 1, name=f"n{at}", graph_node=at) for at in (4, 7, 10)],
    )
    processor.load(exported(trace, tmp_path))
    assert processor.query("SELECT s.name FROM flow JOIN slice s ON s.id = slice_in") == [("n4",)]
    assert processor.query(
        "SELECT name, extract_arg(arg_set_id, 'debug.graph_node'), extract_arg(arg_set_id, 'debug.correlation') "
        "FROM slice WHERE category = 'compute' ORDER BY ts"
    ) == [("n4", 4, 1), ("n7", 7, 1), ("n10", 10, 1)]


def test_hostile_names_are_data(processor: Processor, tmp_path: Path) -> None:
    names = ["<b>x</b>", "a\x1b[31m\nb", "'; DROP TABLE slice; --", "", "n" * 1_000_000, "\u202eabc", "核"]
    trace = planted(ranges=[span(n, 10 * i, 10 * i + 5) for i, n in enumerate(names)], osrt=[osrt("x\0y", 90, 91)])
    file = exported(trace, tmp_path)
    assert file.stat().st_size < 20_000
    processor.load(file)
    assert processor.query(TROUBLE) == []
    shown = [name for (name,) in processor.query("SELECT name FROM slice ORDER BY ts")]
    assert shown[:4] == ["<b>x</b>", "a\\u001b[31m\\u000ab", "'; DROP TABLE slice; --", "(no name)"]
    assert len(shown[4]) == LONGEST_NAME
    assert shown[5:] == ["\\u202eabc", "核", "x\\u0000y"]


def test_times_before_zero_shift_all(processor: Processor, tmp_path: Path) -> None:
    trace = planted(ranges=[span("a", -7, 3)], ops=[op("compute", 5, 9, 1)])
    processor.load(exported(trace, tmp_path))
    assert processor.query("SELECT name, ts, dur FROM slice WHERE category <> 'window' ORDER BY ts") == [
        ("a", 0, 10),
        ("compute", 12, 4),
    ]


def test_compressed(processor: Processor, tmp_path: Path) -> None:
    trace = planted(ops=[op("compute", 5, 9, 1)])
    packed = tmp_path / "t.pftrace.gz"
    packed.write_bytes(gzip.compress(exported(trace, tmp_path).read_bytes()))
    processor.load(packed)
    assert processor.query("SELECT name, ts, dur FROM slice WHERE category = 'compute'") == [("compute", 5, 4)]


def test_memory_and_copies_are_counters(processor: Processor, tmp_path: Path) -> None:
    memory = [
        {
            "pid": 1,
            "device": 0,
            "time_ns": at,
            "address": 9,
            "nbytes": 64,
            "kind": "device",
            "is_free": free,
            "correlation": 1,
        }
        for at, free in ((2, False), (8, True))
    ]
    copy = op("h2d", 10, 20, 1, nbytes=50, src_kind="pinned", dst_kind="device")
    processor.load(exported(planted(ops=[copy], memory=memory), tmp_path))
    found = processor.query("SELECT name, ts, value FROM counter JOIN track ON track.id = track_id ORDER BY ts")
    details = ", ".join(f"extract_arg(arg_set_id, 'debug.{key}')" for key in ("from", "bytes"))
    source = f"SELECT {details} FROM slice WHERE category = 'h2d'"
    assert processor.query(source) == [("pinned", 50)]
    assert found == [
        ("device memory in use", 2, 64.0),
        ("device memory in use", 8, 0.0),
        ("h2d copies", 10, 5e9),
        ("h2d copies", 20, 0.0),
    ]


def test_copies_at_the_same_time_add_up() -> None:
    # 8 bytes in 4 s   |-------|
    # 12 bytes in 4 s    |-------|        and one without duration, and one without size, that count nothing
    copies = pl.DataFrame(
        {"start_ns": [0, 10**9, 3, 4], "end_ns": [4 * 10**9, 5 * 10**9, 3, 9], "nbytes": [8, 12, 7, None]}
    )
    time, value = copy_rate(copies)
    assert time.tolist() == [0, 10**9, 4 * 10**9, 5 * 10**9]
    assert value.tolist() == [2, 5, 3, 0]


def test_the_window_says_which_selection_was_used(processor: Processor, tmp_path: Path) -> None:
    """
    ranges   |a .. |b ..|  |  and the op launched in b, which --depth 1 folds into a
    """
    trace = planted(
        ops=[op("compute", 20, 30, 1)],
        api=[call("cudaLaunchKernel", 15, 16, 1)],
        ranges=[span("a", 0, 50), span("b", 10, 40)],
    )
    found = analyze(trace, selection=Selection(stages="a|b", depth=1), attribution="thread", window=(0, 60))
    file = tmp_path / "t.pftrace"
    with file.open("wb") as out:
        write_perfetto(trace, found, out)
    processor.load(file)
    chosen = ("domain", "stages", "depth", "range", "window", "attribution")
    asked = ", ".join(f"extract_arg(arg_set_id, 'debug.{name}')" for name in chosen)
    rows = processor.query(f"SELECT ts, dur, {asked} FROM slice WHERE category = 'window'")
    assert [tuple(row) for row in rows] == [(0, 60, "aisp", "a|b", "1", None, "0:60", "thread")]
    stage = processor.query(
        "SELECT extract_arg(arg_set_id, 'debug.stage') AS stage FROM slice WHERE category = 'compute'"
    )
    assert [tuple(row) for row in stage] == [("a",)]


def test_progress_is_told_and_events_are_counted(tmp_path: Path) -> None:
    trace = planted(ops=[op("compute", i, i + 1, 1) for i in range(10)], ranges=[span("a", 0, 4)])
    told: list[tuple[int, int]] = []
    with (tmp_path / "t").open("wb") as out:
        count = write_perfetto(
            trace, analyze(trace), out, progress=lambda done, expected: told.append((done, expected))
        )
    assert told[-1] == (count, 22) and count == 22 + 2  # the window of the device is one slice more
    assert _increasing(done for done, _ in told)


def _increasing(values: Iterable[int]) -> bool:
    found = list(values)
    return found == sorted(found)


@pytest.mark.parametrize("threads", [[(1, 10), (2, 10)], [(0, 0), (0, 7), (1, 1)], [(5, 5), (5, 6), (2**24 + 5, 5)]])
def test_threads_keep_apart_whatever_their_numbers(
    processor: Processor, tmp_path: Path, threads: list[tuple[int, int]]
) -> None:
    """Thread numbers repeat between containers and hosts; 0 means something else to Perfetto."""
    trace = planted(ranges=[span(f"{pid}/{tid}", 0, 5, pid=pid, tid=tid, end_tid=tid) for pid, tid in threads])
    processor.load(exported(trace, tmp_path))
    found = processor.query(f"SELECT slice.name AS range, depth, pid, tid FROM {ON_THREAD}")
    assert sorted(found) == sorted((f"{pid}/{tid}", 0, pid, tid) for pid, tid in threads)
    assert processor.query("SELECT count(DISTINCT track_id) AS n FROM slice") == [(len(threads),)]
    assert processor.query(TROUBLE) == []


@pytest.mark.parametrize("seed", range(8))
def test_random_traces_arrive_whole(processor: Processor, tmp_path: Path, seed: int) -> None:
    """Crossing, empty and open ranges, several processes and devices, hosts as devices: every slice, exactly."""
    trace = random_trace(Random(seed))
    processor.load(exported(trace, tmp_path))
    assert processor.query(TROUBLE) == []
    shift = min(0, *(t["start_ns"].min() or 0 for t in (trace.ops, trace.api, trace.ranges, trace.osrt)))
    for table, categories in (
        (trace.ops, trace.ops["kind"].cast(pl.String)),
        (trace.api, pl.Series(["cuda"])),
        (trace.osrt, pl.Series(["os"])),
        (trace.ranges, trace.ranges["domain"].cast(pl.String).replace("", "default domain")),
    ):
        words = ", ".join(f"'{word}'" for word in categories.unique().to_list())
        found = processor.query(f"SELECT ts, dur, name FROM slice WHERE category IN ({words})")
        expected = table.select(
            pl.col("start_ns") - shift,
            pl.coalesce((pl.col("end_ns") - pl.col("start_ns")).clip(0), -1).alias("dur"),
            pl.col("name").cast(pl.String),
        )
        assert sorted(found) == sorted(expected.rows())
