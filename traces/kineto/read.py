"""Read a torch.profiler (Kineto) JSON trace into the trace model.

Times are decimal microseconds in the file and exact nanoseconds here. Annotations of a program become ranges; so do operators,
modules and Python functions, in domains of their own (`operators`). The GPU's projections of annotations do not.

Ranges written by our `stage()` are told from others by their prefix (`STAGE_PREFIX`) or by the side file
(``stages.json``), which also has what torch does not export, their kind and bytes. They get domain "aisp"; every other
annotation belongs to the default domain "".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
from msgspec import UNSET

from ..kernel_names import call_name
from ..model import MOST_CORRELATIONS, Meta, Trace, make_trace
from ..phases import PHASE_KINDS, PHASES
from ..stages_file import StageFacts, read_stages
from ..unpack import decompressed
from .columns import Rows, Words, bounded, integer, integers, label, process_ids, thread_ids, usable
from .comms import comm_rows
from .document import Document
from .events import CALL, Event, arguments, category_of
from .facts import read_devices, read_names
from .graphs import MARKS, marked_nodes
from .memory import HOST_MEMORY, Memory
from .operators import operator_ranges
from .ops import CATEGORIES, Ops
from .processes import main_process

STAGE_PREFIX: Final = "aisp::"
"""How the torch recorder names its ranges; torch's fast ranges are exported among the operators."""
PHASE_PREFIX: Final = "aisp.phase::"
"""How it names phases, which have a domain of their own and the kinds that they always have (``stage_domain.py``)."""
_DRIVER_OVERHEAD: Final = ("Command Buffer Full", "Lazy Function Loading", "Runtime Triggered Module Loading")


def read_kineto(path: Path, kind_file: Path | None = None, named: Path | None = None) -> Trace:
    """The trace in `path` (``.json`` or ``.json.gz``), called `named` in errors; `kind_file` is the recorder's side file.

    Events without a duration are dropped and counted in ``Trace.meta.anomalies``. Raises `InputError` if `path` is
    missing or no Kineto trace, or if `kind_file` is given and is not a side file.
    """
    facts = None if kind_file is None else read_stages(kind_file)
    with decompressed(path) as plain:
        document = Document(plain, named or path)
        held = _Held()
        for batch in document.batches():
            held.add(batch)
    odd = document.odd
    calls = pl.concat([rows.frame() for rows in held.calls.values()])
    pid = main_process(
        [calls["pid"], held.ranges["user_annotation"].frame()["pid"], held.ranges["cpu_op"].frame()["pid"]]
    )
    calls = calls.with_columns(pl.col("pid").fill_null(pid))
    ops, told = held.ops.tables(calls, pid, odd)
    tables = {
        "ops": ops,
        "api": _api(calls, held.call_names, odd),
        "syncs": _syncs(held.syncs.frame(), pid, odd),
        "overhead": _overhead(held.overhead.frame(), held.overhead_names, pid, odd),
    }
    ranges = _all_ranges(held, pid, facts, odd)
    starts = [frame["start_ns"].min() for frame in (ops, tables["api"], ranges)]
    first = min((start for start in starts if isinstance(start, int)), default=None)
    if held.ops.marks and first is not None and ops["pid"].drop_nulls().unique().to_list() == [pid]:
        marks, tables["graph_nodes"] = marked_nodes(held.ops.marks, pid, first)
        ranges = pl.concat([ranges, _mark_ranges(marks, pid, held.range_names, ranges)])
    tables["ranges"] = ranges.with_columns(held.range_names.column(ranges["name"]))
    if (comms := comm_rows(told)) is not None:
        tables["comms"] = comms
    if (memory := held.memory.table(pid, first)) is not None:
        tables["memory"] = memory
    seen = ops.get_column("device").drop_nulls().unique().to_list()
    tables["devices"] = read_devices(document.rest.get("deviceProperties"), seen)
    tables["processes"], tables["threads"] = read_names(held.named, pid, tables)
    rest = document.rest
    meta = Meta(
        file=path.name,
        recorder="torch",
        recorder_version=label(rest.get("torch_version", "unknown")),
        export_schema=None if rest.get("schemaVersion") is None else label(rest["schemaVersion"]),
        tables=tuple(sorted(held.counts)),
        capture=_settings(rest),
        anomalies={k: v for k, v in sorted(odd.items()) if v},
        unread={
            **{k: v for k, v in sorted(held.counts.items()) if k not in _READ and not CALL.fullmatch(k)},
            **dict(sorted(held.phases.items())),
            **({HOST_MEMORY: held.memory.of_host} if held.memory.of_host else {}),
        },
    )
    return make_trace(meta, **tables)


_ARROWS: Final = frozenset("stf")
"""Phases of the arrows between events (Trace Event Format): correlation ids say the same. Any other phase that is none of the
branches below is not read, and named: asynchronous events, counters, samples, objects."""


class _Held:
    """What is kept of the events while they pass."""

    def __init__(self) -> None:
        self.ops, self.memory = Ops(), Memory()
        self.call_names, self.range_names, self.overhead_names = Words(), Words(), Words()
        self.calls = {category: Rows(self._call_columns) for category in ("cuda_runtime", "cuda_driver")}
        self.ranges = {category: Rows(self._range_columns) for category in _RANGES}
        self.syncs = Rows(_sync_columns)
        self.overhead = Rows(self._overhead_columns)
        self.named: list[Event] = []
        self.counts: Counter[str] = Counter()
        self.phases: Counter[str] = Counter()

    def add(self, events: Sequence[Event]) -> None:
        """Keep what is read of a batch of events."""
        instants = list[Event]()
        groups: dict[str, list[Event]] = {}
        for event in events:
            phase = event.ph
            if phase == "X":
                if (category := category_of(event)) is not None:
                    groups.setdefault(category, []).append(event)
            elif phase == "i":
                instants.append(event)
            elif phase == "M":
                self.named.append(event)
            elif not isinstance(phase, str) or len(phase) != 1:
                self.phases["phase of more than a letter"] += 1
            elif phase not in _ARROWS:
                self.phases[f"phase {label(phase)}"] += 1
        self.memory.add(instants)
        for category, some in groups.items():
            self.counts[category] += len(some)
            if category in CATEGORIES:
                self.ops.add(category, some)
            elif (rows := self._rows(category)) is not None:
                rows.add(some)

    def _rows(self, category: str) -> Rows | None:
        if category in self.ranges:
            return self.ranges[category]
        if CALL.fullmatch(category):
            return self.calls.setdefault(category, Rows(self._call_columns))
        return {"cuda_sync": self.syncs, "overhead": self.overhead}.get(category)

    def _call_columns(self, events: Sequence[Event]) -> dict[str, pl.Series]:
        return {
            "pid": process_ids(events),
            "tid": thread_ids(events),
            "correlation": bounded(integers([arguments(e).correlation for e in events]), MOST_CORRELATIONS),
            "name": self.call_names.numbers(label(e.name) for e in events),
        }

    def _range_columns(self, events: Sequence[Event]) -> dict[str, pl.Series]:
        args = [arguments(e) for e in events]
        return {
            "pid": process_ids(events),
            "tid": thread_ids(events),
            "raw_tid": integers([e.tid for e in events]),
            "name": self.range_names.numbers(label(e.name) for e in events),
            "sequence": integers([a.sequence for a in args]),
            "forward": integers([a.forward_thread for a in args]),
        }

    def _overhead_columns(self, events: Sequence[Event]) -> dict[str, pl.Series]:
        return {"tid": thread_ids(events), "name": self.overhead_names.numbers(label(e.name) for e in events)}


_RANGES: Final = ("user_annotation", "cpu_op", "python_function")


_READ: Final = frozenset(
    [
        *(*CATEGORIES, *_RANGES, "cuda_sync", "overhead", "cpu_instant_event"),
        *("gpu_user_annotation", "Trace", "fwdbwd", "ac2g", "async_cpu_to_gpu"),
    ]
)
"""Categories that are read, and those that only repeat what others say: projections, flows and the profiler's own span."""

_SETTINGS: Final = ("cuda_driver_version", "cuda_runtime_version", "cupti_version", "profile_memory", "with_stack")
_RANK: Final = ("rank", "world_size")


def _settings(document: dict[str, Any]) -> dict[str, str]:
    """What the document says of its recording: versions, what was recorded, of which rank, and on which clock.

    ``base_time_ns`` (1970 at 0) plus a time of the trace is the time of day: what joins files of several ranks.
    """
    found = {k: str(document[k]) for k in _SETTINGS if isinstance(document.get(k), int)}
    distributed = document.get("distributedInfo")
    if isinstance(distributed, dict):
        found |= {k: str(n) for k in _RANK if (n := integer(distributed.get(k), 32)) is not None}
    base = integer(document.get("baseTimeNanoseconds"))
    return found if base is None else found | {"base_time_ns": str(base)}


def _mark_ranges(marks: list[tuple[int, str]], pid: int, words: Words, ranges: pl.DataFrame) -> pl.DataFrame:
    """Rows for `ranges` of 1 ns each, in which the nodes of CUDA graphs that torch marked were captured."""
    own = (ranges["domain"] == "aisp").any()
    frame = pl.DataFrame(
        {
            "start_ns": [start for start, _ in marks],
            "end_ns": [start + 1 for start, _ in marks],
            "pid": [pid] * len(marks),
            "tid": [MARKS] * len(marks),
            "name": [words.number(name) for _, name in marks],
            "domain": ["aisp" if own else ""] * len(marks),
        },
        schema_overrides={"pid": pl.Int32, "tid": pl.Int32, "name": pl.Int32},
    )
    return _plain(frame).select(ranges.columns)


def _plain(ranges: pl.DataFrame) -> pl.DataFrame:
    """`ranges` with what those of our recorder alone may have otherwise: category, bytes, style, and who ended them."""
    return ranges.with_columns(
        pl.col("tid").alias("end_tid"),
        pl.lit("").alias("category"),
        pl.lit(None, pl.Int64).alias("nbytes"),
        pl.lit("push_pop").alias("style"),
    )


def _api(calls: pl.DataFrame, words: Words, odd: Counter[str]) -> pl.DataFrame:
    calls = usable(calls, "api", odd)
    names = words.renamed(calls["name"], call_name)
    return calls.with_columns(words.column(names), result=pl.lit(0))  # Kineto does not export what a call returned


def _all_ranges(held: _Held, pid: int, facts: StageFacts | None, odd: Counter[str]) -> pl.DataFrame:
    """Annotations, the operators that are our recorder's ranges (`STAGE_PREFIX`), and in domains of their own all else that is
    open for a while on a thread of the host (`operators`). Names are numbers of ``held.range_names``."""
    words = held.range_names
    annotations, operators, functions = (
        usable(held.ranges[category].frame(), "ranges", odd).with_columns(pl.col("pid").fill_null(pid))
        for category in _RANGES
    )
    ours, phases = (
        pl.Series([name.startswith(prefix) for name in words.texts()], dtype=pl.Boolean).gather(operators["name"])
        for prefix in (STAGE_PREFIX, PHASE_PREFIX)
    )
    stages = _ranges(pl.concat([annotations, operators.filter(ours)]), words, facts, odd)
    if phases.any():
        stages = pl.concat([stages, _phases(_ranges(operators.filter(phases), words, None, odd), words)])
    others = operators.filter(~(ours | phases))
    if not others.height and not functions.height:
        return stages
    more = _plain(operator_ranges(others, functions, words))
    return pl.concat([stages, more.select(stages.columns)])


def _phases(ranges: pl.DataFrame, words: Words) -> pl.DataFrame:
    """`ranges` of phases, in their domain and with their kinds."""
    names = words.renamed(ranges["name"], lambda name: name.removeprefix(PHASE_PREFIX))
    texts = words.texts()
    kinds = pl.Series("category", [PHASE_KINDS.get(texts[number], "") for number in names.to_list()], dtype=pl.String)
    return ranges.with_columns(names, kinds, pl.lit(PHASES).alias("domain"))


def _ranges(frame: pl.DataFrame, words: Words, facts: StageFacts | None, odd: Counter[str]) -> pl.DataFrame:
    is_ours = pl.Series([name.startswith(STAGE_PREFIX) for name in words.texts()], dtype=pl.Boolean)
    ours = is_ours.gather(frame["name"])
    names = words.renamed(frame["name"], lambda name: name.removeprefix(STAGE_PREFIX))
    frame = frame.with_columns(names, ours=ours).sort("start_ns", maintain_order=True)
    found: Sequence[Any] = [None] * frame.height
    if facts is not None:
        texts = words.texts()
        rows = zip(frame["name"].to_list(), frame["raw_tid"].to_list(), strict=True)
        found = facts.match([(texts[number], tid) for number, tid in rows], odd)
    columns = [
        pl.Series(
            "domain",
            ["aisp" if f is not None or mine else "" for f, mine in zip(found, frame["ours"], strict=True)],
            dtype=pl.String,
        ),
        pl.Series("category", ["" if f is None else f.kind or "" for f in found], dtype=pl.String),
        pl.Series("nbytes", [None if f is None else f.nbytes for f in found], dtype=pl.Int64),
        pl.repeat("push_pop", frame.height, eager=True).alias("style"),
    ]
    return frame.with_columns(pl.col("tid").alias("end_tid"), *columns).drop("raw_tid", "ours", "sequence", "forward")


def _sync_columns(events: Sequence[Event]) -> dict[str, pl.Series]:
    args = [arguments(e) for e in events]
    return {
        "device": integers([None if a.device is UNSET else a.device for a in args], 32),
        "stream": integers([a.stream for a in args]),
        "correlation": bounded(integers([a.correlation for a in args]), MOST_CORRELATIONS),
        "event_id": integers([a.wait_on_cuda_event_id for a in args]),
    }


def _syncs(frame: pl.DataFrame, pid: int, odd: Counter[str]) -> pl.DataFrame:
    # Kineto writes -1 or 2**32 - 1 where a wait concerns no stream or event in particular.
    none = [
        pl.when((pl.col(c) >= 0) & (pl.col(c) != 0xFFFFFFFF)).then(pl.col(c)).alias(c) for c in ("stream", "event_id")
    ]
    more = {"context": pl.lit(None, pl.Int32), "event_sync_id": pl.lit(None, pl.Int64)}
    return usable(frame.with_columns(none, pid=pl.lit(pid, pl.Int32), **more), "syncs", odd)


def _overhead(frame: pl.DataFrame, words: Words, pid: int, odd: Counter[str]) -> pl.DataFrame:
    frame = usable(frame, "overhead", odd)
    driver = pl.Series([name in _DRIVER_OVERHEAD for name in words.texts()], dtype=pl.Boolean).gather(frame["name"])
    source = pl.Series("source", ["driver" if one else "profiler" for one in driver], dtype=pl.String)
    tid = pl.when(pl.col("tid") != 0).then(pl.col("tid"))
    return frame.with_columns(words.column(frame["name"]), source, tid.alias("tid"), pid=pl.lit(pid, pl.Int32))
