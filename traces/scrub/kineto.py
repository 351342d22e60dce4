"""A copy of a torch.profiler trace that says nothing of the machine, the user or the environment it came from.

torch writes the host's name, the path of the file, and, with stacks or shapes, source files and arguments. As for nsys
exports (`scrub`), what is not listed here is left out: times and numbers of known events, names that analysis shows, and
device properties.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from ..kineto.columns import arguments
from ..kineto.document import load

_CATEGORIES: Final = (
    *("kernel", "gpu_memcpy", "gpu_memset", "cuda_runtime", "cuda_driver"),
    *("user_annotation", "cpu_op", "cuda_sync", "overhead"),
)
"""What `kineto.read_kineto` reads."""

_ARGUMENTS: Final = (
    *("device", "context", "stream", "correlation", "bytes", "fromDevice", "toDevice"),
    *("graph node id", "grid", "wait_on_cuda_event_id"),
    *("Group size", "In msg nelems", "Out msg nelems", "Sequence number", "Fwd thread id"),
)
"""Arguments of events that it reads: numbers, a grid three of them."""

_MARKS: Final = ("annotation", "name")
"""Arguments that are names, as those of ranges are."""

_WORDS: Final = {
    "Collective name": r"[a-zA-Z_]{1,40}",
    "dtype": r"[A-Za-z0-9_]{1,24}",
    "Process Group Ranks": r"[\d, \[\]]{1,4000}",
}
"""Arguments that are words of torch's own, or lists of numbers, and what these look like. A group's name may be anyone's."""

_DEVICE_NUMBERS: Final = ("id", "totalGlobalMem", "numSms", "computeMajor", "computeMinor")
_NUMBERS: Final = (
    *("schemaVersion", "cuda_driver_version", "cuda_runtime_version", "cupti_version"),
    *("profile_memory", "with_stack"),
)


def scrub_kineto(src: Path, dst: Path) -> None:
    """Write to `dst`, as plain JSON, what analysis needs of the uncompressed trace `src`.

    Names of processes and threads are left out. Raises `InputError` if `src` is no torch.profiler trace.
    """
    document, _ = load(src, src)
    devices = document.get("deviceProperties")
    kept = {
        **{k: document[k] for k in _NUMBERS if _number(document.get(k))},
        "deviceProperties": [_device(d) for d in devices if isinstance(d, dict)] if isinstance(devices, list) else [],
        "traceEvents": [_event(e) for e in document["traceEvents"] if _read(e)],
    }
    dst.write_text(json.dumps(kept, allow_nan=False, separators=(",", ":")), encoding="utf-8")


def _read(event: Any) -> bool:
    return isinstance(event, dict) and event.get("ph") == "X" and event.get("cat") in _CATEGORIES


def _event(event: dict[str, Any]) -> dict[str, Any]:
    args = arguments(event)
    kept = {k: v for k, v in args.items() if k in _ARGUMENTS and _numbers(v)}
    kept |= {k: v for k in _MARKS if isinstance(v := args.get(k), str)}
    kept |= {k: v for k, p in _WORDS.items() if isinstance(v := args.get(k), str) and re.fullmatch(p, v)}
    times = {k: event[k] for k in ("pid", "tid", "ts", "dur") if _number(event.get(k))}
    return {"ph": "X", "cat": event["cat"], "name": str(event.get("name", "")), **times, "args": kept}


def _device(properties: dict[str, Any]) -> dict[str, Any]:
    name = properties.get("name")
    named = {"name": name} if isinstance(name, str) else {}
    return {**{k: properties[k] for k in _DEVICE_NUMBERS if _number(properties.get(k))}, **named}


def _numbers(value: Any) -> bool:
    """Whether `value` is a number, or the three of a grid."""
    return all(map(_number, value)) and len(value) == 3 if isinstance(value, list) else _number(value)


def _number(value: Any) -> bool:
    """Whether `value` is a number, or a decimal that stayed text."""
    if isinstance(value, str):
        return value.lstrip("-").replace(".", "", 1).isdecimal() and value.isascii()
    return isinstance(value, int) and not isinstance(value, bool)
