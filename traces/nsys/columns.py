"""Whole columns of integers out of an SQLite table, as fast as SQLite gives them, and all of their rows.

Big tables are decoded from their pages or, where those are not plain, to Arrow by ADBC in two threads; small ones are read
by `sqlite3`. Whichever way, a cell is the same: an integer, or a real that is a whole number (`_CELL`), as it is; anything
else is null and counted in `Source.foreign_cells`. ADBC's driver drops errors that SQLite reports in the middle of a table
about every second time, so no way of reading is trusted to say that it ended early: `Source.require_all` counts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import polars as pl

from .pages import page_columns
from .source import PRAGMAS, Source, quoted

PARALLEL_ROWS: Final = 200_000
"""From this many rows on a table is read in two threads."""

ADBC_ROWS: Final = 5_000
"""Below this many rows `sqlite3` is as fast as ADBC, and cheaper to start."""

_CHUNK_ROWS: Final = 1 << 18
_BATCH_ROWS: Final = "65536"


def integers(source: Source, table: str, columns: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    """`columns` of `table` in stored order, each cast to its type; a column the table lacks is null.

    ``rowid`` may be asked for like a column.

    Values that do not fit the type, and cells that are text, blob or a fraction, become null; the latter are counted. Only where
    UInt32 is asked for, and some value does not fit, the column stays Int64: `nsys.usable` tells what such values are.
    An absent table gives no rows. Raises `InputError` if the table is damaged, or if not all of its rows can be read.
    """
    if table not in source.tables:
        return pl.DataFrame(schema=dict(columns))
    present = [c for c in columns if c == "rowid" or c in source.tables[table]]
    if present:
        frame, decoded = source.guard(lambda: _read(source, table, present, columns))
        height = frame.height
    else:
        frame, decoded, height = pl.DataFrame(), False, source.count(table)
    source.require_all(table, height, decoded=decoded)
    absent = [pl.repeat(None, height, dtype=columns[c], eager=True).alias(c) for c in columns if c not in present]
    return pl.DataFrame([*frame.get_columns(), *absent]).select(list(columns)) if columns else frame


def _read(source: Source, table: str, present: list[str], types: Mapping[str, Any]) -> tuple[pl.DataFrame, bool]:
    """The columns, and whether they were decoded from the pages."""
    bounds = source.rowid_bounds(table)
    if bounds is not None and bounds[1] - bounds[0] + 1 >= ADBC_ROWS:
        frame = page_columns(source, table, present, types, bounds)
        if frame is not None:
            return frame, True
        frame = _read_adbc(source.uri, table, present, types, bounds)
        if frame is not None:
            return frame, False
    return _read_plain(source, table, present, types), False


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


_CELL: Final = (
    "CASE typeof({c}) WHEN 'integer' THEN {c} WHEN 'real' THEN "
    "CASE WHEN abs({c}) <= 9007199254740992 AND {c} = CAST({c} AS INTEGER) THEN CAST({c} AS INTEGER) END END"
)
"""A real that is a whole number counts as that integer: data frames that write tables back store columns with nulls so.
Beyond 2**53 a real may be another integer than the one that was meant."""


def _read_hostile(source: Source, table: str, present: list[str]) -> list[pl.Series]:
    wanted = {c: _CELL.format(c=c) for c in map(quoted, present)}
    odd = " + ".join(f"({c} IS NOT NULL AND {cell} IS NULL)" for c, cell in wanted.items())
    source.foreign_cells += int(source.db.execute(f"SELECT total({odd}) FROM {quoted(table)}").fetchone()[0])
    rows = source.db.execute(f"SELECT {', '.join(wanted.values())} FROM {quoted(table)}").fetchall()
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
            for text in PRAGMAS:
                with adbc.AdbcStatement(con) as pragma:
                    pragma.set_sql_query(text)
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

    if not chunks:
        return None  # the smallest row is after the largest: damage, which the plain reader tells

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
