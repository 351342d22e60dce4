"""One trace as the page's timeline reads it: names, classes, lanes, causes of gaps, and sums where it is too large."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ....analyze.comparison.mechanisms import FAMILIES, FAMILY_OF
from ....analyze.intervals import Ints
from ....analyze.result import CAUSES, Analysis
from ....analyze.steady import limit
from ....traces.model import KINDS, MEMORY_KINDS, STAGE_KINDS, Trace
from ...again import attributed_as
from ...palette import MEANINGS
from .columns import Columns
from .host import CALL_CLASSES, host_lanes
from .idle import device_lanes
from .names import Names
from .streams import stream_lanes
from .sums import choose_grid, iteration_rows

MOST_OPS: Final = 3_000_000
"""Operations that a page holds one by one, of all its traces together: about 4.5 bytes each. Beyond it, see `sums`."""

MOST_CALLS: Final = 300_000
"""Host calls that a page holds one by one: about 4 bytes each. Beyond it they are summed in the same way."""

CALL_FAMILIES: Final = {
    "allocator": "allocator",
    "sync": "sync",
    "copy_api": "copy_api",
    "module_load": "loading",
    "graph_build": "graph",
    "launch": "launch",
    "poll": "sync",
    "kernel_query": "host",
    "other": "host",
    "os": "host",
    "os_wait": "waiting",
}
"""Calls take the colour of the idle time that they cause (`FAMILIES`)."""


def side_payload(name: str, key: str, trace: Trace, analysis: Analysis, most_ops: int, most_calls: int) -> str | None:
    """Everything about one trace, as text (`columns`); null where it holds neither operations nor ranges nor calls."""
    limits = _limits(trace)
    if limits is None:
        return None
    zero = analysis.first_op_ns if analysis.first_op_ns is not None else limits[0]
    a = attributed_as(analysis, trace)
    columns, names = Columns(), Names()
    start, end = trace.ops["start_ns"].to_numpy(), trace.ops["end_ns"].to_numpy()
    grid = choose_grid(analysis, start, end, limits, most_ops)
    calls = choose_grid(analysis, a.calls.start_ns, a.calls.end_ns, limits, most_calls)
    host = host_lanes(a, columns, names, calls, zero)
    special = {code: word for code, word in a.stages.path_names.items() if code < 0}
    paths = names.of_codes(a.stages.path_of_code(a.ops["stage"].to_numpy()), a.stages.paths, special)
    call = a.launches.call
    number = np.where(call >= 0, np.append(host.call_number, -1)[call], -1)
    streams = stream_lanes(a, columns, names, paths, number, grid, zero)
    devices = device_lanes(a, analysis, columns, names, grid, zero)
    header = {
        "name": name,
        "trace": key,
        "zero": analysis.first_op_ns is not None,
        "span": [limits[0] - zero, limits[1] - zero],
        "iterations": _iterations(analysis, columns, zero),
        "devices": devices,
        "streams": streams.lanes,
        "classes": streams.classes,
        "threads": host.threads,
        "notes": host.notes,
        "grid": None if grid is None else grid.document(zero),
        "calls_grid": None if calls is None else calls.document(zero),
        "names": names.words,
        "short": names.short,
    }
    return columns.payload(header)


def vocabulary() -> dict[str, Any]:
    """What the numbers in a payload mean, for all sides."""
    return {
        "kinds": [[kind, MEANINGS.get(kind, "")] for kind in KINDS],
        "memory": list(MEMORY_KINDS),
        "stages": list(STAGE_KINDS),
        "causes": [[cause, FAMILY_OF[cause], MEANINGS.get(cause, "")] for cause in CAUSES],
        "families": list(FAMILIES),
        "calls": [[word, CALL_FAMILIES[word]] for word in CALL_CLASSES],
    }


def _limits(trace: Trace) -> tuple[int, int] | None:
    """The first and the last instant of what is drawn."""
    low, high = [], []
    for table in (trace.ops, trace.ranges, trace.api, trace.osrt):
        if table.height:
            low.append(table["start_ns"].min())
            high += [table["start_ns"].max(), table["end_ns"].max()]
    lows, highs = [v for v in low if isinstance(v, int)], [v for v in high if isinstance(v, int)]
    return (min(lows), max(*highs, min(lows) + 1)) if lows else None


def _iterations(analysis: Analysis, columns: Columns, zero: int) -> dict[str, Any]:
    rows, first, warm_up = iteration_rows(analysis)
    table: Ints = np.array(rows, np.int64).reshape(-1, 2)
    length = table[:, 1] - table[:, 0]
    steady = length[warm_up:]
    slow = np.flatnonzero((length > limit(steady)) & (np.arange(len(length)) >= warm_up)) if len(steady) else steady
    return {
        "start": columns.add(table[:, 0] - zero, signed=True),
        "length": columns.add(length),
        "first": first,
        "warm_up": warm_up,
        "slow": slow.tolist(),
    }
