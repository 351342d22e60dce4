"""The nsys recorder: really recording where nsys is installed, and its parts on made-up exports and programs."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from aisp_trace.capture import capture as capturing
from aisp_trace.capture import nsight, nsys, nsys_starts, processes
from aisp_trace.capture.export_check import Counts, count_rows
from aisp_trace.capture.leftovers import marked
from aisp_trace.capture.nsight import Importer, Nsys, find_nsys
from aisp_trace.capture.nsys import NsysRecorder, profile_options
from aisp_trace.capture.nsys_starts import STARTS
from aisp_trace.capture.plan import SCHEMA, Plan, PlannedVariant, file_program
from aisp_trace.capture.progress import Progress
from aisp_trace.cli.main import main
from aisp_trace.expectations.claims.load import file_name
from aisp_trace.expectations.claims.write import file_text, write_file
from aisp_trace.expectations.model import Bound, Source, TimeClaim
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.patience import PATIENCE_S, timed_out_when_up
from aisp_trace.traces.bundle import unpack
from aisp_trace.traces.errors import RecorderError, WorkloadError
from aisp_trace.traces.run import Recording, load_run, runs_below

FAKE = Path(__file__).with_name("fake_workload.py")

INSTALLED = find_nsys()
needs_nsys = pytest.mark.skipif(
    INSTALLED is None or INSTALLED.problem is not None, reason="no nsys that can make reports is installed"
)


def fake_target(name: str, folder: Path) -> Sequence[str]:
    """The command line of a traced process of the fake workload."""
    options = ("--iterations", "2", "--warmup", "0", "--size", "tiny", "--device", "cpu", "--seed", "0", "--trace")
    return (*file_program(FAKE), "--variant", name, *options, "--result", str(folder / "traced.json"))


def real_recorder(profile: str = "minimal") -> NsysRecorder:
    assert INSTALLED is not None
    return NsysRecorder(INSTALLED, profile, "cpu")


def ranges(trace: Path) -> list[tuple[str, str | None, int | None]]:
    """(name, category, payload) of the push/pop ranges in an export, by start."""
    query = """
        SELECT COALESCE(e.text, s.value), c.text, e.int64Value, e.start FROM NVTX_EVENTS e
        LEFT JOIN StringIds s ON s.id = e.textId
        LEFT JOIN NVTX_EVENTS c ON c.eventType = 33 AND c.category = e.category AND c.domainId = e.domainId
        WHERE e.eventType = 59 ORDER BY e.start
    """
    with closing(sqlite3.connect(f"{trace.as_uri()}?mode=ro", uri=True)) as db:
        return [(name, category, payload) for name, category, payload, _ in db.execute(query)]


@needs_nsys
@pytest.mark.parametrize("profile", ["minimal", "deep"])
def test_a_gated_recording_holds_the_measured_ranges_of_all_threads(profile: str, tmp_path: Path) -> None:
    recorded = real_recorder(profile).record(
        fake_target("baseline", tmp_path), tmp_path, gated=True, timeout_s=PATIENCE_S
    )
    assert (recorded.exit_code, recorded.trace, recorded.notes) == (0, "trace.sqlite", ())
    assert ranges(tmp_path / recorded.trace) == [
        ("measured", None, None),
        ("iteration", None, None),
        ("load", "h2d", 4096),
        ("compute", "compute", None),
        ("iteration", None, None),
        ("load", "h2d", 4096),
        ("compute", "compute", None),
    ]


@needs_nsys
def test_the_kept_export_holds_nothing_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "a-secret-nobody-may-read")
    real_recorder().record(fake_target("baseline", tmp_path), tmp_path, gated=True, timeout_s=PATIENCE_S)
    assert b"a-secret-nobody-may-read" not in (tmp_path / "trace.sqlite").read_bytes()
    assert not list(tmp_path.glob("unscrubbed*"))


@needs_nsys
def test_a_workload_without_ranges_is_an_error_that_names_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SILENT", "1")
    with pytest.raises(RecorderError, match=r"recorded no ranges of domain 'aisp'.*nvtx==0\.2\.11"):
        real_recorder().record(fake_target("baseline", tmp_path), tmp_path, gated=True, timeout_s=PATIENCE_S)


@needs_nsys
def test_a_timeout_ends_nsys_its_agent_and_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = f"test-{os.getpid()}"
    monkeypatch.setattr(processes, "new_marker", lambda: marker)
    monkeypatch.setenv("FAKE_HANG", "baseline")
    monkeypatch.setenv("FAKE_PIDS", str(tmp_path / "pids"))

    def record(timeout_s: float) -> None:
        with pytest.raises(RecorderError, match=f"did not end within {timeout_s:g} s and was stopped"):
            real_recorder().record(fake_target("baseline", tmp_path), tmp_path, gated=True, timeout_s=timeout_s)

    timed_out_when_up(record, tmp_path / "pids")
    assert len((tmp_path / "pids").read_text(encoding="utf-8").split()) == 2
    assert marked(marker) == []


def make_plan(source: str, program: Sequence[str], variants: Sequence[str]) -> Plan:
    workload = source != "command"
    return Plan(
        schema=SCHEMA,
        workload="fake_workload" if workload else "command",
        source=source,
        program=tuple(program),
        variants=[PlannedVariant(name, "") for name in variants],
        profile="minimal",
        recorder="nsys",
        device="cpu",
        iterations=2 if workload else None,
        warmup=0 if workload else None,
        size="tiny" if workload else None,
        seed=0 if workload else None,
        rounds=0,
        process_per_variant=False,
        timeout_s=PATIENCE_S,
        nsys_args=(),
        command_line=("aisp-trace", "capture"),
    )


def quiet(workload: str, total: int) -> Progress:
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        progress = Progress(workload, total, nowhere)
    progress.say = lambda text: None  # type: ignore[method-assign]
    return progress


@needs_nsys
def test_a_failing_variant_leaves_the_finished_recording_for_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FAKE_EXIT", "optimized:9")
    plan = make_plan("file", file_program(FAKE), ("baseline", "optimized"))
    with pytest.raises(WorkloadError, match="exit code 9"):
        capturing.capture(plan, tmp_path / "runs", quiet)
    monkeypatch.delenv("FAKE_EXIT")
    (partial,) = (tmp_path / "runs").glob(".partial-*")
    run = load_run(capturing.resume(partial, quiet))
    assert (tmp_path / "log").read_text(encoding="utf-8").splitlines() == [
        "baseline trace",
        "optimized trace",
        "optimized trace",
    ]
    recordings = [v.recording for v in run.manifest.variants]
    assert [r and (r.recorder, r.trace, r.exit_code) for r in recordings] == [
        ("nsys", "baseline/trace.sqlite", 0),
        ("nsys", "optimized/trace.sqlite", 0),
    ]
    assert all((path := run.trace_path(v)) is not None and path.is_file() for v in run.manifest.variants)


RANGE_THEN_EXIT = "import nvtx, sys\nwith nvtx.annotate('mine'): pass\nsys.exit(int(sys.argv[1]))"


@needs_nsys
@pytest.mark.parametrize(("code", "notes"), [(0, 0), (4, 1)])
def test_a_command_of_the_users_is_recorded_once_and_its_failure_noted(code: int, notes: int, tmp_path: Path) -> None:
    plan = make_plan("command", (sys.executable, "-c", RANGE_THEN_EXIT, str(code)), ("command",))
    manifest = load_run(capturing.capture(plan, tmp_path, quiet)).manifest
    recording = manifest.variants[0].recording
    assert recording is not None
    assert (recording.exit_code, recording.result, manifest.rounds) == (code, None, ())
    assert len(manifest.notes) == notes
    assert all(f"exit code {code}; what was recorded until then is kept" in note for note in manifest.notes)


@needs_nsys
def test_an_environment_without_nvtx_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the program knows its environment: here one where `import nvtx` fails, on both sides of a pair."""
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "nvtx.py").write_text("raise ImportError('no nvtx here')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path / "none"), *sys.path)))
    uses = "from aisp_trace.capture.stages import iteration\nwith iteration(): pass"
    for name, body in (("one.py", uses), ("two.py", f"{uses}\nimport time"), ("plain.py", "print(1)")):
        (tmp_path / name).write_text(body, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def notes(optimized: str) -> list[str]:
        line = ["capture", "--baseline", f"{sys.executable} one.py", "--optimized", f"{sys.executable} {optimized}"]
        assert main([*line, "--rounds", "1", "--recorder", "nsys"]) == 0
        return [note for note in runs_below(tmp_path / "aisp-runs")[-1].manifest.notes if "nvtx" in note]

    (note,) = notes("two.py")
    assert note.startswith("the environment of baseline and optimized lacks the package nvtx, without which nsys sees")
    assert "run `pip install nvtx==0.2.11` there" in note
    (note,) = notes("plain.py")
    assert note.startswith("the environment of baseline lacks"), "what opens no range needs no nvtx"


@needs_nsys
def test_a_recorded_pair_is_bundled_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Arguments of a user's program stay behind, and the copy still says that what was recorded is what was timed."""
    monkeypatch.chdir(tmp_path)
    for name in ("one.py", "two.py"):
        body = "import time\nfrom aisp_trace.capture.stages import iteration\n"  # sleeps, which a busy machine seldom triples
        body += "for _ in range(3):\n    with iteration(): time.sleep(0.05)"
        Path(name).write_text(body, encoding="utf-8")
    pair = [f"{sys.executable} {name} --api-key secret7" for name in ("one.py", "two.py")]
    line = ["capture", "--baseline", pair[0], "--optimized", pair[1], "--name", "mine", "--recorder", "nsys"]
    assert main([*line, "--rounds", "8"]) == 0
    (run,) = runs_below(Path("aisp-runs"))
    claim = TimeClaim(
        id="mine.faster",
        workload="mine",
        variant="optimized",
        baseline="baseline",
        size=None,
        ratio=Bound(1e-6, None),
        max_ms={"baseline": 1e9, "optimized": 1e9},
        why="it is there to be met",
        source=Source("definition", None, "everything meets it"),
    )
    key = run.manifest.hardware.key
    Path("expectations").mkdir()
    write_file(Path("expectations", file_name(key)), file_text(None, key, (claim,)), None)
    assert main(["check"]) == 0
    assert main(["bundle", "-o", "proof.tar.gz"]) == 0
    capsys.readouterr()
    assert main(["bundle", "verify", "proof.tar.gz"]) == 0
    assert "3 met." in capsys.readouterr().out
    Path("given").mkdir()
    unpack(Path("proof.tar.gz"), tmp_path / "given")
    text = (tmp_path / "given" / "run" / "manifest.json").read_text(encoding="utf-8")
    assert "secret7" not in text and "one.py" not in text
    for variant in load_run(tmp_path / "given" / "run").manifest.variants:
        assert variant.recording is not None
        assert list(variant.recording.command)[-2:] == [Path(sys.executable).name, "(3 words removed)"]


@needs_nsys
def test_a_command_that_fails_before_anything_happens_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="exit code 3 before anything was recorded"):
        real_recorder().record(
            (sys.executable, "-c", "raise SystemExit(3)"), tmp_path, gated=False, timeout_s=PATIENCE_S
        )
    assert (tmp_path / "nsys-profile.stderr.log").is_file()


@needs_nsys
def test_a_bare_stream_is_imported_with_the_importer_nsys_did_not_find(tmp_path: Path) -> None:
    """An nsys that leaves a .qdstrm: the real one, behind a program that hides the report it made."""
    assert INSTALLED is not None
    hiding = tmp_path / "nsys"
    stream = tmp_path / "recording" / "trace.qdstrm"
    stream.parent.mkdir()
    # The importer is given the stream of a recording; the fake one below "imports" it by copying the hidden report.
    hiding.write_text(
        f'#!/bin/sh\n"{INSTALLED.path}" "$@" || exit\n'
        f'[ "$1" = profile ] && mv "{stream.parent}/trace.nsys-rep" "{stream}"\nexit 0\n',
        encoding="utf-8",
    )
    importer = tmp_path / "QdstrmImporter"
    importer.write_text('#!/bin/sh\ncp "$2" "$4"\n', encoding="utf-8")
    for program in (hiding, importer):
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    fake = Nsys(hiding, INSTALLED.version, INSTALLED.options, Importer(importer, None), linked=False)
    done = NsysRecorder(fake, "minimal", "cpu").record(
        fake_target("baseline", tmp_path), stream.parent, gated=True, timeout_s=PATIENCE_S
    )
    said = {log.name: log.read_text(encoding="utf-8") for log in stream.parent.glob("*.log")}
    assert (stream.parent / "trace.sqlite").is_file(), (done, said)
    assert not stream.exists()


def bare(options: Sequence[str] = (), importer: Importer | None = None, path: Path = Path("/x/nsys")) -> Nsys:
    return Nsys(path, "2025.3.1", frozenset(options), importer, linked=False)


def test_a_bare_stream_without_an_importer_names_the_remedy(tmp_path: Path) -> None:
    leaves_stream = tmp_path / "nsys"
    leaves_stream.write_text(f'#!/bin/sh\n: > "{tmp_path}/trace.qdstrm"\n', encoding="utf-8")
    leaves_stream.chmod(0o755)
    lacking = Importer(Path("/x/QdstrmImporter"), "/x/QdstrmImporter needs the shared library libdw.so.1")
    for importer, words in ((None, "has no QdstrmImporter beside it"), (lacking, "needs the shared library libdw")):
        recorder = NsysRecorder(bare(importer=importer, path=leaves_stream), "minimal", "cpu")
        with pytest.raises(RecorderError, match=words):
            recorder.record(["true"], tmp_path, gated=True, timeout_s=PATIENCE_S)


@pytest.mark.parametrize(
    ("profile", "device", "options", "expected", "absent"),
    [
        ("minimal", "cuda", ["gpu-metrics-devices"], ["--trace=cuda,nvtx", "--sample=none"], "--gpu-metrics"),
        ("deep", "cuda", ["gpu-metrics-devices", "cuda-graph-trace"], ["--gpu-metrics-devices=all"], "device="),
        ("deep", "cuda", ["gpu-metrics-device"], ["--gpu-metrics-device=all"], "--cuda-graph-trace"),
        ("deep", "cpu", ["cuda-graph-trace"], ["--cuda-graph-trace=node"], "--gpu-metrics"),
        ("minimal", "cpu", ["discard-environment"], ["--discard-environment=true"], "osrt"),
        ("minimal", "cpu", [], ["--cpuctxsw=none"], "--discard"),
    ],
)
def test_options_are_spelled_as_this_nsys_knows_them(
    profile: str, device: str, options: list[str], expected: list[str], absent: str
) -> None:
    made = profile_options(bare(options), profile, device)
    assert set(expected) <= set(made)
    assert absent not in " ".join(made)


def test_graphs_are_recorded_by_their_nodes_under_any_profile_unless_the_user_says_otherwise() -> None:
    """A graph recorded whole leaves bytes and overlap unknown, which the claims of workloads are about."""
    recorder = NsysRecorder(bare(["cuda-graph-trace"]), "minimal", "cuda")
    assert "--cuda-graph-trace=node" in recorder.command(["python"], Path("/runs/a"), gated=True)
    assert "--cuda-graph-trace=node" in recorder.command(["python"], Path("/runs/a"), gated=False)
    whole = NsysRecorder(bare(["cuda-graph-trace"]), "deep", "cuda", ("--cuda-graph-trace=graph",))
    asked = [option for option in whole.command(["python"], Path("/runs/a"), gated=False) if "graph" in option]
    assert asked == ["--cuda-graph-trace=graph"]


def test_the_users_own_options_come_last_and_before_the_program() -> None:
    recorder = NsysRecorder(bare(), "minimal", "cpu", ("--sample=cpu",))
    command = recorder.command(["python", "x.py"], Path("/runs/a"), gated=True)
    assert command[-3:] == ("--sample=cpu", "python", "x.py")
    assert command[command.index("-p") + 1] == "measured@aisp"
    assert "-c" not in recorder.command(["python"], Path("/runs/a"), gated=False)


def export_with(file: Path, launches: int, kernels: int, domain: str, count: int) -> Path:
    """A small export: `launches` calls, the first `kernels` with a device row, `count` ranges of `domain`."""
    pid = (7 << 24) | (1 << 48)
    with closing(sqlite3.connect(file)) as db, db:
        db.executescript(
            """
            CREATE TABLE StringIds (id INTEGER, value TEXT);
            CREATE TABLE NVTX_EVENTS (start, end, eventType, text, textId, domainId, globalTid);
            CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start, end, globalTid, correlationId, nameId, returnValue);
            CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start, end, globalPid, correlationId);
            """
        )
        db.executemany("INSERT INTO StringIds VALUES (?, ?)", [(1, "cudaLaunchKernel_v7000"), (2, domain)])
        db.execute("INSERT INTO NVTX_EVENTS VALUES (0, NULL, 75, NULL, 2, 1, ?)", (pid | 7,))
        db.executemany("INSERT INTO NVTX_EVENTS VALUES (0, 1, 59, 'r', NULL, 1, ?)", [(pid | 9,)] * count)
        db.executemany(
            "INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (0, 1, ?, ?, 1, 0)", [(pid | 7, i) for i in range(launches)]
        )
        # The same correlation in another process must not pass for this one's.
        rows = [(pid, i) for i in range(kernels)] + [(pid + (1 << 24), i) for i in range(launches)]
        db.executemany("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (0, 1, ?, ?)", rows)
    return file


def test_rows_are_counted_per_process_and_domain(tmp_path: Path) -> None:
    assert count_rows(export_with(tmp_path / "a", 10, 4, "aisp", 3)) == Counts(3, 3, 10, 6)
    assert count_rows(export_with(tmp_path / "b", 10, 10, "NCCL", 3)) == Counts(0, 3, 10, 0)


def test_counting_does_not_compare_every_launch_with_every_row(tmp_path: Path) -> None:
    """Compared one by one, 40,000 launches took minutes."""
    export = export_with(tmp_path / "many", 40_000, 39_000, "aisp", 1)
    before = time.process_time()
    assert count_rows(export) == Counts(1, 1, 40_000, 1_000)
    assert time.process_time() - before < 20


def test_launches_of_a_capture_are_not_counted(tmp_path: Path) -> None:
    """A fifth of a program that captures and replays a graph is such calls; they looked lost. A failed capture ends, too."""
    export = NsysExport()
    for at, ended in ((0, 0), (100, 900)):
        export.call(at, at + 1, "cudaStreamBeginCapture_v10000")
        for i in range(20):
            export.call(at + 2 + i, at + 3 + i, "cudaLaunchKernel_v7000", correlationId=at + i)
        export.call(at + 50, at + 51, "cudaStreamEndCapture_v10000", returnValue=ended)
    export.call(20, 21, "cudaLaunchKernel_v7000", tid=101, correlationId=300).kernel(30, 40, correlationId=300)
    export.call(200, 201, "cudaLaunchKernel_v7000", correlationId=301)
    assert count_rows(export.write(tmp_path / "captured.sqlite")) == Counts(0, 0, 2, 1)


def test_an_export_without_tables_counts_nothing(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "empty")) as db, db:
        db.execute("CREATE TABLE StringIds (id, value)")
    assert count_rows(tmp_path / "empty") == Counts(0, 0, 0, 0)


def test_an_export_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to be looked at\n" * 50, encoding="utf-8")
    with pytest.raises(RecorderError, match="cannot be read"):
        count_rows(tmp_path / "text")


@pytest.mark.parametrize(
    ("counts", "device", "words"),
    [
        (Counts(5, 5, 100, 90), "cuda", "90 of 100 launches have no row of the device"),
        (Counts(5, 5, 0, 0), "cuda", "yet no launch was recorded"),
        (Counts(5, 5, 100, 5), "cuda", None),
        (Counts(5, 5, 0, 0), "cpu", None),
    ],
)
def test_lost_device_rows_are_noted(counts: Counts, device: str, words: str | None) -> None:
    notes = nsys._judge(counts, gated=True, device=device, nsys=bare())
    assert len(notes) == (words is not None)
    assert words is None or words in notes[0]


def test_a_recorder_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    recorder = NsysRecorder(bare(path=tmp_path / "absent"), "minimal", "cpu")
    with pytest.raises(RecorderError, match="cannot be started"):
        recorder.record(["true"], tmp_path, gated=True, timeout_s=PATIENCE_S)


WAITER = """\
/build/QuadD/Common/ProcessWaiter/Src/POSIX/ProcessWaiterImpl.cpp(166): Throw in function QuadDCommon::ProcessWaiter::X
std::exception::what: SystemException
[boost::errinfo_errno_*] = 2, \\"No such file or directory\\"
[boost::errinfo_api_function_*] = sem_open"""

ENDPOINT = """\
/build/QuadD/Common/ProtobufComm/Client/ClientProxy.cpp(381): Throw in function QuadDProtobufComm::Endpoint \
QuadDProtobufComm::Client::ClientProxy::GetLocalEndpoint() const
Dynamic exception type: boost::wrapexcept<QuadDCommon::RuntimeException>
std::exception::what: RuntimeException
[QuadDCommon::tag_message*] = Local Endpoint is not available."""

OTHER = """\
/build/QuadD/Common/Other.cpp(12): Throw in function void QuadDCommon::Other::Begin()
Dynamic exception type: boost::wrapexcept<QuadDCommon::RuntimeException>
std::exception::what: RuntimeException"""

AGENT = "Connection to the Agent lost.\nConnection to the Agent lost."


@pytest.mark.parametrize(
    ("words", "code", "gated", "starts"),
    [
        ("Connection reset by peer", 1, True, STARTS),
        ("Connection reset by peer", 1, False, STARTS),
        ("Agent launcher failed.", 1, False, STARTS),
        (WAITER, 1, True, STARTS),
        (WAITER, 1, False, STARTS),
        (ENDPOINT, 1, True, STARTS),
        (ENDPOINT, 1, False, STARTS),
        (OTHER, 1, True, STARTS),
        (OTHER, 1, False, 1),  # a program of the user's may have begun
        (f"{OTHER}\nTraceback: my own fault", 1, True, 1),
        (AGENT, 0, True, STARTS),
        (AGENT, 0, False, 1),  # a program of the user's may have begun
        ("End of file", 1, True, STARTS),
        ("End of file", 1, False, 1),
        (f"Server not found.\n{AGENT}", 1, True, STARTS),
        ("End of file of mine", 1, True, 1),
        ("Traceback: my own fault", 1, True, 1),
        (f"loaded\n{WAITER}", 1, True, 1),  # the program has spoken
        (f"loaded\n{WAITER}", 1, False, 1),
        (f"loaded\n{AGENT}", 0, True, 1),
        ("", 0, True, 1),
    ],
)
def test_nsys_is_started_again_when_it_failed_by_itself(
    words: str, code: int, gated: bool, starts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nsys_starts, "PAUSE_S", 0)
    recorder = NsysRecorder(bare(path=failing(tmp_path, words, code)), "minimal", "cpu")
    if gated and code == 0:
        with pytest.raises(RecorderError, match="recorded no ranges"):
            recorder.record(["true"], tmp_path, gated=True, timeout_s=PATIENCE_S)
    elif gated:
        assert recorder.record(["true"], tmp_path, gated=True, timeout_s=PATIENCE_S).exit_code == 1
    else:
        with pytest.raises(RecorderError, match="nsys recorded nothing"):
            recorder.record(["true"], tmp_path, gated=False, timeout_s=PATIENCE_S)
    assert len((tmp_path / "starts").read_text(encoding="utf-8").split()) == starts


def failing(folder: Path, words: str, code: int, then: str = "true", times: int = 99) -> Path:
    """An nsys that says `words` and leaves with `code`, `times` times; afterwards it does `then`."""
    made = folder / "nsys"
    made.write_text(
        f'#!/bin/sh\n[ "$1" = profile ] && echo x >>"{folder}/starts"\n'
        f'[ "$(wc -l <"{folder}/starts")" -gt {times} ] && {then}\necho "{words}" >&2\nexit {code}\n',
        encoding="utf-8",
    )
    made.chmod(0o755)
    return made


@needs_nsys
@pytest.mark.parametrize("gated", [True, False])
def test_a_recording_survives_an_nsys_that_fails_several_times_in_a_row(gated: bool, tmp_path: Path) -> None:
    """One start in eight fails beside others on a busy machine, so that two in a row are met every day.

    The real nsys may then lose its race as well: four starts are left for it.
    """
    assert INSTALLED is not None
    unlucky = failing(tmp_path, WAITER, 1, f'exec "{INSTALLED.path}" "$@"', STARTS - 4)
    recorder = NsysRecorder(dataclasses.replace(INSTALLED, path=unlucky), "minimal", "cpu")
    target = fake_target("baseline", tmp_path)
    assert recorder.record(target, tmp_path, gated=gated, timeout_s=PATIENCE_S).exit_code == 0
    assert ("compute", "compute", None) in ranges(tmp_path / "trace.sqlite")


# Finding nsys: folders as the packages lay them out, with scripts for programs.

VERSION = "NVIDIA Nsight Systems version {}-df9881f"


def program(path: Path, text: str, code: int = 0, err: str = "") -> Path:
    """A script at `path` that prints `text` (and `err` on stderr) and leaves with `code`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\necho '{err}' >&2\nexit {code}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_path_comes_before_nvidias_folders_and_the_variable_before_both(tmp_path: Path) -> None:
    for place, version in (
        ("bin", "2022.4.2.1"),
        ("opt/nvidia/nsight-compute/2025.3.1/host/target-linux-x64", "2025.3.1"),
    ):
        program(tmp_path / place / "nsys", VERSION.format(version))
    named = program(tmp_path / "named" / "nsys", VERSION.format("2024.5.1"))
    program(tmp_path / "host-linux-x64" / "QdstrmImporter", "ok")
    path = str(tmp_path / "bin")
    found = [
        find_nsys({"PATH": path}, tmp_path),
        find_nsys({"PATH": ""}, tmp_path),
        find_nsys({"PATH": path, "AISP_NSYS": str(named)}, tmp_path),
    ]
    assert [nsys and nsys.version for nsys in found] == ["2022.4.2.1", "2025.3.1", "2024.5.1"]
    assert found[0] is not None
    assert found[0].release == (2022, 4)


def test_the_newest_of_nvidias_folders_wins(tmp_path: Path) -> None:
    for version in ("2025.3.1", "2025.10.1", "2024.6.2"):
        program(tmp_path / f"opt/nvidia/nsight-systems/{version}/bin/nsys", VERSION.format(version))
    found = find_nsys({"PATH": ""}, tmp_path)
    assert found is not None
    assert found.version == "2025.10.1"


def test_an_nsys_that_can_make_reports_is_preferred(tmp_path: Path) -> None:
    program(tmp_path / "bin/nsys", VERSION.format("2022.4.2.1"))
    base = tmp_path / "opt/nvidia/nsight-systems/2025.3.1"
    program(base / "target-linux-x64/nsys", VERSION.format("2025.3.1"))
    program(base / "host-linux-x64/QdstrmImporter", "ok")
    (base / "bin").mkdir()
    (base / "bin/nsys").symlink_to("../target-linux-x64/nsys")
    found = find_nsys({"PATH": str(tmp_path / "bin")}, tmp_path)
    assert found is not None
    assert (found.version, found.linked, found.problem) == ("2025.3.1", True, None)


def test_no_nsys_and_a_wrong_variable(tmp_path: Path) -> None:
    assert find_nsys({"PATH": ""}, tmp_path) is None
    other = program(tmp_path / "other", "something else 2022.4")
    with pytest.raises(RecorderError, match=r"AISP_NSYS names .* does not answer"):
        find_nsys({"AISP_NSYS": str(other)}, tmp_path)


def test_debians_unlinked_importer_is_found_over_the_links(tmp_path: Path) -> None:
    """usr/bin/nsys -> usr/lib/nsight-systems/bin/nsys -> .../target-linux-x64 -> usr/lib/triplet/.../target-linux-x64."""
    lib = tmp_path / "usr/lib"
    program(lib / "triplet/nsight-systems/target-linux-x64/nsys", VERSION.format("2022.4.2.1"))
    importer = program(lib / "nsight-systems/host-linux-x64/QdstrmImporter", "ok")
    (lib / "nsight-systems/target-linux-x64").symlink_to("../triplet/nsight-systems/target-linux-x64")
    (lib / "nsight-systems/bin").mkdir()
    (lib / "nsight-systems/bin/nsys").symlink_to("../target-linux-x64/nsys")
    (tmp_path / "usr/bin").mkdir()
    (tmp_path / "usr/bin/nsys").symlink_to("../lib/nsight-systems/bin/nsys")
    assert nsight.find_importer(tmp_path / "usr/bin/nsys") == (importer, False)
    (lib / "triplet/nsight-systems/host-linux-x64").symlink_to(lib / "nsight-systems/host-linux-x64")
    linked, own = nsight.find_importer(tmp_path / "usr/bin/nsys")
    assert own
    assert linked is not None
    assert linked.resolve() == importer


def test_nsight_computes_importer_is_found_and_its_missing_library_named(tmp_path: Path) -> None:
    host = tmp_path / "opt/nvidia/nsight-compute/2025.3.1/host"
    program(host / "target-linux-x64/nsys", VERSION.format("2025.3.1"))
    words = (
        "QdstrmImporter: error while loading shared libraries: libdw.so.1: cannot open shared object file: No such file"
    )
    importer = program(host / "linux-desktop-glibc_2_11_3-x64/QdstrmImporter", "", 127, words)
    found = find_nsys({"PATH": ""}, tmp_path)
    assert found is not None
    assert found.importer is not None
    assert (found.importer.path, found.linked) == (importer, False)
    assert found.problem == f"{importer} needs the shared library libdw.so.1, which is missing; apt-get install libdw1"


def test_the_importer_gets_its_own_library_folder_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/other")
    assert Importer(Path("/a/QdstrmImporter"), None).environment() == {"LD_LIBRARY_PATH": "/a:/other"}
    monkeypatch.delenv("LD_LIBRARY_PATH")
    assert Importer(Path("/a/QdstrmImporter"), None).environment() == {"LD_LIBRARY_PATH": "/a"}


def test_options_are_read_off_a_help_text() -> None:
    text = "usage\n\n\t-b, --backtrace=\n\n\t   Use '--sample' with it.\n\n\t--gpu-metrics-devices=\n\t--nvtx-domain-[in|ex]=\n"
    assert nsight.parse_options(text) == {"backtrace", "gpu-metrics-devices", "nvtx-domain-"}


@pytest.mark.parametrize(
    ("text", "library"),
    [
        ("x: error while loading shared libraries: libdw.so.1: cannot open shared object file: No", "libdw.so.1"),
        ("\tlibQt6Core.so.6 => not found\n\tlibc.so.6 => /lib/libc.so.6", "libQt6Core.so.6"),
        ("Segmentation fault", None),
    ],
)
def test_a_missing_library_is_read_off_the_loaders_message(text: str, library: str | None) -> None:
    assert nsight.missing_library(text) == library


def test_what_recorders_say_of_several_variants_is_said_once() -> None:
    def recording(*notes: str) -> Recording:
        return Recording("nsys", "1", (), 0, 1, "t", None, None, notes)

    traced = [("a", recording("x", "y")), ("b", recording("x")), ("b", recording("x", "z"))]
    assert capturing._of_recordings(traced) == ["a and b: x", "a: y", "b: z"]
