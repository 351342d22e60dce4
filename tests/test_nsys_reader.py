"""nsys exports become exactly the tables that plain SQL says they hold, whatever their age and state."""

from __future__ import annotations

import csv
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aisp_trace.analyze.sources import READ_METRICS
from aisp_trace.tests.builders.nsys_export import NsysExport, gid
from aisp_trace.tests.builders.samples import SAMPLES, unpack
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.kernel_names import call_name, collectives, function_name
from aisp_trace.traces.model import Trace, block_code, grid_code
from aisp_trace.traces.nsys import columns as nsys_columns
from aisp_trace.traces.nsys.facts import METRIC_COLUMNS
from aisp_trace.traces.nsys.host import HOST_TABLES
from aisp_trace.traces.nsys.ops import OP_TABLES
from aisp_trace.traces.nsys.read import read_nsys
from aisp_trace.traces.nsys.schema import EVENT_TABLES
from aisp_trace.traces.unpack import decompressed

H100 = "h100_pipeline_decode"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples")


def sums(trace: Trace) -> dict[str, tuple[int, int]]:
    """kind -> (ops, summed ns)."""
    table = trace.ops.group_by("kind").agg(pl.len(), (pl.col("end_ns") - pl.col("start_ns")).sum().alias("ns"))
    return {row[0]: (row[1], row[2]) for row in table.iter_rows()}


def held(frame: pl.DataFrame) -> int:
    return int((frame.get_column("end_ns") - frame.get_column("start_ns")).sum())


# ------------------------------------------------------------------------------------------------- real recordings


@pytest.mark.parametrize(
    ("name", "compute", "copies", "graph", "api", "ranges"),
    [
        (H100, (2391, 140362519), (113, 787417356), (64, 8355539), (7412, 1302428619), (223, 6224247746)),
        (f"{H100}_graph_nodes", (4439, 147896192), (113, 722647278), None, (7418, 1139810491), (222, 5038011438)),
        (f"{H100}_nsys2023", (2391, 140424959), (113, 852665397), None, (7418, 1282082621), (222, 5589544669)),
    ],
)
def test_h100_samples_hold_what_sql_says(
    folder: Path, name: str, compute: Any, copies: Any, graph: Any, api: Any, ranges: Any
) -> None:
    trace = read_nsys(unpack(name, folder))
    found = sums(trace)
    assert found["compute"] == compute
    assert (found["h2d"][0] + found["d2h"][0], found["h2d"][1] + found["d2h"][1]) == copies
    assert found.get("graph") == graph
    assert set(found) <= {"compute", "h2d", "d2h", "graph"}
    assert (trace.api.height, held(trace.api)) == api
    assert (trace.ranges.height, held(trace.ranges)) == ranges
    moved = trace.ops.group_by("kind").agg(pl.col("nbytes").sum())
    assert dict(moved.filter(pl.col("nbytes") > 0).iter_rows()) == {"h2d": 2147811328, "d2h": 1610612740}
    assert trace.ops.filter((pl.col("src_kind") == "pinned") | (pl.col("dst_kind") == "pinned")).height == 25
    assert dict(trace.meta.anomalies) == {}
    row = trace.devices.row(0, named=True)
    assert (row["name"], row["sm_count"], row["compute_capability"]) == ("NVIDIA H100 80GB HBM3", 132, "9.0")
    assert row["memory_bytes_per_s"] == 3352320000000


def test_versions_and_schemas_are_told_apart(folder: Path) -> None:
    metas = [read_nsys(unpack(n, folder)).meta for n in (H100, f"{H100}_nsys2023", "cpu_threads_nsys2022")]
    assert [(m.recorder_version, m.export_schema) for m in metas] == [
        ("2025.3.2.0", "3.20.3"),
        ("2023.4.4.54", "3.7.2"),
        ("2022.4.2.1", "3.0.0"),
    ]
    assert metas[0].capture["CUDA_GRAPH_TRACE_OPTIONS:MODE"] == "Graph"
    assert metas[0].capture["CAPTURE_EVENT_TYPE"] == "CuBLAS,NvtxEvents,Cuda"
    assert not [k for k in metas[0].capture if "ARGUMENT" in k or "DIR" in k or "USER" in k or "COMMAND" in k]


def test_the_other_tables_of_the_h100_sample(folder: Path) -> None:
    trace = read_nsys(unpack(H100, folder))
    assert (trace.syncs.height, held(trace.syncs)) == (160, 1184134)
    assert (trace.memory.height, int(trace.memory.get_column("nbytes").sum())) == (634, 5601849997)
    kinds = trace.memory.group_by("kind", "is_free").len().sort("kind", "is_free").rows()
    assert kinds == [
        ("pinned", False, 4),
        ("pinned", True, 3),
        ("device", False, 52),
        ("device", True, 35),
        ("device_static", False, 540),
    ]
    statics = trace.memory.filter(pl.col("correlation") == 0)
    assert statics.get_column("kind").cast(pl.String).unique().to_list() == ["device_static"]
    assert (trace.overhead.height, held(trace.overhead)) == (27, 442064083)
    assert trace.overhead.get_column("source").cast(pl.String).unique().to_list() == ["profiler"]
    assert trace.processes.rows() == [(448, 0, 448, "python3")]
    assert trace.diagnostics.height == 12
    assert trace.api.get_column("name").cast(pl.String).str.contains(r"_v\d+$").sum() == 0
    domains = trace.ranges.group_by("domain").len().sort("domain").rows()
    assert sorted(domains) == [("", 1), ("aisp", 221), ("cuBLAS", 1)]


def test_graph_nodes_share_the_launch(folder: Path) -> None:
    ops = read_nsys(unpack(f"{H100}_graph_nodes", folder)).ops.filter(pl.col("graph_node").is_not_null())
    assert ops.height == 4439 - 2391
    per_launch = ops.group_by("correlation").len().get_column("len").to_list()
    assert per_launch == [32] * 64


def test_cpu_sample(folder: Path) -> None:
    trace = read_nsys(unpack("cpu_threads_nsys2022", folder))
    assert trace.ops.height == trace.api.height == 0
    assert (trace.ranges.height, held(trace.ranges)) == (86, 2038886695)
    assert (trace.osrt.height, held(trace.osrt)) == (5029, 961356106)
    assert int(trace.ranges.get_column("nbytes").sum()) == 100663296
    assert trace.ranges.get_column("tid").n_unique() == 3
    assert trace.ranges.get_column("domain").cast(pl.String).unique().to_list() == ["aisp"]


def test_gpu_metrics_by_name(folder: Path) -> None:
    trace = read_nsys(unpack(f"{H100}_gpu_metrics_trimmed", folder))
    metrics = trace.gpu_metrics
    assert (metrics.height, int(metrics.get_column("value").sum())) == (27060, 4473883175599)
    assert metrics.get_column("metric").n_unique() == 22
    assert metrics.get_column("device").unique().to_list() == [0]
    read = metrics.filter(pl.col("metric") == "DRAM Read Bandwidth [Throughput %]")
    assert read.height == 1230
    assert read.get_column("value").is_between(0, 100).all()
    assert trace.meta.capture["GPU_METRICS_OPTIONS:SAMPLING_FREQUENCY"] == "10000"


def test_kernel_sums_equal_nsys_stats(folder: Path) -> None:
    trace = read_nsys(unpack(H100, folder))
    kernels = trace.ops.filter(pl.col("kind").is_in(["compute", "comm"])).with_columns(pl.col("name").cast(pl.String))
    ours = kernels.group_by("name").agg(
        (pl.col("end_ns") - pl.col("start_ns")).sum().alias("ns"), pl.len().cast(pl.Int64).alias("n")
    )
    with (SAMPLES / "nsys_stats" / "stats_cuda_gpu_kern_sum.csv").open(newline="") as file:
        theirs = {r["Name"]: (int(r["Total Time (ns)"]), int(r["Instances"])) for r in csv.DictReader(file)}
    assert {name: (ns, n) for name, ns, n in ours.iter_rows()} == theirs


def test_copy_sums_equal_nsys_stats(folder: Path) -> None:
    trace = read_nsys(unpack(H100, folder))
    with (SAMPLES / "nsys_stats" / "stats_cuda_gpu_mem_time_sum.csv").open(newline="") as file:
        theirs = {r["Operation"]: (int(r["Count"]), int(r["Total Time (ns)"])) for r in csv.DictReader(file)}
    found = sums(trace)
    assert found["d2h"] == theirs["[CUDA memcpy Device-to-Host]"]
    assert found["h2d"] == theirs["[CUDA memcpy Host-to-Device]"]


# ----------------------------------------------------------------------------------------------------------- traps


def test_rows_without_a_usable_interval_are_dropped_and_counted(tmp_path: Path) -> None:
    export = NsysExport()
    export.kernel(10, 20).kernel(30, 0).kernel(40, None).kernel(60, 50).kernel(70, 70)
    export.call(1, 5, "cudaLaunchKernel_v7000").call(6, 0, "cudaFree_v3020").call(9, 8, "cudaFree_v3020")
    export.range(0, 100, "closed").range(1, None, "open").range(2, 0, "open too").range(9, 3, "backwards")
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.ops.select("start_ns", "end_ns").rows() == [(10, 20), (70, 70)]
    assert trace.api.select("start_ns", "end_ns", "name").rows() == [(1, 5, "cudaLaunchKernel")]
    assert trace.ranges.select("name", "end_ns").rows() == [("closed", 100), ("open", None), ("open too", None)]
    assert dict(trace.meta.anomalies) == {
        "api_end_before_start": 1,
        "api_without_end": 1,
        "ops_end_before_start": 1,
        "ops_without_end": 2,
        "ranges_end_before_start": 1,
        "ranges_unclosed": 2,
    }


def test_row_order_is_not_trusted(tmp_path: Path) -> None:
    export = NsysExport().kernel(50, 60, "b").copy(20, 30).kernel(10, 40, "a").call(9, 9, "y").call(3, 4, "x")
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.ops.select("op_id", "start_ns", "name").rows() == [(0, 10, "a"), (1, 20, "memcpy h2d"), (2, 50, "b")]
    assert trace.api.select("call_id", "name").rows() == [(0, "x"), (1, "y")]


def test_processes_and_hosts_keep_equal_correlations_apart(tmp_path: Path) -> None:
    #  correlation 1 three times: process 100 and 200 on one host, and process 100 of another host
    export = NsysExport().kernel(1, 2).kernel(3, 4, pid=200).kernel(5, 6, host=9)
    export.call(0, 1, "cudaLaunchKernel").call(0, 1, "cudaLaunchKernel", host=9, tid=7)
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.ops.get_column("pid").to_list() == [100, 200, (1 << 24) + 100]
    assert trace.api.select("pid", "tid").rows() == [(100, 100), ((1 << 24) + 100, 7)]
    assert trace.ops.select("pid", "correlation").n_unique() == 3
    assert trace.processes.select("host", "os_pid").rows() == [(0, 100), (0, 200), (1, 100)]
    assert trace.ops.get_column("device").to_list() == [0, 0, 256]


def test_cuda_device_numbers_are_mapped_per_process(tmp_path: Path) -> None:
    #  CUDA_VISIBLE_DEVICES: both ranks call their GPU 0
    export = NsysExport().kernel(1, 2, pid=100).kernel(3, 4, pid=200).copy(5, 6, kind=10, pid=200, srcDeviceId=0)
    export.add("TARGET_INFO_CUDA_DEVICE", pid=100, cudaId=0, gpuId=2)
    export.add("TARGET_INFO_CUDA_DEVICE", pid=200, cudaId=0, gpuId=5)
    export.add("TARGET_INFO_GPU", vmId=gid(0), id=2, name="A").add("TARGET_INFO_GPU", vmId=gid(0), id=5, name="B")
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.ops.get_column("device").to_list() == [2, 5, 5]
    assert trace.ops.get_column("src_device").to_list() == [None, None, 5]
    assert trace.devices.select("device", "name").rows() == [(2, "A"), (5, "B")]


def test_copies_and_memory_kinds(tmp_path: Path) -> None:
    kinds = {1: "h2d", 2: "d2h", 3: "h2d", 4: "d2h", 5: "d2d", 6: "d2d", 7: "d2d", 8: "d2d", 9: "h2h", 10: "p2p"}
    kinds |= {11: "migration", 12: "migration", 13: "p2p"}
    export = NsysExport()
    for number in kinds:
        export.copy(number, number + 1, kind=number, srcKind=0, dstKind=1)
    export.copy(90, 91, kind=0, srcKind=1, dstKind=2)  # unknown to nsys, but its memories tell
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.ops.get_column("kind").to_list() == [*kinds.values(), "h2d"]
    assert trace.ops.get_column("src_kind").to_list() == ["pageable"] * 13 + ["pinned"]
    assert trace.ops.get_column("dst_kind").to_list() == ["pinned"] * 13 + ["device"]
    assert trace.meta.anomalies["copies_of_unknown_kind"] == 1


def test_what_the_driver_migrates_is_managed_memory(tmp_path: Path) -> None:
    """As nsys writes them: copy kinds 11 to 13, memory kinds 7, no call."""
    export = NsysExport()
    for at, kind in enumerate((11, 12, 13, 1)):
        export.copy(10 * at, 10 * at + 5, kind=kind, srcKind=7, dstKind=7, correlationId=0)
    ops = read_nsys(export.write(tmp_path / "t.sqlite")).ops
    assert ops.get_column("kind").to_list() == ["migration", "migration", "p2p", "h2d"]
    for end in ("src_kind", "dst_kind"):
        assert ops.get_column(end).to_list() == ["managed"] * 3 + ["unknown"]


def test_a_kernel_s_grid_is_one_number_where_all_of_it_is_known(tmp_path: Path) -> None:
    grids = ((2, 3, 4), (2, 4, 3), (2**31 - 1, 65535, 65535), (0, 1, 1), (1, 65536, 1), (None, 1, 1))
    export = NsysExport()
    for at, (x, y, z) in enumerate(grids):
        export.kernel(10 * at, 10 * at + 5, gridX=x, gridY=y, gridZ=z)
    found = read_nsys(export.copy(100, 101).write(tmp_path / "t.sqlite")).ops.get_column("grid").to_list()
    assert found == [grid_code(2, 3, 4), grid_code(2, 4, 3), 2**63 - 1, *[None] * 4]


def test_a_kernel_s_block_is_one_number_where_all_of_it_is_known(tmp_path: Path) -> None:
    blocks = ((32, 3, 4), (32, 4, 3), (1024, 1024, 64), (0, 1, 1), (1, 1, 65), (None, 1, 1))
    export = NsysExport()
    for at, (x, y, z) in enumerate(blocks):
        export.kernel(10 * at, 10 * at + 5, blockX=x, blockY=y, blockZ=z)
    found = read_nsys(export.copy(100, 101).write(tmp_path / "t.sqlite")).ops.get_column("block").to_list()
    assert found == [block_code(32, 3, 4), block_code(32, 4, 3), block_code(1024, 1024, 64), *[None] * 4]
    assert len(set(found[:3])) == 3 and max(found[:3]) < 2**31


def test_enum_numbers_come_from_the_export(tmp_path: Path) -> None:
    export = NsysExport().copy(1, 2, kind=77, srcKind=50, dstKind=60)
    export.add("ENUM_CUDA_MEMCPY_OPER", id=77, name="CUDA_MEMCPY_KIND_DTOH", label="x")
    export.add("ENUM_CUDA_MEM_KIND", id=50, name="CUDA_MEMOPR_MEMORY_KIND_DEVICE", label="x")
    export.add("ENUM_CUDA_MEM_KIND", id=60, name="CUDA_MEMOPR_MEMORY_KIND_PINNED", label="x")
    export.add("ENUM_NSYS_EVENT_TYPE", id=159, name="NvtxPushPopRange", label="x")
    export.add("ENUM_CUDA_KRENEL_LAUNCH_TYPE", id=1, name="misspelt by 2022.4", label="x")
    export.range(1, 5, "moved", eventType=159)
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.ops.select("kind", "src_kind", "dst_kind").rows() == [("d2h", "device", "pinned")]
    assert trace.ranges.get_column("name").to_list() == ["moved"]


def test_memset_and_graph_rows(tmp_path: Path) -> None:
    work = {"deviceId": 0, "contextId": 1, "streamId": 7, "correlationId": 4, "globalPid": gid(100)}
    export = NsysExport().add("CUPTI_ACTIVITY_KIND_MEMSET", start=1, end=3, bytes=9, memKind=2, **work)
    export.add("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", start=5, end=8, graphId=11, graphExecId=12, **work)
    export.kernel(9, 10, "memset", graphNodeId=8589934592)
    rows = read_nsys(export.write(tmp_path / "t.sqlite")).ops.select(
        "kind", "name", "nbytes", "dst_kind", "graph_id", "graph_node", "correlation"
    )
    assert rows.rows() == [
        ("memset", "memset", 9, "device", None, None, 4),
        ("graph", "graph launch", None, None, 11, None, 4),
        ("compute", "memset", None, None, None, 8589934592, 1),
    ]


def test_domains_are_per_process_and_categories_per_domain(tmp_path: Path) -> None:
    export = NsysExport().domain(1, "aisp", pid=100).domain(1, "NCCL", pid=200).domain(2, "aisp", pid=200)
    export.category(5, "h2d", domain=1, pid=100).category(5, "other", domain=2, pid=200)
    export.range(10, 20, "a", domainId=1, category=5, int64Value=4096)
    export.range(11, 20, "b", pid=200, domainId=1, category=5)
    export.range(12, 20, "c", pid=200, domainId=2, category=5, uint64Value=7)
    export.range(13, 20, "d", domainId=3, uint32Value=8)
    export.range(14, 20, "e", int32Value=-5)
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.ranges.select("name", "domain", "category", "nbytes").rows() == [
        ("a", "aisp", "h2d", 4096),
        ("b", "NCCL", "5", None),
        ("c", "aisp", "other", 7),
        ("d", "domain 3", "", 8),
        ("e", "", "", None),
    ]


def test_a_start_end_range_may_cross_threads_and_names_may_stand_in_the_row(tmp_path: Path) -> None:
    export = NsysExport()
    export.range(10, 20, "x", eventType=60, endGlobalTid=gid(100, 7))
    export.range(11, 20, "unused", text="own text").range(12, 20, "gone", textId=999).range(13, 19, "gone", textId=None)
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.ranges.select("name", "tid", "end_tid", "style").rows() == [
        ("x", 100, 7, "start_end"),
        ("own text", 100, 100, "push_pop"),
        ("(unnamed)", 100, 100, "push_pop"),
        ("(unnamed)", 100, 100, "push_pop"),
    ]
    assert trace.meta.anomalies["names_missing"] == 2


def test_driver_table_and_missing_columns(tmp_path: Path) -> None:
    export = NsysExport().call(5, 6, "cudaMalloc_v3020")
    name = export.string("cuLaunchKernel_ptsz")
    export.columns["CUPTI_ACTIVITY_KIND_DRIVER"] = "start INTEGER, end INTEGER, globalTid INTEGER, nameId INTEGER"
    export.add("CUPTI_ACTIVITY_KIND_DRIVER", start=1, end=2, globalTid=gid(100, 3), nameId=name)
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.api.select("name", "tid", "correlation", "result").rows() == [
        ("cuLaunchKernel", 3, None, None),
        ("cudaMalloc", 100, 1, 0),
    ]


def test_overhead_is_the_profilers_or_the_drivers(tmp_path: Path) -> None:
    export = NsysExport()
    where = {"globalTid": gid(100, 3), "eventClass": 1}
    export.add("PROFILER_OVERHEAD", start=1, end=2, globalTid=gid(100, 3), nameId=export.string("TLS"), returnValue=0)
    export.add("CUPTI_ACTIVITY_KIND_OVERHEAD", start=3, end=5, overheadType=9, **where)
    export.add("CUPTI_ACTIVITY_KIND_OVERHEAD", start=6, end=9, overheadType=2, **where)
    export.add("ENUM_CUPTI_OVERHEAD_TYPE", id=9, name="X", label="Command Buffer Full")
    export.add("ENUM_CUPTI_OVERHEAD_TYPE", id=2, name="Y", label="CUPTI Buffer Flush")
    export.kernel(1, 2)
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.overhead.select("start_ns", "source", "name").rows() == [
        (1, "profiler", "TLS"),
        (3, "driver", "Command Buffer Full"),
        (6, "profiler", "CUPTI Buffer Flush"),
    ]


def test_syncs_memory_and_metrics(tmp_path: Path) -> None:
    none = 4294967295
    sync = {"deviceId": 0, "contextId": 1, "correlationId": 3, "globalPid": gid(100), "syncType": 4}
    export = NsysExport().add(
        "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", start=1, end=2, streamId=none, eventId=none, eventSyncId=5, **sync
    )
    export.add("CUDA_GPU_MEMORY_USAGE_EVENTS", start=1, globalPid=gid(100), deviceId=0, address=-1, bytes=8, memKind=5,
               memoryOperationType=0, correlationId=0)  # fmt: skip
    export.add("CUDA_GPU_MEMORY_USAGE_EVENTS", start=2, globalPid=gid(100), deviceId=0, address=16, bytes=8, memKind=2,
               memoryOperationType=1, correlationId=6)  # fmt: skip
    export.add("GPU_METRICS", timestamp=-4, typeId=(1 << 48) + 3, metricId=1, value=50)
    export.add("GPU_METRICS", timestamp=5, typeId=(1 << 48) + 0, metricId=1, value=60)
    export.add("TARGET_INFO_GPU_METRICS", typeId=(1 << 48) + 3, metricId=1, metricName="SMs Active")
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.syncs.select("stream", "event_id", "event_sync_id", "device").rows() == [(None, None, 5, 0)]
    assert trace.memory.select("address", "kind", "is_free", "correlation").rows() == [
        (2**64 - 1, "device_static", False, 0),
        (16, "device", True, 6),
    ]
    assert trace.gpu_metrics.rows() == [(3, -4, "SMs Active", 50), (0, 5, "(unnamed)", 60)]


def test_only_processes_and_threads_that_did_something(tmp_path: Path) -> None:
    export = NsysExport().range(1, 2, "a")
    for pid, name in ((100, "/opt/someone/bin/python3"), (7, "sshd")):
        export.add("PROCESSES", globalPid=gid(pid), pid=pid, name=name)
        export.add("ThreadNames", nameId=export.string("before"), globalTid=gid(pid, pid))
        export.add("ThreadNames", nameId=export.string("main"), globalTid=gid(pid, pid))
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.processes.rows() == [(100, 0, 100, "python3")]
    assert trace.threads.rows() == [(100, 100, "main")]


def test_diagnostics_and_unsafe_settings(tmp_path: Path) -> None:
    export = NsysExport().range(1, 2, "a")
    for severity, text in ((1, "fine"), (2, "events were dropped"), (3, "broken"), (4, "chatty")):
        export.add("DIAGNOSTIC_EVENT", timestamp=5, severity=severity, text=text)
    export.add("META_DATA_CAPTURE", name="PROCESS_0:ENVIRONMENT_0", value="TOKEN=s3cret")
    export.add("META_DATA_CAPTURE", name="PROCESS_0:COLLECT_CUDA_TRACE", value="true")
    export.add("META_DATA_CAPTURE", name="STOP_TRIGGER", value="/home/someone/secret")
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.diagnostics.get_column("severity").to_list() == ["info", "warning", "error", "info"]
    assert dict(trace.meta.capture) == {"COLLECT_CUDA_TRACE": "true"}


@pytest.mark.parametrize("schema", [None, "2.1.0", "3.0.0", "3.25.1", "9.0.0-future"])
def test_any_schema_version_is_read_as_far_as_it_carries(tmp_path: Path, schema: str | None) -> None:
    trace = read_nsys(NsysExport(schema).kernel(1, 2).write(tmp_path / "t.sqlite"))
    assert trace.meta.export_schema == schema
    assert trace.ops.height == 1


# ----------------------------------------------------------------------------------------------------- hostile input


HOSTILE = [
    "<script>alert(1)</script>",
    "a\x00b\x01\x1b[31m\r\n\t",
    "Robert'); DROP TABLE StringIds;--",
    "x" * 1_000_000,
    "\u202eright to left\ufeff",
    "",
]


def test_hostile_names_arrive_as_they_are(tmp_path: Path) -> None:
    export = NsysExport()
    for i, name in enumerate(HOSTILE):
        export.kernel(10 * i, 10 * i + 5, name).range(10 * i, 10 * i + 5, "other", text=name, textId=None)
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.ops.get_column("name").to_list() == HOSTILE
    assert trace.ranges.get_column("name").to_list() == HOSTILE


def test_text_that_is_not_utf8_is_replaced(tmp_path: Path) -> None:
    path = NsysExport().kernel(1, 2, "good").write(tmp_path / "t.sqlite")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE StringIds SET value = CAST(x'6bff6c' AS TEXT) WHERE value = 'good'")
    assert read_nsys(path).ops.get_column("name").to_list() == ["k\ufffdl"]


@pytest.mark.parametrize("rows", [3, nsys_columns.ADBC_ROWS + 10])
def test_cells_of_another_type_become_null_and_are_counted(tmp_path: Path, rows: int) -> None:
    export = NsysExport()
    for i in range(rows):
        export.kernel(10 * i, 10 * i + 5)
    path = export.write(tmp_path / "t.sqlite")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET end = 'DROP TABLE' WHERE rowid = 2")
        db.execute("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET streamId = x'00ff' WHERE rowid = ?", [rows])
        db.execute("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET contextId = 1.5 WHERE rowid = ?", [rows])
    trace = read_nsys(path)
    assert trace.ops.height == rows - 1
    assert trace.ops.get_column("stream").null_count() == 1
    assert dict(trace.meta.anomalies) == {"cells_of_wrong_type": 3, "ops_without_end": 1}


@pytest.mark.parametrize("text", ["'NaN'", "CAST(x'fffe80' AS TEXT)", "x'ff'", "1e300"])
@pytest.mark.parametrize("row", [1, nsys_columns.ADBC_ROWS])
def test_a_large_column_with_one_foreign_cell(tmp_path: Path, text: str, row: int) -> None:
    export = NsysExport()
    for i in range(nsys_columns.ADBC_ROWS + 10):
        export.call(10 * i, 10 * i + 5, "cudaFree")
    path = export.write(tmp_path / "t.sqlite")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE CUPTI_ACTIVITY_KIND_RUNTIME SET correlationId = {text} WHERE rowid = {row}")
    trace = read_nsys(path)
    assert trace.api.height == nsys_columns.ADBC_ROWS + 10
    assert trace.api.get_column("correlation").null_count() == 1
    assert trace.meta.anomalies["cells_of_wrong_type"] == 1


def test_string_ids_of_any_size_and_number(tmp_path: Path) -> None:
    export = NsysExport()
    for i in range(1200):
        export.kernel(i * 10, i * 10 + 5, f"kernel {i}")
    ids = (-5, 2**62, 3_000_000_000)
    for i, number in enumerate(ids):
        export.add("StringIds", id=number, value=f"far {number}")
        export.kernel(100_000 + i, 100_001 + i, demangledName=number)
    names = read_nsys(export.write(tmp_path / "t.sqlite")).ops.get_column("name").to_list()
    assert names == [*(f"kernel {i}" for i in range(1200)), *(f"far {n}" for n in ids)]


def test_a_table_without_rowids(tmp_path: Path) -> None:
    path = NsysExport().call(1, 2, "cudaFree").write(tmp_path / "t.sqlite")
    with closing(sqlite3.connect(path)) as db, db:
        table = "CUPTI_ACTIVITY_KIND_RUNTIME"
        row = db.execute(f"SELECT start, end, globalTid, nameId FROM {table}").fetchone()
        db.execute(f"DROP TABLE {table}")
        db.execute(f"CREATE TABLE {table} (start INT PRIMARY KEY, end INT, globalTid INT, nameId INT) WITHOUT ROWID")
        db.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", row)
    assert read_nsys(path).api.select("name", "start_ns").rows() == [("cudaFree", 1)]


def test_numbers_too_large_for_their_column_become_null(tmp_path: Path) -> None:
    trace = read_nsys(NsysExport().kernel(1, 2, contextId=4294967295).write(tmp_path / "t.sqlite"))
    assert trace.ops.get_column("context").to_list() == [None]


def test_numbers_that_no_machine_has(tmp_path: Path) -> None:
    far = 2**63 - 1
    export = NsysExport().kernel(1, 2).kernel(-far, far).kernel(5, far).call(-far, 3, "cudaFree").range(-far, None, "a")
    export.range(1, far, "b").range(2, 3, "c").add("TARGET_INFO_GPU", vmId=far, id=far, name="x", smCount=far)
    export.add("TARGET_INFO_GPU", vmId=-1, id=0, name="y", smCount=far, totalMemory=-5)
    export.add("TARGET_INFO_CUDA_DEVICE", pid=100, cudaId=0, gpuId=far).add(
        "PROCESSES", globalPid=-far, pid=3, name="z"
    )
    for host in range(300):
        export.kernel(10 + host, 11 + host, host=host + 1)
    trace = read_nsys(export.write(tmp_path / "t.sqlite"))
    assert trace.ops.height == 301
    assert trace.api.height == 0
    assert trace.ranges.get_column("name").to_list() == ["c"]
    found = trace.devices.row(0, named=True)
    assert (found["device"], found["name"], found["sm_count"], found["memory_bytes"]) == (0, "y", None, None)
    assert dict(trace.meta.anomalies) == {"api_out_of_range": 1, "ops_out_of_range": 2, "ranges_out_of_range": 2}
    assert trace.ops.get_column("pid").n_unique() == 127


def test_views_triggers_and_virtual_tables_are_never_followed(tmp_path: Path) -> None:
    path = NsysExport().range(1, 2, "a").write(tmp_path / "t.sqlite")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE VIEW CUPTI_ACTIVITY_KIND_KERNEL AS SELECT randomblob(1000000000) AS start, 2 AS end")
        db.execute("CREATE VIRTUAL TABLE OSRT_API USING fts5(start, end, globalTid, nameId)")
    trace = read_nsys(path)
    assert trace.ops.height == trace.osrt.height == 0
    assert "CUPTI_ACTIVITY_KIND_KERNEL" not in trace.meta.tables
    assert trace.ranges.height == 1


def test_a_file_name_with_uri_characters(tmp_path: Path) -> None:
    path = NsysExport().kernel(1, 2).write(tmp_path / "a?mode=rwc#b %20.sqlite")
    assert read_nsys(path).ops.height == 1


def test_reading_changes_nothing_on_disk(tmp_path: Path) -> None:
    path = NsysExport().kernel(1, 2).write(tmp_path / "t.sqlite")
    before = path.read_bytes()
    path.chmod(0o444)
    read_nsys(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.sqlite"]


def test_a_database_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE people (name TEXT)")
    with pytest.raises(InputError, match="SQLite database of something else"):
        read_nsys(path)


def test_the_known_tables_are_those_that_are_read() -> None:
    assert sorted(EVENT_TABLES) == sorted({**OP_TABLES, **HOST_TABLES, "GPU_METRICS": METRIC_COLUMNS})


def test_large_tables_are_read_the_same_in_parallel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = NsysExport()
    for i in range(3000):
        export.kernel(10 * ((i * 7919) % 3000), 10 * ((i * 7919) % 3000) + 5, f"k{i % 17}", correlationId=i)
    path = export.write(tmp_path / "t.sqlite")
    plain = read_nsys(path)
    monkeypatch.setattr(nsys_columns, "ADBC_ROWS", 1)
    monkeypatch.setattr(nsys_columns, "PARALLEL_ROWS", 100)
    monkeypatch.setattr(nsys_columns, "_CHUNK_ROWS", 97)
    parallel = read_nsys(path)
    assert plain.ops.height == 3000
    assert parallel.ops.equals(plain.ops)
    assert parallel.ops.schema == plain.ops.schema


# ------------------------------------------------------------------------------------------------------------- names


def test_collectives_are_told_by_the_functions_own_name() -> None:
    comm = [
        "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<(unsigned long)4096>)",
        "void vllm::cross_device_reduce_1stage<float, (int)2>(vllm::RankData *)",
        "nvshmemi_transfer_kernel",
        "void at::native::<unnamed>::multimem_all_reduce_kernel<c10::BFloat16>(T1 *)",
        "void flashinfer::trtllm_allreduce_fusion_kernel<1>(int)",
        "void (anonymous namespace)::two_shot_all_reduce_kernel<float>(float*)",
    ]
    compute = [
        "void cublasLt::splitKreduce_kernel<(int)32>(int)",
        "void at::native::vectorized_gather_kernel<16, long>(char*)",
        "void pack<ncclDataType_t>(ncclComm *)",
        "small_gather",
        "reduce_kernel",
    ]
    assert collectives(comm + compute) == frozenset(comm)
    assert function_name("void at::native::<unnamed>::f<int>(int)") == "at::native::f"


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("cudaLaunchKernel_v7000", "cudaLaunchKernel"),
        ("cudaMemcpyAsync_ptsz_v7000", "cudaMemcpyAsync"),
        ("cudaGetDeviceProperties_v2_v12000", "cudaGetDeviceProperties"),
        ("cuMemAlloc_v2", "cuMemAlloc"),
        ("cuStreamSynchronize_ptsz", "cuStreamSynchronize"),
        ("cudaGraphLaunch", "cudaGraphLaunch"),
        ("_v1", "_v1"),
    ],
)
def test_call_names_lose_their_abi(name: str, call: str) -> None:
    assert call_name(name) == call


def test_gpu_metrics_that_nobody_asked_for_are_not_kept() -> None:
    file = SAMPLES / "h100_pipeline_decode_gpu_metrics_trimmed.sqlite.xz"
    with decompressed(file) as plain:
        whole = read_nsys(plain).gpu_metrics
        asked = read_nsys(plain, metrics=READ_METRICS)
    matching = [name for name in whole["metric"].unique().to_list() if re.search(READ_METRICS, name)]
    assert 0 < len(matching) < whole["metric"].n_unique()
    kept = whole.filter(pl.col("metric").is_in(matching))
    assert asked.gpu_metrics.select("device", "time_ns", pl.col("metric").cast(pl.String), "value").equals(
        kept.select("device", "time_ns", pl.col("metric").cast(pl.String), "value")
    )
    assert asked.gpu_metrics.height < whole.height
