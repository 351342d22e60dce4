"""What two variants say beside their traces: whether they did the same work, and how much faster one is untraced.

The two may belong to one run, or to two runs of one workload on two occasions. Nothing is judged here; `judge` does that, for
one run. A trace alone knows neither, so whoever compares bare traces has no answer from this module.

Same run      ratios are paired by round; their median has the exact interval of `speedup`.
Two runs      no round of one belongs to a round of the other. The ratio is that of the medians of the rounds; with the
              intervals [a, b] and [c, d] of the two medians, it lies in [a / d, b / c] unless one of them is missed, which
              has at most the sum of both probabilities (Bonferroni). What changed between the occasions is in the ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from ..deciding import Concern, Estimate, concerns, median_interval, rounds_judged
from .energy import gain_in_cycles
from .evidence import COMMAND, WHOLE, Answer, Evidence
from .validity import objections, timer_objection

_REQUIRED = ("items", "unit", "flops", "input_bytes", "output_bytes")
_INPUTS = ("workload", "device", "size", "seed")


@dataclass(frozen=True, slots=True)
class Member:
    """One variant of a run that was gathered."""

    evidence: Evidence
    variant: str


@dataclass(frozen=True, slots=True)
class Untraced:
    """Baseline over optimized time of the rounds that no recorder watched: above 1 the second is faster.

    `base_ns` and `opt_ns` are the medians of the rounds' means, of an iteration or (`timed`) of a "whole process", start-up
    included. `paired` is false across two runs. `cycles` is the ratio in SM cycles, which exclude the difference of the clocks;
    null across two runs, and where a round does not know its clocks.
    """

    ratio: Estimate
    base_ns: float
    opt_ns: float
    paired: bool
    timed: str
    concerns: tuple[Concern, ...]
    cycles: float | None = None


def different_work(base: Member, opt: Member) -> tuple[str, ...]:
    """Every reason why the times of the two must not be held against each other; empty if there is none.

    Wrong outputs, required work or inputs that differ (in a run or between the two), a trace that contradicts what its
    variant said it would move, and different timers. Commands of the user's own answer nothing, so nothing is found.
    """
    if base.evidence is opt.evidence:
        both = (base.variant, opt.variant)
        return (*objections(base.evidence, both), *_only(timer_objection(base.evidence, both)))
    found = [f"{why} (run {m.evidence.run_id})" for m in (base, opt) for why in objections(m.evidence, (m.variant,))]
    first, second = _last_answer(base), _last_answer(opt)
    if base.evidence.workload != opt.evidence.workload:
        found.append(f"{base.evidence.workload} and {opt.evidence.workload} are different workloads")
    elif first is not None and second is not None:
        found += _unequal(first, second, base, opt)
    elif (one := _stated(base)) and (other := _stated(opt)) and one != other:
        found.append(f"stated work differs: {one} by {base.evidence.run_id} and {other} by {opt.evidence.run_id}")
    return tuple(dict.fromkeys(found))


def work_doubt(base: Member | None, opt: Member | None) -> str:
    """Why nobody knows whether both sides did the same work; empty where both say what they did. Null: a bare trace."""
    if base is None or opt is None:
        return "nothing recorded proves that both sides did the same work; only you can know"
    for member in (base, opt):
        said = member.evidence.stated
        if said is not None and said.doubt:
            return said.doubt
        if said is None and not (member.evidence.outputs_compared and _last_answer(member)):
            alone = member.evidence.manifest is not None and member.evidence.manifest.source == COMMAND
            who = member.evidence.run_id if alone else f"{member.variant} of {member.evidence.run_id}"
            return f"nothing says what work {who} did; only you can know whether it is the same"
    return ""


def untraced(base: Member, opt: Member) -> Untraced | None:
    """The speedup of the untraced rounds; null where one side has none, or times iterations and the other processes."""
    timed = base.evidence.timed
    if timed != opt.evidence.timed:
        return None
    if base.evidence is opt.evidence:
        names = (base.variant, opt.variant)
        ratios = base.evidence.speedups(*names)
        if ratios is None:
            return None
        before, after = ([r.times_ns[n] for r in base.evidence.both(*names)] for n in names)
        ratio = median_interval(ratios.mean, base.evidence.looks)
        cycles = gain_in_cycles(base.evidence, *names)
        return Untraced(ratio, _middle(before), _middle(after), True, timed, concerns(ratios.mean), cycles)
    one, other = _round_means(base), _round_means(opt)
    if not one or not other:
        return None
    a, b = (median_interval(values, m.evidence.looks) for m, values in ((base, one), (opt, other)))
    low = None if a.low is None or b.high is None else a.low / b.high
    high = None if a.high is None or b.low is None else a.high / b.low
    covered = None if a.coverage is None or b.coverage is None else a.coverage + b.coverage - 1
    doubts = tuple(
        Concern(c.kind, f"{m.variant} of {m.evidence.run_id}: {c.text}")
        for m, values in ((base, one), (opt, other))
        for c in concerns(values)
    )
    ratio = Estimate(a.value / b.value, low, high, min(a.n, b.n), covered)
    return Untraced(ratio, a.value, b.value, False, timed, doubts)


def slowdown(member: Member) -> float | None:
    """Median iteration of the traced process over the rounds' mean one; null where either is missing."""
    if member.evidence.timed == WHOLE:
        return None
    traced = member.evidence.variants[member.variant].traced_ns
    rounds = _round_means(member)
    return median(traced) / median(rounds) if traced and rounds else None


def _unequal(first: Answer, second: Answer, base: Member, opt: Member) -> list[str]:
    here = (f"{base.variant} of {base.evidence.run_id}", f"{opt.variant} of {opt.evidence.run_id}")
    work = [(f, getattr(first.work, f), getattr(second.work, f)) for f in _REQUIRED]
    inputs = [(f, one, other) for f, one, other in zip(_INPUTS, first.inputs, second.inputs, strict=True)]
    groups = (
        ("required work differs", work),
        ("inputs differ", [row for row in inputs if row[0] != "device"]),  # another device may do the same work
    )
    found = []
    for what, rows in groups:
        unequal = [f"{field} is {one} and {other}" for field, one, other in rows if one != other]
        if unequal:
            found.append(f"{what}: {', '.join(unequal)} for {here[0]} and {here[1]}")
    return found


def _stated(member: Member) -> str:
    """The work that all commands of a pair state, in words; empty where they state none."""
    said = member.evidence.stated
    if said is None or said.work is None:
        return ""
    output = "" if said.work.output is None else f", output {said.work.output}"
    return f"{said.work.items} {said.work.unit}{output}"


def _last_answer(member: Member) -> Answer | None:
    answers = member.evidence.variants[member.variant].answers
    return answers[-1] if answers else None


def _round_means(member: Member) -> list[float]:
    found = [fmean(r.times_ns[member.variant]) for r in member.evidence.rounds if member.variant in r.times_ns]
    return found[: rounds_judged(len(found), member.evidence.looks)]


def _middle(rounds: Sequence[Sequence[int]]) -> float:
    return median(fmean(times) for times in rounds)


def _only(sentence: str) -> tuple[str, ...]:
    return (sentence,) if sentence else ()
