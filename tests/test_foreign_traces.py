"""Traces that no recorder of ours made: what is odd about each is one change to the same small recording.

    thread 100  |---------------------------- s ----------------------------------|
                        |A|              |B|            A launches X, B launches Y
    device 0                 |-- X --|        |-- Y --|
    ns          0       100  120    140  200  220    260                       1000

Between X and Y the device waits: 60 ns for the host's code, 10 in the call B, 10 for its launch. Every case says which cells
of the ledger the change leads to and which rows are reported as unusable; every ledger sums to its window.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import Analysis
from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport, gid
from aisp_trace.tests.builders.samples import SAMPLES, unpack
from aisp_trace.traces.errors import EmptyTraceError, InputError
from aisp_trace.traces.open import open_trace

Cells = dict[tuple[int, str, str], int]
Event = dict[str, Any]

KERNELS: Final = "CUPTI_ACTIVITY_KIND_KERNEL"
CALLS: Final = "CUPTI_ACTIVITY_KIND_RUNTIME"
ALIKE: Final[Cells] = {
    (0, "s", "compute"): 60,
    (0, "s", "host_code"): 60,
    (0, "s", "launch_api"): 10,
    (0, "s", "launch_latency"): 10,
}
ONLY_X: Final[Cells] = {(0, "s", "compute"): 20}
ORPHAN_Y: Final[Cells] = {
    (0, "s", "compute"): 20,
    (0, "(orphan)", "compute"): 40,
    (0, "(orphan)", "unknown"): 80,
}
NONE_AT_ALL: Final[Cells] = {(0, "(none)", word): ns for (_, _, word), ns in ALIKE.items()}


def cells(analysis: Analysis, unit: int = 1) -> Cells:
    """(device, stage, category or cause of idle time) -> time; the ledger of every device is held against its window."""
    found: Cells = {}
    for device, stage, category, cause, ns in analysis.ledger.select(
        "device", "stage", "category", "cause", "ns"
    ).iter_rows():
        assert ns > 0 and ns % unit == 0
        found[device, stage, cause or category] = ns // unit
    for row in analysis.devices.iter_rows(named=True):
        total = sum(ns * unit for (device, _, _), ns in found.items() if device == row["device"])
        assert total == row["ops_span_ns"] == row["busy_ns"] + row["idle_ns"]
    return found


# ------------------------------------------------------------------------------------------------------- nsys exports


def recording() -> NsysExport:
    export = NsysExport().range(0, 1000, "s")
    for correlation, (call, kernel) in enumerate([((100, 110), (120, 140)), ((200, 210), (220, 260))], start=1):
        export.call(*call, "cudaLaunchKernel_v7000", correlationId=correlation)
        export.kernel(*kernel, correlationId=correlation)
    return export


def last(table: str, **values: Any) -> Callable[[NsysExport], None]:
    """The change of cells of the last row of `table`."""

    def change(export: NsysExport) -> None:
        export.columns[table] = export.columns[table].replace(" NOT NULL", "")
        export.rows[table][-1].update(values)

    return change


def renamed(name: Any) -> Callable[[NsysExport], None]:
    def change(export: NsysExport) -> None:
        export.rows["NVTX_EVENTS"][0]["textId"] = export.string(name)

    return change


def second_process(export: NsysExport) -> None:
    """The same again on device 1, by a process whose correlation ids and thread ids are the same numbers."""
    export.range(0, 1000, "t", pid=200)
    for correlation, (call, kernel) in enumerate([((100, 110), (120, 140)), ((200, 210), (220, 260))], start=1):
        export.call(*call, "cudaLaunchKernel_v7000", pid=200, correlationId=correlation)
        export.kernel(*kernel, pid=200, correlationId=correlation, deviceId=1)


def other_thread(*names: str) -> Callable[[NsysExport], None]:
    """B by a thread without ranges, while as many more threads as there are `names` have one open."""

    def change(export: NsysExport) -> None:
        export.rows[CALLS][-1]["globalTid"] = gid(100, 101)
        for i, name in enumerate(names):
            export.range(150, 900, name, tid=102 + i)

    return change


TWICE: Final[Cells] = ALIKE | {(1, "t", word): ns for (_, _, word), ns in ALIKE.items()}
AMBIGUOUS_Y: Final[Cells] = {
    (0, "s", "compute"): 20,
    (0, "(ambiguous)", "compute"): 40,
    (0, "s", "host_code"): 10,
    (0, "(ambiguous)", "host_code"): 50,
    (0, "(ambiguous)", "launch_api"): 10,
    (0, "(ambiguous)", "launch_latency"): 10,
}

ROWS: Final[list[tuple[str, Callable[[NsysExport], Any], Cells, dict[str, int]]]] = [
    ("nothing odd", lambda e: None, ALIKE, {}),
    ("no device", last(KERNELS, deviceId=None), ONLY_X, {"ops_without_device": 1}),
    ("device -1", last(KERNELS, deviceId=-1), ONLY_X, {"ops_without_device": 1}),
    ("device too large", last(KERNELS, deviceId=2**40), ONLY_X, {"ops_without_device": 1}),
    ("no stream, no context", last(KERNELS, streamId=None, contextId=None), ALIKE, {}),
    ("no process, one called", last(KERNELS, globalPid=None), ALIKE, {"ops_without_process": 1}),
    (
        "no process, two hosts",
        lambda e: (last(KERNELS, globalPid=None)(e), e.call(1, 2, "cudaFree", host=2)),
        ONLY_X,
        {"ops_without_device": 1},
    ),
    (
        "no process, two called",
        lambda e: (last(KERNELS, globalPid=None)(e), e.call(1, 2, "cudaFree", pid=200, tid=200)),
        ORPHAN_Y,
        {"ops_without_process": 1},
    ),
    ("no correlation", last(KERNELS, correlationId=None), ORPHAN_Y, {}),
    (
        "correlation 0 of both",
        lambda e: (last(KERNELS, correlationId=0)(e), last(CALLS, correlationId=0)(e)),
        ORPHAN_Y,
        {},
    ),
    ("correlation too large", last(CALLS, correlationId=2**63 - 1), ORPHAN_Y, {"api_with_odd_correlation": 1}),
    ("a call of no thread", last(CALLS, globalTid=None), ORPHAN_Y, {"api_without_thread": 1}),
    ("a range of no thread", last("NVTX_EVENTS", globalTid=None), NONE_AT_ALL, {"ranges_without_thread": 1}),
    (
        "text in a number's place",
        last(KERNELS, start="soon"),
        ONLY_X,
        {"cells_of_wrong_type": 1, "ops_without_start": 1},
    ),
    ("a time between two", last(KERNELS, end=260.5), ONLY_X, {"cells_of_wrong_type": 1, "ops_without_end": 1}),
    ("end before start", last(KERNELS, end=219), ONLY_X, {"ops_end_before_start": 1}),
    ("no end", last(KERNELS, end=None), ONLY_X, {"ops_without_end": 1}),
    ("a time that no clock shows", last(KERNELS, end=2**62), ONLY_X, {"ops_out_of_range": 1}),
    ("a kernel of no length", lambda e: e.kernel(150, 150, correlationId=1), ALIKE, {}),
    ("a range without a name", renamed(""), {(0, "(unnamed)", w): ns for (_, _, w), ns in ALIKE.items()}, {}),
    ("a name with a slash", renamed("a/b"), {(0, "a\\/b", w): ns for (_, _, w), ns in ALIKE.items()}, {}),
    (
        "a range without a string",
        last("NVTX_EVENTS", textId=None),
        {(0, "(unnamed)", w): n for (_, _, w), n in ALIKE.items()},
        {"names_missing": 1},
    ),
    ("a range that never ends", last("NVTX_EVENTS", end=None), ALIKE, {"ranges_unclosed": 1}),
    ("two processes, the same ids", second_process, TWICE, {}),
    ("a thread without ranges", other_thread(), ALIKE, {}),
    ("and two that have one", other_thread("u"), AMBIGUOUS_Y, {}),
    (
        "bytes that are none",
        lambda e: e.copy(120, 130, correlationId=1, nbytes=2**62),
        ALIKE,
        {"ops_with_odd_bytes": 1},
    ),
    (
        "an unknown copy, from pageable memory",
        lambda e: e.copy(150, 160, 99, correlationId=0, srcKind=0, dstKind=2),
        ALIKE | {(0, "s", "host_code"): 40, (0, "(orphan)", "h2d"): 10, (0, "(orphan)", "unknown"): 10},
        {"copies_of_unknown_kind": 1},
    ),
    (
        "memory that is neither taken nor given back",
        lambda e: e.add("CUDA_GPU_MEMORY_USAGE_EVENTS", start=5, globalPid=gid(100), deviceId=0, bytes=8, memKind=2),
        ALIKE,
        {"memory_without_operation": 1},
    ),
]


@pytest.mark.parametrize(("change", "expected", "odd"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_rows_of_an_nsys_export(
    tmp_path: Path, change: Callable[[NsysExport], Any], expected: Cells, odd: dict[str, int]
) -> None:
    export = recording()
    change(export)
    trace = open_trace(export.write(tmp_path / "t.sqlite"))
    analysis = analyze(trace)
    assert cells(analysis) == expected
    assert dict(trace.meta.anomalies) == odd
    trust = dict(analysis.trust.select("metric", "level").iter_rows())
    if any(word.startswith(("ops", "api", "copies")) for word in odd):
        assert trust["ledger"] == "partial"


TABLES: Final[list[tuple[str, tuple[str, ...], Cells, dict[str, int]]]] = [
    ("no calls", (f"DROP TABLE {CALLS}",), {(0, "(orphan)", "compute"): 60, (0, "(orphan)", "unknown"): 80}, {}),
    ("no ranges", ("DROP TABLE NVTX_EVENTS",), NONE_AT_ALL, {}),
    (
        "no ids",
        (f"ALTER TABLE {KERNELS} DROP COLUMN correlationId",),
        {(0, "(orphan)", "compute"): 60, (0, "(orphan)", "unknown"): 80},
        {},
    ),
    ("no processes", (f"ALTER TABLE {KERNELS} DROP COLUMN globalPid",), ALIKE, {"ops_without_process": 2}),
    ("no devices", (f"ALTER TABLE {KERNELS} DROP COLUMN deviceId",), {}, {"ops_without_device": 2}),
    (
        "no strings",
        ("DELETE FROM StringIds",),
        {(0, "(unnamed)", w): n for (_, _, w), n in ALIKE.items()},
        {"names_missing": 5},
    ),
    (
        "a view is not a table",
        (f"ALTER TABLE {KERNELS} RENAME TO k", f"CREATE VIEW {KERNELS} AS SELECT * FROM k"),
        {},
        {},
    ),
    (
        "rows far apart",
        (
            f"UPDATE {KERNELS} SET rowid = 9000000000 WHERE start = 120",
            f"UPDATE {CALLS} SET rowid = -5 WHERE start = 200",
        ),
        ALIKE,
        {},
    ),
    (
        "times before zero",
        (*(f"UPDATE {t} SET start = start - 5000, end = end - 5000" for t in (KERNELS, CALLS, "NVTX_EVENTS")),),
        ALIKE,
        {},
    ),
    (
        "times since 1970",
        (
            *(
                f"UPDATE {t} SET start = start + 1700000000000000000, end = end + 1700000000000000000"
                for t in (KERNELS, CALLS, "NVTX_EVENTS")
            ),
        ),
        ALIKE,
        {},
    ),
]


def edited(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)
    return path


@pytest.mark.parametrize(("statements", "expected", "odd"), [t[1:] for t in TABLES], ids=[t[0] for t in TABLES])
def test_tables_of_an_nsys_export(
    tmp_path: Path, statements: tuple[str, ...], expected: Cells, odd: dict[str, int]
) -> None:
    trace = open_trace(edited(recording().write(tmp_path / "t.sqlite"), *statements))
    assert cells(analyze(trace)) == expected
    assert dict(trace.meta.anomalies) == odd


# --------------------------------------------------------------------------------------------- torch.profiler's files


def event(category: Any, name: Any, ts: Any, dur: Any, pid: Any = 100, **args: Any) -> Event:
    return {"ph": "X", "cat": category, "name": name, "pid": pid, "tid": 100, "ts": ts, "dur": dur, "args": args}


def kernel(correlation: int, ts: Any, dur: Any, device: int = 0, label: Any = None) -> Event:
    where = {"device": device, "context": 1, "stream": 7}
    return event("kernel", "gemm", ts, dur, device if label is None else label, **where, correlation=correlation)


def profile(pid: Any = 100, name: str = "s", device: int = 0, label: Any = None, later: int = 0) -> list[Event]:
    """The recording above with microseconds for nanoseconds: range, A, B, X, Y."""
    return [
        event("user_annotation", name, later, 1000, pid),
        event("cuda_runtime", "cudaLaunchKernel", 100 + later, 10, pid, correlation=1),
        event("cuda_runtime", "cudaLaunchKernel", 200 + later, 10, pid, correlation=2),
        kernel(1, 120 + later, 20, device, label),
        kernel(2, 220 + later, 40, device, label),
    ]


def every(**changes: Any) -> list[Event]:
    return [e | {k: v(e) if callable(v) else v for k, v in changes.items()} for e in profile()]


def with_y(**changes: Any) -> list[Event]:
    *rest, y = profile()
    return [*rest, y | changes]


def with_y_args(**changes: Any) -> list[Event]:
    *rest, y = profile()
    return [*rest, y | {"args": y["args"] | changes}]


EARLIER: Final = {"kernel": "Kernel", "cuda_runtime": "Runtime", "user_annotation": "user_annotation"}

# Ranks whose programs are the same, one on the heels of the other: the second one's calls come after the first one's kernels.
RANKS: Final = [*profile("rank 0", "s", 0, "rank 0 GPU"), *profile("rank 1", "t", 0, "rank 1 GPU", later=30)]
SAME_INSTANT: Final = [*profile(100, "s", 0), *profile(200, "t", 1)]
NOBODY: Final[Cells] = {(d, "(orphan)", w): ns for d in (0, 1) for w, ns in (("compute", 60), ("unknown", 80))}

EVENTS: Final[list[tuple[str, list[Any], Cells, dict[str, int]]]] = [
    ("nothing odd", profile(), ALIKE, {}),
    ("categories before PyTorch 1.12", every(cat=lambda e: EARLIER[e["cat"]]), ALIKE, {}),
    ("calls of another vendor", every(cat=lambda e: e["cat"].replace("cuda", "xpu")), ALIKE, {}),
    ("times since 1970", every(ts=lambda e: 1_700_000_000_000_000 + e["ts"]), ALIKE, {}),
    ("times before zero", every(ts=lambda e: e["ts"] - 5000), ALIKE, {}),
    ("processes by a word", every(pid=lambda e: f"python {e['pid']}"), ALIKE, {}),
    ("processes of 40 bits", every(pid=lambda e: e["pid"] + 2**40), ALIKE, {}),
    ("threads by a word", every(tid="main"), ALIKE, {}),
    ("numbers as text", with_y_args(device="0", stream="7", correlation="2"), ALIKE, {}),
    ("no device but the process", with_y_args(device=None), ONLY_X, {"ops_without_device": 1}),
    ("device -1", with_y_args(device=-1), ONLY_X, {"ops_without_device": 1}),
    ("no correlation", with_y_args(correlation=None), ORPHAN_Y, {}),
    ("a time that is not a number", with_y(ts="NaN"), ONLY_X, {"ops_without_end": 1}),
    ("an exponent beyond any clock", with_y(ts="1e999999"), ONLY_X, {"ops_without_end": 1}),
    ("no duration", with_y(dur=None), ONLY_X, {"ops_without_end": 1}),
    ("a negative duration", with_y(dur=-1), ONLY_X, {"ops_end_before_start": 1}),
    ("no arguments", with_y(args=[1], pid=0), ORPHAN_Y, {}),
    ("a category that is none", [*profile(), event(["kernel"], "x", 0, 1), event(None, "x", 0, 1)], ALIKE, {}),
    ("no events", [*profile(), None, 3, "X", {}], ALIKE, {}),
    ("ranks by a word, one device number", RANKS, ALIKE | {(1, "t", w): ns for (_, _, w), ns in ALIKE.items()}, {}),
    ("ranks at the same instants", SAME_INSTANT, NOBODY, {}),
    (
        "an id that only one rank has tells both apart",
        [*SAME_INSTANT, event("cuda_runtime", "cudaLaunchKernel", 300, 10, 200, correlation=3), kernel(3, 320, 5, 1)],
        ALIKE
        | {(1, "t", word): ns for word, ns in (("compute", 65), ("host_code", 100))}
        | {(1, "t", word): 20 for word in ("launch_api", "launch_latency")},
        {},
    ),
]


def written(folder: Path, events: list[Any]) -> Path:
    path = folder / "trace.json"
    path.write_text(json.dumps({"schemaVersion": 1, "traceEvents": events}))
    return path


@pytest.mark.parametrize(("events", "expected", "odd"), [e[1:] for e in EVENTS], ids=[e[0] for e in EVENTS])
def test_events_of_a_torch_profile(tmp_path: Path, events: list[Any], expected: Cells, odd: dict[str, int]) -> None:
    trace = open_trace(written(tmp_path, events))
    assert cells(analyze(trace), unit=1000) == expected
    assert dict(trace.meta.anomalies) == odd


@pytest.mark.parametrize(
    ("name", "kind", "unknown"),
    [
        ("Memcpy HtoD (Pinned -> Device)", "h2d", 0),
        ("Memcpy DtoA (Device -> Array)", "d2d", 0),
        ("Memcpy M2D", "h2d", 0),
        ("Memcpy D2M", "d2h", 0),
        ("CopyDeviceToHost", "d2h", 0),
        ("CopyHostToDevice2D", "h2d", 0),
        ("Memcpy Unknown (Pageable -> Device)", "h2d", 1),
        ("Memcpy Unknown (Device -> Pinned)", "d2h", 1),
        ("something else", "d2d", 1),
    ],
)
def test_what_a_copy_is_called(tmp_path: Path, name: str, kind: str, unknown: int) -> None:
    trace = open_trace(written(tmp_path, [event("gpu_memcpy", name, 1, 1, 0, device=0, bytes=4)]))
    assert trace.ops["kind"].to_list() == [kind]
    assert trace.meta.anomalies.get("copies_of_unknown_kind", 0) == unknown


# ------------------------------------------------------------------------------- real recordings, told in another way

H100: Final = "h100_pipeline_decode"
_SHIFT: Final = 9_000_000_000_000
_NEXT_PROCESS: Final = 3 << 24


def ledger(path: Path) -> dict[tuple[Any, ...], int]:
    """Every cell of the trace in `path`."""
    keys = ("device", "stage", "iteration", "category", "cause")
    return {tuple(row[:-1]): row[-1] for row in analyze(open_trace(path)).ledger.select(*keys, "ns").iter_rows()}


def on_next_device(expected: dict[tuple[Any, ...], int]) -> dict[tuple[Any, ...], int]:
    return expected | {(device + 1, *rest): ns for (device, *rest), ns in expected.items()}


def events_of(db: sqlite3.Connection) -> dict[str, list[str]]:
    """The tables of events, and their columns."""
    names = [n for (n,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    columns = {n: [c[1] for c in db.execute(f"PRAGMA table_info({n})")] for n in names}
    return {n: c for n, c in columns.items() if {"globalPid", "globalTid"} & set(c) and "start" in c}


def earlier_and_shuffled(db: sqlite3.Connection) -> None:
    """All times before zero, and the rows in another order; rows without an end keep none."""
    for table, columns in events_of(db).items():
        cells = [f"{c} - {_SHIFT}" if c == "start" else c for c in columns]
        cells = [
            f"CASE WHEN {c} THEN {c} - {_SHIFT} END" if c == "end" else cell
            for c, cell in zip(columns, cells, strict=True)
        ]
        named = ", ".join(f"{cell} AS {c}" for cell, c in zip(cells, columns, strict=True))
        db.execute(f"CREATE TABLE other AS SELECT {named} FROM {table} ORDER BY start * 7919 % 10007")
        db.execute(f"DROP TABLE {table}")
        db.execute(f"ALTER TABLE other RENAME TO {table}")


def twice(db: sqlite3.Connection) -> None:
    """Everything a second time: by a process with the same thread numbers and correlation ids, on the next device."""
    more = {"globalPid": _NEXT_PROCESS, "globalTid": _NEXT_PROCESS, "endGlobalTid": _NEXT_PROCESS}
    more |= {"deviceId": 1, "srcDeviceId": 1, "dstDeviceId": 1}
    for table, columns in events_of(db).items():
        cells = ", ".join(f"{c} + {more[c]}" if c in more else c for c in columns)
        db.execute(f"INSERT INTO {table} SELECT {cells} FROM {table}")
    db.execute("DROP TABLE TARGET_INFO_CUDA_DEVICE")


@pytest.mark.parametrize("change", [earlier_and_shuffled, twice])
def test_a_real_export_told_in_another_way(tmp_path: Path, change: Callable[[sqlite3.Connection], None]) -> None:
    path = unpack(H100, tmp_path)
    expected = ledger(path)
    with closing(sqlite3.connect(path)) as db, db:
        change(db)
    assert ledger(path) == (on_next_device(expected) if change is twice else expected)


def test_two_ranks_of_a_real_profile_in_one_file(tmp_path: Path) -> None:
    # 4,552 operations a rank, all ids the same; the second rank does everything 50 us later
    document = json.loads(gzip.decompress((SAMPLES / f"{H100}_kineto.json.gz").read_bytes()), parse_float=str)
    path = tmp_path / "ranks.json"
    path.write_text(json.dumps(document))
    expected = ledger(path)
    real = [e for e in document["traceEvents"] if e.get("ph") == "X"]
    late = [e | {"ts": str(Decimal(e["ts"]) + 50)} for e in real]
    both = [e | {"pid": f"rank {r}: {e['pid']}"} for r, events in enumerate((real, late)) for e in events]
    path.write_text(json.dumps(document | {"traceEvents": both}))
    assert ledger(path) == on_next_device(expected)


# --------------------------------------------------------------------------------------------- files, and the commands


def left_in_the_log(path: Path) -> Path:
    """A database whose last row is only in its write-ahead log, as a killed program leaves it."""
    statement = f"UPDATE {KERNELS} SET end = end + 1"
    script = (
        "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA journal_mode = WAL'); "
        "db.execute(sys.argv[2]); db.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(path), statement], check=True)
    assert path.with_name(path.name + "-wal").stat().st_size > 0
    return path


def interrupted(path: Path) -> Path:
    """A database beside the journal of a change that was neither finished nor taken back."""
    path.with_name(path.name + "-journal").write_bytes(bytes.fromhex("d9d505f920a163d7"))
    return path


def other_database(path: Path) -> Path:
    return edited(path, "CREATE TABLE events (start INTEGER, end INTEGER)")


def bytes_of(content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


FILES: Final[list[tuple[str, Callable[[Path], Path], str]]] = [
    ("unfinished log", lambda p: left_in_the_log(recording().write(p)), "changes to it are unfinished"),
    ("interrupted write", lambda p: interrupted(recording().write(p)), "changes to it are unfinished"),
    ("another database", other_database, "SQLite database of something else"),
    ("an encrypted one", bytes_of(bytes(range(256)) * 64), "it is neither"),
    (
        "damaged pages",
        lambda p: bytes_of(recording().write(p).read_bytes()[:4096] + b"\xff" * 8192 * 30)(p),
        "damaged|truncated",
    ),
    ("half of one", lambda p: bytes_of(recording().write(p).read_bytes()[:9000])(p), "truncated"),
    ("nothing", bytes_of(b""), "it is empty"),
    (
        "a torch profile of projections",
        lambda p: bytes_of(written(p.parent, [event("gpu_user_annotation", "step", 0, 5)]).read_bytes())(p),
        "record_function",
    ),
    ("a list", bytes_of(json.dumps([1, "ph", [2]]).encode()), "no list `traceEvents`"),
    ("half a JSON", bytes_of(json.dumps({"traceEvents": profile()}).encode()[:-40]), "not complete JSON"),
    ("half a gzip", bytes_of(b"\x1f\x8bhalf"), "damaged"),
]


@pytest.mark.parametrize(("make", "word"), [f[1:] for f in FILES], ids=[f[0] for f in FILES])
def test_a_file_that_is_no_trace_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path], word: str
) -> None:
    path = make(tmp_path / "a trace of theirs.sqlite")
    with pytest.raises(InputError, match=word):
        open_trace(path)
    assert main(["analyze", str(path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and shown.err.startswith("aisp-trace: ")


def test_a_window_without_operations_does_not_say_that_none_were_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recording().write(tmp_path / "t.sqlite")
    found = analyze(open_trace(path), window=(500, 900))
    assert found.ledger.select("cause", "ns").rows() == [("tail", 400)]
    said = {metric: reason for metric, level, reason in found.trust.rows() if level == "unavailable"}
    assert {said[metric] for metric in ("overlap", "bandwidth", "comm", "bytes")} == {
        "the window has no device operations"
    }
    assert main(["analyze", str(path), "--window", "500ns:900ns"]) == 2, (
        "who asks for it on the command line is told where"
    )
    assert "run from 120ns to 260ns, which is --window +0ns:+140ns" in capsys.readouterr().err


def test_pages_that_the_driver_moves_by_itself_are_no_lost_launches(tmp_path: Path) -> None:
    #  A migration of unified memory (kind 11) names neither call nor stream; a copy without its call is a loss.
    for kind, words in ((11, ""), (1, "1 of 3 operations have no launching call")):
        export = recording().copy(300, 350, kind, 65536, srcKind=7, dstKind=7, correlationId=0)
        found = analyze(open_trace(export.write(tmp_path / f"{kind}.sqlite")))
        reasons = dict(found.trust.select("metric", "reason").rows())
        assert (
            words in reasons["projection"] and (words in reasons["causes"]) and bool(words) == bool(reasons["causes"])
        )


def test_damage_that_sqlite_quotes_is_damage(tmp_path: Path) -> None:
    #  SQLite's message quotes the damaged schema, which is not text
    path = recording().write(tmp_path / "t.sqlite")
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE", b"CREATE T\x81BLE", 1))
    with pytest.raises(InputError, match="damaged"):
        open_trace(path)


def test_half_characters_do_not_stop_an_export(tmp_path: Path) -> None:
    path = written(tmp_path, [*profile("\ud800", "\ud800"), event("\ud800", "\ud800", 0, 1)])
    for form in ("json", "csv"):
        assert main(["export", str(path), "--to", form, "-o", str(tmp_path / form)]) == 0


def test_a_trace_of_rows_that_cannot_be_used_says_which(tmp_path: Path) -> None:
    export = NsysExport().kernel(1, 2, deviceId=None)
    with pytest.raises(EmptyTraceError, match="1 ops without device"):
        open_trace(export.write(tmp_path / "t.sqlite"))


@pytest.mark.parametrize(
    "make", [second_process, other_thread("u"), renamed("")], ids=["processes", "threads", "nameless"]
)
def test_every_command_takes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[NsysExport], None]
) -> None:
    export = recording()
    make(export)
    theirs, ours = export.write(tmp_path / "their trace.sqlite"), written(tmp_path, RANKS)
    for options in ([], ["--json"], ["--depth", "1"], ["--window", "50ns:230ns"], ["--attribution", "thread"]):
        assert main(["analyze", str(theirs), *options]) == 0, options
    for form in ("perfetto", "parquet", "csv", "json"):
        assert main(["export", str(theirs), "--to", form, "-o", str(tmp_path / form)]) == 0
    assert main(["report", str(theirs), "-o", str(tmp_path / "r.html")]) == 0
    assert main(["compare", str(theirs), str(ours), "--json"]) == 0
    assert "Traceback" not in capsys.readouterr().err
