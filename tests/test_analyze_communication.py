"""Collectives paired over ranks: planted waits, and everything that must stay unpaired."""

from __future__ import annotations

from typing import Any

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import Analysis
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
