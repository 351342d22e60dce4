"""Rows about the plan: whether every process ran what was planned, in its order and number. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final

from ....traces.pair_timing import PROCESSES, timed_by
from ....traces.run import CommandAnswer
from ...deciding import DECIDING, MIN_ROUNDS
from ..commands import PAIR
from ..evidence import COMMAND
from .asked import INVALID, OBJECTION, Asked, Finding, results_of, unequal

TIMERS: Final = {"cuda": "cuda_event", "cpu": "perf_counter"}
"""What the harness takes times with on each device."""


def commands(asked: Asked) -> Iterator[Finding]:
    pair = asked.manifest.source == PAIR
    if asked.manifest.source == COMMAND:
        return
    for variant in asked.manifest.variants:
        mine = [p for p in asked.processes if variant.name in p.variants]
        if not mine or mine[0].index is None:
            continue
        first = _core(mine[0].command, pair)
        for other in mine[1:]:
            core = _core(other.command, pair)
            same = core == first if other.index is not None else core[-len(first) :] == first
            if not same:
                one, two = _apart(first, core if other.index is not None else core[-len(first) :])
                text = f"the command of {variant.name} is {one} in {mine[0].where} and {two} in {other.where}"
                yield Finding(OBJECTION, text, (variant.name,))
                break


def _core(command: Sequence[str], pair: bool) -> tuple[str, ...]:
    """A workload's command without what differs by design: its result's path, and which variants, in which order."""
    if pair:
        return tuple(command)
    kept, words = [], iter(command)
    for word in words:
        if word in ("--result", "--variant"):
            next(words, None)
        elif word != "--trace":
            kept.append(word)
    return tuple(kept)


def _apart(one: Sequence[str], other: Sequence[str]) -> tuple[str, str]:
    """The first words that differ, each with the word before it."""
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return tuple(repr(shlex.join(words[max(at - 1, 0) : at + 1])[:80]) for words in (one, other))  # type: ignore[return-value]


def iterations(asked: Asked) -> Iterator[Finding]:
    for variant in asked.manifest.variants:
        counts = [(p.where, len(p.times_ns[variant.name])) for p in asked.processes if variant.name in p.times_ns]
        if asked.manifest.source in (COMMAND, PAIR):
            counts = [(where, n) for where, n in counts if n]  # commands may time none, or their recording may not
        for found in unequal(f"the number of timed iterations of {variant.name}", counts):
            yield replace(found, variants=(variant.name,))


def answered(asked: Asked) -> Iterator[Finding]:
    """Workloads: what each process says that it ran is what the manifest says."""
    manifest = asked.manifest
    for where, result in results_of(manifest):
        said = {
            "workload": (manifest.workload, result.workload),
            "device": (manifest.hardware.device, result.device),
            "size": (manifest.size, result.size),
            "seed": (manifest.seed, result.seed),
        }
        for timer in [v.timer for v in result.variants if v.timer != TIMERS.get(result.device, v.timer)]:
            said["timer"] = (TIMERS[result.device], timer)
        counts = {len(v.iterations_ns) for v in result.variants}
        if manifest.iterations is not None and counts != {manifest.iterations}:
            said["number of iterations"] = (manifest.iterations, min(counts, default=0))
        for what, (planned, ran) in said.items():
            if planned is not None and planned != ran:
                text = f"the run's {what} is {str(planned)[:80]}, and {where} says {str(ran)[:80]}"
                yield Finding(INVALID, text)
                return


def asked_for(asked: Asked) -> Iterator[Finding]:
    """What each process was asked for, and answers of itself, is what the manifest says.

    Versions are those of the installed package here and of the imported module there, which may honestly differ.
    """
    for grade, found in ((INVALID, _otherwise(asked)), (OBJECTION, _other_versions(asked))):
        if (text := next(found, None)) is not None:
            yield Finding(grade, text)


def _otherwise(asked: Asked) -> Iterator[str]:
    manifest = asked.manifest
    foreign = manifest.source in (COMMAND, PAIR)
    answered = any(r.result is not None for v in manifest.variants for r in v.recordings)
    if foreign and (manifest.rounds or answered):
        yield "the manifest calls this a run of commands, but its processes answer like a workload's"
    if manifest.source == PAIR:
        yield from _timing(asked)
    if foreign:
        return
    if manifest.looks and not _is_capture(manifest.command_line):
        yield "the run has a plan, and does not say which capture made it"
    planned = {
        "--iterations": manifest.iterations,
        "--warmup": manifest.warmup,
        "--size": manifest.size,
        "--seed": manifest.seed,
        "--task": manifest.workload.partition(".")[2] or None if manifest.source == "builtin" else None,
    }
    started = [("the capture", manifest.command_line), *((p.where, p.command) for p in asked.processes)]
    for where, command in started:
        for option, value in planned.items():
            found = option_values(command, option)
            if value is not None and found and found[-1] != str(value):
                yield f"the run's {option[2:]} is {value}, and {where} was asked for {found[-1][:40]}"
    for process in asked.processes:
        names, device = (option_values(process.command, option) for option in ("--variant", "--device"))
        if names and names != list(process.variants):
            yield f"{process.where} was asked for {', '.join(names)[:80]} and answers for {', '.join(process.variants)[:80]}"
        if device and device[-1] != manifest.hardware.device:
            yield f"the run's device is {manifest.hardware.device}, and {process.where} was asked for {device[-1][:40]}"
        harness = process.facts.get("harness")
        if harness is not None and harness != manifest.harness:
            yield f"the run's harness is {manifest.harness}, and {process.where} was timed by harness {str(harness)[:40]}"


def _other_versions(asked: Asked) -> Iterator[str]:
    for process in asked.processes:
        for fact in ("torch", "python"):
            said, found = asked.manifest.packages.get(fact), process.facts.get(fact)
            if said and found is not None and not re.fullmatch(rf"{re.escape(said)}(\+.*)?", str(found)):
                yield f"the run's {fact} is {said[:40]}, and that of {process.where} is {str(found)[:40]}"


def _timing(asked: Asked) -> Iterator[str]:
    """A pair is timed by what all its processes have, unless its capture was asked otherwise."""
    manifest = asked.manifest
    if not manifest.commands or manifest.timed is None:
        return
    answers: dict[str, list[CommandAnswer]] = {}
    for one in manifest.commands:
        answers.setdefault(one.variant, []).append(one.answer)
    for variant in manifest.variants:
        recorded = [made.answer for made in variant.recordings if made.answer is not None]
        answers.setdefault(variant.name, []).extend(recorded)
    found, why = timed_by(answers)
    asks = option_values(manifest.command_line, "--timing")
    wanted = not _is_capture(manifest.command_line) or PROCESSES in asks
    if manifest.timed != found and not (manifest.timed == PROCESSES and wanted):
        by = "whole processes" if manifest.timed == PROCESSES else manifest.timed[:40]
        timed = (
            f"not all of its processes timed those ({why[:200]})"
            if found == PROCESSES
            else f"all of them timed {found}"
        )
        yield f"the run is timed by {by}, and {timed}"


def _is_capture(command: Sequence[str]) -> bool:
    """Whether the words of the capture are there to ask: those of a user's own commands are left out of a bundle."""
    return list(command[1:2]) == ["capture"]


def option_values(command: Sequence[str], option: str) -> list[str]:
    """What `option` is given in `command`, as ``--rounds 8`` or ``--rounds=8``, in order."""
    apart = [value for word, value in pairwise(command) if word == option]
    return apart + [word.removeprefix(f"{option}=") for word in command if word.startswith(f"{option}=")]


def rounds(asked: Asked) -> Iterator[Finding]:
    planned = [variant.name for variant in asked.manifest.variants]
    ran: dict[int, list[str]] = {}
    for process in asked.untraced:
        ran.setdefault(process.index or 0, []).extend(process.variants)
    if list(ran) != list(range(len(ran))):
        yield Finding(INVALID, f"rounds are missing or out of order: the run has {_listed(list(ran))}")
        return
    for process in asked.untraced:
        files = [PurePosixPath(word).name for word in option_values(process.command, "--result")]
        numbers = [int(found[1]) for file in files if (found := re.fullmatch(r"round_(\d{1,9})(?:_\d+)?\.json", file))]
        if numbers and numbers != [process.index]:
            yield Finding(INVALID, f"{process.where} was made as round {numbers[0]}")
            return
    looks = asked.manifest.looks
    planned_looks = _planned_looks(asked)
    if looks and planned_looks and tuple(looks) != planned_looks:
        one, other = (", ".join(map(str, some[:12])) for some in (planned_looks, looks))
        yield Finding(INVALID, f"the run's command plans a verdict after {one} rounds, and the run says after {other}")
        return
    looks = looks or planned_looks
    for index, names in ran.items():
        order = planned if index % 2 == 0 else planned[::-1]
        if sorted(names) != sorted(planned):
            text = f"round {index} ran {', '.join(names)}, and the plan says each of {', '.join(planned)} once"
            yield Finding(INVALID, text)
            return
        if looks and names != order:
            text = f"round {index} ran in the order {', '.join(names)}, and the plan says {', '.join(order)}"
            yield Finding(INVALID, text)
            return
    if looks and ran and len(ran) not in looks and not _out_of_budget(asked, len(ran)):
        listed = ", ".join(map(str, looks[:12]))
        yield Finding(INVALID, f"the run ended after {len(ran)} rounds, and the plan has a verdict after {listed}")


def _out_of_budget(asked: Asked, ran: int) -> bool:
    """Whether a budget may have ended the rounds before the first of several looks: no time is judged by those that ran."""
    words, looks = asked.manifest.command_line, asked.manifest.looks
    budgeted = not _is_capture(words) or bool(option_values(words, "--budget"))
    return budgeted and len(looks) > 1 and ran < looks[0]


def _planned_looks(asked: Asked) -> tuple[int, ...]:
    """The looks that the capture's own command asks for; empty where it is not there to ask, or of before looks were planned."""
    words = asked.manifest.command_line
    if not _is_capture(words):
        return ()
    if "--decide" in words:
        return DECIDING
    asks = option_values(words, "--rounds")
    if not asks:
        return (MIN_ROUNDS,) if asked.manifest.looks or asked.manifest.harness >= 2 else ()
    return (int(asks[-1]),) if re.fullmatch(r"[1-9]\d{0,8}", asks[-1]) else ()


def _listed(indices: Sequence[int]) -> str:
    return ", ".join(map(str, indices[:12])) + (" ..." if len(indices) > 12 else "")
