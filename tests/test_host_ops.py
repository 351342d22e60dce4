"""Without a GPU, the stages that do the work are the operations."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from aisp_trace.analyze.analyze import analyze
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.traces.host_ops import with_host_ops
from aisp_trace.traces.nsys.read import read_nsys


def test_working_stages_become_ops_of_a_host_device(tmp_path: Path) -> None:
    #  thread 7    |-- h2d 64 B --|              (stream 0)
    #  thread 9         |---- compute ----|      (stream 1)   and stages that occupy nothing
    export = NsysExport().domain(1, "aisp")
    for number, kind in enumerate(("h2d", "compute", "host", "alloc"), start=1):
        export.category(number, kind, domain=1)
    export.range(0, 100, "measured", tid=7, domainId=1)
    export.range(10, 30, "load", tid=7, domainId=1, category=1, int64Value=64)
    export.range(15, 45, "matmul", tid=9, domainId=1, category=2)
    export.range(50, 60, "tidy", tid=9, domainId=1, category=3)
    export.range(60, 65, "grow", tid=9, domainId=1, category=4)
    export.range(70, None, "still open", tid=9, domainId=1, category=2)
    export.range(80, 90, "elsewhere", tid=9, domainId=0, category=2)
    trace = with_host_ops(read_nsys(export.write(tmp_path / "t.sqlite")))
    columns = ("op_id", "kind", "device", "stream", "start_ns", "end_ns", "name", "nbytes", "correlation")
    assert trace.ops.select(columns).rows() == [
        (0, "h2d", 0, 0, 10, 30, "load", 64, 1),
        (1, "compute", 0, 1, 15, 45, "matmul", None, 2),
    ]
    ids = dict(trace.ranges.select("range_id", pl.col("name").cast(pl.String)).iter_rows())
    assert (ids[1], ids[2]) == ("load", "matmul")
    assert trace.devices.select("device", "type", "name").rows() == [(0, "host", "host")]
    assert trace.ranges.height == 7


def test_each_process_is_a_device_of_its_own(tmp_path: Path) -> None:
    #  process 20   |-- compute --|
    #  process 30      |-- comm --|       hides under nothing: the compute is another rank's
    export = NsysExport()
    for pid in (20, 30):
        export.domain(1, "aisp", pid=pid).category(1, "compute", domain=1, pid=pid)
        export.category(2, "comm", domain=1, pid=pid)
    export.range(10, 40, "forward", pid=20, domainId=1, category=1)
    export.range(20, 40, "all_reduce", pid=30, domainId=1, category=2)
    trace = with_host_ops(read_nsys(export.write(tmp_path / "t.sqlite")))
    assert trace.ops.select("kind", "device", "stream").rows() == [("compute", 0, 0), ("comm", 1, 1)]
    assert trace.devices.select("device", "type", "name").rows() == [
        (0, "host", "host process 0"),
        (1, "host", "host process 1"),
    ]
    hidden = analyze(trace).overlap.filter((pl.col("a") == "comm") & (pl.col("b") == "compute"))
    assert hidden.filter(pl.col("stage").is_null())["both_ns"].sum() == 0


def test_a_trace_with_device_rows_is_left_alone(tmp_path: Path) -> None:
    export = NsysExport().domain(1, "aisp").category(1, "compute", domain=1)
    export.range(0, 9, "s", domainId=1, category=1).kernel(1, 2)
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert with_host_ops(trace) is trace


def test_the_default_domain_counts_where_there_is_no_other(tmp_path: Path) -> None:
    export = NsysExport().category(1, "d2h", domain=0).range(0, 9, "s", category=1).range(1, 2, "none")
    trace = with_host_ops(read_nsys(export.write(tmp_path / "t.sqlite")))
    assert trace.ops.select("kind", "name").rows() == [("d2h", "s")]


def test_no_stage_with_a_kind_means_no_ops(tmp_path: Path) -> None:
    trace = read_nsys(NsysExport().range(0, 9, "s").write(tmp_path / "t.sqlite"))
    assert with_host_ops(trace) is trace
