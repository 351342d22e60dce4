"""`aisp-trace ranks` and `analyze --partial` as they are used: files in, sentences out, and what goes wrong between."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.analyze.ranks import gather
from aisp_trace.analyze.ranks.engine import DIED, run_all
from aisp_trace.analyze.ranks.look import Look
from aisp_trace.cli.main import main
from aisp_trace.tests.ranks_tasks import dies_of_b, length, slow_length

SAMPLES = Path(__file__).parents[1] / "traces" / "samples"
DDP = SAMPLES / "h200x2_ddp.sqlite.xz"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The partials of the sample's two ranks."""
    into = tmp_path_factory.mktemp("parts")
    assert main(["analyze", "--partial", str(into), str(DDP)]) == 0
    return into


def answer(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> Any:
    assert main(["ranks", *map(str, words), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_slow_loader_of_a_real_fsdp_job_is_explained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Recorded on two H200s, with one nsys per rank. Rank, steps and stage are found, and milliseconds within 5 % of what the
    loaders took."""
    job = SAMPLES / "h200x2_fsdp"
    took = json.loads((job / "planted.json").read_text(encoding="utf-8"))
    planted = {n: b - a for n, (a, b) in enumerate(zip(took["rank0"], took["rank1"], strict=True)) if b > 50_000_000}
    assert list(planted) == [6, 9, 10, 17]
    found = answer(capsys, job, "--workers", "1")
    assert (len(found["ranks"]), len(found["iterations"])) == (2, 20)
    late = {step["iteration"]: step for step in found["iterations"] if step["late_ns"] > 50_000_000}
    assert list(late) == list(planted)
    for number, step in late.items():
        cause = step["causes"][0]
        assert (step["last_rank"], cause["stage"], cause["category"]) == (1, "iteration/data", "data")
        assert cause["ns"] == pytest.approx(planted[number], rel=0.05)
        assert step["late_ns"] == pytest.approx(planted[number], rel=0.05)


def test_the_sample_is_explained(folder: Path, parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rank 1 of the real job sleeps 2 ms in step number 2, outside all stages; 1.1 ms of it leave the device idle."""
    capsys.readouterr()
    found = answer(capsys, parts)
    (late,) = [step for step in found["iterations"] if step["last_rank"] is not None]
    assert (late["iteration"], late["last_rank"]) == (2, 1)
    assert late["late_ns"] == 17906773938 - 17905183750, "its first collective beside rank 0's, as recorded"
    assert (late["causes"][0]["stage"], late["causes"][0]["category"]) == ("iteration", "host code")
    assert found["straggler"]["pattern"] == "once"
    assert found["trust"] == {"level": "ok", "reasons": []}
    assert main(["ranks", str(parts)]) == 0
    told = capsys.readouterr().out
    assert "rank 1 was late once" in " ".join(told.split())
    assert "host code in iteration (1.121 ms more)" in " ".join(told.split())


def test_traces_become_partials_that_are_used_again(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(DDP, folder)
    first = answer(capsys, folder / DDP.name, "--workers", 1)
    assert sorted(p.suffix for p in (folder / "aisp-ranks").iterdir()) == [".aisp-rank"] * 2
    monkeypatch.setattr(gather, "run_all", lambda *_: pytest.fail("the trace was read again"))
    assert answer(capsys, folder / DDP.name) == first
    assert answer(capsys, folder / "aisp-ranks") == first


def test_other_options_and_lost_parts_are_made_again(folder: Path) -> None:
    shutil.copy(DDP, folder)
    traces, into, looks = [folder / DDP.name], folder / "parts", (Look(), Look(skip=3))

    def times_made(look: Look) -> int:
        calls = 0

        def pool() -> ThreadPoolExecutor:
            nonlocal calls
            calls += 1
            return ThreadPoolExecutor(1)

        files, failed = gather.make(traces, into, look, pool)
        assert (len(files), failed) == (2, [])
        return calls

    assert [times_made(look) for look in (looks[0], looks[0], looks[1], looks[1])] == [1, 0, 1, 0]
    next(into.glob("*.1.aisp-rank")).unlink()
    assert times_made(looks[1]) == 1
    next(into.glob("*.0.aisp-rank")).write_bytes(b"half")
    assert times_made(looks[1]) == 1


def test_a_trace_that_fails_does_not_stop_the_rest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces = folder / "traces"
    traces.mkdir()
    shutil.copy(DDP, traces)
    (traces / "broken.rank7.sqlite").write_bytes(b"SQLite format 3\0" + bytes(50))
    (traces / "notes.txt").write_text("no trace", encoding="utf-8")
    (traces / "config.json").write_text('{"learning_rate": 0.1}', encoding="utf-8")
    found = answer(capsys, traces, "--workers", 1, code=2)
    assert len(found["ranks"]) == 2
    ((failed),) = found["failed"]
    assert failed["file"].endswith("broken.rank7.sqlite")
    assert main(["ranks", str(traces)]) == 2
    told = capsys.readouterr()
    assert "broken.rank7.sqlite" in told.err and "Traceback" not in told.err
    assert "2 ranks, 4 iterations" in told.out


def test_damaged_partials_are_told_and_the_rest_is_merged(
    folder: Path, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(parts, folder / "job")
    next((folder / "job").glob("*.1.aisp-rank")).write_bytes(b"PK\x03\x04")
    found = answer(capsys, folder / "job", code=2)
    assert [rank["rank"] for rank in found["ranks"]] == [0]
    assert "make it again" in found["failed"][0]["why"]
    assert main(["ranks", str(folder / "job"), "-o", "job.html"]) == 2
    assert "1 rank, 4 iterations, " in capsys.readouterr().out
    assert "<title>Job of 1 rank ·" in (folder / "job.html").read_text(encoding="utf-8")


def test_one_rank_is_singular(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ranks", str(SAMPLES / "h200_graphs.sqlite.xz"), "--workers", "1"]) == 0
    assert capsys.readouterr().out.startswith("1 rank, ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing*.sqlite"], "matches no file"),
        (["."], "neither traces nor partials"),
        ([str(DDP), "--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], "leave one of them out"),
        ([str(DDP), "-o", "-", "--json"], "both go to standard output"),
        ([str(DDP), "-o", str(DDP)], "is read by this command"),
        ([str(DDP), "--partial", str(DDP)], "is a file where a folder"),
        ([], "missing argument"),
    ],
)
def test_wrong_words_are_one_sentence(
    folder: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ranks", *words]) == 2
    said = capsys.readouterr().err
    assert told in said.lower() or told in said
    assert said.count("\n") == 1 and "Traceback" not in said


RUN = SAMPLES / "h200_memory_standard"


@pytest.mark.parametrize(
    "words",
    [
        ["ranks", str(RUN)],
        ["ranks", str(RUN / "*" / "trace.sqlite.xz")],
        ["ranks", str(RUN / "baseline"), str(RUN / "reuse" / "trace.sqlite.xz")],
        ["analyze", "--partial", "parts", str(RUN)],
    ],
)
def test_variants_of_a_run_are_no_ranks(folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert "are not ranks of a job" in said.err and "baseline" in said.err
    assert f"`aisp-trace compare {RUN}`" in said.err and "`aisp-trace capture --ranks`" in said.err
    assert not list(folder.iterdir()), "nothing was made"


def test_one_variant_and_a_job_of_runs_are_ranks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs of one variant each, as of `capture --ranks`, and one variant of several whose trace holds two ranks."""
    from aisp_trace.tests.judging.build import run_folder

    for rank in range(2):
        run = run_folder(folder / "job" / f"rank{rank}")
        (run / "baseline").mkdir()
        shutil.copy(DDP, run / "baseline" / f"trace.rank{rank}.sqlite.xz")
    found = gather.find([str(folder / "job")])
    assert [trace.parent.name for trace in found.traces] == ["baseline"] * 2
    assert len(gather.find([str(folder / "job" / "rank*" / "*" / "*.xz")]).traces) == 2
    assert len(answer(capsys, folder / "job" / "rank0" / "baseline")["ranks"]) == 2


def test_a_report_is_left_where_its_export_lies_beside_it(tmp_path: Path) -> None:
    for name in ("a/trace.nsys-rep", "a/trace.sqlite", "b/trace.nsys-rep", "b/manifest.json", ".c/trace.sqlite"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert gather.find([str(tmp_path)]).traces == (tmp_path / "a/trace.sqlite", tmp_path / "b/trace.nsys-rep")
    both = [str(tmp_path / "a" / name) for name in ("trace.nsys-rep", "trace.sqlite")]
    assert len(gather.find(both).traces) == 2, "what is named is read"


def test_a_pattern_that_no_shell_expanded(folder: Path, parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(answer(capsys, parts / "*.0.aisp-rank")["ranks"]) == 1
    shutil.copytree(parts, folder / "a" / "b")
    assert len(answer(capsys, "a/**/*.aisp-rank")["ranks"]) == 2


def test_the_page_is_written_beside_the_text(folder: Path, parts: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert main(["ranks", str(parts), "-o", "job.html"]) == 0
    assert "report: job.html" in capfd.readouterr().out
    assert "Job of 2 ranks" in (folder / "job.html").read_text(encoding="utf-8")
    assert main(["ranks", str(parts), "-o", "-"]) == 0
    assert capfd.readouterr().out.startswith("<!DOCTYPE html>")


def test_the_page_replaces_a_page_and_nothing_else_unasked(
    folder: Path, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["ranks", str(parts), "-o", "job.html"]) == 0
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    part = next(parts.iterdir())
    before = part.read_bytes()
    for words, told in (
        (["notes.txt"], "--force"),
        ([str(part), "--force"], "is read by this command"),
        (["no/x.html"], "not a folder"),
    ):
        capsys.readouterr()
        assert main(["ranks", str(parts), "-o", *words]) == 2
        assert told in capsys.readouterr().err
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert part.read_bytes() == before
    assert main(["ranks", str(parts), "-o", "notes.txt", "--force"]) == 0


def test_partial_needs_traces(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", "--partial", "x"]) == 2
    assert "needs the traces" in capsys.readouterr().err
    assert not (folder / "x").exists()


def test_a_process_that_dies_loses_its_own_trace_alone() -> None:
    from aisp_trace.analyze.ranks.engine import executor

    with executor(workers=2) as pool:
        done = dict(run_all(pool, dies_of_b, ["a", "b", "cc"]))
    assert (done["a"], done["cc"]) == (1, 2)
    assert isinstance(done["b"], BaseException)
    assert gather._why(done["b"]) == DIED


def test_what_was_not_begun_is_dropped_on_an_interrupt(tmp_path: Path) -> None:
    items = [str(tmp_path / f"item{i:02}") for i in range(20)]
    with ThreadPoolExecutor(2) as pool, closing(run_all(pool, slow_length, items)) as results:
        next(results)
    assert len(list(tmp_path.iterdir())) <= 4


def test_any_executor_serves() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert sorted(run_all(pool, length, ["a", "bb"])) == [("a", 1), ("bb", 2)]
