"""A pair of the user's own commands: what is refused, what is run in which order, what is timed, what is judged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.capture import stages
from aisp_trace.capture.answer import ANSWER_VARIABLE, read_answer, state_work
from aisp_trace.capture.capture import resume
from aisp_trace.capture.leftovers import marked
from aisp_trace.capture.pair import pair_name, pair_variants
from aisp_trace.capture.pair_rounds import settle
from aisp_trace.capture.recorders import Recorder
from aisp_trace.cli.main import main
from aisp_trace.expectations.judging.evidence import gather
from aisp_trace.expectations.judging.judge import judge
from aisp_trace.expectations.judging.verdict import Verdict
from aisp_trace.expectations.model import ExpectationFile, TimeClaim
from aisp_trace.tests.judging.build import lasted, run_folder, time_claim
from aisp_trace.tests.patience import PATIENCE_S, TIMEOUTS_S, text_of
from aisp_trace.traces.errors import UsageError, WorkloadError
from aisp_trace.traces.run import CommandAnswer, CommandRound, Run, Statement, load_manifest, load_run, write_json

SAYS = """
import json, os, sys
name, *rest = sys.argv[1:]
with open("log", "a") as file:
    file.write(name + "\\n")
for line in rest:
    with open(os.environ["AISP_TRACE_ANSWER"], "a") as file:
        file.write(json.dumps({"pid": 1, **json.loads(line)}) + "\\n")
"""
"""A program that imports nothing of ours: it logs its name, and appends what it is given to its answer file."""


def it(start: int, end: int, measured: bool = True) -> dict[str, Any]:
    return {"iteration": [start, end], "measured": measured}


def work(items: int = 4, unit: str = "texts", output: str | None = "x") -> dict[str, Any]:
    return {"work": {"items": items, "unit": unit, "output": output}}


def command(name: str, *lines: dict[str, Any]) -> str:
    words = [f"'{json.dumps(line)}'" for line in lines]
    return " ".join([sys.executable, "-I", "says.py", name, *words])


Capture = Callable[..., tuple[int, str]]


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Capture:
    """`capture` in an empty project with the script `says.py`, timings only; answers exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "says.py").write_text(SAYS, encoding="utf-8")

    def run(*args: str) -> tuple[int, str]:
        code = main(["capture", "--profile", "none", "--device", "cpu", *args])
        return code, capsys.readouterr().err

    return run


def pair(*lines: dict[str, Any], other: Sequence[dict[str, Any]] | None = None) -> list[str]:
    second = lines if other is None else other
    return ["--baseline", command("a", *lines), "--optimized", command("b", *second), "--name", "mine"]


def only_run(folder: Path = Path("aisp-runs")) -> Run:
    (path,) = folder.glob("[!.]*")
    return load_run(path)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--baseline", "true"], "--baseline was given without --optimized"),
        (["--optimized", "true"], "--optimized was given without --baseline"),
        (["--name", "x", "--", "true"], "--name was given without --baseline"),
        (["--rung", "a=true"], "--rung was given without --baseline"),
        (["--baseline", "true", "--optimized", "true"], "baseline and optimized are the same command, `true`"),
        (
            ["--baseline", "true", "--optimized", "no-such-program"],
            "'no-such-program' was not found; check its spelling",
        ),
        (["--baseline", "A=1 true", "--optimized", "true"], "'A=1' was not found; write `env A=1 ...`"),
        (["--baseline", "true | cat", "--optimized", "true"], "holds '|', which only a shell understands"),
        (["--baseline", "true 'x", "--optimized", "true"], "cannot be split into words (No closing quotation)"),
        (["--baseline", " ", "--optimized", "true"], "--baseline is empty"),
        (["--baseline", "true", "--optimized", "true 1", "--rung", "true 2"], "it must be NAME='CMD'"),
        (["--baseline", "true", "--optimized", "true 1", "--rung", "../x=true 2"], "it must be NAME='CMD'"),
        (
            ["--baseline", "true", "--optimized", "true 1", "--rung", "baseline=true 2"],
            "two variants are called 'baseline'",
        ),
        (["--baseline", "true", "--optimized", "true 1", "--name", "a/b"], "--name is 'a/b'"),
        (["--baseline", "true", "--optimized", "true 1", "--name", "pipeline_sequential"], "choose another --name"),
        (["--baseline", "true", "--optimized", "true 1", "--timing", "wall"], "timing 'wall' does not exist"),
        (
            ["--baseline", "true", "--optimized", "true 1", "--iterations", "3"],
            "--iterations was given with --baseline",
        ),
        (["--baseline", "true", "--optimized", "true 1", "--rounds", "0"], "--rounds is 0"),
        (["--baseline", "true", "--optimized", "true 1", "--", "true"], "a command after -- were given"),
        (["pipeline_sequential", "--baseline", "true", "--optimized", "true 1"], "both --baseline and the workload"),
    ],
)
def test_refusals_are_one_sentence_and_leave_nothing(capture: Capture, args: list[str], words: str) -> None:
    code, err = capture(*args)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["says.py"]


@pytest.mark.parametrize(
    ("baseline", "optimized", "name"),
    [
        ("python train.py --slow", "python train.py --fast", "train"),
        ("python old.py", "python sub/New-One.py", "old_vs_new_one"),
        ("python -m pkg.tool a", "python -m pkg.tool b", "pkg"),
        ("sleep 1", "sleep 2", "sleep"),
    ],
)
def test_a_pair_is_named_after_its_scripts(
    baseline: str, optimized: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aisp_trace.capture.pair.require_program", lambda words, lead: None)
    assert pair_name(None, pair_variants(baseline, [], optimized), []) == name


@pytest.mark.parametrize("option", ["--baseline", "--optimized", "--rung"])
def test_a_script_may_stand_alone_as_it_may_without_a_pair(capture: Capture, option: str) -> None:
    """One rule for all options: `train.py` gets its Python, whatever follows it."""
    given = {"--baseline": "true", "--optimized": "true 1", option: "says.py x"}
    words = [word for name, cmd in given.items() for word in (name, f"a={cmd}" if name == "--rung" else cmd)]
    assert capture(*words, "--rounds", "1", "--name", "mine")[0] == 0
    found = [c.command for c in only_run().manifest.commands if "says.py" in c.command]
    assert [[Path(command[0]).name[:6], *command[1:]] for command in found] == [["python", "says.py", "x"]]


@pytest.mark.parametrize("missing", ["absent.py --steps 3", "python absent.py", "python3 absent.py 1"])
def test_a_script_that_is_missing_is_named(capture: Capture, missing: str) -> None:
    code, err = capture("--baseline", missing, "--optimized", "true")
    assert code == 2 and "--baseline: absent.py does not exist; check its spelling, or the folder" in err


def test_commands_are_split_without_a_shell_and_rungs_lie_between() -> None:
    found = pair_variants("true 'a b' $HOME", ["one=true 1", "two=true x=y"], "true 2")
    assert [(v.name, v.program) for v in found] == [
        ("baseline", ("true", "a b", "$HOME")),
        ("one", ("true", "1")),
        ("two", ("true", "x=y")),
        ("optimized", ("true", "2")),
    ]


def test_rounds_alternate_and_the_manifest_says_what_was_timed(capture: Capture) -> None:
    lines = [it(0, 50, False), it(100, 110), it(200, 212), work()]
    code, _ = capture(*pair(*lines), "--rung", f"step={command('s', *lines)}", "--rounds", "2")
    assert code == 0
    assert Path("log").read_text(encoding="utf-8").split() == ["a", "s", "b", "b", "s", "a"]
    manifest = only_run().manifest
    assert (manifest.source, manifest.workload, manifest.timed, manifest.size) == ("pair", "mine", "iterations", None)
    assert [(c.index, c.variant) for c in manifest.commands] == [
        (0, "baseline"), (0, "step"), (0, "optimized"), (1, "optimized"), (1, "step"), (1, "baseline"),
    ]  # fmt: skip
    assert all(c.answer == CommandAnswer((10, 12), (Statement(4, "texts", "x"),)) for c in manifest.commands)
    found = gather(only_run(), {})
    assert [r.order for r in found.rounds] == [("baseline", "step", "optimized"), ("optimized", "step", "baseline")]
    assert found.rounds[0].times_ns["step"] == (10, 12)
    assert found.timed == "iteration"


def test_whole_processes_are_timed_where_one_command_has_no_iterations(capture: Capture) -> None:
    assert capture(*pair(it(0, 10), other=[]), "--rounds", "1")[0] == 0
    run = only_run()
    assert run.manifest.timed == "processes"
    (note,) = [note for note in run.manifest.notes if "whole processes" in note]
    assert note.startswith("timed by whole processes, start-up included, because optimized times no iterations; ")
    assert "aisp_trace.iteration()" in note
    found = gather(run, {})
    assert found.timed == "whole process"
    assert found.rounds[0].times_ns == {c.variant: (c.wall_ns,) for c in run.manifest.commands}
    assert min(c.wall_ns for c in run.manifest.commands) > 1_000_000, "starting Python takes longer than a millisecond"


def test_timing_can_be_insisted_on(capture: Capture) -> None:
    assert capture(*pair(it(0, 10)), "--rounds", "1", "--timing", "processes", "--output", "p")[0] == 0
    assert only_run(Path("p")).manifest.timed == "processes"
    code, err = capture(*pair(it(0, 10), other=[]), "--rounds", "1", "--timing", "iterations")
    assert code == 2
    assert "timed no iteration; open aisp_trace.iteration() around each" in err


def test_a_different_number_of_iterations_is_noted() -> None:
    rounds = [
        CommandRound(0, name, [], 0, 1, "", CommandAnswer((1,) * n, ()))
        for name, n in (("baseline", 2), ("optimized", 3))
    ]
    timed, notes = settle(rounds, (), "auto")
    assert timed == "iterations"
    assert notes == [
        "the commands time different numbers of iterations in a process (baseline 2, optimized 3): one may be more work"
    ]
    assert settle(rounds, [("optimized", CommandAnswer((), ()))], "auto")[0] == "processes"
    assert settle(rounds, [("optimized", None)], "auto")[0] == "iterations"


SLEEPS = "import time; time.sleep(1000)"


@pytest.mark.parametrize(
    ("optimized", "words"),
    [
        ("import sys; sys.exit('no luck')", "ended with exit code 1 (no luck)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL (without a word)"),
        (SLEEPS, "did not end within {} s and was stopped with all its processes"),
        ("import os; open(os.environ['AISP_TRACE_ANSWER'], 'w').write('{}')", "line 1 of what optimized"),
    ],
)
def test_a_failing_command_is_named_and_resumed(capture: Capture, optimized: str, words: str) -> None:
    Path("other.py").write_text(optimized, encoding="utf-8")
    pair = ["--baseline", command("a"), "--optimized", f"{sys.executable} -I other.py", "--rounds", "1"]
    for timeout_s in TIMEOUTS_S if optimized == SLEEPS else (PATIENCE_S,):
        shutil.rmtree("aisp-runs", ignore_errors=True)
        code, err = capture(*pair, "--timeout", str(timeout_s))
        assert code == 2
        sentence = err.splitlines()[-1]
        if "baseline (`" not in sentence:  # on a busy machine that did not end in time either
            break
    assert words.format(timeout_s) in sentence and "optimized (`" in sentence and "--resume" in sentence
    (partial,) = Path("aisp-runs").glob(".partial-*")
    Path("other.py").write_text("", encoding="utf-8")
    assert main(["capture", "--resume", str(partial), "--timeout", str(PATIENCE_S)]) == 0
    assert only_run().manifest.timed == "processes"


def test_a_resumed_pair_keeps_what_ended_well_unless_a_script_changed(capture: Capture) -> None:
    Path("other.py").write_text("raise SystemExit(1)", encoding="utf-8")
    args = ["--baseline", command("a"), "--rung", f"r={command('r')}", "--optimized", f"{sys.executable} -I other.py"]
    assert capture(*args, "--rounds", "1")[0] == 2
    (partial,) = Path("aisp-runs").glob(".partial-*")
    with pytest.raises(WorkloadError):
        resume(partial)
    assert Path("log").read_text(encoding="utf-8").split() == ["a", "r"], "nothing had changed"
    Path("other.py").write_text("", encoding="utf-8")
    resume(partial)
    assert Path("log").read_text(encoding="utf-8").split() == ["a", "r"] * 2, "a script of the pair was another"


def test_a_pair_is_not_resumed_from_another_folder(
    capture: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert capture("--baseline", command("a"), "--optimized", "false", "--rounds", "1")[0] == 2
    (partial,) = (tmp_path / "aisp-runs").glob(".partial-*")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="resume them from there"):
        resume(partial)


def test_an_interrupt_leaves_no_process(tmp_path: Path) -> None:
    """SIGINT while a command sleeps that has started another in a session of its own."""
    child = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'],"
    (tmp_path / "hang.py").write_text(
        f"{child} start_new_session=True); import os; open('new', 'w').write(os.environ['AISP_TRACE_PROCESS'])\n"
        "os.replace('new', 'up')\n"
        "import time; time.sleep(1000)",
        encoding="utf-8",
    )
    words = ["capture", "--profile", "none", "--baseline", f"{sys.executable} hang.py", "--optimized", "true"]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "aisp_trace.cli", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        marker = text_of(tmp_path / "up")
        assert len(marked(marker)) == 2
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert marked(marker) == []
    assert b"--resume" in err


class _FakeRecorder:
    """Runs the command and leaves an empty trace: what a recorder does to a pair, without nsys."""

    name, version = "nsys", "0"

    def environment(self, folder: Path, gated: bool) -> dict[str, str]:
        assert not gated
        return {ANSWER_VARIABLE: str(folder / "answer.jsonl")}

    def command(self, target: Sequence[str], folder: Path, gated: bool) -> tuple[str, ...]:
        return tuple(target)

    def record(self, target: Sequence[str], folder: Path, *, gated: bool, timeout_s: float, shown: bool = False) -> Any:
        assert not shown
        from aisp_trace.capture.nsys import Recorded

        done = subprocess.run(target, env={**os.environ, **self.environment(folder, gated)}, check=False)
        (folder / "trace.sqlite").touch()
        (folder / "nsys-profile.stderr.log").write_text("last words\n", encoding="utf-8")
        return Recorded(done.returncode, 1, "trace.sqlite", None, (), empty=Path("empty").exists())


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(*_: Any, **__: Any) -> tuple[Recorder, tuple[str, ...]]:
        return _FakeRecorder(), ()

    monkeypatch.setattr("aisp_trace.cli.plans.choose_recorder", choose)
    monkeypatch.setattr("aisp_trace.capture.plan.choose_recorder", choose)


@pytest.mark.usefixtures("recorded")
def test_the_recorded_process_answers_too(capture: Capture) -> None:
    args = [*pair(it(0, 10), work()), "--profile", "minimal", "--rounds", "1"]
    assert capture(*args)[0] == 0
    manifest = only_run().manifest
    answers = [v.recording.answer for v in manifest.variants if v.recording]
    assert answers == [CommandAnswer((10,), (Statement(4, "texts", "x"),))] * 2
    assert gather(only_run(), {}).variants["baseline"].traced_ns == (10,)


@pytest.mark.usefixtures("recorded")
def test_an_empty_recording_leaves_the_times(capture: Capture) -> None:
    """A command without CUDA and without ranges: an empty trace must not keep `check` from judging its times."""
    Path("empty").touch()
    assert capture(*pair(it(0, 10)), "--profile", "minimal", "--rounds", "1")[0] == 0
    manifest = only_run().manifest
    assert [v.recording for v in manifest.variants] == [None, None]
    assert manifest.notes[0].startswith("baseline: its recording held neither an NVTX range nor a CUDA launch")
    assert not list(Path("aisp-runs").rglob("trace.*"))
    assert main(["check"]) == 3


@pytest.mark.usefixtures("recorded")
def test_a_recorded_process_that_fails_is_an_error(capture: Capture) -> None:
    Path("other.py").write_text(
        "import os, sys; sys.exit('baseline' in os.environ['AISP_TRACE_ANSWER'].split('/')[-2])"
    )
    args = ["--baseline", f"{sys.executable} -I other.py", "--optimized", command("b"), "--profile", "minimal"]
    code, err = capture(*args, "--rounds", "1")
    assert code == 2
    assert "the recorded baseline (`" in err and "ended with exit code 1 (last words)" in err


# What a program writes about itself ---------------------------------------------------------------------------------


def answer_of(tmp_path: Path, *lines: str) -> CommandAnswer:
    file = tmp_path / "answer.jsonl"
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return read_answer(file, "baseline")


def line(pid: int, **what: Any) -> str:
    return json.dumps({"pid": pid, **what})


def test_iterations_of_ranks_are_one_job(tmp_path: Path) -> None:
    """The k-th iteration of a job lasts from its first start to its last end.

    rank 1   |----|      |----|
    rank 2     |-----|  |--|
    """
    found = answer_of(
        tmp_path,
        line(2, **it(102, 108)),
        line(1, **it(100, 105)),
        line(1, **it(120, 125)),
        line(2, **it(119, 122)),
        line(2, **work()),
        line(1, **work()),
        line(1, **it(0, 50, False)),
    )
    assert found == CommandAnswer((8, 6), (Statement(4, "texts", "x"),))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["no json"], "line 1 of what baseline wrote to AISP_TRACE_ANSWER .* is not JSON"),
        ([line(1, **it(5, 5))], "line 1"),
        ([line(1, iteration=[1, 2])], "line 1"),
        ([line(1, **it(1, 5)), line(1, **work(0))], "line 2"),
        ([line(1, **it(1, 5)), line(1, **it(4, 8))], "the iterations of baseline overlap"),
        ([line(1, **it(1, 5)), line(1, **it(6, 8)), line(2, **it(6, 8))], "timed 1 to 2 iterations"),
    ],
)
def test_answers_that_cannot_be_used(tmp_path: Path, lines: list[str], words: str) -> None:
    with pytest.raises(WorkloadError, match=words):
        answer_of(tmp_path, *lines)


def test_a_program_without_anything_of_ours_answers_nothing(tmp_path: Path) -> None:
    assert read_answer(tmp_path / "absent", "baseline") == CommandAnswer((), ())


def test_iterations_are_written_by_the_stages(tmp_path: Path) -> None:
    code = """
from aisp_trace.capture.answer import state_work
from aisp_trace.capture.stages import iteration, measured, stage
import time
with iteration():
    pass
try:
    with iteration():
        raise ValueError
except ValueError:
    pass
with measured():
    for _ in range(3):
        with iteration(), stage("a"):
            time.sleep(0.002)
state_work(8, "tokens")
"""
    file = tmp_path / "answer.jsonl"
    hidden = (stages.RECORDER_VARIABLE, stages.OUTPUT_VARIABLE, *stages.INJECTED)
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    subprocess.run([sys.executable, "-P", "-c", code], env={**environment, ANSWER_VARIABLE: str(file)}, check=True)
    rows = [json.loads(row) for row in file.read_text(encoding="utf-8").splitlines()]
    assert [row.get("measured") for row in rows] == [False, True, True, True, None], "one that raises is not complete"
    found = read_answer(file, "baseline")
    assert len(found.iterations_ns) == 3 and min(found.iterations_ns) >= 2_000_000
    assert found.stated == (Statement(8, "tokens", None),)


@pytest.mark.parametrize("args", [(0, "tokens"), (True, "tokens"), (1.5, "tokens"), (1, ""), (1, "tokens", "x" * 1001)])
def test_a_statement_that_says_nothing_is_refused(args: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError):
        state_work(*args)


def test_a_statement_costs_nothing_when_nobody_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ANSWER_VARIABLE, raising=False)
    state_work(1, "token")
    assert list(tmp_path.iterdir()) == []


# What is judged -----------------------------------------------------------------------------------------------------

SAME = (Statement(4, "texts", "x"),)


def made(
    tmp_path: Path, baseline: Sequence[Statement], optimized: Sequence[Statement], timed: str = "iterations"
) -> Run:
    """A pair that is exactly twice as fast, 8 rounds, as `capture` would have left it."""
    said = {"baseline": baseline, "optimized": optimized}
    rounds = [
        CommandRound(
            i,
            name,
            [name],
            0,
            lasted(i, name, about_s=ns * 3 / 1e9),
            "",
            CommandAnswer((ns, ns, ns), tuple(said[name])),
        )
        for i in range(8)
        for name, ns in (("baseline", 20_000_000 + i % 3), ("optimized", 10_000_000))[:: 1 if i % 2 else -1]
    ]
    run = load_run(run_folder(tmp_path / "pair-1"))
    variants = [replace(v, recording=None) for v in run.manifest.variants]
    manifest = replace(
        run.manifest,
        workload="pair",
        source="pair",
        size=None,
        rounds=(),
        variants=variants,
        commands=rounds,
        timed=timed,
        command_line=["aisp-trace", "capture", "--timing", timed],
    )
    write_json(run.path / "manifest.json", manifest)
    return load_run(run.path)


def verdicts(run: Run, **changes: Any) -> tuple[Verdict, ...]:
    claim: TimeClaim = time_claim(workload="pair", size=None, **changes)
    return judge([ExpectationFile("h100", (claim,))], gather(run, {}))


def test_stated_work_is_judged_and_nothing_is_doubted(tmp_path: Path) -> None:
    found = verdicts(made(tmp_path, SAME, SAME))
    assert [v.status for v in found] == ["met"] * 3
    assert not any("verified" in v.reason for v in found)
    assert found[1].quantity == "time of one iteration of baseline"


@pytest.mark.parametrize(
    ("optimized", "words"),
    [
        ((), "not every process of optimized states its work, so it is unverified"),
        (None, "the commands state no work and no output, so it is unverified that they do the same"),
    ],
)
def test_unstated_work_is_judged_and_every_verdict_says_so(
    tmp_path: Path, optimized: tuple[Statement, ...] | None, words: str
) -> None:
    run = made(tmp_path, () if optimized is None else SAME, optimized or ())
    for low, status in ((1.5, "met"), (3.0, "missed")):
        ratio = verdicts(run, low=low)[0]
        assert ratio.status == status
        assert words in ratio.reason


@pytest.mark.parametrize(
    ("other", "field"),
    [
        (Statement(2, "texts", "x"), "items"),
        (Statement(4, "lines", "x"), "unit"),
        (Statement(4, "texts", "y"), "output"),
    ],
)
def test_different_statements_are_invalid(tmp_path: Path, other: Statement, field: str) -> None:
    (found,) = verdicts(made(tmp_path, SAME, (other,)))
    assert found.status == "invalid"
    assert f"stated {field} differs" in found.reason


def test_a_program_that_contradicts_itself_is_invalid(tmp_path: Path) -> None:
    (found,) = verdicts(made(tmp_path, SAME, (*SAME, Statement(4, "texts", "z"))))
    assert found.status == "invalid"


def test_the_same_work_without_an_output_is_said(tmp_path: Path) -> None:
    without = (Statement(4, "texts", None),)
    assert "no output to compare" in verdicts(made(tmp_path, without, without))[0].reason


def test_whole_processes_are_called_so(tmp_path: Path) -> None:
    found = verdicts(made(tmp_path, SAME, SAME, "processes"), base_ms=100.0, fast_ms=50.0)
    assert [v.status for v in found] == ["met"] * 3
    assert found[1].quantity == "time of one whole process of baseline"
    assert found[1].value == pytest.approx(60, rel=1e-3), "the wall time, not the sum of iterations"


def test_check_says_what_was_timed_and_what_is_not_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(made(tmp_path, (), (), "processes").path)]) == 3, "nobody wrote a claim about it"
    found = made(tmp_path / "again", (), (), "processes")
    claims = tmp_path / "mine"
    claims.mkdir()
    claim = {
        "type": "time", "id": "pair.faster", "workload": "pair", "variant": "optimized", "baseline": "baseline",
        "size": None, "ratio": {"min": 1.5}, "max_ms": {"baseline": 100, "optimized": 50}, "why": "w",
        "source": {"kind": "model", "text": "t"},
    }  # fmt: skip
    document = {"schema": "aisp-trace/expectations/1", "hardware_key": "h100", "claims": [claim]}
    (claims / "expectations_h100.json").write_text(json.dumps(document), encoding="utf-8")
    capsys.readouterr()
    assert main(["check", str(found.path), "--expectations", str(claims)]) == 0
    out = capsys.readouterr().out
    assert "note: timed by whole processes, start-up included; `with" in out
    assert "speedup 2x of whole processes met" in out
    note = "note: the commands state no work and no output, so it is unverified that they do the same."
    assert note in " ".join(out.split())
    assert "moved bytes" not in out


def test_a_manifest_without_the_later_keys_is_still_read(tmp_path: Path) -> None:
    run = made(tmp_path, SAME, SAME)
    file = run.path / "manifest.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    del data["commands"], data["timed"]
    file.write_text(json.dumps(data), encoding="utf-8")
    assert (load_manifest(file).commands, load_manifest(file).timed) == ((), None)
