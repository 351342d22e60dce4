"""The operations of each stream of each device, as columns; equal ones share a class.

A class is (name, kind, stage, source, destination); an operation has a class, a step from the end of the one before, a
duration, its bytes where any of its class has some, and the call that launched it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ....analyze.attribution.attribute import Attributed
from ....analyze.attribution.lanes import Lane, lanes_of
from ....analyze.attribution.launches import grouped_rows
from ....analyze.attribution.window_ops import kind_codes
from ....analyze.intervals import Ints
from ....traces.model import KINDS
from .columns import Columns, by_class, steps_between, zigzag
from .names import Names
from .sums import Grid, by_priority, sums_of

MOST_STREAMS: Final = 24
"""Stream lanes of one trace; the operations of the others share one lane for each device."""


@dataclass(frozen=True, slots=True)
class Made:
    """Stream lanes as the page reads them, and the table of classes."""

    lanes: list[dict[str, Any]]
    classes: dict[str, Any]


def stream_lanes(
    a: Attributed, columns: Columns, names: Names, paths: Ints, call_number: Ints, grid: Grid | None, zero_ns: int
) -> Made:
    """A lane for each stream. `paths` are the numbers of each op's stage path, `call_number` is the number that the call of each
    op has on the page, or -1."""
    ops = a.trace.ops
    start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    kind = kind_codes(ops).astype(np.int64)
    classes, which = _classes(ops, names, kind, paths)
    nbytes = ops["nbytes"].fill_null(-1).to_numpy()
    sized = np.zeros(len(classes), bool)
    sized[which[nbytes >= 0]] = True
    streams = lanes_of(a.ops)
    of, labels = _kept(streams.of, streams.known, end - start, a)
    order, bounds = grouped_rows(of, len(labels))
    lanes = []
    for i, (label, device) in enumerate(labels):
        rows = order[bounds[i] : bounds[i + 1]]  # in order of start, as the ops are
        lane: dict[str, Any] = {"label": label, "device": device, "items": len(rows)}
        lane["host"] = device in a.host_devices
        if grid is not None:
            parts = by_priority(kind[rows], start[rows], end[rows], len(KINDS))
            lane["summed"] = sums_of(columns, grid, parts, start[rows])
            rows = rows[grid.touches(start[rows], end[rows])]
        mine = which[rows]
        lane["step"] = columns.add(steps_between(start[rows] - zero_ns, end[rows] - zero_ns), signed=True)
        lane["length"] = columns.add(by_class(end[rows] - start[rows], mine))
        lane["class"] = columns.add(mine)
        lane["bytes"] = columns.add(nbytes[rows][sized[mine]] + 1)
        lane["call"] = columns.add(_launches(call_number[rows]))
        lanes.append(lane)
    columns_of = {name: columns.add(classes[:, i]) for i, name in enumerate(("name", "kind", "stage", "from", "to"))}
    return Made(lanes, columns_of | {"sized": columns.add(sized.astype(np.int64))})


def _classes(
    ops: pl.DataFrame, names: Names, kind: Ints, paths: Ints
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(one row a class: name, kind, stage, 1 + source and 1 + destination in `MEMORY_KINDS` or 0; the class of each op)."""
    name = names.kernels(ops["name"])
    parts = [name, kind, paths]
    for side in ("src_kind", "dst_kind"):
        parts.append(ops[side].to_physical().cast(pl.Int64).fill_null(-1).to_numpy() + 1)
    widths = [int(part.max(initial=0)) + 1 for part in parts]
    key = np.zeros(len(ops), np.int64)
    for part, width in zip(parts, widths, strict=True):
        key = key * width + part
    used, which = np.unique(key, return_inverse=True)
    table = np.empty((len(used), len(parts)), np.int64)
    for i in range(len(parts) - 1, -1, -1):
        table[:, i] = used % widths[i]
        used = used // widths[i]
    return table, which.reshape(-1)


def _kept(
    of: npt.NDArray[np.integer], known: Any, length: Ints, a: Attributed
) -> tuple[npt.NDArray[np.integer], list[tuple[str, int]]]:
    """(lane of each op, label and device of each lane): the busiest streams, in order, and one lane a device for the rest."""
    busy = np.zeros(len(known), np.int64)
    np.add.at(busy, of, length)
    kept = np.sort(np.argsort(-busy, kind="stable")[:MOST_STREAMS])
    rest = [i for i in range(len(known)) if i not in set(kept.tolist())]
    place = np.zeros(len(known), np.int64)
    labels: list[tuple[str, int]] = []
    for device in sorted({lane[0] for lane in known}):
        mine = [i for i in kept.tolist() if known[i][0] == device]
        for i in mine:
            place[i] = len(labels)
            labels.append((_label(known[i], known, a), device))
        others = [i for i in rest if known[i][0] == device]
        if others:
            place[others] = len(labels)
            labels.append((f"{device_word(a, device)} · {len(others)} more streams", device))
    return place[of] if len(of) else of, labels


def device_word(a: Attributed, device: int) -> str:
    """``GPU 0`` or ``host``."""
    return "host" if device in a.host_devices else f"GPU {device}"


def _label(lane: Lane, known: Any, a: Attributed) -> str:
    """``GPU 0 · stream 7``, with the process and the context where streams of several share the device."""
    device, pid, context, stream = lane
    word = device_word(a, device)
    parts = [word]
    if stream is not None:
        parts.append(f"{stream}" if word == "host" else f"stream {stream}")
    beside = [other for other in known if other[0] == device]
    if len({other[1] for other in beside}) > 1:
        parts.append(f"process {pid}")
    if len({other[2] for other in beside if other[1] == pid}) > 1:
        parts.append(f"context {context}")
    return " · ".join(parts)


def _launches(call: Ints) -> Ints:
    """0 where the launching call is not on the page, else 1 + the zigzag of its number less that of the launch before."""
    out = np.zeros(len(call), np.int64)
    known = np.flatnonzero(call >= 0)
    out[known] = zigzag(np.diff(np.r_[0, call[known]])) + 1
    return out
