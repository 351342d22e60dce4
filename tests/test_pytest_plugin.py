"""The fixture `speedup`: verdicts are those of `check`, each ends its test as documented, and others notice nothing of it."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import aisp_trace.cli.paired  # here, since runs within this process forget what they import  # noqa: F401
from aisp_trace.capture.callables import MOST_CALLS, called_rounds, differing
from aisp_trace.capture.host import hardware, visible_gpus
from aisp_trace.expectations.deciding import DECIDING, decide, ratio_sample

pytest_plugins = "pytester"

CLOCK = """
class Clock:
    def __init__(self, **costs):
        self.now, self.costs, self.calls = 0, costs, []
    def __call__(self):
        return self.now
    def __getattr__(self, name):
        def call():
            costs = self.costs[name]
            self.now += costs if isinstance(costs, int) else costs[len(self.calls) % len(costs)]
            self.calls.append(name)
            return 7
        return call

MS = 1_000_000
"""


def run(pytester: pytest.Pytester, body: str, *arguments: str, ini: str = "", fresh: bool = False) -> pytest.RunResult:
    """A run of one file of tests, in which the plugin is found by its entry point; `fresh`: in a process of its own."""
    pytester.makepyfile(test_it=CLOCK + body)
    pytester.makeini(f"[pytest]\nfilterwarnings = error\n{ini}\n")
    how = pytester.runpytest_subprocess if fresh else pytester.runpytest_inprocess
    return how("-rs", "-p", "no:cacheprovider", *arguments)


def test_the_package_brings_the_plugin() -> None:
    (found,) = [e for e in entry_points(group="pytest11") if e.name == "aisp_trace"]
    assert found.value == "aisp_trace.cli.pytest_plugin"


def test_a_faster_function_passes_and_its_case_has_the_figures(pytester: pytest.Pytester) -> None:
    body = """
def test_it(speedup):
    clock = Clock(slow=90 * MS, fast=30 * MS)
    (verdict,) = speedup(clock.slow, clock.fast, at_least=2.5, clock=clock)
    assert verdict.status == "met" and verdict.value == 3 and verdict.n == 12
    compared, warmed, timed = clock.calls[:2], clock.calls[2:4], clock.calls[4:]
    assert timed[:4] == ["slow", "fast", "fast", "slow"] and len(timed) == 24
"""
    result = run(pytester, body, "--junitxml=out.xml")
    result.assert_outcomes(passed=1)
    case = ElementTree.parse(pytester.path / "out.xml").find(".//testcase")
    assert case is not None
    found = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert found == {
        "speedup.verdict": "met", "speedup.value": "3.0", "speedup.low": "3.0", "speedup.high": "3.0",
        "speedup.bound": ">= 2.5", "speedup.n": "12",
    }  # fmt: skip


def test_a_miss_fails_with_the_working_and_no_traceback(pytester: pytest.Pytester) -> None:
    body = """
def test_it(speedup):
    clock = Clock(slow=90 * MS, fast=80 * MS)
    speedup(clock.slow, clock.fast, 1.5, clock=clock)
"""
    result = run(pytester, body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "speedup of optimized over baseline: missed: the interval 1.125 .. 1.125 lies outside the bound >= 1.5",
            "value 1.125 ratio, interval 1.125 .. 1.125, bound >= 1.5, margin -0.375, n 12 rounds",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


NOISY = """
def test_it(speedup):
    clock = Clock(slow=[90 * MS, 30 * MS, 70 * MS, 50 * MS, 110 * MS, 40 * MS, 60 * MS], fast=[60 * MS, 50 * MS, 70 * MS])
    speedup(clock.slow, clock.fast, at_least=1.0, clock=clock{more})
"""


@pytest.mark.parametrize(
    ("more", "ini", "outcome"),
    [
        ("", "", {"failed": 1}),
        ("", "speedup_undecided = skip", {"skipped": 1}),
        (", undecided='skip'", "", {"skipped": 1}),
        (", undecided='fail'", "speedup_undecided = skip", {"failed": 1}),
        (", rounds=5", "", {"failed": 1}),
    ],
)
def test_what_is_undecided_fails_or_is_skipped_as_chosen(
    more: str, ini: str, outcome: dict[str, int], pytester: pytest.Pytester
) -> None:
    result = run(pytester, NOISY.format(more=more), ini=ini)
    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(["*speedup of optimized over baseline: inconclusive: *"])


def test_different_results_are_invalid_whatever_is_undecided(pytester: pytest.Pytester) -> None:
    body = """
def test_it(speedup):
    speedup(lambda: [1, 2], lambda: [1, 3], at_least=1.0)
"""
    result = run(pytester, body, ini="speedup_undecided = skip")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*invalid: the results differ: baseline returned ?1, 2?, optimized returned ?1, 3?"])


def test_two_commands_are_a_pair_of_capture(pytester: pytest.Pytester) -> None:
    body = f"""
import sys
def test_it(speedup, tmp_path):
    slow = "{sys.executable} -S -c 'import time; time.sleep(0.4)'"
    (verdict,) = speedup(slow, "{sys.executable} -S -c pass", at_least=1.01, rounds=8)
    assert verdict.n == 8 and verdict.low > 1.01
    assert [p.name.startswith("test_it") for p in tmp_path.iterdir() if not p.name.startswith(".")] == [True]
"""
    run(pytester, body).assert_outcomes(passed=1)


def claims(folder: Path, minimum: float, most_ms: float) -> None:
    """Claims about the workload ``sorting`` on this machine."""
    key = hardware("cuda" if visible_gpus() else "cpu").key
    claim = {
        "type": "time", "id": "sorting.faster", "workload": "sorting", "size": None,
        "variant": "optimized", "baseline": "baseline",
        "ratio": {"min": minimum, "max": None}, "max_ms": {"baseline": 1000, "optimized": most_ms},
        "why": "fewer passes", "source": {"kind": "model", "run": None, "text": "counted"},
    }  # fmt: skip
    document = {"schema": "aisp-trace/expectations/2", "hardware_key": key, "claims": [claim]}
    folder.mkdir()
    (folder / f"expectations_{key}.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize(("most_ms", "outcome"), [(31, {"passed": 1}), (29, {"failed": 1})])
def test_claims_of_a_folder_judge_too(most_ms: float, outcome: dict[str, int], pytester: pytest.Pytester) -> None:
    body = """
def test_it(speedup):
    clock = Clock(slow=90 * MS, fast=30 * MS)
    speedup(clock.slow, clock.fast, expectations="claims", name="sorting", clock=clock)
"""
    claims(pytester.path / "claims", 2, most_ms)
    result = run(pytester, body)
    result.assert_outcomes(**outcome)
    if "failed" in outcome:
        result.stdout.fnmatch_lines(["time of one call of optimized: missed: *"])


def test_a_test_without_a_claim_in_the_folder_is_undecided(pytester: pytest.Pytester) -> None:
    claims(pytester.path / "claims", 2, 31)
    body = "def test_it(speedup):\n    speedup(int, int, expectations='claims')\n"
    result = run(pytester, body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["no claim is about this test*"])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("int, int", "*speedup needs a bound: at_least=1.2*"),
        ("int, int, at_least=1, expectations='x'", "*speedup needs a bound: at_least=1.2*"),
        ("int, int, at_least=0", "at_least is 0; it must be a factor above 0, such as 1.2"),
        ("int, int, True", "at_least is True; it must be a factor above 0, such as 1.2"),
        ("int, int, int", "at_least is <class 'int'>; it must be a factor above 0, such as 1.2"),
        (
            "int, int, 'expectations'",
            "at_least is 'expectations'; it is a factor such as 1.2, and a folder is expectations=FOLDER",
        ),
        ("int, int, at_least=1, rounds=0", "rounds is 0; at least one is needed*"),
        ("int, 'x', at_least=1", "speedup takes two functions without arguments, or two command lines as text*"),
        ("'no-such-program', 'x', at_least=1", "*the program 'no-such-program' was not found*"),
        ("int, int, expectations='nowhere'", "*nowhere is not a folder*"),
        ("int, int, at_least=1, undecided='pass'", "*undecided is 'pass'; say fail or skip"),
    ],
)
def test_a_wrong_use_is_one_sentence(call: str, said: str, pytester: pytest.Pytester) -> None:
    result = run(pytester, f"def test_it(speedup):\n    speedup({call})\n")
    assert result.ret == 1
    result.stdout.fnmatch_lines([said])
    result.stdout.no_fnmatch_line("During handling*")


def test_a_run_without_the_fixture_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    body = """
import sys
def test_it():
    heavy = {"polars", "numpy", "typer", "rich", "pydantic", "plotly", "pandas", "torch", "numba", "jinja2"}
    assert not heavy & {name.partition(".")[0] for name in sys.modules}
    ours = {name.removeprefix("aisp_trace.") for name in sys.modules if name.startswith("aisp_trace")}
    assert ours == {"aisp_trace", "traces", "traces.shown", "cli", "cli.pytest_plugin"}
"""
    run(pytester, body, fresh=True).assert_outcomes(passed=1)


def test_the_plugin_can_be_left_out(pytester: pytest.Pytester) -> None:
    run(pytester, "def test_it(speedup): pass\n", "-p", "no:aisp_trace", fresh=True).assert_outcomes(errors=1)


# --- what times functions ---------------------------------------------------------------------------------------------


class Ticks:
    """A clock of its own, and functions that take a known time."""

    def __init__(self) -> None:
        self.now = 0
        self.calls = {"a": 0, "b": 0}

    def function(self, name: str, ns: int) -> object:
        def call() -> None:
            self.now += ns
            self.calls[name] += 1

        return call

    def __call__(self) -> int:
        return self.now


def test_rounds_have_the_rule_of_the_projects_rounds() -> None:
    """Short functions are called often; per-call times give the same decision as `decide` on them."""
    ticks = Ticks()
    pair = {"a": ticks.function("a", 40_000), "b": ticks.function("b", 30_000)}
    made = called_rounds(pair, ticks)  # type: ignore[arg-type]
    rounds = [next(made) for _ in range(DECIDING[0])]
    assert [r.order for r in rounds[:3]] == [("a", "b"), ("b", "a"), ("a", "b")]
    assert all(r.ns == {"a": 40_000, "b": 30_000} for r in rounds)
    assert ticks.calls["a"] > 12 * 500
    sample = ratio_sample([(r.ns["a"],) for r in rounds], [(r.ns["b"],) for r in rounds])
    assert decide(sample, 1.3, None, looks=DECIDING).status == "met"


def test_a_function_that_takes_no_time_ends_the_warm_up() -> None:
    ticks = Ticks()
    made = next(called_rounds({"a": ticks.function("a", 0), "b": ticks.function("b", 0)}, ticks))  # type: ignore[dict-item]
    assert made.ns == {"a": 1, "b": 1} and ticks.calls["a"] <= 3 * MOST_CALLS


@pytest.mark.parametrize("make", [list, tuple, np.array, pl.Series, lambda values: pl.DataFrame({"a": values})])
def test_results_are_compared_by_elements(make: Callable[[list[int]], Any]) -> None:
    def found(*values: int) -> str:
        return differing({"a": lambda: make([1, 2, 3]), "b": lambda: make(list(values))}, None)

    assert found(1, 2, 3) == ""
    assert found(1, 2, 4).startswith("the results differ: a returned ")
    assert re.match("the results (differ|cannot be compared)", found(1, 2))


def test_results_are_compared_as_the_test_says() -> None:
    pair = {"a": lambda: 1.0, "b": lambda: 1.1}
    assert differing(pair, lambda a, b: abs(a - b) < 0.2) == ""
    assert differing(pair, lambda a, b: abs(a - b) < 0.01) == "the results differ: a returned 1.0, b returned 1.1"
    assert "cannot be compared (ZeroDivisionError: " in differing(pair, lambda a, b: 1 / 0)
