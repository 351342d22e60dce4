"""Siblings whose names differ in numbers alone are one stage: which digits are numbers, and that no sum and no claim changes."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.folding import folded, ranges_called
from aisp_trace.analyze.attribution.stages import find_stages
from aisp_trace.analyze.attribution.window import extent
from aisp_trace.analyze.naming.numbers import LONGEST, shape, shapes
from aisp_trace.analyze.naming.paths import split
from aisp_trace.analyze.result import Analysis
from aisp_trace.cli.main import main
from aisp_trace.expectations.metrics.registry import METRICS
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.examples import sampled
from aisp_trace.tests.oracle.build import build, call, device, op, span
from aisp_trace.tests.oracle.strategies import seeded_case
from aisp_trace.traces.errors import UsageError
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace

SAMPLES = Path(__file__).resolve().parents[1] / "traces" / "samples"

# --- which digits are numbers

FOLD = [
    ("step 12", "step #"),
    ("step_12", "step_#"),
    ("Step12", "Step#"),
    ("ProfilerStep#3", "ProfilerStep#"),
    ("17", "#"),
    ("layer3", "layer#"),
    ("layer.11.attn", "layer.#.attn"),
    ("layers.0.1", "layers.#.#"),
    ("layer_3_attn", "layer_#_attn"),
    ("block[12]", "block[#]"),
    ("epoch 0, step 3", "epoch #, step #"),
    ("batch 3/17", "batch #/#"),
    ("aten::mm, seq = 12, op_id = 3", "aten::mm"),
    ("aten::mm, op_id = 5", "aten::mm"),
    ("AddmmBackward0, seq = 7", "AddmmBackward0"),
    ("FSDP::all_gather (layer 3)", "FSDP::all_gather (layer #)"),
    ("model::block_12", "model::block_#"),
    ("execute_context_3(128)", "execute_context_#(#)"),
    ("cuda:0", "cuda:#"),
    ("lr=0.001", "lr=#"),
    ("lr=1e-05", "lr=#"),
    ("shift -1", "shift #"),
    ("at 0x7f3a10c0", "at #"),
    ("request 3fa9c2d1", "request #"),
    ("request 550e8400-e29b-41d4-a716-446655440000", "request #"),
    ("h2d 3", "h2d #"),
    ("fp16 layer 2", "fp16 layer #"),
]

STAY = [
    *("h2d", "d2h", "p2p", "conv2d", "conv1x1", "int8_gemm", "e4m3", "w4a16", "m16n8k16", "16MB", "1.5ms", "7b", "3d"),
    *("4096x4096", "gemm 4096 x 512", "copy 64 KiB", "copy 1.5 GB", "[[8, 4096], [16]]", "x[8, 4096]", "shape (8, 16)"),
    *("fp16", "bf16", "tf32", "int8", "uint8", "float32", "nf4", "sm90", "L2", "v2", "q8", "H100", "v1.5"),
    *("aten::log2", "aten::_foreach_exp2", "aten::conv2d", "MulBackward0", "measured", "iteration", "", "step #", "#"),
    "deadbeef",
]  # fmt: skip


@pytest.mark.parametrize(("name", "wanted"), FOLD)
def test_numbers_fold(name: str, wanted: str) -> None:
    assert shape(name) == wanted


@pytest.mark.parametrize("name", STAY)
def test_digits_that_are_part_of_a_word_stay(name: str) -> None:
    assert shape(name) == name


NAMES = st.text(alphabet=" abx_.,:=#[]()/-+019eEKB", max_size=24)


@given(NAMES)
def test_a_shape_is_its_own_shape(name: str) -> None:
    assert shape(shape(name)) == shape(name)


@given(NAMES | st.sampled_from([name for name, _ in FOLD] + STAY), st.randoms(use_true_random=False))
def test_the_value_of_a_digit_does_not_matter(name: str, rng: Random) -> None:
    other = "".join(rng.choice("123456789") if c in "123456789" else c for c in name)
    blank = shape("".join("1" if c in "123456789" else c for c in name))
    assert "".join("1" if c in "123456789" else c for c in shape(other)) == blank


KNOWN = st.sampled_from([name for name, _ in FOLD] + STAY)


@given(st.lists(NAMES | KNOWN, max_size=6), st.randoms(use_true_random=False))
def test_many_names_at_once_are_looked_at_like_one_by_one(few: list[str], rng: Random) -> None:
    names = ["".join(rng.choice("123456789") if c in "123456789" else c for c in n) for n in few for _ in range(60)]
    which, known = shapes(names)
    one_by_one = dict.fromkeys(shape(name) for name in names)
    assert len(set(known)) == len(known)
    groups = defaultdict(set)
    for name, found in zip(names, which.tolist(), strict=True):
        assert known[found] == shape(name)
        groups[found].add(name)
    assert set(known) == set(one_by_one)


def test_a_name_that_no_program_made_keeps_its_numbers_and_takes_no_time() -> None:
    hostile = ["1" * 10**6, "1.1" * 10**6, "size [" + "1," * 10**6, "a1" * LONGEST]
    begun = time.process_time()
    assert [shape(name) for name in hostile] == hostile
    assert time.process_time() - begun < 1


# --- siblings


def paths(*ranges: Any) -> dict[str, int]:
    table = analyze(build(ranges=list(ranges))).stages
    return dict(table.select("path", "instances").iter_rows())


def test_siblings_are_one_stage_and_the_only_one_keeps_its_name() -> None:
    """
    step 0             step 1             eval 3
      layer.0 layer.1    layer.0 layer.1    layer.7
    """
    ranges = [span("eval 3", 200, 290), span("layer.7", 210, 220)]
    for i in range(2):
        at = 100 * i
        ranges += [span(f"step {i}", at, at + 90), span("layer.0", at + 10, at + 20), span("layer.1", at + 30, at + 40)]
    assert paths(*ranges) == {"step #": 2, "step #/layer.#": 4, "eval 3": 1, "eval 3/layer.7": 1}


def test_nephews_are_siblings_where_their_parents_fold() -> None:
    ranges = [
        r
        for i in range(3)
        for r in (span(f"step {i}", 100 * i, 100 * i + 90), span(f"a{'b'}{i}", 100 * i + 1, 100 * i + 9))
    ]
    assert paths(*ranges) == {"step #": 3, "step #/ab#": 3}


def test_threads_and_measured_make_no_difference() -> None:
    """Work of a worker, and what lies in `measured`, has the path that it has anywhere else."""
    ranges = [
        span("measured", 0, 100),
        span("chunk 1", 10, 20),
        span("chunk 2", 200, 210),
        span("chunk 3", 10, 20, tid=20, end_tid=20),
    ]
    assert paths(*ranges) == {"chunk #": 3}


def test_different_words_stay_apart() -> None:
    names = ("fp16", "fp32", "conv1d", "conv2d", "gemm 64x64", "gemm 128x64", "aten::log2", "aten::log10")
    assert paths(*(span(n, 10 * i, 10 * i + 5) for i, n in enumerate(names))) == dict.fromkeys(names, 1)


def test_requests_in_flight_side_by_side_nest_in_none_of_their_kind() -> None:
    """request 2 lies within request 1 by chance; both are start/end ranges."""
    ranges = [span(f"request {i}", 10 * i, 100 - 10 * i, style="start_end") for i in range(3)]
    assert paths(*ranges) == {"request #": 3}


# --- nothing else changes


def numbered(seed: int) -> tuple[Trace, Any]:
    """A case of the oracle in which half of the names have a number behind them."""
    case = seeded_case(seed)
    rng = Random(seed)
    rows = case.trace.ranges.sort("range_id").to_dicts()
    names = []
    for row in rows:
        plain = row["name"] in ("measured", "iteration") or rng.random() < 0.3
        names.append(row["name"] if plain else f"{row['name']} {rng.randint(0, 30)}")
    return renamed(case.trace, names), case


def renamed(trace: Trace, names: list[str]) -> Trace:
    words = list(dict.fromkeys(names))
    table = trace.ranges.sort("range_id").with_columns(pl.Series("name", names, dtype=pl.Enum(words)))
    return replace(trace, ranges=table)


def both(trace: Trace, case: Any) -> tuple[Analysis, Analysis, dict[str, str]]:
    """(folded, as recorded, the folded path of each recorded one)."""
    how = {"window": case.window, "attribution": case.attribution}
    found = find_stages(trace, domain=None, end_ns=extent(trace)[1])
    short = folded(found)
    path = {found.paths[a]: short.paths[b] for a, b in zip(found.path_id.tolist(), short.path_id.tolist(), strict=True)}
    return analyze(trace, **how), analyze(trace, **how, fold=False), path


def summed(
    table: pl.DataFrame, path: dict[str, str], keys: list[str], sums: list[str], stage: str = "stage"
) -> list[Any]:
    told = table.with_columns(pl.col(stage).replace(path))
    out = told.group_by(stage, *keys).agg(pl.col(*sums).sum())
    return sorted(out.select(stage, *keys, *sums).rows(), key=str)


@pytest.mark.parametrize("seed", sampled(range(120)))
def test_folded_sums_are_the_sums_of_what_they_fold(seed: int) -> None:
    trace, case = numbered(seed)
    short, whole, path = both(trace, case)
    same = {p: p for p in path.values()}
    ledger = (["device", "iteration", "category", "cause"], ["ns"])
    assert summed(short.ledger, same, *ledger) == summed(whole.ledger, path, *ledger)
    kinds = (["device", "kind"], ["ops", "sum_ns", "nbytes"], "path")
    assert summed(short.stage_kinds, same, *kinds) == summed(whole.stage_kinds, path, *kinds)
    stages = (["device"], ["projected_ns", "ops", "self_ops"], "path")
    busy = [a.stages.filter(pl.col("device").is_not_null()) for a in (short, whole)]
    assert summed(busy[0], same, *stages) == summed(busy[1], path, *stages)
    hosts = [a.stages.unique("path").drop("device") for a in (short, whole)]
    figures = ["instances", "host_ns"]
    assert summed(hosts[0], same, [], figures, "path") == summed(hosts[1], path, [], figures, "path")
    calls = ["calls", "stall_ns"]
    assert summed(short.allocator, same, [], calls) == summed(whole.allocator, path, [], calls)
    for table in ("devices", "kinds", "windows", "iterations", "bandwidth", "trust"):
        assert getattr(short, table).equals(getattr(whole, table), null_equal=True), table
    for row in short.ledger.group_by("device").agg(pl.col("ns").sum()).iter_rows():
        device_, total = row
        start, end = short.windows.filter(pl.col("device") == device_).select("start_ns", "end_ns").row(0)
        assert total == end - start


@pytest.mark.parametrize("seed", sampled(range(60)))
def test_recorded_names_are_listed_and_add_up(seed: int) -> None:
    trace, case = numbered(seed)
    short, whole, path = both(trace, case)
    counts = dict(short.stages.unique("path").select("path", "instances").iter_rows())
    listed = short.stage_names.group_by("path").agg(pl.col("instances").sum(), pl.col("name").n_unique())
    for stage, n, _ in listed.iter_rows():
        assert n == counts[stage]
    assert set(listed["path"].to_list()) <= set(path.values())
    assert whole.stage_names.is_empty()


TABLES = ("stages", "stage_kinds", "ledger", "gaps", "overlap", "exposed", "allocator", "launches", "kernel_counts")


def equal(one: Analysis, other: Analysis) -> None:
    for table in TABLES:
        assert getattr(one, table).equals(getattr(other, table), null_equal=True), table


@pytest.mark.parametrize("seed", sampled(range(60)))
def test_another_numbering_of_the_same_siblings_is_the_same_answer(seed: int) -> None:
    """Every number n becomes another one, and no two become equal."""
    trace, case = numbered(seed)
    order = Random(seed + 1).sample(range(1000), 31)
    names = trace.ranges.sort("range_id")["name"].cast(pl.String).to_list()
    others = [f"{n.rsplit(' ', 1)[0]} {order[int(n.rsplit(' ', 1)[1])]}" if " " in n else n for n in names]
    how = {"window": case.window, "attribution": case.attribution}
    one, other = analyze(trace, **how), analyze(renamed(trace, others), **how)
    new = {n.replace("/", "\\/"): o.replace("/", "\\/") for n, o in zip(names, others, strict=True)}
    # A name that folds with nothing keeps its number, so it is told by the other one here.
    told = {p: "/".join(new.get(n, n) for n in split(p)) for p in one.stages["path"].to_list()}
    assert summed(one.ledger, told, ["device", "category", "cause"], ["ns"]) == summed(
        other.ledger, {}, ["device", "category", "cause"], ["ns"]
    )


@pytest.mark.parametrize("seed", sampled(range(30)))
def test_neither_the_order_of_rows_nor_streams_matter(seed: int) -> None:
    trace, case = numbered(seed)
    rows = [r | {"name": str(r["name"])} for r in trace.ranges.to_dicts()]
    tables = {
        n: trace.table(n).to_dicts() for n in ("api", "devices", "osrt", "overhead", "events", "syncs", "graph_nodes")
    }
    ops = trace.ops.to_dicts()
    if trace.devices.filter(pl.col("type") == "host").height:
        return  # ops of a host name their ranges by number
    mixed = Random(seed).sample(rows, len(rows))
    how = {"window": case.window if not isinstance(case.window, int) else None, "attribution": case.attribution}
    one = analyze(build(ranges=rows, ops=ops, **tables), **how)
    if len({(r["pid"], r["tid"], r["start_ns"], r["end_ns"]) for r in rows}) == len(rows):
        equal(one, analyze(build(ranges=mixed, ops=ops, **tables), **how))
    split = [o | {"stream": o["stream"] * 100 + i % 3} for i, o in enumerate(ops)]
    other = analyze(build(ranges=rows, ops=split, **tables), **how)
    assert one.stages.equals(other.stages, null_equal=True) and one.stage_names.equals(other.stage_names)


@pytest.mark.parametrize(
    "name", ["h100_pipeline_decode.sqlite.xz", "h200x2_ddp.sqlite.xz", "cpu_threads_nsys2022.sqlite.xz"]
)
def test_a_recording_without_numbers_is_left_as_it_is(name: str) -> None:
    trace = open_trace(SAMPLES / name)
    one, other = analyze(trace), analyze(trace, fold=False)
    for table, frame in one.tables().items():
        assert frame.equals(other.tables()[table], null_equal=True), table


def test_a_recording_whose_stages_are_numbered_folds_into_the_stages_it_was_made_of() -> None:
    """The same recording with a number behind every stage: every figure is that of the recording as it was."""
    trace = open_trace(SAMPLES / "h200x2_ddp.sqlite.xz")
    ranges = trace.ranges.sort("range_id")
    names = [f"{n} {i}" if n != "iteration" else n for i, n in enumerate(ranges["name"].cast(pl.String).to_list())]
    one, other = analyze(trace), analyze(renamed(trace, names))
    assert other.stages["path"].str.contains("#").any()
    for name, frame in one.tables().items():
        stage = {"stages": "path", "stage_kinds": "path"}.get(name, "stage")
        if name == "stage_names" or stage not in frame.columns:
            continue
        plain = other.tables()[name].with_columns(pl.col(stage).str.replace_all(" #", ""))
        assert sorted(plain.rows(), key=str) == sorted(frame.rows(), key=str), name


# --- instances can be named


def training(steps: int = 4) -> Trace:
    ranges, calls, ops = [], [], []
    for i in range(steps):
        at = 100 * i
        ranges += [span(f"step {i + 7}", at, at + 90), span("forward", at + 5, at + 60)]
        calls.append(call("cudaLaunchKernel", at + 10, at + 12, i + 1))
        ops.append(op("compute", at + 20, at + 30 + i, i + 1))
    return build(devices=[device(0)], ranges=ranges, api=calls, ops=ops)


@pytest.mark.parametrize(
    ("window", "start"),
    [
        ("step 8", 100),
        ("step#1", 100),
        ("step ##1", 100),
        ("step #/forward#2", 205),
        ("step 7/forward", 5),
        ("forward#3", 305),
    ],
)
def test_a_window_is_one_instance_by_its_name_or_its_place(window: str, start: int) -> None:
    assert analyze(training(), window=window).windows["start_ns"].to_list() == [start]


def test_a_recorded_name_goes_before_a_place() -> None:
    trace = build(ranges=[span(f"ProfilerStep#{i}", 10 * i, 10 * i + 9) for i in (5, 3, 1)], devices=[device(0)],
                  ops=[op("compute", 1, 60, 1)])  # fmt: skip
    found = find_stages(trace, domain=None, end_ns=60)
    rows, name, number = ranges_called(found, "ProfilerStep#3")
    assert (found.start_ns[rows].tolist(), name, number) == ([30], "ProfilerStep#3", None)
    rows, name, number = ranges_called(found, "ProfilerStep#0")
    assert (len(rows), number) == (3, 0)


def test_several_instances_are_no_window() -> None:
    with pytest.raises(UsageError, match=r"'step #' has 4 instances; choose one, e.g. --window 'step#0'"):
        analyze(training(), window="step #")
    with pytest.raises(UsageError, match=r"'step' has 4 instances, so there is no #9"):
        analyze(training(), window="step#9")


# --- claims


def read(trace: Trace, stage: str, metric: str = "stage.share", of: str | None = "compute") -> float | None:
    short, whole = analyze(trace), analyze(trace, fold=False)
    found = METRICS[metric].read(replace(short, other_names=whole), of, stage)
    turned = METRICS[metric].read(replace(whole, other_names=short), of, stage)
    assert (found.total, found.absent) == (turned.total, turned.absent)
    return found.total


def test_a_claim_names_a_recorded_stage_as_before_or_a_folded_one() -> None:
    whole = analyze(training(), fold=False)
    for stage in ("step 8", "step 8/forward"):
        assert read(training(), stage) == METRICS["stage.share"].reader(whole, "compute", stage).total
    shares = [read(training(), f"step {i}") or 0 for i in range(7, 11)]
    assert read(training(), "step #") == pytest.approx(sum(shares))
    assert read(training(), "step #/forward", "stage.instances", None) == 4
    assert read(training(), "step 8/forward", "stage.instances", None) == 1
    assert read(training(), "step 99") is None


# --- the command


def export(path: Path, names: list[str]) -> Path:
    made = NsysExport()
    for i, name in enumerate(names):
        at = 10_000 * (i + 1)
        made.range(at, at + 9_000, name)
        made.call(at + 100, at + 200, "cudaLaunchKernel", correlationId=i + 1)
        made.kernel(at + 300, at + 2_000, correlationId=i + 1)
    made.write(path)
    return path


def test_the_command_folds_unless_told_not_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = str(export(tmp_path / "t.sqlite", [f"step {i}" for i in range(30)]))
    assert main(["analyze", trace, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["traces"]
    (stage,) = found["stages"]
    assert (stage["path"], stage["instances"], stage["recorded_names"]) == ("step #", 30, 30)
    assert [m["name"] for m in stage["members"]] == [f"step {i}" for i in range(10)]
    assert found["selection"]["fold"] is True
    assert main(["analyze", trace, "--json", "--no-fold"]) == 0
    (kept,) = json.loads(capsys.readouterr().out)["traces"]
    assert len(kept["stages"]) == 30 and kept["stages"][0]["members"] == [] and kept["selection"]["fold"] is False
    assert sum(s["host_ns"] for s in kept["stages"]) == stage["host_ns"]
    assert main(["analyze", trace]) == 0
    text = capsys.readouterr().out
    assert "step #  " in text and "--no-fold lists each" in text
    assert main(["analyze", trace, "--no-fold"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split("  ")[0] for line in lines if line.startswith("step ")]
    assert shown == [f"step {i}" for i in range(30)], "a sequence is in order of time, not of spelling"


def test_the_costliest_stages_are_counted_after_folding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = str(export(tmp_path / "t.sqlite", [f"request {i}" for i in range(700)]))
    for words, folded_stages, stages in (((), 0, 1), (("--no-fold",), 200, 501), (("--no-fold", "--all"), 0, 700)):
        assert main(["analyze", trace, "--json", *words]) == 0
        (found,) = json.loads(capsys.readouterr().out)["traces"]
        assert (found["selection"]["folded_stages"], len(found["stages"])) == (folded_stages, stages)


def test_exports_fold_and_scrubbed_copies_do_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = str(export(tmp_path / "t.sqlite", ["step 1", "step 2"]))
    assert main(["export", trace, "--to", "parquet", "-o", str(tmp_path / "out")]) == 0
    assert pl.read_parquet(tmp_path / "out/analysis/stages.parquet")["path"].to_list() == ["step #"]
    assert pl.read_parquet(tmp_path / "out/analysis/stage_names.parquet")["name"].to_list() == ["step 1", "step 2"]
    capsys.readouterr()
    assert main(["export", trace, "--scrub", "--no-fold", "-o", str(tmp_path / "s.sqlite")]) == 2
    assert "--no-fold has no effect on --scrub" in capsys.readouterr().err


def test_compare_matches_a_folded_stage_with_a_single_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = str(export(tmp_path / "a.sqlite", ["step 0", "step 1", "step 2"]))
    one = str(export(tmp_path / "b.sqlite", ["step 9"]))
    assert main(["compare", many, one, "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["comparisons"][0]["stages"]
    assert ("step #", "matched") in [(s["stage"], s["status"]) for s in stages]
    for option in ("--exact", "--no-fold"):
        assert main(["compare", many, one, "--json", option]) == 0
        told = json.loads(capsys.readouterr().out)["comparisons"][0]["stages"]
        assert {s["stage"]: s["status"] for s in told if s["stage"] == "step 9"} == {"step 9": "added"}
        assert sum(s["difference"] for s in told) == sum(s["difference"] for s in stages)


# --- time

MANY = 16_000


def long_trace(name: Any) -> Trace:
    """`MANY` ranges with a kernel each, called ``name(i)``."""
    ranges = [span(name(i), 100 * i, 100 * i + 90) for i in range(MANY)]
    calls = [call("cudaLaunchKernel", 100 * i + 10, 100 * i + 12, i + 1) for i in range(MANY)]
    ops = [op("compute", 100 * i + 20, 100 * i + 60, i + 1) for i in range(MANY)]
    return build(devices=[device(0)], ranges=ranges, api=calls, ops=ops)


def test_numbered_ranges_cost_at_most_twice_the_time_of_equal_ones() -> None:
    """A ratio of processor times, the best of some: seconds would be those of the machine."""

    def least(trace: Trace) -> float:
        times = []
        for _ in range(4):
            begun = time.process_time()
            analyze(trace, most_stages=500)
            times.append(time.process_time() - begun)
        return min(times)

    one, numbered_ = long_trace(lambda i: "step"), long_trace(lambda i: f"aten::mm, seq = {i}, op_id = {3 * i}")
    assert analyze(numbered_).stages["instances"].to_list() == [MANY]
    assert least(numbered_) < 2 * least(one)
