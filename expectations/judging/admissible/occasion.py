"""Rows about the occasion: when the processes ran, one after the other, and for how long. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from ....analyze.words import duration
from ....traces.figures import milliseconds, significant
from ....traces.run import Round, VariantResult, repetitions
from .asked import INVALID, NAMED, OBJECTION, Asked, Finding, Process

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


REPEATED_SHARE: Final = 0.5
"""An iteration of the energy pass, its reset and flush included, takes at least this share of the shortest timed one. It may find
warmer caches and higher clocks than after a wait; one that takes less leaves work out, or its span was edited."""


def spans(asked: Asked) -> Iterator[Finding]:
    """The timed span of a process holds its iterations, and lies within how long the process lasted; so does the energy pass."""
    for made in asked.manifest.rounds:
        for variant in made.result.variants:
            text = _timed_span(made, variant) or _energy_pass(made, variant)
            if found := text or _quick_pass(variant):
                yield Finding(
                    INVALID if text else OBJECTION, f"{variant.name} in round {made.index} {found}", (variant.name,)
                )
                return


def _timed_span(made: Round, variant: VariantResult) -> str:
    """What is wrong with the timed span, as the end of a sentence; empty where nothing is, or there is none."""
    span = list(variant.timed_ns)
    timed, lasted = sum(variant.iterations_ns), span[-1] - span[0] if len(span) == 2 else -1
    if not span or (timed <= lasted * (1 + SPAN_SLACK) and lasted <= made.wall_ns):
        return ""
    return (
        f"timed {milliseconds(timed / 1e6)} of iterations in a span of {milliseconds(lasted / 1e6)}, of a process that "
        f"lasted {milliseconds(made.wall_ns / 1e6)}"
    )


def _energy_pass(made: Round, variant: VariantResult) -> str:
    """The same of the energy pass: it comes after the timed iterations, as often as the harness runs it, and does as much."""
    if not variant.repeated_ns and not variant.repeated:
        return ""
    shortest = min(variant.iterations_ns, default=0)
    if len(variant.repeated_ns) != 2 or len(variant.timed_ns) != 2 or shortest <= 0:
        return "has an energy pass without a start and an end, or without timed iterations before it"
    start, end = variant.repeated_ns
    if start < variant.timed_ns[1]:
        return (
            f"began its energy pass {milliseconds((variant.timed_ns[1] - start) / 1e6)} before its timed iterations "
            "had ended"
        )
    if end - variant.timed_ns[0] > made.wall_ns:
        return (
            f"ended its energy pass {milliseconds((end - variant.timed_ns[0]) / 1e6)} after its first timed iteration "
            f"had begun, in a process that lasted {milliseconds(made.wall_ns / 1e6)}"
        )
    reset_ns = variant.proof.reset_ns if variant.proof is not None else 0
    count = repetitions(variant.iterations_ns, max(reset_ns, 0))
    if variant.repeated != count:
        return (
            f"says {variant.repeated:,} iterations of its energy pass, and after these times the harness runs {count:,}"
        )
    return ""


def _quick_pass(variant: VariantResult) -> str:
    """What is wrong with an energy pass whose iterations are too short; warm caches can make an honest one short."""
    if len(variant.repeated_ns) != 2:
        return ""
    each, shortest = (variant.repeated_ns[1] - variant.repeated_ns[0]) / variant.repeated, min(variant.iterations_ns)
    if each >= REPEATED_SHARE * shortest:
        return ""
    return (
        f"took {milliseconds(each / 1e6)} an iteration in its energy pass, and at least "
        f"{milliseconds(shortest / 1e6)} when it was timed"
    )


def host_clock(asked: Asked) -> Iterator[Finding]:
    """Spans are of one monotonic clock, which no process shares with another, and which goes with the date."""
    timed = [(made, v) for made in asked.manifest.rounds for v in made.result.variants if len(v.timed_ns) == 2]
    for (made, before), (later, after) in pairwise(timed):
        if after.timed_ns[0] < _end_ns(before):
            text = (
                f"{after.name} in round {later.index} was timed before {before.name} in round {made.index} had ended, by the "
                "host's own clock: they come from different starts of the machine, or one is a copy"
            )
            yield Finding(asked.contradicts, text)
            return
    least, most = -math.inf, math.inf  # of what the date is ahead of the monotonic clock, in seconds
    for made, v in timed:
        at = _utc(made.started_utc)
        if at is None:
            continue
        start, end = at.timestamp(), at.timestamp() + 1 + made.wall_ns / 1e9
        earliest, latest = start - v.timed_ns[0] / 1e9, end - _end_ns(v) / 1e9
        least, most = max(least, earliest), min(most, latest)
        if earliest > latest + DATE_SLACK_S or least > most + DATE_SLACK_S:
            text = (
                f"{v.name} was not timed within round {made.index}, by the host's own clock against the date: the machine slept, "
                "its date was set, or the times come from another run"
            )
            yield Finding(OBJECTION, text)
            return


def _end_ns(variant: VariantResult) -> int:
    """When the last of its iterations whose span is known had ended; its timed span is."""
    return variant.repeated_ns[1] if len(variant.repeated_ns) == 2 else variant.timed_ns[1]


def times_in_order(asked: Asked) -> Iterator[Finding]:
    starts = [(p, _utc(p.started_utc)) for p in asked.untraced if p.started_utc]
    known = [(p, at) for p, at in starts if at is not None]
    if len(known) < len(starts):
        where = next(p.where for p, at in starts if at is None)
        yield Finding(INVALID, f"{where} has a start time that cannot be read")
    resumed = next(_gone_on_with(asked, known), None)
    if resumed is not None:
        yield Finding(NAMED, resumed)
    for grade, found in ((asked.contradicts, _out_of_order(asked, known)), (OBJECTION, _apart_in_time(asked, known))):
        if (text := next(found, None)) is not None:
            yield Finding(grade, text)
    created = _utc(asked.manifest.created_utc)
    if created is None:
        yield Finding(INVALID, "the time at which the run was complete cannot be read")
    for process, at in known:
        if created is not None and at > created:
            text = f"{process.where} was started at {at:%FT%TZ}, after the run was complete at {created:%FT%TZ}"
            yield Finding(asked.contradicts, text)
            return
    if known and created is not None:
        process, at = known[-1]
        made = [recording for variant in asked.manifest.variants for recording in variant.recordings]
        left = (created - at).total_seconds() + 1 - process.wall_ns / 1e9
        recorded = sum(recording.wall_ns for recording in made) / 1e9
        if recorded > left + DATE_SLACK_S:
            text = (
                f"the recordings took {milliseconds(1e3 * recorded)}, and the run was complete "
                f"{milliseconds(1e3 * max(left, 0))} after its last round"
            )
            yield Finding(asked.contradicts, text)


def _out_of_order(asked: Asked, known: Sequence[tuple[Process, datetime]]) -> Iterator[str]:
    """Dates that no run has: before it was begun, or before the last process began or ended. Dates are in seconds."""
    begun = _begun(asked.manifest.run_id)
    if known and begun is not None and known[0][1] < begun - SECOND:
        first, at = known[0]
        yield f"{first.where} was started at {at:%FT%TZ}, before the run was begun at {begun:%FT%TZ}"
    for (before, one), (after, two) in pairwise(known):
        if two < one - timedelta(seconds=DATE_SLACK_S):
            yield f"{after.where} was started at {two:%FT%TZ}, before {before.where} at {one:%FT%TZ}"
        early = before.wall_ns / 1e9 - (two - one).total_seconds()
        if early > DATE_SLACK_S:
            yield f"{after.where} was started {milliseconds(1e3 * early)} before {before.where} had ended"


def _apart_in_time(asked: Asked, known: Sequence[tuple[Process, datetime]]) -> Iterator[str]:
    """Processes that are further apart than those of one undisturbed run."""
    for before, one, after, two, pause in _pauses(known):
        if two - one > OCCASION_GAP:
            gap = (two - one) / timedelta(days=1)
            yield (
                f"rounds were made on different occasions: {before.where} and {after.where} were started "
                f"{significant(gap, 3)} days apart"
            )
        ended = one + timedelta(seconds=before.wall_ns / 1e9)
        if asked.manifest.looks and not _explained(asked, one, two):
            yield (
                f"{milliseconds(1e3 * pause)} passed between the end of {before.where} at {ended:%FT%TZ} and the start "
                f"of {after.where}, which "
                "the manifest does not explain: a round is missing, or the run was interrupted"
            )


def _gone_on_with(asked: Asked, known: Sequence[tuple[Process, datetime]]) -> Iterator[str]:
    """Pauses that a resumed capture explains: the reader knows whether there was one, the manifest only says so."""
    for before, one, after, two, pause in _pauses(known):
        if _explained(asked, one, two):
            later = duration(1e9 * pause)
            yield f"the capture was interrupted after {before.where} and gone on with {later} later, with {after.where}"


def _pauses(
    known: Sequence[tuple[Process, datetime]],
) -> Iterator[tuple[Process, datetime, Process, datetime, float]]:
    """Two processes with their starts, and the seconds between them, where a round has room in between."""
    per_round = max(sum(p.index == 0 for p, _ in known), 1)
    longest = max(PAUSE_SHARE * per_round * min((p.wall_ns for p, _ in known), default=0) / 1e9, PAUSE_S)
    for (before, one), (after, two) in pairwise(known):
        pause = (two - one).total_seconds() - before.wall_ns / 1e9
        if pause > longest:
            yield before, one, after, two, pause


def _explained(asked: Asked, one: datetime, two: datetime) -> bool:
    return any(at is not None and one <= at <= two + SECOND for at in map(_utc, asked.manifest.resumed_utc))


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
            text = (
                f"{process.where} timed {milliseconds(timed / 1e6)} of iterations and lasted "
                f"{milliseconds(process.wall_ns / 1e6)}"
            )
            yield Finding(INVALID, text)
            return


def exits(asked: Asked) -> Iterator[Finding]:
    for process in asked.processes:
        if process.exit_code != 0:
            yield Finding(OBJECTION, f"{process.where} ended with exit code {process.exit_code}")
            return
