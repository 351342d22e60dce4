"""Whole captures of a fake workload: order, resume, disagreement, failures. No recorder is needed here."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.capture import capture as capturing
from aisp_trace.capture.folder import STEPS
from aisp_trace.capture.plan import SCHEMA, Plan, PlannedVariant, file_program
from aisp_trace.capture.progress import Progress
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.errors import InputError, UsageError, WorkloadError
from aisp_trace.traces.run import Manifest, load_run, write_json

FAKE = Path(__file__).with_name("fake_workload.py")


def make_plan(**changes: Any) -> Plan:
    """Two rounds of two variants of the fake workload, timings only, with `changes`."""
    settings: dict[str, Any] = {
        "schema": SCHEMA,
        "workload": "fake_workload",
        "source": "file",
        "program": file_program(FAKE),
        "variants": (PlannedVariant("baseline", "slow"), PlannedVariant("optimized", "fast")),
        "profile": "none",
        "recorder": None,
        "device": "cpu",
        "iterations": 3,
        "warmup": 1,
        "size": "tiny",
        "seed": 7,
        "rounds": 2,
        "process_per_variant": False,
        "timeout_s": PATIENCE_S,
        "nsys_args": (),
        "command_line": ("aisp-trace", "capture", "fake_workload.py"),
    }
    return Plan(**{**settings, **changes})


def quiet(workload: str, total: int) -> Progress:
    """Progress that nobody reads."""
    return Progress(workload, total, io.StringIO())


def run_capture(plan: Plan, output: Path) -> Manifest:
    """Carry out `plan` and load the run it made."""
    return load_run(capturing.capture(plan, output, quiet)).manifest


def only_partial(output: Path) -> Path:
    """The one folder under `output`, which must be an unfinished run."""
    (folder,) = (path for path in output.iterdir() if path.name != ".gitignore")
    assert folder.name.startswith(".partial-")
    return folder


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the fake workload's processes leave one line each."""
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def lines(log: Path) -> Sequence[str]:
    return log.read_text(encoding="utf-8").splitlines()


def test_rounds_alternate_and_each_is_one_process(tmp_path: Path, log: Path) -> None:
    manifest = run_capture(make_plan(rounds=3), tmp_path / "runs")
    assert lines(log) == ["baseline optimized", "optimized baseline", "baseline optimized"]
    assert [[v.name for v in r.result.variants] for r in manifest.rounds] == [
        ["baseline", "optimized"],
        ["optimized", "baseline"],
        ["baseline", "optimized"],
    ]
    assert [r.index for r in manifest.rounds] == [0, 1, 2]


def test_a_workload_may_ask_for_one_process_per_variant(tmp_path: Path, log: Path) -> None:
    manifest = run_capture(make_plan(process_per_variant=True), tmp_path / "runs")
    assert lines(log) == ["baseline", "optimized", "optimized", "baseline"]
    assert [r.index for r in manifest.rounds] == [0, 0, 1, 1]


def test_the_manifest_says_what_was_run(tmp_path: Path) -> None:
    manifest = run_capture(make_plan(), tmp_path / "runs")
    assert (manifest.workload, manifest.profile, manifest.recorder, manifest.seed) == ("fake_workload", "none", None, 7)
    assert manifest.notes == ()
    assert manifest.hardware.key.startswith("cpu_")
    assert manifest.rounds[0].result.variants[0].iterations_ns == (1_000_000,) * 3
    command = manifest.rounds[0].command
    assert command[-2:] == ("--result", "rounds/round_00.json")
    assert not any(str(tmp_path) in word for word in command)
    assert all(v.recording is None for v in manifest.variants)


def test_a_complete_run_holds_no_leftovers(tmp_path: Path) -> None:
    folder = capturing.capture(make_plan(), tmp_path / "runs", quiet)
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "rounds"]
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [".gitignore", folder.name]


def test_a_folder_of_runs_hides_itself_from_git_if_capture_made_it(tmp_path: Path) -> None:
    for _ in range(2):
        capturing.capture(make_plan(rounds=1), tmp_path / "runs", quiet)
    assert (tmp_path / "runs" / ".gitignore").read_text(encoding="utf-8") == "*\n"
    (tmp_path / "mine").mkdir()
    capturing.capture(make_plan(rounds=1), tmp_path / "mine", quiet)
    assert not (tmp_path / "mine" / ".gitignore").exists()
    (tmp_path / "runs" / ".gitignore").write_text("mine\n", encoding="utf-8")
    capturing.capture(make_plan(rounds=1), tmp_path / "runs", quiet)
    assert (tmp_path / "runs" / ".gitignore").read_text(encoding="utf-8") == "mine\n"


def test_a_full_disk_is_a_sentence_that_says_how_to_go_on(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, value: Any) -> None:
        if file.parent.name == STEPS:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_json(file, value)

    said = r"cannot be written to .*: No space left on device; make room, then go on with"
    with monkeypatch.context() as disk, pytest.raises(InputError, match=said):
        disk.setattr("aisp_trace.capture.folder.write_json", full)
        run_capture(make_plan(), tmp_path / "runs")
    partial = only_partial(tmp_path / "runs")
    assert load_run(capturing.resume(partial, quiet)).manifest.workload == "fake_workload"


def test_two_runs_of_the_same_second_do_not_meet(tmp_path: Path) -> None:
    first, second = (capturing.capture(make_plan(rounds=1), tmp_path, quiet) for _ in range(2))
    assert first != second


def test_a_failed_process_is_named_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_EXIT", "optimized:9")
    with pytest.raises(WorkloadError, match=r"exit code 9 \(optimized was asked to fail\).*--resume"):
        capturing.capture(make_plan(), tmp_path, quiet)
    assert only_partial(tmp_path)


def test_resume_does_only_what_is_missing(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "runs"
    monkeypatch.setenv("FAKE_EXIT", "optimized:9")
    with pytest.raises(WorkloadError):
        capturing.capture(make_plan(process_per_variant=True, rounds=1), output, quiet)
    assert lines(log) == ["baseline", "optimized"]
    monkeypatch.delenv("FAKE_EXIT")
    manifest = load_run(capturing.resume(only_partial(output), quiet)).manifest
    assert lines(log) == ["baseline", "optimized", "optimized"]
    assert [r.result.variants[0].name for r in manifest.rounds] == ["baseline", "optimized"]
    (at,) = manifest.resumed_utc
    assert manifest.rounds[0].started_utc <= at <= manifest.rounds[1].started_utc <= manifest.created_utc


def test_a_run_says_how_often_it_was_gone_on_with(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_run(capturing.capture(make_plan(rounds=1), tmp_path / "whole", quiet)).manifest.resumed_utc == ()
    partial = fail_late(tmp_path / "runs", monkeypatch)
    monkeypatch.setenv("FAKE_EXIT", "optimized:9")
    with pytest.raises(WorkloadError):
        capturing.resume(partial, quiet)
    monkeypatch.delenv("FAKE_EXIT")
    assert len(load_run(capturing.resume(partial, quiet)).manifest.resumed_utc) == 2


def test_a_damaged_list_of_resumptions_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = fail_late(tmp_path / "runs", monkeypatch)
    (partial / STEPS / "resumed_utc.json").write_text('{"at": 1}', encoding="utf-8")
    with pytest.raises(InputError, match="does not say when the run was resumed"):
        capturing.resume(partial, quiet)


def fail_late(output: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An unfinished run whose first process of two ended well."""
    monkeypatch.setenv("FAKE_EXIT", "optimized:9")
    with pytest.raises(WorkloadError):
        capturing.capture(make_plan(process_per_variant=True, rounds=1), output, quiet)
    monkeypatch.delenv("FAKE_EXIT")
    return only_partial(output)


def test_resume_redoes_what_another_commit_made(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AISP_GIT_COMMIT", "a" * 40)
    partial = fail_late(tmp_path / "runs", monkeypatch)
    monkeypatch.setenv("AISP_GIT_COMMIT", "b" * 40)
    manifest = load_run(capturing.resume(partial, quiet)).manifest
    assert lines(log) == ["baseline", "optimized", "baseline", "optimized"]
    assert manifest.git == {"commit": "b" * 40, "dirty": None}


@pytest.mark.parametrize("damage", ["gone", "truncated"])
def test_resume_redoes_a_damaged_step(damage: str, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = fail_late(tmp_path / "runs", monkeypatch)
    step = partial / "steps" / "rounds-round_00_0.json"
    if damage == "gone":
        step.unlink()
    else:
        step.write_text(step.read_text(encoding="utf-8")[:100], encoding="utf-8")
    capturing.resume(partial, quiet)
    assert lines(log) == ["baseline", "optimized", "baseline", "optimized"]


def test_what_ran_out_of_time_is_resumed_with_more_of_it(tmp_path: Path, log: Path) -> None:
    output = tmp_path / "runs"
    with pytest.raises(WorkloadError, match="did not end within"):
        capturing.capture(make_plan(rounds=1, timeout_s=0.01), output, quiet)
    partial = only_partial(output)
    with pytest.raises(WorkloadError, match="did not end within"):
        capturing.resume(partial, quiet)
    with pytest.raises(UsageError, match="must be above 0"):
        capturing.resume(partial, quiet, timeout_s=0)
    assert len(load_run(capturing.resume(partial, quiet, timeout_s=PATIENCE_S)).manifest.rounds) == 1


def test_only_an_unfinished_run_can_be_resumed(tmp_path: Path) -> None:
    complete = capturing.capture(make_plan(rounds=1), tmp_path, quiet)
    with pytest.raises(InputError, match="is a complete run"):
        capturing.resume(complete, quiet)
    with pytest.raises(InputError, match="is not an unfinished run"):
        capturing.resume(tmp_path / "nowhere", quiet)
    (tmp_path / ".partial-empty").mkdir()
    with pytest.raises(InputError, match=r"cannot be resumed: .*plan\.json .* cannot be read"):
        capturing.resume(tmp_path / ".partial-empty", quiet)


def test_an_unfinished_run_is_not_taken_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = fail_late(tmp_path, monkeypatch)
    with pytest.raises(InputError, match="unfinished"):
        load_run(partial)


@pytest.mark.parametrize(
    ("variable", "value", "note"),
    [
        ("FAKE_ITEMS", "optimized:11", "required work differs in items: 10 for baseline in round 0, 11 for optimized"),
        ("FAKE_ERROR", "optimized:0.5", "the output of optimized is wrong in 2 of 2 processes: in round 0 its error"),
        ("FAKE_ERROR", "baseline:inf", "its error against float64 is infinite where 0.001 is tolerated"),
    ],
)
def test_a_difference_becomes_a_note(
    variable: str, value: str, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    manifest = run_capture(make_plan(), tmp_path)
    assert len(manifest.notes) == 1
    assert note in manifest.notes[0]


def test_a_result_that_answers_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DROP", "optimized")
    with pytest.raises(WorkloadError, match=r"asked for variants \('baseline', 'optimized'\) and answered for"):
        capturing.capture(make_plan(), tmp_path, quiet)


def test_a_program_that_writes_no_result_is_refused(tmp_path: Path) -> None:
    silent = tmp_path / "silent.py"
    silent.write_text("print('nothing')\n", encoding="utf-8")
    with pytest.raises(WorkloadError, match=r"its result round_00\.json cannot be used"):
        capturing.capture(make_plan(program=file_program(silent)), tmp_path / "runs", quiet)


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="fake_workload cannot be started"):
        capturing.capture(make_plan(program=("/nonexistent/python",)), tmp_path, quiet)


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="is a file where a folder is to be written"):
        capturing.capture(make_plan(), tmp_path / "file", quiet)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"iterations": 0}, "--iterations is 0"),
        ({"warmup": -1}, "--warmup is -1"),
        ({"rounds": 0}, "--rounds is 0"),
        ({"timeout_s": 0.0}, "--timeout is 0 s"),
        ({"profile": "roofline"}, "profile 'roofline' does not exist"),
        ({"device": "tpu"}, "device 'tpu' does not exist"),
        ({"variants": ()}, "without a variant"),
        ({"variants": (PlannedVariant("a", ""), PlannedVariant("a", ""))}, "'a' was asked for twice"),
        ({"source": "command"}, "profile none times workloads"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_writes_nothing(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=sentence):
        capturing.capture(make_plan(**changes), tmp_path / "runs", quiet)
    assert not (tmp_path / "runs").exists()


def test_progress_estimates_from_the_steps_done() -> None:
    """Four steps; the first takes 10 s, the second is kept from before, so two of 10 s are left."""
    now = iter([0.0, 0.0, 10.0, 10.0, 20.0, 20.0, 20.0])
    stream = io.StringIO()
    progress = Progress("w", 4, stream, lambda: next(now))
    progress.step("one")
    progress.skip("two")
    progress.step("three")
    progress.finish()
    assert stream.getvalue().splitlines() == [
        "[w] one",
        "[w] two: kept from before",
        "[w] three  (10 s elapsed, about 20 s left)",
        "[w] done in 20 s",
    ]


def test_the_plan_is_stored_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = fail_late(tmp_path, monkeypatch)
    stored = json.loads((partial / "plan.json").read_text(encoding="utf-8"))
    assert stored["program"] == list(file_program(FAKE))
    assert stored["rounds"] == 1
