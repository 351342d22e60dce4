"""Iterations told from kernels alone: which level of a program repeats, and what is no iteration."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.patterns import Pattern, find_pattern
from aisp_trace.analyze.attribution.steady import Seeking
from aisp_trace.analyze.document import trace_document
from aisp_trace.analyze.result import Analysis
from aisp_trace.report.page.page import render
from aisp_trace.report.terminal.analysis import print_analysis
from aisp_trace.tests.examples import examples
from aisp_trace.tests.oracle.build import Row, build, call, device, op, span
from aisp_trace.traces.errors import UsageError
from aisp_trace.traces.model import Trace

SHOW = Seeking(as_window=True)


def laid_out(names: Iterable[str], waits: dict[str, int] | None = None, lasts: int = 10, **other: object) -> list[Row]:
    """Kernels one after the other, each `lasts` long; before those in `waits` the device idles so long."""
    rows, now = [], 100
    for number, name in enumerate(names, 1):
        now += (waits or {}).get(name, 1)
        rows.append(op("compute", now, now + lasts, number, name=name, **other))
        now += lasts
    return rows


def traced(rows: list[Row], ranges: list[Row] | None = None) -> Trace:
    calls = [call("cudaLaunchKernel", row["start_ns"] - 1, row["start_ns"], row["correlation"]) for row in rows]
    return build(ops=rows, api=calls, ranges=ranges or [], devices=[device(0)])


def pattern(rows: list[Row], marked_by: str | None = None) -> Pattern | None:
    return find_pattern(traced(rows).ops, marked_by)


def told(found: Pattern | None) -> tuple[str, int, int] | None:
    """(mark, ops, iterations)."""
    return None if found is None else (found.mark, found.ops, len(found.start_ns))


def decoder(tokens: int, layers: int = 32) -> list[str]:
    """One row of kernels a token, with what comes once a token before and after the layers."""
    return ["embed", *["norm", "qkv", "attend", "mlp"] * layers, "head", "argmax"] * tokens


def test_the_token_is_the_iteration_and_not_the_layer() -> None:
    found = pattern(laid_out(decoder(12), {"embed": 50}))
    assert told(found) == ("embed", 131, 12)


def test_iterations_begin_where_the_device_waits_longest() -> None:
    assert told(pattern(laid_out(decoder(12), {"argmax": 50}))) == ("argmax", 131, 11)


def test_a_training_step_is_the_iteration_and_not_its_micro_batch() -> None:
    step = ["load", *["forward", "loss", "backward", "add"] * 4, "adam", "zero"] * 20
    assert told(pattern(laid_out(step, {"load": 9}))) == ("load", 19, 20)


def test_a_line_of_a_log_every_tenth_step_is_no_iteration() -> None:
    step = [f"k{i}" for i in range(40)]
    rows = [name for number in range(60) for name in (*step, *(["mean"] if number % 10 == 9 else []))]
    found = pattern(laid_out(rows, {"k0": 30}))
    assert found is not None
    assert told(found) == ("k0", 40, 60)


def test_an_evaluation_between_two_steps_lies_between_iterations() -> None:
    steps, evaluation = ["a", "b", "c", "d"] * 10, ["e"] * 200
    found = pattern(laid_out([*steps, *evaluation, *steps], {"a": 30}, lasts=100))
    assert found is None  # two thirds of the time are the evaluation
    found = pattern(laid_out([*steps, *["e"] * 30, *steps], {"a": 30}, lasts=100))
    assert told(found) == ("a", 4, 20)
    assert found is not None
    usual = 30 + 3 + 4 * 100
    assert (found.end_ns - found.start_ns).tolist() == [usual] * 20


@pytest.mark.parametrize(
    "names",
    [
        ["a", "b", "c"] * 4,  # four are too few
        ["a"] * 500,  # one kernel again and again
        ["a", "b"] * 200,
        [f"k{i}" for i in range(500)],  # nothing twice
        [*["a", "b", "c"] * 10, *(f"k{i}" for i in range(300))],  # a tenth of the time
    ],
)
def test_what_does_not_repeat_has_no_iterations(names: list[str]) -> None:
    assert pattern(laid_out(names)) is None


@given(st.integers(0, 2**32))
@settings(max_examples=examples(50), deadline=None)
def test_kernels_in_no_order_have_no_iterations(seed: int) -> None:
    random = Random(seed)
    assert pattern(laid_out([random.choice("abcdefghijklmnop") for _ in range(random.randint(20, 400))])) is None


@given(st.integers(5, 30), st.integers(1, 12), st.integers(0, 2**32))
@settings(max_examples=examples(100), deadline=None)
def test_iterations_are_found_whatever_lies_before_and_after(count: int, layers: int, seed: int) -> None:
    random = Random(seed)
    each = ["first", *["x", "y", "z"] * layers, "last"]
    aside = len(each) * count // 3
    before, after = ([f"{word}{i}" for i in range(random.randint(0, aside))] for word in ("b", "a"))
    found = pattern(laid_out([*before, *each * count, *after], {"first": 40}))
    assert told(found) == ("first", len(each), count)
    assert found is not None
    assert (found.start_ns[1:] == found.end_ns[:-1]).all()


def test_a_second_stream_and_a_second_device_change_nothing() -> None:
    rows = laid_out(decoder(8, layers=4), {"embed": 50})
    alone = pattern(rows)
    copies = laid_out(["memcpy"] * 20, stream=9)
    other = [row | {"device": 1, "stream": 7} for row in laid_out(["k"] * 30)]
    for number, row in enumerate(many := [*copies, *other], len(rows) + 1):
        row["correlation"] = number
    both = find_pattern(
        build(ops=[*rows, *many], devices=[device(0), device(1)], api=traced(rows).api.drop("call_id").to_dicts()).ops
    )
    assert told(both) == told(alone)


def test_a_cache_that_grows_takes_other_kernels_now_and_then() -> None:
    names = [
        name for token in range(20) for name in ("embed", *["norm", "attend", "mlp"] * 8, *["grow"] * (token % 7 == 6))
    ]
    found = pattern(laid_out(names, {"embed": 20}))
    assert found is not None
    assert (found.mark, len(found.start_ns)) == ("embed", 20)


def shown(some: Trace, window: str | None = None, pattern: str | None = None) -> Analysis:
    return analyze(some, window=window, seeking=Seeking(pattern, as_window=True))


def test_a_trace_without_ranges_is_counted_by_its_steady_iterations() -> None:
    start_up = ["load"] * 7
    some = traced(laid_out([*start_up, *decoder(10, 4)], {"embed": 50, "load": 300}))
    steady = shown(some).steady
    assert steady is not None
    assert (steady.path, steady.found_by, steady.every, len(steady.instances)) == ("embed", "kernels", 19, 10)
    table = shown(some)
    assert table.iterations["iteration"].to_list() == list(range(10))
    assert table.iterations["host_ns"].null_count() == 10
    (window,) = table.windows.select("start_ns", "end_ns").rows()
    assert window == steady.window
    each = table.ledger.group_by("iteration").agg(pl.col("ns").sum()).drop_nulls()
    assert sorted(each["iteration"].to_list()) == list(range(10))
    assert table.ledger["ns"].sum() == window[1] - window[0]


def test_every_face_shows_iterations_without_a_host_time(capsys: pytest.CaptureFixture[str]) -> None:
    some = traced(laid_out(decoder(10, 4), {"embed": 50}))
    analysis = shown(some)
    print_analysis(analysis)
    assert "10 iterations found by kernel pattern (every 19 operations" in " ".join(capsys.readouterr().out.split())
    assert trace_document(analysis)["bounds"][0]["iterations"] == 10
    assert "What is slow" in render(None, [analysis], {analysis.meta.file: some})


def test_iterations_are_called_by_their_numbers() -> None:
    some = traced(laid_out(decoder(10, 4), {"embed": 50}))
    steady = shown(some).steady
    assert steady is not None
    third, fifth = steady.instances[3], steady.instances[5]
    assert third.name == "iteration#3"
    assert shown(some, third.name).windows.select("start_ns", "end_ns").row(0) == (third.start_ns, third.end_ns)
    both = shown(some, "iteration#3:iteration#5").windows.select("start_ns", "end_ns").row(0)
    assert both == (third.start_ns, fifth.end_ns)
    with pytest.raises(UsageError, match="there are 10 iterations, so the last is iteration#9"):
        shown(some, "iteration#10")
    with pytest.raises(UsageError, match="ends before it starts"):
        shown(some, "iteration#5:iteration#3")


def test_a_kernel_may_be_named_that_iterations_begin_with() -> None:
    some = traced(laid_out(decoder(3, 4)))
    assert shown(some).steady is None
    steady = shown(some, pattern="^head$").steady
    assert steady is not None
    assert (steady.path, len(steady.instances)) == ("head", 2)
    with pytest.raises(UsageError, match="matches no range, and 0 operations of the busiest stream"):
        shown(some, pattern="nothing")
    with pytest.raises(UsageError, match="is not a regular expression"):
        shown(some, pattern="(")


def test_ranges_that_repeat_come_before_kernels_that_do() -> None:
    rows = laid_out(decoder(10, 4), {"embed": 50})
    marks = [row["start_ns"] for row in rows if row["name"] == "embed"]
    ranges = [span("work", one - 5, one + 200) for one in marks]
    steady = shown(traced(rows, ranges)).steady
    assert steady is not None
    assert steady.found_by == "repetition"
