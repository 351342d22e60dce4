"""What is slow, said of recordings whose bottleneck is known by construction, and silence where it was removed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.findings.find import find
from aisp_trace.analyze.findings.finding import Finding
from aisp_trace.analyze.findings.rules import RULES, waits_unknown
from aisp_trace.analyze.result import CAUSES, SCHEMAS, Analysis
from aisp_trace.analyze.sources import Asked, find_source
from aisp_trace.cli.main import main
from aisp_trace.tests.judging.build import analysis
from aisp_trace.traces.model import KINDS
from aisp_trace.traces.open import open_trace

ROOT: Final = Path(__file__).resolve().parents[1]
SAMPLES: Final = ROOT / "traces" / "samples"
DECODE: Final = SAMPLES / "h100_pipeline_decode.sqlite.xz"
HOSTLY: Final = ("host_code", "launch_api", "launch_latency", "earlier_launch", "other_api", "driver_overhead")


def opened(file: Path, variant: str | None = None, window: str | None = None) -> Analysis:
    source = find_source(file)
    source = source if variant is None else source.only(variant)
    return next(iter(source.open(Asked(window=window)))).analysis


def rules(found: Sequence[Finding]) -> list[str]:
    return [one.rule for one in found]


KNOWN: Final = [
    # (recording, variant, window, what an engineer would say, where)
    ("h200_pipeline_sequential", "baseline", None, ["pageable_copies"], "iteration/h2d"),
    ("h200_pipeline_sequential", "optimized", None, [], None),
    ("h200_pipeline_sequential", "cuda_graph", None, [], None),
    ("h200_memory_standard", "baseline", None, ["allocator_stalls"], "iteration/release"),
    ("h200_memory_standard", "keep_cache", None, [], None),
    ("h200_memory_standard", "reuse", None, [], None),
    ("h200_memory_standard", "optimized", None, [], None),
    ("h200_end_to_end_bandwidth", "batched", None, ["exposed_copies"], "iteration/h2d"),
    ("h200_end_to_end_bandwidth", "optimized", None, [], None),
    (DECODE.name, None, "decode/baseline", ["launch_bound"], "decode/baseline/stage:decode"),
    (DECODE.name, None, "decode/optimized", [], None),
    (DECODE.name, None, "pipeline_sequential/baseline", ["pageable_copies"], "pipeline_sequential/baseline/stage:d2h"),
    ("h200x2_ddp.sqlite.xz", None, None, ["slow_iteration", "host_bound"], "iteration/forward"),
    ("h200x2_ddp.sqlite.xz", None, "steady", ["contention", "host_bound"], "iteration/backward"),
    ("h200x2_handoff.sqlite.xz", None, "steady", ["waiting_for_devices"], "iteration/consume"),
    ("cpu_threads_nsys2022.sqlite.xz", None, None, [], None),
]


@pytest.mark.parametrize(("name", "variant", "window", "said", "stage"), KNOWN)
def test_recordings_whose_bottleneck_is_known(
    name: str, variant: str | None, window: str | None, said: list[str], stage: str | None
) -> None:
    found = find(opened(SAMPLES / name, variant, window))
    assert rules(found) == said
    assert not found or found[0].stage == stage


@pytest.mark.parametrize(
    ("name", "variant", "window", "busy", "idle"),
    [
        ("h200_pipeline_sequential", "baseline", None, ("h2d", "d2h"), ("copy_api",)),
        ("h200_memory_standard", "baseline", None, (), ("allocator",)),
        ("h200_end_to_end_bandwidth", "batched", None, ("h2d", "d2h"), ()),
        (DECODE.name, None, "decode/baseline", (), HOSTLY),
    ],
)
def test_what_is_saved_at_most_is_a_sum_of_the_ledger(
    name: str, variant: str | None, window: str | None, busy: Sequence[str], idle: Sequence[str]
) -> None:
    shown = opened(SAMPLES / name, variant, window)
    (found,) = find(shown)
    cells = shown.ledger.rows(named=True)
    summed = sum(c["ns"] for c in cells if c["category"] in busy or (c["category"] == "idle" and c["cause"] in idle))
    length = shown.windows["end_ns"][0] - shown.windows["start_ns"][0]
    assert found.saving_at_most_ns == summed
    assert found.share == pytest.approx(summed / length)


# --- single rules ---------------------------------------------------------------------------------------------------------

GPU: Final = [(0, "GPU", "gpu", 1_000_000, 500_000, 500_000)]


def made(ledger: Mapping[tuple[str, str | None], int], **tables: Sequence[Sequence[object]]) -> Analysis:
    """One device's window of 1 ms, with these (category, cause) cells in stage `step`, and compute for the rest."""
    rest = 1_000_000 - sum(ledger.values())
    cells = [("step", None, category, cause, ns) for (category, cause), ns in ledger.items()]
    return analysis(
        ledger=[*cells, ("step", None, "compute", None, rest)],
        iterations=0,
        tables={"devices": GPU, **tables},
    )


def kernels(count: int, each_ns: int) -> list[tuple[object, ...]]:
    return [(0, None, count, count * each_ns, 0, 0, None, 0, 0)]


def copies(kind: str, bucket: str, ops: int, ns: int, effective: bool, **ends: str) -> tuple[object, ...]:
    row: dict[str, object] = {
        "device": 0,
        "kind": kind,
        "bucket": bucket,
        "ops": ops,
        "nbytes": ops * 1000,
        "sum_ns": ns,
        "effective": effective,
        **ends,
    }
    return tuple(row.get(column) for column in SCHEMAS["bandwidth"])


def test_short_kernels_are_launch_bound_and_long_ones_wait_for_the_host() -> None:
    waiting: dict[tuple[str, str | None], int] = {("idle", "host_code"): 300_000, ("idle", "launch_api"): 100_000}
    for each, said in ((4_000, "launch_bound"), (40_000, "host_bound")):
        (found,) = find(made(waiting, kernel_counts=kernels(10, each)))
        assert (found.rule, found.saving_at_most_ns, found.stage) == (said, 400_000, "step")
    (found,) = find(made({("idle", "host_code"): 400_000}, kernel_counts=kernels(10, 4_000)))
    assert found.rule == "host_bound", "short kernels, but launching is not what takes the time"


def test_a_host_that_stands_in_for_a_device_is_not_launch_bound() -> None:
    host = [(0, "CPU", "host", 1_000_000, 500_000, 500_000)]
    shown = made({("idle", "host_code"): 600_000}, kernel_counts=kernels(10, 4_000))
    assert find(replace(shown, devices=pl.DataFrame(host, schema=SCHEMAS["devices"], orient="row"))) == ()


@pytest.mark.parametrize(
    ("cell", "said", "least"),
    [
        (("idle", "sync"), "synchronising", 50_000),
        (("idle", "waiting"), "waiting_for_threads", 50_000),
        (("idle", "dependency"), "waiting_for_devices", 50_000),
        (("idle", "allocator"), "allocator_stalls", 50_000),
        (("idle", "module_load"), "loading", 50_000),
        (("comm", None), "exposed_communication", 50_000),
        (("d2h", None), "exposed_copies", 100_000),
        (("idle", "host_code"), "host_bound", 100_000),
    ],
)
def test_a_rule_is_silent_below_its_share(cell: tuple[str, str | None], said: str, least: int) -> None:
    assert rules(find(made({cell: least}))) == [said]
    assert find(made({cell: least - 1})) == ()


@pytest.mark.parametrize(
    ("cell", "each", "said"),
    [
        (("idle", "queued"), 9_000, ["tiny_kernels"]),
        (("idle", "graph_internal"), 9_000, ["tiny_kernels"]),
        (("idle", "queued"), 10_000, []),
        (("idle", "tail"), 9_000, []),
    ],
)
def test_pauses_between_tiny_kernels_are_told_of_tiny_kernels_alone(
    cell: tuple[str, str | None], each: int, said: list[str]
) -> None:
    assert rules(find(made({cell: 50_000}, kernel_counts=kernels(10, each)))) == said
    assert find(made({cell: 49_999}, kernel_counts=kernels(10, each))) == ()


def test_migrations_are_not_copies_that_somebody_could_hide() -> None:
    rows = [(0, None, 7, 7_000, 90_000, 80_000, 60_000, 20_000)]
    cells: dict[tuple[str, str | None], int] = {("migration", None): 80_000, ("idle", "page_fault"): 40_000}
    (found,) = find(made(cells, migrations=rows))
    assert (found.rule, found.saving_at_most_ns) == ("migrations", 120_000)
    assert found.evidence == (
        "7 page migrations move 7.00 kB: kernels stall for 60.0 us, the host waits for 60.0 us. Between two pages a "
        "kernel waits, too; that counts as compute"
    )
    assert not found.bounded
    (asked,) = find(
        made({("h2d", None): 200_000}, bandwidth=[copies("h2d", "1-16MiB", 7, 95, False, src_kind="managed")])
    )
    assert asked.rule == "exposed_copies", "those that the program asks for are copies"


@pytest.mark.parametrize(("clock", "saving"), [(60.0, 360_000), (89.9, 90_900), (90.0, None), (100.0, None)])
def test_low_clocks_cost_the_part_that_they_lack(clock: float, saving: int | None) -> None:
    """900 us of compute; the clock of idle samples, and of the window, say nothing."""
    rows = [
        (0, stage, "sm_clock", ns, 0.0, mean, None, "ok")
        for stage, ns, mean in ((None, 1000, 20.0), ("step", 900, clock), ("(idle)", 100, 17.0))
    ]
    found = find(made({("idle", "tail"): 100_000}, counters=rows))
    assert [(f.rule, f.saving_at_most_ns) for f in found] == ([] if saving is None else [("low_clocks", saving)])
    assert saving is None or f"its clock is {clock:.1f} % of full speed on average" in found[0].evidence


def test_idle_time_without_a_reason_is_told_even_where_no_reason_is_known() -> None:
    shown = made({("idle", "unknown"): 100_000})
    assert rules(find(shown)) == ["unexplained"]
    assert find(made({("idle", "unknown"): 99_999})) == ()
    trust = shown.trust.with_columns(
        pl.when(pl.col("metric") == "causes").then(pl.lit("unavailable")).otherwise("level").alias("level")
    )
    assert rules(find(replace(shown, trust=trust))) == ["unexplained"]


def test_small_copies_are_told_instead_of_what_else_they_are() -> None:
    ledger = {("h2d", None): 200_000, ("idle", "copy_api"): 100_000}
    for effective in (False, True):
        many = made(ledger, bandwidth=[copies("h2d", "<4KiB", 500, 200_000, effective)])
        assert [(f.rule, f.saving_at_most_ns) for f in find(many)] == [("small_copies", 300_000)]
    few = made(ledger, bandwidth=[copies("h2d", "1-16MiB", 5, 200_000, True)])
    assert [(f.rule, f.saving_at_most_ns) for f in find(few)] == [("pageable_copies", 300_000)]
    pinned = made(ledger, bandwidth=[copies("h2d", "1-16MiB", 5, 200_000, False)])
    assert [(f.rule, f.saving_at_most_ns) for f in find(pinned)] == [("exposed_copies", 200_000)]


def test_a_direction_with_both_kinds_of_copies_goes_by_the_longer() -> None:
    for pageable, said in ((95, ["pageable_copies"]), (85, ["exposed_copies"])):
        rows = [copies("h2d", "1-16MiB", 1, pageable, True), copies("h2d", "1-16MiB", 1, 100 - pageable, False)]
        assert rules(find(made({("h2d", None): 300_000}, bandwidth=rows))) == said


def test_causes_that_are_not_trusted_are_not_blamed() -> None:
    shown = made({("idle", "allocator"): 400_000, ("comm", None): 200_000})
    assert rules(find(shown)) == ["allocator_stalls", "exposed_communication"]
    distrusted = analysis(
        ledger=shown.ledger.drop("device").rows(),
        iterations=0,
        tables={"devices": GPU},
        distrust={"causes": ("unavailable", "no launches")},
    )
    assert rules(find(distrusted)) == ["unexplained", "exposed_communication"]


def collectives(paired: int, group: int | None, device: int = 0) -> tuple[object, ...]:
    return (device, "step", "AllReduce", 8, 100_000, paired, 0, 2 if paired else 0, 0, 0, group, 0)


@pytest.mark.parametrize(
    ("rows", "alone", "words"),
    [
        (
            [collectives(0, 2)],
            True,
            "and this trace holds one rank alone: `aisp-trace ranks` on the traces of all ranks",
        ),
        ([collectives(0, None)], True, "so this may be waiting for another rank"),
        ([collectives(0, 2), collectives(0, 2, 1)], True, "but none could be matched: `aisp-trace ranks`"),
        ([collectives(8, 2)], False, ""),
        ([collectives(0, 1)], False, ""),
        ([], False, ""),
    ],
)
def test_communication_of_one_rank_alone_may_be_waiting_for_another(
    rows: list[tuple[object, ...]], alone: bool, words: str
) -> None:
    shown = made({("comm", None): 200_000}, collectives=rows)
    assert waits_unknown(shown, 0) == alone
    (found,) = find(shown)
    assert words in found.evidence and ("another rank" in found.evidence) == alone


def test_the_folder_with_the_other_ranks_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = SAMPLES / "h200x2_fsdp"
    assert main(["analyze", str(job / "rank0.sqlite.xz")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"one more trace lies beside this one; if this is a job of several ranks: `aisp-trace ranks {job}`" in said
    alone = tmp_path / "rank0.sqlite.xz"
    alone.symlink_to(job / "rank0.sqlite.xz")
    assert main(["analyze", str(alone)]) == 0
    assert "beside this one" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"a": 1.0}, ", all of it in a"),
        ({"a": 0.999, "b": 0.001}, ", 99 % of it in a"),
        ({"a": 0.6, "b": 0.4}, ", 60 % of it in a"),
        ({"a": 0.4, "b": 0.3, "c": 0.3}, ", 40 % of it in a, more than in any other stage"),
        ({"(none)": 0.7, "a": 0.3}, ", 30 % of it in a, more than in any other stage"),
        ({"(none)": 0.995, "a": 0.005}, ""),
        ({"(none)": 1.0}, ""),
    ],
)
def test_how_much_lies_in_the_stage_that_is_named(cells: dict[str, float], words: str) -> None:
    """A third of it was "mostly in"."""
    rows = [(stage, None, "idle", "allocator", round(400_000 * part)) for stage, part in cells.items()]
    rest = ("x", None, "compute", None, 600_000)
    (found,) = find(analysis(ledger=[*rows, rest], iterations=0, tables={"devices": GPU}))
    assert found.said(several=False).startswith(f"Allocator stalls: 40.0 % (400 us){words}. The device waits")


def gaps(*opened: str) -> list[tuple[object, ...]]:
    return [(0, 100 * i, 100 * i + 50, 50, "step", "host_code", by) for i, by in enumerate(opened)]


@pytest.mark.parametrize(
    ("opened", "said"),
    [
        (["sync"] * 6 + ["host"] * 4, "blocked_by_syncs"),
        (["sync"] * 4 + ["host"] * 6, "host_bound"),
        ([], "host_bound"),
    ],
)
def test_gaps_that_begin_as_the_host_returns_from_waiting_blame_the_wait(opened: list[str], said: str) -> None:
    (found,) = find(made({("idle", "host_code"): 300_000}, kernel_counts=kernels(10, 40_000), gaps=gaps(*opened)))
    assert (found.rule, found.saving_at_most_ns) == (said, 300_000)
    assert ("6 of the 10 largest gaps (300 ns) begin as the host returns" in found.evidence) == (said != "host_bound")


def test_the_call_that_most_gaps_begin_in_is_named() -> None:
    """Launches after it and a longer wait in one gap alone are not the call that makes the pattern."""
    opened = gaps(*["sync"] * 6)
    calls: list[tuple[object, ...]]
    calls = [(0, start, end, "cuda", "cudaStreamSynchronize", 1, 3) for _, start, end, *_ in opened[:5]]
    calls += [(0, *opened[5][1:3], "cuda", "cudaDeviceSynchronize", 1, 40)]
    calls += [(0, start, end, "cuda", "cudaLaunchKernel", 9, 45) for _, start, end, *_ in opened]
    calls += [(0, start, end, "os", "poll", 1, 50) for _, start, end, *_ in opened]
    tables: dict[str, Sequence[Sequence[object]]] = {"kernel_counts": kernels(10, 40_000), "gap_calls": calls}
    (found,) = find(made({("idle", "host_code"): 300_000}, gaps=opened, **tables))
    assert "begin as the host returns from cudaStreamSynchronize" in found.evidence
    idle = [(*row[:5], "sync", *row[6:]) for row in opened]
    (found,) = find(made({("idle", "sync"): 300_000}, gaps=idle, **tables))
    assert "while the host is still inside cudaStreamSynchronize" in found.evidence


def test_one_long_gap_after_a_wait_is_no_pattern() -> None:
    long = [(0, 0, 10_000, 10_000, "step", "host_code", "sync"), *gaps("host", "host", "host")]
    (found,) = find(made({("idle", "host_code"): 300_000}, kernel_counts=kernels(10, 40_000), gaps=long))
    assert found.rule == "host_bound"


@pytest.mark.parametrize(("stage", "said"), [("DataLoader.next", "data_loading"), ("render", "waiting_for_threads")])
def test_waiting_is_for_data_where_the_stage_is_called_so(stage: str, said: str) -> None:
    cells = [(stage, None, "idle", "waiting", 200_000), ("step", None, "compute", None, 800_000)]
    (found,) = find(analysis(ledger=cells, iterations=0, tables={"devices": GPU}))
    assert (found.rule, found.stage, found.saving_at_most_ns) == (said, stage, 200_000)


def test_a_host_that_is_late_for_data_is_told_apart_from_other_reasons() -> None:
    cells = [
        ("step/data", None, "idle", "host_code", 100_000),
        ("enumerate(DataLoader)#__next__", None, "idle", "waiting", 100_000),
        ("step/metadata_update", None, "idle", "waiting", 60_000),
        ("step/forward", None, "idle", "host_code", 150_000),
        ("load/step", None, "compute", None, 590_000),
    ]
    shown = analysis(ledger=cells, iterations=0, tables={"devices": GPU, "kernel_counts": kernels(10, 40_000)})
    found = {f.rule: (f.saving_at_most_ns, f.stage) for f in find(shown)}
    assert found == {
        "data_loading": (200_000, "enumerate(DataLoader)#__next__"),
        "host_bound": (150_000, "step/forward"),
        "waiting_for_threads": (60_000, "step/metadata_update"),
    }
    assert "(100 us of it by another thread)" in find(shown)[0].evidence


@pytest.mark.parametrize(("counts", "said"), [([12] * 8, True), ([12] * 7 + [13], False), ([12] * 4, False)])
def test_iterations_that_launch_the_same_kernels_are_said_to(counts: list[int], said: bool) -> None:
    rows = [(0, i, "compute", count, 100, 100, 0) for i, count in enumerate(counts)]
    cells: dict[tuple[str, str | None], int] = {("idle", "launch_api"): 300_000}
    (found,) = find(made(cells, kernel_counts=kernels(96, 4_000), iteration_kinds=rows))
    assert found.rule == "launch_bound"
    assert (f", the same 12 in each of {len(counts)} iterations" in found.evidence) == said


def test_the_command_shows_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = find(opened(DECODE, window="decode/baseline"))
    assert found.command.startswith(f"aisp-trace analyze {DECODE.name} --window decode/baseline --range ")
    assert main([*shlex.split(found.command)[1:2], str(DECODE), *shlex.split(found.command)[3:]]) == 0
    assert "stage:decode" in capsys.readouterr().out


def test_one_slow_iteration_is_named_with_what_it_has_more_of() -> None:
    cells: list[tuple[str, int | None, str, str | None, int]]
    cells = [("step", i, "compute", None, 100) for i in range(8)]
    cells += [("load", i, "idle", "host_code", 900 if i == 5 else 10) for i in range(8)]
    shown = analysis(ledger=cells, iterations=8, tables={"devices": GPU, "windows": [(0, 0, 8 * 100 + 70 + 900)]})
    found = {f.rule: f for f in find(shown)}["slow_iteration"]
    assert (found.stage, found.saving_at_most_ns) == ("load", 890)
    assert "iteration 5 takes 1.00 us, the median one 110 ns; idle (host_code) is 890 ns more" in found.evidence
    assert "--window 'iteration#5'" in found.command


# --- all of them ----------------------------------------------------------------------------------------------------------

CELLS = st.dictionaries(
    st.one_of(
        st.tuples(st.sampled_from([str(k) for k in KINDS]), st.none()),
        st.tuples(st.just("idle"), st.sampled_from(CAUSES)),
    ),
    st.integers(0, 10**6),
    min_size=1,
)


@given(cells=CELLS, small=st.booleans(), effective=st.booleans(), short=st.booleans(), seed=st.randoms())
def test_no_cell_is_counted_twice_and_the_order_of_rows_says_nothing(
    cells: dict[tuple[str, str | None], int], small: bool, effective: bool, short: bool, seed: object
) -> None:
    window = max(sum(cells.values()), 1)
    rows = [("step", None, category, cause, ns) for (category, cause), ns in cells.items()]
    tables: dict[str, Sequence[Sequence[object]]] = {
        "devices": GPU,
        "windows": [(0, 0, window)],
        "kernel_counts": kernels(10, 4_000 if short else 40_000),
        "bandwidth": [copies("h2d", "<4KiB" if small else "1-16MiB", 500, 100, effective)],
    }
    found = find(analysis(ledger=rows, iterations=0, tables=tables))
    assert sum(f.saving_at_most_ns for f in found) <= window
    assert len(set(rules(found))) == len(found)
    savings = [f.saving_at_most_ns for f in found]
    assert savings == sorted(savings, reverse=True)
    assert find(analysis(ledger=rows[::-1], iterations=0, tables=tables)) == found


def test_every_rule_fires_somewhere_here_and_is_documented() -> None:
    text = (ROOT / "docs" / "definitions" / "findings.md").read_text(encoding="utf-8")
    names = [rule.name for rule in RULES]
    assert [f"| `{name}` |" in text for name in names] == [True] * len(names)
    here = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in names if here.count(f'"{name}"') == 0] == []


def test_of_several_devices_the_one_it_costs_most_is_named() -> None:
    ledger = [("step", None, "idle", "allocator", 200_000), ("step", None, "compute", None, 800_000)]
    shown = analysis(ledger=ledger, iterations=0, tables={"devices": GPU})
    worse = shown.ledger.with_columns(
        pl.lit(1, pl.Int32).alias("device"),
        pl.when(pl.col("category") == "idle").then(700_000).otherwise(300_000).alias("ns"),
    )
    both = replace(
        shown,
        ledger=pl.concat([shown.ledger, worse.cast(shown.ledger.schema)]),
        windows=pl.concat([shown.windows, shown.windows.with_columns(pl.lit(1, pl.Int32).alias("device"))]),
    )
    (found,) = find(both)
    assert (found.rule, found.device, found.saving_at_most_ns) == ("allocator_stalls", 1, 700_000)


# --- the command ----------------------------------------------------------------------------------------------------------


def test_analyze_begins_with_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(SAMPLES / "h200_pipeline_sequential")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("GPU 0: busy 89.3 % (h2d 51.6 %, d2h 28.5 %, compute 9.2 %); idle 10.7 %")
    assert lines[4] == "What is slow, and its share of the window:"
    assert lines[5].startswith("1. Copies through pageable memory: 86.3 % (1.06 s), 64 % of it in")
    assert max(map(len, lines[:8])) <= 80


@pytest.mark.parametrize("name", ["h200x2_ddp.sqlite.xz", "h200_graphs.sqlite.xz", "h200_managed.sqlite.xz"])
def test_the_first_lines_say_how_busy_each_device_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the union of all operations in the window, which neither the sentence nor the ledger is made of."""
    one = next(find_source(SAMPLES / name).open(Asked(steady=True)))
    assert main(["analyze", str(SAMPLES / name)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for device, low, high in one.analysis.windows.rows():
        ops = one.trace.ops.filter(pl.col("device") == device).select("start_ns", "end_ns").sort("start_ns").rows()
        busy, reach = 0, low
        for start, end in ops:
            start, end = max(start, reach), min(end, high)
            busy, reach = (busy + end - start, end) if end > start else (busy, reach)
        share = f"{100 * busy / (high - low):.1f} %"
        assert f"GPU {device}: busy {share}" in said or f"GPU {device} {share}" in said


def test_silence_is_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(SAMPLES / "h200_pipeline_sequential")]) == 0
    out = capsys.readouterr().out
    assert out.count("Limited by compute. An iteration is 9") == 2, "optimized and cuda_graph"


def test_json_has_what_the_terminal_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(DECODE), "--window", "decode/baseline", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["traces"][0]["findings"]
    assert found["rule"] == "launch_bound"
    assert set(found) == {
        "rule",
        "device",
        "stage",
        "what",
        "evidence",
        "saving_at_most_ns",
        "share",
        "remedy",
        "command",
        "change",
        "gain",
        "grade",
        "stage_share",
    }
    assert "CUDA graph" in found["remedy"]


def test_where_the_host_waits_for_pages_its_time_is_not_replayed() -> None:
    """The replay said that the window is no faster without it: pages come when they did. Elsewhere it is quoted."""
    managed = {one.rule: one for one in find(analyze(open_trace(SAMPLES / "h200_managed.sqlite.xz")))}
    assert {"migrations", "host_bound"} <= set(managed)
    assert managed["host_bound"].gain is None and "Replayed" not in managed["host_bound"].said(False)
    decode = {one.rule: one for one in find(analyze(open_trace(SAMPLES / "h100_pipeline_decode.sqlite.xz")))}
    assert decode["host_bound"].gain is not None
