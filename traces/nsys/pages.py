"""Whole columns of integers straight from the pages of an SQLite file: several times as fast as asking SQLite for rows.

    page 1      file header, sqlite_schema          (asked of SQLite)
    interior    [child page, largest rowid in it] * n, last child
    leaf        [payload size, rowid, record] * n   record: header of one type code a column, then the values

This is for the plain case that recorders write: an ordinary table with consecutive rowids whose wanted cells are integers
or null and whose rows fit their page. For everything else (`compiled.STRANGE`: gaps, deleted rows, text or reals in a
number's place, overflow pages, short records, damage) the answer is null, and the caller asks SQLite. That is decided
for a whole table: no answer mixes the two. Tests compare both on every sample and on fuzzed files.

Pages are read with ``pread``, never mapped: a file that shrinks meanwhile is an error, not a crash.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np
import polars as pl

from ..columns import Array, repair, repairs, series
from ..engine import compiled
from .source import Source, quoted

DECODER: Final = f"{__package__}.compiled"
"""The module that decodes pages. It has no plain twin: SQLite is that."""

_CHUNK_ROWS: Final = 1 << 17
_CHUNK_PAGES: Final = 1 << 11
_GAP_PAGES: Final = 8
"""Pages of other tables that are read along rather than skipped."""

_MOST_PAGES: Final = 1 << 31
_LEAST_ROW: Final = 5
"""Bytes of a row: its place in the page's index (2), payload size, rowid, and a header of one byte at least."""

_THREADS: Final = 2

_STORED: Final[Mapping[Any, Any]] = {pl.Int32: np.int32, pl.UInt32: np.uint32, pl.Int64: np.int64}

_UNSIGNED: Final = (1 << 63) - 1
"""The bits of a value that are not its sign."""


@dataclass(frozen=True, slots=True)
class _File:
    """An open SQLite file: page size, how much of a page is used, and the number of pages."""

    handle: int
    page: int
    usable: int
    pages: int


def page_columns(
    source: Source, table: str, present: Sequence[str], types: Mapping[str, Any], bounds: tuple[int, int]
) -> pl.DataFrame | None:
    """Columns `present` of `table` in order of rowid, each of its type in `types`; ``rowid`` is allowed.

    Where ``start`` is asked for, and ``rowid`` is not, the few rows that do not lie in order of start are put in their place.

    `bounds` are the table's lowest and highest rowid. Null if the table is not of the plain kind, or too small for compiled code.
    """
    fast = compiled(bounds[1] - bounds[0] + 1, DECODER)
    if fast is None or not hasattr(os, "preadv"):  # Windows reads no two places of a file at once
        return None
    root = _root(source, table)
    positions = _positions(source, table)
    wanted = [c for c in present if c != "rowid"]
    if root is None or positions is None or any(c not in positions for c in wanted):
        return None
    if any(_stores_reals(source.tables[table][c]) for c in wanted):
        return None  # their integers lie in the pages as integers, but SQLite answers with reals
    wanted.sort(key=positions.__getitem__)
    handle = os.open(source.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        file = _header(handle)
        leaves = None if file is None else _leaves(fast, file, root)
        if file is None or leaves is None or bounds[1] - bounds[0] >= file.pages * file.page // _LEAST_ROW:
            return None  # more rowids than rows can be: memory is taken for what exists only
        rows = _Table(fast, file, [positions[c] for c in wanted], [types[c] for c in wanted], bounds)
        if not rows.read(*leaves):
            return None
        if "start" in wanted and "rowid" not in present:
            rows.sort(wanted.index("start"))
    except OSError:
        return None
    finally:
        os.close(handle)
    found = {c: series(c, v, a) for c, v, a in zip(wanted, rows.columns, rows.absent, strict=True)}
    if "rowid" in present:
        found["rowid"] = pl.int_range(bounds[0], bounds[1] + 1, dtype=types["rowid"], eager=True).alias("rowid")
    return pl.DataFrame([found[c] for c in present])


def _root(source: Source, table: str) -> int | None:
    """The table's root page; null if it is not an ordinary table."""
    rows = source.db.execute(
        "SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = ? AND sql NOT LIKE '%WITHOUT%ROWID%'",
        (table,),
    ).fetchall()
    return rows[0][0] if len(rows) == 1 and isinstance(rows[0][0], int) and rows[0][0] > 1 else None


def _positions(source: Source, table: str) -> dict[str, int] | None:
    """Where in a record each column lies; null if some column is generated or stands for the rowid."""
    try:
        rows = source.db.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall()
    except sqlite3.Error:
        return None
    if any(hidden or key for *_, key, hidden in rows):
        return None
    return {name: cid for cid, name, *_ in rows}


def _stores_reals(declared: str) -> bool:
    """Whether a column declared so has REAL affinity (sqlite.org/datatype3.html, 3.1)."""
    earlier = ("INT", "CHAR", "CLOB", "TEXT", "BLOB")
    return any(w in declared for w in ("REAL", "FLOA", "DOUB")) and not any(w in declared for w in earlier)


def _header(handle: int) -> _File | None:
    head = os.pread(handle, 100, 0)
    if len(head) < 100 or head[18:20] != b"\x01\x01":  # another journal mode may keep pages elsewhere
        return None
    size = int.from_bytes(head[16:18], "big")
    size = 65_536 if size == 1 else size
    if size < 512 or size & (size - 1) or size - head[20] < 480:
        return None
    return _File(handle, size, size - head[20], os.fstat(handle).st_size // size)


def _page(fast: ModuleType, file: _File, number: int) -> Array:
    """One page and its padding; zeros, which are not a page, where the file has ended."""
    data = os.pread(file.handle, file.page, (number - 1) * file.page)
    return np.frombuffer((data if len(data) == file.page else bytes(file.page)) + bytes(fast.PAD), np.uint8)


def _leaves(fast: ModuleType, file: _File, root: int) -> tuple[Array, Array] | None:
    """(page number, largest rowid) of the leaf pages in order; of the last one the rowid is not known."""
    most = file.usable // 6 + 2
    child, key = np.empty(most, np.int64), np.empty(most, np.int64)
    level = np.array([root], np.int64)
    keys = np.array([2**63 - 1], np.int64)
    for _ in range(20):
        if len(level) > file.pages or level.min() < 2 or level.max() > min(file.pages, _MOST_PAGES):
            return None
        if _page(fast, file, int(level[0]))[0] == fast.LEAF:
            return level, keys
        numbers, highest, total = [], [], 0
        for page, limit in zip(level.tolist(), keys.tolist(), strict=True):
            n = fast.children(_page(fast, file, page), file.usable, child, key)
            total += n
            if n < 1 or total > file.pages:
                return None
            key[n - 1] = limit
            numbers.append(child[:n].copy())
            highest.append(key[:n].copy())
        level, keys = np.concatenate(numbers), np.concatenate(highest)
    return None


class _Table:
    """One table being read. `columns` are its arrays to be, in the order of `positions`."""

    def __init__(
        self, fast: ModuleType, file: _File, positions: list[int], types: list[Any], bounds: tuple[int, int]
    ) -> None:
        self.fast, self.file, self.bounds = fast, file, bounds
        self.height = bounds[1] - bounds[0] + 1
        self.positions = np.array(positions, np.int64)
        self.columns = [np.empty(self.height, _STORED[t]) for t in types]
        self.absent: list[Array | None] = [None] * len(types)
        self._making = threading.Lock()

    def read(self, leaves: Array, keys: Array) -> bool:
        """Fill the columns; false if some page is strange."""
        if (keys[1:] <= keys[:-1]).any() or keys[0] < self.bounds[0]:
            return False
        cut = len(leaves) // _THREADS if len(leaves) > _CHUNK_PAGES else 0
        parts = [
            (leaves[:cut], self.bounds[0], int(keys[cut - 1])),
            (leaves[cut:], int(keys[cut - 1]) + 1, self.bounds[1]),
        ]
        if cut == 0:
            parts = [(leaves, *self.bounds)]
        with ThreadPoolExecutor(len(parts)) as pool:
            done = list(pool.map(lambda part: self._part(*part), parts))
        return all(done)

    def _part(self, leaves: Array, first: int, last: int) -> bool:
        """Decode `leaves`, which hold the rowids `first` to `last`, into their place. False if that is not so."""
        out = np.empty((len(self.positions), _CHUNK_ROWS), np.int64)
        decoded = np.zeros(2, np.int64)
        rowid, at = first, 0
        while at < len(leaves):
            chosen = leaves[at : at + _CHUNK_PAGES]
            pages, starts = self._fetch(chosen)
            done = 0
            while done < len(chosen):
                bits, nulls = np.zeros(len(self.positions), np.int64), np.zeros(len(self.positions), np.int64)
                status = self.fast.rows(
                    pages, starts[done:], self.file.usable, rowid, self.positions, out, bits, nulls, decoded
                )
                used, n = decoded.tolist()
                if status != self.fast.DONE or used == 0 or rowid + n - 1 > last:
                    return False
                if not self._keep(out, rowid - self.bounds[0], n, bits, nulls):
                    return False
                rowid, done = rowid + n, done + used
            at += len(chosen)
        return rowid == last + 1

    def _fetch(self, numbers: Array) -> tuple[Array, Array]:
        """The bytes of some pages (and of a few between them), and where each page starts in them."""
        order = np.sort(numbers)
        first = np.r_[0, np.flatnonzero(np.diff(order) > _GAP_PAGES) + 1]
        begin, end = order[first], order[np.r_[first[1:] - 1, len(order) - 1]] + 1
        offset = np.cumsum(np.r_[0, end - begin]) * self.file.page
        data = np.empty(int(offset[-1]) + self.fast.PAD, np.uint8)
        for a, b, o in zip(begin.tolist(), end.tolist(), offset.tolist(), strict=False):
            size = (b - a) * self.file.page
            if os.preadv(self.file.handle, [data.data[o : o + size]], (a - 1) * self.file.page) != size:
                raise OSError("the file is shorter than its pages")
        run = np.searchsorted(begin, numbers, "right") - 1
        return data, (numbers - begin[run]) * self.file.page + offset[run]

    def _keep(self, out: Array, at: int, n: int, bits: Array, nulls: Array) -> bool:
        for w, column in enumerate(self.columns):
            if column.dtype.kind == "u":
                if bits[w] >> 32:
                    return False
            elif column.dtype.itemsize == 4 and (bits[w] & _UNSIGNED) >> 31:
                return False
            if nulls[w]:
                absent = out[w, :n] == self.fast.NULL
                self._nulls(w)[at : at + n] = absent
                out[w, :n][absent] = 0
            column[at : at + n] = out[w, :n]
        return True

    def _nulls(self, w: int) -> Array:
        """Which rows of column `w` are null, made at the first one. Both threads may find their first one now."""
        with self._making:
            made = self.absent[w]
            if made is None:
                made = self.absent[w] = np.zeros(self.height, bool)
            return made

    def sort(self, w: int) -> None:
        """Put the rows in order of column `w` if almost all of them are, and none is null."""
        stretches = (repairs(self.columns[w]) if self.absent[w] is None else None) or []
        for values in (*self.columns, *self.absent) if stretches else ():
            if values is not None:
                repair(values, stretches)
