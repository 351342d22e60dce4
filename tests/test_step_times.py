"""Training steps of unedited programs: when they end, which of them are timed, and when a pair is judged by them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest

from aisp_trace.capture import step_times
from aisp_trace.capture.answer import read_answer
from aisp_trace.capture.program import STEPS as ONLY_STEPS
from aisp_trace.capture.program import environment
from aisp_trace.capture.step_times import CAPTURED, DEVICES, FAILED, Event, _Steps
from aisp_trace.cli.main import main
from aisp_trace.expectations.comparing.notes import tracing
from aisp_trace.expectations.deciding import Estimate
from aisp_trace.expectations.judging.admissible import traced
from aisp_trace.expectations.judging.admissible.asked import Asked
from aisp_trace.expectations.judging.admissible.plan import _timing
from aisp_trace.expectations.judging.between import Untraced
from aisp_trace.expectations.judging.evidence import Evidence, gather
from aisp_trace.report.terminal.comparison import speed_words
from aisp_trace.tests.test_capture_pair import SAME, made, verdicts
from aisp_trace.traces.errors import WorkloadError
from aisp_trace.traces.pair_timing import timed_by
from aisp_trace.traces.run import CommandAnswer, Run, load_run, write_json


@dataclass(frozen=True)
class Device:
    type: str
    index: int = 0


class Optimizer:
    """What of an optimizer is looked at: where its parameters lie."""

    def __init__(self, *devices: str) -> None:
        places = [Device(name.partition(":")[0], int(name.partition(":")[2] or 0)) for name in devices or ("cpu",)]
        self.param_groups = [{"params": [SimpleNamespace(device=place) for place in places]}]


class Gpu:
    """Works off what is queued, each step in its time; `passed` steps are done. Asking passes one more where `waits`."""

    def __init__(self, *steps_ms: float) -> None:
        self.ends_ms = [sum(steps_ms[: n + 1]) for n in range(len(steps_ms))]
        self.recorded = self.passed = self.asked = 0
        self.waits = True

    def record(self, _: Any) -> Event:
        self.recorded += 1
        return Passed(self, self.recorded - 1)


@dataclass(frozen=True)
class Passed:
    gpu: Gpu
    number: int

    def query(self) -> bool:
        self.gpu.asked += 1
        if self.gpu.waits:
            self.gpu.passed = max(self.gpu.passed, self.number + 1)
        return self.number < self.gpu.passed

    def elapsed_time(self, end_event: Passed, /) -> float:
        assert self.query() and end_event.query(), "CUDA has no time of what has not passed"
        return self.gpu.ends_ms[end_event.number] - self.gpu.ends_ms[self.number]


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_an_optimizer_within_another_is_part_of_its_step(tmp_path: Path) -> None:
    file, inner = tmp_path / "answer.jsonl", Optimizer()
    steps = _Steps(str(file))
    for _ in range(2):
        steps.begin()
        steps.begin()
        steps.end(inner)
        steps.end(Optimizer())
    assert [sorted(line) for line in lines(file)] == [["pid", "step"]] * 2


def test_steps_of_other_threads_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "answer.jsonl"
    steps = _Steps(str(file))

    def step() -> None:
        steps.begin()
        steps.end(Optimizer())

    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    assert not file.exists()


def stepping(steps: _Steps, *optimizers: Optimizer) -> None:
    for optimizer in optimizers:
        steps.begin()
        steps.end(optimizer)


def test_on_a_gpu_a_step_ends_where_its_kernels_do(tmp_path: Path) -> None:
    """host  s0 ....|s1|s2|s3|        the first is waited for, the others are queued at once
    gpu   ---0----|---1---|--2--|----3----|      5 ms, 2.5 ms, 8.25 ms"""
    file, gpu, optimizer = tmp_path / "answer.jsonl", Gpu(40, 5, 2.5, 8.25), Optimizer("cuda")
    steps = _Steps(str(file), gpu.record)
    stepping(steps, optimizer)
    gpu.waits = False
    stepping(steps, optimizer, optimizer)
    assert len(lines(file)) == 1, "none waits for the GPU"
    gpu.passed = 2
    stepping(steps, optimizer)
    assert len(lines(file)) == 2, "what has passed is written while the program runs"
    gpu.waits = True
    steps.finish()
    assert read_answer(file, "baseline").steps_ns == (5_000_000, 2_500_000, 8_250_000)
    steps.finish()
    assert len(lines(file)) == 4


def test_a_recorded_process_gets_no_event(tmp_path: Path) -> None:
    file = tmp_path / "answer.jsonl"
    stepping(_Steps(str(file)), *[Optimizer("cuda", "cuda:1")] * 3)
    assert [sorted(line) for line in lines(file)] == [["pid", "step"]] * 3


@pytest.mark.parametrize(
    "optimizers",
    [
        [Optimizer("cuda", "cuda:1")],
        [Optimizer("cuda", "cpu")],
        [Optimizer("xpu")],
        [Optimizer("cpu"), Optimizer("cuda")],
        [Optimizer("cuda"), Optimizer("cuda:1")],
    ],
)
def test_several_devices_have_no_common_end_and_that_is_said_once(tmp_path: Path, optimizers: list[Optimizer]) -> None:
    file = tmp_path / "answer.jsonl"
    steps = _Steps(str(file), Gpu(1, 1, 1, 1, 1).record)
    stepping(steps, *optimizers, *optimizers)
    steps.finish()
    assert [line["steps_lost"] for line in lines(file) if "steps_lost" in line] == [DEVICES]
    found = read_answer(file, "baseline")
    assert (found.steps_ns, found.steps_lost) == ((), DEVICES)


def test_a_captured_step_is_not_timed(tmp_path: Path) -> None:
    file = tmp_path / "answer.jsonl"
    stepping(_Steps(str(file), lambda _: None), *[Optimizer("cuda")] * 3)
    assert read_answer(file, "baseline").steps_lost == CAPTURED


@pytest.mark.parametrize("fails", ["record", "query", "elapsed_time"])
def test_a_cuda_error_of_the_program_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """A failed kernel comes to light in any later call: the program must meet it in its own."""
    file, gpu, optimizer = tmp_path / "answer.jsonl", Gpu(1, 1, 1), Optimizer("cuda")
    steps = _Steps(str(file), lambda device: gpu.record(device))
    stepping(steps, optimizer)

    def broken(*_: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Gpu if fails == "record" else Passed, fails, broken)
    stepping(steps, optimizer)
    steps.finish()
    assert read_answer(file, "baseline").steps_lost == FAILED


def test_too_many_steps_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_times, "MOST_STEPS", 4)
    file = tmp_path / "answer.jsonl"
    steps = _Steps(str(file))
    for _ in range(9):
        steps.begin()
        steps.end(Optimizer())
    assert len(lines(file)) == 5
    assert read_answer(file, "baseline").steps_lost == step_times.TOO_MANY


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    steps = _Steps(str(tmp_path / "absent" / "answer.jsonl"))
    for device in ("cpu", "cpu", "cuda"):
        steps.begin()
        steps.end(Optimizer(device))
    assert list(tmp_path.iterdir()) == []


def answer(tmp_path: Path, ends: dict[int, Sequence[int]]) -> CommandAnswer:
    file = tmp_path / "answer.jsonl"
    rows = [json.dumps({"pid": pid, "step": end}) + "\n" for pid, some in ends.items() for end in some]
    file.write_text("".join(rows), encoding="utf-8")
    return read_answer(file, "baseline")


def test_a_step_lasts_from_the_end_of_the_one_before(tmp_path: Path) -> None:
    """end         100       150      210
    pid 1    ---0---|----1----|---2---|        the first step warms up"""
    assert answer(tmp_path, {1: [100, 150, 210]}) == CommandAnswer((), (), (50, 60))


def test_ranks_end_a_step_with_the_last_of_them(tmp_path: Path) -> None:
    """pid 1   |100  |150   |210
    pid 2    |102 |149    |215      steps end at 102, 150, 215"""
    assert answer(tmp_path, {1: [100, 150, 210], 2: [102, 149, 215]}).steps_ns == (48, 65)


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ({1: [100, 150, 210], 2: [100, 150]}, "with different numbers of steps"),
        ({1: [100, 150, 210], 2: [210, 250, 300]}, "one after the other"),
    ],
)
def test_processes_that_are_no_job_have_no_steps(tmp_path: Path, ends: dict[int, Sequence[int]], words: str) -> None:
    found = answer(tmp_path, ends)
    assert found.steps_ns == ()
    assert words in found.steps_lost


@pytest.mark.parametrize("line", ['{"pid": 1, "step": 0}', '{"pid": 1, "step": "x"}', '{"pid": 1, "steps_lost": ""}'])
def test_lines_of_another_form_are_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "answer.jsonl"
    file.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(WorkloadError, match="neither an iteration, a step nor a statement"):
        read_answer(file, "baseline")


OWN, STEPPED, NOTHING = CommandAnswer((7,), (), (5,) * 4), CommandAnswer((), (), (5,) * 4), CommandAnswer((), ())


@pytest.mark.parametrize(
    ("one", "other", "timed", "why"),
    [
        (OWN, OWN, "iterations", ""),
        (OWN, STEPPED, "steps", ""),
        (STEPPED, STEPPED, "steps", ""),
        (CommandAnswer((7,), ()), STEPPED, "processes", "b times no iterations"),
        (STEPPED, NOTHING, "processes", "b has no steps to time: it calls no optimizer of torch"),
        (STEPPED, replace(NOTHING, steps_lost="LOST"), "processes", "b has no steps to time: LOST"),
        (STEPPED, replace(STEPPED, steps_ns=(5,) * 8), "processes", "different numbers of training steps (a 4, b 8)"),
        (replace(STEPPED, steps_ns=(5, 5)), replace(STEPPED, steps_ns=(5, 5)), "processes", "fewer than 4"),
        (STEPPED, replace(STEPPED, stated=SAME), "processes", "state the work of whole processes"),
    ],
)
def test_what_times_a_pair(one: CommandAnswer, other: CommandAnswer, timed: str, why: str) -> None:
    """Own iterations, else as many steps in all processes, else whole processes and the reason."""
    found, reason = timed_by({"a": [one, one], "b": [other]})
    assert found == timed
    assert why in reason and bool(why) == bool(reason)


def stepped(tmp_path: Path) -> Run:
    """A pair whose steps take 20 and 10 ms, and which nobody edited."""
    run = made(tmp_path, (), ())
    commands = [replace(c, answer=CommandAnswer((), (), tuple(c.answer.iterations_ns))) for c in run.manifest.commands]
    write_json(run.path / "manifest.json", replace(run.manifest, commands=commands, timed="steps"))
    return load_run(run.path)


def test_a_pair_is_judged_by_its_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = stepped(tmp_path)
    found = verdicts(run)
    assert found[1].quantity == "time of one step of baseline"
    assert found[0].value == pytest.approx(2, rel=1e-3), "of the steps, not of the processes"
    assert run.manifest.untraced_times_ns("optimized") == [(10_000_000,) * 3] * 8
    main(["check", str(run.path)])
    assert "timed by training steps, each from the end of one optimizer step" in " ".join(
        capsys.readouterr().out.split()
    )


def test_an_edited_choice_is_an_objection(tmp_path: Path) -> None:
    run = stepped(tmp_path)
    asked = replace(run.manifest, command_line=["aisp-trace", "capture"])

    def said(timed: str) -> list[str]:
        manifest = replace(asked, timed=timed)
        return list(_timing(Asked(replace(gather(run, {}), manifest=manifest), manifest, ())))

    assert said("steps") == []
    assert said("processes") == ["the run is timed by whole processes, and all of them timed steps"]
    assert said("iterations") == ["the run is timed by iterations, and all of them timed steps"]


def test_a_trace_is_held_against_steps_by_the_ends_of_its_iterations() -> None:
    """|--step--|  log  |--step--|  log  |--step--|      the rounds count the log as well"""
    table = pl.DataFrame({"start_ns": [0, 100, 200], "end_ns": [60, 160, 265]})
    recorded = SimpleNamespace(analysis=SimpleNamespace(iterations=table))
    variants = {"a": SimpleNamespace(recordings=(recorded,))}

    def durations(timed: str) -> list[int]:
        evidence = cast(Evidence, SimpleNamespace(variants=variants, timed=timed))
        return [ns for *_, some in Asked(evidence, cast(Any, None), ()).analysed() for ns in some]

    assert durations("step") == [100, 105]
    assert durations("iteration") == [60, 60, 65]


@pytest.mark.parametrize(
    ("timed", "worked_ms", "traced_ms", "words"),
    [
        ("step", 9, 0.5, []),
        ("step", 0, 0.5, ["takes 0.05 times as long when recorded"]),
        ("step", 9, 200, ["takes 20 times as long when recorded"]),
        ("step", 19, 0.5, ["they did not do the same"]),
        ("iteration", 9, 0.5, ["takes 0.05 times as long when recorded", "no recorder makes it faster"]),
    ],
)
def test_recorded_steps_may_be_ahead_of_a_gpu(timed: str, worked_ms: float, traced_ms: float, words: list[str]) -> None:
    """Recorded steps end on the host, untraced ones where the GPU's work does: 10 ms here."""
    rows = {"device": [0], "iteration": [0], "category": ["compute"], "ns": [round(worked_ms * 1e6)]}
    analysis = SimpleNamespace(
        devices=pl.DataFrame({"device": [0], "type": ["gpu"]}),
        ledger=pl.DataFrame(rows).filter(pl.col("ns") > 0),
        iterations=pl.DataFrame({"start_ns": [0, 10], "end_ns": [9, 19]}),
    )
    made = SimpleNamespace(analysis=analysis, traced_ns=(round(traced_ms * 1e6),) * 3)
    evidence = SimpleNamespace(
        timed=timed,
        variants={"a": SimpleNamespace(name="a", recordings=(made,))},
        rounds=[SimpleNamespace(times_ns={"a": (10_000_000,) * 3})],
    )
    asked = Asked(cast(Evidence, evidence), cast(Any, None), ())
    found = [finding.text for rule in (traced.slowdown, traced.device_time) for finding in rule(asked)]
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


LOOP = """
import sys, time, torch
torch.set_num_threads(1)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(6):
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    time.sleep(float(sys.argv[1]))  # in no phase: a log, a checkpoint
    if step == 0:
        time.sleep(0.5)
"""


def test_unedited_programs_are_timed_by_their_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    Path("loop.py").write_text(LOOP, encoding="utf-8")
    commands = [f"{sys.executable} loop.py {slept}" for slept in ("0.05", "0.0")]
    words = ["--baseline", commands[0], "--optimized", commands[1], "--profile", "none", "--rounds", "1"]
    assert main(["capture", "--device", "cpu", *words]) == 0
    (path,) = Path("aisp-runs").glob("[!.]*")
    run = load_run(path)
    assert run.manifest.timed == "steps"
    (base,), (fast,) = (run.manifest.untraced_times_ns(name) for name in ("baseline", "optimized"))
    assert len(base) == len(fast) == 5
    assert all(ns >= 50_000_000 for ns in base), "what is between the phases counts"
    assert base[0] >= 550_000_000 and min(fast) < 25_000_000
    assert any("timed by training steps, 5 in a process" in note for note in run.manifest.notes)


ASKS = "import json, os, sys; json.dump([sorted(os.environ), sorted(sys.modules)], open(sys.argv[1], 'w'))"


def test_a_process_that_never_imports_torch_loads_next_to_nothing(tmp_path: Path) -> None:
    """Python without site packages: what those import by themselves would hide what this does."""

    def modules(variables: dict[str, str]) -> set[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "AISP_"))}
        file = tmp_path / "modules.json"
        words = [getattr(sys, "_base_executable", sys.executable), "-s", "-c", ASKS, str(file)]
        subprocess.run(words, env={**environment, **variables}, check=True)
        return set(json.loads(file.read_text(encoding="utf-8"))[1])

    more = modules(environment(ONLY_STEPS, None)) - modules({})
    assert "sitecustomize" in more
    assert not more & {"typing", "pathlib", "importlib.abc", "aisp_trace", "re", "inspect"}


def test_where_whole_processes_are_asked_for_nothing_gets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("asks.py").write_text(ASKS, encoding="utf-8")
    words = [f"{sys.executable} asks.py {name}" for name in ("a", "b")]
    for timing in ("auto", "processes"):
        args = ["--baseline", words[0], "--optimized", words[1], "--timing", timing, "--output", timing]
        assert main(["capture", "--profile", "none", "--device", "cpu", "--rounds", "1", *args]) == 0
        variables = json.loads(Path("a").read_text(encoding="utf-8"))[0]
        assert ("AISP_TRACE_PROGRAM" in variables) == (timing == "auto")


class Middle:
    """Of `between.Untraced` what a headline says."""

    ratio = Estimate(2.0, 1.8, 2.2, 8, 0.99)
    base_ns, opt_ns, paired = 150_000_000.0, 75_000_000.0, True

    def __init__(self, timed: str) -> None:
        self.timed = timed


@pytest.mark.parametrize(
    ("timed", "words"),
    [
        ("iteration", "(99.0 %, the median ratio of 8 rounds)"),
        ("step", "(99.0 %, the median ratio of 8 rounds, of one step: 150 ms -> 75.0 ms)"),
        (
            "whole process",
            "(99.0 %, the median ratio of 8 rounds, of whole processes with start-up: 150 ms -> 75.0 ms)",
        ),
    ],
)
def test_the_headline_says_what_was_timed(timed: str, words: str) -> None:
    assert speed_words(cast(Untraced, Middle(timed))) == f"2.00x, between 1.80x and 2.20x {words}"
    waterfall = cast(Any, SimpleNamespace(ratio=2.0))
    side = SimpleNamespace(slowdown=None, analysis=SimpleNamespace(steady=SimpleNamespace(path="step", mean_ns=5e7)))
    (*notes,) = tracing(waterfall, cast(Any, side), cast(Any, side), cast(Untraced, Middle(timed)))
    said = " ".join(notes)
    assert ("aisp_trace.iteration()" in said) == (timed == "whole process")
    assert ("traced, an iteration takes 50.0 ms in base and 50.0 ms in opt" in said) == (timed == "whole process")


ENDS = """
import multiprocessing, sys
from aisp_trace.capture.step_times import _at_exit

def work(name):
    _at_exit(lambda: print(name, flush=True))

if __name__ == "__main__":
    work("main")
    for way in ("fork", "spawn"):
        one = multiprocessing.get_context(way).Process(target=work, args=(way,))
        one.start()
        one.join()
"""


def test_what_is_left_is_waited_for_in_processes_of_every_kind(tmp_path: Path) -> None:
    """multiprocessing ends a child without Python's own handlers, and a fork has its parent's."""
    (tmp_path / "ends.py").write_text(ENDS, encoding="utf-8")
    said = subprocess.run([sys.executable, str(tmp_path / "ends.py")], check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["fork", "spawn", "main"]
