"""Which ranks a job has: numbered by the best evidence there is; missing, short and duplicate ones named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from .rank import Rank

STRONG: Final = frozenset({"torch", "run", "file name"})
"""What numbers ranks of the whole job; the order of devices does so within one trace only."""

SHORT: Final = 0.9
"""Of the iterations that most ranks have: with fewer a rank is short. One or two fewer is how recordings are cut."""


@dataclass(frozen=True, slots=True)
class Left:
    """A rank that is not merged, and why."""

    rank: int | None
    trace: str
    why: str


@dataclass(frozen=True, slots=True)
class Roster:
    """The `ranks` that are merged, by number; `duplicates` that are not; numbers that are `missing` of `world_size` (null:
    unknown, then gaps in the numbering); `short` ones, (number, iterations), of `usual` iterations."""

    ranks: tuple[Rank, ...]
    numbers: tuple[int, ...]
    duplicates: tuple[Left, ...]
    missing: tuple[int, ...]
    world_size: int | None
    short: tuple[tuple[int, int], ...]
    usual: int
    notes: tuple[str, ...]


def roster(given: Sequence[Rank]) -> Roster:
    """The ranks of a job among `given` partials, in any order."""
    ordered = sorted(given, key=lambda r: (_natural(r.trace), r.clock, r.part))
    once: dict[tuple[str, int], Rank] = {}
    duplicates = []
    for one in ordered:
        first = once.setdefault((one.clock, one.part), one)
        if first is not one:
            same = f"it is the recording {first.trace} once more"
            duplicates.append(Left(one.identity.rank, one.trace, same))
    strong = [one for one in once.values() if one.identity.source in STRONG]
    weak = [one for one in once.values() if one.identity.source not in STRONG]
    numbered: dict[int, Rank] = {}
    contested: list[int] = []
    for one in strong:
        rank = one.identity.rank
        assert rank is not None
        first = numbered.setdefault(rank, one)
        if first is not one:
            duplicates.append(Left(rank, one.trace, f"{first.trace} is of rank {rank}, too"))
            contested.append(rank)
    notes = []
    if contested:
        notes.append(
            f"several recordings say they are rank {listed(sorted(set(contested)))}, and the first of each was taken: give the "
            "traces of one run of the job"
        )
    if weak:
        free = iter(n for n in range(len(strong) + len(weak)) if n not in numbered)
        for one in weak:
            number = next(free)
            numbered[number] = replace(one, identity=replace(one.identity, rank=number))
    if len({one.clock for one in weak}) > 1:
        notes.append(
            f"{len(weak)} of {len(numbered)} ranks are numbered by the order of their traces' names and devices: nothing in "
            "them says which rank they are; call the files ...rank0, ...rank1"
        )
    worlds = Counter(one.identity.world_size for one in strong if one.identity.world_size)
    world = worlds.most_common(1)[0][0] if worlds else None
    if len(worlds) > 1:
        notes.append(f"traces disagree on how many ranks the job has: {', '.join(map(str, sorted(worlds)))}")
    expected = world if world is not None else max(numbered, default=-1) + 1
    numbers = tuple(sorted(numbered))
    counts = {n: numbered[n].table("iterations").height for n in numbers}
    usual = Counter(counts.values()).most_common(1)[0][0] if counts else 0
    return Roster(
        ranks=tuple(numbered[n] for n in numbers),
        numbers=numbers,
        duplicates=tuple(duplicates),
        missing=tuple(n for n in range(expected) if n not in numbered),
        world_size=world,
        short=tuple((n, c) for n, c in counts.items() if c < SHORT * usual),
        usual=usual,
        notes=tuple(notes),
    )


def listed(numbers: Sequence[int], most: int = 12) -> str:
    """``0, 3 to 7, 9``; more than `most` pieces are counted."""
    pieces: list[str] = []
    run: list[int] = []
    for n in [*sorted(numbers), None]:
        if n is not None and run and n == run[-1] + 1:
            run.append(n)
            continue
        if run:
            pieces += (
                [str(run[0])] if len(run) == 1 else [f"{run[0]} to {run[-1]}"] if len(run) > 2 else list(map(str, run))
            )
        run = [] if n is None else [n]
    return ", ".join(pieces[:most]) + (f" and {len(pieces) - most} more" if len(pieces) > most else "")


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """``node10`` after ``node9``."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name))
