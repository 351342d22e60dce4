"""Rows about the plan and the occasion: whether every process ran what was planned, when, and for how long. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from ..commands import PAIR
from ..evidence import COMMAND
from .asked import OBJECTION, Asked, Finding, results_of, unequal

OCCASION_GAP: Final = timedelta(days=1)
"""Rounds further apart are of several occasions: a driver, a clock or a neighbour may have changed between them."""

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


def rounds(asked: Asked) -> Iterator[Finding]:
    planned = [variant.name for variant in asked.manifest.variants]
    ran: dict[int, list[str]] = {}
    for process in asked.untraced:
        ran.setdefault(process.index or 0, []).extend(process.variants)
    if list(ran) != list(range(len(ran))):
        yield Finding(OBJECTION, f"rounds are missing or out of order: the run has {_listed(list(ran))}")
        return
    looks = asked.manifest.looks
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
        planned_looks = ", ".join(map(str, looks))
        yield Finding(
            OBJECTION, f"the run ended after {len(ran)} rounds, and the plan has a verdict after {planned_looks}"
        )


def _listed(indices: Sequence[int]) -> str:
    return ", ".join(map(str, indices[:12])) + (" ..." if len(indices) > 12 else "")


def times_in_order(asked: Asked) -> Iterator[Finding]:
    starts = [(p.where, _utc(p.started_utc)) for p in asked.untraced if p.started_utc]
    known = [(where, at) for where, at in starts if at is not None]
    if len(known) < len(starts):
        where = next(where for where, at in starts if at is None)
        yield Finding(OBJECTION, f"{where} was started at no time that can be read")
    for (before, one), (after, two) in pairwise(known):
        if two < one:
            yield Finding(OBJECTION, f"{after} was started at {two:%FT%TZ}, before {before} at {one:%FT%TZ}")
            break
        if two - one > OCCASION_GAP:
            gap = (two - one) / timedelta(days=1)
            text = f"rounds were made on different occasions: {before} and {after} were started {gap:.3g} days apart"
            yield Finding(OBJECTION, text)
            break
    created = _utc(asked.manifest.created_utc)
    for where, at in known:
        if created is not None and at > created:
            text = f"{where} was started at {at:%FT%TZ}, after the run was complete at {created:%FT%TZ}"
            yield Finding(OBJECTION, text)
            break


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
