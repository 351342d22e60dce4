"""The interval of a mechanism on simulated recordings whose truth is known; and that the docs say what comes out."""

from __future__ import annotations

import pytest

from aisp_trace.benchmarks.recordings import (
    DOUBTFUL,
    EXPECTED,
    OLD,
    RECORDINGS,
    STATED,
    Spread,
    old_wrong,
    wrong,
)
from aisp_trace.benchmarks.rounds import allowed
from aisp_trace.benchmarks.verdicts import PARTS, old_row, part
from aisp_trace.tests.test_power_simulations import close
from aisp_trace.tests.test_speedup_simulations import DOCS, row


def named(spread: Spread) -> str:
    return spread.name


@pytest.mark.parametrize("n", RECORDINGS)
@pytest.mark.parametrize("spread", EXPECTED, ids=named)
def test_with_the_expected_spread_the_interval_is_wrong_no_oftener_than_stated(spread: Spread, n: int) -> None:
    found = wrong(spread, n, 2000)
    assert max(found.met, found.missed) <= allowed(STATED, 2000)
    assert found.covered >= 1 - 2 * allowed(STATED, 2000)
    agrees_with_the_docs(spread, n, 2000)


@pytest.mark.parametrize("spread", DOUBTFUL, ids=named)
def test_what_another_spread_costs_is_what_the_docs_say(spread: Spread) -> None:
    for n in (1, 10):
        agrees_with_the_docs(spread, n, 1000)


def agrees_with_the_docs(spread: Spread, n: int, trials: int) -> None:
    found = wrong(spread, n, trials)
    for cell, of in zip(row(spread.name), PARTS, strict=True):
        assert close(cell[RECORDINGS.index(n)], part(found, of), trials)


@pytest.mark.parametrize("times", [2.0, 4.0])
def test_several_starts_that_disagree_make_up_for_a_spread_expected_too_small(times: float) -> None:
    """Ten of them contradict it; one recording, or ten of one start, cannot."""
    [several] = [s for s in DOUBTFUL if s.apart and s.times == times]
    [single] = [s for s in DOUBTFUL if not s.apart and s.times == times]
    assert wrong(several, 10, 1000).covered >= 0.95
    assert wrong(several, 1, 1000).covered <= 0.85
    assert wrong(single, 10, 1000).covered <= 0.85


def test_these_limits_catch_recordings_of_one_start_taken_for_several() -> None:
    [mistaken] = [s for s in DOUBTFUL if s.judged_apart and not s.apart]
    for n in (2, 10):
        assert wrong(mistaken, n, 2000).met > allowed(STATED, 2000)


@pytest.mark.parametrize("name", OLD)
def test_these_limits_catch_the_iterations_of_one_process(name: str) -> None:
    found = old_wrong(name, 2000)
    assert min(found.met, found.missed) > allowed(STATED, 2000)
    assert found.covered < 0.85


def test_a_row_is_what_the_command_prints() -> None:
    assert f"| {' | '.join(old_row(OLD[0]))} |" in DOCS
