"""Cases from nsys exports: rows, columns, types, tables, the file's bytes, write-ahead logs, compression, reports of nsys."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Final

from . import damage
from .case import Case, made
from .lines import looks_at_trace
from .seeds import Seeds, export

NOT_EVENTS: Final = ("StringIds", "META_DATA_EXPORT", "TARGET_INFO_CUDA_DEVICE", "TARGET_INFO_GPU")

STUBS: Final = (
    "#!/bin/sh\nexit 0\n",
    '#!/bin/sh\necho "Importer error status" >&2\nexit 1\n',
    '#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = --output ] && out=$2; shift; done\nhead -c 3000 "$AISP_FUZZ_SEED" > "$out"\n',
    '#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = --output ] && out=$2; shift; done\ncat "$AISP_FUZZ_SEED" > "$out"\nexit 0\n',
    '#!/bin/sh\nprintf "\\033[31m\\000\\377%0500d" 7 >&2\nexit 139\n',
    "not a program\n",
)
"""Stand-ins for nsys: says nothing, fails, writes half an export, a whole one, dies with hostile words, is none."""


def rows_case(rng: Random, box: Path, seeds: Seeds) -> Case:
    """Rows, columns, types and tables of a good file."""
    file = made(box) / "trace.sqlite"
    if rng.random() < 0.7:
        shutil.copy(rng.choice(seeds.exports), file)
    elif rng.random() < 0.5:
        export(rng).write(file)
    else:
        shutil.copy(rng.choice([one for one in seeds.recorded if "cut" not in one.name]), file)
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=OFF")
        db.execute("PRAGMA journal_mode=MEMORY")
        db.execute("BEGIN")
        for _ in range(rng.choice((1, 1, 1, 2, 3, 5, 10))):
            with suppress(sqlite3.Error, OverflowError, UnicodeEncodeError):
                _change(rng, db)
        db.execute("COMMIT")
        with suppress(sqlite3.Error):
            _change_file(rng, db)
    case = Case("nsys rows", truth="trace.sqlite")
    looks_at_trace(rng, case, "trace.sqlite", nsys=True)
    return case


def _change(rng: Random, db: sqlite3.Connection) -> None:
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    events = [name for name in tables if name not in NOT_EVENTS]
    table = rng.choice(events if events and rng.random() < 0.8 else tables)
    columns = [row[1] for row in db.execute(f'PRAGMA table_info("{table}")')]
    column = (
        rng.choice([c for c in columns if c in ("start", "end", "timestamp")] or columns)
        if rng.random() < 0.3
        else rng.choice(columns)
    )
    how = rng.randrange(17)
    some = rng.choice(("1", 'rowid = (SELECT min(rowid) FROM "{t}")', f"rowid % {rng.randrange(1, 5)} = 0")).format(
        t=table
    )
    if how < 5:
        was = db.execute(f'SELECT "{column}" FROM "{table}" LIMIT 1').fetchone()
        db.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE {some}', (damage.cell(rng, was and was[0]),))
    elif how == 5:
        factor = rng.choice((0, -1, 2, 10**6, 10**12))
        db.execute(f'UPDATE "{table}" SET "{column}" = "{column}" * {factor} WHERE {some}')
    elif how == 6:
        other = rng.choice(columns)
        db.execute(f'UPDATE "{table}" SET "{column}" = "{other}", "{other}" = "{column}" WHERE {some}')
    elif how == 7:
        db.execute(f'DELETE FROM "{table}" WHERE {some}')
    elif how == 8:
        names = ", ".join(f'"{c}"' for c in columns)
        db.execute(f'INSERT OR REPLACE INTO "{table}" ({names}) SELECT {names} FROM "{table}" WHERE {some}')
    elif how == 9:
        db.execute(f'DROP TABLE "{table}"')
    elif how == 10:
        db.execute(f'ALTER TABLE "{table}" DROP COLUMN "{column}"')
    elif how == 11:
        db.execute(
            f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "{rng.choice(("x", "START", "rowid", "nameId"))}"'
        )
    elif how == 12:
        declared = rng.choice(("TEXT", "REAL", "BLOB", "", "INTEGER", "NUMERIC"))
        names = ", ".join(f'"{c}" {declared if c == column else ""}' for c in columns)
        db.execute(f'ALTER TABLE "{table}" RENAME TO "old_{table}"')
        db.execute(f'CREATE TABLE "{table}" ({names})')
        db.execute(f'INSERT INTO "{table}" SELECT * FROM "old_{table}"')
        db.execute(f'DROP TABLE "old_{table}"')
    elif how == 13:
        db.execute(f'ALTER TABLE "{table}" RENAME TO "old_{table}"')
        db.execute(f'CREATE VIEW "{table}" AS SELECT * FROM "old_{table}"')
    elif how == 14:
        db.execute(f'CREATE TRIGGER t{rng.randrange(9)} AFTER INSERT ON "{table}" BEGIN DELETE FROM "{table}"; END')
    elif how == 15:
        db.execute(f'UPDATE "{table}" SET rowid = rowid + {rng.choice((2**40, 2**62, -10, 5000))} WHERE {some}')
    else:
        text = damage.text(rng)
        where = rng.choice(("StringIds", "StringIds", "NVTX_EVENTS"))
        db.execute(f"UPDATE {where} SET {'value' if where == 'StringIds' else 'text'} = ? WHERE rowid % 3 = 0", (text,))


def _change_file(rng: Random, db: sqlite3.Connection) -> None:
    how = rng.randrange(14)
    if how == 0:
        db.execute(f"PRAGMA page_size={rng.choice((512, 1024, 8192, 65536))}")
        db.execute("VACUUM")
    elif how == 1:
        db.execute("PRAGMA journal_mode=WAL")
    elif how == 2:
        db.execute(f"PRAGMA user_version={rng.randrange(2**31)}")
    elif how == 3:
        db.execute(f"PRAGMA application_id={rng.randrange(2**31)}")
    elif how == 4:
        db.execute("PRAGMA auto_vacuum=FULL")
        db.execute("VACUUM")


def bytes_case(rng: Random, box: Path, seeds: Seeds) -> Case:
    """Bytes of the file: flipped, cut, doubled; compressed; given out for an .nsys-rep; with a log beside it."""
    folder = made(box)
    data = rng.choice(seeds.exports if rng.random() < 0.8 else seeds.recorded).read_bytes()
    name, how = "trace.sqlite", rng.randrange(10)
    if how < 5:
        data = damage.raw(rng, data)
    elif how == 5:
        at = rng.choice(
            (16, 18, 20, 24, 28, 36, 44, 56, 100, 101, 103, 105, 4096, 4097)
        )  # what the file says of itself
        data = data[:at] + rng.randbytes(rng.choice((1, 2, 4))) + data[at + 2 :]
    elif how == 6:
        data = data[: rng.randrange(len(data))]
    elif how == 7:
        data, ending = damage.packed(rng, damage.raw(rng, data) if rng.random() < 0.3 else data)
        name = f"trace.sqlite.{ending}"
    elif how == 8:
        page = 4096 * rng.randrange(len(data) // 4096)
        other = 4096 * rng.randrange(len(data) // 4096)
        data = data[:page] + data[other : other + 4096] + data[page + 4096 :]
    else:
        (folder / "trace.sqlite-wal").write_bytes(
            rng.choice((b"", rng.randbytes(64), b"\x37\x7f\x06\x82" + rng.randbytes(4000)))
        )
        if rng.random() < 0.5:
            (folder / "trace.sqlite-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + rng.randbytes(1000))
        if rng.random() < 0.5:
            data = data[:18] + b"\x02\x02" + data[20:]  # says that it has a log
    (folder / name).write_bytes(data)
    case = Case("nsys bytes", truth=name if name.endswith("sqlite") else None)
    looks_at_trace(rng, case, name, nsys=True)
    return case


def report_case(rng: Random, box: Path, seeds: Seeds) -> Case:
    """An .nsys-rep, which an nsys of ours, good or bad, exports."""
    folder = made(box)
    head = b"NVIDIA Tegra Profiler Report"
    body = rng.choice((b"", rng.randbytes(200), b"\0" * 100 + b"2099.9.9.9-abcdef0", "ä\x1b[2J".encode() * 30))
    (folder / "trace.nsys-rep").write_bytes((head if rng.random() < 0.9 else damage.raw(rng, head)) + body)
    stub = box / "home" / "nsys"
    stub.write_text(rng.choice(STUBS).replace("$AISP_FUZZ_SEED", str(rng.choice(seeds.exports))))
    stub.chmod(0o755 if rng.random() < 0.9 else 0o644)
    case = Case("nsys report")
    looks_at_trace(rng, case, "trace.nsys-rep", few=True)
    return case


SECRETS: Final = (
    "hunter2hunter2",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "0a" * 18,
    "mallory",
    "acme-customer",
    "10.20.30.40",
)


def secret_name(rng: Random) -> str:
    """A name that holds what docs/personal.md promises to replace, with something around it."""
    value = rng.choice(("hunter2hunter2", "hunter2hunter2"))
    key = rng.choice(("token", "password", "api_key", "api-key", "secret", "HF_TOKEN", "access_token", "WANDB_API_KEY"))
    core = rng.choice(
        (
            f"--{key}={value}",
            f"--{key} {value}",
            f"{key}={value}",
            f"{key}: {value}",
            f'"{key}": "{value}"',
            f"'{key}': '{value}'",
            f"Authorization: Bearer {value}",
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_" + "0a" * 18,
            "/home/mallory/acme-customer/train.bin",
            "/mnt/nfs/acme-customer/data/x.bin:12",
            "C:\\Users\\mallory\\acme-customer\\x.py",
            "\\\\host\\acme-customer\\x",
            "~mallory/acme-customer/x",
            "file:///home/mallory/acme-customer/x",
            "mallory@acme-customer.example.com",
            "tcp://10.20.30.40:29500",
            "10.20.30.40",
            "https://acme-customer.example.internal/x?token=" + value,
        )
    )
    before, after = (
        rng.choice(("", "load ", "step(", "[", "x=1 ", "é ", "\t", "a, ")),
        rng.choice(("", " done", ")", "]", " 7", ", b", "\t")),
    )
    return before + core + after


def secrets_case(rng: Random, box: Path, seeds: Seeds) -> Case:
    """Secrets in names, arguments and environment; none may be in what is given away."""
    folder = made(box)
    made_ = export(rng)
    texts = [secret_name(rng) for _ in range(8)]
    for row in made_.rows["StringIds"]:
        if rng.random() < 0.5:
            row["value"] = rng.choice(texts) + (f" {row['id']}" if rng.random() < 0.3 else "")
    for row in made_.rows.get("NVTX_EVENTS", ()):
        if rng.random() < 0.2:
            row |= {"text": rng.choice(texts), "textId": None}
    for i, text in enumerate(("USER=mallory", "HOME=/home/mallory", "WANDB_API_KEY=hunter2hunter2", *texts)):
        made_.add("META_DATA_CAPTURE", name=f"PROCESS_0:{rng.choice(('ENVIRONMENT', 'ARGUMENT'))}_{i}", value=text)
        made_.string(text)
    made_.write(folder / "trace.sqlite")
    case = Case("secrets", secrets=SECRETS)
    case.look(*rng.choice((
        ("export", "trace.sqlite", "--scrub", "-o", "../out/s.sqlite"),
        ("export", "trace.sqlite", "--scrub", "--to", "perfetto", "-o", "../out/p.pftrace"),
        ("export", "trace.sqlite", "--scrub", "--to", "json", "-o", "../out/a.json"),
        ("export", "trace.sqlite", "--scrub", "--to", "csv", "-o", "../out/csv"),
        ("report", "trace.sqlite", "--scrub", "-o", "../out/r.html"),
    )))  # fmt: skip
    return case
