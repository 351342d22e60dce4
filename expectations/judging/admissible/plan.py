"""Rows about the plan and the occasion: whether every process ran what was planned, when, and for how long. Pure."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final

from ...deciding import DECIDING, MIN_ROUNDS
from ..commands import PAIR
from ..evidence import COMMAND
from .asked import OBJECTION, Asked, Finding, Process, results_of, unequal

OCCASION_GAP: Final = timedelta(days=1)
"""Rounds further apart are of several occasions: a driver, a clock or a neighbour may have changed between them."""

DATE_SLACK_S: Final = 3.0
"""How far the date may be from a process's own clock: a date is in whole seconds, and may be set by one while a run goes on."""

PAUSE_S: Final = 3.0
PAUSE_SHARE: Final = 0.9
"""Between two processes less than a second passes. Where a whole round has room, one may have been cut out."""

SECOND: Final = timedelta(seconds=1)

SPAN_SLACK: Final = 0.01
"""GPU events and the host's clock, which time iterations and their span, may differ by this fraction."""


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
        counts = {len(v.iterations_ns) for v in result.variants}
        if manifest.iterations is not None and counts != {manifest.iterations}:
            said["number of iterations"] = (manifest.iterations, min(counts, default=0))
        for what, (planned, ran) in said.items():
            if planned is not None and planned != ran:
                text = f"the run's {what} is {str(planned)[:80]}, and {where} says {str(ran)[:80]}"
                yield Finding(OBJECTION, text)
                return


def asked_for(asked: Asked) -> Iterator[Finding]:
    """What each process was asked for, and answers of itself, is what the manifest says."""
    text = next(_otherwise(asked), None)
    if text is not None:
        yield Finding(OBJECTION, text)


def _otherwise(asked: Asked) -> Iterator[str]:
    manifest = asked.manifest
    if manifest.source == COMMAND:
        return
    if manifest.source == PAIR:
        yield from _timing(asked)
        return
    planned = {
        "--iterations": manifest.iterations,
        "--warmup": manifest.warmup,
        "--size": manifest.size,
        "--seed": manifest.seed,
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
        for fact, said in (("torch", manifest.packages.get("torch")), ("python", manifest.packages.get("python"))):
            found_fact = process.facts.get(fact)
            if said and found_fact is not None and not re.fullmatch(rf"{re.escape(said)}(\+.*)?", str(found_fact)):
                yield f"the run's {fact} is {said[:40]}, and that of {process.where} is {str(found_fact)[:40]}"
        harness = process.facts.get("harness")
        if harness is not None and harness != manifest.harness:
            yield f"the run's harness is {manifest.harness}, and {process.where} was timed by harness {str(harness)[:40]}"


def _timing(asked: Asked) -> Iterator[str]:
    """A pair is timed by its iterations where every process has some, unless its capture was told otherwise."""
    manifest = asked.manifest
    counts = [len(one.answer.iterations_ns) for one in manifest.commands]
    if manifest.timed == "processes" and counts and min(counts) > 0:
        asks = option_values(manifest.command_line, "--timing")
        if _is_capture(manifest.command_line) and "processes" not in asks:
            yield "the run is timed by whole processes, and all of them timed iterations"
    elif manifest.timed == "iterations" and 0 in counts:
        yield "the run is timed by iterations, and not all of its processes timed one"


def _is_capture(command: Sequence[str]) -> bool:
    """Whether the words of the capture are there to ask: those of a user's own commands are left out of a bundle."""
    return list(command[1:2]) == ["capture"]


def option_values(command: Sequence[str], option: str) -> list[str]:
    """What `option` is given in `command`, as ``--rounds 8`` or ``--rounds=8``, in order."""
    apart = [value for word, value in pairwise(command) if word == option]
    return apart + [word.removeprefix(f"{option}=") for word in command if word.startswith(f"{option}=")]


def spans(asked: Asked) -> Iterator[Finding]:
    """The timed span of a process holds its iterations, and lies within how long the process lasted."""
    for made in asked.manifest.rounds:
        for variant in made.result.variants:
            span = list(variant.timed_ns)
            if not span:
                continue
            timed, lasted = sum(variant.iterations_ns), span[-1] - span[0] if len(span) == 2 else -1
            if not timed <= lasted * (1 + SPAN_SLACK) or lasted > made.wall_ns:
                text = (
                    f"{variant.name} in round {made.index} timed {timed / 1e6:.4g} ms of iterations in a span of "
                    f"{lasted / 1e6:.4g} ms, of a process that lasted {made.wall_ns / 1e6:.4g} ms"
                )
                yield Finding(OBJECTION, text, (variant.name,))
                return


def host_clock(asked: Asked) -> Iterator[Finding]:
    """Spans are of one monotonic clock, which no process shares with another, and which goes with the date."""
    timed = [(made, v) for made in asked.manifest.rounds for v in made.result.variants if len(v.timed_ns) == 2]
    for (made, before), (later, after) in pairwise(timed):
        if after.timed_ns[0] < before.timed_ns[1]:
            text = (
                f"{after.name} in round {later.index} was timed before {before.name} in round {made.index} had ended, by the "
                "host's own clock: they are of different starts of the machine, or one is a copy"
            )
            yield Finding(OBJECTION, text)
            return
    least, most = -math.inf, math.inf  # of what the date is ahead of the monotonic clock, in seconds
    for made, v in timed:
        at = _utc(made.started_utc)
        if at is None:
            continue
        start, end = at.timestamp(), at.timestamp() + 1 + made.wall_ns / 1e9
        least, most = max(least, start - v.timed_ns[0] / 1e9), min(most, end - v.timed_ns[1] / 1e9)
        earliest, latest = start - v.timed_ns[0] / 1e9, end - v.timed_ns[1] / 1e9
        if earliest > latest + DATE_SLACK_S or least > most + DATE_SLACK_S:
            text = (
                f"{v.name} was not timed within round {made.index}, by the host's own clock against the date: the machine slept, "
                "its date was set, or the times are of another run"
            )
            yield Finding(OBJECTION, text)
            return


def rounds(asked: Asked) -> Iterator[Finding]:
    planned = [variant.name for variant in asked.manifest.variants]
    ran: dict[int, list[str]] = {}
    for process in asked.untraced:
        ran.setdefault(process.index or 0, []).extend(process.variants)
    if list(ran) != list(range(len(ran))):
        yield Finding(OBJECTION, f"rounds are missing or out of order: the run has {_listed(list(ran))}")
        return
    for process in asked.untraced:
        files = [PurePosixPath(word).name for word in option_values(process.command, "--result")]
        numbers = [int(found[1]) for file in files if (found := re.fullmatch(r"round_(\d{1,9})(?:_\d+)?\.json", file))]
        if numbers and numbers != [process.index]:
            yield Finding(OBJECTION, f"{process.where} was made as round {numbers[0]}")
            return
    looks = asked.manifest.looks
    planned_looks = _planned_looks(asked)
    if looks and planned_looks and tuple(looks) != planned_looks:
        one, other = (", ".join(map(str, some[:12])) for some in (planned_looks, looks))
        yield Finding(
            OBJECTION, f"the run's command plans a verdict after {one} rounds, and the run says after {other}"
        )
        return
    looks = looks or planned_looks
    for index, names in ran.items():
        order = planned if index % 2 == 0 else planned[::-1]
        if sorted(names) != sorted(planned):
            text = f"round {index} ran {', '.join(names)}, and the plan says each of {', '.join(planned)} once"
            yield Finding(OBJECTION, text)
            return
        if looks and names != order:
            text = f"round {index} ran in the order {', '.join(names)}, and the plan says {', '.join(order)}"
            yield Finding(OBJECTION, text)
            return
    if looks and ran and len(ran) not in looks:
        listed = ", ".join(map(str, looks[:12]))
        yield Finding(OBJECTION, f"the run ended after {len(ran)} rounds, and the plan has a verdict after {listed}")


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


def times_in_order(asked: Asked) -> Iterator[Finding]:
    starts = [(p, _utc(p.started_utc)) for p in asked.untraced if p.started_utc]
    known = [(p, at) for p, at in starts if at is not None]
    if len(known) < len(starts):
        where = next(p.where for p, at in starts if at is None)
        yield Finding(OBJECTION, f"{where} was started at no time that can be read")
    text = next(_apart_in_time(asked, known), None)
    if text is not None:
        yield Finding(OBJECTION, text)
    created = _utc(asked.manifest.created_utc)
    for process, at in known:
        if created is not None and at > created:
            text = f"{process.where} was started at {at:%FT%TZ}, after the run was complete at {created:%FT%TZ}"
            yield Finding(OBJECTION, text)
            return
    if known and created is not None:
        process, at = known[-1]
        made = [recording for variant in asked.manifest.variants for recording in variant.recordings]
        left = (created - at).total_seconds() + 1 - process.wall_ns / 1e9
        recorded = sum(recording.wall_ns for recording in made) / 1e9
        if recorded > left + DATE_SLACK_S:
            text = f"the recordings took {recorded:.4g} s, and the run was complete {max(left, 0):.4g} s after its last round"
            yield Finding(OBJECTION, text)


def _apart_in_time(asked: Asked, known: Sequence[tuple[Process, datetime]]) -> Iterator[str]:
    """What is wrong between one process and the next, and before the first. Times are in whole seconds, the walls in ns."""
    begun = _begun(asked.manifest.run_id)
    if known and begun is not None and known[0][1] < begun - SECOND:
        first, at = known[0]
        yield f"{first.where} was started at {at:%FT%TZ}, before the run was begun at {begun:%FT%TZ}"
    per_round = max(sum(p.index == 0 for p, _ in known), 1)
    longest_pause = max(PAUSE_SHARE * per_round * min((p.wall_ns for p, _ in known), default=0) / 1e9, PAUSE_S)
    resumed = [_utc(text) for text in asked.manifest.resumed_utc]
    for (before, one), (after, two) in pairwise(known):
        if two < one:
            yield f"{after.where} was started at {two:%FT%TZ}, before {before.where} at {one:%FT%TZ}"
        if two - one > OCCASION_GAP:
            gap = (two - one) / timedelta(days=1)
            yield f"rounds were made on different occasions: {before.where} and {after.where} were started {gap:.3g} days apart"
        pause = (two - one).total_seconds() - before.wall_ns / 1e9
        if pause < -DATE_SLACK_S:
            yield f"{after.where} was started {-pause:.3g} s before {before.where} had ended"
        ended = one + timedelta(seconds=before.wall_ns / 1e9)
        explained = any(at is not None and one <= at <= two + SECOND for at in resumed)
        if asked.manifest.looks and pause > longest_pause and not explained:
            yield (
                f"{pause:.3g} s passed between the end of {before.where} at {ended:%FT%TZ} and the start of {after.where}, in "
                "which nothing is said to have happened: a round is missing, or the run was interrupted"
            )


def _begun(run_id: str) -> datetime | None:
    """When the capture was begun, by the name that it gave the run; null for a run of another name."""
    found = re.fullmatch(r".*-(\d{8}T\d{6}Z)(?:-\d+)?", run_id)
    try:
        return None if found is None else datetime.strptime(found[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _utc(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def wall(asked: Asked) -> Iterator[Finding]:
    for process in asked.processes:
        timed = sum(map(sum, process.times_ns.values()))
        if timed > process.wall_ns:
            text = f"{process.where} timed {timed / 1e6:.4g} ms of iterations and lasted {process.wall_ns / 1e6:.4g} ms"
            yield Finding(OBJECTION, text)
            return


def exits(asked: Asked) -> Iterator[Finding]:
    for process in asked.processes:
        if process.exit_code != 0:
            yield Finding(OBJECTION, f"{process.where} ended with exit code {process.exit_code}")
            return
