"""Each verdict and each refusal, from evidence that differs from an honest run in one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from aisp_trace.expectations.judging.commands import Stated
from aisp_trace.expectations.judging.evidence import Evidence, Recorded, RoundTimes, gather
from aisp_trace.expectations.judging.judge import judge
from aisp_trace.expectations.judging.judged import on_bounds
from aisp_trace.expectations.judging.validity import byte_checks
from aisp_trace.expectations.judging.verdict import Verdict, exit_code
from aisp_trace.expectations.model import ANY, Bound, Claim, ExpectationFile, Provenance, RequiredWork, Source
from aisp_trace.tests.judging.build import (
    BASE_MS,
    FAST_MS,
    HIDDEN,
    KINDS,
    MS,
    OUTPUT,
    SERIAL,
    WORK,
    analysis,
    answer,
    evidence,
    mechanism,
    rounds,
    run_folder,
    time_claim,
    variant,
)
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.run import Statement, load_run


def verdicts(claim: Claim, shown: Evidence, key: str = "h100") -> tuple[Verdict, ...]:
    return judge([ExpectationFile(key, (claim,))], shown)


def verdict(claim: Claim, shown: Evidence, key: str = "h100") -> Verdict:
    """The first verdict: of a time claim, the one on the ratio."""
    return verdicts(claim, shown, key)[0]


def with_optimized(**changes: Any) -> Evidence:
    """The default run with another optimized variant; `changes` are fields of its evidence."""
    default = evidence()
    optimized = replace(default.variants["optimized"], **changes)
    return replace(default, variants={**default.variants, "optimized": optimized})


# --- times ------------------------------------------------------------------------------------------------------------


def test_a_time_claim_is_three_verdicts_with_their_working() -> None:
    ratio, base, fast = verdicts(time_claim(), evidence())
    assert [v.status for v in (ratio, base, fast)] == ["met", "met", "met"]
    assert ratio.quantity == "speedup of optimized over baseline"
    assert (ratio.unit, ratio.bound, ratio.n, ratio.sample) == ("ratio", Bound(1.5, 3.0), 8, "rounds")
    assert ratio.value == pytest.approx(2.0, abs=0.01)
    assert ratio.low == pytest.approx(19.95 / 10.01) and ratio.high == pytest.approx(20.05 / 9.99)
    assert ratio.margin == pytest.approx(19.95 / 10.01 - 1.5)
    assert ratio.coverage == 1 - 2 / 2**8
    assert (base.quantity, base.unit, base.bound) == ("time of one iteration of baseline", "ms", Bound(None, 25.0))
    assert (base.value, base.low, base.high) == pytest.approx((20.005, 19.95, 20.05))
    assert base.margin == pytest.approx(25 - 20.05)
    assert fast.variant == "optimized"
    assert ratio.source.run == "pipeline-0"
    assert ratio.expected_on == "h100"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.5, 3.0, "met"),
        (1.5, None, "met"),
        (1.5, 2.0, "met"),  # straddling the upper end is no worse than expected
        (1.2, 1.8, "exceeded"),
        (2.5, 3.0, "missed"),
        (2.0, 3.0, "inconclusive"),
    ],
)
def test_ratio_bands(low: float, high: float | None, expected: str) -> None:
    found = verdict(time_claim(low, high), evidence())
    assert found.status == expected
    assert "the interval 1.993 .. 2.007 " in found.reason


def test_what_a_met_bound_lets_pass_is_said() -> None:
    """The default run is 2.0x, between 1.993 and 2.007."""

    def said(low: float, high: float | None) -> list[str]:
        return list(on_bounds(verdicts(time_claim(low, high), evidence())))

    assert said(1.5, 3.0) == []
    assert said(1.4, 2.0) == [
        "the interval of faster reaches above 2, which fails nothing: only its lower bound can be missed",
        "the bound of faster is wide: 2 was measured, and 1.4 would still meet it",
    ]
    assert said(2.5, 3.0) == [], "missed"


def test_both_sides_slowing_down_is_missed_though_the_ratio_holds() -> None:
    slow = evidence(rounds=rounds([10 * t for t in BASE_MS], [10 * t for t in FAST_MS]))
    assert [v.status for v in verdicts(time_claim(), slow)] == ["met", "missed", "missed"]


def test_throughput_is_required_items_over_time() -> None:
    claim = time_claim(min_items_per_s={"baseline": 60_000, "optimized": 100_000})
    _, _, _, base, fast = verdicts(claim, evidence())
    assert (base.status, base.quantity, base.unit, base.n) == ("missed", "throughput of baseline", "samples/s", 8)
    assert base.value == pytest.approx(1024 / 0.020005)
    assert (base.low, base.high) == pytest.approx((1024 / 0.02005, 1024 / 0.01995))
    assert (fast.status, fast.variant, fast.bound) == ("met", "optimized", Bound(100_000, None))


def test_throughput_needs_items() -> None:
    silent = {name: replace(v, answers=()) for name, v in evidence().variants.items()}
    found = verdicts(time_claim(min_items_per_s={"optimized": 1}), evidence(variants=silent, outputs_compared=False))
    assert (found[-1].status, found[-1].reason) == (
        "inconclusive",
        "optimized does not say how many items it processes",
    )


def test_iterations_that_run_into_each_other_hide_more_than_one_sees() -> None:
    own = [(0, i, "copy", "compute", 100, 100, 20) for i in range(10)]
    shown = with_optimized(
        analysis=analysis(overlap={"copy|compute": (1000, 1000, 800)}, tables={"iteration_overlap": own})
    )
    found = verdict(mechanism(low=0.5), shown)
    assert (found.status, found.value) == ("inconclusive", 0.8)
    assert "the whole window holds at 0.8, but the median iteration does not, at 0.2" in found.reason


def test_an_absolute_bound_inside_the_interval_is_inconclusive() -> None:
    found = verdicts(time_claim(base_ms=20.0), evidence())[1]
    assert found.status == "inconclusive"
    assert found.reason == (
        "the interval 19.95 .. 20.05 straddles the bound <= 20; 8 rounds like these detect 0.4 %, and 5 % takes 8 rounds"
    )


@pytest.mark.parametrize("n", [1, 7])
def test_too_few_rounds(n: int) -> None:
    found = verdict(time_claim(), evidence(rounds=rounds(BASE_MS[:n], FAST_MS[:n])))
    assert found.status == "inconclusive"
    assert found.reason == f"{n} rounds have no 99 % interval; it needs 8: capture with --rounds 8"
    assert (found.low, found.high, found.margin) == (None, None, None)


def test_no_rounds() -> None:
    found = verdicts(time_claim(), evidence(rounds=()))
    assert [v.status for v in found] == ["inconclusive"]
    assert found[0].reason == "the run has no untraced round with both variants"


@pytest.mark.parametrize(
    ("fast_ms", "words"),
    [
        ([8.6, 8.8, 9.0, 9.2, 9.4, 9.6, 9.8, 10.0], "the rounds drift by"),
        ([10.0, 8.0, 10.01, 8.01, 10.0, 10.01, 8.0, 10.0], "fall into two groups"),
        ([10.0, 9.9, 9.8, 9.7, 9.8, 9.9, 10.0, 10.1], "each round resembles the one before it"),
    ],
)
def test_rounds_that_do_not_describe_one_thing(fast_ms: Sequence[float], words: str) -> None:
    """A doubt about the rounds counts where the bound is as near as the rounds are to each other, and not where it is far."""
    shown = evidence(rounds=rounds([20.0] * 8, fast_ms))
    near = 20.0 / max(fast_ms) * (1.01 if "groups" in words else 0.995)
    found = verdict(time_claim(near, None), shown)
    assert found.status == "inconclusive"
    assert words in found.reason
    assert verdict(time_claim(1.1, None), shown).status == "met"


@pytest.mark.parametrize("fast_ms", [[10.0, 5.0, 8.0, 6.0, 4.0, 9.0, 7.0, 5.5], [10.0, 4.0] * 4])
def test_a_wide_spread_is_no_reason_to_refuse(fast_ms: Sequence[float]) -> None:
    found = verdict(time_claim(1.9, None), evidence(rounds=rounds([20.0] * 8, fast_ms)))
    assert found.status == "met"
    assert found.low == pytest.approx(2.0)


def test_a_faster_median_beside_a_slower_mean_is_not_met() -> None:
    """Seven fast iterations and five slow ones: the median is 4 times faster, the mean slower."""
    shown = evidence()
    slow = [10 * t for t in (5 * MS,) * 5]
    times = [
        replace(r, times_ns={"baseline": (20 * MS,) * 12, "optimized": (5 * MS,) * 7 + tuple(slow)})
        for r in shown.rounds
    ]
    shown = evidence(rounds=tuple(times))
    by_mean = verdict(time_claim(3.0, None), shown)
    assert by_mean.status == "missed"
    assert by_mean.value == pytest.approx(20 / (285 / 12))
    by_median = verdict(replace(time_claim(3.0, None), statistic="median"), shown)
    assert by_median.status == "inconclusive"
    assert "by the median" in by_median.reason and "by the mean it is 0.8421" in by_median.reason
    groups = verdict(time_claim(0.5, None), shown)
    assert groups.status == "inconclusive"
    assert "the iterations of optimized fall into two groups, up to 5 ms and from 50 ms (42% of them)" in groups.reason


def test_a_bound_of_another_harness_is_unrecorded() -> None:
    source = Source("measured", "pipeline-0", "accepted")
    old = replace(time_claim(), source=source, provenance=Provenance(commit="c", recorded_utc="2026"))
    found = verdict(old, evidence(harness=2))
    assert found.status == "unrecorded"
    assert "measured by harness 1 and this run by harness 2" in found.reason
    assert verdict(old, evidence(harness=1)).status == "met"
    assert verdict(old, evidence(harness=None)).status == "met", "a pair of commands times itself"
    new = replace(old, provenance=Provenance(commit="c", recorded_utc="2026", harness=2))
    assert verdict(new, evidence(harness=2)).status == "met"
    model = replace(old, source=Source("model", None, "a calculation"), provenance=None)
    assert verdict(model, evidence(harness=2)).status == "met", "a model's bound was measured by none"


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (
            RequiredWork(1024, "samples", 2 * 10**9, 10**6, 10**6),
            "flops 2,000,000,000 then, 1,000,000,000 now; accept a",
        ),
        (RequiredWork(2048, "samples"), "items 2,048 then, 1,024 now"),
        (RequiredWork(1024, "tokens"), "tokens then, samples now"),
        (RequiredWork(1024, "samples", 10**9, 10**6, 2 * 10**6), "output_bytes 2,000,000 then, 1,000,000 now"),
    ],
)
def test_a_bound_of_other_work_is_unrecorded(then: RequiredWork, words: str) -> None:
    """All variants do less alike, which no comparison within the run sees; a miss is no more about this bound than a gain."""
    claims: list[Claim] = [time_claim(), time_claim(3.0, None), mechanism(low=0.5)]
    assert [verdict(claim, evidence()).status for claim in claims] == ["met", "missed", "met"]
    for claim in claims:
        found = verdict(replace(claim, provenance=Provenance(work=then)), evidence())
        assert found.status == "unrecorded" and words in found.reason


def test_a_bound_of_the_same_work_is_judged() -> None:
    for work in (None, RequiredWork(1024, "samples"), RequiredWork(1024, "samples", 10**9, 10**6, 10**6)):
        assert verdict(replace(time_claim(), provenance=Provenance(work=work)), evidence()).status == "met"
    silent = {n: replace(v, answers=()) for n, v in evidence().variants.items()}
    known = replace(time_claim(), provenance=Provenance(work=RequiredWork(1, "texts")))
    commands = evidence(variants=silent, outputs_compared=False)
    assert verdict(known, commands).reason == "the bound was measured on stated work, and this run states none"
    conflict = Stated(None, "stated output differs: 'x' by baseline and 'y' by optimized", "")
    unlike = verdict(known, replace(commands, stated=conflict))
    assert unlike.status == "invalid" and "stated output differs" in unlike.reason, "not unrecorded, which may pass"
    same = Stated(Statement(1, "texts", "x"), "", "")
    assert verdict(known, replace(commands, stated=same)).status == "met"
    assert (
        verdict(known, replace(commands, stated=replace(same, work=Statement(2, "texts", "x")))).status == "unrecorded"
    )


def test_nothing_is_decided_before_or_between_planned_looks() -> None:
    found = verdict(time_claim(1.5, None), evidence(looks=(12, 16, 24, 32, 40)))
    assert found.status == "inconclusive"
    assert "8 rounds are fewer than 12, the first at which they may decide: the budget was too short" in found.reason
    more = evidence(rounds=rounds(BASE_MS + BASE_MS[:4], FAST_MS + FAST_MS[:4]), looks=(12, 16, 24, 32, 40))
    found = verdict(time_claim(1.5, None), more)
    assert (found.status, found.n) == ("met", 12)
    assert found.coverage == pytest.approx(1 - 2 * 0.0023968044)
    found = verdict(time_claim(1.5, None), replace(more, looks=(8,)))
    assert (found.status, found.n) == ("met", 8), "rounds beyond the plan count for nothing"


def test_drift_of_one_side_alone_spoils_its_own_bound_only() -> None:
    warming = [20.0 * 1.01**i for i in range(8)]
    claim = replace(time_claim(1.9, 2.1), max_ms={"baseline": 22.0, "optimized": 11.0})
    found = verdicts(claim, evidence(rounds=rounds(warming, [t / 2 for t in warming])))
    assert [v.status for v in found] == ["met", "inconclusive", "inconclusive"]


def test_rounds_always_in_one_order_do_not_cancel_drift() -> None:
    pair = ("baseline", "optimized")
    one_order = tuple(replace(r, order=pair) for r in evidence().rounds)
    found = verdict(time_claim(), evidence(rounds=one_order))
    assert found.status == "inconclusive"
    assert "baseline ran before optimized in 8 of 8 rounds" in found.reason


def test_rounds_that_lack_a_variant_are_not_counted() -> None:
    half = RoundTimes(8, ("baseline",), {"baseline": (MS,)})
    assert verdict(time_claim(), evidence(rounds=(*evidence().rounds, half))).n == 8


def test_different_timers_have_no_ratio() -> None:
    found = verdict(time_claim(), with_optimized(answers=(answer(timer="perf_counter"),)))
    assert found.status == "invalid"
    assert found.reason == "times were taken with different timers: cuda_event, perf_counter"


# --- validity: the same, right work -----------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"output": replace(OUTPUT, ok=False)}, "the output of optimized in round 3 differs from the float64 reference"),
    ({"output": replace(OUTPUT, error=0.1)}, "error 0.1, tolerance 1e-05"),  # the process lies about `ok`
    ({"output": replace(OUTPUT, error=None)}, "error not finite"),
    ({"output": replace(OUTPUT, error=float("nan"))}, "error nan"),
    ({"output": replace(OUTPUT, poisoned=7)}, "optimized left 7 output elements unwritten in round 3"),
    ({"work": replace(WORK, items=512)}, "required work differs: items is 1024 for baseline in round 0 and 512"),
    ({"work": replace(WORK, unit="tokens")}, "required work differs: unit"),
    ({"work": replace(WORK, flops=1)}, "required work differs: flops"),
    ({"work": replace(WORK, input_bytes=1)}, "required work differs: input_bytes"),
    ({"work": replace(WORK, output_bytes=1)}, "required work differs: output_bytes"),
    (
        {"work": replace(WORK, moved_bytes={"h2d": 1})},
        "optimized predicts other moved bytes in round 3 than in round 0",
    ),
    ({"inputs": ("pipeline", "cuda", "tiny", 0)}, "inputs differ: size is default for baseline in round 0 and tiny"),
    ({"inputs": ("pipeline", "cuda", "default", 1)}, "inputs differ: seed"),
    ({"inputs": ("pipeline", "cpu", "default", 0)}, "inputs differ: device"),
]


@pytest.mark.parametrize("claim", [time_claim(), mechanism(low=0.5)], ids=["time", "mechanism"])
@pytest.mark.parametrize(("change", "words"), WRONG, ids=[w[:50] for _, w in WRONG])
def test_one_wrong_process_among_many_makes_it_invalid(claim: Claim, change: dict[str, Any], words: str) -> None:
    answers = (answer(), answer("round 1"), answer("round 3", **change), answer("the recording"))
    found = verdicts(claim, with_optimized(answers=answers))
    assert [v.status for v in found] == ["invalid"]
    assert words in found[0].reason
    assert found[0].value is None


def test_wrong_outputs_of_another_rung_do_not_spoil_a_claim() -> None:
    default = evidence()
    broken = variant("rung", HIDDEN, answer(output=replace(OUTPUT, ok=False)))
    shown = replace(default, variants={**default.variants, "rung": broken})
    assert {v.status for v in verdicts(time_claim(), shown)} == {"met"}
    assert verdict(mechanism(low=0.5, variant="rung"), shown).status == "invalid"
    assert verdict(mechanism(low=0.5, against="rung", unit="ratio"), shown).status == "invalid"


def test_other_work_of_any_rung_spoils_all_since_nobody_knows_who_was_right() -> None:
    default = evidence()
    other = variant("rung", HIDDEN, answer(work=replace(WORK, items=1)))
    shown = replace(default, variants={**default.variants, "rung": other})
    assert verdict(time_claim(), shown).status == "invalid"


def test_outputs_that_nobody_compared() -> None:
    silent = replace(evidence().variants["optimized"], answers=())
    shown = evidence(variants={**evidence().variants, "optimized": silent})
    assert verdict(mechanism(low=0.5), shown).reason == "no output of optimized was compared with a reference"
    # a command of the user's own answers nothing, and its mechanism can still be judged
    assert verdict(mechanism(low=0.5), replace(shown, outputs_compared=False)).status == "met"


# --- validity: moved bytes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "state", "words"),
    [
        (KINDS, "agrees", ""),
        ({**KINDS, "h2d": (110, 10**7 + 10 * 4096)}, "agrees", ""),  # a library's own page per iteration
        (
            {**KINDS, "h2d": (90, 9 * 10**6)},
            "contradicted",
            "predicts 1,000,000 h2d bytes per iteration, but its trace",
        ),
        ({**KINDS, "h2d": (200, 2 * 10**7)}, "contradicted", "shows 2,000,000 over 10 iterations"),
        ({"compute": (100, 0), "d2h": (100, 10**7)}, "contradicted", "shows 0 over 10"),
        ({**KINDS, "h2d": (100, 0)}, "unavailable", "carry no bytes"),
        ({"graph": (10, 0), "d2h": (100, 10**7)}, "unavailable", "replays CUDA graphs that were recorded whole"),
        ({"graph": (10, 0), "h2d": (200, 2 * 10**7)}, "contradicted", "shows 2,000,000"),  # a graph only adds
    ],
)
def test_predicted_bytes(kinds: dict[str, tuple[int, int]], state: str, words: str) -> None:
    shown = analysis(kinds=kinds, overlap={"copy|compute": (500, 500, 400)})
    check = byte_checks(variant("optimized", shown))[0]
    assert (check.direction, check.state) == ("h2d", state)
    assert words in check.reason
    found = verdict(mechanism(low=0.5), with_optimized(analysis=shown))
    assert found.status == ("invalid" if state == "contradicted" else "met")
    if state == "contradicted":
        assert words in found.reason
        assert verdict(time_claim(), with_optimized(analysis=shown)).status == "invalid"


def test_bytes_without_iterations_are_unavailable() -> None:
    check = byte_checks(variant("optimized", analysis(iterations=0)))[0]
    assert (check.state, check.found) == ("unavailable", None)


def test_no_prediction_and_no_trace_are_not_checked() -> None:
    assert byte_checks(variant("optimized", None)) == ()
    silent = replace(WORK, moved_bytes={"h2d": None})
    assert byte_checks(variant("optimized", HIDDEN, answer(work=silent))) == ()


# --- mechanisms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "expected", "margin"),
    [(0.5, None, "met", 0.3), (0.9, None, "missed", -0.1), (None, 0.9, "met", 0.1), (None, 0.5, "missed", -0.3)],
)
def test_a_total_is_judged_as_it_is(low: float | None, high: float | None, expected: str, margin: float) -> None:
    found = verdict(mechanism(low=low, high=high), evidence(), key=ANY)
    above = 2.5758293 * 0.0136 * 2 * (0.8 * 0.2) ** 0.5
    below = 0.8 - 0.7705397  # Wilson's: there, 2.5758293 * 0.0136 * 2 sqrt(f (1 - f)) is what 0.8 lies above it
    assert (found.status, found.value, found.n, found.sample) == (expected, 0.8, 1, "recordings")
    assert [found.low, found.high] == pytest.approx([0.8 - below, 0.8 + above])
    assert found.margin == pytest.approx(margin - (above if low is None else below))
    assert "from one recording, with the usual spread between starts" in found.reason
    assert found.quantity == "overlap.efficiency copy|compute of optimized"


def test_no_copies_is_neither_zero_nor_one() -> None:
    shown = with_optimized(analysis=analysis(overlap={"copy|compute": (0, 500, 0)}))
    for claim in (mechanism(low=0.0), mechanism(high=1.0)):
        found = verdict(claim, shown)
        assert (found.status, found.value) == ("inconclusive", None)
        assert found.reason == "the trace of optimized has no copy"


def test_fractions_need_ten_iterations_and_counts_need_none() -> None:
    few = analysis(
        kinds={"h2d": (90, 9 * 10**6), "d2h": (90, 9 * 10**6)}, overlap={"copy|compute": (5, 5, 4)}, iterations=9
    )
    shown = with_optimized(analysis=few)
    found = verdict(mechanism(low=0.5), shown)
    assert (found.status, found.value) == ("inconclusive", 0.8)
    assert found.reason == "9 iterations are too few for overlap.efficiency: capture with --iterations 10"
    assert verdict(mechanism("copies.count", of="h2d", low=10, high=10, unit="count"), shown).status == "met"


def test_a_trace_without_iterations_is_one_window() -> None:
    shown = with_optimized(analysis=analysis(overlap={"copy|compute": (5, 5, 4)}, iterations=0))
    found = verdict(mechanism(low=0.5), shown)
    assert (found.status, found.n, found.sample) == ("met", 1, "recordings")


def stalls(shares: Sequence[float], total: int = 1000) -> Evidence:
    """The optimized variant waits for the allocator during this share of each iteration."""
    cells: list[tuple[str, int | None, str, str | None, int]] = []
    for i, share in enumerate(shares):
        cells.append(("compute", i, "idle", "allocator", round(share * total)))
        cells.append(("compute", i, "compute", None, total - round(share * total)))
    n = len(shares)
    kinds = {"h2d": (n, n * 10**6), "d2h": (n, n * 10**6)}
    return with_optimized(analysis=analysis(kinds=kinds, ledger=cells, iterations=n))


@pytest.mark.parametrize(
    ("shares", "expected", "words"),
    [
        ([0.001] * 12, "met", "the interval 0 .. 0.006727 lies inside the bound <= 0.01"),
        ([0.05] * 12, "missed", "lies outside"),
        ([0.0] * 6 + [0.025] * 6, "inconclusive", "straddles"),
        # every tenth iteration pays 40 %: the median is blind to it, the window is not
        ([0.4 if i % 10 == 0 else 0.0 for i in range(20)], "missed", "lies outside"),
    ],
)
def test_shares_are_those_of_the_whole_window(shares: Sequence[float], expected: str, words: str) -> None:
    found = verdict(mechanism("allocator.stall_share", high=0.01), stalls(shares))
    assert found.status == expected
    assert words in found.reason
    assert (found.n, found.sample) == (1, "recordings")
    assert found.low is not None and found.coverage is not None and found.coverage >= 0.99


def test_claims_against_another_variant() -> None:
    claim = mechanism("copies.count", of="h2d", against="baseline", low=1, high=1, unit="ratio")
    found = verdict(claim, evidence())
    assert (found.status, found.value) == ("met", 1.0)
    assert found.quantity == "copies.count h2d of optimized / baseline"
    fewer = with_optimized(analysis=analysis(kinds={**KINDS, "h2d": (10, 10**7)}))
    assert (verdict(claim, fewer).status, verdict(claim, fewer).value) == ("missed", 0.1)
    none = replace(evidence().variants["baseline"], analysis=analysis(kinds=KINDS, stages={}))
    shown = evidence(variants={**evidence().variants, "baseline": none})
    claim = mechanism("stage.instances", stage="h2d", against="baseline", low=1, high=1, unit="ratio")
    assert verdict(claim, shown).reason == "baseline has none to compare with"
    assert verdict(claim, shown).status == "inconclusive"


def test_counters_that_the_recording_did_not_ask_for_leave_their_claim_unrecorded() -> None:
    """It spoils no run that has judged claims; a run that sampled them is judged."""
    claim = mechanism("hbm.bytes", low=500.0, of="both", unit="bytes")
    bare = verdict(claim, evidence())
    assert bare.status == "unrecorded"
    assert bare.reason == "the trace of optimized has no counter hbm_read: capture with --profile deep"
    for percent, status in (("ok", "met"), ("partial", "invalid")):
        rows = [(0, None, m, 9, 9.0, 9.0, 3000, percent) for m in ("hbm_read", "hbm_write")]
        assert verdict(claim, with_optimized(analysis=analysis(tables={"counters": rows}))).status == status
    assert verdict(claim, with_optimized(analysis=analysis(), traced_ns=(90 * MS,))).status == "unrecorded"


def test_without_a_trace_a_mechanism_is_unknown_and_a_time_is_not() -> None:
    shown = with_optimized(analysis=None)
    found = verdict(mechanism(low=0.5), shown)
    assert (found.status, found.reason) == ("inconclusive", "the run holds no trace of optimized")
    assert verdict(time_claim(), shown).status == "met"


@pytest.mark.parametrize(
    ("claim", "metric", "expected"),
    [
        (mechanism(low=0.5), "overlap", "invalid"),
        (mechanism(low=0.5), "bandwidth", "met"),
        (mechanism(low=0.5), "comm", "met"),
        (mechanism("copies.bytes", of="h2d", low=1, unit="bytes"), "bytes", "invalid"),
        (mechanism("stage.instances", stage="h2d", low=1, unit="count"), "projection", "invalid"),
        (mechanism("copies.count", of="h2d", low=1, unit="count"), "time", "met"),
    ],
)
@pytest.mark.parametrize("level", ["partial", "unavailable"])
def test_a_claim_is_invalid_where_its_own_evidence_is_not_trusted(
    claim: Claim, metric: str, expected: str, level: str
) -> None:
    doubtful = analysis(overlap={"copy|compute": (500, 500, 400)}, distrust={metric: (level, "rows were lost")})
    found = verdict(claim, with_optimized(analysis=doubtful))
    assert found.status == expected
    if expected == "invalid":
        assert found.reason == f"trust in {metric} is {level}: rows were lost (trace of optimized)"
    assert verdict(time_claim(), with_optimized(analysis=doubtful)).status == "met"  # judged on untraced rounds


def test_an_analysis_that_does_not_speak_of_trust_is_not_trusted() -> None:
    silent = replace(HIDDEN, trust=HIDDEN.trust.clear())
    found = verdict(mechanism(low=0.5), with_optimized(analysis=silent))
    assert found.status == "invalid"
    assert "says nothing about its trust in overlap" in found.reason


def test_shares_of_time_are_refused_when_tracing_slowed_the_work_down() -> None:
    claim = mechanism("allocator.stall_share", high=0.01)
    shown = stalls([0.0] * 12)
    slow, quick = (replace(shown.variants["optimized"], traced_ns=(t,) * 12) for t in (13 * MS, 11 * MS))
    found = verdict(claim, replace(shown, variants={**shown.variants, "optimized": slow}))
    assert found.status == "invalid"
    assert "tracing slowed it down 1.30 times" in found.reason
    assert verdict(claim, replace(shown, variants={**shown.variants, "optimized": quick})).status == "met"


@pytest.mark.parametrize(("slow", "status", "n"), [(0, "met", 3), (1, "met", 2), (2, "invalid", 0), (3, "invalid", 0)])
def test_few_recordings_that_tracing_slowed_are_left_out_and_named(slow: int, status: str, n: int) -> None:
    claim = mechanism("allocator.stall_share", high=0.01)
    shown = stalls([0.0] * 12)
    one = shown.variants["optimized"]
    made = [Recorded(one.analysis, ((13 if i < slow else 11) * MS,) * 12) for i in range(3)]
    first, *again = made
    changed = replace(one, traced_ns=first.traced_ns, again=tuple(again))
    found = verdict(claim, replace(shown, variants={**shown.variants, "optimized": changed}))
    assert (found.status, found.n if status == "met" else 0) == (status, n)
    assert ("trace 1 of optimized is left out: tracing slowed it down 1.30 times" in found.reason) == (slow == 1)


def test_graphs_recorded_whole_make_counts_invalid() -> None:
    whole = analysis(kinds={"graph": (10, 0), "d2h": (100, 10**7)})
    found = verdict(mechanism("ops.count", of="compute", low=1, unit="count"), with_optimized(analysis=whole))
    assert found.status == "invalid"
    assert "recorded whole" in found.reason


# --- where a claim applies --------------------------------------------------------------------------------------------


def test_a_claim_of_another_machine_is_unrecorded_here() -> None:
    files = [ExpectationFile(key, (time_claim(),)) for key in ("b200", "a100")]
    found = judge(files, evidence())
    assert [v.status for v in found] == ["unrecorded"]
    assert found[0].reason == "recorded for a100, b200; this run was made on h100"
    named = ExpectationFile("cpu_amd_epyc_gate_2core", (time_claim(),))
    told = judge([named], evidence(hardware_key="cpu_amd_epyc"))[0].reason
    assert told == (
        "recorded for cpu_amd_epyc_gate_2core; this run was made on cpu_amd_epyc; set AISP_MACHINE=gate_2core in the environment "
        "of `capture` if it is the same kind of machine"
    )
    mine = ExpectationFile("h100", (time_claim(1.9),))
    assert [v.status for v in judge([*files, mine], evidence())] == ["met", "met", "met"]


def test_a_claim_of_any_machine_is_judged_beside_those_of_this_one() -> None:
    files = [ExpectationFile(ANY, (mechanism(low=0.5),)), ExpectationFile("h100", (time_claim(),))]
    assert [(v.claim, v.expected_on) for v in judge(files, evidence())] == [
        ("copies_hidden", ANY),
        *[("faster", "h100")] * 3,
    ]


def test_times_belong_to_one_size_and_mechanisms_may_hold_for_all() -> None:
    tiny = evidence(size="tiny")
    found = verdicts(time_claim(), tiny)
    assert [(v.status, v.reason) for v in found] == [
        ("unrecorded", "recorded for size default, this run has size tiny")
    ]
    assert verdict(time_claim(size=None), tiny).status == "unrecorded"
    assert verdict(time_claim(size=None), evidence(size=None)).status == "met"
    assert verdict(mechanism(low=0.5), tiny).status == "met"
    assert verdict(mechanism(low=0.5, size="default"), tiny).status == "unrecorded"


def test_claims_of_other_workloads_are_not_mentioned() -> None:
    files = [ExpectationFile(k, (time_claim(workload="other"),)) for k in ("h100", "a100")]
    assert judge(files, evidence()) == ()


@pytest.mark.parametrize("claim", [time_claim(baseline="naive"), mechanism(low=0, variant="naive")])
def test_a_variant_that_was_not_captured(claim: Claim) -> None:
    found = verdict(claim, evidence())
    assert (found.status, found.reason) == (
        "inconclusive",
        "the run has no variant 'naive'; it has baseline, optimized",
    )


# --- what it amounts to -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ("", 3),
        ("met", 0),
        ("met exceeded", 0),
        ("met unrecorded", 0),
        ("unrecorded", 3),
        ("unrecorded unrecorded", 3),
        ("met missed", 1),
        ("missed inconclusive invalid unrecorded", 1),
        ("met inconclusive", 3),
        ("met invalid", 3),
        ("inconclusive unrecorded", 3),
    ],
)
def test_exit_codes(statuses: str, code: int) -> None:
    blank = verdict(time_claim(), evidence())
    assert exit_code([replace(blank, status=s) for s in statuses.split()]) == code


# --- evidence of a run folder -----------------------------------------------------------------------------------------


def test_a_run_folder_becomes_evidence(tmp_path: Any) -> None:
    run = load_run(run_folder(tmp_path / "pipeline-1"))
    shown = gather(run, {"baseline": SERIAL, "optimized": HIDDEN})
    assert (shown.workload, shown.hardware_key, shown.size, shown.notes) == ("pipeline", "h100", "default", ())
    assert shown.rounds == evidence().rounds
    assert [a.where for a in shown.variants["baseline"].answers] == [f"round {i}" for i in range(8)] + ["the recording"]
    own = run.manifest.variants[1].recording
    assert own is not None and own.result is not None
    assert shown.variants["optimized"].traced_ns == own.result.variants[0].iterations_ns
    assert {v.status for v in verdicts(time_claim(), shown)} == {"met"}


def test_processes_that_failed_are_not_believed(tmp_path: Any) -> None:
    run = load_run(run_folder(tmp_path / "pipeline-1"))
    manifest = run.manifest
    failed_round = replace(manifest.rounds[0], exit_code=1)
    recording = manifest.variants[1].recording
    assert recording is not None
    failed_trace = replace(manifest.variants[1], recording=replace(recording, exit_code=139))
    manifest = replace(
        manifest, rounds=(failed_round, *manifest.rounds[1:]), variants=(manifest.variants[0], failed_trace)
    )
    shown = gather(replace(run, manifest=manifest), {"baseline": SERIAL, "optimized": HIDDEN})
    assert [r.index for r in shown.rounds] == [1, 2, 3, 4, 5, 6, 7]
    assert shown.variants["optimized"].analysis is None
    assert shown.notes == (
        "round 0 ended with exit code 1 and is not counted",
        "the recording of optimized ended with exit code 139 and is not believed",
    )


def test_one_process_per_variant_is_still_one_round(tmp_path: Any) -> None:
    run = load_run(run_folder(tmp_path / "pipeline-1"))
    split = []
    for made in run.manifest.rounds:
        for result in made.result.variants:
            split.append(replace(made, result=replace(made.result, variants=(result,))))
    shown = gather(replace(run, manifest=replace(run.manifest, rounds=tuple(split))), {})
    assert shown.rounds == evidence().rounds


@pytest.mark.parametrize(("times", "words"), [((), "no iteration"), ((5, 0), "an iteration of 0 ns")])
def test_times_that_cannot_be_are_refused(tmp_path: Any, times: tuple[int, ...], words: str) -> None:
    run = load_run(run_folder(tmp_path / "pipeline-1"))
    made = run.manifest.rounds[0]
    result = replace(made.result.variants[0], iterations_ns=times)
    broken = replace(made, result=replace(made.result, variants=(result,)))
    with pytest.raises(InputError, match=f"round 0 reports {words} of baseline"):
        gather(replace(run, manifest=replace(run.manifest, rounds=(broken,))), {})
