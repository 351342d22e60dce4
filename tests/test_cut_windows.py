"""What a window cuts: rates, sizes and lengths are those of whole operations, whatever part of them lies in the window."""

from __future__ import annotations

import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.window import parse_window
from aisp_trace.analyze.result import Analysis
from aisp_trace.tests.builders.samples import SAMPLES
from aisp_trace.tests.oracle.build import build, call, op
from aisp_trace.traces.errors import UsageError
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace


@pytest.fixture(scope="module")
def decode() -> Trace:
    return open_trace(SAMPLES / "h100_pipeline_decode.sqlite.xz")


def cut(trace: Trace, low: int, high: int) -> Analysis:
    return analyze(trace, window=(low, high))


def test_no_window_lifts_a_copys_rate(decode: Trace) -> None:
    """Windows of every length from 10 us on across a pipeline of 1.2 ms copies: no rate above that of the fastest copy."""
    copies = decode.ops.filter(pl.col("kind") == "h2d", pl.col("nbytes") > 1 << 20)
    rate = (copies["nbytes"] / (copies["end_ns"] - copies["start_ns"])).max()
    assert isinstance(rate, float)
    low = int(copies["start_ns"].sort()[-8]) + 1000
    seen = 0
    for length in (10_000, 100_000, 1_000_000, 3_000_000, 10_000_000):
        found = cut(decode, low, low + length)
        table = found.bandwidth.filter(pl.col("kind") == "h2d", pl.col("bucket").is_in(["1-16MiB", "16-256MiB"]))
        assert (table["bytes_per_s"] <= rate * 1e9).all()
        inside = copies.filter(pl.col("start_ns") >= low, pl.col("end_ns") <= low + length)
        assert table["nbytes"].sum() == inside["nbytes"].sum()
        assert table["ops"].sum() == inside.height
        seen += inside.height
        trust = {row["metric"]: row for row in found.trust.iter_rows(named=True)}
        assert trust["bandwidth"]["level"] == trust["bytes"]["level"] == "partial"
        assert "cut by the window" in trust["bytes"]["reason"]
    assert seen > 0


def test_a_kernel_that_the_window_cuts_is_not_small(decode: Trace) -> None:
    kernel = (
        decode.ops.filter(pl.col("kind") == "compute").sort(pl.col("end_ns") - pl.col("start_ns")).row(-1, named=True)
    )
    middle = (kernel["start_ns"] + kernel["end_ns"]) // 2
    found = cut(decode, middle, middle + 5_000)
    total = found.kernel_counts.filter(pl.col("stage").is_null())
    assert total["small_kernels"].sum() == total["kernels"].sum() == 0
    assert found.kinds.filter(pl.col("kind") == "compute")["sum_ns"].sum() == 5_000  # the time is the window's
    assert found.ledger["ns"].sum() == 5_000


def test_bytes_of_a_partition_are_those_of_the_whole_less_what_is_cut(decode: Trace) -> None:
    copies = decode.ops.filter(pl.col("nbytes").is_not_null())
    low, high = int(copies["start_ns"].to_numpy().min()), int(copies["end_ns"].to_numpy().max()) + 1
    middle = int(copies["start_ns"].sort()[copies.height // 2]) + 1
    astride = copies.filter(pl.col("start_ns") < middle, pl.col("end_ns") > middle)
    whole, left, right = (
        int(cut(decode, *ends).kinds["nbytes"].sum()) for ends in ((low, high), (low, middle), (middle, high))
    )
    assert astride.height
    assert left + right == whole - int(astride["nbytes"].sum())


def test_a_window_that_ends_before_it_starts_is_refused(decode: Trace) -> None:
    with pytest.raises(UsageError, match="ends before it starts"):
        analyze(decode, window=(100, 50))


def test_instants_may_be_negative() -> None:
    assert parse_window("-5:100") == (-5, 100)
    assert parse_window("-1.5ms:-2us") == (-1_500_000, -2_000)


def test_an_instance_is_counted_in_each_process() -> None:
    """Two ranks whose iterations interleave: #1 is the second of both."""
    trace = open_trace(SAMPLES / "h200x2_ddp.sqlite.xz")
    found = analyze(trace, window="iteration#1")
    ranges = trace.ranges.filter(pl.col("name") == "iteration").sort("start_ns")
    second = [ranges.filter(pl.col("pid") == pid).row(1, named=True) for pid in ranges["pid"].unique().sort()]
    assert sorted(found.windows["start_ns"].to_list()) == sorted(row["start_ns"] for row in second)
    with pytest.raises(UsageError, match="in one process at most, so there is no #99"):
        analyze(trace, window="iteration#99")


def test_a_stage_whose_range_is_over_is_listed_with_its_work(decode: Trace) -> None:
    """Of 131 us the copy of a range that ended before has 100: the ledger and the table of stages tell of the same stages."""
    found = cut(decode, 10_042_269_000, 10_042_400_000)
    busy = found.ledger.filter(pl.col("category") != "idle", ~pl.col("stage").str.starts_with("("))
    assert busy.height
    listed = found.stages.filter(pl.col("ops") > 0)
    assert set(busy["stage"]) <= set(listed["path"])
    assert (listed["host_ns"] >= 0).all()


def test_causes_do_not_depend_on_where_a_window_is_split(decode: Trace) -> None:
    """Of two windows that share an instant, the causes add up to those of both together: what no op of the left one follows
    is its tail (all of it, where it has no op at all), and known causes of as many nanoseconds are missing."""
    low, high = 9_657_000_000, 9_658_000_000

    def causes(a: int, b: int) -> dict[str, int]:
        idle = cut(decode, a, b).ledger.filter(pl.col("category") == "idle").group_by("cause").agg(pl.col("ns").sum())
        return dict(idle.rows())

    whole = causes(low, high)
    for middle in range(low + 1, high, 97_001):
        left, right = causes(low, middle), causes(middle, high)
        tail = left.get("tail", 0) if left else middle - low
        missing = {
            cause: ns - left.get(cause, 0) - right.get(cause, 0) for cause, ns in whole.items() if cause != "tail"
        }
        assert all(ns >= 0 for ns in missing.values()), (middle, missing)
        assert sum(missing.values()) == tail, (middle, missing)


def test_a_gap_that_began_before_the_window_keeps_its_cause(decode: Trace) -> None:
    for low in (9_657_154_015, 9_657_156_223):
        idle = cut(decode, low, 9_657_158_831).ledger.filter(pl.col("category") == "idle")
        assert "launch_latency" in set(idle["cause"]) <= {"launch_api", "launch_latency"}


def test_a_device_that_idles_all_through_a_window_is_told_with_its_causes() -> None:
    """
    thread 10                       |launch|          window [100, 400)
                                   300    310
    device 0    | 50 - 90 |                                | 500 - 600 |
    device 1         | 90 ----- 200 |
    """
    ops = [op("compute", 50, 90, 1), op("compute", 90, 200, 2, device=1), op("compute", 500, 600, 3)]
    calls = [
        call("cudaLaunchKernel", start, end, i) for i, (start, end) in enumerate([(10, 15), (20, 25), (300, 310)], 1)
    ]
    found = analyze(build(ops=ops, api=calls), window=(100, 400))
    ns = {
        (device, cause or kind): ns
        for device, kind, cause, ns in found.ledger.select("device", "category", "cause", "ns").rows()
    }
    assert ns == {
        (0, "host_code"): 200,
        (0, "launch_api"): 10,
        (0, "launch_latency"): 90,
        (1, "compute"): 100,
        (1, "tail"): 200,
    }
    assert found.devices.select("device", "ops_span_ns", "busy_ns").rows() == [(0, 0, 0), (1, 100, 100)]
    gaps = found.gaps.select("device", "start_ns", "end_ns", "cause").rows()
    assert gaps == [(0, 100, 400, "host_code"), (1, 200, 400, "tail")]
    assert found.gap_calls.select("device", "name", "ns").rows() == [(0, "cudaLaunchKernel", 10)]


@pytest.mark.parametrize(("window", "unseen"), [((10, 600), 0), ((0, 600), 10), ((20, 700), 100), ((700, 800), 100)])
def test_what_lies_outside_of_the_recording_is_not_said_to_be_idle_for_sure(
    window: tuple[int, int], unseen: int
) -> None:
    """Recorded is from 10, where the first call begins, to 600, where the last kernel ends."""
    trace = build(ops=[op("compute", 50, 90, 1), op("compute", 500, 600, 2)], api=[call("cudaLaunchKernel", 10, 15, 1)])
    found = analyze(trace, window=window)
    said = {metric: (level, reason) for metric, level, reason in found.trust.rows()}
    for metric in ("ledger", "causes"):
        level, reason = said[metric]
        assert (f"{unseen} ns of the window lie before the first recorded event" in reason) == bool(unseen)
        assert level == "partial" or not unseen
    assert found.ledger["ns"].sum() == window[1] - window[0]
