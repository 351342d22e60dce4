"""What PyTorch's allocators gave out and took back (``profile_memory=True``), as table ``memory``.

One instant event ``[memory]`` a tensor's storage: positive bytes are given out, negative ones come back. These are blocks of
PyTorch's caching allocator; what that takes from the driver is another, larger amount, and is not recorded.
"""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from ..model import MOST_BYTES, SCHEMAS
from .columns import arguments, integer, nanoseconds, process_id

_CUDA: Final = (1, 20)
"""c10::DeviceType of CUDA (HIP calls itself so, too) and XPU; 0 is the host, whose memory is not looked at."""


def read_memory(events: list[Any], pid: int, before_ns: int | None) -> pl.DataFrame | None:
    """The table ``memory`` of the allocators of GPUs; null if nothing of them was recorded.

    What was in use before the first event of a device (its ``Total Allocated`` without its own bytes) is one allocation before
    `before_ns`, if anything else happened, and before all others.
    """
    found = [e for e in events if isinstance(e, dict) and e.get("ph") == "i" and e.get("name") == "[memory]"]
    rows: list[tuple[Any, ...]] = []
    before: dict[tuple[int, int], int] = {}
    for event, time in zip(found, nanoseconds([e.get("ts") for e in found]), strict=True):
        args = arguments(event)
        device, nbytes, address = integer(args.get("Device Id"), 32), integer(args.get("Bytes")), args.get("Addr")
        if time is None or device is None or device < 0 or not nbytes or integer(args.get("Device Type")) not in _CUDA:
            continue
        before.setdefault((process_id(event, pid), device), (integer(args.get("Total Allocated")) or 0) - nbytes)
        place = address if isinstance(address, int) and 0 <= address < 1 << 64 else None
        size = abs(nbytes) if abs(nbytes) < MOST_BYTES else None
        rows.append((process_id(event, pid), device, time, place, size, "device", nbytes < 0, None))
    if not rows:
        return None
    first = min([row[2] for row in rows] + ([] if before_ns is None else [before_ns]))
    held = [
        (process, device, first - 1, None, nbytes, "device", False, None)
        for (process, device), nbytes in before.items()
        if 0 < nbytes < MOST_BYTES
    ]
    return pl.DataFrame([*held, *rows], schema=pl.Schema(SCHEMAS["memory"]), orient="row")
