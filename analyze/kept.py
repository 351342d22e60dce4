"""Analyses kept from an earlier look, so that a second look at a trace costs what a small one does.

    <cache home>/aisp-trace/analyses/<hash of the trace's path>-<hash of the key>.zip
        key.json         what the analysis was made of, and its facts that are not tables
        ledger.arrow ... one member a table

An analysis is used only if its key is exactly that of now: the trace's content as `traces.store` identifies it, the options, the
calibration that applies, and the code that computed it. Anything else, damage included, means there is none.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import polars as pl

from ..traces.documents import CACHE_KEY, parse
from ..traces.errors import InputError
from ..traces.model import Meta
from ..traces.output import replacing
from ..traces.panics import contained
from ..traces.store import cache_home
from .result import Analysis, Choices
from .steady import Steady

LEAST_BYTES: Final = 1 << 20
"""Analyses of smaller traces are not kept: reading them again takes no longer than looking them up."""

MOST_BYTES: Final = 256 << 20
"""The folder holds so much; what was used longest ago goes first."""

FORMAT: Final = 2
"""Raised whenever this layout changes."""

MOST_TABLE_BYTES: Final = 1 << 30
"""Of the tables of one analysis; those of a million kernels take some 20 MB."""

CODE: Final = ("analyze", "traces")
"""The folders whose code decides what an analysis says."""

Applies = Callable[[Sequence[str]], Any]
"""Given the hardware keys of a trace, a word for the calibration that applies to it."""


def load(trace: Path, asked: Mapping[str, Any], applies: Applies) -> Analysis | None:
    """The analysis of `trace` that was kept under `asked`, or null if none is, or the calibration has changed since."""
    try:
        file = _file(trace, asked)
        with zipfile.ZipFile(file) as kept:
            if sum(one.file_size for one in kept.infolist()) > MOST_TABLE_BYTES:
                return None
            said = parse(kept.read("key.json"), CACHE_KEY, str(file))
            if said["asked"] != _words(asked) or said["calibration"] != applies(said["hardware_keys"]):
                return None
            with contained():
                found = {n: pl.read_ipc(io.BytesIO(kept.read(f"{n}.arrow"))) for n in said["tables"]}
        os.utime(file)
        return _analysis(said, found)
    except (
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        InputError,
        zipfile.BadZipFile,
        pl.exceptions.PolarsError,
    ):
        return None  # absent, or damaged: as good as absent


def save(
    trace: Path, asked: Mapping[str, Any], analysis: Analysis, hardware_keys: Sequence[str], applies: Applies
) -> None:
    """Keep `analysis` under `asked`; where it cannot be written, nothing is kept. Never raises for a full disk."""
    tables = analysis.tables()
    said = {
        "asked": _words(asked),
        "hardware_keys": list(hardware_keys),
        "calibration": applies(hardware_keys),
        "tables": list(tables),
        "variant": analysis.variant,
        "meta": asdict(analysis.meta),
        "choices": asdict(analysis.choices),
        "steady": None if analysis.steady is None else asdict(analysis.steady),
        "first_op_ns": analysis.first_op_ns,
    }
    try:
        file = _file(trace, asked)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as building, zipfile.ZipFile(building, "w") as kept:
            for name, table in tables.items():
                content = io.BytesIO()
                table.write_ipc(content, compression="zstd")
                kept.writestr(f"{name}.arrow", content.getvalue())
            kept.writestr("key.json", json.dumps(said))
        _forget(file.parent, keep=file)
    except (OSError, RuntimeError, InputError):
        return


def _analysis(said: Mapping[str, Any], tables: Mapping[str, pl.DataFrame]) -> Analysis:
    meta, choices = said["meta"], said["choices"]
    window = choices["window"]
    return Analysis.of(
        tables,
        variant=said["variant"],
        meta=replace(Meta(**meta), tables=tuple(meta["tables"])),
        choices=replace(Choices(**choices), window=tuple(window) if isinstance(window, list) else window),
        steady=None if said["steady"] is None else Steady.of(said["steady"]),
        first_op_ns=said["first_op_ns"],
    )


def _words(asked: Mapping[str, Any]) -> str:
    return json.dumps(asked, sort_keys=True)


def _file(trace: Path, asked: Mapping[str, Any]) -> Path:
    place = hashlib.sha256(os.fsencode(trace.resolve())).hexdigest()[:16]
    words = hashlib.sha256(f"{_words(asked)} {FORMAT} {_code()}".encode()).hexdigest()[:16]
    return cache_home() / "analyses" / f"{place}-{words}.zip"


@lru_cache(maxsize=1)
def _code() -> str:
    """A hash of the names, sizes and times of the files of `CODE`, which a change of any of them changes."""
    root = Path(__file__).resolve().parents[1]
    files = sorted(file for folder in CODE for file in (root / folder).rglob("*.py"))
    stats = [(file.relative_to(root).as_posix(), s.st_size, s.st_mtime_ns) for file in files for s in [file.stat()]]
    return hashlib.sha256(json.dumps([stats, pl.__version__]).encode()).hexdigest()


def _forget(folder: Path, keep: Path) -> None:
    """Delete what was used longest ago, beyond `MOST_BYTES`."""
    files = sorted(
        ((f.stat().st_mtime_ns, f.stat().st_size, f) for f in folder.glob("*.zip") if f != keep), reverse=True
    )
    total = keep.stat().st_size
    for _, size, file in files:
        total += size
        if total > MOST_BYTES:
            file.unlink(missing_ok=True)
