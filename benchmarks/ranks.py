"""A job of any number of ranks, made of the two ranks of a real recording, with delays and clocks that are known.

    real iteration of a rank      |h2d|forward|backward ...       |optimizer|
                                              |==|  |==|  |==| |==|            its collectives
    delayed by D in `forward`     |h2d|for...D...ward|backward ...  the device does D later what was launched later
                                                     |==|  |==|  |==| |==|     and collectives wait for the last rank

Every rank repeats real iterations of one of the two, in turns, so that its jitter is real. Calls and operations keep their
distances; a delay moves what comes after it, and collectives last until the last rank has come. Then each rank's times are put on
a clock of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aisp_trace.analyze.attribution.attribute import Attributed, attribute
from aisp_trace.analyze.attribution.steady import Seeking
from aisp_trace.traces.model import KINDS, Meta, Trace, make_trace
from aisp_trace.traces.open import open_trace

Times = NDArray[np.int64]

SAMPLE: Final = Path(__file__).parents[1] / "traces" / "samples" / "h200x2_ddp.sqlite.xz"
STEADY: Final = (3, 4, 5)
"""The sample's undisturbed iterations."""

GAP_NS: Final = 9_000
"""Between two iterations, as recorded."""

BACK_TO_BACK_NS: Final = 4_000
"""Between two collectives of one stream at least, as recorded."""

END_JITTER_NS: Final = 2_000
"""Ranks end a collective within a few microseconds."""


@dataclass(frozen=True, slots=True)
class Delay:
    """A rank's delay of `ns` at the start of `stage`: ``host`` code, an ``allocator`` call, a slower ``compute`` kernel or
    ``copies``."""

    stage: str
    ns: int
    kind: str = "host"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate. `delays` by (rank, iteration); clocks are ahead by `offset_ns` and `drift` of each rank (default: none);
    `first` is the iteration that a rank's recording begins with, `last` the one before which it ends (default: all).
    `groups`: ranks whose collectives are one communicator's, as torch says them; null: all, and nothing says so."""

    ranks: int
    iterations: int
    delays: Mapping[tuple[int, int], Sequence[Delay]] = field(default_factory=dict)
    offset_ns: Mapping[int, int] = field(default_factory=dict)
    drift: Mapping[int, float] = field(default_factory=dict)
    first: Mapping[int, int] = field(default_factory=dict)
    last: Mapping[int, int] = field(default_factory=dict)
    groups: Sequence[Sequence[int]] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)  # stages, as h2d: data
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Template:
    """One real iteration of one rank, in ns from its start. `launched`: when each operation's call began."""

    ops: pl.DataFrame
    api: pl.DataFrame
    ranges: pl.DataFrame
    launched: Times
    comm: Times  # rows of `ops`: its collectives, in order
    length: int

    def host(self, name: str) -> Times:
        """Column `name` of the calls, then of the ranges."""
        return np.concatenate([self.api[name].to_numpy(), self.ranges[name].to_numpy()])


def templates(sample: Path = SAMPLE) -> list[list[_Template]]:
    """Of each of the sample's two ranks, its steady iterations."""
    trace = open_trace(sample)
    a = attribute(trace, seeking=Seeking(as_window=True))
    return [[_template(trace, a, device, number) for number in STEADY] for device in (0, 1)]


def _template(trace: Trace, a: Attributed, device: int, number: int) -> _Template:
    mine = (trace.ops["device"].to_numpy() == device) & (a.iteration == number)
    ops = trace.ops.filter(pl.Series(mine))
    (pid,) = ops["pid"].unique().to_list()
    ranges = trace.ranges.filter((pl.col("pid") == pid) & (pl.col("domain") == "aisp"))
    whole = ranges.filter(pl.col("name") == "iteration").sort("start_ns").row(number, named=True)
    low, high = whole["start_ns"], whole["end_ns"]
    inside = (pl.col("start_ns") >= low) & (pl.col("start_ns") < high)
    times = [(pl.col(name) - low) for name in ("start_ns", "end_ns")]
    api = trace.api.filter((pl.col("pid") == pid) & inside).with_columns(times)
    ops = ops.with_columns(times)
    called = api.select("correlation", pl.col("start_ns").alias("at")).unique("correlation")
    launched = ops.join(called, on="correlation", how="left", maintain_order="left")["at"]
    comm = np.flatnonzero(ops["kind"].to_physical().to_numpy() == KINDS.index("comm"))
    return _Template(
        ops=ops,
        api=api,
        ranges=ranges.filter(inside).with_columns(times),
        launched=launched.fill_null(pl.Series(ops["start_ns"])).to_numpy(),
        comm=comm,
        length=high - low,
    )


class Simulated:
    """The ranks of a `plan`: all collectives are settled at once, each rank's trace is made when it is asked for."""

    def __init__(self, plan: Plan, real: Sequence[Sequence[_Template]] | None = None) -> None:
        self.plan = plan
        self.real = real or templates()
        self._parts: dict[tuple[int, int], tuple[Times, Times, Times, Times]] = {}
        self._settle()

    def _template(self, rank: int, iteration: int) -> _Template:
        return self.real[rank % 2][(rank // 2 + iteration) % len(STEADY)]

    def _settle(self) -> None:
        plan = self.plan
        rng = np.random.default_rng(plan.seed)
        begin = np.zeros(plan.ranks, np.int64)
        groups = plan.groups or [range(plan.ranks)]
        durations = [(t.ops["end_ns"] - t.ops["start_ns"]).to_numpy()[t.comm] for of_rank in self.real for t in of_rank]
        transfer = np.min(durations, axis=0)
        for i in range(plan.iterations):
            made = [self._delayed(r, i) for r in range(plan.ranks)]
            own = np.array([begin[r] + m[0][self._template(r, i).comm] for r, m in enumerate(made)])
            begins, ends = np.empty_like(own), np.empty_like(own)
            for group in groups:
                rows = np.array(list(group))
                free = np.full(len(rows), np.iinfo(np.int64).min // 2)
                for k in range(own.shape[1]):
                    start = np.maximum(own[rows, k], free + BACK_TO_BACK_NS)
                    end = start.max() + transfer[k] + rng.integers(0, END_JITTER_NS, len(rows))
                    begins[rows, k], ends[rows, k], free = start, end, end
            for r, (start, end, host, host_end, moved) in enumerate(made):
                t = self._template(r, i)
                after = int(t.ops["end_ns"][int(t.comm[-1])])
                extra = max(int(ends[r, -1] - begin[r]) - after - moved, 0)
                late = t.ops["start_ns"].to_numpy() >= after
                start, end = begin[r] + start + extra * late, begin[r] + end + extra * late
                start[t.comm], end[t.comm] = begins[r], ends[r]
                waited, waited_end = (t.host(name) >= after for name in ("start_ns", "end_ns"))
                host_moved = extra + (moved if self._on_device(r, i) else 0)
                host = begin[r] + host + host_moved * waited
                self._parts[r, i] = (start, end, host, begin[r] + host_end + host_moved * waited_end)
                begin[r] += t.length + moved + extra + GAP_NS

    def _on_device(self, rank: int, iteration: int) -> bool:
        return any(d.kind in ("compute", "copies") for d in self.plan.delays.get((rank, iteration), ()))

    def _delayed(self, rank: int, iteration: int) -> tuple[Times, Times, Times, Times, int]:
        """Start and end of operations and of host calls and ranges (in this order) with the rank's own delays, and their sum."""
        t = self._template(rank, iteration)
        start, end = t.ops["start_ns"].to_numpy().copy(), t.ops["end_ns"].to_numpy().copy()
        host, host_end = t.host("start_ns"), t.host("end_ns")
        base, base_end, total = host.copy(), host_end.copy(), 0
        for delay in self.plan.delays.get((rank, iteration), ()):
            at = int(t.ranges.filter(pl.col("name") == delay.stage)["start_ns"][0])
            later = t.launched > at
            if delay.kind in ("compute", "copies"):
                kind = "compute" if delay.kind == "compute" else "h2d"
                victim = int(np.flatnonzero(later & (t.ops["kind"] == kind).to_numpy())[0])
                end[victim] += delay.ns
                later = t.launched > t.launched[victim]
                start[later], end[later] = start[later] + delay.ns, end[later] + delay.ns
            else:
                start[later], end[later] = start[later] + delay.ns, end[later] + delay.ns
                host, host_end = host + delay.ns * (base > at), host_end + delay.ns * (base_end > at)
            total += delay.ns
        return start, end, host, host_end, total

    def trace(self, rank: int) -> Trace:
        """What a recorder of `rank` would have written."""
        plan = self.plan
        pid = 1000 + rank
        tables: dict[str, list[pl.DataFrame]] = {"ops": [], "api": [], "ranges": []}
        correlations = 1 << 14
        for i in range(plan.first.get(rank, 0), plan.last.get(rank, plan.iterations)):
            t = self._template(rank, i)
            start, end, host, host_end = self._parts[rank, i]
            n, shift = t.api.height, i * correlations
            renumbered = (pl.col("correlation") % correlations + shift).cast(pl.UInt32)
            tables["ops"].append(t.ops.with_columns(_at("start_ns", start), _at("end_ns", end), renumbered))
            name = pl.col("name").cast(pl.String)
            calls = t.api.with_columns(_at("start_ns", host[:n]), _at("end_ns", host_end[:n]), renumbered, name)
            tables["api"].append(pl.concat([calls, self._allocations(rank, i, calls, host[n:])]))
            tables["ranges"].append(t.ranges.with_columns(_at("start_ns", host[n:]), _at("end_ns", host_end[n:])))
        made = {name: self._own(pl.concat(parts), rank, pid) for name, parts in tables.items()}
        made["devices"] = _DEVICE
        if plan.groups is not None:
            made["comms"] = self._said(rank, made["ops"])
        world = {"rank": str(rank), "world_size": str(plan.ranks)} if plan.groups is not None else {}
        return make_trace(Meta(f"train.rank{rank}.sqlite", "nsys", "simulated", None, capture=world), **made)

    def _allocations(self, rank: int, iteration: int, calls: pl.DataFrame, began: Times) -> pl.DataFrame:
        """A call of cudaMalloc for each delay by the allocator."""
        t = self._template(rank, iteration)
        rows = []
        for number, delay in enumerate(self.plan.delays.get((rank, iteration), ())):
            if delay.kind == "allocator":
                begin = int(began[np.flatnonzero((t.ranges["name"] == delay.stage).to_numpy())[0]])
                times = {"start_ns": begin + 1, "end_ns": begin + delay.ns}
                own = {
                    "correlation": ((iteration + 1) << 14) - 1 - number,
                    "name": "cudaMalloc",
                    "tid": int(t.ranges["tid"][0]),
                }
                rows.append({**calls.row(0, named=True), **times, **own})
        return pl.DataFrame(rows, schema=calls.schema) if rows else calls.clear()

    def _own(self, table: pl.DataFrame, rank: int, pid: int) -> pl.DataFrame:
        """`table` on the rank's clock, of its process; device 0."""
        drift, offset = self.plan.drift.get(rank, 0.0), self.plan.offset_ns.get(rank, 0) + 10_000_000_000
        own = [
            ((pl.col(n) * drift).round().cast(pl.Int64) + pl.col(n) + offset).alias(n) for n in ("start_ns", "end_ns")
        ]
        table = table.with_columns(*own, pl.lit(pid, pl.Int32).alias("pid"))
        if "device" in table.columns:
            return table.with_columns(pl.lit(0, pl.Int32).alias("device"), pl.col("name").cast(pl.String))
        if "domain" in table.columns and self.plan.rename:
            return table.with_columns(pl.col("name").cast(pl.String).replace(dict(self.plan.rename)))
        return table

    def _said(self, rank: int, ops: pl.DataFrame) -> pl.DataFrame:
        assert self.plan.groups is not None
        (group,) = [g for g in self.plan.groups if rank in g]
        name = str(list(self.plan.groups).index(group))
        comm = ops.filter(pl.col("kind") == "comm").sort("start_ns").with_row_index("seq")
        return comm.select(
            "device",
            "stream",
            "start_ns",
            pl.lit("all_reduce").alias("collective"),
            pl.lit(name).alias("process_group"),
            pl.lit(len(group), pl.Int32).alias("group_size"),
            pl.lit(", ".join(map(str, group))).alias("ranks"),
            pl.lit(None, pl.Int64).alias("nbytes"),
            (pl.col("seq").cast(pl.Int64) + self.plan.first.get(rank, 0) * len(self.real[0][0].comm)).alias("seq"),
        )


def _at(name: str, values: Times) -> pl.Series:
    return pl.Series(name, values, pl.Int64)


_DEVICE: Final = pl.DataFrame(
    {
        "device": [0],
        "type": ["gpu"],
        "name": ["NVIDIA H200"],
        "uuid": [None],
        "memory_bytes": [150109880320],
        "memory_bytes_per_s": [4814304000000],
        "sm_count": [132],
        "compute_capability": ["9.0"],
        "sm_clock_hz": [1980000000],
    }
)
