"""The definitions of the ledger, written down a second time as plainly as possible.

`analyze` is fast; this is slow and independent of it: rows are dicts, every instant is judged by asking the
definitions anew, and nothing is sorted, merged or carried from one instant to the next. Between two neighbouring
times of the trace nothing changes, so one instant per such step is judged (`every_ns=True` judges each nanosecond).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal

from aisp_trace.analyze.result import AMBIGUOUS, IDLE, NONE, ORPHAN, OUTSIDE
from aisp_trace.tests.oracle.figures import Row, by_kind, clip, device_figures, meets, open_at, span_ns
from aisp_trace.traces.model import COPY_KINDS, KINDS, TABLES, Trace

WINDOW: Final = "(window)"
"""Stage of what is launched directly under a range named "measured", which is left out of paths."""

MEASURED: Final = "measured"
LAZY_LOAD_NS: Final = 1_000_000

CALL_CLASSES: Final = (
    # The first line that matches the start of a call's name gives its class; calls that match none are "other".
    ("allocator", r"cudaMalloc|cudaFree|cudaHost(Alloc|Register|Unregister)|cu(da)?MemPool|cuMemAlloc|cuMemFree"),
    ("allocator", r"(cuMemCreate|cuMemMap|cuMemUnmap|cuMemRelease)$|cuMemHost(Alloc|Register|Unregister)"),
    ("allocator", r"cuMem(AddressReserve|AddressFree|SetAccess)"),
    ("sync", r"cu(da)?(Device|Stream|Event|Ctx)Synchronize"),
    ("query", r"cu(da)?(Stream|Event)Query"),
    ("kernel", r"cuda(Func|Occupancy)|cudaGetFuncBySymbol|cu(Func|Occupancy)|cuKernel(Get|Set)Attribute"),
    ("copy", r"cu(da)?Mem(cpy|set)"),
    ("module_load", r"cu(Module|Kernel)GetFunction|cu(da)?(Module|Library)(Load|Unload)|cuLink"),
    ("launch", r"cu(da)?Launch|cu(da)?GraphLaunch"),
    ("graph_build", r"cu(da)?Graph(?!ics)|cu(da)?Stream(Begin|End)Capture"),
)
CAUSE_OF_CLASS: Final = {
    "allocator": "allocator",
    "sync": "sync",
    "copy": "copy_api",
    "module_load": "module_load",
    "graph_build": "graph_build",
    "launch": "earlier_launch",
}
WAITING_OSRT: Final = r"wait|sem_|pthread_cond|poll|select|futex|sleep|(?<!th)read|join|lock"
"""Operating-system calls that wait. The look-behind keeps ``read`` from matching every ``pthread_`` function."""
ENDED_BY_NO_THREAD: Final = r"sleep|(?<!th)read"
"""Those that wait for a clock or a file."""

QUERIES_IN_A_RUN: Final = 3
BREAK_IN_A_RUN_NS: Final = 100_000
WITHOUT_CALLS_NS: Final = 50_000
"""How long a thread makes no CUDA call before a feeder's range is taken for what it waits for."""
ONE_FAULT_NS: Final = 40_000
"""A fault of the host begins this long before its page moves."""
LONGEST_LATENCY_NS: Final = 1_000_000
"""An idle device that takes longer than this to begin what was launched waits for something that was not recorded."""
INTERRUPTIONS: Final = 8
"""How many busy stretches may lie within a wait."""

Thread = tuple[int, int]
Cell = tuple[str, str, str | None]


class Shown(str):
    """A stage's path, or what else stages are called, as it is shown."""

    __slots__ = ()


StageRef = int | str  # a range_id, or one of (none), (ambiguous), (orphan)


@dataclass
class ReferenceResult:
    """What the definitions say about one trace. Devices are those that have ops anywhere in the trace.

    `stages` speaks of the whole trace whatever the window; its device is null where a stage has no ops.
    """

    op_stage: dict[int, str] = field(default_factory=dict)
    windows: dict[int, tuple[int, int]] = field(default_factory=dict)
    cells: dict[int, dict[Cell, int]] = field(default_factory=dict)
    devices: dict[int, dict[str, Any]] = field(default_factory=dict)
    stages: dict[tuple[int | None, str], dict[str, Any]] = field(default_factory=dict)
    captured: bool = False  # whether the trace has the capture of a graph


def reference(
    trace: Trace,
    *,
    domain: str | None = None,
    window: tuple[int, int] | int | None = None,
    attribution: Literal["process", "thread"] = "process",
    lazy_load_ns: int = LAZY_LOAD_NS,
    every_ns: bool = False,
    settled: Trace | None = None,
) -> ReferenceResult:
    """Everything about `trace`; `window` is (start, end), the range_id of a stage range, or null for the ops' span. Causes are
    settled by the ranges of `settled`, by default its own."""
    world = World(trace, domain, attribution, window if isinstance(window, int) else None, lazy_load_ns)
    if settled is not None:
        world.settled = World(settled, domain, attribution, None, lazy_load_ns)
    result = ReferenceResult(op_stage={op["op_id"]: str(world.shown_op(op)) for op in world.ops})
    for device in sorted({op["device"] for op in world.ops}):
        ops = [op for op in world.ops if op["device"] == device]
        start, end = window if isinstance(window, tuple) else world.window_of(ops)
        end = max(start, end)
        edges = list(range(start, end + 1)) if every_ns else world.edges(start, end)
        steps = list(pairwise(edges))
        result.windows[device] = (start, end)
        result.cells[device] = world.ledger(device, ops, start, end, steps)
        inside = [clip(op, start, end) for op in ops if window is None or meets(op, start, end)]
        result.devices[device] = device_figures(inside, steps)
    result.stages = world.stage_figures()
    result.captured = len(trace.graph_nodes) > 0
    return result


def call_class(name: str) -> str:
    """The class of an API call by its name, whatever its ABI suffix."""
    bare = re.sub(r"(_v\d+)?(_ptsz|_ptds)?$", "", name)
    return next((word for word, pattern in CALL_CLASSES if re.match(pattern, bare)), "other")


def innermost(rows: Sequence[Row], row_id: str, time: int) -> Row | None:
    """Of the rows open at `time` the one that started last; of those the one that ends first, then the last numbered."""
    return max(open_at(rows, time), key=lambda row: (row["start_ns"], -row["end_ns"], row[row_id]), default=None)


def gap_around(ops: Sequence[Row], time: int, start: int, end: int) -> tuple[int, int]:
    """The longest interval of ``[start, end)`` around `time` without an op; ops without length do not count."""
    before = [op["end_ns"] for op in ops if op["start_ns"] < op["end_ns"] <= time]
    after = [op["start_ns"] for op in ops if time < op["start_ns"] < op["end_ns"]]
    return max([start, *before]), min([end, *after])


def stretches(ops: Sequence[Row]) -> list[list[Row]]:
    """The ops in order, those together between which the device is never idle; ops without length left out."""
    found: list[list[Row]] = []
    for op in sorted(ops, key=lambda op: (op["start_ns"], op["op_id"])):
        if op["start_ns"] >= op["end_ns"]:
            continue
        if found and op["start_ns"] <= ends(found[-1]):
            found[-1].append(op)
        else:
            found.append([op])
    return found


def ends(ops: Sequence[Row]) -> int:
    """When the last of the ops has ended."""
    return max(int(op["end_ns"]) for op in ops)


class World:
    """A trace in dicts, with the questions the definitions ask of it."""

    def __init__(
        self, trace: Trace, domain: str | None, attribution: str, window_range: int | None, lazy_load_ns: int
    ) -> None:
        self.attribution = attribution
        self.window_range = window_range
        self.lazy_load_ns = lazy_load_ns
        self.times = all_times(trace)
        self.ops = [op for op in trace.ops.to_dicts() if op["device"] is not None]
        self.host_devices = {row["device"] for row in trace.devices.to_dicts() if row["type"] == "host"}
        self.calls = by_thread(trace.api.to_dicts())
        self.osrt = by_thread(trace.osrt.to_dicts())
        self.syncs = trace.syncs.to_dicts()
        self.events = trace.events.to_dicts()
        self.overhead = by_thread(trace.overhead.to_dicts())
        self.calls_of: dict[tuple[int, int], list[Row]] = defaultdict(list)
        for call in trace.api.to_dicts():
            if call["correlation"] is not None:
                self.calls_of[call["pid"], call["correlation"]].append(call)
        last = self.times[-1] if self.times else 0
        rows = trace.ranges.to_dicts()
        for row in rows:
            if row["end_ns"] is None:  # nobody ended it
                row["end_ns"], row["end_tid"] = last, row["tid"]
        self.ranges = {row["range_id"]: row for row in rows}
        if domain is None:
            domain = "aisp" if any(row["domain"] == "aisp" for row in rows) else ""
        self.stages = {row["range_id"]: row for row in rows if (row["domain"] or "") == domain}
        self.stages_on = by_thread(self.stages.values())
        self.parent = {range_id: self.find_parent(row) for range_id, row in self.stages.items()}
        if window_range is not None and window_range not in self.stages:
            raise ValueError(f"range {window_range} is not a stage range")
        self.settled: World = self
        self.told: dict[Thread, list[Row]] = {}
        self.graph_nodes = trace.graph_nodes.to_dicts()
        self.launched_in = {op["op_id"]: self.launch_stage(op) for op in self.ops}
        self.stage_of_op = {op["op_id"]: self.op_stage(op) for op in self.ops}

    def edges(self, start: int, end: int) -> list[int]:
        """All times of the trace within the window, when faults of the host begin, and its bounds."""
        faults = {op["start_ns"] - ONE_FAULT_NS for op in self.ops if op["kind"] == "migration"}
        return sorted({start, end} | {time for time in faults.union(self.times) if start < time < end})

    # Stages

    def find_parent(self, row: Row) -> int | None:
        """Of the ranges that hold this one, innermost first, the first that it is nested in."""
        holds = self.find_holder(row)
        while holds is not None:
            alike = holds["style"] == row["style"] == "start_end" and (holds["name"] or "") == (row["name"] or "")
            if holds["tid"] == holds["end_tid"] and not alike:
                return int(holds["range_id"])
            holds = self.find_holder(holds)
        return None

    def find_holder(self, row: Row) -> Row | None:
        """The innermost stage range of the same thread that is open where this one starts and holds all of it."""
        elder = [r for r in self.stages_on[row["pid"], row["tid"]] if r["range_id"] < row["range_id"]]
        if row["start_ns"] < row["end_ns"]:
            elder = [r for r in elder if r["end_ns"] >= row["end_ns"]]
        return innermost(elder, "range_id", row["start_ns"])

    def lineage(self, range_id: int) -> list[int]:
        """The range, its parent, its parent's parent ..."""
        line = [range_id]
        while (parent := self.parent[line[-1]]) is not None:
            line.append(parent)
        return line

    def path(self, range_id: int) -> str:
        """Names from the outermost range inwards; `WINDOW` where no name is left."""
        names = [self.stages[r]["name"] or "" for r in reversed(self.lineage(range_id))]
        names = [name.replace("/", "\\/") for name in names if name != MEASURED]
        return "/".join(names) if names else WINDOW

    def shown(self, stage: StageRef) -> str:
        """How the stage is called. Work of other stages or of none is outside; the unknown stays unknown."""
        if isinstance(stage, Shown):
            return str(stage)
        if isinstance(stage, str):
            return OUTSIDE if self.window_range is not None and stage == NONE else stage
        if self.window_range is not None and not self.below(stage, self.window_range):
            return OUTSIDE
        return self.path(stage)

    def below(self, range_id: int, top: int) -> bool:
        """Whether the range is `top`, nests in it, or was opened by another thread of its process while it was open."""
        line = self.lineage(range_id)
        outermost, window = self.stages[line[-1]], self.stages[top]
        worker = outermost["pid"] == window["pid"] and outermost["tid"] != window["tid"]
        return top in line or (worker and window["start_ns"] <= outermost["start_ns"] < window["end_ns"])

    def stage_at(self, thread: Thread, time: int) -> StageRef:
        """The innermost stage open on the thread, else the innermost that it ends and another began, else that of others."""
        own = innermost(self.stages_on[thread], "range_id", time)
        if own is not None:
            return int(own["range_id"])
        if self.attribution == "thread":
            return NONE
        handed = innermost(self.handed_to(thread), "range_id", time)
        if handed is not None:
            return int(handed["range_id"])
        return self.one_stage(self.staged_threads(thread[0]), time)

    def staged_threads(self, pid: int) -> set[Thread]:
        """The threads of a process that begin or end a stage."""
        return {(pid, t) for r in self.stages.values() if r["pid"] == pid for t in (r["tid"], r["end_tid"])}

    def one_stage(self, threads: Iterable[Thread], time: int) -> StageRef:
        """The stage that the threads have open or were handed: the latest range, if all are of one path."""
        found = []
        for thread in threads:
            for ranges in (self.stages_on[thread], self.handed_to(thread)):
                if (r := innermost(ranges, "range_id", time)) is not None:
                    found.append(r)
        if len({self.path(r["range_id"]) for r in found}) > 1:
            return AMBIGUOUS
        latest = max(found, key=lambda r: (r["start_ns"], -r["end_ns"], r["range_id"]), default=None)
        return NONE if latest is None else int(latest["range_id"])

    def handed_to(self, thread: Thread) -> list[Row]:
        """Stages that another thread of the process began and this one ends."""
        return [r for r in self.stages.values() if (r["pid"], r["end_tid"]) == thread and r["tid"] != r["end_tid"]]

    # Launches

    def launch(self, op: Row) -> Row | None:
        """The call that launched the op; on a host device a call without length by the thread of the op's range."""
        if op["device"] in self.host_devices:
            row = self.ranges.get(op["correlation"])
            instant = {"start_ns": op["start_ns"], "end_ns": op["start_ns"], "name": ""}
            return None if row is None else {"pid": row["pid"], "tid": row["tid"], **instant}
        calls = self.calls_of.get((op["pid"], op["correlation"]), [])
        if not calls:
            return self.caused(op)
        not_after = [call for call in calls if call["start_ns"] <= op["start_ns"]]
        if not_after:
            return max(not_after, key=lambda call: (call["start_ns"], call["call_id"]))
        return min(calls, key=lambda call: (call["start_ns"], call["call_id"]))

    def caused(self, op: Row) -> Row | None:
        """What stands for the launch of an op without one: of pages that move, the kernel's that faults, the prefetch that asked,
        or an instant of the thread that launched last."""
        asked = op["kind"] in COPY_KINDS and (op["name"] or "").startswith("prefetch ")
        if op["pid"] is None or not (asked or op["kind"] == "migration"):
            return None
        time = op["start_ns"]
        if asked:
            prefetches = [
                call
                for calls in self.calls.values()
                for call in calls
                if call["pid"] == op["pid"] and "MemPrefetch" in call["name"] and call["start_ns"] <= time
            ]
            if prefetches:
                return max(prefetches, key=lambda call: (call["start_ns"], call["call_id"]))
        called = [
            o for o in self.ops if o["pid"] == op["pid"] and o["device"] not in self.host_devices and self.called(o)
        ]
        if op["kind"] == "migration":
            kernels = [o for o in called if o["device"] == op["device"] and o["kind"] in ("compute", "graph", "comm")]
            if (kernel := innermost(kernels, "op_id", time)) is not None:
                return self.launch(kernel)
        if not called:
            return None
        before = [o for o in called if o["start_ns"] <= time]
        last = max(
            before or called, key=lambda o: (o["start_ns"], o["op_id"]) if before else (-o["start_ns"], -o["op_id"])
        )
        call = self.launch(last)
        assert call is not None
        return {"pid": call["pid"], "tid": call["tid"], "start_ns": time, "end_ns": time, "name": "", "caused": True}

    def called(self, op: Row) -> bool:
        """Whether a call of the op's correlation was recorded."""
        return bool(self.calls_of.get((op["pid"], op["correlation"])))

    def op_stage(self, op: Row) -> StageRef:
        """The stage that a graph's op was captured in, unless it says less than the one that it was launched in; else this."""
        launched = self.launched_in[op["op_id"]]
        for node in self.graph_nodes:
            if op["graph_node"] is None or (node["pid"], node["graph_node"]) != (op["pid"], op["graph_node"]):
                continue
            captured = self.stage_at((node["pid"], node["tid"]), node["time_ns"])
            around = set() if isinstance(launched, str) else {self.path(r) for r in self.lineage(launched)}
            if not isinstance(captured, str) and self.path(captured) not in around:
                return captured
        return launched

    def shown_op(self, op: Row) -> Shown:
        """How the op's stage is called; the launch settles whether it is outside."""
        launched, stage = self.launched_in[op["op_id"]], self.stage_of_op[op["op_id"]]
        if stage == launched or self.shown(launched) == OUTSIDE:
            return Shown(self.shown(launched))
        assert not isinstance(stage, str)
        return Shown(self.path(stage))

    def launch_stage(self, op: Row) -> StageRef:
        """The stage open where the launching call began; on a host device the op's own range."""
        call = self.launch(op)
        if call is None:
            return ORPHAN
        if op["device"] in self.host_devices and op["correlation"] in self.stages:
            return int(op["correlation"])
        return self.stage_at((call["pid"], call["tid"]), call["start_ns"])

    # The window and its ledger

    def window_of(self, ops: list[Row]) -> tuple[int, int]:
        """The ops' span, or the window's range prolonged to the last op of its own."""
        if self.window_range is None:
            return min(op["start_ns"] for op in ops), max(op["end_ns"] for op in ops)
        row = self.stages[self.window_range]
        stages = [(op, self.launched_in[op["op_id"]]) for op in ops]
        own = [op["end_ns"] for op, s in stages if not isinstance(s, str) and self.below(s, self.window_range)]
        return row["start_ns"], max([row["end_ns"], *own])

    def belongs(self, op: Row, range_id: int) -> bool:
        """Whether the op's stage is the range or nested in it."""
        stage = self.stage_of_op[op["op_id"]]
        return not isinstance(stage, str) and range_id in self.lineage(stage)

    def ledger(
        self, device: int, ops: list[Row], start: int, end: int, steps: list[tuple[int, int]]
    ) -> dict[Cell, int]:
        """Nanoseconds per cell; they sum to the window."""
        cells: dict[Cell, int] = defaultdict(int)
        for time, until in steps:
            busy = open_at(ops, time)
            if busy:
                first = min(busy, key=lambda op: (KINDS.index(op["kind"]), op["start_ns"], op["op_id"]))
                cell: Cell = (str(self.shown_op(first)), first["kind"], None)
            else:
                stage, cause = self.idle(device, ops, time, start, end)
                cell = (self.shown(stage), IDLE, cause)
            cells[cell] += until - time
        assert sum(cells.values()) == end - start
        return dict(cells)

    def idle(self, device: int, ops: list[Row], time: int, start: int, end: int) -> tuple[StageRef, str]:
        """Stage and cause of an instant in which the device has nothing to do."""
        _, gap_end = gap_around(ops, time, start, end)
        # The device may have been idle before the window began; before its first op it always was.
        gap_start = max((op["end_ns"] for op in ops if op["start_ns"] < op["end_ns"] <= time), default=-math.inf)
        on_host = device in self.host_devices
        if self.window_range is None:  # the op that ends the gap may lie behind the window, too
            later = [op["start_ns"] for op in ops if time < op["start_ns"] < op["end_ns"]]
            if not later:
                return NONE, "tail"
            gap_end = min(later)
        elif gap_end == end:  # nothing follows in the window
            owner = self.stages[self.window_range]
            return self.blamed((owner["pid"], owner["tid"]), time, on_host)
        op = min((op for op in ops if op["start_ns"] == gap_end and op["end_ns"] > gap_end), key=lambda op: op["op_id"])
        fed_by = None if on_host else self.interrupts(ops, gap_end)
        if fed_by is not None:
            return self.blamed(fed_by, time, on_host)
        call = self.launch(op)
        if call is None:
            return self.shown_op(op), "unknown"
        thread = (call["pid"], call["tid"])
        stage = self.shown_op(op)
        if call["end_ns"] <= gap_start:
            if self.continues_graph(op, ops, gap_start):
                return stage, "graph_internal"
            waited = any(gap_start < done <= gap_end and time < done for done in self.awaited(op, call))
            return stage, "dependency" if waited else "queued"
        if time < call["start_ns"]:
            where, cause = self.blamed(thread, time, on_host)
            faults = op["kind"] == "migration" and call.get("caused") and time >= call["start_ns"] - ONE_FAULT_NS
            return where, "page_fault" if cause == "host_code" and faults else cause
        if time < call["end_ns"]:
            return stage, self.inside_call(call, op)
        dones = [done for done in self.awaited(op, call) if max(gap_start, call["end_ns"]) < done <= gap_end]
        if any(time < done for done in dones):
            return stage, "dependency"
        return stage, "launch_latency" if gap_end - max([call["end_ns"], *dones]) <= LONGEST_LATENCY_NS else "unknown"

    def awaited(self, op: Row, launch: Row) -> list[int]:
        """When the work of other devices had ended that the op's stream had been told to wait for when it was launched."""
        done = []
        for sync in self.syncs:
            mine = all(sync[key] is not None and sync[key] == op[key] for key in ("pid", "context", "stream"))
            named = [e for e in self.events if all(e[key] == sync[key] for key in ("pid", "event_id", "event_sync_id"))]
            records = [(e, c) for e in named if (c := self.only_call(e, "EventRecord")) is not None]
            wait = self.only_call(sync, "StreamWaitEvent")
            if not mine or None in (sync["event_id"], sync["event_sync_id"]) or wait is None or len(records) != 1:
                continue
            event, record = records[0]
            if not record["start_ns"] <= wait["start_ns"] <= launch["start_ns"]:
                continue
            stream = [o for o in self.ops if all(o[k] == event[k] for k in ("pid", "device", "context", "stream"))]
            earlier = [o for o in stream if (c := self.launch(o)) is not None and c["start_ns"] < record["start_ns"]]
            if earlier and event["device"] not in {op["device"], *self.host_devices}:
                done.append(max(o["end_ns"] for o in earlier))
        return done

    def only_call(self, row: Row, word: str) -> Row | None:
        """The one call of the row's correlation whose name holds `word`; null where there are none or several."""
        found = [call for call in self.calls_of.get((row["pid"], row["correlation"]), []) if word in call["name"]]
        return found[0] if len(found) == 1 else None

    def continues_graph(self, op: Row, ops: list[Row], gap_start: float) -> bool:
        """Whether the op that ended last before the gap came of the same launch."""
        ended = [o for o in ops if o["start_ns"] < o["end_ns"] <= gap_start]
        if not ended:
            return False
        last = max(ended, key=lambda o: (o["end_ns"], o["op_id"]))
        return (last["pid"], last["correlation"]) == (op["pid"], op["correlation"])

    def inside_call(self, call: Row, op: Row) -> str:
        """Cause of idle time within the call that launches the op."""
        kind = call_class(call["name"])
        pageable = op["kind"] in COPY_KINDS and "pageable" in (op["src_kind"], op["dst_kind"])
        if kind == "copy" and (pageable or "Async" not in call["name"]):
            return "copy_api"
        if kind in ("launch", "kernel") and call["end_ns"] - call["start_ns"] > self.lazy_load_ns:
            return "lazy_load"
        return "launch_api"

    def thread_state(self, thread: Thread, time: int, on_host: bool) -> str:
        """What the thread was doing."""
        if on_host and any(r["category"] == "alloc" for r in open_at(self.stages_on[thread], time)):
            return "allocator"
        if on_host and any(re.search(WAITING_OSRT, row["name"]) for row in open_at(self.osrt[thread], time)):
            return "sync"
        call = innermost(self.tell(thread), "call_id", time)
        kind = None if call is None else call["kind"]
        if call is not None and kind in ("launch", "kernel") and call["end_ns"] - call["start_ns"] > self.lazy_load_ns:
            return "lazy_load"
        if kind in CAUSE_OF_CLASS:
            return CAUSE_OF_CLASS[kind]
        sources = {row["source"] for row in open_at(self.overhead[thread], time)}
        if "profiler" in sources:
            return "profiler"
        if "driver" in sources:
            return "driver_overhead"
        if call is not None:
            return "other_api"
        return "waiting" if not on_host and self.waits(thread, time) else "host_code"

    def tell(self, thread: Thread) -> list[Row]:
        """The thread's calls with their classes; a run of queries is a synchronisation, and so is each query in it."""
        if thread not in self.told:
            runs: list[list[Row]] = [[]]
            for call in sorted(self.calls[thread], key=lambda call: (call["start_ns"], call["call_id"])):
                asks = call_class(call["name"]) == "query"
                if runs[-1] and asks and call["start_ns"] <= runs[-1][-1]["end_ns"] + BREAK_IN_A_RUN_NS:
                    runs[-1].append(call)
                else:
                    runs.append([call] if asks else [])
            runs = [run for run in runs if len(run) >= QUERIES_IN_A_RUN]
            asked = {call["call_id"] for run in runs for call in run}
            rows = [
                call | {"kind": "sync" if call["call_id"] in asked else call_class(call["name"])}
                for call in self.calls[thread]
            ]
            for run in runs:
                ends = max(call["end_ns"] for call in run)
                rows.append({"call_id": -1, "kind": "sync", "start_ns": run[0]["start_ns"], "end_ns": ends})
            self.told[thread] = rows
        return self.told[thread]

    # Waiting for another thread

    def blamed(self, thread: Thread, time: int, on_host: bool) -> tuple[StageRef, str]:
        """Stage and cause of an instant at which a device waits for the thread."""
        cause = self.thread_state(thread, time, on_host)
        return self.awaited_stage(thread, time) if cause == "waiting" else self.stage_at(thread, time), cause

    def recorded(self, pid: int) -> bool:
        """Whether any operating-system call of the process was recorded."""
        return any(rows for (p, _), rows in self.osrt.items() if p == pid)

    def os_waits(self, thread: Thread, time: int) -> list[str]:
        """The waiting operating-system calls that the thread is in."""
        return [r["name"] for r in open_at(self.osrt[thread], time) if re.search(WAITING_OSRT, r["name"])]

    def waits(self, thread: Thread, time: int) -> bool:
        """Whether the thread, which is in no CUDA call, waits."""
        if self.recorded(thread[0]):
            return bool(self.os_waits(thread, time))
        ended = [call["end_ns"] for call in self.calls[thread] if call["start_ns"] <= time]
        begins = [call["start_ns"] for call in self.calls[thread] if call["start_ns"] > time]
        if not ended or not begins or min(begins) - max(ended) < WITHOUT_CALLS_NS:
            return False
        feeders = self.settled.feeders(thread[0])
        return self.settled.one_stage(feeders, time) != NONE

    def feeders(self, pid: int) -> set[Thread]:
        """Threads that begin stages and never make a CUDA call."""
        return {(pid, r["tid"]) for r in self.stages.values() if r["pid"] == pid and not self.calls[pid, r["tid"]]}

    def awaited_stage(self, thread: Thread, time: int) -> StageRef:
        """The one stage of the threads that may be waited for, else the thread's own."""
        own = self.stage_at(thread, time)
        if self.attribution == "thread":
            return own
        if self.recorded(thread[0]):
            if all(re.search(ENDED_BY_NO_THREAD, name) for name in self.os_waits(thread, time)):
                return own
            others = {t for t in self.staged_threads(thread[0]) - {thread} if not self.os_waits(t, time)}
        else:
            others = self.feeders(thread[0])
        found = self.one_stage(others, time)
        return own if isinstance(found, str) else found

    # Work that merely interrupts a wait

    def interrupts(self, ops: list[Row], gap_end: int) -> Thread | None:
        """The thread that a gap waits for although another one's op ends it."""
        busy = stretches(ops)
        at = next(i for i, stretch in enumerate(busy) if stretch[0]["start_ns"] == gap_end)
        spent: dict[Thread | None, int] = defaultdict(int)
        for op in ops:
            spent[self.launcher(op)] += op["end_ns"] - op["start_ns"]
        claims = []
        for before in range(at):
            for after in range(at + 1, min(len(busy), before + INTERRUPTIONS + 2)):
                within = busy[before + 1 : after]
                thread = self.launcher(busy[after][0])
                last = max(busy[before], key=lambda op: (op["end_ns"], op["start_ns"], op["op_id"]))
                if thread is None or self.launcher(last) != thread:
                    continue
                others = [{self.launcher(op) for op in stretch} for stretch in within]
                if any(len(of) > 1 or of & {None, thread} for of in others):
                    continue
                if any(spent[other] >= spent[thread] for of in others for other in of):
                    continue
                taken = sum(ends(stretch) - stretch[0]["start_ns"] for stretch in within)
                if 10 * taken >= busy[after][0]["start_ns"] - ends(busy[before]):
                    continue
                launch = self.launch(busy[after][0])
                assert launch is not None
                in_ranges = all(self.ranged(op) for op in [busy[after][0], *(op for one in within for op in one)])
                if in_ranges and launch["start_ns"] >= ends(busy[after - 1]):
                    claims.append(thread)
        return max(claims, key=lambda thread: spent[thread], default=None)

    def launcher(self, op: Row) -> Thread | None:
        """The thread that launched the op."""
        call = self.launch(op)
        return None if call is None else (call["pid"], call["tid"])

    def ranged(self, op: Row) -> bool:
        """Whether the op was launched while a range of its thread's own was open."""
        call = self.launch(op)
        assert call is not None
        return bool(open_at(self.settled.stages_on[call["pid"], call["tid"]], call["start_ns"]))

    # Stages

    def stage_figures(self) -> dict[tuple[int | None, str], dict[str, Any]]:
        """Per (device, path), over the whole trace; ranges named "measured" are not stages."""
        figures: dict[tuple[int | None, str], dict[str, Any]] = {}
        instances: dict[str, list[int]] = defaultdict(list)
        for range_id, row in self.stages.items():
            if row["name"] != MEASURED:
                instances[self.path(range_id)].append(range_id)
        for path, range_ids in instances.items():
            ops = [op for op in self.ops if any(self.belongs(op, r) for r in range_ids)]
            for device in sorted({op["device"] for op in ops}) or [None]:
                here = [op for op in ops if op["device"] == device]
                spans = [[op for op in here if self.belongs(op, r)] for r in range_ids]
                figures[device, path] = {
                    "instances": len(range_ids),
                    "host_ns": sum(self.stages[r]["end_ns"] - self.stages[r]["start_ns"] for r in range_ids),
                    "ops": len(here),
                    "self_ops": sum(1 for op in here if self.path_of(op) == path),
                    "projected_ns": sum(span_ns(mine) for mine in spans),
                    "by_kind": by_kind(here),
                }
        return figures

    def path_of(self, op: Row) -> str:
        """The op's path, whatever the window."""
        stage = self.stage_of_op[op["op_id"]]
        return stage if isinstance(stage, str) else self.path(stage)


def by_thread(rows: Iterable[Row]) -> dict[Thread, list[Row]]:
    """Rows per (pid, tid)."""
    threads: dict[Thread, list[Row]] = defaultdict(list)
    for row in rows:
        threads[row["pid"], row["tid"]].append(row)
    return threads


def all_times(trace: Trace) -> list[int]:
    """Every time in any table, ascending."""
    found: set[int] = set()
    for name in TABLES:
        frame = trace.table(name)
        for column in ("start_ns", "end_ns", "time_ns"):
            if column in frame.columns:
                found.update(time for time in frame[column].to_list() if time is not None)
    return sorted(found)
