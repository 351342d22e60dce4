"""How much work each kind did in its window, and how long that took: what rates are made of.

Kernels are told by their full name (a trace keeps no grids), copies and memsets by their kind alone. Whole graph launches stand
beside the kernels they replace. Like everything in a window, operations count with the part that lies inside; so do their bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from ...traces.model import COPY_KINDS, Trace
from .sides import COMPUTE, GRAPH

MOVING: Final = (*COPY_KINDS, "memset")
"""The kinds whose work is bytes."""

Operation = tuple[int, str, str]
"""(device position, kind with graphs counted as compute, name; ``""`` where the kind alone says what is done)."""


@dataclass(frozen=True, slots=True)
class Amount:
    """`ops` operations that took `ns` in sum; `nbytes` is null where one of them did not say."""

    ops: int
    ns: int
    nbytes: int | None = None

    def __add__(self, other: Amount) -> Amount:
        nbytes = None if self.nbytes is None or other.nbytes is None else self.nbytes + other.nbytes
        return Amount(self.ops + other.ops, self.ns + other.ns, nbytes)


Amounts = Mapping[Operation, Amount]


def amounts(trace: Trace, windows: pl.DataFrame) -> Amounts:
    """What `trace` did inside `windows` (table ``windows``, one a device). Of a copy that the window cuts, the bytes are taken
    in proportion to its time inside."""
    hosts = trace.devices.filter(pl.col("type") == "host")["device"].to_list()
    out: dict[Operation, Amount] = {}
    start, end = pl.col("start_ns"), pl.col("end_ns")
    for position, (device, low, high) in enumerate(windows.iter_rows()):
        touching = (start < high) & ((end > low) | ((start == end) & (end >= low)))
        inside, whole = end.clip(low, high) - start.clip(low, high), end - start
        share = (pl.col("nbytes") * (inside / whole)).round().cast(pl.Int64, strict=False)  # no length, no share
        nbytes = pl.when(inside < whole).then(share).otherwise(pl.col("nbytes"))
        found = (
            trace.ops.lazy()
            .filter((pl.col("device") == device) & touching)
            .group_by("kind", "name")
            .agg(pl.len().alias("n"), inside.sum().alias("ns"), nbytes.sum(), nbytes.is_null().any().alias("unsaid"))
            .collect()
        )
        for kind, name, n, ns, moved, unsaid in found.iter_rows():
            # What a host device does is named by its stages, which differ as the program is cut into stages.
            told = "" if kind in MOVING or device in hosts else name or ""
            key = (position, COMPUTE if kind == GRAPH else kind, told)
            amount = Amount(n, ns, moved if kind in MOVING and not unsaid else None)
            out[key] = out[key] + amount if key in out else amount
    return out
