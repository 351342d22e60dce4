"""Every row of the table in docs/verdicts.md, section Admissibility: one good run, and what breaking exactly one thing leads to.

Each case is judged twice: by a claim that the good run meets, and by one that it misses. What is met turns into the row's
verdict; what is missed stays missed, and says what else is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.expectations.accepting.accept import propose
from aisp_trace.expectations.accepting.derive import Measured, band, fraction
from aisp_trace.expectations.accepting.occasions import Occasion
from aisp_trace.expectations.accepting.remeasure import _reading
from aisp_trace.expectations.claims.load import load_folder
from aisp_trace.expectations.deciding import DECIDING
from aisp_trace.expectations.judging.admissible import CLAIM_ROWS, ROWS
from aisp_trace.expectations.judging.admissible.bounds import edited as edited_bound
from aisp_trace.expectations.judging.evidence import gather
from aisp_trace.expectations.model import Bound, Claim, ExpectationFile, Provenance, Source, TimeClaim
from aisp_trace.tests.judging.build import (
    MS,
    WORK,
    command_of,
    evidence,
    mechanism,
    time_claim,
)
from aisp_trace.tests.judging.edited import EDITED, HONEST, renumbered, then
from aisp_trace.tests.judging.world import (
    COMMIT,
    INVALID,
    NAMED,
    OBJECTION,
    World,
    drawn,
    each,
    everywhere,
    fact,
    good_world,
    judged,
    last,
    of_facts,
    of_manifest,
    only_rounds,
    pair,
    proven,
    recording,
    results,
    rounds_of,
    second,
    traced,
    word,
)
from aisp_trace.traces.run import Manifest, Proof, Round, Run

ROOT: Final = Path(__file__).resolve().parents[1]
ELEVEN: Final = {"h2d": (110, 11 * 10**6), "compute": (110, 0), "d2h": (110, 11 * 10**6)}


def on_cpu(world: World) -> World:
    return of_manifest(hardware=replace(world.manifest.hardware, device="cpu"))(world)


def lifted_clock(world: World) -> World:
    def row(most: str) -> list[dict[str, str]]:
        return [{"index": "0", "clocks_sm": "345 MHz", "clocks_max_sm": most}]

    clocks = {"before": row("1980 MHz"), "after": row("1410 MHz")}
    return of_manifest(hardware=replace(world.manifest.hardware, clocks=clocks))(world)


def one_order(world: World) -> World:
    """Rounds 0 and 1 in one order: the plan alternates."""

    def change(made: Round) -> Round:
        return replace(made, result=replace(made.result, variants=list(made.result.variants)[::-1]))

    return rounds_of(world, change, lambda index: index == 1)


def no_work(world: World) -> World:
    nothing = replace(WORK, items=0, flops=0, input_bytes=0, output_bytes=0)
    return everywhere(lambda v: replace(v, work=nothing))(world)


def nothing_traced(world: World) -> World:
    """No operation, no stage; nor is a copy predicted, which would contradict the trace by itself."""
    world = everywhere(lambda v: replace(v, work=replace(WORK, moved_bytes={})))(world)
    return traced(kinds={}, stages={"iteration": (10, 0)})(world)


def faster_than_light(world: World) -> World:
    """5.5 * 10^13 FLOPs, 13.9 ms at the 3.958 * 10^15 a second of an H200's data sheet, in 10 ms."""
    return everywhere(lambda v: replace(v, work=replace(WORK, flops=55 * 10**12)))(world)


def held_to(
    *bounds: float, worst: float = 1e-5, chosen: Callable[[int], bool] = lambda index: True
) -> Callable[[World], World]:
    """Outputs with several tolerances, of which the tensor with `worst` is nearest to its own."""
    return results(lambda v: replace(v, output=replace(v.output, tolerance=worst, tolerances=bounds)), chosen)


def untimed(reset_ms: float = 0.0, outputs_ms: float = 0.05, **changes: Any) -> Callable[[World], World]:
    """The harness's figures for both variants: the baseline's outputs take 0.05 ms; the optimized variant's as given."""

    def proof(v: Any) -> Any:
        own = (round(reset_ms * MS), round(outputs_ms * MS)) if v.name == "optimized" else (0, MS // 20)
        found = Proof(True, None, drawn(v), MS, *own)
        return replace(v, proof=replace(found, **changes) if v.name == "optimized" else found)

    return everywhere(proof)


def slow_recording(world: World) -> World:
    """A recording that takes a hundred times as long, with a trace that agrees with it."""
    world = recording(wall_ns=10**12)(world)
    world = results(lambda v: replace(v, iterations_ns=[1000 * MS] * 10), lambda i: i == -1)(world)
    return traced(iteration_ms=1000)(world)


def faster_by(world: World, pair_of: Callable[[World], World], factor: float) -> World:
    """A pair whose missed claim asks for more than `factor`."""
    made = pair_of(world)
    inner = made.claim

    def claim(asked: TimeClaim) -> TimeClaim:
        found: TimeClaim = inner(asked)
        assert found.ratio.minimum is not None
        return replace(found, ratio=Bound(found.ratio.minimum * factor, None)) if found.ratio.minimum >= 3 else found

    return replace(made, claim=claim)


def measured_before(**changes: Any) -> Callable[[World], World]:
    """A claim whose bound was measured under other circumstances."""
    then = replace(Provenance(COMMIT[:12], "580.65", "2.11.0"), **changes)
    return lambda world: replace(world, claim=lambda claim: replace(claim, provenance=then))


def edited(world: World) -> World:
    """Bounds of 1.5 and 3 where accepting would have left room below 2 and 3.5: a tenth or so."""

    def claim(asked: Any) -> TimeClaim:
        found: TimeClaim = asked
        value = 2.0 if asked.ratio.minimum < 2 else 3.5
        text = f"accepted: {value:g} ({value - 0.02:g} to {value + 0.02:g}) over 8 rounds"
        return replace(found, source=Source("measured", "pipeline-0", text))

    return replace(world, claim=claim)


def edited_count(world: World) -> World:
    """A count of operations, which accepting takes as it is, allowed ten more; the missed one allows fewer than there are."""
    source = Source("measured", "pipeline-0", "accepted: 30 over 10 iterations")

    def claim(asked: Any) -> Claim:
        most = 40.0 if asked.ratio.minimum < 2 else 29.0
        return replace(mechanism("ops.count", high=most, of="all"), source=source, unit="count")

    return replace(world, claim=claim)


def copied(world: World) -> World:
    """The very run that the bound was measured in, under another name and another day of completion."""
    then = Provenance(commit=COMMIT[:12], evidence=(world.manifest.digest,))
    renamed = replace(world.manifest, run_id="pipeline-7", created_utc="2026-03-01T00:00:00Z")
    return replace(world, manifest=renamed, claim=lambda claim: replace(claim, provenance=then))


CASES: Final[list[tuple[str, str, Callable[[World], World], str, str]]] = [
    (
        "device",
        "another name",
        fact("device_name", "NVIDIA A100"),
        INVALID,
        "the device is NVIDIA H200 in round 0 and",
    ),
    ("device", "another card", fact("device_uuid", "f" * 16), OBJECTION, "the device's identity is"),
    ("device", "another processor", fact("processor", "Xeon"), INVALID, "the processor is EPYC in round 0 and Xeon"),
    ("versions", "another torch", fact("torch", "2.10.0"), OBJECTION, "torch is 2.11.0+cu130 in round 0 and 2.10.0 in"),
    ("versions", "another Python", fact("python", "3.11.2"), OBJECTION, "the version of Python is 3.12.3"),
    ("driver", "in half of the processes", fact("driver", "570.1"), OBJECTION, "and 570.1 in round 1"),
    (
        "settings",
        "fewer threads",
        fact("host_threads", 1),
        OBJECTION,
        "the number of host threads is 16 in round 0 and 1",
    ),
    ("clock limits", "lowered on the way", lifted_clock, OBJECTION, "clocks_max_sm of GPU 0 is 1980 MHz"),
    ("sources", "another commit", each(commit="b" * 40), OBJECTION, "commit is aaaaaaaa"),
    (
        "sources",
        "half of the trees changed",
        each(tree="0123"),
        OBJECTION,
        "tree of the sources is clean in round 0 and 0123",
    ),
    (
        "commands",
        "other warm-up",
        word("1", "50"),
        INVALID,
        "is '--warmup 1' in round 0 and '--warmup 50' in round 1",
    ),
    ("commands", "another program", word("pipeline", "pipeline2"), OBJECTION, "'-m pipeline' in round 0"),
    (
        "commands",
        "another one recorded",
        recording(command=["nsys", "python3", "-m", "other", "--variant", "optimized", "--trace"]),
        OBJECTION,
        "in the recording of optimized",
    ),
    (
        "iterations",
        "fewer in some rounds",
        results(lambda v: replace(v, iterations_ns=list(v.iterations_ns)[:6]), lambda i: i > 3),
        INVALID,
        "timed iterations of optimized is 10 in round 0 and 6 in round 4",
    ),
    (
        "answers",
        "another size",
        of_manifest(size="default", seed=7),
        INVALID,
        "the run's seed is 7, and round 0 says 0",
    ),
    ("answers", "another device", on_cpu, INVALID, "the run's device is cpu, and round 0 says cuda"),
    (
        "answers",
        "more iterations planned",
        of_manifest(iterations=20),
        INVALID,
        "the run's number of iterations is 20, and round 0 says 10",
    ),
    (
        "tolerances",
        "raised in some rounds",
        results(lambda v: replace(v, output=replace(v.output, tolerance=0.5)), lambda i: i > 3),
        OBJECTION,
        "the tolerance of optimized is 1e-05 in round 0 and 0.5 in round 4",
    ),
    (
        "tolerances",
        "raised in the recording",
        results(lambda v: replace(v, output=replace(v.output, tolerance=0.5)), lambda i: i == -1),
        OBJECTION,
        "the tolerance of optimized is 1e-05 in round 0 and 0.5 in the recording of optimized",
    ),
    (
        "tolerances",
        "one of several raised in some rounds",
        then(held_to(1e-5, 1e-3), held_to(1e-5, 1e-2, chosen=lambda i: i > 3)),
        OBJECTION,
        "the tolerance of optimized is 1e-05, 0.001 in round 0 and 1e-05, 0.01 in round 4",
    ),
    ("proofs", "removed", lambda world: second(world), OBJECTION, "baseline in round 0 has no proof of its work"),
    (
        "proofs",
        "nothing compared",
        proven(lambda proof: replace(proof, compared=())),
        OBJECTION,
        "has no timed iteration whose outputs were compared",
    ),
    (
        "proofs",
        "an iteration compared that was not timed",
        proven(lambda proof: replace(proof, compared=(10,))),
        INVALID,
        "has no timed iteration whose outputs were compared",
    ),
    (
        "proofs",
        "inputs that stay in one variant",
        proven(lambda proof: replace(proof, fresh=False, reuse="the same")),
        OBJECTION,
        "inputs were fresh in each iteration of baseline in round 0, and not of optimized in round 0",
    ),
    (
        "repeated input",
        "a hundredth of what an iteration reads",
        proven(lambda proof: replace(proof, drawn_bytes=10**4, problem_bytes=10**9)),
        NAMED,
        "iterations repeat most of their input: 10,000 of the 1,000,000 bytes that one needs get other values before each",
    ),
    (
        "repeated input",
        "almost nothing, of a problem that states no input",
        lambda world: everywhere(lambda v: replace(v, work=replace(v.work, input_bytes=0)))(
            proven(lambda proof: replace(proof, drawn_bytes=9_999, problem_bytes=10**6))(world)
        ),
        NAMED,
        "iterations repeat most of their input: 9,999 of the 1,000,000 bytes of the problem get other values before each",
    ),
    (
        "spans",
        "shorter than its iterations",
        results(lambda v: replace(v, timed_ns=(0, sum(v.iterations_ns) // 2)), lambda i: i == 3),
        INVALID,
        "optimized in round 3 timed 100.2 ms of iterations in a span of 50.1 ms",
    ),
    (
        "spans",
        "backwards",
        results(lambda v: replace(v, timed_ns=(10**9, 0)), lambda i: i == 3),
        INVALID,
        "in a span of -1000 ms",
    ),
    (
        "spans",
        "longer than the process",
        results(lambda v: replace(v, timed_ns=(0, 10**15)), lambda i: i == 3),
        INVALID,
        "of a process that lasted",
    ),
    (
        "rounds",
        "twelve chosen of sixteen",
        only_rounds(0, 2, 3, 5, 7, 8, 10, 11, 12, 13, 14, 15),
        INVALID,
        "the run has 0, 2, 3, 5, 7",
    ),
    (
        "rounds",
        "more than planned",
        of_manifest(looks=(8,), command_line=["aisp-trace", "capture", "pipeline", "--rounds", "8"]),
        INVALID,
        "after 16 rounds, and the plan has a verdict after 8",
    ),
    ("rounds", "not in the plan's order", one_order, INVALID, "round 1 ran in the order baseline, optimized"),
    ("times", "years apart", last(started_utc="2029-01-01T00:00:00Z"), INVALID, "made on different occasions"),
    ("times", "back in time", last(started_utc="2025-12-31T00:00:00Z"), INVALID, "before round 14 at 2026-01-01"),
    (
        "times",
        "after the end",
        of_manifest(created_utc="2026-01-01T00:00:30Z"),
        INVALID,
        "after the run was complete",
    ),
    ("times", "no time", last(started_utc="tomorrow"), INVALID, "cannot be read"),
    ("wall time", "shorter than its iterations", last(wall_ns=MS), INVALID, "of iterations and lasted 1 ms"),
    ("exit codes", "a recording that failed", recording(exit_code=139), OBJECTION, "ended with exit code 139"),
    (
        "recordings",
        "of another variant",
        recording(command=("nsys", *command_of(["baseline"], "traced.json"), "--trace")),
        INVALID,
        "asked for baseline and is answered for optimized",
    ),
    ("trace files", "the baseline's file", recording(trace="baseline/trace.sqlite"), INVALID, "are one trace"),
    ("trace files", "the baseline's content", recording(trace_sha256="baseline"), INVALID, "are one trace"),
    ("trace iterations", "one too many", traced(iterations=11, kinds=ELEVEN), OBJECTION, "has 11 iterations, and its"),
    (
        "trace times",
        "twice as long",
        traced(iteration_ms=20),
        INVALID,
        "takes 20 ms in its trace, and its process timed 10 ms",
    ),
    ("recording cost", "a hundred times slower", slow_recording, INVALID, "takes 100 times as long when recorded"),
    ("no work stated", "all zero", no_work, "invalid", "states no work at all"),
    (
        "no work traced",
        "an empty iteration",
        nothing_traced,
        "invalid",
        "holds neither an operation of the device nor a stage",
    ),
    (
        "faster than hardware",
        "more FLOPs than the data sheet has",
        faster_than_light,
        "invalid",
        "optimized is faster than the hardware allows: its second fastest iteration takes 9.98 ms, and its work at least 13.9 ms "
        "(55 TFLOP at 3,958 TFLOP/s, datasheet H200)",
    ),
    (
        "untimed work",
        "in reset, more than half of the iteration",
        untimed(reset_ms=6),
        OBJECTION,
        "optimized takes 6.00 ms longer than baseline in reset(), which is in no iteration's time: with it, an iteration of "
        "10.0 ms is 1.25 times as fast, not 2",
    ),
    (
        "untimed work",
        "in outputs",
        untimed(outputs_ms=6),
        OBJECTION,
        "longer than baseline in outputs(), which is in no",
    ),
    (
        "untimed work",
        "some in each",
        untimed(reset_ms=4, outputs_ms=2.05),
        OBJECTION,
        "takes 6.00 ms longer than baseline in reset() and outputs(), which is in no",
    ),
    (
        "untimed work",
        "in prepare, on inputs that stay",
        untimed(fresh=False, reuse="they are on tape", prepare_ns=11 * MS),
        OBJECTION,
        "optimized prepares 10.0 ms longer than baseline for an iteration of 10.0 ms, and its inputs never change (they are on",
    ),
    (
        "idle command",
        "echo",
        lambda world: faster_by(world, pair("echo fast"), 1.0),
        OBJECTION,
        "optimized is `echo fast`, which does no work",
    ),
    ("idle command", "in a shell", pair("env A=1 /bin/true"), OBJECTION, "which does no work"),
    (
        "idle command",
        "far too fast",
        lambda world: faster_by(world, pair("python b.py", wall=0.005), 1000),
        OBJECTION,
        "of the time of one of baseline, and says nothing of its work",
    ),
    ("circumstances", "a newer driver", measured_before(driver="570.1"), NAMED, "driver 570.1 then, 580.65 now"),
    ("circumstances", "another torch", measured_before(torch="2.10.0"), NAMED, "torch 2.10.0 then, 2.11.0 now"),
    ("edited bound", "a looser ratio", edited, OBJECTION, "the bound was edited by hand: its minimum is"),
    ("edited bound", "another count", edited_count, OBJECTION, "the bound was edited by hand: its maximum is"),
    ("edited bound", "another digest", measured_before(digest="0" * 64), OBJECTION, "it does not fit the digest that"),
    ("same run", "under another name", copied, "unrecorded", "measured in this run"),
]


def test_a_commit_alone_is_nothing_new(good: World) -> None:
    """In CI every judged run is of another commit than the bound; a driver is worth saying."""
    for changes, said in (({"commit": "b" * 12}, False), ({"commit": "b" * 12, "driver": "570.1"}, True)):
        for low, status in ((1.5, "met"), (3.0, "missed")):
            for verdict in judged(measured_before(**changes)(good), low):
                assert verdict.status == status or verdict.part == "limits"
                assert ("changed since the bound was measured: driver 570.1" in verdict.reason) == said
                assert "commit" not in verdict.reason


def test_a_bound_of_ones_own_is_one_by_its_source() -> None:
    """The remedy that the objection names: the kind of the source, without a run and its provenance."""
    claim = replace(
        time_claim(1.5), source=Source("measured", "pipeline-0", "accepted: 2 (1.98 to 2.02) over 8 rounds")
    )
    (objection,) = edited_bound(claim, evidence())
    assert "to decide it yourself, set source.kind to 'definition'" in objection.text
    own = replace(claim, source=Source("definition", None, "1.5 is what the release promises"), provenance=None)
    assert list(edited_bound(own, evidence())) == []


@pytest.fixture(name="good")
def _good(tmp_path: Path) -> World:
    return good_world(tmp_path / "pipeline-1")


def test_the_good_run_is_met_and_nothing_is_said(good: World) -> None:
    plain = [v.reason for v in judged(World(evidence_alone(good)), 1.5)]
    found = judged(good, 1.5)
    assert [v.status for v in found] == ["met"] * 3
    assert [v.reason for v in found] == plain
    assert judged(good, 3.0)[0].status == "missed"


@pytest.mark.parametrize(
    "change",
    [
        untimed(),
        untimed(reset_ms=4),  # 1.43 times as fast where it is charged, not twice
        untimed(prepare_ns=30_000 * MS),  # compiling
        untimed(fresh=False, reuse="they are on tape"),  # and prepared as fast as the baseline
        then(
            held_to(1e-5, 1e-3), held_to(1e-5, 1e-3, worst=1e-3, chosen=lambda i: i > 3)
        ),  # another tensor was the worst
    ],
)
def test_an_honest_run_is_not_accused(good: World, change: Callable[[World], World]) -> None:
    assert [v.status for v in judged(change(good), 1.5)] == ["met"] * 3


def evidence_alone(world: World) -> Manifest:
    """The manifest as older versions wrote it: without facts, sources and digests."""
    manifest = of_facts(lambda _: {})(world).manifest
    made = [replace(r, commit=None, tree=None) for r in manifest.rounds]
    variants = [
        replace(v, recording=replace(v.recording, commit=None, tree=None, trace_sha256=None))
        for v in manifest.variants
        if v.recording
    ]
    return replace(manifest, rounds=made, variants=variants, git={"commit": None, "dirty": None})


ALL: Final = [*CASES, *EDITED]


@pytest.mark.parametrize("change", [change for _, change in HONEST], ids=[name for name, _ in HONEST])
def test_an_honest_run_is_not_taken_for_edited(good: World, change: Callable[[World], World]) -> None:
    found = judged(change(good), 1.5)
    assert [v.status for v in found] == ["met"] * 3, found[0].reason


@pytest.mark.parametrize(("breaks", "status", "words"), [c[2:] for c in ALL], ids=[f"{c[0]}: {c[1]}" for c in ALL])
def test_each_row(good: World, breaks: Callable[[World], World], status: str, words: str) -> None:
    broken = breaks(good)
    for verdict in judged(broken, 1.5):
        assert verdict.status == status, verdict.reason
        assert words in verdict.reason
    missed = judged(broken, 3.0)[0]
    assert missed.status == "missed", missed.reason
    assert words in missed.reason or status == "unrecorded"


@pytest.mark.parametrize(
    ("rounds", "words", "status"),
    [
        (8, ("--decide", "--budget=1"), "inconclusive"),
        (8, ("--decide",), "invalid"),  # only a budget ends rounds there
        (13, ("--decide", "--budget=1"), "invalid"),  # and never between two looks
    ],
)
def test_a_budget_may_end_rounds_before_the_first_look_and_nowhere_else(
    good: World, rounds: int, words: tuple[str, ...], status: str
) -> None:
    found = judged(renumbered(*range(rounds), looks=DECIDING, words=words)(good), 1.5)
    assert [v.status for v in found] == [status] * 3
    cut = "the budget was too short" if status == "inconclusive" else f"the run ended after {rounds} rounds"
    assert all(cut in v.reason for v in found), found[0].reason


def test_a_run_whose_work_is_proved_is_met(good: World) -> None:
    assert judged(proven(lambda proof: proof)(good), 1.5)[0].status == "met"


def test_a_small_part_of_all_bytes_is_enough_where_it_is_what_an_iteration_reads(good: World) -> None:
    """A served model's weights are a thousand times its requests."""
    drawn = proven(lambda proof: replace(proof, drawn_bytes=10**6, problem_bytes=10**12))
    assert "repeat" not in judged(drawn(good), 1.5)[0].reason


def test_the_table_the_rows_and_the_cases_are_one_list() -> None:
    text = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")
    section = text.partition("\n## Admissibility\n")[2].partition("\n## ")[0]
    table = re.findall(r"^\| ([a-z ]+) \|", section, re.MULTILINE)
    assert table == ["check", *ROWS]
    assert {row for row, *_ in ALL} == set(ROWS)


@pytest.mark.parametrize(("ranks", "status"), [(1, "inconclusive"), (2, "met")])
def test_of_several_ranks_the_trace_may_show_another_ones_iterations(good: World, ranks: int, status: str) -> None:
    """Ten iterations of 7 and 13 ms in turn: of the length that the process timed, 10 ms, by the median, and none by itself."""
    rows = [(i, i * 20 * MS, i * 20 * MS + ms * MS, ms * MS) for i, ms in enumerate((7, 13) * 5)]
    scattered = traced(tables={"iterations": rows})(good)
    world = of_facts(lambda facts: {**facts, "ranks": ranks})(scattered)
    assert judged(world, 1.5)[0].status == status


def test_a_tree_that_is_changed_in_every_process_is_named_and_blocks_nothing(good: World) -> None:
    world = rounds_of(good, lambda made: replace(made, tree="0123"), lambda _: True)
    variants = [replace(v, recording=replace(v.recording, tree="0123")) for v in world.manifest.variants if v.recording]
    for dirty in (True, None, False):  # false: said by the environment, on a machine without the repository
        git = {**world.manifest.git, "dirty": dirty}
        tried = replace(world, manifest=replace(world.manifest, variants=variants, git=git))
        for low, status in ((1.5, "met"), (3.0, "missed")):
            found = judged(tried, low)[0]
            assert found.status == status
            named = "every process ran from a tree with changes (digest 0123)" in found.reason
            assert named == (dirty is not False)


def test_commands_that_state_equal_work_may_be_as_fast_as_they_are(good: World) -> None:
    """A hundred times faster, and verified: nothing to object to."""
    world = pair("python b.py", wall=0.005, same=True)(good)
    assert judged(world, 1.5)[0].status == "met"


@pytest.mark.parametrize(
    ("command", "idle"),
    [
        ("echo fast", True),
        ("sleep 0", True),
        ("sleep 1", False),
        ("env X=1 printf hello", True),
        ("python3 echo", False),
    ],
)
def test_what_counts_as_a_program_that_does_nothing(good: World, command: str, idle: bool) -> None:
    assert (judged(pair(command)(good), 1.5)[0].status == "inconclusive") is idle


def test_a_shell_is_as_idle_as_what_it_runs(good: World) -> None:
    for script, idle in (("true; echo done", True), ("true && python x.py", False)):
        world = pair("sh")(good)
        made = [
            replace(c, command=["sh", "-c", script]) if c.variant == "optimized" else c for c in world.manifest.commands
        ]
        world = replace(world, manifest=replace(world.manifest, commands=made))
        assert (judged(world, 1.5)[0].status == "inconclusive") is idle


def test_a_manifest_may_hold_anything_where_it_is_free_to(good: World) -> None:
    """Facts and clocks have no schema: what is no text or number is compared, cut and never a crash."""
    clocks = {"before": [{"index": [], "limit": {}}], "after": [{"index": [], "limit": 1}, 5], "x": "text", "y": None}
    world = of_manifest(hardware=replace(good.manifest.hardware, clocks=clocks))(fact("torch", ["x" * 1000])(good))
    found = judged(world, 1.5)[0]
    assert found.status == "inconclusive" and "limit of GPU []" in found.reason and len(found.reason) < 500


def test_a_pair_keeps_its_doubt_beside_an_objection(good: World) -> None:
    reason = judged(pair("echo fast")(good), 1.5)[0].reason
    assert reason.count("it is unverified") == 1


def test_the_digest_is_of_what_was_measured(good: World) -> None:
    manifest = good.manifest
    same = replace(manifest, run_id="other", created_utc="2027-01-01T00:00:00Z", notes=("x",))
    assert same.digest == manifest.digest
    assert replace(manifest, variants=[replace(v, recording=None) for v in manifest.variants]).digest == manifest.digest
    for other in (only_rounds(*range(15)), last(wall_ns=5), last(started_utc=""), of_manifest(size="tiny")):
        assert other(good).manifest.digest != manifest.digest
    recorded = replace(manifest, rounds=())  # recordings alone are a measurement, too
    assert recorded.digest not in (manifest.digest, recording(wall_ns=5)(World(recorded)).manifest.digest)


def test_accept_takes_no_bound_from_a_run_with_an_objection(good: World) -> None:
    def refusals(world: World) -> str:
        occasion = Occasion(gather(Run(Path("run"), world.manifest), world.analyses), world.manifest)
        return "; ".join(r.text for r in propose([occasion], ExpectationFile("h200", ()), allow_loosen=True).refusals)

    assert refusals(good) == ""
    assert "the driver is 580.65" in refusals(fact("driver", "570.1")(good))


def test_accepted_bounds_remember_their_evidence(good: World) -> None:
    occasion = Occasion(gather(Run(Path("run"), good.manifest), good.analyses), good.manifest)
    claim = propose([occasion], ExpectationFile("h200", ())).claims[0]
    assert claim.provenance is not None
    assert claim.provenance.evidence == (good.manifest.digest,)


# --- bounds that nobody edited ----------------------------------------------------------------------------------------


def objected(claim: Claim) -> list[str]:
    return [found.text for found in CLAIM_ROWS["edited bound"](claim, evidence())]


def test_no_bound_of_the_package_was_edited() -> None:
    found = [c for f in load_folder(ROOT / "expectations", "option").files for c in f.claims]
    assert sum(c.source.text.startswith("accepted: ") for c in found) > 40
    assert [text for claim in found for text in objected(claim)] == []


@st.composite
def occasions(draw: st.DrawFn, most: float) -> list[Measured]:
    found = []
    for _ in range(draw(st.integers(1, 4))):
        value = draw(st.floats(0.001, most))
        low, high = value * draw(st.floats(0.5, 1)), min(value * draw(st.floats(1, 2)), most)
        found.append(Measured(value, low, max(high, value), 8, "rounds", high - low))
    return found


def accepted(found: list[Measured]) -> Source:
    more = [f"and {len(found) - 3} earlier runs"] if len(found) > 3 else []
    return Source("measured", "run-1", "accepted: " + "; ".join([*map(_reading, found[-3:]), *more]))


@given(occasions(1000.0))
def test_the_room_that_accepting_leaves_is_never_objected_to(found: list[Measured]) -> None:
    if len(found) > 3:  # the text has the last three: what they exclude cannot be told from the others
        found = [found[-1]] * 4
    assert objected(time_claim(source=accepted(found), ratio=band(found))) == []
    assert (
        objected(mechanism("bandwidth.gb_per_s", of="h2d", unit="GB/s", source=accepted(found), bound=band(found)))
        == []
    )


@given(occasions(1.0))
def test_the_room_of_a_fraction_is_never_objected_to(found: list[Measured]) -> None:
    if len(found) > 3:
        found = [found[-1]] * 4
    assert objected(mechanism(source=accepted(found), bound=fraction(found, 0.0))) == []
