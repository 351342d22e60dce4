"""How often a gain is decided that is really there, by our rule and by those of other tools, on the same simulated rounds.

Noise is the standard deviation of the logarithm of a round's ratio. Each side has half of its variance, independent of the
other: nothing is shared within a round, so that pairing saves our rule nothing (but in `SHARED`). Room is how far below the
truth the bound lies. The other tools get the same times as two unpaired samples, with the baseline's divided by the bound.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Final

import numpy as np

from aisp_trace.benchmarks.other_rules import Array, Rule, asv, criterion, google
from aisp_trace.benchmarks.rounds import SPEEDUP, TRIALS, judged
from aisp_trace.expectations.deciding import DECIDING

NOISES: Final = (0.01, 0.02, 0.03, 0.05, 0.08)
ROOMS: Final = (0.03, 0.05, 0.10)

KNOWN: Final[Mapping[float, tuple[float, ...]]] = {0.05: (0.035, 0.065)}
"""Room -> more noises, for which 99 % and 75 % of runs are known to be decidable within 40 rounds."""

SHARED: Final = (0.05, 0.02, 0.05)
"""(room, noise, shared): one more case in which both sides of a round have 5 % in common, as from a clock of the machine."""

GAINS: Final = (
    *((room, noise, 0.0) for room in ROOMS for noise in sorted((*NOISES, *KNOWN.get(room, ())))),
    SHARED,
)

PLANS: Final = ((8,), (20,), DECIDING)
"""Looks of our rule. The other tools have no looks: they get 8, 20 and all 40 rounds."""

COUNTED: Final = (8, 12, 16, 20, 24, 32, 40, 80)
"""Rounds of a plan with one look, for what is wrongly called at the bound."""

COUNTED_NOISES: Final = (0.01, 0.05)

OTHERS: Final[Mapping[str, Rule]] = {
    "asv": asv(),
    "asv, factor 1": asv(1.0),
    "Google Benchmark": google,
    "criterion.rs": criterion,
}

BY_FACTOR: Final = "asv, factor = bound"
"""The bound given to asv as its `--factor`, with the times as they are: its test asks only whether the sides differ at all."""

OTHER_NAMES: Final = (*OTHERS, BY_FACTOR)


@dataclass(frozen=True, slots=True)
class Said:
    """Fractions of all runs: called faster than the bound (`met`), and slower (`missed`); `rounds` a run took on average."""

    met: float
    missed: float
    rounds: float


@lru_cache(maxsize=8)
def times(noise: float, shared: float, trials: int = TRIALS, n: int = DECIDING[-1]) -> tuple[Array, Array]:
    """(baseline, variant): one row a run, one time a round. The true ratio is `SPEEDUP`. Seeded by noise and `n`."""
    rng = np.random.default_rng(zlib.crc32(f"noise {noise} {n}".encode()))
    side = noise / sqrt(2)
    base, fast = (np.exp(side * rng.standard_normal((trials, n))) for _ in range(2))
    machine = np.exp(shared * rng.standard_normal((trials, n)))
    return SPEEDUP * base * machine, fast * machine


@lru_cache(maxsize=512)
def ours(room: float, noise: float, looks: tuple[int, ...], trials: int = TRIALS, shared: float = 0.0) -> Said:
    """Our rule, for a bound `room` below the truth. More rounds than `DECIDING` has are drawn anew."""
    base, fast = times(noise, shared, trials, max(looks[-1], DECIDING[-1]))
    bound = SPEEDUP * (1 - room)
    found = [judged(ratios, bound, looks) for ratios in (base / fast).tolist()]
    counts = (sum(d.status == status for d in found) for status in ("met", "missed"))
    met, missed = (count / trials for count in counts)
    return Said(met, missed, sum(d.estimate.n for d in found) / trials)


@lru_cache(maxsize=512)
def theirs(name: str, room: float, noise: float, n: int, trials: int = TRIALS, shared: float = 0.0) -> Said:
    """Another tool's rule on the first `n` rounds of the same runs."""
    base, fast = (side[:, :n] for side in times(noise, shared, trials))
    bound = SPEEDUP * (1 - room)
    called = asv(bound)(base, fast) if name == BY_FACTOR else OTHERS[name](base / bound, fast)
    return Said(float((called > 0).mean()), float((called < 0).mean()), n)
