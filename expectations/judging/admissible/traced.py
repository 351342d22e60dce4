"""Rows about the recordings: whose trace it is, and whether it shows what its process timed. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from statistics import median
from typing import Final

import polars as pl

from ....analyze.result import Analysis
from ....traces.figures import milliseconds, significant
from ..commands import PAIR
from ..evidence import COMMAND, STEP, WHOLE
from .asked import INVALID, OBJECTION, Asked, Finding, recording_of

TRACE_SHARE: Final = 0.2
TRACE_SLACK_NS: Final = 200_000
"""How far an iteration in the trace may be from what its process timed: a fifth of the median, and what a range, an event and a
synchronisation cost. On H200 the two differed by at most 0.15 ms, and by 3 % (samples of three workloads)."""

OTHER_SHARE: Final = 0.5
"""An iteration that is further from what its own process timed than half of that was not this one."""

RECORDED_FACTOR: Final = 10.0
"""Recording costs up to twice the time of the smallest iterations seen; at ten times another program was recorded."""

AT_WORK_SHARE: Final = (0.5, 0.8)
"""An untraced iteration takes at least this share of what a GPU works in a recorded one: less than the first is impossible, less
than the second is not believed. In eleven variants on an H200 the median was 1.02 to 1.78 times that."""

FASTER_RECORDED: Final = 1.5
"""On a GPU an iteration is not so much faster when it is recorded. On a CPU others may have wanted it during the rounds."""


def recordings(asked: Asked) -> Iterator[Finding]:
    """Which variant a workload's recording is of; a pair's is held against its rounds (`commands`)."""
    if asked.manifest.source in (COMMAND, PAIR):
        return
    for variant in asked.manifest.variants:
        for number, recording in enumerate(variant.recordings):
            asks = [word for flag, word in pairwise(recording.command) if flag == "--variant"]
            answers = [] if recording.result is None else [result.name for result in recording.result.variants]
            if asks != [variant.name] or answers != [variant.name]:
                text = (
                    f"{recording_of(variant, number)} asked for {', '.join(asks) or 'no variant'} and is answered for "
                    f"{', '.join(answers) or 'none'}"
                )
                yield Finding(INVALID, text, (variant.name,))
                break


def trace_files(asked: Asked) -> Iterator[Finding]:
    """One file, one digest, or one content: a copy that was packed anew has another digest, and the same instants in it."""
    seen: dict[str, tuple[str, str]] = {}
    for variant in asked.manifest.variants:
        shown = asked.evidence.variants.get(variant.name)
        analyses = [] if shown is None else [made.analysis for made in shown.recordings]
        for number, recording in enumerate(variant.recordings):
            where = recording_of(variant, number)
            analysis = analyses[number] if number < len(analyses) else None
            content = None if analysis is None else _content(analysis)
            keys = [key for key in (recording.trace, recording.trace_sha256, content) if key is not None]
            if same := next((seen[key] for key in keys if key in seen), None):
                yield Finding(INVALID, f"{same[1]} and {where} are one trace", (same[0], variant.name))
            for key in keys:
                seen.setdefault(key, (variant.name, where))


def _content(analysis: Analysis) -> str | None:
    """A digest of the trace's own instants, from its first iteration on; null without an iteration, or on a GPU an operation.

    No two recordings agree on every iteration's length and distance, and on every kind's busy time, to the nanosecond.
    """
    spans = analysis.iterations.select("start_ns", "end_ns").rows()
    busy = analysis.kinds.select("device", "kind", "ops", "union_ns", "nbytes").sort("device", "kind").rows()
    if not spans or not busy:
        return None
    relative = [(start - spans[0][0], end - spans[0][0]) for start, end in spans]
    return hashlib.sha256(repr((relative, busy)).encode()).hexdigest()


def trace_iterations(asked: Asked) -> Iterator[Finding]:
    """Of workloads: of a user's command warm-up may be set aside, and ranks iterate together."""
    for variant, made, _, durations in asked.analysed():
        if asked.manifest.source != PAIR and made.traced_ns and len(durations) != len(made.traced_ns):
            text = (
                f"the trace of {variant.name} has {len(durations)} iterations, and its process timed "
                f"{len(made.traced_ns)}"
            )
            yield Finding(OBJECTION, text, (variant.name,))


def trace_times(asked: Asked) -> Iterator[Finding]:
    """Iteration by iteration; of several ranks by the median: one answers, and the trace's iterations may be another's."""
    alone = {name for p in asked.processes if p.index is None and p.facts.get("ranks", 1) == 1 for name in p.variants}
    for variant, made, _, durations in asked.analysed():
        timed = made.traced_ns[-len(durations) :]  # warm-up is set aside at the front
        if not durations or not timed:
            continue
        if variant.name in alone and len(timed) == len(durations):
            apart = median(abs(one - two) for one, two in zip(durations, timed, strict=True))
        else:
            apart = abs(median(durations) - median(timed))
        if apart > TRACE_SHARE * median(timed) + TRACE_SLACK_NS:
            text = (
                f"an iteration of {variant.name} takes {milliseconds(median(durations) / 1e6)} in its trace, and its "
                f"process timed {milliseconds(median(timed) / 1e6)}"
            )
            yield Finding(INVALID if apart > OTHER_SHARE * median(timed) else OBJECTION, text, (variant.name,))


def slowdown(asked: Asked) -> Iterator[Finding]:
    """Recorded steps end on the host, which may be far ahead of a GPU: only too long ones say something."""
    for name, variant in asked.evidence.variants.items():
        untraced = [ns for one in asked.evidence.rounds for ns in one.times_ns.get(name, ())]
        for made in variant.recordings if asked.evidence.timed != WHOLE and untraced else ():
            factor = median(made.traced_ns) / median(untraced) if made.traced_ns else 1.0
            ahead = asked.evidence.timed == STEP and (made.analysis is None or _worked_ns(made.analysis) > 0)
            if factor > RECORDED_FACTOR or (factor < 1 / RECORDED_FACTOR and not ahead):
                text = (
                    f"an iteration of {name} takes {significant(factor, 3)} times as long when recorded: "
                    "that was not a recording of it"
                )
                yield Finding(INVALID, text, (name,))
                break


def device_time(asked: Asked) -> Iterator[Finding]:
    """A GPU's own clock says how long it worked in a recorded iteration, which no recorder changes much: untraced iterations
    cannot take far less. Nor do they take far more than the recorded ones, but for steps: recorded ones end on the host."""
    untraced = {
        name: median(ns for one in asked.evidence.rounds for ns in one.times_ns[name])
        for name in asked.evidence.variants
        if any(name in one.times_ns for one in asked.evidence.rounds)
    }
    for variant, made, analysis, durations in asked.analysed():
        worked = _worked_ns(analysis)
        if asked.evidence.timed == WHOLE or variant.name not in untraced or not worked or not durations:
            continue
        name, took = variant.name, untraced[variant.name]
        impossible, unlikely = (share * worked for share in AT_WORK_SHARE)
        if took < unlikely:
            text = (
                f"an untraced iteration of {name} takes {milliseconds(took / 1e6)}, and a GPU works "
                f"{milliseconds(worked / 1e6)} in a "
                "recorded one: they did not do the same"
            )
            yield Finding(INVALID if took < impossible else OBJECTION, text, (name,))
        elif asked.evidence.timed != STEP and made.traced_ns and took > FASTER_RECORDED * median(made.traced_ns):
            text = (
                f"an iteration of {name} takes {milliseconds(median(made.traced_ns) / 1e6)} when it is recorded and "
                f"{milliseconds(took / 1e6)} "
                "when it is not: no recorder makes it faster"
            )
            yield Finding(OBJECTION, text, (name,))


def _worked_ns(analysis: Analysis) -> float:
    """How long the busiest GPU worked in an iteration, by the median; 0 where none did."""
    gpus = analysis.devices.filter(pl.col("type") == "gpu")["device"].to_list()
    cells = analysis.ledger.filter(
        pl.col("iteration").is_not_null(), pl.col("category") != "idle", pl.col("device").is_in(gpus)
    )
    each = cells.group_by("device", "iteration").agg(pl.col("ns").sum()).group_by("iteration").agg(pl.col("ns").max())
    return float(median(each["ns"].to_list())) if each.height else 0.0
