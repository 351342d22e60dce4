"""What a trace, a manifest or an expectation says becomes neither a path, nor the start of a line, nor a command to CI.

The hostile texts are planted in every text field there is, and every command that reads is run on them.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.capture.plan import Plan, PlannedVariant, check_plan
from aisp_trace.capture.progress import Progress
from aisp_trace.cli.main import main
from aisp_trace.report.terminal.console import print_json, say, say_wrapped, warn
from aisp_trace.tests.builders.nsys_export import NsysExport, gid
from aisp_trace.tests.judging.build import run_folder
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.tests.test_expectations_files import MECHANISM, TIME, put, text
from aisp_trace.traces.content import KEY, LONGEST_NAME, NAME, RUN_ID, bounded_key, file_name, one_line, printed
from aisp_trace.traces.errors import AispTraceError, InputError
from aisp_trace.traces.hardware_key import hardware_key
from aisp_trace.traces.run import MANIFEST, load_run

FORGED = "\x1b[2K\n17 met.\r17 met.\u202817 met.\n::error::17 met.\x0b::set-output name=a::b\x85##[error]17 ##vso[x]17"
HOSTILE = f"::error::x{FORGED}"
PATHS = (
    "../../../evil",
    "/tmp/evil",
    "..",
    ".",
    "",
    "a/b",
    "a\\b",
    "x" * 300,
    "-rf",
    ".hidden",
    "a\0b",
    "n\u00e4me",
    "a\nb",
)


def forged(output: str) -> list[str]:
    """The lines of `output` that a person or a CI runner would take for something else than what was planted."""
    return [
        line
        for line in output.splitlines()
        if line.lstrip().startswith(("::", "17 met.")) or re.search(r"##(\[|vso\[)", line) or not line.isprintable()
    ]


@given(st.text() | st.sampled_from(PATHS))
def test_a_file_name_is_one_safe_part_of_a_path(content: str) -> None:
    name = file_name(content)
    assert NAME.fullmatch(name) and len(name) <= LONGEST_NAME
    assert Path(name).name == name and name not in (".", "..")
    assert (name == content) == bool(NAME.fullmatch(content))


@given(st.lists(st.text(alphabet="ab/._ -", max_size=5), unique=True))
def test_two_texts_never_share_a_file(contents: list[str]) -> None:
    assert len({file_name(c) for c in contents}) == len(contents)


def test_names_that_differ_behind_the_cut_differ() -> None:
    long = "x" * 100
    assert file_name(long + "a") != file_name(long + "b")
    assert file_name("../../../evil") == f"evil-{file_name('../../../evil')[-8:]}"


@given(st.lists(st.text(), min_size=1, max_size=40), st.text())
def test_a_hardware_key_names_a_file(gpus: list[str], cpu: str) -> None:
    for key in (hardware_key(gpus, ""), hardware_key([], cpu)):
        assert KEY.fullmatch(key), key
        assert len(f"expectations_{key}.json".encode()) <= 255


def test_a_long_hardware_key_is_cut_and_told_apart() -> None:
    gpus = [f"GPU {i}" for i in range(0, 4000, 200)]
    assert 70 < len(hardware_key(gpus, "")) <= 80
    assert hardware_key(gpus, "") != hardware_key([*gpus[:-1], "GPU 4001"], "")
    assert bounded_key("h100_80gb_hbm3") == "h100_80gb_hbm3"


@given(st.text())
def test_a_printed_line_is_one_line_that_nobody_obeys(content: str) -> None:
    assert forged(printed(one_line(content)).replace("17 met.", "")) == []
    assert forged(printed(one_line(f"  ::{content}##[{content}##vso[")).replace("17 met.", "")) == []


def test_everything_that_prints(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    say_wrapped(f"a sentence that is long enough to be broken where it holds this: {'x' * 40} ::error::y {HOSTILE}")
    warn(HOSTILE)
    Progress("w", 1).say(HOSTILE)
    print_json({"name": HOSTILE, HOSTILE: ["##[error]", "##vso[x]"]})
    shown = capsys.readouterr()
    assert forged(shown.out) == forged(shown.err) == []
    assert "\\x3a:error::x" in shown.out
    assert json.loads(shown.out[shown.out.index("{") :]) == {"name": HOSTILE, HOSTILE: ["##[error]", "##vso[x]"]}


def hostile_trace(path: Path) -> None:
    """A small export in which every text is hostile, and different from the others."""
    texts = (f"{HOSTILE} {i}" for i in range(1000))
    export = NsysExport().domain(1, next(texts)).category(3, next(texts), 1)
    ms = 1_000_000
    for i in range(3):
        at = 10 + i * 10
        for domain in (0, 1):
            export.range(at * ms, (at + 9) * ms, next(texts), domainId=domain, category=3)
        export.call((at + 1) * ms, (at + 2) * ms, next(texts), correlationId=10 + i)
        export.kernel((at + 2) * ms, (at + 5) * ms, next(texts), correlationId=10 + i)
        export.call((at + 5) * ms, (at + 6) * ms, "cudaMalloc", correlationId=20 + i)
        export.copy((at + 6) * ms, (at + 8) * ms, correlationId=20 + i, srcKind=1, dstKind=2)
        export.add(
            "OSRT_API", start=at * ms, end=(at + 1) * ms, globalTid=gid(100, 100), nameId=export.string(next(texts))
        )
    gpu = {"name": next(texts), "uuid": next(texts), "busLocation": next(texts), "chipName": next(texts)}
    export.add("TARGET_INFO_GPU", id=0, totalMemory=1 << 30, memoryBandwidth=1 << 40, **gpu)
    export.add("PROCESSES", globalPid=gid(100), pid=100, name=next(texts))
    export.add("ThreadNames", nameId=export.string(next(texts)), priority=0, globalTid=gid(100, 100))
    export.add("DIAGNOSTIC_EVENT", timestamp=0, severity=3, text=f"events were dropped {next(texts)}")
    export.add("META_DATA_CAPTURE", name=next(texts), value=next(texts))
    export.add("META_DATA_EXPORT", name="EXPORT_VERSION", value=next(texts))
    export.add("ENUM_DIAGNOSTIC_SEVERITY_LEVEL", id=3, name="Error", label=next(texts))
    export.write(path)


IDENTIFIERS = (
    ("run_id",),
    ("hardware", "key"),
    ("workload",),
    ("variants", "name"),
    ("variants", "recording", "trace"),
    ("variants", "recording", "kind_file"),
)
"""Manifest fields that are refused unless they are names or paths inside of the run."""

CHOICES = (("schema",), ("source",), ("profile",), ("timed",), ("rounds", "result", "schema"))
"""Fields whose value decides what is read at all."""


def leaves(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the texts of a document are."""
    if isinstance(value, str):
        yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from leaves(inner, (*at, key))


def plant(document: Any, at: tuple[str | int, ...], what: str) -> None:
    for key in at[:-1]:
        document = document[key]
    document[at[-1]] = what


def field(at: tuple[str | int, ...]) -> tuple[str, ...]:
    return tuple(key for key in at if isinstance(key, str))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a run of two recorded variants, and nothing else."""
    folder = tmp_path / "a" / "b" / "c" / "work"
    run_folder(folder / "run")
    for name in ("baseline", "optimized"):
        (folder / "run" / name).mkdir()
        hostile_trace(folder / "run" / name / "trace.sqlite")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    return folder


def outside(folder: Path) -> set[Path]:
    root = folder.parents[3]
    return {path for path in root.rglob("*") if not path.is_relative_to(folder)}


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*args: str) -> tuple[int, str]:
        code = main(list(args))
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err, args
        return code, shown.out + shown.err

    return run


COMMANDS = [
    "analyze run",
    "analyze run --json",
    "analyze run/baseline/trace.sqlite --domain {hostile}",
    "compare run",
    "compare run --json",
    "compare run/baseline/trace.sqlite run/optimized/trace.sqlite --top 100",
    "check run --junit j.xml --markdown m.md",
    "check run --json",
    "check run --expectations wanted",
    "report run -o r.html",
    "export run --to perfetto -o p.pftrace",
    "export run --to csv -o csv",
    "export run --to parquet -o parquet",
    "export run --to json -o e.json",
    "export run --scrub -o s.sqlite",
    "bundle run",
    "bundle run -o given.tar.gz --json",
    "bundle verify given.tar.gz",
    "bundle verify given.tar.gz --json",
    "accept run --yes --expectations wanted",
    "expectations show --expectations wanted",
    "expectations validate wanted",
]


def test_no_command_prints_a_forged_line_or_leaves_its_folder(work: Path, call: Callable[..., tuple[int, str]]) -> None:
    document = json.loads((work / "run" / MANIFEST).read_text())
    for at in leaves(document):
        if field(at) not in IDENTIFIERS + CHOICES and "variants" not in at[-3:-1] and at[-1] != "name":
            plant(document, at, f"{HOSTILE} {at}")
    (work / "run" / MANIFEST).write_text(json.dumps(document))
    printable = one_line(HOSTILE)[:300]
    put(
        work / "wanted",
        "expectations_h100.json",
        text(TIME | {"why": printable}, MECHANISM | {"why": printable}, key="h100"),
    )
    before = outside(work)
    for line in COMMANDS:
        code, out = call(*(word.format(hostile=HOSTILE) for word in line.split()))
        assert code in (0, 1, 2, 3), line
        assert forged(out) == [], line
        assert out, line
        if line.startswith(("analyze", "compare")) and "--json" not in line:
            assert "error::x\\x1b[2K\\n" in out, "what was planted is shown, escaped"
    for file in ("j.xml", "m.md", "summary.md"):
        assert forged((work / file).read_text(encoding="utf-8")) == [], file
    assert outside(work) == before
    names = {part for path in work.rglob("*") for part in path.relative_to(work).parts}
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name) and name not in (".", "..") for name in names), names
    assert {"p.baseline.pftrace", "csv", "run.bundle.tar.gz", "expectations_h100.json"} <= names


def manifest_fields() -> list[tuple[str, ...]]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        document = json.loads((run_folder(Path(folder) / "run") / MANIFEST).read_text())
    return list(dict.fromkeys(field(at) for at in leaves(document)))


@pytest.mark.parametrize("name", manifest_fields(), ids=".".join)
def test_each_field_of_a_manifest(name: tuple[str, ...], work: Path, call: Callable[..., tuple[int, str]]) -> None:
    """One at a time, since the first that is refused hides the others."""
    before = outside(work)
    for what in (HOSTILE, *PATHS):
        document = json.loads((work / "run" / MANIFEST).read_text())
        at = next(at for at in leaves(document) if field(at) == name)
        plant(document, at, what)
        (work / "changed").mkdir(exist_ok=True)
        (work / "changed" / MANIFEST).write_text(json.dumps(document))
        refused = False
        try:
            load_run(work / "changed")
        except InputError as error:
            refused = True
            assert "\n" not in one_line(str(error))
        if name in IDENTIFIERS and not (name == ("workload",) and what.isprintable() and 0 < len(what) <= 200):
            inside = name[-1] in ("trace", "kind_file") and what in ("a/b", "-rf", ".hidden", "n\u00e4me")
            assert refused or inside, what
        if what in (HOSTILE, "../../../evil") or name[-1] == "trace":
            code, out = call("bundle", "changed")
            assert code in (0, 2)
            assert forged(out) == []
    assert outside(work) == before


def test_variants_of_one_name_are_refused(work: Path) -> None:
    document = json.loads((work / "run" / MANIFEST).read_text())
    document["variants"][1]["name"] = document["variants"][0]["name"]
    (work / "run" / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(InputError, match="variants: two are called 'baseline'; give each its own name"):
        load_run(work / "run")


def test_everything_that_is_wrong_with_a_manifest_is_told_at_once(work: Path) -> None:
    file = work / "run" / MANIFEST
    right = file.read_text()

    def faults(**changes: Any) -> list[str]:
        file.write_text(json.dumps({k: v for k, v in (json.loads(right) | changes).items() if v is not ...}))
        with pytest.raises(InputError) as caught:
            load_run(work / "run")
        assert all(line.startswith(f"{file}: ") for line in caught.value.args)
        return [line.removeprefix(f"{file}: ") for line in caught.value.args]

    hardware = json.loads(right)["hardware"] | {"cores": 1.5, "drivr": None}
    assert faults(hardware=hardware, rounds={}, seed=True, workload=..., note=[]) == [
        "unknown key 'note'; did you mean 'notes'?",
        "key 'workload' is missing",
        "hardware: unknown key 'drivr'; did you mean 'driver'?",
        "hardware.cores: expected a whole number, found 1.5",
        "seed: expected a whole number, found true or false",
        "rounds: expected a list, found an object",
    ]
    assert [line.split(" ")[0] for line in faults(run_id="../x", workload="")] == ["run_id:", "workload:"]


@pytest.mark.parametrize("words", [HOSTILE, *PATHS])
def test_a_plan_with_such_a_variant_is_not_begun(words: str) -> None:
    plan = Plan(
        schema="aisp-trace/plan/1",
        workload="w",
        source="file",
        program=("python",),
        variants=[PlannedVariant(words, "")],
        profile="none",
        recorder=None,
        device="cpu",
        iterations=1,
        warmup=0,
        size=None,
        seed=0,
        rounds=1,
        process_per_variant=False,
        timeout_s=PATIENCE_S,
        nsys_args=(),
        command_line=(),
    )
    with pytest.raises(AispTraceError, match=r"a variant is called .* it names a folder"):
        check_plan(plan)


def test_a_workloads_file_of_any_name_has_a_run_folder(tmp_path: Path) -> None:
    for stem in ("my model (2)", "modèle", "x" * 250):
        assert RUN_ID.fullmatch(f"{file_name(stem)}-20261122T170102Z-2")


@pytest.mark.nightly
def test_a_trace_of_many_devices(
    tmp_path: Path, call: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibrations are looked for by the names of all GPUs; those made one too long for a file's name."""
    monkeypatch.chdir(tmp_path)
    export = NsysExport()
    for device in range(64):
        export.kernel(10 + device, 20 + device, deviceId=device, correlationId=device)
        export.add("TARGET_INFO_GPU", id=device, name=f"GPU number {device}")
        export.add("TARGET_INFO_CUDA_DEVICE", gpuId=device, cudaId=device, pid=100)
    export.write(tmp_path / "t.sqlite")
    with closing(sqlite3.connect(tmp_path / "t.sqlite")) as db:
        assert db.execute("SELECT count(*) FROM TARGET_INFO_GPU").fetchone() == (64,)
    for line in (
        "analyze t.sqlite",
        "report t.sqlite -o r.html",
        "export t.sqlite --to csv",
        "export t.sqlite --to perfetto",
    ):
        assert call(*line.split())[0] == 0
    assert {len(os.fsencode(path.name)) <= 255 for path in tmp_path.rglob("*")} == {True}
