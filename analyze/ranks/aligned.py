"""All clocks of a job on one: the reference is the clock that most ranks are tied to by collectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..intervals import Ints
from .clocks import SAME, Fit, fit
from .matching import ABSENT, Communicator
from .rank import Rank


@dataclass(frozen=True, slots=True)
class Clocks:
    """The `fits` of each rank's clock to the job's, by position; a rank that nothing ties to the others has none."""

    fits: Mapping[int, Fit]
    reference: str

    def of(self, rank: int, time: Ints) -> Ints:
        """`time` of a rank on the job's clock; on its own where nothing ties it."""
        return self.fits.get(rank, SAME).to_reference(time)

    @property
    def residual_ns(self) -> int:
        """The worst residual of all clocks."""
        return max((one.residual_ns for one in self.fits.values()), default=0)


def aligned(ranks: Sequence[Rank], found: Sequence[Communicator]) -> Clocks:
    """The clocks of `ranks`, tied through the communicators `found`: the largest first, then those that reach further ranks.

    Ranks of one trace share a clock, so that one tied rank ties the others.
    """
    if not found:
        return Clocks({}, "")
    by_clock: dict[str, Fit] = {ranks[found[0].members[0]].clock: SAME}
    reference = next(iter(by_clock))
    left = list(found)
    while left:
        at = next((i for i, c in enumerate(left) if any(ranks[m].clock in by_clock for m in c.members)), None)
        if at is None:
            break
        one = left.pop(at)
        anchor = next(i for i, m in enumerate(one.members) if ranks[m].clock in by_clock)
        known = by_clock[ranks[one.members[anchor]].clock].to_reference(_ends(ranks, one, anchor))
        for i, member in enumerate(one.members):
            if ranks[member].clock not in by_clock:
                both = (one.rows[anchor] != ABSENT) & (one.rows[i] != ABSENT)
                if both.any():
                    by_clock[ranks[member].clock] = fit(known[both], _ends(ranks, one, i)[both])
    return Clocks({i: by_clock[rank.clock] for i, rank in enumerate(ranks) if rank.clock in by_clock}, reference)


def _ends(ranks: Sequence[Rank], one: Communicator, member: int) -> Ints:
    table = ranks[one.members[member]].table("collectives")
    return np.asarray(table["end_ns"].to_numpy()[one.rows[member]])
