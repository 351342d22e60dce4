"""A program of the user's own, as it is: how it is told from a workload, its output, its failures, its forked workers."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

import pytest
import typer

from aisp_trace.capture import recorders
from aisp_trace.capture.forks import Forks
from aisp_trace.capture.leftovers import marked
from aisp_trace.capture.nsight import find_nsys
from aisp_trace.capture.nsys import OWN_LINES, lost_workers
from aisp_trace.capture.nsys_starts import STARTS
from aisp_trace.capture.passing import Bounded, Passed
from aisp_trace.capture.processes import how_ended
from aisp_trace.cli.commands.capture import app
from aisp_trace.cli.main import main
from aisp_trace.cli.programs import python, split
from aisp_trace.tests.patience import PATIENCE_S, nsys_lost_its_agent, text_of, wait_until
from aisp_trace.traces.run import Run, load_run

INSTALLED = find_nsys()
needs_nsys = pytest.mark.skipif(
    INSTALLED is None or INSTALLED.problem is not None, reason="no nsys that can make reports is installed"
)

OPTIONS = {"--profile": True, "--dry-run": False}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go below the current folder, which is not the checkout; no environment is activated."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)


def program(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def capture(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `capture`, tried as often as nsys loses its agent: whether a program of the user's had
    been started by then nobody knows, so `capture` does not start it again."""
    for _ in range(STARTS):
        code = main(["capture", *words])
        out, err = capfd.readouterr()
        if not nsys_lost_its_agent(err):
            break
        for folder in Path().glob("*/.partial-*"):
            shutil.rmtree(folder)
    return code, out, err


def only_run() -> Run:
    (path,) = Path("aisp-runs").glob("[!.]*")
    return load_run(path)


# Which words are the program's --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "ours", "theirs"),
    [
        (["train.py", "--steps", "4"], [], [sys.executable, "train.py", "--steps", "4"]),
        (["--profile", "a", "train.py", "--profile", "x"], ["--profile", "a"], [sys.executable, "train.py", "--profile", "x"]),
        (["--profile=deep", "--dry-run", "train.py"], ["--profile=deep", "--dry-run"], [sys.executable, "train.py"]),
        (["sh", "-c", "exit"], [], ["sh", "-c", "exit"]),
        (["work.py", "--rounds", "3"], ["work.py", "--rounds", "3"], []),
        (["pipeline_sequential"], ["pipeline_sequential"], []),
        (["absent.py"], ["absent.py"], []),
        (["absent.py", "--steps", "4"], [], [sys.executable, "absent.py", "--steps", "4"]),
        (["pipeline_sequentia"], ["pipeline_sequentia"], []),
        (["--profile"], ["--profile"], []),
        ([], [], []),
    ],
)  # fmt: skip
def test_a_program_is_told_from_a_workload(words: Sequence[str], ours: list[str], theirs: list[str]) -> None:
    program("train.py", "import aisp_trace.capture.stages\n")
    program("work.py", "from aisp_trace.workloads import runner\n")
    assert split(words, OPTIONS) == (ours, theirs)


@pytest.mark.parametrize(
    ("text", "workload"),
    [
        ("import aisp_trace.workloads.runner as r", True),
        ("from aisp_trace import workloads", True),
        ("from aisp_trace.traces.run import ProcessResult", True),
        ("from aisp_trace.capture.stages import stage", False),
        ("'aisp_trace.workloads'", False),
        ("from aisp_trace.workloads_of_mine import x", False),
        ("this is not Python", False),
        ("\0", False),
    ],
)
def test_a_workload_imports_the_protocol(text: str, workload: bool) -> None:
    assert (split([program("x.py", text)], OPTIONS)[1] == []) == workload


@pytest.mark.parametrize(
    ("words", "program"),
    [
        ("train.py -- --steps 3", "train.py --steps 3"),
        ("train.py --steps 3 -- x", "train.py --steps 3 -- x"),
        ("--profile deep train.py -- x", "train.py x"),
        ("-- train.py x", "train.py x"),
        ("./train.py", "./train.py"),
    ],
)
def test_dashes_between_a_program_and_its_words(words: str, program: str) -> None:
    Path("train.py").write_text("", encoding="utf-8")
    context = typer.main.get_command(app).make_context("capture", words.split())
    assert context.args == [sys.executable, *program.split()]


def test_the_activated_environments_python_runs_a_script(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    assert python({"VIRTUAL_ENV": str(tmp_path)}) == str(tmp_path / "bin/python")
    assert python({"VIRTUAL_ENV": str(tmp_path / "gone")}) == sys.executable


# Its output ---------------------------------------------------------------------------------------------------------


def passed(parts: Sequence[bytes], log: Path) -> bytes:
    shown = io.BytesIO()
    stream = Passed(log, shown, OWN_LINES)
    writer = os.dup(stream.write_end)
    stream.start()
    for part in parts:
        os.write(writer, part)
    os.close(writer)
    stream.finish(PATIENCE_S)
    return shown.getvalue()


def test_output_is_shown_without_the_recorders_own_lines_and_kept_whole(tmp_path: Path) -> None:
    parts = [
        *(b"epoch 1\r", b"epoch 2\nGenerating text\nGenera", b"ting 'x'\nGen"),
        *(
            b"erating '/tmp/nsys-report-1a.qdstrm'\nCapture range started in the application.\n\r[1/",
            b"1] [==50%  ] t.nsys-rep",
        ),
        *(
            b"\r[1/1] [100%] t.nsys-rep\nGenerated:\n    /runs/t.nsys-rep\n",
            b"epoch 3\n[2/3] done\nCapture range 7\n",
            b"[1/1] [===",
        ),
    ]
    shown = b"epoch 1\repoch 2\nGenerating text\nGenerating 'x'\nepoch 3\n[2/3] done\nCapture range 7\n"
    assert passed(parts, tmp_path / "log") == shown
    assert (tmp_path / "log").read_bytes() == b"".join(parts)


def test_what_only_looks_like_the_recorders_words_is_shown(tmp_path: Path) -> None:
    for parts in ([b"Genera"], [b"x\nGenerating '", b"poems'"], [b"Generating '" + b"a" * 20_000]):
        assert passed(parts, tmp_path / "log") == b"".join(parts)


@pytest.mark.parametrize("size", [0, 9, 10, 15, 20, 21, 1000])
def test_a_log_is_bounded_and_has_both_ends(size: int, tmp_path: Path) -> None:
    data = bytes(i % 251 for i in range(size))
    log = Bounded(tmp_path / "log", 10)
    for at in range(0, size, 3):
        log.write(data[at : at + 3])
    log.close()
    kept = (tmp_path / "log").read_bytes()
    if size <= 20:
        assert kept == data
    else:
        (left_out,) = re.findall(rb"\n\[\.\.\. (\d+) bytes are left out \.\.\.\]\n", kept) or [b"0"]
        assert kept.startswith(data[:10]) and kept.endswith(data[-10:])
        assert len(kept) < 80 and int(left_out) >= size - 10 - 13


def test_a_reader_that_leaves_does_not_stop_the_program(tmp_path: Path) -> None:
    class Closed:
        def write(self, data: bytes) -> None:
            raise BrokenPipeError

    stream = Passed(tmp_path / "log", cast(IO[bytes], Closed()))
    writer = os.dup(stream.write_end)
    stream.start()
    os.write(writer, b"x" * 200_000)
    os.close(writer)
    stream.finish(PATIENCE_S)
    assert (tmp_path / "log").stat().st_size == 200_000


@needs_nsys
def test_output_passes_while_the_program_runs_and_is_kept(tmp_path: Path) -> None:
    program(
        "talk.py",
        "import pathlib, time\nprint('ready', flush=True)\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\nprint('bye')",
    )
    words = [sys.executable, "-P", "-m", "aisp_trace.cli", "capture", "talk.py"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "before the program has ended"
        Path("go").touch()
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert out.splitlines()[0] == "bye"
    assert out.splitlines()[1].startswith("run: ")
    (log,) = Path("aisp-runs").glob("[!.]*/command/nsys-profile.stdout.log")
    assert log.read_text(encoding="utf-8").startswith("ready\nbye\n")


# How it fails -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "ended with exit code 3"),
        (-9, "was ended by SIGKILL"),
        (137, "was ended by SIGKILL"),
        (255, "ended with exit code 255"),
    ],
)
def test_how_a_program_ended(code: int, words: str) -> None:
    assert how_ended(code) == words


@needs_nsys
def test_a_program_that_fails_is_told_what_failed_and_leaves_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    program("bad.py", "import sys\nprint('cannot open data.bin', file=sys.stderr)\nsys.exit(3)")
    code, _, err = capture(capfd, "bad.py")
    assert code == 2
    assert err.splitlines()[-1].endswith(
        "bad.py` ended with exit code 3 before anything was recorded of it (cannot open data.bin)"
    )
    assert "--resume" not in err
    assert list(Path("aisp-runs").iterdir()) == [Path("aisp-runs/.gitignore")]


@needs_nsys
def test_what_was_recorded_before_a_failure_is_kept_and_the_exit_code_says_so(
    capfd: pytest.CaptureFixture[str],
) -> None:
    program("late.py", "import nvtx\nwith nvtx.annotate('mine'): pass\nraise ValueError('no such shard')")
    code, out, err = capture(capfd, "late.py")
    assert code == 2
    assert "ValueError: no such shard" in err
    assert "the command ended with exit code 1; what was recorded until then is kept" in err
    assert "next: aisp-trace analyze" in out
    assert only_run().manifest.variants[0].recording is not None


@needs_nsys
def test_an_interrupt_leaves_neither_processes_nor_a_run(tmp_path: Path) -> None:
    program(
        "hang.py",
        "import os, time\nopen('new', 'w').write(os.environ['AISP_TRACE_PROCESS'])\n"
        "os.replace('new', 'up')\nos.fork()\ntime.sleep(1000)",
    )
    words = [sys.executable, "-P", "-m", "aisp_trace.cli", "capture", "hang.py"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as process:
        marker = text_of(tmp_path / "up")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "nothing is kept of it" in err and "--resume" not in err
    assert marked(marker) == []
    assert list(Path("aisp-runs").iterdir()) == [Path("aisp-runs/.gitignore")]


# Forked workers -----------------------------------------------------------------------------------------------------

WORKERS = """
import multiprocessing, time
from aisp_trace.capture.stages import stage

def work(i):
    with stage("augment"):
        time.sleep(0.05)

if __name__ == "__main__":
    pool = multiprocessing.get_context("fork").Pool(2)
    for _ in range(3):
        with stage("data"):
            pool.map(work, range(8))
    pool.close()
    pool.join()
"""


@needs_nsys
def test_forked_workers_are_recorded_where_nsys_can_and_named_where_not(capfd: pytest.CaptureFixture[str]) -> None:
    from aisp_trace.traces.open import open_trace

    program("workers.py", WORKERS)
    assert capture(capfd, "workers.py")[0] == 0
    run = only_run()
    path = run.trace_path(run.manifest.variants[0])
    assert path is not None
    ranges = open_trace(path).ranges
    assert 12 <= (ranges["name"].cast(str) == "augment").sum() <= 24, "a worker may take along what it did last"
    assert ranges.n_unique("pid") == 3
    assert "forked" not in " ".join(run.manifest.notes)
    code, _, err = capture(capfd, "--output", "again", "--nsys-arg=--trace-fork-before-exec=false", "workers.py")
    assert code == 0
    assert re.search(r"2 forked processes \(\d+, \d+\) left nothing in the trace: .*false was asked for", err)


def test_forks_are_told_from_programs_that_were_started() -> None:
    code = (
        "import os, subprocess, sys, time\n"
        "if os.fork() == 0: time.sleep(1000)\n"
        "subprocess.Popen(['sleep', '1000']); subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        "open('up', 'w').write('x'); time.sleep(1000)"
    )
    mark = f"AISP_TEST_FORKS={os.getpid()}"
    name, _, value = mark.partition("=")
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, name: value}, start_new_session=True)
    try:
        with Forks(mark) as forks:
            wait_until(lambda: len(forks.pids) == 1, "the fork was seen")
            wait_until(Path("up").exists, "the programs are up")
        forks.look()
        assert len(forks.pids) == 1 and process.pid not in forks.pids
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_an_nsys_that_cannot_follow_forks_says_so() -> None:
    from aisp_trace.capture.nsight import Nsys

    old = Nsys(Path("/x/nsys"), "2021.1.1", frozenset(), None, linked=False)
    assert "2021.1.1 does not record processes that are only forked" in lost_workers(old, (), [7])
    new = Nsys(Path("/x/nsys"), "2025.3.1", frozenset(["trace-fork-before-exec"]), None, linked=False)
    assert lost_workers(new, (), range(9)).startswith("9 forked processes (0, 1, 2, 3, 4, 5 ...) left nothing")


REFUSES = "import sys; sys.exit('what is --recorder?' if '--recorder' in sys.argv else 0)"


@needs_nsys
def test_an_option_of_capture_behind_the_program_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    program("mine.py", REFUSES)
    code, _, err = capture(capfd, "mine.py", "--recorder", "nsys")
    assert code == 2
    assert "--recorder behind the program is the program's: if `capture` is meant, put it before" in err


@needs_nsys
def test_what_nothing_would_record_is_not_run(capfd: pytest.CaptureFixture[str]) -> None:
    """Without site-packages this Python has neither nvtx nor torch."""
    file = program("plain.py", "print('it ran')")
    code, out, err = capture(capfd, "--device", "cpu", sys.executable, "-S", file)
    assert (code, "it ran" in out) == (2, False)
    assert "nothing would be recorded: " in err and "-m pip install nvtx==0.2.11`" in err
    assert not Path("aisp-runs").exists()


@pytest.mark.parametrize(
    ("recorder", "text"),
    [pytest.param("nsys", "print(1)", marks=needs_nsys), ("torch", "import torch")],
)
def test_an_empty_recording_leads_nowhere_and_says_why_twice(
    recorder: str, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = capture(capfd, "--recorder", recorder, program("empty.py", text))
    assert (code, "next:" in out) == (0, False)
    assert "nothing was recorded: the note above says why" in out
    (note,) = only_run().manifest.notes
    assert "there is nothing to analyze" in note and note in err
    for command in ("analyze", "report", "predict"):
        assert main([command]) == 2
        said = capfd.readouterr().err
        assert "has nothing to analyze; its capture said: " in said and note.removeprefix("command: ") in said


def test_a_recorder_that_was_not_the_first_choice_is_named_before_the_program_runs(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorders, "find_nsys", lambda: None)
    code, _, err = capture(
        capfd, program("one.py", "import torch, sys\nprint('it ran', file=sys.stderr)\ntorch.ones(1) + 1")
    )
    assert code == 0
    assert err.count("torch.profiler records, because") == 1
    assert err.index("torch.profiler records, because nsys was not found") < err.index("it ran")
