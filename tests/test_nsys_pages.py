"""Integers decoded from SQLite's pages: the same as SQLite's own answer, or none at all."""

from __future__ import annotations

import lzma
import random
import shutil
import sqlite3
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.tests.examples import examples
from aisp_trace.tests.optional import force, needs_numba
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.nsys import pages as nsys_pages
from aisp_trace.traces.nsys.columns import integers
from aisp_trace.traces.nsys.pages import page_columns
from aisp_trace.traces.nsys.read import _COLUMNS
from aisp_trace.traces.nsys.source import Source, quoted

SAMPLES = sorted((Path(__file__).parents[1] / "traces" / "samples").glob("*.sqlite.xz"))

Rows = Sequence[tuple[object, ...]]

TYPES: Mapping[str, Any] = {"a": pl.Int64, "b": pl.Int32, "c": pl.Int64}


def by_sqlite(path: Path, table: str, columns: list[str]) -> Rows:
    with sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as db:
        return db.execute(f"SELECT {', '.join(map(quoted, columns))} FROM {quoted(table)}").fetchall()


def decoded(path: Path, table: str, types: Mapping[str, Any]) -> Rows | None:
    with Source(path) as source:
        bounds = source.rowid_bounds(table)
        frame = None if bounds is None else page_columns(source, table, list(types), types, bounds)
    if frame is not None:
        assert frame.schema == pl.Schema(types)
    return None if frame is None else frame.rows()


def write(path: Path, rows: Rows, *, page_size: int = 4096, declared: str = "a INT, t TEXT, b INT, c INT") -> None:
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA page_size={page_size}")
        db.execute(f"CREATE TABLE x ({declared})")
        db.execute("CREATE TABLE y (z)")
        for at in range(0, len(rows), 50):
            part = rows[at : at + 50]
            db.executemany(f"INSERT INTO x VALUES ({','.join('?' * len(part[0]))})", part)
            db.execute("INSERT INTO y VALUES (?)", ("filling " * 200,))
    db.close()


@needs_numba
@pytest.mark.parametrize("packed", SAMPLES, ids=lambda p: p.name)
def test_every_table_of_every_sample_is_read_alike(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace.sqlite"
    with lzma.open(packed) as raw, path.open("wb") as out:
        shutil.copyfileobj(raw, out)
    agreed = 0
    with Source(path) as source:
        for table, types in _COLUMNS.items():
            bounds = source.rowid_bounds(table) if table in source.tables else None
            if bounds is None:
                continue
            present = [c for c in types if c == "rowid" or c in source.tables[table]]
            frame = page_columns(source, table, present, types, bounds)
            if frame is not None:
                assert frame.rows() == by_sqlite(path, table, present), table
                agreed += frame.height
    assert agreed > 1_000


cells = st.one_of(
    st.none(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.sampled_from([0, 1, -1, 127, -128, 32767, -32768, 2**23, -(2**23) - 1, 2**31, 2**47 - 1, -(2**47), 2**48]),
)
small = st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1))


@needs_numba
@settings(max_examples=examples(60))
@given(
    rows=st.lists(st.tuples(cells, st.text(max_size=150) | st.none(), small, cells), min_size=1, max_size=60),
    page_size=st.sampled_from([512, 1024, 4096, 65536]),
    repeat=st.integers(1, 12),
)
def test_any_integers_beside_text_are_read_alike(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, page_size: int, repeat: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.sqlite"
    write(path, [*rows] * repeat, page_size=page_size)
    found = decoded(path, "x", TYPES)
    expected = [(a, b, c) for a, _, b, c in [*rows] * repeat]
    widest = max(len(str(t or "").encode()) for _, t, _, _ in rows)
    if widest + 40 < page_size - 35:
        assert found == expected
    else:
        assert found in (None, expected)  # rows that continue on another page


PLAIN = [(i * 10**9, "name", i % 7, None if i % 3 else -i) for i in range(3_000)]


@needs_numba
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM x WHERE rowid = 500",
        "UPDATE x SET b = 'text' WHERE rowid = 700",
        "UPDATE x SET a = 1.5 WHERE rowid = 700",
        "UPDATE x SET b = 3000000000 WHERE rowid = 700",
        "UPDATE x SET t = hex(zeroblob(5000)) WHERE rowid = 700",
        "INSERT INTO x (rowid, a) VALUES (900000, 1)",
        "PRAGMA journal_mode=WAL",
    ],
)
def test_what_is_not_plain_is_left_to_sqlite(tmp_path: Path, change: str) -> None:
    path = tmp_path / "x.sqlite"
    write(path, PLAIN)
    assert decoded(path, "x", TYPES) == [(a, b, c) for a, _, b, c in PLAIN]
    with sqlite3.connect(path) as db:
        db.execute(change)
    db.close()
    assert decoded(path, "x", TYPES) is None


@needs_numba
@pytest.mark.parametrize(
    "declared", ["a INTEGER PRIMARY KEY, t, b, c", "a, t, b, c, g AS (a + 1)", "a PRIMARY KEY, t, b, c", "a, t, b"]
)
def test_keys_generated_and_later_columns_are_left_to_sqlite(tmp_path: Path, declared: str) -> None:
    path = tmp_path / "x.sqlite"
    columns = [r[: 3 if declared == "a, t, b" else 4] for r in PLAIN[1:]]
    write(path, [(*r[:1], *r[1:]) for r in columns], declared=declared)
    if declared == "a, t, b":
        with sqlite3.connect(path) as db:
            db.execute("ALTER TABLE x ADD COLUMN c INT DEFAULT 5")
        db.close()
    assert decoded(path, "x", TYPES) is None


@needs_numba
def test_an_updated_table_in_its_new_order_is_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    write(path, PLAIN)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE x SET t = 'a longer name than before, so that pages split' WHERE rowid % 5 = 0")
    db.close()
    assert decoded(path, "x", TYPES) == [(a, b, c) for a, _, b, c in PLAIN]


@needs_numba
def test_damage_is_never_believed_where_sqlite_refuses_and_never_differs_where_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    write(path, PLAIN, page_size=512)
    whole = path.read_bytes()
    rng = random.Random(20)
    believed = refused = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 4])):
            at = rng.randrange(512, len(data))
            if rng.random() < 0.5:  # page headers and pointers are where damage does most
                at = at // 512 * 512 + rng.randrange(0, 40)
            data[at] = rng.randrange(256)
        path.write_bytes(data)
        try:
            answer = decoded(path, "x", TYPES)
        except (InputError, sqlite3.Error):
            continue
        try:
            expected = by_sqlite(path, "x", list(TYPES))
        except (sqlite3.Error, OverflowError):
            refused += 1
            assert answer is None
            continue
        if answer is not None:
            believed += 1
            assert answer == expected
    assert believed > 50
    assert refused > 20


@needs_numba
def test_no_offset_leaves_the_buffer(tmp_path: Path) -> None:
    """The decoder, interpreted: numpy raises where compiled code would read on."""
    from aisp_trace.traces.nsys import compiled as fast

    rng = np.random.default_rng(7)
    wanted = np.array([0, 2, 3], np.int64)
    path = tmp_path / "x.sqlite"
    write(path, PLAIN[:60], page_size=512)
    with sqlite3.connect(path) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'x'").fetchone()[0]
    db.close()
    image = np.frombuffer(path.read_bytes(), np.uint8)
    leaves = [p for p in range(1, len(image) // 512) if image[p * 512] == fast.LEAF]
    assert root and leaves
    for _ in range(300):
        page = np.concatenate([image[(at := 512 * int(rng.choice(leaves))) : at + 512], np.zeros(fast.PAD, np.uint8)])
        for _ in range(rng.integers(1, 6)):
            page[rng.integers(3, 512)] = rng.integers(256)
        out = np.empty((3, 300), np.int64)
        bits, nulls = np.zeros(3, np.int64), np.zeros(3, np.int64)
        done = np.zeros(2, np.int64)
        status = fast.rows.py_func(page, np.array([0]), 512, 1, wanted, out, bits, nulls, done)
        used, rows = done.tolist()
        assert status in (fast.DONE, fast.STRANGE) and used <= 1 and rows <= 300


@needs_numba
@pytest.mark.parametrize("odd", [None, 0, 2**32 - 1, 2**32, -1, -(2**40), 2**63 - 1])
def test_numbers_of_32_bits_without_sign_are_left_to_sqlite_if_one_does_not_fit(
    tmp_path: Path, odd: int | None
) -> None:
    path = tmp_path / "x.sqlite"
    write(path, [(i, "t", i, odd if i == 300 else i) for i in range(600)])
    found = decoded(path, "x", {"a": pl.Int64, "c": pl.UInt32})
    if odd is None or 0 <= odd < 2**32:
        assert found == by_sqlite(path, "x", ["a", "c"])
    else:
        assert found is None
    with Source(path) as source:
        column = integers(source, "x", {"c": pl.UInt32}).get_column("c")
    assert column.dtype == (pl.UInt32 if found else pl.Int64)
    assert column[300] == odd


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, compiled=True)


def test_a_missing_decoder_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.sqlite"
    write(path, PLAIN)
    monkeypatch.setattr(nsys_pages, "DECODER", "aisp_trace.traces.absent")
    assert decoded(path, "x", TYPES) is None


def test_two_threads_that_meet_their_first_nulls_together_note_them_in_one_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody: Any = None
    table = nsys_pages._Table(nobody, nobody, [0], [pl.Int64], (1, 10))
    zeros = np.zeros

    def slow(*args: Any) -> Any:
        time.sleep(0.05)
        return zeros(*args)

    monkeypatch.setattr(np, "zeros", slow)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(table._nulls, (0, 0))
    assert one is other is table.absent[0]
