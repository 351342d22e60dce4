"""The runs that bounds are to be accepted from, and what every one of them must be: clean, known, and of one thing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...traces.content import one_line
from ...traces.errors import UsageError
from ...traces.run import Manifest
from ..judging.evidence import Evidence
from ..judging.same_timing import by_words
from ..model import ExpectationFile

USAGE: Final = 2
MISSED: Final = 1
UNDECIDED: Final = 3
"""Kinds of refusals, as the exit codes they leave; `USAGE` goes before `MISSED`, that before `UNDECIDED`."""

SHOWN: Final = 5
"""How many changed files a refusal names."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """One run that is to be accepted."""

    evidence: Evidence
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason to write nothing, the exit code it stands for, and the claim it is about (null: the runs).

    `by_hand`: a bound on times that somebody decides, instead of taking it from these runs, is a way out.
    """

    code: int
    text: str
    claim: str | None = None
    by_hand: bool = False


def exit_code(refusals: Iterable[Refusal]) -> int:
    """The code of the gravest refusal; 0 without any."""
    codes = {r.code for r in refusals}
    return next((code for code in (USAGE, MISSED, UNDECIDED) if code in codes), 0)


def can_be_decided(refusals: Sequence[Refusal]) -> bool:
    """Whether a bound that somebody decides is a way out: the runs carry none, and nothing is wrong with what they did."""
    return any(r.by_hand for r in refusals) and all(r.by_hand or r.code == USAGE for r in refusals)


def refuse_mixture(occasions: Sequence[Occasion]) -> None:
    """Raise `UsageError` unless these are different runs of one workload, size and machine with the same variants."""
    if not occasions:
        raise UsageError("no run was named to accept")
    ids = [o.evidence.run_id for o in occasions]
    for run_id in ids:
        if ids.count(run_id) > 1:
            raise UsageError(f"run {run_id} was named twice; one run is one occasion")
    seen: dict[str, str] = {}
    for occasion in occasions:
        before = seen.setdefault(occasion.manifest.digest, occasion.evidence.run_id)
        if before != occasion.evidence.run_id:
            raise UsageError(
                f"{before} and {occasion.evidence.run_id} hold the same measurement; one run is one occasion"
            )
    first = occasions[0].evidence
    for other in (o.evidence for o in occasions[1:]):
        for part in ("workload", "size", "hardware_key"):
            one, two = getattr(first, part), getattr(other, part)
            if one != two:
                what = part.replace("_", " ")
                raise UsageError(f"{first.run_id} has {what} {one}, {other.run_id} has {two}; accept them one by one")
        if first.timed != other.timed:
            raise UsageError(
                f"{first.run_id} is timed by {by_words(first.timed)}, {other.run_id} by {by_words(other.timed)}; accept them one "
                "by one"
            )
        if set(first.variants) != set(other.variants):
            raise UsageError(f"{first.run_id} and {other.run_id} have different variants; accept them one by one")


def provenance_refusals(occasions: Sequence[Occasion]) -> list[Refusal]:
    """One for each run whose code nobody could find again: no commit, or a tree that was not clean."""
    found = []
    for occasion in occasions:
        git, run_id = occasion.manifest.git, occasion.manifest.run_id
        if not git.get("commit"):
            found.append(
                Refusal(USAGE, f"{run_id} does not know its commit; capture it in a git checkout", by_hand=True)
            )
        elif git.get("dirty") is not False:
            state = "a changed" if git.get("dirty") else "a possibly changed"
            text = f"{run_id} was captured from {state} tree{_changed(git)}; commit first, then capture"
            found.append(Refusal(USAGE, text))
    return found


def _changed(git: Mapping[str, Any]) -> str:
    """`` (a.py, b.py and others)``, or nothing where the manifest names none."""
    names = git.get("changed")
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        return ""
    shown = ", ".join(one_line(str(name)) for name in names[:SHOWN])
    return f" ({shown}{' and others' if len(names) > SHOWN else ''})"


def machine_refusal(evidence: Evidence, target: ExpectationFile) -> list[Refusal]:
    """One if the file is another machine's."""
    if target.hardware_key == evidence.hardware_key:
        return []
    text = f"the file is for {target.hardware_key}, but {evidence.run_id} was made on {evidence.hardware_key}"
    return [Refusal(USAGE, text)]
