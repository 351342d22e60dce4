"""What leaves the machine: secrets are planted wherever a recording or a run has text, and every output is searched for them.

README.md and docs/personal.md promise what this file tests, and no more.
"""

from __future__ import annotations

import gzip
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport, gid
from aisp_trace.tests.judging.build import run_folder
from aisp_trace.traces.bundle import unpack
from aisp_trace.traces.run import MANIFEST

USER, HOST, CUSTOMER = "mallory", "blackbox7", "acme-customer"
PASSWORD, AWS, GITHUB, OPENAI = "hunter2hunter2", "AKIAIOSFODNN7EXAMPLE", "ghp_" + "0a" * 18, "sk-proj-" + "Zz9" * 8
MAIL, ADDRESS, URL = "mallory.m@example.com", "10.20.30.40", "wiki.example.internal"
PLANTED = (USER, HOST, CUSTOMER, PASSWORD, AWS, GITHUB, OPENAI, MAIL, ADDRESS, URL, "/home/", "C:\\Users")

NAMES = (
    f"load /mnt/nfs/{CUSTOMER}/train.bin",
    f"{{'traceMarker': ['/home/{USER}/site-packages/torch/conv.py:443', 'net/conv2d']}}",
    f"XlaModule:#source_file=C:\\Users\\{USER}\\model.py#",
    f"--token={PASSWORD}",
    f"login password={PASSWORD}",
    f"db {{'api_key': '{PASSWORD}'}}",
    f"upload {AWS} {GITHUB} {OPENAI}",
    f"mail {MAIL}",
    f"connect {ADDRESS}:29500",
    f"get https://{URL}/x?token={PASSWORD}",
    f"{USER}-worker on {HOST}",
)
"""Names of ranges, threads, processes, kernels and calls; arguments and notes of a manifest."""


def recording(file: Path) -> Path:
    """An export with secrets in environment, arguments, and every kind of name."""
    export = NsysExport().domain(1, f"domain of {USER}")
    us = 1000
    for i, name in enumerate(NAMES):
        at = (10 + 20 * i) * us
        if i % 2:
            export.range(at, at + 15 * us, name)
        else:
            export.range(at, at + 15 * us, "x", text=name)
        export.call(at + us, at + 2 * us, f"call {name}", correlationId=10 + i)
        export.kernel(at + 3 * us, at + 9 * us + 97 * i, f"kernel {name}", correlationId=10 + i)
        tid = gid(100, 200 + i)
        export.add("ThreadNames", nameId=export.string(f"thread {name}"), priority=0, globalTid=tid)
        export.add("OSRT_API", start=at, end=at + us, globalTid=tid, nameId=export.string(f"os {name}"))
    export.add("PROCESSES", globalPid=gid(100), pid=100, name=f"/home/{USER}/bin/{USER}-python")
    export.add("TARGET_INFO_GPU_METRICS", typeId=1, metricId=1, metricName=f"metric {NAMES[0]}")
    export.add("GPU_METRICS", timestamp=20 * us, typeId=1, metricId=1, value=3)
    export.add("TARGET_INFO_SYSTEM_ENV", name="Hostname", value=HOST)
    export.add("DIAGNOSTIC_EVENT", timestamp=0, severity=3, text=f"cannot open /home/{USER}/x")
    for i, text in enumerate((f"USER={USER}", f"WANDB_API_KEY={PASSWORD}", f"HOME=/home/{USER}", *NAMES)):
        export.add("META_DATA_CAPTURE", name=f"PROCESS_0:ENVIRONMENT_{i}", value=text)
        export.add("META_DATA_CAPTURE", name=f"PROCESS_0:ARGUMENT_{i}", value=text)
        export.string(text)
    file.parent.mkdir(parents=True, exist_ok=True)
    return export.write(file)


def plant(document: dict[str, Any]) -> None:
    document["command_line"] = ["aisp-trace", "capture", f"--output=/home/{USER}/runs", "--token", PASSWORD, *NAMES]
    document["notes"] = list(NAMES)
    document["git"] |= {"remote": f"git@{URL}:x", "changed": [f"{USER}/train.py"]}
    for made in document["rounds"]:
        made["command"] = [*made["command"], "--api-key", PASSWORD, f"HF_TOKEN={PASSWORD}"]
        made["result"]["facts"] |= {"folder": f"/home/{USER}/torch", "node": HOST, "where": NAMES[3]}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder below the user's home with a trace and a run of two recordings."""
    monkeypatch.setattr("socket.gethostname", lambda: HOST)
    monkeypatch.setattr("getpass.getuser", lambda: USER)
    folder = tmp_path / "home" / USER / CUSTOMER
    folder.mkdir(parents=True)
    recording(folder / f"{USER}.sqlite")
    run = run_folder(folder / "run")
    for variant in ("baseline", "optimized"):
        recording(run / variant / "trace.sqlite")
        (run / variant / "nsys.log").write_text("\n".join(NAMES))
        (run / variant / "trace.nsys-rep").write_text("\n".join(NAMES))
    document = json.loads((run / MANIFEST).read_text())
    plant(document)
    (run / MANIFEST).write_text(json.dumps(document))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*args: str) -> tuple[int, str]:
        code = main(list(args))
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


def leaks(place: Path) -> list[str]:
    """What of `PLANTED` is in any file of `place`, in UTF-8, UTF-16 or as JSON writes it, whatever the case."""
    found = []
    for file in sorted(p for p in [place, *place.rglob("*")] if p.is_file()):
        content = file.read_bytes()
        content = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).lower()
        for word in PLANTED:
            forms = (word.encode(), word.encode("utf-16-le"), json.dumps(word)[1:-1].encode())
            found += [f"{word} in {file.name}" for form in forms if form.lower() in content]
    return found


def test_the_search_finds_what_was_planted(work: Path, call: Callable[..., tuple[int, str]]) -> None:
    """The control: without --scrub everything is found that the other tests do not find."""
    assert {line.split(" in ")[0] for line in leaks(work / f"{USER}.sqlite")} >= {*PLANTED} - {"C:\\Users"}
    assert call("export", f"{USER}.sqlite", "--to", "perfetto", "-o", "p.pftrace")[0] == 0
    assert len(leaks(work / "p.pftrace")) >= 9


@pytest.mark.parametrize("source", ["run", f"{USER}.sqlite"])
@pytest.mark.parametrize(
    "line",
    [
        "export {} --scrub -o out/s.sqlite",
        "export {} --scrub --to perfetto -o out/p.pftrace",
        "export {} --scrub --to json -o out/a.json",
        "export {} --scrub --to csv -o out/csv",
        "export {} --scrub --to parquet -o out/parquet",
        "report {} --scrub -o out/r.html",
    ],
)
def test_a_scrubbed_output(line: str, source: str, work: Path, call: Callable[..., tuple[int, str]]) -> None:
    (work / "out").mkdir()
    code, out = call(*line.format(source).split())
    assert code == 0, out
    assert any(path.is_file() for path in (work / "out").rglob("*"))
    assert leaks(work / "out") == []


def test_a_bundle(work: Path, call: Callable[..., tuple[int, str]]) -> None:
    code, out = call("bundle", "run", "-o", "b.tar.gz")
    assert code == 0, out
    (work / "out").mkdir()
    unpack(work / "b.tar.gz", work / "out")
    assert not [p for p in (work / "out").rglob("*") if p.suffix in (".log", ".nsys-rep")]
    assert leaks(work / "out") == []
    code, out = call("bundle", "verify", "b.tar.gz")
    assert "does not follow from its evidence" not in out and code in (0, 3), out


def test_what_is_shared_still_says_what_was_slow(work: Path, call: Callable[..., tuple[int, str]]) -> None:
    assert call("export", f"{USER}.sqlite", "--scrub", "-o", "s.sqlite")[0] == 0
    with closing(sqlite3.connect("s.sqlite")) as db:
        texts = {t for (t,) in db.execute("SELECT value FROM StringIds UNION SELECT text FROM NVTX_EVENTS")}
    assert {"load train.bin", "{'traceMarker': ['conv.py:443', 'net/conv2d']}", "--token=(secret a)"} <= texts


@pytest.mark.parametrize(
    "line", ["export {} --show-personal", "report {} --show-personal", "bundle {} --show-personal"]
)
def test_a_preview_lists_it_writes_nothing_and_hides_secrets(
    line: str, work: Path, call: Callable[..., tuple[int, str]]
) -> None:
    before = sorted(work.rglob("*"))
    code, out = call(*line.format("run").split())
    assert code == 0, out
    assert sorted(work.rglob("*")) == before
    for word in (f"/mnt/nfs/{CUSTOMER}/train.bin  ->  train.bin", MAIL, ADDRESS, USER, HOST):
        assert word in out, out
    for secret in (PASSWORD, AWS, GITHUB, OPENAI):
        assert secret not in out


def test_the_page_of_two_recordings(work: Path, call: Callable[..., tuple[int, str]]) -> None:
    """Each with the secrets of the other; two variants of one run stay variants of one run, so their rounds count."""
    recording(work / f"{HOST}.sqlite")
    for base, opt in ((f"{USER}.sqlite", f"{HOST}.sqlite"), ("run:baseline", "run:optimized")):
        for scrub in (["--scrub"], []):
            code, said = call("report", base, opt, "-o", f"{len(scrub)}.html", *scrub)
            assert code == 0, said
        clean, plain = ((work / f"{n}.html").read_text(encoding="utf-8") for n in (1, 0))
        assert leaks(work / "1.html") == [] and len(leaks(work / "0.html")) > 5
        assert "<p>Scrubbed: " in clean and "<p>Not scrubbed: " in plain
        ledgers = [page.partition('<section id="ledger"')[2].partition("</section>")[0] for page in (clean, plain)]
        figures = [sorted(re.findall(r' data-v="([^"]*)"', ledger)) for ledger in ledgers]
        assert figures[0] == figures[1] and len(figures[0]) > 20
