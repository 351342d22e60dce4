"""One command line in this process, and its answer without what depends on the machine, the day or the wording.

Floats are kept to the last bit, as the shortest text that reads back as the same number; docs/contracts.md says why that holds
with numba and without, on one thread or many, and on another processor.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from aisp_trace.cli.main import main

from .calls import OUT

ROOT: Final = Path(__file__).resolve().parents[2]

SENTENCES: Final = frozenset({"reason", "reasons", "text", "notes", "objections", "why", "remarks"})
"""Keys whose values are written for people. Their wording is free, so only the figures in them are kept."""

_FIGURE: Final = re.compile(r"\d+(?:[.,]\d+)*")

Json = dict[str, Any]


def answer(words: Sequence[str], folder: Path) -> Json:
    """What ``aisp-trace`` answers to `words` in `folder`: ``{exit_code, document}``, of an export ``{exit_code, files}``.

    A refusal (exit code 2) has no document: its sentence may change. Raises `AssertionError` for a bug (70) or another exit
    code without a document.
    """
    with tempfile.TemporaryDirectory() as scratch:
        places = {str(ROOT): "<repository>", str(folder): "<folder>", scratch: "<scratch>"}
        if words[0] == "export":
            code, _, said = _run([w.replace(OUT, f"{scratch}/{OUT}") for w in words], folder)
            assert code in (0, 2), said
            files = {} if code else dict(_files(Path(scratch), places))
            return {"exit_code": code, "files": files}
        code, printed, said = _run([*words, "--json"], folder)
        assert (code in (0, 1, 3) and printed) or code == 2, said
        return {"exit_code": code, "document": _portable(json.loads(printed), places) if printed else None}


def portable(value: Any) -> Any:
    """`value` (plain JSON) as it is kept: keys in order, sentences as their figures."""
    return _portable(value, {})


def _run(words: Sequence[str], folder: Path) -> tuple[int, str, str]:
    printed, said = io.StringIO(), io.StringIO()
    summary = os.environ.pop("GITHUB_STEP_SUMMARY", None)  # `check` would append to it
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            code = main(list(words))
    finally:
        if summary is not None:
            os.environ["GITHUB_STEP_SUMMARY"] = summary
    return code, printed.getvalue(), said.getvalue()


def _portable(value: Any, places: Mapping[str, str], sentence: bool = False) -> Any:
    if isinstance(value, dict):
        return {key: _portable(value[key], places, sentence or _told(key, value[key])) for key in sorted(value)}
    if isinstance(value, list):
        return [_portable(item, places, sentence) for item in value]
    if isinstance(value, str):
        return " ".join(["figures:", *_FIGURE.findall(value)]) if sentence and value else _placed(value, places)
    return value


def _told(key: str, value: Any) -> bool:
    """Whether a key holds sentences; a `why` that is an object (`compare`) has keys of its own."""
    return key in SENTENCES and not (key == "why" and isinstance(value, dict))


def _placed(text: str, places: Mapping[str, str]) -> str:
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, places[place])
    return text


def _files(folder: Path, places: Mapping[str, str]) -> list[tuple[str, Any]]:
    """Each file below `folder` by its path, with what is kept of it."""
    found = []
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        keep = _KEEP.get(file.suffix, _bytes)
        found.append((file.relative_to(folder).as_posix(), _portable(keep(file), places)))
    return found


def _bytes(file: Path) -> Json:
    content = file.read_bytes()
    return {"bytes": len(content), "sha256": _digest(content)}


def _parquet(file: Path) -> list[Json]:
    """One row a column: what a difference is seen by. The file's own bytes would change with the library that writes them."""
    return [
        _column(c.name, str(c.dtype.base_type()), c.to_list(), sum(c.drop_nulls()) if c.dtype.is_integer() else None)
        for c in pl.read_parquet(file).get_columns()
    ]


def _csv(file: Path) -> Json:
    """The bytes, and one row a column as a spreadsheet reads it."""
    with file.open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in header]
    read = [_column(name, "text", texts, _sum(texts)) for name, texts in zip(header, columns, strict=True)]
    return {**_bytes(file), "columns": read}


def _column(name: str, dtype: str, values: list[Any], total: int | None) -> Json:
    empty = sum(value in (None, "") for value in values)
    digest = _digest(json.dumps(values).encode())
    return {"column": name, "dtype": dtype, "rows": len(values), "empty": empty, "sum": total, "sha256": digest}


def _sum(texts: list[str]) -> int | None:
    try:
        return sum(int(text) for text in texts if text)
    except ValueError:
        return None


def _json(file: Path) -> Any:
    """The description of an export whole; of an analysis, which is kept elsewhere already, the digest."""
    document = json.loads(file.read_text(encoding="utf-8"))
    if document["schema"].startswith("aisp-trace/export/"):
        return document
    return {"schema": document["schema"], "sha256": _digest(json.dumps(portable(document)).encode())}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


_KEEP: Final[Mapping[str, Callable[[Path], Any]]] = {".parquet": _parquet, ".csv": _csv, ".json": _json}
