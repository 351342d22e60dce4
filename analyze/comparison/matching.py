"""Which stages of two recordings are the same stage: their paths, relative to the window and without instance numbers.

    decode/baseline/layer_3/attn   below decode/baseline   ->  layer_#/attn
    iteration/h2d                  of the main thread      ->  h2d        (a worker's is h2d anyway)
    decode/baseline, iteration, (window)                   ->  (own)

Numbers are told from words by the rule that folds siblings too (`naming.numbers`), so it makes no difference whether a side had
several of a stage or one. Kernel names never take part: fusing ten kernels into one, or replaying them as a graph, leaves the
stage what it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ..attribution.stages import ITERATION, WINDOW
from ..naming.numbers import shape
from ..naming.paths import split
from ..result import AMBIGUOUS, NONE, ORPHAN, OUTSIDE

OWN: Final = "(own)"
"""What the window's range holds outside all stages in it; ``iteration`` ranges group stages and are none."""

UNPLACED: Final = frozenset({OWN, NONE, AMBIGUOUS, ORPHAN, OUTSIDE})
"""Keys that are not stages: both sides have them, whether or not anything is in them."""


def stage_key(path: str, root: str = "", *, exact: bool = False) -> str:
    """What the stage `path` is matched by: relative to `root` (the path of the window's range; ``""`` where it has none).

    With `exact` the digits stay. The bracketed stages that are not ranges, such as ``(none)``, are their own keys.
    """
    if path in (root, WINDOW):
        return OWN
    inner = path.removeprefix(f"{root}/") if root else path
    names = [name for name in split(inner) if name != ITERATION]
    if not names:
        return OWN
    return "/".join(names if exact else map(shape, names))


def labels(keys_by_path: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What each key is shown as, given every side's keys by (relative) path without numbers removed.

    A key that only one name ever had keeps that name, digits and all: nothing was summed.
    """
    found: dict[str, set[str]] = {}
    for side in keys_by_path:
        for plain, key in side.items():
            found.setdefault(key, set()).add(plain)
    return {key: min(names) if len(names) == 1 else key for key, names in found.items()}
