"""When a device has done the work of the steady iterations, where the host ran ahead of it.

    host    |step 1|step 2|step 3|                    launches, and waits for nothing
    device     |----0----|----1----|----2----|----3----|
    ranges  ^--------------------^
    window  ^------------------------------^          as much work as steps 1 to 3 launched

The ranges of a host that runs ahead end before the work that they launched, so a window that ended with them would count the
work of fewer iterations than it names. It ends where the device has done as much work since its start as the iterations
launched, and then not within an op. Where the device is as far behind at the start as at the end, the ranges' end stands.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from ..intervals import Ints

LEAST_LACKING: Final = 0.05
"""Of the work that the iterations launched, what may lie after their end: that much is as iterations overlap anyway."""


def caught_up(ops: pl.DataFrame, mine: Ints, window: tuple[int, int]) -> int:
    """The end of the window, ns: of `window`, or later. `mine`: the rows of `ops` that the iterations launched."""
    low, high = window
    start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    launched = int((end[mine] - start[mine]).sum())
    lacking = launched - int(np.maximum(np.minimum(end, high) - np.maximum(start, low), 0).sum())
    later = end > high
    if lacking <= LEAST_LACKING * launched or not later.any():
        return high
    begins, ends = np.maximum(start[later], high), end[later]
    at = np.unique(np.concatenate((begins, ends)))
    running = np.searchsorted(np.sort(begins), at[:-1], "right") - np.searchsorted(np.sort(ends), at[:-1], "right")
    done = np.cumsum(running * np.diff(at))
    enough = min(int(np.searchsorted(done, lacking)), len(done) - 1)
    return int(ends[ends >= at[enough + 1]].min())
