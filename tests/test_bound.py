"""Measured time against the busiest kind: figures by hand."""

from __future__ import annotations

import pytest

from aisp_trace.analyze.accounts.bound import Bound, bounds
from aisp_trace.analyze.document import trace_document
from aisp_trace.analyze.result import Analysis
from aisp_trace.report.terminal.details import print_device_details
from aisp_trace.tests.judging.build import analysis

US = 1000


def pipeline(*, opaque: tuple[int, ...] = ()) -> Analysis:
    """Three iterations of 300, 400 and 900 us.

    iteration 0   h2d |--100--|   compute |----200----|     300 / 200
    iteration 1   h2d |--100--|   compute |----200----|     400 / 200
    iteration 2   h2d |------300------|   compute |-200-|   900 / 300
    """
    h2d, compute, whole = (100, 100, 300), (200, 200, 200), (300, 400, 900)
    kinds = [
        (0, i, kind, 1, ns * US, ns * US, 0)
        for i in range(3)
        for kind, ns in (("h2d", h2d[i]), ("graph" if i in opaque else "compute", compute[i]))
    ]
    iterations = [(i, i * 10_000 * US, (i * 10_000 + ns) * US, ns * US) for i, ns in enumerate(whole)]
    return analysis(tables={"iteration_kinds": kinds, "iterations": iterations})


def test_the_busiest_kind_of_each_iteration_bounds_it() -> None:
    assert bounds(pipeline()) == [
        Bound(device=0, iterations=3, kind="compute", bound_ns=200 * US, measured_ns=400 * US, ratio=2.0)
    ]


def test_a_graph_recorded_whole_bounds_nothing() -> None:
    (found,) = bounds(pipeline(opaque=(0, 1)))
    assert (found.iterations, found.kind, found.ratio) == (1, "h2d", 3.0)
    assert bounds(pipeline(opaque=(0, 1, 2))) == []


def test_without_iterations_there_is_no_bound() -> None:
    assert bounds(analysis(iterations=0)) == []
    assert bounds(analysis()) == [], "nor without their details"


def test_it_is_said_in_the_tables_and_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_device_details(pipeline(), 0)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "an iteration takes 0.533 ms on average, its compute alone 0.200 ms: "
        "hiding all else would make it at most 2.67x as fast" in said
    )
    assert trace_document(pipeline())["bounds"] == [
        {
            "device": 0,
            "iterations": 3,
            "kind": "compute",
            "bound_ns": 200 * US,
            "measured_ns": 400 * US,
            "ratio": 2.0,
        }
    ]
