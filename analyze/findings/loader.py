"""What waiting for a loader costs at most, and how many workers could keep up.

With W workers that make a batch in L each, and a loop that needs C for the rest of an iteration:

    L/W <= C   the loop never waits          L/W > C   it waits, and W batches come almost at once:

    worker 1  |------ L ------|------ L ------|
    worker 2  |------ L ------|------ L ------|
    loop       wait           |C|C| wait      |C|C|
"""

from __future__ import annotations

import math
from typing import Final

import polars as pl

from ...traces.phases import PHASES
from ..words import duration
from .finding import Device

LOAD: Final = r"(^|/)load$"
"""The phase in which one batch is made, by a worker or by the loop itself (``capture/phases.py``)."""


def always_ready(device: Device, waiting_ns: int) -> str:
    """What is gained at most if no batch is ever waited for, after a semicolon: the window without the `waiting_ns` of it. The
    rest is assumed to take as long as it did.

    Where the trace says how long a batch takes to make, also how many workers could keep up with the loop, if each has a core.
    """
    rest = device.window_ns - waiting_ns
    if waiting_ns <= 0 or rest <= 0:
        return ""
    analysis = device.analysis
    count = device.iterations
    ratio = device.window_ns / rest
    said = f"; if they were always ready and the rest took as long as here, {device.unit} would be at most {ratio:.2f}x as fast"
    made = analysis.stages.filter(pl.col("path").str.contains(LOAD)).unique("path")
    batches = int(made["instances"].sum())
    if not count or not batches or analysis.choices.domain != PHASES:
        return said
    batch, left = int(made["host_ns"].sum()) / batches, rest / count
    needed = math.ceil(batch / left)
    workers = "one worker" if needed == 1 else f"{needed:,} workers"
    in_workers = not made["path"].str.contains("/").any()  # ranges of other processes have no parents in the loop
    if needed == 1 and in_workers:
        return (
            f"{said}. Workers make the batches already, in {duration(batch)} each, and the rest of an iteration takes "
            f"{duration(left)}, so one on a core of its own could keep up; the wait has another cause: busy cores, batches "
            "that arrive in bursts, or handing them over"
        )
    return (
        f"{said}. A batch takes {duration(batch)} to make, the rest of an iteration {duration(left)}: N workers make N batches "
        f"in that time at best, each on a core of its own, so {workers} could keep up"
    )
