"""Every metric on a small analysis, with the number worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from aisp_trace.analyze.result import Analysis
from aisp_trace.expectations.metrics import METRICS, Reading
from aisp_trace.tests.judging.build import STAGES, TRUSTED, analysis

# One window of 10 iterations, 100 us each; per iteration, in us:
#
#   h2d       |copy 20   |
#   compute              |alloc 10|kernel 50        |
#   d2h                                             |copy 15|launch 5|
LEDGER = [
    cell
    for i in range(10)
    for cell in (
        ("iteration/h2d", i, "h2d", None, 20_000),
        ("iteration/compute", i, "idle", "allocator", 10_000),
        ("iteration/compute/inner", i, "compute", None, 50_000),
        ("iteration/d2h", i, "d2h", None, 15_000),
        ("iteration/d2h", i, "idle", "launch_api", 5_000),
    )
]
KINDS = {"h2d": (20, 4000), "d2h": (10, 1000), "compute": (50, 0)}
OVERLAP = [
    # device, stage, a, b, a_ns, b_ns, both_ns, hidden, efficiency
    (0, None, "copy", "compute", 400, 200, 150, 0.375, 0.75),
    (1, None, "copy", "compute", 100, 800, 90, 0.9, 0.9),
    (0, "iteration/h2d", "copy", "compute", 300, 200, 100, 1 / 3, 0.5),
    (0, None, "comm", "compute", 0, 200, 0, None, None),
]
SAMPLE = analysis(
    kinds=KINDS,
    ledger=LEDGER,
    stages={**STAGES, "iteration/compute/inner": (100, 100)},
    tables={
        "overlap": OVERLAP,
        "stage_kinds": [(0, "iteration/h2d", "h2d", 20, 1, 1, 4000), (0, "iteration/d2h", "d2h", 10, 1, 1, 1000)],
        "exposed": [(0, None, "copy", 250_000), (0, "iteration/h2d", "copy", 100_000), (0, None, "comm", 0)],
        "bandwidth": [
            (0, "h2d", "pinned", "device", None, 0, "<4KiB", 10, 3000, 100, 100, 3e10, 3e10, False),
            (0, "h2d", "pinned", "device", None, 0, "4-64KiB", 10, 1000, 100, 100, 1e10, 1e10, False),
        ],
    },
)


def read(metric: str, of: str | None = None, stage: str | None = None, sample: Analysis = SAMPLE) -> Reading:
    return METRICS[metric].read(sample, of, stage)


@pytest.mark.parametrize(
    ("metric", "of", "stage", "expected"),
    [
        ("overlap.efficiency", "copy|compute", None, (150 + 90) / (200 + 100)),  # both devices, each by its own ideal
        ("overlap.efficiency", "copy|compute", "h2d", 0.5),
        ("overlap.hidden", "copy|compute", None, (150 + 90) / (400 + 100)),
        ("copies.count", "h2d", None, 2.0),
        ("copies.count", "copy", None, 3.0),
        ("copies.count", "p2p", None, 0.0),
        ("copies.bytes", "h2d", None, 400.0),
        ("copies.bytes", "copy", None, 500.0),
        ("copies.bytes", "d2h", "d2h", 100.0),
        ("ops.count", "compute", None, 5.0),
        ("ops.count", "all", None, 8.0),
        ("ops.count", "graph", None, 0.0),
        ("ops.count", "h2d", "h2d", 2.0),
        ("stage.ops", None, "h2d", 10.0),
        ("stage.instances", None, "compute", 10.0),
        ("stage.instances", None, "absent", 0.0),
        ("stage.share", "h2d", "h2d", 0.2),
        ("stage.share", "all", "compute", 0.6),  # nested stages included
        ("stage.share", "idle", "compute", 0.1),
        ("idle.share", "all", None, 0.15),
        ("idle.share", "launch_api", None, 0.05),
        ("idle.share", "launch_api", "compute", 0.0),
        ("allocator.stall_share", None, None, 0.1),
        ("allocator.stall_share", None, "compute", 10 / 60),  # of the stage
        ("exposed.share", "copy", None, 0.25),
        ("exposed.share", "copy", "h2d", 0.1),
        ("exposed.share", "comm", None, 0.0),
        ("bandwidth.gb_per_s", "h2d", None, 4000 / 200),
    ],
)
def test_values(metric: str, of: str | None, stage: str | None, expected: float) -> None:
    found = read(metric, of, stage)
    assert found.total == pytest.approx(expected)
    assert found.iterations == 10
    assert (found.absent, found.unavailable) == ("", "")


@pytest.mark.parametrize(
    ("metric", "of", "stage", "words"),
    [
        ("overlap.efficiency", "comm|compute", None, "no comm"),
        ("overlap.efficiency", "copy|compute", "d2h", "no copy in stage 'd2h'"),
        ("overlap.hidden", "d2h|compute", None, "no d2h"),
        ("copies.bytes", "h2d", "absent", "no stage 'absent'"),
        ("stage.ops", None, "absent", "no stage 'absent'"),
        ("stage.share", "all", "absent", "no stage 'absent'"),
        ("bandwidth.gb_per_s", "d2h", None, "no d2h copies"),
    ],
)
def test_nothing_to_measure_is_said_and_is_no_number(metric: str, of: str, stage: str | None, words: str) -> None:
    found = read(metric, of, stage)
    assert (found.total, found.absent) == (None, words)


def test_where_copies_and_compute_share_no_device_nothing_can_overlap() -> None:
    rows = [(0, None, "copy", "compute", 5, 0, 0, 0.0, None), (1, None, "copy", "compute", 0, 5, 0, None, None)]
    found = read("overlap.efficiency", "copy|compute", sample=analysis(tables={"overlap": rows}))
    assert (found.total, found.absent) == (None, "no device with both copy and compute")


def test_graphs_recorded_whole_hide_what_is_counted() -> None:
    sample = analysis(kinds={"graph": (3, 0), "h2d": (10, 100)})
    for metric, of, stage in (
        ("copies.bytes", "h2d", None),
        ("ops.count", "compute", None),
        ("stage.ops", None, "h2d"),
    ):
        found = read(metric, of, stage, sample)
        assert found.total is None
        assert found.unavailable == "3 CUDA graphs were recorded whole; record them node by node"
    assert read("ops.count", "graph", None, sample).total == pytest.approx(0.3)


def test_copies_without_bytes_are_unavailable_not_zero() -> None:
    found = read("copies.bytes", "h2d", sample=analysis(kinds={"h2d": (10, 0)}))
    assert (found.total, found.unavailable) == (None, "the h2d operations of the trace carry no bytes")


def test_the_ledger_gives_one_value_an_iteration() -> None:
    #                 iteration 0 has no stall, 1 has 30 of 100; 5 ns lie outside of iterations
    ledger = [
        ("a", 0, "compute", None, 100),
        ("a", 1, "compute", None, 70),
        ("a", 1, "idle", "allocator", 30),
        ("(window)", None, "idle", "tail", 5),
    ]
    found = read("allocator.stall_share", sample=analysis(ledger=ledger, iterations=2))
    assert found.per_iteration == (0.0, 0.3)
    assert found.total == pytest.approx(30 / 205)


def test_a_trace_without_iterations_is_counted_whole() -> None:
    found = read("copies.count", "h2d", sample=analysis(kinds={"h2d": (7, 70)}, iterations=0))
    assert (found.total, found.iterations) == (7.0, 0)


def test_a_stage_is_found_on_the_main_thread_and_on_a_worker() -> None:
    stages = {"iteration/h2d": (20, 20), "h2d": (80, 80), "iteration/h2d/h2d": (999, 999)}
    assert read("stage.instances", None, "h2d", analysis(stages=stages)).total == 10.0


def test_instances_are_not_counted_once_per_device() -> None:
    rows = [(0, "h2d", 40, 1, 1, 5, 5, 1), (1, "h2d", 40, 1, 1, 5, 5, 1)]
    assert read("stage.instances", None, "h2d", analysis(tables={"stages": rows})).total == 4.0


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_a_claim_needs_to_know(name: str) -> None:
    metric = METRICS[name]
    assert metric.stage in ("never", "optional", "required")
    assert metric.about and metric.unit
    assert set(metric.trust) <= set(TRUSTED)
    # Counts and efficiency hold on every machine, times and shares of time on one.
    assert metric.machine_independent == (metric.counted or name == "overlap.efficiency")
    assert ("time" in metric.trust) != metric.machine_independent


@pytest.mark.parametrize("name", METRICS)
def test_no_metric_fails_on_an_empty_analysis(name: str) -> None:
    metric = METRICS[name]
    empty: Any = analysis(kinds={}, stages={}, iterations=0, tables={"windows": []})
    found = metric.read(empty, metric.choices[0] if metric.choices else None, None if metric.stage == "never" else "x")
    assert found.total in (None, 0.0)
    assert found.total is not None or found.absent


def test_trust_follows_the_stage_and_the_kinds() -> None:
    assert METRICS["overlap.efficiency"].trusts("comm|compute", "h2d") == ("overlap", "projection", "comm")
    assert METRICS["ops.count"].trusts("compute", None) == ("ledger",)
