"""One colour for each thing that is drawn, the same in every figure of the page.

Device kinds take the Okabe-Ito palette (Okabe and Ito, "Color Universal Design", 2008), which stays distinct under the
common colour blindnesses; each was darkened or lightened until it has a contrast of about 3:1 on white and on
near-black, because a page is read on both. Idle causes are muted, so that work stands out from waiting.
"""

from __future__ import annotations

from typing import Final

from ...analyze.result import IDLE

KIND_COLOURS: Final = {
    "compute": "#2878b5",
    "graph": "#5c6bc0",
    "comm": "#9c5fb5",
    "h2d": "#d9822b",
    "d2h": "#1f9e78",
    "p2p": "#c4528a",
    "d2d": "#9a8b2f",
    "h2h": "#8d6e63",
    "memset": "#6d8a96",
    "migration": "#b5533c",
}

STAGE_COLOUR: Final = "#7d8ca3"
IDLE_COLOUR: Final = "#9aa0a6"

CAUSE_COLOURS: Final = {
    "graph_internal": "#a5adc9",
    "dependency": "#c9a9c0",
    "queued": "#b8b4a2",
    "launch_latency": "#c5cfa4",
    "launch_api": "#b5bd68",
    "lazy_load": "#8f9a4a",
    "copy_api": "#d8a978",
    "allocator": "#c8453b",
    "sync": "#cdb74a",
    "module_load": "#a08a58",
    "page_fault": "#c98f80",
    "graph_build": "#8d94b8",
    "profiler": "#c39bd3",
    "driver_overhead": "#a885b5",
    "earlier_launch": "#b0b98f",
    "other_api": "#a3a89c",
    "waiting": "#7f9fb0",
    "host_code": "#8a939b",
    "tail": "#c9ced2",
    "unknown": "#70757a",
}

VARIANT_COLOURS: Final = ("#8a939b", "#2878b5", "#1f9e78", "#d9822b", "#9c5fb5")
"""Baseline first: it is what the others are held against."""

MEANINGS: Final = {
    "compute": "kernels; on a CPU, stages that compute",
    "graph": "CUDA graph launches, recorded whole",
    "comm": "collectives",
    "h2d": "copies host to device",
    "d2h": "copies device to host",
    "p2p": "copies between devices",
    "d2d": "copies within a device",
    "h2h": "copies within the host",
    "memset": "memory set",
    "migration": "pages of unified memory that move on a fault; kernels wait for them",
    IDLE: "nothing to do",
    "graph_internal": "gap between nodes of one graph",
    "dependency": "waited for an event of another device or process",
    "queued": "launched in time, waited in its stream",
    "launch_latency": "from the end of the launching call to the start",
    "launch_api": "inside the launching call",
    "lazy_load": "a launch that loaded its module first",
    "copy_api": "inside a copying call",
    "allocator": "inside an allocator call",
    "sync": "host blocked in a synchronisation",
    "module_load": "host loading code",
    "page_fault": "host fetching pages of unified memory, one fault after the other",
    "graph_build": "host building a graph",
    "profiler": "the profiler's own cost",
    "driver_overhead": "the driver's own cost, as it reports it",
    "earlier_launch": "host busy launching other work",
    "other_api": "host in another CUDA call",
    "waiting": "the launching thread waited for another one",
    "host_code": "host in the program's own code",
    "tail": "after the last operation",
    "unknown": "the trace cannot say",
}


def colour(name: str) -> str:
    """The colour of a device kind, an idle cause, ``idle`` or a stage band (``stage h2d``, ``stage``)."""
    if name.startswith("stage"):
        return KIND_COLOURS.get(name.removeprefix("stage").strip(), STAGE_COLOUR)
    return KIND_COLOURS.get(name) or CAUSE_COLOURS.get(name) or IDLE_COLOUR


def rank(name: str) -> int:
    """Order in legends and stacks: device kinds by priority, then idle causes in their declared order, then others."""
    order = [*KIND_COLOURS, IDLE, *CAUSE_COLOURS]
    return order.index(name) if name in order else len(order)
