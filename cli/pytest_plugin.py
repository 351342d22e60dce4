"""The fixture ``speedup`` of pytest: two functions or two commands, and the verdict on them that `check` would give.

    def test_batched_is_faster(speedup):
        speedup(one_by_one, batched, at_least=1.5)

The package's entry point has pytest import this module in every run, so it imports nothing but pytest; the rest comes with the
first use of the fixture. docs/pytest.md is its page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from ..expectations.judging.verdict import Verdict

UNDECIDED: Final = ("fail", "skip")
INI: Final = "speedup_undecided"
BUDGET_S: Final = 60.0
"""Seconds of rounds that a test may take unless it says otherwise; a round that has begun is finished."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """pytest's own hook."""
    parser.addini(INI, "what the fixture speedup does where nothing can be decided: fail or skip", default="fail")


@pytest.fixture
def speedup(request: pytest.FixtureRequest) -> Speedup:
    """Fails the test unless the second function or command is as much faster than the first as the test says."""
    return Speedup(request)


class Speedup:
    """What the fixture gives: to be called once or more in a test."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def __call__(
        self,
        baseline: Callable[[], Any] | str,
        optimized: Callable[[], Any] | str,
        at_least: float | None = None,
        *,
        expectations: str | Path | None = None,
        name: str | None = None,
        rounds: int | None = None,
        budget_s: float = BUDGET_S,
        same: Callable[[Any, Any], Any] | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
        undecided: str | None = None,
    ) -> tuple[Verdict, ...]:
        """Time both in alternating rounds, judge, and return the verdicts; fails or skips the test where they do not hold.

        `at_least` is the least speedup, 0.95 for "at most 5 % slower"; `expectations` instead is a folder of claims about the
        workload `name` (default: the test's name). `rounds` fixes their number; by default they go on, 12 to 40, until the
        speedup is decided or `budget_s` seconds have passed. Of functions, `same` compares the results (default: ``==``) and
        `clock` reads nanoseconds.
        `undecided` is ``fail`` or ``skip``, by default as `speedup_undecided` in pytest's configuration says.
        """
        from ..traces.errors import AispTraceError
        from .paired import Asked, judge_pair

        choice = undecided if undecided is not None else self._request.config.getini(INI)
        if choice not in UNDECIDED:
            raise pytest.UsageError(f"{'undecided' if undecided else INI} is {choice!r}; say fail or skip")
        asked = Asked(
            name if name is not None else self._request.node.name,
            at_least,
            None if expectations is None else Path(expectations),
            rounds,
            budget_s,
            same,
            clock,
            self._request.getfixturevalue("tmp_path"),
        )
        verdicts: tuple[Verdict, ...] = ()
        wrong = ""
        try:
            verdicts = judge_pair(baseline, optimized, asked)
        except AispTraceError as error:
            wrong = "\n".join(map(str, error.args))
        if wrong:
            pytest.fail(wrong, pytrace=False)
        self._request.node.user_properties += _properties(verdicts, at_least is not None)
        _settle(verdicts, choice)
        return verdicts


def _properties(verdicts: Sequence[Verdict], own: bool) -> Iterator[tuple[str, str]]:
    """Each verdict as properties of the test's case in JUnit XML: ``speedup.value``, of a claim ``CLAIM, QUANTITY.value``."""
    for v in verdicts:
        name = "speedup" if own else f"{v.claim}, {v.quantity}"
        figures = {"verdict": v.status, "value": v.value, "low": v.low, "high": v.high, "bound": v.bound, "n": v.n}
        yield from ((f"{name}.{key}", str(value)) for key, value in figures.items() if value is not None)


def _settle(verdicts: Sequence[Verdict], undecided: str) -> None:
    """End the test as `check` would leave, by `exit_code`; what is `invalid` is never skipped."""
    from ..expectations.judging.verdict import exit_code
    from ..report.ci.junit import working

    code = exit_code(verdicts)
    if code == 0:
        return
    wrong = [v for v in verdicts if v.status not in ("met", "exceeded")]
    text = "\n".join(f"{v.quantity}: {v.status}: {v.reason}\n{working(v)}" for v in wrong)
    text = text or "no claim is about this test, so nothing was judged; give at_least, or name a claim's workload"
    if code == 3 and undecided == "skip" and all(v.status != "invalid" for v in verdicts):
        pytest.skip(text)
    pytest.fail(text, pytrace=False)
