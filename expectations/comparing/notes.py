"""What a reader of a comparison must know beside its numbers, as sentences: other work, other machines, doubts, tracing."""

from __future__ import annotations

import shlex
from typing import Final

import polars as pl

from ...analyze.attribution.window import STEADY
from ...analyze.comparison.changes import large_gaps
from ...analyze.comparison.host_times import HostTimes
from ...analyze.comparison.waterfall import Waterfall
from ...analyze.words import duration, percent, shorten
from ..deciding import Estimate
from ..judging.between import Untraced
from ..judging.evidence import COMMAND, WHOLE
from .sides import Side

_CLOSE: Final = 0.01
"""Without an interval, a traced ratio this close to the untraced one is not worth a sentence."""


def notes_of(fall: Waterfall, base: Side, opt: Side, timed: Untraced | None, work_doubt: str) -> tuple[str, ...]:
    """All sentences that apply, the gravest first."""
    found = [
        *_commands(base, opt),
        *_work(fall, base, opt, work_doubt),
        *_machines(base, opt),
        *_graphs(base, opt),
        *_gaps(base, opt),
        *tracing(fall, base, opt, timed),
        *([f"{c.text}" for c in timed.concerns] if timed else []),
        *_occasions(timed),
        *_doubts(base, opt),
    ]
    return tuple(dict.fromkeys(found))


def host_notes(times: HostTimes, work_doubt: str) -> tuple[str, ...]:
    """What to know beside host times."""
    found = []
    if times.base is None or times.opt is None:
        found.append(
            "no iterations are found on both sides, so times of the whole windows are compared, whatever work they contain; mark "
            "iterations by ranges of that name"
        )
    elif times.base.path != times.opt.path:
        one, other = (shorten(side.path, 60) for side in (times.base, times.opt))
        found.append(f"iterations are `{one}` in base and `{other}` in opt")
    if any(times.devices):
        found.append("a host time includes waiting for the device, and ends before the work it queued has run")
    return (*found, *([work_doubt] if work_doubt else []))


def unsure(untraced: Untraced) -> bool:
    """Whether the rounds do not carry that one side is faster: too few, in disagreement, or with 1 in their interval."""
    low, high = untraced.ratio.low, untraced.ratio.high
    return low is None or high is None or low <= 1 <= high or bool(untraced.concerns)


def turned(traced: float | None, untraced: Estimate) -> bool:
    """Whether tracing turns the answer round: faster traced where the untraced interval lies below 1, or the other way."""
    if traced is None or untraced.low is None or untraced.high is None:
        return False
    return (untraced.low > 1 and traced < 1) or (untraced.high < 1 and traced > 1)


def tracing(fall: Waterfall, base: Side, opt: Side, timed: Untraced | None) -> list[str]:
    """Whether the traced windows tell the same ratio as the untraced rounds, and what tracing cost each side."""
    traced = fall.ratio
    if traced is None:
        return []
    if timed is None:
        if {side.run and side.run.manifest.source for side in (base, opt)} != {COMMAND}:
            return []
        return [
            "one recording of each, and no untraced rounds: the tables explain how these two processes "
            "differ, and two others may differ otherwise; `aisp-trace capture --baseline CMD --optimized CMD` measures a speedup"
        ]
    if timed.timed == WHOLE:
        return [
            "the untraced times are of whole processes, start-up included: they are not a ratio of the traced windows"
            f"{_iterations(base, opt)}. To time iterations, put `with aisp_trace.iteration():` around each in both commands"
        ]
    low, high = timed.ratio.low, timed.ratio.high
    if low is None or high is None:
        low, high = timed.ratio.value * (1 - _CLOSE), timed.ratio.value * (1 + _CLOSE)
    if low <= traced <= high:
        return []
    cost = [f"{s.slowdown:.2f} times as long in {w}" for w, s in (("base", base), ("opt", opt)) if s.slowdown]
    why = f"; while it was traced, an iteration took {' and '.join(cost)}" if cost else ""
    return [
        f"traced, the speedup is {traced:.2f}x, which the interval of the untraced rounds excludes{why}: the tables explain the "
        "traced difference, and the untraced one only if tracing slows both sides alike"
    ]


def _iterations(base: Side, opt: Side) -> str:
    """How long an iteration took where it was traced, after a semicolon; empty where one side has none."""
    one, other = base.analysis.steady, opt.analysis.steady
    if one is None or other is None or one.path != other.path:
        return ""
    return (
        f"; traced, an iteration takes {duration(one.mean_ns)} in base and {duration(other.mean_ns)} in opt, on average"
    )


def _is_steady(side: Side) -> bool:
    return side.window is None and side.analysis.choices.window == STEADY


def _work(fall: Waterfall, base: Side, opt: Side, doubt: str) -> list[str]:
    plan = fall.layout
    found = []
    if plan.work == "scaled":
        n, m = base.iterations, opt.iterations
        steady = "steady " if all(_is_steady(side) for side in (base, opt)) else ""
        found.append(
            f"{n} {steady}iterations of base are compared with {m} of opt, so all differences are per iteration"
        )
    elif plan.work == "unknown":
        found.append(
            "no whole iterations are marked on both sides, so whole windows are compared, whatever work they contain"
        )
    if any(_is_steady(side) for side in (base, opt)):
        found.append("the steady iterations of both sides are compared; `--window all` takes the whole recordings")
    if doubt:
        found.append(doubt)
    if not plan.by_device:
        n, m = (s.analysis.windows.height for s in (base, opt))
        found.append(
            f"base used {n} and opt {m} devices: their times are added up, which is device time, not elapsed time"
        )
    return found


def _commands(base: Side, opt: Side) -> list[str]:
    """The command lines of two runs of single programs, where they differ: what was changed may stand there."""
    runs = [side.run for side in (base, opt) if side.run is not None and side.run.manifest.source == COMMAND]
    lines = [shorten(shlex.join(run.manifest.command_line), 200) for run in runs]
    return [f"base is `{lines[0]}`, opt is `{lines[1]}`"] if len(lines) == 2 and lines[0] != lines[1] else []


def _machines(base: Side, opt: Side) -> list[str]:
    found = []
    if base.run is not None and opt.run is not None:
        one, other = base.run.manifest.hardware.key, opt.run.manifest.hardware.key
        if one != other:
            found.append(f"different hardware: base was made on {one}, opt on {other}")
    else:
        names = [", ".join(s.analysis.devices["name"].to_list()) for s in (base, opt)]
        if names[0] != names[1]:
            found.append(f"different devices: {names[0]} for base, {names[1]} for opt")
    recorders = [s.analysis.meta.recorder for s in (base, opt)]
    if recorders[0] != recorders[1]:
        found.append(
            f"base was recorded by {recorders[0]} and opt by {recorders[1]}: idle causes depend on the recorder"
        )
    return found


def _graphs(base: Side, opt: Side) -> list[str]:
    found = []
    for word, side in (("base", base), ("opt", opt)):
        whole = sum(n for (_, kind), (n, _) in side.kernels.items() if kind == "graph")
        if whole:
            found.append(
                f"{whole:,} graph launches of {word} were recorded whole: kernels and copies inside them, and the gaps "
                "between those, count as its compute and cannot be listed"
            )
    return found


def _gaps(base: Side, opt: Side) -> list[str]:
    found = []
    for word, side in (("base", base), ("opt", opt)):
        for gap in large_gaps(side.analysis)[:3]:
            found.append(
                f"one gap of {word} is {duration(gap.ns)}, {percent(gap.share)} of its window on device {gap.device}: "
                f"{gap.cause} in {shorten(gap.stage, 60)}; a single event of that size proves nothing about a time"
            )
    return found


def _occasions(timed: Untraced | None) -> list[str]:
    if timed is None or timed.paired:
        return []
    return ["two runs are two occasions: every difference also includes what changed on the machine between them"]


def _doubts(base: Side, opt: Side) -> list[str]:
    """Trust in what the waterfall rests on; the ledger's `unavailable` is an objection, not a note."""
    found = []
    for word, side in (("base", base), ("opt", opt)):
        doubts = side.analysis.trust.filter(
            pl.col("metric").is_in(["ledger", "causes", "time", "comm"]) & (pl.col("level") != "ok")
        )
        by_reason: dict[tuple[str, str], list[str]] = {}
        for metric, level, reason in doubts.iter_rows():
            by_reason.setdefault((level, reason), []).append(metric)
        said = {"unavailable": "cannot be given", "partial": "only partly trusted"}
        found += [
            f"{word}: {', '.join(metrics)} {said[level]} ({reason})" for (level, reason), metrics in by_reason.items()
        ]
    return found
