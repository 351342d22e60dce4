"""Kept analyses: a second look is the first one word for word, reads nothing, and is used for nothing but what it was made of."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from aisp_trace.analyze import kept, tables
from aisp_trace.analyze.result import Analysis
from aisp_trace.analyze.sources import Asked, Quick, find_recorded
from aisp_trace.cli.main import main
from aisp_trace.traces.open import open_trace
from aisp_trace.traces.store import cache_home
from aisp_trace.traces.unpack import decompressed

SAMPLES = Path(__file__).resolve().parents[1] / "traces" / "samples"
RUN = SAMPLES / "h200_pipeline_sequential"

Look = Callable[..., list[Analysis]]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Path]]:
    """The traces that are read, in a world where small ones are kept too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "LEAST_BYTES", 0)
    read: list[Path] = []

    def noted(path: Path, **settings: Any) -> Any:
        read.append(path)
        return open_trace(path, **settings)

    monkeypatch.setattr("aisp_trace.analyze.sources.open_trace", noted)
    yield read


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A trace of two devices that may be changed."""
    target = tmp_path / "train.sqlite"
    with decompressed(SAMPLES / "h200x2_handoff.sqlite.xz") as plain:
        target.write_bytes(plain.read_bytes())
    return target


def look(path: Path, cache: bool = True, **options: Any) -> list[Analysis]:
    return list(find_recorded(path).analyses(Asked(**options), Quick(cache)))


def assert_equal(one: Analysis, other: Analysis) -> None:
    for field in fields(Analysis):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, pl.DataFrame):
            assert_frame_equal(a, b, check_exact=True)
        else:
            assert a == b, field.name


def test_tables_without_a_field_are_kept_too(trace: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    line = tables.Table("idle", lambda a, made: made("ledger").filter(pl.col("category") == "idle"))
    monkeypatch.setattr(tables, "TABLES", (*tables.TABLES, line))
    (first,), read = look(trace), len(reads)
    (again,) = look(trace)
    assert len(reads) == read and len(again.more["idle"])
    assert_frame_equal(first.more["idle"], again.more["idle"])


@pytest.mark.parametrize(
    "source", [RUN, *sorted(SAMPLES.glob("*.xz")), *sorted(SAMPLES.glob("*.json.gz"))], ids=lambda p: p.name
)
def test_a_second_look_says_the_same_and_reads_nothing(source: Path, reads: list[Path]) -> None:
    first = look(source)
    read = len(reads)
    again = look(source)
    assert read > 0 and len(reads) == read
    for one, other in zip(first, again, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize(
    "options",
    [
        {"window": "0:19519681"},
        {"attribution": "thread"},
        {"gaps": 3},
        {"depth": 1},
        {"stages": "x"},
    ],
    ids=str,
)
def test_other_options_are_another_analysis(options: dict[str, Any], trace: Path, reads: list[Path]) -> None:
    look(trace)
    try:
        first = look(trace, **options)
    except Exception as exc:  # a selection that leaves nothing is refused each time
        with pytest.raises(type(exc)):
            look(trace, **options)
        return
    assert len(reads) == 2
    assert_equal(first[0], look(trace, **options)[0])
    assert len(reads) == 2


def test_a_changed_trace_is_read_again(trace: Path, reads: list[Path]) -> None:
    look(trace)
    os.utime(trace, ns=(1, 1))
    look(trace)
    assert len(reads) == 2


def test_a_calibration_that_comes_changes_or_goes_is_seen(
    trace: Path, reads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Path | None] = [None]
    monkeypatch.setattr("aisp_trace.analyze.calibrated.calibration_file", lambda keys, project, only=None: found[0])
    monkeypatch.setattr("aisp_trace.traces.calibration.load_calibration", lambda file: None)
    monkeypatch.setattr("aisp_trace.analyze.calibrated.Peaks", lambda calibration: None)
    file = tmp_path / "calibration_h200.json"
    for n, content in enumerate((None, "one", "two", None), 1):
        if content is not None:
            file.write_text(content)
        found[0] = None if content is None else file
        look(trace)
        look(trace)
        assert len(reads) == n


def test_other_code_does_not_believe_it(trace: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    look(trace)
    monkeypatch.setattr(kept, "_code", lambda: "other")
    look(trace)
    assert len(reads) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "member", "key"])
def test_a_damaged_copy_counts_as_none(damage: str, trace: Path, reads: list[Path]) -> None:
    first = look(trace)
    (file,) = (cache_home() / "analyses").iterdir()
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        with zipfile.ZipFile(file) as whole:
            members = {name: whole.read(name) for name in whole.namelist()}
        members["ledger.arrow" if damage == "member" else "key.json"] = b"{}"
        with zipfile.ZipFile(file, "w") as changed:
            for name, data in members.items():
                changed.writestr(name, data)
    assert_equal(first[0], look(trace)[0])
    assert len(reads) == 2
    look(trace)
    assert len(reads) == 2


def test_nothing_is_kept_or_used_without_the_cache(trace: Path, reads: list[Path]) -> None:
    look(trace, cache=False)
    assert not cache_home().exists()
    look(trace)
    look(trace, cache=False)
    assert len(reads) == 3


def test_where_nothing_can_be_written_nothing_is_kept(
    trace: Path, reads: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    for _ in range(2):
        assert main(["analyze", str(trace), "--json"]) == 0
    assert capsys.readouterr().err == ""
    assert len(reads) == 2


def test_the_folder_is_bounded_and_what_was_used_last_stays(
    trace: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    look(trace)
    (one,) = (cache_home() / "analyses").iterdir()
    monkeypatch.setattr(kept, "MOST_BYTES", int(2.5 * one.stat().st_size))
    os.utime(one, ns=(1, 1))
    for gaps in (1, 2, 3):
        look(trace, gaps=gaps)
    left = list((cache_home() / "analyses").iterdir())
    assert 1 <= len(left) <= 2 and one not in left
