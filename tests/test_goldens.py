"""Whole answers on the samples are those that are kept, to the last digit; a difference names table, column and row."""

from __future__ import annotations

import contextlib
import copy
import json
import lzma
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.tests.goldens import store
from aisp_trace.tests.goldens.answers import answer, portable
from aisp_trace.tests.goldens.calls import Words, sample_calls
from aisp_trace.tests.goldens.differences import differences
from aisp_trace.tests.optional import force, needs_numba

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "goldens.py"
MOST_BYTES = 600_000
DDP, DECODE = "h200x2_ddp.sqlite.xz", "h100_pipeline_decode.sqlite.xz"

WHOLE = ("--window", "all", "--no-fold")

CALLS = [(sample, words) for sample in store.samples() for words in sample_calls(sample)]

_kept: dict[Path, store.Answers] = {}


def kept(sample: Path) -> store.Answers:
    """The answers kept on `sample`, read once."""
    if sample not in _kept:
        _kept[sample] = store.answers_in(store.read(store.kept_file(sample)))
    return _kept[sample]


def check(sample: Path, words: Words) -> None:
    found = differences(kept(sample)[words], answer(words, sample.parent))
    assert not found, "\n".join(["", *found, "if this is meant: python -P scripts/goldens.py --write"])


@pytest.mark.parametrize(("sample", "words"), CALLS, ids=[" ".join(words) for _, words in CALLS])
def test_the_answer_is_the_one_that_is_kept(sample: Path, words: Words) -> None:
    check(sample, words)


@pytest.mark.parametrize(
    "compiled", [pytest.param(True, marks=needs_numba, id="compiled"), pytest.param(False, id="plain")]
)
@pytest.mark.parametrize("name", [DDP, DECODE])
def test_compiled_or_not_every_bit_is_the_same(name: str, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, compiled=compiled)
    check(store.SAMPLES / name, ("analyze", name, *WHOLE))


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-P", str(SCRIPT), *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def test_the_command_says_identical_on_one_thread_without_numba() -> None:
    done = run(
        "--check", "h200x2_handoff", AISP_TRACE_NO_NUMBA="1", POLARS_MAX_THREADS="1", GITHUB_STEP_SUMMARY="/dev/full"
    )
    assert (done.returncode, done.stdout) == (0, "h200x2_handoff.sqlite.xz: identical (4 calls)\n"), done.stderr


def test_every_sample_and_every_call_has_an_answer_and_no_other_is_kept() -> None:
    assert {store.kept_file(sample) for sample in store.samples()} == set(store.KEPT.iterdir())
    for sample in store.samples():
        assert set(kept(sample)) == set(sample_calls(sample)), sample.name
        assert {a["exit_code"] for a in kept(sample).values()} <= {0, 1, 3}, sample.name
        assert all(a.get("document") or a.get("files") for a in kept(sample).values())


def test_what_is_kept_is_small_and_names_no_machine() -> None:
    files = [*store.KEPT.iterdir(), store.ELSEWHERE]
    assert sum(file.stat().st_size for file in files) < MOST_BYTES
    for file in files:
        text = lzma.decompress(file.read_bytes()).decode()
        assert not re.findall(
            r'"[^"]*(?:/home/|/root|/tmp|/work[/]|/Users/)[^"]*"', text.replace("<repository>", "")
        ), file.name
        assert str(ROOT) not in text


TABLE: dict[str, Any] = {
    "traces": [
        {"ledger": [{"stage": "a", "cause": "sync", "ns": 4}, {"stage": "b", "cause": None, "ns": 9}], "ratio": 0.1},
    ]
}


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("traces", 0, "ledger", 1, "ns"), 8, ["traces[0].ledger, column ns: 1 of 2 rows differ; first row 1 (stage=b): 9 -> 8"]),
        (("traces", 0, "ledger", 0, "cause"), None,
         ['traces[0].ledger, column cause: 1 of 2 rows differ; first row 0 (stage=a, cause=sync): sync -> null']),
        (("traces", 0, "ledger", 1, "ns"), 9.0,
         ["traces[0].ledger, column ns: 1 of 2 rows differ; first row 1 (stage=b): 9 -> 9.0"]),
        (("traces", 0, "ratio"), 0.1 + 2e-17,
         ["traces, column ratio: 1 of 1 rows differ; first row 0: 0.1 -> 0.10000000000000002"]),
        (("traces", 0, "ledger"), [TABLE["traces"][0]["ledger"][1]],
         ["traces[0].ledger.number of rows: 2 -> 1",
          'traces[0].ledger, first row that differs: row 0: {"stage": "a", "cause": "sync", "ns": 4} -> '
          '{"stage": "b", "cause": null, "ns": 9}']),
        (("traces", 0, "more"), 1, ["traces, column more: 1 of 1 rows differ; first row 0: (absent) -> 1"]),
    ],
)  # fmt: skip
def test_a_planted_difference_is_named(where: tuple[Any, ...], value: Any, said: list[str]) -> None:
    changed = copy.deepcopy(TABLE)
    inner: Any = changed
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = value
    assert differences(TABLE, changed) == said
    assert differences(TABLE, copy.deepcopy(TABLE)) == []


def test_wording_is_free_and_its_figures_are_not() -> None:
    one, two = (
        {"reason": f"{n} of 40 launches {words}", "n": [1.5]} for n, words in ((20, "lack rows"), (20, "have no row"))
    )
    other = {"reason": "21 of 40 launches lack rows", "n": [1.5]}
    assert portable(one) == portable(two)
    assert differences(portable(one), portable(other)) == ["reason: figures: 20 40 -> figures: 21 40"]
    assert portable({"reason": "", "why": None}) == {"reason": "", "why": None}
    assert portable({"why": {"of": "h2d", "text": "2 ms"}}) == {"why": {"of": "h2d", "text": "figures: 2"}}


def test_one_nanosecond_is_found(tmp_path: Path) -> None:
    """The same recording with one kernel that ends later by as little as can be."""
    name = "h200x2_handoff.sqlite.xz"
    plain = tmp_path / "plain.sqlite"
    plain.write_bytes(lzma.decompress((store.SAMPLES / name).read_bytes()))
    with contextlib.closing(sqlite3.connect(plain)) as database, database:
        (longest,) = database.execute(
            "SELECT rowid FROM CUPTI_ACTIVITY_KIND_KERNEL ORDER BY end - start DESC"
        ).fetchone()
        database.execute("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET end = end + 1 WHERE rowid = ?", (longest,))
    (tmp_path / name).write_bytes(lzma.compress(plain.read_bytes(), preset=0))
    lines = differences(
        kept(store.SAMPLES / name)["analyze", name, *WHOLE], answer(("analyze", name, *WHOLE), tmp_path)
    )
    (busy,) = (
        line for line in lines if line.startswith("document.traces[0].devices, column busy_ns: 1 of 2 rows differ")
    )
    before, after = map(int, re.findall(r"(\d+) -> (\d+)$", busy)[0])
    assert after == before + 1
    assert any(line.startswith("document.traces[0].ledger[") and "column ns" in line for line in lines)


WITH_STORE = """
import importlib.util, sys
from pathlib import Path
from aisp_trace.tests.goldens import store
store.ELSEWHERE = Path(sys.argv[1])
spec = importlib.util.spec_from_file_location("goldens", sys.argv[2])
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
sys.exit(script.main(sys.argv[3:]))
"""


def elsewhere(file: Path, *words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-P", "-c", WITH_STORE, str(file), str(SCRIPT), *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.mark.nightly
def test_recordings_elsewhere_are_known_by_their_content(tmp_path: Path) -> None:
    folder, file = tmp_path / "traces", tmp_path / "elsewhere.json.xz"
    folder.mkdir()
    trace = folder / "hand_over.sqlite"
    plain = lzma.decompress((store.SAMPLES / "h200x2_handoff.sqlite.xz").read_bytes())
    trace.write_bytes(plain + bytes(4096))  # another content than the sample's
    shutil.copy(store.SAMPLES / "h200x2_handoff.sqlite.xz", folder / "again.sqlite.xz")
    (folder / "broken.json").write_text("{")
    assert elsewhere(file, "--write", "--traces", folder).returncode == 0
    answers = {name.split()[0]: store.answers_in(found) for name, found in store.read(file).items()}
    assert set(answers) == {"hand_over.sqlite", "broken.json"}
    assert answers["broken.json"] == {("analyze", "broken.json", *WHOLE): {"exit_code": 2, "document": None}}
    options = {words[2:-1][:1] for words in answers["hand_over.sqlite"]}
    assert options == {("--attribution",), ("--window",)}

    trace.write_bytes(plain[:96] + b"\1\2\3\4" + plain[100:] + bytes(4096))  # the SQLite that wrote it last
    done = elsewhere(file, "--check", "--traces", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "again.sqlite.xz: a sample of the repository, compared there",
        "broken.json: identical (1 calls)",
        f"hand_over.sqlite: identical ({len(answers['hand_over.sqlite'])} calls)",
    ]
    kept_now = json.loads(lzma.decompress(file.read_bytes()))
    (key,) = (key for key in kept_now if key.startswith("hand_over"))
    kept_now[key][json.dumps(["analyze", "hand_over.sqlite", *WHOLE])]["document"]["traces"][0]["devices"][1][
        "busy_ns"
    ] += 1
    store.write(file, kept_now)
    done = elsewhere(file, "--check", "--traces", folder, "hand_over")
    assert done.returncode == 1
    assert "    document.traces[0].devices, column busy_ns: 1 of 2 rows differ; first row 1 (" in done.stdout

    trace.write_bytes(plain + bytes(8192))
    done = elsewhere(file, "--check", "--traces", folder, "hand_over")
    assert done.returncode == 0
    assert "nothing is kept of this content" in done.stdout


@pytest.mark.parametrize(
    "words", [(), ("--check", "--write"), ("--check", "no_such"), ("--check", "--traces", "no/such")]
)
def test_wrong_usage_is_a_sentence(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert "error: " in done.stderr and "Traceback" not in done.stderr
