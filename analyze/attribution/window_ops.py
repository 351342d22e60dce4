"""The ops inside the windows with everything known about each, as arrays: what the tables are computed from.

Rows are the ops of every device's window, cut to it, sorted by start. `path` is an index into the stage paths, or one of the
negative stage codes; `stages.path_names` says both as text. `in_trace` says where in the whole trace ops are (their
op_id), and there the uncut times and the launch are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.columns import gathered
from ..intervals import Ints
from .launches import grouped_rows
from .stages import Stages
from .window import Span

Rows = npt.NDArray[np.integer]

CUT: Final = "cut"
"""Column of ops that the window may cut: whether it did."""


@dataclass(frozen=True)
class WindowOps:
    """The ops in the windows; see the module. The arrays are columns of `table` or made of them."""

    table: pl.DataFrame
    spans: Sequence[Span]
    stages: Stages
    number: Rows | None  # where in the trace each op is; null: these are all of them
    device: npt.NDArray[np.int32]
    kind: npt.NDArray[np.int8]  # positions in `traces.model.KINDS`
    start: Ints
    end: Ints
    whole: npt.NDArray[np.bool_] | None  # which lie in their window whole; null: all
    path: npt.NDArray[np.int32]  # of each op's innermost stage, or a negative stage code
    iteration: Ints

    def in_trace(self, rows: Rows) -> Rows:
        """Where the ops `rows` are in the whole trace."""
        return rows if self.number is None else self.number[rows]

    def devices(self) -> Iterator[tuple[Span, Rows]]:
        """Each window with the rows of its ops."""
        yield from zip(self.spans, self._device_rows, strict=True)

    @cached_property
    def _device_rows(self) -> list[Rows]:
        return [np.flatnonzero(self.device == span.device).astype(np.int32) for span in self.spans]

    def used_devices(self) -> list[int]:
        """Every device that has a window or ops."""
        return sorted({*self.table["device"].unique().drop_nulls(), *(span.device for span in self.spans)})

    def of_device(self, device: int, *columns: str) -> pl.DataFrame:
        """The `columns` of all ops of a device at once: of several devices they have to be copied."""
        mine = self.device == device
        if mine.all():
            return self.table.select(columns)
        rows = np.flatnonzero(mine).astype(np.int32)
        del mine
        return pl.DataFrame([gathered(self.table[name], rows) for name in columns])

    def by_path(self, rows: Rows) -> Iterator[tuple[str, Rows]]:
        """`rows` by stage, each group in its own order; stages in order of their names."""
        found = dict(groups(self.path[rows]))
        for code in sorted(found, key=lambda c: self.stages.path_names[c]):
            yield self.stages.path_names[code], rows[found[code]]


def window_ops(ops: pl.DataFrame, spans: Sequence[Span], stages: Stages, iteration: Ints, *, cut: bool) -> WindowOps:
    """Those of all `ops` that lie in `spans`; unless they are `cut` to these, all of them. `iteration` is that of each op.

    Where anything can be cut a column ``cut`` says of which ops, and bytes are null of them: how many of its bytes a copy
    had moved by then is not known.
    """
    if cut:
        if "op_id" not in ops.columns:  # of a large trace row numbers are left out
            ops = ops.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("op_id"))
        frames = [_cut(ops, span) for span in spans] or [ops.clear().with_columns(pl.lit(False).alias(CUT))]
        ops = frames[0] if len(frames) == 1 else pl.concat(frames).sort("start_ns", "op_id")
    number = ops["op_id"].to_numpy() if cut else None
    return WindowOps(
        table=ops,
        spans=spans,
        stages=stages,
        number=number,
        device=ops["device"].to_numpy(),
        kind=kind_codes(ops),
        start=ops["start_ns"].to_numpy(),
        end=ops["end_ns"].to_numpy(),
        whole=~ops[CUT].to_numpy() if cut else None,
        path=stages.path_of_code(ops["stage"].to_numpy()),
        iteration=iteration if number is None else iteration[number],
    )


def _cut(ops: pl.DataFrame, span: Span) -> pl.DataFrame:
    start, end = pl.col("start_ns"), pl.col("end_ns")
    touching = (start < span.end_ns) & ((end > span.start_ns) | ((start == end) & (end >= span.start_ns)))
    cut = (start < span.start_ns) | (end > span.end_ns)
    return ops.filter((pl.col("device") == span.device) & touching).with_columns(
        start.clip(span.start_ns, span.end_ns),
        end.clip(span.start_ns, span.end_ns),
        pl.when(~cut).then(pl.col("nbytes")).alias("nbytes"),
        cut.alias(CUT),
    )


def kind_codes(ops: pl.DataFrame) -> npt.NDArray[np.int8]:
    """The kind of each op as a position in `KINDS`."""
    return np.asarray(ops["kind"].to_physical().to_numpy().astype(np.int8))


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
