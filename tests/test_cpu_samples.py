"""CPU samples: what the thread that a device waits for ran in the largest gaps."""

from __future__ import annotations

import gzip
import json
import lzma
import sqlite3
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path

import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.api import analyze_recording
from aisp_trace.analyze.document import document
from aisp_trace.analyze.findings.find import find
from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.oracle.build import build, call, op
from aisp_trace.traces import open as opening
from aisp_trace.traces import unpack
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.nsys.samples import read_samples
from aisp_trace.traces.open import open_trace
from aisp_trace.traces.samples import Stretch, no_samples

US = 1_000
LOOP = "_PyEval_EvalFrameDefault@/usr/bin/python3.11"
PARSE = "scan_once@/usr/lib/python3.11/lib-dynload/_json.so"
FREE = "_PyObject_Free@/usr/bin/python3.11"


def late_host(samples: bool = True) -> NsysExport:
    """
    device           |A 0-100 us|                                  |B 1000-1100|
    thread 100   L                 parse parse parse free ? other        L 990
    thread 101         |            parse parse                              not waited for
    """
    export = NsysExport()
    export.call(-20 * US, -10 * US, "cudaLaunchKernel", correlationId=1).kernel(0, 100 * US, "A", correlationId=1)
    export.call(990 * US, 995 * US, "cudaLaunchKernel", correlationId=2).kernel(
        1_000 * US, 1_100 * US, "B", correlationId=2
    )
    if samples:
        export.sample(50 * US, FREE, LOOP)  # the device is busy
        for at in (200, 300, 400):
            export.sample(at * US, PARSE, LOOP)
        export.sample(500 * US, FREE, LOOP)
        export.sample(600 * US, None, LOOP)  # the innermost has no name, the one that called it has
        export.sample(700 * US, None, None)  # none has
        export.sample(250 * US, PARSE, LOOP, tid=101).sample(450 * US, PARSE, LOOP, tid=101)
        export.sample(1_000 * US, FREE, LOOP)  # B begins: no gap any more
    return export


GAP = Stretch(100, 100, 100 * US, 1_000 * US)


def test_functions_of_a_stretch_are_those_of_its_thread_and_time(tmp_path: Path) -> None:
    found = read_samples(late_host().write(tmp_path / "t.sqlite"), [GAP, Stretch(100, 101, 0, 300 * US), GAP])
    once = [
        ("scan_once", "_json.so", 3),
        (None, None, 1),
        ("_PyEval_EvalFrameDefault", "python3.11", 1),
        ("_PyObject_Free", "python3.11", 1),
    ]
    rows = found.rows()
    assert next(row[1:] for row in rows if row[0] == 0) == once[0]
    assert sorted((row[1:] for row in rows if row[0] == 0), key=str) == sorted(once, key=str)
    assert [row for row in rows if row[0] == 1] == [(1, "scan_once", "_json.so", 1)]
    assert [row[1:] for row in rows if row[0] == 2] == [row[1:] for row in rows if row[0] == 0]


RECORDED = Path(__file__).parent / "recorded" / "cpu_samples_nsys2022.sqlite.xz"
"""254 samples of 300 ms of a Python loop (``s += i * i`` in a function), which nsys 2022.4 recorded with
``nsys profile --sample=process-tree -t nvtx,osrt``. Of the export the tables of samples are kept, with the strings they name, and
paths of the machine were replaced. Chosen for what recorders write that fixtures forget: `unresolved` is null or 1, frames
without a name have their address for one, and every stack ends in ``[Broken backtraces]``."""


def test_a_real_recording_as_a_walk_up_each_stack_tells_it(tmp_path: Path) -> None:
    file = tmp_path / "t.sqlite"
    file.write_bytes(lzma.decompress(RECORDED.read_bytes()))
    with closing(sqlite3.connect(file)) as db:
        times = dict(db.execute("SELECT id, start FROM COMPOSITE_EVENTS"))
        frames = db.execute(
            "SELECT c.id, s.value, m.value, c.unresolved FROM SAMPLING_CALLCHAINS c JOIN StringIds s ON s.id = c.symbol "
            "JOIN StringIds m ON m.id = c.module ORDER BY c.id, c.stackDepth"
        ).fetchall()
    middle = sorted(times.values())[100]
    expected: dict[int, Counter[tuple[str, str]]] = {0: Counter(), 1: Counter()}
    told: set[int] = set()
    for number, function, module, unresolved in frames:
        if number not in told and not unresolved and not function.startswith("["):
            told.add(number)
            expected[times[number] >= middle][function, module.rsplit("/", 1)[-1]] += 1
    rows = read_samples(file, [Stretch(9893, 9893, 0, middle), Stretch(9893, 9893, middle, 1 << 60)]).rows()
    found = {i: Counter({(f, m): n for position, f, m, n in rows if position == i and f is not None}) for i in (0, 1)}
    assert found == expected
    assert [sum(n for position, *_, n in rows if position == i) for i in (0, 1)] == [100, 154]
    assert expected[1].most_common(1)[0][0] == ("_PyEval_EvalFrameDefault", "libpython3.11.so.1.0")
    assert {number for number, _, _, unresolved in frames if unresolved} & told, "a frame without a name is passed over"


def test_start_belongs_to_a_stretch_and_its_end_does_not(tmp_path: Path) -> None:
    file = NsysExport().call(0, 1, "cudaFree").sample(10, PARSE).sample(20, FREE).write(tmp_path / "t.sqlite")
    assert read_samples(file, [Stretch(100, 100, 10, 20)]).rows() == [(0, "scan_once", "_json.so", 1)]
    assert read_samples(file, [Stretch(100, 100, 11, 21)]).rows() == [(0, "_PyObject_Free", "python3.11", 1)]


def test_an_export_without_samples_answers_nothing(tmp_path: Path) -> None:
    file = late_host(samples=False).write(tmp_path / "t.sqlite")
    assert read_samples(file, [GAP]).is_empty()
    found = analyze_recording(file, window="all")
    assert found.gap_functions.is_empty()
    assert all(gap["samples"] == 0 and gap["functions"] == [] for gap in document([found])["traces"][0]["gaps"])


def test_several_hosts_are_not_told_apart_and_so_not_guessed(tmp_path: Path) -> None:
    file = late_host().sample(300 * US, FREE, host=2).write(tmp_path / "t.sqlite")
    assert read_samples(file, [GAP]).is_empty()


def test_frames_are_found_without_the_key_of_an_export_that_was_copied_by_hand(tmp_path: Path) -> None:
    """A data frame that writes tables back leaves keys, and columns it does not know, out."""
    export = late_host()
    export.columns["SAMPLING_CALLCHAINS"] = (
        "id INTEGER, symbol INTEGER, module INTEGER, stackDepth INTEGER, unresolved REAL"
    )
    for row in export.rows["SAMPLING_CALLCHAINS"]:
        for column in set(row) - {"id", "symbol", "module", "stackDepth", "unresolved"}:
            del row[column]
    whole = read_samples(late_host().write(tmp_path / "a.sqlite"), [GAP])
    assert read_samples(export.write(tmp_path / "b.sqlite"), [GAP]).equals(whole)


@pytest.mark.parametrize("table", ["COMPOSITE_EVENTS", "SAMPLING_CALLCHAINS"])
def test_lost_rows_are_damage_and_not_fewer_samples(tmp_path: Path, table: str) -> None:
    """The rows' places in one page of the table are lost, as where a copy broke off and was patched up."""
    export = NsysExport().call(0, 1, "cudaFree")
    for at in range(3_000):
        export.sample(at, PARSE, LOOP)
    file = export.write(tmp_path / "t.sqlite")
    everything = [Stretch(100, 100, 0, 3_000)]
    assert read_samples(file, everything).rows() == [(0, "scan_once", "_json.so", 3_000)]
    with closing(sqlite3.connect(file)) as db:
        (size,) = db.execute("PRAGMA page_size").fetchone()
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    pages = bytearray(file.read_bytes())
    first = (root - 1) * size
    assert pages[first] == 5, "an interior page of a table"
    child = int.from_bytes(pages[first + 12 : first + 14], "big")
    leaf = (int.from_bytes(pages[first + child : first + child + 4], "big") - 1) * size
    assert pages[leaf] == 13, "a leaf of a table"
    cells = int.from_bytes(pages[leaf + 3 : leaf + 5], "big")
    pages[leaf + 3 : leaf + 5] = (cells // 2).to_bytes(2, "big")
    file.write_bytes(pages)
    with pytest.raises(InputError, match="damaged"):
        read_samples(file, everything)


def test_the_gap_asks_for_the_thread_that_launches_and_the_finding_names_its_function(tmp_path: Path) -> None:
    found = analyze_recording(late_host().write(tmp_path / "t.sqlite"), window="all")
    assert set(found.gap_functions.select("device", "start_ns", "end_ns").rows()) == {(0, 100 * US, 1_000 * US)}
    assert found.gap_functions["samples"].sum() == 6
    (gap,) = document([found])["traces"][0]["gaps"]
    assert (gap["samples"], gap["functions"][0]) == (6, {"function": "scan_once", "module": "_json.so", "samples": 3})
    (first,) = (one for one in find(found) if one.rule == "host_bound")
    assert "in the longest such gaps it runs scan_once (_json.so), in 3 of 6 CPU samples (50.0 %)" in first.evidence


def test_the_terminal_says_it_below_the_gap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(late_host().write(tmp_path / "t.sqlite"))]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "CPU samples: scan_once (_json.so) in 3 of 6, _PyEval_EvalFrameDefault (python3.11) in 1" in shown
    assert main(["analyze", str(late_host(samples=False).write(tmp_path / "u.sqlite"))]) == 0
    assert "CPU sample" not in capsys.readouterr().out


def test_memory_is_taken_for_the_samples_of_the_stretches_alone(tmp_path: Path) -> None:
    """100,000 samples of one thread, with 4 frames each, and two stretches, one at either end: as rows of Python, the samples
    alone would take 17 MB."""
    many, depth = 100_000, 4
    export = late_host()
    symbol, module = export.string("spin"), export.string("/usr/lib/libspin.so")
    file = export.write(tmp_path / "t.sqlite")
    with closing(sqlite3.connect(file)) as db, db:
        db.executemany(
            "INSERT INTO COMPOSITE_EVENTS VALUES (?, ?, 0, 1, ?, 1)",
            ((i, i * US, (1 << 48) | (100 << 24) | 100) for i in range(100, 100 + many)),
        )
        db.executemany(
            "INSERT INTO SAMPLING_CALLCHAINS (id, symbol, module, stackDepth) VALUES (?, ?, ?, ?)",
            ((i, symbol, module, d) for i in range(100, 100 + many) for d in range(depth)),
        )
    tracemalloc.start()
    try:
        found = read_samples(
            file, [Stretch(100, 100, 2_000 * US, 3_000 * US), Stretch(100, 100, 90_000 * US, 91_000 * US)]
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.rows() == [(i, "spin", "libspin.so", 1_000) for i in range(2)]
    assert peak < 8 << 20


def test_only_gaps_are_asked_for() -> None:
    """Whatever a recording holds, no stretch reaches beyond the largest gaps."""
    asked: list[Stretch] = []

    def sampler(stretches: Sequence[Stretch]) -> pl.DataFrame:
        asked.extend(stretches)
        return no_samples(stretches)

    trace = build(
        api=[call("cudaLaunchKernel", 100 * i, 100 * i + 5, i + 1) for i in range(60)],
        ops=[op("compute", 100 * i + 10, 100 * i + 30 + i, i + 1) for i in range(60)],
    )
    analyze(trace, samples=sampler, largest_gaps=1_000)
    longest = sorted(((110 + 100 * i) - (100 * i + 30 + i) for i in range(59)), reverse=True)[:20]
    assert sorted((s.end_ns - s.start_ns for s in asked), reverse=True) == longest
    assert {(s.pid, s.tid) for s in asked} == {(1, 10)}


def test_packed_exports_are_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = late_host().write(tmp_path / "t.sqlite")
    packed = tmp_path / "t.sqlite.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    unpacked: list[Path] = []
    real = unpack.decompressed

    def counted(path: Path) -> AbstractContextManager[Path]:
        unpacked.append(path)
        return real(path)

    monkeypatch.setattr(opening, "decompressed", counted)
    assert analyze_recording(packed, window="all").gap_functions["samples"].sum() == 6
    assert unpacked == [packed]
    assert "SAMPLING_CALLCHAINS" in open_trace(packed).meta.tables


def test_json_and_page_carry_the_functions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = late_host().write(tmp_path / "t.sqlite")
    assert main(["analyze", str(file), "--json"]) == 0
    gaps = json.loads(capsys.readouterr().out)["traces"][0]["gaps"]
    assert gaps[0]["functions"][0]["function"] == "scan_once"
    assert main(["report", str(file), "-o", str(tmp_path / "r.html")]) == 0
    assert "CPU samples: scan_once (_json.so) in 3 of 6" in (tmp_path / "r.html").read_text()
