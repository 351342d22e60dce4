"""The ops of an analysis with everything known about each, as arrays: what the detail tables are computed from.

Rows are the ops inside the windows, cut to them, sorted by start. `path` is an index into the stage paths, or one of the
negative stage codes; `names` says both as text. `in_trace` says where in the whole trace ops are (their
op_id), and there the uncut times and the launch are found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.columns import SLICE
from ...traces.model import Trace
from ..intervals import Ints
from .launches import Calls, Launches, grouped_rows
from .stages import Stages, Thread

Rows = npt.NDArray[np.integer]

LANE: Final = ("device", "pid", "context", "stream")
"""What makes a stream."""

Lane = tuple[int, int | None, int | None, int | None]

CUT: Final = "cut"
"""Column of ops that the window may cut: whether it did."""

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

    def in_trace(self, rows: Rows) -> Rows:
        """Where the ops `rows` are in the whole trace."""
        if not self._numbered:
            return rows
        found: Rows = self.ops["op_id"].to_numpy()[rows]
        return found

    @property
    def _numbered(self) -> bool:
        """Whether `ops` say where in the trace they are; otherwise they are all of them."""
        return "op_id" in self.ops.columns

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
    def whole(self) -> npt.NDArray[np.bool_] | None:
        """Which ops lie in their window whole; null: all."""
        return ~self.ops[CUT].to_numpy() if CUT in self.ops.columns else None

    @cached_property
    def path(self) -> npt.NDArray[np.int32]:
        """The path of each op's innermost stage, or a negative stage code."""
        return self.stages.path_of_code(self.ops["stage"].to_numpy())

    @cached_property
    def iteration(self) -> Ints:
        return self.all_iterations[self.ops["op_id"].to_numpy()] if self._numbered else self.all_iterations

    def devices(self) -> Iterator[tuple[Span, Rows]]:
        """Each window with the rows of its ops."""
        yield from zip(self.spans, self._device_rows, strict=True)

    @cached_property
    def _device_rows(self) -> list[Rows]:
        return [np.flatnonzero(self.device == span.device).astype(np.int32) for span in self.spans]

    def by_path(self, rows: Rows) -> Iterator[tuple[str, Rows]]:
        """`rows` by stage, each group in its own order; stages in order of their names."""
        found = dict(groups(self.path[rows]))
        for code in sorted(found, key=lambda c: self.names[c]):
            yield self.names[code], rows[found[code]]


def lanes_of(ops: pl.DataFrame) -> tuple[npt.NDArray[np.integer], list[Lane]]:
    """A number for each op's stream, and what each number stands for, sorted (null first)."""
    digits = [_Digit.of(ops[name]) for name in LANE]
    size = math.prod(digit.width for digit in digits)
    if size > _TABLE:
        known = ops.select(LANE).unique().sort(LANE, nulls_last=False)
        numbered = known.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("lane"))
        found = ops.select(LANE).join(numbered, on=LANE, how="left", nulls_equal=True, maintain_order="left")
        return found["lane"].to_numpy(), known.rows()
    # Every column becomes a digit of one small number, and that number the row's place in a table: no hashing of all ops.
    place = np.empty(len(ops), np.int32)
    used = np.zeros(size, bool)
    for first in range(0, len(ops), SLICE):
        here = place[first : first + SLICE]
        here[:] = _places(ops.slice(first, SLICE), digits)
        used[here] = True
    codes = np.flatnonzero(used)
    number: npt.NDArray[np.integer] = np.zeros(size, np.int16 if len(codes) < 2**15 else np.int32)
    number[codes] = np.arange(len(codes))
    return number[place], list(zip(*_decoded(codes, digits), strict=True))


@dataclass(frozen=True, slots=True)
class _Digit:
    """How the values of one column become the numbers 0 to ``width - 1``: null is 0, where there are nulls."""

    name: str
    low: int
    width: int
    nullable: bool

    @staticmethod
    def of(column: pl.Series) -> _Digit:
        low, high = column.min(), column.max()
        if not isinstance(low, int) or not isinstance(high, int):  # nothing but nulls
            return _Digit(column.name, -1, 1, True)
        nullable = column.null_count() > 0
        return _Digit(column.name, low - nullable, high - low + 1 + nullable, nullable)


def _places(ops: pl.DataFrame, digits: Sequence[_Digit]) -> npt.NDArray[np.int32]:
    out = np.zeros(len(ops), np.int32)
    for digit in digits:
        if digit.width > 1:
            out *= digit.width
            out += (ops[digit.name].cast(pl.Int64).fill_null(digit.low) - digit.low).cast(pl.Int32).to_numpy()
    return out


def _decoded(codes: Ints, digits: Sequence[_Digit]) -> list[list[int | None]]:
    """The values that each column has at the places `codes`."""
    columns = []
    for digit in reversed(digits):
        value = (codes % digit.width + digit.low).tolist()
        columns.append([None if digit.nullable and v == digit.low else v for v in value])
        codes = codes // digit.width
    return columns[::-1]


def groups(code: npt.NDArray[np.integer]) -> Iterator[tuple[int, Rows]]:
    """(value, positions in ascending order) for each distinct value of `code`, ascending. Values lie close together."""
    if len(code) == 0:
        return
    low, high = int(code.min()), int(code.max())
    if low == high:
        yield low, np.arange(len(code), dtype=np.int32)
        return
    small: npt.NDArray[np.integer] = (code - low).astype(
        np.int16 if high - low < 2**15 else np.int32
    )  # numpy sorts 16 bits by radix
    order, bounds = grouped_rows(small, high - low + 1)
    for i in np.flatnonzero(np.diff(bounds)).tolist():
        yield low + i, order[bounds[i] : bounds[i + 1]]
