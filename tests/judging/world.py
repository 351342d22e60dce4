"""A run that nothing is wrong with, ways to break it, and its verdicts: for the tests of admissibility."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from aisp_trace.analyze.result import Analysis
from aisp_trace.expectations.deciding import DECIDING
from aisp_trace.expectations.judging.evidence import gather
from aisp_trace.expectations.judging.judge import judge
from aisp_trace.expectations.judging.kept import contradictions
from aisp_trace.expectations.judging.validity import beforehand
from aisp_trace.expectations.judging.verdict import Verdict
from aisp_trace.expectations.model import Bound, ExpectationFile, Source
from aisp_trace.tests.judging.build import (
    HIDDEN,
    PROCESS_S,
    SERIAL,
    analysis,
    jittered,
    lasted,
    run_folder,
    started,
    time_claim,
)
from aisp_trace.traces.run import (
    CommandAnswer,
    CommandRound,
    Manifest,
    Proof,
    Round,
    Run,
    Statement,
    VariantResult,
    load_run,
)

NAMED, OBJECTION, INVALID = "met", "inconclusive", "invalid"

FACTS: Final = {
    "python": "3.12.3",
    "torch": "2.11.0+cu130",
    "cuda": "13.0",
    "device_name": "NVIDIA H200",
    "device_uuid": "0123456789abcdef",
    "driver": "580.65",
    "processor": "EPYC",
    "host_threads": 16,
    "freed_host_memory": "kept",
}
COMMIT: Final = "a" * 40


@dataclass(frozen=True)
class World:
    """What is judged: a run, its analyses, and what is special about the claim (null: nothing)."""

    manifest: Manifest
    analyses: Mapping[str, Analysis] = field(default_factory=lambda: {"baseline": SERIAL, "optimized": HIDDEN})
    again: Mapping[str, Sequence[Analysis]] = field(default_factory=dict)
    claim: Callable[[Any], Any] = lambda claim: claim
    folder: Path = Path("run")


def rounds_of(world: World, change: Callable[[Round], Round], chosen: Callable[[int], bool]) -> World:
    """`world` with `change` made to the chosen rounds."""
    made = [change(r) if chosen(r.index) else r for r in world.manifest.rounds]
    return replace(world, manifest=replace(world.manifest, rounds=made))


def half(index: int) -> bool:
    return index % 2 == 1


def fact(name: str, value: Any) -> Callable[[World], World]:
    """Another `value` of a fact in half of the rounds."""

    def change(made: Round) -> Round:
        return replace(made, result=replace(made.result, facts={**made.result.facts, name: value}))

    return lambda world: rounds_of(world, change, half)


def each(**changes: Any) -> Callable[[World], World]:
    """Half of the rounds with other fields."""
    return lambda world: rounds_of(world, lambda made: replace(made, **changes), half)


def last(**changes: Any) -> Callable[[World], World]:
    """The last round with other fields."""
    return lambda world: rounds_of(
        world, lambda made: replace(made, **changes), lambda i: i == len(world.manifest.rounds) - 1
    )


def recording(**changes: Any) -> Callable[[World], World]:
    """The optimized variant's recording with other fields."""

    def broken(world: World) -> World:
        base, other = world.manifest.variants
        assert other.recording is not None
        variants = (base, replace(other, recording=replace(other.recording, **changes)))
        return replace(world, manifest=replace(world.manifest, variants=variants))

    return broken


def word(old: str, new: str) -> Callable[[World], World]:
    """Another word in the commands of half of the rounds."""

    def change(made: Round) -> Round:
        return replace(made, command=[new if part == old else part for part in made.command])

    return lambda world: rounds_of(world, change, half)


def results(change: Callable[..., Any], chosen: Callable[[int], bool] = lambda index: True) -> Callable[[World], World]:
    """`change` made to the optimized variant's result in the chosen rounds, and in its recording (round -1)."""

    def process(found: Any) -> Any:
        return replace(found, variants=[change(v) if v.name == "optimized" else v for v in found.variants])

    def broken(world: World) -> World:
        world = rounds_of(world, lambda made: replace(made, result=process(made.result)), chosen)
        if not chosen(-1):
            return world
        own = world.manifest.variants[1].recording
        assert own is not None
        return recording(result=process(own.result))(world)

    return broken


def everywhere(change: Callable[[Any], Any]) -> Callable[[World], World]:
    """`change` made to every result of the run."""

    def process(found: Any) -> Any:
        return replace(found, variants=[change(v) for v in found.variants])

    def broken(world: World) -> World:
        world = rounds_of(world, lambda made: replace(made, result=process(made.result)), lambda _: True)
        kept = []
        for variant in world.manifest.variants:
            assert variant.recording is not None
            kept.append(
                replace(variant, recording=replace(variant.recording, result=process(variant.recording.result)))
            )
        return replace(world, manifest=replace(world.manifest, variants=kept))

    return broken


def traced(**changes: Any) -> Callable[[World], World]:
    """The optimized variant with another analysis."""
    known: dict[str, Any] = {"overlap": {"copy|compute": (500, 500, 400)}, **changes}
    return lambda world: replace(world, analyses={**world.analyses, "optimized": analysis(**known)})


def only_rounds(*indices: int) -> Callable[[World], World]:
    def broken(world: World) -> World:
        made = [r for r in world.manifest.rounds if r.index in indices]
        return replace(world, manifest=replace(world.manifest, rounds=made))

    return broken


def of_manifest(**changes: Any) -> Callable[[World], World]:
    return lambda world: replace(world, manifest=replace(world.manifest, **changes))


def of_facts(change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Callable[[World], World]:
    """`change` made to the facts of every process."""

    def broken(world: World) -> World:
        made = rounds_of(
            world, lambda r: replace(r, result=replace(r.result, facts=change(r.result.facts))), lambda _: True
        )
        kept = []
        for variant in made.manifest.variants:
            own = variant.recording
            if own is not None and own.result is not None:
                own = replace(own, result=replace(own.result, facts=change(own.result.facts)))
            kept.append(replace(variant, recording=own))
        return replace(made, manifest=replace(made.manifest, variants=kept))

    return broken


SECOND: Final = 10**9
BOOTED_S: Final = 5000
"""How long the machine had been up when the run was begun."""


def spanned(world: World) -> World:
    """`world` with spans on the host's clock that go with the dates."""

    def change(made: Round) -> Round:
        at = (BOOTED_S + made.index * (PROCESS_S + 1) + 5) * SECOND
        timed = []
        for v in made.result.variants:
            span = (at, at + round(1.05 * sum(v.iterations_ns)))
            at = span[1] + SECOND
            timed.append(replace(v, timed_ns=span))
        return replace(made, result=replace(made.result, variants=timed))

    return rounds_of(world, change, lambda _: True)


def second(world: World) -> World:
    """`world` as harness 2 timed it, judged by a bound that no harness measured."""
    by_hand = Source("model", None, "by hand")
    world = spanned(world)
    harness = of_facts(lambda facts: {**facts, "harness": 2})(world).manifest
    return replace(world, manifest=replace(harness, harness=2), claim=lambda claim: replace(claim, source=by_hand))


def drawn(result: VariantResult) -> tuple[int, int]:
    """The iterations whose outputs were compared: two, others in each process."""
    first, second = sorted(random.Random(str(result.iterations_ns)).sample(range(len(result.iterations_ns)), 2))
    return first, second


def proven(change: Callable[[Proof], Proof]) -> Callable[[World], World]:
    """A run of harness 2 whose answers are proved, with `change` made to the optimized variant's."""

    def process(found: Any) -> Any:
        made = []
        for v in found.variants:
            proof = Proof(True, None, drawn(v), 0, 0, 0)
            made.append(replace(v, proof=change(proof) if v.name == "optimized" else proof))
        return replace(found, variants=made)

    def broken(world: World) -> World:
        world = rounds_of(world, lambda made: replace(made, result=process(made.result)), lambda _: True)
        variants = [
            replace(v, recording=replace(v.recording, result=process(v.recording.result)))
            for v in world.manifest.variants
            if v.recording is not None
        ]
        return second(replace(world, manifest=replace(world.manifest, variants=variants)))

    return broken


def pair(
    optimized: str, *, wall: float = 0.5, same: bool = False, timed_ms: tuple[float, float] | None = None
) -> Callable[[World], World]:
    """The run as a pair of commands that say nothing of their work; `wall` is the optimized processes' share of 2 s.

    With `timed_ms` they time ten iterations each, of these milliseconds.
    """

    def made(world: World) -> World:
        statements = (Statement(1, "texts", "x"),) if same else ()
        commands: list[CommandRound] = []
        for i in range(len(world.manifest.rounds)):
            both = (("baseline", "python a.py", 1.0, 0), ("optimized", optimized, wall, 1))
            for name, words, share, place in both[:: 1 - i % 2 * 2]:
                times = () if timed_ms is None else jittered(timed_ms[place], i, name)
                lasting = lasted(i, name, about_s=2 * share)
                at = started(len(commands), 3.0)
                said = CommandAnswer(times, statements)
                commands.append(CommandRound(i, name, words.split(), 0, lasting, at, said, commit=COMMIT, tree="clean"))
        variants = [replace(v, recording=None) for v in world.manifest.variants]
        changed: dict[str, Any] = {
            "source": "pair",
            "rounds": (),
            "commands": commands,
            "timed": "processes" if timed_ms is None else "iterations",
            "variants": variants,
        }
        limits = {"baseline": 1e5, "optimized": 1e5}
        return replace(
            world,
            manifest=replace(world.manifest, **changed),
            analyses={},
            claim=lambda claim: replace(claim, max_ms=limits, ratio=Bound(claim.ratio.minimum, None)),
        )

    return made


def good_world(folder: Path) -> World:
    """Sixteen rounds of the default run, on a machine and a commit that every process names."""
    manifest = load_run(run_folder(folder, key="h200", n_rounds=16)).manifest
    made = [replace(r, commit=COMMIT, tree="clean", result=replace(r.result, facts=FACTS)) for r in manifest.rounds]
    variants = []
    for variant in manifest.variants:
        own = variant.recording
        assert own is not None and own.result is not None
        result = replace(own.result, facts=FACTS)
        own = replace(own, commit=COMMIT, tree="clean", trace_sha256=variant.name, result=result)
        variants.append(replace(variant, recording=own))
    known: dict[str, Any] = {
        "packages": {"torch": "2.11.0"},
        "git": {"commit": COMMIT, "dirty": False},
        "command_line": ["aisp-trace", "capture", "pipeline", "--decide"],
        "looks": DECIDING,
    }
    return World(folder=folder, manifest=replace(manifest, rounds=made, variants=variants, **known))


def judged(world: World, low: float) -> tuple[Verdict, ...]:
    """As `check` does it; by a claim of at least `low`."""
    claim = world.claim(time_claim(low, None, source=Source("measured", "pipeline-0", "by hand"), provenance=None))
    run = Run(world.folder, world.manifest)
    shown = gather(run, world.analyses, world.again, contradicted=tuple(contradictions(run)))
    found = judge([ExpectationFile("h200", (claim,))], shown)
    return beforehand(found, shown.run_id, world.manifest.digest)
