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

from msgspec import UNSET

from ..kineto.columns import label
from ..kineto.document import Document
from ..kineto.events import CALL, SPELLING, Event, arguments, category_of
from .personal import Policy

_CATEGORIES: Final = (
    *("kernel", "gpu_memcpy", "gpu_memset"),
    *("user_annotation", "cpu_op", "cuda_sync", "overhead"),
)
"""What `kineto.read_kineto` reads, beside calls of the host."""

_ARGUMENTS: Final = (
    *("device", "context", "stream", "correlation", "bytes", "fromDevice", "toDevice"),
    *("graph node id", "grid", "block", "wait_on_cuda_event_id"),
    *("Group size", "In msg nelems", "Out msg nelems", "Sequence number", "Fwd thread id"),
)
"""Arguments of events that it reads: numbers, a grid and a block three of them."""

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

_OF_JOB: Final = ("rank", "world_size")
"""What torch says of the job."""

_HOST: Final = re.compile(r'"(?:host_?name|nodename)"\s{0,4}:\s{0,4}"([^"\\]{1,255})"')
_CHUNK: Final = 1 << 20
_LONGEST: Final = 600
"""Characters that are looked at twice, since a name may lie across two chunks."""


def scrub_kineto(src: Path, dst: Path, policy: Policy | None = None) -> None:
    """Write to `dst`, as plain JSON, what analysis needs of the uncompressed trace `src`.

    `policy` (by default a new one, of this machine) replaces what is personal in the names that stay. Names of processes and
    threads are left out. Raises `InputError` if `src` is not a torch.profiler trace.
    """
    document = Document(src, src)
    policy = Policy.of_this_machine() if policy is None else policy
    learn_kineto(src, policy)
    with dst.open("w", encoding="utf-8") as out:
        out.write('{"traceEvents":[')
        comma = ""
        for batch in document.batches():
            for event in filter(_read, batch):
                out.write(comma + json.dumps(_event(event, policy), allow_nan=False, separators=(",", ":")))
                comma = ","
        rest = document.rest
        devices = rest.get("deviceProperties")
        known = [_device(d) for d in devices if isinstance(d, dict)] if isinstance(devices, list) else []
        kept = {**{k: rest[k] for k in _NUMBERS if _number(rest.get(k))}, "deviceProperties": known}
        if isinstance(job := rest.get("distributedInfo"), dict):
            kept["distributedInfo"] = {k: job[k] for k in _OF_JOB if _number(job.get(k))}
        out.write("]," + json.dumps(kept, allow_nan=False, separators=(",", ":"))[1:])


def learn_kineto(src: Path, policy: Policy) -> None:
    """Users and the host from anywhere in the file, before the first name is written: torch puts the host's name last."""
    rest = ""
    with src.open(encoding="utf-8", errors="replace") as content:
        while chunk := content.read(_CHUNK):
            text = rest + chunk
            policy.learn(text)
            for found in _HOST.finditer(text):
                policy.learn_variable("hostname", found[1])
            rest = chunk[-_LONGEST:]


def _read(event: Event) -> bool:
    category = category_of(event)
    return (
        event.ph == "X" and category is not None and (category in _CATEGORIES or CALL.fullmatch(category) is not None)
    )


def _event(event: Event, policy: Policy) -> dict[str, Any]:
    args = {
        SPELLING[field]: value for field in SPELLING if (value := getattr(arguments(event), field)) not in (None, UNSET)
    }
    kept = {k: v for k, v in args.items() if k in _ARGUMENTS and _numbers(v)}
    kept |= {k: policy.name(v) for k in _MARKS if isinstance(v := args.get(k), str)}
    kept |= {k: v for k, p in _WORDS.items() if isinstance(v := args.get(k), str) and re.fullmatch(p, v)}
    times = {k: v for k in ("pid", "tid", "ts", "dur") if _number(v := getattr(event, k))}
    return {"ph": "X", "cat": event.cat, "name": policy.name(label(event.name)), **times, "args": kept}


def _device(properties: dict[str, Any]) -> dict[str, Any]:
    name = properties.get("name")
    named = {"name": name} if isinstance(name, str) else {}
    return {**{k: properties[k] for k in _DEVICE_NUMBERS if _number(properties.get(k))}, **named}


def _numbers(value: Any) -> bool:
    """Whether `value` is a number, or the three of a grid or block."""
    return all(map(_number, value)) and len(value) == 3 if isinstance(value, list) else _number(value)


def _number(value: Any) -> bool:
    """Whether `value` is a number, or a decimal that stayed text."""
    if isinstance(value, str):
        return value.lstrip("-").replace(".", "", 1).isdecimal() and value.isascii()
    return isinstance(value, int) and not isinstance(value, bool)
