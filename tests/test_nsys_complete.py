"""All rows of a table or an error: whichever way a table is read, and whatever is wrong with the file or with the driver.

page   1      2          3 ... n
       schema root of x  leaves of x, some rows each
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import adbc_driver_manager
import polars as pl
import pytest

from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.optional import force, needs_numba
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.nsys import columns as nsys_columns
from aisp_trace.traces.nsys import read as nsys
from aisp_trace.traces.nsys.read import read_nsys
from aisp_trace.traces.nsys.schema import EVENT_TABLES
from aisp_trace.traces.nsys.source import Source
from aisp_trace.traces.scrub.nsys import scrub_sqlite

PAGE = 512
ROWS = 3_000
TYPES: Mapping[str, Any] = {"a": pl.Int64, "b": pl.Int32, "c": pl.Int64}

WAYS = ("sqlite3", "adbc", pytest.param("pages", marks=needs_numba))


def only(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read every table in this one way."""
    monkeypatch.setattr(nsys_columns, "ADBC_ROWS", 10**9 if way == "sqlite3" else 1)
    force(monkeypatch, compiled=way == "pages")


def table(path: Path, rows: int = ROWS, declared: str = "a INTEGER, b INTEGER, c INTEGER") -> Path:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"PRAGMA page_size={PAGE}")
        db.execute(f"CREATE TABLE x ({declared})")
        db.executemany(
            "INSERT INTO x VALUES (?, ?, ?)", [(i * 1_000_003, i % 7, None if i % 3 else i) for i in range(rows)]
        )
    return path


def read(path: Path, types: Mapping[str, Any] = TYPES) -> tuple[pl.DataFrame, int]:
    with Source(path) as source:
        frame = nsys_columns.integers(source, "x", types)
        assert source.reads["x"] == (frame.height, frame.height)
        return frame, source.foreign_cells


def with_page(path: Path, number: int, change: Callable[[bytearray], None]) -> Path:
    """A copy of the file with a change to one page (the first is 1)."""
    data = bytearray(path.read_bytes())
    page = data[(number - 1) * PAGE : number * PAGE]
    change(page)
    data[(number - 1) * PAGE : number * PAGE] = page
    copy = path.with_suffix(".damaged")
    copy.write_bytes(data)
    return copy


def leaves(path: Path) -> list[int]:
    data = path.read_bytes()
    return [n for n in range(2, len(data) // PAGE + 1) if data[(n - 1) * PAGE] == 0x0D]


def lose_half_the_pointers(page: bytearray) -> None:
    cells = int.from_bytes(page[3:5], "big")
    for k in range(cells // 2):
        page[8 + 2 * k : 10 + 2 * k] = b"\xff\xff"


def test_a_damaged_table_is_refused_by_the_driver_that_drops_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty tries: the driver drops SQLITE_CORRUPT about every second time, and some tries would pass by luck."""
    only("adbc", monkeypatch)
    path = table(tmp_path / "t.sqlite")
    damaged = with_page(path, leaves(path)[70], lose_half_the_pointers)
    for _ in range(20):
        with pytest.raises(InputError, match=r"damaged"):
            read(damaged)


def test_rows_that_the_driver_keeps_back_are_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only("adbc", monkeypatch)
    path = table(tmp_path / "t.sqlite")
    whole = adbc_driver_manager.AdbcStatement.execute_query

    class Short(adbc_driver_manager.AdbcStatement):  # type: ignore[misc]
        def execute_query(self) -> Any:
            stream, rows = whole(self)
            return pl.DataFrame(stream).head(2_000).to_arrow(), rows

    monkeypatch.setattr(adbc_driver_manager, "AdbcStatement", Short)
    with pytest.raises(InputError, match=r"table x is damaged \(2,000 of 3,000 rows could be read\); export it again"):
        read(path)


def test_rows_that_any_reader_keeps_back_are_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = NsysExport().kernel(1, 2, "k").range(1, 9, "r").write(tmp_path / "t.sqlite")
    whole = Source.rows

    def short(self: Source, sql: str, *more: Any) -> Any:
        rows = whole(self, sql, *more)
        return rows if "count(*)" in sql or "sqlite_master" in sql or "PRAGMA" in sql else rows[:-1]

    monkeypatch.setattr(Source, "rows", short)
    with pytest.raises(InputError, match=r"0 of 1 rows could be read|of 2 rows could be read"):
        read_nsys(path)


def test_every_table_says_how_many_rows_were_expected_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = NsysExport().kernel(1, 2, "k").call(1, 2, "cudaLaunchKernel").range(1, 9, "r").range(2, 3, "s")
    export.add("DIAGNOSTIC_EVENT", timestamp=1, severity=2, text="x").add("PROCESSES", globalPid=1, pid=1, name="p")
    export.add("TARGET_INFO_GPU", vmId=0, id=0, name="GPU", smCount=1)
    path = export.write(tmp_path / "t.sqlite")
    sources: list[Source] = []

    class Kept(Source):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            sources.append(self)

    monkeypatch.setattr(nsys, "Source", Kept)
    read_nsys(path)
    with closing(sqlite3.connect(path)) as db:
        held = {t: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in sources[0].reads}
    assert sources[0].reads == {t: (n, n) for t, n in held.items()}
    known = {
        t for t in sources[0].tables if t in EVENT_TABLES or t in ("DIAGNOSTIC_EVENT", "PROCESSES", "TARGET_INFO_GPU")
    }
    assert known <= set(held)


@pytest.mark.parametrize("way", WAYS)
def test_a_flipped_byte_loses_no_row_unnoticed(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are not protected, since SQLite keeps no checksums; rows are, but those of the last page (docs/decisions.md)."""
    only(way, monkeypatch)
    path = table(tmp_path / "t.sqlite")
    good, _ = read(path)
    last, rng = leaves(path)[-1], random.Random(20)
    refused = 0
    for _ in range(80):
        number = rng.choice([n for n in range(2, path.stat().st_size // PAGE + 1) if n != last])
        at, bit = rng.randrange(12 if rng.random() < 0.7 else PAGE), 1 << rng.randrange(8)

        def flip(page: bytearray, at: int = at, bit: int = bit) -> None:
            page[at] ^= bit

        try:
            found, _ = read(with_page(path, number, flip))
        except InputError:
            refused += 1
        else:
            assert found.height == good.height, (number, at, bit)
    assert refused > 10


@pytest.mark.parametrize("way", WAYS)
def test_lost_pages_are_noticed(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interior page that forgot a child still counts and reads alike: the gap in the row ids tells."""
    only(way, monkeypatch)
    path = table(tmp_path / "t.sqlite")

    def forget(page: bytearray) -> None:
        page[3:5] = (int.from_bytes(page[3:5], "big") - 1).to_bytes(2, "big")

    data = path.read_bytes()
    interior = [n for n in range(2, len(data) // PAGE + 1) if data[(n - 1) * PAGE] == 0x05]
    for number in interior:
        with pytest.raises(InputError, match="damaged"):
            read(with_page(path, number, forget))


@pytest.mark.parametrize("way", WAYS)
def test_deleted_rows_are_no_damage(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(way, monkeypatch)
    path = table(tmp_path / "t.sqlite")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM x WHERE rowid % 10 = 3")
    assert read(path)[0].height == ROWS * 9 // 10


# ---------------------------------------------------------------------------------------------- one cell, every way

CELLS = (5, -5, 2**40, 0, None, 5.0, -7.0, 2.0**52, 2.0**53, 2.0**60, 1.5, 1e300, -0.0, "5", "5.0", "text", b"\x05")
DECLARED = ("INTEGER", "BIGINT", "REAL", "DOUBLE", "FLOAT", "TEXT", "VARCHAR(9)", "BLOB", "", "NUMERIC", "BOOLEAN")


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("declared", DECLARED)
@pytest.mark.parametrize("row", [1, 450])
def test_a_cell_is_the_same_however_it_is_declared_and_read(
    declared: str, way: str, row: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One odd cell in the first and in a later batch of the driver's, which guesses a column's type from its first one."""
    path = table(tmp_path / "t.sqlite", 500, f"a {declared}, b INTEGER, c INTEGER")
    for cell in CELLS:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE x SET a = ? WHERE rowid = ?", (cell, row))
        with monkeypatch.context() as patch:
            only(way, patch)
            patch.setattr(nsys_columns, "_BATCH_ROWS", "100")
            found = read(path)
        with monkeypatch.context() as patch:
            only("sqlite3", patch)
            expected = read(path)
        assert found[0].equals(expected[0]), (cell, declared)
        assert found[1] == expected[1], (cell, declared)


@pytest.mark.parametrize(
    ("declared", "cell", "value"),
    [
        ("INTEGER", 5.0, 5),
        ("REAL", 5, 5),
        ("REAL", 2**53, 2**53),
        ("REAL", 2**60, None),
        ("REAL", 1.5, None),
        ("TEXT", 5, None),
        ("NUMERIC", "5", 5),
        ("BLOB", 5, 5),
        ("BLOB", 5.0, 5),
        ("INTEGER", b"\x05", None),
    ],
)
def test_what_a_cell_is(declared: str, cell: object, value: int | None, tmp_path: Path) -> None:
    path = table(tmp_path / "t.sqlite", 3, f"a {declared}, b INTEGER, c INTEGER")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE x SET a = ?", (cell,))
    frame, foreign = read(path)
    assert frame.get_column("a").to_list() == [value] * 3
    assert foreign == (3 if value is None else 0)


# ------------------------------------------------------------------------------------------------ what comes of it


def damaged_export(path: Path) -> Path:
    export = NsysExport()
    for i in range(ROWS):
        export.kernel(10 * i, 10 * i + 5, f"k{i % 3}")
    whole = export.write(path.with_suffix(".whole"))
    data = bytearray(whole.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    with closing(sqlite3.connect(f"file:{whole}?immutable=1", uri=True)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'CUPTI_ACTIVITY_KIND_KERNEL'").fetchone()
    at = (root - 1) * size
    middle = int.from_bytes(data[at + 3 : at + 5], "big") // 2
    cell = at + int.from_bytes(data[at + 12 + 2 * middle : at + 14 + 2 * middle], "big")
    leaf = int.from_bytes(data[cell : cell + 4], "big")
    page = data[(leaf - 1) * size : leaf * size]
    assert page[0] == 0x0D
    lose_half_the_pointers(page)
    data[(leaf - 1) * size : leaf * size] = page
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("way", WAYS)
def test_no_trace_is_made_of_a_damaged_table(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(way, monkeypatch)
    path = damaged_export(tmp_path / "t.sqlite")
    for _ in range(20 if way == "adbc" else 1):
        with pytest.raises(InputError, match="damaged"):
            nsys.read_nsys(path)


def test_no_scrubbed_copy_is_made_of_a_damaged_table(tmp_path: Path) -> None:
    path = damaged_export(tmp_path / "t.sqlite")
    with pytest.raises(InputError, match="damaged"):
        scrub_sqlite(path, tmp_path / "out.sqlite")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.sqlite", "t.whole"]


def test_a_string_that_a_search_does_not_find_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged interior page can send a search to the wrong leaf; the names are all there."""
    path = NsysExport().kernel(1, 2, "k").write(tmp_path / "t.sqlite")
    whole = Source.rows

    def lost(self: Source, sql: str, *more: Any) -> Any:
        return [] if " WHERE id IN " in sql else whole(self, sql, *more)

    monkeypatch.setattr(Source, "rows", lost)
    assert read_nsys(path).ops.get_column("name").to_list() == ["k"]
