"""Host times of two recordings side by side, where a device's ledger is missing on one side or both.

    base   |iter 0   |iter 1   |iter 2   |        steady iterations: their lengths, and what of their time each stage was open
    opt    |iter 0|iter 1|iter 2|

A stage's time is how long its ranges were open, on all threads together, nested stages included: so stages do not add up to
anything, and a stage that waits for a device counts the wait. Where both sides have iterations, all times are per iteration.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from ..attribution.stages import ITERATION, MEASURED
from ..attribution.window import STEADY
from ..naming.numbers import shape
from ..naming.paths import split
from ..result import Analysis

Open = tuple[int, int]
"""(instances, ns that they were open in sum)."""


@dataclass(frozen=True, slots=True)
class HostSide:
    """One recording: the lengths of its iterations in ns, null `path` where none are found, and its stages by matched path.

    `stages` are of the whole window, `steady` of the iterations alone, relative to them. `has_device`: whether it has
    device operations.
    """

    path: str | None
    iterations: Sequence[int]
    stages: Mapping[str, Open]
    steady: Mapping[str, Open]
    has_device: bool


@dataclass(frozen=True, slots=True)
class HostStage:
    """One stage on both sides, in ns: of an iteration where these are compared, else in all. `status` is matched, added or
    removed."""

    stage: str
    status: str
    base_instances: int
    opt_instances: int
    base_ns: float
    opt_ns: float

    @property
    def difference(self) -> float:
        """Negative: the stage takes less time on the optimized side."""
        return self.opt_ns - self.base_ns

    @property
    def ratio(self) -> float | None:
        """Baseline over optimized time; null for a stage that only one side has, or that took no time."""
        return self.base_ns / self.opt_ns if self.status == "matched" and self.opt_ns else None


@dataclass(frozen=True, slots=True)
class Lengths:
    """The iterations of one side: their folded path and number, and their lengths' mean, median and extremes in ns."""

    path: str
    n: int
    mean_ns: float
    median_ns: float
    min_ns: int
    max_ns: int


@dataclass(frozen=True, slots=True)
class HostTimes:
    """Two sides by host time. `per` is ``iteration`` or ``window``; `base` and `opt` are null unless both have iterations.

    `stages` stand in order of what they changed, the most first. `devices` are whether base and opt have device operations.
    """

    per: str
    base: Lengths | None
    opt: Lengths | None
    stages: tuple[HostStage, ...]
    devices: tuple[bool, bool]

    @property
    def mean_ratio(self) -> float | None:
        """Baseline over optimized iteration, by their means; null without iterations."""
        return None if self.base is None or self.opt is None else _ratio(self.base.mean_ns, self.opt.mean_ns)

    @property
    def median_ratio(self) -> float | None:
        """The same by their medians."""
        return None if self.base is None or self.opt is None else _ratio(self.base.median_ns, self.opt.median_ns)


@dataclass(frozen=True, slots=True)
class Marked:
    """Iterations that ranges mark: their folded path, lengths in ns, and the instants from the first to the last."""

    path: str
    lengths: tuple[int, ...]
    window: tuple[int, int]


def iterations_of(analysis: Analysis) -> Marked | None:
    """The iterations whose lengths are host times: all of a variant's `measured` range, else the steady ones that ranges mark;
    null where there are none, and in a window of the user's own."""
    steady, window = analysis.steady, analysis.choices.window
    if window == MEASURED and not analysis.iterations.is_empty():
        table = analysis.iterations.select("start_ns", "end_ns").rows()
        hull = min(start for start, _ in table), max(end for _, end in table)
        return Marked(ITERATION, tuple(end - start for start, end in table), hull)
    if steady is None or steady.found_by == "kernels" or window not in (None, STEADY):
        return None
    return Marked(steady.path, tuple(one.ns for one in steady.steady), steady.of_ranges)


def host_side(
    marked: Marked | None, whole: pl.DataFrame, within: pl.DataFrame, *, root: str, exact: bool, has_device: bool
) -> HostSide:
    """One side from its iterations and table ``stages`` of the `whole` window and `within` the iterations.

    `root` is the path of the window's range, `exact` keeps digits in stage names.
    """
    return HostSide(
        path=None if marked is None else marked.path,
        iterations=() if marked is None else marked.lengths,
        stages=_open(whole, root, exact),
        steady=_open(within, "" if marked is None else marked.path, exact),
        has_device=has_device,
    )


def host_times(base: HostSide, opt: HostSide) -> HostTimes:
    """`base` and `opt` held against each other, per iteration where both have iterations of a length."""
    each = bool(base.iterations and opt.iterations)
    one, other = (base.steady, opt.steady) if each else (base.stages, opt.stages)
    n, m = (len(base.iterations), len(opt.iterations)) if each else (1, 1)
    stages = []
    for path in one.keys() | other.keys():
        before, after = one.get(path), other.get(path)
        status = "removed" if after is None else "added" if before is None else "matched"
        (k, ns), (j, later) = before or (0, 0), after or (0, 0)
        stages.append(HostStage(path, status, k, j, ns / n, later / m))
    stages.sort(key=lambda s: (-abs(s.difference), -s.base_ns, s.stage))
    return HostTimes(
        "iteration" if each else "window",
        _lengths(base) if each else None,
        _lengths(opt) if each else None,
        tuple(stages),
        (base.has_device, opt.has_device),
    )


def _lengths(side: HostSide) -> Lengths:
    ns = side.iterations
    return Lengths(side.path or "", len(ns), statistics.fmean(ns), statistics.median(ns), min(ns), max(ns))


def _ratio(base: float, opt: float) -> float | None:
    return base / opt if opt else None


def _open(stages: pl.DataFrame, root: str, exact: bool) -> dict[str, Open]:
    """Table ``stages`` by path, relative to `root`, which like all that it nests in is left out: of one length, it says
    nothing more. A path has a row for each device, and all of them say the same of the host."""
    above = [shape(name) for name in split(root)] if root else []
    out: dict[str, Open] = {}
    for path, n, ns in stages.unique("path").select("path", "instances", "host_ns").iter_rows():
        names = split(path)
        alike = [shape(name) for name in names]
        if alike == above[: len(alike)]:
            continue
        inside = len(above) if alike[: len(above)] == above else 0
        key = "/".join((names if exact else alike)[inside:])
        before = out.get(key, (0, 0))
        out[key] = (before[0] + n, before[1] + ns)
    return out
