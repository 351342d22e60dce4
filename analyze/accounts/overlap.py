"""What ran at the same time as what.

For kinds a and b with unions U_a and U_b: ``both = |U_a and U_b|``, ``hidden = both / |U_a|``, ``efficiency = both /
min(|U_a|, |U_b|)``. Where there is no a there is nothing to hide, and the answer is null, neither 0 nor 1.

``compute`` includes graph launches, ``copy`` is every copy kind. Exposed copies are under neither compute nor comm, exposed
comm is not under compute: the time they cost. Unlike ledger cells, unions of different kinds may share instants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Final

import numpy as np
import numpy.typing as npt

from ...traces.model import COPY_KINDS, KINDS
from ..acceleration import accelerated
from ..intervals import Cover, Ints, common, cover, minus

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "copy": COPY_KINDS,
    "h2d": ("h2d",),
    "d2h": ("d2h",),
    "comm": ("comm",),
    "compute": ("compute", "graph"),
}
PAIRS: Final = (
    ("copy", "compute"),
    ("h2d", "compute"),
    ("d2h", "compute"),
    ("comm", "compute"),
    ("copy", "comm"),
    ("h2d", "d2h"),
)

Row = dict[str, object]

_GROUPS_OF: Final = np.array(
    [sum(1 << g for g, members in enumerate(GROUPS.values()) if kind in members) for kind in KINDS], np.int32
)
"""For each kind, the groups it belongs to, as bits in the order of `GROUPS`."""

_NUMBER: Final = {name: g for g, name in enumerate(GROUPS)}
_MOVES, _BESIDE = ({pair[i] for pair in PAIRS} for i in range(2))
"""The groups that give a, and those that give b."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Lengths in ns of the unions of some ops' groups (`own`, the first ones of `PAIRS`), of other ops' groups (`other`, the
    second ones), of what each of `PAIRS` has in common, and of what is `exposed`, by kind."""

    own: Mapping[str, int]
    other: Mapping[str, int]
    both: Mapping[tuple[str, str], int]
    exposed: Mapping[str, int]


Part = tuple[slice, npt.NDArray[np.bool_]]
"""Rows that hold all ops of a stage and all that run beside any of them, and which of these rows are the stage's."""


def overlaps(kind: Ints, start: Ints, end: Ints, parts: Iterable[Part]) -> Iterator[Overlap]:
    """All ops of a device beside all of its ops; then each of `parts` beside the ops that are not in it.

    The ops are sorted by start; `kind` are positions in `KINDS`.
    """
    fast = accelerated(len(kind))
    narrow = kind.astype(np.int8, copy=False)
    whole = _all_beside_all(fast, narrow, start, end)
    yield whole
    for near, mine in parts:
        ops = narrow[near], start[near], end[near]
        found = _apart(fast, *ops, mine)
        if len(mine) == len(kind):
            yield found
            continue
        # What a stage covers alone is missing from the union of the others, and all of that lies near it.
        around = _all_beside_all(fast, *ops)
        other = {name: ns - around.other[name] + found.other[name] for name, ns in whole.other.items()}
        yield replace(found, other=other)


def _all_beside_all(fast: ModuleType | None, kind: Ints, start: Ints, end: Ints) -> Overlap:
    if fast is not None:
        return _compiled(fast, kind, start, end, np.full(len(kind), _OWN | _OTHER, np.int8))
    whole = group_covers(kind, start, end)
    return _overlap(whole, whole)


def _apart(fast: ModuleType | None, kind: Ints, start: Ints, end: Ints, mine: npt.NDArray[np.bool_]) -> Overlap:
    if fast is not None:
        return _compiled(fast, kind, start, end, np.where(mine, np.int8(_OWN), np.int8(_OTHER)))
    return _overlap(*stage_covers(kind, start, end, mine))


_OWN, _OTHER = 1, 2


def _compiled(fast: ModuleType, kind: Ints, start: Ints, end: Ints, side: npt.NDArray[np.int8]) -> Overlap:
    own_of, other_of = (_GROUPS_OF & np.int32(sum(1 << _NUMBER[name] for name in names)) for names in (_MOVES, _BESIDE))
    first, second = (np.array([_NUMBER[pair[i]] for pair in PAIRS], np.int32) for i in range(2))
    numbers = (_NUMBER[name] for name in ("copy", "compute", "comm"))
    own, other, both, exposed = fast.overlaps(
        kind, start, end, side, own_of, other_of, len(GROUPS), first, second, *numbers
    )
    shared = dict(zip(PAIRS, both.tolist(), strict=True))
    return Overlap(
        own={name: int(own[_NUMBER[name]]) for name in _MOVES},
        other={name: int(other[_NUMBER[name]]) for name in _BESIDE},
        both=shared,
        exposed={"copy": int(exposed), "comm": int(own[_NUMBER["comm"]]) - shared["comm", "compute"]},
    )


def _overlap(own: Mapping[str, Cover], other: Mapping[str, Cover]) -> Overlap:
    uncovered = minus(own["copy"], other["compute"])
    return Overlap(
        own={name: own[name].total for name in _MOVES},
        other={name: other[name].total for name in _BESIDE},
        both={(a, b): common(own[a], other[b]) for a, b in PAIRS},
        exposed={
            "copy": uncovered.total - common(uncovered, other["comm"]),
            "comm": own["comm"].total - common(own["comm"], other["compute"]),
        },
    )


def group_covers(kind: Ints, start: Ints, end: Ints) -> dict[str, Cover]:
    """The union of each of `GROUPS`, from ops sorted by start (`kind` = positions in `KINDS`)."""
    groups = _GROUPS_OF[kind]
    return {name: _group_cover(name, groups, start, end) for name in GROUPS}


def _group_cover(name: str, groups: Ints, start: Ints, end: Ints) -> Cover:
    """The union of the ops that belong to `name`, by the bits of each op's groups."""
    rows = np.flatnonzero(groups & 1 << _NUMBER[name])
    return cover(start[rows], end[rows])


def pair_rows(device: int, stage: str | None, found: Overlap) -> list[Row]:
    """One row of table ``overlap`` a pair. Pairs without any a are left out for stages, and have null ratios for a device."""
    rows: list[Row] = []
    for a, b in PAIRS:
        a_ns, b_ns, both = found.own[a], found.other[b], found.both[a, b]
        if stage is not None and a_ns == 0:
            continue
        ideal = min(a_ns, b_ns)
        rows.append(
            {
                "device": device,
                "stage": stage,
                "a": a,
                "b": b,
                "a_ns": a_ns,
                "b_ns": b_ns,
                "both_ns": both,
                "hidden": both / a_ns if a_ns else None,
                "efficiency": both / ideal if ideal else None,
            }
        )
    return rows


def exposed_rows(device: int, stage: str | None, found: Overlap) -> list[Row]:
    """Rows of table ``exposed``: copies under neither compute nor comm, and comm not under compute."""
    return [{"device": device, "stage": stage, "kind": k, "ns": ns} for k, ns in found.exposed.items()]


def stage_covers(
    kind: Ints, start: Ints, end: Ints, mine: npt.NDArray[np.bool_]
) -> tuple[dict[str, Cover], dict[str, Cover]]:
    """(unions of the ops `mine`, for the groups that give a; unions of all other ops, for those that give b)."""
    groups = _GROUPS_OF[kind]
    inside, beside = np.where(mine, groups, 0), np.where(mine, 0, groups)
    return (
        {name: _group_cover(name, inside, start, end) for name in _MOVES},
        {name: _group_cover(name, beside, start, end) for name in _BESIDE},
    )
