"""Read a torch.profiler (Kineto) JSON trace into the trace model.

Times are decimal microseconds in the file and exact nanoseconds here. Annotations of a program become ranges; so do operators,
modules and Python functions, in domains of their own (`operators`). The GPU's projections of annotations do not.

Ranges written by our `stage()` are told from others by their prefix (`STAGE_PREFIX`) or by the side file
(``stages.json``), which also has what torch does not export, their kind and bytes. They get domain "aisp"; every other
annotation belongs to the default domain "".
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

import polars as pl

from ..kernel_names import call_name, collectives
from ..model import GRID_LIMITS, MOST_BYTES, MOST_CORRELATIONS, Meta, Trace, grid_code, make_trace
from ..phases import PHASE_KINDS, PHASES
from ..stages_file import StageFacts, read_stages
from ..unpack import decompressed
from .columns import arguments, below, integer, process_id, text, thread_id, timed_frame, usable
from .comms import comm_rows
from .document import load
from .facts import read_devices, read_names
from .graphs import marked_nodes
from .memory import read_memory
from .operators import operator_ranges
from .processes import DeviceNumbers, launchers, main_process, stated_device

_OPS: Final = ("kernel", "gpu_memcpy", "gpu_memset")
_CALLS: Final = ("cuda_runtime", "cuda_driver", "xpu_runtime", "privateuse1_runtime", "privateuse1_driver")
_EARLIER: Final = {
    "Kernel": "kernel",
    "Memcpy": "gpu_memcpy",
    "Memset": "gpu_memset",
    "Runtime": "cuda_runtime",
    "Operator": "cpu_op",
}
"""What PyTorch before 1.12 called the categories."""

# Kineto's words for a copy's direction and for memory: for NVIDIA's devices, for Intel's (M is the host's memory), for AMD's.
_COPIES: Final = {
    "HtoD": "h2d",
    "DtoH": "d2h",
    "DtoD": "d2d",
    "HtoH": "h2h",
    "PtoP": "p2p",
    "HtoA": "h2d",
    "AtoH": "d2h",
    "DtoA": "d2d",
    "AtoD": "d2d",
    "AtoA": "d2d",
    "M2D": "h2d",
    "D2M": "d2h",
    "D2D": "d2d",
    "M2M": "h2h",
    "HostToDevice": "h2d",
    "DeviceToHost": "d2h",
    "DeviceToDevice": "d2d",
    "HostToHost": "h2h",
}
_MEMORIES: Final = {
    "Pageable": "pageable",
    "Pinned": "pinned",
    "Device": "device",
    "Array": "array",
    "Managed": "managed",
    "Device Static": "device_static",
    "Managed Static": "managed_static",
}
_COPY: Final = re.compile(r"Memcpy (\w+)(?: \((.+?) -> (.+?)\))?|Copy(\w+?)(?:2D)?$|\w*MemoryCopy\((\w+)\)$")
_MEMSET: Final = re.compile(r"Memset(?: \((.+?)\))?")
STAGE_PREFIX: Final = "aisp::"
"""How the torch recorder names its ranges; torch's fast ranges are exported among the operators."""
PHASE_PREFIX: Final = "aisp.phase::"
"""How it names phases, which have a domain of their own and the kinds that they always have (``stage_domain.py``)."""
_DRIVER_OVERHEAD: Final = ("Command Buffer Full", "Lazy Function Loading", "Runtime Triggered Module Loading")


def read_kineto(path: Path, kind_file: Path | None = None, named: Path | None = None) -> Trace:
    """The trace in `path` (``.json`` or ``.json.gz``), called `named` in errors; `kind_file` is the recorder's side file.

    Events without a duration are dropped and counted in ``Trace.meta.anomalies``. Raises `InputError` if `path` is
    missing or no Kineto trace, or if `kind_file` is given and is no side file.
    """
    with decompressed(path) as plain:
        document, odd = load(plain, named or path)
    events = [e for e in document["traceEvents"] if isinstance(e, dict) and e.get("ph") == "X"]
    by_category: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        word = event.get("cat")
        if isinstance(word, str):
            by_category.setdefault(_EARLIER.get(word, word), []).append(event)
    calls = [e for c in _CALLS for e in by_category.get(c, [])]
    pid = main_process([*calls, *by_category.get("user_annotation", []), *by_category.get("cpu_op", [])])
    facts = None if kind_file is None else read_stages(kind_file)
    worked = {c: by_category.get(c, []) for c in _OPS}
    numbers = DeviceNumbers([e for some in worked.values() for e in some if stated_device(e) is not None])
    tables = {
        "ops": _ops(worked, numbers, calls, pid, odd),
        "api": _api(calls, pid, odd),
        "ranges": _all_ranges(by_category, pid, facts, odd),
        "syncs": _syncs(by_category.get("cuda_sync", []), pid, odd),
        "overhead": _overhead(by_category.get("overhead", []), pid, odd),
    }
    starts = [tables[name]["start_ns"].min() for name in ("ops", "api", "ranges")]
    first = min((start for start in starts if isinstance(start, int)), default=None)
    if first is not None:
        _mark_nodes(tables, worked["kernel"], pid, first)
    stated = (e for e in worked["kernel"] if stated_device(e) is not None)
    if (comms := comm_rows(stated, lambda e: numbers.of(e, stated_device(e)) or 0)) is not None:
        tables["comms"] = comms
    if (memory := read_memory(document["traceEvents"], pid, first)) is not None:
        tables["memory"] = memory
    seen = tables["ops"].get_column("device").drop_nulls().unique().to_list()
    tables["devices"] = read_devices(document.get("deviceProperties"), seen)
    tables["processes"], tables["threads"] = read_names(document["traceEvents"], pid, tables)
    meta = Meta(
        file=path.name,
        recorder="torch",
        recorder_version=text(str(document.get("torch_version", "unknown"))),
        export_schema=None if document.get("schemaVersion") is None else text(str(document["schemaVersion"])),
        tables=tuple(sorted(map(text, by_category))),
        capture=_settings(document),
        anomalies={k: v for k, v in sorted(odd.items()) if v},
        unread={text(k): len(v) for k, v in sorted(by_category.items()) if k not in _READ},
    )
    return make_trace(meta, **tables)


_READ: Final = frozenset(
    [
        *(*_OPS, *_CALLS, "user_annotation", "cpu_op", "python_function", "cuda_sync", "overhead", "cpu_instant_event"),
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


def _mark_nodes(tables: dict[str, Any], kernels: list[dict[str, Any]], pid: int, first: int) -> None:
    """Add what torch's marks of CUDA graphs say to the `tables`, whose first time is `first`; not where several processes are in
    one file."""
    if tables["ops"]["pid"].drop_nulls().unique().to_list() != [pid]:
        return
    if (found := marked_nodes(kernels, pid, first)) is None:
        return
    ranges, own = tables["ranges"], (tables["ranges"]["domain"] == "aisp").any()
    marks = found[0].with_columns(pl.lit("aisp" if own else "").alias("domain"))
    tables["ranges"] = pl.concat([ranges, _plain(marks).select(ranges.columns)])
    tables["graph_nodes"] = found[1]


def _plain(ranges: pl.DataFrame) -> pl.DataFrame:
    """`ranges` with what those of our recorder alone may have otherwise: category, bytes, style, and who ended them."""
    return ranges.with_columns(
        pl.col("tid").alias("end_tid"),
        pl.lit("").alias("category"),
        pl.lit(None, pl.Int64).alias("nbytes"),
        pl.lit("push_pop").alias("style"),
    )


def _ops(
    by_category: dict[str, list[dict[str, Any]]],
    numbers: DeviceNumbers,
    calls: list[dict[str, Any]],
    pid: int,
    odd: Counter[str],
) -> Any:
    found = [(category, e) for category, events in by_category.items() for e in events]
    whole = [(category, e) for category, e in found if stated_device(e) is not None]
    odd["ops_without_device"] += len(found) - len(whole)
    events = [e for _, e in whole]
    devices = [numbers.of(e, stated_device(e)) or 0 for e in events]
    args = [arguments(e) for e in events]
    names = [str(e.get("name", "")) for e in events]
    moves = [_move(category, n, odd) for (category, _), n in zip(whole, names, strict=True)]
    comm = collectives(set(names))
    kinds = [m[0] if m else "comm" if n in comm else "compute" for n, m in zip(names, moves, strict=True)]
    plain = [n if k in ("compute", "comm") else _plain_name(k) for n, k in zip(names, kinds, strict=True)]
    frame = timed_frame(
        events,
        {
            "kind": kinds,
            "device": devices,
            "context": [a.get("context") for a in args],
            "stream": [a.get("stream") for a in args],
            "pid": launchers(events, devices, calls, pid),
            "correlation": [below(a.get("correlation"), MOST_CORRELATIONS) for a in args],
            "name": plain,
            "nbytes": [below(a.get("bytes"), MOST_BYTES) for a in args],
            "src_kind": [m[1] if m else None for m in moves],
            "dst_kind": [m[2] if m else None for m in moves],
            "src_device": [numbers.of(e, a.get("fromDevice")) for e, a in zip(events, args, strict=True)],
            "dst_device": [numbers.of(e, a.get("toDevice")) for e, a in zip(events, args, strict=True)],
            "graph_id": [None] * len(events),
            "graph_node": [a.get("graph node id") or None for a in args],
            "grid": [_grid(a.get("grid")) for a in args],
        },
    )
    return usable(frame, "ops", odd)


def _grid(sides: Any) -> int | None:
    """A kernel's grid in one integer; null where it is not three numbers of blocks that a GPU launches."""
    if not isinstance(sides, list) or len(sides) != len(GRID_LIMITS):
        return None
    known = [below(side, most + 1) for side, most in zip(sides, GRID_LIMITS, strict=True)]
    return grid_code(*known) if all(known) else None


def _move(category: str, name: str, odd: Counter[str]) -> tuple[str, str | None, str | None] | None:
    """(kind, source memory, target memory) that the name of a copy or memset tells; null for a kernel."""
    if category == "gpu_memset":
        to = _MEMSET.match(name)
        return "memset", None, _MEMORIES.get(to[1] or "") if to else None
    if category == "gpu_memcpy":
        copy = _COPY.match(name)
        kind = _COPIES.get(copy[1] or copy[4] or copy[5]) if copy else None
        odd["copies_of_unknown_kind"] += kind is None
        memories = (_MEMORIES.get(copy[2] or ""), _MEMORIES.get(copy[3] or "")) if copy else (None, None)
        return kind or _kind_by_memory(*memories), *memories
    return None


def _kind_by_memory(source: str | None, target: str | None) -> str:
    """The direction of a copy whose name does not say it: between devices unless it names the host's memory."""
    return {(True, True): "h2h", (True, False): "h2d", (False, True): "d2h"}.get(
        (source in _HOST, target in _HOST), "d2d"
    )


_HOST: Final = ("pageable", "pinned")


def _plain_name(kind: str) -> str:
    return kind if kind == "memset" else f"memcpy {kind}"


def _api(events: list[dict[str, Any]], pid: int, odd: Counter[str]) -> pl.DataFrame:
    names = {n: call_name(n) for n in {str(e.get("name", "")) for e in events}}
    frame = timed_frame(
        events,
        {
            "pid": [process_id(e, pid) for e in events],
            "tid": [thread_id(e) for e in events],
            "correlation": [below(arguments(e).get("correlation"), MOST_CORRELATIONS) for e in events],
            "name": [names[str(e.get("name", ""))] for e in events],
            "result": [0] * len(events),  # Kineto does not export what a call returned
        },
    )
    return usable(frame, "api", odd)


def _all_ranges(
    by_category: dict[str, list[dict[str, Any]]], pid: int, facts: StageFacts | None, odd: Counter[str]
) -> pl.DataFrame:
    """Annotations, the operators that are our recorder's ranges (`STAGE_PREFIX`), and in domains of their own all else that is
    open for a while on a thread of the host (`operators`)."""
    ours, phases, others = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
    for event in by_category.get("cpu_op", []):
        name = str(event.get("name", ""))
        (ours if name.startswith(STAGE_PREFIX) else phases if name.startswith(PHASE_PREFIX) else others).append(event)
    annotations = _ranges(by_category.get("user_annotation", []) + ours, pid, facts, odd)
    if phases:
        annotations = pl.concat([annotations, _phases(_ranges(phases, pid, None, odd))])
    functions = by_category.get("python_function", [])
    if not others and not functions:
        return annotations
    more = _plain(operator_ranges(others, functions, pid, odd))
    return pl.concat([annotations, more.select(annotations.columns)])


def _ranges(events: list[dict[str, Any]], pid: int, facts: StageFacts | None, odd: Counter[str]) -> pl.DataFrame:
    frame = timed_frame(
        events,
        {
            "pid": [process_id(e, pid) for e in events],
            "tid": [thread_id(e) for e in events],
            "raw_tid": [e.get("tid") for e in events],
            "name": [str(e.get("name", "")).removeprefix(STAGE_PREFIX) for e in events],
            "ours": [int(str(e.get("name", "")).startswith(STAGE_PREFIX)) for e in events],
        },
    )
    frame = usable(frame, "ranges", odd).sort("start_ns", maintain_order=True)
    found = [None] * frame.height if facts is None else facts.match(frame.select("name", "raw_tid").rows(), odd)
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
    return frame.with_columns(pl.col("tid").alias("end_tid"), *columns).drop("raw_tid", "ours")


def _phases(ranges: pl.DataFrame) -> pl.DataFrame:
    """`ranges` of phases, in their domain and with their kinds."""
    name = pl.col("name").str.strip_prefix(PHASE_PREFIX)
    kind = name.replace_strict(PHASE_KINDS, default="", return_dtype=pl.String)
    return ranges.with_columns(name, kind.alias("category"), pl.lit(PHASES).alias("domain"))


def _syncs(events: list[dict[str, Any]], pid: int, odd: Counter[str]) -> pl.DataFrame:
    args = [arguments(e) for e in events]
    frame = timed_frame(
        events,
        {
            "pid": [pid] * len(events),
            "device": [a.get("device") for a in args],
            "context": [None] * len(events),
            "stream": [a.get("stream") for a in args],
            "correlation": [below(a.get("correlation"), MOST_CORRELATIONS) for a in args],
            "event_id": [a.get("wait_on_cuda_event_id") for a in args],
            "event_sync_id": [None] * len(events),
        },
    )
    # Kineto writes -1 or 2**32 - 1 where a wait concerns no stream or event in particular.
    none = [
        pl.when((pl.col(c) >= 0) & (pl.col(c) != 0xFFFFFFFF)).then(pl.col(c)).alias(c) for c in ("stream", "event_id")
    ]
    return usable(frame.with_columns(none), "syncs", odd)


def _overhead(events: list[dict[str, Any]], pid: int, odd: Counter[str]) -> pl.DataFrame:
    names = [str(e.get("name", "")) for e in events]
    frame = timed_frame(
        events,
        {
            "pid": [pid] * len(events),
            "tid": [thread_id(e) or None for e in events],
            "source": ["driver" if n in _DRIVER_OVERHEAD else "profiler" for n in names],
            "name": names,
        },
    )
    return usable(frame, "overhead", odd)
