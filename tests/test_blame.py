"""Whom a device waits for: threads that wait for others, poll, load kernels, interrupt each other, and are in one stage together.

Every trace is looked at by the analyzer and by the plain definitions (`tests.oracle.reference`), which must agree.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.calls import CLASSES, OTHER, TABLE, classify
from aisp_trace.analyze.attribution.interruptions import MOST
from aisp_trace.analyze.attribution.polling import GAP_NS, LEAST
from aisp_trace.analyze.attribution.selection import Selection
from aisp_trace.analyze.attribution.waiting import LONG_NS
from aisp_trace.analyze.result import Analysis
from aisp_trace.tests.oracle.build import Row, build, call, op, osrt, span
from aisp_trace.tests.oracle.reference import reference
from aisp_trace.traces.kernel_names import call_name
from aisp_trace.traces.model import Trace

LAUNCH = "cudaLaunchKernel"
MAIN, WORKER, THIRD = {"tid": 10}, {"tid": 11, "end_tid": 11}, {"tid": 12, "end_tid": 12}
ON_WORKER, ON_THIRD = {"tid": 11}, {"tid": 12}
US = 1_000


def cells(trace: Trace, category: str = "idle") -> dict[tuple[str, str | None], int]:
    """Nanoseconds by (stage, cause); the plain definitions must give the same."""
    found: Counter[tuple[str, str, str | None]] = Counter()
    for row in analyze(trace).ledger.iter_rows(named=True):
        found[row["stage"], row["category"], row["cause"]] += row["ns"]
    assert dict(found) == {cell: ns for cell, ns in reference(trace).cells[0].items() if ns}
    return {(stage, cause): ns for (stage, of, cause), ns in found.items() if of == category}


def two_launches(*calls: Row, ends: int = 90 * US, ranges: list[Row] | None = None, **tables: Any) -> Trace:
    """A kernel at once and one at `ends`, both launched by the main thread; `calls` of any thread in between."""
    last = ends + 20
    return build(
        ranges=[span("step", 0, last + 80, **MAIN)] if ranges is None else ranges,
        api=[call(LAUNCH, 10, 20, 1), *calls, call(LAUNCH, ends, ends + 10, 2)],
        ops=[op("compute", 30, 100, 1), op("compute", last, last + 80, 2)],
        **tables,
    )


# The table of calls


def test_every_row_of_the_table_of_calls_is_needed_and_says_why() -> None:
    examples = {
        "copy_api": "cuMemsetD8Async",
        "allocator": "cudaMallocAsync",
        "sync": "cudaEventSynchronize",
        "poll": "cuStreamQuery",
        "launch": "cudaGraphLaunch",
        "module_load": "cuLibraryLoadData",
        "kernel_query": "cudaFuncSetAttribute",
        "graph_build": "cudaStreamBeginCapture",
    }
    assert {CLASSES[row.kind] for row in TABLE} == set(examples) == set(CLASSES) - {"other"}
    for word, name in examples.items():
        assert CLASSES[classify(name)] == word
    assert classify("cudaEventRecord") == OTHER
    assert all(len(row.evidence) > 20 for row in TABLE)


HIP = {
    "copy_api": (
        "Memcpy MemcpyAsync MemcpyWithStream MemcpyHtoDAsync Memcpy2DToArray MemcpyPeerAsync Memset "
        "MemsetD8Async DrvMemcpy3D"
    ),
    "allocator": (
        "Malloc MallocAsync MallocManaged MallocFromPoolAsync ExtMallocWithFlags Free FreeAsync FreeHost "
        "HostMalloc HostAlloc HostFree HostRegister HostUnregister MemAllocHost MemAllocPitch MemCreate "
        "MemMap MemUnmap MemRelease MemAddressReserve MemAddressFree MemSetAccess MemPoolTrimTo"
    ),
    "sync": "DeviceSynchronize StreamSynchronize EventSynchronize CtxSynchronize",
    "poll": "EventQuery StreamQuery",
    "launch": (
        "LaunchKernel LaunchCooperativeKernel LaunchByPtr ExtLaunchKernel ExtLaunchMultiKernelMultiDevice "
        "ModuleLaunchKernel ModuleLaunchCooperativeKernel ExtModuleLaunchKernel HccModuleLaunchKernel "
        "GraphLaunch"
    ),
    "module_load": "ModuleLoad ModuleLoadData ModuleLoadDataEx ModuleUnload ModuleGetFunction",
    "kernel_query": (
        "FuncGetAttributes FuncSetAttribute GetFuncBySymbol OccupancyMaxPotentialBlockSize "
        "ModuleOccupancyMaxActiveBlocksPerMultiprocessor"
    ),
    "graph_build": (
        "GraphInstantiate GraphAddKernelNode GraphAddMemcpyNode GraphMemcpyNodeSetParams "
        "DrvGraphAddMemsetNode GraphExecUpdate StreamBeginCapture StreamBeginCaptureToGraph "
        "StreamEndCapture"
    ),
    "other": (
        "EventRecord StreamWaitEvent StreamCreate SetDevice GetDeviceCount MemGetInfo MemGetAddressRange "
        "MemAdvise MemPrefetchAsync LaunchHostFunc GraphicsMapResources PointerGetAttributes "
        "MemRetainAllocationHandle ModuleGetGlobal Init"
    ),
}
"""Names of HIP's dispatch table without their first three letters, by class."""


@pytest.mark.parametrize("word", HIP)
def test_calls_of_hip_have_the_classes_of_cudas(word: str) -> None:
    assert set(HIP) == set(CLASSES)
    for name in HIP[word].split():
        assert (name, CLASSES[classify(call_name(f"hip{name}_spt"))]) == (name, word)


def test_hip_and_cuda_agree_where_they_share_a_name() -> None:
    """CUDA's runtime or its driver has the name, too; where their classes differ, HIP's is one of them."""
    only_hip = (
        "Ext",
        "Hcc",
        "Drv",
        "HostMalloc",
        "HostFree",
        "ModuleLaunch",
        "ModuleOccupancy",
        "MemcpyWithStream",
        "LaunchByPtr",
    )
    for word, names in HIP.items():
        for name in names.split():
            if not name.startswith(only_hip):
                assert word in {CLASSES[classify(f"{api}{name}")] for api in ("cuda", "cu")}, name


# Polling


def queries(n: int, *, every: int = 1 * US, name: str = "cudaEventQuery", **place: int) -> list[Row]:
    return [call(name, 1 * US + i * every, 1 * US + i * every + 900, 100 + i, **place) for i in range(n)]


def test_a_thread_that_polls_is_waiting() -> None:
    found = cells(two_launches(*queries(80)))
    assert found["step", "sync"] == 79_900, "from the start of the first query to the end of the last"
    assert found["step", "host_code"] == 10 * US
    assert ("step", "other_api") not in found
    assert analyze(two_launches(*queries(80))).gaps["opened_by"].to_list() == ["host"]


@pytest.mark.parametrize(
    ("calls", "sync"),
    [
        (queries(LEAST - 1), 0),
        (queries(LEAST), (LEAST - 1) * US + 900),
        (queries(LEAST, name="cuStreamQuery"), (LEAST - 1) * US + 900),
        (queries(LEAST, every=900 + 10 * US), (LEAST - 1) * (900 + 10 * US) + 900),
        (queries(LEAST, tid=11), 0),
        ([*queries(LEAST), call("cudaEventRecord", 2_950, 2_960)], 0),
        ([*queries(2 * LEAST), call("cudaEventRecord", 1_000 + LEAST * US - 50, 1_000 + LEAST * US - 40)], 2 * 2_900),
    ],
    ids=["two", "three", "of a stream", "slowly", "another thread", "a call in between", "two runs"],
)
def test_what_is_a_run_of_queries(calls: list[Row], sync: int) -> None:
    assert cells(two_launches(*calls)).get(("step", "sync"), 0) == sync


@pytest.mark.parametrize(("pause", "runs"), [(GAP_NS, True), (GAP_NS + 1, False)])
def test_a_long_break_ends_a_run_of_queries(pause: int, runs: bool) -> None:
    found = cells(two_launches(*queries(LEAST, every=900 + pause), ends=1_000 * US))
    assert (found.get(("step", "sync"), 0) > 0) == runs


# Loading on demand


@pytest.mark.parametrize(
    ("name", "length", "cause"),
    [
        (LAUNCH, 1_000_001, "lazy_load"),
        (LAUNCH, 1_000_000, "earlier_launch"),
        ("cudaFuncGetAttributes", 1_000_001, "lazy_load"),
        ("cudaFuncGetAttributes", 1_000_000, "other_api"),
        ("cuOccupancyMaxActiveBlocksPerMultiprocessor", 3_000_000, "lazy_load"),
        ("cudaStreamCreate", 3_000_000, "other_api"),
        ("cudaMalloc", 3_000_000, "allocator"),
    ],
)
def test_any_call_that_names_a_kernel_may_load_it(name: str, length: int, cause: str) -> None:
    found = cells(two_launches(call(name, 1 * US, 1 * US + length), ends=5_000 * US))
    assert found["step", cause] == length


# One stage on several threads


def launched_by_a_third(*ranges: Row) -> Trace:
    return build(ranges=list(ranges), api=[call(LAUNCH, 100, 110, 1, **ON_THIRD)], ops=[op("compute", 120, 500, 1)])


@pytest.mark.parametrize(
    ("ranges", "stage"),
    [
        ([span("backward", 0, 900), span("backward", 0, 900, **WORKER)], "backward"),
        ([span("backward", 0, 900), span("forward", 0, 900, **WORKER)], "(ambiguous)"),
        ([span("layer 1", 0, 900), span("layer 2", 0, 900, **WORKER)], "(ambiguous)"),
        (
            [span("s", 0, 900), span("b", 1, 800), span("s", 0, 900, **WORKER), span("b", 2, 700, **WORKER)],
            "s/b",
        ),
        ([span("s", 0, 900), span("b", 1, 800), span("b", 2, 700, **WORKER)], "(ambiguous)"),
    ],
    ids=["the same", "different", "numbers are names here", "nested alike", "nested differently"],
)
@pytest.mark.parametrize("fold", [True, False])
def test_one_stage_on_two_threads_is_not_ambiguous(ranges: list[Row], stage: str, fold: bool) -> None:
    trace = launched_by_a_third(*ranges)
    assert cells(trace, "compute") == {(stage, None): 380}
    assert set(analyze(trace, fold=fold).ledger["stage"]) == {stage}


def test_depth_renames_and_makes_nothing_unambiguous() -> None:
    trace = launched_by_a_third(
        span("s", 0, 900), span("a", 1, 800), span("s", 0, 900, **WORKER), span("b", 1, 800, **WORKER)
    )
    for depth in (1, 2):
        assert set(analyze(trace, selection=Selection(depth=depth)).ledger["stage"]) == {"(ambiguous)"}


# Waiting for another thread


def loader(start: int, end: int, name: str = "loader", on: dict[str, int] = WORKER) -> Row:
    return span(name, start, end, **on)


def waited(*others: Row, calls: tuple[Row, ...] = (), os: tuple[Row, ...] = (), ends: int = 90 * US) -> Any:
    ranges = [span("step", 0, ends + 100), *others]
    found = cells(two_launches(*calls, ends=ends, ranges=ranges, osrt=list(os)))
    return {cell: ns for cell, ns in found.items() if cell[1] in ("waiting", "host_code")}


def test_a_thread_that_makes_no_calls_waits_for_one_that_never_does() -> None:
    whole = 90 * US - 100
    assert waited(loader(0, 100 * US)) == {("loader", "waiting"): whole}
    assert waited(loader(20 * US, 30 * US)) == {("loader", "waiting"): 10 * US, ("step", "host_code"): whole - 10 * US}
    assert waited(loader(0, 100 * US), loader(0, 100 * US, on=THIRD)) == {("loader", "waiting"): whole}
    both = waited(loader(0, 100 * US), loader(0, 100 * US, "log", THIRD))
    assert both == {("step", "waiting"): whole}, "for one of two, and nothing says which"


def test_who_calls_often_or_has_nobody_that_feeds_it_does_not_wait() -> None:
    assert waited() == {("step", "host_code"): 90 * US - 100}
    short = LONG_NS + 19  # after the first launch, which ends at 20
    assert waited(loader(0, 90 * US), ends=short) == {("step", "host_code"): short - 100}
    assert waited(loader(0, 90 * US), ends=short + 1) == {("loader", "waiting"): short - 99}
    launches_too = call(LAUNCH, 5, 6, 7, **ON_WORKER)
    assert waited(loader(0, 100 * US), calls=(launches_too,)) == {("step", "host_code"): 90 * US - 100}
    often = tuple(call("cudaEventRecord", at * US, at * US + 10) for at in range(10, 90, 10))
    assert ("loader", "waiting") not in waited(loader(0, 100 * US), calls=often)


def test_operating_system_calls_say_who_waits() -> None:
    def asleep(name: str, start: int, end: int, tid: int = 10) -> Row:
        return osrt(name, start * US, end * US, tid=tid)

    rest = 90 * US - 100
    cond = asleep("pthread_cond_wait", 10, 60)
    assert waited(loader(0, 100 * US), os=(cond,)) == {
        ("loader", "waiting"): 50 * US,
        ("step", "host_code"): rest - 50 * US,
    }
    assert waited(loader(0, 100 * US), os=(asleep("write", 10, 60),)) == {("step", "host_code"): rest}
    alone = {("step", "waiting"): 50 * US, ("step", "host_code"): rest - 50 * US}
    assert waited(loader(0, 100 * US), os=(asleep("usleep", 10, 60),)) == alone, "a clock ends a sleep"
    assert waited(os=(cond,)) == alone, "nobody else has a stage"
    assert waited(loader(0, 100 * US), loader(0, 100 * US, "log", THIRD), os=(cond,)) == alone
    waits_too = asleep("sem_wait", 0, 40, tid=12)
    assert waited(loader(0, 100 * US), loader(0, 100 * US, "log", THIRD), os=(cond, waits_too)) == {
        ("loader", "waiting"): 30 * US,
        ("step", "waiting"): 20 * US,
        ("step", "host_code"): rest - 50 * US,
    }


def test_without_the_rules_across_threads_a_wait_stays_where_it_is() -> None:
    trace = two_launches(ranges=[span("step", 0, 100 * US), loader(0, 100 * US)])
    found = analyze(trace, attribution="thread").ledger.filter(cause="waiting")
    assert found.select("stage", "ns").rows() == [("step", 90 * US - 100)]


def test_a_selection_names_the_stage_and_leaves_the_cause() -> None:
    trace = two_launches(ranges=[span("step", 0, 100 * US), loader(0, 100 * US)])
    found = analyze(trace, selection=Selection(stages="step")).ledger.filter(cause="waiting")
    assert found.select("stage", "ns").rows() == [("step", 90 * US - 100)]


# Interruptions


def interrupted(*others: tuple[int, int, Any], own: bool = True, launch: int = 90 * US) -> Trace:
    """Two kernels of the main thread, 90 us apart, and ops of (start, length, thread) in between."""
    named: list[tuple[str, Any]] = [("prefetch", WORKER), ("check", THIRD)]
    ranges = [span("train", 0, 100 * US)]
    used = {on["tid"] for _, _, on in others} if own else set()
    ranges += [span(name, 0, 100 * US, **on) for name, on in named if on["tid"] in used]
    calls = [call("cudaMemcpyAsync", at - 20, at - 10, 10 + i, **on) for i, (at, _, on) in enumerate(others)]
    ops = [op("h2d", at, at + length, 10 + i, stream=13) for i, (at, length, _) in enumerate(others)]
    return build(
        ranges=ranges,
        api=[call(LAUNCH, 10, 20, 1), *calls, call(LAUNCH, launch, launch + 10, 2)],
        ops=[op("compute", 30, 100, 1), *ops, op("compute", 90 * US + 20, 90 * US + 100, 2)],
    )


def blamed(trace: Trace) -> set[str]:
    return {stage for stage, _ in cells(trace)}


def test_a_small_copy_of_another_thread_takes_no_part_of_a_wait() -> None:
    trace = interrupted((50_020, 10, ON_WORKER))
    assert cells(trace) == {
        ("train", "host_code"): 90 * US - 110,
        ("train", "launch_api"): 10,
        ("train", "launch_latency"): 10,
    }
    assert cells(trace, "h2d") == {("prefetch", None): 10}
    found = analyze(trace)
    assert set(found.gaps["stage"]) == {"train"}
    assert found.gap_calls["name"].to_list() == [LAUNCH], "what fills the gap before the copy is not its launch"


def test_several_copies_of_several_threads_take_none_either() -> None:
    assert blamed(interrupted((20 * US, 9, ON_WORKER), (40 * US, 9, ON_WORKER), (60 * US, 9, ON_THIRD))) == {"train"}


@pytest.mark.parametrize(
    "trace",
    [
        interrupted((50_020, 9_000, ON_WORKER)),
        interrupted(*((9 * US * (i + 1), 5, ON_WORKER) for i in range(MOST + 1))),
        interrupted((50_020, 10, ON_WORKER), launch=50_025),
        interrupted((50_020, 160, ON_WORKER)),
    ],
    ids=["a tenth of the time", "too many", "launched before it ended", "a busier thread"],
)
def test_other_work_is_waited_for_itself(trace: Trace) -> None:
    assert "prefetch" in blamed(trace)


def test_work_without_a_range_of_its_own_thread_is_of_the_stage_it_is_attributed_to() -> None:
    found = cells(interrupted((50_020, 10, ON_WORKER), own=False))
    assert found["train", "launch_api"] == 20, "of the worker's launch too, as autograd's are"


def test_a_stream_of_interruptions_is_one_wait_after_another() -> None:
    # main     A     A     A     A        each 90 us apart, with a prefetched copy in every gap
    # worker      x     x     x
    ranges = [span("train", 0, 400 * US), span("prefetch", 0, 400 * US, **WORKER)]
    api, ops = [], []
    for i in range(4):
        at = i * 90 * US
        api += [call(LAUNCH, at, at + 5, 1 + i), call("cudaMemcpyAsync", at + 45_000, at + 45_005, 20 + i, **ON_WORKER)]
        ops += [op("compute", at + 10, at + 90, 1 + i), op("h2d", at + 45_010, at + 45_020, 20 + i)]
    trace = build(ranges=ranges, api=api[:-1], ops=ops[:-1])
    assert blamed(trace) == {"train"}


# What is not the host's


def test_unknown_is_not_the_hosts() -> None:
    trace = build(ops=[op("compute", 0, 10), op("compute", 30, 40)])
    found: Analysis = analyze(trace)
    assert found.ledger.filter(category="idle").select("cause", "ns").rows() == [("unknown", 20)]
    assert found.kernel_counts["host_bound_ns"].sum() == 0


def test_a_wait_that_rests_on_ranges_alone_is_partly_trusted() -> None:
    def causes(*os: Row) -> tuple[str, str]:
        trace = two_launches(ranges=[span("step", 0, 100 * US), loader(0, 100 * US)], osrt=list(os))
        level, reason = analyze(trace).trust.filter(metric="causes").select("level", "reason").row(0)
        return level, reason

    level, reason = causes()
    assert level == "partial"
    assert "89900 ns count as waiting for another thread" in reason
    assert "osrt" in reason
    assert causes(osrt("sem_wait", 10 * US, 60 * US)) == ("ok", "")
