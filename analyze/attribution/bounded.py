"""The costliest stages by name, and the others together: what keeps an answer readable, and its cost bounded, where a program
names its ranges one by one (`request 1`, `request 2` ...).

A path costs what its ranges took on the host plus what they launched, both with all that nests in them. Beyond the `most`
costliest, a stage is folded into what it nests in, as `--depth` folds; one that nests in nothing becomes `OTHERS`. So every sum
stays what it was, and no attribution changes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ...traces.model import distinct_values, text_column
from ..intervals import Ints
from .selection import Selected, levels, rebuilt, selected
from .stages import Stages
from .steps import NOTHING

OTHERS: Final = "(other stages)"
"""The path of all top-level stages that are not among the costliest."""


def bounded(stages: Stages, launched_by: Ints, length: Ints, most: int) -> tuple[Stages, int]:
    """`stages` with `most` paths and `OTHERS`, themselves where they have no more; and how many paths were folded.

    `launched_by` is the stage code of each op (of `stages`; of all of the domain's, where these were selected), `length` its ns.
    """
    if len(stages.paths) <= most:
        return stages, 0
    cost = np.bincount(stages.path_id, weights=_inclusive(stages, launched_by, length), minlength=len(stages.paths))
    shown = np.zeros(len(stages.paths), bool)
    shown[np.argsort(-cost, kind="stable")[:most]] = True  # of equals the outer one, whose path id is lower
    keep = shown[stages.path_id] | stages.is_measured
    renamed = ~keep & (levels(stages) == 1)
    kept = np.flatnonzero(keep | renamed)
    position = np.full(len(stages), NOTHING, np.int64)
    position[kept] = np.arange(len(kept))
    target: Ints = position.copy()
    for level in stages.levels[1:]:  # outermost first, so that every parent has its target already
        deep = level[position[level] == NOTHING]
        target[deep] = target[stages.parent[deep]]
    above = stages.parent[kept]
    words = list(dict.fromkeys([*distinct_values(stages.names), OTHERS]))
    names = np.where(renamed, words.index(OTHERS), stages.names.to_physical().to_numpy())[kept]
    fewer = rebuilt(stages, kept, np.where(above >= 0, target[above], NOTHING), text_column("name", names, words))
    if isinstance(stages, Selected):
        target = _through(stages.target, target)
        return selected(stages.whole, stages.source[kept], fewer, stages.unfolded, target), len(stages.paths) - most
    return selected(stages, kept, fewer, stages, target), len(stages.paths) - most


def _inclusive(stages: Stages, launched_by: Ints, length: Ints) -> npt.NDArray[np.float64]:
    """ns of each stage on the host and of what it launched, both with its nested stages. Floats: only the order counts."""
    whole = stages.whole if isinstance(stages, Selected) else stages
    inside = launched_by >= 0
    launched = np.bincount(launched_by[inside], weights=length[inside], minlength=len(whole)).astype(np.float64)
    for level in reversed(whole.levels[1:]):
        np.add.at(launched, whole.parent[level], launched[level])
    total: npt.NDArray[np.float64] = launched + (whole.end_ns - whole.start_ns)
    return total[stages.source] if isinstance(stages, Selected) else total


def _through(first: Ints, then: Ints) -> Ints:
    """`then` of `first`, where `NOTHING` stays `NOTHING`."""
    return np.where(first == NOTHING, NOTHING, then[np.maximum(first, 0)])
