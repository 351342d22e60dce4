"""``aisp-trace ranks --scrub``: secrets are planted in all that its page, text and JSON can show, and none of them is there."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aisp_trace.benchmarks.rank_files import write_job
from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.judging.build import run_folder
from aisp_trace.tests.test_what_leaves import HOST, NAMES, PASSWORD, PLANTED, USER

SAMPLES = Path(__file__).parents[1] / "traces" / "samples"
FSDP = SAMPLES / "h200x2_fsdp"
UUID = "GPU-12345678-9abc-def0-1234-56789abcdef0"
Call = Callable[..., "Said"]


class Said(NamedTuple):
    """What a command left, and what it wrote."""

    code: int
    out: str
    err: str


def export(file: Path, *, late_us: int, says: bool) -> None:
    """A rank of six iterations. Names of stages, kernels and collectives are personal, and, if it `says` so, user
    and host stand in its environment. From the fifth stage on it is late."""
    made, us, correlation = NsysExport(), 1000, 0  # ns of a microsecond
    for step in range(6):
        at = 1_000 + 700 * step
        made.range(at * us, (at + 600) * us, f"step {step}")
        for number, name in enumerate(NAMES):
            correlation += 1
            begin = at + 10 + 40 * number + (late_us if number > 4 else 0)
            kernel = ("ncclDevKernel_AllReduce_f32(args)", f"nccl_{USER}_{HOST}_(args)", name)[number % 3]
            made.range((begin - (late_us if number == 5 else 0)) * us, (begin + 15) * us, name)
            made.call((begin + 1) * us, (begin + 2) * us, "cudaLaunchKernel", correlationId=correlation)
            ends = at + 10 + 40 * number + 49 if number % 3 == 0 and number > 4 else begin + 9  # on all ranks at once
            made.kernel((begin + 3) * us, ends * us, kernel, correlationId=correlation)
    made.add("TARGET_INFO_GPU", id=0, name="NVIDIA H200", uuid=UUID)
    if says:
        made.add("TARGET_INFO_SYSTEM_ENV", name="Hostname", value=HOST)
        for number, text in enumerate((f"USER={USER}", f"WANDB_API_KEY={PASSWORD}")):
            made.add("META_DATA_CAPTURE", name=f"PROCESS_0:ENVIRONMENT_{number}", value=text)
    file.parent.mkdir(parents=True)
    made.write(file)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job below somebody's home. Its last rank alone says who and where, and this machine is another one."""
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere9")
    monkeypatch.setattr("getpass.getuser", lambda: "somebody")
    folder = tmp_path / "home" / USER / "acme-customer"
    for rank in range(2):
        export(folder / "job" / f"{USER}_rank{rank}" / f"{USER}.sqlite", late_us=40 * rank, says=rank == 1)
    export(folder / "job" / f"again-{HOST}-rank1" / f"{HOST}.sqlite", late_us=3, says=False)
    (folder / "job" / f"{USER}_rank7.sqlite").write_bytes(b"SQLite format 3\0" + bytes(50))
    (folder / "job" / f"{USER}_rank8.nsys-rep").write_bytes(b"nothing")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    def run(*args: str) -> Said:
        return Said(main(["ranks", *args]), *capfd.readouterr())

    return run


def leaks(text: str) -> list[str]:
    low = text.lower()
    return [word for word in (*PLANTED, UUID) if word.lower() in low or json.dumps(word)[1:-1].lower() in low]


LINES: tuple[list[str], ...] = (["--json"], [], ["-o", "-"], ["--json", "-o", "page.html"])


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_nothing_planted_leaves(line: list[str], work: Path, call: Call) -> None:
    code, out, err = call("job", "--scrub", "--workers", "1", *line)
    shown = out + err
    assert code == 2, "two files of the job cannot be read, and are named by what may be said"
    if "page.html" in line:
        shown += (work / "page.html").read_text(encoding="utf-8")
    assert "(user a)_rank7.sqlite" in err and "(user a)_rank8.nsys-rep" in err
    assert leaks(shown) == [] and "acme" not in shown
    assert not (work / "aisp-ranks").exists(), "partials of copies are not kept"


def test_the_search_finds_what_was_planted(work: Path, call: Call) -> None:
    """The control. What the job shows of the environment, no face of it does."""
    found = "".join(call("job", "--workers", "1", *line).out for line in LINES[:3])
    assert {*leaks(found)} >= {*PLANTED} - {"C:\\Users"}


def test_whoever_is_named_is_the_same_on_every_rank(work: Path, call: Call) -> None:
    """Else a stage of one rank would be another one on the next, and stages could not be held against each other."""
    shutil.rmtree(work / "job" / f"again-{HOST}-rank1")
    found = json.loads(call("job", "--scrub", "--workers", "1", "--json").out)
    stages = {cell["stage"] for cell in found["ledger"]}
    plain = json.loads(call("job", "--workers", "1", "--json").out)
    assert len(stages) == len({cell["stage"] for cell in plain["ledger"]}) > len(NAMES)
    for step, same in zip(plain["iterations"], found["iterations"], strict=True):
        assert step["late_ns"] == same["late_ns"] > 0 and len(step["causes"]) == len(same["causes"]) > 0
    numbers = [
        [{k: v for k, v in rank.items() if k not in ("trace", "uuid")} for rank in job["ranks"]]
        for job in (plain, found)
    ]
    assert numbers[0] == numbers[1]


def figures(job: dict[str, Any]) -> dict[str, Any]:
    """All numbers of a job, without its names."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: bare(v) for k, v in value.items() if k not in ("host", "uuid", "trace", "stage")}
        return [bare(one) for one in value] if isinstance(value, list) else value

    told = bare({k: v for k, v in job.items() if k != "ledger"})
    return {**told, "cells": sorted(str(bare(cell)) for cell in job["ledger"])}


def test_a_real_job_keeps_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    monkeypatch.chdir(tmp_path)
    plain, clean = (json.loads(call(str(FSDP), "--workers", "1", "--json", *more).out) for more in ([], ["--scrub"]))
    for job in (plain, clean):
        for rank in job["ranks"]:
            rank.pop("uuid")
    assert clean == plain


def test_a_torch_job_is_named_by_no_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """tensorboard_trace_handler calls files after hosts, however short their names; rank and size come from torch's own words."""
    monkeypatch.chdir(tmp_path)
    write_job(Path("made"), 3, 700, torch=True)
    Path("job").mkdir()
    for number, file in enumerate(sorted(Path("made").iterdir())):
        text = gzip.decompress(file.read_bytes()).decode().replace('"data"', f'"data of {USER}"')
        document = json.loads(text) | {"host_name": f"{HOST}.lab", "USER": USER, "where": f"/home/{USER}/x"}
        Path("job", f"zq{number}_{1000 + number}.{number}.pt.trace.json").write_text(json.dumps(document))
    plain, clean = (json.loads(call("job", "--workers", "1", "--json", *more).out) for more in ([], ["--scrub"]))
    assert leaks(json.dumps(plain)) == [USER] and [rank["host"] for rank in plain["ranks"]] == ["zq0", "zq1", "zq2"]
    assert leaks(json.dumps(clean)) == [] and "zq" not in json.dumps(clean)
    assert [rank["host"] for rank in clean["ranks"]] == ["(host a)", "(host b)", "(host c)"]
    assert figures(clean) == figures(plain) and clean["world_size"] == 3
    assert {rank["source"] for rank in clean["ranks"]} == {"torch"}


def test_what_a_run_says_of_its_rank_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """The manifest knows how many ranks there were, which the copy's name does not."""
    monkeypatch.chdir(tmp_path)
    for rank in range(2):
        run = run_folder(tmp_path / "job" / f"part{rank}")
        document = json.loads((run / "manifest.json").read_text())
        (run / "manifest.json").write_text(json.dumps(document | {"rank": rank, "ranks": 4}))
        export(run / "baseline" / "trace.sqlite", late_us=40 * rank, says=True)
    shown = call("job", "--scrub", "--workers", "1", "--json").out
    found = json.loads(shown)
    assert found["world_size"] == 4 and found["missing"] == [2, 3] and leaks(shown) == []
    assert {rank["source"] for rank in found["ranks"]} == {"run"}


def test_the_footer_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    monkeypatch.chdir(tmp_path)
    for words, says in (([], "Not scrubbed: "), (["--scrub"], "Scrubbed: ")):
        assert call(str(FSDP), "--workers", "1", "-o", "page.html", *words).code == 0
        footer = Path("page.html").read_text(encoding="utf-8").partition("<footer>")[2].partition("</footer>")[0]
        assert f"<p>{says}" in footer and ("ranks --scrub makes a page to send on" in footer) is not bool(words)


def test_partials_are_taken_for_their_traces_alone(work: Path, call: Call) -> None:
    """Those beside the traces that are copied are passed over; another one's names cannot be cleaned."""
    assert call("job", "--workers", "1", "--partial", "job/aisp-ranks").code == 2
    code, shown, err = call("job", "--scrub", "--workers", "1", "--json")
    assert code == 2 and leaks(shown + err) == []
    for words in (["job/aisp-ranks"], [f"job/{USER}_rank0", "job/aisp-ranks"]):
        code, _, said = call(*words, "--scrub")
        assert code == 2 and "is a partial, whose names are as they were recorded" in said and said.count("\n") == 1


@pytest.mark.parametrize("words", [["--partial", "x"], ["--scheduler", "tcp://127.0.0.1:1"]])
def test_what_does_not_go_with_it(words: list[str], work: Path, call: Call) -> None:
    code, _, said = call("job", "--scrub", *words)
    assert code == 2 and "leave --scheduler and --partial out" in said and said.count("\n") == 1


def test_what_would_be_replaced_is_listed(work: Path, call: Call) -> None:
    code, shown, _ = call("job", "--show-personal", "-o", "page.html")
    assert code == 0 and "user" in shown and USER in shown and PASSWORD not in shown
    assert not (work / "page.html").exists() and not (work / "aisp-ranks").exists()


def test_nothing_stays_behind(work: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(work / "tmp"))
    assert call("job", "--scrub", "--workers", "1").code == 2
    assert list((work / "tmp").iterdir()) == []
