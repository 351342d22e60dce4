"""Every metric on a small analysis, with the number worked out by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest

from aisp_trace.analyze.result import Analysis
from aisp_trace.cli.main import main
from aisp_trace.expectations.metrics.registry import METRICS, TAKES_STAGE, Reading
from aisp_trace.tests.builders.pages import DOCS, anchors
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
            (0, "h2d", "pinned", "device", None, 0, "<4KiB", 10, 3000, 100, 100, 3e10, 3e10, False, 5e10, "x", 0.6),
            (0, "h2d", "pinned", "device", None, 0, "4-64KiB", 10, 1000, 100, 300, 1e10, 1e10, False, 5e10, "x", 0.2),
            (0, "d2h", "device", "pageable", 0, None, "<4KiB", 10, 0, 0, 0, 1e9, 1e9, True),
        ],
        # Iteration 0 hides half of its copies, 1 none of them, 2 has none; the others are like 0.
        "critical": [
            (0, "iteration/compute/inner", "compute", None, 600_000),
            (0, "iteration/d2h", "d2h", None, 150_000),
            (0, "iteration/d2h", "wait", "launch_api", 50_000),
            (None, "iteration/compute", "host", "allocator", 100_000),
            (None, "iteration", "host", "host_code", 100_000),
        ],
        "iteration_overlap": [(0, i, "copy", "compute", 100, 50, 0 if i == 1 else 50) for i in range(10) if i != 2],
        "iteration_exposed": [(0, i, kind, ns) for i in range(10) for kind, ns in (("copy", 25_000), ("comm", 0))],
        "allocator": [("iteration/compute", 20, 9, 9), ("iteration/compute/inner", 10, 9, 9), ("(none)", 1, 9, 9)],
        "memory": [(0, "device", 1, 1, 9, 9, 0, 700, 0), (1, "device", 1, 1, 9, 9, 0, 900, 0)],
        "stage_memory": [(0, "device", "iteration/compute", 1, 1, 9, 9, 300)],
        "collectives": [(0, "iteration/d2h", "AllReduce", 4, 400, 4, 0, 2, 100, 300)],
        "kernel_counts": [
            (0, None, 50, 9, 20, 9, 5.0, 9, 9),
            (0, "iteration/compute", 10, 9, 10, 9, 1.0, 9, 9),
            (0, "iteration/compute/inner", 40, 9, 10, 9, 4.0, 9, 9),
        ],
        "counters": [
            # device, stage, metric, ns, percent_ns, percent, nbytes, trust
            (0, None, "hbm_read", 100, 2000.0, 20.0, 5000, "ok"),
            (1, None, "hbm_read", 300, 3000.0, 10.0, 1000, "ok"),
            (0, None, "hbm_write", 100, 100.0, 1.0, 10, "partial"),
            (0, "iteration/compute", "hbm_read", 50, 2000.0, 40.0, 4000, "ok"),
            (0, None, "tensor", 100, 5000.0, 50.0, None, "ok"),
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
        ("stage.busy_share", "copy", "h2d", 20 / 35),
        ("stage.busy_share", "compute", "compute", 1.0),  # nested stages included
        ("stage.busy_share", "all", "d2h", 15 / 85),  # its idle time has no part
        ("idle.share", "all", None, 0.15),
        ("critical.share", "compute", None, 0.6),
        ("critical.share", "copy", None, 0.15),
        ("critical.share", "host", None, 0.2),
        ("critical.share", "launch_api", None, 0.05),
        ("critical.share", "all", "compute", 0.7),
        ("critical.share", "host", "compute/inner", 0.0),
        ("idle.share", "launch_api", None, 0.05),
        ("idle.share", "launch_api", "compute", 0.0),
        ("allocator.stall_share", None, None, 0.1),
        ("allocator.stall_share", None, "compute", 10 / 60),  # of the stage
        ("exposed.share", "copy", None, 0.25),
        ("exposed.share", "copy", "h2d", 0.1),
        ("exposed.share", "comm", None, 0.0),
        ("bandwidth.gb_per_s", "h2d", None, 4000 / 200),
        ("bandwidth.peak_share", "h2d", None, (0.6 * 100 + 0.2 * 300) / 400),  # over the unions
        ("stage.share", "copy", "d2h", 0.15),
        ("idle.share", "host", None, 0.15),
        ("comm.wait_share", None, None, 0.25),
        ("comm.wait_share", None, "d2h", 0.25),
        ("kernels.count", None, None, 5.0),
        ("kernels.count", None, "h2d", 0.0),
        ("kernels.small_share", None, None, 0.4),
        ("kernels.small_share", None, "compute", 20 / 50),  # nested stages included
        ("allocator.calls", None, None, 3.1),
        ("allocator.calls", None, "compute", 3.0),
        ("memory.peak_bytes", "device", None, 900.0),  # of the fullest device
        ("memory.peak_bytes", "device", "compute", 300.0),
        ("hbm.bytes", "read", None, 600.0),
        ("hbm.bytes", "read", "compute", 400.0),
        ("counter.share", "hbm_read", None, (20 * 100 + 10 * 300) / 400 / 100),
        ("counter.share", "hbm_read", "compute", 0.4),
        ("counter.share", "tensor", None, 0.5),
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
        ("stage.busy_share", "all", "absent", "no stage 'absent'"),
        ("stage.busy_share", "comm", "h2d", "no comm on the device"),
        ("bandwidth.gb_per_s", "d2h", None, "no d2h copies"),
        ("bandwidth.peak_share", "d2d", None, "no d2d copies"),
        ("comm.wait_share", None, "h2d", "no collectives in stage 'h2d'"),
        ("kernels.small_share", None, "h2d", "no kernels in stage 'h2d'"),
        ("allocator.calls", None, "absent", "no stage 'absent'"),
        ("memory.peak_bytes", "pinned", None, "no pinned memory events"),
        ("stage.bytes", None, "h2d", "no bytes that ranges of stage 'h2d' carry"),
        ("hbm.bytes", "both", "compute", "no counter hbm_write in stage 'compute'"),
        ("hbm.model_ratio", None, "compute", "no counter hbm_write in stage 'compute'"),
    ],
)
def test_nothing_to_measure_is_said_and_is_no_number(metric: str, of: str, stage: str | None, words: str) -> None:
    found = read(metric, of, stage)
    assert (found.total, found.absent) == (None, words)


@pytest.mark.parametrize(
    ("metric", "of", "stage", "counter"),
    [
        ("counter.share", "sm_active", None, "sm_active"),
        ("hbm.bytes", "both", "compute", "hbm_read"),
        ("hbm.model_ratio", None, "compute", "hbm_read"),
    ],
)
def test_a_counter_that_was_not_sampled_is_for_another_recording(
    metric: str, of: str | None, stage: str | None, counter: str
) -> None:
    found = read(metric, of, stage, analysis())
    assert (found.total, found.absent, found.unavailable) == (None, "", "")
    assert found.unsampled == f"no counter {counter}: capture with --profile deep"


def said(*, counters: bool, payload: int | None = 8000) -> Analysis:
    """Stage compute says 8,000 bytes; read and written were 4,000 and 2,000."""
    rows = [
        (0, "iteration/compute", m, 50, 2000.0, 40.0, n, "ok") for m, n in (("hbm_read", 4000), ("hbm_write", 2000))
    ]
    stages = [(d, "iteration/compute", 100, 9, 9, 9, 9, 9, payload) for d in (0, 1)]  # on two devices, said once
    return analysis(tables={"counters": rows if counters else [], "stages": stages})


def test_bytes_that_ranges_say_are_counted_once_and_held_against_the_counters() -> None:
    assert read("stage.bytes", None, "compute", said(counters=True)).total == pytest.approx(800.0)
    assert read("hbm.model_ratio", None, "compute", said(counters=True)).total == pytest.approx(6000 / 8000)
    silent = said(counters=True, payload=None)
    assert read("hbm.model_ratio", None, "compute", silent).absent == "no bytes that ranges of stage 'compute' carry"
    assert read("hbm.model_ratio", None, "compute", said(counters=True, payload=0)).absent.startswith("no bytes")


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


@pytest.mark.parametrize(
    ("metric", "of", "words"),
    [
        ("hbm.bytes", "both", "counter hbm_write is partial"),
        ("counter.share", "hbm_write", "counter hbm_write is partial"),
    ],
)
def test_counters_that_are_not_trusted_are_unavailable(metric: str, of: str, words: str) -> None:
    found = read(metric, of)
    assert found.total is None
    assert words in found.unavailable


def test_collectives_without_their_other_ranks_have_no_waiting_time() -> None:
    found = read(
        "comm.wait_share", sample=analysis(tables={"collectives": [(0, "x", "AllReduce", 4, 400, 3, 0, 2, 1, 1)]})
    )
    assert (found.total, found.unavailable[:13]) == (None, "1 collectives")


def test_a_share_of_the_peak_does_not_speak_for_copies_without_one() -> None:
    rows = [
        (0, "h2d", "pinned", "device", None, 0, "<4KiB", 1, 500, 10, 10, 1e9, 1e9, False, 1e9, "x", 0.9),
        (0, "h2d", "pageable", "device", None, 0, "<4KiB", 1, 500, 10, 10, 1e9, 1e9, True),
    ]
    found = read("bandwidth.peak_share", "h2d", sample=analysis(tables={"bandwidth": rows}))
    assert found.total is None
    assert found.unavailable.startswith("50% of the h2d bytes were copied without a known peak")


def test_whole_device_overlap_and_exposure_have_one_value_an_iteration() -> None:
    assert read("overlap.hidden", "copy|compute").per_iteration == (
        0.5,
        0.0,
        *(0.5,) * 7,
    )  # none where nothing is copied
    assert read("overlap.efficiency", "copy|compute").per_iteration == (1.0, 0.0, *(1.0,) * 7)
    assert read("exposed.share", "copy").per_iteration == (0.25,) * 10
    assert read("overlap.hidden", "copy|compute", "h2d").per_iteration is None


def test_the_ledger_gives_one_value_an_iteration() -> None:
    #                 iteration 0 has no stall, 1 has 30 of 100; 5 ns lie outside iterations
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
    # Counts and efficiency hold on every machine, times and shares of time on one; so do the bytes a driver hands out.
    own_machine = name == "memory.peak_bytes"
    everywhere = (metric.counted and not own_machine) or name == "overlap.efficiency"
    assert metric.machine_independent == everywhere, (
        f"{name}: what is counted exactly holds on every machine, anything else on one; if it is exact say counted=True, else "
        "machine_independent=False; an exception is named here with its reason"
    )
    by_the_device = name == "stage.busy_share"  # recording slows the host down, not the kernels
    assert ("time" in metric.trust) != (metric.machine_independent or own_machine or by_the_device), (
        f"{name}: what holds on one machine alone is a time or a share of it and rests on trust in 'time'; the rest does not"
    )
    page, _, anchor = metric.defined_in.partition("#")
    text = (DOCS / "definitions" / page).read_text(encoding="utf-8")
    assert not anchor or anchor in anchors(text)


def test_the_table_of_the_documentation_is_the_registry() -> None:
    text = (DOCS / "verdicts.md").read_text(encoding="utf-8").partition("## Reference")[2].partition("\n`check JOB`")[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| `")]
    said = {}
    for names, of, stage, _, everywhere in rows:
        for name in re.findall(r"`([^`]+)`", names):
            said[name] = (bool(of.strip()), stage.strip(), everywhere.strip())
    held = {
        name: (bool(metric.choices), TAKES_STAGE[metric.stage], "yes" if metric.machine_independent else "no")
        for name, metric in METRICS.items()
    }
    assert said == held


def test_the_command_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["expectations", "metrics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line and line[0] != " "] == list(METRICS)
    assert all(len(line) <= 80 for line in lines)
    assert main(["expectations", "metrics", "stage.share"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("stage.share fraction; stage: must; judged on one machine")
    assert all(kind in out for kind in METRICS["stage.share"].choices)
    assert main(["expectations", "metrics", "stage.shares"]) == 2
    told = (
        "no metric is called 'stage.shares'; did you mean 'stage.share'? `aisp-trace expectations metrics` lists them"
    )
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("name", METRICS)
def test_no_metric_fails_on_an_empty_analysis(name: str) -> None:
    metric = METRICS[name]
    empty: Any = analysis(kinds={}, stages={}, iterations=0, tables={"windows": []})
    found = metric.read(empty, metric.choices[0] if metric.choices else None, None if metric.stage == "never" else "x")
    assert found.total in (None, 0.0)
    assert found.total is not None or found.absent or found.unsampled


def test_trust_follows_the_stage_and_the_kinds() -> None:
    assert METRICS["overlap.efficiency"].trusts("comm|compute", "h2d") == ("overlap", "projection", "comm")
    assert METRICS["ops.count"].trusts("compute", None) == ("ledger",)
