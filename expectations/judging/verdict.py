"""What a judge answers: one verdict a judged part of a claim, with its working, and what a set of verdicts amounts to.

met           the whole interval lies inside the bound
exceeded      a speedup whose whole interval lies above its band: better than expected
missed        the whole interval lies outside the bound
inconclusive  the interval straddles the bound, mean and median disagree, rounds are too few or none of the planned looks, or
              something speaks against them
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

    `low` and `high` are null where the value is not a sample (a count) or has no interval (one window, too few rounds);
    `coverage` is the interval's. `n` counts `sample`: "rounds", "recordings", "iterations" or "windows". `margin` is how far the
    end of the interval nearest the bound (or the value) lies inside it, negative outside. `expected_on` is the
    hardware key of the claim's file. Values are null where none could be taken. `reason` is one sentence.

    `statistic` sums up a round's iterations ("mean", "median"; empty where no rounds were judged), and `other_low` and
    `other_high` are the interval by the other one. `detects` is the change that
    nine runs in ten like this one would have decided, as a fraction, and `rounds_for_5` how many rounds 5 % would take.
    `part` is what a headline tells apart: "speedup", "limits" (times and throughputs of single variants) or "mechanism".
    `measured_in` are digests of the runs that the bound was measured in, `recorded` the values of the single recordings.
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
    statistic: str = ""
    other_low: float | None = None
    other_high: float | None = None
    detects: float | None = None
    rounds_for_5: int | None = None
    part: str = "mechanism"
    measured_in: tuple[str, ...] = ()
    recorded: tuple[float, ...] = ()


def counts(verdicts: Iterable[Verdict]) -> Mapping[str, int]:
    """How many verdicts have each of `STATUSES`, in their order."""
    found = [v.status for v in verdicts]
    return {status: found.count(status) for status in STATUSES}


PARTS: Final = ("speedup", "limits", "mechanism")

_GRAVEST: Final = ("missed", "invalid", "inconclusive", "met")


def headline(verdicts: Iterable[Verdict], speedup: str = "", of: str = "") -> str:
    """What was judged, in one line: ``mechanism met; speedup 1.03x not judged: nothing is written down for this machine``.

    `speedup` is what was measured, in words, of the variant `of`: only its own claims judge that figure, and what they do not
    say of others stands behind the variant's name. A part is as its gravest verdict; what nobody wrote down is not a verdict,
    and a part of which nothing else is left was not judged.
    """
    found = list(verdicts)
    said = []
    for part in PARTS:
        mine = [v for v in found if v.part == part]
        name = part
        if part == "speedup" and of:
            name = f"{part} {speedup}"
            others = [v for v in mine if v.variant != of]
            mine = [v for v in mine if v.variant == of]
            own = _gravest(mine)
            for other in dict.fromkeys(v.variant for v in others):
                status = _gravest([v for v in others if v.variant == other])
                if status is not None and not status == own == "met":
                    said.append((_GRAVEST.index(status), f"{part} of {other} {status}"))
        status = _gravest(mine)
        if status is not None:
            said.append((_GRAVEST.index(status), f"{name} {status}"))
        elif part == "speedup" or mine:
            why = f"{mine[0].reason}" if mine else "no claim bounds it"
            said.append((len(_GRAVEST), f"{name} not judged: {why}"))
    return "; ".join(text for _, text in sorted(said, key=lambda one: one[0]))


def _gravest(verdicts: Iterable[Verdict]) -> str | None:
    """The gravest status of those that were judged; null where none was."""
    statuses = {"met" if v.status == "exceeded" else v.status for v in verdicts}
    return next((status for status in _GRAVEST if status in statuses), None)


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
