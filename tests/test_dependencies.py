"""Waiting for another device: told only where a recorded wait names the event, and the event the work that ended."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.tests.builders.nsys_export import NsysExport, gid
from aisp_trace.tests.builders.samples import unpack
from aisp_trace.tests.oracle.build import Row, build, call, op
from aisp_trace.tests.oracle.reference import reference
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace

EVENT = {"event_id": 5, "event_sync_id": 3}


def planted(record: Row | None = None, wait: Row | None = None, **other: list[Row]) -> Trace:
    """
    thread    launch A 0, launch P 10, record 20, wait 30, launch X 40
    device 1        |12 ---------- P ----------- 80|                      stream 9
    device 0   |2 -- A -- 50|.......................|.....|90 -- X -- 99|     stream 7 told to wait for P's event
                            |50  dependency       80| queued
    """
    tables: dict[str, Any] = {
        "api": [
            call("cudaLaunchKernel", 0, 1, 1),
            call("cudaLaunchKernel", 10, 11, 2),
            call("cudaEventRecord", 20, 21, 3),
            call("cudaStreamWaitEvent", 30, 31, 4),
            call("cudaLaunchKernel", 40, 41, 5),
        ],
        "ops": [
            op("compute", 2, 50, 1, device=0, context=1, stream=6),
            op("compute", 12, 80, 2, device=1, context=2, stream=9),
            op("compute", 90, 99, 5, device=0, context=1, stream=7),
        ],
        "events": [{"pid": 1, "device": 1, "context": 2, "stream": 9, "correlation": 3} | EVENT | (record or {})],
        "syncs": [
            {"pid": 1, "device": 0, "context": 1, "stream": 7, "start_ns": 30, "end_ns": 31, "correlation": 4}
            | EVENT
            | (wait or {})
        ],
    }
    return build(**(tables | other))


def idle(trace: Trace) -> dict[str, int]:
    """Idle time of device 0 by cause; the plain definitions must say the same."""
    cells = analyze(trace).ledger.filter(device=0, category="idle")
    found = dict(cells.select("cause", "ns").iter_rows())
    plain = {cause: ns for (_, kind, cause), ns in reference(trace).cells[0].items() if kind == "idle" and cause}
    assert found == plain
    return found


def test_until_the_awaited_work_of_the_other_device_ended() -> None:
    assert idle(planted()) == {"dependency": 30, "queued": 10}


def test_the_gap_carries_it() -> None:
    gap = analyze(planted()).gaps.filter(device=0).row(0, named=True)
    assert (gap["cause"], gap["opened_by"], gap["ns"]) == ("dependency", "queued", 40)


@pytest.mark.parametrize(
    ("record", "wait"),
    [
        ({"event_sync_id": 4}, {}),  # another record of the event
        ({"event_id": 6}, {}),  # another event
        ({"event_sync_id": None}, {"event_sync_id": None}),  # 2023: rows without sync ids
        ({}, {"stream": 8}),  # another stream waited
        ({}, {"context": 3}),  # of another context
        ({}, {"pid": 2}),  # of another process
        ({}, {"correlation": 77}),  # the call was not recorded
        ({"correlation": 77}, {}),
        ({"stream": 10}, {}),  # recorded where nothing had run
        ({"device": 0, "context": 1, "stream": 6}, {}),  # on the same device
    ],
)
def test_without_evidence_it_is_queued(record: Row, wait: Row) -> None:
    assert idle(planted(record, wait)) == {"queued": 40}


def test_an_event_recorded_before_the_work_was_launched_does_not_wait_for_it() -> None:
    """
    record 5, launch P 10
    """
    api = [
        call("cudaLaunchKernel", 0, 1, 1),
        call("cudaLaunchKernel", 10, 11, 2),
        call("cudaEventRecord", 5, 6, 3),
        call("cudaStreamWaitEvent", 30, 31, 4),
        call("cudaLaunchKernel", 40, 41, 5),
    ]
    assert idle(planted(api=api)) == {"queued": 40}


def test_a_wait_called_after_the_launch_is_for_what_comes_later() -> None:
    api = [
        call("cudaLaunchKernel", 0, 1, 1),
        call("cudaLaunchKernel", 10, 11, 2),
        call("cudaEventRecord", 20, 21, 3),
        call("cudaStreamWaitEvent", 45, 46, 4),
        call("cudaLaunchKernel", 40, 41, 5),
    ]
    assert idle(planted(api=api)) == {"queued": 40}


def test_work_that_ended_before_the_gap_explains_nothing_of_it() -> None:
    ops = [
        op("compute", 2, 50, 1, device=0, context=1, stream=6),
        op("compute", 12, 50, 2, device=1, context=2, stream=9),
        op("compute", 90, 99, 5, device=0, context=1, stream=7),
    ]
    assert idle(planted(ops=ops)) == {"queued": 40}


def test_an_id_that_names_two_records_tells_nothing() -> None:
    record = {"pid": 1, "device": 1, "context": 2, "stream": 9, "correlation": 3} | EVENT
    assert idle(planted(events=[record, record])) == {"queued": 40}


def export(file: Path, devices: int) -> Trace:
    made = NsysExport()
    made.call(0, 1, "cudaLaunchKernel_v7000", correlationId=1).call(10, 11, "cudaLaunchKernel_v7000", correlationId=2)
    made.call(20, 21, "cudaEventRecord_v3020", correlationId=3).call(
        30, 31, "cudaStreamWaitEvent_v3020", correlationId=4
    )
    made.call(40, 41, "cudaLaunchKernel_v7000", correlationId=5)
    made.kernel(2, 50, correlationId=1, streamId=6).kernel(90, 99, correlationId=5, streamId=7)
    made.kernel(12, 80, correlationId=2, streamId=9, contextId=2, deviceId=devices - 1)
    event = {"globalPid": gid(100), "eventId": 5, "eventSyncId": 3, "deviceId": devices - 1}
    made.add("CUPTI_ACTIVITY_KIND_CUDA_EVENT", contextId=2, streamId=9, correlationId=3, **event)
    wait = event | {"deviceId": 0, "contextId": 1, "streamId": 7, "syncType": 2}
    made.add("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", start=30, end=31, correlationId=4, **wait)
    return open_trace(made.write(file))


def test_an_export_of_two_devices_is_read_with_its_events(tmp_path: Path) -> None:
    found = export(tmp_path / "two.sqlite", 2)
    assert found.events.rows() == [(100, 1, 2, 9, 3, 5, 3)]
    assert idle(found) == {"dependency": 30, "queued": 10}


def test_events_of_one_device_are_read_and_are_no_wait_for_another(tmp_path: Path) -> None:
    """Its streams wait for each other all the same, which the critical path follows."""
    found = export(tmp_path / "one.sqlite", 1)
    assert found.events.height == 1 and "dependency" not in idle(found)


def test_a_real_recording_names_each_awaited_record_once(tmp_path: Path) -> None:
    """Two processes with a GPU each: nothing waits across devices here, but ids, calls and devices are as assumed."""
    trace = open_trace(unpack("h200x2_ddp", tmp_path))
    names = ["pid", "event_id", "event_sync_id"]
    assert trace.events.height == 324 and trace.events.select(names).is_duplicated().sum() == 0
    assert sorted(trace.events.group_by("pid", "device").len()["len"].to_list()) == [162, 162]
    waits = trace.syncs.join(trace.api.filter(name="cudaStreamWaitEvent"), on=["pid", "correlation"])
    assert waits.height == 280 and waits.join(trace.events, on=names).height == 210
    assert analyze(trace).ledger.filter(cause="dependency").is_empty()


def test_a_real_wait_for_another_gpu_is_measured_to_the_nanosecond(tmp_path: Path) -> None:
    """The i-th product on GPU 1 waits for the i-th peer copy from GPU 0; here from the rows of the export alone."""
    file = unpack("h200x2_handoff", tmp_path)
    db = sqlite3.connect(file)
    copied = [
        end for (end,) in db.execute("SELECT end FROM CUPTI_ACTIVITY_KIND_MEMCPY WHERE copyKind = 10 ORDER BY start")
    ]
    launched = dict(db.execute("SELECT correlationId, end FROM CUPTI_ACTIVITY_KIND_RUNTIME"))
    kernels = db.execute(
        "SELECT start, end, correlationId, value LIKE '%gemm%' FROM CUPTI_ACTIVITY_KIND_KERNEL JOIN StringIds "
        "ON StringIds.id = shortName WHERE deviceId = 1 ORDER BY start"
    ).fetchall()
    db.close()
    waited, products, busy_until = 0, 0, kernels[0][0]
    for start, end, correlation, product in kernels:
        if product:
            done = copied[products]
            products += 1
            # From the launch on, all of the gap up to the copy's end was for the copy.
            waited += max(0, min(start, done) - max(busy_until, launched[correlation]))
        busy_until = max(busy_until, end)
    assert products == len(copied) == 32 and waited > 0
    cells = analyze(open_trace(file)).ledger.filter(cause="dependency")
    assert cells.group_by("device", "stage").agg(pl.col("ns").sum()).rows() == [(1, "iteration/consume", waited)]
