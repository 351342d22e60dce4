"""Two variants beside their traces: the same work or not, and how much faster untraced, within a run and across two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aisp_trace.expectations.deciding import median_interval
from aisp_trace.expectations.judging.between import Member, different_work, slowdown, untraced, work_doubt
from aisp_trace.expectations.judging.commands import Stated
from aisp_trace.expectations.judging.evidence import Evidence, RoundTimes, VariantEvidence, gather
from aisp_trace.tests.builders import pair
from aisp_trace.traces.run import Statement

MS = pair.MS


def evidence(rounds: int = 8, run_id: str = "pair-1") -> Evidence:
    return replace(gather(pair.run(Path("pair"), rounds=rounds), {}), run_id=run_id)


def slower(found: Evidence, factor: int) -> Evidence:
    """Every time multiplied, as on another occasion."""
    rounds = tuple(
        RoundTimes(r.index, r.order, {n: tuple(factor * t for t in times) for n, times in r.times_ns.items()})
        for r in found.rounds
    )
    return replace(found, run_id="pair-2", rounds=rounds)


def test_one_run_is_paired_round_by_round() -> None:
    found = evidence()
    timed = untraced(Member(found, "baseline"), Member(found, "optimized"))
    assert timed is not None and timed.paired
    ratios = [r.times_ns["baseline"][0] / r.times_ns["optimized"][0] for r in found.rounds]
    assert timed.ratio == median_interval(ratios)
    assert timed.base_ns == pytest.approx(10 * MS, rel=1e-3)


def test_two_runs_divide_the_ends_of_their_intervals() -> None:
    """The ratio of two medians is inside [a/d, b/c] unless one interval misses: twice 1/128 at most, with 8 rounds each."""
    first = evidence()
    timed = untraced(Member(first, "baseline"), Member(slower(first, 2), "baseline"))
    assert timed is not None and not timed.paired
    times = sorted(r.times_ns["baseline"][0] for r in first.rounds)
    assert timed.ratio.value == 0.5
    assert (timed.ratio.low, timed.ratio.high) == (times[0] / (2 * times[-1]), times[-1] / (2 * times[0]))
    assert timed.ratio.coverage == 1 - 2 * (2 / 2**8)


def test_too_few_rounds_on_one_side_leave_no_interval() -> None:
    timed = untraced(Member(evidence(), "baseline"), Member(evidence(3, "pair-2"), "baseline"))
    assert timed is not None
    assert (timed.ratio.low, timed.ratio.high, timed.ratio.coverage) == (None, None, None)


def test_without_rounds_there_is_no_untraced_speedup() -> None:
    empty = replace(evidence(), rounds=())
    assert untraced(Member(empty, "baseline"), Member(empty, "optimized")) is None
    assert untraced(Member(evidence(), "baseline"), Member(empty, "baseline")) is None
    assert slowdown(Member(empty, "baseline")) is None


def test_slowdown_is_the_traced_iteration_over_the_untraced_one() -> None:
    assert slowdown(Member(evidence(), "baseline")) == pytest.approx(1.1, rel=1e-3)  # 11 ms traced, 10 ms untraced
    assert slowdown(Member(evidence(), "optimized")) == pytest.approx(2.2, rel=1e-3)


def test_equal_work_has_no_objection_within_a_run_and_across_two() -> None:
    one, other = evidence(), evidence(run_id="pair-2")
    for second in (Member(one, "optimized"), Member(other, "baseline")):
        assert different_work(Member(one, "baseline"), second) == ()
        assert work_doubt(Member(one, "baseline"), second) == ""


def changed(found: Evidence, name: str, **fields: object) -> Evidence:
    """`found` in which every answer of variant `name` says something else."""
    variant = found.variants[name]
    answers = []
    for answer in variant.answers:
        work = {k: v for k, v in fields.items() if hasattr(answer.work, k)}
        rest = {k: v for k, v in fields.items() if k not in work}
        answers.append(replace(answer, work=replace(answer.work, **work), **rest))  # type: ignore[arg-type]
    other = VariantEvidence(variant.name, tuple(answers), variant.analysis, variant.traced_ns)
    return replace(found, run_id="pair-2", variants={**found.variants, name: other})


def test_all_that_differs_between_two_runs_is_one_sentence() -> None:
    first = evidence()
    second = changed(changed(first, "baseline", items=2, flops=3), "optimized", items=2, flops=3)
    (sentence,) = different_work(Member(first, "baseline"), Member(second, "baseline"))
    assert (
        sentence
        == "required work differs: items is 1 and 2, flops is 1 and 3 for baseline of pair-1 and baseline of pair-2"
    )


def test_another_device_does_the_same_work_but_another_seed_does_not() -> None:
    first = evidence()

    def with_inputs(*inputs: object) -> Evidence:
        return changed(changed(first, "baseline", inputs=inputs), "optimized", inputs=inputs)

    base = Member(first, "baseline")
    assert different_work(base, Member(with_inputs("pair", "cpu", "tiny", 0), "baseline")) == ()
    (sentence,) = different_work(base, Member(with_inputs("pair", "cuda", "tiny", 7), "baseline"))
    assert sentence.startswith("inputs differ: seed is 0 and 7 for baseline of pair-1")


def test_within_a_run_a_variant_that_does_less_is_found() -> None:
    torn = changed(evidence(), "optimized", items=2)
    (sentence,) = different_work(Member(torn, "baseline"), Member(torn, "optimized"))
    assert sentence.startswith("required work differs: items is 1 for baseline in round 0 and 2 for optimized")


def test_a_wrong_output_of_one_run_is_named_with_its_run() -> None:
    first = evidence()
    wrong = replace(first.variants["optimized"].answers[0].output, error=0.5, ok=False)
    torn = changed(first, "optimized", output=wrong)
    (sentence,) = different_work(Member(first, "optimized"), Member(torn, "optimized"))
    assert "the output of optimized in round 0 differs from the float64 reference" in sentence
    assert sentence.endswith("(run pair-2)")


def test_other_timers_and_other_workloads_are_no_ratio() -> None:
    torn = changed(evidence(), "optimized", timer="perf_counter")
    assert different_work(Member(torn, "baseline"), Member(torn, "optimized")) == (
        "times were taken with different timers: cuda_event, perf_counter",
    )
    other = replace(evidence(), run_id="pair-2", workload="another")
    assert "pair and another are different workloads" in different_work(
        Member(evidence(), "baseline"), Member(other, "baseline")
    )


def test_a_command_of_the_users_own_says_nothing_about_its_work() -> None:
    mute = replace(evidence(), outputs_compared=False)
    doubt = work_doubt(Member(mute, "baseline"), Member(mute, "optimized"))
    assert doubt.startswith("nothing says what work baseline of pair-1 did")
    assert "only you can know" in work_doubt(None, Member(mute, "optimized"))


def test_commands_are_held_against_what_they_state() -> None:
    def pair_of(run_id: str, items: int) -> Evidence:
        mute = replace(evidence(run_id=run_id), outputs_compared=False)
        silent = {n: replace(v, answers=()) for n, v in mute.variants.items()}
        return replace(mute, variants=silent, stated=Stated(Statement(items, "rows", "abc"), "", ""))

    one, other, less = pair_of("pair-1", 100), pair_of("pair-2", 100), pair_of("pair-3", 50)
    base = Member(one, "baseline")
    assert different_work(base, Member(other, "baseline")) == () and work_doubt(base, Member(other, "baseline")) == ""
    assert different_work(base, Member(less, "baseline")) == (
        "stated work differs: 100 rows, output abc by pair-1 and 50 rows, output abc by pair-3",
    )
    unsure = replace(one, stated=Stated(None, "", "the commands state no work"))
    assert work_doubt(Member(unsure, "baseline"), base) == "the commands state no work"


def test_whole_processes_are_not_divided_by_iterations() -> None:
    whole = replace(evidence(), timed="whole process")
    both = untraced(Member(whole, "baseline"), Member(whole, "optimized"))
    assert both is not None and both.timed == "whole process"
    assert untraced(Member(whole, "baseline"), Member(evidence(run_id="pair-2"), "baseline")) is None
    assert slowdown(Member(whole, "baseline")) is None
