"""A trace from tables of the user's own: frames of pandas or polars, of a profiler that nothing here reads, or simulated.

    ops   kind     start_ns  end_ns            compute  |####|     |###|
          compute  0         4          ->     h2d          |####|
          h2d      4         8
          compute  9         12

Only what tells one operation from another has to be there; the rest is filled (`DEFAULTS`), and what nobody can know stays null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from .errors import EmptyTraceError, InputError, UsageError
from .host_ops import with_host_ops
from .model import SCHEMAS, TABLES, TEXT, Meta, Trace, make_trace

REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "ops": ("kind", "start_ns", "end_ns"),
    "api": ("name", "start_ns", "end_ns"),
    "ranges": ("name", "start_ns"),
}
"""Columns that cannot be filled; of a table that is not named here, all of them."""

DEFAULTS: Final[Mapping[str, Any]] = {
    "device": 0,
    "stream": 0,
    "pid": 0,
    "tid": 0,
    "end_tid": pl.col("tid"),
    "domain": "",
    "category": "",
    "style": "push_pop",
    "name": pl.col("kind").cast(pl.String),
}
"""What a column holds that was not given; of others null."""

RECORDER: Final = ("tables", "given")
"""Recorder and version: nobody's."""


def trace_of_tables(name: str = "trace", **tables: Any) -> Trace:
    """A `Trace` of frames of pandas or polars, ready for ``aisp_trace.analyze``. `name` is what it goes by.

    `tables` are called as in `model.SCHEMAS`: ``ops`` (what occupied a device), ``api`` (host calls; `correlation` joins them to
    ops), ``ranges`` (stages) and others. Times are integer nanoseconds, or pandas' and polars' own times and durations. `ops`
    needs ``kind``, ``start_ns`` and ``end_ns``; `api` needs ``name``, ``start_ns`` and ``end_ns``; `ranges` needs ``name``,
    ``start_ns`` and ``end_ns`` (null: still open). Other columns of a trace are taken where they are given, columns of your own
    are left out.

    Raises `UsageError` where there is neither ops nor ranges or a table is no frame, and `InputError` for a column that is
    missing or holds what it cannot, and for a row that ends before it starts; `EmptyTraceError` where there is no row.
    """
    unknown = sorted(set(tables) - set(SCHEMAS))
    if unknown:
        raise UsageError(f"no table is called {unknown[0]!r}; tables are {', '.join(TABLES)}")
    if not {"ops", "ranges"} & set(tables):
        raise UsageError("a trace needs operations or ranges; give ops, ranges, or both, as frames of pandas or polars")
    frames = {table: _complete(table, _polars(table, given)) for table, given in tables.items()}
    if not any(frames[table].height for table in ("ops", "ranges") if table in frames):
        raise EmptyTraceError(
            "neither operations nor ranges have a row, so there is nothing to analyse; check the frames"
        )
    if "devices" not in frames and "ops" in frames:
        frames["devices"] = _devices(frames["ops"])
    return with_host_ops(make_trace(Meta(name, *RECORDER, None, tuple(frames)), **frames))


def _polars(table: str, given: Any) -> pl.DataFrame:
    """`given` as a polars frame; NaN, which pandas has for what is missing, becomes null."""
    if isinstance(given, pl.DataFrame):
        frame = given
    elif type(given).__module__.partition(".")[0] == "pandas":
        frame = pl.from_pandas(given)
    else:
        raise UsageError(f"{table} is no frame of pandas or polars, but {type(given).__name__}; make it one")
    return frame.with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None))


def _complete(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the columns of `table`, those that were not given filled."""
    schema = SCHEMAS[table]
    needed = REQUIRED.get(table, tuple(schema))
    if missing := [name for name in needed if name not in frame.columns]:
        raise InputError(f"{table} lacks the column {missing[0]!r}; it needs {', '.join(needed)}")
    taken = [_typed(table, frame.get_column(name), schema[name]) for name in schema if name in frame.columns]
    made = pl.DataFrame(taken)
    for name, declared in schema.items():
        if name not in made.columns:
            value = pl.lit(None) if name not in DEFAULTS else DEFAULTS[name]
            value = value if isinstance(value, pl.Expr) else pl.lit(value)
            made = made.with_columns(value.cast(pl.String if declared is TEXT else declared).alias(name))
    return _whole(table, made)


def _typed(table: str, column: pl.Series, declared: Any) -> pl.Series:
    """`column` in the type of a trace's; raises `InputError` for a value that would change on the way."""
    where = f"{table}.{column.name}"
    wanted = pl.String if declared is TEXT else declared
    if isinstance(column.dtype, (pl.Datetime, pl.Duration)) and wanted == pl.Int64:
        column = column.cast(type(column.dtype)("ns"))
    try:
        made = column.cast(wanted)
    except pl.exceptions.PolarsError as error:
        said = str(error).split("\n", 1)[0]
        raise InputError(f"{where} holds {column.dtype}, which is no {wanted} ({said[:120]})") from error
    if column.dtype.is_float() and not (made.cast(pl.Float64) == column.cast(pl.Float64)).all():
        raise InputError(f"{where} holds numbers that are not whole; give integer nanoseconds or bytes")
    return made


def _whole(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """`frame`, if its intervals are ones."""
    for name in REQUIRED.get(table, ()):
        if frame.get_column(name).null_count():
            raise InputError(f"{table}.{name} has a row without a value")
    if {"start_ns", "end_ns"} <= set(frame.columns):
        backwards = (frame["end_ns"] < frame["start_ns"]).fill_null(False)
        if backwards.any():
            raise InputError(f"row {backwards.arg_true()[0]} of {table} ends before it starts")
    return frame


def _devices(ops: pl.DataFrame) -> pl.DataFrame:
    """A device for each number in `ops`, of which no more is known."""
    numbers = ops.get_column("device").unique().sort()
    made = pl.DataFrame({"device": numbers}).with_columns(pl.lit("gpu").alias("type"))
    made = made.with_columns(pl.lit("GPU").alias("name"))
    return made.with_columns(
        pl.lit(None).cast(dtype).alias(name) for name, dtype in SCHEMAS["devices"].items() if name not in made.columns
    )
