"""Rows about the work: that it is stated, proved, traced, possible on this machine, and done while it is timed. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import comb, prod
from pathlib import PurePosixPath
from statistics import median
from typing import Final

from ..commands import PAIR
from ..evidence import COMMAND
from ..physics import too_fast as faster_than_hardware
from ..untimed import moved_out as untimed_beyond
from ..untimed import outside_iterations
from .asked import INVALID, NAMED, OBJECTION, Asked, Finding, results_of, unequal

DRAWN_SHARE: Final = 0.5
DRAWN_OF_ALL: Final = 0.01
"""Of the input bytes that a problem states, and where it states none of all its bytes, that iterations draw anew at least."""

IDLE_SHARE: Final = 0.01
"""A command a hundred times faster than the baseline, start-up included, has most likely done nothing, or failed quietly."""

CHANCE: Final = 1e-9
"""Less likely than this, iterations to compare were not drawn by chance."""

IDLE_PROGRAMS: Final = frozenset({"echo", "true", "false", ":", "printf", "exit", "test", "pwd", "cd"})
SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ksh"})


def tolerances(asked: Asked) -> Iterator[Finding]:
    for variant in asked.manifest.variants:
        said = [
            (where, ", ".join(map(str, v.output.tolerances or (v.output.tolerance,))))
            for where, result in results_of(asked.manifest)
            for v in result.variants
            if v.name == variant.name
        ]
        for found in unequal(f"the tolerance of {variant.name}", said):
            yield replace(found, variants=(variant.name,))
        bounds = [
            bound
            for _, result in results_of(asked.manifest)
            for v in result.variants
            if v.name == variant.name
            for bound in (v.output.tolerance, *v.output.tolerances)
        ]
        if loose := [bound for bound in bounds if not 0 <= bound < 1]:
            text = f"{variant.name} is held to a tolerance of {loose[0]:.3g}, by which zeros, or anything, are right"
            yield Finding(INVALID, text, (variant.name,))


def proofs(asked: Asked) -> Iterator[Finding]:
    """From harness 2 on every answer says how the work was proved; the two that were compared are among those timed."""
    if asked.manifest.harness < 2 or asked.manifest.source in (COMMAND, PAIR):
        return
    reuse: dict[bool, str] = {}
    recorded = [made.result for variant in asked.manifest.variants for made in variant.recordings]
    for where, result in results_of(asked.manifest):
        for variant in result.variants:
            proof = variant.proof
            timed = range(len(variant.iterations_ns))
            if proof is None or not proof.compared or not set(proof.compared) <= set(timed):
                lacking = "no proof of its work" if proof is None else "no timed iteration whose outputs were compared"
                grade = (
                    INVALID if proof is not None and proof.compared else OBJECTION
                )  # of iterations that were not timed
                yield Finding(grade, f"{variant.name} in {where} has {lacking}", (variant.name,))
                return
            if not any(
                result is made for made in recorded
            ):  # a recorded process draws once, so that it holds nothing else
                reuse.setdefault(proof.fresh, f"{variant.name} in {where}")
    alike = _compared_alike(asked)
    if alike:
        yield Finding(INVALID, alike)
    if len(reuse) > 1:
        yield Finding(OBJECTION, f"inputs were fresh in each iteration of {reuse[True]}, and not of {reuse[False]}")


def repeated_input(asked: Asked) -> Iterator[Finding]:
    """Named where less than half of the input bytes that an iteration needs get other values before it.

    Held against the input that the problem itself states, not against all its tensors: parameters stay by right, and may be a
    thousand times as large. A problem that states no input has nothing else to be held against than all of them.
    """
    if asked.manifest.source in (COMMAND, PAIR):
        return
    for made in asked.manifest.rounds:
        for variant in made.result.variants:
            proof, needed = variant.proof, variant.work.input_bytes
            if proof is None or proof.drawn_bytes is None or not proof.fresh:
                continue
            of, what = (
                (needed, "bytes that one needs") if needed else (proof.problem_bytes or 0, "bytes of the problem")
            )
            if proof.drawn_bytes < (DRAWN_SHARE if needed else DRAWN_OF_ALL) * of:
                drawn = f"{proof.drawn_bytes:,} of the {of:,} {what} get other values before each"
                yield Finding(NAMED, f"iterations repeat most of their input: {drawn}")
                return


def _compared_alike(asked: Asked) -> str:
    """Why the iterations that were compared were not drawn by chance, process by process; empty where they may have been.

    One is always the last."""
    drawn = [
        (tuple(v.proof.compared), comb(len(v.iterations_ns) - 1, max(len(set(v.proof.compared)) - 1, 0)))
        for made in asked.manifest.rounds
        for v in made.result.variants
        if v.proof is not None
    ]
    chance = prod(1 / max(ways, 1) for _, ways in drawn[1:])
    if len({compared for compared, _ in drawn}) == 1 and chance < CHANCE:
        shown = ", ".join(map(str, drawn[0][0]))
        return f"all {len(drawn)} processes compared the outputs of iterations {shown}, which are drawn anew in each"
    return ""


def kept_answers(asked: Asked) -> Iterator[Finding]:
    """What a process wrote itself, where its file is still beside the manifest, is what the manifest says of it."""
    for text in asked.evidence.contradicted[:1]:
        yield Finding(INVALID, text)


def zero_work(asked: Asked) -> Iterator[Finding]:
    for name, variant in asked.evidence.variants.items():
        for answer in variant.answers:
            work = answer.work
            if not any((work.items, work.flops, work.input_bytes, work.output_bytes)):
                yield Finding(INVALID, f"{name} states no work at all in {answer.where}: no items, FLOPs or bytes")
                return


def device_work(asked: Asked) -> Iterator[Finding]:
    for variant, _, analysis, durations in asked.analysed():
        answer = variant.answers[-1] if variant.answers else None
        if answer is None or answer.inputs[1] != "cuda" or not durations:
            continue
        claimed = answer.work.flops or answer.work.input_bytes or answer.work.output_bytes
        ranges = [path for path in analysis.stages["path"].to_list() if path != "iteration"]
        if claimed and not analysis.kinds["ops"].sum() and not ranges:
            text = (
                f"the trace of {variant.name} holds neither an operation of the device nor a stage, and it states work"
            )
            yield Finding(INVALID, text, (variant.name,))


def too_fast(asked: Asked) -> Iterator[Finding]:
    for name, text in faster_than_hardware(asked.evidence):
        yield Finding(INVALID, text, (name,))


def moved_out(asked: Asked) -> Iterator[Finding]:
    for name, text in (*untimed_beyond(asked.evidence), *outside_iterations(asked.evidence)):
        yield Finding(OBJECTION, text, (name,), times=True)


def idle_commands(asked: Asked) -> Iterator[Finding]:
    """Commands of a pair that nobody can vouch for: a program that does nothing is the fastest of all."""
    stated = asked.evidence.stated
    if stated is None or not stated.doubt:
        return
    walls: dict[str, list[int]] = {}
    for one in asked.manifest.commands:
        walls.setdefault(one.variant, []).append(one.wall_ns)
    baseline = asked.manifest.variants[0].name if asked.manifest.variants else ""
    for name, ns in walls.items():
        command = next(one.command for one in asked.manifest.commands if one.variant == name)
        share = median(ns) / max(median(walls.get(baseline, ns)), 1)
        if _does_nothing(command):
            yield Finding(OBJECTION, f"{name} is `{shlex.join(command)[:80]}`, which does no work", (name,))
        elif share < IDLE_SHARE:
            text = (
                f"a process of {name} takes {share:.2%} of the time of one of {baseline}, and says nothing of its work"
            )
            yield Finding(OBJECTION, text, (name,))


def _does_nothing(command: Sequence[str]) -> bool:
    words = list(command)
    while words and (words[0] == "env" or re.fullmatch(r"[A-Za-z_]\w*=.*", words[0], re.DOTALL)):
        del words[0]
    if not words:
        return True
    program = PurePosixPath(words[0]).name
    if program in SHELLS and len(words) > 2 and words[1] == "-c":
        steps = [step.split() for step in re.split(r"[;&|\n]+", words[2])]
        return all(_does_nothing(step) for step in steps if step)
    if program == "sleep":
        return all(re.fullmatch(r"[0.]+[smhd]?", word) for word in words[1:])
    return program in IDLE_PROGRAMS
