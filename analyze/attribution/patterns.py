"""Iterations of a trace without ranges, found by its kernels alone: what one device does again and again.

    ops of the busiest stream   a b c c c d  a b c c c d  a b c c c d ...
    `a` marks iterations        ^            ^            ^            every 6 ops

A modest method. An op *marks* iterations if it occurs at least `LEAST_REPEATS` times, with the same number of ops between one
occurrence and the next, a tenth more or less, in nine of ten. Marks that occur equally often are one level: the layers of a
model, the tokens that run through them, the steps of a training. The outermost level is taken whose own ops are more than an
accessory (`LEAST_OWN` of an iteration's ops or time: a loss printed every tenth step is none), that covers half of the time
from the first op to the last, and whose iterations do the same work, by the names of their ops. Of its marks the one that
the device idles longest before begins an iteration: programs wait between iterations, not in them.

An iteration lasts to the next mark. The last one, and one that something else follows (an evaluation between two steps), has
as many ops as the others and waits as long after them as these usually do; the rest lies between iterations. Where the trace
ends within the last one, that is left out.
Times are those of the device: no range gives host times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.errors import UsageError
from ...traces.model import KINDS, distinct_values
from ..intervals import Ints
from ..naming.kernels import short_name
from .folding import expression

LEAST_REPEATS: Final = 5
"""Iterations; of fewer their regularity says little. As for ranges."""

LEAST_OPS: Final = 3
"""Ops of an iteration; one kernel again and again is not an iteration of anything."""

UNEVEN: Final = 0.1
"""By this part the number of ops may differ from the usual: a cache grows by a block, a log line is written."""

REGULAR: Final = 0.9
"""Of all iterations are so regular, and do the same work."""

LEAST_COVER: Final = 0.5
"""Of the time from first to last op. As for ranges."""

LEAST_OWN: Final = 0.005
"""Of an iteration's ops, or of its time: what a level does that the level inside it does not. A decoder of 80 layers has some
1,000 kernels a token, five of which are the token's own; the head alone is more of its time."""

ALIKE: Final = 0.8
"""Of an iteration's ops are the usual ones."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Iterations on device `device`, each ``[start_ns[i], end_ns[i])``, marked by the op called `mark` (`ops` in each)."""

    device: int
    mark: str
    ops: int
    start_ns: Ints
    end_ns: Ints


@dataclass(frozen=True, slots=True)
class _Sequence:
    """The ops of one stream in order of start; `symbol` numbers their names, `idle` is the device's idle time before each."""

    device: int
    symbol: Ints
    names: list[str]
    start: Ints
    end: Ints
    idle: Ints


@dataclass(frozen=True, slots=True)
class _Level:
    """Marks (symbols) that occur as often as each other, give or take one."""

    count: int
    marks: tuple[int, ...]


def find_pattern(ops: pl.DataFrame, marked_by: str | None = None) -> Pattern | None:
    """The iterations in the ops of a trace (its table `ops`), or null if nothing repeats so.

    With `marked_by`, a regular expression, iterations begin at the ops whose name it matches, and nothing else is asked of
    them; raises `UsageError` where it matches fewer than two.
    """
    found = _busiest(ops)
    if found is None:
        return None
    if marked_by is not None:
        return _given(found, marked_by)
    count = np.bincount(found.symbol, minlength=len(found.names))
    for level in _levels(found, count):
        mark = max(level.marks, key=lambda one: (_idle_before(found, one), -int(np.argmax(found.symbol == one))))
        rows = np.flatnonzero(found.symbol == mark)
        if _is_iteration(found, level, rows):
            return _cut(found, rows)
    return None


def _busiest(ops: pl.DataFrame) -> _Sequence | None:
    """The stream with most ops of the device that works longest."""
    ops = ops.select("device", "stream", "kind", "name", "start_ns", "end_ns").filter(pl.col("stream").is_not_null())
    if len(ops) < LEAST_REPEATS * LEAST_OPS:
        return None
    busy = ops.group_by("device").agg((pl.col("end_ns") - pl.col("start_ns")).sum().alias("ns"))
    device = int(busy.sort(["ns", "device"], descending=[True, False])["device"][0])
    mine = ops.filter(pl.col("device") == device).sort("start_ns", maintain_order=True)
    latest = mine["end_ns"].cum_max().shift(1)
    mine = mine.with_columns((mine["start_ns"] - latest).clip(0).fill_null(0).alias("idle"))
    streams = mine.group_by("stream").len().sort(["len", "stream"], descending=[True, False])
    mine = mine.filter(pl.col("stream") == streams["stream"][0])
    words = distinct_values(mine["name"])
    unnamed = mine["kind"].to_physical().cast(pl.Int64) + len(words)
    symbol = mine["name"].to_physical().cast(pl.Int64).fill_null(unnamed).to_numpy()
    columns = (mine[name].to_numpy() for name in ("start_ns", "end_ns", "idle"))
    return _Sequence(device, symbol, [*words, *KINDS], *columns)


def _levels(found: _Sequence, count: Ints) -> Iterator[_Level]:
    """The levels of regular marks, the outermost (the fewest iterations) first."""
    order = np.argsort(found.symbol, kind="stable")
    bounds = np.r_[0, np.cumsum(count)]
    marks = [
        symbol
        for symbol in np.flatnonzero(count >= LEAST_REPEATS).tolist()
        if _regular(order[bounds[symbol] : bounds[symbol + 1]])
    ]
    marks.sort(key=lambda one: (count[one], one))
    while marks:
        least = int(count[marks[0]])
        level = tuple(one for one in marks if count[one] <= least + 1)
        yield _Level(least, level)
        marks = marks[len(level) :]


def _regular(rows: npt.NDArray[np.intp]) -> bool:
    """Whether nearly the same number of ops lies between each of `rows` and the next."""
    gaps = np.diff(rows)
    usual = float(np.median(gaps))
    near = np.abs(gaps - usual) <= max(1.0, UNEVEN * usual)
    return usual >= LEAST_OPS and bool(near.mean() >= REGULAR)


def _is_iteration(found: _Sequence, level: _Level, rows: npt.NDArray[np.intp]) -> bool:
    """Whether what begins at `rows` covers enough, has enough of its own, and does the same work again and again."""
    whole = int(found.end.max() - found.start[0])
    pattern = _cut(found, rows)
    if len(pattern.start_ns) < LEAST_REPEATS or int((pattern.end_ns - pattern.start_ns).sum()) < LEAST_COVER * whole:
        return False
    first, last = rows[0], rows[0] + pattern.ops * len(pattern.start_ns)
    inside = slice(int(first), int(min(last, len(found.symbol))))
    own = np.isin(found.symbol[inside], level.marks)
    took = (found.end - found.start)[inside] + found.idle[inside]
    enough = own.mean() >= LEAST_OWN or took[own].sum() >= LEAST_OWN * took.sum()
    return bool(enough) and _alike(found, rows)


def _alike(found: _Sequence, rows: npt.NDArray[np.intp]) -> bool:
    """Whether nearly all iterations have nearly the same ops, counted by name."""
    part = np.arange(rows[0], rows[-1])
    iteration = np.searchsorted(rows, part, side="right") - 1
    table = pl.DataFrame({"i": iteration, "s": found.symbol[part]}).group_by("i", "s").len("n")
    many = len(rows) - 1
    # a symbol is usual as often as it is in the middle iteration; absent from half of them, it is usually absent
    usual = (
        table.group_by("s")
        .agg(pl.col("n").sort(descending=True), pl.len().alias("in"))
        .filter(pl.col("in") > many // 2)
        .select("s", pl.col("n").list.get(many // 2).alias("usual"))
    )
    size = float(usual["usual"].sum())
    if not size:
        return False
    shared = (
        table.join(usual, on="s").group_by("i").agg(pl.min_horizontal("n", "usual").sum().alias("shared"))["shared"]
    )
    return int((shared >= ALIKE * size).sum()) >= REGULAR * many


def _idle_before(found: _Sequence, mark: int) -> float:
    return float(np.median(found.idle[found.symbol == mark]))


def _cut(found: _Sequence, rows: npt.NDArray[np.intp]) -> Pattern:
    """Iterations from each of `rows` to the next."""
    usual = int(np.median(np.diff(rows)))
    if len(found.symbol) - rows[-1] < (1 - UNEVEN) * usual:
        rows, after = rows[:-1], rows[1:]
    else:
        after = np.append(rows[1:], len(found.symbol))
    start, end = found.start[rows], np.append(found.start, np.iinfo(np.int64).max)[after]
    wait = int(np.median(found.idle[rows]))
    long = after - rows > usual + max(1.0, UNEVEN * usual)
    long[-1] |= after[-1] == len(found.symbol)
    for i in np.flatnonzero(long).tolist():
        end[i] = min(int(end[i]), int(found.end[rows[i] : rows[i] + usual].max()) + wait)
    return Pattern(found.device, short_name(found.names[int(found.symbol[rows[0]])]), usual, start, end)


def _given(found: _Sequence, marked_by: str) -> Pattern:
    regex = expression(marked_by, "--iterations")
    wanted = np.array([regex.search(name) is not None for name in found.names], bool)
    rows = np.flatnonzero(wanted[found.symbol])
    if len(rows) < 2:
        raise UsageError(
            f"--iterations {marked_by!r} matches no range, and {len(rows)} operations of the busiest stream; name a kernel "
            "that runs once in each iteration"
        )
    return _cut(found, rows)
