"""The process protocol: what a workload program answers, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from aisp_trace.capture.stages import INJECTED, OUTPUT_VARIABLE, RECORDER_VARIABLE
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.run import ProcessResult, from_json
from aisp_trace.workloads import pipeline_sequential as pipeline
from aisp_trace.workloads import runner

TINY = ("--device", "cpu", "--size", "tiny", "--iterations", "2", "--warmup", "1")


@pytest.fixture(autouse=True)
def no_recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (RECORDER_VARIABLE, OUTPUT_VARIABLE, *INJECTED):
        monkeypatch.delenv(name, raising=False)


def answer(file: Path) -> ProcessResult:
    return from_json(ProcessResult, json.loads(file.read_text(encoding="utf-8")), str(file))


def test_the_result_file_is_the_schema_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "result.json"
    order = ("--variant", "optimized", "--variant", "baseline")
    assert runner.run(pipeline.PROGRAM, [*TINY, *order, "--seed", "7", "--result", str(file)]) == 0
    result = answer(file)
    assert (result.schema, result.workload) == ("aisp-trace/result/1", "pipeline_sequential")
    assert (result.device, result.size, result.seed) == ("cpu", "tiny", 7)
    assert [v.name for v in result.variants] == ["optimized", "baseline"], "in the order asked for"
    for variant in result.variants:
        assert len(variant.iterations_ns) == 2
        assert variant.output.ok
        assert variant.allocator.reserved_bytes_after is None, "the CPU allocator has no counters"
    assert result.variants[0].work == result.variants[1].work
    assert result.facts["harness"] == 2
    assert set(result.facts) == {
        "harness",
        "python",
        "torch",
        "cuda",
        "device_name",
        "host_threads",
        "freed_host_memory",
    }
    assert result.facts["torch"] == torch.__version__
    assert result.facts["device_name"]
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_neither_order_is_objected_to(tmp_path: Path) -> None:
    for order in (("baseline", "optimized"), ("optimized", "baseline")):
        file = tmp_path / "result.json"
        arguments = [word for name in order for word in ("--variant", name)]
        assert runner.run(pipeline.PROGRAM, [*TINY, *arguments, "--result", str(file)]) == 0
        assert [(v.name, v.output.ok) for v in answer(file).variants] == [(name, True) for name in order]
        assert [v.proof and (v.proof.fresh, list(v.proof.objections)) for v in answer(file).variants] == [
            (True, [])
        ] * 2


def test_alone_it_prints_what_a_person_wants_to_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.run(pipeline.PROGRAM, TINY) == 0
    out = capsys.readouterr().out
    assert out.startswith("pipeline_sequential on cpu (")
    assert "2 iterations after 1 to warm up" in out
    assert out.count("median") == 2
    assert out.count("allowed 1e-05") == 2
    assert "recorder" not in out


def test_a_trace_without_a_recorder_says_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.run(pipeline.PROGRAM, [*TINY, "--variant", "optimized", "--trace"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        "Stages were not recorded: that happens only under a recorder, which"
        " `aisp-trace capture pipeline_sequential` starts."
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--trace",), "--trace records one variant and 3 are asked for"),
        (("--variant", "baseline", "--variant", "baseline"), "asked for twice"),
        (("--result", "no/such/folder/result.json"), "a folder that does not exist"),
    ],
)
def test_contradictions_are_refused_before_anything_runs(
    arguments: tuple[str, ...],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "execute", lambda *_: pytest.fail("it ran"))
    assert runner.run(pipeline.PROGRAM, arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--iterations", "0"),
        ("--iterations", "many"),
        ("--warmup", "-1"),
        ("--size", "huge"),
        ("--variant", "fast"),
        ("--device", "tpu"),
        ("--iter", "3"),
        ("--unknown",),
    ],
)
def test_unknown_options_and_values_are_errors(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        runner.run(pipeline.PROGRAM, arguments)
    assert exit.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_a_missing_gpu_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runner.run(pipeline.PROGRAM, ["--device", "cuda"]) == 2
    assert "torch finds none; use --device cpu or see `aisp-trace doctor`" in capsys.readouterr().err


def test_variants_that_must_not_share_a_process_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    alone = dataclasses.replace(
        pipeline.PROGRAM, entry=dataclasses.replace(pipeline.PROGRAM.entry, process_per_variant=True)
    )
    assert runner.run(alone, TINY) == 2
    assert "must not share a process; add --variant with one of baseline, optimized" in capsys.readouterr().err
    assert runner.run(alone, [*TINY, "--variant", "baseline"]) == 0


class Wrong(pipeline.Baseline):
    def outputs(self) -> Any:
        return [result + 1 for result in super().outputs()]


def test_a_wrong_output_is_written_down_for_check_and_refused_for_a_person(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = dataclasses.replace(pipeline.PROGRAM, variants={**pipeline.VARIANTS, "optimized": Wrong})
    file = tmp_path / "result.json"
    assert runner.run(wrong, [*TINY, "--result", str(file)]) == 0
    assert [v.output.ok for v in answer(file).variants] == [True, False]
    capsys.readouterr()
    assert runner.run(wrong, TINY) == 2
    said = capsys.readouterr()
    assert "the output of optimized is wrong" in said.err
    assert "median" in said.out, "the times are shown all the same"


def test_of_several_ranks_the_first_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    monkeypatch.setenv("RANK", "1")
    assert runner.run(pipeline.PROGRAM, [*TINY, "--result", str(file)]) == 0
    assert not file.exists()
    monkeypatch.setenv("RANK", "0")
    assert runner.run(pipeline.PROGRAM, [*TINY, "--result", str(file)]) == 0
    assert file.exists()


def test_the_program_runs_alone_and_under_the_embedded_recorder(tmp_path: Path) -> None:
    """One traced process, as `capture` starts it: ranges of all three threads arrive, warm-up does not."""
    file = tmp_path / "result.json"
    command = [sys.executable, "-P", "-m", pipeline.PROGRAM.entry.module, *TINY]
    command += ["--variant", "optimized", "--trace", "--result", str(file)]
    environment = os.environ | {RECORDER_VARIABLE: "torch", OUTPUT_VARIABLE: str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert answer(file).variants[0].output.ok
    ranges = json.loads((tmp_path / "stages.json").read_text(encoding="utf-8"))["ranges"]
    work, iterations, count = answer(file).variants[0].work, 2, pipeline.SHAPES["cpu", "tiny"].count
    names = [row["name"] for row in ranges]
    assert names.count("measured") == 1
    assert names.count("iteration") == iterations
    for kind in ("h2d", "compute", "d2h"):
        rows = [row for row in ranges if row["kind"] == kind]
        assert len(rows) == iterations * count
        assert sum(row["nbytes"] or 0 for row in rows) == iterations * (work.moved_bytes.get(kind) or 0)
    assert len({row["tid"] for row in ranges if row["kind"]}) == 3
