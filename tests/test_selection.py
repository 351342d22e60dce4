"""Which ranges are stages: --stages, --depth and --range, against drawn timelines, the oracle and algebra."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.calls import LAZY_LOAD_NS
from aisp_trace.analyze.attribution.selection import Selection, below, instances, select
from aisp_trace.analyze.attribution.stages import Stages, find_stages
from aisp_trace.analyze.result import AMBIGUOUS, NONE, ORPHAN, OUTSIDE, Analysis
from aisp_trace.cli import main
from aisp_trace.tests.oracle.build import build, call, device, op, span, span_id
from aisp_trace.tests.oracle.campaigns import seeds
from aisp_trace.tests.oracle.reference import World, reference
from aisp_trace.tests.oracle.strategies import LATEST, STAGES, Case, seeded_case
from aisp_trace.traces.errors import UsageError
from aisp_trace.traces.model import Trace, make_trace

SPECIAL = {NONE, AMBIGUOUS, ORPHAN, OUTSIDE}
PATTERNS = ("h2d", "^h2d$", "compute|d2h", "iter", "a/b", "measured", "2")
SAMPLE = Path(__file__).resolve().parents[1] / "traces" / "samples"


def training(*extra: Any) -> Trace:
    """A step on thread 10, whose backward half thread 20 launches from under ranges of its own.

    thread 10  |----------------------step----------------------|
                 |--forward--|      |--------backward--------|
                   |-linear-|
                     L1                 L2
    thread 20                          |-MmBackward-|
                                         L3
    device            111                  222   333
               0    10  20   30    40    50    60    70    80  100
    """
    return build(
        devices=[device(0)],
        ranges=[
            span("step", 0, 100),
            span("forward", 5, 35),
            span("linear", 10, 30),
            span("backward", 40, 90),
            span("MmBackward", 42, 60, tid=20, end_tid=20),
            *extra,
        ],
        api=[
            call("cudaLaunchKernel", 12, 14, 1),
            call("cudaLaunchKernel", 41, 43, 2),
            call("cudaLaunchKernel", 44, 46, 3, tid=20),
        ],
        ops=[op("compute", 15, 25, 1), op("compute", 48, 58, 2), op("compute", 62, 72, 3)],
    )


def busy(analysis: Analysis) -> dict[str, int]:
    """Nanoseconds of the device by stage, busy instants only."""
    rows = analysis.ledger.filter(pl.col("category") != "idle").group_by("stage").agg(pl.col("ns").sum())
    return dict(rows.iter_rows())


def stages_of(trace: Trace, **selection: Any) -> dict[str, int]:
    return busy(analyze(trace, selection=Selection(**selection)))


def test_without_a_selection_every_range_is_a_stage() -> None:
    assert stages_of(training()) == {"step/forward/linear": 10, "step/backward": 10, "MmBackward": 10}


def test_ranges_that_do_not_match_vanish_from_nesting_and_paths() -> None:
    """`step` and `linear` are gone; thread 20 has no range left, so that its work is thread 10's `backward`."""
    assert stages_of(training(), stages="^(forward|backward)$") == {"forward": 10, "backward": 20}


def test_a_vanished_range_leaves_its_work_to_the_one_around_it() -> None:
    assert stages_of(training(), stages="step|linear") == {"step/linear": 10, "step": 20}


def test_the_expression_is_found_anywhere_in_the_name_and_respects_case() -> None:
    assert stages_of(training(), stages="ward") == {"forward": 10, "backward": 10, "MmBackward": 10}
    assert stages_of(training(), stages="Back") == {NONE: 20, "MmBackward": 10}


def test_depth_folds_into_the_ancestor_and_moves_nothing_between_threads() -> None:
    assert stages_of(training(), depth=2) == {"step/forward": 10, "step/backward": 10, "MmBackward": 10}
    assert stages_of(training(), depth=1) == {"step": 20, "MmBackward": 10}
    table = analyze(training(), selection=Selection(depth=2)).stages
    forward = table.filter(pl.col("path") == "step/forward").row(0, named=True)
    assert (forward["instances"], forward["ops"], forward["self_ops"]) == (1, 1, 1)


def test_depth_counts_what_the_names_left() -> None:
    assert stages_of(training(), stages="forward|linear", depth=1)["forward"] == 10


def test_measured_is_no_level() -> None:
    trace = training(span("measured", 0, 100))
    assert "step" in stages_of(trace, depth=1)


def test_range_keeps_the_range_what_nests_in_it_and_workers_meanwhile() -> None:
    """`MmBackward` begins on thread 20 while `backward` is open; `forward` and `step` are not in it."""
    assert stages_of(training(), below="backward") == {NONE: 10, "backward": 10, "MmBackward": 10}
    assert stages_of(training(), below="forward") == {"forward/linear": 10, NONE: 20}


def test_range_takes_paths_and_single_instances() -> None:
    trace = training(span("step", 200, 300))
    found = find_stages(trace, domain=None, end_ns=300)
    assert len(instances(found, "step", trace)) == 2
    assert found.start_ns[instances(found, "step#1", trace)].tolist() == [200]
    assert [found.names[int(i)] for i in instances(found, "step/forward/linear", trace)] == ["linear"]


def test_range_chooses_stages_and_window_chooses_time() -> None:
    """--range keeps the whole time and leaves the rest without a stage; --window keeps the stages and cuts the time."""
    ranged = analyze(training(), selection=Selection(below="forward"))
    windowed = analyze(training(), window="step/forward")
    assert ranged.windows.row(0) == (0, 15, 72)
    assert windowed.windows.row(0) == (0, 5, 35)
    assert set(windowed.stages["path"]) == {"step/forward", "step/forward/linear"}
    assert set(ranged.stages["path"]) == {"forward", "forward/linear"}


def test_a_window_need_not_be_a_stage() -> None:
    """The window is settled by all ranges: work inside it that has no stage left is (none), not (outside)."""
    chosen = analyze(training(), window="step", selection=Selection(stages="forward"))
    assert chosen.windows.row(0) == (0, 0, 100)
    assert busy(chosen) == {"forward": 10, NONE: 20}


def test_a_stage_around_the_window_names_what_is_in_it() -> None:
    chosen = analyze(training(), window="step/forward", selection=Selection(stages="^step$"))
    assert busy(chosen) == {"step": 10}
    assert chosen.stages["path"].to_list() == ["step"]


def test_iterations_are_counted_although_they_are_no_stages() -> None:
    trace = training(span("iteration", 1, 36), span("iteration", 37, 99))
    chosen = analyze(trace, selection=Selection(stages="ward"))
    assert not any("iteration" in path for path in chosen.stages["path"])
    assert chosen.iterations.equals(analyze(trace).iterations)
    iterations = chosen.ledger.filter(pl.col("category") == "compute").group_by("iteration").agg(pl.col("ns").sum())
    assert dict(iterations.iter_rows()) == {0: 10, 1: 20}


def test_an_allocating_stage_of_a_cpu_stays_a_cause_when_it_is_no_stage() -> None:
    """
    stages   |-alloc-||--compute--|
    device            |--compute--|    and before it the thread allocates, whoever names the time
    """
    rows = [span("alloc", 10, 30, category="alloc"), span("compute", 30, 60, category="compute")]
    window = span("measured", 0, 70)
    trace = build(devices=[device(0, "host")], ranges=[window, *rows])
    ops = [op("compute", 30, 60, span_id(trace, "compute"))]
    trace = build(devices=[device(0, "host")], ranges=[window, *rows], ops=ops)
    chosen = analyze(trace, window="measured", selection=Selection(stages="compute"))
    cells = {(r["stage"], r["cause"]): r["ns"] for r in chosen.ledger.iter_rows(named=True)}
    assert cells[NONE, "allocator"] == 20
    assert chosen.allocator.rows() == [(NONE, 1, 20, 20)]


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"stages": "("}, r"--stages '\(' is not a regular expression: missing \)"),
        ({"stages": "gemm"}, r"no range whose name matches --stages 'gemm'; its names are .*'step'"),
        ({"stages": "step", "below": "forward"}, r"no range in --range 'forward' whose name matches --stages 'step'"),
        ({"below": "forwrd"}, r"no range called 'forwrd'; did you mean 'forward'\?"),
        ({"below": "step#3"}, r"'step' has 1 instances, so there is no #3"),
        ({"depth": 0}, r"--depth is 0; give at least 1"),
    ],
)
def test_what_cannot_be_selected_is_said(selection: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        analyze(training(), selection=Selection(**selection))


def test_names_in_an_error_are_few_and_short() -> None:
    trace = training(*(span(f"{i:04d}" + "x" * 100_000, 0, 1) for i in range(30)))
    with pytest.raises(UsageError, match=r"and 27 more$") as error:
        analyze(trace, selection=Selection(stages="nothing"))
    assert len(str(error.value)) < 600


def test_a_trace_without_ranges_says_so() -> None:
    trace = build(devices=[device(0)], ops=[op("compute", 0, 5, 1)])
    with pytest.raises(UsageError, match=r"the default domain of literal .* it holds no ranges at all"):
        analyze(trace, selection=Selection(stages="x"))


def test_an_empty_selection_is_none() -> None:
    trace = training()
    found = find_stages(trace, domain=None, end_ns=100)
    assert select(found, trace, Selection()) is found
    assert select(found, trace, None) is found


# Random traces


def usable(seed: int) -> Case | None:
    """The case of `seed` if it can be analysed at all."""
    case = seeded_case(seed)
    if isinstance(case.window, tuple) and case.window[0] >= case.window[1]:
        return None
    known = case.trace.ranges["domain"].cast(pl.String).to_list()
    return case if case.domain is None or case.domain in known else None


def look(case: Case, selection: Selection | None) -> Analysis | None:
    """The case under `selection`, or null if the selection leaves nothing."""
    try:
        return analyze(
            case.trace, window=case.window, attribution=case.attribution, domain=case.domain, selection=selection
        )
    except UsageError as error:
        assert "has no range" in str(error)
        return None


def sums(analysis: Analysis) -> dict[tuple[Any, ...], int]:
    """The ledger without its stages."""
    out: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in analysis.ledger.iter_rows(named=True):
        out[row["device"], row["iteration"], row["category"], row["cause"]] += row["ns"]
    return dict(out)


def by_stage(analysis: Analysis) -> dict[tuple[Any, ...], int]:
    out: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in analysis.ledger.iter_rows(named=True):
        out[row["device"], row["stage"], row["category"], row["cause"]] += row["ns"]
    return dict(out)


def cut(path: str, depth: int) -> str:
    """The first `depth` names of a path; a name's own slashes are escaped."""
    return path if path in SPECIAL else "/".join(re.split(r"(?<!\\)/", path)[:depth])


@pytest.mark.parametrize("tried", seeds(40, 160, 40))
def test_a_selection_changes_no_sum_of_the_ledger(tried: range) -> None:
    met = 0
    for seed in tried:
        case, rng = usable(seed), Random(seed)
        if case is None:
            continue
        whole = look(case, None)
        selection = Selection(
            stages=rng.choice((None, *PATTERNS)), depth=rng.choice((None, 1, 2)), below=rng.choice((None, *STAGES))
        )
        chosen = look(case, selection)
        if chosen is None or whole is None:
            continue
        met += 1
        assert chosen.windows.equals(whole.windows), seed
        assert sums(chosen) == sums(whole), (seed, selection)
        for table in ("devices", "kinds", "bandwidth", "iterations"):
            assert getattr(chosen, table).equals(getattr(whole, table)), (seed, table)
        outside = sum(ns for (_, stage, *_), ns in by_stage(whole).items() if stage == OUTSIDE)
        assert sum(ns for (_, stage, *_), ns in by_stage(chosen).items() if stage == OUTSIDE) == outside
    assert met > len(tried) // 4


@pytest.mark.parametrize("tried", seeds(20, 160, 20))
def test_folding_is_relabelling(tried: range) -> None:
    for seed in tried:
        case = usable(seed)
        whole = None if case is None else look(case, None)
        if case is None or whole is None:
            continue
        for depth in (1, 2, 3):
            folded = look(case, Selection(depth=depth))
            if folded is None:
                continue
            relabelled: dict[tuple[Any, ...], int] = defaultdict(int)
            for (where, stage, category, cause), ns in by_stage(whole).items():
                relabelled[where, cut(stage, depth), category, cause] += ns
            assert by_stage(folded) == dict(relabelled), (seed, depth)


def without(trace: Trace, domain: str, pattern: str) -> Trace:
    """`trace` with the ranges of `domain` whose name does not match moved to a domain of their own."""
    gone = (pl.col("domain").cast(pl.String) == domain) & ~pl.col("name").cast(pl.String).str.contains(pattern)
    moved = pl.when(gone).then(pl.lit("elsewhere")).otherwise(pl.col("domain").cast(pl.String)).alias("domain")
    tables = {
        n: trace.table(n) for n in ("ops", "api", "overhead", "osrt", "devices", "events", "syncs", "graph_nodes")
    }
    return make_trace(trace.meta, ranges=trace.ranges.with_columns(moved), **tables)


def own_domain(case: Case) -> str:
    known = case.trace.ranges["domain"].cast(pl.String).to_list()
    return case.domain if case.domain is not None else "aisp" if "aisp" in known else ""


@pytest.mark.parametrize("tried", seeds(100, 300, 100))
def test_names_select_as_if_there_were_no_other_ranges(tried: range) -> None:
    """The plain definitions on a trace without the other ranges give the ledger and the stages."""
    met = 0
    for seed in tried:
        case = usable(seed)
        # A CPU's stage of kind alloc is a cause whether or not it is a stage, which the oracle cannot know.
        if case is None or isinstance(case.window, int) or (case.trace.devices["type"] == "host").any():
            continue
        pattern = Random(seed).choice(PATTERNS)
        chosen = look(case, Selection(stages=pattern))
        if chosen is None:
            continue
        met += 1
        domain = own_domain(case)
        expected = reference(
            without(case.trace, domain, pattern),
            window=case.window,
            attribution=case.attribution,
            domain=domain,
            lazy_load_ns=LAZY_LOAD_NS,
            settled=case.trace,
        )
        truth = {(d, *cell): ns for d, cells in expected.cells.items() for cell, ns in cells.items() if ns}
        devices = set(chosen.windows["device"])
        assert by_stage(chosen) == {key: ns for key, ns in truth.items() if key[0] in devices}, (seed, pattern)
        if case.window is None:
            keys = ("instances", "host_ns", "ops", "self_ops", "projected_ns")
            ours = {(r["device"], r["path"]): {k: r[k] for k in keys} for r in chosen.stages.iter_rows(named=True)}
            assert ours == {key: {k: f[k] for k in keys} for key, f in expected.stages.items()}, (seed, pattern)
    assert met > len(tried) // 8


class SelectedWorld(World):
    """The plain definitions with a window by range: all ranges say what is outside, the chosen ones name the rest."""

    def __init__(self, case: Case, pattern: str) -> None:
        assert isinstance(case.window, int)
        domain = own_domain(case)
        chosen = without(case.trace, domain, pattern)
        self.chosen: World | None = None
        super().__init__(case.trace, domain, case.attribution, case.window, LAZY_LOAD_NS)
        self.windows = {
            d: self.window_of([op for op in self.ops if op["device"] == d]) for d in {op["device"] for op in self.ops}
        }
        self.before = World(case.trace, domain, case.attribution, case.window, LAZY_LOAD_NS)
        self.chosen = World(chosen, domain, case.attribution, None, LAZY_LOAD_NS)

    def shown(self, stage: Any) -> str:
        if self.chosen is None or isinstance(stage, str):
            return str(stage) if self.chosen is not None else super().shown(stage)
        return self.chosen.path(stage)

    def shown_op(self, op: Any) -> Any:
        if self.chosen is None:
            return super().shown_op(op)
        settled = self.before.shown_op(op)
        return settled if settled == OUTSIDE else self.chosen.shown_op(op)

    def stage_at(self, thread: Any, time: int) -> Any:
        settled = super().stage_at(thread, time)
        if self.chosen is None:
            return settled
        return OUTSIDE if super().shown(settled) == OUTSIDE else self.chosen.stage_at(thread, time)

    def awaited_stage(self, thread: Any, time: int) -> Any:
        assert self.chosen is not None
        settled = self.before.awaited_stage(thread, time)
        return OUTSIDE if super().shown(settled) == OUTSIDE else self.chosen.awaited_stage(thread, time)


@pytest.mark.parametrize("tried", seeds(100, 400, 100))
def test_a_window_is_settled_before_the_selection(tried: range) -> None:
    met = 0
    for seed in tried:
        case = usable(seed)
        if case is None or not isinstance(case.window, int) or (case.trace.devices["type"] == "host").any():
            continue
        pattern = Random(seed).choice(PATTERNS)
        chosen = look(case, Selection(stages=pattern))
        if chosen is None:
            continue
        met += 1
        world = SelectedWorld(case, pattern)
        for row in chosen.windows.iter_rows(named=True):
            where, start, end = row["device"], row["start_ns"], row["end_ns"]
            assert world.windows[where] == (start, end), seed
            ops = [o for o in world.ops if o["device"] == where]
            edges = world.edges(start, end)
            truth = world.ledger(where, ops, start, end, list(pairwise(edges)))
            mine = {k[1:]: ns for k, ns in by_stage(chosen).items() if k[0] == where}
            assert mine == {cell: ns for cell, ns in truth.items() if ns}, (seed, pattern)
    assert met > len(tried) // 10


def belonging(found: Stages, roots: list[int]) -> list[bool]:
    """Each range by itself: it is a root, nests in one, or its outermost ancestor begins on another thread while one is open."""

    def belongs(i: int) -> bool:
        if i in roots:
            return True
        if found.parent[i] >= 0:
            return belongs(int(found.parent[i]))
        return any(
            found.pid[i] == found.pid[root]
            and found.tid[i] != found.tid[root]
            and found.start_ns[root] <= found.start_ns[i] < found.end_ns[root]
            for root in roots
        )

    return [belongs(i) for i in range(len(found))]


@pytest.mark.parametrize("tried", seeds(100, 300, 100))
def test_below_is_what_belongs_to_a_window(tried: range) -> None:
    met = 0
    for seed in tried:
        trace = seeded_case(seed).trace
        found: Stages = find_stages(trace, domain=None, end_ns=LATEST * 100_000)
        if len(found) == 0:
            continue
        roots = np.array(sorted(Random(seed).sample(range(len(found)), min(len(found), 1 + seed % 4))), np.int64)
        assert below(found, roots).tolist() == belonging(found, roots.tolist()), seed
        met += 1
    assert met > len(tried) * 3 // 5


# The command


def trace_with_stages() -> Path:
    return next(iter(sorted(SAMPLE.rglob("h100_pipeline_decode*.sqlite*"))))


def test_the_command_selects(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(trace_with_stages())
    assert main.run(["analyze", file, "--range", "optimized", "--stages", "h2d|d2h", "--depth", "1"]) == 0
    shown = capsys.readouterr().out
    assert "stage:h2d" in shown
    assert "stage:compute" not in shown
    with pytest.raises(UsageError, match="matches --stages 'nothing'"):
        main.run(["analyze", file, "--stages", "nothing"])
    with pytest.raises(UsageError, match="depth"):
        main.run(["analyze", file, "--depth", "0"])
