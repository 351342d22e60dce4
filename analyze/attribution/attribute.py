"""A trace with its ops attributed: the stage, iteration and launch of each, and the windows that are accounted for.

ranges -> found stages -> window        calls -> launches -> stage and iteration of each op
             \\-> selected stages -------------------^         \\-> ops in the windows, cut to them
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.columns import series
from ...traces.errors import UsageError
from ...traces.model import Trace
from ..intervals import Ints
from ..steady import Steady
from .bounded import bounded
from .captured import Captured, find_captured
from .catching_up import caught_up
from .host_state import HostStates
from .launches import Calls, Launches, find_launches
from .selection import Selected, Selection, below, chosen_stages
from .stages import ITERATION, OUTSIDE_STAGE, Stages, Thread, find_stages, outside
from .steady import Seeking, find_steady, launching, numbered, steady_pattern
from .steps import EMPTY, NOTHING, Steps, innermost, only_where
from .window import STEADY, Span, Window, WindowSpec, extent, resolve, spans_of
from .window_ops import WindowOps, window_ops

SEEKING: Final = Seeking()
"""Iterations are looked for by the rules, and are not a window unless asked for."""


@dataclass(frozen=True)
class Attributed:
    """What the tables of an analysis are computed from.

    `found` are all ranges of the domain: they settle the window, what lies outside it (`inside`: which of them belong to a
    window that is a range), and the iterations. `stages` are those that were selected; `shown` (positions) are the ones to
    list, `limits` start and end of the time to list, `recorded` those of all events. `across`: whether the cross-thread rule
    holds; `folded`: how many paths were folded as less costly; `steady`: the iterations that were found, and `is_steady`
    whether the steady ones are the window. Names in
    `found` are as recorded, in `stages` they may be folded (`folding.folded`).
    """

    trace: Trace
    found: Stages
    stages: Stages
    calls: Calls
    launches: Launches
    ops: pl.DataFrame  # all of the trace, with a column `stage` of codes
    iteration: Ints  # of each op, or `NOTHING`
    host_devices: frozenset[int]
    window: Window
    inside: npt.NDArray[np.bool_] | None
    spans: Sequence[Span]
    in_window: WindowOps
    recorded: tuple[int, int]
    limits: tuple[int, int]
    shown: npt.NDArray[np.intp]
    captured: Captured | None
    replaying: Ints  # of each op, the stage of its launch, which `ops` has too unless it was captured in another
    across: bool
    folded: int
    steady: Steady | None
    is_steady: bool
    iteration_on: Callable[[Thread], Steps]  # which iteration is open on a thread, as a function of time

    @property
    def cut_at(self) -> tuple[int, int] | None:
        """Where ranges are cut: at the ends of a window that is not a range, or is one of which only the iterations count."""
        return self.limits if self.window.trimmed else self.window.instants

    def host_states(self) -> HostStates:
        """What each thread was doing; large once asked, so every caller makes its own."""
        if isinstance(self.stages, Selected):
            stages = self.stages.for_window(self.inside)
            return HostStates(self.trace, self.calls, stages, self.iteration_on, across=self.across, inside=None)
        return HostStates(
            self.trace, self.calls, self.stages, self.iteration_on, across=self.across, inside=self.inside
        )


def attribute(
    trace: Trace,
    *,
    window: WindowSpec = None,
    across: bool = True,
    domain: str | None = None,
    selection: Selection | None = None,
    fold: bool = True,
    most: int | None = None,
    seeking: Seeking = SEEKING,
) -> Attributed:
    """`trace` with its ops attributed; the choices are those of `analyze.analyze`, `most` its `most_stages`.

    Raises `UsageError` for an unknown domain or range, and for a selection that leaves nothing.
    """
    recorded = extent(trace)
    host_devices = frozenset(trace.devices.filter(pl.col("type") == "host")["device"].to_list())
    found = find_stages(trace, domain=domain, end_ns=recorded[1])
    calls = Calls.of(trace)
    launches = find_launches(trace, calls, found, host_devices, across=across)
    steady, repeated = _steady(trace, found, launches, seeking)
    steady = _with_its_work(steady, found, trace, launches.stage, host_devices)
    is_steady = window == STEADY or (
        window is None and seeking.as_window and _holds_its_ops(steady, found, trace.ops, launches.stage)
    )
    settled = _settled(window, found, steady)
    if is_steady:
        if steady is None:
            raise UsageError(
                f"{trace.meta.file} has no ranges or kernels that repeat as iterations; --iterations REGEX says which are, "
                "--window all takes everything"
            )
        settled = Window(instants=steady.window)
    inside = None if settled.roots is None else below(found, settled.roots)
    stages, folded = chosen_stages(found, trace, selection, fold=fold), 0
    captured = find_captured(trace, found, launches.stage, across=across)
    if most is not None:
        length = (trace.ops["end_ns"] - trace.ops["start_ns"]).to_numpy()
        charged = launches.stage if captured is None else captured.instead_of(launches.stage)
        stages, folded = bounded(stages, charged, length, most)
    stage = outside(launches.stage, inside)
    if is_steady and steady is not None and (steady.found_by == "option" or not found.iteration_of):
        whole = np.arange(len(steady.instances)) >= steady.warm_up
        iteration = only_where(_repeated(trace.ops, found, steady, repeated, calls, launches), whole)
        iteration_on: Callable[[Thread], Steps] = partial(_repeated_on, found, steady, repeated, whole)
    elif is_steady and steady is not None:
        wholes = _whole(found, steady.of_ranges)
        iteration = _iterations(trace.ops, found, calls, launches)
        for process, whole in wholes.items():
            mine = np.flatnonzero(trace.ops["pid"].to_numpy() == process)
            iteration[mine] = only_where(iteration[mine], whole)
        iteration_on = partial(_whole_on, found, wholes)
    else:
        iteration = _iterations(trace.ops, found, calls, launches)
        iteration_on = found.iteration_on
    spans = spans_of(settled, found, trace.ops, stage)
    if isinstance(stages, Selected):
        excluded = stage == OUTSIDE_STAGE
        launches = find_launches(trace, calls, stages, host_devices, across=across)
        stage = np.where(excluded, launches.stage.dtype.type(OUTSIDE_STAGE), launches.stage)
        captured = captured and find_captured(trace, stages, launches.stage, across=across)
    replaying = stage
    stage = stage if captured is None else captured.instead_of(stage)
    ops = trace.ops.with_columns(series("stage", stage))
    limits = settled.instants or (
        min((span.start_ns for span in spans), default=recorded[0]),
        max((span.end_ns for span in spans), default=recorded[1]),
    )
    in_window = window_ops(ops, spans, stages, iteration, cut=not settled.whole)
    return Attributed(
        trace=trace,
        found=found,
        stages=stages,
        calls=calls,
        launches=launches,
        ops=ops,
        iteration=iteration,
        host_devices=host_devices,
        window=settled,
        inside=inside,
        spans=spans,
        in_window=in_window,
        recorded=recorded,
        limits=limits,
        shown=_shown(stages, settled, inside, in_window, limits),
        captured=captured,
        replaying=replaying,
        across=across,
        folded=folded,
        steady=steady,
        is_steady=is_steady,
        iteration_on=iteration_on,
    )


def _settled(window: WindowSpec, found: Stages, steady: Steady | None) -> Window:
    """The window as given: a range first, else an iteration by its number."""
    if window == STEADY:
        return Window()
    if not (isinstance(window, str) and found.iteration_of) and (instants := numbered(window, steady)) is not None:
        return Window(instants=instants)
    return resolve(window, found)


def _steady(
    trace: Trace, found: Stages, launches: Launches, seeking: Seeking
) -> tuple[Steady | None, tuple[Ints, ...]]:
    """The iterations, and the ranges of each thread that runs them; none where kernels alone tell them."""
    still_open = trace.ranges.filter(pl.col("end_ns").is_null())["range_id"].to_numpy()
    first, last = trace.ops["start_ns"].min(), trace.ops["end_ns"].max()
    ops = (first, last) if isinstance(first, int) and isinstance(last, int) else None
    closed = ~np.isin(found.range_id, still_open)
    sequences = find_steady(found, launching(found, launches.stage), closed, ops, seeking)
    if sequences is not None:
        return sequences.steady, sequences.ranges
    return steady_pattern(trace.ops, ops, seeking), ()


def _with_its_work(
    steady: Steady | None, found: Stages, trace: Trace, stage: Ints, host_devices: frozenset[int]
) -> Steady | None:
    """`steady`, whose window ends when the devices have done the work of its iterations."""
    if steady is None or steady.found_by == "kernels":
        return steady
    on_device = ~trace.ops["device"].is_in(sorted(host_devices)).to_numpy()
    times = trace.ops.select("start_ns", "end_ns").filter(on_device)
    end = caught_up(times, _launched_in(steady.window, found, stage[on_device]), steady.window)
    return replace(steady, window=(steady.window[0], end), behind_ns=end - steady.window[1])


def _launched_in(window: tuple[int, int], found: Stages, stage: Ints) -> Ints:
    """The rows of the ops, each of this `stage`, whose range began in the `window`."""
    known = np.flatnonzero(stage >= 0)
    begun = found.start_ns[stage[known]]
    return known[(begun >= window[0]) & (begun < window[1])]


def _holds_its_ops(steady: Steady | None, found: Stages, ops: pl.DataFrame, stage: Ints) -> bool:
    """Whether at least half of the work that was launched in the steady window runs in it. Where the host runs far ahead of the
    device, the ranges' own times say little of the device's."""
    if steady is None or steady.found_by == "kernels":
        return steady is not None
    low, high = steady.window
    mine = _launched_in(steady.window, found, stage)
    start, end = ops["start_ns"].to_numpy()[mine], ops["end_ns"].to_numpy()[mine]
    inside = np.maximum(np.minimum(end, high) - np.maximum(start, low), 0).sum()
    return bool(inside > 0 and 2 * inside >= (end - start).sum())


def _iterations(ops: pl.DataFrame, found: Stages, calls: Calls, launches: Launches) -> Ints:
    """The iteration each op belongs to: the one open when it was launched on its launching thread, else in its process."""
    out = np.full(len(ops), NOTHING, np.int32)
    pid = ops["pid"].to_numpy()
    for process, steps in found.iteration_of.items():
        rows = np.flatnonzero(pid == process)
        out[rows] = steps(launches.at_ns(rows, ops, calls))
    for thread, steps in found.iterations_by_thread.items():
        if thread in launches.threads:
            rows = np.flatnonzero(launches.thread == launches.threads.index(thread))
            own = steps(launches.at_ns(rows, ops, calls))
            out[rows[own >= 0]] = own[own >= 0]
    return out


def _repeated(
    ops: pl.DataFrame, found: Stages, steady: Steady, ranges: tuple[Ints, ...], calls: Calls, launches: Launches
) -> Ints:
    """The iteration each op belongs to where none is called so: the one open in its process when it was launched, or, told by
    kernels, when it began."""
    if not ranges:
        return _instances(steady)(ops["start_ns"].to_numpy()).astype(np.int32)
    out = np.full(len(ops), NOTHING, np.int32)
    pid = ops["pid"].to_numpy()
    for one in reversed(ranges):  # of threads of one process the chosen one comes last, and holds
        rows = np.flatnonzero(pid == found.pid[one[0]])
        out[rows] = innermost(found.start_ns[one], found.end_ns[one])(launches.at_ns(rows, ops, calls))
    return out


def _repeated_on(
    found: Stages, steady: Steady, ranges: tuple[Ints, ...], whole: npt.NDArray[np.bool_], thread: Thread
) -> Steps:
    """As `_repeated`, what is open on a thread: the iterations of its process, or those that kernels tell; those that are `whole`
    by their numbers."""
    if not ranges:
        steps = _instances(steady)
    else:
        mine = [one for one in ranges if found.pid[one[0]] == thread[0]]  # as above, the first one holds
        steps = innermost(found.start_ns[mine[0]], found.end_ns[mine[0]]) if mine else EMPTY
    return Steps(steps.at, only_where(steps.value, whole))


def _whole(found: Stages, window: tuple[int, int]) -> dict[int, npt.NDArray[np.bool_]]:
    """Per process, which of its iterations lie wholly in the steady `window`, by their numbers. The others are warm-up, whose
    work may run on into the window."""
    rows = found.named(ITERATION)
    inside = (found.start_ns[rows] >= window[0]) & (found.end_ns[rows] <= window[1])
    return {pid: inside[found.pid[rows] == pid] for pid in found.iteration_of}


def _whole_on(found: Stages, wholes: Mapping[int, npt.NDArray[np.bool_]], thread: Thread) -> Steps:
    """The number of the whole iteration that is open on a thread."""
    steps = found.iteration_on(thread)
    return Steps(steps.at, only_where(steps.value, wholes[thread[0]])) if thread[0] in wholes else steps


def _instances(steady: Steady) -> Steps:
    start, end = (np.array([getattr(one, at) for one in steady.instances], np.int64) for at in ("start_ns", "end_ns"))
    return innermost(start, end)


def _shown(
    stages: Stages, window: Window, inside: npt.NDArray[np.bool_] | None, ops: WindowOps, limits: tuple[int, int]
) -> npt.NDArray[np.intp]:
    """The stages to list: those of the window's range, or those that touch its instants or have work in them."""
    if window.whole:
        return np.flatnonzero(~stages.is_measured)
    used = ops.table["stage"].unique().to_numpy()
    used = used[used >= 0]
    if inside is None:
        shown = (stages.start_ns < limits[1]) & (stages.end_ns > limits[0])
        while len(used):  # device work outlives its range, and all that it is nested in
            shown[used] = True
            used = np.unique(stages.parent[used])
            used = used[used >= 0]
    else:
        shown = inside[stages.source] if isinstance(stages, Selected) else inside.copy()
        if window.trimmed:  # what came before the first iteration
            shown &= stages.end_ns > limits[0]
        # Also ranges that enclose the window, if they were selected, and those that graphs were captured in.
        shown[used] = True
    return np.flatnonzero(shown & ~stages.is_measured)
