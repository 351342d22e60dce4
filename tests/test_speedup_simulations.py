"""The rule of a speedup on simulated rounds whose truth is known; and that the docs say what comes out.

The docs' figures are of 10,000 runs each, which is what the nightly set simulates. By default it is a quarter of that, and twice
the room that chance has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from aisp_trace.benchmarks.rounds import BROKEN, GOOD, LIMITS, MODELLED, ROOM, TRIALS, Case, allowed, rates
from aisp_trace.benchmarks.verdicts import HEADS, ROUNDS
from aisp_trace.expectations.deciding import decide, ratio_sample
from aisp_trace.expectations.judging.judge import judge
from aisp_trace.expectations.model import ExpectationFile
from aisp_trace.tests.examples import SAME_EACH_TIME
from aisp_trace.tests.judging.build import evidence, rounds, time_claim

DOCS = (Path(__file__).parent.parent / "docs" / "verdicts.md").read_text(encoding="utf-8")


@pytest.fixture(params=[TRIALS // (10 if SAME_EACH_TIME else 4), pytest.param(TRIALS, marks=pytest.mark.nightly)])
def trials(request: pytest.FixtureRequest) -> int:
    """Runs to simulate."""
    return int(request.param)


def named(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", MODELLED, ids=named)
def test_where_the_assumptions_hold_so_do_the_rates(case: Case, trials: int) -> None:
    """A bound just above the truth is called met, and one just below it missed, no oftener than stated."""
    for n in (*simulated(trials), 10):
        found = rates(case, n, trials)
        assert found.stated <= 0.005
        assert found.false_met <= allowed(found.stated, trials)
        assert found.false_missed <= allowed(found.stated, trials)
    agrees_with_the_docs(case, trials)


@pytest.mark.parametrize("case", BROKEN, ids=named)
def test_drift_steps_and_clocks_are_refused_or_harmless(case: Case, trials: int) -> None:
    for n in ROUNDS[:-1]:  # the truth is that of all rounds, and `--decide` ends before the machine has changed
        found = rates(case, n, trials)
        assert found.false_met <= allowed(found.stated, trials)
        assert found.false_missed <= allowed(found.stated, trials)
        assert found.refused >= least_refused(case)
    agrees_with_the_docs(case, trials)


def least_refused(case: Case) -> float:
    """Large effects must be refused, and not only be harmless."""
    large = {"15 % over the run": 0.99, "thermal": 0.75}
    return max((least for words, least in large.items() if words in case.name), default=0.0)


@pytest.mark.parametrize("case", LIMITS, ids=named)
def test_rounds_that_depend_on_each_other_are_a_limit_and_the_docs_say_so(case: Case, trials: int) -> None:
    """Not wanted, but known: were it no longer so, the docs would have to change."""
    found = rates(case, 8, trials)
    assert found.false_met > allowed(found.stated, trials)
    agrees_with_the_docs(case, trials)


def test_power(trials: int) -> None:
    """A good run of ordinary noise is met; a noisy one is inconclusive, not missed."""
    quiet, noisy = GOOD[1], GOOD[-1]
    assert rates(quiet, 8, trials).power >= 0.98
    assert rates(noisy, 8, trials).false_missed <= allowed(rates(noisy, 8, trials).stated, trials)
    assert rates(noisy, 8, trials).power <= 0.1


def test_the_simulated_rule_is_the_judges() -> None:
    """`rates` holds interval and concerns against a bound by itself; the judge does the same with a whole run."""
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(300):
        width = float(rng.choice([0.005, 0.05]))
        base, fast = (20 * np.exp(width * rng.standard_normal(8)) / k for k in (1, 2))
        shown = evidence(rounds=rounds(base.tolist(), fast.tolist()))
        verdict = judge([ExpectationFile("h100", (time_claim(1.95, None),))], shown)[0]
        base_ns, fast_ns = ([r.times_ns[name] for r in shown.rounds] for name in ("baseline", "optimized"))
        assert verdict.status == decide(ratio_sample(base_ns, fast_ns), 1.95, None).status
        seen.add(verdict.status)
    assert {"met", "inconclusive"} <= seen


# --- the tables in the docs -------------------------------------------------------------------------------------------


def row(name: str) -> list[list[float]]:
    """The figures, in percent, in the row of the docs that begins with `name`; one list a cell."""
    [line] = [line for line in DOCS.splitlines() if line.startswith(f"| {name} |")]
    return [[float(f) for f in re.findall(r"[\d.]+", cell)] for cell in line.strip("| ").split(" | ")[1:]]


def simulated(trials: int) -> Sequence[int]:
    """The rounds to simulate: `--decide` costs as much as all others together, and is left to the nightly set."""
    return ROUNDS if trials == TRIALS else ROUNDS[:-1]


def agrees_with_the_docs(case: Case, trials: int) -> None:
    cells = row(case.name)
    assert len(cells) == len(HEADS)
    for i, n in enumerate(simulated(trials)):
        found = rates(case, n, trials)
        for cell, value in zip(cells, (found.false_met, found.false_missed, found.refused, found.power), strict=True):
            # Another numpy may draw other numbers: the same within the accuracy of that many trials and of the rounding.
            assert abs(cell[i] / 100 - value) <= 2 * (allowed(value, trials) - value) + 0.006


@pytest.mark.parametrize("case", GOOD, ids=named)
def test_the_docs_say_how_often_good_runs_are_inconclusive(case: Case, trials: int) -> None:
    cell, _ = row(case.name)
    for n, percent in zip(simulated(trials), cell, strict=False):
        value = 1 - rates(case, n, trials).power
        assert abs(percent / 100 - value) <= 2 * (allowed(value, trials) - value) + 0.006


def test_the_docs_name_the_command_and_the_room() -> None:
    assert "python -P benchmarks/verdicts.py" in DOCS
    assert f"{ROOM:.0%}".replace("%", " %") in DOCS
