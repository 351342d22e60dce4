"""What is said of a loop that waits for its data: the bound of what can be gained, workers that could keep up, bunched batches,
and words that fit a machine without a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.analyze.attribution.window import STEADY
from aisp_trace.analyze.findings.find import find
from aisp_trace.analyze.findings.finding import Finding
from aisp_trace.analyze.findings.first_lines import steady_sentences, where_sentences
from aisp_trace.analyze.result import Analysis
from aisp_trace.analyze.steady import Instance, Steady, in_bunches
from aisp_trace.cli.main import main
from aisp_trace.report.stage_rows import COLUMNS, legend
from aisp_trace.report.terminal.analysis import _counted, print_analysis
from aisp_trace.report.terminal.details import print_device_details
from aisp_trace.tests.judging.build import analysis
from aisp_trace.traces.phases import PHASES

US = 1_000
WINDOW = 1_000_000
HOST = [(0, "host", "host", WINDOW, 0, 0)]
GPU = [(0, "GPU", "gpu", WINDOW, 0, 0)]


def loop(
    waiting: int,
    count: int = 5,
    load: tuple[int, int] | None = None,
    devices: Any = HOST,
    domain: str = PHASES,
    path: str = "load",
) -> Analysis:
    """A window of 1 ms with `count` iterations that waits so long for data; `load`: (batches, ns of all), in stage `path`."""
    cells = [("step/data", 0, "idle", "host_code", waiting), ("step/forward", 0, "compute", None, WINDOW - waiting)]
    stages = [] if load is None else [(None, path, load[0], load[1], None, 0, 0, None)]
    tables = {"devices": devices, "stages": stages}
    made = analysis(ledger=cells, iterations=count, tables=tables)
    return replace(made, choices=replace(made.choices, window=STEADY, domain=domain))


def waiting_for_data(shown: Analysis) -> Finding:
    (found,) = (one for one in find(shown) if one.rule == "data_loading")
    return found


@pytest.mark.parametrize(("waiting", "ratio"), [(500_000, "2.00x"), (100_000, "1.11x"), (900_000, "10.00x")])
def test_the_gain_is_at_most_the_window_without_the_waiting(waiting: int, ratio: str) -> None:
    found = waiting_for_data(loop(waiting))
    assert (
        f"if they were always ready and the rest took as long as here, an iteration would be at most {ratio} as fast"
        in found.evidence
    )
    assert "worker" not in found.evidence, "nothing says how long a batch takes to make"
    assert found.saving_at_most_ns == waiting


def test_without_iterations_the_window_is_meant() -> None:
    assert "the window would be at most 2.00x" in waiting_for_data(loop(500_000, count=0)).evidence
    made = loop(500_000, load=(5, 500_000))
    whole = replace(made, choices=replace(made.choices, window=None))
    said = waiting_for_data(whole).evidence
    assert "the window would be at most" in said and "worker" not in said, "start-up is in it"


@pytest.mark.parametrize(
    ("load", "words"),
    [
        # 5 iterations in 1 ms, half of it waiting: the rest of an iteration is 100 us
        ((5, 505_000), "A batch takes 101 us to make, the rest of an iteration 100 us"),
        ((5, 505_000), "so 2 workers could keep up"),
        ((7, 7 * 950_000), "so 10 workers could keep up"),
    ],
)
def test_workers_keep_up_that_make_a_batch_in_the_rest_of_an_iteration(load: tuple[int, int], words: str) -> None:
    said = waiting_for_data(loop(500_000, load=load)).said(several=False)
    assert words in said and "each on a core of its own" in said


def test_workers_that_could_keep_up_and_do_not_are_no_remedy() -> None:
    """`load` by itself is of other processes: those are workers. Within the loop, one worker more is the remedy."""
    said = waiting_for_data(loop(500_000, load=(5, 500_000))).said(several=False)
    assert "Workers make the batches already, in 100 us each, and the rest of an iteration takes 100 us" in said
    assert "so one worker could keep up" not in said
    inside = waiting_for_data(loop(500_000, load=(5, 500_000), path="step/data/load")).said(several=False)
    assert "so one worker could keep up" in inside and "already" not in inside


def test_a_stage_of_the_programs_own_called_load_is_no_batch() -> None:
    assert "worker" not in waiting_for_data(loop(500_000, load=(5, 500_000), domain="aisp")).evidence


def test_a_device_is_named_only_where_one_was_recorded() -> None:
    said = {
        name: waiting_for_data(loop(500_000, devices=kind)).said(False) for name, kind in (("host", HOST), ("gpu", GPU))
    }
    assert "The loop waits for its next batch; if" in said["host"] and "device" not in said["host"]
    assert "The device has nothing queued, while batches are prepared; if" in said["gpu"]
    assert list(where_sentences(loop(500_000))) == [
        "host, no device was recorded: at work 50.0 % (compute 50.0 %); otherwise 50.0 % (host_code 50.0 %)"
    ]
    assert "device" not in legend(COLUMNS, "-", host_only=True)
    assert "idle: device time spent waiting for the stage" in legend(COLUMNS, "-")


def steady_of(lengths: Sequence[int]) -> Steady:
    starts = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    instances = [Instance(f"step#{i}", starts[i], starts[i + 1]) for i in range(len(lengths))]
    return Steady(
        path="step", found_by="name", instances=tuple(instances), warm_up=0, why="", others=(), window=(0, starts[-1]), ops=None
    )  # fmt: skip


def bunched(lengths: Sequence[int], stage: str = "step/data") -> Analysis:
    """Iterations of so many us, of which all beyond 10 us is waiting, for data or in another `stage`."""
    cells = [("step/forward", i, "compute", None, 10 * US) for i in range(len(lengths))]
    cells += [(stage, i, "idle", "host_code", (ns - 10) * US) for i, ns in enumerate(lengths)]  # type: ignore[misc]
    steady = steady_of([ns * US for ns in lengths])
    tables: dict[str, Any] = {
        "devices": HOST,
        "stages": [],
        "windows": [(0, 0, sum(lengths) * US)],
        "iterations": [(i, one.start_ns, one.end_ns, one.ns) for i, one in enumerate(steady.steady)],
        "iteration_kinds": [(0, i, "compute", 1, 10 * US, 10 * US, 0) for i in range(len(lengths))],
    }
    made = analysis(ledger=cells, tables=tables)
    return replace(made, steady=steady, choices=replace(made.choices, window=STEADY, domain=PHASES))


def test_batches_in_bunches_are_no_slow_iterations(capsys: pytest.CaptureFixture[str]) -> None:
    """Four workers that finish together: |--- wait ---|C|C|C|C|--- wait ---|C|C|C|C|"""
    shown = bunched([100, 12, 12, 12] * 4)
    first, second = list(steady_sentences(shown))
    assert "16 iterations `step`, 34.0 us on average, 12.0 us at the median" in first
    assert second.startswith("4 of 16 iterations wait long in step/data, the others hardly: batches come in bunches")
    assert [one.rule for one in find(shown)] == ["data_loading"]
    print_device_details(shown, 0)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "an iteration takes 0.034 ms on average, gaps between included, its compute alone 0.010 ms: "
        "hiding all else would make it at most 3.40x" in said
    )


def test_many_long_iterations_are_no_outliers_whatever_they_wait_for() -> None:
    """On a busy machine 18 of 46 iterations were long, and one of them was told as "a slow iteration"."""
    shown = bunched([100, 12, 12, 12] * 4, "step/sync")
    _, second = list(steady_sentences(shown))
    assert second == (
        "4 of 16 iterations take 1.5 times the median or longer, too many to be outliers, so go by the average; the slowest, "
        "step#0, has 70.4 us more idle (host_code) in step/sync than the others"
    )
    assert "slow_iteration" not in {one.rule for one in find(shown)}
    few = bunched([100] + [12] * 15, "step/sync")
    assert "slow_iteration" in {one.rule for one in find(few)}


def test_a_single_late_batch_is_a_slow_iteration() -> None:
    shown = bunched([12] * 15 + [100])
    first, second = list(steady_sentences(shown))
    assert "12.0 us each" in first
    assert second.startswith("slow: step#15 100 us")
    assert "slow_iteration" in {one.rule for one in find(shown)}


@given(st.lists(st.integers(1, 1000), max_size=40))
def test_bunches_are_some_and_never_most(lengths: list[int]) -> None:
    long = [one for one in lengths if one >= 1.5 * sorted(lengths)[(len(lengths) - 1) // 2]]
    assert in_bunches(lengths) == (3 <= len(long) < len(lengths) / 2 and len(long) >= len(lengths) / 10)
    assert not in_bunches([7] * len(lengths))


def test_instants_before_the_first_operation_are_said_in_words() -> None:
    """Gaps stood "at +-181 ms"."""
    assert (_counted(455_000_000), _counted(0)) == ("+455 ms", "+0 ns")
    assert _counted(-181_000_000) == "181 ms before the first operation"


def test_nothing_is_said_of_copies_where_no_device_was_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    print_analysis(loop(500_000))
    out = capsys.readouterr().out
    assert "overlap:" not in out and "host: window 1.00 ms" in out
    print_analysis(loop(500_000, devices=GPU))
    assert "overlap: no copies" in capsys.readouterr().out


def test_predict_says_what_it_lacks_and_where_the_bound_stands(capsys: pytest.CaptureFixture[str]) -> None:
    trace = Path(__file__).resolve().parents[1] / "traces" / "samples" / "cpu_threads_nsys2022.sqlite.xz"
    assert main(["predict", str(trace)]) == 2
    err = capsys.readouterr().err
    assert "no API calls of a GPU were recorded" in err and "the most that its fix can gain" in err
    assert "make the change and time the pair: `aisp-trace capture --baseline CMD --optimized CMD`" in err
