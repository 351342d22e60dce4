"""The document of a torch.profiler trace as its events: damaged, bare or half-open lists and begin/end pairs made whole.

`export_chrome_trace` writes ``{"traceEvents": [...], ...}`` with complete events (phase X). Other tools of the Chrome format
write the bare list, and each event as a pair of phases B and E.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

from ..documents import TORCH, parse_torch, read_bytes
from ..errors import InputError
from .columns import arguments, nanoseconds

_JAX: Final = re.compile(r"/(?:device|host):")
"""How JAX and TensorFlow name the processes of a trace: ``/device:GPU:0``, ``/host:CPU``."""


def load(file: Path, named: Path) -> tuple[dict[str, Any], Counter[str]]:
    """The document in the uncompressed `file`, with a list ``traceEvents`` of complete events and others, and counts of the
    events that were mended, paired, or could not be read.

    Raises `InputError`, which calls the file `named`, for a document that has no events or belongs to another profiler.
    """
    document, odd = parse_torch(read_bytes(file, TORCH), str(named))
    if isinstance(document, list) and any(isinstance(event, dict) and "ph" in event for event in document):
        document = {"traceEvents": document}
    events = document.get("traceEvents") if isinstance(document, dict) else None
    if not isinstance(events, list):
        raise InputError(
            f"{named} was to be read as a torch.profiler trace, but this JSON has no list `traceEvents`; "
            "give the file that `export_chrome_trace` wrote"
        )
    if _is_jax(events):
        raise InputError(
            f"{named} was to be read as a torch.profiler trace, but it is one of JAX or TensorFlow, which are not read here; "
            "record the program with `nsys profile --trace=cuda,nvtx` instead"
        )
    return document | {"traceEvents": _paired(events, odd)}, odd


def _is_jax(events: list[Any]) -> bool:
    """Whether processes are called as XLA's profiler calls them, and no complete event has a category, as all of torch's do."""
    known = [event for event in events if isinstance(event, dict)]
    if any(event.get("ph") == "X" and "cat" in event for event in known):
        return False
    names = (arguments(e).get("name") for e in known if e.get("ph") == "M" and e.get("name") == "process_name")
    return any(_JAX.match(str(name)) for name in names)


def _paired(events: list[Any], odd: Counter[str]) -> list[Any]:
    """`events` with one complete event for each pair of a begin and an end; these nest by process and thread."""
    marks = [e for e in events if _is_mark(e)]
    if not marks:
        return events
    out = [e for e in events if not _is_mark(e)]
    times = nanoseconds([e.get("ts") for e in marks])
    odd["events_without_time"] += times.null_count()
    timed = [(time, e) for time, e in zip(times, marks, strict=True) if time is not None]
    lanes: dict[tuple[str, str], list[tuple[int, dict[str, Any]]]] = {}
    for time, event in sorted(timed, key=lambda one: one[0]):
        lane = lanes.setdefault((str(event.get("pid")), str(event.get("tid"))), [])
        if event["ph"] == "B":
            lane.append((time, event))
        elif lane:
            start, begun = lane.pop(_ended_by(event, [e for _, e in lane]))
            microseconds, rest = divmod(time - start, 1000)
            args = {**arguments(begun), **arguments(event)}
            out.append({**begun, "ph": "X", "dur": f"{microseconds}.{rest:03d}", "args": args})
        else:
            odd["events_never_begun"] += 1
    odd["events_never_ended"] += sum(map(len, lanes.values()))
    return out


def _is_mark(event: Any) -> bool:
    return isinstance(event, dict) and event.get("ph") in ("B", "E")


def _ended_by(end: dict[str, Any], lane: list[dict[str, Any]]) -> int:
    """Which of the open events `end` belongs to: the innermost of its name, if it has one, else the innermost."""
    same = [i for i, begun in enumerate(lane) if begun.get("name") == end.get("name", begun.get("name"))]
    return same[-1] if same else len(lane) - 1
