"""What a judge answers: one verdict a judged part of a claim, with its working, and what a set of verdicts amounts to.

met           the whole interval lies inside the bound
exceeded      a speedup whose whole interval lies above its band: better than expected
missed        the whole interval lies outside the bound
inconclusive  the interval straddles the bound, rounds are too few, or drift, two modes or spread were found
invalid       the evidence contradicts itself or is not trusted: outputs, work, moved bytes, trace
unrecorded    nobody wrote down what this machine, or this size, should do, or the run did not sample what it is about
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ..model import Bound, Source

STATUSES: Final = ("met", "exceeded", "missed", "inconclusive", "invalid", "unrecorded")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One verdict. `quantity` is what was judged, in words; `value`, `low` and `high` are in `unit`.

    `low` and `high` are null where the value is no sample (a count) or has no interval (one window, too few rounds);
    `coverage` is the interval's. `n` counts `sample`: "rounds", "iterations" or "windows". `margin` is how far the
    end of the interval nearest the bound (or the value) lies inside it, negative outside. `expected_on` is the
    hardware key of the claim's file. Values are null where none could be taken. `reason` is one sentence.
    `measured_in` are digests of the runs that the bound was measured in.
    """

    claim: str
    quantity: str
    status: str
    reason: str
    variant: str
    hardware_key: str
    expected_on: str
    source: Source
    unit: str
    bound: Bound | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    coverage: float | None = None
    margin: float | None = None
    n: int = 0
    sample: str = ""
    measured_in: tuple[str, ...] = ()


def counts(verdicts: Iterable[Verdict]) -> Mapping[str, int]:
    """How many verdicts have each of `STATUSES`, in their order."""
    found = [v.status for v in verdicts]
    return {status: found.count(status) for status in STATUSES}


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """0 every judged claim met or exceeded; 1 something missed; 3 something, or everything, could not be judged.

    1 goes before 3. Unrecorded claims do not spoil a run that has judged ones; alone, or with nothing at all, they
    leave 3. (2 belongs to input that could not be read, which never gets here.)
    """
    found = counts(verdicts)
    if found["missed"]:
        return 1
    if found["inconclusive"] or found["invalid"]:
        return 3
    return 0 if found["met"] or found["exceeded"] else 3
