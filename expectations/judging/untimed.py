"""What a variant does where no clock runs: prepare once, reset and outputs around every iteration. Pure.

    prepare | reset | CLOCK: iteration | outputs | reset | CLOCK: iteration | outputs | ...

Reset and outputs run for every iteration. What a variant spends there beyond the baseline is a price that its speedup leaves
out. So it is charged to the iteration, and the speedup is computed again:

    baseline     | reset |============= iteration =============| out |
    optimized    | reset ......... |= iteration =| out .. |          charged: = and dots

An objection, if the iteration so charged is no faster than the baseline's, or takes more than `MOST` times what it took. The
first finds a gain that is nothing but moved work, the second a speedup that moved work multiplies: 4 ms of 40 turn into 1 ms when
3 are moved out, which is hardly more gain and four times the speedup.

The harness already refuses operations of torch there that compute; time also shows copies, and what torch does not see (numpy,
ctypes, sleeping).

Prepare may take long: compiling, capturing graphs, locking pages. With fresh inputs in every iteration it cannot hold the
iteration's work, since the outputs that are compared belong to inputs drawn after it. It is shown, with how many iterations pay
for it. Where a problem reuses its inputs that proof is missing, and prepare is charged in the same way.

Each figure is the median over the untraced processes of the longest in each: first calls of a process and an interrupted host
make some of them long, and a variant that works there in fewer than half of the rounds moves no median ratio either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from statistics import fmean, median
from typing import Final

from ...analyze.words import duration
from ...traces.run import Manifest, Proof
from .evidence import WHOLE, Evidence

MOST: Final = 1.5
"""How many times its own time an iteration may take when it is charged. Honest variants reached 1.18 on an H200 and, in the
smallest size on a loaded CPU, 1.4: views of some hundred outputs take microseconds each. Restoring a cache made it 1.02 to 1.14
(and 1.5 once, on that CPU, for a variant without a gain)."""

SURELY: Final = 0.9
"""In so many rounds a command must take longer outside its iterations than the baseline, to be charged for it: in 8 of 8
rounds, which start-up alone does once in 256 runs."""

FLOOR_NS: Final = 100_000
"""Less is not work that was moved: handing over outputs, a range, and waiting for an idle device take some ten microseconds."""


@dataclass(frozen=True, slots=True)
class Untimed:
    """Of one variant, in ns: `prepare_ns`, `reset_ns` (0: it has none) and `outputs_ns`; what an iteration takes, and in `pairs`
    the baseline's and its own in each round of both, by which it is compared; none for the baseline itself.

    `beyond` says how much longer than the baseline's each of ``reset()`` and ``outputs()`` takes. `pays_after` is the number of
    iterations whose gain pays for the preparation beyond the baseline's; null where there is no gain. `reuse` is why inputs stay
    the same; null where each iteration has its own.
    """

    variant: str
    prepare_ns: float
    reset_ns: float
    outputs_ns: float
    iteration_ns: float | None
    pairs: tuple[tuple[float, float], ...]
    beyond: dict[str, float]
    pays_after: int | None
    reuse: str | None

    @property
    def gain_ns(self) -> float | None:
        """What an iteration takes less than one of the baseline: the median over the rounds; null without any."""
        return median(base - own for base, own in self.pairs) if self.pairs else None

    @property
    def charged_ratio(self) -> float | None:
        """The speedup over the baseline if what `beyond` holds were charged to the iteration; null without a gain to tell."""
        return self.ratio(sum(self.beyond.values()))

    def ratio(self, excess_ns: float) -> float | None:
        """The speedup over the baseline if an iteration took `excess_ns` longer: with 0 the one that is judged."""
        return median(base / (own + excess_ns) for base, own in self.pairs) if self.pairs else None


def untimed(evidence: Evidence) -> tuple[Untimed, ...]:
    """A row for each variant of which the harness wrote its untimed work down, the baseline first."""
    manifest = evidence.manifest
    proofs = {} if manifest is None else {v.name: _proofs(manifest, v.name) for v in manifest.variants}
    names = [name for name, found in proofs.items() if found]
    rows: list[Untimed] = []
    for name in names:
        prepare, reset, outputs = (
            median(ns) for ns in zip(*((p.prepare_ns, p.reset_ns, p.outputs_ns) for p in proofs[name]), strict=True)
        )
        own = [fmean(r.times_ns[name]) for r in evidence.rounds if name in r.times_ns]
        base = rows[0] if rows else None
        row = Untimed(
            variant=name,
            prepare_ns=prepare,
            reset_ns=reset,
            outputs_ns=outputs,
            iteration_ns=median(own) if own else None,
            pairs=() if base is None else _pairs(evidence, base.variant, name),
            beyond={"reset()": 0.0, "outputs()": 0.0},
            pays_after=None,
            reuse=next((p.reuse or "unstated" for p in proofs[name] if not p.fresh), None),
        )
        if base is not None:
            beyond = {"reset()": max(reset - base.reset_ns, 0.0), "outputs()": max(outputs - base.outputs_ns, 0.0)}
            gain, dearer = row.gain_ns, max(prepare - base.prepare_ns, 0.0)
            row = replace(row, beyond=beyond, pays_after=ceil(dearer / gain) if gain is not None and gain > 0 else None)
        rows.append(row)
    return tuple(rows)


def moved_out(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """(variant, sentence) of every variant whose gain does not stand once it is charged for its untimed work."""
    rows = untimed(evidence)
    for row in rows[1:]:
        excess = sum(row.beyond.values())
        if _too_much(row, excess):
            where = " and ".join(name for name, ns in row.beyond.items() if ns > 0)
            yield (
                row.variant,
                f"{row.variant} takes {duration(excess)} longer than {rows[0].variant} in {where}, which is in no "
                f"iteration's time: with it, an iteration of {duration(row.iteration_ns)} is {row.ratio(excess):.3g} times as "
                f"fast, not {row.ratio(0.0):.3g}",
            )
        dearer = row.prepare_ns - rows[0].prepare_ns
        if row.reuse is not None and _too_much(row, dearer):
            yield (
                row.variant,
                f"{row.variant} prepares {duration(dearer)} longer than {rows[0].variant} for an iteration of "
                f"{duration(row.iteration_ns)}, and its inputs never change ({row.reuse[:120]}): the work may have been done "
                "before the clock",
            )


def outside_iterations(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """(variant, sentence) of every command of a pair whose gain does not stand once it is charged for what its processes do
    outside their iterations, before, between or after them.

    Nobody gives a user's command fresh inputs, so what it does before the first iteration may be the work of all. It is charged
    by iteration, and only what exceeds the baseline's in `SURELY` of the rounds: starting up takes now longer and now shorter.
    """
    manifest = evidence.manifest
    if manifest is None or evidence.timed == WHOLE or not manifest.commands or not manifest.variants:
        return
    outside: dict[str, dict[int, int]] = {}
    counts: dict[str, int] = {}
    for one in manifest.commands:
        timed = one.answer.times_ns(manifest.timed)
        outside.setdefault(one.variant, {})[one.index] = one.wall_ns - sum(timed)
        counts[one.variant] = len(timed)
    base = manifest.variants[0].name
    for name in (v.name for v in manifest.variants[1:]):
        both = [index for index in outside.get(name, {}) if index in outside.get(base, {})]
        own = [fmean(r.times_ns[name]) for r in evidence.rounds if name in r.times_ns]
        pairs = _pairs(evidence, base, name)
        if not both or not own or not pairs or not counts.get(name):
            continue
        beyond = [(outside[name][index] - outside[base][index]) / counts[name] for index in both]
        if sum(ns > 0 for ns in beyond) < SURELY * len(beyond):
            continue
        row = Untimed(name, 0.0, 0.0, 0.0, median(own), pairs, {}, None, None)
        excess = median(beyond)
        if _too_much(row, excess):
            yield (
                name,
                f"a process of {name} takes {duration(excess * counts[name])} longer than one of {base} outside its "
                f"{counts[name]} iterations, which is in none of their times: with it, an iteration of "
                f"{duration(row.iteration_ns)} is {row.ratio(excess):.3g} times as fast, not {row.ratio(0.0):.3g}; time more "
                "iterations in a process, or take --timing processes",
            )


def _too_much(row: Untimed, excess_ns: float) -> bool:
    """Only where something was gained: a variant that is slower than the baseline hides nothing."""
    if row.gain_ns is None or row.iteration_ns is None or row.gain_ns <= 0 or excess_ns <= FLOOR_NS:
        return False
    return excess_ns >= row.gain_ns or excess_ns > (MOST - 1) * row.iteration_ns


def _proofs(manifest: Manifest, name: str) -> list[Proof]:
    """Of the untraced processes that ended well."""
    results = [v for r in manifest.rounds if r.exit_code == 0 for v in r.result.variants if v.name == name]
    return [v.proof for v in results if v.proof is not None]


def _pairs(evidence: Evidence, baseline: str, name: str) -> tuple[tuple[float, float], ...]:
    """The mean iterations of both, in each round that is judged."""
    rounds = evidence.both(baseline, name)
    return tuple((fmean(r.times_ns[baseline]), fmean(r.times_ns[name])) for r in rounds)
