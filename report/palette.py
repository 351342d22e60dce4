"""One colour for each thing that is drawn, the same on the page, in a notebook and on a terminal.

Kinds of work are solid, families of idle time are hatched, so that waiting and work differ where no colour is seen. A family is
the causes with the same remedy (`mechanisms.FAMILIES`).

The colours were searched for by a program: of all 24, any two are at least `LEAST_APART` apart in CIEDE2000 (Sharma, Wu and
Dalal, 2005) for eyes without the green or the red cones (Machado, Oliveira and Fernandes, 2009, full severity), on light ground
and on dark. Such eyes see little more than light and dark, yellow and blue; 24 colours nearly fill what is left,
which is why some are not beautiful. `tests/test_palette.py` computes it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ..analyze.comparison.mechanisms import FAMILY_OF
from ..analyze.result import IDLE

LEAST_APART: Final = 12.0
"""CIEDE2000 between any two colours. One is what a trained eye can just see on large patches; bars are small, and far apart."""


class Colour(NamedTuple):
    """The same thing on light and on dark ground, as ``#rrggbb``."""

    light: str
    dark: str


KINDS: Final[Mapping[str, Colour]] = {
    "compute": Colour("#274a9b", "#2ba5eb"),
    "graph": Colour("#002b57", "#bbccff"),
    "comm": Colour("#ac66e2", "#7a48ae"),
    "h2d": Colour("#ef8d1c", "#b67100"),
    "d2h": Colour("#00441f", "#02a998"),
    "p2p": Colour("#ec73b5", "#e87498"),
    "d2d": Colour("#665800", "#5b5249"),
    "memset": Colour("#545853", "#f3ffe8"),
    "migration": Colour("#ae5e4e", "#9f5d42"),
    IDLE: Colour("#c9d1d1", "#626a75"),
}
"""In the order of legends and stacks. ``h2h`` looks like ``d2d``: both stay on their side of the link."""

CAUSES: Final[Mapping[str, Colour]] = {
    "host": Colour("#ecd17d", "#ffffb6"),
    "launch": Colour("#b4a672", "#ffdd54"),
    "sync": Colour("#ba6e00", "#c7af4c"),
    "waiting": Colour("#a4aaf4", "#5cd6c7"),
    "copy_api": Colour("#c2999b", "#a98f64"),
    "allocator": Colour("#a66d78", "#8771a6"),
    "loading": Colour("#181100", "#542c1b"),
    "page_faults": Colour("#392e34", "#794105"),
    "dependency": Colour("#6e6a8e", "#434a66"),
    "queued": Colour("#d4d0b2", "#67806f"),
    "graph": Colour("#255160", "#d0c19d"),
    "recorder": Colour("#302af8", "#3f1891"),
    "tail": Colour("#c4d9f9", "#3e343a"),
    "unknown": Colour("#000c1e", "#ffedff"),
}
"""By family of idle causes."""

INK: Final = Colour("#1b2127", "#e6eaee")
"""What is written on a figure."""

QUIET: Final = Colour("#8a939b", "#a2adb8")
"""Axes, and sides that are held against another."""

_SAME: Final = {"h2h": "d2d"}

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
"""Kinds of work, and causes of idle time."""


def is_idle(name: str) -> bool:
    """Whether `name` is a cause of idle time, and so hatched."""
    return name in FAMILY_OF


def colour(name: str) -> Colour:
    """The colour of a kind of work, or of the family of an idle cause; that of idle time for any other word."""
    if name in FAMILY_OF:
        return CAUSES[FAMILY_OF[name]]
    return KINDS.get(_SAME.get(name, name), KINDS[IDLE])


def custom_property(name: str) -> str:
    """The style sheet's name for `colour`: ``kind-h2d``, ``cause-host``."""
    if name in FAMILY_OF:
        return f"cause-{FAMILY_OF[name]}"
    kind = _SAME.get(name, name)
    return f"kind-{kind if kind in KINDS else IDLE}"


def css_fill(name: str) -> str:
    """The background of a swatch: plain for work, hatched for idle time."""
    of = f"var(--{custom_property(name)})"
    return f"repeating-linear-gradient(135deg,{of} 0 3px,var(--ground) 3px 4.5px)" if is_idle(name) else of


def css() -> tuple[str, str]:
    """Every colour as custom properties of a style sheet: on light ground, and on dark."""
    every = {f"kind-{name}": found for name, found in KINDS.items()}
    every |= {f"kind-{name}": KINDS[as_] for name, as_ in _SAME.items()}
    every |= {f"cause-{name}": found for name, found in CAUSES.items()}
    light = "".join(f"--{name}:{found.light};" for name, found in every.items())
    return light, "".join(f"--{name}:{found.dark};" for name, found in every.items())


def on_dark() -> dict[str, str]:
    """What each colour of a figure on light ground becomes on dark ground."""
    return {found.light: found.dark for found in (*KINDS.values(), *CAUSES.values(), INK, QUIET)}


def rank(name: str) -> int:
    """Order in legends and stacks: kinds of work in the order of `KINDS`, then idle causes by family, then others."""
    order = [*KINDS, "h2h", *FAMILY_OF]
    return order.index(name) if name in order else len(order)
