"""`aisp-trace check` on the folder of a job: figures of the job, claims on every rank, and what leaves them undecided.

The job is simulated: three ranks of real iterations, in which rank 2's data are late by 2 ms in four steps of twelve.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.benchmarks.rank_files import write_export
from aisp_trace.benchmarks.ranks import Delay, Plan, Simulated
from aisp_trace.cli.main import main
from aisp_trace.traces.run import (
    MANIFEST,
    SCHEMA,
    Hardware,
    Manifest,
    Recording,
    Variant,
    load_run,
    to_json,
    write_json,
)

RANKS, STEPS, SLOW, LATE_NS, STEP_NS = 3, 12, (3, 6, 7, 10), 2_000_000, 4_850_000
KEY = "3x_h200"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job as `capture --ranks 3` leaves it."""
    delays = {(2, i): [Delay("h2d", LATE_NS)] for i in SLOW}
    offsets = {r: r * 3_600_000_000_000 for r in range(RANKS)}
    made = Simulated(Plan(RANKS, STEPS, delays, rename={"h2d": "data"}, offset_ns=offsets))
    job = tmp_path_factory.mktemp("recorded") / "job"
    for rank in range(RANKS):
        folder = job / f"command-20260101T000000Z-rank{rank}"
        (folder / "command").mkdir(parents=True)
        write_export(folder / "command" / "trace.sqlite", made.trace(rank))
        write_json(folder / MANIFEST, manifest(folder.name, rank))
    return job


def manifest(run_id: str, rank: int) -> Manifest:
    recording = Recording("nsys", "2025.3.2", ["python", "train.py"], 0, 10**9, "command/trace.sqlite", None, None)
    return Manifest(
        schema=SCHEMA,
        run_id=run_id,
        created_utc="2026-01-01T00:00:10Z",
        workload="command",
        source="command",
        command_line=["aisp-trace", "capture", "--", "python", "train.py"],
        profile="minimal",
        recorder="nsys",
        hardware=Hardware(KEY, "cuda", ["NVIDIA H200"] * RANKS, "580.65", "13.0", "EPYC", 16),
        size=None,
        seed=None,
        iterations=None,
        warmup=None,
        packages={},
        git={"commit": None, "dirty": None},
        variants=[Variant("command", "", recording)],
        rounds=[],
        rank=rank,
        ranks=RANKS,
    )


@pytest.fixture
def job(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the job in an empty folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(recorded, tmp_path / "job")
    return tmp_path / "job"


def claim(metric: str, bound: dict[str, float], **more: Any) -> dict[str, Any]:
    return {
        "type": "mechanism",
        "id": f"command.{metric}.{'least' if 'min' in bound else 'most'}",
        "workload": "command",
        "variant": "command",
        "metric": metric,
        "bound": bound,
        "unit": "fraction",
        "why": "No rank holds up the others.",
        "source": {"kind": "model", "text": "what the plan of the job says"},
        **more,
    }


def check(
    source: Path, capsys: pytest.CaptureFixture[str], *claims: dict[str, Any], code: int
) -> list[tuple[str, float | None, str]]:
    """Verdict, value and reason of each claim on `source`, whose check leaves `code`."""
    folder = source.parent / "expectations"
    folder.mkdir(exist_ok=True)
    file = {"schema": "aisp-trace/expectations/2", "hardware_key": KEY, "claims": claims}
    (folder / f"expectations_{KEY}.json").write_text(json.dumps(file), encoding="utf-8")
    capsys.readouterr()
    assert main(["check", str(source), "--expectations", str(folder), "--json"]) == code
    found = json.loads(capsys.readouterr().out)["verdicts"]
    return [(v["verdict"], v["value"], v["reason"]) for v in found]


STRAGGLER = "job.straggler_share"
SHARE = len(SLOW) * LATE_NS / (STEPS * STEP_NS + len(SLOW) * LATE_NS)


def test_figures_of_the_job_are_judged(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Met, missed and undecided, by the figure that `ranks` shows; clocks are hours apart."""
    claims = [
        claim(STRAGGLER, {"max": 0.2}),
        claim(STRAGGLER, {"min": 0.3}),
        claim("job.exposed_comm_share", {"max": 0.3}),
        claim("job.skew", {"max": 0.05}),
    ]
    met, missed, comm, skew = check(job, capsys, *claims, code=1)
    assert [v[0] for v in (met, missed, comm, skew)] == ["met", "missed", "met", "met"]
    assert met[1] == pytest.approx(SHARE, rel=0.05)
    assert "from one recording" in met[2]
    assert main(["ranks", str(job), "--workers", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [met[1], comm[1], skew[1]] == [told["metrics"][n] for n in ("straggler_share", "exposed_comm_share", "skew")]
    assert (told["world_size"], {r["source"] for r in told["ranks"]}) == (RANKS, {"run"})


def test_another_claim_holds_if_it_holds_on_every_rank(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The device of rank 2 idles in `data`, an eighth of its window; nobody else's does."""
    claims = [
        claim("stage.share", {"max": 0.05}, of="idle", stage="data"),
        claim("stage.share", {"min": 0.01}, of="compute", stage="forward"),
    ]
    ((status, value, reason), (every, *_)) = check(job, capsys, *claims, code=1)
    assert (status, every) == ("missed", "met")
    assert value == pytest.approx(SHARE, rel=0.25) and "on rank 2, the worst of 3" in reason
    assert main(["check", str(job), "--expectations", str(job.parent / "expectations")]) == 1
    assert "3 of 3 ranks: a claim holds if it holds on each" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("lost", [0, 2])
def test_a_missing_rank_leaves_the_job_undecided(lost: int, job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last one too: its number is known from the manifests of the others."""
    shutil.rmtree(next(job.glob(f"*-rank{lost}")))
    ((status, value, reason),) = check(job, capsys, claim(STRAGGLER, {"max": 0.2}), code=3)
    assert (status, value) == ("inconclusive", None)
    assert f"rank {lost}, and any that is missing may be the last" in reason


def test_one_rank_by_itself_says_nothing_of_the_job(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = [claim(STRAGGLER, {"max": 0.2}), claim("stage.share", {"min": 0.01}, of="compute", stage="forward")]
    found = check(next(job.glob("*-rank2")), capsys, *claims, code=0)
    assert [status for status, *_ in found] == ["unrecorded", "met"]
    assert "rank 2 of 3 alone; give the folder that holds the runs of all ranks" in found[0][2]


def test_a_rank_that_failed_leaves_the_job_undecided(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(next(job.glob("*-rank1")), exit_code=1)
    ((status, _, reason),) = check(job, capsys, claim(STRAGGLER, {"max": 0.2}), code=3)
    assert status == "inconclusive" and "on rank 1" in reason


def test_two_recordings_of_one_rank_are_not_one_job(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rank 1 of another run of the job lies beside. The copy of a run does no harm."""
    twin = job / "command-20260102T000000Z-rank1"
    shutil.copytree(next(job.glob("*-rank1")), twin)
    ((status, *_),) = check(job, capsys, claim(STRAGGLER, {"max": 0.2}), code=0)
    assert status == "met"
    (twin / "command" / "trace.sqlite").unlink()
    write_export(twin / "command" / "trace.sqlite", Simulated(Plan(2, STEPS, seed=1)).trace(1))
    ((status, _, reason),) = check(job, capsys, claim(STRAGGLER, {"max": 0.2}), code=3)
    assert status == "invalid" and "several recordings say they are rank 1" in reason


def test_ranks_of_several_nodes_lie_a_folder_deeper(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rank in range(RANKS):
        run = next(job.glob(f"*-rank{rank}"))
        (job / f"node{rank // 2}").mkdir(exist_ok=True)
        run.rename(job / f"node{rank // 2}" / run.name)
    ((status, *_),) = check(job, capsys, claim(STRAGGLER, {"max": 0.2}), code=0)
    assert status == "met"


def test_other_commands_say_what_a_job_is_for(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        ("analyze", "holds those of 3 ranks"),
        ("accept", "holds those of 3 ranks"),
        ("report", "holds 3"),
    ):
        capsys.readouterr()
        assert main([words, str(job)]) == 2
        said = capsys.readouterr().err
        assert told in said and "aisp-trace ranks" in said


def edit(run: Path, **recording: Any) -> None:
    """Change the recording in the manifest of `run`."""
    known = to_json(load_run(run).manifest)
    known["variants"][0]["recording"] |= recording
    (run / MANIFEST).write_text(json.dumps(known), encoding="utf-8")
