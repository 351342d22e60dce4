"""Whose work the pages of unified memory are that the driver moves: no call launches them, but somebody caused each.

    kernel      |-----####-----####---|      # migrations inside a kernel: it faulted, and waits; they are of its launch
    host        |--- sum ---|                  the host reads: each page that lies on the device is fetched
    device          #  #  #  #                 of the thread that launched last, in the stage it has open meanwhile

What somebody asked for (cudaMemPrefetchAsync) is of the last such call before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.model import COPY_KINDS, KINDS, Trace, distinct_values
from ..intervals import Ints
from .calls import PREFETCHES
from .steps import NOTHING, innermost

MIGRATION: Final = KINDS.index("migration")
_PREFETCH: Final = "prefetch "
_BETWEEN: Final = frozenset({"migration p2p", "eviction p2p"})
"""How `traces.nsys.ops` names them, and pages that move between GPUs because somebody touches them."""

RUNS: Final = np.array([kind in ("compute", "graph", "comm") for kind in KINDS])
"""The kinds that wait for pages."""

_COPIES: Final = np.array([kind in COPY_KINDS for kind in KINDS])


def caused(
    trace: Trace, call: Ints, thread: npt.NDArray[np.integer], call_thread: Ints, host: Ints
) -> tuple[Ints, npt.NDArray[np.integer]]:
    """`call` and `thread` of all ops with those that caused migrations filled in.

    `call_thread` is the thread of each call of the trace, `host` says which ops ran on a host.
    """
    prefetched = any(word.startswith(_PREFETCH) for word in distinct_values(trace.ops["name"]))
    between = _rows_of_words(trace.ops["name"], _BETWEEN.__contains__)
    if not prefetched and not between.any() and not (trace.ops["kind"] == KINDS[MIGRATION]).any():
        return call, thread
    kind = trace.ops["kind"].to_physical().to_numpy()
    start, end = trace.ops["start_ns"].to_numpy(), trace.ops["end_ns"].to_numpy()
    pid, device = trace.ops["pid"].fill_null(NOTHING).to_numpy(), trace.ops["device"].to_numpy()
    moved = (call == NOTHING) & ~host & (pid != NOTHING) & ((kind == MIGRATION) | between | _asked_for(trace, kind))
    call, thread = call.copy(), thread.copy()
    api_pid, api_start = trace.api["pid"].to_numpy(), trace.api["start_ns"].to_numpy()
    prefetches = _rows_of_words(trace.api["name"], lambda word: PREFETCHES.match(word) is not None)
    for process in np.unique(pid[moved]).tolist():
        rows = np.flatnonzero(moved & (pid == process))
        launched = np.flatnonzero((call != NOTHING) & (pid == process))
        if len(launched):
            earlier = np.maximum(np.searchsorted(start[launched], start[rows], side="right") - 1, 0)
            thread[rows] = thread[launched[earlier]]
        asked = np.flatnonzero(prefetches & (api_pid == process))
        touched = (kind[rows] == MIGRATION) | between[rows]
        copies = rows[~touched]
        last = np.searchsorted(api_start[asked], start[copies], side="right") - 1
        copies, last = copies[last >= 0], last[last >= 0]
        call[copies] = asked[last]
        thread[copies] = call_thread[asked[last]]
        pages = rows[touched]
        for number in np.unique(device[pages]).tolist():
            mine = pages[device[pages] == number]
            kernels = launched[(device[launched] == number) & RUNS[kind[launched]] & (end[launched] > start[launched])]
            kernels = kernels[np.lexsort((-end[kernels], start[kernels]))]
            inside = innermost(start[kernels], end[kernels])(start[mine])
            faulting, mine = kernels[inside[inside >= 0]], mine[inside >= 0]
            call[mine], thread[mine] = call[faulting], thread[faulting]
    return call, thread


def _asked_for(trace: Trace, kind: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Which ops are prefetches of unified memory."""
    return np.asarray(_rows_of_words(trace.ops["name"], lambda word: word.startswith(_PREFETCH)) & _COPIES[kind])


def _rows_of_words(column: pl.Series, chosen: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
    """Which rows of a dictionary-encoded column have one of the `chosen` values."""
    words = [*distinct_values(column), ""]  # the last stands for null
    table = np.array([chosen(word) for word in words])
    return np.asarray(table[column.to_physical().fill_null(len(words) - 1).to_numpy()])
