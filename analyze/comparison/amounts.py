"""How much work each kind did in its window, and how long that took: what rates are made of.

Table ``work`` (`accounts.work`) under the keys by which stages of two recordings are matched. Whole graph launches stand beside
the kernels they replace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..result import Analysis
from .matching import stage_key
from .sides import COMPUTE, GRAPH

Operation = tuple[int, str, str, str]
"""(device position, stage key, kind with graphs counted as compute, name; ``""`` where the kind alone says what is done)."""


@dataclass(frozen=True, slots=True)
class Amount:
    """`ops` operations that took `ns` in sum; `nbytes` is null where one of them did not say."""

    ops: int
    ns: int
    nbytes: int | None = None

    def __add__(self, other: Amount) -> Amount:
        nbytes = None if self.nbytes is None or other.nbytes is None else self.nbytes + other.nbytes
        return Amount(self.ops + other.ops, self.ns + other.ns, nbytes)


Amounts = Mapping[Operation, Amount]


def amounts(analysis: Analysis, *, root: str = "", exact: bool = False) -> Amounts:
    """What was done in the window of `analysis`; `root` and `exact` are those of `sides.account`."""
    position = {device: i for i, device in enumerate(analysis.windows["device"].to_list())}
    key_of = {path: stage_key(path, root, exact=exact) for path in analysis.work["stage"].unique().to_list()}
    out: dict[Operation, Amount] = {}
    for device, stage, kind, name, ops, ns, nbytes in analysis.work.iter_rows():
        key = (position[device], key_of[stage], COMPUTE if kind == GRAPH else kind, name)
        amount = Amount(ops, ns, nbytes)
        out[key] = out[key] + amount if key in out else amount
    return out
