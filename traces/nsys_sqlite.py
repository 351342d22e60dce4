"""Columns out of an untrusted SQLite file, fast and without running anything that is in it.

`Source` opens a database read-only, immutable and with ``trusted_schema=OFF``; it answers for real tables only
(views, triggers and virtual tables are never touched) and for stored columns only. Big tables are decoded to Arrow by
ADBC in two threads, small ones by `sqlite3`; cells that are not integers where integers belong become null and are
counted in `Source.foreign_cells`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

import polars as pl

from .errors import InputError

SQLITE_MAGIC: Final = b"SQLite format 3\x00"

PARALLEL_ROWS: Final = 200_000
"""From this many rows on a table is read in two threads."""

ADBC_ROWS: Final = 5_000
"""Below this many rows `sqlite3` is as fast as ADBC, and cheaper to start."""

_CHUNK_ROWS: Final = 1 << 18
_BATCH_ROWS: Final = "65536"
_ID_LIMIT: Final = 500


class Source:
    """An open SQLite file. Use as a context manager.

    Raises `InputError` when the file is missing, is no SQLite database, or is shorter than its header says.
    Every method raises `InputError` if the database turns out to be corrupt.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.foreign_cells = 0
        check_header(path)
        self._uri = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
        self._db: sqlite3.Connection = self._guard(lambda: sqlite3.connect(self._uri, uri=True, isolation_level=None))
        self._db.execute("PRAGMA trusted_schema=OFF")
        self.tables: Mapping[str, Mapping[str, str]] = self._guard(self._list_tables)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def has(self, table: str, *columns: str) -> bool:
        """Whether real table `table` exists and stores all of `columns`."""
        return table in self.tables and all(c in self.tables[table] for c in columns)

    def integers(self, table: str, columns: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
        """`columns` of `table` in stored order, each cast to its type; a column the table lacks is null.

        ``rowid`` may be asked for like a column.

        Values that do not fit the type, and cells that are text, real or blob, become null; the latter are counted.
        An absent table gives no rows.
        """
        if table not in self.tables:
            return pl.DataFrame(schema=dict(columns))
        present = [c for c in columns if c == "rowid" or c in self.tables[table]]
        frame = self._guard(lambda: self._read(table, present, columns)) if present else pl.DataFrame()
        height = frame.height if present else self._guard(lambda: self._count(table))
        absent = [pl.repeat(None, height, dtype=columns[c], eager=True).alias(c) for c in columns if c not in present]
        return pl.DataFrame([*frame.get_columns(), *absent]).select(list(columns)) if columns else frame

    def texts(self, table: str, key: str, column: str) -> dict[int, str]:
        """Integer `key` -> text `column` of the rows that hold a text there (``rowid`` is a valid key)."""
        if not self.has(table, column) or (key != "rowid" and not self.has(table, key)):
            return {}
        where = f"typeof({_name(column)}) = 'text' AND typeof({_name(key)}) = 'integer'"
        rows = self.rows(f"SELECT {_name(key)}, {_name(column)} FROM {_name(table)} WHERE {where}")
        return dict(rows)

    def strings(self, ids: Collection[int]) -> dict[int, str]:
        """StringIds of `ids`: id -> value; ids that do not exist are missing from the answer."""
        if not ids or not self.has("StringIds", "id", "value"):
            return {}
        if len(ids) > _ID_LIMIT:
            whole = self.texts("StringIds", "id", "value")
            return {i: whole[i] for i in ids if i in whole}
        marks = ",".join("?" * len(ids))
        return dict(
            self.rows(
                f"SELECT id, value FROM StringIds WHERE id IN ({marks}) AND typeof(value) = 'text'",
                [int(i) for i in ids],
            )
        )

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query (small answers only). Text that is not UTF-8 is decoded with replacement characters."""

        def fetch() -> list[tuple[Any, ...]]:
            try:
                return self._db.execute(sql, parameters).fetchall()
            except sqlite3.OperationalError as exc:
                if "decode" not in str(exc):
                    raise
            self._db.text_factory = lambda data: bytes(data).decode("utf-8", "replace")
            try:
                return self._db.execute(sql, parameters).fetchall()
            finally:
                self._db.text_factory = str

        found: list[tuple[Any, ...]] = self._guard(fetch)
        return found

    def stream(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query of numbers one by one, for tables too large to hold."""
        cursor: sqlite3.Cursor = self._guard(lambda: self._db.execute(sql))
        while (row := self._guard(cursor.fetchone)) is not None:
            yield row

    def table_rows(self, table: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """`columns` of a small `table` as Python rows, null for a column it lacks; no table gives no rows."""
        if table not in self.tables:
            return []
        wanted = ", ".join(_name(c) if c in self.tables[table] else "NULL" for c in columns)
        return self.rows(f"SELECT {wanted} FROM {_name(table)}")

    def _guard(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except sqlite3.DatabaseError as exc:
            raise InputError(
                f"{self.path} was to be read as an nsys export, but SQLite finds it damaged ({exc}); export it again"
            ) from exc

    def _list_tables(self) -> dict[str, dict[str, str]]:
        rows = self.rows("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'")
        tables: dict[str, dict[str, str]] = {}
        for name, root in rows:
            if not isinstance(name, str) or not isinstance(root, int) or root <= 0:
                continue  # a virtual table has no page of its own, and its module may do anything
            columns = self.rows(f"PRAGMA table_info({_name(name)})")
            tables[name] = {c[1]: str(c[2]).upper() for c in columns}
        return tables

    def _count(self, table: str) -> int:
        count: int = self._db.execute(f"SELECT count(*) FROM {_name(table)}").fetchone()[0]
        return count

    def _read(self, table: str, present: list[str], types: Mapping[str, Any]) -> pl.DataFrame:
        bounds = self._rowid_bounds(table)
        span = None if bounds is None else bounds[1] - bounds[0] + 1
        frame = None
        if bounds is not None and span is not None and span >= ADBC_ROWS:
            frame = _read_adbc(self._uri, table, present, types, bounds)
        if frame is None:
            frame = self._read_plain(table, present, types)
        return frame

    def _rowid_bounds(self, table: str) -> tuple[int, int] | None:
        try:
            ends = (f"(SELECT {end}(rowid) FROM {_name(table)})" for end in ("min", "max"))  # two seeks, no scan
            low, high = self._db.execute(f"SELECT {', '.join(ends)}").fetchone()
        except sqlite3.OperationalError:
            return None  # WITHOUT ROWID
        return (low, high) if isinstance(low, int) and isinstance(high, int) else None

    def _read_plain(self, table: str, present: list[str], types: Mapping[str, Any]) -> pl.DataFrame:
        rows = self._db.execute(f"SELECT {', '.join(map(_name, present))} FROM {_name(table)}").fetchall()
        cells = list(zip(*rows, strict=True)) if rows else [()] * len(present)
        try:
            raw = [pl.Series(c, v, dtype=pl.Int64, strict=True) for c, v in zip(present, cells, strict=True)]
        except (TypeError, OverflowError, pl.exceptions.PolarsError):
            raw = self._read_hostile(table, present)
        return pl.DataFrame([s.cast(types[s.name], strict=False) for s in raw])

    def _read_hostile(self, table: str, present: list[str]) -> list[pl.Series]:
        wanted = ", ".join(f"CASE typeof({_name(c)}) WHEN 'integer' THEN {_name(c)} END" for c in present)
        odd = " + ".join(f"(typeof({_name(c)}) NOT IN ('integer', 'null'))" for c in present)
        self.foreign_cells += int(self._db.execute(f"SELECT total({odd}) FROM {_name(table)}").fetchone()[0])
        rows = self._db.execute(f"SELECT {wanted} FROM {_name(table)}").fetchall()
        return [pl.Series(c, v, dtype=pl.Int64) for c, v in zip(present, zip(*rows, strict=True), strict=True)]


def check_header(path: Path) -> None:
    """Raises `InputError` unless `path` starts like an SQLite database and is as long as its header says."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
            size = file.seek(0, os.SEEK_END)
    except OSError as exc:
        raise InputError(f"{path} was to be read as a trace, but {exc.strerror or exc}; check the path") from exc
    if head[:16] != SQLITE_MAGIC:
        raise InputError(f"{path} was to be read as an nsys export, but it is no SQLite file; give an .sqlite export")
    page = int.from_bytes(head[16:18], "big")
    page = 65_536 if page == 1 else page
    pages = int.from_bytes(head[28:32], "big")
    in_header_valid = head[24:28] == head[92:96] and pages > 0  # written by SQLite 3.7.0 or newer
    if len(head) < 100 or (in_header_valid and size < page * pages):
        raise InputError(
            f"{path} was to be read as an nsys export, but it is truncated ({size} of {page * pages} bytes); "
            "copy or export it again"
        )


def _read_adbc(
    uri: str, table: str, present: list[str], types: Mapping[str, Any], bounds: tuple[int, int]
) -> pl.DataFrame | None:
    """Columns through ADBC, or null where a cell does not fit (the caller then reads cell by cell)."""
    import adbc_driver_manager as adbc
    import adbc_driver_sqlite

    columns = ", ".join(map(_name, present))
    low, high = bounds
    sparse = (high - low) // _CHUNK_ROWS > 4_096
    step = (high - low + 1) if sparse else _CHUNK_ROWS
    chunks = [(a, min(a + step - 1, high)) for a in range(low, high + 1, step)]

    def read(part: list[tuple[int, int]]) -> list[pl.DataFrame]:
        frames = []
        with adbc.AdbcDatabase(driver=adbc_driver_sqlite._driver_path(), uri=uri) as db, adbc.AdbcConnection(db) as con:
            with adbc.AdbcStatement(con) as pragma:
                pragma.set_sql_query("PRAGMA trusted_schema=OFF")
                pragma.execute_update()
            for a, b in part:
                with adbc.AdbcStatement(con) as query:
                    query.set_options(**{"adbc.sqlite.query.batch_rows": _BATCH_ROWS})
                    query.set_sql_query(f"SELECT {columns} FROM {_name(table)} WHERE rowid BETWEEN {a} AND {b}")
                    raw = pl.DataFrame(query.execute_query()[0])
                if raw.height and any(t != pl.Int64 for t in raw.dtypes):
                    raise _ForeignCell
                frames.append(raw.select(pl.col(c).cast(types[c], strict=False) for c in present))
        return frames

    half = (len(chunks) + 1) // 2
    parts = [chunks[:half], chunks[half:]] if high - low >= PARALLEL_ROWS and len(chunks) > 1 else [chunks]
    try:
        if len(parts) == 1:
            frames = read(parts[0])
        else:
            with ThreadPoolExecutor(len(parts)) as pool:
                frames = [f for part in pool.map(read, parts) for f in part]
    except (_ForeignCell, adbc.Error, pl.exceptions.PolarsError):
        return None  # a cell of another type, or damage: the plain reader tells which
    return pl.concat(frames)


class _ForeignCell(Exception):
    """A column of integers holds something else."""


def _name(word: str) -> str:
    return word if word == "rowid" else '"' + word.replace('"', '""') + '"'
