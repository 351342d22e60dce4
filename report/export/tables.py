"""A folder of tables: everything a trace holds and everything its analysis found, for other programs.

    OUT/export.json                  format, version, what was exported and selected, and each table's rows and columns
    OUT/trace/ops.parquet ...        one file a table of the trace model (`traces.model.SCHEMAS`), empty ones too
    OUT/analysis/ledger.parquet ...  one file a table of the analysis (`analyze.result.SCHEMAS`)

Parquet (zstd) holds every value exactly and with its type. CSV (RFC 4180, UTF-8) is what spreadsheets open, and those run
text that begins with one of ``= + - @``, a tab or a carriage return as a formula. A trace's names come from anywhere, so
in CSV such text gets an apostrophe in front, and so does text that begins with an apostrophe: taking one leading
apostrophe away always restores it. Text is quoted, null is an empty field without quotes, empty text is ``""``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import polars as pl

from ...analyze.document import selection_document
from ...analyze.result import Analysis
from ...traces import documents
from ...traces.errors import InputError
from ...traces.model import TABLES, Trace
from ...traces.output import Kind
from ...traces.parquet import write_parquet
from ...traces.run import write_json

SCHEMA: Final = "aisp-trace/export/1"

MARK: Final = "export.json"
"""The file every exported folder has."""

FORMATS: Final = ("parquet", "csv")

_RISKY: Final = r"^[=+\-@\t\r']"


def write_tables(trace: Trace, analysis: Analysis, folder: Path, form: str) -> int:
    """Write all tables below the empty folder `folder`; how many. `form` is one of `FORMATS`.

    Raises `ValueError` for another format, and `OSError` if the folder cannot be written.
    """
    if form not in FORMATS:
        raise ValueError(form)
    described: dict[str, Mapping[str, Any]] = {}
    for name, table in tables(trace, analysis):
        file = folder / f"{name}.{form}"
        file.parent.mkdir(exist_ok=True)
        if form == "parquet":
            write_parquet(table, file, compression="zstd")
        else:
            for_csv(table).write_csv(file, quote_style="non_numeric")
        columns = {column: str(dtype.base_type()) for column, dtype in table.schema.items()}
        described[name] = {"file": f"{name}.{form}", "rows": len(table), "columns": columns}
    chosen = selection_document(analysis.choices)
    facts = {"variant": analysis.variant, "selection": chosen, "trace": asdict(trace.meta), "tables": described}
    write_json(folder / MARK, {"schema": SCHEMA, "format": form, **facts})
    return len(described)


def tables(trace: Trace, analysis: Analysis) -> Iterator[tuple[str, pl.DataFrame]]:
    """Every table, as ``trace/ops`` or ``analysis/ledger``."""
    for name in TABLES:
        yield f"trace/{name}", trace.table(name)
    for name, table in analysis.tables().items():
        yield f"analysis/{name}", table


def parts(folder: Path) -> set[str] | None:
    """The files that make up the export in `folder`, by what its `MARK` lists; null if it is none."""
    try:
        mark = documents.read(folder / MARK, documents.EXPORT_MARK)
    except InputError:
        return None
    if not isinstance(mark, dict) or mark.get("schema") != SCHEMA:
        return None
    tables, folders = mark.get("tables", {}), mark.get("folders", {})
    if not isinstance(tables, dict) or not isinstance(folders, dict):
        return None
    found = {MARK, *(t["file"] for t in tables.values() if isinstance(t, dict) and isinstance(t.get("file"), str))}
    for name in folders:
        found |= {f"{name}/{file}" for file in parts(folder / name) or ()}
    return found


TABLES_FOLDER: Final = Kind("folder of an earlier export", parts=parts)


def for_csv(table: pl.DataFrame) -> pl.DataFrame:
    """`table` with text that no spreadsheet takes for a formula (see the module)."""
    safe = [
        pl.when(text.str.contains(_RISKY)).then(pl.concat_str(pl.lit("'"), text)).otherwise(text).alias(name)
        for name, dtype in table.schema.items()
        if isinstance(dtype, (pl.String, pl.Enum, pl.Categorical))
        for text in (pl.col(name).cast(pl.String),)
    ]
    return table.with_columns(safe)
