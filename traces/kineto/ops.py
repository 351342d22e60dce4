"""Kernels, copies and memsets of a Kineto trace: table ``ops``, and what they say of collectives and of graphs' nodes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from msgspec import UNSET

from ..kernel_names import collectives
from ..model import BLOCK_LIMITS, GRID_LIMITS, MOST_BYTES, MOST_CORRELATIONS, block_code, grid_code
from .columns import Rows, Words, below, bounded, integers, label, usable
from .comms import Collective, collective_of
from .events import Event, arguments
from .graphs import mark_of
from .processes import DeviceNumbers, launchers

CATEGORIES: Final = ("kernel", "gpu_memcpy", "gpu_memset")

# Kineto's words for a copy's direction and for memory: for NVIDIA's devices, for Intel's (M is the host's memory), for AMD's.
_COPIES: Final = {
    "HtoD": "h2d",
    "DtoH": "d2h",
    "DtoD": "d2d",
    "HtoH": "h2h",
    "PtoP": "p2p",
    "HtoA": "h2d",
    "AtoH": "d2h",
    "DtoA": "d2d",
    "AtoD": "d2d",
    "AtoA": "d2d",
    "M2D": "h2d",
    "D2M": "d2h",
    "D2D": "d2d",
    "M2M": "h2h",
    "HostToDevice": "h2d",
    "DeviceToHost": "d2h",
    "DeviceToDevice": "d2d",
    "HostToHost": "h2h",
}
_MEMORIES: Final = {
    "Pageable": "pageable",
    "Pinned": "pinned",
    "Device": "device",
    "Array": "array",
    "Managed": "managed",
    "Device Static": "device_static",
    "Managed Static": "managed_static",
}
_COPY: Final = re.compile(r"Memcpy (\w+)(?: \((.+?) -> (.+?)\))?|Copy(\w+?)(?:2D)?$|\w*MemoryCopy\((\w+)\)$")
_MEMSET: Final = re.compile(r"Memset(?: \((.+?)\))?")


class Ops:
    """What occupied a device, a batch at a time."""

    def __init__(self) -> None:
        self._words, self._labels = Words(), Words()
        self._rows = {category: Rows(self._columns) for category in CATEGORIES}
        self._collectives: list[tuple[str, int, Collective]] = []
        self.marks: dict[int, str] = {}
        """What a program said of the nodes of CUDA graphs, by node (`graphs`)."""

    def add(self, category: str, events: Sequence[Event]) -> None:
        """Append `events`, all of one of the `CATEGORIES`."""
        self._rows[category].add(events)
        if category != "kernel":
            return
        for event in events:
            if (found := mark_of(event)) is not None:
                self.marks.setdefault(*found)
        told = [event for event in events if isinstance(arguments(event).collective, str)]
        for event, device in zip(told, _stated_devices(told).to_list(), strict=True):
            if device is not None and (row := collective_of(event)) is not None:
                self._collectives.append((label(event.pid), device, row))

    def _columns(self, events: Sequence[Event]) -> dict[str, pl.Series]:
        args = [arguments(e) for e in events]
        return {
            "label": self._labels.numbers(label(e.pid) for e in events),
            "device": _stated_devices(events),
            "context": integers([a.context for a in args], 32),
            "stream": integers([a.stream for a in args]),
            "correlation": bounded(integers([a.correlation for a in args]), MOST_CORRELATIONS),
            "name": self._words.numbers(label(e.name) for e in events),
            "nbytes": bounded(integers([a.bytes for a in args]), MOST_BYTES),
            "src_device": integers([a.fromDevice for a in args], 32),
            "dst_device": integers([a.toDevice for a in args], 32),
            "graph_node": integers([a.graph_node_id or None for a in args]),
            "grid": pl.Series([_shape(a.grid, GRID_LIMITS, grid_code) for a in args], dtype=pl.Int64),
            "block": pl.Series([_shape(a.block, BLOCK_LIMITS, block_code) for a in args], dtype=pl.Int32),
        }

    def tables(
        self, calls: pl.DataFrame, pid: int, odd: Counter[str]
    ) -> tuple[pl.DataFrame, list[tuple[int, Collective]]]:
        """(table ``ops``, collectives with their device). `calls` and `pid` are those of `processes.launchers`."""
        parts = [self._rows[category].frame() for category in CATEGORIES]
        category = np.repeat(np.arange(len(CATEGORIES)), [part.height for part in parts])
        frame = pl.concat(parts).with_columns(pl.Series("category", category.astype(np.int8)))
        odd["ops_without_device"] += frame["device"].null_count()
        frame = frame.filter(pl.col("device").is_not_null())
        numbers = DeviceNumbers(self._labels.texts(), frame)
        frame = frame.with_columns(numbers.column("device"), numbers.column("src_device"), numbers.column("dst_device"))
        frame = self._named(usable(frame, "ops", odd), odd)
        frame = frame.with_columns(launchers(frame, calls, pid), pl.lit(None, pl.Int64).alias("graph_id"))
        told = [(numbers.of(where, device), row) for where, device, row in self._collectives]
        return frame.drop("label", "category"), told

    def _named(self, frame: pl.DataFrame, odd: Counter[str]) -> pl.DataFrame:
        """`frame` with kinds, memories and texts for the numbers of names; each distinct name is looked at once."""
        texts = self._words.texts()
        comm = collectives(texts)
        seen = frame.group_by("category", "name", maintain_order=True).len()
        rows = list[tuple[int, int, str, str | None, str | None, int]]()
        for category, number, count in seen.iter_rows():
            name = texts[number]
            moved = _move(CATEGORIES[category], name)
            if moved is None:
                rows.append((category, number, "comm" if name in comm else "compute", None, None, number))
                continue
            kind, source, target, known = moved
            odd["copies_of_unknown_kind"] += 0 if known else count
            plain = self._words.number(kind if kind == "memset" else f"memcpy {kind}")
            rows.append((category, number, kind, source, target, plain))
        schema = {
            "category": pl.Int8, "name": pl.Int32,
            "kind": pl.String, "src_kind": pl.String, "dst_kind": pl.String, "plain": pl.Int32,
        }  # fmt: skip
        looked_up = pl.DataFrame(rows, schema=schema, orient="row")
        frame = frame.join(looked_up, on=["category", "name"], how="left", maintain_order="left")
        return frame.drop("name", "plain").with_columns(self._words.column(frame["plain"].alias("name")))


def _stated_devices(events: Sequence[Event]) -> pl.Series:
    """The device of each operation: its own word, else the process that Kineto files it under; null if neither is one."""
    said = [arguments(e).device for e in events]
    devices = integers([e.pid if word is UNSET else word for e, word in zip(events, said, strict=True)], 32)
    return devices.set((devices < 0).fill_null(False), None)


def _shape(sides: Any, limits: Sequence[int], code: Callable[..., int]) -> int | None:
    """A kernel's grid or block in one integer; null where it is not three numbers that a GPU launches."""
    if not isinstance(sides, list) or len(sides) != len(limits):
        return None
    known = [below(side, most + 1) for side, most in zip(sides, limits, strict=True)]
    return code(*known) if all(known) else None


def _move(category: str, name: str) -> tuple[str, str | None, str | None, bool] | None:
    """(kind, source memory, target memory, whether the name says the kind) of a copy or memset; null for a kernel."""
    if category == "gpu_memset":
        to = _MEMSET.match(name)
        return "memset", None, _MEMORIES.get(to[1] or "") if to else None, True
    if category == "gpu_memcpy":
        copy = _COPY.match(name)
        kind = _COPIES.get(copy[1] or copy[4] or copy[5]) if copy else None
        memories = (_MEMORIES.get(copy[2] or ""), _MEMORIES.get(copy[3] or "")) if copy else (None, None)
        return kind or _kind_by_memory(*memories), *memories, kind is not None
    return None


def _kind_by_memory(source: str | None, target: str | None) -> str:
    """The direction of a copy whose name does not say it: between devices unless it names the host's memory."""
    return {(True, True): "h2h", (True, False): "h2d", (False, True): "d2h"}.get(
        (source in _HOST, target in _HOST), "d2d"
    )


_HOST: Final = ("pageable", "pinned")
