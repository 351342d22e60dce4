"""A copy of an nsys export that says nothing of the machine, the user or the environment it came from.

nsys exports hold the environment of every process, command lines, folders, host and user names, and what the programs
printed. Removing those one by one would miss the next one, so a new database is written instead, and only what is
listed here goes into it: numbers of known tables, the names that analysis shows (ranges, kernels, API and OS calls,
threads, processes, metrics, devices), and settings with harmless values. Free text is never copied as it is, and the names
that are go through the policy of `personal` where the copy is to be given away.

Needs the standard library alone: a GPU host scrubs what it records without the analysis installed.
"""

from __future__ import annotations

import errno
import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from ..content import last_part
from ..errors import InputError
from ..nsys.schema import CAPTURE_SETTINGS, EVENT_TABLES, EXPORT_SETTINGS, EXPORT_TABLES, MIG, is_nsys, settings
from ..nsys.source import Source
from ..output import replacing
from .personal import Policy

_NUMBER_TABLES: Final = (
    *EVENT_TABLES,
    "CUPTI_ACTIVITY_KIND_CUDA_EVENT",
    "CUDA_GRAPH_EVENTS",
    "TARGET_INFO_CUDA_CONTEXT_INFO",
    "TARGET_INFO_CUDA_STREAM",
    "TARGET_INFO_SESSION_START_TIME",
    "ANALYSIS_DETAILS",
)
"""Tables of which the numbers are kept, and nothing else: columns that are not declared as text (`_numbers`)."""

# Columns of the tables above that name a row of StringIds, and so decide which strings are kept. jsonTextId (arbitrary
# payloads) and callchains are not among them.
_STRING_COLUMNS: Final = ("nameId", "textId", "demangledName", "shortName", "mangledName")
_DROPPED_COLUMNS: Final = ("jsonTextId", "callchainId", "binaryData")

# Enums that the reader looks up, by the names it knows; labels are not copied.
_ENUMS: Final = {
    "ENUM_CUDA_MEMCPY_OPER": r"CUDA_MEMCPY_KIND_[A-Z_]{3,12}",
    "ENUM_CUDA_UNIF_MEM_MIGRATION": r"CUDA_UNIFIED_MEMORY_MIGRATION_CAUSE_[A-Z_]{4,16}",
    "ENUM_CUDA_MEM_KIND": r"CUDA_MEMOPR_MEMORY_KIND_(PAGEABLE|PINNED|DEVICE|ARRAY|MANAGED|UNKNOWN|\w{6,7}_STATIC)",
    "ENUM_CUDA_DEV_MEM_EVENT_OPER": r"CUDA_DEV_MEM_EVENT_OPR_(DE)?ALLOCATION",
    "ENUM_NSYS_EVENT_TYPE": r"Nvtxt?(Category|Mark|PushPopRange|StartEndRange|DomainCreate|DomainDestroy)",
    "ENUM_DIAGNOSTIC_SEVERITY_LEVEL": r"Info|Warning|Error|Verbose|UnknownLevel",
}
# Labels of ENUM_CUPTI_OVERHEAD_TYPE: the reader tells CUPTI's own cost from the driver's by them.
_OVERHEAD_LABEL: Final = re.compile(
    r"(CUPTI|Driver|Command|Lazy|Runtime|UVM|Activity|Unknown)"
    r"( (compiler|buffer|flush|instrumentation|resource|management|full|function|loading|triggered|module|init|"
    r"activity|request|driver))*",
    re.IGNORECASE,
)

# What nsys says of a recording and analysis uses. Other messages keep their time and severity.
_MESSAGES: Final = tuple(
    re.compile(p)
    for p in (
        r"Profiling has (started|stopped)\.",
        r"Number of [A-Za-z ]{1,40} (collected|produced): \s*\d+(, CUPTI buffers: \d+)?\.",
        r"[A-Za-z]{1,12} (profiling|injection|injection library)( library)? initialized successfully\.",
        r"(Common|CUDA|NVTX) injection library initialized successfully\.",
        r"Buffers holding CUDA trace data will be flushed on CudaProfilerStop\(\) call\.[A-Za-z -]*\.",
        r"Enabling trace for device graph launch",
        r"Not all (CUDA|NVTX|OS runtime|CUPTI)[A-Za-z ,]{0,60} (events )?might have been collected\.",
        r"(CUDA|NVTX|OS runtime|CUPTI)[A-Za-z ]{0,40} (events )?(were )?(dropped|lost)[A-Za-z ]{0,40}[:.]? ?\d*\.?",
        r"No (CUDA|NVTX|GPU)[A-Za-z ]{0,30} (events )?(were )?collected\.?[A-Za-z ?.]{0,60}",
    )
)
REMOVED: Final = "(message removed)"

_DISK: Final = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}
"""What SQLite's primary result codes for a place that cannot be written are elsewhere."""

_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9 .()+-]{1,80}")


def scrub_sqlite(src: Path, dst: Path, *, keep_names: bool = True, policy: Policy | None = None) -> None:
    """Write to `dst` what analysis needs of nsys export `src`, and nothing of its environment.

    The result reads as the same trace, apart from diagnostics' free text and hashed device ids. `keep_names` false
    also leaves out the names of processes and threads. `policy` replaces what is personal in the names that stay; null: nothing,
    for a copy that its owner keeps. `dst` appears only when complete; the file there is replaced.
    Raises `InputError` if `src` is not an nsys export, and `OSError` if `dst` cannot be written.
    """
    with Source(src) as source:
        if not is_nsys(source):
            raise InputError(f"{src} cannot be scrubbed: it is not an nsys export; give the .sqlite that nsys wrote")
        with replacing(dst) as building, closing(sqlite3.connect(building, isolation_level=None)) as target:
            try:
                target.execute("PRAGMA journal_mode=OFF")
                target.execute("BEGIN")
                _copy(source, target, keep_names, policy)
                target.execute("COMMIT")
                target.execute("VACUUM")
            except sqlite3.OperationalError as exc:
                if (number := _DISK.get(exc.sqlite_errorcode & 0xFF)) is None:
                    raise
                raise OSError(number, str(exc)) from exc


def _copy(source: Source, target: sqlite3.Connection, keep_names: bool, policy: Policy | None) -> None:
    if policy is not None:
        learn_export(source, policy)
    named: Callable[[str], str] = str if policy is None else policy.name
    used: set[int] = set()
    owners: set[int] = set()
    for table in _NUMBER_TABLES:
        used |= _copy_numbers(source, target, table)
    for table in EVENT_TABLES:
        for column in ("globalTid", "globalPid", "endGlobalTid"):
            if source.has(table, column):
                owners |= {
                    g for (g,) in source.rows(f'SELECT DISTINCT "{column}" FROM "{table}"') if isinstance(g, int)
                }
    _copy_range_texts(source, target, named)
    if keep_names:
        used |= _copy_owners(source, target, owners, named)
    _copy_devices(source, target)
    _copy_metrics(source, target, named)
    _copy_diagnostics(source, target)
    _copy_enums(source, target)
    _copy_settings(source, target)
    texts = [(number, named(value)) for number, value in sorted(source.strings(used).items())]
    _create(target, "StringIds", {"id": "INTEGER", "value": "TEXT"}, texts)


def learn_export(source: Source, policy: Policy) -> None:
    """What the environment, the system and all texts say of users, hosts and secrets; none of it is copied."""
    for table in ("TARGET_INFO_SYSTEM_ENV", "META_DATA_CAPTURE", *EXPORT_TABLES):
        for name, value in source.table_rows(table, ["name", "value"]):
            if isinstance(name, str) and isinstance(value, str):
                policy.learn_variable(name, value)
                policy.learn(value)
    for text in source.texts("StringIds", "id", "value").values():
        if "=" in text or "/" in text or "\\" in text:
            policy.learn(text)


def _create(
    target: sqlite3.Connection, table: str, columns: Mapping[str, str], rows: Iterable[tuple[Any, ...]]
) -> None:
    """A new table from our own words only: the original's statement could carry comments."""
    declared = ", ".join(f'"{c}" {t}' for c, t in columns.items())
    target.execute(f'CREATE TABLE "{table}" ({declared})')
    marks = ", ".join("?" * len(columns))
    target.executemany(f'INSERT INTO "{table}" VALUES ({marks})', rows)


def _copy_numbers(source: Source, target: sqlite3.Connection, table: str) -> set[int]:
    """Copy `table`'s numeric columns, text in them left out; the StringIds it uses."""
    if table not in source.tables:
        return set()
    numeric = {
        c: declared
        for c, t in source.tables[table].items()
        if (declared := _numbers(t)) and c not in _DROPPED_COLUMNS and re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,39}", c)
    }
    numeric.pop("text", None)
    if not numeric:
        return set()
    cells = ", ".join(f"CASE WHEN typeof(\"{c}\") IN ('integer', 'real') THEN \"{c}\" END" for c in numeric)
    columns = {**numeric, "text": "TEXT"} if table == "NVTX_EVENTS" else numeric
    blank = ", NULL" if table == "NVTX_EVENTS" else ""
    _create(target, table, columns, source.stream(table, cells + blank))
    used: set[int] = set()
    for column in _STRING_COLUMNS:
        if column in numeric:
            used |= {i for (i,) in source.rows(f'SELECT DISTINCT "{column}" FROM "{table}"') if isinstance(i, int)}
    return used


def _numbers(declared: str) -> str | None:
    """How a column of numbers is declared in the copy; null for one of text. By SQLite's rules of affinity: tables that other
    programs wrote back are declared BIGINT, FLOAT or not at all."""
    if "INT" in declared:
        return "INTEGER"
    if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
        return None
    return "REAL" if any(word in declared for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def _copy_range_texts(source: Source, target: sqlite3.Connection, named: Callable[[str], str]) -> None:
    """Names of ranges, domains and categories that stand in the row itself. Rows were copied in the same order."""
    texts = source.texts("NVTX_EVENTS", "rowid", "text")
    copied = target.execute("SELECT 1 FROM sqlite_master WHERE name = 'NVTX_EVENTS'").fetchone()
    if texts and copied:  # without a single column of numbers there are no ranges
        order = [r for (r,) in source.rows("SELECT rowid FROM NVTX_EVENTS ORDER BY rowid")]
        position = {r: i + 1 for i, r in enumerate(order)}
        target.executemany(
            "UPDATE NVTX_EVENTS SET text = ? WHERE rowid = ?", [(named(t), position[r]) for r, t in texts.items()]
        )


def _copy_owners(source: Source, target: sqlite3.Connection, owners: set[int], named: Callable[[str], str]) -> set[int]:
    """Names of the processes and threads that own rows; the StringIds used."""
    processes = {g >> 24 for g in owners}
    rows = [
        (gid, pid if isinstance(pid, int) else None, named(last_part(name)))
        for gid, pid, name in source.table_rows("PROCESSES", ["globalPid", "pid", "name"])
        if isinstance(gid, int) and gid >> 24 in processes and isinstance(name, str)
    ]
    if "PROCESSES" in source.tables:
        _create(target, "PROCESSES", {"globalPid": "INTEGER", "pid": "INTEGER", "name": "TEXT"}, rows)
    threads = [
        (name, gid)
        for name, gid in source.table_rows("ThreadNames", ["nameId", "globalTid"])
        if gid in owners and isinstance(name, int)
    ]
    if "ThreadNames" in source.tables:
        _create(target, "ThreadNames", {"nameId": "INTEGER", "globalTid": "INTEGER"}, threads)
    return {name for name, _ in threads}


_DEVICE_TABLES: Final = {
    "TARGET_INFO_GPU": (
        *("vmId", "id", "isDiscrete", "l2CacheSize", "totalMemory", "memoryBandwidth", "clockRate", "smCount"),
        *("computeMajor", "computeMinor", "smMajor", "smMinor", "cuDevice"),
    ),
    "TARGET_INFO_CUDA_GPU": (
        *(
            "id",
            "deviceId",
            "globalMemorySize",
            "numMultiprocessors",
            "computeCapabilityMajor",
            "computeCapabilityMinor",
        ),
    ),
    "TARGET_INFO_CUDA_DEVICE": ("gpuId", "cudaId", "pid", "numMultiprocessors"),
}
"""Tables of devices, and their columns of numbers that are kept."""


def _copy_devices(source: Source, target: sqlite3.Connection) -> None:
    """The tables of devices: their numbers, names of models, and uuids by their hashes, which keep MIG instances apart."""
    for table, numbers in _DEVICE_TABLES.items():
        if table not in source.tables:
            continue
        rows = []
        for row in source.table_rows(table, [*numbers, "name", "uuid"]):
            *values, name, uuid = row
            kept = [n if isinstance(n, int) else None for n in values]
            model = name if isinstance(name, str) and _MODEL_NAME.fullmatch(name) else None
            rows.append((*kept, model, _hashed(uuid) if isinstance(uuid, str) else None))
        columns = {**dict.fromkeys(numbers, "INTEGER"), "name": "TEXT", "uuid": "TEXT"}
        _create(target, table, columns, rows)


def _hashed(uuid: str) -> str:
    digest = hashlib.sha256(uuid.encode("utf-8", "replace")).hexdigest()[:16]
    return f"{MIG}{digest}" if uuid.startswith(MIG) else digest


def _copy_metrics(source: Source, target: sqlite3.Connection, named: Callable[[str], str]) -> None:
    if "TARGET_INFO_GPU_METRICS" not in source.tables:
        return
    found = source.table_rows("TARGET_INFO_GPU_METRICS", ["typeId", "metricId", "metricName"])
    rows = [(t, m, named(n)) for t, m, n in found if isinstance(t, int) and isinstance(m, int) and isinstance(n, str)]
    columns = {"typeId": "INTEGER", "metricId": "INTEGER", "metricName": "TEXT"}
    _create(target, "TARGET_INFO_GPU_METRICS", columns, rows)


def _copy_diagnostics(source: Source, target: sqlite3.Connection) -> None:
    if "DIAGNOSTIC_EVENT" not in source.tables:
        return
    found = source.table_rows("DIAGNOSTIC_EVENT", ["timestamp", "severity", "text"])
    rows = [
        (t, s, text if any(p.fullmatch(text) for p in _MESSAGES) else REMOVED)
        for t, s, text in found
        if isinstance(t, int) and isinstance(s, int) and isinstance(text, str)
    ]
    _create(target, "DIAGNOSTIC_EVENT", {"timestamp": "INTEGER", "severity": "INTEGER", "text": "TEXT"}, rows)


def _copy_enums(source: Source, target: sqlite3.Connection) -> None:
    for table, pattern in _ENUMS.items():
        if table in source.tables:
            found = source.table_rows(table, ["id", "name"])
            rows = [(i, n) for i, n in found if isinstance(i, int) and isinstance(n, str) and re.fullmatch(pattern, n)]
            _create(target, table, {"id": "INTEGER", "name": "TEXT"}, rows)
    table = "ENUM_CUPTI_OVERHEAD_TYPE"
    if table in source.tables:
        labels = source.table_rows(table, ["id", "label"])
        rows = [(i, n) for i, n in labels if isinstance(i, int) and isinstance(n, str) and _OVERHEAD_LABEL.fullmatch(n)]
        _create(target, table, {"id": "INTEGER", "label": "TEXT"}, rows)


def _copy_settings(source: Source, target: sqlite3.Connection) -> None:
    for table in (*EXPORT_TABLES, "META_DATA_CAPTURE"):
        if table in source.tables:
            known = (*EXPORT_SETTINGS, *CAPTURE_SETTINGS)
            rows = [(n, v) for n, v in settings(source, table) if re.sub(r"^PROCESS_\d+:", "", n) in known]
            _create(target, table, {"name": "TEXT", "value": "TEXT"}, list(rows))
