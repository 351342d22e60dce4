"""What torch.profiler says the host ran in the largest gaps: operators and Python functions, each without what nests in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import Analysis
from aisp_trace.cli.main import main
from aisp_trace.tests.test_kineto_reader import event, written
from aisp_trace.tests.test_torch_operators import MAIN, launched, operator
from aisp_trace.traces.kineto.read import read_kineto

GAP = (20, 920)
"""In us: from the end of the first kernel to the start of the second, which is launched at 910."""

OTHER = 11
"""A thread that launches nothing."""


def function(name: str, ts: int, dur: int, tid: int = MAIN) -> dict[str, Any]:
    return event("python_function", name, ts, dur, 5, tid)


def analysed(folder: Path, events: list[dict[str, Any]], *, annotated: bool = True, **choices: Any) -> Analysis:
    step = [event("user_annotation", "step", 0, 1_000, 5, MAIN)] if annotated else []
    whole = [*step, *launched(0, 1, MAIN, 10), *launched(910, 2, MAIN, 10), *events]
    return analyze(read_kineto(written(folder, whole)), window=(0, 10**9), **choices)


def code(found: Analysis) -> dict[str, dict[str, int]]:
    """Domain -> name -> ns."""
    rows = found.gap_code.select("domain", "name", "ns").rows()
    return {domain: {name: ns for of, name, ns in rows if of == domain} for domain, _, _ in rows}


@pytest.mark.parametrize("seed", range(10))
def test_each_instant_of_the_gap_is_the_innermost_ones(tmp_path: Path, seed: int) -> None:
    """Against a look at every microsecond, with ranges that reach over the ends of the gap and another thread's beside them."""
    rng = Random(seed)
    functions: list[tuple[int, int, str]] = []

    def nest(low: int, high: int, depth: int) -> None:
        at = low
        while at < high - 2 and depth < 5:
            start = rng.randrange(at, high - 1)
            end = rng.randrange(start + 1, high)
            functions.append(
                (
                    start,
                    end,
                    rng.choice(
                        ["a.py(1): f", "b.py(2): g", "c.py(3): h", "<built-in method x>", "torch/nn/m.py(4): i"]
                    ),
                )
            )
            nest(start, end, depth + 1)
            at = end + 1

    nest(0, 1_000, 0)
    events = [function(name, start, end - start) for start, end, name in functions]
    found = analysed(tmp_path, [*events, function("d.py(4): beside", 0, 1_000, OTHER)])
    own: Counter[str] = Counter()
    for us in range(*GAP):
        open_ = [(s, -e, name) for s, e, name in functions if s <= us < e and "py(" in name and "torch" not in name]
        if open_:
            own[max(open_, key=lambda one: one[:2])[2]] += 1_000
    assert code(found).get("torch.python", {}) == dict(own)
    assert set(found.gap_code.select("start_ns", "end_ns").rows()) <= {(1_000 * GAP[0], 1_000 * GAP[1])}


def test_the_finding_names_what_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        event("user_annotation", "ProfilerStep#0", 0, 1_000, 5, MAIN),
        *launched(0, 1, MAIN, 10),
        *launched(910, 2, MAIN, 10),
        function("/srv/app/train.py(3): <module>", 0, 1_000),
        function("/srv/app/data.py(12): load", 30, 800),
        function("/usr/lib/python3/dist-packages/torch/utils/data/fetch.py(54): fetch", 35, 790),
        function("<built-in method read>", 40, 700),
        operator("aten::uniform_", 300, 300),
    ]
    path = written(tmp_path, events)
    assert main(["analyze", str(path), "--window", "all", "--no-cache"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "while the host works; in the longest such gaps it runs app/data.py(12): load, for 88.9 % of their time" in said
    )
    assert (
        "functions: app/data.py(12): load 800 us, app/train.py(3): <module> 100 us operators: aten::uniform_ 300 us"
        in said
    )


def test_operators_are_said_where_no_function_was_recorded(tmp_path: Path) -> None:
    events = [operator("aten::to", 30, 800), operator("aten::copy_", 100, 700), operator("aten::add", 840, 10)]
    found = analysed(tmp_path, events)
    assert code(found) == {"torch.op": {"aten::copy_": 700_000, "aten::to": 100_000, "aten::add": 10_000}}


def test_stages_are_not_said_again(tmp_path: Path) -> None:
    events = [operator("aten::copy_", 100, 700), function("data.py(12): load", 30, 800)]
    for choices in ({"domain": "torch.op"}, {"annotated": False}):
        found = analysed(tmp_path, events, **choices)
        assert found.choices.domain == "torch.op"
        assert code(found) == {"torch.python": {"data.py(12): load": 800_000}}


def test_without_torchs_ranges_nothing_is_said(tmp_path: Path) -> None:
    assert analysed(tmp_path, []).gap_code.is_empty()
