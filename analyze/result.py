"""What an analysis is: plain tables, ready for any face.

An `Analysis` is a value made by `analyze.analyze`; the tables, JSON, verdicts and the report are all read off it.
Every table has exactly the columns declared in `SCHEMAS`; times are integer nanoseconds, bytes are bytes, a ratio
is a fraction, and null means "does not exist here" (no copies to hide), never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

import polars as pl

from ..traces.content import one_line
from ..traces.model import KIND_TYPE, MEMORY_TYPE, Meta
from ..traces.shown import Shown
from .steady import Steady

NONE: Final = "(none)"
"""Stage of an op launched while no stage was open."""
AMBIGUOUS: Final = "(ambiguous)"
"""Stage of an op whose launching thread had none while several other threads had one."""
ORPHAN: Final = "(orphan)"
"""Stage of an op whose launching call was not recorded."""
OUTSIDE: Final = "(outside)"
"""Stage of an op that runs inside the window but belongs to a stage outside the window's range."""

IDLE: Final = "idle"
"""The category of time in which the device had nothing to do; only idle cells have a cause."""

CAUSES: Final = (
    "graph_internal",
    "dependency",
    "queued",
    "launch_latency",
    "launch_api",
    "lazy_load",
    "copy_api",
    "allocator",
    "sync",
    "module_load",
    "page_fault",
    "graph_build",
    "profiler",
    "driver_overhead",
    "earlier_launch",
    "other_api",
    "waiting",
    "host_code",
    "tail",
    "unknown",
)
"""Why a device was idle (``docs/definitions/ledger.md``)."""

OPENED_BY: Final = ("sync", "copy_api", "host", "queued", "unknown")
"""What the launching thread was blocked in when the device ran dry."""

SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {
    # One row a device that did anything in the window. busy + idle = the ops' span.
    "devices": {
        "device": pl.Int32,
        "name": pl.String,
        "type": pl.String,  # "gpu" or "host"
        "ops_span_ns": pl.Int64,  # last op end - first op start
        "busy_ns": pl.Int64,  # union of all ops
        "idle_ns": pl.Int64,  # ops_span_ns - busy_ns
    },
    "kinds": {
        "device": pl.Int32,
        "kind": KIND_TYPE,
        "ops": pl.Int64,
        "sum_ns": pl.Int64,
        "union_ns": pl.Int64,
        "nbytes": pl.Int64,
    },
    # Per device (stage null), and per (device, stage): the stage's own a-ops against the b-ops of all OTHER stages.
    # `a` and `b` are copy, h2d, d2h, comm, compute (compute includes graph; copy is every copy kind).
    "overlap": {
        "device": pl.Int32,
        "stage": pl.String,
        "a": pl.String,
        "b": pl.String,
        "a_ns": pl.Int64,
        "b_ns": pl.Int64,
        "both_ns": pl.Int64,
        "hidden": pl.Float64,  # both / a; null where there is no a
        "efficiency": pl.Float64,  # both / min(a, b); null where either is missing
    },
    # Copies under neither compute nor comm; comm not under compute. Stage null: the whole device.
    "exposed": {
        "device": pl.Int32,
        "stage": pl.String,
        "kind": pl.String,  # copy or comm
        "ns": pl.Int64,
    },
    # One row per (stage path, device its ops ran on); device null: host only. Nested stages are included, except in self_*.
    "stages": {
        "device": pl.Int32,
        "path": pl.String,
        "instances": pl.Int64,
        "host_ns": pl.Int64,  # sum of the ranges' own durations
        "projected_ns": pl.Int64,  # sum over instances of last op end - first op start
        "ops": pl.Int64,
        "self_ops": pl.Int64,
        "busy_ns": pl.Int64,  # union of its ops
        "payload_bytes": pl.Int64,  # what its ranges say they move, nested stages not included; null where none says
        "first_start_ns": pl.Int64,  # of its ranges, those listed
        # Of its collectives whose ranks were paired, sums of durations until and after the last rank began; null: none were.
        "comm_wait_ns": pl.Int64,
        "comm_transfer_ns": pl.Int64,
    },
    # What was recorded of each stage whose name is folded: its ranges' own names, in order of their first start.
    "stage_names": {
        "path": pl.String,
        "name": pl.String,
        "instances": pl.Int64,
        "host_ns": pl.Int64,
        "first_start_ns": pl.Int64,
    },
    "stage_kinds": {
        "device": pl.Int32,
        "path": pl.String,
        "kind": KIND_TYPE,
        "ops": pl.Int64,
        "sum_ns": pl.Int64,
        "union_ns": pl.Int64,
        "nbytes": pl.Int64,
    },
    # Operations by innermost stage, with the part that lies in the window. Name: of kernels, graphs and collectives; else "".
    "work": {
        "device": pl.Int32,
        "stage": pl.String,
        "kind": KIND_TYPE,
        "name": pl.String,
        "ops": pl.Int64,
        "sum_ns": pl.Int64,
        "nbytes": pl.Int64,  # of copies and memsets; null where one of them did not say
    },
    "windows": {
        "device": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
    },
    # The exact partition: for each device the cells sum to its window. `cause` is null unless category is "idle".
    # `iteration` is the 0-based iteration the cell belongs to, null outside iterations.
    "ledger": {
        "device": pl.Int32,
        "stage": pl.String,
        "iteration": pl.Int32,
        "category": pl.String,  # one of KINDS, or "idle"
        "cause": pl.String,
        "ns": pl.Int64,
    },
    # The critical path of all GPUs' window, which it sums to; device null is the host's time.
    "critical": {
        "device": pl.Int32,
        "stage": pl.String,
        "category": pl.String,  # one of KINDS, "host", or "wait"
        "cause": pl.String,  # of CAUSES; null while an operation runs
        "ns": pl.Int64,
    },
    # Changes and how long an iteration would take after each, shortest first (headroom/estimate.py).
    "headroom": {
        "change": pl.String,  # as `predict --change` takes it
        "estimate_ns": pl.Int64,  # null where it is refused
        "at_most_ns": pl.Int64,  # the same with a host that takes no time
        "after_ns": pl.Int64,  # with all that pay and stand above it, too; null for one that adds nothing
        "grade": pl.String,  # estimate, indicative or refused
        "assumes": pl.String,
        "why": pl.String,  # it is refused, or no more than indicative; "" otherwise
    },
    # What they were predicted from: one row.
    "replayed": {
        "found_by": pl.String,  # an iteration is a range, found by kernels, or the whole window; null: nothing is replayed
        "iterations": pl.Int64,
        "base_ns": pl.Int64,  # an iteration as recorded, on average
        "untraced_ns": pl.Int64,  # the same in the run's untraced rounds; null without any
        "host_factor": pl.Float64,  # the host's time times this gives that; null where nothing does
        "structure_error": pl.Float64,  # how far off it replays with all latencies at the medians of their kinds
        "static": pl.Float64,  # part of the iterations that launch the same kernels; null where the window counts as one
        "why": pl.String,  # nothing is predicted; "" otherwise
    },
    # Idle intervals, longest first (at most `gaps` of them per device); `cause` and `stage` of their largest piece.
    "gaps": {
        "device": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "ns": pl.Int64,
        "stage": pl.String,
        "cause": pl.String,
        "opened_by": pl.String,
    },
    # Ranges of each NVTX domain of the trace, most first; "" is the default one.
    "domains": {
        "domain": pl.String,
        "ranges": pl.Int64,
    },
    # Calls of each name in the window, where no device operations say what they did; empty elsewhere.
    "api_calls": {
        "name": pl.String,
        "calls": pl.Int64,
        "sum_ns": pl.Int64,
        "longest_ns": pl.Int64,
    },
    # Calls of each process that launch or copy, in the whole trace; `missing` of them have no device row.
    "launch_rows": {
        "pid": pl.Int32,
        "process": pl.String,  # its program's name, null where unknown
        "launches": pl.Int64,
        "missing": pl.Int64,
        "pending": pl.Int64,  # missing ones after the last that has a row: perhaps they had not run yet
    },
    # Iterations of the measured work, in order. host time from range start to range end.
    "iterations": {
        "iteration": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "host_ns": pl.Int64,
    },
    "bandwidth": {
        "device": pl.Int32,
        "kind": KIND_TYPE,
        "src_kind": MEMORY_TYPE,
        "dst_kind": MEMORY_TYPE,
        "src_device": pl.Int32,
        "dst_device": pl.Int32,
        "bucket": pl.String,  # size of one copy: "<4KiB", "4-64KiB", "64KiB-1MiB", "1-16MiB", "16-256MiB", ">=256MiB"
        "ops": pl.Int64,
        "nbytes": pl.Int64,
        "sum_ns": pl.Int64,
        "union_ns": pl.Int64,
        "bytes_per_s": pl.Float64,  # nbytes / sum of durations; d2d counts each byte once here
        "union_bytes_per_s": pl.Float64,
        "effective": pl.Boolean,  # pageable host memory: staging, not the link
        "peak_bytes_per_s": pl.Float64,  # of the link, or of HBM for d2d; null: no link (pageable) or unknown
        "peak_source": pl.String,  # "calibration <date>", "device row", "datasheet <name>"
        "share": pl.Float64,  # of the peak, from the union; d2d counts each byte twice (read and write)
        "expected_bytes_per_s": pl.Float64,  # of calibrated copies of this size
    },
    # Per stage: time the host spent inside allocator calls, and the device's idle time they caused (the stall).
    "allocator": {
        "stage": pl.String,
        "calls": pl.Int64,
        "host_ns": pl.Int64,
        "stall_ns": pl.Int64,
    },
    # --- Detail of an iteration, as of the whole device. An op belongs to the iteration open when it was launched.
    "iteration_kinds": {
        "device": pl.Int32,
        "iteration": pl.Int32,
        "kind": KIND_TYPE,
        "ops": pl.Int64,
        "sum_ns": pl.Int64,
        "union_ns": pl.Int64,
        "nbytes": pl.Int64,
    },
    "iteration_overlap": {  # only where there is an a
        "device": pl.Int32,
        "iteration": pl.Int32,
        "a": pl.String,
        "b": pl.String,
        "a_ns": pl.Int64,
        "b_ns": pl.Int64,
        "both_ns": pl.Int64,
    },
    "iteration_exposed": {
        "device": pl.Int32,
        "iteration": pl.Int32,
        "kind": pl.String,  # copy or comm
        "ns": pl.Int64,
    },
    # Time with so many streams busy; `streams` 3 stands for three or more. Sums to the window of the device.
    "concurrency": {
        "device": pl.Int32,
        "streams": pl.Int32,
        "ns": pl.Int64,
    },
    # Kernels that ran beside communication, copies or other streams' kernels, held against the same kernel and grid alone.
    # Stage null: the whole device. `compared`, of which `elsewhere` with other stages; extra_ns = compared_ns - alone_ns.
    # What contradicts physics, or each other (`accounts.oddities`).
    "oddities": {
        "what": pl.String,
        "rows": pl.Int64,
        "of": pl.Int64,
        "level": pl.String,
        "text": pl.String,
        "doubt": pl.Boolean,  # whether it stands in the first lines
    },
    # Devices whose ranks run the same collectives, each time the same time apart.
    "skews": {
        "device": pl.Int32,
        "other": pl.Int32,
        "ops": pl.Int64,
        "skew_ns": pl.Int64,
    },
    # The job of ranks (`analyze.ranks`) that this trace holds or is one rank of: one row, or none.
    "job": {
        "ranks": pl.Int64,
        "iterations": pl.Int64,
        "missing": pl.String,  # numbers of ranks that nobody recorded; empty: none is missing
        "exposed_comm_share": pl.Float64,
        "straggler_share": pl.Float64,
        "skew": pl.Float64,
        "trust": pl.String,  # ok, partial, unavailable, or alone (one rank by itself); reason: why no better
        "reason": pl.String,
    },
    # Operators of PyTorch, those that take most by themselves first.
    "operators": {
        "name": pl.String,
        "calls": pl.Int64,
        "sum_ns": pl.Int64,  # nested operators included
        "self_ns": pl.Int64,  # without them
        "ops": pl.Int64,  # launched on devices, not by nested ones
        "device_ns": pl.Int64,  # the sum of these
        "outside_ns": pl.Int64,  # of `self_ns`, of those that began while no stage was open on their thread
    },
    # Pages of unified memory that moved on a fault; a null stage is the device.
    "migrations": {
        "device": pl.Int32,
        "stage": pl.String,
        "ops": pl.Int64,
        "nbytes": pl.Int64,
        "sum_ns": pl.Int64,
        "union_ns": pl.Int64,
        "stall_ns": pl.Int64,  # of union_ns: while a kernel of the device ran, and waited
        "exposed_ns": pl.Int64,  # the rest
    },
    # Ops of CUDA graphs recorded node by node.
    "replays": {
        "device": pl.Int32,
        "stage": pl.String,  # which has them in every other table: where they were captured, `replayed_in` where nobody knows
        "replayed_in": pl.String,
        "ops": pl.Int64,
        "sum_ns": pl.Int64,
    },
    "contention": {
        "device": pl.Int32,
        "stage": pl.String,
        "beside": pl.String,  # comm, copy or compute
        "kernels": pl.Int64,
        "kernel_ns": pl.Int64,
        "beside_ns": pl.Int64,  # of kernel_ns, what something ran beside
        "compared": pl.Int64,
        "elsewhere": pl.Int64,
        "compared_ns": pl.Int64,
        "alone_ns": pl.Int64,  # what the compared kernels take alone
        "extra_ns": pl.Int64,
        "slowdown": pl.Float64,  # compared / alone; null where none was compared
    },
    "streams": {
        "device": pl.Int32,
        "pid": pl.Int32,
        "context": pl.Int32,
        "stream": pl.Int64,
        "ops": pl.Int64,
        "busy_ns": pl.Int64,  # union
    },
    # Communication ops by kernel. sum_ns of the paired ones = comm_wait_ns + comm_ns.
    "collectives": {
        "device": pl.Int32,
        "stage": pl.String,
        "name": pl.String,
        "ops": pl.Int64,
        "sum_ns": pl.Int64,
        "paired": pl.Int64,  # ops whose other ranks were found
        "in_doubt": pl.Int64,  # of the paired: those whose ranks may be of several communicators in step
        "ranks": pl.Int32,  # 0: none paired
        "comm_wait_ns": pl.Int64,  # before the last rank began
        "comm_ns": pl.Int64,
        "group_size": pl.Int32,  # of the largest group that is known; null: none is
        "absent": pl.Int64,  # of the paired: those of groups with more ranks than were paired
    },
    # Waiting times of launches by innermost stage (null: the device). Percentiles are values that occurred.
    "launches": {
        "device": pl.Int32,
        "stage": pl.String,
        "figure": pl.String,  # latency or queue_delay
        "n": pl.Int64,
        "min_ns": pl.Int64,
        "p50_ns": pl.Int64,
        "p90_ns": pl.Int64,
        "p99_ns": pl.Int64,
        "max_ns": pl.Int64,
    },
    # Kernels by innermost stage (null: the device), and how much of its ledger is idle time the host is to blame for.
    "kernel_counts": {
        "device": pl.Int32,
        "stage": pl.String,
        "kernels": pl.Int64,
        "kernel_ns": pl.Int64,
        "small_kernels": pl.Int64,  # below 10 us
        "small_ns": pl.Int64,
        "kernels_per_iteration": pl.Float64,  # null without iterations
        "ledger_ns": pl.Int64,
        "host_bound_ns": pl.Int64,  # idle, and neither queued, graph_internal, dependency nor unknown
    },
    # The ten longest of each device, the five longest of each stage: a sum over them is a floor.
    "top_kernels": {
        "device": pl.Int32,
        "stage": pl.String,
        "name": pl.String,
        "ops": pl.Int64,
        "sum_ns": pl.Int64,
        "mean_ns": pl.Float64,
        "share": pl.Float64,  # of the kernel time of that stage or device
    },
    # The calls that fill each row of `gaps` (device, gap start), longest first.
    "gap_calls": {
        "device": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "source": pl.String,  # cuda or os
        "name": pl.String,
        "calls": pl.Int64,
        "ns": pl.Int64,
    },
    # What the thread that the device waited for ran in the longest gaps, by the recorder's CPU samples, most first. The
    # rows of a gap add up to its samples; `function` is the innermost one with a name, null where no frame has one.
    "gap_functions": {
        "device": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "function": pl.String,
        "module": pl.String,
        "samples": pl.Int64,
    },
    # What that thread ran in the longest gaps by torch.profiler, longest first: operators (domain torch.op, unless these are the
    # stages) and Python functions (torch.python), without what nests in them.
    "gap_code": {
        "device": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "domain": pl.String,
        "name": pl.String,
        "ns": pl.Int64,
    },
    # Hardware counters: stage null is the whole window, "(idle)" the samples in which nothing was busy.
    "counters": {
        "device": pl.Int32,
        "stage": pl.String,
        "metric": pl.String,  # hbm_read, hbm_write, tensor, sm_active, sm_clock
        "ns": pl.Int64,  # sampled, or busy, time
        "percent_ns": pl.Float64,  # percent x time; stages and idle add up to the whole
        "percent": pl.Float64,  # mean over ns
        "nbytes": pl.Int64,  # of hbm_*; null where the device's bandwidth is unknown
        "trust": pl.String,
    },
    # Driver memory by group (device, pinned, static) in the window, and over the recording.
    "memory": {
        "device": pl.Int32,
        "kind": pl.String,
        "allocations": pl.Int64,
        "frees": pl.Int64,
        "allocated_bytes": pl.Int64,
        "freed_bytes": pl.Int64,
        "start_bytes": pl.Int64,
        "peak_bytes": pl.Int64,
        "end_bytes": pl.Int64,
    },
    "memory_timeline": {
        "device": pl.Int32,
        "kind": pl.String,
        "time_ns": pl.Int64,
        "in_use_bytes": pl.Int64,  # from this instant on
    },
    "stage_memory": {
        "device": pl.Int32,
        "kind": pl.String,
        "stage": pl.String,
        "allocations": pl.Int64,
        "frees": pl.Int64,
        "allocated_bytes": pl.Int64,
        "freed_bytes": pl.Int64,
        "peak_bytes": pl.Int64,  # in use while any of its ranges was open; null for (none) and the like
    },
    # Time inside allocator calls of threads that a device was NOT waiting for while it idled. For information.
    "concurrent_allocator": {
        "device": pl.Int32,
        "pid": pl.Int32,
        "tid": pl.Int32,
        "ns": pl.Int64,
    },
    # The recorder's own errors and warnings, each message once; at most 1,000 of them.
    "diagnostics": {
        "severity": pl.String,  # error or warning
        "text": pl.String,
        "times": pl.Int64,
        "incomplete": pl.Boolean,  # whether it says that something may be missing
    },
    "trust": {
        "metric": pl.String,  # ledger, projection, overlap, bandwidth, allocator, time, comm, hbm, causes
        "level": pl.String,
        "reason": pl.String,  # "" where ok
    },
}


@dataclass(frozen=True, slots=True)
class Choices:
    """What the person who asked chose to analyse; null means no restriction.

    `domain` is the NVTX domain whose ranges are stages ("" is the default one), chosen or found. `stages`, `depth` and
    `below` are those of `selection.Selection`, `window` is a range's name or path, instants ``(start_ns, end_ns)``,
    or ``steady``: the steady iterations.
    `folded` counts the paths that are not among the costliest and were folded (`attribution.bounded`). `fold`: whether
    siblings whose names differ in numbers alone are one stage (`attribution.folding`).
    """

    attribution: str = "process"
    domain: str = ""
    stages: str | None = None
    depth: int | None = None
    below: str | None = None
    window: tuple[int, int] | str | int | None = None
    folded: int = 0
    fold: bool = True


def joined(parts: Iterable[Mapping[str, pl.DataFrame]], *names: str) -> dict[str, pl.DataFrame]:
    """The tables `names` of several devices one below the other, with the columns of `SCHEMAS`."""
    every = [{name: pl.DataFrame(schema=SCHEMAS[name]) for name in names}, *parts]
    return {
        n: pl.concat(one[n].select(*SCHEMAS[n]).cast(pl.Schema(SCHEMAS[n])) for one in every if n in one) for n in names
    }


@dataclass(frozen=True, slots=True)
class Analysis(Shown):
    """All numbers of one trace. `variant` is null for a bare trace; `more` are tables that have no field yet.

    `steady` are the iterations that were found, whatever the window; null where there are none. `first_op_ns` is the start of
    the trace's first op, from which gaps are counted. `other_names` is the same with recorded names where these are folded, and
    the other way round; null where that makes no difference, or nobody asked.
    """

    @property
    def host_only(self) -> bool:
        """Whether the host was recorded and no device: its stages with a kind stand for operations."""
        types = self.devices["type"].cast(pl.String).to_list()
        return bool(types) and set(types) == {"host"}

    def __repr__(self) -> str:
        name = self.meta.file if self.variant is None else f"{self.variant} ({self.meta.file})"
        longest = max((high - low for low, high in self.windows.select("start_ns", "end_ns").iter_rows()), default=0)
        counted = f"{self.windows.height} devices, window {longest / 1e6:,.3f} ms, {self.stages.height} stages"
        return f"<Analysis of {one_line(name[:80])}: {counted}>"

    variant: str | None
    meta: Meta
    devices: pl.DataFrame
    kinds: pl.DataFrame
    overlap: pl.DataFrame
    exposed: pl.DataFrame
    stages: pl.DataFrame
    stage_names: pl.DataFrame
    stage_kinds: pl.DataFrame
    work: pl.DataFrame
    windows: pl.DataFrame
    ledger: pl.DataFrame
    gaps: pl.DataFrame
    domains: pl.DataFrame
    api_calls: pl.DataFrame
    launch_rows: pl.DataFrame
    iterations: pl.DataFrame
    bandwidth: pl.DataFrame
    allocator: pl.DataFrame
    trust: pl.DataFrame
    diagnostics: pl.DataFrame
    iteration_kinds: pl.DataFrame
    iteration_overlap: pl.DataFrame
    iteration_exposed: pl.DataFrame
    concurrency: pl.DataFrame
    contention: pl.DataFrame
    replays: pl.DataFrame
    oddities: pl.DataFrame
    skews: pl.DataFrame
    job: pl.DataFrame
    operators: pl.DataFrame
    critical: pl.DataFrame
    headroom: pl.DataFrame
    replayed: pl.DataFrame
    migrations: pl.DataFrame
    streams: pl.DataFrame
    collectives: pl.DataFrame
    launches: pl.DataFrame
    kernel_counts: pl.DataFrame
    top_kernels: pl.DataFrame
    gap_calls: pl.DataFrame
    gap_functions: pl.DataFrame
    gap_code: pl.DataFrame
    counters: pl.DataFrame
    memory: pl.DataFrame
    memory_timeline: pl.DataFrame
    stage_memory: pl.DataFrame
    concurrent_allocator: pl.DataFrame
    choices: Choices = Choices()
    steady: Steady | None = None
    first_op_ns: int | None = None
    other_names: Analysis | None = None
    more: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    @classmethod
    def of(cls, tables: Mapping[str, pl.DataFrame], **facts: Any) -> Analysis:
        """`tables` by their names, each in its field or in `more`, beside what is no table."""
        named: dict[str, Any] = {name: tables[name] for name in SCHEMAS}
        return cls(**facts, **named, more={name: table for name, table in tables.items() if name not in named})

    def tables(self) -> dict[str, pl.DataFrame]:
        """Every table by its name."""
        of_fields = {f.name: getattr(self, f.name) for f in fields(self) if f.name in SCHEMAS}
        return of_fields | dict(self.more)
