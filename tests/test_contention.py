"""What kernels pay for what runs beside them: the table against a plain definition instant by instant, and what is said of it."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.analyze.accounts.contention import ALONE, FEWEST, MOST, SOON, SOON_NS, STEADY
from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.findings.beside import what_overlap_costs
from aisp_trace.analyze.findings.find import find
from aisp_trace.analyze.result import SCHEMAS, Analysis
from aisp_trace.analyze.sources import Asked, find_source
from aisp_trace.cli.main import main
from aisp_trace.tests.examples import examples
from aisp_trace.tests.oracle.build import Row, build, call, device, op, span
from aisp_trace.traces.model import COPY_KINDS, GRID_LIMITS, Trace, grid_code

SAMPLES: Final = Path(__file__).resolve().parents[1] / "traces" / "samples"
COMM_STREAM, COPY_STREAM, SECOND = {"stream": 13}, {"stream": 17}, {"stream": 19}


def traced(ops: Sequence[Row], *ranges: Row) -> Trace:
    """Every op launched on the main thread, 40 ns before the first begins, in order; `ranges` are of the same thread."""
    first = min(row["start_ns"] for row in ops)
    numbered = [row | {"correlation": i + 1} for i, row in enumerate(ops)]
    launched = [row.get("launched", first - 40) for row in ops]
    calls = [call("cudaLaunchKernel", at, at + 1, i + 1) for i, at in enumerate(launched)]
    return build(
        ops=[{k: v for k, v in row.items() if k != "launched"} for row in numbered], api=calls, ranges=list(ranges)
    )


def gemm(start: int, ns: int, **other: Any) -> Row:
    return op("compute", start, start + ns, name="gemm", **({"grid": grid_code(16, 16, 1)} | other))


def alone(count: int = 4, ns: int = 1000, **other: Any) -> list[Row]:
    return [gemm(100_000 + 10_000 * i, ns, **other) for i in range(count)]


def rows(trace: Trace, **asked: Any) -> list[dict[str, Any]]:
    return analyze(trace, **asked).contention.to_dicts()


def test_kernels_beside_communication_are_held_against_the_same_alone() -> None:
    """
    gemm  |--| ... |--|  |---|  |---|
    comm                 |=========|
    """
    trace = traced([*alone(), op("comm", 500_000, 502_900, **COMM_STREAM), gemm(500_100, 1600), gemm(501_700, 1500)])
    whole, own = rows(trace)
    assert (whole["stage"], own["stage"]) == (None, "(none)")
    assert whole | {"stage": own["stage"]} == own
    assert own == {
        "device": 0,
        "stage": "(none)",
        "beside": "comm",
        "kernels": 2,
        "kernel_ns": 3100,
        "beside_ns": 1600 + 1200,
        "compared": 2,
        "elsewhere": 0,
        "compared_ns": 3100,
        "alone_ns": 2000,
        "extra_ns": 1100,
        "slowdown": 1.55,
    }


@pytest.mark.parametrize(
    ("why", "others"),
    [
        ("too few alone", alone(FEWEST - 1)),
        ("another grid", alone(grid=grid_code(16, 17, 1))),
        ("another name", [row | {"name": "other"} for row in alone()]),
        ("no grid recorded", alone(grid=None)),
        ("they vary alone", [gemm(100_000 * (i + 1), 1000 * (1 + i)) for i in range(4)]),
    ],
)
def test_what_cannot_be_compared_is_not(why: str, others: list[Row]) -> None:
    beside = gemm(500_000, 1600) if why != "no grid recorded" else gemm(500_000, 1600, grid=None)
    shown = analyze(traced([*others, op("comm", 500_000, 502_000, **COMM_STREAM), beside]))
    found = shown.contention.row(0, named=True)
    assert (found["kernels"], found["compared"], found["extra_ns"], found["slowdown"]) == (1, 0, 0, None), why
    level, reason = shown.trust.filter(pl.col("metric") == "contention").select("level", "reason").row(0)
    assert (level, "none of 1 kernels" in reason) == ("unavailable", True)


def test_alone_in_another_stage_counts_but_is_in_doubt() -> None:
    ops = [row | {"launched": 10 + i} for i, row in enumerate(alone())]
    ops += [op("comm", 500_000, 502_000, launched=60, **COMM_STREAM), gemm(500_000, 1600, launched=70)]
    shown = analyze(traced(ops, span("forward", 0, 50), span("backward", 55, 90)))
    found = shown.contention.drop_nulls("stage").row(0, named=True)
    assert (found["stage"], found["compared"], found["elsewhere"], found["extra_ns"]) == ("backward", 1, 1, 600)
    level = shown.trust.filter(pl.col("metric") == "contention")["level"].item()
    assert level == "partial"
    here = [gemm(900_000 + 10_000 * i, 1500, launched=80 + i) for i in range(FEWEST)]
    better = analyze(traced([*ops, *here], span("forward", 0, 50), span("backward", 55, 90))).contention
    assert better.drop_nulls("stage")["extra_ns"].to_list() == [100], "those of the same stage are the better measure"


def test_nothing_is_beside_on_one_stream_or_without_kernels() -> None:
    assert rows(traced([*alone(), op("h2d", 400_000, 401_000)])) == []
    assert rows(traced([op("h2d", 0, 1000), op("comm", 0, 1000, **COMM_STREAM)])) == []
    host = build(ops=[op("compute", 0, 100), op("comm", 0, 100, **COMM_STREAM)], devices=[device(0, "host")], api=[])
    assert analyze(host).contention.is_empty()


def test_kernels_that_the_window_cuts_are_left_out() -> None:
    trace = traced([*alone(), op("comm", 500_000, 502_000, **COMM_STREAM), gemm(500_000, 1600)])
    assert analyze(trace, window=(99_000, 501_000)).contention.is_empty()
    assert len(rows(trace, window=(99_000, 501_600))) == 2


# --- the plain definition -------------------------------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn) -> list[Row]:
    found: list[Row] = []
    for kind, streams in (("compute", (7, 19)), ("comm", (13,)), ("h2d", (17,)), ("h2h", (23,))):
        for stream in streams:
            at = 1000
            for _ in range(draw(st.integers(0, 14 if kind == "compute" else 5))):
                at += draw(st.integers(0, 60))
                ns = draw(st.sampled_from((10, 20, 21, 25, 40)) if kind == "compute" else st.integers(0, 70))
                grid = draw(st.sampled_from((1, 1, 2, None))) if kind == "compute" else None
                found.append(op(kind, at, at + ns, stream=stream, name=draw(st.sampled_from("kk")), grid=grid))
                at += ns
    return found


def plainly(ops: Sequence[Row]) -> dict[str, tuple[int, ...]]:
    """(kernels, kernel_ns, beside_ns, compared, compared_ns, alone_ns) of each class, instant by instant."""
    running: dict[int, set[tuple[str, int]]] = defaultdict(set)
    for row in ops:
        what = "copy" if row["kind"] in COPY_KINDS and row["kind"] != "h2h" else row["kind"]
        for t in range(row["start_ns"], row["end_ns"]):
            running[t].add((what, row["stream"]))
    lone: dict[tuple[str, int], list[int]] = defaultdict(list)
    beside: list[tuple[str, Row, int]] = []
    for row in (row for row in ops if row["kind"] == "compute"):
        counts = Counter({"comm": 0, "copy": 0, "compute": 0})
        for t in range(row["start_ns"], row["end_ns"]):
            others = {what for what, stream in running[t] if (what, stream) != ("compute", row["stream"])}
            counts.update(others & counts.keys())
        ns = row["end_ns"] - row["start_ns"]
        if sum(counts.values()) <= ALONE * ns:
            lone[row["name"], row["grid"]].append(ns)
        else:
            most = max(counts.values())
            beside.append((next(name for name in counts if counts[name] == most), row, most))
    out: dict[str, list[int]] = {}
    for what, row, most in beside:
        ns, times = row["end_ns"] - row["start_ns"], sorted(lone.get((row["name"], row["grid"]), []))
        n = len(times)
        known = row["grid"] is not None and n >= FEWEST and times[-(-3 * (n - 1) // 4)] <= STEADY * times[(n - 1) // 4]
        sums = (1, ns, most, known, ns * known, times[(n - 1) // 2] * known if n else 0)
        out[what] = [a + b for a, b in zip(out.get(what, [0] * 6), sums, strict=True)]
    return {what: tuple(sums) for what, sums in out.items()}


@settings(max_examples=examples(15))
@given(worlds(), st.integers(0, 99))
def test_the_table_is_the_plain_definition_and_order_says_nothing(ops: list[Row], seed: int) -> None:
    if not ops:
        return
    columns = ("kernels", "kernel_ns", "beside_ns", "compared", "compared_ns", "alone_ns")
    shuffled = random.Random(seed).sample(ops, len(ops))
    found = [r for r in rows(traced(shuffled)) if r["stage"] is None]
    assert {r["beside"]: tuple(r[c] for c in columns) for r in found} == plainly(ops)
    assert all(r["extra_ns"] == r["compared_ns"] - r["alone_ns"] for r in found)


@settings(max_examples=examples(12))
@given(worlds())
def test_stages_sum_to_the_device(ops: list[Row]) -> None:
    if not ops:
        return
    ops = [row | {"launched": 10 + 3 * i} for i, row in enumerate(ops)]
    middle = 10 + 3 * (len(ops) // 2)
    table = analyze(traced(ops, span("a", 5, middle - 1), span("b", middle - 1, 10 + 3 * len(ops)))).contention
    figures = [name for name, dtype in SCHEMAS["contention"].items() if dtype == pl.Int64]
    whole = table.filter(pl.col("stage").is_null()).sort("beside").select("beside", *figures)
    summed = table.drop_nulls("stage").group_by("beside").agg(pl.col(figures).sum()).sort("beside")
    assert whole.rows() == summed.rows()


# --- kernels that wait for what runs under them ---------------------------------------------------------------------------


def overlap_trust(*ops: Row) -> str:
    return str(analyze(traced(ops)).trust.filter(pl.col("metric") == "overlap")["level"].item())


@pytest.mark.parametrize("kind", ["h2d", "comm"])
def test_a_kernel_that_ends_as_the_copy_beneath_it_does_may_have_waited_for_it(kind: str) -> None:
    copy = op(kind, 1_000, 900_000, nbytes=1, **COPY_STREAM)
    assert overlap_trust(copy, op("compute", 500, 900_000 + SOON_NS)) == "partial"
    assert overlap_trust(copy, op("compute", 500, 900_000 + int(SOON * 899_000))) == "partial"
    assert overlap_trust(copy, op("compute", 500, 900_001 + int(SOON * 899_000))) == "ok"
    assert overlap_trust(copy, op("compute", 1_001, 900_000)) == "ok", "it began later, so others hid it, too"
    assert overlap_trust(copy, op("compute", 500, 899_999)) == "ok"
    hidden = [op(kind, 10**6 * i, 10**6 * i + 899_000, nbytes=1, **COPY_STREAM) for i in (2, 3)]
    assert overlap_trust(copy, op("compute", 500, 900_001), *hidden, op("compute", 10**6, 5 * 10**6)) == "ok", "a third"


def test_only_the_first_kernels_that_end_then_are_looked_at() -> None:
    """Of one stream no more than this many end within so short a time."""
    copy = op("h2d", 1_000, 2_000, nbytes=1, **COPY_STREAM)
    short = [op("compute", 2_000 + i, 2_001 + i, stream=100 + i) for i in range(MOST + 1)]
    assert overlap_trust(copy, *short, op("compute", 900, 2_002)) == "partial"


# --- what is said ---------------------------------------------------------------------------------------------------------


def opened(name: str) -> Analysis:
    return next(iter(find_source(SAMPLES / name).open(Asked(steady=True)))).analysis


def test_two_ranks_pay_for_the_communication_that_they_hide() -> None:
    """Kernels of 128 blocks on 132 processors of which NCCL takes 24: a part of each has to wait for the collective's end."""
    shown = opened("h200x2_ddp.sqlite.xz")
    found = {f.rule: f for f in find(shown)}["contention"]
    row = shown.contention.filter(pl.col("stage").is_null() & (pl.col("device") == found.device)).row(0, named=True)
    assert found.saving_at_most_ns == row["extra_ns"] == row["compared_ns"] - row["alone_ns"] > 2_000_000
    assert 1.4 < row["slowdown"] < 2.0
    assert found.stage == "iteration/backward"
    assert (
        "kernels take 1.46 times as long beside communication as alone: 2.26 ms more, 61.5 % of the 3.67 ms they hide"
        in found.evidence
    )


def test_kernels_that_do_not_suffer_are_said_to_be_as_fast() -> None:
    for ns, said in (
        (1010, "is as fast beside communication"),
        (1200, "takes 1.20 times as long beside communication as alone: 200 ns more"),
    ):
        shown = analyze(traced([*alone(), op("comm", 500_000, 502_000, **COMM_STREAM), gemm(500_000, ns)]))
        (sentence,) = what_overlap_costs(shown)
        assert sentence.startswith(f"1 kernel {said}")


def test_a_comparison_says_what_overlap_costs_each_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    sample = SAMPLES / "h200x2_ddp.sqlite.xz"
    assert main(["compare", str(sample), str(sample)]) == 0
    out = capsys.readouterr().out
    assert out.count("on device 0, 29 kernels take 1.46 times as long beside communication as alone: 2.26 ms more") == 2
    assert main(["compare", str(sample), str(sample), "--json"]) == 0
    for side in json.loads(capsys.readouterr().out)["sides"]:
        assert [(row["device"], row["beside"], row["compared"]) for row in side["contention"]] == [
            (0, "comm", 29),
            (1, "comm", 24),
        ]
    page = tmp_path / "page.html"
    assert main(["report", str(sample), str(sample), "--output", str(page)]) == 0
    assert page.read_text(encoding="utf-8").count("kernels take 1.46 times as long beside communication as alone") >= 2


def test_streams_that_never_ran_alone_are_named_without_a_figure_for_the_slowdown() -> None:
    ops = [gemm(1000, 10_000, launched=10), gemm(1001, 9_998, launched=60, **SECOND)]
    shown = analyze(traced(ops, span("A", 0, 50), span("B", 55, 90)))
    (found,) = find(shown)
    assert (found.rule, found.saving_at_most_ns) == ("contention", 9_998)
    assert "2 kernels of several streams run at once (A and B); none of them was seen alone" in found.evidence


def test_a_slowdown_below_the_least_share_is_silent() -> None:
    shown = analyze(traced([*alone(), op("comm", 500_000, 502_000, **COMM_STREAM), gemm(500_000, 1600)]))
    assert "contention" not in [f.rule for f in find(shown)]
    length = shown.windows["end_ns"][0] - shown.windows["start_ns"][0]
    much = shown.contention.with_columns(pl.lit(length // 20 + 1).alias("extra_ns"))
    ledger = pl.DataFrame([(0, "s", None, "compute", None, length)], schema=SCHEMAS["ledger"], orient="row")
    assert "contention" in [f.rule for f in find(replace(shown, contention=much, ledger=ledger))]


@given(*(st.integers(1, most) for most in GRID_LIMITS), *(st.integers(1, most) for most in GRID_LIMITS))
def test_equal_codes_are_equal_grids(x: int, y: int, z: int, a: int, b: int, c: int) -> None:
    assert (grid_code(x, y, z) == grid_code(a, b, c)) == ((x, y, z) == (a, b, c))
    assert 0 < grid_code(x, y, z) < 2**63
