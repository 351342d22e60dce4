"""An untrusted SQLite file, read without running anything that is in it.

`Source` opens a database read-only, immutable and with ``trusted_schema=OFF``; it answers for real tables only
(views, triggers and virtual tables are never touched) and for stored columns only. Whole columns of numbers are read
by ``nsys.columns``; this module needs the standard library alone, so that a GPU host can scrub what it recorded.

No read may come up short: every read of a whole table ends in `Source.require_all`, which compares the rows it got with
a count made apart from it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

from ..errors import InputError

SQLITE_MAGIC: Final = b"SQLite format 3\x00"

PRAGMAS: Final = (
    "PRAGMA trusted_schema=OFF",
    "PRAGMA ignore_check_constraints=ON",  # a check of a table's pages would evaluate them
    "PRAGMA cell_size_check=ON",  # a row's place outside its page is damage, not a row
)
"""What every connection to an untrusted file begins with."""

_PARAMETERS: Final = 500
_LOOKUPS: Final = 20_000  # more strings than this are found faster by reading them all


class Source:
    """An open SQLite file. Use as a context manager.

    `tables` maps each real table to its columns and their declared types, `uri` and `db` are the way in, `foreign_cells`
    counts cells that held something else than a number where one belongs, and `reads` maps each table that was read
    whole to (rows expected, rows read).

    Raises `InputError` when the file is missing, is not a SQLite database, or is shorter than its header says.
    Every method raises `InputError` if the database turns out to be corrupt.

    A long class because a hostile file is opened, asked and counted in one place, where every error of SQLite is caught.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.foreign_cells = 0
        self.reads: dict[str, tuple[int, int]] = {}
        check_header(path)
        self.uri = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
        self.db: sqlite3.Connection = self.guard(lambda: sqlite3.connect(self.uri, uri=True, isolation_level=None))
        for pragma in PRAGMAS:
            self.db.execute(pragma)
        self.tables: Mapping[str, Mapping[str, str]] = self.guard(self._list_tables)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.db.close()

    def has(self, table: str, *columns: str) -> bool:
        """Whether real table `table` exists and stores all of `columns`."""
        return table in self.tables and all(c in self.tables[table] for c in columns)

    def texts(self, table: str, key: str, column: str) -> dict[int, str]:
        """Integer `key` -> text `column` of the rows that hold a text there (``rowid`` is a valid key)."""
        if not self.has(table, column) or (key != "rowid" and not self.has(table, key)):
            return {}
        # A blob that is not UTF-8 is none of these texts, and must not spoil the others: only texts are decoded.
        cells = ", ".join(
            f"CASE WHEN typeof({quoted(c)}) = '{kind}' THEN {quoted(c)} END"
            for c, kind in ((key, "integer"), (column, "text"))
        )
        rows = self.rows(f"SELECT {cells} FROM {quoted(table)}")
        self.require_all(table, len(rows))
        return {number: text for number, text in rows if number is not None and text is not None}

    def strings(self, ids: Collection[int]) -> dict[int, str]:
        """StringIds of `ids`: id -> value; ids that do not exist are missing from the answer."""
        if not ids or not self.has("StringIds", "id", "value"):
            return {}
        wanted = sorted(ids)
        found: dict[int, str] = {}
        for first in range(0, len(wanted) if len(wanted) <= _LOOKUPS else 0, _PARAMETERS):
            part = wanted[first : first + _PARAMETERS]
            marks = ",".join("?" * len(part))
            text = f"SELECT id, value FROM StringIds WHERE id IN ({marks}) AND typeof(value) = 'text'"
            found.update(self.rows(text, part))
        if len(found) < len(wanted):  # too many to look up, or damage hides some from a search
            whole = self.texts("StringIds", "id", "value")
            found = {i: whole[i] for i in wanted if i in whole}
        return found

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query (small answers only). Text that is not UTF-8 is decoded with replacement characters."""

        def fetch() -> list[tuple[Any, ...]]:
            try:
                return self.db.execute(sql, parameters).fetchall()
            except sqlite3.OperationalError as exc:
                if "decode" not in str(exc):
                    raise
            self.db.text_factory = lambda data: bytes(data).decode("utf-8", "replace")
            try:
                return self.db.execute(sql, parameters).fetchall()
            finally:
                self.db.text_factory = str

        found: list[tuple[Any, ...]] = self.guard(fetch)
        return found

    def stream(self, table: str, cells: str) -> Iterator[tuple[Any, ...]]:
        """The expressions `cells` of every row of `table` in order of rowid, one row at a time."""
        cursor: sqlite3.Cursor = self.guard(
            lambda: self.db.execute(f"SELECT {cells} FROM {quoted(table)} ORDER BY rowid")
        )
        read = 0
        while (row := self.guard(cursor.fetchone)) is not None:
            yield row
            read += 1
        self.require_all(table, read)

    def table_rows(self, table: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """`columns` of a small `table` as Python rows, null for a column it lacks; no table gives no rows."""
        if table not in self.tables:
            return []
        wanted = ", ".join(quoted(c) if c in self.tables[table] else "NULL" for c in columns)
        rows = self.rows(f"SELECT {wanted} FROM {quoted(table)}")
        self.require_all(table, len(rows))
        return rows

    def count(self, table: str) -> int:
        """The rows of `table`, by the counts in its pages' headers: no row is looked at."""
        return int(self.rows(f"SELECT count(*) FROM {quoted(table)}")[0][0])

    def rowid_bounds(self, table: str) -> tuple[int, int] | None:
        """The lowest and highest rowid of `table` by two searches; null where it is empty or has no rowids."""
        ends = (f"(SELECT {end}(rowid) FROM {quoted(table)})" for end in ("min", "max"))
        try:
            low, high = self.db.execute(f"SELECT {', '.join(ends)}").fetchone()
        except sqlite3.OperationalError:
            return None  # WITHOUT ROWID
        return (low, high) if isinstance(low, int) and isinstance(high, int) else None

    def require_all(self, table: str, read: int, *, decoded: bool = False) -> None:
        """Raises `InputError` unless `read` rows are all that `table` holds.

        nsys numbers the rows of a table without gaps, so the ids and the count check each other; where they disagree, as
        they do after somebody deleted rows, SQLite checks the table's pages once. Rows `decoded` from the pages were not read
        by SQLite: its lowest and highest id are count enough.
        """
        if table in self.reads and self.reads[table] == (read, read):
            return
        bounds = self.guard(lambda: self.rowid_bounds(table))
        span = 0 if bounds is None else bounds[1] - bounds[0] + 1
        expected = span if decoded else self.count(table)
        if read == expected and expected != span:
            damage = self._damage(table)
        else:
            damage = f"{read:,} of {expected:,} rows could be read" if read != expected else None
        if damage:
            raise InputError(
                f"{self.path} cannot be read as an nsys export: its table {table} is damaged ({damage}); export it again"
            )
        self.reads[table] = (expected, read)

    def _damage(self, table: str) -> str | None:
        """What SQLite finds wrong with the pages of `table`; null where nothing is. Costs a scan of the table."""
        found = [str(text) for (text,) in self.rows(f"PRAGMA quick_check({quoted(table)})")]
        wrong = [
            text for text in found if text != "ok" and " value in " not in text
        ]  # of cells the reader judges itself
        return wrong[0].splitlines()[-1] if wrong else None

    def guard(self, action: Callable[[], Any]) -> Any:
        """What `action` returns; damage that SQLite finds meanwhile becomes an `InputError`."""
        try:
            return action()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:  # the latter where SQLite quotes a damaged name
            raise InputError(
                f"{self.path} cannot be read as an nsys export: SQLite finds it damaged ({exc}); export it again"
            ) from exc

    def _list_tables(self) -> dict[str, dict[str, str]]:
        rows = self.rows("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'")
        tables: dict[str, dict[str, str]] = {}
        for name, root in rows:
            if not isinstance(name, str) or not isinstance(root, int) or root <= 0:
                continue  # a virtual table has no page of its own, and its module may do anything
            columns = self.rows(f"PRAGMA table_info({quoted(name)})")
            tables[name] = {c[1]: str(c[2]).upper() for c in columns}
        return tables


def check_header(path: Path) -> None:
    """Raises `InputError` unless `path` starts like an SQLite database and is as long as its header says."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
            size = file.seek(0, os.SEEK_END)
    except OSError as exc:
        raise InputError(f"{path} cannot be read as a trace: {exc.strerror or exc}; check the path") from exc
    if head[:16] != SQLITE_MAGIC:
        raise InputError(f"{path} cannot be read as an nsys export: it is not a SQLite file; give an .sqlite export")
    page = int.from_bytes(head[16:18], "big")
    page = 65_536 if page == 1 else page
    pages = int.from_bytes(head[28:32], "big")
    in_header_valid = head[24:28] == head[92:96] and pages > 0  # written by SQLite 3.7.0 or newer
    if len(head) < 100 or (in_header_valid and size < page * pages):
        raise InputError(
            f"{path} cannot be read as an nsys export: it is truncated ({size} of {page * pages} bytes); "
            "copy or export it again"
        )
    for kind, header in _UNWRITTEN.items():
        beside = path.with_name(path.name + kind)
        if _starts_with(beside, header):
            raise InputError(
                f"{path} cannot be read as an nsys export: {beside.name} says that changes to it are unfinished; let the "
                f"program that writes it end, or have SQLite finish them: sqlite3 {path.name} 'PRAGMA wal_checkpoint(TRUNCATE)'"
            )


_UNWRITTEN: Final = {"-wal": (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"), "-journal": (b"\xd9\xd5\x05\xf9",)}
"""Files beside a database that hold a part of its content, and what they begin with while they do."""


def _starts_with(path: Path, heads: tuple[bytes, ...]) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in heads
    except OSError:
        return False  # usually there is none


def quoted(word: str) -> str:
    """`word` as an SQL identifier; ``rowid`` has to stay bare."""
    return word if word == "rowid" else '"' + word.replace('"', '""') + '"'
