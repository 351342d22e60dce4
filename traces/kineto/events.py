"""One event of a torch.profiler trace, with the keys and arguments that are read here; the decoder skips all others.

Every value may be of any type, since traces come from many tools: `columns` takes what fits. Decimals stay text, so that
microseconds with three decimals stay exact.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import UNSET

_SPELLED: Final = {
    "graph_node_id": "graph node id",
    "collective": "Collective name",
    "group": "Process Group Name",
    "ranks": "Process Group Ranks",
    "group_size": "Group size",
    "elements_in": "In msg nelems",
    "elements_out": "Out msg nelems",
    "sequence": "Sequence number",
    "group_sequence": "Seq",
    "forward_thread": "Fwd thread id",
    "device_type": "Device Type",
    "device_id": "Device Id",
    "size": "Bytes",
    "address": "Addr",
    "total": "Total Allocated",
}
"""How torch spells an argument whose name here differs."""


class Arguments(msgspec.Struct, rename=_SPELLED, gc=False):
    """What an event says beside its name and times; null where it does not.

    A `device` of null is one that the event does not know; `UNSET` says that it does not speak of one.
    """

    name: Any = None
    device: Any = UNSET
    context: Any = None
    stream: Any = None
    correlation: Any = None
    bytes: Any = None
    grid: Any = None
    block: Any = None
    sequence: Any = None
    forward_thread: Any = None
    fromDevice: Any = None
    toDevice: Any = None
    graph_node_id: Any = None
    annotation: Any = None
    wait_on_cuda_event_id: Any = None
    collective: Any = None
    group: Any = None
    ranks: Any = None
    group_size: Any = None
    dtype: Any = None
    elements_in: Any = None
    elements_out: Any = None
    group_sequence: Any = None
    device_type: Any = None
    device_id: Any = None
    size: Any = None
    address: Any = None
    total: Any = None


class Event(msgspec.Struct, gc=False):
    """An event of any phase. `args` is `Arguments` or, in odd files, something that says nothing."""

    ph: Any = None
    cat: Any = None
    name: Any = None
    pid: Any = None
    tid: Any = None
    ts: Any = None
    dur: Any = None
    args: Arguments | str | int | float | list[Any] | None = None


NOTHING: Final = Arguments()

SPELLING: Final = {field: _SPELLED.get(field, field) for field in Arguments.__struct_fields__}
"""Each field of `Arguments` as the file spells it."""

decode_events: Final = msgspec.json.Decoder(list[Event], float_hook=str).decode
"""Events from the bytes of a JSON list; raises `msgspec.DecodeError` and `RecursionError`."""


CALL: Final = re.compile(r"[a-z0-9]+_(?:runtime|driver)")
"""Categories of calls of the host, whatever the device: of CUDA and HIP ``cuda_runtime`` and ``cuda_driver``, of Intel
``xpu_runtime`` and ``xpu_driver``, of MTIA ``mtia_runtime``, of further devices their own or ``privateuse1_runtime``."""

_EARLIER: Final = {
    "Kernel": "kernel",
    "Memcpy": "gpu_memcpy",
    "Memset": "gpu_memset",
    "Runtime": "cuda_runtime",
    "Operator": "cpu_op",
}
"""What PyTorch before 1.12 called the categories."""


def category_of(event: Event) -> str | None:
    """What an event is, in today's word for it; null where it does not say."""
    word = event.cat
    return _EARLIER.get(word, word) if type(word) is str else None


def event_of(value: dict[str, Any]) -> Event:
    """The event in a JSON object that was parsed otherwise, its decimals being text."""
    return msgspec.convert({k: v for k, v in value.items() if k != "args" or isinstance(v, dict)}, Event)


def arguments(event: Event) -> Arguments:
    """The arguments of an event; `NOTHING` where it has none."""
    args = event.args
    return args if type(args) is Arguments else NOTHING
