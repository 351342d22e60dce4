"""What ran at the same time as what.

For kinds a and b with unions U_a and U_b: ``both = |U_a and U_b|``, ``hidden = both / |U_a|``, ``efficiency = both /
min(|U_a|, |U_b|)``. Where there is no a there is nothing to hide, and the answer is null, neither 0 nor 1.

``compute`` includes graph launches, ``copy`` is every copy kind. Exposed copies are under neither compute nor comm, exposed
comm is not under compute: the time they cost. Unlike ledger cells, unions of different kinds may share instants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.engine import primitive
from ...traces.model import COPY_KINDS, KINDS
from ..attribution.stages import Stages
from ..attribution.window_ops import kind_codes
from ..intervals import Cover, Ints, common, cover, minus, near_rows
from ..result import SCHEMAS

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

_FEW_PATHS: Final = 16
"""Up to so many stages each is held against all ops of a device, beyond only against those that run beside its own."""

_MOVING: Final = np.array([kind in COPY_KINDS or kind == "comm" for kind in KINDS])


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


def overlap_tables(device: int, ops: pl.DataFrame, stages: Stages) -> dict[str, pl.DataFrame]:
    """Tables ``overlap`` and ``exposed`` of one device, from its `ops`: of all of them, then of every path that moves data.

    Pairs without any a are left out of stages, and have null ratios for the device.
    """
    kind = kind_codes(ops)
    start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    node = stages.node_of(ops["stage"].to_numpy())
    moving = set(node[_MOVING[kind]].tolist())
    paths = sorted(stages.nodes_below, key=lambda path: stages.paths[path])
    paths = [path for path in paths if not moving.isdisjoint(stages.nodes_below[path].tolist())]
    parts = _parts(paths, stages, node, start, end)
    rows: dict[str, list[Row]] = {"overlap": [], "exposed": []}
    for stage, found in zip([None, *(stages.paths[p] for p in paths)], overlaps(kind, start, end, parts), strict=True):
        whose: Row = {"device": device, "stage": stage}
        rows["overlap"] += [whose | pair for pair in _pairs(found) if stage is None or pair["a_ns"]]
        rows["exposed"] += [whose | {"kind": name, "ns": ns} for name, ns in found.exposed.items()]
    return {name: pl.DataFrame(some, schema=SCHEMAS[name]) for name, some in rows.items()}


def _parts(paths: list[int], stages: Stages, node: Ints, start: Ints, end: Ints) -> Iterator[Part]:
    """The ops of each of `paths` and those around them; of few paths all ops, since those fill most of the time anyway."""
    nodes = len(stages.node_parent)
    everything = slice(0, len(node))
    near = None
    if len(paths) > _FEW_PATHS:
        near = near_rows(start, end)
        low, high = np.full(nodes + 1, np.iinfo(np.int64).max), np.full(nodes + 1, np.iinfo(np.int64).min)
        np.minimum.at(low, node, start)
        np.maximum.at(high, node, end)
    member = np.zeros(nodes + 1, bool)  # the last answer, for `NOTHING`, stays no
    for path in paths:
        below = stages.nodes_below[path]
        rows = everything if near is None else near(int(low[below].min()), int(high[below].max()))
        if rows.stop - rows.start > len(node) // 2:
            rows = everything
        member[below] = True
        yield rows, member[node[rows]]
        member[below] = False


def overlaps(kind: Ints, start: Ints, end: Ints, parts: Iterable[Part]) -> Iterator[Overlap]:
    """All ops of a device beside all of its ops; then each of `parts` beside the ops that are not in it.

    The ops are sorted by start; `kind` are positions in `KINDS`.
    """
    narrow = kind.astype(np.int8, copy=False)
    whole = _all_beside_all(narrow, start, end)
    yield whole
    for near, mine in parts:
        ops = narrow[near], start[near], end[near]
        found = _overlap(*ops, np.where(mine, np.int8(_OWN), np.int8(_OTHER)))
        if len(mine) == len(kind):
            yield found
            continue
        # What a stage covers alone is missing from the union of the others, and all of that lies near it.
        around = _all_beside_all(*ops)
        other = {name: ns - around.other[name] + found.other[name] for name, ns in whole.other.items()}
        yield replace(found, other=other)


def _all_beside_all(kind: Ints, start: Ints, end: Ints) -> Overlap:
    return _overlap(kind, start, end, np.full(len(kind), _OWN | _OTHER, np.int8))


_OWN, _OTHER = 1, 2


def _overlap(kind: Ints, start: Ints, end: Ints, side: npt.NDArray[np.int8]) -> Overlap:
    """What the ops with bit `_OWN` of `side` and those with bit `_OTHER` have in common."""
    own_of, other_of = (_GROUPS_OF & np.int32(sum(1 << _NUMBER[name] for name in names)) for names in (_MOVES, _BESIDE))
    first, second = (np.array([_NUMBER[pair[i]] for pair in PAIRS], np.int32) for i in range(2))
    numbers = (_NUMBER[name] for name in ("copy", "compute", "comm"))
    own, other, both, exposed = _overlaps(
        kind, start, end, side, own_of, other_of, len(GROUPS), first, second, *numbers
    )
    shared = dict(zip(PAIRS, both.tolist(), strict=True))
    return Overlap(
        own={name: int(own[_NUMBER[name]]) for name in _MOVES},
        other={name: int(other[_NUMBER[name]]) for name in _BESIDE},
        both=shared,
        exposed={"copy": int(exposed), "comm": int(own[_NUMBER["comm"]]) - shared["comm", "compute"]},
    )


@primitive
def _overlaps(
    kind: Ints, start: Ints, end: Ints, side: Ints, own_of: Ints, other_of: Ints, groups: int, pair_a: Ints, pair_b: Ints,
    copy: int, compute: int, comm: int,
) -> tuple[Ints, Ints, Ints, int]:  # fmt: skip
    """The lengths of the own ops' groups, of the others' groups, of what each pair has in common, and of the own `copy` outside
    of the others' `compute` and `comm`.

    Bit g of ``own_of[kind]`` and of ``other_of[kind]`` says that the kind belongs to group g there.
    """

    def covers(bit: int, of: Ints) -> list[Cover]:
        member = np.where(side & bit, of[kind], 0)
        rows = [np.flatnonzero(member & 1 << g) for g in range(groups)]
        return [cover(start[r], end[r]) for r in rows]

    own, other = covers(_OWN, own_of), covers(_OTHER, other_of)
    uncovered = minus(own[copy], other[compute])
    return (
        np.array([c.total for c in own]),
        np.array([c.total for c in other]),
        np.array([common(own[a], other[b]) for a, b in zip(pair_a, pair_b, strict=True)]),
        uncovered.total - common(uncovered, other[comm]),
    )


def group_covers(kind: Ints, start: Ints, end: Ints) -> dict[str, Cover]:
    """The union of each of `GROUPS`, from ops sorted by start (`kind` = positions in `KINDS`)."""
    groups = _GROUPS_OF[kind]
    rows = {name: np.flatnonzero(groups & 1 << number) for name, number in _NUMBER.items()}
    return {name: cover(start[r], end[r]) for name, r in rows.items()}


def _pairs(found: Overlap) -> Iterator[Row]:
    """Each of `PAIRS` with its lengths and ratios; these are null where there is nothing to divide by."""
    for a, b in PAIRS:
        a_ns, b_ns, both = found.own[a], found.other[b], found.both[a, b]
        ideal = min(a_ns, b_ns)
        ratios = {"hidden": both / a_ns if a_ns else None, "efficiency": both / ideal if ideal else None}
        yield {"a": a, "b": b, "a_ns": a_ns, "b_ns": b_ns, "both_ns": both, **ratios}
