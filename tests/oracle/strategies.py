"""Small traces full of what goes wrong in real ones, from a seed or from Hypothesis.

Times lie in 0..200 and collide often. Correlation ids repeat between processes and within one; threads of two
processes share their ids; ranges nest, cross, stay open, and carry slashes; ops overlap on streams, come without a
call, several from one call, or without length; calls nest, overlap gaps and begin after what they launched.
`scale` stretches a trace so that launches may be long enough to count as lazy loading.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

from hypothesis import strategies as st

from aisp_trace.tests.oracle.build import Row, build, call, device, op, osrt, overhead, span
from aisp_trace.traces.model import COPY_KINDS, KINDS, MEMORY_KINDS, Trace

Attribution = Literal["process", "thread"]

LATEST: Final = 200
SCALES: Final = (1, 1, 100_000)
PIDS: Final = (1, 2, 1 + 2**24)
TIDS: Final = (10, 11, 12)
FEEDER: Final = 13
"""A thread that never makes a CUDA call."""
STAGES: Final = ("measured", "iteration", "h2d", "compute", "d2h", "a/b", "stage:h2d")
CALLS: Final = (
    *("cudaLaunchKernel", "cudaLaunchKernel", "cudaLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch"),
    *("cudaMemcpyAsync", "cudaMemcpy", "cuMemcpyHtoD_v2", "cudaMemsetAsync", "cudaMemset"),
    *("cudaMalloc", "cudaFree", "cuMemAlloc_v2", "cuMemMap", "cuMemGetInfo"),
    *("cudaDeviceSynchronize", "cudaStreamSynchronize", "cuCtxSynchronize", "cuModuleLoadData", "cuLibraryLoadData"),
    *("cudaGraphInstantiate", "cudaStreamBeginCapture", "cudaEventRecord", "cudaStreamIsCapturing"),
    *("cudaEventQuery", "cuStreamQuery", "cudaFuncGetAttributes", "cuOccupancyMaxPotentialBlockSize"),
)
OSRT: Final = ("pthread_cond_timedwait", "futex", "pthread_create", "read", "usleep", "ioctl", "write")


@dataclass(frozen=True)
class Case:
    """A trace and how to look at it; `window` is what `reference` takes."""

    trace: Trace
    window: tuple[int, int] | int | None
    attribution: Attribution
    domain: str | None

    def __repr__(self) -> str:
        """The rows themselves: a failing example is to be read, not reproduced by seed."""
        lines = [f"Case(window={self.window}, attribution={self.attribution!r}, domain={self.domain!r}"]
        for name in ("devices", "ranges", "api", "ops", "graph_nodes", "events", "syncs", "overhead", "osrt"):
            rows = self.trace.table(name).to_dicts()
            lines += [f"  {name}: { ({k: v for k, v in row.items() if v not in (None, '')}) }" for row in rows]
        return "\n".join(lines) + ")"


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Shrinking cases for ``@given``."""
    return random_case(draw(st.randoms(use_true_random=False)))


def seeded_case(seed: int) -> Case:
    """The case of a seed: the same on every machine and cheap enough for thousands."""
    return random_case(Random(seed))


def random_case(rng: Random) -> Case:
    """One case from any source of randomness."""
    scale = rng.choice(SCALES)
    trace = random_trace(rng, scale)
    stages = [r["range_id"] for r in trace.ranges.to_dicts() if r["domain"] == "aisp"]
    window: tuple[int, int] | int | None = None
    chosen = rng.randrange(4)
    if chosen == 1:
        start, end = sorted((rng.randint(0, LATEST), rng.randint(0, LATEST)))
        window = (start * scale, end * scale)
    elif chosen >= 2 and stages:
        window = rng.choice(stages)
    domain = "aisp" if rng.random() < 0.3 else None
    attribution: Attribution = "thread" if rng.random() < 0.3 else "process"
    return Case(trace, window, attribution, domain)


def random_trace(rng: Random, scale: int = 1) -> Trace:
    """A trace of one to three processes and devices; the last device is sometimes a host."""
    pids = PIDS[: rng.choice((1, 1, 2, 3))]
    ranges = random_ranges(rng, pids)
    if rng.random() < 0.1:
        ranges = [row | {"domain": ""} for row in ranges]
    calls = [random_call(rng, pids) for _ in range(rng.choice((0, 4, 10, 20, 30)))]
    devices = list(range(rng.randint(1, 3)))
    host = devices[-1] if rng.random() < 0.3 else None
    ops = [random_op(rng, pids, devices, calls) for _ in range(rng.choice((0, 1, 4, 8, 12, 16)))]
    waits: dict[str, list[Row]] = {"events": [], "syncs": []}
    if len(devices) > 1 and rng.random() < 0.5:
        waits = random_waits(rng, pids, devices)
        ops, calls = [*ops, *waits["ops"]], [*calls, *waits["api"]]
    if rng.random() < 0.2:
        calls += random_polls(rng, rng.choice(pids))
    if rng.random() < 0.25:
        start, end = interval(rng, LATEST)
        ranges.append(span(rng.choice(STAGES), start, end, pid=rng.choice(pids), tid=FEEDER, end_tid=FEEDER))
    if rng.random() < 0.25:
        ops, calls, more = random_interruptions(rng, pids[0])
        ranges += more
    tables = {
        "events": waits["events"],
        "syncs": stretched(waits["syncs"], scale),
        "ranges": stretched(ranges, scale),
        "api": stretched(calls, scale),
        "overhead": stretched(random_overhead(rng, pids), scale),
        "osrt": stretched([random_osrt(rng, pids) for _ in range(rng.randint(0, 4))], scale),
        "devices": [device(number, "host" if number == host else "gpu") for number in devices],
    }
    ops += [again(rng, row) for row in ops if rng.random() < 0.15]
    known = build(ranges=tables["ranges"]).ranges.to_dicts() if host is not None else []
    ops = [hosted(rng, row, known, scale) if row["device"] == host else row for row in stretched(ops, scale)]
    beside = Random(
        len(ops) * 10_007 + len(calls) * 101 + len(ranges)
    )  # so that what was drawn so far stays what it was
    if beside.random() < 0.3:
        tables["graph_nodes"] = stretched(random_nodes(beside, pids, ops), scale)
    if beside.random() < 0.3:
        prefetched(beside, ops, tables["api"])
    return build(ops=ops, **tables)


def random_nodes(rng: Random, pids: tuple[int, ...], ops: list[Row]) -> list[Row]:
    """When most nodes of graphs were captured; some of `ops` become such nodes."""
    for row in ops:
        if rng.random() < 0.6:
            row["graph_node"] = rng.randint(1, 6)
    return [
        {"graph_node": node, "pid": pid, "tid": rng.choice(TIDS), "time_ns": rng.randint(0, LATEST)}
        for pid in pids
        for node in range(1, 6)
        if rng.random() < 0.8
    ]


def prefetched(rng: Random, ops: list[Row], calls: list[Row]) -> None:
    """Some copies become prefetches of unified memory, and some calls those that ask for them."""
    for row in ops:
        if row["kind"] in COPY_KINDS and rng.random() < 0.8:
            row |= {"name": f"prefetch {row['kind']}", "correlation": None}
    for row in calls:
        if rng.random() < 0.2:
            row["name"] = "cudaMemPrefetchAsync"


def interval(rng: Random, longest: int) -> tuple[int, int]:
    """Start and end within 0..`LATEST`; now and then without length, often on a multiple of ten."""
    start = rng.randint(0, LATEST // 10) * 10 if rng.random() < 0.4 else rng.randint(0, LATEST)
    length = rng.choice((0, 10, rng.randint(0, longest), rng.randint(1, longest)))
    return start, min(LATEST, start + length)


def random_ranges(rng: Random, pids: tuple[int, ...]) -> list[Row]:
    """Properly nested push/pop ranges per thread, and start/end ranges that cross them."""
    rows: list[Row] = []
    for pid in pids:
        for tid in TIDS[: rng.choice((1, 2, 3))]:
            for _ in range(rng.choice((0, 1, 1, 2))):
                bounds = (rng.randint(0, 40), rng.randint(120, LATEST)) if rng.random() < 0.6 else interval(rng, 60)
                nested(rng, rows, {"pid": pid, "tid": tid, "end_tid": tid}, *bounds, depth=0)
    for _ in range(rng.choice((0, 0, 1, 3))):
        start, end = interval(rng, LATEST // 2)
        place = {"pid": rng.choice(pids), "tid": rng.choice(TIDS), "end_tid": rng.choice(TIDS), "style": "start_end"}
        rows.append(span(rng.choice(STAGES), start, None if rng.random() < 0.2 else end, **place))
    for row in rows:
        row["domain"] = rng.choice(("aisp",) * 8 + ("", "NCCL"))
        row["category"] = rng.choice(("", "", "compute", "alloc"))
    return rows


def nested(rng: Random, rows: list[Row], place: dict[str, Any], start: int, end: int, depth: int) -> None:
    """A range over ``[start, end)`` and others inside it, side by side."""
    still_open = depth == 0 and rng.random() < 0.1
    rows.append(span(rng.choice(STAGES), start, None if still_open else end, **place))
    if depth >= 3 or end - start < 2:
        return
    cuts = sorted(rng.randint(start, end) for _ in range(2 * rng.randint(0, 3)))
    for first, last in zip(cuts[::2], cuts[1::2], strict=True):
        nested(rng, rows, place, first, last, depth + 1)


def random_call(rng: Random, pids: tuple[int, ...]) -> Row:
    """An API call; correlation ids are so few that processes, and calls of one process, share them."""
    start, end = interval(rng, 40)
    correlation = None if rng.random() < 0.05 else rng.randint(1, 20)
    place = {"pid": rng.choice(pids), "tid": rng.choice((TIDS[0], *TIDS))}
    return call(rng.choice(CALLS), start, end, correlation, **place)


def random_op(rng: Random, pids: tuple[int, ...], devices: list[int], calls: list[Row]) -> Row:
    """An op, mostly shortly after a call of its correlation, sometimes an orphan or before its call."""
    start, end = interval(rng, 25)
    pid, correlation = rng.choice(pids), rng.choice((None, *range(1, 20)))
    if calls and rng.random() < 0.75:
        cause = rng.choice(calls)
        pid, correlation = cause["pid"], cause["correlation"]
        if rng.random() < 0.7:
            shift = cause["start_ns"] + rng.randint(0, 40) - start
            start, end = min(LATEST, start + shift), min(LATEST, end + shift)
    kind = rng.choice(KINDS)
    place: dict[str, Any] = {"pid": pid, "device": rng.choice(devices), "stream": rng.randint(7, 9)}
    if kind in COPY_KINDS or kind == "memset":
        place["nbytes"] = rng.choice((None, 0, 1, 4096))
        place["src_kind"] = rng.choice((None, *MEMORY_KINDS[:3])) if kind != "memset" else None
        place["dst_kind"] = rng.choice((None, *MEMORY_KINDS[:3]))
    return op(kind, start, end, correlation, **place)


def again(rng: Random, row: Row) -> Row:
    """Another op of the same launch, as the nodes of a graph are, a little later."""
    start = min(LATEST, row["end_ns"] + rng.randint(0, 8))
    return row | {"start_ns": start, "end_ns": min(LATEST, start + rng.randint(0, 10))}


def hosted(rng: Random, row: Row, ranges: list[Row], scale: int) -> Row:
    """The op as a host makes it: correlation is a range's id, and its times are mostly that range's."""
    if not ranges or rng.random() < 0.05:
        return row | {"correlation": rng.choice((None, 10_000))}
    owner = rng.choice(ranges)
    end = LATEST * scale if owner["end_ns"] is None else owner["end_ns"]
    times = {"start_ns": owner["start_ns"], "end_ns": end} if rng.random() < 0.7 else {}
    return row | {"correlation": owner["range_id"], "pid": owner["pid"]} | times


def random_overhead(rng: Random, pids: tuple[int, ...]) -> list[Row]:
    """Time taken by the profiler or the driver, on any thread."""
    rows = []
    for _ in range(rng.randint(0, 4)):
        start, end = interval(rng, 40)
        place = {"pid": rng.choice(pids), "tid": rng.choice((TIDS[0], *TIDS))}
        rows.append(overhead(rng.choice(("profiler", "driver")), start, end, **place))
    return rows


def random_waits(rng: Random, pids: tuple[int, ...], devices: list[int]) -> dict[str, list[Row]]:
    """Work that another device waits for, nearly as it should be: producer, record, wait, waiting op; ids may name several."""
    made: dict[str, list[Row]] = {"ops": [], "api": [], "events": [], "syncs": []}
    for number in range(rng.randint(1, 4)):
        pid, at = rng.choice(pids), rng.randint(0, LATEST - 60)
        first, second = rng.choice(devices), rng.choice(devices)
        streams = {"context": 1, "stream": rng.randint(7, 9)}, {"context": 1, "stream": rng.randint(7, 9)}
        launch, record, wait, later = (100 + 4 * number + i for i in range(4))
        record = 101 if rng.random() < 0.1 else record
        name = {"event_id": number if rng.random() < 0.9 else 0, "event_sync_id": rng.choice((1, 1, 1, None))}

        def about(time: int, at: int = at) -> int:
            return at + time + rng.choice((0, 0, 0, 0, -3, 3, 8))

        names = ("cudaLaunchKernel", "cudaEventRecord", "cudaStreamWaitEvent", "cudaLaunchKernel")
        for word, correlation, start in zip(names, (launch, record, wait, later), (4, 6, 8, 10), strict=True):
            begun = max(0, about(start))
            made["api"].append(call(word, begun, begun + 1, correlation, pid=pid))
        done = at + rng.randint(15, 40)
        begun = max(0, about(done - at + 2))
        made["ops"] += [
            op("compute", at + 5, done, launch, device=first, pid=pid, **streams[0]),
            op("memset", at, at + 14, device=second, pid=pid, stream=6),  # until then the device is busy
            op("compute", begun, begun + 5, later, device=second, pid=pid, **streams[1]),
        ]
        made["events"].append({"pid": pid, "device": first, "correlation": record, **streams[0], **name})
        times = {"start_ns": at + 8, "end_ns": at + 9}
        made["syncs"].append({"pid": pid, "device": 0, "correlation": wait, **streams[1], **times, **name})
    return made


def random_polls(rng: Random, pid: int) -> list[Row]:
    """Queries one after the other, now and then with another call between them."""
    rows, time = [], rng.randint(0, LATEST - 60)
    for _ in range(rng.randint(1, 7)):
        name = rng.choice(("cudaEventQuery", "cudaStreamQuery", "cuEventQuery"))
        name = "cudaLaunchKernel" if rng.random() < 0.1 else name
        rows.append(call(name, time, time + rng.randint(0, 3), pid=pid, tid=rng.choice(TIDS[:1] * 9 + TIDS)))
        time += rng.randint(1, 8)
    return rows


def random_interruptions(rng: Random, pid: int) -> tuple[list[Row], list[Row], list[Row]]:
    """Ops, calls and ranges of a thread that feeds a device, and of others whose small work lies in between."""
    ops, calls, ranges = [], [], []
    for tid in TIDS:
        if rng.random() < 0.9:
            ranges.append(
                span(rng.choice(STAGES), rng.randint(0, 5), rng.randint(150, LATEST), pid=pid, tid=tid, end_tid=tid)
            )
    for number in range(rng.randint(3, 9)):
        feeds = rng.random() < 0.5
        tid = TIDS[0] if feeds else rng.choice(TIDS)
        at, length = rng.randint(3, LATEST - 20), rng.randint(3, 9) if feeds else rng.randint(1, 2)
        calls.append(call("cudaLaunchKernel", at, at + 1, 50 + number, pid=pid, tid=tid))
        start = max(0, at + rng.choice((1, 2, 2, 2, -2, 30)))
        ops.append(op(rng.choice(("compute", "h2d")), start, start + length, 50 + number, pid=pid))
    return ops, calls, ranges


def random_osrt(rng: Random, pids: tuple[int, ...]) -> Row:
    """An operating-system call, waiting or not."""
    start, end = interval(rng, 40)
    return osrt(rng.choice(OSRT), start, end, pid=rng.choice(pids), tid=rng.choice(TIDS))


def stretched(rows: list[Row], scale: int) -> list[Row]:
    """The rows with all times multiplied."""
    times = ("start_ns", "end_ns", "time_ns")
    return [{k: v * scale if k in times and v is not None else v for k, v in row.items()} for row in rows]
