"""Whatever ends a capture ends its programs, and what a killed one could not end is named before anything is timed beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aisp_trace.capture import leftovers as leaving
from aisp_trace.capture.leftovers import MARKER, Leftover, leftovers, new_marker, sentence
from aisp_trace.capture.nsight import find_nsys
from aisp_trace.capture.passing import KEPT_BYTES
from aisp_trace.capture.processes import run_process
from aisp_trace.capture.supervisor import descendants
from aisp_trace.cli.main import main
from aisp_trace.tests.patience import PATIENCE_S, wait_until
from aisp_trace.tests.test_capture_processes import alive
from aisp_trace.traces.run import load_run

INSTALLED = find_nsys()
needs_nsys = pytest.mark.skipif(
    INSTALLED is None or INSTALLED.problem is not None, reason="no nsys that can make reports is installed"
)

FAMILY = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGHUP, signal.SIG_IGN)
code = (
    "import os, signal, sys, time\\n"
    "for one in (signal.SIGHUP, signal.SIGINT): signal.signal(one, signal.SIG_IGN)\\n"
    "if sys.argv[2:]: signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
    "if os.fork(): os._exit(0)\\n"
    "os.setsid()\\n"
    "open(sys.argv[1] + '.new', 'w').write(str(os.getpid())); os.replace(sys.argv[1] + '.new', sys.argv[1])\\n"
    "time.sleep(1000)"
)
# An orphan in a session of its own, without a variable by which it could be known. It ignores signals; SIGTERM if given a word.
subprocess.run([sys.executable, "-I", "-S", "-c", code, "orphan", *sys.argv[1:]], env={}, start_new_session=True, check=True)
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"])
while not os.path.exists("orphan"):
    time.sleep(0.01)
open("new", "w").write(f"{os.getpid()} {child.pid} {open('orphan').read()}")
os.replace("new", "up")
time.sleep(1000)
"""
"""Writes three process ids to the file ``up``: its own, a child's, and an orphan's."""

WAYS = {
    "rounds": ("--profile", "none", "--baseline", f"{sys.executable} family.py", "--optimized", "true"),
    "torch": ("--recorder", "torch", "family.py", "stubborn"),
    "window": ("--recorder", "torch", "--delay", "1000", "family.py"),
}
NSYS_WAYS = {
    "nsys": ("--recorder", "nsys", "family.py"),
    "session": ("--recorder", "nsys", "--delay", "1000", "family.py"),
}


def started(folder: Path, *words: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """``aisp-trace capture`` with `words` in `folder`, as from a terminal, also where nohup runs the tests."""
    (folder / "family.py").write_text(FAMILY, encoding="utf-8")
    return subprocess.Popen(
        ["env", "--default-signal", *prefix, sys.executable, "-P", "-m", "aisp_trace.cli", "capture", *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def family(folder: Path, capture: subprocess.Popen[str]) -> list[int]:
    """The processes that run once the program is up."""
    up = folder / "up"
    wait_until(lambda: up.is_file() or capture.poll() is not None, "the program of a capture")
    assert capture.poll() is None, capture.communicate()
    return [int(word) for word in up.read_text(encoding="utf-8").split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_the_program_and_all_that_it_started(number: signal.Signals, tmp_path: Path) -> None:
    with started(tmp_path, *WAYS["rounds"]) as capture:
        pids = family(tmp_path, capture)
        capture.send_signal(number)
        capture.send_signal(number)  # the second keeps nothing alive
        _, err = capture.communicate(timeout=PATIENCE_S)
    assert capture.returncode == 130, err
    assert "interrupted; go on with `aisp-trace capture --resume" in err
    assert not [pid for pid in pids if alive(pid)]


@pytest.mark.parametrize("way", [*WAYS, *(pytest.param(name, marks=needs_nsys) for name in NSYS_WAYS)])
def test_a_killed_capture_leaves_no_process(way: str, tmp_path: Path) -> None:
    with started(tmp_path, *{**WAYS, **NSYS_WAYS}[way]) as capture:
        pids = family(tmp_path, capture)
        pids += descendants(capture.pid)
        capture.kill()
        capture.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not [pid for pid in pids if alive(pid)], "the end of the programs of a capture that was killed")


def test_under_nohup_a_capture_outlives_its_terminal(tmp_path: Path) -> None:
    with started(tmp_path, *WAYS["rounds"], prefix=("nohup",)) as capture:
        pids = family(tmp_path, capture)
        capture.send_signal(signal.SIGHUP)
        assert all(map(alive, pids))
        capture.send_signal(signal.SIGTERM)
        _, err = capture.communicate(timeout=PATIENCE_S)
    assert capture.returncode == 130, err
    assert not [pid for pid in pids if alive(pid)]


def test_a_program_whose_supervisor_is_killed_dies_with_it(tmp_path: Path) -> None:
    with started(tmp_path, *WAYS["rounds"]) as capture:
        program, *others = family(tmp_path, capture)
        (supervisor,) = (pid for pid in descendants(capture.pid) if program in descendants(pid))
        os.kill(supervisor, signal.SIGKILL)
        _, err = capture.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not alive(program), "the end of a program whose supervisor was killed")
    for pid in others:
        os.kill(pid, signal.SIGKILL)
    assert (capture.returncode, "SIGKILL" in err) == (2, True), err


# Leftovers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> str:
    """A PID namespace of this test's own by name, so that captures of other tests do not see its leftovers."""
    monkeypatch.setattr(leaving, "_namespace", lambda: f"test{os.getpid()}")
    return f"test{os.getpid()}"


@pytest.fixture
def left() -> Iterator[Callable[[str], int]]:
    """Starts a process that carries a marker; all are gone afterwards."""
    started: list[subprocess.Popen[bytes]] = []

    def start(marker: str) -> int:
        code = "import time; print(flush=True); time.sleep(1000)  # \x1b[31m"
        process = subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, MARKER: marker}, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.communicate()


def of_another(marker: str, *, pid: str | None = None, started: str | None = None, namespace: str | None = None) -> str:
    """`marker` with other facts of the capture that it names."""
    word, was_pid, was_started, was_namespace = marker.split(".")
    return ".".join((word, pid or was_pid, started or was_started, namespace or was_namespace))


def test_programs_of_a_living_capture_are_no_leftovers(namespace: str, left: Callable[[str], int]) -> None:
    left(new_marker())
    assert leftovers() == []


def test_a_recycled_number_is_told_apart(namespace: str, left: Callable[[str], int]) -> None:
    """This process has the number of the capture and started at another time: the capture is gone."""
    pid = left(of_another(new_marker(), started="1"))
    (found,) = leftovers()
    assert found.pid == pid
    assert "\x1b" not in sentence([found])


def test_numbers_of_another_namespace_mean_nothing_here(namespace: str, left: Callable[[str], int]) -> None:
    left(of_another(new_marker(), pid="4194304", namespace="elsewhere"))
    assert leftovers() == []


@pytest.mark.parametrize("marker", ["", "old", "a.b.c.d", "....", "x.-1.2."])
def test_a_foreign_value_is_nobodys(marker: str, namespace: str, left: Callable[[str], int]) -> None:
    left(marker if marker.count(".") != 3 else f"{marker.rpartition('.')[0]}.{namespace}")
    assert leftovers() == []


def test_capture_and_doctor_name_them(
    namespace: str,
    left: Callable[[str], int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aisp_trace.capture.capture.GRACE_S", 0.0)
    pid = left(of_another(new_marker(), pid="4194304"))  # Linux's highest number is one less
    assert main(["doctor"]) in (0, 3)
    out = capsys.readouterr().out
    assert "busy     earlier captures  1 process of a capture that was killed still runs: " in out
    assert f"kill {pid}" in out
    assert main(["capture", "--profile", "none", "--rounds", "2", "--baseline", "true", "--optimized", "true 1"]) == 0
    err = capsys.readouterr().err
    assert err.index(f"still runs: {pid} `") < err.index("round 1")
    (run,) = (tmp_path / "aisp-runs").glob("[!.]*")
    assert any(f"end it with `kill {pid}`" in note for note in load_run(run).manifest.notes)


def test_many_are_counted() -> None:
    many = [Leftover(pid, f"python {pid}") for pid in range(1, 9)]
    assert sentence(many) == (
        "8 processes of a capture that was killed still run: 1 `python 1`, 2 `python 2`, 3 `python 3`, 4 `python 4`, "
        "5 `python 5` and 3 more; end them with `kill 1 2 3 4 5 6 7 8`"
    )


# Output -------------------------------------------------------------------------------------------------------------


def test_of_a_chatty_program_the_first_and_the_last_is_kept(tmp_path: Path) -> None:
    code = "import os\nfor n in range(400): os.write(1, b'%07d' % n * 8192)\nos.write(2, b'why')"
    done = run_process(
        [sys.executable, "-c", code], stdout=tmp_path / "out", stderr=tmp_path / "err", timeout_s=PATIENCE_S
    )
    assert done.exit_code == 0
    kept = (tmp_path / "out").read_bytes()
    assert len(kept) < 2 * KEPT_BYTES + 100_000
    assert kept.startswith(b"0000000") and kept.endswith(b"0000399")
    assert (tmp_path / "err").read_bytes() == b"why"
