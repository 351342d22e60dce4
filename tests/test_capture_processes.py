"""Nothing that was started outlives a timeout, Ctrl-C or a SIGTERM; the unfinished run can be resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aisp_trace.capture import supervised
from aisp_trace.capture.leftovers import MARKER, marked
from aisp_trace.capture.processes import last_line, run_process
from aisp_trace.tests.patience import PATIENCE_S, text_of, timed_out_when_up, wait_until
from aisp_trace.traces.run import load_run

FAKE = Path(__file__).with_name("fake_workload.py")

CAPTURE = ("capture", str(FAKE), "--profile", "none", "--rounds", "2", "--iterations", "1", "--device", "cpu")


def start_cli(*args: str, **variables: str) -> subprocess.Popen[str]:
    """`aisp-trace` with `args`, its stderr readable."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", "import sys; from aisp_trace.cli.main import main; sys.exit(main())", *args],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(file: Path) -> list[int]:
    """The process ids in `file`, once it exists."""
    return [int(word) for word in text_of(file).split()]


def alive(pid: int) -> bool:
    """Whether `pid` runs; a zombie nobody has waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_timeout_ends_the_process_and_a_child_in_another_session(tmp_path: Path) -> None:
    pids_file = tmp_path / "pids"
    hang = {"FAKE_HANG": "baseline", "FAKE_PIDS": str(pids_file)}

    def run(timeout_s: float) -> tuple[float, int, str]:
        process = start_cli(*CAPTURE, "--timeout", str(timeout_s), "--output", str(tmp_path / "runs"), **hang)
        _, err = process.communicate(timeout=2 * PATIENCE_S)
        return timeout_s, process.returncode, err

    timeout_s, code, err = timed_out_when_up(run, pids_file)
    pids = wait_for(pids_file)
    assert code == 2
    assert f"did not end within {timeout_s} s and was stopped with all its processes" in err
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_everything_and_the_run_can_be_resumed(number: signal.Signals, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    pids_file = tmp_path / "pids"
    process = start_cli(*CAPTURE, "--output", str(runs), FAKE_HANG="optimized", FAKE_PIDS=str(pids_file))
    pids = wait_for(pids_file)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "interrupted; go on with `aisp-trace capture --resume " in err
    assert not any(alive(pid) for pid in pids)
    (partial,) = runs.glob(".partial-*")
    assert partial.name.startswith(".partial-")

    resumed = start_cli("capture", "--resume", str(partial))
    out, err = resumed.communicate(timeout=PATIENCE_S)
    assert resumed.returncode == 0, err
    (run,) = runs.glob("[!.]*")
    assert f"run: {run}" in out
    assert len(load_run(run).manifest.rounds) == 2


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aisp_trace.capture.processes.GRACE_S", 0.3)
    ready = tmp_path / "ready"
    code = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); "
        "pathlib.Path(sys.argv[1]).touch(); time.sleep(1000)"
    )
    command = [sys.executable, "-c", code, str(ready)]
    done = timed_out_when_up(
        lambda timeout_s: run_process(command, stdout=tmp_path / "out", stderr=tmp_path / "err", timeout_s=timeout_s),
        ready,
    )
    assert (done.timed_out, done.exit_code) == (True, -signal.SIGKILL)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "ready\n"


def test_a_child_does_not_outlive_a_process_that_ends_well(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'], start_new_session=True)\n"
        "print(child.pid)"
    )
    done = run_process(
        [sys.executable, "-c", code], stdout=tmp_path / "out", stderr=tmp_path / "err", timeout_s=PATIENCE_S
    )
    assert done.exit_code == 0
    child = int((tmp_path / "out").read_text(encoding="utf-8"))
    wait_until(lambda: not alive(child), "the child's end, who would live longer than that")


def test_a_process_reads_nothing_and_keeps_its_exit_code(tmp_path: Path) -> None:
    code = "import sys; assert sys.stdin.read() == ''; print('x', file=sys.stderr); sys.exit(3)"
    done = run_process(
        [sys.executable, "-c", code], stdout=tmp_path / "out", stderr=tmp_path / "err", timeout_s=PATIENCE_S
    )
    assert (done.exit_code, done.timed_out) == (3, False)
    assert done.wall_ns > 0
    assert last_line(tmp_path / "err") == "x"


def test_sigterm_is_handled_as_before_once_the_process_has_ended(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run_process([sys.executable, "-c", ""], stdout=tmp_path / "out", stderr=tmp_path / "err", timeout_s=PATIENCE_S)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_marker_nobody_carries_finds_nobody() -> None:
    assert marked("no process carries this") == []


def test_the_last_line_of_a_progress_bar_is_its_last_state(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\n10%\r50%\r100%\n\n \n")
    assert last_line(log) == "100%"
    assert last_line(tmp_path / "absent") == ""


@pytest.mark.parametrize("timeout_s", [None, 3600.0])
def test_a_wait_is_never_long_at_a_stretch(timeout_s: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt that comes just before a call that waits is raised when that call returns, which may be an hour later."""
    waits: list[float] = []

    def select(*files_and_timeout: Any) -> tuple[list[int], list[int], list[int]]:
        waits.append(files_and_timeout[-1])
        if len(waits) == 3:
            raise KeyboardInterrupt
        return [], [], []

    program = supervised.Supervised((MARKER, "none"), 1.0)
    monkeypatch.setattr(supervised, "select", SimpleNamespace(select=select))
    with pytest.raises(KeyboardInterrupt):
        program.wait(timeout_s)
    assert waits == [supervised.LOOK_S] * 3 and supervised.LOOK_S <= 1
