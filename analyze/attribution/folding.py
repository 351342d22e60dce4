"""Siblings whose names differ in numbers alone are one stage: `step 0` to `step 39` are `step #` with 40 instances.

    step 0                     step #                  siblings: ranges whose folded parents are the same, on whatever
      layer.0  layer.1           layer.#               thread, as ranges of one path are one stage on every thread
    step 1                     eval 3                  a name that no sibling shares but for its numbers stays as it is
      layer.0  layer.1
    eval 3

Which digits are numbers is the rule of `naming.numbers`. Folding renames ranges and nothing else: which ranges there are, how
they nest and whose an operation is stay the same, so every folded sum is the sum of what it folds.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from ...traces.errors import UsageError
from ...traces.model import distinct_values, text_column
from ..intervals import Ints
from ..naming.numbers import NUMBER, shapes
from .stages import MEASURED, WINDOW, Stages, levels_of
from .steps import NOTHING


def folded(stages: Stages) -> Stages:
    """`stages` with numbered siblings under one name; themselves where no two names are alike. Found once for each `stages`."""
    known: Stages | None = stages.__dict__.get("_under_one_name")
    if known is None:
        known = stages.__dict__["_under_one_name"] = _folded(stages)
    return known


def name_shapes(stages: Stages) -> tuple[Ints, list[str]]:
    """`shapes` of the distinct names of `stages`, found once for each."""
    known: tuple[Ints, list[str]] | None = stages.__dict__.get("_name_shapes")
    if known is None:
        known = stages.__dict__["_name_shapes"] = shapes(distinct_values(stages.names))
    return known


def expression(pattern: str, option: str) -> re.Pattern[str]:
    """The regular expression given to `option`; raises `UsageError` if it is none."""
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as exc:
        raise UsageError(
            f"{option} {pattern!r} is not a regular expression: {exc}; escape special characters with \\"
        ) from exc


def names_matching(stages: Stages, pattern: str, option: str) -> npt.NDArray[np.bool_]:
    """Which ranges' names hold a match of `pattern`, or, if none does, which as they are folded; each distinct name is looked
    at once. Raises `UsageError` as `expression` does."""
    regex = expression(pattern, option)
    words = distinct_values(stages.names)
    code = stages.names.to_physical().to_numpy()
    verdict = np.fromiter((regex.search(word) is not None for word in words), bool, len(words))
    if not verdict[code].any():
        which, known = name_shapes(stages)
        verdict = np.array([regex.search(one) is not None for one in known], bool)[which]
    return np.asarray(verdict[code])


def _folded(stages: Stages) -> Stages:
    words = distinct_values(stages.names)
    if len(stages) == 0 or not words:
        return stages
    name = stages.names.to_physical().to_numpy().astype(np.int64)
    of_name, known = name_shapes(stages)
    if len(known) == len(words):
        return stages
    group, shape_of = _siblings(of_name[name], stages.parent, stages.is_measured)
    pairs = np.unique(group * len(words) + name)  # every name that a group of siblings has, once
    joined = np.bincount(pairs // len(words), minlength=len(shape_of)) > 1
    if not joined.any():
        return stages
    used, codes = np.unique(np.where(joined[group], len(words) + shape_of[group], name), return_inverse=True)
    called = [words[i] if i < len(words) else known[i - len(words)] for i in used.tolist()]
    labels = list(dict.fromkeys(called))  # a shape may be a recorded name elsewhere
    place = {label: i for i, label in enumerate(labels)}
    return stages.renamed(text_column("name", np.array([place[label] for label in called])[codes], labels))


def _siblings(shape: Ints, parent: Ints, measured: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """(the group of each range: those with one shape whose parents are of one group; the shape of each group).

    ``measured`` ranges are left out of paths, so what they hold has the parent that they have.
    """
    top = -1
    group = np.full(len(shape), top, np.int64)  # of a measured range: the group that its children's parent is
    shape_of: list[int] = []
    known: dict[tuple[int, int], int] = {}
    width = int(shape.max(initial=0)) + 1
    for level in levels_of(parent):
        above = np.where(parent[level] >= 0, group[parent[level]], top)
        pairs, which = np.unique((above + 1) * width + shape[level], return_inverse=True)
        found = np.empty(len(pairs), np.int64)
        for i, pair in enumerate(pairs.tolist()):
            key = (pair // width - 1, pair % width)
            if key not in known:
                known[key] = len(shape_of)
                shape_of.append(key[1])
            found[i] = known[key]
        group[level] = np.where(measured[level], above, found[which])
    own = np.where(measured, len(shape_of), group)  # no sibling of anything
    return own, np.array([*shape_of, NOTHING], np.int64)


def ranges_called(found: Stages, text: str) -> tuple[Ints, str, int | None]:
    """(positions of the ranges that `text` names, what it calls them, which of them it asks for); empty if there is none.

    A path, else a name; ``step#5`` asks for one of several, counted from 0. Recorded names go before folded ones, whose last
    `NUMBER` may be left out in front of such a count: of ranges `step 0`, `step 1` ... ``step #`` are all, ``step#5`` is the
    sixth in order of start.
    """
    match = re.fullmatch(r"(.+)#(\d+)", text, flags=re.DOTALL)
    readings: list[tuple[str, int | None]] = [(text, None)]
    if match is not None:
        readings.append((match[1], int(match[2])))
    for wanted, number in readings:
        rows = _rows(found, wanted, exact=True)
        if len(rows):
            return rows, wanted, number
    short = folded(found)
    for wanted, number in readings if short is not found else ():
        rows = _rows(short, wanted, exact=number is None)
        if len(rows):
            return rows, wanted, number
    return np.empty(0, np.int64), readings[-1][0], readings[-1][1]


def without_last_number(text: str) -> str:
    """`text` without the `NUMBER` at its end and what sets that off: ``step #`` -> ``step``."""
    return re.sub(rf"[\s_.:=-]*{NUMBER}?$", "", text)


def _rows(stages: Stages, wanted: str, *, exact: bool) -> Ints:
    """Positions of the stages with the path `wanted`, else of those with that name; not `exact`: but for a last `NUMBER`."""

    def said(text: str) -> str:
        return text if exact else without_last_number(text)

    path = WINDOW if wanted == MEASURED else said(wanted)
    ids = [i for i, p in enumerate(stages.paths) if said(p) == path]
    rows = np.flatnonzero(np.isin(stages.path_id, ids))
    if len(rows) == 0:
        words = distinct_values(stages.names)
        codes = [i for i, word in enumerate(words) if said(word) == said(wanted)]
        rows = np.flatnonzero(np.isin(stages.names.to_physical().to_numpy(), codes))
    return rows.astype(np.int64)
