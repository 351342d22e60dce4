"""torch.profiler traces become the same tables as nsys exports, to the nanosecond."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aisp_trace.tests.builders.samples import SAMPLES
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.kineto.columns import nanoseconds
from aisp_trace.traces.kineto.read import read_kineto
from aisp_trace.traces.stages_file import read_stages

H100 = SAMPLES / "h100_pipeline_decode_kineto.json.gz"


def held(frame: pl.DataFrame) -> int:
    return int((frame.get_column("end_ns") - frame.get_column("start_ns")).sum())


def event(category: str, name: str, ts: Any, dur: Any, pid: int = 5, tid: Any = 5, **args: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": category, "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur, "args": args}


def written(folder: Path, events: list[Any], **more: Any) -> Path:
    path = folder / "trace.json"
    path.write_text(json.dumps({"schemaVersion": 1, "traceEvents": events, **more}))
    return path


def side(folder: Path, *ranges: tuple[str, str | None, int | None, int, int]) -> Path:
    path = folder / "stages.json"
    keys = ("name", "kind", "nbytes", "tid", "index")
    entries = [dict(zip(keys, r, strict=True)) for r in ranges]
    path.write_text(json.dumps({"schema": "aisp-trace/stages/1", "ranges": entries}))
    return path


def test_the_h100_sample() -> None:
    # 4,439 kernels: 2,391 launched one by one and 64 replays of a graph of 32
    trace = read_kineto(H100)
    by_kind = {
        k: (n, ns)
        for k, n, ns in trace.ops.group_by("kind")
        .agg(pl.len(), (pl.col("end_ns") - pl.col("start_ns")).sum().alias("ns"))
        .iter_rows()
    }
    assert by_kind["compute"] == (4439, 147989522)
    assert by_kind["h2d"][0] + by_kind["d2h"][0] == 113
    assert by_kind["h2d"][1] + by_kind["d2h"][1] == 833652272
    assert (trace.api.height, held(trace.api)) == (3567, 1344825124)
    assert (trace.overhead.height, held(trace.overhead)) == (23, 48930619)
    drivers = trace.overhead.filter(pl.col("source") == "driver").get_column("name").cast(pl.String).unique().sort()
    assert drivers.to_list() == ["Lazy Function Loading", "Runtime Triggered Module Loading"]
    moved = trace.ops.group_by("kind").agg(pl.col("nbytes").sum())
    assert dict(moved.filter(pl.col("nbytes") > 0).iter_rows()) == {"h2d": 2147811328, "d2h": 1610612740}
    pinned = trace.ops.filter((pl.col("src_kind") == "pinned") | (pl.col("dst_kind") == "pinned"))
    assert pinned.height == 25
    assert trace.ops.get_column("pid").unique().to_list() == [570]
    assert trace.devices.select("device", "name", "sm_count").rows() == [(0, "NVIDIA H100 80GB HBM3", 132)]
    launches = trace.ops.join(trace.api, on=["pid", "correlation"], how="semi")
    assert launches.height == trace.ops.height
    assert trace.meta.recorder == "torch"
    assert trace.meta.anomalies == {}


def test_nanoseconds_are_exact() -> None:
    assert nanoseconds(["4490835108392.605", 12, "0.001", "1e-3", None, True, "nan", "x"]).to_list() == [
        4490835108392605,
        12000,
        1,
        1,
        None,
        None,
        None,
        None,
    ]


def test_copies_memsets_and_graph_nodes(tmp_path: Path) -> None:
    events = [
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", 1, 1, device=0, stream=3, correlation=9, bytes=4),
        event("gpu_memcpy", "Memcpy PtoP (Device -> Device)", 3, 1, fromDevice=0, toDevice=1, device=0),
        event("gpu_memset", "Memset (Device)", 5, 1, device=1, bytes=8),
        event("kernel", "memset", 7, 1, device=0, **{"graph node id": 77}),
        event("kernel", "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(x)", 9, 1, device=0),
        event("gpu_user_annotation", "stage", 1, 9),
    ]
    trace = read_kineto(written(tmp_path, events))
    assert trace.ops.select("kind", "name", "nbytes", "src_kind", "dst_kind", "graph_node").rows() == [
        ("d2h", "memcpy d2h", 4, "device", "pinned", None),
        ("p2p", "memcpy p2p", None, "device", "device", None),
        ("memset", "memset", 8, None, "device", None),
        ("compute", "memset", None, None, None, 77),
        ("comm", "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(x)", None, None, None, None),
    ]
    assert trace.ops.select("src_device", "dst_device").row(1) == (0, 1)
    assert trace.devices.select("device", "name").rows() == [(0, "GPU 0"), (1, "GPU 1")]


def test_without_a_side_file_annotations_are_plain_ranges(tmp_path: Path) -> None:
    trace = read_kineto(written(tmp_path, [event("user_annotation", "load", 1, "1.5")]))
    assert trace.ranges.select("domain", "name", "category", "nbytes", "start_ns", "end_ns").rows() == [
        ("", "load", "", None, 1000, 2500)
    ]


def test_the_side_file_tells_stages_from_other_annotations(tmp_path: Path) -> None:
    #  thread 5:  |load 0|      |load 1|        thread 6:  |load 0|
    events = [
        event("user_annotation", "load", 30, 5),
        event("user_annotation", "load", 10, 5),
        event("user_annotation", "load", 12, 5, tid=6),
        event("user_annotation", "ProfilerStep#1", 0, 90),
    ]
    stages = side(tmp_path, ("load", "h2d", 200, 5, 1), ("load", "h2d", 100, 5, 0), ("load", "h2d", 300, 6, 0))
    trace = read_kineto(written(tmp_path, events), stages)
    assert trace.ranges.select("start_ns", "tid", "domain", "name", "category", "nbytes").rows() == [
        (0, 5, "", "ProfilerStep#1", "", None),
        (10000, 5, "aisp", "load", "h2d", 100),
        (12000, 6, "aisp", "load", "h2d", 300),
        (30000, 5, "aisp", "load", "h2d", 200),
    ]


def test_pthread_ids_are_paired_by_what_the_threads_did(tmp_path: Path) -> None:
    #  the trace names threads by address; the side file by native id
    far = 139635339242368
    events = [
        event("user_annotation", "load", 10, 1, tid=far),
        event("user_annotation", "load", 20, 1, tid=far),
        event("user_annotation", "load", 11, 1, tid=far + 64),
    ]
    stages = side(tmp_path, ("load", "h2d", 1, 4711, 0), ("load", "h2d", 2, 4711, 1), ("load", "d2h", 3, 4712, 0))
    trace = read_kineto(written(tmp_path, events), stages)
    assert trace.ranges.select("start_ns", "category", "nbytes").rows() == [
        (10000, "h2d", 1),
        (11000, "d2h", 3),
        (20000, "h2d", 2),
    ]
    assert "stages_unmatched" not in trace.meta.anomalies


def test_what_cannot_be_paired_keeps_what_all_share(tmp_path: Path) -> None:
    events = [event("user_annotation", "load", 10 + i, 1, tid=900 + i) for i in range(2)]
    stages = side(tmp_path, ("load", "h2d", 1, 4711, 0), ("load", "h2d", 2, 4712, 0))
    trace = read_kineto(written(tmp_path, events), stages)
    assert trace.ranges.select("domain", "category", "nbytes").rows() == [("aisp", "h2d", None)] * 2
    assert trace.meta.anomalies["stages_unmatched"] == 2


def test_a_real_profile_of_several_threads(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import threading

    from torch._C._profiler import _ExperimentalConfig
    from torch.profiler import ProfilerActivity, profile, record_function

    notes: list[tuple[str, str | None, int | None, int, int]] = []

    def work(kind: str) -> None:
        for i in range(3):
            notes.append(("stage", kind, i, threading.get_native_id(), i))
            with record_function("stage"):
                torch.zeros(8).add_(1)

    config = _ExperimentalConfig(profile_all_threads=True)
    with profile(activities=[ProfilerActivity.CPU], experimental_config=config, acc_events=True) as recording:
        threads = [threading.Thread(target=work, args=(k,)) for k in ("h2d", "compute")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        work("d2h")
    path = tmp_path / "trace.json"
    recording.export_chrome_trace(str(path))
    ranges = read_kineto(path, side(tmp_path, *notes)).ranges.filter(pl.col("domain") == "aisp")
    found = ranges.sort("category", "start_ns").select("category", "nbytes").rows()
    assert found == [(k, i) for k in ("compute", "d2h", "h2d") for i in range(3)]
    assert ranges.get_column("tid").n_unique() == 3


def test_events_without_a_usable_interval(tmp_path: Path) -> None:
    events = [
        event("kernel", "a", 1, None, device=0),
        event("kernel", "b", 5, -1, device=0),
        event("kernel", "c", 9, 0, device=0),
        event("cuda_runtime", "cudaLaunchKernel_v7000", 9, "soon"),
    ]
    trace = read_kineto(written(tmp_path, [*events, "no event", None, {"ph": "X"}]))
    assert trace.ops.get_column("name").to_list() == ["c"]
    assert dict(trace.meta.anomalies) == {"api_without_end": 1, "ops_end_before_start": 1, "ops_without_end": 1}


def test_hostile_names(tmp_path: Path) -> None:
    names = ["<script>", "a\x00\x1b[31m\n", "'); DROP TABLE ops;--", "y" * 1_000_000]
    events = [event("user_annotation", n, 10 * i, 1) for i, n in enumerate(names)]
    assert read_kineto(written(tmp_path, events)).ranges.get_column("name").to_list() == names


def test_half_a_character_and_numbers_that_fit_nowhere(tmp_path: Path) -> None:
    events = [event("kernel", "\ud800", 1, 1, device=0, stream=2**70), event("cuda_runtime", "\udfff", 1, 1, 2**50)]
    events.append(event("kernel", "nowhere", 1, 1, device=2**40))
    names = [{"ph": "M", "name": n, "pid": 2**50, "args": {"name": "\ud800"}} for n in ("process_name", "thread_name")]
    devices = [{"id": 2**40, "name": "far"}, {"id": 1, "name": "\ud800", "numSms": 2**40}]
    trace = read_kineto(written(tmp_path, [*events, *names], deviceProperties=devices))
    assert trace.devices.select("device", "name", "sm_count").rows() == [(0, "GPU 0", None), (1, "?", None)]
    assert trace.ops.select("name", "device", "stream").rows() == [("?", 0, None)]
    assert trace.meta.anomalies == {"ops_without_device": 1}
    assert trace.api["name"].to_list() == ["?"] and 0 <= trace.api["pid"].item() < 2**24


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"{", "not complete JSON"),
        (b'{"traceEvents": 3}', "no list `traceEvents`"),
        (b"[1, 2]", "no list `traceEvents`"),
        (b"\x1f\x8b\x08\x00half", "it is damaged .*; copy it again"),
        (gzip.compress(b'{"traceEvents": []}' * 1000, mtime=0)[:-40], "it is damaged .*; copy it again"),
        (b"[" * 200_000, "nests too deeply"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=word):
        read_kineto(path)


@pytest.mark.parametrize("content", ["", "[]", '{"schema": "x"}', '{"schema": "aisp-trace/stages/1", "ranges": [1]}'])
def test_a_side_file_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "stages.json"
    path.write_text(content)
    with pytest.raises(InputError, match="record"):
        read_stages(path)


def test_ranges_of_our_recorder_are_known_by_their_prefix(tmp_path: Path) -> None:
    event = {"ph": "X", "pid": 7, "tid": 7, "ts": "1.000", "dur": "2.500", "args": {}}
    events = [
        {**event, "cat": "cpu_op", "name": "aisp::h2d"},
        {**event, "cat": "cpu_op", "name": "aten::copy_"},
        {**event, "cat": "user_annotation", "name": "aisp::compute"},
        {**event, "cat": "user_annotation", "name": "a user's own"},
    ]
    file = tmp_path / "trace.json"
    file.write_text(json.dumps({"traceEvents": events}), encoding="utf-8")
    found = read_kineto(file).ranges
    assert sorted(found.select("domain", "name").rows()) == [
        ("", "a user's own"),
        ("aisp", "compute"),
        ("aisp", "h2d"),
        ("torch.op", "aten::copy_"),
    ]
    assert found["end_ns"].to_list() == [3500] * 4
