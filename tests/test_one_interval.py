"""A run has one speedup with one interval, whoever says it: judge, comparison, page, table of results, and `capture`."""

from __future__ import annotations

import random

from hypothesis import example, given
from hypothesis import strategies as st

from aisp_trace.expectations.deciding import DECIDING, Estimate, median_interval, speedups_of
from aisp_trace.expectations.judging.between import Member, untraced
from aisp_trace.expectations.judging.judge import judge
from aisp_trace.expectations.model import ExpectationFile
from aisp_trace.report.page.speed import speedups
from aisp_trace.report.results.rows import gain
from aisp_trace.tests.judging.build import evidence, rounds, time_claim

plans = st.one_of(st.just(()), st.just(DECIDING), st.integers(1, 45).map(lambda n: (n,)))


@given(n=st.integers(1, 45), looks=plans, seed=st.integers(0, 1 << 30))
@example(n=12, looks=DECIDING, seed=0)  # as wide as five looks need
@example(n=14, looks=DECIDING, seed=0)  # two more than the last look
@example(n=10, looks=DECIDING, seed=0)  # before the first: no interval
@example(n=10, looks=(12,), seed=0)
def test_all_say_the_same(n: int, looks: tuple[int, ...], seed: int) -> None:
    drawn = random.Random(seed)
    before, after = ([drawn.lognormvariate(mu, 0.2) for _ in range(n)] for mu in (3, 2))
    made = evidence(rounds=rounds(before, after), looks=looks)
    verdict, *_ = judge([ExpectationFile("h100", (time_claim(),))], made)
    assert verdict.value is not None and verdict.n is not None
    said = Estimate(verdict.value, verdict.low, verdict.high, verdict.n, verdict.coverage)

    compared = untraced(Member(made, "baseline"), Member(made, "optimized"))
    row = gain(made, "baseline", "optimized")
    (on_page,) = speedups(made)
    base, optimized = ({r.index: r.times_ns[name] for r in made.rounds} for name in ("baseline", "optimized"))
    captured = speedups_of(base, optimized, looks)
    assert compared is not None and row is not None and captured is not None
    assert (compared.ratio, row.ratio, on_page.ratio, median_interval(captured.mean, looks)) == (said,) * 4
