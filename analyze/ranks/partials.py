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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from ...traces.budget import PARTIAL as PARTIAL_COST
from ...traces.budget import charge
from ...traces.documents import PARTIAL, parse
from ...traces.errors import InputError
from ...traces.output import reason, replacing
from ...traces.panics import contained
from ...traces.run import from_json
from ...traces.store import cache_key
from .look import Look
from .rank import TABLES, Identity, Rank
from .sound import faults

SCHEMA: Final = "aisp-trace/partial/1"
SUFFIX: Final = ".aisp-rank"
_HEAD: Final = "partial.json"

_FEW_ROWS: Final = 1_000_000
_ROWS_PER_BYTE: Final = 8
"""Rows that a table may have whatever its Parquet's size, and more for each byte of that: equal rows take next to none."""

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


@dataclass(frozen=True, slots=True)
class _Head:
    """``partial.json``."""

    schema: str
    key: Mapping[str, Any]
    identity: Identity
    trace: str
    recorder: str
    clock: str
    part: int
    parts: int
    window: Sequence[int]
    found_by: str | None
    warm_up: int
    notes: Sequence[str]
    rows: Mapping[str, int]


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
        charge(file, file.stat().st_size, PARTIAL_COST)
        with zipfile.ZipFile(file) as archive:
            head = from_json(_Head, _head(archive, file), str(file))
            tables = {name: _table(archive, name, file) for name in TABLES}
            if {name: table.height for name, table in tables.items()} != head.rows or len(head.window) != 2:
                raise InputError(
                    f"{file} is damaged: its tables have other numbers of rows than it says; make it again"
                )
            facts = {name: getattr(head, name) for name in _FACTS if name != "window"}
            rank = Rank(identity=head.identity, tables=tables, window=(head.window[0], head.window[1]), **facts)
            for fault in faults(rank):
                raise InputError(f"{file} is damaged: {fault}; make it again")
            return rank
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
    content = archive.read(member)
    with contained():
        rows = pl.scan_parquet(io.BytesIO(content)).select(pl.len()).collect().item()  # of its metadata
    if rows > _FEW_ROWS + _ROWS_PER_BYTE * len(content):
        raise InputError(
            f"{file} cannot be read as a partial: its table {name} unfolds to {rows:,} rows; make it again"
        )
    with contained():
        table = pl.read_parquet(io.BytesIO(content))
    return table.select(*TABLES[name]).cast(pl.Schema(TABLES[name]))


def _unreadable(file: Path, exc: Exception) -> InputError:
    why = reason(exc) if isinstance(exc, OSError) else str(exc).splitlines()[0] if str(exc) else type(exc).__name__
    return InputError(
        f"{file} cannot be read as a partial: it is damaged or not a partial ({why[:120]}); make it again"
    )
