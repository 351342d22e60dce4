"""Finds of the fuzzer stay fixed; and its rules catch what they are for, each shown an answer that breaks it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from aisp_trace.tests.fuzz import child, finds, rules, truth
from aisp_trace.tests.fuzz.case import Answer, Case, Look, made
from aisp_trace.tests.fuzz.seeds import export
from aisp_trace.tests.patience import PATIENCE_S


def fuzz(*words: str) -> subprocess.CompletedProcess[str]:
    """The fuzzer, in a process of its own: it forks, which a process with polars' threads cannot."""
    command = [sys.executable, "-P", "-m", "aisp_trace.tests.fuzz", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


def test_what_was_found_stays_fixed() -> None:
    files = sorted(finds.FOLDER.glob("*.json"))
    assert files
    done = fuzz("--finds")
    assert done.returncode == 0, done.stdout
    assert f"{len(files)} inputs" in done.stdout


def test_a_find_that_is_not_fixed_fails(tmp_path: Path) -> None:
    """The control: a rule that is broken by the answer of the real command."""
    folder = made(tmp_path / "box")
    export(Random(3)).write(folder / "trace.sqlite")
    case = Case("control", secrets=("load",))
    case.look("export", "trace.sqlite", "--scrub", "-o", "../out/s.sqlite")  # keeps the name of a stage
    file = finds.keep(case, tmp_path / "box", ["planted"], tmp_path / "control.json")
    done = fuzz("--finds", str(file))
    assert done.returncode == 1
    assert "load in s.sqlite" in done.stdout


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
def test_the_decoder_of_the_page_is_a_plain_one() -> None:
    script = Path(__file__).with_name("fuzz") / "page_decoder.js"
    done = subprocess.run(["node", str(script), "1", "1500"], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout == "1500 inputs\n", done.stderr[-500:]


def test_the_same_seed_gives_the_same_inputs(tmp_path: Path) -> None:
    files = [export(Random("seed")).write(tmp_path / f"{name}.sqlite") for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_case_survives_its_file(tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    (folder / "é\n").write_bytes(b"\xff\r\n\0")
    (folder / "text").write_text("plain")
    (folder / "link").symlink_to("nowhere")
    (folder / "empty").mkdir()
    case = Case("any", [Look(("analyze", "text"), like=0, reader="pages", damage_kept=7)], "text", ("x",))
    file = finds.keep(case, tmp_path / "a", ["broken"], tmp_path / "f.json")
    assert finds.restored(file, tmp_path / "b") == case
    assert child._tree(tmp_path / "a" / "in") == child._tree(tmp_path / "b" / "in")


# --- rules ------------------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "devices": [
        {
            "device": 0,
            "type": "gpu",
            "ops_span_ns": 100,
            "busy_ns": 60,
            "idle_ns": 40,
            "by_kind": {"compute": {"ops": 2, "sum_ns": 70, "union_ns": 60}},
            "overlap": {"copy|compute": {"a_ns": 0, "b_ns": 60, "both_ns": 0}},
            "exposed_ns": {},
        }
    ],
    "ledger": [
        {
            "device": 0,
            "window": {"start_ns": 0, "end_ns": 100},
            "cells": [
                {"ns": 60, "category": "compute", "cause": None},
                {"ns": 40, "category": "idle", "cause": "sync"},
            ],
        }
    ],
    "gaps": [{"device": 0, "ns": 40}],
    "findings": [{"rule": "waits", "device": 0, "share": 0.4, "saving_at_most_ns": 40}],
}


def told(trace: dict[str, Any]) -> str:
    return json.dumps({"schema": "aisp-trace/analysis/2", "traces": [trace]})


def answer(*words: str, code: int | None = 0, printed: str = "", said: str = "") -> Answer:
    return Answer(Look(words), code, printed, said)


def broken(*answers: Answer, case: Case | None = None, box: Path = Path("/nowhere")) -> str:
    return "\n".join(rules.of_case(case or Case("any"), box, answers, {}))


def edited(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    trace: dict[str, Any] = json.loads(json.dumps(GOOD))
    change(trace)
    return trace


def test_good_answers_break_no_rule() -> None:
    fine = answer("analyze", "t", "--json", printed=told(GOOD))
    refused = answer("analyze", "t", "--json", code=2, said="aisp-trace: t does not exist; check the path\n")
    assert broken(fine, refused, replace(fine, look=replace(fine.look, like=0))) == ""


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (answer("analyze", code=70, said="KeyError: 'x'"), "exit code 70"),
        (answer("analyze", code=None, said="PanicException"), "exit code None"),
        (answer("analyze", code=0, said="Traceback (most recent call last):\n"), "a traceback"),
        (answer("analyze", code=2), "without a sentence"),
        (answer("analyze", code=2, said="oh\n"), "of the program's own"),
        (answer("analyze", code=2, said="aisp-trace: x\n" * 40), "a refusal of 40 lines"),
        (answer("analyze", code=2, said="aisp-trace: " + "x" * 3000), "a line of 3012 characters"),
        (answer("analyze", printed="a\x1b[2Jb"), "'\\x1b' on standard output"),
        (answer("analyze", code=2, said="aisp-trace: a\u202eb"), "on standard error"),
        (answer("analyze", printed="x\n::error::y\n"), "takes for its own"),
        (answer("analyze", "--json", printed='{"schema": "aisp-trace/x/1", "a": NaN}'), "printed no JSON"),
        (answer("analyze", "--json", printed='{"a": 1}'), "without a schema"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_an_answer_that_breaks_a_rule(bad: Answer, words: str) -> None:
    assert words in broken(bad)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["ledger"][0]["cells"][0].update(ns=61), "the ledger of device 0 has 101 ns"),
        (lambda t: t["ledger"][0]["cells"].append({"ns": 0}), "the ledger of device 0"),
        (lambda t: t["devices"][0].update(idle_ns=41), "busy 60, idle 41 of 100"),
        (lambda t: t["devices"][0]["by_kind"]["compute"].update(union_ns=71), "compute"),
        (lambda t: t["devices"][0]["overlap"]["copy|compute"].update(both_ns=1), "overlap copy|compute"),
        (lambda t: t["gaps"].append({"device": 0, "ns": 61}), "gaps of 101 ns"),
        (lambda t: t["findings"][0].update(share=1.5), "a share of 1.5"),
        (lambda t: t["findings"][0].update(saving_at_most_ns=101), "101 ns"),
    ],
)
def test_a_sum_that_is_wrong(change: Callable[[dict[str, Any]], Any], words: str) -> None:
    assert words in broken(answer("analyze", "t", "--json", printed=told(edited(change))))


def test_two_looks_that_differ() -> None:
    first = answer("analyze", "t", printed="a 1\n")
    second = Answer(Look(("analyze", "t"), like=0, reader="pages"), 0, "a 2\n", "")
    assert "answers differ (pages)" in broken(first, second)


def test_a_scrubbed_copy_with_other_figures() -> None:
    first = answer("analyze", "t", "--json", printed=told(GOOD))
    scrub = answer("export", "t", "--scrub")
    now = told(edited(lambda t: t["devices"][0]["by_kind"]["compute"].update(ops=1)))
    copy = Answer(Look(("analyze", "s", "--json"), like=0), 0, now, "")
    assert "in the scrubbed copy" in broken(first, scrub, copy)


def test_a_secret_in_an_output(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "r.html").write_text("<p>HUNTER2</p>")
    case = Case("secrets", secrets=("hunter2",))
    assert "hunter2 in r.html" in broken(answer("export", "t", "--scrub"), case=case, box=tmp_path)


@pytest.mark.parametrize(
    "page", ["<p><img src=x onerror=alert(1)>", "<script>alert(1)</script>", '<link href="//x.y">']
)
def test_a_page_with_markup_or_a_network(page: str) -> None:
    assert list(rules.of_page(page))


def test_a_sum_that_is_not_that_of_the_file(tmp_path: Path) -> None:
    """One kernel of 10 us and one without a device, in SQL and in JSON."""
    from aisp_trace.tests.builders.nsys_export import NsysExport

    file = NsysExport().kernel(10, 20).kernel(30, 50, deviceId=None).write(tmp_path / "t.sqlite")
    assert truth.of_export(file) == (2, 1, 10)
    device = {"type": "gpu", "by_kind": {"compute": {"ops": 1, "sum_ns": 10}}}
    document = {"traces": [{"devices": [device]}]}
    assert list(truth.against(file, document, {"ops_without_device": 1})) == []
    assert "has 2 operations" in next(truth.against(file, document, {}))
    device["by_kind"] = {"compute": {"ops": 1, "sum_ns": 11}}
    assert "take 10 ns in the file and 11" in next(truth.against(file, document, {"ops_without_device": 1}))
    event = {"ph": "X", "cat": "kernel", "ts": 1, "dur": 0.01, "args": {"device": 0}}
    (tmp_path / "t.json").write_text(json.dumps({"traceEvents": [event]}))
    assert truth.of_profile(tmp_path / "t.json") == (1, 1, 10)


MISDEEDS = """
import os, sys, time
from pathlib import Path
import aisp_trace.cli.main as cli
from aisp_trace.tests.fuzz import child
from aisp_trace.tests.fuzz.case import Case, made

child.MOST_CPU_S, child.MOST_MB = 1, 400
outside = sys.argv[1] + "/outside"

def writes(words): Path(outside).write_text("x")
def removes(words): Path(outside + "/none").unlink(missing_ok=True)
def changes(words): Path("input").write_text("changed")
def adds(words): Path("more").write_text("x")
def litters(words): Path(os.environ["TMPDIR"], "left").write_text("x")
def half(words): Path("../out/.aisp-trace-0.tmp").write_text("x")
def starts(words): os.sys.modules["subprocess"].run(["true"])
def connects(words): __import__("socket").socket().connect(("127.0.0.1", 9))
def hangs(words): time.sleep(60)
def burns(words):
    while time.process_time() < 1.7: pass
def eats(words): return len(bytearray(500 << 20)) * 0
def dies(words): os.kill(os.getpid(), 11)
def raises(words): raise KeyError("planted")
def panics(words): raise type("PanicException", (BaseException,), {})("planted")
def refused(words): Path("../out/r.html").write_text("x"); print("aisp-trace: no", file=sys.stderr); return 2
def honest(words): return 0

def maker(deed):
    def make(box):
        (made(box) / "input").write_text("x")
        cli.main = lambda words: deed(words) or 0
        case = Case("misdeed")
        case.look("report", "input", "-o", "../out/r.html")
        return case
    return make

child.prepare()
for deed in (
    writes, removes, changes, adds, litters, half, starts, connects, hangs, burns, eats, dies, raises, panics, refused, honest
):
    child.MOST_SECONDS = 5 if deed is hangs else 240  # a busy machine takes its time over the others
    found = child.run(maker(deed), child.emptied(Path(sys.argv[1]) / "box"))
    print(deed.__name__, "|", "; ".join(found.finds).replace("\\n", " "))
"""


def test_what_a_command_must_not_do_is_noticed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", MISDEEDS, str(tmp_path)], capture_output=True, text=True, timeout=PATIENCE_S
    )
    found = dict(line.split(" | ") for line in done.stdout.splitlines())
    assert found.pop("honest") == "", done.stderr
    expected = {
        "writes": "writes ",
        "removes": "os.remove ",
        "changes": "changed: 'input'",
        "adds": "made: 'more'",
        "litters": "left in the temporary folder",
        "half": "left beside the output",
        "starts": "starts 'true'",
        "connects": "connects to ('127.0.0.1', 9)",
        "hangs": "hangs: 5 s",
        "burns": "of processor time",
        "eats": "MB of memory",
        "dies": "died of signal 11",
        "raises": "exit code None",
        "panics": "exit code None",
        "refused": "refused, and yet wrote ['r.html']",
    }
    assert {name: expected[name] in found.get(name, "") for name in expected} == dict.fromkeys(expected, True), (
        done.stdout
    )
