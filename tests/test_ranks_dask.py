"""Partials made on a Dask cluster: a real scheduler and two workers, of which one is killed while it works."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from aisp_trace.analyze.ranks import gather
from aisp_trace.analyze.ranks.engine import executor, run_all
from aisp_trace.analyze.ranks.look import Look
from aisp_trace.cli.main import main
from aisp_trace.tests.patience import wait_until
from aisp_trace.tests.ranks_tasks import slow_length

DDP = Path(__file__).parents[1] / "traces" / "samples" / "h200x2_ddp.sqlite.xz"


class Cluster:
    """A scheduler and its workers, each a process of its own on the loopback interface."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = ""
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        file = self.folder / "scheduler.json"
        common = ("--no-dashboard", "--scheduler-file", str(file))
        self._run("scheduler", "--host", "127.0.0.1", "--port", "0", *common)
        wait_until(lambda: file.is_file() and file.stat().st_size > 0, "the scheduler answers")
        self.address = json.loads(file.read_text(encoding="utf-8"))["address"]
        for _ in range(2):
            self._run(
                "worker",
                "--local-directory",
                str(self.folder),
                "--nworkers",
                "1",
                "--nthreads",
                "1",
                "--no-nanny",
                *common,
            )

    def _run(self, what: str, *words: str) -> None:
        command = [sys.executable, "-P", "-m", "distributed.cli.dask_" + what, *words]
        with (self.folder / f"{what}{len(self.processes)}.log").open("wb") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder))

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("dask"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_a_trace_goes_through_the_cluster(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DDP, tmp_path)
    (tmp_path / "broken.sqlite").write_bytes(b"SQLite format 3\0")
    assert main(["ranks", str(tmp_path), "--scheduler", cluster.address]) == 2
    told = capsys.readouterr()
    assert "broken.sqlite" in told.err and "Traceback" not in told.err
    assert "rank 1 was late once" in " ".join(told.out.split())
    local, failed = gather.make([DDP], tmp_path / "local", Look(), lambda: executor(1))
    assert failed == []
    for file in local:
        assert (tmp_path / "aisp-ranks" / file.name).is_file()


def test_a_worker_killed_in_mid_run_costs_nothing(cluster: Cluster, tmp_path: Path) -> None:
    items = [str(tmp_path / f"item{i}") for i in range(12)]
    workers = [p for p in cluster.processes[1:] if p.poll() is None]
    assert len(workers) == 2
    with executor(scheduler=cluster.address) as pool:
        done = run_all(pool, slow_length, items)
        results = [next(done)]
        wait_until(lambda: any(tmp_path.glob(f"*.{workers[0].pid}")), "the worker works")
        os.kill(workers[0].pid, signal.SIGKILL)
        results += list(done)
    assert sorted(results) == sorted((item, len(Path(item).name)) for item in items)
    pids = {int(p.suffix[1:]) for p in tmp_path.iterdir()}
    assert pids == {w.pid for w in workers}, "both worked, and what the killed one had was done again"


def test_no_scheduler_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aisp_trace.analyze.ranks.engine.CONNECT_S", 1)
    for address in ("tcp://127.0.0.1:1", "nonsense", "tcp://nowhere.invalid:8786"):
        assert main(["ranks", str(DDP), "--scheduler", address]) == 2
        said = capsys.readouterr().err
        assert "no Dask scheduler answers" in said and "Traceback" not in said
