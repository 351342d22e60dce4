"""What ran at the same time as what.

For kinds a and b with unions U_a and U_b: ``both = |U_a and U_b|``, ``hidden = both / |U_a|``, ``efficiency = both /
min(|U_a|, |U_b|)``. Where there is no a there is nothing to hide, and the answer is null, neither 0 nor 1.

``compute`` includes graph launches, ``copy`` is every copy kind. Exposed copies are under neither compute nor comm, exposed
comm is not under compute: the time they cost. Unlike ledger cells, unions of different kinds may share instants.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from ..traces.model import COPY_KINDS, KINDS
from .acceleration import accelerated
from .intervals import Cover, Ints, common, cover, minus

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


def group_covers(kind: Ints, start: Ints, end: Ints) -> dict[str, Cover]:
    """The union of each of `GROUPS`, from ops sorted by start (`kind` = positions in `KINDS`)."""
    out = {}
    groups = _GROUPS_OF[kind]
    for g, name in enumerate(GROUPS):
        rows = np.flatnonzero(groups & 1 << g)
        out[name] = cover(start[rows], end[rows])
    return out


def pair_rows(device: int, stage: str | None, own: Mapping[str, Cover], other: Mapping[str, Cover]) -> list[Row]:
    """One row of table ``overlap`` a pair, `own` giving a and `other` giving b. Pairs without any a are left out
    for stages, and have null ratios for a device."""
    rows: list[Row] = []
    for a, b in PAIRS:
        a_ns, b_ns = own[a].total, other[b].total
        if stage is not None and a_ns == 0:
            continue
        both = common(own[a], other[b])
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


def exposed_rows(device: int, stage: str | None, own: Mapping[str, Cover], other: Mapping[str, Cover]) -> list[Row]:
    """Rows of table ``exposed``: copies under neither compute nor comm, and comm not under compute."""
    uncovered = minus(own["copy"], other["compute"])
    copy = uncovered.total - common(uncovered, other["comm"])
    comm = own["comm"].total - common(own["comm"], other["compute"])
    return [{"device": device, "stage": stage, "kind": k, "ns": ns} for k, ns in (("copy", copy), ("comm", comm))]


def stage_covers(
    kind: Ints, start: Ints, end: Ints, mine: npt.NDArray[np.bool_], whole: Mapping[str, Cover]
) -> tuple[dict[str, Cover], dict[str, Cover]]:
    """(unions of the ops `mine`, unions of all other ops) of one device. `whole` are the unions of all, used where a group has
    no member among `mine`."""
    fast = accelerated(len(kind))
    if fast is not None:
        narrow = kind.astype(np.int8, copy=False)
        s, e, first = fast.split_covers(narrow, start, end, mine, _GROUPS_OF, len(GROUPS))
        made = [Cover(s[a:b], e[a:b]) for a, b in pairwise(first.tolist())]
        return dict(zip(GROUPS, made, strict=False)), dict(zip(GROUPS, made[len(GROUPS) :], strict=True))
    own = group_covers(kind[mine], start[mine], end[mine])
    rest = ~mine
    other = {
        name: whole[name] if own[name].total == 0 else group_covers(kind[rest], start[rest], end[rest])[name]
        for name in GROUPS
    }
    return own, other
