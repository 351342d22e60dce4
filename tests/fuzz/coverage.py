"""Inputs that are chosen by the code they reach: ``python -P -m aisp_trace.tests.fuzz.coverage TARGET -runs=100000``.

TARGET is ``json`` (the door for JSON, `traces.documents`), ``torch`` (events of a torch.profiler trace,
`traces.kineto.document`) or ``pages`` (integers out of SQLite's pages, `traces.nsys.pages`). The rest is for libFuzzer, which
atheris (the extra `fuzz`) brings:
``-max_total_time=60``, or the file of an input that failed. The decoder of the page's timelines has its own, ``page_decoder.js``.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final

os.environ["NUMBA_DISABLE_JIT"] = "1"  # compiled code shows nobody which of its branches were taken
os.environ["POLARS_MAX_THREADS"] = "1"

import atheris

with atheris.instrument_imports(include=["aisp_trace.traces"]):
    from aisp_trace.traces import documents, engine
    from aisp_trace.traces.errors import InputError
    from aisp_trace.traces.kineto import columns, document
    from aisp_trace.traces.nsys import compiled, pages, source  # noqa: F401 (`engine` imports the first later)

import polars as pl

KIND: Final = documents.Kind("a document", 1 << 20, "correct it")
PLACE: Final = Path("/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir())
FILE: Final = PLACE / f"aisp-fuzz-{os.getpid()}"


def _twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def json_door(data: bytes) -> None:
    """The door takes nothing that Python's own parser refuses, what both take is the same, and it fails with one sentence."""
    try:
        found = documents.parse(data, KIND, "here")
    except InputError as error:
        assert len(error.args) == 1 and "\n" not in str(error) and len(str(error)) < 500, error
        return
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    assert found == json.loads(text, object_pairs_hook=_twice)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def torch(data: bytes) -> None:
    """The reader fails with one sentence alone; of a plain document it gives every event, whatever the windows it reads in."""
    FILE.write_bytes(data)
    read = []
    for widest in (document._WIDEST, 64):
        one = document.Document(FILE, Path("trace.json"))
        one._width = widest
        try:
            read.append([event for batch in one.batches() for event in batch])
        except InputError as error:
            assert len(error.args) == 1 and "\n" not in str(error), error
            read.append([])
    try:
        whole = json.loads(
            data.removeprefix(b"\xef\xbb\xbf").decode("utf-8"), object_pairs_hook=_twice, parse_constant=_refuse
        )
        listed = whole if isinstance(whole, list) else whole["traceEvents"]
        plain = [event for event in listed if event.get("ph") not in ("B", "E")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return
    if read[0]:
        names = [(columns.label(e.ph), columns.label(e.name)) for e in read[0] if e.ph not in ("B", "E")]
        assert len(names) >= len(plain), (len(names), len(plain))
        assert len(read[0]) == len(read[1])


def _refuse(name: str) -> Any:
    raise ValueError(name)


TYPES: Final = {"start": pl.Int64, "deviceId": pl.Int32, "correlationId": pl.UInt32}


def sqlite_pages(data: bytes) -> None:
    """The decoder gives what SQLite gives, or leaves the table to SQLite."""
    FILE.write_bytes(data)
    engine._turned = True
    try:
        with source.Source(FILE) as opened:
            if "x" not in opened.tables or not opened.tables["x"].keys() >= TYPES.keys():
                return
            bounds = opened.rowid_bounds("x")
            if bounds is None or bounds[1] < bounds[0]:
                return  # as the caller has it, which asks for `columns.ADBC_ROWS` rows at least
            frame = pages.page_columns(opened, "x", list(TYPES), TYPES, bounds)
            if frame is None:
                return
            rows = opened.db.execute("SELECT start, deviceId, correlationId FROM x").fetchall()
            if opened.db.execute("PRAGMA integrity_check").fetchone() == ("ok",):
                assert sorted(frame.rows(), key=repr) == sorted(rows, key=repr)
    except (InputError, sqlite3.DatabaseError):
        return  # the caller of `page_columns` makes one sentence of the latter (`Source.guard`)


def _export(rng: Random) -> bytes:
    """A small table that the decoder takes, with its neighbours."""
    FILE.unlink(missing_ok=True)
    with closing(sqlite3.connect(FILE)) as db:
        db.execute("PRAGMA page_size=512")
        db.execute("CREATE TABLE x (start INT, name TEXT, deviceId INT, correlationId INT)")
        db.execute("CREATE TABLE y (z)")
        for i in range(rng.choice((3, 60, 200))):
            row = (i * rng.choice((1, 10**9)), "n" * rng.randrange(20), rng.choice((0, 1, None)), rng.randrange(2**32))
            db.execute("INSERT INTO x VALUES (?, ?, ?, ?)", row)
            db.execute("INSERT INTO y VALUES (?)", ("filling" * rng.randrange(9),))
        db.commit()
    return FILE.read_bytes()


def _first(target: str) -> list[bytes]:
    """What the search begins with."""
    if target == "pages":
        return [_export(Random(number)) for number in range(8)]
    cases = Path(__file__).resolve().parents[1] / "cases" / "kineto"
    small = [file.read_bytes() for file in sorted(cases.glob("*.json")) if file.stat().st_size < 4_000]
    return [*small, b'{"a": [1, -2.5e3, "\\u00e9\\ud83d\\ude00", null, true]}', b"\xef\xbb\xbf[]"]


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {"json": json_door, "torch": torch, "pages": sqlite_pages}


def main() -> None:
    """Search from small good inputs; libFuzzer ends the process."""
    target, *options = sys.argv[1:] or ["none"]
    if target not in TARGETS:
        sys.exit(f"give one of {', '.join(TARGETS)}")
    if not any(Path(option).exists() for option in options):
        corpus = Path(tempfile.mkdtemp(prefix=f"aisp-fuzz-{target}-"))
        for number, data in enumerate(_first(target)):
            (corpus / f"first_{number}").write_bytes(data)
        options.append(str(corpus))
    atheris.Setup([sys.argv[0], "-max_len=16384", "-rss_limit_mb=3000", "-timeout=20", *options], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
