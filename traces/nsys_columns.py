"""Whole columns of integers out of an SQLite table, as fast as SQLite gives them.

Big tables are decoded from their pages or, where those are not plain, to Arrow by ADBC in two threads; small ones are read
by `sqlite3`. Cells that are not integers become null and are counted in `Source.foreign_cells`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import polars as pl

from . import nsys_pages
from .nsys_sqlite import Source, quoted

PAGES_ROWS: Final = 400_000
"""From this many rows on decoding a table's pages (see `nsys_pages`) is worth compiling the decoder; where its code is kept,
`ADBC_ROWS` are enough."""

PARALLEL_ROWS: Final = 200_000
"""From this many rows on a table is read in two threads."""

ADBC_ROWS: Final = 5_000
"""Below this many rows `sqlite3` is as fast as ADBC, and cheaper to start."""

_CHUNK_ROWS: Final = 1 << 18
_BATCH_ROWS: Final = "65536"


def integers(source: Source, table: str, columns: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    """`columns` of `table` in stored order, each cast to its type; a column the table lacks is null.

    ``rowid`` may be asked for like a column.

    Values that do not fit the type, and cells that are text, real or blob, become null; the latter are counted. Only where
    UInt32 is asked for, and some value does not fit, the column stays Int64: `nsys_usable` tells what such values are.
    An absent table gives no rows.
    """
    if table not in source.tables:
        return pl.DataFrame(schema=dict(columns))
    present = [c for c in columns if c == "rowid" or c in source.tables[table]]
    frame = source.guard(lambda: _read(source, table, present, columns)) if present else pl.DataFrame()
    height = frame.height if present else source.guard(lambda: _count(source, table))
    absent = [pl.repeat(None, height, dtype=columns[c], eager=True).alias(c) for c in columns if c not in present]
    return pl.DataFrame([*frame.get_columns(), *absent]).select(list(columns)) if columns else frame


def _count(source: Source, table: str) -> int:
    count: int = source.db.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0]
    return count


def _read(source: Source, table: str, present: list[str], types: Mapping[str, Any]) -> pl.DataFrame:
    bounds = _rowid_bounds(source, table)
    frame = None
    if bounds is not None and (span := bounds[1] - bounds[0] + 1) >= ADBC_ROWS:
        if nsys_pages.decoder(compiling=span >= PAGES_ROWS) is not None:
            frame = nsys_pages.page_columns(source, table, present, types, bounds)
        if frame is None:
            frame = _read_adbc(source.uri, table, present, types, bounds)
    if frame is None:
        frame = _read_plain(source, table, present, types)
    return frame


def _rowid_bounds(source: Source, table: str) -> tuple[int, int] | None:
    try:
        ends = (f"(SELECT {end}(rowid) FROM {quoted(table)})" for end in ("min", "max"))  # two seeks, no scan
        low, high = source.db.execute(f"SELECT {', '.join(ends)}").fetchone()
    except sqlite3.OperationalError:
        return None  # WITHOUT ROWID
    return (low, high) if isinstance(low, int) and isinstance(high, int) else None


def _read_plain(source: Source, table: str, present: list[str], types: Mapping[str, Any]) -> pl.DataFrame:
    try:
        rows = source.db.execute(f"SELECT {', '.join(map(quoted, present))} FROM {quoted(table)}").fetchall()
        cells = list(zip(*rows, strict=True)) if rows else [()] * len(present)
        raw = [pl.Series(c, v, dtype=pl.Int64, strict=True) for c, v in zip(present, cells, strict=True)]
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        raw = _read_hostile(source, table, present)
    except sqlite3.OperationalError as exc:
        if "decode" not in str(exc):
            raise
        raw = _read_hostile(source, table, present)  # text in a number's place, and not even text
    return pl.DataFrame([_typed(s, types[s.name]) for s in raw])


def _typed(column: pl.Series, dtype: Any) -> pl.Series:
    found = column.cast(dtype, strict=False)
    return column if dtype == pl.UInt32 and found.null_count() > column.null_count() else found


def _read_hostile(source: Source, table: str, present: list[str]) -> list[pl.Series]:
    wanted = ", ".join(f"CASE typeof({quoted(c)}) WHEN 'integer' THEN {quoted(c)} END" for c in present)
    odd = " + ".join(f"(typeof({quoted(c)}) NOT IN ('integer', 'null'))" for c in present)
    source.foreign_cells += int(source.db.execute(f"SELECT total({odd}) FROM {quoted(table)}").fetchone()[0])
    rows = source.db.execute(f"SELECT {wanted} FROM {quoted(table)}").fetchall()
    return [pl.Series(c, v, dtype=pl.Int64) for c, v in zip(present, zip(*rows, strict=True), strict=True)]


def _read_adbc(
    uri: str, table: str, present: list[str], types: Mapping[str, Any], bounds: tuple[int, int]
) -> pl.DataFrame | None:
    """Columns through ADBC, or null where a cell does not fit (the caller then reads cell by cell)."""
    import adbc_driver_manager as adbc
    import adbc_driver_sqlite

    columns = ", ".join(map(quoted, present))
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
                    query.set_sql_query(f"SELECT {columns} FROM {quoted(table)} WHERE rowid BETWEEN {a} AND {b}")
                    raw = pl.DataFrame(query.execute_query()[0])
                if raw.height and any(t != pl.Int64 for t in raw.dtypes):
                    raise _ForeignCell
                frames.append(pl.DataFrame([_typed(raw.get_column(c), types[c]) for c in present]))
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
    return pl.concat(frames, how="vertical_relaxed")


class _ForeignCell(Exception):
    """A column of integers holds something else."""
