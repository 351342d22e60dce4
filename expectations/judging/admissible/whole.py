"""Rows about what is there at all: what some processes of a run say of themselves, all of them say. Pure.

A manifest of an older version lacks a kind of fact in all of its processes. One that lacks it in some has lost it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from ..commands import PAIR
from ..evidence import COMMAND
from .asked import OBJECTION, Asked, Finding, recording_of, results_of

ALWAYS: Final = ("harness", "python", "torch", "device_name", "host_threads")
"""Facts that every workload's process answers from harness 2 on."""

Present = tuple[str, bool]
"""A process by its name, and whether it has what is asked for."""


def left_out(asked: Asked) -> Iterator[Finding]:
    for what, said in _kinds(asked):
        lacking = next((where for where, present in said if not present), None)
        having = next((where for where, present in said if present), None)
        if lacking is not None and having is not None:
            yield Finding(OBJECTION, f"{what} is left out in {lacking}, and {having} has it")
    if asked.manifest.harness >= 2 and asked.manifest.source not in (COMMAND, PAIR):
        for where, result in results_of(asked.manifest):
            if missing := [key for key in ALWAYS if result.facts.get(key) is None]:
                yield Finding(OBJECTION, f"{where} does not say its {missing[0]}, which harness 2 always writes down")
                return
    yield from _of_all(asked)


def _of_all(asked: Asked) -> Iterator[Finding]:
    """What runs have since these versions: whoever takes it out of all processes takes the questions about it away.

    Plans are as old as harness 2, and older than the sources' commit in manifests, which programs of one's own have as well.
    """
    manifest = asked.manifest
    ours = manifest.harness >= 2 and manifest.source not in (COMMAND, PAIR)
    if ours and any(not v.timed_ns for made in manifest.rounds for v in made.result.variants):
        yield Finding(OBJECTION, "no process says when its iterations were timed, which harness 2 always writes down")
    if asked.untraced and not manifest.looks and (ours or any(p.sources[0] for p in asked.untraced)):
        yield Finding(
            OBJECTION, "the run does not say after how many rounds it was to be judged, which is always written down"
        )


def _kinds(asked: Asked) -> Iterator[tuple[str, Sequence[Present]]]:
    """What is asked for, in words, and each process that should have it."""
    manifest = asked.manifest
    results = list(results_of(manifest))
    for key in sorted({key for _, result in results for key in result.facts}):
        yield f"the fact {key[:40]!r}", [(where, result.facts.get(key) is not None) for where, result in results]
    yield "the sources' commit", [(p.where, p.sources[0] is not None) for p in asked.processes]
    yield "the tree of the sources", [(p.where, p.sources[1] is not None) for p in asked.processes]
    yield "the time of its start", [(p.where, bool(p.started_utc)) for p in asked.untraced]
    made = [(f"{v.name} in {where}", v) for where, result in results for v in result.variants]
    untraced = [(f"{v.name} in round {r.index}", v) for r in manifest.rounds for v in r.result.variants]
    yield "the proof of the work", [(where, v.proof is not None) for where, v in made]
    yield "the span of the timed iterations", [(where, bool(v.timed_ns)) for where, v in untraced]
    yield "the energy pass", [(where, bool(v.repeated_ns)) for where, v in untraced]
    traces = [(recording_of(v, n), r) for v in manifest.variants for n, r in enumerate(v.recordings)]
    yield "the trace's digest", [(where, r.trace_sha256 is not None) for where, r in traces]
    for variant in manifest.variants:
        own = [one for one in manifest.commands if one.variant == variant.name]
        yield f"what {variant.name} states of its work", [(f"round {c.index}", bool(c.answer.stated)) for c in own]
    yield from _gpu_states(asked)
    if clocks := manifest.hardware.clocks:
        yield "the clocks' state", [(f"the reading {when} the run", when in clocks) for when in ("before", "after")]


def _gpu_states(asked: Asked) -> Iterator[tuple[str, Sequence[Present]]]:
    """A span between two samples has no clock and no temperature of its own; energy it has, by the samples beside it."""
    said = [(where, states) for where, _, states in asked.gpu_states()]
    yield "the state of the GPUs", [(where, bool(states)) for where, states in said]
    each = [(where, state) for where, states in said for state in states]
    sampled = [(where, state) for where, state in each if state.samples > 0]
    asks: list[tuple[str, Sequence[tuple[str, Any]], str]] = [
        ("a GPU's energy", each, "energy_mj"),
        ("a GPU's power", sampled, "power_w"),
        ("a GPU's temperature", sampled, "temperature_c"),
        ("a GPU's SM clock", sampled, "sm_mhz"),
        ("a GPU's memory clock", sampled, "memory_mhz"),
    ]
    for what, states, field in asks:
        yield what, [(where, getattr(state, field) not in (None, ())) for where, state in states]
