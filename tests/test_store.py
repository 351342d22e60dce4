"""A cached trace is the same trace, and a cache that does not fit is as good as none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.builders.samples import SAMPLES
from aisp_trace.traces import store
from aisp_trace.traces.model import TABLES, Trace
from aisp_trace.traces.open import open_trace


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def same(a: Trace, b: Trace) -> bool:
    tables = all(a.table(n).equals(b.table(n)) and a.table(n).schema == b.table(n).schema for n in TABLES)
    return tables and a.meta == b.meta


@pytest.mark.parametrize("file", ["h100_pipeline_decode.sqlite.xz", "cpu_threads_nsys2022.sqlite.xz"])
def test_a_cached_trace_is_the_same_trace(tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(SAMPLES / file, tmp_path))
    first = open_trace(path, cache=True)
    assert (tmp_path / f"{file}.aisp-cache" / "key.json").is_file()
    monkeypatch.setattr("aisp_trace.traces.open._open", lambda *_: pytest.fail("the trace was read again"))
    assert same(open_trace(path, cache=True), first)


def test_names_of_all_kinds_survive(tmp_path: Path) -> None:
    export = NsysExport()
    for i, name in enumerate(("", "a\x00\n", "<b>", "z" * 1_000_000, "a" * 300)):
        export.kernel(i * 10, i * 10 + 5, name).range(i, i + 1, "r", text=name)
    path = export.write(tmp_path / "t.sqlite")
    assert same(open_trace(path, cache=True), open_trace(path, cache=True))


def test_no_cache_is_made_unasked(tmp_path: Path) -> None:
    open_trace(NsysExport().kernel(1, 2).write(tmp_path / "t.sqlite"))
    assert [p.name for p in tmp_path.iterdir()] == ["t.sqlite"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = NsysExport().kernel(1, 2, "old").write(tmp_path / "t.sqlite")
    stat = path.stat()
    assert open_trace(path, cache=True).ops.get_column("name").to_list() == ["old"]
    path.unlink()
    NsysExport().kernel(1, 2, "new").write(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size  # only the content sample tells them apart
    assert open_trace(path, cache=True).ops.get_column("name").to_list() == ["new"]
    assert open_trace(path, cache=True).ops.get_column("name").to_list() == ["new"]


@pytest.mark.parametrize("damage", ["key.json", "ops.parquet", "missing", "rows"])
def test_a_damaged_cache_is_ignored_and_rewritten(tmp_path: Path, damage: str) -> None:
    path = NsysExport().kernel(1, 2).range(0, 3, "r").write(tmp_path / "t.sqlite")
    whole = open_trace(path, cache=True)
    folder = tmp_path / "t.sqlite.aisp-cache"
    if damage == "missing":
        (folder / "ranges.parquet").unlink()
    elif damage == "rows":
        text = (folder / "key.json").read_text()
        (folder / "key.json").write_text(text.replace('"ranges": 1', '"ranges": 2'))
    else:
        (folder / damage).write_bytes(b"\x00garbage")
    key = store.cache_key(path)
    assert store.load(path, key) is None
    assert same(open_trace(path, cache=True), whole)
    restored = store.load(path, key)
    assert restored is not None
    assert same(restored, whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.sqlite", "t.sqlite.aisp-cache"]


def test_another_format_version_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = NsysExport().kernel(1, 2).write(tmp_path / "t.sqlite")
    open_trace(path, cache=True)
    monkeypatch.setattr(store, "FORMAT", store.FORMAT + 1)
    assert store.load(path, store.cache_key(path)) is None


def test_the_side_file_belongs_to_the_key(tmp_path: Path) -> None:
    path, side = tmp_path / "t", tmp_path / "stages.json"
    path.write_bytes(b"x")
    alone = store.cache_key(path, side)
    side.write_text("{}")
    assert store.cache_key(path, side) != alone


def test_a_folder_that_cannot_be_written(tmp_path: Path, cache_home: Path) -> None:
    path = NsysExport().kernel(1, 2).write(tmp_path / "t.sqlite")
    (tmp_path / "t.sqlite.aisp-cache").write_text("in the way")  # holds for root too, unlike permissions
    trace = open_trace(path, cache=True)
    kept = list((cache_home / "aisp-trace").iterdir())
    assert len(kept) == 1
    loaded = store.load(path, store.cache_key(path))
    assert loaded is not None
    assert same(loaded, trace)
    assert (tmp_path / "t.sqlite.aisp-cache").read_text() == "in the way"


def test_the_sample_sees_both_ends_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "large"
    size = 3 * store.SAMPLES * store.SAMPLE_BYTES
    path.write_bytes(bytes(size))
    stat = path.stat()
    keys = [store.cache_key(path)]
    for position in (0, size - 1):
        with path.open("r+b") as file:
            file.seek(position)
            file.write(b"\x01")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        keys.append(store.cache_key(path))
    assert len({k["sample"] for k in keys}) == 3


def test_a_full_disk_keeps_nothing_and_fails_nothing(tmp_path: Path) -> None:
    """polars has other words for it at each place of a file, most of them without the system's."""
    code = (
        "import resource, signal, sys; from pathlib import Path; import polars as pl\n"
        "from aisp_trace.traces.parquet import write_parquet\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "table = pl.DataFrame({'a': range(5000)})\n"
        "for limit in (1, 3, 5, 200, 1000, 4000, 9000):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        write_parquet(table, Path(sys.argv[1], str(limit)))\n"
        "        sys.exit(f'{limit}: written')\n"
        "    except OSError as error:\n"
        "        pass\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
