"""`aisp-trace bundle`: what is in a proof and what is not, and what verifying catches. The run is the recorded H200 one."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.cli.main import main
from aisp_trace.report import proof as cli_bundle
from aisp_trace.tests.builders.samples import ROOT, SAMPLES
from aisp_trace.tests.builders.samples import unpack as unpack_sample
from aisp_trace.traces.bundle import Bundle, pack, unpack
from aisp_trace.traces.run import PARTIAL
from aisp_trace.traces.scrub.run import scrub_run

RUN = SAMPLES / "h200_pipeline_sequential"
EXPECTATIONS = ROOT / "expectations"
SECRET = "hunter2-AKIAIOSFODNN7EXAMPLE"

Shown = tuple[int, str]
Call = Callable[..., Shown]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*args: str | Path) -> Shown:
        code = main(["bundle", *map(str, args)])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the recorded run."""
    target = tmp_path_factory.mktemp("made") / "run.bundle.tar.gz"
    assert main(["bundle", str(RUN), "--expectations", str(EXPECTATIONS), "-o", str(target)]) == 0
    return target


def unpacked(file: Path, folder: Path) -> Bundle:
    folder.mkdir()
    return unpack(file, folder)


def changed(made: Path, tmp_path: Path, change: Callable[[Path], None]) -> Path:
    """The bundle after `change` of its folder, with an index made anew: every checksum is right."""
    folder = tmp_path / "forged"
    index = unpacked(made, folder).index
    change(folder)
    target = tmp_path / "forged.tar.gz"
    pack(folder, target, index.run_id, index.made_with)
    return target


def edit(file: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


# --- an honest bundle -------------------------------------------------------------------------------------------------


def test_a_bundle_is_verified_with_the_verdicts_exit_code(made: Path, call: Call) -> None:
    code, out = call("verify", made)
    assert code == 0
    assert "every checksum right" in out
    assert "derived anew from its traces, timings and expectations: the same as stored" in out
    assert out.rstrip().endswith("17 met.")
    code, out = call("verify", made, "--json")
    found = json.loads(out)
    assert (code, found["exit_code"], found["done"]) == (0, 0, "verified")
    assert found["schema"] == "aisp-trace/bundled/1"
    assert len(found["identity"]) == 64
    assert {"path", "bytes", "sha256"} == set(found["members"][0])


def test_it_holds_the_whole_proof_and_nothing_else(made: Path, tmp_path: Path) -> None:
    index = unpacked(made, tmp_path / "x").index
    assert [m.path for m in index.members] == [
        "README.txt",
        "calibrations/calibration_h200.json",
        *(f"expectations/{f.name}" for f in sorted(EXPECTATIONS.glob("expectations_*.json"))),
        "report.html",
        "run/baseline/trace.sqlite",
        "run/cuda_graph/trace.sqlite",
        "run/manifest.json",
        "run/optimized/trace.sqlite",
        "verdict.json",
    ]
    assert {"aisp-trace", "code", "python", "polars", "plotly"} <= set(index.made_with)
    for file in EXPECTATIONS.glob("expectations_*.json"):
        assert (tmp_path / "x" / "expectations" / file.name).read_bytes() == file.read_bytes()
    verdict = json.loads((tmp_path / "x" / "verdict.json").read_text())
    assert verdict["schema"] == "aisp-trace/check/1"
    assert verdict["counts"]["met"] == 17
    assert "<p>Scrubbed: " in (tmp_path / "x" / "report.html").read_text(encoding="utf-8")


def test_it_is_the_same_bytes_again(made: Path, tmp_path: Path, call: Call) -> None:
    again = tmp_path / "again.tar.gz"
    assert call(RUN, "--expectations", EXPECTATIONS, "-o", again)[0] == 0
    assert again.read_bytes() == made.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["again.tar.gz"]  # and no temporary folder stays


def test_a_missed_verdict_that_is_honest_leaves_1(tmp_path: Path, call: Call) -> None:
    strict = tmp_path / "strict"
    strict.mkdir()
    file = shutil.copy(EXPECTATIONS / "expectations_h200.json", strict)
    edit(Path(file), lambda d: next(c for c in d["claims"] if c["type"] == "time")["ratio"].update(min=16, max=20))
    target = tmp_path / "x.tar.gz"
    assert call(RUN, "--expectations", strict, "-o", target)[0] == 0  # making one is not a judgement
    code, out = call("verify", target)
    assert code == 1
    assert "1 missed" in out


# --- whose bounds -----------------------------------------------------------------------------------------------------


def test_loosened_and_deleted_claims_are_named_and_yours_decide(tmp_path: Path, call: Call) -> None:
    """A bundle of easy bounds is not missed by its own, and missed by those that were committed."""
    repository = tmp_path / "repository"
    yours = repository / "expectations"
    yours.mkdir(parents=True)
    file = Path(shutil.copy(EXPECTATIONS / "expectations_h200.json", yours))
    edit(file, lambda d: next(c for c in d["claims"] if c["type"] == "time")["ratio"].update(min=16, max=20))
    for git in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "bounds"],
    ):
        subprocess.run(["git", *git], cwd=repository, check=True)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    easy = Path(shutil.copy(file, theirs))
    gone = next(c["id"] for c in json.loads(easy.read_text())["claims"] if c["type"] == "mechanism")

    def loosen(document: Any) -> None:
        next(c for c in document["claims"] if c["type"] == "time")["ratio"].update(min=8)
        document["claims"] = [c for c in document["claims"] if c["id"] != gone]

    edit(easy, loosen)
    bundle = tmp_path / "x.tar.gz"
    assert call(RUN, "--expectations", theirs, "-o", bundle)[0] == 0
    code, out = call("verify", bundle)
    assert code == 3 and "1 missed" not in out, "a bound that is not what its source says decides nothing"
    assert "the bundle's own" in out and "--commit REV compares them with yours" in " ".join(out.split())
    code, out = call("verify", bundle, "--expectations", yours)
    words = " ".join(out.split())
    assert code == 1
    assert "speedup: loosened in the bundle" in words and f"{gone}, " in words and "left out in the bundle" in words
    assert "By the bounds in the bundle:" in words and "1 missed" in words.rpartition("By those of")[2]
    otherwise = words.partition(f"What {yours} judges otherwise: ")[2]
    assert (
        "missed: pipeline_sequential.faster, speedup of optimized over baseline: the interval 9.107 .. 15.19 lies outside"
        in otherwise
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        code, out = call("verify", bundle, "--commit", "HEAD", "--json")
        found = json.loads(out)
        assert (code, found["compared"]["whose"], found["compared"]["asks_less"]) == (1, "commit HEAD", True)
        assert {"looser", "removed"} <= {d["direction"] for d in found["compared"]["differences"]}
        code, out = call("verify", bundle, "--commit", "--output=x")
        assert (code, "git answers: no such commit" in " ".join(out.split())) == (2, True)


# --- forgeries whose checksums are right ------------------------------------------------------------------------------


def test_another_verdict(made: Path, tmp_path: Path, call: Call) -> None:
    def lie(document: Any) -> None:
        document["verdicts"][5]["value"] = 19.9

    code, out = call("verify", changed(made, tmp_path, lambda f: edit(f / "verdict.json", lie)))
    assert code == 2
    assert "verdicts[5] (speedup of optimized over baseline).value is stored as 19.9, but follows as 10.02" in out


def test_the_stored_verdict_is_never_the_source(made: Path, tmp_path: Path, call: Call) -> None:
    code, out = call("verify", changed(made, tmp_path, lambda f: (f / "verdict.json").unlink()))
    assert (code, "it has no verdict.json" in out) == (2, True)


@pytest.mark.nightly
def test_other_timings(made: Path, tmp_path: Path, call: Call) -> None:
    """One iteration of one round is not enough to move a median; a whole round is."""

    def faster(document: Any) -> None:
        for made_round in document["rounds"][:7]:
            for variant in made_round["result"]["variants"]:
                if variant["name"] == "optimized":
                    variant["iterations_ns"] = [t // 2 for t in variant["iterations_ns"]]

    code, out = call("verify", changed(made, tmp_path, lambda f: edit(f / "run" / "manifest.json", faster)))
    assert code == 2
    assert "is not what its evidence gives" in out


def test_other_expectations(made: Path, tmp_path: Path, call: Call) -> None:
    def lower(document: Any) -> None:
        next(c for c in document["claims"] if c["type"] == "time")["ratio"].update(min=1.5)

    forged = changed(made, tmp_path, lambda f: edit(f / "expectations" / "expectations_h200.json", lower))
    code, out = call("verify", forged)
    assert code == 2
    assert (
        "its verdict.json is not what its evidence gives: counts.inconclusive is stored as 0, but follows as 3" in out
    )


def test_another_trace(made: Path, tmp_path: Path, call: Call) -> None:
    def swap(folder: Path) -> None:
        shutil.copy(folder / "run" / "optimized" / "trace.sqlite", folder / "run" / "baseline" / "trace.sqlite")

    code, out = call("verify", changed(made, tmp_path, swap))
    assert code == 2
    assert "verdict.json is not what its evidence gives" in out


def test_another_report(made: Path, tmp_path: Path, call: Call) -> None:
    def praise(folder: Path) -> None:
        page = folder / "report.html"
        page.write_text(page.read_text(encoding="utf-8").replace("8.42", "84.2"), encoding="utf-8")

    code, out = call("verify", changed(made, tmp_path, praise))
    assert code == 2
    assert "report.html does not follow from its evidence" in out


def test_a_report_of_other_versions_is_not_compared_and_that_is_said(made: Path, tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "older"
    index = unpacked(made, folder).index
    (folder / "report.html").write_text("older", encoding="utf-8")
    pack(folder, tmp_path / "older.tar.gz", index.run_id, {**index.made_with, "plotly": "5.0"})
    code, out = call("verify", tmp_path / "older.tar.gz")
    assert code == 0
    assert "note: report.html was not compared, since other versions made it (plotly 5.0, here" in " ".join(out.split())


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        ("../../../../etc/passwd", "not a file inside of the run's folder"),
        ("/etc/passwd", "not a file inside of the run's folder"),
        ("optimized/trace.nsys-rep", "which is not in the bundle"),
    ],
)
def test_a_manifest_that_leads_elsewhere(made: Path, tmp_path: Path, call: Call, trace: str, words: str) -> None:
    def lead(document: Any) -> None:
        document["variants"][1]["recording"]["trace"] = trace

    code, out = call("verify", changed(made, tmp_path, lambda f: edit(f / "run" / "manifest.json", lead)))
    assert code == 2
    assert words in out


def test_a_flipped_byte(made: Path, tmp_path: Path, call: Call) -> None:
    content = bytearray(gzip.decompress(made.read_bytes()))
    content[content.index(b"iterations_ns") + 30] ^= 1
    file = tmp_path / "flipped.tar.gz"
    file.write_bytes(gzip.compress(bytes(content)))
    code, out = call("verify", file)
    assert code == 2
    assert "the checksum of run/manifest.json is wrong" in out


def test_nothing_stays_behind(made: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "tmp"
    room.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(room))
    assert call("verify", made)[0] == 0
    assert call("verify", tmp_path)[0] == 2
    assert list(room.iterdir()) == []


# --- what must not be in it -------------------------------------------------------------------------------------------


def plant(document: Any) -> None:
    """`SECRET` wherever a manifest has room for text that is not a name of something."""
    home = f"/home/someone/{SECRET}"
    document["command_line"] = ["/usr/bin/aisp-trace", "capture", f"--output={home}/runs", f"TOKEN={SECRET}"]
    document["notes"] = [
        f"see {home}/log.txt",
        f"mailed to {SECRET}@example.com",
        "ran on blackbox7 for mallory, not on blackbox70",
    ]
    document["git"]["remote"] = f"{SECRET}@git.example.com"
    for made_round in document["rounds"]:
        made_round["command"] = [f"{home}/bin/python", "-m", "work", f"--result={home}/round.json"]
        made_round["result"]["facts"]["folder"] = f"{home}/torch"
    for variant in document["variants"]:
        words = ["nsys", "profile", f"--env-var=API_KEY={SECRET}", "-e", f"HF_TOKEN={SECRET}", f"-o={home}/trace"]
        variant["recording"]["command"] = words


@pytest.fixture
def dirty(tmp_path: Path) -> Iterator[Path]:
    """The recorded run with secrets in its manifest, traces, logs and an .nsys-rep."""
    folder = tmp_path / SECRET / "run"
    shutil.copytree(RUN, folder)
    edit(folder / "manifest.json", plant)
    for variant in ("baseline", "optimized", "cuda_graph"):
        (folder / variant / "nsys.log").write_text(SECRET)
        (folder / variant / "trace.nsys-rep").write_text(SECRET)
        file = unpack_sample(f"h200_pipeline_sequential/{variant}/trace", folder_of(tmp_path, variant))
        with closing(sqlite3.connect(file)) as db:
            db.execute("CREATE TABLE IF NOT EXISTS TARGET_INFO_SYSTEM_ENV (name TEXT, value TEXT)")
            db.execute("INSERT INTO TARGET_INFO_SYSTEM_ENV VALUES ('TOKEN', ?)", (SECRET,))
            db.execute("INSERT INTO StringIds VALUES (987654321, ?)", (f"/home/someone/{SECRET}",))
            db.commit()
        (folder / variant / "trace.sqlite.xz").unlink()
        shutil.copy(file, folder / variant / "trace.sqlite.xz")
    yield folder


def folder_of(tmp_path: Path, variant: str) -> Path:
    folder = tmp_path / "unpacked" / variant
    (folder / "h200_pipeline_sequential" / variant).mkdir(parents=True)
    return folder


def test_no_environment_paths_users_hosts_or_logs(
    dirty: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "blackbox7.lab")
    monkeypatch.setattr("getpass.getuser", lambda: "mallory")
    target = tmp_path / "x.tar.gz"
    code, out = call(dirty, "--expectations", EXPECTATIONS, "-o", target)
    assert code == 0, out
    folder = tmp_path / "x"
    index = unpacked(target, folder).index
    assert not any(m.path.endswith((".log", ".nsys-rep")) for m in index.members)
    for file in (p for p in folder.rglob("*") if p.is_file()):
        content = file.read_bytes()
        for word in (SECRET, "/home/someone", "example.com"):
            assert word.encode() not in content, f"{word} in {file.name}"
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    assert manifest["command_line"] == ["aisp-trace", "capture", "--output=runs", "TOKEN=(removed)"]
    assert manifest["rounds"][0]["command"] == ["python", "-m", "work", "--result=round.json"]
    assert manifest["variants"][0]["recording"]["command"][2] == "--env-var=API_KEY=(removed)"
    assert manifest["notes"] == [
        "see log.txt",
        "mailed to (address b)",
        "ran on (host a) for (user a), not on blackbox70",
    ]


def test_arguments_of_a_program_of_the_users_own_are_not_kept(dirty: Path, tmp_path: Path, call: Call) -> None:
    def foreign(document: Any) -> None:
        document["source"] = "command"
        document["workload"] = "command"
        for variant in document["variants"]:
            variant["recording"]["command"] = ["/opt/x/python", "train.py", "--api-key", SECRET]

    edit(dirty / "manifest.json", foreign)
    target = tmp_path / "x.tar.gz"
    code, out = call(dirty, "--expectations", EXPECTATIONS, "-o", target)
    assert code == 0, out
    assert "no claim is about command, so nothing was judged" in out
    unpacked(target, tmp_path / "x")
    text = (tmp_path / "x" / "run" / "manifest.json").read_text()
    assert SECRET not in text
    assert json.loads(text)["variants"][0]["recording"]["command"] == ["python", "(3 words removed)"]
    code, out = call("verify", target)  # a proof of which nothing was expected
    assert (code, "so nothing was judged" in out) == (3, True)


def test_a_range_named_after_a_folder_is_not_given_away(
    dirty: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leak(run: Any, folder: Path, told: Any = None) -> Any:
        found = scrub_run(run, folder, told)
        (folder / "baseline" / "more.txt").write_text(f"{'x' * 5000}{dirty.parent}/stage")
        return found

    monkeypatch.setattr(cli_bundle, "scrub_run", leak)
    target = tmp_path / "x.tar.gz"
    code, out = call(dirty, "--expectations", EXPECTATIONS, "-o", target)
    assert code == 2
    assert "would name a folder of this machine" in out
    assert not target.exists()


# --- refusals and usage -----------------------------------------------------------------------------------------------


def test_an_unfinished_run(tmp_path: Path, call: Call) -> None:
    folder = tmp_path / f"{PARTIAL}pipeline_sequential-1"
    shutil.copytree(RUN, folder)
    code, out = call(folder, "-o", tmp_path / "x.tar.gz")
    assert code == 2
    assert "is an unfinished run and is not believed" in out
    assert not (tmp_path / "x.tar.gz").exists()


def test_a_bare_nsys_report_is_not_given_away(dirty: Path, tmp_path: Path, call: Call) -> None:
    (dirty / "baseline" / "trace.sqlite.xz").write_bytes(b"NVIDIA Tegra Profiler Report " + SECRET.encode())
    code, _ = call(dirty, "--expectations", EXPECTATIONS, "-o", tmp_path / "x.tar.gz")
    assert code == 2
    assert not (tmp_path / "x.tar.gz").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("verify",), "takes one bundle"),
        (("verify", "a", "b"), "takes one bundle"),
        (("verify", "a", "-o", "b"), "takes one bundle"),
        (("a", "b"), "2 words were given"),
        (("verify", "missing.tar.gz"), "there is no such file"),
        (("verify", "."), "it is a folder"),
        (("missing",), "does not exist"),
    ],
)
def test_usage(call: Call, words: tuple[str, ...], said: str) -> None:
    code, out = call(*words)
    assert code == 2
    assert said in out


def test_a_place_that_cannot_be_written(tmp_path: Path, call: Call) -> None:
    code, out = call(RUN, "--expectations", EXPECTATIONS, "-o", tmp_path / "none" / "x.tar.gz")
    assert code == 2
    assert "none is not a folder; make it first" in out
    assert "is a folder where a file is to be written" in call(RUN, "--expectations", EXPECTATIONS, "-o", tmp_path)[1]
