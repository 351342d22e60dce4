"""Which ranges are iterations, which of them are warm-up, and what the steady window holds: every rule with a yes and a no."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.catching_up import LEAST_LACKING, caught_up
from aisp_trace.analyze.attribution.steady import Seeking
from aisp_trace.analyze.attribution.window import STEADY, Offsets, parse_window
from aisp_trace.analyze.comparison.sides import whole_iterations
from aisp_trace.analyze.findings.first_lines import steady_sentences
from aisp_trace.analyze.findings.slow import more_of
from aisp_trace.analyze.result import SCHEMAS, Analysis
from aisp_trace.analyze.sources import Asked, Source
from aisp_trace.analyze.steady import Instance, Steady, limit
from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.builders.samples import unpack
from aisp_trace.tests.examples import examples
from aisp_trace.tests.oracle.build import Row, build, call, device, op, span
from aisp_trace.traces.errors import UsageError
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace
from aisp_trace.traces.run import load_run

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "traces" / "samples"

Range = tuple[str, int, int]


def trace(ranges: Iterable[Range | Row], ops: Iterable[tuple[int, int]] | None = None) -> Trace:
    """One thread's ranges, and ops that it launches one unit before they start; by default one in the middle of each range."""
    rows = [one if isinstance(one, dict) else span(*one) for one in ranges]
    if ops is None:
        ops = [
            ((r["start_ns"] + r["end_ns"]) // 2, r["end_ns"])
            for r in rows
            if r["end_ns"] is not None and r["tid"] == 10
        ]
    works = sorted(set(ops))
    calls = [call("cudaLaunchKernel", s - 1, s, n) for n, (s, _) in enumerate(works, 1)]
    kernels = [op("compute", s, e, n) for n, (s, e) in enumerate(works, 1)]
    return build(ranges=rows, ops=kernels, api=calls, devices=[device(0)])


def loop(name: str, count: int, start: int = 0, each: int = 100, period: int = 100) -> list[Range]:
    """`count` ranges in a row; ``{}`` in `name` is the number of each."""
    return [(name.format(i), start + i * period, start + i * period + each) for i in range(count)]


def found(some: Trace, pattern: str | None = None, skip: int | None = None) -> Steady | None:
    return analyze(some, seeking=Seeking(pattern, skip), details=False).steady


def told(steady: Steady | None) -> tuple[str, str, int, int] | None:
    """(path, found by, iterations, of these warm-up)."""
    return None if steady is None else (steady.path, steady.found_by, len(steady.instances), steady.warm_up)


STEPS = loop("step {}", 8)
PARTS = [
    (name, 100 * i + a, 100 * i + b)
    for i in range(8)
    for name, a, b in (("fw", 2, 30), ("bw", 30, 70), ("step", 70, 98))
]

TABLE: list[tuple[str, list[Range], tuple[str, str, int, int] | None]] = [
    ("numbered steps", STEPS, ("step #", "name", 8, 0)),
    ("all called the same", loop("iteration", 3), ("iteration", "name", 3, 0)),
    ("torch.profiler's", loop("ProfilerStep#{}", 4), ("ProfilerStep#", "name", 4, 0)),
    ("case does not matter", loop("Step {}", 2), ("Step #", "name", 2, 0)),
    ("one is not a sequence", [("step 0", 0, 100)], None),
    ("a name that only holds the word", loop("lr_step {}", 4), None),
    ("named but a small part: no cover is asked", [("load", 0, 9000), *loop("step {}", 4, 9000)], ("step #", "name", 4, 0)),
    ("steps of epochs", [(f"epoch {e}", 400 * e, 400 * e + 400) for e in range(2)] + loop("step {}", 8),
     ("epoch #/step #", "name", 8, 0)),
    ("the optimizer's step is a part of the batch", loop("batch {}", 8) + PARTS, ("batch #", "repetition", 8, 0)),
    ("an optimizer's step without any iteration around", loop("step", 8, 80, 20), None),
    ("outermost of named", STEPS + [(f"iteration {k}", at, at + 25) for at in range(0, 800, 100) for k in range(4)],
     ("step #", "name", 8, 0)),
    ("five repeat", loop("batch {}", 5), ("batch #", "repetition", 5, 0)),
    ("four do not", loop("batch {}", 4), None),
    ("half covers", [("load", 0, 500), *loop("batch {}", 5, 500)], ("batch #", "repetition", 5, 0)),
    ("under half does not", [("load", 0, 520), *loop("batch {}", 5, 520)], None),
    ("outermost of repeated", loop("batch {}", 6) + loop("model", 6, 5, 90), ("batch #", "repetition", 6, 0)),
    ("inner where the outer is one", [("train", 0, 600), *loop("batch {}", 6)], ("train/batch #", "repetition", 6, 0)),
    ("train and evaluation apart", [("train", 0, 800), ("eval", 800, 1100), *loop("step {}", 8), *loop("step {}", 3, 800)],
     ("train/step #", "name", 8, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("ranges", "wanted"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_which_ranges_are_iterations(ranges: list[Range], wanted: tuple[str, str, int, int] | None) -> None:
    if wanted is None and ranges[0][0] == "load":  # ops from the first instant on
        assert told(found(trace(ranges, [(1, 5), (1010, 1020)]))) is None
    elif ranges[0][0] == "load":
        assert told(found(trace(ranges, [(1, 5), (ranges[-1][2] - 10, ranges[-1][2])]))) == wanted
    else:
        assert told(found(trace(ranges))) == wanted


def test_evaluation_is_named_beside_training() -> None:
    steady = found(trace([("train", 0, 800), ("eval", 800, 1100), *STEPS, *loop("step {}", 3, 800)]))
    assert steady is not None
    assert [(o.path, o.instances, o.ns) for o in steady.others] == [("eval/step #", 3, 300)]


def test_ranges_that_overlap_themselves_are_no_iterations() -> None:
    requests = [span(f"request {i}", 50 * i, 50 * i + 100, style="start_end") for i in range(8)]
    assert found(trace(requests, [(1, 400)])) is None


def test_a_thread_that_launches_nothing_is_not_the_loop() -> None:
    loader = [span(f"load {i}", 100 * i, 100 * i + 99, tid=11) for i in range(8)]
    steady = found(trace([*loader, *loop("batch {}", 8, 0, 60)]))
    assert steady is not None and steady.path == "batch #"


def test_replicas_share_the_window_and_others_do_not() -> None:
    """Two threads in step; a third has another number of steps."""
    second = [span(f"step {i}", 100 * i + 3, 100 * i + 103, tid=11) for i in range(8)]
    third = [span(f"step {i}", 100 * i, 100 * i + 50, tid=12) for i in range(7)]
    calls = [call("cudaLaunchKernel", 10 + t, 11 + t, t, tid=t) for t in (10, 11, 12)]
    kernels = [op("compute", 20 + t, 30 + t, t, stream=t) for t in (10, 11, 12)]
    steps = [span(*one) for one in STEPS]
    steady = found(build(ranges=[*steps, *second, *third], ops=kernels, api=calls, devices=[device(0)]))
    assert steady is not None
    assert steady.window == (0, 803)
    assert [o.instances for o in steady.others] == [7]


def test_a_range_that_never_ended_is_not_whole() -> None:
    assert told(found(trace([*STEPS, ("step 8", 800, None)]))) == ("step #", "name", 8, 0)  # type: ignore[list-item]


# --- --iterations and --skip


def test_an_expression_chooses_and_needs_no_number() -> None:
    some = trace([*loop("batch {}", 6), *loop("model", 6, 5, 90)])
    assert told(found(some, "^model$")) == ("batch #/model", "option", 6, 0)
    assert told(found(some, "batch [01]$")) == ("batch #", "option", 2, 0)
    assert told(found(some, "batch #")) == ("batch #", "option", 6, 0)  # folded, where no recorded name matches


@pytest.mark.parametrize(
    ("pattern", "skip", "sentence"),
    [
        ("nothing", None, "--iterations 'nothing' matches no range"),
        ("(", None, "is not a regular expression"),
        (None, 8, "--skip 8 leaves none of 8 iterations"),
        (None, -1, "--skip is -1"),
    ],
)
def test_what_cannot_be_is_a_sentence(pattern: str | None, skip: int | None, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence.replace("(", r"\(")):
        found(trace(STEPS), pattern, skip)


# --- warm-up


def lasting(*length: int) -> Trace:
    """Steps of these lengths in a row."""
    at = [sum(length[:i]) for i in range(len(length) + 1)]
    return trace([(f"step {i}", at[i], at[i + 1]) for i in range(len(length))])


@pytest.mark.parametrize(
    ("length", "warm_up"),
    [
        ((1831, 480, 370, 390), 1),  # at most a third of four
        ((7300, 900, 410, 412, 409, 411), 2),
        ((410, 411, 409, 412, 410, 411), 0),
        ((500, 400, 400, 400, 400, 400), 0),  # a quarter more is not a warm-up
        ((501, 400, 400, 400, 400, 400), 1),
        ((400, 900, 400, 400, 400, 400), 0),  # only leading ones
        ((900, 900, 900, 400, 400, 400), 2),
        ((700, 300, 500, 700, 300, 500, 690, 310, 500), 0),  # uneven, not slow at first
    ],
)
def test_what_is_warm_up(length: Sequence[int], warm_up: int) -> None:
    steady = found(lasting(*length))
    assert steady is not None
    assert steady.warm_up == warm_up
    assert steady.window == (sum(length[:warm_up]), sum(length))


def test_skip_overrides_and_zero_sets_nothing_aside() -> None:
    some = lasting(7300, 900, 410, 412, 409, 411)
    assert [told(found(some, skip=n)) for n in (0, 5)] == [("step #", "name", 6, n) for n in (0, 5)]


def test_figures() -> None:
    steady = found(lasting(9000, 100, 110, 90, 100, 400, 100, 100, 100, 100, 120))
    assert steady is not None and steady.warm_up == 1
    assert (steady.median_ns, steady.p90_ns, steady.between_ns) == (100.0, 120, 0)
    assert steady.slowest == Instance("step 5", 9400, 9800)
    assert steady.outliers == (steady.slowest,)
    assert limit(np.array([100, 100, 100])) == 125.0


# --- properties


def facts(steady: Steady | None) -> Any:
    return (
        None if steady is None else {**asdict(steady), "instances": [(o.start_ns, o.end_ns) for o in steady.instances]}
    )


@st.composite
def loops(draw: st.DrawFn) -> list[Range]:
    """A loop with parts, between other work."""
    at, out = draw(st.integers(0, 500)), [("setup", 0, 5)]
    for i in range(draw(st.integers(1, 12))):
        length = draw(st.integers(10, 300))
        out += [(f"step {i}", at, at + length), (f"layer {i}", at + 1, at + length // 2)]
        at += length + draw(st.integers(0, 20))
    return [*out, ("save", at, at + draw(st.integers(1, 100)))]


@settings(max_examples=examples(40), deadline=None)
@given(loops(), st.randoms(use_true_random=False), st.integers(1, 10**6))
def test_numbering_row_order_and_streams_change_nothing(ranges: list[Range], rng: Random, first: int) -> None:
    plain = trace(ranges)
    wanted = facts(found(plain))
    renumbered = [(" ".join([n.split()[0], *(str(first + int(d)) for d in n.split()[1:])]), s, e) for n, s, e in ranges]
    assert facts(found(trace(renumbered))) == wanted
    shuffled = rng.sample(ranges, len(ranges))
    assert facts(found(trace(shuffled, plain.ops.select("start_ns", "end_ns").rows()))) == wanted
    split = [replace_stream(row, rng.randrange(3)) for row in plain.ops.drop("op_id").to_dicts()]
    rows = {name: plain.table(name).to_dicts() for name in ("api", "devices")}
    assert facts(found(build(ranges=[span(*r) for r in ranges], ops=split, **rows))) == wanted


def replace_stream(row: Row, stream: int) -> Row:
    return row | {"stream": stream}


@settings(max_examples=examples(40), deadline=None)
@given(loops())
def test_the_parts_add_up_to_the_time_from_first_to_last_op(ranges: list[Range]) -> None:
    steady = found(trace(ranges))
    if steady is None:
        return
    assert steady.ops is not None
    begun, done = steady.instances[0].start_ns, steady.window[1]
    warm_up = steady.window[0] - begun
    if steady.ops[0] <= begun and steady.ops[1] >= done:
        parts = steady.start_up_ns, warm_up, done - steady.window[0], steady.after_ns
        assert sum(parts) == steady.ops[1] - steady.ops[0]
    assert 3 * steady.warm_up <= len(steady.instances)


# --- the window


def window_of(analysis: Analysis) -> list[tuple[int, int]]:
    return analysis.windows.select("start_ns", "end_ns").rows()


def test_the_window_is_the_steady_iterations_only_where_that_is_asked_for() -> None:
    some = lasting(7300, 900, 410, 412, 409, 411)
    assert window_of(analyze(some, seeking=Seeking(as_window=True))) == [(8200, 9842)]
    assert window_of(analyze(some, window="steady")) == [(8200, 9842)]
    assert window_of(analyze(some)) == [(3650, 9842)]
    assert window_of(analyze(trace([("a", 0, 10)]), seeking=Seeking(as_window=True))) == [(5, 10)]
    with pytest.raises(UsageError, match="no ranges or kernels that repeat as iterations"):
        analyze(trace([("a", 0, 10)]), window="steady")


def ahead(launched_ns: int, takes_ns: int, many: int = 10, begin_ns: int = 0) -> Trace:
    """`many` steps, each launched within `launched_ns`; the device begins at `begin_ns` and takes `takes_ns` for each."""
    launched = [call("cudaLaunchKernel", launched_ns * i + 2, launched_ns * i + 4, i + 1) for i in range(many)]
    kernels = [op("compute", begin_ns + takes_ns * i + 5, begin_ns + takes_ns * (i + 1), i + 1) for i in range(many)]
    ranges = [span("step", launched_ns * i, launched_ns * (i + 1)) for i in range(many)]
    return build(ranges=ranges, ops=kernels, api=launched, devices=[device(0)])


def test_the_window_waits_for_a_device_that_is_behind() -> None:
    """Ten steps are launched within 200; the device works on them until 1000."""
    analysis = analyze(ahead(20, 100), seeking=Seeking(as_window=True))
    assert (analysis.choices.window, window_of(analysis)) == ("steady", [(0, 1000)])
    assert analysis.steady is not None
    assert (analysis.steady.behind_ns, analysis.steady.each_ns, analysis.steady.after_ns) == (800, 100, 0)
    assert analysis.ledger.filter(pl.col("category") == "compute")["iteration"].n_unique() == 10
    assert analysis.iterations.height == 10
    said = list(steady_sentences(analysis))
    assert said[0].startswith("steady: 10 iterations `step`, 100 ns each on average")
    assert "the window ends 800 ns after the last iteration" in said[1]


def test_a_number_is_no_name_of_iterations() -> None:
    """As an expression, 6 matches every kernel whose name has the digit."""
    with pytest.raises(UsageError, match=r"--window 'iteration#6'` shows one iteration"):
        analyze(trace(loop("step", 8)), seeking=Seeking(pattern="6"))


def test_a_device_as_far_behind_at_the_begin_moves_no_end() -> None:
    """Each step runs 300 after its launch, so that three are left at the end: at the start none, one, or as many."""
    for skip, window in ((0, (0, 1300)), (1, (100, 1200))):
        analysis = analyze(ahead(100, 100, begin_ns=300), seeking=Seeking(skip=skip, as_window=True))
        assert analysis.steady is not None
        assert (analysis.steady.window, analysis.steady.behind_ns) == (window, window[1] - 1000)
    filled = ahead(100, 100, many=20, begin_ns=300)
    ranges = filled.ranges.filter(pl.col("start_ns") >= 500)
    analysis = analyze(replace(filled, ranges=ranges), seeking=Seeking(as_window=True))
    assert analysis.steady is not None
    assert (analysis.steady.window, analysis.steady.behind_ns) == ((500, 2000), 0)


def test_recorded_and_untraced_steps_of_a_host_far_ahead_agree() -> None:
    """A training on an H200 whose host is 17 and 11 of 59 steps ahead when its last one ends."""
    run = load_run(SAMPLES / "h200_training_ahead")
    for one in Source(run, run.path).open(Asked(steady=True)):
        steady, variant = one.analysis.steady, str(one.variant)
        assert steady is not None and one.analysis.choices.window == STEADY
        untraced = np.concatenate(run.manifest.untraced_times_ns(variant)).mean()
        assert steady.each_ns == pytest.approx(untraced, rel=0.01)
        kernels = one.analysis.top_kernels.filter(pl.col("stage").is_null()).select("name", "ops").rows()
        gemms = [n for name, n in kernels if "gemm" in name or "cutlass" in name or "nvjet" in name]
        assert sum(gemms) / len(steady.steady) == 17, "six forward, six and five backward: the input needs no gradient"
        ranges_end = max(i.end_ns for i in steady.instances)
        assert steady.window[1] - ranges_end == steady.behind_ns > 50_000_000


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40), st.booleans()), min_size=1, max_size=25),
    st.integers(0, 30),
    st.integers(1, 40),
)
def test_the_window_ends_with_as_much_work_as_was_launched(
    some: list[tuple[int, int, bool]], low: int, length: int
) -> None:
    """Instant by instant, on small numbers."""
    ends = [s + n for s, n, _ in some]
    table = pl.DataFrame({"start_ns": [s for s, *_ in some], "end_ns": ends})
    mine = np.array([i for i, (*_, own) in enumerate(some) if own], np.int64)
    high = low + length
    end = caught_up(table, mine, (low, high))
    launched = sum(some[i][1] for i in mine)

    def done(until: int) -> int:
        return sum(s <= t < s + n for t in range(low, until) for s, n, _ in some)

    if launched - done(high) <= LEAST_LACKING * launched or max(ends) <= high:
        assert end == high
        return
    assert end > high and end in ends
    before = [at for at in ends if high < at < end]
    assert done(end) >= min(launched, done(200))
    assert all(done(at) < launched for at in before)


def test_slices() -> None:
    some = trace([*STEPS, ("a:b", 3, 30)])
    assert window_of(analyze(some, window="step#5:step#6")) == [(500, 700)]
    assert window_of(analyze(some, window="step 1:step 3")) == [(100, 400)]
    assert window_of(analyze(some, window="a:b:step 0")) == [(3, 100)]
    assert window_of(analyze(some, window="a:b"))[0][0] == 3, "a range of that name goes first"
    with pytest.raises(UsageError, match="name the earlier range first"):
        analyze(some, window="step 3:step 1")
    with pytest.raises(UsageError, match="so there is no #9"):
        analyze(some, window="step#1:step#9")
    with pytest.raises(UsageError, match="choose one"):
        analyze(some, window="step #:step 3")


def test_words_and_offsets() -> None:
    assert parse_window("all") is None
    assert parse_window("steady") == "steady"
    assert parse_window("+757ms:+1024ms") == Offsets(757_000_000, 1_024_000_000)
    assert Offsets(5, 9).after(100) == (105, 109)
    with pytest.raises(UsageError, match="counts one end from the first operation and one not"):
        parse_window("+1ms:2ms")
    with pytest.raises(UsageError, match="ends before it starts"):
        parse_window("+2ms:+1ms")


def test_it_survives_json() -> None:
    steady = found(lasting(7300, 900, 410, 412, 409, 411))
    assert steady is not None
    assert Steady.of(json.loads(json.dumps(asdict(steady)))) == steady


# --- the command


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """2 s before the first step, a step of 3 s, eight of 100 ms (one of 200), a second at the end."""
    ms = 10**6
    export = NsysExport().call(1, 2, "cudaLaunchKernel", correlationId=1).kernel(10, 20, correlationId=1)
    at = 2000 * ms
    for i, length in enumerate((3000, 100, 100, 100, 200, 100, 100, 100, 100)):
        export.range(at, at + length * ms, f"step {i}")
        export.call(at + 5, at + 9, "cudaLaunchKernel", correlationId=10 + i)
        export.kernel(at + 20, at + 60 * ms, correlationId=10 + i)
        at += length * ms
    export.call(at + 1, at + 2, "cudaLaunchKernel", correlationId=99).kernel(
        at + 900 * ms, at + 1000 * ms, correlationId=99
    )
    return export.write(tmp_path / "training.sqlite")


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["analyze", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_the_first_lines_say_what_was_found_and_set_aside(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = " ".join(printed(capsys, training).split("\n\n")[0].split())
    assert said.partition(" GPU 0: ")[0].endswith(
        "steady: 8 iterations `step #`, 100 ms each (p90 200 ms, slowest 200 ms: step 4); start-up 2.00 s, step 0, 3.00 s "
        "and 1.00 s at the end are not counted; `--window all` counts them "
        "slow: step 4 200 ms, 100 ms more idle (host_code) in step # than the others"
    )
    whole = printed(capsys, training, "--window", "all")
    assert "device 0 GPU 0: window 6.90 s from the first operation on" in whole
    assert "the whole recording is counted" in whole
    assert "one gap of 2.00 s (29.0 %) at +10 ns" in whole
    skipped = printed(capsys, training, "--skip", 7)
    assert "steady: 2 iterations" in skipped and "step 0 to step 6" in " ".join(skipped.split())


def cells_of_iterations(draw: st.DrawFn) -> pl.DataFrame:
    row = st.tuples(
        st.integers(0, 1),
        st.sampled_from(("a", "(none)")),
        st.one_of(st.none(), st.integers(0, 4)),
        st.sampled_from((("compute", None), ("idle", "sync"), ("idle", "host_code"))),
        st.integers(0, 100),
    )
    rows = [(d, stage, i, *what, ns) for d, stage, i, what, ns in draw(st.lists(row, max_size=30))]
    return pl.DataFrame(rows, schema=SCHEMAS["ledger"], orient="row")


@given(ledger=st.composite(cells_of_iterations)(), number=st.integers(0, 4), seed=st.integers(0, 9))
def test_what_an_iteration_has_more_of_is_the_largest_excess_over_the_mean_of_the_others(
    ledger: pl.DataFrame, number: int, seed: int
) -> None:
    sums: Counter[tuple[Any, ...]] = Counter()
    for number_of, stage, iteration, category, cause, ns in ledger.rows():
        if iteration is not None:
            sums[iteration, number_of, stage, category, cause] += ns
    others = {i for i, *_ in sums} - {number}
    cells = {tuple(cell) for i, *cell in sums if i == number}
    excess = {c: sums[number, *c] - sum(sums[i, *c] for i in others) // max(len(others), 1) for c in cells}
    found = more_of(ledger.sample(fraction=1.0, shuffle=True, seed=seed), number)
    if not others or max(excess.values(), default=0) <= 0:
        assert found is None
        return
    assert found is not None and found.more_ns == max(excess.values())
    same = [c for c in cells if c[1:] == (found.stage, found.category, found.cause) and excess[c] == found.more_ns]
    assert found.ns in [sums[number, *c] for c in same]


def test_json_says_it_too(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (told_all,) = json.loads(printed(capsys, training, "--window", "all", "--json"))["traces"]
    (told_steady,) = json.loads(printed(capsys, training, "--json"))["traces"]
    assert (told_all["selection"]["window"], told_all["steady"].pop("is_window")) == (None, False)
    assert (told_steady["selection"]["window"], told_steady["steady"].pop("is_window")) == ("steady", True)
    assert told_all["steady"] == told_steady["steady"]
    steady = told_steady["steady"]
    assert steady["window"] == told_steady["ledger"][0]["window"]
    assert [(one["name"], one["ns"], one["why"]) for one in steady["set_aside"]] == [
        ("step 0", 3_000_000_000, "slower than the later half")
    ]
    assert [one["name"] for one in steady["outliers"]] == ["step 4"]


def test_offsets_count_from_the_first_op(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (one,) = json.loads(printed(capsys, training, "--window", "+5s:+5.2s", "--json"))["traces"]
    assert one["ledger"][0]["window"] == {"start_ns": 5_000_000_010, "end_ns": 5_200_000_010}


@pytest.mark.parametrize("window", ["1ms:2ms", "+1ms:+2ms"])
def test_a_window_without_operations_is_an_error(
    window: str, training: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(training), "--window", window]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"aisp-trace: no device operation lies in --window '{window}'; the operations of ")
    offsets = said.err.split()[-1]
    assert main(["analyze", str(training), "--window", offsets]) == 0, "the remedy works as printed"


# --- real recordings


@pytest.mark.parametrize(
    ("sample", "wanted"),
    [
        # Two ranks, six iterations; the first two set up NCCL and the allocator.
        ("h200x2_ddp.sqlite.xz", ("iteration", "name", 6, 2)),
        # Four handovers between two devices; the first loads modules.
        ("h200x2_handoff.sqlite.xz", ("iteration", "name", 4, 1)),
        # Two programs of two variants each: phases, and no loop that covers half of them.
        ("h100_pipeline_decode.sqlite.xz", None),
        # No ranges of a program's own.
        ("h100_pipeline_decode_kineto.json.gz", None),
    ],
)
def test_real_recordings(sample: str, wanted: tuple[str, str, int, int] | None) -> None:
    assert told(found(open_trace(SAMPLES / sample))) == wanted


def test_a_run_of_a_workload_keeps_its_measured_window(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(printed(capsys, SAMPLES / "h200_end_to_end_bandwidth", "--json"))
    assert {one["selection"]["window"] for one in document["traces"]} == {"measured"}


def test_a_run_of_a_command_has_its_steady_iterations() -> None:
    """The same recording, as if `capture -- CMD` had made it."""
    run = load_run(SAMPLES / "h200_end_to_end_bandwidth")
    command = replace(run, manifest=replace(run.manifest, source="command"))
    chosen = [one.choices.window for one in Source(command, run.path).analyses(Asked(steady=True))]
    assert chosen and set(chosen) == {"steady"}
    whole = [one.choices.window for one in Source(command, run.path).analyses(Asked(window="all", steady=True))]
    assert set(whole) == {None}


def test_the_warm_up_of_another_process_is_no_iteration_of_the_window() -> None:
    """Rank 1 begins its first steady iteration while rank 0 is still in its warm-up, whose kernel runs on into the window.

    rank 0     |--- 0 ---|- 1 -|- 2 -|- 3 -|        the window begins with rank 1's iteration 1
    device 0        xxxxxxxx xxx   xxx   xxx
    rank 1     |-- 0 --|-- 1 --|- 2 -|- 3 -|
               0      70 80   110   140   170
    """
    starts = {7: [0, 80, 110, 140, 170], 8: [0, 70, 110, 140, 170]}
    launched = [
        (device, pid, at, device * 10 + number)
        for device, pid in ((0, 7), (1, 8))
        for number, at in enumerate([40, 82, 112, 142] if pid == 7 else [40, 72, 112, 142], 1)
    ]
    ranks = build(
        ranges=[
            span("iteration", low, high, pid=pid, tid=pid)
            for pid, cuts in starts.items()
            for low, high in pairwise(cuts)
        ],
        api=[call("cudaLaunchKernel", at, at + 2, key, pid=pid, tid=pid) for _, pid, at, key in launched],
        ops=[
            op("compute", at + 4, at + (12 if at != 40 else 44 if pid == 7 else 34), key, device=device, pid=pid)
            for device, pid, at, key in launched
        ],
    )
    found = analyze(ranks, window=STEADY, seeking=Seeking(skip=1))
    assert found.steady is not None and found.steady.window == (70, 170)
    assert found.iterations["iteration"].to_list() == [1, 2, 3]
    assert found.iteration_kinds.select("device", "iteration").unique().sort("device", "iteration").rows() == [
        (device, number) for device in (0, 1) for number in (1, 2, 3)
    ]
    assert set(found.ledger["iteration"]) == {1, 2, 3, None}
    assert found.ledger["ns"].sum() == 2 * 100, "what warm-up runs in the window is counted, under no iteration"
    assert whole_iterations(found) == [1, 2, 3]


def test_the_steady_iterations_of_two_ranks_are_those_of_the_window(tmp_path: Path) -> None:
    found = analyze(open_trace(unpack("h200x2_ddp", tmp_path)), seeking=Seeking(as_window=True))
    assert found.steady is not None
    steady = [(one.start_ns, one.end_ns) for one in found.steady.steady]
    assert found.iterations.select("start_ns", "end_ns").rows() == steady and len(steady) == 4
    assert set(found.iteration_kinds["iteration"]) == set(found.iterations["iteration"])
    assert whole_iterations(found) == found.iterations["iteration"].to_list()
    which = "; late rank: `aisp-trace ranks h200x2_ddp.sqlite`"
    waits = "than the others; late: GPU 1, `aisp-trace ranks h200x2_ddp.sqlite`"
    assert any(said.endswith(waits) for said in steady_sentences(found))
    even = replace(found, collectives=found.collectives.with_columns(pl.lit(7, pl.Int64).alias("comm_wait_ns")))
    assert any(said.endswith(f"than the others{which}") for said in steady_sentences(even))
    alone = replace(found, collectives=found.collectives.with_columns(pl.lit(0, pl.Int64).alias("paired")))
    assert not any("aisp-trace ranks" in said for said in steady_sentences(alone)), (
        "without matched collectives nobody can tell"
    )
