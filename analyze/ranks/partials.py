"""Partials on disk: one file a rank, small, written whole or not at all, readable on any machine.

    <trace>-<digest>.<k>.aisp-rank     a zip archive
        partial.json                   schema, identity, what it was made of
        ledger.parquet ...             the tables of `rank.TABLES`

The digest is that of the trace's content, so that traces of the same name from several hosts lie side by side in one folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import polars as pl

from ...traces.documents import PARTIAL, parse
from ...traces.errors import InputError
from ...traces.output import reason, replacing
from ...traces.store import cache_key
from .look import Look
from .rank import TABLES, Identity, Rank

SCHEMA: Final = "aisp-trace/partial/1"
SUFFIX: Final = ".aisp-rank"
_HEAD: Final = "partial.json"

_MOST_BYTES: Final = 1 << 30
"""Of a table that is read: a partial of ten million kernels has a hundredth of that, so more is damage or malice."""


def key_of(trace: Path, look: Look) -> dict[str, Any]:
    """What decides the partials of `trace`: its content and the options."""
    return {"trace": cache_key(trace), "look": asdict(look)}


def clock_of(key: dict[str, Any]) -> str:
    """The name of the clock of a trace with this `key_of`: the same for the same content, wherever it lies."""
    trace = key["trace"]
    return hashlib.sha256(json.dumps([trace["size"], trace["sample"]]).encode()).hexdigest()[:12]


def place(trace: Path, rank: Rank, folder: Path) -> Path:
    """Where the partial of `rank` goes."""
    return folder / f"{trace.name.split('.')[0][:80]}-{rank.clock}.{rank.part}{SUFFIX}"


def content(rank: Rank, key: dict[str, Any]) -> bytes:
    """The file of `rank`, made of what `key` says."""
    head = {
        "schema": SCHEMA,
        "key": key,
        "identity": asdict(rank.identity),
        **{name: getattr(rank, name) for name in _FACTS},
        "rows": {name: rank.table(name).height for name in TABLES},
    }
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name in TABLES:
            table = io.BytesIO()
            rank.table(name).write_parquet(table, compression="zstd")
            archive.writestr(f"{name}.parquet", table.getvalue())
        archive.writestr(_HEAD, json.dumps(head))
    return whole.getvalue()


def put(whole: bytes, file: Path) -> None:
    """Write a partial's content to `file`. Raises `InputError` where nothing can be written."""
    try:
        with replacing(file) as building:
            building.write_bytes(whole)
    except OSError as exc:
        raise InputError(f"{file} cannot be written: {reason(exc)}; name another folder with --partial") from exc


_FACTS: Final = ("trace", "recorder", "clock", "part", "parts", "window", "found_by", "warm_up", "notes")


def head_of(file: Path) -> dict[str, Any]:
    """What a partial says of itself, its tables unread; raises `InputError` where `file` is none."""
    try:
        with zipfile.ZipFile(file) as archive:
            return _head(archive, file)
    except (OSError, zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError) as exc:
        raise _unreadable(file, exc) from exc


def read(file: Path) -> Rank:
    """The partial in `file`; raises `InputError` for anything that is none, damaged, or of another version."""
    try:
        with zipfile.ZipFile(file) as archive:
            head = _head(archive, file)
            tables = {name: _table(archive, name, file) for name in TABLES}
            rows = {name: table.height for name, table in tables.items()}
            if rows != head["rows"]:
                raise InputError(
                    f"{file} is damaged: its tables have other numbers of rows than it says; make it again"
                )
            facts = {name: head[name] for name in _FACTS}
            facts |= {"window": tuple(head["window"]), "notes": tuple(head["notes"])}
            return Rank(identity=Identity(**head["identity"]), tables=tables, **facts)
    except InputError:
        raise
    except (
        OSError,
        zipfile.BadZipFile,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        pl.exceptions.PolarsError,
    ) as exc:
        raise _unreadable(file, exc) from exc


def _head(archive: zipfile.ZipFile, file: Path) -> dict[str, Any]:
    if archive.getinfo(_HEAD).file_size > PARTIAL.most_bytes:
        raise InputError(f"{file} cannot be read as a partial: its description is too long; make it again")
    head = parse(archive.read(_HEAD), PARTIAL, str(file))
    if not isinstance(head, dict) or head.get("schema") != SCHEMA:
        found = head.get("schema") if isinstance(head, dict) else None
        raise InputError(
            f"{file} cannot be read as a partial of {SCHEMA}: its schema is {str(found)[:60]!r}; make it again with "
            "`aisp-trace analyze --partial`"
        )
    return head


def _table(archive: zipfile.ZipFile, name: str, file: Path) -> pl.DataFrame:
    member = f"{name}.parquet"
    if archive.getinfo(member).file_size > _MOST_BYTES:
        raise InputError(f"{file} cannot be read as a partial: its table {name} is too large; make it again")
    table = pl.read_parquet(io.BytesIO(archive.read(member)))
    return table.select(*TABLES[name]).cast(pl.Schema(TABLES[name]))


def _unreadable(file: Path, exc: Exception) -> InputError:
    why = reason(exc) if isinstance(exc, OSError) else str(exc).splitlines()[0] if str(exc) else type(exc).__name__
    return InputError(
        f"{file} cannot be read as a partial: it is damaged or not a partial ({why[:120]}); make it again"
    )
