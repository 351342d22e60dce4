"""Runs that a hand has edited, copied or mixed: a case for each way, by the row of the table that finds it.

Each of them was met without an objection before its row asked for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from aisp_trace.expectations.model import Provenance
from aisp_trace.tests.judging.build import HIDDEN, MS, PROCESS_S, jittered, lasted, started
from aisp_trace.tests.judging.world import (
    BOOTED_S,
    COMMIT,
    FACTS,
    INVALID,
    NAMED,
    OBJECTION,
    SECOND,
    World,
    everywhere,
    last,
    of_facts,
    of_manifest,
    only_rounds,
    pair,
    proven,
    recording,
    results,
    rounds_of,
    spanned,
    traced,
)
from aisp_trace.traces.run import CommandRound, GpuState, Proof, Round, VariantResult, repetitions, write_json

Change = Callable[[World], World]


def then(*changes: Change) -> Change:
    """All of `changes`, one after the other."""

    def changed(world: World) -> World:
        for change in changes:
            world = change(world)
        return world

    return changed


def watched(world: World) -> World:
    """`spanned`, with what its GPU drew in each span."""

    def change(made: Round) -> Round:
        states = {}
        for v in made.result.variants:
            energy = random.Random(f"{made.index} {v.name}").randrange(50_000, 60_000)
            power = round(energy * 1e6 / (v.timed_ns[1] - v.timed_ns[0]), 3)
            states[v.name] = (GpuState(0, 3, (1965, 1975, 1980), (3201, 3201, 3201), power, 55, (), energy),)
        return replace(made, gpu_state=states)

    row = {"index": "0", "clocks_sm": "345 MHz", "clocks_max_sm": "1980 MHz"}
    hardware = replace(world.manifest.hardware, clocks={"before": [row], "after": [row]})
    return of_manifest(hardware=hardware)(rounds_of(spanned(world), change, lambda _: True))


def repeating(world: World) -> World:
    """`watched`, with an energy pass a tenth of a second after each timed span; its iterations take as long as the timed ones."""

    def change(made: Round) -> Round:
        own, states = [], {}
        for v in made.result.variants:
            count = repetitions(v.iterations_ns, 0)
            start = v.timed_ns[1] + SECOND // 10
            span = (start, start + round(count * sum(v.iterations_ns) / len(v.iterations_ns)))
            energy = random.Random(f"pass {made.index} {v.name}").randrange(200_000, 300_000)
            power = round(energy * 1e6 / (span[1] - span[0]), 3)
            states[v.name] = (GpuState(0, 10, (1950, 1970, 1980), (3201, 3201, 3201), power, 57, (), energy),)
            own.append(replace(v, repeated_ns=span, repeated=count))
        return replace(made, repeated_gpu_state=states, result=replace(made.result, variants=own))

    return rounds_of(watched(world), change, lambda _: True)


def pass_readings(index: int, **changes: Any) -> Change:
    """The optimized variant's GPU with other readings in the energy pass of round `index`."""

    def change(made: Round) -> Round:
        own = tuple(replace(one, **changes) for one in made.repeated_gpu_state["optimized"])
        return replace(made, repeated_gpu_state={**made.repeated_gpu_state, "optimized": own})

    return lambda world: rounds_of(world, change, lambda i: i == index)


def pass_state(index: int, **changes: Any) -> Change:
    return then(repeating, pass_readings(index, **changes))


def own(world: World, index: int, variant: str = "optimized") -> VariantResult:
    return next(v for v in world.manifest.rounds[index].result.variants if v.name == variant)


def watts(limit: int) -> Change:
    """The limit of the GPU's power, as the driver tells it."""

    def changed(world: World) -> World:
        known = world.manifest.hardware
        clocks = {
            when: [{**row, "power_limit": f"{limit}.00 W"} for row in rows] for when, rows in known.clocks.items()
        }
        return of_manifest(hardware=replace(known, clocks=clocks))(world)

    return changed


def hot_pass(world: World) -> World:
    """1.1 kW in the optimized variant's energy pass of round 6."""
    start, end = own(world, 6).repeated_ns
    return pass_readings(6, power_w=1100.0, energy_mj=round(1100 * (end - start) / 1e6))(world)


def energy_pass(index: int, change: Callable[[VariantResult], VariantResult]) -> Change:
    """The optimized variant's answer in round `index`, with another energy pass."""
    return then(repeating, results(change, lambda i: i == index))


def moved_pass(by_ns: int) -> Callable[[VariantResult], VariantResult]:
    return lambda v: replace(v, repeated_ns=[ns + by_ns for ns in v.repeated_ns])


def warmer_pass(world: World) -> World:
    """Iterations of the pass take 0.6 of the timed ones: no wait has cooled the caches or the clocks."""

    def change(made: Round) -> Round:
        own = []
        for v in made.result.variants:
            start, end = v.repeated_ns
            own.append(replace(v, repeated_ns=(start, start + round(0.6 * (end - start)))))
        states = {
            name: tuple(replace(one, power_w=one.power_w / 0.6) for one in states if one.power_w is not None)
            for name, states in made.repeated_gpu_state.items()
        }
        return replace(made, repeated_gpu_state=states, result=replace(made.result, variants=own))

    return rounds_of(repeating(world), change, lambda _: True)


def quick_pass(world: World) -> World:
    """Round 6 of the optimized variant: a quarter of the span, and of the energy, so that the power fits."""
    world = repeating(world)
    (one,) = world.manifest.rounds[6].repeated_gpu_state["optimized"]
    assert one.energy_mj is not None
    energy = one.energy_mj // 4

    def change(made: Round) -> Round:
        states = {**made.repeated_gpu_state, "optimized": (replace(one, energy_mj=energy),)}
        return replace(made, repeated_gpu_state=states)

    def quicker(v: VariantResult) -> VariantResult:
        start, end = v.repeated_ns
        return replace(v, repeated_ns=(start, start + (end - start) // 4))

    return results(quicker, lambda i: i == 6)(rounds_of(world, change, lambda i: i == 6))


def state(index: int, **changes: Any) -> Change:
    """The optimized variant's GPU with other readings in round `index`."""

    def change(made: Round) -> Round:
        own = tuple(replace(one, **changes) for one in made.gpu_state["optimized"])
        return replace(made, gpu_state={**made.gpu_state, "optimized": own})

    return lambda world: rounds_of(watched(world), change, lambda i: i == index)


def one_round(index: int, **changes: Any) -> Change:
    return lambda world: rounds_of(world, lambda made: replace(made, **changes), lambda i: i == index)


def rounds_after(last_one: int, change: Callable[[Round], Round]) -> Change:
    return lambda world: rounds_of(world, change, lambda i: i > last_one)


def booted(made: Round) -> Round:
    """A round on the clock of a machine that was started just before."""
    earlier = (BOOTED_S + 8 * (PROCESS_S + 1) - 20) * SECOND
    own = [replace(v, timed_ns=[ns - earlier for ns in v.timed_ns]) for v in made.result.variants]
    return replace(made, result=replace(made.result, variants=own))


def at_work(worked_ms: float, traced_ms: float = 10) -> Change:
    """The optimized variant's trace with a GPU that works so long in each of its iterations, of `traced_ms`."""
    cells = [("iteration/compute", i, "compute", None, round(worked_ms * MS)) for i in range(10)]
    spans = [(i, round(2 * i * traced_ms * MS), round((2 * i + 1) * traced_ms * MS), 0) for i in range(10)]
    gpu = [(0, "NVIDIA H200", "gpu", 1, 1, 0)]
    faster = results(lambda v: replace(v, iterations_ns=jittered(traced_ms, "traced")), lambda i: i == -1)
    return then(faster, traced(ledger=cells, tables={"devices": gpu, "iterations": spans}))


def hardware(**changes: Any) -> Change:
    return lambda world: of_manifest(hardware=replace(world.manifest.hardware, **changes))(world)


def without(*facts: str) -> Callable[[Any], Any]:
    return lambda known: {key: value for key, value in known.items() if key not in facts}


def fact_left_out(world: World) -> World:
    def change(made: Round) -> Round:
        return replace(made, result=replace(made.result, facts=without("device_uuid")(made.result.facts)))

    return rounds_of(world, change, lambda i: i == 3)


def times(change: Callable[[Sequence[int]], Sequence[int]], source: int = 0) -> Change:
    """Round 5 of the optimized variant with the times of round `source`, changed."""

    def changed(world: World) -> World:
        given = next(v for v in world.manifest.rounds[source].result.variants if v.name == "optimized")
        return results(lambda v: replace(v, iterations_ns=change(given.iterations_ns)), lambda i: i == 5)(world)

    return changed


def shuffled(ns: Sequence[int]) -> list[int]:
    return random.Random(1).sample(list(ns), len(ns))


def swap_spans(world: World) -> World:
    """Round 5 with the spans of round 3."""
    world = watched(world)
    given = {v.name: v.timed_ns for v in world.manifest.rounds[3].result.variants}

    def change(made: Round) -> Round:
        own = [replace(v, timed_ns=given[v.name]) for v in made.result.variants]
        return replace(made, result=replace(made.result, variants=own))

    return rounds_of(world, change, lambda i: i == 5)


def later_spans(world: World) -> World:
    """The last round with spans of an hour later: of another run on the same start of the machine."""

    def change(made: Round) -> Round:
        own = [replace(v, timed_ns=[ns + 3600 * SECOND for ns in v.timed_ns]) for v in made.result.variants]
        return replace(made, result=replace(made.result, variants=own))

    return rounds_of(watched(world), change, lambda i: i == 15)


def same_state(world: World) -> World:
    world = watched(world)
    given = world.manifest.rounds[3].gpu_state["optimized"]
    world = rounds_of(
        world, lambda made: replace(made, gpu_state={**made.gpu_state, "optimized": given}), lambda i: i == 5
    )
    span = next(v.timed_ns for v in world.manifest.rounds[3].result.variants if v.name == "optimized")

    def long(v: VariantResult) -> VariantResult:
        return replace(v, timed_ns=(v.timed_ns[0], v.timed_ns[0] + span[1] - span[0]))

    return results(long, lambda i: i == 5)(world)


def renumbered(*indices: int, looks: Sequence[int], words: Sequence[str] = ("--decide",)) -> Change:
    """These rounds alone, numbered anew and put at even distances, with the plan made to fit."""

    def cut(world: World) -> World:
        kept = only_rounds(*indices)(world).manifest.rounds
        made = [replace(r, index=i, started_utc=started(i)) for i, r in enumerate(kept)]
        for i, r in enumerate(made):
            own = list(r.result.variants)
            made[i] = replace(r, result=replace(r.result, variants=own if own[0].name == FIRST[i % 2] else own[::-1]))
        command = ["aisp-trace", "capture", "pipeline", *words]
        return of_manifest(rounds=made, looks=tuple(looks), command_line=command)(world)

    return cut


FIRST: Final = ("baseline", "optimized")
SWAPPED: Final = {"baseline": "optimized", "optimized": "baseline"}


def cut_at_the_end(world: World) -> World:
    """Twelve of sixteen rounds, and a plan of twelve, which the command did not ask for."""
    command = ["aisp-trace", "capture", "pipeline", "--rounds", "16"]
    return of_manifest(looks=(12,), command_line=command)(only_rounds(*range(12))(world))


def copied_recording(world: World) -> World:
    """The optimized variant's recording packed anew and given as a second one, with the times of another process."""
    base, own = world.manifest.variants
    first = own.recording
    assert first is not None and first.result is not None
    made = [replace(v, iterations_ns=jittered(10, "again")) for v in first.result.variants]
    again = replace(
        first,
        trace="optimized/again_1/trace.sqlite",
        trace_sha256="another",
        wall_ns=lasted("again", about_s=10),
        result=replace(first.result, variants=made),
    )
    world = of_manifest(variants=(base, replace(own, again=(again,))))(world)
    return replace(world, again={"baseline": [], "optimized": [HIDDEN]})


def kept_file(world: World) -> World:
    """What round 2 wrote lies beside the manifest, which says that it was faster."""
    made = world.manifest.rounds[2]
    write_json(world.folder / made.command[-1], made.result)
    return results(lambda v: replace(v, iterations_ns=jittered(9.8, "edited")), lambda i: i == 2)(world)


def of_commands(change: Callable[[CommandRound, CommandRound], CommandRound]) -> Change:
    """Each process of a pair changed, given the baseline's of its round."""

    def changed(world: World) -> World:
        made = world.manifest.commands
        base = {one.index: one for one in made if one.variant == "baseline"}
        return of_manifest(commands=[change(one, base[one.index]) for one in made])(world)

    return changed


def silent(world: World) -> World:
    """A pair whose processes state one work, but for one that says nothing."""
    world = pair("python b.py", same=True)(world)
    made = [
        replace(c, answer=replace(c.answer, stated=())) if (c.index, c.variant) == (4, "optimized") else c
        for c in world.manifest.commands
    ]
    return of_manifest(commands=made)(world)


def alike(world: World) -> World:
    """Proofs whose iterations to compare were not drawn anew."""

    def fixed(v: VariantResult) -> VariantResult:
        assert v.proof is not None
        return replace(v, proof=replace(v.proof, compared=(3, 5)))

    def change(made: Round) -> Round:
        return replace(made, result=replace(made.result, variants=[fixed(v) for v in made.result.variants]))

    return rounds_of(proven(lambda proof: proof)(world), change, lambda _: True)


def coarse(world: World) -> World:
    """Iterations of 200 and 100 us on a clock of whole microseconds, and no recording."""

    def change(made: Round) -> Round:
        own = [
            replace(v, iterations_ns=[200_000 if v.name == "baseline" else 100_000] * 10) for v in made.result.variants
        ]
        return replace(made, result=replace(made.result, variants=own))

    variants = [replace(v, recording=None) for v in world.manifest.variants]
    return replace(of_manifest(variants=variants)(rounds_of(world, change, lambda _: True)), analyses={})


def unsourced(world: World) -> World:
    """Processes that do not say what they ran from, as in runs that are older than plans."""
    variants = [
        replace(v, recording=replace(v.recording, commit=None, tree=None))
        for v in world.manifest.variants
        if v.recording
    ]
    world = rounds_of(world, lambda made: replace(made, commit=None, tree=None), lambda _: True)
    return of_manifest(variants=variants)(world)


def edited_copy(world: World) -> World:
    """The run that the bound was measured in, with another time of one process."""
    known = world.manifest
    then_ = Provenance(COMMIT[:12], "580.65", "2.11.0", recorded_utc=known.created_utc, evidence=(known.digest,))
    changed = last(wall_ns=known.rounds[-1].wall_ns + 1)(of_manifest(run_id="pipeline-20260101T000000Z")(world))
    return replace(changed, claim=lambda claim: replace(claim, provenance=then_))


def measured_later(world: World) -> World:
    then_ = Provenance(COMMIT[:12], "580.65", "2.11.0", recorded_utc="2026-02-01T00:00:00Z")
    return replace(world, claim=lambda claim: replace(claim, provenance=then_))


def unproven_recording(world: World) -> World:
    """A run of harness 1 some of whose answers have a proof."""
    return results(lambda v: replace(v, proof=Proof(True, None, (1, 2), 0, 0, 0)), lambda i: i == 3)(world)


EDITED: Final[list[tuple[str, str, Change, str, str]]] = [
    (
        "left out",
        "a fact",
        fact_left_out,
        OBJECTION,
        "the fact 'device_uuid' is left out in round 3, and round 0 has it",
    ),
    (
        "left out",
        "a fact, in all of a harness that writes it",
        then(proven(lambda proof: proof), of_facts(without("torch"))),
        OBJECTION,
        "round 0 does not say its torch, which harness 2 always writes down",
    ),
    (
        "left out",
        "the state of the GPU",
        then(watched, one_round(6, gpu_state={})),
        OBJECTION,
        "the state of the GPUs is left out in baseline in round 6, and baseline in round 0 has it",
    ),
    (
        "left out",
        "an energy",
        state(6, energy_mj=None),
        OBJECTION,
        "a GPU's energy is left out in optimized in round 6",
    ),
    ("left out", "a clock", state(6, sm_mhz=()), OBJECTION, "a GPU's SM clock is left out in optimized in round 6"),
    (
        "left out",
        "a span",
        then(watched, results(lambda v: replace(v, timed_ns=()), lambda i: i == 6)),
        INVALID,
        "the span of the timed iterations is left out in optimized in round 6",
    ),
    (
        "left out",
        "all spans",
        then(proven(lambda proof: proof), everywhere(lambda v: replace(v, timed_ns=()))),
        OBJECTION,
        "no process says when its iterations were timed, which harness 2 always writes down",
    ),
    (
        "left out",
        "the plan, and the capture that made it",
        of_manifest(looks=(), command_line=()),
        OBJECTION,
        "the run does not say after how many rounds it was to be judged, which is always written down",
    ),
    (
        "left out",
        "a pair's plan",
        then(pair("python b.py"), of_manifest(looks=(), command_line=["aisp-trace", "(7 words removed)"])),
        OBJECTION,
        "the run does not say after how many rounds it was to be judged, which is always written down",
    ),
    (
        "left out",
        "an energy pass",
        energy_pass(6, lambda v: replace(v, repeated_ns=(), repeated=0)),
        OBJECTION,
        "the energy pass is left out in optimized in round 6, and",
    ),
    (
        "left out",
        "the state of the GPU in an energy pass",
        then(repeating, one_round(6, repeated_gpu_state={})),
        OBJECTION,
        "the state of the GPUs is left out in the energy pass of baseline in round 6, and baseline in round 0 has it",
    ),
    (
        "left out",
        "the energy of an energy pass",
        pass_state(6, energy_mj=None),
        OBJECTION,
        "a GPU's energy is left out in the energy pass of optimized in round 6",
    ),
    (
        "left out",
        "the clocks after the run",
        then(watched, hardware(clocks={"before": []})),
        OBJECTION,
        "the clocks' state is left out in the reading after the run",
    ),
    (
        "left out",
        "a digest",
        recording(trace_sha256=None),
        OBJECTION,
        "the trace's digest is left out in the recording of",
    ),
    ("left out", "a start", last(started_utc=""), OBJECTION, "the time of its start is left out in round 15"),
    ("left out", "a commit", last(commit=None), OBJECTION, "the sources' commit is left out in round 15"),
    ("left out", "a proof", unproven_recording, OBJECTION, "the proof of the work is left out in baseline in round 0"),
    ("left out", "a statement", silent, OBJECTION, "what optimized states of its work is left out in round 4"),
    (
        "machine",
        "another machine's key",
        then(hardware(gpus=["NVIDIA H100"]), of_facts(lambda facts: {**facts, "device_name": "NVIDIA H100"})),
        INVALID,
        "the run's machine is called h200, and what it has is called h100",
    ),
    (
        "machine",
        "a device that nobody knows the peaks of",
        hardware(gpus=["NVIDIA B999"]),
        INVALID,
        "the run's machine is called h200, and what it has is called b999",
    ),
    (
        "machine",
        "processes on another device",
        of_facts(lambda facts: {**facts, "device_name": "NVIDIA B300"}),
        INVALID,
        "the run's GPUs are NVIDIA H200, and round 0 ran on NVIDIA B300",
    ),
    (
        "machine",
        "processes on another processor",
        of_facts(lambda facts: {**facts, "processor": "Xeon"}),
        INVALID,
        "the run's processor is EPYC, and round 0 ran on Xeon",
    ),
    (
        "machine",
        "more GPUs than it has",
        lambda world: rounds_of(
            watched(world),
            lambda made: replace(made, gpu_state={n: (*s, replace(s[0], gpu=1)) for n, s in made.gpu_state.items()}),
            lambda _: True,
        ),
        INVALID,
        "the run has 1 GPUs, and 2 were looked at under",
    ),
    (
        "machine",
        "more GPUs than it has in its energy passes",
        lambda world: rounds_of(
            repeating(world),
            lambda made: replace(
                made, repeated_gpu_state={n: (*s, replace(s[0], gpu=1)) for n, s in made.repeated_gpu_state.items()}
            ),
            lambda _: True,
        ),
        INVALID,
        "the run has 1 GPUs, and 2 were looked at under the energy pass of baseline in round 0",
    ),
    (
        "machine",
        "a trace of another device",
        traced(tables={"devices": [(0, "NVIDIA A100", "gpu", 1, 1, 0)]}),
        INVALID,
        "the trace of optimized is of NVIDIA A100",
    ),
    (
        "machine",
        "a trace of more devices",
        traced(tables={"devices": [(i, "NVIDIA H200", "gpu", 1, 1, 0) for i in range(2)]}),
        INVALID,
        "the run has 1 GPUs, and 2 worked in the trace of optimized",
    ),
    (
        "answers",
        "another timer",
        everywhere(lambda v: replace(v, timer="perf_counter")),
        INVALID,
        "the run's timer is cuda_event, and round 0 says perf_counter",
    ),
    (
        "tolerances",
        "of anything, in all processes",
        everywhere(lambda v: replace(v, output=replace(v.output, error=0.9, tolerance=1.0))),
        INVALID,
        "optimized is held to a tolerance of 1, by which zeros, or anything, are right",
    ),
    (
        "times",
        "a pause that the manifest explains",
        then(
            lambda world: rounds_of(
                world, lambda made: replace(made, started_utc=started(made.index + 60)), lambda i: i > 7
            ),
            of_manifest(resumed_utc=("2026-01-01T00:20:00Z",), created_utc="2026-01-01T02:00:00Z"),
        ),
        NAMED,
        "the capture was interrupted after round 7 and gone on with 1,801 s later, with round 8",
    ),
    (
        "machine",
        "a CPU's, with its GPUs",
        then(hardware(device="cpu"), of_facts(lambda facts: {**facts, "device_name": "EPYC"})),
        INVALID,
        "the run's device is a CPU, and its machine is said to have been asked for its GPUs (NVIDIA H200)",
    ),
    (
        "machine",
        "another one, where the run was gone on with",
        then(
            rounds_after(
                7,
                lambda made: replace(made, result=replace(made.result, facts={**FACTS, "device_name": "NVIDIA B300"})),
            ),
            of_manifest(resumed_utc=("2026-01-01T00:04:00Z",)),
        ),
        OBJECTION,
        "the run's GPUs are NVIDIA H200, and round 8 ran on NVIDIA B300",
    ),
    (
        "host clock",
        "another start of the machine, where the run was gone on with",
        then(
            watched,
            rounds_after(7, booted),
            of_manifest(resumed_utc=("2026-01-01T00:04:00Z",)),
        ),
        OBJECTION,
        "baseline in round 8 was timed before baseline in round 7 had ended, by the host's own clock: they are",
    ),
    (
        "device time",
        "less than half of what the GPU works",
        at_work(worked_ms=20.1),
        INVALID,
        "an untraced iteration of optimized takes 10 ms, and a GPU works 20.1 ms in a recorded one: they did not do the same",
    ),
    (
        "device time",
        "less than the GPU works",
        at_work(worked_ms=13.0),
        OBJECTION,
        "an untraced iteration of optimized takes 10 ms, and a GPU works 13 ms in a recorded one: they did not do the same",
    ),
    (
        "device time",
        "much faster when recorded",
        at_work(worked_ms=4.0, traced_ms=4.5),
        OBJECTION,
        "an iteration of optimized takes 4.5 ms when it is recorded and 10 ms when it is not: no recorder makes it faster",
    ),
    (
        "trace times",
        "a third longer",
        traced(iteration_ms=13),
        OBJECTION,
        "an iteration of optimized takes 13 ms in its trace, and its process timed 10 ms",
    ),
    (
        "recording cost",
        "a hundred times faster",
        at_work(worked_ms=0.05, traced_ms=0.1),
        INVALID,
        "an iteration of optimized takes 0.01 times as long when recorded",
    ),
    ("asked for", "warm-up", of_manifest(warmup=5), INVALID, "the run's warmup is 5, and round 0 was asked for 1"),
    (
        "asked for",
        "the capture's own iterations",
        of_manifest(command_line=["aisp-trace", "capture", "pipeline", "--decide", "--iterations=50"]),
        INVALID,
        "the run's iterations is 10, and the capture was asked for 50",
    ),
    (
        "asked for",
        "variants in another order",
        lambda world: rounds_of(
            world,
            lambda made: replace(made, command=[SWAPPED.get(part, part) for part in made.command]),
            lambda _: True,
        ),
        INVALID,
        "round 0 was asked for optimized, baseline and answers for baseline, optimized",
    ),
    (
        "asked for",
        "another torch",
        of_manifest(packages={"torch": "2.10.0"}),
        OBJECTION,
        "the run's torch is 2.10.0, and that of round 0 is 2.11.0+cu130",
    ),
    (
        "asked for",
        "an older harness",
        of_facts(lambda facts: {**facts, "harness": 2}),
        INVALID,
        "the run's harness is 1, and round 0 was timed by harness 2",
    ),
    (
        "asked for",
        "a pair by its processes, which timed iterations",
        then(pair("python b.py", timed_ms=(20, 19)), of_manifest(timed="processes")),
        INVALID,
        "the run is timed by whole processes, and all of them timed iterations",
    ),
    (
        "asked for",
        "a workload as a command, whose outputs nobody compares",
        of_manifest(source="command"),
        INVALID,
        "the manifest calls this a run of commands, but its processes answer like a workload's",
    ),
    (
        "asked for",
        "a plan that no command made",
        of_manifest(command_line=()),
        INVALID,
        "the run has a plan, and does not say which capture made it",
    ),
    (
        "kept answers",
        "edited in the manifest alone",
        kept_file,
        INVALID,
        "the manifest says another iterations_ns of optimized of round 2 than round_02.json, which its process wrote",
    ),
    (
        "host clock",
        "another process's spans",
        swap_spans,
        INVALID,
        "in round 5 was timed before optimized in round 4 had ended, by the host's own clock",
    ),
    (
        "host clock",
        "another run's spans",
        later_spans,
        OBJECTION,
        "optimized was not timed within round 15, by the host's own clock against the date",
    ),
    (
        "repeated times",
        "a copy",
        times(lambda ns: ns),
        INVALID,
        "the iterations of optimized in round 5 have the times of round 0, to the nanosecond",
    ),
    (
        "repeated times",
        "shuffled",
        times(shuffled),
        INVALID,
        "have the times of round 0, to the nanosecond",
    ),
    (
        "repeated times",
        "a nanosecond later",
        times(lambda ns: [one + 1 for one in ns]),
        INVALID,
        "the iterations of optimized in round 5 have the times of round 0, by one difference or factor",
    ),
    (
        "repeated times",
        "all but three",
        times(lambda ns: [*ns[:7], *jittered(10, "other")[7:]]),
        INVALID,
        "the iterations of optimized in round 5 have the times of round 0, by one difference or factor",
    ),
    (
        "repeated times",
        "one hundredth faster",
        times(lambda ns: [round(0.99 * one) for one in ns]),
        INVALID,
        "the iterations of optimized in round 5 have the times of round 0, by one difference or factor",
    ),
    (
        "repeated times",
        "of a round in the recording",
        lambda world: results(
            lambda v: replace(v, iterations_ns=world.manifest.rounds[0].result.variants[1].iterations_ns),
            lambda i: i == -1,
        )(world),
        INVALID,
        "in the recording of optimized have the times of round 0, to the nanosecond",
    ),
    (
        "repeated times",
        "constant",
        times(lambda ns: [10 * MS] * 10),
        INVALID,
        "10 of 10 iterations of optimized in round 5 take 10,000,000 ns, which no clock says so often",
    ),
    (
        "repeated times",
        "constant but for two",
        times(lambda ns: [10 * MS] * 8 + [10 * MS - 7, 10 * MS + 3]),
        INVALID,
        "8 of 10 iterations of optimized in round 5 take 10,000,000 ns",
    ),
    (
        "repeated times",
        "half of the baseline's",
        lambda world: results(
            lambda v: replace(v, iterations_ns=[ns // 2 for ns in own(world, 5, "baseline").iterations_ns]),
            lambda i: i == 5,
        )(world),
        INVALID,
        "the iterations of optimized in round 5 have the times of the iterations of baseline in round 5, by one difference or",
    ),
    (
        "repeated times",
        "half of the baseline's processes",
        lambda world: of_commands(
            lambda one, base: replace(one, wall_ns=base.wall_ns // 2) if one.variant == "optimized" else one
        )(pair("python b.py")(world)),
        INVALID,
        "the processes of optimized have the times of the processes of baseline, by one difference or factor",
    ),
    (
        "repeated times",
        "of a command, whole milliseconds",
        lambda world: of_commands(
            lambda one, base: (
                replace(one, answer=replace(one.answer, iterations_ns=[10 * MS] * 10))
                if one.variant == "optimized"
                else one
            )
        )(pair("python b.py", wall=0.9, timed_ms=(20, 10))(world)),
        OBJECTION,
        "10 of 10 iterations of optimized in round 0 take 10,000,000 ns, which no clock says so often",
    ),
    (
        "repeated times",
        "whole processes",
        lambda world: rounds_of(world, lambda made: replace(made, wall_ns=29 * SECOND), lambda i: i < 3),
        INVALID,
        "3 processes lasted 29,000,000,000 ns, which no clock says three times",
    ),
    (
        "readings",
        "more power than energy",
        state(6, power_w=90.0),
        INVALID,
        "the state of GPU 0 under optimized in round 6 says 90 W, and its energy of",
    ),
    (
        "readings",
        "a tenth of the energy",
        state(6, energy_mj=5_000),
        INVALID,
        "and its energy of 5 J over 104.9 ms is 47",
    ),
    (
        "readings",
        "a clock above the greatest",
        state(6, sm_mhz=(1980, 2400, 2600)),
        OBJECTION,
        "says an SM clock of 2,600 MHz, and its greatest is 1,980 MHz",
    ),
    (
        "readings",
        "more power than the card may draw",
        then(repeating, watts(700), hot_pass),
        OBJECTION,
        "the state of GPU 0 under the energy pass of optimized in round 6 says 1100 W over 509.5 ms, and its limit is 700 W",
    ),
    (
        "readings",
        "no power at work",
        pass_state(6, energy_mj=0, power_w=0.0),
        OBJECTION,
        "the state of GPU 0 under the energy pass of optimized in round 6 says 0 W over 509.5 ms at work, which is less than it",
    ),
    (
        "readings",
        "a mean above the most",
        state(6, sm_mhz=(1900, 1980, 1950)),
        INVALID,
        "that is not least, mean and most",
    ),
    (
        "readings",
        "half of the energy in the pass",
        pass_state(6, energy_mj=120_000),
        INVALID,
        "the state of GPU 0 under the energy pass of optimized in round 6 says",
    ),
    (
        "readings",
        "another power in the pass",
        pass_state(6, power_w=90.0),
        INVALID,
        "the state of GPU 0 under the energy pass of optimized in round 6 says 90 W",
    ),
    (
        "readings",
        "energy below zero in the pass",
        pass_state(6, energy_mj=-1),
        INVALID,
        "under the energy pass of optimized in round 6 has a figure below zero",
    ),
    (
        "spans",
        "more iterations in the energy pass",
        energy_pass(6, lambda v: replace(v, repeated=2 * v.repeated)),
        INVALID,
        "optimized in round 6 says 102 iterations of its energy pass, and after these times the harness runs 51",
    ),
    (
        "spans",
        "fewer iterations in the energy pass",
        energy_pass(6, lambda v: replace(v, repeated=v.repeated - 1)),
        INVALID,
        "says 50 iterations of its energy pass",
    ),
    (
        "spans",
        "iterations without an energy pass",
        then(watched, results(lambda v: replace(v, repeated=50), lambda i: i == 6)),
        INVALID,
        "optimized in round 6 has an energy pass without a start and an end",
    ),
    (
        "spans",
        "an energy pass that does less",
        quick_pass,
        OBJECTION,
        "optimized in round 6 took 2.498 ms an iteration in its energy pass, and at least 9.99 ms when it was timed",
    ),
    (
        "spans",
        "an energy pass before the timed iterations had ended",
        energy_pass(6, moved_pass(-SECOND // 5)),
        INVALID,
        "optimized in round 6 began its energy pass 100 ms before its timed iterations had ended",
    ),
    (
        "spans",
        "an energy pass after the process",
        energy_pass(6, moved_pass(40 * SECOND)),
        INVALID,
        "optimized in round 6 ended its energy pass 4",
    ),
    (
        "host clock",
        "an energy pass while the next variant is timed",
        then(
            repeating,
            lambda world: rounds_of(
                world,
                lambda made: replace(
                    made,
                    result=replace(made.result, variants=[moved_pass(SECOND)(v) for v in made.result.variants]),
                ),
                lambda i: i == 6,
            ),
        ),
        INVALID,
        "was timed before baseline in round 6 had ended",
    ),
    ("readings", "energy below zero", state(6, energy_mj=-1), INVALID, "has a figure below zero"),
    ("readings", "a GPU on fire", state(6, temperature_c=900), OBJECTION, "says 900 degrees"),
    ("readings", "another round's", same_state, INVALID, "is that of optimized in round 3, to the last digit"),
    (
        "readings",
        "time below zero",
        proven(lambda proof: replace(proof, reset_ns=-MS)),
        INVALID,
        "optimized in round 0 says -1,000,000 ns of reset()",
    ),
    (
        "readings",
        "memory below zero",
        results(lambda v: replace(v, allocator=replace(v.allocator, peak_bytes=-1)), lambda i: i == 3),
        INVALID,
        "optimized in round 3 says -1 peak bytes",
    ),
    (
        "proofs",
        "the same iterations in every process",
        alike,
        INVALID,
        "all 32 processes compared the outputs of iterations 3, 5, which are drawn anew in each",
    ),
    (
        "rounds",
        "cut out and numbered anew",
        renumbered(*range(3), *range(7, 16), looks=(12, 16, 24, 32, 40)),
        INVALID,
        "round 3 was made as round 7",
    ),
    (
        "rounds",
        "cut at the end, with a plan to fit",
        cut_at_the_end,
        INVALID,
        "the run's command plans a verdict after 16 rounds, and the run says after 12",
    ),
    (
        "times",
        "room for two rounds",
        lambda world: rounds_of(
            world,
            lambda made: replace(made, started_utc=started(made.index + 2)),
            lambda i: i > 7,
        ),
        OBJECTION,
        "61 s passed between the end of round 7 at 2026-01-01T00:03:59Z and the start of round 8",
    ),
    (
        "times",
        "two at once",
        one_round(7, wall_ns=59 * SECOND),
        INVALID,
        "round 8 was started 29 s before round 7 had ended",
    ),
    (
        "times",
        "before the run was begun",
        of_manifest(run_id="pipeline-20260101T001000Z"),
        INVALID,
        "round 0 was started at 2026-01-01T00:00:00Z, before the run was begun at 2026-01-01T00:10:00Z",
    ),
    (
        "times",
        "was complete cannot be read",
        of_manifest(created_utc="tomorrow"),
        INVALID,
        "the time at which the run was complete cannot be read",
    ),
    (
        "times",
        "no time for the recordings",
        of_manifest(created_utc="2026-01-01T00:08:05Z"),
        INVALID,
        "the recordings took 20",
    ),
    ("trace files", "the same one packed anew", copied_recording, INVALID, "are one trace"),
    (
        "untimed work",
        "of a command, outside its iterations",
        pair("python b.py", wall=1.1, timed_ms=(20, 10)),
        OBJECTION,
        "longer than one of baseline outside its 10 iterations, which is in none of their times: with it, an iteration of "
        "10.0 ms is 0.",
    ),
    (
        "circumstances",
        "the bound's own run, edited",
        edited_copy,
        INVALID,
        "the run was complete in the very second in which the bound's was, and is an edited copy of it",
    ),
    (
        "circumstances",
        "a bound of after the run",
        measured_later,
        NAMED,
        "measured at 2026-02-01T00:00:00Z, after this run",
    ),
]

HONEST: Final[list[tuple[str, Change]]] = [
    ("a GPU that works all the time, at a higher clock when recorded", at_work(worked_ms=9.9, traced_ms=9.9)),
    ("a recording that waits for its recorder", at_work(worked_ms=6, traced_ms=18)),
    ("a power cap", then(repeating, watts(600))),
    ("watched", watched),
    ("watched, with proofs", then(proven(lambda proof: proof), watched)),
    ("with energy passes", repeating),
    ("with energy passes and proofs", then(proven(lambda proof: proof), repeating)),
    ("an energy pass with warmer caches", warmer_pass),
    ("a short span between two samples", state(6, samples=0, sm_mhz=(), memory_mhz=(), temperature_c=None)),
    (
        "interrupted and gone on with",
        then(
            lambda world: rounds_of(
                world, lambda made: replace(made, started_utc=started(made.index + 60)), lambda i: i > 7
            ),
            of_manifest(resumed_utc=("2026-01-01T00:20:00Z",), created_utc="2026-01-01T02:00:00Z"),
        ),
    ),
    ("microseconds on a coarse clock", coarse),
    ("a slice of a GPU", of_facts(lambda facts: {**facts, "device_name": "NVIDIA H200 MIG 1g.18gb"})),
    (
        "a pair whose capture's words were left out of a bundle",
        then(
            pair("python b.py", timed_ms=(20, 10)),
            of_manifest(timed="processes", command_line=["aisp-trace", "(7 words removed)"]),
        ),
    ),
    (
        "paused, before plans were written down",
        then(
            unsourced,
            lambda world: rounds_of(
                world, lambda made: replace(made, started_utc=started(made.index + 60)), lambda i: i > 7
            ),
            of_manifest(
                looks=(), command_line=["aisp-trace", "capture", "pipeline"], created_utc="2026-01-01T02:00:00Z"
            ),
        ),
    ),
    ("a pair that times iterations", pair("python b.py", wall=0.9, timed_ms=(20, 10))),
]
"""Runs that nobody has touched, in ways that a row might take for edited."""
