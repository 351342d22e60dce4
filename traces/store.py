"""A Parquet copy of a trace's tables, so that the second look at a large trace is a fast one.

    <trace>.aisp-cache/            beside the trace, or
    <cache home>/aisp-trace/<hash>.aisp-cache/     where the trace's folder cannot be written
        key.json                   what the copy was made of; written last
        ops.parquet ...            one file a table that has rows

A copy is used only if its key is exactly that of the file now: size, modification time, a hash of a sample of its
content, the side file's bytes, and the version of this format. Anything else, damage included, means there is none.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import polars as pl

from .budget import KEPT, charge
from .documents import CACHE_KEY, read
from .errors import InputError
from .model import TABLES, Meta, Trace, make_partial_trace
from .output import reason
from .panics import contained
from .parquet import write_parquet

FORMAT: Final = 9
"""Raised whenever the model, a reader, or this layout changes what a cached trace would hold."""

SAMPLE_BYTES: Final = 1 << 16
SAMPLES: Final = 16
_KEY_FILE: Final = "key.json"
CACHE_SUFFIX: Final = ".aisp-cache"

Key = dict[str, Any]


def cache_key(
    path: Path, side_file: Path | None = None, left_out: Collection[tuple[str, str]] = (), metrics: str = ""
) -> Key:
    """What identifies the content of `path` (and of its side file) without reading all of it.

    Raises `InputError` if one of them cannot be read.
    """
    try:
        stat, sample, side = path.stat(), _sample(path), None
        if side_file is not None and side_file.is_file():
            with side_file.open("rb") as stream:
                side = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as exc:
        raise InputError(f"{path} was to be read as a trace, but {reason(exc)}; check the file") from exc
    return {
        "format": FORMAT,
        "polars": pl.__version__,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sample": sample,
        "side_file": side,
        "left_out": sorted(".".join(pair) for pair in left_out),
        "metrics": metrics,
    }


def load(path: Path, key: Key, left_out: Collection[tuple[str, str]] = ()) -> Trace | None:
    """The cached trace of `path`, or null if there is none that matches `key`."""
    for folder in _folders(path):
        try:
            stored = read(folder / _KEY_FILE, CACHE_KEY)
            if not isinstance(stored, dict) or stored.get("key") != key:
                continue
            facts = dict(stored["meta"])
            meta = Meta(**{**facts, "tables": tuple(facts["tables"])})
            charge(path, sum((folder / f"{n}.parquet").stat().st_size for n in stored["rows"]), KEPT)
            with contained():
                present = {n: _table(folder / f"{n}.parquet") for n in stored["rows"]}
            if {n: present[n].height for n in present} != stored["rows"]:
                continue
            kept = {(table, column) for table, frame in present.items() for column in frame.columns}
            return make_partial_trace(meta, present, [pair for pair in left_out if pair not in kept])
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
            InputError,
            pl.exceptions.PolarsError,
            pl.exceptions.PanicException,
        ):
            continue  # damaged: as good as absent
    return None


def _table(file: Path) -> pl.DataFrame:
    """The table in `file`, each column in one piece: of several pieces every look at a column would make a copy of it.

    Column by column, so that only one of them is held twice meanwhile.
    """
    columns = pl.read_parquet_schema(file)
    return pl.DataFrame([pl.read_parquet(file, columns=[name]).to_series().rechunk() for name in columns])


def save(path: Path, key: Key, trace: Trace) -> Path | None:
    """Keep `trace` for `path`; where it went, or null if no place can be written. Never raises for a full disk."""
    for folder in _folders(path):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        except OSError:
            continue
        try:
            _write(building, key, trace)
            _replace(building, folder)
        except OSError:
            continue
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return folder
    return None


def _write(folder: Path, key: Key, trace: Trace) -> None:
    rows = {n: trace.table(n).height for n in TABLES if trace.table(n).height}
    for name in rows:
        write_parquet(trace.table(name), folder / f"{name}.parquet", compression="zstd", compression_level=1)
    text = json.dumps({"key": key, "meta": asdict(trace.meta), "rows": rows}, ensure_ascii=True)
    (folder / _KEY_FILE).write_text(text, encoding="utf-8")


def _replace(building: Path, folder: Path) -> None:
    """Put `building` where `folder` is. A reader sees the old copy, none, or the new one, never a mixture."""
    if folder.exists():
        if not folder.is_dir():
            raise NotADirectoryError(folder)
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        folder.rename(old / "old")
        try:
            building.rename(folder)
        finally:
            shutil.rmtree(old, ignore_errors=True)
    else:
        building.rename(folder)


def cache_home() -> Path:
    """``$XDG_CACHE_HOME/aisp-trace``, by default ``~/.cache/aisp-trace``; raises `RuntimeError` for a user without a home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aisp-trace"


def _folders(path: Path) -> list[Path]:
    """Where a copy may lie: beside the trace, then in the user's cache folder."""
    beside = path.with_name(path.name + CACHE_SUFFIX)
    word = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    return [beside, cache_home() / (word + CACHE_SUFFIX)]


def _sample(path: Path) -> str:
    """A hash of `SAMPLES` pieces spread evenly over the file, first and last included (all of a small file)."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        if size <= SAMPLES * SAMPLE_BYTES:
            digest.update(file.read())
        else:
            for i in range(SAMPLES):
                file.seek((size - SAMPLE_BYTES) * i // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
