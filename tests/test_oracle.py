"""The analyzer against the definitions written down plainly (`tests.oracle.reference`), on random traces.

Hundreds of them by default, thousands in the nightly set.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import partial
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze as analyze_all
from aisp_trace.analyze.attribution.calls import CLASSES, LAZY_LOAD_NS, classify
from aisp_trace.analyze.attribution.window import WindowSpec
from aisp_trace.analyze.result import Analysis
from aisp_trace.tests.examples import examples
from aisp_trace.tests.oracle.campaigns import seeds
from aisp_trace.tests.oracle.reference import ReferenceResult, call_class, reference
from aisp_trace.tests.oracle.strategies import CALLS, Case, cases, seeded_case
from aisp_trace.traces.errors import UsageError
from aisp_trace.traces.model import Trace, make_trace

analyze = partial(analyze_all, details=False)  # other tests hold the detail tables


def figures(rows: pl.DataFrame) -> dict[str, dict[str, int]]:
    return {r["kind"]: {k: r[k] for k in ("ops", "sum_ns", "union_ns", "nbytes")} for r in rows.iter_rows(named=True)}


def check(case: Case) -> None:
    window = case.window
    if isinstance(window, tuple) and window[1] <= window[0]:
        return
    if case.domain is not None and not (case.trace.ranges["domain"] == case.domain).any():
        with pytest.raises(UsageError, match="no ranges of domain"):
            analyze(case.trace, domain=case.domain)
        return
    expected = reference(
        case.trace, window=window, attribution=case.attribution, domain=case.domain, lazy_load_ns=LAZY_LOAD_NS
    )
    found = analyze(case.trace, window=case.window, attribution=case.attribution, domain=case.domain)
    compare_ledgers(found, expected, window)
    compare_devices(found, expected)
    if window is None:
        compare_stages(found, expected)


def compare_ledgers(found: Analysis, expected: ReferenceResult, window: WindowSpec) -> None:
    cells: dict[int, dict[tuple[str, str, str | None], int]] = defaultdict(lambda: defaultdict(int))
    for row in found.ledger.iter_rows(named=True):
        cells[row["device"]][row["stage"], row["category"], row["cause"]] += row["ns"]
    windows = {r["device"]: (r["start_ns"], r["end_ns"]) for r in found.windows.iter_rows(named=True)}
    for device, ends in windows.items():
        assert expected.windows[device] == ends
        assert dict(cells[device]) == {cell: ns for cell, ns in expected.cells[device].items() if ns}
    # A device without work of its own in a range's window has no ledger; in a window of instants all have one.
    if isinstance(window, tuple):
        assert set(windows) == set(expected.windows)
    for device in set(expected.windows) - set(windows):
        start, end = expected.windows[device]
        own = {stage for (stage, category, _), ns in expected.cells[device].items() if category != "idle" and ns}
        # Of a graph's nodes the cells name the stage of the capture, while the launch says whether they are in the window.
        assert end == start or own <= {"(outside)", "(orphan)", "(ambiguous)"} or expected.captured


def compare_devices(found: Analysis, expected: ReferenceResult) -> None:
    for row in found.devices.iter_rows(named=True):
        device = row["device"]
        truth = expected.devices[device]
        assert {k: row[k] for k in ("ops_span_ns", "busy_ns", "idle_ns")} == {
            k: truth[k] for k in ("ops_span_ns", "busy_ns", "idle_ns")
        }
        assert figures(found.kinds.filter(pl.col("device") == device)) == truth["by_kind"]
        whole = (pl.col("device") == device) & pl.col("stage").is_null()
        both = {f"{r['a']}|{r['b']}": r["both_ns"] for r in found.overlap.filter(whole).iter_rows(named=True)}
        assert {pair: both[pair] for pair in truth["both_ns"]} == truth["both_ns"]
        exposed = {r["kind"]: r["ns"] for r in found.exposed.filter(whole).iter_rows(named=True)}
        assert exposed == truth["exposed_ns"]


def compare_stages(found: Analysis, expected: ReferenceResult) -> None:
    keys = ("instances", "host_ns", "ops", "self_ops", "projected_ns")
    ours = {(r["device"], r["path"]): {k: r[k] for k in keys} for r in found.stages.iter_rows(named=True)}
    assert ours == {key: {k: figure[k] for k in keys} for key, figure in expected.stages.items()}
    for (device, path), figure in expected.stages.items():
        mine = pl.col("device").eq_missing(pl.lit(device)) & (pl.col("path") == path)
        assert figures(found.stage_kinds.filter(mine)) == figure["by_kind"]


@pytest.mark.parametrize("tried", seeds(200, 2000, 100))
def test_seeded_traces(tried: range) -> None:
    for seed in tried:
        case = seeded_case(seed)
        try:
            check(case)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {case}") from error


@pytest.mark.parametrize("tried", seeds(50, 150, 50))
def test_gaps_looked_into_a_few_at_a_time_are_the_same_gaps(tried: range, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aisp_trace.analyze.accounts.ledger.CHUNK", 2)
    for seed in tried:
        check(seeded_case(seed))


@given(cases())
@settings(max_examples=examples(40))
def test_shrinking_traces(case: Case) -> None:
    check(case)


def test_call_names_have_one_class_in_both_tables() -> None:
    words = {"copy": "copy_api", "query": "poll", "kernel": "kernel_query"}
    for name in CALLS:
        ours = CLASSES[classify(name)]
        theirs = call_class(name)
        assert ours == words.get(theirs, theirs), name


TABLES_USED = ("ops", "api", "ranges", "overhead", "osrt", "devices", "events", "syncs", "graph_nodes")


def shuffled(trace: Trace, seed: int) -> Trace:
    """The same trace with the rows of every table in another order, but ops that start together in their own order."""
    rng = np.random.default_rng(seed)
    tables = {}
    for name in TABLES_USED:
        table = trace.table(name)
        if name in ("overhead", "osrt", "devices", "events", "syncs", "graph_nodes"):
            table = table[rng.permutation(len(table))]
        else:
            noise = pl.Series("noise", rng.permutation(len(table)))
            ties = table["start_ns"].is_duplicated()
            table = table.with_columns(noise).filter(~ties).sort("noise").drop("noise").vstack(table.filter(ties))
        tables[name] = table
    return make_trace(trace.meta, **tables)


def shifted(trace: Trace, by: int) -> Trace:
    tables = {}
    for name in TABLES_USED:
        table = trace.table(name)
        times = [c for c in table.columns if c.endswith("_ns")]
        tables[name] = table.with_columns(pl.col(times) + by)
    return make_trace(trace.meta, **tables)


def ledger(analysis: Analysis) -> list[tuple[Any, ...]]:
    summed = analysis.ledger.group_by("device", "stage", "category", "cause").agg(pl.col("ns").sum())
    return sorted(summed.rows(), key=repr)


@pytest.mark.parametrize("tried", seeds(80, 200, 40))
def test_a_time_shift_changes_nothing(tried: range) -> None:
    for seed in tried[::2]:
        case = seeded_case(seed)
        if isinstance(case.window, tuple):
            continue
        moved = analyze(shifted(case.trace, 10**15), window=case.window, attribution=case.attribution)
        still = analyze(case.trace, window=case.window, attribution=case.attribution)
        assert ledger(moved) == ledger(still), seed


@pytest.mark.parametrize("tried", seeds(80, 200, 40))
def test_row_order_changes_nothing(tried: range) -> None:
    for seed in tried[1::2]:
        case = seeded_case(seed)
        if isinstance(case.window, int) or case.trace.devices["type"].is_in(["host"]).any():
            continue  # both name a range by its row
        mixed = analyze(shuffled(case.trace, seed), window=case.window, attribution=case.attribution)
        still = analyze(case.trace, window=case.window, attribution=case.attribution)
        assert ledger(mixed) == ledger(still), seed


@pytest.mark.parametrize("tried", seeds(40, 100, 20))
def test_a_split_stream_changes_nothing(tried: range) -> None:
    """Streams are how ops are ordered, not what they are: without recorded waits the ledger of a device knows none."""
    for seed in tried:
        case = seeded_case(seed)
        tables = {n: case.trace.table(n) for n in ("ops", "api", "ranges", "overhead", "osrt", "devices")}
        whole = make_trace(case.trace.meta, **tables)
        tables["ops"] = whole.ops.with_columns(pl.col("op_id") % 3 + pl.col("stream"))
        split = make_trace(case.trace.meta, **tables)
        window = case.window if not isinstance(case.window, tuple) or case.window[0] < case.window[1] else None
        assert ledger(analyze(split, window=window)) == ledger(analyze(whole, window=window)), seed


def cells_of(trace: Trace, low: int, high: int) -> Counter[tuple[int, str, str, str | None]]:
    """Nanoseconds by (device, stage, category, cause) of a window of instants."""
    cells: Counter[tuple[int, str, str, str | None]] = Counter()
    for device, stage, category, cause, ns in ledger(analyze(trace, window=(low, high))):
        cells[device, stage, category, cause] += ns
    return cells


def check_split(trace: Trace, low: int, middle: int, high: int) -> None:
    """The two windows hold what the whole one holds, device by device and cell by cell."""
    whole, left, right = (cells_of(trace, *ends) for ends in ((low, high), (low, middle), (middle, high)))
    assert left + right == whole


@given(cases(), st.integers(0, 2**32))
@settings(max_examples=examples(30))
def test_two_windows_are_the_whole_one(case: Case, seed: int) -> None:
    check_two_windows(case, seed)


@pytest.mark.nightly
def test_two_windows_are_the_whole_one_in_many_traces() -> None:
    for seed in range(150):
        check_two_windows(seeded_case(seed), seed)


def check_two_windows(case: Case, seed: int) -> None:
    times = case.trace.ops.filter(pl.col("device").is_not_null())
    if times.is_empty():
        return
    first, last = int(times["start_ns"].to_numpy().min()), int(times["end_ns"].to_numpy().max())
    low, middle, high = sorted(Random(seed).sample(range(first - 20, last + 20), 3))
    check_split(case.trace, low, middle, high)
