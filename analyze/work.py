"""The ops of an analysis with everything known about each, as arrays: what the detail tables are computed from.

Rows are the ops inside the windows, cut to them, sorted by start. `path` is an index into the stage paths, or one of the
negative stage codes; `names` says both as text. `row` is the op's position in the whole trace (its op_id), where the uncut
times and the launch are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..traces.model import Trace
from .intervals import Ints
from .launches import Calls, Launches
from .stages import Stages, Thread

Rows = npt.NDArray[np.intp]

LANE: Final = ("device", "pid", "context", "stream")
"""What makes a stream."""

Lane = tuple[int, int | None, int | None, int | None]

_TABLE: Final = 2**22
"""Entries up to which a table of all conceivable streams is made."""


@dataclass(frozen=True, slots=True)
class Span:
    """The window of one device; `owner` is the thread of its range, if it has one."""

    device: int
    start_ns: int
    end_ns: int
    owner: Thread | None


@dataclass(frozen=True)
class Work:
    """The ops in the windows; see the module. `all_iterations` holds one number for each op of the trace."""

    trace: Trace
    ops: pl.DataFrame
    spans: Sequence[Span]
    stages: Stages
    names: Mapping[int, str]
    calls: Calls
    launches: Launches
    all_iterations: Ints
    host_devices: frozenset[int]
    lane: npt.NDArray[np.integer]  # the stream of every op of the trace, as a position in `lanes`
    lanes: Sequence[Lane]  # (device, pid, context, stream) of each

    @cached_property
    def row(self) -> Ints:
        """Each op's position in the whole trace."""
        return self.ops["op_id"].to_numpy()

    @cached_property
    def device(self) -> npt.NDArray[np.int32]:
        return self.ops["device"].to_numpy()

    @cached_property
    def kind(self) -> npt.NDArray[np.uint8]:
        """Positions in `traces.model.KINDS`."""
        return self.ops["kind"].to_physical().to_numpy().astype(np.uint8)

    @cached_property
    def start(self) -> Ints:
        return self.ops["start_ns"].to_numpy()

    @cached_property
    def end(self) -> Ints:
        return self.ops["end_ns"].to_numpy()

    @cached_property
    def path(self) -> npt.NDArray[np.int32]:
        """The path of each op's innermost stage, or a negative stage code."""
        stage = self.ops["stage"].to_numpy()
        if len(self.stages) == 0:
            return stage.astype(np.int32)
        return np.where(stage >= 0, self.stages.path_id[np.maximum(stage, 0)], stage).astype(np.int32)

    @cached_property
    def iteration(self) -> Ints:
        return self.all_iterations[self.row]

    def devices(self) -> Iterator[tuple[Span, Rows]]:
        """Each window with the rows of its ops."""
        for span in self.spans:
            yield span, np.flatnonzero(self.device == span.device)

    def by_path(self, rows: Rows) -> Iterator[tuple[str, Rows]]:
        """`rows` by stage, each group in its own order; stages in order of their names."""
        found = dict(groups(self.path[rows]))
        for code in sorted(found, key=lambda c: self.names[c]):
            yield self.names[code], rows[found[code]]


def lanes_of(ops: pl.DataFrame) -> tuple[npt.NDArray[np.integer], list[Lane]]:
    """A number for each op's stream, and what each number stands for."""
    known = ops.select(LANE).unique().sort(LANE, nulls_last=False)
    if len(known) <= 1:
        return np.zeros(len(ops), np.int8), known.rows()
    # Every column becomes a digit of one small number, and that number the row's place in a table: no join over all ops.
    digits, size = [], 1
    for name in LANE:
        values = known[name].drop_nulls().unique().sort()
        if len(values) < 2 and not known[name].null_count():
            continue
        low = int(values.min() or 0) - 1  # type: ignore[arg-type]
        width = int(values.max() or 0) - low + 1  # type: ignore[arg-type]
        digits.append((name, low, width))
        size *= width
    if size > _TABLE:
        numbered = known.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("lane"))
        found = ops.select(LANE).join(numbered, on=LANE, how="left", nulls_equal=True, maintain_order="left")
        return found["lane"].to_numpy(), known.rows()
    place = _places(known, digits)
    table = np.zeros(size, np.int32)
    table[place] = np.arange(len(known))
    return table[_places(ops, digits)], known.rows()


def _places(ops: pl.DataFrame, digits: list[tuple[str, int, int]]) -> npt.NDArray[np.int32]:
    out = np.zeros(len(ops), np.int32)
    for name, low, width in digits:
        out *= width
        out += (ops[name].fill_null(low) - low).cast(pl.Int32).to_numpy()
    return out


def groups(code: npt.NDArray[np.integer]) -> Iterator[tuple[int, Rows]]:
    """(value, positions in ascending order) for each distinct value of `code`, ascending. Values lie close together."""
    if len(code) == 0:
        return
    low, high = int(code.min()), int(code.max())
    if low == high:
        yield low, np.arange(len(code))
        return
    small = (code - low).astype(np.uint16) if high - low < 2**16 else code - low  # 16 bits are sorted by radix
    order = np.argsort(small, kind="stable")
    bounds = np.searchsorted(small[order], np.arange(high - low + 2))
    for i in np.flatnonzero(np.diff(bounds)).tolist():
        yield low + i, order[bounds[i] : bounds[i + 1]]
