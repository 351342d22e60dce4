"""One side of a comparison: an analysis as windows and cells under the keys by which stages of two recordings are matched.

Whole graph launches count as ``compute``, so that a stage that replays a graph is held against the kernels it replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..attribution.window import STEADY
from ..result import Analysis
from .matching import stage_key

GRAPH: Final = "graph"
COMPUTE: Final = "compute"

Key = tuple[int | None, str, str, str | None]
"""(device position, stage key, category, cause)."""


@dataclass(frozen=True)
class Account:
    """One side of a comparison: its windows and cells, ready to be matched.

    `windows` holds (device, ns) in order of the devices. `cells` maps (device position, stage key, category, cause) to ns;
    `per_iteration` maps the same keys to the ns of each whole iteration. `iterations` is null where the window cuts one or
    none is marked. `keys` are the stage keys by relative path. `host`: no device was recorded. `steady`: the windows are the
    steady iterations.
    """

    name: str
    windows: tuple[tuple[int, int], ...]
    cells: Mapping[Key, int]
    per_iteration: Mapping[Key, Sequence[int]]
    iterations: int | None
    keys: Mapping[str, str]
    host: bool = False
    steady: bool = False


def account(analysis: Analysis, name: str, *, root: str = "", exact: bool = False) -> Account:
    """`analysis` as one side called `name`; `root` is the path of its window's range, `exact` keeps digits in stage names."""
    windows = tuple((d, end - start) for d, start, end in analysis.windows.iter_rows())
    position = {device: i for i, (device, _) in enumerate(windows)}
    paths = {*analysis.ledger["stage"].unique().to_list(), *analysis.stages["path"].to_list()}
    key_of = {path: stage_key(path, root, exact=exact) for path in paths}
    numbers = whole_iterations(analysis)
    place = {number: i for i, number in enumerate(numbers)}
    cells: dict[Key, int] = {}
    rows: dict[Key, list[int]] = {}
    table = analysis.ledger.select("device", "stage", "category", "cause", "iteration", "ns")
    for device, stage, category, cause, iteration, ns in table.iter_rows():
        key = (position[device], key_of[stage], COMPUTE if category == GRAPH else category, cause)
        cells[key] = cells.get(key, 0) + ns
        if iteration in place:
            rows.setdefault(key, [0] * len(numbers))[place[iteration]] += ns
    return Account(
        name=name,
        windows=windows,
        cells=cells,
        per_iteration=rows,
        iterations=len(numbers) or None,
        keys={stage_key(path, root, exact=True): key for path, key in key_of.items()},
        host=analysis.host_only,
        steady=analysis.choices.window == STEADY,
    )


def whole_iterations(analysis: Analysis) -> list[int]:
    """The numbers of the iterations in the window; empty where none is marked, and where the window cuts one of them.

    An iteration that is cut is less than one unit of work, so nothing can be said per iteration then.
    """
    table, windows = analysis.iterations, analysis.windows
    if table.is_empty() or windows.is_empty():
        return []
    low, high = table["start_ns"].min(), table["end_ns"].max()
    # Ranks of one trace have windows of their own; iterations are listed of the first of them.
    cut = (windows["start_ns"].min() > low) or (windows["end_ns"].max() < high)  # type: ignore[operator]
    return [] if cut else table["iteration"].unique().sort().to_list()
