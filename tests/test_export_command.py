"""`aisp-trace export`: what lies where afterwards, what is refused, and that nothing is ever half there."""

from __future__ import annotations

import gzip
import json
import lzma
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from aisp_trace.cli.main import main
from aisp_trace.report.export import traces as exports
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.judging.build import run_folder

Export = Callable[..., tuple[int, str]]


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Export:
    """Run `export` in `tmp_path`; answers exit code, and stdout with stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str | Path) -> tuple[int, str]:
        code = main(["export", *map(str, args)])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


def recorded(file: Path) -> Path:
    """A small nsys export at `file`, with an environment that must not leave the machine."""
    made = NsysExport().call(5, 8, "cudaLaunchKernel", correlationId=1).kernel(10, 20)
    made.add("TARGET_INFO_SYSTEM_ENV", devStateName="x", name="SECRET", value="hunter2")
    file.parent.mkdir(parents=True, exist_ok=True)
    made.write(file)
    return file


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return recorded(tmp_path / "t.sqlite")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two variants, the newest and only one below ``aisp-runs``."""
    folder = run_folder(tmp_path / "aisp-runs" / "pipeline-1")
    for variant in ("baseline", "optimized"):
        recorded(folder / variant / "trace.sqlite")
    return folder


def files(folder: Path) -> set[str]:
    """Everything below `folder` but the inputs; hidden and temporary files too."""
    found = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    return {f for f in found if f != "t.sqlite" and not f.startswith("aisp-runs/") and ".aisp-cache/" not in f}


def test_each_format_has_a_name_of_its_own(trace: Path, export: Export, tmp_path: Path) -> None:
    for form, name in [
        ("perfetto", "t.pftrace"),
        ("json", "t.analysis.json"),
        ("csv", "t-csv"),
        ("parquet", "t-parquet"),
    ]:
        code, shown = export(trace, "--to", form)
        assert code == 0 and shown.startswith(f"{name}  ("), shown
        assert (tmp_path / name).exists()
    assert {name.split("/")[0] for name in files(tmp_path)} == {"t.pftrace", "t.analysis.json", "t-csv", "t-parquet"}


def test_json_is_what_analyze_prints(trace: Path, export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(trace, "--to", "json", "-o", "a.json")[0] == 0
    assert main(["analyze", str(trace), "--json", "--gaps", "1000"]) == 0
    assert json.loads(Path("a.json").read_text()) == json.loads(capsys.readouterr().out)


def test_gz_compresses(trace: Path, export: Export, tmp_path: Path) -> None:
    export(trace, "--to", "perfetto", "-o", "a.pftrace")
    export(trace, "--to", "perfetto", "-o", "a.pftrace.gz")
    packed = (tmp_path / "a.pftrace.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "a.pftrace").read_bytes()


def test_a_run_has_one_output_a_variant(run: Path, export: Export, tmp_path: Path) -> None:
    assert export("--to", "perfetto", "-o", "a.pftrace.gz")[0] == 0  # the newest run
    assert export(run, "--to", "csv", "-o", "tables")[0] == 0
    assert export(run, "--to", "json")[0] == 0
    assert export(run, "--scrub")[0] == 0
    top = {name for name in files(tmp_path) if "/" not in name}
    assert top == {
        "a.baseline.pftrace.gz",
        "a.optimized.pftrace.gz",
        "pipeline-1.analysis.json",
        "pipeline-1.scrubbed.baseline.sqlite",
        "pipeline-1.scrubbed.optimized.sqlite",
    }
    assert (tmp_path / "tables" / "optimized" / "trace" / "ops.csv").is_file()
    assert json.loads((tmp_path / "tables" / "export.json").read_text())["folders"]["baseline"] == {
        "variant": "baseline"
    }
    variants = [t["variant"] for t in json.loads((tmp_path / "pipeline-1.analysis.json").read_text())["traces"]]
    assert variants == ["baseline", "optimized"]


def test_one_variant_of_a_run(run: Path, export: Export, tmp_path: Path) -> None:
    assert export(run, "--to", "perfetto", "--variant", "optimized")[0] == 0
    assert export(run, "--to", "csv", "--variant", "baseline", "-o", "tables")[0] == 0
    assert (tmp_path / "pipeline-1.optimized.pftrace").is_file()
    assert (tmp_path / "tables" / "trace" / "ops.csv").is_file()
    code, shown = export(run, "--to", "csv", "--variant", "fast")
    assert code == 2 and "it has baseline, optimized" in shown


def test_a_scrubbed_copy_says_nothing_of_the_environment(trace: Path, export: Export, tmp_path: Path) -> None:
    assert b"hunter2" in trace.read_bytes()
    assert export(trace, "--scrub", "-o", "clean.sqlite")[0] == 0
    clean = tmp_path / "clean.sqlite"
    assert b"hunter2" not in clean.read_bytes()
    with closing(sqlite3.connect(clean)) as database:
        assert database.execute("SELECT start, end FROM CUPTI_ACTIVITY_KIND_KERNEL").fetchall() == [(10, 20)]


def test_a_compressed_export_is_scrubbed_as_well(trace: Path, export: Export, tmp_path: Path) -> None:
    packed = tmp_path / "packed.sqlite.xz"
    packed.write_bytes(lzma.compress(trace.read_bytes()))
    assert export(trace, "--scrub", "-o", "plain.sqlite")[0] == 0
    assert export(packed, "--scrub", "-o", "unpacked.sqlite")[0] == 0
    assert (tmp_path / "unpacked.sqlite").read_bytes() == (tmp_path / "plain.sqlite").read_bytes()


def test_an_export_is_replaced_by_the_next_but_a_trace_only_with_force(
    trace: Path, export: Export, tmp_path: Path
) -> None:
    for form in ("perfetto", "json", "csv", "parquet"):
        assert export(trace, "--to", form, "-o", form)[0] == 0
        before = files(tmp_path)
        assert export(trace, "--to", form, "-o", form)[0] == 0
        assert files(tmp_path) == before
    assert export(trace, "--scrub", "-o", "out")[0] == 0
    code, shown = export(trace, "--scrub", "-o", "out")
    said = "out exists and is not replaced unasked; choose another name with -o, or replace it with --force"
    assert (code, shown) == (2, f"aisp-trace: {said}\n")
    assert export(trace, "--scrub", "-o", "out", "--force")[0] == 0


def test_a_run_is_refused_as_a_whole_if_one_output_exists(run: Path, export: Export, tmp_path: Path) -> None:
    (tmp_path / "a.optimized.pftrace").write_text("mine")
    assert export(run, "--to", "perfetto", "-o", "a.pftrace")[0] == 2
    assert files(tmp_path) == {"a.optimized.pftrace"}


def test_force_replaces_only_exports(trace: Path, export: Export, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("mine")
    code, shown = export(trace, "--to", "csv", "-o", "home", "--force")
    assert code == 2 and "is not a folder of an earlier export" in shown
    code, shown = export(trace, "--to", "perfetto", "-o", "home", "--force")
    assert code == 2 and "is a folder" in shown
    assert files(tmp_path) == {"home/thesis.txt"}


def test_the_input_is_never_the_output(trace: Path, run: Path, export: Export) -> None:
    before = trace.read_bytes()
    for args in (["--scrub"], ["--to", "perfetto"]):
        code, shown = export(trace, *args, "-o", trace, "--force")
        assert code == 2 and "cannot be the output too" in shown
    assert trace.read_bytes() == before
    own = run / "baseline" / "trace.sqlite"
    for how in (["--scrub"], ["--to", "json"], ["--to", "perfetto"]):
        code, shown = export(run, *how, "--variant", "baseline", "-o", own, "--force")
        assert code == 2 and "cannot be the output too" in shown
    assert b"hunter2" in own.read_bytes()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "no format was given; give --to with one of perfetto, parquet, csv, json, or --scrub"),
        (["--to", "perfeto"], "no format is called 'perfeto'; did you mean 'perfetto'?"),
        (["--to", "xlsx"], "no format is called 'xlsx'; formats are perfetto, parquet, csv, json"),
        (
            ["--scrub", "--window", "1ms:2ms"],
            "--window 1ms:2ms has no effect on --scrub, which copies the whole trace; leave it out, or add --to",
        ),
        (["--to", "csv", "--variant", "x"], "t.sqlite is a single trace and has no variant 'x'; leave --variant out"),
        (["--to", "csv", "-o", "no/where"], "no/where cannot be written because no is not a folder; make it first"),
        (["--to", "csv", "--attribution", "x"], "attribution 'x' does not exist; choose process or thread"),
        (["--to", "csv", "--domain", "x"], "the trace has no ranges of domain 'x'; it has none at all"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    args: list[str], sentence: str, trace: Path, export: Export, tmp_path: Path
) -> None:
    assert export(trace.name, *args) == (2, f"aisp-trace: {sentence}\n")
    assert files(tmp_path) == set()


def test_what_is_no_trace_is_refused(export: Export, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    for args in (["--to", "perfetto"], ["--to", "csv"], ["--to", "json"], ["--scrub"]):
        code, shown = export("notes.txt", *args)
        assert code == 2 and shown.count("\n") == 1, shown
    assert export("absent", "--to", "csv")[0] == 2
    assert export("--to", "csv")[0] == 2  # no run here
    assert files(tmp_path) == {"notes.txt"}


def test_what_fails_midway_leaves_nothing(
    trace: Path, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(exports, "write_perfetto", fail)
    monkeypatch.setattr(exports, "write_tables", fail)
    assert export(trace, "--to", "perfetto", "-o", "a.pftrace")[0] == 130
    assert export(trace, "--to", "csv", "-o", "tables")[0] == 130
    assert files(tmp_path) == set() and not (tmp_path / "tables").exists()
    assert [f for f in tmp_path.iterdir() if f.name.startswith(".")] == []


def test_each_format_says_what_was_selected(export: Export, tmp_path: Path) -> None:
    made = NsysExport().call(5, 8, "cudaLaunchKernel", correlationId=1).kernel(10, 20)
    made.range(0, 30, "outer").range(2, 25, "inner")
    made.write(tmp_path / "t.sqlite")
    chosen = ("--stages", "outer|inner", "--depth", "1", "--range", "outer")
    for form, place in (("json", "out"), ("csv", "out-csv"), ("parquet", "out-parquet")):
        code, said = export("t.sqlite", "--to", form, "-o", place, *chosen)
        assert code == 0, said
    told = [json.loads((tmp_path / "out").read_text())["traces"][0]["selection"]]
    told += [
        json.loads((tmp_path / f"out-{form}" / "export.json").read_text())["selection"] for form in ("csv", "parquet")
    ]
    wanted = {
        "domain": "",
        "range": "outer",
        "stages": "outer|inner",
        "depth": 1,
        "window": None,
        "attribution": "process",
        "folded_stages": 0,
        "fold": True,
    }
    assert told == [wanted] * 3
    stages = json.loads((tmp_path / "out").read_text())["traces"][0]["stages"]
    assert [s["path"] for s in stages] == ["outer"]


@pytest.mark.parametrize("option", [("--stages", "x"), ("--depth", "1"), ("--range", "x")])
def test_a_scrubbed_copy_takes_no_selection(trace: Path, export: Export, option: tuple[str, str]) -> None:
    code, said = export(trace, "--scrub", *option)
    assert code == 2 and f"{' '.join(option)} has no effect on --scrub" in said
