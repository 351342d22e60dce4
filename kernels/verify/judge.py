"""What a recording says of a candidate: its calls' kernels and times, and what should not be there.

    main thread   |prepare|stream|call 1f3a..|check|keep|prepare| ...          ranges that the harness opened, one after another
    calls             L L    L      L  L       L  L   L   L                    each launch belongs to the range it was made in
    device             o o     o      OOOO OOO   o     o    o                  a call's time: its first O to the end of its last

Launches of other threads or processes, or between the ranges, are the candidate's: the harness makes none. In the harness's own
ranges more kernels than in the rehearsal, or kernels of the candidate's, are the candidate's too.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from .names import is_own, library_of
from .physics import Peak
from .recording import COPY, GRAPH, KERNEL, Op, Range, Recording
from .result import KernelRow, Reason, Timing

CALL: Final = "call "
HARNESS: Final = ("prepare", "stream", "check", "keep", "finish")
SETUP: Final = "setup"

SLACK_NS: Final = 50_000
"""By which the device's clock and the host's may differ in a recording: nsys aligns them to some microseconds."""

EVENTS_SHARE: Final = 0.2
EVENTS_NS: Final = 5_000
"""How much shorter events may say a call is than its trace: events surround the work, so an honest one says longer."""

HOST_BYTES: Final = 4096
"""Bytes that a call may move between host and device: a few scalars."""

FLOOR_SHARE: Final = 0.97
"""Of the floor, that a time may reach: clocks are given in whole MHz, and the trace's timestamps have a step of 32 ns."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the parent knows of a call. `event_ns`: its events, as the child says; `raised`: it failed, as it may of views."""

    token: str
    shape: str
    timed: bool
    event_ns: int | None
    nbytes: int
    raised: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What a candidate is held to: its `own` kernels (null: any that are not a library's), the memory's peak."""

    own: Collection[str] | None = None
    allow_library: bool = False
    peak: Peak | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What speaks against the candidate, what stayed unknown, and the figures. `times` has each call's (time, busy) in ns."""

    reasons: Sequence[Reason]
    unknown: str
    timings: Sequence[Timing]
    kernels: Sequence[KernelRow]
    times: Mapping[str, tuple[int, int]]


@dataclass(slots=True)
class _Call:
    facts: Facts
    window: Range
    ops: list[Op] = field(default_factory=list)

    @property
    def kernels(self) -> list[Op]:
        return [op for op in self.ops if op.kind in (KERNEL, GRAPH)]

    @property
    def time_ns(self) -> int:
        return max(op.end_ns for op in self.ops) - min(op.start_ns for op in self.ops) if self.ops else 0

    @property
    def busy_ns(self) -> int:
        busy, reached = 0, 0
        for op in sorted(self.ops, key=lambda one: one.start_ns):
            busy += max(op.end_ns - max(op.start_ns, reached), 0)
            reached = max(reached, op.end_ns)
        return busy


class _Objections:
    """Reasons by code and sentence, counted."""

    def __init__(self) -> None:
        self.found: Counter[tuple[str, str]] = Counter()

    def say(self, code: str, text: str) -> None:
        self.found[code, text] += 1

    def reasons(self) -> list[Reason]:
        return [Reason(code, text, count) for (code, text), count in self.found.items()]


def judge(recording: Recording, calls: Sequence[Facts], rules: Rules) -> Judged:
    """Hold `recording` of a child against the `calls` that the parent asked for."""
    windows = {r.name.removeprefix(CALL): r for r in recording.ranges if r.name.startswith(CALL)}
    written = sum(r.name.startswith(CALL) for r in recording.ranges)
    missing = [call for call in calls if call.token not in windows]
    if missing:
        return _unknown(f"the recording lacks the ranges of {len(missing)} of {len(calls)} calls")
    threads = {r.thread for r in windows.values()}
    objections = _Objections()
    if written != len(calls) or len(threads) != 1:
        objections.say("forged_ranges", "wrote ranges that look like the harness's calls")
    if not calls:
        return _unknown("no call was made")
    main = windows[calls[0].token].thread
    made = {call.token: _Call(call, windows[call.token]) for call in calls}
    own_ranges = [r for r in recording.ranges if r.thread == main and (r.name in (*HARNESS, SETUP) or _is_call(r))]
    if any(later.start_ns < one.end_ns for one, later in pairwise(own_ranges)):
        objections.say("forged_ranges", "wrote ranges that look like the harness's into one of its calls")
    if not any(op.kind == KERNEL and op.thread == main for op in recording.ops):
        return _unknown("the recording has no kernel of the process at all, not even the harness's")
    _sort_ops(recording.ops, own_ranges, main, made, objections, rules)
    for one in made.values():
        if one.facts.raised:
            continue
        _judge_call(one, _given_stream(recording.ops, own_ranges, one), objections, rules)
    _judge_others(recording.ops, made.values(), objections)
    by_shape: dict[str, list[_Call]] = defaultdict(list)
    for one in made.values():
        if one.facts.timed:
            by_shape[one.facts.shape].append(one)
    timings = [_timing(shape, found, rules.peak, objections) for shape, found in by_shape.items()]
    return Judged(
        reasons=objections.reasons(),
        unknown="",
        timings=timings,
        kernels=_rows(made.values(), rules),
        times={token: (one.time_ns, one.busy_ns) for token, one in made.items()},
    )


def _unknown(why: str) -> Judged:
    return Judged((), why, (), (), {})


def _is_call(one: Range) -> bool:
    return one.name.startswith(CALL)


def _sort_ops(
    ops: Sequence[Op],
    ranges: Sequence[Range],
    main: int,
    made: Mapping[str, _Call],
    objections: _Objections,
    rules: Rules,
) -> None:
    """Give each call its ops, and object to those that no range of the harness explains."""
    starts = [r.start_ns for r in ranges]
    setup_end = max((r.end_ns for r in ranges if r.name == SETUP), default=0)
    setup_start = min((r.start_ns for r in ranges if r.name == SETUP), default=0)
    launched: dict[int, list[Op]] = defaultdict(list)
    for op in ops:
        if op.launched_ns is None:
            if op.start_ns > setup_end and op.kind in (KERNEL, GRAPH):
                objections.say("thread", f"{op.name} ran without a launch that was recorded")
            continue
        place = bisect_right(starts, op.launched_ns) - 1
        window = ranges[place] if place >= 0 and op.launched_ns <= ranges[place].end_ns else None
        if op.thread != main:
            if op.end_ns > setup_end + SLACK_NS:
                objections.say("thread", f"another thread or process launched {_short(op.name)} after the set-up")
        elif window is None:
            if op.launched_ns > setup_start and op.kind in (KERNEL, GRAPH, COPY):
                objections.say("outside", f"launched {_short(op.name)} between the harness's ranges")
        elif _is_call(window) and (token := window.name.removeprefix(CALL)) in made:
            made[token].ops.append(op)
        elif window.name == SETUP:
            if op.end_ns > setup_end + SLACK_NS:
                objections.say("outlives", f"{_short(op.name)}, launched in the set-up, ran beyond its end")
        elif window.start_ns >= setup_start:
            launched[place].append(op)
            if _foreign(op, rules):
                objections.say("harness_work", f"{_short(op.name)} was launched in the harness's range {window.name!r}")
    _count_harness(ranges, launched, ops, main, setup_start, made, objections)


def _foreign(op: Op, rules: Rules) -> bool:
    """Whether the harness cannot have launched this: all that it launches are PyTorch's kernels."""
    if op.kind == GRAPH or op.in_graph:
        return True
    return op.kind == KERNEL and library_of(op.name) not in ("PyTorch", "CUB or Thrust")


def _count_harness(
    ranges: Sequence[Range],
    launched: Mapping[int, Sequence[Op]],
    ops: Sequence[Op],
    main: int,
    setup_start: int,
    made: Mapping[str, _Call],
    objections: _Objections,
) -> None:
    """Compare the harness's kernels around each timed call with those of the rehearsals, which no candidate saw."""
    rehearsed: Counter[str] = Counter()
    for one in ranges:
        if one.start_ns < setup_start and one.name in ("prepare", "check"):
            first, last = one.start_ns, one.end_ns
            count = sum(
                op.kind == KERNEL
                and op.thread == main
                and op.launched_ns is not None
                and first <= op.launched_ns <= last
                for op in ops
            )
            rehearsed[one.name] = max(rehearsed[one.name], count)
    if not rehearsed:
        return
    for index, one in enumerate(ranges):
        call = made.get(one.name.removeprefix(CALL)) if _is_call(one) else None
        if call is None or not call.facts.timed:
            continue
        for offset, name in ((-2, "prepare"), (1, "check")):
            if 0 <= index + offset < len(ranges) and ranges[index + offset].name == name:
                kernels = sum(op.kind == KERNEL for op in launched.get(index + offset, ()))
                if kernels > rehearsed[name]:
                    objections.say(
                        "harness_work",
                        f"more kernels ran in {name!r} than in the rehearsal without the candidate ({rehearsed[name]})",
                    )


def _given_stream(ops: Sequence[Op], ranges: Sequence[Range], call: _Call) -> int | None:
    """The stream that the call was to use: that of the harness's op in the range `stream` before it."""
    before = [r for r in ranges if r.name == "stream" and r.end_ns <= call.window.start_ns]
    if not before:
        return None
    last = before[-1]
    marks = [op.stream for op in ops if op.launched_ns is not None and last.start_ns <= op.launched_ns <= last.end_ns]
    return marks[-1] if marks else None


def _judge_call(call: _Call, stream: int | None, objections: _Objections, rules: Rules) -> None:
    if not call.kernels:
        objections.say("no_kernel", "launched no kernel")
        return
    for op in call.kernels:
        if op.in_graph:
            objections.say("graph", "replays a CUDA graph, whose kernels were captured before the inputs existed")
        elif rules.own is not None and not is_own(op.mangled, op.name, rules.own):
            library = library_of(op.name)
            whose = f"of {library}" if library else "that is not in its source"
            objections.say("library", f"launches {_short(op.name)}, a kernel {whose}")
        elif (library := library_of(op.name)) is not None and not rules.allow_library:
            objections.say("library", f"launches {_short(op.name)}, a kernel of {library}")
    moved = sum(op.nbytes for op in call.ops if op.kind == COPY and op.name in ("h2d", "d2h"))
    if moved > HOST_BYTES:
        objections.say("host_work", f"moves {moved:,} bytes between host and device in a call")
    others = {op.stream for op in call.ops} - ({stream} if stream is not None else set())
    if stream is not None and others:
        objections.say("stream", "ran work on another stream than the one it was given")
    elif len(others) > 1:
        objections.say("stream", f"ran work on {len(others)} streams")
    if max(op.end_ns for op in call.ops) > call.window.end_ns + SLACK_NS:
        objections.say("outlives", "left work running when the call had ended")
    events, trace = call.facts.event_ns, call.time_ns
    if events is not None and events < trace * (1 - EVENTS_SHARE) - EVENTS_NS:
        objections.say(
            "clock", "its events say less time than the trace: work is hidden from them, or they are not true"
        )


def _judge_others(ops: Sequence[Op], calls: Collection[_Call], objections: _Objections) -> None:
    """Work of somebody else while a call ran: nothing may overlap it."""
    ordered = sorted(ops, key=lambda op: op.start_ns)
    starts = [op.start_ns for op in ordered]
    longest = max((op.end_ns - op.start_ns for op in ordered), default=0)
    for call in calls:
        mine = set(map(id, call.ops))
        first, last = call.window.start_ns + SLACK_NS, call.window.end_ns - SLACK_NS
        for op in ordered[bisect_right(starts, first - longest) : bisect_right(starts, last)]:
            if op.end_ns > first and id(op) not in mine:
                objections.say("outlives", f"{_short(op.name)}, launched elsewhere, ran during a call")


def _timing(shape: str, calls: Sequence[_Call], peak: Peak | None, objections: _Objections) -> Timing:
    """The figures of one shape's timed calls."""
    with_ops = [call for call in calls if call.ops]
    times = sorted(call.time_ns for call in with_ops)
    events = [call.facts.event_ns for call in calls if call.facts.event_ns is not None]
    launches = Counter(tuple(sorted(op.name for op in call.kernels)) for call in calls)
    if len(launches) > 1:
        usual = launches.most_common(1)[0][1]
        objections.say(
            "varies", f"launches other kernels in {len(calls) - usual} of {len(calls)} timed calls of {shape}"
        )
    nbytes = calls[0].facts.nbytes
    floor = None if peak is None else peak.floor_ns(nbytes)
    median = statistics.median(times) if times else None
    if floor and times and times[0] < FLOOR_SHARE * floor:
        objections.say(
            "too_fast",
            f"took {times[0] / 1e3:.1f} us for {nbytes:,} bytes at {shape}, which need {floor / 1e3:.1f} us at the "
            "memory's peak",
        )
    return Timing(
        shape=shape,
        calls=len(calls),
        time_ns=median,
        low_ns=times[0] if times else None,
        high_ns=times[-1] if times else None,
        busy_ns=statistics.median(call.busy_ns for call in with_ops) if with_ops else None,
        event_ns=statistics.median(events) if events else None,
        kernels=statistics.median(len(call.kernels) for call in calls),
        required_bytes=nbytes,
        floor_ns=floor,
        share_of_peak=nbytes / median * 1e9 / peak.bytes_per_s if peak and median else None,
    )


def _rows(calls: Collection[_Call], rules: Rules) -> list[KernelRow]:
    """Kernels of all calls, the most expensive first."""
    count: Counter[str] = Counter()
    total: Counter[str] = Counter()
    own: dict[str, bool | None] = {}
    for op in (op for call in calls for op in call.kernels):
        count[op.name] += 1
        total[op.name] += op.end_ns - op.start_ns
        own[op.name] = None if rules.own is None else is_own(op.mangled, op.name, rules.own)
    return [KernelRow(name, count[name], ns, library_of(name), own[name]) for name, ns in total.most_common()]


def _short(name: str) -> str:
    """A kernel's name in at most 80 characters."""
    return name if len(name) <= 80 else f"{name[:77]}..."
