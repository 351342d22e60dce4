"""A part of a program is recorded, and the program goes on: by time, by a range, by a signal, under either recorder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from aisp_trace.capture.leftovers import marked
from aisp_trace.capture.nsight import Nsys
from aisp_trace.capture.nsys_session import session_commands
from aisp_trace.capture.nsys_starts import STARTS
from aisp_trace.capture.window import Window
from aisp_trace.cli.main import main
from aisp_trace.tests.patience import PATIENCE_S, nsys_lost_its_agent, text_of, wait_until
from aisp_trace.tests.test_any_program import capture, elsewhere, needs_nsys, only_run, program
from aisp_trace.traces.errors import UsageError
from aisp_trace.traces.open import open_trace

__all__ = ["elsewhere"]

SERVER = Path(__file__).parents[1] / "examples/serve.py"

BOTH = [pytest.param("nsys", marks=needs_nsys), "torch"]
TORCH_NIGHTLY = [pytest.param("nsys", marks=needs_nsys), pytest.param("torch", marks=pytest.mark.nightly)]

LOOP = """
import os, pathlib, sys, time
if sys.argv[1:] == ["torch"]:
    import torch
from aisp_trace.capture.stages import stage

pathlib.Path("new").write_text(os.environ["AISP_TRACE_PROCESS"])
os.replace("new", "up")
number = 0
while not pathlib.Path("enough").exists():
    number += 1
    pathlib.Path("new").write_text(str(number))
    os.replace("new", "number")
    with stage(f"turn {number}"):
        time.sleep(0.02)
        if number % 20 == 0:
            with stage("special", kind="compute"):
                for _ in range(3):
                    with stage("inner"):
                        time.sleep(0.02)
print("the program is done", flush=True)
"""
"""Turns that have numbers, until the file `enough` lies there."""


class Capturing:
    """`capture` of the program `loop.py`, as a process."""

    def __init__(self, recorder: str, *words: str, script: Sequence[str] = ("loop.py",)) -> None:
        program("loop.py", LOOP)
        if recorder == "torch":
            script = (*script, "torch")
        for name in ("up", "number", "enough"):
            Path(name).unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "aisp_trace.cli", "capture", "--recorder", recorder, *words, *script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.err: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.err.extend(iter(self.process.stderr.readline, ""))

    def until(self, words: str) -> None:
        """Wait until stderr has `words`."""
        wait_until(
            lambda: any(words in line for line in list(self.err)) or self.process.poll() is not None,
            f"{words!r} on stderr",
        )
        assert any(words in line for line in self.err), self.err

    def end(self) -> tuple[int, str, str]:
        """Exit code, stdout and stderr when all has ended."""
        assert self.process.stdout is not None and self.process.stderr is not None
        with self.process.stdout, self.process.stderr:
            out = self.process.stdout.read()
            self._reader.join(PATIENCE_S)
        return self.process.wait(PATIENCE_S), out, "".join(self.err)


def turns() -> list[int]:
    """Numbers of the turns in the run's trace."""
    run = only_run()
    path = run.trace_path(run.manifest.variants[0])
    assert path is not None
    return sorted(int(name.split()[1]) for name in names(path) if name.startswith("turn "))


def names(path: Path) -> list[str]:
    ranges = open_trace(path).ranges
    return ranges.filter(pl.col("domain").cast(pl.String) == "aisp")["name"].cast(pl.String).to_list()


def number() -> int:
    return int(text_of(Path("number")))


@pytest.mark.parametrize("recorder", TORCH_NIGHTLY)
def test_seconds_of_a_program_that_goes_on(recorder: str) -> None:
    capturing = Capturing(recorder, "--delay", "4", "--duration", "2")
    capturing.until("the run is complete: ")
    later = number()
    assert only_run().manifest.variants[0].recording is not None, "the run lies there while the program goes on"
    wait_until(lambda: number() > later + 20, "the program goes on")
    Path("enough").touch()
    code, out, err = capturing.end()
    assert code == 0, err
    assert "the program is done" in out and "nsys-rep" not in out
    assert "recorded from 4 s after its start, for 2 s, until 2 s were over" in err
    found = turns()
    assert 10 < len(found) < 150 and found[-1] <= later
    assert found == list(range(found[0], found[-1] + 1))
    assert main(["analyze"]) == 0


@pytest.mark.parametrize("recorder", BOTH)
def test_from_a_range_to_its_end(recorder: str) -> None:
    capturing = Capturing(recorder, "--start-on", "special")
    capturing.until("the run is complete: ")
    Path("enough").touch()
    code, _, err = capturing.end()
    assert code == 0, err
    assert "recorded from the range 'special' to its end, until the range ended" in err
    run = only_run()
    path = run.trace_path(run.manifest.variants[0])
    assert path is not None
    assert sorted(names(path)) == ["inner", "inner", "inner", "special"]


@pytest.mark.parametrize("recorder", TORCH_NIGHTLY)
def test_from_a_signal_to_the_next(recorder: str) -> None:
    capturing = Capturing(recorder, "--start-on", "SIGUSR1", "--kill")
    marker = text_of(Path("up"))
    wait_until(lambda: number() > 20, "the program works")
    first = number()
    capturing.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: number() > first + 150, "the program is recorded for a while")
    capturing.process.send_signal(signal.SIGUSR1)
    code, out, err = capturing.end()
    assert code == 0, err
    assert "until SIGUSR1 came" in err
    assert "the program is done" not in out and marked(marker) == [], "--kill ends it"
    assert turns()[0] >= first


@needs_nsys
def test_ctrl_c_during_the_recording_leaves_nothing_and_after_it_the_run() -> None:
    capturing = Capturing("nsys", "--start-on", "SIGUSR1")
    marker = text_of(Path("up"))
    capturing.process.send_signal(signal.SIGINT)
    code, _, err = capturing.end()
    assert code == 130 and "nothing is kept of it" in err
    assert marked(marker) == []
    assert list(Path("aisp-runs").iterdir()) == [Path("aisp-runs/.gitignore")]
    capturing = Capturing("nsys", "--delay", "4", "--duration", "1")
    capturing.until("the run is complete: ")
    marker = text_of(Path("up"))
    capturing.process.send_signal(signal.SIGINT)
    code, out, err = capturing.end()
    assert code == 0, err
    assert "next: aisp-trace analyze" in out
    assert marked(marker) == []
    assert turns()


@needs_nsys
@pytest.mark.nightly
def test_a_program_that_ends_too_early_or_never_opens_the_range(capfd: pytest.CaptureFixture[str]) -> None:
    program("short.py", "print('short')")
    code, _, err = capture(capfd, "--delay", "60", "short.py")
    assert code == 2
    assert "ended with exit code 0 before its recording began, which is from 60 s after its start" in err
    program("never.py", "import time; time.sleep(1000)")
    code, _, err = capture(capfd, "--start-on", "absent", "--timeout", "6", "never.py")
    assert code == 2
    assert "was not recorded from the range 'absent' to its end: it did not begin within 6 s of its start" in err


@needs_nsys
def test_a_server_of_several_processes_under_load() -> None:
    """Each worker's stages are recorded, no request fails, and the server answers after its recording."""
    pytest.importorskip("torch")
    for _ in range(STARTS):
        capturing = Capturing(
            *("nsys", "--start-on", "SIGUSR1", "--duration", "2"), script=(str(SERVER), "--port", "0")
        )
        assert capturing.process.stdout is not None
        url = re.search(r"http://\S+", capturing.process.stdout.readline())
        if url is not None:
            break
        _, _, err = capturing.end()
        assert nsys_lost_its_agent(err), err
    assert url is not None
    answers, over = list[float](), threading.Event()

    def ask() -> None:
        while not over.is_set():
            with urllib.request.urlopen(url[0], data=b"[0.5, 0.25]", timeout=PATIENCE_S) as answer:
                answers.append(json.load(answer))
            time.sleep(0.005)

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    wait_until(lambda: len(answers) > 20, "the server answers")
    capturing.process.send_signal(signal.SIGUSR1)
    capturing.until("the run is complete: ")
    then = len(answers)
    wait_until(lambda: len(answers) > then + 20, "the server answers after its recording")
    over.set()
    for client in clients:
        client.join(PATIENCE_S)
    capturing.process.send_signal(signal.SIGINT)
    code, _, err = capturing.end()
    assert code == 0, err
    assert len(set(answers)) == 1, "the same to all, recorded or not"
    run = only_run()
    path = run.trace_path(run.manifest.variants[0])
    assert path is not None
    own = open_trace(path).ranges.filter(pl.col("domain").cast(pl.String) == "aisp")
    by_process = own.group_by("pid").agg(pl.col("name").cast(pl.String).unique().sort())["name"].to_list()
    assert [list(found) for found in by_process] == [["batch", "forward", "wait"]] * 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--delay", "-1", "true"], "--delay is -1 s; it must be at least 0"),
        (["--duration", "0", "true"], "--duration is 0 s; it must be above 0"),
        (["--delay", "3", "--start-on", "x", "true"], "--delay and --start-on were given"),
        (["--start-on", "x@y", "true"], "name a range without its domain, or SIGUSR1"),
        (["--delay", "3", "pipeline_sequential"], "--delay was given without a program"),
        (["--start-on", "cudaProfilerApi", "true"], "was given with --recorder torch, which cannot; name a range"),
        (["--kill"], "--kill was given without a program"),
    ],
)
def test_refusals(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capture", "--recorder", "torch", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_options_go_to_the_verb_that_takes_them(tmp_path: Path) -> None:
    made = tmp_path / "nsys"
    made.write_text(
        "#!/bin/sh\n[ $1 = launch ] && printf '\\t-t, --trace=\\n\\t--cuda-graph-trace=\\n'\n"
        "[ $1 = start ] && printf '\\t-s, --sample=\\n'\nexit 0\n",
        encoding="utf-8",
    )
    made.chmod(0o755)
    nsys = Nsys(made, "2022.4.2", frozenset(), None, linked=True)
    options = ["--trace=cuda,nvtx", "--sample=none"]
    launch, start, stop = session_commands(nsys, options, ["python", "x.py"], tmp_path, Window(start_on="load"), "s")
    assert launch[1:] == ("launch", "--session-new=s", "--trace=cuda,nvtx", "-p", "load@*", "python", "x.py")
    assert start[1:3] == ("start", "--session=s") and start[-4:] == (
        "--sample=none",
        "-c",
        "nvtx",
        "--capture-range-end=stop",
    )
    assert stop[1:] == ("stop", "--session=s")
    _, start, _ = session_commands(nsys, [], ["x"], tmp_path, Window(start_on="cudaProfilerApi", duration_s=2), "s")
    assert start[-3:] == ("-c", "cudaProfilerApi", "--capture-range-end=none")
    with pytest.raises(UsageError, match=r"takes --nic-metrics=true for a whole program only"):
        session_commands(nsys, ["--nic-metrics=true"], ["x"], tmp_path, Window(), "s")
