"""Whether clocks cast doubt on a speedup, and what it was in cycles and joules. Rounds are literals: clock, clock, ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.expectations.judging.clocks import clock_concerns, cycles_ratio, energy_per_item, gpu_states
from aisp_trace.expectations.judging.evidence import RoundTimes, gather
from aisp_trace.expectations.model import Bound
from aisp_trace.tests.judging.build import evidence, run_folder
from aisp_trace.traces.run import GpuState, load_run

BOUND = Bound(2.0, None)


def gpu(mhz: int | None = 1980, *slowdown: str, number: int = 0, mj: int | None = 50_000) -> GpuState:
    clocks = () if mhz is None else (mhz - 15, mhz, mhz)
    power = None if mj is None else mj * 1e6  # twenty nanoseconds are all of the span
    return GpuState(number, 5, clocks, clocks and (2619, 2619, 2619), power, 55, slowdown, mj)


def made(baseline: Sequence[GpuState], optimized: Sequence[GpuState], index: int = 0) -> RoundTimes:
    times = {"baseline": (20, 20), "optimized": (10, 10)}
    return RoundTimes(
        index, ("baseline", "optimized"), times, {"baseline": tuple(baseline), "optimized": tuple(optimized)}
    )


def at(*clocks: tuple[int | None, int | None]) -> list[RoundTimes]:
    """A round for each pair of clocks, in MHz."""
    return [made([gpu(b)], [gpu(o)], i) for i, (b, o) in enumerate(clocks)]


def kinds(rounds: Sequence[RoundTimes], ratios: Sequence[float], bound: Bound = BOUND) -> list[str]:
    return [c.kind for c in clock_concerns(rounds, "baseline", "optimized", ratios, bound)]


SAME = (1980, 1980)
SLOW = (1980, 1700)


# --- doubts -----------------------------------------------------------------------------------------------------------------


def test_one_clock_is_no_doubt() -> None:
    assert kinds(at(*[SAME] * 8), [2.1, 1.9, 2.1, 1.9, 2.1, 1.9, 2.1, 1.9]) == []


def test_clocks_that_differ_by_variant_are_part_of_the_gain() -> None:
    """The baseline runs at 1,400 MHz in every round: dense work at its power cap."""
    rounds = [made([gpu(1400, "power cap")], [gpu(1980)], i) for i in range(8)]
    assert kinds(rounds, [2.1, 1.9] * 4) == []


def test_rounds_below_the_bound_are_those_of_the_low_clock() -> None:
    """
    optimized   1980 1700 1980 1700 1980 1700 1980 1700 MHz
    ratio       2.1  1.8  2.1  1.8  2.1  1.8  2.1  1.8       bound 2
    """
    rounds, ratios = at(*[SAME, SLOW] * 4), [2.1, 1.8] * 4
    assert kinds(rounds, ratios) == ["clocks"]
    (concern,) = clock_concerns(rounds, "baseline", "optimized", ratios, BOUND)
    assert concern.text == (
        "the rounds below 2 are those in which optimized ran at a lower clock (1700 against 1980 MHz), so the clock decides"
    )


def test_a_slow_baseline_lifts_rounds_above_the_bound() -> None:
    rounds, ratios = at(*[SAME, (1700, 1980)] * 4), [1.9, 2.2] * 4
    (concern,) = clock_concerns(rounds, "baseline", "optimized", ratios, BOUND)
    assert concern.text.startswith("the rounds above 2 are those in which baseline ran at a lower clock")


def test_the_upper_end_counts_as_well() -> None:
    assert kinds(at(*[SAME, SLOW] * 4), [2.6, 2.2] * 4, Bound(2.0, 2.5)) == ["clocks"]


@pytest.mark.parametrize(
    ("clocks", "ratios"),
    [
        ([SAME, SLOW] * 4, [2.4, 2.1] * 4),  # the clock moves the result, but never across the bound
        ([SAME, SLOW] * 4, [1.9, 1.9, 2.1, 2.1] * 2),  # across the bound, but not with the clock
        ([SAME, SLOW] * 3 + [SLOW, SLOW], [2.1, 1.8] * 3 + [1.8, 2.1]),  # one round of the low clock is above it
        ([SAME, (1980, 1950)] * 4, [2.1, 1.9] * 4),  # 1.5 % of a clock
        ([SAME, (None, None)] * 4, [2.1, 1.8] * 4),  # nobody knows the clock of those below
        ([(None, None)] * 8, [2.1, 1.8] * 4),
    ],
)
def test_no_doubt_unless_the_result_follows_the_clock(
    clocks: list[tuple[int | None, int | None]], ratios: list[float]
) -> None:
    assert kinds(at(*clocks), ratios) == []


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("thermal", "GPU 0 was slowed down for heat while optimized was timed, in 1 of 8 rounds"),
        ("hardware", "GPU 0 was slowed down by its hardware while optimized was timed, in 1 of 8 rounds"),
    ],
)
def test_heat_and_hardware_are_doubts_in_any_timed_span(why: str, words: str) -> None:
    rounds = [made([gpu()], [gpu(1980, *([why] if i == 3 else []))], i) for i in range(8)]
    (concern,) = clock_concerns(rounds, "baseline", "optimized", [3.0] * 8, BOUND)
    assert (concern.kind, concern.text) == ("slowdown", words)
    assert [c.kind for c in clock_concerns(rounds, "baseline", "third", [3.0] * 8, BOUND)] == []


@pytest.mark.parametrize("why", ["power cap", "idle", "applications' clocks", "sync boost", "display", "other"])
def test_other_slowdowns_are_none(why: str) -> None:
    assert kinds([made([gpu(1980, why)], [gpu(1980, why)], i) for i in range(8)], [2.1, 1.9] * 4) == []


def test_without_states_there_is_nothing_to_say() -> None:
    rounds = list(evidence().rounds)
    ratios = [1.9, 2.1] * 4
    assert kinds(rounds, ratios) == []
    assert cycles_ratio(rounds, "baseline", "optimized", ratios) is None
    assert energy_per_item(rounds, "optimized", 10) is None


# --- cycles and joules --------------------------------------------------------------------------------------------------------


def test_cycles_are_times_at_one_clock() -> None:
    """Twice as fast, with the baseline at three quarters of the clock: 1.5 times fewer cycles."""
    assert cycles_ratio(at((1500, 2000)), "baseline", "optimized", [2.0]) == (1.5,)
    assert cycles_ratio(at((1500, 2000), (1500, None)), "baseline", "optimized", [2.0, 2.0]) is None


def test_a_visible_gpu_that_only_idled_is_none_of_the_work() -> None:
    spare = gpu(345, "idle", number=1, mj=9_000)
    rounds = [made([gpu(1500), spare], [gpu(2000), spare])]
    assert cycles_ratio(rounds, "baseline", "optimized", [2.0]) == (1.5,)
    assert energy_per_item(rounds, "optimized", 10) == 2.5


def test_energy_is_summed_over_gpus_and_divided_by_all_items() -> None:
    """Two iterations of ten items: 50 J + 30 J, then 50 J + 70 J, then 50 J + 50 J; the median round has 100 J."""
    rounds = [made([gpu()], [gpu(), gpu(number=1, mj=mj)], i) for i, mj in enumerate((30_000, 70_000, 50_000))]
    assert energy_per_item(rounds, "optimized", 10) == 5.0


@pytest.mark.parametrize(
    ("states", "items"), [([gpu(mj=None)], 10), ([gpu(), gpu(number=1, mj=None)], 10), ([], 10), ([gpu()], 0)]
)
def test_unknown_energy_is_null(states: list[GpuState], items: int) -> None:
    assert energy_per_item([made([gpu()], states)], "optimized", items) is None


# --- from a run -----------------------------------------------------------------------------------------------------------------


def stated(path: Path, **variant_changes: Any) -> Any:
    """A run whose rounds have a state of both variants."""
    run = load_run(run_folder(path))
    state = {"baseline": (gpu(1500, "power cap"),), "optimized": (gpu(1980),)}
    rounds = [
        replace(
            r,
            gpu_state=state,
            result=replace(r.result, variants=[replace(v, **variant_changes) for v in r.result.variants]),
        )
        for r in run.manifest.rounds
    ]
    return replace(run, manifest=replace(run.manifest, rounds=rounds))


def test_evidence_has_the_states_of_timed_spans(tmp_path: Path) -> None:
    found = gather(stated(tmp_path / "pipeline-1", timed_ns=(0, 100)), {})
    assert [r.gpu_state["optimized"] for r in found.rounds] == [(gpu(1980),)] * 8


def test_of_a_whole_process_only_slowdowns_are_kept(tmp_path: Path) -> None:
    run = stated(tmp_path / "pipeline-1")
    found = gather(run, {})
    (state,) = found.rounds[0].gpu_state["baseline"]
    assert (state.slowdown, state.sm_mhz, state.energy_mj) == (("power cap",), (), None)
    assert gpu_states(run.manifest)[0]["baseline"] == (state,)
