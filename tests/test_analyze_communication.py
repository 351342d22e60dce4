"""Collectives paired over ranks: planted waits, and everything that must stay unpaired."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import Analysis
from aisp_trace.tests.examples import examples
from aisp_trace.tests.oracle.build import Row, build, op

ALL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"
GATHER = "ncclDevKernel_AllGather_RING_LL"
CAST = "ncclDevKernel_Broadcast_RING_LL"


def rank(number: int, *spans: tuple[int, int], name: str = ALL, **other: Any) -> list[Row]:
    """One device's collectives, launched by a process of its own."""
    place = {"device": number, "pid": number + 1, "stream": 20} | other
    return [op("comm", start, end, name=name, **place) for start, end in spans]


def split(found: Analysis) -> list[tuple[int, int, int, int, int]]:
    """(device, paired, ranks, wait, comm) of each row."""
    return found.collectives.select("device", "paired", "ranks", "comm_wait_ns", "comm_ns").rows()


def trust(found: Analysis) -> str:
    return str(dict(found.trust.select("metric", "level").rows())["comm"])


def test_waiting_for_the_last_rank() -> None:
    """
    rank 0   |0 ~~~~~~ 30 === 50|    |100 == 120|
    rank 1             |30 === 50|   |90 ~ 100 = 120|
    """
    found = analyze(build(ops=rank(0, (0, 50), (100, 120)) + rank(1, (30, 50), (90, 120))))
    assert split(found) == [(0, 2, 2, 30, 40), (1, 2, 2, 10, 40)]
    assert found.collectives["sum_ns"].to_list() == [70, 50]
    assert trust(found) == "ok"


def test_the_ledger_is_not_changed() -> None:
    found = analyze(build(ops=rank(0, (0, 50)) + rank(1, (30, 50))))
    assert found.ledger.select("device", "category", "ns").rows() == [(0, "comm", 50), (1, "comm", 20)]


def test_one_rank_alone_stays_partial() -> None:
    found = analyze(build(ops=rank(0, (0, 50))))
    assert split(found) == [(0, 0, 0, 0, 0)]
    assert trust(found) == "partial"


def test_a_broadcast_is_never_split() -> None:
    """Its root may be done before another rank has begun."""
    found = analyze(build(ops=rank(0, (0, 50), name=CAST) + rank(1, (30, 60), name=CAST)))
    assert split(found) == [(0, 0, 0, 0, 0), (1, 0, 0, 0, 0)]
    assert trust(found) == "partial"


def test_a_broadcast_between_them_does_not_disturb_the_others() -> None:
    ops = rank(0, (0, 50)) + rank(0, (60, 70), name=CAST) + rank(1, (30, 50)) + rank(1, (65, 75), name=CAST)
    found = analyze(build(ops=ops))
    assert split(found) == [(0, 1, 2, 30, 20), (0, 0, 0, 0, 0), (1, 1, 2, 0, 20), (1, 0, 0, 0, 0)]
    assert trust(found) == "partial"


def test_different_sequences_are_different_communicators() -> None:
    found = analyze(build(ops=rank(0, (0, 50)) + rank(1, (30, 50), name=GATHER)))
    assert [row[1] for row in split(found)] == [0, 0]


def test_two_groups_in_one_trace_are_told_apart_by_time() -> None:
    """
    ranks 0, 1   |0 == 20|             |100 == 120|
    ranks 2, 3             |30 == 50|               |130 == 150|
    """
    ops = [row for r in (0, 1) for row in rank(r, (r, 20), (100, 120))]
    ops += [row for r in (2, 3) for row in rank(r, (30 + r, 50), (130, 150))]
    assert split(analyze(build(ops=ops))) == [(0, 2, 2, 1, 39), (1, 2, 2, 0, 39), (2, 2, 2, 1, 37), (3, 2, 2, 0, 37)]


def test_a_rank_that_fits_two_others_which_do_not_fit_each_other_is_left_alone() -> None:
    found = analyze(build(ops=rank(0, (0, 20)) + rank(1, (10, 50)) + rank(2, (40, 60))))
    assert [row[1] for row in split(found)] == [0, 0, 0]


def test_two_equal_streams_of_one_device_cannot_be_told_apart() -> None:
    ops = rank(0, (0, 50)) + rank(0, (10, 50), stream=21) + rank(1, (30, 50))
    assert [row[1] for row in split(analyze(build(ops=ops)))] == [0, 0]


def test_clocks_of_two_hosts_are_not_compared() -> None:
    found = analyze(build(ops=rank(0, (0, 50)) + rank(1, (30, 50), pid=2**24 + 1)))
    assert [row[1] for row in split(found)] == [0, 0]


def test_a_window_counts_its_part_and_keeps_the_pairing() -> None:
    found = analyze(build(ops=rank(0, (0, 50), (100, 120)) + rank(1, (30, 50), (90, 120))), window=(20, 60))
    assert split(found) == [(0, 1, 2, 10, 20), (1, 1, 2, 0, 20)]


def in_doubt(found: Analysis) -> list[int]:
    return found.collectives["in_doubt"].to_list()


def ranks_of(found: Analysis) -> list[int]:
    return found.collectives["ranks"].to_list()


def in_step(groups: list[list[int]], starts: np.ndarray, *, clock: int = 0) -> list[Row]:
    """Collectives of `groups` of ranks; `starts` [rank, collective]. Each group ends 60 us after its own last start, give or take
    the steps of a ring; the clock of rank 0 is `clock` ahead."""
    rows = []
    for group in groups:
        for r in group:
            ends = starts[group].max(axis=0) + 60_000 + 700 * r
            ahead = clock * (r == 0)
            spans = np.stack([starts[r], ends], axis=1) + ahead
            rows += rank(r, *[(int(s), int(e)) for s, e in spans])
    return rows


def varied(ranks: int, collectives: int, spread: int, seed: int = 0) -> np.ndarray:
    """Starts every 500 us, each rank up to `spread` late."""
    random = np.random.default_rng(seed)
    return 500_000 * np.arange(collectives) + random.integers(0, spread, (ranks, collectives))


@pytest.mark.parametrize("clock", [0, 20_000])
@pytest.mark.parametrize(
    "groups", [[[0, 1], [2, 3]], [[0, 2], [1, 3]], [[0, 1, 2, 3]], [[0, 1, 5], [2, 3, 4, 6]], [list(range(8))]]
)
def test_communicators_that_run_in_step_are_told_apart_by_what_ends_follow(groups: list[list[int]], clock: int) -> None:
    """Every collective of one overlaps its like of the other: starts lie at most 58 us apart, and each lasts 60 and more."""
    starts = varied(sum(map(len, groups)), 50, 58_000)
    found = analyze(build(ops=in_step(groups, starts, clock=clock)))
    size = {r: len(group) for group in groups for r in group}
    assert ranks_of(found) == [size[r] for r in sorted(size)]
    assert in_doubt(found) == [0] * len(size)
    assert trust(found) == "ok"
    if clock == 0:
        waits = [int((starts[g].max(axis=0) - starts[r]).sum()) for r in sorted(size) for g in groups if r in g]
        assert found.collectives["comm_wait_ns"].to_list() == waits


def test_ranks_whose_partners_are_elsewhere_are_not_each_others() -> None:
    """Two ranks of one host in step, each in a communicator with a rank of another host, whose trace this is not."""
    found = analyze(build(ops=in_step([[0, 2], [1, 3]], varied(4, 20, 50_000))))
    assert ranks_of(found) == [2] * 4
    alone = [row for row in in_step([[0, 2], [1, 3]], varied(4, 20, 50_000)) if row["device"] < 2]
    found = analyze(build(ops=alone))
    assert ranks_of(found) == [0, 0]
    assert trust(found) == "partial"


def test_a_constant_lateness_may_be_the_clocks_and_is_told_as_doubt() -> None:
    """
    ranks 0, 1   |0 ========== 60|        ten times alike: two communicators, or one and a clock 40 us behind
    ranks 2, 3             |40 ========== 100|
    """
    starts = 500_000 * np.arange(10) + np.array([[0], [0], [40_000], [40_000]])
    found = analyze(build(ops=in_step([[0, 1], [2, 3]], starts)))
    assert ranks_of(found) == [4] * 4
    assert in_doubt(found) == [10] * 4
    reason = found.trust.filter(pl.col("metric") == "comm")["reason"].item()
    assert reason.startswith("40 of 40 collectives may belong to several communicators")
    assert trust(found) == "partial"


def test_where_starts_hardly_differ_it_does_not_matter() -> None:
    found = analyze(build(ops=in_step([[0, 1, 2, 3]], varied(4, 10, 1_000))))
    assert in_doubt(found) == [0] * 4
    assert trust(found) == "ok"


def test_a_few_collectives_are_no_evidence() -> None:
    found = analyze(build(ops=in_step([[0, 1], [2, 3]], varied(4, 4, 50_000))))
    assert ranks_of(found) == [4] * 4
    assert trust(found) == "partial"


@settings(max_examples=examples(60))
@given(
    groups=st.sampled_from([[[0, 1], [2, 3]], [[0, 2, 4], [1, 3, 5]], [[0, 3], [1, 2], [4, 5]], [[0, 1, 2, 3]]]),
    collectives=st.integers(1, 40),
    spread=st.integers(100, 58_000),
    seed=st.integers(0, 999),
)
def test_whoever_is_paired_wrongly_is_in_doubt_or_it_does_not_matter(
    groups: list[list[int]], collectives: int, spread: int, seed: int
) -> None:
    starts = varied(sum(map(len, groups)), collectives, spread, seed)
    found = analyze(build(ops=in_step(groups, starts)))
    size = {r: len(group) for group in groups for r in group}
    if ranks_of(found) == [size[r] for r in sorted(size)]:
        return
    assert all(ranks_of(found)), "all that belong together stay together"
    truth = [int((starts[g].max(axis=0) - starts[r]).sum()) for r in sorted(size) for g in groups if r in g]
    wrong = np.abs(found.collectives["comm_wait_ns"].to_numpy() - truth).sum()
    assert sum(in_doubt(found)) or wrong <= 0.1 * sum(found.collectives["sum_ns"].to_list())
